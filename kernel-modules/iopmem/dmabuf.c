// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * A region behind a dma-buf file descriptor, for devices (importers) to use.
 *
 * The memory does not move, but it can be revoked for good. Then importers are
 * told by move_notify, and revocation waits until the last of them has dropped
 * its pins and mappings. One that cannot be told would make that wait last as
 * long as it pleases, so it gets neither.
 *
 * Which device reaches the memory is checked when it maps, not when it attaches
 * or pins: a virtual device maps nothing, it copies by CPU.
 *
 * Locks: the core calls pin to vunmap with the reservation lock held, and
 * revocation takes it with none of ours held. provider->gate nests in it, and
 * provider->importers_lock. Only that one is taken to show who the importers
 * are: an importer may keep the reservation lock for as long as it keeps a
 * revocation waiting.
 */
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/iosys-map.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"
#include "trace.h"

static bool pin_unrevocable;
module_param(pin_unrevocable, bool, 0644);
MODULE_PARM_DESC(pin_unrevocable,
		 "let importers pin that cannot be revoked; unbind then waits for them, however long (default: N)");

/* scatterlist.length has 32 bits. */
#define MAX_SEGMENT	SZ_2G

/* How often the log says that a revocation is waiting. */
#define PATIENCE	(10 * HZ)

/* It names so many of those that are waited for. */
#define MAX_IMPORTERS_NAMED	8

/**
 * struct region_dmabuf - what a dma-buf of ours is made of
 * @holder: makes the provider revoke us
 * @dmabuf: the dma-buf, which owns this
 * @region: referenced
 * @revoked: the memory must not be reached any more; protected by the
 *	reservation lock
 * @pins: that importers hold; protected by the reservation lock
 * @users: pins, mappings and the kernel mapping, if there is one; changed
 *	with the reservation lock
 * @idle: woken when @users has become 0
 * @kernel_mappings: of @users: 0 or 1
 * @fences: of importers, when the memory was revoked; NULL if there were none, or
 *	an ERR_PTR if they could not be collected yet. The revocation's, or the
 *	release's if that comes before the wait
 * @waits_for_fences: a revocation does
 * @name: shown as exp_name; how a program finds the memory's PCI function
 */
struct region_dmabuf {
	struct iopmem_holder holder;
	struct dma_buf *dmabuf;
	struct iopmem_region *region;
	bool revoked;
	unsigned int pins;
	unsigned int users;
	wait_queue_head_t idle;
	unsigned int kernel_mappings;
	struct dma_fence *fences;
	bool waits_for_fences;
	char name[sizeof("iopmem 00000000:00:00.0")];
};

/**
 * struct importer - an attachment to a dma-buf of ours
 * @entry: in the provider's importers
 * @buf: the dma-buf
 * @dev: the device, which stays for as long as it is attached
 * @pins: of the dma-buf's, those of this attachment; changed with the
 *	reservation lock and provider->importers_lock
 * @mappings: the same
 * @pid: of the process that attached it
 * @comm: the same
 */
struct importer {
	struct iopmem_entry entry;
	struct region_dmabuf *buf;
	struct device *dev;
	unsigned int pins;
	unsigned int mappings;
	pid_t pid;
	char comm[TASK_COMM_LEN];
};

/* Its pins, its mappings or the dma-buf's kernel mapping */
static void add_user(struct region_dmabuf *buf, unsigned int *count)
{
	struct iopmem_provider *provider = buf->region->provider;

	spin_lock(&provider->importers_lock);
	WRITE_ONCE(*count, *count + 1);
	spin_unlock(&provider->importers_lock);
	WRITE_ONCE(buf->users, buf->users + 1);
}

static void drop_user(struct region_dmabuf *buf, unsigned int *count)
{
	struct iopmem_provider *provider = buf->region->provider;

	spin_lock(&provider->importers_lock);
	WRITE_ONCE(*count, *count - 1);
	spin_unlock(&provider->importers_lock);
	WRITE_ONCE(buf->users, buf->users - 1);
	if (!buf->users)
		wake_up_all(&buf->idle);
}

static void show_dmabuf(struct iopmem_holder *holder, struct seq_file *s)
{
	struct region_dmabuf *buf =
		container_of(holder, struct region_dmabuf, holder);

	seq_printf(s, " kernel_mappings=%u", READ_ONCE(buf->kernel_mappings));
	if (READ_ONCE(buf->waits_for_fences))
		seq_puts(s, " waits_for=fences");
}

/**
 * iopmem_dmabuf_show_importer - a line about an importer
 * @entry: of provider->importers; the caller has their lock
 * @s: the file
 */
void iopmem_dmabuf_show_importer(struct iopmem_entry *entry,
				 struct seq_file *s)
{
	struct importer *importer =
		container_of(entry, struct importer, entry);
	struct region_dmabuf *buf = importer->buf;

	iopmem_show_memory(s, buf->region->provider, "importer",
			   buf->holder.phys, buf->holder.length);
	iopmem_show_process(s, importer->pid, importer->comm);
	seq_printf(s, " device=%s pins=%u mappings=%u\n",
		   dev_name(importer->dev), importer->pins,
		   importer->mappings);
}

/* Who a revocation waits for */
static void log_importers(struct region_dmabuf *buf)
{
	struct iopmem_region *region = buf->region;
	struct iopmem_provider *provider = region->provider;
	struct importer *importer;
	struct rb_node *node;
	int named = 0;

	pci_warn(provider->pdev,
		 "revocation waits for importers of a dma-buf of %lu KiB, allocated by %s[%d]; kernel mappings: %u\n",
		 region->npages << (PAGE_SHIFT - 10), region->comm,
		 region->pid, READ_ONCE(buf->kernel_mappings));

	spin_lock(&provider->importers_lock);
	for (node = rb_first(&provider->importers.root);
	     node && named < MAX_IMPORTERS_NAMED; node = rb_next(node)) {
		importer = rb_entry(node, struct importer, entry.node);
		if (importer->buf != buf ||
		    (!importer->pins && !importer->mappings))
			continue;
		pci_warn(provider->pdev,
			 "  %s, attached by %s[%d]: %u pins, %u mappings\n",
			 dev_name(importer->dev), importer->comm,
			 importer->pid, importer->pins, importer->mappings);
		named++;
	}
	spin_unlock(&provider->importers_lock);
}

/* Those that are there now: users can add their own for ever. */
static void collect_fences(struct region_dmabuf *buf)
{
	int ret = dma_resv_get_singleton(buf->dmabuf->resv,
					 DMA_RESV_USAGE_BOOKKEEP,
					 &buf->fences);

	if (ret)
		buf->fences = ERR_PTR(ret);
}

static void put_fences(struct region_dmabuf *buf)
{
	if (!IS_ERR(buf->fences))
		dma_fence_put(buf->fences);
	buf->fences = NULL;
}

static void revoke_dmabuf(struct iopmem_holder *holder)
{
	struct region_dmabuf *buf =
		container_of(holder, struct region_dmabuf, holder);
	struct dma_resv *resv = buf->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	buf->revoked = true;
	dma_buf_invalidate_mappings(buf->dmabuf);
	/* What an importer could not stop at once has a fence by now. */
	collect_fences(buf);
	dma_resv_unlock(resv);
}

static bool has_importers(struct region_dmabuf *buf)
{
	bool has;

	dma_resv_lock(buf->dmabuf->resv, NULL);
	has = !list_empty(&buf->dmabuf->attachments);
	dma_resv_unlock(buf->dmabuf->resv);
	return has;
}

/* False if that takes longer than we are patient. */
static bool fences_are_signaled(struct region_dmabuf *buf)
{
	struct dma_resv *resv = buf->dmabuf->resv;

	if (IS_ERR(buf->fences)) {
		dma_resv_lock(resv, NULL);
		collect_fences(buf);
		dma_resv_unlock(resv);
	}
	/* For later ones, too, until there is memory. */
	if (IS_ERR(buf->fences))
		return dma_resv_wait_timeout(resv, DMA_RESV_USAGE_BOOKKEEP,
					     false, PATIENCE);
	return !buf->fences ||
	       dma_fence_wait_timeout(buf->fences, false, PATIENCE);
}

static void wait_for_importers(struct iopmem_holder *holder)
{
	struct region_dmabuf *buf =
		container_of(holder, struct region_dmabuf, holder);
	struct dma_resv *resv = buf->dmabuf->resv;

	/* Without importers a fence is not about our memory. */
	WRITE_ONCE(buf->waits_for_fences, true);
	while (has_importers(buf) && !fences_are_signaled(buf))
		log_importers(buf);
	WRITE_ONCE(buf->waits_for_fences, false);
	put_fences(buf);
	while (!wait_event_timeout(buf->idle, !READ_ONCE(buf->users),
				   PATIENCE))
		log_importers(buf);
	/* The last of them woke us with the lock held. */
	dma_resv_lock(resv, NULL);
	dma_resv_unlock(resv);
}

static int region_dmabuf_attach(struct dma_buf *dmabuf,
				struct dma_buf_attachment *attach)
{
	struct region_dmabuf *buf = dmabuf->priv;
	struct iopmem_provider *provider = buf->region->provider;
	struct importer *importer;

	if (READ_ONCE(buf->revoked))
		return -ENODEV;

	importer = kzalloc(sizeof(*importer), GFP_KERNEL);
	if (!importer)
		return -ENOMEM;

	importer->buf = buf;
	importer->dev = attach->dev;
	importer->pid = task_tgid_nr(current);
	get_task_comm(importer->comm, current);
	attach->priv = importer;

	spin_lock(&provider->importers_lock);
	iopmem_entry_add(&provider->importers, &importer->entry);
	spin_unlock(&provider->importers_lock);
	trace_iopmem_attach(buf->region, importer->dev, importer->pid);
	return 0;
}

static void region_dmabuf_detach(struct dma_buf *dmabuf,
				 struct dma_buf_attachment *attach)
{
	struct region_dmabuf *buf = dmabuf->priv;
	struct iopmem_provider *provider = buf->region->provider;
	struct importer *importer = attach->priv;

	spin_lock(&provider->importers_lock);
	iopmem_entry_del(&provider->importers, &importer->entry);
	spin_unlock(&provider->importers_lock);
	trace_iopmem_detach(buf->region, importer->dev, importer->pid);
	kfree(importer);
}

#ifdef HAVE_DMA_BUF_ATTACH_REVOCABLE
static bool drops_pins(struct dma_buf_attachment *attach)
{
	return dma_buf_attach_revocable(attach);
}

static bool drops_mappings(struct dma_buf_attachment *attach)
{
	return dma_buf_attach_revocable(attach);
}
#else
/*
 * This kernel demands move_notify of every dynamic importer. Those that pin
 * may have one that does nothing; those that do not have to obey it.
 */
static bool drops_pins(struct dma_buf_attachment *attach)
{
	return false;
}

static bool drops_mappings(struct dma_buf_attachment *attach)
{
	return attach->importer_ops;
}
#endif

/* Says why not. */
static bool may_hold(struct dma_buf_attachment *attach, bool lets_go)
{
	struct region_dmabuf *buf = attach->dmabuf->priv;

	if (lets_go || READ_ONCE(pin_unrevocable))
		return true;

	dev_err_ratelimited(attach->dev,
			    "%s: this importer, or kernel, does not promise to let go when the memory is removed; iopmem.pin_unrevocable=1 allows it\n",
			    buf->name);
	return false;
}

static int region_dmabuf_pin(struct dma_buf_attachment *attach)
{
	struct region_dmabuf *buf = attach->dmabuf->priv;
	struct importer *importer = attach->priv;

	if (buf->revoked)
		return -ENODEV;
	if (!may_hold(attach, drops_pins(attach)))
		return -EOPNOTSUPP;

	buf->pins++;
	add_user(buf, &importer->pins);
	return 0;
}

/* Some importers do not look at what pin returned, and unpin all the same. */
static void region_dmabuf_unpin(struct dma_buf_attachment *attach)
{
	struct region_dmabuf *buf = attach->dmabuf->priv;
	struct importer *importer = attach->priv;

	if (!importer->pins)
		return;

	buf->pins--;
	drop_user(buf, &importer->pins);
}

static struct sg_table *region_sg_table(struct iopmem_region *region)
{
	u64 len = (u64)region->npages << PAGE_SHIFT;
	struct scatterlist *sg;
	struct sg_table *sgt;
	u64 offset = 0;
	int i, ret;

	sgt = kmalloc(sizeof(*sgt), GFP_KERNEL);
	if (!sgt)
		return ERR_PTR(-ENOMEM);

	ret = sg_alloc_table(sgt, DIV_ROUND_UP_ULL(len, MAX_SEGMENT),
			     GFP_KERNEL);
	if (ret) {
		kfree(sgt);
		return ERR_PTR(ret);
	}

	for_each_sgtable_sg(sgt, sg, i) {
		u64 chunk = min_t(u64, len - offset, MAX_SEGMENT);

		sg_set_page(sg, iopmem_region_page(region, offset), chunk, 0);
		offset += chunk;
	}
	return sgt;
}

static struct sg_table *region_dmabuf_map(struct dma_buf_attachment *attach,
					  enum dma_data_direction dir)
{
	struct region_dmabuf *buf = attach->dmabuf->priv;
	struct importer *importer = attach->priv;
	struct sg_table *sgt;
	int ret;

	if (buf->revoked)
		return ERR_PTR(-ENODEV);
	if (dir != DMA_TO_DEVICE &&
	    !(attach->dmabuf->file->f_mode & FMODE_WRITE))
		return ERR_PTR(-EACCES);
	if (!may_hold(attach, drops_mappings(attach)))
		return ERR_PTR(-EOPNOTSUPP);
	/* A virtual device does not do DMA. */
	if (!attach->dev->dma_mask)
		return ERR_PTR(-EOPNOTSUPP);

	sgt = region_sg_table(buf->region);
	if (IS_ERR(sgt))
		return sgt;

	/* Checks the route: EREMOTEIO if the device does not reach the BAR. */
	ret = dma_map_sgtable(attach->dev, sgt, dir, DMA_ATTR_SKIP_CPU_SYNC);
	if (ret) {
		if (ret == -EREMOTEIO)
			dev_err_ratelimited(attach->dev,
					    "%s: no PCIe route to this memory\n",
					    buf->name);
		sg_free_table(sgt);
		kfree(sgt);
		return ERR_PTR(ret);
	}

	add_user(buf, &importer->mappings);
	return sgt;
}

static void region_dmabuf_unmap(struct dma_buf_attachment *attach,
				struct sg_table *sgt,
				enum dma_data_direction dir)
{
	struct importer *importer = attach->priv;

	dma_unmap_sgtable(attach->dev, sgt, dir, DMA_ATTR_SKIP_CPU_SYNC);
	sg_free_table(sgt);
	kfree(sgt);
	drop_user(attach->dmabuf->priv, &importer->mappings);
}

/*
 * Only under a pin, whose owner is told when to end it. The core hands the same
 * mapping to whoever asks as long as there is one, though, and revocation waits
 * for all of them.
 */
static int region_dmabuf_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct region_dmabuf *buf = dmabuf->priv;

	if (buf->revoked)
		return -ENODEV;
	if (!buf->pins)
		return -EINVAL;

	iosys_map_set_vaddr_iomem(map,
				  (void __iomem __force *)buf->region->vaddr);
	add_user(buf, &buf->kernel_mappings);
	return 0;
}

static void region_dmabuf_vunmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct region_dmabuf *buf = dmabuf->priv;

	drop_user(buf, &buf->kernel_mappings);
}

/* The memory is not cached: there is nothing to do before the CPU reads. */
static int region_dmabuf_begin_cpu_access(struct dma_buf *dmabuf,
					  enum dma_data_direction dir)
{
	struct region_dmabuf *buf = dmabuf->priv;

	return READ_ONCE(buf->revoked) ? -ENODEV : 0;
}

/* Writes are posted: see to it that they have arrived. */
static int region_dmabuf_end_cpu_access(struct dma_buf *dmabuf,
					enum dma_data_direction dir)
{
	struct region_dmabuf *buf = dmabuf->priv;

	if (dir == DMA_FROM_DEVICE)
		return READ_ONCE(buf->revoked) ? -ENODEV : 0;
	return iopmem_region_flush(buf->region);
}

static int region_dmabuf_mmap(struct dma_buf *dmabuf,
			      struct vm_area_struct *vma)
{
	struct region_dmabuf *buf = dmabuf->priv;
	struct iopmem_region *region = buf->region;
	int ret;

	kref_get(&region->ref);
	ret = iopmem_region_mmap(region, vma);
	if (ret)
		iopmem_region_put(region);
	return ret;
}

/* Nobody is attached any more. */
static void region_dmabuf_release(struct dma_buf *dmabuf)
{
	struct region_dmabuf *buf = dmabuf->priv;

	/* Waits for a revocation that has found us. */
	iopmem_provider_unhold(buf->region->provider, &buf->holder);
	/* It has told us, and need not wait for us any more. */
	put_fences(buf);
	iopmem_region_put(buf->region);
	kfree(buf);
}

static const struct dma_buf_ops region_dmabuf_ops = {
	.attach = region_dmabuf_attach,
	.detach = region_dmabuf_detach,
	.pin = region_dmabuf_pin,
	.unpin = region_dmabuf_unpin,
	.map_dma_buf = region_dmabuf_map,
	.unmap_dma_buf = region_dmabuf_unmap,
	.vmap = region_dmabuf_vmap,
	.vunmap = region_dmabuf_vunmap,
	.begin_cpu_access = region_dmabuf_begin_cpu_access,
	.end_cpu_access = region_dmabuf_end_cpu_access,
	.mmap = region_dmabuf_mmap,
	.release = region_dmabuf_release,
};

/**
 * iopmem_dmabuf_export - put a region behind a dma-buf
 * @region: a reference of the caller's passes to the dma-buf on success
 * @flags: O_RDONLY or O_RDWR
 *
 * Return: the dma-buf, or an ERR_PTR(); -ENODEV if the region's provider has
 * been revoked.
 */
struct dma_buf *iopmem_dmabuf_export(struct iopmem_region *region, int flags)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct region_dmabuf *buf;
	struct dma_buf *dmabuf;
	int ret;

	buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	if (!buf)
		return ERR_PTR(-ENOMEM);

	buf->holder.revoke = revoke_dmabuf;
	buf->holder.wait = wait_for_importers;
	buf->holder.show = show_dmabuf;
	buf->holder.kind = "dma-buf";
	buf->holder.phys = iopmem_region_phys(region, 0);
	buf->holder.length = (u64)region->npages << PAGE_SHIFT;
	buf->region = region;
	init_waitqueue_head(&buf->idle);
	snprintf(buf->name, sizeof(buf->name), "iopmem %s",
		 pci_name(region->provider->pdev));

	info.ops = &region_dmabuf_ops;
	info.exp_name = buf->name;
	info.size = region->npages << PAGE_SHIFT;
	info.flags = flags;
	info.priv = buf;

	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		kfree(buf);
		return dmabuf;
	}
	buf->dmabuf = dmabuf;
	/* So that revocation zaps its mappings together with all others. */
	dmabuf->file->f_mapping = region->provider->inode->i_mapping;

	ret = iopmem_provider_hold(region->provider, &buf->holder);
	/* Revoked and offered again before we held it? Then without us. */
	if (!ret && iopmem_region_revoked(region))
		ret = -ENODEV;
	if (ret) {
		/* Its release drops one, and the caller keeps its own. */
		kref_get(&region->ref);
		dma_buf_put(dmabuf);
		return ERR_PTR(ret);
	}
	return dmabuf;
}
