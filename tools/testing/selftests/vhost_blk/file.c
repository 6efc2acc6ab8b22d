// SPDX-License-Identifier: GPL-2.0
/*
 * Image files: holes, preallocated blocks, odd sizes, full filesystems, and
 * files that cannot be a disk.
 */
#include <errno.h>
#include <linux/fscrypt.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "suite.h"

#define FEATURES	(DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_DISCARD) | \
			 BIT64(VIRTIO_BLK_F_WRITE_ZEROES))
#define RING_SIZE	64
#define MB		(1024u * 1024)

/* From <linux/fs.h>, which does not go with <sys/mount.h>. */
#ifndef FS_IOC_GETFLAGS
#define FS_IOC_GETFLAGS	_IOR('f', 1, long)
#define FS_IOC_SETFLAGS	_IOW('f', 2, long)
#endif
#define FLAG_IMMUTABLE	0x10
#define FLAG_APPEND	0x20

FIXTURE(image) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct prng rnd;
	char *want, *got;	/* MB each */
	char path[160];		/* another file next to it */
	struct baseline before;
};

FIXTURE_VARIANT(image) {
	enum blkdev_kind kind;
};

FIXTURE_VARIANT_ADD(image, ext4) { .kind = BLKDEV_EXT4 };
FIXTURE_VARIANT_ADD(image, ext4_4k) { .kind = BLKDEV_EXT4_4K };
FIXTURE_VARIANT_ADD(image, ext4_no_extents) { .kind = BLKDEV_EXT4_NO_EXTENTS };
FIXTURE_VARIANT_ADD(image, xfs) { .kind = BLKDEV_XFS };
FIXTURE_VARIANT_ADD(image, xfs_4k) { .kind = BLKDEV_XFS_4K };

FIXTURE_SETUP(image)
{
	OPEN_DISK(&self->disk, variant->kind);
	self->before = baseline_take();
	snprintf(self->path, sizeof(self->path), "%s.other", self->disk.path);
	prng_init(&self->rnd, variant->kind);
	self->want = calloc(1, MB);
	self->got = malloc(MB);
	ASSERT_NE(NULL, self->want);
	ASSERT_NE(NULL, self->got);
	/* one hole */
	ASSERT_EQ(0, ftruncate(self->disk.check, 0));
	ASSERT_EQ(0, ftruncate(self->disk.check, BLKDEV_SIZE));
	ASSERT_EQ(0, vdev_open(&self->d, FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(image)
{
	vdev_close(&self->d);
	unlink(self->path);
	blkdev_close(&self->disk);
	free(self->want);
	free(self->got);
	EXPECT_BASELINE(self->before);
}

/* Write random pieces of the first megabyte and compare all of it. */
static void scatter(struct __test_metadata *_metadata, FIXTURE_DATA(image) *self,
		    unsigned int n)
{
	const unsigned int block = self->disk.block;
	uint32_t at, len;

	while (n--) {
		at = prng_below(&self->rnd, MB / block) * block;
		len = (1 + prng_below(&self->rnd, 24)) * block;
		if (at + len > MB)
			continue;
		prng_fill(&self->rnd, self->want + at, len);
		ASSERT_EQ(0, blk_write(self->q, at / 512, self->want + at, len));
	}
	ASSERT_EQ(0, blk_read(self->q, 0, self->got, MB));
	EXPECT_EQ(0, memcmp(self->want, self->got, MB));
	ASSERT_EQ(0, blkdev_peek(&self->disk, 0, self->got, MB));
	EXPECT_EQ(0, memcmp(self->want, self->got, MB));
}

TEST_F(image, holes_read_as_zeroes_and_take_data)
{
	ASSERT_EQ(0, blk_read(self->q, 0, self->got, MB));
	EXPECT_TRUE(mem_is(self->got, 0, MB));
	EXPECT_EQ(0, blkdev_allocated(&self->disk));
	scatter(_metadata, self, 40);
	EXPECT_LT(0, blkdev_allocated(&self->disk));
	EXPECT_GE(MB + 8192, blkdev_allocated(&self->disk));
}

TEST_F(image, preallocated_blocks_read_as_zeroes_and_take_data)
{
	if (fallocate(self->disk.check, 0, 0, MB)) {
		ASSERT_EQ(EOPNOTSUPP, errno);
		SKIP(return, "this filesystem cannot preallocate");
	}
	EXPECT_LE(MB, blkdev_allocated(&self->disk));
	ASSERT_EQ(0, blk_read(self->q, 0, self->got, MB));
	EXPECT_TRUE(mem_is(self->got, 0, MB));
	scatter(_metadata, self, 40);
}

TEST_F(image, a_part_of_a_block_at_the_end_is_no_part_of_the_disk)
{
	const unsigned int block = self->disk.block;
	const uint64_t blocks = 2 * MB / block;
	struct vhost_blk_limits lim = { .fd = self->disk.fd };
	struct stat st;

	ASSERT_EQ(0, ftruncate(self->disk.check, 2 * MB + block / 2));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &lim));
	EXPECT_EQ((2 * MB + block / 2) / 512, lim.capacity);
	prng_fill(&self->rnd, self->want, block);
	EXPECT_EQ(VIRTIO_BLK_S_IOERR,
		  blk_write(self->q, blocks * block / 512, self->want, block));
	EXPECT_EQ(0, blk_write(self->q, (blocks - 1) * block / 512, self->want, block));
	ASSERT_EQ(0, fstat(self->disk.check, &st));
	EXPECT_EQ(2 * MB + block / 2, st.st_size);
	ASSERT_EQ(0, blkdev_peek(&self->disk, (blocks - 1) * block / 512, self->got,
				 block));
	EXPECT_EQ(0, memcmp(self->want, self->got, block));
}

/* Take what the filesystem has left. */
static int fill_up(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	unsigned int len = 64 * MB;
	off_t at = 0;

	if (fd < 0)
		return -1;
	while (len >= 4096) {
		if (!fallocate(fd, 0, at, len)) {
			at += len;
			continue;
		}
		if (errno != ENOSPC)
			break;
		len /= 2;
	}
	fsync(fd);
	close(fd);
	return len >= 4096 ? -1 : 0;
}

TEST_F(image, a_full_filesystem_fails_what_needs_space_alone)
{
	const uint32_t len = 65536;
	struct vhost_blk_stats st;
	unsigned int i, ok = 0;

	if (variant->kind == BLKDEV_EXT4_NO_EXTENTS)
		SKIP(return, "the filler cannot be preallocated here");
	prng_fill(&self->rnd, self->want, MB);
	ASSERT_EQ(0, blk_write(self->q, 0, self->want, len));
	ASSERT_EQ(0, fill_up(self->path));
	/* until the last block is taken; then for good */
	for (i = 1; i < 16; i++)
		ok += !blk_write(self->q, i * 2048, self->want, len);
	EXPECT_GT(15, ok);
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, blk_write(self->q, 32 * 2048, self->want, len));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &st));
	EXPECT_LE(1, st.errors);
	/* what is there can be read and written, holes read */
	prng_fill(&self->rnd, self->want, len);
	EXPECT_EQ(0, blk_write(self->q, 0, self->want, len));
	EXPECT_EQ(0, blk_read(self->q, 0, self->got, len));
	EXPECT_EQ(0, memcmp(self->want, self->got, len));
	EXPECT_EQ(0, blk_read(self->q, 40 * 2048, self->got, len));
	EXPECT_TRUE(mem_is(self->got, 0, len));
	EXPECT_EQ(0, blk_flush(self->q));
	/* and it goes on when there is space again */
	ASSERT_EQ(0, unlink(self->path));
	EXPECT_EQ(0, blk_write(self->q, 32 * 2048, self->want, len));
	ASSERT_EQ(0, blkdev_peek(&self->disk, 32 * 2048, self->got, len));
	EXPECT_EQ(0, memcmp(self->want, self->got, len));
}

/* A frozen filesystem makes writes wait, and nothing else. */
TEST_F(image, writes_wait_while_the_filesystem_is_frozen)
{
	char dir[128];
	struct req r;

	snprintf(dir, sizeof(dir), "%.*s",
		 (int)(strrchr(self->disk.path, '/') - self->disk.path), self->disk.path);
	prng_fill(&self->rnd, self->want, 4096);
	ASSERT_EQ(0, blk_write(self->q, 0, self->want, 4096));
	ASSERT_EQ(0, run("fsfreeze -f %s", dir));
	req_init(&r, VIRTIO_BLK_T_OUT, 8, 4096);
	ASSERT_EQ(0, req_build(&self->d.mem, &r));
	req_put_data(&r, self->want);
	EXPECT_LE(0, req_add(self->q, &r));
	vq_kick(self->q);
	EXPECT_EQ(-ETIMEDOUT, vq_wait(self->q, 200));
	EXPECT_EQ(0, blk_read(self->q, 0, self->got, 4096));
	EXPECT_EQ(0, memcmp(self->want, self->got, 4096));
	ASSERT_EQ(0, run("fsfreeze -u %s", dir));
	EXPECT_EQ(0, req_wait_n(self->q, 1, REQ_TIMEOUT_MS));
	EXPECT_EQ(VIRTIO_BLK_S_OK, r.status);
	req_free(&r);
	ASSERT_EQ(0, blkdev_peek(&self->disk, 8, self->got, 4096));
	EXPECT_EQ(0, memcmp(self->want, self->got, 4096));
}

/* Errno when ring 1 is given @path. */
static int attach_error(struct vdev *d, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC), r;

	if (fd < 0)
		return -EIO;
	r = vdev_file(d, VHOST_BLK_SET_BACKEND, 1, fd);
	if (!r)
		vdev_file(d, VHOST_BLK_SET_BACKEND, 1, -1);
	close(fd);
	return r;
}

static int set_flags(const char *path, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), old, r;

	if (fd < 0)
		return -1;
	r = ioctl(fd, FS_IOC_GETFLAGS, &old);
	if (!r) {
		flags |= old & ~(FLAG_APPEND | FLAG_IMMUTABLE);
		r = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
	close(fd);
	return r;
}

TEST_F(image, files_that_cannot_be_a_disk_are_refused)
{
	struct vq *second;
	char dir[160];
	int fd;

	ASSERT_EQ(0, vq_setup(&self->d, 1, RING_SIZE, &second));
	fd = open(self->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	memset(self->want, 0x5a, MB);
	ASSERT_EQ(MB, write(fd, self->want, MB));
	ASSERT_EQ(0, fsync(fd));
	close(fd);
	EXPECT_EQ(0, attach_error(&self->d, self->path, O_RDWR));
	EXPECT_EQ(0, attach_error(&self->d, self->path, O_RDONLY));
	EXPECT_EQ(-EBADF, attach_error(&self->d, self->path, O_WRONLY));
	ASSERT_EQ(0, set_flags(self->path, FLAG_APPEND));
	EXPECT_EQ(-EPERM, attach_error(&self->d, self->path, O_RDONLY));
	ASSERT_EQ(0, set_flags(self->path, 0));
	ASSERT_EQ(0, run("mkswap %s", self->path));
	ASSERT_EQ(0, swapon(self->path, 0)) {
		TH_LOG("swapon: %s", strerror(errno));
	}
	EXPECT_EQ(-ETXTBSY, attach_error(&self->d, self->path, O_RDWR));
	EXPECT_EQ(0, swapoff(self->path));
	EXPECT_EQ(0, attach_error(&self->d, self->path, O_RDWR));
	snprintf(dir, sizeof(dir), "%.*s",
		 (int)(strrchr(self->disk.path, '/') - self->disk.path), self->disk.path);
	EXPECT_EQ(-ENOTBLK, attach_error(&self->d, dir, O_RDONLY));
}

/* It becomes one while the guest uses it: no write of the guest's gets there. */
TEST_F(image, a_swap_file_is_not_written)
{
	struct vq *second;
	int fd;

	fd = open(self->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(MB, write(fd, self->want, MB));
	ASSERT_EQ(0, run("mkswap %s", self->path));
	ASSERT_EQ(0, vq_setup(&self->d, 1, RING_SIZE, &second));
	ASSERT_EQ(0, vq_start(second, fd));
	prng_fill(&self->rnd, self->want, 4096);
	ASSERT_EQ(0, swapon(self->path, 0));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, blk_write(second, 64, self->want, 4096));
	EXPECT_EQ(0, swapoff(self->path));
	EXPECT_EQ(0, blk_write(second, 64, self->want, 4096));
	EXPECT_EQ(0, vq_stop(second));
	close(fd);
}

TEST_F(image, an_immutable_file_is_a_read_only_disk)
{
	struct vhost_blk_limits lim = { .fd = self->disk.fd };

	prng_fill(&self->rnd, self->want, 4096);
	ASSERT_EQ(0, blk_write(self->q, 0, self->want, 4096));
	ASSERT_EQ(0, set_flags(self->disk.path, FLAG_IMMUTABLE));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, blk_write(self->q, 0, self->got, 4096));
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &lim));
	EXPECT_EQ(VHOST_BLK_LIMIT_READ_ONLY, lim.flags & VHOST_BLK_LIMIT_READ_ONLY);
	EXPECT_EQ(0, blk_read(self->q, 0, self->got, 4096));
	EXPECT_EQ(0, memcmp(self->want, self->got, 4096));
	ASSERT_EQ(0, set_flags(self->disk.path, 0));
	EXPECT_EQ(0, blk_write(self->q, 0, self->got, 4096));
}

/* Whatever the descriptor says: requests have a position. */
TEST_F(image, append_mode_does_not_move_writes)
{
	struct stat st;
	int fd = open(self->disk.path, O_RDWR | O_APPEND | O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vq_start(self->q, fd));
	close(fd);
	prng_fill(&self->rnd, self->want, 65536);
	ASSERT_EQ(0, blk_write(self->q, 256, self->want, 65536));
	ASSERT_EQ(0, blk_ranges(self->q, VIRTIO_BLK_T_WRITE_ZEROES,
				&(struct virtio_blk_discard_write_zeroes){ 264, 8, 0 }, 1));
	memset(self->want + 4096, 0, 4096);
	ASSERT_EQ(0, blkdev_peek(&self->disk, 256, self->got, 65536));
	EXPECT_EQ(0, memcmp(self->want, self->got, 65536));
	ASSERT_EQ(0, fstat(self->disk.check, &st));
	EXPECT_EQ(BLKDEV_SIZE, st.st_size);
}

TEST_F(image, an_encrypted_file_is_refused)
{
	struct {
		struct fscrypt_add_key_arg arg;
		uint8_t raw[64];
	} key = {
		.arg.key_spec.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER,
		.arg.raw_size = sizeof(key.raw),
	};
	struct fscrypt_policy_v2 policy = {
		.version = FSCRYPT_POLICY_V2,
		.contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
		.filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
		.flags = FSCRYPT_POLICY_FLAGS_PAD_32,
	};
	struct vq *second;
	char file[192];
	int fd;

	if (variant->kind == BLKDEV_XFS || variant->kind == BLKDEV_XFS_4K)
		SKIP(return, "XFS has no encryption");
	ASSERT_EQ(0, mkdir(self->path, 0700));
	fd = open(self->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	prng_fill(&self->rnd, key.raw, sizeof(key.raw));
	if (ioctl(fd, FS_IOC_ADD_ENCRYPTION_KEY, &key)) {
		rmdir(self->path);
		close(fd);
		SKIP(return, "this kernel cannot encrypt files");
	}
	memcpy(policy.master_key_identifier, key.arg.key_spec.u.identifier,
	       sizeof(policy.master_key_identifier));
	ASSERT_EQ(0, ioctl(fd, FS_IOC_SET_ENCRYPTION_POLICY, &policy));
	close(fd);
	snprintf(file, sizeof(file), "%s/disk", self->path);
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, ftruncate(fd, MB));
	close(fd);
	ASSERT_EQ(0, vq_setup(&self->d, 1, RING_SIZE, &second));
	EXPECT_EQ(-EOPNOTSUPP, attach_error(&self->d, file, O_RDWR));
	EXPECT_EQ(0, unlink(file));
	EXPECT_EQ(0, rmdir(self->path));
}

TEST(files_in_memory_are_refused)
{
	struct vdev d;
	struct vq *q;
	int fd;

	ASSERT_EQ(0, vdev_open(&d, FEATURES, MB));
	ASSERT_EQ(0, vq_setup(&d, 0, RING_SIZE, &q));
	fd = memfd_create("vhost-blk-test", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, MB));
	EXPECT_EQ(-EOPNOTSUPP, vq_start(q, fd));
	close(fd);
	fd = open("/proc/self/status", O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EOPNOTSUPP, vq_start(q, fd));
	close(fd);
	vdev_close(&d);
}

SUITE_MAIN
