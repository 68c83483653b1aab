// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * /sys/kernel/debug/iopmem/holders: who holds what.
 *
 * A line for each provider, each region that owns memory, each holder, and each
 * importer of a dma-buf:
 *
 *	provider PCI state=S size=BYTES allocated=BYTES user_limit=BYTES
 *		regions=N holders=N
 *	region PCI bar=N offset=X length=X mappings=N uid=UID age=SECONDS
 *		pid=PID comm=NAME
 *	dma-buf PCI bar=N offset=X length=X state=S pid=PID comm=NAME
 *		kernel_mappings=N [waits_for=fences]
 *	importer PCI bar=N offset=X length=X pid=PID comm=NAME device=NAME
 *		pins=N mappings=N
 *	mr PCI bar=N offset=X length=X state=S pid=PID comm=NAME
 *		address=X bytes=N [device=NAME] [mr=N]
 *	pinned ..., the same for an MR on pages that are not a region's
 *
 * each in one piece. Kinds, and words behind length, may come to be more. What
 * is held is named by where it is in the function's BAR, so that sorting by
 * offset brings a region and its holders together. The process is the one that
 * allocated the memory, registered the MR or attached the device, and blanks
 * in its name are written as \040. address and bytes are what that process
 * registered; mr is the number that rdma resource show knows.
 *
 * A provider's state is live, revoking or revoked; a holder's is
 *	live		it may use the memory
 *	told		it has been told to stop, and has not been waited for
 *	revoking	a revocation is waiting for it, and remove() with that
 * and what a dma-buf is waited for are its importers' pins and mappings, its
 * kernel mapping, or fences.
 *
 * Each line is found by number and printed with the lock held that keeps it
 * there; no lock is held from one line to the next. So a file that is read while
 * things come and go shows each of those that stay, once.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/timekeeping.h>

#include "internal.h"

static struct dentry *debugfs_dir;

static struct iopmem_entry *to_entry(const struct rb_node *node)
{
	return rb_entry(node, struct iopmem_entry, node);
}

static bool entry_before(struct rb_node *a, const struct rb_node *b)
{
	return to_entry(a)->serial < to_entry(b)->serial;
}

/**
 * iopmem_entry_add - add an entry, behind all others
 * @entries: the entries
 * @entry: gets its number
 */
void iopmem_entry_add(struct iopmem_entries *entries,
		      struct iopmem_entry *entry)
{
	entry->serial = ++entries->last;
	rb_add(&entry->node, &entries->root, entry_before);
	entries->count++;
}

/**
 * iopmem_entry_del - remove an entry
 * @entries: the entries
 * @entry: one of them
 */
void iopmem_entry_del(struct iopmem_entries *entries,
		      struct iopmem_entry *entry)
{
	rb_erase(&entry->node, &entries->root);
	entries->count--;
}

/**
 * iopmem_entry_from - the first entry at or after a number
 * @entries: the entries
 * @serial: the number
 *
 * Return: the entry, or NULL if there is none.
 */
struct iopmem_entry *iopmem_entry_from(struct iopmem_entries *entries,
				       u64 serial)
{
	struct rb_node *node = entries->root.rb_node;
	struct iopmem_entry *found = NULL;

	while (node) {
		if (to_entry(node)->serial < serial) {
			node = node->rb_right;
		} else {
			found = to_entry(node);
			node = node->rb_left;
		}
	}
	return found;
}

/**
 * iopmem_show_memory - begin a line with what is held
 * @s: the file
 * @provider: whose memory
 * @kind: what the line is about
 * @phys: CPU physical address; 0 if there is none
 * @length: in bytes
 */
void iopmem_show_memory(struct seq_file *s, struct iopmem_provider *provider,
			const char *kind, phys_addr_t phys, u64 length)
{
	u64 offset;
	int bar;

	seq_printf(s, "%s %s", kind, pci_name(provider->pdev));
	bar = iopmem_provider_bar(provider, phys, &offset);
	if (bar >= 0)
		seq_printf(s, " bar=%d offset=%#llx", bar, offset);
	seq_printf(s, " length=%#llx", length);
}

/**
 * iopmem_show_process - end a line with whose it is
 * @s: the file
 * @pid: of the process
 * @comm: its name
 */
void iopmem_show_process(struct seq_file *s, pid_t pid, const char *comm)
{
	seq_printf(s, " pid=%d comm=", pid);
	seq_escape(s, comm, " \t\n\\");
}

static const char *state_name(const struct iopmem_holder *holder)
{
	switch (holder->state) {
	case IOPMEM_HOLDER_LIVE:
		return "live";
	case IOPMEM_HOLDER_REVOKING:
		return "revoking";
	case IOPMEM_HOLDER_TOLD:
		return "told";
	case IOPMEM_HOLDER_IDLE:
		break;
	}
	return "idle";
}

/* Lines are in this order for each provider. */
enum part {
	PROVIDER,
	REGIONS,
	HOLDERS,
	IMPORTERS,
};

/**
 * struct place - where a reader is
 * @provider: referenced from start to stop; NULL if it is to be looked up
 * @provider_serial: its number
 * @part: of its lines
 * @serial: of the region, holder or importer
 */
struct place {
	struct iopmem_provider *provider;
	u64 provider_serial;
	enum part part;
	u64 serial;
};

static int show_provider(struct seq_file *s, struct iopmem_provider *provider)
{
	unsigned long regions, holders;
	u64 allocated, limit;
	bool alive;

	mutex_lock(&provider->regions_lock);
	regions = provider->regions.count;
	allocated = provider->allocated;
	limit = provider->user_limit;
	mutex_unlock(&provider->regions_lock);

	spin_lock(&provider->holders_lock);
	holders = provider->holders.count;
	alive = provider->alive;
	spin_unlock(&provider->holders_lock);

	seq_printf(s, "provider %s state=%s size=%llu allocated=%llu user_limit=%llu regions=%lu holders=%lu\n",
		   pci_name(provider->pdev),
		   alive ? "live" :
		   allocated || holders ? "revoking" : "revoked",
		   provider->size, allocated, limit, regions, holders);
	return 0;
}

static int show_region(struct seq_file *s, struct place *place)
{
	struct iopmem_provider *provider = place->provider;
	struct iopmem_region *region;
	struct iopmem_entry *entry;
	int ret = SEQ_SKIP;

	mutex_lock(&provider->regions_lock);
	entry = iopmem_entry_from(&provider->regions, place->serial);
	if (entry && entry->serial == place->serial) {
		region = container_of(entry, struct iopmem_region, entry);
		iopmem_show_memory(s, provider, "region", region->phys,
				   (u64)region->npages << PAGE_SHIFT);
		seq_printf(s, " mappings=%d uid=%u age=%lld",
			   atomic_read(&region->mappings),
			   from_kuid_munged(seq_user_ns(s), region->uid),
			   ktime_get_boottime_seconds() - region->since);
		iopmem_show_process(s, region->pid, region->comm);
		seq_putc(s, '\n');
		ret = 0;
	}
	mutex_unlock(&provider->regions_lock);
	return ret;
}

static int show_holder(struct seq_file *s, struct place *place)
{
	struct iopmem_provider *provider = place->provider;
	struct iopmem_holder *holder;
	struct iopmem_entry *entry;
	int ret = SEQ_SKIP;

	spin_lock(&provider->holders_lock);
	entry = iopmem_entry_from(&provider->holders, place->serial);
	if (entry && entry->serial == place->serial) {
		holder = container_of(entry, struct iopmem_holder, entry);
		iopmem_show_memory(s, provider, holder->kind,
				   READ_ONCE(holder->phys), holder->length);
		seq_printf(s, " state=%s", state_name(holder));
		iopmem_show_process(s, holder->pid, holder->comm);
		if (holder->show)
			holder->show(holder, s);
		seq_putc(s, '\n');
		ret = 0;
	}
	spin_unlock(&provider->holders_lock);
	return ret;
}

static int show_importer(struct seq_file *s, struct place *place)
{
	struct iopmem_provider *provider = place->provider;
	struct iopmem_entry *entry;
	int ret = SEQ_SKIP;

	spin_lock(&provider->importers_lock);
	entry = iopmem_entry_from(&provider->importers, place->serial);
	if (entry && entry->serial == place->serial) {
		iopmem_dmabuf_show_importer(entry, s);
		ret = 0;
	}
	spin_unlock(&provider->importers_lock);
	return ret;
}

static int holders_show(struct seq_file *s, void *v)
{
	struct place *place = v;

	switch (place->part) {
	case PROVIDER:
		return show_provider(s, place->provider);
	case REGIONS:
		return show_region(s, place);
	case HOLDERS:
		return show_holder(s, place);
	case IMPORTERS:
		return show_importer(s, place);
	}
	return SEQ_SKIP;
}

/* Moves to the first entry at or behind a place. Call with their lock. */
static bool advance(struct iopmem_entries *entries, struct place *place)
{
	struct iopmem_entry *entry = iopmem_entry_from(entries, place->serial);

	if (entry)
		place->serial = entry->serial;
	return entry;
}

static bool find_region(struct place *place)
{
	struct iopmem_provider *provider = place->provider;
	bool found;

	mutex_lock(&provider->regions_lock);
	found = advance(&provider->regions, place);
	mutex_unlock(&provider->regions_lock);
	return found;
}

static bool find_holder(struct place *place)
{
	struct iopmem_provider *provider = place->provider;
	bool found;

	spin_lock(&provider->holders_lock);
	found = advance(&provider->holders, place);
	spin_unlock(&provider->holders_lock);
	return found;
}

static bool find_importer(struct place *place)
{
	struct iopmem_provider *provider = place->provider;
	bool found;

	spin_lock(&provider->importers_lock);
	found = advance(&provider->importers, place);
	spin_unlock(&provider->importers_lock);
	return found;
}

static void leave_provider(struct place *place)
{
	if (place->provider)
		iopmem_provider_put(place->provider);
	place->provider = NULL;
}

/* Moves to the first line at or behind a place; NULL if there is none. */
static struct place *settle(struct place *place)
{
	for (;;) {
		if (!place->provider) {
			place->provider = iopmem_provider_get_by_serial(place->provider_serial);
			if (!place->provider)
				return NULL;
			if (place->provider->serial != place->provider_serial) {
				place->provider_serial =
					place->provider->serial;
				place->part = PROVIDER;
			}
		}

		switch (place->part) {
		case PROVIDER:
			return place;
		case REGIONS:
			if (find_region(place))
				return place;
			place->part = HOLDERS;
			place->serial = 0;
			fallthrough;
		case HOLDERS:
			if (find_holder(place))
				return place;
			place->part = IMPORTERS;
			place->serial = 0;
			fallthrough;
		case IMPORTERS:
			if (find_importer(place))
				return place;
		}

		leave_provider(place);
		place->provider_serial++;
		place->part = PROVIDER;
	}
}

/* Readers go on where they stopped, or begin again. */
static void *holders_start(struct seq_file *s, loff_t *pos)
{
	struct place *place = s->private;

	if (!*pos)
		*place = (struct place){};
	return settle(place);
}

static void *holders_next(struct seq_file *s, void *v, loff_t *pos)
{
	struct place *place = v;

	++*pos;
	if (place->part == PROVIDER) {
		place->part = REGIONS;
		place->serial = 0;
	} else {
		place->serial++;
	}
	return settle(place);
}

static void holders_stop(struct seq_file *s, void *v)
{
	leave_provider(s->private);
}

static const struct seq_operations holders_seq_ops = {
	.start = holders_start,
	.next = holders_next,
	.stop = holders_stop,
	.show = holders_show,
};

static int holders_open(struct inode *inode, struct file *file)
{
	return seq_open_private(file, &holders_seq_ops, sizeof(struct place));
}

static const struct file_operations holders_fops = {
	.owner = THIS_MODULE,
	.open = holders_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};

/* Without debugfs there is nothing to undo, and nothing to do without it. */
void iopmem_holders_init(void)
{
	debugfs_dir = debugfs_create_dir("iopmem", NULL);
	debugfs_create_file("holders", 0400, debugfs_dir, NULL, &holders_fops);
}

void iopmem_holders_exit(void)
{
	debugfs_remove(debugfs_dir);
}
