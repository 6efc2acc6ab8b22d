// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: short sleeps during which the guests do not notify.
 *
 * A poller is through with a request sooner than the guest with the exit of its
 * kick. If it asked for notifications whenever there is nothing to do, a busy
 * guest would kick for nearly every request. If it is not to spin, or somebody else
 * wants its CPU, it naps instead: it leaves notifications off, lets completions wait,
 * and a timer queues it again. NAPI does so with gro_flush_timeout, blk-mq did in its
 * hybrid polling.
 *
 * A nap is short, a small part of the time that a signal may be held (the smallest
 * signal_us of the rings), so that a guest with few requests on their way does not
 * wait for long. A few of them follow each other. If VHOST_BLK_NAP_PAYS requests were
 * fetched or completed meanwhile, they have paid, and go on. If not, the guest has
 * hardly anything to do, and the poller sleeps. Attempts that do not pay get rare:
 * at depth 1, one in a hundred sleeps.
 *
 * While it naps, &vhost_blk_poller.awake is set, and the timer is armed or the work
 * queued.
 */
#include <linux/hrtimer.h>

#include "vhost_blk.h"

#define VHOST_BLK_NAP_SEVERAL	4
#define VHOST_BLK_NAP_PAYS	(3 * VHOST_BLK_NAP_SEVERAL)

/* Of the time that a signal may be held. A shorter one costs what it saves. */
#define VHOST_BLK_NAP_PART	32
#define VHOST_BLK_NAP_SHORTEST	(10 * NSEC_PER_USEC)
/* A ring that begins to be served meanwhile waits for its end. */
#define VHOST_BLK_NAP_LONGEST	(300 * NSEC_PER_USEC)

/* Sleeps between attempts. */
#define VHOST_BLK_NAP_TRY_MIN	2
#define VHOST_BLK_NAP_TRY_MAX	128

static enum hrtimer_restart vhost_blk_nap_over(struct hrtimer *timer)
{
	struct vhost_blk_poller *poller;

	poller = container_of(timer, struct vhost_blk_poller, nap.timer);
	vhost_blk_poll_queue(poller);
	return HRTIMER_NORESTART;
}

/**
 * vhost_blk_nap_init - prepare the naps of a poller
 * @poller:	being made; nobody else knows it
 */
void vhost_blk_nap_init(struct vhost_blk_poller *poller)
{
	hrtimer_setup(&poller->nap.timer, vhost_blk_nap_over, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_PINNED);
	poller->nap.try_after = VHOST_BLK_NAP_TRY_MIN;
}

/*
 * Another nap? Several of them may have been in vain, with or without a spin in
 * between.
 */
static void vhost_blk_nap_next(struct vhost_blk_nap *nap)
{
	bool pays = nap->moved >= VHOST_BLK_NAP_PAYS;

	nap->napping = true;
	if (nap->count < VHOST_BLK_NAP_SEVERAL)
		return;
	nap->count = 0;
	nap->moved = 0;
	if (pays) {
		nap->try_after = VHOST_BLK_NAP_TRY_MIN;
		return;
	}
	nap->napping = false;
	nap->wait = nap->try_after;
	nap->try_after = min(nap->try_after * 2, VHOST_BLK_NAP_TRY_MAX);
}

/**
 * vhost_blk_nap_start - there is nothing to do: nap, if that pays
 * @poller:	the poller
 * @hold:	how long a signal may be held, ns; 0: it may not nap
 * @left:	until one that is held has to be sent, ns
 *
 * Context: the poller's worker.
 * Return: true if the timer queues @poller; false if it has to spin or sleep.
 */
bool vhost_blk_nap_start(struct vhost_blk_poller *poller, u64 hold, u64 left)
{
	struct vhost_blk_nap *nap = &poller->nap;
	u64 ns;

	/* A kick that was on its way: the nap is not over. */
	if (nap->napping && hrtimer_is_queued(&nap->timer))
		return true;
	if (hold < VHOST_BLK_NAP_SHORTEST ||
	    hrtimer_resolution > VHOST_BLK_NAP_SHORTEST)
		nap->napping = false;
	else if (!nap->napping && nap->wait)
		nap->wait--;
	else
		vhost_blk_nap_next(nap);
	if (!nap->napping)
		return false;
	nap->count++;
	nap->naps++;
	ns = clamp(hold / VHOST_BLK_NAP_PART, VHOST_BLK_NAP_SHORTEST,
		   VHOST_BLK_NAP_LONGEST);
	ns = min(ns, left);
	hrtimer_start(&nap->timer, ns_to_ktime(ns), HRTIMER_MODE_REL_PINNED);
	return true;
}

/**
 * vhost_blk_nap_leave - the poller spins or sleeps for now
 * @poller:	the poller
 *
 * What the naps so far have brought is not forgotten: they may go on.
 * Context: the poller's worker.
 */
void vhost_blk_nap_leave(struct vhost_blk_poller *poller)
{
	struct vhost_blk_nap *nap = &poller->nap;

	if (!nap->napping)
		return;
	hrtimer_try_to_cancel(&nap->timer);
	nap->napping = false;
}

/**
 * vhost_blk_nap_stop - let no timer queue a poller any more
 * @poller:	the poller; it does not run, or does not nap any more
 *
 * Context: process.
 */
void vhost_blk_nap_stop(struct vhost_blk_poller *poller)
{
	hrtimer_cancel(&poller->nap.timer);
	WRITE_ONCE(poller->nap.napping, false);
}
