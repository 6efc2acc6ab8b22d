// SPDX-License-Identifier: GPL-2.0
/* What devices, rings and requests take of the kernel's memory. */
#include "suite.h"

#define RING_SIZE	256
#define DEVICES		4
/* What a device takes by itself, and each of its rings that is set up, in KiB. */
#define DEVICE_KIB	64
#define RING_KIB	192
/* The most that a ring may take, with its part of the device. */
#define WITH_DEVICE_KIB	256
/* What rings take that are not set up, if nobody has said that there are few. */
#define UNSAID_KIB	4096

FIXTURE(memory) {
	struct vdev d[DEVICES];
	struct vq *q;
	struct blkdev disk;
	struct baseline before;
};

FIXTURE_SETUP(memory)
{
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
}

FIXTURE_TEARDOWN(memory)
{
	trace_end();
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/*
 * KiB for each of the devices, if each uses so many rings, and the kernel is told that
 * it has @told (0: is not told).
 */
static long long each_takes(struct __test_metadata *_metadata,
			    FIXTURE_DATA(memory) *self, unsigned int rings,
			    unsigned int told)
{
	long long before = kernel_memory(), found;
	unsigned int i, j;

	for (i = 0; i < DEVICES; i++) {
		ASSERT_EQ(0, vdev_open_rings(&self->d[i], DRIVER_FEATURES, 8 << 20,
					     told));
		for (j = 0; j < rings; j++) {
			ASSERT_EQ(0, vq_setup(&self->d[i], j, RING_SIZE, &self->q));
			ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
			ASSERT_EQ(0, blk_flush(self->q));
		}
	}
	found = (kernel_memory() - before) / DEVICES;
	for (i = 0; i < DEVICES; i++)
		vdev_close(&self->d[i]);
	TH_LOG("a device that uses %u of %u rings takes %lld KiB", rings,
	       told ? told : VHOST_BLK_MAX_RINGS, found);
	return found;
}

TEST_F(memory, of_a_ring_is_bounded)
{
	const unsigned int all = VHOST_BLK_MAX_RINGS;
	long long one, four, many, unsaid;

	each_takes(_metadata, self, 1, 1);
	one = each_takes(_metadata, self, 1, 1);
	four = each_takes(_metadata, self, 4, 4);
	many = each_takes(_metadata, self, all, all);
	unsaid = each_takes(_metadata, self, 1, 0);
	EXPECT_LT(0, one);
	/* Kernels with checkers need more. */
	if (machine_slow())
		return;
	EXPECT_GE(WITH_DEVICE_KIB, one);
	EXPECT_GE(DEVICE_KIB + 4 * RING_KIB, four);
	EXPECT_GE(DEVICE_KIB + all * RING_KIB, many);
	EXPECT_GE(UNSAID_KIB, unsaid);
}

/*
 * Allocations of the thread @tid while it reads and writes @len bytes, @n times. An
 * interrupt that comes meanwhile may allocate, too: the least of some attempts.
 */
static long long allocations(struct __test_metadata *_metadata,
			     FIXTURE_DATA(memory) *self, int tid,
			     unsigned int len, unsigned int n)
{
	static char buf[1 << 20];
	long long found, least = -1;
	unsigned int i, j;

	/* null_blk allocates what is written first. */
	ASSERT_EQ(0, blk_write(self->q, 0, buf, len));
	for (j = 0; j < 10 && least; j++) {
		ASSERT_EQ(0, run("echo >" TRACE_DIR "/trace; echo 1 >" TRACE_DIR
				 "/tracing_on"));
		for (i = 0; i < n; i++) {
			ASSERT_EQ(0, blk_read(self->q, 0, buf, len));
			ASSERT_EQ(0, blk_write(self->q, 0, buf, len));
		}
		ASSERT_EQ(0, run("echo 0 >" TRACE_DIR "/tracing_on"));
		found = traced("bytes_alloc=", tid);
		least = least < 0 || found < least ? found : least;
	}
	TH_LOG("%u reads and writes of %u bytes: allocated %lld times", n, len, least);
	return least;
}

TEST_F(memory, is_not_allocated_for_a_small_request)
{
	int tid;

	if (trace_start())
		SKIP(return, "needs tracefs");
	ASSERT_EQ(0, run("echo 1 >" TRACE_DIR "/events/kmem/kmalloc/enable"));
	ASSERT_EQ(0, run("echo 1 >" TRACE_DIR "/events/kmem/kmem_cache_alloc/enable"));
	ASSERT_EQ(0, vdev_open(&self->d[0], DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d[0], 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	tid = vdev_worker(&self->d[0], 0);
	ASSERT_LT(0, tid);
	/* The buffer holds the worker's alone. */
	ASSERT_EQ(0, run("echo %d >" TRACE_DIR "/set_event_pid", tid));
	EXPECT_EQ(0, allocations(_metadata, self, tid, 512, 100));
	EXPECT_EQ(0, allocations(_metadata, self, tid, 4096, 100));
	/* A large one has its table allocated. */
	EXPECT_LE(2, allocations(_metadata, self, tid, 1 << 20, 1));
	vdev_close(&self->d[0]);
}

SUITE_MAIN
