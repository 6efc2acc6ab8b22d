// SPDX-License-Identifier: GPL-2.0
/* A device IOTLB for the tests, see tlb.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tlb.h"
#include "util.h"

static char *tlb_driver(const struct tlb *t, unsigned int page)
{
	return t->d->mem.base + 2 * GMEM_HALF + page * TLB_PAGE;
}

static uint64_t tlb_iova(unsigned int page)
{
	return GMEM_HIGH + page * TLB_PAGE;
}

/* Show the driver the page of the memory file that the kernel is told of. */
static int tlb_show(struct tlb *t, unsigned int page)
{
	void *p = mmap(tlb_driver(t, page), TLB_PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, t->memfd,
		       t->at[page] * TLB_PAGE);

	return p == MAP_FAILED ? -errno : 0;
}

static void tlb_shuffle(struct tlb *t, enum tlb_order order)
{
	struct prng p;
	unsigned int i, j;
	uint16_t tmp;

	for (i = 0; i < t->pages; i++)
		t->at[i] = t->pages - 1 - i;
	if (order == TLB_REVERSED)
		return;
	prng_init(&p, 77);
	for (i = t->pages - 1; i; i--) {
		j = prng_below(&p, i + 1);
		tmp = t->at[i];
		t->at[i] = t->at[j];
		t->at[j] = tmp;
	}
}

int tlb_init(struct tlb *t, struct vdev *d, enum tlb_order order, bool v1)
{
	uint64_t format = BIT64(VHOST_BACKEND_F_IOTLB_MSG_V2);
	unsigned int i;
	int r;

	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
	t->d = d;
	t->v1 = v1;
	t->view = MAP_FAILED;
	t->pages = d->mem.high / TLB_PAGE;
	t->memfd = memfd_create("guest", MFD_CLOEXEC);
	/* One page more than the guest has: for tlb_move(). */
	if (t->pages >= TLB_MAX_PAGES || t->memfd < 0 ||
	    ftruncate(t->memfd, (t->pages + 1) * TLB_PAGE))
		return -ENOMEM;
	t->view = mmap(NULL, (t->pages + 1) * TLB_PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED, t->memfd, 0);
	if (t->view == MAP_FAILED)
		return -errno;
	memset(t->perm, VHOST_ACCESS_RW, sizeof(t->perm));
	tlb_shuffle(t, order);
	for (i = 0, r = 0; i < t->pages && !r; i++)
		r = tlb_show(t, i);
	d->iova = true;
	if (!r && !v1)
		r = vdev_ioctl(d, VHOST_SET_BACKEND_FEATURES, &format);
	return r;
}

void tlb_free(struct tlb *t)
{
	tlb_stop(t);
	if (t->view != MAP_FAILED)
		munmap(t->view, (t->pages + 1) * TLB_PAGE);
	close(t->memfd);
}

static int tlb_send(struct tlb *t, const struct vhost_iotlb_msg *msg)
{
	struct vhost_msg m1 = { .type = VHOST_IOTLB_MSG, .iotlb = *msg };
	struct vhost_msg_v2 m2 = { .type = VHOST_IOTLB_MSG_V2, .iotlb = *msg };
	ssize_t n = t->v1 ? write(t->d->fd, &m1, sizeof(m1)) :
			    write(t->d->fd, &m2, sizeof(m2));

	if (n < 0)
		return -errno;
	return n == (t->v1 ? sizeof(m1) : sizeof(m2)) ? 0 : -EPROTO;
}

unsigned int tlb_page(const struct tlb *t, const void *p)
{
	return ((const char *)p - tlb_driver(t, 0)) / TLB_PAGE;
}

int tlb_map(struct tlb *t, unsigned int page)
{
	struct vhost_iotlb_msg msg = {
		.iova = tlb_iova(page),
		.size = TLB_PAGE,
		.uaddr = (uintptr_t)t->view + t->at[page] * TLB_PAGE,
		.perm = t->perm[page],
		.type = VHOST_IOTLB_UPDATE,
	};

	return tlb_send(t, &msg);
}

int tlb_unmap(struct tlb *t, unsigned int page, unsigned int n)
{
	struct vhost_iotlb_msg msg = {
		.iova = tlb_iova(page),
		.size = n * TLB_PAGE,
		.type = VHOST_IOTLB_INVALIDATE,
	};

	return tlb_send(t, &msg);
}

int tlb_unmap_all(struct tlb *t)
{
	return tlb_unmap(t, 0, t->pages);
}

int tlb_map_all(struct tlb *t)
{
	unsigned int i;
	int r = 0;

	for (i = 0; i < t->pages && !r; i++)
		r = tlb_map(t, i);
	return r;
}

int tlb_move(struct tlb *t, unsigned int page, unsigned int to)
{
	int r = tlb_unmap(t, page, 1);

	if (r)
		return r;
	t->at[page] = to;
	return tlb_show(t, page);
}

int tlb_wait_asked(struct tlb *t, unsigned int page, unsigned int ms)
{
	uint64_t end = now_ns() + ms * 1000000ULL;

	while (!READ_ONCE(t->asked[page])) {
		if (now_ns() > end)
			return -ETIMEDOUT;
		sleep_ms(1);
	}
	return 0;
}

/* A translation is wanted. */
static void tlb_miss(struct tlb *t, const struct vhost_iotlb_msg *msg)
{
	unsigned int page = (msg->iova - GMEM_HIGH) / TLB_PAGE;

	if (msg->type != VHOST_IOTLB_MISS || msg->iova < GMEM_HIGH ||
	    page >= t->pages) {
		t->stray++;
		return;
	}
	pthread_mutex_lock(&t->lock);
	t->misses++;
	WRITE_ONCE(t->asked[page], t->asked[page] + 1);
	if (!t->mute)
		tlb_map(t, page);
	else if (t->nwaiting < ARRAY_SIZE(t->waiting))
		t->waiting[t->nwaiting++] = page;
	pthread_mutex_unlock(&t->lock);
}

static void tlb_read(struct tlb *t)
{
	struct vhost_msg_v2 m2;
	struct vhost_msg m1;
	ssize_t n;

	if (t->v1)
		n = read(t->d->fd, &m1, sizeof(m1));
	else
		n = read(t->d->fd, &m2, sizeof(m2));
	/* The ring was stopped, or the owner reset: nobody wants to know. */
	if (n < 0 && (errno == EAGAIN || errno == EPERM))
		return;
	if (t->v1 && n == sizeof(m1) && m1.type == VHOST_IOTLB_MSG)
		tlb_miss(t, &m1.iotlb);
	else if (!t->v1 && n == sizeof(m2) && m2.type == VHOST_IOTLB_MSG_V2)
		tlb_miss(t, &m2.iotlb);
	else
		t->stray++;
}

static void *tlb_thread(void *arg)
{
	struct tlb *t = arg;
	struct pollfd p = { .fd = t->d->fd, .events = POLLIN };

	while (!READ_ONCE(t->stop))
		if (poll(&p, 1, 20) > 0)
			tlb_read(t);
	return NULL;
}

int tlb_start(struct tlb *t)
{
	int r = fcntl(t->d->fd, F_SETFL, O_NONBLOCK);

	if (r < 0)
		return -errno;
	r = pthread_create(&t->thread, NULL, tlb_thread, t);

	t->running = !r;
	return -r;
}

void tlb_stop(struct tlb *t)
{
	if (!t->running)
		return;
	WRITE_ONCE(t->stop, true);
	pthread_join(t->thread, NULL);
	t->running = false;
	fcntl(t->d->fd, F_SETFL, 0);
}

void tlb_mute(struct tlb *t, bool mute)
{
	pthread_mutex_lock(&t->lock);
	t->mute = mute;
	while (!mute && t->nwaiting)
		tlb_map(t, t->waiting[--t->nwaiting]);
	pthread_mutex_unlock(&t->lock);
}

void tlb_forget(struct tlb *t)
{
	pthread_mutex_lock(&t->lock);
	t->nwaiting = 0;
	pthread_mutex_unlock(&t->lock);
}

int tlb_vq_start(struct tlb *t, struct vq *q, int fd)
{
	int r = tlb_map(t, tlb_page(t, q->vr.used));

	return r ? r : vq_start(q, fd);
}
