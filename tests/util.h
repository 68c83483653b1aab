/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What several test programs need to work with /dev/iopmemN. The system calls
 * are made directly on the UAPI: these tests are about the kernel module.
 */
#ifndef TESTS_UTIL_H
#define TESTS_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <rdma/iopmem.h>

/* Opens @path or ends the program with a failed result. */
int open_device(const char *path, int flags);

/* 0, or -1 and errno */
int device_info(int fd, struct iopmem_info *info);

/* What can be had now; ends the program if the device does not answer. */
uint64_t device_free(int fd);

/* Whether a range of bus addresses lies in a BAR of the device's function. */
bool in_a_bar(int fd, uint64_t address, uint64_t len);

/* A dma-buf descriptor, or -1 and errno */
int alloc_region(int fd, uint64_t size, uint32_t flags, uint32_t fd_flags);

/* mmap(MAP_SHARED) at offset 0. NULL and errno when refused. */
void *map_shared(int fd, size_t len, int prot);

/* The same, read-write; ends the program when refused. */
void *map_or_give_up(int fd, size_t len);

/*
 * The VmFlags of the mapping that begins at p (proc(5), smaps), each with a
 * blank on both sides, or NULL. Overwritten by the next call.
 */
const char *vm_flags(void *p);

/*
 * A pattern that differs at every word and between seeds, and the checks for
 * it. len is a multiple of 8.
 */
uint64_t pattern_word(uint64_t seed, size_t index);
void fill(void *p, size_t len, uint64_t seed);
bool filled(const void *p, size_t len, uint64_t seed);
bool all_zero(const void *p, size_t len);

/* Writes the pattern to a new file, or ends the program. */
void save_pattern(const char *path, size_t len, uint64_t seed);

/*
 * Calls fn(arg), which accesses memory that may not be there. Returns 0, or
 * the signal that ended it: SIGBUS or SIGSEGV. Any thread may call it; not to
 * be nested.
 */
int attempt(void (*fn)(void *arg), void *arg);

/* attempt() of reading a byte, or of writing a 1 to it */
int touch(void *p, bool write);

/* Runs fn(arg) in a child; its result, or -1 if the child died otherwise. */
int in_child(int (*fn)(void *arg), void *arg);

/* Exit status of a child, or -1 if a signal killed it. */
int wait_for(pid_t pid);

/*
 * Runs a shell command in a child and calls fn() all the while. Its exit
 * status, or -1 if a signal killed it or it took more than five minutes.
 */
int run_beside(const char *command, void (*fn)(void), double *seconds);

/* Calls fn() until done(), or for so long; whether it was done. */
bool repeat_until(bool (*done)(void), void (*fn)(void), double seconds);

/* Pass a file descriptor over a unix socket. -1 and errno on failure. */
int send_fd(int sock, int fd);
int receive_fd(int sock);

/* "4096", "64K", "16M", "1G" */
size_t parse_size(const char *s);

/* The errno called @name; ends the program if there is none. */
int errno_named(const char *name);

double now(void);

/*
 * What everything random in this run depends on: $LAB_SEED, or another one at
 * each run. Printed, with how to choose it.
 */
unsigned int seed_of_run(void);

#endif /* TESTS_UTIL_H */
