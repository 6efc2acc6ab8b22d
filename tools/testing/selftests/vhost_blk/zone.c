// SPDX-License-Identifier: GPL-2.0
/*
 * Zoned disks: what each command does to a zone, as the host sees it, and what
 * becomes of those that cannot be carried out.
 */
#include <linux/blkzoned.h>

#include "suite.h"
#include "zoned.h"

#define RING_SIZE	256
#define MAX_DATA	(4U << 20)
#define CONV_ZONES	4	/* of BLKDEV_ZONED_CONV */
#define UNWRITTEN	0xff	/* what null_blk gives behind a write pointer */

FIXTURE(zone) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct prng rnd;
	size_t mem_used;	/* guest memory before the test's own */
	char *want, *got;	/* MAX_DATA each */
	unsigned int first;	/* sequential zone */
	struct zones was;	/* the zones when the test began */
	struct baseline before;
};

FIXTURE_VARIANT(zone) {
	enum blkdev_kind kind;
	unsigned int poll_us;
};

FIXTURE_VARIANT_ADD(zone, seq) { .kind = BLKDEV_ZONED };
FIXTURE_VARIANT_ADD(zone, conv) { .kind = BLKDEV_ZONED_CONV };
FIXTURE_VARIANT_ADD(zone, conv_polled) { BLKDEV_ZONED_CONV, .poll_us = 50 };
FIXTURE_VARIANT_ADD(zone, block_4k) { .kind = BLKDEV_ZONED_4K };
FIXTURE_VARIANT_ADD(zone, emulated) { .kind = BLKDEV_ZONED_EMULATED };

FIXTURE_SETUP(zone)
{
	OPEN_DISK(&self->disk, variant->kind);
	self->before = baseline_take();
	ASSERT_EQ(0, host_reset(&self->disk));
	prng_init(&self->rnd, variant->kind);
	self->want = malloc(MAX_DATA);
	self->got = malloc(MAX_DATA);
	ASSERT_NE(NULL, self->want);
	ASSERT_NE(NULL, self->got);
	self->first = variant->kind == BLKDEV_ZONED_CONV ? CONV_ZONES : 0;
	ASSERT_EQ(0, host_report(&self->disk, &self->was));
	ASSERT_EQ(MAX_ZONES, self->was.nr);
	ASSERT_EQ(0, vdev_open(&self->d, ZONED_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vdev_set_poll(&self->d, VHOST_BLK_ALL_RINGS,
				   variant->poll_us));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	self->mem_used = self->d.mem.used;
}

FIXTURE_TEARDOWN(zone)
{
	vdev_close(&self->d);
	EXPECT_EQ(0, host_reset(&self->disk));
	blkdev_close(&self->disk);
	free(self->want);
	free(self->got);
	EXPECT_BASELINE(self->before);
}

#define REPORT_SIZE(n)	((n) * 64 + 64)

/* A descriptor says what the host says. */
#define EXPECT_DESC(desc, zone) do {					\
	const struct virtio_blk_zone_descriptor *_d = (desc);		\
	const struct blk_zone *_z = (zone);				\
	EXPECT_EQ(_z->start, _d->z_start);				\
	EXPECT_EQ(_z->capacity, _d->z_cap);				\
	EXPECT_EQ(_z->wp, _d->z_wp);					\
	EXPECT_EQ(_z->type, _d->z_type);				\
	EXPECT_EQ(_z->cond, _d->z_state);				\
	EXPECT_TRUE(mem_is(_d->reserved, 0, sizeof(_d->reserved)));	\
} while (0)

/* Condition and write pointer (from its start) of a zone, for the host. */
#define EXPECT_ZONE(nr, condition, offset) do {				\
	struct zones _host;						\
	ASSERT_EQ(0, host_report(&self->disk, &_host));			\
	EXPECT_EQ(condition, _host.z[nr].cond);				\
	EXPECT_EQ(offset, _host.z[nr].wp - _host.z[nr].start);		\
} while (0)

/* Bring the sequential zones into as many conditions as there are. */
static int mixed_zones(const struct blkdev *b, const struct zones *was,
		       unsigned int first)
{
	const struct blk_zone *z = was->z + first;
	char buf[4096] = {};

	return blkdev_poke(b, z[0].start, buf, sizeof(buf)) ?:
	       host_zone(b, BLKOPENZONE, &z[1]) ?:
	       blkdev_poke(b, z[2].start, buf, sizeof(buf)) ?:
	       host_zone(b, BLKCLOSEZONE, &z[2]) ?:
	       host_zone(b, BLKFINISHZONE, &z[3]) ?:
	       blkdev_configure(b, "zone_readonly", z[4].start) ?:
	       blkdev_configure(b, "zone_offline", z[5].start);
}

TEST_F(zone, a_report_says_what_the_host_says)
{
	static const struct req_layout small = { .name = "small", .data_chunk = 37 };
	static const struct req_layout *const layout[] = {
		&layout_plain, &layout_indirect, &small,
	};
	char buf[REPORT_SIZE(MAX_ZONES + 2)];
	struct virtio_blk_zone_report *rep = (void *)buf;
	unsigned int i, seen = 0;
	struct zones zones;
	uint32_t used, j;

	ASSERT_EQ(0, mixed_zones(&self->disk, &self->was, self->first));
	ASSERT_EQ(0, host_report(&self->disk, &zones));
	for (i = 0; i < zones.nr; i++)
		seen |= 1U << zones.z[i].cond;
	EXPECT_EQ(7, __builtin_popcount(seen & ~1U));
	EXPECT_EQ(!!self->first, seen & 1);

	for (i = 0; i < ARRAY_SIZE(layout); i++) {
		ASSERT_EQ(0, zone_report(self->q, 0, buf, sizeof(buf), layout[i],
					 &used));
		EXPECT_EQ(REPORT_SIZE(zones.nr), used);
		EXPECT_EQ(zones.nr, rep->nr_zones);
		EXPECT_TRUE(mem_is(rep->reserved, 0, sizeof(rep->reserved)));
		for (j = 0; j < zones.nr; j++)
			EXPECT_DESC(&rep->zones[j], &zones.z[j]);
		EXPECT_TRUE(mem_is(buf + used, REQ_POISON, sizeof(buf) - used));
	}
	EXPECT_UNCHANGED(zones);
}

TEST_F(zone, a_report_may_be_of_a_part)
{
	char buf[REPORT_SIZE(3) + 63];
	struct virtio_blk_zone_report *rep = (void *)buf;
	unsigned int i, j, n, from, room;
	struct zones zones;
	uint32_t used;

	ASSERT_EQ(0, mixed_zones(&self->disk, &self->was, self->first));
	ASSERT_EQ(0, host_report(&self->disk, &zones));
	for (i = 0; i < 2 * zones.nr; i++) {
		/* from the first sector of a zone, or from its last */
		from = i / 2;
		for (room = 0; room <= 3; room++) {
			n = room < zones.nr - from ? room : zones.nr - from;
			/* what has no room whole is left out */
			ASSERT_EQ(0, zone_report(self->q,
						 zones.z[from].start +
						 (i % 2 ? zones.z[from].len - 1 : 0),
						 buf, REPORT_SIZE(room) + 63,
						 &layout_plain, &used));
			EXPECT_EQ(REPORT_SIZE(n), used);
			EXPECT_EQ(n, rep->nr_zones);
			for (j = 0; j < n; j++)
				EXPECT_DESC(&rep->zones[j], &zones.z[from + j]);
			EXPECT_TRUE(mem_is(buf + used, REQ_POISON,
					   REPORT_SIZE(room) + 63 - used));
		}
	}
}

TEST_F(zone, a_report_of_nothing_is_invalid)
{
	const uint64_t beyond[] = {
		self->disk.sectors, self->disk.sectors + 1, 1ULL << 63, ~0ULL,
	};
	char buf[REPORT_SIZE(1)];
	unsigned int i;
	uint32_t used;

	for (i = 0; i < ARRAY_SIZE(beyond); i++) {
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
			  zone_report(self->q, beyond[i], buf, sizeof(buf),
				      &layout_plain, &used));
		EXPECT_EQ(0, used);
		EXPECT_TRUE(mem_is(buf, REQ_POISON, sizeof(buf)));
	}
	for (i = 0; i < 64; i += 21) {
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
			  zone_report(self->q, 0, buf, i, &layout_plain, &used));
		EXPECT_EQ(0, used);
		EXPECT_TRUE(mem_is(buf, REQ_POISON, i));
	}
	EXPECT_EQ(0, zone_report(self->q, 0, buf, sizeof(buf), &layout_plain,
				 &used));
}

TEST_F(zone, commands_change_their_zone_alone)
{
	const struct {
		uint32_t type;
		uint8_t cond;
		uint32_t wp;	/* 1: the end */
	} step[] = {
		{ VIRTIO_BLK_T_ZONE_RESET, BLK_ZONE_COND_EMPTY, 0 },
		{ VIRTIO_BLK_T_ZONE_OPEN, BLK_ZONE_COND_EXP_OPEN, 0 },
		{ VIRTIO_BLK_T_ZONE_OPEN, BLK_ZONE_COND_EXP_OPEN, 0 },
		{ VIRTIO_BLK_T_ZONE_CLOSE, BLK_ZONE_COND_EMPTY, 0 },
		{ VIRTIO_BLK_T_OUT, BLK_ZONE_COND_IMP_OPEN, 8 },
		{ VIRTIO_BLK_T_ZONE_CLOSE, BLK_ZONE_COND_CLOSED, 8 },
		{ VIRTIO_BLK_T_ZONE_CLOSE, BLK_ZONE_COND_CLOSED, 8 },
		{ VIRTIO_BLK_T_OUT, BLK_ZONE_COND_IMP_OPEN, 16 },
		{ VIRTIO_BLK_T_ZONE_OPEN, BLK_ZONE_COND_EXP_OPEN, 16 },
		{ VIRTIO_BLK_T_ZONE_FINISH, BLK_ZONE_COND_FULL, 1 },
		{ VIRTIO_BLK_T_ZONE_FINISH, BLK_ZONE_COND_FULL, 1 },
		{ VIRTIO_BLK_T_ZONE_RESET, BLK_ZONE_COND_EMPTY, 0 },
		{ VIRTIO_BLK_T_OUT, BLK_ZONE_COND_IMP_OPEN, 8 },
		{ VIRTIO_BLK_T_ZONE_RESET, BLK_ZONE_COND_EMPTY, 0 },
		{ VIRTIO_BLK_T_ZONE_FINISH, BLK_ZONE_COND_FULL, 1 },
	};
	const unsigned int nr = self->first + 6;
	struct zones want = self->was, now;
	struct blk_zone *z = &want.z[nr];
	unsigned int i;
	int r;

	for (i = 0; i < ARRAY_SIZE(step); i++) {
		if (step[i].type == VIRTIO_BLK_T_OUT) {
			prng_fill(&self->rnd, self->want, 4096);
			r = blk_write(self->q, z->wp, self->want, 4096);
		} else {
			r = zone_cmd(self->q, step[i].type, z->start);
		}
		EXPECT_EQ(VIRTIO_BLK_S_OK, r) {
			TH_LOG("step %u, type %u", i, step[i].type);
		}
		z->cond = step[i].cond;
		z->wp = z->start + (step[i].wp == 1 ? z->len : step[i].wp);
		ASSERT_EQ(0, host_report(&self->disk, &now));
		EXPECT_EQ(0, memcmp(&want, &now, sizeof(now))) {
			TH_LOG("step %u, type %u: condition %u, wp %llu", i,
			       step[i].type, now.z[nr].cond,
			       (unsigned long long)now.z[nr].wp);
		}
	}
	/* what was reset is gone */
	ASSERT_EQ(0, blkdev_peek(&self->disk, z->start, self->got, 4096));
	EXPECT_TRUE(mem_is(self->got, 0, 4096));
}

TEST_F(zone, transitions_that_are_none_are_invalid)
{
	const struct blk_zone *z = &self->was.z[self->first];
	struct zones zones;

	/* empty */
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  zone_cmd(self->q, VIRTIO_BLK_T_ZONE_CLOSE, z->start));
	EXPECT_UNCHANGED(self->was);
	/* full */
	ASSERT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_FINISH, z->start));
	ASSERT_EQ(0, host_report(&self->disk, &zones));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  zone_cmd(self->q, VIRTIO_BLK_T_ZONE_OPEN, z->start));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  zone_cmd(self->q, VIRTIO_BLK_T_ZONE_CLOSE, z->start));
	EXPECT_UNCHANGED(zones);
}

static const uint32_t one_zone_cmd[] = {
	VIRTIO_BLK_T_ZONE_OPEN, VIRTIO_BLK_T_ZONE_CLOSE,
	VIRTIO_BLK_T_ZONE_FINISH, VIRTIO_BLK_T_ZONE_RESET,
};

/* The block layer must not take them for one long request. */
TEST_F(zone, commands_to_one_zone_may_come_at_once)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_ZONE_OPEN, VIRTIO_BLK_T_ZONE_CLOSE,
		VIRTIO_BLK_T_ZONE_OPEN, VIRTIO_BLK_T_ZONE_FINISH,
		VIRTIO_BLK_T_ZONE_RESET, VIRTIO_BLK_T_ZONE_RESET_ALL,
	};
	uint64_t start = self->was.z[self->first].start;
	struct req r[8];
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		for (j = 0; j < ARRAY_SIZE(r); j++) {
			req_init(&r[j], types[i],
				 types[i] == VIRTIO_BLK_T_ZONE_RESET_ALL ? 0 : start, 0);
			ASSERT_EQ(0, req_build(&self->d.mem, &r[j]));
			ASSERT_LE(0, req_add(self->q, &r[j]));
		}
		vq_kick(self->q);
		ASSERT_EQ(0, req_wait_n(self->q, ARRAY_SIZE(r), REQ_TIMEOUT_MS));
		EXPECT_EQ(VIRTIO_BLK_S_OK, r[0].status) {
			TH_LOG("type %u", types[i]);
		}
		for (j = 0; j < ARRAY_SIZE(r); j++) {
			EXPECT_TRUE(r[j].done);
			EXPECT_EQ(1, r[j].used_len);
			req_free(&r[j]);
		}
	}
}

TEST_F(zone, commands_name_a_sequential_zone_by_its_first_sector)
{
	const uint64_t start = self->was.z[self->first].start;
	const uint64_t bad[] = {
		start + 1, start + 8, start + self->was.z[0].len - 1,
		self->disk.sectors, self->disk.sectors + self->was.z[0].len,
		1ULL << 63, ~0ULL, self->first ? 0 : start + 16,
	};
	uint64_t where;
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		for (j = 0; j < ARRAY_SIZE(one_zone_cmd); j++)
			EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
				  zone_cmd(self->q, one_zone_cmd[j], bad[i]));
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
			  zone_append(self->q, bad[i], self->want, 4096, &where));
	}
	EXPECT_UNCHANGED(self->was);
	EXPECT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_OPEN, start));
}

TEST_F(zone, reset_all_spares_what_is_conventional)
{
	const struct blk_zone *z = self->was.z;

	prng_fill(&self->rnd, self->want, 8192);
	ASSERT_EQ(0, blk_write(self->q, 0, self->want, 8192));
	ASSERT_EQ(0, mixed_zones(&self->disk, &self->was, self->first + 1));
	ASSERT_EQ(0, blkdev_configure(&self->disk, "zone_readonly",
				      z[self->first + 5].start));
	ASSERT_EQ(0, blkdev_configure(&self->disk, "zone_offline",
				      z[self->first + 6].start));
	/* the sector does not matter */
	EXPECT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_RESET_ALL, 12345));
	EXPECT_UNCHANGED(self->was);
	ASSERT_EQ(0, blkdev_peek(&self->disk, 0, self->got, 8192));
	if (!self->first)
		memset(self->want, UNWRITTEN, 8192);
	EXPECT_EQ(0, memcmp(self->want, self->got, 8192));
}

/* Queue writes one after the other, wait for all: they keep their order. */
TEST_F(zone, writes_at_the_write_pointer_keep_their_order)
{
	const struct blk_zone *z = &self->was.z[self->first];
	const uint32_t total = z->capacity * 512, block = self->disk.block;
	uint32_t at = 0, len;
	struct req *r;
	unsigned int n, i;

	r = calloc(RING_SIZE / 4, sizeof(*r));
	ASSERT_NE(NULL, r);
	prng_fill(&self->rnd, self->want, total);
	while (at < total) {
		self->d.mem.used = self->mem_used;
		for (n = 0; n < RING_SIZE / 4 && at < total; n++, at += len) {
			len = (1 + prng_below(&self->rnd, 16)) * block;
			if (len > total - at)
				len = total - at;
			req_init(&r[n], VIRTIO_BLK_T_OUT, z->start + at / 512, len);
			ASSERT_EQ(0, req_build(&self->d.mem, &r[n]));
			req_put_data(&r[n], self->want + at);
			ASSERT_LE(0, req_add(self->q, &r[n]));
		}
		vq_kick(self->q);
		ASSERT_EQ(0, req_wait_n(self->q, n, REQ_TIMEOUT_MS));
		for (i = 0; i < n; i++) {
			EXPECT_EQ(VIRTIO_BLK_S_OK, r[i].status);
			req_free(&r[i]);
		}
	}
	free(r);
	EXPECT_ZONE(self->first, BLK_ZONE_COND_FULL, z->capacity);
	ASSERT_EQ(0, blkdev_peek(&self->disk, z->start, self->got, total));
	EXPECT_EQ(0, memcmp(self->want, self->got, total));
}

TEST_F(zone, writes_elsewhere_fail_and_change_nothing)
{
	const struct blk_zone *z = &self->was.z[self->first];
	const uint32_t len = 4096, sectors = len / 512;
	const uint64_t off[] = { 0, sectors, 3 * sectors, z->capacity - sectors };
	struct zones zones;
	unsigned int i;

	prng_fill(&self->rnd, self->want, 2 * len);
	ASSERT_EQ(0, blk_write(self->q, z->start, self->want, 2 * len));
	ASSERT_EQ(0, host_report(&self->disk, &zones));
	memset(self->got, 0xff, len);
	for (i = 0; i < ARRAY_SIZE(off); i++)
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
			  blk_write(self->q, z->start + off[i], self->got, len));
	EXPECT_UNCHANGED(zones);
	/* and where it belongs it goes on */
	EXPECT_EQ(0, blk_write(self->q, z->start + 2 * sectors, self->want, len));
	EXPECT_ZONE(self->first, BLK_ZONE_COND_IMP_OPEN, 3 * sectors);
	ASSERT_EQ(0, blkdev_peek(&self->disk, z->start, self->got, 2 * len));
	EXPECT_EQ(0, memcmp(self->want, self->got, 2 * len));
}

TEST_F(zone, a_write_beyond_the_capacity_is_invalid)
{
	const struct blk_zone *z = &self->was.z[self->first];
	const uint32_t len = 65536;
	struct zones zones;
	unsigned int i;
	uint64_t where;
	int r;

	prng_fill(&self->rnd, self->want, MAX_DATA);
	ASSERT_EQ(0, blk_write(self->q, z->start, self->want,
			       z->capacity * 512 - len / 2));
	ASSERT_EQ(0, host_report(&self->disk, &zones));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  blk_write(self->q, zones.z[self->first].wp, self->want, len));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  zone_append(self->q, z->start, self->want, len, &where));
	EXPECT_UNCHANGED(zones);
	/*
	 * To the brim. After an append the block layer takes no write to the
	 * same zone until the last write has ended in all its parts, see
	 * blk_zone_wplug_handle_native_zone_append().
	 */
	for (i = 0; i < 100; i++) {
		r = blk_write(self->q, zones.z[self->first].wp, self->want,
			      len / 2);
		if (r != VIRTIO_BLK_S_IOERR)
			break;
		sleep_ms(10);
	}
	EXPECT_EQ(0, r);
	ASSERT_EQ(0, host_report(&self->disk, &zones));
	EXPECT_EQ(BLK_ZONE_COND_FULL, zones.z[self->first].cond);
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  blk_write(self->q, z->start, self->want, 4096));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  zone_append(self->q, z->start, self->want, 4096, &where));
	EXPECT_UNCHANGED(zones);
	EXPECT_EQ(0, blk_read(self->q, z->start, self->got, 4096));
	EXPECT_EQ(0, memcmp(self->want, self->got, 4096));
}

TEST_F(zone, requests_stay_in_their_sequential_zone)
{
	const struct blk_zone *z = &self->was.z[self->first];
	const uint64_t border = z->start + z->len;
	char buf[8192] = {};

	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  blk_read(self->q, border - 8, buf, sizeof(buf)));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  blk_write(self->q, border - 8, buf, sizeof(buf)));
	EXPECT_UNCHANGED(self->was);
	EXPECT_EQ(0, blk_read(self->q, border - 8, buf, 4096));
	EXPECT_EQ(0, blk_read(self->q, border, buf, 4096));
	if (!self->first)
		return;
	/* conventional ones do not mind, but into another zone is too far */
	EXPECT_EQ(0, blk_read(self->q, z[-1].start - 8, buf, sizeof(buf)));
	EXPECT_EQ(0, blk_write(self->q, z[-1].start - 8, buf, sizeof(buf)));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  blk_write(self->q, z->start - 8, buf, sizeof(buf)));
	EXPECT_UNCHANGED(self->was);
}

static uint32_t max_append(const struct vdev *d, const struct blkdev *b)
{
	struct vhost_blk_limits l = { .fd = b->fd };

	return vdev_ioctl(d, VHOST_BLK_GET_LIMITS, &l) ? 0 :
	       l.max_append_sectors * 512;
}

TEST_F(zone, an_append_says_where_it_went)
{
	static const struct req_layout layout[] = {
		{ .name = "plain" },
		{ .name = "indirect", .mode = VQ_INDIRECT },
		{ .name = "bytes back", .data_chunk = 3, .align = 1 },
		{ .name = "pieces", .data_chunk = 1000, .align = 1 },
		{ .name = "zero lengths", .data_chunk = 512, .align = 512,
		  .zero = true },
		{ .name = "status joined", .hdr_joined = true,
		  .status_joined = true, .align = 4, .offset = 4 },
	};
	const struct blk_zone *z = &self->was.z[self->first];
	const uint32_t block = self->disk.block;
	const uint32_t max = max_append(&self->d, &self->disk);
	uint32_t at = 0, len, most;
	unsigned int i;
	struct req r;

	for (i = 0; i < 24; i++, at += len) {
		const struct req_layout *l = &layout[i % ARRAY_SIZE(layout)];

		/* as long as there are descriptors */
		most = l->data_chunk ? l->data_chunk * (l->zero ? 100 : 200) :
				       65536;
		most = (most < max ? most : max) / block;
		if (!most) {
			len = 0;
			continue;
		}
		len = (1 + prng_below(&self->rnd, most)) * block;
		prng_fill(&self->rnd, self->want + at, len);
		ASSERT_EQ(0, append_init(self->q, &r, z->start, self->want + at,
					 len, l));
		ASSERT_EQ(0, req_run(self->q, &r));
		EXPECT_EQ(VIRTIO_BLK_S_OK, r.status);
		EXPECT_EQ(z->start + at / 512, append_where(&r)) {
			TH_LOG("layout %s, %u bytes", l->name, len);
		}
		req_free(&r);
	}
	EXPECT_ZONE(self->first, BLK_ZONE_COND_IMP_OPEN, at / 512);
	ASSERT_EQ(0, blkdev_peek(&self->disk, z->start, self->got, at));
	EXPECT_EQ(0, memcmp(self->want, self->got, at));
}

TEST_F(zone, appends_in_flight_at_once_do_not_meet)
{
	enum { NR = 48, LEN = 8192 };
	const struct blk_zone *z = &self->was.z[self->first + 2];
	bool taken[NR] = {};
	struct req r[NR];
	uint64_t slot;
	unsigned int i;

	prng_fill(&self->rnd, self->want, NR * LEN);
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, append_init(self->q, &r[i], z->start,
					 self->want + i * LEN, LEN,
					 &layout_plain));
		ASSERT_LE(0, req_add(self->q, &r[i]));
	}
	vq_kick(self->q);
	ASSERT_EQ(0, req_wait_n(self->q, NR, REQ_TIMEOUT_MS));
	ASSERT_EQ(0, blkdev_peek(&self->disk, z->start, self->got, NR * LEN));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(VIRTIO_BLK_S_OK, r[i].status);
		slot = (append_where(&r[i]) - z->start) / (LEN / 512);
		ASSERT_LT(slot, NR);
		EXPECT_FALSE(taken[slot]);
		taken[slot] = true;
		EXPECT_EQ(0, memcmp(self->want + i * LEN,
				    self->got + slot * LEN, LEN));
		req_free(&r[i]);
	}
	EXPECT_ZONE(self->first + 2, BLK_ZONE_COND_IMP_OPEN, NR * LEN / 512);
}

/* However its pages lie, an append of the size that is promised succeeds. */
TEST_F(zone, the_largest_append_succeeds_in_any_buffer)
{
	static const struct req_layout layout[] = {
		{ .name = "plain" },
		{ .name = "unaligned", .align = 4096, .offset = 7 },
		{ .name = "scattered", .data_chunk = 8192 },
		{ .name = "half pages", .data_chunk = 16384, .align = 4096,
		  .offset = 2048 },
	};
	uint32_t max = max_append(&self->d, &self->disk);
	unsigned int i;
	struct req r;

	ASSERT_LE(4096, max);
	ASSERT_LE(max, self->was.z[self->first].capacity * 512);
	prng_fill(&self->rnd, self->want, max);
	for (i = 0; i < ARRAY_SIZE(layout); i++) {
		const struct blk_zone *z = &self->was.z[self->first + i];

		self->d.mem.used = self->mem_used;
		ASSERT_EQ(0, append_init(self->q, &r, z->start, self->want, max,
					 &layout[i]));
		ASSERT_EQ(0, req_run(self->q, &r));
		EXPECT_EQ(VIRTIO_BLK_S_OK, r.status) {
			TH_LOG("layout %s", layout[i].name);
		}
		EXPECT_EQ(z->start, append_where(&r));
		req_free(&r);
		ASSERT_EQ(0, blkdev_peek(&self->disk, z->start, self->got, max));
		EXPECT_EQ(0, memcmp(self->want, self->got, max));
	}
}

TEST_F(zone, appends_that_are_none_change_nothing)
{
	static const uint32_t back[] = { 0, 1, 7, 9, 16 };
	const struct blk_zone *z = &self->was.z[self->first];
	uint32_t max = max_append(&self->d, &self->disk);
	uint64_t where;
	unsigned int i;
	struct req r;

	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  zone_append(self->q, z->start, self->want, 0, &where));
	if (max + self->disk.block <= MAX_DATA) {
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
			  zone_append(self->q, z->start, self->want,
				      max + self->disk.block, &where));
	}
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
		  zone_append(self->q, z->start, self->want,
			      self->disk.block + 1, &where));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
		  zone_append(self->q, z->start, self->want,
			      self->disk.block / 2, &where));
	for (i = 0; i < ARRAY_SIZE(back); i++) {
		req_init(&r, VIRTIO_BLK_T_ZONE_APPEND, z->start, 4096);
		r.back = back[i];
		ASSERT_EQ(0, req_build(&self->d.mem, &r));
		req_put_data(&r, self->want);
		ASSERT_EQ(0, req_run(self->q, &r));
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD, r.status);
		EXPECT_EQ(1, r.used_len);
		req_free(&r);
	}
	EXPECT_UNCHANGED(self->was);
	EXPECT_EQ(0, zone_append(self->q, z->start, self->want, 4096, &where));
	EXPECT_EQ(z->start, where);
}

TEST_F(zone, what_is_read_only_or_offline_is_left_alone)
{
	const struct blk_zone *ro = &self->was.z[self->first + 1];
	const struct blk_zone *off = &self->was.z[self->first + 2];
	char buf[4096] = {};
	struct zones zones;
	unsigned int i;
	uint64_t where;

	prng_fill(&self->rnd, self->want, sizeof(buf));
	ASSERT_EQ(0, blk_write(self->q, ro->start, self->want, sizeof(buf)));
	ASSERT_EQ(0, blkdev_configure(&self->disk, "zone_readonly", ro->start));
	ASSERT_EQ(0, blkdev_configure(&self->disk, "zone_offline", off->start));
	ASSERT_EQ(0, host_report(&self->disk, &zones));
	for (i = 0; i < ARRAY_SIZE(one_zone_cmd); i++) {
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
			  zone_cmd(self->q, one_zone_cmd[i], ro->start));
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
			  zone_cmd(self->q, one_zone_cmd[i], off->start));
	}
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
			  blk_write(self->q, ro->start + 8 * i, buf, sizeof(buf)));
		EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
			  blk_write(self->q, off->start + 8 * i, buf,
				    sizeof(buf)));
	}
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  zone_append(self->q, ro->start, buf, sizeof(buf), &where));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  zone_append(self->q, off->start, buf, sizeof(buf), &where));
	EXPECT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  blk_read(self->q, off->start, buf, sizeof(buf)));
	EXPECT_UNCHANGED(zones);
	EXPECT_EQ(0, blk_read(self->q, ro->start, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(self->want, buf, sizeof(buf)));
}

TEST_F(zone, a_read_only_file_reports_and_no_more)
{
	const struct blk_zone *z = &self->was.z[self->first];
	char buf[REPORT_SIZE(MAX_ZONES)];
	struct virtio_blk_zone_report *rep = (void *)buf;
	unsigned int i;
	uint64_t where;
	uint32_t used;
	int fd;

	ASSERT_EQ(0, blk_write(self->q, z->start, self->want, 4096));
	ASSERT_EQ(0, host_report(&self->disk, &self->was));
	ASSERT_EQ(0, vq_stop(self->q));
	fd = open(self->disk.path, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vq_start(self->q, fd));
	close(fd);
	for (i = 0; i < ARRAY_SIZE(one_zone_cmd); i++)
		EXPECT_EQ(VIRTIO_BLK_S_IOERR,
			  zone_cmd(self->q, one_zone_cmd[i], z->start));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR,
		  zone_cmd(self->q, VIRTIO_BLK_T_ZONE_RESET_ALL, 0));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR,
		  zone_append(self->q, z->start, self->want, 4096, &where));
	EXPECT_EQ(0, zone_report(self->q, z->start, buf, sizeof(buf),
				 &layout_plain, &used));
	EXPECT_EQ(MAX_ZONES - self->first, rep->nr_zones);
	EXPECT_DESC(&rep->zones[0], &self->was.z[self->first]);
	EXPECT_UNCHANGED(self->was);
}

TEST_F(zone, write_through_writes_and_appends_the_same)
{
	const struct blk_zone *z = &self->was.z[self->first];
	struct vhost_blk_config config = {};
	uint64_t where;

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &config));
	prng_fill(&self->rnd, self->want, 3 * 4096);
	EXPECT_EQ(0, zone_append(self->q, z->start, self->want, 4096, &where));
	EXPECT_EQ(z->start, where);
	EXPECT_EQ(0, zone_append(self->q, z->start, self->want + 4096, 4096,
				 &where));
	EXPECT_EQ(z->start + 8, where);
	ASSERT_EQ(0, blkdev_peek(&self->disk, z->start, self->got, 8192));
	EXPECT_EQ(0, memcmp(self->want, self->got, 8192));
	z++;
	EXPECT_EQ(0, blk_write(self->q, z->start, self->want, 3 * 4096));
	ASSERT_EQ(0, blkdev_peek(&self->disk, z->start, self->got, 3 * 4096));
	EXPECT_EQ(0, memcmp(self->want, self->got, 3 * 4096));
}

TEST_F(zone, a_buffered_reader_on_the_host_sees_what_changed)
{
	const struct blk_zone *z = &self->was.z[self->first];
	char buf[4096];
	uint64_t where;
	int fd;

	fd = open(self->disk.path, O_RDONLY);
	ASSERT_LE(0, fd);
	prng_fill(&self->rnd, self->want, sizeof(buf));
	ASSERT_EQ(sizeof(buf), pread(fd, buf, sizeof(buf), z->start * 512));
	EXPECT_TRUE(mem_is(buf, UNWRITTEN, sizeof(buf)));
	ASSERT_EQ(0, zone_append(self->q, z->start, self->want, sizeof(buf),
				 &where));
	ASSERT_EQ(sizeof(buf), pread(fd, buf, sizeof(buf), z->start * 512));
	EXPECT_EQ(0, memcmp(self->want, buf, sizeof(buf)));
	ASSERT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_RESET, z->start));
	ASSERT_EQ(sizeof(buf), pread(fd, buf, sizeof(buf), z->start * 512));
	EXPECT_TRUE(mem_is(buf, UNWRITTEN, sizeof(buf)));
	ASSERT_EQ(0, zone_append(self->q, z->start, self->want, sizeof(buf),
				 &where));
	ASSERT_EQ(sizeof(buf), pread(fd, buf, sizeof(buf), z->start * 512));
	ASSERT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_RESET_ALL, 0));
	ASSERT_EQ(sizeof(buf), pread(fd, buf, sizeof(buf), z->start * 512));
	EXPECT_TRUE(mem_is(buf, UNWRITTEN, sizeof(buf)));
	close(fd);
}

TEST_F(zone, stats_count_zone_requests)
{
	const struct blk_zone *z = &self->was.z[self->first];
	char buf[REPORT_SIZE(1)];
	struct vhost_blk_stats s;
	uint64_t where;
	uint32_t used;

	ASSERT_EQ(0, zone_append(self->q, z->start, self->want, 8192, &where));
	ASSERT_EQ(0, zone_cmd(self->q, VIRTIO_BLK_T_ZONE_FINISH, z->start));
	ASSERT_EQ(0, zone_report(self->q, 0, buf, sizeof(buf), &layout_plain,
				 &used));
	ASSERT_EQ(VIRTIO_BLK_S_ZONE_INVALID_CMD,
		  zone_append(self->q, z->start, self->want, 8192, &where));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(1, s.writes);
	EXPECT_EQ(8192, s.write_bytes);
	EXPECT_EQ(2, s.zone_commands);
	EXPECT_EQ(1, s.errors);
	EXPECT_EQ(0, s.unsupported);
}

TEST_F(zone, limits_say_what_the_zones_are_like)
{
	const struct blkdev *b = &self->disk;
	struct vhost_blk_limits l = { .fd = b->fd };

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &l));
	EXPECT_EQ(VIRTIO_BLK_Z_HM, l.zone_model);
	EXPECT_EQ(self->was.z[0].len, l.zone_sectors);
	EXPECT_EQ(blkdev_attr(b, "queue/max_open_zones"), l.max_open_zones);
	EXPECT_EQ(blkdev_attr(b, "queue/max_active_zones"), l.max_active_zones);
	EXPECT_EQ(blkdev_attr(b, "queue/zone_append_max_bytes"),
		  l.max_append_sectors * 512LL);
	EXPECT_EQ(blkdev_attr(b, "queue/zone_write_granularity"),
		  l.write_granularity);
	EXPECT_TRUE(mem_is(l.reserved, 0, sizeof(l.reserved)));
}

TEST_F(zone, a_driver_that_knows_no_zones_does_not_get_the_disk)
{
	uint64_t features = DRIVER_FEATURES;

	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_FEATURES, &features));
	EXPECT_EQ(-EOPNOTSUPP, vq_start(self->q, self->disk.fd));
	features = ZONED_FEATURES;
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_FEATURES, &features));
	EXPECT_EQ(0, vq_start(self->q, self->disk.fd));
}

/* Where there are no zones. */
TEST(without_zones_the_commands_are_unsupported)
{
	static const uint32_t type[] = {
		VIRTIO_BLK_T_ZONE_REPORT, VIRTIO_BLK_T_ZONE_OPEN,
		VIRTIO_BLK_T_ZONE_CLOSE, VIRTIO_BLK_T_ZONE_FINISH,
		VIRTIO_BLK_T_ZONE_RESET, VIRTIO_BLK_T_ZONE_RESET_ALL,
		VIRTIO_BLK_T_ZONE_APPEND,
	};
	static const uint64_t features[] = { DRIVER_FEATURES, ZONED_FEATURES };
	struct vhost_blk_limits l = {};
	char want[4096], buf[4096];
	struct blkdev disk;
	unsigned int i, j;
	struct vdev d;
	struct vq *q;
	struct req r;

	OPEN_DISK(&disk, BLKDEV_NULL_512);
	memset(want, 0x77, sizeof(want));
	ASSERT_EQ(0, blkdev_poke(&disk, 0, want, sizeof(want)));
	for (i = 0; i < ARRAY_SIZE(features); i++) {
		ASSERT_EQ(0, vdev_open(&d, features[i], 1 << 20));
		ASSERT_EQ(0, vq_setup(&d, 0, 16, &q));
		ASSERT_EQ(0, vq_start(q, disk.fd));
		for (j = 0; j < ARRAY_SIZE(type); j++) {
			req_init(&r, type[j], 0,
				 type[j] == VIRTIO_BLK_T_ZONE_REPORT ||
				 type[j] == VIRTIO_BLK_T_ZONE_APPEND ? 4096 : 0);
			if (type[j] == VIRTIO_BLK_T_ZONE_REPORT)
				r.data = REQ_DATA_IN;
			if (type[j] == VIRTIO_BLK_T_ZONE_APPEND)
				r.back = 8;
			ASSERT_EQ(0, req_build(&d.mem, &r));
			ASSERT_EQ(0, req_run(q, &r));
			EXPECT_EQ(VIRTIO_BLK_S_UNSUPP, r.status);
			EXPECT_EQ(1, r.used_len);
			req_free(&r);
		}
		EXPECT_EQ(0, blk_read(q, 0, buf, sizeof(buf)));
		EXPECT_EQ(0, memcmp(want, buf, sizeof(buf)));
		l.fd = disk.fd;
		ASSERT_EQ(0, vdev_ioctl(&d, VHOST_BLK_GET_LIMITS, &l));
		EXPECT_EQ(VIRTIO_BLK_Z_NONE, l.zone_model);
		EXPECT_EQ(0, l.zone_sectors | l.max_append_sectors |
			  l.max_open_zones | l.max_active_zones);
		memset(&l, 0, sizeof(l));
		vdev_close(&d);
	}
	blkdev_close(&disk);
}

SUITE_MAIN
