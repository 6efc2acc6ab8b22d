// SPDX-License-Identifier: GPL-2.0
/* Zoned disks of which few zones may be open, or active, at once. */
#include "suite.h"
#include "zoned.h"

#define RING_SIZE	256

FIXTURE(limited) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct zones was;
};

FIXTURE_SETUP(limited)
{
	OPEN_DISK(&self->disk, BLKDEV_ZONED_LIMITED);
	ASSERT_EQ(0, host_reset(&self->disk));
	ASSERT_EQ(0, host_report(&self->disk, &self->was));
	ASSERT_EQ(0, vdev_open(&self->d, ZONED_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(limited)
{
	vdev_close(&self->d);
	EXPECT_EQ(0, host_reset(&self->disk));
	blkdev_close(&self->disk);
}

TEST_F(limited, limits_are_reported)
{
	struct vhost_blk_limits l = { .fd = self->disk.fd };

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &l));
	EXPECT_EQ(BLKDEV_ZONED_OPEN, l.max_open_zones);
	EXPECT_EQ(BLKDEV_ZONED_ACTIVE, l.max_active_zones);
}

TEST_F(limited, too_many_open_zones)
{
	const struct blk_zone *z = self->was.z;
	char buf[4096] = {};
	struct zones zones;
	unsigned int i;
	uint64_t where;

	for (i = 0; i < BLKDEV_ZONED_OPEN; i++)
		ASSERT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_OPEN, z[i].start));
	ASSERT_EQ(0, host_report(&self->disk, &zones));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
		  zone_cmd(self->q, VIRTIO_BLK_T_ZONE_OPEN, z[i].start));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
		  blk_write(self->q, z[i].start, buf, sizeof(buf)));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
		  zone_append(self->q, z[i].start, buf, sizeof(buf), &where));
	EXPECT_UNCHANGED(zones);
	ASSERT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_CLOSE, z[0].start));
	EXPECT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_OPEN, z[i].start));
}

TEST_F(limited, too_many_active_zones)
{
	const struct blk_zone *z = self->was.z;
	char buf[4096] = {};
	struct zones zones;
	unsigned int i;
	uint64_t where;

	for (i = 0; i < BLKDEV_ZONED_ACTIVE; i++) {
		ASSERT_EQ(0, blk_write(self->q, z[i].start, buf, sizeof(buf)));
		ASSERT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_CLOSE,
				      z[i].start));
	}
	ASSERT_EQ(0, host_report(&self->disk, &zones));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
		  zone_cmd(self->q, VIRTIO_BLK_T_ZONE_OPEN, z[i].start));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
		  blk_write(self->q, z[i].start, buf, sizeof(buf)));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
		  zone_append(self->q, z[i].start, buf, sizeof(buf), &where));
	EXPECT_UNCHANGED(zones);
	ASSERT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_RESET, z[0].start));
	EXPECT_EQ(0, blk_write(self->q, z[i].start, buf, sizeof(buf)));
}

SUITE_MAIN
