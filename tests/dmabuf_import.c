// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * dmabuf_import [-p] ROUTE DEV DEV2 PATTERN CMD...: dma-bufs of /dev/iopmemN
 * as devices see them. A driver that does as it is told (tests/kernel/importer)
 * attaches, pins, maps and vmaps them, and QEMU's edu device does DMA to the
 * addresses that it gets.
 *
 * ROUTE is what PCIe has between edu and both DEV and DEV2: bus (peers below
 * one switch), host (the host bridge), iova (through the IOMMU), or none. After
 * DMA from host memory to DEV the same bytes are in the file PATTERN, and CMD
 * has to find them.
 *	-p	the kernel lets an exporter tell which importers can be revoked
 *
 * Runs as root, as a driver does, and to see physical addresses.
 */
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "import.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SIZE = 3 * PAGE };

enum route { BUS, HOST, IOVA, NONE };

static enum route route;
static bool revocable_known;

/* A dma-buf and a mapping of it for us */
struct buffer {
	int fd;
	char *p;
};

static struct buffer alloc_buffer(int dev, size_t size)
{
	struct buffer b = {
		.fd = alloc_region(dev, size, 0, O_RDWR | O_CLOEXEC),
	};

	if (b.fd < 0)
		give_up("IOPMEM_IOC_ALLOC of %zu bytes", size);
	b.p = map_or_give_up(b.fd, size);
	return b;
}

static struct buffer host_buffer(size_t size)
{
	struct buffer b = { .fd = alloc_host_buffer(size) };

	b.p = map_or_give_up(b.fd, size);
	return b;
}

static void free_buffer(struct buffer *b, size_t size)
{
	munmap(b->p, size);
	close(b->fd);
}

/* As one that writes by CPU what a device is to read has to. */
static void fill_for_device(const struct buffer *b, uint64_t seed)
{
	if (sync_buffer(b->fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE))
		give_up("DMA_BUF_SYNC_START");
	fill(b->p, SIZE, seed);
	if (sync_buffer(b->fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE))
		give_up("DMA_BUF_SYNC_END");
}

static int mapped_importer(int buf_fd)
{
	int importer = importer_of(buf_fd, IMPORTER_REVOCABLE,
				   IMPORTER_DROP_INSIDE);

	if (import_map(importer, IMPORTER_BIDIRECTIONAL))
		give_up("IMPORTER_MAP");
	return importer;
}

/* The call returned 0 or, if there has to be an error, -1 and that errno. */
static void result_is(int ret, int error, const char *what)
{
	if (error)
		fails(ret < 0, error, "%s", what);
	else
		ok(!ret, "%s", what);
}

/* ---- what is granted, step by step */

static void steps(int fd)
{
	int pin_error = revocable_known ? 0 : EOPNOTSUPP;
	int map_error = route == NONE ? EREMOTEIO : 0;
	uint64_t before = device_free(fd);
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	int importer = open_importer();
	struct importer_state state;

	ok(!import_attach(importer, buf_fd, IMPORTER_REVOCABLE,
			  IMPORTER_DROP_INSIDE), "attach");
	result_is(import_map(importer, IMPORTER_BIDIRECTIONAL), map_error,
		  "map without a pin");
	state = import_state(importer);
	ok(state.segments == (map_error ? 0 : 1) && !state.pins,
	   "%d segment", map_error ? 0 : 1);
	if (!map_error)
		ok(!ioctl(importer, IMPORTER_UNMAP), "unmap");

	result_is(ioctl(importer, IMPORTER_PIN), pin_error, "pin");
	result_is(ioctl(importer, IMPORTER_PIN), pin_error, "pin twice");
	result_is(import_map(importer, IMPORTER_BIDIRECTIONAL), map_error,
		  "map");
	if (!pin_error) {
		ok(import_state(importer).pins == 2, "both pins are held");
		ok(!ioctl(importer, IMPORTER_UNPIN), "unpin once");
		ok(!ioctl(importer, IMPORTER_UNPIN),
		   "unpin before the mapping has gone");
	}
	if (!map_error)
		ok(!ioctl(importer, IMPORTER_UNMAP), "unmap");
	result_is(import_map(importer, IMPORTER_BIDIRECTIONAL), map_error,
		  "map again");
	ok(!import_state(importer).moves, "move_notify() was not called");

	close(buf_fd);
	ok(device_free(fd) == before - SIZE,
	   "an attachment keeps the memory without a descriptor");
	ok(!ioctl(importer, IMPORTER_DETACH), "detach");
	ok(device_free(fd) == before, "which gives it back");
	close(importer);
}

static void two_importers(int fd)
{
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	int first, second;

	first = mapped_importer(buf_fd);
	second = mapped_importer(buf_fd);
	/* The IOMMU gives each an address of its own. */
	if (route != IOVA)
		ok(import_segment(first, 0).address ==
		   import_segment(second, 0).address,
		   "two importers of one dma-buf get the same memory");
	ok(import_segment(first, 0).length == SIZE &&
	   import_segment(second, 0).length == SIZE,
	   "two importers of one dma-buf get all of it");
	close(first);
	ok(import_state(second).segments == 1,
	   "and one keeps it when the other goes");
	close(second);
	close(buf_fd);
}

/* Those that would keep the memory when it is to be removed. */
static void unrevocable(int fd)
{
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	int importer = open_importer();

	fails(import_attach(importer, buf_fd, IMPORTER_STATIC,
			    IMPORTER_KEEP) < 0, EOPNOTSUPP,
	      "attach of a static importer");
	if (revocable_known) {
		ok(!import_attach(importer, buf_fd, IMPORTER_DEAF,
				  IMPORTER_KEEP),
		   "attach of an importer without move_notify()");
		fails(ioctl(importer, IMPORTER_PIN) < 0, EOPNOTSUPP,
		      "its pin");
		fails(import_map(importer, IMPORTER_BIDIRECTIONAL) < 0,
		      EOPNOTSUPP, "its mapping");
	}
	close(importer);
	close(buf_fd);
}

/* A device without DMA: pins, and the CPU copies. */
static void virtual_device(int fd)
{
	int pin_error = revocable_known ? 0 : EOPNOTSUPP;
	struct buffer b = alloc_buffer(fd, SIZE);
	int importer = importer_of(b.fd, IMPORTER_VIRTUAL,
				   IMPORTER_DROP_INSIDE);
	uint32_t is_iomem = 0;
	char data[SIZE];

	fails(import_map(importer, IMPORTER_BIDIRECTIONAL) < 0, EOPNOTSUPP,
	      "map for a device without DMA");
	fails(import_vmap(importer, NULL) < 0, EINVAL, "vmap without a pin");
	result_is(ioctl(importer, IMPORTER_PIN), pin_error, "its pin");
	if (pin_error)
		goto out;

	fill(b.p, SIZE, 11);
	ok(!import_vmap(importer, &is_iomem) && is_iomem == 1,
	   "vmap with a pin, as I/O memory");
	ok(!import_read(importer, 0, data, SIZE) && filled(data, SIZE, 11),
	   "it shows what we wrote");
	ok(!import_read(importer, PAGE - 3, data, 7) &&
	   !memcmp(data, b.p + PAGE - 3, 7), "7 bytes across a page boundary");
	fill(data, SIZE, 12);
	ok(!import_write(importer, 0, data, SIZE) && filled(b.p, SIZE, 12),
	   "we see what is written there");
	ok(!import_write(importer, SIZE - 5, "12345", 5) &&
	   !memcmp(b.p + SIZE - 5, "12345", 5) &&
	   filled(b.p, SIZE - 8, 12) &&
	   !memcmp(b.p + SIZE - 8, data + SIZE - 8, 3),
	   "5 bytes at its end, and no others");
	ok(!ioctl(importer, IMPORTER_VUNMAP), "vunmap");
	ok(!ioctl(importer, IMPORTER_UNPIN), "unpin");
	fails(import_vmap(importer, NULL) < 0, EINVAL,
	      "vmap when the pin has gone");
out:
	close(importer);
	free_buffer(&b, SIZE);
}

static void read_only(int fd)
{
	int map_error = route == NONE ? EREMOTEIO : 0;
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDONLY | O_CLOEXEC);
	int importer = importer_of(buf_fd, IMPORTER_REVOCABLE,
				   IMPORTER_DROP_INSIDE);
	struct buffer host;
	int host_importer;

	fails(import_map(importer, IMPORTER_BIDIRECTIONAL) < 0, EACCES,
	      "read-only: map for both ways");
	fails(import_map(importer, IMPORTER_FROM_DEVICE) < 0, EACCES,
	      "read-only: map to be written");
	result_is(import_map(importer, IMPORTER_TO_DEVICE), map_error,
		  "read-only: map to be read");
	ok(!ioctl(importer, IMPORTER_DETACH) &&
	   !import_attach(importer, buf_fd, IMPORTER_VIRTUAL,
			  IMPORTER_DROP_INSIDE), "read-only: attach anew");
	if (revocable_known)
		ok(!ioctl(importer, IMPORTER_PIN) &&
		   !import_vmap(importer, NULL), "read-only: pin and vmap");
	close(importer);

	if (!map_error) {
		host = host_buffer(SIZE);
		host_importer = mapped_importer(host.fd);
		importer = importer_of(buf_fd, IMPORTER_REVOCABLE,
				       IMPORTER_DROP_INSIDE);
		fill_for_device(&host, 13);
		ok(!import_map(importer, IMPORTER_TO_DEVICE) &&
		   !import_copy(importer, 0, host_importer, 0, PAGE) &&
		   all_zero(host.p, PAGE),
		   "read-only: the device reads the zeros that are there");
		close(importer);
		close(host_importer);
		free_buffer(&host, SIZE);
	}
	close(buf_fd);
}

static void directions(int fd)
{
	static const enum importer_direction all[] = {
		IMPORTER_BIDIRECTIONAL, IMPORTER_TO_DEVICE,
		IMPORTER_FROM_DEVICE,
	};
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	int importer = importer_of(buf_fd, IMPORTER_REVOCABLE,
				   IMPORTER_DROP_INSIDE);
	bool good = true;

	for (int i = 0; i < 3; i++)
		good &= !import_map(importer, all[i]) &&
			!ioctl(importer, IMPORTER_UNMAP);
	ok(good, "map for each direction");
	close(importer);
	close(buf_fd);
}

/* ---- addresses */

/* Where the CPU sees the page at p: proc(5), pagemap. */
static uint64_t physical(const char *p)
{
	int fd = open_device("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	if (pread(fd, &entry, sizeof(entry),
		  (uintptr_t)p / PAGE * sizeof(entry)) != sizeof(entry))
		give_up("pagemap");
	close(fd);
	if (!(entry >> 63))
		give_up("no page at %p", p);
	return (entry & ((1ULL << 55) - 1)) * PAGE;
}

static void addresses(int fd)
{
	struct buffer b = alloc_buffer(fd, SIZE);
	int importer = mapped_importer(b.fd);
	struct importer_segment s = import_segment(importer, 0);

	fill(b.p, SIZE, 21);	/* so that it has pages */
	ok(s.length == SIZE, "the segment is as long as the dma-buf");
	ok(in_a_bar(fd, physical(b.p), SIZE), "its memory is in the BAR");
	/* QEMU's host bridge translates nothing. */
	if (route == IOVA)
		ok(s.address != physical(b.p) && !in_a_bar(fd, s.address, 1),
		   "the device gets an address of the IOMMU's");
	else
		ok(s.address == physical(b.p),
		   "the device gets its address in the BAR");
	ok(s.bus_address == (route == BUS),
	   route == BUS ? "as a bus address" : "not as a bus address");
	close(importer);
	free_buffer(&b, SIZE);
}

/* ---- contents */

static int status_of(char **command)
{
	pid_t pid = fork();

	if (!pid) {
		dup2(open_device("/dev/null", O_WRONLY), STDOUT_FILENO);
		execvp(command[0], command);
		_exit(127);
	}
	return wait_for(pid);
}

static void transfers(int fd, int fd2, const char *pattern, char **command)
{
	struct buffer bar = alloc_buffer(fd, SIZE);
	struct buffer bar2 = alloc_buffer(fd2, SIZE);
	struct buffer host = host_buffer(SIZE);
	int to_bar = mapped_importer(bar.fd);
	int to_bar2 = mapped_importer(bar2.fd);
	int to_host = mapped_importer(host.fd);
	uint64_t seed = getpid() * 8;

	fill_for_device(&bar, seed);
	ok(!import_copy(to_bar, 0, to_host, 0, SIZE) &&
	   filled(host.p, SIZE, seed), "DMA from the BAR to host memory");

	fill_for_device(&host, seed + 1);
	ok(!import_copy(to_host, 0, to_bar, 0, SIZE) &&
	   filled(bar.p, SIZE, seed + 1), "DMA from host memory to the BAR");
	save_pattern(pattern, SIZE, seed + 1);
	ok(!status_of(command), "%s agrees", command[0]);

	ok(!import_copy(to_bar, 0, to_bar2, 0, SIZE) &&
	   filled(bar2.p, SIZE, seed + 1), "DMA from the BAR to the other");
	fill_for_device(&bar2, seed + 2);
	ok(!import_copy(to_bar2, 0, to_bar, 0, SIZE) &&
	   filled(bar.p, SIZE, seed + 2), "DMA from the other to the BAR");

	/* From here, bar holds seed + 2, host seed + 1. */
	ok(!import_copy(to_bar, PAGE - 24, to_host, 2 * PAGE - 40, 72) &&
	   !memcmp(host.p + 2 * PAGE - 40, bar.p + PAGE - 24, 72),
	   "72 bytes across page boundaries");
	ok(filled(host.p, 2 * PAGE - 40, seed + 1), "and none before them");
	ok(!import_copy(to_host, 0, to_bar, SIZE - 8, 8) &&
	   filled(bar.p, SIZE - 8, seed + 2) &&
	   !memcmp(bar.p + SIZE - 8, host.p, 8), "the last 8 bytes, no others");

	close(to_bar);
	close(to_bar2);
	close(to_host);
	free_buffer(&bar, SIZE);
	free_buffer(&bar2, SIZE);
	free_buffer(&host, SIZE);
}

/* ---- who keeps the memory */

/* Has it only from the socket, and lets go of all but the importer. */
static int receiver(int sock)
{
	struct buffer host = host_buffer(SIZE);
	int to_host = mapped_importer(host.fd);
	int buf_fd = receive_fd(sock);
	int importer = open_importer();

	if (buf_fd < 0 || import_attach(importer, buf_fd, IMPORTER_REVOCABLE,
					IMPORTER_DROP_INSIDE))
		return 1;
	close(buf_fd);
	if (import_map(importer, IMPORTER_TO_DEVICE))
		return 2;
	if (write(sock, "", 1) != 1)
		return 3;
	/* The sender lets go of everything, then closes its end. */
	if (read(sock, &(char){ 0 }, 1))
		return 4;
	if (import_copy(importer, 0, to_host, 0, PAGE))
		return 5;
	return filled(host.p, PAGE, 31) ? 0 : 6;
}

static void passed_on(int fd)
{
	uint64_t before = device_free(fd);
	struct buffer b;
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		give_up("socketpair");
	pid = fork();
	if (!pid) {
		close(ends[0]);
		_exit(receiver(ends[1]));
	}
	close(ends[1]);
	b = alloc_buffer(fd, SIZE);
	fill_for_device(&b, 31);
	ok(!send_fd(ends[0], b.fd) && read(ends[0], &(char){ 0 }, 1) == 1,
	   "another process imports a dma-buf that it was sent");
	free_buffer(&b, SIZE);
	ok(device_free(fd) == before - SIZE,
	   "it keeps the memory without any descriptor");
	close(ends[0]);
	ok(!wait_for(pid), "and its bytes");
	ok(device_free(fd) == before, "its exit frees it");
}

static void synchronisation(int fd)
{
	static const uint64_t access[] = {
		DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_RW,
	};
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	bool good = true;

	for (int i = 0; i < 3; i++)
		good &= !sync_buffer(buf_fd, DMA_BUF_SYNC_START | access[i]) &&
			!sync_buffer(buf_fd, DMA_BUF_SYNC_END | access[i]);
	ok(good, "begin and end of CPU access");
	close(buf_fd);
}

/* fdinfo tells programs which function's memory it is. */
static void named(int fd)
{
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	char line[128] = "", want[128], path[64];
	struct iopmem_info info;
	FILE *fdinfo;

	if (device_info(fd, &info))
		give_up("IOPMEM_IOC_INFO");
	snprintf(want, sizeof(want), "exp_name:\tiopmem %04x:%02x:%02x.%x\n",
		 info.pci_domain, info.pci_bus, info.pci_devfn >> 3,
		 info.pci_devfn & 7);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", buf_fd);
	fdinfo = fopen(path, "re");
	if (!fdinfo)
		give_up("open %s", path);
	while (strncmp(line, "exp_name:", 9) &&
	       fgets(line, sizeof(line), fdinfo))
		;
	if (!ok(!strcmp(line, want), "fdinfo names the PCI function"))
		printf("# %s", line);
	fclose(fdinfo);
	close(buf_fd);
}

static enum route parse_route(const char *s)
{
	static const char *const names[] = { "bus", "host", "iova", "none" };

	for (int i = 0; i < 4; i++)
		if (!strcmp(s, names[i]))
			return i;
	errno = EINVAL;
	give_up("route \"%s\"", s);
}

int main(int argc, char **argv)
{
	uint64_t before, before2;
	int fd, fd2;

	revocable_known = argc > 1 && !strcmp(argv[1], "-p");
	argc -= revocable_known;
	argv += revocable_known;
	if (argc < 6) {
		fprintf(stderr, "usage: dmabuf_import [-p] ROUTE DEV DEV2 PATTERN CMD...\n");
		return EXIT_FAILURE;
	}
	route = parse_route(argv[1]);
	fd = open_device(argv[2], O_RDWR);
	fd2 = open_device(argv[3], O_RDWR);
	before = device_free(fd);
	before2 = device_free(fd2);

	named(fd);
	synchronisation(fd);
	steps(fd);
	unrevocable(fd);
	virtual_device(fd);
	read_only(fd);
	if (route != NONE) {
		directions(fd);
		two_importers(fd);
		addresses(fd);
		transfers(fd, fd2, argv[4], argv + 5);
		passed_on(fd);
	}
	ok(device_free(fd) == before && device_free(fd2) == before2,
	   "nothing was lost on the way");
	return done_testing();
}
