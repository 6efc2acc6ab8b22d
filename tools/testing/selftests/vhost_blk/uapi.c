// SPDX-License-Identifier: GPL-2.0
/*
 * The interface of /dev/vhost-blk: every ioctl, what it does and how it fails.
 * Documentation/userspace-api/vhost-blk.rst is the other half of this file.
 */
#include <grp.h>
#include <sys/socket.h>

#include "uapi.h"

#define OFFERED (BIT64(VIRTIO_F_NOTIFY_ON_EMPTY) |	\
		 BIT64(VIRTIO_F_ANY_LAYOUT) |		\
		 BIT64(VIRTIO_F_VERSION_1) |		\
		 BIT64(VIRTIO_F_ACCESS_PLATFORM) |	\
		 BIT64(VIRTIO_F_RING_RESET) |		\
		 BIT64(VIRTIO_RING_F_INDIRECT_DESC) |	\
		 BIT64(VIRTIO_RING_F_EVENT_IDX) |	\
		 BIT64(VIRTIO_BLK_F_SIZE_MAX) |		\
		 BIT64(VIRTIO_BLK_F_SEG_MAX) |		\
		 BIT64(VIRTIO_BLK_F_GEOMETRY) |		\
		 BIT64(VIRTIO_BLK_F_RO) |		\
		 BIT64(VIRTIO_BLK_F_BLK_SIZE) |		\
		 BIT64(VIRTIO_BLK_F_FLUSH) |		\
		 BIT64(VIRTIO_BLK_F_TOPOLOGY) |		\
		 BIT64(VIRTIO_BLK_F_CONFIG_WCE) |	\
		 BIT64(VIRTIO_BLK_F_MQ) |		\
		 BIT64(VIRTIO_BLK_F_DISCARD) |		\
		 BIT64(VIRTIO_BLK_F_WRITE_ZEROES) |	\
		 BIT64(VIRTIO_BLK_F_SECURE_ERASE) |	\
		 BIT64(VIRTIO_BLK_F_ZONED))

#define UNMAPPED_PTR ((void *)0x1000)

/* The kernel's number of this thread's memory, as zeroed as can be. */
union any_arg {
	struct vhost_vring_state state;
	struct vhost_vring_file file;
	struct vhost_vring_addr addr;
	struct vhost_vring_worker worker;
	struct vhost_worker_state worker_state;
	struct vhost_memory memory;
	struct vhost_blk_config config;
	struct vhost_blk_poll poll;
	struct vhost_blk_worker blk_worker;
	struct vhost_blk_limits limits;
	struct vhost_blk_stats stats;
	uint64_t u64;
	uint8_t pad[1024];
};

/* All that a driver of ours may call, and how. */
static const struct {
	const char *name;
	unsigned long req;
	bool indexed;	/* begins with the number of a ring */
	bool all;	/* VHOST_BLK_ALL_RINGS is fine */
	bool owner;	/* for the owner alone */
	bool arg;	/* takes a pointer */
} ioctls[] = {
#define IOC(name, ...) { #name, name, __VA_ARGS__ }
	/*				indexed	all	owner	arg */
	IOC(VHOST_GET_FEATURES,		false,	false,	false,	true),
	IOC(VHOST_SET_FEATURES,		false,	false,	true,	true),
	IOC(VHOST_GET_BACKEND_FEATURES,	false,	false,	false,	true),
	IOC(VHOST_SET_BACKEND_FEATURES,	false,	false,	true,	true),
	IOC(VHOST_RESET_OWNER,		false,	false,	true,	false),
	IOC(VHOST_SET_MEM_TABLE,	false,	false,	true,	true),
	IOC(VHOST_SET_VRING_NUM,	true,	false,	true,	true),
	IOC(VHOST_SET_VRING_BASE,	true,	false,	true,	true),
	IOC(VHOST_GET_VRING_BASE,	true,	false,	true,	true),
	IOC(VHOST_SET_VRING_ADDR,	true,	false,	true,	true),
	IOC(VHOST_SET_VRING_KICK,	true,	false,	true,	true),
	IOC(VHOST_SET_VRING_CALL,	true,	false,	true,	true),
	IOC(VHOST_SET_VRING_ERR,	true,	false,	true,	true),
	IOC(VHOST_SET_VRING_BUSYLOOP_TIMEOUT, true, false, true, true),
	IOC(VHOST_GET_VRING_BUSYLOOP_TIMEOUT, true, false, true, true),
	IOC(VHOST_NEW_WORKER,		false,	false,	true,	true),
	IOC(VHOST_FREE_WORKER,		false,	false,	true,	true),
	IOC(VHOST_ATTACH_VRING_WORKER,	true,	false,	true,	true),
	IOC(VHOST_GET_VRING_WORKER,	true,	false,	true,	true),
	IOC(VHOST_BLK_SET_BACKEND,	true,	false,	true,	true),
	IOC(VHOST_BLK_SET_CONFIG,	false,	false,	true,	true),
	IOC(VHOST_BLK_SET_POLL,		true,	true,	true,	true),
	IOC(VHOST_BLK_GET_POLL,		true,	false,	true,	true),
	IOC(VHOST_BLK_GET_WORKER,	true,	false,	true,	true),
	IOC(VHOST_BLK_GET_LIMITS,	false,	false,	false,	true),
	IOC(VHOST_BLK_GET_STATS,	true,	true,	true,	true),
	IOC(VHOST_BLK_SET_EVENT,	false,	false,	true,	true),
	IOC(VHOST_BLK_PIN_MEMORY,	false,	false,	true,	true),
	IOC(VHOST_BLK_SET_RINGS,	false,	false,	false,	true),
#undef IOC
};

#define EXPECT_IOCTL(i, want, got) EXPECT_EQ(want, got) {	\
	TH_LOG("in %s", ioctls[i].name);				\
}

/* Without an owner. */

FIXTURE(unowned) {
	struct vdev d;
};

FIXTURE_SETUP(unowned)
{
	self->d.fd = open(VHOST_BLK_DEV, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->d.fd);
}

FIXTURE_TEARDOWN(unowned)
{
	close(self->d.fd);
}

TEST_F(unowned, features_offered_are_exactly_these)
{
	uint64_t features = 0;

	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_GET_FEATURES, &features));
	EXPECT_EQ(OFFERED, features) {
		TH_LOG("missing 0x%llx, too many 0x%llx",
		       (unsigned long long)(OFFERED & ~features),
		       (unsigned long long)(features & ~OFFERED));
	}
}

TEST_F(unowned, everything_else_needs_an_owner)
{
	union any_arg arg;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ioctls); i++) {
		memset(&arg, 0, sizeof(arg));
		if (ioctls[i].owner)
			EXPECT_IOCTL(i, -EPERM, vdev_ioctl(&self->d, ioctls[i].req, &arg));
	}
}

TEST_F(unowned, limits_need_no_owner)
{
	struct vhost_blk_limits limits = {};
	struct blkdev disk;

	OPEN_DISK(&disk, BLKDEV_NULL_512);
	limits.fd = disk.fd;
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &limits));
	EXPECT_EQ(disk.sectors, limits.capacity);
}

TEST_F(unowned, one_owner_only)
{
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_OWNER, NULL));
	EXPECT_EQ(-EBUSY, vdev_ioctl(&self->d, VHOST_SET_OWNER, NULL));
}

TEST_F(unowned, kind_of_worker_is_chosen_before_there_is_an_owner)
{
	uint8_t kind = VHOST_FORK_OWNER_KTHREAD;

	if (vdev_ioctl(&self->d, VHOST_SET_FORK_FROM_OWNER, &kind) == -ENOTTY)
		SKIP(return, "workers of this kernel are tasks of the owner only");
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_GET_FORK_FROM_OWNER, &kind));
	EXPECT_EQ(VHOST_FORK_OWNER_KTHREAD, kind);
	kind = 2;
	EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_SET_FORK_FROM_OWNER, &kind));
	EXPECT_EQ(-EFAULT, vdev_ioctl(&self->d, VHOST_SET_FORK_FROM_OWNER, NULL));
	ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_OWNER, NULL));
	kind = VHOST_FORK_OWNER_TASK;
	EXPECT_EQ(-EBUSY, vdev_ioctl(&self->d, VHOST_SET_FORK_FROM_OWNER, &kind));
}

static int set_rings(const struct vdev *d, uint32_t n)
{
	return vdev_ioctl(d, VHOST_BLK_SET_RINGS, &n);
}

TEST_F(unowned, rings_are_fewer_if_that_is_said_before_there_is_an_owner)
{
	struct vhost_blk_poll poll = { .index = VHOST_BLK_ALL_RINGS };
	struct vhost_blk_stats stats = { .index = VHOST_BLK_ALL_RINGS };
	struct vhost_blk_worker worker = { .index = 1 };
	struct vdev *d = &self->d;

	EXPECT_EQ(-EINVAL, set_rings(d, 0));
	EXPECT_EQ(-EINVAL, set_rings(d, VHOST_BLK_MAX_RINGS + 1));
	EXPECT_EQ(-EINVAL, set_rings(d, 0xffffffff));
	EXPECT_EQ(0, set_rings(d, VHOST_BLK_MAX_RINGS));
	EXPECT_EQ(0, set_rings(d, 3));
	EXPECT_EQ(0, set_rings(d, 2));
	EXPECT_EQ(-EINVAL, set_rings(d, 3));
	EXPECT_EQ(0, vdev_shown(d, "reads"));
	ASSERT_EQ(0, vdev_ioctl(d, VHOST_SET_OWNER, NULL));
	EXPECT_EQ(-EBUSY, set_rings(d, 2));
	EXPECT_EQ(-EBUSY, set_rings(d, 1));
	EXPECT_EQ(0, vdev_state(d, VHOST_SET_VRING_NUM, 1, 64));
	EXPECT_EQ(-ENOBUFS, vdev_state(d, VHOST_SET_VRING_NUM, 2, 64));
	EXPECT_EQ(-ENOBUFS, vdev_file(d, VHOST_BLK_SET_BACKEND, 2, -1));
	EXPECT_EQ(0, vdev_ioctl(d, VHOST_BLK_SET_POLL, &poll));
	EXPECT_EQ(0, vdev_ioctl(d, VHOST_BLK_GET_STATS, &stats));
	EXPECT_EQ(0, vdev_ioctl(d, VHOST_BLK_GET_WORKER, &worker));
	poll.index = 2;
	stats.index = 2;
	worker.index = 2;
	EXPECT_EQ(-ENOBUFS, vdev_ioctl(d, VHOST_BLK_SET_POLL, &poll));
	EXPECT_EQ(-ENOBUFS, vdev_ioctl(d, VHOST_BLK_GET_POLL, &poll));
	EXPECT_EQ(-ENOBUFS, vdev_ioctl(d, VHOST_BLK_GET_STATS, &stats));
	EXPECT_EQ(-ENOBUFS, vdev_ioctl(d, VHOST_BLK_GET_WORKER, &worker));
	EXPECT_EQ(0, vdev_shown(d, "reads"));
	ASSERT_EQ(0, vdev_ioctl(d, VHOST_RESET_OWNER, NULL));
	EXPECT_EQ(-EBUSY, set_rings(d, 1));
}

static void *read_counters(void *arg)
{
	const struct vdev *d = arg;
	unsigned long n = 0;

	/* Until the last one is closed. */
	while (READ_ONCE(d->fd) != -2)
		n += vdev_shown(d, "reads") == 0;
	return (void *)n;
}

/* A counter that is looked at needs its ring. */
TEST_F(unowned, rings_go_while_somebody_looks_at_counters)
{
	unsigned long i, n = test_scale(300);
	pthread_t reader;
	void *looks;

	ASSERT_EQ(0, pthread_create(&reader, NULL, read_counters, &self->d));
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, set_rings(&self->d, 1 + i % 3));
		if (i % 2)
			ASSERT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_OWNER, NULL));
		close(self->d.fd);
		WRITE_ONCE(self->d.fd, open(VHOST_BLK_DEV, O_RDWR | O_CLOEXEC));
		ASSERT_LE(0, self->d.fd);
	}
	close(self->d.fd);
	WRITE_ONCE(self->d.fd, -2);
	ASSERT_EQ(0, pthread_join(reader, &looks));
	EXPECT_NE(NULL, looks);
}

TEST_F(unowned, read_and_write_are_refused)
{
	char buf[64] = {};

	EXPECT_EQ(-1, read(self->d.fd, buf, sizeof(buf)));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, write(self->d.fd, buf, sizeof(buf)));
	EXPECT_EQ(EPERM, errno);
}

TEST_F(unowned, opened_by_root_alone)
{
	pid_t pid = fork();
	int status;

	ASSERT_LE(0, pid);
	if (!pid) {
		if (setgroups(0, NULL) || setgid(65534) || setuid(65534))
			_exit(2);
		_exit(open(VHOST_BLK_DEV, O_RDWR) < 0 && errno == EACCES ? 0 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(uapi, ring_numbers_out_of_range_are_enobufs)
{
	static const unsigned int bad[] = {
		VHOST_BLK_MAX_RINGS, VHOST_BLK_MAX_RINGS + 1, 0x7fffffff,
		0x80000000, 0xfffffffe, VHOST_BLK_ALL_RINGS,
	};
	union any_arg arg;
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(ioctls); i++) {
		for (j = 0; j < ARRAY_SIZE(bad); j++) {
			if (!ioctls[i].indexed ||
			    (ioctls[i].all && bad[j] == VHOST_BLK_ALL_RINGS))
				continue;
			memset(&arg, 0, sizeof(arg));
			arg.state.index = bad[j];
			EXPECT_IOCTL(i, -ENOBUFS, vdev_ioctl(&self->d, ioctls[i].req, &arg));
		}
	}
}

TEST_F(uapi, unreadable_arguments_are_efault)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ioctls); i++) {
		/* this one makes the worker first: nothing to read */
		if (!ioctls[i].arg || ioctls[i].req == VHOST_NEW_WORKER)
			continue;
		EXPECT_IOCTL(i, -EFAULT, vdev_ioctl(&self->d, ioctls[i].req, NULL));
		EXPECT_IOCTL(i, -EFAULT, vdev_ioctl(&self->d, ioctls[i].req, UNMAPPED_PTR));
	}
}

TEST_F(uapi, unknown_ioctls_are_enotty)
{
	static const unsigned long unknown[] = {
		_IOW(VHOST_VIRTIO, 0x5f, struct vhost_blk_stats),
		_IOW(VHOST_VIRTIO, 0x57, struct vhost_vring_file),
		/* known number, but the size or the direction differs */
		_IOW(VHOST_VIRTIO, 0x50, struct vhost_blk_stats),
		_IOR(VHOST_VIRTIO, 0x50, struct vhost_vring_file),
		VHOST_NET_SET_BACKEND, VHOST_VSOCK_SET_RUNNING, VHOST_SCSI_SET_ENDPOINT,
		_IO('x', 0),
	};
	union any_arg arg;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(unknown); i++) {
		memset(&arg, 0, sizeof(arg));
		EXPECT_EQ(-ENOTTY, vdev_ioctl(&self->d, unknown[i], &arg)) {
			TH_LOG("ioctl 0x%lx", unknown[i]);
		}
	}
}

TEST_F(uapi, another_process_is_not_the_owner)
{
	union any_arg arg;
	unsigned int i;
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		for (i = 0; i < ARRAY_SIZE(ioctls); i++) {
			memset(&arg, 0, sizeof(arg));
			if (ioctls[i].owner &&
			    vdev_ioctl(&self->d, ioctls[i].req, &arg) != -EPERM)
				_exit(1 + i);
		}
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status)) {
		TH_LOG("%s", ioctls[WEXITSTATUS(status) - 1].name);
	}
}

TEST_F(uapi, features_not_offered_are_eopnotsupp)
{
	uint64_t features;
	unsigned int i;

	for (i = 0; i < 64; i++) {
		features = BIT64(i);
		EXPECT_EQ(OFFERED & BIT64(i) ? 0 : -EOPNOTSUPP,
			  vdev_ioctl(&self->d, VHOST_SET_FEATURES, &features)) {
			TH_LOG("feature bit %u", i);
		}
	}
	features = OFFERED;
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_FEATURES, &features));
}

TEST_F(uapi, features_are_fixed_while_a_ring_runs)
{
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(-EBUSY, vdev_ioctl(&self->d, VHOST_SET_FEATURES,
				     &self->d.features));
	ASSERT_EQ(0, vq_stop(self->q));
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_SET_FEATURES,
				&self->d.features));
}

/* What a backend may not be: errors of SET_BACKEND and GET_LIMITS alike. */
#define EXPECT_NO_BACKEND(err, f) do {					\
	struct vhost_blk_limits _limits = { .fd = f };			\
	EXPECT_EQ(err, vq_start(self->q, f));				\
	EXPECT_EQ(err, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &_limits)); \
} while (0)

TEST_F(uapi, a_file_without_direct_io_is_eopnotsupp)
{
	int fd;

	fd = memfd_create("image", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 1 << 20));
	EXPECT_NO_BACKEND(-EOPNOTSUPP, fd);
	close(fd);
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

TEST_F(uapi, a_backend_that_is_no_disk_is_enotblk)
{
	int pipes[2], pair[2], fd;

	fd = open("/", O_RDONLY | O_DIRECTORY);
	ASSERT_LE(0, fd);
	EXPECT_NO_BACKEND(-ENOTBLK, fd);
	close(fd);

	fd = open("/dev/null", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_NO_BACKEND(-ENOTBLK, fd);
	close(fd);

	ASSERT_EQ(0, pipe(pipes));
	EXPECT_NO_BACKEND(-ENOTBLK, pipes[0]);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	EXPECT_NO_BACKEND(-ENOTBLK, pair[0]);
	EXPECT_NO_BACKEND(-ENOTBLK, self->d.fd);
	EXPECT_NO_BACKEND(-ENOTBLK, self->q->kick);
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
}

TEST_F(uapi, a_backend_that_is_closed_or_unreadable_is_ebadf)
{
	struct vhost_blk_limits limits = { .fd = -1 };
	int fd;

	fd = dup(self->disk.fd);
	close(fd);
	EXPECT_NO_BACKEND(-EBADF, fd);
	EXPECT_NO_BACKEND(-EBADF, 1 << 20);
	EXPECT_NO_BACKEND(-EBADF, -3);
	EXPECT_EQ(-EBADF, vdev_ioctl(&self->d, VHOST_BLK_GET_LIMITS, &limits));

	fd = open(self->disk.path, O_WRONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBADF, vq_start(self->q, fd));
	close(fd);

	fd = open(self->disk.path, O_PATH);
	ASSERT_LE(0, fd);
	EXPECT_NO_BACKEND(-EBADF, fd);
	close(fd);
}

TEST_F(uapi, a_ring_that_runs_refuses_another_backend)
{
	struct blkdev other;

	OPEN_DISK(&other, BLKDEV_NULL_4K);
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(-EBUSY, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(-EBUSY, vq_start(self->q, other.fd));
	/* the other ring may have another disk */
	EXPECT_EQ(0, vq_start(self->q1, other.fd));
	ASSERT_EQ(0, vq_stop(self->q));
	EXPECT_EQ(0, vq_start(self->q, other.fd));
	EXPECT_EQ(0, blk_flush(self->q));
}

TEST_F(uapi, stopping_an_idle_or_unknown_ring_is_fine)
{
	EXPECT_EQ(0, vq_stop(self->q));
	EXPECT_EQ(0, vq_stop(self->q));
	EXPECT_EQ(0, vdev_file(&self->d, VHOST_BLK_SET_BACKEND, 63, -1));
}

TEST_F(uapi, the_disk_stays_open_while_attached)
{
	int fd = open(self->disk.path, O_RDWR);
	int refs = module_refs("null_blk");
	char buf[512];

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vq_start(self->q, fd));
	close(fd);
	EXPECT_EQ(0, blk_read(self->q, 0, buf, sizeof(buf)));
	EXPECT_EQ(refs, module_refs("null_blk"));
	ASSERT_EQ(0, vq_stop(self->q));
	EXPECT_EQ(refs - 1, module_refs_settle("null_blk", refs - 1, 1000));
}

TEST_F(uapi, ring_sizes_are_powers_of_two_up_to_1024)
{
	static const unsigned int bad[] = {
		0, 3, 5, 12, 100, 1023, 1025, 2048, 32768, 65535, 65536, 1U << 31,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_EQ(-EINVAL, vdev_state(&self->d, VHOST_SET_VRING_NUM,
					      0, bad[i])) {
			TH_LOG("ring size %u", bad[i]);
		}
	for (i = 1; i <= VHOST_BLK_MAX_RING_SIZE; i *= 2)
		EXPECT_EQ(0, vdev_state(&self->d, VHOST_SET_VRING_NUM, 0, i)) {
			TH_LOG("ring size %u", i);
		}
}

TEST_F(uapi, size_and_base_are_fixed_while_the_ring_runs)
{
	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(-EBUSY, vdev_state(&self->d, VHOST_SET_VRING_NUM, 0, 64));
	EXPECT_EQ(-EBUSY, vdev_state(&self->d, VHOST_SET_VRING_BASE, 0, 0));
	EXPECT_EQ(0, vq_base(self->q));
	EXPECT_EQ(0, vdev_state(&self->d, VHOST_SET_VRING_NUM, 2, 64));
}

TEST_F(uapi, a_base_beyond_16_bits_is_einval)
{
	EXPECT_EQ(-EINVAL, vdev_state(&self->d, VHOST_SET_VRING_BASE, 0, 65536));
	EXPECT_EQ(0, vdev_state(&self->d, VHOST_SET_VRING_BASE, 0, 65535));
	EXPECT_EQ(65535, vq_base(self->q));
}

static int set_addr(struct vdev *d, unsigned int index, uint64_t desc,
		    uint64_t avail, uint64_t used, unsigned int flags)
{
	struct vhost_vring_addr addr = {
		.index = index, .flags = flags, .desc_user_addr = desc,
		.avail_user_addr = avail, .used_user_addr = used,
	};

	return vdev_ioctl(d, VHOST_SET_VRING_ADDR, &addr);
}

TEST_F(uapi, a_ring_never_set_up_is_efault)
{
	EXPECT_EQ(-EFAULT, vdev_file(&self->d, VHOST_BLK_SET_BACKEND, 2,
				     self->disk.fd));
	/* size alone does not help */
	EXPECT_EQ(0, vdev_state(&self->d, VHOST_SET_VRING_NUM, 2, 64));
	EXPECT_EQ(-EFAULT, vdev_file(&self->d, VHOST_BLK_SET_BACKEND, 2,
				     self->disk.fd));
}

TEST_F(uapi, a_ring_in_unmapped_memory_is_efault)
{
	const uint64_t hole = 0x10000, kernel = 0xffff888000000000ULL;
	uint64_t desc = (uintptr_t)self->q->vr.desc;
	uint64_t avail = (uintptr_t)self->q->vr.avail;
	uint64_t used = (uintptr_t)self->q->vr.used;

	ASSERT_EQ(0, set_addr(&self->d, 0, desc, avail, hole, 0));
	EXPECT_EQ(-EFAULT, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, set_addr(&self->d, 0, desc, avail, kernel, 0));
	EXPECT_EQ(-EFAULT, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, set_addr(&self->d, 0, desc, kernel, used, 0));
	EXPECT_EQ(-EFAULT, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, set_addr(&self->d, 0, kernel, avail, used, 0));
	EXPECT_EQ(-EFAULT, vq_start(self->q, self->disk.fd));
	/* and it works once that is put right */
	ASSERT_EQ(0, set_addr(&self->d, 0, desc, avail, used, 0));
	EXPECT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(0, blk_flush(self->q));
}

TEST_F(uapi, a_ring_in_read_only_memory_is_efault)
{
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, set_addr(&self->d, 0, (uintptr_t)self->q->vr.desc,
			      (uintptr_t)self->q->vr.avail, (uintptr_t)page, 0));
	EXPECT_EQ(-EFAULT, vq_start(self->q, self->disk.fd));
}

TEST_F(uapi, misaligned_rings_and_unknown_flags_are_refused)
{
	uint64_t desc = (uintptr_t)self->q->vr.desc;
	uint64_t avail = (uintptr_t)self->q->vr.avail;
	uint64_t used = (uintptr_t)self->q->vr.used;

	EXPECT_EQ(-EINVAL, set_addr(&self->d, 0, desc, avail + 1, used, 0));
	EXPECT_EQ(-EINVAL, set_addr(&self->d, 0, desc, avail, used + 2, 0));
	EXPECT_EQ(-EOPNOTSUPP, set_addr(&self->d, 0, desc, avail, used, 2));
}

TEST_F(uapi, a_ring_without_memory_table_is_efault)
{
	struct vdev d = {};

	d.fd = open(VHOST_BLK_DEV, O_RDWR);
	ASSERT_LE(0, d.fd);
	ASSERT_EQ(0, vdev_ioctl(&d, VHOST_SET_OWNER, NULL));
	ASSERT_EQ(0, vdev_state(&d, VHOST_SET_VRING_NUM, 0, 128));
	ASSERT_EQ(0, set_addr(&d, 0, (uintptr_t)self->q->vr.desc,
			      (uintptr_t)self->q->vr.avail,
			      (uintptr_t)self->q->vr.used, 0));
	EXPECT_EQ(-EFAULT, vdev_file(&d, VHOST_BLK_SET_BACKEND, 0,
				     self->disk.fd));
	close(d.fd);
}

TEST_F(uapi, bad_memory_tables_are_refused)
{
	struct {
		struct vhost_memory m;
		struct vhost_memory_region region[2];
	} table = {
		.m.nregions = 1, .m.padding = 1,
		.region[0] = { .memory_size = 4096, .userspace_addr = 4096 },
	};

	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	EXPECT_EQ(-EOPNOTSUPP, vdev_ioctl(&self->d, VHOST_SET_MEM_TABLE, &table));
	table.m.padding = 0;
	table.m.nregions = 0xffffffff;
	EXPECT_EQ(-E2BIG, vdev_ioctl(&self->d, VHOST_SET_MEM_TABLE, &table));
	table.m.nregions = 1;
	table.region[0].userspace_addr = 0xffff888000000000ULL;
	EXPECT_EQ(-EFAULT, vdev_ioctl(&self->d, VHOST_SET_MEM_TABLE, &table));
	/* the old one still holds */
	EXPECT_EQ(0, blk_flush(self->q));
}

TEST_F(uapi, only_eventfds_signal)
{
	static const unsigned long req[] = {
		VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(req); i++) {
		EXPECT_EQ(-EINVAL, vdev_file(&self->d, req[i], 0, self->disk.fd));
		EXPECT_EQ(-EBADF, vdev_file(&self->d, req[i], 0, 1 << 20));
		EXPECT_EQ(0, vdev_file(&self->d, req[i], 0, VHOST_FILE_UNBIND));
		EXPECT_EQ(0, vdev_file(&self->d, req[i], 0, VHOST_FILE_UNBIND));
	}
}

TEST_F(uapi, only_eventfds_tell_of_events)
{
	int fd = self->disk.fd;

	EXPECT_EQ(-EINVAL, vdev_ioctl(&self->d, VHOST_BLK_SET_EVENT, &fd));
	fd = 1 << 20;
	EXPECT_EQ(-EBADF, vdev_ioctl(&self->d, VHOST_BLK_SET_EVENT, &fd));
	fd = -1;
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_EVENT, &fd));
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_EVENT, &fd));
	fd = self->q1->call;
	EXPECT_EQ(0, vdev_ioctl(&self->d, VHOST_BLK_SET_EVENT, &fd));
}

TEST_F(uapi, reset_owner_starts_from_nothing)
{
	struct vdev *d = &self->d;
	struct vq *q;

	ASSERT_EQ(0, vq_start(self->q, self->disk.fd));
	ASSERT_EQ(0, blk_flush(self->q));
	ASSERT_EQ(0, vdev_ioctl(d, VHOST_RESET_OWNER, NULL));
	EXPECT_EQ(-EPERM, vdev_set_mem(d));
	ASSERT_EQ(0, vdev_ioctl(d, VHOST_SET_OWNER, NULL));
	EXPECT_EQ(-EFAULT, vdev_file(d, VHOST_BLK_SET_BACKEND, 0, self->disk.fd));
	ASSERT_EQ(0, vdev_ioctl(d, VHOST_SET_FEATURES, &d->features));
	ASSERT_EQ(0, vdev_set_mem(d));
	ASSERT_EQ(0, vq_setup(d, 0, 64, &q));
	ASSERT_EQ(0, vq_start(q, self->disk.fd));
	EXPECT_EQ(0, blk_flush(q));
}

SUITE_MAIN
