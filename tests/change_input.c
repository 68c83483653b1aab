// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * For LD_PRELOAD: in what the program takes a CRC of, one bit of the byte at CHANGE
 * (counted from where it begins) is another, as if it had arrived like that.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <zlib.h>

uLong crc32_z(uLong crc, const Bytef *buf, z_size_t len)
{
	static size_t seen;
	uLong (*real)(uLong, const Bytef *, z_size_t);
	const char *change = getenv("CHANGE");
	size_t at = change ? strtoull(change, NULL, 10) - seen : len;

	*(void **)&real = dlsym(RTLD_NEXT, "crc32_z");
	/* before it is beyond what there is */
	if (at < len)
		((Bytef *)buf)[at] ^= 1;
	seen += len;
	return real(crc, buf, len);
}
