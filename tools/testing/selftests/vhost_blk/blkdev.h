/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The disks behind the tests: made on demand, removed when the test program
 * ends (and when the next one starts, should this one be killed).
 */
#ifndef VHOST_BLK_TEST_BLKDEV_H
#define VHOST_BLK_TEST_BLKDEV_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

enum blkdev_kind {
	BLKDEV_NULL_512,	/* null_blk keeping its data, completes at once */
	BLKDEV_NULL_4K,		/* the same with 4096-byte blocks */
	BLKDEV_NULL_SMALL,	/* at most 8 sectors per request, virtual boundary */
	BLKDEV_NULL_SOFTIRQ,	/* completes from softirq */
	BLKDEV_NULL_TIMER,	/* completes after 2 ms, from a timer */
	BLKDEV_NULL_30US,	/* the same after 30 us */
	BLKDEV_NULL_60US,
	BLKDEV_NULL_RO,		/* read-only */
	BLKDEV_NULL_ZONED,	/* a zoned disk */
	BLKDEV_LOOP,		/* over a file in memory */
	BLKDEV_NVME,		/* VHOST_BLK_TEST_NVME */
	BLKDEV_CRYPT,		/* dm-crypt over null_blk */
	BLKDEV_HOLD,		/* dm-linear over null_blk; see blkdev_hold() */
	BLKDEV_BAD,		/* dm over null_blk; BLKDEV_BAD_* always fails */
};

#define BLKDEV_SIZE		(64ULL << 20)	/* of those that we make */
#define BLKDEV_BAD_SECTOR	4096
#define BLKDEV_BAD_COUNT	64

struct blkdev {
	enum blkdev_kind kind;
	char name[32];		/* as in /sys/block */
	char path[64];
	int fd;			/* for the kernel under test */
	int check;		/* O_DIRECT, to see what the disk holds */
	uint64_t sectors;	/* of 512 bytes */
	unsigned int block;	/* logical block size */
};

/*
 * Open a disk; makes it if needed. A negative errno if that fails, with the
 * reason in blkdev_why().
 */
int blkdev_open(struct blkdev *b, enum blkdev_kind kind);
void blkdev_close(struct blkdev *b);
const char *blkdev_why(void);
void blkdev_remove_all(void);

/* What the disk holds, behind everybody's back; whole blocks. */
int blkdev_peek(const struct blkdev *b, uint64_t sector, void *buf,
		size_t len);
int blkdev_poke(const struct blkdev *b, uint64_t sector, const void *buf,
		size_t len);

/* BLKDEV_HOLD: keep all I/O from now on, until released. */
int blkdev_hold(const struct blkdev *b);
int blkdev_release(const struct blkdev *b);

/* A value in /sys/block/<name>/; -1 if there is none. */
long long blkdev_attr(const struct blkdev *b, const char *attr);
bool blkdev_attr_is(const struct blkdev *b, const char *attr, const char *s);

#endif
