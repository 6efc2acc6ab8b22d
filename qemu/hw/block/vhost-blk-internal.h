/*
 * vhost-blk: what its files know of each other
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_BLOCK_VHOST_BLK_INTERNAL_H
#define HW_BLOCK_VHOST_BLK_INTERNAL_H

#include <linux/vhost_blk.h>

#include "hw/virtio/vhost-blk.h"

/**
 * vhost_blk_drive_fd: the descriptor that the kernel can serve the drive from
 * @blk: the drive
 * @vhostfd: /dev/vhost-blk
 * @limits: filled in with what the kernel says of the disk
 * @reason: set to why there is none, to be freed by the caller
 *
 * Looks at what the drive is made of, which changes only together with the
 * block graph. Context: BQL, main loop or a vCPU.
 *
 * Returns: the descriptor, still owned by the drive, or -1.
 */
int vhost_blk_drive_fd(BlockBackend *blk, int vhostfd,
                       struct vhost_blk_limits *limits, char **reason);

/**
 * vhost_blk_drive_resized: whether the disk's length is not what QEMU takes it
 * for
 * @blk: the drive
 * @vhostfd: /dev/vhost-blk
 * @length: what it is, if so, in bytes
 *
 * Context: BQL, main loop.
 */
bool vhost_blk_drive_resized(BlockBackend *blk, int vhostfd, int64_t *length);

/**
 * vhost_blk_drive_follow: take over the disk's length from the host
 * @blk: the drive, which consists of what vhost_blk_drive_fd() accepts
 *
 * Whoever uses the drive is told, as by block_resize. Context: BQL, main loop;
 * drains the drive.
 *
 * Returns: 0 or a negative errno.
 */
int vhost_blk_drive_follow(BlockBackend *blk);

/**
 * vhost_blk_drive_was_written: tell the block layer about what the kernel did
 * @blk: the drive
 *
 * Its driver keeps the write pointers of zones, which have moved while the
 * kernel served. Context: as vhost_blk_drive_fd(), and nothing is in flight.
 */
void vhost_blk_drive_was_written(BlockBackend *blk);

/**
 * vhost_blk_drive_claimed: what of the block layer must see each request
 * @s: the device
 *
 * Some of what can be asked of a drive works only if requests pass through
 * QEMU's block layer. Context: as vhost_blk_drive_fd().
 *
 * Returns: what was asked for, to be freed by the caller; NULL if nothing.
 */
char *vhost_blk_drive_claimed(VirtIOBlock *s);

/**
 * vhost_blk_workers_init: create the workers, spread the rings over them, pin
 * them to the CPUs of poll-cpu, and tell the kernel how long to poll
 * @v: the device; its rings are stopped
 */
bool vhost_blk_workers_init(VHostBlk *v, Error **errp);

/**
 * vhost_blk_workers_check: validate the properties that concern the workers
 */
bool vhost_blk_workers_check(VHostBlk *v, Error **errp);

/**
 * vhost_blk_workers_changed: a property that says how to poll was set
 * @v: the device; if it is realized already, the kernel is told
 *
 * Returns: false if that cannot be, with the property as it is now.
 */
bool vhost_blk_workers_changed(VHostBlk *v, Error **errp);

/**
 * vhost_blk_name: what the user calls the device
 * @v: the device
 *
 * Returns: the id of the -device that holds it, or its type.
 */
const char *vhost_blk_name(VHostBlk *v);

/** vhost_blk_server_str: "none", "qemu" or "kernel" */
const char *vhost_blk_server_str(VHostBlkServer server);

/**
 * vhost_blk_announce: tell the operator, but not again and again
 * @v: the device
 * @reason: why QEMU serves it; NULL: the kernel does
 */
void vhost_blk_announce(VHostBlk *v, const char *reason);

/**
 * vhost_blk_kernel_configure: tell the kernel its part of the configuration
 * space, which may change at any time
 * @v: the device
 *
 * Returns: 0 or a negative errno.
 */
int vhost_blk_kernel_configure(VHostBlk *v);

/**
 * vhost_blk_kernel_start: lend the rings to the kernel
 * @v: the device; its notifiers are set up and nothing is in flight
 * @fd: the disk; the kernel takes a reference of its own
 *
 * Returns: NULL, or why it could not be done, to be freed by the caller.
 */
char *vhost_blk_kernel_start(VHostBlk *v, int fd);

/**
 * vhost_blk_kernel_stop: take the rings back from the kernel
 * @v: the device
 *
 * Waits for what is in flight. Nothing is afterwards, and VirtQueue has the
 * indices of the rings.
 */
void vhost_blk_kernel_stop(VHostBlk *v);

/**
 * vhost_blk_break: the kernel cannot go on; the guest has to reset the device
 * @v: the device, served by the kernel
 * @reason: why
 */
void vhost_blk_break(VHostBlk *v, const char *reason);

/**
 * vhost_blk_events_init: listen to what the kernel reports from now on
 * @v: the device, connected to the kernel
 *
 * Returns: 0 or a negative errno.
 */
int vhost_blk_events_init(VHostBlk *v);

/**
 * vhost_blk_events_cleanup: undo vhost_blk_events_init()
 * @v: the device, still connected to the kernel
 */
void vhost_blk_events_cleanup(VHostBlk *v);

/**
 * vhost_blk_events_forget: whatever the kernel has reported of the rings is
 * over, since they are stopped
 * @v: the device
 */
void vhost_blk_events_forget(VHostBlk *v);

/**
 * vhost_blk_kernel_stop_one: take one ring back, while the others go on
 * @v: the device, served by the kernel
 * @i: the ring
 */
void vhost_blk_kernel_stop_one(VHostBlk *v, unsigned int i);

/**
 * vhost_blk_kernel_start_one: lend one ring, which the guest has set up anew
 * @v: the device, served by the kernel
 * @i: the ring
 * @fd: the disk
 *
 * Returns: 0 or a negative errno.
 */
int vhost_blk_kernel_start_one(VHostBlk *v, unsigned int i, int fd);

/**
 * vhost_blk_memory_init: have guest memory pinned, if that is asked for
 * @v: the device, after vhost_dev_init()
 * @errp: the reason why not
 *
 * Returns: success. That the kernel cannot pin it later on is no error.
 */
bool vhost_blk_memory_init(VHostBlk *v, Error **errp);

/**
 * vhost_blk_memory_cleanup: undo vhost_blk_memory_init()
 * @v: the device, after vhost_dev_cleanup()
 */
void vhost_blk_memory_cleanup(VHostBlk *v);

/**
 * vhost_blk_unfit: why the kernel cannot serve the drive
 * @v: the device
 * @vhostfd: /dev/vhost-blk
 * @fd: the disk, when the answer is NULL
 *
 * Returns: the reason, to be freed by the caller, or NULL.
 */
char *vhost_blk_unfit(VHostBlk *v, int vhostfd, int *fd);

/**
 * vhost_blk_serve_init: be ready to serve, and stopped
 * @v: the device
 */
void vhost_blk_serve_init(VHostBlk *v);

/**
 * vhost_blk_serve_listen: from now on, let go of the rings while guest memory
 * is tracked; after vhost_dev_init()
 * @v: the device
 */
void vhost_blk_serve_listen(VHostBlk *v);

/**
 * vhost_blk_serve_class_init: override what of virtio-blk starts and stops it
 */
void vhost_blk_serve_class_init(VHostBlkClass *vbc);

#endif /* HW_BLOCK_VHOST_BLK_INTERNAL_H */
