// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * dmabuf_import_churn DEV: threads whose importers attach to dma-bufs of DEV,
 * pin, map, vmap and let go of them, again and again, until SIGTERM. Meanwhile
 * DEV may come and go: they take the errors that go with it for an answer, but
 * nothing else.
 *
 * Runs as root, as a driver does.
 */
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "import.h"
#include "tap.h"
#include "util.h"

enum { SIZE = 64 << 10, THREADS = 4, IMPORTERS = 3 };

static const char *path;
static atomic_bool stop;
static atomic_ulong turns, losses, surprises;

/* A call gave 0, or failed as it may when the device goes. */
static bool did(int ret, const char *what, const int *allowed)
{
	if (ret >= 0)
		return true;
	losses++;
	while (*allowed && *allowed != errno)
		allowed++;
	if (!*allowed) {
		printf("# %s: %s\n", what, strerrorname_np(errno));
		surprises++;
	}
	return false;
}

static int alloc_now(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int buf_fd;

	if (!did(fd, "open", (int[]){ ENOENT, ENODEV, ENXIO, 0 })) {
		usleep(1000);
		return -1;
	}
	buf_fd = alloc_region(fd, SIZE, 0, O_RDWR | O_CLOEXEC);
	close(fd);
	did(buf_fd, "ALLOC", (int[]){ ENODEV, 0 });
	return buf_fd;
}

static void use(int buf_fd, unsigned int *random)
{
	/* Lets go inside the callback, in a worker, or some ms later. */
	static const int drop_after[] = { IMPORTER_DROP_INSIDE, 0, 5 };
	int choice = rand_r(random) % 3;
	bool virtual = rand_r(random) % 4 == 0;
	int importer = open_importer();

	if (!did(import_attach(importer, buf_fd,
			       virtual ? IMPORTER_VIRTUAL : IMPORTER_REVOCABLE,
			       drop_after[choice]),
		 "attach", (int[]){ ENODEV, 0 }))
		goto out;
	/* EOPNOTSUPP: this kernel grants no pins */
	if (did(ioctl(importer, IMPORTER_PIN), "pin",
		(int[]){ ENODEV, EOPNOTSUPP, 0 }))
		/* EINVAL: the pin has been dropped since */
		did(import_vmap(importer, NULL), "vmap",
		    (int[]){ ENODEV, EINVAL, 0 });
	if (!virtual &&
	    did(import_map(importer, IMPORTER_BIDIRECTIONAL), "map",
		(int[]){ ENODEV, 0 }))
		turns++;
	did(sync_buffer(buf_fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW),
	    "begin of CPU access", (int[]){ ENODEV, 0 });
	did(sync_buffer(buf_fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW),
	    "end of CPU access", (int[]){ ENODEV, 0 });
	usleep(rand_r(random) % 2000);
	/* otherwise close() has to */
	if (choice)
		did(ioctl(importer, IMPORTER_UNMAP), "unmap",
		    (int[]){ ENOTCONN, 0 });
out:
	close(importer);
}

static void *work(void *seed)
{
	unsigned int random = (uintptr_t)seed;

	while (!stop) {
		int buf_fd = alloc_now();

		if (buf_fd < 0)
			continue;
		for (int i = 0; i < IMPORTERS; i++)
			use(buf_fd, &random);
		close(buf_fd);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	sigset_t ends;
	int sig;

	if (argc != 2) {
		fprintf(stderr, "usage: dmabuf_import_churn DEV\n");
		return EXIT_FAILURE;
	}
	path = argv[1];

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, work, (void *)i))
			give_up("pthread_create");
	sigwait(&ends, &sig);
	stop = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);

	printf("# %lu mappings, %lu calls that the device's leaving ended\n",
	       turns, losses);
	ok(turns, "the memory was mapped");
	ok(!surprises, "nothing but the device's leaving was in the way");
	return done_testing();
}
