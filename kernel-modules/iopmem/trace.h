/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Tracepoints: the life of a region, of who holds it and of its importers.
 * Memory is named as in debugfs, by its place in a function's BAR.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM iopmem

#if !defined(_IOPMEM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _IOPMEM_TRACE_H

#include <linux/pci.h>
#include <linux/tracepoint.h>

#include "internal.h"

/* A region has got its memory. */
TRACE_EVENT(iopmem_region_alloc,
	TP_PROTO(struct iopmem_region *region),
	TP_ARGS(region),
	TP_STRUCT__entry(
		__string(device, pci_name(region->provider->pdev))
		__field(int, bar)
		__field(u64, offset)
		__field(u64, length)
		__field(u32, uid)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->bar = iopmem_provider_bar(region->provider,
						   region->phys,
						   &__entry->offset);
		__entry->length = (u64)region->npages << PAGE_SHIFT;
		__entry->uid = from_kuid(&init_user_ns, region->uid);
	),
	TP_printk("%s bar=%d offset=%#llx length=%#llx uid=%u",
		  __get_str(device), __entry->bar, __entry->offset,
		  __entry->length, __entry->uid)
);

/*
 * It has given the memory back, but for the pages that direct I/O is still
 * using.
 */
TRACE_EVENT(iopmem_region_free,
	TP_PROTO(struct iopmem_region *region, unsigned long busy),
	TP_ARGS(region, busy),
	TP_STRUCT__entry(
		__string(device, pci_name(region->provider->pdev))
		__field(int, bar)
		__field(u64, offset)
		__field(u64, length)
		__field(u32, uid)
		__field(unsigned long, busy)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->bar = iopmem_provider_bar(region->provider,
						   region->phys,
						   &__entry->offset);
		__entry->length = (u64)region->npages << PAGE_SHIFT;
		__entry->uid = from_kuid(&init_user_ns, region->uid);
		__entry->busy = busy;
	),
	TP_printk("%s bar=%d offset=%#llx length=%#llx uid=%u busy_pages=%lu",
		  __get_str(device), __entry->bar, __entry->offset,
		  __entry->length, __entry->uid, __entry->busy)
);

DECLARE_EVENT_CLASS(iopmem_holder,
	TP_PROTO(struct iopmem_provider *provider,
		 struct iopmem_holder *holder),
	TP_ARGS(provider, holder),
	TP_STRUCT__entry(
		__string(device, pci_name(provider->pdev))
		__string(kind, holder->kind)
		__field(int, bar)
		__field(u64, offset)
		__field(u64, length)
		__field(bool, revoked)
		__field(pid_t, owner)
	),
	TP_fast_assign(
		__assign_str(device);
		__assign_str(kind);
		__entry->bar = iopmem_provider_bar(provider,
						   READ_ONCE(holder->phys),
						   &__entry->offset);
		__entry->length = holder->length;
		__entry->revoked = holder->state != IOPMEM_HOLDER_LIVE;
		__entry->owner = holder->pid;
	),
	TP_printk("%s kind=%s bar=%d offset=%#llx length=%#llx owner=%d%s",
		  __get_str(device), __get_str(kind), __entry->bar,
		  __entry->offset, __entry->length, __entry->owner,
		  __entry->revoked ? " revoked" : "")
);

/* An MR, a dma-buf: from here on it is revoked when the memory must go. */
DEFINE_EVENT(iopmem_holder, iopmem_hold,
	TP_PROTO(struct iopmem_provider *provider,
		 struct iopmem_holder *holder),
	TP_ARGS(provider, holder)
);

/* It does not reach the memory any more, of its own accord or revoked. */
DEFINE_EVENT(iopmem_holder, iopmem_unhold,
	TP_PROTO(struct iopmem_provider *provider,
		 struct iopmem_holder *holder),
	TP_ARGS(provider, holder)
);

DECLARE_EVENT_CLASS(iopmem_importer,
	TP_PROTO(struct iopmem_region *region, struct device *importer,
		 pid_t owner),
	TP_ARGS(region, importer, owner),
	TP_STRUCT__entry(
		__string(device, pci_name(region->provider->pdev))
		__string(importer, dev_name(importer))
		__field(int, bar)
		__field(u64, offset)
		__field(u64, length)
		__field(pid_t, owner)
	),
	TP_fast_assign(
		__assign_str(device);
		__assign_str(importer);
		__entry->bar = iopmem_provider_bar(region->provider,
						   region->phys,
						   &__entry->offset);
		__entry->length = (u64)region->npages << PAGE_SHIFT;
		__entry->owner = owner;
	),
	TP_printk("%s bar=%d offset=%#llx length=%#llx owner=%d device=%s",
		  __get_str(device), __entry->bar, __entry->offset,
		  __entry->length, __entry->owner, __get_str(importer))
);

/* A device has been attached to a region's dma-buf, as to register an MR. */
DEFINE_EVENT(iopmem_importer, iopmem_attach,
	TP_PROTO(struct iopmem_region *region, struct device *importer,
		 pid_t owner),
	TP_ARGS(region, importer, owner)
);

/* It has been detached, as at the MR's end. */
DEFINE_EVENT(iopmem_importer, iopmem_detach,
	TP_PROTO(struct iopmem_region *region, struct device *importer,
		 pid_t owner),
	TP_ARGS(region, importer, owner)
);

DECLARE_EVENT_CLASS(iopmem_revoke,
	TP_PROTO(struct iopmem_provider *provider, unsigned long holders,
		 unsigned long regions),
	TP_ARGS(provider, holders, regions),
	TP_STRUCT__entry(
		__string(device, pci_name(provider->pdev))
		__field(unsigned long, holders)
		__field(unsigned long, regions)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->holders = holders;
		__entry->regions = regions;
	),
	TP_printk("%s holders=%lu regions=%lu", __get_str(device),
		  __entry->holders, __entry->regions)
);

/* What there is when a revocation begins. */
DEFINE_EVENT(iopmem_revoke, iopmem_revoke_begin,
	TP_PROTO(struct iopmem_provider *provider, unsigned long holders,
		 unsigned long regions),
	TP_ARGS(provider, holders, regions)
);

/* What it has revoked. */
DEFINE_EVENT(iopmem_revoke, iopmem_revoke_end,
	TP_PROTO(struct iopmem_provider *provider, unsigned long holders,
		 unsigned long regions),
	TP_ARGS(provider, holders, regions)
);

#endif /* _IOPMEM_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
