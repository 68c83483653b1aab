// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * stall DEV LARGE HUGE SECONDS: how long others wait while LARGE bytes are
 * zeroed, and while HUGE ones are freed: allocation, mmap, the first touch,
 * munmap and a question for what is free, none of which may take SECONDS, nor half of
 * the time that freeing takes. The figures are printed. What has been zeroed is mapped
 * and touched before it is freed.
 *
 * Runs as root: the HUGE bytes come with IOPMEM_ALLOC_NOZERO.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SMALL = 16 * PAGE, STEPS = 5, MOST = 4 };

static const char *const steps[STEPS] = {
	"mmap", "touch", "munmap", "IOPMEM_IOC_ALLOC", "IOPMEM_IOC_INFO",
};

/* Less than twice as many seconds may be another process's turn. */
static const double NOISE = 0.02;

static int fd, flags, go[2];
static size_t size;
static double longest[STEPS];

static void step(int i, double *since)
{
	double t = now();

	if (t - *since > longest[i])
		longest[i] = t - *since;
	*since = t;
}

static void use_a_little(void)
{
	double t = now();
	int buf_fd;
	char *p;

	p = map_or_give_up(fd, SMALL);
	step(0, &t);
	touch(p, true);
	step(1, &t);
	munmap(p, SMALL);
	step(2, &t);
	buf_fd = alloc_region(fd, SMALL, 0, O_RDWR | O_CLOEXEC);
	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	step(3, &t);
	close(buf_fd);
	t = now();
	device_free(fd);
	step(4, &t);
}

static void *map_and_touch(int buf_fd)
{
	char *p = map_or_give_up(buf_fd, size);

	for (size_t i = 0; i < size; i += PAGE)
		touch(p + i, true);
	return p;
}

/*
 * In a child: allocate, say so, be told, free, say how long that took. Its exit frees
 * nothing more.
 */
static pid_t start(int *told)
{
	double start_time, took;
	int ends[2], buf_fd;
	void *p = NULL;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) || pipe2(go, O_CLOEXEC))
		give_up("pipe");
	pid = fork();
	if (pid) {
		close(ends[1]);
		close(go[0]);
		*told = ends[0];
		return pid;
	}
	close(go[1]);
	buf_fd = alloc_region(fd, size, flags, O_RDWR | O_CLOEXEC);
	if (buf_fd < 0)
		_exit(1);
	if (!flags)
		p = map_and_touch(buf_fd);
	if (write(ends[1], "", 1) != 1)
		_exit(1);
	if (read(go[0], &(char){ 0 }, 1) != 0)
		_exit(2);
	start_time = now();
	close(buf_fd);
	if (p)
		munmap(p, size);
	took = now() - start_time;
	if (write(ends[1], &took, sizeof(took)) != sizeof(took))
		_exit(3);
	_exit(0);
}

/*
 * Until the child has written, or ended. One turn at least: freeing may be over
 * before we get to run again.
 */
static int measure_until(int told, pid_t pid, int *status)
{
	int turns = 0;
	bool over;

	memset(longest, 0, sizeof(longest));
	if (told >= 0)
		fcntl(told, F_SETFL, O_NONBLOCK);
	do {
		use_a_little();
		turns++;
		if (told >= 0)
			over = read(told, &(char){ 0 }, 1) >= 0;
		else
			over = waitpid(pid, status, WNOHANG) == pid;
	} while (!over);
	return turns;
}

static bool report(const char *what, double seconds, int turns, double limit)
{
	bool good = true;

	printf("# %s %zu MiB took %.0f ms; of %d others meanwhile the slowest took, in ms:",
	       what, size >> 20, seconds * 1e3, turns);
	for (int i = 0; i < STEPS; i++) {
		printf(" %s %.2f", steps[i], longest[i] * 1e3);
		good &= longest[i] < limit;
	}
	putchar('\n');
	return good;
}

/* Allocates and frees. */
static void measure(double limit, bool *zeroing, bool *freeing)
{
	int told, turns, status;
	double start_time, seconds;
	pid_t pid;

	start_time = now();
	pid = start(&told);
	turns = measure_until(told, pid, NULL);
	*zeroing = report(flags ? "allocating" : "zeroing", now() - start_time,
			  turns, limit);
	/* It frees as soon as we close this. */
	close(go[1]);
	turns = measure_until(-1, pid, &status);
	if (status || read(told, &seconds, sizeof(seconds)) != sizeof(seconds))
		give_up("allocation of %zu MiB", size >> 20);
	if (seconds > NOISE && seconds / 2 < limit)
		limit = seconds / 2;
	*freeing = report("freeing", seconds, turns, limit);
	close(told);
}

/*
 * A busy host may stop the guest for a second, too, but not each time; for half of
 * what freeing takes, some of the times.
 */
static void stalls_nobody(size_t bytes, int alloc_flags, double limit)
{
	int good_freeing = 0, bad_freeing = 0;
	bool zeroing = false, good[2];

	size = bytes;
	flags = alloc_flags;
	while (good_freeing < MOST && bad_freeing < MOST) {
		measure(limit, &good[0], &good[1]);
		zeroing |= good[0];
		good_freeing += good[1];
		bad_freeing += !good[1];
	}
	if (!flags)
		ok(zeroing, "zeroing %zu MiB stalls nobody for %g s",
		   size >> 20, limit);
	ok(good_freeing == MOST, "freeing %zu MiB stalls nobody for %g s, nor for half of its time",
	   size >> 20, limit);
}

int main(int argc, char **argv)
{
	double limit;

	if (argc != 5) {
		fprintf(stderr, "usage: stall DEV LARGE HUGE SECONDS\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	limit = atof(argv[4]);
	stalls_nobody(parse_size(argv[2]), 0, limit);
	stalls_nobody(parse_size(argv[3]), IOPMEM_ALLOC_NOZERO, limit);
	return done_testing();
}
