// SPDX-License-Identifier: GPL-2.0
/*
 * The poll loop: when the guest is signalled, how long it spins, the disk's
 * polled queues, and whose turn it is.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

#define RING_SIZE	256
#define DEPTH		32
#define POLL_US		500000
#define SIGNAL_US	VHOST_BLK_MAX_SIGNAL_US

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
	unsigned int i;

	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES &
			       ~BIT64(VIRTIO_RING_F_EVENT_IDX), MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, set_poll(&self->d, POLL_US, SIGNAL_US));
	self->q->spin = true;
	self->q->vr.avail->flags = 0;
	for (i = 0; i < DEPTH; i++) {
		req_init(&self->r[i], VIRTIO_BLK_T_IN, i * 8, 512);
		ASSERT_EQ(0, req_build(&self->d.mem, &self->r[i]));
	}
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(signal)
{
	unsigned int i;

	for (i = 0; i < DEPTH; i++)
		req_free(&self->r[i]);
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/*
 * As a guest does it: send @depth requests, sleep until there is a signal, take
 * what has come, and send as many again; until @total have come. Returns how
 * many signals there were, or an error.
 */
static long guest_run(struct vq *q, struct req *r, unsigned int depth,
		      unsigned long total)
{
	unsigned long done = 0, sent, signals = 0;
	struct req *back;
	uint64_t n, end;
	int err = 0;

	for (sent = 0; sent < depth; sent++) {
		if (req_add(q, &r[sent]) < 0)
			return -ENOSPC;
		vq_kick(q);
	}
	while (done < total) {
		end = now_ns() + 10000000000ULL;
		while (!(n = eventfd_take(q->call)))
			if (now_ns() > end)
				return -ETIMEDOUT;
		signals += n;
		while (done < total && (back = req_reap(q, &err))) {
			done++;
			if (back->status != VIRTIO_BLK_S_OK)
				return -EIO;
			if (sent >= total)
				continue;
			sent++;
			if (req_add(q, back) < 0)
				return -ENOSPC;
			/* one by one, as they come from a guest's threads */
			vq_kick(q);
		}
		if (err)
			return err;
	}
	return signals;
}

TEST_F(signal, is_sent_for_each_batch_by_default)
{
	struct vhost_blk_stats s;
	long signals;

	ASSERT_EQ(0, set_poll(&self->d, POLL_US, 0));
	signals = guest_run(self->q, self->r, DEPTH, 2000);
	ASSERT_LT(0, signals);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	/* one request a batch */
	EXPECT_EQ(2000, s.signals);
	EXPECT_EQ(0, s.signal_holds);
	EXPECT_EQ(0, s.signals_saved);
	EXPECT_EQ(0, s.hold_misses);
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
		signals = guest_run(self->q, self->r, DEPTH, n);
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

	ASSERT_LT(0, guest_run(self->q, self->r, DEPTH, 2000));
	/* it finds out that times have changed */
	ASSERT_LT(0, guest_run(self->q, self->r, 1, 2000));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
	ASSERT_EQ(3000, guest_run(self->q, self->r, 1, 3000));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_GE(8, b.signal_holds - a.signal_holds);
	EXPECT_LE(b.hold_misses - a.hold_misses,
		  b.signal_holds - a.signal_holds);
	EXPECT_EQ(0, b.signals_saved - a.signals_saved);
}

/* More than one is expected, and nothing is held. */
static void expect_many(struct __test_metadata *_metadata,
			FIXTURE_DATA(signal) *self, struct vhost_blk_stats *s)
{
	ASSERT_LT(0, guest_run(self->q, self->r, DEPTH, 500));
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

/* A ring on a disk that answers at once, and its worker. */
FIXTURE(spin) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct baseline before;
	int tid;
};

FIXTURE_SETUP(spin)
{
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	self->tid = vdev_worker(&self->d, 0);
	ASSERT_LT(0, self->tid);
}

FIXTURE_TEARDOWN(spin)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

#define SPIN_US		20000

static int set_spin(struct vdev *d, uint32_t poll_us, uint32_t flags)
{
	struct vhost_blk_poll p = {
		.index = VHOST_BLK_ALL_RINGS,
		.poll_us = poll_us,
		.flags = flags,
	};

	return vdev_ioctl(d, VHOST_BLK_SET_POLL, &p);
}

/* CPU time of the worker, in us, for @n requests with long pauses. */
static int64_t rare_requests(struct vq *q, int tid, unsigned int n)
{
	int64_t before = thread_cpu_ns(tid);
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (blk_flush(q))
			return -1;
		sleep_ms(3 * SPIN_US / 1000);
	}
	return (thread_cpu_ns(tid) - before) / 1000;
}

TEST_F(spin, gets_shorter_where_it_is_in_vain)
{
	int64_t fixed, adaptive;

	ASSERT_EQ(0, set_spin(&self->d, SPIN_US, VHOST_BLK_POLL_FIXED));
	fixed = rare_requests(self->q, self->tid, 10);
	ASSERT_EQ(0, set_spin(&self->d, SPIN_US, 0));
	ASSERT_LE(0, rare_requests(self->q, self->tid, 8));
	adaptive = rare_requests(self->q, self->tid, 10);
	TH_LOG("10 requests: %lld us, %lld us with a fixed spin",
	       (long long)adaptive, (long long)fixed);
	EXPECT_LE(5 * SPIN_US, fixed);
	EXPECT_GE(fixed / 4, adaptive);
}

TEST_F(spin, gets_longer_where_it_pays)
{
	unsigned long kicks, least = 200;
	unsigned int i, j;

	ASSERT_EQ(0, set_spin(&self->d, SPIN_US, 0));
	ASSERT_LE(0, rare_requests(self->q, self->tid, 8));
	self->q->spin = true;
	/* others may disturb us */
	for (i = 0; i < 5 && least > 5; i++) {
		kicks = self->q->kicks;
		for (j = 0; j < 200; j++)
			ASSERT_EQ(0, blk_flush(self->q));
		kicks = self->q->kicks - kicks;
		least = kicks < least ? kicks : least;
	}
	EXPECT_GE(5, least);
}

/* Times that a thread gave its CPU away. */
static long long switches(int tid)
{
	char path[64], line[128];
	long long n, sum = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %lld", &n) == 1 ||
		    sscanf(line, "nonvoluntary_ctxt_switches: %lld", &n) == 1)
			sum += n;
	fclose(f);
	return sum;
}

TEST_F(spin, ends_and_then_nothing_runs)
{
	static const unsigned int poll_us[] = { 0, 50, SPIN_US };
	long long before;
	unsigned int i;
	int64_t cpu;

	for (i = 0; i < ARRAY_SIZE(poll_us); i++) {
		ASSERT_EQ(0, set_spin(&self->d, poll_us[i],
				      i ? VHOST_BLK_POLL_FIXED : 0));
		ASSERT_EQ(0, blk_flush(self->q));
		sleep_ms(10 + 5 * poll_us[i] / 1000);
		before = switches(self->tid);
		cpu = thread_cpu_ns(self->tid);
		sleep_ms(300);
		EXPECT_LT(0, before);
		EXPECT_EQ(before, switches(self->tid));
		EXPECT_EQ(cpu, thread_cpu_ns(self->tid));
	}
}

/* A disk with polled queues. */
FIXTURE(iopoll) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct req r[DEPTH];
	struct baseline before;
};

static int iopoll_open(struct vdev *d, struct vq **q, int fd, uint32_t flags)
{
	int r = vdev_open(d, DRIVER_FEATURES, MEM_SIZE);

	if (!r)
		r = vq_setup(d, 0, RING_SIZE, q);
	if (!r)
		r = set_spin(d, POLL_US, flags | VHOST_BLK_POLL_FIXED);
	if (!r)
		r = vq_start(*q, fd);
	if (!r)
		(*q)->spin = true;
	return r;
}

FIXTURE_SETUP(iopoll)
{
	unsigned int i;

	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NVME);
	if (blkdev_attr(&self->disk, "queue/io_poll") != 1)
		SKIP(return, "needs nvme poll_queues=1");
	ASSERT_EQ(0, iopoll_open(&self->d, &self->q, self->disk.fd, 0));
	for (i = 0; i < DEPTH; i++) {
		req_init(&self->r[i], VIRTIO_BLK_T_IN, i * 8, 4096);
		ASSERT_EQ(0, req_build(&self->d.mem, &self->r[i]));
	}
}

FIXTURE_TEARDOWN(iopoll)
{
	unsigned int i;

	for (i = 0; i < DEPTH; i++)
		req_free(&self->r[i]);
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/* Interrupts of the I/O queues of the first NVMe controller so far. */
static long long nvme_interrupts(void)
{
	FILE *f = fopen("/proc/interrupts", "re");
	char line[4096], *p, *end;
	long long n, sum = 0;
	unsigned int queue;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		p = strstr(line, "nvme0q");
		if (!p || sscanf(p, "nvme0q%u", &queue) != 1 || !queue)
			continue;
		for (p = strchr(line, ':') + 1;; p = end) {
			n = strtoll(p, &end, 10);
			if (end == p)
				break;
			sum += n;
		}
	}
	fclose(f);
	return sum;
}

/* Keep @depth of the requests in flight until @total have come back. */
static int keep_busy(struct vq *q, struct req *r, unsigned int depth,
		     unsigned int total)
{
	unsigned int sent, done = 0;
	struct req *back;
	int err = 0;

	for (sent = 0; sent < depth; sent++)
		if (req_add(q, &r[sent]) < 0)
			return -ENOSPC;
	vq_kick(q);
	while (done < total) {
		err = vq_wait(q, REQ_TIMEOUT_MS);
		if (err)
			return err;
		while ((back = req_reap(q, &err))) {
			done++;
			if (back->status != VIRTIO_BLK_S_OK)
				return -EIO;
			if (sent < total) {
				sent++;
				if (req_add(q, back) < 0)
					return -ENOSPC;
			}
		}
		if (err)
			return err;
		vq_kick(q);
	}
	return 0;
}

TEST_F(iopoll, needs_no_interrupt)
{
	struct vhost_blk_stats a, b;
	long long before;

	before = nvme_interrupts();
	ASSERT_LE(0, before);
	ASSERT_EQ(0, keep_busy(self->q, self->r, DEPTH, 2000));
	ASSERT_EQ(0, keep_busy(self->q, self->r, 1, 200));
	EXPECT_EQ(before, nvme_interrupts());
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
	EXPECT_EQ(2200, a.reads);
	EXPECT_EQ(2200, a.polled);
	EXPECT_EQ(0, a.poll_fallbacks);

	/* and does without it where that is not wanted */
	ASSERT_EQ(0, set_spin(&self->d, POLL_US, VHOST_BLK_POLL_FIXED |
			      VHOST_BLK_POLL_NO_IOPOLL));
	ASSERT_EQ(0, keep_busy(self->q, self->r, 1, 100));
	EXPECT_LT(before, nvme_interrupts());
	ASSERT_EQ(0, set_spin(&self->d, 0, 0));
	before = nvme_interrupts();
	ASSERT_EQ(0, keep_busy(self->q, self->r, 1, 100));
	EXPECT_LT(before, nvme_interrupts());
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_EQ(2400, b.reads);
	/* the loop that ran when spinning was forbidden may take one more */
	EXPECT_LE(a.polled, b.polled);
	EXPECT_GE(a.polled + 1, b.polled);
	EXPECT_EQ(0, b.poll_fallbacks);
}

TEST_F(iopoll, moves_the_right_data)
{
	static char out[65536], in[65536];
	struct prng p;
	unsigned int i;

	prng_init(&p, 1);
	for (i = 0; i < 20; i++) {
		prng_fill(&p, out, sizeof(out));
		ASSERT_EQ(0, blk_write(self->q, i * 256, out, sizeof(out)));
		ASSERT_EQ(0, blkdev_peek(&self->disk, i * 256, in, sizeof(in)));
		ASSERT_EQ(0, memcmp(out, in, sizeof(in)));
		ASSERT_EQ(0, blk_flush(self->q));
		memset(in, 0, sizeof(in));
		ASSERT_EQ(0, blk_read(self->q, i * 256, in, sizeof(in)));
		ASSERT_EQ(0, memcmp(out, in, sizeof(in)));
	}
}

TEST_F(iopoll, what_has_to_be_split_is_done_without)
{
	/* not more than one bio, but more than the disk takes at a time */
	uint32_t len = 1 << 20;
	char *out = malloc(len), *in = malloc(len);
	struct vhost_blk_stats s;
	struct prng p;

	ASSERT_NE(NULL, out);
	ASSERT_NE(NULL, in);
	ASSERT_GT(len >> 10, blkdev_attr(&self->disk, "queue/max_sectors_kb"));
	prng_init(&p, 2);
	prng_fill(&p, out, len);
	ASSERT_EQ(0, blk_write(self->q, 0, out, len));
	ASSERT_EQ(0, blkdev_peek(&self->disk, 0, in, len));
	EXPECT_EQ(0, memcmp(out, in, len));
	memset(in, 0, len);
	ASSERT_EQ(0, blk_read(self->q, 0, in, len));
	EXPECT_EQ(0, memcmp(out, in, len));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(2, s.poll_fallbacks);
	EXPECT_EQ(0, s.polled);
	EXPECT_EQ(0, s.errors);
	free(out);
	free(in);
}

TEST_F(iopoll, stops_and_changes_workers_with_requests_in_flight)
{
	struct vhost_worker_state w;
	struct vhost_blk_stats s;
	unsigned int i, j;

	for (i = 0; i < 50; i++) {
		for (j = 0; j < DEPTH; j++)
			ASSERT_LE(0, req_add(self->q, &self->r[j]));
		vq_kick(self->q);
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_NEW_WORKER, &w));
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_FREE_WORKER, &w));
		ASSERT_EQ(0, vq_stop(self->q));
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
		ASSERT_EQ(0, s.inflight);
		ASSERT_EQ(vq_base(self->q), self->q->vr.used->idx);
		ASSERT_EQ(0, vq_reset(self->q));
		ASSERT_EQ(0, set_spin(&self->d, POLL_US, i % 3 ?
				      VHOST_BLK_POLL_FIXED : 0));
		ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	}
	EXPECT_LT(0, s.polled);
}

TEST_F(iopoll, the_owner_is_killed_with_requests_in_flight)
{
	unsigned long i, n = test_scale(50);
	struct vdev d;
	struct vq *q;
	int status;
	pid_t pid;

	for (i = 0; i < n; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			struct req r[DEPTH];
			unsigned int j;

			if (iopoll_open(&d, &q, self->disk.fd, 0))
				_exit(1);
			for (j = 0; j < DEPTH; j++) {
				req_init(&r[j], VIRTIO_BLK_T_IN, j * 8, 4096);
				if (req_build(&d.mem, &r[j]))
					_exit(2);
			}
			keep_busy(q, r, DEPTH, ~0U);
			_exit(3);
		}
		sleep_ms(5 + i % 7 * 10);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
	}
	/* ours is alive */
	ASSERT_EQ(0, keep_busy(self->q, self->r, 1, 1));
}

/*
 * Whose turn it is: two rings of one worker, and the order in which their
 * requests were started.
 */
#define TRACEFS		"/sys/kernel/tracing"
#define TRACE_DIR	TRACEFS "/instances/vhost-blk-test"
#define TRACE_START	TRACE_DIR "/events/vhost_blk/vhost_blk_req_start"

FIXTURE(turn) {
	struct vdev d;
	struct vq *hog, *other;
	struct blkdev disk;
	struct req r[DEPTH * 2];
	struct baseline before;
};

FIXTURE_SETUP(turn)
{
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	run("mountpoint -q " TRACEFS " || mount -t tracefs t " TRACEFS);
	run("rmdir " TRACE_DIR);
	if (run("mkdir " TRACE_DIR) || run("echo 1 >" TRACE_START "/enable"))
		SKIP(return, "needs tracefs");
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->hog));
	ASSERT_EQ(0, vq_setup(&self->d, 1, RING_SIZE, &self->other));
	ASSERT_EQ(0, vq_start(self->hog, self->disk.fd));
	ASSERT_EQ(0, vq_start(self->other, self->disk.fd));
}

FIXTURE_TEARDOWN(turn)
{
	vdev_close(&self->d);
	run("rmdir " TRACE_DIR);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

static int set_batch(struct vdev *d, unsigned int index, unsigned int batch)
{
	struct vhost_blk_poll p = { .index = index, .batch = batch };

	return vdev_ioctl(d, VHOST_BLK_SET_POLL, &p);
}

/*
 * Most requests of ring 0 in a row while ring 1 had one waiting, up to the last
 * of ring 1. An error if not all of @n were started.
 */
static int longest_wait(unsigned int n)
{
	FILE *f = fopen(TRACE_DIR "/trace", "re");
	unsigned int ring, owner, row = 0, most = 0, seen = 0;
	char line[512], *p;

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		p = strstr(line, "vhost_blk_req_start: ");
		if (!p || sscanf(p, "vhost_blk_req_start: owner=%u ring=%u",
				 &owner, &ring) != 2 ||
		    owner != (unsigned int)getpid())
			continue;
		if (ring == 0) {
			row++;
			continue;
		}
		most = row > most ? row : most;
		row = 0;
		seen++;
	}
	fclose(f);
	return seen == n ? (int)most : -ENODATA;
}

/* @many requests of @len bytes against @few small ones, all there at once. */
static int compete(FIXTURE_DATA(turn) *self, unsigned int many, uint32_t len,
		   unsigned int few)
{
	unsigned int i;
	struct vq *q;
	int r;

	run("echo >" TRACE_DIR "/trace");
	for (i = 0; i < many + few; i++) {
		q = i < many ? self->hog : self->other;
		req_init(&self->r[i], VIRTIO_BLK_T_IN, 0, i < many ? len : 512);
		r = req_build(&self->d.mem, &self->r[i]);
		if (!r)
			r = req_add(q, &self->r[i]);
		if (r < 0)
			return r;
	}
	vq_publish(self->hog);
	vq_publish(self->other);
	vq_kick_force(self->hog);
	r = req_wait_n(self->hog, many, REQ_TIMEOUT_MS);
	if (!r)
		r = req_wait_n(self->other, few, REQ_TIMEOUT_MS);
	if (!r)
		r = longest_wait(few);
	for (i = 0; i < many + few; i++)
		req_free(&self->r[i]);
	return r;
}

TEST_F(turn, ends_after_a_batch_of_requests)
{
	static const unsigned int batch[] = { 1, 4, 8 };
	unsigned int i;
	int row;

	for (i = 0; i < ARRAY_SIZE(batch); i++) {
		ASSERT_EQ(0, set_batch(&self->d, 0, batch[i]));
		ASSERT_EQ(0, set_batch(&self->d, 1, 1));
		sleep_ms(20);
		row = compete(self, 40, 512, 5);
		EXPECT_EQ((int)batch[i], row);
	}
}

TEST_F(turn, ends_after_a_megabyte)
{
	int row;

	ASSERT_EQ(0, set_batch(&self->d, 0, 64));
	ASSERT_EQ(0, set_batch(&self->d, 1, 1));
	row = compete(self, 40, 256 << 10, 5);
	EXPECT_EQ(4, row);
}

SUITE_MAIN
