// SPDX-License-Identifier: GPL-2.0
/* The poll loop: how long it spins, and whose turn it is. */
#include <limits.h>

#include "suite.h"

#define RING_SIZE	256
#define DEPTH		32

/*
 * A ring on a disk that answers at once, and its worker, which has a CPU that this
 * thread keeps off: whoever is woken there ends a spin.
 */
FIXTURE(spin) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct baseline before;
	cpu_set_t cpu;
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
	ASSERT_EQ(0, split_cpus(self->tid, &self->cpu));
}

FIXTURE_TEARDOWN(spin)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

#define SPIN_US		20000

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
	/* others may want the CPU */
	EXPECT_LE(2 * SPIN_US, fixed);
	EXPECT_GE(fixed / 4, adaptive);
}

TEST_F(spin, gets_longer_where_it_pays)
{
	ASSERT_EQ(0, set_spin(&self->d, SPIN_US, 0));
	ASSERT_LE(0, rare_requests(self->q, self->tid, 8));
	self->q->spin = true;
	EXPECT_GE(5, flushes_least_kicks(self->q, 5));
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

TEST_F(spin, needs_no_switch_for_a_request)
{
	long long n, least = LLONG_MAX;
	unsigned int i, j;

	ASSERT_EQ(0, set_spin(&self->d, SPIN_US, VHOST_BLK_POLL_FIXED));
	self->q->spin = true;
	/* others may disturb us */
	for (i = 0; i < 10 && least > 20; i++) {
		ASSERT_EQ(0, blk_flush(self->q));
		n = switches(self->tid);
		for (j = 0; j < 1000; j++)
			ASSERT_EQ(0, blk_flush(self->q));
		n = switches(self->tid) - n;
		least = n < least ? n : least;
	}
	TH_LOG("%lld switches for 1000 requests", least);
	EXPECT_GE(20, least);
}

#define SPINS		20

TEST_F(spin, ends_when_somebody_else_wants_the_cpu)
{
	int64_t alone, shared;
	struct burner other;

	ASSERT_EQ(0, set_spin(&self->d, SPIN_US, VHOST_BLK_POLL_FIXED));
	alone = rare_requests(self->q, self->tid, SPINS);
	ASSERT_EQ(0, burner_start(&other, &self->cpu));
	shared = rare_requests(self->q, self->tid, SPINS);
	burner_stop(&other);
	TH_LOG("%u requests: %lld us, %lld us with a busy neighbour", SPINS,
	       (long long)alone, (long long)shared);
	EXPECT_LE(SPINS * SPIN_US / 5, alone);
	EXPECT_LT(0, shared);
	EXPECT_GE(SPINS * SPIN_US / 5, shared);
	EXPECT_GE(alone / 2, shared);
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
