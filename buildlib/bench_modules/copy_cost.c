// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What the copy functions cost on this CPU, for ./lab bench: rxe uses memcpy() on
 * host memory, and functions of its own on BAR memory.
 *
 * Loading it logs, for each, the nanoseconds that 4096 bytes take (the payload
 * of a packet), and 1024 and 64, and fails. In a guest whose clock counts
 * instructions these are instructions: then what the memory is makes no difference,
 * and it can be any. A loop of 4096 instructions shows that the clock does.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "rxe_copy.h"

#define COPIES	1000

#define COST_OF(copy)					\
({							\
	u64 start = ktime_get_ns();			\
	int i;						\
							\
	for (i = 0; i < COPIES; i++) {			\
		copy;					\
		barrier();				\
	}						\
	div_u64(ktime_get_ns() - start, COPIES);	\
})

static void loop_of_4096(void)
{
	unsigned long n = 2048;

	asm volatile("1: dec %0\n\tjnz 1b" : "+r" (n) : : "cc");
}

/* len: not a constant, or memcpy() would be inlined */
static noinline void log_costs(void *to, void *from, size_t len,
			       const char *suffix)
{
	pr_info("copy memcpy%s %llu\n", suffix,
		COST_OF(memcpy(to, from, len)));
	pr_info("copy from_io%s %llu\n", suffix,
		COST_OF(rxe_copy_from_io(to, (void __iomem __force *)from,
					 len)));
	pr_info("copy to_io%s %llu\n", suffix,
		COST_OF(rxe_copy_to_io((void __iomem __force *)to, from,
				       len)));
}

static int __init copy_cost_init(void)
{
	void *to = kmalloc(SZ_4K, GFP_KERNEL);
	void *from = kzalloc(SZ_4K, GFP_KERNEL);

	if (to && from) {
		pr_info("copy loop %llu\n", COST_OF(loop_of_4096()));
		log_costs(to, from, SZ_4K, "");
		log_costs(to, from, SZ_1K, "_1K");
		log_costs(to, from, SZ_64, "_64B");
	}
	kfree(from);
	kfree(to);
	return -EAGAIN;
}

module_init(copy_cost_init);

MODULE_DESCRIPTION("The cost of the kernel's copy functions");
MODULE_LICENSE("Dual BSD/GPL");
