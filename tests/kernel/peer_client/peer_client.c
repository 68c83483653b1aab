// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Peer memory clients for tests. See peer_client.h.
 *
 * Whatever the core calls is counted, recorded, and checked against the
 * contract in rdma/peer_mem.h: that calls are paired, come in their order, and
 * that nothing is held or mapped when an invalidation has returned.
 *
 * The locks are those that a driver of such memory would have, one on each
 * side of the core's:
 *
 *	client->ranges_lock	held while the client invalidates, as a driver
 *				holds its device's lock when the device goes;
 *				taken in acquire() and release()
 *	  (the core's lock on a umem)
 *	    buffer->lock	taken in get_pages(), dma_map(), dma_unmap() and
 *				put_pages(), as well as mmap_lock
 *
 * so that lockdep sees the order with every MR and every invalidation.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <rdma/peer_mem.h>

#include "peer_client.h"

#define MAX_BUFFER	(16UL << 20)

static char *memory_of;
module_param(memory_of, charp, 0444);
MODULE_PARM_DESC(memory_of,
		 "PCI address of the function that PEER_CLIENT_PCI has its memory of");

struct gate {
	bool closed;
	unsigned int waiting;
};

/**
 * struct client - a node
 * @ex: what the core has of us
 * @misc: the node
 * @flags: enum peer_client_flags
 * @control: held for writing by registration and unregistration, for reading
 *	while the client invalidates
 * @handle: from the core, NULL if not registered
 * @invalidate: the core's function
 * @ranges_lock: protects @ranges
 * @ranges: acquired and not released
 * @lock: protects all below it
 * @behaviours: by step
 * @gates: by step
 * @gate_wait: for all of @gates
 * @state: what was counted
 * @last_range: number of the latest range
 * @records: the first calls since they were cleared
 * @nrecords: how many there are
 */
struct client {
	struct peer_memory_client_ex ex;
	struct miscdevice misc;
	u32 flags;
	struct rw_semaphore control;
	void *handle;
	invalidate_peer_memory invalidate;

	struct mutex ranges_lock; /* protects ranges */
	struct list_head ranges;

	spinlock_t lock; /* protects all below it */
	struct peer_client_behaviour behaviours[PEER_CLIENT_STEPS];
	struct gate gates[PEER_CLIENT_STEPS];
	wait_queue_head_t gate_wait;
	struct peer_client_state state;
	u32 last_range;
	struct peer_client_record records[PEER_CLIENT_RECORDS];
	u32 nrecords;
};

/**
 * struct buffer - memory behind one mmap()
 * @kref: one for each VMA, one for each range
 * @client: whose it is
 * @file: by which it was mapped; only compared, it may be gone
 * @lock: protects the tables of the ranges
 * @nblocks: how many
 * @order: of a block, in pages
 * @blocks: first page of each
 * @kaddr: PCI: the whole, which is contiguous; MIXED leaves the end unused
 */
struct buffer {
	struct kref kref;
	struct client *client;
	struct file *file;
	struct mutex lock; /* protects held, mapped, sgt of the ranges */
	unsigned int nblocks;
	unsigned int order;
	void *kaddr;
	struct page *blocks[] __counted_by(nblocks);
};

/**
 * struct peer_range - what was acquired
 * @kref: one until release(), one while somebody invalidates
 * @node: in client->ranges; empty after release()
 * @buffer: whose memory it is
 * @number: in the records
 * @first_block: of the buffer
 * @nblocks: how many
 * @core_context: 0 before get_pages()
 * @held: between get_pages() and put_pages()
 * @mapped: between dma_map() and dma_unmap()
 * @sgt: a copy of the core's, for UNMAPS
 * @dma_device: that it is mapped for
 * @invalidator: process that invalidates at the moment
 */
struct peer_range {
	struct kref kref;
	struct list_head node;
	struct buffer *buffer;
	u32 number;
	unsigned int first_block;
	unsigned int nblocks;
	u64 core_context;
	bool held;
	bool mapped;
	struct sg_table sgt;
	struct device *dma_device;
	struct task_struct *invalidator;
};

static struct client clients[PEER_CLIENTS];
static struct pci_dev *provider;
static const struct vm_operations_struct buffer_vm_ops;

/* ---- what is counted */

static void record(struct client *client, struct peer_range *range,
		   enum peer_client_step step, int result, u64 addr, u64 size,
		   u32 write)
{
	struct peer_client_record *r;

	spin_lock(&client->lock);
	client->state.calls[step]++;
	if (result >= 0)
		client->state.succeeded[step]++;
	if (client->nrecords < PEER_CLIENT_RECORDS) {
		r = &client->records[client->nrecords++];
		r->step = step;
		r->range = range ? range->number : 0;
		r->result = result;
		r->pid = task_tgid_nr(current);
		r->addr = addr;
		r->size = size;
		r->core_context = range ? range->core_context : 0;
		r->write = write;
	}
	spin_unlock(&client->lock);
}

static void count(struct client *client, u32 *counter, int n)
{
	spin_lock(&client->lock);
	*counter += n;
	spin_unlock(&client->lock);
}

static void violation(struct client *client, struct peer_range *range,
		      const char *what)
{
	pr_err("%s: range %u: %s\n", client->misc.name, range->number, what);
	count(client, &client->state.violations, 1);
}

/* ---- what a test makes of a step */

static bool gate_is_open(struct client *client, enum peer_client_step step)
{
	bool open;

	spin_lock(&client->lock);
	open = !client->gates[step].closed;
	spin_unlock(&client->lock);
	return open;
}

static int pass_gate(struct client *client, enum peer_client_step step)
{
	struct gate *gate = &client->gates[step];
	bool killable = step <= PEER_CLIENT_DMA_MAP;
	long left = PEER_CLIENT_GATE_SECONDS * HZ;

	if (gate_is_open(client, step))
		return 0;

	count(client, &gate->waiting, 1);
	wake_up_all(&client->gate_wait);
	if (killable)
		left = wait_event_killable_timeout(client->gate_wait,
						   gate_is_open(client, step),
						   left);
	else
		left = wait_event_timeout(client->gate_wait,
					  gate_is_open(client, step), left);
	count(client, &gate->waiting, -1);
	if (left < 0)
		return -EINTR;
	if (!left)
		count(client, &client->state.gates_timed_out, 1);
	return 0;
}

static bool somebody_waits(struct client *client, enum peer_client_step step)
{
	bool waits;

	spin_lock(&client->lock);
	waits = client->gates[step].waiting;
	spin_unlock(&client->lock);
	return waits;
}

/* The beginning of a step: 0, or what it shall fail with. */
static int enter(struct client *client, enum peer_client_step step)
{
	int ret = pass_gate(client, step);

	if (!ret)
		ret = -(int)READ_ONCE(client->behaviours[step].error);
	return ret;
}

/* The end of a step. */
static void leave(struct client *client, enum peer_client_step step)
{
	u32 ms = READ_ONCE(client->behaviours[step].delay_ms);

	if (ms)
		msleep(ms);
}

/* ---- memory */

static size_t block_size(const struct buffer *buffer)
{
	return PAGE_SIZE << buffer->order;
}

static void buffer_free(struct kref *kref)
{
	struct buffer *buffer = container_of(kref, struct buffer, kref);
	unsigned int i;

	for (i = 0; i < buffer->nblocks; i++)
		if (buffer->blocks[i] &&
		    !is_pci_p2pdma_page(buffer->blocks[i]))
			__free_pages(buffer->blocks[i], buffer->order);
	if (buffer->kaddr)
		pci_free_p2pmem(provider, buffer->kaddr,
				buffer->nblocks * block_size(buffer));
	count(buffer->client, &buffer->client->state.buffers, -1);
	mutex_destroy(&buffer->lock);
	kfree(buffer);
}

static void buffer_put(struct buffer *buffer)
{
	kref_put(&buffer->kref, buffer_free);
}

static int fill_from_provider(struct buffer *buffer)
{
	size_t size = buffer->nblocks * block_size(buffer);
	unsigned int i;

	if (!provider)
		return -ENODEV;
	buffer->kaddr = pci_alloc_p2pmem(provider, size);
	if (!buffer->kaddr)
		return -ENOMEM;
	memset_io((void __iomem __force *)buffer->kaddr, 0, size);
	for (i = 0; i < buffer->nblocks; i++)
		buffer->blocks[i] = virt_to_page(buffer->kaddr +
						 i * block_size(buffer));
	return 0;
}

/* From block @i on */
static int fill_from_ram(struct buffer *buffer, unsigned int i)
{
	for (; i < buffer->nblocks; i++) {
		buffer->blocks[i] = alloc_pages(GFP_KERNEL | __GFP_ZERO,
						buffer->order);
		if (!buffer->blocks[i])
			return -ENOMEM;
	}
	return 0;
}

static struct buffer *buffer_alloc(struct client *client, struct file *file,
				   size_t size)
{
	u32 flags = client->flags;
	unsigned int order = 0;
	struct buffer *buffer;
	int ret;

	if (flags & PEER_CLIENT_BIG_PAGES)
		order = get_order(PEER_CLIENT_BIG_PAGE);
	if (size > MAX_BUFFER || !IS_ALIGNED(size, PAGE_SIZE << order))
		return ERR_PTR(-EINVAL);

	buffer = kzalloc(struct_size(buffer, blocks,
				     size >> PAGE_SHIFT >> order), GFP_KERNEL);
	if (!buffer)
		return ERR_PTR(-ENOMEM);
	kref_init(&buffer->kref);
	mutex_init(&buffer->lock);
	buffer->client = client;
	buffer->file = file;
	buffer->order = order;
	buffer->nblocks = size >> PAGE_SHIFT >> order;
	count(client, &client->state.buffers, 1);

	ret = flags & PEER_CLIENT_PCI ? fill_from_provider(buffer) :
					fill_from_ram(buffer, 0);
	if (!ret && flags & PEER_CLIENT_MIXED)
		ret = fill_from_ram(buffer, buffer->nblocks - 1);
	if (ret) {
		buffer_put(buffer);
		return ERR_PTR(ret);
	}
	return buffer;
}

static void buffer_vm_open(struct vm_area_struct *vma)
{
	struct buffer *buffer = vma->vm_private_data;

	kref_get(&buffer->kref);
}

static void buffer_vm_close(struct vm_area_struct *vma)
{
	buffer_put(vma->vm_private_data);
}

static const struct vm_operations_struct buffer_vm_ops = {
	.open = buffer_vm_open,
	.close = buffer_vm_close,
};

static struct client *client_of(struct file *file)
{
	return container_of(file->private_data, struct client, misc);
}

static int peer_client_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct client *client = client_of(file);
	struct buffer *buffer;
	unsigned long addr;
	unsigned int i;
	int ret = 0;

	if (vma->vm_pgoff || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	buffer = buffer_alloc(client, file, vma->vm_end - vma->vm_start);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);

	if (buffer->kaddr)
		vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	for (i = 0; i < buffer->nblocks && !ret; i++) {
		addr = vma->vm_start + i * block_size(buffer);
		ret = remap_pfn_range(vma, addr, page_to_pfn(buffer->blocks[i]),
				      block_size(buffer), vma->vm_page_prot);
	}
	if (ret) {
		buffer_put(buffer);
		return ret;
	}
	vma->vm_private_data = buffer;
	vma->vm_ops = &buffer_vm_ops;
	return 0;
}

/* ---- what the core calls */

static void range_free(struct kref *kref)
{
	struct peer_range *range = container_of(kref, struct peer_range, kref);

	buffer_put(range->buffer);
	kfree(range);
}

static bool find_buffer(struct client *client, struct peer_range *range,
			unsigned long addr, size_t size)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	struct buffer *buffer;
	unsigned long offset;
	size_t block;
	bool found = false;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	if (vma && vma->vm_ops == &buffer_vm_ops && size <= vma->vm_end - addr) {
		buffer = vma->vm_private_data;
		block = block_size(buffer);
		offset = addr - vma->vm_start + (vma->vm_pgoff << PAGE_SHIFT);
		found = buffer->client == client;
		if (found) {
			kref_get(&buffer->kref);
			range->buffer = buffer;
			range->first_block = offset / block;
			range->nblocks = DIV_ROUND_UP(offset % block + size,
						      block);
		}
	}
	mmap_read_unlock(mm);
	return found;
}

static int peer_acquire(struct client *client, unsigned long addr, size_t size,
			void **client_context)
{
	struct peer_range *range;
	int ret;

	range = kzalloc(sizeof(*range), GFP_KERNEL);
	if (!range)
		return -ENOMEM;
	kref_init(&range->kref);
	if (!find_buffer(client, range, addr, size)) {
		kfree(range);
		return 0;
	}

	ret = enter(client, PEER_CLIENT_ACQUIRE);
	if (!ret && client->flags & PEER_CLIENT_HOLDS_MODULE &&
	    !try_module_get(THIS_MODULE))
		ret = -ENODEV;
	if (ret) {
		record(client, NULL, PEER_CLIENT_ACQUIRE, ret, addr, size, 0);
		kref_put(&range->kref, range_free);
		return ret;
	}

	mutex_lock(&client->ranges_lock);
	range->number = ++client->last_range;
	list_add_tail(&range->node, &client->ranges);
	mutex_unlock(&client->ranges_lock);
	count(client, &client->state.ranges, 1);
	record(client, range, PEER_CLIENT_ACQUIRE, 1, addr, size, 0);
	leave(client, PEER_CLIENT_ACQUIRE);

	*client_context = range;
	return 1;
}

/* Where a client that looks at mappings has to look again. */
static bool may_write(unsigned long addr)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	bool may;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	may = vma && vma->vm_flags & VM_WRITE;
	mmap_read_unlock(mm);
	return may;
}

static int take_pages(struct peer_range *range, struct sg_table *sgt)
{
	struct buffer *buffer = range->buffer;
	struct scatterlist *sg;
	int i, ret;

	if (!(buffer->client->flags & PEER_CLIENT_HAS_PAGES))
		return 0;

	ret = sg_alloc_table(sgt, range->nblocks, GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sgtable_sg(sgt, sg, i)
		sg_set_page(sg, buffer->blocks[range->first_block + i],
			    block_size(buffer), 0);
	return 0;
}

static int peer_get_pages(unsigned long addr, size_t size, int write, int force,
			  struct sg_table *sg_head, void *client_context,
			  u64 core_context)
{
	struct peer_range *range = client_context;
	struct buffer *buffer = range->buffer;
	struct client *client = buffer->client;
	int ret;

	if (range->core_context || !core_context || force)
		violation(client, range, "get_pages(): again, no context, or force");
	/* First, so that it can be invalidated from now on. */
	WRITE_ONCE(range->core_context, core_context);

	ret = enter(client, PEER_CLIENT_GET_PAGES);
	if (!ret && write && !may_write(addr))
		ret = -EFAULT;
	if (!ret) {
		mutex_lock(&buffer->lock);
		ret = take_pages(range, sg_head);
		range->held = !ret;
		range->sgt = *sg_head;
		mutex_unlock(&buffer->lock);
	}
	if (!ret)
		count(client, &client->state.held, 1);
	record(client, range, PEER_CLIENT_GET_PAGES, ret, addr, size, write);
	leave(client, PEER_CLIENT_GET_PAGES);
	return ret;
}

/* For clients without pages: the table is made here, of addresses. */
static int map_addresses(struct peer_range *range, struct sg_table *sgt,
			 struct device *dma_device)
{
	struct buffer *buffer = range->buffer;
	struct scatterlist *sg;
	int i, ret;

	ret = sg_alloc_table(sgt, range->nblocks, GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sgtable_sg(sgt, sg, i) {
		sg_dma_address(sg) =
			dma_map_page(dma_device,
				     buffer->blocks[range->first_block + i], 0,
				     block_size(buffer), DMA_BIDIRECTIONAL);
		if (dma_mapping_error(dma_device, sg_dma_address(sg)))
			goto err_unmap;
		sg_dma_len(sg) = block_size(buffer);
	}
	return 0;

err_unmap:
	for_each_sgtable_sg(sgt, sg, i) {
		if (!sg_dma_len(sg))
			break;
		dma_unmap_page(dma_device, sg_dma_address(sg), sg_dma_len(sg),
			       DMA_BIDIRECTIONAL);
	}
	sg_free_table(sgt);
	return -EIO;
}

static void unmap_addresses(struct sg_table *sgt, struct device *dma_device)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_sg(sgt, sg, i)
		dma_unmap_page(dma_device, sg_dma_address(sg), sg_dma_len(sg),
			       DMA_BIDIRECTIONAL);
	sg_free_table(sgt);
}

static int peer_dma_map(struct sg_table *sg_head, void *client_context,
			struct device *dma_device, int dmasync, int *nmap)
{
	struct peer_range *range = client_context;
	struct buffer *buffer = range->buffer;
	struct client *client = buffer->client;
	int ret;

	if (!range->held || range->mapped || !dma_device || dmasync)
		violation(client, range, "dma_map(): no pages, again, no device, or dmasync");

	ret = enter(client, PEER_CLIENT_DMA_MAP);
	if (!ret) {
		mutex_lock(&buffer->lock);
		if (client->flags & PEER_CLIENT_HAS_PAGES)
			ret = dma_map_sgtable(dma_device, sg_head,
					      DMA_BIDIRECTIONAL, 0);
		else
			ret = map_addresses(range, sg_head, dma_device);
		if (!ret) {
			range->mapped = true;
			range->dma_device = dma_device;
			range->sgt = *sg_head;
			*nmap = sg_head->nents;
		}
		mutex_unlock(&buffer->lock);
	}
	if (!ret) {
		count(client, &client->state.mapped, 1);
		count(client, &client->state.blocks, range->nblocks);
	}
	record(client, range, PEER_CLIENT_DMA_MAP, ret, 0, 0, 0);
	leave(client, PEER_CLIENT_DMA_MAP);
	return ret;
}

static void unmap_range(struct peer_range *range, struct sg_table *sgt)
{
	struct client *client = range->buffer->client;

	if (client->flags & PEER_CLIENT_HAS_PAGES)
		dma_unmap_sgtable(range->dma_device, sgt, DMA_BIDIRECTIONAL, 0);
	else
		unmap_addresses(sgt, range->dma_device);
	range->mapped = false;
	count(client, &client->state.mapped, -1);
	count(client, &client->state.blocks, -(int)range->nblocks);
}

static void put_range(struct peer_range *range, struct sg_table *sgt)
{
	struct client *client = range->buffer->client;

	if (client->flags & PEER_CLIENT_HAS_PAGES)
		sg_free_table(sgt);
	range->held = false;
	count(client, &client->state.held, -1);
	if (range->invalidator == current)
		count(client, &client->state.by_invalidation, 1);
}

static int peer_dma_unmap(struct sg_table *sg_head, void *client_context,
			  struct device *dma_device)
{
	struct peer_range *range = client_context;
	struct client *client = range->buffer->client;

	enter(client, PEER_CLIENT_DMA_UNMAP);
	mutex_lock(&range->buffer->lock);
	if (!range->mapped || dma_device != range->dma_device ||
	    sg_head->sgl != range->sgt.sgl)
		violation(client, range, "dma_unmap() of what is not mapped, or not so");
	else
		unmap_range(range, sg_head);
	mutex_unlock(&range->buffer->lock);
	record(client, range, PEER_CLIENT_DMA_UNMAP, 0, 0, 0, 0);
	leave(client, PEER_CLIENT_DMA_UNMAP);
	return 0;
}

static void peer_put_pages(struct sg_table *sg_head, void *client_context)
{
	struct peer_range *range = client_context;
	struct client *client = range->buffer->client;

	enter(client, PEER_CLIENT_PUT_PAGES);
	mutex_lock(&range->buffer->lock);
	if (!range->held || range->mapped)
		violation(client, range, "put_pages() without pages, or while they are mapped");
	else
		put_range(range, sg_head);
	mutex_unlock(&range->buffer->lock);
	record(client, range, PEER_CLIENT_PUT_PAGES, 0, 0, 0, 0);
	leave(client, PEER_CLIENT_PUT_PAGES);
}

static unsigned long peer_get_page_size(void *client_context)
{
	struct peer_range *range = client_context;

	return block_size(range->buffer);
}

static void peer_release(void *client_context)
{
	struct peer_range *range = client_context;
	struct client *client = range->buffer->client;

	enter(client, PEER_CLIENT_RELEASE);
	/* If not what somebody who invalidates is about to undo. */
	if ((range->held || range->mapped) &&
	    !(client->flags & PEER_CLIENT_UNMAPS && range->invalidator))
		violation(client, range, "release() with pages");

	mutex_lock(&client->ranges_lock);
	list_del_init(&range->node);
	mutex_unlock(&client->ranges_lock);
	count(client, &client->state.ranges, -1);
	record(client, range, PEER_CLIENT_RELEASE, 0, 0, 0, 0);
	kref_put(&range->kref, range_free);

	/* The core still waits for us: see ib_unregister_peer_memory_client() */
	if (client->flags & PEER_CLIENT_HOLDS_MODULE)
		module_put(THIS_MODULE);
	leave(client, PEER_CLIENT_RELEASE);
}

/* acquire() is not told which client it is called for. */
static int acquire0(unsigned long addr, size_t size, void *private_data,
		    char *name, void **client_context)
{
	return peer_acquire(&clients[0], addr, size, client_context);
}

static int acquire1(unsigned long addr, size_t size, void *private_data,
		    char *name, void **client_context)
{
	return peer_acquire(&clients[1], addr, size, client_context);
}

static int (*const acquires[PEER_CLIENTS])(unsigned long addr, size_t size,
					   void *private_data, char *name,
					   void **client_context) = {
	acquire0, acquire1
};

/* ---- what the client calls */

/* UNMAPS: the core has not, and nobody else will. */
static void undo_range(struct peer_range *range)
{
	struct client *client = range->buffer->client;

	if (!range->held)
		return;
	if (range->mapped)
		unmap_range(range, &range->sgt);
	put_range(range, &range->sgt);
	record(client, range, PEER_CLIENT_UNDO, 0, 0, 0, 0);
}

static void invalidate_range(struct client *client, struct peer_range *range)
{
	int ret;

	/* It cannot have pages, then. */
	if (!READ_ONCE(range->core_context))
		return;

	record(client, range, PEER_CLIENT_INVALIDATE, 0, 0, 0, 0);
	/* One of several that invalidate the range at once is enough. */
	WRITE_ONCE(range->invalidator, current);
	ret = client->invalidate(client->handle, range->core_context);

	mutex_lock(&range->buffer->lock);
	if (client->flags & PEER_CLIENT_UNMAPS)
		undo_range(range);
	if (ret || range->held || range->mapped)
		violation(client, range, "not given back by an invalidation");
	mutex_unlock(&range->buffer->lock);
	record(client, range, PEER_CLIENT_INVALIDATED, ret, 0, 0, 0);
}

static bool wanted(const struct peer_range *range, const struct file *file)
{
	return READ_ONCE(range->core_context) &&
	       (!file || range->buffer->file == file);
}

static void invalidate_all(struct client *client, const struct file *file)
{
	struct peer_range *range;

	mutex_lock(&client->ranges_lock);
	list_for_each_entry(range, &client->ranges, node)
		if (wanted(range, file))
			invalidate_range(client, range);
	mutex_unlock(&client->ranges_lock);
}

/* A reference alone keeps the range; its release() may be under way. */
static void invalidate_unlocked(struct client *client, const struct file *file)
{
	struct peer_range *range, *found;
	u32 done = 0;

	do {
		found = NULL;
		mutex_lock(&client->ranges_lock);
		list_for_each_entry(range, &client->ranges, node)
			if (range->number > done && wanted(range, file)) {
				found = range;
				kref_get(&found->kref);
				break;
			}
		mutex_unlock(&client->ranges_lock);
		if (found) {
			done = found->number;
			invalidate_range(client, found);
			kref_put(&found->kref, range_free);
		}
	} while (found);
}

/*
 * A client that is being unregistered does not invalidate. It does not wait for
 * that either, it would wait for MRs.
 */
static int take_back(struct client *client, const struct file *file)
{
	int ret = 0;

	if (!down_read_trylock(&client->control))
		return -EBUSY;

	if (!client->handle)
		ret = -ENOTCONN;
	else if (!(client->flags & PEER_CLIENT_CAN_INVALIDATE))
		ret = -EOPNOTSUPP;
	else if (client->flags & PEER_CLIENT_UNLOCKED)
		invalidate_unlocked(client, file);
	else
		invalidate_all(client, file);

	up_read(&client->control);
	return ret;
}

static void describe(struct client *client)
{
	struct peer_memory_client *ops = &client->ex.client;

	snprintf(ops->name, sizeof(ops->name), "%s", client->misc.name);
	snprintf(ops->version, sizeof(ops->version), "1.0");
	ops->acquire = acquires[client - clients];
	ops->get_pages = peer_get_pages;
	ops->dma_map = peer_dma_map;
	ops->dma_unmap = peer_dma_unmap;
	ops->put_pages = peer_put_pages;
	ops->release = peer_release;
	ops->get_page_size = client->flags & PEER_CLIENT_BIG_PAGES ?
				     peer_get_page_size : NULL;
	client->ex.ex_size = sizeof(client->ex);
	client->ex.flags = 0;
	if (client->flags & PEER_CLIENT_UNMAPS) {
		ops->version[IB_PEER_MEMORY_VER_MAX - 1] = 1;
		client->ex.flags = PEER_MEM_INVALIDATE_UNMAPS;
	}
}

static int client_register(struct client *client, u32 flags)
{
	invalidate_peer_memory *callback;

	/* Buffers are made by the flags. */
	if (client->handle ||
	    (client->state.buffers && flags != client->flags))
		return -EBUSY;
	client->flags = flags;
	describe(client);
	callback = flags & PEER_CLIENT_CAN_INVALIDATE ? &client->invalidate :
							NULL;
	client->handle = ib_register_peer_memory_client(&client->ex.client,
							callback);
	return client->handle ? 0 : -EINVAL;
}

static int client_unregister(struct client *client)
{
	if (!client->handle)
		return -ENOTCONN;
	ib_unregister_peer_memory_client(client->handle);
	client->handle = NULL;
	return 0;
}

/* ---- the node */

static int set_gate(struct client *client, const struct peer_client_gate *arg)
{
	long left;

	if (arg->step > PEER_CLIENT_RELEASE)
		return -EINVAL;

	switch (arg->action) {
	case PEER_CLIENT_GATE_OPEN:
	case PEER_CLIENT_GATE_CLOSE:
		spin_lock(&client->lock);
		client->gates[arg->step].closed =
			arg->action == PEER_CLIENT_GATE_CLOSE;
		spin_unlock(&client->lock);
		wake_up_all(&client->gate_wait);
		return 0;
	case PEER_CLIENT_GATE_WAIT:
		left = wait_event_killable_timeout(client->gate_wait,
						   somebody_waits(client,
								  arg->step),
						   PEER_CLIENT_GATE_SECONDS *
						   HZ / 2);
		return left > 0 ? 0 : left ?: -ETIMEDOUT;
	default:
		return -EINVAL;
	}
}

static int behave(struct client *client,
		  const struct peer_client_behaviour *arg)
{
	if (arg->step > PEER_CLIENT_RELEASE || arg->error > MAX_ERRNO ||
	    arg->delay_ms > PEER_CLIENT_GATE_SECONDS * MSEC_PER_SEC)
		return -EINVAL;
	if (arg->error && arg->step > PEER_CLIENT_DMA_MAP)
		return -EINVAL;

	spin_lock(&client->lock);
	client->behaviours[arg->step] = *arg;
	spin_unlock(&client->lock);
	return 0;
}

/* What exists now is not forgotten. */
static int clear(struct client *client)
{
	struct peer_client_state *state = &client->state;
	unsigned int i;

	spin_lock(&client->lock);
	memset(client->behaviours, 0, sizeof(client->behaviours));
	for (i = 0; i < PEER_CLIENT_STEPS; i++)
		client->gates[i].closed = false;
	state->by_invalidation = 0;
	state->violations = 0;
	state->gates_timed_out = 0;
	memset(state->calls, 0, sizeof(state->calls));
	memset(state->succeeded, 0, sizeof(state->succeeded));
	client->nrecords = 0;
	spin_unlock(&client->lock);
	wake_up_all(&client->gate_wait);
	return 0;
}

static int copy_records(struct client *client, struct peer_client_log *arg)
{
	void __user *to = u64_to_user_ptr(arg->records);
	struct peer_client_record *copy;
	int ret = 0;

	copy = kcalloc(PEER_CLIENT_RECORDS, sizeof(*copy), GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	spin_lock(&client->lock);
	arg->count = client->nrecords;
	memcpy(copy, client->records, arg->count * sizeof(*copy));
	spin_unlock(&client->lock);
	if (copy_to_user(to, copy, arg->count * sizeof(*copy)))
		ret = -EFAULT;
	kfree(copy);
	return ret;
}

union peer_client_arg {
	struct peer_client_behaviour behaviour;
	struct peer_client_gate gate;
	struct peer_client_state state;
	struct peer_client_log log;
	u32 flags;
};

static int client_call(struct client *client, unsigned int cmd,
		       union peer_client_arg *arg)
{
	int ret;

	switch (cmd) {
	case PEER_CLIENT_REGISTER:
	case PEER_CLIENT_UNREGISTER:
		ret = down_write_killable(&client->control);
		if (ret)
			return ret;
		ret = cmd == PEER_CLIENT_REGISTER ?
			      client_register(client, arg->flags) :
			      client_unregister(client);
		up_write(&client->control);
		return ret;
	case PEER_CLIENT_BEHAVE:
		return behave(client, &arg->behaviour);
	case PEER_CLIENT_GATE:
		return set_gate(client, &arg->gate);
	case PEER_CLIENT_INVALIDATE_ALL:
		return take_back(client, NULL);
	case PEER_CLIENT_STATE:
		spin_lock(&client->lock);
		arg->state = client->state;
		spin_unlock(&client->lock);
		arg->state.registered = !!READ_ONCE(client->handle);
		return 0;
	case PEER_CLIENT_LOG:
		return copy_records(client, &arg->log);
	case PEER_CLIENT_CLEAR:
		return clear(client);
	default:
		return -ENOTTY;
	}
}

static long peer_client_ioctl(struct file *file, unsigned int cmd,
			      unsigned long uarg)
{
	union peer_client_arg arg = {};
	size_t size = _IOC_SIZE(cmd);
	long ret;

	if (_IOC_TYPE(cmd) != PEER_CLIENT_IOC_MAGIC || size > sizeof(arg))
		return -ENOTTY;
	if (_IOC_DIR(cmd) & _IOC_WRITE &&
	    copy_from_user(&arg, (void __user *)uarg, size))
		return -EFAULT;
	ret = client_call(client_of(file), cmd, &arg);
	if (!ret && _IOC_DIR(cmd) & _IOC_READ &&
	    copy_to_user((void __user *)uarg, &arg, size))
		ret = -EFAULT;
	return ret;
}

static int peer_client_release(struct inode *inode, struct file *file)
{
	struct client *client = client_of(file);

	if (client->flags & PEER_CLIENT_CLOSE_INVALIDATES)
		take_back(client, file);
	return 0;
}

static const struct file_operations peer_client_fops = {
	.owner = THIS_MODULE,
	.release = peer_client_release,
	.unlocked_ioctl = peer_client_ioctl,
	.mmap = peer_client_mmap,
};

static int find_memory(const char *address)
{
	unsigned int domain, bus, device, function;

	if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &device,
		   &function) != 4)
		return -EINVAL;
	provider = pci_get_domain_bus_and_slot(domain, bus,
					       PCI_DEVFN(device, function));
	return provider ? 0 : -ENODEV;
}

static void client_exit(struct client *client)
{
	misc_deregister(&client->misc);
	/* No file is open, nothing is mapped, but there may be MRs. */
	client_unregister(client);
	mutex_destroy(&client->ranges_lock);
	kfree(client->misc.name);
}

static int client_init(struct client *client)
{
	init_rwsem(&client->control);
	mutex_init(&client->ranges_lock);
	INIT_LIST_HEAD(&client->ranges);
	spin_lock_init(&client->lock);
	init_waitqueue_head(&client->gate_wait);
	client->misc.minor = MISC_DYNAMIC_MINOR;
	client->misc.fops = &peer_client_fops;
	client->misc.mode = 0666;
	client->misc.name = kasprintf(GFP_KERNEL, "peer_client%td",
				      client - clients);
	if (!client->misc.name)
		return -ENOMEM;
	return misc_register(&client->misc);
}

static int __init peer_client_init(void)
{
	int i, ret;

	if (memory_of) {
		ret = find_memory(memory_of);
		if (ret)
			return ret;
	}
	for (i = 0; i < PEER_CLIENTS; i++) {
		ret = client_init(&clients[i]);
		if (ret)
			goto err_exit;
	}
	return 0;

err_exit:
	kfree(clients[i].misc.name);
	while (i--)
		client_exit(&clients[i]);
	pci_dev_put(provider);
	return ret;
}

static void __exit peer_client_exit(void)
{
	int i;

	for (i = 0; i < PEER_CLIENTS; i++)
		client_exit(&clients[i]);
	pci_dev_put(provider);
}

module_init(peer_client_init);
module_exit(peer_client_exit);

MODULE_DESCRIPTION("peer memory clients for tests");
MODULE_LICENSE("Dual BSD/GPL");
