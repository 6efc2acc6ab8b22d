// SPDX-License-Identifier: GPL-2.0
/*
 * The master's side of vhost-user, as far as a block device needs it to serve
 * one ring: the ioctls of vhost as messages, as docs/interop/vhost-user.rst of
 * QEMU describes them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench.h"
#include "util.h"

enum {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_SET_MEM_TABLE = 5,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_SET_VRING_ENABLE = 18,
};

#define VU_VERSION		1
#define VU_F_PROTOCOL_FEATURES	BIT64(30)
#define VU_REGIONS		3	/* as vring.c lays out its memory */

struct vu_region {
	uint64_t guest, size, ours, offset;
};

struct vu_msg {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct {
			uint32_t n, padding;
			struct vu_region region[VU_REGIONS];
		} mem;
	};
} __attribute__((packed));

#define VU_HEADER	12

/* There is one, and struct vdev has no room for it. */
static int vu_memfd = -1;

static int vu_send(int sock, struct vu_msg *m, const int *fds, unsigned int n)
{
	char control[CMSG_SPACE(VU_REGIONS * sizeof(int))] = {};
	struct iovec iov = { m, VU_HEADER + m->size };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	m->flags = VU_VERSION;
	if (n) {
		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	return sendmsg(sock, &h, 0) == (ssize_t)iov.iov_len ? 0 : -EIO;
}

/* Send @m, which has no payload or one of @size bytes; take the answer. */
static int vu_ask(int sock, struct vu_msg *m, uint32_t request, uint32_t size)
{
	ssize_t n;
	int r;

	m->request = request;
	m->size = size;
	r = vu_send(sock, m, NULL, 0);
	if (r)
		return r;
	n = recv(sock, m, VU_HEADER, MSG_WAITALL);
	if (n != VU_HEADER || m->request != request ||
	    m->size > sizeof(*m) - VU_HEADER)
		return -EPROTO;
	n = recv(sock, &m->u64, m->size, MSG_WAITALL);
	return n == m->size ? 0 : -EPROTO;
}

static int vu_u64(int sock, uint32_t request, uint64_t value)
{
	struct vu_msg m = { .request = request, .size = 8, .u64 = value };

	return vu_send(sock, &m, NULL, 0);
}

static int vu_features(int sock, uint64_t features)
{
	struct vu_msg m = {};
	int r;

	r = vu_ask(sock, &m, VU_GET_FEATURES, 0);
	if (r)
		return r;
	features |= VU_F_PROTOCOL_FEATURES;
	if (features & ~m.u64) {
		fprintf(stderr, "ring: the back end lacks features %#llx\n",
			(unsigned long long)(features & ~m.u64));
		return -EOPNOTSUPP;
	}
	r = vu_ask(sock, &m, VU_GET_PROTOCOL_FEATURES, 0);
	if (!r)
		r = vu_u64(sock, VU_SET_PROTOCOL_FEATURES, 0);
	return r ?: vu_u64(sock, VU_SET_FEATURES, features);
}

static int vu_mem_table(int sock, const struct vdev *d,
			const struct vhost_memory *table)
{
	struct vu_msg m = { .request = VU_SET_MEM_TABLE,
			    .size = sizeof(m.mem),
			    .mem.n = VU_REGIONS };
	int fds[VU_REGIONS];
	unsigned int i;

	for (i = 0; i < VU_REGIONS; i++) {
		m.mem.region[i] = (struct vu_region) {
			.guest = table->regions[i].guest_phys_addr,
			.size = table->regions[i].memory_size,
			.ours = table->regions[i].userspace_addr,
			.offset = table->regions[i].userspace_addr -
				  (uintptr_t)d->mem.base,
		};
		fds[i] = vu_memfd;
	}
	return vu_send(sock, &m, fds, VU_REGIONS);
}

static int vu_state(int sock, uint32_t request,
		    const struct vhost_vring_state *state)
{
	struct vu_msg m = { .request = request, .size = sizeof(*state),
			    .state = *state };

	return vu_send(sock, &m, NULL, 0);
}

static int vu_file(int sock, uint32_t request,
		   const struct vhost_vring_file *file)
{
	struct vu_msg m = { .request = request, .size = 8, .u64 = file->index };

	return vu_send(sock, &m, &file->fd, 1);
}

/* A ring is started by enabling it; the answer tells that all was done. */
static int vu_enable(int sock, const struct vhost_vring_file *file)
{
	struct vhost_vring_state state = { .index = file->index,
					   .num = file->fd >= 0 };
	struct vu_msg m = {};
	int r;

	r = vu_state(sock, VU_SET_VRING_ENABLE, &state);
	return r ?: vu_ask(sock, &m, VU_GET_FEATURES, 0);
}

static int vu_addr(int sock, const struct vhost_vring_addr *addr)
{
	struct vu_msg m = { .request = VU_SET_VRING_ADDR,
			    .size = sizeof(*addr), .addr = *addr };

	return vu_send(sock, &m, NULL, 0);
}

static int vu_ioctl(const struct vdev *d, unsigned long req, void *arg)
{
	switch (req) {
	case VHOST_SET_OWNER:
		return vu_send(d->fd, &(struct vu_msg){ .request = VU_SET_OWNER },
			       NULL, 0);
	case VHOST_SET_FEATURES:
		return vu_features(d->fd, *(uint64_t *)arg);
	case VHOST_SET_MEM_TABLE:
		return vu_mem_table(d->fd, d, arg);
	case VHOST_SET_VRING_NUM:
		return vu_state(d->fd, VU_SET_VRING_NUM, arg);
	case VHOST_SET_VRING_BASE:
		return vu_state(d->fd, VU_SET_VRING_BASE, arg);
	case VHOST_SET_VRING_ADDR:
		return vu_addr(d->fd, arg);
	case VHOST_SET_VRING_KICK:
		return vu_file(d->fd, VU_SET_VRING_KICK, arg);
	case VHOST_SET_VRING_CALL:
		return vu_file(d->fd, VU_SET_VRING_CALL, arg);
	case VHOST_SET_VRING_ERR:
		return vu_file(d->fd, VU_SET_VRING_ERR, arg);
	case VHOST_BLK_SET_BACKEND:
		return vu_enable(d->fd, arg);
	}
	return -ENOTTY;
}

int vhost_user_open(struct vdev *d, const char *path, int memfd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	vu_memfd = memfd;
	d->ioctl = vu_ioctl;
	d->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (d->fd < 0 ||
	    connect(d->fd, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	return 0;
}
