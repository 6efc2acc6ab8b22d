/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ring driver of make bench-cost: the same requests to each back end.
 */
#ifndef VHOST_BLK_BENCH_H
#define VHOST_BLK_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "vring.h"

#define BENCH_IO	4096	/* bytes of a request */
#define BENCH_MAX_DEPTH	128
#define BENCH_SECTORS	4096	/* entries of bench.sector; a power of two */

/**
 * struct bench - what to measure, and what came out
 * @backend:	"vhost-blk", "vhost-user", "null" or "io_uring"
 * @path:	the disk; the socket for "vhost-user"
 * @depth:	requests in flight
 * @ios:	how many to measure
 * @warmup:	how many before that
 * @sector:	where the requests go to, one after the other
 * @marker:	a file that is told (1, 0) when the measurement begins and ends;
 *		-1: none
 * @ns:		how long it took
 * @kicks:	notifications to the back end meanwhile
 * @waits:	times that there was nothing to do but to wait
 * @started:	CLOCK_MONOTONIC at the beginning
 */
struct bench {
	const char *backend;
	const char *path;
	unsigned int depth;
	unsigned long ios;
	unsigned long warmup;
	uint64_t sector[BENCH_SECTORS];
	int marker;
	uint64_t ns;
	unsigned long kicks;
	unsigned long waits;
	uint64_t started;
};

void bench_begin(struct bench *b);
void bench_end(struct bench *b);

/*
 * Back ends for vring.c. @memfd is the file behind d->mem, which the caller
 * has set up. 0 or a negative errno.
 */
int vhost_blk_open(struct vdev *d);
int vhost_user_open(struct vdev *d, const char *path, int memfd);
int null_open(struct vdev *d);
/* Do the work of the null back end: hand all requests back at once. */
void null_serve(struct vq *q);

/* The floor: the same requests by io_uring, with no ring between. */
int uring_run(struct bench *b);

#endif
