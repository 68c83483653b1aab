// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * PCI BAR memory of a /dev/iopmemN as the buffer of a test.
 *
 * Each mapping of the device is memory of its own, fresh and zeroed, and can be
 * registered as host memory is where the kernel has peer memory support. The
 * same memory is to be had as a dma-buf, which can be registered where the RDMA
 * device's driver knows dma-bufs.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <rdma/iopmem.h>
#include "p2p_memory.h"
#include "perftest_parameters.h"

#define DEFAULT_DEVICE	"/dev/iopmem0"
#define PEER_MODULE	"iopmem_peer"

struct p2p_memory_ctx {
	struct memory_ctx base;
	const char *path;
	int fd;
	bool dmabuf;
	bool wants_zeroes;
	bool verbose;
};

/* What the report says of the memory, as it was when it was chosen. */
static struct {
	const char *path;
	const char *door;
	struct iopmem_info info;
} chosen;

void p2p_memory_usage(void)
{
	printf("      --use_p2p ");
	printf(" Use PCI memory of %s for the buffers\n", DEFAULT_DEVICE);
	printf("      --p2p_dev=<path> ");
	printf(" Use PCI memory of this device (/dev/iopmemN) for the buffers, implies --use_p2p\n");
	printf("      --use_p2p_dmabuf ");
	printf(" Register PCI memory as a dma-buf, implies --use_p2p\n");
}

static const char *cache_mode(const struct iopmem_info *info)
{
	return info->cache_mode == IOPMEM_CACHE_WC ? "write-combining" :
						     "uncached";
}

static int get_info(int fd, struct iopmem_info *info)
{
	memset(info, 0, sizeof(*info));
	return ioctl(fd, IOPMEM_IOC_INFO, info);
}

/* Says what failed and why, and if we know, what can be done about it. */
static void complain(const char *what, const char *path, const char *reason,
		     const char *remedy)
{
	fprintf(stderr, " Cannot %s '%s': %s\n", what, path, reason);
	if (remedy)
		fprintf(stderr, " %s\n", remedy);
}

static void print_need(int fd, uint64_t need)
{
	struct iopmem_info info;

	if (get_info(fd, &info))
		fprintf(stderr, " Needed %" PRIu64 " bytes; what is available cannot be told: %s\n",
			need, strerror(errno));
	else
		fprintf(stderr, " Needed %" PRIu64 " bytes, available %" PRIu64 " of %" PRIu64 " bytes\n",
			need, (uint64_t)info.free, (uint64_t)info.size);
}

static const char other_remedy[] =
	"Name a /dev/iopmemN; for a file or another device see --mmap";

static const char no_route[] =
	"The RDMA device has no PCIe route to the memory: put both below one PCIe switch, and check ACS";

static const char *open_remedy(int error)
{
	switch (error) {
	case ENOENT:
		return "Make a device first: bind the iopmem driver to a PCI function, or attach it to one with memory (see iopmem's README)";
	case EACCES:
	case EPERM:
		return "Ask for read and write permission: the device's group, rdma as a rule, has it";
	case ENODEV:
	case ENXIO:
		return "The PCI function was unbound or unplugged: bind it again";
	default:
		return NULL;
	}
}

static const char *map_remedy(int error)
{
	switch (error) {
	case ENOMEM:
	case ENOSPC:
		return "Use a smaller message size (-s), fewer QPs (-q) or flows (--flows), or free memory that others hold";
	case EDQUOT:
		return "You would have more of the device than one user may: use less, free what other programs of yours hold, or have its user_limit in sysfs raised";
	case ENODEV:
		return open_remedy(error);
	default:
		return NULL;
	}
}

static const char *dmabuf_remedy(int error)
{
	switch (error) {
	case EOPNOTSUPP:
	case EPROTONOSUPPORT:
		return "The RDMA device's driver, or its provider in rdma-core, cannot register dma-bufs: try another device, or leave out --use_p2p_dmabuf";
	case EREMOTEIO:
		return no_route;
	case ENODEV:
		return open_remedy(error);
	default:
		return NULL;
	}
}

static const char *reg_remedy(int error)
{
	switch (error) {
	case EFAULT:
	case EREMOTEIO:
	case ENOMEM:
	case EPERM:
		/*
		 * Without a peer memory client these come from the ordinary
		 * way to pin memory, which takes no PCI memory (EFAULT,
		 * EREMOTEIO) and first checks RLIMIT_MEMLOCK (ENOMEM, EPERM).
		 */
		if (access("/sys/module/" PEER_MODULE, F_OK))
			return "RDMA to PCI memory needs a kernel with peer memory support, and the module "
			       PEER_MODULE ", which is not loaded: modprobe " PEER_MODULE;
		break;
	}

	switch (error) {
	case EOPNOTSUPP:
		return "This kernel or this RDMA device's driver cannot use peer memory, the kernel log says why: try another RDMA device";
	case EFAULT:
		return "No peer memory client of this kernel has claimed the memory, see the kernel log";
	case EREMOTEIO:
		return no_route;
	case ENODEV:
		return open_remedy(error);
	default:
		return NULL;
	}
}

/* Returns a file descriptor and fills *info, or says what is wrong and -1. */
static int open_device(const char *path, struct iopmem_info *info)
{
	struct stat st;
	int fd;

	if (!stat(path, &st) && !S_ISCHR(st.st_mode)) {
		complain("use as PCI memory", path, "not a character device",
			 other_remedy);
		return -1;
	}

	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		complain("open PCI memory", path, strerror(errno),
			 open_remedy(errno));
		return -1;
	}

	if (get_info(fd, info)) {
		if (errno == ENOTTY || errno == EINVAL)
			complain("use as PCI memory", path,
				 "not a device of the iopmem driver",
				 other_remedy);
		else
			complain("query PCI memory", path, strerror(errno),
				 open_remedy(errno));
		close(fd);
		return -1;
	}

	return fd;
}

static int p2p_memory_init(struct memory_ctx *base)
{
	struct p2p_memory_ctx *ctx = container_of(base, struct p2p_memory_ctx, base);
	struct iopmem_info info;

	ctx->fd = open_device(ctx->path, &info);
	if (ctx->fd < 0)
		return FAILURE;

	if (ctx->verbose)
		printf(" PCI memory      : %s, %04x:%02x:%02x.%x, %s, by %s, %" PRIu64 " of %" PRIu64 " bytes free\n",
		       ctx->path, info.pci_domain, info.pci_bus,
		       info.pci_devfn >> 3, info.pci_devfn & 7,
		       cache_mode(&info), chosen.door,
		       (uint64_t)info.free, (uint64_t)info.size);
	return SUCCESS;
}

static int p2p_memory_destroy(struct memory_ctx *base)
{
	struct p2p_memory_ctx *ctx = container_of(base, struct p2p_memory_ctx, base);

	if (ctx->fd >= 0)
		close(ctx->fd);
	free(ctx);
	return SUCCESS;
}

/* Returns a dma-buf of at least size bytes, or -1. */
static int alloc_dmabuf(int fd, uint64_t size)
{
	struct iopmem_alloc alloc = {
		.size = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	if (ioctl(fd, IOPMEM_IOC_ALLOC, &alloc))
		return -1;
	return alloc.fd;
}

static int p2p_memory_allocate_buffer(struct memory_ctx *base, int alignment,
				      uint64_t size, int *dmabuf_fd,
				      uint64_t *dmabuf_offset, void **addr,
				      bool *can_init)
{
	struct p2p_memory_ctx *ctx = container_of(base, struct p2p_memory_ctx, base);
	int fd = ctx->dmabuf ? alloc_dmabuf(ctx->fd, size) : ctx->fd;
	int error;

	*addr = MAP_FAILED;
	if (fd >= 0)
		*addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	error = errno;
	if (*addr == MAP_FAILED) {
		if (ctx->dmabuf && fd >= 0)
			close(fd);
		complain(fd < 0 ? "allocate PCI memory of" : "map PCI memory",
			 ctx->path, strerror(error), map_remedy(error));
		print_need(ctx->fd, size);
		return FAILURE;
	}

	if (ctx->dmabuf) {
		*dmabuf_fd = fd;
		*dmabuf_offset = 0;
	}
	/*
	 * The memory is zeroed already, and a memset() may use instructions
	 * that uncached memory does not take (DC ZVA on arm64).
	 */
	*can_init = !ctx->wants_zeroes;
	return SUCCESS;
}

static int p2p_memory_free_buffer(struct memory_ctx *base, int dmabuf_fd,
				  void *addr, uint64_t size)
{
	munmap(addr, size);
	return SUCCESS;
}

/*
 * Stores to write-combining memory wait in the CPU until they are told to go, and
 * what comes next is a request to send them.
 */
static void let_stores_go(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__asm__ volatile("sfence" : : : "memory");
#elif defined(__aarch64__)
	__asm__ volatile("dsb st" : : : "memory");
#else
	__sync_synchronize();
#endif
}

/*
 * Like memcpy(), which may use instructions that uncached memory does not take:
 * words where the device's address is a multiple of one, else bytes.
 */
static void *copy_to_device(void *dest, const void *src, size_t size)
{
	const uint8_t *from = src, *end = from + size;
	uint8_t *to = dest;
	uint64_t word;

	while (from < end) {
		if ((uintptr_t)to % sizeof(word) || end - from < sizeof(word)) {
			*(volatile uint8_t *)to++ = *from++;
			continue;
		}
		memcpy(&word, from, sizeof(word));
		*(volatile uint64_t *)to = word;
		from += sizeof(word);
		to += sizeof(word);
	}
	let_stores_go();
	return dest;
}

static void *copy_from_device(void *dest, const void *src, size_t size)
{
	const uint8_t *from = src, *end = from + size;
	uint8_t *to = dest;
	uint64_t word;

	while (from < end) {
		if ((uintptr_t)from % sizeof(word) || end - from < sizeof(word)) {
			*to++ = *(const volatile uint8_t *)from++;
			continue;
		}
		word = *(const volatile uint64_t *)from;
		memcpy(to, &word, sizeof(word));
		from += sizeof(word);
		to += sizeof(word);
	}
	return dest;
}

static struct memory_ctx *p2p_memory_create(struct perftest_parameters *params)
{
	struct p2p_memory_ctx *ctx;

	ALLOCATE(ctx, struct p2p_memory_ctx, 1);
	ctx->base.init = p2p_memory_init;
	ctx->base.destroy = p2p_memory_destroy;
	ctx->base.allocate_buffer = p2p_memory_allocate_buffer;
	ctx->base.free_buffer = p2p_memory_free_buffer;
	ctx->base.copy_host_to_buffer = copy_to_device;
	ctx->base.copy_buffer_to_host = copy_from_device;
	ctx->base.copy_buffer_to_buffer = copy_from_device;
	ctx->path = params->p2p_dev;
	ctx->fd = -1;
	ctx->dmabuf = params->use_p2p_dmabuf;
	ctx->wants_zeroes = params->tst == LAT &&
			    (params->verb == WRITE || params->verb == WRITE_IMM);
	ctx->verbose = params->output == FULL_VERBOSITY;
	return &ctx->base;
}

int p2p_memory_select(struct perftest_parameters *params, char **operands)
{
	int fd;

	if (!params->p2p_dev)
		params->p2p_dev = DEFAULT_DEVICE;

	for (; *operands; operands++) {
		/* No server's name begins like this. */
		if (**operands == '/') {
			fprintf(stderr, " --use_p2p takes no argument, and %s would be taken for the server's name: did you mean --p2p_dev=%s?\n",
				*operands, *operands);
			return FAILURE;
		}
	}

	if (params->connection_type == RawEth) {
		fprintf(stderr, " --use_p2p: not with Raw Ethernet, where the CPU would build the packet headers in PCI memory\n");
		return FAILURE;
	}
	if (params->memory_type != MEMORY_HOST || params->use_hugepages) {
		fprintf(stderr, " --use_p2p: the buffers can be in one kind of memory only, and another option names another kind (--mmap, --use_hugepages, --use_cuda, ...)\n");
		return FAILURE;
	}
	if (params->use_odp) {
		fprintf(stderr, " --use_p2p: not with --odp, PCI memory cannot be paged\n");
		return FAILURE;
	}
	if (params->inline_size > 0) {
		fprintf(stderr, " --use_p2p: not with inline messages (-I), for which the CPU would read the PCI memory\n");
		return FAILURE;
	}

#ifndef HAVE_REG_DMABUF_MR
	if (params->use_p2p_dmabuf) {
		fprintf(stderr, " --use_p2p_dmabuf: this perftest was built with a libibverbs without ibv_reg_dmabuf_mr()\n");
		return FAILURE;
	}
#endif

	/* Find out now and not after somebody has waited for the peer. */
	fd = open_device(params->p2p_dev, &chosen.info);
	if (fd < 0)
		return FAILURE;
	close(fd);
	chosen.path = params->p2p_dev;
	chosen.door = params->use_p2p_dmabuf ? "dma-buf" : "peer memory";

	/* Small messages would come with their completions, and the CPU copy them. */
	setenv("MLX5_SCATTER_TO_CQE", "0", 0);

	params->memory_type = MEMORY_P2P;
	params->memory_create = p2p_memory_create;
	return SUCCESS;
}

static void print_json_string(int fd, const char *s)
{
	dprintf(fd, "\"");
	for (; *s; s++)
		if (*s == '"' || *s == '\\' || *s < ' ' || *s > '~')
			dprintf(fd, "\\u%04x", (unsigned char)*s);
		else
			dprintf(fd, "%c", *s);
	dprintf(fd, "\"");
}

void p2p_memory_print_json(int fd)
{
	const struct iopmem_info *info = &chosen.info;

	dprintf(fd, "\"PCI_memory\": {\n\"device\": ");
	print_json_string(fd, chosen.path);
	dprintf(fd, ",\n\"PCI_address\": \"%04x:%02x:%02x.%x\",\n\"cache_mode\": \"%s\",\n\"door\": \"%s\",\n\"size\": %" PRIu64 "\n},\n",
		info->pci_domain, info->pci_bus, info->pci_devfn >> 3,
		info->pci_devfn & 7, cache_mode(info), chosen.door,
		(uint64_t)info->size);
}

void p2p_memory_reg_failed(struct memory_ctx *base, uint64_t size)
{
	struct p2p_memory_ctx *ctx = container_of(base, struct p2p_memory_ctx, base);
	int error = errno;

	complain(ctx->dmabuf ? "register a dma-buf of PCI memory" :
			       "register PCI memory", ctx->path,
		 strerror(error),
		 ctx->dmabuf ? dmabuf_remedy(error) : reg_remedy(error));
	print_need(ctx->fd, size);
}
