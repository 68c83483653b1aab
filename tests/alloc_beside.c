// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * alloc_beside DEV HUGE ROUNDS: a range of HUGE bytes that is free can be had
 * each time, whatever small ranges another thread takes meanwhile. DEV has room
 * for both.
 *
 * HUGE goes back while nobody looks for a small range: a search that it overtakes
 * may end in the middle of what has become free, and then there is no such range.
 *
 * Runs as root: with IOPMEM_ALLOC_NOZERO a round takes no longer than it must.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

enum { SMALL = 16 * 4096 };

static int fd;
static atomic_bool stop;
static atomic_ulong taken;
/* A search for a small range, and the end of the huge one. */
static pthread_mutex_t search = PTHREAD_MUTEX_INITIALIZER;

static int take(size_t size)
{
	return alloc_region(fd, size, IOPMEM_ALLOC_NOZERO, O_RDWR | O_CLOEXEC);
}

/* A refusal is none of its business: HUGE may be all that there was. */
static void *take_small_ones(void *unused)
{
	int buf_fd;

	(void)unused;
	while (!stop) {
		pthread_mutex_lock(&search);
		buf_fd = take(SMALL);
		pthread_mutex_unlock(&search);
		if (buf_fd < 0)
			continue;
		taken++;
		close(buf_fd);
	}
	return NULL;
}

static bool take_huge_one(size_t size)
{
	int buf_fd = take(size);

	if (buf_fd < 0)
		return false;
	pthread_mutex_lock(&search);
	close(buf_fd);
	pthread_mutex_unlock(&search);
	return true;
}

int main(int argc, char **argv)
{
	int rounds, refused = 0;
	pthread_t beside;
	size_t huge;

	if (argc != 4) {
		fprintf(stderr, "usage: alloc_beside DEV HUGE ROUNDS\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	huge = parse_size(argv[2]);
	rounds = atoi(argv[3]);

	if (pthread_create(&beside, NULL, take_small_ones, NULL))
		give_up("pthread_create");
	for (int i = 0; i < 60000 && !taken; i++)
		usleep(1000);
	for (int i = 0; i < rounds; i++)
		refused += !take_huge_one(huge);
	stop = true;
	pthread_join(beside, NULL);

	printf("# %d times %zu MiB beside %lu small ranges: %d refused\n",
	       rounds, huge >> 20, (unsigned long)taken, refused);
	ok(!refused && taken, "%zu MiB can be had beside small ranges",
	   huge >> 20);
	return done_testing();
}
