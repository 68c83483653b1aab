// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * field_outlives RDMA-DEVICE: the field bug "mapping outliving revocation".
 *
 * When an invalidation has returned, the provider gives the memory to somebody
 * else. A driver that only marks the MR and lets work that has begun go on, or
 * a core that returns before the driver has stopped, leaves the device with an
 * address that it goes on writing to, now in another's memory.
 *
 * Traffic changes the memory all the time and does not stop by itself. What the
 * memory holds when the invalidation has returned is what it holds later, and
 * nothing of it is read any more.
 */
#include <infiniband/verbs.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum { PAGE = 4096, SIZE = 4 * PAGE, COPY = 4080 };

static int client;
static char *memory;
static atomic_uint done, refused, wrong;
static atomic_bool stop;

static bool reaches(atomic_uint *counter, unsigned int want)
{
	double limit = now() + 60;

	while (*counter < want && now() < limit)
		usleep(1000);
	return *counter >= want;
}

static void round_begins(void)
{
	memory = client_memory(client, SIZE);
	done = refused = wrong = 0;
	stop = false;
}

/*
 * The traffic goes on in a thread. True if the memory does not change between
 * the end of the invalidation and the end of several attempts to change it.
 */
static bool stays(uint32_t *seed)
{
	static char before[SIZE];
	bool good;

	good = reaches(&done, 2);
	usleep(random_next(seed) % 100000);
	good &= !client_invalidate(client);
	memcpy(before, memory, SIZE);
	good &= reaches(&refused, 3);
	usleep(20000);
	good &= !memcmp(before, memory, SIZE);
	stop = true;
	return good;
}

/* ---- edu: DMA */

static struct hca hca;
static struct hca_mr mr, host_mr;
static char *host;

/* In turn with bytes that differ; it reads back into the other half. */
static void *copy(void *arg)
{
	(void)arg;
	for (int i = 1; !stop; i++) {
		memset(host, i, COPY);
		if (!hca_copy(&hca, &host_mr, host, &mr, memory, COPY)) {
			done++;
			wrong += refused;
		} else if (errno == EIO) {
			refused++;
		} else {
			wrong++;
		}
	}
	return NULL;
}

static void dma_ends(uint32_t flags, const char *name)
{
	unsigned int n = rounds(5, 3, 200);
	uint32_t seed = seed_of_run();
	unsigned int bad = 0;
	pthread_t thread;

	client_register(client, flags);
	host = aligned_alloc(PAGE, 2 * PAGE);
	host_mr = hca_reg_or_give_up(&hca, host, 2 * PAGE);
	for (unsigned int i = 0; i < n; i++) {
		round_begins();
		mr = hca_reg_or_give_up(&hca, memory, SIZE);
		pthread_create(&thread, NULL, copy, NULL);
		bad += !stays(&seed);
		pthread_join(thread, NULL);
		bad += wrong;

		/* Nor is it read. */
		memset(host + PAGE, 0x5a, COPY);
		bad += !hca_copy(&hca, &mr, memory, &host_mr, host + PAGE,
				 COPY) || errno != EIO ||
		       host[PAGE] != 0x5a || host[PAGE + COPY - 1] != 0x5a;
		hca_dereg(&hca, &mr);
		munmap(memory, SIZE);
	}
	ok(!bad, "outlives, %s: DMA ends with the invalidation, %u times",
	   name, n);
	hca_dereg(&hca, &host_mr);
	free(host);
	client_is_idle(client, name);
	client_unregister(client);
}

/* ---- rxe: packets */

enum { DEPTH = 8, WRITE = 3000 };

static struct ibv_pd *pd;
static struct ibv_mr *target, *source;
static char *bytes;

/* Some writes always on their way; after a failure, by new queue pairs. */
static void *send_writes(void *arg)
{
	struct ibv_wc wc;

	(void)arg;
	for (unsigned int i = 0; !stop;) {
		struct pair *pair = pair_create(pd, IBV_QPT_RC, false);
		int in_flight = 0;
		bool good = true;

		while (good && !stop) {
			struct ibv_sge part = part_of(source, bytes, WRITE);
			struct ibv_send_wr wr = {
				.sg_list = &part,
				.num_sge = 1,
				.opcode = IBV_WR_RDMA_WRITE,
				.wr.rdma = {
					.remote_addr = (uintptr_t)memory +
						       i % 4 * PAGE,
					.rkey = target->rkey,
				},
			}, *bad;

			memset(bytes, ++i, WRITE);
			while (in_flight == DEPTH && good) {
				good = !pair_wait(pair, 0, &wc) && !wc.status;
				in_flight--;
				done += good;
				wrong += good && refused;
			}
			if (good && ibv_post_send(pair->qp[0], &wr, &bad)) {
				wrong++;
				break;
			}
			in_flight += good;
		}
		if (!good && wc.status == IBV_WC_REM_ACCESS_ERR)
			refused++;
		else if (!good)
			wrong++;
		pair_destroy(pair);
	}
	return NULL;
}

static void packets_end(uint32_t flags, const char *name)
{
	unsigned int n = rounds(10, 5, 500);
	uint32_t seed = seed_of_run();
	unsigned int bad = 0;
	struct peer peer;
	pthread_t thread;

	client_register(client, flags);
	bytes = aligned_alloc(PAGE, PAGE);
	source = ibv_reg_mr(pd, bytes, PAGE, IBV_ACCESS_LOCAL_WRITE);
	peer_init(&peer, pd);
	if (!source)
		give_up("MR on host memory");
	for (unsigned int i = 0; i < n; i++) {
		round_begins();
		target = ibv_reg_mr(pd, memory, SIZE, IBV_ACCESS_LOCAL_WRITE |
				    IBV_ACCESS_REMOTE_WRITE |
				    IBV_ACCESS_REMOTE_READ);
		if (!target)
			give_up("MR on a client's memory");
		pthread_create(&thread, NULL, send_writes, NULL);
		bad += !stays(&seed);
		pthread_join(thread, NULL);
		bad += wrong;

		memset(peer.buffer, 0x5a, 64);
		bad += pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_READ,
				 part_of(peer.buffer_mr, peer.buffer, 64),
				 memory, target->rkey) != IBV_WC_REM_ACCESS_ERR ||
		       peer.buffer[0] != 0x5a || peer.buffer[63] != 0x5a;
		ibv_dereg_mr(target);
		munmap(memory, SIZE);
	}
	ok(!bad, "outlives, %s: packets end with the invalidation, %u times",
	   name, n);
	ibv_dereg_mr(source);
	client_is_idle(client, name);
	client_unregister(client);
}

int main(int argc, char **argv)
{
	void (*ends)(uint32_t flags, const char *name);
	uint32_t flags;

	if (argc != 2) {
		fprintf(stderr, "usage: field_outlives RDMA-DEVICE\n");
		return EXIT_FAILURE;
	}
	client = client_open(0);
	flags = CLIENT_USUAL | flags_for(argv[1]);
	if (flags_for(argv[1])) {
		pd = alloc_pd_on(argv[1]);
		ends = packets_end;
	} else {
		hca = hca_open(argv[1]);
		ends = dma_ends;
	}
	ends(flags, "pages");
	ends(flags | PEER_CLIENT_UNMAPS, "the client unmaps");
	return done_testing();
}
