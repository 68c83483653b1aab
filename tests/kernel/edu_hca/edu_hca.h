/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * edu_hca: an RDMA device that is QEMU's edu, as far as that goes: it has user
 * MRs, whose memory it reaches by DMA, and copies between them. There is no
 * network. For tests only.
 *
 * The copy is a method of the driver's own, of UVERBS_OBJECT_MR:
 *	FROM, TO		handles of MRs
 *	FROM_IOVA, TO_IOVA	where
 *	LENGTH			in bytes, at most EDU_HCA_MAX_COPY
 * It fails with EINVAL outside of an MR, with EACCES if TO was registered
 * without IBV_ACCESS_LOCAL_WRITE, and with EIO if an MR's memory has been
 * taken back.
 *
 * Another tells what the device knows of an MR:
 *	HANDLE			of the MR
 *	INDEX			of a part that one DMA address reaches
 *	PART			struct edu_hca_part
 * It fails with EINVAL if there is no such part, and with EIO as above.
 */
#ifndef TESTS_EDU_HCA_H
#define TESTS_EDU_HCA_H

#include <linux/types.h>

/* (1 << UVERBS_ID_NS_SHIFT), from where the ids of drivers begin */
enum edu_hca_mr_methods {
	EDU_HCA_METHOD_COPY = 1 << 12,
	EDU_HCA_METHOD_QUERY,
};

enum edu_hca_copy_attributes {
	EDU_HCA_ATTR_COPY_FROM = 1 << 12,
	EDU_HCA_ATTR_COPY_TO,
	EDU_HCA_ATTR_COPY_FROM_IOVA,
	EDU_HCA_ATTR_COPY_TO_IOVA,
	EDU_HCA_ATTR_COPY_LENGTH,
};

enum edu_hca_query_attributes {
	EDU_HCA_ATTR_QUERY_HANDLE = 1 << 12,
	EDU_HCA_ATTR_QUERY_INDEX,
	EDU_HCA_ATTR_QUERY_PART,
};

/**
 * struct edu_hca_part - a part of an MR, and the MR
 * @address: what the device puts on the bus
 * @length: in bytes
 * @page_size: of the MR, by ib_umem_find_best_pgsz()
 * @parts: of the MR
 * @bus_address: 1 if @address is a PCI bus address, for peers
 */
struct edu_hca_part {
	__u64 address;
	__u64 length;
	__u64 page_size;
	__u32 parts;
	__u32 bus_address;
};

/* Of edu's 4096 bytes; QEMU 7 ends itself when the last one is touched. */
enum { EDU_HCA_MAX_COPY = 4088 };

#endif /* TESTS_EDU_HCA_H */
