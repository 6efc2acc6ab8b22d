// SPDX-License-Identifier: GPL-2.0
/*
 * SECURE_ERASE on disks that can: what their driver was asked to erase, as the
 * block layer's tracepoint says, that the device was, and what it answered. Disks
 * that cannot are in range.c.
 */
#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "suite.h"
#include "vduse.h"

#define ERASE_FEATURES	(DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_SECURE_ERASE))
#define AREA		(2u << 20)	/* of the disk that we look at */
#define SECTORS		(AREA / 512)
#define TRACEFS		"/sys/kernel/tracing"
#define TRACE_DIR	TRACEFS "/instances/vhost-blk-test"
#define TRACE_ISSUE	TRACE_DIR "/events/block/block_rq_issue"

#define vrange virtio_blk_discard_write_zeroes

FIXTURE(erase) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	char *want, *got;	/* of AREA */
	struct baseline before;
};

FIXTURE_VARIANT(erase) {
	enum blkdev_kind kind;
};

FIXTURE_VARIANT_ADD(erase, virtio_blk) { .kind = BLKDEV_ERASE };
FIXTURE_VARIANT_ADD(erase, virtio_blk_4k) { .kind = BLKDEV_ERASE_4K };

FIXTURE_SETUP(erase)
{
	struct prng rnd;

	OPEN_DISK(&self->disk, variant->kind);
	run("mountpoint -q " TRACEFS " || mount -t tracefs t " TRACEFS);
	run("rmdir " TRACE_DIR);
	/* Names of tasks are not needed: they would have the scheduler traced. */
	if (run("mkdir " TRACE_DIR "; echo 0 >" TRACE_DIR "/options/record-cmd; "
		"echo 1 >" TRACE_ISSUE "/enable"))
		SKIP(return, "needs tracefs");
	self->before = baseline_take();
	prng_init(&rnd, self->disk.kind);
	self->want = malloc(AREA);
	self->got = malloc(AREA);
	ASSERT_TRUE(self->want && self->got);
	prng_fill(&rnd, self->want, AREA);
	ASSERT_EQ(0, blkdev_poke(&self->disk, 0, self->want, AREA));
	ASSERT_EQ(0, vduse_answer(self->disk.block, VIRTIO_BLK_S_OK));
	ASSERT_EQ(0, vdev_open(&self->d, ERASE_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, 64, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(erase)
{
	vdev_close(&self->d);
	run("rmdir " TRACE_DIR);
	blkdev_close(&self->disk);
	free(self->want);
	free(self->got);
	EXPECT_BASELINE(self->before);
}

static int erase(FIXTURE_DATA(erase) *self, const struct vrange *r,
		 unsigned int n)
{
	return blk_ranges(self->q, VIRTIO_BLK_T_SECURE_ERASE, r, n);
}

/* Nothing but the device may change what the disk holds, and ours does not. */
static bool area_right(FIXTURE_DATA(erase) *self)
{
	return !blkdev_peek(&self->disk, 0, self->got, AREA) &&
	       !memcmp(self->want, self->got, AREA);
}

/*
 * Take every request for a secure erase that the disk's driver got away from
 * @count, by the sector; their number, or an error if one is not to be.
 */
static int take_asked(FIXTURE_DATA(erase) *self, int *count)
{
	FILE *f = fopen(TRACE_DIR "/trace", "re");
	unsigned long long sector;
	unsigned int maj, min, nr, i;
	char line[512], op[8], *p;
	struct stat st;
	int n = 0;

	if (!f || fstat(self->disk.check, &st))
		return -EIO;
	while (n >= 0 && fgets(line, sizeof(line), f)) {
		p = strstr(line, "block_rq_issue: ");
		if (!p || sscanf(p, "block_rq_issue: %u,%u %7s", &maj, &min, op) != 3 ||
		    makedev(maj, min) != st.st_rdev || !strstr(op, "DE"))
			continue;
		p = strstr(p, ") ");
		if (!p || sscanf(p, ") %llu + %u", &sector, &nr) != 2 || !nr ||
		    nr > VDUSE_RANGE_SECTORS || sector + nr > SECTORS) {
			n = -EPROTO;
			continue;
		}
		for (i = 0; i < nr; i++)
			count[sector + i]--;
		n++;
	}
	fclose(f);
	return n;
}

/* The first sector that was to be erased more or less often than it was, or -1. */
static int asked_wrongly(FIXTURE_DATA(erase) *self, const struct vrange *r,
			 unsigned int n)
{
	int count[SECTORS] = { 0 };
	unsigned int i;
	int asked;

	for (; n--; r++)
		for (i = 0; i < r->num_sectors; i++)
			count[r->sector + i]++;
	asked = take_asked(self, count);
	if (asked < 0 || asked != vduse_erased(self->disk.block))
		return SECTORS;
	for (i = 0; i < SECTORS; i++)
		if (count[i])
			return i;
	return -1;
}

TEST_F(erase, each_range_reaches_the_device)
{
	const struct vrange range[] = {
		{ VDUSE_ERASE_ALIGN, VDUSE_ERASE_ALIGN, 0 },
		{ 8 * VDUSE_ERASE_ALIGN, 4 * VDUSE_ERASE_ALIGN, 0 },
		{ 4 * VDUSE_ERASE_ALIGN, VDUSE_ERASE_ALIGN, 0 },
		{ 5 * VDUSE_ERASE_ALIGN, VDUSE_ERASE_ALIGN, 0 },
		{ 6 * VDUSE_ERASE_ALIGN, 0, 0 },
	};
	struct vhost_blk_stats st;

	ASSERT_EQ(0, erase(self, range, ARRAY_SIZE(range)));
	EXPECT_EQ(-1, asked_wrongly(self, range, ARRAY_SIZE(range)));
	EXPECT_TRUE(area_right(self));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &st));
	EXPECT_EQ(1, st.discards);
	EXPECT_EQ(7 * VDUSE_ERASE_ALIGN * 512, st.discard_bytes);
	EXPECT_EQ(0, st.errors + st.unsupported);
}

/* The unit that a device erases in is its advice: what is odd is its business. */
TEST_F(erase, odd_ranges_reach_it_whole)
{
	const unsigned int block = self->disk.block / 512;
	const struct vrange range[] = {
		{ block, block, 0 }, { 3 * VDUSE_ERASE_ALIGN - block, 2 * block, 0 },
		{ SECTORS - block, block, 0 },
	};

	ASSERT_EQ(0, erase(self, range, ARRAY_SIZE(range)));
	EXPECT_EQ(-1, asked_wrongly(self, range, ARRAY_SIZE(range)));
	EXPECT_TRUE(area_right(self));
}

TEST_F(erase, what_is_too_long_for_the_device_comes_in_pieces)
{
	const unsigned int block = self->disk.block / 512;
	const struct vrange range[] = {
		{ block, 2 * VDUSE_RANGE_SECTORS + VDUSE_ERASE_ALIGN, 0 },
		{ 3 * VDUSE_RANGE_SECTORS, VDUSE_RANGE_SECTORS, 0 },
	};

	ASSERT_EQ(0, erase(self, range, ARRAY_SIZE(range)));
	EXPECT_EQ(-1, asked_wrongly(self, range, ARRAY_SIZE(range)));
	EXPECT_TRUE(area_right(self));
}

/* What the host had in its page cache is not kept there. */
TEST_F(erase, buffered_readers_on_the_host_read_anew)
{
	const struct vrange range = { 64, 128, 0 };
	int fd = open(self->disk.path, O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	memset(self->want, 'c', AREA / 2);
	ASSERT_EQ(AREA / 2, pwrite(fd, self->want, AREA / 2, 0));
	ASSERT_EQ(0, erase(self, &range, 1));
	/* behind the host's back: what is still cached would not be seen */
	memset(self->want + 64 * 512, 'd', 128 * 512);
	ASSERT_EQ(0, vduse_put(self->disk.block, 64, self->want + 64 * 512, 128 * 512));
	ASSERT_EQ(AREA, pread(fd, self->got, AREA, 0));
	EXPECT_EQ(0, memcmp(self->want, self->got, AREA));
	close(fd);
}

/* Alone and behind a good one: the device hears of neither. */
static void expect_refused(struct __test_metadata *_metadata,
			   FIXTURE_DATA(erase) *self, struct vrange bad,
			   int status)
{
	const struct vrange both[] = { { 0, VDUSE_ERASE_ALIGN, 0 }, bad };

	EXPECT_EQ(status, erase(self, &bad, 1)) {
		TH_LOG("sector %llu, %u sectors, flags %#x",
		       (unsigned long long)bad.sector, bad.num_sectors, bad.flags);
	}
	EXPECT_EQ(status, erase(self, both, 2));
	EXPECT_EQ(0, vduse_erased(self->disk.block));
	EXPECT_TRUE(area_right(self));
}

TEST_F(erase, bad_ranges_never_reach_the_device)
{
	const uint64_t end = self->disk.sectors;
	const unsigned int block = self->disk.block / 512;

	expect_refused(_metadata, self, (struct vrange){ end, block, 0 },
		       VIRTIO_BLK_S_IOERR);
	expect_refused(_metadata, self, (struct vrange){ end - block, 2 * block, 0 },
		       VIRTIO_BLK_S_IOERR);
	expect_refused(_metadata, self, (struct vrange){ -(uint64_t)block, 2 * block, 0 },
		       VIRTIO_BLK_S_IOERR);
	expect_refused(_metadata, self, (struct vrange){ 0, block, 1 },
		       VIRTIO_BLK_S_UNSUPP);
	expect_refused(_metadata, self, (struct vrange){ 0, block, 1U << 31 },
		       VIRTIO_BLK_S_UNSUPP);
	if (block == 1)
		return;
	expect_refused(_metadata, self, (struct vrange){ 1, block, 0 },
		       VIRTIO_BLK_S_IOERR);
	expect_refused(_metadata, self, (struct vrange){ 0, block + 1, 0 },
		       VIRTIO_BLK_S_IOERR);
}

TEST_F(erase, limits_of_the_configuration_hold)
{
	struct vhost_blk_config c = {
		.flags = VHOST_BLK_CONFIG_WRITEBACK,
		.max_secure_erase_sectors = 128, .max_secure_erase_seg = 2,
	};
	const struct vrange range[] = {
		{ 0, 128, 0 }, { 256, 64, 0 }, { 512, 64, 0 },
	};

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &c));
	expect_refused(_metadata, self, (struct vrange){ 0, 136, 0 },
		       VIRTIO_BLK_S_IOERR);
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP, erase(self, range, 3));
	EXPECT_EQ(0, vduse_erased(self->disk.block));
	EXPECT_EQ(0, erase(self, range, 2));
	EXPECT_EQ(-1, asked_wrongly(self, range, 2));
	EXPECT_TRUE(area_right(self));
}

TEST_F(erase, a_read_only_disk_keeps_its_data)
{
	int fd = open(self->disk.path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vq_start(self->q, fd));
	close(fd);
	expect_refused(_metadata, self, (struct vrange){ 0, 64, 0 },
		       VIRTIO_BLK_S_IOERR);
}

TEST_F(erase, what_was_not_negotiated_is_unsupported)
{
	uint64_t features = DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_DISCARD);

	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_FEATURES, &features));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	expect_refused(_metadata, self, (struct vrange){ 0, 64, 0 },
		       VIRTIO_BLK_S_UNSUPP);
}

/* Its refusal is the guest's to hear, and the next request goes on. */
TEST_F(erase, what_the_device_answers_is_what_the_guest_gets)
{
	const struct vrange range[] = { { 64, 64, 0 }, { 256, 64, 0 } };

	ASSERT_EQ(0, vduse_answer(self->disk.block, VIRTIO_BLK_S_IOERR));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, erase(self, range, 2));
	/* nothing more is erased after what failed */
	EXPECT_EQ(1, vduse_erased(self->disk.block));
	ASSERT_EQ(0, vduse_answer(self->disk.block, VIRTIO_BLK_S_UNSUPP));
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP, erase(self, range, 2));
	EXPECT_TRUE(area_right(self));
	ASSERT_EQ(0, vduse_answer(self->disk.block, VIRTIO_BLK_S_OK));
	ASSERT_EQ(0, run("echo >" TRACE_DIR "/trace"));
	EXPECT_EQ(0, erase(self, range, 2));
	EXPECT_EQ(-1, asked_wrongly(self, range, 2));
	EXPECT_TRUE(area_right(self));
}

TEST_F(erase, the_limits_tell_that_the_disk_can)
{
	struct vhost_blk_limits l = { .fd = self->disk.fd };
	struct blkdev other;

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &l));
	EXPECT_EQ(VDUSE_RANGE_SECTORS, l.max_secure_erase_sectors);
	EXPECT_EQ(VDUSE_ERASE_ALIGN * 512, l.discard_granularity);
	ASSERT_EQ(0, blkdev_open(&other, BLKDEV_NULL_512));
	l = (struct vhost_blk_limits){ .fd = other.fd };
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &l));
	EXPECT_EQ(0, l.max_secure_erase_sectors);
	EXPECT_EQ(0, l.discard_granularity);
	blkdev_close(&other);
}

SUITE_MAIN
