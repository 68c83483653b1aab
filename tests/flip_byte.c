// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * For LD_PRELOAD: when perftest has ended its test and closes the connection to
 * the other side, one byte of its buffer changes: the one that FLIP_BYTE says,
 * counted from the buffer's begin. Of a buffer that small nothing changes.
 */
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <sys/socket.h>

static volatile unsigned char *buffer;
static size_t length;

static void remember(void *addr, size_t len)
{
	buffer = addr;
	length = len;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t len,
				uint64_t iova, unsigned int access)
{
	struct ibv_mr *(*reg)(struct ibv_pd *, void *, size_t, uint64_t,
			      unsigned int);

	*(void **)&reg = dlsym(RTLD_NEXT, "ibv_reg_mr_iova2");
	remember(addr, len);
	return reg(pd, addr, len, iova, access);
}

struct ibv_mr *ibv_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t len,
				 uint64_t iova, int fd, int access)
{
	struct ibv_mr *(*reg)(struct ibv_pd *, uint64_t, size_t, uint64_t, int,
			      int);

	*(void **)&reg = dlsym(RTLD_NEXT, "ibv_reg_dmabuf_mr");
	/* perftest's address of it, too */
	remember((void *)(uintptr_t)iova, len);
	return reg(pd, offset, len, iova, fd, access);
}

int close(int fd)
{
	const char *at = getenv("FLIP_BYTE");
	size_t offset = at ? strtoul(at, NULL, 0) : 0;
	socklen_t size = sizeof(int);
	int (*libc_close)(int);
	int type;

	if (at && offset < length &&
	    !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size))
		buffer[offset] ^= 1;
	*(void **)&libc_close = dlsym(RTLD_NEXT, "close");
	return libc_close(fd);
}
