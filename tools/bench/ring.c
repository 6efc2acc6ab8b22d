// SPDX-License-Identifier: GPL-2.0
/*
 * ring BACKEND PATH DEPTH IOS [WARMUP [MARKER]]: read 4 KiB blocks through a
 * virtqueue, DEPTH of them in flight, and print how long IOS of them took as a
 * line of JSON. See tools/bench/cost.
 *
 *	vhost-blk /dev/DISK	/dev/vhost-blk, in interrupt mode
 *	vhost-blk-pinned /dev/DISK	the same, with all memory pinned
 *	vhost-user SOCKET	a vhost-user-blk back end
 *	null -			none: what this program costs by itself
 *	io_uring /dev/DISK	no virtqueue: what the disk costs
 *	syscalls -		getppid(2), to find out what tracing costs
 *
 * The program behaves like a guest with one vCPU: it puts all it can into the
 * ring, notifies once, sleeps until it is signalled, and takes all there is.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "util.h"

#define MEM_SIZE	(8UL << 20)
#define RING_SIZE	256
#define TIMEOUT		120	/* seconds; a back end that hangs is an error */

struct io {
	struct virtio_blk_outhdr *hdr;
	uint8_t *status;
	struct vseg seg[3];
};

static bool is(const struct bench *b, const char *name)
{
	return !strcmp(b->backend, name);
}

static bool is_ours(const struct bench *b)
{
	return is(b, "vhost-blk") || is(b, "vhost-blk-pinned");
}

void bench_begin(struct bench *b)
{
	if (b->marker >= 0 && write(b->marker, "1", 1) != 1)
		perror("ring: marker");
	b->started = now_ns();
}

void bench_end(struct bench *b)
{
	b->ns = now_ns() - b->started;
	if (b->marker >= 0 && write(b->marker, "0", 1) != 1)
		perror("ring: marker");
}

static int mem_init(struct gmem *m)
{
	size_t size = 2 * GMEM_HALF + MEM_SIZE;
	int fd = memfd_create("guest", MFD_CLOEXEC);
	char *p;

	if (fd < 0 || ftruncate(fd, size))
		return -errno;
	/* With room for the guards, which gmem_free() gives back, too. */
	p = mmap(NULL, size + 2 * GMEM_GUARD, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	m->base = mmap(p + GMEM_GUARD, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE | MAP_FIXED, fd, 0);
	if (m->base == MAP_FAILED)
		return -errno;
	m->high = MEM_SIZE;
	return fd;
}

static int backend_open(struct vdev *d, const struct bench *b)
{
	int memfd = mem_init(&d->mem), r;
	uint32_t pin = 1;

	if (memfd < 0)
		return memfd;
	d->features = DRIVER_FEATURES & ~BIT64(VIRTIO_BLK_F_MQ);
	if (is(b, "vhost-user"))
		r = vhost_user_open(d, b->path, memfd);
	else if (is(b, "null"))
		r = null_open(d);
	else
		r = vhost_blk_open(d);
	if (!r)
		r = vdev_ioctl(d, VHOST_SET_OWNER, NULL);
	if (!r)
		r = vdev_ioctl(d, VHOST_SET_FEATURES, &d->features);
	if (!r)
		r = vdev_set_mem(d);
	if (!r && is(b, "vhost-blk-pinned"))
		r = vdev_ioctl(d, VHOST_BLK_PIN_MEMORY, &pin);
	return r;
}

int vhost_blk_open(struct vdev *d)
{
	d->fd = open(VHOST_BLK_DEV, O_RDWR | O_CLOEXEC);
	return d->fd < 0 ? -errno : 0;
}

static int ring_start(struct vdev *d, const struct bench *b, struct vq **q)
{
	int disk = 0, r;

	r = vq_setup(d, 0, RING_SIZE, q);
	if (r)
		return r;
	if (is_ours(b)) {
		disk = open(b->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		r = disk < 0 ? -errno : vdev_set_poll(d, 0, 0);
	}
	return r ?: vq_start(*q, disk);
}

static struct io *io_alloc(struct gmem *m, unsigned int depth)
{
	struct io *io = calloc(depth, sizeof(*io));
	unsigned int i;

	for (i = 0; io && i < depth; i++) {
		io[i].hdr = gmem_alloc(m, sizeof(*io[i].hdr), 16);
		io[i].status = gmem_alloc(m, 1, 16);
		io[i].hdr->type = VIRTIO_BLK_T_IN;
		io[i].seg[0] = (struct vseg) { gmem_addr(m, io[i].hdr),
					       sizeof(*io[i].hdr), false };
		io[i].seg[1] = (struct vseg) {
			gmem_addr(m, gmem_alloc(m, BENCH_IO, BENCH_IO)),
			BENCH_IO, true };
		io[i].seg[2] = (struct vseg) { gmem_addr(m, io[i].status), 1,
					       true };
	}
	return io;
}

static int io_add(struct vq *q, struct bench *b, struct io *io,
		  unsigned long nr)
{
	int head;

	io->hdr->sector = b->sector[nr % BENCH_SECTORS];
	*io->status = 0xee;
	head = vq_add(q, io->seg, 3, VQ_INDIRECT, io);
	return head < 0 ? head : 0;
}

/* Sleep until there is something in the used ring. */
static int ring_wait(struct vq *q, struct bench *b)
{
	struct pollfd p = { .fd = q->call, .events = POLLIN };
	uint64_t n;

	vring_used_event(&q->vr) = q->last_used;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	while (!vq_pending(q)) {
		b->waits++;
		if (is(b, "null"))
			null_serve(q);
		if (poll(&p, 1, -1) < 0 ||
		    read(q->call, &n, sizeof(n)) != sizeof(n))
			return -errno;
	}
	vring_used_event(&q->vr) = q->last_used - 1;
	return 0;
}

/* Take what has come, and put as many new requests in its place. */
static int ring_turn(struct vq *q, struct bench *b, unsigned long *issued,
		     unsigned long *done, unsigned long total)
{
	struct io *io;
	uint32_t len;
	void *cookie;
	int r;

	while ((r = vq_get(q, &cookie, &len)) == 1) {
		io = cookie;
		if (*io->status || len != BENCH_IO + 1) {
			fprintf(stderr, "ring: status %u, length %u\n",
				*io->status, len);
			return -EIO;
		}
		(*done)++;
		if (*issued < total) {
			r = io_add(q, b, io, (*issued)++);
			if (r)
				return r;
		}
	}
	return r;
}

static int ring_loop(struct vq *q, struct bench *b, struct io *io,
		     unsigned long total)
{
	unsigned long issued = 0, done = 0;
	int r;

	for (; issued < b->depth && issued < total; issued++) {
		r = io_add(q, b, &io[issued], issued);
		if (r)
			return r;
	}
	while (done < total) {
		vq_kick(q);
		r = ring_wait(q, b);
		if (!r)
			r = ring_turn(q, b, &issued, &done, total);
		if (r)
			return r;
	}
	return 0;
}

static int ring_run(struct bench *b)
{
	struct vdev d = { .fd = -1 };
	unsigned long kicks;
	struct io *io;
	struct vq *q;
	int r;

	r = backend_open(&d, b);
	if (!r)
		r = ring_start(&d, b, &q);
	if (r)
		return r;
	io = io_alloc(&d.mem, b->depth);
	if (!io)
		return -ENOMEM;
	r = ring_loop(q, b, io, b->warmup);
	if (r)
		return r;
	kicks = q->kicks;
	b->waits = 0;
	bench_begin(b);
	r = ring_loop(q, b, io, b->ios);
	bench_end(b);
	b->kicks = q->kicks - kicks;
	vq_stop(q);
	vdev_close(&d);
	return r;
}

static int syscalls_run(struct bench *b)
{
	unsigned long i;

	bench_begin(b);
	for (i = 0; i < b->ios; i++)
		syscall(SYS_getppid);
	bench_end(b);
	return 0;
}

/* Everywhere on the disk, in no order, the same each time. */
static int spread(struct bench *b)
{
	uint64_t bytes = 1 << 30;
	struct prng p = { .state = 1 };
	int fd, i;

	if (is_ours(b) || is(b, "io_uring")) {
		fd = open(b->path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes))
			return -errno;
		close(fd);
	}
	for (i = 0; i < BENCH_SECTORS; i++)
		b->sector[i] = prng_below(&p, bytes / BENCH_IO) *
			       (BENCH_IO / 512);
	return 0;
}

int main(int argc, char **argv)
{
	static struct bench b = { .marker = -1 };
	int r;

	if (argc < 5) {
		fprintf(stderr, "ring BACKEND PATH DEPTH IOS [WARMUP [MARKER]]\n");
		return 2;
	}
	b.backend = argv[1];
	b.path = argv[2];
	b.depth = strtoul(argv[3], NULL, 0);
	b.ios = strtoul(argv[4], NULL, 0);
	b.warmup = argc > 5 ? strtoul(argv[5], NULL, 0) : 0;
	if (argc > 6)
		b.marker = open(argv[6], O_WRONLY | O_CLOEXEC);
	if (!b.depth || b.depth > BENCH_MAX_DEPTH || !b.ios ||
	    (argc > 6 && b.marker < 0)) {
		fprintf(stderr, "ring: bad arguments\n");
		return 2;
	}
	alarm(TIMEOUT);
	r = spread(&b);
	if (!r)
		r = is(&b, "io_uring") ? uring_run(&b) :
		    is(&b, "syscalls") ? syscalls_run(&b) : ring_run(&b);
	if (r < 0) {
		fprintf(stderr, "ring: %s: %s\n", b.backend, strerror(-r));
		return 1;
	}
	printf("{\"backend\": \"%s\", \"depth\": %u, \"ios\": %lu, ",
	       b.backend, b.depth, b.ios);
	printf("\"ns\": %llu, \"kicks\": %lu, \"waits\": %lu}\n",
	       (unsigned long long)b.ns, b.kicks, b.waits);
	return 0;
}
