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

/* Give ring @i the disk behind @fd; -1 stops it, with nothing in flight. */
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

/* Take the first @n rings back. */
static void vhost_blk_kernel_stop_rings(VHostBlk *v, unsigned int n)
{
    unsigned int i;
    int ret;

    for (i = 0; i < n; i++) {
        ret = vhost_blk_ring_set_up(v, i) ? vhost_blk_set_backend(v, i, -1) : 0;
        if (ret < 0) {
            error_report("vhost-blk: cannot stop ring %u of '%s': %s", i,
                         vhost_blk_name(v), strerror(-ret));
        }
    }
    vhost_dev_stop(&v->dev, VIRTIO_DEVICE(v), false);
    vhost_blk_events_forget(v);
}

void vhost_blk_kernel_stop(VHostBlk *v)
{
    vhost_blk_kernel_stop_rings(v, v->dev.nvqs);
    trace_vhost_blk_kernel_stop(vhost_blk_name(v));
}

char *vhost_blk_kernel_start(VHostBlk *v, int fd)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    unsigned int i;
    int ret;

    v->dev.acked_features = vdev->guest_features & v->dev.features;
    ret = vhost_blk_kernel_configure(v);
    if (ret < 0) {
        return g_strdup_printf("the kernel refuses the configuration: %s",
                               strerror(-ret));
    }
    ret = vhost_dev_start(&v->dev, vdev, false);
    if (ret < 0) {
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
