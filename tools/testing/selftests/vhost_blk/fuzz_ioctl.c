// SPDX-License-Identifier: GPL-2.0
/*
 * Every ioctl and message in any state of the device, with arguments that are
 * partly valid, while its rings have I/O: an errno each time, and afterwards the
 * same file descriptor still makes a disk. How the episodes run: fuzz.h.
 *
 * What is passed to the kernel as memory of ours is guest memory, or not mapped,
 * or not ours: whatever the kernel does, it must not write next to guest memory.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "fuzz.h"
#include "suite.h"

/* A campaign lasts as long as it is told to; fuzz.c watches over it. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT (24 * 3600)

#define HIGH_SIZE	0x100000UL
#define RINGS		4	/* that have I/O */
#define SPARE		70	/* numbers of rings tried: some are too large */
#define CHAINS		8	/* of each ring, reused for ever */
#define NOT_MAPPED	0x10000ULL
#define KERNEL_ADDR	0xffff888000000000ULL
#define NOT_CANONICAL	0x8000000000000000ULL

static struct blkdev disks[5];
static int files[ARRAY_SIZE(disks) + 8];	/* good and bad ones, for any fd */
static unsigned int nr_files;

/* A ring that the pump keeps busy, wherever the kernel believes it to be. */
struct busy_ring {
	unsigned int num;
	struct vring vr;
	uint16_t avail;
	int kick, call, err;
};

static struct vdev dev;
static struct busy_ring rings[RINGS];
static char *edge;	/* what is behind this is not mapped */
static bool stop;

/* A random place in guest memory, as ours; a ring fits behind it. */
static uint64_t some_memory(struct prng *p, bool aligned)
{
	uint64_t at = prng_below(p, 2 * GMEM_HALF + HIGH_SIZE - 65536);

	return (uintptr_t)dev.mem.base + (aligned ? at & ~4095ULL : at);
}

static uint64_t bad_memory(struct prng *p)
{
	static const uint64_t bad[] = {
		0, 1, NOT_MAPPED, KERNEL_ADDR, NOT_CANONICAL, ~0ULL,
		0x7ffffffff000ULL,
	};

	return PICK(p, bad);
}

static uint32_t some_index(struct prng *p)
{
	static const uint32_t odd[] = {
		VHOST_BLK_MAX_RINGS - 1, VHOST_BLK_MAX_RINGS, 0x80000000,
		VHOST_BLK_ALL_RINGS, 0xffff, 0x10000,
	};

	if (one_in(p, 12))
		return PICK(p, odd);
	return one_in(p, 6) ? prng_below(p, SPARE) : prng_below(p, RINGS);
}

static uint32_t some_number(struct prng *p)
{
	static const uint32_t odd[] = {
		0, 1, 2, 3, 16, 50, 64, 255, 256, 257, 1024, 1025, 10000, 32768,
		65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff,
	};

	return one_in(p, 4) ? (uint32_t)prng_next(p) : PICK(p, odd);
}

static int some_file(struct prng *p)
{
	static const int odd[] = { -1, -2, -3, 1 << 20, -0x7fffffff };

	return one_in(p, 4) ? PICK(p, odd) : files[prng_below(p, nr_files)];
}

static int some_disk(struct prng *p)
{
	return disks[prng_below(p, ARRAY_SIZE(disks))].fd;
}

/* What an argument of any kind may be. */
union arg {
	struct vhost_vring_state state;
	struct vhost_vring_file file;
	struct vhost_vring_addr addr;
	struct vhost_vring_worker worker;
	struct vhost_worker_state worker_state;
	struct vhost_blk_config config;
	struct vhost_blk_poll poll;
	struct vhost_blk_worker blk_worker;
	struct vhost_blk_limits limits;
	struct vhost_blk_stats stats;
	struct {
		struct vhost_memory m;
		struct vhost_memory_region region[8];
	} table;
	uint64_t u64;
	uint32_t u32;
	uint8_t u8;
	uint8_t bytes[1024];
};

static void fill_nothing(struct prng *p, union arg *a)
{
}

static void fill_features(struct prng *p, union arg *a)
{
	a->u64 = DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_ZONED);
	if (one_in(p, 3))
		a->u64 &= prng_next(p);
	if (one_in(p, 4))
		a->u64 |= BIT64(VIRTIO_F_ACCESS_PLATFORM);
	if (one_in(p, 6))
		a->u64 |= BIT64(prng_below(p, 64));
}

static void fill_number(struct prng *p, union arg *a)
{
	a->u64 = one_in(p, 2) ? prng_below(p, 4) : prng_next(p);
}

static void fill_region(struct prng *p, struct vhost_memory_region *r)
{
	static const uint64_t where[] = {
		0, GMEM_LOW, GMEM_BORDER, GMEM_HIGH, GMEM_HOLE, ~0ULL - 4095,
		1ULL << 63,
	};
	uint64_t end = (uintptr_t)dev.mem.base + 2 * GMEM_HALF + HIGH_SIZE;

	r->guest_phys_addr = PICK(p, where);
	r->userspace_addr = some_memory(p, true);
	r->memory_size = (prng_next(p) % (end - r->userspace_addr)) & ~4095ULL;
	if (one_in(p, 8)) {
		r->userspace_addr = bad_memory(p);
		r->memory_size = one_in(p, 2) ? prng_next(p) : 1ULL << 32;
		/* What is claimed to be the guest's may be written. */
		if (r->userspace_addr + r->memory_size > 1ULL << 33)
			r->memory_size = one_in(p, 2) ? 0 : 4096;
	}
	if (one_in(p, 20))
		r->flags_padding = prng_next(p);
}

static void fill_memory(struct prng *p, union arg *a)
{
	unsigned int i;

	if (one_in(p, 2)) {
		uintptr_t base = (uintptr_t)dev.mem.base;

		a->table.m.nregions = 3;
		a->table.region[0] = (struct vhost_memory_region){
			GMEM_LOW, GMEM_HALF, base + GMEM_HALF };
		a->table.region[1] = (struct vhost_memory_region){
			GMEM_BORDER, GMEM_HALF, base };
		a->table.region[2] = (struct vhost_memory_region){
			GMEM_HIGH, HIGH_SIZE, base + 2 * GMEM_HALF };
		return;
	}
	a->table.m.nregions = prng_below(p, 9);
	for (i = 0; i < 8; i++)
		fill_region(p, &a->table.region[i]);
	if (one_in(p, 8))
		a->table.m.nregions = some_number(p);
	if (one_in(p, 20))
		a->table.m.padding = 1;
}

static void fill_size(struct prng *p, union arg *a)
{
	a->state.index = some_index(p);
	a->state.num = some_number(p);
	if (!one_in(p, 4) && a->state.index < RINGS)
		a->state.num = rings[a->state.index].num;
}

static void fill_base(struct prng *p, union arg *a)
{
	struct busy_ring *r;

	a->state.index = some_index(p);
	a->state.num = some_number(p);
	if (one_in(p, 4) || a->state.index >= RINGS)
		return;
	r = &rings[a->state.index];
	a->state.num = one_in(p, 2) ? READ_ONCE(r->avail) :
				      READ_ONCE(r->vr.used->idx);
}

static void fill_addr(struct prng *p, union arg *a)
{
	struct vhost_vring_addr *addr = &a->addr;
	struct vring *vr = &rings[prng_below(p, RINGS)].vr;

	addr->index = some_index(p);
	if (addr->index < RINGS)
		vr = &rings[addr->index].vr;
	addr->desc_user_addr = (uintptr_t)vr->desc;
	addr->avail_user_addr = (uintptr_t)vr->avail;
	addr->used_user_addr = (uintptr_t)vr->used;
	if (one_in(p, 6))
		addr->desc_user_addr = some_memory(p, one_in(p, 2));
	if (one_in(p, 6))
		addr->avail_user_addr = some_memory(p, one_in(p, 2));
	if (one_in(p, 6))
		addr->used_user_addr = some_memory(p, one_in(p, 2));
	if (one_in(p, 8))
		addr->desc_user_addr = bad_memory(p);
	if (one_in(p, 8))
		addr->avail_user_addr = bad_memory(p);
	if (one_in(p, 8))
		addr->used_user_addr = bad_memory(p);
	if (one_in(p, 6))
		addr->flags = one_in(p, 2) ? 1 : prng_next(p);
	if (one_in(p, 3))
		addr->log_guest_addr = one_in(p, 2) ? GMEM_HIGH : prng_next(p);
}

static void fill_eventfd(struct prng *p, union arg *a)
{
	struct busy_ring *r = &rings[prng_below(p, RINGS)];
	int own[] = { r->kick, r->call, r->err };

	a->file.index = some_index(p);
	a->file.fd = one_in(p, 4) ? some_file(p) : PICK(p, own);
}

/* Its own one, so that the pump's notifications arrive. */
static void fill_kick(struct prng *p, union arg *a)
{
	fill_eventfd(p, a);
	if (a->file.index < RINGS && !one_in(p, 4))
		a->file.fd = rings[a->file.index].kick;
}

static void fill_file(struct prng *p, union arg *a)
{
	a->u32 = some_file(p);
}

static void fill_event(struct prng *p, union arg *a)
{
	a->u32 = one_in(p, 2) ? rings[0].call : some_file(p);
}

static void fill_backend(struct prng *p, union arg *a)
{
	a->file.index = some_index(p);
	a->file.fd = one_in(p, 3) ? some_file(p) : some_disk(p);
	if (one_in(p, 3))
		a->file.fd = one_in(p, 4) ? VHOST_BLK_ABANDON : -1;
}

static void fill_memory_address(struct prng *p, union arg *a)
{
	a->u64 = one_in(p, 2) ? some_memory(p, true) : bad_memory(p);
}

static void fill_state(struct prng *p, union arg *a)
{
	a->state.index = some_index(p);
	a->state.num = some_number(p);
}

static void fill_spin(struct prng *p, union arg *a)
{
	fill_state(p, a);
	/* A second of spinning is allowed, and takes all of a small machine. */
	if (a->state.num < VHOST_BLK_MAX_POLL_US && !one_in(p, 8))
		a->state.num %= 2000;
}

static void fill_worker(struct prng *p, union arg *a)
{
	/* Numbers are counted from 0 for each device, 32 bits in all. */
	a->worker.index = some_index(p);
	a->worker.worker_id = one_in(p, 6) ? some_number(p) : prng_below(p, 4);
}

static void fill_worker_state(struct prng *p, union arg *a)
{
	a->worker_state.worker_id = one_in(p, 6) ? some_number(p) :
						   prng_below(p, 6);
}

static void fill_config(struct prng *p, union arg *a)
{
	struct vhost_blk_config *c = &a->config;

	c->flags = prng_below(p, 4);
	prng_fill(p, c->id, sizeof(c->id));
	if (one_in(p, 3)) {
		c->max_discard_sectors = some_number(p);
		c->max_discard_seg = some_number(p);
		c->max_write_zeroes_sectors = some_number(p);
		c->max_write_zeroes_seg = some_number(p);
	}
	if (one_in(p, 6))
		c->flags = prng_next(p);
}

static void fill_poll(struct prng *p, union arg *a)
{
	a->poll.index = some_index(p);
	a->poll.flags = one_in(p, 8) ? prng_next(p) : prng_below(p, 4);
	a->poll.poll_us = one_in(p, 12) ? some_number(p) : prng_below(p, 500);
	a->poll.batch = one_in(p, 2) ? 0 : some_number(p);
	a->poll.signal_us = one_in(p, 2) ? 0 : prng_below(p, 120000);
}

static void fill_index(struct prng *p, union arg *a)
{
	a->u32 = some_index(p);
}

static void fill_limits(struct prng *p, union arg *a)
{
	a->limits.fd = one_in(p, 2) ? some_disk(p) : some_file(p);
}

static void fill_noise(struct prng *p, union arg *a)
{
	/* Pointers in it would not be ours. */
	prng_fill(p, a->bytes, 4);
}

static const struct call {
	const char *name;
	unsigned long req;
	void (*fill)(struct prng *p, union arg *a);
	bool pointers;	/* to memory that the kernel may write */
	unsigned int weight;
} calls[] = {
#define CALL(name, ...) { #name, name, __VA_ARGS__ }
	CALL(VHOST_SET_OWNER, fill_nothing, false, 3),
	CALL(VHOST_RESET_OWNER, fill_nothing, false, 1),
	CALL(VHOST_GET_FEATURES, fill_nothing, false, 1),
	CALL(VHOST_SET_FEATURES, fill_features, false, 3),
	CALL(VHOST_GET_BACKEND_FEATURES, fill_nothing, false, 1),
	CALL(VHOST_SET_BACKEND_FEATURES, fill_number, false, 1),
	CALL(VHOST_SET_MEM_TABLE, fill_memory, true, 4),
	CALL(VHOST_SET_LOG_BASE, fill_memory_address, true, 1),
	CALL(VHOST_SET_LOG_FD, fill_file, false, 1),
	CALL(VHOST_SET_VRING_NUM, fill_size, false, 3),
	CALL(VHOST_SET_VRING_BASE, fill_base, false, 3),
	CALL(VHOST_GET_VRING_BASE, fill_index, false, 2),
	CALL(VHOST_SET_VRING_ADDR, fill_addr, true, 4),
	CALL(VHOST_SET_VRING_ENDIAN, fill_state, false, 1),
	CALL(VHOST_GET_VRING_ENDIAN, fill_index, false, 1),
	CALL(VHOST_SET_VRING_KICK, fill_kick, false, 4),
	CALL(VHOST_SET_VRING_CALL, fill_eventfd, false, 4),
	CALL(VHOST_SET_VRING_ERR, fill_eventfd, false, 2),
	CALL(VHOST_SET_VRING_BUSYLOOP_TIMEOUT, fill_spin, false, 2),
	CALL(VHOST_GET_VRING_BUSYLOOP_TIMEOUT, fill_index, false, 1),
	CALL(VHOST_NEW_WORKER, fill_nothing, false, 2),
	CALL(VHOST_FREE_WORKER, fill_worker_state, false, 2),
	CALL(VHOST_ATTACH_VRING_WORKER, fill_worker, false, 4),
	CALL(VHOST_GET_VRING_WORKER, fill_index, false, 1),
	CALL(VHOST_SET_FORK_FROM_OWNER, fill_number, false, 1),
	CALL(VHOST_GET_FORK_FROM_OWNER, fill_nothing, false, 1),
	CALL(VHOST_BLK_SET_BACKEND, fill_backend, false, 10),
	CALL(VHOST_BLK_SET_CONFIG, fill_config, false, 2),
	CALL(VHOST_BLK_SET_POLL, fill_poll, false, 4),
	CALL(VHOST_BLK_GET_POLL, fill_index, false, 1),
	CALL(VHOST_BLK_GET_WORKER, fill_index, false, 1),
	CALL(VHOST_BLK_GET_LIMITS, fill_limits, false, 2),
	CALL(VHOST_BLK_GET_STATS, fill_index, false, 2),
	CALL(VHOST_BLK_SET_EVENT, fill_event, false, 1),
	CALL(VHOST_BLK_PIN_MEMORY, fill_number, false, 2),
	CALL(VHOST_BLK_SET_RINGS, fill_number, false, 1),
#undef CALL
};

static const struct call *some_call(struct prng *p)
{
	unsigned int i, all = 0, at;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		all += calls[i].weight;
	at = prng_below(p, all);
	for (i = 0; at >= calls[i].weight; i++)
		at -= calls[i].weight;
	return &calls[i];
}

/* Numbers that stay inside the kernel must not come out of it. */
static void check_result(const char *what, long r)
{
	fuzz_count(1);
	if (r < 0 && errno >= 512)
		fuzz_fail("%s: errno %d", what, errno);
}

static void *bad_pointer(struct prng *p, size_t size)
{
	/* Its first half can be read. */
	if (one_in(p, 3))
		return edge - size / 2;
	return (void *)(uintptr_t)bad_memory(p);
}

static void do_call(struct prng *p, int fd, const struct call *c)
{
	union arg a = {};
	size_t size = _IOC_SIZE(c->req) ? _IOC_SIZE(c->req) : 8;
	void *arg = &a;

	c->fill(p, &a);
	if (!c->pointers && one_in(p, 10))
		a.bytes[prng_below(p, size)] ^= 1 << prng_below(p, 8);
	if (one_in(p, 24))
		arg = bad_pointer(p, size);
	fuzz_at(c->name);
	check_result(c->name, ioctl(fd, c->req, arg));
}

/* Numbers that are nobody's, or somebody else's, or have another size. */
static void do_odd_call(struct prng *p, int fd)
{
	const struct call *c = some_call(p);
	union arg a = {};
	unsigned int nr = one_in(p, 2) ? _IOC_NR(c->req) : prng_below(p, 256);
	unsigned int type = one_in(p, 8) ? prng_below(p, 256) : VHOST_VIRTIO;
	unsigned long req = _IOC(prng_below(p, 4), type, nr,
				 one_in(p, 2) ? _IOC_SIZE(c->req) :
						prng_below(p, 512));

	fill_noise(p, &a);
	fuzz_at("an unknown ioctl");
	check_result("an unknown ioctl", ioctl(fd, req, &a));
}

static void do_message(struct prng *p, int fd)
{
	static const uint32_t types[] = {
		VHOST_IOTLB_MSG, VHOST_IOTLB_MSG_V2, 0, 3, 0xffffffff,
	};
	struct vhost_msg_v2 m = { .type = VHOST_IOTLB_MSG_V2 };
	struct vhost_iotlb_msg *i = &m.iotlb;
	size_t len = sizeof(m);

	if (one_in(p, 6))
		m.type = PICK(p, types);
	i->type = one_in(p, 8) ? prng_below(p, 256) : 1 + prng_below(p, 6);
	i->perm = one_in(p, 8) ? prng_below(p, 256) : prng_below(p, 4);
	i->iova = one_in(p, 2) ? GMEM_HIGH + (prng_below(p, HIGH_SIZE) & ~4095) :
				 some_memory(p, true);
	i->uaddr = one_in(p, 8) ? bad_memory(p) : some_memory(p, true);
	i->size = 4096 << prng_below(p, 5);
	if (one_in(p, 8))
		i->size = one_in(p, 2) ? 0 : 1;
	if (i->type != VHOST_IOTLB_UPDATE && one_in(p, 2))
		i->size = ~0ULL;
	if (one_in(p, 8))
		len = prng_below(p, sizeof(m) + 1);
	fuzz_at("write");
	check_result("write", write(fd, one_in(p, 20) ? edge - 8 : (void *)&m,
				    len));
}

static void do_other(struct prng *p, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLOUT };
	char path[64], buf[4096];
	int info;

	switch (prng_below(p, 4)) {
	case 0:
		fuzz_at("read");
		check_result("read", read(fd, buf, one_in(p, 3) ?
					  prng_below(p, 128) : 128));
		break;
	case 1:
		fuzz_at("poll");
		check_result("poll", poll(&pfd, 1, 0));
		break;
	case 2:
		fuzz_at("fdinfo");
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		info = open(path, O_RDONLY | O_CLOEXEC);
		check_result("fdinfo", read(info, buf, sizeof(buf)));
		close(info);
		break;
	default:
		/* A fault where there was memory, until it is there again. */
		fuzz_at("madvise");
		madvise((void *)(uintptr_t)some_memory(p, true), 8192,
			MADV_DONTNEED);
	}
}

static void do_something(struct prng *p, int fd)
{
	switch (prng_below(p, 16)) {
	case 0:
		do_odd_call(p, fd);
		break;
	case 1:
	case 2:
		do_message(p, fd);
		break;
	case 3:
		do_other(p, fd);
		break;
	default:
		do_call(p, fd, some_call(p));
	}
}

static void make_ring(struct prng *p, struct busy_ring *r)
{
	struct gmem *m = &dev.mem;
	struct virtio_blk_outhdr *hdr;
	struct vring_desc *d;
	unsigned int i;
	uint32_t len;

	r->num = 32 << prng_below(p, 4);
	r->vr.num = r->num;
	r->vr.desc = gmem_alloc(m, r->num * sizeof(*d), 16);
	r->vr.avail = gmem_alloc(m, 6 + 2 * r->num, 2);
	r->vr.used = gmem_alloc(m, 6 + 8 * r->num, 4);
	r->kick = eventfd(0, EFD_NONBLOCK);
	r->call = eventfd(0, EFD_NONBLOCK);
	r->err = eventfd(0, EFD_NONBLOCK);
	for (i = 0; i < CHAINS; i++) {
		d = &r->vr.desc[3 * i];
		hdr = gmem_alloc(m, sizeof(*hdr), 16);
		hdr->type = one_in(p, 8) ? prng_below(p, 28) : one_in(p, 2);
		hdr->sector = prng_below(p, 8192) & ~7;
		len = 512 << prng_below(p, 6);
		d[0] = (struct vring_desc){ gmem_addr(m, hdr), sizeof(*hdr),
					    VRING_DESC_F_NEXT, 3 * i + 1 };
		d[1] = (struct vring_desc){
			gmem_addr(m, gmem_alloc(m, len, 512)), len,
			VRING_DESC_F_NEXT, 3 * i + 2 };
		if (hdr->type != VIRTIO_BLK_T_OUT)
			d[1].flags |= VRING_DESC_F_WRITE;
		d[2] = (struct vring_desc){ gmem_addr(m, gmem_alloc(m, 1, 1)), 1,
					    VRING_DESC_F_WRITE, 0 };
	}
}

/* Keep the rings busy, as far as the kernel sees them. */
static void *pump(void *arg)
{
	struct prng p = { .state = *(uint64_t *)arg };
	struct busy_ring *r;
	unsigned int n;

	while (!READ_ONCE(stop)) {
		r = &rings[prng_below(&p, RINGS)];
		for (n = prng_below(&p, CHAINS); n; n--) {
			if ((uint16_t)(r->avail - READ_ONCE(r->vr.used->idx)) >=
			    CHAINS)
				break;
			r->vr.avail->ring[r->avail % r->num] =
				r->avail % CHAINS * 3;
			__atomic_thread_fence(__ATOMIC_RELEASE);
			WRITE_ONCE(r->vr.avail->idx, ++r->avail);
		}
		eventfd_write(r->kick, 1);
		usleep(100);
	}
	return NULL;
}

/* A second thread that calls at the same time. */
static void *rival(void *arg)
{
	struct prng p = { .state = *(uint64_t *)arg };

	while (!READ_ONCE(stop))
		do_something(&p, dev.fd);
	return NULL;
}

/* How far the device is set up before anything odd happens. */
static void prepare(struct prng *p, unsigned int stage)
{
	struct vhost_vring_addr addr = {};
	uint64_t features = DRIVER_FEATURES;
	uint32_t rings_wanted = RINGS + prng_below(p, 3);
	unsigned int i;

	if (stage < 1)
		return;
	if (one_in(p, 4))
		FUZZ_OK(vdev_ioctl(&dev, VHOST_BLK_SET_RINGS, &rings_wanted));
	FUZZ_OK(vdev_ioctl(&dev, VHOST_SET_OWNER, NULL));
	if (stage < 2)
		return;
	if (one_in(p, 4))
		features |= BIT64(VIRTIO_F_ACCESS_PLATFORM);
	FUZZ_OK(vdev_ioctl(&dev, VHOST_SET_FEATURES, &features));
	FUZZ_OK(vdev_set_mem(&dev));
	for (i = 0; stage >= 3 && i < RINGS; i++) {
		addr.index = i;
		addr.desc_user_addr = (uintptr_t)rings[i].vr.desc;
		addr.avail_user_addr = (uintptr_t)rings[i].vr.avail;
		addr.used_user_addr = (uintptr_t)rings[i].vr.used;
		FUZZ_OK(vdev_state(&dev, VHOST_SET_VRING_NUM, i, rings[i].num));
		FUZZ_OK(vdev_ioctl(&dev, VHOST_SET_VRING_ADDR, &addr));
		FUZZ_OK(vdev_file(&dev, VHOST_SET_VRING_KICK, i, rings[i].kick));
		FUZZ_OK(vdev_file(&dev, VHOST_SET_VRING_CALL, i, rings[i].call));
		/* Behind an IOMMU it fails: nothing is translated. */
		if (stage >= 4)
			vdev_file(&dev, VHOST_BLK_SET_BACKEND, i, some_disk(p));
	}
}

/* Whatever was done to it, this makes a disk of it again. */
static void recover(struct prng *p)
{
	uint64_t features = DRIVER_FEATURES;
	char sent[512], got[512];
	unsigned int n;
	struct vq *q;
	int r;

	fuzz_at("recovery");
	r = vdev_ioctl(&dev, VHOST_SET_OWNER, NULL);
	if (r == -EBUSY && one_in(p, 2)) {
		FUZZ_OK(vdev_ioctl(&dev, VHOST_RESET_OWNER, NULL));
		r = vdev_ioctl(&dev, VHOST_SET_OWNER, NULL);
	}
	FUZZ_CHECK(!r || r == -EBUSY);
	/* There may be fewer rings than usual. */
	for (n = 0, r = 0; n < VHOST_BLK_MAX_RINGS && !r; n += !r)
		r = vdev_file(&dev, VHOST_BLK_SET_BACKEND, n, VHOST_BLK_ABANDON);
	FUZZ_CHECK(n && (!r || r == -ENOBUFS));
	FUZZ_OK(vdev_ioctl(&dev, VHOST_SET_FEATURES, &features));
	FUZZ_OK(vdev_set_mem(&dev));
	FUZZ_OK(vq_setup(&dev, prng_below(p, n < RINGS ? n : RINGS), 64, &q));
	FUZZ_OK(vq_start(q, disks[0].fd));
	prng_fill(p, sent, sizeof(sent));
	FUZZ_OK(blk_write(q, 1, sent, sizeof(sent)));
	FUZZ_OK(blk_read(q, 1, got, sizeof(got)));
	FUZZ_CHECK(!memcmp(sent, got, sizeof(sent)));
	FUZZ_OK(vq_stop(q));
}

/* Somebody else may be the last who holds the file. */
static void leave_to_child(void)
{
	if (fork())
		return;
	prctl(PR_SET_PDEATHSIG, 0);
	sleep_ms(20);
	_exit(0);
}

static void episode(struct prng *p)
{
	pthread_t pump_thread, rival_thread;
	uint64_t seed[2];
	bool rivals = one_in(p, 3);
	unsigned int n = 4 + prng_below(p, 80), i;

	dev.features = DRIVER_FEATURES;
	FUZZ_OK(gmem_init(&dev.mem, HIGH_SIZE));
	edge = (char *)mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 4096;
	FUZZ_OK(munmap(edge, 4096));
	for (i = 0; i < RINGS; i++)
		make_ring(p, &rings[i]);
	dev.fd = open(VHOST_BLK_DEV, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	FUZZ_CHECK(dev.fd >= 0);
	files[0] = dev.fd;
	files[1] = rings[0].kick;
	prepare(p, one_in(p, 4) ? prng_below(p, 4) : 4);
	prng_fill(p, seed, sizeof(seed));
	FUZZ_OK(pthread_create(&pump_thread, NULL, pump, &seed[0]));
	if (rivals)
		FUZZ_OK(pthread_create(&rival_thread, NULL, rival, &seed[1]));
	for (i = 0; i < n; i++)
		do_something(p, dev.fd);
	WRITE_ONCE(stop, true);
	pthread_join(pump_thread, NULL);
	if (rivals)
		pthread_join(rival_thread, NULL);
	if (one_in(p, 2))
		recover(p);
	FUZZ_CHECK(gmem_guards_intact(&dev.mem));
	if (one_in(p, 8))
		leave_to_child();
	fuzz_at("the end");
	if (one_in(p, 2))
		close(dev.fd);
}

static void add_file(int fd)
{
	files[nr_files++] = fd;
}

TEST(ioctls_in_any_state)
{
	static const enum blkdev_kind kinds[ARRAY_SIZE(disks)] = {
		BLKDEV_NULL_512, BLKDEV_NULL_TIMER, BLKDEV_NULL_4K,
		BLKDEV_ZONED, BLKDEV_LOOP,
	};
	struct baseline before = baseline_take();
	unsigned int i;

	nr_files = 2;	/* these two are the episode's own */
	for (i = 0; i < ARRAY_SIZE(disks); i++) {
		ASSERT_EQ(0, blkdev_open(&disks[i], kinds[i])) {
			TH_LOG("%s", blkdev_why());
		}
		add_file(disks[i].fd);
	}
	add_file(open(disks[0].path, O_RDONLY | O_CLOEXEC));
	add_file(open(disks[0].path, O_WRONLY | O_CLOEXEC));
	add_file(open("/dev/null", O_RDWR | O_CLOEXEC));
	add_file(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	add_file(memfd_create("disk", MFD_CLOEXEC));

	EXPECT_EQ(0, fuzz_campaign("fuzz_ioctl", episode, 40));
	for (i = 0; i < ARRAY_SIZE(disks); i++)
		blkdev_close(&disks[i]);
	EXPECT_BASELINE(before);
}

SUITE_MAIN
