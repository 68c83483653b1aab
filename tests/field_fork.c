// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * field_fork RDMA-DEVICE: the field bug "fork". The device is an edu_hca.
 *
 * After a fork() there are two of all that an MR is tied to: address spaces,
 * mappings, files. Where memory is copied on write, the parent's next write
 * parts its mapping from what the device has; where the MR goes with whichever
 * process ends first, the other one's device is left with unmapped memory;
 * where it is found by the address space of its owner, it is not found when
 * that has gone.
 *
 * An MR on peer memory belongs to the open file of the RDMA device, as any MR
 * does: it works for whoever has that file, until the last one closes it. The
 * provider can take the memory back all the time.
 */
#include <infiniband/verbs.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clients.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SIZE = 4 * PAGE, COPY = 4080 };

static const char *device;
static struct hca hca;
static int client;
static char *memory, *host;
static struct hca_mr mr, host_mr;

/* The device sees what the memory holds, and the memory what it writes. */
static bool works(uint64_t seed)
{
	fill(memory, SIZE, seed);
	memset(host, 0, PAGE);
	if (hca_copy(&hca, &mr, memory + PAGE, &host_mr, host, COPY) ||
	    memcmp(host, memory + PAGE, COPY))
		return false;
	fill(host, PAGE, seed + 1);
	return !hca_copy(&hca, &host_mr, host, &mr, memory, COPY) &&
	       !memcmp(host, memory, COPY);
}

static bool is_dead(void)
{
	return hca_copy(&hca, &mr, memory, &host_mr, host, COPY) &&
	       errno == EIO;
}

static void open_all(void)
{
	hca = hca_open(device);
	memory = client_memory(client, SIZE);
	/* shared: else it is the host memory that is copied on write */
	host = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (host == MAP_FAILED)
		give_up("host memory");
	host_mr = hca_reg_or_give_up(&hca, host, PAGE);
	mr = hca_reg_or_give_up(&hca, memory, SIZE);
}

static void close_all(void)
{
	close(hca.fd);
	munmap(memory, SIZE);
	munmap(host, PAGE);
}

static int write_from_child(void *arg)
{
	(void)arg;
	fill(memory, SIZE, 7);
	return 0;
}

static int unmap_in_child(void *arg)
{
	(void)arg;
	return munmap(memory, SIZE) || close(hca.fd) || close(client);
}

static int die(void *arg)
{
	(void)arg;
	return raise(SIGKILL);
}

static void parent_goes_on(void)
{
	open_all();
	ok(works(1), "fork: the MR works");
	ok(!in_child(write_from_child, NULL) && filled(memory, SIZE, 7) &&
	   !hca_copy(&hca, &mr, memory, &host_mr, host, COPY) &&
	   !memcmp(host, memory, COPY),
	   "fork: what a child writes is there, and the device sees it");
	ok(works(2), "fork: what its parent writes afterwards too");
	ok(!in_child(unmap_in_child, NULL) && works(3),
	   "fork: a child unmaps and closes all, the MR works");
	ok(in_child(die, NULL) == -1 && works(4),
	   "fork: a child is killed, the MR works");
	ok(client_state(client).held == 1, "fork: it was held all the time");
	close_all();
	client_is_idle(client, "fork, the parent goes on");
}

/*
 * The parent has ended. Of its grandchild, who has all that it had: 0, or the
 * number of what failed.
 */
static int grandchild(int told)
{
	char c;

	if (read(told, &c, 1) != 1)
		return 1;
	if (!works(1))
		return 2;
	if (client_state(client).held != 1)
		return 3;
	if (client_invalidate(client))
		return 4;
	if (!is_dead())
		return 5;
	if (client_state(client).held)
		return 6;
	fill(memory, SIZE, 9);
	if (!is_dead() || !filled(memory, SIZE, 9))
		return 7;
	return 0;
}

static void child_goes_on(void)
{
	int told[2], said[2];
	pid_t parent;
	int c = -1;

	if (pipe(told) || pipe(said))
		give_up("pipe");
	client_clear(client);
	parent = fork();
	if (!parent) {
		open_all();
		if (!fork()) {
			close(told[1]);
			c = grandchild(told[0]);
			_exit(write(said[1], &c, sizeof(c)) < 0);
		}
		_exit(works(0) ? 0 : 1);
	}
	ok(!wait_for(parent), "fork: the parent ends, its child has the MR");
	close(said[1]);
	if (write(told[1], "", 1) != 1 || read(said[0], &c, sizeof(c)) < 0)
		give_up("pipe");
	if (!ok(!c, "fork: it works for the child, and can be taken back"))
		printf("# the child failed at %d\n", c);
	/* said is closed by the end of the child, after its other files */
	if (read(said[0], &c, sizeof(c)) < 0)
		give_up("pipe");
	for (double limit = now() + 10;
	     client_state(client).ranges && now() < limit;)
		usleep(1000);
	close(said[0]);
	close(told[0]);
	close(told[1]);
	client_is_idle(client, "fork, the child goes on");
}

static void *reg(void *arg)
{
	(void)arg;
	mr = hca_reg_or_give_up(&hca, memory, SIZE);
	return NULL;
}

/* The child has half of a registration, which is its parent's business. */
static void in_the_middle(enum peer_client_step step, const char *name)
{
	pthread_t thread;
	bool good;

	client_clear(client);
	open_all();
	hca_dereg(&hca, &mr);
	gate_close(client, step);
	pthread_create(&thread, NULL, reg, NULL);
	good = gate_wait(client, step);
	good &= !in_child(unmap_in_child, NULL);
	good &= in_child(die, NULL) == -1;
	gate_open(client, step);
	pthread_join(thread, NULL);
	ok(good && works(1), "fork in %s: the parent gets its MR", name);
	close_all();
	client_is_idle(client, name);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: field_fork RDMA-DEVICE\n");
		return EXIT_FAILURE;
	}
	device = argv[1];
	client = client_open(0);
	client_register(client, CLIENT_USUAL);
	parent_goes_on();
	child_goes_on();
	in_the_middle(PEER_CLIENT_ACQUIRE, "acquire");
	in_the_middle(PEER_CLIENT_GET_PAGES, "get_pages");
	in_the_middle(PEER_CLIENT_DMA_MAP, "dma_map");
	client_unregister(client);
	return done_testing();
}
