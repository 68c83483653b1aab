// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libiopmem_gone DEV RDMADEV ADDRESS: every call of libiopmem when DEV, at
 * the PCI address ADDRESS, is no longer bound. Unbinds it: needs to be root.
 */
#include <fcntl.h>
#include <unistd.h>

#include <infiniband/iopmem.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	SIZE = 4 * 4096,
	ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		 IBV_ACCESS_REMOTE_READ,
};

static void * const iova = (void *)0x700000000000;

/* Not on main()'s stack: who looks for leaks at exit finds them here. */
static struct ibv_pd *pd;
static struct peer peer;

static void unbind(const char *address)
{
	int fd = open("/sys/bus/pci/drivers/iopmem/unbind",
		      O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, address, strlen(address)) < 0)
		give_up("unbind %s", address);
	close(fd);
}

int main(int argc, char **argv)
{
	struct iopmem_route route;
	struct iopmem_info info;
	struct ibv_mr *mr;
	int fd, buf_fd;

	if (argc != 4) {
		fprintf(stderr,
			"usage: libiopmem_gone DEV RDMADEV ADDRESS\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	buf_fd = iopmem_alloc(fd, SIZE, 0);
	pd = alloc_pd_on(argv[2]);
	peer_init(&peer, pd);
	mr = iopmem_reg_mr(pd, 0, SIZE, (uintptr_t)iova, buf_fd, ACCESS);
	if (!mr)
		give_up("MR");
	ok(!peer_write(&peer, iova, mr->rkey, SIZE, 1), "an MR works");

	unbind(argv[3]);
	ok(peer_write(&peer, iova, mr->rkey, SIZE, 2) > 0,
	   "unbound: work on the MR completes in error");
	fails(iopmem_alloc(fd, SIZE, 0) == -1, ENODEV, "alloc");
	ok(iopmem_query_info(fd, &info) == ENODEV, "info: ENODEV");
	ok(iopmem_query_route(pd->context, fd, &route) == ENODEV,
	   "route to the node: ENODEV");
	fails(!iopmem_reg_mr(pd, 0, SIZE, 0, buf_fd, ACCESS), ENODEV, "reg");
	fails(!iopmem_reg_mr(pd, 0, SIZE, 0, buf_fd, IBV_ACCESS_REMOTE_READ),
	      ENODEV, "reg, read-only");
	ok(!iopmem_dereg_mr(mr), "the MR can be deregistered");
	ok(iopmem_dereg_mr(mr) == EINVAL, "once");
	return done_testing();
}
