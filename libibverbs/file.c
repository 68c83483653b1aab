// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What a file descriptor is, and whose memory is behind it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "internal.h"

/* How the exporter of /dev/iopmemN names itself, before the PCI address */
static const char exporter[] = "exp_name:\tiopmem ";

int dmabuf_mode(int fd, int *mode)
{
	struct statfs fs;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return errno;
	/* Only a name: nothing can be done with it. */
	if (flags & O_PATH)
		return EBADF;
	if (fstatfs(fd, &fs))
		return errno;
	if (fs.f_type != DMA_BUF_MAGIC)
		return EINVAL;
	*mode = flags & O_ACCMODE;
	return 0;
}

/* EINVAL for a dma-buf of another exporter. */
static int exporter_address(int fd, char address[PCI_ADDRESS_SIZE])
{
	const size_t prefix = sizeof(exporter) - 1;
	char path[64], line[128] = "";
	int ret = EINVAL;
	FILE *fdinfo;

	/* A thread may have descriptors of its own. */
	snprintf(path, sizeof(path), "/proc/thread-self/fdinfo/%d", fd);
	fdinfo = fopen(path, "re");
	if (!fdinfo)
		return errno;
	/* The first such line: what comes later may be a user's text. */
	while (fgets(line, sizeof(line), fdinfo))
		if (!strncmp(line, "exp_name:", strlen("exp_name:")))
			break;
	fclose(fdinfo);

	line[strcspn(line, "\n")] = '\0';
	if (!strncmp(line, exporter, prefix) &&
	    sysfs_is_pci_address(line + prefix)) {
		strcpy(address, line + prefix);
		ret = 0;
	}
	return ret;
}

static int node_address(int fd, char address[PCI_ADDRESS_SIZE])
{
	struct iopmem_info info;
	int ret = iopmem_query_info(fd, &info);

	if (!ret)
		snprintf(address, PCI_ADDRESS_SIZE, "%04x:%02x:%02x.%x",
			 info.pci_domain, info.pci_bus, info.pci_devfn >> 3,
			 info.pci_devfn & 7);
	return ret;
}

int provider_address(int fd, char address[PCI_ADDRESS_SIZE])
{
	int mode;
	int ret = dmabuf_mode(fd, &mode);

	if (!ret)
		return exporter_address(fd, address);
	return ret == EINVAL ? node_address(fd, address) : ret;
}
