// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * field_ctrl_c DEV: the field bug "Ctrl-C under traffic locking the machine".
 *
 * A process that is killed while its RDMA is under way is torn down in the
 * kernel with packets, DMA and work requests in flight. Where the teardown of
 * its queue pairs waits for MRs, whose teardown waits for the memory, whose
 * owner waits for the process, or where one of them does so with interrupts
 * off, the machine is gone.
 *
 * Processes that register memory of DEV and send from and to it as fast as they
 * can get SIGINT or SIGKILL at any moment of their lives. Each ends soon, and
 * leaves nothing. field_bugs.sh does the same to perftest.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clients.h"
#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum { SIZE = 256 << 10, LANES = 2, SECONDS = 60 };

static const char *node;

/* Both ways, whole buffers at a time, until the process ends. */
static void *traffic(void *arg)
{
	struct ibv_pd *pd = arg;
	int fd = open_device(node, O_RDWR);
	char *p = map_or_give_up(fd, SIZE);
	struct peer peer;
	struct ibv_mr *mr;

	peer_init(&peer, pd);
	for (uint64_t seed = 1;; seed++) {
		mr = ibv_reg_mr(pd, p, SIZE, IBV_ACCESS_LOCAL_WRITE |
				IBV_ACCESS_REMOTE_WRITE |
				IBV_ACCESS_REMOTE_READ);
		if (!mr || !peer_reaches(&peer, mr, seed) || ibv_dereg_mr(mr))
			_exit(1);
	}
	return NULL;
}

static void victim(int ready)
{
	struct ibv_pd *pd;
	pthread_t thread;

	/* Its results are nobody's. */
	if (!freopen("/dev/null", "w", stdout))
		_exit(2);
	pd = alloc_pd_on("rxe0");
	for (int i = 0; i < LANES; i++)
		pthread_create(&thread, NULL, traffic, pd);
	if (write(ready, "", 1) != 1)
		_exit(3);
	for (;;)
		pause();
}

/* True if the process has ended by @sig; false if it has not, or otherwise. */
static bool ends_by(pid_t pid, int sig)
{
	double limit = now() + SECONDS;
	int status;

	while (now() < limit) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (WIFSIGNALED(status) && WTERMSIG(status) == sig)
				return true;
			printf("# it ended with status %#x\n", status);
			return false;
		}
		usleep(1000);
	}
	printf("# it has not ended within %d s\n", SECONDS);
	return false;
}

static bool round_ends(uint32_t *seed, int sig, bool wait_ready)
{
	int ready[2];
	pid_t pid;
	bool good;
	char c;

	if (pipe(ready))
		give_up("pipe");
	pid = fork();
	if (!pid) {
		close(ready[0]);
		victim(ready[1]);
	}
	close(ready[1]);
	good = !wait_ready || read(ready[0], &c, 1) == 1;
	usleep(random_next(seed) % 300000);
	kill(pid, sig);
	good &= ends_by(pid, sig);
	close(ready[0]);
	return good;
}

int main(int argc, char **argv)
{
	unsigned int n = rounds(20, 20, 1000), bad = 0, left = 0;
	struct ibv_context *context;
	uint32_t seed;
	uint64_t before;
	int mrs, fd;

	if (argc != 2) {
		fprintf(stderr, "usage: field_ctrl_c DEV\n");
		return EXIT_FAILURE;
	}
	node = argv[1];
	fd = open_device(node, O_RDWR);
	context = open_rdma_device("rxe0");
	before = device_free(fd);
	mrs = count_mrs(context);
	seed = seed_of_run();

	for (unsigned int i = 0; i < n && !bad; i++) {
		bad += !round_ends(&seed, i % 2 ? SIGKILL : SIGINT, i % 4 < 2);
		left += device_free(fd) != before || count_mrs(context) != mrs;
		if (bad || left == 1)
			printf("# in round %u\n", i);
	}
	ok(!bad, "Ctrl-C under traffic: %u processes end by their signal", n);
	ok(!left, "Ctrl-C under traffic: none leaves memory or an MR");
	return done_testing();
}
