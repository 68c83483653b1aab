// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * /dev/iopmemN and its sysfs attributes.
 */
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

#define IOPMEM_MAX_DEVS		256

static dev_t iopmem_devt;
static DEFINE_IDA(iopmem_ida);

static struct iopmem_dev *to_iopmem_dev(struct device *dev)
{
	return container_of(dev, struct iopmem_dev, dev);
}

static u64 free_bytes(struct iopmem_provider *provider)
{
	u64 allocated;

	mutex_lock(&provider->regions_lock);
	allocated = provider->allocated;
	mutex_unlock(&provider->regions_lock);
	/*
	 * Memory on its way back to the pool may be somebody else's already, and
	 * counts twice then.
	 */
	return provider->size - min(allocated, provider->size);
}

static int iopmem_open(struct inode *inode, struct file *file)
{
	struct iopmem_dev *idev =
		container_of(inode->i_cdev, struct iopmem_dev, cdev);

	/* The cdev's reference keeps idev until the file is released. */
	file->private_data = idev;
	file->f_mapping = idev->provider->inode->i_mapping;
	return nonseekable_open(inode, file);
}

static int iopmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct iopmem_dev *idev = file->private_data;
	struct iopmem_region *region;
	int ret;

	if (vma->vm_pgoff)
		return -EINVAL;

	region = iopmem_region_alloc(idev->provider,
				     vma->vm_end - vma->vm_start, true);
	if (IS_ERR(region))
		return PTR_ERR(region);

	ret = iopmem_region_mmap(region, vma);
	if (ret)
		iopmem_region_put(region);
	return ret;
}

static int check_alloc(struct file *file, const struct iopmem_alloc *arg)
{
	u32 mode = arg->fd_flags & O_ACCMODE;

	if (!arg->size || arg->size > SIZE_MAX - PAGE_SIZE)
		return -EINVAL;
	if (arg->flags & ~IOPMEM_ALLOC_NOZERO || arg->fd || arg->reserved)
		return -EINVAL;
	if (arg->fd_flags & ~(O_ACCMODE | O_CLOEXEC) ||
	    (mode != O_RDONLY && mode != O_RDWR))
		return -EINVAL;
	if (mode == O_RDWR && !(file->f_mode & FMODE_WRITE))
		return -EACCES;
	if (arg->flags & IOPMEM_ALLOC_NOZERO && !capable(CAP_SYS_RAWIO))
		return -EPERM;
	return 0;
}

static int iopmem_ioctl_alloc(struct file *file, void __user *uarg,
			      size_t usize)
{
	struct iopmem_dev *idev = file->private_data;
	struct iopmem_region *region;
	struct iopmem_alloc arg;
	struct dma_buf *dmabuf;
	bool zero;
	int ret;

	if (usize < sizeof(arg))
		return -EINVAL;
	ret = copy_struct_from_user(&arg, sizeof(arg), uarg, usize);
	if (ret)
		return ret;
	ret = check_alloc(file, &arg);
	if (ret)
		return ret;

	zero = !(arg.flags & IOPMEM_ALLOC_NOZERO);
	arg.size = PAGE_ALIGN(arg.size);
	region = iopmem_region_alloc(idev->provider, arg.size, zero);
	if (IS_ERR(region))
		return PTR_ERR(region);

	if (zero) {
		ret = iopmem_region_zero(region, 0, arg.size);
		if (ret)
			goto err_region;
	}

	dmabuf = iopmem_dmabuf_export(region, arg.fd_flags & O_ACCMODE);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto err_region;
	}

	arg.fd = get_unused_fd_flags(arg.fd_flags & O_CLOEXEC);
	if (arg.fd < 0) {
		ret = arg.fd;
		goto err_dmabuf;
	}

	/* Before the descriptor exists, so that it need not be taken back. */
	if (copy_to_user(uarg, &arg, sizeof(arg))) {
		ret = -EFAULT;
		goto err_fd;
	}
	fd_install(arg.fd, dmabuf->file);
	return 0;

err_fd:
	put_unused_fd(arg.fd);
err_dmabuf:
	dma_buf_put(dmabuf);
	return ret;
err_region:
	iopmem_region_put(region);
	return ret;
}

static int iopmem_ioctl_info(struct file *file, void __user *uarg,
			     size_t usize)
{
	struct iopmem_dev *idev = file->private_data;
	struct iopmem_provider *provider = idev->provider;
	struct pci_dev *pdev = provider->pdev;
	struct iopmem_info info;
	int ret;

	if (usize < sizeof(info))
		return -EINVAL;
	ret = copy_struct_from_user(&info, sizeof(info), uarg, usize);
	if (ret)
		return ret;
	if (memchr_inv(&info, 0, sizeof(info)))
		return -EINVAL;
	if (!READ_ONCE(provider->alive))
		return -ENODEV;

	info.size = provider->size;
	info.free = free_bytes(provider);
	info.granularity = PAGE_SIZE;
	info.cache_mode = provider->cache;
	info.flags = provider->attached ? IOPMEM_INFO_ATTACHED : 0;
	info.pci_domain = pci_domain_nr(pdev->bus);
	info.pci_bus = pdev->bus->number;
	info.pci_devfn = pdev->devfn;
	strscpy(info.name, dev_name(&idev->dev), sizeof(info.name));
	return copy_to_user(uarg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long iopmem_ioctl(struct file *file, unsigned int cmd,
			 unsigned long arg)
{
	void __user *uarg = (void __user *)arg;
	size_t usize = _IOC_SIZE(cmd);

	if (_IOC_TYPE(cmd) != IOPMEM_IOC_MAGIC ||
	    _IOC_DIR(cmd) != (_IOC_READ | _IOC_WRITE))
		return -ENOTTY;

	switch (_IOC_NR(cmd)) {
	case _IOC_NR(IOPMEM_IOC_ALLOC):
		return iopmem_ioctl_alloc(file, uarg, usize);
	case _IOC_NR(IOPMEM_IOC_INFO):
		return iopmem_ioctl_info(file, uarg, usize);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations iopmem_fops = {
	.owner = THIS_MODULE,
	.open = iopmem_open,
	.mmap = iopmem_mmap,
	.unlocked_ioctl = iopmem_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static ssize_t size_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	return sysfs_emit(buf, "%llu\n", to_iopmem_dev(dev)->provider->size);
}
static DEVICE_ATTR_RO(size);

static ssize_t free_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	return sysfs_emit(buf, "%llu\n", free_bytes(to_iopmem_dev(dev)->provider));
}
static DEVICE_ATTR_RO(free);

const char *const iopmem_cache_names[] = {
	[IOPMEM_CACHE_UC] = "uc",
	[IOPMEM_CACHE_WC] = "wc",
};

static ssize_t cache_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	enum iopmem_cache_mode cache = to_iopmem_dev(dev)->provider->cache;

	return sysfs_emit(buf, "%s\n", iopmem_cache_names[cache]);
}
static DEVICE_ATTR_RO(cache);

static ssize_t mode_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	bool attached = to_iopmem_dev(dev)->provider->attached;

	return sysfs_emit(buf, "%s\n", attached ? "attached" : "bound");
}
static DEVICE_ATTR_RO(mode);

static ssize_t user_limit_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	struct iopmem_provider *provider = to_iopmem_dev(dev)->provider;
	u64 limit;

	mutex_lock(&provider->regions_lock);
	limit = provider->user_limit;
	mutex_unlock(&provider->regions_lock);
	return sysfs_emit(buf, "%llu\n", limit);
}

/*
 * Bytes that each user may have allocated at a time, 0 for no limit. Kept as it
 * was written; as regions are whole pages, what counts is the multiple of
 * PAGE_SIZE at or below it. Who has more already keeps it and gets no more.
 */
static ssize_t user_limit_store(struct device *dev,
				struct device_attribute *attr,
				const char *buf, size_t count)
{
	struct iopmem_provider *provider = to_iopmem_dev(dev)->provider;
	u64 limit;
	int ret;

	ret = kstrtou64(buf, 0, &limit);
	if (ret)
		return ret;

	mutex_lock(&provider->regions_lock);
	provider->user_limit = limit;
	mutex_unlock(&provider->regions_lock);
	return count;
}
static DEVICE_ATTR_RW(user_limit);

static struct attribute *iopmem_attrs[] = {
	&dev_attr_size.attr,
	&dev_attr_free.attr,
	&dev_attr_cache.attr,
	&dev_attr_mode.attr,
	&dev_attr_user_limit.attr,
	NULL,
};
ATTRIBUTE_GROUPS(iopmem);

static void iopmem_dev_release(struct device *dev)
{
	struct iopmem_dev *idev = to_iopmem_dev(dev);

	ida_free(&iopmem_ida, idev->id);
	iopmem_provider_put(idev->provider);
	kfree(idev);
}

const struct class iopmem_class = {
	.name = "iopmem",
	.dev_groups = iopmem_groups,
	.dev_release = iopmem_dev_release,
};

/**
 * iopmem_dev_create - make the device node of a provider
 * @provider: has none yet, and has been measured; the node takes a reference of
 *	its own
 * @attached: the memory is another driver's
 *
 * The caller holds the PCI function's device lock, as it must for
 * iopmem_dev_destroy().
 *
 * Return: 0 or a negative errno.
 */
int iopmem_dev_create(struct iopmem_provider *provider, bool attached)
{
	struct iopmem_dev *idev;
	int ret;

	idev = kzalloc(sizeof(*idev), GFP_KERNEL);
	if (!idev)
		return -ENOMEM;

	idev->id = ida_alloc_max(&iopmem_ida, IOPMEM_MAX_DEVS - 1, GFP_KERNEL);
	if (idev->id < 0) {
		ret = idev->id;
		kfree(idev);
		return ret;
	}

	/* From here on put_device() undoes everything. */
	device_initialize(&idev->dev);
	idev->provider = provider;
	kref_get(&provider->ref);
	idev->dev.class = &iopmem_class;
	idev->dev.parent = &provider->pdev->dev;
	idev->dev.devt = MKDEV(MAJOR(iopmem_devt), idev->id);
	ret = dev_set_name(&idev->dev, "iopmem%d", idev->id);
	if (ret)
		goto err_put;

	cdev_init(&idev->cdev, &iopmem_fops);
	idev->cdev.owner = THIS_MODULE;
	provider->attached = attached;
	provider->dev = idev;
	ret = cdev_device_add(&idev->cdev, &idev->dev);
	if (ret)
		goto err_dev;

	pci_info(provider->pdev, "%s: %llu KiB, %s\n", dev_name(&idev->dev),
		 provider->size >> 10, iopmem_cache_names[provider->cache]);
	return 0;

err_dev:
	provider->dev = NULL;
	provider->attached = false;
err_put:
	put_device(&idev->dev);
	return ret;
}

/**
 * iopmem_dev_destroy - remove the device node
 * @idev: its provider has been revoked; open files stay, and get ENODEV
 */
void iopmem_dev_destroy(struct iopmem_dev *idev)
{
	idev->provider->dev = NULL;
	cdev_device_del(&idev->cdev, &idev->dev);
	put_device(&idev->dev);
}

int iopmem_chardev_init(void)
{
	int ret;

	ret = alloc_chrdev_region(&iopmem_devt, 0, IOPMEM_MAX_DEVS, "iopmem");
	if (ret)
		return ret;

	ret = class_register(&iopmem_class);
	if (ret)
		unregister_chrdev_region(iopmem_devt, IOPMEM_MAX_DEVS);
	return ret;
}

void iopmem_chardev_exit(void)
{
	class_unregister(&iopmem_class);
	unregister_chrdev_region(iopmem_devt, IOPMEM_MAX_DEVS);
	ida_destroy(&iopmem_ida);
}
