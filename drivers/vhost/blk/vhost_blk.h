/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vhost-blk: an in-kernel virtio-blk back end.
 *
 * The way of a request, one file a station:
 *
 *	poll.c -> ring.c -> req.c -> map.c -> bdev.c | file.c -> req.c -> ring.c
 *
 * Locks, outermost first:
 *
 *	vhost_dev.mutex		ioctls: configuration, start and stop
 *	vhost_worker.mutex	(vhost core)
 *	vhost_blk_share.lock	pollers of one process on one CPU, in share.c
 *	vhost_virtqueue.mutex	a ring and its requests
 *
 * A bio's end_io runs in any context, even inside submit_bio() with the ring's
 * mutex held: it only queues the request and wakes the poller.
 */
#ifndef _VHOST_BLK_H
#define _VHOST_BLK_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/cgroup.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/llist.h>
#include <linux/poll.h>
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
struct vhost_blk_pin;
struct vhost_blk_req;
struct vhost_blk_share;
struct vhost_blk_vm;
struct vhost_blk_vq;

/**
 * struct vhost_blk_req - a request of the guest; one per slot of the ring
 * @node:	on &vhost_blk_vq.done, then @todo, once the backend is through with it
 * @polled:	on &vhost_blk_vq.polled, if its bio is polled for
 * @ring:	the ring it came from
 * @work:	for what cannot be done without sleeping
 * @status_addr: where the guest wants the status; NULL: nowhere
 * @sector:	first 512-byte sector
 * @len:	bytes of data
 * @used:	bytes that the guest gets if it succeeds, besides the status
 * @pending:	bios still to be completed
 * @type:	VIRTIO_BLK_T_*
 * @head:	descriptor index, the name of the slot
 * @status:	VIRTIO_BLK_S_*
 * @busy:	taken from the available ring, not yet put on the used ring; its
 *		memory may be released already
 * @again:	the backend has to submit it once more
 * @refused:	ended before it reached the backend
 * @nr_vecs:	of @vecs
 * @nr_table:	that there is room for in @vecs, if it is allocated
 * @nr_bounce:	of @bounce
 * @bounce_reserved: its pages come from the reserve
 * @prepinned:	@vecs has pages that stay pinned
 * @writethrough: what it writes must be stable before it completes
 * @ignore_discard: nothing is to be given back to what is below the disk
 * @bounce_order: its vectors are of this many pages, as a power of two
 * @nr_bios:	that were set up: @bio, and one fewer in @more
 * @vecs:	the guest's pages, pinned: @inline_vecs, or allocated
 * @bounce:	what the bios use instead of @vecs when the device cannot take
 *		those; NULL otherwise
 * @more:	the bios after the first, for a large request
 * @bio:	the first bio; not from a bio_set, as @more
 * @iocb:	instead of @bio, for a regular file
 * @ranges:	of a discard, write-zeroes or secure erase; allocated
 * @nr_ranges:	of @ranges
 * @append:	where the guest wants to know the sector that a zone append
 *		wrote: @append_one, or allocated
 * @nr_append:	of @append
 * @append_one: the usual place: in one piece
 * @inline_vecs: room for a small request
 *
 * Everything but @node, @pending, @status and @again (written by end_io) is
 * protected by the ring's mutex; whoever asks the disk about @polled requests
 * without it reads that and @bio under RCU, and relies on @pending.
 */
struct vhost_blk_req {
	struct llist_node node;
	struct list_head polled;
	struct vhost_blk_vq *ring;
	struct work_struct work;
	void __user *status_addr;
	u64 sector;
	u32 len;
	u32 used;
	atomic_t pending;
	u32 type;
	u16 head;
	u8 status;
	bool busy;
	bool again;
	bool refused;
	unsigned int nr_vecs;
	unsigned int nr_table;
	unsigned int nr_bounce;
	bool bounce_reserved;
	bool prepinned;
	bool writethrough;
	bool ignore_discard;
	u8 bounce_order;
	unsigned int nr_bios;
	struct bio_vec *vecs;
	struct bio_vec *bounce;
	struct bio *more;
	union {
		struct bio bio;
		struct kiocb iocb;
	};
	struct virtio_blk_discard_write_zeroes *ranges;
	unsigned int nr_ranges;
	unsigned int nr_append;
	struct iovec *append;
	struct iovec append_one;
	struct bio_vec inline_vecs[VHOST_BLK_INLINE_VECS];
};

struct vhost_blk_backend;

/**
 * struct vhost_blk_backend_ops - a kind of backend
 * @capacity:	in 512-byte sectors, as it is now
 * @read_only:	must not be written, as it is now
 * @read:	submit a read; called, like @write and @flush, on the ring's
 *		worker with the ring's mutex held
 * @write:	submit a write
 * @flush:	submit a flush
 * @discard:	discard some sectors; called, like the next two, on a workqueue;
 *		may sleep. Return 0 or an errno, -EOPNOTSUPP if the backend
 *		cannot
 * @write_zeroes: make some sectors read as zeroes
 * @secure_erase: discard some sectors beyond recovery; may be NULL
 * @again:	submit a request that came back with &vhost_blk_req.again; called
 *		as @read; NULL if none does
 * @sync:	make what was written stable; called as @discard
 * @release:	give up the bios of a request that has some, on the ring's
 *		worker with the ring's mutex held; may sleep
 * @limits:	fill in what is special about this kind
 */
struct vhost_blk_backend_ops {
	u64 (*capacity)(const struct vhost_blk_backend *backend);
	bool (*read_only)(const struct vhost_blk_backend *backend);
	void (*read)(struct vhost_blk_req *req);
	void (*write)(struct vhost_blk_req *req);
	void (*flush)(struct vhost_blk_req *req);
	int (*discard)(struct vhost_blk_backend *backend, u64 sector, u32 nr);
	int (*write_zeroes)(struct vhost_blk_backend *backend, u64 sector,
			    u32 nr, bool unmap);
	int (*secure_erase)(struct vhost_blk_backend *backend, u64 sector,
			    u32 nr);
	void (*again)(struct vhost_blk_req *req);
	int (*sync)(struct vhost_blk_backend *backend);
	void (*release)(struct vhost_blk_req *req);
	void (*limits)(const struct vhost_blk_backend *backend,
		       struct vhost_blk_limits *limits);
};

/**
 * struct vhost_blk_backend - the disk behind a ring
 * @ops:	its kind
 * @file:	as given by VHOST_BLK_SET_BACKEND; holds the disk open
 * @bdev:	its block device, if it is one
 * @css:	the block cgroup of whoever set the backend
 * @writable:	@file was opened for writing
 * @iopoll:	can be polled for completions as long as it has polled queues
 * @dma_mask:	address and length bits that must be zero without a bounce
 * @virt_mask:	virtual boundary: no gaps inside; 0: none
 * @block_mask:	logical block size - 1
 * @max_segs:	segments of one device request
 * @max_seg_size: bytes of one segment, at least a page; where there are zones
 * @seg_boundary: mask of addresses that a segment does not leave; the same
 * @zone_sectors: size of a zone, a power of two; 0: no zones
 */
struct vhost_blk_backend {
	const struct vhost_blk_backend_ops *ops;
	struct file *file;
	struct block_device *bdev;
	struct cgroup_subsys_state *css;
	bool writable;
	bool iopoll;
	unsigned int dma_mask;
	unsigned long virt_mask;
	unsigned int block_mask;
	unsigned int max_segs;
	unsigned int max_seg_size;
	unsigned long seg_boundary;
	unsigned int zone_sectors;
};

/**
 * struct vhost_blk_nap - short sleeps without notifications
 * @timer:	ends one
 * @count:	naps since the last look at whether they pay
 * @moved:	requests fetched or completed meanwhile
 * @wait:	sleeps until the next attempt
 * @try_after:	@wait after an attempt that does not pay
 * @napping:	it was at rest in one when it last had nothing to do
 * @naps:	how many there were
 *
 * All but @timer are the worker's own; vhost_blk_nap_stop() ends @napping, too.
 */
struct vhost_blk_nap {
	struct hrtimer timer;
	unsigned int count;
	unsigned int moved;
	unsigned int wait;
	unsigned int try_after;
	bool napping;
	u64 naps;
};

/**
 * struct vhost_blk_poller - the loop that serves all rings of one worker
 * @work:	queued on the worker
 * @vq:	the virtqueue through which @work is queued
 * @rings:	bit mask of the started rings it serves; written under
 *		&vhost_dev.mutex
 * @awake:	@work runs or is queued, or a timer queues it, or it is led, so a
 *		completion need not
 * @last:	local_clock() at the last progress, of the lead's if it is led;
 *		the worker's own, or the lead's, as the next two
 * @spin:	how long to spin after that, ns
 * @limit:	for @spin, ns
 * @nap:	for when it does not spin
 * @share:	with whom it shares a CPU, while it leads or is led
 * @led:	on &vhost_blk_share.others
 * @gave_way:	it has let another run since the last progress; the worker's own
 * @turn:	local_clock() when this turn began; the worker's own
 * @careful:	turns for which it holds no signal, as submission may sleep; the
 *		worker's own
 * @sleeps:	times it went idle
 * @requeues:	times its quantum ended
 * @times_led:	how often somebody else began to serve its rings
 *
 * Lies in the ring with the lowest index among those that share a worker.
 */
struct vhost_blk_poller {
	struct vhost_work work;
	struct vhost_virtqueue *vq;
	u64 rings;
	bool awake;
	u64 last;
	u64 spin;
	u64 limit;
	struct vhost_blk_nap nap;
	struct vhost_blk_share *share;
	struct list_head led;
	bool gave_way;
	u64 turn;
	unsigned int careful;
	u64 sleeps;
	u64 requeues;
	u64 times_led;
};

/**
 * struct vhost_blk_share - the pollers of an owner's devices on a CPU
 * @lock:	protects all of this, and &vhost_blk_poller.share of its pollers;
 *		between &vhost_worker.mutex and &vhost_virtqueue.mutex
 * @lead:	the poller that serves the others; NULL: nobody does
 * @others:	those it serves
 * @since:	local_clock() when it began to, or they last decided to be led
 * @prio:	its worker's priority then
 * @latest:	the poller that was the last to come; may be gone
 * @seen:	local_clock() when it came
 * @met:	local_clock() when one came soon after another
 */
struct vhost_blk_share {
	struct mutex lock;	/* outside the rings' */
	struct vhost_blk_poller *lead;
	struct list_head others;
	u64 since;
	int prio;
	const void *latest;
	u64 seen;
	u64 met;
};

/**
 * struct vhost_blk_signal - the guest's signal, held back
 * @us:		for at most so many microseconds; 0: never
 * @since:	local_clock() when it should have been sent; 0: nothing is held
 * @moved:	local_clock() when a request last came or was completed, while it
 *		is held
 * @took:	how long the last one was held before the goal was reached, ns
 * @held:	completions that it stands for
 * @goal:	send it when there are so many
 * @was:	the goal before an attempt
 * @depth:	requests that the guest is known to have outstanding at a time
 * @peak:	most that it has had since the last signal, if it tells
 * @reached:	times that the goal was reached, since it changed or fell
 * @credit:	that the goal has by being reached
 * @try_after:	try a larger one after @reached is so much
 * @trying:	the goal is such an attempt
 * @tells:	the guest says what it has outstanding
 * @at_once:	nothing is held for now
 *
 * Protected by the ring's mutex; some are read without it as a hint.
 */
struct vhost_blk_signal {
	u32 us;
	u64 since;
	u64 moved;
	u64 took;
	unsigned int held;
	unsigned int goal;
	unsigned int was;
	unsigned int depth;
	unsigned int peak;
	unsigned int reached;
	unsigned int credit;
	unsigned int try_after;
	bool trying;
	bool tells;
	bool at_once;
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
 * @heads:	used entries that are not on the used ring yet
 * @nr_used:	of @heads
 * @done:	requests that the backend is through with
 * @todo:	those of them that were taken from there, in their order
 * @polled:	requests that the disk has to be asked about
 * @iopoll_timer: looks whether they are at a standstill, now and then
 * @iopoll_work: asks for all of them then
 * @polled_seen: &vhost_blk_stats.polled when it looked last; @iopoll_timer's own, which
 *		reads that and whether @polled is empty without the mutex
 * @drain_work:	completes them when there is no worker any more
 * @drained:	woken when @inflight becomes 0
 * @inflight:	requests that are busy, but for those in @heads
 * @batch:	most requests taken in a pass, and most completed
 * @poll_flags:	VHOST_BLK_POLL_*
 * @broken:	the guest violated the ring; nothing more is taken from it
 * @hold:	nothing is taken for now
 * @full:	nothing is taken until something is reaped
 * @miss:	neither taken nor put on the used ring before the VMM has told a
 *		translation
 * @avail:	the available ring, translated; a hint
 * @table_vecs: that requests in flight have allocated
 * @bounce_bytes: in bounce pages
 * @signal:	for what was put on the used ring
 * @capacity:	of the disk, as last seen
 * @config:	as VHOST_BLK_SET_CONFIG gave it
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
	struct llist_node *todo;
	struct list_head polled;
	struct timer_list iopoll_timer;
	struct work_struct iopoll_work;
	u64 polled_seen;
	struct work_struct drain_work;
	wait_queue_head_t drained;
	unsigned int nr_used;
	unsigned int inflight;
	unsigned int batch;
	u32 poll_flags;
	bool broken;
	bool hold;
	bool full;
	bool miss;
	vring_avail_t __user *avail;
	unsigned int table_vecs;
	unsigned int bounce_bytes;
	struct vhost_blk_signal signal;
	u64 capacity;
	struct vhost_blk_config config;
	struct vhost_blk_stats stats;
};

/**
 * struct vhost_blk - an open /dev/vhost-blk
 * @dev:	vhost core's part
 * @owner:	process id of the owner, for traces
 * @vm:		all devices of the owner
 * @wq:	for what cannot be done without sleeping
 * @parked:	pollers return at once
 * @dying:	the owner is gone, or closes: cut short what takes long
 * @late:	a ring has stopped, and there was no grace period since
 * @settled:	there has been an owner: the number of rings, &vhost_dev.nvqs, changes
 *		no more
 * @event:	VHOST_BLK_SET_EVENT; replaced under &vhost_dev.mutex
 * @pin:	guest memory that stays pinned; changes under &vhost_dev.mutex
 *		while all rings are held and nothing is in flight
 * @vqs:	for vhost core
 * @rings:	the rings, each allocated by itself
 */
struct vhost_blk {
	struct vhost_dev dev;
	pid_t owner;
	struct vhost_blk_vm *vm;
	struct workqueue_struct *wq;
	bool parked;
	bool dying;
	bool late;
	bool settled;
	struct eventfd_ctx __rcu *event;
	struct vhost_blk_pin *pin;
	struct vhost_virtqueue *vqs[VHOST_BLK_MAX_RINGS];
	struct vhost_blk_vq *rings[VHOST_BLK_MAX_RINGS];
};

static inline struct vhost_blk_vq *vhost_blk_vq(struct vhost_virtqueue *vq)
{
	return container_of(vq, struct vhost_blk_vq, vq);
}

/* A kernel that knows no zones gets rid of what is behind this. */
static inline bool vhost_blk_zoned(const struct vhost_blk_backend *backend)
{
	return IS_ENABLED(CONFIG_BLK_DEV_ZONED) && backend->zone_sectors;
}

/*
 * Work that is done on a workqueue is charged to the block cgroup of whoever
 * set the backend.
 */
#ifdef CONFIG_BLK_CGROUP
static inline struct cgroup_subsys_state *vhost_blk_css_get(void)
{
	return task_get_css(current, io_cgrp_id);
}

static inline void vhost_blk_css_put(struct cgroup_subsys_state *css)
{
	css_put(css);
}
#else
static inline struct cgroup_subsys_state *vhost_blk_css_get(void)
{
	return NULL;
}

static inline void vhost_blk_css_put(struct cgroup_subsys_state *css)
{
}
#endif

/* main.c */
extern struct workqueue_struct *vhost_blk_drain_wq;

/* poll.c */
void vhost_blk_poll_init(struct vhost_blk_vq *ring);
void vhost_blk_poll_kick(struct vhost_work *work);
void vhost_blk_poll_queue(struct vhost_blk_poller *poller);
bool vhost_blk_poll_quiet(struct vhost_blk_poller *poller);
bool vhost_blk_poll_release(struct vhost_blk_poller *poller);
void vhost_blk_poll_flush(struct vhost_blk_poller *poller,
			  struct vhost_blk_share *share);
bool vhost_blk_poll_slept(struct vhost_blk_poller *by, unsigned long switches);
void vhost_blk_poll_wake(struct vhost_blk_vq *ring);

/* park.c */
void vhost_blk_poll_park(struct vhost_blk *blk);
void vhost_blk_poll_unpark(struct vhost_blk *blk);
void vhost_blk_poll_add(struct vhost_blk_vq *ring);
void vhost_blk_poll_remove(struct vhost_blk_vq *ring);

/* share.c */
int vhost_blk_share_open(struct vhost_blk *blk);
void vhost_blk_share_close(struct vhost_blk *blk);
bool vhost_blk_share_join(struct vhost_blk_poller *poller, u64 now);
void vhost_blk_share_leave(struct vhost_blk_poller *poller);
struct vhost_blk_share *vhost_blk_share_lock_slow(struct vhost_blk_poller *poller);
bool vhost_blk_share_expects(const struct vhost_blk_share *share, u64 now);
void vhost_blk_share_end(struct vhost_blk_share *share);

/*
 * Keep those that @poller leads, which runs in its worker and holds no lock.
 *
 * Return: the share that it leads, for vhost_blk_share_unlock(); NULL: none.
 */
static inline struct vhost_blk_share *
vhost_blk_share_lock(struct vhost_blk_poller *poller)
{
	return READ_ONCE(poller->share) ? vhost_blk_share_lock_slow(poller) : NULL;
}

/*
 * Let others run on this CPU, for as long as it takes to come and be led. Unlike
 * what yields, who sleeps gets the CPU back soon.
 */
static inline void vhost_blk_share_give_way(void)
{
	usleep_range(1, 10);
}

static inline void vhost_blk_share_unlock(struct vhost_blk_share *share)
{
	if (share)
		mutex_unlock(&share->lock);
}

/* Does @poller, which runs, lead any others? A hint: one may just come or go. */
static inline bool vhost_blk_share_others(const struct vhost_blk_poller *poller)
{
	struct vhost_blk_share *share = READ_ONCE(poller->share);

	return share && !list_empty(&share->others);
}

/*
 * Through the pollers of a share that its lead has locked; NULL: there are no
 * others. Return: the one after @poller, NULL after the last.
 */
static inline struct vhost_blk_poller *
vhost_blk_share_next(const struct vhost_blk_share *share,
		     struct vhost_blk_poller *poller)
{
	struct list_head *next;

	if (!share)
		return NULL;
	next = poller == share->lead ? share->others.next : poller->led.next;
	if (next == &share->others)
		return NULL;
	return list_entry(next, struct vhost_blk_poller, led);
}

/* nap.c */
void vhost_blk_nap_init(struct vhost_blk_poller *poller);
bool vhost_blk_nap_start(struct vhost_blk_poller *poller, u64 hold, u64 left);
void vhost_blk_nap_leave(struct vhost_blk_poller *poller);
void vhost_blk_nap_stop(struct vhost_blk_poller *poller);

/* ring.c */
bool vhost_blk_ring_has_work(struct vhost_blk_vq *ring);
unsigned int vhost_blk_ring_service(struct vhost_blk_vq *ring,
				    struct vhost_blk_poller *by);
bool vhost_blk_ring_idle(struct vhost_blk_vq *ring);
int vhost_blk_ring_settle(struct vhost_blk_vq *ring);
void vhost_blk_ring_drain_work(struct work_struct *work);
void vhost_blk_ring_break(struct vhost_blk_vq *ring);

/* signal.c */
u64 vhost_blk_signal_bound(const struct vhost_blk_vq *ring);
u64 vhost_blk_signal_left(const struct vhost_blk_vq *ring);
void vhost_blk_signal_init(struct vhost_blk_vq *ring);
void vhost_blk_signal_add(struct vhost_blk_vq *ring, unsigned int n);
void vhost_blk_signal_arrived(struct vhost_blk_vq *ring);
bool vhost_blk_signal_due(struct vhost_blk_vq *ring);
bool vhost_blk_signal_check(struct vhost_blk_vq *ring);
void vhost_blk_signal_idle(struct vhost_blk_vq *ring);
void vhost_blk_signal_flush(struct vhost_blk_vq *ring);

/* settings.c */
long vhost_blk_settings_set(struct vhost_blk *blk, void __user *argp);
long vhost_blk_settings_get(struct vhost_blk *blk, void __user *argp);
long vhost_blk_settings_worker(struct vhost_blk *blk, void __user *argp);

/* req.c */
int vhost_blk_req_start(struct vhost_blk_req *req, unsigned int out,
			unsigned int in);
u8 vhost_blk_req_status(int err);
u8 vhost_blk_req_check(const struct vhost_blk_req *req, u64 sector, u64 bytes,
		       bool write);
void vhost_blk_req_fail(struct vhost_blk_req *req, u8 status);
void vhost_blk_req_done(struct vhost_blk_req *req);
u32 vhost_blk_req_complete(struct vhost_blk_req *req);

/* map.c */
int vhost_blk_map_init(void);
void vhost_blk_map_exit(void);
int vhost_blk_map_plain(struct vhost_blk_req *req, struct iov_iter *data);
int vhost_blk_map_data(struct vhost_blk_req *req, struct iov_iter *data,
		       bool write);
void vhost_blk_map_release(struct vhost_blk_req *req, bool read);

/* pin.c */
struct page **vhost_blk_pin_find(const struct vhost_blk_pin *pin,
				 unsigned long addr, size_t bytes);
void vhost_blk_pin_drop(struct vhost_blk *blk);
long vhost_blk_pin_set(struct vhost_blk *blk, void __user *argp);

/* bdev.c */
void vhost_blk_bdev_append(struct vhost_blk_req *req);
void vhost_blk_bdev_zone_mgmt(struct vhost_blk_req *req, enum req_op op);
int vhost_blk_bdev_open(struct vhost_blk_backend *backend);

/* iopoll.c */
bool vhost_blk_iopoll_capable(struct block_device *bdev);
void vhost_blk_iopoll_add(struct vhost_blk_req *req);
bool vhost_blk_iopoll_refused(const struct bio *bio);
void vhost_blk_iopoll_ring(struct vhost_blk_vq *ring);
void vhost_blk_iopoll_init(struct vhost_blk_vq *ring);
void vhost_blk_iopoll_stop(struct vhost_blk_vq *ring);

/* Is the ring waiting for completions that come without an interrupt? */
static inline bool vhost_blk_iopoll_busy(const struct vhost_blk_vq *ring)
{
	return !list_empty(&ring->polled);
}

/* A request is completed, or was refused. Was it polled for? */
static inline bool vhost_blk_iopoll_del(struct vhost_blk_req *req)
{
	if (list_empty(&req->polled))
		return false;
	list_del_init(&req->polled);
	return true;
}

/* file.c */
int vhost_blk_file_open(struct vhost_blk_backend *backend);

/* range.c */
u64 vhost_blk_range_bytes(const struct vhost_blk_req *req);
void vhost_blk_range_start(struct vhost_blk_req *req, struct iov_iter *out);

/* zone.c */
u32 vhost_blk_zone_max_append(const struct vhost_blk_backend *backend);
u8 vhost_blk_zone_check(const struct vhost_blk_req *req, bool write);
void vhost_blk_zone_explain(struct vhost_blk_req *req);
int vhost_blk_zone_report(struct vhost_blk_req *req, struct iov_iter *in);
void vhost_blk_zone_mgmt(struct vhost_blk_req *req, enum req_op op);
int vhost_blk_zone_append(struct vhost_blk_req *req, struct iov_iter *out,
			  struct iov_iter *in);
void vhost_blk_zone_append_end(struct vhost_blk_req *req, bool ours);

/* backend.c */
const struct cred *
vhost_blk_backend_become(const struct vhost_blk_backend *backend);
void vhost_blk_backend_unbecome(const struct cred *cred);
struct vhost_blk_backend *vhost_blk_backend_open(int fd);
void vhost_blk_backend_close(struct vhost_blk_backend *backend);
long vhost_blk_backend_limits(void __user *argp);
long vhost_blk_backend_set(struct vhost_blk *blk, void __user *argp);
int vhost_blk_backend_quiesce(struct vhost_blk *blk);
void vhost_blk_backend_hold(struct vhost_blk *blk, bool hold);
void vhost_blk_backend_stop_all(struct vhost_blk *blk);
bool vhost_blk_backend_active(struct vhost_blk *blk);

/* event.c */
void vhost_blk_event_signal(struct vhost_blk *blk);
long vhost_blk_event_set(struct vhost_blk *blk, void __user *argp);
void vhost_blk_event_clear(struct vhost_blk *blk);

/* iotlb.c */
void vhost_blk_iotlb_park(struct vhost_blk_vq *ring);
void vhost_blk_iotlb_moved(struct vhost_blk *blk);
bool vhost_blk_iotlb_ready(struct vhost_blk_vq *ring);
bool vhost_blk_iotlb_wake(struct vhost_blk_vq *ring);
void vhost_blk_iotlb_forget(struct vhost_blk_vq *ring);
int vhost_blk_iotlb_set(struct vhost_blk *blk, bool on);
ssize_t vhost_blk_iotlb_read(struct kiocb *iocb, struct iov_iter *to);
ssize_t vhost_blk_iotlb_write(struct kiocb *iocb, struct iov_iter *from);
__poll_t vhost_blk_iotlb_poll(struct file *file, poll_table *wait);
long vhost_blk_iotlb_get_format(u64 __user *argp);
long vhost_blk_iotlb_set_format(struct vhost_blk *blk, u64 __user *argp);

/* stats.c */
long vhost_blk_stats_get(struct vhost_blk *blk, void __user *argp);
void vhost_blk_stats_show(struct seq_file *m, struct file *file);

#endif /* _VHOST_BLK_H */
