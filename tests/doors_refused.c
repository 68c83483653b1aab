// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * doors_refused DOOR DEV: what cannot become an MR, with which error, and that
 * nothing is left of the attempt. Needs no privilege but to open DEV.
 *
 * doors_refused none DEV [FILE]: there is no door, on this kernel and with this
 * rdma-core, for any dma-buf of DEV, or of FILE, which is whatever
 * dmabuf_alloc() takes.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/iopmem.h>

#include "access_names.h"
#include "doors.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SIZE = 4 * PAGE };

static struct ibv_pd *pd;
static struct peer peer;
static int fd, buf_fd;

static void refuses_at(int file, uint64_t offset, size_t length,
		       uint64_t iova, int access, int error, const char *what)
{
	struct holdings before = holdings(pd->context, fd), after;
	struct ibv_mr *mr;

	errno = 0;
	mr = door_reg(pd, offset, length, iova, file, access);
	fails(!mr, error, "%s", what);
	if (mr)
		door_dereg(mr);
	after = holdings(pd->context, fd);
	ok(same_holdings(&before, &after), "%s: nothing is left of it", what);
}

static void ranges(void)
{
	static const struct {
		const char *what;
		uint64_t offset, length, iova;
	} rows[] = {
		{ "no bytes", 0, 0, 0 },
		{ "no bytes, in the middle", PAGE, 0, PAGE },
		{ "a byte more than there is", 0, SIZE + 1, 0 },
		{ "a page more than there is", 0, SIZE + PAGE, 0 },
		{ "a range across the end", SIZE - PAGE, 2 * PAGE, 0 },
		{ "a byte behind the end", SIZE, 1, 0 },
		{ "a page far behind the end", 1UL << 40, PAGE, 0 },
		{ "a page at the last offset there is", -PAGE, PAGE, 0 },
		{ "a range whose end wraps", -PAGE, 2 * PAGE, 0 },
		{ "another", 2 * PAGE, -PAGE, 0 },
		{ "as many bytes as there can be", 0, SIZE_MAX, 0 },
		{ "a TiB", 0, 1UL << 40, 0 },
		{ "a range of 2^32 bytes and a page", 0, (1UL << 32) + PAGE, 0 },
		{ "an address that is not as far in its page", 0, PAGE, 8 },
		{ "another such", 123, PAGE, 0 },
		{ "addresses that wrap", 0, SIZE, -PAGE },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		refuses_at(buf_fd, rows[i].offset, rows[i].length,
			   rows[i].iova, LOCAL_WRITE, EINVAL, rows[i].what);
}

static void refuses_file(int file, int error, const char *what)
{
	refuses_at(file, 0, PAGE, 0, LOCAL_WRITE, error, what);
	if (file >= 0)
		close(file);
}

/* Whatever is there to be opened, and not a dma-buf. */
static void files(const char *path)
{
	int ends[2], closed = dup(buf_fd), mem;
	FILE *regular = tmpfile();
	char name[64];

	close(closed);
	refuses_file(-1, EBADF, "no file descriptor");
	refuses_at(closed, 0, PAGE, 0, LOCAL_WRITE, EBADF, "one that is closed");
	refuses_file(1 << 20, EBADF, "one that was never open");

	if (!regular || ftruncate(fileno(regular), SIZE))
		give_up("a temporary file");
	refuses_file(dup(fileno(regular)), EINVAL, "a regular file");
	fclose(regular);
	mem = memfd_create("tests", MFD_CLOEXEC);
	if (mem < 0 || ftruncate(mem, SIZE))
		give_up("memfd");
	refuses_file(mem, EINVAL, "a memfd");
	if (pipe2(ends, O_CLOEXEC))
		give_up("pipe");
	refuses_file(ends[0], EINVAL, "a pipe, to read");
	refuses_file(ends[1], EINVAL, "a pipe, to write");
	refuses_file(open_device("/", O_RDONLY | O_DIRECTORY), EINVAL,
		     "a directory");
	refuses_file(open_device("/dev/null", O_RDWR), EINVAL, "/dev/null");
	refuses_file(open_device("/dev/zero", O_RDWR), EINVAL,
		     "/dev/zero, which can be mapped");
	refuses_file(open_device(path, O_RDWR), EINVAL,
		     "the device that dma-bufs come from");
	refuses_file(dup(pd->context->cmd_fd), EINVAL, "uverbs' own file");
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fileno(stdout));
	refuses_file(open_device(name, O_PATH), EBADF, "a file that is a path");
}

#define ROW(flags, dmabuf, peer)	{ #flags, flags, dmabuf, peer }

/*
 * The dma-buf call of the kernel knows less than its MR call: no windows, no
 * FLUSH.
 */
static const struct row {
	const char *name;
	unsigned int flags;
	int dmabuf, peer;	/* errors by the door, 0: none */
} table[] = {
	ROW(0, 0, 0),
	ROW(LOCAL_WRITE, 0, 0),
	ROW(REMOTE_READ, 0, 0),
	ROW(LOCAL_WRITE | REMOTE_WRITE, 0, 0),
	ROW(LOCAL_WRITE | REMOTE_ATOMIC, 0, 0),
	ROW(LOCAL_WRITE | REMOTE_WRITE | REMOTE_READ | REMOTE_ATOMIC, 0, 0),
	ROW(LOCAL_WRITE | RELAXED_ORDERING, 0, 0),
	ROW(REMOTE_READ | RELAXED_ORDERING, 0, 0),

	ROW(REMOTE_WRITE, EINVAL, EINVAL),
	ROW(REMOTE_WRITE | REMOTE_READ, EINVAL, EINVAL),
	ROW(REMOTE_ATOMIC, EINVAL, EINVAL),
	ROW(LOCAL_WRITE | UNKNOWN, EINVAL, EINVAL),
	ROW(1 << 31, EINVAL, EINVAL),
	ROW(LOCAL_WRITE | MW_BIND, EINVAL, 0),
	ROW(LOCAL_WRITE | FLUSH_GLOBAL, EINVAL, 0),
	ROW(LOCAL_WRITE | FLUSH_PERSISTENT, EINVAL, EINVAL),
	ROW(LOCAL_WRITE | ZERO_BASED, EINVAL, EINVAL),
	ROW(LOCAL_WRITE | ON_DEMAND, EINVAL, EINVAL),
	ROW(ON_DEMAND, EINVAL, EINVAL),
	ROW(LOCAL_WRITE | HUGETLB, EINVAL, EINVAL),
};

static void accesses(void)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct row *row = &table[i];
		int error = door_maps() ? row->peer : row->dmabuf;
		struct ibv_mr *mr;

		if (error) {
			refuses_at(buf_fd, 0, PAGE, 0, row->flags, error,
				   row->name);
			continue;
		}
		mr = door_reg(pd, 0, PAGE, 0, buf_fd, row->flags);
		if (mr)
			ok(!door_dereg(mr), "%s: is granted", row->name);
		else
			fails(true, 0, "%s: is granted", row->name);
	}
}

/* A read-only dma-buf is for reading only. */
static void read_only(const char *path)
{
	int ro_fd = alloc_region(fd, SIZE, 0, O_RDONLY | O_CLOEXEC);
	int other = open_device(path, O_RDONLY);
	int other_ro_fd = alloc_region(other, SIZE, 0, O_RDONLY | O_CLOEXEC);
	struct ibv_mr *mr;

	if (ro_fd < 0 || other_ro_fd < 0)
		give_up("a read-only dma-buf");
	refuses_at(ro_fd, 0, SIZE, 0, LOCAL_WRITE, EACCES,
		   "to write to a read-only dma-buf");
	refuses_at(ro_fd, 0, SIZE, 0, LOCAL_WRITE | REMOTE_WRITE, EACCES,
		   "to let peers write to one");
	refuses_at(ro_fd, 0, SIZE, 0, LOCAL_WRITE | REMOTE_ATOMIC, EACCES,
		   "or compute in one");
	refuses_at(other_ro_fd, 0, SIZE, 0, LOCAL_WRITE, EACCES,
		   "to write to one of a read-only device file");
	refuses_at(ro_fd, 0, SIZE + 1, 0, REMOTE_READ, EINVAL,
		   "to read a byte more than there is");

	mr = door_reg(pd, 0, SIZE, 0, ro_fd, REMOTE_READ);
	ok(mr && peer_sees_zeros(&peer, NULL, mr->rkey, SIZE),
	   "peers can read a read-only dma-buf");
	ok(mr && peer_write(&peer, NULL, mr->rkey, SIZE, 1) ==
	   IBV_WC_REM_ACCESS_ERR && peer_sees_zeros(&peer, NULL, mr->rkey,
						    SIZE),
	   "and not write to it");
	ok(mr && !door_dereg(mr), "the MR goes");
	mr = door_reg(pd, 0, SIZE, 0, ro_fd, 0);
	ok(mr && !door_dereg(mr), "it can be registered to send from");
	close(ro_fd);
	close(other_ro_fd);
	close(other);
}

/* By the kernel itself, which any program may ask: 0 or an errno. */
static int ask_kernel(struct ibv_mr *mr, uint32_t flags)
{
	return ask_kernel_to_rereg(mr, flags, pd, NULL, SIZE,
				   LOCAL_WRITE | REMOTE_WRITE);
}

static void rereg(void)
{
	struct ibv_mr *mr = door_reg(pd, 0, SIZE, 0, buf_fd, REMOTE_READ);
	char *p = map_or_give_up(buf_fd, SIZE);
	int ret;

	if (!mr)
		give_up("MR");
	lay(p, SIZE, 5, 0);
	ret = ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
			   LOCAL_WRITE | REMOTE_WRITE);
	/* libibverbs knows an MR on a dma-buf and does not ask the kernel. */
	fails(ret, door_maps() ? EOPNOTSUPP : EINVAL, "ibv_rereg_mr");
	if (!door_maps()) {
		ok(ask_kernel(mr, IBV_REREG_MR_CHANGE_ACCESS) == EOPNOTSUPP,
		   "the kernel does not change its access either");
		ok(ask_kernel(mr, IBV_REREG_MR_CHANGE_TRANSLATION) ==
		   EOPNOTSUPP, "nor its memory");
	}
	ok(peer_write(&peer, NULL, mr->rkey, SIZE, 6) ==
	   IBV_WC_REM_ACCESS_ERR &&
	   peer_sees(&peer, NULL, mr->rkey, SIZE, 5) && !door_dereg(mr),
	   "the MR is as before");
	munmap(p, SIZE);
}

/* What iopmem_dereg_mr() did not make. */
static void others_mr(void)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, host_memory(SIZE), SIZE, LOCAL_WRITE);

	if (!mr)
		give_up("MR on host memory");
	ok(iopmem_dereg_mr(mr) == EINVAL,
	   "iopmem_dereg_mr of an MR of ibv_reg_mr: EINVAL");
	ok(!ibv_dereg_mr(mr), "which is as before");
}

static void no_door(const char *path)
{
	static const size_t sizes[] = { PAGE, SIZE, 256 * PAGE };
	struct holdings before = holdings(pd->context, fd), after;

	/* As much as may be locked, and more: nobody asks for that. */
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t size = sizes[i];
		int file = dmabuf_alloc(path, size);

		fails(!iopmem_reg_mr(pd, 0, size, 0, file,
				     LOCAL_WRITE | REMOTE_WRITE), EOPNOTSUPP,
		      "%zu bytes of %s, for peers to write", size, path);
		fails(!iopmem_reg_mr(pd, 0, size, 0, file, REMOTE_READ),
		      EOPNOTSUPP, "to read");
		fails(!iopmem_reg_mr(pd, 123, 1, 123, file, LOCAL_WRITE),
		      EOPNOTSUPP, "one byte of it");
		fails(!ibv_reg_dmabuf_mr(pd, 0, size, 0, file, LOCAL_WRITE),
		      EOPNOTSUPP, "by ibv_reg_dmabuf_mr");
		fails(!iopmem_reg_mr(pd, 0, size + 1, 0, file, LOCAL_WRITE),
		      EINVAL, "a byte more than it has");
		fails(!iopmem_reg_mr(pd, 0, size, 0, file, REMOTE_WRITE),
		      EINVAL, "with access that does not go together");
		close(file);
	}
	after = holdings(pd->context, fd);
	ok(same_holdings(&before, &after), "nothing is left of it");
}

static void no_door_read_only(void)
{
	struct holdings before = holdings(pd->context, fd), after;
	int ro_fd = alloc_region(fd, SIZE, 0, O_RDONLY | O_CLOEXEC);

	if (ro_fd < 0)
		give_up("a read-only dma-buf");
	fails(!iopmem_reg_mr(pd, 0, SIZE, 0, ro_fd, REMOTE_READ), EOPNOTSUPP,
	      "a read-only dma-buf");
	fails(!iopmem_reg_mr(pd, 0, SIZE, 0, ro_fd, LOCAL_WRITE), EACCES,
	      "to write to it");
	close(ro_fd);
	after = holdings(pd->context, fd);
	ok(same_holdings(&before, &after), "nothing is left of it");
}

int main(int argc, char **argv)
{
	bool none = argc > 1 && !strcmp(argv[1], "none");
	uint64_t before;

	if (argc != 3 && !(none && argc == 4)) {
		fprintf(stderr, "usage: doors_refused DOOR DEV [FILE]\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[2], O_RDWR);
	before = device_free(fd);
	pd = alloc_pd_on("rxe0");
	if (none) {
		no_door(argv[argc - 1]);
		if (argc == 3)
			no_door_read_only();
	} else {
		buf_fd = dmabuf_alloc(argv[2], SIZE);
		door_choose(argv[1]);
		peer_init(&peer, pd);
		peer_pair(&peer);
		ok(door_is_used(pd, buf_fd), "MRs come by the door");
		ranges();
		files(argv[2]);
		accesses();
		read_only(argv[2]);
		rereg();
		others_mr();
		close(buf_fd);
	}
	ok(device_free(fd) == before, "nothing was lost on the way");
	return done_testing();
}
