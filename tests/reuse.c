// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * reuse DOOR DEV DISK ROUNDS: memory that is given out again at the
 * first moment, while the peers and devices of its former owner go on writing.
 *
 * All of DEV but a window is occupied, so the next owner, another process that
 * does not cease to ask, gets just what the former one has let go of. He finds
 * zeros, writes his pattern, and looks after a while whether it is still there.
 * The former owner lets go in the midst of
 *	- RDMA writes by peers, who keep trying with the old rkey
 *	- a read from DISK with O_DIRECT
 *	- a write by the edu device, which imports the memory (/dev/importer)
 * DISK is overwritten; it is to be throttled to DISK_RATE requests a second.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "doors.h"
#include "import.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	WINDOW = 32 * PAGE,
	PEERS = 2,
	DISK_RATE = 10,		/* requests a second */
	RW = PROT_READ | PROT_WRITE,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ,
};

static const char *path;
static int fd;
static struct ibv_pd *pd;
static unsigned int seed;

static int any(int n)
{
	return rand_r(&seed) % n;
}

/* ---- the next owner */

/* What became of a turn of his. */
enum turn { GOOD, NOT_ZERO, CHANGED, NOTHING };

struct order {
	size_t size;
	int hold;		/* ms */
	bool by_dmabuf;
};

static int orders[2], answers[2];

static void *ask(const struct order *o)
{
	int buf_fd;
	void *p;

	if (!o->by_dmabuf)
		return map_shared(fd, o->size, RW);
	buf_fd = alloc_region(fd, o->size, 0, O_RDWR | O_CLOEXEC);
	if (buf_fd < 0)
		return NULL;
	p = map_shared(buf_fd, o->size, RW);
	close(buf_fd);
	return p;
}

static enum turn serve_order(const struct order *o, uint64_t pattern)
{
	double limit = now() + 60;
	enum turn turn = GOOD;
	void *p;

	do {
		p = ask(o);
	} while (!p && errno == ENOMEM && now() < limit);
	if (!p)
		return NOTHING;
	if (!all_zero(p, o->size))
		turn = NOT_ZERO;
	fill(p, o->size, pattern);
	usleep(o->hold * 1000);
	if (turn == GOOD && !filled(p, o->size, pattern))
		turn = CHANGED;
	munmap(p, o->size);
	return turn;
}

static void next_owner(void)
{
	struct order o;
	enum turn turn;

	fd = open_device(path, O_RDWR);
	for (uint64_t pattern = 1; read(orders[0], &o, sizeof(o)) == sizeof(o);
	     pattern++) {
		/* From here on he asks without a break. */
		if (write(answers[1], &(enum turn){ GOOD }, sizeof(turn)) < 0)
			break;
		turn = serve_order(&o, pattern);
		if (write(answers[1], &turn, sizeof(turn)) != sizeof(turn))
			break;
	}
	_exit(0);
}

static pid_t start_next_owner(void)
{
	pid_t pid;

	if (pipe2(orders, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		give_up("pipe");
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(orders[1]);
		next_owner();
	}
	close(orders[0]);
	return pid;
}

static enum turn answer(void)
{
	enum turn turn;

	if (read(answers[0], &turn, sizeof(turn)) != sizeof(turn))
		give_up("the next owner");
	return turn;
}

/* He begins to ask. */
static void order(int hold)
{
	struct order o = {
		.size = any(3) ? WINDOW : PAGE,
		.hold = hold,
		.by_dmabuf = any(2),
	};

	if (write(orders[1], &o, sizeof(o)) != sizeof(o))
		give_up("the next owner");
	answer();
}

/* ---- peers that never stop */

static struct attack {
	pthread_mutex_t lock;
	const char *at;
	uint32_t rkey;
} attack = { .lock = PTHREAD_MUTEX_INITIALIZER };

static atomic_bool stop;
static atomic_ulong hits, misses;

static void set_attack(struct ibv_mr *mr, const void *at)
{
	pthread_mutex_lock(&attack.lock);
	attack.at = at;
	attack.rkey = mr->rkey;
	pthread_mutex_unlock(&attack.lock);
}

static void *attack_for_ever(void *unused)
{
	struct peer peer;
	struct ibv_sge from;
	const char *at;
	uint32_t rkey;

	(void)unused;
	peer_init(&peer, pd);
	memset(peer.buffer, 0xa7, PEER_BUFFER);
	from = part_of(peer.buffer_mr, peer.buffer, PEER_BUFFER);
	for (size_t offset = 0; !stop;
	     offset = (offset + PEER_BUFFER) % WINDOW) {
		pthread_mutex_lock(&attack.lock);
		at = attack.at + offset;
		rkey = attack.rkey;
		pthread_mutex_unlock(&attack.lock);
		if (!rkey)
			continue;
		if (pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_WRITE, from, at,
			      rkey))
			misses++;
		else
			hits++;
	}
	return NULL;
}

/* Until the peers have written so often. */
static bool wait_for_hits(unsigned long n)
{
	unsigned long want = hits + n;
	double limit = now() + 60;

	while (hits < want && now() < limit)
		usleep(100);
	return hits >= want;
}

/* ---- how the former owner lets go; these return whether all went well */

static bool mr_on_mapping(void)
{
	char *p = map_or_give_up(fd, WINDOW);
	struct ibv_mr *mr = ibv_reg_mr(pd, p, WINDOW, ALL_ACCESS);
	bool good;

	if (!mr)
		give_up("MR");
	set_attack(mr, p);
	good = wait_for_hits(4);
	order(5 + any(20));
	if (any(2)) {
		munmap(p, WINDOW);
		usleep(any(3000));
		good &= !ibv_dereg_mr(mr);
	} else {
		good &= !ibv_dereg_mr(mr);
		usleep(any(3000));
		munmap(p, WINDOW);
	}
	return good;
}

static bool mr_on_dmabuf(void)
{
	int buf_fd = dmabuf_alloc(path, WINDOW);
	struct ibv_mr *mr = door_reg(pd, 0, WINDOW, 0, buf_fd, ALL_ACCESS);
	bool good;

	if (!mr)
		give_up("MR");
	set_attack(mr, NULL);
	good = wait_for_hits(4);
	order(5 + any(20));
	close(buf_fd);
	usleep(any(3000));
	return !door_dereg(mr) && good;
}

static int disk;
static double read_done;
static int reads_in_flight;	/* when the memory was let go of */

static void *read_disk(void *p)
{
	bool good = pread(disk, p, WINDOW, 0) == WINDOW;

	read_done = now();
	return good ? p : NULL;
}

/*
 * The disk is throttled to DISK_RATE requests a second, and lets two pass
 * before it does so.
 */
static bool direct_read(void)
{
	static char unused[2][PAGE] __attribute__((aligned(PAGE)));
	char *p = map_or_give_up(fd, WINDOW);
	double let_go;
	pthread_t thread;
	void *result;

	/* Else it reads into pages that come by its own faults, one by one. */
	(void)all_zero(p, WINDOW);
	for (int i = 0; i < 2; i++)
		if (pread(disk, unused[i], PAGE, 0) != PAGE)
			return false;
	if (pthread_create(&thread, NULL, read_disk, p))
		give_up("pthread_create");
	order(2000 / DISK_RATE);
	/* Until it has pinned the pages; EFAULT if it had not. */
	usleep(10000 + any(20000));
	let_go = now();
	munmap(p, WINDOW);
	pthread_join(thread, &result);
	reads_in_flight += result && read_done > let_go;
	return true;
}

static int importer;
static double write_done;
static int writes_in_flight;	/* when the memory was let go of */

/* Takes 100 ms. */
static void *write_by_edu(void *p)
{
	bool good = !import_dma(importer, 0, IMPORTER_MAX_DMA,
				IMPORTER_FROM_DEVICE);

	write_done = now();
	return good ? p : NULL;
}

static bool edu_write(void)
{
	int buf_fd = alloc_region(fd, WINDOW, 0, O_RDWR | O_CLOEXEC);
	pthread_t thread;
	double let_go;
	void *result;
	char *p;
	bool good;

	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	p = map_or_give_up(buf_fd, WINDOW);
	memset(p, 0x5e, PAGE);
	importer = importer_of(buf_fd, IMPORTER_REVOCABLE,
			       IMPORTER_DROP_INSIDE);
	good = !import_map(importer, IMPORTER_BIDIRECTIONAL) &&
	       !import_dma(importer, 0, IMPORTER_MAX_DMA,
			   IMPORTER_TO_DEVICE);
	if (pthread_create(&thread, NULL, write_by_edu, p))
		give_up("pthread_create");
	/* Too early a turn has not ended when the write does. */
	order(250);
	usleep(10000 + any(50000));
	let_go = now();
	close(buf_fd);
	munmap(p, WINDOW);
	/* Goes when the write has ended. */
	close(importer);
	pthread_join(thread, &result);
	writes_in_flight += result && write_done > let_go;
	return good;
}

static const struct {
	const char *name;
	bool (*let_go)(void);
} ways[] = {
	{ "an MR on a mapping", mr_on_mapping },
	{ "an MR on a dma-buf", mr_on_dmabuf },
	{ "a read with O_DIRECT", direct_read },
	{ "a write by an importer", edu_write },
};

enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static const char *const turns[] = {
	[NOT_ZERO] = "what he got was not zero",
	[CHANGED] = "his pattern did not stay",
	[NOTHING] = "he got nothing",
};

static void fill_disk(const char *name)
{
	void *p = aligned_alloc(PAGE, WINDOW);

	disk = open_device(name, O_RDWR | O_DIRECT);
	memset(p, 0xd1, WINDOW);
	if (pwrite(disk, p, WINDOW, 0) != WINDOW)
		give_up("write to %s", name);
	free(p);
}

int main(int argc, char **argv)
{
	int rounds, done[WAYS] = { 0 }, failed[WAYS] = { 0 };
	unsigned int first;
	pthread_t threads[PEERS];
	uint64_t before;
	size_t ballast;
	pid_t pid;
	void *p;

	if (argc != 5) {
		fprintf(stderr, "usage: reuse DOOR DEV DISK ROUNDS\n");
		return EXIT_FAILURE;
	}
	door_choose(argv[1]);
	path = argv[2];
	rounds = atoi(argv[4]);
	first = seed_of_run();

	pid = start_next_owner();
	fd = open_device(path, O_RDWR);
	before = device_free(fd);
	ballast = before - WINDOW;
	p = map_or_give_up(fd, ballast);
	fill_disk(argv[3]);
	pd = alloc_pd_on("rxe0");
	for (int i = 0; i < PEERS; i++)
		if (pthread_create(&threads[i], NULL, attack_for_ever, NULL))
			give_up("pthread_create");

	for (int round = 0; round < rounds; round++) {
		int way = round % WAYS;
		enum turn turn;
		bool good;

		seed = first + round;
		good = ways[way].let_go();
		turn = answer();
		done[way]++;
		if (!good || turn != GOOD) {
			printf("# round %d, %s: %s\n", round, ways[way].name,
			       turn == GOOD ? "it did not work" : turns[turn]);
			failed[way]++;
		}
	}
	stop = true;
	for (int i = 0; i < PEERS; i++)
		pthread_join(threads[i], NULL);
	for (int way = 0; way < WAYS; way++)
		ok(!failed[way], "%s: the next owner finds zeros, and keeps his bytes, %d times",
		   ways[way].name, done[way]);
	ok(reads_in_flight, "the disk was reading into the memory when it was let go of, %d times",
	   reads_in_flight);
	ok(writes_in_flight, "the importer's device was writing to it, %d times",
	   writes_in_flight);
	ok(hits && misses, "peers wrote while they could, and went on trying");
	printf("# %lu writes, %lu in vain\n", (unsigned long)hits,
	       (unsigned long)misses);
	close(orders[1]);
	ok(!wait_for(pid), "the next owner goes");
	munmap(p, ballast);
	ok(device_free(fd) == before, "all is free");
	return done_testing();
}
