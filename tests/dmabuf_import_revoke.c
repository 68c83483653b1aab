// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * dmabuf_import_revoke [-pu] DEV SECONDS GONE BACK: what importers of dma-bufs
 * see when the memory is taken away.
 *
 * GONE is the shell command that takes DEV away, within SECONDS; it has to
 * wait for the last importer to let go. BACK brings it back and prints its
 * node.
 *	-p	the kernel lets an exporter tell which importers can be revoked
 *	-u	only importers that do not promise to let go; they have been
 *		allowed to hold the memory
 *
 * Runs as root, as a driver does.
 */
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "import.h"
#include "tap.h"
#include "util.h"

enum {
	PAGE = 4096,
	SIZE = 4 * PAGE,
	LEN = 1024,		/* of DMA */
	LATE = 1500,		/* ms by which one importer lets go too late */
};

static bool revocable_known;

struct user {
	const char *name;
	enum importer_kind kind;
	int drop_after;
	bool pin, map, vmap;
	int of;			/* the user whose dma-buf it shares, or -1 */
	int buf_fd;
	int importer;
};

enum { INSIDE, WORKER, UNPINNED, LATE_ONE, SHARING, IDLE, VIRTUAL, USERS };

static struct user users[USERS] = {
	[INSIDE] = {
		.name = "one that lets go inside the callback",
		.drop_after = IMPORTER_DROP_INSIDE,
		.pin = true, .map = true, .of = -1,
	},
	[WORKER] = {
		.name = "one that lets go in a worker",
		.pin = true, .map = true, .vmap = true, .of = -1,
	},
	[UNPINNED] = {
		.name = "one without a pin",
		.map = true, .of = -1,
	},
	[LATE_ONE] = {
		.name = "one that is late",
		.drop_after = LATE,
		.pin = true, .map = true, .of = -1,
	},
	[SHARING] = {
		.name = "another of the same dma-buf",
		.drop_after = IMPORTER_DROP_INSIDE,
		.pin = true, .map = true, .of = LATE_ONE,
	},
	[IDLE] = {
		.name = "one that has only attached",
		.of = -1,
	},
	[VIRTUAL] = {
		.name = "a device without DMA",
		.kind = IMPORTER_VIRTUAL,
		.drop_after = IMPORTER_DROP_INSIDE,
		.pin = true, .vmap = true, .of = -1,
	},
};

static int alloc_or_give_up(int fd)
{
	int buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);

	if (buf_fd < 0)
		give_up("IOPMEM_IOC_ALLOC");
	return buf_fd;
}

static void start_using(struct user *u, int fd)
{
	bool good;

	u->buf_fd = u->of < 0 ? alloc_or_give_up(fd) :
				fcntl(users[u->of].buf_fd, F_DUPFD_CLOEXEC, 0);
	u->importer = importer_of(u->buf_fd, u->kind, u->drop_after);
	/* Nobody may pin, nor vmap, where the kernel knows too little. */
	u->pin &= revocable_known;
	u->vmap &= revocable_known;
	good = (!u->pin || !ioctl(u->importer, IMPORTER_PIN)) &&
	       (!u->map || !import_map(u->importer, IMPORTER_BIDIRECTIONAL)) &&
	       (!u->vmap || !import_vmap(u->importer, NULL));
	ok(good, "%s gets what it asks for", u->name);
}

/* ---- DMA while the exporter waits */

struct last_dma {
	int buf_fd;
	int to_host;
	char *host;
	bool arrived;
	double not_told_at;
	unsigned int told;	/* users, when the DMA had ended */
};

static void prepare_last_dma(struct last_dma *d, int buf_fd)
{
	int host_fd = alloc_host_buffer(PAGE);
	void *p = map_or_give_up(buf_fd, SIZE);

	fill(p, SIZE, 41);
	munmap(p, SIZE);
	d->host = map_or_give_up(host_fd, PAGE);
	d->to_host = importer_of(host_fd, IMPORTER_REVOCABLE,
				 IMPORTER_DROP_INSIDE);
	if (import_map(d->to_host, IMPORTER_BIDIRECTIONAL))
		give_up("host buffer");
	close(host_fd);
	d->arrived = false;
}

/* As soon as the late importer has been told. */
static void *late_dma(void *arg)
{
	int importer = users[LATE_ONE].importer;
	struct last_dma *d = arg;
	double asked = now();

	/* not before: however late we notice, it had not been told then */
	do {
		d->not_told_at = asked;
		usleep(10000);
		asked = now();
	} while (!import_state(importer).moves);
	d->arrived = !import_copy(importer, 0, d->to_host, 0, LEN) &&
		     filled(d->host, LEN, 41);
	d->told = 0;
	for (int i = 0; i < USERS; i++)
		d->told += import_state(users[i].importer).moves;
	return NULL;
}

/* ---- afterwards */

/* A call failed with this errno, or it is said which one did not. */
static bool refused(int ret, int error, const char *what)
{
	if (ret < 0 && errno == error)
		return true;
	printf("# %s: %s, not %s\n", what,
	       ret < 0 ? strerrorname_np(errno) : "success",
	       strerrorname_np(error));
	return false;
}

static void dead(const struct user *u)
{
	struct importer_state s = import_state(u->importer);
	int other = open_importer();
	bool good;

	if (!ok(s.moves == 1 && !s.pins && !s.segments && !s.vmapped,
		"%s was told once, and has let go", u->name))
		printf("# told %u times; it has %u pins, %u segments, %u vmaps\n",
		       s.moves, s.pins, s.segments, s.vmapped);

	good = refused(import_map(u->importer, IMPORTER_TO_DEVICE), ENODEV,
		       "map");
	good &= refused(ioctl(u->importer, IMPORTER_PIN), ENODEV, "pin");
	good &= refused(import_vmap(u->importer, NULL), ENODEV, "vmap");
	good &= refused(import_dma(u->importer, 0, LEN, IMPORTER_TO_DEVICE),
			ENOTCONN, "DMA");
	ok(good, "it gets nothing any more");

	good = refused(import_attach(other, u->buf_fd, u->kind, u->drop_after),
		       ENODEV, "attach");
	good &= refused(import_attach(other, u->buf_fd, IMPORTER_STATIC,
				      IMPORTER_KEEP), ENODEV,
			"attach of a static importer");
	good &= refused(sync_buffer(u->buf_fd, DMA_BUF_SYNC_START |
				    DMA_BUF_SYNC_RW), ENODEV,
			"begin of CPU access");
	good &= refused(sync_buffer(u->buf_fd, DMA_BUF_SYNC_END |
				    DMA_BUF_SYNC_RW), ENODEV,
			"end of CPU access");
	ok(good, "nor does anybody else from its dma-buf");
	close(other);
}

/* Runs BACK. The node's descriptor, or -1. */
static int bring_back(const char *command)
{
	FILE *pipe = popen(command, "re");
	char node[64] = "";
	bool printed = pipe && fscanf(pipe, "%63s", node) == 1;

	if (!ok(pipe && !pclose(pipe) && printed, "it comes back, as %s",
		node))
		return -1;
	return open_device(node, O_RDWR);
}

static void works(int fd, struct last_dma *d)
{
	int buf_fd = alloc_or_give_up(fd);
	int importer = importer_of(buf_fd, IMPORTER_REVOCABLE,
				   IMPORTER_DROP_INSIDE);
	void *p = map_or_give_up(buf_fd, SIZE);

	fill(p, SIZE, 42);
	ok(!import_map(importer, IMPORTER_TO_DEVICE) &&
	   !import_copy(importer, 0, d->to_host, 0, LEN) &&
	   filled(d->host, LEN, 42), "a new dma-buf works");
	munmap(p, SIZE);
	close(importer);
	close(buf_fd);
}

static void offered_again(const char *command, uint64_t whole,
			  struct last_dma *d)
{
	int fd = bring_back(command);

	bool good = true;

	if (fd < 0)
		return;
	ok(device_free(fd) == whole,
	   "all of it is free, while dead dma-bufs remain");
	works(fd, d);
	for (int i = 0; i < USERS; i++) {
		good &= import_state(users[i].importer).moves == 1;
		good &= refused(import_map(users[i].importer,
					   IMPORTER_TO_DEVICE), ENODEV, "map");
		/* half of them with the attachment, half without */
		if (i % 2)
			close(users[i].buf_fd);
		close(users[i].importer);
		if (i % 2 == 0)
			close(users[i].buf_fd);
	}
	ok(good, "the dead ones stay dead, and are told nothing more");
	ok(device_free(fd) == whole, "their end takes no memory with it");
	close(fd);
}

static void revocation(int fd, const char *gone, const char *limit,
		       const char *back)
{
	uint64_t whole = device_free(fd);
	struct last_dma d;
	double start, end;
	pthread_t thread;
	int status;

	for (int i = 0; i < USERS; i++)
		start_using(&users[i], fd);
	prepare_last_dma(&d, users[LATE_ONE].buf_fd);
	if (pthread_create(&thread, NULL, late_dma, &d))
		give_up("pthread_create");

	start = now();
	status = system(gone);
	end = now();
	if (!ok(!status, "%s", gone))
		return;
	pthread_join(thread, NULL);
	/* a jiffy and more may be missing */
	ok(end - d.not_told_at >= LATE / 1e3 - 0.05, "it waits for %s",
	   users[LATE_ONE].name);
	ok(end - start < atof(limit), "but not for %s s", limit);
	printf("# it took %.1f s, %.1f of them after the call of move_notify()\n",
	       end - start, end - d.not_told_at);
	ok(d.arrived, "the memory was there until then: DMA from it");
	if (!ok(d.told == USERS, "all others have been told meanwhile"))
		printf("# %u of %d\n", d.told, USERS);

	for (int i = 0; i < USERS; i++)
		dead(&users[i]);
	offered_again(back, whole, &d);
	munmap(d.host, PAGE);
	close(d.to_host);
}

/* ---- importers that were allowed to hold the memory without a promise */

static pid_t start(const char *command)
{
	pid_t pid = fork();

	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	return pid;
}

/* Its exit status; -1 if it does not end within the limit. */
static int ends_within(pid_t pid, double limit)
{
	double end = now() + limit;
	int status;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (now() > end)
			return -1;
		usleep(10000);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool told_within(int importer, double limit)
{
	double end = now() + limit;

	while (!import_state(importer).moves) {
		if (now() > end)
			return false;
		usleep(10000);
	}
	return true;
}

static void holding(int fd, enum importer_kind kind, const char *name,
		    const char *gone, const char *limit)
{
	int buf_fd = alloc_or_give_up(fd);
	int importer = open_importer();
	int other_fd = alloc_or_give_up(fd);
	int other = importer_of(other_fd, IMPORTER_REVOCABLE,
				IMPORTER_DROP_INSIDE);
	struct importer_state s;
	double start_of_close;
	pid_t pid;

	/* The fence is told of, and not waited for any more once it is closed. */
	if (import_map(other, IMPORTER_BIDIRECTIONAL) ||
	    ioctl(other, IMPORTER_FENCE, &(uint32_t){ 2000 }))
		give_up("mapping and fence");
	ok(!import_attach(importer, buf_fd, kind, IMPORTER_KEEP),
	   "attach of %s", name);
	if (kind != IMPORTER_STATIC)
		ok(!ioctl(importer, IMPORTER_PIN), "its pin");
	ok(!import_map(importer, IMPORTER_BIDIRECTIONAL), "its mapping");

	pid = start(gone);
	ok(told_within(other, atof(limit)),
	   "%s: an importer of another dma-buf is told", gone);
	ok(ends_within(pid, 1) == -1 && !kill(pid, 0), "it waits for %s",
	   name);
	start_of_close = now();
	close(other);
	close(other_fd);
	ok(now() - start_of_close < 10, "the other dma-buf can be closed");
	s = import_state(importer);
	ok(s.segments == 1, "%s keeps its mapping", name);
	ok(s.moves == (kind == IMPORTER_REVOCABLE), "%s",
	   kind == IMPORTER_REVOCABLE ? "though it was told" :
	   "and nobody has told it");
	ok(!import_dma(importer, 0, LEN, IMPORTER_TO_DEVICE),
	   "the memory is still there: DMA from it");
	ok(!ioctl(importer, IMPORTER_DETACH), "it lets go");
	ok(!ends_within(pid, atof(limit)), "then that ends");
	close(importer);
	close(buf_fd);
}

static void without_a_promise(const char *dev, const char *gone,
			      const char *limit, const char *back)
{
	int fd = open_device(dev, O_RDWR);
	uint64_t whole = device_free(fd);

	holding(fd, IMPORTER_STATIC, "a static importer", gone, limit);
	close(fd);
	fd = bring_back(back);
	holding(fd, IMPORTER_REVOCABLE, "an importer that does not obey",
		gone, limit);
	close(fd);
	fd = bring_back(back);
	if (revocable_known) {
		holding(fd, IMPORTER_DEAF, "an importer without move_notify()",
			gone, limit);
		close(fd);
		fd = bring_back(back);
	}
	ok(device_free(fd) == whole, "all is free again");
	close(fd);
}

/* ---- fences */

/* As a user may, for ever, by DMA_BUF_IOCTL_IMPORT_SYNC_FILE */
static void *add_fences(void *arg)
{
	int importer = *(int *)arg;

	while (!import_state(importer).moves)
		usleep(1000);
	/* so many that there has to be more room for them */
	for (int i = 0; i < 100; i++)
		if (ioctl(importer, IMPORTER_FENCE, &(uint32_t){ 0 }))
			give_up("IMPORTER_FENCE");
	return NULL;
}

/*
 * An importer has let go. Of the fences those count that were there by then.
 * Returns the device that came back.
 */
static int fences(int fd, const char *gone, const char *limit, const char *back)
{
	int buf_fd = alloc_or_give_up(fd);
	int importer = importer_of(buf_fd, IMPORTER_REVOCABLE,
				   IMPORTER_DROP_INSIDE);
	double start_time, took;
	pthread_t thread;
	int status;
	pid_t pid;

	if (import_map(importer, IMPORTER_BIDIRECTIONAL))
		give_up("importer");
	if (pthread_create(&thread, NULL, add_fences, &importer))
		give_up("pthread_create");
	start_time = now();
	if (ioctl(importer, IMPORTER_FENCE, &(uint32_t){ LATE }))
		give_up("IMPORTER_FENCE");
	pid = start(gone);
	status = ends_within(pid, atof(limit));
	took = now() - start_time;
	pthread_join(thread, NULL);
	ok(!status, "it does not wait for fences that come later");
	ok(took >= LATE / 1e3 - 0.05, "but for one that was there");
	printf("# it took %.1f s\n", took);
	close(importer);
	close(buf_fd);
	if (status)
		wait_for(pid);
	close(fd);
	return bring_back(back);
}

int main(int argc, char **argv)
{
	bool unrevocable = false;
	int opt, fd;

	while ((opt = getopt(argc, argv, "+pu")) != -1) {
		switch (opt) {
		case 'p':
			revocable_known = true;
			break;
		case 'u':
			unrevocable = true;
			break;
		default:
			return EXIT_FAILURE;
		}
	}
	argv += optind;
	if (argc - optind != 4) {
		fprintf(stderr, "usage: dmabuf_import_revoke [-pu] DEV SECONDS GONE BACK\n");
		return EXIT_FAILURE;
	}
	if (unrevocable) {
		without_a_promise(argv[0], argv[2], argv[1], argv[3]);
		return done_testing();
	}

	fd = open_device(argv[0], O_RDWR);
	fd = fences(fd, argv[2], argv[1], argv[3]);
	revocation(fd, argv[2], argv[1], argv[3]);
	close(fd);
	return done_testing();
}
