// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * ioctl DEV: every argument of the two calls, good and bad, and the compat
 * path. Expects what the caller's capabilities entitle it to.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

/* The same call as from a program with a structure of @bytes. */
#define CALL_OF_SIZE(nr, bytes)	\
	_IOC(_IOC_READ | _IOC_WRITE, IOPMEM_IOC_MAGIC, _IOC_NR(nr), bytes)

static size_t page;

/* Grows with each descriptor that is lost, whether it has a file or not. */
static int next_descriptor(void)
{
	int fd = dup(STDOUT_FILENO);

	close(fd);
	return fd;
}

static bool has_rawio(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = {};

	if (syscall(SYS_capget, &header, data))
		give_up("capget");
	return data[0].effective & 1U << CAP_SYS_RAWIO;
}

static struct iopmem_alloc good_alloc(void)
{
	return (struct iopmem_alloc){
		.size = page,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
}

static void refuses_alloc(int fd, struct iopmem_alloc arg, int want,
			  const char *what)
{
	fails(ioctl(fd, IOPMEM_IOC_ALLOC, &arg), want, "ALLOC: %s", what);
}

static void alloc_members(int fd)
{
	struct iopmem_alloc arg;

	arg = good_alloc();
	arg.flags = 1U << 31;
	refuses_alloc(fd, arg, EINVAL, "unknown flag");
	arg = good_alloc();
	arg.flags = IOPMEM_ALLOC_NOZERO << 1;
	refuses_alloc(fd, arg, EINVAL, "next flag");
	arg = good_alloc();
	arg.reserved = 1;
	refuses_alloc(fd, arg, EINVAL, "reserved is not 0");
	arg = good_alloc();
	arg.fd = 1;
	refuses_alloc(fd, arg, EINVAL, "fd is not 0");

	arg = good_alloc();
	arg.fd_flags = O_WRONLY;
	refuses_alloc(fd, arg, EINVAL, "O_WRONLY");
	arg.fd_flags = O_ACCMODE;
	refuses_alloc(fd, arg, EINVAL, "access mode 3");
	arg.fd_flags = O_RDWR | O_APPEND;
	refuses_alloc(fd, arg, EINVAL, "O_APPEND");
	arg.fd_flags = UINT32_MAX;
	refuses_alloc(fd, arg, EINVAL, "all bits of fd_flags");

	arg = good_alloc();
	arg.size = 0;
	refuses_alloc(fd, arg, EINVAL, "size 0");
	arg.size = 1ULL << 40;
	refuses_alloc(fd, arg, ENOMEM, "1 TiB");
	for (int low = 0; low < 2; low++) {
		arg.size = low ? UINT64_MAX - page : UINT64_MAX;
		ok(ioctl(fd, IOPMEM_IOC_ALLOC, &arg) &&
		   (errno == EINVAL || errno == ENOMEM),
		   "ALLOC: size %#llx", (unsigned long long)arg.size);
	}
}

static void nozero(int fd)
{
	struct iopmem_alloc arg = good_alloc();

	arg.flags = IOPMEM_ALLOC_NOZERO;
	if (!has_rawio()) {
		refuses_alloc(fd, arg, EPERM, "NOZERO without CAP_SYS_RAWIO");
		return;
	}
	ok(!ioctl(fd, IOPMEM_IOC_ALLOC, &arg),
	   "ALLOC: NOZERO with CAP_SYS_RAWIO");
	close(arg.fd);
}

static void sizes_of_struct(int fd)
{
	struct {
		struct iopmem_alloc now;
		unsigned char later[64 - sizeof(struct iopmem_alloc)];
	} arg = { .now = good_alloc() };
	struct {
		struct iopmem_info now;
		unsigned char later[128 - sizeof(struct iopmem_info)];
	} info = {};

	ok(!ioctl(fd, CALL_OF_SIZE(IOPMEM_IOC_ALLOC, sizeof(arg)), &arg),
	   "ALLOC: longer structure, tail of zeros");
	close(arg.now.fd);
	arg.now = good_alloc();
	arg.later[sizeof(arg.later) - 1] = 1;
	fails(ioctl(fd, CALL_OF_SIZE(IOPMEM_IOC_ALLOC, sizeof(arg)), &arg),
	      E2BIG, "ALLOC: longer structure, tail not zero");
	fails(ioctl(fd, CALL_OF_SIZE(IOPMEM_IOC_ALLOC, 16), &arg), EINVAL,
	      "ALLOC: structure too short for its result");
	fails(ioctl(fd, CALL_OF_SIZE(IOPMEM_IOC_ALLOC, 0), &arg), EINVAL,
	      "ALLOC: no structure");

	ok(!ioctl(fd, CALL_OF_SIZE(IOPMEM_IOC_INFO, sizeof(info)), &info) &&
	   info.now.size, "INFO: longer structure, tail of zeros");
	memset(&info, 0, sizeof(info));
	info.later[0] = 1;
	fails(ioctl(fd, CALL_OF_SIZE(IOPMEM_IOC_INFO, sizeof(info)), &info),
	      E2BIG, "INFO: longer structure, tail not zero");
	fails(ioctl(fd, CALL_OF_SIZE(IOPMEM_IOC_INFO, 16), &info), EINVAL,
	      "INFO: short structure");
}

static void pointers(int fd)
{
	void *none = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	struct iopmem_alloc *ro = mmap(NULL, page, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int next;

	fails(ioctl(fd, IOPMEM_IOC_ALLOC, NULL), EFAULT, "ALLOC: NULL");
	fails(ioctl(fd, IOPMEM_IOC_ALLOC, none), EFAULT,
	      "ALLOC: unreadable argument");
	fails(ioctl(fd, IOPMEM_IOC_ALLOC, -4096L), EFAULT,
	      "ALLOC: kernel address");
	fails(ioctl(fd, IOPMEM_IOC_INFO, NULL), EFAULT, "INFO: NULL");
	fails(ioctl(fd, IOPMEM_IOC_INFO, none), EFAULT,
	      "INFO: unreadable argument");

	*ro = good_alloc();
	mprotect(ro, page, PROT_READ);
	next = next_descriptor();
	fails(ioctl(fd, IOPMEM_IOC_ALLOC, ro), EFAULT,
	      "ALLOC: argument that cannot be written");
	ok(next_descriptor() == next, "ALLOC: no descriptor is left of it");
	fails(ioctl(fd, IOPMEM_IOC_INFO, (char *)ro + 1024), EFAULT,
	      "INFO: argument that cannot be written");
	munmap(ro, page);
	munmap(none, page);
}

static void numbers(int fd)
{
	unsigned char arg[64] = {};

	fails(ioctl(fd, CALL_OF_SIZE(0x12, sizeof(arg)), arg), ENOTTY,
	      "unknown number");
	fails(ioctl(fd, CALL_OF_SIZE(0xff, sizeof(arg)), arg), ENOTTY,
	      "last number");
	fails(ioctl(fd, _IOWR('x', 0x10, struct iopmem_alloc), arg), ENOTTY,
	      "another driver's magic");
	fails(ioctl(fd, _IOR(IOPMEM_IOC_MAGIC, 0x11, struct iopmem_info), arg),
	      ENOTTY, "another direction");
}

static unsigned long long read_number(const char *dir, const char *name)
{
	char file[256];
	unsigned long long n = 0;
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", dir, name);
	f = fopen(file, "re");
	if (!f || fscanf(f, "%llu", &n) != 1)
		printf("# %s: no number\n", file);
	if (f)
		fclose(f);
	return n;
}

static void info(int fd)
{
	struct iopmem_info info = {};
	char dir[64], link[256] = "", address[16], attr[256];
	struct stat st;

	for (size_t i = 0; i < sizeof(info); i++) {
		memset(&info, 0, sizeof(info));
		((unsigned char *)&info)[i] = 1;
		if (!ioctl(fd, IOPMEM_IOC_INFO, &info) || errno != EINVAL) {
			ok(false, "INFO: byte %zu is not 0 on input", i);
			break;
		}
	}
	ok(!device_info(fd, &info), "INFO");
	if (fstat(fd, &st))
		give_up("fstat");
	snprintf(dir, sizeof(dir), "/sys/dev/char/%u:%u", major(st.st_rdev),
		 minor(st.st_rdev));
	if (readlink(dir, link, sizeof(link) - 1) < 0)
		give_up("%s", dir);
	ok(!strcmp(info.name, strrchr(link, '/') + 1),
	   "INFO: name is the node's, %s", info.name);
	ok(info.size && info.size == read_number(dir, "size"),
	   "INFO: size is that in sysfs, %llu",
	   (unsigned long long)info.size);
	ok(info.free <= info.size && info.free == read_number(dir, "free"),
	   "INFO: so is free");
	ok(info.granularity >= page &&
	   !(info.granularity & (info.granularity - 1)),
	   "INFO: granularity is a power of two of at least a page");
	ok(info.cache_mode == IOPMEM_CACHE_UC ||
	   info.cache_mode == IOPMEM_CACHE_WC, "INFO: cache mode is known");
	ok(!(info.flags & ~IOPMEM_INFO_ATTACHED), "INFO: flags are known");
	for (size_t i = 0; i < sizeof(info.reserved); i++)
		if (info.reserved[i])
			ok(false, "INFO: reserved byte %zu is 0", i);

	snprintf(attr, sizeof(attr), "%s/device", dir);
	memset(link, 0, sizeof(link));
	if (readlink(attr, link, sizeof(link) - 1) < 0)
		give_up("%s", attr);
	snprintf(address, sizeof(address), "%04x:%02x:%02x.%x",
		 info.pci_domain, info.pci_bus, info.pci_devfn >> 3,
		 info.pci_devfn & 7);
	ok(!strcmp(address, strrchr(link, '/') + 1),
	   "INFO: PCI address is that of sysfs's device link, %s", address);
}

#ifdef __x86_64__
/*
 * The 32-bit system call gate works from 64-bit code too and makes the call a
 * compat one; its pointers must be below 4 GiB. Returns a negative errno.
 */
static int compat_ioctl(int fd, unsigned int nr, void *arg)
{
	long ret;

	asm volatile("int $0x80"
		     : "=a" (ret)
		     : "a" (54L), "b" ((long)fd), "c" ((long)nr), "d" (arg)
		     : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

static void compat(int fd)
{
	void *low = mmap(NULL, page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	struct iopmem_alloc *arg = low;
	struct iopmem_info *info = low;
	struct iopmem_info want;

	if (low == MAP_FAILED)
		give_up("memory below 4 GiB");
	device_info(fd, &want);
	ok(!compat_ioctl(fd, IOPMEM_IOC_INFO, info) &&
	   !memcmp(info, &want, sizeof(want)), "INFO from a 32-bit program");
	*arg = good_alloc();
	ok(!compat_ioctl(fd, IOPMEM_IOC_ALLOC, arg) &&
	   lseek(arg->fd, 0, SEEK_END) == (off_t)page,
	   "ALLOC from a 32-bit program");
	close(arg->fd);
	*arg = good_alloc();
	arg->reserved = 1;
	ok(compat_ioctl(fd, IOPMEM_IOC_ALLOC, arg) == -EINVAL,
	   "and its bad argument: EINVAL");
	ok(compat_ioctl(fd, CALL_OF_SIZE(0x12, 8), low) == -ENOTTY,
	   "and its unknown number: ENOTTY");
	munmap(low, page);
}
#else
static void compat(int fd)
{
	(void)fd;
	skip("knows only x86's 32-bit system call", "32-bit program");
}
#endif

int main(int argc, char **argv)
{
	uint64_t before;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: ioctl DEV\n");
		return EXIT_FAILURE;
	}
	page = sysconf(_SC_PAGESIZE);
	fd = open_device(argv[1], O_RDWR);
	before = device_free(fd);
	alloc_members(fd);
	nozero(fd);
	sizes_of_struct(fd);
	pointers(fd);
	numbers(fd);
	info(fd);
	compat(fd);
	ok(device_free(fd) == before, "nothing was lost on the way");
	return done_testing();
}
