// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: a block device as the backend.
 */
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/task_io_accounting_ops.h>

#include "vhost_blk.h"

/*
 * Drivers of devices with large blocks take it for granted that a vector holds
 * whole blocks, and corrupt memory if one does not (null_blk up to 6.12), so
 * there the block size counts as well.
 */
static unsigned int vhost_blk_bdev_dma_mask(struct block_device *bdev)
{
	unsigned int block = bdev_logical_block_size(bdev);
	unsigned int mask = bdev_dma_alignment(bdev);

	return block > SECTOR_SIZE ? mask | (block - 1) : mask;
}

static void vhost_blk_bdev_init(struct vhost_blk_backend *backend,
				struct file *file)
{
	struct block_device *bdev = file_bdev(file);

	backend->file = file;
	backend->bdev = bdev;
	backend->writable = file->f_mode & FMODE_WRITE;
	backend->dma_mask = vhost_blk_bdev_dma_mask(bdev);
	backend->virt_mask = queue_virt_boundary(bdev_get_queue(bdev));
	backend->block_mask = bdev_logical_block_size(bdev) - 1;
	backend->max_segs = bdev_max_segments(bdev);
}

/**
 * vhost_blk_bdev_open - make a backend of a file descriptor
 * @fd:		open on a block device, for reading at least
 *
 * Context: process.
 * Return: the backend, which holds its own reference to the file, or -EBADF
 * (not open, or not for reading), -ENOTBLK (something else than a block
 * device), -EOPNOTSUPP (a zoned block device), -ENOMEM.
 */
struct vhost_blk_backend *vhost_blk_bdev_open(int fd)
{
	struct vhost_blk_backend *backend;
	struct file *file;
	int ret = -EBADF;

	file = fget(fd);
	if (!file)
		return ERR_PTR(-EBADF);
	if (!S_ISBLK(file_inode(file)->i_mode)) {
		ret = -ENOTBLK;
		goto err_file;
	}
	if (!(file->f_mode & FMODE_READ))
		goto err_file;
	if (bdev_is_zoned(file_bdev(file))) {
		ret = -EOPNOTSUPP;
		goto err_file;
	}
	backend = kzalloc(sizeof(*backend), GFP_KERNEL_ACCOUNT);
	if (!backend) {
		ret = -ENOMEM;
		goto err_file;
	}
	vhost_blk_bdev_init(backend, file);
	return backend;

err_file:
	fput(file);
	return ERR_PTR(ret);
}

/**
 * vhost_blk_bdev_close - undo vhost_blk_bdev_open()
 * @backend:	nothing is in flight on it
 */
void vhost_blk_bdev_close(struct vhost_blk_backend *backend)
{
	fput(backend->file);
	kfree(backend);
}

/**
 * vhost_blk_bdev_check - may the request go to the device?
 * @req:	the request; @sector and @len are set
 * @write:	it writes
 *
 * Return: VIRTIO_BLK_S_OK or VIRTIO_BLK_S_IOERR.
 */
u8 vhost_blk_bdev_check(const struct vhost_blk_req *req, bool write)
{
	const struct vhost_blk_backend *backend = req->ring->backend;
	u64 capacity = bdev_nr_sectors(backend->bdev);
	u32 sectors = req->len >> SECTOR_SHIFT;

	if (write && (!backend->writable || bdev_read_only(backend->bdev)))
		return VIRTIO_BLK_S_IOERR;
	if (req->sector > capacity || sectors > capacity - req->sector)
		return VIRTIO_BLK_S_IOERR;
	if (((req->sector << SECTOR_SHIFT) | req->len) & backend->block_mask)
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

/* Does a gap between two vectors cross the device's virtual boundary? */
static bool vhost_blk_bdev_gap(const struct vhost_blk_backend *backend,
			       const struct bio_vec *prev,
			       const struct bio_vec *next)
{
	return ((prev->bv_offset + prev->bv_len) | next->bv_offset) &
		backend->virt_mask;
}

/**
 * vhost_blk_bdev_fits - can the device take the guest's pages as they are?
 * @req:	the request; @vecs is set
 *
 * The block layer splits a bio where the device's limits ask for it, but only
 * between logical blocks: inside a block no limit may be hit. A request of
 * several bios is cut between vectors, so there each must hold whole blocks.
 */
bool vhost_blk_bdev_fits(const struct vhost_blk_req *req)
{
	const struct vhost_blk_backend *backend = req->ring->backend;
	const struct bio_vec *vec = req->vecs;
	unsigned int i, segs = 0, pos = 0;

	for (i = 0; i < req->nr_vecs; i++, vec++) {
		if ((vec->bv_offset | vec->bv_len) & backend->dma_mask)
			return false;
		if (!(pos & backend->block_mask))
			segs = 0;
		else if (req->nr_vecs > BIO_MAX_VECS ||
			 vhost_blk_bdev_gap(backend, vec - 1, vec))
			return false;
		if (++segs > backend->max_segs)
			return false;
		pos += vec->bv_len;
	}
	return true;
}

static void vhost_blk_bdev_end_io(struct bio *bio)
{
	struct vhost_blk_req *req = bio->bi_private;

	if (unlikely(bio->bi_status))
		WRITE_ONCE(req->status, bio->bi_status == BLK_STS_NOTSUPP ?
			   VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR);
	if (atomic_dec_and_test(&req->pending))
		vhost_blk_req_done(req);
}

/* Make @bio cover @nr of @vecs; return the sector after it. */
static sector_t vhost_blk_bdev_fill(struct bio *bio, struct vhost_blk_req *req,
				    sector_t sector, struct bio_vec *vecs,
				    unsigned int nr, blk_opf_t opf)
{
	unsigned int i, len = 0;

	bio_init(bio, req->ring->backend->bdev, vecs, nr, opf);
	for (i = 0; i < nr; i++)
		len += vecs[i].bv_len;
	bio->bi_vcnt = nr;
	bio->bi_iter.bi_size = len;
	bio->bi_iter.bi_sector = sector;
	bio->bi_private = req;
	bio->bi_end_io = vhost_blk_bdev_end_io;
	return sector + (len >> SECTOR_SHIFT);
}

static bool vhost_blk_bdev_alloc_more(struct vhost_blk_req *req,
				      unsigned int nr)
{
	req->more = NULL;
	if (!nr)
		return true;
	req->more = kvmalloc_array(nr, sizeof(*req->more),
				   GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	return req->more;
}

static void vhost_blk_bdev_submit(struct vhost_blk_req *req, blk_opf_t opf)
{
	struct bio_vec *vecs = req->bounce ?: req->vecs;
	unsigned int left = req->bounce ? req->nr_bounce : req->nr_vecs;
	unsigned int nr_bios = DIV_ROUND_UP(left, BIO_MAX_VECS);
	sector_t sector = req->sector;
	unsigned int nr;
	struct bio *bio;

	if (!vhost_blk_bdev_alloc_more(req, nr_bios - 1)) {
		req->status = VIRTIO_BLK_S_IOERR;
		vhost_blk_req_done(req);
		return;
	}
	atomic_set(&req->pending, nr_bios);
	for (bio = &req->bio; left; vecs += nr, left -= nr) {
		nr = min(left, BIO_MAX_VECS);
		sector = vhost_blk_bdev_fill(bio, req, sector, vecs, nr, opf);
		submit_bio(bio);
		bio = &req->more[req->nr_bios++];
	}
}

/**
 * vhost_blk_bdev_release - give up the bios of a request
 * @req:	the request; its bios have ended
 *
 * Context: process, the ring's mutex held.
 */
void vhost_blk_bdev_release(struct vhost_blk_req *req)
{
	bio_uninit(&req->bio);
	while (--req->nr_bios)
		bio_uninit(&req->more[req->nr_bios - 1]);
	kvfree(req->more);
}

/*
 * A bio goes past the page cache of the block device. If somebody on the host
 * uses that, write back what is dirty before the device is read or written, as
 * direct I/O does.
 */
static void vhost_blk_bdev_sync_cache(struct vhost_blk_req *req)
{
	struct address_space *mapping = req->ring->backend->bdev->bd_mapping;
	loff_t pos = req->sector << SECTOR_SHIFT;

	if (READ_ONCE(mapping->nrpages))
		filemap_write_and_wait_range(mapping, pos, pos + req->len - 1);
}

/**
 * vhost_blk_bdev_write_done - throw away the host's cached copy of what was
 *	written
 * @req:	the request; its bios have ended
 *
 * Costs one look when nothing is cached. Follows
 * kiocb_invalidate_post_direct_write(). Context: process; may sleep.
 */
void vhost_blk_bdev_write_done(struct vhost_blk_req *req)
{
	struct address_space *mapping = req->ring->backend->bdev->bd_mapping;
	loff_t pos = req->sector << SECTOR_SHIFT;

	if (unlikely(READ_ONCE(mapping->nrpages)))
		invalidate_inode_pages2_range(mapping, pos >> PAGE_SHIFT,
					      (pos + req->len - 1) >> PAGE_SHIFT);
}

/**
 * vhost_blk_bdev_read - ->execute of VIRTIO_BLK_T_IN
 * @req:	the request, its data mapped
 *
 * Context: the ring's worker, the ring's mutex held.
 */
void vhost_blk_bdev_read(struct vhost_blk_req *req)
{
	vhost_blk_bdev_sync_cache(req);
	vhost_blk_bdev_submit(req, REQ_OP_READ);
}

/* VIRTIO 1.3, 5.2.6.2: when a write must be stable before it completes. */
static bool vhost_blk_bdev_writethrough(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;

	return !ring->writeback ||
	       (!vhost_has_feature(vq, VIRTIO_BLK_F_FLUSH) &&
		!vhost_has_feature(vq, VIRTIO_BLK_F_CONFIG_WCE));
}

/**
 * vhost_blk_bdev_write - ->execute of VIRTIO_BLK_T_OUT
 * @req:	the request, its data mapped
 *
 * Context: the ring's worker, the ring's mutex held.
 */
void vhost_blk_bdev_write(struct vhost_blk_req *req)
{
	blk_opf_t opf = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE;

	if (vhost_blk_bdev_writethrough(req->ring))
		opf |= REQ_FUA;
	/* As direct I/O does; submit_bio() accounts reads alone. */
	task_io_account_write(req->len);
	vhost_blk_bdev_sync_cache(req);
	vhost_blk_bdev_submit(req, opf);
}

/**
 * vhost_blk_bdev_flush - ->execute of VIRTIO_BLK_T_FLUSH
 * @req:	the request
 *
 * Context: the ring's worker, the ring's mutex held.
 */
void vhost_blk_bdev_flush(struct vhost_blk_req *req)
{
	if (!req->ring->backend->writable) {
		vhost_blk_req_done(req);
		return;
	}
	req->more = NULL;
	req->nr_bios = 1;
	atomic_set(&req->pending, 1);
	vhost_blk_bdev_fill(&req->bio, req, 0, NULL, 0,
			    REQ_OP_WRITE | REQ_SYNC | REQ_PREFLUSH);
	submit_bio(&req->bio);
}

static u32 vhost_blk_bdev_limit_flags(const struct vhost_blk_backend *backend)
{
	struct block_device *bdev = backend->bdev;
	u32 flags = 0;

	if (!backend->writable || bdev_read_only(bdev))
		flags |= VHOST_BLK_LIMIT_READ_ONLY;
	if (bdev_write_cache(bdev))
		flags |= VHOST_BLK_LIMIT_WRITE_CACHE;
	if (bdev_fua(bdev))
		flags |= VHOST_BLK_LIMIT_FUA;
	if (bdev_rot(bdev))
		flags |= VHOST_BLK_LIMIT_ROTATIONAL;
	if (bdev_get_queue(bdev)->limits.features & BLK_FEAT_POLL)
		flags |= VHOST_BLK_LIMIT_POLL;
	return flags;
}

/**
 * vhost_blk_bdev_limits - VHOST_BLK_GET_LIMITS
 * @argp:	struct vhost_blk_limits
 *
 * Context: process; no owner is needed.
 * Return: 0, -EFAULT, -EINVAL, or as vhost_blk_bdev_open().
 */
long vhost_blk_bdev_limits(void __user *argp)
{
	struct vhost_blk_backend *backend;
	struct vhost_blk_limits limits;
	struct queue_limits *lim;

	if (copy_from_user(&limits, argp, sizeof(limits)))
		return -EFAULT;
	if (memchr_inv(limits.reserved, 0, sizeof(limits.reserved)))
		return -EINVAL;
	backend = vhost_blk_bdev_open(limits.fd);
	if (IS_ERR(backend))
		return PTR_ERR(backend);

	lim = &bdev_get_queue(backend->bdev)->limits;
	limits.flags = vhost_blk_bdev_limit_flags(backend);
	limits.capacity = bdev_nr_sectors(backend->bdev);
	limits.logical_block = lim->logical_block_size;
	limits.physical_block = lim->physical_block_size;
	limits.io_min = lim->io_min;
	limits.io_opt = lim->io_opt;
	limits.dma_alignment = backend->dma_mask;
	limits.max_segments = backend->max_segs;
	limits.max_segment_size = lim->max_segment_size;
	limits.max_sectors = lim->max_sectors;
	limits.alignment_offset = max(bdev_alignment_offset(backend->bdev), 0);
	vhost_blk_bdev_close(backend);
	return copy_to_user(argp, &limits, sizeof(limits)) ? -EFAULT : 0;
}
