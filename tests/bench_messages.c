// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * bench_messages [SOURCE TARGET]: what an RDMA message costs, from host memory
 * to host memory and, if two /dev/iopmemN are given, from one to the other.
 *
 * For ./lab bench, in a guest whose clock counts instructions. All of the
 * guest's instructions count, this program's too: so it sleeps until messages
 * are done rather than poll.
 */
#include <fcntl.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	MESSAGE = 65536,
	BATCH = PAIR_DEPTH,
	BATCHES = 8,
	ROUNDS = 3,
};

struct memory {
	const char *name;
	struct ibv_mr *source, *target;
};

static struct ibv_pd *pd;
static struct pair *pair;

static struct ibv_mr *register_memory(const char *path)
{
	struct ibv_mr *mr;
	void *p;

	if (path)
		p = map_or_give_up(open_device(path, O_RDWR | O_CLOEXEC),
				   MESSAGE);
	else
		p = host_memory(MESSAGE);
	mr = ibv_reg_mr(pd, p, MESSAGE, IBV_ACCESS_LOCAL_WRITE |
			IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
	if (!mr)
		give_up("ibv_reg_mr on %s", path ?: "host memory");
	return mr;
}

/* How many messages are done, once some are. */
static int wait_for_some(void)
{
	struct ibv_wc wc[BATCH];
	struct ibv_cq *cq;
	void *context;
	int n;

	if (ibv_get_cq_event(pair->channel, &cq, &context))
		give_up("ibv_get_cq_event");
	ibv_ack_cq_events(cq, 1);
	errno = ibv_req_notify_cq(cq, 0);
	if (errno)
		give_up("ibv_req_notify_cq");
	n = ibv_poll_cq(cq, BATCH, wc);
	for (int i = 0; i < n; i++)
		if (wc[i].status != IBV_WC_SUCCESS) {
			errno = EIO;
			give_up("message: %s", status_name(wc[i].status));
		}
	return n;
}

static void do_batch(enum ibv_wr_opcode opcode, struct ibv_mr *local,
		     struct ibv_mr *remote)
{
	struct ibv_sge sge = part_of(local, local->addr, MESSAGE);
	struct ibv_send_wr wr[BATCH] = { 0 }, *bad;

	for (int i = 0; i < BATCH; i++) {
		wr[i].next = i + 1 < BATCH ? &wr[i + 1] : NULL;
		wr[i].sg_list = &sge;
		wr[i].num_sge = 1;
		wr[i].opcode = opcode;
		wr[i].wr.rdma.remote_addr = (uintptr_t)remote->addr;
		wr[i].wr.rdma.rkey = remote->rkey;
	}
	errno = ibv_post_send(pair->qp[0], wr, &bad);
	if (errno)
		give_up("ibv_post_send");
	for (int done = 0; done < BATCH;)
		done += wait_for_some();
}

static void measure(const struct memory *memory, enum ibv_wr_opcode opcode,
		    uint64_t seed)
{
	bool is_write = opcode == IBV_WR_RDMA_WRITE;
	struct ibv_mr *local = is_write ? memory->source : memory->target;
	struct ibv_mr *remote = is_write ? memory->target : memory->source;
	double start, end;

	fill(memory->source->addr, MESSAGE, seed);
	do_batch(opcode, local, remote);

	start = now();
	for (int i = 0; i < BATCHES; i++)
		do_batch(opcode, local, remote);
	end = now();

	if (!filled(memory->target->addr, MESSAGE, seed)) {
		errno = EBADMSG;
		give_up("contents of the target");
	}
	printf("message %s %s %.0f\n", is_write ? "write" : "read",
	       memory->name, (end - start) * 1e9 / (BATCHES * BATCH));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct memory memory[] = { { .name = "host" }, { .name = "bar" } };
	int kinds = argc == 3 ? 2 : 1;
	uint64_t seed = 1;

	if (argc != 1 && argc != 3) {
		fprintf(stderr, "usage: bench_messages [SOURCE TARGET]\n");
		return EXIT_FAILURE;
	}
	pd = alloc_pd_on("rxe0");
	pair = pair_create(pd, IBV_QPT_RC, false);
	errno = ibv_req_notify_cq(pair->cq[0], 0);
	if (errno)
		give_up("ibv_req_notify_cq");
	for (int k = 0; k < kinds; k++) {
		memory[k].source = register_memory(k ? argv[1] : NULL);
		memory[k].target = register_memory(k ? argv[2] : NULL);
	}
	for (int round = 0; round < ROUNDS; round++)
		for (int k = 0; k < kinds; k++) {
			measure(&memory[k], IBV_WR_RDMA_WRITE, seed++);
			measure(&memory[k], IBV_WR_RDMA_READ, seed++);
		}
	return EXIT_SUCCESS;
}
