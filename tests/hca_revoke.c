// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * hca_revoke RDMA-DEVICE KIND ID ROUNDS SECONDS RESOURCE: memory of the device ID is
 * taken away while an RDMA device that has DMA (edu_hca) is at it. Each time, when the
 * unbind has returned, which takes less than so long, DMA to it is at an end, none
 * starts any more, and others go on. Where an IOMMU gives addresses (KIND is iova, see
 * hca_dma.c) those of the MR lead nowhere. RESOURCE is the BAR of edu's registers.
 * Needs root.
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
#include "edu_dma.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, PIECE = 2048 };

static struct hca hca;
static char *host;
static struct hca_mr host_mr, mr;
static volatile uint64_t *registers;
static bool translated;
static int limit;
static atomic_bool gone, stop;
static atomic_ulong before, refused, late, odd;

/* DMA to the memory, from host memory. */
static void *use(void *unused)
{
	unsigned int copies = 0;

	(void)unused;
	while (!stop) {
		bool was_gone = gone;

		/* bytes that are not there yet */
		memset(host, ++copies, PIECE);
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

/* At once, with no program to start: DMA does not take long. */
static bool unbind(const char *address)
{
	int fd = open_device("/sys/bus/pci/drivers/iopmem/unbind", O_WRONLY);
	bool good = write(fd, address, strlen(address)) > 0;

	close(fd);
	return good;
}

static bool bind_again(const char *id)
{
	char command[64];

	snprintf(command, sizeof(command), "iopmem-bind %s >/dev/null", id);
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

static bool host_memory_works(void)
{
	memset(host, 0xa5, PIECE);
	return !hca_copy(&hca, &host_mr, host, &host_mr, host + PIECE,
			 PIECE) &&
	       !memcmp(host, host + PIECE, PIECE);
}

static void one_round(unsigned int round, const char *id, const char *address,
		      const char *node, uint32_t *seed)
{
	bool dmabuf = round % 2, unbound, under_way, dead, still, works, nobodys;
	int fd = open_device(node, O_RDWR), buf_fd;
	struct edu_hca_part part;
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
	if (hca_query(&hca, &mr, 0, &part))
		give_up("its address");
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
	unbound = unbind(address);
	under_way = edu_writes(registers);
	took = now() - start;
	gone = true;
	still = unchanged(id);
	dead = asked(EIO);
	repeat_until(was_refused, wait_a_little, 60);
	stop = true;
	pthread_join(thread, NULL);
	works = host_memory_works();
	nobodys = !translated || edu_faults_soon(registers, part.address);
	hca_dereg(&hca, &mr);
	munmap(p, PAGE);
	close(buf_fd);
	close(fd);
	if (!bind_again(id))
		give_up("bind %s again", id);
	fd = open_device(node, O_RDWR);
	free = device_free(fd);
	close(fd);
	if (!ok(unbound && !under_way && still && dead && works && nobodys &&
		!late && !odd && refused && took < limit && free,
		"round %u, %s: revoked under DMA", round,
		dmabuf ? "dma-buf" : "mapping"))
		printf("# unbound %d in %.1f s, under way %d, unchanged %d, dead %d, others %d, nobody's %d, late %lu, odd %lu, refused %lu\n",
		       unbound, took, under_way, still, dead, works, nobodys,
		       (unsigned long)late, (unsigned long)odd,
		       (unsigned long)refused);
}

int main(int argc, char **argv)
{
	char node[128], address[128], command[128];
	uint32_t seed;

	if (argc != 7) {
		fprintf(stderr, "usage: hca_revoke RDMA-DEVICE KIND ID ROUNDS SECONDS RESOURCE\n");
		return EXIT_FAILURE;
	}
	translated = !strcmp(argv[2], "iova");
	limit = atoi(argv[5]);
	registers = edu_registers(argv[6]);
	seed = seed_of_run();
	hca = hca_open(argv[1]);
	host = aligned_alloc(PAGE, PAGE);
	if (!host)
		give_up("memory");
	host_mr = hca_reg_or_give_up(&hca, host, PAGE);
	snprintf(command, sizeof(command), "lab-host address %s", argv[3]);
	output_of(command, address);
	snprintf(command, sizeof(command), "iopmem-bind %s", argv[3]);
	output_of(command, node);
	for (int i = 0; i < atoi(argv[4]); i++)
		one_round(i, argv[3], address, node, &seed);
	return done_testing();
}
