// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * alloc_beside DEV HUGE ROUNDS: a range of HUGE bytes that is free can be had
 * each time, whatever small ranges another thread takes meanwhile. DEV has room
 * for both.
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

static bool take(size_t size)
{
	int buf_fd = alloc_region(fd, size, IOPMEM_ALLOC_NOZERO,
				  O_RDWR | O_CLOEXEC);

	if (buf_fd >= 0)
		close(buf_fd);
	return buf_fd >= 0;
}

/* A refusal is none of its business: HUGE may be all that there was. */
static void *take_small_ones(void *unused)
{
	(void)unused;
	while (!stop)
		taken += take(SMALL);
	return NULL;
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
		refused += !take(huge);
	stop = true;
	pthread_join(beside, NULL);

	printf("# %d times %zu MiB beside %lu small ranges: %d refused\n",
	       rounds, huge >> 20, (unsigned long)taken, refused);
	ok(!refused && taken, "%zu MiB can be had beside small ranges",
	   huge >> 20);
	return done_testing();
}
