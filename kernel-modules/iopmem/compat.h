/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What differs between the kernels that iopmem.ko is built for, from 6.12 on.
 */
#ifndef IOPMEM_COMPAT_H
#define IOPMEM_COMPAT_H

#include <linux/dma-buf.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/pci-p2pdma.h>
#include <linux/sysfs.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
static inline struct dev_pagemap *page_pgmap(const struct page *page)
{
	return page->pgmap;
}

/*
 * A page in the pool has a count of 1. Without our series, one that was freed by
 * its last put_page() is there a moment before free_zone_device_folio() sets
 * that.
 */
static inline void p2pmem_page_claim(struct page *page)
{
	while (!page_ref_count(page))
		cpu_relax();
}

/* False if somebody else has the page, too. */
static inline bool p2pmem_page_unclaim(struct page *page)
{
	return page_ref_count(page) == 1;
}
#else
/* A page in the pool has a count of 0, which its user sets to 1. */
static inline void p2pmem_page_claim(struct page *page)
{
	set_page_count(page, 1);
}

/*
 * In one step: where zapping a mapping interrupts no other CPU, a lockless
 * lookup that found the page before may still want a reference.
 */
static inline bool p2pmem_page_unclaim(struct page *page)
{
	return page_ref_freeze(page, 1);
}
#endif

#ifdef HAVE_PCI_HAS_P2PMEM
static inline bool p2pmem_has_pool(struct pci_dev *pdev)
{
	return rcu_access_pointer(pdev->p2pdma);
}
#else
/*
 * There may be pdev->p2pdma without a pool, which the calls that allocate do
 * not expect. The pool's attributes come and go with it.
 */
static inline bool p2pmem_has_pool(struct pci_dev *pdev)
{
	struct kernfs_node *pool;

	/* A function that has been removed has no directory any more. */
	if (!rcu_access_pointer(pdev->p2pdma))
		return false;
	pool = sysfs_get_dirent(pdev->dev.kobj.sd, "p2pmem");
	sysfs_put(pool);
	return pool;
}

/* Whether it is published is no longer told. */
static inline bool pci_has_p2pmem(struct pci_dev *pdev)
{
	return true;
}
#endif

#ifndef HAVE_PCI_P2PDMA_ADD_RESOURCE_CACHE
static inline int pci_p2pdma_add_resource_cache(struct pci_dev *pdev, int bar,
						size_t size, u64 offset,
						unsigned long cache)
{
	if (cache) {
		pci_err(pdev, "this kernel maps PCI memory uncached and not otherwise\n");
		return -EOPNOTSUPP;
	}
	return pci_p2pdma_add_resource(pdev, bar, size, offset);
}
#endif

/* Whether the kernel maps a page write-combining, not uncached */
#ifdef CONFIG_X86
/*
 * That may not be what its provider asked for, if somebody had mapped it before.
 * The entry tells; PWT and PCD, that is, as the third bit has another place in
 * those of large pages, and neither type needs it.
 */
static inline bool p2pmem_page_is_wc(struct page *page)
{
	const unsigned long wc = cachemode2protval(_PAGE_CACHE_MODE_WC);
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)page_address(page), &level);

	return wc != cachemode2protval(_PAGE_CACHE_MODE_UC_MINUS) && pte &&
	       (pte_flags(*pte) & (_PAGE_PWT | _PAGE_PCD)) == wc;
}
#elif defined(HAVE_PCI_P2PDMA_ADD_RESOURCE_CACHE)
static inline bool p2pmem_page_is_wc(struct page *page)
{
	return page_pgmap(page)->cache == MEMREMAP_WC;
}
#else
static inline bool p2pmem_page_is_wc(struct page *page)
{
	return false;
}
#endif

#ifndef HAVE_DMA_BUF_INVALIDATE_MAPPINGS
#define dma_buf_invalidate_mappings	dma_buf_move_notify
#endif

#endif
