// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libiopmem_doors: which door iopmem_reg_mr() tries when, what it makes of
 * refusals, and the table of MRs, on a libibverbs that says what the test wants
 * it to. Needs no kernel support and no RDMA device: a memfd plays the dma-buf.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "tap.h"

enum {
	PAGE = 4096,
	SIZE = 16 * PAGE,
	ALL = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
	      IBV_ACCESS_REMOTE_READ,
	MANY = 10000,
	THREADS = 8,
	ROUNDS = 2000,
};

/**
 * struct door - what a door says, and what it was asked last
 * @says: 0 or an errno
 * @says_of_a_byte: the same, of an MR of one byte, which is not counted
 * @calls: how often it was asked
 * @start: offset (first door) or address (second)
 * @access: after the same fashion
 */
struct door {
	int says;
	int says_of_a_byte;
	int calls;
	uint64_t start;
	size_t length;
	uint64_t iova;
	int access;
};

static struct door first, second;
static int dereg_says, route_says, mode = O_RDWR;
static enum iopmem_route_type route_type;
static bool peer_memory;
static struct ibv_context context;
static struct ibv_pd pd = { .context = &context };

/*
 * In place of libibverbs and of parts of libiopmem: the linker takes these and
 * leaves those in their libraries. The threads below never ask the doors to
 * remember.
 */
static bool remember = true;

/* The address of the next MR, if it is not to be a new one */
static struct ibv_mr *reused;

static struct ibv_mr *ask(struct door *door, uint64_t start, size_t length,
			  uint64_t iova, int access)
{
	int says = length == 1 ? door->says_of_a_byte : door->says;

	if (remember && length != 1) {
		door->calls++;
		door->start = start;
		door->length = length;
		door->iova = iova;
		door->access = access;
	}
	errno = says;
	if (says)
		return NULL;
	return reused ? reused : calloc(1, sizeof(struct ibv_mr));
}

struct ibv_mr *ibv_reg_dmabuf_mr(struct ibv_pd *in, uint64_t offset,
				 size_t length, uint64_t iova, int fd,
				 int access)
{
	(void)in;
	(void)fd;
	return ask(&first, offset, length, iova, access);
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *in, void *addr, size_t length,
				uint64_t iova, unsigned int access)
{
	(void)in;
	return ask(&second, (uintptr_t)addr, length, iova, access);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	if (!dereg_says)
		free(mr);
	return dereg_says;
}

int dmabuf_mode(int fd, int *file_mode)
{
	(void)fd;
	*file_mode = mode;
	return 0;
}

int iopmem_query_route(struct ibv_context *of, int fd,
		       struct iopmem_route *route)
{
	(void)of;
	(void)fd;
	route->type = route_type;
	return route_says;
}

bool sysfs_has_module(const char *root, const char *name)
{
	return !*root && !strcmp(name, "iopmem_peer") && peer_memory;
}

static bool mapped(uint64_t address)
{
	void *page = (void *)(uintptr_t)(address & ~(uint64_t)(PAGE - 1));
	unsigned char in_core;

	return !mincore(page, PAGE, &in_core);
}

static void reset(int first_says, int second_says)
{
	first = (struct door){ .says = first_says };
	second = (struct door){ .says = second_says,
				.says_of_a_byte = second_says };
	route_type = IOPMEM_ROUTE_CPU;
	route_says = 0;
	peer_memory = false;
}

static struct ibv_mr *reg(int fd)
{
	return iopmem_reg_mr(&pd, PAGE + 8, PAGE, 0x1000008, fd, ALL);
}

static bool asked(const struct door *door, uint64_t start)
{
	return door->calls == 1 && door->start == start &&
	       door->length == PAGE && door->iova == 0x1000008 &&
	       door->access == ALL;
}

static void doors(int fd)
{
	static const int missing[] = { EOPNOTSUPP, EPROTONOSUPPORT };
	static const int refused[] = {
		EINVAL, EACCES, EREMOTEIO, ENODEV, ENOMEM, EFAULT, ENOSYS,
		EBADF, EPERM, EIO,
	};
	struct ibv_mr *mr;

	reset(0, 0);
	mr = reg(fd);
	ok(mr && asked(&first, PAGE + 8) && !second.calls,
	   "the first door is taken, and gets what the caller gave");
	ok(!iopmem_dereg_mr(mr), "its MR is deregistered");

	for (size_t i = 0; i < sizeof(missing) / sizeof(*missing); i++) {
		reset(missing[i], 0);
		mr = reg(fd);
		ok(mr && asked(&first, PAGE + 8) && second.calls == 1,
		   "where it says %s, the second is taken",
		   strerrorname_np(missing[i]));
		ok(mapped(second.start) && asked(&second, second.start) &&
		   !memcmp((void *)(uintptr_t)second.start, "here", 4),
		   "on a mapping of the range, at the iova");
		ok(!iopmem_dereg_mr(mr) && !mapped(second.start),
		   "deregistering unmaps it");
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		reset(refused[i], 0);
		fails(!reg(fd) && !second.calls, refused[i],
		      "where it says so, that is the answer");
	}
}

static void refusals(int fd)
{
	static const struct {
		int says;
		int route_says;
		enum iopmem_route_type type;
		int want;
		bool peer_memory;
	} cases[] = {
		{ EFAULT, 0, IOPMEM_ROUTE_CPU, EOPNOTSUPP, false },
		{ EFAULT, 0, IOPMEM_ROUTE_BUS_ADDR, EOPNOTSUPP, false },
		{ EFAULT, 0, IOPMEM_ROUTE_HOST_BRIDGE, EOPNOTSUPP, false },
		{ EFAULT, 0, IOPMEM_ROUTE_NONE, EREMOTEIO, false },
		{ EFAULT, EINVAL, IOPMEM_ROUTE_NONE, EOPNOTSUPP, false },
		{ EREMOTEIO, 0, IOPMEM_ROUTE_BUS_ADDR, EOPNOTSUPP, false },
		{ EREMOTEIO, 0, IOPMEM_ROUTE_NONE, EREMOTEIO, false },
		{ EREMOTEIO, 0, IOPMEM_ROUTE_BUS_ADDR, EREMOTEIO, true },
		{ EREMOTEIO, EINVAL, IOPMEM_ROUTE_NONE, EREMOTEIO, true },
		{ EFAULT, 0, IOPMEM_ROUTE_BUS_ADDR, EOPNOTSUPP, true },
		{ EOPNOTSUPP, 0, IOPMEM_ROUTE_BUS_ADDR, EOPNOTSUPP, false },
		{ EOPNOTSUPP, 0, IOPMEM_ROUTE_NONE, EREMOTEIO, false },
		{ ENOMEM, 0, IOPMEM_ROUTE_NONE, ENOMEM, false },
		{ ENODEV, 0, IOPMEM_ROUTE_NONE, ENODEV, false },
		{ EINVAL, 0, IOPMEM_ROUTE_NONE, EINVAL, false },
		{ EPERM, 0, IOPMEM_ROUTE_NONE, EPERM, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		reset(EOPNOTSUPP, cases[i].says);
		route_type = cases[i].type;
		route_says = cases[i].route_says;
		peer_memory = cases[i].peer_memory;
		fails(!reg(fd) && second.calls == 1, cases[i].want,
		      "no first door, %s at the second, route %d%s%s",
		      strerrorname_np(cases[i].says), cases[i].type,
		      cases[i].route_says ? " unknown" : "",
		      cases[i].peer_memory ? ", with peer memory" : "");
		ok(!mapped(second.start), "and no mapping is left");
	}
}

/*
 * RLIMIT_MEMLOCK is looked at before the memory is: what a small MR would have
 * been told is the better answer.
 */
static void no_memory(int fd)
{
	reset(EOPNOTSUPP, ENOMEM);
	second.says_of_a_byte = EFAULT;
	fails(!reg(fd), EOPNOTSUPP,
	      "too much of what cannot be had at all");
	route_type = IOPMEM_ROUTE_NONE;
	fails(!reg(fd), EREMOTEIO,
	      "too much of what cannot be reached at all");
	second.says_of_a_byte = 0;
	fails(!reg(fd), ENOMEM, "too much of what could be had");
	ok(!mapped(second.start), "and no mapping is left");
}

/* Pages of 2 MiB cannot be mapped from the second page of 4 KiB on. */
static void unmappable(void)
{
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);

	if (fd < 0 || ftruncate(fd, 4 << 20)) {
		skip("no hugetlbfs", "no first door, and no mapping");
		return;
	}
	reset(EOPNOTSUPP, 0);
	fails(!reg(fd) && first.calls == 1 && !second.calls, EOPNOTSUPP,
	      "no first door, and no mapping");
	close(fd);
}

static void modes(int fd)
{
	static const int write_access[] = {
		IBV_ACCESS_LOCAL_WRITE,
		IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
		IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_ATOMIC,
		IBV_ACCESS_MW_BIND,
	};
	struct ibv_mr *mr;

	reset(EOPNOTSUPP, 0);
	mode = O_RDONLY;
	for (size_t i = 0; i < sizeof(write_access) / sizeof(int); i++)
		fails(!iopmem_reg_mr(&pd, 0, PAGE, 0, fd, write_access[i]) &&
		      !first.calls && !second.calls, EACCES,
		      "read-only: access 0x%x", write_access[i]);
	mr = iopmem_reg_mr(&pd, 0, PAGE, 0, fd, IBV_ACCESS_REMOTE_READ |
			   IBV_ACCESS_RELAXED_ORDERING);
	ok(mr && second.calls == 1, "but it can be read");
	/* What writes to the mapping is not the caller's. */
	fails(mprotect((void *)(uintptr_t)second.start, PAGE,
		       PROT_READ | PROT_WRITE), EACCES,
	      "through a mapping that cannot be written");
	ok(!iopmem_dereg_mr(mr), "deregistered");
	mode = O_RDWR;
}

static void deregistering(int fd)
{
	struct ibv_mr *mr, foreign = { 0 };

	reset(EOPNOTSUPP, 0);
	ok(iopmem_dereg_mr(NULL) == EINVAL, "dereg of NULL: EINVAL");
	ok(iopmem_dereg_mr(&foreign) == EINVAL,
	   "dereg of an MR of somebody else: EINVAL");
	mr = reg(fd);
	dereg_says = EBUSY;
	ok(iopmem_dereg_mr(mr) == EBUSY && mapped(second.start),
	   "a refused dereg passes the reason on, and undoes nothing");
	dereg_says = 0;
	ok(!iopmem_dereg_mr(mr) && !mapped(second.start),
	   "so that it can be done later");
	ok(iopmem_dereg_mr(mr) == EINVAL, "dereg twice: EINVAL");
}

/* The caller gave an MR to ibv_dereg_mr(), and another has its address. */
static void behind_our_back(int fd)
{
	struct ibv_mr *mr;
	uint64_t old;

	reset(EOPNOTSUPP, 0);
	mr = reg(fd);
	old = second.start;
	reused = mr;
	reset(EOPNOTSUPP, 0);
	ok(reg(fd) == mr && !mapped(old) && mapped(second.start),
	   "an MR at the address of an old one takes its place");
	reused = NULL;
	ok(!iopmem_dereg_mr(mr) && !mapped(second.start) &&
	   iopmem_dereg_mr(mr) == EINVAL, "and is deregistered, once");
}

/* In an order that is not that of the registrations */
static void many(int fd)
{
	static struct ibv_mr *mr[MANY];
	int bad = 0;

	for (int i = 0; i < MANY; i++) {
		reset(i % 2 ? EOPNOTSUPP : 0, 0);
		mr[i] = reg(fd);
		bad += !mr[i];
	}
	ok(!bad, "%d MRs, by both doors", MANY);
	for (int i = 0; i < MANY; i++)
		bad += !!iopmem_dereg_mr(mr[i * 7919 % MANY]);
	ok(!bad, "each is found again");
	for (int i = 0; i < MANY; i++)
		bad += iopmem_dereg_mr(mr[i]) != EINVAL;
	ok(!bad, "once");
}

static int shared_fd;
static struct ibv_mr *contested[ROUNDS];
static pthread_barrier_t barrier;

/* Returns how many of the contested this thread could deregister. */
static void *compete(void *arg)
{
	intptr_t won = 0;

	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		struct ibv_mr *own = reg(shared_fd);

		if (!own || iopmem_dereg_mr(own))
			return (void *)(intptr_t)-ROUNDS;
	}
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < ROUNDS; i++)
		won += !iopmem_dereg_mr(contested[i]);
	return (void *)won;
}

static void threads(int fd)
{
	pthread_t thread[THREADS];
	intptr_t won, sum = 0;

	reset(EOPNOTSUPP, 0);
	remember = false;
	shared_fd = fd;
	for (int i = 0; i < ROUNDS; i++)
		contested[i] = reg(fd);
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, compete, NULL))
			give_up("thread");
	for (int i = 0; i < THREADS; i++) {
		pthread_join(thread[i], (void **)&won);
		sum += won;
	}
	pthread_barrier_destroy(&barrier);
	ok(sum == ROUNDS,
	   "%d threads: each MR that all deregister is one's, once", THREADS);
	remember = true;
}

int main(void)
{
	int fd = memfd_create("dma-buf", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, SIZE) ||
	    pwrite(fd, "here", 4, PAGE + 8) != 4)
		give_up("memfd");
	doors(fd);
	refusals(fd);
	no_memory(fd);
	unmappable();
	deregistering(fd);
	behind_our_back(fd);
	many(fd);
	threads(fd);
	close(fd);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	modes(fd);
	close(fd);
	return done_testing();
}
