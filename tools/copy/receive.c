// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The receiver: from our memory, which the sender has written to, to the target.
 */
#include <endian.h>
#include <inttypes.h>

#include "copy.h"

static int say_written(struct slot *slot)
{
	struct copy *copy = slot->copy;
	unsigned int index = slot - copy->slots;

	copy->connection.outgoing[index] = (struct message){
		.type = htobe32(MESSAGE_WRITTEN),
		.slot = htobe32(index),
	};
	/* before the answer to it can come */
	slot_goes_away(slot);
	return post_message(copy, index);
}

static int check_block(struct slot *slot, uint32_t crc)
{
	if (memory_checksum(slot))
		return -1;
	if (slot->crc == crc)
		return 0;
	return fail(slot->copy, "block %" PRIu64 " has arrived changed: checksum %08x, not %08x",
		    slot->block, slot->crc, crc);
}

static void *receive_blocks(void *arg)
{
	struct slot *slot = arg;
	struct copy *copy = slot->copy;

	while (slot_wait(slot, SLOT_BUSY)) {
		if ((copy->checksum && check_block(slot, slot->crc)) ||
		    write_block(slot))
			break;
		slot_account(slot);
		if (say_written(slot))
			break;
	}
	return NULL;
}

static int block_has_come(struct copy *copy, struct message *message)
{
	uint64_t block = be64toh(message->block);
	uint64_t length = be64toh(message->length);
	unsigned int index = be32toh(message->slot);
	struct slot *slot = &copy->slots[index];
	uint64_t blocks = (copy->size + copy->block - 1) / copy->block;

	if (index >= copy->depth || slot_is(slot, SLOT_BUSY) ||
	    block >= blocks || !length || length > copy->block ||
	    length > copy->size - block * copy->block ||
	    be64toh(message->settled) > copy->size)
		return fail(copy, "the sender sends nonsense");
	slot->block = block;
	slot->length = length;
	slot->crc = be32toh(message->crc);
	/* its threads may overtake each other */
	if (copy->settled < be64toh(message->settled))
		copy->settled = be64toh(message->settled);
	slot_becomes(slot, SLOT_BUSY);
	return 0;
}

static int all_has_come(struct copy *copy, struct message *message)
{
	if (bytes_done(copy) != copy->size)
		return fail(copy, "the sender ends too early");
	if (copy->crc != be32toh(message->crc))
		return fail(copy, "the checksum of all is %08x, not %08x",
			    copy->crc, be32toh(message->crc));
	if (finish_target(copy))
		return -1;
	copy->connection.outgoing[END_MESSAGE(copy)] = (struct message){
		.type = htobe32(MESSAGE_END),
	};
	copy->complete = true;
	/* that may have taken long */
	touch(copy);
	return post_message(copy, END_MESSAGE(copy));
}

static int heard(struct copy *copy, struct message *message)
{
	switch (be32toh(message->type)) {
	case MESSAGE_BLOCK:
		return block_has_come(copy, message);
	case MESSAGE_END:
		return all_has_come(copy, message);
	default:
		return fail_by_message(copy, message);
	}
}

/* Something may come as long as there is a slot that is not being written out. */
static bool waiting(struct copy *copy)
{
	bool owes = false;

	pthread_mutex_lock(&copy->lock);
	for (unsigned int i = 0; i < copy->depth; i++)
		owes = owes || copy->slots[i].state != SLOT_BUSY;
	pthread_mutex_unlock(&copy->lock);
	return owes;
}

/* What the sender wants */
static int take_hello(struct copy *copy, const struct hello *hello)
{
	copy->size = be64toh(hello->size);
	copy->block = be64toh(hello->block);
	/* the slots are gone through even if it is refused */
	copy->depth = be32toh(hello->depth) <= MAX_DEPTH ?
		      be32toh(hello->depth) : 0;
	copy->checksum = be32toh(hello->flags) & HELLO_CHECKSUM;
	if (be32toh(hello->magic) != COPY_MAGIC ||
	    be32toh(hello->version) != COPY_VERSION)
		return fail(copy, "the sender is no iopmem-copy of this version");
	if (!copy->block || copy->block % ALIGNMENT ||
	    copy->block > UINT32_MAX || !copy->depth ||
	    copy->size > INT64_MAX - copy->block)
		return fail(copy, "the sender sends nonsense");
	return prepare_target(copy);
}

int receive_file(struct copy *copy)
{
	struct hello hello = {};

	if (memory_open(copy) || open_target(copy) ||
	    connection_wait(copy, &hello))
		return -1;
	if (take_hello(copy, &hello) || connection_accept(copy)) {
		if (!copy->connection.established)
			connection_refuse(copy);
		return -1;
	}
	copy->started = now();
	touch(copy);
	if (slots_start(copy, receive_blocks))
		return -1;
	return take_turns(copy, heard, waiting);
}
