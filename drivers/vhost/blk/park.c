// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: which poller serves which ring.
 *
 * Each worker has one poller, the one that lies in the first of its rings. The
 * assignment changes when a ring starts or stops, which pollers that run may see
 * late; and when workers change, for which all pollers of the device are parked.
 */
#include "vhost_blk.h"

/**
 * vhost_blk_poll_park - let no poller run until vhost_blk_poll_unpark()
 * @blk:	the device
 *
 * Requests that complete meanwhile wait on their rings. Context: process, the
 * owner, &vhost_dev.mutex held.
 */
void vhost_blk_poll_park(struct vhost_blk *blk)
{
	struct vhost_blk_poller *poller;
	int i;

	lockdep_assert_held(&blk->dev.mutex);
	WRITE_ONCE(blk->parked, true);
	vhost_dev_flush(&blk->dev);
	for (i = 0; i < blk->dev.nvqs; i++) {
		/* One that naps has not seen that it is parked. */
		poller = &blk->rings[i]->own;
		vhost_blk_nap_stop(poller);
		vhost_blk_share_leave(poller);
		vhost_blk_poll_flush(poller, NULL);
		WRITE_ONCE(poller->awake, false);
	}
	/*
	 * A timer may have been faster. And the last completion of a ring that has
	 * stopped may still be about to queue its poller, on a worker that vhost
	 * core does not flush any more once no ring is attached to it.
	 */
	if (blk->late) {
		synchronize_rcu();
		blk->late = false;
	}
	vhost_dev_flush(&blk->dev);
}

/* The ring that lends its poller to all rings of @ring's worker. */
static struct vhost_blk_vq *vhost_blk_poll_leader(struct vhost_blk_vq *ring)
{
	struct vhost_blk *blk = ring->blk;
	unsigned int i;

	for (i = 0; i < ring->index; i++)
		if (rcu_access_pointer(blk->vqs[i]->worker) ==
		    rcu_access_pointer(ring->vq.worker))
			break;
	return blk->rings[i];
}

/**
 * vhost_blk_poll_unpark - find out which poller serves which ring, and resume
 * @blk:	the device, parked or new
 *
 * Context: process, &vhost_dev.mutex held.
 */
void vhost_blk_poll_unpark(struct vhost_blk *blk)
{
	struct vhost_blk_vq *ring;
	int i;

	lockdep_assert_held(&blk->dev.mutex);
	for (i = 0; i < blk->dev.nvqs; i++) {
		ring = blk->rings[i];
		ring->own.rings = 0;
		WRITE_ONCE(ring->poller, &vhost_blk_poll_leader(ring)->own);
		if (ring->backend)
			ring->poller->rings |= BIT_ULL(i);
	}
	/*
	 * A completion that still saw the old poller may queue it on the ring's
	 * new worker, and a kick may run it there: let that happen while all are
	 * parked.
	 */
	if (vhost_blk_backend_active(blk))
		synchronize_rcu();
	vhost_dev_flush(&blk->dev);
	WRITE_ONCE(blk->parked, false);
	rcu_read_lock();
	for (i = 0; i < blk->dev.nvqs; i++)
		if (blk->rings[i]->backend)
			vhost_blk_poll_wake(blk->rings[i]);
	rcu_read_unlock();
}

/**
 * vhost_blk_poll_add - a ring was started
 * @ring:	the ring; its backend is set
 *
 * Context: process, &vhost_dev.mutex held.
 */
void vhost_blk_poll_add(struct vhost_blk_vq *ring)
{
	struct vhost_blk_poller *poller = ring->poller;

	lockdep_assert_held(&ring->blk->dev.mutex);
	WRITE_ONCE(poller->rings, poller->rings | BIT_ULL(ring->index));
	/* The poller may be past its look at the rings: queue it anyway. */
	vhost_vq_work_queue(poller->vq, &poller->work);
}

/**
 * vhost_blk_poll_remove - a ring was stopped and is drained
 * @ring:	the ring
 *
 * Context: process, &vhost_dev.mutex held.
 */
void vhost_blk_poll_remove(struct vhost_blk_vq *ring)
{
	struct vhost_blk_poller *poller = ring->poller;

	lockdep_assert_held(&ring->blk->dev.mutex);
	WRITE_ONCE(poller->rings, poller->rings & ~BIT_ULL(ring->index));
	/* Pairs with the barrier in vhost_blk_share_enter(). */
	smp_mb();
	if (!poller->rings)
		vhost_blk_share_leave(poller);
}
