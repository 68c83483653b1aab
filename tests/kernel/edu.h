/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * QEMU's edu device as a DMA master: it copies between a buffer of its own and
 * the bus address that it is told. For drivers of the tests.
 */
#ifndef TESTS_EDU_H
#define TESTS_EDU_H

#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/pci.h>
#include <linux/time64.h>

#include "edu_registers.h"

/* Each takes 100 ms in QEMU, whatever its length; a busy host adds to that. */
#define EDU_TIMEOUT_US		(30 * USEC_PER_SEC)

/* Enables the function; its registers or an ERR_PTR. All of it is devres'. */
static inline void __iomem *edu_enable(struct pci_dev *pdev)
{
	void __iomem *registers;
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return IOMEM_ERR_PTR(ret);
	ret = pcim_request_region(pdev, 0, KBUILD_MODNAME);
	if (ret)
		return IOMEM_ERR_PTR(ret);
	registers = pcim_iomap(pdev, 0, 0);
	if (!registers)
		return IOMEM_ERR_PTR(-ENOMEM);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return IOMEM_ERR_PTR(ret);
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	pci_set_master(pdev);
	return registers;
}

/*
 * Wait until edu has copied between its buffer and a DMA address. The caller
 * sees to it that there is one copy at a time.
 */
static inline int edu_transfer(struct pci_dev *edu, void __iomem *registers,
			       dma_addr_t address, u32 at, u32 length,
			       bool to_edu)
{
	u64 command = EDU_DMA_START;
	u32 status;
	int ret;

	if (to_edu) {
		writeq(address, registers + EDU_DMA_SOURCE);
		writeq(EDU_BUFFER + at, registers + EDU_DMA_DESTINATION);
	} else {
		command |= EDU_DMA_FROM_BUFFER;
		writeq(EDU_BUFFER + at, registers + EDU_DMA_SOURCE);
		writeq(address, registers + EDU_DMA_DESTINATION);
	}
	writeq(length, registers + EDU_DMA_COUNT);
	writeq(command, registers + EDU_DMA_COMMAND);

	ret = readl_poll_timeout(registers + EDU_DMA_COMMAND, status,
				 !(status & EDU_DMA_START), 1000,
				 EDU_TIMEOUT_US);
	if (ret)
		pci_err(edu, "DMA does not end\n");
	return ret;
}

#endif /* TESTS_EDU_H */
