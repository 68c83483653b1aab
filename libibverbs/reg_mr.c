// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * MRs on a dma-buf, by whichever door the kernel and the RDMA device have.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

static const int writable = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			    IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND;

/* What has no meaning for a dma-buf; kernels refuse it at the first door. */
static const int not_by_fd = IBV_ACCESS_ZERO_BASED | IBV_ACCESS_ON_DEMAND |
			     IBV_ACCESS_HUGETLB;

static uint64_t offset_in_page(uint64_t address)
{
	return address & (sysconf(_SC_PAGESIZE) - 1);
}

static int check_range(uint64_t offset, size_t length, uint64_t iova, int fd)
{
	off_t size;

	if (!length || iova > UINT64_MAX - length)
		return EINVAL;
	/* The kernel wants it at the first door; so do we at both. */
	if (offset_in_page(offset) != offset_in_page(iova))
		return EINVAL;
	/* A dma-buf has no file position that this could change. */
	size = lseek(fd, 0, SEEK_END);
	if (size < 0)
		return errno;
	if (length > (uint64_t)size || offset > (uint64_t)size - length)
		return EINVAL;
	return 0;
}

static int check_access(int mode, int access)
{
	if (access & not_by_fd)
		return EINVAL;
	if (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC) &&
	    !(access & IBV_ACCESS_LOCAL_WRITE))
		return EINVAL;
	/* Not every kernel looks at the mode. */
	if (access & writable && mode == O_RDONLY)
		return EACCES;
	return 0;
}

static int check_arguments(uint64_t offset, size_t length, uint64_t iova,
			   int fd, int access)
{
	int mode;
	int ret = dmabuf_mode(fd, &mode);

	if (!ret)
		ret = check_range(offset, length, iova, fd);
	if (!ret)
		ret = check_access(mode, access);
	return ret;
}

/*
 * The provider of the RDMA device lacks the first door, or its driver does; or
 * the kernel is from before 5.12 and does not know the method.
 */
static bool first_door_missing(int error)
{
	return error == EOPNOTSUPP || error == EPROTONOSUPPORT;
}

/* Maps the pages that hold the range. */
static int map_range(struct mr_entry *entry, uint64_t offset, size_t length,
		     int fd, int access)
{
	int prot = PROT_READ | (access & writable ? PROT_WRITE : 0);
	uint64_t skip = offset_in_page(offset);
	void *p = mmap(NULL, skip + length, prot, MAP_SHARED, fd,
		       offset - skip);

	if (p == MAP_FAILED)
		/* All arguments are good: this one cannot be mapped at all. */
		return errno == EINVAL ? EOPNOTSUPP : errno;
	entry->map = p;
	entry->map_len = skip + length;
	return 0;
}

/*
 * Kernels without peer memory find nothing behind the mapping that they would
 * register, and say so in several ways.
 */
static bool second_door_missing(int error)
{
	return error == EFAULT || error == EREMOTEIO || error == EOPNOTSUPP;
}

/*
 * Kernels look at RLIMIT_MEMLOCK before they look at the memory, which may not
 * count at all, or be of no use. One byte of it tells which.
 */
static int why_no_memory(struct ibv_pd *pd, void *start, int access)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, start, 1, access);

	if (!mr)
		return errno;
	ibv_dereg_mr(mr);
	return ENOMEM;
}

/*
 * Whether a refusal of the second door's means that there is no route. Our
 * peer-memory client, where it is, says EREMOTEIO for nothing else; kernels
 * without peer memory say it of every BAR.
 */
static bool no_route(struct ibv_context *context, int fd, int error)
{
	struct iopmem_route route;

	if (error == EREMOTEIO && sysfs_has_module("", "iopmem_peer"))
		return true;
	return !iopmem_query_route(context, fd, &route) &&
	       route.type == IOPMEM_ROUTE_NONE;
}

/* ibv_reg_mr_iova() on a mapping that lasts as long as the MR */
static int reg_mapping(struct mr_entry *entry, struct ibv_pd *pd,
		       uint64_t offset, size_t length, uint64_t iova, int fd,
		       int access)
{
	char *start;
	int ret = map_range(entry, offset, length, fd, access);

	if (!ret) {
		start = (char *)entry->map + offset_in_page(offset);
		entry->mr = ibv_reg_mr_iova(pd, start, length, iova, access);
		ret = entry->mr ? 0 : errno;
		if (ret == ENOMEM)
			ret = why_no_memory(pd, start, access);
	}
	if (second_door_missing(ret))
		ret = no_route(pd->context, fd, ret) ? EREMOTEIO : EOPNOTSUPP;
	return ret;
}

struct ibv_mr *iopmem_reg_mr(struct ibv_pd *pd, uint64_t offset, size_t length,
			     uint64_t iova, int fd, int access)
{
	struct mr_entry *entry;
	int ret = check_arguments(offset, length, iova, fd, access);

	if (ret)
		goto err;
	/* First of all, so that an MR need not be taken back for want of it. */
	entry = calloc(1, sizeof(*entry));
	if (!entry) {
		ret = ENOMEM;
		goto err;
	}
	entry->mr = ibv_reg_dmabuf_mr(pd, offset, length, iova, fd, access);
	if (!entry->mr) {
		ret = errno;
		if (first_door_missing(ret))
			ret = reg_mapping(entry, pd, offset, length, iova, fd,
					  access);
		if (ret)
			goto err_entry;
	}
	mr_table_add(entry);
	return entry->mr;

err_entry:
	mr_entry_free(entry);
err:
	errno = ret;
	return NULL;
}

int iopmem_dereg_mr(struct ibv_mr *mr)
{
	/* Out first: when the MR is gone, another may get its address. */
	struct mr_entry *entry = mr_table_take(mr);
	int ret;

	if (!entry)
		return EINVAL;
	ret = ibv_dereg_mr(mr);
	if (ret)
		mr_table_add(entry);
	else
		mr_entry_free(entry);
	return ret;
}
