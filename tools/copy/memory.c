// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The memory that the data passes through: of a PCI device, or the host's.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "copy.h"

/* Where a CPU access to memory that is gone continues. */
static _Thread_local sigjmp_buf *on_access;

static void on_sigbus(int number)
{
	if (on_access)
		siglongjmp(*on_access, 1);
	/* not ours: it happens again when we return, and ends the program */
	signal(number, SIG_DFL);
}

int memory_open(struct copy *copy)
{
	struct sigaction action = { .sa_handler = on_sigbus };
	const char *through = copy->options->through;
	struct memory *memory = &copy->memory;
	int ret;

	if (!through)
		return 0;
	memory->fd = open(through, O_RDWR | O_CLOEXEC);
	if (memory->fd < 0)
		return fail(copy, "%s: %s", through, strerror(errno));
	ret = iopmem_query_info(memory->fd, &memory->info);
	if (ret)
		return fail(copy, "%s: %s", through, ret == EINVAL ?
			    "not a device of iopmem" : strerror(ret));
	sigaction(SIGBUS, &action, NULL);
	return 0;
}

/* The mapping is what O_DIRECT and the CPU use, whatever the RDMA device does. */
static int map_memory(struct copy *copy)
{
	struct memory *memory = &copy->memory;
	int flags = MAP_SHARED | MAP_ANONYMOUS, fd = -1;

	if (copy->options->dmabuf) {
		memory->buf_fd = iopmem_alloc(memory->fd, memory->size, 0);
		if (memory->buf_fd < 0)
			return -1;
		fd = memory->buf_fd;
		flags = MAP_SHARED;
	} else if (copy->options->through) {
		fd = memory->fd;
		flags = MAP_SHARED;
	}
	memory->p = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, flags, fd,
			 0);
	if (memory->p != MAP_FAILED)
		return 0;
	memory->p = NULL;
	return -1;
}

static int check_route(struct copy *copy)
{
	struct iopmem_route route;
	int ret = iopmem_query_route(copy->connection.id->verbs,
				     copy->memory.fd, &route);

	if (ret)
		return fail(copy, "the route to %s: %s",
			    copy->options->through, strerror(ret));
	if (route.type == IOPMEM_ROUTE_NONE)
		return fail(copy, "%s does not reach %s: %s%s%s",
			    ibv_get_device_name(copy->connection.id->verbs->device),
			    copy->options->through,
			    iopmem_route_reason_str(route.reason),
			    route.bridge[0] ? ", bridge " : "", route.bridge);
	return 0;
}

int memory_register(struct copy *copy)
{
	const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			   IBV_ACCESS_REMOTE_READ;
	const char *through = copy->options->through;
	struct memory *memory = &copy->memory;

	memory->size = copy->block * copy->depth;
	if (through && check_route(copy))
		return -1;
	if (map_memory(copy))
		return fail(copy, "%zu bytes of %s: %s%s", memory->size,
			    through ? through : "host memory", strerror(errno),
			    errno == ENOMEM || errno == EDQUOT ?
			    ": a smaller --block or --depth needs less" : "");
	if (copy->options->dmabuf)
		memory->mr = iopmem_reg_mr(copy->connection.pd, 0, memory->size,
					   (uintptr_t)memory->p, memory->buf_fd,
					   access);
	else
		memory->mr = ibv_reg_mr(copy->connection.pd, memory->p,
					memory->size, access);
	if (memory->mr)
		return 0;
	if (!through)
		return fail(copy, "an MR on %zu bytes of host memory: %s%s",
			    memory->size, strerror(errno), errno == ENOMEM ?
			    ": see ulimit -l" : "");
	return fail(copy, "an MR on %zu bytes of %s: %s: see iopmem check --try %s %s",
		    memory->size, through, strerror(errno),
		    ibv_get_device_name(copy->connection.id->verbs->device),
		    through);
}

void memory_close(struct copy *copy)
{
	struct memory *memory = &copy->memory;

	if (memory->mr && copy->options->dmabuf)
		iopmem_dereg_mr(memory->mr);
	else if (memory->mr)
		ibv_dereg_mr(memory->mr);
	if (memory->p)
		munmap(memory->p, memory->size);
	if (memory->buf_fd >= 0)
		close(memory->buf_fd);
	if (memory->fd >= 0)
		close(memory->fd);
}

static int taken_away(struct copy *copy)
{
	return fail(copy, "%s has been taken away", copy->options->through);
}

/*
 * A drive's completion may be seen while the data is still on its way to the BAR.
 * A load of the last byte comes back after what was in front of it.
 */
int memory_settle(struct slot *slot)
{
	volatile unsigned char *p = slot_memory(slot);
	sigjmp_buf gone;

	if (sigsetjmp(gone, 1)) {
		on_access = NULL;
		return taken_away(slot->copy);
	}
	on_access = &gone;
	(void)p[slot->length - 1];
	on_access = NULL;
	return 0;
}

/* By aligned loads of 8 bytes: on some architectures others fault there. */
int memory_checksum(struct slot *slot)
{
	volatile uint64_t *p = (volatile uint64_t *)slot_memory(slot);
	uint64_t part[512];
	uint32_t crc = 0;
	sigjmp_buf gone;

	if (sigsetjmp(gone, 1)) {
		on_access = NULL;
		return taken_away(slot->copy);
	}
	on_access = &gone;
	for (uint64_t at = 0; at < slot->length; at += sizeof(part)) {
		uint64_t length = slot->length - at;

		if (length > sizeof(part))
			length = sizeof(part);
		for (uint64_t i = 0; i * sizeof(*part) < length; i++)
			part[i] = *p++;
		crc = crc32_z(crc, (unsigned char *)part, length);
	}
	on_access = NULL;
	slot->crc = crc;
	return 0;
}
