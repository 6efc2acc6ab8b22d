/*
 * vhost-blk: a virtio-blk device whose rings the host kernel serves
 *
 * This is QEMU's virtio-blk in everything that the guest and a migration see.
 * Its ioeventfds and irqfds are set up as ever; but while the drive is one that
 * the kernel can serve, their descriptors are given to /dev/vhost-blk, and no
 * thread of QEMU's touches a request. At other times virtio-blk's own handlers
 * are attached to the same notifiers; vhost-blk-serve.c decides.
 *
 * Requests that the kernel serves are not seen by the block layer: they do not
 * appear in query-blockstats, and errors are reported to the guest only.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

#include <sys/ioctl.h>

#include "block/block_int.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-bus.h"
#include "migration/blocker.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "system/block-backend.h"
#include "system/kvm.h"
#include "system/qtest.h"
#include "system/runstate.h"
#include "vhost-blk-internal.h"

#define VHOST_BLK_PATH "/dev/vhost-blk"

/*
 * Do not offer what the kernel lacks if the kernel can serve the drive. A guest
 * that is about to come from another host may already use it, perhaps with
 * virtio-blk there; QEMU will serve that one until its next reset.
 */
static uint64_t vhost_blk_offer(VHostBlk *v, uint64_t features)
{
    if (!v->mask_features || runstate_check(RUN_STATE_INMIGRATE)) {
        return features;
    }
    /*
     * The bus and the transport put in these themselves. SCSI is offered to
     * legacy guests only, and means nothing: QEMU and the kernel refuse each
     * such request.
     */
    return features & (v->dev.features | 1ULL << VIRTIO_F_IOMMU_PLATFORM |
                       1ULL << VIRTIO_F_BAD_FEATURE |
                       1ULL << VIRTIO_BLK_F_SCSI);
}

static uint64_t vhost_blk_get_features(VirtIODevice *vdev, uint64_t features,
                                       Error **errp)
{
    VHostBlk *v = VHOST_BLK(vdev);

    features = VHOST_BLK_GET_CLASS(v)->parent_get_features(vdev, features,
                                                           errp);
    return vhost_blk_offer(v, features);
}

/* Whatever a guest that came from elsewhere has negotiated is over now. */
static void vhost_blk_reset(VirtIODevice *vdev)
{
    VHostBlk *v = VHOST_BLK(vdev);

    VHOST_BLK_GET_CLASS(v)->parent_reset(vdev);
    vdev->host_features = vhost_blk_offer(v, vdev->host_features);
}

static struct vhost_dev *vhost_blk_get_vhost(VirtIODevice *vdev)
{
    return &VHOST_BLK(vdev)->dev;
}

/* The way out of a failed open(). */
static const char *vhost_blk_open_advice(int err)
{
    switch (err) {
    case EACCES:
    case EPERM:
        return "; the user who runs QEMU needs to read and write it";
    case ENOENT:
    case ENXIO:
    case ENODEV:
        return "; load the module: modprobe vhost_blk";
    default:
        return "";
    }
}

/* The descriptor that was passed in with vhostfd. */
static int vhost_blk_open_passed(VHostBlk *v, Error **errp)
{
    struct vhost_blk_limits limits = { .fd = -1 };
    int fd = monitor_fd_param(monitor_cur(), v->vhostfd, errp);

    if (fd < 0) {
        error_prepend(errp, "vhost-blk: vhostfd: ");
        return -1;
    }
    if (!g_unix_set_fd_nonblocking(fd, true, NULL)) {
        error_setg_errno(errp, errno, "vhost-blk: vhostfd=%s cannot be made "
                         "non-blocking", v->vhostfd);
        close(fd);
        return -1;
    }
    if (ioctl(fd, VHOST_BLK_GET_LIMITS, &limits) < 0 && errno == ENOTTY) {
        error_setg(errp, "vhost-blk: vhostfd=%s is not an open " VHOST_BLK_PATH,
                   v->vhostfd);
        close(fd);
        return -1;
    }
    return fd;
}

static int vhost_blk_open(VHostBlk *v, Error **errp)
{
    int fd;

    if (v->vhostfd) {
        return vhost_blk_open_passed(v, errp);
    }
    fd = open(VHOST_BLK_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        error_setg(errp, "vhost-blk: cannot open " VHOST_BLK_PATH ": %s%s",
                   strerror(errno), vhost_blk_open_advice(errno));
    }
    return fd;
}

/*
 * Look at the drive before the device takes on its shape: the guest is offered
 * what the kernel can do if the kernel can serve the drive at all, whatever
 * stands against it at the moment.
 */
static bool vhost_blk_probe_drive(VHostBlk *v, int vhostfd, Error **errp)
{
    BlockConf *conf = &VIRTIO_BLK(v)->conf.conf;
    g_autofree char *reason = NULL;
    struct vhost_blk_limits limits;

    if (vhost_blk_drive_fd(conf->blk, vhostfd, &limits, &reason) < 0) {
        if (!v->fallback) {
            error_setg(errp, "vhost-blk: the kernel cannot serve the drive and "
                       "fallback=off forbids QEMU to: %s", reason);
            return false;
        }
        vhost_blk_announce(v, reason);
        return true;
    }

    v->mask_features = true;
    if (!conf->logical_block_size && limits.logical_block > BDRV_SECTOR_SIZE) {
        conf->logical_block_size = limits.logical_block;
    }
    if (limits.logical_block > MAX(conf->logical_block_size,
                                   BDRV_SECTOR_SIZE)) {
        error_setg(errp, "vhost-blk: logical_block_size=%" PRIu32 " is smaller "
                   "than the disk's; use %" PRIu32 " or leave it out",
                   conf->logical_block_size, limits.logical_block);
        return false;
    }
    if (!conf->physical_block_size &&
        conf->logical_block_size > BDRV_SECTOR_SIZE) {
        conf->physical_block_size = conf->logical_block_size;
    }
    return true;
}

/* The drive is fit, and what is asked of it as well, or fallback is on. */
static bool vhost_blk_check_fallback(VHostBlk *v, int vhostfd, Error **errp)
{
    g_autofree char *reason = NULL;
    int fd;

    if (v->fallback) {
        return true;
    }
    reason = virtio_device_ioeventfd_enabled(VIRTIO_DEVICE(v)) ?
             vhost_blk_unfit(v, vhostfd, &fd) : g_strdup("ioeventfd=off");
    if (reason) {
        error_setg(errp, "vhost-blk: the kernel cannot serve the drive and "
                   "fallback=off forbids QEMU to: %s", reason);
        return false;
    }
    return true;
}

/* Connect to the kernel through @vhostfd, which is consumed. */
static bool vhost_blk_connect(VHostBlk *v, int vhostfd, Error **errp)
{
    uint32_t rings = VIRTIO_BLK(v)->conf.num_queues;
    int ret;

    /*
     * It saves memory. If it fails, whoever passed vhostfd has used it before;
     * should there be too few rings, setting them up says so.
     */
    ioctl(vhostfd, VHOST_BLK_SET_RINGS, &rings);
    v->dev.nvqs = rings;
    v->vqs = g_new0(struct vhost_virtqueue, v->dev.nvqs);
    v->dev.vqs = v->vqs;
    if (vhost_dev_init(&v->dev, (void *)(uintptr_t)vhostfd,
                       VHOST_BACKEND_TYPE_KERNEL, 0, errp) < 0) {
        goto free_vqs;
    }
    /*
     * A kernel that cannot log is no obstacle: QEMU serves while a migration
     * is under way, see vhost_blk_log_global_start().
     */
    migrate_del_blocker(&v->dev.migration_blocker);

    if (!vhost_blk_memory_init(v, errp)) {
        goto cleanup;
    }
    if (!vhost_blk_workers_init(v, errp)) {
        goto cleanup_memory;
    }
    ret = vhost_blk_events_init(v);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "vhost-blk: cannot listen to the kernel");
        goto cleanup_memory;
    }
    return true;

cleanup_memory:
    vhost_blk_memory_cleanup(v);
cleanup:
    vhost_dev_cleanup(&v->dev);
free_vqs:
    g_clear_pointer(&v->worker_tids, g_free);
    g_clear_pointer(&v->vqs, g_free);
    return false;
}

static bool vhost_blk_check_conf(VHostBlk *v, Error **errp)
{
    VirtIOBlkConf *conf = &VIRTIO_BLK(v)->conf;

    if (!kvm_enabled() && !qtest_enabled()) {
        error_setg(errp, "vhost-blk needs KVM: start QEMU with -accel kvm");
        return false;
    }
    if (conf->num_queues == VIRTIO_BLK_AUTO_NUM_QUEUES) {
        conf->num_queues = 1;
    }
    if (!conf->num_queues || conf->num_queues > VHOST_BLK_MAX_RINGS) {
        error_setg(errp, "vhost-blk: num-queues=%u must be between 1 and %u",
                   conf->num_queues, VHOST_BLK_MAX_RINGS);
        return false;
    }
    return vhost_blk_workers_check(v, errp);
}

static void vhost_blk_device_realize(DeviceState *dev, Error **errp)
{
    ERRP_GUARD();
    VHostBlk *v = VHOST_BLK(dev);
    VirtIOBlock *s = VIRTIO_BLK(dev);
    VHostBlkClass *vbc = VHOST_BLK_GET_CLASS(dev);
    int vhostfd;

    if (!vhost_blk_check_conf(v, errp)) {
        return;
    }
    vhostfd = vhost_blk_open(v, errp);
    if (vhostfd < 0) {
        return;
    }
    if (s->conf.conf.blk && blk_is_inserted(s->conf.conf.blk) &&
        !vhost_blk_probe_drive(v, vhostfd, errp)) {
        goto close_fd;
    }
    vhost_blk_serve_init(v);

    vbc->parent_realize(dev, errp);
    if (*errp) {
        goto delete_bh;
    }
    if (!vhost_blk_check_fallback(v, vhostfd, errp)) {
        goto unrealize;
    }
    /* The guest notifiers stay the same, masked or not, whoever serves. */
    VIRTIO_DEVICE(v)->use_guest_notifier_mask = false;
    if (!vhost_blk_connect(v, vhostfd, errp)) {
        vhostfd = -1;
        goto unrealize;
    }

    vhost_blk_serve_listen(v);
    return;

unrealize:
    vbc->parent_unrealize(dev);
delete_bh:
    g_clear_pointer(&v->bh, qemu_bh_delete);
close_fd:
    if (vhostfd >= 0) {
        close(vhostfd);
    }
}

static void vhost_blk_device_unrealize(DeviceState *dev)
{
    VHostBlk *v = VHOST_BLK(dev);

    memory_listener_unregister(&v->listener);
    VHOST_BLK_GET_CLASS(v)->parent_unrealize(dev);
    vhost_blk_events_cleanup(v);
    vhost_dev_cleanup(&v->dev);
    vhost_blk_memory_cleanup(v);
    g_clear_pointer(&v->bh, qemu_bh_delete);
    g_clear_pointer(&v->vqs, g_free);
    g_clear_pointer(&v->worker_tids, g_free);
}

static char *vhost_blk_get_served_by(Object *obj, Error **errp)
{
    return g_strdup(vhost_blk_server_str(VHOST_BLK(obj)->server));
}

static char *vhost_blk_get_served_reason(Object *obj, Error **errp)
{
    VHostBlk *v = VHOST_BLK(obj);

    return g_strdup(v->reason ? v->reason : "");
}

static void vhost_blk_get_worker_tids(Object *obj, Visitor *visitor,
                                      const char *name, void *opaque,
                                      Error **errp)
{
    VHostBlk *v = VHOST_BLK(obj);
    g_autoptr(intList) list = NULL;
    intList **tail = &list;
    uint32_t w;

    for (w = 0; v->worker_tids && w < v->workers; w++) {
        QAPI_LIST_APPEND(tail, v->worker_tids[w]);
    }
    visit_type_intList(visitor, name, &list, errp);
}

static void vhost_blk_instance_finalize(Object *obj)
{
    VHostBlk *v = VHOST_BLK(obj);

    g_free(v->reason);
    g_free(v->announced);
}

/* Properties that may be set at any time: how the workers poll. */
static void vhost_blk_get_u32(Object *obj, Visitor *visitor, const char *name,
                              void *opaque, Error **errp)
{
    visit_type_uint32(visitor, name, object_field_prop_ptr(obj, opaque), errp);
}

static void vhost_blk_set_u32(Object *obj, Visitor *visitor, const char *name,
                              void *opaque, Error **errp)
{
    uint32_t *field = object_field_prop_ptr(obj, opaque), before = *field;

    if (visit_type_uint32(visitor, name, field, errp) &&
        !vhost_blk_workers_changed(VHOST_BLK(obj), errp)) {
        *field = before;
    }
}

static void vhost_blk_get_bool(Object *obj, Visitor *visitor, const char *name,
                               void *opaque, Error **errp)
{
    visit_type_bool(visitor, name, object_field_prop_ptr(obj, opaque), errp);
}

static void vhost_blk_set_bool(Object *obj, Visitor *visitor, const char *name,
                               void *opaque, Error **errp)
{
    bool *field = object_field_prop_ptr(obj, opaque), before = *field;

    if (visit_type_bool(visitor, name, field, errp) &&
        !vhost_blk_workers_changed(VHOST_BLK(obj), errp)) {
        *field = before;
    }
}

static void vhost_blk_default_u32(ObjectProperty *op, const Property *prop)
{
    object_property_set_default_uint(op, prop->defval.u);
}

static void vhost_blk_default_bool(ObjectProperty *op, const Property *prop)
{
    object_property_set_default_bool(op, prop->defval.u);
}

static const PropertyInfo vhost_blk_prop_u32 = {
    .type = "uint32",
    .get = vhost_blk_get_u32,
    .set = vhost_blk_set_u32,
    .set_default_value = vhost_blk_default_u32,
    .realized_set_allowed = true,
};

static const PropertyInfo vhost_blk_prop_bool = {
    .type = "bool",
    .get = vhost_blk_get_bool,
    .set = vhost_blk_set_bool,
    .set_default_value = vhost_blk_default_bool,
    .realized_set_allowed = true,
};

#define VHOST_BLK_PROP_U32(name, field, value) \
    DEFINE_PROP_UNSIGNED(name, VHostBlk, field, value, vhost_blk_prop_u32, \
                         uint32_t)
#define VHOST_BLK_PROP_BOOL(name, field, value) \
    DEFINE_PROP(name, VHostBlk, field, vhost_blk_prop_bool, bool, \
                .set_default = true, .defval.u = (value))

static const Property vhost_blk_properties[] = {
    DEFINE_PROP_STRING("vhostfd", VHostBlk, vhostfd),
    VHOST_BLK_PROP_U32("poll-us", poll_us, 50),
    VHOST_BLK_PROP_BOOL("poll-adaptive", poll_adaptive, true),
    VHOST_BLK_PROP_BOOL("poll-completions", poll_completions, true),
    VHOST_BLK_PROP_U32("signal-us", signal_us, 50),
    VHOST_BLK_PROP_U32("batch", batch, 64),
    DEFINE_PROP_STRING("poll-cpu", VHostBlk, poll_cpu),
    DEFINE_PROP_UINT32("workers", VHostBlk, workers, 1),
    DEFINE_PROP_BOOL("pin-memory", VHostBlk, pin_memory, false),
    DEFINE_PROP_BOOL("fallback", VHostBlk, fallback, true),
};

static void vhost_blk_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);
    VHostBlkClass *vbc = VHOST_BLK_CLASS(klass);

    device_class_set_props(dc, vhost_blk_properties);

    vbc->parent_realize = vdc->realize;
    vdc->realize = vhost_blk_device_realize;
    vbc->parent_unrealize = vdc->unrealize;
    vdc->unrealize = vhost_blk_device_unrealize;
    vbc->parent_get_features = vdc->get_features;
    vdc->get_features = vhost_blk_get_features;
    vbc->parent_reset = vdc->reset;
    vdc->reset = vhost_blk_reset;
    vdc->get_vhost = vhost_blk_get_vhost;

    vhost_blk_serve_class_init(vbc);

    object_class_property_add_str(klass, "served-by",
                                  vhost_blk_get_served_by, NULL);
    object_class_property_set_description(klass, "served-by",
        "Who serves the rings: kernel, qemu or none");
    object_class_property_add_str(klass, "served-reason",
                                  vhost_blk_get_served_reason, NULL);
    object_class_property_set_description(klass, "served-reason",
        "Why it is not the kernel");
    object_class_property_add(klass, "worker-tids", "[int]",
                              vhost_blk_get_worker_tids, NULL, NULL, NULL);
    object_class_property_set_description(klass, "worker-tids",
        "Thread ids of the kernel's workers");
    object_class_property_set_description(klass, "vhostfd",
        "An open /dev/vhost-blk: its number or its name in the monitor");
    object_class_property_set_description(klass, "poll-us",
        "How long a worker spins before it sleeps, in microseconds; "
        "0: interrupts only");
    object_class_property_set_description(klass, "poll-adaptive",
        "Shorten spins that are in vain");
    object_class_property_set_description(klass, "poll-completions",
        "Use the disk's polled queues while polling");
    object_class_property_set_description(klass, "signal-us",
        "How long an interrupt may be held back for more completions, in "
        "microseconds; 0: not at all. A worker that does not poll looks for "
        "a busy guest's requests many times within that, without kicks");
    object_class_property_set_description(klass, "batch",
        "How many requests of a ring a worker submits before it looks at the "
        "next ring");
    object_class_property_set_description(klass, "poll-cpu",
        "CPUs to pin the workers to, one each, such as 3-4");
    object_class_property_set_description(klass, "workers",
        "Kernel threads that the rings are spread over");
    object_class_property_set_description(klass, "pin-memory",
        "Keep all guest memory pinned, so that requests need not do it");
    object_class_property_set_description(klass, "fallback",
        "Let QEMU serve what the kernel cannot");
}

static const TypeInfo vhost_blk_info = {
    .name = TYPE_VHOST_BLK,
    .parent = TYPE_VIRTIO_BLK,
    .instance_size = sizeof(VHostBlk),
    .instance_finalize = vhost_blk_instance_finalize,
    .class_init = vhost_blk_class_init,
    .class_size = sizeof(VHostBlkClass),
};

static void vhost_blk_register_types(void)
{
    type_register_static(&vhost_blk_info);
}

type_init(vhost_blk_register_types)
