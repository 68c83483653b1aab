/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What iopmem.ko offers to other modules: regions, the providers that they
 * are cut from, and the revocation of whoever holds a provider's memory.
 */
#ifndef _IOPMEM_H
#define _IOPMEM_H

#include <linux/mm_types.h>
#include <linux/rbtree.h>
#include <linux/sched.h>
#include <linux/types.h>

struct iopmem_provider;
struct iopmem_region;
struct seq_file;

/**
 * struct iopmem_entry - what can be found again by number after a lock was
 *	dropped; this module's own
 * @node: in a struct iopmem_entries
 * @serial: in the order in which they were added; never used twice
 */
struct iopmem_entry {
	struct rb_node node;
	u64 serial;
};

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
 * @show: NULL, or add " word=value" for what only the holder knows to the line
 *	that names it in debugfs. Called with a spinlock held, while @revoke and
 *	@wait may be running: it must not sleep, nor wait for either, and takes
 *	no locks but spinlocks under which no function of this module is called.
 * @kind: a word for what it is
 * @phys: CPU physical address of the first page that it holds; of pages that
 *	need not be adjacent, 0 until they are known
 * @length: how much it holds, in bytes
 * @entry: in the provider; from here on it is this module's own
 * @state: the same
 * @pid: of the process that registered it
 * @comm: the same
 */
struct iopmem_holder {
	void (*revoke)(struct iopmem_holder *holder);
	void (*wait)(struct iopmem_holder *holder);
	void (*show)(struct iopmem_holder *holder, struct seq_file *s);
	const char *kind;
	phys_addr_t phys;
	u64 length;

	struct iopmem_entry entry;
	enum iopmem_holder_state state;
	pid_t pid;
	char comm[TASK_COMM_LEN];
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
phys_addr_t iopmem_region_phys(struct iopmem_region *region, u64 offset);
int iopmem_region_zero(struct iopmem_region *region, u64 offset, u64 len);
struct page *iopmem_region_page(struct iopmem_region *region, u64 offset);

#endif /* _IOPMEM_H */
