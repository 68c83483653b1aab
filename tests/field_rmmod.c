// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * field_rmmod RDMA-DEVICE
 * field_rmmod RDMA-DEVICE hold PIN|WAIT MS: the field bug "use after free at
 * rmmod".
 *
 * A client's module may go while the core is about to call it: an MR is being
 * registered or destroyed, or an acquire is asking all clients in turn. A core
 * that takes its list of clients for granted, or that lets a client go when its
 * last MR is off the list but still in release, jumps into memory that is gone.
 *
 * The first form withdraws a client while it is being asked, while it has MRs,
 * and many times against registrations. The second has an MR and nothing else
 * of the client, says "ready", and deregisters when its input ends; the client
 * holds its module (PIN) or lets rmmod wait (WAIT), and takes MS in release.
 */
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SIZE = 4 * PAGE, OWNERS = 3, SECONDS = 10 };

static struct hca hca;
static uint32_t flags;
static int client;
static char *memory;

static struct hca_mr mr;
static atomic_int reg_error;
static atomic_bool registered, withdrawn;

static void *reg(void *arg)
{
	(void)arg;
	reg_error = hca_reg(&hca, memory, SIZE, 0, &mr) ? errno : 0;
	registered = true;
	return NULL;
}

static void *withdraw(void *arg)
{
	(void)arg;
	client_unregister(client);
	withdrawn = true;
	return NULL;
}

static void while_asked(enum peer_client_step step, const char *name)
{
	pthread_t asking, leaving;
	struct hca_mr unused;
	int i;

	client_register(client, flags);
	memory = client_memory(client, SIZE);
	registered = withdrawn = false;
	gate_close(client, step);
	pthread_create(&asking, NULL, reg, NULL);
	ok(gate_wait(client, step), "rmmod: a registration is in %s", name);
	pthread_create(&leaving, NULL, withdraw, NULL);
	ok(!soon(&withdrawn, 0.3), "rmmod, in %s: the client cannot leave",
	   name);
	gate_open(client, step);
	ok(soon(&registered, SECONDS) && !reg_error,
	   "rmmod, in %s: the registration succeeds", name);
	pthread_join(asking, NULL);
	ok(!soon(&withdrawn, 0.3), "rmmod, in %s: nor with an MR", name);
	/* It need not have begun to leave yet. */
	for (i = 0; i < 100 && !hca_reg(&hca, memory, SIZE, 0, &unused); i++) {
		hca_dereg(&hca, &unused);
		usleep(100000);
	}
	fails(i < 100, EFAULT, "rmmod, in %s: there are no new MRs", name);
	hca_dereg(&hca, &mr);
	ok(soon(&withdrawn, SECONDS), "rmmod, in %s: it leaves when that is gone",
	   name);
	if (!withdrawn)
		exit(done_testing());
	pthread_join(leaving, NULL);
	munmap(memory, SIZE);
	client_is_idle(client, name);
}

static void *dereg(void *arg)
{
	(void)arg;
	hca_dereg(&hca, &mr);
	return NULL;
}

static void while_released(void)
{
	pthread_t ending, leaving;

	client_register(client, flags);
	memory = client_memory(client, SIZE);
	withdrawn = false;
	mr = hca_reg_or_give_up(&hca, memory, SIZE);
	gate_close(client, PEER_CLIENT_RELEASE);
	pthread_create(&ending, NULL, dereg, NULL);
	ok(gate_wait(client, PEER_CLIENT_RELEASE),
	   "rmmod: a deregistration is in release");
	pthread_create(&leaving, NULL, withdraw, NULL);
	ok(!soon(&withdrawn, 0.3), "rmmod, in release: the client cannot leave");
	gate_open(client, PEER_CLIENT_RELEASE);
	ok(soon(&withdrawn, SECONDS),
	   "rmmod, in release: it leaves when that has returned");
	if (!withdrawn)
		exit(done_testing());
	pthread_join(ending, NULL);
	pthread_join(leaving, NULL);
	munmap(memory, SIZE);
	client_is_idle(client, "release");
}

/* ---- storm */

static atomic_uint with, without, wrong;
static atomic_bool stop;

static void *own(void *arg)
{
	size_t offset = (uintptr_t)arg * PAGE;
	struct hca_mr mine;

	while (!stop) {
		if (!hca_reg(&hca, memory + offset, PAGE, 0, &mine)) {
			with++;
			wrong += !!hca_dereg(&hca, &mine);
		} else if (errno == EFAULT) {
			without++;
		} else {
			wrong++;
		}
	}
	return NULL;
}

static void storm(void)
{
	unsigned int n = rounds(1000, 300, 20000), i;
	double limit = now() + (long_run() ? 1800 : 200);
	pthread_t threads[OWNERS];

	client_register(client, flags);
	memory = client_memory(client, SIZE);
	stop = false;
	for (uintptr_t t = 0; t < OWNERS; t++)
		pthread_create(&threads[t], NULL, own, (void *)t);
	for (i = 0; i < n && now() < limit; i++) {
		client_unregister(client);
		/* client_register() would clear what is counted. */
		if (ioctl(client, PEER_CLIENT_REGISTER, &flags))
			wrong++;
		if (i % 4 == 0)
			usleep(500);
	}
	stop = true;
	for (int t = 0; t < OWNERS; t++)
		pthread_join(threads[t], NULL);
	ok(i == n && !wrong, "rmmod: the client comes and goes %u times", n);
	ok(with && without, "rmmod: MRs while it is there, EFAULT while it is not");
	printf("# %u MRs, %u EFAULT\n", with, without);
	munmap(memory, SIZE);
	client_is_idle(client, "storm");
	client_unregister(client);
}

static int hold(const char *how, unsigned int ms)
{
	uint32_t mine = flags & ~PEER_CLIENT_HOLDS_MODULE;
	struct hca_mr held;
	char c;

	if (!strcmp(how, "PIN"))
		mine |= PEER_CLIENT_HOLDS_MODULE;
	client_register(client, mine);
	client_delays(client, PEER_CLIENT_RELEASE, ms);
	memory = client_memory(client, SIZE);
	held = hca_reg_or_give_up(&hca, memory, SIZE);
	munmap(memory, SIZE);
	close(client);
	printf("ready\n");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return hca_dereg(&hca, &held) ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	if (argc != 2 && argc != 5) {
		fprintf(stderr, "usage: field_rmmod RDMA-DEVICE [hold PIN|WAIT MS]\n");
		return EXIT_FAILURE;
	}
	hca = hca_open(argv[1]);
	flags = CLIENT_USUAL | flags_for(argv[1]);
	client = client_open(0);
	if (argc == 5)
		return hold(argv[3], atoi(argv[4]));

	while_asked(PEER_CLIENT_ACQUIRE, "acquire");
	while_asked(PEER_CLIENT_GET_PAGES, "get_pages");
	while_released();
	storm();
	return done_testing();
}
