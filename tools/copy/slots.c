// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The places of the blocks in flight, and their threads.
 */
#include <string.h>
#include <zlib.h>

#include "copy.h"

int slots_start(struct copy *copy, void *(*thread)(void *slot))
{
	for (unsigned int i = 0; i < copy->depth; i++) {
		struct slot *slot = &copy->slots[i];
		int ret;

		slot->copy = copy;
		ret = pthread_create(&slot->thread, NULL, thread, slot);
		if (ret)
			return fail(copy, "a thread: %s", strerror(ret));
		slot->started = true;
	}
	return 0;
}

void slots_join(struct copy *copy)
{
	for (unsigned int i = 0; i < copy->depth; i++)
		if (copy->slots[i].started)
			pthread_join(copy->slots[i].thread, NULL);
}

void slot_becomes(struct slot *slot, enum slot_state state)
{
	pthread_mutex_lock(&slot->copy->lock);
	slot->state = state;
	pthread_cond_broadcast(&slot->copy->changed);
	pthread_mutex_unlock(&slot->copy->lock);
}

void slot_goes_away(struct slot *slot)
{
	pthread_mutex_lock(&slot->copy->lock);
	slot->state = SLOT_AWAY;
	slot->unsent = true;
	slot->copy->active = now();
	pthread_mutex_unlock(&slot->copy->lock);
}

void slot_is_sent(struct slot *slot)
{
	pthread_mutex_lock(&slot->copy->lock);
	slot->unsent = false;
	pthread_cond_broadcast(&slot->copy->changed);
	pthread_mutex_unlock(&slot->copy->lock);
}

bool slot_is(struct slot *slot, enum slot_state state)
{
	bool yes;

	pthread_mutex_lock(&slot->copy->lock);
	yes = slot->state == state;
	pthread_mutex_unlock(&slot->copy->lock);
	return yes;
}

bool slot_wait(struct slot *slot, enum slot_state state)
{
	struct copy *copy = slot->copy;
	bool good;

	pthread_mutex_lock(&copy->lock);
	/* What an RDMA device has not sent yet, it may have to send again. */
	while ((slot->state != state || slot->unsent) && !copy->reason[0] &&
	       !copy->finished)
		pthread_cond_wait(&copy->changed, &copy->lock);
	good = !copy->reason[0] && !copy->finished;
	pthread_mutex_unlock(&copy->lock);
	return good;
}

unsigned char *slot_memory(const struct slot *slot)
{
	return slot->copy->memory.p +
	       (slot - slot->copy->slots) * slot->copy->block;
}

/*
 * CRCs are linear: each block's, moved on by all the bytes that come after it, add
 * up to the whole file's, in any order.
 */
void slot_account(struct slot *slot)
{
	struct copy *copy = slot->copy;
	uint64_t after = copy->size - slot->block * copy->block - slot->length;
	uint32_t crc = 0;

	if (copy->checksum)
		crc = crc32_combine64(slot->crc, 0, after);
	pthread_mutex_lock(&copy->lock);
	copy->crc ^= crc;
	copy->done += slot->length;
	pthread_mutex_unlock(&copy->lock);
}

uint64_t bytes_done(struct copy *copy)
{
	uint64_t bytes;

	pthread_mutex_lock(&copy->lock);
	bytes = copy->done;
	pthread_mutex_unlock(&copy->lock);
	return bytes;
}

uint64_t settled(struct copy *copy)
{
	uint64_t block, bytes;

	pthread_mutex_lock(&copy->lock);
	block = copy->next;
	for (unsigned int i = 0; i < copy->depth; i++)
		if (copy->slots[i].state != SLOT_IDLE &&
		    copy->slots[i].block < block)
			block = copy->slots[i].block;
	bytes = block * copy->block;
	if (bytes > copy->size)
		bytes = copy->size;
	if (copy->settled > bytes)
		bytes = copy->settled;
	if (copy->complete)
		bytes = copy->size;
	pthread_mutex_unlock(&copy->lock);
	return bytes;
}
