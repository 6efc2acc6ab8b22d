// SPDX-License-Identifier: GPL-2.0
/* Many requests with little memory, see traffic.h. */
#include <errno.h>
#include <string.h>

#include "traffic.h"

int load_start(struct load *l, struct vq *q, unsigned int n,
	       uint32_t len, enum vq_mode mode)
{
	static struct req_layout layout[3] = {
		{ .name = "direct" },
		{ .name = "indirect", .mode = VQ_INDIRECT },
		{ .name = "mixed", .mode = VQ_MIXED },
	};
	unsigned int i;
	int r;

	if (n > LOAD_MAX)
		return -ENOSPC;
	memset(l, 0, sizeof(*l));
	l->n = n;
	for (i = 0; i < n; i++) {
		req_init(&l->r[i], VIRTIO_BLK_T_IN, i * 8, len);
		l->r[i].layout = &layout[mode];
		r = req_build(&q->dev->mem, &l->r[i]);
		if (!r)
			r = req_add(q, &l->r[i]);
		if (r < 0)
			return r;
	}
	vq_kick(q);
	return 0;
}

int load_turn(struct load *l, struct vq *q, bool again)
{
	struct req *r;
	int err;

	while ((r = req_reap(q, &err))) {
		l->done++;
		l->bad += r->status != VIRTIO_BLK_S_OK;
		if (again) {
			err = req_add(q, r);
			if (err < 0)
				return err;
		}
	}
	if (again)
		vq_kick(q);
	return err;
}

void load_free(struct load *l)
{
	unsigned int i;

	for (i = 0; i < l->n; i++)
		req_free(&l->r[i]);
}
