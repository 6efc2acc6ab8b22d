// SPDX-License-Identifier: GPL-2.0
/*
 * What goes wrong below: a disk that fails in some places for some time, and one
 * that is taken away. It is of the requests that meet it alone, it is counted,
 * and it is over when the disk is well again.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "suite.h"

#define RING_SIZE	256
#define LEN		4096u
#define DMSETUP		"DM_DISABLE_UDEV=1 dmsetup "
#define UNDER		"/dev/vbt-under-fault"

/* The part that fails, in sectors, and the part that is used. */
#define BAD_FROM	4096u
#define BAD_COUNT	1024u
#define FROM		(BAD_FROM - 512)
#define COUNT		(BAD_COUNT + 1024)

#define TICK_NS		10000000	/* at most */

/* Down for a minute from the start. */
#define FLAKEY		"flakey " UNDER " 4096 0 60"

#define HITS_READS	1
#define HITS_WRITES	2

FIXTURE(fault) {
	struct vdev d;
	struct vq *q;
	struct blkdev disk;
	struct baseline before;
	struct prng rnd;
	int event;
	char *want, *got;	/* COUNT sectors from FROM on */
};

FIXTURE_VARIANT(fault) {
	const char *target;	/* of the bad part; NULL: null_blk itself */
	unsigned int hits;
	unsigned int delay_ms;
};

FIXTURE_VARIANT_ADD(fault, dm_error) { "error", HITS_READS | HITS_WRITES };
FIXTURE_VARIANT_ADD(fault, dm_flakey) { FLAKEY, HITS_READS | HITS_WRITES };
FIXTURE_VARIANT_ADD(fault, dm_flakey_writes) { FLAKEY " 1 error_writes", HITS_WRITES };
FIXTURE_VARIANT_ADD(fault, dm_delay) { "delay " UNDER " 4096 50", 0, 50 };
FIXTURE_VARIANT_ADD(fault, null_blk) { NULL, HITS_READS | HITS_WRITES };

static int open_path(struct blkdev *b, const char *path)
{
	memset(b, 0, sizeof(*b));
	snprintf(b->path, sizeof(b->path), "%s", path);
	b->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	b->check = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	b->sectors = BLKDEV_SIZE / 512;
	b->block = 512;
	return b->fd < 0 || b->check < 0 ? -errno : 0;
}

/* The whole disk, with its middle as it is to be. */
static void fault_table(char *table, size_t size, const char *middle)
{
	snprintf(table, size, "0 %u linear " UNDER " 0\\n%u %u %s\\n%u %llu linear " UNDER " %u",
		 BAD_FROM, BAD_FROM, BAD_COUNT, middle, BAD_FROM + BAD_COUNT,
		 BLKDEV_SIZE / 512 - BAD_FROM - BAD_COUNT, BAD_FROM + BAD_COUNT);
}

#define SOUND "linear " UNDER " 4096"

static int fault_set(const char *target, bool on)
{
	char table[512];

	if (!target)
		return run("echo %c%u-%u >/sys/kernel/config/nullb/vbt-under-fault/badblocks",
			   on ? '+' : '-', BAD_FROM, BAD_FROM + BAD_COUNT - 1);
	fault_table(table, sizeof(table), on ? target : SOUND);
	return run("printf '%%b' '%s' | " DMSETUP "load vbt-fault && " DMSETUP
		   "suspend --nolockfs vbt-fault && " DMSETUP "resume vbt-fault", table);
}

static int fault_make(struct blkdev *disk, const char *target)
{
	char table[512];
	int r;

	run(DMSETUP "remove --retry vbt-fault");
	r = blkdev_make_null("vbt-under-fault", NULL);
	if (r)
		return r;
	if (!target)
		return open_path(disk, UNDER);
	if (run("modprobe -a dm_mod; modprobe -q dm-%.6s; true", target))
		return -ENODEV;
	fault_table(table, sizeof(table), SOUND);
	r = blkdev_make_dm("vbt-fault", "", table);
	return r ? r : open_path(disk, "/dev/mapper/vbt-fault");
}

FIXTURE_SETUP(fault)
{
	struct blkdev any;

	self->before = baseline_take();
	/* has configfs and null_blk set up, or says why not */
	OPEN_DISK(&any, BLKDEV_NULL_512);
	blkdev_close(&any);
	if (fault_make(&self->disk, variant->target))
		SKIP(return, "%s", blkdev_why());
	prng_init(&self->rnd, 21);
	self->want = malloc(COUNT * 512);
	self->got = malloc(COUNT * 512);
	self->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT_LE(0, self->event);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES |
			       BIT64(VIRTIO_BLK_F_WRITE_ZEROES), MEM_SIZE));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_EVENT, &self->event));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	prng_fill(&self->rnd, self->want, COUNT * 512);
	ASSERT_EQ(0, blk_write(self->q, FROM, self->want, COUNT * 512));
}

FIXTURE_TEARDOWN(fault)
{
	vdev_close(&self->d);
	close(self->event);
	blkdev_close(&self->disk);
	if (!variant->target)
		fault_set(NULL, false);
	EXPECT_EQ(0, run("[ ! -e /dev/mapper/vbt-fault ] || " DMSETUP
			 "remove --retry vbt-fault"));
	free(self->want);
	free(self->got);
	EXPECT_BASELINE(self->before);
}

static bool is_hit(const FIXTURE_VARIANT(fault) *variant, const struct req *r)
{
	return r->sector + LEN / 512 > BAD_FROM &&
	       r->sector < BAD_FROM + BAD_COUNT &&
	       (variant->hits & (r->type == VIRTIO_BLK_T_OUT ? HITS_WRITES :
							       HITS_READS));
}

#define NR 48

/* Reads and writes all over the part that is used, all in flight at once. */
static void mixed_start(struct __test_metadata *_metadata,
			FIXTURE_DATA(fault) *self, struct req *r)
{
	unsigned int i;

	for (i = 0; i < NR; i++) {
		req_init(&r[i], i & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
			 FROM + i * 40, LEN);
		ASSERT_EQ(0, req_build(&self->d.mem, &r[i]));
		if (i & 1) {
			prng_fill(&self->rnd, self->got, LEN);
			req_put_data(&r[i], self->got);
		}
		ASSERT_LE(0, req_add(self->q, &r[i]));
	}
	vq_kick(self->q);
	ASSERT_EQ(0, req_wait_n(self->q, NR, REQ_TIMEOUT_MS));
}

/* How many failed; those that did not moved the right data. */
static unsigned int mixed_end(struct __test_metadata *_metadata,
			      FIXTURE_DATA(fault) *self,
			      const FIXTURE_VARIANT(fault) *variant,
			      struct req *r, bool faulty)
{
	unsigned int i, failed = 0;
	char *at, buf[LEN];
	bool hit;

	for (i = 0; i < NR; i++) {
		hit = faulty && is_hit(variant, &r[i]);
		at = self->want + (r[i].sector - FROM) * 512;
		EXPECT_EQ(hit ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK, r[i].status) {
			TH_LOG("%s of sector %llu", i & 1 ? "write" : "read",
			       (unsigned long long)r[i].sector);
		}
		req_get_data(&r[i], buf);
		if (hit)
			failed++;
		else if (i & 1)
			memcpy(at, buf, LEN);
		else
			EXPECT_EQ(0, memcmp(at, buf, LEN));
		req_free(&r[i]);
	}
	return failed;
}

TEST_F(fault, is_of_those_that_meet_it_and_ends)
{
	struct vhost_blk_stats a, b;
	unsigned int failed;
	struct req r[NR];
	uint64_t before;

	ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
	ASSERT_EQ(0, fault_set(variant->target, true));
	before = now_ns();
	mixed_start(_metadata, self, r);
	/* it counts ticks, of which the first has begun */
	EXPECT_LE(variant->delay_ms * 1000000ULL, now_ns() - before + TICK_NS);
	failed = mixed_end(_metadata, self, variant, r, true);
	EXPECT_EQ(variant->hits == 3 ? 26 : variant->hits ? 13 : 0, failed);
	/* each is counted as what it was */
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_EQ(failed, b.errors - a.errors);
	EXPECT_EQ(failed, b.disk_errors);
	EXPECT_EQ(NR - failed, b.reads - a.reads + b.writes - a.writes);
	EXPECT_EQ(0, b.ring_errors);
	EXPECT_EQ(failed > 0, eventfd_take(self->event) > 0);
	/* and then nothing fails, and what failed has changed nothing */
	ASSERT_EQ(0, fault_set(variant->target, false));
	ASSERT_EQ(0, blk_read(self->q, FROM, self->got, COUNT * 512));
	EXPECT_EQ(0, memcmp(self->want, self->got, COUNT * 512));
	mixed_start(_metadata, self, r);
	EXPECT_EQ(0, mixed_end(_metadata, self, variant, r, false));
	ASSERT_EQ(0, blkdev_peek(&self->disk, FROM, self->got, COUNT * 512));
	EXPECT_EQ(0, memcmp(self->want, self->got, COUNT * 512));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_EQ(failed, b.errors);
	EXPECT_EQ(0, eventfd_take(self->event));
}

TEST_F(fault, of_zeroes_is_of_the_range_that_meets_it)
{
	struct virtio_blk_discard_write_zeroes good = {
		.sector = FROM, .num_sectors = 8,
	}, bad = {
		.sector = BAD_FROM + 8, .num_sectors = 8,
	};
	struct vhost_blk_stats s;
	unsigned int failed = !!(variant->hits & HITS_WRITES);

	ASSERT_EQ(0, fault_set(variant->target, true));
	EXPECT_EQ(0, blk_ranges(self->q, VIRTIO_BLK_T_WRITE_ZEROES, &good, 1));
	EXPECT_EQ(failed ? VIRTIO_BLK_S_IOERR : 0,
		  blk_ranges(self->q, VIRTIO_BLK_T_WRITE_ZEROES, &bad, 1));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(failed, s.disk_errors);
	EXPECT_EQ(2 - failed, s.write_zeroes);
	ASSERT_EQ(0, fault_set(variant->target, false));
	EXPECT_EQ(0, blk_ranges(self->q, VIRTIO_BLK_T_WRITE_ZEROES, &bad, 1));
	ASSERT_EQ(0, blkdev_peek(&self->disk, bad.sector, self->got, LEN));
	EXPECT_TRUE(mem_is(self->got, 0, LEN));
}

/* From a process of its own: make it faulty and sound, again and again. */
static pid_t toggle(const char *target, unsigned int times)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	while (times--) {
		if (fault_set(target, true))
			_exit(1);
		sleep_ms(30);
		if (fault_set(target, false))
			_exit(1);
		sleep_ms(30);
	}
	_exit(0);
}

/* Requests that come back are sent again; how many came, and how many failed. */
static int go_round(struct vq *q, unsigned long *ok, unsigned long *failed)
{
	struct req *r;
	int err = vq_wait(q, REQ_TIMEOUT_MS);

	while (!err && (r = req_reap(q, &err))) {
		if (r->status == VIRTIO_BLK_S_OK)
			++*ok;
		else if (r->status == VIRTIO_BLK_S_IOERR)
			++*failed;
		else
			return -EBADMSG;
		err = req_add(q, r);
		if (err < 0)
			return err;
		err = 0;
	}
	vq_kick(q);
	return err;
}

TEST_F_TIMEOUT(fault, comes_and_goes_under_load, 300)
{
	unsigned long ok = 0, failed = 0;
	struct vhost_blk_stats a, b;
	struct req r[32], *one;
	unsigned int i;
	int status, err;
	pid_t pid;

	ASSERT_EQ(0, vdev_stats(&self->d, 0, &a));
	for (i = 0; i < ARRAY_SIZE(r); i++) {
		req_init(&r[i], i & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
			 FROM + i * 64, LEN);
		ASSERT_EQ(0, req_build(&self->d.mem, &r[i]));
		req_put_data(&r[i], self->want + i * 64 * 512);
		ASSERT_LE(0, req_add(self->q, &r[i]));
	}
	vq_kick(self->q);
	pid = toggle(variant->target, 3);
	ASSERT_LT(0, pid);
	while (waitpid(pid, &status, WNOHANG) == 0)
		ASSERT_EQ(0, go_round(self->q, &ok, &failed));
	EXPECT_EQ(0, status);
	/* the disk is sound: the last of each may have failed, no other */
	while (self->q->nfree < self->q->num) {
		ASSERT_EQ(0, vq_wait(self->q, REQ_TIMEOUT_MS));
		while ((one = req_reap(self->q, &err))) {
			ok += one->status == VIRTIO_BLK_S_OK;
			failed += one->status == VIRTIO_BLK_S_IOERR;
		}
		ASSERT_EQ(0, err);
	}
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &b));
	EXPECT_EQ(ok, b.reads - a.reads + b.writes - a.writes);
	EXPECT_EQ(failed, b.disk_errors);
	EXPECT_EQ(0, b.inflight);
	EXPECT_EQ(!!variant->hits, failed > 0);
	EXPECT_LT(0, ok);
	ASSERT_EQ(0, blk_read(self->q, FROM, self->got, COUNT * 512));
	EXPECT_EQ(0, memcmp(self->want, self->got, COUNT * 512));
	for (i = 0; i < ARRAY_SIZE(r); i++)
		req_free(&r[i]);
}

/* Disks that are taken away. */

FIXTURE(gone) {
	struct vdev d;
	struct vq *q, *other;
	struct blkdev disk, quick;
	struct baseline before;
};

FIXTURE_VARIANT(gone) {
	enum blkdev_kind kind;	/* BLKDEV_NULL_60US: a null_blk of our own */
};

FIXTURE_VARIANT_ADD(gone, null_blk) { BLKDEV_NULL_60US };
FIXTURE_VARIANT_ADD(gone, nvme) { BLKDEV_NVME };
FIXTURE_VARIANT_ADD(gone, nvme_tcp) { BLKDEV_NVME_TCP };

static int gone_open(struct blkdev *b, enum blkdev_kind kind)
{
	static const struct null_attr attr[] = {
		{ "irqmode", "2" }, { "completion_nsec", "60000" },
		{ NULL, NULL },
	};
	int r;

	if (kind != BLKDEV_NULL_60US)
		return blkdev_open(b, kind);
	r = blkdev_make_null("vbt-gone", attr);
	return r ? r : open_path(b, "/dev/vbt-gone");
}

static int gone_remove(const struct blkdev *b, enum blkdev_kind kind)
{
	switch (kind) {
	case BLKDEV_NVME:
		/* /sys/block/X/device is the controller, its device the PCI one */
		return run("echo 1 >/sys/block/%s/device/device/remove", b->name);
	case BLKDEV_NVME_TCP:
		return run("for c in $(grep -lx vbt /sys/class/nvme/nvme*/subsysnqn); do %s; done",
			   "echo 1 >$(dirname $c)/delete_controller");
	default:
		return run("echo 0 >/sys/kernel/config/nullb/vbt-gone/power");
	}
}

static int gone_restore(enum blkdev_kind kind)
{
	static const char target[] =
		"transport=tcp,traddr=127.0.0.1,trsvcid=44177,nqn=vbt";

	switch (kind) {
	case BLKDEV_NVME:
		return run("echo 1 >/sys/bus/pci/rescan");
	case BLKDEV_NVME_TCP:
		return run("echo %s >/dev/nvme-fabrics; sleep 0.5", target);
	default:
		return run("echo 1 >/sys/kernel/config/nullb/vbt-gone/power");
	}
}

FIXTURE_SETUP(gone)
{
	self->before = baseline_take();
	OPEN_DISK(&self->quick, BLKDEV_NULL_512);
	if (gone_open(&self->disk, variant->kind))
		SKIP(return, "%s", blkdev_why());
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_setup(&self->d, 1, RING_SIZE, &self->other));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, vq_start(self->other, self->quick.fd));
}

FIXTURE_TEARDOWN(gone)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	blkdev_close(&self->quick);
	EXPECT_BASELINE(self->before);
}

TEST_F_TIMEOUT(gone, a_disk_removed_under_load_fails_what_follows_and_hurts_nobody, 180)
{
	unsigned long ok = 0, failed = 0;
	struct vhost_blk_stats s;
	char want[LEN], got[LEN];
	struct req r[32];
	int status = -1;
	unsigned int i;
	pid_t pid;

	for (i = 0; i < ARRAY_SIZE(r); i++) {
		req_init(&r[i], i & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, i * 8, LEN);
		ASSERT_EQ(0, req_build(&self->d.mem, &r[i]));
		ASSERT_LE(0, req_add(self->q, &r[i]));
	}
	vq_kick(self->q);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		sleep_ms(200);
		_exit(gone_remove(&self->disk, variant->kind) ? 1 : 0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		ASSERT_EQ(0, go_round(self->q, &ok, &failed));
		ASSERT_EQ(0, blk_read(self->other, 0, got, LEN));
	}
	ASSERT_EQ(0, status);
	EXPECT_LT(32, ok);
	/* nothing hangs; what comes now fails at once */
	ASSERT_EQ(0, req_wait_n(self->q, ARRAY_SIZE(r), REQ_TIMEOUT_MS));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, blk_read(self->q, 0, got, LEN));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, blk_write(self->q, 0, got, LEN));
	EXPECT_EQ(0, blk_read(self->other, 0, got, LEN));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(0, s.inflight);
	EXPECT_EQ(0, s.ring_errors);
	EXPECT_LE(failed + 2, s.errors);
	/* another disk takes its place */
	ASSERT_EQ(0, vq_stop(self->q));
	blkdev_close(&self->disk);
	ASSERT_EQ(0, gone_restore(variant->kind));
	ASSERT_EQ(0, gone_open(&self->disk, variant->kind)) {
		TH_LOG("%s", blkdev_why());
	}
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	memset(want, 0x77, LEN);
	EXPECT_EQ(0, blk_write(self->q, 64, want, LEN));
	ASSERT_EQ(0, blkdev_peek(&self->disk, 64, got, LEN));
	EXPECT_EQ(0, memcmp(want, got, LEN));
	for (i = 0; i < ARRAY_SIZE(r); i++)
		req_free(&r[i]);
}

SUITE_MAIN
