// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * /dev/importer: a dma-buf importer for tests, driven by user space, with
 * QEMU's edu device to do real DMA to what it has mapped. See importer.h.
 *
 * edu is a PCI function with a buffer of 4 KiB that it fills from, or writes
 * to, the bus address that it is told, so that data moves between two
 * importers' memory by way of that buffer, and the DMA addresses that the
 * exporters gave are all that the device knows.
 */
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/iosys-map.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "edu.h"
#include "importer.h"

/**
 * struct importer - an open file
 * @node: in the list of importers, protected by edu_sem
 * @lock: one call at a time; protects @attach and @drop_after
 * @attach: NULL when there is none
 * @drop_after: ms, or one of the special values of importer.h
 * @drop: unmaps and unpins
 * @sgt: the mapping, or NULL
 * @direction: of @sgt
 * @pins: held
 * @moves: calls of move_notify()
 * @vmap: null when there is none
 * @fences: to be signaled by detaching
 *
 * @sgt and all below it are protected by the dma-buf's reservation lock.
 */
struct importer {
	struct list_head node;
	struct mutex lock; /* protects attach, drop_after */
	struct dma_buf_attachment *attach;
	int drop_after;
	struct delayed_work drop;

	struct sg_table *sgt;
	enum dma_data_direction direction;
	unsigned int pins;
	unsigned int moves;
	struct iosys_map vmap;
	struct list_head fences;
};

/*
 * Lock order: edu_sem -> importer->lock -> reservation lock -> dma_lock.
 * move_notify() and what it queues take none of ours: a call may be waiting for
 * the exporter, which waits for them.
 */

/* Held for reading around each call, for writing to change what follows. */
static DECLARE_RWSEM(edu_sem);
static LIST_HEAD(importers);
static struct pci_dev *edu;
static void __iomem *edu_registers;

/* Whose turn it is to use edu's DMA engine. */
static DEFINE_MUTEX(dma_lock);

static struct miscdevice importer_misc;

/* The order in which an importer has to let go. */
static void drop_all(struct importer *importer,
		     struct dma_buf_attachment *attach)
{
	dma_resv_assert_held(attach->dmabuf->resv);

	if (!iosys_map_is_null(&importer->vmap)) {
		dma_buf_vunmap(attach->dmabuf, &importer->vmap);
		iosys_map_clear(&importer->vmap);
	}
	if (importer->sgt) {
		dma_buf_unmap_attachment(attach, importer->sgt,
					 importer->direction);
		importer->sgt = NULL;
	}
	for (; importer->pins; importer->pins--)
		dma_buf_unpin(attach);
}

static bool holds_something(const struct importer *importer)
{
	return importer->sgt || importer->pins ||
	       !iosys_map_is_null(&importer->vmap);
}

/*
 * Detaching waits for us, so that @attach is still there, and we were queued
 * when something was held, which is after @attach was set.
 */
static void drop_work(struct work_struct *work)
{
	struct importer *importer =
		container_of(work, struct importer, drop.work);
	struct dma_resv *resv = importer->attach->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	drop_all(importer, importer->attach);
	dma_resv_unlock(resv);
}

static void importer_move_notify(struct dma_buf_attachment *attach)
{
	struct importer *importer = attach->importer_priv;

	dma_resv_assert_held(attach->dmabuf->resv);

	importer->moves++;
	if (importer->drop_after == IMPORTER_DROP_INSIDE)
		drop_all(importer, attach);
	else if (importer->drop_after >= 0 && holds_something(importer))
		schedule_delayed_work(&importer->drop,
				      msecs_to_jiffies(importer->drop_after));
}

static const struct dma_buf_attach_ops revocable_ops = {
	.allow_peer2peer = true,
	.move_notify = importer_move_notify,
};

static const struct dma_buf_attach_ops deaf_ops = {
	.allow_peer2peer = true,
};

static struct dma_buf_attachment *
attach_as(struct importer *importer, struct dma_buf *dmabuf,
	  enum importer_kind kind)
{
	/* As an RDMA device in software, it has no DMA mask, and no bus. */
	if (kind == IMPORTER_VIRTUAL)
		return dma_buf_dynamic_attach(dmabuf,
					      importer_misc.this_device,
					      &revocable_ops, importer);
	if (!edu)
		return ERR_PTR(-ENODEV);

	switch (kind) {
	case IMPORTER_REVOCABLE:
		return dma_buf_dynamic_attach(dmabuf, &edu->dev,
					      &revocable_ops, importer);
	case IMPORTER_DEAF:
		return dma_buf_dynamic_attach(dmabuf, &edu->dev, &deaf_ops,
					      importer);
	case IMPORTER_STATIC:
		return dma_buf_attach(dmabuf, &edu->dev);
	default:
		return ERR_PTR(-EINVAL);
	}
}

static int importer_attach(struct importer *importer,
			   const struct importer_attach *arg)
{
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;

	if (importer->attach)
		return -EBUSY;
	if (arg->drop_after < IMPORTER_KEEP)
		return -EINVAL;

	dmabuf = dma_buf_get(arg->fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	importer->drop_after = arg->drop_after;
	importer->moves = 0;
	attach = attach_as(importer, dmabuf, arg->kind);
	if (IS_ERR(attach)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(attach);
	}
	importer->attach = attach;
	return 0;
}

/* Keeps the module until it is freed. */
struct importer_fence {
	struct dma_fence base;
	spinlock_t lock; /* the fence's own */
	struct list_head node;
	struct delayed_work work;
};

static const char *importer_fence_name(struct dma_fence *fence)
{
	return "importer";
}

static void importer_fence_release(struct dma_fence *fence)
{
	dma_fence_free(fence);
	module_put(THIS_MODULE);
}

static const struct dma_fence_ops importer_fence_ops = {
	.get_driver_name = importer_fence_name,
	.get_timeline_name = importer_fence_name,
	.release = importer_fence_release,
};

static void signal_fence(struct importer_fence *fence)
{
	dma_fence_signal(&fence->base);
	dma_fence_put(&fence->base);
}

static void fence_work(struct work_struct *work)
{
	signal_fence(container_of(work, struct importer_fence, work.work));
}

/* What is signaled by detaching. */
static void signal_fences(struct importer *importer)
{
	struct importer_fence *fence, *next;

	list_for_each_entry_safe(fence, next, &importer->fences, node) {
		list_del(&fence->node);
		signal_fence(fence);
	}
}

static int add_fence(struct importer *importer, u32 ms)
{
	struct dma_resv *resv = importer->attach->dmabuf->resv;
	struct importer_fence *fence;
	int ret;

	ret = dma_resv_reserve_fences(resv, 1);
	if (ret)
		return ret;
	fence = kzalloc(sizeof(*fence), GFP_KERNEL);
	if (!fence)
		return -ENOMEM;

	__module_get(THIS_MODULE);
	spin_lock_init(&fence->lock);
	INIT_DELAYED_WORK(&fence->work, fence_work);
	dma_fence_init(&fence->base, &importer_fence_ops, &fence->lock,
		       dma_fence_context_alloc(1), 1);
	dma_resv_add_fence(resv, &fence->base, DMA_RESV_USAGE_BOOKKEEP);
	/* Our reference is that of who signals it. */
	if (ms)
		schedule_delayed_work(&fence->work, msecs_to_jiffies(ms));
	else
		list_add(&fence->node, &importer->fences);
	return 0;
}

static void importer_detach(struct importer *importer)
{
	struct dma_buf_attachment *attach = importer->attach;
	struct dma_buf *dmabuf = attach->dmabuf;

	dma_resv_lock(dmabuf->resv, NULL);
	drop_all(importer, attach);
	signal_fences(importer);
	dma_resv_unlock(dmabuf->resv);
	/* Nothing is held, so it will not be queued again. */
	cancel_delayed_work_sync(&importer->drop);
	dma_buf_detach(dmabuf, attach);
	dma_buf_put(dmabuf);
	importer->attach = NULL;
}

static int importer_pin(struct importer *importer)
{
	int ret;

	/* A static importer's pin is the core's. */
	if (!dma_buf_attachment_is_dynamic(importer->attach))
		return -EINVAL;

	ret = dma_buf_pin(importer->attach);
	if (!ret)
		importer->pins++;
	return ret;
}

static int importer_unpin(struct importer *importer)
{
	if (!importer->pins)
		return -ENOTCONN;

	dma_buf_unpin(importer->attach);
	importer->pins--;
	return 0;
}

static int importer_map(struct importer *importer, u32 direction)
{
	struct sg_table *sgt;
	long ret;

	if (importer->sgt)
		return -EBUSY;

	switch (direction) {
	case IMPORTER_BIDIRECTIONAL:
		importer->direction = DMA_BIDIRECTIONAL;
		break;
	case IMPORTER_TO_DEVICE:
		importer->direction = DMA_TO_DEVICE;
		break;
	case IMPORTER_FROM_DEVICE:
		importer->direction = DMA_FROM_DEVICE;
		break;
	default:
		return -EINVAL;
	}

	sgt = dma_buf_map_attachment(importer->attach, importer->direction);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);

	/* A move may still be going on. */
	ret = dma_resv_wait_timeout(importer->attach->dmabuf->resv,
				    DMA_RESV_USAGE_KERNEL, false,
				    MAX_SCHEDULE_TIMEOUT);
	if (ret < 0) {
		dma_buf_unmap_attachment(importer->attach, sgt,
					 importer->direction);
		return ret;
	}
	importer->sgt = sgt;
	return 0;
}

static int importer_unmap(struct importer *importer)
{
	if (!importer->sgt)
		return -ENOTCONN;

	dma_buf_unmap_attachment(importer->attach, importer->sgt,
				 importer->direction);
	importer->sgt = NULL;
	return 0;
}

static int importer_state(const struct importer *importer,
			  struct importer_state *state)
{
	state->pins = importer->pins;
	state->segments = importer->sgt ? importer->sgt->nents : 0;
	state->vmapped = !iosys_map_is_null(&importer->vmap);
	state->moves = importer->moves;
	return 0;
}

static int importer_segment(const struct importer *importer,
			    struct importer_segment *segment)
{
	struct scatterlist *sg;
	int i;

	if (!importer->sgt)
		return -ENOTCONN;

	for_each_sgtable_dma_sg(importer->sgt, sg, i) {
		if (i != segment->index)
			continue;
		segment->address = sg_dma_address(sg);
		segment->length = sg_dma_len(sg);
		segment->bus_address = sg_dma_is_bus_address(sg);
		return 0;
	}
	return -EINVAL;
}

/*
 * dma_buf_vmap() warns when the exporter refuses, which is what tests want to
 * see: ask the exporter itself first.
 */
static int ask_vmap(struct dma_buf *dmabuf)
{
	struct iosys_map map;
	int ret;

	if (dmabuf->vmapping_counter || !dmabuf->ops->vmap)
		return 0;

	ret = dmabuf->ops->vmap(dmabuf, &map);
	if (!ret && dmabuf->ops->vunmap)
		dmabuf->ops->vunmap(dmabuf, &map);
	return ret;
}

static int importer_vmap(struct importer *importer, u32 *is_iomem)
{
	struct dma_buf *dmabuf = importer->attach->dmabuf;
	int ret;

	if (!iosys_map_is_null(&importer->vmap))
		return -EBUSY;

	ret = ask_vmap(dmabuf);
	if (ret)
		return ret;
	ret = dma_buf_vmap(dmabuf, &importer->vmap);
	if (ret) {
		iosys_map_clear(&importer->vmap);
		return ret;
	}
	*is_iomem = importer->vmap.is_iomem;
	return 0;
}

static int importer_vunmap(struct importer *importer)
{
	if (iosys_map_is_null(&importer->vmap))
		return -ENOTCONN;

	dma_buf_vunmap(importer->attach->dmabuf, &importer->vmap);
	iosys_map_clear(&importer->vmap);
	return 0;
}

/* The segment that an offset into the mapping is in, and what remains. */
static struct scatterlist *segment_at(struct sg_table *sgt, u64 *offset)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		if (*offset < sg_dma_len(sg))
			return sg;
		*offset -= sg_dma_len(sg);
	}
	return NULL;
}

/* The reservation lock keeps the mapping while the device uses it. */
static int importer_dma(struct importer *importer,
			const struct importer_dma *arg)
{
	bool to_edu = arg->direction == IMPORTER_TO_DEVICE;
	u32 done, length;
	int ret;

	if (!importer->sgt)
		return -ENOTCONN;
	if (!edu || importer->attach->dev != &edu->dev)
		return -ENODEV;
	if (arg->length > IMPORTER_MAX_DMA ||
	    (!to_edu && arg->direction != IMPORTER_FROM_DEVICE))
		return -EINVAL;
	if (importer->direction == (to_edu ? DMA_FROM_DEVICE : DMA_TO_DEVICE))
		return -EINVAL;

	for (done = 0; done < arg->length; done += length) {
		u64 offset = arg->offset + done;
		struct scatterlist *sg = segment_at(importer->sgt, &offset);

		if (!sg)
			return -EINVAL;
		length = min(arg->length - done, sg_dma_len(sg) - (u32)offset);
		mutex_lock(&dma_lock);
		ret = edu_transfer(edu, edu_registers,
				   sg_dma_address(sg) + offset, done, length,
				   to_edu);
		mutex_unlock(&dma_lock);
		if (ret)
			return ret;
	}
	return 0;
}

static int access_vmap(struct importer *importer, void *bounce,
		       const struct importer_access *arg, bool write)
{
	size_t size = importer->attach->dmabuf->size;

	if (iosys_map_is_null(&importer->vmap))
		return -ENOTCONN;
	if (arg->offset > size || arg->length > size - arg->offset)
		return -EINVAL;

	if (write)
		iosys_map_memcpy_to(&importer->vmap, arg->offset, bounce,
				    arg->length);
	else
		iosys_map_memcpy_from(bounce, &importer->vmap, arg->offset,
				      arg->length);
	return 0;
}

/* No user memory is touched under the reservation lock. */
static int importer_access(struct importer *importer,
			   const struct importer_access *arg, bool write)
{
	struct dma_resv *resv = importer->attach->dmabuf->resv;
	void __user *data = u64_to_user_ptr(arg->data);
	void *bounce;
	int ret;

	if (!arg->length || arg->length > IMPORTER_MAX_ACCESS)
		return -EINVAL;
	bounce = write ? vmemdup_user(data, arg->length) :
			 kvzalloc(arg->length, GFP_KERNEL);
	if (IS_ERR_OR_NULL(bounce))
		return bounce ? PTR_ERR(bounce) : -ENOMEM;

	dma_resv_lock(resv, NULL);
	ret = access_vmap(importer, bounce, arg, write);
	dma_resv_unlock(resv);

	if (!ret && !write && copy_to_user(data, bounce, arg->length))
		ret = -EFAULT;
	kvfree(bounce);
	return ret;
}

union importer_arg {
	struct importer_attach attach;
	struct importer_state state;
	struct importer_segment segment;
	struct importer_access access;
	struct importer_dma dma;
	u32 value;
};

/* The calls that are made with the reservation lock. */
static int locked_call(struct importer *importer, unsigned int cmd,
		       union importer_arg *arg)
{
	dma_resv_assert_held(importer->attach->dmabuf->resv);

	switch (cmd) {
	case IMPORTER_PIN:
		return importer_pin(importer);
	case IMPORTER_UNPIN:
		return importer_unpin(importer);
	case IMPORTER_MAP:
		return importer_map(importer, arg->value);
	case IMPORTER_UNMAP:
		return importer_unmap(importer);
	case IMPORTER_STATE:
		return importer_state(importer, &arg->state);
	case IMPORTER_SEGMENT:
		return importer_segment(importer, &arg->segment);
	case IMPORTER_VMAP:
		return importer_vmap(importer, &arg->value);
	case IMPORTER_VUNMAP:
		return importer_vunmap(importer);
	case IMPORTER_DMA:
		return importer_dma(importer, &arg->dma);
	case IMPORTER_FENCE:
		return add_fence(importer, arg->value);
	default:
		return -ENOTTY;
	}
}

static int importer_call(struct importer *importer, unsigned int cmd,
			 union importer_arg *arg)
{
	struct dma_resv *resv;
	int ret;

	if (cmd == IMPORTER_ATTACH)
		return importer_attach(importer, &arg->attach);
	if (!importer->attach)
		return -ENOTCONN;

	switch (cmd) {
	case IMPORTER_DETACH:
		importer_detach(importer);
		return 0;
	case IMPORTER_READ:
		return importer_access(importer, &arg->access, false);
	case IMPORTER_WRITE:
		return importer_access(importer, &arg->access, true);
	}

	resv = importer->attach->dmabuf->resv;
	dma_resv_lock(resv, NULL);
	ret = locked_call(importer, cmd, arg);
	dma_resv_unlock(resv);
	return ret;
}

static long importer_ioctl(struct file *file, unsigned int cmd,
			   unsigned long uarg)
{
	struct importer *importer = file->private_data;
	union importer_arg arg = {};
	size_t size = _IOC_SIZE(cmd);
	long ret;

	if (_IOC_TYPE(cmd) != IMPORTER_IOC_MAGIC || size > sizeof(arg))
		return -ENOTTY;
	if (_IOC_DIR(cmd) & _IOC_WRITE &&
	    copy_from_user(&arg, (void __user *)uarg, size))
		return -EFAULT;

	down_read(&edu_sem);
	mutex_lock(&importer->lock);
	ret = importer_call(importer, cmd, &arg);
	mutex_unlock(&importer->lock);
	up_read(&edu_sem);

	if (!ret && _IOC_DIR(cmd) & _IOC_READ &&
	    copy_to_user((void __user *)uarg, &arg, size))
		ret = -EFAULT;
	return ret;
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *importer = kzalloc(sizeof(*importer), GFP_KERNEL);

	if (!importer)
		return -ENOMEM;

	mutex_init(&importer->lock);
	INIT_DELAYED_WORK(&importer->drop, drop_work);
	INIT_LIST_HEAD(&importer->fences);
	down_write(&edu_sem);
	list_add(&importer->node, &importers);
	up_write(&edu_sem);
	file->private_data = importer;
	return nonseekable_open(inode, file);
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *importer = file->private_data;

	down_read(&edu_sem);
	if (importer->attach)
		importer_detach(importer);
	up_read(&edu_sem);

	down_write(&edu_sem);
	list_del(&importer->node);
	up_write(&edu_sem);
	mutex_destroy(&importer->lock);
	kfree(importer);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.unlocked_ioctl = importer_ioctl,
};

static struct miscdevice importer_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "importer",
	.fops = &importer_fops,
};

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	void __iomem *registers = edu_enable(pdev);
	int ret = 0;

	if (IS_ERR(registers))
		return PTR_ERR(registers);

	down_write(&edu_sem);
	if (edu) {
		ret = -EBUSY;
	} else {
		edu = pdev;
		edu_registers = registers;
	}
	up_write(&edu_sem);
	return ret;
}

/* Whoever uses the device loses what it has attached. */
static void edu_remove(struct pci_dev *pdev)
{
	struct importer *importer;

	down_write(&edu_sem);
	list_for_each_entry(importer, &importers, node)
		if (importer->attach && importer->attach->dev == &pdev->dev)
			importer_detach(importer);
	edu = NULL;
	edu_registers = NULL;
	up_write(&edu_sem);
	pci_clear_master(pdev);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = KBUILD_MODNAME,
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
};

static int __init importer_init(void)
{
	int ret;

	ret = misc_register(&importer_misc);
	if (ret)
		return ret;

	ret = pci_register_driver(&edu_driver);
	if (ret)
		misc_deregister(&importer_misc);
	return ret;
}

static void __exit importer_exit(void)
{
	pci_unregister_driver(&edu_driver);
	misc_deregister(&importer_misc);
}

module_init(importer_init);
module_exit(importer_exit);

MODULE_DESCRIPTION("dma-buf importer for tests");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_IMPORT_NS(DMA_BUF);
