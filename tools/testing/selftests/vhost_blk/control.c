// SPDX-License-Identifier: GPL-2.0
/*
 * What is set and read back while a device runs: the guest's configuration, polling,
 * workers, counters. How the other ioctls fail is in uapi.c.
 */
#include <sched.h>

#include "uapi.h"

TEST_F(uapi, config_rejects_what_it_does_not_know)
{
	const uint32_t known = VHOST_BLK_CONFIG_WRITEBACK |
			       VHOST_BLK_CONFIG_IGNORE_DISCARD;
	struct vhost_blk_config c = {};
	unsigned int i;

	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
	for (i = 0; i < 32; i++) {
		c.flags = 1U << i;
		EXPECT_EQ(c.flags & known ? 0 : -EINVAL,
			  vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c)) {
			TH_LOG("flag bit %u", i);
		}
	}
	c.flags = 0;
	c.reserved = 1;
	EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
	c.reserved = 0;
	for (i = 0; i < ARRAY_SIZE(c.reserved2); i++) {
		c.reserved2[i] = 0x80000000;
		EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
		c.reserved2[i] = 0;
	}
}

static int get_id(struct vq *q, char *id, uint32_t len)
{
	struct req r;
	int n;

	req_init(&r, VIRTIO_BLK_T_GET_ID, 0, len);
	n = req_build(&q->dev->mem, &r);
	if (!n)
		n = req_run(q, &r);
	if (!n)
		req_get_data(&r, id);
	req_free(&r);
	return n ? n : r.status;
}

TEST_F(uapi, config_gives_the_disk_its_id)
{
	struct vhost_blk_config c = { .flags = VHOST_BLK_CONFIG_WRITEBACK };
	char id[20], want[20] = {};

	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, get_id(self->q, id, 20));
	EXPECT_TRUE(mem_is(id, 0, 20));

	memcpy(c.id, "serial", 6);
	memcpy(want, "serial", 6);
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
	ASSERT_EQ(0, get_id(self->q, id, 20));
	EXPECT_EQ(0, memcmp(want, id, 20));

	/* all twenty used: no terminator */
	memcpy(c.id, "01234567890123456789", 20);
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
	ASSERT_EQ(0, get_id(self->q, id, 20));
	EXPECT_EQ(0, memcmp(c.id, id, 20));
}

static int get_poll(struct vdev *d, unsigned int index,
		    struct vhost_blk_poll *p)
{
	memset(p, 0, sizeof(*p));
	p->index = index;
	return vdev_ioctl(d, VHOST_BLK_GET_POLL, p);
}

TEST_F(uapi, poll_parameters_come_back_as_set)
{
	struct vhost_blk_poll p = { .index = 1, .poll_us = 123, .batch = 7 };
	unsigned int standard;

	ASSERT_EQ(0, get_poll(&self->d, 0, &p));
	EXPECT_EQ(0, p.poll_us);
	EXPECT_LT(0, p.batch);
	standard = p.batch;

	p = (struct vhost_blk_poll){ .index = 1, .poll_us = 123, .batch = 7,
				     .signal_us = 45 };
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	ASSERT_EQ(0, get_poll(&self->d, 1, &p));
	EXPECT_EQ(123, p.poll_us);
	EXPECT_EQ(7, p.batch);
	EXPECT_EQ(45, p.signal_us);
	EXPECT_EQ(0, p.flags);
	p.flags = VHOST_BLK_POLL_FIXED;
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	ASSERT_EQ(0, get_poll(&self->d, 1, &p));
	EXPECT_EQ(VHOST_BLK_POLL_FIXED, p.flags);
	ASSERT_EQ(0, get_poll(&self->d, 0, &p));
	EXPECT_EQ(0, p.poll_us);
	EXPECT_EQ(0, p.signal_us);
	EXPECT_EQ(standard, p.batch);

	p = (struct vhost_blk_poll){ .index = VHOST_BLK_ALL_RINGS,
				     .poll_us = VHOST_BLK_MAX_POLL_US };
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	ASSERT_EQ(0, get_poll(&self->d, 63, &p));
	EXPECT_EQ(VHOST_BLK_MAX_POLL_US, p.poll_us);
	ASSERT_EQ(0, get_poll(&self->d, 1, &p));
	EXPECT_EQ(standard, p.batch);
}

TEST_F(uapi, poll_us_is_the_busyloop_timeout)
{
	struct vhost_vring_state s = { .index = 1 };
	struct vhost_blk_poll p;

	ASSERT_EQ(0, vdev_state(&self->d, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, 1, 77));
	ASSERT_EQ(0, get_poll(&self->d, 1, &p));
	EXPECT_EQ(77, p.poll_us);
	ASSERT_EQ(0, vdev_set_poll(&self->d, 1, 78));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_GET_VRING_BUSYLOOP_TIMEOUT, &s));
	EXPECT_EQ(78, s.num);
	EXPECT_EQ(-EINVAL, vdev_state(&self->d, VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
				      1, VHOST_BLK_MAX_POLL_US + 1));
	ASSERT_EQ(0, get_poll(&self->d, 1, &p));
	EXPECT_EQ(78, p.poll_us);
}

TEST_F(uapi, poll_rejects_what_it_does_not_know)
{
	struct vhost_blk_poll p = {};
	unsigned int i;

	for (i = 0; i < 32; i++) {
		p.flags = 1U << i;
		if (p.flags & ~(VHOST_BLK_POLL_FIXED | VHOST_BLK_POLL_NO_IOPOLL))
			EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d,
						      VHOST_BLK_SET_POLL, &p));
		EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_GET_POLL, &p));
	}
	p.flags = 0;
	for (i = 0; i < ARRAY_SIZE(p.reserved); i++) {
		p.reserved[i] = 1;
		EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
		EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_GET_POLL, &p));
		p.reserved[i] = 0;
	}
	p.poll_us = VHOST_BLK_MAX_POLL_US + 1;
	EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	p.poll_us = 0xffffffff;
	EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	p.poll_us = 0;
	p.batch = VHOST_BLK_MAX_RING_SIZE + 1;
	EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
	p.batch = 0;
	p.signal_us = VHOST_BLK_MAX_SIGNAL_US + 1;
	EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_SET_POLL, &p));
}

TEST_F(uapi, poll_parameters_change_while_running)
{
	unsigned int i;

	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, vdev_set_poll(&self->d, VHOST_BLK_ALL_RINGS,
					   i % 2 ? 0 : 500));
		ASSERT_EQ(0, blk_flush(self->q));
	}
}

TEST_F(uapi, the_worker_is_a_thread_of_ours_that_can_be_pinned)
{
	struct vhost_blk_worker w = { .index = 0 };
	struct vhost_vring_worker vw = { .index = 0 };
	cpu_set_t set, got;
	unsigned int i;
	char path[64];

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_WORKER, &w));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_GET_VRING_WORKER, &vw));
	EXPECT_EQ(vw.worker_id, w.worker_id);
	EXPECT_LT(0, w.tid);
	EXPECT_NE(getpid(), w.tid);
	snprintf(path, sizeof(path), "/proc/self/task/%d", w.tid);
	EXPECT_EQ(0, access(path, F_OK));

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	EXPECT_EQ(0, sched_setaffinity(w.tid, sizeof(set), &set));
	EXPECT_EQ(0, sched_getaffinity(w.tid, sizeof(got), &got));
	EXPECT_TRUE(CPU_EQUAL(&set, &got));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(0, blk_flush(self->q));

	w.index = 1;
	i = w.tid;
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_WORKER, &w));
	EXPECT_EQ(i, w.tid);
	for (i = 0; i < ARRAY_SIZE(w.reserved); i++) {
		w.reserved[i] = 1;
		EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_GET_WORKER, &w));
		w.reserved[i] = 0;
	}
}

TEST_F(uapi, a_ring_gets_a_worker_of_its_own)
{
	struct vhost_worker_state state = {};
	struct vhost_vring_worker vw = { .index = 1 };
	struct vhost_blk_worker w = { .index = 1 };
	int tid = vdev_worker(&self->d, 0);

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_NEW_WORKER, &state));
	vw.worker_id = state.worker_id;
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_ATTACH_VRING_WORKER, &vw));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_WORKER, &w));
	EXPECT_EQ(state.worker_id, w.worker_id);
	EXPECT_NE(tid, w.tid);
	EXPECT_EQ(tid, vdev_worker(&self->d, 0));
	EXPECT_EQ(-EBUSY, vdev_ioctl(&self->d, VHOST_FREE_WORKER, &state));

	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, vq_start(self->q1, self->disk.fd));
	EXPECT_EQ(0, blk_flush(self->q));
	EXPECT_EQ(0, blk_flush(self->q1));

	state.worker_id = 0x7fffffff;
	EXPECT_EQ(-ENODEV, vdev_ioctl(&self->d, VHOST_FREE_WORKER, &state));
	vw.worker_id = 0x7fffffff;
	EXPECT_EQ(-ENODEV, vdev_ioctl(&self->d, VHOST_ATTACH_VRING_WORKER, &vw));
	EXPECT_EQ(0, blk_flush(self->q1));
}

TEST_F(uapi, stats_count_each_request_once)
{
	struct vhost_blk_stats s;
	char buf[4096] = {};

	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_TRUE(mem_is(&s.reads, 0, sizeof(s) - offsetof(typeof(s), reads)));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, vq_start(self->q1, self->disk.fd));
	EXPECT_EQ(0, blk_read(self->q, 0, buf, 4096));
	EXPECT_EQ(0, blk_read(self->q, 8, buf, 512));
	EXPECT_EQ(0, blk_write(self->q, 0, buf, 1024));
	EXPECT_EQ(0, blk_flush(self->q));
	EXPECT_EQ(0, get_id(self->q, buf, 20));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR,
		  blk_read(self->q, self->disk.sectors, buf, 512));
	EXPECT_EQ(0, blk_read(self->q1, 0, buf, 512));

	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(2, s.reads);
	EXPECT_EQ(4096 + 512, s.read_bytes);
	EXPECT_EQ(1, s.writes);
	EXPECT_EQ(1024, s.write_bytes);
	EXPECT_EQ(1, s.flushes);
	EXPECT_EQ(1, s.get_ids);
	EXPECT_EQ(1, s.errors);
	EXPECT_EQ(0, s.disk_errors);
	EXPECT_EQ(0, s.unsupported);
	EXPECT_EQ(0, s.malformed);
	EXPECT_EQ(0, s.ring_errors);
	EXPECT_EQ(0, s.inflight);
	EXPECT_LE(1, s.kicks);
	EXPECT_LE(1, s.batches);
	EXPECT_GE(6, s.batches);
	EXPECT_LE(1, s.signals);

	ASSERT_EQ(0, vdev_stats(&self->d, VHOST_BLK_ALL_RINGS, &s));
	EXPECT_EQ(3, s.reads);
	EXPECT_EQ(4096 + 512 + 512, s.read_bytes);
	EXPECT_EQ(1, s.writes);

	/* they outlive the backend */
	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(2, s.reads);

	s.reserved = 1;
	EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_GET_STATS, &s));
}

TEST_F(uapi, fdinfo_shows_the_sums_of_all_rings)
{
	struct vhost_blk_stats s;
	char buf[4096] = {};

	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, vq_start(self->q1, self->disk.fd));
	ASSERT_EQ(0, blk_read(self->q, 0, buf, 4096));
	ASSERT_EQ(0, blk_read(self->q1, 0, buf, 512));
	ASSERT_EQ(0, blk_write(self->q1, 0, buf, 512));
	ASSERT_EQ(VIRTIO_BLK_S_IOERR, blk_read(self->q, ~0ULL, buf, 512));
	ASSERT_EQ(0, vdev_stats(&self->d, VHOST_BLK_ALL_RINGS, &s));
	EXPECT_EQ(2, vdev_shown(&self->d, "reads"));
	EXPECT_EQ(4096 + 512, vdev_shown(&self->d, "read_bytes"));
	EXPECT_EQ(1, vdev_shown(&self->d, "writes"));
	EXPECT_EQ(512, vdev_shown(&self->d, "write_bytes"));
	EXPECT_EQ(0, vdev_shown(&self->d, "flushes"));
	EXPECT_EQ(1, vdev_shown(&self->d, "errors"));
	EXPECT_EQ(0, vdev_shown(&self->d, "inflight"));
	EXPECT_EQ(s.kicks, vdev_shown(&self->d, "kicks"));
	EXPECT_EQ(s.batches, vdev_shown(&self->d, "batches"));
}

SUITE_MAIN
