// SPDX-License-Identifier: GPL-2.0
/*
 * VHOST_BLK_PIN_MEMORY: guest memory that stays pinned. No request pins a page
 * then, the owner is charged, and everything is let go when it has to be.
 */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

#define RING_SIZE	128
#define HIGH_SIZE	(8UL << 20)
#define ALL_SIZE	(HIGH_SIZE + 2 * GMEM_HALF)
#define MAX_DATA	(256u << 10)
#define HUGE_SIZE	(2UL << 20)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

struct pins {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct prng rnd;
	char want[MAX_DATA], got[MAX_DATA];
	struct baseline before;
};

static int pin(const struct vdev *d, uint32_t on)
{
	return vdev_ioctl(d, VHOST_BLK_PIN_MEMORY, &on);
}

static int pins_open(struct pins *s)
{
	int r;

	prng_init(&s->rnd, s->disk.kind);
	r = vdev_open(&s->d, DRIVER_FEATURES, HIGH_SIZE);
	if (!r)
		r = vq_setup(&s->d, 0, RING_SIZE, &s->q);
	return r ? r : vq_start(s->q, s->disk.fd);
}

static uint64_t prepinned(const struct pins *s)
{
	struct vhost_blk_stats stats;

	return vdev_stats(&s->d, 0, &stats) ? UINT64_MAX : stats.prepinned;
}

/* Memory that this process has locked or pinned, in bytes. */
static long long locked(void)
{
	char line[128];
	long long kb = -1;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmLck: %lld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb * 1024;
}

/* Pins taken since boot, in all of the system; 0 where nobody counts. */
static long long pins_taken(void)
{
	char line[128];
	long long n = 0;
	FILE *f;

	/* what the CPUs have not told each other yet */
	run("echo 1 >/proc/sys/vm/stat_refresh");
	f = fopen("/proc/vmstat", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "nr_foll_pin_acquired %lld", &n) == 1)
			break;
	if (f)
		fclose(f);
	return n;
}

/* Write and read back @len bytes in a layout, with the disk's own view between. */
static int pins_io(struct pins *s, const struct req_layout *layout,
		   uint64_t sector, uint32_t len)
{
	struct req r;
	int ret;

	prng_fill(&s->rnd, s->want, len);
	req_init(&r, VIRTIO_BLK_T_OUT, sector, len);
	r.layout = layout;
	ret = req_build(&s->d.mem, &r);
	if (ret)
		return ret;
	req_put_data(&r, s->want);
	ret = req_run(s->q, &r);
	ret = ret ? ret : r.status;
	req_free(&r);
	if (ret)
		return ret;
	ret = blkdev_peek(&s->disk, sector, s->got, len);
	if (ret || memcmp(s->want, s->got, len))
		return ret ? ret : -EILSEQ;

	req_init(&r, VIRTIO_BLK_T_IN, sector, len);
	r.layout = layout;
	ret = req_build(&s->d.mem, &r);
	if (ret)
		return ret;
	ret = req_run(s->q, &r);
	ret = ret ? ret : r.status;
	req_get_data(&r, s->got);
	if (!ret && !req_guards_intact(&r))
		ret = -EFAULT;
	req_free(&r);
	return ret ? ret : memcmp(s->want, s->got, len) ? -EILSEQ : 0;
}

FIXTURE(pin) {
	struct pins s;
};

FIXTURE_VARIANT(pin) {
	enum blkdev_kind kind;
};

FIXTURE_VARIANT_ADD(pin, null_blk) { .kind = BLKDEV_NULL_512 };
FIXTURE_VARIANT_ADD(pin, null_blk_4k) { .kind = BLKDEV_NULL_4K };
FIXTURE_VARIANT_ADD(pin, null_blk_small) { .kind = BLKDEV_NULL_SMALL };
FIXTURE_VARIANT_ADD(pin, nvme) { .kind = BLKDEV_NVME };
FIXTURE_VARIANT_ADD(pin, ext4) { .kind = BLKDEV_EXT4 };

FIXTURE_SETUP(pin)
{
	OPEN_DISK(&self->s.disk, variant->kind);
	self->s.before = baseline_take();
	ASSERT_EQ(0, pins_open(&self->s));
}

FIXTURE_TEARDOWN(pin)
{
	vdev_close(&self->s.d);
	EXPECT_EQ(0, locked());
	blkdev_close(&self->s.disk);
	EXPECT_BASELINE(self->s.before);
}

TEST_F(pin, requests_of_any_layout)
{
	static const struct req_layout layouts[] = {
		{ .name = "plain" },
		{ .name = "sectors", .data_chunk = 512 },
		{ .name = "odd", .data_chunk = 4096, .align = 512, .offset = 512 },
		{ .name = "unaligned", .data_chunk = 4096, .align = 4, .offset = 4 },
		{ .name = "indirect", .data_chunk = 4096, .mode = VQ_INDIRECT },
		{ .name = "border", .border = true },
		{ .name = "one piece", .data_chunk = 4096, .adjacent = true },
	};
	static const uint32_t sizes[] = { 4096, 28672, 262144 };
	struct pins *s = &self->s;
	unsigned int i, j, n = 0;

	ASSERT_EQ(0, pin(&s->d, 1));
	for (i = 0; i < ARRAY_SIZE(layouts); i++) {
		for (j = 0; j < ARRAY_SIZE(sizes); j++) {
			if (layouts[i].data_chunk == 512 && j == 2)
				continue;	/* more than the ring holds */
			EXPECT_EQ(0, pins_io(s, &layouts[i], 64 * n, sizes[j])) {
				TH_LOG("%s, %u bytes", layouts[i].name, sizes[j]);
			}
			n += 2;
		}
	}
	EXPECT_EQ(n, prepinned(s));
}

/* Pins that eight reads of 64 KiB take; nobody else does I/O meanwhile. */
static long long pins_of_reads(struct pins *s)
{
	long long taken = pins_taken();
	unsigned int i;
	struct req r;
	int ret = 0;

	req_init(&r, VIRTIO_BLK_T_IN, 0, 65536);
	if (req_build(&s->d.mem, &r))
		return -1;
	for (i = 0; i < 8 && !ret; i++)
		ret = req_run(s->q, &r) || r.status;
	req_free(&r);
	return ret ? -1 : pins_taken() - taken;
}

TEST_F(pin, nothing_is_pinned_twice)
{
	struct pins *s = &self->s;

	EXPECT_EQ(8 * 16, pins_of_reads(s));
	EXPECT_EQ(0, prepinned(s));
	ASSERT_EQ(0, pin(&s->d, 1));
	EXPECT_EQ(0, pins_of_reads(s));
	EXPECT_EQ(8, prepinned(s));
}

/* Memory in large pages: few vectors, however many pages, so nothing to allocate. */
TEST_F(pin, large_pages_need_no_table)
{
	struct pins *s = &self->s;
	struct vhost_blk_stats stats;
	int tries = 50;

	gmem_alloc(&s->d.mem, HUGE_SIZE, 4096);
	ASSERT_EQ(0, madvise(s->d.mem.base, ALL_SIZE, MADV_POPULATE_WRITE));
	while (madvise(s->d.mem.base, ALL_SIZE, MADV_COLLAPSE) && tries--) {
		if (errno == EINVAL)
			SKIP(return, "the kernel has no transparent huge pages");
		sleep_ms(20);
	}
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, MAX_DATA));
	ASSERT_EQ(0, vdev_stats(&s->d, 0, &stats));
	EXPECT_EQ(2, stats.large);
	EXPECT_EQ(0, stats.prepinned);
	ASSERT_EQ(0, pin(&s->d, 1));
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, MAX_DATA));
	ASSERT_EQ(0, vdev_stats(&s->d, 0, &stats));
	EXPECT_EQ(2, stats.large);
	EXPECT_EQ(2, stats.prepinned);
}

TEST_F(pin, is_charged_once_and_let_go)
{
	struct pins *s = &self->s;

	ASSERT_EQ(0, pin(&s->d, 1));
	EXPECT_EQ(ALL_SIZE, locked());
	ASSERT_EQ(0, pin(&s->d, 1));
	EXPECT_EQ(ALL_SIZE, locked());
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, 65536));
	EXPECT_EQ(2, prepinned(s));
	ASSERT_EQ(0, pin(&s->d, 0));
	EXPECT_EQ(0, locked());
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, 65536));
	EXPECT_EQ(2, prepinned(s));
	ASSERT_EQ(0, pin(&s->d, 0));
	/* what is pinned when the device is closed is seen by the teardown */
	ASSERT_EQ(0, pin(&s->d, 1));
}

TEST_F(pin, a_new_memory_table_lets_go)
{
	struct pins *s = &self->s;

	ASSERT_EQ(0, pin(&s->d, 1));
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, 4096));
	ASSERT_EQ(0, vdev_set_mem(&s->d));
	EXPECT_EQ(0, locked());
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, 4096));
	EXPECT_EQ(2, prepinned(s));
	ASSERT_EQ(0, pin(&s->d, 1));
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, 4096));
	EXPECT_EQ(4, prepinned(s));
}

/* Drop CAP_IPC_LOCK, with which nobody looks at the limit. */
static int drop_ipc_lock(void)
{
	struct __user_cap_header_struct hdr = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &hdr, data))
		return -errno;
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	return syscall(SYS_capset, &hdr, data) ? -errno : 0;
}

TEST_F(pin, beyond_the_limit_is_refused_and_io_goes_on)
{
	struct rlimit limit = { .rlim_cur = ALL_SIZE - 4096,
				.rlim_max = RLIM_INFINITY };
	struct pins *s = &self->s;

	ASSERT_EQ(0, drop_ipc_lock());
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	EXPECT_EQ(-ENOMEM, pin(&s->d, 1));
	EXPECT_EQ(0, locked());
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, 4096));
	EXPECT_EQ(0, prepinned(s));
	limit.rlim_cur = ALL_SIZE;
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	EXPECT_EQ(0, pin(&s->d, 1));
	EXPECT_EQ(ALL_SIZE, locked());
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, 4096));
	EXPECT_EQ(2, prepinned(s));
}

/* The pages that were there are used, also when the address has others now. */
TEST_F(pin, memory_that_is_replaced_is_not_touched)
{
	struct pins *s = &self->s;
	struct req r;
	char *page;

	prng_fill(&s->rnd, s->want, 4096);
	ASSERT_EQ(0, blkdev_poke(&s->disk, 0, s->want, 4096));
	req_init(&r, VIRTIO_BLK_T_IN, 0, 4096);
	ASSERT_EQ(0, req_build(&s->d.mem, &r));
	page = gmem_ptr(&s->d.mem, r.seg[1].addr);
	ASSERT_EQ(0, (uintptr_t)page % 4096);
	ASSERT_EQ(0, pin(&s->d, 1));
	ASSERT_EQ(page, mmap(page, 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(0, req_run(s->q, &r));
	EXPECT_EQ(0, r.status);
	EXPECT_EQ(1, prepinned(s));
	EXPECT_TRUE(mem_is(page, REQ_POISON, 4096));
	ASSERT_EQ(0, pin(&s->d, 0));
	EXPECT_EQ(0, req_run(s->q, &r));
	EXPECT_EQ(0, memcmp(page, s->want, 4096));
	req_free(&r);
}

/* Pinned, let go, and given a new table, while requests are in flight. */
TEST_F(pin, changes_while_requests_are_in_flight)
{
	struct pins *s = &self->s;
	unsigned long i, n = test_scale(200);
	struct req r[16];
	unsigned int j;

	for (j = 0; j < ARRAY_SIZE(r); j++) {
		req_init(&r[j], j & 1 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT,
			 j / 2 * 64, 16384);
		ASSERT_EQ(0, req_build(&s->d.mem, &r[j]));
	}
	for (i = 0; i < n; i++) {
		for (j = 0; j < ARRAY_SIZE(r); j++)
			ASSERT_LE(0, req_add(s->q, &r[j]));
		vq_kick(s->q);
		/* on, off, on, and off by another table */
		ASSERT_EQ(0, i % 4 < 3 ? pin(&s->d, i % 4 != 1) :
					 vdev_set_mem(&s->d));
		ASSERT_EQ(0, req_wait_n(s->q, ARRAY_SIZE(r), REQ_TIMEOUT_MS));
		for (j = 0; j < ARRAY_SIZE(r); j++)
			ASSERT_EQ(0, r[j].status);
	}
	EXPECT_EQ(0, pins_io(s, &layout_plain, 0, 65536));
	for (j = 0; j < ARRAY_SIZE(r); j++)
		req_free(&r[j]);
}

TEST_F(pin, a_killed_owner_lets_go)
{
	struct pins *s = &self->s;
	int status;
	pid_t pid;

	/* Another process' device: this one's owner is us. */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct pins *mine = calloc(1, sizeof(*mine));
		struct req r;

		mine->disk = s->disk;
		if (pins_open(mine) || pin(&mine->d, 1))
			_exit(1);
		req_init(&r, VIRTIO_BLK_T_OUT, 0, MAX_DATA);
		if (req_build(&mine->d.mem, &r) || req_add(mine->q, &r) < 0)
			_exit(2);
		vq_kick(mine->q);
		kill(getpid(), SIGKILL);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_BASELINE(s->before);
}

/* A device with a memory table of our own making. */
static int open_with(struct vdev *d, const void *addr, size_t size)
{
	struct {
		struct vhost_memory m;
		struct vhost_memory_region region;
	} table = {
		.m.nregions = 1,
		.region = { .guest_phys_addr = 0, .memory_size = size,
			    .userspace_addr = (uintptr_t)addr },
	};
	int r = vdev_open(d, DRIVER_FEATURES, HIGH_SIZE);

	return r ? r : vdev_ioctl(d, VHOST_SET_MEM_TABLE, &table);
}

/* vhost core takes any addresses as long as no ring runs. */
TEST(memory_that_goes_round_is_refused)
{
	static const struct vhost_memory_region round[] = {
		{ 1, ~0ULL, 0x1000, 0 },
		{ 1, ~0ULL, 0, 0 },
		{ 0, 0x100000000ULL, ~0xfffffULL, 0 },
		{ 0, 0x1000, ~0xfffULL, 0 },
		{ 0, 0x800, ~0xfffULL, 0 },
	};
	struct {
		struct vhost_memory m;
		struct vhost_memory_region region;
	} table = { .m.nregions = 1 };
	struct vdev d = {};
	unsigned int i;

	d.fd = open(VHOST_BLK_DEV, O_RDWR);
	ASSERT_LE(0, d.fd);
	ASSERT_EQ(0, vdev_ioctl(&d, VHOST_SET_OWNER, NULL));
	for (i = 0; i < ARRAY_SIZE(round); i++) {
		table.region = round[i];
		ASSERT_EQ(0, vdev_ioctl(&d, VHOST_SET_MEM_TABLE, &table));
		EXPECT_EQ(-EFAULT, pin(&d, 1));
		EXPECT_EQ(0, locked());
	}
	close(d.fd);
}

TEST(what_cannot_be_pinned_is_refused)
{
	struct baseline before = baseline_take();
	uint32_t on = 1;
	struct vdev d;
	void *p;

	/* nobody owns it, and then there is no memory table */
	d.ioctl = NULL;
	d.fd = open(VHOST_BLK_DEV, O_RDWR);
	ASSERT_LE(0, d.fd);
	EXPECT_EQ(-EPERM, vdev_ioctl(&d, VHOST_BLK_PIN_MEMORY, &on));
	ASSERT_EQ(0, vdev_ioctl(&d, VHOST_SET_OWNER, NULL));
	EXPECT_EQ(-EINVAL, vdev_ioctl(&d, VHOST_BLK_PIN_MEMORY, &on));
	on = 2;
	EXPECT_EQ(-EINVAL, vdev_ioctl(&d, VHOST_BLK_PIN_MEMORY, &on));
	EXPECT_EQ(-EFAULT, vdev_ioctl(&d, VHOST_BLK_PIN_MEMORY, (void *)8));
	close(d.fd);

	/* memory that may not be written, in part */
	p = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, mprotect((char *)p + (3 << 20), 4096, PROT_READ));
	ASSERT_EQ(0, open_with(&d, p, 4 << 20));
	EXPECT_EQ(-EFAULT, pin(&d, 1));
	EXPECT_EQ(0, locked());
	vdev_close(&d);

	/* memory that is not there */
	ASSERT_EQ(0, munmap((char *)p + (3 << 20), 4096));
	ASSERT_EQ(0, open_with(&d, p, 4 << 20));
	EXPECT_EQ(-EFAULT, pin(&d, 1));
	EXPECT_EQ(0, locked());
	vdev_close(&d);
	munmap(p, 4 << 20);

	/* more than there is */
	ASSERT_EQ(0, open_with(&d, (void *)0x10000, 1ULL << 46));
	EXPECT_EQ(-ENOMEM, pin(&d, 1));
	EXPECT_EQ(0, locked());
	vdev_close(&d);
	EXPECT_BASELINE(before);
}

TEST(a_page_in_two_regions_is_pinned_for_both)
{
	struct baseline before = baseline_take();
	struct {
		struct vhost_memory m;
		struct vhost_memory_region region[2];
	} table = { .m.nregions = 2 };
	struct vdev d;
	char *p;

	ASSERT_EQ(0, vdev_open(&d, DRIVER_FEATURES, HIGH_SIZE));
	p = mmap(NULL, 16 << 10, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, p);
	/* neither begins or ends with a page */
	table.region[0] = (struct vhost_memory_region){
		.memory_size = 6 << 10, .userspace_addr = (uintptr_t)p + 1024 };
	table.region[1] = (struct vhost_memory_region){
		.guest_phys_addr = 1 << 20, .memory_size = 6 << 10,
		.userspace_addr = (uintptr_t)p + (7 << 10) };
	ASSERT_EQ(0, vdev_ioctl(&d, VHOST_SET_MEM_TABLE, &table));
	ASSERT_EQ(0, pin(&d, 1));
	EXPECT_EQ((2 + 3) * 4096, locked());
	vdev_close(&d);
	EXPECT_EQ(0, locked());
	munmap(p, 16 << 10);
	EXPECT_BASELINE(before);
}

SUITE_MAIN
