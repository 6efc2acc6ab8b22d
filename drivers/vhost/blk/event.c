// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: tells user space that something about a disk wants its attention.
 */
#include <linux/eventfd.h>

#include "vhost_blk.h"

/**
 * vhost_blk_event_signal - signal the event eventfd, if there is one
 * @blk:	the device
 *
 * Context: any.
 */
void vhost_blk_event_signal(struct vhost_blk *blk)
{
	struct eventfd_ctx *ctx;

	rcu_read_lock();
	ctx = rcu_dereference(blk->event);
	if (ctx)
		eventfd_signal(ctx);
	rcu_read_unlock();
}

static void vhost_blk_event_replace(struct vhost_blk *blk,
				    struct eventfd_ctx *ctx)
{
	ctx = rcu_replace_pointer(blk->event, ctx,
				  lockdep_is_held(&blk->dev.mutex));
	if (!ctx)
		return;
	synchronize_rcu();
	eventfd_ctx_put(ctx);
}

/**
 * vhost_blk_event_set - VHOST_BLK_SET_EVENT
 * @blk:	the device
 * @argp:	int: an eventfd, or -1
 *
 * Context: process, &vhost_dev.mutex held.
 * Return: 0, -EFAULT, -EBADF, or -EINVAL for a file that is no eventfd.
 */
long vhost_blk_event_set(struct vhost_blk *blk, void __user *argp)
{
	struct eventfd_ctx *ctx = NULL;
	int fd;

	if (get_user(fd, (int __user *)argp))
		return -EFAULT;
	if (fd != VHOST_FILE_UNBIND)
		ctx = eventfd_ctx_fdget(fd);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	vhost_blk_event_replace(blk, ctx);
	return 0;
}

/**
 * vhost_blk_event_clear - forget the eventfd
 * @blk:	the device
 *
 * Context: process, &vhost_dev.mutex held.
 */
void vhost_blk_event_clear(struct vhost_blk *blk)
{
	vhost_blk_event_replace(blk, NULL);
}
