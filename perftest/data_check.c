// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * --check_data: what has arrived in the buffers is compared with what was sent.
 *
 * Both sides know what that is without a word: each byte of a message follows
 * from its place in the message and from the number of the QP. Small messages
 * go to one slot of the buffer after the other, so all slots are filled alike.
 * Buffers that are received into are cleared before, and no byte of a message
 * is 0: what has not arrived is seen, and what lies behind a message, too.
 *
 * Atomics leave a sum instead: of all additions, each of 1.
 */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data_check.h"

#define CHUNK	65536

/* Where the messages of a QP are: count slots, so many bytes apart. */
struct slots {
	char *first;
	uint64_t stride;
	uint64_t count;
};

struct result {
	uint64_t compared;
	uint64_t differ;
	/* of the first byte that differs */
	int qp;
	uint64_t at;
	uint8_t got, wanted;
};

void data_check_usage(void)
{
	printf("      --check_data ");
	printf(" Compare the data that has arrived with what was sent (give it to both sides)\n");
}

static int refuse(const char *reason)
{
	fprintf(stderr, " --check_data: %s\n", reason);
	return FAILURE;
}

int data_check_select(struct perftest_parameters *params)
{
	if ((params->connection_type != RC && params->connection_type != UC &&
	     params->connection_type != UD) || params->use_xrc)
		return refuse("with RC, UC and UD only");
	if (params->test_method == RUN_INFINITELY)
		return refuse("a test that runs infinitely has no end to check at");
	if (params->verb == ATOMIC && params->atomicType == CMP_AND_SWAP)
		return refuse("compare and swap puts the value that was there, which leaves nothing to compare; see --atomic_type");
	if (params->verb == SEND && params->mr_per_qp &&
	    (params->duplex || params->tst == LAT))
		return refuse("not with --mr_per_qp where both sides send: each receives where it sends from");
	if (params->work_rdma_cm && params->connection_type == UD &&
	    (params->duplex || params->tst == LAT))
		return refuse("not with -R and UD where both sides send: setting up the connection uses a buffer");
	if (params->tst == LAT && params->size == 1 &&
	    (params->verb == WRITE || params->verb == WRITE_IMM))
		return refuse("a message of 1 byte has none but the one that the latency test of writes counts in");
	if (params->use_null_mr)
		return refuse("not with --use-null-mr");
	if (params->memory_type == MEMORY_NEURON ||
	    params->memory_type == MEMORY_HL)
		return refuse("the CPU does not reach this kind of memory");
	if (params->has_payload_modification)
		return refuse("not with --payload_file_path");
	if (params->flows > 1)
		return refuse("not with --flows");
	params->check_data = 1;
	return SUCCESS;
}

/* Does this side send what is compared, or, for reads, have it read? */
static bool sends(struct perftest_parameters *params)
{
	return params->duplex ||
	       (params->verb != READ && params->tst == LAT) ||
	       params->machine == (params->verb == READ ? SERVER : CLIENT);
}

static bool receives(struct perftest_parameters *params)
{
	return params->duplex ||
	       (params->verb != READ && params->verb != ATOMIC &&
		params->tst == LAT) ||
	       params->machine == (params->verb == READ ? CLIENT : SERVER);
}

static void set_stride(struct slots *slots, struct pingpong_context *ctx,
		       struct perftest_parameters *params)
{
	slots->stride = INC(params->size, (uint64_t)ctx->cache_line_size);
	slots->count = 1;
	if ((params->tst == BW || params->tst == LAT_BY_BW) &&
	    params->size <= ctx->cycle_buffer / 2)
		slots->count = ctx->cycle_buffer / slots->stride;
}

/* The half of a QP's buffer that its own requests are about */
static struct slots local_half(struct pingpong_context *ctx,
			       struct perftest_parameters *params, int qp)
{
	struct slots slots;

	set_stride(&slots, ctx, params);
	slots.first = ctx->buf[qp];
	return slots;
}

/* The half that the peer's requests are about, or that receives */
static struct slots remote_half(struct pingpong_context *ctx,
				struct perftest_parameters *params, int qp)
{
	uint64_t size = BUFF_SIZE(ctx->size, ctx->cycle_buffer);
	struct slots slots;

	set_stride(&slots, ctx, params);
	if (params->verb == SEND) {
		slots.first = ctx->buf[params->mr_per_qp ? qp : 0];
		if (!params->mr_per_qp)
			slots.first += (params->num_of_qps + qp) *
				       ctx->send_qp_buff_size;
		/* behind the GRH, which ends at a cache line */
		if (params->connection_type == UD)
			slots.first += ctx->cache_line_size;
	} else if (params->mr_per_qp) {
		slots.first = (char *)ctx->buf[qp] + size;
	} else {
		slots.first = (char *)ctx->buf[0] +
			      (params->num_of_qps + qp) * size;
	}
	return slots;
}

static struct slots source(struct pingpong_context *ctx,
			   struct perftest_parameters *params, int qp)
{
	return params->verb == READ ? remote_half(ctx, params, qp) :
				      local_half(ctx, params, qp);
}

static struct slots target(struct pingpong_context *ctx,
			   struct perftest_parameters *params, int qp)
{
	return params->verb == READ ? local_half(ctx, params, qp) :
				      remote_half(ctx, params, qp);
}

/* With an SRQ a message may come to the buffer of any QP. */
static uint8_t byte_of_message(struct perftest_parameters *params, int qp,
			       uint64_t at)
{
	uint32_t seed = params->use_srq ? 0 : qp;
	uint8_t byte = ((uint32_t)at * 2654435761u + seed * 805459861u +
			(uint32_t)(at >> 16)) >> 24;

	return byte ? byte : 0x55;
}

/* The latency test of writes counts in the last byte of each message. */
static bool test_counts_in(struct perftest_parameters *params, uint64_t at)
{
	if (params->tst != LAT ||
	    (params->verb != WRITE && params->verb != WRITE_IMM))
		return false;
	return at == params->size - 1 ||
	       (params->test_method == RUN_ALL && !(at & (at + 1)));
}

/*
 * How many of a QP's slots have had a message, from the first on. It may have
 * been more: how many messages there were is not known of a test that ran for a
 * time, nor which buffers an SRQ has used if there were more than messages.
 */
static uint64_t slots_used(struct perftest_parameters *params,
			   const struct slots *slots)
{
	uint64_t count = slots->count, posted = params->rx_depth;

	if (params->test_type == DURATION || params->test_method == RUN_ALL)
		return !params->use_srq;
	if (params->verb != SEND) {
		/* each of a list has its slot; nor do they move in one case */
		if (params->post_list > 1)
			posted = params->post_list;
		else if (params->verb == WRITE_IMM && params->duplex)
			posted = 1;
		else
			posted = params->iters;
	} else if (params->use_srq) {
		posted /= params->num_of_qps;
		if (posted > params->iters || params->recv_post_list > 1)
			return 0;
	} else if (params->recv_post_list > 1) {
		posted = params->recv_post_list;
		if (posted >= count)
			posted = count > 1 ? count - 1 : 1;
	}
	if (posted > params->iters)
		posted = params->iters;
	return posted < count ? posted : count;
}

/*
 * How much of a slot stays as it has arrived: the GRH of the next one may come to
 * lie on its end. The last has no next.
 */
static uint64_t bytes_that_stay(struct perftest_parameters *params,
				const struct slots *slots, uint64_t slot)
{
	if (params->connection_type != UD || slot == slots->count - 1 ||
	    params->size + UD_ADDITION <= slots->stride)
		return params->size;
	return slots->stride - UD_ADDITION;
}

/* How much there is behind a slot's message that nobody writes to */
static uint64_t gap_behind(struct pingpong_context *ctx,
			   struct perftest_parameters *params,
			   const struct slots *slots)
{
	uint64_t size = BUFF_SIZE(ctx->size, ctx->cycle_buffer);

	/* GRHs lie there, or the messages of other sizes */
	if (params->connection_type == UD || params->use_srq ||
	    params->test_method == RUN_ALL)
		return 0;
	/* a buffer of one slot may end with its message */
	if (slots->stride > size)
		return size - params->size;
	return slots->stride - params->size;
}

static void put(struct pingpong_context *ctx, char *to, const uint8_t *from,
		uint64_t len)
{
	ctx->memory->copy_host_to_buffer(to, from, len);
}

static void fill_source(struct pingpong_context *ctx,
			struct perftest_parameters *params, int qp,
			uint8_t *chunk)
{
	struct slots slots = source(ctx, params, qp);
	uint64_t slot, at, i, len;

	for (slot = 0; slot < slots.count; slot++) {
		for (at = 0; at < params->size; at += len) {
			len = params->size - at;
			if (len > CHUNK)
				len = CHUNK;
			for (i = 0; i < len; i++)
				chunk[i] = byte_of_message(params, qp, at + i);
			put(ctx, slots.first + slot * slots.stride + at, chunk,
			    len);
		}
	}
}

static void clear_target(struct pingpong_context *ctx,
			 struct perftest_parameters *params, int qp,
			 uint8_t *chunk)
{
	struct slots slots = target(ctx, params, qp);
	uint64_t size = BUFF_SIZE(ctx->size, ctx->cycle_buffer), at, len;

	memset(chunk, 0, CHUNK);
	for (at = 0; at < size; at += len) {
		len = size - at < CHUNK ? size - at : CHUNK;
		put(ctx, slots.first + at, chunk, len);
	}
}

int data_check_prepare(struct pingpong_context *ctx,
		       struct perftest_parameters *params)
{
	uint8_t *chunk = malloc(CHUNK);
	int qp;

	if (!chunk) {
		fprintf(stderr, " --check_data: out of memory\n");
		return FAILURE;
	}
	for (qp = 0; qp < params->num_of_qps; qp++) {
		if (receives(params))
			clear_target(ctx, params, qp, chunk);
		if (sends(params) && params->verb != ATOMIC)
			fill_source(ctx, params, qp, chunk);
	}
	free(chunk);
	return SUCCESS;
}

static void compare_byte(struct result *result, int qp, uint64_t at,
			 uint8_t got, uint8_t wanted)
{
	result->compared++;
	if (got == wanted)
		return;
	if (!result->differ++) {
		result->qp = qp;
		result->at = at;
		result->got = got;
		result->wanted = wanted;
	}
}

/* Compares one slot, or, if it may be unused, first sees whether it is. */
static void compare_slot(struct pingpong_context *ctx,
			 struct perftest_parameters *params, int qp,
			 const char *slot, uint64_t size, bool may_be_unused,
			 uint8_t *chunk, struct result *result)
{
	struct result here = *result;
	uint64_t at, i, len;
	bool used = false;

	for (at = 0; at < size; at += len) {
		len = size - at < CHUNK ? size - at : CHUNK;
		ctx->memory->copy_buffer_to_host(chunk, slot + at, len);
		for (i = 0; i < len; i++) {
			if (test_counts_in(params, at + i))
				continue;
			used |= chunk[i];
			compare_byte(&here, qp, at + i, chunk[i],
				     byte_of_message(params, qp, at + i));
		}
	}
	if (used || !may_be_unused)
		*result = here;
}

/* Less than a cache line */
static void compare_gap(struct pingpong_context *ctx, int qp, const char *slot,
			uint64_t begin, uint64_t size, uint8_t *chunk,
			struct result *result)
{
	uint64_t compared = result->compared, i;

	if (size)
		ctx->memory->copy_buffer_to_host(chunk, slot + begin, size);
	for (i = 0; i < size; i++)
		compare_byte(result, qp, begin + i, chunk[i], 0);
	/* they are not what was sent */
	result->compared = compared;
}

static void compare_qp(struct pingpong_context *ctx,
		       struct perftest_parameters *params, int qp,
		       uint8_t *chunk, struct result *result)
{
	struct slots slots = target(ctx, params, qp);
	uint64_t used = slots_used(params, &slots), i;
	uint64_t gap = gap_behind(ctx, params, &slots);

	for (i = 0; i < slots.count; i++) {
		const char *slot = slots.first + i * slots.stride;

		compare_slot(ctx, params, qp, slot,
			     bytes_that_stay(params, &slots, i), i >= used,
			     chunk, result);
		compare_gap(ctx, qp, slot, params->size, gap, chunk, result);
	}
}

/* Returns whether the additions to a QP's counters are all there, and no more. */
static bool sum_is_right(struct pingpong_context *ctx,
			 struct perftest_parameters *params, int qp)
{
	struct slots slots = target(ctx, params, qp);
	uint64_t sum = 0, value, i;

	for (i = 0; i < slots.count; i++) {
		ctx->memory->copy_buffer_to_host(&value, slots.first +
						 i * slots.stride,
						 sizeof(value));
		sum += value;
	}
	if (params->test_type == DURATION || params->perform_warm_up) {
		if (sum)
			return true;
		fprintf(stderr, " Data check failed: QP %d, nothing was added\n",
			qp);
		return false;
	}
	if (sum == params->iters * ATOMIC_ADD_VALUE)
		return true;
	fprintf(stderr, " Data check failed: QP %d, %" PRIu64 " was added instead of %" PRIu64 "\n",
		qp, sum, (uint64_t)params->iters * ATOMIC_ADD_VALUE);
	return false;
}

static int check_sums(struct pingpong_context *ctx,
		      struct perftest_parameters *params)
{
	int qp;

	for (qp = 0; qp < params->num_of_qps; qp++)
		if (!sum_is_right(ctx, params, qp))
			return FAILURE;
	if (params->output == FULL_VERBOSITY)
		printf(" Data check      : ok, all additions are there\n");
	return SUCCESS;
}

int data_check(struct pingpong_context *ctx,
	       struct perftest_parameters *params)
{
	struct result result = { 0 };
	uint8_t *chunk;
	int qp;

	if (!receives(params))
		return SUCCESS;
	if (params->verb == ATOMIC)
		return check_sums(ctx, params);

	chunk = malloc(CHUNK);
	if (!chunk) {
		fprintf(stderr, " Data check failed: out of memory\n");
		return FAILURE;
	}
	for (qp = 0; qp < params->num_of_qps; qp++)
		compare_qp(ctx, params, qp, chunk, &result);
	free(chunk);

	if (result.differ) {
		fprintf(stderr, " Data check failed: %" PRIu64 " of %" PRIu64 " bytes differ; the first, byte %" PRIu64 " of a message of QP %d, is 0x%02x instead of 0x%02x (do both sides have --check_data and the same options?)\n",
			result.differ, result.compared, result.at, result.qp,
			result.got, result.wanted);
		return FAILURE;
	}
	if (!result.compared) {
		fprintf(stderr, " Data check failed: nothing has arrived\n");
		return FAILURE;
	}
	if (params->output == FULL_VERBOSITY)
		printf(" Data check      : ok, %" PRIu64 " bytes are what was sent\n",
		       result.compared);
	return SUCCESS;
}
