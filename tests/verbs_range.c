// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_range DEV DEV2: which parts of which mappings can be registered, and
 * that an MR is on the bytes that the mapping shows. DEV and DEV2 are two
 * devices. Needs no privilege.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 16 * PAGE,
	RW = PROT_READ | PROT_WRITE,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ,
};

static struct ibv_pd *pd;
static struct peer peer;
static const char *path;
static int fd, fd2;
static uint64_t seed = 2000;

/* The peer reads what the CPU wrote, and the CPU what the peer wrote. */
static void registers(char *p, size_t len, const char *what)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, p, len, ALL_ACCESS);
	bool seen, reached;

	if (!mr) {
		fails(true, 0, "%s", what);
		return;
	}
	lay(p, len, ++seed, 0);
	seen = peer_sees(&peer, p, mr->rkey, len, seed);
	reached = peer_reaches(&peer, mr, ++seed) && laid(p, len, seed, 0);
	ok(seen && reached && !ibv_dereg_mr(mr), "%s", what);
}

static void refuses(const void *p, size_t len, int access, int error,
		    const char *what)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, (void *)p, len, access);

	fails(!mr, error, "%s", what);
	if (mr)
		ibv_dereg_mr(mr);
}

/* Address space with nothing in it. */
static char *reserve(size_t len)
{
	char *p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	if (p == MAP_FAILED)
		give_up("address space");
	return p;
}

static void put(char *at, size_t len, int prot, int file)
{
	int flags = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;

	if (mmap(at, len, prot, flags | MAP_FIXED, file, 0) != at)
		give_up("mapping at a fixed address");
}

static void parts_of_a_mapping(void)
{
	char *p = map_or_give_up(fd, SIZE);

	registers(p, SIZE, "all of a mapping");
	registers(p, PAGE, "the first page");
	registers(p + SIZE - PAGE, PAGE, "the last page");
	registers(p + 5 * PAGE, 3 * PAGE, "pages in the middle");
	registers(p + 5 * PAGE + 123, 3 * PAGE + 7, "neither end on a page");
	registers(p + PAGE - 1, 2, "two bytes across a page's end");
	registers(p + SIZE - 1, 1, "the last byte");

	lay(p, SIZE, 1, 0);
	registers(p + 2 * PAGE + 100, 50, "a few bytes");
	ok(laid(p, 2 * PAGE + 100, 1, 0) &&
	   laid(p + 2 * PAGE + 150, SIZE - 2 * PAGE - 150, 1, 2 * PAGE + 150),
	   "nothing else was changed");
	munmap(p, SIZE);
}

static void lengths(void)
{
	char *p = reserve(3 * SIZE);
	char *q;

	put(p, SIZE, RW, fd);
	munmap(p + SIZE, 2 * SIZE);
	refuses(p, 0, ALL_ACCESS, EINVAL, "no bytes");
	refuses(p, SIZE_MAX, ALL_ACCESS, EINVAL, "a length that wraps");
	refuses(p, SIZE_MAX - (uintptr_t)p, ALL_ACCESS, EINVAL,
		"up to the last byte there is");
	refuses(p, SIZE + 1, ALL_ACCESS, EFAULT, "a byte past the end");
	refuses(p + SIZE - PAGE, 2 * PAGE, ALL_ACCESS, EFAULT,
		"a page past the end");
	refuses(p, 2 * SIZE, ALL_ACCESS, EFAULT, "twice what is mapped");
	refuses(p, 1UL << 40, ALL_ACCESS, EFAULT, "1 TiB");
	refuses(p, 1UL << 45, ALL_ACCESS, EINVAL, "32 TiB, as of host memory");
	refuses(p + SIZE, PAGE, ALL_ACCESS, EFAULT, "behind the mapping");
	munmap(p, SIZE);
	refuses(p, PAGE, ALL_ACCESS, EFAULT, "a mapping that was there");

	/* The rest of a length's last page belongs to the mapping. */
	q = map_or_give_up(fd, 100);
	registers(q, PAGE, "the page of a mapping of 100 bytes");
	munmap(q, PAGE);
}

static void changed_mappings(void)
{
	char *p = map_or_give_up(fd, SIZE);
	char *q;

	lay(p, SIZE, 7, 0);
	munmap(p, 4 * PAGE);
	munmap(p + 8 * PAGE, 2 * PAGE);
	q = p + 4 * PAGE;
	registers(q, 4 * PAGE, "what is left in front of a hole");
	lay(q, 4 * PAGE, 7, 4 * PAGE);
	registers(p + 10 * PAGE, SIZE - 10 * PAGE, "what is left behind it");
	lay(p + 10 * PAGE, SIZE - 10 * PAGE, 7, 10 * PAGE);
	ok(laid(q, 4 * PAGE, 7, 4 * PAGE) &&
	   laid(p + 10 * PAGE, SIZE - 10 * PAGE, 7, 10 * PAGE),
	   "each is on pages of its own");
	refuses(q, SIZE - 4 * PAGE, ALL_ACCESS, EFAULT, "across the hole");

	munmap(p + 10 * PAGE, SIZE - 10 * PAGE);

	p = mremap(q, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   reserve(4 * PAGE));
	if (p == MAP_FAILED)
		give_up("mremap");
	registers(p, 4 * PAGE, "a mapping that was moved");
	refuses(q, 4 * PAGE, ALL_ACCESS, EFAULT, "where it was before");
	munmap(p, 4 * PAGE);
}

static void adjacent_mappings(void)
{
	char *p = reserve(4 * SIZE);

	put(p, SIZE, RW, fd);
	put(p + SIZE, SIZE, RW, fd);
	registers(p, 2 * SIZE, "two mappings of one device");
	registers(p + SIZE - 100, 200, "a few bytes of each");

	put(p + 2 * SIZE, SIZE, RW, fd2);
	registers(p + 2 * SIZE, SIZE, "a mapping of another device");
	refuses(p + SIZE, 2 * SIZE, ALL_ACCESS, EFAULT,
		"mappings of two devices");
	refuses(p + 2 * SIZE - 8, 16, ALL_ACCESS, EFAULT,
		"a few bytes of each");
	refuses(p, 3 * SIZE, ALL_ACCESS, EFAULT, "all three mappings");

	put(p + 2 * SIZE, SIZE, RW, -1);
	refuses(p + SIZE, 2 * SIZE, ALL_ACCESS, EFAULT,
		"half BAR, half host memory");
	refuses(p + 2 * SIZE - PAGE, 2 * PAGE, ALL_ACCESS, EFAULT,
		"a page of each");
	refuses(p + 2 * SIZE - 8, 16, ALL_ACCESS, EFAULT,
		"a few bytes of each");
	put(p + 3 * SIZE, SIZE, RW, fd);
	/* Less than RLIMIT_MEMLOCK, which comes first for host memory. */
	refuses(p + 3 * SIZE - 2 * PAGE, 4 * PAGE, ALL_ACCESS, EFAULT,
		"half host memory, half BAR");
	refuses(p + 3 * SIZE - 8, 16, ALL_ACCESS, EFAULT,
		"a few bytes of each");
	refuses(p + 3 * SIZE - 8, 16, IBV_ACCESS_REMOTE_READ, EFAULT,
		"for reading only");
	munmap(p, 4 * SIZE);
}

/* What a claim may not cost, whatever the range's length. */
static void far_too_much(void)
{
	const size_t len = 2UL << 40;
	char *p = mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS |
		       MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		give_up("2 TiB of address space");
	put(p, SIZE, RW, fd);
	refuses(p, len, ALL_ACCESS, EFAULT,
		"BAR memory, and 2 TiB of host memory behind it");
	refuses(p, len / 16, ALL_ACCESS, EFAULT, "and 128 GiB");
	munmap(p, len);
	p = reserve(len);
	put(p, SIZE, RW, fd);
	refuses(p, len, ALL_ACCESS, EFAULT, "and 2 TiB of nothing");
	munmap(p, len);
}

static void read_only(void)
{
	int ro_fd = open_device(path, O_RDONLY);
	struct ibv_mr *mr;
	char *p;

	p = map_shared(ro_fd, SIZE, PROT_READ);
	if (!p)
		give_up("read-only mapping");
	refuses(p, SIZE, IBV_ACCESS_LOCAL_WRITE, EFAULT,
		"to write to a read-only mapping");
	refuses(p + 10, 10, ALL_ACCESS, EFAULT,
		"to let peers write to a read-only mapping");
	refuses(p, SIZE, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_ATOMIC,
		EFAULT, "or to compute in one");
	refuses(p, SIZE, IBV_ACCESS_MW_BIND, EFAULT,
		"or to bind windows to one");
	mr = ibv_reg_mr(pd, p, SIZE, IBV_ACCESS_REMOTE_READ);
	ok(mr && peer_sees_zeros(&peer, p, mr->rkey, SIZE),
	   "to let peers read from a read-only mapping");
	if (mr && ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
			       ALL_ACCESS) != 0)
		ok(peer_write(&peer, p, mr->rkey, SIZE, 1) ==
		   IBV_WC_REM_ACCESS_ERR, "it cannot be made writable: %s",
		   strerrorname_np(errno));
	else
		ok(false, "it cannot be made writable");
	ok(all_zero(p, SIZE), "and has not been written to");
	if (mr)
		ibv_dereg_mr(mr);
	munmap(p, SIZE);
	close(ro_fd);

	p = map_shared(fd, SIZE, PROT_READ);
	if (!p)
		give_up("read-only mapping");
	refuses(p, SIZE, IBV_ACCESS_LOCAL_WRITE, EFAULT,
		"to write to a read-only mapping of a writable file");
	mprotect(p, SIZE, RW);
	registers(p, SIZE, "the same, made writable");
	mprotect(p + SIZE / 2, SIZE / 2, PROT_READ);
	refuses(p, SIZE, IBV_ACCESS_LOCAL_WRITE, EFAULT,
		"a mapping that is half writable, half read-only");
	registers(p, SIZE / 2, "its writable half");
	munmap(p, SIZE);

	p = map_shared(fd, SIZE, PROT_NONE);
	if (!p)
		give_up("mapping without access");
	refuses(p, SIZE, IBV_ACCESS_LOCAL_WRITE, EFAULT,
		"a mapping that cannot be accessed");
	refuses(p, SIZE, IBV_ACCESS_REMOTE_READ, EFAULT,
		"nor for peers to read it");
	munmap(p, SIZE);
}

static void dmabuf_mappings(void)
{
	uint64_t before = device_free(fd);
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	int ro_fd = alloc_region(fd, SIZE, 0, O_RDONLY | O_CLOEXEC);
	struct ibv_mr *mr;
	char *p, *q;

	if (buf_fd < 0 || ro_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	p = map_or_give_up(buf_fd, SIZE);
	registers(p, SIZE, "a mapping of a dma-buf");
	registers(p + 100, SIZE - 200, "a part of it");
	q = mmap(NULL, SIZE / 2, RW, MAP_SHARED, buf_fd, SIZE / 2);
	if (q == MAP_FAILED)
		give_up("mmap of the second half");
	lay(p, SIZE, 8, 0);
	mr = ibv_reg_mr(pd, q, SIZE / 2, ALL_ACCESS);
	ok(mr && !peer_write(&peer, q, mr->rkey, SIZE / 2, 9) &&
	   laid(p + SIZE / 2, SIZE / 2, 9, 0) && laid(p, SIZE / 2, 8, 0),
	   "a mapping of its second half is on that half");
	munmap(p, SIZE);
	munmap(q, SIZE / 2);
	close(buf_fd);
	ok(mr && peer_sees(&peer, q, mr->rkey, SIZE / 2, 9) &&
	   device_free(fd) == before - 2 * SIZE,
	   "the MR keeps it when mappings and dma-buf are gone");
	ok(mr && !ibv_dereg_mr(mr) && device_free(fd) == before - SIZE,
	   "and the last thing to go is the MR");

	p = map_shared(ro_fd, SIZE, PROT_READ);
	if (!p)
		give_up("mmap of a read-only dma-buf");
	refuses(p, SIZE, IBV_ACCESS_LOCAL_WRITE, EFAULT,
		"to write to a read-only dma-buf");
	mr = ibv_reg_mr(pd, p, SIZE, IBV_ACCESS_REMOTE_READ);
	ok(mr && peer_sees_zeros(&peer, p, mr->rkey, SIZE),
	   "to let peers read from a read-only dma-buf");
	if (mr)
		ibv_dereg_mr(mr);
	munmap(p, SIZE);
	close(ro_fd);
}

static void many(void)
{
	enum { MANY = 200 };
	char *p = map_or_give_up(fd, SIZE);
	struct ibv_mr *mrs[MANY];
	bool good = true;

	lay(p, SIZE, 5, 0);
	for (int i = 0; i < MANY; i++) {
		mrs[i] = ibv_reg_mr(pd, p + i % 16 * PAGE, PAGE, ALL_ACCESS);
		good &= !!mrs[i];
	}
	ok(good, "%d MRs on one mapping", MANY);
	for (int i = 0; good && i < MANY; i += 37)
		good = peer_sees(&peer, mrs[i]->addr, mrs[i]->rkey, 8,
				 5) == !(i % 16);
	for (int i = 0; i < MANY; i++)
		if (mrs[i])
			good &= !ibv_dereg_mr(mrs[i]);
	ok(good, "each is on its page, and goes");
	munmap(p, SIZE);
}

int main(int argc, char **argv)
{
	uint64_t before, before2;

	if (argc != 3) {
		fprintf(stderr, "usage: verbs_range DEV DEV2\n");
		return EXIT_FAILURE;
	}
	path = argv[1];
	fd = open_device(path, O_RDWR);
	fd2 = open_device(argv[2], O_RDWR);
	before = device_free(fd);
	before2 = device_free(fd2);
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);

	parts_of_a_mapping();
	lengths();
	changed_mappings();
	adjacent_mappings();
	far_too_much();
	read_only();
	dmabuf_mappings();
	many();
	ok(device_free(fd) == before && device_free(fd2) == before2,
	   "nothing was lost on the way");
	return done_testing();
}
