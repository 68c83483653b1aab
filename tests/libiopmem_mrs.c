// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libiopmem_mrs DEV RDMADEV COUNT ROUNDS: MRs of iopmem_reg_mr() that outlive
 * what they were made of, two on one region, COUNT at once, and eight threads
 * that make and undo them ROUNDS times each. Needs no privilege.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/iopmem.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 16 * PAGE,
	ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		 IBV_ACCESS_REMOTE_READ,
	THREADS = 8,
	/* what all threads try to deregister */
	CONTESTED = 64,
};

/* Nothing is mapped there: only the RDMA device knows it. */
static const uint64_t iova = 0x700000000000;

static int fd;
static struct ibv_pd *pd;
static struct peer peer;

static int alloc_or_give_up(size_t size)
{
	int buf_fd = iopmem_alloc(fd, size, 0);

	if (buf_fd < 0)
		give_up("iopmem_alloc of %zu bytes", size);
	return buf_fd;
}

static struct ibv_mr *reg_or_give_up(int buf_fd, uint64_t offset, size_t len)
{
	struct ibv_mr *mr = iopmem_reg_mr(pd, offset, len, iova + offset,
					  buf_fd, ACCESS);

	if (!mr)
		give_up("iopmem_reg_mr of %zu bytes", len);
	return mr;
}

static void *at(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

static void outlives(void)
{
	uint64_t before = device_free(fd);
	int buf_fd = alloc_or_give_up(SIZE);
	void *p = map_or_give_up(buf_fd, SIZE);
	struct ibv_mr *mr = reg_or_give_up(buf_fd, 0, SIZE);

	lay(p, SIZE, 1, 0);
	ok(peer_sees(&peer, at(iova), mr->rkey, SIZE, 1),
	   "a peer reads what the CPU wrote");
	ok(!peer_write(&peer, at(iova), mr->rkey, SIZE, 2) &&
	   laid(p, SIZE, 2, 0), "and the CPU what the peer wrote");
	munmap(p, SIZE);
	close(buf_fd);
	ok(device_free(fd) == before - SIZE,
	   "without descriptor and mapping, the MR keeps the memory");
	ok(peer_sees(&peer, at(iova), mr->rkey, SIZE, 2) &&
	   !peer_write(&peer, at(iova), mr->rkey, SIZE, 3) &&
	   peer_sees(&peer, at(iova), mr->rkey, SIZE, 3),
	   "which goes on to work");
	ok(!iopmem_dereg_mr(mr), "it is deregistered");
	ok(device_free(fd) == before, "and the memory is free");
}

static void two_of_one_region(void)
{
	int buf_fd = alloc_or_give_up(SIZE);
	struct ibv_mr *all = reg_or_give_up(buf_fd, 0, SIZE);
	struct ibv_mr *part = reg_or_give_up(buf_fd, PAGE + 7, PAGE);

	ok(!peer_write(&peer, at(iova + PAGE + 7), part->rkey, PAGE, 4) &&
	   peer_sees(&peer, at(iova + PAGE + 7), all->rkey, PAGE, 4),
	   "two MRs of one region: what one gets, the other sees");
	ok(!iopmem_dereg_mr(all) &&
	   peer_sees(&peer, at(iova + PAGE + 7), part->rkey, PAGE, 4),
	   "and it goes on without it");
	ok(peer_write(&peer, at(iova + PAGE + 6), part->rkey, 1, 0),
	   "it does not reach the byte before its own");
	ok(peer_write(&peer, at(iova + 2 * PAGE + 7), part->rkey, 1, 0),
	   "nor the byte after");
	ok(!iopmem_dereg_mr(part), "it is deregistered");
	close(buf_fd);
}

static int by_rkey(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void many(int count)
{
	uint64_t before = device_free(fd);
	int buf_fd = alloc_or_give_up(SIZE);
	struct ibv_mr **mr = calloc(count, sizeof(*mr));
	uint32_t *rkey = calloc(count, sizeof(*rkey));
	int bad = 0, same = 0;

	if (!mr || !rkey)
		give_up("memory");
	for (int i = 0; i < count; i++) {
		mr[i] = reg_or_give_up(buf_fd, i % SIZE, 1);
		rkey[i] = mr[i]->rkey;
	}
	close(buf_fd);
	for (int i = 0; i < count; i += count / 16 + 1)
		bad += !!peer_write(&peer, at(iova + i % SIZE), rkey[i], 1, i);
	ok(!bad, "%d MRs, some of which a peer tries", count);
	qsort(rkey, count, sizeof(*rkey), by_rkey);
	for (int i = 1; i < count; i++)
		same += rkey[i] == rkey[i - 1];
	ok(!same, "each has a key of its own");
	/* not in order: 7919 is a prime, and no divisor of count */
	for (int i = 0; i < count; i++)
		bad += !!iopmem_dereg_mr(mr[i * 7919LL % count]);
	ok(!bad, "all are deregistered");
	ok(device_free(fd) == before, "and the memory is free");
	free(rkey);
	free(mr);
}

static int shared_fd, rounds;
static struct ibv_mr *contested[CONTESTED];
static pthread_barrier_t barrier;

/* How many of the contested this thread could deregister, or -1 */
static void *compete(void *arg)
{
	size_t number = (uintptr_t)arg;
	intptr_t won = 0;

	for (int i = 0; i < rounds; i++) {
		struct ibv_mr *mr;

		mr = iopmem_reg_mr(pd, number, PAGE + i, number, shared_fd,
				   ACCESS);
		if (!mr || iopmem_dereg_mr(mr))
			return (void *)-1L;
	}
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < CONTESTED; i++)
		won += !iopmem_dereg_mr(contested[i]);
	return (void *)won;
}

static void threads(void)
{
	uint64_t before = device_free(fd);
	pthread_t thread[THREADS];
	intptr_t won, sum = 0;
	int failed = 0;

	shared_fd = alloc_or_give_up(SIZE);
	for (int i = 0; i < CONTESTED; i++)
		contested[i] = reg_or_give_up(shared_fd, 0, PAGE);
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, compete, at(i)))
			give_up("thread");
	for (int i = 0; i < THREADS; i++) {
		pthread_join(thread[i], (void **)&won);
		failed += won < 0;
		sum += won;
	}
	pthread_barrier_destroy(&barrier);
	ok(!failed, "%d threads make and undo %d MRs each", THREADS, rounds);
	ok(sum == CONTESTED,
	   "MRs that all of them deregister are deregistered once");
	close(shared_fd);
	ok(device_free(fd) == before, "and the memory is free");
}

int main(int argc, char **argv)
{
	int count;

	if (argc != 5) {
		fprintf(stderr,
			"usage: libiopmem_mrs DEV RDMADEV COUNT ROUNDS\n");
		return EXIT_FAILURE;
	}
	count = atoi(argv[3]);
	rounds = atoi(argv[4]);
	fd = open_device(argv[1], O_RDWR);
	pd = alloc_pd_on(argv[2]);
	peer_init(&peer, pd);
	outlives();
	two_of_one_region();
	many(count);
	threads();
	close(fd);
	return done_testing();
}
