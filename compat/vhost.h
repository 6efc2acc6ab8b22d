/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Brings an older vhost core up to the newest one's interface. Out of tree,
 * the "../vhost.h" of drivers/vhost/blk is the kernel's own vhost.h followed
 * by this file.
 */
#ifndef _VHOST_BLK_COMPAT_VHOST_H
#define _VHOST_BLK_COMPAT_VHOST_H

#include <linux/blkdev.h>
#include <linux/bug.h>
#include <linux/hrtimer.h>

/*
 * Batches of used buffers for VIRTIO_F_IN_ORDER: @nheads says how many each
 * entry of @heads stands for. A core without them completes one by one, so
 * only NULL makes sense.
 */
#ifndef COMPAT_HAVE_VHOST_NHEADS
static inline int compat_vhost_add_used_n(struct vhost_virtqueue *vq,
					  struct vring_used_elem *heads,
					  u16 *nheads, unsigned int count)
{
	WARN_ON_ONCE(nheads);
	return vhost_add_used_n(vq, heads, count);
}

#define vhost_add_used_n compat_vhost_add_used_n

static inline void
compat_vhost_add_used_and_signal_n(struct vhost_dev *dev,
				   struct vhost_virtqueue *vq,
				   struct vring_used_elem *heads,
				   u16 *nheads, unsigned int count)
{
	WARN_ON_ONCE(nheads);
	vhost_add_used_and_signal_n(dev, vq, heads, count);
}

#define vhost_add_used_and_signal_n compat_vhost_add_used_and_signal_n
#endif

/* The same number of descriptors, for a core that counts them. */
#ifndef COMPAT_HAVE_VHOST_DISCARD_NDESC
static inline void compat_vhost_discard_vq_desc(struct vhost_virtqueue *vq,
						int nbuf, unsigned int ndesc)
{
	vhost_discard_vq_desc(vq, nbuf);
}

#define vhost_discard_vq_desc compat_vhost_discard_vq_desc
#endif

/*
 * The @ndesc that vhost_discard_vq_desc() wants back; nothing looks at it on a
 * core whose vhost_discard_vq_desc() has no such argument.
 */
#ifndef COMPAT_HAVE_VHOST_GET_VQ_DESC_N
static inline int vhost_get_vq_desc_n(struct vhost_virtqueue *vq,
				      struct iovec iov[], unsigned int iov_size,
				      unsigned int *out_num,
				      unsigned int *in_num,
				      struct vhost_log *log,
				      unsigned int *log_num,
				      unsigned int *ndesc)
{
	*ndesc = 0;
	return vhost_get_vq_desc(vq, iov, iov_size, out_num, in_num,
				 log, log_num);
}
#endif

/*
 * Drop the device IOTLB when VIRTIO_F_ACCESS_PLATFORM is no longer negotiated.
 * vhost_blk calls it while no ring runs.
 */
#ifndef COMPAT_HAVE_VHOST_CLEAR_DEVICE_IOTLB
static inline void vhost_clear_device_iotlb(struct vhost_dev *d)
{
	struct vhost_iotlb *iotlb = d->iotlb;
	struct vhost_virtqueue *vq;
	int i;

	for (i = 0; iotlb && i < d->nvqs; i++) {
		vq = d->vqs[i];
		mutex_lock(&vq->mutex);
		vq->iotlb = NULL;
		memset(vq->meta_iotlb, 0, sizeof(vq->meta_iotlb));
		mutex_unlock(&vq->mutex);
	}
	d->iotlb = NULL;
	vhost_clear_msg(d);
	vhost_iotlb_free(iotlb);
}
#endif

/* In two steps. */
#ifndef COMPAT_HAVE_HRTIMER_SETUP
static inline void hrtimer_setup(struct hrtimer *timer,
				 enum hrtimer_restart (*handler)(struct hrtimer *),
				 clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = handler;
}
#endif

/* The block layer kept this to itself, but not what it looks at. */
#if !defined(COMPAT_HAVE_BDEV_ZONE_IS_SEQ) && defined(CONFIG_BLK_DEV_ZONED)
static inline bool bdev_zone_is_seq(struct block_device *bdev, sector_t sector)
{
	struct gendisk *disk = bdev->bd_disk;
	const unsigned long *conv;
	bool seq;

	rcu_read_lock();
	conv = rcu_dereference(disk->conv_zones_bitmap);
	seq = !conv || !test_bit(disk_zone_no(disk, sector), conv);
	rcu_read_unlock();
	return seq && bdev_is_zoned(bdev);
}
#elif !defined(COMPAT_HAVE_BDEV_ZONE_IS_SEQ)
static inline bool bdev_zone_is_seq(struct block_device *bdev, sector_t sector)
{
	return false;
}
#endif

#endif /* _VHOST_BLK_COMPAT_VHOST_H */
