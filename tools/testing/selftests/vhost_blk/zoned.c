// SPDX-License-Identifier: GPL-2.0
/* Zones as the host and a driver see them, see zoned.h. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "zoned.h"

int host_report(const struct blkdev *b, struct zones *zones)
{
	struct {
		struct blk_zone_report head;
		struct blk_zone z[MAX_ZONES];
	} rep = { .head.nr_zones = MAX_ZONES };

	if (ioctl(b->check, BLKREPORTZONE, &rep))
		return -errno;
	memset(zones, 0, sizeof(*zones));
	zones->nr = rep.head.nr_zones;
	memcpy(zones->z, rep.z, zones->nr * sizeof(rep.z[0]));
	return 0;
}

int host_zone(const struct blkdev *b, unsigned long cmd,
	      const struct blk_zone *z)
{
	struct blk_zone_range range = { z->start, z->len };

	return ioctl(b->check, cmd, &range) ? -errno : 0;
}

int host_reset(const struct blkdev *b)
{
	struct blk_zone_range all = { 0, b->sectors };
	struct zones zones;
	unsigned int i;
	int r;

	r = host_report(b, &zones);
	for (i = 0; i < zones.nr && !r; i++) {
		if (zones.z[i].cond == BLK_ZONE_COND_READONLY)
			r = blkdev_configure(b, "zone_readonly", zones.z[i].start);
		else if (zones.z[i].cond == BLK_ZONE_COND_OFFLINE)
			r = blkdev_configure(b, "zone_offline", zones.z[i].start);
	}
	if (!r && ioctl(b->check, BLKRESETZONE, &all))
		r = -errno;
	return r;
}

int zone_cmd(struct vq *q, uint32_t type, uint64_t sector)
{
	struct req r;
	int n;

	req_init(&r, type, sector, 0);
	n = req_build(&q->dev->mem, &r);
	if (!n)
		n = req_run(q, &r);
	if (!n)
		n = r.used_len == 1 && req_guards_intact(&r) ? r.status : -EPROTO;
	req_free(&r);
	return n;
}

int append_init(struct vq *q, struct req *r, uint64_t sector,
		const void *buf, uint32_t len,
		const struct req_layout *layout)
{
	int n;

	req_init(r, VIRTIO_BLK_T_ZONE_APPEND, sector, len);
	r->data = REQ_DATA_OUT;
	r->back = 8;
	r->layout = layout;
	n = req_build(&q->dev->mem, r);
	if (!n)
		req_put_data(r, buf);
	return n;
}

uint64_t append_where(const struct req *r)
{
	uint64_t where;

	req_get_back(r, &where);
	return r->used_len == 9 && req_guards_intact(r) ? where : NOWHERE;
}

int zone_append(struct vq *q, uint64_t sector, const void *buf,
		uint32_t len, uint64_t *where)
{
	struct req r;
	int n;

	n = append_init(q, &r, sector, buf, len, &layout_plain);
	if (!n)
		n = req_run(q, &r);
	if (!n) {
		*where = append_where(&r);
		n = r.status;
	}
	req_free(&r);
	return n;
}

int zone_report(struct vq *q, uint64_t sector, void *buf, uint32_t len,
		const struct req_layout *layout, uint32_t *used)
{
	struct req r;
	int n;

	req_init(&r, VIRTIO_BLK_T_ZONE_REPORT, sector, len);
	r.data = len ? REQ_DATA_IN : REQ_DATA_NONE;
	r.layout = layout;
	n = req_build(&q->dev->mem, &r);
	if (!n)
		n = req_run(q, &r);
	if (!n) {
		req_get_data(&r, buf);
		*used = r.used_len - 1;
		n = req_guards_intact(&r) ? r.status : -EPROTO;
	}
	req_free(&r);
	return n;
}
