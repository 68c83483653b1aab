// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * For LD_PRELOAD: a program that does not read back the last byte of what it has
 * written by RDMA, and tells of it only after that, is aborted; so is one that does
 * not write at all. Soft-RoCE, which copies by CPU, would not notice.
 */
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>
#include <stdlib.h>

static int (*post_send)(struct ibv_qp *, struct ibv_send_wr *,
			struct ibv_send_wr **);
static unsigned long writes;

static void check(const struct ibv_send_wr *write)
{
	const struct ibv_send_wr *read = write->next;
	const struct ibv_send_wr *send = read ? read->next : NULL;

	if (send && read->opcode == IBV_WR_RDMA_READ &&
	    read->wr.rdma.remote_addr == write->wr.rdma.remote_addr +
					 write->sg_list[0].length - 1 &&
	    send->opcode == IBV_WR_SEND && send->send_flags & IBV_SEND_FENCE)
		return;
	fprintf(stderr, "post_order: a write is not read back\n");
	abort();
}

static int checked_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr,
			     struct ibv_send_wr **bad)
{
	for (struct ibv_send_wr *w = wr; w; w = w->next) {
		if (w->opcode != IBV_WR_RDMA_WRITE)
			continue;
		check(w);
		__atomic_add_fetch(&writes, 1, __ATOMIC_RELAXED);
	}
	return post_send(qp, wr, bad);
}

int rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd,
		   struct ibv_qp_init_attr *attr)
{
	int (*create)(struct rdma_cm_id *, struct ibv_pd *,
		      struct ibv_qp_init_attr *);

	*(void **)&create = dlsym(RTLD_NEXT, "rdma_create_qp");
	post_send = id->verbs->ops.post_send;
	id->verbs->ops.post_send = checked_post_send;
	return create(id, pd, attr);
}

void rdma_destroy_qp(struct rdma_cm_id *id)
{
	void (*destroy)(struct rdma_cm_id *);

	if (!writes) {
		fprintf(stderr, "post_order: nothing was written\n");
		abort();
	}
	*(void **)&destroy = dlsym(RTLD_NEXT, "rdma_destroy_qp");
	destroy(id);
}
