// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Providers: PCI functions whose BAR memory is in use, and its revocation.
 *
 * A provider's driver may be unbound at any time, and the teardown of its
 * ZONE_DEVICE pages then waits, uninterruptibly, until every reference to them
 * is gone. So whoever holds pages for long registers as a holder, and the PCI
 * bus notifier revokes all holders before the driver's remove() is called,
 * while the device can still be reached.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pci-p2pdma.h>
#include <linux/pseudo_fs.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"
#include "trace.h"

/* A function whose driver is being unbound: no new provider may appear. */
struct unbinding {
	struct list_head node;
	struct pci_dev *pdev;
};

/* Protects all three. */
static DEFINE_MUTEX(providers_lock);
static LIST_HEAD(providers);
static LIST_HEAD(unbindings);
static u64 last_serial;

static struct vfsmount *iopmem_mnt;

/*
 * With a reference. One whose last reference is gone may still be in the list,
 * before the one that is used now.
 */
static struct iopmem_provider *find_provider(struct pci_dev *pdev)
{
	struct iopmem_provider *provider;

	lockdep_assert_held(&providers_lock);
	list_for_each_entry(provider, &providers, node)
		if (provider->pdev == pdev && !provider->retired &&
		    kref_get_unless_zero(&provider->ref))
			return provider;
	return NULL;
}

static struct unbinding *find_unbinding(struct pci_dev *pdev)
{
	struct unbinding *unbinding;

	lockdep_assert_held(&providers_lock);
	list_for_each_entry(unbinding, &unbindings, node)
		if (unbinding->pdev == pdev)
			return unbinding;
	return NULL;
}

static struct iopmem_provider *create_provider(struct pci_dev *pdev)
{
	struct iopmem_provider *provider;

	provider = kzalloc(sizeof(*provider), GFP_KERNEL);
	if (!provider)
		return ERR_PTR(-ENOMEM);

	provider->inode = alloc_anon_inode(iopmem_mnt->mnt_sb);
	if (IS_ERR(provider->inode)) {
		void *err = provider->inode;

		kfree(provider);
		return err;
	}

	kref_init(&provider->ref);
	provider->pdev = pci_dev_get(pdev);
	init_rwsem(&provider->gate);
	provider->alive = true;
	spin_lock_init(&provider->holders_lock);
	init_waitqueue_head(&provider->revoke_wait);
	spin_lock_init(&provider->importers_lock);
	mutex_init(&provider->regions_lock);
	xa_init(&provider->users);
	ratelimit_state_init(&provider->exhausted_limit,
			     DEFAULT_RATELIMIT_INTERVAL,
			     DEFAULT_RATELIMIT_BURST);
	ratelimit_state_init(&provider->refused_limit,
			     DEFAULT_RATELIMIT_INTERVAL,
			     DEFAULT_RATELIMIT_BURST);
	provider->serial = ++last_serial;
	list_add_tail(&provider->node, &providers);
	return provider;
}

/**
 * iopmem_provider_get - the provider that stands for a PCI function
 * @pdev: a function with peer-to-peer memory
 *
 * Return: a reference, ERR_PTR(-ENODEV) when the function has no peer-to-peer
 * memory or its driver is being unbound, ERR_PTR(-ENOMEM).
 */
struct iopmem_provider *iopmem_provider_get(struct pci_dev *pdev)
{
	struct iopmem_provider *provider;

	mutex_lock(&providers_lock);
	if (!rcu_access_pointer(pdev->p2pdma) || find_unbinding(pdev)) {
		provider = ERR_PTR(-ENODEV);
		goto out;
	}

	provider = find_provider(pdev);
	if (!provider)
		provider = create_provider(pdev);
out:
	mutex_unlock(&providers_lock);
	return provider;
}

/**
 * iopmem_provider_get_by_serial - the first provider at or after a number
 * @serial: the number
 *
 * Providers whose driver has been unbound are among them, until their last
 * reference is gone.
 *
 * Return: a reference, or NULL if there is none.
 */
struct iopmem_provider *iopmem_provider_get_by_serial(u64 serial)
{
	struct iopmem_provider *provider, *found = NULL;

	mutex_lock(&providers_lock);
	list_for_each_entry(provider, &providers, node) {
		if (provider->serial >= serial &&
		    kref_get_unless_zero(&provider->ref)) {
			found = provider;
			break;
		}
	}
	mutex_unlock(&providers_lock);
	return found;
}

/* The BAR that holds an address, or -1 */
static int pci_dev_bar(struct pci_dev *pdev, phys_addr_t phys)
{
	struct resource *res;
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		res = &pdev->resource[bar];
		if ((res->flags & IORESOURCE_MEM) && res->start &&
		    phys >= res->start && phys <= res->end)
			return bar;
	}
	return -1;
}

static bool pci_dev_owns_phys(struct pci_dev *pdev, phys_addr_t phys)
{
	return pci_dev_bar(pdev, phys) >= 0;
}

/**
 * iopmem_provider_bar - where in a provider's BARs an address is
 * @provider: the provider
 * @phys: CPU physical address
 * @offset: set to its offset in the BAR; 0 if it is in none
 *
 * Return: the BAR's number, or -1.
 */
int iopmem_provider_bar(struct iopmem_provider *provider, phys_addr_t phys,
			u64 *offset)
{
	int bar = pci_dev_bar(provider->pdev, phys);

	*offset = bar < 0 ? 0 :
			    phys - pci_resource_start(provider->pdev, bar);
	return bar;
}

/**
 * iopmem_provider_get_by_phys - the provider whose BAR holds an address
 * @phys: CPU physical address of a ZONE_DEVICE P2PDMA page
 *
 * The caller must not hold the page while it calls: the answer may be
 * -ENODEV just because the page's driver is waiting for it.
 *
 * Return: a reference, ERR_PTR(-ENODEV) or ERR_PTR(-ENOMEM).
 */
struct iopmem_provider *iopmem_provider_get_by_phys(phys_addr_t phys)
{
	struct iopmem_provider *provider = ERR_PTR(-ENODEV);
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		if (pci_dev_owns_phys(pdev, phys)) {
			provider = iopmem_provider_get(pdev);
			pci_dev_put(pdev);
			break;
		}
	}
	return provider;
}
EXPORT_SYMBOL_GPL(iopmem_provider_get_by_phys);

/**
 * iopmem_provider_owns_phys - whether an address is in a provider's BARs
 * @provider: the provider
 * @phys: CPU physical address
 *
 * Return: true if it is.
 */
bool iopmem_provider_owns_phys(struct iopmem_provider *provider,
			       phys_addr_t phys)
{
	return pci_dev_owns_phys(provider->pdev, phys);
}
EXPORT_SYMBOL_GPL(iopmem_provider_owns_phys);

static void release_provider(struct kref *ref)
{
	struct iopmem_provider *provider =
		container_of(ref, struct iopmem_provider, ref);

	mutex_lock(&providers_lock);
	list_del(&provider->node);
	mutex_unlock(&providers_lock);

	WARN_ON(provider->holders.count);
	WARN_ON(provider->importers.count);
	WARN_ON(provider->regions.count);
	WARN_ON(!xa_empty(&provider->users));
	iput(provider->inode);
	pci_dev_put(provider->pdev);
	kfree(provider);
}

/**
 * iopmem_provider_put - drop a reference
 * @provider: the provider
 *
 * May sleep.
 */
void iopmem_provider_put(struct iopmem_provider *provider)
{
	kref_put(&provider->ref, release_provider);
}
EXPORT_SYMBOL_GPL(iopmem_provider_put);

/**
 * iopmem_provider_hold - register as a holder of a provider's memory
 * @provider: the provider
 * @holder: with all set that is not this module's own
 *
 * From here on @holder->revoke() and show() may be called. Page references may
 * be taken only after this has succeeded. current is who debugfs names.
 *
 * Return: 0, or -ENODEV if the memory has been revoked.
 */
int iopmem_provider_hold(struct iopmem_provider *provider,
			 struct iopmem_holder *holder)
{
	int ret = -ENODEV;

	holder->pid = task_tgid_nr(current);
	get_task_comm(holder->comm, current);

	spin_lock(&provider->holders_lock);
	if (provider->alive) {
		iopmem_entry_add(&provider->holders, &holder->entry);
		holder->state = IOPMEM_HOLDER_LIVE;
		trace_iopmem_hold(provider, holder);
		ret = 0;
	}
	spin_unlock(&provider->holders_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(iopmem_provider_hold);

/* From here on the holder may be freed by its owner. */
static void drop_holder(struct iopmem_provider *provider,
			struct iopmem_holder *holder)
{
	lockdep_assert_held(&provider->holders_lock);
	trace_iopmem_unhold(provider, holder);
	iopmem_entry_del(&provider->holders, &holder->entry);
	holder->state = IOPMEM_HOLDER_IDLE;
}

static bool holder_is_idle(struct iopmem_provider *provider,
			   struct iopmem_holder *holder)
{
	bool idle = true;

	spin_lock(&provider->holders_lock);
	switch (holder->state) {
	case IOPMEM_HOLDER_LIVE:
	case IOPMEM_HOLDER_TOLD:
		drop_holder(provider, holder);
		break;
	case IOPMEM_HOLDER_REVOKING:
		idle = false;
		break;
	case IOPMEM_HOLDER_IDLE:
		break;
	}
	spin_unlock(&provider->holders_lock);
	return idle;
}

/**
 * iopmem_provider_unhold - stop being a holder
 * @provider: the provider
 * @holder: may never have been registered, or have been revoked
 *
 * When it returns, @holder->revoke() is not running and will not be called;
 * the holder may be freed. Waits for a revoke() in progress, so it must not be
 * called with a lock that revoke() takes.
 */
void iopmem_provider_unhold(struct iopmem_provider *provider,
			    struct iopmem_holder *holder)
{
	wait_event(provider->revoke_wait, holder_is_idle(provider, holder));
}
EXPORT_SYMBOL_GPL(iopmem_provider_unhold);

static void set_alive(struct iopmem_provider *provider, bool alive)
{
	down_write(&provider->gate);
	spin_lock(&provider->holders_lock);
	provider->alive = alive;
	spin_unlock(&provider->holders_lock);
	up_write(&provider->gate);
}

static struct iopmem_holder *to_holder(struct rb_node *node)
{
	return rb_entry(node, struct iopmem_holder, entry.node);
}

/*
 * All are told before we wait for any. One that is being revoked stays where
 * it can be seen, and its owner waits for us, until we are done with it.
 * Returns how many there were.
 */
static unsigned long revoke_holders(struct iopmem_provider *provider)
{
	struct rb_node *node, *next;
	struct iopmem_holder *holder;
	unsigned long count = 0;

	spin_lock(&provider->holders_lock);
	for (node = rb_first(&provider->holders.root); node; node = next) {
		holder = to_holder(node);
		holder->state = IOPMEM_HOLDER_REVOKING;
		spin_unlock(&provider->holders_lock);

		holder->revoke(holder);

		spin_lock(&provider->holders_lock);
		next = rb_next(node);
		if (holder->wait)
			holder->state = IOPMEM_HOLDER_TOLD;
		else
			drop_holder(provider, holder);
		wake_up_all(&provider->revoke_wait);
		count++;
	}

	for (node = rb_first(&provider->holders.root); node; node = next) {
		holder = to_holder(node);
		holder->state = IOPMEM_HOLDER_REVOKING;
		spin_unlock(&provider->holders_lock);

		holder->wait(holder);

		spin_lock(&provider->holders_lock);
		next = rb_next(node);
		drop_holder(provider, holder);
		wake_up_all(&provider->revoke_wait);
	}
	spin_unlock(&provider->holders_lock);
	return count;
}

/**
 * iopmem_provider_revoke - end every access to a provider's memory
 * @provider: the provider; the caller keeps it from being offered again
 *
 * When it returns no CPU, MR or mapping of ours reaches the memory and none
 * will until iopmem_provider_offer(); all regions have given their memory
 * back, except for pages that are pinned for direct I/O in flight.
 */
void iopmem_provider_revoke(struct iopmem_provider *provider)
{
	unsigned long holders, regions;

	trace_iopmem_revoke_begin(provider, READ_ONCE(provider->holders.count),
				  READ_ONCE(provider->regions.count));
	/* Waits for zeroing (a chunk) and faults; new ones see !alive. */
	set_alive(provider, false);
	/* Waits for the RDMA core to end each MR's use of the memory. */
	holders = revoke_holders(provider);
	/* Waits for page tables; nothing can be inserted any more. */
	unmap_mapping_range(provider->inode->i_mapping, 0, 0, 1);
	regions = iopmem_region_revoke_all(provider);
	trace_iopmem_revoke_end(provider, holders, regions);
}

/**
 * iopmem_provider_offer - let a provider's memory be used (again)
 * @provider: the provider
 */
void iopmem_provider_offer(struct iopmem_provider *provider)
{
	set_alive(provider, true);
}

/**
 * iopmem_provider_retire - revoke a provider for good
 * @provider: the provider
 *
 * The same function may come back as another provider before the last
 * reference to this one is gone.
 */
void iopmem_provider_retire(struct iopmem_provider *provider)
{
	mutex_lock(&providers_lock);
	provider->retired = true;
	mutex_unlock(&providers_lock);
	iopmem_provider_revoke(provider);
}

/**
 * iopmem_provider_measure - find out how much memory there is, and how it is
 *	mapped
 * @provider: the caller has the PCI function's device lock
 *
 * All that is private to p2pdma, but each page of a provider knows the range
 * that was registered with it.
 *
 * Return: 0, or -ENOMEM if all of the memory is in use.
 */
int iopmem_provider_measure(struct iopmem_provider *provider)
{
	struct pci_dev *pdev = provider->pdev;
	void *vaddr = pci_alloc_p2pmem(pdev, PAGE_SIZE);
	struct page *page;

	if (!vaddr)
		return -ENOMEM;

	page = virt_to_page(vaddr);
	provider->size = range_len(&page_pgmap(page)->range);
	provider->cache = p2pmem_page_is_wc(page) ? IOPMEM_CACHE_WC :
						    IOPMEM_CACHE_UC;
	pci_free_p2pmem(pdev, vaddr, PAGE_SIZE);
	return 0;
}

/**
 * iopmem_provider_next_attached - some function that is attached
 *
 * Return: a reference to it, or NULL if there is none left.
 */
struct pci_dev *iopmem_provider_next_attached(void)
{
	struct iopmem_provider *provider;
	struct pci_dev *pdev = NULL;

	mutex_lock(&providers_lock);
	list_for_each_entry(provider, &providers, node) {
		if (provider->attached && !provider->retired) {
			pdev = pci_dev_get(provider->pdev);
			break;
		}
	}
	mutex_unlock(&providers_lock);
	return pdev;
}

static void provider_unbind(struct pci_dev *pdev)
{
	struct iopmem_provider *provider;
	struct unbinding *unbinding;

	if (!rcu_access_pointer(pdev->p2pdma))
		return;

	/*
	 * A pin taken after this point would never be revoked and would hang
	 * the unbind, so this allocation has to succeed.
	 */
	unbinding = kmalloc(sizeof(*unbinding), GFP_KERNEL | __GFP_NOFAIL);
	unbinding->pdev = pdev;

	mutex_lock(&providers_lock);
	list_add(&unbinding->node, &unbindings);
	provider = find_provider(pdev);
	mutex_unlock(&providers_lock);

	if (!provider)
		return;
	iopmem_provider_retire(provider);
	/* Our own driver's remove() does this for the devices it bound. */
	if (provider->dev && provider->attached)
		iopmem_dev_destroy(provider->dev);
	iopmem_provider_put(provider);
}

static void provider_unbound(struct pci_dev *pdev)
{
	struct unbinding *unbinding;

	mutex_lock(&providers_lock);
	unbinding = find_unbinding(pdev);
	if (unbinding)
		list_del(&unbinding->node);
	mutex_unlock(&providers_lock);
	kfree(unbinding);
}

static int provider_notify(struct notifier_block *nb, unsigned long action,
			   void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);

	switch (action) {
	case BUS_NOTIFY_UNBIND_DRIVER:
		/* Before the driver's remove(). */
	case BUS_NOTIFY_DRIVER_NOT_BOUND:
		/*
		 * Its probe() has failed, but may have registered memory
		 * before, which others may have pinned since.
		 */
		provider_unbind(pdev);
		break;
	case BUS_NOTIFY_UNBOUND_DRIVER:
		/* After the release of its devres, the pages among it. */
	case BUS_NOTIFY_BIND_DRIVER:
		/* Of a driver that failed, only the next attempt tells. */
		provider_unbound(pdev);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block provider_nb = {
	.notifier_call = provider_notify,
};

static int iopmem_fs_init(struct fs_context *fc)
{
	return init_pseudo(fc, 0x696f706d) ? 0 : -ENOMEM;
}

/*
 * Only gives the providers inodes. No owner: our own mount would pin the
 * module for ever, and every inode goes with a provider, which pins it.
 */
static struct file_system_type iopmem_fs_type = {
	.name = "iopmem",
	.init_fs_context = iopmem_fs_init,
	.kill_sb = kill_anon_super,
};

int iopmem_provider_init(void)
{
	int ret;

	iopmem_mnt = kern_mount(&iopmem_fs_type);
	if (IS_ERR(iopmem_mnt))
		return PTR_ERR(iopmem_mnt);

	ret = bus_register_notifier(&pci_bus_type, &provider_nb);
	if (ret)
		kern_unmount(iopmem_mnt);
	return ret;
}

void iopmem_provider_exit(void)
{
	struct unbinding *unbinding, *next;

	bus_unregister_notifier(&pci_bus_type, &provider_nb);
	/* Whose driver was still being unbound at that moment. */
	list_for_each_entry_safe(unbinding, next, &unbindings, node)
		kfree(unbinding);
	kern_unmount(iopmem_mnt);
}
