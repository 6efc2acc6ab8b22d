/* SPDX-License-Identifier: GPL-2.0 */
/* Many requests with little memory: a few reads, again and again. */
#ifndef VHOST_BLK_TEST_TRAFFIC_H
#define VHOST_BLK_TEST_TRAFFIC_H

#include "request.h"

#define LOAD_MAX 64	/* requests at most */

struct load {
	struct req r[LOAD_MAX];
	unsigned int n;
	unsigned long done, bad;
};

/* Queue @n reads of @len bytes, and kick; 0 or an error. */
int load_start(struct load *l, struct vq *q, unsigned int n, uint32_t len,
	       enum vq_mode mode);
/* Take what came back, and put it in again if @again. */
int load_turn(struct load *l, struct vq *q, bool again);
void load_free(struct load *l);

#endif
