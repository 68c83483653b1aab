// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * doors_transfer DOOR FILE FILE2 MAX: data to, from and between MRs on parts
 * of dma-bufs, wherever the part begins and whatever address (iova) it is
 * given, up to MAX bytes at a time. What arrived, and that nothing else has
 * changed, is looked at through mappings of the same dma-bufs.
 *
 * FILE and FILE2 are whatever dmabuf_alloc() takes. Needs no privilege but to
 * open them; host memory is used as far as RLIMIT_MEMLOCK goes.
 */
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	GUARD = 64,		/* bytes that must not change, on either side */
	GUARD_SEED = 99,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
};

/* A buffer of which a part is an MR. */
struct memory {
	const char *name;
	int fd;			/* the dma-buf, or -1: host memory */
	char *p;
	size_t size;

	size_t offset, len;	/* the part */
	uint64_t iova;
	struct ibv_mr *mr;
};

static struct ibv_pd *pd;
static struct pair *pair;
static struct memory host, one, two;
static uint64_t seed = 3000;

static char *byte(const struct memory *m, size_t at)
{
	return m->p + m->offset + at;
}

static const void *remote(const struct memory *m, size_t at)
{
	return (const void *)(uintptr_t)(m->iova + at);
}

static struct ibv_sge local(const struct memory *m, size_t at, size_t len)
{
	return part_of(m->mr, remote(m, at), len);
}

static struct memory make_memory(const char *path, size_t size)
{
	struct memory m = { .name = path, .size = size };

	m.fd = dmabuf_alloc(path, size);
	m.p = map_or_give_up(m.fd, size);
	return m;
}

static void free_memory(struct memory *m)
{
	munmap(m->p, m->size);
	close(m->fd);
}

static bool make_part(struct memory *m, size_t offset, size_t len,
		      uint64_t iova)
{
	m->offset = offset;
	m->len = len;
	m->iova = iova;
	m->mr = door_reg(pd, offset, len, iova, m->fd, ALL_ACCESS);
	return m->mr;
}

/* Bytes before and after a part that lie in the buffer. */
static size_t before(const struct memory *m)
{
	return m->offset < GUARD ? m->offset : GUARD;
}

static size_t after(const struct memory *m)
{
	size_t left = m->size - m->offset - m->len;

	return left < GUARD ? left : GUARD;
}

/* Bytes of the part behind its first @len. */
static size_t rest(const struct memory *m, size_t len)
{
	return m->len - len < GUARD ? m->len - len : GUARD;
}

static void clear(const struct memory *m, size_t len)
{
	lay(byte(m, 0) - before(m), before(m), GUARD_SEED, 0);
	lay(byte(m, 0), len + rest(m, len), seed + 1000000, 0);
	lay(byte(m, m->len), after(m), GUARD_SEED, 0);
}

/* The first @len bytes of the part are the pattern, all around is as it was. */
static bool holds(const struct memory *m, size_t len)
{
	return laid(byte(m, 0), len, seed, 0) &&
	       laid(byte(m, len), rest(m, len), seed + 1000000, len) &&
	       laid(byte(m, 0) - before(m), before(m), GUARD_SEED, 0) &&
	       laid(byte(m, m->len), after(m), GUARD_SEED, 0);
}

static bool result(const char *way, const struct memory *from,
		   const struct memory *to, size_t len, int status, bool good)
{
	if (status || !good)
		printf("# %s of %zu bytes, %s to %s: %s%s\n", way, len,
		       from->name, to->name, status_name(status),
		       good ? "" : ", wrong bytes");
	return !status && good;
}

/* All ways for the first bytes of one part to come to another. */
static bool moves(const struct memory *from, const struct memory *to,
		  size_t len)
{
	struct ibv_sge in = local(from, 0, len), out = local(to, 0, len);
	struct ibv_wc wc;
	bool good = true;
	int status;

	seed++;
	lay(byte(from, 0), len, seed, 0);
	clear(to, len);
	status = pair_rdma(pair, 0, IBV_WR_RDMA_WRITE, in, remote(to, 0),
			   to->mr->rkey);
	good &= result("write", from, to, len, status, holds(to, len));

	seed++;
	lay(byte(from, 0), len, seed, 0);
	clear(to, len);
	status = pair_rdma(pair, 1, IBV_WR_RDMA_READ, out, remote(from, 0),
			   from->mr->rkey);
	good &= result("read", from, to, len, status, holds(to, len));

	seed++;
	lay(byte(from, 0), len, seed, 0);
	clear(to, len);
	status = pair_send(pair, &in, 1, &out, 1, &wc);
	good &= result("send", from, to, len, status ? status : (int)wc.status,
		       holds(to, len));
	return good;
}

/* Both kinds of atomics, in the first whole word of a part. */
static bool computes(const struct memory *in, const struct memory *result_in)
{
	size_t at = -in->iova % 8, to = -result_in->iova % 8;
	struct ibv_sge old = local(result_in, to, 8);
	uint64_t word = 0x123456789abcdef0, got[2];
	bool good;
	int status;

	memcpy(byte(in, at), &word, 8);
	status = pair_atomic(pair, 0, IBV_WR_ATOMIC_FETCH_AND_ADD, old,
			     remote(in, at), in->mr->rkey, 0xfedcba9876543210,
			     0);
	memcpy(got, byte(in, at), 8);
	memcpy(got + 1, byte(result_in, to), 8);
	good = result("add", in, result_in, 8, status,
		      got[0] == word + 0xfedcba9876543210 && got[1] == word);
	word = got[0];
	status = pair_atomic(pair, 0, IBV_WR_ATOMIC_CMP_AND_SWP, old,
			     remote(in, at), in->mr->rkey, word, 42);
	memcpy(got, byte(in, at), 8);
	memcpy(got + 1, byte(result_in, to), 8);
	good &= result("swap", in, result_in, 8, status,
		       got[0] == 42 && got[1] == word);
	status = pair_atomic(pair, 0, IBV_WR_ATOMIC_CMP_AND_SWP, old,
			     remote(in, at), in->mr->rkey, word, 43);
	memcpy(got, byte(in, at), 8);
	memcpy(got + 1, byte(result_in, to), 8);
	return good & result("swap of what differs", in, result_in, 8, status,
			     got[0] == 42 && got[1] == 42);
}

/* Parts of @one, and the addresses that they are given; @two has its own. */
static void all_places(void)
{
	const size_t size = one.size;
	const struct {
		const char *what;
		size_t offset, len;
		uint64_t iova;
	} places[] = {
		{ "all of it, at 0", 0, size, 0 },
		{ "all of it, above 4 GiB", 0, size, 1UL << 33 },
		{ "all of it, at a user's address", 0, size,
		  (uintptr_t)one.p },
		{ "all of it, across 4 GiB", 0, size, (1UL << 32) - PAGE },
		{ "all of it, at half of what there is", 0, size, 1UL << 63 },
		{ "a part at 123, ditto", 123, 3 * PAGE + 7, 123 },
		{ "a part that begins in a page, above 4 GiB", PAGE + 2049,
		  2 * PAGE + 5, (7UL << 40) + 2049 },
		{ "a part with an address in another page", 3 * PAGE + 8,
		  2 * PAGE, PAGE + 8 },
		{ "the first byte", 0, 1, 1UL << 40 },
		{ "the last byte", size - 1, 1, 5 * PAGE - 1 },
		{ "two bytes across a page's end", PAGE - 1, 2,
		  (1UL << 40) - 1 },
		{ "the last page", size - PAGE, PAGE, 0 },
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		size_t len;
		bool good;

		if (!make_part(&one, places[i].offset, places[i].len,
			       places[i].iova)) {
			fails(true, 0, "%s", places[i].what);
			continue;
		}
		len = one.len < host.len ? one.len : host.len;
		good = moves(&one, &two, one.len) &&
		       moves(&two, &one, one.len) &&
		       moves(&host, &one, len) && moves(&one, &host, len);
		if (good && one.len >= 16)
			good = computes(&one, &two) && computes(&one, &host) &&
			       computes(&two, &one);
		ok(good && !door_dereg(one.mr), "%s: %s", one.name,
		   places[i].what);
	}
}

static void all_sizes(size_t max)
{
	static const size_t sizes[] = {
		1, 2, 7, 8, 1023, 4095, 4096, 4097, 65535, 65536 + 4095,
		1048577, 3 * 1048576 + 5,
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t len = sizes[i];
		bool good, with_host = len <= host.len;

		if (len > max)
			break;
		if (!make_part(&one, 21, len, PAGE + 21))
			give_up("MR of %zu bytes", len);
		good = moves(&one, &two, len) && moves(&two, &one, len);
		if (with_host)
			good &= moves(&one, &host, len) &&
				moves(&host, &one, len);
		ok(good && !door_dereg(one.mr), "%zu bytes, %s and %s%s", len,
		   one.name, two.name, with_host ? ", and host memory" : "");
	}
}

static void make_host(size_t max)
{
	struct rlimit limit;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	host.name = "host memory";
	host.fd = -1;
	host.len = limit.rlim_cur / 2 < max ? limit.rlim_cur / 2 : max;
	host.size = host.len;
	host.p = host_memory(host.size);
	host.iova = (uintptr_t)host.p;
	host.mr = ibv_reg_mr(pd, host.p, host.len, ALL_ACCESS);
	if (!host.mr)
		give_up("MR on host memory");
}

int main(int argc, char **argv)
{
	size_t max, size;

	if (argc != 5) {
		fprintf(stderr, "usage: doors_transfer DOOR FILE FILE2 MAX\n");
		return EXIT_FAILURE;
	}
	door_choose(argv[1]);
	max = parse_size(argv[4]);
	size = (max + 2 * PAGE - 1) & -PAGE;

	pd = alloc_pd_on("rxe0");
	pair = pair_create(pd, IBV_QPT_RC, false);
	one = make_memory(argv[2], 8 * PAGE);
	two = make_memory(argv[3], size);
	make_host(max);
	ok(door_is_used(pd, one.fd), "MRs come by the door");
	if (!make_part(&two, 5, max, (3UL << 34) + 5))
		give_up("MR on %s", two.name);

	all_places();
	free_memory(&one);
	one = make_memory(argv[2], size);
	all_sizes(max);

	ok(!door_dereg(two.mr) && !ibv_dereg_mr(host.mr), "all MRs go");
	ok(pair_destroy(pair), "and the queue pairs");
	return done_testing();
}
