// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: chains in, used entries out.
 */
#include <linux/delay.h>
#include <linux/sizes.h>

#include "trace.h"

/* Called with vq->mutex held, or as a hint without. */
static bool vhost_blk_ring_may_fetch(struct vhost_blk_vq *ring)
{
	return READ_ONCE(ring->vq.private_data) && !READ_ONCE(ring->broken) &&
	       !READ_ONCE(ring->full) && !READ_ONCE(ring->hold) &&
	       !READ_ONCE(ring->miss);
}

/*
 * A look at the available index without the ring's mutex: a hint. If guest
 * memory cannot be read, say yes, so that the look under the mutex finds out.
 */
static bool vhost_blk_ring_has_avail(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;
	vring_avail_t __user *avail;
	__virtio16 idx;

	avail = READ_ONCE(vq->iotlb) ? READ_ONCE(ring->avail) :
				       READ_ONCE(vq->avail);
	if (!avail || get_user(idx, &avail->idx))
		return true;
	return vhost16_to_cpu(vq, idx) != READ_ONCE(vq->last_avail_idx);
}

/* Is there anything to complete? Called with vq->mutex held, or as a hint without. */
static bool vhost_blk_ring_has_done(const struct vhost_blk_vq *ring)
{
	return !llist_empty(&ring->done) || READ_ONCE(ring->todo);
}

/**
 * vhost_blk_ring_has_work - is it worth to lock the ring and look?
 * @ring:	the ring
 *
 * Context: the ring's worker or its lead's, no ring's mutex held.
 */
bool vhost_blk_ring_has_work(struct vhost_blk_vq *ring)
{
	if (vhost_blk_ring_has_done(ring) || vhost_blk_signal_due(ring))
		return true;
	if (READ_ONCE(ring->nr_used) && !READ_ONCE(ring->miss))
		return true;
	return vhost_blk_ring_may_fetch(ring) && vhost_blk_ring_has_avail(ring);
}

/**
 * vhost_blk_ring_break - the guest violated the ring: take no more from it
 * @ring:	the ring
 *
 * What is in flight still completes. The guest's kicks are not listened to any
 * more, so they cost nothing; vhost_blk_backend_set() starts afresh.
 * Context: process, the ring's mutex held.
 */
void vhost_blk_ring_break(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;

	lockdep_assert_held(&vq->mutex);
	WRITE_ONCE(ring->broken, true);
	ring->stats.ring_errors++;
	trace_vhost_blk_ring_break(ring);
	if (vq->kick)
		vhost_poll_stop(&vq->poll);
}

/*
 * Most bytes that a ring may start in one go, and complete, whatever the size of
 * its requests: submission sleeps when the device has had enough, pages are
 * unpinned one by one and copied if they were bounced, and others wait for the
 * worker and the mutex meanwhile.
 */
#define VHOST_BLK_BYTE_WEIGHT	SZ_1M

/* Start the request at @head, or put it back for later. */
static bool vhost_blk_ring_start(struct vhost_blk_vq *ring, unsigned int head,
				 unsigned int out, unsigned int in,
				 unsigned int ndesc)
{
	struct vhost_blk_req *req = &ring->reqs[head];

	req->busy = true;
	WRITE_ONCE(ring->inflight, ring->inflight + 1);
	if (!vhost_blk_req_start(req, out, in))
		return true;
	WRITE_ONCE(ring->inflight, ring->inflight - 1);
	req->busy = false;
	vhost_discard_vq_desc(&ring->vq, 1, ndesc);
	WRITE_ONCE(ring->full, true);
	return false;
}

/* Fetch and start at most a batch of requests. */
static unsigned int vhost_blk_ring_fetch(struct vhost_blk_vq *ring)
{
	unsigned int out, in, n, ndesc, bytes = 0;
	struct vhost_virtqueue *vq = &ring->vq;
	int head;

	if (!vhost_blk_ring_may_fetch(ring) || !vhost_blk_iotlb_ready(ring))
		return 0;

	vhost_disable_notify(&ring->blk->dev, vq);
	for (n = 0; n < ring->batch && bytes < VHOST_BLK_BYTE_WEIGHT; n++) {
		head = vhost_get_vq_desc_n(vq, vq->iov, ARRAY_SIZE(vq->iov),
					   &out, &in, NULL, NULL, &ndesc);
		if (head == vq->num)
			break;
		if (head == -EAGAIN) {
			vhost_blk_iotlb_park(ring);
			break;
		}
		if (unlikely(head < 0)) {
			vhost_blk_ring_break(ring);
			break;
		}
		if (unlikely(ring->reqs[head].busy)) {
			vq_err(vq, "head %d is in flight already\n", head);
			vhost_blk_ring_break(ring);
			break;
		}
		if (unlikely(!vhost_blk_ring_start(ring, head, out, in, ndesc)))
			break;
		/* Still there: only this thread, later, puts it on the used ring. */
		bytes += ring->reqs[head].len;
	}
	if (n) {
		ring->stats.batches++;
		vhost_blk_signal_arrived(ring);
	}
	return n;
}

static void vhost_blk_ring_drop(struct vhost_blk_vq *ring, unsigned int n)
{
	WRITE_ONCE(ring->inflight, ring->inflight - n);
	if (!ring->inflight)
		wake_up_all(&ring->drained);
}

/* What the backend was through with first. */
static struct vhost_blk_req *vhost_blk_ring_next_done(struct vhost_blk_vq *ring)
{
	struct llist_node *node = ring->todo;

	if (!node && !llist_empty(&ring->done))
		node = llist_reverse_order(llist_del_all(&ring->done));
	if (!node)
		return NULL;
	WRITE_ONCE(ring->todo, node->next);
	return llist_entry(node, struct vhost_blk_req, node);
}

/*
 * Complete at most a batch of what the backend is through with. Return: how many
 * were looked at; those that are not complete after all are submitted again.
 */
static unsigned int vhost_blk_ring_reap(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;
	unsigned int i, n = 0, bytes = 0;
	struct vring_used_elem *used;
	struct vhost_blk_req *req;
	u32 len;

	for (i = 0; i < ring->batch && bytes < VHOST_BLK_BYTE_WEIGHT; i++) {
		req = vhost_blk_ring_next_done(ring);
		if (!req)
			break;
		if (unlikely(req->again)) {
			ring->backend->ops->again(req);
			continue;
		}
		bytes += req->len;
		len = vhost_blk_req_complete(req);
		/* There is room: a head is busy until it leaves @heads. */
		used = &ring->heads[ring->nr_used + n++];
		used->id = cpu_to_vhost32(vq, req->head);
		used->len = cpu_to_vhost32(vq, len);
	}
	if (i) {
		WRITE_ONCE(ring->nr_used, ring->nr_used + n);
		WRITE_ONCE(ring->full, false);
	}
	return i;
}

/*
 * Put what is complete on the used ring, if that can be accessed. Without an
 * owner nobody is left who would look at it.
 */
static void vhost_blk_ring_publish(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;
	unsigned int i;

	if (!ring->nr_used)
		return;
	if (current->mm == ring->blk->dev.mm) {
		if (!vhost_blk_iotlb_ready(ring))
			return;
		if (vhost_add_used_n(vq, ring->heads, NULL, ring->nr_used))
			vhost_blk_ring_break(ring);
		vhost_blk_signal_add(ring, ring->nr_used);
	}
	for (i = 0; i < ring->nr_used; i++)
		ring->reqs[vhost32_to_cpu(vq, ring->heads[i].id)].busy = false;
	WRITE_ONCE(ring->nr_used, 0);
}

/* Complete and publish; the waiters for the end of a drain come last. */
static unsigned int vhost_blk_ring_finish(struct vhost_blk_vq *ring)
{
	unsigned int before = ring->nr_used, seen, n;

	seen = vhost_blk_ring_reap(ring);
	n = ring->nr_used - before;
	vhost_blk_ring_publish(ring);
	if (n)
		vhost_blk_ring_drop(ring, n);
	return seen;
}

/**
 * vhost_blk_ring_service - complete a batch, fetch a batch, signal if due
 * @ring:	the ring
 * @by:		the poller that runs: the ring's, or its lead
 *
 * Where submission has slept of late, no signal is held meanwhile.
 * Context: @by's worker, under a plug.
 * Return: how many requests were moved; a signal that was due counts as one.
 */
unsigned int vhost_blk_ring_service(struct vhost_blk_vq *ring,
				    struct vhost_blk_poller *by)
{
	unsigned long switches;
	unsigned int n;

	mutex_lock(&ring->vq.mutex);
	ring->signal.at_once = by->careful;
	switches = current->nvcsw;
	n = vhost_blk_ring_finish(ring);
	n += vhost_blk_ring_fetch(ring);
	if (unlikely(vhost_blk_poll_slept(by, switches)))
		vhost_blk_signal_flush(ring);
	n += vhost_blk_signal_check(ring);
	mutex_unlock(&ring->vq.mutex);
	return n;
}

/**
 * vhost_blk_ring_idle - ask for notifications, then look once more
 * @ring:	the ring
 *
 * vhost_enable_notify() compares the cached available index alone and says
 * false when entries are cached but not consumed: both are looked at. It does not
 * look at all when notifications are on, as after an attempt to sleep that another
 * ring thwarted; and whoever is led leaves to the lead what it was notified of. So
 * they are turned off first.
 * Context: the ring's worker or its lead's, &vhost_blk_poller.awake is false, no
 * ring's mutex held.
 * Return: false if there is something to do after all; notifications are off
 * again then.
 */
bool vhost_blk_ring_idle(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;
	bool idle = true;

	mutex_lock(&vq->mutex);
	vhost_blk_signal_idle(ring);
	if (vhost_blk_ring_may_fetch(ring)) {
		if (!vhost_blk_iotlb_ready(ring)) {
			/* Parked or broken, as a rule. */
			idle = !vhost_blk_ring_may_fetch(ring);
		} else {
			vhost_disable_notify(&ring->blk->dev, vq);
			idle = !vhost_enable_notify(&ring->blk->dev, vq) &&
			       vq->avail_idx == vq->last_avail_idx;
			if (!idle)
				vhost_disable_notify(&ring->blk->dev, vq);
		}
	}
	if (vhost_blk_ring_has_done(ring) || (ring->nr_used && !ring->miss &&
					      !ring->broken))
		idle = false;
	mutex_unlock(&vq->mutex);
	return idle;
}

/**
 * vhost_blk_ring_settle - put all that is complete on the used ring
 * @ring:	the ring; nothing is in flight
 *
 * Context: process, in the guest's address space, &vhost_dev.mutex held.
 * Return: 0, or -EAGAIN if a translation that the VMM was asked for is missing.
 * What the guest itself forbids to tell it is dropped.
 */
int vhost_blk_ring_settle(struct vhost_blk_vq *ring)
{
	int ret = 0;

	mutex_lock(&ring->vq.mutex);
	vhost_blk_ring_publish(ring);
	if (ring->nr_used && (ring->miss || !ring->broken))
		ret = -EAGAIN;
	mutex_unlock(&ring->vq.mutex);
	return ret;
}

/**
 * vhost_blk_ring_drain_work - complete requests of a ring without a worker
 * @work:	&vhost_blk_vq.drain_work
 *
 * The owner was killed. Its memory is unpinned, but not written any more. Nobody
 * else asks for what comes without an interrupt, nor serves those who were led.
 */
void vhost_blk_ring_drain_work(struct work_struct *work)
{
	struct vhost_blk_vq *ring = container_of(work, struct vhost_blk_vq,
						 drain_work);
	bool busy;

	vhost_blk_share_leave(READ_ONCE(ring->poller));
	mutex_lock(&ring->vq.mutex);
	vhost_blk_iopoll_ring(ring);
	do {
		vhost_blk_ring_finish(ring);
	} while (vhost_blk_ring_has_done(ring));
	busy = vhost_blk_iopoll_busy(ring);
	mutex_unlock(&ring->vq.mutex);
	if (busy) {
		usleep_range(20, 100);
		queue_work(vhost_blk_drain_wq, work);
	}
}
