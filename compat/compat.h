/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Brings older kernels up to the API that drivers/vhost/blk is written to.
 * Force-included out of tree, before the first line of every source file, and
 * after compat_config.h, in which compat/probe says what the kernel has.
 *
 * Macros only, and no kernel header: a source file may still want to define
 * pr_fmt. What needs declarations goes to compat/vhost.h.
 */
#ifndef _VHOST_BLK_COMPAT_H
#define _VHOST_BLK_COMPAT_H

#ifndef VHOST_BLK_COMPAT_CONFIG
#error "compat_config.h is missing: build with make, which calls tools/build/module"
#endif

/* <linux/slab.h>: GFP_KERNEL unless the last argument says otherwise */
#ifndef COMPAT_HAVE_KZALLOC_OBJ
#define compat_second(first, second, ...)	second
#define compat_gfp(...)	compat_second(, ##__VA_ARGS__, GFP_KERNEL)
#define kzalloc_obj(obj, ...) \
	kzalloc(sizeof(obj), compat_gfp(__VA_ARGS__))
#define kzalloc_objs(obj, n, ...) \
	kcalloc(n, sizeof(obj), compat_gfp(__VA_ARGS__))
#define kvzalloc_obj(obj, ...) \
	kvzalloc(sizeof(obj), compat_gfp(__VA_ARGS__))
#define kvzalloc_objs(obj, n, ...) \
	kvcalloc(n, sizeof(obj), compat_gfp(__VA_ARGS__))
#endif

/* <linux/blkdev.h> */
#ifndef COMPAT_HAVE_BDEV_ROT
#define bdev_rot(bdev)	(!bdev_nonrot(bdev))
#endif

#endif /* _VHOST_BLK_COMPAT_H */
