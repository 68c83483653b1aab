// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * iopmem: PCI BAR memory as /dev/iopmemN.
 */
#include <linux/module.h>
#include <linux/version.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static int __init iopmem_init(void)
{
	int ret;

	ret = iopmem_provider_init();
	if (ret)
		return ret;

	ret = iopmem_chardev_init();
	if (ret)
		goto err_provider;

	ret = pci_register_driver(&iopmem_pci_driver);
	if (ret)
		goto err_chardev;

	/* From here on there may be open files, and nothing can fail. */
	iopmem_attach_init();
	iopmem_holders_init();
	return 0;

err_chardev:
	iopmem_provider_exit();
	iopmem_chardev_exit();
	return ret;
err_provider:
	iopmem_provider_exit();
	return ret;
}

static void __exit iopmem_exit(void)
{
	iopmem_holders_exit();
	/* Revokes and removes the devices that are bound to us. */
	pci_unregister_driver(&iopmem_pci_driver);
	iopmem_attach_exit();
	/* Waits for unbinding that is under way: that removes devices, too. */
	iopmem_provider_exit();
	iopmem_chardev_exit();
}

module_init(iopmem_init);
module_exit(iopmem_exit);

MODULE_DESCRIPTION("PCI BAR memory for RDMA and direct I/O");
MODULE_LICENSE("Dual BSD/GPL");
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS(DMA_BUF);
#else
MODULE_IMPORT_NS("DMA_BUF");
#endif
