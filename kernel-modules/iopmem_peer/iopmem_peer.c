// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The peer-memory client for PCI BAR memory with struct pages.
 *
 * It claims a range that starts with a mapping of an iopmem region, or with a
 * P2PDMA page of any provider (p2pmem/allocate, for one). What lies in one
 * region needs no page walk: a region is contiguous. All else is held page by
 * page, and has to be of one provider.
 *
 * Either way the provider revokes us before its driver is removed, which is
 * what makes a pin of such pages acceptable for as long as an MR lives.
 *
 * Locks: none of our own. The RDMA core calls get_pages, dma_map, dma_unmap
 * and put_pages with its mapping lock held, and takes that lock in the
 * invalidation that revoke() calls; so those four never wait for a revoke().
 * Nor do they for users: page faults, and with them mmap_lock, can take as long
 * as some file system likes. So mappings are looked at in acquire(), and of
 * pages only those are taken that are there. release() waits for a revoke(),
 * and the core calls it with no lock held.
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

/* Pages that are taken at a time: their addresses fill a page. */
#define PAGE_BATCH	(PAGE_SIZE / sizeof(struct page *))

/**
 * struct iopmem_peer_part - mappings side by side: of one region, or of none
 * @node: in the range, in the order of addresses
 * @region: referenced, so that its owner has it for as long as the MR does;
 *	NULL if the mappings are not of a region
 * @offset: of the first page in @region
 * @npages: how many there are
 * @writable: the mappings were, when they were looked up
 */
struct iopmem_peer_part {
	struct list_head node;
	struct iopmem_region *region;
	u64 offset;
	unsigned long npages;
	bool writable;
};

/**
 * struct iopmem_peer_range - what one MR is registered on
 * @holder: makes the provider revoke us
 * @provider: of the pages
 * @provider_ref: @provider is referenced here, not just by a region
 * @parts: what it consists of
 * @whole: the only part, if it is of a region; NULL if pages are held one by one
 * @core_context: the core's name for the range
 * @addr: in the process that registers it
 * @size: the same, in bytes
 * @pages: those that are held one by one
 */
struct iopmem_peer_range {
	struct iopmem_holder holder;
	struct iopmem_provider *provider;
	bool provider_ref;
	struct list_head parts;
	struct iopmem_peer_part *whole;
	u64 core_context;
	unsigned long addr;
	size_t size;
	struct sg_append_table pages;
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

/* The P2PDMA page that is mapped at an address, or 0 */
static phys_addr_t p2pdma_page_at(unsigned long addr)
{
	phys_addr_t phys = 0;
	struct page *page;

	if (get_user_pages_fast_only(addr, 1, FOLL_PCI_P2PDMA, &page) != 1)
		return 0;
	if (is_pci_p2pdma_page(page))
		phys = page_to_phys(page);
	/* See iopmem_provider_get_by_phys(). */
	put_page(page);
	return phys;
}

/* Appends [start, end) of a mapping. Split mappings are one again here. */
static int add_part(struct iopmem_peer_range *range,
		    struct vm_area_struct *vma, unsigned long start,
		    unsigned long end)
{
	struct iopmem_region *region = iopmem_region_get_by_vma(vma);
	u64 offset = start - vma->vm_start + ((u64)vma->vm_pgoff << PAGE_SHIFT);
	unsigned long npages = (end - start) >> PAGE_SHIFT;
	struct iopmem_peer_part *part = NULL;

	if (!list_empty(&range->parts))
		part = list_last_entry(&range->parts, struct iopmem_peer_part,
				       node);
	if (part && part->region == region &&
	    (!region || part->offset + ((u64)part->npages << PAGE_SHIFT) ==
			offset)) {
		if (region)
			iopmem_region_put(region);
	} else {
		part = kzalloc(sizeof(*part), GFP_KERNEL_ACCOUNT);
		if (!part) {
			if (region)
				iopmem_region_put(region);
			return -ENOMEM;
		}
		part->region = region;
		part->offset = offset;
		part->writable = true;
		list_add_tail(&part->node, &range->parts);
	}
	part->npages += npages;
	if (!(vma->vm_flags & VM_WRITE))
		part->writable = false;
	return 0;
}

static void free_parts(struct iopmem_peer_range *range)
{
	struct iopmem_peer_part *part, *next;

	list_for_each_entry_safe(part, next, &range->parts, node) {
		if (part->region)
			iopmem_region_put(part->region);
		kfree(part);
	}
	if (range->provider_ref)
		iopmem_provider_put(range->provider);
}

/*
 * Finds out what there is from first to end. Returns 1 if it starts with memory
 * that may be ours, 0 if not, or an errno. *phys is its first page if that is
 * not of a region.
 */
static int find_parts(struct iopmem_peer_range *range, unsigned long first,
		      unsigned long end, phys_addr_t *phys)
{
	struct iopmem_peer_part *head, *part;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	unsigned long next = first;
	struct vma_iterator vmi;
	bool ours = false;
	int ret = 0;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	vma_iter_init(&vmi, mm, first);
	for_each_vma_range(vmi, vma, end) {
		if (vma->vm_start > next)
			break;
		ret = add_part(range, vma, next, min(end, vma->vm_end));
		if (ret)
			break;
		head = list_first_entry(&range->parts, struct iopmem_peer_part,
					node);
		part = list_last_entry(&range->parts, struct iopmem_peer_part,
				       node);
		if (!ours && !head->region) {
			*phys = p2pdma_page_at(first);
			if (!*phys)
				break;
		}
		/*
		 * Behind a region's memory there is no other. When pages are
		 * taken, a region may be mapped there, which would not know
		 * that we have them, nor charge anybody for them.
		 */
		if (head->region && !part->region) {
			ret = -EFAULT;
			break;
		}
		ours = true;
		next = vma->vm_end;
	}
	mmap_read_unlock(mm);
	if (ret || !ours)
		return ret;
	return next < end ? -EFAULT : 1;
}

/* The provider of all parts: others would not revoke us. */
static int find_provider(struct iopmem_peer_range *range, phys_addr_t phys)
{
	struct iopmem_peer_part *part;

	if (phys) {
		range->provider = iopmem_provider_get_by_phys(phys);
		if (IS_ERR(range->provider))
			return PTR_ERR(range->provider);
		range->provider_ref = true;
	}
	list_for_each_entry(part, &range->parts, node) {
		if (!part->region)
			continue;
		if (!range->provider)
			range->provider = iopmem_region_provider(part->region);
		if (iopmem_region_provider(part->region) != range->provider)
			return -EFAULT;
	}
	return 0;
}

static int iopmem_peer_acquire(unsigned long addr, size_t size,
			       void *peer_mem_private_data,
			       char *peer_mem_name, void **client_context)
{
	unsigned long first = addr & PAGE_MASK;
	struct iopmem_peer_range *range;
	struct iopmem_peer_part *part;
	phys_addr_t phys = 0;
	unsigned long end;
	int ret;

	if (!size || check_add_overflow(addr, size, &end) ||
	    PAGE_ALIGN(end) < end)
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
	INIT_LIST_HEAD(&range->parts);

	ret = find_parts(range, first, PAGE_ALIGN(end), &phys);
	if (ret != 1)
		goto err_parts;
	ret = find_provider(range, phys);
	if (ret)
		goto err_parts;
	part = list_first_entry(&range->parts, struct iopmem_peer_part, node);
	if (part->region && list_is_last(&part->node, &range->parts))
		range->whole = part;

	*client_context = range;
	return 1;

err_parts:
	free_parts(range);
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

	page = iopmem_region_page(range->whole->region, range->whole->offset);
	for_each_sgtable_sg(sgt, sg, i) {
		u64 chunk = min(len, max_segment);

		sg_set_page(sg, page, chunk, 0);
		page += chunk >> PAGE_SHIFT;
		len -= chunk;
	}
	return 0;
}

/* From here on the memory can be read through the network. */
static int open_part(struct iopmem_peer_part *part, int write)
{
	if (write && !part->writable)
		return -EFAULT;
	return iopmem_region_zero(part->region, part->offset,
				  (u64)part->npages << PAGE_SHIFT);
}

static int get_region_pages(struct iopmem_peer_range *range, int write,
			    struct sg_table *sgt)
{
	int ret = open_part(range->whole, write);

	/* As few as can be: a device that copies by CPU has no limit. */
	return ret ?: alloc_region_table(range, sgt, MAX_SEGMENT);
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

static void put_single_pages(struct iopmem_peer_range *range)
{
	struct scatterlist *sg;
	unsigned long i;
	int n;

	for_each_sgtable_sg(&range->pages.sgt, sg, n) {
		for (i = 0; i < sg->length >> PAGE_SHIFT; i++)
			put_page(sg_page(sg) + i);
		cond_resched();
	}
	sg_free_append_table(&range->pages);
}

/* Returns how many it took: of foreign ones, no more than are mapped. */
static int get_batch(struct iopmem_peer_part *part, unsigned long index,
		     unsigned long addr, unsigned int flags,
		     struct page **pages)
{
	int i, n = min(part->npages - index, PAGE_BATCH);

	if (!part->region)
		return get_user_pages_fast_only(addr, n, flags, pages);

	for (i = 0; i < n; i++) {
		pages[i] = iopmem_region_page(part->region, part->offset +
					      ((u64)(index + i) << PAGE_SHIFT));
		get_page(pages[i]);
	}
	return n;
}

/*
 * Takes the pages of a part, at addr, of which left are to come with those of
 * later parts. The length is the user's word: nothing is allocated by it in
 * advance.
 */
static int get_part_pages(struct iopmem_peer_range *range,
			  struct iopmem_peer_part *part, unsigned long addr,
			  unsigned long left, int write, struct page **pages)
{
	unsigned int flags = FOLL_PCI_P2PDMA | (write ? FOLL_WRITE : 0);
	unsigned long index = 0;
	int ret = 0;

	if (part->region)
		ret = open_part(part, write);

	while (index < part->npages && !ret) {
		int i, n = get_batch(part, index,
				     addr + (index << PAGE_SHIFT), flags,
				     pages);

		if (n <= 0)
			return -EFAULT;
		index += n;
		left -= n;

		if (are_providers_pages(range, pages, n))
			ret = sg_alloc_append_table_from_pages(&range->pages,
							       pages, n, 0,
							       (size_t)n <<
							       PAGE_SHIFT,
							       MAX_DMA_SEGMENT,
							       left,
							       GFP_KERNEL);
		else
			ret = -EFAULT;
		if (!ret && !range->holder.phys)
			WRITE_ONCE(range->holder.phys, page_to_phys(pages[0]));
		if (ret) {
			for (i = 0; i < n; i++)
				put_page(pages[i]);
		} else if (fatal_signal_pending(current)) {
			ret = -EINTR;
		}
		cond_resched();
	}
	return ret;
}

static int get_single_pages(struct iopmem_peer_range *range,
			    unsigned long addr, unsigned long npages,
			    int write)
{
	struct iopmem_peer_part *part;
	struct page **pages;
	int ret = 0;

	pages = (struct page **)__get_free_page(GFP_KERNEL);
	if (!pages)
		return -ENOMEM;

	list_for_each_entry(part, &range->parts, node) {
		ret = get_part_pages(range, part, addr, npages, write, pages);
		if (ret)
			break;
		addr += part->npages << PAGE_SHIFT;
		npages -= part->npages;
	}
	if (ret)
		put_single_pages(range);

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
	if (range->whole) {
		range->holder.kind = "mr";
		range->holder.phys = iopmem_region_phys(range->whole->region,
							range->whole->offset);
	} else {
		range->holder.kind = "pinned";
	}
	ret = iopmem_provider_hold(range->provider, &range->holder);
	if (ret)
		return ret;

	if (range->whole)
		return get_region_pages(range, write, sg_head);

	ret = get_single_pages(range, first, len >> PAGE_SHIFT, write);
	if (!ret)
		*sg_head = range->pages.sgt;
	return ret;
}

static void iopmem_peer_put_pages(struct sg_table *sg_head,
				  void *client_context)
{
	struct iopmem_peer_range *range = client_context;

	if (range->whole)
		sg_free_table(sg_head);
	else
		put_single_pages(range);
}

static int iopmem_peer_dma_map(struct sg_table *sg_head, void *client_context,
			       struct device *dma_device, int dmasync,
			       int *nmap)
{
	struct iopmem_peer_range *range = client_context;
	int ret;

	if (range->whole && range->holder.length > MAX_DMA_SEGMENT) {
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
	free_parts(range);
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

	/* That does not say why; a client that is in order lacks memory only. */
	if (!handle)
		return -ENOMEM;
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
