// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "verbs.h"

#include "tap.h"

struct ibv_context *open_rdma_device(const char *name)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = NULL;

	if (!list)
		give_up("list of RDMA devices");
	errno = ENODEV;
	for (int i = 0; list[i] && !context; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name))
			context = ibv_open_device(list[i]);
	if (!context)
		give_up("open %s", name);
	ibv_free_device_list(list);
	return context;
}

struct ibv_pd *alloc_pd_on(const char *name)
{
	struct ibv_pd *pd = ibv_alloc_pd(open_rdma_device(name));

	if (!pd)
		give_up("protection domain on %s", name);
	return pd;
}

void close_rdma_device(struct ibv_pd *pd)
{
	struct ibv_context *context = pd->context;

	if (ibv_dealloc_pd(pd) || ibv_close_device(context))
		give_up("close the RDMA device");
}
