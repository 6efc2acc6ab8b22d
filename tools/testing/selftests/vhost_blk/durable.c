// SPDX-License-Identifier: GPL-2.0
/*
 * What survives a loss of power.
 *
 * The disk is a null_blk with a volatile write cache: a written sector lies in
 * the cache, apart from the disk's own memory, until it is flushed or was
 * written with FUA. Switching the disk off (power=0) throws the cache away and
 * keeps the memory; switched on again it has what a real disk has after its
 * power was cut: what had been made stable, and nothing else. That it does
 * forget is itself tested, so that a pass cannot come from a disk which keeps
 * everything. For image files the whole stack is cut: the filesystem lies on such
 * a disk, loses it while it is mounted, and recovers from what is left.
 *
 * null_blk uses its cache only for pages that its memory does not have yet:
 * what is overwritten is stable at once. So all data go where nothing is; the
 * disk has been discarded, or the file is one hole over discarded blocks. Zeroes
 * cannot be lost where nothing is: for them the number of flushes is the proof
 * on a bare disk, and on a file the filesystem's own memory, which forgets that
 * blocks were zeroed as long as nobody syncs.
 *
 * Whether FUA was used or a flush, the disk's own count of flushes says.
 */
#include <errno.h>
#include <unistd.h>

#include "suite.h"

#define FEATURES	(DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_WRITE_ZEROES))
#define NEITHER		(FEATURES & ~BIT64(VIRTIO_BLK_F_FLUSH))
#define PIECE		65536u
#define PIECES		6u
#define STEP		1024u	/* sectors from one piece to the next */
#define RING_SIZE	64

FIXTURE(durable) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct prng rnd;
	char *new, *got;	/* all PIECES, and one */
	struct baseline before;
	bool attached;
};

FIXTURE_VARIANT(durable) {
	enum blkdev_kind kind;
	bool fua, file;
};

FIXTURE_VARIANT_ADD(durable, null_blk) { .kind = BLKDEV_NULL_CACHE, .fua = true };
FIXTURE_VARIANT_ADD(durable, null_blk_without_fua) { .kind = BLKDEV_NULL_NO_FUA };
FIXTURE_VARIANT_ADD(durable, ext4) { .kind = BLKDEV_EXT4_CACHE, .file = true };
FIXTURE_VARIANT_ADD(durable, xfs) { .kind = BLKDEV_XFS_CACHE, .file = true };

FIXTURE_SETUP(durable)
{
	OPEN_DISK(&self->disk, variant->kind);
	self->before = baseline_take();
	prng_init(&self->rnd, variant->kind);
	self->new = malloc(PIECES * PIECE);
	self->got = malloc(PIECE);
	ASSERT_NE(NULL, self->new);
	ASSERT_NE(NULL, self->got);
	prng_fill(&self->rnd, self->new, PIECES * PIECE);
	ASSERT_EQ(0, blkdev_empty(&self->disk)) {
		TH_LOG("%s", blkdev_why());
	}
}

FIXTURE_TEARDOWN(durable)
{
	if (self->attached)
		vdev_close(&self->d);
	blkdev_close(&self->disk);
	free(self->new);
	free(self->got);
	EXPECT_BASELINE(self->before);
}

static void attach(struct __test_metadata *_metadata,
		   FIXTURE_DATA(durable) *self, uint64_t features, uint32_t flags)
{
	struct vhost_blk_config c = { .flags = flags };

	ASSERT_EQ(0, vdev_open(&self->d, features, MEM_SIZE));
	self->attached = true;
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

static void cut(struct __test_metadata *_metadata, FIXTURE_DATA(durable) *self)
{
	vdev_close(&self->d);
	self->attached = false;
	ASSERT_EQ(0, blkdev_power_cut(&self->disk)) {
		TH_LOG("%s", blkdev_why());
	}
}

/* The last piece from a buffer that has to be bounced. */
static void write_pieces(struct __test_metadata *_metadata,
			 FIXTURE_DATA(durable) *self)
{
	struct req_layout l = { .name = "odd", .offset = 3, .data_chunk = 5000 };
	unsigned int i;
	struct req r;

	for (i = 0; i < PIECES - 1; i++)
		ASSERT_EQ(0, blk_write(self->q, i * STEP, self->new + i * PIECE, PIECE));
	req_init(&r, VIRTIO_BLK_T_OUT, i * STEP, PIECE);
	r.layout = &l;
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	req_put_data(&r, self->new + i * PIECE);
	ASSERT_EQ(0, req_run(self->q, &r));
	ASSERT_EQ(VIRTIO_BLK_S_OK, r.status);
	req_free(&r);
}

/* How many of the pieces are as in @data. */
static unsigned int pieces_of(FIXTURE_DATA(durable) *self, const char *data)
{
	unsigned int i, n = 0;

	for (i = 0; i < PIECES; i++)
		n += !blkdev_peek(&self->disk, i * STEP, self->got, PIECE) &&
		     !memcmp(self->got, data + i * PIECE, PIECE);
	return n;
}

TEST_F(durable, what_was_not_flushed_may_be_lost)
{
	unsigned int i, lost = 0;

	/* A filesystem may flush for reasons of its own, but not each time. */
	for (i = 0; i < 4 && !lost; i++) {
		ASSERT_EQ(0, blkdev_empty(&self->disk));
		attach(_metadata, self, FEATURES, VHOST_BLK_CONFIG_WRITEBACK);
		write_pieces(_metadata, self);
		cut(_metadata, self);
		lost = PIECES - pieces_of(self, self->new);
	}
	EXPECT_LT(0, lost);
}

TEST_F(durable, what_was_used_before_a_flush_survives)
{
	long long flushes;

	attach(_metadata, self, FEATURES, VHOST_BLK_CONFIG_WRITEBACK);
	flushes = blkdev_flushes(&self->disk);
	write_pieces(_metadata, self);
	if (!variant->file)
		EXPECT_EQ(flushes, blkdev_flushes(&self->disk));
	ASSERT_EQ(0, blk_flush(self->q));
	EXPECT_LE(flushes + 1, blkdev_flushes(&self->disk));
	if (!variant->file)
		EXPECT_EQ(flushes + 1, blkdev_flushes(&self->disk));
	cut(_metadata, self);
	EXPECT_EQ(PIECES, pieces_of(self, self->new));
}

/* @each: flushes that a write costs, if the disk is no file. */
static void survives_at_once(struct __test_metadata *_metadata,
			     FIXTURE_DATA(durable) *self, bool file,
			     unsigned int each)
{
	long long flushes = blkdev_flushes(&self->disk);

	write_pieces(_metadata, self);
	if (!file)
		EXPECT_EQ(flushes + each * PIECES, blkdev_flushes(&self->disk));
	cut(_metadata, self);
	EXPECT_EQ(PIECES, pieces_of(self, self->new));
}

TEST_F(durable, without_a_write_cache_writes_survive_at_once)
{
	attach(_metadata, self, FEATURES, 0);
	survives_at_once(_metadata, self, variant->file, !variant->fua);
}

TEST_F(durable, if_the_guest_cannot_flush_writes_survive_at_once)
{
	attach(_metadata, self, NEITHER, VHOST_BLK_CONFIG_WRITEBACK);
	survives_at_once(_metadata, self, variant->file, !variant->fua);
}

/* The guest may switch its cache off while the disk is in use. */
TEST_F(durable, writes_survive_at_once_as_soon_as_the_cache_is_off)
{
	struct vhost_blk_config c = { .flags = 0 };

	attach(_metadata, self, FEATURES, VHOST_BLK_CONFIG_WRITEBACK);
	ASSERT_EQ(0, blk_write(self->q, PIECES * STEP, self->new, PIECE));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
	survives_at_once(_metadata, self, variant->file, !variant->fua);
}

/* Stable data, to be zeroed. */
static void fill(struct __test_metadata *_metadata, FIXTURE_DATA(durable) *self)
{
	unsigned int i;

	for (i = 0; i < PIECES; i++)
		ASSERT_EQ(0, blkdev_poke(&self->disk, i * STEP,
					 self->new + i * PIECE, PIECE));
	ASSERT_EQ(0, fsync(self->disk.check));
}

TEST_F(durable, zeroes_survive_at_once_without_a_write_cache)
{
	struct virtio_blk_discard_write_zeroes range[PIECES];
	long long flushes;
	unsigned int i;

	fill(_metadata, self);
	attach(_metadata, self, FEATURES, 0);
	flushes = blkdev_flushes(&self->disk);
	for (i = 0; i < PIECES; i++) {
		range[i].sector = i * STEP;
		range[i].num_sectors = PIECE / 512;
		range[i].flags = i & 1 ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	}
	ASSERT_EQ(0, blk_ranges(self->q, VIRTIO_BLK_T_WRITE_ZEROES, range, PIECES));
	if (!variant->file)
		EXPECT_EQ(flushes + 1, blkdev_flushes(&self->disk));
	cut(_metadata, self);
	memset(self->new, 0, PIECES * PIECE);
	EXPECT_EQ(PIECES, pieces_of(self, self->new));
}

TEST_F(durable, zeroes_survive_a_flush)
{
	struct virtio_blk_discard_write_zeroes range = { 0, PIECES * STEP, 0 };

	fill(_metadata, self);
	attach(_metadata, self, FEATURES, VHOST_BLK_CONFIG_WRITEBACK);
	ASSERT_EQ(0, blk_ranges(self->q, VIRTIO_BLK_T_WRITE_ZEROES, &range, 1));
	ASSERT_EQ(0, blk_flush(self->q));
	cut(_metadata, self);
	memset(self->new, 0, PIECES * PIECE);
	EXPECT_EQ(PIECES, pieces_of(self, self->new));
}

SUITE_MAIN
