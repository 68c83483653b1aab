// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * verbs_access DEV: for each combination of access flags, whether BAR memory
 * can be registered with it, and what a peer may do then. Needs no privilege.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "access_names.h"
#include "tap.h"
#include "util.h"

enum { SIZE = 3 * 4096 + 100 };

/* What a peer can do with an MR. */
enum { WRITE = 1, READ = 2, ATOMIC = 4, FLUSH = 8, WINDOW = 16 };

#define ROW(flags, error, can)	{ #flags, flags, error, can }

static const struct row {
	const char *name;
	unsigned int flags;
	int error;
	unsigned int can;
} table[] = {
	ROW(0, 0, 0),
	ROW(LOCAL_WRITE, 0, 0),
	ROW(REMOTE_READ, 0, READ),
	ROW(LOCAL_WRITE | REMOTE_READ, 0, READ),
	ROW(LOCAL_WRITE | REMOTE_WRITE, 0, WRITE),
	ROW(LOCAL_WRITE | REMOTE_ATOMIC, 0, ATOMIC),
	ROW(LOCAL_WRITE | REMOTE_WRITE | REMOTE_READ | REMOTE_ATOMIC, 0,
	    WRITE | READ | ATOMIC),
	ROW(LOCAL_WRITE | REMOTE_WRITE | RELAXED_ORDERING, 0, WRITE),
	ROW(REMOTE_READ | RELAXED_ORDERING, 0, READ),
	ROW(LOCAL_WRITE | MW_BIND, 0, WINDOW),
	ROW(REMOTE_READ | MW_BIND, 0, READ),
	ROW(LOCAL_WRITE | REMOTE_WRITE | FLUSH_GLOBAL, 0, WRITE | FLUSH),

	ROW(REMOTE_WRITE, EINVAL, 0),
	ROW(REMOTE_WRITE | REMOTE_READ, EINVAL, 0),
	ROW(REMOTE_ATOMIC, EINVAL, 0),
	ROW(LOCAL_WRITE | ON_DEMAND, EOPNOTSUPP, 0),
	ROW(ON_DEMAND, EOPNOTSUPP, 0),
	ROW(LOCAL_WRITE | HUGETLB, EOPNOTSUPP, 0),
	ROW(LOCAL_WRITE | ZERO_BASED, EOPNOTSUPP, 0),
	ROW(LOCAL_WRITE | REMOTE_WRITE | FLUSH_PERSISTENT, EINVAL, 0),
	ROW(LOCAL_WRITE | REMOTE_WRITE | FLUSH_GLOBAL | FLUSH_PERSISTENT,
	    EINVAL, 0),
	ROW(LOCAL_WRITE | UNKNOWN, EINVAL, 0),
};

static struct ibv_pd *pd;
static struct peer peer;
static char *bar;

/* A bit of enum WINDOW if a writable window can be bound to the MR. */
static unsigned int try_window(struct ibv_mr *mr)
{
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	int status;

	if (!mw)
		give_up("memory window");
	status = pair_bind_mw(peer_pair(&peer), 1, mw, mr, bar, 4096,
			      IBV_ACCESS_REMOTE_WRITE);
	if (!status)
		status = pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_WRITE,
				   part_of(peer.buffer_mr, peer.buffer, 100),
				   bar, mw->rkey);
	ibv_dealloc_mw(mw);
	return status ? 0 : WINDOW;
}

/* What a peer can do; that a refusal leaves the bytes alone is checked, too. */
static unsigned int try_all(struct ibv_mr *mr)
{
	struct ibv_sge word = part_of(peer.buffer_mr, peer.buffer, 8);
	unsigned int can = 0;
	bool same;

	lay(bar, SIZE, 1, 0);
	if (!peer_read(&peer, bar, mr->rkey, SIZE, 1, &same) && same)
		can |= READ;
	if (!pair_flush(peer_pair(&peer), 0, FLUSH_RANGE, bar, 100, mr->rkey))
		can |= FLUSH;
	if (!pair_atomic(peer_pair(&peer), 0, IBV_WR_ATOMIC_FETCH_AND_ADD, word,
			 bar + 8, mr->rkey, 1, 0))
		can |= ATOMIC;
	else if (!laid(bar, SIZE, 1, 0))
		ok(false, "a refused atomic has changed something");
	lay(bar, SIZE, 1, 0);
	if (!peer_write(&peer, bar, mr->rkey, SIZE, 2))
		can |= laid(bar, SIZE, 2, 0) ? WRITE : 0;
	else if (!laid(bar, SIZE, 1, 0))
		ok(false, "a refused write has changed something");
	return can | try_window(mr);
}

static void local_use(const struct row *row, struct ibv_mr *mr)
{
	struct ibv_mr *other = ibv_reg_mr(pd, bar + SIZE, SIZE, LOCAL_WRITE |
					  REMOTE_WRITE | REMOTE_READ);
	bool writable = row->flags & LOCAL_WRITE;
	int status;

	if (!other)
		give_up("second MR");
	/* BAR to BAR, so that none of the sides is easier. */
	lay(bar, SIZE, 3, 0);
	status = pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_WRITE,
			   part_of(mr, bar, SIZE), bar + SIZE, other->rkey);
	ok(!status && laid(bar + SIZE, SIZE, 3, 0),
	   "%s: it can be sent from: %s", row->name, status_name(status));
	lay(bar + SIZE, SIZE, 4, 0);
	status = pair_rdma(peer_pair(&peer), 0, IBV_WR_RDMA_READ,
			   part_of(mr, bar, SIZE), bar + SIZE, other->rkey);
	ok(status == (writable ? IBV_WC_SUCCESS : IBV_WC_LOC_PROT_ERR) &&
	   laid(bar, SIZE, writable ? 4 : 3, 0), "%s: it can%s be read to: %s",
	   row->name, writable ? "" : "not", status_name(status));
	ibv_dereg_mr(other);
}

/* There is nothing to invalidate in a window that is not bound. */
static void unbound_window(void)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, bar, SIZE, LOCAL_WRITE | MW_BIND);
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	int never, bound, again;

	if (!mr || !mw)
		give_up("memory window");
	never = pair_invalidate(peer_pair(&peer), 1, mw->rkey);
	ok(never, "a window that was never bound cannot be invalidated: %s",
	   status_name(never));
	bound = pair_bind_mw(peer_pair(&peer), 1, mw, mr, bar, 4096,
			     REMOTE_WRITE) ?:
		pair_invalidate(peer_pair(&peer), 1, mw->rkey);
	again = pair_invalidate(peer_pair(&peer), 1, mw->rkey);
	ok(!bound && again, "one that was can, once: %s, %s",
	   status_name(bound), status_name(again));
	ok(!ibv_dealloc_mw(mw) && !ibv_dereg_mr(mr), "it can be deallocated");
}

int main(int argc, char **argv)
{
	uint64_t before;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: verbs_access DEV\n");
		return EXIT_FAILURE;
	}
	fd = open_device(argv[1], O_RDWR);
	before = device_free(fd);
	bar = map_or_give_up(fd, 2 * SIZE);
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct row *row = &table[i];
		struct ibv_mr *mr = ibv_reg_mr(pd, bar, SIZE, row->flags);
		unsigned int can;

		if (row->error) {
			fails(!mr, row->error, "%s", row->name);
		} else if (ok(mr, "%s can be registered", row->name)) {
			can = try_all(mr);
			if (!ok(can == row->can, "%s allows what it says",
				row->name))
				printf("# it allows %#x, not %#x\n", can,
				       row->can);
			local_use(row, mr);
		}
		if (mr)
			ok(!ibv_dereg_mr(mr), "%s: ibv_dereg_mr", row->name);
	}
	unbound_window();
	munmap(bar, 2 * SIZE);
	ok(device_free(fd) == before, "nothing was lost on the way");
	return done_testing();
}
