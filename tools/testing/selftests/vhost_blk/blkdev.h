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
	BLKDEV_NULL_FEW,	/* the same after 10 ms, four requests at a time */
	BLKDEV_NULL_30US,	/* the same after 30 us */
	BLKDEV_NULL_60US,
	BLKDEV_NULL_RO,		/* read-only */
	BLKDEV_ZONED,		/* 16 zones, all sequential */
	BLKDEV_ZONED_CONV,	/* 4 conventional, 12 with a gap at their end */
	BLKDEV_ZONED_4K,	/* 4096-byte blocks, the last zone is smaller */
	BLKDEV_ZONED_EMULATED,	/* appends are emulated by the block layer */
	BLKDEV_ZONED_LIMITED,	/* BLKDEV_ZONED_OPEN open, _ACTIVE active */
	BLKDEV_LOOP,		/* over a file in memory */
	BLKDEV_NVME,		/* VHOST_BLK_TEST_NVME */
	BLKDEV_CRYPT,		/* dm-crypt over null_blk */
	BLKDEV_HOLD,		/* dm-linear over null_blk; see blkdev_hold() */
	BLKDEV_BAD,		/* dm over null_blk; BLKDEV_BAD_* always fails */
	BLKDEV_SLOW,		/* the same; BLKDEV_BAD_* takes BLKDEV_SLOW_MS */
	BLKDEV_NULL_DISCARD,	/* null_blk that forgets what is discarded */
	BLKDEV_NULL_4K_DISCARD,
	BLKDEV_NULL_CACHE,	/* with a write cache; see blkdev_power_cut() */
	BLKDEV_NULL_NO_FUA,	/* the same, and no FUA */
	/* made by stack.c */
	BLKDEV_LOOP_FILE,	/* over a sparse file in memory; see blkdev_allocated() */
	BLKDEV_PART,		/* partition of a null_blk that discards */
	BLKDEV_LINEAR,		/* dm-linear over two of them */
	BLKDEV_THIN,		/* dm-thin over one */
	BLKDEV_THIN_SMALL,	/* the same, of a pool of BLKDEV_POOL */
	BLKDEV_RAID1,		/* md over two */
	BLKDEV_NVME_TCP,	/* nvmet over one, and nvme-tcp to 127.0.0.1 */
	BLKDEV_EXT4,		/* sparse file on ext4 */
	BLKDEV_EXT4_4K,		/* the same, on a disk with 4096-byte blocks */
	BLKDEV_EXT4_NO_EXTENTS,	/* the same, which cannot zero by command */
	BLKDEV_XFS,
	BLKDEV_XFS_4K,
	BLKDEV_EXT4_CACHE,	/* sparse file on ext4 on a disk with a write cache */
	BLKDEV_XFS_CACHE,
	/* made by vduse.c */
	BLKDEV_ERASE,		/* erases securely; see vduse.h */
	BLKDEV_ERASE_4K,	/* the same with 4096-byte blocks */
};

#define BLKDEV_SIZE		(64ULL << 20)	/* of those that we make */
#define BLKDEV_POOL		(2ULL << 20)
#define BLKDEV_POOL_BLOCK	65536	/* what the pool gives out at a time */
#define BLKDEV_ZONED_OPEN	3
#define BLKDEV_ZONED_ACTIVE	5
#define BLKDEV_BAD_SECTOR	4096
#define BLKDEV_BAD_COUNT	64
#define BLKDEV_SLOW_MS		5000

struct blkdev {
	enum blkdev_kind kind;
	char name[32];		/* as in /sys/block */
	char path[128];
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

/* Bytes that the disk has taken from what lies under it; -1: nobody knows. */
long long blkdev_allocated(const struct blkdev *b);

/*
 * Make it longer or shorter: files, loop, dm-linear; whole megabytes. @b tells
 * of the new size.
 */
int blkdev_resize(struct blkdev *b, uint64_t sectors);

/* BLKDEV_THIN_SMALL: make its pool twice as large; take pool and disk away. */
int blkdev_extend_pool(void);
void blkdev_remove_pool(void);

/*
 * BLKDEV_*_CACHE, BLKDEV_NULL_NO_FUA: power off and on. What is in the disk's
 * write cache is lost; a filesystem on it is mounted again. The disk must be
 * detached; @b is opened anew.
 */
int blkdev_power_cut(struct blkdev *b);

/* Such a disk: give all that it holds back, as if it had never been written. */
int blkdev_empty(const struct blkdev *b);

/* Flushes that the disk has got from the block layer so far. */
long long blkdev_flushes(const struct blkdev *b);

/* BLKDEV_HOLD: keep all I/O from now on, until released. */
int blkdev_hold(const struct blkdev *b);
int blkdev_release(const struct blkdev *b);

/* Write a value to a zoned disk's configuration, as zone_offline. */
int blkdev_configure(const struct blkdev *b, const char *attr, uint64_t value);

/* A value in /sys/block/<name>/; -1 if there is none. */
long long blkdev_attr(const struct blkdev *b, const char *attr);
bool blkdev_attr_is(const struct blkdev *b, const char *attr, const char *s);

/* For stack.c. */
struct null_attr {
	const char *name, *value;
};

/* A null_blk with these attributes; nothing if it is there. */
int blkdev_make_null(const char *name, const struct null_attr *attr);
int blkdev_make_loop(unsigned int nr, const char *file);
int blkdev_make_dm(const char *name, const char *module, const char *table);
int blkdev_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int blkdev_wait(const char *path);
int stack_make(enum blkdev_kind kind, char *path, size_t size);
void stack_remove_all(void);

#endif
