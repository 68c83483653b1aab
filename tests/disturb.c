// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * disturb SEED BOUND ATTACHED: takes memory away and brings it back, in every
 * way that sysfs has, until SIGTERM. BOUND is the sysfs folder of a PCI
 * function for iopmem to be bound to, ATTACHED that of an NVMe with memory.
 *
 * For the time when fuzz runs; as root. What is refused is refused. At the end
 * both have their nodes again, open to group users.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"
#include "util.h"

#define DRIVERS		"/sys/bus/pci/drivers"
#define PARAMETERS	"/sys/module/iopmem/parameters"

enum { USERS = 100, SECONDS_TO_RETURN = 60 };

static const char *bound, *attached;
static uint64_t seed;
static unsigned long drawn;
static volatile sig_atomic_t told_to_stop;

static unsigned long below(unsigned long n)
{
	return (pattern_word(seed, drawn++) >> 11) % n;
}

static void nap(unsigned int ms)
{
	usleep(below(ms) * 1000);
}

static bool set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, value, strlen(value)) >= 0;

	if (fd >= 0)
		close(fd);
	return good;
}

static void set_number(const char *path, int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	set(path, text);
}

static const char *address(const char *function)
{
	return strrchr(function, '/') + 1;
}

/* Lets users open the function's node. False if it has none. */
static bool let_users_in(const char *function)
{
	struct dirent *entry;
	char path[512];
	bool is = false;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/iopmem", function);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "iopmem", 6))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		is = !chown(path, -1, USERS) && !chmod(path, 0660);
	}
	if (dir)
		closedir(dir);
	return is;
}

static void unbind(const char *function)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/driver/unbind", function);
	set(path, address(function));
}

static void bind_it(void)
{
	set(DRIVERS "/iopmem/bind", address(bound));
	let_users_in(bound);
}

static void attach(void)
{
	set("/sys/class/iopmem/attach", address(attached));
	let_users_in(attached);
}

static void detach(void)
{
	set("/sys/class/iopmem/detach", address(attached));
}

static void reset(void)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/reset", bound);
	set(path, "1");
}

/* Of what is not there, not ours, or ours already */
static void ask_for_nonsense(void)
{
	static const char *const files[] = {
		"/sys/class/iopmem/attach", "/sys/class/iopmem/detach",
		DRIVERS "/iopmem/bind", DRIVERS "/iopmem/unbind",
	};
	char text[32] = "";

	for (int i = 0; i < 4; i++)
		set(files[i], address(below(2) ? attached : bound));
	snprintf(text, sizeof(text), "0000:%02lx:%02lx.%lx", below(256),
		 below(40), below(10));
	set(files[below(4)], text);
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		text[i] = "0123456789abcdef:.\n x"[below(21)];
	set(files[below(4)], text);
}

static void disturb(void)
{
	switch (below(12)) {
	case 0:
	case 1:
	case 2:
		unbind(bound);
		nap(30);
		bind_it();
		break;
	case 3:
	case 4:
		detach();
		nap(30);
		attach();
		break;
	case 5:
		unbind(attached);
		set(DRIVERS "/nvme/bind", address(attached));
		attach();
		break;
	case 6:
		reset();
		break;
	case 7:
		set_number(PARAMETERS "/bar", (int)below(9) - 2);
		unbind(bound);
		bind_it();
		set_number(PARAMETERS "/bar", -1);
		break;
	case 8:
		set_number(PARAMETERS "/pin_unrevocable", below(2));
		nap(50);
		set_number(PARAMETERS "/pin_unrevocable", 0);
		break;
	case 9:
		ask_for_nonsense();
		break;
	default:
		bind_it();
		attach();
	}
}

static void restore(void)
{
	double limit = now() + SECONDS_TO_RETURN;

	set_number(PARAMETERS "/bar", -1);
	set_number(PARAMETERS "/pin_unrevocable", 0);
	bind_it();
	set(DRIVERS "/nvme/bind", address(attached));
	/* The nvme driver offers the memory only after a while. */
	while (attach(), !let_users_in(attached) && now() < limit)
		usleep(100000);
}

static void on_sigterm(int sig)
{
	(void)sig;
	told_to_stop = 1;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: disturb SEED BOUND ATTACHED\n");
		return EXIT_FAILURE;
	}
	seed = strtoul(argv[1], NULL, 0);
	bound = argv[2];
	attached = argv[3];
	signal(SIGTERM, on_sigterm);
	while (!told_to_stop) {
		nap(200);
		disturb();
	}
	restore();
	return let_users_in(bound) && let_users_in(attached) ? EXIT_SUCCESS :
							       EXIT_FAILURE;
}
