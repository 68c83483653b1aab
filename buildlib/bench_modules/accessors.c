// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The kernel's ways to access I/O memory, for ./lab bench accesses. Loading it with
 * function=0000:03:00.0 accessor=NAME moves 64 KiB to or from that function's
 * peer-to-peer memory in this one way, and fails; QEMU counts meanwhile.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/sizes.h>
#include <linux/vmalloc.h>

#include "rxe_copy.h"

#define LEN	SZ_64K

static char *function;
module_param(function, charp, 0);
static char *accessor;
module_param(accessor, charp, 0);

static int move(const char *way, void __iomem *io, void *ram)
{
	if (!strcmp(way, "memset_io"))
		memset_io(io, 0, LEN);
	else if (!strcmp(way, "memcpy_toio"))
		memcpy_toio(io, ram, LEN);
	else if (!strcmp(way, "__iowrite32_copy"))
		__iowrite32_copy(io, ram, LEN / 4);
	else if (!strcmp(way, "__iowrite64_copy"))
		__iowrite64_copy(io, ram, LEN / 8);
	else if (!strcmp(way, "rxe_copy_to_io"))
		rxe_copy_to_io(io, ram, LEN);
	else if (!strcmp(way, "memcpy_fromio"))
		memcpy_fromio(ram, io, LEN);
	else if (!strcmp(way, "__ioread32_copy"))
		__ioread32_copy(ram, io, LEN / 4);
	else if (!strcmp(way, "rxe_copy_from_io"))
		rxe_copy_from_io(ram, io, LEN);
	else
		return -EINVAL;
	return -EAGAIN;
}

static int __init accessors_init(void)
{
	unsigned int domain, bus, slot, fn;
	struct pci_dev *pdev;
	void *ram, *memory;
	int ret = -ENOMEM;

	if (!function || !accessor ||
	    sscanf(function, "%x:%x:%x.%x", &domain, &bus, &slot, &fn) != 4)
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, fn));
	if (!pdev)
		return -ENODEV;

	ram = vzalloc(LEN);
	memory = pci_alloc_p2pmem(pdev, LEN);
	if (ram && memory)
		ret = move(accessor, (void __iomem __force *)memory, ram);
	if (memory)
		pci_free_p2pmem(pdev, memory, LEN);
	vfree(ram);
	pci_dev_put(pdev);
	return ret;
}

module_init(accessors_init);

MODULE_DESCRIPTION("The kernel's ways to access I/O memory");
MODULE_LICENSE("Dual BSD/GPL");
