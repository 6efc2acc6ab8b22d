// SPDX-License-Identifier: GPL-2.0
/*
 * A back end that is not there, to see what the driver costs by itself: every
 * request comes back at once. Signalling costs nothing either, since the call
 * eventfd has been signalled a great many times beforehand.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench.h"

static int null_ioctl(const struct vdev *d, unsigned long req, void *arg)
{
	(void)d;
	(void)req;
	(void)arg;
	return 0;
}

int null_open(struct vdev *d)
{
	d->ioctl = null_ioctl;
	d->fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return d->fd < 0 ? -errno : 0;
}

static void null_prepare(struct vq *q)
{
	int fd = eventfd(0x7fffffff, EFD_SEMAPHORE | EFD_CLOEXEC);

	if (fd >= 0) {
		dup3(fd, q->call, O_CLOEXEC);
		close(fd);
	}
}

void null_serve(struct vq *q)
{
	const struct vring_desc *desc;
	uint16_t idx = q->vr.used->idx;
	struct vring_used_elem *elem;

	if (!idx)
		null_prepare(q);
	for (; idx != q->vr.avail->idx; idx++) {
		elem = &q->vr.used->ring[idx % q->num];
		elem->id = q->vr.avail->ring[idx % q->num];
		elem->len = BENCH_IO + 1;
		desc = gmem_ptr(&q->dev->mem, q->vr.desc[elem->id].addr);
		*(uint8_t *)gmem_ptr(&q->dev->mem, desc[2].addr) = 0;
	}
	__atomic_store_n(&q->vr.used->idx, idx, __ATOMIC_RELEASE);
	/* Like a back end that listens: notify me of the next one. */
	vring_avail_event(&q->vr) = idx;
}
