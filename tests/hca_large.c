// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * hca_large RDMA-DEVICE DEV SIZE: an MR on a mapping of SIZE bytes, more than a
 * scatterlist entry holds, for a device that has DMA (edu_hca): it finds what is
 * at either side of each GiB, and at the ends. Needs CAP_SYS_RAWIO, so that the
 * file behind the BAR stays sparse.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <rdma/iopmem.h>

#include "clients.h"
#include "tap.h"
#include "util.h"

enum { PIECE = 2048 };

static const size_t GIB = 1 << 30;

static char *map_unzeroed(const char *path, size_t size)
{
	struct iopmem_alloc alloc = {
		.size = size,
		.flags = IOPMEM_ALLOC_NOZERO,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	if (ioctl(open_device(path, O_RDWR), IOPMEM_IOC_ALLOC, &alloc))
		give_up("%zu bytes of %s", size, path);
	return map_or_give_up(alloc.fd, size);
}

/* The device reads what the CPU has written there, and the other way round. */
static bool reaches(const struct hca *hca, const struct hca_mr *mr, char *at,
		    const struct hca_mr *host_mr, char *host, uint64_t seed)
{
	fill(at, PIECE, seed);
	memset(host, 0, PIECE);
	if (hca_copy(hca, mr, at, host_mr, host, PIECE) ||
	    !filled(host, PIECE, seed))
		return false;
	fill(host, PIECE, seed + 1);
	return !hca_copy(hca, host_mr, host, mr, at, PIECE) &&
	       filled(at, PIECE, seed + 1);
}

int main(int argc, char **argv)
{
	struct hca_mr mr, host_mr;
	struct hca hca;
	char *p, *host;
	size_t size;

	if (argc != 4) {
		fprintf(stderr, "usage: hca_large RDMA-DEVICE DEV SIZE\n");
		return EXIT_FAILURE;
	}
	size = parse_size(argv[3]);
	hca = hca_open(argv[1]);
	p = map_unzeroed(argv[2], size);
	host = aligned_alloc(4096, 4096);
	if (!host)
		give_up("memory");
	host_mr = hca_reg_or_give_up(&hca, host, PIECE);
	mr = hca_reg_or_give_up(&hca, p, size);
	for (size_t at = 0; at <= size; at += GIB) {
		if (at)
			ok(reaches(&hca, &mr, p + at - PIECE, &host_mr, host,
				   at), "below %zu GiB", at / GIB);
		if (at < size)
			ok(reaches(&hca, &mr, p + at, &host_mr, host, at + 7),
			   "above %zu GiB", at / GIB);
	}
	ok(!hca_dereg(&hca, &mr) && !hca_dereg(&hca, &host_mr), "deregistered");
	return done_testing();
}
