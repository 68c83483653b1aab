// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "doors.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/netlink.h>
#include <linux/udmabuf.h>
#include <rdma/rdma_netlink.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <infiniband/iopmem.h>

#include "tap.h"
#include "util.h"

static const struct door {
	const char *name;
	bool maps;
	struct ibv_mr *(*reg)(struct ibv_pd *pd, uint64_t offset,
			      size_t length, uint64_t iova, int fd,
			      int access);
	int (*dereg)(struct ibv_mr *mr);
} doors[] = {
	{ "dmabuf", false, iopmem_reg_mr, iopmem_dereg_mr },
	{ "peer", true, iopmem_reg_mr, iopmem_dereg_mr },
	{ "verbs", false, ibv_reg_dmabuf_mr, ibv_dereg_mr },
}, *door;

void door_choose(const char *name)
{
	for (size_t i = 0; i < sizeof(doors) / sizeof(doors[0]); i++)
		if (!strcmp(doors[i].name, name))
			door = &doors[i];
	if (door)
		return;
	errno = EINVAL;
	give_up("door \"%s\"", name);
}

bool door_maps(void)
{
	return door->maps;
}

struct ibv_mr *door_reg(struct ibv_pd *pd, uint64_t offset, size_t length,
			uint64_t iova, int fd, int access)
{
	return door->reg(pd, offset, length, iova, fd, access);
}

int door_dereg(struct ibv_mr *mr)
{
	return door->dereg(mr);
}

bool door_is_used(struct ibv_pd *pd, int fd)
{
	int before = dmabuf_mappings(fd), during, after;
	struct ibv_mr *mr = door_reg(pd, 0, 4096, 0, fd,
				     IBV_ACCESS_LOCAL_WRITE);

	if (!mr)
		give_up("an MR by the door %s", door->name);
	during = dmabuf_mappings(fd) - before;
	door_dereg(mr);
	after = dmabuf_mappings(fd) - before;
	if (during != door->maps || after)
		printf("# %d mappings more with an MR, %d afterwards\n",
		       during, after);
	return during == door->maps && !after;
}

static int heap_alloc(const char *path, size_t size)
{
	struct dma_heap_allocation_data data = {
		.len = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int fd = open_device(path, O_RDONLY);
	int ret = ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &data);

	close(fd);
	return ret ? -1 : (int)data.fd;
}

static int udmabuf_alloc(const char *path, size_t size)
{
	int mem = memfd_create("tests", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	struct udmabuf_create create = {
		.memfd = mem,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = size,
	};
	int fd = open_device(path, O_RDWR), buf_fd;

	if (mem < 0 || ftruncate(mem, size) ||
	    fcntl(mem, F_ADD_SEALS, F_SEAL_SHRINK))
		give_up("memfd of %zu bytes", size);
	buf_fd = ioctl(fd, UDMABUF_CREATE, &create);
	close(mem);
	close(fd);
	return buf_fd;
}

static int device_alloc(const char *path, size_t size)
{
	int fd = open_device(path, O_RDWR);
	int buf_fd = iopmem_alloc(fd, size, 0);

	close(fd);
	return buf_fd;
}

int dmabuf_alloc(const char *path, size_t size)
{
	int fd;

	if (!strcmp(path, "/dev/udmabuf"))
		fd = udmabuf_alloc(path, size);
	else if (!strncmp(path, "/dev/dma_heap/", 14))
		fd = heap_alloc(path, size);
	else
		fd = device_alloc(path, size);
	if (fd < 0)
		give_up("%zu bytes of %s as a dma-buf", size, path);
	return fd;
}

struct ibv_mr *door_map(struct ibv_pd *pd, const char *path, size_t size,
			int access, char **p, int *fd)
{
	struct ibv_mr *mr;

	*fd = dmabuf_alloc(path, size);
	*p = map_or_give_up(*fd, size);
	mr = door_reg(pd, 0, size, (uintptr_t)*p, *fd, access);
	if (!mr)
		give_up("%zu bytes of %s as an MR", size, path);
	return mr;
}

int dmabuf_mappings(int fd)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int major, minor;
	unsigned long inode;
	struct stat file;
	char line[512];
	int n = 0;

	if (!maps || fstat(fd, &file))
		give_up("mappings");
	while (fgets(line, sizeof(line), maps))
		n += sscanf(line, "%*s %*s %*s %x:%x %lu", &major, &minor,
			    &inode) == 3 &&
		     inode == file.st_ino &&
		     makedev(major, minor) == file.st_dev;
	fclose(maps);
	return n;
}

/* The "mr" of a summary of resources: attributes within attributes. */
static int mrs_among(const char *p, const char *end)
{
	const struct nlattr *attr;
	const char *name = "";
	int mrs = -1;

	for (; mrs < 0 && end - p > NLA_HDRLEN;
	     p += NLA_ALIGN(attr->nla_len)) {
		const char *payload = p + NLA_HDRLEN;
		uint64_t count;

		attr = (const struct nlattr *)p;
		if (attr->nla_len < NLA_HDRLEN || attr->nla_len > end - p)
			break;
		switch (attr->nla_type & NLA_TYPE_MASK) {
		case RDMA_NLDEV_ATTR_RES_SUMMARY:
		case RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY:
			mrs = mrs_among(payload, p + attr->nla_len);
			break;
		case RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_NAME:
			name = payload;
			break;
		case RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_CURR:
			memcpy(&count, payload, sizeof(count));
			if (!strcmp(name, "mr"))
				mrs = count;
			break;
		}
	}
	return mrs;
}

int count_mrs(struct ibv_context *context)
{
	struct {
		struct nlmsghdr header;
		struct nlattr attr;
		uint32_t index;
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV,
						RDMA_NLDEV_CMD_RES_GET),
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.attr = {
			.nla_len = NLA_HDRLEN + sizeof(request.index),
			.nla_type = RDMA_NLDEV_ATTR_DEV_INDEX,
		},
		.index = ibv_get_device_index(context->device),
	};
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA);
	char answer[4096] __attribute__((aligned(8)));
	const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
	ssize_t len;
	int mrs = -1;

	if (sock < 0 || send(sock, &request, sizeof(request), 0) < 0)
		give_up("netlink");
	len = recv(sock, answer, sizeof(answer), 0);
	close(sock);
	if (len > (ssize_t)NLMSG_HDRLEN &&
	    header->nlmsg_type == request.header.nlmsg_type)
		mrs = mrs_among(NLMSG_DATA(header), answer + len);
	if (mrs < 0)
		give_up("the number of MRs");
	return mrs;
}

static int entries(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;

	if (!dir)
		give_up("%s", path);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int lines(const char *path)
{
	FILE *file = fopen(path, "re");
	int c, n = 0;

	if (!file)
		give_up("%s", path);
	while ((c = getc(file)) != EOF)
		n += c == '\n';
	fclose(file);
	return n;
}

struct holdings holdings(struct ibv_context *context, int fd)
{
	return (struct holdings) {
		.free = device_free(fd),
		.mrs = count_mrs(context),
		.mappings = lines("/proc/self/maps"),
		.files = entries("/proc/self/fd"),
	};
}

bool same_holdings(const struct holdings *a, const struct holdings *b)
{
	bool same = a->free == b->free && a->mrs == b->mrs &&
		    a->mappings == b->mappings && a->files == b->files;

	if (!same)
		printf("# %ld bytes less are free, %d MRs, %d mappings, %d files more\n",
		       (long)(a->free - b->free), b->mrs - a->mrs,
		       b->mappings - a->mappings, b->files - a->files);
	return same;
}
