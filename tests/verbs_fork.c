// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_fork [-d DOOR] DEV: MRs on BAR memory and fork(). Needs no privilege.
 * To be run with and without RDMAV_FORK_SAFE.
 *	-d	an MR on a dma-buf by this door (see doors.h)
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	SIZE = 16 * 4096,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ,
};

static struct peer peer;
static char *p;

static int just_exit(void *arg)
{
	(void)arg;
	return 0;
}

static int touch_all(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < SIZE; i += 4096) {
		int sig = touch(p + i, false);

		if (sig)
			return sig;
	}
	return 0;
}

static int write_pattern(void *arg)
{
	(void)arg;
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
	ok(peer_sees(&peer, p, mr->rkey, SIZE, seed) &&
	   !peer_write(&peer, p, mr->rkey, SIZE, seed + 1) &&
	   peer_sees(&peer, p, mr->rkey, SIZE, seed + 1) &&
	   laid(p, SIZE, seed + 1, 0), "%s, the MR is as before", when);
	lay(p, SIZE, seed, 0);
}

int main(int argc, char **argv)
{
	bool by_door = argc == 4 && !strcmp(argv[1], "-d");
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	const char *flags;
	uint64_t before;
	int fd, buf_fd;

	if (by_door) {
		door_choose(argv[2]);
		argv += 2;
		argc -= 2;
	}
	if (argc != 2) {
		fprintf(stderr, "usage: verbs_fork [-d DOOR] DEV\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	before = device_free(fd);
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);
	if (by_door) {
		mr = door_map(pd, argv[1], SIZE, ALL_ACCESS, &p, &buf_fd);
		close(buf_fd);
	} else {
		p = map_or_give_up(fd, SIZE);
		mr = ibv_reg_mr(pd, p, SIZE, ALL_ACCESS);
		if (!mr)
			give_up("MR");
	}
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
		ok(in_child(touch_all, NULL) == SIGSEGV,
		   "libibverbs has kept it from children");
		still_works(mr, 1, "then");
	} else {
		ok(!in_child(touch_all, NULL), "a child touches all of it");
		still_works(mr, 1, "then");
		ok(!in_child(write_pattern, NULL), "a child fills it");
		still_works(mr, 2, "with other bytes");
	}
	ok(!(by_door ? door_dereg(mr) : ibv_dereg_mr(mr)) &&
	   !in_child(touch_all, NULL),
	   "without the MR, a child has the memory");
	munmap(p, SIZE);
	ok(device_free(fd) == before, "all is free");
	return done_testing();
}
