// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The MRs of iopmem_reg_mr(), found by their address without looking into
 * them: a caller may ask for one that is no longer there.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

/* Two or three MRs a bucket with 10,000 of them */
enum { BUCKET_BITS = 12 };

static struct mr_entry *buckets[1 << BUCKET_BITS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Addresses of one size class differ in few bits: spread them. */
static struct mr_entry **bucket_of(const struct ibv_mr *mr)
{
	uint64_t hash = (uintptr_t)mr * 0x9e3779b97f4a7c15;

	return &buckets[hash >> (64 - BUCKET_BITS)];
}

static struct mr_entry *take_locked(const struct ibv_mr *mr)
{
	struct mr_entry **link = bucket_of(mr);
	struct mr_entry *entry;

	while (*link && (*link)->mr != mr)
		link = &(*link)->next;
	entry = *link;
	if (entry)
		*link = entry->next;
	return entry;
}

void mr_entry_free(struct mr_entry *entry)
{
	if (entry && entry->map)
		munmap(entry->map, entry->map_len);
	free(entry);
}

void mr_table_add(struct mr_entry *entry)
{
	struct mr_entry **bucket = bucket_of(entry->mr);
	struct mr_entry *stale;

	pthread_mutex_lock(&lock);
	/* Given to ibv_dereg_mr() behind our back, and its address reused. */
	stale = take_locked(entry->mr);
	entry->next = *bucket;
	*bucket = entry;
	pthread_mutex_unlock(&lock);
	mr_entry_free(stale);
}

struct mr_entry *mr_table_take(const struct ibv_mr *mr)
{
	struct mr_entry *entry;

	pthread_mutex_lock(&lock);
	entry = take_locked(mr);
	pthread_mutex_unlock(&lock);
	return entry;
}
