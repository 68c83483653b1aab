// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * ends DOOR DEV ALLOCATE ROUNDS: users of BAR memory who end without
 * undoing anything: killed at any moment, by exit, by exec, with a child that
 * has inherited all of it, with descriptors on their way to somebody else.
 * When the last who had a part of it is gone, nothing is left.
 *
 * ALLOCATE is p2pmem/allocate of DEV's function. Round N of a SEED always does
 * the same, but for the moment at which it is interrupted.
 *
 * Needs no privilege but to open the files.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	MAX_PAGES = 32,
	HELD = 16,		/* things that a user has at a time */
	PATIENCE = 60,		/* s until the last trace is gone */
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
};

static const char *path, *allocate;
static int fd;
static struct ibv_context *context;

/* ---- what there is of everything */

struct left {
	uint64_t free;
	int mrs, iopmem, iopmem_peer;
};

static int references(const char *module)
{
	char name[128];
	FILE *file;
	int n = -1;

	snprintf(name, sizeof(name), "/sys/module/%s/refcnt", module);
	file = fopen(name, "re");
	if (!file || fscanf(file, "%d", &n) != 1)
		give_up("%s", name);
	fclose(file);
	return n;
}

static struct left count(void)
{
	return (struct left) {
		.free = device_free(fd),
		.mrs = count_mrs(context),
		.iopmem = references("iopmem"),
		.iopmem_peer = references("iopmem_peer"),
	};
}

static bool same(const struct left *a, const struct left *b)
{
	return a->free == b->free && a->mrs == b->mrs &&
	       a->iopmem == b->iopmem && a->iopmem_peer == b->iopmem_peer;
}

static bool soon_nothing(const struct left *before)
{
	double limit = now() + PATIENCE;
	struct left after;

	do {
		after = count();
		if (same(before, &after))
			return true;
		usleep(2000);
	} while (now() < limit);
	printf("# %ld bytes, %d MRs, %d references to iopmem, %d to iopmem_peer are left\n",
	       (long)(before->free - after.free), after.mrs - before->mrs,
	       after.iopmem - before->iopmem,
	       after.iopmem_peer - before->iopmem_peer);
	return false;
}

/* ---- a user, in a process of its own */

/* One thing that the user has; p and mr may be there or not. */
struct thing {
	char *p;
	size_t size;
	int buf_fd;
	struct ibv_mr *mr;
	bool by_door;
};

static struct ibv_pd *pd;
static struct peer peer;
static struct thing things[HELD];
static unsigned int seed;

static int any(int n)
{
	return rand_r(&seed) % n;
}

static void drop(struct thing *t)
{
	bool mapping_first = any(2);

	if (t->p && mapping_first)
		munmap(t->p, t->size);
	if (t->mr)
		t->by_door ? door_dereg(t->mr) : ibv_dereg_mr(t->mr);
	if (t->p && !mapping_first)
		munmap(t->p, t->size);
	if (t->buf_fd >= 0)
		close(t->buf_fd);
	*t = (struct thing) { .buf_fd = -1 };
}

static void take(struct thing *t)
{
	int other;

	t->size = (1 + any(MAX_PAGES)) * PAGE;
	switch (any(3)) {
	case 0:
		t->p = map_shared(fd, t->size, PROT_READ | PROT_WRITE);
		break;
	case 1:
		t->buf_fd = alloc_region(fd, t->size, 0, O_RDWR | O_CLOEXEC);
		if (t->buf_fd >= 0 && any(2))
			t->p = map_shared(t->buf_fd, t->size,
					  PROT_READ | PROT_WRITE);
		break;
	case 2:
		other = open(allocate, O_RDWR | O_CLOEXEC);
		t->p = map_shared(other, t->size, PROT_READ | PROT_WRITE);
		close(other);
		break;
	}
	if (t->buf_fd >= 0 && any(4)) {
		t->by_door = true;
		t->mr = door_reg(pd, 0, t->size, (uintptr_t)t->p, t->buf_fd,
				 ALL_ACCESS);
	} else if (t->p && any(4)) {
		t->by_door = false;
		t->mr = ibv_reg_mr(pd, t->p, t->size, ALL_ACCESS);
	}
}

static void use(struct thing *t)
{
	pid_t pid;

	switch (any(4)) {
	case 0:
		if (t->p)
			fill(t->p, t->size, 1);
		break;
	case 1:
		/* A child that touches it and is gone again */
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (t->p)
				touch(t->p, true);
			_exit(0);
		}
		if (any(2))
			kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		break;
	default:
		if (t->mr)
			peer_write(&peer, t->mr->addr, t->mr->rkey, t->size,
				   any(100));
	}
}

static void begin(void)
{
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);
	for (int i = 0; i < HELD; i++)
		things[i].buf_fd = -1;
}

static void turn(void)
{
	struct thing *t = &things[any(HELD)];

	if (!t->p && !t->mr && t->buf_fd < 0)
		take(t);
	else if (any(3))
		use(t);
	else
		drop(t);
}

/* Everything there is, for those who end with it. */
static void begin_with_everything(void)
{
	begin();
	for (int i = 0; i < HELD; i++)
		while (!things[i].mr) {
			drop(&things[i]);
			take(&things[i]);
		}
	for (int i = 0; i < HELD; i++)
		use(&things[i]);
}

/* ---- how it ends; all return whether nothing is left */

static int ready[2];

static void say_ready(void)
{
	if (write(ready[1], "", 1) != 1)
		_exit(1);
}

static bool wait_ready(void)
{
	return read(ready[0], &(char){ 0 }, 1) == 1;
}

static pid_t start(void (*fn)(void))
{
	pid_t pid = fork();

	if (pid < 0)
		give_up("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn();
		_exit(0);
	}
	return pid;
}

static bool end(pid_t pid)
{
	kill(pid, SIGKILL);
	return wait_for(pid) == -1;
}

static void works_for_ever(void)
{
	say_ready();
	begin();
	for (;;)
		turn();
}

static bool killed(const struct left *before)
{
	pid_t pid = start(works_for_ever);
	bool good = wait_ready();

	/* opening the device takes the first few of them */
	usleep(any(100000));
	return end(pid) && good && soon_nothing(before);
}

static void has_everything(void)
{
	begin_with_everything();
	say_ready();
	pause();
}

static bool killed_in_use(const struct left *before)
{
	pid_t pid = start(has_everything);
	struct left during;
	bool good = wait_ready();

	during = count();
	good = good && during.mrs >= before->mrs + HELD;
	return end(pid) && good && soon_nothing(before);
}

static void exits(void)
{
	begin_with_everything();
	exit(0);
}

static bool exited(const struct left *before)
{
	return !wait_for(start(exits)) && soon_nothing(before);
}

static void execs(void)
{
	begin_with_everything();
	say_ready();
	execl("/bin/sleep", "sleep", "1000", NULL);
}

/* The process goes on as another program. */
static bool became_another(const struct left *before)
{
	pid_t pid = start(execs);
	bool good = wait_ready() && soon_nothing(before);

	return end(pid) && good;
}

static void forks(void)
{
	begin_with_everything();
	if (!fork()) {
		pid_t self = getpid();

		if (write(ready[1], &self, sizeof(self)) != sizeof(self))
			_exit(1);
		for (;;)
			pause();
	}
	for (;;)
		pause();
}

/* The open RDMA device is its child's as much as its own, and so are MRs. */
static bool inherited(const struct left *before)
{
	pid_t pid = start(forks), child;
	struct left during;
	bool good;

	good = read(ready[0], &child, sizeof(child)) == sizeof(child);
	good &= end(pid);
	during = count();
	if (during.mrs < before->mrs + HELD) {
		printf("# the child's MRs went with its parent\n");
		good = false;
	}
	if (good)
		kill(child, SIGKILL);
	return good && soon_nothing(before);
}

static int ends_of_socket[2];

static void sends_descriptors(void)
{
	const size_t size = MAX_PAGES * PAGE;
	int buf_fd;

	begin_with_everything();
	buf_fd = dmabuf_alloc(path, size);
	fill(map_or_give_up(buf_fd, size), size, 7);
	if (!door_reg(pd, 0, size, 0, buf_fd, ALL_ACCESS) ||
	    send_fd(ends_of_socket[1], buf_fd) ||
	    send_fd(ends_of_socket[1], pd->context->cmd_fd) ||
	    /* and one that is never received */
	    send_fd(ends_of_socket[1], dmabuf_alloc(path, size)))
		_exit(1);
	say_ready();
	for (;;)
		pause();
}

static bool passed_on(const struct left *before)
{
	const size_t size = MAX_PAGES * PAGE;
	int buf_fd, device_fd;
	struct left during;
	pid_t pid;
	bool good;
	char *p;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends_of_socket))
		give_up("socketpair");
	pid = start(sends_descriptors);
	good = wait_ready();
	buf_fd = receive_fd(ends_of_socket[0]);
	device_fd = receive_fd(ends_of_socket[0]);
	good &= end(pid) && buf_fd >= 0 && device_fd >= 0;
	during = count();
	if (during.mrs <= before->mrs + HELD) {
		printf("# MRs went, though their device's file is open\n");
		good = false;
	}
	close(device_fd);
	p = map_shared(buf_fd, size, PROT_READ | PROT_WRITE);
	close(buf_fd);
	if (!p || !filled(p, size, 7)) {
		printf("# the dma-buf does not hold what the sender wrote\n");
		good = false;
	}
	if (p)
		munmap(p, size);
	close(ends_of_socket[0]);
	close(ends_of_socket[1]);
	return good && soon_nothing(before);
}

static const struct {
	const char *name;
	bool (*round)(const struct left *before);
	int share;		/* how many of ten rounds */
} ways[] = {
	{ "killed at any moment", killed, 5 },
	{ "killed with MRs in use", killed_in_use, 1 },
	{ "exit", exited, 1 },
	{ "exec", became_another, 1 },
	{ "killed, but for a child with all of it", inherited, 1 },
	{ "killed, with descriptors passed on", passed_on, 1 },
};

enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static int way_of(int round)
{
	int way = 0;

	for (round %= 10; round >= ways[way].share; way++)
		round -= ways[way].share;
	return way;
}

int main(int argc, char **argv)
{
	int rounds, done[WAYS] = { 0 }, failed[WAYS] = { 0 }, way;
	unsigned int first;
	struct left before;

	if (argc != 5) {
		fprintf(stderr, "usage: ends DOOR DEV ALLOCATE ROUNDS\n");
		return EXIT_FAILURE;
	}
	door_choose(argv[1]);
	path = argv[2];
	allocate = argv[3];
	rounds = atoi(argv[4]);
	first = seed_of_run();
	fd = open_device(path, O_RDWR);
	context = open_rdma_device("rxe0");
	if (pipe2(ready, O_CLOEXEC))
		give_up("pipe");
	before = count();

	for (int round = 0; round < rounds; round++) {
		seed = first + round;
		way = way_of(round);
		done[way]++;
		if (!ways[way].round(&before)) {
			printf("# round %d: %s\n", round, ways[way].name);
			failed[way]++;
			/* What is left stays, and all others would wait. */
			break;
		}
	}
	for (way = 0; way < WAYS; way++)
		ok(done[way] && !failed[way], "%s: nothing is left, %d times",
		   ways[way].name, done[way]);
	return done_testing();
}
