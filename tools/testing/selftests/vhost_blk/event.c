// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that change: longer, shorter, failing. What the guest sees, and what the
 * event eventfd tells.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "suite.h"

#define RING_SIZE	64
#define MB		2048	/* sectors */

struct events {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct prng rnd;
	int fd;
	char want[65536], got[65536];
	struct baseline before;
};

static int events_open(struct events *s)
{
	int r;

	prng_init(&s->rnd, s->disk.kind);
	s->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	r = vdev_open(&s->d, DRIVER_FEATURES, MEM_SIZE);
	if (!r)
		r = vdev_ioctl(&s->d, VHOST_BLK_SET_EVENT, &s->fd);
	if (!r)
		r = vq_setup(&s->d, 0, RING_SIZE, &s->q);
	return r ? r : vq_start(s->q, s->disk.fd);
}

static void events_close(struct events *s)
{
	vdev_close(&s->d);
	blkdev_close(&s->disk);
	close(s->fd);
}

static uint64_t capacity(const struct events *s)
{
	struct vhost_blk_limits lim = { .fd = s->disk.fd };

	return vdev_ioctl(&s->d, VHOST_BLK_GET_LIMITS, &lim) ? 0 : lim.capacity;
}

FIXTURE(resize) {
	struct events s;
};

FIXTURE_VARIANT(resize) {
	enum blkdev_kind kind;
};

FIXTURE_VARIANT_ADD(resize, dm_linear) { .kind = BLKDEV_LINEAR };
FIXTURE_VARIANT_ADD(resize, loop) { .kind = BLKDEV_LOOP_FILE };
FIXTURE_VARIANT_ADD(resize, ext4) { .kind = BLKDEV_EXT4 };
FIXTURE_VARIANT_ADD(resize, xfs) { .kind = BLKDEV_XFS };

FIXTURE_SETUP(resize)
{
	OPEN_DISK(&self->s.disk, variant->kind);
	self->s.before = baseline_take();
	ASSERT_EQ(0, blkdev_resize(&self->s.disk, 32 * MB));
	ASSERT_EQ(0, events_open(&self->s));
}

FIXTURE_TEARDOWN(resize)
{
	EXPECT_EQ(0, blkdev_resize(&self->s.disk, BLKDEV_SIZE / 512));
	events_close(&self->s);
	EXPECT_BASELINE(self->s.before);
}

TEST_F(resize, a_longer_disk_is_seen_at_the_next_request)
{
	struct events *s = &self->s;

	EXPECT_EQ(VIRTIO_BLK_S_IOERR, blk_read(s->q, 32 * MB, s->got, 4096));
	EXPECT_EQ(1, eventfd_take(s->fd));	/* for the error */
	EXPECT_EQ(0, blk_read(s->q, 32 * MB - 8, s->got, 4096));
	EXPECT_EQ(0, eventfd_take(s->fd));
	ASSERT_EQ(0, blkdev_resize(&s->disk, 48 * MB));
	EXPECT_EQ(48 * MB, capacity(s));
	/* an idle disk says nothing, the first request does, and only that */
	EXPECT_EQ(0, eventfd_take(s->fd));
	EXPECT_EQ(0, blk_read(s->q, 0, s->got, 4096));
	EXPECT_EQ(1, eventfd_take(s->fd));
	prng_fill(&s->rnd, s->want, 4096);
	EXPECT_EQ(0, blk_write(s->q, 48 * MB - 8, s->want, 4096));
	EXPECT_EQ(0, eventfd_take(s->fd));
	ASSERT_EQ(0, blkdev_peek(&s->disk, 48 * MB - 8, s->got, 4096));
	EXPECT_EQ(0, memcmp(s->want, s->got, 4096));
}

TEST_F(resize, beyond_the_end_of_a_shorter_disk_fails_and_the_rest_goes_on)
{
	static const uint64_t sector[] = {
		0, 24 * MB - 8, 16 * MB, 16 * MB - 8, 8 * MB, 31 * MB, 16 * MB - 4,
	};
	struct events *s = &self->s;
	struct req r[2 * ARRAY_SIZE(sector)];
	unsigned int i;

	ASSERT_EQ(0, blkdev_resize(&s->disk, 16 * MB));
	EXPECT_EQ(16 * MB, capacity(s));
	EXPECT_EQ(0, eventfd_take(s->fd));
	prng_fill(&s->rnd, s->want, 4096);
	for (i = 0; i < ARRAY_SIZE(r); i++) {
		req_init(&r[i], i & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
			 sector[i / 2], 4096);
		ASSERT_EQ(0, req_build(&s->d.mem, &r[i]));
		if (i & 1)
			req_put_data(&r[i], s->want);
		ASSERT_LE(0, req_add(s->q, &r[i]));
	}
	vq_kick(s->q);
	ASSERT_EQ(0, req_wait_n(s->q, ARRAY_SIZE(r), REQ_TIMEOUT_MS));
	for (i = 0; i < ARRAY_SIZE(r); i++) {
		bool beyond = r[i].sector + 8 > 16 * MB;

		EXPECT_EQ(beyond ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK,
			  r[i].status) {
			TH_LOG("sector %llu", (unsigned long long)r[i].sector);
		}
		req_free(&r[i]);
	}
	/* once for the size, and for each of the errors */
	EXPECT_EQ(1 + 8, eventfd_take(s->fd));
	/* nothing was made longer again by a write behind the end */
	EXPECT_EQ(16 * MB, capacity(s));
	for (i = 0; i < ARRAY_SIZE(sector); i++) {
		if (sector[i] + 8 > 16 * MB)
			continue;
		ASSERT_EQ(0, blkdev_peek(&s->disk, sector[i], s->got, 4096));
		EXPECT_EQ(0, memcmp(s->want, s->got, 4096));
	}
}

/* Back and forth under load: each request succeeds or fails, and comes back. */
TEST_F(resize, no_request_is_lost_while_the_size_changes)
{
	struct events *s = &self->s;
	const unsigned int depth = 16;
	struct req r[16], *got;
	unsigned int i, n = 0, posted = 0, bad = 0, total = 100 + test_scale(500);
	unsigned int next = 50;
	int err;

	for (i = 0; i < depth; i++) {
		req_init(&r[i], i & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 0, 4096);
		ASSERT_EQ(0, req_build(&s->d.mem, &r[i]));
		r[i].sector = prng_below(&s->rnd, 32 * MB / 8) * 8;
		ASSERT_LE(0, req_add(s->q, &r[i]));
		posted++;
	}
	vq_kick(s->q);
	while (n < posted) {
		if (n >= next && posted < total) {
			ASSERT_EQ(0, blkdev_resize(&s->disk,
						   (next % 100 ? 16 : 32) * MB));
			next += 50;
		}
		ASSERT_EQ(0, vq_wait(s->q, REQ_TIMEOUT_MS));
		while ((got = req_reap(s->q, &err))) {
			n++;
			if (got->status) {
				ASSERT_EQ(VIRTIO_BLK_S_IOERR, got->status);
				ASSERT_LT(16 * MB, got->sector + 8);
				bad++;
			}
			if (posted >= total)
				continue;
			got->sector = prng_below(&s->rnd, 32 * MB / 8) * 8;
			ASSERT_LE(0, req_add(s->q, got));
			posted++;
		}
		ASSERT_EQ(0, err);
		vq_kick(s->q);
	}
	EXPECT_LT(0, bad);
	for (i = 0; i < depth; i++)
		req_free(&r[i]);
	EXPECT_EQ(0, blk_read(s->q, 0, s->got, 4096));
}

TEST(an_error_of_the_disk_is_told)
{
	struct events s = { 0 };
	int none = -1;

	OPEN_DISK(&s.disk, BLKDEV_BAD);
	ASSERT_EQ(0, events_open(&s));
	EXPECT_EQ(0, blk_read(s.q, 0, s.got, 4096));
	EXPECT_EQ(0, blk_flush(s.q));
	EXPECT_EQ(0, eventfd_take(s.fd));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR,
		  blk_read(s.q, BLKDEV_BAD_SECTOR, s.got, 4096));
	EXPECT_EQ(1, eventfd_take(s.fd));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR,
		  blk_write(s.q, BLKDEV_BAD_SECTOR, s.want, 4096));
	EXPECT_EQ(1, eventfd_take(s.fd));
	/* a guest that asks for nonsense has no broken disk */
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP, blk_ranges(s.q, 99, NULL, 0));
	EXPECT_EQ(0, eventfd_take(s.fd));
	ASSERT_EQ(0, vdev_ioctl(&s.d, VHOST_BLK_SET_EVENT, &none));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR,
		  blk_read(s.q, BLKDEV_BAD_SECTOR, s.got, 4096));
	EXPECT_EQ(0, eventfd_take(s.fd));
	events_close(&s);
}

SUITE_MAIN
