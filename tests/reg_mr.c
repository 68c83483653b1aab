// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * reg_mr [-d] FILE SIZE WRITABLE READONLY: ibv_reg_mr() on mappings of FILE,
 * which is a /dev/iopmemN or a p2pmem/allocate of the PCI core.
 *
 * WRITABLE and READONLY say what comes of it on a read-write and on a
 * read-only mapping: the name of an errno, or "ok".
 *	-d	FILE is a /dev/iopmemN: also ibv_reg_dmabuf_mr() on a dma-buf
 *		of it, which rxe does not know
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs.h"

static size_t size;

static void registers(struct ibv_pd *pd, void *p, int access,
		      const char *expected, const char *what)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, p, size, access);

	if (strcmp(expected, "ok"))
		fails(!mr, errno_named(expected), "ibv_reg_mr on %s", what);
	else
		ok(mr, "ibv_reg_mr on %s", what);
	if (mr)
		ok(!ibv_dereg_mr(mr), "ibv_dereg_mr");
}

static void dmabuf(struct ibv_pd *pd, const char *path)
{
	int fd = open_device(path, O_RDWR);
	int buf_fd = alloc_region(fd, size, 0, O_RDWR | O_CLOEXEC);

	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC of %zu bytes", size);
	fails(!ibv_reg_dmabuf_mr(pd, 0, size, 0, buf_fd,
				 IBV_ACCESS_LOCAL_WRITE), EOPNOTSUPP,
	      "ibv_reg_dmabuf_mr");
	close(buf_fd);
	close(fd);
}

int main(int argc, char **argv)
{
	bool with_dmabuf = argc > 1 && !strcmp(argv[1], "-d");
	struct ibv_pd *pd;
	void *p;
	int fd;

	argv += with_dmabuf;
	if (argc - with_dmabuf != 5) {
		fprintf(stderr, "usage: reg_mr [-d] FILE SIZE WRITABLE READONLY\n");
		return EXIT_FAILURE;
	}
	size = parse_size(argv[2]);
	pd = alloc_pd_on("rxe0");

	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	registers(pd, p, IBV_ACCESS_LOCAL_WRITE, "ok", "host memory");

	fd = open_device(argv[1], O_RDWR);
	p = map_or_give_up(fd, size);
	registers(pd, p, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
		  argv[3], "a writable mapping");
	munmap(p, size);
	close(fd);

	fd = open_device(argv[1], O_RDONLY);
	p = map_shared(fd, size, PROT_READ);
	if (!p)
		give_up("read-only mapping");
	registers(pd, p, IBV_ACCESS_REMOTE_READ, argv[4],
		  "a read-only mapping");
	munmap(p, size);
	close(fd);

	if (with_dmabuf)
		dmabuf(pd, argv[1]);
	return done_testing();
}
