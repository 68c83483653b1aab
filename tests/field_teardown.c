// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * field_teardown RDMA-DEVICE: the field bug "invalidate racing teardown".
 *
 * An MR may be taken back while its owner destroys it, or while its owner is
 * destroyed. A core that finds the one in the other's hands and goes on unmaps
 * twice, puts pages twice, or calls into a structure that has been freed; one
 * that leaves it to the other may return from an invalidation while the pages
 * are still held.
 *
 * First in each order, with the one held in the middle by a gate of the client;
 * then thousands of times as it comes. The client checks each call: what it
 * sees twice, or too early, or still held after an invalidation, is a violation
 * (see client_is_idle()), and KASAN sees the rest.
 */
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clients.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SIZE = 16 * PAGE, OWNERS = 2, TAKERS = 2, SECONDS = 10 };

static const char *device;
static struct hca hca;
static bool has_dma;
static int client;
static char *memory;

/* ---- two threads, one of them held up */

static struct hca_mr mr;
static atomic_bool deregistered, taken;

static void *dereg(void *arg)
{
	(void)arg;
	hca_dereg(&hca, &mr);
	deregistered = true;
	return NULL;
}

static void *take(void *arg)
{
	(void)arg;
	client_invalidate(client);
	taken = true;
	return NULL;
}

/*
 * @first is held up at the gate of @step; then @second begins, which waits for
 * it or not. Both end when the gate opens.
 */
static void one_order(void *(*first)(void *), void *(*second)(void *),
		      enum peer_client_step step, bool waits, const char *name)
{
	atomic_bool *second_done = second == take ? &taken : &deregistered;
	pthread_t threads[2];
	bool good;

	mr = hca_reg_or_give_up(&hca, memory, SIZE);
	deregistered = taken = false;
	gate_close(client, step);
	pthread_create(&threads[0], NULL, first, NULL);
	good = gate_wait(client, step);
	pthread_create(&threads[1], NULL, second, NULL);
	if (waits)
		good &= !soon(second_done, 0.3);
	else
		good &= soon(second_done, SECONDS);
	ok(good, "teardown, %s: the other %s", name,
	   waits ? "waits" : "does not wait");
	gate_open(client, step);
	good = soon(&deregistered, SECONDS) && soon(&taken, SECONDS);
	ok(good, "teardown, %s: both end", name);
	if (!good)
		exit(done_testing());
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
}

static void each_order(uint32_t flags)
{
	/*
	 * Without a lock of the client's own: with one, the second thread would
	 * wait for it instead of for the core.
	 */
	client_register(client, flags | PEER_CLIENT_UNLOCKED);
	memory = client_memory(client, SIZE);
	if (has_dma) {
		one_order(dereg, take, PEER_CLIENT_DMA_UNMAP, true,
			  "invalidation meets dma_unmap of a deregistration");
		one_order(take, dereg, PEER_CLIENT_DMA_UNMAP, true,
			  "deregistration meets dma_unmap of an invalidation");
	}
	one_order(dereg, take, PEER_CLIENT_PUT_PAGES, true,
		  "invalidation meets put_pages of a deregistration");
	one_order(take, dereg, PEER_CLIENT_PUT_PAGES, true,
		  "deregistration meets put_pages of an invalidation");
	/* The range is the client's to keep; the core is done with it. */
	one_order(dereg, take, PEER_CLIENT_RELEASE, false,
		  "invalidation meets release of a deregistration");
	munmap(memory, SIZE);
	client_is_idle(client, "one after the other");
	client_unregister(client);
}

/* ---- as it comes */

static unsigned int wanted;
static uint32_t first_seed;
static atomic_uint registered, invalidated, wrong;
static atomic_bool stop;

/* Deregisters at once, or after an invalidation may have come. */
static void *own(void *arg)
{
	uint32_t seed = first_seed + (uintptr_t)arg;
	size_t offset = (uintptr_t)arg * SIZE / OWNERS;
	struct hca_mr mine;

	while (!stop) {
		if (hca_reg(&hca, memory + offset, SIZE / OWNERS,
			    IBV_ACCESS_LOCAL_WRITE, &mine)) {
			wrong++;
			break;
		}
		for (unsigned int n = random_next(&seed) % 4; n; n--)
			sched_yield();
		if (hca_dereg(&hca, &mine))
			wrong++;
		registered++;
	}
	return NULL;
}

static void *keep_taking(void *arg)
{
	(void)arg;
	while (!stop) {
		if (client_invalidate(client))
			wrong++;
		invalidated++;
		sched_yield();
	}
	return NULL;
}

static bool enough(void)
{
	return registered >= wanted && invalidated >= wanted;
}

static void as_it_comes(uint32_t flags, const char *name)
{
	pthread_t threads[OWNERS + TAKERS];
	struct peer_client_state state;
	double limit = now() + (long_run() ? 1800 : 240);

	client_register(client, flags);
	memory = client_memory(client, SIZE);
	registered = invalidated = wrong = 0;
	stop = false;
	for (uintptr_t i = 0; i < OWNERS + TAKERS; i++)
		pthread_create(&threads[i], NULL, i < OWNERS ? own : keep_taking,
			       (void *)i);
	while (!enough() && now() < limit)
		usleep(10000);
	ok(enough() && !wrong, "teardown, %s: deregistration and invalidation, %u times",
	   name, wanted);
	stop = true;
	for (int i = 0; i < OWNERS + TAKERS; i++)
		pthread_join(threads[i], NULL);
	munmap(memory, SIZE);
	state = client_state(client);
	ok(state.by_invalidation &&
	   state.by_invalidation < state.succeeded[PEER_CLIENT_GET_PAGES],
	   "teardown, %s: each of them came first", name);
	printf("# of %u MRs %u were taken back first\n", registered,
	       state.by_invalidation);
	client_is_idle(client, name);
	client_unregister(client);
}

/* ---- the end of a process */

enum { MRS = 4 };

/* A file that is released before those with lower numbers. */
static int to_high_number(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 100);

	close(fd);
	return high;
}

/*
 * A process with MRs. When it ends the kernel closes its files in the order of
 * their numbers, but puts off their release, and does that in reverse order:
 * first the client's file, whose end invalidates, or the RDMA device's.
 */
static int child(bool client_first, bool crash)
{
	struct hca own_hca = hca_open(device);
	int fd = client_open(0);
	struct hca_mr unused;
	char *p;

	if (client_first)
		fd = to_high_number(fd);
	else
		own_hca.fd = to_high_number(own_hca.fd);
	p = client_memory(fd, SIZE);
	for (int i = 0; i < MRS; i++)
		if (hca_reg(&own_hca, p + i * SIZE / MRS, SIZE / MRS, 0,
			    &unused))
			return 1;
	if (crash)
		raise(SIGKILL);
	return 0;
}

static int child_client_first(void *arg)
{
	(void)arg;
	return child(true, false);
}

static int child_device_first(void *arg)
{
	(void)arg;
	return child(false, false);
}

static void at_exit(uint32_t flags)
{
	struct peer_client_state state;

	client_register(client, flags | PEER_CLIENT_CLOSE_INVALIDATES);
	ok(!in_child(child_client_first, NULL),
	   "teardown: a process ends, its memory goes before its MRs");
	state = client_state(client);
	ok(state.by_invalidation == MRS &&
	   state.calls[PEER_CLIENT_INVALIDATE] == MRS,
	   "teardown: its MRs are taken back");
	client_is_idle(client, "memory before MRs");

	client_clear(client);
	ok(!in_child(child_device_first, NULL),
	   "teardown: a process ends, its MRs go before its memory");
	state = client_state(client);
	ok(!state.by_invalidation && !state.calls[PEER_CLIENT_INVALIDATE],
	   "teardown: nothing is left to take back");
	client_is_idle(client, "MRs before memory");
	client_unregister(client);
}

static void killed(uint32_t flags)
{
	unsigned int n = rounds(60, 20, 1000);
	struct peer_client_state state;
	pthread_t taker;
	bool good = true;

	client_register(client, flags | PEER_CLIENT_CLOSE_INVALIDATES);
	stop = false;
	pthread_create(&taker, NULL, keep_taking, NULL);
	for (unsigned int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(child(i & 1, i & 2));
		good &= wait_for(pid) == (i & 2 ? -1 : 0);
	}
	stop = true;
	pthread_join(taker, NULL);
	ok(good, "teardown: %u processes end, or are killed, while all is taken back",
	   n);
	state = client_state(client);
	printf("# of %lu MRs %u were taken back first\n",
	       (long)state.succeeded[PEER_CLIENT_GET_PAGES],
	       state.by_invalidation);
	ok(state.succeeded[PEER_CLIENT_GET_PAGES] == n * MRS,
	   "teardown: each had its MRs");
	client_is_idle(client, "ended processes");
	client_unregister(client);
}

int main(int argc, char **argv)
{
	uint32_t flags;

	if (argc != 2) {
		fprintf(stderr, "usage: field_teardown RDMA-DEVICE\n");
		return EXIT_FAILURE;
	}
	device = argv[1];
	hca = hca_open(device);
	flags = CLIENT_USUAL | flags_for(device);
	has_dma = !flags_for(device);
	client = client_open(0);
	first_seed = seed_of_run();
	wanted = rounds(2000, 500, 100000);

	each_order(flags);
	as_it_comes(flags, "invalidating with a lock");
	as_it_comes(flags | PEER_CLIENT_UNLOCKED, "without a lock");
	as_it_comes(flags | PEER_CLIENT_UNLOCKED | PEER_CLIENT_UNMAPS,
		    "a client that unmaps");
	at_exit(flags);
	killed(flags);
	return done_testing();
}
