// SPDX-License-Identifier: GPL-2.0
/*
 * Things that change while requests fly: rings stop and move, memory, eventfds,
 * workers and parameters are replaced, the owner goes or dies.
 */
#include <sys/eventfd.h>

#include "suite.h"
#include "traffic.h"

#define RING_SIZE 64

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

static void busy_owner(FIXTURE_DATA(busy) *self, const FIXTURE_VARIANT(busy) *variant,
		       struct victim *me)
{
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
	victim_at_work(me);
	for (j = 0;; j = !j)
		if (vq_wait(q[j], 1000) || load_turn(&self->l[j], q[j], true))
			_exit(1);
}

TEST_F_TIMEOUT(busy, the_owner_is_killed_again_and_again, 120)
{
	int refs = module_refs("vhost_blk"), disk_refs = module_refs("null_blk");
	unsigned int i, total = test_scale(10);
	struct victim owner;

	for (i = 0; i < total; i++) {
		ASSERT_LE(0, victim_fork(&owner));
		if (!owner.pid)
			busy_owner(self, variant, &owner);
		ASSERT_EQ(0, victim_kill(&owner, i % 7));
	}
	EXPECT_EQ(refs, module_refs_settle("vhost_blk", refs, 3000));
	EXPECT_EQ(disk_refs, module_refs_settle("null_blk", disk_refs, 3000));
}

SUITE_MAIN
