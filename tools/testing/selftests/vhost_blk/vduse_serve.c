// SPDX-License-Identifier: GPL-2.0
/*
 * The process that plays a block device, see vduse.h. The driver is the kernel's
 * own and trusted: what does not fit ends the process.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/vduse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "blkdev.h"
#include "util.h"
#include "vduse.h"

#define MAX_MAPS	32

#define vrange virtio_blk_discard_write_zeroes

/* Memory of the driver, as it was found. */
struct map {
	uint64_t start, last;
	char *p;
};

struct dev {
	int fd, kick;
	struct vduse_shared *shared;
	struct map map[MAX_MAPS];
	unsigned int nmap;
	struct vring vr;
	uint16_t seen;		/* of the available ring */
	bool ready;
};

static void unmap_range(struct dev *d, uint64_t start, uint64_t last)
{
	unsigned int i = 0;

	while (i < d->nmap) {
		struct map *m = &d->map[i];

		if (m->last < start || m->start > last) {
			i++;
			continue;
		}
		munmap(m->p, m->last - m->start + 1);
		*m = d->map[--d->nmap];
	}
}

static struct map *map_new(struct dev *d, uint64_t iova)
{
	struct vduse_iotlb_entry e = { .start = iova, .last = iova };
	struct map *m = &d->map[d->nmap];
	int fd = -1;

	if (d->nmap < MAX_MAPS)
		fd = ioctl(d->fd, VDUSE_IOTLB_GET_FD, &e);
	if (fd < 0)
		return NULL;
	*m = (struct map){ .start = e.start, .last = e.last };
	m->p = mmap(NULL, e.last - e.start + 1, PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, e.offset);
	close(fd);
	if (m->p == MAP_FAILED)
		return NULL;
	d->nmap++;
	return m;
}

/* Ours for the driver's address; a device that finds none gives up. */
static void *at(struct dev *d, uint64_t iova, uint64_t len)
{
	struct map *m = NULL;
	unsigned int i;

	for (i = 0; i < d->nmap && !m; i++)
		if (d->map[i].start <= iova && iova <= d->map[i].last)
			m = &d->map[i];
	if (!m)
		m = map_new(d, iova);
	if (!m || m->last - iova < len - 1)
		_exit(2);
	return m->p + (iova - m->start);
}

/* All leave zeroes behind: that is easily seen. */
static unsigned char do_ranges(struct dev *d, const struct vrange *r, uint32_t len)
{
	unsigned int n = len / sizeof(*r);

	if (!n || n > VDUSE_SEGS)
		return VIRTIO_BLK_S_IOERR;
	for (; n--; r++) {
		if (r->num_sectors > VDUSE_RANGE_SECTORS ||
		    r->sector > BLKDEV_SIZE / 512 ||
		    r->num_sectors > BLKDEV_SIZE / 512 - r->sector)
			return VIRTIO_BLK_S_IOERR;
		memset(d->shared->disk + r->sector * 512, 0,
		       r->num_sectors * 512ULL);
	}
	return VIRTIO_BLK_S_OK;
}

/*
 * Linux' driver lets the device write where it should read the ranges (the type
 * is an even number), so they do not get here: we can count them, and no more.
 */
static unsigned char do_erase(struct dev *d, uint32_t len)
{
	struct vduse_shared *s = d->shared;

	__atomic_fetch_add(&s->erased, len / sizeof(struct vrange), __ATOMIC_RELEASE);
	return s->answer;
}

static unsigned char do_data(struct dev *d, const struct virtio_blk_outhdr *h,
			     uint64_t *pos, char *buf, uint32_t len)
{
	if (*pos > BLKDEV_SIZE || len > BLKDEV_SIZE - *pos)
		return VIRTIO_BLK_S_IOERR;
	switch (h->type) {
	case VIRTIO_BLK_T_IN:
		memcpy(buf, d->shared->disk + *pos, len);
		break;
	case VIRTIO_BLK_T_OUT:
		memcpy(d->shared->disk + *pos, buf, len);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return do_ranges(d, (const void *)buf, len);
	case VIRTIO_BLK_T_SECURE_ERASE:
		return do_erase(d, len);
	case VIRTIO_BLK_T_GET_ID:
		memset(buf, 0, len);
		break;
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
	*pos += len;
	return VIRTIO_BLK_S_OK;
}

/* Linux lays a chain out so: header, data, status; one descriptor for each. */
static uint32_t do_chain(struct dev *d, uint16_t head)
{
	const struct vring_desc *desc = &d->vr.desc[head];
	struct virtio_blk_outhdr *h = at(d, desc->addr, sizeof(*h));
	unsigned char status = VIRTIO_BLK_S_OK;
	uint64_t pos = h->sector * 512;
	uint32_t written = 1;

	for (desc = &d->vr.desc[desc->next]; desc->flags & VRING_DESC_F_NEXT;
	     desc = &d->vr.desc[desc->next]) {
		if (!status)
			status = do_data(d, h, &pos, at(d, desc->addr, desc->len),
					 desc->len);
		if (desc->flags & VRING_DESC_F_WRITE)
			written += desc->len;
	}
	*(unsigned char *)at(d, desc->addr, 1) = status;
	return written;
}

static void do_ring(struct dev *d)
{
	uint32_t index = 0;
	bool any = false;

	if (!d->ready)
		return;
	while (d->seen != __atomic_load_n(&d->vr.avail->idx, __ATOMIC_ACQUIRE)) {
		uint16_t head = d->vr.avail->ring[d->seen++ % d->vr.num];
		struct vring_used *used = d->vr.used;

		used->ring[used->idx % d->vr.num] = (struct vring_used_elem){
			.id = head, .len = do_chain(d, head),
		};
		__atomic_store_n(&used->idx, used->idx + 1, __ATOMIC_SEQ_CST);
		any = true;
	}
	if (any)
		ioctl(d->fd, VDUSE_VQ_INJECT_IRQ, &index);
}

static void start_ring(struct dev *d)
{
	struct vduse_vq_eventfd event = { .index = 0, .fd = d->kick };
	struct vduse_vq_info info = { .index = 0 };

	/* A reset takes the eventfd away. */
	if (ioctl(d->fd, VDUSE_VQ_GET_INFO, &info) || !info.ready ||
	    ioctl(d->fd, VDUSE_VQ_SETUP_KICKFD, &event))
		return;
	d->vr.num = info.num;
	d->vr.desc = at(d, info.desc_addr, info.num * sizeof(*d->vr.desc));
	d->vr.avail = at(d, info.driver_addr, 4 + 2 * info.num);
	d->vr.used = at(d, info.device_addr, 4 + 8 * info.num);
	d->seen = info.split.avail_index;
	d->ready = true;
}

static void set_status(struct dev *d, unsigned char status)
{
	if (!status) {
		d->ready = false;
		unmap_range(d, 0, ~0ULL);
	} else if (status & VIRTIO_CONFIG_S_DRIVER_OK && !d->ready) {
		start_ring(d);
	}
}

static void do_message(struct dev *d)
{
	struct vduse_dev_response resp = { .result = VDUSE_REQ_RESULT_OK };
	struct vduse_dev_request req;

	if (read(d->fd, &req, sizeof(req)) != sizeof(req))
		return;
	resp.request_id = req.request_id;
	switch (req.type) {
	case VDUSE_GET_VQ_STATE:
		resp.vq_state.index = req.vq_state.index;
		resp.vq_state.split.avail_index = d->seen;
		break;
	case VDUSE_SET_STATUS:
		set_status(d, req.s.status);
		break;
	case VDUSE_UPDATE_IOTLB:
		unmap_range(d, req.iova.start, req.iova.last);
		break;
	default:
		resp.result = VDUSE_REQ_RESULT_FAILED;
	}
	if (write(d->fd, &resp, sizeof(resp)) != sizeof(resp))
		_exit(3);
}

void vduse_serve(int fd, int kick, struct vduse_shared *s)
{
	struct dev d = { .fd = fd, .kick = kick, .shared = s };
	struct pollfd pfd[] = {
		{ .fd = fd, .events = POLLIN }, { .fd = kick, .events = POLLIN },
	};
	uint64_t n;

	while (poll(pfd, ARRAY_SIZE(pfd), -1) > 0) {
		if (pfd[0].revents)
			do_message(&d);
		/* A kick may come before the ring is ours. */
		if (!pfd[1].revents || read(kick, &n, sizeof(n)) > 0)
			do_ring(&d);
	}
	_exit(4);
}
