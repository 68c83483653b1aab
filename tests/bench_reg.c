// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * bench_reg DEVICE MAX KIND...: what it takes to register and deregister an
 * MR, by size up to MAX, by the number of MRs that there are, and in memory of
 * the kernel's.
 *
 * KIND
 *	host-4K, host-2M	ibv_reg_mr() on host memory, with pages of that
 *				size
 *	mapping			ibv_reg_mr() on a mapping of BAR memory
 *	peer, dmabuf		iopmem_reg_mr() on a dma-buf of BAR memory; which
 *				of its doors that is depends on the rdma-core
 *				that is loaded, and is checked
 *
 * For ./lab bench, as root, in a guest whose clock counts instructions. BAR
 * memory comes with IOPMEM_ALLOC_NOZERO, which leaves the file behind it
 * sparse; the price of zeroing is apart: the first registration of a fresh
 * mapping.
 */
#include <fcntl.h>
#include <infiniband/iopmem.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"
#include "verbs_pair.h"

enum { ROUNDS = 9, MANY = 10000 };

static const int access_flags = IBV_ACCESS_LOCAL_WRITE |
				IBV_ACCESS_REMOTE_WRITE |
				IBV_ACCESS_REMOTE_READ;

static struct ibv_pd *pd;

/* Memory of one kind: a mapping of it, or a dma-buf. */
struct memory {
	const char *kind;
	void *p;
	int buf_fd;
};

static struct ibv_mr *reg(struct memory *m, size_t len)
{
	struct ibv_mr *mr;

	if (m->p)
		mr = ibv_reg_mr(pd, m->p, len, access_flags);
	else
		mr = iopmem_reg_mr(pd, 0, len, 0, m->buf_fd, access_flags);
	if (!mr)
		give_up("registration of %zu bytes of %s", len, m->kind);
	return mr;
}

static void dereg(struct memory *m, struct ibv_mr *mr)
{
	if (m->p ? ibv_dereg_mr(mr) : iopmem_dereg_mr(mr))
		give_up("deregistration of %s", m->kind);
}

/* Prints "WHAT KIND LABEL reg dereg", in ns. */
static void measure_once(struct memory *m, const char *what, const char *label,
			 size_t len)
{
	double start, middle, end;
	struct ibv_mr *mr;

	start = now();
	mr = reg(m, len);
	middle = now();
	dereg(m, mr);
	end = now();
	printf("%s %s %s %.0f %.0f\n", what, m->kind, label,
	       (middle - start) * 1e9, (end - middle) * 1e9);
}

/*
 * With a neighbour. Numbers of MRs go round: the trees that the kernel keeps
 * them in would be built anew for an only one, and the higher its number the
 * more of that there is.
 */
static void measure(struct memory *m, const char *size)
{
	size_t len = parse_size(size);
	struct ibv_mr *neighbour = reg(m, 4096);

	dereg(m, reg(m, len));	/* the first finds or zeroes memory */
	for (int round = 0; round < ROUNDS; round++)
		measure_once(m, "warm", size, len);
	dereg(m, neighbour);
	fflush(stdout);
}

/* With so many MRs there already: "among KIND xN reg dereg". */
static void measure_among_others(struct memory *m)
{
	static struct ibv_mr *mrs[MANY];
	char label[16];
	int count = 0;

	for (int want = 1; want <= MANY; want *= 10) {
		for (; count < want; count++)
			mrs[count] = reg(m, 4096);
		snprintf(label, sizeof(label), "x%d", want);
		for (int round = 0; round < ROUNDS; round++)
			measure_once(m, "among", label, 4096);
	}
	while (count)
		dereg(m, mrs[--count]);
	fflush(stdout);
}

/* Bytes that the kernel has allocated for itself */
static long kernel_memory(void)
{
	long sum = 0, kib;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		give_up("/proc/meminfo");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Slab: %ld", &kib) == 1 ||
		    sscanf(line, "VmallocUsed: %ld", &kib) == 1)
			sum += kib << 10;
	fclose(f);
	return sum;
}

/* "bytes KIND SIZE n": of the kernel's memory, for an MR */
static void measure_memory(struct memory *m, const char *size, int count)
{
	size_t len = parse_size(size);
	struct ibv_mr *mrs[count];
	long before, after;

	/* caches of the allocator are filled by a first round */
	for (int round = 0; round < 2; round++) {
		before = kernel_memory();
		for (int i = 0; i < count; i++)
			mrs[i] = reg(m, len);
		after = kernel_memory();
		for (int i = 0; i < count; i++)
			dereg(m, mrs[i]);
	}
	printf("bytes %s %s %ld\n", m->kind, size,
	       after > before ? (after - before) / count : 0);
	fflush(stdout);
}

static void measure_host(const char *kind, int advice)
{
	/* as far as the guest's RAM goes */
	static const char *const sizes[] = { "4K", "64K", "2M", "64M", "1G" };
	struct memory m = { .kind = kind };
	const size_t max = 1 << 30;

	m.p = host_memory(max);
	if (madvise(m.p, max, advice))
		give_up("madvise");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		measure(&m, sizes[i]);
	measure_among_others(&m);
	measure_memory(&m, "4K", 1000);
	measure_memory(&m, "64M", 16);
	munmap(m.p, max);
}

/* "cold mapping SIZE reg dereg": on memory that has to be zeroed */
static void measure_zeroing(int fd)
{
	static const char *const sizes[] = { "2M", "64M", "1G" };
	struct memory m = { .kind = "mapping" };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		m.p = map_or_give_up(fd, parse_size(sizes[i]));
		measure_once(&m, "cold", sizes[i], parse_size(sizes[i]));
		munmap(m.p, parse_size(sizes[i]));
	}
}

/* The second door leaves a mapping of the dma-buf in the process. */
static bool is_mapped(struct memory *m)
{
	struct ibv_mr *mr = reg(m, 4096);
	FILE *f = fopen("/proc/self/maps", "re");
	bool found = false;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		found = found || strstr(line, "dmabuf");
	if (f)
		fclose(f);
	dereg(m, mr);
	return found;
}

static void measure_bar(int fd, const char *kind, size_t max)
{
	static const char *const sizes[] = { "4K", "64K", "2M", "64M", "1G",
					     "4G", "16G", "60G" };
	struct memory m = { .kind = kind };
	const char *largest = sizes[0];

	m.buf_fd = iopmem_alloc(fd, max, IOPMEM_ALLOC_NOZERO);
	if (m.buf_fd < 0)
		give_up("iopmem_alloc of %zu bytes", max);
	if (!strcmp(kind, "mapping"))
		m.p = map_or_give_up(m.buf_fd, max);
	else if (is_mapped(&m) != !strcmp(kind, "peer"))
		give_up("%s: the other door", kind);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		if (parse_size(sizes[i]) <= max) {
			largest = sizes[i];
			measure(&m, largest);
		}
	measure_among_others(&m);
	measure_memory(&m, "4K", 1000);
	measure_memory(&m, largest, 1000);
	if (m.p)
		munmap(m.p, max);
	close(m.buf_fd);
}

int main(int argc, char **argv)
{
	size_t max;
	int fd;

	if (argc < 4) {
		fprintf(stderr, "usage: bench_reg DEVICE MAX KIND...\n");
		return EXIT_FAILURE;
	}
	pd = alloc_pd_on("rxe0");
	fd = open_device(argv[1], O_RDWR | O_CLOEXEC);
	max = parse_size(argv[2]);
	for (int i = 3; i < argc; i++) {
		if (!strcmp(argv[i], "host-4K"))
			measure_host(argv[i], MADV_NOHUGEPAGE);
		else if (!strcmp(argv[i], "host-2M"))
			measure_host(argv[i], MADV_HUGEPAGE);
		else
			measure_bar(fd, argv[i], max);
		if (!strcmp(argv[i], "mapping"))
			measure_zeroing(fd);
	}
	return EXIT_SUCCESS;
}
