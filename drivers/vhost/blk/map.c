// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-blk: guest buffers to pinned vectors and back.
 *
 * A request's data becomes a table of bio_vecs over the guest's pages. For a
 * small request the table lies in the request itself. Pages that the device
 * cannot take as they are get a second table, over bounce pages; the guest's
 * stay pinned, so that data can be copied without the guest's address space.
 */
#include <linux/mempool.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "vhost_blk.h"

/* Pages pinned at a time; on the stack. */
#define VHOST_BLK_PIN_PAGES	32

/* Bounce pages kept for when memory is short. */
#define VHOST_BLK_BOUNCE_RESERVE	BIO_MAX_VECS

static mempool_t vhost_blk_bounce_pool;

/**
 * vhost_blk_map_init - set up the reserve of bounce pages
 *
 * Return: 0 or -ENOMEM.
 */
int vhost_blk_map_init(void)
{
	return mempool_init_page_pool(&vhost_blk_bounce_pool,
				      VHOST_BLK_BOUNCE_RESERVE, 0);
}

/**
 * vhost_blk_map_exit - undo vhost_blk_map_init()
 */
void vhost_blk_map_exit(void)
{
	mempool_exit(&vhost_blk_bounce_pool);
}

/*
 * Append to the last vector, if the new bytes follow it in memory. A page that
 * was pinned for both keeps one pin: release counts pages by vectors.
 */
static bool vhost_blk_map_merge(struct vhost_blk_req *req, struct page *page,
				unsigned int off, unsigned int len)
{
	struct bio_vec *vec;
	unsigned long end;

	if (!req->nr_vecs)
		return false;
	vec = &req->vecs[req->nr_vecs - 1];
	end = vec->bv_offset + vec->bv_len;
	if (off != offset_in_page(end) ||
	    page_to_pfn(page) != page_to_pfn(vec->bv_page) + (end >> PAGE_SHIFT) ||
	    !zone_device_pages_have_same_pgmap(vec->bv_page, page))
		return false;
	if (off)
		unpin_user_page(page);
	vec->bv_len += len;
	return true;
}

/* Add @bytes in @pages, which begin at @off in the first, to the table. */
static void vhost_blk_map_add(struct vhost_blk_req *req, struct page **pages,
			      size_t off, size_t bytes)
{
	unsigned int len;

	for (; bytes; bytes -= len, off = 0, pages++) {
		len = min_t(size_t, bytes, PAGE_SIZE - off);
		if (!vhost_blk_map_merge(req, *pages, off, len))
			bvec_set_page(&req->vecs[req->nr_vecs++], *pages, len,
				      off);
	}
}

/* The table has room for every page that @data touches. */
static int vhost_blk_map_table(struct vhost_blk_req *req, struct iov_iter *data)
{
	int nr = iov_iter_npages(data, INT_MAX);

	req->vecs = req->inline_vecs;
	if (nr <= VHOST_BLK_INLINE_VECS)
		return 0;
	req->vecs = kvmalloc_array(nr, sizeof(*req->vecs),
				   GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!req->vecs)
		return -ENOMEM;
	req->ring->stats.large++;
	return 0;
}

static int vhost_blk_map_pin(struct vhost_blk_req *req, struct iov_iter *data)
{
	struct page *stack[VHOST_BLK_PIN_PAGES], **pages = stack;
	ssize_t bytes;
	size_t off;

	while (iov_iter_count(data)) {
		bytes = iov_iter_extract_pages(data, &pages, SIZE_MAX,
					       VHOST_BLK_PIN_PAGES, 0, &off);
		if (bytes <= 0)
			return bytes ?: -EFAULT;
		vhost_blk_map_add(req, pages, off, bytes);
	}
	return 0;
}

/*
 * The reserve is taken from only when the page allocator has nothing, and
 * never waited for: our own thread is the one that refills it.
 */
static struct page *vhost_blk_bounce_page(void)
{
	struct page *page;

	page = alloc_page(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
	return page ?: mempool_alloc(&vhost_blk_bounce_pool, GFP_NOWAIT);
}

static int vhost_blk_bounce_alloc(struct vhost_blk_req *req)
{
	u32 left = req->len, bytes;
	struct page *page;

	req->bounce = kvmalloc_array(DIV_ROUND_UP(left, PAGE_SIZE),
				     sizeof(*req->bounce),
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!req->bounce)
		return -ENOMEM;
	for (; left; left -= bytes) {
		page = vhost_blk_bounce_page();
		if (!page)
			return -ENOMEM;
		bytes = min_t(u32, left, PAGE_SIZE);
		bvec_set_page(&req->bounce[req->nr_bounce++], page, bytes, 0);
	}
	req->ring->stats.bounced++;
	return 0;
}

static void vhost_blk_bounce_free(struct vhost_blk_req *req)
{
	while (req->nr_bounce)
		mempool_free(req->bounce[--req->nr_bounce].bv_page,
			     &vhost_blk_bounce_pool);
	kvfree(req->bounce);
	req->bounce = NULL;
}

static void vhost_blk_bounce_copy(struct vhost_blk_req *req, bool to_guest)
{
	struct iov_iter guest;
	struct bio_vec *vec;
	unsigned int i;

	iov_iter_bvec(&guest, to_guest ? ITER_DEST : ITER_SOURCE, req->vecs,
		      req->nr_vecs, req->len);
	for (i = 0; i < req->nr_bounce; i++) {
		vec = &req->bounce[i];
		if (to_guest)
			copy_page_to_iter(vec->bv_page, 0, vec->bv_len, &guest);
		else
			copy_page_from_iter(vec->bv_page, 0, vec->bv_len,
					    &guest);
	}
}

/**
 * vhost_blk_map_data - pin a request's data
 * @req:	the request; @len is set. On success @vecs, or @bounce if not
 *		NULL, is what the device may use
 * @data:	all of the data, in guest memory
 * @write:	the data goes to the device
 *
 * Context: the ring's worker, in the guest's address space, the ring's mutex
 * held; may sleep.
 * Return: 0, -EFAULT, or -ENOMEM; then nothing is pinned or allocated.
 */
int vhost_blk_map_data(struct vhost_blk_req *req, struct iov_iter *data,
		       bool write)
{
	int ret;

	req->bounce = NULL;
	req->nr_bounce = 0;
	ret = vhost_blk_map_table(req, data);
	if (ret)
		return ret;
	ret = vhost_blk_map_pin(req, data);
	if (!ret && !vhost_blk_bdev_fits(req)) {
		ret = vhost_blk_bounce_alloc(req);
		if (!ret && write)
			vhost_blk_bounce_copy(req, false);
	}
	if (ret)
		vhost_blk_map_release(req, false);
	return ret;
}

/**
 * vhost_blk_map_release - undo vhost_blk_map_data()
 * @req:	the request
 * @read:	the device may have written the data
 *
 * Context: process, the ring's mutex held; any address space; may sleep.
 */
void vhost_blk_map_release(struct vhost_blk_req *req, bool read)
{
	struct bio_vec *vec;
	unsigned long nr;

	if (req->bounce) {
		if (read && !req->status)
			vhost_blk_bounce_copy(req, true);
		vhost_blk_bounce_free(req);
	}
	while (req->nr_vecs) {
		vec = &req->vecs[--req->nr_vecs];
		nr = DIV_ROUND_UP(vec->bv_offset + vec->bv_len, PAGE_SIZE);
		unpin_user_page_range_dirty_lock(vec->bv_page, nr, read);
	}
	if (req->vecs != req->inline_vecs)
		kvfree(req->vecs);
}
