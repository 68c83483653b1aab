// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * iopmem check --try: the final proof, on a page of the memory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tool.h"

static int open_memory(const char *node)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", node);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail("%s: %s", path, strerror(errno));
	return fd;
}

static struct ibv_context *open_rdma(const char *name)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context;
	int i = 0;

	if (!list) {
		fail("libibverbs: %s", strerror(errno));
		return NULL;
	}
	while (list[i] && strcmp(ibv_get_device_name(list[i]), name))
		i++;
	errno = 0;
	context = list[i] ? ibv_open_device(list[i]) : NULL;
	if (!context)
		fail("%s cannot be opened: %s", name,
		     !list[i] ? "libibverbs has no provider for it" :
		     errno ? strerror(errno) : "its provider does not say why");
	ibv_free_device_list(list);
	return context;
}

static int register_page(struct ibv_context *context, int fd)
{
	size_t page = sysconf(_SC_PAGESIZE);
	struct ibv_pd *pd = ibv_alloc_pd(context);
	int buf = -1, ret = -1;
	struct ibv_mr *mr;

	if (!pd) {
		fail("--try: no protection domain: %s", strerror(errno));
		return -1;
	}
	buf = iopmem_alloc(fd, page, 0);
	if (buf < 0) {
		fail("--try: no memory is to be had: %s", strerror(errno));
		goto out;
	}
	mr = iopmem_reg_mr(pd, 0, page, 0, buf, IBV_ACCESS_LOCAL_WRITE |
			   IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
	ret = mr ? 0 : errno;
	if (mr)
		iopmem_dereg_mr(mr);
	close(buf);
out:
	ibv_dealloc_pd(pd);
	return ret;
}

int try_registration(const char *device, const char *node)
{
	struct ibv_context *context;
	int fd, ret = -1;

	fd = open_memory(node);
	if (fd < 0)
		return -1;
	context = open_rdma(device);
	if (context) {
		ret = register_page(context, fd);
		ibv_close_device(context);
	}
	close(fd);
	return ret;
}

/* A block device of the function's: nvmeXnY below its nvme/nvmeX. */
static bool block_device(const char *address, char path[PATH_MAX])
{
	char folder[PATH_MAX], name[NAME_MAX + 1] = "";
	struct dirent **names;
	struct user user;
	int n;

	if (!user_named("", address, &user) ||
	    !strcmp(user.name, user.address))
		return false;
	snprintf(folder, sizeof(folder), "/sys/bus/pci/devices/%s/nvme/%s",
		 address, user.name);
	n = scandir(folder, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		/* nvmeXnY; others are paths of a multipath device (nvmeXcZnY) */
		if (!name[0] && !strncmp(names[i]->d_name, user.name,
					 strlen(user.name)) &&
		    names[i]->d_name[strlen(user.name)] == 'n')
			strcpy(name, names[i]->d_name);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	snprintf(path, PATH_MAX, "/dev/%s", name);
	return name[0];
}

/* 0 or an errno */
static int read_page(int disk, void *p, size_t page)
{
	ssize_t n = pread(disk, p, page, 0);

	if (n < 0)
		return errno;
	return n == (ssize_t)page ? 0 : ENODATA;
}

int try_read(const char *address, const char *node)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char path[PATH_MAX];
	int disk, fd, ret = -1;
	void *p;

	if (!block_device(address, path)) {
		fail("--try: %s has no block device to read from", address);
		return -1;
	}
	disk = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (disk < 0) {
		fail("%s: %s", path, strerror(errno));
		return -1;
	}
	fd = open_memory(node);
	if (fd >= 0) {
		p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED) {
			fail("--try: no memory is to be had: %s",
			     strerror(errno));
		} else {
			ret = read_page(disk, p, page);
			munmap(p, page);
		}
		close(fd);
	}
	close(disk);
	return ret;
}
