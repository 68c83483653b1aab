// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * bench_accesses DEV OFFSET LEN: how many accesses, as QEMU sees them, rxe makes of
 * an RDMA write into LEN bytes of BAR memory at OFFSET from a page's beginning, and of
 * an RDMA read from them. Prints for each its reads and their bytes, its writes and
 * theirs. DEV is that of nvme0's CMB. Needs root, who may ask the host.
 */
#include <fcntl.h>

#include "tap.h"
#include "util.h"
#include "verbs.h"
#include "verbs_pair.h"

enum {
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ,
};

int main(int argc, char **argv)
{
	struct ibv_mr *bar_mr, *host_mr;
	struct ibv_pd *pd;
	struct pair *pair;
	size_t offset, len;
	char *bar, *host;

	if (argc != 4) {
		fprintf(stderr, "usage: bench_accesses DEV OFFSET LEN\n");
		return EXIT_FAILURE;
	}
	offset = parse_size(argv[2]);
	len = parse_size(argv[3]);
	host = host_memory(len);
	bar = map_or_give_up(open_device(argv[1], O_RDWR), offset + len);
	pd = alloc_pd_on("rxe0");
	bar_mr = ibv_reg_mr(pd, bar, offset + len, ALL_ACCESS);
	host_mr = ibv_reg_mr(pd, host, len, ALL_ACCESS);
	if (!bar_mr || !host_mr)
		give_up("MRs");
	pair = pair_create(pd, IBV_QPT_RC, false);

	for (int read = 0; read < 2; read++) {
		printf("RDMA %s ", read ? "read" : "write");
		fflush(stdout);
		if (system("lab-host mmio-start") ||
		    pair_rdma(pair, 0,
			      read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
			      part_of(host_mr, host, len), bar + offset,
			      bar_mr->rkey) ||
		    system("lab-host mmio-count"))
			give_up("a transfer");
	}
	return EXIT_SUCCESS;
}
