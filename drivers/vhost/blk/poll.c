// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: the poll loop.
 *
 * A poller runs as work on one of vhost core's workers and serves every ring
 * that is attached to that worker. It goes round its rings as long as there is
 * something to do, spins for up to poll_us after that, and then asks for
 * notifications and sleeps.
 */
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>

#include "trace.h"

/*
 * How long a poller may run before it lets the worker do something else. The
 * worker takes its whole list at once, so a flush that is queued behind us
 * waits until we return; nothing tells us that it is there.
 */
#define VHOST_BLK_QUANTUM_NS	(50 * NSEC_PER_USEC)

/* After a turn that slept and was longer than a quantum, so many are careful. */
#define VHOST_BLK_CAREFUL	64

/* A spin that is shorter than this part of poll_us is none. */
#define VHOST_BLK_SPIN_SHORTEST	32

static void vhost_blk_poll_work(struct vhost_work *work);

/**
 * vhost_blk_poll_init - prepare the poller that lies in a ring
 * @ring:	being made; nobody else knows it
 */
void vhost_blk_poll_init(struct vhost_blk_vq *ring)
{
	vhost_work_init(&ring->own.work, vhost_blk_poll_work);
	ring->own.vq = &ring->vq;
	ring->poller = &ring->own;
	INIT_LIST_HEAD(&ring->own.led);
	vhost_blk_nap_init(&ring->own);
}

static struct vhost_blk *vhost_blk_poller_blk(struct vhost_blk_poller *poller)
{
	return vhost_blk_vq(poller->vq)->blk;
}

/* A way round the rings of a poller, and of those that it leads if @share is locked. */
struct vhost_blk_walk {
	struct vhost_blk *blk;
	struct vhost_blk_poller *poller;
	struct vhost_blk_share *share;
	u64 mask;
};

static inline struct vhost_blk_walk
vhost_blk_poll_walk(struct vhost_blk_poller *poller, struct vhost_blk_share *share)
{
	return (struct vhost_blk_walk){
		.blk = vhost_blk_poller_blk(poller),
		.poller = poller,
		.share = share,
		.mask = READ_ONCE(poller->rings),
	};
}

/* Go on with the rings of the next poller that has some. */
static bool vhost_blk_poll_next_poller(struct vhost_blk_walk *walk)
{
	do {
		walk->poller = vhost_blk_share_next(walk->share, walk->poller);
		if (!walk->poller)
			return false;
		walk->blk = vhost_blk_poller_blk(walk->poller);
		walk->mask = READ_ONCE(walk->poller->rings);
	} while (!walk->mask);
	return true;
}

/* The next ring; NULL when there is none. */
static inline struct vhost_blk_vq *vhost_blk_poll_next(struct vhost_blk_walk *walk)
{
	struct vhost_blk_vq *ring;

	if (!walk->mask && (!walk->share || !vhost_blk_poll_next_poller(walk)))
		return NULL;
	ring = walk->blk->rings[__ffs64(walk->mask)];
	walk->mask &= walk->mask - 1;
	return ring;
}

/* Ask the disks for completions that come without an interrupt. */
static void vhost_blk_poll_disks(struct vhost_blk_poller *poller)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, NULL);
	struct vhost_blk_vq *ring;

	while ((ring = vhost_blk_poll_next(&walk))) {
		if (!vhost_blk_iopoll_busy(ring))
			continue;
		mutex_lock(&ring->vq.mutex);
		vhost_blk_iopoll_ring(ring);
		mutex_unlock(&ring->vq.mutex);
	}
}

/* Are there such completions to come? Then nobody else asks for them. */
static bool vhost_blk_poll_busy(struct vhost_blk_poller *poller,
				struct vhost_blk_share *share)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, share);
	struct vhost_blk_vq *ring;

	while ((ring = vhost_blk_poll_next(&walk)))
		if (vhost_blk_iopoll_busy(ring))
			return true;
	return false;
}

/**
 * vhost_blk_poll_flush - nobody looks at the rings for a while: hold no signal
 * @poller:	whose rings they are
 * @share:	locked, what @poller leads: the rings of those, too; or NULL
 *
 * Context: process, in the owner's address space.
 */
void vhost_blk_poll_flush(struct vhost_blk_poller *poller,
			  struct vhost_blk_share *share)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, share);
	struct vhost_blk_vq *ring;

	while ((ring = vhost_blk_poll_next(&walk))) {
		if (!READ_ONCE(ring->signal.since))
			continue;
		mutex_lock(&ring->vq.mutex);
		vhost_blk_signal_flush(ring);
		mutex_unlock(&ring->vq.mutex);
	}
}

/**
 * vhost_blk_poll_slept - has this turn slept, and been long?
 * @by:		the poller that runs
 * @switches:	&task_struct.nvcsw before
 *
 * Then the turns that follow hold no signal, which would wait as long.
 * Context: @by's worker.
 */
bool vhost_blk_poll_slept(struct vhost_blk_poller *by, unsigned long switches)
{
	/* Signed: another CPU's clock may have been ahead. */
	if (likely(current->nvcsw == switches) ||
	    (s64)(local_clock() - by->turn) < VHOST_BLK_QUANTUM_NS)
		return false;
	by->careful = VHOST_BLK_CAREFUL;
	return true;
}

/* Every ring of @poller that has something to do gets one batch served. */
static unsigned int vhost_blk_poll_serve(struct vhost_blk_poller *poller,
					 struct vhost_blk_poller *by)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, NULL);
	struct vhost_blk_vq *ring;
	unsigned int progress = 0;
	unsigned long switches;
	struct blk_plug plug;

	vhost_blk_poll_disks(poller);
	blk_start_plug(&plug);
	while ((ring = vhost_blk_poll_next(&walk)))
		if (vhost_blk_ring_has_work(ring) &&
		    !fatal_signal_pending(current))
			progress += vhost_blk_ring_service(ring, by);
	switches = current->nvcsw;
	blk_finish_plug(&plug);
	vhost_blk_poll_slept(by, switches);
	return progress;
}

/* One turn: @poller's rings, and those of the pollers that it leads. */
static unsigned int vhost_blk_poll_turn(struct vhost_blk_poller *poller)
{
	unsigned int progress = vhost_blk_poll_serve(poller, poller);
	struct vhost_blk_poller *other = poller;
	struct vhost_blk_share *share = NULL;

	if (vhost_blk_share_others(poller))
		share = vhost_blk_share_lock(poller);
	while ((other = vhost_blk_share_next(share, other))) {
		other->last = poller->last;
		progress += vhost_blk_poll_serve(other, poller);
		cond_resched();
	}
	if (unlikely(poller->careful) && progress) {
		poller->careful--;
		vhost_blk_poll_flush(poller, share);
	}
	vhost_blk_share_unlock(share);
	return progress;
}

/*
 * How long to spin: as long as the longest of the rings asks for, or less if
 * that has been in vain and none of them minds.
 */
static u64 vhost_blk_poll_own_ns(struct vhost_blk_poller *poller)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, NULL);
	struct vhost_blk_vq *ring;
	u32 us = 0, flags = 0;
	u64 limit;

	while ((ring = vhost_blk_poll_next(&walk))) {
		us = max(us, READ_ONCE(ring->vq.busyloop_timeout));
		flags |= READ_ONCE(ring->poll_flags);
	}
	limit = (u64)min(us, VHOST_BLK_MAX_POLL_US) * NSEC_PER_USEC;
	if (limit != poller->limit || flags & VHOST_BLK_POLL_FIXED) {
		poller->limit = limit;
		poller->spin = limit;
	}
	return poller->spin;
}

/* As long as the longest of those who are led would, too. */
static u64 vhost_blk_poll_ns(struct vhost_blk_poller *poller,
			     struct vhost_blk_share *share)
{
	u64 ns = 0;

	for (; poller; poller = vhost_blk_share_next(share, poller))
		ns = max(ns, vhost_blk_poll_own_ns(poller));
	return ns;
}

/*
 * The poller was asleep, and is woken: would a longer spin have caught this, at
 * a length that is allowed? Then it is made longer. If not, the spin before the
 * sleep was in vain, and the next is made shorter, down to none at all.
 */
static void vhost_blk_poll_adapt(struct vhost_blk_poller *poller, u64 now)
{
	u64 limit = poller->limit;

	if (now - poller->last <= limit)
		poller->spin = min(max(poller->spin * 2, limit / 4), limit);
	else if (poller->spin > limit / VHOST_BLK_SPIN_SHORTEST)
		poller->spin /= 2;
	else
		poller->spin = 0;
}

/* Whether a completion has to wake @poller, and those that it leads. */
static void vhost_blk_poll_set_awake(struct vhost_blk_poller *poller,
				     struct vhost_blk_share *share, bool awake)
{
	for (; poller; poller = vhost_blk_share_next(share, poller))
		WRITE_ONCE(poller->awake, awake);
}

/*
 * Try to go to sleep. The order matters: first say that completions have to
 * wake us and ask the guests for notifications, then look at everything once
 * more. Whatever happens before the look is seen by it; whatever happens after
 * it wakes us.
 *
 * Return: true if there is nothing to do and @poller may return.
 */
static bool vhost_blk_poll_idle(struct vhost_blk_poller *poller,
				struct vhost_blk_share *share)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, share);
	u64 rings = walk.mask;
	struct vhost_blk_vq *ring;

	vhost_blk_poll_set_awake(poller, share, false);
	/* Pairs with llist_add() in vhost_blk_req_done(). */
	smp_mb();
	while ((ring = vhost_blk_poll_next(&walk))) {
		if (!vhost_blk_ring_idle(ring)) {
			vhost_blk_poll_set_awake(poller, share, true);
			return false;
		}
	}
	vhost_blk_share_end(share);
	poller->sleeps++;
	trace_vhost_blk_poll_idle(vhost_blk_poller_blk(poller), rings,
				  poller->sleeps);
	return true;
}

/*
 * The worker is being killed: it does not come back here. Nobody is awake any
 * more, so completions take the way over the workqueue; those that believed we
 * would see them are handed over now.
 */
static void vhost_blk_poll_dead(struct vhost_blk_poller *poller)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, NULL);
	struct vhost_blk_vq *ring;

	WRITE_ONCE(vhost_blk_poller_blk(poller)->dying, true);
	WRITE_ONCE(poller->awake, false);
	/* Pairs with llist_add() in vhost_blk_req_done(). */
	smp_mb();
	while ((ring = vhost_blk_poll_next(&walk)))
		queue_work(vhost_blk_drain_wq, &ring->drain_work);
}

/**
 * vhost_blk_poll_queue - let a poller that is awake run
 * @poller:	the poller
 *
 * Context: any.
 */
void vhost_blk_poll_queue(struct vhost_blk_poller *poller)
{
	if (!vhost_vq_work_queue(poller->vq, &poller->work))
		vhost_blk_poll_dead(poller);
}

static void vhost_blk_poll_requeue(struct vhost_blk_poller *poller)
{
	poller->requeues++;
	/* A worker never returns to user mode, where RCU tasks would see it. */
	cond_resched_tasks_rcu_qs();
	vhost_blk_poll_queue(poller);
}

/**
 * vhost_blk_poll_quiet - is there neither anything to do, nor to wait for?
 * @poller:	whose rings are looked at
 *
 * Context: a worker of the owner. A hint.
 */
bool vhost_blk_poll_quiet(struct vhost_blk_poller *poller)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, NULL);
	struct vhost_blk_vq *ring;

	while ((ring = vhost_blk_poll_next(&walk)))
		if (READ_ONCE(ring->inflight) || READ_ONCE(ring->signal.since) ||
		    vhost_blk_ring_has_work(ring))
			return false;
	return true;
}

/**
 * vhost_blk_poll_release - a poller was led, and is not any more
 * @poller:	the poller
 *
 * It sleeps if its rings are quiet, or else is queued. Context: a worker of the
 * same owner, the lock of the share held, so @poller does not get past
 * vhost_blk_share_join().
 * Return: true if it is queued.
 */
bool vhost_blk_poll_release(struct vhost_blk_poller *poller)
{
	if (vhost_blk_poll_quiet(poller) && vhost_blk_poll_idle(poller, NULL))
		return false;
	vhost_blk_poll_flush(poller, NULL);
	vhost_blk_poll_queue(poller);
	return true;
}

static bool vhost_blk_poll_must_yield(void)
{
	return need_resched() || signal_pending(current);
}

/* Is the guest expected to send more, so that a signal waits for it? */
static bool vhost_blk_poll_holds(struct vhost_blk_poller *poller,
				 struct vhost_blk_share *share)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, share);
	struct vhost_blk_vq *ring;

	while ((ring = vhost_blk_poll_next(&walk)))
		if (READ_ONCE(ring->signal.since) && !READ_ONCE(ring->inflight))
			return true;
	return false;
}

/* Nothing is held behind a virtual IOMMU, and no poller naps there. */
static bool vhost_blk_poll_nap(struct vhost_blk_poller *poller,
			       struct vhost_blk_share *share)
{
	struct vhost_blk_walk walk = vhost_blk_poll_walk(poller, share);
	u64 hold = walk.mask ? U64_MAX : 0, left = U64_MAX;
	struct vhost_blk_vq *ring;

	while ((ring = vhost_blk_poll_next(&walk))) {
		hold = min(hold, vhost_blk_signal_bound(ring));
		left = min(left, vhost_blk_signal_left(ring));
	}
	return vhost_blk_nap_start(poller, hold, left);
}

enum vhost_blk_rest {
	VHOST_BLK_SPIN,
	VHOST_BLK_GIVE_WAY,
	VHOST_BLK_ASLEEP,
};

/*
 * There was nothing to do. Spin on, nap, or sleep? Whoever else wants this CPU
 * gets it at once, as it may be the guest that is waited for. If naps do not pay
 * then, a signal that is held goes out, and nothing is learned from that. If it may
 * be the worker of another device that comes to be led, @poller gives way before it
 * sleeps. But nobody else would ask the disk for completions that come without an
 * interrupt.
 */
static enum vhost_blk_rest vhost_blk_poll_rest(struct vhost_blk_poller *poller,
					       struct vhost_blk_share *share,
					       u64 now, u64 spin_ns)
{
	bool early = spin_ns && (now - poller->last < spin_ns ||
				 vhost_blk_poll_holds(poller, share));
	bool wanted = early && !single_task_running();

	if (vhost_blk_poll_busy(poller, share)) {
		vhost_blk_nap_leave(poller);
		return VHOST_BLK_SPIN;
	}
	if ((!spin_ns || wanted) && !signal_pending(current) &&
	    vhost_blk_poll_nap(poller, share))
		return VHOST_BLK_ASLEEP;
	vhost_blk_nap_leave(poller);
	if (early && !wanted)
		return VHOST_BLK_SPIN;
	if (wanted)
		vhost_blk_poll_flush(poller, share);
	if (wanted && vhost_blk_share_expects(share, now) && !poller->gave_way)
		return VHOST_BLK_GIVE_WAY;
	return vhost_blk_poll_idle(poller, share) ? VHOST_BLK_ASLEEP :
						    VHOST_BLK_SPIN;
}

/*
 * A quantum.
 *
 * Return: true if @poller is asleep.
 */
static bool vhost_blk_poll_quantum(struct vhost_blk_poller *poller, u64 now)
{
	u64 end = now + VHOST_BLK_QUANTUM_NS;
	struct vhost_blk_share *share = NULL;
	enum vhost_blk_rest rest;
	unsigned int progress;
	u64 spin_ns;

	WRITE_ONCE(poller->awake, true);
	if (vhost_blk_share_others(poller))
		share = vhost_blk_share_lock(poller);
	spin_ns = vhost_blk_poll_ns(poller, share);
	vhost_blk_share_unlock(share);

	do {
		poller->turn = now;
		progress = vhost_blk_poll_turn(poller);
		now = local_clock();
		if (poller->nap.napping)
			poller->nap.moved += progress;
		if (progress) {
			poller->last = now;
			poller->gave_way = false;
			continue;
		}
		share = vhost_blk_share_lock(poller);
		rest = vhost_blk_poll_rest(poller, share, now, spin_ns);
		vhost_blk_share_unlock(share);
		if (rest == VHOST_BLK_ASLEEP)
			return true;
		if (rest == VHOST_BLK_GIVE_WAY) {
			poller->gave_way = true;
			vhost_blk_share_give_way();
			now = local_clock();
		}
		cpu_relax();
	} while (now < end && !vhost_blk_poll_must_yield());
	return false;
}

static void vhost_blk_poll_run(struct vhost_blk_poller *poller)
{
	struct vhost_blk_share *share;
	u64 now = local_clock();

	/*
	 * The work can be queued again, and so will be by whoever changes what is
	 * looked at next. Pairs with test_and_set_bit() in vhost core.
	 */
	smp_mb__after_atomic();
	if (READ_ONCE(vhost_blk_poller_blk(poller)->parked)) {
		vhost_blk_share_leave(poller);
		vhost_blk_poll_flush(poller, NULL);
		WRITE_ONCE(poller->nap.napping, false);
		WRITE_ONCE(poller->awake, false);
		return;
	}
	if (!rcu_access_pointer(poller->vq->worker)) {
		vhost_blk_poll_dead(poller);
		return;
	}
	/* A spin might do instead of naps as well. */
	if (!READ_ONCE(poller->awake) || (poller->nap.napping && !poller->spin))
		vhost_blk_poll_adapt(poller, now);
	if (vhost_blk_share_join(poller, now) ||
	    vhost_blk_poll_quantum(poller, now))
		return;
	/*
	 * At the end of a quantum alone the next turn follows at once, and a
	 * signal that is held stays so.
	 */
	if (vhost_blk_poll_must_yield()) {
		share = vhost_blk_share_lock(poller);
		vhost_blk_poll_flush(poller, share);
		vhost_blk_share_unlock(share);
	}
	vhost_blk_poll_requeue(poller);
}

static void vhost_blk_poll_work(struct vhost_work *work)
{
	vhost_blk_poll_run(container_of(work, struct vhost_blk_poller, work));
}

/**
 * vhost_blk_poll_kick - a guest notified a ring, or vhost core did for it
 * @work:	the ring's &vhost_virtqueue.poll.work
 *
 * Context: the ring's worker.
 */
void vhost_blk_poll_kick(struct vhost_work *work)
{
	struct vhost_virtqueue *vq = container_of(work, struct vhost_virtqueue,
						  poll.work);
	struct vhost_blk_vq *ring = vhost_blk_vq(vq);

	if (!vhost_blk_iotlb_wake(ring))
		ring->stats.kicks++;
	vhost_blk_poll_run(ring->poller);
}

/**
 * vhost_blk_poll_wake - something is on a ring's done list, or may be fetched
 * @ring:	the ring
 *
 * Context: any, inside an RCU read section: @ring and its worker are freed
 * after a grace period.
 */
void vhost_blk_poll_wake(struct vhost_blk_vq *ring)
{
	struct vhost_blk_poller *poller = READ_ONCE(ring->poller);

	if (READ_ONCE(poller->awake))
		return;
	if (!vhost_vq_work_queue(poller->vq, &poller->work))
		queue_work(vhost_blk_drain_wq, &ring->drain_work);
}
