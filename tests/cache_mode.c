// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * cache_mode uc|wc DEV PHYS SIZE [ALLOCATE]: what page tables say of how the CPU
 * caches the memory of a /dev/iopmemN, which is at PHYS: the kernel's and those of
 * each mapping that users may have. ALLOCATE is the p2pmem/allocate of its function.
 * Needs root.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "page_tables.h"
#include "tap.h"
#include "util.h"

#define LEN	(64UL << 10)

static const char *want;
static const char *said = "not there";	/* what was found in its place */

/* Whether all pages of a range are in the page tables, with the mode wanted. */
static bool mapped_as_wanted(uint64_t start, uint64_t end)
{
	said = cache_mode_of(start, end);
	return !strcmp(said, want);
}

static bool as_wanted(void *p, size_t len)
{
	for (size_t i = 0; i < len; i += 4096)
		if (touch((char *)p + i, false))
			return false;
	return mapped_as_wanted((uintptr_t)p, (uintptr_t)p + len);
}

static int child(void *p)
{
	return as_wanted(p, LEN) ? 0 : 1;
}

static void check(bool good, const char *what, const char *how)
{
	if (!ok(good, "%s: %s", what, how))
		printf("# it is %s\n", said);
}

/* A mapping of LEN bytes, and what may become of it; is it mapped by faults? */
static void check_mapping(const char *what, void *p, bool by_faults)
{
	char *moved;

	if (!p)
		give_up("%s", what);
	check(as_wanted(p, LEN), what, want);

	ok(!in_child(child, p), "%s: in a child", what);
	if (by_faults) {
		madvise(p, LEN, MADV_DONTNEED);
		ok(!in_child(child, p), "%s: in a child that touches it first",
		   what);
	}

	check(!mprotect(p, LEN, PROT_READ) && as_wanted(p, LEN), what,
	      "made read-only");
	/*
	 * Not of p2pmem/allocate: kernfs wants to know of the write, and the fault
	 * is then tried for ever, as the page has no mapping to tell of it (6.12).
	 */
	if (by_faults)
		check(!mprotect(p, LEN, PROT_READ | PROT_WRITE) &&
		      as_wanted(p, LEN) && !touch(p, true), what,
		      "and writable again");

	moved = mremap(p, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED,
		       (char *)p + (1UL << 30));
	if (moved == MAP_FAILED)
		give_up("%s: mremap", what);
	check(as_wanted(moved, LEN), what, "moved by mremap");
	munmap(moved, LEN);
}

int main(int argc, char **argv)
{
	struct iopmem_info info;
	uint64_t phys, size, kernel;
	int fd, buf, allocate;

	if (argc != 5 && argc != 6) {
		fprintf(stderr, "usage: %s uc|wc DEV PHYS SIZE [ALLOCATE]\n", *argv);
		return EXIT_FAILURE;
	}
	want = argv[1];
	fd = open_device(argv[2], O_RDWR);
	phys = strtoull(argv[3], NULL, 0);
	size = strtoull(argv[4], NULL, 0);

	ok(!device_info(fd, &info) && info.size == size &&
	   info.cache_mode == (strcmp(want, "wc") ? IOPMEM_CACHE_UC :
						    IOPMEM_CACHE_WC),
	   "INFO says %s", want);
	kernel = kernel_address(phys);
	check(mapped_as_wanted(kernel, kernel + size), "the kernel", want);

	check_mapping("mapping", map_shared(fd, LEN, PROT_READ | PROT_WRITE), true);
	buf = alloc_region(fd, LEN, 0, O_RDWR | O_CLOEXEC);
	if (buf < 0)
		give_up("dma-buf");
	check_mapping("dma-buf", map_shared(buf, LEN, PROT_READ | PROT_WRITE), true);
	close(buf);

	if (argc == 6) {
		allocate = open_device(argv[5], O_RDWR);
		check_mapping("p2pmem/allocate",
			      map_shared(allocate, LEN, PROT_READ | PROT_WRITE),
			      false);
		close(allocate);
	}
	close(fd);
	return done_testing();
}
