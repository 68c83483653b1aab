/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The registers of QEMU's edu device that its DMA engine has, in BAR 0.
 */
#ifndef TESTS_EDU_REGISTERS_H
#define TESTS_EDU_REGISTERS_H

#define EDU_DMA_SOURCE		0x80
#define EDU_DMA_DESTINATION	0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_COMMAND		0x98
#define EDU_DMA_START		0x1
#define EDU_DMA_FROM_BUFFER	0x2

/* Where the engine sees its own buffer. */
#define EDU_BUFFER		0x40000

#endif /* TESTS_EDU_REGISTERS_H */
