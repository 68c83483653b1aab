// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What goes over the connection: requests, and their completions.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "copy.h"

enum { TURN_MS = 1000, LAST_WORD_MS = 2000, INCOMING = 1 << 16 };

/* ---- requests */

int post_receive(struct copy *copy, unsigned int index)
{
	struct connection *connection = &copy->connection;
	struct ibv_sge part = {
		.addr = (uintptr_t)&connection->incoming[index],
		.length = sizeof(struct message),
		.lkey = connection->mr->lkey,
	};
	struct ibv_recv_wr wr = {
		.wr_id = INCOMING | index,
		.sg_list = &part,
		.num_sge = 1,
	}, *bad;
	int ret = ibv_post_recv(connection->id->qp, &wr, &bad);

	return ret ? fail(copy, "a receive request: %s", strerror(ret)) : 0;
}

static int post(struct copy *copy, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;
	int ret = ibv_post_send(copy->connection.id->qp, wr, &bad);

	return ret ? fail(copy, "a send request: %s", strerror(ret)) : 0;
}

static struct ibv_sge message_part(struct copy *copy, unsigned int index)
{
	return (struct ibv_sge){
		.addr = (uintptr_t)&copy->connection.outgoing[index],
		.length = sizeof(struct message),
		.lkey = copy->connection.mr->lkey,
	};
}

int post_message(struct copy *copy, unsigned int index)
{
	struct ibv_sge part = message_part(copy, index);
	struct ibv_send_wr wr = {
		.wr_id = index,
		.sg_list = &part,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED,
	};

	return post(copy, &wr);
}

/*
 * The block, and then the message, which must not be there before it. What the other
 * side's completion says is that the data has left its RDMA device; a drive that it
 * tells then might be faster than the data. So the last byte is read back on the
 * way that the data took, and the message waits for that (IBV_SEND_FENCE).
 */
int post_block(struct slot *slot)
{
	struct copy *copy = slot->copy;
	struct connection *connection = &copy->connection;
	unsigned int index = slot - copy->slots;
	uint64_t there = be64toh(connection->there.address) +
			 index * copy->block;
	struct ibv_sge data = {
		.addr = (uintptr_t)slot_memory(slot),
		.length = slot->length,
		.lkey = copy->memory.mr->lkey,
	};
	struct ibv_sge byte = {
		.addr = (uintptr_t)(connection->incoming + MESSAGES(copy)) +
			index,
		.length = 1,
		.lkey = connection->mr->lkey,
	};
	struct ibv_sge part = message_part(copy, index);
	struct ibv_send_wr send = {
		.wr_id = index,
		.sg_list = &part,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED | IBV_SEND_FENCE,
	};
	struct ibv_send_wr read = {
		.wr_id = index,
		.next = &send,
		.sg_list = &byte,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_READ,
		.wr.rdma = {
			.remote_addr = there + slot->length - 1,
			.rkey = be32toh(connection->there.rkey),
		},
	};
	struct ibv_send_wr write = {
		.wr_id = index,
		.next = &read,
		.sg_list = &data,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE,
		.wr.rdma = {
			.remote_addr = there,
			.rkey = be32toh(connection->there.rkey),
		},
	};

	return post(copy, &write);
}

/* ---- completions */

static int fail_by_status(struct copy *copy, enum ibv_wc_status status)
{
	const char *through = copy->options->through;

	switch (status) {
	case IBV_WC_WR_FLUSH_ERR:
		/* The reason is on its way. */
		return 0;
	case IBV_WC_RETRY_EXC_ERR:
		return fail(copy, "the other side does not answer any more");
	case IBV_WC_REM_ACCESS_ERR:
		return fail(copy, "the memory of the other side has been taken away");
	case IBV_WC_LOC_PROT_ERR:
		if (through)
			return fail(copy, "%s has been taken away", through);
		/* fallthrough */
	default:
		return fail(copy, "RDMA: %s", ibv_wc_status_str(status));
	}
}

static void sent(struct copy *copy, unsigned int index)
{
	if (index < copy->depth)
		slot_is_sent(&copy->slots[index]);
	else if (copy->complete)
		finish(copy);
}

static int reap(struct copy *copy,
		int (*heard)(struct copy *copy, struct message *message))
{
	struct connection *connection = &copy->connection;
	struct ibv_wc wc;
	int n;

	while ((n = ibv_poll_cq(connection->cq, 1, &wc)) > 0) {
		unsigned int index = wc.wr_id & (INCOMING - 1);

		if (wc.status != IBV_WC_SUCCESS) {
			if (fail_by_status(copy, wc.status))
				return -1;
		} else if (!(wc.wr_id & INCOMING)) {
			sent(copy, index);
		} else {
			struct message message = connection->incoming[index];

			if (wc.byte_len != sizeof(message))
				return fail(copy, "the other side sends nonsense");
			if (post_receive(copy, index))
				return -1;
			touch(copy);
			if (heard(copy, &message))
				return -1;
		}
	}
	return n ? fail(copy, "the completion queue: %s", strerror(errno)) : 0;
}

static int hear_of_connection(struct copy *copy)
{
	struct rdma_cm_event *event;
	int ret = 0;

	/* the library has events of its own */
	if (rdma_get_cm_event(copy->connection.events, &event))
		return errno == EAGAIN ? 0 :
		       fail(copy, "connection manager: %s", strerror(errno));
	if (refuse_another(event))
		return 0;
	if (event->event == RDMA_CM_EVENT_DISCONNECTED && copy->complete)
		finish(copy);
	else if (event->event != RDMA_CM_EVENT_TIMEWAIT_EXIT)
		ret = fail_by_event(copy, event);
	rdma_ack_cm_event(event);
	return ret;
}

/* Waits up to a second for something to happen. */
static int take_turn(struct copy *copy,
		     int (*heard)(struct copy *copy, struct message *message))
{
	struct connection *connection = &copy->connection;
	struct pollfd fds[] = {
		{ .fd = connection->completions->fd, .events = POLLIN },
		{ .fd = connection->events->fd, .events = POLLIN },
		{ .fd = copy->wake, .events = POLLIN },
	};
	struct ibv_cq *cq;
	uint64_t value;
	void *context;

	if (ibv_req_notify_cq(connection->cq, 0))
		return fail(copy, "the completion queue cannot be waited for");
	/* what came before that */
	if (reap(copy, heard))
		return -1;
	if (!failed(copy) && !copy->finished)
		poll(fds, 3, TURN_MS);
	if (fds[0].revents &&
	    !ibv_get_cq_event(connection->completions, &cq, &context))
		ibv_ack_cq_events(cq, 1);
	if (fds[2].revents && read(copy->wake, &value, sizeof(value)) < 0)
		return fail(copy, "eventfd: %s", strerror(errno));
	/* the last messages say more than the end of the connection does */
	if (reap(copy, heard))
		return -1;
	/* when all has been said, the other side may go */
	return fds[1].revents && !copy->finished ? hear_of_connection(copy) : 0;
}

int take_turns(struct copy *copy,
	       int (*heard)(struct copy *copy, struct message *message),
	       bool (*waiting)(struct copy *copy))
{
	while (!copy->finished) {
		if (take_turn(copy, heard) || failed(copy))
			return -1;
		if (copy->finished)
			break;
		if (interrupted)
			return fail(copy, "interrupted");
		if (waiting(copy) && silence(copy) > copy->options->timeout)
			return fail(copy, "the other side has said nothing for %u s",
				    copy->options->timeout);
		report_progress(copy);
	}
	return 0;
}

int fail_by_message(struct copy *copy, struct message *message)
{
	if (be32toh(message->type) != MESSAGE_ERROR)
		return fail(copy, "the other side sends nonsense");
	copy->told = true;
	message->text[MESSAGE_TEXT - 1] = 0;
	return fail(copy, "the other side: %s", message->text);
}

/* Why we give up. That it arrives is not worth waiting long for. */
void tell_failure(struct copy *copy)
{
	struct message *message =
		&copy->connection.outgoing[ERROR_MESSAGE(copy)];
	const double limit = now() + LAST_WORD_MS / 1e3;
	struct ibv_wc wc;

	message->type = htobe32(MESSAGE_ERROR);
	/* what does not fit is cut off */
	memcpy(message->text, copy->reason, sizeof(message->text) - 1);
	if (post_message(copy, ERROR_MESSAGE(copy)))
		return;
	while (now() < limit) {
		int n = ibv_poll_cq(copy->connection.cq, 1, &wc);

		if (n < 0 || (n && wc.wr_id == ERROR_MESSAGE(copy)))
			return;
		if (!n)
			usleep(1000);
	}
}
