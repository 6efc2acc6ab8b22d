// SPDX-License-Identifier: GPL-2.0
/*
 * A volume of a pool that has no more space: dm-thin then fails what needs some,
 * and serves the rest.
 */
#include <errno.h>
#include <unistd.h>

#include "suite.h"

#define CHUNK		BLKDEV_POOL_BLOCK
#define CHUNK_SECTORS	(CHUNK / 512)
#define CHUNKS		(BLKDEV_POOL / CHUNK)	/* that the pool can give out */
#define AT_ONCE		32

FIXTURE(full_pool) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct prng rnd;
	char *data;		/* of the chunks that were written, @have */
	char *buf;
	unsigned int have;
	struct baseline before;
};

/* Write chunk @n; what it held in self->data. */
static int write_chunk(FIXTURE_DATA(full_pool) *self, unsigned int n)
{
	prng_fill(&self->rnd, self->buf, CHUNK);
	return blk_write(self->q, n * CHUNK_SECTORS, self->buf, CHUNK);
}

/* Chunks are written until one fails; CHUNK by CHUNK, so nothing is half there. */
FIXTURE_SETUP(full_pool)
{
	const uint64_t features = DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_DISCARD);

	blkdev_remove_pool();
	OPEN_DISK(&self->disk, BLKDEV_THIN_SMALL);
	self->before = baseline_take();
	prng_init(&self->rnd, 0);
	self->data = malloc(2 * BLKDEV_POOL);
	self->buf = malloc(CHUNK);
	ASSERT_TRUE(self->data && self->buf);
	ASSERT_EQ(0, vdev_open(&self->d, features, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, 256, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	while (self->have <= CHUNKS && !write_chunk(self, self->have))
		memcpy(self->data + CHUNK * self->have++, self->buf, CHUNK);
	ASSERT_EQ(CHUNKS, self->have);
}

FIXTURE_TEARDOWN(full_pool)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	blkdev_remove_pool();
	free(self->data);
	free(self->buf);
	EXPECT_BASELINE(self->before);
}

/* All that was written is there, and nothing behind it but zeroes. */
static bool content_right(FIXTURE_DATA(full_pool) *self)
{
	unsigned int i;

	for (i = 0; i < self->have + 4; i++) {
		const char *want = self->data + i * CHUNK;

		if (blk_read(self->q, i * CHUNK_SECTORS, self->buf, CHUNK))
			return false;
		if (i < self->have ? memcmp(want, self->buf, CHUNK) :
		    !mem_is((void *)self->buf, 0, CHUNK))
			return false;
	}
	return true;
}

TEST_F(full_pool, what_needs_space_fails_and_all_else_goes_on)
{
	struct vhost_blk_stats before, after;
	unsigned int i;

	ASSERT_EQ(0, vdev_stats(&self->d, 0, &before));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(VIRTIO_BLK_S_IOERR, write_chunk(self, self->have + i));
		/* there already */
		EXPECT_EQ(0, write_chunk(self, i));
		memcpy(self->data + i * CHUNK, self->buf, CHUNK);
		EXPECT_EQ(0, blk_flush(self->q));
	}
	EXPECT_TRUE(content_right(self));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &after));
	EXPECT_EQ(3, after.errors - before.errors);
	EXPECT_EQ(3, after.writes - before.writes);
}

/* In one batch, good and bad in turn: each gets the answer that it is due. */
TEST_F(full_pool, among_many_only_those_fail_that_need_space)
{
	struct req req[AT_ONCE];
	unsigned int i, n;

	for (i = 0; i < AT_ONCE; i++) {
		n = i & 1 ? self->have + i : i;
		prng_fill(&self->rnd, self->buf, CHUNK);
		req_init(&req[i], VIRTIO_BLK_T_OUT, n * CHUNK_SECTORS, CHUNK);
		ASSERT_EQ(0, req_build(&self->d.mem, &req[i]));
		req_put_data(&req[i], self->buf);
		if (!(i & 1))
			memcpy(self->data + n * CHUNK, self->buf, CHUNK);
		ASSERT_LE(0, req_add(self->q, &req[i]));
	}
	vq_kick(self->q);
	ASSERT_EQ(0, req_wait_n(self->q, AT_ONCE, REQ_TIMEOUT_MS));
	for (i = 0; i < AT_ONCE; i++) {
		EXPECT_EQ(i & 1 ? VIRTIO_BLK_S_IOERR : 0, req[i].status);
		req_free(&req[i]);
	}
	EXPECT_TRUE(content_right(self));
}

TEST_F(full_pool, when_it_has_grown_the_disk_goes_on)
{
	unsigned int i;

	EXPECT_EQ(VIRTIO_BLK_S_IOERR, write_chunk(self, self->have));
	ASSERT_EQ(0, blkdev_extend_pool());
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, write_chunk(self, self->have));
		memcpy(self->data + CHUNK * self->have++, self->buf, CHUNK);
	}
	EXPECT_TRUE(content_right(self));
}

/*
 * What is given back can be given out again when the pool has noted it: with a
 * later discard, if the pool was just writing its notes down.
 */
TEST_F(full_pool, when_something_was_discarded_the_disk_goes_on)
{
	struct virtio_blk_discard_write_zeroes last = {
		.num_sectors = CHUNK_SECTORS,
	};
	unsigned int next = self->have, tries = 0;
	int r;

	do {
		last.sector = --self->have * CHUNK_SECTORS;
		ASSERT_EQ(0, blk_ranges(self->q, VIRTIO_BLK_T_DISCARD, &last, 1));
		ASSERT_EQ(0, blk_flush(self->q));
		r = write_chunk(self, next);
	} while (r && ++tries < 4);
	ASSERT_EQ(0, r);
	EXPECT_EQ(0, blk_read(self->q, next * CHUNK_SECTORS, self->data, CHUNK));
	EXPECT_EQ(0, memcmp(self->data, self->buf, CHUNK));
}

SUITE_MAIN
