/*
 * vhost-blk: who serves the rings
 *
 * Who serves is decided in one place, vhost_blk_serve_bh(). Whatever may change
 * the answer goes through these states:
 *
 *         drained_begin, logging starts           BH
 *   KERNEL ---------------------------> NONE ----------> KERNEL or QEMU
 *     QEMU ---------------------------> NONE
 *             drained_begin
 *
 * Nothing is in flight in state NONE, so the rings can change hands there:
 * their indices are in VirtQueue, and a kick waits in the host notifier.
 *
 * Waiting for the kernel to let go means waiting for the requests that are on
 * their way to the disk. A disk that needs this very process to complete them
 * (say, an nbd device connected to an export of the same QEMU) would never do
 * so; serve such a disk from another process.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

#include "exec/address-spaces.h"
#include "hw/virtio/virtio-access.h"
#include "hw/virtio/virtio-bus.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "trace.h"
#include "vhost-blk-internal.h"

static const char *const vhost_blk_server_name[] = {
    [VHOST_BLK_SERVER_NONE] = "none",
    [VHOST_BLK_SERVER_QEMU] = "qemu",
    [VHOST_BLK_SERVER_KERNEL] = "kernel",
};

const char *vhost_blk_name(VHostBlk *v)
{
    BusState *bus = qdev_get_parent_bus(DEVICE(v));
    DeviceState *dev = bus && bus->parent ? bus->parent : DEVICE(v);

    return dev->id ? dev->id : object_get_typename(OBJECT(dev));
}

const char *vhost_blk_server_str(VHostBlkServer server)
{
    return vhost_blk_server_name[server];
}

/* Note who serves from now on and, unless it is the kernel, why not it. */
static void vhost_blk_set_server(VHostBlk *v, VHostBlkServer server,
                                 const char *reason)
{
    trace_vhost_blk_served_by(vhost_blk_name(v), vhost_blk_server_name[server],
                              reason ? reason : "");
    v->server = server;
    g_free(v->reason);
    v->reason = g_strdup(reason);
}

void vhost_blk_announce(VHostBlk *v, const char *reason)
{
    if (g_strcmp0(v->announced, reason)) {
        info_report("vhost-blk: '%s' is served by %s%s%s", vhost_blk_name(v),
                    reason ? "QEMU: " : "the kernel", reason ? reason : "",
                    reason ? "" : " again");
        g_free(v->announced);
        v->announced = g_strdup(reason);
    }
}

/*
 * Why QEMU has to serve for the time being, though the drive is fit: these pass
 * by themselves, so they are none of fallback's business.
 */
static char *vhost_blk_not_now(VHostBlk *v)
{
    VirtIOBlock *s = VIRTIO_BLK(v);

    if (!(VIRTIO_DEVICE(v)->status & VIRTIO_CONFIG_S_DRIVER_OK)) {
        return g_strdup("the guest's driver is still starting");
    }
    if (v->dev.log_enabled && !(v->dev.features & (1ULL << VHOST_F_LOG_ALL))) {
        return g_strdup("guest memory is being tracked for migration, which "
                        "the kernel cannot do");
    }
    WITH_QEMU_LOCK_GUARD(&s->rq_lock) {
        if (s->rq) {
            return g_strdup("failed requests wait to be tried again");
        }
    }
    return NULL;
}

/* What the guest negotiated and the kernel lacks. */
static char *vhost_blk_lacks(VHostBlk *v)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    uint64_t lacking = vdev->guest_features & ~v->dev.features;

    /* See vhost_blk_offer(). */
    virtio_clear_feature(&lacking, VIRTIO_BLK_F_SCSI);
    if (!virtio_bus_device_iommu_enabled(vdev)) {
        /* Without an IOMMU this bit changes nothing. */
        virtio_clear_feature(&lacking, VIRTIO_F_IOMMU_PLATFORM);
    }
    if (virtio_host_has_feature(vdev, VIRTIO_BLK_F_ZONED) &&
        !virtio_vdev_has_feature(vdev, VIRTIO_BLK_F_ZONED)) {
        return g_strdup("the guest knows nothing of the disk's zones");
    }
    if (!lacking) {
        return NULL;
    }
    return g_strdup_printf("the guest uses %s, which the kernel lacks "
                           "(features 0x%" PRIx64 ")",
                           virtio_has_feature(lacking, VIRTIO_BLK_F_DISCARD) ?
                           "discard" :
                           virtio_has_feature(lacking,
                                              VIRTIO_BLK_F_WRITE_ZEROES) ?
                           "write-zeroes" :
                           virtio_has_feature(lacking, VIRTIO_F_RING_PACKED) ?
                           "packed rings" : "a feature", lacking);
}

char *vhost_blk_unfit(VHostBlk *v, int vhostfd, int *fd)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    struct vhost_blk_limits limits;
    char *reason = NULL;

    *fd = vhost_blk_drive_fd(s->conf.conf.blk, vhostfd, &limits, &reason);
    if (*fd < 0) {
        return reason;
    }
    if (limits.logical_block > s->conf.conf.logical_block_size) {
        return g_strdup_printf("logical_block_size=%" PRIu32 " is smaller than "
                               "the disk's %" PRIu32,
                               s->conf.conf.logical_block_size,
                               limits.logical_block);
    }
    return vhost_blk_drive_claimed(s);
}

/*
 * virtio-blk is started, and its drive not drained: someone should serve.
 * Nobody may touch the rings while another thread waits for the drain to end.
 */
static bool vhost_blk_wanted(VHostBlk *v)
{
    VirtIOBlock *s = VIRTIO_BLK(v);

    return s->ioeventfd_started && !s->ioeventfd_stopping &&
           !blk_in_drain(s->blk) && !VIRTIO_DEVICE(v)->broken;
}

/*
 * Why the kernel should not serve now.
 * @fd: the disk, when the answer is NULL
 * @passing: whether the reason goes away by itself
 */
static char *vhost_blk_objection(VHostBlk *v, int *fd, bool *passing)
{
    char *reason;

    *passing = false;
    reason = vhost_blk_unfit(v, (uintptr_t)v->dev.opaque, fd);
    if (!reason) {
        reason = vhost_blk_lacks(v);
    }
    if (!reason) {
        reason = vhost_blk_not_now(v);
        *passing = reason;
    }
    return reason;
}

void vhost_blk_break(VHostBlk *v, const char *reason)
{
    vhost_blk_kernel_stop(v);
    vhost_blk_set_server(v, VHOST_BLK_SERVER_NONE, reason);
    virtio_error(VIRTIO_DEVICE(v), "vhost-blk: '%s': %s; the device stands "
                 "still until the guest resets it", vhost_blk_name(v), reason);
}

/* Nobody serves, as the user wants it. */
static void vhost_blk_stand_still(VHostBlk *v, const char *reason)
{
    vhost_blk_set_server(v, VHOST_BLK_SERVER_NONE, reason);
    virtio_error(VIRTIO_DEVICE(v), "vhost-blk: the kernel cannot serve "
                 "'%s' and fallback=off forbids QEMU to: %s; the device "
                 "stands still until the guest resets it",
                 vhost_blk_name(v), reason);
}

/* The rings do not go to the kernel, or come back from it. */
static void vhost_blk_fall_back(VHostBlk *v, const char *reason, bool passing)
{
    VHostBlkClass *vbc = VHOST_BLK_GET_CLASS(v);
    VirtIOBlock *s = VIRTIO_BLK(v);

    if (v->server == VHOST_BLK_SERVER_KERNEL) {
        vhost_blk_kernel_stop(v);
    }
    if (!passing && !v->fallback) {
        if (v->server == VHOST_BLK_SERVER_QEMU) {
            vbc->parent_ioeventfd_detach(s);
        }
        vhost_blk_stand_still(v, reason);
        return;
    }
    if (v->server != VHOST_BLK_SERVER_QEMU) {
        vbc->parent_ioeventfd_attach(s);
    }
    vhost_blk_set_server(v, VHOST_BLK_SERVER_QEMU, reason);
    if (!passing) {
        vhost_blk_announce(v, reason);
    }
}

/* Decide who serves. */
static void vhost_blk_serve_bh(void *opaque)
{
    VHostBlk *v = opaque;
    g_autofree char *reason = NULL;
    bool passing;
    int fd;

    if (v->switching || !vhost_blk_wanted(v)) {
        return;
    }
    reason = vhost_blk_objection(v, &fd, &passing);
    if (!reason && v->server != VHOST_BLK_SERVER_KERNEL) {
        /* Wait for what QEMU has in flight; anything may happen meanwhile. */
        v->switching = true;
        blk_drain(VIRTIO_BLK(v)->blk);
        v->switching = false;
        if (!vhost_blk_wanted(v)) {
            return;
        }
        reason = vhost_blk_objection(v, &fd, &passing);
        if (!reason) {
            reason = vhost_blk_kernel_start(v, fd);
        }
        if (!reason) {
            vhost_blk_set_server(v, VHOST_BLK_SERVER_KERNEL, NULL);
            vhost_blk_announce(v, NULL);
        }
    }
    if (reason) {
        vhost_blk_fall_back(v, reason, passing);
    }
}

/* virtio-blk wants its rings served: it is started, or a drain has ended. */
static void vhost_blk_ioeventfd_attach(VirtIOBlock *s)
{
    VHostBlk *v = VHOST_BLK(s);

    /*
     * Not here: a drained section may end while the graph is still being
     * changed, and this may be a vCPU.
     */
    if (!v->switching) {
        qemu_bh_schedule(v->bh);
    }
}

/* The drive is about to be drained: nobody may take another request. */
static void vhost_blk_ioeventfd_detach(VirtIOBlock *s)
{
    VHostBlk *v = VHOST_BLK(s);

    switch (v->server) {
    case VHOST_BLK_SERVER_KERNEL:
        vhost_blk_kernel_stop(v);
        break;
    case VHOST_BLK_SERVER_QEMU:
        VHOST_BLK_GET_CLASS(v)->parent_ioeventfd_detach(s);
        break;
    case VHOST_BLK_SERVER_NONE:
        return;
    }
    vhost_blk_set_server(v, VHOST_BLK_SERVER_NONE, "the drive is drained");
}

static int vhost_blk_start_ioeventfd(VirtIODevice *vdev)
{
    VHostBlk *v = VHOST_BLK(vdev);
    int ret;

    ret = VHOST_BLK_GET_CLASS(v)->parent_start_ioeventfd(vdev);
    if (ret < 0 && !v->fallback) {
        vhost_blk_stand_still(v, "the notifiers cannot be set up");
    } else if (ret < 0) {
        vhost_blk_set_server(v, VHOST_BLK_SERVER_QEMU,
                             "the notifiers cannot be set up");
        vhost_blk_announce(v, v->reason);
    }
    return ret;
}

static void vhost_blk_stop_ioeventfd(VirtIODevice *vdev)
{
    VHostBlk *v = VHOST_BLK(vdev);
    unsigned int i;

    if (v->server == VHOST_BLK_SERVER_KERNEL) {
        vhost_blk_kernel_stop(v);
        /*
         * The kernel does not reset the notifiers when it is kicked. Do it, or
         * virtio-blk serves what it finds in the rings while it stops.
         */
        for (i = 0; i < v->dev.nvqs; i++) {
            event_notifier_test_and_clear(
                virtio_queue_get_host_notifier(virtio_get_queue(vdev, i)));
        }
    }
    qemu_bh_cancel(v->bh);
    VHOST_BLK_GET_CLASS(v)->parent_stop_ioeventfd(vdev);
    vhost_blk_set_server(v, VHOST_BLK_SERVER_NONE, "the device is stopped");
}

static void vhost_blk_set_status(VirtIODevice *vdev, uint8_t status)
{
    VHostBlk *v = VHOST_BLK(vdev);

    VHOST_BLK_GET_CLASS(v)->parent_set_status(vdev, status);
    if (!(status & VIRTIO_CONFIG_S_DRIVER_OK)) {
        return;
    }
    if (!virtio_device_ioeventfd_enabled(vdev)) {
        vhost_blk_set_server(v, VHOST_BLK_SERVER_QEMU, "ioeventfd=off");
    } else if (VIRTIO_BLK(v)->ioeventfd_started) {
        /* It was started by an early kick. */
        qemu_bh_schedule(v->bh);
    }
}

/* The guest resets one ring (VIRTIO_F_RING_RESET); the others go on. */
static void vhost_blk_queue_reset(VirtIODevice *vdev, uint32_t i)
{
    VHostBlk *v = VHOST_BLK(vdev);

    if (v->server == VHOST_BLK_SERVER_KERNEL) {
        vhost_blk_kernel_stop_one(v, i);
    } else if (v->server == VHOST_BLK_SERVER_QEMU) {
        /* Nothing that came from the ring may go back to it later. */
        blk_drain(VIRTIO_BLK(v)->blk);
    }
}

/* The guest has set up a ring; if it runs already, it is one that was reset. */
static void vhost_blk_queue_enable(VirtIODevice *vdev, uint32_t i)
{
    VHostBlk *v = VHOST_BLK(vdev);
    g_autofree char *reason = NULL;
    bool passing;
    int fd;

    if (v->server != VHOST_BLK_SERVER_KERNEL) {
        return;
    }
    reason = vhost_blk_objection(v, &fd, &passing);
    if (reason || vhost_blk_kernel_start_one(v, i, fd) < 0) {
        /* Not by itself: hand over all the rings anew, to whom it may be. */
        vhost_blk_kernel_stop(v);
        vhost_blk_set_server(v, VHOST_BLK_SERVER_NONE,
                             "a ring was set up while the device runs");
        qemu_bh_schedule(v->bh);
    }
}

static void vhost_blk_set_config(VirtIODevice *vdev, const uint8_t *config)
{
    VHostBlk *v = VHOST_BLK(vdev);
    int ret;

    VHOST_BLK_GET_CLASS(v)->parent_set_config(vdev, config);
    if (v->server == VHOST_BLK_SERVER_KERNEL) {
        ret = vhost_blk_kernel_configure(v);
        if (ret < 0) {
            virtio_error(vdev, "vhost-blk: cannot switch the write cache of "
                         "'%s': %s", vhost_blk_name(v), strerror(-ret));
        }
    }
}

/*
 * The pages that the guest's memory changes in are wanted from now on, for
 * migration or to measure the rate. This comes before vhost's own listener is
 * told, which has nothing to do for a device that is stopped. Context: BQL, any
 * thread.
 */
static bool vhost_blk_log_global_start(MemoryListener *listener, Error **errp)
{
    VHostBlk *v = container_of(listener, VHostBlk, listener);

    if (v->server == VHOST_BLK_SERVER_KERNEL &&
        !(v->dev.features & (1ULL << VHOST_F_LOG_ALL))) {
        vhost_blk_kernel_stop(v);
        vhost_blk_set_server(v, VHOST_BLK_SERVER_NONE,
                             "guest memory is being tracked for migration");
        qemu_bh_schedule(v->bh);
    }
    return true;
}

static void vhost_blk_log_global_stop(MemoryListener *listener)
{
    VHostBlk *v = container_of(listener, VHostBlk, listener);

    qemu_bh_schedule(v->bh);
}

void vhost_blk_serve_init(VHostBlk *v)
{
    v->bh = qemu_bh_new_guarded(vhost_blk_serve_bh, v,
                                &DEVICE(v)->mem_reentrancy_guard);
    vhost_blk_set_server(v, VHOST_BLK_SERVER_NONE,
                         "no driver has used the device yet");
}

void vhost_blk_serve_listen(VHostBlk *v)
{
    v->listener = (MemoryListener) {
        .name = "vhost-blk",
        .log_global_start = vhost_blk_log_global_start,
        .log_global_stop = vhost_blk_log_global_stop,
        .priority = MEMORY_LISTENER_PRIORITY_MIN,
    };
    memory_listener_register(&v->listener, &address_space_memory);
}

void vhost_blk_serve_class_init(VHostBlkClass *vbc)
{
    VirtIOBlkClass *pbc = &vbc->parent_class;
    VirtioDeviceClass *vdc = &pbc->parent;

    vbc->parent_set_config = vdc->set_config;
    vdc->set_config = vhost_blk_set_config;
    vdc->queue_reset = vhost_blk_queue_reset;
    vdc->queue_enable = vhost_blk_queue_enable;
    vdc->toggle_device_iotlb = vhost_toggle_device_iotlb;
    vbc->parent_set_status = vdc->set_status;
    vdc->set_status = vhost_blk_set_status;
    vbc->parent_start_ioeventfd = vdc->start_ioeventfd;
    vdc->start_ioeventfd = vhost_blk_start_ioeventfd;
    vbc->parent_stop_ioeventfd = vdc->stop_ioeventfd;
    vdc->stop_ioeventfd = vhost_blk_stop_ioeventfd;
    vbc->parent_ioeventfd_attach = pbc->ioeventfd_attach;
    pbc->ioeventfd_attach = vhost_blk_ioeventfd_attach;
    vbc->parent_ioeventfd_detach = pbc->ioeventfd_detach;
    pbc->ioeventfd_detach = vhost_blk_ioeventfd_detach;
}
