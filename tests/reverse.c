// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * reverse [-f ALLOCATE] [-gnu] RXE OTHER DEV SECONDS GONE BACK: what users of
 * BAR memory see when it is the RDMA device that goes, under traffic.
 *
 * Queue pairs of the RDMA device RXE move data to, from and within memory of
 * DEV, with MRs by ibv_reg_mr() and by iopmem_reg_mr(), while a child process
 * looks at the queues that it has inherited. OTHER is an RDMA device that stays,
 * and has traffic too; it may be empty. GONE is the shell command that takes RXE
 * away, within SECONDS; BACK brings it back.
 *	-f	an MR also on a mapping of this file, p2pmem/allocate of DEV
 *	-g	GONE takes the memory as well
 *	-n	iopmem_reg_mr() must do without a mapping
 *	-u	a thread posts datagrams all the time, whatever it is told
 *
 * Needs no privilege but to open the files.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <infiniband/iopmem.h>

#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 64 * PAGE,
	QUIET = SIZE - PAGE,	/* no traffic from here on: a pattern */
	CHUNK = 3 * PAGE + 123,	/* several packets */
	DEPTH = 2,		/* requests in flight of each lane */
	WARM = 3 * DEPTH,	/* completions before the device goes */
	/* less than the 64 KiB that a user may lock, the peers' included */
	HOST_SIZE = 6 * PAGE,
	OTHER_SIZE = PAGE,
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
};

struct memory {
	const char *name;
	char *p;
	size_t size;
	struct ibv_mr *mr;
};

enum { MAPPING, DMABUF, ALLOCATE, BARS };

struct lane {
	const char *name;
	enum ibv_wr_opcode opcode;
	struct memory *local, *remote;
	size_t len;

	struct pair *pair;
	uint32_t rkey;
	int in_flight;
	unsigned long done;
	bool ended;
};

static struct ibv_context *context;
static struct ibv_pd *pd;
static struct peer peer, other_peer;
static struct memory host, other_host, bars[BARS];
static int nbars = ALLOCATE;
static bool memory_goes, no_mapping, with_flood;
static int nlanes;

static struct lane lanes[] = {
	{ .name = "write, host to BAR", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &host, .remote = &bars[MAPPING] },
	{ .name = "write, BAR to host", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &bars[MAPPING], .remote = &host },
	{ .name = "read, BAR to host", .opcode = IBV_WR_RDMA_READ,
	  .local = &host, .remote = &bars[DMABUF] },
	{ .name = "write, BAR to BAR", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &bars[DMABUF], .remote = &bars[MAPPING] },
	{ .name = "send, host to BAR", .opcode = IBV_WR_SEND,
	  .local = &host, .remote = &bars[DMABUF] },
	{ .name = "send, BAR to host", .opcode = IBV_WR_SEND,
	  .local = &bars[MAPPING], .remote = &host },
	{ .name = "atomic in BAR", .opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
	  .local = &host, .remote = &bars[MAPPING], .len = 8 },
	{ .name = "write through a window", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &host, .remote = &bars[MAPPING] },
	{ .name = "write, other device", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &other_host, .remote = &other_host, .len = OTHER_SIZE },
};

enum {
	LANES = sizeof(lanes) / sizeof(lanes[0]),
	OTHER_LANE = LANES - 1,
	WINDOW_LANE = LANES - 2,
};

/* ---- memory */

static struct memory on(struct ibv_pd *on_pd, const char *name, char *p,
			size_t size, int access)
{
	struct memory m = { .name = name, .p = p, .size = size };

	m.mr = ibv_reg_mr(on_pd, p, size, access);
	if (!m.mr)
		give_up("MR on %s", name);
	return m;
}

static struct ibv_mr *reg_dmabuf(int buf_fd, size_t size, void *iova)
{
	struct ibv_mr *mr = iopmem_reg_mr(pd, 0, size, (uintptr_t)iova, buf_fd,
					  ALL_ACCESS);

	if (!mr)
		give_up("iopmem_reg_mr()");
	return mr;
}

static void make_memory(int fd, const char *allocate)
{
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	struct memory *m = &bars[DMABUF];

	bars[MAPPING] = on(pd, "a mapping", map_or_give_up(fd, SIZE), SIZE,
			   ALL_ACCESS | IBV_ACCESS_MW_BIND);
	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	m->name = "a dma-buf";
	m->size = SIZE;
	m->p = map_or_give_up(buf_fd, SIZE);
	m->mr = reg_dmabuf(buf_fd, SIZE, m->p);
	close(buf_fd);
	if (allocate) {
		int allocate_fd = open_device(allocate, O_RDWR);

		bars[nbars++] = on(pd, "p2pmem/allocate",
				   map_or_give_up(allocate_fd, SIZE), SIZE,
				   ALL_ACCESS);
		close(allocate_fd);
	}
}

/*
 * Memory that only MRs hold: the bytes that must come back with them, without
 * any help from their owner.
 */
static struct ibv_mr *orphans[2];

static size_t make_orphans(int fd)
{
	char *p = map_or_give_up(fd, SIZE);
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	size_t held;

	orphans[0] = on(pd, "an orphan", p, SIZE, ALL_ACCESS).mr;
	munmap(p, SIZE);
	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	orphans[1] = reg_dmabuf(buf_fd, SIZE, NULL);
	/* by way of a mapping, it stays with the library */
	held = dmabuf_mappings(buf_fd) ? SIZE : 2 * SIZE;
	close(buf_fd);
	return held;
}

/* ---- traffic */

static void post(struct lane *lane)
{
	struct ibv_sge to = part_of(lane->remote->mr, lane->remote->p,
				    lane->len);
	struct ibv_sge part = part_of(lane->local->mr, lane->local->p,
				      lane->len);
	struct ibv_recv_wr recv = { .sg_list = &to, .num_sge = 1 }, *bad_recv;
	struct ibv_send_wr wr = {
		.sg_list = &part,
		.num_sge = 1,
		.opcode = lane->opcode,
	}, *bad;

	if (lane->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = to.addr;
		wr.wr.atomic.compare_add = 1;
		wr.wr.atomic.rkey = lane->rkey;
	} else {
		wr.wr.rdma.remote_addr = to.addr;
		wr.wr.rdma.rkey = lane->rkey;
	}
	if ((lane->opcode == IBV_WR_SEND &&
	     ibv_post_recv(lane->pair->qp[1], &recv, &bad_recv)) ||
	    ibv_post_send(lane->pair->qp[0], &wr, &bad))
		lane->ended = true;
	else
		lane->in_flight++;
}

static void reap(struct lane *lane)
{
	struct ibv_wc wc;

	while (ibv_poll_cq(lane->pair->cq[0], 1, &wc) == 1) {
		lane->in_flight--;
		if (wc.status == IBV_WC_SUCCESS)
			lane->done++;
		else
			lane->ended = true;
	}
	while (ibv_poll_cq(lane->pair->cq[1], 1, &wc) == 1)
		;
	while (!lane->ended && lane->in_flight < DEPTH)
		post(lane);
}

static void pump(void)
{
	for (int i = 0; i < nlanes; i++)
		reap(&lanes[i]);
	/* others have to get at a CPU too */
	usleep(200);
}

static bool all_warm(void)
{
	for (int i = 0; i < nlanes; i++)
		if (lanes[i].ended || lanes[i].done < WARM)
			return false;
	return true;
}

static unsigned long until;

static bool other_goes_on(void)
{
	return lanes[OTHER_LANE].done >= until;
}

/*
 * Nothing stops datagrams but their queue pair: no peer has to answer. So this
 * is what keeps a task of the device busy for as long as it can be kept.
 */
static struct {
	struct pair *pair;
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong sent;
} flood;

static bool flood_goes_on(void)
{
	return flood.sent > 100;
}

static void start(struct lane *lane, struct ibv_pd *on_pd)
{
	if (!lane->len)
		lane->len = CHUNK;
	lane->rkey = lane->remote->mr->rkey;
	lane->pair = pair_create(on_pd, IBV_QPT_RC, false);
}

static void *keep_posting(void *arg)
{
	struct ibv_sge part = part_of(host.mr, host.p, 64);
	struct ibv_send_wr wrs[PAIR_DEPTH / 2], *bad;
	struct ibv_wc wc;

	(void)arg;
	for (int i = 0; i < PAIR_DEPTH / 2; i++)
		wrs[i] = (struct ibv_send_wr) {
			.next = i + 1 < PAIR_DEPTH / 2 ? &wrs[i + 1] : NULL,
			.sg_list = &part,
			.num_sge = 1,
			.opcode = IBV_WR_SEND,
			.wr.ud = {
				.ah = flood.pair->ah,
				.remote_qpn = flood.pair->qp[1]->qp_num,
				.remote_qkey = UD_QKEY,
			},
		};
	while (!flood.stop) {
		ibv_post_send(flood.pair->qp[0], wrs, &bad);
		while (ibv_poll_cq(flood.pair->cq[0], 1, &wc) == 1)
			flood.sent++;
	}
	return NULL;
}

static void start_flood(void)
{
	flood.pair = pair_create(pd, IBV_QPT_UD, false);
	errno = pthread_create(&flood.thread, NULL, keep_posting, NULL);
	if (errno)
		give_up("thread");
}

/* Reads each page of the queues once; 1 if there are none. */
static int read_queues(void *arg)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long begin, end;
	int none = 1;
	char line[512];

	(void)arg;
	while (maps && fgets(line, sizeof(line), maps)) {
		if (!strstr(line, "/infiniband/uverbs") ||
		    sscanf(line, "%lx-%lx", &begin, &end) != 2)
			continue;
		for (; begin < end; begin += PAGE)
			*(volatile char *)begin;
		none = 0;
	}
	if (maps)
		fclose(maps);
	return none;
}

static pid_t start_child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		give_up("child process");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!read_queues(NULL))
		usleep(10000);
	_exit(EXIT_FAILURE);
}

/* ---- afterwards */

/* Within SECONDS of the command's end; other events may come first. */
static bool fatal_event(double seconds)
{
	struct pollfd fd = { .fd = context->async_fd, .events = POLLIN };
	double limit = now() + seconds;
	struct ibv_async_event event;

	while (now() < limit && poll(&fd, 1, 1000 * seconds) == 1) {
		if (ibv_get_async_event(context, &event))
			return false;
		ibv_ack_async_event(&event);
		if (event.event_type == IBV_EVENT_DEVICE_FATAL)
			return true;
	}
	return false;
}

/* Not even if there is room in the queue. */
static bool cannot_post(struct lane *lane)
{
	lane->ended = false;
	post(lane);
	return lane->ended;
}

/* Whoever sleeps on a completion channel is told. */
static void channel_ends(void)
{
	struct ibv_comp_channel *channel = peer.pair->channel;
	struct pollfd fd = { .fd = channel->fd, .events = POLLIN };
	struct ibv_cq *cq;
	void *cq_context;

	ok(poll(&fd, 1, 1000) == 1 && fd.revents & POLLERR,
	   "a completion channel wakes who polls it");
	errno = 0;
	fails(ibv_get_cq_event(channel, &cq, &cq_context), EIO,
	      "and who waits for an event");
}

static void device_says(int fd)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	struct ibv_qp_init_attr init;
	struct ibv_port_attr port;
	struct ibv_device_attr device;

	errno = 0;
	fails(!ibv_alloc_pd(context), EIO, "no new protection domain");
	errno = 0;
	fails(!ibv_create_cq(context, 1, NULL, NULL, 0), EIO, "no new CQ");
	errno = 0;
	fails(!ibv_reg_mr(pd, peer.buffer, PAGE, 0), EIO,
	      "no new MR on host memory");
	if (!memory_goes) {
		int buf_fd = alloc_region(fd, PAGE, 0, O_RDWR | O_CLOEXEC);

		errno = 0;
		fails(!ibv_reg_mr(pd, bars[MAPPING].p, PAGE, ALL_ACCESS), EIO,
		      "no new MR on a mapping");
		errno = 0;
		fails(!iopmem_reg_mr(pd, 0, PAGE, 0, buf_fd, ALL_ACCESS), EIO,
		      "no new MR on a dma-buf");
		close(buf_fd);
	}
	errno = ibv_query_qp(lanes[0].pair->qp[0], &attr, IBV_QP_STATE, &init);
	fails(errno, EIO, "a QP cannot be queried");
	attr.qp_state = IBV_QPS_ERR;
	errno = ibv_modify_qp(lanes[0].pair->qp[0], &attr, IBV_QP_STATE);
	fails(errno, EIO, "nor modified");
	errno = ibv_query_port(context, 1, &port);
	fails(errno, EIO, "the port cannot be queried");
	errno = ibv_query_device(context, &device);
	fails(errno, EIO, "nor the device");
}

/* The queues are mapped still. */
static bool can_poll(void)
{
	struct ibv_wc wc;

	for (int i = 0; i < OTHER_LANE; i++)
		for (int end = 0; end < 2; end++)
			if (ibv_poll_cq(lanes[i].pair->cq[end], 1, &wc) < 0)
				return false;
	return true;
}

static void queues_are_there(const char *when)
{
	ok(can_poll(), "CQs can be polled, %s", when);
	ok(!read_queues(NULL), "the queues are mapped");
	ok(!in_child(read_queues, NULL), "and in a new child process");
}

static void memory_is_as_it_was(void)
{
	for (int i = 0; i < nbars; i++) {
		if (memory_goes)
			ok(touch(bars[i].p, false) == SIGBUS, "%s: SIGBUS",
			   bars[i].name);
		else
			ok(laid(bars[i].p + QUIET, PAGE, i, 0),
			   "%s: the CPU sees what was there", bars[i].name);
	}
}

/* A new context, with the old one's remains still there. */
static void back(const char *command, const char *name)
{
	struct memory *m = &bars[MAPPING];
	struct ibv_pd *new_pd;
	struct peer new_peer;
	struct memory new;

	if (!ok(!system(command), "the device comes back"))
		return;
	new_pd = alloc_pd_on(name);
	peer_init(&new_peer, new_pd);
	if (!memory_goes) {
		new = on(new_pd, m->name, m->p, SIZE, ALL_ACCESS);
		ok(peer_sees(&new_peer, m->p + QUIET, new.mr->rkey, PAGE,
			     MAPPING),
		   "a new MR on the old mapping has the old bytes");
		ok(peer_reaches(&new_peer, new.mr, 7) && laid(m->p, SIZE, 7, 0),
		   "and works");
		ibv_dereg_mr(new.mr);
	}
	pair_destroy(peer_pair(&new_peer));
	ok(!ibv_dereg_mr(new_peer.buffer_mr) && !ibv_dealloc_pd(new_pd),
	   "all of it goes again");
}

static void other_device(void)
{
	until = lanes[OTHER_LANE].done + 200;
	ok(repeat_until(other_goes_on, pump, 60),
	   "traffic on another device goes on");
	ok(peer_reaches(&other_peer, other_host.mr, 5) &&
	   laid(other_host.p, OTHER_SIZE, 5, 0), "its bytes arrive");
}

/* All of it by its owner, who does not know that there is nothing left. */
static void destroy_all(struct ibv_mw *window)
{
	bool good = true;

	if (with_flood) {
		flood.stop = true;
		pthread_join(flood.thread, NULL);
		good &= pair_destroy(flood.pair);
	}
	for (int i = 0; i < OTHER_LANE; i++)
		good &= pair_destroy(lanes[i].pair);
	good &= pair_destroy(peer.pair);
	ok(good, "queue pairs, CQs and channels can be destroyed");
	ok(!ibv_dealloc_mw(window), "the window too");
	for (int i = 0; i < nbars; i++)
		ok(!(i == DMABUF ? iopmem_dereg_mr(bars[i].mr) :
				   ibv_dereg_mr(bars[i].mr)),
		   "%s: the MR too", bars[i].name);
	ok(!ibv_dereg_mr(orphans[0]) && !iopmem_dereg_mr(orphans[1]),
	   "those on memory without other holders too");
	ok(!ibv_dereg_mr(host.mr) && !ibv_dereg_mr(peer.buffer_mr),
	   "those on host memory too");
	ok(!ibv_dealloc_pd(pd) && !ibv_close_device(context),
	   "the rest too");
}

int main(int argc, char **argv)
{
	const char *allocate = NULL, *name, *gone;
	uint64_t free_at_first, free_before;
	struct ibv_pd *other_pd = NULL;
	struct ibv_mw *window;
	double seconds, limit;
	size_t held;
	pid_t child;
	int opt, fd;

	while ((opt = getopt(argc, argv, "f:gnu")) != -1) {
		if (opt == 'f')
			allocate = optarg;
		else if (opt == 'g')
			memory_goes = true;
		else if (opt == 'n')
			no_mapping = true;
		else if (opt == 'u')
			with_flood = true;
		else
			return EXIT_FAILURE;
	}
	if (argc - optind != 6) {
		fprintf(stderr, "usage: reverse [-f ALLOCATE] [-gnu] RXE OTHER DEV SECONDS GONE BACK\n");
		return EXIT_FAILURE;
	}
	argv += optind;
	name = argv[0];
	fd = open_device(argv[2], O_RDWR);
	limit = atof(argv[3]);
	gone = argv[4];

	free_at_first = device_free(fd);
	pd = alloc_pd_on(name);
	context = pd->context;
	peer_init(&peer, pd);
	host = on(pd, "host memory", host_memory(HOST_SIZE), HOST_SIZE,
		  ALL_ACCESS);
	nlanes = OTHER_LANE;
	if (*argv[1]) {
		other_pd = alloc_pd_on(argv[1]);
		peer_init(&other_peer, other_pd);
		other_host = on(other_pd, "host memory",
				host_memory(OTHER_SIZE), OTHER_SIZE,
				ALL_ACCESS);
		nlanes = LANES;
	}
	make_memory(fd, allocate);
	held = make_orphans(fd);
	if (no_mapping)
		ok(held == 2 * SIZE, "iopmem_reg_mr() keeps no mapping");

	/*
	 * What goes without its owner's help goes in the reverse order of its
	 * making: this window after the queue pair that it is bound to.
	 */
	window = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	if (!window)
		give_up("memory window");
	for (int i = 0; i < nlanes; i++)
		start(&lanes[i], i == OTHER_LANE ? other_pd : pd);
	if (pair_bind_mw(lanes[WINDOW_LANE].pair, 1, window, bars[MAPPING].mr,
			 bars[MAPPING].p, SIZE, IBV_ACCESS_REMOTE_WRITE))
		give_up("bind the window");
	lanes[WINDOW_LANE].rkey = window->rkey;
	for (int i = 0; i < nbars; i++)
		if (peer_write(&peer, bars[i].p + QUIET, bars[i].mr->rkey,
			       PAGE, i))
			give_up("RDMA write to %s", bars[i].name);
	child = start_child();
	if (with_flood)
		start_flood();

	ok(repeat_until(all_warm, pump, 120), "traffic on %d queue pairs", 2 * nlanes);
	if (with_flood)
		ok(repeat_until(flood_goes_on, pump, 120), "datagrams are sent");
	free_before = device_free(fd);
	if (!ok(!run_beside(gone, pump, &seconds),
		"the device is taken away under traffic"))
		return done_testing();
	if (!ok(seconds < limit, "it takes less than %g s", limit))
		printf("# it took %.1f s\n", seconds);

	ok(fatal_event(limit), "the user hears of it: IBV_EVENT_DEVICE_FATAL");
	if (!memory_goes)
		ok(device_free(fd) - free_before == held,
		   "memory that only MRs held is free: %zu bytes", held);
	for (int i = 0; i < OTHER_LANE; i++)
		ok(cannot_post(&lanes[i]), "it cannot be posted: %s",
		   lanes[i].name);
	channel_ends();
	device_says(fd);
	memory_is_as_it_was();
	queues_are_there("the device gone");
	if (other_pd)
		other_device();
	back(argv[5], name);
	queues_are_there("it has come back");
	ok(!waitpid(child, NULL, WNOHANG), "the old child saw nothing of it");
	destroy_all(window);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	for (int i = 0; i < nbars; i++)
		munmap(bars[i].p, SIZE);
	if (!memory_goes)
		ok(device_free(fd) == free_at_first, "all memory is free");
	return done_testing();
}
