// SPDX-License-Identifier: GPL-2.0
/*
 * Short sleeps without notifications: what they save a busy guest, and that they
 * are in nobody's way.
 */
#include "suite.h"

#define RING_SIZE	256
#define DEPTH		32
#define SIGNAL_US	10000
#define THINK_US	40
#define SPIN_US		20000

/* A guest without EVENT_IDX, a disk that answers at once, a worker that may not spin. */
FIXTURE(nap) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct req r[DEPTH];
	struct baseline before;
	struct burner other;
};

static int set_poll(struct vdev *d, unsigned int poll_us, unsigned int signal_us)
{
	struct vhost_blk_poll p = {
		.index = VHOST_BLK_ALL_RINGS,
		.flags = VHOST_BLK_POLL_FIXED,
		.poll_us = poll_us,
		.signal_us = signal_us,
	};

	return vdev_ioctl(d, VHOST_BLK_SET_POLL, &p);
}

FIXTURE_SETUP(nap)
{
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES &
			       ~BIT64(VIRTIO_RING_F_EVENT_IDX), MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, set_poll(&self->d, 0, SIGNAL_US));
	self->q->vr.avail->flags = 0;
	ASSERT_EQ(0, reads_build(&self->d.mem, self->r, DEPTH, 512));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(nap)
{
	burner_stop(&self->other);
	reads_free(self->r, DEPTH);
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/* What @total requests cost at that depth. */
static struct vhost_blk_stats run_guest(struct __test_metadata *_metadata,
					FIXTURE_DATA(nap) *self,
					unsigned int depth, unsigned long total)
{
	struct vhost_blk_stats a, b;

	ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
	ASSERT_LT(0, guest_run(self->q, self->r, depth, total, THINK_US));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_EQ(total, b.reads - a.reads);
	b.kicks -= a.kicks;
	b.naps -= a.naps;
	b.signals -= a.signals;
	b.sleeps -= a.sleeps;
	TH_LOG("depth %u, %lu requests: %llu kicks, %llu signals, %llu sleeps, %llu naps",
	       depth, total, b.kicks, b.signals, b.sleeps, b.naps);
	return b;
}

TEST_F(nap, saves_a_busy_guest_its_kicks)
{
	struct vhost_blk_stats with, without;
	unsigned long n = 2000, i, many = n / 100;
	cpu_set_t cpu;

	/* on one CPU they take turns, and there is hardly a kick */
	ASSERT_EQ(0, split_cpus(vdev_worker(&self->d, 0), &cpu));
	/* a guest that is faster than the worker hardly kicks */
	if (machine_slow())
		many = 1;
	/* time to learn; and others may disturb us */
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, set_poll(&self->d, 0, 0));
		without = run_guest(_metadata, self, DEPTH, n);
		EXPECT_EQ(0, without.naps);
		ASSERT_EQ(0, set_poll(&self->d, 0, SIGNAL_US));
		with = run_guest(_metadata, self, DEPTH, n);
		EXPECT_LT(0, with.naps);
		EXPECT_GE(n, with.naps);
		if (without.kicks >= many && with.kicks <= without.kicks / 2 &&
		    with.kicks < with.naps)
			break;
	}
	EXPECT_NE(20, i);
}

/* Let somebody else want the worker's CPU. */
static int crowd(FIXTURE_DATA(nap) *self)
{
	cpu_set_t cpu;

	return split_cpus(vdev_worker(&self->d, 0), &cpu) ?:
	       burner_start(&self->other, &cpu);
}

/* As it may be the guest that wants it, a spin ends; but no kicks in its place. */
TEST_F(nap, takes_the_place_of_a_spin_where_the_cpu_is_wanted)
{
	struct vhost_blk_stats s;
	unsigned int i;

	ASSERT_EQ(0, set_poll(&self->d, SPIN_US, SIGNAL_US));
	ASSERT_EQ(0, crowd(self));
	/* time to learn; and others may disturb us */
	for (i = 0; i < 20; i++) {
		s = run_guest(_metadata, self, DEPTH, 2000);
		if (s.naps && s.kicks <= 2000 / 20 && s.kicks < s.naps)
			break;
	}
	EXPECT_NE(20, i);
}

/* A spin that is shorter than a nap ends each of them. */
TEST_F(nap, is_hardly_ever_tried_there_at_depth_one)
{
	struct vhost_blk_stats s;

	ASSERT_EQ(0, set_poll(&self->d, SIGNAL_US / 64, SIGNAL_US));
	ASSERT_EQ(0, crowd(self));
	run_guest(_metadata, self, 1, 1000);
	s = run_guest(_metadata, self, 1, 2000);
	EXPECT_GE(machine_slow() ? 2000 : 200, s.naps);
}

TEST_F(nap, is_hardly_ever_tried_at_depth_one)
{
	struct vhost_blk_stats s;

	run_guest(_metadata, self, DEPTH, 1000);
	/* it finds out that times have changed */
	run_guest(_metadata, self, 1, 1000);
	s = run_guest(_metadata, self, 1, 2000);
	/* a nap may see several requests of a guest that is faster than the worker */
	EXPECT_GE(machine_slow() ? 2000 : 100, s.naps);
	if (!machine_slow())
		EXPECT_LE(1800, s.kicks);
}

TEST_F(nap, ends_and_then_nothing_runs)
{
	struct vhost_blk_stats a, b;
	int tid = vdev_worker(&self->d, 0);
	int64_t cpu;

	run_guest(_metadata, self, DEPTH, 500);
	sleep_ms(10 * SIGNAL_US / 1000);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
	cpu = thread_cpu_ns(tid);
	sleep_ms(300);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_EQ(a.naps, b.naps);
	EXPECT_EQ(a.sleeps, b.sleeps);
	EXPECT_EQ(cpu, thread_cpu_ns(tid));
	EXPECT_EQ(0, blk_flush(self->q));
}

/* Whoever stops the ring, or moves it, does so in the middle of one. */
TEST_F(nap, is_in_nobodys_way)
{
	struct vhost_worker_state w;
	unsigned int i, j;

	for (i = 0; i < 40; i++) {
		/* req_wait_n() forbids them at its end */
		self->q->vr.avail->flags = 0;
		ASSERT_LT(0, guest_run(self->q, self->r, DEPTH, 100, 10));
		for (j = 0; j < DEPTH / 2; j++) {
			ASSERT_LE(0, req_add(self->q, &self->r[j]));
			vq_kick(self->q);
		}
		if (i % 2) {
			ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_NEW_WORKER, &w));
			ASSERT_EQ(0, req_wait_n(self->q, j, REQ_TIMEOUT_MS));
			ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_FREE_WORKER, &w));
			continue;
		}
		ASSERT_EQ(0, vq_stop(self->q));
		/* those that the ring has not taken, it takes when it comes back */
		ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
		vq_kick_force(self->q);
		ASSERT_EQ(0, req_wait_n(self->q, j, REQ_TIMEOUT_MS));
	}
}

SUITE_MAIN
