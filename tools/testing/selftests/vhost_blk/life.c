// SPDX-License-Identifier: GPL-2.0
/*
 * Devices come and go: opened, running, closed, inherited; nothing is left
 * behind, and no two of them meet.
 */
#include <signal.h>

#include "suite.h"

/* Everything up to a running ring and one request; all of it left behind. */
static int whole_life(const struct blkdev *disk)
{
	struct vdev d;
	struct vq *q;
	int r;

	r = vdev_open(&d, DRIVER_FEATURES, 1 << 20);
	if (r)
		return r;
	r = vq_setup(&d, 0, 16, &q);
	if (!r)
		r = vq_start(q, disk->fd);
	if (!r)
		r = blk_flush(q);
	vdev_close(&d);
	return r;
}

FIXTURE(life) {
	struct blkdev disk;
	int refs, disk_refs;
	struct baseline before;
};

FIXTURE_SETUP(life)
{
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	self->refs = module_refs("vhost_blk");
	self->disk_refs = module_refs("null_blk");
	self->before = baseline_take();
}

FIXTURE_TEARDOWN(life)
{
	EXPECT_EQ(self->refs, module_refs_settle("vhost_blk", self->refs, 2000));
	EXPECT_EQ(self->disk_refs,
		  module_refs_settle("null_blk", self->disk_refs, 2000));
	EXPECT_BASELINE(self->before);
	blkdev_close(&self->disk);
}

TEST_F(life, open_and_close_leave_nothing)
{
	struct vdev d;
	int i, fd;

	for (i = 0; i < 50; i++) {
		fd = open(VHOST_BLK_DEV, O_RDWR);
		ASSERT_LE(0, fd);
		close(fd);
		ASSERT_EQ(0, vdev_open(&d, DRIVER_FEATURES, 1 << 20));
		vdev_close(&d);
	}
}

TEST_F(life, running_rings_may_be_closed_any_time)
{
	int i;

	for (i = 0; i < 50; i++)
		ASSERT_EQ(0, whole_life(&self->disk));
}

TEST_F(life, two_devices_do_not_meet)
{
	struct vdev d[2];
	struct vq *q[2];
	char buf[2][512];
	int i;

	for (i = 0; i < 2; i++) {
		memset(buf[i], i + 1, sizeof(buf[i]));
		ASSERT_EQ(0, vdev_open(&d[i], DRIVER_FEATURES, 1 << 20));
		ASSERT_EQ(0, vq_setup(&d[i], 0, 16, &q[i]));
		ASSERT_EQ(0, vq_start(q[i], self->disk.fd));
		ASSERT_EQ(0, blk_write(q[i], i, buf[i], 512));
	}
	EXPECT_NE(vdev_worker(&d[0], 0), vdev_worker(&d[1], 0));
	vdev_close(&d[0]);
	ASSERT_EQ(0, blk_read(q[1], 0, buf[1], 512));
	EXPECT_TRUE(mem_is(buf[1], 1, 512));
	vdev_close(&d[1]);
}

TEST_F(life, the_file_may_outlive_its_owner)
{
	int i, ready[2], go[2], status;
	pid_t owner, heir;
	char c;

	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, pipe(ready));
		ASSERT_EQ(0, pipe(go));
		owner = fork();
		ASSERT_LE(0, owner);
		if (!owner) {
			struct vdev d;
			struct vq *q;

			if (vdev_open(&d, DRIVER_FEATURES, 1 << 20) ||
			    vq_setup(&d, 0, 16, &q) ||
			    vq_start(q, self->disk.fd) || blk_flush(q))
				_exit(1);
			heir = fork();
			if (heir < 0)
				_exit(1);
			if (!heir) {
				/* has the file, but not the memory */
				close(go[1]);
				c = vdev_set_mem(&d) == -EPERM ? 'y' : 'n';
				if (write(ready[1], &c, 1) != 1)
					_exit(1);
				c = read(go[0], &c, 1);
				_exit(0);
			}
			pause();
			_exit(1);
		}
		close(ready[1]);
		ASSERT_EQ(1, read(ready[0], &c, 1));
		EXPECT_EQ('y', c);
		kill(owner, SIGKILL);
		ASSERT_EQ(owner, waitpid(owner, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
		if (self->refs >= 0)
			EXPECT_EQ(self->refs + 1, module_refs("vhost_blk"));
		/* now the last reference goes */
		close(go[0]);
		close(go[1]);
		EXPECT_EQ(self->refs,
			  module_refs_settle("vhost_blk", self->refs, 2000));
		close(ready[0]);
	}
}

SUITE_MAIN
