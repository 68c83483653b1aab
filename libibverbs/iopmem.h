/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * libiopmem: RDMA memory regions on PCI BAR memory, by file descriptor.
 *
 *	fd = open("/dev/iopmem0", O_RDWR | O_CLOEXEC);
 *	buf_fd = iopmem_alloc(fd, length, 0);
 *	mr = iopmem_reg_mr(pd, 0, length, iova, buf_fd, access);
 *	...
 *	iopmem_dereg_mr(mr);
 *
 * Calls that return a pointer return NULL and set errno when they fail, calls
 * that return a file descriptor -1 and errno, all others a positive errno
 * value. In all of them
 *
 *	EBADF		the descriptor is not open
 *	EINVAL		an argument is wrong
 *	EACCES		writable access through a read-only descriptor
 *	EOPNOTSUPP	this kernel, or this RDMA device, cannot do it
 *	EREMOTEIO	PCIe has no route between RDMA device and memory
 *	ENODEV		the memory's device is gone, and the memory with it
 *
 * All calls may be made from any thread. Sizes, offsets and lengths are bytes.
 */
#ifndef INFINIBAND_IOPMEM_H
#define INFINIBAND_IOPMEM_H

#include <stddef.h>
#include <stdint.h>

#include <infiniband/verbs.h>
#include <rdma/iopmem.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * iopmem_alloc - get memory of a device, as a dma-buf
 * @fd: an open /dev/iopmemN
 * @size: bytes, at least 1; rounded up to the device's granularity
 * @flags: 0, or IOPMEM_ALLOC_NOZERO, which needs CAP_SYS_RAWIO
 *
 * The memory is zeroed and belongs to the dma-buf: whoever gets the descriptor
 * shares it, and it returns to the device when all descriptors, mappings and
 * MRs on it are gone. @fd is not needed for that and may be closed.
 *
 * Return: a file descriptor that is the caller's to close, with O_CLOEXEC set,
 * and read-only if @fd is. Or -1 and errno: EBADF; EINVAL (size 0, unknown
 * flags, @fd is not a /dev/iopmemN); EPERM (IOPMEM_ALLOC_NOZERO without
 * CAP_SYS_RAWIO); ENOMEM (no free range is large enough); EDQUOT (more than
 * the device's limit for a user); EMFILE, ENFILE; ENODEV.
 */
int iopmem_alloc(int fd, size_t size, unsigned int flags);

/**
 * iopmem_query_info - ask a device what memory it has
 * @fd: an open /dev/iopmemN
 * @info: filled in; see <rdma/iopmem.h> for its fields
 *
 * Return: 0, or EBADF; EINVAL (@fd is not a /dev/iopmemN); ENODEV.
 */
int iopmem_query_info(int fd, struct iopmem_info *info);

/**
 * iopmem_reg_mr - register a part of a dma-buf as an MR
 * @pd: the protection domain
 * @offset: where the MR begins in the dma-buf; need not be page-aligned
 * @length: bytes, at least 1; @offset + @length is at most the dma-buf's size
 * @iova: what work requests will call the first byte. The same as @offset
 *	modulo the page size; @iova + @length fits in 64 bits.
 * @fd: a dma-buf of iopmem_alloc(), or any other
 * @access: of enum ibv_access_flags: IBV_ACCESS_LOCAL_WRITE,
 *	IBV_ACCESS_REMOTE_WRITE, IBV_ACCESS_REMOTE_READ,
 *	IBV_ACCESS_REMOTE_ATOMIC, IBV_ACCESS_RELAXED_ORDERING; the manual page
 *	tells about others
 *
 * There are two doors to the kernel, tried in this order:
 *
 * 1. ibv_reg_dmabuf_mr();
 * 2. if the kernel or the provider of the RDMA device does not have that, a
 *    mapping of the dma-buf that the library keeps until iopmem_dereg_mr(), and
 *    ibv_reg_mr_iova() on it: peer memory.
 *
 * Whichever it was, the MR goes on when @fd is closed. Its lkey, rkey and
 * length are what they are in any MR; its addr is not for the caller.
 *
 * Return: an MR for iopmem_dereg_mr() only, or NULL and errno: EBADF; EINVAL (a
 * length of 0, a range beyond the dma-buf, an iova that does not go with
 * @offset or @length, access flags that do not exist or do not go together,
 * @fd is not a dma-buf); EACCES; EOPNOTSUPP; EREMOTEIO; ENOMEM; ENODEV.
 */
struct ibv_mr *iopmem_reg_mr(struct ibv_pd *pd, uint64_t offset, size_t length,
			     uint64_t iova, int fd, int access);

/**
 * iopmem_dereg_mr - undo iopmem_reg_mr()
 * @mr: an MR of iopmem_reg_mr()
 *
 * Return: 0, and @mr is gone. EINVAL if @mr is no MR of iopmem_reg_mr(), or not
 * any more; @mr is not looked into. Or what ibv_dereg_mr() returns, for one while
 * memory windows are bound to it; then @mr is as before.
 */
int iopmem_dereg_mr(struct ibv_mr *mr);

/* How an RDMA device reaches memory */
enum iopmem_route_type {
	/* not at all */
	IOPMEM_ROUTE_NONE,
	/* by PCI bus address, switched below a common bridge */
	IOPMEM_ROUTE_BUS_ADDR,
	/* up to a host bridge that forwards it, and down again */
	IOPMEM_ROUTE_HOST_BRIDGE,
	/* a virtual device, without DMA: the CPU copies */
	IOPMEM_ROUTE_CPU,
};

/* Why there is no route, or not the shortest one */
enum iopmem_route_reason {
	/* nothing is in the way */
	IOPMEM_REASON_NONE,
	/* no common bridge, and the host bridge is not known to forward */
	IOPMEM_REASON_HOST_BRIDGE,
	/* the host bridges are not known to forward to each other */
	IOPMEM_REASON_HOST_BRIDGES,
	/* ACS redirects requests of peers to the host bridge */
	IOPMEM_REASON_ACS,
	/* whether ACS does that can only be read with CAP_SYS_ADMIN */
	IOPMEM_REASON_ACS_UNKNOWN,
	/* the RDMA device is virtual */
	IOPMEM_REASON_VIRTUAL,
	/* the RDMA device is not on PCI */
	IOPMEM_REASON_NOT_PCI,
};

/* The RDMA device is in an IOMMU group: its DMA may be translated. */
#define IOPMEM_ROUTE_FLAG_IOMMU		(1U << 0)

/**
 * struct iopmem_route - result of iopmem_query_route()
 * @type: how the device reaches the memory
 * @reason: why not at all, or why not by bus address
 * @distance: PCI hops up from the memory's function and down to the device, as
 *	the kernel counts them: 0 the same function, 2 functions below one
 *	port, 4 slots of one switch. -1 if the device is not on PCI.
 * @flags: IOPMEM_ROUTE_FLAG_*
 * @device: PCI address of the RDMA device, "" if it is not on PCI
 * @provider: PCI address of the function whose BAR the memory is in
 * @bridge: PCI address of the bridge that is the reason, or ""
 * @reserved: 0
 *
 * PCI addresses are text, "0000:03:00.0", NUL-terminated.
 */
struct iopmem_route {
	enum iopmem_route_type type;
	enum iopmem_route_reason reason;
	int32_t distance;
	uint32_t flags;
	char device[16];
	char provider[16];
	char bridge[16];
	uint32_t reserved[8];
};

/**
 * iopmem_query_route - find out how an RDMA device reaches memory
 * @context: the RDMA device
 * @fd: a /dev/iopmemN, or a dma-buf of iopmem_alloc()
 * @route: filled in
 *
 * Computed from sysfs, by the rules of Linux 6.12: nothing is registered or
 * mapped. Needs no privilege, but without CAP_SYS_ADMIN the answer may come
 * with IOPMEM_REASON_ACS_UNKNOWN: the type is then what holds if ACS does not
 * redirect.
 *
 * Return: 0, also for IOPMEM_ROUTE_NONE. Or EBADF; EINVAL (@fd is neither of
 * the two); ENODEV (the RDMA device or the memory's function is no longer
 * there); or the errno of reading sysfs or /proc.
 */
int iopmem_query_route(struct ibv_context *context, int fd,
		       struct iopmem_route *route);

/**
 * iopmem_route_reason_str - a reason in words
 * @reason: of struct iopmem_route
 *
 * Return: a constant string in English, for any value.
 */
const char *iopmem_route_reason_str(enum iopmem_route_reason reason);

#ifdef __cplusplus
}
#endif

#endif /* INFINIBAND_IOPMEM_H */
