/*
 * vhost-blk: a virtio-blk device whose rings the host kernel serves
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VIRTIO_VHOST_BLK_H
#define HW_VIRTIO_VHOST_BLK_H

#include "hw/virtio/vhost.h"
#include "hw/virtio/virtio-blk.h"
#include "qom/object.h"

#define TYPE_VHOST_BLK "vhost-blk-device"
OBJECT_DECLARE_TYPE(VHostBlk, VHostBlkClass, VHOST_BLK)

/* Who takes requests from the rings. */
typedef enum VHostBlkServer {
    VHOST_BLK_SERVER_NONE,
    VHOST_BLK_SERVER_QEMU,
    VHOST_BLK_SERVER_KERNEL,
} VHostBlkServer;

struct VHostBlkClass {
    VirtIOBlkClass parent_class;

    /* virtio-blk's own, which the overriding functions build on */
    void (*parent_realize)(DeviceState *dev, Error **errp);
    void (*parent_unrealize)(DeviceState *dev);
    uint64_t (*parent_get_features)(VirtIODevice *vdev, uint64_t features,
                                    Error **errp);
    void (*parent_reset)(VirtIODevice *vdev);
    void (*parent_set_config)(VirtIODevice *vdev, const uint8_t *config);
    void (*parent_set_status)(VirtIODevice *vdev, uint8_t status);
    int (*parent_start_ioeventfd)(VirtIODevice *vdev);
    void (*parent_stop_ioeventfd)(VirtIODevice *vdev);
    void (*parent_ioeventfd_attach)(VirtIOBlock *s);
    void (*parent_ioeventfd_detach)(VirtIOBlock *s);
};

struct VHostBlk {
    VirtIOBlock parent_obj;

    struct vhost_dev dev;
    struct vhost_virtqueue *vqs;
    MemoryListener listener;

    /* Decides who serves; runs in the main loop. */
    QEMUBH *bh;

    /* The rest is protected by the BQL. */
    VHostBlkServer server;
    char *reason;               /* why not the kernel; NULL if it serves */
    char *announced;            /* what the operator was last told of it */
    bool switching;             /* vhost_blk_serve_bh() is draining the drive */
    bool mask_features;         /* offer only what the kernel can do */
    int32_t *worker_tids;       /* one per worker */
    EventNotifier event;        /* the kernel has news of the disk */
    int64_t followed;           /* a length that could not be taken over */
    bool pin_failed;            /* the last attempt to pin guest memory */

    /* properties */
    char *vhostfd;
    char *poll_cpu;
    uint32_t poll_us;
    uint32_t signal_us;
    uint32_t batch;
    uint32_t workers;
    bool poll_adaptive;
    bool poll_completions;
    bool pin_memory;
    bool fallback;
};

#endif /* HW_VIRTIO_VHOST_BLK_H */
