// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * bench_revoke FUNCTION KIND...: how long it takes to unbind the iopmem driver
 * from FUNCTION, a folder of sysfs, by the number of MRs that there are on its
 * memory, with no traffic and with traffic on 8 queue pairs, at both ends of
 * each.
 *
 * KIND
 *	peer	ibv_reg_mr() on mappings, by way of peer memory
 *	dmabuf	ibv_reg_dmabuf_mr() on dma-bufs
 *
 * Each MR is on a region of its own. Prints "revoke KIND idle|traffic xN ns",
 * N without the 8 MRs of the traffic.
 *
 * For ./lab bench, as root, in a guest whose clock counts instructions.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum { PAGE = 4096, MAX = 10000, LANES = 8, DEPTH = 4, WARM = 100 };

static const int access_flags = IBV_ACCESS_LOCAL_WRITE |
				IBV_ACCESS_REMOTE_WRITE |
				IBV_ACCESS_REMOTE_READ;

static const char *function;
static struct ibv_pd *pd;

static struct memory {
	void *p;
	struct ibv_mr *mr;
} memories[MAX];

/* Opens FUNCTION's node. */
static int open_node(void)
{
	char name[512], node[300] = "";
	struct dirent *entry;
	DIR *dir;

	snprintf(name, sizeof(name), "%s/iopmem", function);
	dir = opendir(name);
	if (!dir)
		give_up("%s", name);
	while ((entry = readdir(dir)))
		if (!strncmp(entry->d_name, "iopmem", 6))
			snprintf(node, sizeof(node), "/dev/%s", entry->d_name);
	closedir(dir);
	return open_device(node, O_RDWR);
}

/* A file of the driver's takes the function's address. */
static int open_driver(const char *file)
{
	char name[128];

	snprintf(name, sizeof(name), "/sys/bus/pci/drivers/iopmem/%s", file);
	return open_device(name, O_WRONLY);
}

static void write_address(int fd)
{
	const char *address = strrchr(function, '/') + 1;

	if (write(fd, address, strlen(address)) != (ssize_t)strlen(address))
		give_up("%s", address);
}

static struct memory make(int fd, const char *kind)
{
	struct memory m = { 0 };
	int buf_fd;

	if (!strcmp(kind, "peer")) {
		m.p = map_or_give_up(fd, PAGE);
		m.mr = ibv_reg_mr(pd, m.p, PAGE, access_flags);
	} else {
		buf_fd = alloc_region(fd, PAGE, 0, O_RDWR | O_CLOEXEC);
		m.mr = ibv_reg_dmabuf_mr(pd, 0, PAGE, 0, buf_fd, access_flags);
		close(buf_fd);
	}
	if (!m.mr)
		give_up("MR, %s", kind);
	return m;
}

static void destroy(struct memory *m)
{
	if (ibv_dereg_mr(m->mr))
		give_up("ibv_dereg_mr");
	if (m->p)
		munmap(m->p, PAGE);
}

/* ---- traffic, in a process of its own */

static bool post(struct pair *pair, int end, struct ibv_mr *host,
		 struct memory *m)
{
	struct ibv_sge part = part_of(host, host->addr, PAGE);
	struct ibv_send_wr wr = {
		.sg_list = &part,
		.num_sge = 1,
		.opcode = end ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE,
		.wr.rdma = {
			.remote_addr = (uintptr_t)m->p,
			.rkey = m->mr->rkey,
		},
	}, *bad;

	return !ibv_post_send(pair->qp[end], &wr, &bad);
}

/* Says by a byte that it is going on. */
static void traffic(const char *kind, int ready)
{
	struct pair *pairs[LANES];
	struct memory m[LANES];
	unsigned long done = 0;
	struct ibv_mr *host;
	struct ibv_wc wc;
	int fd = open_node();

	pd = alloc_pd_on("rxe0");
	host = ibv_reg_mr(pd, host_memory(PAGE), PAGE, access_flags);
	if (!host)
		give_up("MR on host memory");
	for (int i = 0; i < LANES; i++) {
		pairs[i] = pair_create(pd, IBV_QPT_RC, false);
		m[i] = make(fd, kind);
		for (int end = 0; end < 2; end++)
			for (int n = 0; n < DEPTH; n++)
				post(pairs[i], end, host, &m[i]);
	}
	/* Until it is killed; when the memory is gone, on its dead MRs. */
	for (;;) {
		for (int i = 0; i < LANES; i++)
			for (int end = 0; end < 2; end++) {
				if (ibv_poll_cq(pairs[i]->cq[end], 1, &wc) != 1)
					continue;
				if (wc.status == IBV_WC_SUCCESS)
					post(pairs[i], end, host, &m[i]);
				if (++done == WARM && write(ready, "", 1) != 1)
					_exit(1);
			}
	}
}

static pid_t start_traffic(const char *kind)
{
	int ready[2];
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC))
		give_up("pipe");
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		traffic(kind, ready[1]);
	}
	close(ready[1]);
	if (read(ready[0], &(char){ 0 }, 1) != 1)
		give_up("traffic");
	close(ready[0]);
	return pid;
}

/* ---- */

static void measure(const char *kind, bool with_traffic, int count,
		    bool print)
{
	int unbind = open_driver("unbind"), bind = open_driver("bind");
	int fd = open_node();
	double start, end;
	pid_t pid = 0;

	for (int i = 0; i < count; i++)
		memories[i] = make(fd, kind);
	if (with_traffic)
		pid = start_traffic(kind);

	start = now();
	write_address(unbind);
	end = now();
	if (print)
		printf("revoke %s %s x%d %.0f\n", kind,
		       with_traffic ? "traffic" : "idle", count,
		       (end - start) * 1e9);
	fflush(stdout);

	if (pid) {
		kill(pid, SIGKILL);
		wait_for(pid);
	}
	for (int i = 0; i < count; i++)
		destroy(&memories[i]);
	close(fd);
	write_address(bind);
	close(unbind);
	close(bind);
}

int main(int argc, char **argv)
{
	static const int counts[] = { 0, 1, 10, 100, 1000, 10000 };

	if (argc < 3) {
		fprintf(stderr, "usage: bench_revoke FUNCTION KIND...\n");
		return EXIT_FAILURE;
	}
	function = argv[1];
	pd = alloc_pd_on("rxe0");
	for (int i = 2; i < argc; i++)
		for (int busy = 0; busy < 2; busy++) {
			/* caches of the allocator are filled by the first */
			measure(argv[i], busy, 10, false);
			for (size_t n = 0; n < sizeof(counts) / sizeof(*counts);
			     n++)
				for (int round = 0; round < 3; round++)
					measure(argv[i], busy, counts[n],
						true);
		}
	return EXIT_SUCCESS;
}
