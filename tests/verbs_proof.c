// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_proof [-d DOOR] DEV DIR: host memory's bytes go to BAR memory by RDMA
 * write, by RDMA read and by a send; copies of them go to DIR/write, DIR/read
 * and DIR/send, for the host to look for them in the BAR. Needs no privilege.
 *	-d	an MR on a dma-buf by this door (see doors.h)
 */
#include <fcntl.h>
#include <unistd.h>

#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	LEN = PEER_BUFFER,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ,
};

int main(int argc, char **argv)
{
	static const char *const ways[] = { "write", "read", "send" };
	bool by_door = argc == 5 && !strcmp(argv[1], "-d");
	struct ibv_sge host_part, bar_part;
	struct ibv_mr *bar_mr, *host_mr;
	char *bar, *host, path[256];
	struct pair *pair;
	struct ibv_pd *pd;
	struct ibv_wc wc;
	int status, buf_fd;

	if (by_door) {
		door_choose(argv[2]);
		argv += 2;
		argc -= 2;
	}
	if (argc != 3) {
		fprintf(stderr, "usage: verbs_proof [-d DOOR] DEV DIR\n");
		return EXIT_FAILURE;
	}
	host = host_memory(LEN);
	pd = alloc_pd_on("rxe0");
	if (by_door) {
		bar_mr = door_map(pd, argv[1], 4 * LEN, ALL_ACCESS, &bar,
				  &buf_fd);
	} else {
		bar = map_or_give_up(open_device(argv[1], O_RDWR), 4 * LEN);
		bar_mr = ibv_reg_mr(pd, bar, 4 * LEN, ALL_ACCESS);
	}
	host_mr = ibv_reg_mr(pd, host, LEN, ALL_ACCESS);
	if (!bar_mr || !host_mr)
		give_up("MRs");
	pair = pair_create(pd, IBV_QPT_RC, false);
	host_part = part_of(host_mr, host, LEN);

	for (int i = 0; i < 3; i++) {
		char *to = bar + i * LEN + 777;
		uint64_t seed = (uint64_t)getpid() * 4 + i;

		lay(host, LEN, seed, 0);
		bar_part = part_of(bar_mr, to, LEN);
		if (i == 0)
			status = pair_rdma(pair, 0, IBV_WR_RDMA_WRITE,
					   host_part, to, bar_mr->rkey);
		else if (i == 1)
			status = pair_rdma(pair, 0, IBV_WR_RDMA_READ, bar_part,
					   host, host_mr->rkey);
		else
			status = pair_send(pair, &host_part, 1, &bar_part, 1,
					   &wc);
		ok(!status && laid(to, LEN, seed, 0),
		   "%s of %d bytes to BAR memory", ways[i], LEN);
		snprintf(path, sizeof(path), "%s/%s", argv[2], ways[i]);
		save_pattern(path, LEN, seed);
	}
	return done_testing();
}
