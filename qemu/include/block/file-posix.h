/*
 * What the host file and host device drivers show to the outside
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BLOCK_FILE_POSIX_H
#define BLOCK_FILE_POSIX_H

#include "block/block-common.h"

/**
 * raw_get_fd: the file descriptor that a node does its I/O on
 * @bs: any node
 *
 * The descriptor stays @bs's own; a permission change or a reopen may close it
 * and open another, so it is asked for each time it is needed and not kept.
 *
 * Returns: the descriptor, or -1 if @bs is not a "file" or "host_device" node.
 */
int raw_get_fd(BlockDriverState *bs);

/**
 * raw_refresh_zones: learn the write pointers of a zoned device anew
 * @bs: any node; only a "host_device" node may have zones
 *
 * The driver keeps track of them by the requests that pass through it. Call
 * this when others have passed it by, with nothing in flight.
 */
void raw_refresh_zones(BlockDriverState *bs);

#endif /* BLOCK_FILE_POSIX_H */
