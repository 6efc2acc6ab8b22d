// SPDX-License-Identifier: GPL-2.0
/*
 * The polled queues of a disk: no interrupts, the same data, and nothing left
 * behind when the ring stops or its owner dies.
 */
#include "suite.h"

#define RING_SIZE	256
#define DEPTH		32
#define POLL_US		500000
#define NVME_QUEUES	"/sys/module/nvme/parameters/poll_queues"
#define NVME_RESET	"/sys/class/nvme/nvme0/reset_controller"
/* Reset the controller, which has that many polled queues then. */
#define SET_POLLED(n)	"echo " #n " >" NVME_QUEUES " && echo 1 >" NVME_RESET

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
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NVME);
	if (blkdev_attr(&self->disk, "queue/io_poll") != 1)
		SKIP(return, "needs nvme poll_queues=1");
	ASSERT_EQ(0, iopoll_open(&self->d, &self->q, self->disk.fd, 0));
	ASSERT_EQ(0, reads_build(&self->d.mem, self->r, DEPTH, 4096));
}

FIXTURE_TEARDOWN(iopoll)
{
	trace_end();
	reads_free(self->r, DEPTH);
	vdev_close(&self->d);
	if (blkdev_attr(&self->disk, "queue/io_poll") == 0)
		EXPECT_EQ(0, run(SET_POLLED(1)));
	run("cd /sys/block/%s/queue && echo mq-deadline >scheduler && echo none >scheduler",
	    self->disk.name);
	run("rmdir " TRACE_DIR);
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

/* A batch is handed to the driver in one call, not request by request. */
TEST_F(iopoll, a_batch_reaches_the_driver_at_once)
{
	struct vhost_blk_stats s;
	int batches, single;

	if (trace_start() ||
	    run("echo 'nvme_queue_rq nvme_queue_rqs' >" TRACE_DIR
		"/set_ftrace_filter && echo function >" TRACE_DIR "/current_tracer"))
		SKIP(return, "needs the function tracer");
	ASSERT_EQ(0, keep_busy(self->q, self->r, DEPTH, 50 * DEPTH));
	EXPECT_EQ(0, run("echo 0 >" TRACE_DIR "/tracing_on"));
	batches = traced(": nvme_queue_rqs <-", 0);
	single = traced(": nvme_queue_rq <-", 0);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	TH_LOG("%llu requests: %d calls of nvme_queue_rqs(), %d of nvme_queue_rq()",
	       s.reads, batches, single);
	EXPECT_LT(0, batches);
	EXPECT_GT(50 * DEPTH, batches);
	EXPECT_EQ(0, single);
}

/* Something done to the disk by another thread, with requests in flight. */
struct blow {
	const char *command;
	pthread_t thread;
	int err;
	bool done;
};

static void *strike(void *arg)
{
	struct blow *b = arg;

	sleep_ms(50);
	b->err = run("%s", b->command);
	__atomic_store_n(&b->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * Keep the disk busy until that is over; no request may fail. Tell how long the
 * longest took, ns, with those that came before it.
 */
static int under_load(FIXTURE_DATA(iopoll) *self, struct req *r, const char *command,
		      uint64_t *longest)
{
	struct blow b = { .command = command };
	int err = pthread_create(&b.thread, NULL, strike, &b);
	uint64_t ns;

	if (err)
		return -err;
	do {
		ns = now_ns();
		err = keep_busy(self->q, r, DEPTH, DEPTH);
		ns = now_ns() - ns;
		if (ns > *longest)
			*longest = ns;
	} while (!err && !__atomic_load_n(&b.done, __ATOMIC_ACQUIRE));
	pthread_join(b.thread, NULL);
	return err ? err : b.err;
}

/* The disk loses its polled queues with requests in flight, and gets them back so. */
TEST_F(iopoll, goes_on_without_polled_queues)
{
	struct vhost_blk_stats a, b;
	uint64_t ns = 0;
	int i;

	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, under_load(self, self->r, SET_POLLED(0), &ns));
		ASSERT_EQ(0, blkdev_attr(&self->disk, "queue/io_poll"));
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
		ASSERT_EQ(0, keep_busy(self->q, self->r, DEPTH, 500));
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
		EXPECT_EQ(500, b.reads - a.reads);
		EXPECT_EQ(a.polled, b.polled);
		TH_LOG("%llu requests were submitted again", b.poll_fallbacks);

		ASSERT_EQ(0, under_load(self, self->r, SET_POLLED(1), &ns));
		ASSERT_EQ(1, blkdev_attr(&self->disk, "queue/io_poll"));
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
		ASSERT_EQ(0, keep_busy(self->q, self->r, DEPTH, 500));
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
		/* the driver may look at the disk anew, and have the queue frozen meanwhile */
		EXPECT_LT(a.polled, b.polled);
		EXPECT_LE(500, b.polled - a.polled + b.poll_fallbacks - a.poll_fallbacks);
	}
}

/*
 * A request that is not polled for may have to wait until the queue is not frozen
 * any more, which takes until those that are polled for have ended, for which the
 * same thread asks. Reads that the frozen queue refused wait so, and flushes.
 */
TEST_F(iopoll, a_frozen_queue_does_not_wait_for_us)
{
	static const char * const blows[] = {
		SET_POLLED(1),
		"echo 64 >/sys/block/%1$s/queue/nr_requests",
		"echo mq-deadline >/sys/block/%1$s/queue/scheduler",
		"echo none >/sys/block/%1$s/queue/scheduler",
	};
	unsigned long i, n = test_scale(16);
	struct vhost_blk_stats a, b;
	uint64_t reset = 0, ns = 0;
	struct req r[DEPTH];
	char command[256];
	int j;

	for (j = 0; j < DEPTH; j++) {
		req_init(&r[j], j % 8 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_FLUSH,
			 j % 8 * 8, j % 8 ? 4096 : 0);
		ASSERT_EQ(0, req_build(&self->d.mem, &r[j]));
	}
	for (i = 0; i < n; i++) {
		ASSERT_EQ(1, blkdev_attr(&self->disk, "queue/io_poll"));
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
		snprintf(command, sizeof(command), blows[i % ARRAY_SIZE(blows)],
			 self->disk.name);
		ASSERT_EQ(0, under_load(self, r, command,
					i % ARRAY_SIZE(blows) ? &ns : &reset)) {
			TH_LOG("%lu: %s", i, command);
		}
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
		EXPECT_LT(a.polled, b.polled);
	}
	TH_LOG("a batch took %llu ms at most, %llu with resets", ns / 1000000ULL,
	       reset / 1000000ULL);
	reads_free(r, DEPTH);
}

static void iopoll_owner(FIXTURE_DATA(iopoll) *self, struct victim *me)
{
	struct req r[DEPTH];
	struct vdev d;
	struct vq *q;
	unsigned int j;

	if (iopoll_open(&d, &q, self->disk.fd, 0))
		_exit(1);
	for (j = 0; j < DEPTH; j++) {
		req_init(&r[j], VIRTIO_BLK_T_IN, j * 8, 4096);
		if (req_build(&d.mem, &r[j]))
			_exit(2);
	}
	victim_at_work(me);
	keep_busy(q, r, DEPTH, ~0U);
	_exit(3);
}

TEST_F(iopoll, the_owner_is_killed_with_requests_in_flight)
{
	unsigned long i, n = test_scale(50);
	struct victim owner;

	for (i = 0; i < n; i++) {
		ASSERT_LE(0, victim_fork(&owner));
		if (!owner.pid)
			iopoll_owner(self, &owner);
		ASSERT_EQ(0, victim_kill(&owner, 5 + i % 7 * 10));
	}
	/* ours is alive */
	ASSERT_EQ(0, keep_busy(self->q, self->r, 1, 1));
}

SUITE_MAIN
