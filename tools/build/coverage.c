// SPDX-License-Identifier: GPL-2.0-only
/*
 * What of vhost_blk.ko has run: linked into modules that are built with COVERAGE=1,
 * and no part of the driver. The compiler calls __sanitizer_cov_trace_pc() in every
 * basic block, as it does for KCOV. KCOV itself follows one task's system calls;
 * this module's work is done by workers, workqueues and interrupts as well.
 *
 * Parameters: write a number to coverage_page, then read from coverage so many bytes
 * of the map. A bit stands for 4 bytes of code, those before a return address; two
 * calls are never that close.
 */
#include <linux/bitmap.h>
#include <linux/hex.h>
#include <linux/kernel.h>
#include <linux/module.h>

#define COVERAGE_BYTES	(256 * 1024)
#define COVERAGE_PAGE	1024

static DECLARE_BITMAP(coverage_map, COVERAGE_BYTES / 4);

void __sanitizer_cov_trace_pc(void);

notrace void __sanitizer_cov_trace_pc(void)
{
	unsigned long text = (unsigned long)THIS_MODULE->mem[MOD_TEXT].base;
	unsigned long at = (_RET_IP_ - text) / 4;

	if (at < COVERAGE_BYTES / 4 && !test_bit(at, coverage_map))
		set_bit(at, coverage_map);
}

static unsigned int coverage_page;
module_param(coverage_page, uint, 0600);

static int coverage_get(char *buffer, const struct kernel_param *kp)
{
	unsigned int at = coverage_page * COVERAGE_PAGE;

	if (at >= sizeof(coverage_map))
		return 0;
	bin2hex(buffer, (char *)coverage_map + at, COVERAGE_PAGE);
	buffer[2 * COVERAGE_PAGE] = '\n';
	return 2 * COVERAGE_PAGE + 1;
}

static const struct kernel_param_ops coverage_ops = { .get = coverage_get };
module_param_cb(coverage, &coverage_ops, NULL, 0400);
