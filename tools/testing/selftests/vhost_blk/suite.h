/* SPDX-License-Identifier: GPL-2.0 */
/* What the suites share; needs the harness, so not for the helpers. */
#ifndef VHOST_BLK_TEST_SUITE_H
#define VHOST_BLK_TEST_SUITE_H

#include <fcntl.h>
#include <kselftest_harness.h>

#include "blkdev.h"
#include "request.h"
#include "util.h"
#include "vring.h"

/* Emulated and instrumented machines are slow. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 180

#define MEM_SIZE	(64UL << 20)

/* A disk, or skip the test and say why. */
#define OPEN_DISK(disk, kind) do {					\
	if (blkdev_open(disk, kind))					\
		SKIP(return, "%s", blkdev_why());			\
} while (0)

/* What a test must leave as it found it. */
struct baseline {
	int splats;
	long long pinned;
};

static inline struct baseline baseline_take(void)
{
	return (struct baseline){ kernel_splats(), pages_pinned() };
}

/*
 * The kernel log has no new complaint, and no page is pinned any more: pins go
 * a moment after the process that held the device.
 */
#define EXPECT_BASELINE(b) do {						\
	long long _pinned;						\
	int _tries = 50;						\
	while ((_pinned = pages_pinned()) != (b).pinned && _tries--)	\
		sleep_ms(20);						\
	EXPECT_EQ((b).pinned, _pinned);					\
	EXPECT_EQ((b).splats, kernel_splats());				\
} while (0)

/* A device with @n rings of @size, which run on @fd if that is a disk. */
static inline void open_ring(struct __test_metadata *_metadata,
			     struct vdev *d, struct vq **q, unsigned int n,
			     unsigned int size, int fd, uint64_t features)
{
	unsigned int i;

	ASSERT_EQ(0, vdev_open(d, features, MEM_SIZE));
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, vq_setup(d, i, size, &q[i]));
		if (fd >= 0)
			ASSERT_EQ(0, vq_start(q[i], fd));
	}
}

#define SUITE_MAIN							\
int main(int argc, char **argv)						\
{									\
	if (access(VHOST_BLK_DEV, F_OK))				\
		ksft_exit_skip(VHOST_BLK_DEV ": is vhost_blk loaded?\n"); \
	if (geteuid())							\
		ksft_exit_skip("needs root\n");				\
	printf("# seed: VHOST_BLK_TEST_SEED=0x%llx\n",			\
	       (unsigned long long)test_seed());			\
	fflush(stdout);							\
	blkdev_remove_all();						\
	atexit(blkdev_remove_all);					\
	return test_harness_run(argc, argv);				\
}

#endif
