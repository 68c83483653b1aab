// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_fork DEV: MRs on BAR memory and fork(). Needs no privilege. To be run
 * with and without RDMAV_FORK_SAFE.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	SIZE = 16 * 4096,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ,
};

static struct peer peer;

static int just_exit(void *arg)
{
	(void)arg;
	return 0;
}

static int touch_all(void *p)
{
	for (size_t i = 0; i < SIZE; i += 4096) {
		int sig = touch((char *)p + i, false);

		if (sig)
			return sig;
	}
	return 0;
}

static int write_pattern(void *p)
{
	lay(p, SIZE, 2, 0);
	return 0;
}

static int die(void *arg)
{
	(void)arg;
	return raise(SIGKILL);
}

/* What the child did has not changed what the parent's MR is. */
static void still_works(struct ibv_mr *mr, uint64_t seed, const char *when)
{
	ok(peer_sees(&peer, mr->addr, mr->rkey, SIZE, seed) &&
	   peer_reaches(&peer, mr, seed + 1) &&
	   laid(mr->addr, SIZE, seed + 1, 0), "%s, the MR is as before", when);
	lay(mr->addr, SIZE, seed, 0);
}

int main(int argc, char **argv)
{
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	const char *flags;
	uint64_t before;
	char *p;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: verbs_fork DEV\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	before = device_free(fd);
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);
	p = map_or_give_up(fd, SIZE);
	mr = ibv_reg_mr(pd, p, SIZE, ALL_ACCESS);
	if (!mr)
		give_up("MR");
	lay(p, SIZE, 1, 0);

	ok(!in_child(just_exit, NULL), "a child comes and goes");
	still_works(mr, 1, "then");
	ok(in_child(die, NULL) == -1, "a child is killed");
	still_works(mr, 1, "then");
	/*
	 * RDMAV_FORK_SAFE has it marked; ibv_is_fork_initialized() may say
	 * IBV_FORK_UNNEEDED all the same.
	 */
	flags = vm_flags(p);
	if (!flags)
		give_up("smaps");
	if (strstr(flags, " dc ")) {
		ok(in_child(touch_all, p) == SIGSEGV,
		   "libibverbs has kept it from children");
		still_works(mr, 1, "then");
	} else {
		ok(!in_child(touch_all, p), "a child touches all of it");
		still_works(mr, 1, "then");
		ok(!in_child(write_pattern, p), "a child fills it");
		still_works(mr, 2, "with other bytes");
	}
	ok(!ibv_dereg_mr(mr) && !in_child(touch_all, p),
	   "without the MR, a child has the memory");
	munmap(p, SIZE);
	ok(device_free(fd) == before, "all is free");
	return done_testing();
}
