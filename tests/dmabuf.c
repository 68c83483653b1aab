// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * dmabuf DEV SIZE: the dma-buf that IOPMEM_IOC_ALLOC returns, as a file that
 * is mapped, read-only or not, and passed to another process. Needs no
 * privilege.
 */
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

static const char *path;
static size_t size;
static size_t page;

static int alloc_or_give_up(int fd, size_t len)
{
	int buf_fd = alloc_region(fd, len, 0, O_RDWR | O_CLOEXEC);

	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC of %zu bytes", len);
	return buf_fd;
}

/* By which a program finds the function that the memory belongs to. */
static bool is_named(int buf_fd, int fd)
{
	struct iopmem_info info = { 0 };
	char path[64], line[128], want[128];
	bool found = false;
	FILE *f;

	if (ioctl(fd, IOPMEM_IOC_INFO, &info))
		give_up("IOPMEM_IOC_INFO");
	snprintf(want, sizeof(want), "exp_name:\tiopmem %04x:%02x:%02x.%x\n",
		 info.pci_domain, info.pci_bus, info.pci_devfn >> 3,
		 info.pci_devfn & 7);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", buf_fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		found = found || !strcmp(line, want);
	if (f)
		fclose(f);
	return found;
}

static void descriptor(int fd)
{
	uint64_t before = device_free(fd);
	int buf_fd = alloc_or_give_up(fd, size);
	int plain, odd;

	ok(lseek(buf_fd, 0, SEEK_END) == (off_t)size, "SEEK_END is the size");
	ok(fcntl(buf_fd, F_GETFD) == FD_CLOEXEC, "O_CLOEXEC is heeded");
	ok((fcntl(buf_fd, F_GETFL) & O_ACCMODE) == O_RDWR, "so is O_RDWR");
	ok(is_named(buf_fd, fd), "its exporter's name has the PCI address");
	plain = alloc_region(fd, page, 0, O_RDWR);
	ok(plain >= 0 && fcntl(plain, F_GETFD) == 0,
	   "without O_CLOEXEC it is inherited by exec");
	odd = alloc_region(fd, page + 1, 0, O_RDWR | O_CLOEXEC);
	ok(lseek(odd, 0, SEEK_END) == (off_t)(2 * page),
	   "the size is rounded up");
	ok(device_free(fd) == before - size - 3 * page,
	   "free memory is less by their sizes");
	close(buf_fd);
	close(plain);
	close(odd);
	ok(device_free(fd) == before, "close gives it back");
}

static void mappings(int fd)
{
	const int rw = PROT_READ | PROT_WRITE;
	uint64_t before = device_free(fd);
	int buf_fd = alloc_or_give_up(fd, size);
	char *p = map_or_give_up(buf_fd, size);
	char *q = map_or_give_up(buf_fd, size);
	struct dma_buf_sync sync = {
		.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW,
	};

	ok(all_zero(p, size), "a new region is zero");
	fill(p, size, 1);
	ok(filled(q, size, 1), "two mappings of one dma-buf are one region");
	munmap(q, size);
	q = mmap(NULL, page, rw, MAP_SHARED, buf_fd, size - page);
	ok(q != MAP_FAILED && !memcmp(q, p + size - page, page),
	   "a mapping of its last page");
	munmap(q, page);

	fails(!map_shared(buf_fd, size + page, rw), EINVAL,
	      "mmap of more than it has");
	fails(mmap(NULL, page, rw, MAP_SHARED, buf_fd, size) == MAP_FAILED,
	      EINVAL, "mmap from its end");
	fails(mmap(NULL, 2 * page, rw, MAP_SHARED, buf_fd, size - page) ==
	      MAP_FAILED, EINVAL, "mmap across its end");
	fails(mmap(NULL, page, rw, MAP_PRIVATE, buf_fd, 0) == MAP_FAILED,
	      EINVAL, "private mapping");
	fails(mremap(p, size, 2 * size, MREMAP_MAYMOVE) == MAP_FAILED, EFAULT,
	      "mremap to grow");

	ok(!ioctl(buf_fd, DMA_BUF_IOCTL_SYNC, &sync),
	   "DMA_BUF_IOCTL_SYNC, begin");
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
	ok(!ioctl(buf_fd, DMA_BUF_IOCTL_SYNC, &sync), "and end");

	close(buf_fd);
	ok(filled(p, size, 1), "a mapping outlives the descriptor");
	ok(device_free(fd) == before - size, "and keeps the region");
	munmap(p, size);
	ok(device_free(fd) == before, "munmap then frees it");
}

static void read_only(int fd)
{
	int ro_fd = open_device(path, O_RDONLY);
	int buf_fd;
	void *p;

	fails(alloc_region(ro_fd, size, 0, O_RDWR) < 0, EACCES,
	      "writable dma-buf from a read-only file");
	buf_fd = alloc_region(ro_fd, size, 0, O_RDONLY | O_CLOEXEC);
	ok(buf_fd >= 0, "read-only dma-buf from a read-only file");
	close(buf_fd);
	close(ro_fd);

	buf_fd = alloc_region(fd, size, 0, O_RDONLY | O_CLOEXEC);
	ok(buf_fd >= 0 && (fcntl(buf_fd, F_GETFL) & O_ACCMODE) == O_RDONLY,
	   "read-only dma-buf from a writable file");
	fails(!map_shared(buf_fd, size, PROT_READ | PROT_WRITE), EACCES,
	      "its mapping cannot be writable");
	p = map_shared(buf_fd, size, PROT_READ);
	ok(p && all_zero(p, size) && touch(p, true) == SIGSEGV,
	   "a read-only mapping can be read");
	fails(mprotect(p, size, PROT_READ | PROT_WRITE), EACCES,
	      "nor made so later");
	munmap(p, size);
	close(buf_fd);
}

/* Knows nothing of the region but what comes over the socket. */
static int receiver(int sock)
{
	int buf_fd = receive_fd(sock);
	void *p;

	if (buf_fd < 0)
		return 1;
	p = map_shared(buf_fd, size, PROT_READ | PROT_WRITE);
	close(buf_fd);
	if (!p || !filled(p, size, 1))
		return 2;
	fill(p, size, 2);
	if (write(sock, "", 1) != 1)
		return 3;
	/* The sender lets go of everything, then closes its end. */
	if (read(sock, &(char){ 0 }, 1))
		return 4;
	return filled(p, size, 2) ? 0 : 5;
}

static void passed_on(int fd)
{
	uint64_t before = device_free(fd);
	int ends[2];
	int buf_fd;
	pid_t pid;
	void *p;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		give_up("socketpair");
	pid = fork();
	if (!pid) {
		close(fd);
		close(ends[0]);
		_exit(receiver(ends[1]));
	}
	close(ends[1]);
	buf_fd = alloc_or_give_up(fd, size);
	p = map_or_give_up(buf_fd, size);
	fill(p, size, 1);
	ok(!send_fd(ends[0], buf_fd), "a dma-buf goes over a unix socket");
	ok(read(ends[0], &(char){ 0 }, 1) == 1 && filled(p, size, 2),
	   "the receiver maps it and changes our bytes");
	munmap(p, size);
	close(buf_fd);
	ok(device_free(fd) == before - size, "the receiver keeps the region");
	close(ends[0]);
	ok(!wait_for(pid), "and its bytes, when we let go of it");
	ok(device_free(fd) == before, "its exit frees it");

	/* On its way, a descriptor belongs to the socket alone. */
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		give_up("socketpair");
	buf_fd = alloc_or_give_up(fd, size);
	send_fd(ends[0], buf_fd);
	close(buf_fd);
	ok(device_free(fd) == before - size,
	   "a descriptor that nobody received keeps the region");
	close(ends[0]);
	close(ends[1]);
	ok(device_free(fd) == before, "closing the socket frees it");
}

static void outlives_device_file(void)
{
	int fd = open_device(path, O_RDWR);
	int buf_fd = alloc_or_give_up(fd, size);
	void *p;

	close(fd);
	p = map_shared(buf_fd, size, PROT_READ | PROT_WRITE);
	ok(p && all_zero(p, size),
	   "a dma-buf can be mapped when the device file is closed");
	munmap(p, size);
	close(buf_fd);
}

int main(int argc, char **argv)
{
	uint64_t before;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: dmabuf DEV SIZE\n");
		return EXIT_FAILURE;
	}
	path = argv[1];
	size = parse_size(argv[2]);
	page = sysconf(_SC_PAGESIZE);

	fd = open_device(path, O_RDWR);
	before = device_free(fd);
	descriptor(fd);
	mappings(fd);
	read_only(fd);
	passed_on(fd);
	outlives_device_file();
	ok(device_free(fd) == before, "nothing was lost on the way");
	return done_testing();
}
