// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * An RDMA device with a DMA engine, for tests: QEMU's edu. See edu_hca.h.
 *
 * It is what a NIC's driver is to peer memory: MRs on memory that the device
 * reaches by DMA addresses alone, and that it gives back on demand. A copy
 * holds the MR's lock while the device is at work, revocation takes it: when
 * that has returned no DMA to the MR is under way, and none will start.
 *
 * Locks: hca->dma_lock -> mr->lock, nothing is taken under the latter. The RDMA
 * core calls revoke_mr() with its own lock on the umem held, or with the dma-buf's
 * reservation lock, and waits for it in ib_umem_release(), which is therefore
 * called without either of ours.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>
#include <rdma/uverbs_ioctl.h>

#include "edu.h"
#include "edu_hca.h"

#define UVERBS_MODULE_NAME edu_hca
#include <rdma/uverbs_named_ioctl.h>

static bool invalidatable = true;
module_param(invalidatable, bool, 0644);
MODULE_PARM_DESC(invalidatable,
		 "new MRs can give their memory back, so that it may be peer memory");

struct edu_hca {
	struct ib_device ib_dev;
	struct pci_dev *pdev;
	void __iomem *registers;
	struct mutex dma_lock; /* one copy at a time: edu has one buffer */
	atomic_t last_key;
};

struct edu_mr {
	struct ib_mr ib_mr;
	struct ib_umem *umem;
	int access;
	struct mutex lock; /* protects revoked; held while there is DMA */
	bool revoked;
};

static struct edu_hca *to_hca(struct ib_device *ib_dev)
{
	return container_of(ib_dev, struct edu_hca, ib_dev);
}

static struct edu_mr *to_mr(struct ib_mr *ib_mr)
{
	return container_of(ib_mr, struct edu_mr, ib_mr);
}

static void revoke_mr(struct ib_umem *umem, void *cookie)
{
	struct edu_mr *mr = cookie;

	mutex_lock(&mr->lock);
	mr->revoked = true;
	mutex_unlock(&mr->lock);
}

static struct edu_mr *alloc_mr(struct ib_pd *pd, u64 length, u64 iova,
			       int access)
{
	struct edu_mr *mr = kzalloc(sizeof(*mr), GFP_KERNEL);

	if (!mr)
		return NULL;
	mutex_init(&mr->lock);
	mr->access = access;
	mr->ib_mr.lkey = atomic_inc_return(&to_hca(pd->device)->last_key);
	mr->ib_mr.rkey = mr->ib_mr.lkey;
	mr->ib_mr.iova = iova;
	mr->ib_mr.length = length;
	return mr;
}

static void free_mr(struct edu_mr *mr)
{
	mutex_destroy(&mr->lock);
	kfree(mr);
}

static struct ib_mr *edu_hca_reg_user_mr(struct ib_pd *pd, u64 start,
					 u64 length, u64 iova, int access,
					 struct ib_udata *udata)
{
	struct edu_mr *mr = alloc_mr(pd, length, iova, access);
	bool peer = READ_ONCE(invalidatable);
	int ret;

	if (!mr)
		return ERR_PTR(-ENOMEM);

	if (peer)
		mr->umem = ib_umem_get_peer(pd->device, start, length, access,
					    IB_PEER_MEM_ALLOW |
					    IB_PEER_MEM_INVAL_SUPP);
	else
		mr->umem = ib_umem_get(pd->device, start, length, access);
	if (IS_ERR(mr->umem)) {
		ret = PTR_ERR(mr->umem);
		goto err_free;
	}

	if (peer)
		ib_umem_activate_invalidation_notifier(mr->umem, revoke_mr,
						       mr);
	return &mr->ib_mr;

err_free:
	free_mr(mr);
	return ERR_PTR(ret);
}

/* With the dma-buf's reservation lock, before the core unmaps it. */
static void revoke_dmabuf_mr(void *cookie)
{
	revoke_mr(NULL, cookie);
}

static struct ib_mr *edu_hca_reg_user_mr_dmabuf(struct ib_pd *pd, u64 offset,
						u64 length, u64 iova, int fd,
						int access,
						struct uverbs_attr_bundle *attrs)
{
	struct edu_mr *mr = alloc_mr(pd, length, iova, access);
	struct ib_umem_dmabuf *umem_dmabuf;

	if (!mr)
		return ERR_PTR(-ENOMEM);

	umem_dmabuf = ib_umem_dmabuf_get_pinned_revocable_and_lock(pd->device,
								   offset,
								   length, fd,
								   access);
	if (IS_ERR(umem_dmabuf)) {
		free_mr(mr);
		return ERR_CAST(umem_dmabuf);
	}
	mr->umem = &umem_dmabuf->umem;
	ib_umem_dmabuf_set_revoke_locked(umem_dmabuf, revoke_dmabuf_mr, mr);
	ib_umem_dmabuf_revoke_unlock(umem_dmabuf);
	return &mr->ib_mr;
}

static int edu_hca_dereg_mr(struct ib_mr *ib_mr, struct ib_udata *udata)
{
	struct edu_mr *mr = to_mr(ib_mr);

	ib_umem_release(mr->umem);
	free_mr(mr);
	return 0;
}

/* The part of an MR at iova that one DMA address reaches. */
static int find_part(struct edu_mr *mr, u64 iova, dma_addr_t *address,
		     u32 *length)
{
	struct sg_table *sgt = &mr->umem->sgt_append.sgt;
	u64 offset = iova - mr->ib_mr.iova + ib_umem_offset(mr->umem);
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		if (offset < sg_dma_len(sg)) {
			*address = sg_dma_address(sg) + offset;
			*length = min_t(u64, *length, sg_dma_len(sg) - offset);
			return 0;
		}
		offset -= sg_dma_len(sg);
	}
	return -EINVAL;
}

static int copy_locked(struct edu_hca *hca, struct edu_mr *mr, u64 iova,
		       u32 total, bool to_edu)
{
	dma_addr_t address;
	u32 done, length;
	int ret;

	if (mr->revoked)
		return -EIO;

	for (done = 0; done < total; done += length) {
		length = total - done;
		ret = find_part(mr, iova + done, &address, &length);
		if (ret)
			return ret;
		ret = edu_transfer(hca->pdev, hca->registers, address, done,
				   length, to_edu);
		if (ret)
			return ret;
	}
	return 0;
}

static int copy_half(struct edu_hca *hca, struct edu_mr *mr, u64 iova,
		     u32 length, bool to_edu)
{
	u64 end;
	int ret;

	if (check_add_overflow(iova, (u64)length, &end) ||
	    iova < mr->ib_mr.iova || end - mr->ib_mr.iova > mr->ib_mr.length)
		return -EINVAL;

	mutex_lock(&mr->lock);
	ret = copy_locked(hca, mr, iova, length, to_edu);
	mutex_unlock(&mr->lock);
	return ret;
}

static int UVERBS_HANDLER(EDU_HCA_METHOD_COPY)(struct uverbs_attr_bundle *attrs)
{
	struct ib_mr *from = uverbs_attr_get_obj(attrs, EDU_HCA_ATTR_COPY_FROM);
	struct ib_mr *to = uverbs_attr_get_obj(attrs, EDU_HCA_ATTR_COPY_TO);
	struct edu_hca *hca = to_hca(from->device);
	u64 from_iova, to_iova;
	u32 length;
	int ret;

	ret = uverbs_copy_from(&from_iova, attrs, EDU_HCA_ATTR_COPY_FROM_IOVA);
	if (!ret)
		ret = uverbs_copy_from(&to_iova, attrs,
				       EDU_HCA_ATTR_COPY_TO_IOVA);
	if (!ret)
		ret = uverbs_copy_from(&length, attrs,
				       EDU_HCA_ATTR_COPY_LENGTH);
	if (ret)
		return ret;
	if (!length || length > EDU_HCA_MAX_COPY)
		return -EINVAL;
	if (!(to_mr(to)->access & IB_ACCESS_LOCAL_WRITE))
		return -EACCES;

	mutex_lock(&hca->dma_lock);
	ret = copy_half(hca, to_mr(from), from_iova, length, true);
	if (!ret)
		ret = copy_half(hca, to_mr(to), to_iova, length, false);
	mutex_unlock(&hca->dma_lock);
	return ret;
}

DECLARE_UVERBS_NAMED_METHOD(EDU_HCA_METHOD_COPY,
			    UVERBS_ATTR_IDR(EDU_HCA_ATTR_COPY_FROM,
					    UVERBS_OBJECT_MR,
					    UVERBS_ACCESS_READ,
					    UA_MANDATORY),
			    UVERBS_ATTR_IDR(EDU_HCA_ATTR_COPY_TO,
					    UVERBS_OBJECT_MR,
					    UVERBS_ACCESS_READ,
					    UA_MANDATORY),
			    UVERBS_ATTR_PTR_IN(EDU_HCA_ATTR_COPY_FROM_IOVA,
					       UVERBS_ATTR_TYPE(u64),
					       UA_MANDATORY),
			    UVERBS_ATTR_PTR_IN(EDU_HCA_ATTR_COPY_TO_IOVA,
					       UVERBS_ATTR_TYPE(u64),
					       UA_MANDATORY),
			    UVERBS_ATTR_PTR_IN(EDU_HCA_ATTR_COPY_LENGTH,
					       UVERBS_ATTR_TYPE(u32),
					       UA_MANDATORY));

static int query_locked(struct edu_mr *mr, u32 index, struct edu_hca_part *part)
{
	struct sg_table *sgt = &mr->umem->sgt_append.sgt;
	struct scatterlist *sg;
	int i;

	if (mr->revoked)
		return -EIO;
	if (index >= sgt->nents)
		return -EINVAL;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		if (i != index)
			continue;
		part->address = sg_dma_address(sg);
		part->length = sg_dma_len(sg);
		part->bus_address = sg_dma_is_bus_address(sg);
	}
	part->parts = sgt->nents;
	part->page_size = ib_umem_find_best_pgsz(mr->umem,
						 GENMASK(40, PAGE_SHIFT),
						 mr->ib_mr.iova);
	return 0;
}

static int UVERBS_HANDLER(EDU_HCA_METHOD_QUERY)(struct uverbs_attr_bundle *attrs)
{
	struct ib_mr *ib_mr = uverbs_attr_get_obj(attrs,
						  EDU_HCA_ATTR_QUERY_HANDLE);
	struct edu_mr *mr = to_mr(ib_mr);
	struct edu_hca_part part = {};
	u32 index;
	int ret;

	ret = uverbs_copy_from(&index, attrs, EDU_HCA_ATTR_QUERY_INDEX);
	if (ret)
		return ret;

	mutex_lock(&mr->lock);
	ret = query_locked(mr, index, &part);
	mutex_unlock(&mr->lock);
	if (ret)
		return ret;
	return uverbs_copy_to(attrs, EDU_HCA_ATTR_QUERY_PART, &part,
			      sizeof(part));
}

DECLARE_UVERBS_NAMED_METHOD(EDU_HCA_METHOD_QUERY,
			    UVERBS_ATTR_IDR(EDU_HCA_ATTR_QUERY_HANDLE,
					    UVERBS_OBJECT_MR,
					    UVERBS_ACCESS_READ,
					    UA_MANDATORY),
			    UVERBS_ATTR_PTR_IN(EDU_HCA_ATTR_QUERY_INDEX,
					       UVERBS_ATTR_TYPE(u32),
					       UA_MANDATORY),
			    UVERBS_ATTR_PTR_OUT(EDU_HCA_ATTR_QUERY_PART,
						UVERBS_ATTR_TYPE(struct edu_hca_part),
						UA_MANDATORY));

ADD_UVERBS_METHODS(edu_hca_mr, UVERBS_OBJECT_MR,
		   &UVERBS_METHOD(EDU_HCA_METHOD_COPY),
		   &UVERBS_METHOD(EDU_HCA_METHOD_QUERY));

static const struct uapi_definition edu_hca_definitions[] = {
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_MR, &edu_hca_mr),
	{}
};

static int edu_hca_alloc_pd(struct ib_pd *pd, struct ib_udata *udata)
{
	return 0;
}

static int edu_hca_dealloc_pd(struct ib_pd *pd, struct ib_udata *udata)
{
	return 0;
}

static int edu_hca_alloc_ucontext(struct ib_ucontext *context,
				  struct ib_udata *udata)
{
	return 0;
}

static void edu_hca_dealloc_ucontext(struct ib_ucontext *context)
{
}

/* Nothing of the device is mapped: it may go while contexts are open. */
static void edu_hca_disassociate_ucontext(struct ib_ucontext *context)
{
}

static int edu_hca_query_device(struct ib_device *ib_dev,
				struct ib_device_attr *attr,
				struct ib_udata *udata)
{
	memset(attr, 0, sizeof(*attr));
	attr->max_mr_size = U64_MAX;
	attr->page_size_cap = PAGE_SIZE;
	attr->max_mr = INT_MAX;
	attr->max_pd = INT_MAX;
	return 0;
}

static int edu_hca_query_port(struct ib_device *ib_dev, u32 port,
			      struct ib_port_attr *attr)
{
	attr->state = IB_PORT_ACTIVE;
	attr->phys_state = IB_PORT_PHYS_STATE_LINK_UP;
	attr->max_mtu = IB_MTU_4096;
	attr->active_mtu = IB_MTU_4096;
	attr->active_width = IB_WIDTH_1X;
	attr->active_speed = IB_SPEED_SDR;
	return 0;
}

static int edu_hca_get_port_immutable(struct ib_device *ib_dev, u32 port,
				      struct ib_port_immutable *immutable)
{
	return 0;
}

static const struct ib_device_ops edu_hca_ops = {
	.owner = THIS_MODULE,
	.driver_id = RDMA_DRIVER_UNKNOWN,
	.uverbs_abi_ver = 1,
	.alloc_pd = edu_hca_alloc_pd,
	.alloc_ucontext = edu_hca_alloc_ucontext,
	.dealloc_pd = edu_hca_dealloc_pd,
	.dealloc_ucontext = edu_hca_dealloc_ucontext,
	.dereg_mr = edu_hca_dereg_mr,
	.disassociate_ucontext = edu_hca_disassociate_ucontext,
	.get_port_immutable = edu_hca_get_port_immutable,
	.query_device = edu_hca_query_device,
	.query_port = edu_hca_query_port,
	.reg_user_mr = edu_hca_reg_user_mr,
	.reg_user_mr_dmabuf = edu_hca_reg_user_mr_dmabuf,

	/* nothing of our own in them */
	.size_ib_pd = sizeof(struct ib_pd),
	.size_ib_ucontext = sizeof(struct ib_ucontext),
};

static int edu_hca_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	void __iomem *registers = edu_enable(pdev);
	struct edu_hca *hca;
	int ret;

	if (IS_ERR(registers))
		return PTR_ERR(registers);

	hca = ib_alloc_device(edu_hca, ib_dev);
	if (!hca)
		return -ENOMEM;
	hca->pdev = pdev;
	hca->registers = registers;
	mutex_init(&hca->dma_lock);
	hca->ib_dev.node_type = RDMA_NODE_UNSPECIFIED;
	hca->ib_dev.node_guid = cpu_to_be64(pci_dev_id(pdev));
	hca->ib_dev.phys_port_cnt = 1;
	hca->ib_dev.num_comp_vectors = 1;
	hca->ib_dev.dev.parent = &pdev->dev;
	hca->ib_dev.driver_def = edu_hca_definitions;
	ib_set_device_ops(&hca->ib_dev, &edu_hca_ops);

	ret = ib_register_device(&hca->ib_dev, "edu_hca%d", &pdev->dev);
	if (ret) {
		mutex_destroy(&hca->dma_lock);
		ib_dealloc_device(&hca->ib_dev);
		return ret;
	}
	pci_set_drvdata(pdev, hca);
	return 0;
}

/* MRs, if there are any, go with the contexts that they belong to. */
static void edu_hca_remove(struct pci_dev *pdev)
{
	struct edu_hca *hca = pci_get_drvdata(pdev);

	ib_unregister_device(&hca->ib_dev);
	mutex_destroy(&hca->dma_lock);
	ib_dealloc_device(&hca->ib_dev);
	pci_clear_master(pdev);
}

static const struct pci_device_id edu_hca_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_hca_ids);

static struct pci_driver edu_hca_driver = {
	.name = KBUILD_MODNAME,
	.id_table = edu_hca_ids,
	.probe = edu_hca_probe,
	.remove = edu_hca_remove,
};
module_pci_driver(edu_hca_driver);

MODULE_DESCRIPTION("RDMA device on QEMU's edu, for tests");
MODULE_LICENSE("Dual BSD/GPL");
