/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * PCI BAR memory of a /dev/iopmemN as the buffer of a test.
 */

#ifndef P2P_MEMORY_H
#define P2P_MEMORY_H

#include <stdint.h>
#include <stdio.h>
#include "memory.h"
#include "config.h"

struct perftest_parameters;

#ifdef HAVE_RDMA_IOPMEM_H

/* Prints what --help says about the options. */
void p2p_memory_usage(void);

/*
 * Makes the device in params->p2p_dev (NULL: /dev/iopmem0) the memory of the
 * test. To be called once all options are parsed, so that their order does not
 * matter. operands is what is left of argv. Returns 0, or 1 after having said
 * what is wrong.
 */
int p2p_memory_select(struct perftest_parameters *params, char **operands);

/* Prints what the report says of the memory: a member of a JSON object. */
void p2p_memory_print_json(int fd);

/*
 * Explains why size bytes of this memory could not be registered. Takes the
 * reason from errno, so nothing may come between.
 */
void p2p_memory_reg_failed(struct memory_ctx *memory, uint64_t size);

#else

static inline void p2p_memory_usage(void)
{
}

static inline int p2p_memory_select(struct perftest_parameters *params,
				    char **operands)
{
	fprintf(stderr, " --use_p2p, --p2p_dev and --use_p2p_dmabuf: this perftest was built without <rdma/iopmem.h>\n");
	return 1;
}

static inline void p2p_memory_print_json(int fd)
{
}

static inline void p2p_memory_reg_failed(struct memory_ctx *memory,
					 uint64_t size)
{
}

#endif

#endif /* P2P_MEMORY_H */
