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
#include <linux/sizes.h>
#include <linux/slab.h>

#include "vhost_blk.h"

/* Pages pinned at a time; on the stack. */
#define VHOST_BLK_PIN_PAGES	32

/* Bounce pages kept for when memory is short. */
#define VHOST_BLK_BOUNCE_RESERVE	BIO_MAX_VECS

/*
 * Most bytes that the requests of one ring may have in bounce pages: memory of
 * the host that a guest could otherwise take as much of as it likes. The next
 * request waits; one that is larger by itself fails.
 */
#define VHOST_BLK_BOUNCE_MAX	SZ_16M

/*
 * Most vectors in tables that the requests of one ring may have: 64 MiB of pages
 * that do not follow each other. A guest may name the same page in all of them, and
 * a page's count of pins is limited, too: enough for all rings of a device. The next
 * request waits; one that needs more by itself goes alone.
 */
#define VHOST_BLK_TABLE_MAX	SZ_16K

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
	if (off && !req->prepinned)
		unpin_user_page(page);
	vec->bv_len += len;
	return true;
}

/*
 * Add @bytes in @pages, which begin at @off in the first, to the table of @room
 * vectors. Return: whether there was room.
 */
static bool vhost_blk_map_add(struct vhost_blk_req *req, struct page **pages,
			      size_t off, size_t bytes, unsigned int room)
{
	unsigned int len;

	for (; bytes; bytes -= len, off = 0, pages++) {
		len = min_t(size_t, bytes, PAGE_SIZE - off);
		if (vhost_blk_map_merge(req, *pages, off, len))
			continue;
		if (req->nr_vecs == room)
			return false;
		bvec_set_page(&req->vecs[req->nr_vecs++], *pages, len, off);
	}
	return true;
}

/* The table has room for every page that @data touches. */
static int vhost_blk_map_table(struct vhost_blk_req *req, struct iov_iter *data)
{
	int nr = iov_iter_npages(data, INT_MAX);
	struct vhost_blk_vq *ring = req->ring;

	if (nr <= VHOST_BLK_INLINE_VECS)
		return 0;
	if (ring->table_vecs && ring->table_vecs + nr > VHOST_BLK_TABLE_MAX)
		return -EAGAIN;
	req->vecs = kvmalloc_array(nr, sizeof(*req->vecs),
				   GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!req->vecs)
		return -ENOMEM;
	req->nr_table = nr;
	ring->table_vecs += nr;
	ring->stats.large++;
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
		/* There is room for all pages. */
		vhost_blk_map_add(req, pages, off, bytes, UINT_MAX);
	}
	return 0;
}

/*
 * The same for memory that stays pinned, without pinning. Not if some of it is
 * not, or takes more than @room vectors: then the table is as empty as it was.
 */
static bool vhost_blk_map_prepinned(struct vhost_blk_req *req,
				    struct iov_iter data, unsigned int room)
{
	const struct vhost_blk_pin *pin = req->ring->blk->pin;
	struct page **pages;
	unsigned long addr;
	size_t bytes;

	while (iov_iter_count(&data)) {
		addr = (unsigned long)iter_iov_addr(&data);
		bytes = min(iter_iov_len(&data), iov_iter_count(&data));
		pages = vhost_blk_pin_find(pin, addr, bytes);
		req->prepinned = pages;
		if (!pages || !vhost_blk_map_add(req, pages, offset_in_page(addr),
						 bytes, room)) {
			req->nr_vecs = 0;
			return false;
		}
		iov_iter_advance(&data, bytes);
	}
	req->ring->stats.prepinned++;
	return true;
}

static struct page *vhost_blk_bounce_page(struct vhost_blk_req *req)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN;

	/* Never waited for: our own thread is the one that refills it. */
	if (req->bounce_reserved)
		return mempool_alloc(&vhost_blk_bounce_pool, GFP_NOWAIT);
	return alloc_pages(req->bounce_order ? gfp | __GFP_COMP : gfp,
			   req->bounce_order);
}

static void vhost_blk_bounce_free_pages(struct vhost_blk_req *req)
{
	struct page *page;

	while (req->nr_bounce) {
		page = req->bounce[--req->nr_bounce].bv_page;
		if (req->bounce_reserved)
			mempool_free(page, &vhost_blk_bounce_pool);
		else
			__free_pages(page, req->bounce_order);
	}
}

static bool vhost_blk_bounce_alloc_pages(struct vhost_blk_req *req,
					 bool reserved)
{
	u32 left = req->len, bytes;
	struct page *page;

	/* There are single pages in it alone. */
	if (reserved && req->bounce_order)
		return false;
	req->bounce_reserved = reserved;
	for (; left; left -= bytes) {
		page = vhost_blk_bounce_page(req);
		if (!page) {
			vhost_blk_bounce_free_pages(req);
			return false;
		}
		bytes = min_t(u32, left, PAGE_SIZE << req->bounce_order);
		bvec_set_page(&req->bounce[req->nr_bounce++], page, bytes, 0);
	}
	return true;
}

/* A zone append goes to the device in one request, so its pieces must be few. */
static unsigned int vhost_blk_bounce_order(const struct vhost_blk_req *req)
{
	unsigned int segs = min(req->ring->backend->max_segs, BIO_MAX_VECS);

	if (req->type != VIRTIO_BLK_T_ZONE_APPEND)
		return 0;
	return get_order(DIV_ROUND_UP(req->len, segs));
}

static int vhost_blk_bounce_alloc(struct vhost_blk_req *req)
{
	struct vhost_blk_vq *ring = req->ring;

	if (req->len > VHOST_BLK_BOUNCE_MAX)
		return -ENOMEM;
	if (ring->bounce_bytes + req->len > VHOST_BLK_BOUNCE_MAX)
		return -EAGAIN;
	req->bounce_order = vhost_blk_bounce_order(req);
	req->bounce = kvmalloc_array(DIV_ROUND_UP(req->len, PAGE_SIZE <<
						  req->bounce_order),
				     sizeof(*req->bounce),
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!req->bounce)
		return -ENOMEM;
	if (!vhost_blk_bounce_alloc_pages(req, false) &&
	    !vhost_blk_bounce_alloc_pages(req, true)) {
		kvfree(req->bounce);
		req->bounce = NULL;
		return -ENOMEM;
	}
	ring->bounce_bytes += req->len;
	ring->stats.bounced++;
	return 0;
}

static void vhost_blk_bounce_free(struct vhost_blk_req *req)
{
	vhost_blk_bounce_free_pages(req);
	kvfree(req->bounce);
	req->bounce = NULL;
	req->ring->bounce_bytes -= req->len;
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

/* Does a gap between two vectors cross the device's virtual boundary? */
static bool vhost_blk_map_gap(const struct vhost_blk_backend *backend,
			      const struct bio_vec *prev,
			      const struct bio_vec *next)
{
	return ((prev->bv_offset + prev->bv_len) | next->bv_offset) &
		backend->virt_mask;
}

/*
 * Can the backend take the guest's pages in a single request, which a zone
 * append must be? One vector may become several segments: where it is longer
 * than one may be, or crosses a boundary.
 */
static bool vhost_blk_map_fits_whole(const struct vhost_blk_req *req)
{
	const struct vhost_blk_backend *backend = req->ring->backend;
	const struct bio_vec *vec = req->vecs;
	unsigned int i, segs = 0;
	phys_addr_t addr;

	for (i = 0; i < req->nr_vecs; i++, vec++) {
		if ((vec->bv_offset | vec->bv_len) & backend->dma_mask)
			return false;
		if (i && vhost_blk_map_gap(backend, vec - 1, vec))
			return false;
		addr = bvec_phys(vec);
		segs += DIV_ROUND_UP(vec->bv_len, backend->max_seg_size);
		if ((addr ^ (addr + vec->bv_len - 1)) & ~backend->seg_boundary)
			segs++;
	}
	return segs <= backend->max_segs && req->nr_vecs <= BIO_MAX_VECS;
}

/*
 * Can the backend take the guest's pages as they are? The block layer splits a
 * bio where the device's limits ask for it, but only between logical blocks:
 * inside a block no limit may be hit. A request of several bios is cut between
 * vectors, so there each must hold whole blocks.
 */
static bool vhost_blk_map_fits(const struct vhost_blk_req *req)
{
	const struct vhost_blk_backend *backend = req->ring->backend;
	const struct bio_vec *vec = req->vecs;
	unsigned int i, segs = 0, pos = 0;

	if (req->type == VIRTIO_BLK_T_ZONE_APPEND)
		return vhost_blk_map_fits_whole(req);
	for (i = 0; i < req->nr_vecs; i++, vec++) {
		if ((vec->bv_offset | vec->bv_len) & backend->dma_mask)
			return false;
		if (!(pos & backend->block_mask))
			segs = 0;
		else if (req->nr_vecs > BIO_MAX_VECS ||
			 vhost_blk_map_gap(backend, vec - 1, vec))
			return false;
		if (++segs > backend->max_segs)
			return false;
		pos += vec->bv_len;
	}
	return true;
}

/**
 * vhost_blk_map_plain - pin a request's data, which no device will see
 * @req:	the request; on success @vecs has the guest's pages
 * @data:	all of the data, in guest memory
 *
 * Context: as vhost_blk_map_data().
 * Return: 0, -EFAULT, -ENOMEM, or -EAGAIN if the ring has too many vectors in
 * flight at the moment: then nothing is pinned or allocated.
 */
int vhost_blk_map_plain(struct vhost_blk_req *req, struct iov_iter *data)
{
	int ret;

	req->bounce = NULL;
	req->nr_bounce = 0;
	req->vecs = req->inline_vecs;
	req->prepinned = req->ring->blk->pin;
	/* Memory in large pages takes few vectors, however many pages it has. */
	if (req->prepinned &&
	    vhost_blk_map_prepinned(req, *data, VHOST_BLK_INLINE_VECS))
		return 0;
	ret = vhost_blk_map_table(req, data);
	if (ret)
		return ret;
	if (req->prepinned && vhost_blk_map_prepinned(req, *data, UINT_MAX))
		return 0;
	ret = vhost_blk_map_pin(req, data);
	if (ret)
		vhost_blk_map_release(req, false);
	return ret;
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
 * Return: as vhost_blk_map_plain(); -EAGAIN also if the ring has too much in
 * bounce pages at the moment.
 */
int vhost_blk_map_data(struct vhost_blk_req *req, struct iov_iter *data,
		       bool write)
{
	int ret;

	ret = vhost_blk_map_plain(req, data);
	if (ret || vhost_blk_map_fits(req))
		return ret;
	ret = vhost_blk_bounce_alloc(req);
	if (ret)
		vhost_blk_map_release(req, false);
	else if (write)
		vhost_blk_bounce_copy(req, false);
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
	if (req->prepinned)
		req->nr_vecs = 0;
	while (req->nr_vecs) {
		vec = &req->vecs[--req->nr_vecs];
		nr = DIV_ROUND_UP(vec->bv_offset + vec->bv_len, PAGE_SIZE);
		unpin_user_page_range_dirty_lock(vec->bv_page, nr, read);
	}
	if (req->vecs != req->inline_vecs) {
		kvfree(req->vecs);
		req->ring->table_vecs -= req->nr_table;
	}
}
