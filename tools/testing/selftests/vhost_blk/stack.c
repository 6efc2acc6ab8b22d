// SPDX-License-Identifier: GPL-2.0
/*
 * Disks for the tests that are built upon others, see blkdev.h: partition,
 * device mapper, md, NVMe over TCP, files on filesystems.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <linux/raid/md_p.h>
#include <linux/raid/md_u.h>

#include "blkdev.h"
#include "util.h"

#define LOOP_FILE_NR	178
#define MD_NAME		"md177"
#define PORT		"44177"
#define NQN		"vbt"
#define NVMET		"/sys/kernel/config/nvmet"
#define DMSETUP		"DM_DISABLE_UDEV=1 dmsetup "
#define SECTORS		(BLKDEV_SIZE / 512)
/* Not at a multiple of 4096, as in the days of cylinders. */
#define PART_START	63

static const struct null_attr discard[] = {
	{ "discard", "1" }, { NULL, NULL },
};

static const char *tmp_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir ? dir : "/tmp";
}

static int exists(const char *path)
{
	return !access(path, F_OK);
}

static int put(const char *value, const char *fmt, const char *a)
{
	char path[256];
	int fd, r = 0;

	snprintf(path, sizeof(path), fmt, a);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		r = blkdev_fail(-errno, "%s refuses %s", path, value);
	if (fd >= 0)
		close(fd);
	return r;
}

static int part_make(void)
{
	struct blkpg_partition part = {
		.start = PART_START * 512, .length = BLKDEV_SIZE / 2, .pno = 1,
	};
	struct blkpg_ioctl_arg arg = {
		.op = BLKPG_ADD_PARTITION, .datalen = sizeof(part), .data = &part,
	};
	int fd, r = blkdev_make_null("vbt-part", discard);

	if (r || exists("/dev/vbt-part1"))
		return r;
	fd = open("/dev/vbt-part", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, BLKPG, &arg))
		r = blkdev_fail(-errno, "null_blk takes no partition");
	if (fd >= 0)
		close(fd);
	return r ? r : blkdev_wait("/dev/vbt-part1");
}

/* Parts of two disks, the second before the first. */
static void linear_table(char *table, size_t size, unsigned long long sectors)
{
	snprintf(table, size,
		 "0 %llu linear /dev/vbt-linear-2 8\\n%llu %llu linear /dev/vbt-linear-1 24",
		 SECTORS / 8, SECTORS / 8, sectors - SECTORS / 8);
}

static int linear_make(void)
{
	char table[256];
	int r;

	r = blkdev_make_null("vbt-linear-1", discard);
	if (!r)
		r = blkdev_make_null("vbt-linear-2", discard);
	linear_table(table, sizeof(table), SECTORS);
	return r ? r : blkdev_make_dm("vbt-linear", "", table);
}

/* A full pool is an error, not a reason to wait. */
static void pool_table(char *table, size_t size, const char *name,
		       unsigned long long sectors)
{
	snprintf(table, size,
		 "0 %llu thin-pool /dev/%s-meta /dev/%s-data 128 0 1 error_if_no_space",
		 sectors, name, name);
}

/* The volume @name of @sectors, out of a pool of @pool sectors. */
static int thin_make(const char *name, unsigned long long sectors,
		     unsigned long long pool)
{
	char under[64], table[256];
	int r;

	snprintf(under, sizeof(under), "/dev/mapper/%s", name);
	if (exists(under))
		return 0;
	snprintf(under, sizeof(under), "%s-meta", name);
	r = blkdev_make_null(under, NULL);
	snprintf(under, sizeof(under), "%s-data", name);
	if (!r)
		r = blkdev_make_null(under, discard);
	snprintf(under, sizeof(under), "%s-pool", name);
	pool_table(table, sizeof(table), name, pool);
	if (!r)
		r = blkdev_make_dm(under, "dm_thin_pool", table);
	if (!r && run(DMSETUP "message %s 0 \"create_thin 0\"", under))
		r = blkdev_fail(-EIO, "the thin pool makes no volume");
	snprintf(table, sizeof(table), "0 %llu thin /dev/mapper/%s 0", sectors,
		 under);
	return r ? r : blkdev_make_dm(name, "", table);
}

/* Without a superblock, and clean from the start. */
static int raid1_start(int fd)
{
	static const char * const member[] = { "/dev/vbt-raid-1", "/dev/vbt-raid-2" };
	mdu_array_info_t array = {
		.level = 1, .size = BLKDEV_SIZE / 1024, .nr_disks = 2,
		.raid_disks = 2, .not_persistent = 1, .state = 1 << MD_SB_CLEAN,
		.active_disks = 2, .working_disks = 2,
	};
	mdu_disk_info_t disk;
	struct stat st;
	unsigned int i;

	if (ioctl(fd, SET_ARRAY_INFO, &array))
		return -1;
	for (i = 0; i < ARRAY_SIZE(member); i++) {
		if (stat(member[i], &st))
			return -1;
		disk = (mdu_disk_info_t){
			.number = i, .raid_disk = i,
			.major = major(st.st_rdev), .minor = minor(st.st_rdev),
			.state = 1 << MD_DISK_ACTIVE | 1 << MD_DISK_SYNC,
		};
		if (ioctl(fd, ADD_NEW_DISK, &disk))
			return -1;
	}
	return ioctl(fd, RUN_ARRAY, NULL);
}

static int raid1_make(void)
{
	int fd, r;

	if (file_number("/sys/block/" MD_NAME "/size") > 0)
		return 0;
	r = blkdev_make_null("vbt-raid-1", discard);
	if (!r)
		r = blkdev_make_null("vbt-raid-2", discard);
	if (r)
		return r;
	run("modprobe -a md_mod raid1");
	if (!exists("/dev/" MD_NAME) &&
	    put(MD_NAME, "%s", "/sys/module/md_mod/parameters/new_array"))
		return blkdev_fail(-ENODEV, "md is not available");
	r = blkdev_wait("/dev/" MD_NAME);
	if (r)
		return r;
	fd = open("/dev/" MD_NAME, O_RDWR | O_CLOEXEC);
	if (fd < 0 || raid1_start(fd))
		r = blkdev_fail(-errno, "md makes no mirror");
	if (fd >= 0)
		close(fd);
	return r;
}

static void raid1_remove(void)
{
	int fd;

	if (file_number("/sys/block/" MD_NAME "/size") <= 0)
		return;
	fd = open("/dev/" MD_NAME, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ioctl(fd, STOP_ARRAY, NULL);
		close(fd);
	}
}

static int nvmet_make(void)
{
	static const char * const value[][2] = {
		{ "1", "subsystems/" NQN "/attr_allow_any_host" },
		{ "/dev/vbt-nvmet", "subsystems/" NQN "/namespaces/1/device_path" },
		{ "1", "subsystems/" NQN "/namespaces/1/enable" },
		{ "tcp", "ports/177/addr_trtype" },
		{ "ipv4", "ports/177/addr_adrfam" },
		{ "127.0.0.1", "ports/177/addr_traddr" },
		{ PORT, "ports/177/addr_trsvcid" },
	};
	unsigned int i;
	int r = 0;

	if (run("modprobe -a nvmet nvmet_tcp nvme_tcp") || !exists(NVMET))
		return blkdev_fail(-ENODEV, "NVMe over TCP is not available");
	run("ip link set lo up");
	if (run("cd " NVMET " && mkdir -p subsystems/" NQN "/namespaces/1 ports/177"))
		return blkdev_fail(-EIO, "nvmet makes no subsystem");
	for (i = 0; i < ARRAY_SIZE(value) && !r; i++)
		r = put(value[i][0], NVMET "/%s", value[i][1]);
	if (!r && run("ln -s " NVMET "/subsystems/" NQN " " NVMET "/ports/177/subsystems"))
		r = blkdev_fail(-EIO, "nvmet does not listen");
	return r;
}

/*
 * Its namespace, when it is there: nvmeXnY among what the subsystem has, or, if
 * the kernel knows no multipath, among what the controller has.
 */
static int nvme_tcp_find(char *path, size_t size)
{
	glob_t found = { 0 };
	char nqn[256] = "";
	const char *name;
	unsigned int i;
	FILE *f;

	*path = '\0';
	glob("/sys/class/nvme-subsystem/nvme-subsys*/nvme*n*", 0, NULL, &found);
	glob("/sys/class/nvme/nvme*/nvme*n*", GLOB_APPEND, NULL, &found);
	for (i = 0; i < found.gl_pathc && !*path; i++) {
		name = strrchr(found.gl_pathv[i], '/') + 1;
		/* nvmeXcYnZ is one path to it, and no disk */
		if (strchr(name, 'c'))
			continue;
		snprintf(nqn, sizeof(nqn), "%.200s/../subsysnqn", found.gl_pathv[i]);
		f = fopen(nqn, "re");
		if (f && fgets(nqn, sizeof(nqn), f) && !strcmp(nqn, NQN "\n"))
			snprintf(path, size, "/dev/%.63s", name);
		if (f)
			fclose(f);
	}
	globfree(&found);
	return *path ? 0 : -ENOENT;
}

static int nvme_tcp_make(char *path, size_t size)
{
	int r, tries = 100;

	if (!nvme_tcp_find(path, size))
		return 0;
	r = blkdev_make_null("vbt-nvmet", discard);
	if (!r)
		r = nvmet_make();
	if (!r)
		r = put("transport=tcp,traddr=127.0.0.1,trsvcid=" PORT ",nqn=" NQN,
			"%s", "/dev/nvme-fabrics");
	while (!r && nvme_tcp_find(path, size)) {
		if (!tries--)
			return blkdev_fail(-ENXIO, "no namespace over NVMe/TCP");
		sleep_ms(50);
	}
	return r ? r : blkdev_wait(path);
}

static void nvme_tcp_remove(void)
{
	if (!exists(NVMET "/subsystems/" NQN))
		return;
	run("for c in /sys/class/nvme/nvme*; do [ \"$(cat $c/subsysnqn)\" != " NQN
	    " ] || echo 1 >$c/delete_controller; done");
	run("cd " NVMET " && rm -f ports/177/subsystems/" NQN " && rmdir ports/177; "
	    "cd subsystems && echo 0 >" NQN "/namespaces/1/enable; "
	    "rmdir " NQN "/namespaces/1 " NQN);
}

/* Filesystems: each on a null_blk of its name, mounted on a directory of it. */
struct fs {
	enum blkdev_kind kind;
	const char *name, *mkfs;
	const struct null_attr *attr;
};

#define MKFS_EXT4 "mkfs.ext4 -q -F -b 4096 -O encrypt -E nodiscard,lazy_itable_init=0"
#define MKFS_XFS "mkfs.xfs -q -f -K"

static const struct null_attr fs_512[] = {
	{ "size", "320" }, { "discard", "1" }, { NULL, NULL },
};

static const struct null_attr fs_4k[] = {
	{ "size", "320" }, { "blocksize", "4096" }, { NULL, NULL },
};

static const struct null_attr fs_cache[] = {
	{ "size", "320" }, { "cache_size", "64" }, { "discard", "1" },
	{ NULL, NULL },
};

static const struct fs fs_table[] = {
	{ BLKDEV_EXT4, "vbt-ext4", MKFS_EXT4, fs_512 },
	{ BLKDEV_EXT4_4K, "vbt-ext4-4k", MKFS_EXT4, fs_4k },
	{ BLKDEV_EXT4_NO_EXTENTS, "vbt-ext4-map",
	  MKFS_EXT4 " -O ^extents,^64bit", fs_512 },
	{ BLKDEV_XFS, "vbt-xfs", MKFS_XFS, fs_512 },
	{ BLKDEV_XFS_4K, "vbt-xfs-4k", MKFS_XFS " -s size=4096", fs_4k },
	{ BLKDEV_EXT4_CACHE, "vbt-ext4-cache", MKFS_EXT4, fs_cache },
	{ BLKDEV_XFS_CACHE, "vbt-xfs-cache", MKFS_XFS, fs_cache },
};

static const struct fs *fs_find(enum blkdev_kind kind)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fs_table); i++)
		if (fs_table[i].kind == kind)
			return &fs_table[i];
	return NULL;
}

static int fs_mount(const struct fs *fs)
{
	if (run("modprobe -q %.4s; mkdir -p %s/%s && mount /dev/%s %s/%s",
		fs->mkfs + strlen("mkfs."), tmp_dir(), fs->name, fs->name,
		tmp_dir(), fs->name))
		return blkdev_fail(-ENODEV, "cannot mount %s", fs->name);
	return 0;
}

/* An empty file of BLKDEV_SIZE bytes. */
static int fs_make(const struct fs *fs, char *path, size_t size)
{
	int fd, r;

	snprintf(path, size, "%.80s/%s/disk", tmp_dir(), fs->name);
	if (exists(path))
		return 0;
	if (run("command -v %.9s", fs->mkfs))
		return blkdev_fail(-ENODEV, "%.9s is not installed", fs->mkfs);
	r = blkdev_make_null(fs->name, fs->attr);
	if (!r && run("%s /dev/%s", fs->mkfs, fs->name))
		r = blkdev_fail(-EIO, "%.9s fails", fs->mkfs);
	if (!r)
		r = fs_mount(fs);
	if (r)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, BLKDEV_SIZE) || fsync(fd))
		r = blkdev_fail(-errno, "cannot make %s", path);
	if (fd >= 0)
		close(fd);
	/* The directory entry and the size survive whatever comes. */
	sync();
	return r;
}

static void fs_remove(const struct fs *fs)
{
	char dir[128];

	snprintf(dir, sizeof(dir), "%.80s/%s", tmp_dir(), fs->name);
	if (exists(dir))
		run("umount %s; rmdir %s", dir, dir);
}

int stack_make(enum blkdev_kind kind, char *path, size_t size)
{
	const struct fs *fs = fs_find(kind);
	const char *name = NULL;
	char file[128];
	int r = -EINVAL;

	if (fs)
		return fs_make(fs, path, size);
	switch (kind) {
	case BLKDEV_LOOP_FILE:
		snprintf(file, sizeof(file), "%.80s/vbt-loop", tmp_dir());
		r = blkdev_make_loop(LOOP_FILE_NR, file);
		name = "loop178";
		break;
	case BLKDEV_PART:
		r = part_make();
		name = "vbt-part1";
		break;
	case BLKDEV_LINEAR:
		r = linear_make();
		name = "mapper/vbt-linear";
		break;
	case BLKDEV_THIN:
		/* Larger than the pool. */
		r = thin_make("vbt-thin", 2 * SECTORS, SECTORS);
		name = "mapper/vbt-thin";
		break;
	case BLKDEV_THIN_SMALL:
		r = thin_make("vbt-small", SECTORS, BLKDEV_POOL / 512);
		name = "mapper/vbt-small";
		break;
	case BLKDEV_RAID1:
		r = raid1_make();
		name = MD_NAME;
		break;
	case BLKDEV_NVME_TCP:
		return nvme_tcp_make(path, size);
	default:
		break;
	}
	if (!r)
		snprintf(path, size, "/dev/%s", name);
	return r;
}

void stack_remove_all(void)
{
	static const char * const mapped[] = {
		"vbt-linear", "vbt-thin", "vbt-thin-pool",
	};
	char path[128];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fs_table); i++)
		fs_remove(&fs_table[i]);
	nvme_tcp_remove();
	raid1_remove();
	blkdev_remove_pool();
	for (i = 0; i < ARRAY_SIZE(mapped); i++) {
		snprintf(path, sizeof(path), "/dev/mapper/%s", mapped[i]);
		if (exists(path))
			run(DMSETUP "remove --retry %s", mapped[i]);
	}
	if (file_number("/sys/block/loop%u/size", LOOP_FILE_NR) > 0)
		run("losetup -d /dev/loop%u", LOOP_FILE_NR);
	snprintf(path, sizeof(path), "%.80s/vbt-loop", tmp_dir());
	unlink(path);
}

static long long file_allocated(const char *path)
{
	struct stat st;

	return stat(path, &st) ? -1 : st.st_blocks * 512LL;
}

/* dm-thin says how much it has mapped: "0 SECTORS thin MAPPED HIGHEST". */
static long long thin_allocated(void)
{
	long long mapped = -1;
	FILE *f = popen("dmsetup status vbt-thin", "r");

	if (!f)
		return -1;
	if (fscanf(f, "%*d %*d thin %lld", &mapped) != 1)
		mapped = -1;
	pclose(f);
	return mapped < 0 ? -1 : mapped * 512;
}

long long blkdev_allocated(const struct blkdev *b)
{
	char path[128];

	if (b->kind == BLKDEV_THIN)
		return thin_allocated();
	if (fs_find(b->kind))
		return file_allocated(b->path);
	if (b->kind != BLKDEV_LOOP_FILE)
		return -1;
	snprintf(path, sizeof(path), "%.80s/vbt-loop", tmp_dir());
	return file_allocated(path);
}

static int loop_resize(const struct blkdev *b, uint64_t sectors)
{
	char path[128];

	snprintf(path, sizeof(path), "%.80s/vbt-loop", tmp_dir());
	return truncate(path, sectors * 512) ||
	       ioctl(b->check, LOOP_SET_CAPACITY) ? -errno : 0;
}

static int linear_resize(uint64_t sectors)
{
	char table[256];

	linear_table(table, sizeof(table), sectors);
	return run("printf '%%b' '%s' | " DMSETUP "load vbt-linear && " DMSETUP
		   "suspend vbt-linear && " DMSETUP "resume vbt-linear", table) ?
		-EIO : 0;
}

int blkdev_extend_pool(void)
{
	char table[256];

	pool_table(table, sizeof(table), "vbt-small", 2 * BLKDEV_POOL / 512);
	return run("printf '%%b' '%s' | " DMSETUP "load vbt-small-pool && " DMSETUP
		   "suspend vbt-small-pool && " DMSETUP "resume vbt-small-pool",
		   table) ? -EIO : 0;
}

/* With its disks: new ones hold nothing. */
void blkdev_remove_pool(void)
{
	if (!exists("/dev/mapper/vbt-small-pool"))
		return;
	run(DMSETUP "remove --retry vbt-small; " DMSETUP "remove --retry vbt-small-pool; "
	    "rmdir /sys/kernel/config/nullb/vbt-small-meta /sys/kernel/config/nullb/vbt-small-data");
}

int blkdev_resize(struct blkdev *b, uint64_t sectors)
{
	int r = -EOPNOTSUPP;

	if (fs_find(b->kind))
		r = ftruncate(b->check, sectors * 512) ? -errno : 0;
	else if (b->kind == BLKDEV_LOOP_FILE)
		r = loop_resize(b, sectors);
	else if (b->kind == BLKDEV_LINEAR)
		r = linear_resize(sectors);
	if (!r)
		b->sectors = sectors;
	return r;
}

static const char *cached_name(const struct blkdev *b)
{
	const struct fs *fs = fs_find(b->kind);

	return fs ? fs->name : b->name;
}

long long blkdev_flushes(const struct blkdev *b)
{
	long long v[17] = { 0 };
	unsigned int i;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/%s/stat", cached_name(b));
	f = fopen(path, "re");
	if (!f)
		return -1;
	for (i = 0; i < ARRAY_SIZE(v); i++)
		if (fscanf(f, "%lld", &v[i]) != 1)
			break;
	fclose(f);
	return i < 16 ? -1 : v[15];
}

int blkdev_empty(const struct blkdev *b)
{
	uint64_t range[2] = { 0, b->sectors * 512 };
	const struct fs *fs = fs_find(b->kind);

	if (!fs)
		return ioctl(b->check, BLKDISCARD, range) ?
			blkdev_fail(-errno, "%s discards nothing", b->name) : 0;
	/* The blocks of the file are free when the filesystem has said so. */
	if (ftruncate(b->check, 0) || fsync(b->check) ||
	    run("sync; fstrim %s/%s", tmp_dir(), fs->name) ||
	    ftruncate(b->check, b->sectors * 512) || fsync(b->check))
		return blkdev_fail(-EIO, "%s cannot be trimmed", fs->name);
	return 0;
}

/*
 * A filesystem whose disk is taken away in order is synced first. Have it stop
 * where it is, with nothing more written or flushed.
 */
static int fs_stop(const struct fs *fs)
{
	uint32_t how = 2;	/* FS_SHUTDOWN_FLAGS_NOLOGFLUSH */
	char dir[128];
	int fd, r;

	snprintf(dir, sizeof(dir), "%.80s/%s", tmp_dir(), fs->name);
	fd = open(dir, O_RDONLY | O_CLOEXEC);
	/* FS_IOC_SHUTDOWN, and XFS_IOC_GOINGDOWN */
	r = fd < 0 ? -1 : ioctl(fd, _IOR('X', 125, uint32_t), &how);
	if (r)
		r = blkdev_fail(-errno, "%s cannot be stopped", dir);
	if (fd >= 0)
		close(fd);
	return r;
}

int blkdev_power_cut(struct blkdev *b)
{
	const struct fs *fs = fs_find(b->kind);
	char name[32], node[64];
	int r;

	snprintf(name, sizeof(name), "%.31s", cached_name(b));
	blkdev_close(b);
	r = fs ? fs_stop(fs) : 0;
	if (!r)
		r = put("0", "/sys/kernel/config/nullb/%s/power", name);
	if (fs && run("umount %s/%s", tmp_dir(), fs->name))
		return blkdev_fail(-EBUSY, "cannot unmount %s", fs->name);
	if (!r)
		r = put("1", "/sys/kernel/config/nullb/%s/power", name);
	snprintf(node, sizeof(node), "/dev/%s", name);
	if (!r)
		r = blkdev_wait(node);
	if (!r && fs)
		r = fs_mount(fs);
	return r ? r : blkdev_open(b, b->kind);
}
