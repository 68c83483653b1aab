// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * dmabuf_import_large DEV SIZE: a dma-buf of more than fits into one entry of a
 * scatterlist, 2 GiB or less each.
 *
 * Runs as root: IOPMEM_ALLOC_NOZERO spares the time to zero it all.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "import.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, LEN = 2 * PAGE };

/* Half of it on either side of @boundary. */
static void across(int importer, int buf_fd, uint64_t boundary)
{
	int host_fd = alloc_host_buffer(LEN);
	int to_host = importer_of(host_fd, IMPORTER_REVOCABLE,
				  IMPORTER_DROP_INSIDE);
	char *host = map_or_give_up(host_fd, LEN);
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, buf_fd,
		       boundary - LEN / 2);

	if (p == MAP_FAILED || import_map(to_host, IMPORTER_BIDIRECTIONAL))
		give_up("buffers for DMA");
	fill(p, LEN, 1);
	ok(!import_copy(importer, boundary - LEN / 2, to_host, 0, LEN) &&
	   filled(host, LEN, 1), "DMA from the ends of two segments");
	fill(host, LEN, 2);
	ok(!import_copy(to_host, 0, importer, boundary - LEN / 2, LEN) &&
	   filled(p, LEN, 2), "DMA to them");
	munmap(p, LEN);
	munmap(host, LEN);
	close(to_host);
	close(host_fd);
}

int main(int argc, char **argv)
{
	uint64_t size, total = 0;
	struct importer_state state;
	struct importer_segment s;
	uint64_t next = 0, first = 0;
	bool contiguous = true, fit = true;
	int fd, buf_fd, importer;

	if (argc != 3) {
		fprintf(stderr, "usage: dmabuf_import_large DEV SIZE\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	size = parse_size(argv[2]);
	buf_fd = alloc_region(fd, size, IOPMEM_ALLOC_NOZERO,
			      O_RDWR | O_CLOEXEC);
	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC of %s", argv[2]);
	importer = importer_of(buf_fd, IMPORTER_REVOCABLE,
			       IMPORTER_DROP_INSIDE);
	if (import_map(importer, IMPORTER_BIDIRECTIONAL))
		give_up("IMPORTER_MAP");

	state = import_state(importer);
	ok(state.segments == (size + (2ULL << 30) - 1) >> 31,
	   "a segment for each 2 GiB");
	for (unsigned int i = 0; i < state.segments; i++) {
		s = import_segment(importer, i);
		contiguous &= !i || s.address == next;
		fit &= s.length && s.length <= 2ULL << 30;
		next = s.address + s.length;
		total += s.length;
		if (!i)
			first = s.length;
	}
	ok(fit, "none is longer");
	ok(contiguous, "each begins where the one before ends");
	ok(total == size, "together they are the dma-buf");
	if (ok(first < size, "there is a second one"))
		across(importer, buf_fd, first);
	close(importer);
	close(buf_fd);
	ok(device_free(fd) >= size, "all of it is given back");
	return done_testing();
}
