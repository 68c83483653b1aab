// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * client_refusals RDMA-DEVICE [ERRNO]: whose memory is taken, and whose is
 * refused, with which errno, and that a refusal undoes what was done, in order.
 * With ERRNO no client's memory is taken at all.
 */
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096, SIZE = 4 * PEER_CLIENT_BIG_PAGE };

static struct hca hca;
static uint32_t flags;
static bool has_dma;	/* the device, so that the client has to map for it */
static int client, other;

static int reg(char *p, size_t len, int access)
{
	struct hca_mr mr;

	errno = 0;
	if (hca_reg(&hca, p, len, access, &mr))
		return -1;
	if (hca_dereg(&hca, &mr))
		give_up("deregister");
	return 0;
}

/* It is not to be had, whatever for. */
static void refused(uint32_t with, int error, const char *steps,
		    const char *name)
{
	char *p;

	client_register(client, with);
	p = client_memory(client, SIZE);
	fails(reg(p, SIZE, IBV_ACCESS_LOCAL_WRITE), error, "%s", name);
	steps_are(client, steps, name);
	munmap(p, SIZE);
	client_is_idle(client, name);
	client_unregister(client);
}

/* Each step may fail; what comes out is the client's own errno. */
static void failing_steps(void)
{
	static const struct {
		enum peer_client_step step;
		int error;
		const char *name, *steps;
	} cases[] = {
		{ PEER_CLIENT_ACQUIRE, ECHRNG, "acquire fails", "acquire!" },
		{ PEER_CLIENT_GET_PAGES, EL2HLT, "get_pages fails",
		  "acquire get_pages! release" },
		{ PEER_CLIENT_DMA_MAP, ESTRPIPE, "dma_map fails",
		  "acquire get_pages dma_map! put_pages release" },
	};
	char *p;

	client_register(client, flags);
	p = client_memory(client, SIZE);
	for (int i = 0; i < (has_dma ? 3 : 2); i++) {
		client_clear(client);
		client_fails(client, cases[i].step, cases[i].error);
		fails(reg(p, SIZE, IBV_ACCESS_LOCAL_WRITE), cases[i].error,
		      "%s", cases[i].name);
		steps_are(client, cases[i].steps, cases[i].name);
	}
	client_clear(client);
	ok(!reg(p, SIZE, IBV_ACCESS_LOCAL_WRITE), "and then it succeeds");
	steps_are(client, has_dma ? "acquire get_pages dma_map dma_unmap put_pages release" :
				    "acquire get_pages put_pages release",
		  "the order of the calls");
	munmap(p, SIZE);
	client_is_idle(client, "failing steps");
	client_unregister(client);
}

/* What get_pages and acquire are told. */
static void arguments(void)
{
	const struct peer_client_record *r;
	unsigned int n;
	char *p;

	client_register(client, flags);
	p = client_memory(client, SIZE);
	ok(!reg(p + 123, PAGE, 0), "a range that is not aligned");
	r = client_log(client, &n);
	ok(n >= 2 && r[0].addr == (uintptr_t)p + 123 && r[0].size == PAGE &&
	   r[1].addr == r[0].addr && r[1].size == PAGE && !r[1].write &&
	   r[1].core_context && r[1].pid == (uint32_t)getpid(),
	   "acquire and get_pages are told of it as it is, and not to write");
	client_clear(client);
	ok(!reg(p, PAGE, IBV_ACCESS_LOCAL_WRITE), "a range to write to");
	r = client_log(client, &n);
	ok(n >= 2 && r[1].write, "get_pages is told to write");

	client_clear(client);
	mprotect(p, SIZE, PROT_READ);
	fails(reg(p, PAGE, IBV_ACCESS_LOCAL_WRITE), EFAULT,
	      "a read-only mapping, to write to");
	steps_are(client, "acquire release", "a read-only mapping");
	ok(!reg(p, PAGE, IBV_ACCESS_REMOTE_READ),
	   "a read-only mapping, to read from");
	client_clear(client);
	fails(reg(p + SIZE - PAGE, 2 * PAGE, 0), EFAULT,
	      "a range beyond the mapping");
	steps_are(client, "", "a range beyond the mapping");
	munmap(p, SIZE);
	client_is_idle(client, "arguments");
	client_unregister(client);
}

/*
 * The device finds each byte of the range where it is, whatever the client's
 * page size is, whether it has pages, and wherever in a page the range begins.
 */
static void contents(uint32_t with, const char *name)
{
	static const size_t begins[] = {
		0, PAGE + 8, PEER_CLIENT_BIG_PAGE - PAGE,
		PEER_CLIENT_BIG_PAGE + 3 * PAGE + 808,
	};
	enum { LEN = PEER_CLIENT_BIG_PAGE + 5 * PAGE + 16, PIECE = 4080 };
	char *p, *host = aligned_alloc(PAGE, PAGE);
	struct hca_mr mr, host_mr;
	bool good = true;

	client_register(client, with);
	p = client_memory(client, SIZE);
	fill(p, SIZE, 1);
	memset(host, 0, PAGE);
	host_mr = hca_reg_or_give_up(&hca, host, PAGE);
	for (int i = 0; i < 4; i++) {
		const size_t offsets[] = {
			begins[i],			/* first bytes */
			begins[i] + LEN / 2 / 8 * 8,
			begins[i] + LEN - PIECE,	/* last bytes */
		};

		mr = hca_reg_or_give_up(&hca, p + begins[i], LEN);
		for (int j = 0; j < 3; j++)
			good &= !hca_copy(&hca, &mr, p + offsets[j], &host_mr,
					  host, PIECE) &&
				!memcmp(host, p + offsets[j], PIECE);
		good &= hca_copy(&hca, &mr, p + begins[i] + LEN - PIECE + 8,
				 &host_mr, host, PIECE);
		hca_dereg(&hca, &mr);
	}
	ok(good && filled(p, SIZE, 1), "%s: the device reads what is there",
	   name);
	mr = hca_reg_or_give_up(&hca, p + begins[3], LEN);
	fill(host, PAGE, 2);
	ok(!hca_copy(&hca, &host_mr, host, &mr, p + begins[3] + PIECE,
		     PIECE) && !memcmp(p + begins[3] + PIECE, host, PIECE),
	   "%s: what it writes is there", name);
	hca_dereg(&hca, &mr);
	hca_dereg(&hca, &host_mr);
	munmap(p, SIZE);
	client_is_idle(client, name);
	client_unregister(client);
	free(host);
}

/* One that cannot be invalidated does not stand in another's way. */
static void two_clients(void)
{
	char *p, *q;

	client_register(client, flags & ~PEER_CLIENT_CAN_INVALIDATE);
	client_register(other, flags);
	p = client_memory(client, SIZE);
	q = client_memory(other, SIZE);
	fails(reg(p, PAGE, 0), EOPNOTSUPP, "two clients, memory of the one that cannot be invalidated");
	ok(!reg(q, PAGE, 0), "two clients, memory of the other");
	munmap(p, SIZE);
	munmap(q, SIZE);
	client_is_idle(client, "two clients, the one");
	client_is_idle(other, "two clients, the other");
	client_unregister(client);
	client_unregister(other);
}

static void not_registered(void)
{
	char *p;

	/* The memory is made as the flags of the last registration say. */
	p = client_memory(client, SIZE);
	fails(reg(p, PAGE, 0), EFAULT, "the client is not registered");
	munmap(p, SIZE);
}

int main(int argc, char **argv)
{
	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: client_refusals RDMA-DEVICE [ERRNO]\n");
		return EXIT_FAILURE;
	}
	hca = hca_open(argv[1]);
	flags = CLIENT_USUAL | flags_for(argv[1]);
	has_dma = !flags_for(argv[1]);
	client = client_open(0);
	other = client_open(1);

	if (argc == 3) {
		refused(flags, errno_named(argv[2]), "acquire release",
			"a device that cannot give memory back");
		return done_testing();
	}
	refused(flags & ~PEER_CLIENT_CAN_INVALIDATE, EOPNOTSUPP,
		"acquire release", "a client that cannot be invalidated");
	if (!has_dma) {
		refused(CLIENT_USUAL & ~PEER_CLIENT_HAS_PAGES, EOPNOTSUPP,
			"acquire get_pages put_pages release",
			"a client without pages, a device that copies by CPU");
		refused(CLIENT_USUAL, EOPNOTSUPP,
			"acquire get_pages put_pages release",
			"a client with RAM, rxe");
		refused(flags | PEER_CLIENT_MIXED, EOPNOTSUPP,
			"acquire get_pages put_pages release",
			"a client with PCI memory and RAM, rxe");
	}
	failing_steps();
	arguments();
	if (has_dma) {
		contents(flags, "pages");
		contents(flags & ~PEER_CLIENT_HAS_PAGES, "no pages");
		contents(flags | PEER_CLIENT_BIG_PAGES, "pages of 64 KiB");
		contents((flags | PEER_CLIENT_BIG_PAGES) &
			 ~PEER_CLIENT_HAS_PAGES, "no pages, but 64 KiB");
	}
	two_clients();
	not_registered();
	return done_testing();
}
