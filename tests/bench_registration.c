// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * bench_registration DEVICE: what ibv_reg_mr() and ibv_dereg_mr() cost, by
 * size, on memory of a /dev/iopmemN and on host memory.
 *
 * For ./lab bench, in a guest whose clock counts instructions. The first
 * registration of fresh memory is apart: it finds or makes zeroed memory,
 * whichever the kind.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum { ROUNDS = 9 };

static struct ibv_pd *pd;

static void measure(const char *kind, const char *size, void *p)
{
	size_t len = parse_size(size);
	double start, middle, end;
	struct ibv_mr *mr;

	for (int round = 0; round <= ROUNDS; round++) {
		start = now();
		mr = ibv_reg_mr(pd, p, len, IBV_ACCESS_LOCAL_WRITE |
				IBV_ACCESS_REMOTE_WRITE |
				IBV_ACCESS_REMOTE_READ);
		middle = now();
		if (!mr)
			give_up("ibv_reg_mr of %s on %s", size, kind);
		if (ibv_dereg_mr(mr))
			give_up("ibv_dereg_mr");
		end = now();
		printf("%s %s %s %.0f %.0f\n", round ? "warm" : "cold", kind,
		       size, (middle - start) * 1e9, (end - middle) * 1e9);
	}
	fflush(stdout);
	munmap(p, len);
}

static void measure_host(const char *kind, const char *size, int advice)
{
	size_t len = parse_size(size);
	void *p = host_memory(len);

	if (madvise(p, len, advice))
		give_up("madvise");
	measure(kind, size, p);
}

int main(int argc, char **argv)
{
	static const char *const sizes[] = { "2M", "64M", "1G" };
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: bench_registration DEVICE\n");
		return EXIT_FAILURE;
	}
	pd = alloc_pd_on("rxe0");
	fd = open_device(argv[1], O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		measure_host("host-4K", sizes[i], MADV_NOHUGEPAGE);
		measure_host("host-2M", sizes[i], MADV_HUGEPAGE);
		measure("bar", sizes[i],
			map_or_give_up(fd, parse_size(sizes[i])));
	}
	return EXIT_SUCCESS;
}
