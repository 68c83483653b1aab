// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "verbs.h"

#include <rdma/ib_user_verbs.h>
#include <unistd.h>

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

int ask_kernel_to_rereg(struct ibv_mr *mr, uint32_t flags, struct ibv_pd *pd,
			void *p, size_t len, int access)
{
	struct ib_uverbs_rereg_mr_resp resp;
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_rereg_mr cmd;
	} request = {
		.hdr.command = IB_USER_VERBS_CMD_REREG_MR,
		.hdr.in_words = sizeof(request) / 4,
		.hdr.out_words = sizeof(resp) / 4,
		.cmd.response = (uintptr_t)&resp,
		.cmd.mr_handle = mr->handle,
		.cmd.flags = flags,
		.cmd.start = (uintptr_t)p,
		.cmd.length = len,
		.cmd.hca_va = (uintptr_t)p,
		.cmd.pd_handle = pd->handle,
		.cmd.access_flags = access,
	};

	return write(mr->context->cmd_fd, &request, sizeof(request)) ==
	       sizeof(request) ? 0 : errno;
}
