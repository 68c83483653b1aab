// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_windows DEV SECONDS: memory windows on memory of DEV against the end of what
 * they lead to, for so long each:
 *	- one is bound while the MR is deregistered. One of them comes too late: either
 *	  the bind fails, or there is a window and the MR stays
 *	- one is invalidated, and its MR deregistered, while a peer writes through it
 *	- one is invalidated, and bound to another MR by the same rkey and for writing
 *	  only, while a peer reads through it
 * Whichever comes first, no MR is gone with a window left that leads to it, and nobody
 * reads what is not to be read. And only the queue pair that it is bound to can
 * invalidate one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 16 * PAGE,
	PIECE = 1024,		/* of what is read; no packet is smaller */
	MR_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		    IBV_ACCESS_MW_BIND,
	SECONDS_FOR_DEREG = 10,	/* rxe gives up waiting after 50 */
};

static struct ibv_pd *pd;
static struct pair *pair;
static char *p;
static double seconds;

static struct ibv_mr *reg(void)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, p, SIZE, MR_ACCESS);

	if (!mr)
		give_up("ibv_reg_mr");
	return mr;
}

static struct ibv_mw *window(void)
{
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);

	if (!mw)
		give_up("ibv_alloc_mw");
	return mw;
}

/* For up to 100 us or so, by chance */
static void delay(unsigned int *seed)
{
	for (volatile unsigned int n = rand_r(seed) % 20000; n; n--)
		;
}

/* What became of what was posted at an end. */
static int waited_for(int end)
{
	struct ibv_wc wc;

	return pair_wait(pair, end, &wc) ? -1 : (int)wc.status;
}

static void post(int end, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;

	wr->send_flags = IBV_SEND_SIGNALED;
	if (ibv_post_send(pair->qp[end], wr, &bad))
		give_up("ibv_post_send");
}

static void new_pair(void)
{
	if (pair)
		pair_destroy(pair);
	pair = pair_create(pd, IBV_QPT_RC, false);
}

/* Longest so far */
static double slowest;

static int dereg(struct ibv_mr *mr)
{
	double start = now(), took;
	int error = ibv_dereg_mr(mr);

	took = now() - start;
	if (took > slowest)
		slowest = took;
	return error;
}

/* ---- bind against deregistration */

static void bind_meets_dereg(unsigned int *seed)
{
	unsigned int bound = 0, refused = 0, odd = 0;
	double end = now() + seconds;

	slowest = 0;
	while (now() < end && !odd) {
		struct ibv_mw *mw = window();
		struct ibv_mr *mr = reg();
		struct ibv_send_wr wr = {
			.opcode = IBV_WR_BIND_MW,
			.bind_mw = {
				.mw = mw,
				.rkey = ibv_inc_rkey(mw->rkey),
				.bind_info = {
					.mr = mr,
					.addr = (uintptr_t)p,
					.length = SIZE,
					.mw_access_flags = IBV_ACCESS_REMOTE_WRITE,
				},
			},
		};
		int status, error;

		post(0, &wr);
		delay(seed);
		error = dereg(mr);
		status = waited_for(0);
		if (status == IBV_WC_SUCCESS && error) {
			bound++;
			odd += pair_invalidate(pair, 0, wr.bind_mw.rkey) != 0;
			odd += dereg(mr) != 0;
		} else if (status == IBV_WC_MW_BIND_ERR && !error) {
			refused++;
			new_pair();
		} else {
			printf("# bind: %s, ibv_dereg_mr: %d\n",
			       status_name(status), error);
			odd++;
		}
		odd += ibv_dealloc_mw(mw) != 0;
	}
	ok(!odd, "bind and deregistration: one of them fails");
	ok(slowest < SECONDS_FOR_DEREG, "no deregistration waits for a window");
	ok(bound && refused, "each of them came first");
	printf("# %u times bound, %u times refused; the slowest deregistration took %.2f s\n",
	       bound, refused, slowest);
}

/* ---- the end of a window against a peer's writes */

static void end_meets_writes(unsigned int *seed)
{
	unsigned int written = 0, refused = 0, odd = 0;
	double end = now() + seconds;
	char *data = aligned_alloc(PAGE, SIZE);
	struct ibv_mr *data_mr;

	if (!data)
		give_up("memory");
	memset(data, 0x5a, SIZE);
	data_mr = ibv_reg_mr(pd, data, SIZE, 0);
	if (!data_mr)
		give_up("ibv_reg_mr");
	slowest = 0;
	while (now() < end && !odd) {
		struct ibv_mw *mw = window();
		struct ibv_mr *mr = reg();
		struct ibv_sge part = part_of(data_mr, data, SIZE);
		struct ibv_send_wr write = {
			.opcode = IBV_WR_RDMA_WRITE,
			.sg_list = &part,
			.num_sge = 1,
			.wr.rdma.remote_addr = (uintptr_t)p,
		};
		struct ibv_send_wr invalidate = {
			.opcode = IBV_WR_LOCAL_INV,
		};
		int invalidated, status;

		if (pair_bind_mw(pair, 0, mw, mr, p, SIZE,
				 IBV_ACCESS_REMOTE_WRITE))
			give_up("bind");
		write.wr.rdma.rkey = mw->rkey;
		invalidate.invalidate_rkey = mw->rkey;
		post(1, &write);
		delay(seed);
		post(0, &invalidate);
		invalidated = waited_for(0);
		odd += dereg(mr) != 0;
		/* From here on nobody writes to it but us. */
		fill(p, SIZE, 1);
		status = waited_for(1);
		odd += !filled(p, SIZE, 1);
		if (status == IBV_WC_SUCCESS &&
		    invalidated == IBV_WC_SUCCESS) {
			written++;
		} else if (status == IBV_WC_REM_ACCESS_ERR &&
			   /* it was, and then its QP went into error */
			   (invalidated == IBV_WC_SUCCESS ||
			    invalidated == IBV_WC_WR_FLUSH_ERR)) {
			refused++;
			new_pair();
		} else {
			printf("# write: %s, invalidation: %s\n",
			       status_name(status), status_name(invalidated));
			odd++;
		}
		odd += ibv_dealloc_mw(mw) != 0;
	}
	ibv_dereg_mr(data_mr);
	free(data);
	ok(!odd, "a window's end: no write comes after it");
	ok(slowest < SECONDS_FOR_DEREG, "no deregistration waits for a write");
	ok(written && refused, "each of them came first");
	printf("# %u times written, %u times refused; the slowest deregistration took %.2f s\n",
	       written, refused, slowest);
}

/* ---- another binding by the same rkey against a peer's reads */

static struct ibv_mr *reg_at(char *memory, unsigned int access)
{
	struct ibv_mr *mr = ibv_reg_mr_iova(pd, memory, SIZE, (uintptr_t)p,
					    access | IBV_ACCESS_MW_BIND);

	if (!mr)
		give_up("ibv_reg_mr_iova");
	return mr;
}

/* Whether any of it is the pattern of seed. */
static bool has_pieces(const char *data, uint64_t seed)
{
	for (size_t i = 0; i < SIZE; i += PIECE)
		if (laid(data + i, PIECE, seed, i))
			return true;
	return false;
}

/* For up to so many seconds, by chance */
static void delay_within(double longest, unsigned int *seed)
{
	double end = now() + longest * rand_r(seed) / RAND_MAX;

	while (now() < end)
		;
}

/* Of those that nobody disturbs */
static double fastest_read(struct ibv_mr *mr, struct ibv_sge part)
{
	double fastest = 0;

	for (int i = 0; i < 10; i++) {
		double took = now();

		if (pair_rdma(pair, 1, IBV_WR_RDMA_READ, part, p, mr->rkey))
			give_up("a read that nobody disturbs");
		took = now() - took;
		if (!i || took < fastest)
			fastest = took;
	}
	return fastest;
}

static void binding_meets_reads(unsigned int *seed)
{
	enum { READABLE = 1, SECRET = 2 };
	unsigned int read = 0, refused = 0, odd = 0;
	char *data = aligned_alloc(PAGE, SIZE);
	struct ibv_mr *readable, *secret, *data_mr;
	double end = now() + seconds, longest;
	struct ibv_sge part;

	if (!data)
		give_up("memory");
	data_mr = ibv_reg_mr(pd, data, SIZE, IBV_ACCESS_LOCAL_WRITE);
	if (!data_mr)
		give_up("ibv_reg_mr");
	part = part_of(data_mr, data, SIZE);
	fill(p, SIZE, READABLE);
	fill(p + SIZE, SIZE, SECRET);
	readable = reg_at(p, IBV_ACCESS_REMOTE_READ);
	secret = reg_at(p + SIZE,
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	longest = 1.5 * fastest_read(readable, part);

	while (now() < end && !odd) {
		struct ibv_mw *mw = window();
		struct ibv_send_wr request = {
			.opcode = IBV_WR_RDMA_READ,
			.sg_list = &part,
			.num_sge = 1,
			.wr.rdma.remote_addr = (uintptr_t)p,
		};
		struct ibv_send_wr bind = {
			.opcode = IBV_WR_BIND_MW,
			.send_flags = IBV_SEND_SIGNALED,
			.bind_mw = {
				.mw = mw,
				.bind_info = {
					.mr = secret,
					.addr = (uintptr_t)p,
					.length = SIZE,
					.mw_access_flags = IBV_ACCESS_REMOTE_WRITE,
				},
			},
		};
		struct ibv_send_wr invalidate = {
			.opcode = IBV_WR_LOCAL_INV,
			.next = &bind,
		};
		int status, invalidated, bound;

		if (pair_bind_mw(pair, 0, mw, readable, p, SIZE,
				 IBV_ACCESS_REMOTE_READ))
			give_up("bind");
		request.wr.rdma.rkey = mw->rkey;
		invalidate.invalidate_rkey = mw->rkey;
		bind.bind_mw.rkey = mw->rkey;
		memset(data, 0, SIZE);
		post(1, &request);
		delay_within(longest, seed);
		post(0, &invalidate);
		invalidated = waited_for(0);
		bound = waited_for(0);
		status = waited_for(1);
		odd += has_pieces(data, SECRET);
		if (status == IBV_WC_SUCCESS && invalidated == IBV_WC_SUCCESS &&
		    bound == IBV_WC_SUCCESS && filled(data, SIZE, READABLE)) {
			read++;
		} else if (status == IBV_WC_REM_ACCESS_ERR) {
			refused++;
			new_pair();
		} else {
			printf("# read: %s, invalidation: %s, bind: %s\n",
			       status_name(status), status_name(invalidated),
			       status_name(bound));
			odd++;
		}
		odd += ibv_dealloc_mw(mw) != 0;
	}
	odd += ibv_dereg_mr(readable) != 0;
	odd += ibv_dereg_mr(secret) != 0;
	ibv_dereg_mr(data_mr);
	free(data);
	ok(!odd, "another binding by the same rkey: no read that it does not allow");
	ok(read && refused, "each of them came first");
	printf("# %u times read, %u times refused\n", read, refused);
}

/* ---- invalidation by others */

static void others_cannot_invalidate(void)
{
	struct ibv_pd *other_pd = alloc_pd_on("rxe0");
	struct pair *other = pair_create(other_pd, IBV_QPT_RC, false);
	struct ibv_send_wr send = { .opcode = IBV_WR_SEND_WITH_INV };
	struct ibv_recv_wr receive = { 0 }, *bad;
	struct ibv_mr *mr = reg();
	struct ibv_mw *mw = window();
	struct ibv_wc wc;
	int status;

	if (pair_bind_mw(pair, 0, mw, mr, p, SIZE, IBV_ACCESS_REMOTE_WRITE))
		give_up("bind");

	ok(pair_invalidate(pair, 1, mw->rkey) == IBV_WC_LOC_QP_OP_ERR,
	   "another queue pair cannot invalidate a window");
	ok(pair_invalidate(other, 0, mw->rkey) == IBV_WC_LOC_QP_OP_ERR,
	   "nor can one of another protection domain");
	pair_destroy(other);
	other = pair_create(other_pd, IBV_QPT_RC, false);
	if (ibv_post_recv(other->qp[1], &receive, &bad))
		give_up("ibv_post_recv");
	send.invalidate_rkey = mw->rkey;
	pair_post(other, 0, &send);
	status = pair_wait(other, 1, &wc) ? -1 : (int)wc.status;
	ok(status > 0, "nor can that one's peer: %s", status_name(status));
	ok(!pair_invalidate(pair, 0, mw->rkey), "its own can");

	ok(!ibv_dealloc_mw(mw) && !ibv_dereg_mr(mr) &&
	   pair_destroy(other), "all of it can be destroyed");
	close_rdma_device(other_pd);
	new_pair();
}

int main(int argc, char **argv)
{
	unsigned int seed;

	if (argc != 3) {
		fprintf(stderr, "usage: verbs_windows DEV SECONDS\n");
		return EXIT_FAILURE;
	}
	seconds = atof(argv[2]);
	seed = seed_of_run();
	p = map_or_give_up(open_device(argv[1], O_RDWR), 2 * SIZE);
	pd = alloc_pd_on("rxe0");
	new_pair();
	bind_meets_dereg(&seed);
	end_meets_writes(&seed);
	binding_meets_reads(&seed);
	others_cannot_invalidate();
	pair_destroy(pair);
	return done_testing();
}
