// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_revoke [-f ALLOCATE | -d DOOR] DEV DEV2 SECONDS GONE BACK: what RDMA
 * sees of it when BAR memory is taken away under traffic.
 *
 * Several queue pairs move data to, from and within the memory of DEV, with
 * MRs of each kind, and one between buffers of host memory. GONE is the shell
 * command that takes DEV away, within SECONDS. BACK brings it back and prints
 * its node; it may be empty. DEV2 stays all the time.
 *	-f	an MR also on a mapping of this file, p2pmem/allocate of the
 *		same device
 *	-d	MRs on dma-bufs, all of them by this door (see doors.h); without
 *		windows and FLUSH, which they do not have
 *
 * Needs no privilege but to open the files.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "doors.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 64 * PAGE,
	CHUNK = 3 * PAGE + 123,	/* several packets */
	DEPTH = 4,		/* requests in flight of each lane */
	WARM = 3 * DEPTH,	/* completions before the device goes */
	ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		     IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
	MORE_ACCESS = IBV_ACCESS_MW_BIND | ACCESS_FLUSH_GLOBAL,
};

/* The host's buffer: each use has a part of its own. */
enum { HOST_SIZE = 10 * PAGE, HOST_TO = 5 * PAGE, CONTROL = 4 * PAGE };

struct memory {
	const char *name;
	char *p;
	size_t size;
	int fd;			/* by a door: the dma-buf */
	struct ibv_mr *mr;
};

enum { REGION, DMABUF, TWO_MAPPINGS, FOREIGN, BARS };

/*
 * Traffic of one kind on a pair of its own: requests from end 0, whose local
 * side is in @local, to @remote. A status of -1 stands for none.
 */
struct lane {
	const char *name;
	enum ibv_wr_opcode opcode;
	struct memory *local, *remote;
	char *local_at, *remote_at;
	size_t len;
	int want;		/* the first status that is no success */
	int or;			/* another one, where both sides are dead */
	int want_received;	/* the same of end 1 */

	struct pair *pair;
	uint32_t rkey;
	int in_flight;
	unsigned long done;
	int status, received;
	bool only_flushed;	/* all that ended behind these */
};

static struct ibv_pd *pd;
static struct peer peer;
static struct memory host, bars[BARS];
static int nbars;
static bool by_door;

static struct lane lanes[] = {
	{ .name = "write, host to BAR", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &host, .remote = &bars[REGION],
	  .want = IBV_WC_REM_ACCESS_ERR },
	{ .name = "write, BAR to host", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &bars[REGION], .remote = &host,
	  .want = IBV_WC_LOC_PROT_ERR },
	{ .name = "read, BAR to host", .opcode = IBV_WR_RDMA_READ,
	  .local = &host, .remote = &bars[TWO_MAPPINGS],
	  .want = IBV_WC_REM_ACCESS_ERR },
	{ .name = "read, host to BAR", .opcode = IBV_WR_RDMA_READ,
	  .local = &bars[TWO_MAPPINGS], .remote = &host,
	  .want = IBV_WC_LOC_PROT_ERR },
	{ .name = "write, BAR to BAR", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &bars[DMABUF], .remote = &bars[REGION],
	  .want = IBV_WC_LOC_PROT_ERR, .or = IBV_WC_REM_ACCESS_ERR },
	{ .name = "read, BAR to BAR", .opcode = IBV_WR_RDMA_READ,
	  .local = &bars[REGION], .remote = &bars[DMABUF],
	  .want = IBV_WC_REM_ACCESS_ERR, .or = IBV_WC_LOC_PROT_ERR },
	{ .name = "send, host to BAR", .opcode = IBV_WR_SEND,
	  .local = &host, .remote = &bars[DMABUF],
	  .want = IBV_WC_REM_OP_ERR, .want_received = IBV_WC_LOC_PROT_ERR },
	{ .name = "send, BAR to host", .opcode = IBV_WR_SEND,
	  .local = &bars[DMABUF], .remote = &host,
	  .want = IBV_WC_LOC_PROT_ERR },
	{ .name = "atomic in BAR", .opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
	  .local = &host, .remote = &bars[TWO_MAPPINGS], .len = 8,
	  .want = IBV_WC_REM_ACCESS_ERR },
	{ .name = "write through a window", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &host, .remote = &bars[REGION],
	  .want = IBV_WC_REM_ACCESS_ERR },
	{ .name = "write, host to host", .opcode = IBV_WR_RDMA_WRITE,
	  .local = &host, .remote = &host },
};

enum {
	LANES = sizeof(lanes) / sizeof(lanes[0]),
	HOST_LANE = LANES - 1,
	WINDOW_LANE = LANES - 2,
};

static struct memory on(const char *name, char *p, size_t size)
{
	struct memory m = { .name = name, .p = p, .size = size };

	m.mr = ibv_reg_mr(pd, p, size, ALL_ACCESS | MORE_ACCESS);
	if (!m.mr)
		give_up("MR on %s", name);
	return m;
}

/* Memory of the device, and an MR on it in the way that this run is about. */
static struct memory of_device(const char *name, int fd, size_t size)
{
	struct memory m = { .name = name, .size = size };

	if (!by_door)
		return on(name, map_or_give_up(fd, size), size);
	m.fd = alloc_region(fd, size, 0, O_RDWR | O_CLOEXEC);
	m.p = map_or_give_up(m.fd, size);
	m.mr = door_reg(pd, 0, size, (uintptr_t)m.p, m.fd, ALL_ACCESS);
	if (!m.mr)
		give_up("MR on %s", name);
	return m;
}

static int dereg(const struct memory *m)
{
	return by_door ? door_dereg(m->mr) : ibv_dereg_mr(m->mr);
}

/* Returns whether it could be deregistered. */
static bool release(const struct memory *m)
{
	bool good = !dereg(m);

	munmap(m->p, m->size);
	if (by_door)
		close(m->fd);
	return good;
}

static void make_dmabufs(int fd)
{
	bars[REGION] = of_device("a dma-buf", fd, SIZE);
	bars[DMABUF] = of_device("a second dma-buf", fd, SIZE);
	bars[TWO_MAPPINGS] = of_device("a third dma-buf", fd, SIZE);
	nbars = FOREIGN;
	ok(door_is_used(pd, bars[REGION].fd), "MRs come by the door");
}

static void make_memory(int fd, const char *allocate)
{
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	char *p;

	bars[REGION] = on("a mapping", map_or_give_up(fd, SIZE), SIZE);
	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	bars[DMABUF] = on("a mapping of a dma-buf",
			  map_or_give_up(buf_fd, SIZE), SIZE);
	close(buf_fd);

	/* Not one region: pinned page by page. */
	p = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 2; i++)
		if (mmap(p + i * SIZE / 2, SIZE / 2, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, 0) != p + i * SIZE / 2)
			give_up("adjacent mappings");
	bars[TWO_MAPPINGS] = on("two mappings", p, SIZE);
	nbars = FOREIGN;

	if (allocate) {
		int allocate_fd = open_device(allocate, O_RDWR);

		bars[nbars++] = on("p2pmem/allocate",
				   map_or_give_up(allocate_fd, SIZE), SIZE);
		close(allocate_fd);
	}
}

/* ---- traffic */

static void post_receive(struct lane *lane)
{
	struct ibv_sge part = part_of(lane->remote->mr, lane->remote_at,
				      lane->len);
	struct ibv_recv_wr wr = { .sg_list = &part, .num_sge = 1 }, *bad;

	if (ibv_post_recv(lane->pair->qp[1], &wr, &bad))
		lane->received = IBV_WC_GENERAL_ERR;
}

static void post(struct lane *lane)
{
	struct ibv_sge part = part_of(lane->local->mr, lane->local_at,
				      lane->len);
	struct ibv_send_wr wr = {
		.sg_list = &part,
		.num_sge = 1,
		.opcode = lane->opcode,
	}, *bad;

	if (lane->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = (uintptr_t)lane->remote_at;
		wr.wr.atomic.compare_add = 1;
		wr.wr.atomic.rkey = lane->rkey;
	} else {
		wr.wr.rdma.remote_addr = (uintptr_t)lane->remote_at;
		wr.wr.rdma.rkey = lane->rkey;
	}
	/* Receive before send. */
	if (lane->opcode == IBV_WR_SEND)
		post_receive(lane);
	if (ibv_post_send(lane->pair->qp[0], &wr, &bad))
		lane->status = IBV_WC_GENERAL_ERR;
	else
		lane->in_flight++;
}

static void start(struct lane *lane, int index)
{
	bool in_host = lane->remote == &host;

	if (!lane->len)
		lane->len = CHUNK;
	lane->local_at = lane->local->p;
	lane->remote_at = lane->remote->p + (in_host ? HOST_TO : 0);
	/* Across the two mappings, where there are two. */
	if (lane->remote == &bars[TWO_MAPPINGS] && lane->len == CHUNK)
		lane->remote_at += SIZE / 2 - 2 * PAGE;
	lane->rkey = lane->remote->mr->rkey;
	lane->status = -1;
	lane->received = -1;
	lane->only_flushed = true;
	lane->pair = pair_create(pd, IBV_QPT_RC, false);
	if (index == HOST_LANE) {
		lane->local_at = host.p + CONTROL;
		lane->remote_at = host.p + HOST_TO + CONTROL;
		lane->len = PAGE;
	}
}

static void reap(struct lane *lane)
{
	struct ibv_wc wc;

	while (ibv_poll_cq(lane->pair->cq[0], 1, &wc) == 1) {
		lane->in_flight--;
		if (lane->status != -1)
			lane->only_flushed &= wc.status == IBV_WC_WR_FLUSH_ERR;
		else if (wc.status == IBV_WC_SUCCESS)
			lane->done++;
		else
			lane->status = wc.status;
	}
	while (ibv_poll_cq(lane->pair->cq[1], 1, &wc) == 1)
		if (lane->received != -1)
			lane->only_flushed &= wc.status == IBV_WC_WR_FLUSH_ERR;
		else if (wc.status != IBV_WC_SUCCESS)
			lane->received = wc.status;
	while (lane->status == -1 && lane->in_flight < DEPTH)
		post(lane);
}

static void pump(void)
{
	for (int i = 0; i < LANES; i++)
		reap(&lanes[i]);
}

static bool all_warm(void)
{
	for (int i = 0; i < LANES; i++)
		if (lanes[i].status != -1 || lanes[i].done < WARM)
			return false;
	return true;
}

static bool all_ended(void)
{
	for (int i = 0; i < HOST_LANE; i++)
		if (lanes[i].status == -1 || lanes[i].in_flight)
			return false;
	return true;
}

static unsigned long until;

static bool host_lane_goes_on(void)
{
	return lanes[HOST_LANE].done >= until;
}

/* ---- afterwards */

static void is(int status, int want, const char *what, const char *where)
{
	if (!ok(status == want, "%s, %s: %s", where, what,
		status_name(status)))
		printf("# wanted: %s\n", status_name(want));
}

/* Whatever is asked of a dead MR: an error, at once, and always the same. */
static void is_dead(const struct memory *m)
{
	struct ibv_sge mine = part_of(peer.buffer_mr, peer.buffer, 8);
	struct ibv_sge dead = part_of(m->mr, m->p + 8, 8);
	const char *at = m->p + 16;
	uint32_t rkey = m->mr->rkey;
	struct ibv_wc wc;
	int status;

	memset(peer.buffer, 0x5a, 8);
	is(pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_WRITE, mine, at, rkey),
	   IBV_WC_REM_ACCESS_ERR, "RDMA write to it", m->name);
	is(pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_READ, mine, at, rkey),
	   IBV_WC_REM_ACCESS_ERR, "RDMA read from it", m->name);
	is(pair_atomic(peer_pair(&peer), 0, IBV_WR_ATOMIC_FETCH_AND_ADD, mine,
		       at, rkey, 1, 0),
	   IBV_WC_REM_ACCESS_ERR, "atomic in it", m->name);
	if (peer_pair(&peer)->atomic_write)
		is(pair_atomic_write(peer_pair(&peer), 0, 1, at, rkey),
		   IBV_WC_REM_ACCESS_ERR, "atomic write to it", m->name);
	is(pair_flush(peer_pair(&peer), 0, FLUSH_RANGE, at, 8, rkey),
	   IBV_WC_REM_ACCESS_ERR, "FLUSH of it", m->name);
	is(pair_flush(peer_pair(&peer), 0, FLUSH_MR, at, 8, rkey),
	   IBV_WC_REM_ACCESS_ERR, "FLUSH of all of it", m->name);
	ok(mine.length == 8 && !memcmp(peer.buffer, "ZZZZZZZZ", 8),
	   "%s: nothing was read from it", m->name);

	is(pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_WRITE, dead,
		     host.p, host.mr->rkey),
	   IBV_WC_LOC_PROT_ERR, "RDMA write out of it", m->name);
	is(pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_READ, dead, host.p,
		     host.mr->rkey),
	   IBV_WC_LOC_PROT_ERR, "RDMA read into it", m->name);
	is(pair_atomic(peer_pair(&peer), 0, IBV_WR_ATOMIC_FETCH_AND_ADD, dead,
		       host.p, host.mr->rkey, 1, 0),
	   IBV_WC_LOC_PROT_ERR, "atomic with its result in it", m->name);
	is(pair_send(peer_pair(&peer), &dead, 1, &mine, 1, &wc),
	   IBV_WC_LOC_PROT_ERR, "send from it", m->name);
	status = pair_send(peer_pair(&peer), &mine, 1, &dead, 1, &wc);
	is(status, IBV_WC_REM_OP_ERR, "send to it", m->name);
	is(wc.status, IBV_WC_LOC_PROT_ERR, "receive in it", m->name);
}

/* rxe completes a request a moment before the queue pair changes its state. */
static bool soon_in(const struct pair *pair, int end, enum ibv_qp_state state)
{
	double limit = now() + 10;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	do {
		if (ibv_query_qp(pair->qp[end], &attr, IBV_QP_STATE, &init))
			give_up("ibv_query_qp");
	} while (attr.qp_state != state && now() < limit);
	return attr.qp_state == state;
}

/*
 * A queue pair in error, and a request that is posted to it now. (rxe does not
 * hear of a receive that is posted, so that one waits for its next event.)
 */
static void is_flushed(struct pair *pair, int end)
{
	struct ibv_sge mine = part_of(peer.buffer_mr, peer.buffer, 8);

	is(pair_rdma(pair, end, IBV_WR_RDMA_WRITE, mine, host.p, host.mr->rkey),
	   IBV_WC_WR_FLUSH_ERR, "a request", "a queue pair in error");
}

/*
 * What a request does to the queue pairs: by the InfiniBand specification, 9.9
 * and 10.10, an access error (class C) ends both of them, a protection error
 * of a request the one it was posted to, one of a receive (class A) both. What is
 * posted to one in error is flushed (10.3.1).
 */
static void states_of_queue_pairs(const struct memory *m)
{
	struct ibv_sge mine = part_of(peer.buffer_mr, peer.buffer, 8);
	struct ibv_sge dead = part_of(m->mr, m->p, 8);
	struct pair *pair = pair_create(pd, IBV_QPT_RC, false);
	struct ibv_wc wc;

	pair_rdma(pair, 0, IBV_WR_RDMA_WRITE, mine, m->p, m->mr->rkey);
	ok(soon_in(pair, 0, IBV_QPS_ERR) && soon_in(pair, 1, IBV_QPS_ERR),
	   "a remote access error leaves both queue pairs in error");
	is_flushed(pair, 0);
	is_flushed(pair, 1);
	pair_destroy(pair);

	pair = pair_create(pd, IBV_QPT_RC, false);
	pair_rdma(pair, 0, IBV_WR_RDMA_WRITE, dead, host.p, host.mr->rkey);
	ok(soon_in(pair, 0, IBV_QPS_ERR) && soon_in(pair, 1, IBV_QPS_RTS),
	   "a local protection error leaves one in error");
	is_flushed(pair, 0);
	pair_destroy(pair);

	pair = pair_create(pd, IBV_QPT_RC, true);
	is(pair_send(pair, &mine, 1, &dead, 1, &wc), IBV_WC_REM_OP_ERR,
	   "send to a shared receive queue", m->name);
	is(wc.status, IBV_WC_LOC_PROT_ERR, "receive from it", m->name);
	ok(soon_in(pair, 0, IBV_QPS_ERR) && soon_in(pair, 1, IBV_QPS_ERR),
	   "a receive with a protection error leaves both in error");
	pair_destroy(pair);
	pair = pair_create(pd, IBV_QPT_RC, true);
	is(pair_send(pair, &dead, 1, &mine, 1, &wc), IBV_WC_LOC_PROT_ERR,
	   "send from it, to a shared receive queue", m->name);
	pair_destroy(pair);
}

/* Nobody acknowledges anything here: the sender never hears of the receiver. */
static void unacknowledged(const struct memory *m)
{
	struct ibv_sge mine = part_of(peer.buffer_mr, peer.buffer, 8);
	struct ibv_sge space = part_of(peer.buffer_mr, peer.buffer, 64);
	struct ibv_sge dead = part_of(m->mr, m->p, 64);
	struct pair *pair = pair_create(pd, IBV_QPT_UC, false);
	struct ibv_wc wc;

	is(pair_rdma(pair, 0, IBV_WR_RDMA_WRITE, mine, m->p, m->mr->rkey),
	   IBV_WC_SUCCESS, "UC write, which is dropped", m->name);
	memcpy(peer.buffer, "UC works", 8);
	is(pair_rdma(pair, 0, IBV_WR_RDMA_WRITE, mine, host.p, host.mr->rkey),
	   IBV_WC_SUCCESS, "UC write after it, to host memory", m->name);
	for (double limit = now() + 10; memcmp(host.p, "UC works", 8) &&
	     now() < limit;)
		usleep(1000);
	ok(!memcmp(host.p, "UC works", 8), "which arrives");
	is(pair_rdma(pair, 0, IBV_WR_RDMA_WRITE, dead, host.p, host.mr->rkey),
	   IBV_WC_LOC_PROT_ERR, "UC write out of it", m->name);
	pair_destroy(pair);

	for (int i = 0; i < 2; i++) {
		enum ibv_qp_type type = i ? IBV_QPT_UD : IBV_QPT_UC;
		const char *name = i ? "UD" : "UC";

		pair = pair_create(pd, type, false);
		is(pair_send(pair, &dead, 1, &space, 1, &wc),
		   IBV_WC_LOC_PROT_ERR, i ? "UD send from it" :
		   "UC send from it", m->name);
		pair_destroy(pair);
		pair = pair_create(pd, type, false);
		is(pair_send(pair, &mine, 1, &dead, 1, &wc), IBV_WC_SUCCESS,
		   i ? "UD send to it" : "UC send to it", m->name);
		is(wc.status, IBV_WC_LOC_PROT_ERR, "its receive", name);
		ok(soon_in(pair, 1, IBV_QPS_ERR),
		   "%s: the receiver is in error", name);
		pair_destroy(pair);
	}
}

/* A window that is bound to it only now */
static void late_window(const struct memory *m)
{
	struct ibv_sge mine = part_of(peer.buffer_mr, peer.buffer, 8);
	struct pair *pair = pair_create(pd, IBV_QPT_RC, false);
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	int bound, used;

	if (!mw)
		give_up("memory window");
	bound = pair_bind_mw(pair, 1, mw, m->mr, m->p, SIZE,
			     IBV_ACCESS_REMOTE_WRITE);
	used = pair_rdma(pair, 0, IBV_WR_RDMA_WRITE, mine, m->p, mw->rkey);
	ok(bound || used == IBV_WC_REM_ACCESS_ERR,
	   "a window bound to it afterwards does not reach it: bind %s, write %s",
	   status_name(bound), status_name(used));
	ok(!ibv_dealloc_mw(mw) && pair_destroy(pair), "it can be deallocated");
}

static void mapping_is_dead(const struct memory *m)
{
	ok(touch(m->p, true) == SIGBUS, "%s: SIGBUS", m->name);
	errno = 0;
	if (by_door)
		fails(!door_reg(pd, 0, PAGE, 0, m->fd, ALL_ACCESS), ENODEV,
		      "%s: cannot be registered again", m->name);
	else
		ok(!ibv_reg_mr(pd, m->p, PAGE, ALL_ACCESS),
		   "%s: cannot be registered again: %s", m->name,
		   strerrorname_np(errno));
}

/* Not ours: it goes with the device's driver, but not with a reset. */
static void foreign_mapping(const struct memory *m)
{
	bool there = !touch(m->p, true);
	struct ibv_mr *mr = ibv_reg_mr(pd, m->p, SIZE, ALL_ACCESS);

	ok(there == (mr && peer_reaches(&peer, mr, 3)),
	   "%s: the mapping is %s, and can%s be registered again", m->name,
	   there ? "alive" : "dead", there ? "" : "not");
	if (mr)
		ibv_dereg_mr(mr);
}

static void window_is_dead(struct ibv_mw *mw)
{
	struct ibv_sge mine = part_of(peer.buffer_mr, peer.buffer, 8);

	is(pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_WRITE, mine,
		     bars[REGION].p, mw->rkey), IBV_WC_REM_ACCESS_ERR,
	   "RDMA write", "a window of type 1");
	is(pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_READ, mine,
		     bars[REGION].p, mw->rkey), IBV_WC_REM_ACCESS_ERR,
	   "RDMA read", "a window of type 1");
}

/* All of it by way of its MR, and the mapping shows it. */
static bool reaches(const struct memory *m, uint64_t seed)
{
	return !peer_write(&peer, m->p, m->mr->rkey, m->size, seed) &&
	       peer_sees(&peer, m->p, m->mr->rkey, m->size, seed) &&
	       laid(m->p, m->size, seed, 0);
}

/* New MRs do not get the keys of those that have not been deregistered. */
static void keys_are_kept(int fd2)
{
	enum { NEW = 100 };
	struct memory new[NEW];
	bool fresh = true;

	for (int i = 0; i < NEW; i++) {
		new[i] = of_device("another device", fd2, PAGE);
		for (int j = 0; j < nbars; j++)
			fresh &= new[i].mr->rkey != bars[j].mr->rkey &&
				 new[i].mr->lkey != bars[j].mr->lkey;
	}
	ok(fresh, "new MRs get other keys");
	ok(reaches(&new[NEW - 1], 1), "and work");
	for (int i = 0; i < NEW; i++)
		release(&new[i]);
}

static void all_is_free(int fd, const char *when)
{
	struct iopmem_info info;

	ok(!device_info(fd, &info) && info.free == info.size,
	   "all of it is free %s", when);
}

/* Of type 1 for the peer, of type 2 for the lane that goes through one. */
static void bind_windows(struct ibv_mw **window1, struct ibv_mw **window2)
{
	struct lane *lane = &lanes[WINDOW_LANE];
	struct memory *m = &bars[REGION];
	int status;

	/* The owner of a window of type 2 is the queue pair it is used on. */
	*window2 = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	*window1 = ibv_alloc_mw(pd, IBV_MW_TYPE_1);
	if (!*window1 || !*window2)
		give_up("memory windows");
	status = pair_bind_mw(lane->pair, 1, *window2, m->mr, m->p, SIZE,
			      IBV_ACCESS_REMOTE_WRITE);
	if (!status)
		status = pair_bind_mw(peer_pair(&peer), 1, *window1, m->mr,
				      m->p, SIZE, IBV_ACCESS_REMOTE_WRITE |
				      IBV_ACCESS_REMOTE_READ);
	ok(!status, "memory windows are bound: %s", status_name(status));
	lane->rkey = (*window2)->rkey;
}

/* The device is there again; the dead MRs must not reach its memory. */
static int back(const char *command)
{
	FILE *pipe = popen(command, "re");
	struct ibv_sge mine = part_of(peer.buffer_mr, peer.buffer, 8);
	char node[64] = "";
	struct memory new;
	bool printed;
	int fd;

	printed = pipe && fscanf(pipe, "%63s", node) == 1;
	if (!ok(pipe && !pclose(pipe) && printed, "it comes back, as %s",
		node))
		return -1;
	fd = open_device(node, O_RDWR);
	all_is_free(fd, "while dead MRs remain");
	new = of_device("it", fd, 8 * SIZE);
	ok(peer_sees_zeros(&peer, new.p, new.mr->rkey, new.size),
	   "a new MR on it shows zeros");
	ok(reaches(&new, 9), "and works");
	for (int i = 0; i < nbars; i++)
		is(pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_WRITE, mine,
			     bars[i].p, bars[i].mr->rkey),
		   IBV_WC_REM_ACCESS_ERR, "still, RDMA write to it",
		   bars[i].name);
	ok(laid(new.p, new.size, 9, 0), "the new MR's memory is as it was");
	release(&new);
	return fd;
}

int main(int argc, char **argv)
{
	const char *allocate = NULL, *gone, *comes_back;
	struct ibv_mw *window1 = NULL, *window2 = NULL;
	double seconds, allowed;
	bool good;
	int fd, fd2, back_fd, status;

	if (argc == 8 && (!strcmp(argv[1], "-f") || !strcmp(argv[1], "-d"))) {
		by_door = argv[1][1] == 'd';
		if (by_door)
			door_choose(argv[2]);
		else
			allocate = argv[2];
		argv += 2;
		argc -= 2;
	}
	if (argc != 6) {
		fprintf(stderr, "usage: verbs_revoke [-f ALLOCATE | -d DOOR] DEV DEV2 SECONDS GONE BACK\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	fd2 = open_device(argv[2], O_RDWR);
	allowed = atof(argv[3]);
	gone = argv[4];
	comes_back = argv[5];

	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);
	host = on("host memory", host_memory(HOST_SIZE), HOST_SIZE);
	if (by_door)
		make_dmabufs(fd);
	else
		make_memory(fd, allocate);
	for (int i = 0; i < LANES; i++)
		start(&lanes[i], i);

	if (by_door)
		lanes[WINDOW_LANE].name = "another write, host to BAR";
	else
		bind_windows(&window1, &window2);

	ok(repeat_until(all_warm, pump, 120), "traffic on %d queue pairs", 2 * LANES);
	status = run_beside(gone, pump, &seconds);
	ok(!status, "the device is taken away under traffic");
	if (status) {
		for (int i = 0; i < LANES; i++)
			if (lanes[i].status != -1)
				printf("# %s: %s\n", lanes[i].name,
				       status_name(lanes[i].status));
		return done_testing();
	}
	if (!ok(seconds < allowed, "it takes less than %g s", allowed))
		printf("# it took %.1f s\n", seconds);

	ok(repeat_until(all_ended, pump, 60), "all traffic with the BAR ends");
	for (int i = 0; i < HOST_LANE; i++) {
		is(lanes[i].status,
		   lanes[i].or && lanes[i].status == lanes[i].or ?
		   lanes[i].or : lanes[i].want, "ends with", lanes[i].name);
		if (lanes[i].want_received)
			is(lanes[i].received, lanes[i].want_received,
			   "the receive ends with", lanes[i].name);
		ok(lanes[i].only_flushed,
		   "%s: what was posted behind it is flushed", lanes[i].name);
	}
	until = lanes[HOST_LANE].done + 200;
	ok(repeat_until(host_lane_goes_on, pump, 60) &&
	   lanes[HOST_LANE].status == -1,
	   "traffic between host memory goes on");

	for (int i = 0; i < nbars; i++)
		is_dead(&bars[i]);
	states_of_queue_pairs(&bars[REGION]);
	unacknowledged(&bars[REGION]);
	if (!by_door)
		late_window(&bars[REGION]);
	for (int i = 0; i < FOREIGN; i++)
		mapping_is_dead(&bars[i]);
	if (allocate)
		foreign_mapping(&bars[FOREIGN]);
	if (!by_door)
		window_is_dead(window1);
	keys_are_kept(fd2);
	ok(peer_reaches(&peer, host.mr, 2) && laid(host.p, HOST_SIZE, 2, 0),
	   "the MR on host memory still works");
	back_fd = *comes_back ? back(comes_back) : -1;

	/* In this order: in rxe, a bound window of type 2 holds its pair. */
	good = by_door ||
	       (!ibv_dealloc_mw(window1) && !ibv_dealloc_mw(window2));
	for (int i = 0; i < LANES; i++)
		good &= pair_destroy(lanes[i].pair);
	ok(good, "windows and queue pairs go");
	for (int i = 0; i < nbars; i++)
		ok(release(&bars[i]), "%s: its MR goes", bars[i].name);
	if (back_fd >= 0)
		all_is_free(back_fd, "when they are gone");
	return done_testing();
}
