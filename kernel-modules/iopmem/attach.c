// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * /sys/class/iopmem/attach and detach: a device node for memory that another
 * driver provides, such as the controller memory buffer of an NVMe, which
 * exists only while the nvme driver is bound.
 */
#include <linux/module.h>
#include <linux/pci-p2pdma.h>

#include "compat.h"
#include "internal.h"

static struct pci_dev *pci_dev_from_text(const char *buf)
{
	unsigned int domain, bus, slot, fn;
	struct pci_dev *pdev;
	int end = 0;

	if (sscanf(buf, "%x:%x:%x.%x%n", &domain, &bus, &slot, &fn,
		   &end) != 4 || (buf[end] && buf[end] != '\n') ||
	    bus > 0xff || slot > 0x1f || fn > 7)
		return ERR_PTR(-EINVAL);

	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, fn));
	return pdev ?: ERR_PTR(-ENODEV);
}

/* With the device lock, so that the driver stays. */
static int attach(struct pci_dev *pdev)
{
	struct iopmem_provider *provider;
	int ret;

	if (!p2pmem_has_pool(pdev)) {
		pci_err(pdev, "this function has no peer-to-peer memory\n");
		return -ENODEV;
	}
	provider = iopmem_provider_get(pdev);
	if (IS_ERR(provider))
		return PTR_ERR(provider);

	if (provider->dev) {
		ret = -EEXIST;
		goto out;
	}
	if (!pci_has_p2pmem(pdev)) {
		pci_err(pdev, "its driver keeps the peer-to-peer memory to itself\n");
		ret = -EPERM;
		goto out;
	}
	ret = iopmem_provider_measure(provider);
	if (ret) {
		pci_err(pdev, "all of the peer-to-peer memory is in use\n");
		goto out;
	}
	ret = iopmem_dev_create(provider, true);
out:
	iopmem_provider_put(provider);
	return ret;
}

/* With the device lock. */
static int detach(struct pci_dev *pdev)
{
	struct iopmem_provider *provider = iopmem_provider_get(pdev);
	int ret = -ENODEV;

	if (IS_ERR(provider))
		return PTR_ERR(provider);

	if (provider->dev && provider->attached) {
		iopmem_provider_retire(provider);
		iopmem_dev_destroy(provider->dev);
		ret = 0;
	}
	iopmem_provider_put(provider);
	return ret;
}

/* Does it to the function that is named, with its lock. */
static ssize_t store(const char *buf, size_t count,
		     int (*action)(struct pci_dev *pdev))
{
	struct pci_dev *pdev = pci_dev_from_text(buf);
	int ret;

	if (IS_ERR(pdev))
		return PTR_ERR(pdev);

	/* Whoever has the lock may wait for a disk: rmmod is not to wait, too. */
	if (!try_module_get(THIS_MODULE)) {
		ret = -ENODEV;
		goto out;
	}
	device_lock(&pdev->dev);
	ret = action(pdev);
	device_unlock(&pdev->dev);
	module_put(THIS_MODULE);
out:
	pci_dev_put(pdev);
	return ret ?: count;
}

static ssize_t attach_store(const struct class *class,
			    const struct class_attribute *attr,
			    const char *buf, size_t count)
{
	return store(buf, count, attach);
}
static CLASS_ATTR_WO(attach);

static ssize_t detach_store(const struct class *class,
			    const struct class_attribute *attr,
			    const char *buf, size_t count)
{
	return store(buf, count, detach);
}
static CLASS_ATTR_WO(detach);

void iopmem_attach_init(void)
{
	if (class_create_file(&iopmem_class, &class_attr_attach) ||
	    class_create_file(&iopmem_class, &class_attr_detach))
		pr_err("iopmem: no memory for attach and detach in /sys/class/iopmem: reload the module to have them\n");
}

/* Nobody can attach any more once the files are gone, which waits for writers. */
void iopmem_attach_exit(void)
{
	struct pci_dev *pdev;

	class_remove_file(&iopmem_class, &class_attr_attach);
	class_remove_file(&iopmem_class, &class_attr_detach);

	while ((pdev = iopmem_provider_next_attached())) {
		device_lock(&pdev->dev);
		detach(pdev);
		device_unlock(&pdev->dev);
		pci_dev_put(pdev);
	}
}
