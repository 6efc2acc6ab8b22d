// SPDX-License-Identifier: GPL-2.0
/*
 * Several devices whose workers are pinned to one CPU: one of these serves all of
 * them, and comes and goes without a request being lost.
 */
#include <limits.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "suite.h"
#include "traffic.h"

#define RING_SIZE	64
#define DEPTH		16
#define SPIN_US		20000

/* Two devices of this process; their workers have a CPU that this thread keeps off. */
FIXTURE(share) {
	struct vdev d[2];
	struct vq *q[2];
	struct blkdev disk;
	struct load l[2];
	cpu_set_t cpu;
	struct baseline before;
};

FIXTURE_VARIANT(share) {
	enum blkdev_kind kind;
	unsigned int poll_us;
	bool kthread;
};

FIXTURE_VARIANT_ADD(share, instant_polled) { BLKDEV_NULL_512, SPIN_US };
FIXTURE_VARIANT_ADD(share, timer) { BLKDEV_NULL_30US, 0 };
FIXTURE_VARIANT_ADD(share, timer_polled) { BLKDEV_NULL_30US, SPIN_US };
FIXTURE_VARIANT_ADD(share, timer_polled_kthread) { BLKDEV_NULL_30US, SPIN_US, true };

static int share_open(struct vdev *d, struct vq **q, const struct blkdev *disk,
		      const FIXTURE_VARIANT(share) *variant, const cpu_set_t *cpu)
{
	struct vhost_blk_poll p = {
		.index = VHOST_BLK_ALL_RINGS,
		.flags = VHOST_BLK_POLL_FIXED,
		.poll_us = variant->poll_us,
		.signal_us = 1000,
	};
	int r;

	r = variant->kthread ? vdev_open_kthread(d, DRIVER_FEATURES, MEM_SIZE) :
			       vdev_open(d, DRIVER_FEATURES, MEM_SIZE);
	if (r)
		return r;
	r = vq_setup(d, 0, RING_SIZE, q) ?: vq_start(*q, disk->fd) ?:
	    vdev_ioctl(d, VHOST_BLK_SET_POLL, &p);
	if (r)
		return r;
	return cpu && sched_setaffinity(vdev_worker(d, 0), sizeof(*cpu), cpu) ?
		-errno : 0;
}

FIXTURE_SETUP(share)
{
	int i, r;

	self->before = baseline_take();
	OPEN_DISK(&self->disk, variant->kind);
	r = share_open(&self->d[0], &self->q[0], &self->disk, variant, NULL);
	if (r == -ENOTTY && variant->kthread) {
		blkdev_close(&self->disk);
		SKIP(return, "workers of this kernel are tasks of the owner only");
	}
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, split_cpus(vdev_worker(&self->d[0], 0), &self->cpu));
	ASSERT_EQ(0, share_open(&self->d[1], &self->q[1], &self->disk, variant,
				&self->cpu));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, load_start(&self->l[i], self->q[i], DEPTH, 512, i));
}

FIXTURE_TEARDOWN(share)
{
	int i;

	for (i = 0; i < 2; i++) {
		vdev_close(&self->d[i]);
		load_free(&self->l[i]);
	}
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/* Keep both devices going for a moment. */
static void share_turns(struct __test_metadata *_metadata,
			FIXTURE_DATA(share) *self, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < 2 * n; i++) {
		ASSERT_EQ(0, vq_wait(self->q[i % 2], REQ_TIMEOUT_MS));
		ASSERT_EQ(0, load_turn(&self->l[i % 2], self->q[i % 2], true));
	}
}

/* All that is in flight comes back, and was right. */
static void share_end(struct __test_metadata *_metadata, FIXTURE_DATA(share) *self)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		while (self->q[i]->nfree < self->q[i]->num) {
			ASSERT_EQ(0, vq_wait(self->q[i], REQ_TIMEOUT_MS));
			ASSERT_EQ(0, load_turn(&self->l[i], self->q[i], false));
		}
		EXPECT_EQ(0, self->l[i].bad);
		EXPECT_LT(DEPTH, self->l[i].done);
	}
}

/* How often one of them was led. */
static uint64_t times_led(FIXTURE_DATA(share) *self)
{
	struct vhost_blk_stats s[2];

	if (vdev_stats(&self->d[0], 0, &s[0]) || vdev_stats(&self->d[1], 0, &s[1]))
		return 0;
	return s[0].times_led + s[1].times_led;
}

static bool is_led(struct __test_metadata *_metadata, FIXTURE_DATA(share) *self)
{
	uint64_t before = times_led(self);

	share_turns(_metadata, self, 200);
	return times_led(self) != before;
}

/* While both have something to do, the one that leads works nearly all of the time. */
TEST_F(share, one_worker_does_the_work_of_both)
{
	int64_t cpu[2], since;
	int i, j, tid[2];

	for (j = 0; j < 2; j++)
		tid[j] = vdev_worker(&self->d[j], 0);
	/* others may disturb us, and who leads changes */
	for (i = 0; i < 20; i++) {
		since = now_ns();
		for (j = 0; j < 2; j++)
			cpu[j] = -thread_cpu_ns(tid[j]);
		while (now_ns() - since < 50000000)
			share_turns(_metadata, self, 10);
		for (j = 0; j < 2; j++)
			cpu[j] += thread_cpu_ns(tid[j]);
		if (!variant->poll_us || cpu[0] > 5 * cpu[1] || cpu[1] > 5 * cpu[0])
			break;
	}
	TH_LOG("led %llu times; of 50 ms, the workers ran for %lld and %lld us",
	       (unsigned long long)times_led(self), (long long)cpu[0] / 1000,
	       (long long)cpu[1] / 1000);
	EXPECT_NE(20, i);
	EXPECT_LT(0, times_led(self));
	share_end(_metadata, self);
}

/* A spin does not end because of a kick for another device. */
TEST_F(share, spins_on_when_another_comes)
{
	/* without a spin, each of them */
	long kicks, least = LONG_MAX, most = variant->poll_us ? 20 : 200;
	int i, j;

	share_turns(_metadata, self, 20);
	share_end(_metadata, self);
	for (i = 0; i < 20 && least > most; i++) {
		kicks = self->q[0]->kicks + self->q[1]->kicks;
		for (j = 0; j < 200; j++)
			ASSERT_EQ(0, blk_flush(self->q[j % 2]));
		kicks = self->q[0]->kicks + self->q[1]->kicks - kicks;
		least = kicks < least ? kicks : least;
	}
	TH_LOG("%ld kicks for 200 requests", least);
	EXPECT_GE(most, least);
}

TEST_F(share, sleeps_when_both_have_nothing_to_do)
{
	struct vhost_blk_stats a[2], b[2];
	int64_t cpu[2];
	int i, tid[2];

	/* to ask for that wakes it */
	for (i = 0; i < 2; i++)
		tid[i] = vdev_worker(&self->d[i], 0);
	share_turns(_metadata, self, 50);
	share_end(_metadata, self);
	sleep_ms(3 * SPIN_US / 1000);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, vdev_stats(&self->d[i], 0, &a[i]));
		cpu[i] = thread_cpu_ns(tid[i]);
	}
	sleep_ms(300);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(cpu[i], thread_cpu_ns(tid[i]));
		ASSERT_EQ(0, vdev_stats(&self->d[i], 0, &b[i]));
		EXPECT_EQ(a[i].sleeps, b[i].sleeps);
		EXPECT_EQ(a[i].naps, b[i].naps);
	}
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, blk_flush(self->q[i]));
}

/* The worker that does not lead sleeps, if its device has something to do or not. */
TEST_F(share, wakes_no_device_that_has_nothing_to_do)
{
	int64_t cpu[2];
	int i, j, tid[2];
	uint64_t since;

	for (i = 0; i < 2; i++)
		tid[i] = vdev_worker(&self->d[i], 0);
	share_turns(_metadata, self, 50);
	while (self->q[1]->nfree < self->q[1]->num) {
		ASSERT_EQ(0, vq_wait(self->q[1], REQ_TIMEOUT_MS));
		ASSERT_EQ(0, load_turn(&self->l[1], self->q[1], false));
	}
	/* until that is noticed; and others may disturb us */
	for (i = 0; i < 20; i++) {
		for (j = 0; j < 2; j++)
			cpu[j] = -thread_cpu_ns(tid[j]);
		for (since = now_ns(); now_ns() - since < 300000000;) {
			ASSERT_EQ(0, vq_wait(self->q[0], REQ_TIMEOUT_MS));
			ASSERT_EQ(0, load_turn(&self->l[0], self->q[0], true));
		}
		for (j = 0; j < 2; j++)
			cpu[j] += thread_cpu_ns(tid[j]);
		if (!cpu[0] || !cpu[1])
			break;
	}
	EXPECT_NE(20, i);
	share_end(_metadata, self);
}

/* Where a worker may run is looked at every 100 ms. */
TEST_F(share, ends_when_a_worker_may_run_elsewhere)
{
	cpu_set_t all;
	int i, j, tid;

	CPU_ZERO(&all);
	for (i = 0; i < CPU_SETSIZE; i++)
		CPU_SET(i, &all);
	/* whichever of them leads */
	for (j = 0; j < 2; j++) {
		tid = vdev_worker(&self->d[j], 0);
		for (i = 0; i < 20 && !is_led(_metadata, self); i++)
			;
		EXPECT_NE(20, i);
		ASSERT_EQ(0, sched_setaffinity(tid, sizeof(all), &all));
		for (i = 0; i < 50 && is_led(_metadata, self); i++)
			sleep_ms(20);
		EXPECT_NE(50, i);
		EXPECT_FALSE(is_led(_metadata, self));
		ASSERT_EQ(0, sched_setaffinity(tid, sizeof(self->cpu), &self->cpu));
	}
	share_end(_metadata, self);
}

/* One that need not wait for others of more importance, nor they for it. */
TEST_F(share, is_not_between_priorities)
{
	int i, tid = vdev_worker(&self->d[1], 0);

	ASSERT_EQ(0, setpriority(PRIO_PROCESS, tid, 5));
	for (i = 0; i < 50 && is_led(_metadata, self); i++)
		sleep_ms(20);
	EXPECT_NE(50, i);
	EXPECT_FALSE(is_led(_metadata, self));
	share_end(_metadata, self);
}

/* That the other one spins has nothing to do with it. */
TEST_F(share, leaves_each_its_own_spin)
{
	int tid = vdev_worker(&self->d[1], 0);
	int64_t cpu;
	int i;

	ASSERT_EQ(0, set_spin(&self->d[1], 0, 0));
	share_turns(_metadata, self, 500);
	share_end(_metadata, self);
	sleep_ms(3 * SPIN_US / 1000);
	cpu = thread_cpu_ns(tid);
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, blk_flush(self->q[1]));
		sleep_ms(5);
	}
	EXPECT_GT(10 * SPIN_US / 4, (thread_cpu_ns(tid) - cpu) / 1000);
}

TEST_F(share, is_not_between_owners)
{
	struct vhost_blk_stats s;
	int i, status;
	pid_t pid;

	/* the second device's place is taken by another process's */
	share_turns(_metadata, self, 10);
	share_end(_metadata, self);
	ASSERT_EQ(0, vq_stop(self->q[1]));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vdev d;
		struct vq *q;

		if (share_open(&d, &q, &self->disk, variant, &self->cpu))
			_exit(1);
		for (i = 0; i < 2000; i++)
			if (blk_flush(q))
				_exit(2);
		if (vdev_stats(&d, 0, &s) || s.times_led)
			_exit(3);
		vdev_close(&d);
		_exit(0);
	}
	ASSERT_EQ(0, vdev_stats(&self->d[0], 0, &s));
	for (i = -(int)s.times_led; waitpid(pid, &status, WNOHANG) == 0;)
		ASSERT_EQ(0, blk_flush(self->q[0]));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, vdev_stats(&self->d[0], 0, &s));
	EXPECT_EQ(0, i + (int)s.times_led);
}

TEST_F(share, devices_are_stopped_and_started)
{
	unsigned int i;
	struct vq *q;

	for (i = 0; i < 60; i++) {
		share_turns(_metadata, self, 1 + i % 5);
		q = self->q[i / 5 % 2];
		ASSERT_EQ(0, vq_stop(q));
		ASSERT_EQ(0, vq_start(q, self->disk.fd));
		vq_kick_force(q);
	}
	share_end(_metadata, self);
}

/* Notifies a ring without an end. */
struct kicker {
	pthread_t thread;
	int fd;
	bool on;
};

static void *kick_on(void *arg)
{
	struct kicker *k = arg;

	while (__atomic_load_n(&k->on, __ATOMIC_RELAXED))
		eventfd_write(k->fd, 1);
	return NULL;
}

/* A worker may be about to come while its device stops. */
TEST_F(share, notifications_come_at_any_time)
{
	struct kicker k = { .fd = self->q[1]->kick, .on = true };
	unsigned int i;

	ASSERT_EQ(0, pthread_create(&k.thread, NULL, kick_on, &k));
	for (i = 0; i < 100; i++) {
		share_turns(_metadata, self, 1 + i % 3);
		ASSERT_EQ(0, vq_stop(self->q[1]));
		ASSERT_EQ(0, vq_start(self->q[1], self->disk.fd));
		vq_kick_force(self->q[1]);
	}
	__atomic_store_n(&k.on, false, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(k.thread, NULL));
	share_end(_metadata, self);
}

TEST_F(share, workers_and_memory_are_replaced)
{
	struct vhost_vring_worker ring = {}, standard = {};
	struct vhost_worker_state w;
	unsigned int i;

	for (i = 0; i < 40; i++) {
		share_turns(_metadata, self, 1 + i % 5);
		ASSERT_EQ(0, vdev_set_mem(&self->d[i % 2]));
		share_turns(_metadata, self, 1 + i % 3);
		if (variant->kthread)
			continue;
		/* all rings are parked for that */
		ASSERT_EQ(0, vdev_ioctl(&self->d[i % 2], VHOST_GET_VRING_WORKER,
					&standard));
		ASSERT_EQ(0, vdev_ioctl(&self->d[i % 2], VHOST_NEW_WORKER, &w));
		ring.worker_id = w.worker_id;
		ASSERT_EQ(0, vdev_ioctl(&self->d[i % 2], VHOST_ATTACH_VRING_WORKER,
					&ring));
		ASSERT_EQ(0, sched_setaffinity(vdev_worker(&self->d[i % 2], 0),
					       sizeof(self->cpu), &self->cpu));
		share_turns(_metadata, self, 1 + i % 3);
		ASSERT_EQ(0, vdev_ioctl(&self->d[i % 2], VHOST_ATTACH_VRING_WORKER,
					&standard));
		ASSERT_EQ(0, vdev_ioctl(&self->d[i % 2], VHOST_FREE_WORKER, &w));
	}
	share_end(_metadata, self);
}

TEST_F(share, a_device_is_closed_while_the_other_goes_on)
{
	unsigned int i, j, gone;

	for (i = 0; i < 10; i++) {
		gone = i % 2;
		share_turns(_metadata, self, 1 + i % 5);
		vdev_close(&self->d[gone]);
		load_free(&self->l[gone]);
		for (j = 0; j < 20; j++) {
			ASSERT_EQ(0, vq_wait(self->q[!gone], REQ_TIMEOUT_MS));
			ASSERT_EQ(0, load_turn(&self->l[!gone], self->q[!gone], true));
		}
		ASSERT_EQ(0, share_open(&self->d[gone], &self->q[gone], &self->disk,
					variant, &self->cpu));
		memset(&self->l[gone], 0, sizeof(self->l[gone]));
		ASSERT_EQ(0, load_start(&self->l[gone], self->q[gone], DEPTH, 512, 0));
	}
	share_turns(_metadata, self, 20);
	share_end(_metadata, self);
}

static void share_owner(FIXTURE_DATA(share) *self, const FIXTURE_VARIANT(share) *variant,
			struct victim *me)
{
	struct load l[2] = {};
	struct vdev d[2];
	struct vq *q[2];
	unsigned int j;

	for (j = 0; j < 2; j++)
		if (share_open(&d[j], &q[j], &self->disk, variant, &self->cpu) ||
		    load_start(&l[j], q[j], DEPTH, 512, j))
			_exit(1);
	victim_at_work(me);
	for (j = 0;; j = !j)
		if (vq_wait(q[j], 1000) || load_turn(&l[j], q[j], true))
			_exit(1);
}

TEST_F_TIMEOUT(share, the_owner_is_killed_again_and_again, 120)
{
	int refs = module_refs("vhost_blk"), disk_refs = module_refs("null_blk");
	unsigned int i, total = test_scale(20);
	struct victim owner;

	for (i = 0; i < total; i++) {
		ASSERT_LE(0, victim_fork(&owner));
		if (!owner.pid)
			share_owner(self, variant, &owner);
		ASSERT_EQ(0, victim_kill(&owner, i % 7));
	}
	EXPECT_EQ(refs, module_refs_settle("vhost_blk", refs, 3000));
	EXPECT_EQ(disk_refs, module_refs_settle("null_blk", disk_refs, 3000));
}

SUITE_MAIN
