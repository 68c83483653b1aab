// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * hca_revoke RDMA-DEVICE ID ROUNDS SECONDS: memory of the device ID is taken away
 * while an RDMA device that has DMA (edu_hca) is at it. Each time, when the unbind has
 * returned, which takes less than so long, DMA to it is at an end, none starts any
 * more, and others go on. Needs root.
 */
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, PIECE = 2048 };

static struct hca hca;
static char *host;
static struct hca_mr host_mr, mr;
static int limit;
static atomic_bool gone, stop;
static atomic_ulong before, refused, late, odd;

/* DMA to the memory, and to host memory once that is refused. */
static void *use(void *unused)
{
	(void)unused;
	while (!stop) {
		bool was_gone = gone;

		if (!hca_copy(&hca, &host_mr, host, &mr, mr.p, PIECE)) {
			before++;
			late += was_gone;
		} else if (errno == EIO) {
			refused++;
		} else {
			odd++;
		}
	}
	return NULL;
}

/* The first word that the command prints. */
static void output_of(const char *command, char word[128])
{
	FILE *pipe = popen(command, "r");

	word[0] = 0;
	if (!pipe || fscanf(pipe, "%127s", word) != 1)
		give_up("%s", command);
	pclose(pipe);
}

static bool run(const char *format, const char *id)
{
	char command[256];

	snprintf(command, sizeof(command), format, id);
	return !system(command);
}

static bool unchanged(const char *id)
{
	char command[64], first[128], second[128];

	snprintf(command, sizeof(command), "lab-host digest %s", id);
	output_of(command, first);
	/* longer than edu takes for two copies */
	usleep(500000);
	output_of(command, second);
	return !strcmp(first, second);
}

static bool was_refused(void)
{
	return refused;
}

static void wait_a_little(void)
{
	usleep(1000);
}

static bool asked(int error)
{
	struct edu_hca_part part;

	errno = 0;
	return (hca_query(&hca, &mr, 0, &part) ? errno : 0) == error;
}

static void one_round(unsigned int round, const char *id, const char *node,
		      uint32_t *seed)
{
	bool dmabuf = round % 2, unbound, dead, still, works;
	int fd = open_device(node, O_RDWR), buf_fd;
	double start, took;
	pthread_t thread;
	uint64_t free;
	char *p;

	buf_fd = alloc_region(fd, PAGE, 0, O_RDWR | O_CLOEXEC);
	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	p = map_or_give_up(buf_fd, PAGE);
	if (dmabuf ? hca_reg_dmabuf(&hca, buf_fd, 0, PAGE, p,
				    IBV_ACCESS_LOCAL_WRITE, &mr) :
		     hca_reg(&hca, p, PAGE, IBV_ACCESS_LOCAL_WRITE, &mr))
		give_up("MR, round %u", round);
	gone = false;
	stop = false;
	before = 0;
	refused = 0;
	if (pthread_create(&thread, NULL, use, NULL))
		give_up("pthread_create");
	while (!before && !odd)
		usleep(1000);
	usleep(random_next(seed) % 300000);
	start = now();
	unbound = run("a=$(lab-host address %s); echo $a >/sys/bus/pci/drivers/iopmem/unbind",
		      id);
	took = now() - start;
	gone = true;
	/* what was under way when that was set */
	still = unchanged(id);
	dead = asked(EIO);
	repeat_until(was_refused, wait_a_little, 60);
	stop = true;
	pthread_join(thread, NULL);
	works = !hca_copy(&hca, &host_mr, host, &host_mr, host + PIECE, PIECE);
	hca_dereg(&hca, &mr);
	munmap(p, PAGE);
	close(buf_fd);
	close(fd);
	if (!run("iopmem-bind %s >/dev/null", id))
		give_up("bind %s again", id);
	fd = open_device(node, O_RDWR);
	free = device_free(fd);
	close(fd);
	if (!ok(unbound && still && dead && works && !late && !odd && refused &&
		took < limit && free, "round %u, %s: revoked under DMA", round,
		dmabuf ? "dma-buf" : "mapping"))
		printf("# unbound %d in %.1f s, unchanged %d, dead %d, others %d, late %lu, odd %lu, refused %lu\n",
		       unbound, took, still, dead, works, (unsigned long)late,
		       (unsigned long)odd, (unsigned long)refused);
}

int main(int argc, char **argv)
{
	char node[128], command[128];
	uint32_t seed;

	if (argc != 5) {
		fprintf(stderr, "usage: hca_revoke RDMA-DEVICE ID ROUNDS SECONDS\n");
		return EXIT_FAILURE;
	}
	limit = atoi(argv[4]);
	seed = seed_of_run();
	hca = hca_open(argv[1]);
	host = aligned_alloc(PAGE, PAGE);
	if (!host)
		give_up("memory");
	host_mr = hca_reg_or_give_up(&hca, host, PAGE);
	fill(host, PAGE, 1);
	snprintf(command, sizeof(command), "iopmem-bind %s", argv[2]);
	output_of(command, node);
	for (int i = 0; i < atoi(argv[3]); i++)
		one_round(i, argv[2], node, &seed);
	return done_testing();
}
