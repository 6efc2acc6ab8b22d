// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that the disk keeps: who waits for them, who does not, and what
 * becomes of them when somebody dies.
 */
#include <errno.h>
#include <signal.h>

#include "suite.h"
#include "traffic.h"

#define RING_SIZE 64

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

/* What the module lets the requests of a ring have, at most. */
#define MAX_VECTORS 16384
/* The most descriptors of a chain. */
#define MAX_SEGS 1024

/*
 * Queue reads of @pieces times @len bytes, all to the same place in the guest's memory,
 * 512 bytes into a page.
 */
static int add_reads(struct vq *q, unsigned int n, unsigned int pieces, uint32_t len)
{
	static struct vseg seg[MAX_SEGS];
	struct gmem *m = &q->dev->mem;
	struct virtio_blk_outhdr *hdr = gmem_alloc(m, sizeof(*hdr), 16);
	unsigned int i;
	uint64_t data;
	int r;

	*hdr = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN };
	data = gmem_addr(m, gmem_alloc(m, 512 + len, 4096)) + 512;
	seg[0] = (struct vseg){ .addr = gmem_addr(m, hdr), .len = sizeof(*hdr) };
	for (i = 1; i <= pieces; i++)
		seg[i] = (struct vseg){ .addr = data, .len = len, .in = true };
	seg[i] = (struct vseg){ .addr = gmem_addr(m, gmem_alloc(m, 1, 1)),
				.len = 1, .in = true };
	for (i = 0; i < n; i++) {
		r = vq_add(q, seg, pieces + 2, VQ_INDIRECT, q);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Wait for so many reads; 0 if each got all of its bytes. */
static int wait_reads(struct vq *q, unsigned int n, uint32_t bytes)
{
	void *cookie;
	uint32_t len;
	int r;

	while (n) {
		r = vq_get(q, &cookie, &len);
		if (!r)
			r = vq_wait(q, 30000) ?: -EAGAIN;
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return r;
		if (len != bytes + 1)
			return -EIO;
		n--;
	}
	return 0;
}

TEST_F(held, a_ring_has_only_so_many_pages_in_flight)
{
	unsigned int n = 64, pieces = 300, some = MAX_VECTORS / pieces;
	struct vhost_blk_stats s;
	char buf[4096];

	ASSERT_GT(n, some);
	ASSERT_EQ(0, blkdev_hold(&self->disk));
	ASSERT_EQ(0, add_reads(self->q, n, pieces, 512));
	vq_kick(self->q);
	wait_inflight(_metadata, &self->d, 0, some);
	sleep_ms(50);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(some, s.inflight);
	EXPECT_EQ(0, vq_pending(self->q));
	EXPECT_EQ(0, blk_read(self->other, 0, buf, sizeof(buf)));
	ASSERT_EQ(0, blkdev_release(&self->disk));
	EXPECT_EQ(0, wait_reads(self->q, n, pieces * 512));
}

TEST_F(held, a_request_that_needs_more_pages_than_that_goes_alone)
{
	unsigned int pieces = MAX_SEGS - 2;
	uint32_t len = 65536;
	struct vhost_blk_stats s;

	/* 17 pages each */
	ASSERT_LT(MAX_VECTORS, 17 * pieces);
	ASSERT_GE(BLKDEV_SIZE, (uint64_t)pieces * len);
	ASSERT_EQ(0, blkdev_hold(&self->disk));
	ASSERT_EQ(0, add_reads(self->q, 1, 9, 512));
	ASSERT_EQ(0, add_reads(self->q, 2, pieces, len));
	vq_kick(self->q);
	wait_inflight(_metadata, &self->d, 0, 1);
	sleep_ms(50);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(1, s.inflight);
	ASSERT_EQ(0, blkdev_release(&self->disk));
	EXPECT_EQ(0, wait_reads(self->q, 1, 9 * 512));
	EXPECT_EQ(0, wait_reads(self->q, 2, pieces * len));
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

SUITE_MAIN
