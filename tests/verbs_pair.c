// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "verbs_pair.h"

#include <rdma/rdma_user_rxe.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

enum { SECONDS_TO_WAIT = 60 };

/* The address that its interface has in RoCE v2 on IPv4. */
static int ipv4_gid(struct ibv_context *context, union ibv_gid *gid)
{
	static const unsigned char v4_mapped[12] = { [10] = 0xff, 0xff };
	double limit = now() + SECONDS_TO_WAIT;
	struct ibv_port_attr port;

	if (ibv_query_port(context, 1, &port))
		give_up("ibv_query_port");
	/* The table is filled in the background when the device appears. */
	while (now() < limit) {
		for (int i = 0; i < port.gid_tbl_len; i++)
			if (!ibv_query_gid(context, 1, i, gid) &&
			    !memcmp(gid, v4_mapped, sizeof(v4_mapped)))
				return i;
		usleep(100000);
	}
	errno = EADDRNOTAVAIL;
	give_up("an IPv4 address of %s", context->device->name);
}

static void create_qp(struct pair *pair, int end, struct ibv_pd *pd,
		      enum ibv_qp_type type, struct ibv_srq *srq)
{
	struct ibv_qp_init_attr_ex init = {
		.send_cq = pair->cq[end],
		.recv_cq = pair->cq[end],
		.srq = srq,
		.cap = {
			.max_send_wr = PAIR_DEPTH,
			.max_recv_wr = PAIR_DEPTH,
			.max_send_sge = PAIR_SGES,
			.max_recv_sge = PAIR_SGES,
		},
		.qp_type = type,
		.sq_sig_all = 1,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = pd,
	};

	if (type == IBV_QPT_RC) {
		init.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
		init.send_ops_flags = IBV_QP_EX_WITH_RDMA_READ |
				      IBV_QP_EX_WITH_ATOMIC_WRITE;
		pair->atomic_write = true;
	}
	pair->qp[end] = ibv_create_qp_ex(pd->context, &init);
	if (!pair->qp[end] && type == IBV_QPT_RC) {
		init.send_ops_flags = IBV_QP_EX_WITH_RDMA_READ;
		pair->atomic_write = false;
		pair->qp[end] = ibv_create_qp_ex(pd->context, &init);
	}
	if (!pair->qp[end])
		give_up("queue pair");
}

static void to_init(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qkey = UD_QKEY,
		.qp_access_flags = IBV_ACCESS_LOCAL_WRITE |
				   IBV_ACCESS_REMOTE_WRITE |
				   IBV_ACCESS_REMOTE_READ |
				   IBV_ACCESS_REMOTE_ATOMIC |
				   ACCESS_FLUSH_GLOBAL,
	};
	int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;

	mask |= qp->qp_type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS;
	errno = ibv_modify_qp(qp, &attr, mask);
	if (errno)
		give_up("queue pair to INIT");
}

static void to_rts(struct ibv_qp *qp, uint32_t peer_qpn,
		   const struct ibv_ah_attr *path)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_4096,
		.dest_qp_num = peer_qpn,
		.max_dest_rd_atomic = PAIR_DEPTH,
		.max_rd_atomic = PAIR_DEPTH,
		.min_rnr_timer = 12,	/* 0.64 ms */
		.timeout = 18,		/* 1 s */
		.retry_cnt = 7,
		.rnr_retry = 7,		/* for ever */
		.ah_attr = *path,
	};
	bool connected = qp->qp_type != IBV_QPT_UD;
	bool rc = qp->qp_type == IBV_QPT_RC;

	errno = ibv_modify_qp(qp, &attr, IBV_QP_STATE |
			      (connected ? IBV_QP_AV | IBV_QP_PATH_MTU |
					   IBV_QP_DEST_QPN | IBV_QP_RQ_PSN : 0) |
			      (rc ? IBV_QP_MAX_DEST_RD_ATOMIC |
				    IBV_QP_MIN_RNR_TIMER : 0));
	if (errno)
		give_up("queue pair to RTR");

	attr.qp_state = IBV_QPS_RTS;
	errno = ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN |
			      (rc ? IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				    IBV_QP_RNR_RETRY |
				    IBV_QP_MAX_QP_RD_ATOMIC : 0));
	if (errno)
		give_up("queue pair to RTS");
}

static void create_end(struct pair *pair, int end, struct ibv_pd *pd,
		       enum ibv_qp_type type)
{
	pair->cq[end] = ibv_create_cq(pd->context, 2 * PAIR_DEPTH, NULL,
				      pair->channel, 0);
	if (!pair->cq[end])
		give_up("completion queue");
	create_qp(pair, end, pd, type, end ? pair->srq : NULL);
	to_init(pair->qp[end]);
}

struct pair *pair_create(struct ibv_pd *pd, enum ibv_qp_type type,
			 bool with_srq)
{
	struct ibv_srq_init_attr srq_init = {
		.attr = { .max_wr = PAIR_DEPTH, .max_sge = PAIR_SGES },
	};
	struct pair *pair = calloc(1, sizeof(*pair));
	struct ibv_ah_attr path = { .is_global = 1, .port_num = 1 };

	if (!pair)
		give_up("memory");
	path.grh.sgid_index = ipv4_gid(pd->context, &path.grh.dgid);
	path.grh.hop_limit = 1;

	if (with_srq) {
		pair->srq = ibv_create_srq(pd, &srq_init);
		if (!pair->srq)
			give_up("shared receive queue");
	}
	pair->channel = ibv_create_comp_channel(pd->context);
	if (!pair->channel)
		give_up("completion channel");
	for (int end = 0; end < 2; end++)
		create_end(pair, end, pd, type);
	for (int end = 0; end < 2; end++)
		to_rts(pair->qp[end], pair->qp[!end]->qp_num, &path);
	if (type == IBV_QPT_UD) {
		pair->ah = ibv_create_ah(pd, &path);
		if (!pair->ah)
			give_up("address handle");
	}
	return pair;
}

struct pair *pair_connect(struct ibv_pd *const pds[2])
{
	struct ibv_ah_attr paths[2] = {
		{ .is_global = 1, .port_num = 1, .grh.hop_limit = 1 },
		{ .is_global = 1, .port_num = 1, .grh.hop_limit = 1 },
	};
	struct pair *pair = calloc(1, sizeof(*pair));

	if (!pair)
		give_up("memory");
	for (int end = 0; end < 2; end++) {
		paths[end].grh.sgid_index = ipv4_gid(pds[end]->context,
						     &paths[!end].grh.dgid);
		create_end(pair, end, pds[end], IBV_QPT_RC);
	}
	for (int end = 0; end < 2; end++)
		to_rts(pair->qp[end], pair->qp[!end]->qp_num, &paths[end]);
	return pair;
}

bool pair_destroy(struct pair *pair)
{
	bool good = true;

	for (int end = 0; end < 2; end++)
		good &= !ibv_destroy_qp(pair->qp[end]) &&
			!ibv_destroy_cq(pair->cq[end]);
	if (pair->channel)
		good &= !ibv_destroy_comp_channel(pair->channel);
	if (pair->srq)
		good &= !ibv_destroy_srq(pair->srq);
	if (pair->ah)
		good &= !ibv_destroy_ah(pair->ah);
	free(pair);
	return good;
}

int pair_wait(struct pair *pair, int end, struct ibv_wc *wc)
{
	double limit = now() + SECONDS_TO_WAIT;
	int n;

	do {
		n = ibv_poll_cq(pair->cq[end], 1, wc);
		if (!n)
			sched_yield();
	} while (!n && now() < limit);
	if (n == 1 && wc->status == IBV_WC_SUCCESS)
		return 0;
	pair->failed = true;
	return n == 1 ? 0 : -1;
}

static int wait_status(struct pair *pair, int end)
{
	struct ibv_wc wc;

	return pair_wait(pair, end, &wc) ? -1 : (int)wc.status;
}

int pair_post(struct pair *pair, int end, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;

	if (ibv_post_send(pair->qp[end], wr, &bad))
		return -1;
	return wait_status(pair, end);
}

struct ibv_sge part_of(struct ibv_mr *mr, const void *p, size_t len)
{
	return (struct ibv_sge) {
		.addr = (uintptr_t)p,
		.length = len,
		.lkey = mr->lkey,
	};
}

int pair_rdma(struct pair *pair, int end, enum ibv_wr_opcode opcode,
	      struct ibv_sge local, const void *remote, uint32_t rkey)
{
	struct ibv_send_wr wr = {
		.sg_list = &local,
		.num_sge = 1,
		.opcode = opcode,
		.wr.rdma = { .remote_addr = (uintptr_t)remote, .rkey = rkey },
	};

	return pair_post(pair, end, &wr);
}

int pair_atomic(struct pair *pair, int end, enum ibv_wr_opcode opcode,
		struct ibv_sge local, const void *remote, uint32_t rkey,
		uint64_t compare_add, uint64_t swap)
{
	struct ibv_send_wr wr = {
		.sg_list = &local,
		.num_sge = 1,
		.opcode = opcode,
		.wr.atomic = {
			.remote_addr = (uintptr_t)remote,
			.compare_add = compare_add,
			.swap = swap,
			.rkey = rkey,
		},
	};

	return pair_post(pair, end, &wr);
}

int pair_atomic_write(struct pair *pair, int end, uint64_t value,
		      const void *remote, uint32_t rkey)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(pair->qp[end]);

	ibv_wr_start(qp);
	qp->wr_id = 0;
	qp->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_atomic_write(qp, rkey, (uintptr_t)remote, &value);
	if (ibv_wr_complete(qp))
		return -1;
	return wait_status(pair, end);
}

/* The request in one of the device's send queues that has this wr_id. */
static struct rxe_send_wqe *find_request(uint64_t wr_id)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	struct rxe_send_wqe *found = NULL;
	unsigned long start, end;
	char line[512];

	while (!found && maps && fgets(line, sizeof(line), maps))
		if (strstr(line, "/infiniband/uverbs") &&
		    sscanf(line, "%lx-%lx", &start, &end) == 2)
			found = memmem((void *)start, end - start, &wr_id,
				       sizeof(wr_id));
	if (maps)
		fclose(maps);
	return found;
}

/*
 * rdma-core can post FLUSH only from version 46 on. Before, a program has to
 * make the request itself, of another one that has been prepared but not yet
 * given to the device.
 */
int pair_flush(struct pair *pair, int end, enum flush_level level,
	       const void *remote, size_t len, uint32_t rkey)
{
	enum { WR_FLUSH = 14, TYPE_GLOBAL = 1 };
	static uint64_t wr_id = 0x466c7573685f2323;
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(pair->qp[end]);
	struct {
		uint64_t remote_addr;
		uint32_t length;
		uint32_t rkey;
		uint8_t type;
		uint8_t level;
	} flush = {
		.remote_addr = (uintptr_t)remote,
		.length = len,
		.rkey = rkey,
		.type = TYPE_GLOBAL,
		.level = level,
	};
	struct rxe_send_wqe *wqe;

	ibv_wr_start(qp);
	qp->wr_id = ++wr_id;
	qp->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_rdma_read(qp, rkey, (uintptr_t)remote);
	ibv_wr_set_sge(qp, 0, 0, len);
	wqe = find_request(wr_id);
	if (!wqe) {
		ibv_wr_abort(qp);
		return -1;
	}
	wqe->wr.opcode = WR_FLUSH;
	memcpy(&wqe->wr.wr, &flush, sizeof(flush));
	if (ibv_wr_complete(qp))
		return -1;
	return wait_status(pair, end);
}

static int post_receive(struct pair *pair, struct ibv_recv_wr *wr)
{
	struct ibv_recv_wr *bad;

	return pair->srq ? ibv_post_srq_recv(pair->srq, wr, &bad)
			 : ibv_post_recv(pair->qp[1], wr, &bad);
}

int pair_send(struct pair *pair, struct ibv_sge *from, int nfrom,
	      struct ibv_sge *to, int nto, struct ibv_wc *received)
{
	struct ibv_recv_wr recv = { .sg_list = to, .num_sge = nto };
	struct ibv_send_wr send = {
		.sg_list = from,
		.num_sge = nfrom,
		.opcode = IBV_WR_SEND,
	};
	int sent;

	if (pair->ah) {
		send.wr.ud.ah = pair->ah;
		send.wr.ud.remote_qpn = pair->qp[1]->qp_num;
		send.wr.ud.remote_qkey = UD_QKEY;
	}
	received->status = -1;
	if (post_receive(pair, &recv))
		return -1;
	sent = pair_post(pair, 0, &send);
	if (sent != IBV_WC_SUCCESS && sent != IBV_WC_REM_OP_ERR &&
	    sent != IBV_WC_REM_INV_REQ_ERR && sent != IBV_WC_REM_ACCESS_ERR)
		return sent;
	if (pair_wait(pair, 1, received))
		received->status = -1;
	return sent;
}

int pair_bind_mw(struct pair *pair, int end, struct ibv_mw *mw,
		 struct ibv_mr *mr, void *p, size_t len, unsigned int access)
{
	struct ibv_mw_bind_info info = {
		.mr = mr,
		.addr = (uintptr_t)p,
		.length = len,
		.mw_access_flags = access,
	};
	struct ibv_mw_bind bind = { .bind_info = info };
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_BIND_MW,
		.bind_mw = {
			.mw = mw,
			.rkey = ibv_inc_rkey(mw->rkey),
			.bind_info = info,
		},
	};
	int status;

	if (mw->type == IBV_MW_TYPE_1) {
		if (ibv_bind_mw(pair->qp[end], mw, &bind))
			return -1;
		return wait_status(pair, end);
	}
	status = pair_post(pair, end, &wr);
	if (!status)
		mw->rkey = wr.bind_mw.rkey;
	return status;
}

int pair_invalidate(struct pair *pair, int end, uint32_t rkey)
{
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_LOCAL_INV,
		.invalidate_rkey = rkey,
	};

	return pair_post(pair, end, &wr);
}

const char *status_name(int status)
{
	return status < 0 ? "nothing" : ibv_wc_status_str(status);
}

void peer_init(struct peer *peer, struct ibv_pd *pd)
{
	memset(peer, 0, sizeof(*peer));
	peer->pd = pd;
	peer->buffer = host_memory(PEER_BUFFER);
	peer->buffer_mr = ibv_reg_mr(pd, peer->buffer, PEER_BUFFER,
				     IBV_ACCESS_LOCAL_WRITE);
	if (!peer->buffer_mr)
		give_up("host memory of the peer");
}

struct pair *peer_pair(struct peer *peer)
{
	/*
	 * Its state would not tell: rxe completes a request a moment before it
	 * moves the queue pair to the error state.
	 */
	if (peer->pair && peer->pair->failed) {
		pair_destroy(peer->pair);
		peer->pair = NULL;
	}
	if (!peer->pair)
		peer->pair = pair_create(peer->pd, IBV_QPT_RC, false);
	return peer->pair;
}

/* Takes or gives what a piece of remote memory holds; a status. */
static int peer_piece(struct peer *peer, enum ibv_wr_opcode opcode,
		      const char *remote, uint32_t rkey, size_t len)
{
	return pair_rdma(peer_pair(peer), 0, opcode,
			 part_of(peer->buffer_mr, peer->buffer, len),
			 remote, rkey);
}

static size_t piece(size_t len, size_t done)
{
	return len - done < PEER_BUFFER ? len - done : PEER_BUFFER;
}

int peer_write(struct peer *peer, const void *remote, uint32_t rkey,
	       size_t len, uint64_t seed)
{
	int status = 0;

	for (size_t done = 0; !status && done < len; done += PEER_BUFFER) {
		lay(peer->buffer, piece(len, done), seed, done);
		status = peer_piece(peer, IBV_WR_RDMA_WRITE,
				    (const char *)remote + done, rkey,
				    piece(len, done));
	}
	return status;
}

int peer_read(struct peer *peer, const void *remote, uint32_t rkey,
	      size_t len, uint64_t seed, bool *same)
{
	int status = 0;

	*same = true;
	for (size_t done = 0; !status && done < len; done += PEER_BUFFER) {
		status = peer_piece(peer, IBV_WR_RDMA_READ,
				    (const char *)remote + done, rkey,
				    piece(len, done));
		*same &= !status && laid(peer->buffer, piece(len, done), seed,
					 done);
	}
	return status;
}

bool peer_sees(struct peer *peer, const void *remote, uint32_t rkey,
	       size_t len, uint64_t seed)
{
	bool same;

	return !peer_read(peer, remote, rkey, len, seed, &same) && same;
}

bool peer_reaches(struct peer *peer, struct ibv_mr *mr, uint64_t seed)
{
	return !peer_write(peer, mr->addr, mr->rkey, mr->length, seed) &&
	       peer_sees(peer, mr->addr, mr->rkey, mr->length, seed);
}

bool peer_sees_zeros(struct peer *peer, const void *remote, uint32_t rkey,
		     size_t len)
{
	static const char zeros[PEER_BUFFER];
	bool good = true;

	for (size_t done = 0; good && done < len; done += PEER_BUFFER)
		good = !peer_piece(peer, IBV_WR_RDMA_READ,
				   (const char *)remote + done, rkey,
				   piece(len, done)) &&
		       !memcmp(peer->buffer, zeros, piece(len, done));
	return good;
}

/* Bytes [skip, skip + len) of a pattern, to be freed. */
static char *make_pattern(size_t len, uint64_t seed, size_t skip,
			  char **bytes)
{
	size_t first = skip / 8, n = (skip + len + 7) / 8 - first;
	uint64_t *words = malloc(n * sizeof(*words) + 1);

	if (!words)
		give_up("memory");
	for (size_t i = 0; i < n; i++)
		words[i] = pattern_word(seed, first + i);
	*bytes = (char *)words + skip % 8;
	return (char *)words;
}

void lay(void *p, size_t len, uint64_t seed, size_t skip)
{
	char *bytes, *pattern = make_pattern(len, seed, skip, &bytes);

	memcpy(p, bytes, len);
	free(pattern);
}

bool laid(const void *p, size_t len, uint64_t seed, size_t skip)
{
	char *bytes, *pattern = make_pattern(len, seed, skip, &bytes);
	bool same = !memcmp(p, bytes, len);

	free(pattern);
	return same;
}

void *host_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		give_up("%zu bytes of host memory", len);
	return p;
}
