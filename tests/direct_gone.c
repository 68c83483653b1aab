// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * direct_gone DISK DEV SIZE SECONDS COMMAND: a read with O_DIRECT of SIZE bytes
 * of DISK into DEV's memory is under way when COMMAND takes the memory away. DISK
 * takes some seconds for it.
 *
 * COMMAND ends when the disk has let go of the memory, not before, and within
 * SECONDS from then.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

static size_t size;

/* Shared with the child: when its read came back, and with what. */
static struct {
	double ended;
	ssize_t got;
} *reading;

static pid_t start_reading(int disk, void *p)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	reading->got = pread(disk, p, size, 0);
	reading->ended = now();
	_exit(0);
}

static void nothing(void)
{
	usleep(1000);
}

int main(int argc, char **argv)
{
	double took, end;
	int disk, status;
	bool busy, good;
	pid_t reader;
	void *p;

	if (argc != 6) {
		fprintf(stderr, "usage: direct_gone DISK DEV SIZE SECONDS COMMAND\n");
		return EXIT_FAILURE;
	}
	size = parse_size(argv[3]);
	disk = open_device(argv[1], O_RDONLY | O_DIRECT);
	p = map_or_give_up(open_device(argv[2], O_RDWR), size);
	reading = mmap(NULL, sizeof(*reading), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (reading == MAP_FAILED)
		give_up("memory");

	reader = start_reading(disk, p);
	sleep(1);
	busy = !waitpid(reader, &status, WNOHANG);
	good = !run_beside(argv[5], nothing, &took);
	end = now();
	ok(good && busy, "it is taken away while the disk reads into it");
	ok(touch(p, false) == SIGBUS, "the mapping is gone");
	if (busy && wait_for(reader))
		give_up("reader");
	printf("# it took %.1f s; the read ended %.1f s before that, with %zd\n",
	       took, end - reading->ended, reading->got);
	/* The disk lets go of the last page before its reader knows. */
	ok(reading->ended < end + 1, "not before the disk has ended");
	ok(end < reading->ended + atof(argv[4]), "within %s s from then",
	   argv[4]);
	return done_testing();
}
