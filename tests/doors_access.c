// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * doors_access DOOR FILE: what a peer may do with an MR by a door, and that it
 * ends where it ends. FILE is whatever dmabuf_alloc() takes. Needs no
 * privilege but to open it.
 */
#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 4 * PAGE,
	/* The MR: begins and ends within a page, but at whole words. */
	OFFSET = PAGE + 1000,
	LEN = PAGE + 400,
};

/* What became of a request, beside the statuses: success, but other bytes. */
enum { WRONG_BYTES = -2 };

static const uint64_t iova = (5UL << 36) + 1000;
static struct ibv_pd *pd;
static struct peer peer;
static struct ibv_mr *host_mr;
static char *buf, *host;
static int buf_fd;

static const void *at(long n)
{
	return (const void *)(uintptr_t)(iova + n);
}

/* What was said to have been done would have been done to bytes of @buf. */
static bool in_buffer(long n, size_t len)
{
	return n >= -OFFSET && n + (long)len <= SIZE - OFFSET;
}

/* The peer's buffer is the second pattern, until it has read the first. */
static int transfer(uint32_t rkey, enum ibv_wr_opcode opcode, long n,
		    size_t len)
{
	bool write = opcode == IBV_WR_RDMA_WRITE;
	int status = pair_rdma(peer_pair(&peer), 0, opcode,
			       part_of(peer.buffer_mr, peer.buffer, len), at(n),
			       rkey);

	if (!status && (!in_buffer(n, len) ||
			memcmp(buf + OFFSET + n, peer.buffer, len) ||
			!laid(peer.buffer, len, write ? 2 : 1,
			      write ? 0 : OFFSET + n)))
		return WRONG_BYTES;
	return status;
}

static int atomic(uint32_t rkey, enum ibv_wr_opcode opcode, long n)
{
	bool add = opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
	uint64_t old, got, result;
	int status;

	memcpy(&old, buf + OFFSET + n, 8);
	status = pair_atomic(peer_pair(&peer), 0, opcode,
			     part_of(peer.buffer_mr, peer.buffer, 8), at(n),
			     rkey, add ? 1 : old, ~old);
	memcpy(&got, buf + OFFSET + n, 8);
	memcpy(&result, peer.buffer, 8);
	if (!status && (got != (add ? old + 1 : ~old) || result != old))
		return WRONG_BYTES;
	return status;
}

static int add(uint32_t rkey, long n)
{
	return atomic(rkey, IBV_WR_ATOMIC_FETCH_AND_ADD, n);
}

static int swap(uint32_t rkey, long n)
{
	return atomic(rkey, IBV_WR_ATOMIC_CMP_AND_SWP, n);
}

/* It came to @want; a refusal changed nothing, on no side. */
static void is(int status, int want, const char *what, const char *of)
{
	bool good = status == want;

	if (want)
		good &= laid(buf, SIZE, 1, 0) && laid(peer.buffer, LEN, 2, 0);
	if (!ok(good, "%s, %s: %s", of, what,
		want ? status_name(want) : "is done"))
		printf("# it came to: %s\n", status == WRONG_BYTES ?
		       "wrong bytes" : status_name(status));
	lay(buf, SIZE, 1, 0);
	lay(peer.buffer, LEN, 2, 0);
}

/* The MR as the local side of a request. */
static void local_use(struct ibv_mr *mr, int access, const char *name)
{
	bool writable = access & IBV_ACCESS_LOCAL_WRITE;
	struct ibv_sge own = part_of(mr, at(0), LEN);
	int status;

	lay(host, LEN, 3, 0);
	status = pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_WRITE, own, host,
			   host_mr->rkey);
	if (!status && !laid(host, LEN, 1, OFFSET))
		status = WRONG_BYTES;
	is(status, 0, "to send from it", name);

	lay(host, LEN, 3, 0);
	status = pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_READ, own, host,
			   host_mr->rkey);
	if (!status && !laid(buf + OFFSET, LEN, 3, 0))
		status = WRONG_BYTES;
	is(status, writable ? 0 : IBV_WC_LOC_PROT_ERR, "to read into it", name);
}

static void allows_what_it_says(int access, const char *name)
{
	struct ibv_mr *mr = door_reg(pd, OFFSET, LEN, iova, buf_fd, access);
	const int no = IBV_WC_REM_ACCESS_ERR;

	if (!mr) {
		fails(true, 0, "%s", name);
		return;
	}
	is(transfer(mr->rkey, IBV_WR_RDMA_WRITE, 0, LEN),
	   access & IBV_ACCESS_REMOTE_WRITE ? 0 : no, "write", name);
	is(transfer(mr->rkey, IBV_WR_RDMA_READ, 0, LEN),
	   access & IBV_ACCESS_REMOTE_READ ? 0 : no, "read", name);
	is(add(mr->rkey, 0), access & IBV_ACCESS_REMOTE_ATOMIC ? 0 : no,
	   "fetch and add", name);
	is(swap(mr->rkey, LEN - 8), access & IBV_ACCESS_REMOTE_ATOMIC ? 0 : no,
	   "compare and swap", name);
	local_use(mr, access, name);
	ok(!door_dereg(mr), "%s: it goes", name);
}

/* Sent from the other end, so that the peer's next request is its own. */
static int send_part(struct ibv_mr *mr, const void *p, size_t len)
{
	struct ibv_sge part = part_of(mr, p, len);

	return pair_post(peer_pair(&peer), 1, &(struct ibv_send_wr) {
		.sg_list = &part,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
	});
}

/* The last byte that is there, and the first that is not, at both ends. */
static void ends_where_it_ends(void)
{
	const int all = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	static const struct {
		const char *what;
		long at;
		size_t len;
		bool good;
	} rows[] = {
		{ "the first byte", 0, 1, true },
		{ "the last byte", LEN - 1, 1, true },
		{ "all bytes", 0, LEN, true },
		{ "the byte before the first", -1, 1, false },
		{ "the byte behind the last", LEN, 1, false },
		{ "the first byte and the one before", -1, 2, false },
		{ "the last byte and the one behind", LEN - 1, 2, false },
		{ "all bytes and the one before", -1, LEN + 1, false },
		{ "all bytes and the one behind", 0, LEN + 1, false },
		{ "the page before", -PAGE, PAGE, false },
		{ "the page behind", LEN, PAGE, false },
		{ "what is at its offset", OFFSET - (5L << 36) - 1000, 8,
		  false },
	};
	struct ibv_mr *mr = door_reg(pd, OFFSET, LEN, iova, buf_fd, all);
	const int no = IBV_WC_REM_ACCESS_ERR;
	uint32_t rkey;
	int status;

	if (!mr)
		give_up("MR");
	rkey = mr->rkey;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int want = rows[i].good ? 0 : no;

		is(transfer(rkey, IBV_WR_RDMA_WRITE, rows[i].at, rows[i].len),
		   want, "write", rows[i].what);
		is(transfer(rkey, IBV_WR_RDMA_READ, rows[i].at, rows[i].len),
		   want, "read", rows[i].what);
	}
	is(add(rkey, 0), 0, "fetch and add", "the first word");
	is(add(rkey, LEN - 8), 0, "fetch and add", "the last word");
	is(add(rkey, -8), no, "fetch and add", "the word before the first");
	is(add(rkey, LEN), no, "fetch and add", "the word behind the last");
	is(swap(rkey, -8), no, "compare and swap", "the word before the first");
	is(swap(rkey, LEN), no, "compare and swap", "the word behind the last");
	/* As the local side it fails as host memory does. */
	status = send_part(host_mr, host + LEN - 1, 2);
	ok(status > 0, "send of a byte behind host memory: %s",
	   status_name(status));
	is(send_part(mr, at(-1), 2), status, "send",
	   "the first byte and the one before");
	is(send_part(mr, at(LEN - 1), 2), status, "send",
	   "the last byte and the one behind");
	ok(!door_dereg(mr), "it goes");
	is(transfer(rkey, IBV_WR_RDMA_READ, 0, 8), no, "read",
	   "an MR that is gone");
}

int main(int argc, char **argv)
{
	static const struct {
		int access;
		const char *name;
	} rows[] = {
		{ 0, "nothing" },
		{ IBV_ACCESS_LOCAL_WRITE, "local write" },
		{ IBV_ACCESS_REMOTE_READ, "remote read" },
		{ IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
		  "remote write" },
		{ IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_ATOMIC,
		  "remote atomic" },
		{ IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		  IBV_ACCESS_REMOTE_READ, "remote write and read" },
		{ IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
		  IBV_ACCESS_REMOTE_ATOMIC, "remote read and atomic" },
	};

	if (argc != 3) {
		fprintf(stderr, "usage: doors_access DOOR FILE\n");
		return EXIT_FAILURE;
	}
	door_choose(argv[1]);
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);
	buf_fd = dmabuf_alloc(argv[2], SIZE);
	buf = map_or_give_up(buf_fd, SIZE);
	host = host_memory(2 * PAGE);
	host_mr = ibv_reg_mr(pd, host, LEN, IBV_ACCESS_LOCAL_WRITE |
			     IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
	if (!host_mr)
		give_up("MR on host memory");
	ok(door_is_used(pd, buf_fd), "MRs come by the door");
	lay(buf, SIZE, 1, 0);
	lay(peer.buffer, LEN, 2, 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		allows_what_it_says(rows[i].access, rows[i].name);
	ends_where_it_ends();
	return done_testing();
}
