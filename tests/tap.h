/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * TAP for test programs: results as they come, the plan at the end.
 *
 *	ok(n == 3, "three of them");
 *	fails(mmap(...) == MAP_FAILED, EINVAL, "an offset is refused");
 *	return done_testing();
 *
 * A child made by fork() prints nothing; its parent does, from its exit status.
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_results;
static int tap_failures;

static inline void tap_print(bool good, const char *fmt, va_list args)
{
	tap_results++;
	tap_failures += !good;
	printf("%s - ", good ? "ok" : "not ok");
	vprintf(fmt, args);
}

__attribute__((format(printf, 2, 3)))
static inline bool ok(bool good, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tap_print(good, fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	return good;
}

/* The call just made failed, and errno is @want. */
__attribute__((format(printf, 3, 4)))
static inline bool fails(bool failed, int want, const char *fmt, ...)
{
	int got = errno;
	bool good = failed && got == want;
	va_list args;

	va_start(args, fmt);
	tap_print(good, fmt, args);
	va_end(args);
	printf(": %s\n", strerrorname_np(want));
	if (!good)
		printf("# %s%s\n", failed ? "it was " : "it succeeded",
		       failed ? strerrorname_np(got) : "");
	fflush(stdout);
	return good;
}

__attribute__((format(printf, 2, 3)))
static inline void skip(const char *reason, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tap_print(true, fmt, args);
	va_end(args);
	printf(" # SKIP %s\n", reason);
	fflush(stdout);
}

/* Prints the plan. Its value is the program's exit status. */
static inline int done_testing(void)
{
	printf("1..%d\n", tap_results);
	fflush(stdout);
	return tap_failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* For what the rest of the program cannot do without. */
__attribute__((format(printf, 1, 2), noreturn))
static inline void give_up(const char *fmt, ...)
{
	int error = errno;
	va_list args;

	va_start(args, fmt);
	tap_print(false, fmt, args);
	va_end(args);
	printf(": %s\n", strerror(error));
	exit(done_testing());
}

#endif /* TESTS_TAP_H */
