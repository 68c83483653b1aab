// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * holders PART FILE DEV ADDRESS [ARG...]: what FILE, iopmem/holders of debugfs,
 * says of those who hold memory of DEV, the node of the PCI function ADDRESS.
 *	kinds ALLOCATE	a line of each kind, with the right words; ALLOCATE is
 *			a p2pmem/allocate of the same function, or ""
 *	many N		N MRs are there once each, also when others go
 *	load		MRs, mappings and dma-bufs come and go while the file
 *			is read, until SIGTERM; DEV may come and go as well
 *	trace COMMAND	has an MR, a dma-buf and an MR on that while COMMAND
 *		runs
 *	waiting GONE	whom a removal waits for; GONE is the command
 * All but waiting need no privilege but to open the files.
 */
#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "import.h"
#include "tap.h"
#include "util.h"
#include "verbs.h"

enum {
	PAGE = 4096,
	ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
		 IBV_ACCESS_REMOTE_READ,
};

static const char *file, *path, *address;

/* ---- reading the file */

/**
 * struct line - one line of the file
 * @kind: its first word
 * @function: its second word, a PCI address
 * @words: all others, with a blank before and behind
 */
struct line {
	char kind[16];
	char function[16];
	char words[480];
};

struct lines {
	struct line *line;
	size_t count;
	bool bad;
};

/* All of the file at a time, read in pieces of @piece bytes. */
static char *read_file(int fd, size_t piece)
{
	size_t size = 1 << 16, len = 0;
	char *text = malloc(size);
	ssize_t n;

	if (!text || lseek(fd, 0, SEEK_SET))
		give_up("lseek of %s", file);
	while ((n = read(fd, text + len, piece)) > 0) {
		len += n;
		if (size - len <= piece)
			text = realloc(text, size *= 2);
		if (!text)
			give_up("realloc");
	}
	if (n < 0)
		give_up("read of %s", file);
	text[len] = '\0';
	return text;
}

static struct lines parse(char *text)
{
	struct lines all = {};
	char *next, *p;

	for (p = text; *p; p = next) {
		struct line *l;
		int words = 0;

		next = strchr(p, '\n');
		if (!next) {
			all.bad = true;
			break;
		}
		*next++ = '\0';
		if (all.count % 1024 == 0)
			all.line = realloc(all.line, (all.count + 1024) *
						     sizeof(*all.line));
		if (!all.line)
			give_up("realloc");
		l = &all.line[all.count++];
		if (sscanf(p, "%15s %15s%n", l->kind, l->function,
			   &words) != 2 || strlen(p + words) > 470)
			all.bad = true;
		snprintf(l->words, sizeof(l->words), "%.470s ", p + words);
	}
	free(text);
	return all;
}

static struct lines look(int fd)
{
	struct lines all = parse(read_file(fd, PAGE));

	if (all.bad)
		ok(false, "the file is made of lines");
	return all;
}

/* The value of a word, or -1; numbers only. */
static long long number(const struct line *l, const char *word)
{
	char key[32];
	const char *p;

	snprintf(key, sizeof(key), " %s=", word);
	p = strstr(l->words, key);
	return p ? strtoll(p + strlen(key), NULL, 0) : -1;
}

static bool says(const struct line *l, const char *word, const char *value)
{
	char key[128];

	snprintf(key, sizeof(key), " %s=%s ", word, value);
	return strstr(l->words, key);
}

/* The one line of a kind that is about DEV's function; NULL if it is not one */
static struct line *only(struct lines *all, const char *kind)
{
	struct line *found = NULL;
	int count = 0;

	for (size_t i = 0; i < all->count; i++) {
		struct line *l = &all->line[i];

		if (strcmp(l->kind, kind) || strcmp(l->function, address))
			continue;
		found = l;
		count++;
	}
	return count == 1 ? found : NULL;
}

static size_t how_many(struct lines *all, const char *kind)
{
	size_t count = 0;

	for (size_t i = 0; i < all->count; i++)
		count += !strcmp(all->line[i].kind, kind) &&
			 !strcmp(all->line[i].function, address);
	return count;
}

static void show(const char *why, const struct line *l)
{
	if (l)
		printf("# %s: %s %s%s\n", why, l->kind, l->function,
		       l->words);
	else
		printf("# %s: no such line, or several\n", why);
}

/* What all lines have but those of providers. */
static bool ours(const struct line *l, long long offset, long long length)
{
	return l && number(l, "offset") == offset &&
	       number(l, "length") == length &&
	       number(l, "pid") == getpid() && says(l, "comm", "holders");
}

/* ---- kinds */

/* rdma(8) knows an MR of that number, length and owner. */
static bool known_to_rdma(long long mrn, size_t length)
{
	char want[64], line[512];
	bool known = false;
	FILE *out = popen("rdma resource show mr", "r");

	while (out && fgets(line, sizeof(line), out)) {
		snprintf(want, sizeof(want), " mrn %lld ", mrn);
		if (!strstr(line, want))
			continue;
		snprintf(want, sizeof(want), " mrlen %zu ", length);
		known = strstr(line, want) && strstr(line, "dev rxe0");
		snprintf(want, sizeof(want), " pid %d ", getpid());
		known = known && strstr(line, want);
	}
	if (out)
		pclose(out);
	return known;
}

static bool is_mr(const struct line *l, struct ibv_mr *mr)
{
	return l && says(l, "state", "live") && says(l, "device", "rxe0") &&
	       number(l, "address") == (long long)(uintptr_t)mr->addr &&
	       number(l, "bytes") == (long long)mr->length &&
	       number(l, "mr") >= 0 &&
	       known_to_rdma(number(l, "mr"), mr->length);
}

static void check(bool good, const char *what, const struct line *l)
{
	if (!ok(good, "%s", what))
		show("it was", l);
}

static void nothing(int fd, const char *what)
{
	struct lines all = look(fd);
	struct line *l = only(&all, "provider");

	check(l && says(l, "state", "live") && !number(l, "allocated") &&
	      !number(l, "regions") && !number(l, "holders") &&
	      !how_many(&all, "region") && !how_many(&all, "mr") &&
	      !how_many(&all, "dma-buf") && !how_many(&all, "importer") &&
	      !how_many(&all, "pinned"), what, l);
	free(all.line);
}

/* Where the region is, which is for other programs to compare. */
static long long a_mapping(int fd, int dev, struct ibv_pd *pd)
{
	enum { LEN = 1 << 20, AT = 3 * PAGE + 100, BYTES = 2 * PAGE };
	char *p = map_or_give_up(dev, LEN);
	struct ibv_mr *mr;
	struct lines all;
	struct line *l;
	long long offset;
	int go[2];
	pid_t pid;
	char c;

	usleep(1100000);
	all = look(fd);
	l = only(&all, "region");
	offset = l ? number(l, "offset") : -1;
	check(ours(l, offset, LEN) && number(l, "bar") == 2 &&
	      number(l, "mappings") == 1 && number(l, "uid") == getuid() &&
	      number(l, "age") >= 1 && number(l, "age") < 60,
	      "a region", l);
	l = only(&all, "provider");
	check(l && number(l, "allocated") == LEN && number(l, "regions") == 1 &&
	      !number(l, "holders"), "it is counted", l);
	free(all.line);

	if (pipe(go))
		give_up("pipe");
	pid = fork();
	if (!pid)
		_exit(close(go[1]) || read(go[0], &c, 1));
	munmap(p + LEN / 2, LEN / 4);
	all = look(fd);
	l = only(&all, "region");
	check(l && number(l, "mappings") == 3,
	      "mappings: of a child, and two pieces", l);
	free(all.line);
	close(go[1]);
	close(go[0]);
	waitpid(pid, NULL, 0);

	mr = ibv_reg_mr(pd, p + AT, BYTES, ACCESS);
	if (!mr)
		give_up("ibv_reg_mr");
	all = look(fd);
	l = only(&all, "mr");
	check(ours(l, offset + 3 * PAGE, 3 * PAGE) && is_mr(l, mr),
	      "an MR on some of it", l);
	free(all.line);

	munmap(p, LEN / 2);
	munmap(p + LEN / 4 * 3, LEN / 4);
	all = look(fd);
	l = only(&all, "region");
	check(ours(l, offset, LEN) && !number(l, "mappings"),
	      "its memory after munmap()", l);
	l = only(&all, "mr");
	check(is_mr(l, mr), "the MR is still there", l);
	free(all.line);
	ibv_dereg_mr(mr);
	return offset;
}

static void a_dmabuf(int fd, int dev, struct ibv_pd *pd)
{
	enum { LEN = 64 * 1024 };
	int buf = alloc_region(dev, LEN, 0, O_RDWR | O_CLOEXEC);
	struct ibv_mr *mr;
	struct lines all;
	struct line *l;
	long long offset;

	if (buf < 0)
		give_up("IOPMEM_IOC_ALLOC");
	all = look(fd);
	l = only(&all, "region");
	offset = l ? number(l, "offset") : -1;
	check(ours(l, offset, LEN) && !number(l, "mappings"),
	      "the region of a dma-buf", l);
	l = only(&all, "dma-buf");
	check(ours(l, offset, LEN) && says(l, "state", "live") &&
	      !number(l, "kernel_mappings") && !how_many(&all, "importer"),
	      "a dma-buf without importers", l);
	free(all.line);

	mr = ibv_reg_dmabuf_mr(pd, 0, LEN, 0, buf, ACCESS);
	if (!mr && errno == EOPNOTSUPP) {
		skip("this rdma-core has none", "an MR on a dma-buf");
	} else {
		if (!mr)
			give_up("ibv_reg_dmabuf_mr");
		all = look(fd);
		l = only(&all, "dma-buf");
		check(l && number(l, "kernel_mappings") == 1,
		      "rxe maps it for the kernel", l);
		l = only(&all, "importer");
		check(ours(l, offset, LEN) && says(l, "device", "rxe0") &&
		      number(l, "pins") == 1 && !number(l, "mappings"),
		      "rxe is an importer", l);
		free(all.line);
		ibv_dereg_mr(mr);
		all = look(fd);
		l = only(&all, "dma-buf");
		check(l && !number(l, "kernel_mappings") &&
		      !how_many(&all, "importer"), "and then it is not", l);
		free(all.line);
	}
	close(buf);
}

static void pinned_pages(int fd, const char *allocate, struct ibv_pd *pd)
{
	enum { LEN = 32 * 1024 };
	int foreign = open_device(allocate, O_RDWR);
	char *p = map_or_give_up(foreign, LEN);
	struct ibv_mr *mr = ibv_reg_mr(pd, p, LEN, ACCESS);
	struct lines all;
	struct line *l;

	if (!mr)
		give_up("ibv_reg_mr on %s", allocate);
	all = look(fd);
	l = only(&all, "pinned");
	check(l && ours(l, number(l, "offset"), LEN) &&
	      number(l, "bar") == 2 && is_mr(l, mr),
	      "an MR on pages of p2pmem/allocate", l);
	ok(!how_many(&all, "region") && !how_many(&all, "mr"),
	   "is not one on a region");
	free(all.line);
	ibv_dereg_mr(mr);
	munmap(p, LEN);
	close(foreign);
}

static void odd_name(int fd, int dev)
{
	struct lines all;
	struct line *l;
	void *p;

	prctl(PR_SET_NAME, "a b\nc=1\\\td");
	p = map_or_give_up(dev, PAGE);
	all = look(fd);
	l = only(&all, "region");
	check(l && says(l, "comm", "a\\040b\\012c=1\\134\\011d"),
	      "the name of a process makes no words and lines", l);
	free(all.line);
	prctl(PR_SET_NAME, "holders");
	munmap(p, PAGE);
}

static void kinds(int fd, const char *allocate)
{
	struct ibv_pd *pd = alloc_pd_on("rxe0");
	int dev = open_device(path, O_RDWR);

	nothing(fd, "nothing is held");
	a_mapping(fd, dev, pd);
	nothing(fd, "and nothing again");
	a_dmabuf(fd, dev, pd);
	nothing(fd, "and nothing again");
	if (*allocate)
		pinned_pages(fd, allocate, pd);
	odd_name(fd, dev);
	nothing(fd, "nothing is left");
}

/* ---- many */

/* How often each MR is there: all of those with a number n where n & mask */
static bool once_each(struct lines *all, struct ibv_mr **mrs, int n,
		      bool odd_only)
{
	char *seen = calloc(n, 1);
	bool good = seen && !all->bad;

	for (size_t i = 0; i < all->count; i++) {
		struct line *l = &all->line[i];
		long long index;

		if (strcmp(l->kind, "mr"))
			continue;
		index = (number(l, "address") -
			 (long long)(uintptr_t)mrs[1]->addr) / PAGE + 1;
		if (index < 0 || index >= n || seen[index]++)
			good = false;
	}
	for (int i = 0; i < n; i++)
		if ((!odd_only || i % 2) && !seen[i])
			good = false;
	free(seen);
	return good;
}

struct leaver {
	struct ibv_mr **mrs;
	int n;
};

static void *deregister_even(void *arg)
{
	struct leaver *leaver = arg;

	for (int i = 0; i < leaver->n; i += 2)
		ibv_dereg_mr(leaver->mrs[i]);
	return NULL;
}

static void many(int fd, int n)
{
	struct ibv_pd *pd = alloc_pd_on("rxe0");
	struct ibv_mr **mrs = calloc(n, sizeof(*mrs));
	struct leaver leaver = { mrs, n };
	char *p = map_or_give_up(open_device(path, O_RDWR), (size_t)n * PAGE);
	pthread_t thread;
	struct lines all;
	double before;
	int i;

	for (i = 0; i < n; i++) {
		mrs[i] = ibv_reg_mr(pd, p + (size_t)i * PAGE, PAGE, ACCESS);
		if (!mrs[i])
			break;
	}
	if (!ok(i == n, "%d MRs", n))
		return;
	before = now();
	all = parse(read_file(fd, 1 << 16));
	printf("# read in %.3f s\n", now() - before);
	ok(how_many(&all, "mr") == (size_t)n && once_each(&all, mrs, n, false),
	   "each is there once");
	free(all.line);
	all = parse(read_file(fd, 100));
	ok(how_many(&all, "mr") == (size_t)n && once_each(&all, mrs, n, false),
	   "also in pieces of 100 bytes");
	free(all.line);

	if (pthread_create(&thread, NULL, deregister_even, &leaver))
		give_up("pthread_create");
	all = parse(read_file(fd, 1000));
	ok(once_each(&all, mrs, n, true),
	   "those that stay are there once while others go");
	free(all.line);
	pthread_join(thread, NULL);
	all = parse(read_file(fd, 1 << 16));
	ok(how_many(&all, "mr") == (size_t)n / 2 &&
	   once_each(&all, mrs, n, true), "then only they are there");
	free(all.line);
	for (i = 1; i < n; i += 2)
		ibv_dereg_mr(mrs[i]);
	munmap(p, (size_t)n * PAGE);
	nothing(fd, "nothing is left");
}

/* ---- load */

static atomic_bool stop;
static atomic_ulong turns, readings, mrs_read, bad_readings, surprises;
static struct ibv_pd *load_pd;

static void *load_mrs(void *unused)
{
	enum { MRS = 8 };

	(void)unused;
	while (!stop) {
		int dev = open(path, O_RDWR | O_CLOEXEC);
		char *p = dev < 0 ? NULL :
			  map_shared(dev, MRS * PAGE, PROT_READ | PROT_WRITE);
		struct ibv_mr *mr[MRS];

		for (int i = 0; p && i < MRS; i++) {
			mr[i] = ibv_reg_mr(load_pd, p + i * PAGE, PAGE,
					   ACCESS);
			if (!mr[i] && errno != ENODEV && errno != EFAULT) {
				printf("# ibv_reg_mr: %s\n", strerror(errno));
				surprises++;
			}
		}
		for (int i = 0; p && i < MRS; i++)
			if (mr[i])
				turns += !ibv_dereg_mr(mr[i]);
		if (p)
			munmap(p, MRS * PAGE);
		else
			usleep(1000);
		if (dev >= 0)
			close(dev);
	}
	return NULL;
}

static void *load_dmabufs(void *unused)
{
	(void)unused;
	while (!stop) {
		int dev = open(path, O_RDWR | O_CLOEXEC);
		int buf = dev < 0 ? -1 : alloc_region(dev, PAGE, 0,
						      O_RDWR | O_CLOEXEC);
		struct ibv_mr *mr;

		if (buf >= 0) {
			mr = ibv_reg_dmabuf_mr(load_pd, 0, PAGE, 0, buf,
					       ACCESS);
			if (mr)
				turns += !ibv_dereg_mr(mr);
			close(buf);
		} else {
			usleep(1000);
		}
		if (dev >= 0)
			close(dev);
	}
	return NULL;
}

static bool sound(const struct lines *all)
{
	static const char *const known[] = {
		"provider", "region", "mr", "dma-buf", "importer", "pinned",
	};
	bool good = !all->bad;

	for (size_t i = 0; i < all->count && good; i++) {
		const struct line *l = &all->line[i];
		size_t k = 0;

		while (k < 6 && strcmp(known[k], l->kind))
			k++;
		good = k < 6 && !strcmp(l->function, address) &&
		       number(l, k ? "length" : "holders") >= 0;
		if (!good)
			show("bad", l);
	}
	return good;
}

static void *load_reader(void *arg)
{
	int fd = *(int *)arg;

	while (!stop) {
		struct lines all = parse(read_file(fd, 512));

		readings++;
		mrs_read += how_many(&all, "mr");
		if (!sound(&all))
			bad_readings++;
		free(all.line);
	}
	return NULL;
}

static void load(int *fds)
{
	void *(*work[])(void *) = {
		load_mrs, load_mrs, load_dmabufs, load_reader, load_reader,
	};
	enum { WORKERS = sizeof(work) / sizeof(work[0]) };
	pthread_t threads[WORKERS];
	sigset_t ends;
	int sig;

	load_pd = alloc_pd_on("rxe0");
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	for (int i = 0; i < WORKERS; i++)
		if (pthread_create(&threads[i], NULL, work[i],
				   &fds[i == WORKERS - 1]))
			give_up("pthread_create");
	sigwait(&ends, &sig);
	stop = true;
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	printf("# %lu MRs, %lu readings, MRs seen in them: %lu\n", turns, readings,
	       mrs_read);
	ok(turns && readings, "MRs came and went while the file was read");
	ok(mrs_read, "and were seen in it");
	ok(!bad_readings, "every line was sound");
	ok(!surprises, "nothing but the device's leaving was in the way");
}

/* ---- trace */

static void trace(const char *command)
{
	struct ibv_pd *pd = alloc_pd_on("rxe0");
	int dev = open_device(path, O_RDWR);
	char *p = map_or_give_up(dev, PAGE);
	struct ibv_mr *mr = ibv_reg_mr(pd, p, PAGE, ACCESS);
	int buf = alloc_region(dev, PAGE, 0, O_RDWR | O_CLOEXEC);
	struct ibv_mr *buf_mr = ibv_reg_dmabuf_mr(pd, 0, PAGE, 0, buf, ACCESS);

	ok(mr && buf_mr && !system(command) && !ibv_dereg_mr(mr) &&
	   !ibv_dereg_mr(buf_mr), "%s", command);
	close(buf);
	munmap(p, PAGE);
}

/* ---- waiting */

/* Until there is a provider in that state; the lines then */
static struct lines wait_for_state(int fd, const char *state)
{
	double end = now() + 30;

	for (;;) {
		struct lines all = parse(read_file(fd, PAGE));

		for (size_t i = 0; i < all.count; i++)
			if (!strcmp(all.line[i].kind, "provider") &&
			    !strcmp(all.line[i].function, address) &&
			    says(&all.line[i], "state", state))
				return all;
		if (now() > end)
			return all;
		free(all.line);
		usleep(10000);
	}
}

/* Whether an importer of a dma-buf of that length keeps some of it */
static bool holds(const struct lines *all, size_t len)
{
	for (size_t i = 0; i < all->count; i++)
		if (!strcmp(all->line[i].kind, "importer") &&
		    number(&all->line[i], "length") == (long long)len &&
		    (number(&all->line[i], "pins") ||
		     number(&all->line[i], "mappings")))
			return true;
	return false;
}

/* An importer that a child attaches, whose memory is ours; *pid is the child's. */
static int attached_by_child(int buf, pid_t *pid)
{
	int importer = open_importer();

	*pid = fork();
	if (!*pid)
		_exit(!!import_attach(importer, buf, IMPORTER_REVOCABLE,
				      IMPORTER_KEEP));
	if (*pid < 0 || wait_for(*pid))
		give_up("IMPORTER_ATTACH");
	return importer;
}

static void waiting(int fd, const char *gone)
{
	enum { LEN = 64 * 1024 };
	int dev = open_device(path, O_RDWR);
	int buf = alloc_region(dev, LEN, 0, O_RDWR | O_CLOEXEC);
	int quick_buf = alloc_region(dev, 2 * LEN, 0, O_RDWR | O_CLOEXEC);
	struct ibv_pd *pd = alloc_pd_on("rxe0");
	char *p = map_or_give_up(dev, PAGE);
	struct ibv_mr *mr = ibv_reg_mr(pd, p, PAGE, ACCESS);
	struct lines all;
	struct line *l;
	int slow, quick;
	double before, took;
	pid_t pid, child;

	if (buf < 0 || quick_buf < 0 || !mr)
		give_up("memory");
	quick = importer_of(quick_buf, IMPORTER_REVOCABLE,
			    IMPORTER_DROP_INSIDE);
	slow = attached_by_child(buf, &child);
	if (import_map(quick, IMPORTER_BIDIRECTIONAL) ||
	    ioctl(slow, IMPORTER_PIN) || ioctl(slow, IMPORTER_PIN) ||
	    import_map(slow, IMPORTER_TO_DEVICE))
		give_up("importers");

	all = look(fd);
	ok(how_many(&all, "importer") == 2 && how_many(&all, "dma-buf") == 2 &&
	   how_many(&all, "mr") == 1, "before: two importers and an MR");
	free(all.line);

	pid = fork();
	if (!pid) {
		execl("/bin/sh", "sh", "-c", gone, NULL);
		_exit(127);
	}
	free(wait_for_state(fd, "revoking").line);
	/* All are told before one is waited for, and that takes no time. */
	for (int i = 0;; i++) {
		usleep(100000);
		before = now();
		all = look(fd);
		took = now() - before;
		if (i == 300 || (!how_many(&all, "mr") && !holds(&all, 2 * LEN)))
			break;
		free(all.line);
	}
	ok(took < 10, "the file can be read while a removal waits");
	l = only(&all, "provider");
	check(l && says(l, "state", "revoking"), "the provider", l);
	ok(!how_many(&all, "mr"), "the MR is not waited for");
	l = NULL;
	for (size_t i = 0; i < all.count; i++)
		if (!strcmp(all.line[i].kind, "dma-buf") &&
		    says(&all.line[i], "state", "revoking"))
			l = &all.line[i];
	check(l && number(l, "length") == LEN && number(l, "pid") == getpid(),
	      "the dma-buf that is waited for", l);
	l = NULL;
	for (size_t i = 0; i < all.count; i++)
		if (!strcmp(all.line[i].kind, "importer") &&
		    number(&all.line[i], "length") == LEN)
			l = &all.line[i];
	check(l && number(l, "pins") == 2 && number(l, "mappings") == 1 &&
	      number(l, "pid") == child && says(l, "comm", "holders") &&
	      strstr(l->words, " device=0000:"),
	      "its importer, by who attached it", l);
	ok(!holds(&all, 2 * LEN), "no other holds anything");
	free(all.line);
	ok(!waitpid(pid, NULL, WNOHANG), "the removal still waits");

	close(slow);
	ok(!wait_for(pid), "it ends when that importer lets go");
	all = parse(read_file(fd, PAGE));
	l = only(&all, "provider");
	check(l && says(l, "state", "revoked") && !how_many(&all, "region") &&
	      !how_many(&all, "mr") && !how_many(&all, "dma-buf"),
	      "then nothing is held", l);
	l = only(&all, "importer");
	check(l && number(l, "length") == 2 * LEN && !number(l, "pins") &&
	      !number(l, "mappings"),
	      "who is still attached has nothing of it", l);
	free(all.line);
	ibv_dereg_mr(mr);
	munmap(p, PAGE);
	close(quick);
	close(buf);
	close(quick_buf);
	close(dev);
	all = parse(read_file(fd, PAGE));
	ok(!how_many(&all, "provider"), "nobody knows the device any more");
	free(all.line);
}

int main(int argc, char **argv)
{
	int fds[2];

	if (argc < 5 || argc > 6) {
		fprintf(stderr, "usage: holders PART FILE DEV ADDRESS [ARG]\n");
		return EXIT_FAILURE;
	}
	file = argv[2];
	path = argv[3];
	address = argv[4];
	fds[0] = open_device(file, O_RDONLY);
	fds[1] = open_device(file, O_RDONLY);
	if (!strcmp(argv[1], "kinds") && argc == 6)
		kinds(fds[0], argv[5]);
	else if (!strcmp(argv[1], "many") && argc == 6)
		many(fds[0], atoi(argv[5]));
	else if (!strcmp(argv[1], "load"))
		load(fds);
	else if (!strcmp(argv[1], "trace") && argc == 6)
		trace(argv[5]);
	else if (!strcmp(argv[1], "waiting") && argc == 6)
		waiting(fds[0], argv[5]);
	else
		return EXIT_FAILURE;
	return done_testing();
}
