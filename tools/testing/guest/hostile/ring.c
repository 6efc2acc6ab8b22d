// SPDX-License-Identifier: GPL-2.0
/* Bring the device up, and make requests, see hostile.h. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hostile.h"

void nap(unsigned int us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000L };

	nanosleep(&ts, NULL);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

uint8_t get8(const struct dev *d, unsigned int at)
{
	return d->common[at];
}

uint16_t get16(const struct dev *d, unsigned int at)
{
	return *(volatile uint16_t *)(d->common + at);
}

void put8(struct dev *d, unsigned int at, uint8_t v)
{
	d->common[at] = v;
}

void put16(struct dev *d, unsigned int at, uint16_t v)
{
	*(volatile uint16_t *)(d->common + at) = v;
}

void put32(struct dev *d, unsigned int at, uint32_t v)
{
	*(volatile uint32_t *)(d->common + at) = v;
}

void put64(struct dev *d, unsigned int at, uint64_t v)
{
	put32(d, at, v);
	put32(d, at + 4, v >> 32);
}

/* True as soon as the device has the status bits @bits in that state. */
static bool wait_status(struct dev *d, uint8_t bits, bool set, unsigned int ms)
{
	uint64_t end = now_ms() + ms;

	while (!!(get8(d, VIRTIO_PCI_COMMON_STATUS) & bits) != set) {
		if (now_ms() > end)
			return false;
		nap(500);
	}
	return true;
}

int dev_reset(struct dev *d)
{
	put8(d, VIRTIO_PCI_COMMON_STATUS, 0);
	return wait_status(d, 0xff, false, 20000) ? 0 : -1;
}

bool dev_stopped(struct dev *d, unsigned int ms)
{
	return wait_status(d, NEEDS_RESET, true, ms);
}

int dev_begin(struct dev *d, uint64_t features)
{
	if (dev_reset(d))
		return -1;
	put8(d, VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	put8(d, VIRTIO_PCI_COMMON_STATUS, ALIVE);
	put32(d, VIRTIO_PCI_COMMON_GFSELECT, 0);
	put32(d, VIRTIO_PCI_COMMON_GF, features);
	put32(d, VIRTIO_PCI_COMMON_GFSELECT, 1);
	put32(d, VIRTIO_PCI_COMMON_GF, features >> 32);
	put8(d, VIRTIO_PCI_COMMON_STATUS, ALIVE | VIRTIO_CONFIG_S_FEATURES_OK);
	return get8(d, VIRTIO_PCI_COMMON_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK ?
		0 : -1;
}

void dev_go(struct dev *d)
{
	put8(d, VIRTIO_PCI_COMMON_STATUS, RUNNING);
}

void queue_clear(struct dev *d, unsigned int n, unsigned int at)
{
	struct queue *q = &d->q[n];

	memset(d->mem + at, 0, 0x3000);
	q->desc = (void *)(d->mem + at);
	q->avail = (void *)(d->mem + at + 0x1000);
	q->used = (void *)(d->mem + at + 0x2000);
	q->next = 0;
	q->last = 0;
}

void queue_tell(struct dev *d, unsigned int n, uint16_t size, uint64_t desc,
		uint64_t avail, uint64_t used)
{
	put16(d, VIRTIO_PCI_COMMON_Q_SELECT, n);
	put16(d, VIRTIO_PCI_COMMON_Q_SIZE, size);
	put64(d, VIRTIO_PCI_COMMON_Q_DESCLO, desc);
	put64(d, VIRTIO_PCI_COMMON_Q_AVAILLO, avail);
	put64(d, VIRTIO_PCI_COMMON_Q_USEDLO, used);
	put16(d, VIRTIO_PCI_COMMON_Q_MSIX, n);
	put16(d, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
}

void queue_plain(struct dev *d, unsigned int n)
{
	uint64_t at = d->phys + AT_QUEUE(n);

	queue_clear(d, n, AT_QUEUE(n));
	queue_tell(d, n, SIZE, at, at + 0x1000, at + 0x2000);
}

int dev_up(struct dev *d, uint64_t features)
{
	unsigned int n;

	/* not while it runs, see msix_disabled_under_load() */
	if (dev_reset(d))
		return -1;
	msix_enable(d, true, false);
	for (n = 0; n < QUEUES; n++)
		msix_plain(d, n, false);
	if (dev_begin(d, features))
		return -1;
	for (n = 0; n < QUEUES; n++)
		queue_plain(d, n);
	dev_go(d);
	return get8(d, VIRTIO_PCI_COMMON_STATUS) == RUNNING ? 0 : -1;
}

void notify(struct dev *d, uint16_t n)
{
	__sync_synchronize();
	*(volatile uint16_t *)(d->notify + (n < QUEUES ? n * d->mult : 0)) = n;
}

struct virtio_blk_outhdr *header(struct dev *d, unsigned int at)
{
	return (void *)(d->mem + AT_HEADER + 16 * at);
}

uint8_t *status(struct dev *d, unsigned int at)
{
	return d->mem + AT_STATUS + at;
}

uint8_t *data(struct dev *d, unsigned int at)
{
	return d->mem + AT_DATA + DATA_LEN * at;
}

uint64_t addr(struct dev *d, const void *p)
{
	return d->phys + ((const uint8_t *)p - d->mem);
}

static void set_desc(volatile struct vring_desc *v, uint64_t at, uint32_t len,
		     uint16_t flags, uint16_t next)
{
	v->addr = at;
	v->len = len;
	v->flags = flags;
	v->next = next;
}

void lay_out(struct dev *d, unsigned int n, unsigned int at, uint64_t sector)
{
	volatile struct vring_desc *v = d->q[n].desc + at;

	header(d, at)->type = VIRTIO_BLK_T_IN;
	header(d, at)->ioprio = 0;
	header(d, at)->sector = sector;
	*status(d, at) = 0xee;
	set_desc(v, addr(d, header(d, at)), 16, VRING_DESC_F_NEXT, at + 1);
	set_desc(v + 1, addr(d, data(d, at)), DATA_LEN,
		 VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, at + 2);
	set_desc(v + 2, addr(d, status(d, at)), 1, VRING_DESC_F_WRITE, 0);
}

void offer(struct dev *d, unsigned int n, uint16_t head)
{
	struct queue *q = &d->q[n];

	q->avail->ring[q->next++ % SIZE] = head;
	__sync_synchronize();
	q->avail->idx = q->next;
}

int wait_used(struct dev *d, unsigned int n, unsigned int count, unsigned int ms)
{
	struct queue *q = &d->q[n];
	uint64_t end = now_ms() + ms;

	while ((uint16_t)(q->used->idx - q->last) < count) {
		if (now_ms() > end)
			return -1;
		nap(200);
	}
	q->last += count;
	return 0;
}

int good_read(struct dev *d, unsigned int n, uint64_t sector, const uint8_t *want)
{
	const unsigned int at = 40;

	lay_out(d, n, at, sector);
	memset(data(d, at), 0x5a, DATA_LEN);
	offer(d, n, at);
	notify(d, n);
	if (wait_used(d, n, 1, 20000)) {
		printf("# a sound read does not come back\n");
		return -1;
	}
	if (*status(d, at) || memcmp(data(d, at), want, DATA_LEN)) {
		printf("# a sound read has status %u, or wrong data\n", *status(d, at));
		return -1;
	}
	return 0;
}
