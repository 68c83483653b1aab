/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR Linux-OpenIB) */
/*
 * /dev/iopmemN: PCI BAR memory for user space.
 *
 * mmap(fd, len, MAP_SHARED, offset 0) gives a fresh, zeroed region of len
 * bytes each time; IOPMEM_IOC_ALLOC gives the same behind a dma-buf file
 * descriptor that can be passed on. A region goes back to the device when the
 * last of its mappings, its dma-buf, memory regions registered on it (MRs) and
 * DMA in flight is gone.
 *
 * When the device is unbound or unplugged, its regions are revoked for good:
 * CPU accesses get SIGBUS, calls ENODEV, and RDMA work on their MRs completes
 * in error. The same happens when it is reset or suspended, unless the memory
 * is another driver's (IOPMEM_INFO_ATTACHED): nobody tells us then.
 */
#ifndef _UAPI_RDMA_IOPMEM_H
#define _UAPI_RDMA_IOPMEM_H

#include <linux/types.h>
#include <linux/ioctl.h>

#define IOPMEM_IOC_MAGIC	0xBC

/*
 * Do not zero the memory. It may hold what another user left behind, so this
 * needs CAP_SYS_RAWIO.
 */
#define IOPMEM_ALLOC_NOZERO	(1U << 0)

/**
 * struct iopmem_alloc - argument of IOPMEM_IOC_ALLOC
 * @size: in: bytes, rounded up to the granularity; 0 is refused
 * @flags: in: IOPMEM_ALLOC_*; unknown bits are refused
 * @fd_flags: in: O_RDONLY or O_RDWR, and O_CLOEXEC
 * @fd: out: a dma-buf file descriptor that owns the region; 0 on input
 * @reserved: 0
 *
 * Errors: EINVAL for a bad argument, EACCES for O_RDWR through a read-only
 * /dev/iopmemN, EPERM for IOPMEM_ALLOC_NOZERO without CAP_SYS_RAWIO, ENOMEM
 * when no free range is large enough, EDQUOT when the user would have more of
 * the device than its user_limit in sysfs says, EINTR when killed while
 * zeroing, ENODEV when the device is gone.
 */
struct iopmem_alloc {
	__aligned_u64 size;
	__u32 flags;
	__u32 fd_flags;
	__s32 fd;
	__u32 reserved;
};

/*
 * How the CPU maps the memory, in the kernel and in user space alike. There are no
 * others: a cache would keep what peers change without its knowledge.
 */
enum iopmem_cache_mode {
	IOPMEM_CACHE_UC,	/* uncached */
	IOPMEM_CACHE_WC,	/* write-combining */
};

/* The memory belongs to another driver (an NVMe's CMB, for one). */
#define IOPMEM_INFO_ATTACHED	(1U << 0)

/**
 * struct iopmem_info - result of IOPMEM_IOC_INFO
 * @size: bytes of the device's memory
 * @free: bytes that can be had. With IOPMEM_INFO_ATTACHED the memory's own
 *	driver draws from it too, and this is an upper bound.
 * @granularity: allocations are multiples of this many bytes
 * @cache_mode: enum iopmem_cache_mode, of user and kernel mappings alike
 * @flags: IOPMEM_INFO_*
 * @pci_domain: PCI address of the function whose BAR the memory is in
 * @pci_bus: the same
 * @pci_devfn: the same: device in bits 7..3, function in bits 2..0
 * @name: "iopmemN", NUL-terminated
 *
 * All bytes are 0 on input.
 */
struct iopmem_info {
	__aligned_u64 size;
	__aligned_u64 free;
	__u32 granularity;
	__u32 cache_mode;
	__u32 flags;
	__u32 pci_domain;
	__u8 pci_bus;
	__u8 pci_devfn;
	__u8 reserved[6];
	char name[16];
};

/*
 * Both calls take the size of the structure from the call's number. A longer
 * structure whose tail is zero is accepted, so that programs built against a
 * later header run on an earlier module (E2BIG if the tail is not zero).
 */
#define IOPMEM_IOC_ALLOC	_IOWR(IOPMEM_IOC_MAGIC, 0x10, struct iopmem_alloc)
#define IOPMEM_IOC_INFO		_IOWR(IOPMEM_IOC_MAGIC, 0x11, struct iopmem_info)

#endif /* _UAPI_RDMA_IOPMEM_H */
