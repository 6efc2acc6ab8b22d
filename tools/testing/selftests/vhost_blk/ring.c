// SPDX-License-Identifier: GPL-2.0
/*
 * Rings: what a driver may do to one, and what it must not; starting,
 * stopping, waking, and what happens when somebody dies.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "suite.h"

#define RING_SIZE 64

static void open_ring(struct __test_metadata *_metadata, struct vdev *d,
		      struct vq **q, unsigned int n, unsigned int size,
		      int fd, uint64_t features)
{
	unsigned int i;

	ASSERT_EQ(0, vdev_open(d, features, MEM_SIZE));
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, vq_setup(d, i, size, &q[i]));
		if (fd >= 0)
			ASSERT_EQ(0, vq_start(q[i], fd));
	}
}

/* Two rings on a disk that answers at once. */

FIXTURE(ring) {
	struct vdev d;
	struct vq *q, *other;
	struct blkdev disk;
	struct baseline before;
};

FIXTURE_SETUP(ring)
{
	struct vq *q[2];

	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	open_ring(_metadata, &self->d, q, 2, RING_SIZE, self->disk.fd,
		  DRIVER_FEATURES);
	self->q = q[0];
	self->other = q[1];
}

FIXTURE_TEARDOWN(ring)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/* Violations of the ring itself. */

/* A sound read in descriptors 0, 1, 2; nothing of it is available yet. */
static void lay_out_read(struct vq *q)
{
	struct gmem *m = &q->dev->mem;
	struct virtio_blk_outhdr *hdr = gmem_alloc(m, 16, 16);
	struct vring_desc *desc = q->vr.desc;

	hdr->type = VIRTIO_BLK_T_IN;
	desc[0] = (struct vring_desc){ gmem_addr(m, hdr), 16,
				       VRING_DESC_F_NEXT, 1 };
	desc[1] = (struct vring_desc){ gmem_addr(m, gmem_alloc(m, 512, 512)),
				       512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2 };
	desc[2] = (struct vring_desc){ gmem_addr(m, gmem_alloc(m, 1, 1)), 1,
				       VRING_DESC_F_WRITE, 0 };
}

/* Descriptor 0 becomes an indirect table with the read in it. */
static struct vring_desc *lay_out_indirect(struct vq *q)
{
	struct vring_desc *table = gmem_alloc(&q->dev->mem, 64 * 16, 16);

	lay_out_read(q);
	memcpy(table, q->vr.desc, 3 * sizeof(*table));
	q->vr.desc[0] = (struct vring_desc){ gmem_addr(&q->dev->mem, table),
					     48, VRING_DESC_F_INDIRECT, 0 };
	return table;
}

static void break_self_loop(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[0].next = 0;
	vq_add_raw(q, 0);
}

static void break_loop_of_two(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[1].flags &= ~VRING_DESC_F_WRITE;
	q->vr.desc[1].next = 0;
	vq_add_raw(q, 0);
}

static void break_whole_ring_loop(struct vq *q)
{
	unsigned int i;

	/* a chain through every descriptor, and one more */
	lay_out_read(q);
	for (i = 0; i < q->num; i++) {
		q->vr.desc[i] = q->vr.desc[0];
		q->vr.desc[i].len = 1;
		q->vr.desc[i].next = (i + 1) % q->num;
	}
	vq_add_raw(q, 0);
}

static void break_index_out_of_range(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[1].next = q->num;
	vq_add_raw(q, 0);
}

static void break_index_far_out_of_range(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[0].next = 0xffff;
	vq_add_raw(q, 0);
}

static void break_head_out_of_range(struct vq *q)
{
	vq_add_raw(q, q->num);
}

static void break_head_far_out_of_range(struct vq *q)
{
	vq_add_raw(q, 0xffff);
}

static void break_header_outside_memory(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[0].addr = GMEM_HOLE;
	vq_add_raw(q, 0);
}

static void break_data_outside_memory(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[1].addr = GMEM_HOLE;
	vq_add_raw(q, 0);
}

static void break_data_across_end_of_memory(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[1].addr = GMEM_HIGH + q->dev->mem.high - 256;
	vq_add_raw(q, 0);
}

static void break_address_wraps(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[1].addr = ~0ULL - 100;
	vq_add_raw(q, 0);
}

static void break_length_is_huge(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[1].len = 0xffffffff;
	vq_add_raw(q, 0);
}

static void break_read_after_write(struct vq *q)
{
	lay_out_read(q);
	q->vr.desc[2].flags = 0;
	vq_add_raw(q, 0);
}

static void break_nested_indirect(struct vq *q)
{
	struct vring_desc *table = lay_out_indirect(q);

	table[1] = q->vr.desc[0];
	vq_add_raw(q, 0);
}

static void break_indirect_length(struct vq *q)
{
	lay_out_indirect(q);
	q->vr.desc[0].len = 47;
	vq_add_raw(q, 0);
}

static void break_indirect_empty(struct vq *q)
{
	lay_out_indirect(q);
	q->vr.desc[0].len = 0;
	vq_add_raw(q, 0);
}

static void break_indirect_loop(struct vq *q)
{
	struct vring_desc *table = lay_out_indirect(q);

	/* the last entry goes on */
	table[2].flags |= VRING_DESC_F_NEXT;
	vq_add_raw(q, 0);
}

static void break_indirect_outside_memory(struct vq *q)
{
	lay_out_indirect(q);
	q->vr.desc[0].addr = GMEM_HOLE;
	vq_add_raw(q, 0);
}

static void break_indirect_huge(struct vq *q)
{
	lay_out_indirect(q);
	q->vr.desc[0].addr = GMEM_HIGH;
	q->vr.desc[0].len = 17 << 16;
	vq_add_raw(q, 0);
}

static void break_avail_index_jumps(struct vq *q)
{
	lay_out_read(q);
	q->avail_idx += q->num + 1;
}

static void break_avail_index_jumps_far(struct vq *q)
{
	lay_out_read(q);
	q->avail_idx += 0x8000;
}

static void break_avail_index_goes_back(struct vq *q)
{
	lay_out_read(q);
	q->avail_idx--;
}

FIXTURE(violation) {
	struct vdev d;
	struct vq *q, *other;
	struct blkdev disk;
	struct baseline before;
};

FIXTURE_VARIANT(violation) {
	void (*commit)(struct vq *q);
};

#define VIOLATION(name) \
	FIXTURE_VARIANT_ADD(violation, name) { break_##name }

VIOLATION(self_loop);
VIOLATION(loop_of_two);
VIOLATION(whole_ring_loop);
VIOLATION(index_out_of_range);
VIOLATION(index_far_out_of_range);
VIOLATION(head_out_of_range);
VIOLATION(head_far_out_of_range);
VIOLATION(header_outside_memory);
VIOLATION(data_outside_memory);
VIOLATION(data_across_end_of_memory);
VIOLATION(address_wraps);
VIOLATION(length_is_huge);
VIOLATION(read_after_write);
VIOLATION(nested_indirect);
VIOLATION(indirect_length);
VIOLATION(indirect_empty);
VIOLATION(indirect_loop);
VIOLATION(indirect_outside_memory);
VIOLATION(indirect_huge);
VIOLATION(avail_index_jumps);
VIOLATION(avail_index_jumps_far);
VIOLATION(avail_index_goes_back);

FIXTURE_SETUP(violation)
{
	struct vq *q[2];

	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	open_ring(_metadata, &self->d, q, 2, RING_SIZE, self->disk.fd,
		  DRIVER_FEATURES);
	self->q = q[0];
	self->other = q[1];
	/* past the first lap */
	ASSERT_EQ(0, blk_flush(self->q));
	ASSERT_EQ(0, blk_flush(self->other));
}

FIXTURE_TEARDOWN(violation)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/* CPU time of the ring's worker while we sleep, in per cent. */
static int worker_load(struct vdev *d, unsigned int index, unsigned int ms)
{
	int tid = vdev_worker(d, index);
	int64_t before = thread_cpu_ns(tid), after;

	sleep_ms(ms);
	after = thread_cpu_ns(tid);
	if (tid <= 0 || before < 0 || after < 0)
		return -1;
	return (after - before) / (ms * 10000LL);
}

#define IDLE_LOAD 15	/* per cent; a loop would give nearly 100 */

TEST_F(violation, stops_that_ring_alone_quietly_until_reset)
{
	struct vhost_blk_stats s;
	uint64_t kicks;
	char buf[512];
	int load;

	variant->commit(self->q);
	vq_publish(self->q);
	vq_kick_force(self->q);
	ASSERT_EQ(0, vq_wait_error(self->q, 2000));
	EXPECT_EQ(0, vq_pending(self->q));
	EXPECT_EQ(0, blk_read(self->other, 0, buf, sizeof(buf)));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(1, s.ring_errors);
	EXPECT_EQ(0, s.inflight);

	/* kicks do not wake it again */
	kicks = s.kicks;
	vq_kick_force(self->q);
	load = worker_load(&self->d, 0, 60);
	EXPECT_LE(0, load);
	EXPECT_GT(IDLE_LOAD, load);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(1, s.ring_errors);
	EXPECT_EQ(kicks, s.kicks);
	EXPECT_EQ(0, vq_pending(self->q));

	ASSERT_EQ(0, vq_reset(self->q));
	EXPECT_EQ(0, blk_read(self->other, 0, buf, sizeof(buf)));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(0, blk_read(self->q, 0, buf, sizeof(buf)));
	EXPECT_EQ(0, blk_read(self->other, 0, buf, sizeof(buf)));
}

TEST_F(violation, costs_nothing_while_polling)
{
	char buf[512];
	int load;

	ASSERT_EQ(0, vdev_set_poll(&self->d, VHOST_BLK_ALL_RINGS, 50));
	variant->commit(self->q);
	vq_publish(self->q);
	vq_kick_force(self->q);
	ASSERT_EQ(0, vq_wait_error(self->q, 2000));
	EXPECT_EQ(0, blk_read(self->other, 0, buf, sizeof(buf)));
	load = worker_load(&self->d, 0, 60);
	EXPECT_LE(0, load);
	EXPECT_GT(IDLE_LOAD, load);
}

TEST_F(ring, requests_before_a_violation_complete)
{
	struct req r[8];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(r); i++) {
		req_init(&r[i], VIRTIO_BLK_T_IN, i * 8, 4096);
		ASSERT_EQ(0, req_build(&self->d.mem, &r[i]));
		ASSERT_LE(0, req_add(self->q, &r[i]));
	}
	vq_add_raw(self->q, self->q->num);
	vq_kick(self->q);
	ASSERT_EQ(0, req_wait_n(self->q, ARRAY_SIZE(r), 2000));
	ASSERT_EQ(0, vq_wait_error(self->q, 2000));
	for (i = 0; i < ARRAY_SIZE(r); i++) {
		EXPECT_EQ(VIRTIO_BLK_S_OK, r[i].status);
		req_free(&r[i]);
	}
}

/*
 * VIRTIO forbids NEXT together with INDIRECT; vhost core follows it. A stated
 * leniency: the chain goes on behind the table.
 */
TEST_F(ring, a_chain_may_go_on_behind_an_indirect_table)
{
	struct vring_desc *table = lay_out_indirect(self->q);
	struct gmem *m = &self->d.mem;
	uint8_t *status;
	uint32_t len;

	table[1].flags &= ~VRING_DESC_F_NEXT;
	self->q->vr.desc[0].len = 32;
	self->q->vr.desc[0].flags |= VRING_DESC_F_NEXT;
	self->q->vr.desc[0].next = 2;
	status = gmem_ptr(m, self->q->vr.desc[2].addr);
	*status = REQ_NO_STATUS;
	self->q->slot[0].ndesc = 1;
	vq_add_raw(self->q, 0);
	vq_kick(self->q);
	ASSERT_EQ(0, vq_wait(self->q, 2000));
	ASSERT_EQ(1, vq_get(self->q, NULL, &len));
	EXPECT_EQ(VIRTIO_BLK_S_OK, *status);
	EXPECT_EQ(513, len);
}

TEST_F(ring, kicks_without_requests_are_harmless)
{
	unsigned int i;

	for (i = 0; i < 200; i++)
		vq_kick_force(self->q);
	EXPECT_EQ(0, blk_flush(self->q));
	EXPECT_EQ(0, vq_pending(self->q));
	EXPECT_EQ(-ETIMEDOUT, vq_wait_error(self->q, 0));
}

TEST_F(ring, requests_wait_without_kick_until_there_is_one)
{
	struct req r;

	req_init(&r, VIRTIO_BLK_T_FLUSH, 0, 0);
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	/* until the worker, which starting a ring wakes, sleeps again */
	ASSERT_EQ(0, blk_flush(self->q));
	ASSERT_LT(0, vdev_worker(&self->d, 0));
	sleep_ms(50);
	ASSERT_LE(0, req_add(self->q, &r));
	vq_publish(self->q);
	EXPECT_EQ(-ETIMEDOUT, vq_wait(self->q, 100));
	vq_kick_force(self->q);
	EXPECT_EQ(0, req_wait_n(self->q, 1, 2000));
	EXPECT_EQ(VIRTIO_BLK_S_OK, r.status);
	req_free(&r);
}

TEST_F(ring, an_idle_ring_costs_nothing)
{
	static const unsigned int poll_us[] = { 0, 50, 1000 };
	unsigned int i;
	int load;

	for (i = 0; i < ARRAY_SIZE(poll_us); i++) {
		ASSERT_EQ(0, vdev_set_poll(&self->d, VHOST_BLK_ALL_RINGS,
					   poll_us[i]));
		ASSERT_EQ(0, blk_flush(self->q));
		sleep_ms(20);
		load = worker_load(&self->d, 0, 100);
		EXPECT_LE(0, load);
		EXPECT_GT(IDLE_LOAD, load) {
			TH_LOG("poll_us %u: %d%%", poll_us[i], load);
		}
	}
}

TEST_F(ring, no_kicks_are_wanted_while_polling)
{
	unsigned long kicks;
	int i;

	/* a spin far longer than the pause between two requests */
	ASSERT_EQ(0, vdev_set_poll(&self->d, VHOST_BLK_ALL_RINGS, 500000));
	self->q->spin = true;
	ASSERT_EQ(0, blk_flush(self->q));
	kicks = self->q->kicks;
	for (i = 0; i < 200; i++)
		ASSERT_EQ(0, blk_flush(self->q));
	EXPECT_GE(kicks + 2, self->q->kicks);
	EXPECT_LE(190, self->q->kicks_saved);
}

TEST_F(ring, no_signal_is_sent_that_is_not_wanted)
{
	int i;

	/* without EVENT_IDX the first one after start may come */
	self->q->spin = true;
	ASSERT_EQ(0, blk_flush(self->q));
	eventfd_take(self->q->call);
	for (i = 0; i < 200; i++)
		ASSERT_EQ(0, blk_flush(self->q));
	sleep_ms(10);
	EXPECT_EQ(0, eventfd_take(self->q->call));
}

TEST_F(ring, starts_with_requests_already_there)
{
	struct req r[16];
	unsigned int i;

	ASSERT_EQ(0, vq_reset(self->q));
	for (i = 0; i < ARRAY_SIZE(r); i++) {
		req_init(&r[i], VIRTIO_BLK_T_IN, i * 8, 4096);
		ASSERT_EQ(0, req_build(&self->d.mem, &r[i]));
		ASSERT_LE(0, req_add(self->q, &r[i]));
	}
	/* published, and never kicked */
	vq_publish(self->q);
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, req_wait_n(self->q, ARRAY_SIZE(r), 2000));
	for (i = 0; i < ARRAY_SIZE(r); i++) {
		EXPECT_EQ(VIRTIO_BLK_S_OK, r[i].status);
		req_free(&r[i]);
	}
}

TEST_F(ring, goes_on_where_it_was_after_stop_and_start)
{
	struct vhost_blk_stats s;
	unsigned int i;
	char buf[512];

	for (i = 1; i <= 50; i++) {
		ASSERT_EQ(0, blk_read(self->q, i, buf, sizeof(buf)));
		ASSERT_EQ(0, vq_stop(self->q));
		ASSERT_EQ(i, vq_base(self->q));
		ASSERT_EQ(0, vdev_state(&self->d, VHOST_SET_VRING_BASE, 0, i));
		ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	}
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(50, s.reads);
	EXPECT_EQ(0, s.ring_errors);
}

TEST_F(ring, an_eventfd_may_be_missing)
{
	char buf[512];

	ASSERT_EQ(0, vdev_file(&self->d, VHOST_SET_VRING_CALL, 0, -1));
	ASSERT_EQ(0, vdev_file(&self->d, VHOST_SET_VRING_ERR, 0, -1));
	self->q->spin = true;
	ASSERT_EQ(0, blk_read(self->q, 0, buf, sizeof(buf)));
	vq_add_raw(self->q, self->q->num);
	vq_publish(self->q);
	vq_kick_force(self->q);
	sleep_ms(50);
	ASSERT_EQ(0, blk_flush(self->other));
	EXPECT_EQ(0, vq_pending(self->q));
}

TEST_F(ring, a_new_kick_eventfd_is_listened_to)
{
	char buf[512];
	int old = self->q->kick;

	ASSERT_EQ(0, blk_read(self->q, 0, buf, sizeof(buf)));
	self->q->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT_EQ(0, vdev_file(&self->d, VHOST_SET_VRING_KICK, 0, self->q->kick));
	close(old);
	ASSERT_EQ(0, blk_read(self->q, 0, buf, sizeof(buf)));
	/* without one, the ring can be looked at by polling alone */
	ASSERT_EQ(0, vdev_file(&self->d, VHOST_SET_VRING_KICK, 0, -1));
	ASSERT_EQ(0, vdev_file(&self->d, VHOST_SET_VRING_KICK, 0, self->q->kick));
	ASSERT_EQ(0, blk_read(self->q, 0, buf, sizeof(buf)));
}

/* Many requests with little memory. */

struct load {
	struct req r[RING_SIZE];
	unsigned int n;
	unsigned long done, bad;
};

static int load_start(struct load *l, struct vq *q, unsigned int n,
		      uint32_t len, enum vq_mode mode)
{
	static struct req_layout layout[3] = {
		{ .name = "direct" },
		{ .name = "indirect", .mode = VQ_INDIRECT },
		{ .name = "mixed", .mode = VQ_MIXED },
	};
	unsigned int i;
	int r;

	memset(l, 0, sizeof(*l));
	l->n = n;
	for (i = 0; i < n; i++) {
		req_init(&l->r[i], VIRTIO_BLK_T_IN, i * 8, len);
		l->r[i].layout = &layout[mode];
		r = req_build(&q->dev->mem, &l->r[i]);
		if (!r)
			r = req_add(q, &l->r[i]);
		if (r < 0)
			return r;
	}
	vq_kick(q);
	return 0;
}

/* Take what came back, and put it in again if @again. */
static int load_turn(struct load *l, struct vq *q, bool again)
{
	struct req *r;
	int err;

	while ((r = req_reap(q, &err))) {
		l->done++;
		l->bad += r->status != VIRTIO_BLK_S_OK;
		if (again) {
			err = req_add(q, r);
			if (err < 0)
				return err;
		}
	}
	if (again)
		vq_kick(q);
	return err;
}

static void load_free(struct load *l)
{
	unsigned int i;

	for (i = 0; i < l->n; i++)
		req_free(&l->r[i]);
}

static void run_load(struct __test_metadata *_metadata, struct vq *q,
		     struct load *l, unsigned long total)
{
	while (l->done + l->n < total) {
		ASSERT_EQ(0, vq_wait(q, REQ_TIMEOUT_MS));
		ASSERT_EQ(0, load_turn(l, q, true));
	}
	while (l->n > q->num - q->nfree)
		abort();
	while (q->nfree < q->num) {
		ASSERT_EQ(0, vq_wait(q, REQ_TIMEOUT_MS));
		ASSERT_EQ(0, load_turn(l, q, false));
	}
	EXPECT_EQ(0, l->bad);
}

/* A thread that keeps a ring full, and never sleeps. */
struct hog {
	pthread_t thread;
	struct load load;
	struct vq *q;
	bool stop;
	int err;
};

static void *hog_thread(void *arg)
{
	struct hog *h = arg;

	while (!h->err && !__atomic_load_n(&h->stop, __ATOMIC_RELAXED))
		h->err = load_turn(&h->load, h->q, true);
	return NULL;
}

TEST_F(ring, a_ring_that_is_always_full_lets_everybody_else_in)
{
	static const unsigned int poll_us[] = { 0, 50, 10000 };
	struct hog *h = calloc(1, sizeof(*h));
	struct vhost_blk_stats s;
	uint64_t before, worst = 0;
	unsigned int i, j;

	ASSERT_NE(NULL, h);
	h->q = self->q;
	ASSERT_EQ(0, load_start(&h->load, self->q, RING_SIZE, 512, VQ_INDIRECT));
	ASSERT_EQ(0, pthread_create(&h->thread, NULL, hog_thread, h));
	for (i = 0; i < ARRAY_SIZE(poll_us); i++) {
		ASSERT_EQ(0, vdev_set_poll(&self->d, VHOST_BLK_ALL_RINGS,
					   poll_us[i]));
		for (j = 0; j < 20; j++) {
			before = now_ns();
			/* another ring; ioctls that wait for the worker */
			ASSERT_EQ(0, blk_flush(self->other));
			ASSERT_LT(0, vdev_worker(&self->d, 0));
			ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
			ASSERT_EQ(0, vq_stop(self->other));
			ASSERT_EQ(0, vq_start(self->other, self->disk.fd));
			before = now_ns() - before;
			worst = before > worst ? before : worst;
		}
	}
	EXPECT_GT(1000000000, worst) {
		TH_LOG("%llu us", (unsigned long long)worst / 1000);
	}
	h->stop = true;
	ASSERT_EQ(0, pthread_join(h->thread, NULL));
	EXPECT_EQ(0, h->err);
	EXPECT_LT(RING_SIZE, h->load.done);
	EXPECT_EQ(0, h->load.bad);
	ASSERT_EQ(0, vq_stop(self->q));
	load_free(&h->load);
	free(h);
}

TEST_F(ring, indices_wrap_around)
{
	struct load *l = malloc(sizeof(*l));

	/* more than 16 bits, whatever the scale */
	ASSERT_EQ(0, load_start(l, self->q, 16, 512, VQ_DIRECT));
	self->q->spin = true;
	run_load(_metadata, self->q, l, 70000);
	EXPECT_EQ(70000, l->done);
	EXPECT_EQ(70000 % 65536, (uint16_t)self->q->last_used);
	ASSERT_EQ(0, vq_stop(self->q));
	EXPECT_EQ(70000 % 65536, vq_base(self->q));
	load_free(l);
	free(l);
}

TEST_F(ring, every_ring_size_works)
{
	char want[512], got[512];
	unsigned int size, i;
	struct prng rnd;
	struct vq *q;
	struct req r;

	prng_init(&rnd, 1);
	for (size = 1; size <= VHOST_BLK_MAX_RING_SIZE; size *= 2) {
		ASSERT_EQ(0, vq_stop(self->q));
		ASSERT_EQ(0, vq_setup(&self->d, 0, size, &q));
		self->q = q;
		ASSERT_EQ(0, vq_start(q, self->disk.fd));
		prng_fill(&rnd, want, sizeof(want));
		ASSERT_EQ(0, blkdev_poke(&self->disk, size, want, sizeof(want)));
		/* twice round the ring */
		for (i = 0; i < 2 * size + 3; i++) {
			req_init(&r, VIRTIO_BLK_T_IN, size, sizeof(got));
			r.layout = &layout_indirect;
			ASSERT_EQ(0, req_build(&self->d.mem, &r));
			ASSERT_EQ(0, req_run(q, &r)) {
				TH_LOG("size %u", size);
			}
			ASSERT_EQ(VIRTIO_BLK_S_OK, r.status);
			req_get_data(&r, got);
			req_free(&r);
			ASSERT_EQ(0, memcmp(want, got, sizeof(want)));
			if (i == 20 && size > 16)
				break;
		}
	}
}

TEST_F_TIMEOUT(ring, sixty_four_full_rings_of_1024_at_once, 120)
{
	const unsigned int n = VHOST_BLK_MAX_RINGS, size = VHOST_BLK_MAX_RING_SIZE;
	static const struct req_layout packed = {
		.name = "packed", .mode = VQ_INDIRECT, .align = 512,
	};
	struct vq *q[VHOST_BLK_MAX_RINGS];
	struct req *r = calloc(n * size, sizeof(*r));
	struct vhost_blk_stats s;
	unsigned int i, j;
	struct vdev d;

	ASSERT_NE(NULL, r);
	ASSERT_EQ(0, vdev_open(&d, DRIVER_FEATURES, 128UL << 20));
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, vq_setup(&d, i, size, &q[i]));
		for (j = 0; j < size; j++) {
			struct req *one = &r[i * size + j];

			req_init(one, VIRTIO_BLK_T_IN, i * size + j, 512);
			one->layout = &packed;
			ASSERT_EQ(0, req_build(&d.mem, one));
			ASSERT_LE(0, req_add(q[i], one));
		}
		vq_publish(q[i]);
		EXPECT_EQ(0, q[i]->nfree);
	}
	for (i = 0; i < n; i++)
		ASSERT_EQ(0, vq_start(q[i], self->disk.fd)) {
			TH_LOG("ring %u", i);
		}
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, req_wait_n(q[i], size, 30000)) {
			TH_LOG("ring %u", i);
		}
		EXPECT_EQ(0, vq_pending(q[i]));
	}
	for (i = 0; i < n * size; i++) {
		ASSERT_TRUE(r[i].done);
		ASSERT_EQ(VIRTIO_BLK_S_OK, r[i].status);
		req_free(&r[i]);
	}
	ASSERT_EQ(0, vdev_stats(&d, VHOST_BLK_ALL_RINGS, &s));
	EXPECT_EQ(n * size, s.reads);
	EXPECT_EQ(0, s.inflight);
	vdev_close(&d);
	free(r);
}

/* Sleeping and waking. */

FIXTURE(wake) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
};

FIXTURE_VARIANT(wake) {
	bool event_idx;
	unsigned int poll_us;
	enum blkdev_kind kind;
};

#define WAKE_VARIANT(us)							\
	FIXTURE_VARIANT_ADD(wake, event_idx_poll_##us) { true, us, BLKDEV_NULL_512 }; \
	FIXTURE_VARIANT_ADD(wake, flags_poll_##us) { false, us, BLKDEV_NULL_512 }

WAKE_VARIANT(0);
WAKE_VARIANT(50);
WAKE_VARIANT(1000);
FIXTURE_VARIANT_ADD(wake, softirq_poll_0) { true, 0, BLKDEV_NULL_SOFTIRQ };
FIXTURE_VARIANT_ADD(wake, softirq_poll_50) { true, 50, BLKDEV_NULL_SOFTIRQ };
/* completions that meet the worker on its way to sleep */
FIXTURE_VARIANT_ADD(wake, timer_30us_poll_0) { true, 0, BLKDEV_NULL_30US };
FIXTURE_VARIANT_ADD(wake, timer_60us_poll_0) { true, 0, BLKDEV_NULL_60US };
FIXTURE_VARIANT_ADD(wake, timer_60us_poll_50) { true, 50, BLKDEV_NULL_60US };

FIXTURE_SETUP(wake)
{
	uint64_t features = DRIVER_FEATURES;

	if (!variant->event_idx)
		features &= ~BIT64(VIRTIO_RING_F_EVENT_IDX);
	OPEN_DISK(&self->disk, variant->kind);
	open_ring(_metadata, &self->d, &self->q, 1, RING_SIZE, self->disk.fd,
		  features);
	ASSERT_EQ(0, vdev_set_poll(&self->d, 0, variant->poll_us));
}

FIXTURE_TEARDOWN(wake)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
}

/* How often, given that some disks and spins take long. */
static unsigned long wakeups(const FIXTURE_VARIANT(wake) *variant,
			     unsigned long n)
{
	if (variant->poll_us == 1000 || variant->kind != BLKDEV_NULL_512)
		n /= 3;
	return test_scale(n);
}

/*
 * One request at a time, both sides asleep in between as often as can be. The
 * pause drifts over the spin, so that requests meet the worker while it is
 * about to sleep.
 */
TEST_F_TIMEOUT(wake, no_wakeup_is_lost_at_depth_one, 120)
{
	unsigned long i, total = wakeups(variant, 3000);
	uint64_t until;
	struct prng rnd;
	struct req r;

	prng_init(&rnd, 2);
	req_init(&r, VIRTIO_BLK_T_IN, 0, 512);
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	for (i = 0; i < total; i++) {
		self->q->spin = i % 4 == 3;
		ASSERT_LE(0, req_add(self->q, &r));
		vq_kick(self->q);
		ASSERT_EQ(0, req_wait_n(self->q, 1, 1000)) {
			TH_LOG("request %lu of %lu", i, total);
		}
		ASSERT_EQ(VIRTIO_BLK_S_OK, r.status);
		if (variant->poll_us == 50 || i % 16 == 0) {
			until = now_ns() + 20000 + prng_below(&rnd, 60000);
			while (now_ns() < until)
				;
		}
	}
	req_free(&r);
}

TEST_F_TIMEOUT(wake, no_wakeup_is_lost_at_any_depth, 120)
{
	struct load *l = malloc(sizeof(*l));
	unsigned long total = wakeups(variant, 3000);
	struct prng rnd;
	struct req *r, *idle[RING_SIZE];
	unsigned int nidle = 0, n;
	int err;

	prng_init(&rnd, 3);
	ASSERT_EQ(0, load_start(l, self->q, 16, 512, VQ_DIRECT));
	while (l->done < total) {
		if (nidle < l->n)
			ASSERT_EQ(0, vq_wait(self->q, 1000));
		while ((r = req_reap(self->q, &err))) {
			idle[nidle++] = r;
			l->done++;
		}
		ASSERT_EQ(0, err);
		/* one, some or all of them again; a kick for all together */
		n = prng_below(&rnd, nidle + 1);
		if (nidle == l->n && !n)
			n = 1;
		while (n--)
			ASSERT_LE(0, req_add(self->q, idle[--nidle]));
		vq_kick(self->q);
	}
	ASSERT_EQ(0, req_wait_n(self->q, l->n - nidle, 1000));
	load_free(l);
	free(l);
}

/* Requests that the disk keeps. */

FIXTURE(held) {
	struct vdev d;
	struct vq *q, *other;
	struct blkdev disk, quick;
	struct load l;
	struct baseline before;
};

FIXTURE_SETUP(held)
{
	struct vq *q[2];

	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_HOLD);
	OPEN_DISK(&self->quick, BLKDEV_NULL_512);
	blkdev_release(&self->disk);
	open_ring(_metadata, &self->d, q, 2, RING_SIZE, -1, DRIVER_FEATURES);
	self->q = q[0];
	self->other = q[1];
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, vq_start(self->other, self->quick.fd));
	ASSERT_EQ(0, blk_flush(self->q));
}

FIXTURE_TEARDOWN(held)
{
	blkdev_release(&self->disk);
	vdev_close(&self->d);
	load_free(&self->l);
	blkdev_close(&self->disk);
	blkdev_close(&self->quick);
	EXPECT_BASELINE(self->before);
}

/* Let the disk go after a while, from a process of its own. */
static pid_t release_later(const struct blkdev *disk, unsigned int ms)
{
	pid_t pid = fork();

	if (!pid) {
		sleep_ms(ms);
		_exit(blkdev_release(disk) ? 1 : 0);
	}
	return pid;
}

static void wait_inflight(struct __test_metadata *_metadata, struct vdev *d,
			  unsigned int index, unsigned int n)
{
	struct vhost_blk_stats s = {};
	unsigned int i;

	for (i = 0; i < 200; i++) {
		ASSERT_EQ(0, vdev_stats(d, index, &s));
		if (s.inflight == n)
			return;
		sleep_ms(5);
	}
	ASSERT_EQ(n, s.inflight);
}

TEST_F(held, a_slow_disk_does_not_hold_up_another_ring)
{
	char buf[4096];
	int load;

	ASSERT_EQ(0, blkdev_hold(&self->disk));
	ASSERT_EQ(0, load_start(&self->l, self->q, 16, 4096, VQ_DIRECT));
	wait_inflight(_metadata, &self->d, 0, 16);
	EXPECT_EQ(0, blk_read(self->other, 0, buf, sizeof(buf)));
	EXPECT_EQ(0, vq_pending(self->q));
	/* waiting for the disk costs nothing either */
	load = worker_load(&self->d, 0, 60);
	EXPECT_GT(IDLE_LOAD, load);
	ASSERT_EQ(0, blkdev_release(&self->disk));
	ASSERT_EQ(0, req_wait_n(self->q, 16, 5000));
}

TEST_F(held, a_head_in_flight_is_not_taken_again)
{
	struct vhost_blk_stats s;
	unsigned int i;
	int head;

	ASSERT_EQ(0, blkdev_hold(&self->disk));
	self->l.n = 1;
	req_init(&self->l.r[0], VIRTIO_BLK_T_IN, 0, 4096);
	ASSERT_EQ(0, req_build(&self->d.mem, &self->l.r[0]));
	head = req_add(self->q, &self->l.r[0]);
	ASSERT_LE(0, head);
	vq_kick(self->q);
	wait_inflight(_metadata, &self->d, 0, 1);
	/* once would do; the others must not make it worse */
	vq_add_raw(self->q, head);
	vq_kick(self->q);
	ASSERT_EQ(0, vq_wait_error(self->q, 2000));
	for (i = 0; i < 1000; i++) {
		vq_add_raw(self->q, head);
		vq_publish(self->q);
		vq_kick_force(self->q);
	}
	ASSERT_LT(0, vdev_worker(&self->d, 0));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(1, s.inflight);
	EXPECT_EQ(1, s.ring_errors);
	ASSERT_EQ(0, blkdev_release(&self->disk));
	/* the one that was in flight comes back, once */
	ASSERT_EQ(0, req_wait_n(self->q, 1, 5000));
	EXPECT_EQ(VIRTIO_BLK_S_OK, self->l.r[0].status);
	sleep_ms(20);
	EXPECT_EQ(0, vq_pending(self->q));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(0, s.inflight);
	ASSERT_EQ(0, vq_reset(self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(0, blk_flush(self->q));
}

/* FNV-1a over all of the guest's memory. */
static uint64_t mem_hash(const struct vdev *d)
{
	const uint64_t *p = (const uint64_t *)d->mem.base;
	size_t n = (2 * GMEM_HALF + d->mem.used + 7) / 8;
	uint64_t h = 0xcbf29ce484222325ULL;

	while (n--)
		h = (h ^ *p++) * 0x100000001b3ULL;
	return h;
}

TEST_F(held, stopping_waits_for_the_disk_and_then_is_final)
{
	unsigned int n = 16;
	uint64_t before, hash;
	int status, used;
	pid_t pid;

	ASSERT_EQ(0, blkdev_hold(&self->disk));
	ASSERT_EQ(0, load_start(&self->l, self->q, n, 4096, VQ_DIRECT));
	wait_inflight(_metadata, &self->d, 0, n);
	pid = release_later(&self->disk, 300);
	ASSERT_LT(0, pid);
	before = now_ns();
	ASSERT_EQ(0, vq_stop(self->q));
	EXPECT_LT(200000000, now_ns() - before);
	/* everything taken has been handed back: now, not later */
	used = vq_pending(self->q);
	EXPECT_EQ(n, used);
	EXPECT_EQ(1 + n, vq_base(self->q));
	hash = mem_hash(&self->d);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	sleep_ms(100);
	EXPECT_EQ(hash, mem_hash(&self->d));
	EXPECT_EQ(0, blk_flush(self->other));
}

TEST_F(held, a_new_memory_table_waits_for_what_uses_the_old)
{
	uint64_t before;
	int status;
	pid_t pid;

	ASSERT_EQ(0, blkdev_hold(&self->disk));
	ASSERT_EQ(0, load_start(&self->l, self->q, 8, 4096, VQ_DIRECT));
	wait_inflight(_metadata, &self->d, 0, 8);
	pid = release_later(&self->disk, 300);
	ASSERT_LT(0, pid);
	before = now_ns();
	ASSERT_EQ(0, vdev_set_mem(&self->d));
	EXPECT_LT(200000000, now_ns() - before);
	EXPECT_EQ(8, vq_pending(self->q));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, load_turn(&self->l, self->q, false));
	EXPECT_EQ(8, self->l.done);
	EXPECT_EQ(0, self->l.bad);
	EXPECT_EQ(0, blk_flush(self->q));
}

TEST_F(held, a_wait_for_the_disk_can_be_killed)
{
	int status, refs = module_refs("vhost_blk");
	uint64_t before;
	pid_t pid;

	ASSERT_EQ(0, blkdev_hold(&self->disk));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct vdev d;
		struct vq *q;

		if (vdev_open(&d, DRIVER_FEATURES, 4 << 20) ||
		    vq_setup(&d, 0, RING_SIZE, &q) ||
		    vq_start(q, self->disk.fd) ||
		    load_start(&self->l, q, 8, 4096, VQ_DIRECT))
			_exit(1);
		sleep_ms(50);
		vq_stop(q);
		_exit(2);
	}
	sleep_ms(400);
	/* still in vq_stop(); the I/O is released only after the signal */
	ASSERT_EQ(0, waitpid(pid, &status, WNOHANG));
	kill(pid, SIGKILL);
	sleep_ms(50);
	before = now_ns();
	ASSERT_EQ(0, blkdev_release(&self->disk));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_GT(2000000000, now_ns() - before);
	EXPECT_EQ(refs, module_refs_settle("vhost_blk", refs, 2000));
}

TEST_F(held, killing_the_owner_with_io_in_flight_leaks_nothing)
{
	int status, refs = module_refs("vhost_blk"), i;
	int disk_refs = module_refs("null_blk");
	pid_t pid;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, blkdev_hold(&self->disk));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			struct vdev d;
			struct vq *q;

			if (vdev_open(&d, DRIVER_FEATURES, 4 << 20) ||
			    vq_setup(&d, 0, RING_SIZE, &q) ||
			    vq_start(q, self->disk.fd) ||
			    load_start(&self->l, q, 16, 4096, VQ_DIRECT))
				_exit(1);
			pause();
			_exit(2);
		}
		sleep_ms(100);
		kill(pid, SIGKILL);
		sleep_ms(50);
		ASSERT_EQ(0, blkdev_release(&self->disk));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(refs, module_refs_settle("vhost_blk", refs, 3000));
		EXPECT_EQ(disk_refs,
			  module_refs_settle("null_blk", disk_refs, 3000));
	}
}

/* Things that change while requests fly; the disk takes 2 ms for each. */

FIXTURE(busy) {
	struct vdev d;
	struct vq *q[2];
	struct blkdev disk;
	struct load l[2];
	struct baseline before;
};

FIXTURE_VARIANT(busy) {
	enum blkdev_kind kind;
	unsigned int poll_us;
	bool kthread;
};

FIXTURE_VARIANT_ADD(busy, instant) { BLKDEV_NULL_512, 0 };
FIXTURE_VARIANT_ADD(busy, instant_polled) { BLKDEV_NULL_512, 50 };
FIXTURE_VARIANT_ADD(busy, softirq) { BLKDEV_NULL_SOFTIRQ, 0 };
FIXTURE_VARIANT_ADD(busy, timer) { BLKDEV_NULL_TIMER, 0 };
FIXTURE_VARIANT_ADD(busy, timer_polled) { BLKDEV_NULL_TIMER, 50 };
FIXTURE_VARIANT_ADD(busy, softirq_kthread) { BLKDEV_NULL_SOFTIRQ, 0, true };
FIXTURE_VARIANT_ADD(busy, timer_polled_kthread) { BLKDEV_NULL_TIMER, 50, true };

static int busy_open(struct vdev *d, const FIXTURE_VARIANT(busy) *variant,
		     size_t size)
{
	return variant->kthread ?
		vdev_open_kthread(d, DRIVER_FEATURES, size) :
		vdev_open(d, DRIVER_FEATURES, size);
}

FIXTURE_SETUP(busy)
{
	unsigned int i;
	int r;

	self->before = baseline_take();
	OPEN_DISK(&self->disk, variant->kind);
	r = busy_open(&self->d, variant, MEM_SIZE);
	if (r == -ENOTTY && variant->kthread) {
		blkdev_close(&self->disk);
		SKIP(return, "workers of this kernel are tasks of the owner only");
	}
	ASSERT_EQ(0, r);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, vq_setup(&self->d, i, RING_SIZE, &self->q[i]));
		ASSERT_EQ(0, vq_start(self->q[i], self->disk.fd));
	}
	ASSERT_EQ(0, vdev_set_poll(&self->d, VHOST_BLK_ALL_RINGS,
				   variant->poll_us));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, load_start(&self->l[i], self->q[i], 16, 512, i));
}

FIXTURE_TEARDOWN(busy)
{
	unsigned int i;

	vdev_close(&self->d);
	for (i = 0; i < 2; i++)
		load_free(&self->l[i]);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/* Keep both rings going for a moment. */
static void busy_turn(struct __test_metadata *_metadata,
		      FIXTURE_DATA(busy) *self)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, vq_wait(self->q[i], REQ_TIMEOUT_MS));
		ASSERT_EQ(0, load_turn(&self->l[i], self->q[i], true));
	}
}

/* All that is in flight comes back, and was right. */
static void busy_end(struct __test_metadata *_metadata,
		     FIXTURE_DATA(busy) *self)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		while (self->q[i]->nfree < self->q[i]->num) {
			ASSERT_EQ(0, vq_wait(self->q[i], REQ_TIMEOUT_MS));
			ASSERT_EQ(0, load_turn(&self->l[i], self->q[i], false));
		}
		EXPECT_EQ(0, self->l[i].bad);
		EXPECT_LT(16, self->l[i].done);
	}
}

TEST_F(busy, a_ring_is_stopped_and_started)
{
	struct vhost_blk_stats s;
	unsigned int i;
	int base;

	for (i = 0; i < 40; i++) {
		busy_turn(_metadata, self);
		ASSERT_EQ(0, vq_stop(self->q[0]));
		ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
		EXPECT_EQ(0, s.inflight);
		base = vq_base(self->q[0]);
		EXPECT_EQ(self->q[0]->vr.used->idx, base);
		ASSERT_EQ(0, vdev_state(&self->d, VHOST_SET_VRING_BASE, 0, base));
		ASSERT_EQ(0, vq_start(self->q[0], self->disk.fd));
	}
	busy_end(_metadata, self);
}

/* What VIRTIO_F_RING_RESET asks for. */
TEST_F(busy, a_ring_comes_back_elsewhere_while_the_other_goes_on)
{
	unsigned long done;
	unsigned int i;
	char buf[512];

	for (i = 0; i < 20; i++) {
		busy_turn(_metadata, self);
		done = self->l[1].done;
		ASSERT_EQ(0, vq_stop(self->q[0]));
		while (self->q[0]->nfree < self->q[0]->num &&
		       vq_pending(self->q[0]))
			ASSERT_EQ(0, load_turn(&self->l[0], self->q[0], false));
		/* another size, other addresses, from index 0 again */
		ASSERT_EQ(0, vq_setup(&self->d, 0, i % 2 ? 64 : 16,
				      &self->q[0]));
		ASSERT_EQ(0, vq_wait(self->q[1], REQ_TIMEOUT_MS));
		ASSERT_EQ(0, load_turn(&self->l[1], self->q[1], true));
		EXPECT_LT(done, self->l[1].done);
		ASSERT_EQ(0, vq_start(self->q[0], self->disk.fd));
		ASSERT_EQ(0, blk_read(self->q[0], 8, buf, sizeof(buf)));
		EXPECT_EQ(1, vq_base(self->q[0]));
		load_free(&self->l[0]);
		ASSERT_EQ(0, load_start(&self->l[0], self->q[0], 5, 512, 0));
	}
	while (self->l[0].done <= 16)
		busy_turn(_metadata, self);
	busy_end(_metadata, self);
}

TEST_F(busy, the_memory_table_is_set_again)
{
	unsigned int i;

	for (i = 0; i < 40; i++) {
		busy_turn(_metadata, self);
		ASSERT_EQ(0, vdev_set_mem(&self->d));
	}
	busy_end(_metadata, self);
}

TEST_F(busy, eventfds_are_replaced)
{
	unsigned int i, j;
	int *fd, new;

	for (i = 0; i < 60; i++) {
		busy_turn(_metadata, self);
		for (j = 0; j < 2; j++) {
			bool call = (i + j) % 2;

			fd = call ? &self->q[j]->call : &self->q[j]->kick;
			new = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
			ASSERT_LE(0, new);
			ASSERT_EQ(0, vdev_file(&self->d, call ?
					       VHOST_SET_VRING_CALL :
					       VHOST_SET_VRING_KICK, j, new));
			close(*fd);
			*fd = new;
		}
	}
	busy_end(_metadata, self);
}

TEST_F(busy, poll_parameters_are_changed)
{
	struct vhost_blk_poll p = { .index = VHOST_BLK_ALL_RINGS };
	unsigned int i;

	for (i = 0; i < 60; i++) {
		busy_turn(_metadata, self);
		p.poll_us = i % 3 * 40;
		p.batch = i % 5;
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	}
	busy_end(_metadata, self);
}

TEST_F(busy, workers_come_and_go)
{
	struct vhost_vring_worker vw = { .index = 1 }, standard = { .index = 1 };
	struct vhost_worker_state state;
	unsigned int i;

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_GET_VRING_WORKER, &standard));
	if (variant->kthread) {
		/* vhost core makes no more of those than one */
		busy_turn(_metadata, self);
		EXPECT_EQ(-EFAULT, vdev_ioctl(&self->d, VHOST_NEW_WORKER, &state));
		busy_turn(_metadata, self);
		busy_end(_metadata, self);
		return;
	}
	for (i = 0; i < 15; i++) {
		busy_turn(_metadata, self);
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_NEW_WORKER, &state));
		vw.worker_id = state.worker_id;
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_ATTACH_VRING_WORKER, &vw));
		busy_turn(_metadata, self);
		EXPECT_NE(vdev_worker(&self->d, 0), vdev_worker(&self->d, 1));
		EXPECT_EQ(-EBUSY, vdev_ioctl(&self->d, VHOST_FREE_WORKER, &state));
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_ATTACH_VRING_WORKER,
					&standard));
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_FREE_WORKER, &state));
		EXPECT_EQ(vdev_worker(&self->d, 0), vdev_worker(&self->d, 1));
		busy_turn(_metadata, self);
	}
	busy_end(_metadata, self);
}

TEST_F(busy, the_owner_is_reset)
{
	busy_turn(_metadata, self);
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_RESET_OWNER, NULL));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_OWNER, NULL));
	EXPECT_EQ(0, vq_base(self->q[0]));
}

TEST_F(busy, the_device_is_closed)
{
	busy_turn(_metadata, self);
	/* by the teardown */
}

TEST_F_TIMEOUT(busy, the_owner_is_killed_again_and_again, 120)
{
	int refs = module_refs("vhost_blk"), disk_refs = module_refs("null_blk");
	unsigned int i, total = test_scale(10);
	int ready[2], status;
	pid_t pid;
	char c;

	for (i = 0; i < total; i++) {
		ASSERT_EQ(0, pipe(ready));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			struct vdev d;
			struct vq *q[2];
			unsigned int j;

			if (busy_open(&d, variant, 4 << 20))
				_exit(1);
			for (j = 0; j < 2; j++) {
				if (vq_setup(&d, j, RING_SIZE, &q[j]) ||
				    vq_start(q[j], self->disk.fd) ||
				    load_start(&self->l[j], q[j], 16, 512, j))
					_exit(1);
			}
			vdev_set_poll(&d, VHOST_BLK_ALL_RINGS, variant->poll_us);
			if (write(ready[1], "r", 1) != 1)
				_exit(1);
			for (;;) {
				for (j = 0; j < 2; j++)
					if (vq_wait(q[j], 1000) ||
					    load_turn(&self->l[j], q[j], true))
						_exit(1);
			}
		}
		close(ready[1]);
		ASSERT_EQ(1, read(ready[0], &c, 1));
		close(ready[0]);
		sleep_ms(i % 7);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
	}
	EXPECT_EQ(refs, module_refs_settle("vhost_blk", refs, 3000));
	EXPECT_EQ(disk_refs, module_refs_settle("null_blk", disk_refs, 3000));
}

SUITE_MAIN
