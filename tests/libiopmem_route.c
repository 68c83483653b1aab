// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libiopmem_route ROOT DEVICE PROVIDER: the library's verdict, on the tree
 * below the folder ROOT ("" for the running system). DEVICE is the name of an
 * RDMA device or the address of a PCI function, PROVIDER the address of the
 * function with the memory. Prints the errno, or
 *
 *	TYPE REASON DISTANCE DEVICE-ADDRESS BRIDGE-ADDRESS FLAGS
 *
 * with a dash for addresses that are not there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static const char * const types[] = {
	[IOPMEM_ROUTE_NONE] = "none",
	[IOPMEM_ROUTE_BUS_ADDR] = "bus-addr",
	[IOPMEM_ROUTE_HOST_BRIDGE] = "host-bridge",
	[IOPMEM_ROUTE_CPU] = "cpu",
};

static const char * const reasons[] = {
	[IOPMEM_REASON_NONE] = "nothing",
	[IOPMEM_REASON_HOST_BRIDGE] = "host-bridge",
	[IOPMEM_REASON_HOST_BRIDGES] = "host-bridges",
	[IOPMEM_REASON_ACS] = "acs",
	[IOPMEM_REASON_ACS_UNKNOWN] = "acs-unknown",
	[IOPMEM_REASON_VIRTUAL] = "virtual",
	[IOPMEM_REASON_NOT_PCI] = "not-pci",
};

static const char *or_dash(const char *s)
{
	return s[0] ? s : "-";
}

int main(int argc, char **argv)
{
	struct iopmem_route route = { 0 };
	int ret;

	if (argc != 4 || strlen(argv[3]) >= sizeof(route.provider)) {
		fprintf(stderr, "usage: libiopmem_route ROOT DEVICE PROVIDER\n");
		return EXIT_FAILURE;
	}
	strcpy(route.provider, argv[3]);
	if (sysfs_is_pci_address(argv[2])) {
		strcpy(route.device, argv[2]);
		ret = find_pci_route(argv[1], &route);
	} else {
		ret = find_rdma_route(argv[1], argv[2], &route);
	}
	if (ret)
		printf("%s\n", strerrorname_np(ret));
	else
		printf("%s %s %d %s %s %s\n", types[route.type],
		       reasons[route.reason], route.distance,
		       or_dash(route.device), or_dash(route.bridge),
		       route.flags & IOPMEM_ROUTE_FLAG_IOMMU ? "iommu" : "-");
	return EXIT_SUCCESS;
}
