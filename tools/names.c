// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Routes and reasons in a word, for JSON and tables.
 */
#include "tool.h"

const char *route_name(enum iopmem_route_type type)
{
	switch (type) {
	case IOPMEM_ROUTE_NONE:
		return "none";
	case IOPMEM_ROUTE_BUS_ADDR:
		return "bus-addr";
	case IOPMEM_ROUTE_HOST_BRIDGE:
		return "host-bridge";
	case IOPMEM_ROUTE_CPU:
		return "cpu";
	}
	return "unknown";
}

const char *reason_name(enum iopmem_route_reason reason)
{
	switch (reason) {
	case IOPMEM_REASON_NONE:
		return "nothing";
	case IOPMEM_REASON_HOST_BRIDGE:
		return "host-bridge";
	case IOPMEM_REASON_HOST_BRIDGES:
		return "host-bridges";
	case IOPMEM_REASON_ACS:
		return "acs";
	case IOPMEM_REASON_ACS_UNKNOWN:
		return "acs-unknown";
	case IOPMEM_REASON_VIRTUAL:
		return "virtual";
	case IOPMEM_REASON_NOT_PCI:
		return "not-pci";
	}
	return "unknown";
}
