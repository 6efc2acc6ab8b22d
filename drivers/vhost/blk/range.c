// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: DISCARD, WRITE_ZEROES and SECURE_ERASE: requests whose data are
 * ranges of the disk. VIRTIO 1.3, 5.2.6.2.
 *
 * They are rare and slow, and what the kernel offers for them sleeps: a
 * workqueue does them. All ranges are checked before the first is touched.
 */
#include <linux/sizes.h>
#include <linux/slab.h>

#include "vhost_blk.h"

/* Ranges of one request, where the configuration sets no limit. */
#define VHOST_BLK_MAX_RANGES	256

/*
 * Most sectors that are worked on without a look at whether it still matters.
 * A power of two: parts end at multiples of it, so that a cut does not go
 * through what the disk can only discard as a whole.
 */
#define VHOST_BLK_RANGE_PART	(SZ_64M >> SECTOR_SHIFT)

/* What the guest was told: a limit of 0 is none. */
struct vhost_blk_range_limits {
	u32 sectors;
	u32 segs;
};

static struct vhost_blk_range_limits
vhost_blk_range_limits(const struct vhost_blk_req *req)
{
	const struct vhost_blk_config *config = &req->ring->config;

	switch (req->type) {
	case VIRTIO_BLK_T_DISCARD:
		return (struct vhost_blk_range_limits) {
			config->max_discard_sectors, config->max_discard_seg };
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return (struct vhost_blk_range_limits) {
			config->max_write_zeroes_sectors,
			config->max_write_zeroes_seg };
	default:
		return (struct vhost_blk_range_limits) {
			config->max_secure_erase_sectors,
			config->max_secure_erase_seg };
	}
}

static bool vhost_blk_range_offered(const struct vhost_blk_req *req)
{
	struct vhost_virtqueue *vq = &req->ring->vq;

	switch (req->type) {
	case VIRTIO_BLK_T_DISCARD:
		return vhost_has_feature(vq, VIRTIO_BLK_F_DISCARD);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return vhost_has_feature(vq, VIRTIO_BLK_F_WRITE_ZEROES);
	default:
		return vhost_has_feature(vq, VIRTIO_BLK_F_SECURE_ERASE) &&
		       req->ring->backend->ops->secure_erase;
	}
}

static u32 vhost_blk_range_flags(const struct vhost_blk_req *req)
{
	if (req->type == VIRTIO_BLK_T_WRITE_ZEROES)
		return VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	return 0;
}

/* Copy the ranges, once. */
static u8 vhost_blk_range_copy(struct vhost_blk_req *req, struct iov_iter *out)
{
	size_t bytes = iov_iter_count(out);
	u32 segs = vhost_blk_range_limits(req).segs ?: VHOST_BLK_MAX_RANGES;

	if (!bytes || bytes % sizeof(*req->ranges))
		return VIRTIO_BLK_S_IOERR;
	if (bytes / sizeof(*req->ranges) > segs)
		return VIRTIO_BLK_S_UNSUPP;
	req->ranges = kvmalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!req->ranges)
		return VIRTIO_BLK_S_IOERR;
	req->nr_ranges = bytes / sizeof(*req->ranges);
	if (!copy_from_iter_full(req->ranges, bytes, out))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

static u8 vhost_blk_range_check_one(const struct vhost_blk_req *req,
				    const struct virtio_blk_discard_write_zeroes *range)
{
	u32 max = vhost_blk_range_limits(req).sectors;
	u32 nr = le32_to_cpu(range->num_sectors);

	if (le32_to_cpu(range->flags) & ~vhost_blk_range_flags(req))
		return VIRTIO_BLK_S_UNSUPP;
	if (max && nr > max)
		return VIRTIO_BLK_S_IOERR;
	return vhost_blk_req_check(req, le64_to_cpu(range->sector),
				   (u64)nr << SECTOR_SHIFT, true);
}

static u8 vhost_blk_range_check(const struct vhost_blk_req *req)
{
	unsigned int i;
	u8 status = VIRTIO_BLK_S_OK;

	for (i = 0; i < req->nr_ranges && !status; i++)
		status = vhost_blk_range_check_one(req, &req->ranges[i]);
	return status;
}

/**
 * vhost_blk_range_bytes - how much of the disk a request of ranges is about
 * @req:	the request
 */
u64 vhost_blk_range_bytes(const struct vhost_blk_req *req)
{
	u64 bytes = 0;
	unsigned int i;

	for (i = 0; i < req->nr_ranges; i++)
		bytes += (u64)le32_to_cpu(req->ranges[i].num_sectors) <<
			 SECTOR_SHIFT;
	return bytes;
}

static int vhost_blk_range_do_part(struct vhost_blk_req *req, u64 sector,
				   u32 nr, bool unmap)
{
	struct vhost_blk_backend *backend = req->ring->backend;
	int ret;

	switch (req->type) {
	case VIRTIO_BLK_T_DISCARD:
		if (req->ignore_discard)
			return 0;
		/* A hint: a disk that cannot is as good as one that does not. */
		ret = backend->ops->discard(backend, sector, nr);
		return ret == -EOPNOTSUPP ? 0 : ret;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return backend->ops->write_zeroes(backend, sector, nr,
						  unmap && !req->ignore_discard);
	default:
		return backend->ops->secure_erase(backend, sector, nr);
	}
}

/* In parts: nobody waits for a terabyte of zeroes after the owner is gone. */
static int vhost_blk_range_do_one(struct vhost_blk_req *req,
				  const struct virtio_blk_discard_write_zeroes *range)
{
	bool unmap = le32_to_cpu(range->flags) &
		     VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	u64 sector = le64_to_cpu(range->sector);
	u32 left = le32_to_cpu(range->num_sectors);
	u32 nr;
	int ret = 0;

	for (; left && !ret; sector += nr, left -= nr) {
		if (READ_ONCE(req->ring->blk->dying))
			return -EIO;
		nr = min_t(u32, left, VHOST_BLK_RANGE_PART -
			   (sector & (VHOST_BLK_RANGE_PART - 1)));
		ret = vhost_blk_range_do_part(req, sector, nr, unmap);
	}
	return ret;
}

static int vhost_blk_range_do(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *backend = req->ring->backend;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < req->nr_ranges && !ret; i++)
		ret = vhost_blk_range_do_one(req, &req->ranges[i]);
	if (!ret && req->type == VIRTIO_BLK_T_WRITE_ZEROES && req->writethrough)
		ret = backend->ops->sync(backend);
	return ret;
}

/* On a workqueue, on behalf of the owner's cgroup. */
static void vhost_blk_range_work(struct work_struct *work)
{
	struct vhost_blk_req *req = container_of(work, struct vhost_blk_req,
						 work);

	const struct cred *cred = vhost_blk_backend_become(req->ring->backend);

	req->status = vhost_blk_req_status(vhost_blk_range_do(req));
	vhost_blk_backend_unbecome(cred);
	vhost_blk_req_done(req);
}

/**
 * vhost_blk_range_start - start a request of ranges
 * @req:	the request, its type one of the three
 * @out:	what follows the header
 *
 * Context: the ring's worker, the ring's mutex held.
 */
void vhost_blk_range_start(struct vhost_blk_req *req, struct iov_iter *out)
{
	u8 status = VIRTIO_BLK_S_UNSUPP;

	if (vhost_blk_range_offered(req))
		status = vhost_blk_range_copy(req, out);
	if (!status)
		status = vhost_blk_range_check(req);
	if (status) {
		vhost_blk_req_fail(req, status);
		return;
	}
	INIT_WORK(&req->work, vhost_blk_range_work);
	queue_work(req->ring->blk->wq, &req->work);
}
