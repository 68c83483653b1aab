// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * A region behind a dma-buf file descriptor. It can be mapped and passed on;
 * it takes no importers.
 */
#include <linux/fs.h>
#include <linux/module.h>

#include "internal.h"

static int region_dmabuf_attach(struct dma_buf *dmabuf,
				struct dma_buf_attachment *attach)
{
	return -EOPNOTSUPP;
}

static struct sg_table *region_dmabuf_map(struct dma_buf_attachment *attach,
					  enum dma_data_direction dir)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void region_dmabuf_unmap(struct dma_buf_attachment *attach,
				struct sg_table *sgt,
				enum dma_data_direction dir)
{
}

static int region_dmabuf_mmap(struct dma_buf *dmabuf,
			      struct vm_area_struct *vma)
{
	struct iopmem_region *region = dmabuf->priv;
	int ret;

	kref_get(&region->ref);
	ret = iopmem_region_mmap(region, vma);
	if (ret)
		iopmem_region_put(region);
	return ret;
}

static void region_dmabuf_release(struct dma_buf *dmabuf)
{
	iopmem_region_put(dmabuf->priv);
}

static const struct dma_buf_ops region_dmabuf_ops = {
	.attach = region_dmabuf_attach,
	.map_dma_buf = region_dmabuf_map,
	.unmap_dma_buf = region_dmabuf_unmap,
	.mmap = region_dmabuf_mmap,
	.release = region_dmabuf_release,
};

/**
 * iopmem_dmabuf_export - put a region behind a dma-buf
 * @region: a reference of the caller's passes to the dma-buf on success
 * @flags: O_RDONLY or O_RDWR
 *
 * Return: the dma-buf, or an ERR_PTR().
 */
struct dma_buf *iopmem_dmabuf_export(struct iopmem_region *region, int flags)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dma_buf *dmabuf;

	info.ops = &region_dmabuf_ops;
	info.size = region->npages << PAGE_SHIFT;
	info.flags = flags;
	info.priv = region;

	dmabuf = dma_buf_export(&info);
	/* So that revocation zaps its mappings together with all others. */
	if (!IS_ERR(dmabuf))
		dmabuf->file->f_mapping = region->provider->inode->i_mapping;
	return dmabuf;
}
