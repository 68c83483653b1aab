// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libiopmem_abi: what a program that was built with the header has compiled
 * into itself, as text: prototypes, structures, constants. For 64-bit systems.
 */
#include <infiniband/iopmem.h>

#include <stdio.h>

/* A prototype that is not this one does not compile. */
#define FUNCTION(ret, name, args)					\
	do {								\
		_Static_assert(__builtin_types_compatible_p(		\
			__typeof__(name), ret args), #name);		\
		printf("function " #ret " " #name #args "\n");		\
	} while (0)

#define STRUCT(name)							\
	printf("struct " #name ": %zu bytes\n", sizeof(struct name))

#define FIELD(name, field)						\
	printf("struct " #name "." #field ": at %zu, %zu bytes\n",	\
	       offsetof(struct name, field),				\
	       sizeof(((struct name *)NULL)->field))

#define VALUE(name) printf(#name ": %llu\n", (unsigned long long)(name))

int main(void)
{
	FUNCTION(int, iopmem_alloc, (int, size_t, unsigned int));
	FUNCTION(int, iopmem_dereg_mr, (struct ibv_mr *));
	FUNCTION(int, iopmem_query_info, (int, struct iopmem_info *));
	FUNCTION(int, iopmem_query_route,
		 (struct ibv_context *, int, struct iopmem_route *));
	FUNCTION(struct ibv_mr *, iopmem_reg_mr,
		 (struct ibv_pd *, uint64_t, size_t, uint64_t, int, int));
	FUNCTION(const char *, iopmem_route_reason_str,
		 (enum iopmem_route_reason));

	STRUCT(iopmem_info);
	FIELD(iopmem_info, size);
	FIELD(iopmem_info, free);
	FIELD(iopmem_info, granularity);
	FIELD(iopmem_info, cache_mode);
	FIELD(iopmem_info, flags);
	FIELD(iopmem_info, pci_domain);
	FIELD(iopmem_info, pci_bus);
	FIELD(iopmem_info, pci_devfn);
	FIELD(iopmem_info, reserved);
	FIELD(iopmem_info, name);

	STRUCT(iopmem_route);
	FIELD(iopmem_route, type);
	FIELD(iopmem_route, reason);
	FIELD(iopmem_route, distance);
	FIELD(iopmem_route, flags);
	FIELD(iopmem_route, device);
	FIELD(iopmem_route, provider);
	FIELD(iopmem_route, bridge);
	FIELD(iopmem_route, reserved);

	VALUE(IOPMEM_ALLOC_NOZERO);
	VALUE(IOPMEM_CACHE_UC);
	VALUE(IOPMEM_CACHE_WC);
	VALUE(IOPMEM_INFO_ATTACHED);
	VALUE(IOPMEM_ROUTE_NONE);
	VALUE(IOPMEM_ROUTE_BUS_ADDR);
	VALUE(IOPMEM_ROUTE_HOST_BRIDGE);
	VALUE(IOPMEM_ROUTE_CPU);
	VALUE(IOPMEM_REASON_NONE);
	VALUE(IOPMEM_REASON_HOST_BRIDGE);
	VALUE(IOPMEM_REASON_HOST_BRIDGES);
	VALUE(IOPMEM_REASON_ACS);
	VALUE(IOPMEM_REASON_ACS_UNKNOWN);
	VALUE(IOPMEM_REASON_VIRTUAL);
	VALUE(IOPMEM_REASON_NOT_PCI);
	VALUE(IOPMEM_ROUTE_FLAG_IOMMU);
	return 0;
}
