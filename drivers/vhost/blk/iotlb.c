// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: a guest behind a virtual IOMMU (VIRTIO_F_ACCESS_PLATFORM).
 *
 * Ring addresses and descriptors hold addresses of the guest's IOMMU then. vhost
 * core keeps translations, a device IOTLB. For one that it lacks it asks the VMM,
 * by a message that is read from the character device, and the answer is written
 * there. Until it comes the ring is parked: nothing is taken from it, and what
 * completes waits, its status written and its memory released, for its place on
 * the used ring.
 *
 * Translations change only while vhost core holds the mutex of every ring. So
 * whatever vhost_blk_iotlb_ready() finds mapped stays so until the ring's mutex
 * is given up, and it has to be called again after that.
 *
 * A request's buffers are translated when it is fetched. The device goes on to
 * use them until the request completes, as QEMU's own devices do.
 */
#include <linux/lockdep.h>
#include <linux/vhost_iotlb.h>

#include "trace.h"

#define VHOST_BLK_BACKEND_FEATURES	BIT_ULL(VHOST_BACKEND_F_IOTLB_MSG_V2)

static bool vhost_blk_iotlb_listed(struct list_head *list,
				   struct vhost_virtqueue *vq)
{
	struct vhost_msg_node *node;

	list_for_each_entry(node, list, node)
		if (node->vq == vq)
			return true;
	return false;
}

/* Was the VMM asked for a translation that it has not given yet? */
static bool vhost_blk_iotlb_asked(struct vhost_virtqueue *vq)
{
	struct vhost_dev *dev = vq->dev;
	bool asked;

	spin_lock(&dev->iotlb_lock);
	asked = vhost_blk_iotlb_listed(&dev->read_list, vq) ||
		vhost_blk_iotlb_listed(&dev->pending_list, vq);
	spin_unlock(&dev->iotlb_lock);
	return asked;
}

/* Is there a translation of a part of the ring that forbids @perm? */
static bool vhost_blk_iotlb_denies(struct vhost_virtqueue *vq,
				   const void __user *start, size_t len,
				   u32 perm)
{
	u64 addr = (uintptr_t)start, last = addr + len - 1;
	struct vhost_iotlb_map *map;

	while (addr <= last) {
		map = vhost_iotlb_itree_first(vq->iotlb, addr, last);
		if (!map || map->start > addr)
			return false;
		if (!(map->perm & perm))
			return true;
		if (map->last >= last)
			return false;
		addr = map->last + 1;
	}
	return false;
}

/* vhost core asks nobody where it finds a translation that does not permit. */
static bool vhost_blk_iotlb_denied(struct vhost_virtqueue *vq)
{
	size_t event = vhost_has_feature(vq, VIRTIO_RING_F_EVENT_IDX) ?
		       sizeof(__virtio16) : 0;

	return vhost_blk_iotlb_denies(vq, vq->desc,
				      vq->num * sizeof(*vq->desc),
				      VHOST_MAP_RO) ||
	       vhost_blk_iotlb_denies(vq, vq->avail,
				      struct_size(vq->avail, ring, vq->num) +
				      event, VHOST_MAP_RO) ||
	       vhost_blk_iotlb_denies(vq, vq->used,
				      struct_size(vq->used, ring, vq->num) +
				      event, VHOST_MAP_WO);
}

/**
 * vhost_blk_iotlb_park - a translation is missing: wait for it
 * @ring:	the ring
 *
 * The VMM was asked for it, unless there was no memory for the message; then the
 * ring is not parked, and tries again. Context: process, the ring's mutex held.
 */
void vhost_blk_iotlb_park(struct vhost_blk_vq *ring)
{
	lockdep_assert_held(&ring->vq.mutex);
	if (!vhost_blk_iotlb_asked(&ring->vq))
		return;
	WRITE_ONCE(ring->miss, true);
	ring->stats.iotlb_misses++;
	trace_vhost_blk_iotlb_park(ring);
}

/*
 * Where the available index is in our own address space, for a look at it
 * without the mutex. The look may be at an old place, until vhost_blk_iotlb_moved().
 */
static void __user *vhost_blk_iotlb_avail(struct vhost_virtqueue *vq)
{
	const struct vhost_iotlb_map *map = vq->meta_iotlb[VHOST_ADDR_AVAIL];

	if (!map)
		return NULL;
	return (void __user *)(uintptr_t)(map->addr + (uintptr_t)vq->avail -
					  map->start);
}

/**
 * vhost_blk_iotlb_moved - rings may lie elsewhere now: look anew
 * @blk:	the device, owned
 *
 * Context: process.
 */
void vhost_blk_iotlb_moved(struct vhost_blk *blk)
{
	int i;

	for (i = 0; i < blk->dev.nvqs; i++)
		WRITE_ONCE(blk->rings[i]->avail, NULL);
}

/**
 * vhost_blk_iotlb_ready - can all of the ring be accessed?
 * @ring:	the ring
 *
 * If not, the ring is parked, or broken if the guest forbids the access.
 * Context: process, in the guest's address space, the ring's mutex held.
 * Return: true if nothing is missing until the mutex is given up.
 */
bool vhost_blk_iotlb_ready(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;

	lockdep_assert_held(&vq->mutex);
	if (!vq->iotlb)
		return true;
	if (ring->miss && vhost_blk_iotlb_asked(vq))
		return false;
	WRITE_ONCE(ring->miss, false);
	if (vq_meta_prefetch(vq)) {
		WRITE_ONCE(ring->avail, vhost_blk_iotlb_avail(vq));
		return true;
	}
	vhost_blk_iotlb_park(ring);
	if (!ring->miss && !ring->broken && vhost_blk_iotlb_denied(vq)) {
		vq_err(vq, "the ring may not be accessed\n");
		vhost_blk_ring_break(ring);
	}
	return false;
}

/**
 * vhost_blk_iotlb_wake - perhaps the VMM has answered, or is not asked any more
 * @ring:	the ring
 *
 * vhost core wakes a ring whose message is answered as the guest does. Whoever
 * was about to park the ring meanwhile has done so when its mutex is taken here, or
 * finds that nobody is asked. Context: process.
 * Return: true if the ring was parked, and is no longer.
 */
bool vhost_blk_iotlb_wake(struct vhost_blk_vq *ring)
{
	bool woken = false;

	if (!READ_ONCE(ring->vq.iotlb))
		return false;
	mutex_lock(&ring->vq.mutex);
	if (ring->miss && !vhost_blk_iotlb_asked(&ring->vq)) {
		WRITE_ONCE(ring->miss, false);
		woken = true;
	}
	mutex_unlock(&ring->vq.mutex);
	return woken;
}

/**
 * vhost_blk_iotlb_forget - a ring has stopped: want no answers any more
 * @ring:	the ring, idle
 *
 * vhost core can only drop the messages of all rings: the others ask again.
 * Context: process, &vhost_dev.mutex held.
 */
void vhost_blk_iotlb_forget(struct vhost_blk_vq *ring)
{
	struct vhost_blk *blk = ring->blk;
	int i;

	if (!vhost_blk_iotlb_asked(&ring->vq))
		return;
	vhost_clear_msg(&blk->dev);
	for (i = 0; i < blk->dev.nvqs; i++)
		if (vhost_blk_iotlb_wake(blk->rings[i]) &&
		    blk->rings[i]->backend)
			vhost_blk_poll_add(blk->rings[i]);
}

/**
 * vhost_blk_iotlb_set - the guest is behind an IOMMU, or is not
 * @blk:	the device; no ring has a backend
 * @on:		which
 *
 * All translations are dropped. Context: process, &vhost_dev.mutex held.
 * Return: 0, -ENOMEM, or -EINVAL if vhost's parameter max_iotlb_entries allows
 * for none.
 */
int vhost_blk_iotlb_set(struct vhost_blk *blk, bool on)
{
	if (on)
		return vhost_init_device_iotlb(&blk->dev);
	/* As in vhost_blk_iotlb_write(). */
	lockdep_off();
	vhost_clear_device_iotlb(&blk->dev);
	lockdep_on();
	return 0;
}

static int vhost_blk_iotlb_check_owner(struct vhost_blk *blk)
{
	int ret;

	if (mutex_lock_killable(&blk->dev.mutex))
		return -EINTR;
	ret = vhost_dev_check_owner(&blk->dev);
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

/**
 * vhost_blk_iotlb_read - ->read_iter: what translation is missing?
 * @iocb:	of the open device
 * @to:		struct vhost_msg or struct vhost_msg_v2
 *
 * Return: the size of the message; 0 if there is no room for it, -EPERM (not the
 * owner), -EAGAIN (nothing is missing, and the file is non-blocking), -EBADFD
 * (VIRTIO_F_ACCESS_PLATFORM is not negotiated), -EINTR.
 */
ssize_t vhost_blk_iotlb_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct vhost_blk *blk = iocb->ki_filp->private_data;
	bool noblock = iocb->ki_filp->f_flags & O_NONBLOCK ||
		       iocb->ki_flags & IOCB_NOWAIT;
	int ret;

	ret = vhost_blk_iotlb_check_owner(blk);
	return ret ?: vhost_chr_read_iter(&blk->dev, to, noblock);
}

/**
 * vhost_blk_iotlb_write - ->write_iter: take a translation, or drop some
 * @iocb:	of the open device
 * @from:	struct vhost_msg or struct vhost_msg_v2
 *
 * vhost core takes the mutexes of all rings, in the order of their numbers, which
 * it also tells lockdep, as subclasses of one class. There may be 8 subclasses,
 * and 48 locks held; so lockdep must not look. &vhost_dev.mutex, held outside,
 * keeps the order safe; everybody else holds one ring's mutex at a time.
 *
 * Return: the size of the message, -EPERM (not the owner), -EINVAL (not a message
 * that vhost core knows), -EFAULT (VIRTIO_F_ACCESS_PLATFORM is not negotiated, or
 * not an address of user space), -EINTR.
 */
ssize_t vhost_blk_iotlb_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct vhost_blk *blk = iocb->ki_filp->private_data;
	ssize_t ret;

	ret = vhost_blk_iotlb_check_owner(blk);
	if (ret)
		return ret;
	lockdep_off();
	ret = vhost_chr_write_iter(&blk->dev, from);
	lockdep_on();
	vhost_blk_iotlb_moved(blk);
	return ret;
}

/**
 * vhost_blk_iotlb_poll - ->poll: readable while a translation is asked for
 * @file:	the open device
 * @wait:	where to be told
 */
__poll_t vhost_blk_iotlb_poll(struct file *file, poll_table *wait)
{
	struct vhost_blk *blk = file->private_data;

	return vhost_chr_poll(file, &blk->dev, wait);
}

/**
 * vhost_blk_iotlb_get_format - VHOST_GET_BACKEND_FEATURES
 * @argp:	u64
 *
 * Return: 0 or -EFAULT.
 */
long vhost_blk_iotlb_get_format(u64 __user *argp)
{
	return put_user(VHOST_BLK_BACKEND_FEATURES, argp);
}

/**
 * vhost_blk_iotlb_set_format - VHOST_SET_BACKEND_FEATURES
 * @blk:	the device
 * @argp:	u64
 *
 * Context: process; takes &vhost_dev.mutex.
 * Return: 0, -EFAULT, -EPERM (not the owner), -EOPNOTSUPP, -EINTR.
 */
long vhost_blk_iotlb_set_format(struct vhost_blk *blk, u64 __user *argp)
{
	u64 features;
	int ret;

	ret = vhost_blk_iotlb_check_owner(blk);
	if (ret)
		return ret;
	if (get_user(features, argp))
		return -EFAULT;
	if (features & ~VHOST_BLK_BACKEND_FEATURES)
		return -EOPNOTSUPP;
	vhost_set_backend_features(&blk->dev, features);
	return 0;
}
