// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_retransmit RDMA_A NETDEV_A RDMA_B NETDEV_B: an acknowledgment that comes
 * when the requester has begun to repeat what it is for.
 *
 * Device A writes or sends two messages to device B. NETDEV_A and NETDEV_B are
 * the far ends of their veth pairs; what the devices send each other passes only
 * through this program. It keeps back the acknowledgments until A repeats the
 * first message, gives it the one for all of that then, and the next ones when A
 * begins to repeat once more. Both messages have to arrive, once.
 *
 * Then device A reads, and writes no bytes, and the answer to the read gets lost: it
 * has to be repeated, and to read what there is.
 */
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	MTU = 4096,
	/* packets of the messages; rxe sends 128 without an acknowledgment */
	FIRST = 112,
	MAX_SECOND = 16,
	SIZE = (FIRST + MAX_SECOND) * MTU,
	MAX_REPEATS = 20,
	EARLY_US = 200,
	MIN_ROUNDS = 6,		/* of a second or two */
	SECONDS = 60,

	/* Ethernet, IPv4 and UDP headers, then those of InfiniBand 9.2 and 9.5 */
	ETHERTYPE = 12,
	UDP_DEST = 36,
	BTH = 42,
	BTH_PSN = BTH + 9,
	AETH = BTH + 12,
	ROCE_PORT = 4791,
	RC_READ_RESPONSE_ONLY = 0x10,
	RC_ACKNOWLEDGE = 0x11,
	AETH_NOT_ACK = 0x60,
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
	bool ack, nak;
	bool read;		/* all that has been read */
	uint32_t psn;
	int64_t at_us;		/* when it was made: rxe writes that into it */
};

static struct {
	pthread_mutex_t lock;
	enum phase phase;
	uint32_t first;		/* PSN of the first message */
	int packets;		/* of both */
	bool all_sent;		/* A had sent them */
	int last;		/* position of A's last packet, or -1 */
	int repeats;
	struct frame ack;	/* that of the first message, once it is there */
	int64_t handed_us;	/* when A got it */
	bool early;		/* and was still repeating that message */
	int reads_to_lose;
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
	    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &(int){ 1 },
		       sizeof(int)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)))
		give_up("network device %s", name);
	return fd;
}

static unsigned int big_endian(const unsigned char *bytes, int n)
{
	unsigned int value = 0;

	while (n--)
		value = value << 8 | *bytes++;
	return value;
}

static int64_t microseconds(const struct timespec *time)
{
	return time->tv_sec * 1000000LL + time->tv_nsec / 1000;
}

static bool receive(int fd, struct frame *frame)
{
	const unsigned char *bytes = (unsigned char *)frame->bytes;
	union {
		char bytes[CMSG_SPACE(sizeof(struct timespec))];
		struct cmsghdr aligned;
	} control;
	struct iovec part = { frame->bytes, sizeof(frame->bytes) };
	struct msghdr msg = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct timespec time = { 0 };
	struct cmsghdr *cmsg;

	frame->len = recvmsg(fd, &msg, MSG_DONTWAIT);
	if (frame->len < 0)
		return false;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET &&
	    cmsg->cmsg_type == SO_TIMESTAMPNS)
		memcpy(&time, CMSG_DATA(cmsg), sizeof(time));
	frame->at_us = microseconds(&time);
	frame->roce = frame->len > AETH &&
		      big_endian(bytes + ETHERTYPE, 2) == ETHERTYPE_IP &&
		      big_endian(bytes + UDP_DEST, 2) == ROCE_PORT;
	if (frame->roce) {
		frame->psn = big_endian(bytes + BTH_PSN, 3);
		frame->ack = bytes[BTH] == RC_ACKNOWLEDGE;
		frame->nak = frame->ack && bytes[AETH] & AETH_NOT_ACK;
		frame->read = bytes[BTH] == RC_READ_RESPONSE_ONLY;
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
static int position(uint32_t psn)
{
	return (psn - relay.first) % PSNS;
}

static void hand_over_ack(void)
{
	struct timespec time;

	pass_on(to_a, &relay.ack);
	clock_gettime(CLOCK_MONOTONIC, &time);
	relay.handed_us = microseconds(&time);
	relay.phase = DROP;
}

/*
 * A sends faster than the relay reads. That the acknowledgment came early
 * enough is known only when the last packet that it is for shows when that was
 * sent.
 */
static void request(const struct frame *frame)
{
	int at = position(frame->psn);
	bool back = at <= relay.last;

	relay.repeats += back;
	if (relay.phase == KEEP && relay.all_sent && relay.ack.len &&
	    at < FIRST - 1)
		hand_over_ack();
	else if ((relay.phase == DROP && back) || relay.repeats > MAX_REPEATS)
		relay.phase = PASS;
	if (relay.phase == DROP && at == FIRST - 1)
		relay.early = frame->at_us > relay.handed_us + EARLY_US;
	relay.all_sent |= at == relay.packets - 1;
	relay.last = at;
}

static bool passes(const struct frame *frame)
{
	if (frame->read && relay.reads_to_lose) {
		relay.reads_to_lose--;
		return false;
	}
	if (!frame->ack || relay.phase == PASS)
		return true;
	if (relay.phase == KEEP && !frame->nak &&
	    position(frame->psn) == FIRST - 1)
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

static void begin_round(uint32_t first, int packets)
{
	pthread_mutex_lock(&relay.lock);
	relay.phase = KEEP;
	relay.first = first;
	relay.packets = packets;
	relay.all_sent = false;
	relay.last = -1;
	relay.repeats = 0;
	relay.ack.len = 0;
	relay.early = false;
	pthread_mutex_unlock(&relay.lock);
}

static bool was_early(void)
{
	bool early;

	pthread_mutex_lock(&relay.lock);
	early = relay.early;
	pthread_mutex_unlock(&relay.lock);
	return early;
}

/* Both messages, and what became of them: the first failure or 0 */
static int two_messages(struct pair *pair, enum ibv_wr_opcode opcode,
			const struct ibv_sge from[2],
			const struct ibv_sge to[2], uint32_t rkey)
{
	struct ibv_send_wr wr[2] = { 0 }, *bad;
	int status = 0;

	for (int i = 0; i < 2; i++) {
		wr[i].next = i ? NULL : &wr[1];
		wr[i].sg_list = (struct ibv_sge *)&from[i];
		wr[i].num_sge = 1;
		wr[i].opcode = opcode;
		wr[i].wr.rdma.remote_addr = to[i].addr;
		wr[i].wr.rdma.rkey = rkey;
	}
	if (ibv_post_send(pair->qp[0], wr, &bad))
		return -1;
	for (int i = 0; i < 2 && !status; i++) {
		struct ibv_wc wc;

		status = pair_wait(pair, 0, &wc) ? -1 : (int)wc.status;
	}
	return status;
}

/* What is read is lost once on the way; the first failure or 0 */
static int lost_read(struct pair *pair, struct ibv_sge to,
		     const struct ibv_mr *from)
{
	struct ibv_send_wr write = {
		.opcode = IBV_WR_RDMA_WRITE,
		.wr.rdma = { (uintptr_t)from->addr, from->rkey },
	};
	struct ibv_send_wr read = {
		.next = &write,
		.sg_list = &to,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_READ,
		.wr.rdma = { (uintptr_t)from->addr, from->rkey },
	}, *bad;
	int status = 0;

	pthread_mutex_lock(&relay.lock);
	relay.phase = PASS;
	relay.reads_to_lose = 1;
	pthread_mutex_unlock(&relay.lock);
	if (ibv_post_send(pair->qp[0], &read, &bad))
		return -1;
	for (int i = 0; i < 2 && !status; i++) {
		struct ibv_wc wc;

		status = pair_wait(pair, 0, &wc) ? -1 : (int)wc.status;
	}
	return status;
}

static bool all_reads_lost(void)
{
	bool lost;

	pthread_mutex_lock(&relay.lock);
	lost = !relay.reads_to_lose;
	pthread_mutex_unlock(&relay.lock);
	return lost;
}

static void post_receive(struct pair *pair, const struct ibv_sge *to)
{
	struct ibv_recv_wr wr = {
		.sg_list = (struct ibv_sge *)to,
		.num_sge = 1,
	}, *bad;

	if (ibv_post_recv(pair->qp[1], &wr, &bad))
		give_up("ibv_post_recv");
}

/* Just these two have been received. */
static bool received(struct pair *pair, const struct ibv_sge to[2])
{
	struct ibv_wc wc;
	bool good = true;

	for (int i = 0; i < 2; i++)
		good &= !pair_wait(pair, 1, &wc) &&
			wc.status == IBV_WC_SUCCESS &&
			wc.byte_len == to[i].length;
	return good && !ibv_poll_cq(pair->cq[1], 1, &wc);
}

static struct ibv_mr *memory_on(struct ibv_pd *pd)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, host_memory(SIZE), SIZE,
				       IBV_ACCESS_LOCAL_WRITE |
				       IBV_ACCESS_REMOTE_WRITE |
				       IBV_ACCESS_REMOTE_READ);

	if (!mr)
		give_up("MR");
	return mr;
}

int main(int argc, char **argv)
{
	int rounds, early[2] = { 0 }, status = 0;
	struct ibv_sge from[2], to[2];
	struct ibv_mr *from_mr, *to_mr;
	bool same = true, once = true;
	struct ibv_pd *pds[2];
	struct pair *pair;
	pthread_t thread;
	uint32_t psn = 0;
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
	from_mr = memory_on(pds[0]);
	to_mr = memory_on(pds[1]);
	pair = pair_connect(pds);
	from[0] = part_of(from_mr, from_mr->addr, FIRST * MTU);
	to[0] = part_of(to_mr, to_mr->addr, FIRST * MTU);
	/* There is always one more than should be needed. */
	post_receive(pair, &to[0]);

	limit = now() + SECONDS;
	for (rounds = 0; !status && same && once && now() < limit &&
	     (rounds < MIN_ROUNDS || !early[0] || !early[1]); rounds++) {
		int sends = rounds % 2, second = sends ? 1 : MAX_SECOND;

		from[1] = part_of(from_mr, (char *)from_mr->addr + FIRST * MTU,
				  second * MTU);
		to[1] = part_of(to_mr, (char *)to_mr->addr + FIRST * MTU,
				second * MTU);
		if (sends) {
			post_receive(pair, &to[1]);
			post_receive(pair, &to[0]);
		}
		fill(from_mr->addr, SIZE, rounds);
		begin_round(psn, FIRST + second);
		psn += FIRST + second;
		status = two_messages(pair, sends ? IBV_WR_SEND :
						    IBV_WR_RDMA_WRITE,
				      from, to, to_mr->rkey);
		once = status || !sends || received(pair, to);
		same = status || filled(to_mr->addr, (FIRST + second) * MTU,
					rounds);
		early[sends] += was_early();
	}
	ok(!status, "both messages of %d rounds arrive: %s", rounds,
	   status_name(status));
	ok(same, "with what was sent");
	ok(once, "and what is sent is received once");
	if (!status && same && once)
		ok(early[0] && early[1], "the acknowledgment came while the message was repeated, %d times for writes, %d for sends",
		   early[0], early[1]);
	if (!status) {
		fill(to_mr->addr, MTU, rounds);
		memset(from_mr->addr, 0, MTU);
		status = lost_read(pair, part_of(from_mr, from_mr->addr, MTU),
				   to_mr);
		ok(!status, "a read whose answer is lost, and a write of nothing: %s",
		   status_name(status));
		ok(filled(from_mr->addr, MTU, rounds), "it reads what there is");
		ok(all_reads_lost(), "not at the first attempt");
	}
	ok(pair_destroy(pair) && !ibv_dereg_mr(from_mr) &&
	   !ibv_dereg_mr(to_mr), "all of it can be destroyed");
	stop = true;
	pthread_join(thread, NULL);
	close_rdma_device(pds[0]);
	close_rdma_device(pds[1]);
	return done_testing();
}
