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

#define MEM_SIZE	(64UL << 20)

/* A disk, or skip the test and say why. */
#define OPEN_DISK(disk, kind) do {					\
	if (blkdev_open(disk, kind))					\
		SKIP(return, "%s", blkdev_why());			\
} while (0)

/* The kernel log has no new complaint; call it with an earlier result. */
#define EXPECT_NO_SPLAT(before) EXPECT_EQ(before, kernel_splats())

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
