// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The sender: from the source into our memory, and from there into the receiver's.
 */
#include <endian.h>

#include "copy.h"

static bool take_block(struct slot *slot)
{
	struct copy *copy = slot->copy;
	bool taken;

	pthread_mutex_lock(&copy->lock);
	taken = copy->next * copy->block < copy->size && !copy->reason[0];
	if (taken) {
		slot->block = copy->next++;
		slot->length = copy->size - slot->block * copy->block;
		if (slot->length > copy->block)
			slot->length = copy->block;
		slot->state = SLOT_BUSY;
	}
	pthread_mutex_unlock(&copy->lock);
	return taken;
}

static int send_block(struct slot *slot)
{
	struct copy *copy = slot->copy;
	struct message *message =
		&copy->connection.outgoing[slot - copy->slots];

	*message = (struct message){
		.type = htobe32(MESSAGE_BLOCK),
		.slot = htobe32(slot - copy->slots),
		.block = htobe64(slot->block),
		.length = htobe64(slot->length),
		.settled = htobe64(settled(copy)),
		.crc = htobe32(slot->crc),
	};
	slot_goes_away(slot);
	return post_block(slot);
}

static void *send_blocks(void *arg)
{
	struct slot *slot = arg;

	while (take_block(slot)) {
		if (read_block(slot) || memory_settle(slot) ||
		    (slot->copy->checksum && memory_checksum(slot)) ||
		    send_block(slot) || !slot_wait(slot, SLOT_IDLE))
			break;
	}
	return NULL;
}

static int say_end(struct copy *copy)
{
	copy->connection.outgoing[END_MESSAGE(copy)] = (struct message){
		.type = htobe32(MESSAGE_END),
		.crc = htobe32(copy->crc),
	};
	touch(copy);
	return post_message(copy, END_MESSAGE(copy));
}

static int heard(struct copy *copy, struct message *message)
{
	unsigned int index = be32toh(message->slot);

	switch (be32toh(message->type)) {
	case MESSAGE_WRITTEN:
		if (index >= copy->depth ||
		    !slot_is(&copy->slots[index], SLOT_AWAY))
			return fail(copy, "the receiver sends nonsense");
		slot_account(&copy->slots[index]);
		slot_becomes(&copy->slots[index], SLOT_IDLE);
		return bytes_done(copy) == copy->size ? say_end(copy) : 0;
	case MESSAGE_END:
		if (bytes_done(copy) != copy->size)
			return fail(copy, "the receiver sends nonsense");
		finish(copy);
		return 0;
	default:
		return fail_by_message(copy, message);
	}
}

/* The receiver owes us something. */
static bool waiting(struct copy *copy)
{
	bool owes;

	pthread_mutex_lock(&copy->lock);
	owes = copy->done == copy->size;
	for (unsigned int i = 0; i < copy->depth; i++)
		owes = owes || copy->slots[i].state == SLOT_AWAY;
	pthread_mutex_unlock(&copy->lock);
	return owes;
}

int send_file(struct copy *copy)
{
	uint64_t blocks;

	if (memory_open(copy) || open_source(copy))
		return -1;
	copy->block = copy->options->block;
	copy->checksum = copy->options->checksum;
	/* not more of the memory than there is use for */
	blocks = (copy->size + copy->block - 1) / copy->block;
	copy->depth = copy->options->depth;
	if (copy->depth > blocks)
		copy->depth = blocks ? blocks : 1;
	if (connection_to(copy))
		return -1;
	copy->started = now();
	touch(copy);
	if (slots_start(copy, send_blocks) || (!copy->size && say_end(copy)))
		return -1;
	return take_turns(copy, heard, waiting);
}
