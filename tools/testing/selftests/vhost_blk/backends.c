// SPDX-License-Identifier: GPL-2.0
/*
 * Every kind of disk that a host has behind it: whole disks, partitions, the
 * device mapper, md, loop, NVMe, NVMe over TCP, image files. A short version of
 * what the io suite does at length.
 */
#include "suite.h"

#define MAX_DATA	(1024u * 1024)
#define RING_SIZE	64

FIXTURE(backend) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct prng rnd;
	char *want, *got;
	struct baseline before;
};

FIXTURE_VARIANT(backend) {
	enum blkdev_kind kind;
};

#define BACKEND(name, disk) FIXTURE_VARIANT_ADD(backend, name) { .kind = disk }

BACKEND(null_blk, BLKDEV_NULL_512);
BACKEND(null_blk_4k, BLKDEV_NULL_4K);
BACKEND(partition, BLKDEV_PART);
BACKEND(dm_linear, BLKDEV_LINEAR);
BACKEND(dm_crypt, BLKDEV_CRYPT);
BACKEND(dm_thin, BLKDEV_THIN);
BACKEND(md_raid1, BLKDEV_RAID1);
BACKEND(loop, BLKDEV_LOOP_FILE);
BACKEND(nvme, BLKDEV_NVME);
BACKEND(nvme_tcp, BLKDEV_NVME_TCP);
BACKEND(ext4, BLKDEV_EXT4);
BACKEND(ext4_4k, BLKDEV_EXT4_4K);
BACKEND(xfs, BLKDEV_XFS);
BACKEND(xfs_4k, BLKDEV_XFS_4K);

FIXTURE_SETUP(backend)
{
	OPEN_DISK(&self->disk, variant->kind);
	self->before = baseline_take();
	prng_init(&self->rnd, variant->kind);
	self->want = malloc(MAX_DATA);
	self->got = malloc(MAX_DATA);
	ASSERT_NE(NULL, self->want);
	ASSERT_NE(NULL, self->got);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(backend)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	free(self->want);
	free(self->got);
	EXPECT_BASELINE(self->before);
}

TEST_F(backend, reads_and_writes)
{
	static const uint32_t size[] = { 4096, 512, 12288, 65536, 69632, MAX_DATA };
	struct blkdev *b = &self->disk;
	const unsigned int step = b->block / 512;
	uint64_t sector;
	unsigned int i;

	for (i = 0; i < 4 * ARRAY_SIZE(size); i++) {
		uint32_t len = size[i % ARRAY_SIZE(size)];

		if (len % b->block)
			continue;
		/* the second time at the very end, where nothing may be lost */
		sector = b->sectors - len / 512;
		if (i / ARRAY_SIZE(size) != 1)
			sector = prng_below(&self->rnd, sector / step) * step;
		prng_fill(&self->rnd, self->want, len);
		ASSERT_EQ(0, blk_write(self->q, sector, self->want, len));
		ASSERT_EQ(0, blkdev_peek(b, sector, self->got, len));
		ASSERT_EQ(0, memcmp(self->want, self->got, len));
		prng_fill(&self->rnd, self->want, len);
		ASSERT_EQ(0, blkdev_poke(b, sector, self->want, len));
		ASSERT_EQ(0, blk_read(self->q, sector, self->got, len));
		ASSERT_EQ(0, memcmp(self->want, self->got, len));
	}
	EXPECT_EQ(0, blk_flush(self->q));
}

/* Odd buffers, many at a time, each to a place of its own. */
TEST_F(backend, many_requests_with_buffers_of_any_alignment)
{
	const uint32_t len = 8192, depth = 16;
	struct req_layout l = { .name = "odd", .data_chunk = 3001 };
	struct req r[16];
	unsigned int i, round;

	for (round = 0; round < 2; round++) {
		prng_fill(&self->rnd, self->want, depth * len);
		l.offset = round ? 1 : 512;
		for (i = 0; i < depth; i++) {
			req_init(&r[i], VIRTIO_BLK_T_OUT, i * 48, len);
			r[i].layout = &l;
			ASSERT_EQ(0, req_build(&self->d.mem, &r[i]));
			req_put_data(&r[i], self->want + i * len);
			l.mode = VQ_INDIRECT;
			ASSERT_LE(0, req_add(self->q, &r[i]));
		}
		vq_kick(self->q);
		ASSERT_EQ(0, req_wait_n(self->q, depth, REQ_TIMEOUT_MS));
		for (i = 0; i < depth; i++) {
			EXPECT_EQ(VIRTIO_BLK_S_OK, r[i].status);
			EXPECT_TRUE(req_guards_intact(&r[i]));
			req_free(&r[i]);
			ASSERT_EQ(0, blkdev_peek(&self->disk, i * 48, self->got, len));
			EXPECT_EQ(0, memcmp(self->want + i * len, self->got, len));
		}
	}
}

TEST_F(backend, the_end_of_the_disk_is_kept)
{
	struct blkdev *b = &self->disk;
	const unsigned int block = b->block, step = block / 512;
	const uint64_t end = b->sectors;
	struct vhost_blk_limits lim = { .fd = b->fd };

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &lim));
	EXPECT_EQ(end, lim.capacity);
	EXPECT_EQ(block, lim.logical_block);
	prng_fill(&self->rnd, self->want, 2 * block);
	ASSERT_EQ(0, blkdev_poke(b, end - 2 * step, self->want, 2 * block));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, blk_read(self->q, end, self->got, block));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR,
		  blk_write(self->q, end - step, self->got, 2 * block));
	if (step > 1)
		EXPECT_EQ(VIRTIO_BLK_S_IOERR,
			  blk_write(self->q, end - step, self->got, 512));
	ASSERT_EQ(0, blkdev_peek(b, end - 2 * step, self->got, 2 * block));
	EXPECT_EQ(0, memcmp(self->want, self->got, 2 * block));
	EXPECT_EQ(0, blk_read(self->q, end - step, self->got, block));
	EXPECT_EQ(0, memcmp(self->want + block, self->got, block));
}

/* Of the file, and of the disk; a change takes hold at once. */
TEST_F(backend, read_only_is_enforced)
{
	struct blkdev *b = &self->disk;
	int fd = open(b->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	struct vhost_blk_limits lim = { .fd = fd };

	ASSERT_LE(0, fd);
	prng_fill(&self->rnd, self->want, 4096);
	prng_fill(&self->rnd, self->want + 4096, 4096);
	ASSERT_EQ(0, blkdev_poke(b, 8, self->want, 4096));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &lim));
	EXPECT_EQ(VHOST_BLK_LIMIT_READ_ONLY, lim.flags & VHOST_BLK_LIMIT_READ_ONLY);
	ASSERT_EQ(0, vq_reset(self->q));
	ASSERT_EQ(0, vq_start(self->q, fd));
	close(fd);
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, blk_write(self->q, 8, self->want + 4096, 4096));
	EXPECT_EQ(0, blk_read(self->q, 8, self->got, 4096));
	EXPECT_EQ(0, memcmp(self->want, self->got, 4096));
	EXPECT_EQ(0, blk_flush(self->q));
	ASSERT_EQ(0, blkdev_peek(b, 8, self->got, 4096));
	EXPECT_EQ(0, memcmp(self->want, self->got, 4096));
}

TEST_F(backend, host_and_guest_see_each_others_data)
{
	int fd = open(self->disk.path, O_RDWR | O_CLOEXEC), i;
	const uint32_t len = 65536;

	ASSERT_LE(0, fd);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(len, pread(fd, self->got, len, 0));
		prng_fill(&self->rnd, self->want, len);
		ASSERT_EQ(0, blk_write(self->q, 0, self->want, len));
		ASSERT_EQ(len, pread(fd, self->got, len, 0));
		EXPECT_EQ(0, memcmp(self->want, self->got, len));
		prng_fill(&self->rnd, self->want, len);
		ASSERT_EQ(len, pwrite(fd, self->want, len, 0));
		ASSERT_EQ(0, blk_read(self->q, 0, self->got, len));
		EXPECT_EQ(0, memcmp(self->want, self->got, len));
	}
	close(fd);
}

SUITE_MAIN
