// SPDX-License-Identifier: GPL-2.0
/*
 * hostile DISK OTHER [NAME]: take DISK (as vda) away from its driver and break the
 * driver's duties one by one (from NAME on). After each, the device must serve sound requests
 * again, at the latest after a reset, and OTHER, which its driver keeps, must be
 * as before. TAP without a plan or numbers; the last line tells how many.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hostile.h"

const uint8_t *reference;
static uint8_t *other;
static char other_path[64];
static bool failed;

static void result(bool good, const char *name)
{
	printf("%sok - %s\n", good ? "" : "not ", name);
	fflush(stdout);
	failed |= !good;
}

/* The first megabyte of a disk, through its driver. */
static uint8_t *disk_read(const char *path)
{
	uint8_t *buf = NULL;
	int fd = open(path, O_RDONLY | O_DIRECT);

	if (fd < 0 || posix_memalign((void **)&buf, 4096, REFERENCE_LEN) ||
	    pread(fd, buf, REFERENCE_LEN, 0) != REFERENCE_LEN) {
		printf("# cannot read %s\n", path);
		exit(1);
	}
	close(fd);
	return buf;
}

static bool canary_intact(const struct dev *d)
{
	unsigned int i;

	for (i = 0; i < CANARY_LEN; i++)
		if (d->mem[AT_CANARY + i] != CANARY)
			return false;
	return true;
}

/* Does the other disk, another device of the same host, still work? */
static bool other_well(void)
{
	uint8_t *now = disk_read(other_path);
	bool same = !memcmp(now, other, REFERENCE_LEN);

	free(now);
	if (!same)
		printf("# the other disk has changed\n");
	return same;
}

/* Two queues, several sectors, after a reset. */
static bool well_after_reset(struct dev *d)
{
	unsigned int i;

	if (dev_up(d, FEATURES)) {
		printf("# the device does not come up\n");
		return false;
	}
	for (i = 0; i < 4; i++)
		if (good_read(d, i % QUEUES, i * 64, reference + i * 64 * 512))
			return false;
	return true;
}

static bool outcome_right(struct dev *d, const struct violation *v)
{
	switch (v->outcome) {
	case STOPS:
		if (!dev_stopped(d, 10000)) {
			printf("# the device does not say that it needs a reset\n");
			return false;
		}
		return d->q[0].used->idx == d->q[0].last;
	case REFUSED:
	case GOES_ON:
		return !(get8(d, VIRTIO_PCI_COMMON_STATUS) & NEEDS_RESET) &&
		       !good_read(d, 0, 8, reference + 8 * 512);
	default:
		return true;
	}
}

static unsigned int violate(struct dev *d, const struct violation *v,
			    const char **from)
{
	unsigned int n = 0;
	bool good;

	for (; v->name; v++) {
		if (*from && strcmp(*from, v->name))
			continue;
		*from = NULL;
		n++;
		pci_write(d, 4, 6, 2);
		good = well_after_reset(d);
		if (v->commit(d)) {
			printf("# it was not answered as it should\n");
			good = false;
		}
		good &= outcome_right(d, v);
		pci_write(d, 4, 6, 2);
		good &= well_after_reset(d);
		good &= canary_intact(d);
		good &= other_well();
		result(good, v->name);
	}
	return n;
}

int main(int argc, char **argv)
{
	const char *from;
	char path[64];
	unsigned int n;
	uint8_t *now;
	struct dev d;

	if (argc < 3)
		return 2;
	from = argv[3];
	snprintf(path, sizeof(path), "/dev/%s", argv[1]);
	snprintf(other_path, sizeof(other_path), "/dev/%s", argv[2]);
	reference = disk_read(path);
	other = disk_read(other_path);
	if (pci_take(&d, argv[1]))
		return 1;
	memset(d.mem + AT_CANARY, CANARY, CANARY_LEN);
	n = violate(&d, chain_violations, &from);
	n += violate(&d, device_violations, &from);
	dev_reset(&d);
	/* the ordinary driver finds an ordinary device */
	if (pci_give_back(&d))
		return 1;
	while (access(path, R_OK))
		nap(100000);
	now = disk_read(path);
	result(!memcmp(now, reference, REFERENCE_LEN),
	       "the guest's own driver takes the device back");
	printf("# violations: %u\n", n);
	return failed;
}
