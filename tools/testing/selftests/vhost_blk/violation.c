// SPDX-License-Identifier: GPL-2.0
/*
 * Violations of the ring itself: that ring stops, and nothing else does. What
 * is wrong with a request alone is in io.c.
 */
#include "suite.h"

#define RING_SIZE 64

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

SUITE_MAIN
