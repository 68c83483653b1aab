// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * For LD_PRELOAD: when perftest has ended its test and closes the connection to
 * the other side, bytes of its buffer change, as CHANGE says:
 *
 *	flip:OFFSET:LENGTH	one bit of each
 *	zero:OFFSET:LENGTH	they become 0
 *
 * Of a buffer that does not reach so far nothing changes.
 */
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static volatile unsigned char *buffer;
static size_t size;

static void remember(void *addr, size_t len)
{
	buffer = addr;
	size = len;
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

static void change(const char *what)
{
	size_t offset, length;
	char how[5];

	if (sscanf(what, "%4[a-z]:%zu:%zu", how, &offset, &length) != 3 ||
	    offset > size || length > size - offset)
		return;
	for (size_t i = offset; i < offset + length; i++)
		buffer[i] = how[0] == 'z' ? 0 : buffer[i] ^ 1;
	/* once */
	size = 0;
}

int close(int fd)
{
	const char *what = getenv("CHANGE");
	socklen_t len = sizeof(int);
	int (*libc_close)(int);
	int type;

	if (what && size && !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len))
		change(what);
	*(void **)&libc_close = dlsym(RTLD_NEXT, "close");
	return libc_close(fd);
}
