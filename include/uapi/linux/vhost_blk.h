/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef _UAPI_LINUX_VHOST_BLK_H
#define _UAPI_LINUX_VHOST_BLK_H
/*
 * Userspace interface of /dev/vhost-blk, an in-kernel virtio-blk back end.
 *
 * The generic vhost ioctls of <linux/vhost.h> come first: VHOST_SET_OWNER,
 * features, memory table, rings. The ioctls below are vhost-blk's own. Every
 * structure has a fixed size; reserved fields and unknown flags must be zero
 * (EINVAL otherwise), so that they can get a meaning later.
 *
 * Documentation/userspace-api/vhost-blk.rst describes each call with its errors.
 */

#include <linux/types.h>
#include <linux/ioctl.h>
#include <linux/vhost.h>

/* Rings of one device, and the largest size of a ring (a power of two). */
#define VHOST_BLK_MAX_RINGS	64
#define VHOST_BLK_MAX_RING_SIZE	1024

/* In an index field: all rings of the device. */
#define VHOST_BLK_ALL_RINGS	0xffffffffU

/* Longest spin that may be asked for, in microseconds. */
#define VHOST_BLK_MAX_POLL_US	1000000U

/* Longest time a signal may be held back, in microseconds. */
#define VHOST_BLK_MAX_SIGNAL_US	100000U

/*
 * Give ring @index the disk that @fd is open on, and start it; -1 stops the
 * ring and returns when nothing is in flight on it any more. Whether the disk
 * can be written follows from the mode @fd was opened with.
 *
 * Behind a virtual IOMMU, -1 fails with EAGAIN while completed requests cannot
 * be told to the guest because a translation is missing. Answer the messages
 * that can be read from the device, and try again; VHOST_BLK_ABANDON stops the
 * ring and drops what the guest was not told.
 */
#define VHOST_BLK_ABANDON	(-2)
#define VHOST_BLK_SET_BACKEND	_IOW(VHOST_VIRTIO, 0x50, \
				     struct vhost_vring_file)

/* The guest's write cache is on: a write is stable only after a FLUSH. */
#define VHOST_BLK_CONFIG_WRITEBACK	(1U << 0)
/*
 * Complete VIRTIO_BLK_T_DISCARD without doing it, and keep what
 * VIRTIO_BLK_T_WRITE_ZEROES zeroes allocated: the guest may ask for discards,
 * the host does not want them.
 */
#define VHOST_BLK_CONFIG_IGNORE_DISCARD	(1U << 1)

/**
 * struct vhost_blk_config - what of the virtio-blk configuration the kernel needs
 * @flags:	VHOST_BLK_CONFIG_*; without WRITEBACK, or if the guest
 *		negotiated neither VIRTIO_BLK_F_FLUSH nor
 *		VIRTIO_BLK_F_CONFIG_WCE, every write is stable before it
 *		completes
 * @reserved:	must be zero
 * @id:		what VIRTIO_BLK_T_GET_ID returns: 20 bytes, padded with NULs,
 *		not terminated if all 20 are used
 * @max_discard_sectors:	per range of VIRTIO_BLK_T_DISCARD; 0: no limit
 * @max_discard_seg:	ranges per request; 0: the module's limit, 256
 * @max_write_zeroes_sectors: the same for VIRTIO_BLK_T_WRITE_ZEROES
 * @max_write_zeroes_seg: the same for VIRTIO_BLK_T_WRITE_ZEROES
 * @max_secure_erase_sectors: the same for VIRTIO_BLK_T_SECURE_ERASE
 * @max_secure_erase_seg: the same for VIRTIO_BLK_T_SECURE_ERASE
 * @reserved2:	must be zero
 *
 * May be set at any time; holds for the requests fetched afterwards. A new
 * file descriptor has WRITEBACK set and an empty @id.
 */
struct vhost_blk_config {
	__u32 flags;
	__u32 reserved;
	__u8 id[20];
	__u32 max_discard_sectors;
	__u32 max_discard_seg;
	__u32 max_write_zeroes_sectors;
	__u32 max_write_zeroes_seg;
	__u32 max_secure_erase_sectors;
	__u32 max_secure_erase_seg;
	__u32 reserved2[19];
};

#define VHOST_BLK_SET_CONFIG	_IOW(VHOST_VIRTIO, 0x51, \
				     struct vhost_blk_config)

/*
 * Spin for poll_us whenever there is nothing to do, whether it pays or not,
 * unless somebody else wants the CPU.
 */
#define VHOST_BLK_POLL_FIXED		(1U << 0)
/* Let the disk interrupt for its completions, also if it has polled queues. */
#define VHOST_BLK_POLL_NO_IOPOLL	(1U << 1)

/**
 * struct vhost_blk_poll - how a ring is polled
 * @index:	ring, or VHOST_BLK_ALL_RINGS (not for VHOST_BLK_GET_POLL)
 * @flags:	VHOST_BLK_POLL_*; zero when given to VHOST_BLK_GET_POLL
 * @poll_us:	spin for at most this long after the last progress before
 *		going to sleep, in microseconds; 0: interrupt mode. The same
 *		value as VHOST_SET_VRING_BUSYLOOP_TIMEOUT's
 * @batch:	most requests taken from the ring before another ring of the
 *		same worker gets its turn; 0 in VHOST_BLK_SET_POLL: the default
 * @signal_us:	the guest's signal may be held back for so many microseconds
 *		while more completions are to be expected, and a worker that
 *		does not spin may let a busy guest's requests wait for a 32nd
 *		part of that (at least 10, at most 300), rather than have each announced;
 *		less than 10: never the latter; 0: neither
 * @reserved:	must be zero
 *
 * A worker that serves several rings spins as long as the longest of them
 * asks for. Spins that are in vain get shorter, unless one of its rings has
 * VHOST_BLK_POLL_FIXED.
 */
struct vhost_blk_poll {
	__u32 index;
	__u32 flags;
	__u32 poll_us;
	__u32 batch;
	__u32 signal_us;
	__u32 reserved[11];
};

#define VHOST_BLK_SET_POLL	_IOW(VHOST_VIRTIO, 0x52, struct vhost_blk_poll)
#define VHOST_BLK_GET_POLL	_IOWR(VHOST_VIRTIO, 0x53, struct vhost_blk_poll)

/**
 * struct vhost_blk_worker - the thread that serves a ring
 * @index:	ring (in)
 * @worker_id:	its worker's number, as VHOST_NEW_WORKER gave it (out)
 * @tid:	thread id in the caller's pid namespace, for
 *		sched_setaffinity() (out)
 * @reserved:	must be zero
 */
struct vhost_blk_worker {
	__u32 index;
	__u32 worker_id;
	__s32 tid;
	__u32 reserved[5];
};

#define VHOST_BLK_GET_WORKER	_IOWR(VHOST_VIRTIO, 0x54, \
				      struct vhost_blk_worker)

/* flags of struct vhost_blk_limits */
#define VHOST_BLK_LIMIT_READ_ONLY	(1U << 0) /* by @fd's mode or the device */
#define VHOST_BLK_LIMIT_WRITE_CACHE	(1U << 1) /* volatile write cache */
#define VHOST_BLK_LIMIT_FUA		(1U << 2) /* forced unit access */
#define VHOST_BLK_LIMIT_ROTATIONAL	(1U << 3)
#define VHOST_BLK_LIMIT_POLL		(1U << 4) /* has polled queues */

/**
 * struct vhost_blk_limits - what the disk behind a file descriptor can do
 * @fd:			the disk, attached or not (in)
 * @flags:		VHOST_BLK_LIMIT_*
 * @capacity:		in 512-byte sectors
 * @logical_block:	smallest addressable unit, bytes
 * @physical_block:	smallest unit written without read-modify-write, bytes
 * @io_min:		preferred minimum I/O size, bytes
 * @io_opt:		preferred I/O size, bytes; 0: none
 * @dma_alignment:	mask of address and length bits that must be zero for
 *			I/O without a bounce buffer
 * @max_segments:	of one device request
 * @max_segment_size:	bytes
 * @max_sectors:	of one device request, 512-byte sectors
 * @alignment_offset:	of the first physical block, bytes
 * @zone_model:		VIRTIO_BLK_Z_HM, or VIRTIO_BLK_Z_NONE: then the other
 *			fields about zones are 0, too
 * @zone_sectors:	size of a zone, 512-byte sectors; the last may be smaller
 * @max_open_zones:	0: no limit
 * @max_active_zones:	open or closed ones; 0: no limit
 * @max_append_sectors:	of one VIRTIO_BLK_T_ZONE_APPEND, 512-byte sectors;
 *			larger ones fail
 * @write_granularity:	of writes to sequential zones, bytes
 * @discard_granularity: what is discarded or erased is best made of units of
 *			this, bytes; 0: the disk does not discard
 * @max_secure_erase_sectors: of one device request, 512-byte sectors; 0: the
 *			disk cannot erase securely
 * @reserved:		must be zero
 *
 * Hints for whoever makes up the guest's configuration space; guest requests
 * beyond them are split or bounced.
 */
struct vhost_blk_limits {
	__s32 fd;
	__u32 flags;
	__u64 capacity;
	__u32 logical_block;
	__u32 physical_block;
	__u32 io_min;
	__u32 io_opt;
	__u32 dma_alignment;
	__u32 max_segments;
	__u32 max_segment_size;
	__u32 max_sectors;
	__u32 alignment_offset;
	__u32 zone_model;
	__u32 zone_sectors;
	__u32 max_open_zones;
	__u32 max_active_zones;
	__u32 max_append_sectors;
	__u32 write_granularity;
	__u32 discard_granularity;
	__u32 max_secure_erase_sectors;
	__u32 reserved[7];
};

#define VHOST_BLK_GET_LIMITS	_IOWR(VHOST_VIRTIO, 0x55, \
				      struct vhost_blk_limits)

/**
 * struct vhost_blk_stats - counters of a ring since the device was opened
 * @index:		ring, or VHOST_BLK_ALL_RINGS for their sum (in)
 * @reserved:		must be zero
 * @reads:		VIRTIO_BLK_T_IN completed without error
 * @read_bytes:		their data
 * @writes:		VIRTIO_BLK_T_OUT and VIRTIO_BLK_T_ZONE_APPEND completed
 *			without error
 * @write_bytes:	their data
 * @flushes:		VIRTIO_BLK_T_FLUSH completed without error
 * @get_ids:		VIRTIO_BLK_T_GET_ID completed without error
 * @errors:		completed with VIRTIO_BLK_S_IOERR or VIRTIO_BLK_S_ZONE_*
 * @unsupported:	completed with VIRTIO_BLK_S_UNSUPP
 * @malformed:		chains without room for a header or a status
 * @ring_errors:	violations of the ring itself; each stopped the ring
 * @bounced:		requests whose data went through a bounce buffer
 * @large:		requests that needed more than their inline vectors
 * @inflight:		fetched and not completed now
 * @kicks:		notifications from the guest
 * @batches:		passes that found requests to fetch
 * @signals:		used-buffer notifications considered (one per batch of
 *			completions, or fewer with signal_us; the guest's event
 *			suppression may stop it)
 * @sleeps:		times the worker went idle
 * @requeues:		times the worker's quantum ended and others got their turn
 * @discards:		VIRTIO_BLK_T_DISCARD and VIRTIO_BLK_T_SECURE_ERASE
 *			completed without error
 * @discard_bytes:	in their ranges
 * @write_zeroes:	VIRTIO_BLK_T_WRITE_ZEROES completed without error
 * @write_zeroes_bytes:	in their ranges
 * @iotlb_misses:	times the ring waited for a translation from the VMM
 * @zone_commands:	VIRTIO_BLK_T_ZONE_* other than APPEND completed without
 *			error
 * @signal_holds:	signals that were held back
 * @signals_saved:	batches of completions that needed none of their own,
 *			since one was held back
 * @hold_misses:	signals held back that too few completions followed
 * @polled:		reads and writes whose completion the disk was asked for
 * @poll_fallbacks:	reads and writes that the disk could not do so
 * @prepinned:		reads and writes whose memory was pinned already
 * @disk_errors:	of @errors, those that the disk, or the filesystem under an
 *			image file, reported; the others never got there
 * @naps:		times the worker slept for a moment without asking for
 *			notifications; not counted in @sleeps
 * @times_led:		times another worker of the owner's devices, pinned to the
 *			same single CPU, took over from this ring's worker, until
 *			there was nothing to do for either, or for 100 ms
 */
struct vhost_blk_stats {
	__u32 index;
	__u32 reserved;
	__u64 reads;
	__u64 read_bytes;
	__u64 writes;
	__u64 write_bytes;
	__u64 flushes;
	__u64 get_ids;
	__u64 errors;
	__u64 unsupported;
	__u64 malformed;
	__u64 ring_errors;
	__u64 bounced;
	__u64 large;
	__u64 inflight;
	__u64 kicks;
	__u64 batches;
	__u64 signals;
	__u64 sleeps;
	__u64 requeues;
	__u64 discards;
	__u64 discard_bytes;
	__u64 write_zeroes;
	__u64 write_zeroes_bytes;
	__u64 iotlb_misses;
	__u64 zone_commands;
	__u64 signal_holds;
	__u64 signals_saved;
	__u64 hold_misses;
	__u64 polled;
	__u64 poll_fallbacks;
	__u64 prepinned;
	__u64 disk_errors;
	__u64 naps;
	__u64 times_led;
};

#define VHOST_BLK_GET_STATS	_IOWR(VHOST_VIRTIO, 0x56, \
				      struct vhost_blk_stats)

/*
 * Have the eventfd (int, as a pointer) signalled when a disk is found to have
 * another capacity than before, and after an I/O error; -1: no more. Whoever is
 * told looks at VHOST_BLK_GET_LIMITS and VHOST_BLK_GET_STATS. The kernel sees a
 * new capacity when the guest does I/O; a disk that is idle says nothing.
 */
#define VHOST_BLK_SET_EVENT	_IOW(VHOST_VIRTIO, 0x57, int)

/*
 * 1: pin all memory of the memory table now, so that no request has to; 0: let
 * it go. It is charged to RLIMIT_MEMLOCK. A new memory table, like the end of the
 * ownership, lets go of what was pinned. Only for memory that the owner does not
 * replace meanwhile: data goes to and comes from the pages that were there.
 */
#define VHOST_BLK_PIN_MEMORY	_IOW(VHOST_VIRTIO, 0x58, __u32)

/*
 * The device will have so many rings, at most VHOST_BLK_MAX_RINGS: the kernel
 * keeps no memory for the others then. Before the first VHOST_SET_OWNER only.
 */
#define VHOST_BLK_SET_RINGS	_IOW(VHOST_VIRTIO, 0x59, __u32)

#endif /* _UAPI_LINUX_VHOST_BLK_H */
