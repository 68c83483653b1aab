// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * iopmem-copy: a file or a block device to another host, by O_DIRECT and RDMA
 * through memory of a PCI device. An example of all that the library has.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "copy.h"

/* Exit codes */
enum { EXIT_OK = 0, EXIT_FAIL = 1, EXIT_USAGE = 2 };

volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

void touch(struct copy *copy)
{
	pthread_mutex_lock(&copy->lock);
	copy->active = now();
	pthread_mutex_unlock(&copy->lock);
}

double silence(struct copy *copy)
{
	double seconds;

	pthread_mutex_lock(&copy->lock);
	seconds = now() - copy->active;
	pthread_mutex_unlock(&copy->lock);
	return seconds;
}

void finish(struct copy *copy)
{
	pthread_mutex_lock(&copy->lock);
	copy->finished = true;
	pthread_cond_broadcast(&copy->changed);
	pthread_mutex_unlock(&copy->lock);
}

int fail(struct copy *copy, const char *fmt, ...)
{
	uint64_t one = 1;
	va_list args;

	pthread_mutex_lock(&copy->lock);
	if (!copy->reason[0]) {
		va_start(args, fmt);
		vsnprintf(copy->reason, sizeof(copy->reason), fmt, args);
		va_end(args);
		/* some of it may be the other side's */
		for (char *p = copy->reason; *p; p++)
			if ((unsigned char)*p < ' ' || *p == 0x7f)
				*p = '?';
	}
	pthread_cond_broadcast(&copy->changed);
	pthread_mutex_unlock(&copy->lock);
	/* it cannot be full */
	if (write(copy->wake, &one, sizeof(one)) < 0)
		abort();
	return -1;
}

bool failed(struct copy *copy)
{
	bool yes;

	pthread_mutex_lock(&copy->lock);
	yes = copy->reason[0];
	pthread_mutex_unlock(&copy->lock);
	return yes;
}

static void print_help(void)
{
	printf("\nUsage:\n"
	       " iopmem-copy [options] --listen TARGET\n"
	       " iopmem-copy [options] SOURCE HOST\n\n"
	       "Copy a file or a block device to another host by RDMA, through memory of a PCI\n"
	       "device.\n\n"
	       "Options:\n"
	       " -l, --listen           receive: wait for a sender\n"
	       " -a, --address ADDRESS  listen on this address only\n"
	       " -p, --port PORT        of the receiver (18610)\n"
	       " -t, --through MEMORY   /dev/iopmemN (/dev/iopmem0), or host for host memory\n"
	       " -d, --dmabuf           register the memory as a dma-buf, not by its address\n"
	       " -b, --block SIZE       sender: bytes of a block; K and M are known (1M)\n"
	       " -q, --depth N          sender: blocks in flight, 1 to 64 (4)\n"
	       " -c, --checksum         sender: compare a checksum of what is in the memory of both\n"
	       " -T, --timeout SECONDS  give up when the other side says nothing for so long (30)\n"
	       " -P, --progress         show progress, as is done on a terminal\n"
	       " -j, --json             print the result as JSON\n"
	       " -h, --help             display this help\n"
	       " -V, --version          display version\n\n"
	       "Exit codes: 0 copied; 1 failed; 2 wrong usage.\n"
	       "For more details see iopmem-copy(1).\n");
}

__attribute__((format(printf, 1, 2)))
static void usage_error(const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "iopmem-copy: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\nTry 'iopmem-copy --help' for more information.\n");
	exit(EXIT_USAGE);
}

/* A number with K or M, or without. */
static uint64_t number(const char *option, const char *text, uint64_t min,
		       uint64_t max)
{
	unsigned long long value;
	unsigned int shift = 0;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (max > UINT16_MAX && (*end == 'K' || *end == 'M'))
		shift = *end++ == 'K' ? 10 : 20;
	if (errno || *end || end == text || text[0] == '-' ||
	    value > max >> shift || value << shift < min)
		usage_error("%s: %s is not a number from %llu to %llu", option,
			    text, (unsigned long long)min,
			    (unsigned long long)max);
	return value << shift;
}

static void parse(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "listen", no_argument, NULL, 'l' },
		{ "address", required_argument, NULL, 'a' },
		{ "port", required_argument, NULL, 'p' },
		{ "through", required_argument, NULL, 't' },
		{ "dmabuf", no_argument, NULL, 'd' },
		{ "block", required_argument, NULL, 'b' },
		{ "depth", required_argument, NULL, 'q' },
		{ "checksum", no_argument, NULL, 'c' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "progress", no_argument, NULL, 'P' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{}
	};
	bool listen = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "la:p:t:db:q:cT:PjhV", longs,
				  NULL)) != -1) {
		switch (opt) {
		case 'l':
			listen = true;
			break;
		case 'a':
			options->address = optarg;
			break;
		case 'p':
			number("--port", optarg, 1, UINT16_MAX);
			options->port = optarg;
			break;
		case 't':
			options->through = strcmp(optarg, "host") ? optarg :
					   NULL;
			break;
		case 'd':
			options->dmabuf = true;
			break;
		case 'b':
			options->block = number("--block", optarg, ALIGNMENT,
						1U << 31);
			break;
		case 'q':
			options->depth = number("--depth", optarg, 1,
						MAX_DEPTH);
			break;
		case 'c':
			options->checksum = true;
			break;
		case 'T':
			options->timeout = number("--timeout", optarg, 1, 3600);
			break;
		case 'P':
			options->progress = true;
			break;
		case 'j':
			options->json = true;
			break;
		case 'h':
			print_help();
			exit(EXIT_OK);
		case 'V':
			printf("iopmem-copy %s\n", IOPMEM_VERSION);
			exit(EXIT_OK);
		default:
			fprintf(stderr, "Try 'iopmem-copy --help' for more information.\n");
			exit(EXIT_USAGE);
		}
	}
	if (argc - optind != (listen ? 1 : 2))
		usage_error(listen ? "--listen takes one target" :
			    "a source and a host are needed");
	options->file = argv[optind];
	options->host = listen ? NULL : argv[optind + 1];
	if (options->address && !listen)
		usage_error("--address: with --listen only");
	if (options->dmabuf && !options->through)
		usage_error("--dmabuf: host memory is registered by its address");
	if (options->block % ALIGNMENT)
		usage_error("--block: not a multiple of %d", ALIGNMENT);
}

int main(int argc, char **argv)
{
	struct options options = {
		.port = "18610",
		.through = "/dev/iopmem0",
		.block = 1 << 20,
		.depth = 4,
		.timeout = 30,
		.progress = isatty(STDERR_FILENO),
	};
	struct copy copy = {
		.options = &options,
		.file = -1,
		.memory = { .fd = -1, .buf_fd = -1 },
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
	struct sigaction action = { .sa_handler = on_signal };
	int ret;

	parse(&options, argc, argv);
	copy.wake = eventfd(0, EFD_CLOEXEC);
	if (copy.wake < 0) {
		fprintf(stderr, "iopmem-copy: eventfd: %s\n", strerror(errno));
		return EXIT_FAIL;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	ret = options.host ? send_file(&copy) : receive_file(&copy);
	slots_join(&copy);
	if (ret && copy.connection.established && !copy.told)
		tell_failure(&copy);
	report_end(&copy);
	connection_close(&copy);
	if (copy.file >= 0)
		close(copy.file);
	close(copy.wake);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "iopmem-copy: writing: %s\n", strerror(errno));
		return EXIT_FAIL;
	}
	return ret ? EXIT_FAIL : EXIT_OK;
}
