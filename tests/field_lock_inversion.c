// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * field_lock_inversion RDMA-DEVICE: the field bug "lock inversion in
 * invalidation".
 *
 * A provider of memory holds a lock of its own when it takes memory back, the
 * same lock that it needs when somebody asks for memory. A core that holds
 * another lock around both of its calls, or that takes mmap_lock around a call
 * to the provider in one place and is called with it in another, deadlocks as
 * soon as both happen at once: registration waits for invalidation and
 * invalidation for registration.
 *
 * The client here holds one lock while it invalidates, which its acquire and
 * release take, and takes another one and mmap_lock in get_pages and put_pages.
 * Registration, deregistration, invalidation and changes of the address space
 * run against each other. A deadlock stops this program; lockdep, on the debug
 * kernel, reports an inversion even if it has not come to one.
 */
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clients.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SIZE = 16 * PAGE, OWNERS = 2 };

static struct hca hca;
static int client;
static char *memory;
static unsigned int wanted;
static atomic_uint registered, invalidated, changed, wrong;
static atomic_bool stop;

static void *own(void *arg)
{
	size_t offset = (uintptr_t)arg * SIZE / OWNERS;
	struct hca_mr mr;

	while (!stop) {
		if (hca_reg(&hca, memory + offset, SIZE / OWNERS,
			    IBV_ACCESS_LOCAL_WRITE, &mr) ||
		    hca_dereg(&hca, &mr))
			wrong++;
		registered++;
	}
	return NULL;
}

static void *invalidate(void *arg)
{
	(void)arg;
	while (!stop) {
		if (client_invalidate(client))
			wrong++;
		invalidated++;
	}
	return NULL;
}

/* mmap_lock, for reading and for writing, and through fork() and exit() */
static void *change_address_space(void *arg)
{
	(void)arg;
	while (!stop) {
		char *p = client_memory(client, SIZE);
		pid_t pid;

		mprotect(p, PAGE, PROT_READ);
		*(volatile char *)(p + PAGE) = 1;
		if (changed % 16 == 0) {
			pid = fork();
			if (!pid)
				_exit(0);
			if (pid < 0 || waitpid(pid, NULL, 0) != pid)
				wrong++;
		}
		munmap(p, SIZE);
		changed++;
	}
	return NULL;
}

static bool enough(void)
{
	return registered >= wanted && invalidated >= wanted &&
	       changed >= wanted / 4;
}

static void run(uint32_t flags, const char *name)
{
	pthread_t threads[OWNERS + 2];
	double limit = now() + (long_run() ? 1800 : 120);

	client_register(client, flags);
	memory = client_memory(client, SIZE);
	registered = invalidated = changed = wrong = 0;
	stop = false;
	for (uintptr_t i = 0; i < OWNERS; i++)
		pthread_create(&threads[i], NULL, own, (void *)i);
	pthread_create(&threads[OWNERS], NULL, invalidate, NULL);
	pthread_create(&threads[OWNERS + 1], NULL, change_address_space, NULL);
	while (!enough() && now() < limit)
		usleep(10000);
	ok(enough() && !wrong, "lock inversion, %s: everybody comes on", name);
	printf("# %u registrations, %u invalidations, %u changes of the address space, %u wrong\n",
	       registered, invalidated, changed, wrong);
	stop = true;
	for (int i = 0; i < OWNERS + 2; i++)
		pthread_join(threads[i], NULL);
	munmap(memory, SIZE);
	client_is_idle(client, name);
	client_unregister(client);
}

int main(int argc, char **argv)
{
	uint32_t flags;

	if (argc != 2) {
		fprintf(stderr, "usage: field_lock_inversion RDMA-DEVICE\n");
		return EXIT_FAILURE;
	}
	hca = hca_open(argv[1]);
	flags = CLIENT_USUAL | flags_for(argv[1]);
	client = client_open(0);
	wanted = rounds(1000, 200, 20000);

	run(flags, "invalidating with a lock");
	run(flags | PEER_CLIENT_UNMAPS, "a client that unmaps");
	run(flags | PEER_CLIENT_UNLOCKED, "invalidating without a lock");
	return done_testing();
}
