// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * field_d_state RDMA-DEVICE: the field bug "a process stuck in D state in
 * invalidate".
 *
 * Who takes memory back is a driver, often in the middle of its removal: it can
 * neither be killed nor give up. A core that lets it wait for something that
 * the owner of the MR has to do, destroy it for one, leaves it waiting for as
 * long as that process likes: one that is stopped, that is stuck itself, or
 * that waits in its turn for the device that is going.
 *
 * Here the owner is stopped, or killed, at each moment at which an invalidation
 * may meet it, and the invalidation has to end in bounded time. What it does
 * wait for is a get_pages() that is under way, and a client can end that.
 */
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

enum { PAGE = 4096, SIZE = 4 * PAGE, SECONDS = 10 };

static const char *device;
static int client;

/* ---- the process that owns the MR */

static pid_t owner;
static int says, told;	/* pipes: it has the MR, it may go on */

static void own(int out, int in)
{
	struct hca hca = hca_open(device);
	char *p = client_memory(client, SIZE);
	struct hca_mr mr;
	char c = 'y';

	if (hca_reg(&hca, p, SIZE, IBV_ACCESS_LOCAL_WRITE, &mr))
		c = 'n';
	if (write(out, &c, 1) != 1 || read(in, &c, 1) != 1)
		_exit(2);
	_exit(hca_dereg(&hca, &mr) ? 1 : 0);
}

static void start_owner(void)
{
	int out[2], in[2];

	if (pipe(out) || pipe(in))
		give_up("pipe");
	owner = fork();
	if (!owner) {
		close(out[0]);
		close(in[1]);
		own(out[1], in[0]);
	}
	close(out[1]);
	close(in[0]);
	says = out[0];
	told = in[1];
}

/* 'y' or 'n': it has an MR or not; 0: it is gone */
static char owner_says(void)
{
	char c = 0;

	return read(says, &c, 1) == 1 ? c : 0;
}

static int owner_ends(void)
{
	int status;

	if (write(told, "", 1) < 0)
		status = 0;	/* it is gone already */
	close(says);
	close(told);
	waitpid(owner, &status, 0);
	return status;
}

static void stop_owner(void)
{
	int status;

	kill(owner, SIGSTOP);
	/* it does not get there while it is in the kernel */
	waitpid(owner, &status, WUNTRACED | WNOHANG);
}

/* ---- the process that takes back */

static pthread_t taker;
static atomic_bool taken;

static void *take(void *arg)
{
	(void)arg;
	client_invalidate(client);
	taken = true;
	return NULL;
}

static void start_taking(void)
{
	taken = false;
	if (pthread_create(&taker, NULL, take, NULL))
		give_up("thread");
}

static bool taken_after(double seconds)
{
	double limit = now() + seconds;

	while (!taken && now() < limit)
		usleep(1000);
	return taken;
}

static void is_taken(const char *name)
{
	double begin = now();
	bool good = taken_after(SECONDS);

	ok(good, "D state, %s: the invalidation ends", name);
	printf("# after %.3f s\n", now() - begin);
	fflush(stdout);
	if (!good)
		exit(done_testing());
	pthread_join(taker, NULL);
}

/* ---- */

static void stopped_owner(void)
{
	const char *name = "the owner of an MR is stopped";

	start_owner();
	if (!ok(owner_says() == 'y', "%s", name))
		return;
	stop_owner();
	start_taking();
	is_taken(name);
	ok(!client_state(client).held, "%s: nothing is held then", name);
	kill(owner, SIGCONT);
	ok(!owner_ends(), "%s: it can deregister when it goes on", name);
	client_is_idle(client, name);
}

static void killed_in(enum peer_client_step step, const char *name)
{
	client_clear(client);
	gate_close(client, step);
	start_owner();
	if (!ok(gate_wait(client, step), "%s", name))
		return;
	start_taking();
	/* There is nothing to wait for before get_pages(). */
	if (step == PEER_CLIENT_ACQUIRE)
		is_taken(name);
	else
		ok(!taken_after(0.3), "%s: meanwhile invalidation waits", name);
	kill(owner, SIGKILL);
	if (step != PEER_CLIENT_ACQUIRE)
		is_taken(name);
	owner_ends();
	gate_open(client, step);
	client_is_idle(client, name);
}

static void stopped_in_get_pages(void)
{
	const char *name = "the owner is stopped in get_pages";

	client_clear(client);
	gate_close(client, PEER_CLIENT_GET_PAGES);
	start_owner();
	if (!ok(gate_wait(client, PEER_CLIENT_GET_PAGES), "%s", name))
		return;
	start_taking();
	stop_owner();
	ok(!taken_after(0.3), "%s: meanwhile invalidation waits", name);
	/* It does not come back to user space, but out of get_pages. */
	gate_open(client, PEER_CLIENT_GET_PAGES);
	is_taken(name);
	kill(owner, SIGCONT);
	ok(owner_says() == 'y' && !owner_ends(),
	   "%s: it has got its MR, and it was taken back", name);
	client_is_idle(client, name);
}

static void failing_get_pages(void)
{
	const char *name = "get_pages fails";

	client_clear(client);
	client_fails(client, PEER_CLIENT_GET_PAGES, EL2HLT);
	gate_close(client, PEER_CLIENT_GET_PAGES);
	start_owner();
	if (!ok(gate_wait(client, PEER_CLIENT_GET_PAGES), "%s", name))
		return;
	start_taking();
	ok(!taken_after(0.3), "%s: meanwhile invalidation waits", name);
	gate_open(client, PEER_CLIENT_GET_PAGES);
	is_taken(name);
	ok(owner_says() == 'n', "%s: there is no MR", name);
	owner_ends();
	client_is_idle(client, name);
}

/* The owner is killed, and its end is slow: it has our pages still. */
static void slow_end(void)
{
	const char *name = "the owner was killed, put_pages takes time";

	client_clear(client);
	gate_close(client, PEER_CLIENT_PUT_PAGES);
	start_owner();
	if (!ok(owner_says() == 'y', "%s", name))
		return;
	kill(owner, SIGKILL);
	ok(gate_wait(client, PEER_CLIENT_PUT_PAGES), "%s: it is there", name);
	start_taking();
	ok(!taken_after(0.3), "%s: meanwhile invalidation waits", name);
	gate_open(client, PEER_CLIENT_PUT_PAGES);
	is_taken(name);
	owner_ends();
	client_is_idle(client, name);
}

static void many_killed(void)
{
	unsigned int n = rounds(50, 15, 1000);
	uint32_t seed = seed_of_run();
	bool good = true;
	double slowest = 0;

	client_clear(client);
	for (unsigned int i = 0; i < n && good; i++) {
		double begin;

		start_owner();
		if (i % 2)
			owner_says();
		usleep(random_next(&seed) % 20000);
		start_taking();
		usleep(random_next(&seed) % 2000);
		kill(owner, SIGKILL);
		begin = now();
		good = taken_after(SECONDS);
		if (good)
			pthread_join(taker, NULL);
		if (now() - begin > slowest)
			slowest = now() - begin;
		owner_ends();
	}
	ok(good, "D state: %u owners were killed, and all invalidations ended",
	   n);
	printf("# the slowest after %.3f s\n", slowest);
	client_is_idle(client, "killed owners");
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: field_d_state RDMA-DEVICE\n");
		return EXIT_FAILURE;
	}
	signal(SIGPIPE, SIG_IGN);
	device = argv[1];
	client = client_open(0);
	/*
	 * Without a lock of the client: a process at its own gate must not
	 * keep the client's other threads from coming there.
	 */
	client_register(client, CLIENT_USUAL | PEER_CLIENT_UNLOCKED |
			flags_for(device));

	stopped_owner();
	killed_in(PEER_CLIENT_ACQUIRE, "the owner is killed in acquire");
	killed_in(PEER_CLIENT_GET_PAGES, "the owner is killed in get_pages");
	if (!flags_for(device))
		killed_in(PEER_CLIENT_DMA_MAP, "the owner is killed in dma_map");
	stopped_in_get_pages();
	failing_get_pages();
	slow_end();
	many_killed();
	client_unregister(client);
	return done_testing();
}
