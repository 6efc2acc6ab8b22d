/*
 * vhost-blk: lend the rings to the kernel, and take them back
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

#include <sys/ioctl.h>

#include "block/block_int.h"
#include "qemu/error-report.h"
#include "system/block-backend.h"
#include "trace.h"
#include "vhost-blk-internal.h"

static int vhost_blk_fd(VHostBlk *v)
{
    return (uintptr_t)v->dev.opaque;
}

int vhost_blk_kernel_configure(VHostBlk *v)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    /* One range in a request, as virtio_blk_update_config() says. */
    struct vhost_blk_config config = {
        .max_discard_sectors = s->conf.max_discard_sectors,
        .max_discard_seg = 1,
        .max_write_zeroes_sectors = s->conf.max_write_zeroes_sectors,
        .max_write_zeroes_seg = 1,
    };

    if (blk_enable_write_cache(s->blk)) {
        config.flags |= VHOST_BLK_CONFIG_WRITEBACK;
    }
    if (!(blk_bs(s->blk)->open_flags & BDRV_O_UNMAP)) {
        /* discard=ignore: the guest is offered what nobody carries out. */
        config.flags |= VHOST_BLK_CONFIG_IGNORE_DISCARD;
    }
    if (s->conf.serial) {
        memcpy(config.id, s->conf.serial,
               MIN(strlen(s->conf.serial), sizeof(config.id)));
    }
    return ioctl(vhost_blk_fd(v), VHOST_BLK_SET_CONFIG, &config) < 0 ?
           -errno : 0;
}

/*
 * Give ring @i the disk behind @fd; -1 stops it, with nothing in flight, and so
 * does VHOST_BLK_ABANDON.
 */
static int vhost_blk_set_backend(VHostBlk *v, unsigned int i, int fd)
{
    struct vhost_vring_file file = { .index = i, .fd = fd };

    return RETRY_ON_EINTR(ioctl(vhost_blk_fd(v), VHOST_BLK_SET_BACKEND,
                                &file)) < 0 ? -errno : 0;
}

static bool vhost_blk_ring_set_up(VHostBlk *v, unsigned int i)
{
    return virtio_queue_get_desc_addr(VIRTIO_DEVICE(v), i) != 0;
}

/*
 * Tell the kernel the translations that it waits for, as the main loop does.
 * Returns: how many there were.
 */
static unsigned int vhost_blk_answer(VHostBlk *v)
{
    bool v2 = v->dev.backend_cap & (1ULL << VHOST_BACKEND_F_IOTLB_MSG_V2);
    unsigned int n = 0;
    union {
        struct vhost_msg v1;
        struct vhost_msg_v2 v2;
    } msg;
    size_t size = v2 ? sizeof(msg.v2) : sizeof(msg.v1);

    while (read(vhost_blk_fd(v), &msg, size) == size) {
        n += !vhost_backend_handle_iotlb_msg(&v->dev, v2 ? &msg.v2.iotlb :
                                                           &msg.v1.iotlb);
    }
    return n;
}

/*
 * Take ring @i back. The kernel may have to tell the guest of requests that are
 * complete, through a ring that it has no translation for, and whoever translates
 * waits for us.
 */
static void vhost_blk_kernel_stop_ring(VHostBlk *v, unsigned int i)
{
    int ret;

    do {
        ret = vhost_blk_set_backend(v, i, VHOST_FILE_UNBIND);
    } while (ret == -EAGAIN && vhost_blk_answer(v));

    if (ret == -EAGAIN) {
        warn_report("vhost-blk: ring %u of '%s' is stopped without telling the "
                    "guest of all requests: its IOMMU does not let the device "
                    "access the ring", i, vhost_blk_name(v));
        ret = vhost_blk_set_backend(v, i, VHOST_BLK_ABANDON);
    }
    if (ret < 0) {
        error_report("vhost-blk: cannot stop ring %u of '%s': %s", i,
                     vhost_blk_name(v), strerror(-ret));
    }
}

/* Take the first @n rings back. */
static void vhost_blk_kernel_stop_rings(VHostBlk *v, unsigned int n)
{
    unsigned int i;

    for (i = 0; i < n; i++) {
        if (vhost_blk_ring_set_up(v, i)) {
            vhost_blk_kernel_stop_ring(v, i);
        }
    }
    vhost_dev_stop(&v->dev, VIRTIO_DEVICE(v), false);
    v->dev.nvqs = VIRTIO_BLK(v)->conf.num_queues;
    vhost_blk_events_forget(v);
}

/*
 * The rings up to the last that the guest has set up. vhost wants a translation
 * of each when it starts, so leave the others out.
 */
static unsigned int vhost_blk_rings_in_use(VHostBlk *v)
{
    unsigned int n = VIRTIO_BLK(v)->conf.num_queues;

    while (n && !vhost_blk_ring_set_up(v, n - 1)) {
        n--;
    }
    return n;
}

void vhost_blk_kernel_stop(VHostBlk *v)
{
    vhost_blk_kernel_stop_rings(v, v->dev.nvqs);
    vhost_blk_drive_was_written(VIRTIO_BLK(v)->blk);
    trace_vhost_blk_kernel_stop(vhost_blk_name(v));
}

char *vhost_blk_kernel_start(VHostBlk *v, int fd)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    unsigned int i;
    int ret;

    v->dev.nvqs = vhost_blk_rings_in_use(v);
    v->dev.acked_features = vdev->guest_features & v->dev.features;
    ret = vhost_blk_kernel_configure(v);
    if (ret < 0) {
        v->dev.nvqs = VIRTIO_BLK(v)->conf.num_queues;
        return g_strdup_printf("the kernel refuses the configuration: %s",
                               strerror(-ret));
    }
    ret = vhost_dev_start(&v->dev, vdev, false);
    if (ret < 0) {
        v->dev.nvqs = VIRTIO_BLK(v)->conf.num_queues;
        return g_strdup_printf("the kernel refuses the rings: %s",
                               strerror(-ret));
    }
    for (i = 0; i < v->dev.nvqs; i++) {
        ret = vhost_blk_ring_set_up(v, i) ? vhost_blk_set_backend(v, i, fd) : 0;
        if (ret < 0) {
            vhost_blk_kernel_stop_rings(v, i);
            return g_strdup_printf("the kernel refuses ring %u: %s", i,
                                   strerror(-ret));
        }
    }
    /* A request may have come while nobody looked. */
    for (i = 0; i < v->dev.nvqs; i++) {
        event_notifier_set(
            virtio_queue_get_host_notifier(virtio_get_queue(vdev, i)));
    }
    /* The kernel reports what changes from now on. Look at what did before. */
    event_notifier_set(&v->event);
    trace_vhost_blk_kernel_start(vhost_blk_name(v), fd);
    return NULL;
}

void vhost_blk_kernel_stop_one(VHostBlk *v, unsigned int i)
{
    if (!vhost_blk_ring_set_up(v, i)) {
        return;
    }
    vhost_blk_kernel_stop_ring(v, i);
    vhost_virtqueue_stop(&v->dev, VIRTIO_DEVICE(v), &v->dev.vqs[i], i);
    /* Whatever it did wrong is over. */
    event_notifier_test_and_clear(&v->vqs[i].error_notifier);
}

int vhost_blk_kernel_start_one(VHostBlk *v, unsigned int i, int fd)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    int ret;

    if (i >= v->dev.nvqs) {
        return -EINVAL;
    }
    ret = vhost_virtqueue_start(&v->dev, vdev, &v->dev.vqs[i], i);
    if (!ret && vhost_dev_has_iommu(&v->dev)) {
        ret = vhost_device_iotlb_miss(&v->dev, v->dev.vqs[i].used_phys, true);
    }
    if (!ret) {
        ret = vhost_blk_set_backend(v, i, fd);
    }
    if (!ret) {
        event_notifier_set(
            virtio_queue_get_host_notifier(virtio_get_queue(vdev, i)));
    }
    return ret;
}
