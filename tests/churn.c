// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * churn DEV SIZE [NVME]: threads that open, map, allocate, fork on and do
 * direct I/O to DEV's memory, again and again, until SIGTERM. Meanwhile DEV
 * may come and go: they take SIGBUS and the errors that go with it for an
 * answer, but nothing else.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

static const char *path;
static const char *nvme_path;
static size_t size;
static atomic_bool stop;
static atomic_ulong turns, losses, surprises;

static void surprise(const char *what)
{
	printf("# %s: %s\n", what, strerrorname_np(errno));
	surprises++;
}

/* A call failed: as it may when the device goes, or not? */
static void lost(const char *what, const int *allowed)
{
	losses++;
	while (*allowed && *allowed != errno)
		allowed++;
	if (!*allowed)
		surprise(what);
}

static int open_now(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		lost("open", (int[]){ ENOENT, ENODEV, ENXIO, 0 });
		usleep(1000);
	}
	return fd;
}

static void *map_now(int fd)
{
	void *p = map_shared(fd, size, PROT_READ | PROT_WRITE);

	if (!p)
		lost("mmap", (int[]){ ENODEV, ENOMEM, 0 });
	return p;
}

struct check {
	void *p;
	bool zero;
};

static void fresh(void *arg)
{
	struct check *check = arg;

	check->zero = all_zero(check->p, size);
	fill(check->p, size, 1);
}

static void use(void *p)
{
	struct check check = { .p = p, .zero = true };
	int sig = attempt(fresh, &check);

	if (sig == SIGBUS)
		losses++;
	else if (sig)
		surprise("SIGSEGV");
	else if (!check.zero)
		surprise("a fresh mapping is not zero");
	turns++;
}

static void *map_and_use(void *unused)
{
	(void)unused;
	while (!stop) {
		int fd = open_now();
		void *p = fd < 0 ? NULL : map_now(fd);

		if (p) {
			use(p);
			munmap(p, size);
		}
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void *alloc_and_use(void *unused)
{
	(void)unused;
	while (!stop) {
		int fd = open_now();
		int buf_fd;
		void *p;

		if (fd < 0)
			continue;
		buf_fd = alloc_region(fd, size, 0, O_RDWR | O_CLOEXEC);
		close(fd);
		if (buf_fd < 0) {
			lost("ALLOC", (int[]){ ENODEV, ENOMEM, 0 });
			continue;
		}
		p = map_now(buf_fd);
		close(buf_fd);
		if (p) {
			use(p);
			munmap(p, size);
		}
	}
	return NULL;
}

static int use_in_child(void *p)
{
	return touch(p, true);
}

static void *map_and_fork(void *unused)
{
	(void)unused;
	while (!stop) {
		int fd = open_now();
		void *p = fd < 0 ? NULL : map_now(fd);
		int sig;

		if (p) {
			touch(p, true);
			sig = in_child(use_in_child, p);
			if (sig == SIGBUS)
				losses++;
			else if (sig)
				surprise("a child's access");
			munmap(p, size);
			turns++;
		}
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void *direct_io(void *unused)
{
	int nvme = open_device(nvme_path, O_RDONLY | O_DIRECT);

	(void)unused;
	while (!stop) {
		int fd = open_now();
		void *p = fd < 0 ? NULL : map_now(fd);

		for (int i = 0; p && i < 16; i++) {
			ssize_t n = pread(nvme, p, size, 0);

			if (n == (ssize_t)size) {
				turns++;
				continue;
			}
			/* some of it, until the page tables had no more */
			if (n >= 0)
				errno = EFAULT;
			/* EFAULT from the page tables; the rest from below */
			lost("direct I/O",
			     (int[]){ EFAULT, EIO, EREMOTEIO, ENODEV, 0 });
			break;
		}
		if (p)
			munmap(p, size);
		if (fd >= 0)
			close(fd);
	}
	close(nvme);
	return NULL;
}

int main(int argc, char **argv)
{
	void *(*work[])(void *) = {
		map_and_use, alloc_and_use, map_and_fork, direct_io,
	};
	int n = argc == 4 ? 4 : 3;
	pthread_t threads[4];
	sigset_t ends;
	int sig;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: churn DEV SIZE [NVME]\n");
		return EXIT_FAILURE;
	}
	path = argv[1];
	size = parse_size(argv[2]);
	nvme_path = argv[3];

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	for (int i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, work[i], NULL))
			give_up("pthread_create");
	sigwait(&ends, &sig);
	stop = true;
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);

	printf("# %lu uses, %lu ended by the device's leaving\n", turns,
	       losses);
	ok(turns, "the memory was used");
	ok(!surprises, "nothing but the device's leaving was in the way");
	return done_testing();
}
