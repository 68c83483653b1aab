// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * coredump DEV SIZE: a core file holds no byte of BAR memory, and dumping
 * does not read it. Needs a core_pattern of "core" and no privilege.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

enum { BAR_SEED = 101, DRAM_SEED = 102 };

static size_t size;

/* Is there a run of the pattern, whatever its alignment? */
static bool holds(const char *core, size_t len, uint64_t seed)
{
	uint64_t words[] = { pattern_word(seed, 2), pattern_word(seed, 3) };

	return memmem(core, len, words, sizeof(words));
}

static int dump(void *arg)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int fd = open(arg, O_RDWR | O_CLOEXEC);
	void *bar = map_shared(fd, size, PROT_READ | PROT_WRITE);
	void *dram = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!bar || dram == MAP_FAILED || setrlimit(RLIMIT_CORE, &all))
		_exit(EXIT_FAILURE);
	fill(bar, size, BAR_SEED);
	fill(dram, size, DRAM_SEED);
	abort();
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/core-XXXXXX";
	struct stat st;
	char *core;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: coredump DEV SIZE\n");
		return EXIT_FAILURE;
	}
	size = parse_size(argv[2]);

	if (!mkdtemp(dir) || chdir(dir))
		give_up("temporary folder");
	ok(in_child(dump, argv[1]) == -1, "a process with a mapping aborts");

	fd = open("core", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		give_up("open the core file");
	core = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (core == MAP_FAILED)
		give_up("map the core file");
	ok(holds(core, st.st_size, DRAM_SEED), "its core holds its memory");
	ok(!holds(core, st.st_size, BAR_SEED), "but not its BAR memory");
	unlink("core");
	if (!chdir("/"))
		rmdir(dir);
	return done_testing();
}
