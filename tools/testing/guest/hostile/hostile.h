/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A driver for a virtio-blk PCI device in user space, in the guest: it can do
 * what no kernel driver does. pci.c takes the device over, ring.c makes requests,
 * chains.c and device.c break the driver's duties one by one, hostile.c sees to
 * it that host and device survive each of them.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#endif

#ifndef VIRTIO_F_RING_RESET
#define VIRTIO_F_RING_RESET	40
#endif
/* of the common configuration, missing in older headers */
#define COMMON_Q_RESET		58

#define BIT64(n)	(1ULL << (n))
#define NEEDS_RESET	0x40	/* in the device's status */
#define ALIVE		(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define RUNNING		(ALIVE | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)
#define FEATURES	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) | \
			 BIT64(VIRTIO_BLK_F_MQ) | BIT64(VIRTIO_BLK_F_CONFIG_WCE) | \
			 BIT64(VIRTIO_BLK_F_FLUSH))

#define QUEUES		2
#define SIZE		64	/* of a queue */
#define DATA_LEN	4096
#define HOLE		0x4000000000ULL	/* no memory there */

/* Of the memory that the device may use, 2 MiB in one piece. */
#define MEM_SIZE	(2u << 20)
#define AT_QUEUE(n)	((n) * 0x4000u)	/* desc, avail, used: a page each */
#define AT_HEADER	0x10000u	/* one for each descriptor, as the next */
#define AT_STATUS	0x12000u
#define AT_TABLE	0x14000u
#define AT_SPARE	0x18000u	/* another place for a queue */
#define AT_CANARY	0x20000u	/* nobody names these 64 KiB */
#define CANARY_LEN	0x10000u
#define AT_DATA		0x100000u	/* DATA_LEN for each descriptor */
#define CANARY		0xc9

struct queue {
	volatile struct vring_desc *desc;
	volatile struct vring_avail *avail;
	volatile struct vring_used *used;
	uint16_t next, last;	/* of avail and used */
};

struct dev {
	char path[256], bdf[32];
	int config;
	volatile uint8_t *bar[6];
	uint64_t bar_phys[6];
	volatile uint8_t *common, *notify, *isr, *device;
	uint32_t mult, device_len;
	unsigned int msix_cap, access_cap;
	volatile uint32_t *msix;
	volatile uint64_t *pba;
	uint8_t *mem;
	uint64_t phys;		/* where mem is for the device */
	uint64_t ram_end;	/* the first address behind memory */
	struct queue q[QUEUES];
};

/* pci.c: 0, or -1 with a message */
int pci_take(struct dev *d, const char *disk);
int pci_give_back(struct dev *d);
uint32_t pci_read(const struct dev *d, unsigned int at, unsigned int len);
void pci_write(const struct dev *d, unsigned int at, uint32_t v, unsigned int len);
void msix_enable(const struct dev *d, bool on, bool mask_all);
void msix_set(const struct dev *d, unsigned int entry, uint64_t addr,
	      uint32_t data, bool masked);
/* Interrupts that have reached the CPU from entries set up by msix_plain(). */
long msix_count(void);
void msix_plain(const struct dev *d, unsigned int entry, bool masked);

/* ring.c */
uint8_t get8(const struct dev *d, unsigned int at);
uint16_t get16(const struct dev *d, unsigned int at);
void put8(struct dev *d, unsigned int at, uint8_t v);
void put16(struct dev *d, unsigned int at, uint16_t v);
void put32(struct dev *d, unsigned int at, uint32_t v);
void put64(struct dev *d, unsigned int at, uint64_t v);
int dev_reset(struct dev *d);
/* Reset, then features; 0 if the device agrees. */
int dev_begin(struct dev *d, uint64_t features);
void dev_go(struct dev *d);
/* All of it, with sound queues. */
int dev_up(struct dev *d, uint64_t features);
bool dev_stopped(struct dev *d, unsigned int ms);
void queue_clear(struct dev *d, unsigned int n, unsigned int at);
void queue_tell(struct dev *d, unsigned int n, uint16_t size, uint64_t desc,
		uint64_t avail, uint64_t used);
void queue_plain(struct dev *d, unsigned int n);
void notify(struct dev *d, uint16_t n);
/* Lay a read of @sector out in descriptors @at.. of queue @n. */
void lay_out(struct dev *d, unsigned int n, unsigned int at, uint64_t sector);
struct virtio_blk_outhdr *header(struct dev *d, unsigned int at);
uint8_t *status(struct dev *d, unsigned int at);
uint8_t *data(struct dev *d, unsigned int at);
uint64_t addr(struct dev *d, const void *p);
void offer(struct dev *d, unsigned int n, uint16_t head);
/* Wait until @count more were used: 0 or -1. */
int wait_used(struct dev *d, unsigned int n, unsigned int count, unsigned int ms);
/* A sound read of @sector through queue @n, right data and all: 0 or -1. */
int good_read(struct dev *d, unsigned int n, uint64_t sector, const uint8_t *want);
void nap(unsigned int us);

/* chains.c, device.c */
enum outcome {
	STOPS,		/* the device says that it needs a reset */
	REFUSED,	/* that request fails, and the ring goes on */
	GOES_ON,	/* and nothing comes of it */
	RESETS,		/* whatever comes of it ends with a reset */
};

struct violation {
	const char *name;
	/* 0 if what happened is right as far as it can say */
	int (*commit)(struct dev *d);
	enum outcome outcome;
};

extern const struct violation chain_violations[], device_violations[];
extern const uint8_t *reference;	/* what the disk holds, from sector 0 */
#define REFERENCE_LEN	0x100000u

#endif
