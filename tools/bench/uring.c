// SPDX-License-Identifier: GPL-2.0
/*
 * The floor of make bench-cost: what a program pays that reads from the disk
 * itself, in the cheapest way there is without polling.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

static int uring_setup(struct io_uring *ring, const struct bench *b,
		       struct iovec *buffer)
{
	int fd = open(b->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	buffer->iov_len = (size_t)b->depth * BENCH_IO;
	buffer->iov_base = mmap(NULL, buffer->iov_len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1,
				0);
	if (buffer->iov_base == MAP_FAILED)
		return -errno;
	r = io_uring_queue_init(BENCH_MAX_DEPTH, ring,
				IORING_SETUP_SINGLE_ISSUER |
				IORING_SETUP_DEFER_TASKRUN);
	if (!r)
		r = io_uring_register_files(ring, &fd, 1);
	if (!r)
		r = io_uring_register_buffers(ring, buffer, 1);
	return r;
}

static void uring_add(struct io_uring *ring, struct bench *b, unsigned long nr,
		      unsigned int slot, const struct iovec *buffer)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_read_fixed(sqe, 0, (char *)buffer->iov_base +
				 (size_t)slot * BENCH_IO, BENCH_IO,
				 b->sector[nr % BENCH_SECTORS] * 512, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = slot;
}

/* Take what has come, and put as many new requests in its place. */
static int uring_turn(struct io_uring *ring, struct bench *b,
		      unsigned long *issued, unsigned long *done,
		      unsigned long total, const struct iovec *buffer)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;

	io_uring_for_each_cqe(ring, head, cqe) {
		n++;
		if (cqe->res != BENCH_IO) {
			fprintf(stderr, "ring: a read returned %d\n", cqe->res);
			return -EIO;
		}
		if (*issued < total)
			uring_add(ring, b, (*issued)++, cqe->user_data, buffer);
	}
	io_uring_cq_advance(ring, n);
	*done += n;
	return 0;
}

static int uring_loop(struct io_uring *ring, struct bench *b,
		      unsigned long total, const struct iovec *buffer)
{
	unsigned long issued = 0, done = 0;
	int r;

	while (issued < b->depth && issued < total) {
		uring_add(ring, b, issued, issued, buffer);
		issued++;
	}
	while (done < total) {
		r = io_uring_submit_and_wait(ring, 1);
		if (r < 0)
			return r;
		b->waits++;
		r = uring_turn(ring, b, &issued, &done, total, buffer);
		if (r)
			return r;
	}
	return 0;
}

int uring_run(struct bench *b)
{
	struct io_uring ring;
	struct iovec buffer;
	int r;

	r = uring_setup(&ring, b, &buffer);
	if (!r)
		r = uring_loop(&ring, b, b->warmup, &buffer);
	if (r)
		return r;
	bench_begin(b);
	b->waits = 0;
	r = uring_loop(&ring, b, b->ios, &buffer);
	bench_end(b);
	return r;
}
