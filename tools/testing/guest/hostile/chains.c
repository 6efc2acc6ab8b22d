// SPDX-License-Identifier: GPL-2.0
/*
 * Violations by what is in a ring: queue 0 of a device that runs. Those of the
 * kernel's selftests (violation.c), through a real device.
 */
#include <string.h>

#include "hostile.h"

#define D0 (d->q[0].desc)

/* Offer the chain at descriptor 0, and nothing more. */
static int go(struct dev *d)
{
	offer(d, 0, 0);
	notify(d, 0);
	return 0;
}

/* Offer it, and expect this status. */
static int go_status(struct dev *d, uint8_t want)
{
	go(d);
	if (wait_used(d, 0, 1, 20000))
		return -1;
	return *status(d, 0) == want ? 0 : -1;
}

static volatile struct vring_desc *table(struct dev *d)
{
	volatile struct vring_desc *t = (void *)(d->mem + AT_TABLE);

	lay_out(d, 0, 0, 0);
	memcpy((void *)t, (void *)D0, 3 * sizeof(*t));
	D0[0].addr = d->phys + AT_TABLE;
	D0[0].len = 48;
	D0[0].flags = VRING_DESC_F_INDIRECT;
	return t;
}

static int head_behind_the_table(struct dev *d)
{
	offer(d, 0, SIZE);
	notify(d, 0);
	return 0;
}

static int head_far_behind_the_table(struct dev *d)
{
	offer(d, 0, 0xffff);
	notify(d, 0);
	return 0;
}

static int next_behind_the_table(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[0].next = SIZE;
	return go(d);
}

static int next_is_itself(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[0].next = 0;
	return go(d);
}

static int next_goes_back(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[2].flags |= VRING_DESC_F_NEXT;
	D0[2].next = 1;
	return go(d);
}

static int chain_of_the_whole_ring(struct dev *d)
{
	unsigned int i;

	lay_out(d, 0, 0, 0);
	for (i = 1; i < SIZE; i++) {
		D0[i].addr = addr(d, data(d, i));
		D0[i].len = 64;
		D0[i].flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE;
		D0[i].next = (i + 1) % SIZE;
	}
	return go(d);
}

static int header_in_no_memory(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[0].addr = HOLE;
	return go(d);
}

static int data_in_no_memory(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[1].addr = HOLE;
	return go(d);
}

static int data_across_the_end_of_memory(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[1].addr = d->ram_end - 512;
	return go(d);
}

static int data_across_the_end_of_addresses(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[1].addr = -512ULL;
	return go(d);
}

static int data_in_registers_of_the_device(struct dev *d)
{
	unsigned int i = 0;

	while (!d->bar[i])
		i++;
	lay_out(d, 0, 0, 0);
	D0[1].addr = d->bar_phys[i];
	D0[1].len = 512;
	return go(d);
}

static int status_in_no_memory(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[2].addr = HOLE + 7;
	return go(d);
}

static int length_of_four_gigabytes(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[1].len = 0xffffffff;
	return go(d);
}

static int readable_behind_writable(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[2].flags = 0;
	return go(d);
}

static int indirect_in_indirect(struct dev *d)
{
	volatile struct vring_desc *t = table(d);

	t[1].addr = d->phys + AT_TABLE;
	t[1].len = 48;
	t[1].flags = VRING_DESC_F_INDIRECT;
	return go(d);
}

static int indirect_of_no_whole_descriptors(struct dev *d)
{
	table(d);
	D0[0].len = 40;
	return go(d);
}

static int indirect_of_nothing(struct dev *d)
{
	table(d);
	D0[0].len = 0;
	return go(d);
}

static int indirect_in_no_memory(struct dev *d)
{
	table(d);
	D0[0].addr = HOLE;
	return go(d);
}

static int indirect_of_a_megabyte(struct dev *d)
{
	table(d);
	D0[0].len = 17 << 16;
	return go(d);
}

static int indirect_goes_on_behind_its_end(struct dev *d)
{
	table(d)[2].flags |= VRING_DESC_F_NEXT;
	return go(d);
}

static int available_index_jumps(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	d->q[0].next += SIZE;
	return go(d);
}

static int available_index_jumps_far(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	d->q[0].next += 0x8000;
	return go(d);
}

static int available_index_goes_back(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	d->q[0].next -= 2;
	return go(d);
}

/* Sound chains that are no requests. */

static int header_too_short(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[0].len = 15;
	return go_status(d, VIRTIO_BLK_S_IOERR);
}

static int header_alone(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[0].flags = 0;
	return go_status(d, 0xee);
}

static int status_alone(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[0] = D0[2];
	return go_status(d, VIRTIO_BLK_S_IOERR);
}

static int nothing_at_all(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[0].len = 0;
	D0[1].len = 0;
	D0[2].len = 0;
	return go_status(d, 0xee);
}

static int no_whole_sectors(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[1].len = 1000;
	return go_status(d, VIRTIO_BLK_S_IOERR);
}

static int sector_beyond_all_numbers(struct dev *d)
{
	lay_out(d, 0, 0, ~0ULL);
	return go_status(d, VIRTIO_BLK_S_IOERR);
}

static int last_sector_and_one_more(struct dev *d)
{
	uint64_t capacity = *(volatile uint64_t *)d->device;

	lay_out(d, 0, 0, capacity - DATA_LEN / 512 + 1);
	return go_status(d, VIRTIO_BLK_S_IOERR);
}

static int type_that_nobody_knows(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	header(d, 0)->type = 0xdeadbeef;
	return go_status(d, VIRTIO_BLK_S_UNSUPP);
}

static int scsi_command(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	header(d, 0)->type = VIRTIO_BLK_T_SCSI_CMD;
	return go_status(d, VIRTIO_BLK_S_UNSUPP);
}

static int discard_without_the_feature(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	header(d, 0)->type = VIRTIO_BLK_T_DISCARD;
	D0[1].flags = VRING_DESC_F_NEXT;
	D0[1].len = sizeof(struct virtio_blk_discard_write_zeroes);
	return go_status(d, VIRTIO_BLK_S_UNSUPP);
}

static int read_with_no_room(struct dev *d)
{
	lay_out(d, 0, 0, 0);
	D0[1].flags = VRING_DESC_F_NEXT;
	return go_status(d, VIRTIO_BLK_S_OK);
}

static int same_head_many_times(struct dev *d)
{
	unsigned int i;

	/* they may be served one by one, or be met in flight: a violation */
	lay_out(d, 0, 0, 0);
	for (i = 0; i < SIZE; i++)
		offer(d, 0, 0);
	notify(d, 0);
	nap(50000);
	return 0;
}

static int request_changes_in_flight(struct dev *d)
{
	unsigned int i, j;

	for (i = 0; i < 50; i++) {
		lay_out(d, 0, 0, 0);
		go(d);
		for (j = 0; j < 200; j++) {
			header(d, 0)->sector = j % 3 ? ~0ULL : 8;
			header(d, 0)->type = j % 5;
			D0[1].addr = j % 2 ? HOLE : addr(d, data(d, 0));
			D0[1].len = j % 7 * 512;
			D0[1].next = j % 4;
			/* writes, if any, are of the data read before */
			if (header(d, 0)->type == VIRTIO_BLK_T_OUT)
				header(d, 0)->type = VIRTIO_BLK_T_GET_ID;
		}
		if (get8(d, VIRTIO_PCI_COMMON_STATUS) & NEEDS_RESET)
			break;
		nap(300);
	}
	return 0;
}

#define V(name, outcome) { #name, name, outcome }

const struct violation chain_violations[] = {
	V(head_behind_the_table, STOPS),
	V(head_far_behind_the_table, STOPS),
	V(next_behind_the_table, STOPS),
	V(next_is_itself, STOPS),
	V(next_goes_back, STOPS),
	V(chain_of_the_whole_ring, STOPS),
	V(header_in_no_memory, STOPS),
	V(data_in_no_memory, STOPS),
	V(data_across_the_end_of_memory, STOPS),
	V(data_across_the_end_of_addresses, STOPS),
	V(data_in_registers_of_the_device, STOPS),
	V(status_in_no_memory, STOPS),
	V(length_of_four_gigabytes, STOPS),
	V(readable_behind_writable, STOPS),
	V(indirect_in_indirect, STOPS),
	V(indirect_of_no_whole_descriptors, STOPS),
	V(indirect_of_nothing, STOPS),
	V(indirect_in_no_memory, STOPS),
	V(indirect_of_a_megabyte, STOPS),
	V(indirect_goes_on_behind_its_end, STOPS),
	V(available_index_jumps, STOPS),
	V(available_index_jumps_far, STOPS),
	V(available_index_goes_back, STOPS),
	V(header_too_short, REFUSED),
	V(header_alone, REFUSED),
	V(status_alone, REFUSED),
	V(nothing_at_all, REFUSED),
	V(no_whole_sectors, REFUSED),
	V(sector_beyond_all_numbers, REFUSED),
	V(last_sector_and_one_more, REFUSED),
	V(type_that_nobody_knows, REFUSED),
	V(scsi_command, REFUSED),
	V(discard_without_the_feature, REFUSED),
	V(read_with_no_room, REFUSED),
	V(same_head_many_times, RESETS),
	V(request_changes_in_flight, RESETS),
	{ 0 }
};
