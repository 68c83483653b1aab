// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_transfer [-d DOOR] DEV DEV2 MAX: every kind of RDMA work between BAR
 * memory and host memory, up to MAX bytes at a time. What arrived, and that
 * nothing else has changed, is looked at by the CPU. Needs no privilege; host
 * memory is used as far as RLIMIT_MEMLOCK goes.
 *	-d	MRs on dma-bufs by this door (see doors.h), at the addresses
 *		where the dma-bufs are mapped; without windows and FLUSH, which
 *		they do not have
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	GUARD = 64,		/* bytes that must not change, on either side */
	GUARD_SEED = 99,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
	MORE_ACCESS = IBV_ACCESS_MW_BIND | ACCESS_FLUSH_GLOBAL,
};

/* Memory with an MR on it. Data goes from its first half to the second. */
struct arena {
	const char *name;
	char *p;
	size_t half;
	struct ibv_mr *mr;
};

enum { HOST, BAR, BAR2, ARENAS };

static const struct {
	size_t size, from, to;
} shapes[] = {
	{ 1, 0, 4095 },
	{ 1, 1, 0 },
	{ 3, 4094, 1 },
	{ 8, 8, 16 },
	{ 63, 5, 4090 },
	{ 4096, 0, 0 },
	{ 4097, 1, 4093 },
	{ 9001, 4095, 2 },
	{ 65536, 17, 4081 },
	{ 1048576, 2049, 5 },
};

static struct ibv_pd *pd;
static struct arena arenas[ARENAS];
static uint64_t seed = 1000;

static struct arena make_arena(const char *name, void *p, size_t half)
{
	struct arena a = { .name = name, .p = p, .half = half };

	a.mr = ibv_reg_mr(pd, p, 2 * half, ALL_ACCESS | MORE_ACCESS);
	if (!a.mr)
		give_up("MR on %s", name);
	return a;
}

static struct arena make_dmabuf_arena(const char *name, size_t half)
{
	struct arena a = { .name = name, .half = half };
	int buf_fd;

	a.mr = door_map(pd, name, 2 * half, ALL_ACCESS, &a.p, &buf_fd);
	ok(door_is_used(pd, buf_fd), "MRs come by the door");
	close(buf_fd);
	return a;
}

static char *source(const struct arena *a, size_t offset)
{
	return a->p + GUARD + offset;
}

static char *target(const struct arena *a, size_t offset)
{
	return a->p + a->half + GUARD + offset;
}

static bool fits(const struct arena *a, size_t size)
{
	return size + 2 * GUARD + 4096 <= a->half;
}

/* A source with contents that were nowhere before, and a target's guards. */
static void prepare(char *from, char *to, size_t size)
{
	lay(from, size, ++seed, 0);
	lay(to - GUARD, GUARD, GUARD_SEED, 0);
	lay(to + size, GUARD, GUARD_SEED, 0);
}

/* The target holds what the source was filled with, and not a byte more. */
static bool arrived(const char *to, size_t size)
{
	return laid(to, size, seed, 0) &&
	       laid(to - GUARD, GUARD, GUARD_SEED, 0) &&
	       laid(to + size, GUARD, GUARD_SEED, 0);
}

static bool report(const char *what, int status, size_t size, size_t from,
		   size_t to, bool good)
{
	if (status || !good)
		printf("# %s, %zu bytes, offsets %zu and %zu: %s%s\n", what,
		       size, from, to, status_name(status),
		       good ? "" : ", wrong bytes");
	return !status && good;
}

static int do_write(struct pair *pair, struct ibv_sge from, struct ibv_sge to,
		    const struct arena *a, const struct arena *b)
{
	(void)a;
	return pair_rdma(pair, 0, IBV_WR_RDMA_WRITE, from,
			 (void *)(uintptr_t)to.addr, b->mr->rkey);
}

static int do_read(struct pair *pair, struct ibv_sge from, struct ibv_sge to,
		   const struct arena *a, const struct arena *b)
{
	(void)b;
	return pair_rdma(pair, 0, IBV_WR_RDMA_READ, to,
			 (void *)(uintptr_t)from.addr, a->mr->rkey);
}

static int do_send(struct pair *pair, struct ibv_sge from, struct ibv_sge to,
		   const struct arena *a, const struct arena *b)
{
	struct ibv_wc wc;
	int status = pair_send(pair, &from, 1, &to, 1, &wc);

	(void)a;
	(void)b;
	return status ? status : (int)wc.status;
}

static const struct {
	const char *name;
	int (*move)(struct pair *pair, struct ibv_sge from, struct ibv_sge to,
		    const struct arena *a, const struct arena *b);
	bool srq;
} ways[] = {
	{ "RDMA write", do_write, false },
	{ "RDMA read", do_read, false },
	{ "send", do_send, false },
	{ "send to a shared receive queue", do_send, true },
};

static void moves_all_shapes(int way, const struct arena *a,
			     const struct arena *b, size_t max)
{
	struct pair *pair = pair_create(pd, IBV_QPT_RC, ways[way].srq);
	size_t n = sizeof(shapes) / sizeof(shapes[0]);
	size_t largest = 0;
	bool good = true;

	for (size_t i = 0; good && i < n; i++) {
		size_t size = shapes[i].size;
		char *from = source(a, shapes[i].from);
		char *to = target(b, shapes[i].to);
		int status;

		if (size > max || !fits(a, size) || !fits(b, size))
			continue;
		prepare(from, to, size);
		status = ways[way].move(pair, part_of(a->mr, from, size),
					part_of(b->mr, to, size), a, b);
		good = report(ways[way].name, status, size, shapes[i].from,
			      shapes[i].to, arrived(to, size));
		if (size > largest)
			largest = size;
	}
	ok(good && pair_destroy(pair), "%s, %s to %s, up to %zu bytes",
	   ways[way].name, a->name, b->name, largest);
}

/* Parts of odd lengths, by turns in host and in BAR memory. */
static void lists(const struct arena *host, const struct arena *bar)
{
	enum { PARTS = 6, TOTAL = 37 + 4099 + 1 + 5000 + 2048 + 815 };
	static const size_t lengths[PARTS] = { 37, 4099, 1, 5000, 2048, 815 };
	struct pair *pair = pair_create(pd, IBV_QPT_RC, false);
	struct ibv_sge from[PARTS], to[PARTS];
	struct ibv_send_wr wr = { .num_sge = PARTS };
	const struct arena *in;
	struct ibv_wc wc;
	size_t done;
	bool good;
	int status;

	/* Where the parts are: at a distance from each other. */
	for (int i = 0; i < PARTS; i++) {
		size_t at = (i / 2) * 6000 + 11;

		in = i % 2 ? bar : host;
		from[i] = part_of(in->mr, source(in, at), lengths[i]);
		in = i % 2 ? host : bar;
		to[i] = part_of(in->mr, target(in, at), lengths[i]);
	}

	for (int way = 0; way < 3; way++) {
		char *remote = way == 1 ? source(bar, 25000)
					: target(bar, 25000);

		seed++;
		done = 0;
		for (int i = 0; i < PARTS; done += lengths[i++]) {
			lay((void *)(uintptr_t)from[i].addr, lengths[i], seed,
			    done);
		}
		wr.wr.rdma.remote_addr = (uintptr_t)remote;
		wr.wr.rdma.rkey = bar->mr->rkey;
		switch (way) {
		case 0:
			lay(remote - GUARD, GUARD, GUARD_SEED, 0);
			lay(remote + TOTAL, GUARD, GUARD_SEED, 0);
			wr.opcode = IBV_WR_RDMA_WRITE;
			wr.sg_list = from;
			status = pair_post(pair, 0, &wr);
			ok(report("write", status, TOTAL, 0, 0,
				  arrived(remote, TOTAL)),
			   "RDMA write from %d parts in %s and %s", PARTS,
			   host->name, bar->name);
			continue;
		case 1:
			lay(remote, TOTAL, seed, 0);
			wr.opcode = IBV_WR_RDMA_READ;
			wr.sg_list = to;
			status = pair_post(pair, 0, &wr);
			break;
		default:
			status = pair_send(pair, from, PARTS, to, PARTS, &wc);
			if (!status)
				status = wc.status;
		}
		good = true;
		done = 0;
		for (int i = 0; i < PARTS; done += lengths[i++])
			good &= laid((void *)(uintptr_t)to[i].addr, lengths[i],
				     seed, done);
		ok(report("list", status, TOTAL, 0, 0, good),
		   "%s to %d parts in %s and %s",
		   way == 1 ? "RDMA read" : "send", PARTS, host->name,
		   bar->name);
	}
	pair_destroy(pair);
}

static void atomics(const struct arena *result_in, const struct arena *bar)
{
	struct pair *pair = pair_create(pd, IBV_QPT_RC, false);
	char *result_at = source(result_in, 8);
	struct ibv_sge result = part_of(result_in->mr, result_at, 8);
	/* The last one on a page, and others beside it that must stay. */
	uint64_t *word = (uint64_t *)(bar->p + bar->half + 4096) - 1;
	uint64_t words[3] = { 1, 0x123456789abcdef0, 3 };
	uint64_t old, got[3];
	int status;

	memcpy(word - 1, words, sizeof(words));
	status = pair_atomic(pair, 0, IBV_WR_ATOMIC_FETCH_AND_ADD, result, word,
			     bar->mr->rkey, 0xfedcba9876543210, 0);
	memcpy(&old, result_at, 8);
	memcpy(got, word - 1, sizeof(got));
	ok(report("add", status, 8, 0, 0,
		  old == words[1] && got[0] == 1 && got[2] == 3 &&
		  got[1] == words[1] + 0xfedcba9876543210),
	   "fetch and add in %s, old value to %s", bar->name, result_in->name);

	words[1] = got[1];
	status = pair_atomic(pair, 0, IBV_WR_ATOMIC_CMP_AND_SWP, result, word,
			     bar->mr->rkey, words[1], 42);
	memcpy(&old, result_at, 8);
	memcpy(got, word - 1, sizeof(got));
	ok(report("swap", status, 8, 0, 0,
		  old == words[1] && got[0] == 1 && got[1] == 42 &&
		  got[2] == 3),
	   "compare and swap of what is equal");

	status = pair_atomic(pair, 0, IBV_WR_ATOMIC_CMP_AND_SWP, result, word,
			     bar->mr->rkey, words[1], 43);
	memcpy(&old, result_at, 8);
	memcpy(got, word - 1, sizeof(got));
	ok(report("swap", status, 8, 0, 0, old == 42 && got[1] == 42),
	   "compare and swap of what is not");

	for (int i = 0; !status && i < 100; i++)
		status = pair_atomic(pair, i % 2, IBV_WR_ATOMIC_FETCH_AND_ADD,
				     result, word, bar->mr->rkey, 1, 0);
	memcpy(got, word - 1, sizeof(got));
	ok(report("add", status, 8, 0, 0, got[1] == 142),
	   "100 times fetch and add from both ends");
	pair_destroy(pair);
}

static void atomic_write(const struct arena *bar)
{
	struct pair *pair = pair_create(pd, IBV_QPT_RC, false);
	uint64_t *word = (uint64_t *)(bar->p + bar->half + 8192) - 1;
	uint64_t words[3] = { 1, 2, 3 };
	int status;

	if (!pair->atomic_write) {
		skip("this rdma-core's rxe cannot post it", "atomic write");
		pair_destroy(pair);
		return;
	}
	memcpy(word - 1, words, sizeof(words));
	status = pair_atomic_write(pair, 0, 0x0123456789abcdef, word,
				   bar->mr->rkey);
	memcpy(words, word - 1, sizeof(words));
	ok(report("atomic write", status, 8, 0, 0,
		  words[0] == 1 && words[1] == 0x0123456789abcdef &&
		  words[2] == 3), "atomic write to %s", bar->name);
	pair_destroy(pair);

	pair = pair_create(pd, IBV_QPT_RC, false);
	status = pair_atomic_write(pair, 0, 1, (char *)word + 4,
				   bar->mr->rkey);
	ok(status == IBV_WC_REM_INV_REQ_ERR,
	   "an unaligned one is refused: %s", status_name(status));
	pair_destroy(pair);
}

static void flush(const struct arena *from, const struct arena *bar)
{
	struct pair *pair = pair_create(pd, IBV_QPT_RC, false);
	static const char *const names[] = { "a range", "the MR" };
	const size_t size = 9001;
	char *to = target(bar, 1000);
	int status;

	for (int level = FLUSH_RANGE; level <= FLUSH_MR; level++) {
		prepare(source(from, 3), to, size);
		status = pair_rdma(pair, 0, IBV_WR_RDMA_WRITE,
				   part_of(from->mr, source(from, 3), size), to,
				   bar->mr->rkey);
		if (!status)
			status = pair_flush(pair, 0, level, to, size,
					    bar->mr->rkey);
		ok(report("flush", status, size, 0, 0, arrived(to, size)),
		   "write to %s, then FLUSH of %s", bar->name, names[level]);
	}
	status = pair_flush(pair, 0, FLUSH_RANGE, bar->p + 2 * bar->half - 8,
			    16, bar->mr->rkey);
	ok(status == IBV_WC_REM_ACCESS_ERR, "FLUSH past the end: %s",
	   status_name(status));
	pair_destroy(pair);
}

/* End 0 has the window, end 1 uses it. */
static void windows(enum ibv_mw_type type, const struct arena *from,
		    const struct arena *bar)
{
	const unsigned int rw = IBV_ACCESS_REMOTE_WRITE |
				IBV_ACCESS_REMOTE_READ;
	struct pair *pair = pair_create(pd, IBV_QPT_RC, false);
	struct ibv_mw *mw = ibv_alloc_mw(pd, type);
	int kind = type == IBV_MW_TYPE_1 ? 1 : 2;
	const size_t size = 5001;
	char *to = target(bar, 77);
	struct ibv_sge local = part_of(from->mr, source(from, 0), size);
	int status;

	if (!mw)
		give_up("memory window");
	status = pair_bind_mw(pair, 0, mw, bar->mr, to, size, rw);
	ok(!status, "bind a window of type %d to %s: %s", kind, bar->name,
	   status_name(status));
	prepare(source(from, 0), to, size);
	status = pair_rdma(pair, 1, IBV_WR_RDMA_WRITE, local, to, mw->rkey);
	ok(report("write", status, size, 0, 0, arrived(to, size)),
	   "write through it");
	lay(to, size, ++seed, 0);
	status = pair_rdma(pair, 1, IBV_WR_RDMA_READ, local, to, mw->rkey);
	ok(report("read", status, size, 0, 0,
		  laid(source(from, 0), size, seed, 0)), "read through it");

	/* A window may allow less than its MR. */
	if (type == IBV_MW_TYPE_2) {
		status = pair_invalidate(pair, 0, mw->rkey);
		ok(!status, "invalidate it: %s", status_name(status));
	}
	status = pair_bind_mw(pair, 0, mw, bar->mr, to, size,
			      IBV_ACCESS_REMOTE_READ);
	ok(!status, "bind it again, to be read only: %s", status_name(status));
	status = pair_rdma(pair, 1, IBV_WR_RDMA_READ, local, to, mw->rkey);
	ok(!status, "a read succeeds: %s", status_name(status));
	status = pair_rdma(pair, 1, IBV_WR_RDMA_WRITE, local, to, mw->rkey);
	ok(status == IBV_WC_REM_ACCESS_ERR, "a write does not: %s",
	   status_name(status));
	ok(!ibv_dealloc_mw(mw), "ibv_dealloc_mw");
	pair_destroy(pair);
}

static void datagrams(const struct arena *a, const struct arena *b)
{
	static const size_t sizes[] = { 1, 1000, 2048, 4000 };
	struct pair *pair = pair_create(pd, IBV_QPT_UD, false);
	struct ibv_wc wc = { 0 };
	bool good = true;
	int status;

	for (size_t i = 0; good && i < 4; i++) {
		size_t size = sizes[i];
		char *from = source(a, 13 + i);
		char *to = target(b, 4096 - UD_GRH / 2);
		struct ibv_sge in = part_of(a->mr, from, size);
		struct ibv_sge out = part_of(b->mr, to - UD_GRH,
					     UD_GRH + size);

		prepare(from, to, size);
		status = pair_send(pair, &in, 1, &out, 1, &wc);
		if (!status)
			status = wc.status;
		/* The header's 40 bytes are in the guard. */
		good = report("datagram", status, size, 13 + i, 0,
			      wc.byte_len == UD_GRH + size &&
			      laid(to, size, seed, 0) &&
			      laid(to - GUARD, GUARD - UD_GRH, GUARD_SEED, 0) &&
			      !laid(to - UD_GRH, UD_GRH, GUARD_SEED,
				    GUARD - UD_GRH) &&
			      laid(to + size, GUARD, GUARD_SEED, 0));
	}
	ok(good && pair_destroy(pair), "datagrams, %s to %s", a->name, b->name);
}

int main(int argc, char **argv)
{
	const struct arena *host = &arenas[HOST], *bar = &arenas[BAR];
	const struct arena *bar2 = &arenas[BAR2];
	bool by_door = argc == 6 && !strcmp(argv[1], "-d");
	struct rlimit limit;
	size_t max, half, host_half;
	uint64_t before;
	int fd, fd2;

	if (by_door) {
		door_choose(argv[2]);
		argv += 2;
		argc -= 2;
	}
	if (argc != 4) {
		fprintf(stderr, "usage: verbs_transfer [-d DOOR] DEV DEV2 MAX\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	fd2 = open_device(argv[2], O_RDWR);
	before = device_free(fd);
	max = parse_size(argv[3]);
	half = max + 2 * 4096 > 65536 ? max + 2 * 4096 : 65536;
	getrlimit(RLIMIT_MEMLOCK, &limit);
	host_half = limit.rlim_cur / 2 < half ? limit.rlim_cur / 2 : half;

	pd = alloc_pd_on("rxe0");
	arenas[HOST] = make_arena("host memory", host_memory(2 * host_half),
				  host_half);
	if (by_door) {
		arenas[BAR] = make_dmabuf_arena(argv[1], half);
		arenas[BAR2] = make_dmabuf_arena(argv[2], half);
	} else {
		arenas[BAR] = make_arena(argv[1], map_or_give_up(fd, 2 * half),
					 half);
		arenas[BAR2] = make_arena(argv[2],
					  map_or_give_up(fd2, 2 * half), half);
	}

	for (int way = 0; way < 3; way++) {
		moves_all_shapes(way, host, host, max);
		moves_all_shapes(way, host, bar, max);
		moves_all_shapes(way, bar, host, max);
		moves_all_shapes(way, bar, bar, max);
		moves_all_shapes(way, bar, bar2, max);
		moves_all_shapes(way, bar2, bar, max);
	}
	moves_all_shapes(3, host, bar, max);
	moves_all_shapes(3, bar, bar, max);
	lists(host, bar);
	atomics(host, bar);
	atomics(bar, bar);
	atomic_write(bar);
	if (!by_door) {
		flush(host, bar);
		flush(bar, bar);
		windows(IBV_MW_TYPE_1, host, bar);
		windows(IBV_MW_TYPE_2, host, bar);
		windows(IBV_MW_TYPE_2, bar, bar);
	}
	datagrams(host, bar);
	datagrams(bar, bar);
	datagrams(bar, host);

	for (int i = 0; i < ARENAS; i++) {
		struct ibv_mr *mr = arenas[i].mr;

		ok(!(by_door && i != HOST ? door_dereg(mr) : ibv_dereg_mr(mr)),
		   "the MR on %s goes", arenas[i].name);
		munmap(arenas[i].p, 2 * arenas[i].half);
	}
	ok(device_free(fd) == before, "nothing was lost on the way");
	return done_testing();
}
