/* SPDX-License-Identifier: GPL-2.0 */
/*
 * virtio-blk requests in any layout. A request is two streams of bytes: what
 * the device reads (header, data of a write) and what it writes (data of a
 * read, status). A layout says how they are cut into descriptors.
 */
#ifndef VHOST_BLK_TEST_REQUEST_H
#define VHOST_BLK_TEST_REQUEST_H

#include "vring.h"

#define REQ_HDR_SIZE	16
#define REQ_NO_STATUS	0xee	/* what the status byte holds beforehand */
#define REQ_POISON	0x5a	/* what the data of a read holds beforehand */

struct req_layout {
	const char *name;
	unsigned int hdr_chunk;		/* bytes per descriptor; 0: all in one */
	unsigned int data_chunk;	/* bytes per descriptor; 0: all in one */
	bool hdr_joined;	/* first data of a write in the header's descriptor */
	bool status_joined;	/* status in the last data descriptor of a read */
	bool status_page;	/* status is the first byte of a page of its own */
	bool zero;		/* a zero-length descriptor after every one */
	bool adjacent;		/* data descriptors follow each other in memory */
	bool border;		/* data lies across the two low regions */
	unsigned int align;	/* of each data descriptor; 0: a page */
	unsigned int offset;	/* and what is added to that */
	enum vq_mode mode;
};

enum req_data { REQ_DATA_NONE, REQ_DATA_OUT, REQ_DATA_IN };

struct req_slice;

struct req {
	/* set by the caller */
	uint32_t type;
	uint64_t sector;
	uint32_t len;		/* of the data */
	uint32_t back;		/* of a write: bytes that the device answers */
	enum req_data data;
	bool no_hdr, no_status;	/* malformed on purpose */
	uint32_t hdr_len;	/* 0: the real one */
	const struct req_layout *layout;

	/* set by req_build() */
	struct gmem *mem;
	struct req_slice *slice;
	struct vseg *seg;
	unsigned int nseg;
	uint32_t out_len, in_len;

	/* set by req_done() */
	uint8_t status;
	uint32_t used_len;
	bool done;
};

/* Plain: header, data, status; one descriptor each. */
extern const struct req_layout layout_plain, layout_indirect;

/* Make an ordinary request of @type; it still has to be built. */
void req_init(struct req *r, uint32_t type, uint64_t sector, uint32_t len);
/* Allocate guest memory for it and cut it up. */
int req_build(struct gmem *m, struct req *r);
void req_free(struct req *r);

/* @n reads of @len bytes, 4 KiB apart. */
int reads_build(struct gmem *m, struct req *r, unsigned int n, uint32_t len);
void reads_free(struct req *r, unsigned int n);

/* Write header and poison into guest memory, before each use. */
void req_arm(struct req *r);
/* Data of the request in guest memory, whole. */
void req_put_data(struct req *r, const void *buf);
void req_get_data(const struct req *r, void *buf);
/* The @back bytes of a write, from guest memory. */
void req_get_back(const struct req *r, void *buf);
/* True if the bytes around every descriptor are as they were. */
bool req_guards_intact(const struct req *r);

/* req_arm() and queue it; the head or an error. */
int req_add(struct vq *q, struct req *r);
/* Take the status over, when it was used with @len. */
void req_done(struct req *r, uint32_t len);
/* Take one used request: it, or NULL (and *err, 0 if there is none). */
struct req *req_reap(struct vq *q, int *err);
/* Add, kick, and wait for this request alone. */
int req_run(struct vq *q, struct req *r);
/* Wait until @n requests came back; an error after @ms without one. */
int req_wait_n(struct vq *q, unsigned int n, unsigned int ms);

/*
 * As a guest does it: send @depth requests, wait for a signal, take what has come,
 * and send as many again, with a pause before each; until @total have come. Returns
 * how many signals there were, or an error.
 */
long guest_run(struct vq *q, struct req *r, unsigned int depth,
	       unsigned long total, unsigned int think_us);

/* In one go, with a plain layout; the status (>= 0) or an error. */
int blk_read(struct vq *q, uint64_t sector, void *buf, uint32_t len);
int blk_write(struct vq *q, uint64_t sector, const void *buf, uint32_t len);
int blk_flush(struct vq *q);

/*
 * The kicks that 200 flushes need, one after the other. Others may disturb us: the
 * best of up to 10 times, until there are no more than @enough. LONG_MAX: one failed.
 */
long flushes_least_kicks(struct vq *q, long enough);
/* DISCARD, WRITE_ZEROES or SECURE_ERASE of @n ranges. */
int blk_ranges(struct vq *q, uint32_t type,
	       const struct virtio_blk_discard_write_zeroes *range,
	       unsigned int n);

/*
 * Without book-keeping, to be spoilt: a sound read in descriptors 0, 1, 2;
 * nothing of it is available yet.
 */
void lay_out_read(struct vq *q);
/* Descriptor 0 becomes an indirect table with the read in it. */
struct vring_desc *lay_out_indirect(struct vq *q);

#define REQ_TIMEOUT_MS 10000

#endif
