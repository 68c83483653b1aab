// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_refused RDMADEV FILE SIZE ERRNO: an RDMA device with which a mapping
 * of FILE cannot be registered, but host memory can. Needs no privilege but
 * to open FILE.
 */
#include <fcntl.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

int main(int argc, char **argv)
{
	const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	size_t size;
	void *p;

	if (argc != 5) {
		fprintf(stderr, "usage: verbs_refused RDMADEV FILE SIZE ERRNO\n");
		return EXIT_FAILURE;
	}
	size = parse_size(argv[3]);
	p = map_or_give_up(open_device(argv[2], O_RDWR), size);
	pd = alloc_pd_on(argv[1]);
	fails(!ibv_reg_mr(pd, p, size, access), errno_named(argv[4]),
	      "BAR memory, to be written");
	fails(!ibv_reg_mr(pd, p, size, IBV_ACCESS_REMOTE_READ),
	      errno_named(argv[4]), "BAR memory, to be read");
	mr = ibv_reg_mr(pd, host_memory(16384), 16384, access);
	ok(mr && !ibv_dereg_mr(mr), "host memory");
	return done_testing();
}
