// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * iopmem COMMAND: PCI BAR memory for RDMA and storage, and who reaches it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments, *what;
} commands[] = {
	{ "list", cmd_list, "", "memory that there is, and who holds it" },
	{ "bind", cmd_bind, "ADDRESS",
	  "make iopmem the driver of a PCI function" },
	{ "attach", cmd_attach, "ADDRESS",
	  "offer the memory of a function that keeps its driver" },
	{ "release", cmd_release, "MEMORY", "undo bind or attach" },
	{ "topo", cmd_topo, "", "who reaches which memory, and how" },
	{ "check", cmd_check, "DEVICE MEMORY",
	  "whether a device reaches memory, and why not" },
};

enum { COMMANDS = sizeof(commands) / sizeof(*commands) };

static void print_help(void)
{
	printf("\nUsage:\n iopmem COMMAND [options] [arguments]\n\n"
	       "PCI BAR memory for RDMA and storage, and who reaches it.\n\n"
	       "Commands:\n");
	for (int i = 0; i < COMMANDS; i++)
		printf(" %-8s %-14s %s\n", commands[i].name,
		       commands[i].arguments, commands[i].what);
	printf("\nOptions:\n"
	       " -j, --json      list, topo, check: print JSON\n"
	       " -b, --bar N     bind: the BAR to offer; the largest prefetchable one by default\n"
	       " -c, --cache M   bind: how CPUs map it: uc, uncached (default), or wc, write-combining\n"
	       " -d, --dump      topo: print the PCI tree as text that --replay reads\n"
	       " -r, --replay F  topo, check: of the tree in the file F\n"
	       " -t, --try       check: register memory, or read into it\n"
	       " -h, --help      display this help\n"
	       " -V, --version   display version\n\n"
	       "Exit codes: 0 done, or yes; 1 failed, or no; 2 wrong usage.\n"
	       "For more details see iopmem(8).\n");
}

int fail(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "iopmem: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	return EXIT_FAIL;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "--help";

	if (!strcmp(name, "-h") || !strcmp(name, "--help")) {
		print_help();
		return EXIT_OK;
	}
	if (!strcmp(name, "-V") || !strcmp(name, "--version")) {
		printf("iopmem %s\n", IOPMEM_VERSION);
		return EXIT_OK;
	}
	for (int i = 0; i < COMMANDS; i++) {
		int ret;

		if (strcmp(name, commands[i].name))
			continue;
		if (argc == 3 && (!strcmp(argv[2], "-h") ||
				  !strcmp(argv[2], "--help"))) {
			print_help();
			return EXIT_OK;
		}
		ret = commands[i].run(argc - 1, argv + 1);
		if (fflush(stdout) || ferror(stdout))
			ret = fail("writing: %s", strerror(errno));
		if (ret == EXIT_USAGE)
			fprintf(stderr, "Try 'iopmem --help' for more information.\n");
		return ret;
	}
	fail("there is no command %s", name);
	fprintf(stderr, "Try 'iopmem --help' for more information.\n");
	return EXIT_USAGE;
}
