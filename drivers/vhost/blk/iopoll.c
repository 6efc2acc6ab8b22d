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
	if (!delayed_work_pending(&ring->iopoll_work))
		queue_delayed_work(vhost_blk_drain_wq, &ring->iopoll_work,
				   VHOST_BLK_IOPOLL_LOOK);
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
	if (!vhost_blk_iopoll_wanted(req->ring))
		return;
	req->bio.bi_opf |= REQ_POLLED | REQ_NOWAIT | REQ_NOMERGE;
	/* The cookie of an earlier bio is gone. Pairs with list_empty_careful(). */
	smp_wmb();
	list_add_tail(&req->polled, &req->ring->polled);
	vhost_blk_iopoll_look_later(req->ring);
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

/*
 * Ask the disk for a request, if it has not ended: its queue may be gone then. A
 * queue that goes is frozen before, so as long as the request has not ended, it is
 * there; and the RCU read section has as much to say about what happens right after
 * the look as it has in iocb_bio_iopoll().
 */
static bool vhost_blk_iopoll_ask(struct vhost_blk_req *req,
				 struct io_comp_batch *iob)
{
	bool ask;

	rcu_read_lock();
	ask = atomic_read(&req->pending) && !list_empty_careful(&req->polled);
	if (ask)
		bio_poll(&req->bio, iob, BLK_POLL_ONESHOT);
	rcu_read_unlock();
	return ask;
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
	list_for_each_entry(req, &ring->polled, polled)
		if (vhost_blk_iopoll_ask(req, &iob))
			break;
	if (iob.complete)
		iob.complete(&iob);
}

/* Ask for every one, as they may be in several queues. */
static void vhost_blk_iopoll_all(struct vhost_blk_vq *ring)
{
	DEFINE_IO_COMP_BATCH(iob);
	unsigned int i;

	for (i = 0; i < ring->vq.num; i++)
		vhost_blk_iopoll_ask(&ring->reqs[i], &iob);
	if (iob.complete)
		iob.complete(&iob);
}

/**
 * vhost_blk_iopoll_look - are requests that are polled for at a standstill?
 * @work:	&vhost_blk_vq.iopoll_work
 *
 * Takes no lock: whoever holds the ring's mutex may be asleep until these requests
 * have ended. The ring has a backend, so its number of slots does not change.
 */
void vhost_blk_iopoll_look(struct work_struct *work)
{
	struct vhost_blk_vq *ring = container_of(to_delayed_work(work),
						 struct vhost_blk_vq, iopoll_work);
	u64 polled = READ_ONCE(ring->stats.polled);

	if (!vhost_blk_iopoll_busy(ring))
		return;
	if (polled == ring->polled_seen)
		vhost_blk_iopoll_all(ring);
	ring->polled_seen = polled;
	vhost_blk_iopoll_look_later(ring);
}
