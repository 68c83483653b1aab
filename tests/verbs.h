/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What test programs need of libibverbs.
 */
#ifndef TESTS_VERBS_H
#define TESTS_VERBS_H

#include <infiniband/verbs.h>

/* The RDMA device called @name; ends the program if it cannot be opened. */
struct ibv_context *open_rdma_device(const char *name);

/* A protection domain on it; ends the program if there is none to be had. */
struct ibv_pd *alloc_pd_on(const char *name);

/* Undoes it, for those who look for leaks. */
void close_rdma_device(struct ibv_pd *pd);

/*
 * ibv_rereg_mr() for providers that do not have it: 0 or an errno. @flags are
 * IBV_REREG_MR_*.
 */
int ask_kernel_to_rereg(struct ibv_mr *mr, uint32_t flags, struct ibv_pd *pd,
			void *p, size_t len, int access);

#endif /* TESTS_VERBS_H */
