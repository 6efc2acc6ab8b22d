/*
 * vhost-blk: the kernel's worker threads
 *
 * They belong to this process. Ring N is served by worker N modulo workers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

#include <sched.h>
#include <sys/ioctl.h>

#include "qapi/error.h"
#include "qemu/ctype.h"
#include "qemu/cutils.h"
#include "vhost-blk-internal.h"

/*
 * Parse one item of a CPU list, "3" or "3-5", and add its CPUs to @cpus.
 * Returns: what follows the item, NULL if it is none or names too large a CPU
 * (then with an error).
 */
static const char *vhost_blk_parse_cpus(VHostBlk *v, const char *p,
                                        GArray *cpus, Error **errp)
{
    unsigned int first, last, cpu;

    if (!qemu_isdigit(*p) || qemu_strtoui(p, &p, 10, &first) < 0) {
        return NULL;
    }
    last = first;
    if (*p == '-') {
        p++;
        if (!qemu_isdigit(*p) || qemu_strtoui(p, &p, 10, &last) < 0) {
            return NULL;
        }
    }
    if (first > last) {
        return NULL;
    }
    if (last >= CPU_SETSIZE) {
        error_setg(errp, "poll-cpu='%s': CPU %u is beyond the %d that can be "
                   "named", v->poll_cpu, last, CPU_SETSIZE);
        return NULL;
    }
    for (cpu = first; cpu <= last; cpu++) {
        g_array_append_val(cpus, cpu);
    }
    return p;
}

/* The CPUs of poll-cpu, in the order in which they are listed. */
static GArray *vhost_blk_poll_cpus(VHostBlk *v, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GArray) cpus = g_array_new(false, false, sizeof(unsigned int));
    const char *p = v->poll_cpu;

    do {
        p = vhost_blk_parse_cpus(v, p, cpus, errp);
    } while (p && (*p == ',' || *p == ':') && p++);

    if (*errp) {
        return NULL;
    }
    if (!p || *p) {
        error_setg(errp, "poll-cpu='%s' is not a list of CPUs such as 3, 3-4 "
                   "or 3:5", v->poll_cpu);
        return NULL;
    }
    if (cpus->len != v->workers) {
        error_setg(errp, "poll-cpu='%s' names %u CPUs for %" PRIu32
                   " workers; name one for each", v->poll_cpu, cpus->len,
                   v->workers);
        return NULL;
    }
    return g_steal_pointer(&cpus);
}

bool vhost_blk_workers_check(VHostBlk *v, Error **errp)
{
    uint16_t num_queues = VIRTIO_BLK(v)->conf.num_queues;

    if (v->poll_us > VHOST_BLK_MAX_POLL_US) {
        error_setg(errp, "poll-us=%" PRIu32 " is too long; the limit is %u",
                   v->poll_us, VHOST_BLK_MAX_POLL_US);
        return false;
    }
    if (v->signal_us > VHOST_BLK_MAX_SIGNAL_US) {
        error_setg(errp, "signal-us=%" PRIu32 " is too long; the limit is %u",
                   v->signal_us, VHOST_BLK_MAX_SIGNAL_US);
        return false;
    }
    if (!v->batch || v->batch > VHOST_BLK_MAX_RING_SIZE) {
        error_setg(errp, "batch=%" PRIu32 " must be between 1 and %u",
                   v->batch, VHOST_BLK_MAX_RING_SIZE);
        return false;
    }
    if (!v->workers || v->workers > num_queues) {
        error_setg(errp, "workers=%" PRIu32 " must be between 1 and "
                   "num-queues (%u)", v->workers, num_queues);
        return false;
    }
    if (v->poll_cpu) {
        g_autoptr(GArray) cpus = vhost_blk_poll_cpus(v, errp);

        return !!cpus;
    }
    return true;
}

/* Ring 0 and all the others start out on the device's first worker. */
static bool vhost_blk_workers_create(VHostBlk *v, Error **errp)
{
    ERRP_GUARD();
    const VhostOps *ops = v->dev.vhost_ops;
    uint32_t w, ring;
    int ret;

    for (w = 1; w < v->workers; w++) {
        struct vhost_worker_state worker = {};

        ret = ops->vhost_new_worker(&v->dev, &worker);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "vhost-blk: cannot create worker %"
                             PRIu32 " of %" PRIu32, w + 1, v->workers);
            error_append_hint(errp, "workers=1 needs none to be created.\n");
            return false;
        }
        for (ring = w; ring < v->dev.nvqs; ring += v->workers) {
            struct vhost_vring_worker attach = {
                .index = ring,
                .worker_id = worker.worker_id,
            };

            ret = ops->vhost_attach_vring_worker(&v->dev, &attach);
            if (ret < 0) {
                error_setg_errno(errp, -ret, "vhost-blk: cannot give ring %"
                                 PRIu32 " to worker %" PRIu32, ring, w + 1);
                return false;
            }
        }
    }
    return true;
}

static bool vhost_blk_workers_find(VHostBlk *v, int vhostfd, Error **errp)
{
    uint32_t w;

    v->worker_tids = g_new0(int32_t, v->workers);
    for (w = 0; w < v->workers; w++) {
        struct vhost_blk_worker worker = { .index = w };

        if (ioctl(vhostfd, VHOST_BLK_GET_WORKER, &worker) < 0) {
            error_setg_errno(errp, errno, "vhost-blk: cannot find the thread "
                             "of ring %" PRIu32, w);
            return false;
        }
        v->worker_tids[w] = worker.tid;
    }
    return true;
}

/* Why sched_setaffinity() has failed with @err for @cpu. */
static const char *vhost_blk_no_cpu(unsigned int cpu, int err)
{
    const char *all = "/sys/devices/system/cpu";
    g_autofree char *path = g_strdup_printf("%s/cpu%u", all, cpu);
    g_autofree char *online = g_build_filename(path, "online", NULL);
    g_autofree char *state = NULL;

    if (err != EINVAL || !g_file_test(all, G_FILE_TEST_IS_DIR)) {
        return g_strerror(err);
    }
    if (!g_file_test(path, G_FILE_TEST_IS_DIR)) {
        return "there is no such CPU";
    }
    if (g_file_get_contents(online, &state, NULL, NULL) && *state == '0') {
        return "it is offline";
    }
    return "it is not in this process's cpuset";
}

static bool vhost_blk_workers_pin(VHostBlk *v, Error **errp)
{
    g_autoptr(GArray) cpus = vhost_blk_poll_cpus(v, errp);
    uint32_t w;

    if (!cpus) {
        return false;
    }
    for (w = 0; w < v->workers; w++) {
        unsigned int cpu = g_array_index(cpus, unsigned int, w);
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        if (sched_setaffinity(v->worker_tids[w], sizeof(set), &set) < 0) {
            error_setg(errp, "poll-cpu: cannot pin thread %" PRId32 " to CPU %u: "
                       "%s", v->worker_tids[w], cpu,
                       vhost_blk_no_cpu(cpu, errno));
            return false;
        }
    }
    return true;
}

/* How the workers poll, for all rings; they may be running. */
static bool vhost_blk_workers_poll(VHostBlk *v, Error **errp)
{
    int vhostfd = (uintptr_t)v->dev.opaque;
    struct vhost_blk_poll poll = {
        .index = VHOST_BLK_ALL_RINGS,
        .flags = (v->poll_adaptive ? 0 : VHOST_BLK_POLL_FIXED) |
                 (v->poll_completions ? 0 : VHOST_BLK_POLL_NO_IOPOLL),
        .poll_us = v->poll_us,
        .signal_us = v->signal_us,
        .batch = v->batch,
    };

    if (ioctl(vhostfd, VHOST_BLK_SET_POLL, &poll) < 0) {
        error_setg_errno(errp, errno, "vhost-blk: cannot set poll-us=%" PRIu32
                         " and signal-us=%" PRIu32, v->poll_us, v->signal_us);
        return false;
    }
    return true;
}

bool vhost_blk_workers_init(VHostBlk *v, Error **errp)
{
    int vhostfd = (uintptr_t)v->dev.opaque;

    return vhost_blk_workers_create(v, errp) &&
           vhost_blk_workers_find(v, vhostfd, errp) &&
           (!v->poll_cpu || vhost_blk_workers_pin(v, errp)) &&
           vhost_blk_workers_poll(v, errp);
}

bool vhost_blk_workers_changed(VHostBlk *v, Error **errp)
{
    return !DEVICE(v)->realized ||
           (vhost_blk_workers_check(v, errp) && vhost_blk_workers_poll(v, errp));
}
