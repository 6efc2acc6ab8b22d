// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: completions that are asked for, on disks with polled queues.
 *
 * While the poller of a ring spins, the ring's small reads and writes are
 * submitted to a polled queue of the disk, which raises no interrupt. The poller
 * asks for their completion, and does not sleep before there is none left.
 *
 * Nobody else asks, so nothing that the poller does may wait for one of them:
 * they carry REQ_NOWAIT, and only disks are polled whose polled queues do not
 * share their tags with the others. What cannot be done that way comes back, and
 * is submitted again as an ordinary request.
 */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>

#include "vhost_blk.h"

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

/**
 * vhost_blk_iopoll_add - have a request polled for, if it can be
 * @req:	a read or write of a single bio, about to be submitted
 *
 * Merged bios could not be found by the one that asks, thus REQ_NOMERGE.
 * Context: the ring's mutex held.
 * Return: flags for its bio.
 */
blk_opf_t vhost_blk_iopoll_add(struct vhost_blk_req *req)
{
	if (!vhost_blk_iopoll_wanted(req->ring))
		return 0;
	list_add_tail(&req->polled, &req->ring->polled);
	return REQ_POLLED | REQ_NOWAIT | REQ_NOMERGE;
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

/**
 * vhost_blk_iopoll_ring - ask the disk for completions
 * @ring:	the ring
 *
 * By the oldest one that is outstanding: all that its queue has completed end,
 * whoever they belong to. One that has ended but is still on the list must not
 * be asked for, as its queue may be gone.
 * Context: process, the ring's mutex held; ends bios.
 */
void vhost_blk_iopoll_ring(struct vhost_blk_vq *ring)
{
	DEFINE_IO_COMP_BATCH(iob);
	struct vhost_blk_req *req;

	lockdep_assert_held(&ring->vq.mutex);
	list_for_each_entry(req, &ring->polled, polled) {
		if (!atomic_read(&req->pending))
			continue;
		bio_poll(&req->bio, &iob, BLK_POLL_ONESHOT);
		break;
	}
	if (iob.complete)
		iob.complete(&iob);
}
