// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * copy_hello ADDRESS SIZE BLOCK DEPTH: wants to send to iopmem-copy --listen what
 * no iopmem-copy would. Prints why that refuses; succeeds if it does.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "copy/copy.h"

static struct rdma_event_channel *events;

static void expect(enum rdma_cm_event_type type)
{
	struct rdma_cm_event *event;

	if (rdma_get_cm_event(events, &event)) {
		perror("rdma_get_cm_event");
		exit(EXIT_FAILURE);
	}
	if (event->event != type) {
		printf("%s, not %s\n", rdma_event_str(event->event),
		       rdma_event_str(type));
		exit(EXIT_FAILURE);
	}
	if (type == RDMA_CM_EVENT_REJECTED &&
	    event->param.conn.private_data_len >= sizeof(struct refusal)) {
		const struct refusal *refusal = event->param.conn.private_data;

		printf("%s\n", refusal->text);
	}
	rdma_ack_cm_event(event);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(18610),
	};
	struct ibv_qp_init_attr attr = {
		.cap = {
			.max_send_wr = 1,
			.max_recv_wr = 1,
			.max_send_sge = 1,
			.max_recv_sge = 1,
		},
		.qp_type = IBV_QPT_RC,
	};
	struct hello hello = {
		.magic = htobe32(COPY_MAGIC),
		.version = htobe32(COPY_VERSION),
	};
	struct rdma_conn_param parameter = {
		.private_data = &hello,
		.private_data_len = sizeof(hello),
	};
	struct rdma_cm_id *id;

	if (argc != 5 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
		return EXIT_FAILURE;
	hello.size = htobe64(strtoull(argv[2], NULL, 0));
	hello.block = htobe64(strtoull(argv[3], NULL, 0));
	hello.depth = htobe32(strtoull(argv[4], NULL, 0));
	events = rdma_create_event_channel();
	if (!events || rdma_create_id(events, &id, NULL, RDMA_PS_TCP) ||
	    rdma_resolve_addr(id, NULL, (struct sockaddr *)&address, 5000)) {
		perror("connection manager");
		return EXIT_FAILURE;
	}
	expect(RDMA_CM_EVENT_ADDR_RESOLVED);
	if (rdma_resolve_route(id, 5000))
		return EXIT_FAILURE;
	expect(RDMA_CM_EVENT_ROUTE_RESOLVED);
	if (rdma_create_qp(id, NULL, &attr) || rdma_connect(id, &parameter)) {
		perror("rdma_connect");
		return EXIT_FAILURE;
	}
	expect(RDMA_CM_EVENT_REJECTED);
	return EXIT_SUCCESS;
}
