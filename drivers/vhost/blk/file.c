// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: a regular raw image file as the backend.
 *
 * Direct I/O with vectors of the guest's pages. Each request is tried without
 * sleeping first; what would sleep (blocks to be allocated, a lock) goes to a
 * workqueue.
 */
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/stat.h>

#include "vhost_blk.h"

/* Of one write of zeroes. */
#define VHOST_BLK_FILE_ZERO_VECS	16

static u64 vhost_blk_file_capacity(const struct vhost_blk_backend *backend)
{
	return i_size_read(file_inode(backend->file)) >> SECTOR_SHIFT;
}

static bool vhost_blk_file_read_only(const struct vhost_blk_backend *backend)
{
	return IS_IMMUTABLE(file_inode(backend->file));
}

static void vhost_blk_file_finish(struct vhost_blk_req *req, long ret)
{
	/* Short: the file was cut, or its filesystem is full. */
	if (ret != req->len)
		req->status = VIRTIO_BLK_S_IOERR;
	vhost_blk_req_done(req);
}

static void vhost_blk_file_work(struct work_struct *work);

/* Something was in the way: once more, from where sleeping is allowed. */
static void vhost_blk_file_defer(struct vhost_blk_req *req)
{
	INIT_WORK(&req->work, vhost_blk_file_work);
	queue_work(req->ring->blk->wq, &req->work);
}

/* @ret is what a try led to; short ones are tried again in full. */
static void vhost_blk_file_tried(struct vhost_blk_req *req, long ret)
{
	if ((req->iocb.ki_flags & IOCB_NOWAIT) && ret != req->len)
		vhost_blk_file_defer(req);
	else
		vhost_blk_file_finish(req, ret);
}

/* ->ki_complete: any context. */
static void vhost_blk_file_end_io(struct kiocb *iocb, long ret)
{
	struct vhost_blk_req *req = container_of(iocb, struct vhost_blk_req,
						 iocb);

	if (req->type == VIRTIO_BLK_T_OUT)
		kiocb_end_write(iocb);
	vhost_blk_file_tried(req, ret);
}

static void vhost_blk_file_submit(struct vhost_blk_req *req, int flags)
{
	bool write = req->type == VIRTIO_BLK_T_OUT;
	struct file *file = req->ring->backend->file;
	struct kiocb *iocb = &req->iocb;
	struct iov_iter iter;
	ssize_t ret;

	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST,
		      req->bounce ?: req->vecs,
		      req->bounce ? req->nr_bounce : req->nr_vecs, req->len);
	init_sync_kiocb(iocb, file);
	iocb->ki_pos = req->sector << SECTOR_SHIFT;
	/* The position counts, though somebody may have set O_APPEND. */
	iocb->ki_flags &= ~IOCB_APPEND;
	iocb->ki_flags |= IOCB_DIRECT | flags;
	iocb->ki_complete = vhost_blk_file_end_io;
	if (write && req->writethrough)
		iocb->ki_flags |= IOCB_DSYNC;
	if (write)
		ret = vfs_iocb_iter_write(file, iocb, &iter);
	else
		ret = vfs_iocb_iter_read(file, iocb, &iter);
	if (ret != -EIOCBQUEUED)
		vhost_blk_file_tried(req, ret);
}

/*
 * The request may be complete, and the backend gone, before the filesystem
 * returns from the call: it still unlocks the inode then.
 */
static void vhost_blk_file_work(struct work_struct *work)
{
	struct vhost_blk_req *req = container_of(work, struct vhost_blk_req,
						 work);
	struct vhost_blk_backend *backend = req->ring->backend;
	struct file *file = get_file(backend->file);
	const struct cred *cred = vhost_blk_backend_become(backend);

	if (READ_ONCE(req->ring->blk->dying))
		vhost_blk_file_finish(req, -EIO);
	else
		vhost_blk_file_submit(req, 0);
	vhost_blk_backend_unbecome(cred);
	fput(file);
}

/*
 * On a filesystem that is being frozen a write sleeps, whatever IOCB_NOWAIT
 * says.
 */
static bool vhost_blk_file_may_try(const struct vhost_blk_req *req)
{
	struct file *file = req->ring->backend->file;

	if (!(file->f_mode & FMODE_NOWAIT))
		return false;
	return req->type != VIRTIO_BLK_T_OUT ||
	       !READ_ONCE(file_inode(file)->i_sb->s_writers.frozen);
}

static void vhost_blk_file_rw(struct vhost_blk_req *req)
{
	if (vhost_blk_file_may_try(req))
		vhost_blk_file_submit(req, IOCB_NOWAIT);
	else
		vhost_blk_file_defer(req);
}

static int vhost_blk_file_sync(struct vhost_blk_backend *backend)
{
	return vfs_fsync(backend->file, 1);
}

static void vhost_blk_file_flush_work(struct work_struct *work)
{
	struct vhost_blk_req *req = container_of(work, struct vhost_blk_req,
						 work);
	struct vhost_blk_backend *backend = req->ring->backend;
	const struct cred *cred = vhost_blk_backend_become(backend);

	req->status = vhost_blk_req_status(vhost_blk_file_sync(backend));
	vhost_blk_backend_unbecome(cred);
	vhost_blk_req_done(req);
}

static void vhost_blk_file_flush(struct vhost_blk_req *req)
{
	INIT_WORK(&req->work, vhost_blk_file_flush_work);
	queue_work(req->ring->blk->wq, &req->work);
}

static int vhost_blk_file_fallocate(struct vhost_blk_backend *backend, int mode,
				    u64 sector, u32 nr)
{
	return vfs_fallocate(backend->file, mode | FALLOC_FL_KEEP_SIZE,
			     sector << SECTOR_SHIFT, (u64)nr << SECTOR_SHIFT);
}

static int vhost_blk_file_discard(struct vhost_blk_backend *backend,
				  u64 sector, u32 nr)
{
	return vhost_blk_file_fallocate(backend, FALLOC_FL_PUNCH_HOLE, sector,
					nr);
}

/* The zero page, as often as it takes. */
static ssize_t vhost_blk_file_write_some_zeroes(struct vhost_blk_backend *backend,
						loff_t pos, u64 bytes)
{
	struct bio_vec vecs[VHOST_BLK_FILE_ZERO_VECS];
	struct iov_iter iter;
	struct kiocb iocb;
	unsigned int nr;
	size_t len = 0;

	for (nr = 0; nr < ARRAY_SIZE(vecs) && len < bytes; nr++) {
		bvec_set_page(&vecs[nr], ZERO_PAGE(0),
			      min_t(u64, bytes - len, PAGE_SIZE), 0);
		len += vecs[nr].bv_len;
	}
	iov_iter_bvec(&iter, ITER_SOURCE, vecs, nr, len);
	init_sync_kiocb(&iocb, backend->file);
	iocb.ki_pos = pos;
	iocb.ki_flags &= ~IOCB_APPEND;
	iocb.ki_flags |= IOCB_DIRECT;
	return vfs_iocb_iter_write(backend->file, &iocb, &iter);
}

/* For filesystems that have no command for it. */
static int vhost_blk_file_write_zero_pages(struct vhost_blk_backend *backend,
					   u64 sector, u32 nr)
{
	loff_t pos = sector << SECTOR_SHIFT;
	u64 left = (u64)nr << SECTOR_SHIFT;
	ssize_t ret;

	while (left) {
		ret = vhost_blk_file_write_some_zeroes(backend, pos, left);
		if (ret <= 0)
			return ret ?: -EIO;
		pos += ret;
		left -= ret;
	}
	return 0;
}

static int vhost_blk_file_write_zeroes(struct vhost_blk_backend *backend,
				       u64 sector, u32 nr, bool unmap)
{
	int ret = -EOPNOTSUPP;

	if (unmap)
		ret = vhost_blk_file_fallocate(backend, FALLOC_FL_PUNCH_HOLE,
					       sector, nr);
	if (ret == -EOPNOTSUPP)
		ret = vhost_blk_file_fallocate(backend, FALLOC_FL_ZERO_RANGE,
					       sector, nr);
	if (ret == -EOPNOTSUPP)
		ret = vhost_blk_file_write_zero_pages(backend, sector, nr);
	return ret;
}

static void vhost_blk_file_limits(const struct vhost_blk_backend *backend,
				  struct vhost_blk_limits *limits)
{
	limits->flags |= VHOST_BLK_LIMIT_WRITE_CACHE;
	limits->physical_block = max_t(u32, limits->logical_block,
				       i_blocksize(file_inode(backend->file)));
	limits->io_min = limits->physical_block;
	limits->io_opt = 0;
	limits->max_segment_size = U32_MAX;
	limits->max_sectors = INT_MAX >> SECTOR_SHIFT;
	limits->discard_granularity = limits->physical_block;
	limits->alignment_offset = 0;
}

static const struct vhost_blk_backend_ops vhost_blk_file_ops = {
	.capacity	= vhost_blk_file_capacity,
	.read_only	= vhost_blk_file_read_only,
	.read		= vhost_blk_file_rw,
	.write		= vhost_blk_file_rw,
	.flush		= vhost_blk_file_flush,
	.discard	= vhost_blk_file_discard,
	.write_zeroes	= vhost_blk_file_write_zeroes,
	.sync		= vhost_blk_file_sync,
	.limits		= vhost_blk_file_limits,
};

/**
 * vhost_blk_file_open - make a backend of a regular file
 * @backend:	@file is open on a regular file
 *
 * Return: 0, -ETXTBSY for a swap file, -EPERM for one that can only be
 * appended to, -EOPNOTSUPP if the filesystem says no
 * alignment for direct I/O on this file (it has none, or the file is encrypted
 * or kept in memory), or what getattr returns.
 */
int vhost_blk_file_open(struct vhost_blk_backend *backend)
{
	struct file *file = backend->file;
	struct kstat stat;
	int ret;

	if (IS_SWAPFILE(file_inode(file)))
		return -ETXTBSY;
	if (IS_APPEND(file_inode(file)))
		return -EPERM;
	ret = vfs_getattr(&file->f_path, &stat, STATX_DIOALIGN,
			  AT_STATX_SYNC_AS_STAT);
	if (ret)
		return ret;
	if (!(file->f_mode & FMODE_CAN_ODIRECT) ||
	    !(stat.result_mask & STATX_DIOALIGN) || !stat.dio_offset_align)
		return -EOPNOTSUPP;
	backend->ops = &vhost_blk_file_ops;
	backend->block_mask = max_t(u32, stat.dio_offset_align, SECTOR_SIZE) - 1;
	/* Direct I/O takes whole blocks in a vector. */
	backend->dma_mask = (stat.dio_mem_align - 1) | backend->block_mask;
	backend->max_segs = UINT_MAX;
	return 0;
}
