// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_blocked DEV FILE SECONDS COMMAND: page faults of FILE wait for ever.
 * Registration of a page of DEV and one of FILE says EFAULT without waiting for
 * that, and so does COMMAND, which takes DEV's memory away meanwhile, end within
 * SECONDS.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE };

static struct ibv_pd *pd;
static char *p;
/* of a registration that has come back; 0 if it succeeded */
static int error;
static bool volatile finished;

static void *registers(void *arg)
{
	(void)arg;
	error = ibv_reg_mr(pd, p, 2 * PAGE, IBV_ACCESS_LOCAL_WRITE) ? 0 : errno;
	finished = true;
	return NULL;
}

static bool has_finished(void)
{
	return finished;
}

static void nothing(void)
{
	usleep(1000);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	double seconds, took;
	bool good;

	if (argc != 5) {
		fprintf(stderr, "usage: verbs_blocked DEV FILE SECONDS COMMAND\n");
		return EXIT_FAILURE;
	}
	seconds = atof(argv[3]);
	pd = alloc_pd_on("rxe0");
	p = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED ||
	    mmap(p, PAGE, RW, MAP_SHARED | MAP_FIXED,
		 open_device(argv[1], O_RDWR), 0) == MAP_FAILED ||
	    mmap(p + PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED,
		 open_device(argv[2], O_RDWR), 0) == MAP_FAILED)
		give_up("mmap");

	if (pthread_create(&thread, NULL, registers, NULL))
		give_up("thread");
	repeat_until(has_finished, nothing, 1);
	good = !run_beside(argv[4], nothing, &took);
	printf("# %.1f s\n", took);
	ok(good && took < seconds, "it ends within %s s", argv[3]);
	good = repeat_until(has_finished, nothing, seconds);
	ok(good && error == EFAULT, "the registration was refused");
	if (!good)
		printf("# it did not come back\n");
	return done_testing();
}
