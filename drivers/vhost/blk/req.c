// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: what the guest asks for. VIRTIO 1.3, 5.2.6 Device Operation.
 *
 * The header is copied once, here, and never read again. A chain that is sound
 * as a chain but not as a request is completed with a status; it does not stop
 * the ring.
 */
#include "trace.h"

/* End a request that never reaches the backend. */
static void vhost_blk_req_fail(struct vhost_blk_req *req, u8 status)
{
	req->status = status;
	vhost_blk_req_done(req);
}

/* Check what READ and WRITE have in common, and pin the data. */
static void vhost_blk_req_start_rw(struct vhost_blk_req *req,
				   struct iov_iter *data, bool write)
{
	u8 status = VIRTIO_BLK_S_IOERR;

	if (iov_iter_count(data) <= INT_MAX) {
		req->len = iov_iter_count(data);
		status = vhost_blk_bdev_check(req, write);
	}
	if (!status && req->len && vhost_blk_map_data(req, data, write))
		status = VIRTIO_BLK_S_IOERR;
	if (status || !req->len) {
		vhost_blk_req_fail(req, status);
		return;
	}
	req->execute(req);
}

static void vhost_blk_req_start_in(struct vhost_blk_req *req,
				   struct iov_iter *out, struct iov_iter *in)
{
	req->execute = vhost_blk_bdev_read;
	vhost_blk_req_start_rw(req, in, false);
}

static void vhost_blk_req_start_out(struct vhost_blk_req *req,
				    struct iov_iter *out, struct iov_iter *in)
{
	req->execute = vhost_blk_bdev_write;
	vhost_blk_req_start_rw(req, out, true);
}

static void vhost_blk_req_start_flush(struct vhost_blk_req *req,
				      struct iov_iter *out, struct iov_iter *in)
{
	req->execute = vhost_blk_bdev_flush;
	req->execute(req);
}

static void vhost_blk_req_execute_get_id(struct vhost_blk_req *req)
{
	vhost_blk_req_done(req);
}

/* Section 5.2.6: 20 bytes, padded with NULs; drivers may offer less room. */
static void vhost_blk_req_start_get_id(struct vhost_blk_req *req,
				       struct iov_iter *out, struct iov_iter *in)
{
	size_t len = min_t(size_t, iov_iter_count(in), VIRTIO_BLK_ID_BYTES);

	req->execute = vhost_blk_req_execute_get_id;
	if (copy_to_iter(req->ring->id, len, in) != len)
		req->status = VIRTIO_BLK_S_IOERR;
	else
		req->len = len;
	req->execute(req);
}

/* What there is to do for a type of request, chosen once. */
static void vhost_blk_req_parse(struct vhost_blk_req *req, u32 type,
				struct iov_iter *out, struct iov_iter *in)
{
	switch (type) {
	case VIRTIO_BLK_T_IN:
		vhost_blk_req_start_in(req, out, in);
		break;
	case VIRTIO_BLK_T_OUT:
		vhost_blk_req_start_out(req, out, in);
		break;
	case VIRTIO_BLK_T_FLUSH:
		vhost_blk_req_start_flush(req, out, in);
		break;
	case VIRTIO_BLK_T_GET_ID:
		vhost_blk_req_start_get_id(req, out, in);
		break;
	default:
		req->execute = NULL;
		vhost_blk_req_fail(req, VIRTIO_BLK_S_UNSUPP);
	}
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

/**
 * vhost_blk_req_start - parse a chain and set it going
 * @req:	the slot of the chain's head; busy
 * @out:	how many of &vhost_virtqueue.iov the guest wrote for us
 * @in:		how many after them are for us to write
 *
 * Context: the ring's worker, the ring's mutex held.
 */
void vhost_blk_req_start(struct vhost_blk_req *req, unsigned int out,
			 unsigned int in)
{
	struct vhost_blk_vq *ring = req->ring;
	struct vhost_virtqueue *vq = &ring->vq;
	struct iovec *in_iov = vq->iov + out;
	struct iov_iter out_iter, in_iter;
	struct virtio_blk_outhdr hdr;
	size_t in_len;
	u32 type;

	req->status = VIRTIO_BLK_S_OK;
	req->len = 0;
	req->nr_vecs = 0;
	req->nr_bios = 0;
	req->execute = NULL;

	in_len = iov_length(in_iov, in);
	req->status_addr = vhost_blk_req_status_addr(in_iov, in);
	iov_iter_init(&out_iter, ITER_SOURCE, vq->iov, out,
		      iov_length(vq->iov, out));
	if (!req->status_addr ||
	    !copy_from_iter_full(&hdr, sizeof(hdr), &out_iter)) {
		ring->stats.malformed++;
		vhost_blk_req_fail(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	iov_iter_init(&in_iter, ITER_DEST, in_iov, in, in_len - 1);
	req->sector = vhost64_to_cpu(vq, hdr.sector);
	type = vhost32_to_cpu(vq, hdr.type);
	trace_vhost_blk_req_start(req, type);
	vhost_blk_req_parse(req, type, &out_iter, &in_iter);
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
	} else if (req->status) {
		stats->errors++;
	} else if (req->execute == vhost_blk_bdev_read) {
		stats->reads++;
		stats->read_bytes += req->len;
	} else if (req->execute == vhost_blk_bdev_write) {
		stats->writes++;
		stats->write_bytes += req->len;
	} else if (req->execute == vhost_blk_bdev_flush) {
		stats->flushes++;
	} else {
		stats->get_ids++;
	}
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
	bool read = req->execute == vhost_blk_bdev_read;
	u32 len = 0;

	if (req->nr_vecs) {
		if (!read)
			vhost_blk_bdev_write_done(req);
		vhost_blk_map_release(req, read);
	}
	if (req->nr_bios)
		vhost_blk_bdev_release(req);
	vhost_blk_req_count(req);
	trace_vhost_blk_req_complete(req);
	if (!req->status && req->execute != vhost_blk_bdev_write)
		len = req->len;
	if (!req->status_addr || current->mm != req->ring->blk->dev.mm ||
	    put_user(req->status, (u8 __user *)req->status_addr))
		return 0;
	return len + sizeof(req->status);
}
