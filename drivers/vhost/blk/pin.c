// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: guest memory that stays pinned.
 *
 * A VMM can ask for all of its memory table to be pinned at once, so that no
 * request needs to. The pages are kept in tables by address. They are pinned
 * and charged to the VMM's RLIMIT_MEMLOCK as those of VFIO and io_uring are,
 * and count as written to when they are let go.
 */
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "vhost_blk.h"

/* Pages pinned or let go before somebody else may have the CPU. */
#define VHOST_BLK_PIN_CHUNK	512UL

/* A region of the memory table: @nr pages from the address @start on. */
struct vhost_blk_pin_region {
	unsigned long start;
	unsigned long nr;
	unsigned long pinned;
	struct page **pages;
};

/**
 * struct vhost_blk_pin - all of the guest's memory, pinned
 * @mm:		whose it is; charged with @charged
 * @charged:	pages
 * @nr:		of @regions
 * @regions:	as the memory table has them
 */
struct vhost_blk_pin {
	struct mm_struct *mm;
	unsigned long charged;
	unsigned int nr;
	struct vhost_blk_pin_region regions[] __counted_by(nr);
};

/* Where the pages of @region lie, if @bytes from @addr on are in it. */
static struct page **
vhost_blk_pin_look(const struct vhost_blk_pin_region *region,
		   unsigned long addr, size_t bytes)
{
	unsigned long size = region->nr << PAGE_SHIFT;
	unsigned long off = addr - region->start;

	if (off >= size || bytes > size - off)
		return NULL;
	return region->pages + (off >> PAGE_SHIFT);
}

/**
 * vhost_blk_pin_find - the pages behind an address
 * @pin:	what is pinned
 * @addr:	of the owner's memory
 * @bytes:	from there on
 *
 * Context: a mutex of the device's rings is held, so that @pin stays.
 * Return: the page of @addr, followed by those after it, or NULL if not all of
 * this memory is pinned.
 */
struct page **vhost_blk_pin_find(const struct vhost_blk_pin *pin,
				 unsigned long addr, size_t bytes)
{
	struct page **pages;
	unsigned int i;

	for (i = 0; i < pin->nr; i++) {
		pages = vhost_blk_pin_look(&pin->regions[i], addr, bytes);
		if (pages)
			return pages;
	}
	return NULL;
}

static void vhost_blk_pin_free_region(struct vhost_blk_pin_region *region)
{
	unsigned long i, n;

	for (i = 0; i < region->pinned; i += n) {
		n = min(region->pinned - i, VHOST_BLK_PIN_CHUNK);
		unpin_user_pages_dirty_lock(region->pages + i, n, true);
		cond_resched();
	}
	vfree(region->pages);
}

static void vhost_blk_pin_free(struct vhost_blk_pin *pin)
{
	unsigned int i;

	if (!pin)
		return;
	for (i = 0; i < pin->nr; i++)
		vhost_blk_pin_free_region(&pin->regions[i]);
	account_locked_vm(pin->mm, pin->charged, false);
	kvfree(pin);
}

static int vhost_blk_pin_fill_region(struct vhost_blk_pin_region *region)
{
	unsigned long n;
	int ret;

	region->pages = __vmalloc(array_size(region->nr, sizeof(*region->pages)),
				  GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!region->pages)
		return -ENOMEM;
	while (region->pinned < region->nr) {
		if (fatal_signal_pending(current))
			return -EINTR;
		n = min(region->nr - region->pinned, VHOST_BLK_PIN_CHUNK);
		ret = pin_user_pages_fast(region->start +
					  (region->pinned << PAGE_SHIFT), n,
					  FOLL_WRITE | FOLL_LONGTERM,
					  region->pages + region->pinned);
		if (ret <= 0)
			return ret ?: -EFAULT;
		region->pinned += ret;
		cond_resched();
	}
	return 0;
}

static int vhost_blk_pin_fill(struct vhost_blk_pin *pin)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < pin->nr && !ret; i++)
		ret = vhost_blk_pin_fill_region(&pin->regions[i]);
	return ret;
}

/* Regions of the memory table that are of the guest's memory. */
static unsigned int vhost_blk_pin_count(const struct vhost_iotlb *umem)
{
	const struct vhost_iotlb_map *map;
	unsigned int n = 0;

	list_for_each_entry(map, &umem->list, link)
		n++;
	return n;
}

/* Nobody looks at the memory table before a ring runs: there may be anything. */
static int vhost_blk_pin_region_init(struct vhost_blk_pin_region *region,
				     const struct vhost_iotlb_map *map)
{
	unsigned long end;

	region->start = map->addr & PAGE_MASK;
	if (check_add_overflow(map->addr, map->size, &end) ||
	    PAGE_ALIGN(end) <= region->start)
		return -EFAULT;
	region->nr = (PAGE_ALIGN(end) - region->start) >> PAGE_SHIFT;
	return 0;
}

/* What is to be pinned, as the memory table says; nothing is yet. */
static struct vhost_blk_pin *vhost_blk_pin_plan(struct vhost_dev *dev)
{
	const struct vhost_iotlb_map *map;
	unsigned int i = 0, nr = vhost_blk_pin_count(dev->umem);
	struct vhost_blk_pin *pin;
	unsigned long pages = 0;
	int ret = 0;

	pin = kvzalloc(struct_size(pin, regions, nr), GFP_KERNEL_ACCOUNT);
	if (!pin)
		return ERR_PTR(-ENOMEM);
	pin->nr = nr;
	list_for_each_entry(map, &dev->umem->list, link) {
		ret = vhost_blk_pin_region_init(&pin->regions[i], map);
		if (ret)
			break;
		pages += pin->regions[i++].nr;
	}
	if (!ret)
		ret = account_locked_vm(dev->mm, pages, true);
	if (ret) {
		kvfree(pin);
		return ERR_PTR(ret);
	}
	pin->mm = dev->mm;
	pin->charged = pages;
	return pin;
}

static struct vhost_blk_pin *vhost_blk_pin_make(struct vhost_dev *dev)
{
	struct vhost_blk_pin *pin;
	int ret;

	if (!dev->umem)
		return ERR_PTR(-EINVAL);
	pin = vhost_blk_pin_plan(dev);
	if (IS_ERR(pin))
		return pin;
	ret = vhost_blk_pin_fill(pin);
	if (ret) {
		vhost_blk_pin_free(pin);
		return ERR_PTR(ret);
	}
	return pin;
}

/**
 * vhost_blk_pin_drop - let go of what is pinned
 * @blk:	nothing is in flight; no ring runs, or all are held
 *
 * Context: process, &vhost_dev.mutex held; before the owner is forgotten.
 */
void vhost_blk_pin_drop(struct vhost_blk *blk)
{
	vhost_blk_pin_free(blk->pin);
	blk->pin = NULL;
}

/**
 * vhost_blk_pin_set - VHOST_BLK_PIN_MEMORY
 * @blk:	the device
 * @argp:	u32: 1, or 0 to let go
 *
 * Context: process, the owner, &vhost_dev.mutex held.
 * Return: 0, -EFAULT (@argp, or memory of the table cannot be pinned for long),
 * -EINVAL (no such number, or there is no memory table), -ENOMEM (also: beyond
 * RLIMIT_MEMLOCK), or -EINTR if killed. The state is then what it was.
 */
long vhost_blk_pin_set(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_pin *pin = NULL;
	u32 on;
	int ret;

	if (copy_from_user(&on, argp, sizeof(on)))
		return -EFAULT;
	if (on > 1)
		return -EINVAL;
	if (on) {
		pin = vhost_blk_pin_make(&blk->dev);
		if (IS_ERR(pin))
			return PTR_ERR(pin);
	}
	vhost_blk_backend_hold(blk, true);
	ret = vhost_blk_backend_quiesce(blk);
	if (!ret)
		swap(blk->pin, pin);
	vhost_blk_backend_hold(blk, false);
	vhost_blk_pin_free(pin);
	return ret;
}
