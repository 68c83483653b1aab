/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * How rxe copies to and from I/O memory: the same functions as in the series, which
 * are static there. static.t compares them.
 */
#ifndef _RXE_COPY_H
#define _RXE_COPY_H

#include <linux/io.h>
#include <linux/minmax.h>
#include <linux/unaligned.h>

static void rxe_copy_to_io(void __iomem *to, const void *from, size_t bytes)
{
	size_t head = min_t(size_t, bytes, -(uintptr_t)to & 7);

	memcpy_toio(to, from, head);
	to += head;
	from += head;

	for (bytes -= head; bytes >= 8; bytes -= 8) {
		__raw_writeq(get_unaligned((const u64 *)from), to);
		to += 8;
		from += 8;
	}

	memcpy_toio(to, from, bytes);
}

static void rxe_copy_from_io(void *to, const void __iomem *from, size_t bytes)
{
	size_t head = min_t(size_t, bytes, -(uintptr_t)from & 7);

	memcpy_fromio(to, from, head);
	to += head;
	from += head;

	for (bytes -= head; bytes >= 8; bytes -= 8) {
		put_unaligned(__raw_readq(from), (u64 *)to);
		to += 8;
		from += 8;
	}

	memcpy_fromio(to, from, bytes);
}

#endif /* _RXE_COPY_H */
