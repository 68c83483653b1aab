/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * /dev/peer_client0 and 1: peer memory clients that behave as a test tells
 * them to, and tell what the RDMA core did with them. For tests only.
 *
 * A node is one client. Its settings, its registration and what it counts
 * belong to the node, not to an open file: they stay when files are closed.
 * mmap() of it, shared and at offset 0, is new, zeroed memory that GUP does not
 * pin (VM_PFNMAP), in blocks that are scattered in physical memory.
 */
#ifndef TESTS_PEER_CLIENT_H
#define TESTS_PEER_CLIENT_H

#include <linux/ioctl.h>
#include <linux/types.h>

enum { PEER_CLIENTS = 2 };

/* What a client is; fixed while it is registered. */
enum peer_client_flags {
	/* passes an invalidation callback */
	PEER_CLIENT_CAN_INVALIDATE = 1 << 0,
	/* get_pages fills in pages; else only dma_map fills in addresses */
	PEER_CLIENT_HAS_PAGES = 1 << 1,
	/* PEER_MEM_INVALIDATE_UNMAPS */
	PEER_CLIENT_UNMAPS = 1 << 2,
	/* get_page_size() is 64 KiB, of blocks of that size; else NULL */
	PEER_CLIENT_BIG_PAGES = 1 << 3,
	/* memory of the PCI device that the module was told of; else RAM */
	PEER_CLIENT_PCI = 1 << 4,
	/* holds its module from acquire to release */
	PEER_CLIENT_HOLDS_MODULE = 1 << 5,
	/*
	 * takes back what a file's mappings have, when the file is closed for
	 * the last time, as drivers of GPUs do when a process ends
	 */
	PEER_CLIENT_CLOSE_INVALIDATES = 1 << 6,
	/*
	 * invalidates holding only a reference to the range, so that release
	 * may run meanwhile; else with a lock that acquire and release take
	 */
	PEER_CLIENT_UNLOCKED = 1 << 7,
	/* PCI: but for the last block, which is RAM */
	PEER_CLIENT_MIXED = 1 << 8,
};

#define PEER_CLIENT_BIG_PAGE	65536

/* The calls of the core, in their order, and ours. */
enum peer_client_step {
	PEER_CLIENT_ACQUIRE,
	PEER_CLIENT_GET_PAGES,
	PEER_CLIENT_DMA_MAP,
	PEER_CLIENT_DMA_UNMAP,
	PEER_CLIENT_PUT_PAGES,
	PEER_CLIENT_RELEASE,
	PEER_CLIENT_INVALIDATE,	/* before the core's function is called */
	PEER_CLIENT_INVALIDATED,	/* after it has returned */
	PEER_CLIENT_UNDO,	/* of UNMAPS: the client unmaps and puts */
	PEER_CLIENT_STEPS
};

/**
 * struct peer_client_behaviour - argument of PEER_CLIENT_BEHAVE
 * @step: in: ACQUIRE to RELEASE
 * @error: in: what the step fails with, a positive errno, or 0; nothing has
 *	been done then. Not for the steps that undo.
 * @delay_ms: in: how long the step sleeps, at its end
 */
struct peer_client_behaviour {
	__u32 step;
	__u32 error;
	__u32 delay_ms;
};

/**
 * struct peer_client_gate - argument of PEER_CLIENT_GATE
 * @step: in: ACQUIRE to RELEASE
 * @action: in: enum peer_client_gate_action
 *
 * Who comes to a closed gate waits inside of the step, before it does
 * anything; GET_PAGES has noted its core_context before. A killed process does
 * not wait in ACQUIRE, GET_PAGES and DMA_MAP, they fail with EINTR then.
 */
struct peer_client_gate {
	__u32 step;
	__u32 action;
};

enum peer_client_gate_action {
	PEER_CLIENT_GATE_OPEN,
	PEER_CLIENT_GATE_CLOSE,
	/* until somebody stands before it; ETIMEDOUT */
	PEER_CLIENT_GATE_WAIT,
};

/* Longer than any test takes; then a gate opens by itself, and that counts. */
#define PEER_CLIENT_GATE_SECONDS	60

/**
 * struct peer_client_state - result of PEER_CLIENT_STATE
 * @registered: 1 if it is
 * @ranges: acquired and not released
 * @held: of these, with pages
 * @mapped: of these, mapped
 * @blocks: that are mapped for DMA, of all ranges together
 * @buffers: that exist, mapped into a process or acquired
 * @by_invalidation: ranges whose pages were put during an invalidation, by the
 *	process that invalidated
 * @violations: of the contract in rdma/peer_mem.h; the log says what
 * @gates_timed_out: nobody opened them
 * @calls: how often each step was taken
 * @succeeded: how often it was no failure
 */
struct peer_client_state {
	__u32 registered;
	__u32 ranges;
	__u32 held;
	__u32 mapped;
	__u32 blocks;
	__u32 buffers;
	__u32 by_invalidation;
	__u32 violations;
	__u32 gates_timed_out;
	__u32 reserved;
	__u64 calls[PEER_CLIENT_STEPS];
	__u64 succeeded[PEER_CLIENT_STEPS];
};

/**
 * struct peer_client_record - one step
 * @step: which
 * @range: number of the range, from 1; 0 if there is none
 * @result: 0 or more, or a negative errno
 * @pid: who was in it (thread group)
 * @addr: of ACQUIRE and GET_PAGES
 * @size: the same
 * @core_context: from GET_PAGES on
 * @write: of GET_PAGES
 */
struct peer_client_record {
	__u32 step;
	__u32 range;
	__s32 result;
	__u32 pid;
	__aligned_u64 addr;
	__aligned_u64 size;
	__aligned_u64 core_context;
	__u32 write;
	__u32 reserved;
};

enum { PEER_CLIENT_RECORDS = 256 };

/**
 * struct peer_client_log - argument and result of PEER_CLIENT_LOG
 * @records: in: a user's array of PEER_CLIENT_RECORDS of them
 * @count: out: how many of the first since PEER_CLIENT_CLEAR there are
 */
struct peer_client_log {
	__aligned_u64 records;
	__u32 count;
	__u32 reserved;
};

#define PEER_CLIENT_IOC_MAGIC	0xBE
/* enum peer_client_flags; EBUSY if it is registered, or has memory of others */
#define PEER_CLIENT_REGISTER	_IOW(PEER_CLIENT_IOC_MAGIC, 0x10, __u32)
/* ENOTCONN if it is not; does not return while there are MRs */
#define PEER_CLIENT_UNREGISTER	_IO(PEER_CLIENT_IOC_MAGIC, 0x11)
#define PEER_CLIENT_BEHAVE	_IOW(PEER_CLIENT_IOC_MAGIC, 0x12, struct peer_client_behaviour)
#define PEER_CLIENT_GATE	_IOW(PEER_CLIENT_IOC_MAGIC, 0x13, struct peer_client_gate)
/*
 * takes back all ranges of the client, whoever has them; EOPNOTSUPP if it
 * cannot, ENOTCONN if it is not registered, EBUSY if that is about to change
 */
#define PEER_CLIENT_INVALIDATE_ALL	_IO(PEER_CLIENT_IOC_MAGIC, 0x14)
#define PEER_CLIENT_STATE	_IOR(PEER_CLIENT_IOC_MAGIC, 0x15, struct peer_client_state)
#define PEER_CLIENT_LOG		_IOWR(PEER_CLIENT_IOC_MAGIC, 0x16, struct peer_client_log)
/* forgets counts, records and behaviours, and opens all gates */
#define PEER_CLIENT_CLEAR	_IO(PEER_CLIENT_IOC_MAGIC, 0x17)

#endif /* TESTS_PEER_CLIENT_H */
