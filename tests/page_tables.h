/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What page tables of x86 say, by debugfs: the kernel's and those of the process
 * that asks. Needs root and CONFIG_PTDUMP_DEBUGFS.
 */
#ifndef TESTS_PAGE_TABLES_H
#define TESTS_PAGE_TABLES_H

#include <stdint.h>

/*
 * How the CPU caches the addresses from @start to before @end: "uc", "wc", "wb",
 * "wt", "wp"; "several modes", or "not mapped" if some page is not.
 */
const char *cache_mode_of(uint64_t start, uint64_t end);

/* Where the kernel has a physical address in its linear mapping. */
uint64_t kernel_address(uint64_t phys);

#endif /* TESTS_PAGE_TABLES_H */
