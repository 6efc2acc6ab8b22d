/*
 * vhost-blk: can the kernel serve this drive?
 *
 * Requests that the kernel serves never enter QEMU's block layer. That is right
 * only if the layer would do nothing but pass them on: a raw node on a host
 * device, all of it, and nobody who wants to see, delay, redirect or count the
 * requests.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

#include <sys/ioctl.h>

#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "block/file-posix.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "vhost-blk-internal.h"

static bool vhost_blk_node_is(BlockDriverState *bs, const char *driver)
{
    return bs->drv && !strcmp(bs->drv->format_name, driver);
}

/*
 * The node that the drive's requests arrive at: the root itself, or what lies
 * under a raw node that shows all of it.
 */
static BlockDriverState * GRAPH_RDLOCK
vhost_blk_drive_node(BlockDriverState *bs, char **reason)
{
    if (!vhost_blk_node_is(bs, "raw")) {
        return bs;
    }
    if (bs->probed) {
        *reason = g_strdup_printf("the format of '%s' was guessed; "
                                  "name it with format=raw", bs->filename);
        return NULL;
    }
    if (qdict_haskey(bs->options, "offset") ||
        qdict_haskey(bs->options, "size")) {
        *reason = g_strdup_printf("node '%s' shows only a part of what lies "
                                  "under it", bdrv_get_node_name(bs));
        return NULL;
    }
    return bs->file->bs;
}

/*
 * The kernel has to know the zones as the guest does, who is told of them by
 * QEMU, with the limits of the drive's root.
 */
static char *vhost_blk_drive_zones_differ(BlockDriverState *root,
                                          const struct vhost_blk_limits *limits)
{
    bool zoned = limits->zone_model != VIRTIO_BLK_Z_NONE;

    if (zoned != (root->bl.zoned == BLK_Z_HM)) {
        return g_strdup_printf("QEMU and the kernel disagree whether '%s' has "
                               "zones", root->filename);
    }
    if (zoned && limits->max_append_sectors < root->bl.max_append_sectors) {
        return g_strdup_printf("the guest may append %" PRIu32 " sectors to a "
                               "zone of '%s', the kernel only %" PRIu32,
                               root->bl.max_append_sectors, root->filename,
                               limits->max_append_sectors);
    }
    return NULL;
}

void vhost_blk_drive_was_written(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);
    g_autofree char *reason = NULL;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    bs = bs ? vhost_blk_drive_node(bs, &reason) : NULL;
    if (bs) {
        raw_refresh_zones(bs);
    }
}

int vhost_blk_drive_fd(BlockBackend *blk, int vhostfd,
                       struct vhost_blk_limits *limits, char **reason)
{
    BlockDriverState *bs = blk_bs(blk);
    int fd;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    if (!bs) {
        *reason = g_strdup("the drive is empty");
        return -1;
    }
    bs = vhost_blk_drive_node(bs, reason);
    if (!bs) {
        return -1;
    }
    fd = raw_get_fd(bs);
    if (fd < 0) {
        *reason = g_strdup_printf("node '%s' is of driver '%s'",
                                  bdrv_get_node_name(bs),
                                  bs->drv ? bs->drv->format_name : "none");
        return -1;
    }
    if (bs->sg) {
        *reason = g_strdup_printf("'%s' is a SCSI generic device",
                                  bs->filename);
        return -1;
    }

    *limits = (struct vhost_blk_limits) { .fd = fd };
    if (ioctl(vhostfd, VHOST_BLK_GET_LIMITS, limits) < 0) {
        if (errno == ENOTBLK) {
            *reason = g_strdup_printf("'%s' is neither a block device nor a "
                                      "regular file", bs->filename);
        } else {
            *reason = g_strdup_printf("the kernel cannot serve '%s': %s",
                                      bs->filename, strerror(errno));
        }
        return -1;
    }
    *reason = vhost_blk_drive_zones_differ(blk_bs(blk), limits);
    return *reason ? -1 : fd;
}

bool vhost_blk_drive_resized(BlockBackend *blk, int vhostfd, int64_t *length)
{
    g_autofree char *reason = NULL;
    struct vhost_blk_limits limits;
    int fd = vhost_blk_drive_fd(blk, vhostfd, &limits, &reason);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

    if (end < 0) {
        return false;
    }
    *length = ROUND_UP(end, BDRV_SECTOR_SIZE);
    return *length != blk_getlength(blk);
}

int vhost_blk_drive_follow(BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk), *file;
    int ret = 0;

    bdrv_ref(bs);
    bdrv_drained_begin(bs);
    bdrv_graph_rdlock_main_loop();
    file = bs->file ? bs->file->bs : NULL;
    bdrv_graph_rdunlock_main_loop();
    if (file) {
        ret = bdrv_follow_length(file);
    }
    if (ret == 0) {
        ret = bdrv_follow_length(bs);
    }
    bdrv_drained_end(bs);
    bdrv_unref(bs);
    return ret;
}

/* What asks to see each request of one node of the drive. */
static char * GRAPH_RDLOCK vhost_blk_node_claimed(BlockDriverState *bs)
{
    const char *name = bdrv_get_node_name(bs);

    if (bdrv_is_inactive(bs)) {
        return g_strdup_printf("node '%s' is inactive", name);
    }
    if (bdrv_dirty_bitmap_first(bs)) {
        return g_strdup_printf("node '%s' has a dirty bitmap", name);
    }
    if (bs->write_threshold_offset) {
        return g_strdup_printf("node '%s' has a write threshold", name);
    }
    if (qatomic_read(&bs->copy_on_read)) {
        return g_strdup_printf("node '%s' copies on read", name);
    }
    if (bs->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF) {
        return g_strdup_printf("node '%s' detects zeroes", name);
    }
    return NULL;
}

char *vhost_blk_drive_claimed(VirtIOBlock *s)
{
    BlockBackend *blk = s->conf.conf.blk;
    BlockDriverState *bs = blk_bs(blk);
    BlockdevOnError rerror = blk_get_on_error(blk, true);
    BlockdevOnError werror = blk_get_on_error(blk, false);
    char *reason;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    if (blk_get_public(blk)->throttle_group_member.throttle_state) {
        return g_strdup("the drive's I/O is limited (throttled)");
    }
    /*
     * The kernel reports each error to the guest. QEMU's default, to stop the
     * guest when the host runs out of space, is not taken for a wish.
     */
    if (rerror != BLOCKDEV_ON_ERROR_REPORT) {
        return g_strdup_printf("rerror=%s", BlockdevOnError_str(rerror));
    }
    if (werror != BLOCKDEV_ON_ERROR_REPORT &&
        !(werror == BLOCKDEV_ON_ERROR_ENOSPC &&
          s->conf.conf.werror == BLOCKDEV_ON_ERROR_AUTO)) {
        return g_strdup_printf("werror=%s", BlockdevOnError_str(werror));
    }

    reason = vhost_blk_node_claimed(bs);
    if (!reason && bs->file) {
        reason = vhost_blk_node_claimed(bs->file->bs);
    }
    return reason;
}
