// SPDX-License-Identifier: GPL-2.0
/*
 * Hazards of this kind of software that have no place in the other suites.
 * Documentation/admin-guide/vhost-blk-security.rst lists them all, with the tests
 * that would catch them.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "suite.h"

#define RING_SIZE	64
#define CANARY		0xc9

/* A ring on a disk that answers at once, and another one beside it. */

FIXTURE(hazard) {
	struct vdev d;
	struct vq *q, *other;
	struct blkdev disk;
	struct baseline before;
	struct prng rnd;
};

FIXTURE_SETUP(hazard)
{
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_NULL_512);
	prng_init(&self->rnd, 31);
	ASSERT_EQ(0, vdev_open(&self->d, DRIVER_FEATURES, MEM_SIZE));
	ASSERT_EQ(0, vq_setup(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, vq_setup(&self->d, 1, RING_SIZE, &self->other));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, vq_start(self->other, self->disk.fd));
}

FIXTURE_TEARDOWN(hazard)
{
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/*
 * Double fetch: a request whose header and descriptors never stand still. Its
 * buffers lie at the end of what the guest has, with a canary behind, and the
 * sectors that it names at either end of the disk.
 */
struct flip {
	pthread_t thread;
	struct vring_desc *desc;
	struct virtio_blk_outhdr *hdr;
	uint64_t data, end;	/* guest addresses */
	uint64_t sectors;
	struct prng rnd;
	bool stop;
};

static void flip_sound(struct flip *f)
{
	struct vring_desc *d = f->desc;

	d[0].flags = VRING_DESC_F_NEXT;
	d[0].next = 1;
	d[0].len = 16;
	d[1].addr = f->data;
	d[1].len = 4096;
	d[1].flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE;
	d[1].next = 2;
	d[2].flags = VRING_DESC_F_WRITE;
	f->hdr->type = VIRTIO_BLK_T_IN;
	f->hdr->sector = 0;
}

static void flip_once(struct flip *f)
{
	static const uint32_t len[] = { 0, 1, 15, 512, 4096, 8192, 65536, ~0u };
	static const uint32_t type[] = { 0, 1, 1, 4, 8, 11, 13, 99 };
	static const uint16_t next[] = { 0, 1, 2, RING_SIZE, 0xffff };
	uint64_t addr[] = { f->data, f->end - 512, f->end - 4096, f->end,
			    GMEM_HOLE, ~0ULL - 511 };
	uint64_t sector[] = { 0, 1, 8, f->sectors - 1, f->sectors, ~0ULL,
			      ~0ULL >> 9 };
	struct vring_desc *d = &f->desc[prng_below(&f->rnd, 3)];

	switch (prng_below(&f->rnd, 8)) {
	case 0:
		f->desc[1].addr = addr[prng_below(&f->rnd, ARRAY_SIZE(addr))];
		break;
	case 1:
		d->len = len[prng_below(&f->rnd, ARRAY_SIZE(len))];
		break;
	case 2:
		d->flags ^= 1 << prng_below(&f->rnd, 3);
		break;
	case 3:
		d->next = next[prng_below(&f->rnd, ARRAY_SIZE(next))];
		break;
	case 4:
		f->hdr->type = type[prng_below(&f->rnd, ARRAY_SIZE(type))];
		break;
	case 5:
		f->hdr->sector = sector[prng_below(&f->rnd, ARRAY_SIZE(sector))];
		break;
	default:
		flip_sound(f);
	}
}

static void *flip_thread(void *arg)
{
	struct flip *f = arg;

	while (!__atomic_load_n(&f->stop, __ATOMIC_RELAXED))
		flip_once(f);
	return NULL;
}

/* Lay the request out in the first descriptors of a ring that is empty. */
static void flip_init(struct flip *f, struct vq *q, uint64_t end,
		      uint64_t sectors)
{
	struct gmem *m = &q->dev->mem;

	memset(f, 0, sizeof(*f));
	f->desc = q->vr.desc;
	f->hdr = gmem_alloc(m, 16, 16);
	f->data = end - 4096;
	f->end = end;
	f->sectors = sectors;
	f->rnd.state = test_seed();
	f->desc[0].addr = gmem_addr(m, f->hdr);
	f->desc[2].addr = gmem_addr(m, gmem_alloc(m, 1, 1));
	f->desc[2].len = 1;
	flip_sound(f);
}

/* Offer it once: 1 if it came back, 0 if it broke the ring, or an error. */
static int flip_offer(struct vq *q)
{
	uint64_t end = now_ns() + REQ_TIMEOUT_MS * 1000000ULL;

	vq_add_raw(q, 0);
	vq_publish(q);
	vq_kick_force(q);
	while (now_ns() < end) {
		if (vq_pending(q)) {
			q->last_used++;
			return 1;
		}
		if (!vq_wait_error(q, 0))
			return 0;
	}
	return -ETIMEDOUT;
}

#define WATCHED 1024	/* sectors that nobody names, from WATCH on */
#define WATCH 512

TEST_F_TIMEOUT(hazard, a_request_that_changes_while_it_is_read_stays_in_bounds, 120)
{
	const size_t guard = 65536;
	const unsigned long total = test_scale(3000), few = total / 20;
	const uint64_t end = now_ns() + 100 * 1000000000ULL;
	unsigned long i, back = 0, broken = 0;
	char *canary, *want = malloc(WATCHED * 512), *got = malloc(WATCHED * 512);
	struct flip f;
	char buf[512];
	int r;

	prng_fill(&self->rnd, want, WATCHED * 512);
	ASSERT_EQ(0, blkdev_poke(&self->disk, WATCH, want, WATCHED * 512));
	/* what is behind the new end is none of the guest's any more */
	self->d.mem.high -= guard;
	ASSERT_EQ(0, vdev_set_mem(&self->d));
	canary = self->d.mem.base + 2 * GMEM_HALF + self->d.mem.high;
	memset(canary, CANARY, guard);
	flip_init(&f, self->q, GMEM_HIGH + self->d.mem.high, self->disk.sectors);
	ASSERT_EQ(0, pthread_create(&f.thread, NULL, flip_thread, &f));
	/* which of the two it meets depends on who runs when */
	for (i = 0; i < total || back < few || broken < few; i++) {
		ASSERT_GT(end, now_ns());
		r = flip_offer(self->q);
		ASSERT_LE(0, r);
		back += r;
		broken += !r;
		if (r)
			continue;
		/* as the driver does it; the flipping goes on meanwhile */
		ASSERT_EQ(0, vq_stop(self->q));
		self->q->avail_idx = 0;
		self->q->last_used = 0;
		self->q->vr.avail->idx = 0;
		self->q->vr.used->idx = 0;
		eventfd_take(self->q->err);
		ASSERT_EQ(0, vdev_state(&self->d, VHOST_SET_VRING_BASE, 0, 0));
		ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
		EXPECT_EQ(0, blk_read(self->other, WATCH, buf, sizeof(buf)));
		ASSERT_EQ(0, memcmp(want, buf, sizeof(buf)));
	}
	__atomic_store_n(&f.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(f.thread, NULL));
	TH_LOG("%lu came back, %lu broke the ring", back, broken);
	EXPECT_TRUE(mem_is(canary, CANARY, guard));
	ASSERT_EQ(0, blkdev_peek(&self->disk, WATCH, got, WATCHED * 512));
	EXPECT_EQ(0, memcmp(want, got, WATCHED * 512));
	/* the ring is as good as new */
	ASSERT_EQ(0, vq_reset(self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(0, blk_read(self->q, WATCH, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(want, buf, sizeof(buf)));
	self->d.mem.high += guard;
	free(want);
	free(got);
}

/* Ring addresses that are set while the ring runs (CVE-2025-38074). */

#define DEPTH 16

/* Take @n requests back and send them again; negative if one is wrong. */
static int go_round(struct vq *q, unsigned int n)
{
	struct req *r;
	int err;

	while (n) {
		err = vq_wait(q, REQ_TIMEOUT_MS);
		if (err)
			return err;
		while (n && (r = req_reap(q, &err))) {
			if (r->status)
				return -EBADMSG;
			err = req_add(q, r);
			if (err < 0)
				return err;
			n--;
		}
		vq_kick(q);
	}
	return 0;
}

static int go(struct vq *q, struct req *r)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < DEPTH && err >= 0; i++) {
		req_init(&r[i], VIRTIO_BLK_T_IN, i * 8, 4096);
		err = req_build(&q->dev->mem, &r[i]);
		if (!err)
			err = req_add(q, &r[i]);
	}
	vq_kick(q);
	return err < 0 ? err : 0;
}

static struct vhost_vring_addr ring_addr(const struct vq *q)
{
	return (struct vhost_vring_addr){
		.index = q->index,
		.desc_user_addr = (uintptr_t)q->vr.desc,
		.avail_user_addr = (uintptr_t)q->vr.avail,
		.used_user_addr = (uintptr_t)q->vr.used,
	};
}

TEST_F(hazard, addresses_set_while_running_are_checked)
{
	struct vhost_vring_addr good = ring_addr(self->q), bad;
	struct req r[DEPTH];
	unsigned int i;

	ASSERT_EQ(0, go(self->q, r));
	for (i = 0; i < 40; i++) {
		ASSERT_EQ(0, go_round(self->q, DEPTH));
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_VRING_ADDR, &good));
		bad = good;
		/* the kernel's half, and a place with nothing in it */
		if (i % 2)
			bad.used_user_addr = 0xffff888000000000ULL;
		else
			bad.desc_user_addr = ~0ULL & ~15ULL;
		EXPECT_EQ(-EINVAL,
			  vdev_ioctl(&self->d, VHOST_SET_VRING_ADDR, &bad));
	}
	ASSERT_EQ(0, req_wait_n(self->q, DEPTH, REQ_TIMEOUT_MS));
	for (i = 0; i < DEPTH; i++) {
		EXPECT_EQ(VIRTIO_BLK_S_OK, r[i].status);
		req_free(&r[i]);
	}
}

TEST_F(hazard, a_ring_that_moves_while_running_writes_nowhere_else)
{
	size_t used = sizeof(struct vring_used) +
		      RING_SIZE * sizeof(struct vring_used_elem) + 2;
	char *area = gmem_alloc(&self->d.mem, 3 * 4096, 4096);
	struct vhost_vring_addr good = ring_addr(self->q), moved = good;
	struct req r[DEPTH];
	unsigned int i, j;
	char buf[512];

	moved.used_user_addr = (uintptr_t)area + 4096;
	for (i = 0; i < 20; i++) {
		memset(area, CANARY, 3 * 4096);
		ASSERT_EQ(0, go(self->q, r));
		ASSERT_EQ(0, go_round(self->q, 1));
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_VRING_ADDR, &moved));
		ASSERT_EQ(0, vq_stop(self->q));
		EXPECT_TRUE(mem_is(area, CANARY, 4096));
		EXPECT_TRUE(mem_is(area + 4096 + used, CANARY, 8192 - used));
		ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_VRING_ADDR, &good));
		ASSERT_EQ(0, vq_reset(self->q));
		ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
		ASSERT_EQ(0, blk_read(self->q, 0, buf, sizeof(buf)));
		ASSERT_EQ(0, blk_read(self->other, 0, buf, sizeof(buf)));
		for (j = 0; j < DEPTH; j++)
			req_free(&r[j]);
	}
}

/*
 * LOG_ALL is not offered (uapi.c sees it refused), but the core writes the used
 * ring into a log that it was given. It stays within it, also when it is gone.
 */
TEST_F(hazard, a_log_of_the_used_ring_is_kept_and_nothing_beside_it)
{
	const size_t size = 65536;
	struct vhost_vring_addr addr = ring_addr(self->q);
	char *log = mmap(NULL, 3 * size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t base = (uintptr_t)log + size;
	struct req r[DEPTH];
	unsigned int i;

	ASSERT_NE(MAP_FAILED, log);
	memset(log, 0, 3 * size);
	ASSERT_EQ(0, vq_reset(self->q));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_LOG_BASE, &base));
	addr.flags = 1 << VHOST_VRING_F_LOG;
	addr.log_guest_addr = GMEM_LOW;
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_VRING_ADDR, &addr));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, go(self->q, r));
	for (i = 0; i < 20; i++)
		ASSERT_EQ(0, go_round(self->q, DEPTH));
	/* one bit for the page, and no other */
	EXPECT_EQ(1, log[size + GMEM_LOW / 4096 / 8]);
	log[size + GMEM_LOW / 4096 / 8] = 0;
	EXPECT_TRUE(mem_is(log, 0, 3 * size));
	/* the log is unmapped under it: the guest does not notice */
	ASSERT_EQ(0, munmap(log + size, size));
	for (i = 0; i < 20; i++)
		ASSERT_EQ(0, go_round(self->q, DEPTH));
	EXPECT_TRUE(mem_is(log, 0, size));
	EXPECT_TRUE(mem_is(log + 2 * size, 0, size));
	ASSERT_EQ(0, req_wait_n(self->q, DEPTH, REQ_TIMEOUT_MS));
	munmap(log, size);
	munmap(log + 2 * size, size);
}

/*
 * Guest memory that is a file: what the disk wrote into it is written to the
 * file, although the pages were clean when the data arrived.
 */
TEST(data_read_into_memory_of_a_file_reaches_the_file)
{
	const size_t size = 4UL << 20, all = 2 * GMEM_HALF + size;
	struct baseline before = baseline_take();
	char want[65536], got[65536], path[160];
	struct blkdev disk, fs;
	struct prng rnd;
	struct vdev d;
	struct vq *q;
	struct req r;
	off_t at;
	int fd;

	OPEN_DISK(&fs, BLKDEV_EXT4);
	OPEN_DISK(&disk, BLKDEV_HOLD);
	ASSERT_EQ(0, blkdev_release(&disk));
	prng_init(&rnd, 32);
	prng_fill(&rnd, want, sizeof(want));
	ASSERT_EQ(0, blkdev_poke(&disk, 0, want, sizeof(want)));
	snprintf(path, sizeof(path), "%s.memory", fs.path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, posix_fallocate(fd, 0, all));
	ASSERT_EQ(0, vdev_open(&d, DRIVER_FEATURES, size));
	ASSERT_NE(MAP_FAILED, mmap(d.mem.base, all, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, vq_setup(&d, 0, RING_SIZE, &q));
	ASSERT_EQ(0, vq_start(q, disk.fd));
	req_init(&r, VIRTIO_BLK_T_IN, 0, sizeof(want));
	ASSERT_EQ(0, req_build(&d.mem, &r));
	/* pinned, then written back and clean, then filled */
	ASSERT_EQ(0, blkdev_hold(&disk));
	EXPECT_LE(0, req_add(q, &r));
	vq_kick(q);
	sleep_ms(50);
	EXPECT_EQ(0, fsync(fd));
	ASSERT_EQ(0, blkdev_release(&disk));
	ASSERT_EQ(0, req_wait_n(q, 1, REQ_TIMEOUT_MS));
	EXPECT_EQ(VIRTIO_BLK_S_OK, r.status);
	at = (char *)gmem_ptr(&d.mem, r.seg[1].addr) - d.mem.base;
	req_free(&r);
	vdev_close(&d);
	EXPECT_EQ(0, fsync(fd));
	EXPECT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	EXPECT_EQ(0, run("echo 1 >/proc/sys/vm/drop_caches"));
	ASSERT_EQ((ssize_t)sizeof(got), pread(fd, got, sizeof(got), at));
	EXPECT_EQ(0, memcmp(want, got, sizeof(got)));
	close(fd);
	unlink(path);
	blkdev_close(&disk);
	blkdev_close(&fs);
	EXPECT_BASELINE(before);
}

/* The module comes and goes while a process opens devices as fast as it can. */

static int module_load(void)
{
	const char *path = getenv("VHOST_BLK_TEST_MODULE");

	return path ? run("insmod %s", path) : run("modprobe vhost_blk");
}

/* Open, use and close the device until told to stop; how often it worked. */
static void open_loop(const struct blkdev *disk, int stop)
{
	unsigned int n = 0;
	char buf[512];
	struct vdev d;
	struct vq *q;

	while (eventfd_take(stop) == 0) {
		sleep_ms(1);
		if (vdev_open(&d, DRIVER_FEATURES, 1 << 20))
			continue;	/* it is gone for the moment */
		if (vq_setup(&d, 0, RING_SIZE, &q) || vq_start(q, disk->fd) ||
		    blk_read(q, 0, buf, sizeof(buf)))
			_exit(255);
		vdev_close(&d);
		n++;
	}
	_exit(n > 200 ? 200 : n);
}

TEST(the_module_is_removed_and_loaded_while_others_open_it)
{
	int removed = 0, refused = 0, status, stop, i;
	struct baseline before = baseline_take();
	struct blkdev disk;
	pid_t pid;

	if (module_refs("vhost_blk") < 0)
		SKIP(return, "vhost-blk is built in");
	OPEN_DISK(&disk, BLKDEV_NULL_512);
	stop = eventfd(0, EFD_NONBLOCK);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		open_loop(&disk, stop);
	for (i = 0; i < 3000 && (removed < 10 || refused < 10); i++) {
		if (syscall(SYS_delete_module, "vhost_blk", O_NONBLOCK)) {
			ASSERT_EQ(EAGAIN, errno);
			refused++;
			sleep_ms(1 + i % 5);
		} else {
			removed++;
			ASSERT_EQ(0, module_load());
			sleep_ms(20);
		}
	}
	ASSERT_EQ(0, eventfd_write(stop, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	TH_LOG("%d times removed, %d times refused, %d devices opened", removed,
	       refused, WEXITSTATUS(status));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_LT(0, WEXITSTATUS(status));
	EXPECT_GT(255, WEXITSTATUS(status));
	EXPECT_LE(10, removed);
	EXPECT_LE(10, refused);
	EXPECT_EQ(0, module_refs_settle("vhost_blk", 0, 2000));
	blkdev_close(&disk);
	EXPECT_BASELINE(before);
}

SUITE_MAIN
