// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_retransmit RDMA_A NETDEV_A RDMA_B NETDEV_B: an acknowledgment that comes
 * when the requester has begun to repeat what it is for.
 *
 * Device A writes two messages to device B. NETDEV_A and NETDEV_B are the far
 * ends of their veth pairs; what the devices send each other passes only through
 * this program. It keeps back the acknowledgments until A repeats the first
 * message, gives it the one for all of that then, and the next ones when A
 * begins to repeat once more. Both messages have to arrive.
 */
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	MTU = 4096,
	/* of the messages; rxe sends so many without an acknowledgment */
	FIRST = 112,
	SECOND = 16,
	PACKETS = FIRST + SECOND,
	SIZE = PACKETS * MTU,
	TIMEOUT_67_MS = 14,
	MIN_ROUNDS = 10,
	SECONDS = 60,

	/* Ethernet, IPv4 and UDP headers, then those of InfiniBand 9.2 and 9.5 */
	UDP_DEST = 36,
	BTH = 42,
	BTH_PSN = BTH + 8,
	ROCE_PORT = 4791,
	RC_WRITE_ONLY = 0x0a,
	RC_ACKNOWLEDGE = 0x11,
	PSNS = 1 << 24,
};

/* What becomes of acknowledgments */
enum phase {
	KEEP,			/* the first message's, for later */
	DROP,
	PASS,
};

/* A frame, and what the relay has to know of it */
struct frame {
	char bytes[MTU + 256];
	ssize_t len;
	bool roce;
	uint8_t opcode;
	uint32_t psn;
};

static struct {
	pthread_mutex_t lock;
	enum phase phase;
	uint32_t first;		/* PSN of the first message */
	bool all_sent;		/* A had sent both messages */
	uint32_t last;		/* PSN of A's last packet */
	struct frame ack;	/* that of the first message, once it is there */
	bool early;		/* A was still repeating that when it got it */
} relay = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int to_a, to_b;
static atomic_bool stop;

static int open_netdev(const char *name)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = if_nametoindex(name),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	int size = 16 << 20;

	if (fd < 0 || !address.sll_ifindex ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &(int){ 1 },
		       sizeof(int)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)))
		give_up("network device %s", name);
	return fd;
}

static bool receive(int fd, struct frame *frame)
{
	const unsigned char *bytes = (unsigned char *)frame->bytes;

	frame->len = recv(fd, frame->bytes, sizeof(frame->bytes),
			  MSG_DONTWAIT);
	if (frame->len < 0)
		return false;
	frame->roce = frame->len > BTH_PSN + 4 &&
		      bytes[12] << 8 | bytes[13] == ETHERTYPE_IP &&
		      bytes[UDP_DEST] << 8 | bytes[UDP_DEST + 1] == ROCE_PORT;
	if (frame->roce) {
		frame->opcode = bytes[BTH];
		frame->psn = bytes[BTH_PSN + 1] << 16 |
			     bytes[BTH_PSN + 2] << 8 | bytes[BTH_PSN + 3];
	}
	return true;
}

/* A frame that does not arrive is lost on the way, as others are. */
static void pass_on(int fd, const struct frame *frame)
{
	if (send(fd, frame->bytes, frame->len, 0) < 0)
		return;
}

/* How far it is from the first message's first packet */
static uint32_t position(uint32_t psn)
{
	return (psn - relay.first) % PSNS;
}

static void request(const struct frame *frame)
{
	uint32_t at = position(frame->psn);
	bool back = at < position(relay.last);

	if (relay.phase == KEEP && relay.all_sent && relay.ack.len &&
	    at < FIRST / 4) {
		pass_on(to_a, &relay.ack);
		relay.phase = DROP;
	} else if (relay.phase == DROP && back) {
		relay.early = at < FIRST || frame->opcode == RC_WRITE_ONLY;
		relay.phase = PASS;
	}
	relay.all_sent |= at == PACKETS - 1;
	relay.last = frame->psn;
}

static bool passes(const struct frame *frame)
{
	if (frame->opcode != RC_ACKNOWLEDGE || relay.phase == PASS)
		return true;
	if (relay.phase == KEEP && position(frame->psn) == FIRST - 1)
		relay.ack = *frame;
	return false;
}

static void *pass_all_on(void *unused)
{
	struct pollfd fds[2] = {
		{ .fd = to_a, .events = POLLIN },
		{ .fd = to_b, .events = POLLIN },
	};
	static struct frame frame;

	(void)unused;
	while (!stop) {
		poll(fds, 2, 100);
		pthread_mutex_lock(&relay.lock);
		while (receive(to_a, &frame)) {
			if (frame.roce)
				request(&frame);
			pass_on(to_b, &frame);
		}
		while (receive(to_b, &frame))
			if (!frame.roce || passes(&frame))
				pass_on(to_a, &frame);
		pthread_mutex_unlock(&relay.lock);
	}
	return NULL;
}

static void begin_round(uint32_t first)
{
	pthread_mutex_lock(&relay.lock);
	relay.phase = KEEP;
	relay.first = first;
	relay.last = first;
	relay.all_sent = false;
	relay.ack.len = 0;
	relay.early = false;
	pthread_mutex_unlock(&relay.lock);
}

/* Both messages, and what became of them: the first failure or 0 */
static int two_messages(struct pair *pair, struct ibv_mr *from,
			struct ibv_mr *to)
{
	struct ibv_sge part[2];
	struct ibv_send_wr wr[2] = { 0 }, *bad;
	int status = 0;

	for (int i = 0; i < 2; i++) {
		size_t at = i * FIRST * MTU;

		part[i] = part_of(from, (char *)from->addr + at,
				  (i ? SECOND : FIRST) * MTU);
		wr[i].next = i ? NULL : &wr[1];
		wr[i].sg_list = &part[i];
		wr[i].num_sge = 1;
		wr[i].opcode = IBV_WR_RDMA_WRITE;
		wr[i].wr.rdma.remote_addr = (uintptr_t)to->addr + at;
		wr[i].wr.rdma.rkey = to->rkey;
	}
	if (ibv_post_send(pair->qp[0], wr, &bad))
		return -1;
	for (int i = 0; i < 2 && !status; i++) {
		struct ibv_wc wc;

		status = pair_wait(pair, 0, &wc) ? -1 : (int)wc.status;
	}
	return status;
}

static struct ibv_mr *memory_on(struct ibv_pd *pd)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, host_memory(SIZE), SIZE,
				       IBV_ACCESS_LOCAL_WRITE |
				       IBV_ACCESS_REMOTE_WRITE);

	if (!mr)
		give_up("MR");
	return mr;
}

int main(int argc, char **argv)
{
	int rounds, early = 0, status = 0;
	struct ibv_mr *from, *to;
	struct ibv_pd *pds[2];
	struct pair *pair;
	pthread_t thread;
	bool same = true;
	double limit;

	if (argc != 5) {
		fprintf(stderr, "usage: verbs_retransmit RDMA_A NETDEV_A RDMA_B NETDEV_B\n");
		return EXIT_FAILURE;
	}
	to_a = open_netdev(argv[2]);
	to_b = open_netdev(argv[4]);
	if (pthread_create(&thread, NULL, pass_all_on, NULL))
		give_up("pthread_create");
	pds[0] = alloc_pd_on(argv[1]);
	pds[1] = alloc_pd_on(argv[3]);
	from = memory_on(pds[0]);
	to = memory_on(pds[1]);
	pair = pair_connect(pds, TIMEOUT_67_MS);

	limit = now() + SECONDS;
	for (rounds = 0; !status && same && now() < limit &&
	     (rounds < MIN_ROUNDS || !early); rounds++) {
		begin_round(PACKETS * rounds);
		fill(from->addr, from->length, rounds);
		status = two_messages(pair, from, to);
		same = filled(to->addr, to->length, rounds);
		early += relay.early;
	}
	ok(!status, "both messages of %d rounds arrive: %s", rounds,
	   status_name(status));
	ok(same, "with what was sent");
	ok(early, "the acknowledgment came while the message was repeated, %d times",
	   early);
	ok(pair_destroy(pair) && !ibv_dereg_mr(from) && !ibv_dereg_mr(to),
	   "all of it can be destroyed");
	stop = true;
	pthread_join(thread, NULL);
	close_rdma_device(pds[0]);
	close_rdma_device(pds[1]);
	return done_testing();
}
