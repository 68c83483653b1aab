// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "util.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"

int open_device(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		give_up("open %s", path);
	return fd;
}

int device_info(int fd, struct iopmem_info *info)
{
	memset(info, 0, sizeof(*info));
	return ioctl(fd, IOPMEM_IOC_INFO, info);
}

uint64_t device_free(int fd)
{
	struct iopmem_info info;

	if (device_info(fd, &info))
		give_up("IOPMEM_IOC_INFO");
	return info.free;
}

bool in_a_bar(int fd, uint64_t address, uint64_t len)
{
	unsigned long long start, end;
	struct iopmem_info info;
	bool found = false;
	char path[128];
	FILE *resource;

	if (device_info(fd, &info))
		give_up("IOPMEM_IOC_INFO");
	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%04x:%02x:%02x.%x/resource",
		 info.pci_domain, info.pci_bus, info.pci_devfn >> 3,
		 info.pci_devfn & 7);
	resource = fopen(path, "re");
	if (!resource)
		give_up("open %s", path);
	for (int bar = 0; bar < 6 && !found; bar++)
		found = fscanf(resource, "%llx %llx %*x", &start, &end) == 2 &&
			start && address >= start && address + len - 1 <= end;
	fclose(resource);
	return found;
}

int alloc_region(int fd, uint64_t size, uint32_t flags, uint32_t fd_flags)
{
	struct iopmem_alloc arg = {
		.size = size,
		.flags = flags,
		.fd_flags = fd_flags,
	};

	return ioctl(fd, IOPMEM_IOC_ALLOC, &arg) ? -1 : arg.fd;
}

void *map_shared(int fd, size_t len, int prot)
{
	void *p = mmap(NULL, len, prot, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

void *map_or_give_up(int fd, size_t len)
{
	void *p = map_shared(fd, len, PROT_READ | PROT_WRITE);

	if (!p)
		give_up("mmap of %zu bytes", len);
	return p;
}

/* The mixing step of splitmix64, a published generator. */
uint64_t pattern_word(uint64_t seed, size_t index)
{
	uint64_t x = (seed << 32) + index * 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

void fill(void *p, size_t len, uint64_t seed)
{
	volatile uint64_t *word = p;

	for (size_t i = 0; i < len / sizeof(*word); i++)
		word[i] = pattern_word(seed, i);
}

bool filled(const void *p, size_t len, uint64_t seed)
{
	const volatile uint64_t *word = p;

	for (size_t i = 0; i < len / sizeof(*word); i++)
		if (word[i] != pattern_word(seed, i))
			return false;
	return true;
}

bool all_zero(const void *p, size_t len)
{
	const volatile uint64_t *word = p;

	for (size_t i = 0; i < len / sizeof(*word); i++)
		if (word[i])
			return false;
	return true;
}

void save_pattern(const char *path, size_t len, uint64_t seed)
{
	void *p = malloc(len);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (!p || fd < 0)
		give_up("create %s", path);
	fill(p, len, seed);
	if (write(fd, p, len) != (ssize_t)len || close(fd))
		give_up("write %s", path);
	free(p);
}

static __thread sigjmp_buf attempt_failed;
static __thread volatile bool attempting;

static void on_access_signal(int sig)
{
	if (attempting)
		siglongjmp(attempt_failed, sig);
	/* A crash like any other: it comes again, and ends us. */
	signal(sig, SIG_DFL);
}

static void catch_access_signals(void)
{
	struct sigaction action = { .sa_handler = on_access_signal };

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

int attempt(void (*fn)(void *arg), void *arg)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int sig;

	pthread_once(&once, catch_access_signals);
	attempting = true;
	sig = sigsetjmp(attempt_failed, 1);
	if (!sig)
		fn(arg);
	attempting = false;
	return sig;
}

static void read_byte(void *p)
{
	(void)*(volatile char *)p;
}

static void write_byte(void *p)
{
	*(volatile char *)p = 1;
}

int touch(void *p, bool write)
{
	return attempt(write ? write_byte : read_byte, p);
}

int wait_for(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

int in_child(int (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();

	if (pid < 0)
		give_up("fork");
	if (!pid)
		_exit(fn(arg));
	return wait_for(pid);
}

int run_beside(const char *command, void (*fn)(void), double *seconds)
{
	double begin = now();
	pid_t pid = fork();
	int status;

	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	while (!waitpid(pid, &status, WNOHANG)) {
		fn();
		if (now() > begin + 300)
			kill(pid, SIGKILL);
	}
	*seconds = now() - begin;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool repeat_until(bool (*done)(void), void (*fn)(void), double seconds)
{
	double limit = now() + seconds;

	do {
		fn();
		if (done())
			return true;
	} while (now() < limit);
	return false;
}

union fd_message {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

int send_fd(int sock, int fd)
{
	union fd_message control = {
		.header = {
			.cmsg_len = CMSG_LEN(sizeof(fd)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
		},
	};
	struct iovec byte = { .iov_base = "", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &byte,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

int receive_fd(int sock)
{
	union fd_message control;
	char c;
	struct iovec byte = { .iov_base = &c, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &byte,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	if (!CMSG_FIRSTHDR(&msg)) {
		errno = EBADMSG;
		return -1;
	}
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

size_t parse_size(const char *s)
{
	char *end;
	size_t n = strtoull(s, &end, 0);

	switch (*end) {
	case 'G':
		n *= 1024;
		/* fall through */
	case 'M':
		n *= 1024;
		/* fall through */
	case 'K':
		n *= 1024;
		end++;
	}
	if (end == s || *end) {
		errno = EINVAL;
		give_up("size \"%s\"", s);
	}
	return n;
}

int errno_named(const char *name)
{
	const char *known;

	for (int e = 1; e < 4096; e++) {
		known = strerrorname_np(e);
		if (known && !strcmp(known, name))
			return e;
	}
	errno = EINVAL;
	give_up("errno \"%s\"", name);
}

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

const char *vm_flags(void *p)
{
	static char line[512];
	FILE *smaps = fopen("/proc/self/smaps", "re");
	bool here = false, found = false;
	unsigned long start, end;

	while (!found && smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start == (unsigned long)p;
		found = here && !strncmp(line, "VmFlags:", 8);
	}
	if (smaps)
		fclose(smaps);
	line[strcspn(line, "\n")] = '\0';
	return found ? line + 8 : NULL;
}

unsigned int seed_of_run(void)
{
	const char *given = getenv("LAB_SEED");
	unsigned int seed = given ? strtoul(given, NULL, 0) : now() * 1e6;

	printf("# seed %u: LAB_SEED=%u does the same again\n", seed, seed);
	/* or each child would print it again */
	fflush(stdout);
	return seed;
}
