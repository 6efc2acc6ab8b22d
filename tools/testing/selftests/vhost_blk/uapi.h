/* SPDX-License-Identifier: GPL-2.0 */
/* What the suites about the interface start from. */
#ifndef VHOST_BLK_TEST_UAPI_H
#define VHOST_BLK_TEST_UAPI_H

#include "suite.h"

/* With an owner, two rings made known, and a disk. */

FIXTURE(uapi) {
	struct vdev d;
	struct vq *q, *q1;
	struct blkdev disk;
	struct baseline before;
};

FIXTURE_SETUP(uapi)
{
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, 128, &self->q));
	ASSERT_EQ(0, vq_setup(&self->d, 1, 128, &self->q1));
}

FIXTURE_TEARDOWN(uapi)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

#endif
