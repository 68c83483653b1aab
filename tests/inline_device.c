// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * For LD_PRELOAD: perftest takes the RDMA device for one with which it sends
 * small messages inline by default, which it does not do with rxe.
 */
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>

/* Of the devices perftest knows, one it treats specially in nothing else. */
#define INLINE_PART_ID	4223

int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	int (*query)(struct ibv_context *, struct ibv_device_attr *);
	int ret;

	*(void **)&query = dlsym(RTLD_NEXT, "ibv_query_device");
	if (!query)
		return ENOSYS;

	ret = query(context, attr);
	attr->vendor_part_id = INLINE_PART_ID;
	return ret;
}
