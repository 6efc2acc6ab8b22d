// SPDX-License-Identifier: GPL-2.0
/*
 * Make a block device in user space, see vduse.h. The process that plays it lives
 * on after the test that needed it first: the disk belongs to all. What it holds
 * and how it was used is in a file that all of them map.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/vduse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>

#include "blkdev.h"
#include "util.h"
#include "vduse.h"

#define CONTROL		"/dev/vduse/control"
/*
 * Never full: virtio_blk would kick with its lock held, which closes a circle of
 * locks in the VDUSE of Linux 7.3.
 */
#define RING		1024
#define BIT64(n)	(1ULL << (n))
#define FEATURES	(BIT64(VIRTIO_F_VERSION_1) |			\
			 BIT64(VIRTIO_F_ACCESS_PLATFORM) |		\
			 BIT64(VIRTIO_BLK_F_SEG_MAX) |			\
			 BIT64(VIRTIO_BLK_F_BLK_SIZE) |			\
			 BIT64(VIRTIO_BLK_F_DISCARD) |			\
			 BIT64(VIRTIO_BLK_F_WRITE_ZEROES) |		\
			 BIT64(VIRTIO_BLK_F_SECURE_ERASE))

static void dev_name(char *name, size_t size, unsigned int block)
{
	snprintf(name, size, "vbt-erase-%u", block);
}

static void file_name(char *path, size_t size, unsigned int block)
{
	const char *dir = getenv("TMPDIR");

	snprintf(path, size, "%.80s/vbt-erase-%u", dir ? dir : "/tmp", block);
}

static struct vduse_shared *shared_map(unsigned int block, int flags)
{
	const size_t size = sizeof(struct vduse_shared) + BLKDEV_SIZE;
	struct vduse_shared *s = MAP_FAILED;
	char path[128];
	int fd;

	file_name(path, sizeof(path), block);
	fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
	if (fd >= 0 && (!(flags & O_CREAT) || !ftruncate(fd, size)))
		s = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	return s == MAP_FAILED ? NULL : s;
}

static void shared_unmap(struct vduse_shared *s)
{
	munmap(s, sizeof(*s) + BLKDEV_SIZE);
}

static int create(const char *name, unsigned int block)
{
	struct {
		struct vduse_dev_config dev;
		struct virtio_blk_config blk;
	} c = {
		.dev = {
			.vendor_id = 0x1af4, .device_id = VIRTIO_ID_BLOCK,
			.features = FEATURES, .vq_num = 1, .vq_align = 4096,
			.config_size = sizeof(c.blk),
		},
		.blk = {
			.capacity = BLKDEV_SIZE / 512, .seg_max = 32,
			.blk_size = block,
			.max_discard_sectors = VDUSE_RANGE_SECTORS,
			.max_discard_seg = VDUSE_SEGS,
			.discard_sector_alignment = VDUSE_ERASE_ALIGN,
			.max_write_zeroes_sectors = VDUSE_RANGE_SECTORS,
			.max_write_zeroes_seg = VDUSE_SEGS,
			.max_secure_erase_sectors = VDUSE_RANGE_SECTORS,
			.max_secure_erase_seg = VDUSE_SEGS,
			.secure_erase_sector_alignment = VDUSE_ERASE_ALIGN,
		},
	};
	uint64_t version = VDUSE_API_VERSION;
	int fd = open(CONTROL, O_RDWR | O_CLOEXEC), r = 0;

	snprintf(c.dev.name, sizeof(c.dev.name), "%s", name);
	if (fd < 0)
		return blkdev_fail(-ENODEV, "VDUSE is not available");
	if (ioctl(fd, VDUSE_SET_API_VERSION, &version) ||
	    (ioctl(fd, VDUSE_CREATE_DEV, &c) && errno != EEXIST))
		r = blkdev_fail(-errno, "VDUSE makes no device");
	close(fd);
	return r;
}

static int set_up(const char *name, int *fd, int *kick)
{
	struct vduse_vq_config vq = { .index = 0, .max_size = RING };
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/dev/vduse/%.40s", name);
	r = blkdev_wait(path);
	if (r)
		return r;
	*fd = open(path, O_RDWR | O_CLOEXEC);
	*kick = eventfd(0, EFD_CLOEXEC);
	if (*fd < 0 || *kick < 0 || ioctl(*fd, VDUSE_VQ_SETUP, &vq))
		r = blkdev_fail(-errno, "VDUSE sets no device up");
	return r;
}

/* Away from the test, whose end is not the device's. */
static void become_device(int fd, int kick, struct vduse_shared *s)
{
	int null = open("/dev/null", O_RDWR), i;

	setsid();
	for (i = 0; i < 3; i++)
		dup2(null, i);
	for (; i < 1024; i++)
		if (i != fd && i != kick)
			close(i);
	vduse_serve(fd, kick, s);
}

static int start(const char *name, struct vduse_shared *s)
{
	int fd = -1, kick = -1, r = set_up(name, &fd, &kick);

	if (!r) {
		s->pid = fork();
		if (!s->pid)
			become_device(fd, kick, s);
		if (s->pid < 0)
			r = blkdev_fail(-errno, "the device cannot be started");
	}
	if (fd >= 0)
		close(fd);
	if (kick >= 0)
		close(kick);
	return r;
}

/* The disk that virtio_blk made of it. */
static int find(const char *name, char *path, size_t size)
{
	char pattern[128];
	glob_t found = { 0 };
	int r = -ENOENT;

	snprintf(pattern, sizeof(pattern),
		 "/sys/bus/vdpa/devices/%.40s/virtio*/block/*", name);
	if (!glob(pattern, 0, NULL, &found) && found.gl_pathc) {
		snprintf(path, size, "/dev/%.63s",
			 strrchr(found.gl_pathv[0], '/') + 1);
		r = 0;
	}
	globfree(&found);
	return r;
}

static int make(const char *name, unsigned int block)
{
	struct vduse_shared *s;
	int r;

	if (run("modprobe -a vduse virtio_vdpa virtio_blk"))
		return blkdev_fail(-ENODEV, "VDUSE is not available");
	if (run("command -v vdpa"))
		return blkdev_fail(-ENODEV, "vdpa is not installed");
	s = shared_map(block, O_CREAT | O_TRUNC);
	if (!s)
		return blkdev_fail(-errno, "no memory for a device");
	r = create(name, block);
	if (!r)
		r = start(name, s);
	shared_unmap(s);
	if (!r && run("vdpa dev add name %s mgmtdev vduse", name))
		r = blkdev_fail(-EIO, "vdpa adds no device");
	return r;
}

static void remove_one(unsigned int block)
{
	char name[32], path[128], conf[VDUSE_NAME_MAX] = "";
	struct vduse_shared *s = shared_map(block, 0);
	int fd;

	if (!s)
		return;
	dev_name(name, sizeof(name), block);
	run("vdpa dev del %s", name);
	if (s->pid > 0)
		kill(s->pid, SIGTERM);
	/* It is free a moment after its process is gone. */
	fd = open(CONTROL, O_RDWR | O_CLOEXEC);
	snprintf(conf, sizeof(conf), "%s", name);
	for (int i = 0; i < 100 && fd >= 0; i++) {
		if (!ioctl(fd, VDUSE_DESTROY_DEV, conf) || errno != EBUSY)
			break;
		sleep_ms(20);
	}
	if (fd >= 0)
		close(fd);
	shared_unmap(s);
	file_name(path, sizeof(path), block);
	unlink(path);
}

int vduse_make(unsigned int block, char *path, size_t size)
{
	unsigned int tries = 250;
	char name[32];
	int r;

	dev_name(name, sizeof(name), block);
	if (!find(name, path, size))
		return 0;
	r = make(name, block);
	while (!r && find(name, path, size)) {
		if (!tries--)
			r = blkdev_fail(-ENXIO, "no disk of the VDUSE device");
		sleep_ms(20);
	}
	if (r)
		remove_one(block);
	return r ? r : blkdev_wait(path);
}

void vduse_remove_all(void)
{
	remove_one(512);
	remove_one(4096);
}

int vduse_erased(unsigned int block)
{
	struct vduse_shared *s = shared_map(block, 0);
	int n;

	if (!s)
		return -ENOENT;
	n = __atomic_load_n(&s->erased, __ATOMIC_ACQUIRE);
	shared_unmap(s);
	return n;
}

int vduse_answer(unsigned int block, unsigned char status)
{
	struct vduse_shared *s = shared_map(block, 0);

	if (!s)
		return -ENOENT;
	s->answer = status;
	__atomic_store_n(&s->erased, 0, __ATOMIC_RELEASE);
	shared_unmap(s);
	return 0;
}

int vduse_put(unsigned int block, uint64_t sector, const void *buf, size_t len)
{
	struct vduse_shared *s = shared_map(block, 0);

	if (!s)
		return -ENOENT;
	memcpy(s->disk + sector * 512, buf, len);
	shared_unmap(s);
	return 0;
}
