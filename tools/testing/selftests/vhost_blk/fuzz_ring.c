// SPDX-License-Identifier: GPL-2.0
/*
 * The contents of a ring: sound requests of every type and layout, and then
 * anything in guest memory that the device reads is another value than it should
 * be, also while the device reads it: descriptors, indirect tables, headers,
 * ranges, indices, events. How the episodes run: fuzz.h.
 *
 * Another ring of the same device has verified I/O meanwhile, in guest memory at
 * addresses that no mutation finds. It must never wait for long. After a reset
 * the ring works; nothing next to guest memory was written.
 */
#include <pthread.h>
#include <sys/eventfd.h>

#include "fuzz.h"
#include "suite.h"

/* A campaign lasts as long as it is told to; fuzz.c watches over it. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT (24 * 3600)

#define HIGH_SIZE	(8UL << 20)
#define REQUESTS	12
#define MAX_DATA	16384
#define WITNESS_SHIFT	0x123456700000ULL
#define ALL_FEATURES	(DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_ZONED) |	\
			 BIT64(VIRTIO_BLK_F_DISCARD) |			\
			 BIT64(VIRTIO_BLK_F_WRITE_ZEROES) |		\
			 BIT64(VIRTIO_BLK_F_SECURE_ERASE))

static const enum blkdev_kind kinds[] = {
	BLKDEV_NULL_512,	/* the first is the one that recovery uses */
	BLKDEV_NULL_4K, BLKDEV_NULL_SMALL, BLKDEV_NULL_TIMER,
	BLKDEV_NULL_DISCARD, BLKDEV_NULL_CACHE, BLKDEV_ZONED,
	BLKDEV_ZONED_CONV, BLKDEV_LOOP, BLKDEV_EXT4,
};

static struct blkdev disks[ARRAY_SIZE(kinds)], witness_disk;

static struct vdev dev, witness_dev;
static struct vq *ring;
static struct blkdev *disk;	/* of the ring */
static struct req reqs[REQUESTS];
static struct vring_desc *tables[REQUESTS];
static struct req_layout layouts[REQUESTS];
static struct witness witness;
static bool iommu, stop;

/* Values that code compares with. */

static uint64_t some_addr(struct prng *p)
{
	const struct req *r = &reqs[prng_below(p, REQUESTS)];
	uint64_t near[] = {
		r->seg[prng_below(p, r->nseg)].addr,
		gmem_addr(&dev.mem, ring->vr.desc),
		gmem_addr(&dev.mem, ring->vr.avail),
		gmem_addr(&dev.mem, ring->vr.used),
		GMEM_LOW, GMEM_BORDER, GMEM_HIGH, GMEM_HIGH + HIGH_SIZE,
		GMEM_HOLE, 0, ~0ULL, 1ULL << 63,
		/* Our own addresses are not the guest's. */
		(uintptr_t)dev.mem.base - GMEM_GUARD / 2,
		(uintptr_t)witness_dev.mem.base,
	};

	if (one_in(p, 16))
		return prng_next(p);
	return PICK(p, near) + (one_in(p, 2) ? 0 : (int)prng_below(p, 1024) - 512);
}

static uint32_t some_len(struct prng *p)
{
	static const uint32_t odd[] = {
		0, 1, 15, 16, 17, 48, 511, 512, 513, 4095, 4096, 8192, 65536,
		1 << 20, 17 << 16, 0x7fffffff, 0x80000000, 0xfffffff0,
		0xffffffff,
	};

	return one_in(p, 8) ? (uint32_t)prng_next(p) : PICK(p, odd);
}

static uint16_t some_index(struct prng *p)
{
	uint16_t odd[] = { ring->num - 1, ring->num, ring->num + 1, 0xffff, 0x8000 };

	return one_in(p, 3) ? PICK(p, odd) : prng_below(p, ring->num);
}

static uint64_t some_sector(struct prng *p)
{
	const uint64_t odd[] = {
		disk->sectors, disk->sectors - 1, disk->sectors - 8, ~0ULL,
		1ULL << 55, (1ULL << 55) - 8, 0, 1,
	};

	return one_in(p, 4) ? PICK(p, odd) :
			      prng_below(p, disk->sectors) & ~7ULL;
}

static uint32_t some_type(struct prng *p)
{
	static const uint32_t known[] = {
		VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_IN,
		VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
		VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
		VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_T_ZONE_APPEND,
		VIRTIO_BLK_T_ZONE_REPORT, VIRTIO_BLK_T_ZONE_OPEN,
		VIRTIO_BLK_T_ZONE_CLOSE, VIRTIO_BLK_T_ZONE_FINISH,
		VIRTIO_BLK_T_ZONE_RESET, VIRTIO_BLK_T_ZONE_RESET_ALL,
	};

	return one_in(p, 24) ? (uint32_t)prng_next(p) : PICK(p, known);
}

/* Sound requests to begin with. */

static void make_layout(struct prng *p, struct req_layout *l)
{
	static const unsigned int hdr[] = { 0, 0, 1, 4, 8, 15 };
	static const unsigned int data[] = { 0, 0, 512, 1024, 4096, 100 };
	static const unsigned int align[] = { 0, 1, 4, 512 };

	memset(l, 0, sizeof(*l));
	l->hdr_chunk = PICK(p, hdr);
	l->data_chunk = PICK(p, data);
	l->hdr_joined = one_in(p, 4);
	l->status_joined = one_in(p, 4);
	l->status_page = one_in(p, 8);
	l->zero = one_in(p, 12);
	l->adjacent = one_in(p, 4);
	l->border = one_in(p, 12);
	l->align = PICK(p, align);
	l->offset = one_in(p, 4) ? prng_below(p, 512) : 0;
	l->mode = prng_below(p, 3);
}

static void make_ranges(struct prng *p, struct req *r)
{
	struct virtio_blk_discard_write_zeroes range[8];
	unsigned int i, n = 1 + prng_below(p, ARRAY_SIZE(range));

	for (i = 0; i < n; i++) {
		range[i].sector = some_sector(p);
		range[i].num_sectors = one_in(p, 8) ? some_len(p) :
						      8 * prng_below(p, 64);
		range[i].flags = one_in(p, 8) ? prng_next(p) : 0;
	}
	r->len = n * sizeof(range[0]);
	FUZZ_OK(req_build(&dev.mem, r));
	req_put_data(r, range);
}

static void make_request(struct prng *p, unsigned int i)
{
	uint32_t type = some_type(p), len = 512 * prng_below(p, MAX_DATA / 512);
	struct req *r = &reqs[i];

	make_layout(p, &layouts[i]);
	if (one_in(p, 12))
		len += prng_below(p, 512);
	req_init(r, type, some_sector(p), len);
	r->layout = &layouts[i];
	r->no_status = one_in(p, 40);
	switch (type) {
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
	case VIRTIO_BLK_T_SECURE_ERASE:
		r->data = REQ_DATA_OUT;
		make_ranges(p, r);
		break;
	case VIRTIO_BLK_T_ZONE_APPEND:
		r->back = 8;
		FUZZ_OK(req_build(&dev.mem, r));
		break;
	case VIRTIO_BLK_T_ZONE_REPORT:
		r->data = REQ_DATA_IN;
		FUZZ_OK(req_build(&dev.mem, r));
		break;
	default:
		FUZZ_OK(req_build(&dev.mem, r));
	}
	tables[i] = gmem_alloc(&dev.mem, (r->nseg + 1) * sizeof(**tables), 16);
}

static void put_desc(struct vring_desc *d, const struct vseg *seg,
		     bool more, uint16_t next)
{
	d->addr = seg->addr;
	d->len = seg->len;
	d->flags = (seg->in ? VRING_DESC_F_WRITE : 0) |
		   (more ? VRING_DESC_F_NEXT : 0);
	d->next = next;
}

/* Anywhere in the descriptor table, whoever is there already. */
static void place(struct prng *p, unsigned int i)
{
	const struct req *r = &reqs[i];
	unsigned int direct = r->nseg, j, at = prng_below(p, ring->num), head = at;
	unsigned int stride = 1 + 2 * prng_below(p, 4);
	struct vring_desc *d;

	if (r->layout->mode != VQ_DIRECT || r->nseg > ring->num)
		direct = r->layout->mode == VQ_MIXED && r->nseg > 1;
	for (j = 0; j < direct; j++, at = (at + stride) % ring->num)
		put_desc(&ring->vr.desc[at], &r->seg[j], j + 1 < r->nseg,
			 (at + stride) % ring->num);
	if (direct < r->nseg) {
		for (j = direct; j < r->nseg; j++)
			put_desc(&tables[i][j - direct], &r->seg[j],
				 j + 1 < r->nseg, j - direct + 1);
		d = &ring->vr.desc[at];
		d->addr = gmem_addr(&dev.mem, tables[i]);
		d->len = (r->nseg - direct) * sizeof(*d);
		d->flags = VRING_DESC_F_INDIRECT;
	}
	vq_add_raw(ring, head);
}

/* Mutations. Each returns where, and what it wrote there. */

struct mutation {
	void *at;
	unsigned int size;
	uint64_t value;
};

static void mutate_desc(struct prng *p, struct mutation *m)
{
	unsigned int i = prng_below(p, REQUESTS);
	struct vring_desc *d = one_in(p, 2) ?
		&ring->vr.desc[prng_below(p, ring->num)] :
		&tables[i][prng_below(p, reqs[i].nseg)];

	switch (prng_below(p, 4)) {
	case 0:
		*m = (struct mutation){ &d->addr, 8, some_addr(p) };
		break;
	case 1:
		*m = (struct mutation){ &d->len, 4, some_len(p) };
		break;
	case 2:
		*m = (struct mutation){ &d->flags, 2, one_in(p, 8) ?
			prng_next(p) : d->flags ^ 1 << prng_below(p, 3) };
		break;
	default:
		*m = (struct mutation){ &d->next, 2, some_index(p) };
	}
}

static void mutate_header(struct prng *p, struct mutation *m)
{
	struct virtio_blk_outhdr *hdr =
		gmem_ptr(&dev.mem, reqs[prng_below(p, REQUESTS)].seg[0].addr);

	if (one_in(p, 2))
		*m = (struct mutation){ &hdr->type, 4, some_type(p) };
	else
		*m = (struct mutation){ &hdr->sector, 8, some_sector(p) };
}

static void mutate_data(struct prng *p, struct mutation *m)
{
	const struct req *r = &reqs[prng_below(p, REQUESTS)];
	const struct vseg *seg = &r->seg[prng_below(p, r->nseg)];

	*m = (struct mutation){
		gmem_ptr(&dev.mem, seg->addr + prng_below(p, seg->len + 1)), 1,
		prng_next(p) };
}

static void mutate_avail(struct prng *p, struct mutation *m)
{
	struct vring_avail *avail = ring->vr.avail;
	uint16_t odd[] = { 1, ring->num, ring->num + 1, 0xffff, 0x8000 };

	switch (prng_below(p, 8)) {
	case 0:
		*m = (struct mutation){ &avail->flags, 2, prng_below(p, 4) };
		break;
	case 1:
		*m = (struct mutation){ &vring_used_event(&ring->vr), 2,
					prng_next(p) };
		break;
	case 2:
		*m = (struct mutation){ &avail->idx, 2,
					ring->avail_idx + PICK(p, odd) };
		break;
	default:
		*m = (struct mutation){ &avail->ring[prng_below(p, ring->num)], 2,
					some_index(p) };
	}
}

static void mutate_used(struct prng *p, struct mutation *m)
{
	struct vring_used *used = ring->vr.used;

	switch (prng_below(p, 3)) {
	case 0:
		*m = (struct mutation){ &used->flags, 2, prng_next(p) };
		break;
	case 1:
		*m = (struct mutation){ &used->idx, 2, prng_next(p) };
		break;
	default:
		*m = (struct mutation){ &vring_avail_event(&ring->vr), 2,
					prng_next(p) };
	}
}

static void mutate(struct prng *p, struct mutation *m)
{
	switch (prng_below(p, 12)) {
	case 0:
	case 1:
		mutate_header(p, m);
		break;
	case 2:
		mutate_data(p, m);
		break;
	case 3:
	case 4:
		mutate_avail(p, m);
		break;
	case 5:
		mutate_used(p, m);
		break;
	default:
		mutate_desc(p, m);
	}
}

static uint64_t exchange(const struct mutation *m)
{
	uint64_t old = 0;

	memcpy(&old, m->at, m->size);
	memcpy(m->at, &m->value, m->size);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return old;
}

/* A translation less, and again. */
static void forget(struct prng *p)
{
	struct vhost_msg_v2 m = { .type = VHOST_IOTLB_MSG_V2 };

	m.iotlb.type = VHOST_IOTLB_INVALIDATE;
	m.iotlb.iova = GMEM_HIGH + (prng_below(p, HIGH_SIZE) & ~4095);
	m.iotlb.size = 4096;
	FUZZ_CHECK(write(dev.fd, &m, sizeof(m)) == sizeof(m));
}

/* What the device reads is one thing, then another, then the first again. */
static void *flicker(void *arg)
{
	struct prng p = { .state = *(uint64_t *)arg };
	struct mutation m;
	unsigned int spin;

	while (!READ_ONCE(stop)) {
		mutate(&p, &m);
		m.value = exchange(&m);
		for (spin = prng_below(&p, 500); spin; spin--)
			__atomic_signal_fence(__ATOMIC_SEQ_CST);
		exchange(&m);
		if (iommu && one_in(&p, 1000))
			forget(&p);
		if (one_in(&p, 8))
			usleep(prng_below(&p, 100));
	}
	return NULL;
}

/* The whole of a memory, translated to itself. */
static void translate(const struct gmem *m)
{
	const struct vhost_iotlb_msg parts[] = {
		{ .iova = GMEM_LOW, .size = GMEM_HALF,
		  .uaddr = (uintptr_t)m->base + GMEM_HALF },
		{ .iova = GMEM_BORDER, .size = GMEM_HALF,
		  .uaddr = (uintptr_t)m->base },
		{ .iova = GMEM_HIGH, .size = m->high,
		  .uaddr = (uintptr_t)m->base + 2 * GMEM_HALF },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		struct vhost_msg_v2 msg = { .type = VHOST_IOTLB_MSG_V2,
					    .iotlb = parts[i] };

		msg.iotlb.iova += m->shift;
		msg.iotlb.perm = VHOST_ACCESS_RW;
		msg.iotlb.type = VHOST_IOTLB_UPDATE;
		FUZZ_CHECK(write(dev.fd, &msg, sizeof(msg)) == sizeof(msg));
	}
}

static void table_of(const struct gmem *m, struct vhost_memory_region *r)
{
	uintptr_t base = (uintptr_t)m->base;

	r[0] = (struct vhost_memory_region){ m->shift + GMEM_LOW, GMEM_HALF,
					     base + GMEM_HALF };
	r[1] = (struct vhost_memory_region){ m->shift + GMEM_BORDER, GMEM_HALF,
					     base };
	r[2] = (struct vhost_memory_region){ m->shift + GMEM_HIGH, m->high,
					     base + 2 * GMEM_HALF };
}

static void start(unsigned int which)
{
	unsigned int tries = 100;
	int r;

	disk = &disks[which];
	do {
		r = vq_start(ring, disk->fd);
		/* Some of the ring was forgotten again, meanwhile. */
		if (r && iommu)
			translate(&dev.mem);
	} while (r && iommu && tries--);
	if (r)
		fuzz_fail("SET_BACKEND: %d", r);
}

/* After this the ring is as new. */
static void reset(void)
{
	if (iommu) {
		/* Who answers nothing is told nothing. */
		FUZZ_OK(vdev_file(&dev, VHOST_BLK_SET_BACKEND, ring->index,
				  VHOST_BLK_ABANDON));
		translate(&dev.mem);
	}
	FUZZ_OK(vq_reset(ring));
}

static void open_device(struct prng *p)
{
	struct {
		struct vhost_memory m;
		struct vhost_memory_region region[6];
	} table = { .m.nregions = 6 };
	uint64_t features = ALL_FEATURES;

	if (one_in(p, 3))
		features &= ~BIT64(VIRTIO_RING_F_EVENT_IDX);
	if (one_in(p, 8))
		features &= ~BIT64(VIRTIO_F_VERSION_1);
	iommu = one_in(p, 4);
	if (iommu)
		features |= BIT64(VIRTIO_F_ACCESS_PLATFORM);
	FUZZ_OK(vdev_open(&dev, features, HIGH_SIZE));
	dev.iova = iommu;
	witness_dev = dev;
	FUZZ_OK(gmem_init(&witness_dev.mem, 1 << 18));
	witness_dev.mem.shift = WITNESS_SHIFT;
	table_of(&dev.mem, table.region);
	table_of(&witness_dev.mem, table.region + 3);
	FUZZ_OK(vdev_ioctl(&dev, VHOST_SET_MEM_TABLE, &table));
	if (iommu) {
		uint64_t v2 = BIT64(VHOST_BACKEND_F_IOTLB_MSG_V2);

		FUZZ_OK(vdev_ioctl(&dev, VHOST_SET_BACKEND_FEATURES, &v2));
		translate(&dev.mem);
		translate(&witness_dev.mem);
	}
}

static void configure(struct prng *p)
{
	struct vhost_blk_config config = { .flags = prng_below(p, 4) };
	struct vhost_blk_poll poll = {
		.index = VHOST_BLK_ALL_RINGS,
		.flags = prng_below(p, 4),
		.poll_us = one_in(p, 2) ? 0 : prng_below(p, 300),
		.batch = one_in(p, 2) ? 0 : 1 + prng_below(p, 8),
		.signal_us = one_in(p, 2) ? 0 : prng_below(p, 1000),
	};
	struct vhost_vring_worker worker = { .index = 1 };
	uint32_t pin = 1;
	struct vhost_worker_state state = {};

	FUZZ_OK(vdev_ioctl(&dev, VHOST_BLK_SET_CONFIG, &config));
	FUZZ_OK(vdev_ioctl(&dev, VHOST_BLK_SET_POLL, &poll));
	if (one_in(p, 4))
		FUZZ_OK(vdev_ioctl(&dev, VHOST_BLK_PIN_MEMORY, &pin));
	if (one_in(p, 2)) {
		FUZZ_OK(vdev_ioctl(&dev, VHOST_NEW_WORKER, &state));
		worker.worker_id = state.worker_id;
		FUZZ_OK(vdev_ioctl(&dev, VHOST_ATTACH_VRING_WORKER, &worker));
	}
}

/* Until @n requests came back, or the device has given up on the ring. */
static bool broken_soon(uint16_t used, uint16_t n)
{
	unsigned int i;

	for (i = 0; i < 40; i++) {
		if (eventfd_take(ring->err))
			return true;
		if ((uint16_t)(READ_ONCE(ring->vr.used->idx) - used) >= n)
			break;
		usleep(50);
	}
	return eventfd_take(ring->err);
}

static void play_round(struct prng *p, bool mutations)
{
	uint16_t used = READ_ONCE(ring->vr.used->idx);
	unsigned int n = 1 + prng_below(p, 6), i;
	struct mutation m;

	for (i = 0; i < n; i++) {
		unsigned int r = prng_below(p, REQUESTS);

		req_arm(&reqs[r]);
		place(p, r);
	}
	fuzz_count(n);
	for (i = mutations ? prng_below(p, 4) : 0; i; i--) {
		mutate(p, &m);
		exchange(&m);
	}
	/* An index that was changed stays so. */
	if (!mutations || READ_ONCE(ring->vr.avail->idx) == ring->published)
		vq_publish(ring);
	vq_kick_force(ring);
	if (broken_soon(used, n) || one_in(p, 8)) {
		reset();
		start(prng_below(p, ARRAY_SIZE(disks)));
	}
}

static void check_ring(struct prng *p)
{
	char sent[4096], got[4096];
	struct vhost_blk_stats stats;

	fuzz_at("check");
	reset();
	FUZZ_OK(vdev_stats(&dev, ring->index, &stats));
	FUZZ_CHECK(!stats.inflight);
	start(0);
	prng_fill(p, sent, sizeof(sent));
	FUZZ_OK(blk_write(ring, 8, sent, sizeof(sent)));
	FUZZ_OK(blk_read(ring, 8, got, sizeof(got)));
	FUZZ_CHECK(!memcmp(sent, got, sizeof(sent)));
}

static void episode(struct prng *p)
{
	unsigned int rounds = 4 + prng_below(p, 40), i;
	bool flickers = one_in(p, 2);
	pthread_t thread;
	struct vq *q;
	uint64_t seed;

	open_device(p);
	configure(p);
	FUZZ_OK(vq_setup(&dev, 0, 8 << prng_below(p, 6), &ring));
	FUZZ_OK(vq_setup(&witness_dev, 1, 16, &q));
	FUZZ_OK(vq_start(q, witness_disk.fd));
	FUZZ_OK(witness_start(&witness, q, 8192));
	disk = &disks[prng_below(p, ARRAY_SIZE(disks))];
	for (i = 0; i < REQUESTS; i++)
		make_request(p, i);
	start(disk - disks);
	seed = prng_next(p);
	if (flickers)
		FUZZ_OK(pthread_create(&thread, NULL, flicker, &seed));
	for (i = 0; i < rounds; i++) {
		fuzz_at("a round");
		play_round(p, !flickers || one_in(p, 2));
	}
	fuzz_at("the other ring");
	FUZZ_OK(witness_served(&witness));
	if (one_in(p, 4))
		reset();	/* while it flickers */
	WRITE_ONCE(stop, true);
	if (flickers)
		pthread_join(thread, NULL);
	check_ring(p);
	FUZZ_OK(witness_stop(&witness));
	FUZZ_CHECK(gmem_guards_intact(&dev.mem));
	FUZZ_CHECK(gmem_guards_intact(&witness_dev.mem));
	fuzz_at("the end");
}

TEST(contents_of_a_ring)
{
	struct baseline before = baseline_take();
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(disks); i++)
		ASSERT_EQ(0, blkdev_open(&disks[i], kinds[i])) {
			TH_LOG("%s", blkdev_why());
		}
	ASSERT_EQ(0, blkdev_open(&witness_disk, BLKDEV_NULL_60US)) {
		TH_LOG("%s", blkdev_why());
	}
	EXPECT_EQ(0, fuzz_campaign("fuzz_ring", episode, 40));
	for (i = 0; i < ARRAY_SIZE(disks); i++)
		blkdev_close(&disks[i]);
	blkdev_close(&witness_disk);
	EXPECT_BASELINE(before);
}

SUITE_MAIN
