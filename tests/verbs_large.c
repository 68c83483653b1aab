// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_large SIZE: an MR on SIZE bytes of host memory. To have them in a
 * small guest, 16 huge pages are mapped again and again. Needs the huge pages
 * and lockable memory.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum { PIECE = 16 << 21 };

int main(int argc, char **argv)
{
	struct ibv_pd *pd;
	struct peer peer;
	struct ibv_mr *mr;
	size_t size;
	char *p;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: verbs_large SIZE\n");
		return EXIT_FAILURE;
	}
	size = parse_size(argv[1]);
	fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	if (fd < 0 || ftruncate(fd, PIECE))
		give_up("huge pages");
	p = mmap(NULL, size + PIECE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		 0);
	if (p == MAP_FAILED)
		give_up("address space");
	/* Huge pages have to be mapped where addresses are multiples of one. */
	p = (char *)(((uintptr_t)p + PIECE - 1) & -(uintptr_t)PIECE);
	for (size_t done = 0; done < size; done += PIECE)
		if (mmap(p + done, PIECE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, 0) != p + done)
			give_up("mmap of huge pages");

	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);
	mr = ibv_reg_mr(pd, p, size, IBV_ACCESS_LOCAL_WRITE |
			IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
	if (mr)
		ok(true, "MR on %zu MiB of host memory", size >> 20);
	else
		give_up("MR on %zu MiB of host memory", size >> 20);

	lay(p + size - 30000, 30000, 1, 0);
	ok(peer_sees(&peer, p + size - 30000, mr->rkey, 30000, 1),
	   "peers read at its end");
	ok(!peer_write(&peer, p + size - PIECE - 100, mr->rkey, 200, 2) &&
	   laid(p + size - PIECE - 100, 200, 2, 0),
	   "and write across pages that are far apart");
	ok(!ibv_dereg_mr(mr), "ibv_dereg_mr");
	return done_testing();
}
