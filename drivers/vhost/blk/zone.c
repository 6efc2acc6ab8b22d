// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: zones. VIRTIO 1.3, 5.2.6 Device Operation.
 *
 * Commands to one zone and appends are bios as reads and writes are; a report
 * sleeps and goes to a workqueue. What is wrong with a request that the disk
 * refused is found out afterwards, by a look at its zone, so that those which
 * succeed pay nothing for it.
 *
 * Only block devices have zones, and one that has them is not attached unless
 * VIRTIO_BLK_F_ZONED is negotiated, so vhost_blk_zoned() stands for both.
 */
#include <linux/blkzoned.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vhost_blk.h"

/* Types and conditions are numbered as the kernel's. */
static_assert(BLK_ZONE_TYPE_CONVENTIONAL == VIRTIO_BLK_ZT_CONV);
static_assert(BLK_ZONE_TYPE_SEQWRITE_REQ == VIRTIO_BLK_ZT_SWR);
static_assert(BLK_ZONE_TYPE_SEQWRITE_PREF == VIRTIO_BLK_ZT_SWP);
static_assert(BLK_ZONE_COND_NOT_WP == VIRTIO_BLK_ZS_NOT_WP);
static_assert(BLK_ZONE_COND_EMPTY == VIRTIO_BLK_ZS_EMPTY);
static_assert(BLK_ZONE_COND_IMP_OPEN == VIRTIO_BLK_ZS_IOPEN);
static_assert(BLK_ZONE_COND_EXP_OPEN == VIRTIO_BLK_ZS_EOPEN);
static_assert(BLK_ZONE_COND_CLOSED == VIRTIO_BLK_ZS_CLOSED);
static_assert(BLK_ZONE_COND_READONLY == VIRTIO_BLK_ZS_RDONLY);
static_assert(BLK_ZONE_COND_FULL == VIRTIO_BLK_ZS_FULL);
static_assert(BLK_ZONE_COND_OFFLINE == VIRTIO_BLK_ZS_OFFLINE);

/* Most descriptors of a report: its length fits into an int. */
#define VHOST_BLK_MAX_REPORT	((INT_MAX - sizeof(struct virtio_blk_zone_report)) / \
				 sizeof(struct virtio_blk_zone_descriptor))

/* Returns a negative errno, or how many zones there were. */
static int vhost_blk_zone_visit(const struct vhost_blk_req *req,
				unsigned int nr, report_zones_cb cb, void *data)
{
	const struct vhost_blk_backend *backend = req->ring->backend;

	if (!vhost_blk_zoned(backend))
		return -EOPNOTSUPP;
	return blkdev_report_zones(backend->bdev,
				   round_down(req->sector, backend->zone_sectors),
				   nr, cb, data);
}

static bool vhost_blk_zone_is_seq(const struct vhost_blk_req *req, u64 sector)
{
	return vhost_blk_zoned(req->ring->backend) &&
	       bdev_zone_is_seq(req->ring->backend->bdev, sector);
}

/**
 * vhost_blk_zone_max_append - most sectors of one zone append
 * @backend:	has zones
 *
 * An append cannot be split, so it must be possible to have all of it in bounce
 * pages that make few enough segments: of an order that can be had.
 */
u32 vhost_blk_zone_max_append(const struct vhost_blk_backend *backend)
{
	u64 segs = min(backend->max_segs, BIO_MAX_VECS);
	unsigned long seg = min_t(unsigned long, backend->max_seg_size,
				  PAGE_SIZE << PAGE_ALLOC_COSTLY_ORDER);

	return min_t(u64, bdev_max_zone_append_sectors(backend->bdev),
		     segs * rounddown_pow_of_two(seg) >> SECTOR_SHIFT);
}

/**
 * vhost_blk_zone_check - may these sectors of a zoned disk be read or written?
 * @req:	passed vhost_blk_req_check()
 * @write:	it writes
 *
 * A request that begins in a sequential zone must stay there; the block layer
 * would split it. Return: VIRTIO_BLK_S_*.
 */
u8 vhost_blk_zone_check(const struct vhost_blk_req *req, bool write)
{
	const struct vhost_blk_backend *backend = req->ring->backend;
	u64 last = req->sector + (req->len >> SECTOR_SHIFT) - 1;
	bool seq;

	if (!req->len)
		return VIRTIO_BLK_S_OK;
	seq = vhost_blk_zone_is_seq(req, req->sector);
	if (round_down(req->sector ^ last, backend->zone_sectors) &&
	    (seq || vhost_blk_zone_is_seq(req, last)))
		return VIRTIO_BLK_S_ZONE_INVALID_CMD;
	if (write && seq && ((req->sector << SECTOR_SHIFT) | req->len) &
	    (bdev_zone_write_granularity(backend->bdev) - 1))
		return VIRTIO_BLK_S_ZONE_UNALIGNED_WP;
	return VIRTIO_BLK_S_OK;
}

/* The conditions in which a zone refuses reads, or writes. */
static bool vhost_blk_zone_refuses(const struct blk_zone *zone, bool write)
{
	if (zone->cond == BLK_ZONE_COND_OFFLINE)
		return true;
	return write && (zone->cond == BLK_ZONE_COND_READONLY ||
			 zone->cond == BLK_ZONE_COND_FULL);
}

/* Why did this zone refuse the request? Called by vhost_blk_zone_visit(). */
static int vhost_blk_zone_judge(struct blk_zone *zone, unsigned int idx,
				void *data)
{
	struct vhost_blk_req *req = data;
	bool write = req->type != VIRTIO_BLK_T_IN;
	bool append = req->type == VIRTIO_BLK_T_ZONE_APPEND;
	u64 end = zone->start + zone->capacity;

	if (vhost_blk_zone_refuses(zone, write))
		req->status = VIRTIO_BLK_S_ZONE_INVALID_CMD;
	else if (!write || zone->type == BLK_ZONE_TYPE_CONVENTIONAL)
		return 0;
	else if (!append && req->sector != zone->wp)
		req->status = VIRTIO_BLK_S_ZONE_UNALIGNED_WP;
	else if (zone->wp + (req->len >> SECTOR_SHIFT) > end)
		req->status = VIRTIO_BLK_S_ZONE_INVALID_CMD;
	return 0;
}

static void vhost_blk_zone_explain_work(struct work_struct *work)
{
	struct vhost_blk_req *req = container_of(work, struct vhost_blk_req,
						 work);
	const struct cred *cred = vhost_blk_backend_become(req->ring->backend);

	/* If not even that can be found out, the status stays as it is. */
	vhost_blk_zone_visit(req, 1, vhost_blk_zone_judge, req);
	vhost_blk_backend_unbecome(cred);
	vhost_blk_req_done(req);
}

/**
 * vhost_blk_zone_explain - complete a request that the disk refused
 * @req:	@status is set; all its bios have ended
 *
 * A failed read or write gets the status that VIRTIO has for the state its zone
 * is found in. To look at the zone also has the block layer learn its write
 * pointer anew, without which it refuses all further writes there.
 * Context: any.
 */
void vhost_blk_zone_explain(struct vhost_blk_req *req)
{
	if (req->status != VIRTIO_BLK_S_IOERR || !req->nr_vecs ||
	    READ_ONCE(req->ring->blk->dying)) {
		vhost_blk_req_done(req);
		return;
	}
	INIT_WORK(&req->work, vhost_blk_zone_explain_work);
	queue_work(req->ring->blk->wq, &req->work);
}

struct vhost_blk_zone_report {
	struct vhost_blk_req *req;
	struct iov_iter to;
	u64 nr;
};

static int vhost_blk_zone_describe(struct blk_zone *zone, unsigned int idx,
				   void *data)
{
	struct vhost_blk_zone_report *report = data;
	struct vhost_virtqueue *vq = &report->req->ring->vq;
	struct virtio_blk_zone_descriptor desc = {
		.z_cap = cpu_to_vhost64(vq, zone->capacity),
		.z_start = cpu_to_vhost64(vq, zone->start),
		.z_wp = cpu_to_vhost64(vq, zone->wp),
		.z_type = zone->type,
		.z_state = zone->cond,
	};

	if (copy_to_iter(&desc, sizeof(desc), &report->to) != sizeof(desc))
		return -EFAULT;
	report->nr++;
	return 0;
}

/* Descriptors that there is room for. */
static unsigned int vhost_blk_zone_report_room(const struct vhost_blk_req *req)
{
	return (req->len - sizeof(struct virtio_blk_zone_report)) /
	       sizeof(struct virtio_blk_zone_descriptor);
}

static int vhost_blk_zone_report_do(struct vhost_blk_req *req)
{
	struct vhost_blk_zone_report report = { .req = req };
	struct virtio_blk_zone_report head = {};
	int ret;

	iov_iter_bvec(&report.to, ITER_DEST, req->vecs, req->nr_vecs, req->len);
	iov_iter_advance(&report.to, sizeof(head));
	ret = vhost_blk_zone_visit(req, vhost_blk_zone_report_room(req),
				   vhost_blk_zone_describe, &report);
	if (ret < 0)
		return ret;
	head.nr_zones = cpu_to_vhost64(&req->ring->vq, report.nr);
	iov_iter_bvec(&report.to, ITER_DEST, req->vecs, req->nr_vecs, req->len);
	if (copy_to_iter(&head, sizeof(head), &report.to) != sizeof(head))
		return -EFAULT;
	req->used = struct_size(&head, zones, report.nr);
	return 0;
}

static void vhost_blk_zone_report_work(struct work_struct *work)
{
	struct vhost_blk_req *req = container_of(work, struct vhost_blk_req,
						 work);
	const struct cred *cred = vhost_blk_backend_become(req->ring->backend);

	req->status = vhost_blk_req_status(vhost_blk_zone_report_do(req));
	vhost_blk_backend_unbecome(cred);
	vhost_blk_req_done(req);
}

/* Make @in as long as the report can become at most. */
static u8 vhost_blk_zone_report_fit(struct vhost_blk_req *req,
				    struct iov_iter *in)
{
	const struct vhost_blk_backend *backend = req->ring->backend;
	u64 capacity = backend->ops->capacity(backend);
	struct virtio_blk_zone_report *head;
	u64 room, nr;

	if (iov_iter_count(in) < sizeof(*head) || req->sector >= capacity)
		return VIRTIO_BLK_S_ZONE_INVALID_CMD;
	room = (iov_iter_count(in) - sizeof(*head)) / sizeof(head->zones[0]);
	nr = DIV_ROUND_UP_ULL(capacity - round_down(req->sector,
						    backend->zone_sectors),
			      backend->zone_sectors);
	nr = min3(nr, room, (u64)VHOST_BLK_MAX_REPORT);
	req->len = struct_size(head, zones, nr);
	iov_iter_truncate(in, req->len);
	return VIRTIO_BLK_S_OK;
}

/**
 * vhost_blk_zone_report - start a ZONE_REPORT
 * @req:	the request
 * @in:		where the report goes
 *
 * The report is written right into the guest's pages: however many zones there
 * are, it takes no memory of ours.
 * Context: the ring's worker, the ring's mutex held.
 * Return: 0, or -EAGAIN as vhost_blk_map_plain().
 */
int vhost_blk_zone_report(struct vhost_blk_req *req, struct iov_iter *in)
{
	u8 status = VIRTIO_BLK_S_UNSUPP;
	int ret = 0;

	if (vhost_blk_zoned(req->ring->backend))
		status = vhost_blk_zone_report_fit(req, in);
	if (!status)
		ret = vhost_blk_map_plain(req, in);
	if (ret == -EAGAIN)
		return ret;
	if (ret)
		status = VIRTIO_BLK_S_IOERR;
	if (status) {
		vhost_blk_req_fail(req, status);
		return 0;
	}
	INIT_WORK(&req->work, vhost_blk_zone_report_work);
	queue_work(req->ring->blk->wq, &req->work);
	return 0;
}

/* What commands to one sequential zone, and appends, have in common. */
static u8 vhost_blk_zone_check_one(const struct vhost_blk_req *req)
{
	const struct vhost_blk_backend *backend = req->ring->backend;

	if (req->sector >= backend->ops->capacity(backend) ||
	    req->sector & (backend->zone_sectors - 1) ||
	    !vhost_blk_zone_is_seq(req, req->sector))
		return VIRTIO_BLK_S_ZONE_INVALID_CMD;
	return VIRTIO_BLK_S_OK;
}

/**
 * vhost_blk_zone_mgmt - start a command that changes one zone, or all
 * @req:	the request
 * @op:		what it asks for: REQ_OP_ZONE_*
 *
 * Context: the ring's worker, the ring's mutex held.
 */
void vhost_blk_zone_mgmt(struct vhost_blk_req *req, enum req_op op)
{
	u8 status = VIRTIO_BLK_S_UNSUPP;

	if (op == REQ_OP_ZONE_RESET_ALL)
		req->sector = 0;
	if (vhost_blk_zoned(req->ring->backend))
		status = vhost_blk_req_check(req, 0, 0, true);
	if (!status && op != REQ_OP_ZONE_RESET_ALL)
		status = vhost_blk_zone_check_one(req);
	if (status)
		vhost_blk_req_fail(req, status);
	else
		vhost_blk_bdev_zone_mgmt(req, op);
}

/*
 * Remember where the sector is to go. In nearly all cases that is one piece of
 * memory; if it is not, it may be one for each byte.
 */
static int vhost_blk_zone_keep_iov(struct vhost_blk_req *req,
				   const struct iov_iter *in)
{
	const struct iovec *iov = iter_iov(in);
	size_t left = sizeof(__virtio64), len;

	req->append = &req->append_one;
	if (iov_iter_single_seg_count(in) < left)
		req->append = kmalloc_array(left, sizeof(*req->append),
					    GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!req->append)
		return -ENOMEM;
	for (; left; left -= len, iov++) {
		len = min(left, iov->iov_len);
		if (!len)
			continue;
		req->append[req->nr_append].iov_base = iov->iov_base;
		req->append[req->nr_append++].iov_len = len;
	}
	return 0;
}

static u8 vhost_blk_zone_append_check(struct vhost_blk_req *req,
				      const struct iov_iter *out,
				      const struct iov_iter *in)
{
	const struct vhost_blk_backend *backend = req->ring->backend;
	u32 max = vhost_blk_zone_max_append(backend);
	size_t bytes = iov_iter_count(out);
	u8 status;

	if (!max)
		return VIRTIO_BLK_S_UNSUPP;
	status = vhost_blk_req_check(req, 0, 0, true) ?:
		 vhost_blk_zone_check_one(req);
	if (status)
		return status;
	if (iov_iter_count(in) != sizeof(__virtio64) || !bytes ||
	    bytes >> SECTOR_SHIFT > max)
		return VIRTIO_BLK_S_ZONE_INVALID_CMD;
	req->len = bytes;
	if (bytes & (bdev_zone_write_granularity(backend->bdev) - 1))
		return VIRTIO_BLK_S_ZONE_UNALIGNED_WP;
	return VIRTIO_BLK_S_OK;
}

/**
 * vhost_blk_zone_append - start a ZONE_APPEND
 * @req:	the request
 * @out:	the data
 * @in:		where the guest wants the sector
 *
 * Context: the ring's worker, the ring's mutex held.
 * Return: 0, or -EAGAIN as vhost_blk_map_data().
 */
int vhost_blk_zone_append(struct vhost_blk_req *req, struct iov_iter *out,
			  struct iov_iter *in)
{
	u8 status = VIRTIO_BLK_S_UNSUPP;
	int ret;

	if (vhost_blk_zoned(req->ring->backend))
		status = vhost_blk_zone_append_check(req, out, in);
	if (status) {
		vhost_blk_req_fail(req, status);
		return 0;
	}
	req->used = sizeof(__virtio64);
	ret = vhost_blk_zone_keep_iov(req, in);
	if (!ret)
		ret = vhost_blk_map_data(req, out, true);
	if (ret == -EAGAIN)
		vhost_blk_zone_append_end(req, false);
	else if (ret)
		vhost_blk_req_fail(req, VIRTIO_BLK_S_IOERR);
	else
		vhost_blk_bdev_append(req);
	return ret == -EAGAIN ? ret : 0;
}

static bool vhost_blk_zone_tell(const struct vhost_blk_req *req)
{
	__virtio64 sector = cpu_to_vhost64(&req->ring->vq, req->sector);
	const char *from = (const char *)&sector;
	const struct iovec *iov = req->append;
	unsigned int i;

	for (i = 0; i < req->nr_append; i++, iov++) {
		if (copy_to_user(iov->iov_base, from, iov->iov_len))
			return false;
		from += iov->iov_len;
	}
	return true;
}

/**
 * vhost_blk_zone_append_end - tell the guest where its data went
 * @req:	a ZONE_APPEND; @sector says where
 * @ours:	the guest's memory may be written
 *
 * Context: process, the ring's mutex held.
 */
void vhost_blk_zone_append_end(struct vhost_blk_req *req, bool ours)
{
	if (ours && !req->status && !vhost_blk_zone_tell(req))
		req->status = VIRTIO_BLK_S_IOERR;
	if (req->append != &req->append_one)
		kfree(req->append);
	req->nr_append = 0;
}
