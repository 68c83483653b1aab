// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * libiopmem_calls DEV RDMADEV DOOR: every call of libiopmem with good and with
 * wrong arguments. DOOR is the one that MRs should come by: 1 the dma-buf's, 2
 * that of a mapping, 0 for an RDMA device or a kernel that has neither. Needs
 * no privilege.
 */
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/iopmem.h>

#include "tap.h"
#include "util.h"
#include "verbs.h"

enum {
	PAGE = 4096,
	SIZE = 16 * PAGE,
	LW = IBV_ACCESS_LOCAL_WRITE,
	RW = IBV_ACCESS_REMOTE_WRITE,
	RR = IBV_ACCESS_REMOTE_READ,
	RA = IBV_ACCESS_REMOTE_ATOMIC,
};

static const char *path;
static int door;
static struct ibv_pd *pd;

/* Does this process have a dma-buf mapped? */
static bool dmabuf_mapped(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	bool found = false;

	if (!maps)
		give_up("/proc/self/maps");
	while (fgets(line, sizeof(line), maps))
		found |= !!strstr(line, "dmabuf");
	fclose(maps);
	return found;
}

static int alloc_or_give_up(int fd, size_t size)
{
	int buf_fd = iopmem_alloc(fd, size, 0);

	if (buf_fd < 0)
		give_up("iopmem_alloc of %zu bytes", size);
	return buf_fd;
}

/* A descriptor that is not open: 2^20 or so are allowed. */
static const int closed = 0x7fff0000;

/**
 * struct kind - a file that is neither a /dev/iopmemN nor a dma-buf
 */
struct kind {
	const char *name;
	int fd;
};

enum { KINDS = 7 };

static void open_kinds(struct kind kinds[KINDS])
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		give_up("pipe");
	kinds[0] = (struct kind){ "a regular file",
		open("/proc/self/exe", O_RDONLY | O_CLOEXEC) };
	kinds[1] = (struct kind){ "a memfd", memfd_create("x", MFD_CLOEXEC) };
	kinds[2] = (struct kind){ "the reading end of a pipe", ends[0] };
	kinds[3] = (struct kind){ "the writing end", ends[1] };
	kinds[4] = (struct kind){ "a folder",
		open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	kinds[5] = (struct kind){ "another device",
		open("/dev/zero", O_RDWR | O_CLOEXEC) };
	kinds[6] = (struct kind){ "an RDMA device", pd->context->cmd_fd };
	for (int i = 0; i < KINDS; i++)
		if (kinds[i].fd < 0)
			give_up("open %s", kinds[i].name);
}

static void close_kinds(struct kind kinds[KINDS])
{
	for (int i = 0; i < KINDS - 1; i++)
		close(kinds[i].fd);
}

static void alloc(int fd, const struct kind *kinds)
{
	uint64_t before = device_free(fd);
	int ro_fd = open_device(path, O_RDONLY);
	int buf_fd = iopmem_alloc(fd, PAGE + 1, 0);

	ok(buf_fd >= 0 && lseek(buf_fd, 0, SEEK_END) == 2 * PAGE,
	   "alloc: the size is rounded up");
	ok(fcntl(buf_fd, F_GETFD) == FD_CLOEXEC &&
	   (fcntl(buf_fd, F_GETFL) & O_ACCMODE) == O_RDWR,
	   "alloc: O_CLOEXEC, and writable as the device is");
	close(buf_fd);
	buf_fd = iopmem_alloc(ro_fd, PAGE, 0);
	ok(buf_fd >= 0 && (fcntl(buf_fd, F_GETFL) & O_ACCMODE) == O_RDONLY,
	   "alloc: read-only as the device is");

	fails(iopmem_alloc(fd, 0, 0) == -1, EINVAL, "alloc: no bytes");
	fails(iopmem_alloc(fd, SIZE_MAX, 0) == -1, EINVAL,
	      "alloc: more bytes than there can be");
	fails(iopmem_alloc(fd, before + PAGE, 0) == -1, ENOMEM,
	      "alloc: more than there are");
	fails(iopmem_alloc(fd, PAGE, 1U << 31) == -1, EINVAL,
	      "alloc: an unknown flag");
	if (geteuid())
		fails(iopmem_alloc(fd, PAGE, IOPMEM_ALLOC_NOZERO) == -1, EPERM,
		      "alloc: not zeroed, unprivileged");
	fails(iopmem_alloc(closed, PAGE, 0) == -1, EBADF, "alloc: not open");
	fails(iopmem_alloc(-1, PAGE, 0) == -1, EBADF, "alloc: -1");
	fails(iopmem_alloc(buf_fd, PAGE, 0) == -1, EINVAL, "alloc: a dma-buf");
	for (int i = 0; i < KINDS; i++)
		fails(iopmem_alloc(kinds[i].fd, PAGE, 0) == -1, EINVAL,
		      "alloc: %s", kinds[i].name);
	close(buf_fd);
	close(ro_fd);
	ok(device_free(fd) == before, "alloc: all is free again");
}

static void info(int fd, const struct kind *kinds)
{
	struct iopmem_info got, want;
	int buf_fd = alloc_or_give_up(fd, PAGE);

	memset(&got, 0x55, sizeof(got));
	ok(!iopmem_query_info(fd, &got) && !device_info(fd, &want) &&
	   !memcmp(&got, &want, sizeof(got)), "info: what the kernel says");
	ok(iopmem_query_info(closed, &got) == EBADF, "info: not open: EBADF");
	ok(iopmem_query_info(buf_fd, &got) == EINVAL,
	   "info: a dma-buf: EINVAL");
	for (int i = 0; i < KINDS; i++)
		ok(iopmem_query_info(kinds[i].fd, &got) == EINVAL,
		   "info: %s: EINVAL", kinds[i].name);
	close(buf_fd);
}

static void route(int fd, const struct kind *kinds)
{
	struct ibv_context *context = pd->context;
	struct iopmem_route got, want = {
		.type = IOPMEM_ROUTE_CPU,
		.reason = IOPMEM_REASON_VIRTUAL,
		.distance = -1,
	};
	int buf_fd = alloc_or_give_up(fd, PAGE);
	struct iopmem_info info;

	if (device_info(fd, &info))
		give_up("IOPMEM_IOC_INFO");
	snprintf(want.provider, sizeof(want.provider), "%04x:%02x:%02x.%x",
		 info.pci_domain, info.pci_bus, info.pci_devfn >> 3,
		 info.pci_devfn & 7);
	memset(&got, 0x55, sizeof(got));
	ok(!iopmem_query_route(context, fd, &got) &&
	   !memcmp(&got, &want, sizeof(got)),
	   "route: a virtual device, from %s to the node", want.provider);
	memset(&got, 0x55, sizeof(got));
	ok(!iopmem_query_route(context, buf_fd, &got) &&
	   !memcmp(&got, &want, sizeof(got)), "route: to its dma-buf too");
	ok(iopmem_query_route(context, closed, &got) == EBADF,
	   "route: not open: EBADF");
	for (int i = 0; i < KINDS; i++)
		ok(iopmem_query_route(context, kinds[i].fd, &got) == EINVAL,
		   "route: %s: EINVAL", kinds[i].name);
	close(buf_fd);
}

static void reasons(void)
{
	const char *said[IOPMEM_REASON_NOT_PCI + 1];
	bool distinct = true;

	for (int i = 0; i <= IOPMEM_REASON_NOT_PCI; i++) {
		said[i] = iopmem_route_reason_str(i);
		for (int j = 0; j < i; j++)
			distinct &= !!strcmp(said[i], said[j]);
		distinct &= !!strcmp(said[i], "unknown reason");
	}
	ok(distinct, "reason: each has words of its own");
	ok(!strcmp(iopmem_route_reason_str(12345), "unknown reason"),
	   "reason: unknown");
}

/**
 * struct request - arguments of iopmem_reg_mr()
 */
struct request {
	const char *name;
	uint64_t offset;
	size_t length;
	uint64_t iova;
	int access;
};

static struct ibv_mr *reg(const struct request *request, int fd)
{
	return iopmem_reg_mr(pd, request->offset, request->length,
			     request->iova, fd, request->access);
}

/* By the door that should be open, or EOPNOTSUPP if none is */
static void granted(const struct request *request, int fd)
{
	struct ibv_mr *mr = reg(request, fd);
	bool as_asked;

	if (!door) {
		fails(!mr, EOPNOTSUPP, "reg: %s", request->name);
	} else {
		as_asked = mr && mr->length == request->length &&
			   mr->pd == pd && mr->context == pd->context &&
			   mr->lkey && dmabuf_mapped() == (door == 2);
		if (!ok(as_asked && !iopmem_dereg_mr(mr), "reg: %s",
			request->name))
			printf("# %s\n", mr ? "it is not as asked for" :
						strerror(errno));
	}
	if (dmabuf_mapped())
		ok(false, "reg: %s: and a mapping is left", request->name);
}

static void good_requests(int fd)
{
	static const struct request requests[] = {
		{ "all of it", 0, SIZE, 0x1000000, LW | RW | RR | RA },
		{ "the first byte", 0, 1, 0, LW },
		{ "the last byte", SIZE - 1, 1, PAGE - 1, LW },
		{ "the last page", SIZE - PAGE, PAGE, 0, LW },
		{ "odd offset and length", PAGE + 123, 4567, 5 * PAGE + 123,
		  LW | RW },
		{ "the last iova there is", 0, PAGE - 1,
		  UINT64_MAX - PAGE + 1, LW },
		{ "no access flags", 0, PAGE, 0, 0 },
		{ "remote reads", 0, PAGE, 0, RR },
		{ "remote atomics", 0, PAGE, 0, LW | RA },
		{ "relaxed ordering", 0, PAGE, 0,
		  LW | IBV_ACCESS_RELAXED_ORDERING },
	};

	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++)
		granted(&requests[i], fd);
}

static void wrong_requests(int fd)
{
	static const struct request requests[] = {
		{ "no bytes", 0, 0, 0, LW },
		{ "no bytes at the end", SIZE, 0, 0, LW },
		{ "a byte too many", 0, SIZE + 1, 0, LW },
		{ "a page too many", PAGE, SIZE, 0, LW },
		{ "a byte after the end", SIZE, 1, 0, LW },
		{ "across the end", SIZE - 1, 2, PAGE - 1, LW },
		{ "all that a size can say", 0, SIZE_MAX, 0, LW },
		{ "an offset that wraps with the length", -(uint64_t)PAGE,
		  2 * PAGE, 0, LW },
		{ "an end that wraps to 0", PAGE, -(size_t)PAGE, 0, LW },
		{ "an end that wraps into the dma-buf", 2 * PAGE,
		  -(size_t)PAGE, 0, LW },
		{ "an iova that wraps to 0", 0, PAGE, -(uint64_t)PAGE, LW },
		{ "an iova that wraps", 0, 2 * PAGE, -(uint64_t)PAGE, LW },
		{ "an iova off by one", 0, PAGE, 1, LW },
		{ "an offset off by one", 1, PAGE, 0, LW },
		{ "remote writes without local ones", 0, PAGE, 0, RW },
		{ "atomics without local writes", 0, PAGE, 0, RA },
		{ "zero-based", 0, PAGE, 0, LW | IBV_ACCESS_ZERO_BASED },
		{ "on demand", 0, PAGE, 0, LW | IBV_ACCESS_ON_DEMAND },
		{ "huge pages", 0, PAGE, 0, LW | IBV_ACCESS_HUGETLB },
		{ "an access flag that does not exist", 0, PAGE, 0,
		  LW | 1 << 12 },
		{ "the sign bit", 0, PAGE, 0, LW | 1 << 31 },
	};

	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++)
		fails(!reg(&requests[i], fd), EINVAL, "reg: %s",
		      requests[i].name);
}

static void wrong_files(int fd, int buf_fd, const struct kind *kinds)
{
	static const struct request request = { "", 0, PAGE, 0, LW };
	char name[64];
	int name_fd;

	fails(!reg(&request, closed), EBADF, "reg: not open");
	fails(!reg(&request, -1), EBADF, "reg: -1");
	fails(!reg(&request, fd), EINVAL, "reg: a /dev/iopmemN");
	for (int i = 0; i < KINDS; i++)
		fails(!reg(&request, kinds[i].fd), EINVAL, "reg: %s",
		      kinds[i].name);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", buf_fd);
	name_fd = open(name, O_PATH | O_CLOEXEC);
	fails(!reg(&request, name_fd), EBADF, "reg: a dma-buf with O_PATH");
	close(name_fd);
}

static void read_only(void)
{
	static const struct request readers[] = {
		{ "read-only, remote reads", 0, PAGE, 0, RR },
		{ "read-only, no access flags", PAGE, 10, 0, 0 },
		{ "read-only, relaxed ordering", 0, PAGE, 0,
		  RR | IBV_ACCESS_RELAXED_ORDERING },
	};
	static const struct request writers[] = {
		{ "read-only, local writes", 0, PAGE, 0, LW },
		{ "read-only, remote writes", 0, PAGE, 0, LW | RW },
		{ "read-only, atomics", 0, PAGE, 0, LW | RA | RR },
		{ "read-only, memory windows", 0, PAGE, 0,
		  IBV_ACCESS_MW_BIND },
	};
	int fd = open_device(path, O_RDONLY);
	int buf_fd = alloc_or_give_up(fd, SIZE);

	for (size_t i = 0; i < sizeof(readers) / sizeof(*readers); i++)
		granted(&readers[i], buf_fd);
	for (size_t i = 0; i < sizeof(writers) / sizeof(*writers); i++)
		fails(!reg(&writers[i], buf_fd), EACCES, "reg: %s",
		      writers[i].name);
	close(buf_fd);
	close(fd);
}

/* The second door takes them, the first does not. */
static void memory_windows(int buf_fd)
{
	static const struct request request = {
		"memory windows", 0, PAGE, 0, LW | IBV_ACCESS_MW_BIND,
	};

	if (door == 1)
		fails(!reg(&request, buf_fd), EINVAL, "reg: memory windows");
	else
		granted(&request, buf_fd);
}

/* System memory behind a dma-buf that is not ours; -1 if there is none here. */
static int foreign_dmabuf(void)
{
	struct udmabuf_create arg = { .flags = UDMABUF_FLAGS_CLOEXEC,
				      .size = SIZE };
	int fd = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	int buf_fd = -1;

	if (fd < 0)
		return -1;
	arg.memfd = memfd_create("udmabuf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (!ftruncate(arg.memfd, SIZE) &&
	    !fcntl(arg.memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		buf_fd = ioctl(fd, UDMABUF_CREATE, &arg);
	if (buf_fd < 0)
		give_up("udmabuf");
	close(arg.memfd);
	close(fd);
	return buf_fd;
}

/*
 * The first door takes them, and the second does not: the pages of this one's
 * mappings are nobody's to pin.
 */
static void foreign(void)
{
	static const struct request request = { "udmabuf", 0, PAGE, 0, LW };
	struct iopmem_route got;
	int buf_fd = foreign_dmabuf();

	if (buf_fd < 0) {
		skip("/dev/udmabuf cannot be opened", "a dma-buf of others");
		return;
	}
	ok(iopmem_query_route(pd->context, buf_fd, &got) == EINVAL,
	   "route: a dma-buf of others: EINVAL");
	if (door == 1)
		granted(&request, buf_fd);
	else
		fails(!reg(&request, buf_fd), EOPNOTSUPP, "reg: udmabuf");
	close(buf_fd);
}

static void dereg(int buf_fd)
{
	static const struct request request = { "", 0, PAGE, 0, LW };
	static char page[PAGE] __attribute__((aligned(PAGE)));
	struct ibv_mr *mr, garbage;

	memset(&garbage, 0xff, sizeof(garbage));
	ok(iopmem_dereg_mr(NULL) == EINVAL, "dereg: NULL: EINVAL");
	ok(iopmem_dereg_mr(&garbage) == EINVAL, "dereg: no MR: EINVAL");
	mr = ibv_reg_mr(pd, page, sizeof(page), LW);
	if (!mr)
		give_up("MR on host memory");
	ok(iopmem_dereg_mr(mr) == EINVAL,
	   "dereg: an MR of ibv_reg_mr(): EINVAL");
	ok(!ibv_dereg_mr(mr), "dereg: and it is as before");
	if (!door)
		return;
	mr = reg(&request, buf_fd);
	ok(mr && !iopmem_dereg_mr(mr) && iopmem_dereg_mr(mr) == EINVAL,
	   "dereg: twice: EINVAL");
}

int main(int argc, char **argv)
{
	struct kind kinds[KINDS];
	uint64_t before;
	int fd, buf_fd;

	if (argc != 4) {
		fprintf(stderr, "usage: libiopmem_calls DEV RDMADEV DOOR\n");
		return EXIT_FAILURE;
	}
	path = argv[1];
	door = atoi(argv[3]);
	pd = alloc_pd_on(argv[2]);
	fd = open_device(path, O_RDWR);
	open_kinds(kinds);
	before = device_free(fd);

	alloc(fd, kinds);
	info(fd, kinds);
	route(fd, kinds);
	reasons();
	buf_fd = alloc_or_give_up(fd, SIZE);
	good_requests(buf_fd);
	wrong_requests(buf_fd);
	wrong_files(fd, buf_fd, kinds);
	read_only();
	memory_windows(buf_fd);
	foreign();
	dereg(buf_fd);
	ok(!dmabuf_mapped(), "no mapping is left");
	close(buf_fd);
	close_kinds(kinds);
	ok(device_free(fd) == before, "all is free");
	close(fd);
	close_rdma_device(pd);
	return done_testing();
}
