// SPDX-License-Identifier: GPL-2.0
/*
 * Violations that need a real device: notifications, interrupts, registers,
 * resets. What begins with a device of its own making says dev_begin().
 */
#include <stdio.h>
#include <string.h>

#include "hostile.h"

#define PLAIN(n, off) (d->phys + AT_QUEUE(n) + (off))

/* As many sound reads as the ring takes, none waited for. */
static void fill(struct dev *d)
{
	unsigned int i;

	for (i = 0; i + 3 <= SIZE; i += 3) {
		lay_out(d, 0, i, i * 8);
		offer(d, 0, i);
	}
	notify(d, 0);
}

/* Notifications. */

static int notify_storm(struct dev *d)
{
	unsigned int i;

	for (i = 0; i < 3000; i++)
		notify(d, i % QUEUES);
	return 0;
}

static int notify_a_queue_that_is_none(struct dev *d)
{
	notify(d, 0xffff);
	notify(d, 1000);
	/* where its doorbell would be, as far as it is mapped */
	*(volatile uint16_t *)(d->notify + 60 * d->mult) = 60;
	return 0;
}

static int notify_before_it_runs(struct dev *d)
{
	if (dev_begin(d, FEATURES))
		return -1;
	queue_plain(d, 0);
	lay_out(d, 0, 0, 0);
	offer(d, 0, 0);
	notify(d, 0);
	nap(20000);
	return 0;
}

static int notify_after_reset(struct dev *d)
{
	fill(d);
	if (dev_reset(d))
		return -1;
	notify(d, 0);
	notify(d, 1);
	return 0;
}

static int event_indices_of_nonsense(struct dev *d)
{
	unsigned int i;

	if (dev_up(d, FEATURES | BIT64(VIRTIO_RING_F_EVENT_IDX)))
		return -1;
	for (i = 0; i < 40; i++) {
		/* used_event, and the device's own avail_event */
		d->q[0].avail->ring[SIZE] = i * 7919;
		*(volatile uint16_t *)&d->q[0].used->ring[SIZE] = ~i * 104729;
		if (good_read(d, 0, 0, reference))
			return -1;
	}
	return 0;
}

static int avail_flags_of_nonsense(struct dev *d)
{
	d->q[0].avail->flags = 0xfffe;
	return good_read(d, 0, 0, reference);
}

static int used_ring_overwritten(struct dev *d)
{
	fill(d);
	memset((void *)d->q[0].used, 0x77, 0x1000);
	nap(20000);
	memset((void *)d->q[0].used, 0xff, 0x1000);
	notify(d, 0);
	return 0;
}

/* Interrupts. */

static int interrupt_masked_and_unmasked(struct dev *d)
{
	long before = msix_count();

	msix_plain(d, 0, true);
	if (good_read(d, 0, 0, reference))
		return -1;
	nap(100000);
	if (msix_count() != before || !(*d->pba & 1)) {
		printf("# a masked interrupt came, or is not pending\n");
		return -1;
	}
	msix_plain(d, 0, false);
	nap(100000);
	if (msix_count() != before + 1 || *d->pba & 1) {
		printf("# %ld interrupts came\n", msix_count() - before);
		return -1;
	}
	return 0;
}

static int function_masked_under_load(struct dev *d)
{
	unsigned int i;

	for (i = 0; i < 20; i++) {
		msix_enable(d, true, !(i % 2));
		if (good_read(d, 0, 0, reference))
			return -1;
	}
	return 0;
}

static int vector_masked_under_load(struct dev *d)
{
	unsigned int i;

	for (i = 0; i < 20; i++) {
		fill(d);
		msix_plain(d, 0, !(i % 2));
		if (wait_used(d, 0, SIZE / 3, 20000))
			return -1;
	}
	return 0;
}

/* To enable it again without a reset would end any QEMU device of this kind. */
static int msix_disabled_under_load(struct dev *d)
{
	fill(d);
	msix_enable(d, false, false);
	if (wait_used(d, 0, SIZE / 3, 20000))
		return -1;
	return good_read(d, 0, 0, reference);
}

static int interrupt_to_nowhere(struct dev *d)
{
	/* a new address counts when the vector is unmasked */
	msix_set(d, 0, 0xdead0000dead0000ULL, 0x000000f2, true);
	msix_set(d, 0, 0xdead0000dead0000ULL, 0x000000f2, false);
	if (good_read(d, 0, 0, reference))
		return -1;
	msix_set(d, 0, 0xfee00000 | 0xee << 12, 0x000000f2, true);
	msix_set(d, 0, 0xfee00000 | 0xee << 12, 0x000000f2, false);
	return good_read(d, 0, 0, reference);
}

static int vector_behind_the_table(struct dev *d)
{
	put16(d, VIRTIO_PCI_COMMON_Q_SELECT, 0);
	put16(d, VIRTIO_PCI_COMMON_Q_MSIX, 0x7ff);
	put16(d, VIRTIO_PCI_COMMON_MSIX, 0x7ff);
	return good_read(d, 0, 0, reference);
}

static int interrupt_status_storm(struct dev *d)
{
	unsigned int i;
	uint8_t all = 0;

	fill(d);
	for (i = 0; i < 2000; i++)
		all |= *d->isr;
	return wait_used(d, 0, SIZE / 3, 20000) | (all > 3);
}

/* Resets. */

static uint64_t hash(const struct dev *d)
{
	const uint64_t *p = (const uint64_t *)d->mem;
	uint64_t h = 0;
	unsigned int i;

	for (i = 0; i < MEM_SIZE / 8; i++)
		h = (h ^ p[i]) * 0x100000001b3ULL;
	return h;
}

/* After reset not a byte of memory changes. */
static int reset_in_the_middle(struct dev *d)
{
	unsigned int i;
	uint64_t before;

	for (i = 0; i < 5; i++) {
		fill(d);
		if (dev_reset(d))
			return -1;
		before = hash(d);
		nap(50000);
		if (hash(d) != before || dev_up(d, FEATURES))
			return -1;
	}
	return 0;
}

static int reset_storm(struct dev *d)
{
	unsigned int i;

	fill(d);
	for (i = 0; i < 50; i++)
		put8(d, VIRTIO_PCI_COMMON_STATUS, 0);
	return dev_reset(d);
}

static int status_bits_of_nonsense(struct dev *d)
{
	unsigned int i;

	fill(d);
	for (i = 1; i < 256; i += 9)
		put8(d, VIRTIO_PCI_COMMON_STATUS, i);
	return 0;
}

static int stops_without_reset(struct dev *d)
{
	fill(d);
	put8(d, VIRTIO_PCI_COMMON_STATUS, RUNNING & ~VIRTIO_CONFIG_S_DRIVER_OK);
	nap(10000);
	put8(d, VIRTIO_PCI_COMMON_STATUS, RUNNING);
	return 0;
}

static int gives_up_while_it_runs(struct dev *d)
{
	fill(d);
	put8(d, VIRTIO_PCI_COMMON_STATUS, RUNNING | VIRTIO_CONFIG_S_FAILED);
	return 0;
}

/* Queues. */

static int queue_enabled_anew_elsewhere(struct dev *d)
{
	uint64_t at = d->phys + AT_SPARE;

	fill(d);
	queue_tell(d, 0, 16, at, at + 0x1000, at + 0x2000);
	notify(d, 0);
	nap(20000);
	return 0;
}

static int queue_disabled_while_it_runs(struct dev *d)
{
	fill(d);
	put16(d, VIRTIO_PCI_COMMON_Q_SELECT, 0);
	put16(d, VIRTIO_PCI_COMMON_Q_ENABLE, 0);
	notify(d, 0);
	nap(20000);
	return 0;
}

static int queue_reset_not_negotiated(struct dev *d)
{
	fill(d);
	put16(d, VIRTIO_PCI_COMMON_Q_SELECT, 0);
	put16(d, COMMON_Q_RESET, 1);
	nap(20000);
	return 0;
}

static int queue_reset_in_the_middle(struct dev *d)
{
	unsigned int i, tries;

	if (dev_up(d, FEATURES | BIT64(VIRTIO_F_RING_RESET)))
		return -1;
	for (i = 0; i < 5; i++) {
		fill(d);
		put16(d, VIRTIO_PCI_COMMON_Q_SELECT, 0);
		put16(d, COMMON_Q_RESET, 1);
		for (tries = 0; tries < 2000 && get16(d, COMMON_Q_RESET); tries++)
			nap(1000);
		if (get16(d, COMMON_Q_RESET))
			return -1;
		queue_plain(d, 0);
		if (good_read(d, 0, 0, reference) || good_read(d, 1, 8, reference + 4096))
			return -1;
	}
	return 0;
}

/* Begin anew, with queue 0 as told, and use it. */
static int odd_queue(struct dev *d, uint16_t size, uint64_t desc, uint64_t avail,
		     uint64_t used)
{
	if (dev_begin(d, FEATURES))
		return -1;
	queue_plain(d, 1);
	queue_clear(d, 0, AT_QUEUE(0));
	queue_tell(d, 0, size, desc, avail, used);
	dev_go(d);
	lay_out(d, 0, 0, 0);
	offer(d, 0, 0);
	notify(d, 0);
	nap(50000);
	return 0;
}

#define ODD_QUEUE(name, size, desc, avail, used)			\
static int name(struct dev *d)						\
{									\
	return odd_queue(d, size, desc, avail, used);			\
}

#define DESC	PLAIN(0, 0)
#define AVAIL	PLAIN(0, 0x1000)
#define USED	PLAIN(0, 0x2000)

ODD_QUEUE(queue_of_100, 100, DESC, AVAIL, USED)
ODD_QUEUE(queue_of_0, 0, DESC, AVAIL, USED)
ODD_QUEUE(queue_of_65535, 65535, DESC, AVAIL, USED)
ODD_QUEUE(queue_of_32768, 32768, DESC, AVAIL, USED)
ODD_QUEUE(descriptors_in_no_memory, SIZE, HOLE, AVAIL, USED)
ODD_QUEUE(available_ring_in_no_memory, SIZE, DESC, HOLE, USED)
ODD_QUEUE(used_ring_in_no_memory, SIZE, DESC, AVAIL, HOLE)
ODD_QUEUE(used_ring_in_the_firmware, SIZE, DESC, AVAIL, 0xfffff000)
ODD_QUEUE(queue_in_registers, SIZE, 0xfee00000, 0xfec00000, 0xfed00000)
ODD_QUEUE(queue_not_aligned, SIZE, DESC + 1, AVAIL + 1, USED + 1)
ODD_QUEUE(queue_parts_overlap, SIZE, DESC, DESC, DESC)
ODD_QUEUE(queue_across_the_end_of_addresses, SIZE, -16ULL, -2ULL, -4ULL)
ODD_QUEUE(queue_at_the_end_of_memory, SIZE, d->ram_end - 16, AVAIL, d->ram_end - 4)
ODD_QUEUE(queue_at_address_zero, SIZE, 0, 0, 0)

static int two_queues_in_one_place(struct dev *d)
{
	if (dev_begin(d, FEATURES))
		return -1;
	queue_clear(d, 0, AT_QUEUE(0));
	queue_tell(d, 0, SIZE, DESC, AVAIL, USED);
	queue_tell(d, 1, SIZE, DESC, AVAIL, USED);
	dev_go(d);
	fill(d);
	notify(d, 1);
	nap(50000);
	return 0;
}

static int queue_numbers_of_nonsense(struct dev *d)
{
	put16(d, VIRTIO_PCI_COMMON_Q_SELECT, 1000);
	put16(d, VIRTIO_PCI_COMMON_Q_SELECT, 0xffff);
	put16(d, VIRTIO_PCI_COMMON_Q_SIZE, 64);
	put64(d, VIRTIO_PCI_COMMON_Q_DESCLO, HOLE);
	put64(d, VIRTIO_PCI_COMMON_Q_AVAILLO, HOLE);
	put64(d, VIRTIO_PCI_COMMON_Q_USEDLO, HOLE);
	put16(d, VIRTIO_PCI_COMMON_Q_MSIX, 1);
	put16(d, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
	return 0;
}

static int runs_without_queues(struct dev *d)
{
	if (dev_begin(d, FEATURES))
		return -1;
	dev_go(d);
	notify(d, 0);
	nap(20000);
	return 0;
}

/* Features and registers. */

static int all_features_at_once(struct dev *d)
{
	/* FEATURES_OK or not: what was not offered is not there */
	dev_begin(d, ~0ULL);
	queue_plain(d, 0);
	dev_go(d);
	fill(d);
	nap(20000);
	return 0;
}

static int features_changed_while_it_runs(struct dev *d)
{
	put32(d, VIRTIO_PCI_COMMON_GFSELECT, 0);
	put32(d, VIRTIO_PCI_COMMON_GF, 0);
	put32(d, VIRTIO_PCI_COMMON_GFSELECT, 1);
	put32(d, VIRTIO_PCI_COMMON_GF, 0);
	put32(d, VIRTIO_PCI_COMMON_GFSELECT, 77);
	put32(d, VIRTIO_PCI_COMMON_GF, ~0u);
	return good_read(d, 0, 0, reference);
}

static int runs_without_features_ok(struct dev *d)
{
	if (dev_reset(d))
		return -1;
	put8(d, VIRTIO_PCI_COMMON_STATUS, ALIVE);
	queue_plain(d, 0);
	put8(d, VIRTIO_PCI_COMMON_STATUS, ALIVE | VIRTIO_CONFIG_S_DRIVER_OK);
	fill(d);
	nap(20000);
	return 0;
}

static int configuration_overwritten(struct dev *d)
{
	unsigned int i;

	for (i = 0; i < d->device_len; i++)
		d->device[i] = 0xff;
	for (i = 0; i < d->device_len; i++)
		d->device[i] = i;
	return good_read(d, 0, 0, reference);
}

static int write_cache_toggled_under_load(struct dev *d)
{
	unsigned int i;

	for (i = 0; i < 10; i++) {
		fill(d);
		d->device[32] = i % 2;	/* writeback */
		if (wait_used(d, 0, SIZE / 3, 20000))
			return -1;
	}
	return 0;
}

static int registers_of_odd_widths(struct dev *d)
{
	volatile uint8_t *p = d->common;
	unsigned int i;

	for (i = 0; i < 64; i += 8)
		*(volatile uint64_t *)(p + i) = *(volatile uint64_t *)(p + i);
	for (i = 21; i < 60; i++)
		p[i] = p[i] ^ 0x5a;
	return 0;
}

static int indirect_access_of_nonsense(struct dev *d)
{
	static const uint32_t at[] = { 0, 1, 0x1000, 0x7fffffff, 0xfffffffe };
	unsigned int i, cap = d->access_cap;

	if (!cap)
		return -1;
	for (i = 0; i < 60; i++) {
		pci_write(d, cap + 4, i % 12, 1);		/* BAR */
		pci_write(d, cap + 8, at[i % ARRAY_SIZE(at)], 4);
		pci_write(d, cap + 12, i % 7, 4);		/* length */
		pci_write(d, cap + 16, 0, 4);
		pci_read(d, cap + 16, 4);
	}
	return 0;
}

static int memory_access_taken_away(struct dev *d)
{
	fill(d);
	pci_write(d, 4, 2, 2);	/* no bus mastering */
	nap(20000);
	pci_write(d, 4, 6, 2);
	return 0;
}

static int registers_taken_away(struct dev *d)
{
	fill(d);
	pci_write(d, 4, 4, 2);	/* no memory decoding: reads give ones */
	notify(d, 0);
	get8(d, VIRTIO_PCI_COMMON_STATUS);
	pci_write(d, 4, 6, 2);
	return wait_used(d, 0, SIZE / 3, 20000);
}

#define V(name, outcome) { #name, name, outcome }

const struct violation device_violations[] = {
	V(notify_storm, GOES_ON),
	V(notify_a_queue_that_is_none, GOES_ON),
	V(notify_before_it_runs, RESETS),
	V(notify_after_reset, RESETS),
	V(event_indices_of_nonsense, GOES_ON),
	V(avail_flags_of_nonsense, GOES_ON),
	V(used_ring_overwritten, RESETS),
	V(interrupt_masked_and_unmasked, GOES_ON),
	V(function_masked_under_load, GOES_ON),
	V(vector_masked_under_load, GOES_ON),
	V(msix_disabled_under_load, GOES_ON),
	V(interrupt_to_nowhere, GOES_ON),
	V(vector_behind_the_table, GOES_ON),
	V(interrupt_status_storm, GOES_ON),
	V(reset_in_the_middle, GOES_ON),
	V(reset_storm, RESETS),
	V(status_bits_of_nonsense, RESETS),
	V(stops_without_reset, RESETS),
	V(gives_up_while_it_runs, RESETS),
	V(queue_enabled_anew_elsewhere, RESETS),
	V(queue_disabled_while_it_runs, RESETS),
	V(queue_reset_not_negotiated, RESETS),
	V(queue_reset_in_the_middle, GOES_ON),
	V(queue_of_100, RESETS),
	V(queue_of_0, RESETS),
	V(queue_of_65535, RESETS),
	V(queue_of_32768, RESETS),
	V(descriptors_in_no_memory, RESETS),
	V(available_ring_in_no_memory, RESETS),
	V(used_ring_in_no_memory, RESETS),
	V(used_ring_in_the_firmware, RESETS),
	V(queue_in_registers, RESETS),
	V(queue_not_aligned, RESETS),
	V(queue_parts_overlap, RESETS),
	V(queue_across_the_end_of_addresses, RESETS),
	V(queue_at_the_end_of_memory, RESETS),
	V(queue_at_address_zero, RESETS),
	V(two_queues_in_one_place, RESETS),
	V(queue_numbers_of_nonsense, GOES_ON),
	V(runs_without_queues, RESETS),
	V(all_features_at_once, RESETS),
	V(features_changed_while_it_runs, GOES_ON),
	V(runs_without_features_ok, RESETS),
	V(configuration_overwritten, GOES_ON),
	V(write_cache_toggled_under_load, GOES_ON),
	V(registers_of_odd_widths, RESETS),
	V(indirect_access_of_nonsense, RESETS),
	V(memory_access_taken_away, RESETS),
	V(registers_taken_away, RESETS),
	{ 0 }
};
