// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * dax FILE SIZE DISK: a mapping of persistent memory, a file on a file system with
 * DAX or a DAX device, as a program uses it: written and read, cached as RAM is,
 * shared with a child, target of direct I/O from DISK, and unmapped. Needs root.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "page_tables.h"
#include "tap.h"
#include "util.h"

static char *p;
static size_t len;

static int child(void *arg)
{
	(void)arg;
	if (!filled(p, len, 1))
		return 1;
	fill(p, len, 2);
	return 0;
}

static bool is_cached(void)
{
	const char *mode = cache_mode_of((uintptr_t)p, (uintptr_t)p + len);

	if (!strcmp(mode, "wb"))
		return true;
	printf("# it is %s\n", mode);
	return false;
}

static char *map(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;
	void *mapped;

	if (fd < 0 || fstat(fd, &st))
		give_up("%s", path);
	if (S_ISREG(st.st_mode) && posix_fallocate(fd, 0, len))
		give_up("%s: room", path);
	/* is refused where it is not the memory itself that is mapped */
	mapped = mmap(NULL, len, PROT_READ | PROT_WRITE,
		      MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
	if (mapped == MAP_FAILED)
		give_up("mapping of %s", path);
	close(fd);
	return mapped;
}

int main(int argc, char **argv)
{
	void *direct;
	int disk;

	if (argc != 4) {
		fprintf(stderr, "usage: dax FILE SIZE DISK\n");
		return EXIT_FAILURE;
	}
	len = parse_size(argv[2]);
	p = map(argv[1]);
	ok(true, "mapping");
	fill(p, len, 1);
	ok(filled(p, len, 1), "it holds what is written to it");
	ok(is_cached(), "page tables: write-back");
	ok(!in_child(child, NULL) && filled(p, len, 2),
	   "a child sees and changes it");
	munmap(p, len);

	p = map(argv[1]);
	ok(filled(p, len, 2), "it is there when it is mapped again");

	/* through a page of ordinary memory to the disk, and back by DMA */
	if (posix_memalign(&direct, 4096, len))
		give_up("memory");
	fill(direct, len, 3);
	disk = open(argv[3], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (disk < 0 || pwrite(disk, direct, len, 0) != (ssize_t)len)
		give_up("%s", argv[3]);
	ok(pread(disk, p, len, 0) == (ssize_t)len && filled(p, len, 3),
	   "direct I/O reads into it");
	fill(p, len, 4);
	ok(pwrite(disk, p, len, 0) == (ssize_t)len &&
	   pread(disk, direct, len, 0) == (ssize_t)len &&
	   filled(direct, len, 4), "and writes from it");
	ok(!munmap(p, len), "unmapped");
	return done_testing();
}
