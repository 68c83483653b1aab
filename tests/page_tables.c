// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include <inttypes.h>

#include "page_tables.h"
#include "tap.h"

/* The kernel's half of the address space, and that of who reads it */
static FILE *open_dump(void)
{
	FILE *f = fopen("/sys/kernel/debug/page_tables/current_kernel", "re");

	if (!f)
		give_up("page_tables/current_kernel");
	return f;
}

/*
 * Three bits of an entry choose one of the eight modes of the PAT, and this is
 * what Linux has there (arch/x86/mm/pat/memtype.c). What it calls UC- becomes
 * write-combining where an MTRR says so, and no MTRR does here.
 */
static const char *mode_of(const char *line)
{
	static const char *const pat[] = {
		"wb", "wc", "uc", "uc", "wb", "wp", "uc", "wt"
	};

	return pat[!!strstr(line, " PWT ") + 2 * !!strstr(line, " PCD ") +
		   4 * !!strstr(line, " PAT ")];
}

const char *cache_mode_of(uint64_t start, uint64_t end)
{
	const char *mode = NULL;
	uint64_t first, behind, seen = 0;
	char line[256];
	FILE *f = open_dump();

	while (fgets(line, sizeof(line), f)) {
		/* "0xA-0xB  SIZE  FLAGS LEVEL"; present pages are RW or ro */
		if (sscanf(line, "0x%" SCNx64 "-0x%" SCNx64, &first,
			   &behind) != 2 || behind <= start || first >= end ||
		    !(strstr(line, " RW ") || strstr(line, " ro ")))
			continue;
		if (mode && strcmp(mode, mode_of(line))) {
			mode = "several modes";
			seen = end - start;
			break;
		}
		mode = mode_of(line);
		seen += (behind < end ? behind : end) -
			(first > start ? first : start);
	}
	fclose(f);
	return seen == end - start ? mode : "not mapped";
}

uint64_t kernel_address(uint64_t phys)
{
	uint64_t base = 0, first;
	bool next = false;
	char line[256];
	FILE *f = open_dump();

	while (!base && fgets(line, sizeof(line), f)) {
		if (next && sscanf(line, "0x%" SCNx64, &first) == 1)
			base = first;
		next = strstr(line, "Low Kernel Mapping");
	}
	fclose(f);
	if (!base)
		give_up("the linear mapping");
	return base + phys;
}
