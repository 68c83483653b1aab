/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * /dev/importer: a dma-buf importer that does step by step what user space
 * tells it to. For tests only.
 *
 * Each open file is one importer, with at most one attachment; close() undoes
 * all that is left. The calls fail with what the dma-buf calls behind them
 * return, and with these of the importer's own: ENOTCONN when there is no
 * attachment, mapping, pin or vmap to work with, EBUSY when there is one
 * already, ENODEV when there is no edu device.
 */
#ifndef TESTS_IMPORTER_H
#define TESTS_IMPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

enum importer_kind {
	IMPORTER_REVOCABLE,	/* edu, dynamic, with move_notify() */
	/*
	 * edu, dynamic, without move_notify(). A kernel that does not know
	 * such importers warns: not for kernels without the series.
	 */
	IMPORTER_DEAF,
	IMPORTER_STATIC,	/* edu, the core pins and maps in attach */
	IMPORTER_VIRTUAL,	/* as REVOCABLE, for a device without DMA */
};

/* What move_notify() does: a delay in ms after which a worker drops all, or */
#define IMPORTER_DROP_INSIDE	(-1)	/* drop all in the callback itself */
#define IMPORTER_KEEP		(-2)	/* leave that to the user */

/**
 * struct importer_attach - argument of IMPORTER_ATTACH
 * @fd: in: a dma-buf
 * @kind: in: enum importer_kind
 * @drop_after: in: ms, IMPORTER_DROP_INSIDE or IMPORTER_KEEP
 */
struct importer_attach {
	__s32 fd;
	__u32 kind;
	__s32 drop_after;
};

enum importer_direction {
	IMPORTER_BIDIRECTIONAL,
	IMPORTER_TO_DEVICE,
	IMPORTER_FROM_DEVICE,
};

/**
 * struct importer_state - result of IMPORTER_STATE
 * @pins: how many are held
 * @segments: of the mapping; 0 if there is none
 * @vmapped: 1 if there is a vmap
 * @moves: calls of move_notify() since IMPORTER_ATTACH
 */
struct importer_state {
	__u32 pins;
	__u32 segments;
	__u32 vmapped;
	__u32 moves;
};

/**
 * struct importer_segment - argument and result of IMPORTER_SEGMENT
 * @index: in: less than @segments of struct importer_state
 * @bus_address: out: 1 if @address is a PCI bus address, for peers
 * @address: out: what the device puts on the bus
 * @length: out: in bytes
 */
struct importer_segment {
	__u32 index;
	__u32 bus_address;
	__aligned_u64 address;
	__aligned_u64 length;
};

/**
 * struct importer_access - argument of IMPORTER_READ and IMPORTER_WRITE
 * @offset: in: into the vmap
 * @data: in: the user's buffer
 * @length: in: bytes, at most IMPORTER_MAX_ACCESS
 */
struct importer_access {
	__aligned_u64 offset;
	__aligned_u64 data;
	__u32 length;
	__u32 reserved;
};

#define IMPORTER_MAX_ACCESS	65536

/**
 * struct importer_dma - argument of IMPORTER_DMA
 * @offset: in: into the mapping
 * @length: in: bytes, at most IMPORTER_MAX_DMA
 * @direction: in: IMPORTER_TO_DEVICE fills edu's buffer from the mapping,
 *	IMPORTER_FROM_DEVICE writes it to the mapping
 *
 * Both start at the beginning of edu's buffer, which all importers share.
 */
struct importer_dma {
	__aligned_u64 offset;
	__u32 length;
	__u32 direction;
};

/* Of edu's 4096 bytes; QEMU 7 ends itself when the last one is touched. */
#define IMPORTER_MAX_DMA	4088

#define IMPORTER_IOC_MAGIC	0xBD
#define IMPORTER_ATTACH		_IOW(IMPORTER_IOC_MAGIC, 0x10, struct importer_attach)
#define IMPORTER_DETACH		_IO(IMPORTER_IOC_MAGIC, 0x11)
#define IMPORTER_PIN		_IO(IMPORTER_IOC_MAGIC, 0x12)
#define IMPORTER_UNPIN		_IO(IMPORTER_IOC_MAGIC, 0x13)
#define IMPORTER_MAP		_IOW(IMPORTER_IOC_MAGIC, 0x14, __u32)
#define IMPORTER_UNMAP		_IO(IMPORTER_IOC_MAGIC, 0x15)
#define IMPORTER_STATE		_IOR(IMPORTER_IOC_MAGIC, 0x16, struct importer_state)
#define IMPORTER_SEGMENT	_IOWR(IMPORTER_IOC_MAGIC, 0x17, struct importer_segment)
/* The result is 1 if the vmap is I/O memory. */
#define IMPORTER_VMAP		_IOR(IMPORTER_IOC_MAGIC, 0x18, __u32)
#define IMPORTER_VUNMAP		_IO(IMPORTER_IOC_MAGIC, 0x19)
#define IMPORTER_READ		_IOW(IMPORTER_IOC_MAGIC, 0x1a, struct importer_access)
#define IMPORTER_WRITE		_IOW(IMPORTER_IOC_MAGIC, 0x1b, struct importer_access)
#define IMPORTER_DMA		_IOW(IMPORTER_IOC_MAGIC, 0x1c, struct importer_dma)

/* A fence on the dma-buf, signaled after so many ms, or if 0 by detaching. */
#define IMPORTER_FENCE		_IOW(IMPORTER_IOC_MAGIC, 0x1d, __u32)

#endif /* TESTS_IMPORTER_H */
