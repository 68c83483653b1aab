// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * doors_lifetime DOOR DEV MANY: how long MRs by a door keep the memory of a
 * dma-buf, MANY of them on one, and what is left when a process ends or
 * becomes another program. Needs no privilege but to open DEV.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 16 * PAGE,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
};

static struct ibv_pd *pd;
static struct peer peer;
static const char *path;
static int fd;

static struct ibv_mr *reg_or_give_up(uint64_t offset, size_t len,
				     uint64_t iova, int buf_fd)
{
	struct ibv_mr *mr = door_reg(pd, offset, len, iova, buf_fd, ALL_ACCESS);

	if (!mr)
		give_up("MR");
	return mr;
}

/* The MR is on as many bytes from address 0 on, which hold the pattern. */
static bool works(struct ibv_mr *mr, size_t len, uint64_t seed)
{
	return peer_sees(&peer, NULL, mr->rkey, len, seed) &&
	       !peer_write(&peer, NULL, mr->rkey, len, seed + 1) &&
	       peer_sees(&peer, NULL, mr->rkey, len, seed + 1);
}

/* Neither the descriptor nor a mapping is needed, nor the device's file. */
static void without_descriptor(void)
{
	uint64_t before = device_free(fd);
	int buf_fd = dmabuf_alloc(path, SIZE), rest;
	char *p = map_or_give_up(buf_fd, SIZE);
	struct ibv_mr *mr = reg_or_give_up(0, SIZE, 0, buf_fd);

	lay(p, SIZE, 1, 0);
	close(buf_fd);
	ok(works(mr, SIZE, 1) && laid(p, SIZE, 2, 0),
	   "an MR outlives close() of the dma-buf");
	munmap(p, SIZE);
	ok(works(mr, SIZE, 2), "and munmap()");
	ok(device_free(fd) == before - SIZE, "its memory counts as used");
	rest = alloc_region(fd, device_free(fd), 0, O_RDWR | O_CLOEXEC);
	ok(rest >= 0 && works(mr, SIZE, 3),
	   "who takes all that is free does not get it");
	close(rest);
	ok(!door_dereg(mr) && device_free(fd) == before,
	   "it is free when the MR goes");
}

/* Each of two MRs keeps all of it, and sees what the other one writes. */
static void two_on_one(void)
{
	uint64_t before = device_free(fd);
	int buf_fd = dmabuf_alloc(path, SIZE);
	struct ibv_mr *all = reg_or_give_up(0, SIZE, 0, buf_fd);
	struct ibv_mr *half = reg_or_give_up(SIZE / 2, SIZE / 2, 1UL << 40,
					     buf_fd);
	const char *base = (const char *)(1UL << 40);
	const size_t n = SIZE / 2;
	int again;

	close(buf_fd);
	ok(!peer_write(&peer, (char *)n, all->rkey, n, 5) &&
	   peer_sees(&peer, base, half->rkey, n, 5),
	   "what goes to one of two MRs on a dma-buf is in the other");
	ok(!peer_write(&peer, base, half->rkey, n, 6) &&
	   peer_sees(&peer, (char *)n, all->rkey, n, 6),
	   "and the other way round");
	ok(!door_dereg(all) && peer_sees(&peer, base, half->rkey, n, 6) &&
	   device_free(fd) == before - SIZE, "the second one keeps all of it");
	ok(!door_dereg(half) && device_free(fd) == before, "until it goes");

	/* The dma-buf, not its descriptor: another one will do. */
	buf_fd = dmabuf_alloc(path, SIZE);
	all = reg_or_give_up(0, SIZE, 0, buf_fd);
	again = dup(buf_fd);
	half = reg_or_give_up(0, SIZE, 0, again);
	close(again);
	ok(all->rkey != half->rkey &&
	   !peer_write(&peer, NULL, all->rkey, SIZE, 7) &&
	   peer_sees(&peer, NULL, half->rkey, SIZE, 7),
	   "a second descriptor is of the same dma-buf");
	ok(!door_dereg(all) && !door_dereg(half), "both MRs go");
	all = reg_or_give_up(0, SIZE, 0, buf_fd);
	ok(peer_sees(&peer, NULL, all->rkey, SIZE, 7) && !door_dereg(all),
	   "it can be registered again, with what is in it");
	close(buf_fd);
}

static void many(int n)
{
	struct ibv_mr **mrs = calloc(n, sizeof(*mrs));
	struct holdings before = holdings(pd->context, fd), after;
	int buf_fd = dmabuf_alloc(path, SIZE), i;
	double start, begin = now();
	bool good = true;

	if (!mrs)
		give_up("memory");
	for (i = 0, start = begin; i < n && good; i++) {
		/* A page in turn, at an address that says which MR it is. */
		mrs[i] = door_reg(pd, (size_t)i * PAGE % SIZE, PAGE,
				  (uint64_t)(i + 1) << 32, buf_fd, ALL_ACCESS);
		good = mrs[i];
		if (i % 1000 == 999) {
			printf("# MRs %d to %d: %.1f us each\n", i - 998, i + 1,
			       (now() - start) * 1e3);
			start = now();
		}
	}
	if (!ok(good, "%d MRs on one dma-buf", n)) {
		printf("# MR %d: %s\n", i, strerrorname_np(errno));
		n = i - 1;
	}
	ok(count_mrs(pd->context) == before.mrs + n, "the kernel counts them");
	ok(device_free(fd) == before.free - SIZE,
	   "they take no more memory than one");
	if (good) {
		const char *first = (char *)(1UL << 32);
		const char *last = (char *)((unsigned long)n << 32);

		ok(!peer_write(&peer, first, mrs[0]->rkey, PAGE, 8) &&
		   peer_sees(&peer, first, mrs[0]->rkey, PAGE, 8),
		   "the first works");
		ok(!peer_write(&peer, last, mrs[n - 1]->rkey, PAGE, 9) &&
		   peer_sees(&peer, last, mrs[n - 1]->rkey, PAGE, 9),
		   "so does the last");
		ok(peer_sees(&peer, first, mrs[0]->rkey, PAGE,
			     (n - 1) % (SIZE / PAGE) ? 8 : 9),
		   "each is on its own page");
	}
	start = now();
	for (i = 0, good = true; i < n; i++)
		good &= !door_dereg(mrs[i]);
	printf("# dereg: %.1f us each\n", (now() - start) * 1e6 / n);
	ok(good, "all go");
	close(buf_fd);
	/* What the C library has mapped to keep them does not count. */
	after = holdings(pd->context, fd);
	before.mappings = after.mappings;
	ok(same_holdings(&before, &after), "nothing is left of them");
	free(mrs);
}

/* ---- processes that end without ibv_dereg_mr() */

static struct ibv_mr *reg_as_child(void)
{
	int buf_fd = dmabuf_alloc(path, SIZE);

	return door_reg(alloc_pd_on("rxe0"), 0, SIZE, 0, buf_fd, ALL_ACCESS);
}

static int reg_and_exit(void *arg)
{
	(void)arg;
	return !reg_as_child();
}

static int reg_and_wait(int ready)
{
	if (!reg_as_child() || write(ready, "", 1) != 1)
		return 1;
	for (;;)
		pause();
}

static int reg_and_exec(int ready)
{
	if (!reg_as_child() || write(ready, "", 1) != 1)
		return 1;
	execl("/bin/sleep", "sleep", "1000", NULL);
	return 2;
}

/* Runs fn in a child and returns when it has said that it is ready. */
static pid_t start_child(int (*fn)(int ready))
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		give_up("pipe");
	pid = fork();
	if (!pid) {
		close(ends[0]);
		_exit(fn(ends[1]));
	}
	close(ends[1]);
	if (read(ends[0], &(char){ 0 }, 1) != 1)
		give_up("a child with an MR");
	close(ends[0]);
	return pid;
}

static bool soon_same(const struct holdings *before)
{
	double limit = now() + 10;
	struct holdings after;

	do {
		after = holdings(pd->context, fd);
		if (after.free == before->free && after.mrs == before->mrs)
			break;
		usleep(10000);
	} while (now() < limit);
	return same_holdings(before, &after);
}

static void ends(void)
{
	struct holdings before = holdings(pd->context, fd);
	pid_t pid;

	ok(!in_child(reg_and_exit, NULL), "a process ends, its MR with it");
	ok(soon_same(&before), "nothing is left of it");

	pid = start_child(reg_and_wait);
	ok(count_mrs(pd->context) == before.mrs + 1 &&
	   device_free(fd) == before.free - SIZE, "another one has an MR");
	kill(pid, SIGKILL);
	ok(wait_for(pid) == -1, "it is killed");
	ok(soon_same(&before), "nothing is left of it");

	pid = start_child(reg_and_exec);
	ok(soon_same(&before),
	   "nothing is left when a process becomes another program");
	ok(!kill(pid, SIGKILL) && wait_for(pid) == -1,
	   "which goes on all the same");
}

int main(int argc, char **argv)
{
	uint64_t before;
	int buf_fd;

	if (argc != 4) {
		fprintf(stderr, "usage: doors_lifetime DOOR DEV MANY\n");
		return EXIT_FAILURE;
	}
	door_choose(argv[1]);
	path = argv[2];
	fd = open_device(path, O_RDWR);
	before = device_free(fd);
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);
	peer_pair(&peer);
	buf_fd = dmabuf_alloc(path, SIZE);
	ok(door_is_used(pd, buf_fd), "MRs come by the door");
	close(buf_fd);

	without_descriptor();
	two_on_one();
	ends();
	many(atoi(argv[3]));
	ok(device_free(fd) == before, "nothing was lost on the way");
	return done_testing();
}
