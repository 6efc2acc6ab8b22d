// SPDX-License-Identifier: GPL-2.0
/* Disks for the tests, see blkdev.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/fs.h>
#include <linux/loop.h>

#include "blkdev.h"
#include "util.h"
#include "vduse.h"

#define NULLB "/sys/kernel/config/nullb"
#define NUMBER(n) NUMBER_(n)
#define NUMBER_(n) #n
#define LOOP_NR 177	/* ours, unlikely to be anybody else's */
#define LOOP_PATH "/dev/loop177"

static char why[256];

const char *blkdev_why(void)
{
	return why;
}

int blkdev_fail(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return err;
}

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

/* A device node may come a moment after its disk. */
int blkdev_wait(const char *path)
{
	unsigned int i;

	for (i = 0; i < 500; i++) {
		if (exists(path))
			return 0;
		sleep_ms(10);
	}
	return blkdev_fail(-ENXIO, "%s did not appear", path);
}

static int write_attr(const char *dir, const char *attr, const char *value)
{
	char path[256];
	int fd, r = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, attr);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return blkdev_fail(-errno, "null_blk has no %s", attr);
	if (write(fd, value, strlen(value)) < 0)
		r = blkdev_fail(-errno, "null_blk refuses %s=%s", attr, value);
	close(fd);
	return r;
}

int blkdev_make_null(const char *name, const struct null_attr *attr)
{
	static const struct null_attr common[] = {
		{ "size", "64" }, { "memory_backed", "1" }, { "blocksize", "512" },
		{ "queue_mode", "2" }, { "irqmode", "0" }, { "submit_queues", "2" },
		{ NULL, NULL },
	};
	char dir[128], path[128];
	int r = 0;

	snprintf(path, sizeof(path), "/dev/%s", name);
	if (exists(path))
		return 0;
	if (!exists(NULLB)) {
		run("modprobe configfs; modprobe null_blk nr_devices=0");
		if (!exists(NULLB))
			run("mount -t configfs none /sys/kernel/config");
		if (!exists(NULLB))
			return blkdev_fail(-ENODEV, "null_blk is not available");
	}
	snprintf(dir, sizeof(dir), NULLB "/%s", name);
	if (mkdir(dir, 0755) && errno != EEXIST)
		return blkdev_fail(-errno, "cannot make %s", dir);
	for (const struct null_attr *a = common; a->name && !r; a++)
		r = write_attr(dir, a->name, a->value);
	for (; attr && attr->name && !r; attr++)
		r = write_attr(dir, attr->name, attr->value);
	if (!r)
		r = write_attr(dir, "power", "1");
	return r ? r : blkdev_wait(path);
}

static int loop_set_up(const char *path, const char *name)
{
	struct loop_config conf = { .info.lo_file_name = "vhost-blk-test" };
	int file, loop, r = 0;

	file = name ? open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600) :
		      memfd_create("vhost-blk-test", MFD_CLOEXEC);
	loop = open(path, O_RDWR | O_CLOEXEC);
	conf.fd = file;
	if (file < 0 || loop < 0 || ftruncate(file, BLKDEV_SIZE) ||
	    ioctl(loop, LOOP_CONFIGURE, &conf))
		r = blkdev_fail(-errno, "cannot set a loop device up");
	if (file >= 0)
		close(file);
	if (loop >= 0)
		close(loop);
	return r;
}

/* Over the file of that name, or over one in memory that has none. */
int blkdev_make_loop(unsigned int nr, const char *name)
{
	char path[32];
	int ctl, r = 0;

	if (file_number("/sys/block/loop%u/size", nr) > 0)
		return 0;
	run("modprobe loop");
	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		return blkdev_fail(-ENODEV, "loop is not available");
	if (ioctl(ctl, LOOP_CTL_ADD, nr) < 0 && errno != EEXIST)
		r = blkdev_fail(-errno, "cannot add a loop device");
	close(ctl);
	snprintf(path, sizeof(path), "/dev/loop%u", nr);
	if (!r)
		r = blkdev_wait(path);
	return r ? r : loop_set_up(path, name);
}

/* Without udev's help: the node is there when the command returns. */
#define DMSETUP "DM_DISABLE_UDEV=1 dmsetup "

int blkdev_make_dm(const char *name, const char *module, const char *table)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/mapper/%s", name);
	if (exists(path))
		return 0;
	if (run("command -v dmsetup"))
		return blkdev_fail(-ENODEV, "dmsetup is not installed");
	run("modprobe -a dm_mod %s", module);
	if (run("printf '%%b' '%s' | " DMSETUP "create %s", table, name))
		return blkdev_fail(-ENODEV, "dmsetup cannot make %s", name);
	return blkdev_wait(path);
}

static int dm_over_null(const char *name, const char *module,
			const char *under, const char *fmt, ...)
{
	char table[512];
	va_list ap;
	int r;

	r = blkdev_make_null(under, NULL);
	if (r)
		return r;
	va_start(ap, fmt);
	vsnprintf(table, sizeof(table), fmt, ap);
	va_end(ap);
	return blkdev_make_dm(name, module, table);
}

/* BLKDEV_BAD_* is another target, and all else linear. name: "vbt-..." */
static int dm_with_odd_part(const char *name, const char *module, const char *odd)
{
	unsigned long long end = BLKDEV_BAD_SECTOR + BLKDEV_BAD_COUNT;
	unsigned long long sectors = BLKDEV_SIZE / 512;
	char under[32];

	snprintf(under, sizeof(under), "vbt-under-%s", name + strlen("vbt-"));
	return dm_over_null(name, module, under,
			    "0 %u linear /dev/%s 0\\n%u %u %s\\n%llu %llu linear /dev/%s %llu",
			    BLKDEV_BAD_SECTOR, under, BLKDEV_BAD_SECTOR,
			    BLKDEV_BAD_COUNT, odd, end, sectors - end, under, end);
}

static int make(struct blkdev *b)
{
	static const struct null_attr block_4k[] = {
		{ "blocksize", "4096" }, { NULL, NULL },
	};
	static const struct null_attr small[] = {
		{ "max_sectors", "8" }, { "virt_boundary", "1" }, { NULL, NULL },
	};
	static const struct null_attr softirq[] = {
		{ "irqmode", "1" }, { NULL, NULL },
	};
	static const struct null_attr timer[] = {
		{ "irqmode", "2" }, { "completion_nsec", "2000000" },
		{ NULL, NULL },
	};
	static const struct null_attr few[] = {
		{ "irqmode", "2" }, { "completion_nsec", "10000000" },
		{ "submit_queues", "1" }, { "hw_queue_depth", "4" }, { "poll_queues", "0" },
		{ NULL, NULL },
	};
	static const struct null_attr timer_30us[] = {
		{ "irqmode", "2" }, { "completion_nsec", "30000" },
		{ NULL, NULL },
	};
	static const struct null_attr timer_60us[] = {
		{ "irqmode", "2" }, { "completion_nsec", "60000" },
		{ NULL, NULL },
	};
	static const struct null_attr zoned[] = {
		{ "zoned", "1" }, { "zone_size", "4" }, { NULL, NULL },
	};
	static const struct null_attr discard[] = {
		{ "discard", "1" }, { NULL, NULL },
	};
	static const struct null_attr discard_4k[] = {
		{ "discard", "1" }, { "blocksize", "4096" }, { NULL, NULL },
	};
	static const struct null_attr cache[] = {
		{ "cache_size", "32" }, { "discard", "1" }, { NULL, NULL },
	};
	static const struct null_attr no_fua[] = {
		{ "cache_size", "32" }, { "discard", "1" }, { "fua", "0" },
		{ NULL, NULL },
	};
	static const struct null_attr zoned_conv[] = {
		{ "zoned", "1" }, { "zone_size", "4" }, { "zone_capacity", "3" },
		{ "zone_nr_conv", "4" }, { NULL, NULL },
	};
	static const struct null_attr zoned_4k[] = {
		{ "blocksize", "4096" }, { "zoned", "1" }, { "zone_size", "4" },
		{ "size", "62" }, { NULL, NULL },
	};
	static const struct null_attr zoned_emulated[] = {
		{ "zoned", "1" }, { "zone_size", "4" },
		{ "zone_append_max_sectors", "0" }, { NULL, NULL },
	};
	static const struct null_attr zoned_limited[] = {
		{ "zoned", "1" }, { "zone_size", "4" },
		{ "zone_max_open", NUMBER(BLKDEV_ZONED_OPEN) },
		{ "zone_max_active", NUMBER(BLKDEV_ZONED_ACTIVE) }, { NULL, NULL },
	};
	const unsigned long long sectors = BLKDEV_SIZE / 512;
	const char *dev = "/dev/", *env;
	const char *name = NULL;
	char odd[64];
	int r = 0;

	switch (b->kind) {
	case BLKDEV_NULL_512:
		r = blkdev_make_null(name = "vbt-512", NULL);
		break;
	case BLKDEV_NULL_4K:
		r = blkdev_make_null(name = "vbt-4k", block_4k);
		break;
	case BLKDEV_NULL_SMALL:
		r = blkdev_make_null(name = "vbt-small", small);
		break;
	case BLKDEV_NULL_SOFTIRQ:
		r = blkdev_make_null(name = "vbt-softirq", softirq);
		break;
	case BLKDEV_NULL_TIMER:
		r = blkdev_make_null(name = "vbt-timer", timer);
		break;
	case BLKDEV_NULL_FEW:
		r = blkdev_make_null(name = "vbt-few", few);
		break;
	case BLKDEV_NULL_30US:
		r = blkdev_make_null(name = "vbt-30us", timer_30us);
		break;
	case BLKDEV_NULL_60US:
		r = blkdev_make_null(name = "vbt-60us", timer_60us);
		break;
	case BLKDEV_NULL_RO:
		r = blkdev_make_null(name = "vbt-ro", NULL);
		break;
	case BLKDEV_NULL_DISCARD:
		r = blkdev_make_null(name = "vbt-discard", discard);
		break;
	case BLKDEV_NULL_4K_DISCARD:
		r = blkdev_make_null(name = "vbt-4k-discard", discard_4k);
		break;
	case BLKDEV_NULL_CACHE:
		r = blkdev_make_null(name = "vbt-cache", cache);
		break;
	case BLKDEV_NULL_NO_FUA:
		r = blkdev_make_null(name = "vbt-no-fua", no_fua);
		break;
	case BLKDEV_ZONED:
		r = blkdev_make_null(name = "vbt-zoned", zoned);
		break;
	case BLKDEV_ZONED_CONV:
		r = blkdev_make_null(name = "vbt-conv", zoned_conv);
		break;
	case BLKDEV_ZONED_4K:
		r = blkdev_make_null(name = "vbt-zoned-4k", zoned_4k);
		break;
	case BLKDEV_ZONED_EMULATED:
		r = blkdev_make_null(name = "vbt-emulated", zoned_emulated);
		break;
	case BLKDEV_ZONED_LIMITED:
		r = blkdev_make_null(name = "vbt-limited", zoned_limited);
		break;
	case BLKDEV_LOOP:
		r = blkdev_make_loop(LOOP_NR, NULL);
		name = strrchr(LOOP_PATH, '/') + 1;
		break;
	case BLKDEV_NVME:
		env = getenv("VHOST_BLK_TEST_NVME");
		if (!env || strncmp(env, dev, strlen(dev)))
			return blkdev_fail(-ENODEV,
					   "VHOST_BLK_TEST_NVME names no scratch NVMe disk");
		name = env + strlen(dev);
		r = blkdev_wait(env);
		break;
	case BLKDEV_CRYPT:
		dev = "/dev/mapper/";
		r = dm_over_null(name = "vbt-crypt", "dm_crypt", "vbt-under-crypt",
				 "0 %llu crypt aes-xts-plain64 %064d 0 /dev/vbt-under-crypt 0",
				 sectors, 1);
		break;
	case BLKDEV_HOLD:
		dev = "/dev/mapper/";
		r = dm_over_null(name = "vbt-hold", "", "vbt-under-hold",
				 "0 %llu linear /dev/vbt-under-hold 0", sectors);
		break;
	case BLKDEV_BAD:
		dev = "/dev/mapper/";
		r = dm_with_odd_part(name = "vbt-bad", "", "error");
		break;
	case BLKDEV_SLOW:
		dev = "/dev/mapper/";
		snprintf(odd, sizeof(odd), "delay /dev/vbt-under-slow %u %u",
			 BLKDEV_BAD_SECTOR, BLKDEV_SLOW_MS);
		r = dm_with_odd_part(name = "vbt-slow", "dm_delay", odd);
		break;
	case BLKDEV_ERASE:
		return vduse_make(512, b->path, sizeof(b->path));
	case BLKDEV_ERASE_4K:
		return vduse_make(4096, b->path, sizeof(b->path));
	default:
		return stack_make(b->kind, b->path, sizeof(b->path));
	}
	if (r)
		return r;
	snprintf(b->path, sizeof(b->path), "%s%s", dev, name);
	return 0;
}

/* The name in /sys/block: a mapper node is a link or a copy of dm-N. */
static int find_name(struct blkdev *b)
{
	struct stat st;
	char link[64], target[256];
	ssize_t n;

	if (fstat(b->fd, &st))
		return -errno;
	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(st.st_rdev),
		 minor(st.st_rdev));
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	snprintf(b->name, sizeof(b->name), "%.31s", strrchr(target, '/') + 1);
	return 0;
}

/* A file has the blocks of the disk that it lies on. */
static int learn_file(struct blkdev *b, const struct stat *st)
{
	b->sectors = st->st_size / 512;
	b->block = file_number("/sys/dev/block/%u:%u/queue/logical_block_size",
			       major(st->st_dev), minor(st->st_dev));
	return 0;
}

static int learn(struct blkdev *b)
{
	struct stat st;

	if (fstat(b->fd, &st))
		return -1;
	if (S_ISREG(st.st_mode))
		return learn_file(b, &st);
	if (ioctl(b->fd, BLKGETSIZE64, &b->sectors) ||
	    ioctl(b->fd, BLKSSZGET, &b->block))
		return -1;
	b->sectors /= 512;
	return find_name(b);
}

int blkdev_open(struct blkdev *b, enum blkdev_kind kind)
{
	int r, ro = kind == BLKDEV_NULL_RO;

	memset(b, 0, sizeof(*b));
	b->kind = kind;
	b->fd = -1;
	b->check = -1;
	r = make(b);
	if (r)
		return r;
	b->fd = open(b->path, (ro ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	b->check = open(b->path, (ro ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	if (b->fd < 0 || b->check < 0)
		return blkdev_fail(-errno, "cannot open %s", b->path);
	if (learn(b))
		return blkdev_fail(-errno, "cannot learn about %s", b->path);
	if (ro && ioctl(b->fd, BLKROSET, &ro))
		return blkdev_fail(-errno, "cannot make %s read-only", b->path);
	return 0;
}

void blkdev_close(struct blkdev *b)
{
	if (b->fd >= 0)
		close(b->fd);
	if (b->check >= 0)
		close(b->check);
	b->fd = -1;
	b->check = -1;
}

void blkdev_remove_all(void)
{
	static const char * const mapped[] = {
		"vbt-crypt", "vbt-hold", "vbt-bad",
	};
	char path[64];
	unsigned int i;
	int fd;

	stack_remove_all();
	vduse_remove_all();
	for (i = 0; i < ARRAY_SIZE(mapped); i++) {
		snprintf(path, sizeof(path), "/dev/mapper/%s", mapped[i]);
		if (exists(path))
			run(DMSETUP "resume %s; " DMSETUP "remove --retry %s",
			    mapped[i], mapped[i]);
	}
	if (exists(LOOP_PATH)) {
		fd = open(LOOP_PATH, O_RDWR | O_CLOEXEC);
		if (fd >= 0) {
			ioctl(fd, LOOP_CLR_FD);
			close(fd);
		}
		fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
		if (fd >= 0) {
			ioctl(fd, LOOP_CTL_REMOVE, LOOP_NR);
			close(fd);
		}
	}
	run("for d in " NULLB "/vbt-*; do rmdir $d; done");
}

/* O_DIRECT wants an aligned buffer. */
static int direct(const struct blkdev *b, uint64_t sector, void *in,
		  const void *out, size_t len)
{
	void *tmp;
	ssize_t n;
	int r = 0;

	if (posix_memalign(&tmp, 4096, len ? len : 1))
		return -ENOMEM;
	if (out) {
		memcpy(tmp, out, len);
		n = pwrite(b->check, tmp, len, sector * 512);
	} else {
		n = pread(b->check, tmp, len, sector * 512);
		if (in && n == (ssize_t)len)
			memcpy(in, tmp, len);
	}
	if (n != (ssize_t)len)
		r = n < 0 ? -errno : -EIO;
	free(tmp);
	return r;
}

int blkdev_peek(const struct blkdev *b, uint64_t sector, void *buf,
		size_t len)
{
	return direct(b, sector, buf, NULL, len);
}

int blkdev_poke(const struct blkdev *b, uint64_t sector, const void *buf,
		size_t len)
{
	return direct(b, sector, NULL, buf, len);
}

int blkdev_hold(const struct blkdev *b)
{
	(void)b;
	return run(DMSETUP "suspend --nolockfs --noflush vbt-hold") ? -EIO : 0;
}

int blkdev_release(const struct blkdev *b)
{
	(void)b;
	return run(DMSETUP "resume vbt-hold") ? -EIO : 0;
}

int blkdev_configure(const struct blkdev *b, const char *attr, uint64_t value)
{
	char dir[128], text[32];

	snprintf(dir, sizeof(dir), NULLB "/%s", b->name);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return write_attr(dir, attr, text);
}

long long blkdev_attr(const struct blkdev *b, const char *attr)
{
	return file_number("/sys/block/%s/%s", b->name, attr);
}

bool blkdev_attr_is(const struct blkdev *b, const char *attr, const char *s)
{
	char path[128], buf[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/%s/%s", b->name, attr);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(buf, sizeof(buf), f))
		buf[0] = '\0';
	fclose(f);
	buf[strcspn(buf, "\n")] = '\0';
	return !strcmp(buf, s);
}
