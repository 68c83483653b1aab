// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * user_limit DEV LIMIT RESET: what a user gets of DEV's memory when LIMIT, the
 * user_limit in sysfs, says how much. RESET is a command that has the memory
 * revoked and offered again, or "". Needs root, which it is until it is one of
 * the users.
 */
#include <fcntl.h>
#include <limits.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

enum {
	ALICE = 2001,
	BOB = 2002,
	PAGE = 4096,
	MIB = 1 << 20,
	LIMIT = 4 * MIB,
	RACERS = 3,
	RACES = 20,
	PIECE = 64 * 1024,
};

static const char *attribute;
static int dev;

/* ---- the attribute */

/* 0, or an errno */
static int write_limit(const char *text)
{
	int fd = open(attribute, O_WRONLY | O_CLOEXEC);
	ssize_t n;
	int error;

	if (fd < 0)
		return errno;
	n = write(fd, text, strlen(text));
	error = n < 0 ? errno : 0;
	close(fd);
	return error;
}

static void set_limit(size_t limit)
{
	char text[32];

	snprintf(text, sizeof(text), "%zu\n", limit);
	errno = write_limit(text);
	if (errno)
		give_up("write to %s", attribute);
}

static const char *limit_text(void)
{
	static char text[32];
	int fd = open_device(attribute, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static void values(void)
{
	static const struct { const char *text; int error; } bad[] = {
		{ "-1", EINVAL }, { "x", EINVAL }, { "1K", EINVAL },
		{ "1 2", EINVAL }, { "\n", EINVAL },
		{ "18446744073709551616", ERANGE },
	};

	ok(!strcmp(limit_text(), "0"), "there is no limit by default");
	set_limit(LIMIT + 1234);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		errno = write_limit(bad[i].text);
		fails(errno, bad[i].error, "\"%s\" as a limit",
		      strcmp(bad[i].text, "\n") ? bad[i].text : "");
	}
	ok(!strcmp(limit_text(), "4195538"), "it reads as it was written");
	ok(!write_limit("18446744073709551615") &&
	   !strcmp(limit_text(), "18446744073709551615"),
	   "the largest number is one");
	ok(!write_limit("0x400000\n") && !strcmp(limit_text(), "4194304"),
	   "hexadecimal is accepted");
}

/* ---- users */

static void become(uid_t uid)
{
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
	    setresuid(uid, uid, uid))
		_exit(126);
}

/* What a process allocates it keeps until its end. */
static int keep_mapping(size_t size)
{
	return map_shared(dev, size, PROT_READ | PROT_WRITE) ? 0 : errno;
}

static int keep_dmabuf(size_t size)
{
	return alloc_region(dev, size, 0, O_RDWR | O_CLOEXEC) < 0 ? errno : 0;
}

struct request {
	uid_t uid;
	size_t mapped, allocated;	/* must succeed */
	size_t more;			/* bytes that must not, by either way */
	int error;
};

/* Exit status 0 if all is as requested; the memory goes with the process. */
static int fulfil(void *arg)
{
	struct request *r = arg;

	become(r->uid);
	if ((r->mapped && keep_mapping(r->mapped)) ||
	    (r->allocated && keep_dmabuf(r->allocated)))
		return 1;
	if (!r->more)
		return 0;
	if (keep_mapping(r->more) != r->error)
		return 2;
	return keep_dmabuf(r->more) == r->error ? 0 : 3;
}

static void user(uid_t uid, size_t mapped, size_t allocated, size_t more,
		 const char *what)
{
	struct request r = { uid, mapped, allocated, more, EDQUOT };
	int status = in_child(fulfil, &r);

	if (!ok(!status, "%s", what))
		printf("# %s\n", status == 1 ? "what it may have is refused" :
		       status == 2 ? "not so by mmap" :
		       status == 3 ? "not so by IOPMEM_IOC_ALLOC" : "it died");
}

/* The user has nothing at the moment, or else could not have it all. */
static void all_returned(uid_t uid, const char *what)
{
	user(uid, LIMIT, 0, PAGE, what);
}

/* ---- a child that holds something until it is told to go on */

struct holder {
	pid_t pid;
	int go[2], ready[2];
};

static void say(int fd)
{
	if (write(fd, "", 1) != 1)
		_exit(125);
}

static bool hear(int fd)
{
	char c;

	return read(fd, &c, 1) == 1;
}

/* fn does its first half, calls say_and_wait(), and does the second one. */
static struct holder *me;

static void say_and_wait(void)
{
	say(me->ready[1]);
	hear(me->go[0]);
}

static void start(struct holder *h, uid_t uid, void (*fn)(void))
{
	if (pipe2(h->go, O_CLOEXEC) || pipe2(h->ready, O_CLOEXEC))
		give_up("pipe");
	h->pid = fork();
	if (h->pid < 0)
		give_up("fork");
	if (!h->pid) {
		me = h;
		close(h->ready[0]);
		close(h->go[1]);
		if (uid)
			become(uid);
		fn();
		_exit(0);
	}
	close(h->ready[1]);
	close(h->go[0]);
	if (!hear(h->ready[0]))
		give_up("a child got no memory");
}

/* False if it has ended. */
static bool go_on(struct holder *h)
{
	say(h->go[1]);
	return hear(h->ready[0]);
}

static void finish(struct holder *h)
{
	close(h->go[1]);
	close(h->ready[0]);
	waitpid(h->pid, NULL, 0);
}

static void hold_all(void)
{
	if (keep_mapping(LIMIT / 2) || keep_dmabuf(LIMIT / 2))
		_exit(1);
	say_and_wait();
}

static void return_step_by_step(void)
{
	char *p = map_shared(dev, LIMIT, PROT_READ | PROT_WRITE);

	if (!p)
		_exit(1);
	say_and_wait();
	munmap(p, LIMIT / 2);
	say_and_wait();
	munmap(p + LIMIT / 2, LIMIT / 2);
	say_and_wait();
}

static void close_step_by_step(void)
{
	int fd = alloc_region(dev, LIMIT, 0, O_RDWR | O_CLOEXEC);
	void *p = fd < 0 ? NULL : map_shared(fd, LIMIT, PROT_READ);

	if (!p)
		_exit(1);
	say_and_wait();
	close(fd);
	say_and_wait();
	munmap(p, LIMIT);
	say_and_wait();
}

/* The child of the one that allocated keeps it. */
static void leave_to_child(void)
{
	void *p = map_shared(dev, LIMIT, PROT_READ | PROT_WRITE);

	if (!p)
		_exit(1);
	if (fork())
		_exit(0);
	say_and_wait();
}

static int handed_over;

static void hold_others_dmabuf(void)
{
	int sockets[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		_exit(1);
	pid = fork();
	if (!pid) {
		int fd;

		become(ALICE);
		fd = alloc_region(dev, LIMIT, 0, O_RDWR | O_CLOEXEC);
		_exit(fd < 0 || send_fd(sockets[1], fd));
	}
	handed_over = receive_fd(sockets[0]);
	if (wait_for(pid) || handed_over < 0)
		_exit(1);
	become(BOB);
	if (!map_shared(handed_over, LIMIT, PROT_READ))
		_exit(1);
	say_and_wait();
}

/* Root's allocation, and then an ordinary user. */
static void change_user(void)
{
	if (keep_mapping(LIMIT))
		_exit(1);
	become(ALICE);
	say_and_wait();
	if (keep_mapping(LIMIT) || keep_mapping(PAGE) != EDQUOT)
		_exit(1);
	say_and_wait();
}

static void lifetime(void)
{
	struct holder h;

	start(&h, ALICE, hold_all);
	user(ALICE, 0, 0, PAGE, "it is the user's limit, not the process's");
	user(BOB, LIMIT, 0, PAGE, "another user has one of their own");
	kill(h.pid, SIGKILL);
	finish(&h);
	all_returned(ALICE, "kill -9 returns it");

	start(&h, ALICE, return_step_by_step);
	go_on(&h);
	user(ALICE, 0, 0, PAGE, "munmap() of a half returns nothing");
	go_on(&h);
	all_returned(ALICE, "munmap() of the rest returns it");
	finish(&h);

	start(&h, ALICE, close_step_by_step);
	go_on(&h);
	user(ALICE, 0, 0, PAGE, "close() of a dma-buf that is mapped does not");
	go_on(&h);
	all_returned(ALICE, "the end of the mapping does");
	finish(&h);

	start(&h, ALICE, leave_to_child);
	user(ALICE, 0, 0, PAGE,
	     "it is charged while a child of the allocator has it");
	/* A process's memory goes before its files. */
	go_on(&h);
	finish(&h);
	all_returned(ALICE, "and not longer");

	start(&h, 0, hold_others_dmabuf);
	user(ALICE, 0, 0, PAGE,
	     "who has passed a dma-buf on is charged for it");
	user(BOB, LIMIT, 0, PAGE, "who got it is not");
	finish(&h);
	all_returned(ALICE, "when that one closes it, it is returned");

	start(&h, 0, change_user);
	ok(go_on(&h), "it is charged to who allocated it, whoever that is later");
	finish(&h);
}

/* ---- who is exempt */

static int without_capability(void *arg)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct caps[2];

	(void)arg;
	if (syscall(SYS_capget, &header, caps))
		return 10;
	caps[0].effective &= ~(1U << CAP_SYS_RESOURCE);
	if (syscall(SYS_capset, &header, caps))
		return 11;
	return keep_mapping(LIMIT) ?: keep_mapping(PAGE) == EDQUOT ? 0 : 12;
}

static int in_own_user_namespace(void *arg)
{
	(void)arg;
	become(ALICE);
	if (unshare(CLONE_NEWUSER))
		return 10;
	return keep_mapping(LIMIT) ?: keep_mapping(PAGE) == EDQUOT ? 0 : 12;
}

static int root_takes_more(void *arg)
{
	(void)arg;
	return keep_mapping(LIMIT) ?: keep_dmabuf(LIMIT) ?:
	       keep_mapping(PAGE);
}

static void exempt(void)
{
	ok(!in_child(root_takes_more, NULL), "root is exempt");
	ok(!in_child(without_capability, NULL),
	   "but not without CAP_SYS_RESOURCE");
	ok(!in_child(in_own_user_namespace, NULL),
	   "having it in a user namespace of one's own does not count");
}

/* ---- changes */

static void changes(void)
{
	struct holder h;

	set_limit(0);
	start(&h, ALICE, hold_all);
	set_limit(LIMIT);
	user(ALICE, 0, 0, PAGE, "what was there before the limit counts");
	set_limit(PAGE);
	user(ALICE, 0, 0, PAGE, "less than the user has: nothing more");
	go_on(&h);
	set_limit(LIMIT + PAGE);
	finish(&h);
	user(ALICE, LIMIT, PAGE, PAGE, "it can be raised");
	set_limit(0);
	user(ALICE, 4 * LIMIT, 0, 0, "and lifted");
	set_limit(1);
	user(ALICE, 0, 0, PAGE, "less than a page is nothing");
	set_limit(LIMIT);
}

/* ---- processes of one user that race for the last byte */

struct race {
	atomic_int turns[RACERS]; /* that each has come to */
	atomic_int pieces[RACERS];
	atomic_int others;
};

static struct race *race;

/* They ask at the same time, each time. */
static void wait_for_turn(int racer, int turn)
{
	race->turns[racer] = turn;
	for (int i = 0; i < RACERS; i++)
		while (race->turns[i] < turn)
			sched_yield();
}

static void run_race(int racer)
{
	int error = 0;

	become(ALICE);
	for (int turn = 1; !error; turn++) {
		wait_for_turn(racer, turn);
		error = (racer + turn) & 1 ? keep_mapping(PIECE) :
					     keep_dmabuf(PIECE);
		race->pieces[racer] += !error;
	}
	if (error != EDQUOT)
		race->others++;
	/* Nobody returns anything before all have been refused. */
	wait_for_turn(racer, INT_MAX);
	_exit(0);
}

static void races(void)
{
	int exact = 0, all_took_part = 0;

	race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (race == MAP_FAILED)
		give_up("mmap");
	for (int i = 0; i < RACES; i++) {
		int pieces = 0, part = 0;

		memset(race, 0, sizeof(*race));
		for (int j = 0; j < RACERS; j++)
			if (!fork())
				run_race(j);
		while (wait(NULL) > 0)
			;
		for (int j = 0; j < RACERS; j++) {
			pieces += race->pieces[j];
			part += race->pieces[j] > 0;
		}
		exact += pieces == LIMIT / PIECE && !race->others;
		all_took_part += part == RACERS;
	}
	if (!ok(exact == RACES, "processes that race get it all, and no more"))
		printf("# in %d of %d races\n", exact, RACES);
	if (!ok(all_took_part == RACES, "%d took part in each race", RACERS))
		printf("# in %d of %d races\n", all_took_part, RACES);
}

static void revocation(const char *reset)
{
	struct holder h;

	start(&h, ALICE, hold_all);
	user(ALICE, 0, 0, PAGE, "before a revocation: charged");
	ok(!system(reset), "%s", reset);
	ok(!strcmp(limit_text(), "4194304"), "the limit is still there");
	all_returned(ALICE, "revocation returns it, though the dead are kept");
	finish(&h);
	all_returned(ALICE, "whose end returns nothing twice");
}

int main(int argc, char **argv)
{
	uint64_t whole;

	if (argc != 4) {
		fprintf(stderr, "usage: user_limit DEV LIMIT RESET\n");
		return EXIT_FAILURE;
	}
	dev = open_device(argv[1], O_RDWR);
	attribute = argv[2];
	whole = device_free(dev);

	values();
	set_limit(LIMIT + PAGE - 1);
	user(ALICE, LIMIT, 0, PAGE, "rounded down to pages: mmap");
	user(ALICE, 0, LIMIT, PAGE, "the same: IOPMEM_IOC_ALLOC");
	user(ALICE, LIMIT / 2, LIMIT / 2, 1, "half and half");
	user(ALICE, 0, 0, LIMIT + PAGE, "more at once");
	user(ALICE, PAGE, 0, LIMIT, "a little and too much");
	lifetime();
	exempt();
	changes();
	races();
	if (*argv[3])
		revocation(argv[3]);
	else
		skip("the device offers none", "reset");
	set_limit(0);
	ok(device_free(dev) == whole, "all is free");
	return done_testing();
}
