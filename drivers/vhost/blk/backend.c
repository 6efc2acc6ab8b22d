// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: start and stop of rings, and waiting for what is in flight.
 */
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "vhost_blk.h"

static int vhost_blk_backend_init(struct vhost_blk_backend *backend)
{
	umode_t mode = file_inode(backend->file)->i_mode;

	if (S_ISBLK(mode))
		return vhost_blk_bdev_open(backend);
	if (S_ISREG(mode))
		return vhost_blk_file_open(backend);
	return -ENOTBLK;
}

/**
 * vhost_blk_backend_open - make a backend of a file descriptor
 * @fd:		open on a block device or a regular file, for reading at least
 *
 * Context: process.
 * Return: the backend, which holds its own reference to the file, or -EBADF
 * (not open, or not for reading), -ENOTBLK (neither block device nor regular
 * file), -ENOMEM, or as vhost_blk_bdev_open() and vhost_blk_file_open().
 */
struct vhost_blk_backend *vhost_blk_backend_open(int fd)
{
	struct vhost_blk_backend *backend;
	struct file *file;
	int ret;

	file = fget(fd);
	if (!file)
		return ERR_PTR(-EBADF);
	backend = kzalloc_obj(*backend, GFP_KERNEL_ACCOUNT);
	ret = -ENOMEM;
	if (!backend)
		goto err_file;
	backend->file = file;
	backend->writable = file->f_mode & FMODE_WRITE;
	ret = vhost_blk_backend_init(backend);
	if (!ret && !(file->f_mode & FMODE_READ))
		ret = -EBADF;
	if (ret)
		goto err_backend;
	backend->css = vhost_blk_css_get();
	return backend;

err_backend:
	kfree(backend);
err_file:
	fput(file);
	return ERR_PTR(ret);
}

/**
 * vhost_blk_backend_close - undo vhost_blk_backend_open()
 * @backend:	nothing is in flight on it
 */
void vhost_blk_backend_close(struct vhost_blk_backend *backend)
{
	vhost_blk_css_put(backend->css);
	fput(backend->file);
	kfree(backend);
}

/**
 * vhost_blk_backend_become - work on behalf of whoever gave us the backend
 * @backend:	its file's credentials decide about quotas and reserved blocks,
 *		its cgroup is charged
 *
 * Context: a workqueue.
 * Return: for vhost_blk_backend_unbecome().
 */
const struct cred *
vhost_blk_backend_become(const struct vhost_blk_backend *backend)
{
	kthread_associate_blkcg(backend->css);
	return override_creds(backend->file->f_cred);
}

/**
 * vhost_blk_backend_unbecome - undo vhost_blk_backend_become()
 * @cred:	what that returned
 *
 * The backend may be gone by now.
 */
void vhost_blk_backend_unbecome(const struct cred *cred)
{
	revert_creds(cred);
	kthread_associate_blkcg(NULL);
}

/**
 * vhost_blk_backend_limits - VHOST_BLK_GET_LIMITS
 * @argp:	struct vhost_blk_limits
 *
 * Context: process; no owner is needed.
 * Return: 0, -EFAULT, -EINVAL, or as vhost_blk_backend_open().
 */
long vhost_blk_backend_limits(void __user *argp)
{
	struct vhost_blk_backend *backend;
	struct vhost_blk_limits limits;
	int fd;

	if (copy_from_user(&limits, argp, sizeof(limits)))
		return -EFAULT;
	if (memchr_inv(limits.reserved, 0, sizeof(limits.reserved)))
		return -EINVAL;
	fd = limits.fd;
	backend = vhost_blk_backend_open(fd);
	if (IS_ERR(backend))
		return PTR_ERR(backend);

	memset(&limits, 0, sizeof(limits));
	limits.fd = fd;
	if (!backend->writable || backend->ops->read_only(backend))
		limits.flags |= VHOST_BLK_LIMIT_READ_ONLY;
	limits.capacity = backend->ops->capacity(backend);
	limits.logical_block = backend->block_mask + 1;
	limits.dma_alignment = backend->dma_mask;
	limits.max_segments = backend->max_segs;
	backend->ops->limits(backend, &limits);
	vhost_blk_backend_close(backend);
	return copy_to_user(argp, &limits, sizeof(limits)) ? -EFAULT : 0;
}

static void vhost_blk_backend_free_reqs(struct vhost_blk_vq *ring)
{
	kvfree(ring->reqs);
	ring->reqs = NULL;
	kvfree(ring->heads);
	ring->heads = NULL;
}

static int vhost_blk_backend_alloc_reqs(struct vhost_blk_vq *ring)
{
	unsigned int i, num = ring->vq.num;

	ring->reqs = kvcalloc(num, sizeof(*ring->reqs), GFP_KERNEL_ACCOUNT);
	ring->heads = kvcalloc(num, sizeof(*ring->heads), GFP_KERNEL_ACCOUNT);
	if (!ring->reqs || !ring->heads) {
		vhost_blk_backend_free_reqs(ring);
		return -ENOMEM;
	}
	for (i = 0; i < num; i++) {
		ring->reqs[i].ring = ring;
		ring->reqs[i].head = i;
		INIT_LIST_HEAD(&ring->reqs[i].polled);
	}
	return 0;
}

/*
 * vhost core touches the used index alone before the ring runs. Find out now,
 * and not from the poll loop, whether the rest is there.
 */
static bool vhost_blk_backend_ring_mapped(const struct vhost_virtqueue *vq)
{
	size_t desc = vq->num * sizeof(*vq->desc);
	size_t avail = struct_size(vq->avail, ring, vq->num);
	size_t used = struct_size(vq->used, ring, vq->num);

	return !fault_in_readable((char __user *)vq->desc, desc) &&
	       !fault_in_readable((char __user *)vq->avail, avail) &&
	       !fault_in_safe_writeable((char __user *)vq->used, used);
}

static int vhost_blk_backend_check_ring(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;

	if (vq->num > VHOST_BLK_MAX_RING_SIZE)
		return -EINVAL;
	/* Not our addresses; one of them may be 0. Misses come later. */
	if (vq->iotlb)
		return (vq->desc || vq->avail || vq->used) &&
		       vhost_vq_access_ok(vq) ? 0 : -EFAULT;
	if (!vhost_vq_is_setup(vq) || !vhost_blk_backend_ring_mapped(vq))
		return -EFAULT;
	return 0;
}

/* Make the ring take requests. */
static int vhost_blk_backend_go(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;
	int ret;

	mutex_lock(&vq->mutex);
	ring->broken = false;
	ring->full = false;
	ring->miss = false;
	ring->avail = NULL;
	vhost_blk_signal_init(ring);
	ring->capacity = ring->backend->ops->capacity(ring->backend);
	vhost_vq_set_backend(vq, ring->backend);
	ret = vhost_vq_init_access(vq);
	if (!ret && vq->kick)
		ret = vhost_poll_start(&vq->poll, vq->kick);
	if (ret)
		vhost_vq_set_backend(vq, NULL);
	mutex_unlock(&vq->mutex);
	return ret;
}

static int vhost_blk_backend_start(struct vhost_blk_vq *ring, int fd)
{
	int ret;

	if (ring->backend)
		return -EBUSY;
	ret = vhost_blk_backend_check_ring(ring);
	if (ret)
		return ret;
	ring->backend = vhost_blk_backend_open(fd);
	if (IS_ERR(ring->backend)) {
		ret = PTR_ERR(ring->backend);
		goto err_backend;
	}
	/* VIRTIO 1.3, 5.2.5.2: no use to a driver that does not know of zones. */
	ret = -EOPNOTSUPP;
	if (vhost_blk_zoned(ring->backend) &&
	    !vhost_has_feature(&ring->vq, VIRTIO_BLK_F_ZONED))
		goto err_reqs;
	ret = vhost_blk_backend_alloc_reqs(ring);
	if (ret)
		goto err_reqs;
	/* A reader may have had a question of its last time in its hands. */
	vhost_blk_iotlb_forget(ring);
	ret = vhost_blk_backend_go(ring);
	if (ret)
		goto err_go;
	vhost_blk_poll_add(ring);
	return 0;

err_go:
	vhost_blk_iotlb_forget(ring);
	vhost_blk_backend_free_reqs(ring);
err_reqs:
	vhost_blk_backend_close(ring->backend);
err_backend:
	ring->backend = NULL;
	return ret;
}

/* Nothing is taken from the ring while it is held. */
static void vhost_blk_backend_hold_ring(struct vhost_blk_vq *ring, bool hold)
{
	mutex_lock(&ring->vq.mutex);
	WRITE_ONCE(ring->hold, hold);
	mutex_unlock(&ring->vq.mutex);
	if (!hold && ring->backend)
		vhost_blk_poll_add(ring);
}

/* Let vhost core take the ring for idle. What is in flight goes on. */
static void vhost_blk_backend_detach(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;

	mutex_lock(&vq->mutex);
	vhost_vq_set_backend(vq, NULL);
	if (vq->kick)
		vhost_poll_stop(&vq->poll);
	mutex_unlock(&vq->mutex);
}

/*
 * Nothing is in flight: undo vhost_blk_backend_start(). Whoever takes the ring
 * next needs the guest's notifications, so they are left on, if that can be told
 * to the guest.
 */
static void vhost_blk_backend_finish(struct vhost_blk_vq *ring)
{
	struct vhost_virtqueue *vq = &ring->vq;

	vhost_blk_poll_remove(ring);
	vhost_blk_iopoll_stop(ring);
	mutex_lock(&vq->mutex);
	if (current->mm == ring->blk->dev.mm && vhost_blk_iotlb_ready(ring)) {
		vhost_blk_signal_flush(ring);
		vhost_enable_notify(&ring->blk->dev, vq);
	}
	WARN_ON_ONCE(ring->table_vecs || ring->bounce_bytes);
	ring->nr_used = 0;
	ring->miss = false;
	vhost_blk_backend_free_reqs(ring);
	vhost_blk_backend_close(ring->backend);
	ring->backend = NULL;
	mutex_unlock(&vq->mutex);
	ring->blk->late = true;
	vhost_blk_iotlb_forget(ring);
}

static int vhost_blk_backend_drain(struct vhost_blk_vq *ring)
{
	return wait_event_killable(ring->drained, !READ_ONCE(ring->inflight)) ?
		-EINTR : 0;
}

/*
 * vhost core checks new ring addresses only while the ring has a backend, so it
 * keeps that until nothing is in flight which could be written there: if the
 * wait is interrupted, the ring goes on as if nobody had asked. So it does if the
 * guest cannot be told of all that is complete, unless @abandon says that this
 * does not matter.
 */
static int vhost_blk_backend_stop(struct vhost_blk_vq *ring, bool abandon)
{
	int ret;

	if (!ring->backend)
		return 0;
	vhost_blk_backend_hold_ring(ring, true);
	ret = vhost_blk_backend_drain(ring);
	if (!ret && !abandon)
		ret = vhost_blk_ring_settle(ring);
	if (!ret) {
		vhost_blk_backend_detach(ring);
		vhost_blk_backend_finish(ring);
	}
	vhost_blk_backend_hold_ring(ring, false);
	return ret;
}

/**
 * vhost_blk_backend_set - VHOST_BLK_SET_BACKEND
 * @blk:	the device
 * @argp:	struct vhost_vring_file
 *
 * Context: process, &vhost_dev.mutex held.
 * Return: 0; -EFAULT (@argp, or the ring is not set up or not mapped),
 * -ENOBUFS (no such ring), -EBUSY (it has a backend), -EINVAL (the ring is too
 * large), -EINTR (killed while draining), -EAGAIN (as vhost_blk_ring_settle()),
 * -EOPNOTSUPP (a zoned disk, and VIRTIO_BLK_F_ZONED is not negotiated), -ENOMEM,
 * or as vhost_blk_backend_open().
 */
long vhost_blk_backend_set(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_vring_file arg;
	struct vhost_blk_vq *ring;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (arg.index >= blk->dev.nvqs)
		return -ENOBUFS;
	ring = blk->rings[array_index_nospec(arg.index, blk->dev.nvqs)];
	if (arg.fd == VHOST_FILE_UNBIND || arg.fd == VHOST_BLK_ABANDON)
		return vhost_blk_backend_stop(ring,
					      arg.fd == VHOST_BLK_ABANDON);
	return vhost_blk_backend_start(ring, arg.fd);
}

/**
 * vhost_blk_backend_hold - fetch nothing for a while, or go on
 * @blk:	the device
 * @hold:	which
 *
 * Context: process, &vhost_dev.mutex held.
 */
void vhost_blk_backend_hold(struct vhost_blk *blk, bool hold)
{
	struct vhost_blk_vq *ring;
	int i;

	for (i = 0; i < blk->dev.nvqs; i++) {
		ring = blk->rings[i];
		if (ring->backend)
			vhost_blk_backend_hold_ring(ring, hold);
	}
}

/**
 * vhost_blk_backend_quiesce - wait until no ring has anything in flight
 * @blk:	the device, held by vhost_blk_backend_hold()
 *
 * Context: process, &vhost_dev.mutex held.
 * Return: 0 or -EINTR if killed.
 */
int vhost_blk_backend_quiesce(struct vhost_blk *blk)
{
	int i, ret = 0;

	for (i = 0; i < blk->dev.nvqs && !ret; i++)
		ret = vhost_blk_backend_drain(blk->rings[i]);
	return ret;
}

/**
 * vhost_blk_backend_active - does any ring have a backend?
 * @blk:	the device
 *
 * Context: process, &vhost_dev.mutex held.
 */
bool vhost_blk_backend_active(struct vhost_blk *blk)
{
	int i;

	for (i = 0; i < blk->dev.nvqs; i++)
		if (blk->rings[i]->backend)
			return true;
	return false;
}

/**
 * vhost_blk_backend_stop_all - stop every ring, whatever it takes
 * @blk:	the device
 *
 * Does not depend on a worker, nor on an owner. Context: process,
 * &vhost_dev.mutex held; sleeps until the last bio has ended.
 */
void vhost_blk_backend_stop_all(struct vhost_blk *blk)
{
	struct vhost_blk_vq *ring;
	int i;

	for (i = 0; i < blk->dev.nvqs; i++)
		if (blk->rings[i]->backend)
			vhost_blk_backend_detach(blk->rings[i]);
	for (i = 0; i < blk->dev.nvqs; i++) {
		ring = blk->rings[i];
		if (!ring->backend)
			continue;
		wait_event(ring->drained, !READ_ONCE(ring->inflight));
		vhost_blk_backend_finish(ring);
	}
}
