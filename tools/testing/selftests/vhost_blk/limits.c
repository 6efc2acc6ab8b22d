// SPDX-License-Identifier: GPL-2.0
/* The limits of a disk, as VHOST_BLK_GET_LIMITS tells of them. */
#include "suite.h"

FIXTURE(limits) {
	struct vdev d;
	struct blkdev disk;
};

FIXTURE_VARIANT(limits) {
	enum blkdev_kind kind;
};

FIXTURE_VARIANT_ADD(limits, null_512) { BLKDEV_NULL_512 };
FIXTURE_VARIANT_ADD(limits, null_4k) { BLKDEV_NULL_4K };
FIXTURE_VARIANT_ADD(limits, null_small) { BLKDEV_NULL_SMALL };
FIXTURE_VARIANT_ADD(limits, read_only) { BLKDEV_NULL_RO };
FIXTURE_VARIANT_ADD(limits, loop) { BLKDEV_LOOP };
FIXTURE_VARIANT_ADD(limits, nvme) { BLKDEV_NVME };
FIXTURE_VARIANT_ADD(limits, crypt) { BLKDEV_CRYPT };

FIXTURE_SETUP(limits)
{
	OPEN_DISK(&self->disk, variant->kind);
	self->d.fd = open(VHOST_BLK_DEV, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->d.fd);
}

FIXTURE_TEARDOWN(limits)
{
	close(self->d.fd);
	blkdev_close(&self->disk);
}

TEST_F(limits, are_those_of_the_queue)
{
	const struct blkdev *b = &self->disk;
	struct vhost_blk_limits l = { .fd = b->fd };
	unsigned int align;

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &l));
	EXPECT_EQ(b->fd, l.fd);
	EXPECT_EQ(b->sectors, l.capacity);
	EXPECT_EQ(blkdev_attr(b, "queue/logical_block_size"), l.logical_block);
	EXPECT_EQ(blkdev_attr(b, "queue/physical_block_size"), l.physical_block);
	EXPECT_EQ(blkdev_attr(b, "queue/minimum_io_size"), l.io_min);
	EXPECT_EQ(blkdev_attr(b, "queue/optimal_io_size"), l.io_opt);
	/* where blocks are large, buffers have to hold whole ones */
	align = blkdev_attr(b, "queue/dma_alignment");
	if (b->block > 512)
		align |= b->block - 1;
	EXPECT_EQ(align, l.dma_alignment);
	EXPECT_EQ(blkdev_attr(b, "queue/max_segments"), l.max_segments);
	EXPECT_EQ(blkdev_attr(b, "queue/max_segment_size"), l.max_segment_size);
	EXPECT_EQ(blkdev_attr(b, "queue/max_sectors_kb"), l.max_sectors / 2);
	EXPECT_EQ(blkdev_attr(b, "alignment_offset"), l.alignment_offset);
	EXPECT_EQ(blkdev_attr(b, "ro"), !!(l.flags & VHOST_BLK_LIMIT_READ_ONLY));
	EXPECT_EQ(blkdev_attr_is(b, "queue/write_cache", "write back"),
		  !!(l.flags & VHOST_BLK_LIMIT_WRITE_CACHE));
	EXPECT_EQ(blkdev_attr(b, "queue/fua"), !!(l.flags & VHOST_BLK_LIMIT_FUA));
	EXPECT_EQ(blkdev_attr(b, "queue/rotational"),
		  !!(l.flags & VHOST_BLK_LIMIT_ROTATIONAL));
	EXPECT_EQ(blkdev_attr(b, "queue/io_poll"),
		  !!(l.flags & VHOST_BLK_LIMIT_POLL));
	EXPECT_EQ(0, l.flags & ~0x1fU);
	EXPECT_TRUE(mem_is(l.reserved, 0, sizeof(l.reserved)));
}

TEST_F(limits, say_read_only_for_a_read_only_fd)
{
	struct vhost_blk_limits l = {};

	l.fd = open(self->disk.path, O_RDONLY);
	ASSERT_LE(0, l.fd);
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &l));
	EXPECT_TRUE(l.flags & VHOST_BLK_LIMIT_READ_ONLY);
}

TEST_F(limits, reject_what_they_do_not_know)
{
	struct vhost_blk_limits l = { .fd = self->disk.fd };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(l.reserved); i++) {
		l.reserved[i] = 1;
		EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &l));
		l.reserved[i] = 0;
	}
}

SUITE_MAIN
