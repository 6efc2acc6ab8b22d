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
 * is for.
 *
 * A guest that has sent more than we knew it to, before it looked at what is
 * complete, has a larger depth: twice that is tried. Once the guest waits, the goal is
 * three quarters of what there was. A guest that does not tell how far it has looked
 * is tried with twice the goal now and then, and the more attempts fail, the rarer
 * they become. At depth 1 the goal is 1: nothing is held, but for one attempt in a
 * thousand in a guest that does not tell.
 *
 * Behind a virtual IOMMU nothing is held: when time is up, the ring might not be
 * accessible.
 *
 * There is no timer of a signal's own. The poll loop looks at the deadline, and naps
 * no longer than that; whoever lets the loop rest otherwise sends what is held.
 */
#include <linux/sched/clock.h>

#include "vhost_blk.h"

/*
 * A larger goal is tried after the goal was reached so often: at first, at most, and at
 * most if the guest has told that it may be reached.
 */
#define VHOST_BLK_SIGNAL_TRY_MIN	1
#define VHOST_BLK_SIGNAL_TRY_MAX	1024
#define VHOST_BLK_SIGNAL_TRY_TOLD	64

/* A goal that is missed costs so much of the credit that it has by being reached. */
#define VHOST_BLK_SIGNAL_PRICE		4U
#define VHOST_BLK_SIGNAL_CREDIT		16U

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

/* Another CPU's clock may have been ahead. */
static u64 vhost_blk_signal_passed(u64 since, u64 now)
{
	return now > since ? now - since : 0;
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
	u64 since = READ_ONCE(ring->signal.since), bound = vhost_blk_signal_bound(ring);

	if (!since)
		return U64_MAX;
	return bound - min(vhost_blk_signal_passed(since, local_clock()), bound);
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
	WRITE_ONCE(signal->held, 0);
	signal->goal = 1;
	signal->depth = 1;
	signal->peak = 0;
	signal->took = 0;
	signal->tells = false;
	signal->reached = 0;
	signal->credit = 0;
	signal->try_after = VHOST_BLK_SIGNAL_TRY_MIN;
	signal->trying = false;
}

/*
 * How many requests has the guest sent whose end it has not seen? It tells how far
 * it has looked (VIRTIO 1.3, 2.7.7, used_event), but for a zero by which Linux says
 * that it does not want a signal. Negative: it does not tell, or nonsense. Without the
 * ring's mutex a hint, as the indexes are.
 */
static int vhost_blk_signal_outstanding(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;
	vring_avail_t __user *avail = READ_ONCE(vq->avail);
	unsigned int num = READ_ONCE(vq->num);
	__virtio16 seen;
	u16 n;

	if (!vhost_has_feature(vq, VIRTIO_RING_F_EVENT_IDX) ||
	    get_user(seen, &avail->ring[num]) ||
	    (!seen && READ_ONCE(vq->last_used_idx) > num))
		return -1;
	n = READ_ONCE(vq->avail_idx) - vhost16_to_cpu(vq, seen);
	return n <= num ? n : -1;
}

/*
 * A larger goal that is worth a try, or the same. If the guest tells what it has
 * outstanding, it has to be more than it was known to have.
 */
static unsigned int vhost_blk_signal_larger(struct vhost_blk_vq *ring)
{
	struct vhost_blk_signal *signal = &ring->signal;

	if (!signal->tells || signal->peak > signal->depth)
		return min(max(signal->goal, signal->peak) * 2, ring->vq.num);
	if (signal->peak > signal->goal)
		return max(signal->depth * 3 / 4, signal->goal);
	return signal->goal;
}

/* The goal was reached in time. */
static void vhost_blk_signal_paid(struct vhost_blk_vq *ring)
{
	struct vhost_blk_signal *signal = &ring->signal;
	unsigned int goal;

	WRITE_ONCE(signal->took, signal->since ?
		   vhost_blk_signal_passed(signal->since, local_clock()) : 0);
	if (signal->trying && signal->goal > signal->depth) {
		signal->try_after = VHOST_BLK_SIGNAL_TRY_MIN;
		signal->credit = 0;
	}
	signal->trying = false;
	signal->credit = min(signal->credit + 1, VHOST_BLK_SIGNAL_CREDIT);
	if (++signal->reached < signal->try_after)
		return;
	goal = vhost_blk_signal_larger(ring);
	if (goal == signal->goal)
		return;
	signal->was = signal->goal;
	signal->goal = goal;
	signal->reached = 0;
	signal->trying = true;
}

/* Has nothing moved here for a while, but on other rings of the same poller? */
static bool vhost_blk_signal_elsewhere(const struct vhost_blk_vq *ring)
{
	u64 last = ring->poller->last, moved = ring->signal.moved;
	u64 rings = READ_ONCE(ring->poller->rings);

	if (!(rings & (rings - 1)) &&
	    !vhost_blk_share_others(ring->poller))
		return false;
	return last > moved && last - moved >= vhost_blk_signal_bound(ring) / 8;
}

/*
 * Does the guest wait? Nothing is in flight, and for some time nothing has come. The
 * more the last signal stood for, the longer is the guest busy with that. If it has
 * not even looked at all that it was signalled, it is not this signal that it lacks.
 */
static bool vhost_blk_signal_waits(struct vhost_blk_vq *ring, u64 now)
{
	const struct vhost_blk_signal *signal = &ring->signal;
	u64 bound = vhost_blk_signal_bound(ring);

	return !READ_ONCE(ring->inflight) &&
	       vhost_blk_signal_passed(READ_ONCE(signal->moved), now) >=
	       clamp(READ_ONCE(signal->took), bound / 8, bound / 2) &&
	       vhost_blk_signal_outstanding(ring) <= (int)READ_ONCE(signal->held);
}

/* An attempt has failed, or a goal was missed: be slower to try. */
static void vhost_blk_signal_back_off(struct vhost_blk_signal *signal)
{
	unsigned int most = signal->tells ? VHOST_BLK_SIGNAL_TRY_TOLD :
					    VHOST_BLK_SIGNAL_TRY_MAX;

	signal->try_after = min(signal->try_after * 2, most);
}

/*
 * The guest has waited for nothing: there was all that it has. A quarter less is the
 * goal, so that it has something to do until the signal gets there; an attempt has not
 * failed if that is more than before. If there was less than is known to be good, it may
 * have been held up instead: not less than before an attempt, or than half the goal.
 */
static void vhost_blk_signal_lower(struct vhost_blk_signal *signal)
{
	unsigned int good = signal->trying ? signal->was : signal->goal / 2;
	unsigned int most = signal->held * 3 / 4;

	if (!signal->trying || most <= signal->was)
		vhost_blk_signal_back_off(signal);
	signal->goal = max(signal->held < good ? good : most, 1U);
	signal->depth = max(signal->held, signal->goal);
}

/*
 * The guest, or the disk, is still at work: no more than this fits into the bound. If
 * it is far less, something slow is in flight, and the guest may wait for the others.
 */
static void vhost_blk_signal_fit(struct vhost_blk_signal *signal)
{
	unsigned int good = signal->trying ? signal->was : signal->goal / 2;

	if (signal->held <= good)
		vhost_blk_signal_back_off(signal);
	signal->goal = max3(signal->held, signal->trying ? signal->was : 1, 1U);
	signal->depth = max(signal->peak, signal->held);
}

/*
 * The goal was not reached in time. If it is, as a rule, the guest may have been held
 * up this once, or have been busy with its other disks. If it has seen all that it
 * sent before it was signalled, it lacks nothing.
 */
static void vhost_blk_signal_missed(struct vhost_blk_vq *ring, bool waits)
{
	struct vhost_blk_signal *signal = &ring->signal;
	unsigned int price = VHOST_BLK_SIGNAL_PRICE;

	if (!vhost_blk_signal_outstanding(ring))
		return;
	ring->stats.hold_misses++;
	if (vhost_blk_signal_elsewhere(ring))
		price = 1;
	if (!signal->trying && signal->credit >= price) {
		signal->credit -= price;
		return;
	}
	if (waits)
		vhost_blk_signal_lower(signal);
	else
		vhost_blk_signal_fit(signal);
	signal->credit = 0;
	signal->reached = 0;
	signal->trying = false;
}

static void vhost_blk_signal_send(struct vhost_blk_vq *ring)
{
	struct vhost_blk_signal *signal = &ring->signal;

	WRITE_ONCE(signal->since, 0);
	WRITE_ONCE(signal->held, 0);
	signal->peak = 0;
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
	WRITE_ONCE(signal->held, signal->held + n);
	if (signal->at_once || !vhost_blk_signal_bound(ring)) {
		vhost_blk_signal_send(ring);
	} else if (signal->held >= signal->goal) {
		vhost_blk_signal_paid(ring);
		vhost_blk_signal_send(ring);
	} else {
		WRITE_ONCE(signal->moved, local_clock());
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
	struct vhost_blk_signal *signal = &ring->signal;
	int outstanding;

	if (!vhost_blk_signal_bound(ring))
		return;
	outstanding = vhost_blk_signal_outstanding(ring);
	if (outstanding > 0) {
		signal->tells = true;
		signal->peak = max_t(unsigned int, signal->peak, outstanding);
	}
	if (signal->since)
		WRITE_ONCE(signal->moved, local_clock());
}

static bool vhost_blk_signal_over(struct vhost_blk_vq *ring, u64 now)
{
	return vhost_blk_signal_passed(READ_ONCE(ring->signal.since), now) >=
	       vhost_blk_signal_bound(ring);
}

/**
 * vhost_blk_signal_due - is there a signal that may not be held any longer?
 * @ring:	the ring
 *
 * That is so at the bound; or before, if the guest waits.
 * Context: the ring's worker; without the ring's mutex a hint.
 */
bool vhost_blk_signal_due(struct vhost_blk_vq *ring)
{
	u64 now;

	if (!READ_ONCE(ring->signal.since))
		return false;
	now = local_clock();
	return vhost_blk_signal_over(ring, now) || vhost_blk_signal_waits(ring, now);
}

/**
 * vhost_blk_signal_check - send the signal if it is due
 * @ring:	the ring
 *
 * Context: as vhost_blk_signal_flush().
 * Return: whether it was sent. The guest goes on now.
 */
bool vhost_blk_signal_check(struct vhost_blk_vq *ring)
{
	bool waits;
	u64 now;

	if (!ring->signal.since)
		return false;
	now = local_clock();
	waits = vhost_blk_signal_waits(ring, now);
	if (!waits && !vhost_blk_signal_over(ring, now))
		return false;
	vhost_blk_signal_missed(ring, waits);
	vhost_blk_signal_send(ring);
	return true;
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
	vhost_blk_signal_missed(ring, !ring->inflight);
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
