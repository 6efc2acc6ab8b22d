// SPDX-License-Identifier: GPL-2.0
/*
 * Four devices of four rings each, all full, every block verified, while another
 * process opens, breaks, resets, kills and closes devices and takes a disk away.
 * VHOST_BLK_TEST_SECONDS says for how long (default 10).
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "suite.h"

#define DEVICES		4
#define RINGS		4
#define RING_SIZE	64
#define LEN		4096u
#define SLOT_SECTORS	(LEN / 512)

static unsigned int seconds(void)
{
	const char *env = getenv("VHOST_BLK_TEST_SECONDS");

	return env && atoi(env) > 0 ? atoi(env) : 10;
}

/* A request that writes its block, reads it back, compares, and so on. */
struct slot {
	struct req w, r;
	uint64_t tag;
};

struct worker {
	pthread_t thread;
	struct vq *q;
	struct slot slot[RING_SIZE];
	uint64_t done, until;
	int err;
};

static void pattern(uint64_t *buf, uint64_t tag)
{
	unsigned int i;

	for (i = 0; i < LEN / 8; i++)
		buf[i] = tag * 0x9e3779b97f4a7c15ULL + i;
}

static int slot_write(struct vq *q, struct slot *s)
{
	uint64_t buf[LEN / 8];
	int r;

	s->tag++;
	pattern(buf, s->tag);
	req_put_data(&s->w, buf);
	r = req_add(q, &s->w);
	return r < 0 ? r : 0;
}

/* One half of the slot's work is done: check it, start the other. */
static int slot_next(struct vq *q, struct slot *s, struct req *r)
{
	uint64_t want[LEN / 8], got[LEN / 8];
	int err;

	if (r->status)
		return -EIO;
	if (r == &s->w) {
		err = req_add(q, &s->r);
		return err < 0 ? err : 0;
	}
	pattern(want, s->tag);
	req_get_data(r, got);
	if (memcmp(want, got, LEN))
		return -EILSEQ;
	return slot_write(q, s);
}

static struct slot *slot_of(struct worker *w, struct req *r)
{
	return &w->slot[((char *)r - (char *)w->slot) / sizeof(struct slot)];
}

static int worker_init(struct worker *w, struct vq *q, unsigned int place,
		       uint64_t until)
{
	unsigned int i;
	int err = 0;

	memset(w, 0, sizeof(*w));
	w->q = q;
	w->until = until;
	for (i = 0; i < RING_SIZE && !err; i++) {
		struct slot *s = &w->slot[i];
		uint64_t sector = (place * RING_SIZE + i) * SLOT_SECTORS;

		s->tag = (uint64_t)(place * RING_SIZE + i) << 32;
		req_init(&s->w, VIRTIO_BLK_T_OUT, sector, LEN);
		req_init(&s->r, VIRTIO_BLK_T_IN, sector, LEN);
		/* every descriptor of the ring is a request */
		s->w.layout = &layout_indirect;
		s->r.layout = &layout_indirect;
		err = req_build(&q->dev->mem, &s->w);
		if (!err)
			err = req_build(&q->dev->mem, &s->r);
		if (!err)
			err = slot_write(q, s);
	}
	return err;
}

static void worker_free(struct worker *w)
{
	unsigned int i;

	for (i = 0; i < RING_SIZE; i++) {
		req_free(&w->slot[i].w);
		req_free(&w->slot[i].r);
	}
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;
	struct vq *q = w->q;
	struct req *r;

	vq_kick(q);
	while (!w->err && (now_ns() < w->until || q->nfree < q->num)) {
		w->err = vq_wait(q, 30000);
		while (!w->err && (r = req_reap(q, &w->err))) {
			w->done++;
			if (now_ns() < w->until)
				w->err = slot_next(q, slot_of(w, r), r);
		}
		vq_kick(q);
	}
	return NULL;
}

/* The other process. */

struct trouble {
	struct blkdev disk, gone;
	int refs;		/* of the module, without ours */
	unsigned int patience;	/* ms, until nothing is left of a device */
	unsigned int done[6];
	uint64_t slowest_kill;
};

static int dev_start(struct vdev *d, struct vq **q, struct worker *w, int fd)
{
	unsigned int i;
	int r;

	r = vdev_open(d, DRIVER_FEATURES, 16UL << 20);
	for (i = 0; i < RINGS && !r; i++) {
		r = vq_setup(d, i, RING_SIZE, &q[i]);
		if (!r)
			r = vq_start(q[i], fd);
		if (!r)
			r = worker_init(&w[i], q[i], i, 0);
		if (!r)
			vq_kick(q[i]);
	}
	return r;
}

static void dev_end(struct vdev *d, struct worker *w)
{
	unsigned int i;

	vdev_close(d);
	for (i = 0; i < RINGS; i++)
		worker_free(&w[i]);
}

/* A ring is violated, and comes back by a reset. */
static int break_ring(struct vq *q, int fd)
{
	int r;

	vq_add_raw(q, q->num);
	vq_publish(q);
	vq_kick_force(q);
	r = vq_wait_error(q, 30000);
	if (!r)
		r = vq_reset(q);
	if (!r)
		r = vq_start(q, fd);
	return r ? r : blk_flush(q);
}

/* All rings at once, as a guest's reset: everything in flight is forgotten. */
static int reset_all(struct vq **q, int fd)
{
	unsigned int i;
	int r = 0;

	for (i = 0; i < RINGS && !r; i++)
		r = vq_reset(q[i]);
	for (i = 0; i < RINGS && !r; i++) {
		r = vq_start(q[i], fd);
		if (!r)
			r = blk_flush(q[i]);
	}
	return r;
}

/* More on kernels so slow that other tests are cut short there. */
static unsigned int patience_ms(const struct trouble *t)
{
	unsigned long scale = test_scale(1000);

	return scale < 1000 ? t->patience * 1000 / scale : t->patience;
}

static int nobody_left(const struct trouble *t)
{
	return module_refs_settle("vhost_blk", t->refs, patience_ms(t)) == t->refs ?
		0 : -EBUSY;
}

static int open_and_close(struct trouble *t, struct worker *w)
{
	struct vq *q[RINGS];
	struct vdev d;
	int r;

	r = dev_start(&d, q, w, t->disk.fd);
	dev_end(&d, w);
	return r ? r : nobody_left(t);
}

static int open_and_break(struct trouble *t, struct worker *w)
{
	struct vq *q[RINGS];
	struct vdev d;
	int r;

	r = dev_start(&d, q, w, t->disk.fd);
	if (!r)
		r = break_ring(q[1], t->disk.fd);
	dev_end(&d, w);
	return r;
}

static int open_and_reset(struct trouble *t, struct worker *w)
{
	struct vq *q[RINGS];
	struct vdev d;
	int r;

	r = dev_start(&d, q, w, t->disk.fd);
	if (!r)
		r = reset_all(q, t->disk.fd);
	if (!r)
		r = vdev_ioctl(&d, VHOST_RESET_OWNER, NULL);
	dev_end(&d, w);
	return r;
}

/* All is free within a second of the end. */
static int open_and_kill(struct trouble *t, struct worker *w)
{
	struct vq *q[RINGS];
	struct vdev d;
	int ready[2], status, r;
	uint64_t took;
	pid_t pid;
	char c;

	if (pipe(ready))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		if (dev_start(&d, q, w, t->disk.fd) ||
		    write(ready[1], "r", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	r = read(ready[0], &c, 1) == 1 ? 0 : -EPIPE;
	close(ready[0]);
	took = now_ns();
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	if (!r)
		r = nobody_left(t);
	took = now_ns() - took;
	if (took > t->slowest_kill)
		t->slowest_kill = took;
	return r ? r : took > patience_ms(t) * 1000000ULL ? -ETIME : 0;
}

/* Its disk goes away, and comes back when nobody holds it any more. */
static int open_and_remove(struct trouble *t, struct worker *w)
{
	static const char power[] = "/sys/kernel/config/nullb/vbt-gone/power";
	int fd = open("/dev/vbt-gone", O_RDWR | O_CLOEXEC), status, r;
	struct vq *q[RINGS];
	struct vdev d;
	char buf[512];

	if (fd < 0)
		return -errno;
	r = dev_start(&d, q, w, fd);
	if (!r && run("echo 0 >%s", power))
		r = -EIO;
	if (!r)
		r = reset_all(q, fd);
	/* with the disk gone, flushes succeed or fail, reads fail */
	if (r == VIRTIO_BLK_S_IOERR)
		r = 0;
	status = r ? r : blk_read(q[0], 0, buf, sizeof(buf));
	dev_end(&d, w);
	close(fd);
	if (run("echo 1 >%s", power) || blkdev_wait("/dev/vbt-gone"))
		return -EIO;
	return status == VIRTIO_BLK_S_IOERR ? 0 : status ? status : -EPROTO;
}

/* Settings and rings of a device change while it works. */
static int open_and_change(struct trouble *t, struct worker *w)
{
	struct vq *q[RINGS];
	struct vdev d;
	unsigned int i;
	int r;

	r = dev_start(&d, q, w, t->disk.fd);
	for (i = 0; i < 8 && !r; i++) {
		r = vdev_set_poll(&d, VHOST_BLK_ALL_RINGS, i % 3 * 40);
		if (!r)
			r = vdev_set_mem(&d);
		if (!r)
			r = vq_stop(q[i % RINGS]);
		if (!r)
			r = vq_start(q[i % RINGS], t->disk.fd);
	}
	dev_end(&d, w);
	return r;
}

typedef int (*trouble_fn)(struct trouble *t, struct worker *w);

static const struct {
	const char *name;
	trouble_fn make;
} troubles[] = {
	{ "opened and closed", open_and_close },
	{ "broken", open_and_break },
	{ "reset", open_and_reset },
	{ "killed", open_and_kill },
	{ "robbed of their disk", open_and_remove },
	{ "changed", open_and_change },
};

static int trouble_round(struct trouble *t, struct worker *w)
{
	unsigned int i;
	int r;

	for (i = 0; i < ARRAY_SIZE(troubles); i++) {
		r = troubles[i].make(t, w);
		if (r) {
			printf("# to be %s: %d\n", troubles[i].name, r);
			fflush(stdout);
			return r;
		}
		t->done[i]++;
	}
	return 0;
}

static void trouble_run(struct trouble *t, uint64_t until)
{
	struct worker *w = calloc(RINGS, sizeof(*w));
	unsigned int i;

	while (now_ns() < until)
		if (trouble_round(t, w))
			_exit(1);
	printf("# devices");
	for (i = 0; i < ARRAY_SIZE(troubles); i++)
		printf("%s %u %s", i ? "," : "", t->done[i], troubles[i].name);
	printf("; after a kill all was free in %llu ms at most\n",
	       (unsigned long long)t->slowest_kill / 1000000);
	fflush(stdout);
	_exit(0);
}

FIXTURE(load) {
	struct vdev d[DEVICES];
	struct blkdev disk[DEVICES];
	struct worker *w;	/* DEVICES * RINGS */
	struct trouble t;
};

FIXTURE_SETUP(load)
{
	static const enum blkdev_kind kind[DEVICES] = {
		BLKDEV_NULL_512, BLKDEV_NULL_SOFTIRQ, BLKDEV_NULL_60US,
		BLKDEV_CRYPT,
	};
	unsigned int i;

	for (i = 0; i < DEVICES; i++)
		OPEN_DISK(&self->disk[i], kind[i]);
	OPEN_DISK(&self->t.disk, BLKDEV_NULL_TIMER);
	/* beside so many others that want the CPU */
	self->t.patience = 5000;
	ASSERT_EQ(0, blkdev_make_null("vbt-gone", NULL));
	self->w = calloc(DEVICES * RINGS, sizeof(*self->w));
	ASSERT_NE(NULL, self->w);
}

FIXTURE_TEARDOWN(load)
{
	unsigned int i;

	for (i = 0; i < DEVICES; i++)
		blkdev_close(&self->disk[i]);
	blkdev_close(&self->t.disk);
	free(self->w);
}

/* Bring up all devices; requests lie in their rings. */
static void load_up(struct __test_metadata *_metadata,
		    FIXTURE_DATA(load) *self, uint64_t until)
{
	unsigned int i, j;
	struct vq *q;

	for (i = 0; i < DEVICES; i++) {
		ASSERT_EQ(0, vdev_open(&self->d[i], DRIVER_FEATURES, MEM_SIZE));
		for (j = 0; j < RINGS; j++) {
			ASSERT_EQ(0, vq_setup(&self->d[i], j, RING_SIZE, &q));
			ASSERT_EQ(0, vq_start(q, self->disk[i].fd));
			ASSERT_EQ(0, worker_init(&self->w[i * RINGS + j], q, j,
						 until));
			ASSERT_EQ(0, q->nfree);
		}
		/* half of them poll */
		ASSERT_EQ(0, vdev_set_poll(&self->d[i], VHOST_BLK_ALL_RINGS,
					   i % 2 * 50));
	}
}

static void load_down(struct __test_metadata *_metadata,
		      FIXTURE_DATA(load) *self)
{
	struct vhost_blk_stats s;
	unsigned long long total = 0, done = 0;
	unsigned int i, j;

	for (i = 0; i < DEVICES; i++) {
		ASSERT_EQ(0, vdev_stats(&self->d[i], VHOST_BLK_ALL_RINGS, &s));
		EXPECT_EQ(0, s.inflight + s.errors + s.ring_errors + s.unsupported);
		total += s.reads + s.writes;
		vdev_close(&self->d[i]);
		for (j = 0; j < RINGS; j++) {
			done += self->w[i * RINGS + j].done;
			worker_free(&self->w[i * RINGS + j]);
		}
	}
	EXPECT_EQ(total, done);
	TH_LOG("%llu requests, no wrong byte", done);
}

TEST_F_TIMEOUT(load, four_full_devices_stay_right_while_others_are_abused, 1800)
{
	int status, refs = module_refs("vhost_blk");
	struct baseline before = baseline_take();
	long long memory;
	unsigned int i;
	uint64_t until;
	pid_t pid;

	/* what is kept once for all: pools, slabs, blocks of the disks */
	self->t.refs = refs;
	pid = fork();
	if (!pid) {
		struct worker *w = calloc(RINGS, sizeof(*w));

		_exit(trouble_round(&self->t, w) ? 1 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	load_up(_metadata, self, 0);
	for (i = 0; i < DEVICES * RINGS; i++)
		worker_thread(&self->w[i]);
	load_down(_metadata, self);
	memory = kernel_memory();

	until = now_ns() + seconds() * 1000000000ULL;
	load_up(_metadata, self, until);
	self->t.refs = refs + DEVICES;
	for (i = 0; i < DEVICES * RINGS; i++)
		ASSERT_EQ(0, pthread_create(&self->w[i].thread, NULL,
					    worker_thread, &self->w[i]));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* our devices' files are the parent's alone */
		for (i = 0; i < DEVICES; i++)
			close(self->d[i].fd);
		trouble_run(&self->t, until);
	}
	for (i = 0; i < DEVICES * RINGS; i++) {
		ASSERT_EQ(0, pthread_join(self->w[i].thread, NULL));
		EXPECT_EQ(0, self->w[i].err) {
			TH_LOG("device %u, ring %u", i / RINGS, i % RINGS);
		}
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	load_down(_metadata, self);
	EXPECT_EQ(refs, module_refs_settle("vhost_blk", refs,
					   patience_ms(&self->t)));
	EXPECT_BASELINE(before);
	/*
	 * Much less than one device, however many there were. Kernels with
	 * checkers keep what was freed for a while, and have kmemleak for this.
	 */
	memory = kernel_memory() - memory;
	TH_LOG("kernel memory grew by %lld KiB", memory);
	if (test_scale(1000) >= 1000)
		EXPECT_GT(2048, memory);
}

/* Its disk needs 2 ms for a request, so that the last bio is near. */
TEST_F(load, a_device_that_is_killed_is_gone_within_a_second)
{
	struct worker *w = calloc(RINGS, sizeof(*w));
	unsigned int i;

	self->t.refs = module_refs("vhost_blk");
	self->t.patience = 1000;
	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, open_and_kill(&self->t, w));
	TH_LOG("after %llu ms at most",
	       (unsigned long long)self->t.slowest_kill / 1000000);
	free(w);
}

SUITE_MAIN
