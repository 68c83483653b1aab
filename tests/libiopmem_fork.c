// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libiopmem_fork DEV RDMADEV: MRs of iopmem_reg_mr() and fork(). Needs no
 * privilege. To be run with and without RDMAV_FORK_SAFE.
 */
#include <signal.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/iopmem.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	SIZE = 16 * 4096,
	ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		 IBV_ACCESS_REMOTE_READ,
};

static void * const iova = (void *)0x700000000000;

static struct peer peer;
static struct ibv_mr *mr;
static char *p;

static int just_exit(void *arg)
{
	(void)arg;
	return 0;
}

static int die(void *arg)
{
	(void)arg;
	return raise(SIGKILL);
}

/* A mapping of the caller's own, which no MR is on. */
static int write_pattern(void *arg)
{
	(void)arg;
	lay(p, SIZE, 2, 0);
	return 0;
}

/* What the child did has not changed what the parent's MR is. */
static void still_works(uint64_t seed, const char *when)
{
	ok(peer_sees(&peer, iova, mr->rkey, SIZE, seed) &&
	   !peer_write(&peer, iova, mr->rkey, SIZE, seed + 1) &&
	   laid(p, SIZE, seed + 1, 0), "%s, the MR is as before", when);
	lay(p, SIZE, seed, 0);
}

/* Lives until the other end of the pipe is closed. */
static int wait_for_end(void *arg)
{
	int *ends = arg;
	char c;

	close(ends[1]);
	return read(ends[0], &c, 1);
}

int main(int argc, char **argv)
{
	int ends[2];
	struct ibv_pd *pd;
	uint64_t before;
	int fd, buf_fd;
	pid_t pid;

	if (argc != 3) {
		fprintf(stderr, "usage: libiopmem_fork DEV RDMADEV\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	before = device_free(fd);
	pd = alloc_pd_on(argv[2]);
	peer_init(&peer, pd);
	buf_fd = iopmem_alloc(fd, SIZE, 0);
	p = map_or_give_up(buf_fd, SIZE);
	mr = iopmem_reg_mr(pd, 0, SIZE, (uintptr_t)iova, buf_fd, ACCESS);
	if (!mr)
		give_up("MR");
	lay(p, SIZE, 1, 0);

	ok(!in_child(just_exit, NULL), "a child comes and goes");
	still_works(1, "then");
	ok(in_child(die, NULL) == -1, "a child is killed");
	still_works(1, "then");
	ok(!in_child(write_pattern, NULL), "a child fills the memory");
	still_works(2, "with other bytes");

	if (pipe(ends))
		give_up("pipe");
	pid = fork();
	if (!pid)
		_exit(wait_for_end(ends));
	close(ends[0]);
	ok(pid > 0 && !iopmem_dereg_mr(mr), "deregistered while a child lives");
	mr = iopmem_reg_mr(pd, 0, SIZE, (uintptr_t)iova, buf_fd, ACCESS);
	ok(mr && peer_sees(&peer, iova, mr->rkey, SIZE, 2),
	   "and registered again");
	close(ends[1]);
	ok(!wait_for(pid), "the child ends");
	still_works(2, "then");
	ok(!iopmem_dereg_mr(mr), "deregistered");
	munmap(p, SIZE);
	close(buf_fd);
	ok(device_free(fd) == before, "all is free");
	return done_testing();
}
