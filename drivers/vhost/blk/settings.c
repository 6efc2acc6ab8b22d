// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: how rings are polled, set and read back, and by whom.
 */
#include <linux/completion.h>
#include <linux/nospec.h>
#include <linux/pid.h>
#include <linux/string.h>

#include "vhost_blk.h"

#define VHOST_BLK_POLL_FLAGS	(VHOST_BLK_POLL_FIXED | \
				 VHOST_BLK_POLL_NO_IOPOLL)

static void vhost_blk_settings_apply(struct vhost_blk_vq *ring,
				     const struct vhost_blk_poll *poll)
{
	mutex_lock(&ring->vq.mutex);
	WRITE_ONCE(ring->vq.busyloop_timeout, poll->poll_us);
	ring->batch = poll->batch ?: VHOST_BLK_BATCH;
	WRITE_ONCE(ring->poll_flags, poll->flags);
	WRITE_ONCE(ring->signal.us, poll->signal_us);
	mutex_unlock(&ring->vq.mutex);
}

/**
 * vhost_blk_settings_set - VHOST_BLK_SET_POLL
 * @blk:	the device
 * @argp:	struct vhost_blk_poll
 *
 * Context: process, &vhost_dev.mutex held.
 * Return: 0, -EFAULT, -EINVAL, or -ENOBUFS for a ring that does not exist.
 */
long vhost_blk_settings_set(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_poll poll;
	int i;

	if (copy_from_user(&poll, argp, sizeof(poll)))
		return -EFAULT;
	if (poll.index >= blk->dev.nvqs &&
	    poll.index != VHOST_BLK_ALL_RINGS)
		return -ENOBUFS;
	if (poll.flags & ~VHOST_BLK_POLL_FLAGS || poll.poll_us > VHOST_BLK_MAX_POLL_US ||
	    poll.batch > VHOST_BLK_MAX_RING_SIZE ||
	    poll.signal_us > VHOST_BLK_MAX_SIGNAL_US ||
	    memchr_inv(poll.reserved, 0, sizeof(poll.reserved)))
		return -EINVAL;
	for (i = 0; i < blk->dev.nvqs; i++)
		if (poll.index == VHOST_BLK_ALL_RINGS || poll.index == i)
			vhost_blk_settings_apply(blk->rings[i], &poll);
	return 0;
}

/**
 * vhost_blk_settings_get - VHOST_BLK_GET_POLL
 * @blk:	the device
 * @argp:	struct vhost_blk_poll
 *
 * Context: process, &vhost_dev.mutex held.
 * Return: 0, -EFAULT, -EINVAL, or -ENOBUFS for a ring that does not exist.
 */
long vhost_blk_settings_get(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_poll poll;
	struct vhost_blk_vq *ring;

	if (copy_from_user(&poll, argp, sizeof(poll)))
		return -EFAULT;
	if (poll.index >= blk->dev.nvqs)
		return -ENOBUFS;
	if (poll.flags || memchr_inv(poll.reserved, 0, sizeof(poll.reserved)))
		return -EINVAL;
	ring = blk->rings[array_index_nospec(poll.index, blk->dev.nvqs)];
	poll.poll_us = ring->vq.busyloop_timeout;
	poll.flags = ring->poll_flags;
	poll.batch = ring->batch;
	poll.signal_us = ring->signal.us;
	return copy_to_user(argp, &poll, sizeof(poll)) ? -EFAULT : 0;
}

/* Asks a worker who it is. */
struct vhost_blk_whois {
	struct vhost_work work;
	struct completion done;
	struct pid *pid;
};

static void vhost_blk_whois_work(struct vhost_work *work)
{
	struct vhost_blk_whois *whois = container_of(work, struct vhost_blk_whois,
						     work);

	whois->pid = get_task_pid(current, PIDTYPE_PID);
	complete(&whois->done);
}

/**
 * vhost_blk_settings_worker - VHOST_BLK_GET_WORKER
 * @blk:	the device
 * @argp:	struct vhost_blk_worker
 *
 * Context: process, &vhost_dev.mutex held.
 * Return: 0, -EFAULT, -EINVAL, -ENOBUFS for a ring that does not exist, or
 * -ESRCH if the worker was killed.
 */
long vhost_blk_settings_worker(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_whois whois;
	struct vhost_blk_worker info;
	struct vhost_worker *worker;
	struct vhost_virtqueue *vq;

	if (copy_from_user(&info, argp, sizeof(info)))
		return -EFAULT;
	if (info.index >= blk->dev.nvqs)
		return -ENOBUFS;
	if (memchr_inv(info.reserved, 0, sizeof(info.reserved)))
		return -EINVAL;
	vq = blk->vqs[array_index_nospec(info.index, blk->dev.nvqs)];

	vhost_work_init(&whois.work, vhost_blk_whois_work);
	init_completion(&whois.done);
	if (!vhost_vq_work_queue(vq, &whois.work))
		return -ESRCH;
	wait_for_completion(&whois.done);
	info.tid = pid_vnr(whois.pid);
	put_pid(whois.pid);

	rcu_read_lock();
	worker = rcu_dereference(vq->worker);
	info.worker_id = worker ? worker->id : 0;
	rcu_read_unlock();
	if (!worker)
		return -ESRCH;
	return copy_to_user(argp, &info, sizeof(info)) ? -EFAULT : 0;
}
