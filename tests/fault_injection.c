// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * fault_injection [-v] [-n N] [-m MODULES] [-d DOOR] PCI NVME [OPERATION...]:
 * each allocation and each copy from or to user space that an operation makes
 * fails once, the first, the second and so on until there is none left.
 *
 * PCI is the sysfs folder of a function bound to iopmem, NVME that of one with
 * peer-to-peer memory that is not attached. Without -d those operations are
 * run that need no door (doors.h), with it those that need this one; the
 * importer is used if it is loaded. MODULES is where iopmem.ko lies.
 *	-n	only the Nth
 *	-v	the kernel logs the path to each of them
 *
 * Whatever fails, the operation gives an errno that says so or does what it
 * should, nothing of it stays, and the next attempt works. Runs as root, on a
 * kernel with CONFIG_FAULT_INJECTION_STACKTRACE_FILTER.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clients.h"
#include "doors.h"
#include "import.h"
#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum {
	PAGE = 4096,
	SIZE = 4 * PAGE,
	RW = PROT_READ | PROT_WRITE,
	ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		 IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
	SEED = 5,
	PIECE = 2048,		/* what edu_hca copies at once */
	MAX_PROBLEMS = 3,	/* then an operation is given up */
	MAX_ERRNO = 134,
};

static const char *pci, *nvme, *modules, *door;
static struct ibv_pd *pd;
static struct peer peer;
static bool verbose;

/* edu_hca, a device that has DMA, if it is loaded, and host memory it knows. */
static struct hca hca;
static struct hca_mr host_mr;
static char *host;

/* What an operation works on; all of it is released afterwards. */
static struct {
	int fd;			/* /dev/iopmemN */
	int buf_fd;		/* a dma-buf */
	int data_fd;		/* bytes to copy */
	int foreign_fd;		/* p2pmem/allocate */
	int importer;
	double fences_since;	/* when it got the first of them */
	char *p;		/* mapping of fd, buf_fd or foreign_fd */
	char *moved;		/* where p is moved to */
	struct ibv_mr *mr;
	bool by_door;		/* mr is */
	struct hca_mr dma_mr;
	bool has_dma_mr;
} it;

/**
 * struct operation - what is to fail
 * @name: for results and for the command line
 * @before: provides what @run needs, without faults
 * @run: 0, or -1 and errno
 * @good: whether the state of things is as @run has left it: done or not
 * @after: what release() does not undo; may be NULL
 * @also: an errno beside ENOMEM and EFAULT, or 0
 * @step: every so many of them one fails, from a random one on; 0: each does
 * @cannot_fail: there is nothing in it that could
 * @spared: function of the kernel's whose allocations do not fail, as it warns
 *	of that; NULL: add_pages(), which does the memory map when a function
 *	is bound
 * @needs: what there has to be
 */
struct operation {
	const char *name;
	void (*before)(void);
	int (*run)(void);
	bool (*good)(bool done);
	void (*after)(void);
	int also;
	unsigned int step;
	bool cannot_fail;
	const char *spared;
	enum { NOTHING, DOOR, IMPORTER, DMA, NVME, MODULES } needs;
};

static void write_or_give_up(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		give_up("%s to %s", value, path);
	close(fd);
}

/* ---- the faults */

static int nth_fd;

/* Where the kernel's function is, and where the next one begins */
static void find_function(const char *name, unsigned long *start,
			  unsigned long *end)
{
	char line[512], type, symbol[256];
	unsigned long address;
	FILE *f = fopen("/proc/kallsyms", "r");

	*start = 0;
	*end = ULONG_MAX;
	if (!f)
		give_up("kallsyms");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx %c %255s", &address, &type, symbol) == 3 &&
		    !strcmp(symbol, name))
			*start = address;
	rewind(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx", &address) == 1 && address > *start &&
		    address < *end)
			*end = address;
	fclose(f);
	errno = ENOENT;
	if (!*start)
		give_up("%s in kallsyms", name);
}

static const char *const kinds[] = {
	"failslab", "fail_page_alloc", "fail_usercopy",
};

/* Allocations of this function of the kernel's do not fail. */
static void spare(const char *function)
{
	static const char *spared;
	unsigned long start, end;
	char path[128], text[32];

	if (spared && !strcmp(spared, function))
		return;
	spared = function;
	find_function(function, &start, &end);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/reject-start",
			 kinds[i]);
		snprintf(text, sizeof(text), "%#lx", start);
		write_or_give_up(path, text);
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/reject-end",
			 kinds[i]);
		snprintf(text, sizeof(text), "%#lx", end);
		write_or_give_up(path, text);
	}
}

static void configure_faults(void)
{
	static const struct { const char *name, *value; } settings[] = {
		/* Those that may sleep, of any order and zone, fail too. */
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/cache-filter", "N" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
	};
	char path[128];

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s",
			 settings[i].name);
		write_or_give_up(path, settings[i].value);
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/verbose",
			 kinds[i]);
		write_or_give_up(path, verbose ? "2" : "0");
	}
	/* Of this thread alone. */
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (nth_fd < 0)
		give_up("/proc/thread-self/fail-nth");
}

/* From here on, the nth attempt of this thread fails. */
static void arm(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(nth_fd, text, len, 0) != len)
		give_up("fail-nth");
}

/*
 * Whether one did fail since arm(). Reading the answer is a copy to user space
 * too: if that fails, or turning it off does, then nothing had before.
 */
static bool disarm(void)
{
	char text[16] = "";
	int error = errno;
	bool failed;

	failed = pread(nth_fd, text, sizeof(text) - 1, 0) > 0 &&
		 !atoi(text);
	while (pwrite(nth_fd, "0", 1, 0) != 1)
		if (errno != EFAULT)
			give_up("fail-nth");
	errno = error;
	return failed;
}

/* ---- what operations are made of */

static const char *node(const char *function)
{
	static char path[64];
	char folder[256];
	struct dirent *entry;
	DIR *dir;

	snprintf(folder, sizeof(folder), "%s/iopmem", function);
	dir = opendir(folder);
	path[0] = '\0';
	while (dir && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "iopmem", 6))
			snprintf(path, sizeof(path), "/dev/%.32s",
				 entry->d_name);
	if (dir)
		closedir(dir);
	return path[0] ? path : NULL;
}

static int open_node(const char *function)
{
	const char *path = node(function);

	if (!path) {
		errno = ENODEV;
		give_up("node of %s", function);
	}
	return open_device(path, O_RDWR);
}

static void nothing(void)
{
}

static void have_file(void)
{
	it.fd = open_node(pci);
}

static void have_mapping(void)
{
	have_file();
	it.p = map_or_give_up(it.fd, SIZE);
}

static void have_filled_mapping(void)
{
	have_mapping();
	fill(it.p, SIZE, SEED);
}

static void have_buffer(void)
{
	have_file();
	it.buf_fd = alloc_region(it.fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	if (it.buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
}

static void have_filled_buffer(void)
{
	have_buffer();
	it.p = map_or_give_up(it.buf_fd, SIZE);
	fill(it.p, SIZE, SEED);
}

static void have_foreign_mapping(void)
{
	char path[256];

	have_file();
	snprintf(path, sizeof(path), "%s/p2pmem/allocate", pci);
	it.foreign_fd = open_device(path, O_RDWR);
	it.p = map_or_give_up(it.foreign_fd, SIZE);
}

static void have_data(void)
{
	char bytes[SIZE];

	have_mapping();
	it.data_fd = memfd_create("data", MFD_CLOEXEC);
	fill(bytes, SIZE, SEED);
	if (it.data_fd < 0 || write(it.data_fd, bytes, SIZE) != SIZE)
		give_up("memfd");
}

/* Holds the pattern or, where nothing was written before, takes it. */
static bool mapping_works(void)
{
	fill(it.p, SIZE, SEED + 1);
	return filled(it.p, SIZE, SEED + 1);
}

/* Whatever the MR's address is, it begins with that of the mapping. */
static bool mr_reached(void)
{
	return !peer_write(&peer, it.p, it.mr->rkey, SIZE, SEED + 2) &&
	       peer_sees(&peer, it.p, it.mr->rkey, SIZE, SEED + 2);
}

static bool mr_works(void)
{
	return mr_reached() && filled(it.p, SIZE, SEED + 2);
}

static bool is_gone(void *p)
{
	return touch(p, false) == SIGBUS;
}

static void unmap(char *p)
{
	if (p && munmap(p, SIZE))
		give_up("munmap");
}

static void close_fd(int *fd)
{
	if (*fd >= 0 && close(*fd))
		give_up("close");
	*fd = -1;
}

static void release(void)
{
	int ret = 0;

	if (it.mr)
		ret = it.by_door ? door_dereg(it.mr) : ibv_dereg_mr(it.mr);
	if (ret) {
		errno = ret;
		give_up("deregistration without faults");
	}
	it.mr = NULL;
	it.by_door = false;
	if (it.has_dma_mr && hca_dereg(&hca, &it.dma_mr))
		give_up("deregistration on edu_hca without faults");
	it.has_dma_mr = false;
	unmap(it.p);
	unmap(it.moved);
	it.p = it.moved = NULL;
	close_fd(&it.importer);
	close_fd(&it.data_fd);
	close_fd(&it.foreign_fd);
	close_fd(&it.buf_fd);
	close_fd(&it.fd);
}

/* ---- files, mappings and dma-bufs */

/* Where it is must be known before. */
static char node_path[64];

static void have_node(void)
{
	snprintf(node_path, sizeof(node_path), "%s", node(pci));
}

static int run_open(void)
{
	it.fd = open(node_path, O_RDWR | O_CLOEXEC);
	return it.fd < 0 ? -1 : 0;
}

static bool good_open(bool done)
{
	return !done || device_free(it.fd);
}

static int run_info(void)
{
	struct iopmem_info info;

	return device_info(it.fd, &info);
}

static int run_alloc(void)
{
	it.buf_fd = alloc_region(it.fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	return it.buf_fd < 0 ? -1 : 0;
}

static bool good_alloc(bool done)
{
	if (!done)
		return true;
	it.p = map_or_give_up(it.buf_fd, SIZE);
	return all_zero(it.p, SIZE) && mapping_works();
}

static int run_mmap(void)
{
	it.p = map_shared(it.fd, SIZE, RW);
	return it.p ? 0 : -1;
}

static int run_mmap_buffer(void)
{
	it.p = map_shared(it.buf_fd, SIZE, RW);
	return it.p ? 0 : -1;
}

static bool good_mapping(bool done)
{
	return !done || (all_zero(it.p, SIZE) && mapping_works());
}

static void fill_with_pattern(void *p)
{
	fill(p, SIZE, SEED);
}

/* When a page fault finds no memory it is tried again. */
static int run_touch(void)
{
	errno = attempt(fill_with_pattern, it.p) ? EIO : 0;
	return errno ? -1 : 0;
}

static bool good_filled(bool done)
{
	return done ? filled(it.p, SIZE, SEED) : mapping_works();
}

/* Faults that the kernel takes on a user's behalf */
static int run_read_into(void)
{
	ssize_t n = pread(it.data_fd, it.p, SIZE, 0);

	if (n >= 0 && n < SIZE) {
		errno = EFAULT;
		return -1;
	}
	return n < 0 ? -1 : 0;
}

static int child_looks(void)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (!pid)
		_exit(!filled(it.p, SIZE, SEED));
	if (waitpid(pid, &status, 0) != pid || status) {
		errno = ECHILD;
		return -1;
	}
	return 0;
}

static bool good_as_it_was(bool done)
{
	(void)done;
	return filled(it.p, SIZE, SEED);
}

static int run_unmap(void)
{
	if (munmap(it.p, SIZE))
		return -1;
	it.p = NULL;
	return 0;
}

static bool good_unmap(bool done)
{
	return done || filled(it.p, SIZE, SEED);
}

static int run_unmap_part(void)
{
	return munmap(it.p + PAGE, PAGE);
}

static bool good_unmap_part(bool done)
{
	char page[PAGE];

	if (!done)
		return filled(it.p, SIZE, SEED);
	lay(page, PAGE, SEED, 2 * PAGE);
	return filled(it.p, PAGE, SEED) &&
	       !memcmp(it.p + 2 * PAGE, page, PAGE) &&
	       touch(it.p + PAGE, false) == SIGSEGV;
}

static int run_protect_part(void)
{
	return mprotect(it.p + PAGE, PAGE, PROT_READ);
}

static bool good_protect_part(bool done)
{
	return filled(it.p, SIZE, SEED) &&
	       touch(it.p + PAGE, true) == (done ? SIGSEGV : 0) &&
	       !touch(it.p + 2 * PAGE, true);
}

static void have_place_to_move(void)
{
	have_filled_mapping();
	it.moved = host_memory(SIZE);
}

static int run_move(void)
{
	void *p = mremap(it.p, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
			 it.moved);

	return p == it.moved ? 0 : -1;
}

static bool good_move(bool done)
{
	return filled(done ? it.moved : it.p, SIZE, SEED);
}

static int run_close_buffer(void)
{
	int fd = it.buf_fd;

	it.buf_fd = -1;
	return close(fd);
}

static int run_sync(void)
{
	enum { WRITE_END = 2 | 1 << 2 };

	return sync_buffer(it.buf_fd, WRITE_END);
}

/* ---- MRs */

static int run_reg(void)
{
	it.mr = ibv_reg_mr(pd, it.p, SIZE, ACCESS);
	return it.mr ? 0 : -1;
}

static int run_door(void)
{
	it.mr = door_reg(pd, 0, SIZE, (uintptr_t)it.p, it.buf_fd, ACCESS);
	it.by_door = true;
	return it.mr ? 0 : -1;
}

static void have_reg(void)
{
	have_mapping();
	if (run_reg())
		give_up("ibv_reg_mr");
}

static void have_foreign_reg(void)
{
	have_foreign_mapping();
	if (run_reg())
		give_up("ibv_reg_mr of a mapping of p2pmem/allocate");
}

static void have_door(void)
{
	have_filled_buffer();
	if (run_door())
		give_up("an MR by the door %s", door);
}

static bool good_reg(bool done)
{
	return done ? mr_works() : mapping_works();
}

static int run_dereg(void)
{
	errno = it.by_door ? door_dereg(it.mr) : ibv_dereg_mr(it.mr);
	if (errno)
		return -1;
	it.mr = NULL;
	return 0;
}

static bool good_dereg(bool done)
{
	return done ? mapping_works() : mr_works();
}

static int run_rereg(void)
{
	errno = ask_kernel_to_rereg(it.mr, IBV_REREG_MR_CHANGE_ACCESS, pd,
				    it.p, SIZE, IBV_ACCESS_LOCAL_WRITE |
						IBV_ACCESS_REMOTE_READ);
	return errno ? -1 : 0;
}

/* It may have been done: that the core cannot say so comes after that. */
static bool good_rereg(bool done)
{
	if (!done && mr_works())
		return true;
	fill(it.p, SIZE, SEED);
	return peer_sees(&peer, it.p, it.mr->rkey, SIZE, SEED) &&
	       peer_write(&peer, it.p, it.mr->rkey, SIZE, SEED + 1) ==
	       IBV_WC_REM_ACCESS_ERR &&
	       filled(it.p, SIZE, SEED);
}

/* ---- MRs of a device that has DMA */

static int run_reg_dma(void)
{
	it.has_dma_mr = !hca_reg(&hca, it.p, SIZE, IBV_ACCESS_LOCAL_WRITE,
				 &it.dma_mr);
	return it.has_dma_mr ? 0 : -1;
}

static int run_reg_dma_dmabuf(void)
{
	it.has_dma_mr = !hca_reg_dmabuf(&hca, it.buf_fd, 0, SIZE, it.p,
					IBV_ACCESS_LOCAL_WRITE, &it.dma_mr);
	return it.has_dma_mr ? 0 : -1;
}

static void have_reg_dma(void)
{
	have_mapping();
	if (run_reg_dma())
		give_up("an MR of edu_hca");
}

static bool dma_works(void)
{
	fill(host, PIECE, SEED + 3);
	return !hca_copy(&hca, &host_mr, host, &it.dma_mr, it.p, PIECE) &&
	       filled(it.p, PIECE, SEED + 3);
}

static bool good_reg_dma(bool done)
{
	return done ? dma_works() : mapping_works();
}

static int run_dereg_dma(void)
{
	if (hca_dereg(&hca, &it.dma_mr))
		return -1;
	it.has_dma_mr = false;
	return 0;
}

static bool good_dereg_dma(bool done)
{
	return done ? mapping_works() : dma_works();
}

/* ---- importers */

static void have_importer(void)
{
	have_filled_buffer();
	it.importer = open_importer();
}

static int attach_as(enum importer_kind kind)
{
	return import_attach(it.importer, it.buf_fd, kind, 0);
}

static int run_attach_device(void)
{
	return attach_as(IMPORTER_REVOCABLE);
}

static void have_device(void)
{
	have_importer();
	if (run_attach_device())
		give_up("IMPORTER_ATTACH");
}

static void have_virtual(void)
{
	have_importer();
	if (attach_as(IMPORTER_VIRTUAL) ||
	    ioctl(it.importer, IMPORTER_PIN))
		give_up("IMPORTER_ATTACH and IMPORTER_PIN");
}

static int run_pin(void)
{
	return ioctl(it.importer, IMPORTER_PIN);
}

static bool good_pin(bool done)
{
	return import_state(it.importer).pins == done;
}

static int run_map(void)
{
	return import_map(it.importer, IMPORTER_BIDIRECTIONAL);
}

static bool good_map(bool done)
{
	if (!done)
		return !import_state(it.importer).segments;
	return import_state(it.importer).segments == 1 &&
	       import_segment(it.importer, 0).length == SIZE;
}

static int run_vmap(void)
{
	return import_vmap(it.importer, NULL);
}

static bool good_vmap(bool done)
{
	char bytes[SIZE];

	if (!done)
		return filled(it.p, SIZE, SEED);
	if (import_read(it.importer, 0, bytes, SIZE) ||
	    !filled(bytes, SIZE, SEED))
		return false;
	fill(bytes, SIZE, SEED + 1);
	return !import_write(it.importer, 0, bytes, SIZE) &&
	       filled(it.p, SIZE, SEED + 1);
}

static void have_all_of_importer(void)
{
	have_device();
	if (run_pin() || run_map() || run_vmap())
		give_up("pin, map and vmap");
}

static int run_detach_importer(void)
{
	return ioctl(it.importer, IMPORTER_DETACH);
}

/* ---- the end of the memory, and its return */

static int write_value(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), error;
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, value, strlen(value));
	error = errno;
	close(fd);
	errno = error;
	return n < 0 ? -1 : 0;
}

static const char *address_of(const char *function)
{
	return strrchr(function, '/') + 1;
}

static int run_bind(void)
{
	return write_value("/sys/bus/pci/drivers/iopmem/bind",
			   address_of(pci));
}

static int run_unbind(void)
{
	return write_value("/sys/bus/pci/drivers/iopmem/unbind",
			   address_of(pci));
}

/* Which driver takes the function; "\n": whichever knows it */
static void override(const char *driver)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/driver_override", pci);
	write_or_give_up(path, driver);
}

/* A driver that was loaded without memory for its file bind works without it. */
static void must_bind(void)
{
	override("iopmem");
	if (!node(pci) &&
	    (write_value("/sys/bus/pci/drivers_probe", address_of(pci)) ||
	     !node(pci)))
		give_up("bind");
}

static void must_unbind(void)
{
	if (node(pci) && run_unbind())
		give_up("unbind");
}

static bool good_function(const char *function)
{
	int fd = open_node(function);
	void *p = map_or_give_up(fd, SIZE);
	bool good = all_zero(p, SIZE);

	munmap(p, SIZE);
	close(fd);
	return good;
}

static bool good_bind(bool done)
{
	return done ? good_function(pci) : !node(pci);
}

static bool good_unbind(bool done)
{
	if (!done)
		return mr_works();
	return !mr_reached() && is_gone(it.p) && !node(pci) &&
	       (it.importer < 0 || !import_state(it.importer).segments);
}

static bool good_unbind_dma(bool done)
{
	if (!done)
		return dma_works();
	return hca_copy(&hca, &host_mr, host, &it.dma_mr, it.p, PIECE) &&
	       is_gone(it.p) && !node(pci);
}

static void have_mr_and_importer(void)
{
	have_door();
	if (access("/dev/importer", F_OK))
		return;
	it.importer = open_importer();
	if (run_attach_device() || run_pin() || run_map())
		give_up("importer");
}

enum { FENCE_MS = 1000 };

/* Two, so that the revocation has to make one of them. It has so long for that. */
static void have_fences(void)
{
	have_device();
	it.fences_since = now();
	if (run_map() ||
	    ioctl(it.importer, IMPORTER_FENCE, &(uint32_t){ FENCE_MS }) ||
	    ioctl(it.importer, IMPORTER_FENCE, &(uint32_t){ FENCE_MS }))
		give_up("fences");
}

static bool good_unbind_fences(bool done)
{
	if (!done)
		return good_map(true) && filled(it.p, SIZE, SEED);
	/* jiffies are 4 ms each */
	return now() - it.fences_since > (FENCE_MS - 20) / 1e3 &&
	       is_gone(it.p) && !node(pci) &&
	       !import_state(it.importer).segments;
}

static int run_attach(void)
{
	return write_value("/sys/class/iopmem/attach", address_of(nvme));
}

static int run_detach(void)
{
	return write_value("/sys/class/iopmem/detach", address_of(nvme));
}

static void must_detach(void)
{
	if (node(nvme) && run_detach())
		give_up("detach");
}

static void have_attached(void)
{
	if (run_attach())
		give_up("attach");
	it.fd = open_node(nvme);
	it.p = map_or_give_up(it.fd, SIZE);
	fill(it.p, SIZE, SEED);
}

static bool good_attach(bool done)
{
	return done ? good_function(nvme) : !node(nvme);
}

static bool good_detach(bool done)
{
	return done ? is_gone(it.p) && !node(nvme) :
		      filled(it.p, SIZE, SEED);
}

static int module(const char *name, int *fd)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.ko", modules, name);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? -1 : 0;
}

static int load(const char *name)
{
	int fd, ret, error;

	if (module(name, &fd))
		return -1;
	ret = syscall(SYS_finit_module, fd, "", 0);
	error = errno;
	close(fd);
	errno = error;
	return ret;
}

static bool is_loaded(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	return !access(path, F_OK);
}

static void unload(const char *name)
{
	if (is_loaded(name) && syscall(SYS_delete_module, name, O_NONBLOCK))
		give_up("rmmod %s", name);
}

static void without_peer(void)
{
	unload("iopmem_peer");
}

static int run_load_peer(void)
{
	return load("iopmem_peer");
}

static bool good_load_peer(bool done)
{
	if (!done)
		return !is_loaded("iopmem_peer");
	have_mapping();
	return !run_reg() && mr_works();
}

/* What a bind allocates is another operation's matter: none comes of loading. */
static void without_modules(void)
{
	unload("iopmem_peer");
	unload("iopmem");
	override("\n");
}

static int run_load(void)
{
	return load("iopmem");
}

static bool good_load(bool done)
{
	if (!done)
		return !is_loaded("iopmem");
	must_bind();
	return good_function(pci);
}

static void load_all(void)
{
	if (!is_loaded("iopmem") && run_load())
		give_up("load iopmem");
	if (!is_loaded("iopmem_peer") && run_load_peer())
		give_up("load iopmem_peer");
	must_bind();
}

static const struct operation operations[] = {
	{ .name = "open", have_node, run_open, good_open },
	{ .name = "info", have_file, run_info, good_open },
	{ .name = "alloc", have_file, run_alloc, good_alloc },
	{ .name = "mmap", have_file, run_mmap, good_mapping },
	{ .name = "mmap-dmabuf", have_buffer, run_mmap_buffer, good_mapping },
	{ .name = "touch", have_mapping, run_touch, good_filled },
	{ .name = "read-into", have_data, run_read_into, good_filled },
	{ .name = "fork", have_filled_mapping, child_looks, good_as_it_was,
	  /* nearly a thousand, most of them of the process */
	  .step = 16 },
	{ .name = "munmap", have_filled_mapping, run_unmap, good_unmap },
	{ .name = "munmap-part", have_filled_mapping, run_unmap_part,
	  good_unmap_part },
	{ .name = "mprotect-part", have_filled_mapping, run_protect_part,
	  good_protect_part },
	{ .name = "mremap", have_place_to_move, run_move, good_move },
	{ .name = "sync", have_filled_buffer, run_sync, good_as_it_was },
	{ .name = "close-dmabuf", have_filled_buffer, run_close_buffer,
	  good_as_it_was, .cannot_fail = true },
	{ .name = "reg_mr", have_mapping, run_reg, good_reg },
	{ .name = "reg_mr-foreign", have_foreign_mapping, run_reg, good_reg },
	{ .name = "rereg_mr", have_reg, run_rereg, good_rereg },
	{ .name = "dereg_mr", have_reg, run_dereg, good_dereg },
	{ .name = "dereg_mr-foreign", have_foreign_reg, run_dereg, good_dereg },
	{ .name = "reg", have_filled_buffer, run_door, good_reg,
	  /* The library takes EFAULT to mean that no client is loaded. */
	  .also = EOPNOTSUPP, .needs = DOOR },
	{ .name = "dereg", have_door, run_dereg, good_dereg, .needs = DOOR },
	{ .name = "reg_mr-dma", have_mapping, run_reg_dma, good_reg_dma,
	  .needs = DMA },
	{ .name = "reg_mr-dma-dmabuf", have_filled_buffer, run_reg_dma_dmabuf,
	  good_reg_dma, .needs = DMA },
	{ .name = "dereg_mr-dma", have_reg_dma, run_dereg_dma, good_dereg_dma,
	  .needs = DMA },
	{ .name = "import-attach", have_importer, run_attach_device, good_as_it_was,
	  .needs = IMPORTER },
	{ .name = "import-pin", have_device, run_pin, good_pin,
	  .cannot_fail = true, .needs = IMPORTER },
	{ .name = "import-map", have_device, run_map, good_map, .needs = IMPORTER },
	{ .name = "import-vmap", have_virtual, run_vmap, good_vmap,
	  .needs = IMPORTER },
	{ .name = "import-detach", have_all_of_importer, run_detach_importer,
	  good_as_it_was, .cannot_fail = true, .needs = IMPORTER },
	{ .name = "unbind", have_reg, run_unbind, good_unbind, must_bind },
	{ .name = "unbind-foreign", have_foreign_reg, run_unbind, good_unbind,
	  must_bind },
	{ .name = "unbind-fences", have_fences, run_unbind, good_unbind_fences,
	  must_bind, .needs = IMPORTER },
	{ .name = "unbind-dma", have_reg_dma, run_unbind, good_unbind_dma,
	  must_bind, .needs = DMA },
	{ .name = "unbind-door", have_mr_and_importer, run_unbind, good_unbind,
	  must_bind, .needs = DOOR },
	{ .name = "bind", must_unbind, run_bind, good_bind, must_bind,
	  /* pcim_request_region() has no other errno */
	  .also = EBUSY },
	{ .name = "attach", nothing, run_attach, good_attach, must_detach,
	  .needs = NVME },
	{ .name = "detach", have_attached, run_detach, good_detach, must_detach,
	  .needs = NVME },
	{ .name = "load-peer", without_peer, run_load_peer, good_load_peer, load_all,
	  .needs = MODULES },
	{ .name = "load", without_modules, run_load, good_load, load_all,
	  /* without a folder for its drivers: module_add_driver() */
	  .also = EINVAL, .spared = "event_define_fields",
	  .needs = MODULES },
};

/* ---- the loop */

/* What there is when nothing is held. */
static struct holdings at_rest(void)
{
	int fd = open_node(pci);
	struct holdings h = holdings(pd->context, fd);

	close(fd);
	return h;
}

static bool all_is_free(void)
{
	int fd = open_node(pci), buf_fd;
	struct iopmem_info info;
	bool good;

	good = !device_info(fd, &info) && info.free == info.size;
	buf_fd = alloc_region(fd, info.size, IOPMEM_ALLOC_NOZERO, O_RDWR);
	good &= buf_fd >= 0;
	close_fd(&buf_fd);
	close(fd);
	return good;
}

static void undo(const struct operation *op)
{
	release();
	if (op->after)
		op->after();
}

struct tally {
	unsigned int faults;
	unsigned int unnoticed;
	unsigned int errnos[MAX_ERRNO];
	int problems;
};

__attribute__((format(printf, 4, 5)))
static void problem(const struct operation *op, unsigned int n,
		    struct tally *tally, const char *fmt, ...)
{
	va_list args;

	printf("# %s, fault %u: ", op->name, n);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	tally->problems++;
}

/* False when the operation has come to its end before the nth. */
static bool fail_nth(const struct operation *op, unsigned int n,
		     const struct holdings *rest, struct tally *tally)
{
	struct holdings left;
	bool failed;
	int ret;

	op->before();
	errno = 0;
	arm(n);
	ret = op->run();
	failed = disarm();

	if (failed && !ret) {
		tally->unnoticed++;
	} else if (failed && errno > 0 && errno < MAX_ERRNO) {
		tally->errnos[errno]++;
		if (errno != ENOMEM && errno != EFAULT && errno != op->also)
			problem(op, n, tally, "it gave %s",
				strerrorname_np(errno));
	} else if (ret) {
		problem(op, n, tally, "none was left, and it gave %s",
			strerrorname_np(errno));
	}
	tally->faults += failed;
	if (!op->good(!ret))
		problem(op, n, tally, "it %s, and things are not so",
			ret ? "failed" : "succeeded");
	undo(op);

	op->before();
	if (op->run())
		problem(op, n, tally, "the next attempt gave %s",
			strerrorname_np(errno));
	else if (!op->good(true))
		problem(op, n, tally, "the next attempt did not work");
	undo(op);

	left = at_rest();
	if (!same_holdings(rest, &left))
		problem(op, n, tally, "something stays");
	return failed;
}

static void describe(const struct tally *tally)
{
	printf("# %u faults:", tally->faults);
	for (int e = 1; e < MAX_ERRNO; e++)
		if (tally->errnos[e])
			printf(" %u %s,", tally->errnos[e],
			       strerrorname_np(e));
	printf(" %u made no difference\n", tally->unnoticed);
}

static void fail_each(const struct operation *op, unsigned int only)
{
	struct holdings rest;
	struct tally tally = {};
	double start = now();
	unsigned int step = op->step ?: 1;
	unsigned int first = only ?: 1 + random() % step, n;

	spare(op->spared ?: "add_pages");
	/* Once without, so that what comes up once has come. */
	op->before();
	errno = 0;
	if (op->run())
		give_up("%s without faults", op->name);
	if (!op->good(true))
		give_up("%s without faults does not work", op->name);
	undo(op);
	rest = at_rest();

	for (n = first; tally.problems < MAX_PROBLEMS; n += step)
		if (!fail_nth(op, n, &rest, &tally) || only)
			break;
	if (!all_is_free())
		problem(op, n, &tally, "not all of the memory is free");
	describe(&tally);
	printf("# %.0f s\n", now() - start);
	if (step > 1 && !only)
		printf("# number %u, and every %uth from there\n", first, step);
	ok(!tally.problems && !tally.faults == op->cannot_fail, "%s", op->name);
}

static bool wanted(const struct operation *op, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!strcmp(*names, op->name))
			return true;
	return false;
}

static const char *missing(const struct operation *op)
{
	switch (op->needs) {
	case IMPORTER:
		return access("/dev/importer", F_OK) ?
		       "the importer is not loaded" : NULL;
	case DMA:
		return hca.fd >= 0 ? NULL : "edu_hca is not loaded";
	case MODULES:
		return modules ? NULL : "MODULES is not given";
	default:
		return NULL;
	}
}

int main(int argc, char **argv)
{
	const struct operation *op, *end;
	static const char device[] = "/sys/class/infiniband/edu_hca0";
	unsigned int only = 0;
	int opt;

	while ((opt = getopt(argc, argv, "vn:m:d:")) != -1) {
		switch (opt) {
		case 'v':
			verbose = true;
			break;
		case 'n':
			only = atoi(optarg);
			break;
		case 'm':
			modules = optarg;
			break;
		case 'd':
			door = optarg;
			break;
		default:
			return EXIT_FAILURE;
		}
	}
	if (argc - optind < 2) {
		fprintf(stderr, "usage: fault_injection [-v] [-n N] [-m MODULES] [-d DOOR] PCI NVME [OPERATION...]\n");
		return EXIT_FAILURE;
	}
	pci = argv[optind++];
	nvme = argv[optind++];
	it.fd = it.buf_fd = it.data_fd = it.foreign_fd = it.importer = -1;
	if (door)
		door_choose(door);
	configure_faults();
	srandom(seed_of_run());
	hca.fd = -1;
	if (!access(device, F_OK)) {
		hca = hca_open(strrchr(device, '/') + 1);
		host = host_memory(PAGE);
		host_mr = hca_reg_or_give_up(&hca, host, PAGE);
	}
	pd = alloc_pd_on("rxe0");
	peer_init(&peer, pd);
	peer_pair(&peer);

	end = operations + sizeof(operations) / sizeof(operations[0]);
	for (op = operations; op < end; op++) {
		if (!!door != (op->needs == DOOR) ||
		    !wanted(op, argv + optind))
			continue;
		if (missing(op))
			skip(missing(op), "%s", op->name);
		else
			fail_each(op, only);
	}
	return done_testing();
}
