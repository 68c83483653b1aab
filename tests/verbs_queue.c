// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_queue DEV: the queues of rxe are memory that the user shares with the kernel,
 * and may write at any time. Whatever is written there, the work fails or not, but the
 * kernel neither follows it nor stays with it; and a CQ that nobody empties holds up
 * nobody.
 */
#include <arpa/inet.h> /* struct sockaddr_in for the header after it */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rdma/rdma_user_rxe.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	SIZE = 4096,
	RECEIVE = 64,
	MAGIC = 0x77616c6b,
	SECONDS = 10,		/* rxe gives up waiting after 50 */

	/* The driver's own, in the state of a WQE */
	WQE_POSTED = 0,
	WQE_DONE = 3,
	WQE_ERROR = 4,
	/* Known to the kernel's own users only */
	WR_REG_MR = 0x20,
};

static struct ibv_pd *pd;
static struct ibv_mr *mr;
static char *p;

/* A queue pair's send queue, and one thing in it that can be repeated */
struct queue {
	struct pair *pair;
	struct rxe_queue_buf *buf;
	struct rxe_send_wqe *sample;
};

static void *wqe_at(struct rxe_queue_buf *buf, uint32_t index)
{
	return buf->data + ((size_t)(index & buf->index_mask)
			    << buf->log2_elem_size);
}

static struct ibv_send_wr write_of(struct ibv_sge *part)
{
	return (struct ibv_send_wr) {
		.wr_id = MAGIC,
		.sg_list = part,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE,
		.wr.rdma = { (uintptr_t)p + SIZE / 2, mr->rkey },
	};
}

static bool is_sample(const void *entry)
{
	const struct rxe_send_wqe *wqe = entry;

	return wqe->wr.wr_id == MAGIC && wqe->dma.length == SIZE / 2;
}

static bool is_receive(const void *entry)
{
	const struct rxe_recv_wqe *wqe = entry;

	return wqe->wr_id == MAGIC && wqe->dma.length == RECEIVE;
}

/* The entry, in one of the queues that are mapped. Completions are shorter. */
static void *find_entry(bool (*is_it)(const void *entry), size_t size,
			struct rxe_queue_buf **queue)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	void *start;

	if (!maps)
		give_up("/proc/self/maps");
	while (fgets(line, sizeof(line), maps)) {
		struct rxe_queue_buf *buf;

		if (!strstr(line, "/uverbs") || sscanf(line, "%p", &start) != 1)
			continue;
		buf = start;
		if ((size_t)1 << buf->log2_elem_size < size)
			continue;
		for (uint32_t i = 0; i <= buf->index_mask; i++) {
			if (!is_it(wqe_at(buf, i)))
				continue;
			fclose(maps);
			*queue = buf;
			return wqe_at(buf, i);
		}
	}
	give_up("the queue");
}

static struct queue new_queue(void)
{
	struct queue queue = { .pair = pair_create(pd, IBV_QPT_RC, false) };
	struct ibv_sge part = part_of(mr, p, SIZE / 2);
	struct ibv_send_wr wr = write_of(&part);

	if (pair_post(queue.pair, 0, &wr))
		give_up("a write");
	queue.sample = find_entry(is_sample, sizeof(*queue.sample), &queue.buf);
	return queue;
}

/* The sample once more, which the kernel does not look at yet */
static struct rxe_send_wqe *compose(struct queue *queue)
{
	struct rxe_send_wqe *wqe = wqe_at(queue->buf, queue->buf->producer_index);

	memmove(wqe, queue->sample, (size_t)1 << queue->buf->log2_elem_size);
	wqe->status = IBV_WC_SUCCESS;
	wqe->state = WQE_POSTED;
	wqe->dma.resid = wqe->dma.length;
	wqe->dma.cur_sge = 0;
	wqe->dma.sge_offset = 0;
	return wqe;
}

static void advance(struct rxe_queue_buf *buf)
{
	atomic_thread_fence(memory_order_release);
	buf->producer_index = (buf->producer_index + 1) & buf->index_mask;
}

static int waited_for(struct queue *queue, int end)
{
	struct ibv_wc wc;

	return pair_wait(queue->pair, end, &wc) ? -1 : (int)wc.status;
}

/* Tells the kernel, by another write. What became of the composed one. */
static int executed(struct queue *queue)
{
	struct ibv_sge part = part_of(mr, p, SIZE / 2);
	struct ibv_send_wr wr = write_of(&part), *bad;

	advance(queue->buf);
	if (ibv_post_send(queue->pair->qp[0], &wr, &bad))
		return -1;
	return waited_for(queue, 0);
}

static void composed(void)
{
	struct queue queue = new_queue();

	fill(p, SIZE, 2);
	compose(&queue);
	ok(executed(&queue) == IBV_WC_SUCCESS &&
	   filled(p + SIZE / 2, SIZE / 2, 2),
	   "what is composed by hand is executed");
	pair_destroy(queue.pair);
}

static void bad_opcode(uint32_t opcode)
{
	struct queue queue = new_queue();
	struct rxe_send_wqe *wqe = compose(&queue);
	int status;

	wqe->wr.opcode = opcode;
	memset(&wqe->wr.wr, 0x41, sizeof(wqe->wr.wr.rdma));
	status = executed(&queue);
	ok(status == IBV_WC_LOC_QP_OP_ERR, "opcode %#x: %s", opcode,
	   status_name(status));
	ok(pair_destroy(queue.pair), "and the queue pair goes");
}

static void bad_inline(uint32_t offset)
{
	struct queue queue = new_queue();
	struct rxe_send_wqe *wqe = compose(&queue);
	int status;

	fill(p + SIZE / 2, SIZE / 2, 3);
	wqe->wr.send_flags |= IBV_SEND_INLINE;
	wqe->dma.sge_offset = offset;
	wqe->dma.length = 64;
	wqe->dma.resid = 64;
	status = executed(&queue);
	ok(status == IBV_WC_LOC_QP_OP_ERR && filled(p + SIZE / 2, SIZE / 2, 3),
	   "inline data from %#x on: %s, nothing is written", offset,
	   status_name(status));
	pair_destroy(queue.pair);
}

/* Where a receive, or a send, says that its data is */
static void bad_receive(void)
{
	struct queue queue = new_queue();
	struct ibv_sge part = part_of(mr, p, RECEIVE);
	struct ibv_send_wr send = {
		.sg_list = &part,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
	};
	struct ibv_recv_wr receive = {
		.wr_id = MAGIC,
		.sg_list = &part,
		.num_sge = 1,
	}, *bad;
	struct rxe_queue_buf *buf;
	struct rxe_recv_wqe *wqe;
	int status;

	if (ibv_post_recv(queue.pair->qp[1], &receive, &bad))
		give_up("ibv_post_recv");
	wqe = find_entry(is_receive, sizeof(*wqe) + 64, &buf);
	wqe->dma.cur_sge = 0x7fffffff;
	status = pair_post(queue.pair, 0, &send);
	ok(status == IBV_WC_REM_INV_REQ_ERR, "a receive into its 2^31st part: %s",
	   status_name(status));
	status = waited_for(&queue, 1);
	ok(status > 0, "and there: %s", status_name(status));
	pair_destroy(queue.pair);
}

static void bad_parts(void)
{
	struct queue queue = new_queue();
	struct rxe_send_wqe *wqe = compose(&queue);
	int status;

	wqe->dma.cur_sge = 0x7fffffff;
	status = executed(&queue);
	ok(status == IBV_WC_LOC_QP_OP_ERR, "a write of its 2^31st part: %s",
	   status_name(status));
	pair_destroy(queue.pair);
}

static void failed_without_status(void)
{
	struct queue queue = new_queue();
	struct rxe_send_wqe *wqe = compose(&queue);
	int status;

	wqe->state = WQE_ERROR;
	status = executed(&queue);
	ok(status == IBV_WC_FATAL_ERR, "failed, but without a status: %s",
	   status_name(status));
	pair_destroy(queue.pair);
}

/*
 * What met no receive is sent again. By then it is further on than it was sent from,
 * of endless parts of no length.
 */
static void bad_repetition(void)
{
	struct ibv_qp_attr attr = { .min_rnr_timer = 0 /* 655 ms */ };
	struct queue queue = new_queue();
	struct ibv_sge part = part_of(mr, p, SIZE / 2);
	struct ibv_send_wr send = {
		.wr_id = MAGIC,
		.sg_list = &part,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
	}, *bad;
	struct rxe_send_wqe *wqe;
	int status;

	wqe = wqe_at(queue.buf, queue.buf->producer_index);
	if (ibv_modify_qp(queue.pair->qp[1], &attr, IBV_QP_MIN_RNR_TIMER) ||
	    ibv_post_send(queue.pair->qp[0], &send, &bad))
		give_up("a send");
	usleep(300000);
	wqe->first_psn--;
	wqe->dma.num_sge = UINT32_MAX;
	/* to the end of the queue, and behind it there is nothing */
	memset(wqe->dma.sge, 0, queue.buf->data +
	       ((size_t)(queue.buf->index_mask + 1) << queue.buf->log2_elem_size) -
	       (uint8_t *)wqe->dma.sge);
	status = waited_for(&queue, 0);
	ok(status == IBV_WC_LOC_QP_OP_ERR, "a repetition of endless parts: %s",
	   status_name(status));
	pair_destroy(queue.pair);
}

static bool destroyed_soon(struct pair *pair)
{
	double start = now();

	return pair_destroy(pair) && now() - start < SECONDS;
}

/* It repeats what met no receive, as far as the producer index says. */
static void repeats_for_ever(void)
{
	struct ibv_qp_attr attr = { .min_rnr_timer = 0 /* 655 ms */ };
	struct queue queue = new_queue();
	struct ibv_send_wr send = { .opcode = IBV_WR_SEND }, *bad;

	if (ibv_modify_qp(queue.pair->qp[1], &attr, IBV_QP_MIN_RNR_TIMER) ||
	    ibv_post_send(queue.pair->qp[0], &send, &bad))
		give_up("a send");
	usleep(300000);
	queue.buf->producer_index |= 1U << 31;
	for (uint32_t i = 0; i <= queue.buf->index_mask; i++) {
		struct rxe_send_wqe *wqe = wqe_at(queue.buf, i);

		wqe->state = WQE_DONE;
	}
	sleep(1);
	ok(destroyed_soon(queue.pair), "a producer index outside the queue: the queue pair goes");
}

/* What arrives when there is no room for its completion */
static void full_cq(void)
{
	struct pair *pair = pair_create(pd, IBV_QPT_RC, false);
	struct ibv_mr *own = ibv_reg_mr(pd, p, SIZE, IBV_ACCESS_LOCAL_WRITE |
						     IBV_ACCESS_REMOTE_WRITE);
	struct ibv_sge part = part_of(mr, p, 8);
	struct ibv_send_wr write = {
		.sg_list = &part,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
	}, *bad;
	struct ibv_recv_wr receive = { 0 }, *bad_receive;
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RTS };
	struct ibv_qp_init_attr init;
	double start, end;

	if (!own || ibv_resize_cq(pair->cq[1], 1))
		give_up("MR and a CQ of one");
	write.wr.rdma.remote_addr = (uintptr_t)p + SIZE / 2;
	write.wr.rdma.rkey = own->rkey;
	for (int i = 0; i < 4; i++)
		if (ibv_post_recv(pair->qp[1], &receive, &bad_receive) ||
		    ibv_post_send(pair->qp[0], &write, &bad))
			give_up("write with immediate data");
	for (end = now() + 60; attr.qp_state != IBV_QPS_ERR && now() < end;
	     usleep(1000))
		if (ibv_query_qp(pair->qp[1], &attr, IBV_QP_STATE, &init))
			give_up("ibv_query_qp");
	ok(attr.qp_state == IBV_QPS_ERR,
	   "writes with immediate data and a full CQ: the queue pair is in error");
	start = now();
	ok(!ibv_dereg_mr(own) && now() - start < SECONDS,
	   "the MR can be deregistered at once");
	ok(destroyed_soon(pair), "and the queue pairs go");
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: verbs_queue DEV\n");
		return EXIT_FAILURE;
	}
	p = map_or_give_up(open_device(argv[1], O_RDWR), SIZE);
	pd = alloc_pd_on("rxe0");
	mr = ibv_reg_mr(pd, p, SIZE, IBV_ACCESS_LOCAL_WRITE |
				     IBV_ACCESS_REMOTE_WRITE);
	if (!mr)
		give_up("ibv_reg_mr");
	composed();
	bad_opcode(WR_REG_MR);
	bad_opcode(WR_REG_MR + 1);
	bad_opcode(0x7fffffff);
	bad_opcode(0xffffffff);
	bad_inline(1 << 20);
	bad_inline(0xffffffe0);
	bad_receive();
	bad_parts();
	bad_repetition();
	failed_without_status();
	repeats_for_ever();
	full_cq();
	return done_testing();
}
