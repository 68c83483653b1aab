/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Two queue pairs that talk to each other, and what a test does with them: post
 * one request, wait for what became of it.
 *
 * Everything ends in bounded time. Where a function returns what became of a
 * request, that is its enum ibv_wc_status, or -1 if it could not be posted or
 * nothing came of it in a minute.
 */
#ifndef TESTS_VERBS_PAIR_H
#define TESTS_VERBS_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "verbs.h"

enum {
	PAIR_DEPTH = 16,	/* requests that may be outstanding */
	PAIR_SGES = 8,		/* parts of one request */
	UD_GRH = 40,		/* bytes before a datagram's payload */
	UD_QKEY = 0x1234567,
};

/* Newer than the verbs.h of rdma-core 44. */
enum {
	ACCESS_FLUSH_GLOBAL = 1 << 8,
	ACCESS_FLUSH_PERSISTENT = 1 << 9,
};

/* What FLUSH covers. */
enum flush_level { FLUSH_RANGE, FLUSH_MR };

/**
 * struct pair - two queue pairs, 0 and 1
 * @channel: of both CQs, for who would rather sleep than poll; NULL if they
 *	are of two devices
 * @cq: of each end, for what it sends and receives alike
 * @qp: RC: connected to each other
 * @srq: where end 1 receives, or NULL
 * @ah: UD: the way to either end
 * @atomic_write: RC: whether this rdma-core can post an atomic write
 */
struct pair {
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq[2];
	struct ibv_qp *qp[2];
	struct ibv_srq *srq;
	struct ibv_ah *ah;
	bool atomic_write;
	bool failed;		/* a completion was none, or in error */
};

/* Ends the program if it cannot be made. */
struct pair *pair_create(struct ibv_pd *pd, enum ibv_qp_type type,
			 bool with_srq);

/*
 * RC, each end on the device of its protection domain. Ends the program if it
 * cannot be made.
 */
struct pair *pair_connect(struct ibv_pd *const pds[2]);

/* True if all of it could be destroyed. */
bool pair_destroy(struct pair *pair);

/* The next completion at an end: 0, or -1. */
int pair_wait(struct pair *pair, int end, struct ibv_wc *wc);

/* Posts at an end and waits for it. */
int pair_post(struct pair *pair, int end, struct ibv_send_wr *wr);

struct ibv_sge part_of(struct ibv_mr *mr, const void *p, size_t len);

/* RDMA write or read of one part; the remote end is the other one. */
int pair_rdma(struct pair *pair, int end, enum ibv_wr_opcode opcode,
	      struct ibv_sge local, const void *remote, uint32_t rkey);

/* IBV_WR_ATOMIC_*: the old value goes to @local, of 8 bytes. */
int pair_atomic(struct pair *pair, int end, enum ibv_wr_opcode opcode,
		struct ibv_sge local, const void *remote, uint32_t rkey,
		uint64_t compare_add, uint64_t swap);

/* Only if pair->atomic_write. */
int pair_atomic_write(struct pair *pair, int end, uint64_t value,
		      const void *remote, uint32_t rkey);

/* Global visibility of what was written before. */
int pair_flush(struct pair *pair, int end, enum flush_level level,
	       const void *remote, size_t len, uint32_t rkey);

/*
 * From end 0 to end 1. @received->status is what became of the receive; it is
 * -1 if the message was not sent.
 */
int pair_send(struct pair *pair, struct ibv_sge *from, int nfrom,
	      struct ibv_sge *to, int nto, struct ibv_wc *received);

/* Memory windows of either type; mw->rkey is the new one afterwards. */
int pair_bind_mw(struct pair *pair, int end, struct ibv_mw *mw,
		 struct ibv_mr *mr, void *p, size_t len, unsigned int access);
int pair_invalidate(struct pair *pair, int end, uint32_t rkey);

/* "success", "remote access error", ... */
const char *status_name(int status);

/*
 * A remote peer: reaches memory by its rkey, in pieces that a buffer of host
 * memory holds, and gets itself new queue pairs after a failure.
 */
struct peer {
	struct ibv_pd *pd;
	struct pair *pair;
	char *buffer;
	struct ibv_mr *buffer_mr;
};

enum { PEER_BUFFER = 16384 };

/* Ends the program if it cannot be made. */
void peer_init(struct peer *peer, struct ibv_pd *pd);

/* The peer's queue pairs, in working order. */
struct pair *peer_pair(struct peer *peer);

/* Writes a pattern, or reads and compares; the first failure, or 0. */
int peer_write(struct peer *peer, const void *remote, uint32_t rkey,
	       size_t len, uint64_t seed);
int peer_read(struct peer *peer, const void *remote, uint32_t rkey,
	      size_t len, uint64_t seed, bool *same);

/* Both succeed on all of an MR, and it then holds the pattern. */
bool peer_reaches(struct peer *peer, struct ibv_mr *mr, uint64_t seed);

/* What it reads is the pattern. */
bool peer_sees(struct peer *peer, const void *remote, uint32_t rkey,
	       size_t len, uint64_t seed);

/* What it reads is zero. */
bool peer_sees_zeros(struct peer *peer, const void *remote, uint32_t rkey,
		     size_t len);

/*
 * The pattern of fill() and filled() byte by byte, for any length and
 * alignment; @skip bytes of it lie before @p.
 */
void lay(void *p, size_t len, uint64_t seed, size_t skip);
bool laid(const void *p, size_t len, uint64_t seed, size_t skip);

/* An anonymous mapping; ends the program when refused. */
void *host_memory(size_t len);

#endif /* TESTS_VERBS_PAIR_H */
