/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A driver for virtqueues in userspace: plays the guest for /dev/vhost-blk.
 *
 * Functions return 0 (or what they say) and a negative errno on failure, and
 * know nothing of the test harness.
 */
#ifndef VHOST_BLK_TEST_VRING_H
#define VHOST_BLK_TEST_VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/vhost.h>
#include <linux/vhost_blk.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define VHOST_BLK_DEV "/dev/vhost-blk"

#define BIT64(n) (1ULL << (n))

/* Features that the driver negotiates unless a test asks for others. */
#define DRIVER_FEATURES (BIT64(VIRTIO_F_VERSION_1) |		\
			 BIT64(VIRTIO_RING_F_INDIRECT_DESC) |	\
			 BIT64(VIRTIO_RING_F_EVENT_IDX) |	\
			 BIT64(VIRTIO_BLK_F_FLUSH) |		\
			 BIT64(VIRTIO_BLK_F_BLK_SIZE) |		\
			 BIT64(VIRTIO_BLK_F_MQ))

/*
 * Guest memory: three regions in one mapping. The two low ones follow each
 * other in guest physical addresses, but not in our own:
 *
 *	guest			ours
 *	LOW .. LOW+half		base+half .. base+2*half
 *	LOW+half .. LOW+2*half	base .. base+half
 *	HIGH ..			base+2*half ..
 *
 * Rings and buffers come from the high region; the low ones are for buffers
 * that lie across a border. On both sides of the mapping lies a guard, which is
 * not the guest's.
 */
#define GMEM_LOW	0x100000ULL
#define GMEM_HALF	0x100000ULL
#define GMEM_HIGH	0x100000000ULL
#define GMEM_BORDER	(GMEM_LOW + GMEM_HALF)
/* A guest address that no region covers. */
#define GMEM_HOLE	0x4000000000ULL

#define GMEM_GUARD	65536UL

struct gmem {
	char *base;
	size_t high;	/* size of the high region */
	size_t used;	/* of it */
	uint64_t shift;	/* all guest addresses are higher by this */
};

struct vdev;

/* One descriptor to be. */
struct vseg {
	uint64_t addr;	/* guest physical */
	uint32_t len;
	bool in;	/* the device writes */
};

/* What the driver remembers of a chain in flight, by its head. */
struct vslot {
	void *cookie;
	struct vring_desc *table;	/* indirect table, kept for the next user */
	unsigned int table_len;
	unsigned int ndesc;		/* of the ring; 0: not in flight */
};

struct vq {
	struct vdev *dev;
	unsigned int index;
	unsigned int num;
	struct vring vr;
	struct vslot *slot;
	uint16_t *next;		/* free list, and the chains in flight */
	uint16_t free_head;
	unsigned int nfree;
	uint16_t avail_idx;	/* next to fill; published by vq_publish() */
	uint16_t published;	/* avail->idx as the device sees it */
	uint16_t last_used;
	int kick, call, err;
	bool spin;		/* wait by polling the used index */
	unsigned long kicks, kicks_saved;
};

struct vdev {
	int fd;
	/* Takes the ioctls of a back end that is not /dev/vhost-blk, if set. */
	int (*ioctl)(const struct vdev *d, unsigned long req, void *arg);
	uint64_t features;
	struct gmem mem;
	bool iova;	/* rings are announced by guest address, too */
	struct vq *vq[VHOST_BLK_MAX_RINGS];
};

/* ioctl(2), with the error as a negative errno */
int vdev_ioctl(const struct vdev *d, unsigned long req, void *arg);
int vdev_state(const struct vdev *d, unsigned long req, unsigned int index,
	       unsigned int num);
int vdev_file(const struct vdev *d, unsigned long req, unsigned int index,
	      int fd);

/* Open the device, own it, negotiate, give it @size bytes of high memory. */
int vdev_open(struct vdev *d, uint64_t features, size_t size);
/* The same with so many rings, of which the kernel is told. */
int vdev_open_rings(struct vdev *d, uint64_t features, size_t size,
		    uint32_t rings);
/* The same, with workers that are kernel threads; -ENOTTY: not here. */
int vdev_open_kthread(struct vdev *d, uint64_t features, size_t size);
void vdev_close(struct vdev *d);
int vdev_set_mem(struct vdev *d);
int gmem_init(struct gmem *m, size_t size);
void gmem_free(struct gmem *m);
/* True if nobody has written next to guest memory. */
bool gmem_guards_intact(const struct gmem *m);

/* Zeroed guest memory; dies when there is none left. */
void *gmem_alloc(struct gmem *m, size_t size, size_t align);
uint64_t gmem_addr(const struct gmem *m, const void *p);
void *gmem_ptr(const struct gmem *m, uint64_t addr);

/* Make a ring known to the kernel, without starting it. */
int vq_setup(struct vdev *d, unsigned int index, unsigned int num,
	     struct vq **res);
/* Forget everything in flight: as after a device reset. */
int vq_reset(struct vq *q);
void vq_free(struct vq *q);

int vq_start(struct vq *q, int fd);
int vq_stop(struct vq *q);
/* Last available index that the device took, or an error. */
int vq_base(struct vq *q);

enum vq_mode {
	VQ_DIRECT = 0,
	VQ_INDIRECT,
	VQ_MIXED,	/* the first descriptor direct, the rest indirect */
};

/* Queue a chain: its head, or -ENOSPC. Not seen by the device yet. */
int vq_add(struct vq *q, const struct vseg *seg, unsigned int n,
	   enum vq_mode mode, void *cookie);
/* Queue descriptor @head as it is, with no book-keeping. */
void vq_add_raw(struct vq *q, uint16_t head);
void vq_publish(struct vq *q);
/* Publish, and kick if the device asks for it; true if it did. */
bool vq_kick(struct vq *q);
/* Kick, whether asked for or not. */
void vq_kick_force(struct vq *q);

/*
 * Tell how far we have looked, and to be signalled when there is more. True if
 * there is already. Without EVENT_IDX it does nothing.
 */
bool vq_listen(struct vq *q);
/* Chains handed back that vq_get() has not returned yet. */
unsigned int vq_pending(const struct vq *q);
/*
 * Take one used chain: 1; 0: none; -EPROTO: its id is not one in flight or
 * the used index ran ahead.
 */
int vq_get(struct vq *q, void **cookie, uint32_t *len);
/*
 * Wait for a used chain: 0, -ETIMEDOUT (nothing came), -ENOMSG (one came, but
 * nobody signalled it).
 */
int vq_wait(struct vq *q, unsigned int ms);
/* Wait until the error eventfd was signalled: 0 or -ETIMEDOUT. */
int vq_wait_error(struct vq *q, unsigned int ms);
/* Times that an eventfd was signalled since last asked. */
uint64_t eventfd_take(int fd);

int vdev_stats(const struct vdev *d, unsigned int index,
	       struct vhost_blk_stats *s);
/* A counter of /proc/self/fdinfo; -1 if there is none of that name. */
long long vdev_shown(const struct vdev *d, const char *name);
int vdev_set_poll(const struct vdev *d, unsigned int index,
		  unsigned int poll_us);
/* The same for all rings, with VHOST_BLK_POLL_*. */
int set_spin(const struct vdev *d, uint32_t poll_us, uint32_t flags);
/* Thread id of the ring's worker, or an error. */
int vdev_worker(const struct vdev *d, unsigned int index);
/* CPU time of the ring's worker while we sleep, in per cent; -1: no worker. */
int worker_load(struct vdev *d, unsigned int index, unsigned int ms);
#define IDLE_LOAD 15	/* per cent; a loop would give nearly 100 */

#endif
