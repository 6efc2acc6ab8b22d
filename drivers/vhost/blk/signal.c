// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: when the guest is told that requests are completed.
 *
 * An interrupt may cost the guest more than the request behind it. While more
 * completions are to be expected the signal is held, so that it does for all of
 * them, but no longer than the bound that VHOST_BLK_SET_POLL gave; and until the
 * worker gets the CPU, if it naps at the end of that.
 *
 * What is to be expected cannot be seen: to us, a guest that waits for its only
 * request looks like one that is about to send the next of 32. So a ring has a
 * goal, the number of completions that are worth a signal, and learns it. A
 * signal is sent as soon as the goal is reached, and reaching it is what holding
 * is for. If the goal is not reached in time, the guest has waited for nothing:
 * the goal falls towards what there was. It is doubled once it was reached some
 * times in a row, and the more attempts at that fail, the rarer they become. At
 * depth 1 the goal is 1: nothing is held but for one attempt in a thousand.
 *
 * Behind a virtual IOMMU nothing is held: when time is up, the ring might not be
 * accessible.
 *
 * There is no timer of a signal's own. The poll loop looks at the deadline, and naps
 * no longer than that; whoever lets the loop rest otherwise sends what is held.
 */
#include <linux/sched/clock.h>

#include "vhost_blk.h"

/* The goal is doubled after it was reached so often: at first, and at most. */
#define VHOST_BLK_SIGNAL_TRY_MIN	4
#define VHOST_BLK_SIGNAL_TRY_MAX	1024

/* A goal that was reached so often was a good one, even if it fails now. */
#define VHOST_BLK_SIGNAL_PROVEN		16U

/**
 * vhost_blk_signal_bound - how long may a signal be held?
 * @ring:	the ring
 *
 * Context: any.
 * Return: ns; 0: it is sent at once.
 */
u64 vhost_blk_signal_bound(const struct vhost_blk_vq *ring)
{
	if (READ_ONCE(ring->vq.iotlb))
		return 0;
	return (u64)READ_ONCE(ring->signal.us) * NSEC_PER_USEC;
}

/**
 * vhost_blk_signal_left - how long may the signal that is held still be?
 * @ring:	the ring
 *
 * Context: the ring's worker.
 * Return: ns; U64_MAX: none is held.
 */
u64 vhost_blk_signal_left(const struct vhost_blk_vq *ring)
{
	u64 since = READ_ONCE(ring->signal.since), held;

	if (!since)
		return U64_MAX;
	held = local_clock() - since;
	return vhost_blk_signal_bound(ring) - min(held, vhost_blk_signal_bound(ring));
}

/**
 * vhost_blk_signal_init - nothing is held, and nothing is known of the guest
 * @ring:	the ring
 *
 * Context: the ring's mutex held, or the ring not known to anybody.
 */
void vhost_blk_signal_init(struct vhost_blk_vq *ring)
{
	struct vhost_blk_signal *signal = &ring->signal;

	WRITE_ONCE(signal->since, 0);
	signal->held = 0;
	signal->goal = 1;
	signal->reached = 0;
	signal->credit = 0;
	signal->try_after = VHOST_BLK_SIGNAL_TRY_MIN;
	signal->trying = false;
}

/* The goal was reached in time. */
static void vhost_blk_signal_paid(struct vhost_blk_vq *ring)
{
	struct vhost_blk_signal *signal = &ring->signal;

	if (signal->trying)
		signal->try_after = VHOST_BLK_SIGNAL_TRY_MIN;
	signal->trying = false;
	signal->credit = min(signal->credit + 1, VHOST_BLK_SIGNAL_PROVEN);
	if (++signal->reached < signal->try_after ||
	    signal->goal >= ring->vq.num)
		return;
	signal->goal = min(signal->goal * 2, ring->vq.num);
	signal->reached = 0;
	signal->trying = true;
}

/* Has nothing moved here for a while, but on other rings of the same poller? */
static bool vhost_blk_signal_elsewhere(const struct vhost_blk_vq *ring)
{
	u64 last = ring->poller->last, moved = ring->signal.moved;

	return last > moved && last - moved >= vhost_blk_signal_bound(ring) / 8;
}

/*
 * The goal was not reached in time. The guest may have been busy with its other
 * disks, as long as it is reached more often than not. If it had proved to be good,
 * the guest may have been held up this once. Otherwise, a quarter less than there
 * was: then the guest has something to do until the signal gets there. But not less
 * than half the goal, as it may have been held up twice.
 */
static void vhost_blk_signal_missed(struct vhost_blk_vq *ring)
{
	struct vhost_blk_signal *signal = &ring->signal;

	ring->stats.hold_misses++;
	if (signal->credit && vhost_blk_signal_elsewhere(ring)) {
		signal->credit--;
		return;
	}
	signal->credit = 0;
	if (signal->reached >= VHOST_BLK_SIGNAL_PROVEN) {
		signal->try_after = VHOST_BLK_SIGNAL_TRY_MIN;
	} else {
		signal->goal = max3(signal->held * 3 / 4, signal->goal / 2, 1U);
		signal->try_after = min(signal->try_after * 2,
					VHOST_BLK_SIGNAL_TRY_MAX);
	}
	signal->reached = 0;
	signal->trying = false;
}

static void vhost_blk_signal_send(struct vhost_blk_vq *ring)
{
	WRITE_ONCE(ring->signal.since, 0);
	ring->signal.held = 0;
	ring->stats.signals++;
	vhost_signal(&ring->blk->dev, &ring->vq);
}

/**
 * vhost_blk_signal_add - completions were put on the used ring
 * @ring:	the ring
 * @n:		how many
 *
 * Context: as vhost_blk_signal_flush().
 */
void vhost_blk_signal_add(struct vhost_blk_vq *ring, unsigned int n)
{
	struct vhost_blk_signal *signal = &ring->signal;

	lockdep_assert_held(&ring->vq.mutex);
	if (signal->since)
		ring->stats.signals_saved++;
	signal->held += n;
	if (!vhost_blk_signal_bound(ring)) {
		vhost_blk_signal_send(ring);
	} else if (signal->held >= signal->goal) {
		vhost_blk_signal_paid(ring);
		vhost_blk_signal_send(ring);
	} else {
		signal->moved = local_clock();
		if (signal->since)
			return;
		ring->stats.signal_holds++;
		WRITE_ONCE(signal->since, signal->moved);
	}
}

/**
 * vhost_blk_signal_arrived - the guest has sent requests
 * @ring:	the ring
 *
 * Context: process, the ring's mutex held.
 */
void vhost_blk_signal_arrived(struct vhost_blk_vq *ring)
{
	if (ring->signal.since)
		ring->signal.moved = local_clock();
}

/**
 * vhost_blk_signal_due - is there a signal that may not be held any longer?
 * @ring:	the ring
 *
 * That is so at the bound; or before, if nothing is in flight and for a quarter
 * of the bound nothing has come: the guest waits.
 * Context: the ring's worker.
 */
bool vhost_blk_signal_due(const struct vhost_blk_vq *ring)
{
	const struct vhost_blk_signal *signal = &ring->signal;
	u64 since = READ_ONCE(signal->since), bound, now;

	if (!since)
		return false;
	bound = vhost_blk_signal_bound(ring);
	now = local_clock();
	if (now - since >= bound)
		return true;
	return !READ_ONCE(ring->inflight) &&
	       now - READ_ONCE(signal->moved) >= bound / 4;
}

/**
 * vhost_blk_signal_check - send the signal if it is due
 * @ring:	the ring
 *
 * Context: as vhost_blk_signal_flush().
 */
void vhost_blk_signal_check(struct vhost_blk_vq *ring)
{
	if (!vhost_blk_signal_due(ring))
		return;
	vhost_blk_signal_missed(ring);
	vhost_blk_signal_send(ring);
}

/**
 * vhost_blk_signal_idle - send what is held, as nothing more has come
 * @ring:	the ring
 *
 * Context: as vhost_blk_signal_flush().
 */
void vhost_blk_signal_idle(struct vhost_blk_vq *ring)
{
	if (!ring->signal.since)
		return;
	vhost_blk_signal_missed(ring);
	vhost_blk_signal_send(ring);
}

/**
 * vhost_blk_signal_flush - send what is held, as nobody looks after it soon
 * @ring:	the ring
 *
 * Nothing is learned from it. Context: process, in the owner's address space,
 * the ring's mutex held.
 */
void vhost_blk_signal_flush(struct vhost_blk_vq *ring)
{
	lockdep_assert_held(&ring->vq.mutex);
	if (ring->signal.since)
		vhost_blk_signal_send(ring);
}
