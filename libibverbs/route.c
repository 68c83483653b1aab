// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Whether PCIe has a route between two functions: what the kernel will say
 * when it maps the memory for DMA, by the rules of its drivers/pci/p2pdma.c in
 * Linux 6.12.
 *
 *	host bridge
 *	     |
 *	    port            Below a common bridge, requests are switched there
 *	     |              and never see the host bridge, unless ACS in a port on
 *	  upstream          the way, the common bridge included, redirects them.
 *	   /     \          Everything else goes up to the host bridge. Most of
 *	 port    port       these do not forward such requests, and nothing tells
 *	  |       |         which do: there is a list of the known.
 *	 BAR     NIC        Distance here: 4.
 */
#include <limits.h>
#include <string.h>

#include "internal.h"

/* Host bridges, by the function that stands for them, that do forward */
static const struct {
	unsigned int id;
	bool only_below_itself;
} forwarders[] = {
	/* Intel Xeon E5, Core i7 (Sandy Bridge) */
	{ 0x80863c00, true },
	{ 0x80863c01, true },
	/* Intel Xeon E5 and E7 v3 (Haswell) */
	{ 0x80862f00, true },
	{ 0x80862f01, true },
	/* Intel Skylake-E: root ports A to D, and DMI */
	{ 0x80862030, false },
	{ 0x80862031, false },
	{ 0x80862032, false },
	{ 0x80862033, false },
	{ 0x80862020, false },
	/* Intel Ice Lake and later */
	{ 0x808609a2, false },
};

/* What ACS does on a way, and where: the first port that is to blame */
struct acs_finding {
	enum acs acs;
	char port[PCI_ADDRESS_SIZE];
};

static void look_at_acs(const char *path, struct acs_finding *finding)
{
	enum acs acs = sysfs_acs(path);

	/* Of endpoints, few have it: not knowing is no reason to doubt them. */
	if (acs == ACS_UNKNOWN && !sysfs_is_bridge(path))
		acs = ACS_OFF;
	if (acs == ACS_OFF || finding->acs == ACS_REDIRECTS ||
	    finding->acs == acs)
		return;
	finding->acs = acs;
	strcpy(finding->port, sysfs_name(path));
}

/* Is it this function, or below it? */
static bool is_below(const char *path, const char *bridge)
{
	size_t len = strlen(bridge);

	return !strncmp(path, bridge, len) &&
	       (path[len] == '/' || !path[len]);
}

/*
 * Takes both functions, by their paths, to where their ways meet: the common
 * bridge, and true; or their host bridges.
 */
static bool meet(char *a, char *b, int *distance, struct acs_finding *finding)
{
	*distance = 0;
	for (;;) {
		look_at_acs(a, finding);
		if (is_below(b, a))
			break;
		++*distance;
		if (!sysfs_go_upstream(a)) {
			do
				++*distance;
			while (sysfs_go_upstream(b));
			return false;
		}
	}
	for (; strcmp(a, b); sysfs_go_upstream(b)) {
		look_at_acs(b, finding);
		++*distance;
	}
	return true;
}

/* Why a host bridge does not forward; IOPMEM_REASON_NONE if it does. */
static enum iopmem_route_reason
ask_host_bridge(const char *host_bridge, bool same,
		char function[PCI_ADDRESS_SIZE])
{
	char path[PATH_MAX + PCI_ADDRESS_SIZE];
	unsigned int id;

	if (!sysfs_host_bridge_function(host_bridge, function))
		return IOPMEM_REASON_HOST_BRIDGE;
	strcpy(path, host_bridge);
	strcat(path, "/");
	strcat(path, function);
	id = sysfs_pci_id(path);

	for (size_t i = 0; i < sizeof(forwarders) / sizeof(*forwarders); i++)
		if (forwarders[i].id == id)
			return forwarders[i].only_below_itself && !same ?
			       IOPMEM_REASON_HOST_BRIDGES : IOPMEM_REASON_NONE;
	return IOPMEM_REASON_HOST_BRIDGE;
}

static void through_host_bridges(const char *root, const char *a,
				 const char *b, struct iopmem_route *route)
{
	bool same = !strcmp(a, b);
	enum iopmem_route_reason reason = IOPMEM_REASON_NONE;
	char function[PCI_ADDRESS_SIZE] = "";

	if (!sysfs_cpu_is_zen(root)) {
		reason = ask_host_bridge(a, same, function);
		if (!reason && !same)
			reason = ask_host_bridge(b, same, function);
	}
	if (!reason) {
		route->type = IOPMEM_ROUTE_HOST_BRIDGE;
		return;
	}
	route->type = IOPMEM_ROUTE_NONE;
	/* ACS is the one that can be switched off. */
	if (route->reason)
		return;
	route->reason = reason;
	strcpy(route->bridge, function);
}

int find_pci_route(const char *root, struct iopmem_route *route)
{
	char a[PATH_MAX], b[PATH_MAX];
	struct acs_finding finding = { .acs = ACS_OFF };
	bool common;
	int ret;

	ret = sysfs_pci_path(root, route->provider, a);
	if (!ret)
		ret = sysfs_pci_path(root, route->device, b);
	if (ret)
		return ret;

	if (sysfs_has_iommu(b))
		route->flags |= IOPMEM_ROUTE_FLAG_IOMMU;
	common = meet(a, b, &route->distance, &finding);
	if (!common) {
		through_host_bridges(root, a, b, route);
		return 0;
	}
	route->type = IOPMEM_ROUTE_BUS_ADDR;
	if (finding.acs == ACS_OFF)
		return 0;

	strcpy(route->bridge, finding.port);
	if (finding.acs == ACS_UNKNOWN) {
		route->reason = IOPMEM_REASON_ACS_UNKNOWN;
		return 0;
	}
	route->reason = IOPMEM_REASON_ACS;
	while (sysfs_go_upstream(a))
		;
	through_host_bridges(root, a, a, route);
	return 0;
}

int find_rdma_route(const char *root, const char *device,
		    struct iopmem_route *route)
{
	bool is_virtual;
	int ret = sysfs_rdma_address(root, device, &is_virtual, route->device);

	if (ret)
		return ret;
	if (route->device[0])
		return find_pci_route(root, route);

	route->distance = -1;
	route->type = is_virtual ? IOPMEM_ROUTE_CPU : IOPMEM_ROUTE_NONE;
	route->reason = is_virtual ? IOPMEM_REASON_VIRTUAL :
				     IOPMEM_REASON_NOT_PCI;
	return 0;
}
