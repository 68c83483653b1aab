// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The peer-memory client for PCI BAR memory with struct pages.
 *
 * It claims a range that lies in one mapping of an iopmem region, or that
 * starts with a P2PDMA page of any provider (p2pmem/allocate, for one). The
 * first kind needs no page walk: a region is contiguous. The second is pinned
 * page by page.
 *
 * Either way the provider revokes us before its driver is removed, which is
 * what makes a pin of such pages acceptable for as long as an MR lives.
 *
 * Locks: none of our own. The RDMA core calls get_pages, dma_map, dma_unmap
 * and put_pages with its mapping lock held, and takes that lock in the
 * invalidation that revoke() calls; so those four never wait for a revoke().
 * release() does, and the core calls it with no lock held.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <rdma/peer_mem.h>

#include "iopmem.h"

/* scatterlist.length has 32 bits. */
#define MAX_SEGMENT	ALIGN_DOWN(UINT_MAX, PAGE_SIZE)

/* Of a table for DMA: devices have limits, and like large aligned blocks. */
#define MAX_DMA_SEGMENT	SZ_2G

/* Pages that are pinned at a time: their addresses fill a page. */
#define PIN_BATCH	(PAGE_SIZE / sizeof(struct page *))

/**
 * struct iopmem_peer_range - what one MR is registered on
 * @holder: makes the provider revoke us
 * @provider: of the pages; referenced unless @region is set
 * @region: referenced; NULL if the pages are pinned one by one
 * @offset: of the first page in @region
 * @writable: the mapping of @region was, when it was looked up
 * @core_context: the core's name for the range
 * @addr: in the process that registers it
 * @size: the same, in bytes
 * @foreign: the pages that are pinned one by one
 */
struct iopmem_peer_range {
	struct iopmem_holder holder;
	struct iopmem_provider *provider;
	struct iopmem_region *region;
	u64 offset;
	bool writable;
	u64 core_context;
	unsigned long addr;
	size_t size;
	struct sg_append_table foreign;
};

static void *reg_handle;
static invalidate_peer_memory invalidate;

static void revoke_range(struct iopmem_holder *holder)
{
	struct iopmem_peer_range *range =
		container_of(holder, struct iopmem_peer_range, holder);

	invalidate(reg_handle, range->core_context);
}

/* Not all of the RDMA stacks that we build against can tell whose MR it is. */
static void show_mr(struct iopmem_peer_range *range, struct seq_file *s)
{
#ifdef PEER_MEM_QUERY
	struct peer_memory_mr mr;

	if (ib_peer_memory_query(reg_handle, range->core_context, &mr))
		return;
	seq_printf(s, " device=%s", mr.device);
	if (mr.has_number)
		seq_printf(s, " mr=%u", mr.number);
#endif
}

static void show_range(struct iopmem_holder *holder, struct seq_file *s)
{
	struct iopmem_peer_range *range =
		container_of(holder, struct iopmem_peer_range, holder);

	seq_printf(s, " address=%#lx bytes=%zu", range->addr, range->size);
	show_mr(range, s);
}

/* Finds the region if [first, end) lies in one mapping of one. */
static void find_region(struct iopmem_peer_range *range, unsigned long first,
			unsigned long end)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, first);
	if (vma && end <= vma->vm_end)
		range->region = iopmem_region_get_by_vma(vma);
	if (range->region) {
		range->provider = iopmem_region_provider(range->region);
		range->offset = first - vma->vm_start +
				((u64)vma->vm_pgoff << PAGE_SHIFT);
		range->writable = vma->vm_flags & VM_WRITE;
	}
	mmap_read_unlock(mm);
}

/* Returns 1 if the page at an address is P2PDMA memory, 0 or an errno. */
static int find_provider(struct iopmem_peer_range *range, unsigned long first)
{
	phys_addr_t phys = 0;
	struct page *page;

	if (pin_user_pages_fast(first, 1, FOLL_PCI_P2PDMA, &page) != 1)
		return 0;
	if (is_pci_p2pdma_page(page))
		phys = page_to_phys(page);
	/* See iopmem_provider_get_by_phys(). */
	unpin_user_page(page);
	if (!phys)
		return 0;

	range->provider = iopmem_provider_get_by_phys(phys);
	return PTR_ERR_OR_ZERO(range->provider) ?: 1;
}

static int iopmem_peer_acquire(unsigned long addr, size_t size,
			       void *peer_mem_private_data,
			       char *peer_mem_name, void **client_context)
{
	unsigned long first = addr & PAGE_MASK;
	struct iopmem_peer_range *range;
	unsigned long end;
	int ret;

	if (check_add_overflow(addr, size, &end) || PAGE_ALIGN(end) < end)
		return 0;
	/* Not before we could revoke it. */
	if (!READ_ONCE(reg_handle))
		return 0;
	/* An MR of ours makes rmmod fail at once, rather than wait for it. */
	if (!try_module_get(THIS_MODULE))
		return 0;

	range = kzalloc(sizeof(*range), GFP_KERNEL);
	if (!range) {
		ret = -ENOMEM;
		goto err_module;
	}
	range->holder.revoke = revoke_range;
	range->holder.show = show_range;
	range->addr = addr;
	range->size = size;

	find_region(range, first, PAGE_ALIGN(end));
	if (!range->region) {
		ret = find_provider(range, first);
		if (ret != 1)
			goto err_free;
	}

	*client_context = range;
	return 1;

err_free:
	kfree(range);
err_module:
	module_put(THIS_MODULE);
	return ret;
}

static int alloc_region_table(struct iopmem_peer_range *range,
			      struct sg_table *sgt, u64 max_segment)
{
	u64 len = range->holder.length;
	struct scatterlist *sg;
	struct page *page;
	int i, ret;

	ret = sg_alloc_table(sgt, DIV_ROUND_UP_ULL(len, max_segment),
			     GFP_KERNEL);
	if (ret)
		return ret;

	page = iopmem_region_page(range->region, range->offset);
	for_each_sgtable_sg(sgt, sg, i) {
		u64 chunk = min(len, max_segment);

		sg_set_page(sg, page, chunk, 0);
		page += chunk >> PAGE_SHIFT;
		len -= chunk;
	}
	return 0;
}

static int get_region_pages(struct iopmem_peer_range *range, int write,
			    struct sg_table *sgt)
{
	int ret;

	if (write && !range->writable)
		return -EFAULT;

	/* From here on the memory can be read through the network. */
	ret = iopmem_region_zero(range->region, range->offset,
				 range->holder.length);
	if (ret)
		return ret;

	/* As few as can be: a device that copies by CPU has no limit. */
	return alloc_region_table(range, sgt, MAX_SEGMENT);
}

/*
 * Only pages of one provider are ours to hold: it revokes us, others would
 * wait for ever.
 */
static bool are_providers_pages(struct iopmem_peer_range *range,
				struct page **pages, unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++)
		if (!is_pci_p2pdma_page(pages[i]) ||
		    !iopmem_provider_owns_phys(range->provider,
					       page_to_phys(pages[i])))
			return false;
	return true;
}

static void unpin_foreign_pages(struct iopmem_peer_range *range)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_sg(&range->foreign.sgt, sg, i)
		unpin_user_page_range_dirty_lock(sg_page(sg),
						 sg->length >> PAGE_SHIFT,
						 false);
	sg_free_append_table(&range->foreign);
}

/* The length is the user's word: nothing is allocated by it in advance. */
static int pin_foreign_pages(struct iopmem_peer_range *range,
			     unsigned long addr, unsigned long npages,
			     int write)
{
	unsigned int flags = FOLL_PCI_P2PDMA | (write ? FOLL_WRITE : 0);
	struct page **pages;
	int ret = 0;

	pages = (struct page **)__get_free_page(GFP_KERNEL);
	if (!pages)
		return -ENOMEM;

	while (npages && !ret) {
		int pinned = pin_user_pages_fast(addr,
						 min(npages, PIN_BATCH), flags,
						 pages);

		if (pinned <= 0) {
			ret = pinned ?: -EFAULT;
			break;
		}
		addr += (unsigned long)pinned << PAGE_SHIFT;
		npages -= pinned;

		if (are_providers_pages(range, pages, pinned))
			ret = sg_alloc_append_table_from_pages(&range->foreign,
							       pages, pinned, 0,
							       (size_t)pinned <<
							       PAGE_SHIFT,
							       MAX_DMA_SEGMENT,
							       npages,
							       GFP_KERNEL);
		else
			ret = -EFAULT;
		if (!ret && !range->holder.phys)
			WRITE_ONCE(range->holder.phys, page_to_phys(pages[0]));
		if (ret)
			unpin_user_pages(pages, pinned);
		else if (fatal_signal_pending(current))
			ret = -EINTR;
		cond_resched();
	}
	if (ret)
		unpin_foreign_pages(range);

	free_page((unsigned long)pages);
	return ret;
}

static int iopmem_peer_get_pages(unsigned long addr, size_t size, int write,
				 int force, struct sg_table *sg_head,
				 void *client_context, u64 core_context)
{
	struct iopmem_peer_range *range = client_context;
	unsigned long first = addr & PAGE_MASK;
	unsigned long len = PAGE_ALIGN(addr + size) - first;
	int ret;

	/* First, so that there is no moment when a pin cannot be revoked. */
	range->core_context = core_context;
	range->holder.length = len;
	if (range->region) {
		range->holder.kind = "mr";
		range->holder.phys = iopmem_region_phys(range->region,
							range->offset);
	} else {
		range->holder.kind = "pinned";
	}
	ret = iopmem_provider_hold(range->provider, &range->holder);
	if (ret)
		return ret;

	if (range->region)
		return get_region_pages(range, write, sg_head);

	ret = pin_foreign_pages(range, first, len >> PAGE_SHIFT, write);
	if (!ret)
		*sg_head = range->foreign.sgt;
	return ret;
}

static void iopmem_peer_put_pages(struct sg_table *sg_head,
				  void *client_context)
{
	struct iopmem_peer_range *range = client_context;

	if (range->region)
		sg_free_table(sg_head);
	else
		unpin_foreign_pages(range);
}

static int iopmem_peer_dma_map(struct sg_table *sg_head, void *client_context,
			       struct device *dma_device, int dmasync,
			       int *nmap)
{
	struct iopmem_peer_range *range = client_context;
	int ret;

	if (range->region && range->holder.length > MAX_DMA_SEGMENT) {
		sg_free_table(sg_head);
		ret = alloc_region_table(range, sg_head, MAX_DMA_SEGMENT);
		if (ret)
			return ret;
	}

	/* Checks the route: EREMOTEIO if the device does not reach the BAR. */
	ret = dma_map_sgtable(dma_device, sg_head, DMA_BIDIRECTIONAL, 0);
	if (ret)
		return ret;
	*nmap = sg_head->nents;
	return 0;
}

static int iopmem_peer_dma_unmap(struct sg_table *sg_head,
				 void *client_context,
				 struct device *dma_device)
{
	dma_unmap_sgtable(dma_device, sg_head, DMA_BIDIRECTIONAL, 0);
	return 0;
}

static void iopmem_peer_release(void *client_context)
{
	struct iopmem_peer_range *range = client_context;

	iopmem_provider_unhold(range->provider, &range->holder);
	if (range->region)
		iopmem_region_put(range->region);
	else
		iopmem_provider_put(range->provider);
	kfree(range);
	module_put(THIS_MODULE);
}

static const struct peer_memory_client iopmem_peer_client = {
	.name = "iopmem_peer",
	.version = "1.0",
	.acquire = iopmem_peer_acquire,
	.get_pages = iopmem_peer_get_pages,
	.dma_map = iopmem_peer_dma_map,
	.dma_unmap = iopmem_peer_dma_unmap,
	.put_pages = iopmem_peer_put_pages,
	.release = iopmem_peer_release,
};

static int __init iopmem_peer_init(void)
{
	void *handle = ib_register_peer_memory_client(&iopmem_peer_client,
						      &invalidate);

	if (!handle)
		return -EINVAL;
	WRITE_ONCE(reg_handle, handle);
	return 0;
}

static void __exit iopmem_peer_exit(void)
{
	ib_unregister_peer_memory_client(reg_handle);
}

module_init(iopmem_peer_init);
module_exit(iopmem_peer_exit);

MODULE_DESCRIPTION("RDMA peer-memory client for PCI BAR memory");
MODULE_LICENSE("Dual BSD/GPL");
