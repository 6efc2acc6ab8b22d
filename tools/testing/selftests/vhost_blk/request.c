// SPDX-License-Identifier: GPL-2.0
/* virtio-blk requests in any layout, see request.h. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"
#include "util.h"

#define GUARD		16	/* bytes before and after every descriptor */
#define GUARD_BYTE	0xa5
#define PAGE		4096u

struct req_slice {
	char *p;
	uint32_t len;
	uint32_t at;		/* in its stream */
	bool in;
	bool guard_before, guard_behind;
};

const struct req_layout layout_plain = { .name = "plain" };
const struct req_layout layout_indirect = {
	.name = "indirect", .mode = VQ_INDIRECT,
};

void req_init(struct req *r, uint32_t type, uint64_t sector, uint32_t len)
{
	memset(r, 0, sizeof(*r));
	r->type = type;
	r->sector = sector;
	r->len = len;
	r->layout = &layout_plain;
	switch (type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_GET_ID:
		r->data = REQ_DATA_IN;
		break;
	case VIRTIO_BLK_T_OUT:
		r->data = REQ_DATA_OUT;
		break;
	default:
		r->data = len ? REQ_DATA_OUT : REQ_DATA_NONE;
	}
}

/* Room for @len bytes, @offset behind a multiple of @align, with guards. */
static char *guarded_alloc(struct gmem *m, uint32_t len, unsigned int align,
			   unsigned int offset)
{
	char *p;

	if (align > 1) {
		/* the guard before it must not eat the alignment */
		unsigned int lead = (GUARD + align - 1) / align * align;

		p = (char *)gmem_alloc(m, lead + offset + len + GUARD, align) +
		    lead + offset;
	} else {
		p = (char *)gmem_alloc(m, GUARD + len + GUARD, 1) + GUARD;
	}
	memset(p - GUARD, GUARD_BYTE, GUARD);
	memset(p + len, GUARD_BYTE, GUARD);
	return p;
}

/* The next descriptor: @len bytes at guest address @addr. */
static struct req_slice *slice_put(struct req *r, uint32_t at, uint64_t addr,
				   uint32_t len, bool in)
{
	struct req_slice *s = &r->slice[r->nseg];
	struct vseg *seg = &r->seg[r->nseg++];

	memset(s, 0, sizeof(*s));
	s->p = gmem_ptr(r->mem, addr);
	s->len = len;
	s->at = at;
	s->in = in;
	seg->addr = addr;
	seg->len = len;
	seg->in = in;
	if (r->layout->zero && len)
		slice_put(r, at, addr, 0, in);
	return s;
}

static void slice_add(struct req *r, uint32_t at, uint32_t len, bool in,
		      unsigned int align, unsigned int offset)
{
	char *p = guarded_alloc(r->mem, len, align, offset);
	struct req_slice *s;

	s = slice_put(r, at, gmem_addr(r->mem, p), len, in);
	s->guard_before = true;
	s->guard_behind = true;
}

static unsigned int chunks(uint32_t len, unsigned int chunk)
{
	return len ? chunk ? (len + chunk - 1) / chunk : 1 : 0;
}

static void build_data(struct req *r, uint32_t at, uint32_t len,
		       uint32_t tail, bool in)
{
	const struct req_layout *l = r->layout;
	unsigned int align = l->align ? l->align : PAGE;
	struct req_slice *s;
	uint64_t addr = 0;
	uint32_t n;

	/*
	 * One buffer that the descriptors share, or one for each. Across the
	 * border a descriptor has two pieces of our memory, with no guards.
	 */
	if (l->border)
		addr = GMEM_BORDER - len / 2;
	else if (l->adjacent && len)
		addr = gmem_addr(r->mem, guarded_alloc(r->mem, len + tail, align,
						       l->offset % PAGE));
	/* @tail bytes of something else follow in the last descriptor */
	while (len) {
		n = l->data_chunk && l->data_chunk < len ? l->data_chunk : len;
		len -= n;
		if (!len)
			n += tail;
		if (addr) {
			s = slice_put(r, at, addr, n, in);
			s->guard_behind = l->adjacent && !len;
			addr += n;
		} else {
			slice_add(r, at, n, in, align, l->offset % PAGE);
		}
		at += n;
	}
}

static void build_out(struct req *r, uint32_t hdr, uint32_t data)
{
	const struct req_layout *l = r->layout;
	uint32_t at = 0, n, joined = 0;

	if (l->hdr_joined && hdr && data)
		joined = l->data_chunk && l->data_chunk < data ?
			 l->data_chunk : data;
	while (at < hdr) {
		n = l->hdr_chunk && l->hdr_chunk < hdr - at ? l->hdr_chunk :
							      hdr - at;
		if (at + n == hdr)
			n += joined;
		slice_add(r, at, n, false, joined ? 16 : 1, 0);
		at += n;
	}
	build_data(r, at, data - joined, 0, false);
}

static void build_in(struct req *r, uint32_t data, bool status)
{
	const struct req_layout *l = r->layout;
	bool joined = l->status_joined && status && data;

	build_data(r, 0, data, joined, true);
	if (status && !joined)
		slice_add(r, data, 1, true, l->status_page ? PAGE : 1, 0);
}

int req_build(struct gmem *m, struct req *r)
{
	const struct req_layout *l = r->layout;
	uint32_t hdr = r->no_hdr ? 0 : r->hdr_len ? r->hdr_len : REQ_HDR_SIZE;
	uint32_t out = r->data == REQ_DATA_OUT ? r->len : 0;
	uint32_t in = r->data == REQ_DATA_IN ? r->len : r->back;
	unsigned int n;

	n = chunks(hdr, l->hdr_chunk) + chunks(r->len, l->data_chunk) +
	    chunks(r->back, l->data_chunk) + 1;
	if (l->zero)
		n *= 2;
	r->mem = m;
	r->nseg = 0;
	r->out_len = hdr + out;
	r->in_len = in + !r->no_status;
	r->slice = calloc(n, sizeof(*r->slice));
	r->seg = calloc(n, sizeof(*r->seg));
	if (!r->slice || !r->seg)
		return -ENOMEM;
	build_out(r, hdr, out);
	build_in(r, in, !r->no_status);
	return 0;
}

void req_free(struct req *r)
{
	free(r->slice);
	free(r->seg);
	r->slice = NULL;
	r->seg = NULL;
}

enum copy_how { COPY_TO, COPY_FROM, COPY_FILL };

/* Copy between @buf and bytes @at.. of one of the streams. */
static void stream_copy(const struct req *r, bool in, uint32_t at, void *buf,
			uint32_t len, enum copy_how how)
{
	unsigned int i, j;

	for (i = 0; i < r->nseg; i++) {
		const struct req_slice *s = &r->slice[i];
		uint32_t from = s->at > at ? s->at : at;
		uint32_t end = s->at + s->len < at + len ? s->at + s->len :
							   at + len;

		if (s->in != in || from >= end)
			continue;
		for (j = from; j < end;) {
			/* never across a page: the border is at one */
			uint64_t addr = r->seg[i].addr + (j - s->at);
			uint32_t n = PAGE - addr % PAGE;
			char *p = gmem_ptr(r->mem, addr);

			if (n > end - j)
				n = end - j;
			if (how == COPY_TO)
				memcpy(p, (char *)buf + (j - at), n);
			else if (how == COPY_FROM)
				memcpy((char *)buf + (j - at), p, n);
			else
				memset(p, *(uint8_t *)buf, n);
			j += n;
		}
	}
}

int reads_build(struct gmem *m, struct req *r, unsigned int n, uint32_t len)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < n && !err; i++) {
		req_init(&r[i], VIRTIO_BLK_T_IN, i * 8, len);
		err = req_build(m, &r[i]);
	}
	return err;
}

void reads_free(struct req *r, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		req_free(&r[i]);
}

void req_arm(struct req *r)
{
	struct virtio_blk_outhdr hdr = {
		.type = r->type,
		.sector = r->sector,
	};
	uint8_t poison = REQ_POISON, status = REQ_NO_STATUS;
	uint32_t hdr_len = r->data == REQ_DATA_OUT ? r->out_len - r->len :
						     r->out_len;

	if (hdr_len > REQ_HDR_SIZE)
		hdr_len = REQ_HDR_SIZE;
	stream_copy(r, false, 0, &hdr, hdr_len, COPY_TO);
	stream_copy(r, true, 0, &poison, r->in_len - !r->no_status, COPY_FILL);
	if (!r->no_status)
		stream_copy(r, true, r->in_len - 1, &status, 1, COPY_TO);
	r->done = false;
	r->status = REQ_NO_STATUS;
}

void req_put_data(struct req *r, const void *buf)
{
	stream_copy(r, false, r->out_len - r->len, (void *)buf, r->len, COPY_TO);
}

void req_get_data(const struct req *r, void *buf)
{
	if (r->data == REQ_DATA_IN)
		stream_copy(r, true, 0, buf, r->len, COPY_FROM);
	else
		stream_copy(r, false, r->out_len - r->len, buf, r->len,
			    COPY_FROM);
}

void req_get_back(const struct req *r, void *buf)
{
	stream_copy(r, true, 0, buf, r->back, COPY_FROM);
}

bool req_guards_intact(const struct req *r)
{
	unsigned int i;

	for (i = 0; i < r->nseg; i++) {
		const struct req_slice *s = &r->slice[i];

		if (s->guard_before && !mem_is(s->p - GUARD, GUARD_BYTE, GUARD))
			return false;
		if (s->guard_behind && !mem_is(s->p + s->len, GUARD_BYTE, GUARD))
			return false;
	}
	return true;
}

int req_add(struct vq *q, struct req *r)
{
	req_arm(r);
	return vq_add(q, r->seg, r->nseg, r->layout->mode, r);
}

void req_done(struct req *r, uint32_t len)
{
	if (!r->no_status)
		stream_copy(r, true, r->in_len - 1, &r->status, 1, COPY_FROM);
	r->used_len = len;
	r->done = true;
}

struct req *req_reap(struct vq *q, int *err)
{
	void *cookie = NULL;
	uint32_t len;
	int n = vq_get(q, &cookie, &len);

	*err = n < 0 ? n : 0;
	if (n <= 0)
		return NULL;
	if (cookie)
		req_done(cookie, len);
	return cookie;
}

int req_wait_n(struct vq *q, unsigned int n, unsigned int ms)
{
	int r;

	while (n) {
		r = vq_wait(q, ms);
		if (r)
			return r;
		while (n && req_reap(q, &r))
			n--;
		if (r)
			return r;
	}
	return 0;
}

int req_run(struct vq *q, struct req *r)
{
	int n = req_add(q, r);

	if (n < 0)
		return n;
	vq_kick(q);
	n = req_wait_n(q, 1, REQ_TIMEOUT_MS);
	if (n)
		return n;
	return r->done ? 0 : -EPROTO;
}

/* A request with one buffer; its guest memory is given back at the end. */
static int blk_rw(struct vq *q, uint32_t type, uint64_t sector, void *in,
		  const void *out, uint32_t len)
{
	struct gmem *m = &q->dev->mem;
	size_t used = m->used;
	struct req r;
	int n;

	req_init(&r, type, sector, len);
	n = req_build(m, &r);
	if (!n && out)
		req_put_data(&r, out);
	if (!n)
		n = req_run(q, &r);
	if (!n && in)
		req_get_data(&r, in);
	req_free(&r);
	if (!n)
		m->used = used;
	/* whoever fails says nothing but that */
	if (!n && r.status && r.used_len != 1)
		n = -EPROTO;
	return n ? n : r.status;
}

int blk_read(struct vq *q, uint64_t sector, void *buf, uint32_t len)
{
	return blk_rw(q, VIRTIO_BLK_T_IN, sector, buf, NULL, len);
}

int blk_write(struct vq *q, uint64_t sector, const void *buf, uint32_t len)
{
	return blk_rw(q, VIRTIO_BLK_T_OUT, sector, NULL, buf, len);
}

int blk_flush(struct vq *q)
{
	return blk_rw(q, VIRTIO_BLK_T_FLUSH, 0, NULL, NULL, 0);
}

int blk_ranges(struct vq *q, uint32_t type,
	       const struct virtio_blk_discard_write_zeroes *range,
	       unsigned int n)
{
	return blk_rw(q, type, 0, NULL, range, n * sizeof(*range));
}

void lay_out_read(struct vq *q)
{
	struct gmem *m = &q->dev->mem;
	struct virtio_blk_outhdr *hdr = gmem_alloc(m, 16, 16);
	struct vring_desc *desc = q->vr.desc;

	hdr->type = VIRTIO_BLK_T_IN;
	desc[0] = (struct vring_desc){ gmem_addr(m, hdr), 16,
				       VRING_DESC_F_NEXT, 1 };
	desc[1] = (struct vring_desc){ gmem_addr(m, gmem_alloc(m, 512, 512)),
				       512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2 };
	desc[2] = (struct vring_desc){ gmem_addr(m, gmem_alloc(m, 1, 1)), 1,
				       VRING_DESC_F_WRITE, 0 };
}

struct vring_desc *lay_out_indirect(struct vq *q)
{
	struct vring_desc *table = gmem_alloc(&q->dev->mem, 64 * 16, 16);

	lay_out_read(q);
	memcpy(table, q->vr.desc, 3 * sizeof(*table));
	q->vr.desc[0] = (struct vring_desc){ gmem_addr(&q->dev->mem, table),
					     48, VRING_DESC_F_INDIRECT, 0 };
	return table;
}

long guest_run(struct vq *q, struct req *r, unsigned int depth,
	       unsigned long total, unsigned int think_us)
{
	unsigned long done = 0, sent, signals = 0;
	struct req *back;
	uint64_t n, end;
	int err = 0;

	vq_listen(q);
	for (sent = 0; sent < depth; sent++) {
		if (req_add(q, &r[sent]) < 0)
			return -ENOSPC;
		vq_kick(q);
	}
	while (done < total) {
		end = now_ns() + 10000000000ULL;
		if (!vq_listen(q)) {
			while (!(n = eventfd_take(q->call)))
				if (now_ns() > end)
					return -ETIMEDOUT;
			signals += n;
		}
		while (done < total && (back = req_reap(q, &err))) {
			vq_listen(q);
			done++;
			if (back->status != VIRTIO_BLK_S_OK)
				return -EIO;
			if (sent >= total)
				continue;
			sent++;
			for (end = now_ns() + think_us * 1000ULL; now_ns() < end;)
				;
			if (req_add(q, back) < 0)
				return -ENOSPC;
			/* one by one, as they come from a guest's threads */
			vq_kick(q);
		}
		if (err)
			return err;
	}
	return signals;
}

long flushes_least_kicks(struct vq *q, long enough)
{
	long kicks, least = LONG_MAX;
	int i, j;

	for (i = 0; i < 10 && least > enough; i++) {
		kicks = q->kicks;
		for (j = 0; j < 200; j++)
			if (blk_flush(q))
				return LONG_MAX;
		kicks = q->kicks - kicks;
		least = kicks < least ? kicks : least;
	}
	return least;
}
