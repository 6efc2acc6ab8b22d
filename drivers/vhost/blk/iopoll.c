// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: completions that are asked for, on disks with polled queues.
 *
 * While the poller of a ring spins, the ring's small reads and writes are
 * submitted to a polled queue of the disk, which raises no interrupt. The poller
 * asks for their completion, and does not sleep before there is none left.
 *
 * Nobody else asks, so the poller should not wait for one of them: they carry
 * REQ_NOWAIT, and only disks are polled whose polled queues do not share their
 * tags with the others. What cannot be done that way comes back, and is submitted
 * again as an ordinary request.
 *
 * But that, a flush or a large request sleeps while the disk's queue is frozen,
 * which ends when all requests have; and the poller may sleep for other reasons, as
 * for a page of the guest. So somebody looks now and then whether requests that are
 * polled for have come to a standstill, and asks for them in its place.
 */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>

#include "vhost_blk.h"

/* How often to look for a standstill, in jiffies. */
#define VHOST_BLK_IOPOLL_LOOK	(HZ / 20)

/*
 * Do polled queues have tags of their own? The tag set goes with the disk, which
 * may have been removed while it is still open. del_gendisk() passes through
 * this mutex before anything is freed.
 */
static bool vhost_blk_iopoll_own_tags(struct gendisk *disk)
{
	bool own;

	mutex_lock(&disk->open_mutex);
	own = disk_live(disk) &&
	      !(disk->queue->tag_set->flags & BLK_MQ_F_TAG_HCTX_SHARED);
	mutex_unlock(&disk->open_mutex);
	return own;
}

/**
 * vhost_blk_iopoll_capable - could this disk be polled, had it polled queues?
 * @bdev:	the disk
 *
 * Whether it has them may change at any time. Not a zoned one: what comes back and
 * is submitted again would be out of order.
 */
bool vhost_blk_iopoll_capable(struct block_device *bdev)
{
	struct request_queue *q = bdev_get_queue(bdev);

	return queue_is_mq(q) && bdev_nowait(bdev) && !bdev_is_zoned(bdev) &&
	       vhost_blk_iopoll_own_tags(bdev->bd_disk);
}

static bool vhost_blk_iopoll_wanted(const struct vhost_blk_vq *ring)
{
	const struct vhost_blk_backend *backend = ring->backend;

	return backend->iopoll &&
	       !(ring->poll_flags & VHOST_BLK_POLL_NO_IOPOLL) &&
	       bdev_get_queue(backend->bdev)->limits.features & BLK_FEAT_POLL;
}

static void vhost_blk_iopoll_look_later(struct vhost_blk_vq *ring)
{
	/* Pairs with vhost_blk_iopoll_look(). */
	smp_mb();
	if (!timer_pending(&ring->iopoll_timer))
		mod_timer(&ring->iopoll_timer, jiffies + VHOST_BLK_IOPOLL_LOOK);
}

/**
 * vhost_blk_iopoll_add - have a request polled for, if it can be
 * @req:	a read or write whose only bio is about to be submitted
 *
 * Merged bios could not be found by the one that asks, thus REQ_NOMERGE.
 * Context: the ring's mutex held.
 */
void vhost_blk_iopoll_add(struct vhost_blk_req *req)
{
	struct vhost_blk_vq *ring = req->ring;
	bool first = list_empty(&ring->polled);

	if (!vhost_blk_iopoll_wanted(ring))
		return;
	req->bio.bi_opf |= REQ_POLLED | REQ_NOWAIT | REQ_NOMERGE;
	/* No cookie of an earlier bio. Pairs with vhost_blk_iopoll_ask(). */
	smp_wmb();
	list_add_tail(&req->polled, &ring->polled);
	/* Not before: one that runs at this moment may have found nothing. */
	if (first)
		vhost_blk_iopoll_look_later(ring);
}

/**
 * vhost_blk_iopoll_refused - could a bio not be done this way?
 * @bio:	that has ended
 *
 * No tag was left, or it would have to be split, or the disk has lost its polled
 * queues; if that happens while a request is on its way to one, nvme_queue_rq() fails
 * it like any error. The block layer may have taken REQ_POLLED away.
 * Context: any.
 */
bool vhost_blk_iopoll_refused(const struct bio *bio)
{
	return bio->bi_opf & REQ_NOWAIT &&
	       (bio->bi_status == BLK_STS_AGAIN ||
		bio->bi_status == BLK_STS_NOTSUPP ||
		bio->bi_status == BLK_STS_IOERR);
}

static struct percpu_ref *vhost_blk_iopoll_usage(const struct vhost_blk_vq *ring)
{
	return &bdev_get_queue(ring->backend->bdev)->q_usage_counter;
}

/*
 * Ask the disk for a request, if it has not ended: then it holds a reference to the
 * disk's queue, so that does not change, and the caller's keeps it as it is.
 */
static bool vhost_blk_iopoll_ask(struct vhost_blk_req *req,
				 struct io_comp_batch *iob)
{
	/* In this order: its list tells of the bio that is there now, or an older one. */
	if (!atomic_read_acquire(&req->pending) || list_empty(&req->polled))
		return false;
	/* Pairs with smp_wmb() in vhost_blk_iopoll_add(). */
	smp_rmb();
	bio_poll(&req->bio, iob, BLK_POLL_ONESHOT);
	return true;
}

/**
 * vhost_blk_iopoll_ring - ask the disk for completions
 * @ring:	the ring
 *
 * By the oldest one that is outstanding: all that its queue has completed end,
 * whoever they belong to.
 * Context: process, the ring's mutex held; ends bios.
 */
void vhost_blk_iopoll_ring(struct vhost_blk_vq *ring)
{
	DEFINE_IO_COMP_BATCH(iob);
	struct vhost_blk_req *req;

	lockdep_assert_held(&ring->vq.mutex);
	/* Those that have ended and wait to be completed are the first on the list. */
	if (!vhost_blk_iopoll_busy(ring) || ring->todo ||
	    !percpu_ref_tryget(vhost_blk_iopoll_usage(ring)))
		return;
	list_for_each_entry(req, &ring->polled, polled)
		if (vhost_blk_iopoll_ask(req, &iob))
			break;
	if (iob.complete)
		iob.complete(&iob);
	percpu_ref_put(vhost_blk_iopoll_usage(ring));
}

/*
 * Ask for every one, as they may be in several queues. Takes no lock: whoever holds the
 * ring's mutex may be asleep until these requests have ended. The ring has a backend,
 * so its number of slots does not change.
 */
static void vhost_blk_iopoll_all(struct work_struct *work)
{
	struct vhost_blk_vq *ring = container_of(work, struct vhost_blk_vq,
						 iopoll_work);
	DEFINE_IO_COMP_BATCH(iob);
	unsigned int i;

	if (!percpu_ref_tryget(vhost_blk_iopoll_usage(ring)))
		return;
	for (i = 0; i < ring->vq.num; i++)
		vhost_blk_iopoll_ask(&ring->reqs[i], &iob);
	if (iob.complete)
		iob.complete(&iob);
	percpu_ref_put(vhost_blk_iopoll_usage(ring));
}

/* Are requests that are polled for at a standstill? */
static void vhost_blk_iopoll_look(struct timer_list *timer)
{
	struct vhost_blk_vq *ring = container_of(timer, struct vhost_blk_vq,
						 iopoll_timer);
	u64 polled = READ_ONCE(ring->stats.polled);

	/* Pairs with vhost_blk_iopoll_look_later(). */
	smp_mb();
	if (!vhost_blk_iopoll_busy(ring))
		return;
	if (polled == ring->polled_seen)
		queue_work(vhost_blk_drain_wq, &ring->iopoll_work);
	ring->polled_seen = polled;
	vhost_blk_iopoll_look_later(ring);
}

/**
 * vhost_blk_iopoll_init - prepare a ring's looks at what is polled for
 * @ring:	being made; nobody else knows it
 */
void vhost_blk_iopoll_init(struct vhost_blk_vq *ring)
{
	INIT_LIST_HEAD(&ring->polled);
	timer_setup(&ring->iopoll_timer, vhost_blk_iopoll_look, 0);
	INIT_WORK(&ring->iopoll_work, vhost_blk_iopoll_all);
}

/**
 * vhost_blk_iopoll_stop - look no more
 * @ring:	nothing is in flight, and nobody starts anything
 *
 * Context: process.
 */
void vhost_blk_iopoll_stop(struct vhost_blk_vq *ring)
{
	/* In this order: the timer queues the work, which does not start the timer. */
	timer_delete_sync(&ring->iopoll_timer);
	cancel_work_sync(&ring->iopoll_work);
}
