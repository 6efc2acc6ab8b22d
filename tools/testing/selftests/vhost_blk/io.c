// SPDX-License-Identifier: GPL-2.0
/*
 * Requests: what a guest may ask for, in every form it may ask, on several
 * disks, with and without polling. Data is compared with what the disk holds
 * when it is read past vhost-blk.
 */
#include "suite.h"

#define MAX_DATA	(4U << 20)
#define RING_SIZE	256

FIXTURE(io) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct prng rnd;
	size_t mem_used;	/* guest memory before the test's own */
	char *want, *got;	/* MAX_DATA each */
	struct baseline before;
};

FIXTURE_VARIANT(io) {
	enum blkdev_kind kind;
	unsigned int poll_us;
};

#define IO_VARIANT(name, disk)						\
	FIXTURE_VARIANT_ADD(io, name) { .kind = disk };			\
	FIXTURE_VARIANT_ADD(io, name##_polled) { .kind = disk, .poll_us = 50 }

IO_VARIANT(null_512, BLKDEV_NULL_512);
IO_VARIANT(null_4k, BLKDEV_NULL_4K);
IO_VARIANT(null_small, BLKDEV_NULL_SMALL);
IO_VARIANT(loop, BLKDEV_LOOP);
IO_VARIANT(nvme, BLKDEV_NVME);
IO_VARIANT(crypt, BLKDEV_CRYPT);

FIXTURE_SETUP(io)
{
	OPEN_DISK(&self->disk, variant->kind);
	self->before = baseline_take();
	prng_init(&self->rnd, variant->kind * 2 + !!variant->poll_us);
	self->want = malloc(MAX_DATA);
	self->got = malloc(MAX_DATA);
	ASSERT_NE(NULL, self->want);
	ASSERT_NE(NULL, self->got);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vdev_set_poll(&self->d, VHOST_BLK_ALL_RINGS,
				   variant->poll_us));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	self->mem_used = self->d.mem.used;
}

FIXTURE_TEARDOWN(io)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	free(self->want);
	free(self->got);
	EXPECT_BASELINE(self->before);
}

/* Where the test of @len bytes goes: a block of the disk at random. */
static uint64_t any_sector(struct prng *rnd, const struct blkdev *b,
			   uint32_t len)
{
	unsigned int per_block = b->block / 512;

	return prng_below(rnd, (b->sectors - len / 512) / per_block) * per_block;
}

#define FULL_LEN(r) ((r)->data == REQ_DATA_IN ? (r)->len + 1 : 1)

/* Run @r and check what must hold for every request that succeeds. */
#define RUN_OK(r) do {							\
	ASSERT_EQ(0, req_run(self->q, r)) {				\
		TH_LOG("type %u, %u bytes, layout %s", (r)->type,	\
		       (r)->len, (r)->layout->name);			\
	}								\
	EXPECT_EQ(VIRTIO_BLK_S_OK, (r)->status) {			\
		TH_LOG("type %u, %u bytes, layout %s", (r)->type,	\
		       (r)->len, (r)->layout->name);			\
	}								\
	EXPECT_EQ(FULL_LEN(r), (r)->used_len);				\
	EXPECT_TRUE(req_guards_intact(r));				\
} while (0)

/* Run @r, which must fail with @s and leave its data alone. */
#define RUN_BAD(r, s) do {						\
	ASSERT_EQ(0, req_run(self->q, r));				\
	EXPECT_EQ(s, (r)->status) {					\
		TH_LOG("type %u, sector %llu, %u bytes", (r)->type,	\
		       (unsigned long long)(r)->sector, (r)->len);	\
	}								\
	EXPECT_EQ(1, (r)->used_len);					\
	EXPECT_TRUE(req_guards_intact(r));				\
} while (0)

/*
 * Write @len random bytes with a layout, look at the disk, change the disk,
 * and read that back with the same layout.
 */
static void write_and_read(struct __test_metadata *_metadata,
			   FIXTURE_DATA(io) *self,
			   const struct req_layout *layout, uint32_t len)
{
	uint64_t sector = any_sector(&self->rnd, &self->disk, len);
	struct req r;

	self->d.mem.used = self->mem_used;
	req_init(&r, VIRTIO_BLK_T_OUT, sector, len);
	r.layout = layout;
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	prng_fill(&self->rnd, self->want, len);
	req_put_data(&r, self->want);
	RUN_OK(&r);
	req_free(&r);
	ASSERT_EQ(0, blkdev_peek(&self->disk, sector, self->got, len));
	EXPECT_EQ(0, memcmp(self->want, self->got, len)) {
		TH_LOG("written data differs: %u bytes, layout %s", len,
		       layout->name);
	}

	prng_fill(&self->rnd, self->want, len);
	ASSERT_EQ(0, blkdev_poke(&self->disk, sector, self->want, len));
	req_init(&r, VIRTIO_BLK_T_IN, sector, len);
	r.layout = layout;
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	RUN_OK(&r);
	req_get_data(&r, self->got);
	req_free(&r);
	EXPECT_EQ(0, memcmp(self->want, self->got, len)) {
		TH_LOG("read data differs: %u bytes, layout %s", len,
		       layout->name);
	}
	/* the tables of indirect chains go with the memory */
	memset(self->q->slot, 0, self->q->num * sizeof(*self->q->slot));
}

TEST_F(io, reads_and_writes_of_any_size)
{
	static const uint32_t size[] = {
		512, 1024, 1536, 4096, 4608, 8192, 12288, 32768, 65536, 66048,
		69632, 131072, 135168, 262144, (1 << 20) + 4096, MAX_DATA,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(size); i++) {
		if (size[i] % self->disk.block)
			continue;
		write_and_read(_metadata, self, &layout_plain, size[i]);
		if (size[i] <= 65536)
			write_and_read(_metadata, self, &layout_indirect, size[i]);
	}
}

TEST_F(io, any_layout_of_header_data_and_status)
{
	static const struct req_layout layout[] = {
		{ "header in single bytes", .hdr_chunk = 1 },
		{ "header in two halves", .hdr_chunk = 8 },
		{ "header in fifteen and one", .hdr_chunk = 15 },
		{ "header and data together", .hdr_joined = true },
		{ "status behind the data", .status_joined = true },
		{ "two descriptors", .hdr_joined = true, .status_joined = true },
		{ "status on its own page", .status_page = true },
		{ "a descriptor per sector", .data_chunk = 512 },
		{ "a descriptor per page", .data_chunk = 4096 },
		{ "odd pieces", .data_chunk = 1000, .offset = 7 },
		{ "tiny pieces", .data_chunk = 96, .offset = 4093 },
		{ "zero-length descriptors", .zero = true, .data_chunk = 1024 },
		{ "data across memory regions", .border = true },
		{ "regions and descriptors", .border = true, .data_chunk = 1300 },
		{ "adjacent sectors", .adjacent = true, .data_chunk = 512 },
		{ "adjacent odd pieces", .adjacent = true, .data_chunk = 700,
		  .offset = 4000 },
		{ "adjacent pages and halves", .adjacent = true,
		  .data_chunk = 6144, .status_joined = true },
		{ "all at once", .hdr_chunk = 3, .hdr_joined = true,
		  .data_chunk = 701, .status_joined = true, .zero = true,
		  .offset = 1 },
	};
	static const enum vq_mode mode[] = { VQ_DIRECT, VQ_INDIRECT, VQ_MIXED };
	struct req_layout l;
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(layout); i++) {
		for (j = 0; j < ARRAY_SIZE(mode); j++) {
			l = layout[i];
			l.mode = mode[j];
			write_and_read(_metadata, self, &l, 4096);
			write_and_read(_metadata, self, &l, 12288);
		}
	}
}

TEST_F(io, buffers_of_any_alignment)
{
	static const unsigned int offset[] = {
		1, 2, 3, 4, 8, 16, 64, 511, 512, 513, 2048, 3584, 4092, 4095,
	};
	static const uint32_t size[] = { 4096, 20480, 135168 };
	struct req_layout l = layout_plain;
	unsigned int i, j;

	l.name = "misaligned";
	for (i = 0; i < ARRAY_SIZE(offset); i++) {
		l.offset = offset[i];
		for (j = 0; j < ARRAY_SIZE(size); j++) {
			l.data_chunk = 0;
			write_and_read(_metadata, self, &l, size[i % 3]);
			l.data_chunk = 2000;
			write_and_read(_metadata, self, &l, size[0]);
		}
	}
	if (self->disk.block == 512) {
		for (i = 0; i < ARRAY_SIZE(offset); i++) {
			l.offset = offset[i];
			l.data_chunk = 0;
			write_and_read(_metadata, self, &l, 512);
			l.data_chunk = 37;
			write_and_read(_metadata, self, &l, 1536);
		}
	}
}

TEST_F(io, random_layouts)
{
	struct req_layout l = { .name = "random" };
	struct prng *p = &self->rnd;
	uint32_t len;
	int i;

	for (i = 0; i < (int)test_scale(60); i++) {
		l.hdr_chunk = prng_below(p, 17);
		l.hdr_joined = prng_below(p, 2);
		l.status_joined = prng_below(p, 2);
		l.status_page = prng_below(p, 2);
		l.zero = prng_below(p, 3) == 0;
		l.adjacent = prng_below(p, 2);
		l.offset = prng_below(p, 4096);
		l.mode = prng_below(p, 3);
		len = (1 + prng_below(p, 24)) * self->disk.block;
		/* the chain has to fit into the ring */
		l.data_chunk = 1 + prng_below(p, 3 * 4096);
		if (len / l.data_chunk > 80)
			l.data_chunk = len / 80;
		write_and_read(_metadata, self, &l, len);
	}
}

/* @n requests, or fewer on a disk that takes its time. */
static unsigned int some(const struct blkdev *b, unsigned int n)
{
	if (b->kind == BLKDEV_LOOP || b->kind == BLKDEV_CRYPT ||
	    b->kind == BLKDEV_NULL_SMALL)
		n /= 4;
	return test_scale(n);
}

/* Reads and writes in flight together, each region of the disk its own. */
static void keep_busy(struct __test_metadata *_metadata,
		      FIXTURE_DATA(io) *self, struct vq **vq,
		      unsigned int nvq, unsigned int depth, enum vq_mode mode,
		      unsigned int total)
{
	const uint32_t len = 4096;
	struct req_layout l = { .name = "busy", .mode = mode };
	unsigned int n = nvq * depth, posted = 0, done = 0, i, j;
	struct req *r = calloc(n, sizeof(*r)), *got;
	unsigned char *shadow = malloc((size_t)n * len);
	int err;

	ASSERT_NE(NULL, r);
	ASSERT_NE(NULL, shadow);
	prng_fill(&self->rnd, shadow, (size_t)n * len);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, blkdev_poke(&self->disk, i * 8, shadow + i * len, len));
		req_init(&r[i], i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
			 i * 8, len);
		r[i].layout = &l;
		ASSERT_EQ(0, req_build(&self->d.mem, &r[i]));
	}
	for (i = 0; i < nvq; i++) {
		for (j = 0; j < depth; j++) {
			struct req *one = &r[i * depth + j];

			if (one->type == VIRTIO_BLK_T_OUT) {
				prng_fill(&self->rnd, shadow + (one - r) * len, len);
				req_put_data(one, shadow + (one - r) * len);
			}
			ASSERT_LE(0, req_add(vq[i], one));
			posted++;
		}
		vq_kick(vq[i]);
	}
	while (done < posted) {
		for (i = 0; i < nvq; i++) {
			/* sleep on the first ring alone: the others come too */
			if (!i && !vq_pending(vq[0]) && vq[0]->nfree < vq[0]->num)
				ASSERT_EQ(0, vq_wait(vq[0], REQ_TIMEOUT_MS));
			while ((got = req_reap(vq[i], &err))) {
				size_t at = (got - r) * (size_t)len;

				done++;
				ASSERT_EQ(VIRTIO_BLK_S_OK, got->status);
				ASSERT_EQ(FULL_LEN(got), got->used_len);
				if (got->type == VIRTIO_BLK_T_IN) {
					req_get_data(got, self->got);
					ASSERT_EQ(0, memcmp(shadow + at, self->got, len));
				}
				if (posted >= total)
					continue;
				if (got->type == VIRTIO_BLK_T_OUT) {
					prng_fill(&self->rnd, shadow + at, len);
					req_put_data(got, shadow + at);
				}
				ASSERT_LE(0, req_add(vq[i], got));
				posted++;
			}
			ASSERT_EQ(0, err);
			vq_kick(vq[i]);
		}
	}
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, blkdev_peek(&self->disk, i * 8, self->got, len));
		EXPECT_EQ(0, memcmp(shadow + i * len, self->got, len));
		EXPECT_TRUE(req_guards_intact(&r[i]));
		req_free(&r[i]);
	}
	free(r);
	free(shadow);
}

TEST_F(io, depth_from_one_to_the_ring_size)
{
	static const unsigned int depth[] = { 1, 2, 7, 32, RING_SIZE / 3 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(depth); i++)
		keep_busy(_metadata, self, &self->q, 1, depth[i], VQ_DIRECT,
			  some(&self->disk, 200));
	keep_busy(_metadata, self, &self->q, 1, RING_SIZE, VQ_INDIRECT,
		  some(&self->disk, 1000));
}

TEST_F(io, four_rings_at_once)
{
	struct vq *vq[4] = { self->q };
	unsigned int i;

	for (i = 1; i < 4; i++) {
		ASSERT_EQ(0, vq_setup(&self->d, i, RING_SIZE, &vq[i]));
		ASSERT_EQ(0, vq_start(vq[i], self->disk.fd));
	}
	keep_busy(_metadata, self, vq, 4, 32, VQ_DIRECT,
		  some(&self->disk, 1000));
	keep_busy(_metadata, self, vq, 4, 64, VQ_INDIRECT,
		  some(&self->disk, 1000));
}

TEST_F(io, driver_that_polls_needs_no_signal)
{
	self->q->spin = true;
	keep_busy(_metadata, self, &self->q, 1, 1, VQ_DIRECT,
		  some(&self->disk, 200));
	keep_busy(_metadata, self, &self->q, 1, 32, VQ_DIRECT,
		  some(&self->disk, 800));
}

TEST_F(io, flush_succeeds_with_and_without_writes_before)
{
	struct req r;
	int i;

	req_init(&r, VIRTIO_BLK_T_FLUSH, 0, 0);
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	for (i = 0; i < 5; i++) {
		RUN_OK(&r);
		prng_fill(&self->rnd, self->want, 4096);
		ASSERT_EQ(0, blk_write(self->q, 0, self->want, 4096));
	}
	RUN_OK(&r);
	req_free(&r);
}

TEST_F(io, get_id_fills_what_there_is_room_for)
{
	static const uint32_t size[] = { 1, 8, 19, 20, 21, 64, 512, 4096 };
	struct vhost_blk_config c = {
		.flags = VHOST_BLK_CONFIG_WRITEBACK,
		.id = "abcdefghijklmnopqrs!",
	};
	struct req_layout l = { .name = "id", .data_chunk = 3 };
	unsigned int i, j, n;
	struct req r;

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
	for (i = 0; i < ARRAY_SIZE(size); i++) {
		for (j = 0; j < 2; j++) {
			if (j && size[i] > 64)
				continue;
			req_init(&r, VIRTIO_BLK_T_GET_ID, 0, size[i]);
			if (j)
				r.layout = &l;
			ASSERT_EQ(0, req_build(&self->d.mem, &r));
			ASSERT_EQ(0, req_run(self->q, &r));
			n = size[i] < 20 ? size[i] : 20;
			EXPECT_EQ(VIRTIO_BLK_S_OK, r.status);
			EXPECT_EQ(n + 1, r.used_len);
			req_get_data(&r, self->got);
			EXPECT_EQ(0, memcmp(c.id, self->got, n));
			EXPECT_TRUE(mem_is(self->got + n, REQ_POISON, size[i] - n));
			EXPECT_TRUE(req_guards_intact(&r));
			req_free(&r);
		}
	}
}

TEST_F(io, unknown_types_are_unsupported_and_touch_nothing)
{
	static const uint32_t type[] = {
		VIRTIO_BLK_T_SCSI_CMD, VIRTIO_BLK_T_SCSI_CMD | 1, 3, 5, 6, 7, 9,
		VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, 12, 14, 15, 99,
		0x80000000, 0x80000001, 0x7fffffff, 0xffffffff,
	};
	static const uint32_t len = 4096;
	enum req_data data;
	unsigned int i;
	struct req r;

	prng_fill(&self->rnd, self->want, len);
	ASSERT_EQ(0, blkdev_poke(&self->disk, 64, self->want, len));
	for (i = 0; i < ARRAY_SIZE(type); i++) {
		for (data = REQ_DATA_NONE; data <= REQ_DATA_IN; data++) {
			req_init(&r, type[i], 64, data ? len : 0);
			r.data = data;
			ASSERT_EQ(0, req_build(&self->d.mem, &r));
			RUN_BAD(&r, VIRTIO_BLK_S_UNSUPP);
			if (data == REQ_DATA_IN) {
				req_get_data(&r, self->got);
				EXPECT_TRUE(mem_is(self->got, REQ_POISON, len));
			}
			req_free(&r);
		}
	}
	ASSERT_EQ(0, blkdev_peek(&self->disk, 64, self->got, len));
	EXPECT_EQ(0, memcmp(self->want, self->got, len));
	EXPECT_EQ(0, blk_read(self->q, 64, self->got, len));
}

TEST_F(io, requests_beyond_the_end_fail_and_change_nothing)
{
	const uint64_t end = self->disk.sectors;
	const unsigned int block = self->disk.block, step = block / 512;
	const struct {
		uint64_t sector;
		uint32_t len;
	} bad[] = {
		{ end, block }, { end - step, 2 * block }, { end + step, block },
		{ end - step, 65536 }, { end * 2, block }, { 1ULL << 32, block },
		{ 1ULL << 54, block }, { 1ULL << 55, block },
		{ 1ULL << 62, block }, { 1ULL << 63, block },
		{ ~0ULL, block }, { ~0ULL - step + 1, block },
		{ ~0ULL - step + 1, 2 * block }, { ~0ULL - 7, 8192 },
		{ ~0ULL / 512 + 1, block }, { ~0ULL / 512, block },
	};
	unsigned int i, out;
	char *first = self->want, *last = self->want + 8192;
	struct req r;

	prng_fill(&self->rnd, self->want, 16384);
	ASSERT_EQ(0, blkdev_poke(&self->disk, 0, first, 8192));
	ASSERT_EQ(0, blkdev_poke(&self->disk, end - 16, last, 8192));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		for (out = 0; out < 2; out++) {
			req_init(&r, out ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
				 bad[i].sector, bad[i].len);
			ASSERT_EQ(0, req_build(&self->d.mem, &r));
			RUN_BAD(&r, VIRTIO_BLK_S_IOERR);
			if (!out) {
				req_get_data(&r, self->got);
				EXPECT_TRUE(mem_is(self->got, REQ_POISON, bad[i].len));
			}
			req_free(&r);
		}
	}
	ASSERT_EQ(0, blkdev_peek(&self->disk, 0, self->got, 8192));
	EXPECT_EQ(0, memcmp(first, self->got, 8192));
	ASSERT_EQ(0, blkdev_peek(&self->disk, end - 16, self->got, 8192));
	EXPECT_EQ(0, memcmp(last, self->got, 8192));

	/* the very last block is fine */
	ASSERT_EQ(0, blk_read(self->q, end - step, self->got, block));
	EXPECT_EQ(0, memcmp(last + 8192 - block, self->got, block));
	prng_fill(&self->rnd, self->got, block);
	ASSERT_EQ(0, blk_write(self->q, end - step, self->got, block));
	ASSERT_EQ(0, blkdev_peek(&self->disk, end - step, self->want, block));
	EXPECT_EQ(0, memcmp(self->want, self->got, block));
}

TEST_F(io, lengths_that_are_no_blocks_fail_and_change_nothing)
{
	const unsigned int block = self->disk.block;
	const uint32_t bad[] = {
		1, 16, 511, 513, 1023, 4095, 4097, 65535, block + 1, block - 1,
		block / 2, block + block / 2, 3 * block - 256,
	};
	unsigned int i, out;
	struct req r;

	prng_fill(&self->rnd, self->want, 131072);
	ASSERT_EQ(0, blkdev_poke(&self->disk, 0, self->want, 131072));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		for (out = 0; out < 2; out++) {
			req_init(&r, out ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 8,
				 bad[i]);
			ASSERT_EQ(0, req_build(&self->d.mem, &r));
			RUN_BAD(&r, VIRTIO_BLK_S_IOERR);
			if (!out) {
				req_get_data(&r, self->got);
				EXPECT_TRUE(mem_is(self->got, REQ_POISON, bad[i]));
			}
			req_free(&r);
		}
	}
	/* a start within a block */
	if (block > 512) {
		req_init(&r, VIRTIO_BLK_T_OUT, 1, block);
		ASSERT_EQ(0, req_build(&self->d.mem, &r));
		RUN_BAD(&r, VIRTIO_BLK_S_IOERR);
		req_free(&r);
	}
	ASSERT_EQ(0, blkdev_peek(&self->disk, 0, self->got, 131072));
	EXPECT_EQ(0, memcmp(self->want, self->got, 131072));
}

TEST_F(io, chains_that_are_no_requests_do_not_stop_the_ring)
{
	const struct {
		const char *name;
		uint32_t hdr_len;
		bool no_hdr, no_status;
		enum req_data data;
		uint32_t len;
		uint32_t used_len;
	} bad[] = {
		/* no room for a status: nothing is written */
		{ "header only", .no_status = true, .used_len = 0 },
		{ "half a header only", 8, .no_status = true, .used_len = 0 },
		{ "header and data, no status", .no_status = true,
		  .data = REQ_DATA_OUT, .len = 4096, .used_len = 0 },
		{ "status only", .no_hdr = true, .used_len = 1 },
		{ "half a header", 8, .used_len = 1 },
		{ "header one short", 15, .used_len = 1 },
		{ "no header, but data", .no_hdr = true,
		  .data = REQ_DATA_IN, .len = 4096, .used_len = 1 },
	};
	struct vhost_blk_stats s;
	struct req_layout l = layout_plain;
	struct req r;
	unsigned int i, zero;

	prng_fill(&self->rnd, self->want, 4096);
	ASSERT_EQ(0, blkdev_poke(&self->disk, 0, self->want, 4096));
	for (i = 0; i < ARRAY_SIZE(bad) * 2; i++) {
		zero = i & 1;
		l.zero = zero;
		req_init(&r, VIRTIO_BLK_T_OUT, 0, bad[i / 2].len);
		r.layout = &l;
		r.data = bad[i / 2].data;
		r.hdr_len = bad[i / 2].hdr_len;
		r.no_hdr = bad[i / 2].no_hdr;
		r.no_status = bad[i / 2].no_status;
		ASSERT_EQ(0, req_build(&self->d.mem, &r));
		ASSERT_EQ(0, req_run(self->q, &r)) {
			TH_LOG("%s", bad[i / 2].name);
		}
		EXPECT_EQ(bad[i / 2].used_len, r.used_len) {
			TH_LOG("%s", bad[i / 2].name);
		}
		if (!r.no_status)
			EXPECT_EQ(VIRTIO_BLK_S_IOERR, r.status) {
				TH_LOG("%s", bad[i / 2].name);
			}
		if (r.data == REQ_DATA_IN) {
			req_get_data(&r, self->got);
			EXPECT_TRUE(mem_is(self->got, REQ_POISON, r.len));
		}
		EXPECT_TRUE(req_guards_intact(&r));
		req_free(&r);
		ASSERT_EQ(0, blk_read(self->q, 0, self->got, 4096));
		EXPECT_EQ(0, memcmp(self->want, self->got, 4096));
	}
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(ARRAY_SIZE(bad) * 2, s.malformed);
	EXPECT_EQ(0, s.ring_errors);
}

TEST_F(io, empty_reads_and_writes_succeed)
{
	struct req r;

	req_init(&r, VIRTIO_BLK_T_IN, 0, 0);
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	RUN_OK(&r);
	req_free(&r);
	req_init(&r, VIRTIO_BLK_T_OUT, 0, 0);
	r.data = REQ_DATA_OUT;
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	RUN_OK(&r);
	req_free(&r);
}

TEST_F(io, a_read_only_file_makes_a_read_only_disk)
{
	struct blkdev *b = &self->disk;
	int fd = open(b->path, O_RDONLY | O_DIRECT);
	struct req r;

	ASSERT_LE(0, fd);
	prng_fill(&self->rnd, self->want, 4096);
	ASSERT_EQ(0, blkdev_poke(b, 0, self->want, 4096));
	ASSERT_EQ(0, vq_reset(self->q));
	ASSERT_EQ(0, vq_start(self->q, fd));
	close(fd);

	req_init(&r, VIRTIO_BLK_T_OUT, 0, 4096);
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	prng_fill(&self->rnd, self->got, 4096);
	req_put_data(&r, self->got);
	RUN_BAD(&r, VIRTIO_BLK_S_IOERR);
	req_free(&r);
	ASSERT_EQ(0, blkdev_peek(b, 0, self->got, 4096));
	EXPECT_EQ(0, memcmp(self->want, self->got, 4096));
	EXPECT_EQ(0, blk_read(self->q, 0, self->got, 4096));
	EXPECT_EQ(0, memcmp(self->want, self->got, 4096));
	EXPECT_EQ(0, blk_flush(self->q));
}

TEST_F(io, a_buffered_reader_on_the_host_sees_new_data)
{
	int fd = open(self->disk.path, O_RDONLY), i;
	uint64_t sector = any_sector(&self->rnd, &self->disk, 65536) & ~7ULL;

	ASSERT_LE(0, fd);
	for (i = 0; i < 10; i++) {
		/* into the page cache */
		ASSERT_EQ(65536, pread(fd, self->got, 65536, sector * 512));
		prng_fill(&self->rnd, self->want, 65536);
		ASSERT_EQ(0, blk_write(self->q, sector, self->want, 65536));
		ASSERT_EQ(65536, pread(fd, self->got, 65536, sector * 512));
		EXPECT_EQ(0, memcmp(self->want, self->got, 65536));
	}
	close(fd);
}

TEST_F(io, a_buffered_writer_on_the_host_is_seen)
{
	int fd = open(self->disk.path, O_RDWR), i;
	uint64_t sector = any_sector(&self->rnd, &self->disk, 65536) & ~7ULL;

	ASSERT_LE(0, fd);
	for (i = 0; i < 6; i++) {
		prng_fill(&self->rnd, self->want, 65536);
		ASSERT_EQ(65536, pwrite(fd, self->want, 65536, sector * 512));
		/* as direct I/O, a request sees what is still in the cache */
		if (i % 2)
			ASSERT_EQ(0, fsync(fd));
		ASSERT_EQ(0, blk_read(self->q, sector, self->got, 65536));
		EXPECT_EQ(0, memcmp(self->want, self->got, 65536));
	}
	close(fd);
}

TEST_F(io, write_through_writes_the_same_data)
{
	struct vhost_blk_config c = { .flags = 0 };

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
	write_and_read(_metadata, self, &layout_plain, 4096);
	write_and_read(_metadata, self, &layout_plain, 1 << 20);
	EXPECT_EQ(0, blk_flush(self->q));
}

/* Drivers that negotiate less. */

#define LEGACY_FEATURES (BIT64(VIRTIO_F_ANY_LAYOUT) |	\
			 BIT64(VIRTIO_F_NOTIFY_ON_EMPTY))
#define FLAGS_FEATURES	(DRIVER_FEATURES & ~BIT64(VIRTIO_RING_F_EVENT_IDX))

FIXTURE(features) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
};

FIXTURE_VARIANT(features) {
	uint64_t features;
};

FIXTURE_VARIANT_ADD(features, none) { 0 };
FIXTURE_VARIANT_ADD(features, version_1) { BIT64(VIRTIO_F_VERSION_1) };
FIXTURE_VARIANT_ADD(features, legacy_any_layout) { LEGACY_FEATURES };
FIXTURE_VARIANT_ADD(features, no_event_idx) { FLAGS_FEATURES };
FIXTURE_VARIANT_ADD(features, all) { DRIVER_FEATURES };

FIXTURE_SETUP(features)
{
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	ASSERT_EQ(0, vdev_open(&self->d, variant->features, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(features)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
}

TEST_F(features, data_is_the_same)
{
	char want[4096], got[4096];
	struct prng rnd;
	unsigned int i;

	prng_init(&rnd, variant->features);
	for (i = 0; i < 200; i++) {
		prng_fill(&rnd, want, sizeof(want));
		ASSERT_EQ(0, blk_write(self->q, i * 8, want, sizeof(want)));
		ASSERT_EQ(0, blk_read(self->q, i * 8, got, sizeof(got)));
		ASSERT_EQ(0, memcmp(want, got, sizeof(want)));
	}
	EXPECT_EQ(0, blk_flush(self->q));
}

/* Disks that fail. */

FIXTURE(bad) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
};

FIXTURE_SETUP(bad)
{
	OPEN_DISK(&self->disk, BLKDEV_BAD);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(bad)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
}

TEST_F(bad, an_error_is_of_the_request_that_met_it_alone)
{
	const uint32_t len = 4096;
	struct req r[24], *got;
	unsigned int i, n = 0;
	bool hit;
	int err;

	for (i = 0; i < ARRAY_SIZE(r); i++) {
		/* before, in and behind the bad sectors */
		req_init(&r[i], i & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
			 BLKDEV_BAD_SECTOR - 64 + i * 8, len);
		ASSERT_EQ(0, req_build(&self->d.mem, &r[i]));
		ASSERT_LE(0, req_add(self->q, &r[i]));
	}
	vq_kick(self->q);
	while (n < ARRAY_SIZE(r)) {
		ASSERT_EQ(0, vq_wait(self->q, REQ_TIMEOUT_MS));
		while ((got = req_reap(self->q, &err)))
			n++;
		ASSERT_EQ(0, err);
	}
	for (i = 0; i < ARRAY_SIZE(r); i++) {
		hit = r[i].sector >= BLKDEV_BAD_SECTOR &&
		      r[i].sector < BLKDEV_BAD_SECTOR + BLKDEV_BAD_COUNT;
		EXPECT_EQ(hit ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK, r[i].status) {
			TH_LOG("sector %llu", (unsigned long long)r[i].sector);
		}
		EXPECT_EQ(hit ? 1 : FULL_LEN(&r[i]), r[i].used_len);
		EXPECT_TRUE(req_guards_intact(&r[i]));
		req_free(&r[i]);
	}
}

TEST_F(bad, a_large_request_fails_if_any_part_does)
{
	const uint32_t len = 1 << 20;
	struct vhost_blk_stats s;
	struct req r;

	req_init(&r, VIRTIO_BLK_T_IN, BLKDEV_BAD_SECTOR - 1024, len);
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	ASSERT_EQ(0, req_run(self->q, &r));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, r.status);
	EXPECT_EQ(1, r.used_len);
	req_free(&r);
	EXPECT_EQ(0, blk_flush(self->q));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(1, s.errors);
	EXPECT_EQ(0, s.reads);
}

TEST_F(bad, a_bounced_read_that_fails_gives_the_guest_nothing)
{
	struct req_layout l = { .name = "odd", .offset = 1 };
	char got[8192];
	struct req r;

	req_init(&r, VIRTIO_BLK_T_IN, BLKDEV_BAD_SECTOR, 8192);
	r.layout = &l;
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	ASSERT_EQ(0, req_run(self->q, &r));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, r.status);
	EXPECT_EQ(1, r.used_len);
	req_get_data(&r, got);
	EXPECT_TRUE(mem_is(got, REQ_POISON, sizeof(got)));
	req_free(&r);
}

/* A disk that cannot be written. */

TEST(a_read_only_disk_is_not_written)
{
	struct blkdev disk;
	struct vdev d;
	struct vq *q;
	char buf[4096] = { 1 }, got[4096];

	OPEN_DISK(&disk, BLKDEV_NULL_RO);
	ASSERT_EQ(0, vdev_open(&d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&d, 0, 16, &q));
	ASSERT_EQ(0, vq_start(q, disk.fd));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, blk_write(q, 0, buf, sizeof(buf)));
	EXPECT_EQ(0, blk_read(q, 0, got, sizeof(got)));
	EXPECT_TRUE(mem_is(got, 0, sizeof(got)));
	vdev_close(&d);
	blkdev_close(&disk);
}

SUITE_MAIN
