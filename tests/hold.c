// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * hold DEV SIZE FILE CMD...: maps SIZE bytes, fills them with a pattern of
 * this process's own that is also left in FILE, and runs CMD beside. Exits
 * with CMD's status, or 125 if the bytes have changed by then.
 */
#include <fcntl.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

int main(int argc, char **argv)
{
	size_t size;
	void *p;
	pid_t pid;
	int status;

	if (argc < 5) {
		fprintf(stderr, "usage: hold DEV SIZE FILE CMD...\n");
		return EXIT_FAILURE;
	}
	size = parse_size(argv[2]);
	p = map_or_give_up(open_device(argv[1], O_RDWR), size);
	fill(p, size, getpid());
	save_pattern(argv[3], size, getpid());

	pid = fork();
	if (!pid) {
		execvp(argv[4], argv + 4);
		perror(argv[4]);
		_exit(127);
	}
	status = wait_for(pid);
	return filled(p, size, getpid()) ? status : 125;
}
