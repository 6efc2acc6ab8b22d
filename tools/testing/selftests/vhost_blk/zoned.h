/* SPDX-License-Identifier: GPL-2.0 */
/* The zones of a disk as the host sees them, and a driver's requests to them. */
#ifndef VHOST_BLK_TEST_ZONED_H
#define VHOST_BLK_TEST_ZONED_H

#include <linux/blkzoned.h>

#include "blkdev.h"
#include "request.h"

#define ZONED_FEATURES	(DRIVER_FEATURES | BIT64(VIRTIO_BLK_F_ZONED))
#define MAX_ZONES	16
#define NOWHERE		(~0ULL)

struct zones {
	unsigned int nr;
	struct blk_zone z[MAX_ZONES];
};

/* What the host says of all zones. */
int host_report(const struct blkdev *b, struct zones *zones);
/* A command of the host's, BLK*ZONE. */
int host_zone(const struct blkdev *b, unsigned long cmd,
	      const struct blk_zone *z);
/* Empty every sequential zone, and undo read-only and offline. */
int host_reset(const struct blkdev *b);

/* A command without data; its status. */
int zone_cmd(struct vq *q, uint32_t type, uint64_t sector);
/* An append that is ready to be queued. */
int append_init(struct vq *q, struct req *r, uint64_t sector,
		const void *buf, uint32_t len,
		const struct req_layout *layout);
/* Where an append says it went; NOWHERE if that cannot be. */
uint64_t append_where(const struct req *r);
/* In one go; its status. */
int zone_append(struct vq *q, uint64_t sector, const void *buf,
		uint32_t len, uint64_t *where);
/* A report with room for @len bytes, into @buf; its status. */
int zone_report(struct vq *q, uint64_t sector, void *buf, uint32_t len,
		const struct req_layout *layout, uint32_t *used);

/* For the host, the zones of self->disk are as they were. */
#define EXPECT_UNCHANGED(z) do {						\
	struct zones _host;						\
	ASSERT_EQ(0, host_report(&self->disk, &_host));			\
	EXPECT_EQ(0, memcmp(&(z), &_host, sizeof(_host)));		\
} while (0)

#endif
