// SPDX-License-Identifier: GPL-2.0
/*
 * A guest behind a virtual IOMMU: translations that are missing, change, forbid,
 * or never come.
 */
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "suite.h"
#include "tlb.h"

#define FEATURES (DRIVER_FEATURES | BIT64(VIRTIO_F_ACCESS_PLATFORM))
#define SIZE	(6UL << 20)

/* Descriptors fill four pages; avail and used have their own as well. */
#define RING_SIZE 1024
#define SMALL_RING 64

/* The parts of one read, each in pages of its own. */
struct parts {
	char *table, *hdr, *data, *status;
	struct vseg seg[3];
};

#define DATA_LEN (3 * 4096)

FIXTURE(iotlb) {
	struct vdev d;
	struct tlb t;
	struct vq *q, *other;
	struct blkdev disk;
	struct parts p;
	struct baseline before;
};

FIXTURE_VARIANT(iotlb) {
	enum tlb_order order;
	bool v1;
	unsigned int poll_us;
};

FIXTURE_VARIANT_ADD(iotlb, random) { TLB_RANDOM, false, 0 };
FIXTURE_VARIANT_ADD(iotlb, reversed_polled) { TLB_REVERSED, false, 2000 };
FIXTURE_VARIANT_ADD(iotlb, random_old_messages) { TLB_RANDOM, true, 0 };

static void *own_pages(struct gmem *m, size_t size)
{
	void *p = gmem_alloc(m, size, TLB_PAGE);

	m->used = (m->used + TLB_PAGE - 1) / TLB_PAGE * TLB_PAGE;
	return p;
}

/* A ring on pages that it shares with nothing else. */
static int tlb_ring(struct vdev *d, unsigned int index, unsigned int num,
		    struct vq **q)
{
	int r;

	own_pages(&d->mem, 1);
	r = vq_setup(d, index, num, q);
	own_pages(&d->mem, 1);
	return r;
}

static void lay_out_parts(struct gmem *m, struct parts *p)
{
	/* Data begins in the middle of a page, and is not aligned. */
	p->table = own_pages(m, 4096);
	p->hdr = (char *)own_pages(m, 4096) + 100;
	p->data = (char *)own_pages(m, DATA_LEN + 4096) + 2048;
	p->status = (char *)own_pages(m, 4096) + 4095;
	p->seg[0] = (struct vseg){ gmem_addr(m, p->hdr), 16, false };
	p->seg[1] = (struct vseg){ gmem_addr(m, p->data), DATA_LEN, true };
	p->seg[2] = (struct vseg){ gmem_addr(m, p->status), 1, true };
}

FIXTURE_SETUP(iotlb)
{
	self->before = baseline_take();
	OPEN_DISK(&self->disk, BLKDEV_HOLD);
	ASSERT_EQ(0, vdev_open(&self->d, FEATURES, SIZE));
	ASSERT_EQ(0, tlb_init(&self->t, &self->d, variant->order, variant->v1));
	ASSERT_EQ(0, tlb_start(&self->t));
	ASSERT_EQ(0, tlb_ring(&self->d, 0, RING_SIZE, &self->q));
	ASSERT_EQ(0, tlb_ring(&self->d, 1, SMALL_RING, &self->other));
	lay_out_parts(&self->d.mem, &self->p);
	ASSERT_EQ(0, tlb_vq_start(&self->t, self->q, self->disk.fd));
	ASSERT_EQ(0, tlb_vq_start(&self->t, self->other, self->disk.fd));
	ASSERT_EQ(0, vdev_set_poll(&self->d, VHOST_BLK_ALL_RINGS,
				   variant->poll_us));
}

FIXTURE_TEARDOWN(iotlb)
{
	blkdev_release(&self->disk);
	EXPECT_EQ(0, self->t.stray);
	tlb_free(&self->t);
	vdev_close(&self->d);
	blkdev_close(&self->disk);
	EXPECT_BASELINE(self->before);
}

/* Queue a read of @sector; its indirect table is one of the parts. */
static int add_read(struct vq *q, struct parts *p, uint64_t sector)
{
	struct virtio_blk_outhdr hdr = {
		.type = VIRTIO_BLK_T_IN, .sector = sector,
	};
	struct vslot *slot = &q->slot[q->free_head];

	slot->table = (struct vring_desc *)p->table;
	slot->table_len = ARRAY_SIZE(p->seg);
	memcpy(p->hdr, &hdr, sizeof(hdr));
	memset(p->data, REQ_POISON, DATA_LEN);
	*p->status = REQ_NO_STATUS;
	return vq_add(q, p->seg, ARRAY_SIZE(p->seg), VQ_INDIRECT, NULL);
}

static int wait_one(struct vq *q, unsigned int ms)
{
	int r = vq_wait(q, ms);

	return r ? r : vq_get(q, NULL, NULL) == 1 ? 0 : -EPROTO;
}

/* Content of the disk that differs from sector to sector. */
static void fill_disk(struct __test_metadata *_metadata,
		      const struct blkdev *disk, char *buf, uint64_t sector)
{
	struct prng p;

	prng_init(&p, sector);
	prng_fill(&p, buf, DATA_LEN);
	ASSERT_EQ(0, blkdev_poke(disk, sector, buf, DATA_LEN));
}

/* All that one request needs, by page. */
static unsigned int all_pages(FIXTURE_DATA(iotlb) *self, unsigned int *page)
{
	struct parts *p = &self->p;
	struct vring *vr = &self->q->vr;
	const void *part[] = {
		vr->desc, (char *)vr->desc + 4096,
		(char *)vr->desc + 8192, (char *)vr->desc + 12288,
		vr->avail, vr->used, (char *)vr->used + 4096,
		p->table, p->hdr, p->data, p->data + 4096, p->data + 8192,
		p->data + DATA_LEN - 1, p->status,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(part); i++)
		page[i] = tlb_page(&self->t, part[i]);
	return i;
}

static char buf[DATA_LEN] __attribute__((aligned(4096)));
static char want[DATA_LEN] __attribute__((aligned(4096)));

TEST_F(iotlb, every_part_is_asked_for_and_found)
{
	unsigned int page[16], n, i;

	fill_disk(_metadata, &self->disk, want, 8);
	ASSERT_LE(0, add_read(self->q, &self->p, 8));
	ASSERT_EQ(0, tlb_unmap_all(&self->t));
	vq_kick(self->q);
	ASSERT_EQ(0, wait_one(self->q, REQ_TIMEOUT_MS));
	EXPECT_EQ(VIRTIO_BLK_S_OK, *self->p.status);
	EXPECT_EQ(0, memcmp(want, self->p.data, DATA_LEN));
	n = all_pages(self, page);
	for (i = 0; i < n; i++)
		EXPECT_LE(1, self->t.asked[page[i]]) TH_LOG("part %u", i);
	/* and the way back: a write arrives on the disk */
	prng_fill(&(struct prng){ 5 }, want, DATA_LEN);
	ASSERT_EQ(0, blk_write(self->q, 64, want, DATA_LEN));
	ASSERT_EQ(0, blkdev_peek(&self->disk, 64, buf, DATA_LEN));
	EXPECT_EQ(0, memcmp(want, buf, DATA_LEN));
}

/* The ring waits, at no cost, until @page is answered; the other one goes on. */
static void park_at(struct __test_metadata *_metadata,
		    FIXTURE_DATA(iotlb) *self, unsigned int page)
{
	unsigned int misses, i;
	int64_t cpu;
	int tid;

	ASSERT_LE(0, add_read(self->q, &self->p, 8));
	ASSERT_EQ(0, tlb_map_all(&self->t));
	ASSERT_EQ(0, blk_flush(self->other));
	self->t.asked[page] = 0;
	tlb_mute(&self->t, true);
	/* The worker may be about to sleep, and look at the ring before that. */
	misses = self->t.misses;
	ASSERT_EQ(0, tlb_unmap(&self->t, page, 1));
	vq_publish(self->q);
	vq_kick_force(self->q);
	ASSERT_EQ(0, tlb_wait_asked(&self->t, page, 3000));
	for (i = 0; i < 200; i++)
		vq_kick_force(self->q);
	ASSERT_EQ(0, blk_flush(self->other));
	EXPECT_EQ(REQ_NO_STATUS, (uint8_t)*self->p.status);
	EXPECT_EQ(0, vq_pending(self->q));
	/* asked once, however often it was kicked */
	EXPECT_EQ(misses + 1, self->t.misses);
	tid = vdev_worker(&self->d, 0);
	sleep_ms(20);
	cpu = thread_cpu_ns(tid);
	sleep_ms(100);
	EXPECT_GT(20000000, thread_cpu_ns(tid) - cpu);
	tlb_mute(&self->t, false);
	ASSERT_EQ(0, wait_one(self->q, REQ_TIMEOUT_MS));
	EXPECT_EQ(VIRTIO_BLK_S_OK, *self->p.status);
	EXPECT_EQ(0, memcmp(want, self->p.data, DATA_LEN));
}

TEST_F(iotlb, a_miss_anywhere_parks_that_ring_alone_until_answered)
{
	unsigned int page[16], n, i;
	struct vhost_blk_stats s;

	fill_disk(_metadata, &self->disk, want, 8);
	n = all_pages(self, page);
	for (i = 0; i < n; i++) {
		park_at(_metadata, self, page[i]);
		ASSERT_EQ(0, _metadata->exit_code) TH_LOG("part %u", i);
	}
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_LE(n, s.iotlb_misses);
	EXPECT_EQ(n, s.reads);
	EXPECT_EQ(0, s.ring_errors);
}

static void wait_inflight(struct __test_metadata *_metadata, struct vdev *d,
			  unsigned int want_inflight)
{
	struct vhost_blk_stats s;
	unsigned int tries = 500;

	do {
		ASSERT_EQ(0, vdev_stats(d, 0, &s));
		if (s.inflight == want_inflight)
			return;
		sleep_ms(5);
	} while (tries--);
	ASSERT_EQ(want_inflight, s.inflight);
}

/* A read is complete; that it is cannot be told to the guest. */
static void complete_untold(struct __test_metadata *_metadata,
			    FIXTURE_DATA(iotlb) *self)
{
	fill_disk(_metadata, &self->disk, want, 8);
	ASSERT_EQ(0, blkdev_hold(&self->disk));
	ASSERT_LE(0, add_read(self->q, &self->p, 8));
	vq_kick(self->q);
	wait_inflight(_metadata, &self->d, 1);
	tlb_mute(&self->t, true);
	ASSERT_EQ(0, tlb_unmap_all(&self->t));
	ASSERT_EQ(0, blkdev_release(&self->disk));
	wait_inflight(_metadata, &self->d, 0);
	EXPECT_EQ(VIRTIO_BLK_S_OK, *self->p.status);
	EXPECT_EQ(0, memcmp(want, self->p.data, DATA_LEN));
	EXPECT_EQ(0, vq_pending(self->q));
	EXPECT_EQ(self->before.pinned, pages_pinned());
}

TEST_F(iotlb, a_completion_waits_for_the_used_ring)
{
	complete_untold(_metadata, self);
	/* neither of these waits for an answer */
	EXPECT_EQ(-EAGAIN, vq_stop(self->q));
	EXPECT_EQ(0, vdev_set_mem(&self->d));
	EXPECT_EQ(-EAGAIN, vq_stop(self->q));
	EXPECT_EQ(0, vq_pending(self->q));
	tlb_mute(&self->t, false);
	ASSERT_EQ(0, wait_one(self->q, REQ_TIMEOUT_MS));
	ASSERT_EQ(0, vq_stop(self->q));
	EXPECT_EQ(1, vq_base(self->q));
	ASSERT_EQ(0, tlb_vq_start(&self->t, self->q, self->disk.fd));
	EXPECT_EQ(0, blk_flush(self->q));
}

TEST_F(iotlb, stopping_tells_what_can_be_told)
{
	unsigned int i;

	complete_untold(_metadata, self);
	EXPECT_EQ(-EAGAIN, vq_stop(self->q));
	/*
	 * All is mapped, without being asked, and a stop finds it. While that
	 * goes on the kernel may ask for pages that are mapped when the question
	 * is read: it wants an answer nevertheless.
	 */
	ASSERT_EQ(0, tlb_map_all(&self->t));
	for (i = 0; i < 100 && vq_stop(self->q) == -EAGAIN; i++) {
		sleep_ms(1);
		ASSERT_EQ(0, tlb_map_all(&self->t));
	}
	EXPECT_GT(100, i);
	EXPECT_EQ(1, vq_pending(self->q));
	tlb_mute(&self->t, false);
}

TEST_F(iotlb, a_ring_can_be_abandoned)
{
	complete_untold(_metadata, self);
	EXPECT_EQ(-EAGAIN, vq_stop(self->q));
	EXPECT_EQ(0, vdev_file(&self->d, VHOST_BLK_SET_BACKEND, 0,
			       VHOST_BLK_ABANDON));
	EXPECT_EQ(0, vq_pending(self->q));
	/* the other one was asked about, too, and is not forgotten */
	tlb_mute(&self->t, false);
	ASSERT_EQ(0, vq_reset(self->q));
	ASSERT_EQ(0, tlb_vq_start(&self->t, self->q, self->disk.fd));
	EXPECT_EQ(0, blk_flush(self->q));
	EXPECT_EQ(0, blk_flush(self->other));
	EXPECT_EQ(0, vq_pending(self->q));
}

TEST_F(iotlb, a_parked_ring_stops_and_the_others_still_get_answers)
{
	unsigned int first = tlb_page(&self->t, self->q->vr.desc);
	unsigned int second = tlb_page(&self->t, self->other->vr.desc);
	uint64_t before;

	ASSERT_NE(first, second);
	ASSERT_EQ(0, blk_flush(self->q));
	ASSERT_EQ(0, blk_flush(self->other));
	tlb_mute(&self->t, true);
	self->t.asked[first] = 0;
	self->t.asked[second] = 0;
	ASSERT_EQ(0, tlb_unmap_all(&self->t));
	ASSERT_LE(0, add_read(self->q, &self->p, 8));
	vq_publish(self->q);
	vq_kick_force(self->q);
	ASSERT_LE(0, add_read(self->other, &self->p, 8));
	vq_publish(self->other);
	vq_kick_force(self->other);
	ASSERT_EQ(0, tlb_wait_asked(&self->t, first, REQ_TIMEOUT_MS));
	ASSERT_EQ(0, tlb_wait_asked(&self->t, second, REQ_TIMEOUT_MS));
	/* What both have asked for goes away with one: the other asks again. */
	tlb_forget(&self->t);
	before = now_ns();
	EXPECT_EQ(0, vq_stop(self->q));
	EXPECT_EQ(1, vq_base(self->q));
	EXPECT_GT(1000000000, now_ns() - before);
	tlb_mute(&self->t, false);
	ASSERT_EQ(0, wait_one(self->other, REQ_TIMEOUT_MS));
}

TEST_F(iotlb, a_page_that_moves_is_found_at_its_new_place)
{
	unsigned int page = tlb_page(&self->t, self->p.data), was, i;
	unsigned int spare = self->t.pages;

	for (i = 0; i < 20; i++) {
		fill_disk(_metadata, &self->disk, want, 8 * i);
		ASSERT_LE(0, add_read(self->q, &self->p, 8 * i));
		was = self->t.at[page];
		ASSERT_EQ(0, tlb_move(&self->t, page, spare));
		spare = was;
		memset(self->t.view + was * TLB_PAGE, 0xc3, TLB_PAGE);
		memset(self->p.data, REQ_POISON, DATA_LEN);
		vq_kick(self->q);
		ASSERT_EQ(0, wait_one(self->q, REQ_TIMEOUT_MS));
		EXPECT_EQ(VIRTIO_BLK_S_OK, *self->p.status);
		EXPECT_EQ(0, memcmp(want, self->p.data, DATA_LEN));
		EXPECT_TRUE(mem_is(self->t.view + was * TLB_PAGE, 0xc3, TLB_PAGE));
	}
}

/* Break the translation of @page to @perm: the ring stops, and says so. */
static void expect_denied(struct __test_metadata *_metadata,
			  FIXTURE_DATA(iotlb) *self, unsigned int page,
			  uint8_t perm)
{
	struct vhost_blk_stats s;

	ASSERT_EQ(0, blk_flush(self->q));
	eventfd_take(self->q->err);
	ASSERT_LE(0, add_read(self->q, &self->p, 8));
	self->t.perm[page] = perm;
	ASSERT_EQ(0, tlb_unmap(&self->t, page, 1));
	vq_publish(self->q);
	vq_kick_force(self->q);
	ASSERT_EQ(0, vq_wait_error(self->q, 3000));
	ASSERT_LT(0, vdev_worker(&self->d, 0));
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(1, s.ring_errors);
	EXPECT_EQ(0, vq_pending(self->q));
	EXPECT_TRUE(mem_is(self->p.data, REQ_POISON, DATA_LEN));
	EXPECT_EQ(0, blk_flush(self->other));
	/* allowed again, and reset, it works */
	self->t.perm[page] = VHOST_ACCESS_RW;
	ASSERT_EQ(0, tlb_unmap_all(&self->t));
	ASSERT_EQ(0, vq_reset(self->q));
	ASSERT_EQ(0, tlb_vq_start(&self->t, self->q, self->disk.fd));
	EXPECT_EQ(0, blk_flush(self->q));
}

TEST_F(iotlb, read_only_data_is_not_written)
{
	expect_denied(_metadata, self, tlb_page(&self->t, self->p.data + 4096),
		      VHOST_ACCESS_RO);
}

TEST_F(iotlb, a_read_only_status_is_not_written)
{
	expect_denied(_metadata, self, tlb_page(&self->t, self->p.status),
		      VHOST_ACCESS_RO);
	EXPECT_EQ(REQ_NO_STATUS, (uint8_t)*self->p.status);
}

TEST_F(iotlb, a_write_only_header_is_not_read)
{
	expect_denied(_metadata, self, tlb_page(&self->t, self->p.hdr),
		      VHOST_ACCESS_WO);
}

TEST_F(iotlb, a_read_only_used_ring_is_not_written)
{
	expect_denied(_metadata, self, tlb_page(&self->t, self->q->vr.used),
		      VHOST_ACCESS_RO);
}

/* Random I/O, verified, while translations go away all the time. */
static void *invalidate_thread(void *arg)
{
	struct tlb *t = arg;
	struct prng p;

	prng_init(&p, 99);
	while (!__atomic_load_n(&t->stop, __ATOMIC_RELAXED)) {
		if (prng_below(&p, 4))
			tlb_unmap(t, prng_below(&p, t->pages - 8), 8);
		else
			tlb_unmap_all(t);
		usleep(prng_below(&p, 3000));
	}
	return NULL;
}

#define DEPTH 8
#define BLOCK 8192

TEST_F_TIMEOUT(iotlb, io_is_right_while_translations_come_and_go, 180)
{
	unsigned long left = test_scale(1500), i;
	static uint8_t gen[DEPTH];
	struct req r[DEPTH], *got;
	pthread_t thread;
	int err;

	memset(gen, 0, sizeof(gen));
	for (i = 0; i < DEPTH; i++) {
		req_init(&r[i], VIRTIO_BLK_T_OUT, i * 16, BLOCK);
		r[i].layout = i % 2 ? &layout_indirect : &layout_plain;
		ASSERT_EQ(0, req_build(&self->d.mem, &r[i]));
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, invalidate_thread, &self->t));
	/* each block is written with its own byte, then read back, and so on */
	for (i = 0; i < DEPTH; i++) {
		memset(buf, ++gen[i] * 8 + i, BLOCK);
		req_put_data(&r[i], buf);
		ASSERT_LE(0, req_add(self->q, &r[i]));
	}
	vq_kick(self->q);
	while (left) {
		ASSERT_EQ(0, vq_wait(self->q, REQ_TIMEOUT_MS));
		while ((got = req_reap(self->q, &err)) && left) {
			i = got - r;
			left--;
			ASSERT_EQ(VIRTIO_BLK_S_OK, got->status);
			ASSERT_EQ(0, blkdev_peek(&self->disk, got->sector, buf,
						 BLOCK));
			ASSERT_TRUE(mem_is(buf, gen[i] * 8 + i, BLOCK));
			memset(buf, ++gen[i] * 8 + i, BLOCK);
			req_put_data(got, buf);
			ASSERT_LE(0, req_add(self->q, got));
		}
		ASSERT_EQ(0, err);
		vq_kick(self->q);
	}
	while (self->q->nfree < self->q->num) {
		ASSERT_EQ(0, vq_wait(self->q, REQ_TIMEOUT_MS));
		while (req_reap(self->q, &err))
			;
	}
	tlb_stop(&self->t);
	pthread_join(thread, NULL);
	EXPECT_LT(100, self->t.misses);
	for (i = 0; i < DEPTH; i++)
		req_free(&r[i]);
}

TEST_F(iotlb, sixty_four_rings_share_one_iotlb)
{
	struct vq *q[VHOST_BLK_MAX_RINGS];
	unsigned int i;

	for (i = 2; i < VHOST_BLK_MAX_RINGS; i++) {
		ASSERT_EQ(0, tlb_ring(&self->d, i, 16, &q[i]));
		ASSERT_EQ(0, tlb_vq_start(&self->t, q[i], self->disk.fd));
	}
	ASSERT_EQ(0, tlb_unmap_all(&self->t));
	for (i = 2; i < VHOST_BLK_MAX_RINGS; i++)
		ASSERT_EQ(0, blk_flush(q[i]));
	EXPECT_LE(62, self->t.misses);
}

/* Messages. */

TEST_F(iotlb, bad_messages_are_refused)
{
	struct vhost_msg_v2 m = { .type = VHOST_IOTLB_MSG_V2 };
	struct vhost_iotlb_msg good = {
		.iova = GMEM_HIGH, .size = 4096, .perm = VHOST_ACCESS_RW,
		.uaddr = (uintptr_t)self->t.view, .type = VHOST_IOTLB_UPDATE,
	};
	int fd = self->d.fd;

#define EXPECT_WRITE(error, len) do {				\
	EXPECT_EQ(-1, write(fd, &m, len));			\
	EXPECT_EQ(error, errno);				\
} while (0)
	m.iotlb = good;
	EXPECT_WRITE(EINVAL, 3);
	EXPECT_WRITE(EINVAL, sizeof(m.type));
	EXPECT_WRITE(EINVAL, sizeof(m.type) + 20);
	m.type = 77;
	EXPECT_WRITE(EINVAL, sizeof(m));
	m.type = VHOST_IOTLB_MSG_V2;
	m.iotlb.size = 0;
	EXPECT_WRITE(EINVAL, sizeof(m));
	m.iotlb = good;
	m.iotlb.type = VHOST_IOTLB_MISS;
	EXPECT_WRITE(EFAULT, sizeof(m));
	m.iotlb = good;
	m.iotlb.uaddr = -4096ULL;
	EXPECT_WRITE(EFAULT, sizeof(m));
	m.iotlb = good;
	EXPECT_EQ(sizeof(m), write(fd, &m, sizeof(m)));
	EXPECT_EQ(0, blk_flush(self->other));
}

TEST_F(iotlb, only_the_owner_sends_and_receives)
{
	int status;
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		struct vhost_msg_v2 m = {};

		_exit(tlb_map(&self->t, 0) != -EPERM ||
		      read(self->d.fd, &m, sizeof(m)) != -1 || errno != EPERM);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(iotlb, without_the_feature_there_is_none)
{
	uint64_t features = DRIVER_FEATURES, unknown = BIT64(63);
	struct vhost_msg_v2 m = {};

	EXPECT_EQ(-EBUSY, vdev_ioctl(&self->d, VHOST_SET_FEATURES, &features));
	EXPECT_EQ(-EOPNOTSUPP, vdev_ioctl(&self->d, VHOST_SET_BACKEND_FEATURES,
					  &unknown));
	ASSERT_EQ(0, vq_stop(self->q));
	ASSERT_EQ(0, vq_stop(self->other));
	tlb_stop(&self->t);
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_FEATURES, &features));
	EXPECT_EQ(-EFAULT, tlb_map(&self->t, 0));
	EXPECT_EQ(-EFAULT, tlb_unmap_all(&self->t));
	EXPECT_EQ(-1, read(self->d.fd, &m, sizeof(m)));
	EXPECT_EQ(EBADFD, errno);
	/* addresses are our own again */
	self->d.iova = false;
	ASSERT_EQ(0, vq_setup(&self->d, 0, 64, &self->q));
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(0, blk_flush(self->q));
}

TEST_F(iotlb, a_ring_starts_only_if_its_used_index_is_mapped)
{
	ASSERT_EQ(0, blk_flush(self->q));
	ASSERT_EQ(0, vq_stop(self->q));
	tlb_mute(&self->t, true);
	ASSERT_EQ(0, tlb_unmap_all(&self->t));
	EXPECT_EQ(-EFAULT, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(-EFAULT, vq_start(self->q, self->disk.fd));
	tlb_mute(&self->t, false);
	ASSERT_EQ(0, tlb_vq_start(&self->t, self->q, self->disk.fd));
	EXPECT_EQ(0, blk_flush(self->q));
}

/* A VMM that never answers. */

/* In a child: a completion that cannot be told, and a ring that is parked. */
static void dead_vmm(FIXTURE_DATA(iotlb) *self, bool v1, bool die, int ready)
{
	struct tlb t;
	struct vdev d;
	struct vq *q;
	struct req r;

	if (vdev_open(&d, FEATURES, SIZE) || tlb_init(&t, &d, TLB_RANDOM, v1) ||
	    tlb_ring(&d, 0, SMALL_RING, &q) || tlb_map_all(&t) ||
	    vq_start(q, self->disk.fd))
		_exit(1);
	req_init(&r, VIRTIO_BLK_T_IN, 0, 4096);
	if (req_build(&d.mem, &r) || req_add(q, &r) < 0)
		_exit(2);
	vq_kick(q);
	sleep_ms(100);
	if (tlb_unmap_all(&t) || tlb_ring(&d, 1, SMALL_RING, &q) ||
	    tlb_vq_start(&t, q, self->disk.fd))
		_exit(3);
	vq_kick_force(q);
	blkdev_release(&self->disk);
	sleep_ms(200);
	if (eventfd_write(ready, 1))
		_exit(4);
	if (die)
		pause();
	vdev_close(&d);
	_exit(0);
}

static void outlive(struct __test_metadata *_metadata,
		    FIXTURE_DATA(iotlb) *self, bool v1, bool die)
{
	int status, refs = module_refs("vhost_blk"), i;
	int ready = eventfd(0, 0);
	uint64_t before;
	pid_t pid;

	ASSERT_LE(0, ready);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, blkdev_hold(&self->disk));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			dead_vmm(self, v1, die, ready);
		ASSERT_EQ(1, eventfd_take(ready));
		before = now_ns();
		if (die)
			kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(die ? SIGKILL : 0, status);
		EXPECT_GT(20000000000, now_ns() - before);
		EXPECT_EQ(refs, module_refs_settle("vhost_blk", refs, 3000));
	}
	close(ready);
}

TEST_F(iotlb, a_vmm_that_does_not_answer_may_close)
{
	outlive(_metadata, self, variant->v1, false);
}

TEST_F(iotlb, a_vmm_that_does_not_answer_may_be_killed)
{
	outlive(_metadata, self, variant->v1, true);
}

TEST_F(iotlb, a_vmm_that_does_not_answer_may_reset_the_owner)
{
	struct vhost_blk_stats s;

	complete_untold(_metadata, self);
	ASSERT_EQ(0, vdev_stats(&self->d, 0, &s));
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_RESET_OWNER, NULL));
}

SUITE_MAIN
