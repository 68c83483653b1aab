// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * revoke [-r] DEV SIZE SECONDS GONE BACK: what users of a device see when it
 * is taken from them while they use it.
 *
 * GONE is the shell command that takes the device away, within SECONDS. BACK
 * brings it back and prints its /dev/iopmemN; it may be empty.
 *	-r	GONE itself brings the device back, as a reset does: the node
 *		stays, and the files that are open can be used again
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

/* Seconds for the writers to notice, on a slow and busy machine */
enum { PATIENCE = 10 };

static size_t size;
static size_t page;

struct mapping {
	const char *name;
	char *p;
	int prot;
};

/* Writes here and there until a signal says that it is no longer allowed. */
static void write_all_over(void *p)
{
	volatile char *byte = p;

	for (size_t i = 0;; i = (i + page + 8) % size)
		byte[i]++;
}

static void *write_in_thread(void *p)
{
	return (void *)(long)attempt(write_all_over, p);
}

/* The signal that ended it, or -1 if it goes on writing. */
static int end_of_thread(pthread_t thread)
{
	struct timespec end;
	void *result;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += PATIENCE;
	if (pthread_timedjoin_np(thread, &result, &end))
		return -1;
	return (long)result;
}

static int end_of_child(pid_t pid)
{
	double end = now() + PATIENCE;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (now() > end) {
			kill(pid, SIGKILL);
			return wait_for(pid);
		}
		usleep(10000);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What one user of the device has of it. */
struct user {
	const char *dev;
	int fd, ro_fd, buf_fd, unmapped_fd;
	uint64_t whole;
	struct mapping maps[6];
	pid_t child;
	pthread_t thread;
};

enum { RW = PROT_READ | PROT_WRITE };

static struct mapping map_as(const char *name, int fd, int prot)
{
	struct mapping m = { name, map_shared(fd, size, prot), prot };

	if (!m.p)
		give_up("%s", name);
	return m;
}

static struct mapping map_and_move(const char *name, int fd)
{
	struct mapping m = map_as(name, fd, RW);
	char *to = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);

	ok(!touch(m.p, true), "%s works at first", name);
	m.p = mremap(m.p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	return m;
}

static void start_using(struct user *u, const char *dev)
{
	struct mapping *m = u->maps;

	u->dev = dev;
	u->fd = open_device(dev, O_RDWR);
	u->ro_fd = open_device(dev, O_RDONLY);
	u->whole = device_free(u->fd);
	u->buf_fd = alloc_region(u->fd, size, 0, O_RDWR | O_CLOEXEC);
	u->unmapped_fd = alloc_region(u->fd, size, 0, O_RDWR | O_CLOEXEC);
	if (u->buf_fd < 0 || u->unmapped_fd < 0)
		give_up("IOPMEM_IOC_ALLOC of %zu bytes", size);

	*m++ = map_as("mapping in use", u->fd, RW);
	*m++ = map_as("mapping never touched", u->fd, RW);
	*m++ = map_as("read-only mapping", u->ro_fd, PROT_READ);
	*m++ = map_as("mapping of a dma-buf", u->buf_fd, RW);
	*m++ = map_as("mapping of the same dma-buf", u->buf_fd, RW);
	*m++ = map_and_move("mapping that was moved", u->fd);
	for (m = u->maps + 2; m < u->maps + 5; m++)
		ok(!touch(m->p, m->prot & PROT_WRITE), "%s works at first",
		   m->name);

	u->child = fork();
	if (!u->child)
		_exit(attempt(write_all_over, u->maps[0].p));
	if (pthread_create(&u->thread, NULL, write_in_thread, u->maps[0].p))
		give_up("pthread_create");
}

/* Runs GONE. False if the device is still there. */
static bool take_away(struct user *u, const char *command, const char *limit)
{
	double start = now();
	int status = system(command);
	double seconds = now() - start;

	if (!ok(!status, "%s", command)) {
		kill(u->child, SIGKILL);
		return false;
	}
	if (!ok(seconds < atof(limit), "it returned within %s s", limit))
		printf("# it took %.1f s\n", seconds);
	return true;
}

static void all_dead(const struct user *u, const char *when)
{
	for (size_t i = 0; i < sizeof(u->maps) / sizeof(u->maps[0]); i++) {
		const struct mapping *m = u->maps + i;
		bool writable = m->prot & PROT_WRITE;

		ok(touch(m->p, writable) == SIGBUS &&
		   touch(m->p + size - 1, writable) == SIGBUS &&
		   touch(m->p, false) == SIGBUS, "%s: SIGBUS %s", m->name,
		   when);
	}
}

static int touch_in_child(void *p)
{
	return touch(p, true);
}

static void regions_dead(struct user *u)
{
	int zero_fd = open_device("/dev/zero", O_RDONLY);

	ok(end_of_thread(u->thread) == SIGBUS,
	   "a thread that writes gets SIGBUS");
	ok(end_of_child(u->child) == SIGBUS,
	   "so does a child on the same mapping");
	all_dead(u, "from now on");
	ok(in_child(touch_in_child, u->maps[0].p) == SIGBUS,
	   "and in a child made afterwards");
	fails(read(zero_fd, u->maps[0].p, page) < 0, EFAULT,
	      "system call that writes there");
	fails(!map_shared(u->buf_fd, size, RW), ENODEV, "mmap of its dma-buf");
	fails(!map_shared(u->unmapped_fd, size, RW), ENODEV,
	      "mmap of a dma-buf that had not been mapped");
	close(zero_fd);
}

/* The device that it was opened on is gone for good. */
static void file_dead(int fd)
{
	struct iopmem_info info;

	fails(!map_shared(fd, page, PROT_READ), ENODEV, "mmap of the old file");
	fails(alloc_region(fd, page, 0, O_RDWR) < 0, ENODEV,
	      "IOPMEM_IOC_ALLOC on the old file");
	fails(device_info(fd, &info), ENODEV, "IOPMEM_IOC_INFO on it");
}

/* Runs BACK. */
static void offered_again(const struct user *u, const char *command)
{
	FILE *pipe = popen(command, "re");
	char node[64] = "";
	bool printed;
	void *p;
	int fd;

	printed = pipe && fscanf(pipe, "%63s", node) == 1;
	if (!ok(pipe && !pclose(pipe) && printed, "it comes back, as %s", node))
		return;
	fd = open_device(node, O_RDWR);
	ok(device_free(fd) == u->whole,
	   "all of it is free, while dead mappings remain");
	all_dead(u, "still");

	p = map_or_give_up(fd, size);
	ok(all_zero(p, size), "a new mapping is zero");
	fill(p, size, 9);
	for (size_t i = 0; i < sizeof(u->maps) / sizeof(u->maps[0]); i++)
		munmap(u->maps[i].p, size);
	close(u->buf_fd);
	close(u->unmapped_fd);
	ok(filled(p, size, 9) && device_free(fd) == u->whole - size,
	   "the end of the dead regions does not touch it");
	munmap(p, size);
	ok(device_free(fd) == u->whole, "it can be given back");
	close(fd);
}

int main(int argc, char **argv)
{
	bool reset = argc > 1 && !strcmp(argv[1], "-r");
	const char *gone, *back;
	struct user u;

	argv += reset;
	if (argc - reset != 6) {
		fprintf(stderr, "usage: revoke [-r] DEV SIZE SECONDS GONE BACK\n");
		return EXIT_FAILURE;
	}
	size = parse_size(argv[2]);
	page = sysconf(_SC_PAGESIZE);
	gone = argv[4];
	back = argv[5];

	start_using(&u, argv[1]);
	if (!take_away(&u, gone, argv[3]))
		return done_testing();
	regions_dead(&u);
	if (!reset) {
		file_dead(u.fd);
		fails(open(u.dev, O_RDWR | O_CLOEXEC) < 0, ENOENT,
		      "open of the old node");
	}
	if (*back)
		offered_again(&u, back);
	if (*back && !reset)
		file_dead(u.fd);
	if (reset)
		ok(!touch(map_or_give_up(u.fd, page), true),
		   "files opened before can be used again");
	return done_testing();
}
