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
 */
#ifndef TESTS_EDU_HCA_H
#define TESTS_EDU_HCA_H

/* (1 << UVERBS_ID_NS_SHIFT), from where the ids of drivers begin */
enum edu_hca_mr_methods {
	EDU_HCA_METHOD_COPY = 1 << 12,
};

enum edu_hca_copy_attributes {
	EDU_HCA_ATTR_COPY_FROM = 1 << 12,
	EDU_HCA_ATTR_COPY_TO,
	EDU_HCA_ATTR_COPY_FROM_IOVA,
	EDU_HCA_ATTR_COPY_TO_IOVA,
	EDU_HCA_ATTR_COPY_LENGTH,
};

/* Of edu's 4096 bytes; QEMU 7 ends itself when the last one is touched. */
enum { EDU_HCA_MAX_COPY = 4088 };

#endif /* TESTS_EDU_HCA_H */
