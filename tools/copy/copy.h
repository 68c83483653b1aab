/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What the parts of iopmem-copy share.
 *
 * The sender has as many threads as blocks may be in flight. Each has a slot of
 * the memory: it reads a block of the source into it, has it written into the
 * same slot of the receiver's memory, and waits until the receiver has written
 * it to the target. The receiver has a thread for each slot, too. The main thread
 * of either side hears what comes by RDMA.
 */
#ifndef IOPMEM_COPY_H
#define IOPMEM_COPY_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <infiniband/iopmem.h>
#include <rdma/rdma_cma.h>

/* O_DIRECT wants its memory, offsets and lengths in multiples of this. */
enum { ALIGNMENT = 4096 };

enum { MAX_DEPTH = 64, REASON_SIZE = 256, MESSAGE_TEXT = 160 };

/**
 * struct options - what the command line says
 * @file: source or target
 * @host: to send to; NULL: receive
 * @address: to listen on, or NULL for any
 * @port: of the other side, or ours
 * @through: /dev/iopmemN, or NULL for host memory
 * @dmabuf: register the memory as a dma-buf, not by its address
 * @checksum: read all that passes by CPU, and compare
 * @progress, @json: what is printed
 * @block: bytes of each read, RDMA write and write
 * @depth: blocks in flight
 * @timeout: seconds without an answer after which the other side is given up
 */
struct options {
	const char *file, *host, *address, *port, *through;
	bool dmabuf, checksum, progress, json;
	uint64_t block;
	unsigned int depth, timeout;
};

/* In these all numbers are big-endian. Of the request to connect, of its answer
 * and of a refusal the connection manager carries 56, 196 and 148 bytes. */
enum { COPY_MAGIC = 0x696f7063, COPY_VERSION = 1, HELLO_CHECKSUM = 1 };

struct hello {
	uint32_t magic, version;
	uint64_t size, block;
	uint32_t depth, flags;
};

struct welcome {
	uint32_t magic, version;
	uint64_t address;
	uint32_t rkey, reserved;
};

struct refusal {
	uint32_t magic, version;
	char text[120];
};

enum message_type {
	MESSAGE_BLOCK = 1,	/* to the receiver: it is in your memory */
	MESSAGE_WRITTEN,	/* to the sender: it is in the target */
	MESSAGE_END,		/* to the receiver, then to the sender */
	MESSAGE_ERROR,
};

/*
 * @settled: of a block: so many bytes from the beginning are in the target
 * @crc: of a block or, at the end, of all
 */
struct message {
	uint32_t type, slot;
	uint64_t block, length, settled;
	uint32_t crc, reserved;
	char text[MESSAGE_TEXT];
};

struct memory {
	int fd, buf_fd;
	unsigned char *p;
	size_t size;
	struct ibv_mr *mr;
	struct iopmem_info info;
};

/* Messages of ours: one of each slot, and these two. */
#define END_MESSAGE(copy)	((copy)->depth)
#define ERROR_MESSAGE(copy)	((copy)->depth + 1)
#define MESSAGES(copy)		((copy)->depth + 2)

struct connection {
	struct rdma_event_channel *events;
	struct rdma_cm_id *listener, *id;
	struct ibv_pd *pd;
	struct ibv_comp_channel *completions;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	struct message *outgoing, *incoming;	/* MESSAGES() of each */
	struct welcome there;
	bool established;
};

enum slot_state { SLOT_IDLE, SLOT_BUSY, SLOT_AWAY };

/**
 * struct slot - a block's place in the memory
 * @state: busy: its thread works on it; away: the other side does
 * @unsent: its message has not been acknowledged yet
 * @block, @length, @crc: what is in it
 */
struct slot {
	struct copy *copy;
	pthread_t thread;
	bool started;
	enum slot_state state;
	bool unsent;
	uint64_t block, length;
	uint32_t crc;
};

struct copy {
	const struct options *options;
	int file;
	bool is_block_device;
	uint64_t size, block;
	unsigned int depth;
	bool checksum;
	struct memory memory;
	struct connection connection;
	struct slot slots[MAX_DEPTH];

	/* Guards what follows, and the slots' states. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int wake;		/* an eventfd: the main thread looks again */
	uint64_t next;		/* sender: the block to read next */
	uint64_t done;		/* bytes that are in the target */
	uint64_t settled;	/* receiver: as the sender says */
	uint32_t crc;
	double active;		/* when something was last said, here or there */
	bool complete;		/* receiver: all is in the target */
	bool finished;		/* nothing is to come any more */
	bool told;		/* the other side is who has failed */
	char reason[REASON_SIZE];	/* "" while nothing has failed */

	double started, shown;
};

/* main.c: the first reason counts, wakes everybody. Returns -1. */
__attribute__((format(printf, 2, 3)))
int fail(struct copy *copy, const char *fmt, ...);
bool failed(struct copy *copy);
double now(void);
/* Something was said just now; seconds since then. */
void touch(struct copy *copy);
double silence(struct copy *copy);
void finish(struct copy *copy);
extern volatile sig_atomic_t interrupted;

/* send.c, receive.c: 0, or -1 and a reason */
int send_file(struct copy *copy);
int receive_file(struct copy *copy);

/* slots.c */
int slots_start(struct copy *copy, void *(*thread)(void *slot));
void slots_join(struct copy *copy);
void slot_becomes(struct slot *slot, enum slot_state state);
/* Its message is going to be posted; the other side's RDMA device has it. */
void slot_goes_away(struct slot *slot);
void slot_is_sent(struct slot *slot);
bool slot_is(struct slot *slot, enum slot_state state);
/* False if there is nothing to wait for any more. */
bool slot_wait(struct slot *slot, enum slot_state state);
unsigned char *slot_memory(const struct slot *slot);
/* The block's part of the checksum of all. */
void slot_account(struct slot *slot);
uint64_t bytes_done(struct copy *copy);
/* Bytes from the beginning that are in the target: what is known here. */
uint64_t settled(struct copy *copy);

/* file.c */
int open_source(struct copy *copy);
int open_target(struct copy *copy);
/* The file system, or the device, takes as much. */
int prepare_target(struct copy *copy);
int read_block(struct slot *slot);
int write_block(struct slot *slot);
int finish_target(struct copy *copy);

/* memory.c */
int memory_open(struct copy *copy);
int memory_register(struct copy *copy);
void memory_close(struct copy *copy);
/* Both look at the memory by CPU. -1 if it has been taken away. */
int memory_settle(struct slot *slot);
int memory_checksum(struct slot *slot);

/* connection.c */
int connection_to(struct copy *copy);
int connection_wait(struct copy *copy, struct hello *hello);
int connection_accept(struct copy *copy);
void connection_refuse(struct copy *copy);
void connection_close(struct copy *copy);
/* Of an event that nobody has asked for. */
int fail_by_event(struct copy *copy, struct rdma_cm_event *event);
/* True, and it is done with, if it is one more sender. */
bool refuse_another(struct rdma_cm_event *event);

/* transfer.c */
int post_receive(struct copy *copy, unsigned int index);
int post_block(struct slot *slot);
int post_message(struct copy *copy, unsigned int index);
/*
 * The main thread's work, until copy->finished: heard() is called for each message,
 * waiting() says whether the other side owes us one.
 */
int take_turns(struct copy *copy,
	       int (*heard)(struct copy *copy, struct message *message),
	       bool (*waiting)(struct copy *copy));
/* Of a message that is not an expected one. */
int fail_by_message(struct copy *copy, struct message *message);
/* Only when no thread of a slot is left. */
void tell_failure(struct copy *copy);

/* report.c */
void report_progress(struct copy *copy);
void report_end(struct copy *copy);

#endif /* IOPMEM_COPY_H */
