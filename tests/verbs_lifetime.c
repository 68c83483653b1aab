// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_lifetime DEV LARGE: how long MRs keep memory, what is in it at first,
 * and how they get on with host memory and with its limit. Needs an ordinary
 * user, whose RLIMIT_MEMLOCK is 64 KiB; LARGE bytes are registered beside.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 64 * PAGE,
	MAX_PIECES = 100,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ,
};

static struct ibv_pd *pd;
static struct peer peer;
static const char *path;
static size_t left_of_limit;
static atomic_bool stop;

/*
 * All memory of which there is a page left, zeroed, in ever smaller pieces:
 * the driver of an attached device has some of it, nobody knows where.
 */
static int take_the_rest(int fd, int *pieces)
{
	size_t piece = device_free(fd);
	int n = 0;

	while (piece && n < MAX_PIECES) {
		pieces[n] = alloc_region(fd, piece, 0, O_RDWR | O_CLOEXEC);
		if (pieces[n] >= 0)
			n++;
		else
			piece = piece / 2 & -PAGE;
	}
	return n;
}

/* The MR outlives its mapping and the file, and nobody else gets its memory. */
static void without_mapping(void)
{
	int fd = open_device(path, O_RDWR);
	int other = open_device(path, O_RDWR);
	uint64_t before = device_free(fd);
	char *p = map_or_give_up(fd, SIZE);
	struct ibv_mr *mr = ibv_reg_mr(pd, p, SIZE, ALL_ACCESS);
	int rest[MAX_PIECES], n;

	if (!mr)
		give_up("MR");
	lay(p, SIZE, 1, 0);
	munmap(p, SIZE);
	close(fd);
	ok(peer_sees(&peer, p, mr->rkey, SIZE, 1),
	   "an MR outlives munmap() and close()");
	ok(peer_reaches(&peer, mr, 2), "peers can write and read");
	ok(device_free(other) == before - SIZE, "its memory counts as used");

	n = take_the_rest(other, rest);
	ok(n > 0, "somebody else takes all that is free");
	fails(!map_shared(other, PAGE, PROT_READ), ENOMEM,
	      "the MR's memory cannot be had");
	ok(peer_sees(&peer, p, mr->rkey, SIZE, 2), "nor has it changed");
	while (n)
		close(rest[--n]);
	ok(!ibv_dereg_mr(mr) && device_free(other) == before,
	   "ibv_dereg_mr gives it back");
	close(other);
}

static void by_parts(void)
{
	int fd = open_device(path, O_RDWR);
	uint64_t before = device_free(fd);
	char *p = map_or_give_up(fd, SIZE);
	struct ibv_mr *first, *second;

	first = ibv_reg_mr(pd, p, SIZE / 4, ALL_ACCESS);
	second = ibv_reg_mr(pd, p + SIZE / 2, SIZE / 4, ALL_ACCESS);
	if (!first || !second)
		give_up("two MRs on a mapping");
	munmap(p, SIZE);
	ok(!ibv_dereg_mr(first) && peer_reaches(&peer, second, 3),
	   "one of two MRs on a mapping goes, the other works");
	ok(device_free(fd) == before - SIZE, "it keeps all of the mapping");
	ok(!ibv_dereg_mr(second) && device_free(fd) == before,
	   "until it goes, too");

	p = map_or_give_up(fd, SIZE);
	first = ibv_reg_mr(pd, p, SIZE, ALL_ACCESS);
	ok(first && !ibv_dereg_mr(first), "register, deregister");
	lay(p, SIZE, 4, 0);
	ok(laid(p, SIZE, 4, 0), "the mapping can still be used");
	first = ibv_reg_mr(pd, p, SIZE, ALL_ACCESS);
	ok(first && peer_sees(&peer, p, first->rkey, SIZE, 4),
	   "and registered again");
	if (first)
		ibv_dereg_mr(first);
	munmap(p, SIZE);
	close(fd);
}

static int leave_pattern(void *arg)
{
	int fd = open(arg, O_RDWR | O_CLOEXEC);
	void *p = map_shared(fd, SIZE, PROT_READ | PROT_WRITE);

	if (!p)
		return 1;
	fill(p, SIZE, 5);
	return !filled(p, SIZE, 5);
}

static void fresh_memory(void)
{
	int fd = open_device(path, O_RDWR);
	struct ibv_mr *mr;
	char *p;

	/* What is freed is what is given out next. */
	ok(!in_child(leave_pattern, (void *)path),
	   "another process fills memory and frees it");
	p = map_or_give_up(fd, SIZE);
	mr = ibv_reg_mr(pd, p, SIZE, ALL_ACCESS);
	ok(mr && peer_sees_zeros(&peer, p, mr->rkey, SIZE),
	   "a fresh MR shows only zeros");
	if (mr)
		ibv_dereg_mr(mr);
	munmap(p, SIZE);

	ok(!in_child(leave_pattern, (void *)path), "once more");
	p = map_or_give_up(fd, SIZE);
	lay(p + 3 * PAGE, PAGE, 6, 0);
	mr = ibv_reg_mr(pd, p, SIZE, ALL_ACCESS);
	ok(mr && peer_sees_zeros(&peer, p, mr->rkey, 3 * PAGE) &&
	   peer_sees(&peer, p + 3 * PAGE, mr->rkey, PAGE, 6) &&
	   peer_sees_zeros(&peer, p + 4 * PAGE, mr->rkey, SIZE - 4 * PAGE),
	   "but for what was written before it was registered");
	if (mr)
		ibv_dereg_mr(mr);
	munmap(p, SIZE);

	/* Half of it registered: the other half is zeroed by faults. */
	ok(!in_child(leave_pattern, (void *)path), "once more");
	p = map_or_give_up(fd, SIZE);
	mr = ibv_reg_mr(pd, p + 100, SIZE / 2, IBV_ACCESS_REMOTE_READ);
	ok(mr && peer_sees_zeros(&peer, p + 100, mr->rkey, SIZE / 2) &&
	   all_zero(p, SIZE), "zeros also where only a part is registered");
	if (mr)
		ibv_dereg_mr(mr);
	munmap(p, SIZE);
	close(fd);
}

static long pinned_kib(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	long kib = -1;

	while (status && fgets(line, sizeof(line), status))
		sscanf(line, "VmPin: %ld kB", &kib);
	if (status)
		fclose(status);
	return kib;
}

static void beside_host_memory(size_t large)
{
	int fd = open_device(path, O_RDWR);
	char *host = host_memory(128 * 1024), *bar;
	struct ibv_mr *mr, *bar_mr;
	struct rlimit limit;
	long pinned;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	ok(limit.rlim_cur == 65536 && geteuid(), "an ordinary user and limit");
	mr = ibv_reg_mr(pd, host, 16384, ALL_ACCESS);
	ok(mr && peer_reaches(&peer, mr, 7) && laid(host, 16384, 7, 0),
	   "MR on host memory");
	fails(!ibv_reg_mr(pd, host, 128 * 1024, ALL_ACCESS), ENOMEM,
	      "MR on more host memory than the limit");
	pinned = pinned_kib();

	bar = map_or_give_up(fd, large);
	bar_mr = ibv_reg_mr(pd, bar, large, ALL_ACCESS);
	ok(bar_mr, "MR on %zu MiB of BAR memory", large >> 20);
	if (!bar_mr)
		return;
	ok(pinned > 0 && pinned_kib() == pinned,
	   "it does not count as pinned memory");
	ok(!peer_write(&peer, bar + large - 50000, bar_mr->rkey, 50000, 8) &&
	   laid(bar + large - 50000, 50000, 8, 0), "it reaches to its end");
	fails(!ibv_reg_mr(pd, host, 128 * 1024, ALL_ACCESS), ENOMEM,
	      "the limit still holds for host memory");
	ok(mr && peer_reaches(&peer, mr, 9) && laid(host, 16384, 9, 0),
	   "the MR on host memory still works");
	ok(!ibv_dereg_mr(bar_mr) && pinned_kib() == pinned,
	   "ibv_dereg_mr leaves the count as it is");
	munmap(bar, large);
	if (mr)
		ibv_dereg_mr(mr);
	munmap(host, 128 * 1024);
	close(fd);
}

/* As much as the limit leaves to host memory, until told to stop. */
static void *register_bar(void *buf)
{
	unsigned long turns = 0;
	struct ibv_mr *mr;

	while (!stop) {
		mr = ibv_reg_mr(pd, buf, left_of_limit, ALL_ACCESS);
		if (!mr || ibv_dereg_mr(mr))
			return NULL;
		turns++;
	}
	return (void *)turns;
}

/* BAR memory does not count for a moment, either. */
static void beside_registrations(void)
{
	int fd = open_device(path, O_RDWR), refused = 0;
	char *bar = map_or_give_up(fd, SIZE), *host = host_memory(PAGE);
	double end = now() + 2;
	struct ibv_mr *mr;
	pthread_t thread;
	void *turns;

	left_of_limit = 65536 - pinned_kib() * 1024;
	if (pthread_create(&thread, NULL, register_bar, bar))
		give_up("pthread_create");
	while (now() < end) {
		mr = ibv_reg_mr(pd, host, PAGE, ALL_ACCESS);
		if (mr)
			ibv_dereg_mr(mr);
		else
			refused++;
	}
	stop = true;
	pthread_join(thread, &turns);
	ok(turns, "MRs on BAR memory come and go");
	ok(!refused, "and none of them uses up host memory's limit");
	if (refused)
		printf("# %d times\n", refused);
	munmap(host, PAGE);
	munmap(bar, SIZE);
	close(fd);
}

static int register_and_exit(void *arg)
{
	char *p = map_shared(*(int *)arg, SIZE, PROT_READ | PROT_WRITE);
	struct ibv_pd *own_pd;

	own_pd = alloc_pd_on("rxe0");
	return p && ibv_reg_mr(own_pd, p, SIZE, ALL_ACCESS) ? 0 : 1;
}

static void exit_without_dereg(void)
{
	int fd = open_device(path, O_RDWR);
	uint64_t before = device_free(fd);

	ok(!in_child(register_and_exit, &fd),
	   "a process ends without ibv_dereg_mr");
	ok(device_free(fd) == before, "all is free");
	close(fd);
}

int main(int argc, char **argv)
{
	uint64_t before;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: verbs_lifetime DEV LARGE\n");
		return EXIT_FAILURE;
	}
	path = argv[1];
	fd = open_device(path, O_RDWR);
	before = device_free(fd);
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);

	without_mapping();
	by_parts();
	fresh_memory();
	beside_host_memory(parse_size(argv[2]));
	beside_registrations();
	exit_without_dereg();
	ok(device_free(fd) == before, "nothing was lost on the way");
	return done_testing();
}
