// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: a block device as the backend.
 */
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/pagemap.h>
#include <linux/mm.h>
#include <linux/task_io_accounting_ops.h>

#include "vhost_blk.h"

static u64 vhost_blk_bdev_capacity(const struct vhost_blk_backend *backend)
{
	return bdev_nr_sectors(backend->bdev);
}

static bool vhost_blk_bdev_read_only(const struct vhost_blk_backend *backend)
{
	return bdev_read_only(backend->bdev);
}

static u8 vhost_blk_bdev_status(const struct bio *bio)
{
	switch (bio->bi_status) {
	case BLK_STS_NOTSUPP:
		return VIRTIO_BLK_S_UNSUPP;
	case BLK_STS_ZONE_OPEN_RESOURCE:
		return VIRTIO_BLK_S_ZONE_OPEN_RESOURCE;
	case BLK_STS_ZONE_ACTIVE_RESOURCE:
		return VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE;
	default:
		/* VIRTIO 1.3, 5.2.6.2: the zone cannot change as was asked. */
		return op_is_zone_mgmt(bio_op(bio)) ?
			VIRTIO_BLK_S_ZONE_INVALID_CMD : VIRTIO_BLK_S_IOERR;
	}
}

static void vhost_blk_bdev_error(struct vhost_blk_req *req,
				 const struct bio *bio)
{
	if (vhost_blk_iopoll_refused(bio))
		WRITE_ONCE(req->again, true);
	else
		WRITE_ONCE(req->status, vhost_blk_bdev_status(bio));
}

/*
 * A bio of @req has ended; was it the last? Nearly all requests have one, for which
 * nobody else counts: no atomic operation then. Pairs with itself, as the last one sees
 * what the others have written, and with vhost_blk_iopoll_ask().
 */
static bool vhost_blk_bdev_ended(struct vhost_blk_req *req)
{
	if (likely(atomic_read_acquire(&req->pending) == 1)) {
		atomic_set_release(&req->pending, 0);
		return true;
	}
	return atomic_dec_and_test(&req->pending);
}

static void vhost_blk_bdev_end_io(struct bio *bio)
{
	struct vhost_blk_req *req = bio->bi_private;

	if (unlikely(bio->bi_status))
		vhost_blk_bdev_error(req, bio);
	if (!vhost_blk_bdev_ended(req))
		return;
	if (unlikely(req->status) && vhost_blk_zoned(req->ring->backend))
		vhost_blk_zone_explain(req);
	else
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

/*
 * A zoned disk takes writes at the write pointer alone, so those of a ring must
 * reach it in the order the guest put them there. They do: only the ring's
 * worker fetches, with the ring's mutex held, one request after the other (one
 * that has to wait is put back, and nothing behind it is fetched); all bios of
 * a request are submitted here before the next is looked at; and submit_bio()
 * passes each write to the zone's write plug of the block layer, which keeps
 * the order of submission per zone, before any plug or scheduler sees it.
 */
static void vhost_blk_bdev_submit(struct vhost_blk_req *req, blk_opf_t opf)
{
	struct bio_vec *vecs = req->bounce ?: req->vecs;
	unsigned int left = req->bounce ? req->nr_bounce : req->nr_vecs;
	unsigned int nr_bios = DIV_ROUND_UP(left, BIO_MAX_VECS);
	sector_t sector = req->sector;
	unsigned int nr;
	struct bio *bio;
	bool poll;

	if (!vhost_blk_bdev_alloc_more(req, nr_bios - 1)) {
		vhost_blk_req_fail(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	atomic_set(&req->pending, nr_bios);
	/* A FUA write may become several requests, not all of which are polled. */
	poll = READ_ONCE(req->ring->poller->spin) && nr_bios == 1 &&
	       !req->again && !(opf & REQ_FUA);
	req->again = false;
	for (bio = &req->bio; left; vecs += nr, left -= nr) {
		nr = min(left, BIO_MAX_VECS);
		sector = vhost_blk_bdev_fill(bio, req, sector, vecs, nr, opf);
		if (poll)
			vhost_blk_iopoll_add(req);
		submit_bio(bio);
		bio = &req->more[req->nr_bios++];
	}
}

/*
 * Throw away the host's cached copy of what was written. Costs one look when
 * nothing is cached. Follows kiocb_invalidate_post_direct_write().
 */
static void vhost_blk_bdev_invalidate(const struct vhost_blk_backend *backend,
				      u64 sector, u64 bytes)
{
	struct address_space *mapping = backend->bdev->bd_mapping;
	loff_t pos = sector << SECTOR_SHIFT;

	if (unlikely(READ_ONCE(mapping->nrpages)))
		invalidate_inode_pages2_range(mapping, pos >> PAGE_SHIFT,
					      (pos + bytes - 1) >> PAGE_SHIFT);
}

/* The bytes of the disk that a request with bios may have changed. */
static u64 vhost_blk_bdev_changed(const struct vhost_blk_req *req)
{
	const struct vhost_blk_backend *backend = req->ring->backend;

	switch (bio_op(&req->bio)) {
	case REQ_OP_WRITE:
	case REQ_OP_ZONE_APPEND:
		return req->len;
	case REQ_OP_ZONE_RESET:
		return (u64)backend->zone_sectors << SECTOR_SHIFT;
	case REQ_OP_ZONE_RESET_ALL:
		return bdev_nr_bytes(backend->bdev);
	default:
		return 0;
	}
}

static void vhost_blk_bdev_release(struct vhost_blk_req *req)
{
	u64 changed = vhost_blk_bdev_changed(req);

	/* Where the disk put it. */
	if (bio_op(&req->bio) == REQ_OP_ZONE_APPEND && !req->status)
		req->sector = req->bio.bi_iter.bi_sector;
	if (changed)
		vhost_blk_bdev_invalidate(req->ring->backend, req->sector,
					  changed);
	if (vhost_blk_iopoll_del(req))
		req->ring->stats.polled++;
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
static void vhost_blk_bdev_write_back(const struct vhost_blk_backend *backend,
				      u64 sector, u64 bytes)
{
	struct address_space *mapping = backend->bdev->bd_mapping;
	loff_t pos = sector << SECTOR_SHIFT;

	if (unlikely(READ_ONCE(mapping->nrpages)))
		filemap_write_and_wait_range(mapping, pos, pos + bytes - 1);
}

static void vhost_blk_bdev_read(struct vhost_blk_req *req)
{
	vhost_blk_bdev_write_back(req->ring->backend, req->sector, req->len);
	vhost_blk_bdev_submit(req, REQ_OP_READ);
}

static blk_opf_t vhost_blk_bdev_write_opf(const struct vhost_blk_req *req,
					  enum req_op op)
{
	blk_opf_t opf = op | REQ_SYNC | REQ_IDLE;

	return req->writethrough ? opf | REQ_FUA : opf;
}

static void vhost_blk_bdev_submit_write(struct vhost_blk_req *req,
					enum req_op op)
{
	/* As direct I/O does; submit_bio() accounts reads alone. */
	task_io_account_write(req->len);
	vhost_blk_bdev_submit(req, vhost_blk_bdev_write_opf(req, op));
}

static void vhost_blk_bdev_write(struct vhost_blk_req *req)
{
	vhost_blk_bdev_write_back(req->ring->backend, req->sector, req->len);
	vhost_blk_bdev_submit_write(req, REQ_OP_WRITE);
}

/**
 * vhost_blk_bdev_append - append to a zone
 * @req:	its data fits into one bio that need not be split; @sector is
 *		the zone's first, and where the data went once it is complete
 *
 * Context: as &vhost_blk_backend_ops.write.
 */
void vhost_blk_bdev_append(struct vhost_blk_req *req)
{
	const struct vhost_blk_backend *backend = req->ring->backend;

	vhost_blk_bdev_write_back(backend, req->sector,
				  (u64)backend->zone_sectors << SECTOR_SHIFT);
	vhost_blk_bdev_submit_write(req, REQ_OP_ZONE_APPEND);
}

/* What could not be polled for is submitted as an ordinary request. */
static void vhost_blk_bdev_again(struct vhost_blk_req *req)
{
	blk_opf_t opf = REQ_OP_READ;

	if (req->type == VIRTIO_BLK_T_OUT)
		opf = vhost_blk_bdev_write_opf(req, REQ_OP_WRITE);
	vhost_blk_iopoll_del(req);
	req->ring->stats.poll_fallbacks++;
	bio_uninit(&req->bio);
	req->nr_bios = 0;
	vhost_blk_bdev_submit(req, opf);
}

static void vhost_blk_bdev_submit_empty(struct vhost_blk_req *req,
					blk_opf_t opf)
{
	req->more = NULL;
	req->nr_bios = 1;
	atomic_set(&req->pending, 1);
	vhost_blk_bdev_fill(&req->bio, req, req->sector, NULL, 0, opf);
	submit_bio(&req->bio);
}

static void vhost_blk_bdev_flush(struct vhost_blk_req *req)
{
	/* Whatever the guest says there, it is of the whole disk. */
	req->sector = 0;
	vhost_blk_bdev_submit_empty(req, REQ_OP_WRITE | REQ_SYNC |
				    REQ_PREFLUSH);
}

/**
 * vhost_blk_bdev_zone_mgmt - open, close, finish or reset a zone, or reset all
 * @req:	@sector is the zone's first; 0 for all
 * @op:		REQ_OP_ZONE_*
 *
 * Context: as &vhost_blk_backend_ops.write.
 */
void vhost_blk_bdev_zone_mgmt(struct vhost_blk_req *req, enum req_op op)
{
	/*
	 * Two commands to one zone lie next to each other, so the block layer
	 * would merge them under a plug, and is lost when that request ends:
	 * it does not expect bios without data behind the first.
	 */
	vhost_blk_bdev_submit_empty(req, op | REQ_SYNC | REQ_NOMERGE);
}

static int vhost_blk_bdev_discard(struct vhost_blk_backend *backend, u64 sector,
				  u32 nr)
{
	u64 bytes = (u64)nr << SECTOR_SHIFT;
	int ret;

	vhost_blk_bdev_write_back(backend, sector, bytes);
	ret = blkdev_issue_discard(backend->bdev, sector, nr, GFP_KERNEL);
	vhost_blk_bdev_invalidate(backend, sector, bytes);
	return ret;
}

static int vhost_blk_bdev_write_zeroes(struct vhost_blk_backend *backend,
				       u64 sector, u32 nr, bool unmap)
{
	u64 bytes = (u64)nr << SECTOR_SHIFT;
	int ret;

	vhost_blk_bdev_write_back(backend, sector, bytes);
	ret = blkdev_issue_zeroout(backend->bdev, sector, nr, GFP_KERNEL,
				   unmap ? 0 : BLKDEV_ZERO_NOUNMAP);
	vhost_blk_bdev_invalidate(backend, sector, bytes);
	return ret;
}

static int vhost_blk_bdev_secure_erase(struct vhost_blk_backend *backend,
				       u64 sector, u32 nr)
{
	u64 bytes = (u64)nr << SECTOR_SHIFT;
	int ret;

	/* VIRTIO wants a reset of zones there, which nobody erases securely. */
	if (vhost_blk_zoned(backend))
		return -EOPNOTSUPP;
	vhost_blk_bdev_write_back(backend, sector, bytes);
	ret = blkdev_issue_secure_erase(backend->bdev, sector, nr, GFP_KERNEL);
	vhost_blk_bdev_invalidate(backend, sector, bytes);
	return ret;
}

static int vhost_blk_bdev_sync(struct vhost_blk_backend *backend)
{
	return blkdev_issue_flush(backend->bdev);
}

static u32 vhost_blk_bdev_limit_flags(const struct vhost_blk_backend *backend)
{
	struct block_device *bdev = backend->bdev;
	u32 flags = 0;

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

static void vhost_blk_bdev_zone_limits(const struct vhost_blk_backend *backend,
				       struct vhost_blk_limits *limits)
{
	struct block_device *bdev = backend->bdev;

	limits->zone_model = VIRTIO_BLK_Z_HM;
	limits->zone_sectors = backend->zone_sectors;
	limits->max_open_zones = bdev_max_open_zones(bdev);
	limits->max_active_zones = bdev_max_active_zones(bdev);
	limits->max_append_sectors = vhost_blk_zone_max_append(backend);
	limits->write_granularity = bdev_zone_write_granularity(bdev);
}

static void vhost_blk_bdev_limits(const struct vhost_blk_backend *backend,
				  struct vhost_blk_limits *limits)
{
	struct queue_limits *lim = &bdev_get_queue(backend->bdev)->limits;

	limits->flags |= vhost_blk_bdev_limit_flags(backend);
	limits->physical_block = lim->physical_block_size;
	limits->io_min = lim->io_min;
	limits->io_opt = lim->io_opt;
	limits->max_segment_size = lim->max_segment_size;
	limits->max_sectors = lim->max_sectors;
	limits->discard_granularity = lim->discard_granularity;
	if (!vhost_blk_zoned(backend))
		limits->max_secure_erase_sectors = lim->max_secure_erase_sectors;
	limits->alignment_offset = max(bdev_alignment_offset(backend->bdev), 0);
	if (vhost_blk_zoned(backend))
		vhost_blk_bdev_zone_limits(backend, limits);
}

static const struct vhost_blk_backend_ops vhost_blk_bdev_ops = {
	.capacity	= vhost_blk_bdev_capacity,
	.read_only	= vhost_blk_bdev_read_only,
	.read		= vhost_blk_bdev_read,
	.write		= vhost_blk_bdev_write,
	.flush		= vhost_blk_bdev_flush,
	.discard	= vhost_blk_bdev_discard,
	.write_zeroes	= vhost_blk_bdev_write_zeroes,
	.secure_erase	= vhost_blk_bdev_secure_erase,
	.again		= vhost_blk_bdev_again,
	.sync		= vhost_blk_bdev_sync,
	.release	= vhost_blk_bdev_release,
	.limits		= vhost_blk_bdev_limits,
};

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

/**
 * vhost_blk_bdev_open - make a backend of a block device
 * @backend:	@file is open on a block device
 *
 * Return: 0.
 */
int vhost_blk_bdev_open(struct vhost_blk_backend *backend)
{
	struct block_device *bdev = file_bdev(backend->file);

	backend->ops = &vhost_blk_bdev_ops;
	backend->bdev = bdev;
	backend->iopoll = vhost_blk_iopoll_capable(bdev);
	backend->dma_mask = vhost_blk_bdev_dma_mask(bdev);
	backend->virt_mask = queue_virt_boundary(bdev_get_queue(bdev));
	backend->block_mask = bdev_logical_block_size(bdev) - 1;
	backend->max_segs = bdev_max_segments(bdev);
	if (bdev_is_zoned(bdev)) {
		backend->zone_sectors = bdev_zone_sectors(bdev);
		backend->max_seg_size = queue_max_segment_size(bdev_get_queue(bdev));
		backend->seg_boundary = queue_segment_boundary(bdev_get_queue(bdev));
	}
	return 0;
}
