/*
 * vhost-blk: what the kernel reports while it serves
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

#include <sys/ioctl.h>

#include "qemu/error-report.h"
#include "system/block-backend.h"
#include "trace.h"
#include "vhost-blk-internal.h"

static int vhost_blk_events_connect(VHostBlk *v, int fd)
{
    return ioctl((uintptr_t)v->dev.opaque, VHOST_BLK_SET_EVENT, &fd) < 0 ?
           -errno : 0;
}

/*
 * The capacity has changed, or a request has failed. A new length is looked at
 * once: what cannot be taken over shall not be tried for ever.
 */
static void vhost_blk_disk_event(EventNotifier *n)
{
    VHostBlk *v = container_of(n, VHostBlk, event);
    BlockBackend *blk = VIRTIO_BLK(v)->conf.conf.blk;
    int64_t length;
    int ret;

    if (!event_notifier_test_and_clear(n) ||
        v->server != VHOST_BLK_SERVER_KERNEL) {
        return;
    }
    if (!vhost_blk_drive_resized(blk, (uintptr_t)v->dev.opaque, &length) ||
        length == v->followed) {
        return;
    }
    v->followed = length;
    trace_vhost_blk_resized(vhost_blk_name(v), blk_getlength(blk), length);
    ret = vhost_blk_drive_follow(blk);
    if (ret < 0) {
        error_report("vhost-blk: cannot take over the new size of '%s': %s",
                     vhost_blk_name(v), strerror(-ret));
    } else {
        v->followed = -1;
    }
}

/* The guest's driver has done with a ring what a driver must not. */
static void vhost_blk_ring_event(EventNotifier *n)
{
    struct vhost_virtqueue *vq = container_of(n, struct vhost_virtqueue,
                                              error_notifier);
    VHostBlk *v = container_of(vq->dev, VHostBlk, dev);
    g_autofree char *reason = NULL;

    if (event_notifier_test_and_clear(n) &&
        v->server == VHOST_BLK_SERVER_KERNEL) {
        reason = g_strdup_printf("the guest's driver has violated ring %td",
                                 vq - v->vqs);
        vhost_blk_break(v, reason);
    }
}

void vhost_blk_events_forget(VHostBlk *v)
{
    unsigned int i;

    for (i = 0; i < v->dev.nvqs; i++) {
        event_notifier_test_and_clear(&v->vqs[i].error_notifier);
    }
}

int vhost_blk_events_init(VHostBlk *v)
{
    unsigned int i;
    int ret;

    v->followed = -1;
    ret = event_notifier_init(&v->event, 0);
    if (ret < 0) {
        return ret;
    }
    ret = vhost_blk_events_connect(v, event_notifier_get_fd(&v->event));
    if (ret < 0) {
        event_notifier_cleanup(&v->event);
        return ret;
    }
    event_notifier_set_handler(&v->event, vhost_blk_disk_event);
    /* vhost_dev_init() has set them up, and vhost_dev_cleanup() ends them. */
    for (i = 0; i < v->dev.nvqs; i++) {
        event_notifier_set_handler(&v->vqs[i].error_notifier,
                                   vhost_blk_ring_event);
    }
    return 0;
}

void vhost_blk_events_cleanup(VHostBlk *v)
{
    vhost_blk_events_connect(v, -1);
    event_notifier_set_handler(&v->event, NULL);
    event_notifier_cleanup(&v->event);
}
