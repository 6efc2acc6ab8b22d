// SPDX-License-Identifier: GPL-2.0
/* Take a virtio PCI device away from its driver, see hostile.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostile.h"

/*
 * An interrupt vector that Linux counts in /proc/interrupts ("PIN") and does
 * nothing else with, as KVM's posted interrupts do not happen in a guest.
 */
#define VECTOR		0xf2
#define VECTOR_ROW	"PIN:"
#define MSI_ADDRESS	0xfee00000ULL

static int fail(const char *what, const char *which)
{
	printf("# %s %s: %s\n", what, which, strerror(errno));
	return -1;
}

static int put_text(const char *dir, const char *name, const char *text)
{
	char path[320];
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY);
	r = fd >= 0 && write(fd, text, strlen(text)) >= 0 ? 0 : fail("write", path);
	if (fd >= 0)
		close(fd);
	return r;
}

uint32_t pci_read(const struct dev *d, unsigned int at, unsigned int len)
{
	uint32_t v = 0;

	return pread(d->config, &v, len, at) == (ssize_t)len ? v : ~0u;
}

void pci_write(const struct dev *d, unsigned int at, uint32_t v, unsigned int len)
{
	if (pwrite(d->config, &v, len, at) != (ssize_t)len)
		fail("write", "config");
}

static volatile uint8_t *map_bar(struct dev *d, unsigned int bar)
{
	char path[320];
	struct stat st;
	void *p;
	int fd;

	if (bar > 5)
		return NULL;
	if (d->bar[bar])
		return d->bar[bar];
	snprintf(path, sizeof(path), "%s/resource%u", d->path, bar);
	fd = open(path, O_RDWR);
	if (fd < 0 || fstat(fd, &st))
		return NULL;
	p = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return NULL;
	d->bar[bar] = p;
	d->bar_phys[bar] = pci_read(d, 0x10 + 4 * bar, 4) & ~15u;
	if ((pci_read(d, 0x10 + 4 * bar, 4) & 6) == 4)
		d->bar_phys[bar] |= (uint64_t)pci_read(d, 0x14 + 4 * bar, 4) << 32;
	return p;
}

static int virtio_cap(struct dev *d, unsigned int cap)
{
	unsigned int type = pci_read(d, cap + 3, 1);
	volatile uint8_t *p;

	if (type == VIRTIO_PCI_CAP_PCI_CFG)
		d->access_cap = cap;
	if (type < VIRTIO_PCI_CAP_COMMON_CFG || type > VIRTIO_PCI_CAP_DEVICE_CFG)
		return 0;
	p = map_bar(d, pci_read(d, cap + 4, 1));
	if (!p)
		return fail("map", "a BAR");
	p += pci_read(d, cap + 8, 4);
	switch (type) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		d->common = p;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		d->notify = p;
		d->mult = pci_read(d, cap + 16, 4);
		break;
	case VIRTIO_PCI_CAP_ISR_CFG:
		d->isr = p;
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		d->device = p;
		d->device_len = pci_read(d, cap + 12, 4);
		break;
	}
	return 0;
}

static int msix_cap(struct dev *d, unsigned int cap)
{
	uint32_t table = pci_read(d, cap + 4, 4), pba = pci_read(d, cap + 8, 4);

	if (!map_bar(d, table & 7) || !map_bar(d, pba & 7))
		return fail("map", "MSI-X");
	d->msix_cap = cap;
	d->msix = (volatile uint32_t *)(d->bar[table & 7] + (table & ~7u));
	d->pba = (volatile uint64_t *)(d->bar[pba & 7] + (pba & ~7u));
	return 0;
}

static int find_caps(struct dev *d)
{
	unsigned int cap, id, r = 0;

	for (cap = pci_read(d, 0x34, 1); cap && !r; cap = pci_read(d, cap + 1, 1)) {
		id = pci_read(d, cap, 1);
		if (id == 0x09)
			r = virtio_cap(d, cap);
		else if (id == 0x11)
			r = msix_cap(d, cap);
	}
	if (r || !d->common || !d->notify || !d->isr || !d->device || !d->msix)
		return fail("find", "the device's structures");
	return 0;
}

/* Memory in one piece, whose physical address we know. */
static int find_memory(struct dev *d)
{
	uint64_t entry = 0;
	int fd;

	put_text("/proc/sys/vm", "nr_hugepages", "2");
	d->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	if (d->mem == MAP_FAILED)
		return fail("get", "a huge page");
	memset(d->mem, 0, MEM_SIZE);
	fd = open("/proc/self/pagemap", O_RDONLY);
	if (pread(fd, &entry, 8, (uintptr_t)d->mem / 4096 * 8) != 8 ||
	    !(entry & (BIT64(55) - 1)))
		return fail("read", "pagemap");
	close(fd);
	d->phys = (entry & (BIT64(55) - 1)) * 4096;
	return 0;
}

static int find_ram_end(struct dev *d)
{
	unsigned long long from, to;
	char line[128], what[64];
	FILE *f = fopen("/proc/iomem", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx-%llx : %63[^\n]", &from, &to, what) == 3 &&
		    !strcmp(what, "System RAM"))
			/* the firmware keeps the last of it for itself */
			d->ram_end = (to + 0x1000000) & ~0xffffffULL;
	if (f)
		fclose(f);
	return d->ram_end ? 0 : fail("find", "the end of memory");
}

int pci_take(struct dev *d, const char *disk)
{
	char path[128], *p;

	memset(d, 0, sizeof(*d));
	snprintf(path, sizeof(path), "/sys/block/%s/device/..", disk);
	p = realpath(path, NULL);
	if (!p)
		return fail("find", disk);
	snprintf(d->path, sizeof(d->path), "%s", p);
	snprintf(d->bdf, sizeof(d->bdf), "%.31s", strrchr(p, '/') + 1);
	free(p);
	if (put_text("/sys/bus/pci/drivers/virtio-pci", "unbind", d->bdf) ||
	    put_text(d->path, "enable", "1"))
		return -1;
	snprintf(path, sizeof(path), "%.100s/config", d->path);
	d->config = open(path, O_RDWR);
	if (d->config < 0)
		return fail("open", path);
	if (find_caps(d) || find_memory(d) || find_ram_end(d))
		return -1;
	/* memory and bus mastering */
	pci_write(d, 4, 6, 2);
	return 0;
}

int pci_give_back(struct dev *d)
{
	msix_enable(d, false, false);
	put_text(d->path, "enable", "0");
	return put_text("/sys/bus/pci/drivers/virtio-pci", "bind", d->bdf);
}

void msix_enable(const struct dev *d, bool on, bool mask_all)
{
	pci_write(d, d->msix_cap + 2, on << 15 | mask_all << 14, 2);
}

void msix_set(const struct dev *d, unsigned int entry, uint64_t address,
	      uint32_t value, bool masked)
{
	volatile uint32_t *e = d->msix + 4 * entry;

	e[0] = address;
	e[1] = address >> 32;
	e[2] = value;
	e[3] = masked;
}

void msix_plain(const struct dev *d, unsigned int entry, bool masked)
{
	msix_set(d, entry, MSI_ADDRESS, VECTOR, masked);
}

long msix_count(void)
{
	FILE *f = fopen("/proc/interrupts", "r");
	char line[256];
	long n = -1;

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, VECTOR_ROW))
			n = atol(strchr(line, ':') + 1);
	if (f)
		fclose(f);
	return n;
}
