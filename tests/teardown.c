// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * teardown [OPTION...] DEV DEV2 SECONDS: the end of a device in full use.
 *
 * 1,000 MRs of all kinds are on its memory, 8 queue pairs move data from and to
 * it at both of their ends, threads write to its mappings and disks read into
 * them. Then it is taken away, within SECONDS, and nobody who used it stops
 * trying: all of them go on with what they have until the program ends. DEV2
 * stays all the time.
 *	-g COMMAND	takes DEV away, and prints how many ms that took
 *	-d COMMAND	prints a digest of its memory; run twice, and the second
 *			time must print the same
 *	-b COMMAND	brings DEV back and prints its node
 *	-f ALLOCATE	p2pmem/allocate of the same device, for a third of the MRs
 *	-D DOOR		the door for another third, on dma-bufs (see doors.h)
 *	-o DISK		O_DIRECT from there; may be repeated
 *	-k COUNT	MRs that are made while the dead ones remain (20000)
 *
 * Needs no privilege but to open the files.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 2 * PAGE,	/* of each MR: two packets */
	MRS = 1000,
	LANES = 8,
	DEPTH = 4,		/* requests in flight of each end */
	WARM = 3 * DEPTH,
	MAX_DISKS = 2,
	SAMPLE = 30,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ,
};

enum kind { MAPPING, DMABUF, FOREIGN, KINDS };

struct memory {
	enum kind kind;
	char *p;
	struct ibv_mr *mr;
};

/* A pair with requests from both of its ends. */
struct lane {
	struct pair *pair;
	int in_flight[2];
	unsigned long done[2];
	bool failed;
};

static struct ibv_pd *pd;
static struct peer peer;
static struct memory bars[MRS];
static struct lane lanes[LANES];
/* In host memory, of which a user may lock 64 KiB: a buffer for each end */
static char *host;
static struct ibv_mr *host_mr;
static unsigned int seed;

/* Whether the device has been taken away: requests posted from then on fail. */
static bool gone;
static unsigned long late_successes, late_failures;

static void make_memory(int fd, const char *allocate, const char *door)
{
	int allocate_fd = allocate ? open_device(allocate, O_RDWR) : -1;

	for (int i = 0; i < MRS; i++) {
		struct memory *m = &bars[i];

		m->kind = i % KINDS;
		if ((m->kind == FOREIGN && !allocate) ||
		    (m->kind == DMABUF && !door))
			m->kind = MAPPING;
		if (m->kind == DMABUF) {
			int buf_fd = alloc_region(fd, SIZE, 0,
						  O_RDWR | O_CLOEXEC);

			if (buf_fd < 0)
				give_up("IOPMEM_IOC_ALLOC");
			m->p = map_or_give_up(buf_fd, SIZE);
			m->mr = door_reg(pd, 0, SIZE, (uintptr_t)m->p, buf_fd,
					 ALL_ACCESS);
			close(buf_fd);
		} else {
			m->p = map_or_give_up(m->kind == FOREIGN ?
					      allocate_fd : fd, SIZE);
			m->mr = ibv_reg_mr(pd, m->p, SIZE, ALL_ACCESS);
		}
		if (!m->mr)
			give_up("MR %d", i);
	}
	if (allocate)
		close(allocate_fd);
}

static bool dereg(const struct memory *m)
{
	return !(m->kind == DMABUF ? door_dereg(m->mr) : ibv_dereg_mr(m->mr));
}

/* ---- traffic */

/* One of the four: RDMA write or read, with the BAR here or there. */
static bool post(struct lane *lane, int end)
{
	struct memory *m = &bars[rand_r(&seed) % MRS];
	bool local = rand_r(&seed) % 2;
	struct ibv_sge part = local ? part_of(m->mr, m->p, SIZE) :
			      part_of(host_mr, host + end * SIZE, SIZE);
	struct ibv_send_wr wr = {
		.wr_id = gone,
		.sg_list = &part,
		.num_sge = 1,
		.opcode = rand_r(&seed) % 2 ? IBV_WR_RDMA_WRITE :
					      IBV_WR_RDMA_READ,
		.wr.rdma = {
			.remote_addr = (uintptr_t)(local ? host + !end * SIZE :
							   m->p),
			.rkey = local ? host_mr->rkey : m->mr->rkey,
		},
	}, *bad;

	/* So that a write that arrives changes something. */
	(*(uint64_t *)(host + end * SIZE))++;
	if (ibv_post_send(lane->pair->qp[end], &wr, &bad))
		return false;
	lane->in_flight[end]++;
	return true;
}

static void reap(struct lane *lane, int end)
{
	struct ibv_wc wc;

	while (ibv_poll_cq(lane->pair->cq[end], 1, &wc) == 1) {
		lane->in_flight[end]--;
		if (wc.status == IBV_WC_SUCCESS) {
			lane->done[end]++;
			late_successes += wc.wr_id;
		} else {
			lane->failed = true;
			late_failures += wc.wr_id;
		}
	}
	while (!lane->failed && lane->in_flight[end] < DEPTH)
		if (!post(lane, end))
			lane->failed = true;
}

static void pump(void)
{
	for (int i = 0; i < LANES; i++) {
		struct lane *lane = &lanes[i];

		if (lane->failed) {
			pair_destroy(lane->pair);
			lane->pair = pair_create(pd, IBV_QPT_RC, false);
			memset(lane->in_flight, 0, sizeof(lane->in_flight));
			lane->failed = false;
		}
		for (int end = 0; end < 2; end++)
			reap(lane, end);
	}
}

static void start_lanes(void)
{
	host = host_memory(2 * SIZE);
	host_mr = ibv_reg_mr(pd, host, 2 * SIZE, ALL_ACCESS);
	if (!host_mr)
		give_up("MR on host memory");
	for (int i = 0; i < LANES; i++)
		lanes[i].pair = pair_create(pd, IBV_QPT_RC, false);
}

static bool all_warm(void)
{
	for (int i = 0; i < LANES; i++)
		for (int end = 0; end < 2; end++)
			if (lanes[i].done[end] < WARM)
				return false;
	return true;
}

static void pump_for(double seconds)
{
	double end = now() + seconds;

	while (now() < end)
		pump();
}

/* ---- CPUs and disks */

static atomic_bool stop;
static atomic_ulong cpu_writes, cpu_signals;

static struct disk {
	const char *path;
	pthread_t thread;
	atomic_ulong reads, errors;
} disks[MAX_DISKS];
static int ndisks;

static bool in_use(void)
{
	bool used = all_warm() && cpu_writes;

	for (int i = 0; i < ndisks; i++)
		used &= disks[i].reads > 0;
	return used;
}

static void write_words(void *p)
{
	volatile uint64_t *word = p;

	for (size_t i = 0; i < SIZE / sizeof(*word); i += 16)
		word[i]++;
}

/* A mapping of p2pmem/allocate is not ours: a reset leaves it alone. */
static void *use_by_cpu(void *unused)
{
	(void)unused;
	for (unsigned int i = 0; !stop; i = (i + 1) % MRS) {
		if (bars[i].kind == FOREIGN)
			continue;
		if (attempt(write_words, bars[i].p))
			cpu_signals++;
		else
			cpu_writes++;
		if (i % 16 == 0)
			usleep(1000);
	}
	return NULL;
}

static void *use_by_disk(void *arg)
{
	struct disk *disk = arg;
	int fd = open_device(disk->path, O_RDONLY | O_DIRECT);

	for (unsigned int i = 0; !stop; i = (i + 1) % MRS) {
		if (bars[i].kind == FOREIGN)
			continue;
		if (pread(fd, bars[i].p, SIZE, 0) == SIZE) {
			disk->reads++;
			continue;
		}
		disk->errors++;
		usleep(1000);
	}
	close(fd);
	return NULL;
}

/* ---- afterwards */

static void dead_by_sample(void)
{
	struct ibv_sge mine = part_of(peer.buffer_mr, peer.buffer, SIZE);
	bool good = true;
	int status;

	for (int i = 0; i < SAMPLE; i++) {
		struct memory *m = &bars[rand_r(&seed) % MRS];

		status = pair_rdma(peer_pair(&peer), 0, i % 2 ?
				   IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, mine,
				   m->p, m->mr->rkey);
		if (status != IBV_WC_REM_ACCESS_ERR) {
			printf("# MR %td, remotely: %s\n", m - bars,
			       status_name(status));
			good = false;
		}
		status = pair_rdma(peer_pair(&peer), 0, i % 2 ?
				   IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
				   part_of(m->mr, m->p, SIZE), host,
				   host_mr->rkey);
		if (status != IBV_WC_LOC_PROT_ERR) {
			printf("# MR %td, locally: %s\n", m - bars,
			       status_name(status));
			good = false;
		}
	}
	ok(good, "%d MRs end remote use with an access error, local use with a protection error",
	   SAMPLE);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static bool is_among(uint32_t key, const uint32_t *keys)
{
	return bsearch(&key, keys, MRS, sizeof(key), by_value);
}

/* A key is its MR's until that is deregistered. */
static void keys_are_kept(int count)
{
	uint32_t rkeys[MRS], lkeys[MRS];
	struct ibv_mr *mr;
	int reused = 0;

	for (int i = 0; i < MRS; i++) {
		rkeys[i] = bars[i].mr->rkey;
		lkeys[i] = bars[i].mr->lkey;
	}
	qsort(rkeys, MRS, sizeof(rkeys[0]), by_value);
	qsort(lkeys, MRS, sizeof(lkeys[0]), by_value);
	for (int i = 0; i < count; i++) {
		mr = ibv_reg_mr(pd, peer.buffer, 64, ALL_ACCESS);
		if (!mr)
			give_up("MR %d on host memory", i);
		reused += is_among(mr->rkey, rkeys) + is_among(mr->lkey, lkeys);
		ibv_dereg_mr(mr);
	}
	ok(!reused, "of %d new MRs none has a key of theirs", count);
}

/* What the command prints first, while the traffic goes on. */
static bool printed_by(const char *command, char *word)
{
	char whole[1024], name[] = "/tmp/teardown.XXXXXX";
	int fd = mkstemp(name);
	double seconds;
	FILE *file;
	bool good;

	if (fd < 0)
		give_up("temporary file");
	snprintf(whole, sizeof(whole), "{ %s; } >%s", command, name);
	good = !run_beside(whole, pump, &seconds);
	file = fdopen(fd, "r");
	good = good && file && fscanf(file, "%127s", word) == 1;
	if (file)
		fclose(file);
	unlink(name);
	return good;
}

static void all_is_free(int fd, const char *when)
{
	struct iopmem_info info;

	if (!ok(!device_info(fd, &info) && info.free == info.size,
		"all of it is free %s", when))
		printf("# %llu of %llu\n", (unsigned long long)info.free,
		       (unsigned long long)info.size);
}

/* Those who have dead MRs and mappings on it do their worst meanwhile. */
static int back(const char *command, int old)
{
	struct iopmem_info info;
	struct ibv_mr *mr;
	char node[128] = "", *p, *all;
	int fd;

	if (!ok(printed_by(command, node), "it comes back, as %s", node))
		return -1;
	fd = open_device(node, O_RDWR);
	all_is_free(fd, "while dead MRs remain");
	if (!device_info(old, &info)) {
		/* p2pdma's own mappings are not revoked by a reset. */
		skip("mappings of p2pmem/allocate outlive a reset",
		     "all of it can be had in one piece");
	} else if (!device_info(fd, &info) &&
		   !(info.flags & IOPMEM_INFO_ATTACHED)) {
		all = map_shared(fd, info.size, PROT_READ | PROT_WRITE);
		ok(all && !touch(all, true) &&
		   !touch(all + info.size - 1, true),
		   "all of it can be had in one piece");
		if (all)
			munmap(all, info.size);
	}
	/* As much as the dead ones had, at the same place. */
	p = map_or_give_up(fd, MRS * SIZE);
	mr = ibv_reg_mr(pd, p, MRS * SIZE, ALL_ACCESS);
	ok(mr && peer_sees_zeros(&peer, p, mr->rkey, 16 * SIZE),
	   "a new MR on it shows zeros");
	lay(p, MRS * SIZE, 9, 0);
	pump_for(1);
	ok(mr && laid(p, MRS * SIZE, 9, 0) &&
	   peer_sees(&peer, p, mr->rkey, 16 * SIZE, 9),
	   "what is written there stays, whatever others try with dead MRs");
	if (mr)
		ibv_dereg_mr(mr);
	munmap(p, MRS * SIZE);
	return fd;
}

static void taken_away(const char *command, double allowed)
{
	char ms[128] = "";
	bool good = printed_by(command, ms);

	/* Posted before, done after: nobody's fault. */
	gone = true;
	if (!ok(good, "the device is taken away"))
		exit(done_testing());
	printf("# it took %s ms\n", ms);
	ok(atof(ms) < allowed * 1e3, "that takes less than %g s", allowed);
}

/* What was tried since, without success */
struct attempts {
	unsigned long requests, signals, reads[MAX_DISKS];
};

static struct attempts attempts_until_now(void)
{
	struct attempts now = { .requests = late_failures, .signals = cpu_signals };

	for (int i = 0; i < ndisks; i++)
		now.reads[i] = disks[i].errors;
	return now;
}

/* Each disk: one that is gone itself fails, too, and proves nothing. */
static bool all_have_tried(const struct attempts *since)
{
	bool tried = late_failures > since->requests &&
		     cpu_signals > since->signals;

	for (int i = 0; i < ndisks; i++)
		tried &= disks[i].errors > since->reads[i];
	return tried;
}

/* By the digest that @command prints, unless it is NULL. */
static void nothing_changes(const char *command)
{
	struct attempts before = attempts_until_now();
	char first[128] = "", second[128] = "";
	bool printed = !command || printed_by(command, first);

	pump_for(command ? 2 : 0.2);
	for (double limit = now() + 30;
	     !all_have_tried(&before) && now() < limit;)
		pump();
	if (command) {
		printed = printed_by(command, second) && printed;
		if (!ok(printed && !strcmp(first, second),
			"its memory does not change any more"))
			printf("# \"%s\", then \"%s\"\n", first, second);
	}
	ok(all_have_tried(&before),
	   "peers, CPUs and disks go on trying");
	ok(!late_successes, "no request posted from now on succeeds");
	printf("# %lu requests failed\n", late_failures);
}

int main(int argc, char **argv)
{
	const char *allocate = NULL, *door = NULL, *go = NULL, *come = NULL;
	const char *digest = NULL;
	pthread_t cpu;
	struct ibv_mr *other_mr;
	int fd, fd2, back_fd = -1, keys = 20000, opt;
	bool good = true;
	char *other;

	while ((opt = getopt(argc, argv, "+g:d:b:f:D:o:k:")) != -1) {
		switch (opt) {
		case 'g':
			go = optarg;
			break;
		case 'd':
			digest = optarg;
			break;
		case 'b':
			come = optarg;
			break;
		case 'f':
			allocate = optarg;
			break;
		case 'D':
			door = optarg;
			break;
		case 'o':
			if (ndisks == MAX_DISKS)
				return EXIT_FAILURE;
			disks[ndisks++].path = optarg;
			break;
		case 'k':
			keys = atoi(optarg);
			break;
		default:
			return EXIT_FAILURE;
		}
	}
	argv += optind;
	if (argc - optind != 3 || !go) {
		fprintf(stderr, "usage: teardown -g COMMAND [OPTION...] DEV DEV2 SECONDS\n");
		return EXIT_FAILURE;
	}
	seed = seed_of_run();

	fd = open_device(argv[0], O_RDWR);
	fd2 = open_device(argv[1], O_RDWR);
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);
	if (door)
		door_choose(door);
	make_memory(fd, allocate, door);
	ok(count_mrs(pd->context) >= MRS, "%d MRs on its memory", MRS);
	other = map_or_give_up(fd2, SIZE);
	other_mr = ibv_reg_mr(pd, other, SIZE, ALL_ACCESS);
	if (!other_mr)
		give_up("MR on another device");
	start_lanes();
	if (pthread_create(&cpu, NULL, use_by_cpu, NULL))
		give_up("pthread_create");
	for (int i = 0; i < ndisks; i++)
		if (pthread_create(&disks[i].thread, NULL, use_by_disk,
				   &disks[i]))
			give_up("pthread_create");

	for (double limit = now() + 120; !in_use() && now() < limit;)
		pump();
	ok(in_use(),
	   "%d queue pairs at both ends, CPUs and %d disks use it", LANES,
	   ndisks);

	taken_away(go, atof(argv[2]));
	nothing_changes(digest);
	dead_by_sample();
	keys_are_kept(keys);
	ok(peer_reaches(&peer, host_mr, 2), "the MR on host memory works");
	ok(peer_reaches(&peer, other_mr, 3) && laid(other, SIZE, 3, 0),
	   "so does the one on another device");
	if (come)
		back_fd = back(come, fd);
	ok(!late_successes, "to the end, no request on dead MRs succeeds");

	stop = true;
	pthread_join(cpu, NULL);
	for (int i = 0; i < ndisks; i++)
		pthread_join(disks[i].thread, NULL);
	printf("# %lu CPU writes, %lu signals\n", (unsigned long)cpu_writes,
	       (unsigned long)cpu_signals);
	for (int i = 0; i < ndisks; i++)
		printf("# %s: %lu reads, %lu errors\n", disks[i].path,
		       (unsigned long)disks[i].reads,
		       (unsigned long)disks[i].errors);
	for (int i = 0; i < LANES; i++)
		good &= pair_destroy(lanes[i].pair);
	for (int i = 0; i < MRS; i++) {
		good &= dereg(&bars[i]);
		munmap(bars[i].p, SIZE);
	}
	ok(good, "queue pairs and MRs go");
	if (back_fd >= 0)
		all_is_free(back_fd, "when they are gone");
	return done_testing();
}
