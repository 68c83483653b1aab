// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_foreign ALLOCATE SIZE DEV: MRs on mappings of p2pmem/allocate, the
 * PCI core's own file for peer-to-peer memory, of which we know no more than
 * its pages. DEV is the /dev/iopmemN of another device. Needs no privilege
 * but to open the files.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	RW = PROT_READ | PROT_WRITE,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
};

static struct ibv_pd *pd;
static struct peer peer;
static size_t size;

static void registers(char *p, size_t len, const char *what)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, p, len, ALL_ACCESS);

	if (!mr) {
		fails(true, 0, "%s", what);
		return;
	}
	lay(p, len, 1, 0);
	ok(peer_sees(&peer, p, mr->rkey, len, 1) &&
	   peer_reaches(&peer, mr, 2) && laid(p, len, 2, 0) &&
	   !ibv_dereg_mr(mr), "%s", what);
}

static void refuses(char *p, size_t len, int access, int error,
		    const char *what)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, p, len, access);

	fails(!mr, error, "%s", what);
	if (mr)
		ibv_dereg_mr(mr);
}

static void map_at(char *p, int fd)
{
	if (mmap(p, size, RW, MAP_SHARED | MAP_FIXED, fd, 0) != p)
		give_up("adjacent mappings");
}

int main(int argc, char **argv)
{
	int fd, ro_fd, dev_fd;
	struct ibv_mr *mr;
	char *p, *q;

	if (argc != 4) {
		fprintf(stderr, "usage: verbs_foreign ALLOCATE SIZE DEV\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	ro_fd = open_device(argv[1], O_RDONLY);
	size = parse_size(argv[2]);
	dev_fd = open_device(argv[3], O_RDWR);
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);

	p = map_or_give_up(fd, size);
	registers(p, size, "all of a mapping");
	registers(p + 100, size - 4096, "neither end on a page");
	registers(p + size - 1, 1, "the last byte");
	refuses(p, size + 4096, ALL_ACCESS, EFAULT, "past its end");

	mr = ibv_reg_mr(pd, p, size, ALL_ACCESS);
	lay(p, size, 3, 0);
	munmap(p, size);
	q = map_or_give_up(fd, size);
	lay(q, size, 4, 0);
	ok(mr && peer_sees(&peer, p, mr->rkey, size, 3) &&
	   peer_reaches(&peer, mr, 5) && laid(q, size, 4, 0),
	   "the MR keeps its pages after munmap()");
	ok(mr && !ibv_dereg_mr(mr), "ibv_dereg_mr");
	munmap(q, size);

	p = map_shared(ro_fd, size, PROT_READ);
	if (!p)
		give_up("read-only mapping");
	refuses(p, size, IBV_ACCESS_LOCAL_WRITE, EFAULT,
		"to write to a read-only mapping");
	mr = ibv_reg_mr(pd, p, size, IBV_ACCESS_REMOTE_READ);
	ok(mr, "to let peers read from a read-only mapping");
	if (mr)
		ibv_dereg_mr(mr);
	munmap(p, size);

	p = mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		 0);
	map_at(p, fd);
	map_at(p + size, fd);
	map_at(p + 2 * size, dev_fd);
	registers(p, 2 * size, "two mappings");
	refuses(p + size, 2 * size, ALL_ACCESS, EFAULT,
		"mappings of two devices");
	refuses(p, 3 * size, ALL_ACCESS, EFAULT, "all three mappings");

	/* The pool gives away the lowest addresses first. */
	munmap(p, 2 * size);
	map_at(p + size, fd);
	map_at(p, fd);
	registers(p, 2 * size, "two mappings, whose memory is not contiguous");
	munmap(p, 3 * size);
	return done_testing();
}
