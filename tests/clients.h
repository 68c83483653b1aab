/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Peer memory clients that do as they are told (kernel/peer_client), and MRs on
 * their memory, of any RDMA device. uverbs is called directly: libibverbs does
 * not know edu_hca, and a child may go on where its parent has ended.
 */
#ifndef TESTS_CLIENTS_H
#define TESTS_CLIENTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/edu_hca/edu_hca.h"
#include "kernel/peer_client/peer_client.h"
#include "tap.h"

/* What the test clients of most tests are. */
enum {
	CLIENT_USUAL = PEER_CLIENT_CAN_INVALIDATE | PEER_CLIENT_HAS_PAGES |
		       PEER_CLIENT_HOLDS_MODULE,
};

/* Opens a node; ends the program if it is not there. */
int client_open(int number);

/* Registers the client, with nothing counted; ends the program if refused. */
void client_register(int fd, uint32_t flags);

/* Unregisters it; ends the program if refused. */
void client_unregister(int fd);

/* New memory of the client, at a multiple of its page size. */
char *client_memory(int fd, size_t len);

/* These end the program if refused. */
struct peer_client_state client_state(int fd);
void client_clear(int fd);
void client_fails(int fd, enum peer_client_step step, int error);
void client_delays(int fd, enum peer_client_step step, unsigned int ms);
void gate_close(int fd, enum peer_client_step step);
void gate_open(int fd, enum peer_client_step step);

/* Until somebody waits at the gate; false if nobody comes. */
bool gate_wait(int fd, enum peer_client_step step);

/* Takes all back: 0, or -1 and errno. */
int client_invalidate(int fd);

/*
 * The client has nothing left, was called in pairs and in order, and nobody
 * waited for a gate in vain. Else what it is is printed.
 */
bool client_has_nothing(int fd);

static inline void client_is_idle(int fd, const char *when)
{
	ok(client_has_nothing(fd),
	   "%s: the client has nothing left, all was in pairs and in order",
	   when);
}

/*
 * The steps of the client since it was cleared are those in @want, names
 * separated by blanks, those that failed with a ! behind. Else they are
 * printed.
 */
bool client_steps(int fd, const char *want);

static inline void steps_are(int fd, const char *want, const char *name)
{
	ok(client_steps(fd, want), "%s: %s", name, want);
}

/* The same records; overwritten by the next call. */
const struct peer_client_record *client_log(int fd, unsigned int *count);

/**
 * struct hca - an RDMA device that is open, with a protection domain
 * @fd: of uverbs
 * @driver_id: enum rdma_driver_id
 * @pd: handle
 */
struct hca {
	int fd;
	uint32_t driver_id;
	uint32_t pd;
};

struct hca_mr {
	uint32_t handle;
	uint32_t key;
	char *p;
	size_t len;
};

/* The device called @name; ends the program if it cannot be opened. */
struct hca hca_open(const char *name);

/* Memory that the device reaches, of one client: flags beside CLIENT_USUAL. */
uint32_t flags_for(const char *name);

/* 0, or -1 and errno. @access is enum ibv_access_flags. */
int hca_reg(const struct hca *hca, char *p, size_t len, int access,
	    struct hca_mr *mr);
int hca_dereg(const struct hca *hca, const struct hca_mr *mr);

/* The same; ends the program if refused. */
struct hca_mr hca_reg_or_give_up(const struct hca *hca, char *p, size_t len);

/* edu_hca copies by DMA, at most EDU_HCA_MAX_COPY bytes; 0, or -1 and errno */
int hca_copy(const struct hca *hca, const struct hca_mr *from,
	     const char *from_at, const struct hca_mr *to, const char *to_at,
	     size_t len);

/* The same with a dma-buf, whose first byte of the MR is called @p. */
int hca_reg_dmabuf(const struct hca *hca, int fd, size_t offset, size_t len,
		   char *p, int access, struct hca_mr *mr);

/* hca_reg() with another name for the first byte: 0, or -1 and errno. */
int hca_reg_iova(const struct hca *hca, char *p, size_t len, uint64_t iova,
		 int access, struct hca_mr *mr);

/* What edu_hca knows of an MR; 0, or -1 and errno */
int hca_query(const struct hca *hca, const struct hca_mr *mr, uint32_t index,
	      struct edu_hca_part *part);

/* The next of a sequence of numbers that a seed makes. */
uint32_t random_next(uint32_t *seed);

/* Until another thread says so, or for so long; whether it did. */
bool soon(atomic_bool *what, double seconds);

/* ./lab test --long */
bool long_run(void);

/*
 * @quick of CI, @debug of CI on the kernel that has every checker, @loops of a long
 * run. A long run on that kernel does five times @debug: it takes 20 to 70 times as
 * long for each.
 */
unsigned int rounds(unsigned int quick, unsigned int debug, unsigned int loops);

#endif /* TESTS_CLIENTS_H */
