// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * field_dma_leak RDMA-DEVICE: the field bug "DMA mapping leaked on invalidate".
 *
 * An MR that was taken back is only half alive: its deregistration has to leave
 * out what the invalidation did. A core in which either leaves the unmapping to
 * the other, or which forgets it where the client said that it unmaps itself,
 * leaks DMA mappings, which is seen when IOVA space or swiotlb runs out.
 *
 * For each kind of client, the exact calls in each way in which an MR may end,
 * and that nothing is mapped from the moment at which invalidation returns.
 */
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SIZE = 16 * PAGE, MRS = 50 };

static const char *device;
static struct hca hca;
static bool has_dma;
static int client;
static char *memory;

/* Of rxe there are no calls to map. */
static void calls_are(const char *with_dma, const char *without,
		      const char *kind, const char *what)
{
	char name[128];

	snprintf(name, sizeof(name), "DMA leak, %s, %s", kind, what);
	steps_are(client, has_dma ? with_dma : without, name);
}

static bool nothing_mapped(void)
{
	struct peer_client_state state = client_state(client);

	return !state.blocks && !state.mapped && !state.held;
}

/* A process that has an MR taken back and leaves the rest to the kernel. */
static int exit_with_mr(void *arg)
{
	struct hca own = hca_open(device);
	struct hca_mr mr;

	if (hca_reg(&own, memory, SIZE, 0, &mr))
		return 1;
	return arg && client_invalidate(client) ? 2 : 0;
}

static void each_end(uint32_t flags, const char *kind)
{
	bool unmaps = flags & PEER_CLIENT_UNMAPS;
	struct hca_mr mr, mrs[MRS];
	bool good = true;

	client_register(client, flags);
	memory = client_memory(client, SIZE);

	mr = hca_reg_or_give_up(&hca, memory, SIZE);
	ok(client_state(client).blocks == (has_dma ? SIZE / PAGE : 0),
	   "DMA leak, %s: an MR maps what it needs", kind);
	hca_dereg(&hca, &mr);
	calls_are("acquire get_pages dma_map dma_unmap put_pages release",
		  "acquire get_pages put_pages release", kind,
		  "deregistered");
	ok(nothing_mapped(), "DMA leak, %s, deregistered: nothing is mapped",
	   kind);

	mr = hca_reg_or_give_up(&hca, memory, SIZE);
	client_clear(client);
	client_invalidate(client);
	ok(nothing_mapped(), "DMA leak, %s, taken back: nothing is mapped",
	   kind);
	client_invalidate(client);
	hca_dereg(&hca, &mr);
	if (unmaps)
		calls_are("invalidate undo invalidated invalidate invalidated release",
			  "invalidate undo invalidated invalidate invalidated release",
			  kind, "taken back twice and deregistered");
	else
		calls_are("invalidate dma_unmap put_pages invalidated invalidate invalidated release",
			  "invalidate put_pages invalidated invalidate invalidated release",
			  kind, "taken back twice and deregistered");

	client_clear(client);
	ok(!in_child(exit_with_mr, NULL) && nothing_mapped(),
	   "DMA leak, %s: the end of a process", kind);
	calls_are("acquire get_pages dma_map dma_unmap put_pages release",
		  "acquire get_pages put_pages release", kind,
		  "the end of a process");
	client_clear(client);
	ok(!in_child(exit_with_mr, "") && nothing_mapped(),
	   "DMA leak, %s: the end of a process, after its MR was taken back",
	   kind);
	calls_are(unmaps ? "acquire get_pages dma_map invalidate undo invalidated release" :
			   "acquire get_pages dma_map invalidate dma_unmap put_pages invalidated release",
		  unmaps ? "acquire get_pages invalidate undo invalidated release" :
			   "acquire get_pages invalidate put_pages invalidated release",
		  kind, "taken back, and the end of a process");

	/* Some deregistered before, some after the rest is taken back. */
	client_clear(client);
	for (int i = 0; i < MRS; i++)
		mrs[i] = hca_reg_or_give_up(&hca, memory + i % 16 * PAGE, PAGE);
	good &= client_state(client).held == MRS;
	for (int i = 0; i < MRS; i += 3)
		good &= !hca_dereg(&hca, &mrs[i]);
	client_invalidate(client);
	good &= nothing_mapped();
	for (int i = 0; i < MRS; i++)
		if (i % 3)
			good &= !hca_dereg(&hca, &mrs[i]);
	ok(good, "DMA leak, %s: %d MRs on the same memory", kind, MRS);

	munmap(memory, SIZE);
	client_is_idle(client, kind);
	client_unregister(client);
}

/* What went wrong after the mapping must not leave it. */
static void failed_registration(uint32_t flags)
{
	struct hca_mr mr;

	client_register(client, flags);
	memory = client_memory(client, SIZE);
	client_fails(client, PEER_CLIENT_DMA_MAP, EL2HLT);
	fails(hca_reg(&hca, memory, SIZE, 0, &mr), EL2HLT,
	      "DMA leak: a registration that cannot be mapped");
	ok(nothing_mapped(), "DMA leak: nothing is mapped then");
	munmap(memory, SIZE);
	client_is_idle(client, "a failed registration");
	client_unregister(client);
}

int main(int argc, char **argv)
{
	uint32_t flags;

	if (argc != 2) {
		fprintf(stderr, "usage: field_dma_leak RDMA-DEVICE\n");
		return EXIT_FAILURE;
	}
	device = argv[1];
	hca = hca_open(device);
	flags = CLIENT_USUAL | flags_for(device);
	has_dma = !flags_for(device);
	client = client_open(0);

	each_end(flags, "pages");
	each_end(flags | PEER_CLIENT_UNMAPS, "pages, the client unmaps");
	if (has_dma) {
		flags &= ~PEER_CLIENT_HAS_PAGES;
		each_end(flags, "no pages");
		each_end(flags | PEER_CLIENT_UNMAPS,
			 "no pages, the client unmaps");
		failed_registration(flags);
	}
	return done_testing();
}
