// SPDX-License-Identifier: GPL-2.0
/*
 * DISCARD, WRITE_ZEROES and SECURE_ERASE on every kind of disk: what the disk
 * holds afterwards, and what it has given back to whatever lies under it.
 */
#include <errno.h>
#include <unistd.h>

#include "suite.h"

#define RANGE_FEATURES	(DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_DISCARD) | \
			 BIT64(VIRTIO_BLK_F_WRITE_ZEROES) |		\
			 BIT64(VIRTIO_BLK_F_SECURE_ERASE))
#define UNMAP		VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
#define AREA		(1024u * 1024)	/* of the disk that we look at */
#define CHUNK		128		/* sectors; what dm-thin discards at least */
#define RING_SIZE	64

/* The name is long, and here often. */
#define vrange virtio_blk_discard_write_zeroes

/* What a discard leaves behind. */
enum left { LEFT_ZERO, LEFT_DATA, LEFT_EITHER };

struct ranges {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct prng rnd;
	char *want, *got;	/* of AREA */
	struct baseline before;
};

static int ranges_open(struct ranges *s, uint64_t features)
{
	int r;

	prng_init(&s->rnd, s->disk.kind);
	s->want = malloc(AREA);
	s->got = malloc(AREA);
	if (!s->want || !s->got)
		return -ENOMEM;
	r = vdev_open(&s->d, features, MEM_SIZE);
	if (!r)
		r = vq_setup(&s->d, 0, RING_SIZE, &s->q);
	return r ? r : vq_start(s->q, s->disk.fd);
}

static void ranges_close(struct ranges *s)
{
	vdev_close(&s->d);
	blkdev_close(&s->disk);
	free(s->want);
	free(s->got);
}

/* Fill the area at the start of the disk; also in s->want. */
static int area_fill(struct ranges *s)
{
	prng_fill(&s->rnd, s->want, AREA);
	return blkdev_poke(&s->disk, 0, s->want, AREA);
}

/* What the area should hold now. */
static void area_zero(struct ranges *s, const struct vrange *r, unsigned int n)
{
	for (; n--; r++)
		memset(s->want + r->sector * 512, 0, r->num_sectors * 512);
}

/* Where a discard may do as it likes: believe the disk, if that is plausible. */
static int area_either(struct ranges *s, const struct vrange *r, unsigned int n)
{
	if (blkdev_peek(&s->disk, 0, s->got, AREA))
		return -EIO;
	for (; n--; r++) {
		for (uint64_t i = r->sector; i < r->sector + r->num_sectors; i++) {
			char *want = s->want + i * 512, *got = s->got + i * 512;

			if (memcmp(want, got, 512) && !mem_is(got, 0, 512))
				return -EILSEQ;
			memcpy(want, got, 512);
		}
	}
	return 0;
}

/* 0 if the disk holds what it should; else the first sector that differs, + 1. */
static int area_differs(struct ranges *s)
{
	unsigned int i;

	if (blkdev_peek(&s->disk, 0, s->got, AREA))
		return -EIO;
	for (i = 0; i < AREA; i += 512)
		if (memcmp(s->want + i, s->got + i, 512))
			return i / 512 + 1;
	return 0;
}

FIXTURE(range) {
	struct ranges s;
};

FIXTURE_VARIANT(range) {
	enum blkdev_kind kind;
	enum left left;
};

#define RANGE(name, disk, what)						\
	FIXTURE_VARIANT_ADD(range, name) { .kind = disk, .left = what }

RANGE(null_blk, BLKDEV_NULL_DISCARD, LEFT_ZERO);
RANGE(null_blk_4k, BLKDEV_NULL_4K_DISCARD, LEFT_ZERO);
RANGE(no_discard, BLKDEV_NULL_512, LEFT_DATA);
RANGE(partition, BLKDEV_PART, LEFT_ZERO);
RANGE(dm_linear, BLKDEV_LINEAR, LEFT_ZERO);
RANGE(dm_crypt, BLKDEV_CRYPT, LEFT_DATA);
RANGE(dm_thin, BLKDEV_THIN, LEFT_ZERO);
RANGE(md_raid1, BLKDEV_RAID1, LEFT_ZERO);
RANGE(loop, BLKDEV_LOOP_FILE, LEFT_ZERO);
RANGE(nvme, BLKDEV_NVME, LEFT_EITHER);
RANGE(nvme_tcp, BLKDEV_NVME_TCP, LEFT_EITHER);
RANGE(ext4, BLKDEV_EXT4, LEFT_ZERO);
RANGE(ext4_4k, BLKDEV_EXT4_4K, LEFT_ZERO);
RANGE(ext4_no_extents, BLKDEV_EXT4_NO_EXTENTS, LEFT_ZERO);
RANGE(xfs, BLKDEV_XFS, LEFT_ZERO);
RANGE(xfs_4k, BLKDEV_XFS_4K, LEFT_ZERO);

FIXTURE_SETUP(range)
{
	OPEN_DISK(&self->s.disk, variant->kind);
	self->s.before = baseline_take();
	ASSERT_EQ(0, ranges_open(&self->s, RANGE_FEATURES));
}

FIXTURE_TEARDOWN(range)
{
	ranges_close(&self->s);
	EXPECT_BASELINE(self->s.before);
}

TEST_F(range, discards_are_done_where_the_disk_can)
{
	struct ranges *s = &self->s;
	const unsigned int block = s->disk.block / 512;
	const struct vrange whole[] = {
		{ CHUNK, CHUNK, 0 }, { 4 * CHUNK, 2 * CHUNK, 0 },
		{ 3 * CHUNK, CHUNK, 0 }, { 8 * CHUNK, 0, 0 },
	};
	const struct vrange odd[] = {
		{ 9 * CHUNK + block, block, 0 }, { 10 * CHUNK - block, 2 * block, 0 },
		{ 11 * CHUNK + block, 2 * CHUNK, 0 },
	};
	struct vhost_blk_stats st;

	ASSERT_EQ(0, area_fill(s));
	ASSERT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_DISCARD, whole, 4));
	if (variant->left == LEFT_ZERO)
		area_zero(s, whole, 4);
	else if (variant->left == LEFT_EITHER)
		ASSERT_EQ(0, area_either(s, whole, 4));
	EXPECT_EQ(0, area_differs(s));
	/* What is no chunk of the disk may stay. */
	ASSERT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_DISCARD, odd, 3));
	ASSERT_EQ(0, area_either(s, odd, 3));
	EXPECT_EQ(0, area_differs(s));

	ASSERT_EQ(0, vdev_stats(&s->d, 0, &st));
	EXPECT_EQ(2, st.discards);
	EXPECT_EQ((6 * CHUNK + 3 * block) * 512, st.discard_bytes);
	EXPECT_EQ(0, st.errors + st.unsupported);
}

/* With or without the unmap flag, with and without a write cache. */
TEST_F(range, write_zeroes_leaves_zeroes_and_nothing_else)
{
	struct ranges *s = &self->s;
	const unsigned int block = s->disk.block / 512;
	struct vhost_blk_config c = { .flags = 0 };
	struct vhost_blk_stats st;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		uint32_t flags = i & 1 ? UNMAP : 0;
		const struct vrange range[] = {
			{ CHUNK, CHUNK, flags }, { 3 * CHUNK + block, block, flags },
			{ 4 * CHUNK - block, CHUNK + 3 * block, flags },
			{ 15 * CHUNK, CHUNK, flags }, { 0, block, flags },
		};

		if (i == 2)
			ASSERT_EQ(0, vdev_ioctl(&s->d, VHOST_BLK_SET_CONFIG, &c));
		ASSERT_EQ(0, area_fill(s));
		ASSERT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES, range,
					ARRAY_SIZE(range)));
		area_zero(s, range, ARRAY_SIZE(range));
		EXPECT_EQ(0, area_differs(s)) {
			TH_LOG("flags %u, configuration %u", flags, i / 2);
		}
	}
	ASSERT_EQ(0, vdev_stats(&s->d, 0, &st));
	EXPECT_EQ(4, st.write_zeroes);
	EXPECT_EQ(4 * (3 * CHUNK + 5 * block) * 512, st.write_zeroes_bytes);
	EXPECT_EQ(0, st.errors + st.unsupported + st.discards);
}

/* The page cache of the host is neither stale nor lost. */
TEST_F(range, buffered_readers_and_writers_on_the_host_are_heeded)
{
	static const uint32_t type[] = {
		VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_DISCARD,
	};
	struct ranges *s = &self->s;
	const struct vrange range = { CHUNK, 2 * CHUNK, 0 };
	int fd = open(s->disk.path, O_RDWR | O_CLOEXEC);
	unsigned int i;

	ASSERT_LE(0, fd);
	for (i = 0; i < ARRAY_SIZE(type); i++) {
		/* dirty in the cache, and not only where it is zeroed */
		prng_fill(&s->rnd, s->want, AREA);
		ASSERT_EQ(AREA, pwrite(fd, s->want, AREA, 0));
		ASSERT_EQ(0, blk_ranges(s->q, type[i], &range, 1));
		if (!i || variant->left == LEFT_ZERO)
			area_zero(s, &range, 1);
		else if (variant->left == LEFT_EITHER)
			ASSERT_EQ(0, area_either(s, &range, 1));
		ASSERT_EQ(AREA, pread(fd, s->got, AREA, 0));
		EXPECT_EQ(0, memcmp(s->want, s->got, AREA)) {
			TH_LOG("type %u", type[i]);
		}
		ASSERT_EQ(0, fsync(fd));
		EXPECT_EQ(0, area_differs(s));
	}
	close(fd);
}

TEST_F(range, secure_erase_is_not_promised_by_disks_that_cannot)
{
	struct ranges *s = &self->s;
	const struct vrange range = { CHUNK, CHUNK, 0 };

	ASSERT_EQ(0, area_fill(s));
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP,
		  blk_ranges(s->q, VIRTIO_BLK_T_SECURE_ERASE, &range, 1));
	EXPECT_EQ(0, area_differs(s));
}

/* Disks that say how much they have taken from what lies under them. */

FIXTURE(space) {
	struct ranges s;
};

FIXTURE_VARIANT(space) {
	enum blkdev_kind kind;
};

FIXTURE_VARIANT_ADD(space, dm_thin) { .kind = BLKDEV_THIN };
FIXTURE_VARIANT_ADD(space, loop) { .kind = BLKDEV_LOOP_FILE };
FIXTURE_VARIANT_ADD(space, ext4) { .kind = BLKDEV_EXT4 };
FIXTURE_VARIANT_ADD(space, ext4_4k) { .kind = BLKDEV_EXT4_4K };
FIXTURE_VARIANT_ADD(space, ext4_no_extents) { .kind = BLKDEV_EXT4_NO_EXTENTS };
FIXTURE_VARIANT_ADD(space, xfs) { .kind = BLKDEV_XFS };
FIXTURE_VARIANT_ADD(space, xfs_4k) { .kind = BLKDEV_XFS_4K };

FIXTURE_SETUP(space)
{
	OPEN_DISK(&self->s.disk, variant->kind);
	self->s.before = baseline_take();
	/* Files begin anew: a bitty one needs space for the list of its bits. */
	if (!ftruncate(self->s.disk.check, 0))
		ASSERT_EQ(0, ftruncate(self->s.disk.check, BLKDEV_SIZE));
	ASSERT_EQ(0, ranges_open(&self->s, RANGE_FEATURES));
	ASSERT_EQ(0, area_fill(&self->s));
	ASSERT_EQ(0, blk_flush(self->s.q));
}

FIXTURE_TEARDOWN(space)
{
	ranges_close(&self->s);
	EXPECT_BASELINE(self->s.before);
}

#define HALF	{ 0, AREA / 1024, 0 }

TEST_F(space, discards_give_it_back)
{
	struct ranges *s = &self->s;
	const struct vrange half = HALF;
	long long full = blkdev_allocated(&s->disk);

	ASSERT_LE(AREA, full);
	ASSERT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_DISCARD, &half, 1));
	EXPECT_EQ(full - AREA / 2, blkdev_allocated(&s->disk));
	area_zero(s, &half, 1);
	EXPECT_EQ(0, area_differs(s));
	/* and it can be had again */
	prng_fill(&s->rnd, s->want, AREA / 2);
	ASSERT_EQ(0, blk_write(s->q, 0, s->want, AREA / 2));
	EXPECT_EQ(0, area_differs(s));
	EXPECT_EQ(full, blkdev_allocated(&s->disk));
}

TEST_F(space, write_zeroes_gives_it_back_if_told_to_unmap)
{
	struct ranges *s = &self->s;
	struct vrange half = HALF;
	long long full = blkdev_allocated(&s->disk);

	ASSERT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES, &half, 1));
	EXPECT_EQ(full, blkdev_allocated(&s->disk));
	area_zero(s, &half, 1);
	EXPECT_EQ(0, area_differs(s));
	half.flags = UNMAP;
	ASSERT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES, &half, 1));
	/* It may unmap, but need not: dm-thin does not, and loop on tmpfs not always. */
	if (variant->kind == BLKDEV_LOOP_FILE)
		full = blkdev_allocated(&s->disk);
	else if (variant->kind != BLKDEV_THIN)
		full -= AREA / 2;
	EXPECT_EQ(full, blkdev_allocated(&s->disk));
	EXPECT_EQ(0, area_differs(s));
}

TEST_F(space, nothing_is_given_back_where_discards_are_to_be_ignored)
{
	struct ranges *s = &self->s;
	struct vhost_blk_config c = {
		.flags = VHOST_BLK_CONFIG_WRITEBACK | VHOST_BLK_CONFIG_IGNORE_DISCARD,
	};
	struct vrange half = HALF;
	long long full = blkdev_allocated(&s->disk);

	ASSERT_EQ(0, vdev_ioctl(&s->d, VHOST_BLK_SET_CONFIG, &c));
	ASSERT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_DISCARD, &half, 1));
	EXPECT_EQ(0, area_differs(s));
	half.flags = UNMAP;
	ASSERT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES, &half, 1));
	area_zero(s, &half, 1);
	EXPECT_EQ(0, area_differs(s));
	EXPECT_EQ(full, blkdev_allocated(&s->disk));
}

/*
 * Long ranges are worked on in parts. The disk discards whole blocks of it
 * alone: none of those may fall between two parts.
 */
TEST_F(space, long_discards_leave_no_block_behind)
{
	struct ranges *s = &self->s;
	const uint64_t bytes = 160ULL << 20, mid = 64ULL << 20;
	struct vrange range = { s->disk.block / 512, (bytes >> 9) - 2 * s->disk.block / 512, 0 };
	long long before, after;

	if (variant->kind == BLKDEV_THIN || variant->kind == BLKDEV_LOOP_FILE)
		SKIP(return, "this disk is not longer than a part");
	ASSERT_EQ(0, ftruncate(s->disk.check, bytes));
	before = blkdev_allocated(&s->disk);
	ASSERT_EQ(0, blkdev_poke(&s->disk, mid / 512, s->want, 65536));
	ASSERT_EQ(0, blkdev_poke(&s->disk, 2 * mid / 512, s->want, 65536));
	ASSERT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_DISCARD, &range, 1));
	after = blkdev_allocated(&s->disk);
	ASSERT_EQ(0, ftruncate(s->disk.check, BLKDEV_SIZE));
	/*
	 * The block that the range begins in stays, if it is larger than ours,
	 * and without extents one that says where it is.
	 */
	EXPECT_GE(variant->kind == BLKDEV_EXT4_NO_EXTENTS ? 8192 : 4096, after);
	EXPECT_LT(after, before);
}

/* What no guest should ask for. */

FIXTURE(bad_range) {
	struct ranges s;
};

FIXTURE_VARIANT(bad_range) {
	enum blkdev_kind kind;
};

FIXTURE_VARIANT_ADD(bad_range, null_blk) { .kind = BLKDEV_NULL_DISCARD };
FIXTURE_VARIANT_ADD(bad_range, null_blk_4k) { .kind = BLKDEV_NULL_4K_DISCARD };
FIXTURE_VARIANT_ADD(bad_range, partition) { .kind = BLKDEV_PART };
FIXTURE_VARIANT_ADD(bad_range, ext4) { .kind = BLKDEV_EXT4 };
FIXTURE_VARIANT_ADD(bad_range, xfs_4k) { .kind = BLKDEV_XFS_4K };

FIXTURE_SETUP(bad_range)
{
	OPEN_DISK(&self->s.disk, variant->kind);
	self->s.before = baseline_take();
	ASSERT_EQ(0, ranges_open(&self->s, RANGE_FEATURES));
	ASSERT_EQ(0, area_fill(&self->s));
}

FIXTURE_TEARDOWN(bad_range)
{
	ranges_close(&self->s);
	EXPECT_BASELINE(self->s.before);
}

static const uint32_t range_types[] = {
	VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
};

/* Each by itself, and behind a good one that must not be touched either. */
static void expect_refused(struct __test_metadata *_metadata, struct ranges *s,
			   uint32_t type, struct vrange bad, int status)
{
	struct vrange both[2] = { { CHUNK, CHUNK, 0 }, bad };

	EXPECT_EQ(status, blk_ranges(s->q, type, &both[1], 1)) {
		TH_LOG("type %u, sector %llu, %u sectors, flags %#x", type,
		       (unsigned long long)bad.sector, bad.num_sectors, bad.flags);
	}
	EXPECT_EQ(status, blk_ranges(s->q, type, both, 2));
	EXPECT_EQ(0, area_differs(s));
}

TEST_F(bad_range, beyond_the_end_is_an_error_and_changes_nothing)
{
	struct ranges *s = &self->s;
	const uint64_t end = s->disk.sectors;
	const unsigned int block = s->disk.block / 512;
	const struct vrange bad[] = {
		{ end, block, 0 }, { end - block, 2 * block, 0 }, { 0, end + block, 0 },
		{ 0, -block, 0 }, { 1ULL << 55, block, 0 }, { 1ULL << 63, block, 0 },
		{ -(uint64_t)block, block, 0 }, { -(uint64_t)block, 2 * block, 0 },
		{ ~0ULL, 1, 0 }, { ~0ULL, ~0U, 0 }, { end - block, ~0U, 0 },
	};
	unsigned int i, j;
	char last[4096], got[4096];

	prng_fill(&s->rnd, last, sizeof(last));
	ASSERT_EQ(0, blkdev_poke(&s->disk, end - 8, last, sizeof(last)));
	for (i = 0; i < ARRAY_SIZE(range_types); i++)
		for (j = 0; j < ARRAY_SIZE(bad); j++)
			expect_refused(_metadata, s, range_types[i], bad[j],
				       VIRTIO_BLK_S_IOERR);
	ASSERT_EQ(0, blkdev_peek(&s->disk, end - 8, got, sizeof(got)));
	EXPECT_EQ(0, memcmp(last, got, sizeof(got)));
}

TEST_F(bad_range, parts_of_a_block_are_an_error_and_change_nothing)
{
	struct ranges *s = &self->s;
	const unsigned int block = s->disk.block / 512;
	const struct vrange bad[] = {
		{ 1, block, 0 }, { block, 1, 0 }, { block, block + 1, 0 },
		{ block - 1, block, 0 },
	};
	unsigned int i, j;

	if (block == 1)
		SKIP(return, "every sector is a block");
	for (i = 0; i < ARRAY_SIZE(range_types); i++)
		for (j = 0; j < ARRAY_SIZE(bad); j++)
			expect_refused(_metadata, s, range_types[i], bad[j],
				       VIRTIO_BLK_S_IOERR);
}

TEST_F(bad_range, unknown_flags_are_unsupported)
{
	static const uint32_t bad[] = { 2, 3, 4, 0x80000000, 0xffffffff };
	struct ranges *s = &self->s;
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(range_types); i++)
		for (j = 0; j < ARRAY_SIZE(bad); j++)
			expect_refused(_metadata, s, range_types[i],
				       (struct vrange){ 0, CHUNK, bad[j] },
				       VIRTIO_BLK_S_UNSUPP);
	/* a discard unmaps anyway: the flag is not for it */
	expect_refused(_metadata, s, VIRTIO_BLK_T_DISCARD,
		       (struct vrange){ 0, CHUNK, UNMAP }, VIRTIO_BLK_S_UNSUPP);
}

TEST_F(bad_range, limits_of_the_configuration_hold)
{
	struct ranges *s = &self->s;
	struct vhost_blk_config c = {
		.flags = VHOST_BLK_CONFIG_WRITEBACK,
		.max_discard_sectors = 2 * CHUNK, .max_discard_seg = 3,
		.max_write_zeroes_sectors = CHUNK, .max_write_zeroes_seg = 2,
	};
	const struct vrange range[4] = {
		{ 0, 8, 0 }, { 16, 8, 0 }, { 32, 8, 0 }, { 48, 8, 0 },
	};

	ASSERT_EQ(0, vdev_ioctl(&s->d, VHOST_BLK_SET_CONFIG, &c));
	expect_refused(_metadata, s, VIRTIO_BLK_T_DISCARD,
		       (struct vrange){ 0, 2 * CHUNK + 8, 0 }, VIRTIO_BLK_S_IOERR);
	expect_refused(_metadata, s, VIRTIO_BLK_T_WRITE_ZEROES,
		       (struct vrange){ 0, CHUNK + 8, 0 }, VIRTIO_BLK_S_IOERR);
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP,
		  blk_ranges(s->q, VIRTIO_BLK_T_DISCARD, range, 4));
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP,
		  blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES, range, 3));
	EXPECT_EQ(0, area_differs(s));
	/* what is just allowed is done */
	EXPECT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_DISCARD, range, 3));
	EXPECT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES, range, 2));
	EXPECT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_DISCARD,
				&(struct vrange){ 0, 2 * CHUNK, 0 }, 1));
	EXPECT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES,
				&(struct vrange){ 0, CHUNK, 0 }, 1));
}

TEST_F(bad_range, more_ranges_than_the_module_takes_are_unsupported)
{
	struct ranges *s = &self->s;
	struct vrange range[257];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(range); i++)
		range[i] = (struct vrange){ (i % 128) * 8, 8, 0 };
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP,
		  blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES, range, 257));
	EXPECT_EQ(0, area_differs(s));
	EXPECT_EQ(0, blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES, range, 256));
	area_zero(s, range, 256);
	EXPECT_EQ(0, area_differs(s));
}

TEST_F(bad_range, no_range_or_half_a_one_is_an_error)
{
	static const uint32_t len[] = { 0, 1, 8, 15, 17, 24 };
	struct ranges *s = &self->s;
	struct vrange range[2] = { { 0, CHUNK, 0 }, { CHUNK, CHUNK, 0 } };
	unsigned int i, j;
	struct req r;

	for (i = 0; i < ARRAY_SIZE(range_types); i++) {
		for (j = 0; j < ARRAY_SIZE(len); j++) {
			req_init(&r, range_types[i], 0, len[j]);
			ASSERT_EQ(0, req_build(&s->d.mem, &r));
			req_put_data(&r, range);
			ASSERT_EQ(0, req_run(s->q, &r));
			EXPECT_EQ(VIRTIO_BLK_S_IOERR, r.status);
			EXPECT_EQ(1, r.used_len);
			req_free(&r);
		}
	}
	EXPECT_EQ(0, area_differs(s));
}

TEST_F(bad_range, what_was_not_negotiated_is_unsupported)
{
	struct ranges *s = &self->s;
	const struct vrange range = { 0, CHUNK, 0 };
	uint64_t features = DRIVER_FEATURES;

	ASSERT_EQ(0, vq_stop(s->q));
	ASSERT_EQ(0, vdev_ioctl(&s->d, VHOST_SET_FEATURES, &features));
	ASSERT_EQ(0, vq_start(s->q, s->disk.fd));
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP,
		  blk_ranges(s->q, VIRTIO_BLK_T_DISCARD, &range, 1));
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP,
		  blk_ranges(s->q, VIRTIO_BLK_T_WRITE_ZEROES, &range, 1));
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP,
		  blk_ranges(s->q, VIRTIO_BLK_T_SECURE_ERASE, &range, 1));
	EXPECT_EQ(0, area_differs(s));
}

TEST_F(bad_range, a_read_only_disk_keeps_its_data)
{
	struct ranges *s = &self->s;
	int fd = open(s->disk.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	unsigned int i;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vq_stop(s->q));
	ASSERT_EQ(0, vq_start(s->q, fd));
	close(fd);
	for (i = 0; i < ARRAY_SIZE(range_types); i++)
		expect_refused(_metadata, s, range_types[i],
			       (struct vrange){ 0, CHUNK, 0 }, VIRTIO_BLK_S_IOERR);
}

SUITE_MAIN
