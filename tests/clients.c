// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "clients.h"

#include <dirent.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

/* ---- clients */

int client_open(int number)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/peer_client%d", number);
	return open_device(path, O_RDWR);
}

void client_register(int fd, uint32_t flags)
{
	client_clear(fd);
	if (ioctl(fd, PEER_CLIENT_REGISTER, &flags))
		give_up("register a client with flags %#x", flags);
}

void client_unregister(int fd)
{
	if (ioctl(fd, PEER_CLIENT_UNREGISTER))
		give_up("unregister a client");
}

char *client_memory(int fd, size_t len)
{
	/* room for any alignment, given back where it is not used */
	size_t room = len + PEER_CLIENT_BIG_PAGE;
	char *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	char *aligned = (char *)(((uintptr_t)p + PEER_CLIENT_BIG_PAGE - 1) &
				 -(uintptr_t)PEER_CLIENT_BIG_PAGE);

	if (p == MAP_FAILED || munmap(p, room) ||
	    mmap(aligned, len, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != aligned)
		give_up("%zu bytes of a client's memory", len);
	return aligned;
}

struct peer_client_state client_state(int fd)
{
	struct peer_client_state state;

	if (ioctl(fd, PEER_CLIENT_STATE, &state))
		give_up("state of a client");
	return state;
}

void client_clear(int fd)
{
	if (ioctl(fd, PEER_CLIENT_CLEAR))
		give_up("clear a client");
}

static void behave(int fd, enum peer_client_step step, int error,
		   unsigned int ms)
{
	struct peer_client_behaviour behaviour = {
		.step = step,
		.error = error,
		.delay_ms = ms,
	};

	if (ioctl(fd, PEER_CLIENT_BEHAVE, &behaviour))
		give_up("behaviour of a client");
}

void client_fails(int fd, enum peer_client_step step, int error)
{
	behave(fd, step, error, 0);
}

void client_delays(int fd, enum peer_client_step step, unsigned int ms)
{
	behave(fd, step, 0, ms);
}

static int gate(int fd, enum peer_client_step step,
		enum peer_client_gate_action action)
{
	struct peer_client_gate gate = { .step = step, .action = action };

	return ioctl(fd, PEER_CLIENT_GATE, &gate);
}

void gate_close(int fd, enum peer_client_step step)
{
	if (gate(fd, step, PEER_CLIENT_GATE_CLOSE))
		give_up("close a gate");
}

void gate_open(int fd, enum peer_client_step step)
{
	if (gate(fd, step, PEER_CLIENT_GATE_OPEN))
		give_up("open a gate");
}

bool gate_wait(int fd, enum peer_client_step step)
{
	return !gate(fd, step, PEER_CLIENT_GATE_WAIT);
}

int client_invalidate(int fd)
{
	return ioctl(fd, PEER_CLIENT_INVALIDATE_ALL);
}

bool client_has_nothing(int fd)
{
	struct peer_client_state s = client_state(fd);
	const __u64 *done = s.succeeded;
	bool paired, idle;

	paired = done[PEER_CLIENT_ACQUIRE] == done[PEER_CLIENT_RELEASE] &&
		 done[PEER_CLIENT_GET_PAGES] == done[PEER_CLIENT_PUT_PAGES] +
						done[PEER_CLIENT_UNDO] &&
		 done[PEER_CLIENT_DMA_MAP] <= done[PEER_CLIENT_DMA_UNMAP] +
					      done[PEER_CLIENT_UNDO];
	idle = paired && !s.ranges && !s.held && !s.mapped && !s.blocks &&
	       !s.violations && !s.gates_timed_out;
	if (!idle) {
		printf("# %u ranges, %u with pages, %u mapped, %u blocks mapped, %u violations, %u gates timed out\n",
		       s.ranges, s.held, s.mapped, s.blocks, s.violations,
		       s.gates_timed_out);
		printf("# acquire %llu release %llu, get_pages %llu put_pages %llu undo %llu, dma_map %llu dma_unmap %llu\n",
		       done[PEER_CLIENT_ACQUIRE],
		       done[PEER_CLIENT_RELEASE],
		       done[PEER_CLIENT_GET_PAGES],
		       done[PEER_CLIENT_PUT_PAGES],
		       done[PEER_CLIENT_UNDO],
		       done[PEER_CLIENT_DMA_MAP],
		       done[PEER_CLIENT_DMA_UNMAP]);
	}
	return idle;
}

const struct peer_client_record *client_log(int fd, unsigned int *count)
{
	static struct peer_client_record records[PEER_CLIENT_RECORDS];
	struct peer_client_log log = { .records = (uintptr_t)records };

	if (ioctl(fd, PEER_CLIENT_LOG, &log))
		give_up("log of a client");
	*count = log.count;
	return records;
}

bool client_steps(int fd, const char *want)
{
	static const char *const names[PEER_CLIENT_STEPS] = {
		"acquire", "get_pages", "dma_map", "dma_unmap", "put_pages",
		"release", "invalidate", "invalidated", "undo",
	};
	const struct peer_client_record *r;
	char steps[1024] = "";
	size_t at = 0;
	unsigned int n;
	bool same;

	r = client_log(fd, &n);
	for (unsigned int i = 0; i < n && at < sizeof(steps); i++)
		at += snprintf(steps + at, sizeof(steps) - at, "%s%s%s",
			       i ? " " : "", names[r[i].step],
			       r[i].result < 0 ? "!" : "");
	same = !strcmp(steps, want);
	if (!same)
		printf("# it was: %s\n", steps);
	return same;
}

/* ---- RDMA devices */

static uint32_t driver_of(const char *name)
{
	return strncmp(name, "rxe", 3) ? RDMA_DRIVER_UNKNOWN : RDMA_DRIVER_RXE;
}

uint32_t flags_for(const char *name)
{
	return driver_of(name) == RDMA_DRIVER_RXE ? PEER_CLIENT_PCI : 0;
}

/* Up to nine attributes: all that the calls here have. */
union request {
	struct ib_uverbs_ioctl_hdr header;
	char room[sizeof(struct ib_uverbs_ioctl_hdr) +
		  9 * sizeof(struct ib_uverbs_attr)];
};

/* A request, with a value or a pointer for each attribute. */
static void add(union request *request, uint16_t id, const void *data,
		size_t len, bool out)
{
	struct ib_uverbs_attr *attr =
		&request->header.attrs[request->header.num_attrs++];

	attr->attr_id = id;
	attr->len = len;
	attr->flags = UVERBS_ATTR_F_MANDATORY;
	if (len && len <= sizeof(attr->data) && !out)
		memcpy(&attr->data, data, len);
	else
		attr->data = (uintptr_t)data;
}

static void add_handle(union request *request, uint16_t id, uint32_t handle)
{
	add(request, id, NULL, 0, false);
	request->header.attrs[request->header.num_attrs - 1].data = handle;
}

static int call(const struct hca *hca, union request *request,
		uint16_t object, uint16_t method)
{
	request->header.object_id = object;
	request->header.method_id = method;
	request->header.driver_id = hca->driver_id;
	request->header.length =
		sizeof(request->header) +
		request->header.num_attrs * sizeof(request->header.attrs[0]);
	return ioctl(hca->fd, RDMA_VERBS_IOCTL, request);
}

/* A command of the older interface, which MRs of addresses still have. */
static int command(const struct hca *hca, uint32_t number, const void *in,
		   size_t in_len, void *out, size_t out_len)
{
	union request request = {};
	uint64_t value = number;

	add(&request, UVERBS_ATTR_CORE_IN, in, in_len, false);
	if (out)
		add(&request, UVERBS_ATTR_CORE_OUT, out, out_len, true);
	add(&request, UVERBS_ATTR_WRITE_CMD, &value, sizeof(value), false);
	return call(hca, &request, UVERBS_OBJECT_DEVICE,
		    UVERBS_METHOD_INVOKE_WRITE);
}

/* The uverbs node of an RDMA device. */
static int open_uverbs(const char *name)
{
	const char *class = "/sys/class/infiniband_verbs";
	char path[512], ibdev[64];
	struct dirent *entry;
	DIR *dir = opendir(class);
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		FILE *file;

		snprintf(path, sizeof(path), "%s/%s/ibdev", class,
			 entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%63s", ibdev) == 1 && !strcmp(ibdev, name)) {
			snprintf(path, sizeof(path), "/dev/infiniband/%s",
				 entry->d_name);
			fd = open_device(path, O_RDWR);
		}
		fclose(file);
	}
	if (dir)
		closedir(dir);
	if (fd < 0) {
		errno = ENODEV;
		give_up("open %s", name);
	}
	return fd;
}

struct hca hca_open(const char *name)
{
	struct hca hca = {
		.fd = open_uverbs(name),
		.driver_id = driver_of(name),
	};
	struct ib_uverbs_alloc_pd_resp pd;
	struct ib_uverbs_alloc_pd in = {};
	union request request = {};

	if (call(&hca, &request, UVERBS_OBJECT_DEVICE,
		 UVERBS_METHOD_GET_CONTEXT))
		give_up("context on %s", name);
	if (command(&hca, IB_USER_VERBS_CMD_ALLOC_PD, &in, sizeof(in), &pd,
		    sizeof(pd)))
		give_up("protection domain on %s", name);
	hca.pd = pd.pd_handle;
	return hca;
}

int hca_reg(const struct hca *hca, char *p, size_t len, int access,
	    struct hca_mr *mr)
{
	return hca_reg_iova(hca, p, len, (uintptr_t)p, access, mr);
}

int hca_reg_dmabuf(const struct hca *hca, int fd, size_t offset, size_t len,
		   char *p, int access, struct hca_mr *mr)
{
	uint64_t from = offset, length = len, iova = (uintptr_t)p;
	uint32_t flags = access, lkey = 0, rkey = 0;
	union request request = {};

	add_handle(&request, UVERBS_ATTR_REG_DMABUF_MR_HANDLE, 0);
	add_handle(&request, UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE, hca->pd);
	add(&request, UVERBS_ATTR_REG_DMABUF_MR_OFFSET, &from, sizeof(from),
	    false);
	add(&request, UVERBS_ATTR_REG_DMABUF_MR_LENGTH, &length,
	    sizeof(length), false);
	add(&request, UVERBS_ATTR_REG_DMABUF_MR_IOVA, &iova, sizeof(iova),
	    false);
	add(&request, UVERBS_ATTR_REG_DMABUF_MR_FD, &fd, sizeof(fd), false);
	add(&request, UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS, &flags,
	    sizeof(flags), false);
	add(&request, UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY, &lkey, sizeof(lkey),
	    true);
	add(&request, UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY, &rkey, sizeof(rkey),
	    true);
	if (call(hca, &request, UVERBS_OBJECT_MR, UVERBS_METHOD_REG_DMABUF_MR))
		return -1;
	*mr = (struct hca_mr) {
		.handle = request.header.attrs[0].data,
		.key = lkey,
		.p = p,
		.len = len,
	};
	return 0;
}

int hca_reg_iova(const struct hca *hca, char *p, size_t len, uint64_t iova,
		 int access, struct hca_mr *mr)
{
	struct ib_uverbs_reg_mr in = {
		.start = (uintptr_t)p,
		.length = len,
		.hca_va = iova,
		.pd_handle = hca->pd,
		.access_flags = access,
	};
	struct ib_uverbs_reg_mr_resp out;

	if (command(hca, IB_USER_VERBS_CMD_REG_MR, &in, sizeof(in), &out,
		    sizeof(out)))
		return -1;
	*mr = (struct hca_mr) {
		.handle = out.mr_handle,
		.key = out.lkey,
		.p = p,
		.len = len,
	};
	return 0;
}

struct hca_mr hca_reg_or_give_up(const struct hca *hca, char *p, size_t len)
{
	struct hca_mr mr;

	if (hca_reg(hca, p, len, IBV_ACCESS_LOCAL_WRITE, &mr))
		give_up("MR of %zu bytes", len);
	return mr;
}

int hca_dereg(const struct hca *hca, const struct hca_mr *mr)
{
	struct ib_uverbs_dereg_mr in = { .mr_handle = mr->handle };

	return command(hca, IB_USER_VERBS_CMD_DEREG_MR, &in, sizeof(in), NULL,
		       0);
}

int hca_copy(const struct hca *hca, const struct hca_mr *from,
	     const char *from_at, const struct hca_mr *to, const char *to_at,
	     size_t len)
{
	uint64_t from_iova = (uintptr_t)from_at, to_iova = (uintptr_t)to_at;
	union request request = {};
	uint32_t length = len;

	add_handle(&request, EDU_HCA_ATTR_COPY_FROM, from->handle);
	add_handle(&request, EDU_HCA_ATTR_COPY_TO, to->handle);
	add(&request, EDU_HCA_ATTR_COPY_FROM_IOVA, &from_iova,
	    sizeof(from_iova), false);
	add(&request, EDU_HCA_ATTR_COPY_TO_IOVA, &to_iova, sizeof(to_iova),
	    false);
	add(&request, EDU_HCA_ATTR_COPY_LENGTH, &length, sizeof(length), false);
	return call(hca, &request, UVERBS_OBJECT_MR, EDU_HCA_METHOD_COPY);
}

int hca_query(const struct hca *hca, const struct hca_mr *mr, uint32_t index,
	      struct edu_hca_part *part)
{
	union request request = {};

	add_handle(&request, EDU_HCA_ATTR_QUERY_HANDLE, mr->handle);
	add(&request, EDU_HCA_ATTR_QUERY_INDEX, &index, sizeof(index), false);
	add(&request, EDU_HCA_ATTR_QUERY_PART, part, sizeof(*part), true);
	return call(hca, &request, UVERBS_OBJECT_MR, EDU_HCA_METHOD_QUERY);
}

/* ---- chance and effort */

uint32_t random_next(uint32_t *seed)
{
	return *seed = pattern_word(*seed, 1) >> 16;
}

bool soon(atomic_bool *what, double seconds)
{
	double limit = now() + seconds;

	while (!*what && now() < limit)
		usleep(1000);
	return *what;
}

bool long_run(void)
{
	return getenv("LAB_LONG");
}

unsigned int rounds(unsigned int quick, unsigned int debug, unsigned int loops)
{
	const char *kernel = getenv("LAB_KERNEL");

	if (kernel && !strcmp(kernel, "debug"))
		return long_run() ? 5 * debug : debug;
	return long_run() ? loops : quick;
}
