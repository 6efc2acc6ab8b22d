/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks whose device is a process of ours: the kernel's virtio_blk drives a
 * VDUSE device. They can what no other disk here can: they are told to erase
 * securely.
 *
 * Each takes at most VDUSE_RANGE_SECTORS in one range and VDUSE_SEGS ranges in
 * one request, and erases in units of VDUSE_ERASE_ALIGN sectors.
 */
#ifndef VHOST_BLK_TEST_VDUSE_H
#define VHOST_BLK_TEST_VDUSE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define VDUSE_RANGE_SECTORS	1024
#define VDUSE_SEGS		8
#define VDUSE_ERASE_ALIGN	64

/*
 * Make a disk of BLKDEV_SIZE with blocks of @block bytes; nothing if it is
 * there. Its path in @path.
 */
int vduse_make(unsigned int block, char *path, size_t size);
void vduse_remove_all(void);

/* Ranges that the device was to erase since vduse_answer(); or an error. */
int vduse_erased(unsigned int block);
/* From now on the device answers such requests with @status. */
int vduse_answer(unsigned int block, unsigned char status);

/* Change what the device holds, unknown to the driver. */
int vduse_put(unsigned int block, uint64_t sector, const void *buf, size_t len);

/* For vduse_serve.c: a file that all map, and its end is the disk. */
struct vduse_shared {
	pid_t pid;
	unsigned char answer;
	uint32_t erased;
	char disk[] __attribute__((aligned(4096)));
};

/* Be the device, for ever: of the open device @fd, kicked by @kick. */
void vduse_serve(int fd, int kick, struct vduse_shared *s)
	__attribute__((noreturn));

#endif
