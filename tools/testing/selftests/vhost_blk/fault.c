// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that cannot be had, user memory that cannot be reached: every call and
 * every kind of request is done again and again, first with its first allocation
 * (or copy) failing, then with its second, until one of them has none that fails.
 * Each ends with an errno, with VIRTIO_BLK_S_IOERR, or with the ring given up; the
 * next one works, and nothing is left behind.
 *
 * The kernel counts for each task (/proc/<tid>/fail-nth). Requests are worked on by
 * the ring's worker, and some by workqueues, so there it is theirs that count.
 * Needs CONFIG_FAULT_INJECTION with _DEBUG_FS, _USERCOPY and _STACKTRACE_FILTER,
 * FAILSLAB, FAIL_PAGE_ALLOC.
 */
#include <dirent.h>
#include <glob.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "suite.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 900

#define FAULTS		"/sys/kernel/debug/"
#define MOST_FAULTS	3000	/* more in one call: it does not end */
#define WORKERS		16

static int put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* From where to where the code of a function of the kernel lies. */
static bool find_function(const char *name, char *start, char *end)
{
	unsigned long long at, first = 0, next = ~0ULL;
	FILE *f = fopen("/proc/kallsyms", "re");
	char symbol[256], line[512];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx %*c %255s", &at, symbol) == 2 &&
		    !strcmp(symbol, name))
			first = at;
	if (f)
		rewind(f);
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx %*c %255s", &at, symbol) == 2 &&
		    at > first && at < next)
			next = at;
	if (f)
		fclose(f);
	sprintf(start, "0x%llx", first);
	sprintf(end, "0x%llx", next);
	return first;
}

/*
 * vmalloc() is not content with an error, it shows where it was called from: to
 * the kernel's log, that is a complaint like any other. Where faults can be told
 * by who asks, it gets none.
 */
static void spare_vmalloc(void)
{
	static const char * const kinds[] = { "failslab", "fail_page_alloc" };
	char path[96], start[32], end[32];
	unsigned int i;

	if (!find_function("__vmalloc_node_range_noprof", start, end))
		return;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		snprintf(path, sizeof(path), FAULTS "%s/reject-start", kinds[i]);
		put(path, start);
		snprintf(path, sizeof(path), FAULTS "%s/reject-end", kinds[i]);
		put(path, end);
		snprintf(path, sizeof(path), FAULTS "%s/stacktrace-depth", kinds[i]);
		put(path, "32");
	}
}

/* null_blk has faults of its own, of another kind: none of these. */
static void spare_null_blk(void)
{
	static const struct {
		const char *attr, *value;
	} set[] = {
		{ "stacktrace-depth", "1" }, { "require-start", "1" },
		{ "require-end", "2" },
	};
	char path[128];
	unsigned int i;
	size_t j;
	glob_t g;

	for (i = 0; i < ARRAY_SIZE(set); i++) {
		snprintf(path, sizeof(path),
			 "/sys/kernel/config/nullb/vbt*/*_inject/%s", set[i].attr);
		if (glob(path, 0, NULL, &g))
			continue;
		for (j = 0; j < g.gl_pathc; j++)
			put(g.gl_pathv[j], set[i].value);
		globfree(&g);
	}
}

/* kmemleak warns with a lock held that consoles take: keep it from them. */
#define CONSOLE	"/proc/sys/kernel/printk"

static int console_was;

static void restore_console(void)
{
	char level[16];

	snprintf(level, sizeof(level), "%d", console_was);
	if (console_was > 0)
		put(CONSOLE, level);
}

/* NULL, or why there are no faults here. */
static const char *faults_possible(void)
{
	static const struct {
		const char *path, *value;
	} set[] = {
		{ FAULTS "failslab/ignore-gfp-wait", "N" },
		{ FAULTS "failslab/verbose", "0" },
		{ FAULTS "fail_page_alloc/ignore-gfp-wait", "N" },
		{ FAULTS "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ FAULTS "fail_page_alloc/min-order", "0" },
		{ FAULTS "fail_page_alloc/verbose", "0" },
		{ FAULTS "fail_usercopy/verbose", "0" },
	};
	unsigned int i;

	if (access("/proc/self/fail-nth", W_OK))
		return "this kernel has no CONFIG_FAULT_INJECTION";
	for (i = 0; i < ARRAY_SIZE(set); i++)
		if (put(set[i].path, set[i].value))
			return set[i].path;
	spare_vmalloc();
	console_was = file_number(CONSOLE);
	put(CONSOLE, "4");
	return NULL;
}

/* Our own faults: from an open file, as to open it could be what fails. */
static int own = -1;

/* The @n-th that this thread asks for fails. */
static int arm_self(unsigned int n)
{
	char value[16];
	int len = snprintf(value, sizeof(value), "%u", n);

	if (own < 0)
		own = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return pwrite(own, value, len, 0) == len ? 0 : -errno;
}

/* Has it failed since? None does any more. */
static bool disarm_self(void)
{
	char value[16] = "";
	int n;

	/* Our own question may be what fails now: then nothing has before. */
	n = pread(own, value, sizeof(value) - 1, 0);
	while (arm_self(0))
		;
	return n > 0 && !atoi(value);
}

/* The same for another task. */
static int arm(pid_t tid, unsigned int n)
{
	char path[64], value[16];

	snprintf(path, sizeof(path), "/proc/%d/fail-nth", tid);
	snprintf(value, sizeof(value), "%u", n);
	return put(path, value);
}

static bool disarm(pid_t tid)
{
	long long left = file_number("/proc/%d/fail-nth", tid);

	arm(tid, 0);
	return !left;
}

/* Calls. */

FIXTURE(call) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct baseline before;
	int refs;
};

FIXTURE_SETUP(call)
{
	const char *why = faults_possible();

	if (why)
		SKIP(return, "%s", why);
	self->refs = module_refs("vhost_blk");
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	spare_null_blk();
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, 16, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(call)
{
	restore_console();
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_EQ(self->refs, module_refs_settle("vhost_blk", self->refs, 10000));
	EXPECT_BASELINE(self->before);
}

/* What may be said instead of 0. */
static bool is_refusal(int r)
{
	return r == -ENOMEM || r == -EFAULT || r == -EAGAIN || r == -EINTR ||
	       r == -ENFILE || r == -ENOBUFS || r == -EBUSY;
}

struct attempt {
	const char *name;
	unsigned long req;
	void *arg;
	unsigned long undo;	/* after it succeeded: this, with... */
	void *undo_arg;
};

/* Adds the number of faults that it can have to @faults. */
static void sweep_call(struct __test_metadata *_metadata, struct vdev *d,
		       const struct attempt *a, unsigned int *faults)
{
	bool failed;
	int n, r;

	for (n = 1; n < MOST_FAULTS; n++) {
		ASSERT_EQ(0, arm_self(n));
		r = vdev_ioctl(d, a->req, a->arg);
		failed = disarm_self();
		EXPECT_TRUE(!r || (failed && is_refusal(r))) {
			TH_LOG("%s: %d with fault %d%s", a->name, r, n,
			       failed ? "" : " not reached");
		}
		if (!r && a->undo)
			EXPECT_EQ(0, vdev_ioctl(d, a->undo, a->undo_arg));
		if (!failed)
			break;
	}
	EXPECT_LT(n, MOST_FAULTS);
	TH_LOG("%s: %d faults", a->name, n - 1);
	*faults += n - 1;
}

static void expect_io(struct __test_metadata *_metadata, struct vq *q)
{
	char sent[1024], got[1024];

	memset(sent, 0x42, sizeof(sent));
	EXPECT_EQ(0, blk_write(q, 8, sent, sizeof(sent)));
	EXPECT_EQ(0, blk_read(q, 8, got, sizeof(got)));
	EXPECT_EQ(0, memcmp(sent, got, sizeof(sent)));
}

TEST_F(call, each_ioctl_of_a_running_device)
{
	struct vhost_vring_state state = { .index = 0, .num = 0 };
	struct vhost_vring_state spare = { .index = 5, .num = 16 };
	struct vhost_vring_file call = { .fd = self->q->call };
	struct vhost_vring_file kick = { .fd = self->q->kick };
	struct vhost_vring_file start = { .index = 1, .fd = self->disk.fd };
	struct vhost_vring_file end = { .index = 1, .fd = -1 };
	struct vhost_blk_config config = { .flags = VHOST_BLK_CONFIG_WRITEBACK };
	struct vhost_blk_poll poll = { .index = VHOST_BLK_ALL_RINGS };
	struct vhost_blk_poll one = {};
	struct vhost_blk_worker worker = {};
	struct vhost_blk_limits limits = { .fd = self->disk.fd };
	struct vhost_blk_stats stats = { .index = VHOST_BLK_ALL_RINGS };
	struct vhost_worker_state new = {};
	struct vhost_vring_worker attach = {}, attached = {};
	uint32_t on = 1, off = 0;
	uint64_t u64 = 0;
	const struct attempt attempts[] = {
#define CALL(req, ...) { #req, req, __VA_ARGS__ }
		CALL(VHOST_GET_FEATURES, &u64),
		CALL(VHOST_GET_BACKEND_FEATURES, &u64),
		CALL(VHOST_SET_VRING_NUM, &spare),
		CALL(VHOST_GET_VRING_BASE, &state),
		CALL(VHOST_SET_VRING_CALL, &call),
		CALL(VHOST_SET_VRING_KICK, &kick),
		CALL(VHOST_SET_VRING_ERR, &call),
		CALL(VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state),
		CALL(VHOST_GET_VRING_BUSYLOOP_TIMEOUT, &state),
		CALL(VHOST_GET_VRING_WORKER, &attached),
		CALL(VHOST_ATTACH_VRING_WORKER, &attach),
		CALL(VHOST_BLK_SET_CONFIG, &config),
		CALL(VHOST_BLK_SET_POLL, &poll),
		CALL(VHOST_BLK_GET_POLL, &one),
		CALL(VHOST_BLK_GET_WORKER, &worker),
		CALL(VHOST_BLK_GET_LIMITS, &limits),
		CALL(VHOST_BLK_GET_STATS, &stats),
		CALL(VHOST_BLK_SET_EVENT, &call.fd),
		CALL(VHOST_BLK_PIN_MEMORY, &on, VHOST_BLK_PIN_MEMORY, &off),
		CALL(VHOST_BLK_SET_BACKEND, &start, VHOST_BLK_SET_BACKEND, &end),
		CALL(VHOST_NEW_WORKER, &new, VHOST_FREE_WORKER, &new),
#undef CALL
	};
	unsigned int i, faults = 0;
	struct vq *other;

	ASSERT_EQ(0, vq_setup(&self->d, 1, 64, &other));
	state.num = 0;
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_GET_VRING_WORKER, &attach));
	for (i = 0; i < ARRAY_SIZE(attempts); i++) {
		sweep_call(_metadata, &self->d, &attempts[i], &faults);
		expect_io(_metadata, self->q);
		memset(&stats, 0, sizeof(stats));
		stats.index = VHOST_BLK_ALL_RINGS;
		memset(&limits, 0, sizeof(limits));
		limits.fd = self->disk.fd;
	}
	/* Without any, faults are not what was tested. */
	EXPECT_LT(20, faults);
	ASSERT_EQ(0, vq_start(other, self->disk.fd));
	expect_io(_metadata, other);
}

TEST_F(call, a_new_memory_table)
{
	bool failed = true;
	int n, r;

	for (n = 1; n < MOST_FAULTS && failed; n++) {
		ASSERT_EQ(0, arm_self(n));
		r = vdev_set_mem(&self->d);
		failed = disarm_self();
		EXPECT_TRUE(!r || (failed && is_refusal(r))) {
			TH_LOG("%d with fault %d", r, n);
		}
		expect_io(_metadata, self->q);
	}
	TH_LOG("%d faults", n - 2);
	EXPECT_LT(3, n);
}

/* From nothing to a started ring, as often as it takes; faults in all of it. */
static int set_up(struct vdev *d, struct vq **q, int fd)
{
	int r = vdev_open(d, DRIVER_FEATURES, 1 << 20);

	if (r)
		return r;
	r = vq_setup(d, 0, 16, q);
	if (!r)
		r = vq_start(*q, fd);
	if (r)
		vdev_close(d);
	return r;
}

TEST_F(call, opening_and_setting_up)
{
	bool failed = true;
	struct vdev d;
	struct vq *q;
	int n, r;

	for (n = 1; n < MOST_FAULTS && failed; n++) {
		ASSERT_EQ(0, arm_self(n));
		r = set_up(&d, &q, self->disk.fd);
		failed = disarm_self();
		EXPECT_TRUE(!r || (failed && is_refusal(r))) {
			TH_LOG("%d with fault %d", r, n);
		}
		if (!r) {
			expect_io(_metadata, q);
			vdev_close(&d);
		}
		EXPECT_EQ(self->refs + 1,
			  module_refs_settle("vhost_blk", self->refs + 1, 10000));
	}
	TH_LOG("%d faults", n - 2);
	EXPECT_FALSE(failed);
	EXPECT_LT(VHOST_BLK_MAX_RINGS, n);
}

TEST_F(call, owners_come_and_go)
{
	bool failed = true;
	int n, r;

	for (n = 1; n < MOST_FAULTS && failed; n++) {
		ASSERT_EQ(0, arm_self(n));
		r = vdev_ioctl(&self->d, VHOST_RESET_OWNER, NULL);
		if (!r)
			r = vdev_ioctl(&self->d, VHOST_SET_OWNER, NULL);
		failed = disarm_self();
		EXPECT_TRUE(!r || (failed && is_refusal(r))) {
			TH_LOG("%d with fault %d", r, n);
		}
		r = vdev_ioctl(&self->d, VHOST_SET_OWNER, NULL);
		EXPECT_TRUE(!r || r == -EBUSY);
	}
	TH_LOG("%d faults", n - 2);
	EXPECT_LT(3, n);
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_FEATURES, &self->d.features));
	EXPECT_EQ(0, vdev_set_mem(&self->d));
	ASSERT_EQ(0, vq_setup(&self->d, 0, 16, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	expect_io(_metadata, self->q);
}

TEST_F(call, translations)
{
	uint64_t features = DRIVER_FEATURES | BIT64(VIRTIO_F_ACCESS_PLATFORM);
	struct vhost_msg m = {
		.type = VHOST_IOTLB_MSG,
		.iotlb = {
			.iova = GMEM_HIGH, .size = 65536,
			.uaddr = (uintptr_t)self->d.mem.base,
			.perm = VHOST_ACCESS_RW, .type = VHOST_IOTLB_UPDATE,
		},
	};
	bool failed = true;
	int n, r;

	ASSERT_EQ(0, vq_stop(self->q));
	for (n = 1; n < MOST_FAULTS && failed; n++) {
		ASSERT_EQ(0, arm_self(n));
		r = vdev_ioctl(&self->d, VHOST_SET_FEATURES, &features);
		if (!r && write(self->d.fd, &m, sizeof(m)) != sizeof(m))
			r = -errno;
		failed = disarm_self();
		EXPECT_TRUE(!r || failed) {
			TH_LOG("%d with fault %d", r, n);
		}
	}
	TH_LOG("%d faults", n - 2);
	EXPECT_LT(3, n);
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_FEATURES, &self->d.features));
	/* The addresses of the rings had another meaning meanwhile. */
	ASSERT_EQ(0, vq_setup(&self->d, 0, 16, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	expect_io(_metadata, self->q);
}

/* Requests. */

FIXTURE(request) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct baseline before;
	pid_t tids[WORKERS];	/* who works on it */
	unsigned int ntids;
};

FIXTURE_VARIANT(request) {
	enum blkdev_kind disk;
	uint32_t type;
	uint32_t len;
	struct req_layout layout;
	bool wq;	/* on a workqueue, too */
	bool writethrough;
	int least;	/* faults that there must be */
};

#define REQUEST(name, ...) \
FIXTURE_VARIANT_ADD(request, name) { __VA_ARGS__ }

REQUEST(read, BLKDEV_NULL_512, VIRTIO_BLK_T_IN, 4096, .least = 3);
REQUEST(read_large, BLKDEV_NULL_512, VIRTIO_BLK_T_IN, 512 * 1024,
	{ .data_chunk = 2048, .mode = VQ_INDIRECT }, .least = 5);
REQUEST(read_bounced, BLKDEV_NULL_4K, VIRTIO_BLK_T_IN, 16384,
	{ .data_chunk = 5000, .align = 1, .offset = 3 }, .least = 6);
REQUEST(write, BLKDEV_NULL_512, VIRTIO_BLK_T_OUT, 4096, .least = 3);
REQUEST(write_bounced, BLKDEV_NULL_4K, VIRTIO_BLK_T_OUT, 16384,
	{ .data_chunk = 5000, .align = 1, .offset = 3 }, .least = 6);
REQUEST(write_through, BLKDEV_NULL_NO_FUA, VIRTIO_BLK_T_OUT, 4096,
	.writethrough = true, .least = 3);
REQUEST(flush, BLKDEV_NULL_CACHE, VIRTIO_BLK_T_FLUSH, 0, .least = 3);
REQUEST(get_id, BLKDEV_NULL_512, VIRTIO_BLK_T_GET_ID, 20, .least = 3);
REQUEST(discard, BLKDEV_NULL_DISCARD, VIRTIO_BLK_T_DISCARD, 16,
	.wq = true, .least = 4);
REQUEST(write_zeroes, BLKDEV_NULL_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, 16,
	.wq = true, .least = 4);
REQUEST(zone_append, BLKDEV_ZONED, VIRTIO_BLK_T_ZONE_APPEND, 4096, .least = 3);
REQUEST(zone_report, BLKDEV_ZONED, VIRTIO_BLK_T_ZONE_REPORT, 64 + 64 * 20,
	.wq = true, .least = 4);
REQUEST(zone_reset, BLKDEV_ZONED, VIRTIO_BLK_T_ZONE_RESET, 0, .least = 3);
REQUEST(file_read, BLKDEV_EXT4, VIRTIO_BLK_T_IN, 4096, .wq = true, .least = 3);
REQUEST(file_write, BLKDEV_EXT4, VIRTIO_BLK_T_OUT, 4096, .wq = true, .least = 3);
REQUEST(file_flush, BLKDEV_EXT4, VIRTIO_BLK_T_FLUSH, 0, .wq = true, .least = 3);
REQUEST(file_discard, BLKDEV_EXT4, VIRTIO_BLK_T_DISCARD, 16,
	.wq = true, .least = 4);

FIXTURE_SETUP(request)
{
	uint64_t features = DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_ZONED) |
			    BIT64(VIRTIO_BLK_F_DISCARD) |
			    BIT64(VIRTIO_BLK_F_WRITE_ZEROES);
	struct vhost_blk_config config = {
		.flags = variant->writethrough ? 0 : VHOST_BLK_CONFIG_WRITEBACK,
	};
	const char *why = faults_possible();

	if (why)
		SKIP(return, "%s", why);
	self->before = baseline_take();
	OPEN_DISK(&self->disk, variant->disk);
	spare_null_blk();
	ASSERT_EQ(0, vdev_open(&self->d, features, MEM_SIZE));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_CONFIG, &config));
	ASSERT_EQ(0, vq_setup(&self->d, 0, 16, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

FIXTURE_TEARDOWN(request)
{
	restore_console();
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/* The workers of our workqueues: those that have worked for one of them last. */
static unsigned int find_kworkers(pid_t *tids, unsigned int max)
{
	char path[300], comm[64];
	unsigned int n = 0;
	struct dirent *e;
	DIR *proc = opendir("/proc");
	FILE *f;

	while (proc && n < max && (e = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		f = atoi(e->d_name) ? fopen(path, "re") : NULL;
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f) &&
		    !strncmp(comm, "kworker/", 8) && strstr(comm, "vhost-blk"))
			tids[n++] = atoi(e->d_name);
		fclose(f);
	}
	if (proc)
		closedir(proc);
	return n;
}

#define BROKEN	1000	/* instead of a status: the ring was given up */
#define SILENT	1001	/* the status could not be told */

/* Run it, and see what becomes of it: VIRTIO_BLK_S_*, or one of the above. */
static int outcome(struct vq *q, struct req *r)
{
	uint64_t end = now_ns() + 30000000000ULL;
	int err;

	if (req_add(q, r) < 0)
		return -ENOSPC;
	vq_kick(q);
	while (!vq_pending(q)) {
		if (eventfd_take(q->err))
			return BROKEN;
		if (now_ns() > end)
			return -ETIMEDOUT;
		usleep(20);
	}
	if (!req_reap(q, &err))
		return err;
	/* It completed, and something failed after that. */
	usleep(200);
	if (eventfd_take(q->err))
		return BROKEN;
	return r->status == REQ_NO_STATUS && !r->used_len ? SILENT : r->status;
}

static void restart(struct __test_metadata *_metadata, struct vq *q, int fd)
{
	ASSERT_EQ(0, vq_reset(q));
	ASSERT_EQ(0, vq_start(q, fd));
}

static void prepare(struct __test_metadata *_metadata, struct vq *q,
		    struct req *r, uint32_t type)
{
	struct virtio_blk_discard_write_zeroes range = {
		.sector = 64, .num_sectors = 128,
	};

	ASSERT_EQ(0, req_build(&q->dev->mem, r));
	if (type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES)
		req_put_data(r, &range);
}

/* One fault, and a request without one: the number of tasks that had it. */
static unsigned int one_fault(struct __test_metadata *_metadata, struct vq *q,
			      struct req *r, int fd, const pid_t *tids,
			      unsigned int ntids, unsigned int n)
{
	unsigned int i, failed = 0;
	int got;

	for (i = 0; i < ntids; i++)
		arm(tids[i], n);
	got = outcome(q, r);
	for (i = 0; i < ntids; i++)
		failed += disarm(tids[i]);
	EXPECT_TRUE(got == VIRTIO_BLK_S_OK || got == BROKEN || got == SILENT ||
		    (got > 0 && failed)) {
		TH_LOG("fault %u: %d", n, got);
	}
	EXPECT_TRUE(req_guards_intact(r));
	if (got == BROKEN || got < 0)
		restart(_metadata, q, fd);
	got = outcome(q, r);
	EXPECT_EQ(VIRTIO_BLK_S_OK, got) {
		TH_LOG("after fault %u", n);
	}
	return failed;
}

TEST_F(request, fails_alone)
{
	unsigned int n, missed = 0, faults = 0;
	struct req r;
	int got;

	req_init(&r, variant->type, 0, variant->len);
	r.layout = &variant->layout;
	if (variant->type == VIRTIO_BLK_T_ZONE_REPORT)
		r.data = REQ_DATA_IN;
	if (variant->type == VIRTIO_BLK_T_ZONE_APPEND)
		r.back = 8;
	prepare(_metadata, self->q, &r, variant->type);
	got = outcome(self->q, &r);
	ASSERT_EQ(VIRTIO_BLK_S_OK, got);

	for (n = 1; n < MOST_FAULTS && missed < 3; n++) {
		self->tids[0] = vdev_worker(&self->d, 0);
		ASSERT_LT(0, self->tids[0]);
		self->ntids = 1;
		if (variant->wq)
			self->ntids += find_kworkers(self->tids + 1, WORKERS - 1);
		if (one_fault(_metadata, self->q, &r, self->disk.fd, self->tids,
			      self->ntids, n)) {
			faults++;
			missed = 0;
		} else {
			missed++;
		}
	}
	TH_LOG("%u faults", faults);
	EXPECT_LT(n, MOST_FAULTS);
	EXPECT_LE(variant->least, (int)faults);
	req_free(&r);
}

SUITE_MAIN
