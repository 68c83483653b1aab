// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The other side: a reliable connection, which the RDMA connection manager makes,
 * and all that belongs to it.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "copy.h"

/* The second is why a connection manager rejects (InfiniBand, 12.6.7.2). */
enum { BACKLOG = 1, NO_SUCH_SERVICE = 8 };

/* ---- what has happened to the connection */

int fail_by_event(struct copy *copy, struct rdma_cm_event *event)
{
	const struct refusal *refusal = event->param.conn.private_data;
	const char *port = copy->options->port;
	const char *host = copy->options->host ? copy->options->host :
			   "the sender";
	int error = abs(event->status);

	switch (event->event) {
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
		return fail(copy, "%s is not reached by an RDMA device: %s",
			    host, strerror(error));
	case RDMA_CM_EVENT_REJECTED:
		if (refusal && event->param.conn.private_data_len >=
				       sizeof(*refusal) &&
		    be32toh(refusal->magic) == COPY_MAGIC)
			return fail(copy, "%s refuses: %.*s", host,
				    (int)sizeof(refusal->text), refusal->text);
		if (!copy->options->host || event->status != NO_SUCH_SERVICE)
			return fail(copy, "%s has given up connecting (%d)",
				    host, event->status);
		return fail(copy, "nobody listens on port %s of %s", port,
			    host);
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_CONNECT_ERROR:
		return fail(copy, "%s does not answer", host);
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		return fail(copy, "the RDMA device has been removed");
	case RDMA_CM_EVENT_DISCONNECTED:
		return fail(copy, "the other side has gone");
	default:
		return fail(copy, "connection manager: %s",
			    rdma_event_str(event->event));
	}
}

/* Within so many seconds, or -1: at any time. The caller acknowledges it. */
static struct rdma_cm_event *next_event(struct copy *copy, int seconds)
{
	struct pollfd fd = {
		.fd = copy->connection.events->fd,
		.events = POLLIN,
	};
	double limit = now() + seconds;
	struct rdma_cm_event *event = NULL;

	for (;;) {
		/* the library has events of its own */
		if (poll(&fd, 1, 1000) > 0 &&
		    (!rdma_get_cm_event(copy->connection.events, &event) ||
		     errno != EAGAIN))
			break;
		event = NULL;
		if (interrupted) {
			fail(copy, "interrupted");
			return NULL;
		}
		if (seconds >= 0 && now() > limit) {
			fail(copy, "no answer in %d s", seconds);
			return NULL;
		}
	}
	if (!event)
		fail(copy, "connection manager: %s", strerror(errno));
	return event;
}

/* Only one sender is served. */
bool refuse_another(struct rdma_cm_event *event)
{
	struct refusal refusal = {
		.magic = htobe32(COPY_MAGIC),
		.version = htobe32(COPY_VERSION),
		.text = "another sender is being served",
	};
	struct rdma_cm_id *id = event->id;

	if (event->event != RDMA_CM_EVENT_CONNECT_REQUEST)
		return false;
	rdma_ack_cm_event(event);
	rdma_reject(id, &refusal, sizeof(refusal));
	rdma_destroy_id(id);
	return true;
}

static int expect(struct copy *copy, enum rdma_cm_event_type type)
{
	struct rdma_cm_event *event;
	int ret = 0;

	/* the connection manager, which has the same limit, knows more */
	do {
		event = next_event(copy, copy->options->timeout + 2);
		if (!event)
			return -1;
	} while (refuse_another(event));
	if (event->event != type)
		ret = fail_by_event(copy, event);
	else if (type == RDMA_CM_EVENT_ESTABLISHED && copy->options->host) {
		const struct welcome *welcome = event->param.conn.private_data;

		if (event->param.conn.private_data_len < sizeof(*welcome) ||
		    be32toh(welcome->magic) != COPY_MAGIC)
			ret = fail(copy, "what listens there is something else");
		else
			copy->connection.there = *welcome;
	}
	rdma_ack_cm_event(event);
	return ret;
}

/* ---- its parts */

static int make_messages(struct copy *copy)
{
	struct connection *connection = &copy->connection;
	/* and where the bytes go that are read back, one for each slot */
	size_t size = 2 * MESSAGES(copy) * sizeof(struct message) + copy->depth;

	connection->outgoing = calloc(1, size);
	if (!connection->outgoing)
		return fail(copy, "%zu bytes: %s", size, strerror(errno));
	connection->incoming = connection->outgoing + MESSAGES(copy);
	connection->mr = ibv_reg_mr(connection->pd, connection->outgoing, size,
				    IBV_ACCESS_LOCAL_WRITE);
	if (!connection->mr)
		return fail(copy, "an MR for messages: %s", strerror(errno));
	return 0;
}

static int make_queues(struct copy *copy)
{
	struct connection *connection = &copy->connection;
	/* a block takes three requests: see post_block() */
	unsigned int sends = 3 * copy->depth + 2;
	struct ibv_qp_init_attr attr = {
		.cap = {
			.max_send_wr = sends,
			.max_recv_wr = MESSAGES(copy),
			.max_send_sge = 1,
			.max_recv_sge = 1,
		},
		.qp_type = IBV_QPT_RC,
	};

	connection->completions =
		ibv_create_comp_channel(connection->id->verbs);
	if (!connection->completions)
		return fail(copy, "a completion channel: %s", strerror(errno));
	fcntl(connection->completions->fd, F_SETFL, O_NONBLOCK);
	connection->cq = ibv_create_cq(connection->id->verbs,
				       sends + MESSAGES(copy), NULL,
				       connection->completions, 0);
	if (!connection->cq)
		return fail(copy, "a completion queue: %s", strerror(errno));
	attr.send_cq = connection->cq;
	attr.recv_cq = connection->cq;
	if (rdma_create_qp(connection->id, connection->pd, &attr))
		return fail(copy, "a queue pair: %s", strerror(errno));
	return 0;
}

static int check_block(struct copy *copy)
{
	struct ibv_port_attr port;

	if (ibv_query_port(copy->connection.id->verbs,
			   copy->connection.id->port_num, &port))
		return fail(copy, "the RDMA device's port: %s",
			    strerror(errno));
	if (copy->block > port.max_msg_sz)
		return fail(copy, "blocks of %" PRIu64 " bytes: %s takes %u at most",
			    copy->block,
			    ibv_get_device_name(copy->connection.id->verbs->device),
			    port.max_msg_sz);
	return 0;
}

/* All that needs to know which RDMA device it is. */
static int make_end(struct copy *copy)
{
	struct connection *connection = &copy->connection;

	connection->pd = ibv_alloc_pd(connection->id->verbs);
	if (!connection->pd)
		return fail(copy, "a protection domain: %s", strerror(errno));
	if (check_block(copy) || make_messages(copy) ||
	    memory_register(copy) || make_queues(copy))
		return -1;
	for (unsigned int i = 0; i < MESSAGES(copy); i++)
		if (post_receive(copy, i))
			return -1;
	return 0;
}

static int make_channel(struct copy *copy, struct rdma_cm_id **id)
{
	struct connection *connection = &copy->connection;

	connection->events = rdma_create_event_channel();
	if (!connection->events)
		return fail(copy, "connection manager: %s: modprobe rdma_ucm?",
			    strerror(errno));
	fcntl(connection->events->fd, F_SETFL, O_NONBLOCK);
	if (rdma_create_id(connection->events, id, NULL, RDMA_PS_TCP))
		return fail(copy, "connection manager: %s", strerror(errno));
	return 0;
}

/* For rdma_resolve_addr() or rdma_bind_addr() */
static struct addrinfo *look_up(struct copy *copy, const char *host, int flags)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = flags,
	}, *list = NULL;
	int ret = getaddrinfo(host, copy->options->port, &hints, &list);

	if (ret)
		fail(copy, "%s port %s: %s", host ? host : "",
		     copy->options->port, gai_strerror(ret));
	return list;
}

/* ---- connecting */

/* How much may be lost before it counts: some seconds, as a queue pair has it. */
static struct rdma_conn_param parameters(void *data, size_t size)
{
	return (struct rdma_conn_param){
		.private_data = data,
		.private_data_len = size,
		.responder_resources = 1,
		.initiator_depth = 1,
		.retry_count = 7,
		.rnr_retry_count = 7,
	};
}

int connection_to(struct copy *copy)
{
	struct connection *connection = &copy->connection;
	const int ms = copy->options->timeout * 1000;
	struct hello hello = {
		.magic = htobe32(COPY_MAGIC),
		.version = htobe32(COPY_VERSION),
		.size = htobe64(copy->size),
		.block = htobe64(copy->block),
		.depth = htobe32(copy->depth),
		.flags = htobe32(copy->checksum ? HELLO_CHECKSUM : 0),
	};
	struct rdma_conn_param parameter = parameters(&hello, sizeof(hello));
	struct addrinfo *address;
	int ret;

	if (make_channel(copy, &connection->id))
		return -1;
	address = look_up(copy, copy->options->host, 0);
	if (!address)
		return -1;
	ret = rdma_resolve_addr(connection->id, NULL, address->ai_addr, ms);
	if (ret)
		fail(copy, "%s: %s", copy->options->host, strerror(errno));
	freeaddrinfo(address);
	if (ret || expect(copy, RDMA_CM_EVENT_ADDR_RESOLVED))
		return -1;
	if (rdma_resolve_route(connection->id, ms))
		return fail(copy, "%s: %s", copy->options->host,
			    strerror(errno));
	if (expect(copy, RDMA_CM_EVENT_ROUTE_RESOLVED) || make_end(copy))
		return -1;
	if (rdma_connect(connection->id, &parameter))
		return fail(copy, "%s: %s", copy->options->host,
			    strerror(errno));
	if (expect(copy, RDMA_CM_EVENT_ESTABLISHED))
		return -1;
	connection->established = true;
	return 0;
}

int connection_wait(struct copy *copy, struct hello *hello)
{
	struct connection *connection = &copy->connection;
	struct rdma_cm_event *event;
	struct addrinfo *address, *any;
	int ret;

	if (make_channel(copy, &connection->listener))
		return -1;
	address = look_up(copy, copy->options->address, AI_PASSIVE);
	if (!address)
		return -1;
	/* if there is "::", it is IPv4's, too */
	any = address;
	while (!copy->options->address && any->ai_family != AF_INET6 &&
	       any->ai_next)
		any = any->ai_next;
	ret = rdma_bind_addr(connection->listener, any->ai_addr) ||
	      rdma_listen(connection->listener, BACKLOG);
	if (ret)
		fail(copy, "listening on port %s: %s", copy->options->port,
		     strerror(errno));
	freeaddrinfo(address);
	if (ret)
		return -1;
	event = next_event(copy, -1);
	if (!event)
		return -1;
	if (event->event != RDMA_CM_EVENT_CONNECT_REQUEST) {
		ret = fail_by_event(copy, event);
	} else {
		connection->id = event->id;
		if (event->param.conn.private_data_len >= sizeof(*hello))
			memcpy(hello, event->param.conn.private_data,
			       sizeof(*hello));
	}
	rdma_ack_cm_event(event);
	return ret;
}

int connection_accept(struct copy *copy)
{
	struct connection *connection = &copy->connection;
	struct welcome welcome = {
		.magic = htobe32(COPY_MAGIC),
		.version = htobe32(COPY_VERSION),
	};
	struct rdma_conn_param parameter = parameters(&welcome,
						      sizeof(welcome));

	if (make_end(copy))
		return -1;
	welcome.address = htobe64((uintptr_t)copy->memory.p);
	welcome.rkey = htobe32(copy->memory.mr->rkey);
	if (rdma_accept(connection->id, &parameter))
		return fail(copy, "accepting the sender: %s", strerror(errno));
	if (expect(copy, RDMA_CM_EVENT_ESTABLISHED))
		return -1;
	connection->established = true;
	return 0;
}

void connection_refuse(struct copy *copy)
{
	struct refusal refusal = {
		.magic = htobe32(COPY_MAGIC),
		.version = htobe32(COPY_VERSION),
	};

	/* what does not fit is cut off */
	memcpy(refusal.text, copy->reason, sizeof(refusal.text) - 1);
	rdma_reject(copy->connection.id, &refusal, sizeof(refusal));
}

void connection_close(struct copy *copy)
{
	struct connection *connection = &copy->connection;

	if (connection->established)
		rdma_disconnect(connection->id);
	if (connection->id && connection->id->qp)
		rdma_destroy_qp(connection->id);
	if (connection->cq)
		ibv_destroy_cq(connection->cq);
	if (connection->completions)
		ibv_destroy_comp_channel(connection->completions);
	if (connection->mr)
		ibv_dereg_mr(connection->mr);
	free(connection->outgoing);
	memory_close(copy);
	if (connection->pd)
		ibv_dealloc_pd(connection->pd);
	if (connection->id)
		rdma_destroy_id(connection->id);
	if (connection->listener)
		rdma_destroy_id(connection->listener);
	if (connection->events)
		rdma_destroy_event_channel(connection->events);
}
