// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: module, character device, ioctls.
 */
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "vhost_blk.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/*
 * What the guest may negotiate: ring features that vhost core handles, and
 * those of virtio-blk that this module serves or that live in the
 * configuration space alone.
 */
#define VHOST_BLK_FEATURES (				\
	BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) |		\
	BIT_ULL(VIRTIO_F_ANY_LAYOUT) |			\
	BIT_ULL(VIRTIO_F_VERSION_1) |			\
	BIT_ULL(VIRTIO_F_ACCESS_PLATFORM) |		\
	BIT_ULL(VIRTIO_F_RING_RESET) |			\
	BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |		\
	BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |		\
	BIT_ULL(VIRTIO_BLK_F_SIZE_MAX) |		\
	BIT_ULL(VIRTIO_BLK_F_SEG_MAX) |			\
	BIT_ULL(VIRTIO_BLK_F_GEOMETRY) |		\
	BIT_ULL(VIRTIO_BLK_F_RO) |			\
	BIT_ULL(VIRTIO_BLK_F_BLK_SIZE) |		\
	BIT_ULL(VIRTIO_BLK_F_FLUSH) |			\
	BIT_ULL(VIRTIO_BLK_F_TOPOLOGY) |		\
	BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE) |		\
	BIT_ULL(VIRTIO_BLK_F_MQ) |			\
	BIT_ULL(VIRTIO_BLK_F_DISCARD) |			\
	BIT_ULL(VIRTIO_BLK_F_WRITE_ZEROES) |		\
	BIT_ULL(VIRTIO_BLK_F_SECURE_ERASE) |		\
	BIT_ULL(VIRTIO_BLK_F_ZONED))

#define VHOST_BLK_CONFIG_FLAGS	(VHOST_BLK_CONFIG_WRITEBACK |	\
				 VHOST_BLK_CONFIG_IGNORE_DISCARD)

struct workqueue_struct *vhost_blk_drain_wq;

static void vhost_blk_free(struct vhost_blk *blk)
{
	int i;

	if (blk->wq)
		destroy_workqueue(blk->wq);
	for (i = 0; i < VHOST_BLK_MAX_RINGS; i++)
		kvfree(blk->rings[i]);
	kvfree(blk);
}

static int vhost_blk_alloc_parts(struct vhost_blk *blk)
{
	struct vhost_blk_vq *ring;
	int i;

	/* One of its own: another device's slow disk shall not be in the way. */
	blk->wq = alloc_workqueue("vhost-blk", WQ_UNBOUND, 0);
	if (!blk->wq)
		return -ENOMEM;
	for (i = 0; i < VHOST_BLK_MAX_RINGS; i++) {
		ring = kvzalloc_obj(*ring, GFP_KERNEL_ACCOUNT);
		if (!ring)
			return -ENOMEM;
		ring->blk = blk;
		ring->index = i;
		ring->batch = VHOST_BLK_BATCH;
		ring->config.flags = VHOST_BLK_CONFIG_WRITEBACK;
		init_llist_head(&ring->done);
		vhost_blk_iopoll_init(ring);
		INIT_WORK(&ring->drain_work, vhost_blk_ring_drain_work);
		init_waitqueue_head(&ring->drained);
		vhost_blk_poll_init(ring);
		ring->vq.handle_kick = vhost_blk_poll_kick;
		blk->rings[i] = ring;
		blk->vqs[i] = &ring->vq;
	}
	return 0;
}

static int vhost_blk_open(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk;
	int ret;

	blk = kvzalloc_obj(*blk, GFP_KERNEL_ACCOUNT);
	if (!blk)
		return -ENOMEM;
	ret = vhost_blk_alloc_parts(blk);
	if (ret) {
		vhost_blk_free(blk);
		return ret;
	}
	/* No limit for vectors: vhost's own tables of them are not used here. */
	vhost_dev_init(&blk->dev, blk->vqs, VHOST_BLK_MAX_RINGS, 0, 0, 0, true,
		       NULL);
	file->private_data = blk;
	return 0;
}

/*
 * Nothing is in flight when this returns. No owner is asked for: the last
 * reference may be dropped by any process, or by none.
 */
static void vhost_blk_shutdown(struct vhost_blk *blk)
{
	int i;

	WRITE_ONCE(blk->dying, true);
	vhost_blk_backend_stop_all(blk);
	vhost_blk_event_clear(blk);
	vhost_blk_pin_drop(blk);
	vhost_dev_stop(&blk->dev);
	for (i = 0; i < blk->dev.nvqs; i++)
		vhost_blk_nap_stop(&blk->rings[i]->own);
	/* end_io may still be about to queue work on a worker. */
	synchronize_rcu();
	vhost_dev_flush(&blk->dev);
	for (i = 0; i < blk->dev.nvqs; i++)
		flush_work(&blk->rings[i]->drain_work);
	vhost_blk_share_close(blk);
	WRITE_ONCE(blk->dying, false);
}

static int vhost_blk_release(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = file->private_data;

	mutex_lock(&blk->dev.mutex);
	vhost_blk_shutdown(blk);
	mutex_unlock(&blk->dev.mutex);
	vhost_dev_cleanup(&blk->dev);
	vhost_blk_free(blk);
	return 0;
}

/*
 * Before there has been any owner the rings are as they were allocated, and
 * nobody looks at them: those that are not wanted can just go.
 */
static long vhost_blk_set_rings(struct vhost_blk *blk, u32 __user *argp)
{
	u32 nr;

	if (get_user(nr, argp))
		return -EFAULT;
	if (blk->settled)
		return -EBUSY;
	if (!nr || nr > blk->dev.nvqs)
		return -EINVAL;
	while (blk->dev.nvqs > nr) {
		blk->dev.nvqs--;
		blk->vqs[blk->dev.nvqs] = NULL;
		kvfree(blk->rings[blk->dev.nvqs]);
		blk->rings[blk->dev.nvqs] = NULL;
	}
	return 0;
}

static long vhost_blk_set_owner(struct vhost_blk *blk)
{
	long ret;

	if (vhost_dev_has_owner(&blk->dev))
		return -EBUSY;
	ret = vhost_blk_share_open(blk);
	if (ret)
		return ret;
	ret = vhost_dev_set_owner(&blk->dev);
	if (ret) {
		vhost_blk_share_close(blk);
		return ret;
	}
	blk->owner = task_tgid_nr(current);
	/* Pairs with vhost_blk_stats_show(). */
	smp_store_release(&blk->settled, true);
	vhost_blk_poll_unpark(blk);
	return 0;
}

static long vhost_blk_reset_owner(struct vhost_blk *blk)
{
	struct vhost_iotlb *umem;
	long ret;

	ret = vhost_dev_check_owner(&blk->dev);
	if (ret)
		return ret;
	umem = vhost_dev_reset_owner_prepare();
	if (!umem)
		return -ENOMEM;
	vhost_blk_shutdown(blk);
	vhost_dev_reset_owner(&blk->dev, umem);
	return 0;
}

static long vhost_blk_set_features(struct vhost_blk *blk, u64 __user *argp)
{
	struct vhost_virtqueue *vq;
	u64 features;
	int i, ret;

	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~VHOST_BLK_FEATURES)
		return -EOPNOTSUPP;
	if (vhost_blk_backend_active(blk))
		return -EBUSY;
	ret = vhost_blk_iotlb_set(blk, features &
				  BIT_ULL(VIRTIO_F_ACCESS_PLATFORM));
	if (ret)
		return ret;
	for (i = 0; i < blk->dev.nvqs; i++) {
		vq = blk->vqs[i];
		mutex_lock(&vq->mutex);
		vq->acked_features = features;
		mutex_unlock(&vq->mutex);
	}
	return 0;
}

static long vhost_blk_set_config(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_config config;
	struct vhost_blk_vq *ring;
	int i;

	if (copy_from_user(&config, argp, sizeof(config)))
		return -EFAULT;
	if (config.flags & ~VHOST_BLK_CONFIG_FLAGS || config.reserved ||
	    memchr_inv(config.reserved2, 0, sizeof(config.reserved2)))
		return -EINVAL;
	for (i = 0; i < blk->dev.nvqs; i++) {
		ring = blk->rings[i];
		mutex_lock(&ring->vq.mutex);
		ring->config = config;
		mutex_unlock(&ring->vq.mutex);
	}
	return 0;
}

/*
 * vhost core accepts rings of up to 32768 entries, and any time. Its structure is
 * read again by the core; vhost_blk_backend_set() and the poll loop look at what is
 * in use.
 */
static long vhost_blk_check_ring_size(struct vhost_vring_state __user *argp)
{
	struct vhost_vring_state state;

	if (copy_from_user(&state, argp, sizeof(state)))
		return -EFAULT;
	return state.num > VHOST_BLK_MAX_RING_SIZE ? -EINVAL : 0;
}

static long vhost_blk_check_busyloop(struct vhost_vring_state __user *argp)
{
	struct vhost_vring_state state;

	if (copy_from_user(&state, argp, sizeof(state)))
		return -EFAULT;
	return state.num > VHOST_BLK_MAX_POLL_US ? -EINVAL : 0;
}

/* The ioctls that vhost core knows. */
static long vhost_blk_core_ioctl(struct vhost_blk *blk, unsigned int cmd,
				 void __user *argp)
{
	long ret;

	switch (cmd) {
	case VHOST_NEW_WORKER:
	case VHOST_FREE_WORKER:
	case VHOST_ATTACH_VRING_WORKER:
	case VHOST_GET_VRING_WORKER:
		ret = vhost_dev_check_owner(&blk->dev);
		if (ret)
			return ret;
		vhost_blk_poll_park(blk);
		ret = vhost_worker_ioctl(&blk->dev, cmd, argp);
		vhost_blk_poll_unpark(blk);
		return ret;
	case VHOST_SET_MEM_TABLE:
		/* Nobody uses the old table any more when this returns. */
		vhost_blk_backend_hold(blk, true);
		ret = vhost_dev_ioctl(&blk->dev, cmd, argp);
		if (!ret)
			ret = vhost_blk_backend_quiesce(blk);
		if (!ret)
			vhost_blk_pin_drop(blk);
		vhost_blk_backend_hold(blk, false);
		return ret;
	}

	ret = vhost_dev_ioctl(&blk->dev, cmd, argp);
	if (ret != -ENOIOCTLCMD)
		return ret;
	if (cmd == VHOST_SET_VRING_NUM)
		ret = vhost_blk_check_ring_size(argp);
	else if (cmd == VHOST_SET_VRING_BUSYLOOP_TIMEOUT)
		ret = vhost_blk_check_busyloop(argp);
	else
		ret = 0;
	ret = ret ?: vhost_vring_ioctl(&blk->dev, cmd, argp);
	if (!ret && cmd == VHOST_SET_VRING_ADDR)
		vhost_blk_iotlb_moved(blk);
	return ret;
}

/* The ioctls of <linux/vhost_blk.h>, for the owner only. */
static long vhost_blk_own_ioctl(struct vhost_blk *blk, unsigned int cmd,
				void __user *argp)
{
	long ret;

	ret = vhost_dev_check_owner(&blk->dev);
	if (ret)
		return ret;

	switch (cmd) {
	case VHOST_SET_FEATURES:
		return vhost_blk_set_features(blk, argp);
	case VHOST_BLK_SET_BACKEND:
		return vhost_blk_backend_set(blk, argp);
	case VHOST_BLK_SET_EVENT:
		return vhost_blk_event_set(blk, argp);
	case VHOST_BLK_SET_CONFIG:
		return vhost_blk_set_config(blk, argp);
	case VHOST_BLK_PIN_MEMORY:
		return vhost_blk_pin_set(blk, argp);
	case VHOST_BLK_SET_POLL:
		return vhost_blk_settings_set(blk, argp);
	case VHOST_BLK_GET_POLL:
		return vhost_blk_settings_get(blk, argp);
	case VHOST_BLK_GET_WORKER:
		return vhost_blk_settings_worker(blk, argp);
	case VHOST_BLK_GET_STATS:
		return vhost_blk_stats_get(blk, argp);
	}
	return -ENOIOCTLCMD;
}

static long vhost_blk_locked_ioctl(struct vhost_blk *blk, unsigned int cmd,
				   void __user *argp)
{
	switch (cmd) {
	case VHOST_BLK_SET_RINGS:
		return vhost_blk_set_rings(blk, argp);
	case VHOST_SET_OWNER:
		return vhost_blk_set_owner(blk);
	case VHOST_RESET_OWNER:
		return vhost_blk_reset_owner(blk);
	case VHOST_SET_FEATURES:
	case VHOST_BLK_SET_BACKEND:
	case VHOST_BLK_SET_EVENT:
	case VHOST_BLK_SET_CONFIG:
	case VHOST_BLK_PIN_MEMORY:
	case VHOST_BLK_SET_POLL:
	case VHOST_BLK_GET_POLL:
	case VHOST_BLK_GET_WORKER:
	case VHOST_BLK_GET_STATS:
		return vhost_blk_own_ioctl(blk, cmd, argp);
	default:
		return vhost_blk_core_ioctl(blk, cmd, argp);
	}
}

static long vhost_blk_ioctl(struct file *file, unsigned int cmd,
			    unsigned long arg)
{
	struct vhost_blk *blk = file->private_data;
	void __user *argp = (void __user *)arg;
	u64 features = VHOST_BLK_FEATURES;
	long ret;

	switch (cmd) {
	case VHOST_GET_FEATURES:
		return copy_to_user(argp, &features, sizeof(features)) ?
			-EFAULT : 0;
	case VHOST_BLK_GET_LIMITS:
		return vhost_blk_backend_limits(argp);
	case VHOST_GET_BACKEND_FEATURES:
		return vhost_blk_iotlb_get_format(argp);
	case VHOST_SET_BACKEND_FEATURES:
		return vhost_blk_iotlb_set_format(blk, argp);
	}

	if (mutex_lock_killable(&blk->dev.mutex))
		return -EINTR;
	ret = vhost_blk_locked_ioctl(blk, cmd, argp);
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

static const struct file_operations vhost_blk_fops = {
	.owner		= THIS_MODULE,
	.open		= vhost_blk_open,
	.release	= vhost_blk_release,
	.read_iter	= vhost_blk_iotlb_read,
	.write_iter	= vhost_blk_iotlb_write,
	.poll		= vhost_blk_iotlb_poll,
	.unlocked_ioctl	= vhost_blk_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.show_fdinfo	= vhost_blk_stats_show,
	.llseek		= noop_llseek,
};

static struct miscdevice vhost_blk_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "vhost-blk",
	.fops	= &vhost_blk_fops,
};

static int __init vhost_blk_init(void)
{
	int ret;

	vhost_blk_drain_wq = alloc_workqueue("vhost-blk-drain",
					     WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!vhost_blk_drain_wq)
		return -ENOMEM;
	ret = vhost_blk_map_init();
	if (ret)
		goto err_wq;
	ret = misc_register(&vhost_blk_misc);
	if (ret)
		goto err_map;
	return 0;

err_map:
	vhost_blk_map_exit();
err_wq:
	destroy_workqueue(vhost_blk_drain_wq);
	return ret;
}
module_init(vhost_blk_init);

static void __exit vhost_blk_exit(void)
{
	misc_deregister(&vhost_blk_misc);
	vhost_blk_map_exit();
	destroy_workqueue(vhost_blk_drain_wq);
}
module_exit(vhost_blk_exit);

MODULE_DESCRIPTION("In-kernel virtio-blk back end");
MODULE_LICENSE("GPL");
