// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_limit DEV LIMIT: DEV's user_limit is LIMIT bytes. Memory that only MRs
 * hold any more counts as what is mapped does, however it was mapped.
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
static size_t half;
static int fd;

/* One mapping that is two since a part of it has other rights. */
static char *split(void)
{
	char *p = map_or_give_up(fd, half);

	if (mprotect(p + half - PAGE, PAGE, PROT_READ))
		give_up("mprotect");
	return p;
}

static char *side_by_side(void)
{
	char *p = mmap(NULL, half, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	for (int i = 0; i < 2; i++)
		if (p == MAP_FAILED ||
		    mmap(p + i * half / 2, half / 2, RW, MAP_SHARED | MAP_FIXED,
			 fd, 0) == MAP_FAILED)
			give_up("mmap");
	return p;
}

/* Both halves of what may be had end in MRs. */
static void only_mrs(char *(*get)(void), const char *name)
{
	uint64_t before = device_free(fd);
	struct ibv_mr *mrs[2];
	char *p;

	for (int i = 0; i < 2; i++) {
		p = get();
		mrs[i] = ibv_reg_mr(pd, p, half, IBV_ACCESS_REMOTE_READ);
		if (!mrs[i])
			give_up("ibv_reg_mr");
		munmap(p, half);
	}
	ok(before - device_free(fd) == 2 * half, "%s: MRs have it", name);
	errno = 0;
	p = map_shared(fd, PAGE, RW);
	fails(!p, EDQUOT, "%s: nothing more can be had", name);
	if (p)
		munmap(p, PAGE);
	for (int i = 0; i < 2; i++)
		ibv_dereg_mr(mrs[i]);
	ok(device_free(fd) == before, "%s: it is free when they are gone",
	   name);
	p = map_shared(fd, 2 * half, RW);
	ok(p, "%s: and can be had", name);
	if (p)
		munmap(p, 2 * half);
}

struct mover {
	char *at;
	unsigned int late;	/* in some hundred instructions */
	bool over;
	pthread_barrier_t barrier;
};

static void *move_pages(void *arg)
{
	struct mover *m = arg;
	char *page, *behind = m->at + PAGE;

	for (;;) {
		page = map_or_give_up(fd, PAGE);
		touch(page, true);
		pthread_barrier_wait(&m->barrier);
		if (m->over)
			break;
		for (volatile unsigned int i = 0; i < m->late * 100; i++)
			;
		if (mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   behind) != behind ||
		    mmap(behind, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED, -1, 0) != behind)
			give_up("mremap");
		pthread_barrier_wait(&m->barrier);
		/* the other one looks at what is free */
		pthread_barrier_wait(&m->barrier);
	}
	munmap(page, PAGE);
	return NULL;
}

/*
 * One thread registers a page of the device and the page behind it, which is
 * host memory until the other thread moves another page of the device there,
 * and takes it away again. If the registration got that one, it must count.
 */
static void moved_behind(void)
{
	enum { ROUNDS = 1500 };
	uint64_t before = device_free(fd);
	struct mover m = { .at = mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE |
				      MAP_ANONYMOUS, -1, 0) };
	int lost = 0, got = 0;
	struct ibv_mr *mr;
	pthread_t thread;

	if (m.at == MAP_FAILED ||
	    mmap(m.at, PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0) != m.at)
		give_up("mmap");
	pthread_barrier_init(&m.barrier, NULL, 2);
	if (pthread_create(&thread, NULL, move_pages, &m))
		give_up("pthread_create");
	for (int i = 0; i < ROUNDS; i++) {
		m.late = i % 100;
		pthread_barrier_wait(&m.barrier);
		mr = ibv_reg_mr(pd, m.at, 2 * PAGE, IBV_ACCESS_REMOTE_READ);
		pthread_barrier_wait(&m.barrier);
		if (mr) {
			got++;
			lost += device_free(fd) != before - 2 * PAGE;
			ibv_dereg_mr(mr);
		}
		pthread_barrier_wait(&m.barrier);
	}
	m.over = true;
	pthread_barrier_wait(&m.barrier);
	pthread_join(thread, NULL);
	printf("# registered %d times of %d\n", got, ROUNDS);
	if (!ok(!lost, "what is moved into a range that is being registered"))
		printf("# did not count %d times\n", lost);
	munmap(m.at, 2 * PAGE);
	pthread_barrier_destroy(&m.barrier);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: verbs_limit DEV LIMIT\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	half = parse_size(argv[2]) / 2;
	pd = alloc_pd_on("rxe0");
	only_mrs(split, "a mapping in two parts");
	only_mrs(side_by_side, "two mappings");
	moved_behind();
	return done_testing();
}
