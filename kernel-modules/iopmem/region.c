// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Regions: ranges of a provider's memory, each with one owner.
 *
 * A region's pages come from the provider's peer-to-peer pool. They are mapped
 * page by page when they are touched, and zeroed then, so that mmap() of a
 * large region does not hold mmap_lock for long. An MR or a dma-buf needs the
 * whole range at once: iopmem_region_zero() does that in chunks, before the
 * memory is handed on.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "compat.h"
#include "internal.h"
#include "trace.h"

/* Longest that a fault or a revocation waits for somebody else's zeroing. */
#define ZERO_CHUNK_PAGES	(SZ_64K >> PAGE_SHIFT)

/* So many holders are named when memory has run out. */
#define MAX_HOLDERS_NAMED	8

static struct page *region_page(struct iopmem_region *region,
				unsigned long index)
{
	return virt_to_page(region->vaddr + (index << PAGE_SHIFT));
}

static struct percpu_ref *region_pgmap_ref(struct iopmem_region *region)
{
	return &page_pgmap(region_page(region, 0))->ref;
}

/*
 * Stores of 8 bytes: on x86 memset_io() may store single bytes, each of which
 * is a transaction of its own on uncached memory. The read back makes sure
 * that the zeros are in the device before anybody is given the page: a peer
 * may reach it by a path that does not order it behind our writes.
 */
static void zero_page(struct page *page)
{
	u64 __iomem *p = (u64 __iomem __force *)page_address(page);
	int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*p); i++)
		__raw_writeq(0, p + i);
	mb(); /* the writes leave the CPU before the read does */
	(void)__raw_readq(p + PAGE_SIZE / sizeof(*p) - 1);
}

/* Zero what of a page range has not been zeroed yet. Call with the lock. */
static void zero_range(struct iopmem_region *region, unsigned long first,
		       unsigned long end)
{
	unsigned long i;

	lockdep_assert_held(&region->lock);
	if (!region->zeroed)
		return;

	for_each_clear_bit_from(first, region->zeroed, end) {
		i = first;
		zero_page(region_page(region, i));
		__set_bit(i, region->zeroed);
		region->unzeroed--;
	}

	if (!region->unzeroed) {
		kvfree(region->zeroed);
		region->zeroed = NULL;
	}
}

/**
 * iopmem_region_zero - make sure that a range holds nobody else's bytes
 * @region: the region
 * @offset: in bytes
 * @len: in bytes; the range lies in the region
 *
 * To be called before a range is made known to anything but our own faults.
 * Sleeps; the time grows with what has not been zeroed yet.
 *
 * Return: 0, -EINTR when killed, -ENODEV when the region has been revoked.
 */
int iopmem_region_zero(struct iopmem_region *region, u64 offset, u64 len)
{
	struct iopmem_provider *provider = region->provider;
	unsigned long first = offset >> PAGE_SHIFT;
	unsigned long end = PAGE_ALIGN(offset + len) >> PAGE_SHIFT;
	bool done = false;
	int ret = 0;

	while (!ret && !done) {
		unsigned long next = min(first + ZERO_CHUNK_PAGES, end);

		down_read(&provider->gate);
		mutex_lock(&region->lock);
		if (!provider->alive || !region->vaddr)
			ret = -ENODEV;
		else
			zero_range(region, first, next);
		done = next == end || !region->zeroed;
		mutex_unlock(&region->lock);
		up_read(&provider->gate);

		first = next;
		if (!done && fatal_signal_pending(current))
			ret = -EINTR;
		cond_resched();
	}
	return ret;
}
EXPORT_SYMBOL_GPL(iopmem_region_zero);

/**
 * iopmem_region_page - the page at an offset of a region
 * @region: the region
 * @offset: in bytes, in the region
 *
 * Only for a holder of the region's provider, after iopmem_region_zero() has
 * succeeded and before its revoke() returns: the page is the region's for that
 * time. Pages of a region are contiguous.
 *
 * Return: the page; no reference is taken.
 */
struct page *iopmem_region_page(struct iopmem_region *region, u64 offset)
{
	return region_page(region, offset >> PAGE_SHIFT);
}
EXPORT_SYMBOL_GPL(iopmem_region_page);

/**
 * iopmem_region_phys - where a region's memory is, or was
 * @region: the region
 * @offset: in bytes, in the region
 *
 * Only to name it: the memory may be somebody else's by now.
 *
 * Return: CPU physical address.
 */
phys_addr_t iopmem_region_phys(struct iopmem_region *region, u64 offset)
{
	return region->phys + offset;
}
EXPORT_SYMBOL_GPL(iopmem_region_phys);

/**
 * iopmem_region_provider - whose memory a region is
 * @region: the region
 *
 * Return: the provider, which lives as long as the region.
 */
struct iopmem_provider *iopmem_region_provider(struct iopmem_region *region)
{
	return region->provider;
}
EXPORT_SYMBOL_GPL(iopmem_region_provider);

/*
 * Give a region's memory back. Each page has one reference of ours and carries
 * one reference on the page map. A page that somebody else has a reference to
 * (direct I/O in flight) goes back to the pool with the last of them, which
 * only works page by page. Returns how many of them there were.
 */
static unsigned long give_back(struct iopmem_region *region)
{
	struct percpu_ref *ref = region_pgmap_ref(region);
	unsigned long i, busy = 0;
	bool idle = true;

	for (i = 0; i < region->npages && idle; i++) {
		idle = p2pmem_page_unclaim(region_page(region, i));
		cond_resched();
	}

	if (idle) {
		if (region->npages > 1)
			percpu_ref_put_many(ref, region->npages - 1);
		pci_free_p2pmem(region->provider->pdev, region->vaddr,
				region->npages << PAGE_SHIFT);
		return 0;
	}

	/* those before the one that is busy */
	for (i--; i > 0; i--) {
		p2pmem_page_claim(region_page(region, i - 1));
		cond_resched();
	}

	for (i = 0; i < region->npages; i++) {
		busy += page_ref_count(region_page(region, i)) > 1;
		put_page(region_page(region, i));
		cond_resched();
	}
	return busy;
}

/*
 * The user limit. A region is charged to the user who allocated it, and not to
 * whoever maps it later, until its memory is given back. Pages are counted
 * whether there is a limit or not: one that is set later counts what users
 * have by then.
 */
static u64 user_pages(struct iopmem_provider *provider, kuid_t uid)
{
	void *entry = xa_load(&provider->users, __kuid_val(uid));

	return entry ? xa_to_value(entry) : 0;
}

/* Fails only if the user had none: there is a place for the number then. */
static int set_user_pages(struct iopmem_provider *provider, kuid_t uid,
			  u64 npages)
{
	void *entry = npages ? xa_mk_value(npages) : NULL;

	return xa_err(xa_store(&provider->users, __kuid_val(uid), entry,
			       GFP_KERNEL));
}

/* -EDQUOT if that were more than the user may have; *used is what they have. */
static int charge_user(struct iopmem_region *region, u64 *used)
{
	struct iopmem_provider *provider = region->provider;
	u64 npages, limit;

	lockdep_assert_held(&provider->regions_lock);
	npages = user_pages(provider, region->uid);
	*used = npages << PAGE_SHIFT;
	limit = provider->user_limit >> PAGE_SHIFT;
	/* As for RLIMIT_NPROC and disk quotas, asked only when it matters. */
	if (provider->user_limit &&
	    (npages > limit || region->npages > limit - npages) &&
	    !capable(CAP_SYS_RESOURCE))
		return -EDQUOT;
	return set_user_pages(provider, region->uid, npages + region->npages);
}

static void uncharge_user(struct iopmem_region *region)
{
	struct iopmem_provider *provider = region->provider;

	lockdep_assert_held(&provider->regions_lock);
	set_user_pages(provider, region->uid,
		       user_pages(provider, region->uid) - region->npages);
}

/* The memory is in the pool again, but for pages that are still in use. */
static void forget_memory(struct iopmem_region *region, unsigned long busy)
{
	struct iopmem_provider *provider = region->provider;

	lockdep_assert_held(&provider->regions_lock);
	WRITE_ONCE(provider->allocated, provider->allocated -
		   ((u64)region->npages << PAGE_SHIFT));
	uncharge_user(region);
	trace_iopmem_region_free(region, busy);
}

/**
 * iopmem_region_revoked - whether a region has lost its memory
 * @region: the region
 *
 * Return: true if it has. If not, only a holder of its provider knows that it
 * still has it a moment later.
 */
bool iopmem_region_revoked(struct iopmem_region *region)
{
	bool revoked;

	mutex_lock(&region->lock);
	revoked = !region->vaddr;
	mutex_unlock(&region->lock);
	return revoked;
}

/**
 * iopmem_region_flush - let this CPU's writes to a region arrive in the device
 * @region: the region
 *
 * Writes are posted; a read pushes them ahead of itself.
 *
 * Return: 0, or -ENODEV when the region has been revoked.
 */
int iopmem_region_flush(struct iopmem_region *region)
{
	struct iopmem_provider *provider = region->provider;
	int ret = -ENODEV;

	down_read(&provider->gate);
	mutex_lock(&region->lock);
	if (provider->alive && region->vaddr) {
		mb(); /* the writes leave the CPU before the read does */
		(void)__raw_readq((u64 __iomem __force *)region->vaddr);
		ret = 0;
	}
	mutex_unlock(&region->lock);
	up_read(&provider->gate);
	return ret;
}

static struct iopmem_region *to_region(struct rb_node *node)
{
	return rb_entry(node, struct iopmem_region, entry.node);
}

/* All mappings have been zapped. Returns how many pages are still in use. */
static unsigned long take_memory(struct iopmem_region *region)
{
	unsigned long busy;

	mutex_lock(&region->lock);
	busy = give_back(region);
	region->vaddr = NULL;
	mutex_unlock(&region->lock);

	iopmem_entry_del(&region->provider->regions, &region->entry);
	forget_memory(region, busy);
	return busy;
}

/**
 * iopmem_region_revoke_all - take the memory of all regions
 * @provider: not alive, and with all its mappings zapped
 *
 * Waits for regions whose last holder has just gone to give their memory back.
 *
 * Return: how many regions lost it.
 */
unsigned long iopmem_region_revoke_all(struct iopmem_provider *provider)
{
	unsigned long count, busy = 0;
	struct rb_node *node, *next;

	mutex_lock(&provider->regions_lock);
	count = provider->regions.count;
	for (node = rb_first(&provider->regions.root); node; node = next) {
		next = rb_next(node);
		busy += take_memory(to_region(node));
	}
	mutex_unlock(&provider->regions_lock);

	/* Who that is, nobody knows: a page has no list of its users. */
	if (busy)
		pci_info(provider->pdev,
			 "%lu pages are still in use, by direct I/O or by a mapping that is just ending; their removal waits for that\n",
			 busy);

	/* free_memory() uses the page map to its end; see there. */
	wait_event(provider->revoke_wait, !READ_ONCE(provider->allocated));
	return count;
}

/*
 * Giving back looks at every page. Others need not wait for that, but for a
 * revocation, which cannot find the region any more: it waits until nothing is
 * allocated.
 */
static void free_memory(struct iopmem_region *region)
{
	struct iopmem_provider *provider = region->provider;
	unsigned long busy;
	bool owner;

	mutex_lock(&provider->regions_lock);
	owner = region->vaddr;
	if (owner)
		iopmem_entry_del(&provider->regions, &region->entry);
	mutex_unlock(&provider->regions_lock);
	if (!owner)
		return;

	busy = give_back(region);

	mutex_lock(&provider->regions_lock);
	forget_memory(region, busy);
	mutex_unlock(&provider->regions_lock);
	wake_up_all(&provider->revoke_wait);
}

static void free_region(struct kref *ref)
{
	struct iopmem_region *region =
		container_of(ref, struct iopmem_region, ref);
	struct iopmem_provider *provider = region->provider;

	free_memory(region);
	mutex_destroy(&region->lock);
	kvfree(region->zeroed);
	kfree(region);
	iopmem_provider_put(provider);
}

/**
 * iopmem_region_put - drop a reference
 * @region: the region
 *
 * The last one gives the memory back. May sleep.
 */
void iopmem_region_put(struct iopmem_region *region)
{
	kref_put(&region->ref, free_region);
}
EXPORT_SYMBOL_GPL(iopmem_region_put);

static void log_exhausted(struct iopmem_provider *provider, u64 size)
{
	struct iopmem_region *region;
	struct rb_node *node;
	int named = 0;

	if (!__ratelimit(&provider->exhausted_limit))
		return;

	mutex_lock(&provider->regions_lock);
	pci_warn(provider->pdev,
		 "no free range of %llu KiB for %s[%d]; iopmem has given out %llu KiB:\n",
		 size >> 10, current->comm, task_tgid_nr(current),
		 provider->allocated >> 10);
	for (node = rb_first(&provider->regions.root); node;
	     node = rb_next(node)) {
		region = to_region(node);
		if (named++ == MAX_HOLDERS_NAMED) {
			pci_warn(provider->pdev, "  and others\n");
			break;
		}
		pci_warn(provider->pdev, "  %lu KiB allocated by %s[%d]\n",
			 region->npages << (PAGE_SHIFT - 10), region->comm,
			 region->pid);
	}
	mutex_unlock(&provider->regions_lock);
}

static void log_refused(struct iopmem_provider *provider, kuid_t uid, u64 used,
			u64 size)
{
	if (__ratelimit(&provider->refused_limit))
		pci_warn(provider->pdev,
			 "user %u is limited to %llu KiB and has %llu KiB: %llu KiB more refused to %s[%d]\n",
			 from_kuid(&init_user_ns, uid),
			 READ_ONCE(provider->user_limit) >> 10, used >> 10,
			 size >> 10, current->comm, task_tgid_nr(current));
}

/*
 * One at a time: the pool marks a range as taken word by word and without a
 * lock, so that of two who meet the longer one would be refused a range that is
 * free. (What drivers and p2pmem/allocate take from the same pool is not ours
 * to order.) If the error is -EDQUOT, *used says what the user has.
 */
static int take_from_pool(struct iopmem_region *region, u64 *used)
{
	struct iopmem_provider *provider = region->provider;
	int ret;

	mutex_lock(&provider->regions_lock);
	ret = charge_user(region, used);
	if (!ret) {
		region->vaddr = pci_alloc_p2pmem(provider->pdev,
						 region->npages << PAGE_SHIFT);
		if (!region->vaddr) {
			uncharge_user(region);
			ret = -ENOMEM;
		}
	}
	mutex_unlock(&provider->regions_lock);
	return ret;
}

/* With provider->gate, so that a revocation finds the region in the list. */
static int allocate_memory(struct iopmem_region *region, u64 *used)
{
	struct iopmem_provider *provider = region->provider;
	unsigned long i;
	int ret;

	if (!provider->alive)
		return -ENODEV;

	ret = take_from_pool(region, used);
	if (ret)
		return ret;
	region->phys = page_to_phys(region_page(region, 0));

	/*
	 * The pool took one reference on the page map for the whole range, but
	 * each page drops one when it is freed by itself.
	 */
	if (region->npages > 1)
		percpu_ref_get_many(region_pgmap_ref(region),
				    region->npages - 1);

	for (i = 0; i < region->npages; i++) {
		p2pmem_page_claim(region_page(region, i));
		cond_resched();
	}

	mutex_lock(&provider->regions_lock);
	iopmem_entry_add(&provider->regions, &region->entry);
	provider->allocated += (u64)region->npages << PAGE_SHIFT;
	trace_iopmem_region_alloc(region);
	mutex_unlock(&provider->regions_lock);
	return 0;
}

/**
 * iopmem_region_alloc - a new region
 * @provider: whose memory
 * @size: in bytes, a multiple of PAGE_SIZE, not 0
 * @zero: hand out no page that has not been zeroed
 *
 * Return: the region with one reference, ERR_PTR(-ENOMEM) when there is no
 * free range that long, ERR_PTR(-EDQUOT) when the user may not have that much
 * more, ERR_PTR(-ENODEV) when the provider has been revoked.
 */
struct iopmem_region *iopmem_region_alloc(struct iopmem_provider *provider,
					  u64 size, bool zero)
{
	struct iopmem_region *region;
	u64 used;
	int ret;

	if (size > provider->size) {
		log_exhausted(provider, size);
		return ERR_PTR(-ENOMEM);
	}

	region = kzalloc(sizeof(*region), GFP_KERNEL);
	if (!region)
		return ERR_PTR(-ENOMEM);

	kref_init(&region->ref);
	mutex_init(&region->lock);
	region->npages = size >> PAGE_SHIFT;
	region->since = ktime_get_boottime_seconds();
	region->uid = current_uid();
	region->pid = task_tgid_nr(current);
	get_task_comm(region->comm, current);

	if (zero) {
		region->unzeroed = region->npages;
		region->zeroed = kvcalloc(BITS_TO_LONGS(region->npages),
					  sizeof(long), GFP_KERNEL);
		if (!region->zeroed) {
			ret = -ENOMEM;
			goto err_free;
		}
	}

	/*
	 * So that with the gate hardly anybody waits for host memory to be
	 * reclaimed: the place is lost if the user frees all else meanwhile.
	 */
	ret = xa_reserve(&provider->users, __kuid_val(region->uid), GFP_KERNEL);
	if (ret)
		goto err_zeroed;

	region->provider = provider;
	down_read(&provider->gate);
	ret = allocate_memory(region, &used);
	up_read(&provider->gate);
	if (ret) {
		xa_release(&provider->users, __kuid_val(region->uid));
		goto err_pool;
	}

	kref_get(&provider->ref);
	return region;

err_pool:
	if (ret == -ENOMEM)
		log_exhausted(provider, size);
	else if (ret == -EDQUOT)
		log_refused(provider, region->uid, used, size);
err_zeroed:
	kvfree(region->zeroed);
err_free:
	mutex_destroy(&region->lock);
	kfree(region);
	return ERR_PTR(ret);
}

static void region_vm_open(struct vm_area_struct *vma)
{
	struct iopmem_region *region = vma->vm_private_data;

	atomic_inc(&region->mappings);
	kref_get(&region->ref);
}

static void region_vm_close(struct vm_area_struct *vma)
{
	struct iopmem_region *region = vma->vm_private_data;

	atomic_dec(&region->mappings);
	iopmem_region_put(region);
}

static vm_fault_t region_fault(struct vm_fault *vmf)
{
	struct iopmem_region *region = vmf->vma->vm_private_data;
	struct iopmem_provider *provider = region->provider;
	vm_fault_t ret = VM_FAULT_SIGBUS;

	if (vmf->pgoff >= region->npages)
		return VM_FAULT_SIGBUS;

	/*
	 * Page tables count in the task's memory cgroup, which may make it wait.
	 * Not with the gate, at which a revocation waits for us.
	 */
	if (apply_to_page_range(vmf->vma->vm_mm, vmf->address & PAGE_MASK,
				PAGE_SIZE, NULL, NULL))
		return VM_FAULT_OOM;

	down_read(&provider->gate);
	mutex_lock(&region->lock);
	if (provider->alive && region->vaddr) {
		zero_range(region, vmf->pgoff, vmf->pgoff + 1);
		ret = vmf_insert_page(vmf->vma, vmf->address,
				      region_page(region, vmf->pgoff));
	}
	mutex_unlock(&region->lock);
	up_read(&provider->gate);
	return ret;
}

static const struct vm_operations_struct region_vm_ops = {
	.open = region_vm_open,
	.close = region_vm_close,
	.fault = region_fault,
};

/**
 * iopmem_region_get_by_vma - the region behind a mapping
 * @vma: any mapping; the caller holds mmap_lock
 *
 * Return: a reference, or NULL if the mapping is not one of ours.
 */
struct iopmem_region *iopmem_region_get_by_vma(struct vm_area_struct *vma)
{
	struct iopmem_region *region;

	if (vma->vm_ops != &region_vm_ops)
		return NULL;

	region = vma->vm_private_data;
	kref_get(&region->ref);
	return region;
}
EXPORT_SYMBOL_GPL(iopmem_region_get_by_vma);

/**
 * iopmem_region_mmap - set up a mapping; the pages come with its faults
 * @region: a reference of the caller's passes to the mapping on success
 * @vma: whose file's f_mapping is the provider's
 *
 * Return: 0, -EINVAL for a private mapping, -ENODEV for a revoked region.
 */
int iopmem_region_mmap(struct iopmem_region *region,
		       struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (iopmem_region_revoked(region))
		return -ENODEV;

	/* Must not grow; a core dump must not read from the device. */
	vm_flags_set(vma, VM_MIXEDMAP | VM_DONTEXPAND | VM_DONTDUMP);
	/* As the kernel maps it; vm_insert_page() does not see to that. */
	if (region->provider->cache == IOPMEM_CACHE_WC)
		vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
	else
		vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	vma->vm_ops = &region_vm_ops;
	vma->vm_private_data = region;
	atomic_inc(&region->mappings);
	return 0;
}
