/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Shared by the files of iopmem.ko.
 *
 * Who holds what
 *	open file, region -> provider -> PCI device (a reference, not a driver
 *	binding); mapping, dma-buf, MR -> region. A region owns a range of the
 *	provider's memory until its last holder is gone or it is revoked,
 *	whichever comes first; the pages go back to the provider's pool then,
 *	busy ones (pinned for O_DIRECT) as soon as they are idle.
 *
 * Lock order (outermost first)
 *	mmap_lock -> dma_resv -> provider->gate (read) ->
 *	provider->regions_lock -> region->lock
 *	dma_resv -> provider->importers_lock
 *	providers_lock and provider->holders_lock nest in none of these, and
 *	nothing nests in providers_lock and importers_lock. In holders_lock
 *	only what a holder's show() takes does: the RDMA core's spinlock on the
 *	MRs of a peer memory client. Revocation takes no mmap_lock, and calls
 *	holders with no lock held. No user memory is touched under any of them.
 *	Who reads holders in debugfs takes one of providers_lock, regions_lock,
 *	holders_lock and importers_lock at a time, for a line each: nothing
 *	that is held while a revocation waits for somebody.
 */
#ifndef _IOPMEM_INTERNAL_H
#define _IOPMEM_INTERNAL_H

#include <linux/cdev.h>
#include <linux/dma-buf.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/ratelimit.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/xarray.h>
#include <rdma/iopmem.h>

#include "iopmem.h"

struct iopmem_dev;

/**
 * struct iopmem_entries - entries in the order of their serial numbers
 * @root: of a tree of struct iopmem_entry
 * @last: serial number that was given out last; the first is 1
 * @count: of entries
 */
struct iopmem_entries {
	struct rb_root root;
	u64 last;
	unsigned long count;
};

/**
 * struct iopmem_provider - a PCI function whose BAR memory we hand out, or
 *	whose pages a peer-memory client pinned
 * @ref: last put frees it
 * @node: in the list of providers
 * @serial: grows from provider to provider
 * @retired: its driver has been unbound, or is being; protected, as the two
 *	above, by providers_lock
 * @pdev: referenced
 * @inode: address space of every mapping of this provider, so that one call
 *	zaps them all
 * @gate: held for reading around each CPU access to the memory and each
 *	insertion of a page-table entry; for writing to change @alive
 * @alive: false while the memory must not be touched: after unbind for good,
 *	around reset and suspend for a while. Written under @gate and
 *	@holders_lock, read under either.
 * @holders_lock: protects @holders and the state of each
 * @holders: those who must be revoked, or are being
 * @revoke_wait: woken when a holder's revoke() has returned, or when a region
 *	has given its memory back
 * @importers_lock: protects @importers and what each of them counts
 * @importers: attachments to dma-bufs
 * @regions_lock: protects @regions, @allocated, @users and @user_limit; one
 *	region at a time takes memory from the pool
 * @regions: regions that own memory and have a holder
 * @allocated: bytes in @regions, and those on their way back to the pool
 * @users: pages of @allocated, by the uid that allocated them
 * @user_limit: bytes of @allocated that a user may have; 0 if there is no limit
 * @exhausted_limit: how often the log says who has the memory
 * @refused_limit: how often the log says who wants more than @user_limit
 * @dev: the device node, or NULL; changed under the PCI function's device lock
 * @size: bytes of memory behind @dev
 * @cache: how the kernel maps it, and so must users
 * @attached: the memory is another driver's
 * @recovering: from a PCI error, which may fail; under the PCI function's device lock
 */
struct iopmem_provider {
	struct kref ref;
	struct list_head node;
	u64 serial;
	bool retired;
	struct pci_dev *pdev;
	struct inode *inode;

	struct rw_semaphore gate;
	bool alive;

	spinlock_t holders_lock; /* protects holders */
	struct iopmem_entries holders;
	wait_queue_head_t revoke_wait;

	spinlock_t importers_lock; /* protects importers */
	struct iopmem_entries importers;

	struct mutex regions_lock; /* protects the next four */
	struct iopmem_entries regions;
	u64 allocated;
	struct xarray users;
	u64 user_limit;
	struct ratelimit_state exhausted_limit;
	struct ratelimit_state refused_limit;

	struct iopmem_dev *dev;
	u64 size;
	enum iopmem_cache_mode cache;
	bool attached;
	bool recovering;
};

/**
 * struct iopmem_region - a contiguous range of a provider's memory with one
 *	owner
 * @ref: one for each mapping, the dma-buf and each MR
 * @provider: referenced
 * @entry: in provider->regions while @vaddr is set and there is a holder
 * @lock: protects @vaddr and @unzeroed, and keeps two faults from zeroing a
 *	page that one of them has already handed out
 * @vaddr: kernel address of the memory; NULL once it has been revoked. Changes
 *	under provider->regions_lock too.
 * @phys: its CPU physical address, or what it was
 * @npages: length
 * @zeroed: a bit a page: it has been zeroed since it was allocated. NULL when
 *	nothing is left to zero.
 * @unzeroed: pages whose bit is not set
 * @mappings: how many there are
 * @since: seconds from boot to its allocation
 * @uid: of the process that allocated it, which it is charged to
 * @pid: the same process, for who wants to know
 * @comm: the same
 */
struct iopmem_region {
	struct kref ref;
	struct iopmem_provider *provider;
	struct iopmem_entry entry;

	struct mutex lock; /* protects vaddr, zeroed, unzeroed */
	void *vaddr;
	phys_addr_t phys;
	unsigned long npages;
	unsigned long *zeroed;
	unsigned long unzeroed;

	atomic_t mappings;
	time64_t since;
	kuid_t uid;
	pid_t pid;
	char comm[TASK_COMM_LEN];
};

/**
 * struct iopmem_dev - /dev/iopmemN
 * @dev: its parent is the PCI function
 * @cdev: the node
 * @provider: referenced until @dev is released
 * @id: N
 */
struct iopmem_dev {
	struct device dev;
	struct cdev cdev;
	struct iopmem_provider *provider;
	int id;
};

/* provider.c */
struct iopmem_provider *iopmem_provider_get(struct pci_dev *pdev);
struct iopmem_provider *iopmem_provider_get_by_serial(u64 serial);
int iopmem_provider_bar(struct iopmem_provider *provider, phys_addr_t phys,
			u64 *offset);
int iopmem_provider_measure(struct iopmem_provider *provider);
struct pci_dev *iopmem_provider_next_attached(void);
void iopmem_provider_revoke(struct iopmem_provider *provider);
void iopmem_provider_offer(struct iopmem_provider *provider);
void iopmem_provider_retire(struct iopmem_provider *provider);
int iopmem_provider_init(void);
void iopmem_provider_exit(void);

/* region.c */
struct iopmem_region *iopmem_region_alloc(struct iopmem_provider *provider,
					  u64 size, bool zero);
int iopmem_region_mmap(struct iopmem_region *region,
		       struct vm_area_struct *vma);
unsigned long iopmem_region_revoke_all(struct iopmem_provider *provider);
bool iopmem_region_revoked(struct iopmem_region *region);
int iopmem_region_flush(struct iopmem_region *region);

/* holders.c */
void iopmem_entry_add(struct iopmem_entries *entries,
		      struct iopmem_entry *entry);
void iopmem_entry_del(struct iopmem_entries *entries,
		      struct iopmem_entry *entry);
struct iopmem_entry *iopmem_entry_from(struct iopmem_entries *entries,
				       u64 serial);
void iopmem_show_memory(struct seq_file *s, struct iopmem_provider *provider,
			const char *kind, phys_addr_t phys, u64 length);
void iopmem_show_process(struct seq_file *s, pid_t pid, const char *comm);
void iopmem_holders_init(void);
void iopmem_holders_exit(void);

/* dmabuf.c */
void iopmem_dmabuf_show_importer(struct iopmem_entry *entry,
				 struct seq_file *s);
struct dma_buf *iopmem_dmabuf_export(struct iopmem_region *region, int flags);

/* chardev.c */
int iopmem_dev_create(struct iopmem_provider *provider, bool attached);
void iopmem_dev_destroy(struct iopmem_dev *idev);
extern const char *const iopmem_cache_names[];
extern const struct class iopmem_class;
int iopmem_chardev_init(void);
void iopmem_chardev_exit(void);

/* attach.c */
void iopmem_attach_init(void);
void iopmem_attach_exit(void);

/* pci_driver.c */
extern struct pci_driver iopmem_pci_driver;

#endif /* _IOPMEM_INTERNAL_H */
