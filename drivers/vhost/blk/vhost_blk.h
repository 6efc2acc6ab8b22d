/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vhost-blk: an in-kernel virtio-blk back end.
 *
 * The way of a request, one file a station:
 *
 *	poll.c -> ring.c -> req.c -> map.c -> bdev.c -> req.c -> ring.c
 *
 * Locks, outermost first:
 *
 *	vhost_dev.mutex		ioctls: configuration, start and stop
 *	vhost_worker.mutex	(vhost core)
 *	vhost_virtqueue.mutex	a ring and its requests
 *
 * A bio's end_io runs in any context, even inside submit_bio() with the ring's
 * mutex held: it only queues the request and wakes the poller.
 */
#ifndef _VHOST_BLK_H
#define _VHOST_BLK_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/llist.h>
#include <linux/types.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <uapi/linux/virtio_blk.h>
#include <uapi/linux/vhost_blk.h>

#include "../vhost.h"

/* Segments of a request that need no allocation. */
#define VHOST_BLK_INLINE_VECS	8

/* Default of struct vhost_blk_poll's batch. */
#define VHOST_BLK_BATCH		64

struct seq_file;
struct vhost_blk;
struct vhost_blk_req;
struct vhost_blk_vq;

/**
 * struct vhost_blk_req - a request of the guest; one per slot of the ring
 * @node:	on &vhost_blk_vq.done once the backend is through with it
 * @ring:	the ring it came from
 * @execute:	what to do, chosen when the header is parsed; it submits, or
 *		calls vhost_blk_req_done() itself
 * @status_addr: where the guest wants the status; NULL: nowhere
 * @sector:	first 512-byte sector
 * @len:	bytes of data
 * @pending:	bios still to be completed
 * @head:	descriptor index, the name of the slot
 * @status:	VIRTIO_BLK_S_*
 * @busy:	taken from the available ring, not yet put on the used ring
 * @nr_vecs:	of @vecs
 * @nr_bounce:	of @bounce
 * @nr_bios:	that were set up: @bio, and one fewer in @more
 * @vecs:	the guest's pages, pinned: @inline_vecs, or allocated
 * @bounce:	what the bios use instead of @vecs when the device cannot take
 *		those; NULL otherwise
 * @more:	the bios after the first, for a large request
 * @bio:	the first bio; not from a bio_set, as @more
 * @inline_vecs: room for a small request
 *
 * Everything but @node, @pending and @status (written by end_io) is protected
 * by the ring's mutex.
 */
struct vhost_blk_req {
	struct llist_node node;
	struct vhost_blk_vq *ring;
	void (*execute)(struct vhost_blk_req *req);
	void __user *status_addr;
	u64 sector;
	u32 len;
	atomic_t pending;
	u16 head;
	u8 status;
	bool busy;
	unsigned int nr_vecs;
	unsigned int nr_bounce;
	unsigned int nr_bios;
	struct bio_vec *vecs;
	struct bio_vec *bounce;
	struct bio *more;
	struct bio bio;
	struct bio_vec inline_vecs[VHOST_BLK_INLINE_VECS];
};

/**
 * struct vhost_blk_backend - the disk behind a ring
 * @file:	as given by VHOST_BLK_SET_BACKEND; holds the disk open
 * @bdev:	its block device
 * @writable:	@file was opened for writing
 * @dma_mask:	address and length bits that must be zero without a bounce
 * @virt_mask:	virtual boundary: no gaps inside; 0: none
 * @block_mask:	logical block size - 1
 * @max_segs:	segments of one device request
 */
struct vhost_blk_backend {
	struct file *file;
	struct block_device *bdev;
	bool writable;
	unsigned int dma_mask;
	unsigned long virt_mask;
	unsigned int block_mask;
	unsigned int max_segs;
};

/**
 * struct vhost_blk_poller - the loop that serves all rings of one worker
 * @work:	queued on the worker
 * @vq:	the virtqueue through which @work is queued
 * @rings:	bit mask of the started rings it serves; written under
 *		&vhost_dev.mutex
 * @awake:	@work runs or is queued, so a completion need not queue it
 * @last:	local_clock() at the last progress; the worker's own
 * @sleeps:	times it went idle
 * @requeues:	times its quantum ended
 *
 * Lies in the ring with the lowest index among those that share a worker.
 */
struct vhost_blk_poller {
	struct vhost_work work;
	struct vhost_virtqueue *vq;
	u64 rings;
	bool awake;
	u64 last;
	u64 sleeps;
	u64 requeues;
};

/**
 * struct vhost_blk_vq - a ring
 * @vq:		vhost core's virtqueue; its mutex protects the ring
 * @blk:	the device
 * @index:	of the ring
 * @poller:	who serves it; changes only while the pollers are parked
 * @own:	the poller that lies here, in use if this ring is the first of
 *		its worker
 * @backend:	the disk, from start until drained. &vhost_virtqueue.private_data
 *		is the same while the ring takes requests, and NULL while it drains
 * @reqs:	one per descriptor
 * @heads:	scratch for a batch of used entries
 * @done:	requests that the backend is through with
 * @drain_work:	completes them when there is no worker any more
 * @drained:	woken when @inflight becomes 0
 * @inflight:	requests that are busy
 * @batch:	most requests taken in a pass
 * @broken:	the guest violated the ring; nothing more is taken from it
 * @hold:	nothing is taken for now
 * @writeback:	VHOST_BLK_CONFIG_WRITEBACK
 * @id:		for VIRTIO_BLK_T_GET_ID
 * @stats:	counters, see struct vhost_blk_stats
 */
struct vhost_blk_vq {
	struct vhost_virtqueue vq;
	struct vhost_blk *blk;
	unsigned int index;
	struct vhost_blk_poller *poller;
	struct vhost_blk_poller own;
	struct vhost_blk_backend *backend;
	struct vhost_blk_req *reqs;
	struct vring_used_elem *heads;
	struct llist_head done;
	struct work_struct drain_work;
	wait_queue_head_t drained;
	unsigned int inflight;
	unsigned int batch;
	bool broken;
	bool hold;
	bool writeback;
	u8 id[VIRTIO_BLK_ID_BYTES];
	struct vhost_blk_stats stats;
};

/**
 * struct vhost_blk - an open /dev/vhost-blk
 * @dev:	vhost core's part
 * @owner:	process id of the owner, for traces
 * @parked:	pollers return at once
 * @vqs:	for vhost core
 * @rings:	the rings, each allocated by itself
 */
struct vhost_blk {
	struct vhost_dev dev;
	pid_t owner;
	bool parked;
	struct vhost_virtqueue *vqs[VHOST_BLK_MAX_RINGS];
	struct vhost_blk_vq *rings[VHOST_BLK_MAX_RINGS];
};

static inline struct vhost_blk_vq *vhost_blk_vq(struct vhost_virtqueue *vq)
{
	return container_of(vq, struct vhost_blk_vq, vq);
}

/* main.c */
extern struct workqueue_struct *vhost_blk_drain_wq;

/* poll.c */
void vhost_blk_poll_init(struct vhost_blk_vq *ring);
void vhost_blk_poll_kick(struct vhost_work *work);
void vhost_blk_poll_wake(struct vhost_blk_vq *ring);
void vhost_blk_poll_park(struct vhost_blk *blk);
void vhost_blk_poll_unpark(struct vhost_blk *blk);
void vhost_blk_poll_add(struct vhost_blk_vq *ring);
void vhost_blk_poll_remove(struct vhost_blk_vq *ring);
long vhost_blk_poll_set(struct vhost_blk *blk, void __user *argp);
long vhost_blk_poll_get(struct vhost_blk *blk, void __user *argp);
long vhost_blk_poll_worker(struct vhost_blk *blk, void __user *argp);

/* ring.c */
bool vhost_blk_ring_has_work(struct vhost_blk_vq *ring);
unsigned int vhost_blk_ring_service(struct vhost_blk_vq *ring);
bool vhost_blk_ring_idle(struct vhost_blk_vq *ring);
void vhost_blk_ring_drain_work(struct work_struct *work);
void vhost_blk_ring_break(struct vhost_blk_vq *ring);

/* req.c */
void vhost_blk_req_start(struct vhost_blk_req *req, unsigned int out,
			 unsigned int in);
void vhost_blk_req_done(struct vhost_blk_req *req);
u32 vhost_blk_req_complete(struct vhost_blk_req *req);

/* map.c */
int vhost_blk_map_init(void);
void vhost_blk_map_exit(void);
int vhost_blk_map_data(struct vhost_blk_req *req, struct iov_iter *data,
		       bool write);
void vhost_blk_map_release(struct vhost_blk_req *req, bool read);

/* bdev.c */
struct vhost_blk_backend *vhost_blk_bdev_open(int fd);
void vhost_blk_bdev_close(struct vhost_blk_backend *backend);
bool vhost_blk_bdev_fits(const struct vhost_blk_req *req);
u8 vhost_blk_bdev_check(const struct vhost_blk_req *req, bool write);
void vhost_blk_bdev_read(struct vhost_blk_req *req);
void vhost_blk_bdev_write(struct vhost_blk_req *req);
void vhost_blk_bdev_write_done(struct vhost_blk_req *req);
void vhost_blk_bdev_flush(struct vhost_blk_req *req);
void vhost_blk_bdev_release(struct vhost_blk_req *req);
long vhost_blk_bdev_limits(void __user *argp);

/* backend.c */
long vhost_blk_backend_set(struct vhost_blk *blk, void __user *argp);
int vhost_blk_backend_quiesce(struct vhost_blk *blk);
void vhost_blk_backend_hold(struct vhost_blk *blk, bool hold);
void vhost_blk_backend_stop_all(struct vhost_blk *blk);
bool vhost_blk_backend_active(struct vhost_blk *blk);

/* stats.c */
long vhost_blk_stats_get(struct vhost_blk *blk, void __user *argp);
void vhost_blk_stats_show(struct seq_file *m, struct file *file);

#endif /* _VHOST_BLK_H */
