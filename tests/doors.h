/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The doors by which a dma-buf becomes an MR, each forced in turn, dma-bufs of
 * any exporter, and what an MR must not leave behind.
 *
 * A program is told by its first argument which door it runs with:
 *	dmabuf	iopmem_reg_mr() by way of the provider's ibv_reg_dmabuf_mr()
 *	peer	iopmem_reg_mr() by way of a mapping and peer memory
 *	verbs	ibv_reg_dmabuf_mr() itself, no iopmem_reg_mr()
 * iopmem_reg_mr() finds its door by itself: which one depends on the kernel and
 * on rdma-core, and the name says what must come of it.
 */
#ifndef TESTS_DOORS_H
#define TESTS_DOORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "verbs.h"

/* Ends the program if there is no door of that name. */
void door_choose(const char *name);

/* Whether MRs by the door keep a mapping of the dma-buf. */
bool door_maps(void);

/* iopmem_reg_mr() and iopmem_dereg_mr(), or the verbs. */
struct ibv_mr *door_reg(struct ibv_pd *pd, uint64_t offset, size_t length,
			uint64_t iova, int fd, int access);
int door_dereg(struct ibv_mr *mr);

/*
 * Whether an MR on the dma-buf @fd comes by the door that was named: one keeps
 * a mapping, the others do not.
 */
bool door_is_used(struct ibv_pd *pd, int fd);

/*
 * A new dma-buf of a /dev/iopmemN, of /dev/udmabuf or of a /dev/dma_heap/NAME;
 * ends the program if there is none to be had.
 */
int dmabuf_alloc(const char *path, size_t size);

/* The same, mapped, with all of it an MR at the address of the mapping. */
struct ibv_mr *door_map(struct ibv_pd *pd, const char *path, size_t size,
			int access, char **p, int *fd);

/* Mappings that this process has of the dma-buf @fd. */
int dmabuf_mappings(int fd);

/*
 * What there is of everything that an MR takes: bytes of the device behind
 * @fd, MRs of the RDMA device (everybody's), mappings and open files of this
 * process.
 */
struct holdings {
	uint64_t free;
	int mrs;
	int mappings;
	int files;
};

struct holdings holdings(struct ibv_context *context, int fd);
bool same_holdings(const struct holdings *a, const struct holdings *b);

/* MRs of the RDMA device, as the kernel counts them. */
int count_mrs(struct ibv_context *context);

#endif /* TESTS_DOORS_H */
