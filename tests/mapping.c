// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * mapping DEV SIZE: what mmap() of /dev/iopmemN gives, refuses, and how a
 * mapping behaves. Needs no privilege.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

static const char *path;
static size_t size;
static size_t page;

static void *map_at(int fd, size_t len, int prot, int flags, off_t offset)
{
	return mmap(NULL, len, prot, flags, fd, offset);
}

static void offsets_and_lengths(int fd)
{
	const int rw = PROT_READ | PROT_WRITE;
	uint64_t before = device_free(fd);
	struct iopmem_info info;
	char *p;

	device_info(fd, &info);
	fails(map_at(fd, page, rw, MAP_SHARED, page) == MAP_FAILED, EINVAL,
	      "offset of one page");
	fails(map_at(fd, page, rw, MAP_SHARED, info.size) == MAP_FAILED,
	      EINVAL, "offset at the end of the device");
	ok(map_at(fd, page, rw, MAP_SHARED, -(off_t)page) == MAP_FAILED &&
	   (errno == EINVAL || errno == EOVERFLOW), "negative offset");
	ok(map_at(fd, 2 * page, rw, MAP_SHARED, -(off_t)page) == MAP_FAILED &&
	   (errno == EINVAL || errno == EOVERFLOW), "offset that wraps");

	fails(map_at(fd, 0, rw, MAP_SHARED, 0) == MAP_FAILED, EINVAL,
	      "length 0");
	fails(!map_shared(fd, info.size + page, rw), ENOMEM,
	      "a page more than the device has");
	fails(!map_shared(fd, 1UL << 40, rw), ENOMEM, "1 TiB");
	fails(!map_shared(fd, 1UL << 46, rw), ENOMEM, "64 TiB");
	fails(!map_shared(fd, SIZE_MAX, rw), ENOMEM, "all of a size_t");
	fails(!map_shared(fd, SIZE_MAX - 2 * page, rw), ENOMEM,
	      "nearly all of a size_t");

	fails(map_at(fd, page, rw, MAP_PRIVATE, 0) == MAP_FAILED, EINVAL,
	      "private mapping");
	fails(map_at(fd, page, PROT_READ, MAP_PRIVATE, 0) == MAP_FAILED,
	      EINVAL, "private read-only mapping");
	ok(device_free(fd) == before, "refusals cost no memory");

	p = map_or_give_up(fd, page + 1);
	ok(!touch(p + 2 * page - 1, true),
	   "the rest of a length's last page belongs to it");
	ok(device_free(fd) == before - 2 * page, "it is accounted for");
	munmap(p, 2 * page);
	ok(device_free(fd) == before, "munmap gives all of it back");
}

static void read_only(void)
{
	int fd = open_device(path, O_RDONLY);
	void *p;

	fails(!map_shared(fd, size, PROT_READ | PROT_WRITE), EACCES,
	      "writable mapping of a read-only file");
	fails(!map_shared(fd, size, PROT_WRITE), EACCES,
	      "write-only mapping of a read-only file");
	p = map_shared(fd, size, PROT_READ);
	if (!ok(p, "read-only mapping"))
		goto out;
	ok(all_zero(p, size), "it reads as zero");
	fails(mprotect(p, size, PROT_READ | PROT_WRITE), EACCES,
	      "it cannot be made writable");
	ok(touch(p, true) == SIGSEGV, "a write is a SIGSEGV");
	munmap(p, size);
out:
	close(fd);

	fd = open_device(path, O_RDWR);
	p = map_shared(fd, size, PROT_READ);
	ok(p && touch(p, true) == SIGSEGV && all_zero(p, size),
	   "read-only mapping of a writable file");
	ok(!mprotect(p, size, PROT_READ | PROT_WRITE) && !touch(p, true),
	   "that one can be made writable");
	ok(!mprotect(p, size, PROT_NONE) && touch(p, false) == SIGSEGV,
	   "PROT_NONE takes access away");
	munmap(p, size);
	close(fd);

	fd = open_device(path, O_WRONLY);
	fails(!map_shared(fd, size, PROT_WRITE), EACCES,
	      "mapping of a write-only file");
	close(fd);
}

struct forked {
	void *p;
	int go[2], done[2];
};

static int forked_child(void *arg)
{
	struct forked *f = arg;
	char c;

	if (!filled(f->p, size, 1))
		return 1;
	fill(f->p, size, 2);
	close(f->go[1]);
	if (write(f->done[1], "", 1) != 1)
		return 2;
	/* The parent unmaps, then closes its end. */
	if (read(f->go[0], &c, 1))
		return 3;
	return filled(f->p, size, 2) ? 0 : 4;
}

static void forks(int fd)
{
	uint64_t before = device_free(fd);
	struct forked f = { .p = map_or_give_up(fd, size) };
	pid_t pid;
	char c;

	if (pipe(f.go) || pipe(f.done))
		give_up("pipe");
	fill(f.p, size, 1);
	pid = fork();
	if (!pid)
		_exit(forked_child(&f));
	close(f.done[1]);
	ok(read(f.done[0], &c, 1) == 1 && filled(f.p, size, 2),
	   "parent and child share a mapping");
	munmap(f.p, size);
	ok(device_free(fd) == before - size,
	   "the child's mapping keeps the region");
	close(f.go[1]);
	ok(!wait_for(pid), "it outlives the parent's munmap");
	ok(device_free(fd) == before, "it is free once the child has gone");
	close(f.go[0]);
	close(f.done[0]);
}

static void remap(int fd)
{
	uint64_t before = device_free(fd);
	char *p = map_or_give_up(fd, size);
	char *to, *q;

	fill(p, size, 1);
	fails(mremap(p, size, 2 * size, MREMAP_MAYMOVE) == MAP_FAILED, EFAULT,
	      "mremap to grow");
	fails(mremap(p, 0, size, MREMAP_MAYMOVE) == MAP_FAILED, EFAULT,
	      "mremap to duplicate");
	ok(filled(p, size, 1), "the mapping is as it was");

	to = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	q = mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (ok(q == to, "mremap to another address"))
		p = q;
	ok(filled(p, size, 1), "the bytes are there");
	q = mremap(p, size, size / 2, 0);
	ok(q == p && filled(p, size / 2, 1), "mremap to shrink");
	ok(touch(p + size / 2, false) == SIGSEGV, "what was cut off is gone");
	munmap(p, size / 2);
	ok(device_free(fd) == before, "and all is free again");
}

static void partial_munmap(int fd)
{
	uint64_t before = device_free(fd);
	size_t part = size / 4;
	char *p = map_or_give_up(fd, size);
	char *q;

	fill(p, part, 1);
	fill(p + part, part, 2);
	/* The fourth part is first touched after the holes are cut. */
	munmap(p + 2 * part, part);
	munmap(p, part);
	ok(touch(p, false) == SIGSEGV && touch(p + 2 * part, false) == SIGSEGV,
	   "partial munmap: the holes are holes");
	ok(filled(p + part, part, 2), "what stays mapped keeps its bytes");
	ok(all_zero(p + 3 * part, part), "also what was not touched before");
	fill(p + 3 * part, part, 4);
	q = map_or_give_up(fd, size);
	fill(q, size, 5);
	ok(filled(p + part, part, 2) && filled(p + 3 * part, part, 4),
	   "a new region does not get the holes' memory");
	munmap(q, size);
	munmap(p + part, part);
	munmap(p + 3 * part, part);
	ok(device_free(fd) == before, "it is free when the last part has gone");
}

static void populate(int fd)
{
	uint64_t before = device_free(fd);
	void *p = map_at(fd, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_POPULATE, 0);

	if (!ok(p != MAP_FAILED, "MAP_POPULATE"))
		return;
	fill(p, size, 1);
	ok(filled(p, size, 1), "a populated mapping holds its bytes");
	munmap(p, size);
	ok(device_free(fd) == before, "and goes back");
}

static void lives_without_file(void)
{
	int fd = open_device(path, O_RDWR);
	void *p = map_or_give_up(fd, size);

	fill(p, size, 1);
	close(fd);
	ok(filled(p, size, 1), "a mapping outlives close()");
	munmap(p, size);
}

static void system_calls(int fd)
{
	char *p = map_or_give_up(fd, page);
	char *copy = malloc(page);
	int ends[2];

	if (pipe(ends))
		give_up("pipe");
	fill(p, page, 1);
	ok(write(ends[1], p, page) == (ssize_t)page &&
	   read(ends[0], copy, page) == (ssize_t)page && filled(copy, page, 1),
	   "write() from a mapping");
	fill(copy, page, 2);
	ok(write(ends[1], copy, page) == (ssize_t)page &&
	   read(ends[0], p, page) == (ssize_t)page && filled(p, page, 2),
	   "read() into a mapping");
	close(ends[0]);
	close(ends[1]);
	free(copy);
	munmap(p, page);
}

static void flags_of_vma(int fd)
{
	void *p = map_or_give_up(fd, size);
	const char *flags = vm_flags(p);

	if (ok(flags, "smaps shows VmFlags")) {
		printf("# %s\n", flags);
		ok(strstr(flags, " dd "), "VM_DONTDUMP is set");
		ok(strstr(flags, " de "), "VM_DONTEXPAND is set");
		ok(!strstr(flags, " io "), "VM_IO is not");
		ok(!strstr(flags, " pf "), "nor is VM_PFNMAP");
	}
	munmap(p, size);
}

int main(int argc, char **argv)
{
	uint64_t before;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: mapping DEV SIZE\n");
		return EXIT_FAILURE;
	}
	path = argv[1];
	size = parse_size(argv[2]);
	page = sysconf(_SC_PAGESIZE);

	fd = open_device(path, O_RDWR);
	before = device_free(fd);
	offsets_and_lengths(fd);
	read_only();
	flags_of_vma(fd);
	forks(fd);
	remap(fd);
	partial_munmap(fd);
	populate(fd);
	lives_without_file();
	system_calls(fd);
	ok(device_free(fd) == before, "nothing was lost on the way");
	return done_testing();
}
