// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * /dev/iopmemN: memory, and what there is of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "internal.h"

/* A file of another kind does not know our calls. */
static int ioctl_error(void)
{
	return errno == ENOTTY ? EINVAL : errno;
}

int iopmem_alloc(int fd, size_t size, unsigned int flags)
{
	struct iopmem_alloc arg = {
		.size = size,
		.flags = flags,
	};
	int file_flags = fcntl(fd, F_GETFL);

	if (file_flags < 0)
		return -1;
	arg.fd_flags = O_CLOEXEC |
		((file_flags & O_ACCMODE) == O_RDWR ? O_RDWR : O_RDONLY);
	if (ioctl(fd, IOPMEM_IOC_ALLOC, &arg)) {
		errno = ioctl_error();
		return -1;
	}
	return arg.fd;
}

int iopmem_query_info(int fd, struct iopmem_info *info)
{
	memset(info, 0, sizeof(*info));
	return ioctl(fd, IOPMEM_IOC_INFO, info) ? ioctl_error() : 0;
}
