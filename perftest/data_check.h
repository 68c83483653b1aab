/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * --check_data: what has arrived in the buffers is compared with what was sent.
 */

#ifndef DATA_CHECK_H
#define DATA_CHECK_H

#include "perftest_parameters.h"
#include "perftest_resources.h"

/* Prints what --help says about the option. */
void data_check_usage(void);

/*
 * Whether these parameters leave something that can be compared; to be called
 * once all options are parsed. Returns 0, or 1 after having said why not.
 */
int data_check_select(struct perftest_parameters *params);

/*
 * Fills the buffers that are sent from, if this side sends, and clears those
 * that are received into. Returns 0, or 1 without memory for it.
 */
int data_check_prepare(struct pingpong_context *ctx,
		       struct perftest_parameters *params);

/*
 * Compares what this side has received, when the test has ended. Returns 0, or 1
 * after having said what differs.
 */
int data_check(struct pingpong_context *ctx,
	       struct perftest_parameters *params);

#endif /* DATA_CHECK_H */
