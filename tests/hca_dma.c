// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * hca_dma RDMA-DEVICE KIND DEV DEV2 [RESOURCE]: what MRs hold for a device that has
 * DMA (edu_hca), and what that is good for. The addresses are to be of this KIND:
 *	bus	PCI bus addresses of the BAR
 *	host	the BAR's addresses as the CPU has them
 *	iova	others, of an IOMMU. RESOURCE is the BAR of edu's registers: DMA to an
 *		address after its MR is gone has to be refused. Needs root.
 * The data goes to and from DEV, from DEV2, and to and from host memory.
 */
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients.h"
#include "edu_dma.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SIZE = 1 << 20, PIECE = 2048 };

static struct hca hca;
static char *host;
static struct hca_mr host_mr;

/* ---- doors */

enum door { MAPPING, DMABUF, DOORS };

static const char *const door_names[] = { "mapping", "dma-buf" };

static bool reg(enum door door, int buf_fd, char *p, size_t offset, size_t len,
		struct hca_mr *mr)
{
	const int access = IBV_ACCESS_LOCAL_WRITE;

	return !(door == DMABUF ?
		 hca_reg_dmabuf(&hca, buf_fd, offset, len, p + offset, access,
				mr) :
		 hca_reg(&hca, p + offset, len, access, mr));
}

/* ---- data */

static bool copies(const struct hca_mr *from, const char *from_at,
		   const struct hca_mr *to, const char *to_at)
{
	return !hca_copy(&hca, from, from_at, to, to_at, PIECE);
}

static void moves_data(const struct hca_mr *mr, char *at, uint64_t seed,
		       const char *name)
{
	fill(host, PIECE, seed);
	ok(copies(&host_mr, host, mr, at) && filled(at, PIECE, seed),
	   "%s: from host memory", name);
	fill(at, PIECE, seed + 1);
	ok(copies(mr, at, &host_mr, host) && filled(host, PIECE, seed + 1),
	   "%s: to host memory", name);
}

static void other_bar(const struct hca_mr *mr, char *at, const char *dev2,
		      const char *name)
{
	char *p = map_or_give_up(open_device(dev2, O_RDWR), PAGE);
	struct hca_mr other = hca_reg_or_give_up(&hca, p, PAGE);

	fill(p, PIECE, 77);
	ok(copies(&other, p, mr, at) && filled(at, PIECE, 77),
	   "%s: from another BAR", name);
	fill(at, PIECE, 78);
	ok(copies(mr, at, &other, p) && filled(p, PIECE, 78),
	   "%s: to another BAR", name);
	hca_dereg(&hca, &other);
	munmap(p, PAGE);
}

/* ---- addresses */

static void addresses(const struct hca_mr *mr, const char *kind,
		      int fd, const char *name)
{
	struct edu_hca_part part;
	bool inside;

	if (!ok(!hca_query(&hca, mr, 0, &part), "%s: it can be asked", name))
		return;
	inside = in_a_bar(fd, part.address, part.length);
	printf("# %s: %llx, %llu bytes, bus address %u, page size %llu\n", name,
	       (unsigned long long)part.address,
	       (unsigned long long)part.length, part.bus_address,
	       (unsigned long long)part.page_size);
	ok(part.bus_address == !strcmp(kind, "bus") &&
	   inside == !!strcmp(kind, "iova"), "%s: %s addresses", name, kind);
	ok(part.parts == 1 && part.length >= SIZE, "%s: one for all of it",
	   name);
	errno = 0;
	ok(hca_query(&hca, mr, 1, &part) && errno == EINVAL,
	   "%s: no second part", name);
}

/*
 * Names of the MR's bytes that have @bits low bits in common with the address:
 * the device can use pages of that size, and no larger ones.
 */
static void page_sizes(char *p, uint64_t address)
{
	for (unsigned int bits = 12; bits < 20; bits += 2) {
		uint64_t differs = 1ULL << bits;
		uint64_t iova = ((address ^ differs) & (2 * differs - 1)) +
				(1ULL << 41);
		struct edu_hca_part part = {};
		struct hca_mr mr;

		if (hca_reg_iova(&hca, p, SIZE, iova, IBV_ACCESS_LOCAL_WRITE,
				 &mr))
			give_up("MR with a name of its own");
		ok(!hca_query(&hca, &mr, 0, &part) &&
		   part.page_size == differs, "pages of %llu bytes",
		   (unsigned long long)differs);
		hca_dereg(&hca, &mr);
	}
}

/* ---- after the end */

static void translations(enum door door, int buf_fd, char *p,
			 const char *resource)
{
	const char *name = door_names[door];
	volatile uint64_t *registers = edu_registers(resource);
	struct edu_hca_part part;
	struct hca_mr mr;

	if (!reg(door, buf_fd, p, 0, SIZE, &mr) ||
	    hca_query(&hca, &mr, 0, &part))
		give_up("MR by %s", name);
	ok(!edu_faults(registers, part.address),
	   "%s: a translation is in place", name);
	hca_dereg(&hca, &mr);
	ok(edu_faults_soon(registers, part.address),
	   "%s: it goes with the MR", name);
}

/* ---- shapes */

/* Two regions side by side are one MR. */
static void two_ranges(const char *dev)
{
	int fd = open_device(dev, O_RDWR);
	char *p = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	char *gap = map_or_give_up(fd, PAGE), *at = p + 2 * PAGE - PIECE / 2;
	struct hca_mr mr;

	/* the second is allocated first, so that they are no neighbours */
	if (mmap(p + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    mmap(p, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 fd, 0) == MAP_FAILED)
		give_up("two mappings");
	memset(p, 0, 4 * PAGE);
	if (ok(!hca_reg(&hca, p, 4 * PAGE, IBV_ACCESS_LOCAL_WRITE, &mr),
	       "two regions: an MR on both")) {
		moves_data(&mr, at, 31, "two regions: across the border");
		hca_dereg(&hca, &mr);
	}
	munmap(p, 4 * PAGE);
	munmap(gap, PAGE);
	close(fd);
}

static void odd_ends(enum door door, int buf_fd, char *p)
{
	const size_t start = 1000, len = 2 * PAGE + 96;
	const char *name = door_names[door];
	char what[64];
	struct hca_mr mr;

	if (!ok(reg(door, buf_fd, p, start, len, &mr), "%s: odd ends", name))
		return;
	snprintf(what, sizeof(what), "%s: odd beginning", name);
	moves_data(&mr, p + start, 41, what);
	snprintf(what, sizeof(what), "%s: odd end", name);
	moves_data(&mr, p + start + len - PIECE, 51, what);
	errno = 0;
	ok(!copies(&mr, p + start + len - PIECE + 8, &host_mr, host) &&
	   errno == EINVAL, "%s: nothing behind the end", name);
	errno = 0;
	ok(!copies(&mr, p + start - 8, &host_mr, host) && errno == EINVAL,
	   "%s: nor before the beginning", name);
	hca_dereg(&hca, &mr);
}

int main(int argc, char **argv)
{
	struct edu_hca_part part;
	uint64_t free_before;
	struct hca_mr mr;
	int fd, buf_fd;
	char *p;

	if (argc != 5 && argc != 6) {
		fprintf(stderr, "usage: hca_dma RDMA-DEVICE KIND DEV DEV2 [RESOURCE]\n");
		return EXIT_FAILURE;
	}
	hca = hca_open(argv[1]);
	host = aligned_alloc(PAGE, PAGE);
	if (!host)
		give_up("memory");
	host_mr = hca_reg_or_give_up(&hca, host, PAGE);
	fd = open_device(argv[3], O_RDWR);
	free_before = device_free(fd);
	buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	p = map_or_give_up(buf_fd, SIZE);

	for (enum door door = 0; door < DOORS; door++) {
		const char *name = door_names[door];

		if (!ok(reg(door, buf_fd, p, 0, SIZE, &mr), "%s: an MR", name))
			continue;
		addresses(&mr, argv[2], fd, name);
		moves_data(&mr, p, 11, name);
		other_bar(&mr, p + SIZE - PIECE, argv[4], name);
		if (door == MAPPING && argc == 5 &&
		    !hca_query(&hca, &mr, 0, &part))
			page_sizes(p, part.address);
		ok(!hca_dereg(&hca, &mr), "%s: it goes", name);
		odd_ends(door, buf_fd, p);
		if (argc == 6)
			translations(door, buf_fd, p, argv[5]);
	}
	munmap(p, SIZE);
	close(buf_fd);
	two_ranges(argv[3]);
	ok(device_free(fd) == free_before, "all memory is free");
	return done_testing();
}
