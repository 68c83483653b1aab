// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "import.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

int open_importer(void)
{
	return open_device("/dev/importer", O_RDWR);
}

int import_attach(int importer, int buf_fd, enum importer_kind kind,
		  int drop_after)
{
	struct importer_attach arg = {
		.fd = buf_fd,
		.kind = kind,
		.drop_after = drop_after,
	};

	return ioctl(importer, IMPORTER_ATTACH, &arg);
}

int importer_of(int buf_fd, enum importer_kind kind, int drop_after)
{
	int importer = open_importer();

	if (import_attach(importer, buf_fd, kind, drop_after))
		give_up("IMPORTER_ATTACH");
	return importer;
}

int import_map(int importer, enum importer_direction direction)
{
	uint32_t arg = direction;

	return ioctl(importer, IMPORTER_MAP, &arg);
}

struct importer_state import_state(int importer)
{
	struct importer_state state;

	if (ioctl(importer, IMPORTER_STATE, &state))
		give_up("IMPORTER_STATE");
	return state;
}

struct importer_segment import_segment(int importer, unsigned int index)
{
	struct importer_segment segment = { .index = index };

	if (ioctl(importer, IMPORTER_SEGMENT, &segment))
		give_up("IMPORTER_SEGMENT %u", index);
	return segment;
}

int import_vmap(int importer, uint32_t *is_iomem)
{
	uint32_t result;

	if (ioctl(importer, IMPORTER_VMAP, &result))
		return -1;
	if (is_iomem)
		*is_iomem = result;
	return 0;
}

int import_read(int importer, uint64_t offset, void *data, size_t len)
{
	struct importer_access arg = {
		.offset = offset,
		.data = (uintptr_t)data,
		.length = len,
	};

	return ioctl(importer, IMPORTER_READ, &arg);
}

int import_write(int importer, uint64_t offset, const void *data, size_t len)
{
	struct importer_access arg = {
		.offset = offset,
		.data = (uintptr_t)data,
		.length = len,
	};

	return ioctl(importer, IMPORTER_WRITE, &arg);
}

int import_dma(int importer, uint64_t offset, size_t len,
	       enum importer_direction direction)
{
	struct importer_dma arg = {
		.offset = offset,
		.length = len,
		.direction = direction,
	};

	return ioctl(importer, IMPORTER_DMA, &arg);
}

int import_copy(int from, uint64_t from_offset, int to, uint64_t to_offset,
		size_t len)
{
	size_t done, part;

	for (done = 0; done < len; done += part) {
		part = len - done;
		if (part > IMPORTER_MAX_DMA)
			part = IMPORTER_MAX_DMA;
		if (import_dma(from, from_offset + done, part,
			       IMPORTER_TO_DEVICE) ||
		    import_dma(to, to_offset + done, part,
			       IMPORTER_FROM_DEVICE))
			return -1;
	}
	return 0;
}

int alloc_host_buffer(size_t size)
{
	struct dma_heap_allocation_data arg = {
		.len = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int heap = open_device("/dev/dma_heap/system", O_RDWR);

	if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &arg))
		give_up("DMA_HEAP_IOCTL_ALLOC of %zu bytes", size);
	close(heap);
	return arg.fd;
}

int sync_buffer(int buf_fd, uint64_t flags)
{
	struct dma_buf_sync arg = { .flags = flags };

	return ioctl(buf_fd, DMA_BUF_IOCTL_SYNC, &arg);
}
