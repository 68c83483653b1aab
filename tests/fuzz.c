// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * fuzz [-s SEED] [-n STEPS] [-t THREADS] [-c] [-v] DISK PCI...: random calls
 * on the memory of PCI functions (sysfs folders), in THREADS threads of STEPS
 * steps each.
 *	-c	nobody takes memory away meanwhile: regions do not die
 *	-v	names each step before it is made, on stderr
 *
 * The random numbers of a step depend on SEED, the thread and the step alone,
 * not on what came of the steps before: the same arguments make the same calls
 * again. How the threads interleave, and when memory is taken away, is not
 * replayed.
 *
 * Half of the steps work on regions that belong to the thread alone, and it
 * knows what must be in each page: nothing but zeros at first, then what it
 * wrote there by CPU, RDMA or DMA. They may die at any moment, for good. The
 * other half is wild: any call, with arguments right and wrong, on descriptors
 * and addresses that all threads share; the kernel has to bear it.
 *
 * DISK is a block device for O_DIRECT; a MiB of it for each thread is
 * overwritten. Needs no privilege but to open the files; the importer is used
 * if it can be opened.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <poll.h>
#include <pthread.h>
#include <rdma/ib_user_verbs.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <infiniband/iopmem.h>

#include "kernel/importer/importer.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	MAX_THREADS = 16,
	OWN_REGIONS = 4,
	OWN_PAGES = 16,		/* of a region, at most; 64 would do */
	WILD_MRS = 6,
	FIRST_WILD_FD = 200,
	WILD_FDS = 48,
	ARENA_PAGES = 2048,
	BUFFER = 32768,		/* more than an ioctl's argument can have */
	MIB = 1 << 20,
	SECONDS_TO_DIE = 20,
	RW = PROT_READ | PROT_WRITE,
	ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		 IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
};

/*
 * Where wild mappings are: below all others, as the kernel puts those that may
 * go anywhere as high as it can, and would find the holes otherwise.
 */
#define ARENA ((char *)(1UL << 36))

/**
 * struct region - memory that one thread knows the contents of
 * @p: its mapping, or NULL
 * @fd: its dma-buf, or -1
 * @npages: 0 if there is no region
 * @written: a bit a page: it holds the pattern, not zeros
 * @gone: a bit a page: it has been unmapped
 * @seed: of the pattern in its first page
 * @dead: it has been revoked
 * @mr: on all of it, or NULL
 * @by_door: @mr is libiopmem's
 * @iova: of @mr
 */
struct region {
	char *p;
	int fd;
	unsigned int npages;
	uint64_t written, gone;
	uint32_t seed;
	bool dead;
	struct ibv_mr *mr;
	bool by_door;
	uint64_t iova;
};

struct wild_mr {
	struct ibv_mr *mr;
	bool plain;	/* its iova is its address */
};

struct worker {
	pthread_t thread;
	unsigned int id;
	unsigned long step;
	const char *doing;
	uint64_t key;		/* of this step's random numbers */
	unsigned int drawn;

	struct ibv_pd *pd;
	struct peer peer;
	struct region regions[OWN_REGIONS];
	struct wild_mr mrs[WILD_MRS];
	int disk, mem;
	off_t disk_at;
	char *buffer;		/* a page that cannot be accessed follows */
	char *read_only;
	unsigned long deaths, checks;
};

static uint64_t seed;
static unsigned long steps = 1000;
static unsigned int threads = 4;
static bool calm, verbose;
static const char *disk;
static char **functions;
static int nfunctions;
static volatile bool failed;

static struct worker workers[MAX_THREADS];

/* ---- random numbers */

static uint64_t draw(struct worker *w)
{
	return pattern_word(w->key, w->drawn++);
}

static unsigned long below(struct worker *w, unsigned long n)
{
	return (draw(w) >> 11) % n;
}

static bool one_in(struct worker *w, unsigned int n)
{
	return !below(w, n);
}

__attribute__((format(printf, 2, 3)))
static void wrong(struct worker *w, const char *fmt, ...)
{
	int error = errno;
	va_list args;

	flockfile(stdout);
	printf("# thread %u, step %lu, %s: ", w->id, w->step, w->doing);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf(" (errno %s)\n", strerrorname_np(error));
	funlockfile(stdout);
	failed = true;
}

/* ---- regions that a thread knows */

static struct region *some_region(struct worker *w)
{
	return &w->regions[below(w, OWN_REGIONS)];
}

static uint32_t page_seed(const struct region *r, unsigned int page)
{
	return r->seed + page;
}

static bool is_mapped(const struct region *r, unsigned int page)
{
	return r->p && !(r->gone >> page & 1);
}

/* A page that is mapped, or -1 */
static int some_page(struct worker *w, const struct region *r)
{
	unsigned int first = below(w, OWN_PAGES), i, page;

	for (i = 0; i < r->npages; i++) {
		page = (first + i) % r->npages;
		if (is_mapped(r, page))
			return page;
	}
	return -1;
}

/*
 * A call failed as it may when the region's memory is taken away. Then all
 * accesses end, if not at once.
 */
static void died(struct worker *w, struct region *r, const char *how)
{
	double limit = now() + SECONDS_TO_DIE;
	bool same;

	if (r->dead)
		return;
	if (calm) {
		wrong(w, "%s, and nobody took the memory away", how);
		return;
	}
	r->dead = true;
	w->deaths++;
	for (unsigned int page = 0; page < r->npages; page++)
		while (is_mapped(r, page) &&
		       touch(r->p + page * PAGE, false) != SIGBUS) {
			if (now() > limit) {
				wrong(w, "%s, but the memory is still there",
				      how);
				return;
			}
			usleep(1000);
		}
	while (r->mr && !peer_read(&w->peer, (void *)r->iova, r->mr->rkey, 8,
				   r->seed, &same)) {
		if (now() > limit) {
			wrong(w, "%s, but RDMA still reaches the memory", how);
			return;
		}
		usleep(1000);
	}
}

struct page_access {
	char *p;
	uint32_t seed;
	bool written, good;
};

static void look_at_page(void *arg)
{
	struct page_access *a = arg;

	a->good = a->written ? filled(a->p, PAGE, a->seed) :
			       all_zero(a->p, PAGE);
}

static void write_page(void *arg)
{
	struct page_access *a = arg;

	fill(a->p, PAGE, a->seed);
}

static struct page_access access_to(const struct region *r, unsigned int page)
{
	return (struct page_access) {
		.p = r->p + page * PAGE,
		.seed = page_seed(r, page),
		.written = r->written >> page & 1,
	};
}

static void check_page(struct worker *w, struct region *r, unsigned int page)
{
	struct page_access a = access_to(r, page);
	int sig = attempt(look_at_page, &a);

	w->checks++;
	if (sig == SIGBUS)
		died(w, r, "SIGBUS");
	else if (sig)
		wrong(w, "signal %d", sig);
	else if (r->dead)
		wrong(w, "the region was dead and is not any more");
	else if (!a.good)
		wrong(w, "page %u of %u does not hold %s", page, r->npages,
		      a.written ? "what was written" : "zeros");
}

static void check_region(struct worker *w, struct region *r)
{
	for (unsigned int page = 0; page < r->npages && !failed; page++)
		if (is_mapped(r, page))
			check_page(w, r, page);
}

static void drop_mr(struct worker *w, struct region *r)
{
	if (!r->mr)
		return;
	errno = r->by_door ? iopmem_dereg_mr(r->mr) : ibv_dereg_mr(r->mr);
	if (errno)
		wrong(w, "deregistration");
	r->mr = NULL;
}

/* Where a page has gone, somebody else's mapping may be by now. */
static void unmap(struct worker *w, struct region *r)
{
	for (unsigned int page = 0; page < r->npages; page++)
		if (is_mapped(r, page) && munmap(r->p + page * PAGE, PAGE))
			wrong(w, "munmap");
	r->p = NULL;
	r->gone = 0;
}

static void drop_region(struct worker *w, struct region *r)
{
	if (one_in(w, 2))
		drop_mr(w, r);
	unmap(w, r);
	if (r->fd >= 0)
		close(r->fd);
	drop_mr(w, r);
	memset(r, 0, sizeof(*r));
	r->fd = -1;
}

static int open_node(struct worker *w, int flags)
{
	const char *function = functions[below(w, nfunctions)];
	char path[512] = "";
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/iopmem", function);
	dir = opendir(path);
	path[0] = '\0';
	while (dir && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "iopmem", 6))
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
	if (dir)
		closedir(dir);
	return open(path, flags | O_CLOEXEC);
}

/* No memory, or none any more: not what the test is about. */
static bool may_be_refused(void)
{
	return errno == ENOMEM ||
	       (!calm && (errno == ENODEV || errno == ENOENT ||
			  errno == ENXIO || errno == EACCES));
}

static void own_create(struct worker *w)
{
	bool mapping = one_in(w, 2), lazy = one_in(w, 2);
	unsigned int npages = 1 + below(w, OWN_PAGES);
	struct region *r = some_region(w);
	int fd;

	drop_region(w, r);
	fd = open_node(w, O_RDWR);
	if (fd >= 0 && mapping)
		r->p = map_shared(fd, npages * PAGE, RW);
	else if (fd >= 0)
		r->fd = alloc_region(fd, npages * PAGE, 0, O_RDWR | O_CLOEXEC);
	if (!r->p && r->fd < 0 && !may_be_refused())
		wrong(w, "no region");
	if (fd >= 0)
		close(fd);
	if (!r->p && r->fd < 0)
		return;
	r->npages = npages;
	r->seed = w->id << 28 | (w->step & 0xffffff) << 4;
	if (r->fd >= 0) {
		r->p = map_shared(r->fd, npages * PAGE, RW);
		if (!r->p)
			died(w, r, "mmap of a dma-buf");
	}
	if (!lazy)
		check_region(w, r);
}

static void own_drop(struct worker *w)
{
	drop_region(w, some_region(w));
}

static void own_write(struct worker *w)
{
	struct region *r = some_region(w);
	int page = some_page(w, r);
	struct page_access a;

	if (page < 0)
		return;
	a = access_to(r, page);
	switch (attempt(write_page, &a)) {
	case 0:
		if (r->dead)
			wrong(w, "the region was dead and is not any more");
		r->written |= 1UL << page;
		break;
	case SIGBUS:
		died(w, r, "SIGBUS");
		break;
	default:
		wrong(w, "SIGSEGV");
	}
}

static void own_check(struct worker *w)
{
	struct region *r = some_region(w);
	int page = some_page(w, r);

	if (page >= 0)
		check_page(w, r, page);
}

static void own_check_all(struct worker *w)
{
	check_region(w, some_region(w));
}

static int some_advice(struct worker *w)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
		MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK,
		MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK,
		MADV_KEEPONFORK, MADV_COLD, MADV_PAGEOUT,
		22 /* populate, to read */, 23 /* and to write */,
		24 /* DONTNEED of what is locked */, 25 /* collapse */, 12345,
	};

	return advice[below(w, sizeof(advice) / sizeof(advice[0]))];
}

/* Whatever the kernel makes of it, the contents stay. */
static void own_advise(struct worker *w)
{
	struct region *r = some_region(w);
	int page = some_page(w, r);

	if (page < 0)
		return;
	madvise(r->p + page * PAGE, PAGE, some_advice(w));
	/* or a child does not see it */
	madvise(r->p + page * PAGE, PAGE, MADV_DOFORK);
	check_page(w, r, page);
}

static void own_move(struct worker *w)
{
	struct region *r = some_region(w);
	size_t len = r->npages * PAGE;
	char *to;

	if (!r->p || r->gone)
		return;
	to = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* It may have become several mappings. Then "to" is gone, too. */
	if (to == MAP_FAILED ||
	    mremap(r->p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		return;
	r->p = to;
	check_region(w, r);
}

static void own_protect(struct worker *w)
{
	struct region *r = some_region(w);
	int page = some_page(w, r), sig;
	char *p;

	if (page < 0)
		return;
	p = r->p + page * PAGE;
	if (mprotect(p, PAGE, PROT_READ))
		return;
	sig = touch(p, true);
	if (sig != SIGSEGV)
		wrong(w, "a write to a read-only page: signal %d", sig);
	if (mprotect(p, PAGE, RW))
		wrong(w, "mprotect");
	check_page(w, r, page);
}

static void own_unmap(struct worker *w)
{
	struct region *r = some_region(w);
	int page = some_page(w, r);

	if (page < 0)
		return;
	if (one_in(w, 2))
		unmap(w, r);
	else if (!munmap(r->p + page * PAGE, PAGE))
		r->gone |= 1UL << page;
}

static void own_map_again(struct worker *w)
{
	struct region *r = some_region(w);

	if (r->fd < 0 || !r->npages)
		return;
	unmap(w, r);
	r->p = map_shared(r->fd, r->npages * PAGE, RW);
	if (!r->p)
		died(w, r, "mmap of a dma-buf");
	/* while it dies it can be mapped, but not accessed */
	check_region(w, r);
}

static void own_fork(struct worker *w)
{
	struct region *r = some_region(w);
	int page = some_page(w, r), status, sig;
	struct page_access a;
	pid_t pid;

	if (page < 0)
		return;
	a = access_to(r, page);
	pid = fork();
	if (!pid) {
		sig = attempt(look_at_page, &a);
		_exit(sig ? sig : !a.good);
	}
	if (pid < 0)
		return;
	status = wait_for(pid);
	if (status == SIGBUS)
		died(w, r, "SIGBUS in a child");
	else if (status)
		wrong(w, "a child's status %d", status);
}

static void own_register(struct worker *w)
{
	struct region *r = some_region(w);
	size_t len = r->npages * PAGE;
	bool door = one_in(w, 2);
	static const uint64_t iovas[] = { 0, PAGE, 1UL << 40, -1UL << 20 };
	uint64_t iova = iovas[below(w, 4)];

	drop_mr(w, r);
	if (!len)
		return;
	r->by_door = door && r->fd >= 0;
	r->iova = r->by_door ? iova : (uintptr_t)r->p;
	if (r->by_door)
		r->mr = iopmem_reg_mr(w->pd, 0, len, iova, r->fd, ACCESS);
	else if (r->p && !r->gone)
		r->mr = ibv_reg_mr(w->pd, r->p, len, ACCESS);
	else
		return;
	if (!r->mr)
		died(w, r, "registration");
	else if (r->dead)
		wrong(w, "a dead region can be registered");
}

/* What remote peers say for a page of an MR */
static const void *remote(const struct region *r, unsigned int page)
{
	return (const void *)(r->iova + page * PAGE);
}

static void rdma_result(struct worker *w, struct region *r, int status)
{
	if (status)
		died(w, r, status_name(status));
	else if (r->dead)
		wrong(w, "RDMA reaches a dead region");
}

static void own_rdma_write(struct worker *w)
{
	struct region *r = some_region(w);
	unsigned int page;
	int status;

	if (!r->mr)
		return;
	page = below(w, r->npages);
	status = peer_write(&w->peer, remote(r, page), r->mr->rkey, PAGE,
			    page_seed(r, page));
	rdma_result(w, r, status);
	if (!status)
		r->written |= 1UL << page;
}

static void own_rdma_check(struct worker *w)
{
	struct region *r = some_region(w);
	unsigned int page;
	bool same, zero;
	int status;

	if (!r->mr)
		return;
	page = below(w, r->npages);
	status = peer_read(&w->peer, remote(r, page), r->mr->rkey, PAGE,
			   page_seed(r, page), &same);
	rdma_result(w, r, status);
	if (status)
		return;
	w->checks++;
	zero = all_zero(w->peer.buffer, PAGE);
	if (r->written >> page & 1 ? !same : !zero)
		wrong(w, "RDMA reads something else");
}

static void own_deregister(struct worker *w)
{
	drop_mr(w, some_region(w));
}

static void own_to_disk(struct worker *w)
{
	struct region *r = some_region(w);
	int page = some_page(w, r);
	bool good;

	if (page < 0)
		return;
	if (pwrite(w->disk, r->p + page * PAGE, PAGE, w->disk_at) != PAGE) {
		died(w, r, "O_DIRECT write");
		return;
	}
	if (pread(w->disk, w->buffer, PAGE, w->disk_at) != PAGE) {
		wrong(w, "the disk does not answer");
		return;
	}
	w->checks++;
	good = r->written >> page & 1 ?
	       filled(w->buffer, PAGE, page_seed(r, page)) :
	       all_zero(w->buffer, PAGE);
	if (!good)
		wrong(w, "the disk was given something else");
}

static void own_from_disk(struct worker *w)
{
	struct region *r = some_region(w);
	int page = some_page(w, r);

	if (page < 0)
		return;
	fill(w->buffer, PAGE, page_seed(r, page));
	if (pwrite(w->disk, w->buffer, PAGE, w->disk_at) != PAGE)
		wrong(w, "the disk does not answer");
	else if (pread(w->disk, r->p + page * PAGE, PAGE, w->disk_at) != PAGE)
		died(w, r, "O_DIRECT read");
	else
		r->written |= 1UL << page;
	if (!r->dead)
		check_page(w, r, page);
}

/* By ways that other processes have too. They need not succeed. */
static void own_peek(struct worker *w)
{
	struct region *r = some_region(w);
	int page = some_page(w, r);
	struct iovec to = { w->buffer, PAGE }, from;
	ssize_t n;

	if (page < 0)
		return;
	from = (struct iovec) { r->p + page * PAGE, PAGE };
	switch (below(w, 3)) {
	case 0:
		n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
		break;
	case 1:
		n = pread(w->mem, w->buffer, PAGE, (off_t)from.iov_base);
		break;
	default:
		/* a copy by the kernel, with what faults that takes */
		n = pwrite(FIRST_WILD_FD - 1, from.iov_base, PAGE,
			   w->disk_at);
		if (n == PAGE)
			n = pread(FIRST_WILD_FD - 1, w->buffer, PAGE,
				  w->disk_at);
		else if (n < 0)
			died(w, r, "write() of it");
		else
			n = -1;
	}
	if (n != PAGE)
		return;
	w->checks++;
	if (r->written >> page & 1 ?
	    !filled(w->buffer, PAGE, page_seed(r, page)) :
	    !all_zero(w->buffer, PAGE))
		wrong(w, "it is something else that way");
}

/* ---- wild calls */

static int some_fd(struct worker *w)
{
	return FIRST_WILD_FD + below(w, WILD_FDS);
}

/* Moves a new descriptor to where all others are. */
static void keep_fd(struct worker *w, int fd)
{
	int to = some_fd(w);

	if (fd < 0)
		return;
	dup3(fd, to, O_CLOEXEC);
	close(fd);
}

/* Part of the arena, usually of whole pages */
static char *some_range(struct worker *w, size_t *len)
{
	size_t first = below(w, ARENA_PAGES);
	size_t n = 1 + below(w, one_in(w, 8) ? ARENA_PAGES : 16);
	size_t odd = one_in(w, 12) ? below(w, PAGE) : 0;

	if (n > ARENA_PAGES - first)
		n = ARENA_PAGES - first;
	*len = n * PAGE - odd;
	return ARENA + first * PAGE + (one_in(w, 2) ? odd : 0);
}

static uint64_t some_number(struct worker *w)
{
	switch (below(w, 8)) {
	case 0:
		return draw(w);
	case 1:
		return 1UL << below(w, 64);
	case 2:
		return -(1UL << below(w, 64));
	case 3:
		return (1UL << below(w, 64)) - 1;
	case 4:
		return 0;
	default:
		return below(w, 64) * PAGE;
	}
}

/* An address for a call's argument, where that is @len bytes of @valid. */
static void *some_pointer(struct worker *w, const void *valid, size_t len)
{
	char *p = w->buffer + BUFFER;
	size_t there;

	switch (below(w, 12)) {
	case 0:
		return NULL;
	case 1:
		return (void *)0xffff888000001000;
	case 2:
		/* ends in the middle */
		there = below(w, len + 1);
		return memcpy(p - there, valid, there);
	case 3:
		return w->read_only + below(w, PAGE);
	case 4:
		return memcpy(w->buffer + 1 + below(w, 7), valid, len);
	case 5:
		/* just fits */
		return memcpy(p - len, valid, len);
	default:
		return memcpy(w->buffer, valid, len);
	}
}

static void wild_open(struct worker *w)
{
	int fd = -1;

	switch (below(w, 12)) {
	case 0:
		fd = memfd_create("wild", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		break;
	case 1:
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		break;
	case 2:
		fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
		break;
	case 3:
		fd = open_node(w, O_PATH);
		break;
	case 4:
		fd = open("/dev/importer", O_RDWR | O_CLOEXEC);
		break;
	default:
		fd = open_node(w, below(w, 3) | (one_in(w, 8) ? O_DIRECT : 0));
	}
	keep_fd(w, fd);
}

static void wild_close(struct worker *w)
{
	close(some_fd(w));
}

static void wild_dup(struct worker *w)
{
	int from = some_fd(w);

	dup3(from, some_fd(w), O_CLOEXEC);
}

/* Mostly what is right, then some of it is not. */
static void wild_alloc(struct worker *w)
{
	struct iopmem_alloc arg = {
		.size = (1 + below(w, 64)) * PAGE,
		.fd_flags = one_in(w, 4) ? O_RDONLY : O_RDWR | O_CLOEXEC,
	}, longer[2] = { };
	unsigned long cmd = IOPMEM_IOC_ALLOC;
	struct iopmem_alloc *p;

	switch (below(w, 10)) {
	case 0:
		arg.size = some_number(w);
		break;
	case 1:
		arg.flags = one_in(w, 2) ? IOPMEM_ALLOC_NOZERO :
					   1U << below(w, 32);
		break;
	case 2:
		arg.fd_flags = some_number(w);
		break;
	case 3:
		arg.fd = some_number(w);
		break;
	case 4:
		arg.reserved = some_number(w);
		break;
	case 5:
		arg.size = below(w, 4) * 8 * MIB;
		break;
	}
	longer[0] = arg;
	if (one_in(w, 8)) {
		cmd = _IOC(below(w, 4), IOPMEM_IOC_MAGIC, 0x10,
			   below(w, sizeof(longer) + 1));
		if (one_in(w, 2))
			memset(&longer[1], draw(w), 1);
	}
	p = some_pointer(w, longer, sizeof(longer));
	if (!ioctl(some_fd(w), cmd, p))
		keep_fd(w, p->fd);
}

static void wild_info(struct worker *w)
{
	struct iopmem_info info[2] = { };
	unsigned long cmd = IOPMEM_IOC_INFO;

	if (one_in(w, 4))
		((char *)info)[below(w, sizeof(info))] = draw(w);
	if (one_in(w, 4))
		cmd = _IOC(3, IOPMEM_IOC_MAGIC, 0x11, below(w, 256));
	ioctl(some_fd(w), cmd, one_in(w, 4) ?
	      ARENA + below(w, ARENA_PAGES * PAGE) :
	      some_pointer(w, info, sizeof(info)));
}

/* Of any kind, or with any number and size */
static void wild_ioctl(struct worker *w)
{
	struct dma_buf_export_sync_file sync = {
		.flags = below(w, 8),
		.fd = -1,
	};
	uint64_t arg[16];
	int fd = some_fd(w);

	for (unsigned int i = 0; i < 16; i++)
		arg[i] = some_number(w);
	switch (below(w, 6)) {
	case 0:
		arg[0] = below(w, 16);
		ioctl(fd, DMA_BUF_IOCTL_SYNC,
		      some_pointer(w, arg, sizeof(arg)));
		break;
	case 1:
		memset(w->buffer, 'n', below(w, 64));
		w->buffer[63] = '\0';
		ioctl(fd, DMA_BUF_SET_NAME_B, w->buffer);
		break;
	case 2:
		if (!ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &sync))
			keep_fd(w, sync.fd);
		break;
	case 3:
		sync.fd = some_fd(w);
		ioctl(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &sync);
		break;
	case 4:
		ioctl(fd, _IOC(below(w, 4), IOPMEM_IOC_MAGIC,
			       0x12 + below(w, 200), below(w, 16384)),
		      some_pointer(w, arg, sizeof(arg)));
		break;
	default:
		ioctl(fd, _IOC(below(w, 4), below(w, 256), 0x80 + below(w, 128),
			       below(w, 64)),
		      some_pointer(w, arg, sizeof(arg)));
	}
}

/*
 * Not IMPORTER_KEEP, as nobody would let go, and rarely DMA, which takes
 * 100 ms.
 */
static void wild_import(struct worker *w)
{
	static const unsigned long calls[] = {
		IMPORTER_PIN, IMPORTER_MAP, IMPORTER_VMAP, IMPORTER_PIN,
		IMPORTER_MAP, IMPORTER_VMAP, IMPORTER_UNPIN, IMPORTER_UNMAP,
		IMPORTER_VUNMAP, IMPORTER_DETACH, IMPORTER_STATE,
		IMPORTER_SEGMENT, IMPORTER_READ, IMPORTER_WRITE,
	};
	struct importer_attach attach = {
		.fd = some_fd(w),
		.kind = below(w, 5),
		.drop_after = (int)below(w, 20) + IMPORTER_DROP_INSIDE,
	};
	struct importer_access access = {
		.offset = some_number(w),
		.data = (uintptr_t)(one_in(w, 2) ? ARENA : w->buffer),
		.length = below(w, BUFFER),
	};
	struct importer_dma dma = {
		.offset = below(w, 4) * PAGE,
		.length = below(w, IMPORTER_MAX_DMA + 2),
		.direction = below(w, 4),
	};
	uint32_t number = below(w, 4);
	unsigned long cmd = calls[below(w, sizeof(calls) / sizeof(calls[0]))];
	int fd = some_fd(w);

	if (one_in(w, 3))
		ioctl(fd, IMPORTER_ATTACH, &attach);
	else if (one_in(w, 200))
		ioctl(fd, IMPORTER_DMA, &dma);
	else if (cmd == IMPORTER_READ || cmd == IMPORTER_WRITE)
		ioctl(fd, cmd, &access);
	else if (cmd == IMPORTER_MAP)
		ioctl(fd, cmd, &number);
	else
		ioctl(fd, cmd, w->buffer);
}

static void wild_mmap(struct worker *w)
{
	static const int flags[] = {
		MAP_SHARED, MAP_SHARED, MAP_SHARED, MAP_PRIVATE,
		MAP_SHARED_VALIDATE, MAP_SHARED_VALIDATE | MAP_SYNC,
		MAP_SHARED | MAP_POPULATE, MAP_SHARED | MAP_LOCKED,
		MAP_SHARED | MAP_NORESERVE, MAP_SHARED | MAP_HUGETLB,
		MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS,
	};
	int kind = flags[below(w, sizeof(flags) / sizeof(flags[0]))];
	int prot = one_in(w, 2) ? RW : (int)below(w, 8);
	off_t offset = one_in(w, 3) ? (off_t)some_number(w) : 0;
	int fd = some_fd(w);
	size_t len;
	char *at = some_range(w, &len), *p;

	if (!one_in(w, 6)) {
		mmap(at, len, prot, kind | MAP_FIXED, fd, offset);
		return;
	}
	len = some_number(w);
	kind &= ~(MAP_POPULATE | MAP_LOCKED);
	p = mmap(NULL, len, prot, kind, fd, offset);
	if (p != MAP_FAILED)
		munmap(p, len);
}

static void wild_munmap(struct worker *w)
{
	size_t len;
	char *p = some_range(w, &len);

	munmap(p, len);
}

static void wild_mremap(struct worker *w)
{
	size_t len, to_len;
	char *p = some_range(w, &len), *to = some_range(w, &to_len), *q;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (one_in(w, 4))
		flags |= 4;	/* MREMAP_DONTUNMAP */
	if (one_in(w, 2))
		to_len = len < to_len ? len : to_len;
	q = mremap(p, one_in(w, 8) ? 0 : len, to_len, flags, to);
	if (q != MAP_FAILED && q != to)
		munmap(q, to_len);
}

static void wild_range_call(struct worker *w)
{
	static unsigned char resident[ARENA_PAGES];
	int flags = below(w, 8), advice = some_advice(w);
	size_t len;
	char *p = some_range(w, &len);

	switch (below(w, 8)) {
	case 0:
	case 1:
		mprotect(p, len, flags);
		break;
	case 2:
	case 3:
		madvise(p, len, advice);
		break;
	case 4:
		msync(p, len, flags);
		break;
	case 5:
		if (flags & 1)
			mlock2(p, len, flags >> 1 & 1);
		else
			munlock(p, len);
		break;
	case 6:
		mincore(p, len, resident);
		break;
	default:
		syscall(SYS_remap_file_pages, p, len, 0, flags, 0);
	}
}

static void wild_touch(struct worker *w)
{
	size_t len;
	char *p = some_range(w, &len);

	for (size_t at = 0; at < len && at < 32 * PAGE; at += PAGE)
		touch(p + at, one_in(w, 2));
}

static void wild_file(struct worker *w)
{
	struct pollfd poll_fd = { .fd = some_fd(w), .events = draw(w) };
	int fd = some_fd(w), other = some_fd(w);
	off_t at = below(w, MIB), other_at = below(w, MIB);
	size_t len, part;
	char *p = some_range(w, &len);

	part = len < 65536 ? len : 65536;
	switch (below(w, 16)) {
	case 0:
		pread(fd, p, part, at);
		break;
	case 1:
		pwrite(fd, p, part, at);
		break;
	case 2:
		read(fd, p, part);
		break;
	case 3:
		lseek(fd, at, SEEK_SET);
		write(fd, p, part);
		lseek(fd, 0, SEEK_SET);
		break;
	case 4:
		lseek(fd, some_number(w), below(w, 6));
		lseek(fd, 0, SEEK_SET);
		break;
	case 5:
		ftruncate(fd, at);
		break;
	case 6:
		fallocate(fd, below(w, 128), at, part);
		break;
	case 7:
		fsync(fd);
		break;
	case 8:
		poll(&poll_fd, 1, 0);
		break;
	case 9:
		sendfile(fd, other, &at, part);
		break;
	case 10:
		copy_file_range(fd, &at, other, &other_at, part, 0);
		break;
	case 11:
		fcntl(fd, F_SETFL, draw(w) & ~O_ASYNC);
		break;
	case 12:
		fcntl(fd, F_ADD_SEALS, draw(w) & 31);
		break;
	case 13:
		readahead(fd, at, part);
		posix_fadvise(fd, at, part, below(w, 8));
		break;
	case 14:
		syscall(SYS_kcmp, getpid(), getpid(), 0, fd, other);
		break;
	default:
		syncfs(fd);
	}
}

static void wild_copy(struct worker *w)
{
	size_t len;
	char *p = some_range(w, &len);
	struct iovec ours = { w->buffer, BUFFER }, theirs = { p, len };

	switch (below(w, 6)) {
	case 0:
		process_vm_readv(getpid(), &ours, 1, &theirs, 1, 0);
		break;
	case 1:
		process_vm_writev(getpid(), &ours, 1, &theirs, 1, 0);
		break;
	case 2:
		pread(w->mem, w->buffer, BUFFER, (off_t)p);
		break;
	case 3:
		pwrite(w->mem, w->buffer, BUFFER, (off_t)p);
		break;
	case 4:
		pread(w->disk, p, len < 65536 ? len : 65536,
		      w->disk_at + MIB / 2);
		break;
	default:
		pwrite(w->disk, p, len < 65536 ? len : 65536,
		       w->disk_at + MIB / 2);
	}
}

static struct wild_mr *some_mr(struct worker *w)
{
	return &w->mrs[below(w, WILD_MRS)];
}

static int some_access(struct worker *w)
{
	return one_in(w, 3) ? (int)draw(w) : (int)below(w, 32);
}

static void replace_mr(struct wild_mr *mr, struct ibv_mr *by, bool plain)
{
	if (!by)
		return;
	/* refused while a window is bound to it */
	if (mr->mr && ibv_dereg_mr(mr->mr)) {
		ibv_dereg_mr(by);
		return;
	}
	mr->mr = by;
	mr->plain = plain;
}

static void wild_register(struct worker *w)
{
	struct wild_mr *mr = some_mr(w);
	int access = some_access(w);
	uint64_t iova = some_number(w);
	bool plain = one_in(w, 2);
	size_t len;
	char *p = some_range(w, &len);

	if (one_in(w, 8))
		len = some_number(w);
	replace_mr(mr, plain ? ibv_reg_mr(w->pd, p, len, access) :
		   ibv_reg_mr_iova(w->pd, p, len, iova, access), plain);
}

/* The library's door leaves another kind of MR, and goes at once. */
static void wild_register_dmabuf(struct worker *w)
{
	uint64_t offset = one_in(w, 2) ? 0 : some_number(w);
	uint64_t iova = one_in(w, 2) ? offset : some_number(w);
	size_t len = one_in(w, 2) ? PAGE : some_number(w);
	struct wild_mr *mr = some_mr(w);
	int access = some_access(w), fd = some_fd(w);
	struct ibv_mr *by_library;

	if (one_in(w, 2)) {
		replace_mr(mr, ibv_reg_dmabuf_mr(w->pd, offset, len, iova, fd,
						 access), false);
		return;
	}
	by_library = iopmem_reg_mr(w->pd, offset, len, iova, fd, access);
	if (by_library)
		iopmem_dereg_mr(by_library);
}

/* Once more than the library would, which frees what it knows of the MR. */
static void wild_deregister(struct worker *w)
{
	struct wild_mr *mr = some_mr(w);
	struct {
		struct ib_uverbs_cmd_hdr header;
		struct ib_uverbs_dereg_mr dereg;
	} cmd = {
		.header = {
			.command = IB_USER_VERBS_CMD_DEREG_MR,
			.in_words = sizeof(cmd) / 4,
		},
		.dereg.mr_handle = mr->mr && one_in(w, 2) ? mr->mr->handle :
				   0x10000 + below(w, 1 << 20),
	};

	if (!mr->mr || ibv_dereg_mr(mr->mr))
		return;
	mr->mr = NULL;
	if (write(w->pd->context->cmd_fd, &cmd, sizeof(cmd)) >= 0)
		wrong(w, "an MR was deregistered twice");
}

/*
 * Rights are only ever taken away: rxe adds the right to write to an MR on
 * memory that is mapped read-only, ours or not.
 */
static void wild_reregister(struct worker *w)
{
	struct wild_mr *mr = some_mr(w);
	int flags = below(w, 8);
	int access = some_access(w) &
		     (IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND);
	size_t len;
	char *p = some_range(w, &len);

	if (mr->mr)
		ask_kernel_to_rereg(mr->mr, flags, w->pd, p, len, access);
}

static void wild_rdma(struct worker *w)
{
	struct ibv_mr *mr = some_mr(w)->mr;
	uint64_t at = one_in(w, 4) ? some_number(w) : below(w, 4) * PAGE;
	size_t len = 8 * below(w, PEER_BUFFER / 8);
	bool same;

	if (!mr)
		return;
	if (one_in(w, 2))
		peer_write(&w->peer, (char *)mr->addr + at, mr->rkey, len, 1);
	else
		peer_read(&w->peer, (char *)mr->addr + at, mr->rkey, len, 1,
			  &same);
}

/*
 * Type 1 within the MR's bounds: stock rxe has bugs in destroying those of
 * type 2, and in bounds.
 */
static void wild_window(struct worker *w)
{
	struct wild_mr *mr = some_mr(w);
	struct ibv_mw *mw;

	if (!mr->mr || !mr->plain || !mr->mr->length)
		return;
	mw = ibv_alloc_mw(w->pd, IBV_MW_TYPE_1);
	if (!mw)
		return;
	pair_bind_mw(peer_pair(&w->peer), 0, mw, mr->mr, mr->mr->addr,
		     mr->mr->length, IBV_ACCESS_REMOTE_READ);
	ibv_dealloc_mw(mw);
}

static void wild_fork(struct worker *w);

static const struct act {
	const char *name;
	void (*run)(struct worker *w);
	unsigned int weight;
	bool alone;		/* a child may do it */
} acts[] = {
	{ "create", own_create, 10, false },
	{ "drop", own_drop, 2, false },
	{ "write", own_write, 12, false },
	{ "check", own_check, 10, false },
	{ "check all", own_check_all, 5, false },
	{ "advise", own_advise, 6, false },
	{ "move", own_move, 3, false },
	{ "protect", own_protect, 3, false },
	{ "unmap", own_unmap, 2, false },
	{ "map again", own_map_again, 4, false },
	{ "fork", own_fork, 1, false },
	{ "register", own_register, 7, false },
	{ "RDMA write", own_rdma_write, 6, false },
	{ "RDMA check", own_rdma_check, 6, false },
	{ "deregister", own_deregister, 2, false },
	{ "to disk", own_to_disk, 3, false },
	{ "from disk", own_from_disk, 3, false },
	{ "peek", own_peek, 5, false },
	{ "wild open", wild_open, 5, true },
	{ "wild close", wild_close, 3, true },
	{ "wild dup", wild_dup, 2, true },
	{ "wild alloc", wild_alloc, 8, true },
	{ "wild info", wild_info, 3, true },
	{ "wild ioctl", wild_ioctl, 4, true },
	{ "wild import", wild_import, 10, true },
	{ "wild mmap", wild_mmap, 12, true },
	{ "wild munmap", wild_munmap, 3, true },
	{ "wild mremap", wild_mremap, 4, true },
	{ "wild range call", wild_range_call, 8, true },
	{ "wild touch", wild_touch, 6, true },
	{ "wild file", wild_file, 6, true },
	{ "wild copy", wild_copy, 6, true },
	{ "wild register", wild_register, 8, false },
	{ "wild register dma-buf", wild_register_dmabuf, 6, false },
	{ "wild deregister", wild_deregister, 4, false },
	{ "wild reregister", wild_reregister, 2, false },
	{ "wild RDMA", wild_rdma, 2, false },
	{ "wild window", wild_window, 1, false },
	{ "wild fork", wild_fork, 1, false },
};

enum { ACTS = sizeof(acts) / sizeof(acts[0]) };

static const struct act *some_act(struct worker *w)
{
	unsigned int total = 0, at;
	const struct act *act;

	for (act = acts; act < acts + ACTS; act++)
		total += act->weight;
	at = below(w, total);
	for (act = acts; at >= act->weight; act++)
		at -= act->weight;
	return act;
}

static void wild_fork(struct worker *w)
{
	pid_t pid = fork();

	if (!pid) {
		for (int i = 0; i < 30; i++) {
			const struct act *act = some_act(w);

			if (act->alone)
				act->run(w);
		}
		_exit(0);
	}
	if (pid > 0 && wait_for(pid))
		wrong(w, "a child has crashed");
}

static void *work(void *arg)
{
	struct worker *w = arg;
	const struct act *act;

	for (w->step = 0; w->step < steps && !failed; w->step++) {
		w->key = pattern_word(seed + w->id, w->step);
		w->drawn = 0;
		act = some_act(w);
		w->doing = act->name;
		if (verbose)
			fprintf(stderr, "%u %lu %s\n", w->id, w->step,
				act->name);
		act->run(w);
	}
	w->doing = "the end";
	for (int i = 0; i < OWN_REGIONS; i++) {
		check_region(w, &w->regions[i]);
		drop_region(w, &w->regions[i]);
	}
	return NULL;
}

static void prepare(struct worker *w, unsigned int id)
{
	w->id = id;
	for (int i = 0; i < OWN_REGIONS; i++)
		w->regions[i].fd = -1;
	w->pd = alloc_pd_on("rxe0");
	peer_init(&w->peer, w->pd);
	w->disk = open_device(disk, O_RDWR | O_DIRECT);
	w->disk_at = (off_t)id * MIB;
	w->mem = open_device("/proc/self/mem", O_RDWR);
	w->buffer = host_memory(BUFFER + PAGE);
	w->read_only = host_memory(2 * PAGE);
	if (mprotect(w->buffer + BUFFER, PAGE, PROT_NONE) ||
	    mprotect(w->read_only, 2 * PAGE, PROT_READ))
		give_up("mprotect");
}

static uint64_t random_seed(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (t.tv_sec ^ t.tv_nsec ^ (uint64_t)getpid() << 16) & 0xffffffff;
}

int main(int argc, char **argv)
{
	unsigned long deaths = 0, checks = 0;
	bool seeded = false;
	double start;
	int opt;

	while ((opt = getopt(argc, argv, "s:n:t:cv")) != -1) {
		switch (opt) {
		case 's':
			seed = strtoul(optarg, NULL, 0);
			seeded = true;
			break;
		case 'n':
			steps = strtoul(optarg, NULL, 0);
			break;
		case 't':
			threads = strtoul(optarg, NULL, 0);
			break;
		case 'c':
			calm = true;
			break;
		case 'v':
			verbose = true;
			break;
		default:
			return EXIT_FAILURE;
		}
	}
	if (argc - optind < 2 || threads < 1 || threads > MAX_THREADS) {
		fprintf(stderr, "usage: fuzz [-s SEED] [-n STEPS] [-t THREADS] [-c] [-v] DISK PCI...\n");
		return EXIT_FAILURE;
	}
	if (!seeded)
		seed = random_seed();
	disk = argv[optind++];
	functions = argv + optind;
	nfunctions = argc - optind;

	printf("# fuzz -s %llu -n %lu -t %u%s %s", (unsigned long long)seed,
	       steps, threads, calm ? " -c" : "", disk);
	for (int i = 0; i < nfunctions; i++)
		printf(" %s", functions[i]);
	printf("\n");
	fflush(stdout);

	if (dup2(memfd_create("fuzz", MFD_CLOEXEC), FIRST_WILD_FD - 1) < 0)
		give_up("memfd");
	for (unsigned int i = 0; i < threads; i++)
		prepare(&workers[i], i);
	start = now();
	for (unsigned int i = 0; i < threads; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			give_up("thread");
	for (unsigned int i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		deaths += workers[i].deaths;
		checks += workers[i].checks;
	}
	printf("# %.0f s, %lu pages checked, %lu regions died\n",
	       now() - start, checks, deaths);
	ok(!failed, "seed %llu, %u threads of %lu steps",
	   (unsigned long long)seed, threads, steps);
	ok(checks > steps / 10, "what regions hold was looked at");
	if (!calm)
		ok(deaths, "regions died under it");
	/* What is still there goes with the process. */
	return done_testing();
}
