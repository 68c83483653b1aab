// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * regions DEV SIZE: who gets which memory, and in what state. A region never
 * shows another's bytes, neither while both live nor after one has gone.
 *
 * Runs as root: IOPMEM_ALLOC_NOZERO occupies the rest of the device without
 * the time it takes to zero it, and lets the test see what zeroing hides.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

enum { MAX_BALLAST = 64 };

static const char *path;
static size_t size;

struct ballast {
	int fds[MAX_BALLAST];
	int n;
	uint64_t bytes;
};

/* Takes everything that is free, in as few pieces as the free ranges allow. */
static void occupy(int fd, struct ballast *b)
{
	uint64_t left = device_free(fd);
	uint64_t piece = left;
	int got;

	memset(b, 0, sizeof(*b));
	while (left && piece && b->n < MAX_BALLAST) {
		got = alloc_region(fd, piece, IOPMEM_ALLOC_NOZERO,
				   O_RDWR | O_CLOEXEC);
		if (got < 0 && errno != ENOMEM)
			give_up("occupying %llu bytes",
				(unsigned long long)piece);
		if (got < 0) {
			piece = piece / 2 & -(uint64_t)sysconf(_SC_PAGESIZE);
			continue;
		}
		b->fds[b->n++] = got;
		b->bytes += piece;
		left -= piece;
		if (piece > left)
			piece = left;
	}
}

static void release(struct ballast *b)
{
	while (b->n)
		close(b->fds[--b->n]);
}

struct two {
	void *mine, *theirs;
	int fd;
};

/* In a process of its own: a third region, beside two that are inherited. */
static int third_region(void *arg)
{
	struct two *t = arg;
	void *p = map_shared(t->fd, size, PROT_READ | PROT_WRITE);

	if (!p || !all_zero(p, size))
		return 1;
	fill(p, size, 3);
	if (!filled(t->mine, size, 1) || !filled(t->theirs, size, 2))
		return 2;
	return filled(p, size, 3) ? 0 : 3;
}

static int region_of_own_file(void *arg)
{
	struct two t = *(struct two *)arg;

	t.fd = open(path, O_RDWR | O_CLOEXEC);
	return t.fd < 0 ? 4 : third_region(&t);
}

static void isolation(int fd)
{
	int fd2 = open_device(path, O_RDWR);
	struct two t = { .fd = fd };
	int buf_fd;

	t.mine = map_or_give_up(fd, size);
	fill(t.mine, size, 1);
	t.theirs = map_or_give_up(fd, size);
	ok(all_zero(t.theirs, size), "second mapping of one file: not shared");
	fill(t.theirs, size, 2);
	ok(filled(t.mine, size, 1) && filled(t.theirs, size, 2),
	   "each keeps its bytes");
	munmap(t.theirs, size);

	t.theirs = map_or_give_up(fd2, size);
	ok(all_zero(t.theirs, size), "mapping of a second file: not shared");
	fill(t.theirs, size, 2);
	ok(filled(t.mine, size, 1) && filled(t.theirs, size, 2),
	   "each keeps its bytes");

	ok(!in_child(third_region, &t),
	   "another process on the same file has memory of its own");
	ok(!in_child(region_of_own_file, &t),
	   "another process on its own file has memory of its own");
	ok(filled(t.mine, size, 1) && filled(t.theirs, size, 2),
	   "and left ours alone");
	munmap(t.theirs, size);

	buf_fd = alloc_region(fd, size, 0, O_RDWR | O_CLOEXEC);
	t.theirs = map_or_give_up(buf_fd, size);
	ok(all_zero(t.theirs, size), "region behind a dma-buf: not shared");
	fill(t.theirs, size, 2);
	ok(filled(t.mine, size, 1) && filled(t.theirs, size, 2),
	   "each keeps its bytes");
	munmap(t.theirs, size);
	munmap(t.mine, size);
	close(buf_fd);
	close(fd2);
}

/*
 * Of an attached device, the driver that it belongs to may hold some; all that
 * can be said then is that it is not much.
 */
static void exhaustion(int fd)
{
	uint64_t before = device_free(fd);
	size_t page = sysconf(_SC_PAGESIZE);
	struct iopmem_info info;
	struct ballast b;
	uint64_t theirs;

	device_info(fd, &info);
	theirs = info.flags & IOPMEM_INFO_ATTACHED ? info.size / 16 : 0;
	ok(before + theirs >= info.size, "all of the device is free at first");

	occupy(fd, &b);
	printf("# %llu of %llu bytes in %d pieces\n",
	       (unsigned long long)b.bytes, (unsigned long long)info.size, b.n);
	ok(b.bytes + theirs >= info.size, "all of it can be had");
	ok(device_free(fd) == before - b.bytes, "then nothing is free");
	fails(!map_shared(fd, page, PROT_READ), ENOMEM,
	      "one more page by mmap");
	fails(alloc_region(fd, page, 0, O_RDWR) < 0, ENOMEM,
	      "one more page by IOPMEM_IOC_ALLOC");
	release(&b);
	ok(device_free(fd) == before, "closing gives all of it back");
}

static int leave_pattern(void *arg)
{
	void *p = map_shared(*(int *)arg, size, PROT_READ | PROT_WRITE);

	if (!p)
		return 1;
	fill(p, size, 7);
	raise(SIGKILL);
	return 2;
}

/*
 * With everything else occupied, the one region that is left must be the same
 * memory each time: IOPMEM_ALLOC_NOZERO proves it by showing the old bytes.
 */
static void zeroing(int fd)
{
	int buf_fd = alloc_region(fd, size, 0, O_RDWR | O_CLOEXEC);
	struct ballast b;
	uint64_t full;
	void *p;

	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC of %zu bytes", size);
	occupy(fd, &b);
	full = device_free(fd);
	p = map_or_give_up(buf_fd, size);
	fill(p, size, 5);
	munmap(p, size);
	close(buf_fd);
	ok(device_free(fd) == full + size, "one region's worth is free");

	buf_fd = alloc_region(fd, size, IOPMEM_ALLOC_NOZERO,
			      O_RDWR | O_CLOEXEC);
	p = map_or_give_up(buf_fd, size);
	ok(filled(p, size, 5), "without zeroing, the old bytes are seen");
	munmap(p, size);
	close(buf_fd);

	p = map_or_give_up(fd, size);
	ok(all_zero(p, size), "mmap gives the same memory zeroed");
	fill(p, size, 6);
	munmap(p, size);

	buf_fd = alloc_region(fd, size, 0, O_RDWR | O_CLOEXEC);
	p = map_or_give_up(buf_fd, size);
	ok(all_zero(p, size), "so does IOPMEM_IOC_ALLOC");
	munmap(p, size);
	close(buf_fd);

	ok(in_child(leave_pattern, &fd) == -1, "a process with it is killed");
	ok(device_free(fd) == full + size, "kill -9 leaves nothing behind");
	p = map_or_give_up(fd, size);
	ok(all_zero(p, size), "its memory comes back zeroed");
	munmap(p, size);
	release(&b);
}

int main(int argc, char **argv)
{
	uint64_t before;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: regions DEV SIZE\n");
		return EXIT_FAILURE;
	}
	path = argv[1];
	size = parse_size(argv[2]);

	fd = open_device(path, O_RDWR);
	before = device_free(fd);
	isolation(fd);
	exhaustion(fd);
	zeroing(fd);
	ok(device_free(fd) == before, "nothing was lost on the way");
	return done_testing();
}
