/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The VMM's side of a device IOTLB: guest memory whose pages lie in any order in
 * the address space that the kernel is told of, and a thread that answers when
 * the kernel misses a translation.
 *
 * What gmem_addr() says is the guest's address behind its IOMMU, then.
 */
#ifndef VHOST_BLK_TEST_TLB_H
#define VHOST_BLK_TEST_TLB_H

#include <pthread.h>

#include "vring.h"

#define TLB_PAGE	4096UL
#define TLB_MAX_PAGES	2048

enum tlb_order { TLB_RANDOM, TLB_REVERSED };

struct tlb {
	struct vdev *d;
	bool v1;		/* messages as they were at first */
	size_t pages;		/* of the high region */
	int memfd;
	char *view;		/* the pages as the kernel is told of them */
	uint16_t at[TLB_MAX_PAGES];	/* where each is in view */
	uint8_t perm[TLB_MAX_PAGES];	/* what is allowed, VHOST_ACCESS_* */
	unsigned int asked[TLB_MAX_PAGES];
	unsigned int misses;
	unsigned int stray;	/* messages that made no sense */
	bool mute;		/* do not answer */
	bool stop;
	bool running;
	uint16_t waiting[256];	/* asked for, but not answered */
	unsigned int nwaiting;
	pthread_mutex_t lock;
	pthread_t thread;
};

/* Take over the memory of a device just opened with ACCESS_PLATFORM. */
int tlb_init(struct tlb *t, struct vdev *d, enum tlb_order order, bool v1);
void tlb_free(struct tlb *t);

/* Start and end the thread that answers. */
int tlb_start(struct tlb *t);
void tlb_stop(struct tlb *t);

/* Do not answer from now on; or do, and what was asked for meanwhile first. */
void tlb_mute(struct tlb *t, bool mute);
/* Never answer what was asked for so far. */
void tlb_forget(struct tlb *t);

unsigned int tlb_page(const struct tlb *t, const void *p);
/* Tell the kernel of one page, or let it forget some, or all. */
int tlb_map(struct tlb *t, unsigned int page);
int tlb_unmap(struct tlb *t, unsigned int page, unsigned int n);
int tlb_unmap_all(struct tlb *t);
int tlb_map_all(struct tlb *t);
/* Wait until the kernel has asked for a page: 0 or -ETIMEDOUT. */
int tlb_wait_asked(struct tlb *t, unsigned int page, unsigned int ms);
/* Let a page of guest memory be another one of the host's from now on. */
int tlb_move(struct tlb *t, unsigned int page, unsigned int to);

/* vq_start(), with what the kernel needs mapped before. */
int tlb_vq_start(struct tlb *t, struct vq *q, int fd);

#endif
