// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: what the guest asks for. VIRTIO 1.3, 5.2.6 Device Operation.
 *
 * The header is copied once, here, and never read again. A chain that is sound
 * as a chain but not as a request is completed with a status; it does not stop
 * the ring.
 */
#include "trace.h"

/**
 * vhost_blk_req_fail - end a request before it reaches the backend
 * @req:	the request
 * @status:	VIRTIO_BLK_S_*
 *
 * Context: the ring's worker, the ring's mutex held.
 */
void vhost_blk_req_fail(struct vhost_blk_req *req, u8 status)
{
	req->status = status;
	req->refused = true;
	vhost_blk_req_done(req);
}

/**
 * vhost_blk_req_status - an errno as VIRTIO knows it
 * @err:	0 or negative
 *
 * Return: VIRTIO_BLK_S_*.
 */
u8 vhost_blk_req_status(int err)
{
	if (!err)
		return VIRTIO_BLK_S_OK;
	return err == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

/*
 * What of the configuration holds for a request that writes, decided once: it
 * may be on a workqueue when the guest switches its write cache. VIRTIO 1.3,
 * 5.2.6.2.
 */
static void vhost_blk_req_configure(struct vhost_blk_req *req)
{
	struct vhost_virtqueue *vq = &req->ring->vq;
	u32 flags = req->ring->config.flags;

	req->writethrough = !(flags & VHOST_BLK_CONFIG_WRITEBACK) ||
			    (!vhost_has_feature(vq, VIRTIO_BLK_F_FLUSH) &&
			     !vhost_has_feature(vq, VIRTIO_BLK_F_CONFIG_WCE));
	req->ignore_discard = flags & VHOST_BLK_CONFIG_IGNORE_DISCARD;
}

/*
 * Nobody tells the holder of a block device that its size changed, so look at
 * it on the way.
 */
static u64 vhost_blk_req_capacity(struct vhost_blk_vq *ring)
{
	u64 capacity = ring->backend->ops->capacity(ring->backend);

	if (unlikely(capacity != ring->capacity)) {
		ring->capacity = capacity;
		vhost_blk_event_signal(ring->blk);
	}
	return capacity;
}

/**
 * vhost_blk_req_check - may a request touch these bytes of the disk?
 * @req:	the request
 * @sector:	first 512-byte sector
 * @bytes:	how many
 * @write:	it writes
 *
 * Return: VIRTIO_BLK_S_OK or VIRTIO_BLK_S_IOERR.
 */
u8 vhost_blk_req_check(const struct vhost_blk_req *req, u64 sector, u64 bytes,
		       bool write)
{
	const struct vhost_blk_backend *backend = req->ring->backend;
	u64 capacity = vhost_blk_req_capacity(req->ring);
	u64 sectors = bytes >> SECTOR_SHIFT;

	if (write && (!backend->writable || backend->ops->read_only(backend)))
		return VIRTIO_BLK_S_IOERR;
	if (sector > capacity || sectors > capacity - sector)
		return VIRTIO_BLK_S_IOERR;
	if (((sector << SECTOR_SHIFT) | bytes) & backend->block_mask)
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

/*
 * Check what IN and OUT have in common, pin the data, and submit. Return
 * -EAGAIN if that has to wait, 0 otherwise.
 */
static int vhost_blk_req_start_rw(struct vhost_blk_req *req,
				  struct iov_iter *data, bool write)
{
	const struct vhost_blk_backend_ops *ops = req->ring->backend->ops;
	u8 status = VIRTIO_BLK_S_IOERR;
	int ret;

	if (iov_iter_count(data) <= INT_MAX) {
		req->len = iov_iter_count(data);
		status = vhost_blk_req_check(req, req->sector, req->len, write);
	}
	if (!status && vhost_blk_zoned(req->ring->backend))
		status = vhost_blk_zone_check(req, write);
	if (status || !req->len) {
		vhost_blk_req_fail(req, status);
		return 0;
	}
	req->used = write ? 0 : req->len;
	ret = vhost_blk_map_data(req, data, write);
	if (ret == -EAGAIN)
		return ret;
	if (ret)
		vhost_blk_req_fail(req, VIRTIO_BLK_S_IOERR);
	else if (write)
		ops->write(req);
	else
		ops->read(req);
	return 0;
}

/* There is nothing to flush where nothing can be written. */
static void vhost_blk_req_start_flush(struct vhost_blk_req *req)
{
	if (req->ring->backend->writable)
		req->ring->backend->ops->flush(req);
	else
		vhost_blk_req_done(req);
}

/* Section 5.2.6: 20 bytes, padded with NULs; drivers may offer less room. */
static void vhost_blk_req_start_get_id(struct vhost_blk_req *req,
				       struct iov_iter *in)
{
	size_t len = min_t(size_t, iov_iter_count(in), VIRTIO_BLK_ID_BYTES);

	if (copy_to_iter(req->ring->config.id, len, in) != len)
		req->status = VIRTIO_BLK_S_IOERR;
	else
		req->used = len;
	vhost_blk_req_done(req);
}

/* What there is to do for a type of request: the one place that decides. */
static int vhost_blk_req_dispatch(struct vhost_blk_req *req,
				  struct iov_iter *out, struct iov_iter *in)
{
	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		return vhost_blk_req_start_rw(req, in, false);
	case VIRTIO_BLK_T_OUT:
		vhost_blk_req_configure(req);
		return vhost_blk_req_start_rw(req, out, true);
	case VIRTIO_BLK_T_FLUSH:
		vhost_blk_req_start_flush(req);
		break;
	case VIRTIO_BLK_T_GET_ID:
		vhost_blk_req_start_get_id(req, in);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
	case VIRTIO_BLK_T_SECURE_ERASE:
		vhost_blk_req_configure(req);
		vhost_blk_range_start(req, out);
		break;
	case VIRTIO_BLK_T_ZONE_APPEND:
		return vhost_blk_zone_append(req, out, in);
	case VIRTIO_BLK_T_ZONE_REPORT:
		return vhost_blk_zone_report(req, in);
	case VIRTIO_BLK_T_ZONE_OPEN:
		vhost_blk_zone_mgmt(req, REQ_OP_ZONE_OPEN);
		break;
	case VIRTIO_BLK_T_ZONE_CLOSE:
		vhost_blk_zone_mgmt(req, REQ_OP_ZONE_CLOSE);
		break;
	case VIRTIO_BLK_T_ZONE_FINISH:
		vhost_blk_zone_mgmt(req, REQ_OP_ZONE_FINISH);
		break;
	case VIRTIO_BLK_T_ZONE_RESET:
		vhost_blk_zone_mgmt(req, REQ_OP_ZONE_RESET);
		break;
	case VIRTIO_BLK_T_ZONE_RESET_ALL:
		vhost_blk_zone_mgmt(req, REQ_OP_ZONE_RESET_ALL);
		break;
	default:
		vhost_blk_req_fail(req, VIRTIO_BLK_S_UNSUPP);
	}
	return 0;
}

/* The address of the last byte that the guest lets us write. */
static void __user *vhost_blk_req_status_addr(const struct iovec *iov,
					      unsigned int in)
{
	while (in--)
		if (iov[in].iov_len)
			return iov[in].iov_base + iov[in].iov_len - 1;
	return NULL;
}

static void vhost_blk_req_reset(struct vhost_blk_req *req)
{
	req->status = VIRTIO_BLK_S_OK;
	req->refused = false;
	req->type = U32_MAX;
	req->len = 0;
	req->used = 0;
	req->nr_vecs = 0;
	req->nr_bios = 0;
	req->nr_ranges = 0;
	req->nr_append = 0;
}

/**
 * vhost_blk_req_start - parse a chain and set it going
 * @req:	the slot of the chain's head; busy
 * @out:	how many of &vhost_virtqueue.iov the guest wrote for us
 * @in:		how many after them are for us to write
 *
 * Context: the ring's worker, the ring's mutex held.
 * Return: 0, or -EAGAIN if the ring has too much in flight of what this request
 * needs; then it was not started.
 */
int vhost_blk_req_start(struct vhost_blk_req *req, unsigned int out,
			unsigned int in)
{
	struct vhost_blk_vq *ring = req->ring;
	struct vhost_virtqueue *vq = &ring->vq;
	struct iovec *in_iov = vq->iov + out;
	struct iov_iter out_iter, in_iter;
	struct virtio_blk_outhdr hdr;
	size_t in_len;

	vhost_blk_req_reset(req);
	in_len = iov_length(in_iov, in);
	req->status_addr = vhost_blk_req_status_addr(in_iov, in);
	iov_iter_init(&out_iter, ITER_SOURCE, vq->iov, out,
		      iov_length(vq->iov, out));
	if (!req->status_addr ||
	    !copy_from_iter_full(&hdr, sizeof(hdr), &out_iter)) {
		ring->stats.malformed++;
		vhost_blk_req_fail(req, VIRTIO_BLK_S_IOERR);
		return 0;
	}
	iov_iter_init(&in_iter, ITER_DEST, in_iov, in, in_len - 1);
	req->sector = vhost64_to_cpu(vq, hdr.sector);
	req->type = vhost32_to_cpu(vq, hdr.type);
	trace_vhost_blk_req_start(req);
	return vhost_blk_req_dispatch(req, &out_iter, &in_iter);
}

/**
 * vhost_blk_req_done - the backend is through with a request
 * @req:	the request; may be gone when this returns
 *
 * Only queues: the rest needs the ring's mutex and may sleep. The RCU read
 * section keeps ring and worker alive; the last reference to them may be
 * dropped as soon as the request is on the list.
 * Context: any.
 */
void vhost_blk_req_done(struct vhost_blk_req *req)
{
	struct vhost_blk_vq *ring = req->ring;

	rcu_read_lock();
	/* Pairs with smp_mb() in vhost_blk_poll_idle(). */
	llist_add(&req->node, &ring->done);
	vhost_blk_poll_wake(ring);
	rcu_read_unlock();
}

static void vhost_blk_req_count(struct vhost_blk_req *req)
{
	struct vhost_blk_stats *stats = &req->ring->stats;

	if (req->status == VIRTIO_BLK_S_UNSUPP) {
		stats->unsupported++;
		return;
	}
	if (req->status) {
		stats->errors++;
		stats->disk_errors += !req->refused;
		vhost_blk_event_signal(req->ring->blk);
		return;
	}
	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		stats->reads++;
		stats->read_bytes += req->len;
		break;
	case VIRTIO_BLK_T_OUT:
	case VIRTIO_BLK_T_ZONE_APPEND:
		stats->writes++;
		stats->write_bytes += req->len;
		break;
	case VIRTIO_BLK_T_FLUSH:
		stats->flushes++;
		break;
	case VIRTIO_BLK_T_GET_ID:
		stats->get_ids++;
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_SECURE_ERASE:
		stats->discards++;
		stats->discard_bytes += vhost_blk_range_bytes(req);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		stats->write_zeroes++;
		stats->write_zeroes_bytes += vhost_blk_range_bytes(req);
		break;
	default:
		stats->zone_commands++;
	}
}

/* Did the disk, or we, write into the vectors? */
static bool vhost_blk_req_fills(const struct vhost_blk_req *req)
{
	return req->type == VIRTIO_BLK_T_IN ||
	       req->type == VIRTIO_BLK_T_ZONE_REPORT;
}

/**
 * vhost_blk_req_complete - finish a request: the one way out
 * @req:	the request
 *
 * Context: process, the ring's mutex held. Writes guest memory only if the
 * guest's memory is ours.
 * Return: the length for the used ring: what was really written.
 */
u32 vhost_blk_req_complete(struct vhost_blk_req *req)
{
	bool ours = current->mm == req->ring->blk->dev.mm;

	if (req->nr_bios)
		req->ring->backend->ops->release(req);
	if (req->nr_vecs)
		vhost_blk_map_release(req, vhost_blk_req_fills(req));
	if (req->nr_append)
		vhost_blk_zone_append_end(req, ours);
	vhost_blk_req_count(req);
	trace_vhost_blk_req_complete(req);
	if (req->nr_ranges)
		kvfree(req->ranges);
	if (!req->status_addr || !ours ||
	    put_user(req->status, (u8 __user *)req->status_addr))
		return 0;
	return (req->status ? 0 : req->used) + sizeof(req->status);
}
