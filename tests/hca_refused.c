// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * hca_refused RDMA-DEVICE DEV ERRNO: an MR on memory that the device does not reach,
 * by either door. Nothing of it stays.
 */
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients.h"
#include "tap.h"
#include "util.h"

enum { SIZE = 1 << 20 };

int main(int argc, char **argv)
{
	int fd, buf_fd, wanted, ret;
	struct hca_mr mr;
	uint64_t before;
	struct hca hca;
	char *p;

	if (argc != 4) {
		fprintf(stderr, "usage: hca_refused RDMA-DEVICE DEV ERRNO\n");
		return EXIT_FAILURE;
	}
	hca = hca_open(argv[1]);
	wanted = errno_named(argv[3]);
	fd = open_device(argv[2], O_RDWR);
	before = device_free(fd);
	buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	p = map_or_give_up(buf_fd, SIZE);
	errno = 0;
	ret = hca_reg(&hca, p, SIZE, IBV_ACCESS_LOCAL_WRITE, &mr);
	if (!ok(ret && errno == wanted, "mapping: %s", argv[3]))
		printf("# %d, errno %d\n", ret, errno);
	errno = 0;
	ret = hca_reg_dmabuf(&hca, buf_fd, 0, SIZE, p, IBV_ACCESS_LOCAL_WRITE,
			     &mr);
	if (!ok(ret && errno == wanted, "dma-buf: %s", argv[3]))
		printf("# %d, errno %d\n", ret, errno);
	munmap(p, SIZE);
	close(buf_fd);
	ok(device_free(fd) == before, "all memory is free");
	return done_testing();
}
