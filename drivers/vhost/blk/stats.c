// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: counters, by ioctl and in /proc/PID/fdinfo/FD.
 */
#include <linux/fs.h>
#include <linux/nospec.h>
#include <linux/seq_file.h>

#include "vhost_blk.h"

/* The fields of struct vhost_blk_stats, in their order. */
static const char * const vhost_blk_stats_names[] = {
	"reads", "read_bytes", "writes", "write_bytes", "flushes", "get_ids",
	"errors", "unsupported", "malformed", "ring_errors", "bounced",
	"large", "inflight", "kicks", "batches", "signals", "sleeps",
	"requeues", "discards", "discard_bytes", "write_zeroes",
	"write_zeroes_bytes", "iotlb_misses", "zone_commands",
	"signal_holds", "signals_saved", "hold_misses",
	"polled", "poll_fallbacks", "prepinned", "disk_errors", "naps",
	"times_led",
};

#define VHOST_BLK_NR_STATS	ARRAY_SIZE(vhost_blk_stats_names)

static_assert(sizeof(struct vhost_blk_stats) ==
	      offsetof(struct vhost_blk_stats, reads) +
	      VHOST_BLK_NR_STATS * sizeof(u64));

/* Add a ring's counters to @sum. */
static void vhost_blk_stats_add(struct vhost_blk_stats *sum,
				struct vhost_blk_vq *ring)
{
	u64 *from = &ring->stats.reads, *to = &sum->reads;
	unsigned int i;

	mutex_lock(&ring->vq.mutex);
	for (i = 0; i < VHOST_BLK_NR_STATS; i++)
		to[i] += from[i];
	sum->inflight += ring->inflight;
	mutex_unlock(&ring->vq.mutex);
	sum->sleeps += READ_ONCE(ring->own.sleeps);
	sum->requeues += READ_ONCE(ring->own.requeues);
	sum->naps += READ_ONCE(ring->own.nap.naps);
	sum->times_led += READ_ONCE(ring->own.times_led);
}

/**
 * vhost_blk_stats_get - VHOST_BLK_GET_STATS
 * @blk:	the device
 * @argp:	struct vhost_blk_stats
 *
 * Context: process, &vhost_dev.mutex held.
 * Return: 0, -EFAULT, -EINVAL, or -ENOBUFS for a ring that does not exist.
 */
long vhost_blk_stats_get(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_stats stats = {};
	u32 __user *head = argp;
	u32 index, reserved;
	int i;

	if (get_user(index, head) || get_user(reserved, head + 1))
		return -EFAULT;
	if (index >= blk->dev.nvqs && index != VHOST_BLK_ALL_RINGS)
		return -ENOBUFS;
	if (reserved)
		return -EINVAL;
	stats.index = index;
	for (i = 0; i < blk->dev.nvqs; i++)
		if (index == VHOST_BLK_ALL_RINGS || index == i)
			vhost_blk_stats_add(&stats, blk->rings[i]);
	return copy_to_user(argp, &stats, sizeof(stats)) ? -EFAULT : 0;
}

/**
 * vhost_blk_stats_show - ->show_fdinfo: the sums over all rings
 * @m:		/proc/PID/fdinfo/FD
 * @file:	the open device
 *
 * Context: process.
 */
void vhost_blk_stats_show(struct seq_file *m, struct file *file)
{
	struct vhost_blk *blk = file->private_data;
	struct vhost_blk_stats stats = {};
	u64 *values = &stats.reads;
	unsigned int i;

	/* Before there is an owner, rings may go, and have nothing to count. */
	if (smp_load_acquire(&blk->settled))
		for (i = 0; i < blk->dev.nvqs; i++)
			vhost_blk_stats_add(&stats, blk->rings[i]);
	for (i = 0; i < VHOST_BLK_NR_STATS; i++)
		seq_printf(m, "%s:\t%llu\n", vhost_blk_stats_names[i],
			   values[i]);
}
