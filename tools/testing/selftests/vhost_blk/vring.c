// SPDX-License-Identifier: GPL-2.0
/* A virtqueue driver in userspace, see vring.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util.h"
#include "vring.h"

/* Order against the device's accesses to the ring. */
#define fence_full()	__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define fence_release()	__atomic_thread_fence(__ATOMIC_RELEASE)
#define fence_acquire()	__atomic_thread_fence(__ATOMIC_ACQUIRE)

#define GUARD_BYTE	0xa5

int vdev_ioctl(const struct vdev *d, unsigned long req, void *arg)
{
	int r;

	if (d->ioctl)
		return d->ioctl(d, req, arg);
	r = ioctl(d->fd, req, arg);
	return r < 0 ? -errno : r;
}

int vdev_state(const struct vdev *d, unsigned long req, unsigned int index,
	       unsigned int num)
{
	struct vhost_vring_state s = { .index = index, .num = num };

	return vdev_ioctl(d, req, &s);
}

int vdev_file(const struct vdev *d, unsigned long req, unsigned int index,
	      int fd)
{
	struct vhost_vring_file f = { .index = index, .fd = fd };

	return vdev_ioctl(d, req, &f);
}

int gmem_init(struct gmem *m, size_t size)
{
	size_t all = 2 * GMEM_HALF + size;
	char *p;

	p = mmap(NULL, all + 2 * GMEM_GUARD, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	memset(p, GUARD_BYTE, GMEM_GUARD);
	memset(p + GMEM_GUARD + all, GUARD_BYTE, GMEM_GUARD);
	m->base = p + GMEM_GUARD;
	m->high = size;
	m->used = 0;
	m->shift = 0;
	return 0;
}

void gmem_free(struct gmem *m)
{
	if (m->base)
		munmap(m->base - GMEM_GUARD,
		       2 * GMEM_HALF + m->high + 2 * GMEM_GUARD);
	m->base = NULL;
}

bool gmem_guards_intact(const struct gmem *m)
{
	return mem_is(m->base - GMEM_GUARD, GUARD_BYTE, GMEM_GUARD) &&
	       mem_is(m->base + 2 * GMEM_HALF + m->high, GUARD_BYTE, GMEM_GUARD);
}

void *gmem_alloc(struct gmem *m, size_t size, size_t align)
{
	size_t at = (m->used + align - 1) / align * align;

	if (at + size > m->high) {
		fprintf(stderr, "# guest memory exhausted: %zu of %zu used, %zu wanted\n",
			m->used, m->high, size);
		abort();
	}
	m->used = at + size;
	return m->base + 2 * GMEM_HALF + at;
}

uint64_t gmem_addr(const struct gmem *m, const void *p)
{
	size_t at = (const char *)p - m->base;

	if (at >= 2 * GMEM_HALF)
		return m->shift + GMEM_HIGH + at - 2 * GMEM_HALF;
	if (at >= GMEM_HALF)
		return m->shift + GMEM_LOW + at - GMEM_HALF;
	return m->shift + GMEM_BORDER + at;
}

void *gmem_ptr(const struct gmem *m, uint64_t addr)
{
	addr -= m->shift;
	if (addr >= GMEM_HIGH)
		return m->base + 2 * GMEM_HALF + (addr - GMEM_HIGH);
	if (addr >= GMEM_BORDER)
		return m->base + (addr - GMEM_BORDER);
	return m->base + GMEM_HALF + (addr - GMEM_LOW);
}

int vdev_set_mem(struct vdev *d)
{
	uintptr_t base = (uintptr_t)d->mem.base;
	struct {
		struct vhost_memory m;
		struct vhost_memory_region region[3];
	} table = {
		.m.nregions = 3,
		.region = {
			{ .guest_phys_addr = GMEM_LOW,
			  .memory_size = GMEM_HALF,
			  .userspace_addr = base + GMEM_HALF },
			{ .guest_phys_addr = GMEM_BORDER,
			  .memory_size = GMEM_HALF,
			  .userspace_addr = base },
			{ .guest_phys_addr = GMEM_HIGH,
			  .memory_size = d->mem.high,
			  .userspace_addr = base + 2 * GMEM_HALF },
		},
	};

	return vdev_ioctl(d, VHOST_SET_MEM_TABLE, &table);
}

static int vdev_open_as(struct vdev *d, uint64_t features, size_t size,
			bool kthread, uint32_t rings)
{
	uint8_t owner = VHOST_FORK_OWNER_KTHREAD;
	int r;

	memset(d, 0, sizeof(*d));
	d->fd = open(VHOST_BLK_DEV, O_RDWR | O_CLOEXEC);
	if (d->fd < 0)
		return -errno;
	d->features = features;
	r = gmem_init(&d->mem, size);
	if (!r && kthread)
		r = vdev_ioctl(d, VHOST_SET_FORK_FROM_OWNER, &owner);
	if (!r && rings)
		r = vdev_ioctl(d, VHOST_BLK_SET_RINGS, &rings);
	if (!r)
		r = vdev_ioctl(d, VHOST_SET_OWNER, NULL);
	if (!r)
		r = vdev_ioctl(d, VHOST_SET_FEATURES, &d->features);
	if (!r)
		r = vdev_set_mem(d);
	if (r)
		vdev_close(d);
	return r;
}

int vdev_open(struct vdev *d, uint64_t features, size_t size)
{
	return vdev_open_as(d, features, size, false, 0);
}

int vdev_open_rings(struct vdev *d, uint64_t features, size_t size,
		    uint32_t rings)
{
	return vdev_open_as(d, features, size, false, rings);
}

int vdev_open_kthread(struct vdev *d, uint64_t features, size_t size)
{
	return vdev_open_as(d, features, size, true, 0);
}

void vdev_close(struct vdev *d)
{
	unsigned int i;

	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
	for (i = 0; i < VHOST_BLK_MAX_RINGS; i++)
		if (d->vq[i])
			vq_free(d->vq[i]);
	gmem_free(&d->mem);
}

static bool vq_event_idx(const struct vq *q)
{
	return q->dev->features & BIT64(VIRTIO_RING_F_EVENT_IDX);
}

/* The driver's side of a fresh ring: everything free, no interrupts. */
static void vq_init_ring(struct vq *q)
{
	unsigned int i;

	memset(q->vr.desc, 0, q->num * sizeof(*q->vr.desc));
	memset(q->vr.avail, 0, sizeof(*q->vr.avail) + (q->num + 1) * 2);
	memset(q->vr.used, 0, sizeof(*q->vr.used) +
			      q->num * sizeof(q->vr.used->ring[0]) + 2);
	for (i = 0; i < q->num; i++) {
		q->next[i] = i + 1;
		q->slot[i].ndesc = 0;
	}
	q->free_head = 0;
	q->nfree = q->num;
	q->avail_idx = 0;
	q->published = 0;
	q->last_used = 0;
	/*
	 * With EVENT_IDX, an event far behind keeps the device quiet; without,
	 * the flag does. vq_wait() asks for a signal when it is about to sleep.
	 */
	if (vq_event_idx(q))
		vring_used_event(&q->vr) = -1;
	else
		q->vr.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
}

/* A part of a ring as the kernel is told of it. */
static uint64_t vq_addr(const struct vq *q, const void *p)
{
	return q->dev->iova ? gmem_addr(&q->dev->mem, p) : (uintptr_t)p;
}

static int vq_announce(struct vq *q)
{
	struct vdev *d = q->dev;
	struct vhost_vring_addr addr = {
		.index = q->index,
		.desc_user_addr = vq_addr(q, q->vr.desc),
		.avail_user_addr = vq_addr(q, q->vr.avail),
		.used_user_addr = vq_addr(q, q->vr.used),
	};
	int r;

	r = vdev_state(d, VHOST_SET_VRING_NUM, q->index, q->num);
	if (!r)
		r = vdev_state(d, VHOST_SET_VRING_BASE, q->index, 0);
	if (!r)
		r = vdev_ioctl(d, VHOST_SET_VRING_ADDR, &addr);
	if (!r)
		r = vdev_file(d, VHOST_SET_VRING_ERR, q->index, q->err);
	if (!r)
		r = vdev_file(d, VHOST_SET_VRING_CALL, q->index, q->call);
	if (!r)
		r = vdev_file(d, VHOST_SET_VRING_KICK, q->index, q->kick);
	return r;
}

int vq_setup(struct vdev *d, unsigned int index, unsigned int num,
	     struct vq **res)
{
	struct vq *q = calloc(1, sizeof(*q));
	size_t avail = sizeof(*q->vr.avail) + (num + 1) * sizeof(__virtio16);
	size_t used = sizeof(*q->vr.used) +
		      num * sizeof(q->vr.used->ring[0]) + sizeof(__virtio16);
	int r;

	if (!q)
		return -ENOMEM;
	q->dev = d;
	q->index = index;
	q->num = num;
	q->vr.num = num;
	q->vr.desc = gmem_alloc(&d->mem, num * sizeof(*q->vr.desc), 16);
	q->vr.avail = gmem_alloc(&d->mem, avail, 2);
	q->vr.used = gmem_alloc(&d->mem, used, 4);
	q->slot = calloc(num, sizeof(*q->slot));
	q->next = calloc(num, sizeof(*q->next));
	q->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	q->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	q->err = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!q->slot || !q->next || q->kick < 0 || q->call < 0 || q->err < 0) {
		vq_free(q);
		return -ENOMEM;
	}
	vq_init_ring(q);
	r = vq_announce(q);
	if (r) {
		vq_free(q);
		return r;
	}
	if (d->vq[index])
		vq_free(d->vq[index]);
	d->vq[index] = q;
	*res = q;
	return 0;
}

int vq_reset(struct vq *q)
{
	int r = vq_stop(q);

	if (r)
		return r;
	vq_init_ring(q);
	eventfd_take(q->kick);
	eventfd_take(q->call);
	eventfd_take(q->err);
	return vdev_state(q->dev, VHOST_SET_VRING_BASE, q->index, 0);
}

void vq_free(struct vq *q)
{
	if (q->dev->vq[q->index] == q)
		q->dev->vq[q->index] = NULL;
	if (q->kick > 0)
		close(q->kick);
	if (q->call > 0)
		close(q->call);
	if (q->err > 0)
		close(q->err);
	free(q->slot);
	free(q->next);
	free(q);
}

int vq_start(struct vq *q, int fd)
{
	return vdev_file(q->dev, VHOST_BLK_SET_BACKEND, q->index, fd);
}

int vq_stop(struct vq *q)
{
	return vdev_file(q->dev, VHOST_BLK_SET_BACKEND, q->index, -1);
}

int vq_base(struct vq *q)
{
	struct vhost_vring_state s = { .index = q->index };
	int r = vdev_ioctl(q->dev, VHOST_GET_VRING_BASE, &s);

	return r < 0 ? r : (int)s.num;
}

static void desc_fill(struct vring_desc *desc, const struct vseg *seg)
{
	desc->addr = seg->addr;
	desc->len = seg->len;
	desc->flags = seg->in ? VRING_DESC_F_WRITE : 0;
	desc->next = 0;
}

static struct vring_desc *vq_table(struct vq *q, struct vslot *slot,
				   const struct vseg *seg, unsigned int n)
{
	unsigned int i;

	if (slot->table_len < n) {
		slot->table = gmem_alloc(&q->dev->mem, n * sizeof(*slot->table),
					 16);
		slot->table_len = n;
	}
	for (i = 0; i < n; i++) {
		desc_fill(&slot->table[i], &seg[i]);
		if (i + 1 < n) {
			slot->table[i].flags |= VRING_DESC_F_NEXT;
			slot->table[i].next = i + 1;
		}
	}
	return slot->table;
}

int vq_add(struct vq *q, const struct vseg *seg, unsigned int n,
	   enum vq_mode mode, void *cookie)
{
	unsigned int direct, i, at, head = q->free_head;
	struct vring_desc *desc = NULL;
	struct vslot *slot;

	if (mode == VQ_MIXED && n < 2)
		mode = VQ_DIRECT;
	direct = mode == VQ_DIRECT ? n : mode == VQ_MIXED ? 1 : 0;
	if (q->nfree < direct + !!mode || !n)
		return -ENOSPC;
	slot = &q->slot[head];

	at = head;
	for (i = 0; i < direct; i++) {
		desc = &q->vr.desc[at];
		desc_fill(desc, &seg[i]);
		desc->flags |= VRING_DESC_F_NEXT;
		desc->next = q->next[at];
		at = q->next[at];
	}
	if (mode == VQ_DIRECT) {
		desc->flags &= ~VRING_DESC_F_NEXT;
	} else {
		struct vring_desc *table = vq_table(q, slot, seg + direct,
						    n - direct);

		desc = &q->vr.desc[at];
		desc->addr = gmem_addr(&q->dev->mem, table);
		desc->len = (n - direct) * sizeof(*table);
		desc->flags = VRING_DESC_F_INDIRECT;
		desc->next = 0;
		at = q->next[at];
		direct++;
	}
	slot->ndesc = direct;
	slot->cookie = cookie;
	q->nfree -= direct;
	q->free_head = at;
	vq_add_raw(q, head);
	return head;
}

void vq_add_raw(struct vq *q, uint16_t head)
{
	q->vr.avail->ring[q->avail_idx++ % q->num] = head;
}

void vq_publish(struct vq *q)
{
	fence_release();
	WRITE_ONCE(q->vr.avail->idx, q->avail_idx);
	q->published = q->avail_idx;
}

bool vq_kick(struct vq *q)
{
	uint16_t old = q->published;
	bool need;

	vq_publish(q);
	fence_full();
	if (vq_event_idx(q))
		need = vring_need_event(READ_ONCE(vring_avail_event(&q->vr)),
					q->published, old);
	else
		need = !(READ_ONCE(q->vr.used->flags) & VRING_USED_F_NO_NOTIFY);
	if (need)
		vq_kick_force(q);
	else
		q->kicks_saved++;
	return need;
}

void vq_kick_force(struct vq *q)
{
	if (eventfd_write(q->kick, 1))
		abort();
	q->kicks++;
}

unsigned int vq_pending(const struct vq *q)
{
	return (uint16_t)(READ_ONCE(q->vr.used->idx) - q->last_used);
}

int vq_get(struct vq *q, void **cookie, uint32_t *len)
{
	const struct vring_used_elem *elem;
	unsigned int pending = vq_pending(q), i, at;
	struct vslot *slot;

	if (!pending)
		return 0;
	if (pending > q->num)
		return -EPROTO;
	fence_acquire();
	elem = &q->vr.used->ring[q->last_used % q->num];
	if (elem->id >= q->num || !q->slot[elem->id].ndesc)
		return -EPROTO;
	slot = &q->slot[elem->id];
	if (cookie)
		*cookie = slot->cookie;
	if (len)
		*len = elem->len;

	/* The chain's links still stand in next[]: hook its end to the rest. */
	for (i = 1, at = elem->id; i < slot->ndesc; i++)
		at = q->next[at];
	q->next[at] = q->free_head;
	q->free_head = elem->id;
	q->nfree += slot->ndesc;
	slot->ndesc = 0;
	q->last_used++;
	return 1;
}

uint64_t eventfd_take(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static int eventfd_wait(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	do {
		r = poll(&p, 1, ms);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return r ? 0 : -ETIMEDOUT;
}

static void vq_enable_call(struct vq *q)
{
	if (vq_event_idx(q))
		WRITE_ONCE(vring_used_event(&q->vr), q->last_used);
	else
		WRITE_ONCE(q->vr.avail->flags, 0);
	fence_full();
}

static void vq_disable_call(struct vq *q)
{
	if (vq_event_idx(q))
		WRITE_ONCE(vring_used_event(&q->vr), q->last_used - 1);
	else
		WRITE_ONCE(q->vr.avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

bool vq_listen(struct vq *q)
{
	if (!vq_event_idx(q))
		return false;
	vq_enable_call(q);
	return vq_pending(q);
}

static int vq_wait_spin(struct vq *q, unsigned int ms)
{
	uint64_t end = now_ns() + ms * 1000000ULL;

	while (!vq_pending(q)) {
		if (now_ns() > end)
			return -ETIMEDOUT;
	}
	return 0;
}

int vq_wait(struct vq *q, unsigned int ms)
{
	uint64_t end = now_ns() + ms * 1000000ULL;
	int r = 0;

	if (vq_pending(q))
		return 0;
	if (q->spin)
		return vq_wait_spin(q, ms);
	for (;;) {
		vq_enable_call(q);
		if (vq_pending(q))
			break;
		r = now_ns() < end ? eventfd_wait(q->call, ms) : -ETIMEDOUT;
		if (r)
			break;
		/* A signal without a used chain is allowed: sleep again. */
		eventfd_take(q->call);
		if (vq_pending(q))
			break;
	}
	vq_disable_call(q);
	if (r == -ETIMEDOUT && vq_pending(q))
		return -ENOMSG;
	return r;
}

int vq_wait_error(struct vq *q, unsigned int ms)
{
	int r = eventfd_wait(q->err, ms);

	if (!r)
		eventfd_take(q->err);
	return r;
}

int vdev_stats(const struct vdev *d, unsigned int index,
	       struct vhost_blk_stats *s)
{
	memset(s, 0, sizeof(*s));
	s->index = index;
	return vdev_ioctl(d, VHOST_BLK_GET_STATS, s);
}

long long vdev_shown(const struct vdev *d, const char *name)
{
	char path[64], line[256], key[64];
	long long value, found = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", d->fd);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%63[^:]: %lld", key, &value) == 2 &&
		    !strcmp(key, name))
			found = value;
	fclose(f);
	return found;
}

int vdev_set_poll(const struct vdev *d, unsigned int index,
		  unsigned int poll_us)
{
	struct vhost_blk_poll p = { .index = index, .poll_us = poll_us };

	return vdev_ioctl(d, VHOST_BLK_SET_POLL, &p);
}

int set_spin(const struct vdev *d, uint32_t poll_us, uint32_t flags)
{
	struct vhost_blk_poll p = {
		.index = VHOST_BLK_ALL_RINGS,
		.poll_us = poll_us,
		.flags = flags,
	};

	return vdev_ioctl(d, VHOST_BLK_SET_POLL, &p);
}

int vdev_worker(const struct vdev *d, unsigned int index)
{
	struct vhost_blk_worker w = { .index = index };
	int r = vdev_ioctl(d, VHOST_BLK_GET_WORKER, &w);

	return r < 0 ? r : w.tid;
}

int worker_load(struct vdev *d, unsigned int index, unsigned int ms)
{
	int tid = vdev_worker(d, index);
	int64_t before = thread_cpu_ns(tid), after;

	sleep_ms(ms);
	after = thread_cpu_ns(tid);
	if (tid <= 0 || before < 0 || after < 0)
		return -1;
	return (after - before) / (ms * 10000LL);
}
