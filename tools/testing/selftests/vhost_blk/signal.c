// SPDX-License-Identifier: GPL-2.0
/*
 * When a guest that does not poll is signalled: for each batch, or later while
 * more requests come, and always in time.
 */
#include "suite.h"

#define RING_SIZE	256
#define DEPTH		32
#define POLL_US		500000
#define SIGNAL_US	10000

/*
 * A guest that wants each signal: without EVENT_IDX, and the flag stays 0. The
 * count of the eventfd is then how many there were.
 */
FIXTURE(signal) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct req r[DEPTH];
	struct baseline before;
};

static int set_poll(struct vdev *d, unsigned int poll_us,
		    unsigned int signal_us)
{
	struct vhost_blk_poll p = {
		.index = VHOST_BLK_ALL_RINGS,
		.poll_us = poll_us,
		.signal_us = signal_us,
		.batch = 1,
	};

	return vdev_ioctl(d, VHOST_BLK_SET_POLL, &p);
}

FIXTURE_SETUP(signal)
{
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES &
			       ~BIT64(VIRTIO_RING_F_EVENT_IDX), MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, set_poll(&self->d, POLL_US, SIGNAL_US));
	self->q->spin = true;
	self->q->vr.avail->flags = 0;
	ASSERT_EQ(0, reads_build(&self->d.mem, self->r, DEPTH, 512));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(signal)
{
	reads_free(self->r, DEPTH);
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

TEST_F(signal, is_sent_for_each_batch_by_default)
{
	struct vhost_blk_stats s;
	long signals;

	ASSERT_EQ(0, set_poll(&self->d, POLL_US, 0));
	signals = guest_run(self->q, self->r, DEPTH, 2000, 0);
	ASSERT_LT(0, signals);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	/* one request a batch */
	EXPECT_EQ(2000, s.signals);
	EXPECT_EQ(0, s.signal_holds);
	EXPECT_EQ(0, s.signals_saved);
	EXPECT_EQ(0, s.hold_misses);
}

TEST_F(signal, is_sent_once_for_each_batch_of_many)
{
	struct vhost_blk_poll p = {
		.index = VHOST_BLK_ALL_RINGS,
		.batch = DEPTH / 2,
	};
	struct vhost_blk_stats s;
	unsigned int i;

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	/* The worker goes to sleep. */
	sleep_ms(20);
	for (i = 0; i < DEPTH; i++)
		ASSERT_LE(0, req_add(self->q, &self->r[i]));
	vq_kick(self->q);
	ASSERT_EQ(0, req_wait_n(self->q, DEPTH, REQ_TIMEOUT_MS));
	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(DEPTH, s.reads);
	EXPECT_EQ(2, s.batches);
	EXPECT_EQ(2, s.signals);
	EXPECT_EQ(2, eventfd_take(self->q->call));
}

TEST_F(signal, is_sent_for_each_batch_of_completions)
{
	struct vhost_blk_poll p = { .index = VHOST_BLK_ALL_RINGS };
	const struct sched_param none = {};
	struct vhost_blk_stats s;
	struct burner other;
	struct blkdev disk;
	unsigned int i;
	cpu_set_t cpu;
	int tid;

	tid = vdev_worker(&self->d, 0);
	ASSERT_LT(0, tid);
	ASSERT_EQ(0, split_cpus(tid, &cpu));
	OPEN_DISK(&disk, BLKDEV_HOLD);
	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vq_start(self->q, disk.fd));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	ASSERT_EQ(0, blkdev_hold(&disk));
	for (i = 0; i < DEPTH; i++)
		ASSERT_LE(0, req_add(self->q, &self->r[i]));
	vq_kick(self->q);
	do {
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	} while (s.inflight < DEPTH);
	p.batch = 4;
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	/* They all end while the worker waits for its CPU. */
	ASSERT_EQ(0, sched_setscheduler(tid, SCHED_IDLE, &none));
	ASSERT_EQ(0, burner_start(&other, &cpu));
	ASSERT_EQ(0, blkdev_release(&disk));
	sleep_ms(20);
	burner_stop(&other);
	ASSERT_EQ(0, req_wait_n(self->q, DEPTH, REQ_TIMEOUT_MS));
	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(DEPTH, s.reads);
	TH_LOG("%llu signals for %llu requests", s.signals, s.reads);
	EXPECT_LE(DEPTH / 4, s.signals);
	blkdev_close(&disk);
}

/* When nothing is held any more. */
static void settled(struct __test_metadata *_metadata,
		    FIXTURE_DATA(signal) *self, struct vhost_blk_stats *s)
{
	unsigned int i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, vdev_stats(&self->d, 0, s));
		if (s->signals + s->signals_saved == s->reads)
			break;
		sleep_ms(SIGNAL_US / 1000);
	}
	/* a batch of completions was one request */
	ASSERT_EQ(s->reads, s->signals + s->signals_saved);
	eventfd_take(self->q->call);
}

TEST_F(signal, is_held_while_more_requests_come)
{
	unsigned long n = 3000, least = n, i;
	struct vhost_blk_stats a, b;
	long signals;

	/* time to learn; and others may disturb us */
	for (i = 0; i < 10 && least > n / 10; i++) {
		settled(_metadata, self, &a);
		signals = guest_run(self->q, self->r, DEPTH, n, 0);
		ASSERT_LT(0, signals);
		settled(_metadata, self, &b);
		EXPECT_LE(b.signals - a.signals - 1, (unsigned long)signals);
		EXPECT_GE(b.signals - a.signals, (unsigned long)signals);
		TH_LOG("%ld signals for %lu requests, %llu held, %llu in vain",
		       signals, n, b.signal_holds - a.signal_holds,
		       b.hold_misses - a.hold_misses);
		if (b.signals - a.signals < least)
			least = b.signals - a.signals;
	}
	EXPECT_GE(n / 10, least);
}

TEST_F(signal, is_hardly_ever_held_at_depth_one)
{
	struct vhost_blk_stats a, b;

	ASSERT_LT(0, guest_run(self->q, self->r, DEPTH, 2000, 0));
	/* it finds out that times have changed */
	ASSERT_LT(0, guest_run(self->q, self->r, 1, 2000, 0));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
	ASSERT_EQ(3000, guest_run(self->q, self->r, 1, 3000, 0));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_GE(8, b.signal_holds - a.signal_holds);
	EXPECT_LE(b.hold_misses - a.hold_misses,
		  b.signal_holds - a.signal_holds);
	EXPECT_EQ(0, b.signals_saved - a.signals_saved);
}

/* What is tried in vain is tried ever less. */
TEST_F(signal, is_hardly_ever_held_in_vain_at_small_depths)
{
	unsigned long n = 3000, least;
	struct vhost_blk_stats a, b;
	unsigned int depth, i;

	for (depth = 2; depth <= 4; depth++) {
		/* time to learn; and others may disturb us */
		for (least = n, i = 0; i < 10 && least > n / 20; i++) {
			settled(_metadata, self, &a);
			ASSERT_LT(0, guest_run(self->q, self->r, depth, n, 0));
			ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
			if (b.hold_misses - a.hold_misses < least)
				least = b.hold_misses - a.hold_misses;
		}
		TH_LOG("depth %u: %lu of %lu in vain", depth, least, n);
		EXPECT_GE(n / 20, least);
	}
}

/* A signal that is held would wait for as long as the submission sleeps. */
TEST_F(signal, is_not_held_where_submission_sleeps)
{
	struct vhost_blk_stats a, b;
	struct blkdev few;

	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vq_reset(self->q));
	self->q->vr.avail->flags = 0;
	OPEN_DISK(&few, BLKDEV_NULL_FEW);
	ASSERT_EQ(0, set_poll(&self->d, POLL_US, VHOST_BLK_MAX_SIGNAL_US));
	ASSERT_EQ(0, vq_start(self->q, few.fd));
	ASSERT_LT(0, guest_run(self->q, self->r, DEPTH, 100, 0));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
	ASSERT_LT(0, guest_run(self->q, self->r, DEPTH, 300, 0));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_EQ(0, b.signal_holds - a.signal_holds);
	EXPECT_EQ(0, b.signals_saved - a.signals_saved);
	ASSERT_EQ(0, vq_stop(self->q));
	blkdev_close(&few);
}

/* More than one is expected, and nothing is held. */
static void expect_many(struct __test_metadata *_metadata,
			FIXTURE_DATA(signal) *self, struct vhost_blk_stats *s)
{
	ASSERT_LT(0, guest_run(self->q, self->r, DEPTH, 500, 0));
	settled(_metadata, self, s);
	ASSERT_LT(0, s->signal_holds);
}

TEST_F(signal, comes_in_time_when_nothing_follows)
{
	struct vhost_blk_stats a, b;
	uint64_t start, ms;

	expect_many(_metadata, self, &a);
	start = now_ns();
	ASSERT_LE(0, req_add(self->q, &self->r[0]));
	vq_kick(self->q);
	while (!eventfd_take(self->q->call))
		ASSERT_GT(5000000000ULL, now_ns() - start);
	ms = (now_ns() - start) / 1000000;
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_EQ(1, b.signal_holds - a.signal_holds);
	EXPECT_EQ(1, b.hold_misses - a.hold_misses);
	/* long before the poller goes to sleep */
	EXPECT_GT(POLL_US / 1000 / 2, ms);
	EXPECT_EQ(1, vq_pending(self->q));
}

TEST_F(signal, is_sent_before_the_worker_sleeps)
{
	struct vhost_blk_stats a, b;
	uint64_t start;

	expect_many(_metadata, self, &a);
	ASSERT_EQ(0, set_poll(&self->d, 0, SIGNAL_US));
	start = now_ns();
	ASSERT_LE(0, req_add(self->q, &self->r[0]));
	vq_kick(self->q);
	while (!eventfd_take(self->q->call))
		ASSERT_GT(5000000000ULL, now_ns() - start);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_EQ(1, b.signals - a.signals);
}

TEST_F(signal, is_sent_when_the_ring_stops)
{
	struct vhost_blk_stats s;
	unsigned int i;
	int err;

	for (i = 0; i < 10; i++) {
		expect_many(_metadata, self, &s);
		ASSERT_LE(0, req_add(self->q, &self->r[0]));
		vq_kick(self->q);
		ASSERT_EQ(0, vq_wait(self->q, REQ_TIMEOUT_MS));
		ASSERT_EQ(0, vq_stop(self->q));
		EXPECT_EQ(1, eventfd_take(self->q->call));
		ASSERT_NE(NULL, req_reap(self->q, &err));
		ASSERT_EQ(0, vq_reset(self->q));
		self->q->vr.avail->flags = 0;
		ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	}
}

TEST_F(signal, is_not_lost_when_workers_change)
{
	struct vhost_worker_state w;
	struct vhost_blk_stats s;
	uint64_t start;
	unsigned int i;

	expect_many(_metadata, self, &s);
	for (i = 0; i < 50; i++) {
		start = now_ns();
		ASSERT_LE(0, req_add(self->q, &self->r[0]));
		vq_kick(self->q);
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_NEW_WORKER, &w));
		while (!eventfd_take(self->q->call))
			ASSERT_GT(5000000000ULL, now_ns() - start);
		ASSERT_EQ(0, req_wait_n(self->q, 1, REQ_TIMEOUT_MS));
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_FREE_WORKER, &w));
	}
}

TEST_F(signal, is_not_sent_to_a_guest_that_polls)
{
	unsigned int i;

	self->q->vr.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	for (i = 0; i < 2000; i++)
		ASSERT_EQ(0, blk_flush(self->q));
	sleep_ms(2 * SIGNAL_US / 1000);
	EXPECT_EQ(0, eventfd_take(self->q->call));
}

/* A guest that says how far it has looked: with EVENT_IDX. */
FIXTURE(told) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct req r[DEPTH];
	struct baseline before;
};

FIXTURE_SETUP(told)
{
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, set_poll(&self->d, POLL_US, SIGNAL_US));
	self->q->spin = true;
	ASSERT_EQ(0, reads_build(&self->d.mem, self->r, DEPTH, 512));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(told)
{
	reads_free(self->r, DEPTH);
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

static void guest_of(struct __test_metadata *_metadata,
		     FIXTURE_DATA(told) *self,
		     unsigned int depth, unsigned long n,
		     struct vhost_blk_stats *d)
{
	struct vhost_blk_stats a;

	ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
	ASSERT_LE(0, guest_run(self->q, self->r, depth, n, 0));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, d));
	d->signals -= a.signals;
	d->signal_holds -= a.signal_holds;
	d->hold_misses -= a.hold_misses;
	TH_LOG("depth %u: %llu signals for %lu requests, %llu held, %llu in vain",
	       depth, d->signals, n, d->signal_holds, d->hold_misses);
}

/* Nothing that it does looks like more than one, so nothing is tried. */
TEST_F(told, is_never_held_at_depth_one)
{
	struct vhost_blk_stats s;

	guest_of(_metadata, self, 1, 3000, &s);
	EXPECT_EQ(0, s.signal_holds);
	EXPECT_EQ(0, s.hold_misses);
}

/* However long it was shallow: the first requests show it. */
TEST_F(told, is_held_as_soon_as_more_requests_come)
{
	unsigned long n = 1000, least = n, i;
	struct vhost_blk_stats s;

	/* others may disturb us */
	for (i = 0; i < 10 && least > n / 10; i++) {
		guest_of(_metadata, self, 1, 1000, &s);
		guest_of(_metadata, self, DEPTH, n, &s);
		if (s.signals < least)
			least = s.signals;
	}
	EXPECT_GE(n / 10, least);
}

/* Now and then it has more, and then less again. */
TEST_F(told, is_not_held_in_vain_each_time_the_depth_changes)
{
	unsigned int n = 300, least = n + 1, i, j;
	struct vhost_blk_stats a, b;

	/* others may disturb us */
	for (i = 0; i < 5 && least > n; i++) {
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
		for (j = 0; j < n; j++) {
			ASSERT_LE(0, guest_run(self->q, self->r, 8, 8, 0));
			ASSERT_LE(0, guest_run(self->q, self->r, 1, 2, 0));
		}
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
		TH_LOG("%llu signals, %llu held, %llu in vain", b.signals - a.signals,
		       b.signal_holds - a.signal_holds, b.hold_misses - a.hold_misses);
		if (b.hold_misses - a.hold_misses < least)
			least = b.hold_misses - a.hold_misses;
	}
	EXPECT_GE(n, least);
}

/* Something else never comes back, and whoever sent these waits for them all the same. */
TEST_F(told, is_not_held_in_vain_beside_a_slow_request)
{
	struct req *slow = &self->r[DEPTH - 1];
	unsigned int n = 50, least = n + 1, i, j;
	struct vhost_blk_stats a, b;
	struct blkdev disk;

	OPEN_DISK(&disk, BLKDEV_SLOW);
	slow->sector = BLKDEV_BAD_SECTOR;
	/* others may disturb us */
	for (i = 0; i < 3 && least > n; i++) {
		ASSERT_EQ(0, vq_stop(self->q));
		ASSERT_EQ(0, vq_reset(self->q));
		ASSERT_EQ(0, vq_start(self->q, disk.fd));
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
		ASSERT_LE(0, req_add(self->q, slow));
		vq_kick(self->q);
		for (j = 0; j < n; j++) {
			ASSERT_LE(0, guest_run(self->q, self->r, 8, 8, 0));
			ASSERT_LE(0, guest_run(self->q, self->r, 1, 1, 0));
		}
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
		TH_LOG("%llu signals, %llu held, %llu in vain", b.signals - a.signals,
		       b.signal_holds - a.signal_holds, b.hold_misses - a.hold_misses);
		if (b.inflight != 1)
			continue;
		if (b.hold_misses - a.hold_misses < least)
			least = b.hold_misses - a.hold_misses;
		ASSERT_EQ(0, req_wait_n(self->q, 1, 2 * BLKDEV_SLOW_MS));
	}
	EXPECT_GE(n, least);
	ASSERT_EQ(0, vq_stop(self->q));
	blkdev_close(&disk);
}

TEST_F(told, is_hardly_ever_held_in_vain_at_small_depths)
{
	unsigned long n = 3000, least;
	struct vhost_blk_stats s;
	unsigned int depth, i;

	for (depth = 2; depth <= 4; depth++) {
		for (least = n, i = 0; i < 10 && least > n / 20; i++) {
			guest_of(_metadata, self, depth, n, &s);
			if (s.hold_misses < least)
				least = s.hold_misses;
		}
		EXPECT_GE(n / 20, least);
	}
}

/* It has looked by itself, so it is not this signal that it lacks. */
TEST_F(told, is_not_missed_by_a_guest_that_has_seen_all)
{
	struct vhost_blk_stats a, b;
	uint64_t missed = 1;
	unsigned int i;
	int err;

	/* others may disturb us */
	for (i = 0; i < 10 && missed; i++) {
		guest_of(_metadata, self, DEPTH, 1000, &a);
		sleep_ms(3 * SIGNAL_US / 1000);
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
		ASSERT_LE(0, req_add(self->q, &self->r[0]));
		vq_kick(self->q);
		while (!req_reap(self->q, &err))
			ASSERT_EQ(0, err);
		ASSERT_FALSE(vq_listen(self->q));
		sleep_ms(3 * SIGNAL_US / 1000);
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
		ASSERT_EQ(1, b.signal_holds - a.signal_holds);
		missed = b.hold_misses - a.hold_misses;
	}
	EXPECT_EQ(0, missed);
}

/* There is always more to come, but later than it may be waited for. */
TEST_F(told, is_hardly_ever_held_in_vain_for_a_slow_disk)
{
	struct vhost_blk_stats s;
	struct blkdev slow;

	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vq_reset(self->q));
	OPEN_DISK(&slow, BLKDEV_NULL_TIMER);
	ASSERT_EQ(0, set_poll(&self->d, POLL_US, 300));
	ASSERT_EQ(0, vq_start(self->q, slow.fd));
	/* completions 700 us apart, three at a time in flight */
	ASSERT_LE(0, guest_run(self->q, self->r, 4, 400, 700));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	TH_LOG("%llu held, %llu in vain", s.signal_holds, s.hold_misses);
	EXPECT_GE(400 / 4, s.hold_misses);
	ASSERT_EQ(0, vq_stop(self->q));
	blkdev_close(&slow);
}

/* The guest has a signal to look at: it is not for the next that it waits. */
TEST_F(told, is_held_longer_if_the_guest_has_not_looked)
{
	const unsigned int ms = VHOST_BLK_MAX_SIGNAL_US / 1000;
	unsigned long early = 0, sent, end, i;
	struct vhost_blk_stats a, b;
	int err;

	ASSERT_EQ(0, set_poll(&self->d, POLL_US, VHOST_BLK_MAX_SIGNAL_US));
	/* others may disturb us */
	for (i = 0; i < 10 && early != 1; i++) {
		guest_of(_metadata, self, DEPTH / 2, 1000, &a);
		sleep_ms(2 * ms);
		ASSERT_FALSE(vq_listen(self->q));
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
		b = a;
		/* up to a signal, and some more, of which the last is held */
		for (sent = 0; sent < DEPTH - 4 && b.signals == a.signals; sent++) {
			ASSERT_LE(0, req_add(self->q, &self->r[sent]));
			vq_kick(self->q);
			while (vq_pending(self->q) <= sent)
				;
			ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
		}
		ASSERT_EQ(1, b.signals - a.signals);
		for (end = sent + 4; sent < end; sent++)
			ASSERT_LE(0, req_add(self->q, &self->r[sent]));
		vq_kick(self->q);
		sleep_ms(ms * 3 / 4);
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
		early = b.signals - a.signals;
		sleep_ms(2 * ms);
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
		EXPECT_LE(2, b.signals - a.signals);
		while (req_reap(self->q, &err))
			;
		ASSERT_EQ(0, err);
	}
	EXPECT_EQ(1, early);
}

SUITE_MAIN
