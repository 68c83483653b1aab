// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include <string.h>

#include "internal.h"

int iopmem_query_route(struct ibv_context *context, int fd,
		       struct iopmem_route *route)
{
	int ret;

	memset(route, 0, sizeof(*route));
	ret = provider_address(fd, route->provider);
	if (ret)
		return ret;
	return find_rdma_route("", ibv_get_device_name(context->device), route);
}

const char *iopmem_route_reason_str(enum iopmem_route_reason reason)
{
	switch (reason) {
	case IOPMEM_REASON_NONE:
		return "nothing is in the way";
	case IOPMEM_REASON_HOST_BRIDGE:
		return "no common bridge, and the host bridge is not known to forward between peers";
	case IOPMEM_REASON_HOST_BRIDGES:
		return "below different host bridges, which are not known to forward to each other";
	case IOPMEM_REASON_ACS:
		return "ACS redirects requests of peers to the host bridge";
	case IOPMEM_REASON_ACS_UNKNOWN:
		return "without CAP_SYS_ADMIN, it cannot be read whether ACS redirects requests of peers";
	case IOPMEM_REASON_VIRTUAL:
		return "the RDMA device is virtual: the CPU copies";
	case IOPMEM_REASON_NOT_PCI:
		return "the RDMA device is not on PCI";
	}
	return "unknown reason";
}
