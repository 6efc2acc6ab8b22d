/*
 * vhost-blk: guest memory that stays pinned (pin-memory=on)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

#include <sys/ioctl.h>

#include "exec/memory.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "vhost-blk-internal.h"

/* What vhost does for the kernel, but for the next function. */
static VhostOps vhost_blk_pin_ops;

/*
 * The kernel lets go of what was pinned when it gets a new memory table, so ask
 * for each. A guest whose memory is not pinned works as well.
 */
static int vhost_blk_set_mem_table(struct vhost_dev *dev,
                                   struct vhost_memory *mem)
{
    VHostBlk *v = container_of(dev, VHostBlk, dev);
    int ret = kernel_ops.vhost_set_mem_table(dev, mem);
    uint32_t on = 1;
    bool failed;

    if (ret < 0) {
        return ret;
    }
    failed = ioctl((uintptr_t)dev->opaque, VHOST_BLK_PIN_MEMORY, &on) < 0;
    if (failed && !v->pin_failed) {
        warn_report("vhost-blk: guest memory is not pinned for '%s', so each "
                    "request pins its own: %s%s", vhost_blk_name(v),
                    strerror(errno), errno == ENOMEM ? "; raise the limit of "
                    "locked memory (ulimit -l) above the guest's" : "");
    }
    v->pin_failed = failed;
    return ret;
}

bool vhost_blk_memory_init(VHostBlk *v, Error **errp)
{
    int ret;

    if (!v->pin_memory) {
        return true;
    }
    ret = ram_block_discard_disable(true);
    if (ret < 0) {
        error_setg(errp, "vhost-blk: pin-memory=on is not possible while "
                   "another device gives guest memory back");
        return false;
    }
    vhost_blk_pin_ops = kernel_ops;
    vhost_blk_pin_ops.vhost_set_mem_table = vhost_blk_set_mem_table;
    v->dev.vhost_ops = &vhost_blk_pin_ops;
    return true;
}

void vhost_blk_memory_cleanup(VHostBlk *v)
{
    if (v->pin_memory) {
        ram_block_discard_disable(false);
    }
}
