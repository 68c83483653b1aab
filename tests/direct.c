// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * direct [-b] [-e ERRNO] NVME DEV SIZE FILE [CMD...]: O_DIRECT between the
 * block device NVME and SIZE bytes of DEV's memory, in both directions.
 *
 *	-b	through a mapping of a dma-buf, not of DEV itself
 *	-e	both directions must fail with this errno
 *
 * The pattern that is read is left in FILE, and CMD is run while the mapping
 * holds it: it can look at the memory from elsewhere.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

enum { SECTOR = 512 };

static size_t size;

/* What is on the disk, by way of host memory. */
static void *disk_bytes(int nvme, off_t offset)
{
	void *p = aligned_alloc(4096, size);

	if (!p || pread(nvme, p, size, offset) != (ssize_t)size)
		give_up("read %zu bytes from the disk", size);
	return p;
}

static void put_on_disk(int nvme, uint64_t seed)
{
	void *p = aligned_alloc(4096, size);

	if (!p)
		give_up("%zu bytes", size);
	fill(p, size, seed);
	if (pwrite(nvme, p, size, 0) != (ssize_t)size)
		give_up("write %zu bytes to the disk", size);
	free(p);
}

static void run(char **command)
{
	pid_t pid = fork();

	if (!pid) {
		/* What it prints is no result of ours. */
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
		execvp(command[0], command);
		perror(command[0]);
		_exit(127);
	}
	ok(!wait_for(pid), "%s %s sees what was read", command[0],
	   command[1] ? command[1] : "");
}

static void transfers(int nvme, char *bar, uint64_t seed, const char *file,
		      char **command)
{
	void *disk;

	put_on_disk(nvme, seed);
	ok(pread(nvme, bar, size, 0) == (ssize_t)size, "read into the mapping");
	ok(filled(bar, size, seed), "the CPU finds the disk's bytes there");
	if (*command) {
		save_pattern(file, size, seed);
		run(command);
	}

	fill(bar, 3 * SECTOR, seed + 1);
	fill(bar + 4 * SECTOR, size - 4 * SECTOR, seed + 2);
	ok(pread(nvme, bar + 3 * SECTOR, SECTOR, 0) == SECTOR &&
	   filled(bar + 3 * SECTOR, SECTOR, seed), "read of one sector");
	ok(filled(bar, 3 * SECTOR, seed + 1) &&
	   filled(bar + 4 * SECTOR, size - 4 * SECTOR, seed + 2),
	   "its neighbours are untouched");

	fill(bar, size, seed + 3);
	ok(pwrite(nvme, bar, size, size) == (ssize_t)size,
	   "write from the mapping");
	disk = disk_bytes(nvme, size);
	ok(filled(disk, size, seed + 3), "the mapping's bytes are on the disk");
	free(disk);
}

static void refusals(int nvme, char *bar, uint64_t seed, int want)
{
	void *disk;

	put_on_disk(nvme, seed);
	fill(bar, size, seed + 1);
	fails(pread(nvme, bar, size, 0) < 0, want, "read into the mapping");
	ok(filled(bar, size, seed + 1), "the mapping's bytes are as they were");
	fails(pwrite(nvme, bar, size, 0) < 0, want, "write from the mapping");
	disk = disk_bytes(nvme, 0);
	ok(filled(disk, size, seed), "the disk's bytes are as they were");
	free(disk);
}

int main(int argc, char **argv)
{
	bool dmabuf = false;
	int nvme, fd, opt;
	uint64_t before;
	int want = 0;
	void *bar;

	while ((opt = getopt(argc, argv, "+be:")) != -1) {
		switch (opt) {
		case 'b':
			dmabuf = true;
			break;
		case 'e':
			want = errno_named(optarg);
			break;
		default:
			return EXIT_FAILURE;
		}
	}
	if (argc - optind < 4) {
		fprintf(stderr, "usage: direct [-b] [-e ERRNO] NVME DEV SIZE FILE [CMD...]\n");
		return EXIT_FAILURE;
	}
	argv += optind;
	size = parse_size(argv[2]);
	nvme = open_device(argv[0], O_RDWR | O_DIRECT);
	fd = open_device(argv[1], O_RDWR);
	before = device_free(fd);

	if (dmabuf) {
		int buf_fd = alloc_region(fd, size, 0, O_RDWR | O_CLOEXEC);

		if (buf_fd < 0)
			give_up("IOPMEM_IOC_ALLOC of %zu bytes", size);
		bar = map_or_give_up(buf_fd, size);
		close(buf_fd);
	} else {
		bar = map_or_give_up(fd, size);
	}

	if (want)
		refusals(nvme, bar, getpid(), want);
	else
		transfers(nvme, bar, getpid(), argv[3], argv + 4);

	munmap(bar, size);
	ok(device_free(fd) == before, "direct I/O leaves no reference behind");
	return done_testing();
}
