/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vhost-blk: tracepoints. A request is named by owner, ring and head, which
 * join its start to its completion.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vhost_blk

#if !defined(_VHOST_BLK_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _VHOST_BLK_TRACE_H

#include <linux/tracepoint.h>

#include "vhost_blk.h"

TRACE_EVENT(vhost_blk_req_start,
	TP_PROTO(const struct vhost_blk_req *req),
	TP_ARGS(req),
	TP_STRUCT__entry(
		__field(pid_t, owner)
		__field(u32, ring)
		__field(u32, head)
		__field(u32, type)
		__field(u64, sector)
	),
	TP_fast_assign(
		__entry->owner = req->ring->blk->owner;
		__entry->ring = req->ring->index;
		__entry->head = req->head;
		__entry->type = req->type;
		__entry->sector = req->sector;
	),
	TP_printk("owner=%d ring=%u head=%u type=%u sector=%llu",
		  __entry->owner, __entry->ring, __entry->head, __entry->type,
		  __entry->sector)
);

TRACE_EVENT(vhost_blk_req_complete,
	TP_PROTO(const struct vhost_blk_req *req),
	TP_ARGS(req),
	TP_STRUCT__entry(
		__field(pid_t, owner)
		__field(u32, ring)
		__field(u32, head)
		__field(u32, len)
		__field(u8, status)
	),
	TP_fast_assign(
		__entry->owner = req->ring->blk->owner;
		__entry->ring = req->ring->index;
		__entry->head = req->head;
		__entry->len = req->len;
		__entry->status = req->status;
	),
	TP_printk("owner=%d ring=%u head=%u len=%u status=%u",
		  __entry->owner, __entry->ring, __entry->head, __entry->len,
		  __entry->status)
);

TRACE_EVENT(vhost_blk_ring_break,
	TP_PROTO(const struct vhost_blk_vq *ring),
	TP_ARGS(ring),
	TP_STRUCT__entry(
		__field(pid_t, owner)
		__field(u32, ring)
		__field(u32, inflight)
	),
	TP_fast_assign(
		__entry->owner = ring->blk->owner;
		__entry->ring = ring->index;
		__entry->inflight = ring->inflight;
	),
	TP_printk("owner=%d ring=%u inflight=%u",
		  __entry->owner, __entry->ring, __entry->inflight)
);

TRACE_EVENT(vhost_blk_iotlb_park,
	TP_PROTO(const struct vhost_blk_vq *ring),
	TP_ARGS(ring),
	TP_STRUCT__entry(
		__field(pid_t, owner)
		__field(u32, ring)
		__field(u32, unpublished)
	),
	TP_fast_assign(
		__entry->owner = ring->blk->owner;
		__entry->ring = ring->index;
		__entry->unpublished = ring->nr_used;
	),
	TP_printk("owner=%d ring=%u unpublished=%u",
		  __entry->owner, __entry->ring, __entry->unpublished)
);

TRACE_EVENT(vhost_blk_poll_idle,
	TP_PROTO(const struct vhost_blk *blk, u64 rings, u64 sleeps),
	TP_ARGS(blk, rings, sleeps),
	TP_STRUCT__entry(
		__field(pid_t, owner)
		__field(u64, rings)
		__field(u64, sleeps)
	),
	TP_fast_assign(
		__entry->owner = blk->owner;
		__entry->rings = rings;
		__entry->sleeps = sleeps;
	),
	TP_printk("owner=%d rings=%#llx sleeps=%llu",
		  __entry->owner, __entry->rings, __entry->sleeps)
);

#endif /* _VHOST_BLK_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
