/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What iopmem.ko offers to other modules: regions, the providers that they
 * are cut from, and the revocation of whoever holds a provider's memory.
 */
#ifndef _IOPMEM_H
#define _IOPMEM_H

#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/types.h>

struct iopmem_provider;
struct iopmem_region;

enum iopmem_holder_state {
	IOPMEM_HOLDER_IDLE,	/* not registered, or revoked */
	IOPMEM_HOLDER_LIVE,
	IOPMEM_HOLDER_REVOKING,	/* its revoke() or wait() is running */
	IOPMEM_HOLDER_TOLD,	/* its wait() is still to be called */
};

/**
 * struct iopmem_holder - someone who reaches a provider's memory by other
 *	means than a mapping of ours, and can be told to stop
 * @revoke: end all access to the memory and drop every page reference, before
 *	returning or before @wait returns. Called once at most, in process
 *	context, with no lock of this module held. It must not call
 *	iopmem_provider_unhold().
 * @wait: NULL, or wait until what @revoke has begun is done; the same rules.
 *	It is called when all holders have been told, so that none of them goes
 *	on because another takes its time. Not called for one that has been
 *	unregistered since.
 * @node: in the provider's list; this module's own
 * @state: this module's own
 */
struct iopmem_holder {
	void (*revoke)(struct iopmem_holder *holder);
	void (*wait)(struct iopmem_holder *holder);
	struct list_head node;
	enum iopmem_holder_state state;
};

struct iopmem_provider *iopmem_provider_get_by_phys(phys_addr_t phys);
void iopmem_provider_put(struct iopmem_provider *provider);
bool iopmem_provider_owns_phys(struct iopmem_provider *provider,
			       phys_addr_t phys);
int iopmem_provider_hold(struct iopmem_provider *provider,
			 struct iopmem_holder *holder);
void iopmem_provider_unhold(struct iopmem_provider *provider,
			    struct iopmem_holder *holder);

struct iopmem_region *iopmem_region_get_by_vma(struct vm_area_struct *vma);
void iopmem_region_put(struct iopmem_region *region);
struct iopmem_provider *iopmem_region_provider(struct iopmem_region *region);
int iopmem_region_zero(struct iopmem_region *region, u64 offset, u64 len);
struct page *iopmem_region_page(struct iopmem_region *region, u64 offset);

#endif /* _IOPMEM_H */
