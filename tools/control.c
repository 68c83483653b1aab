// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * iopmem bind, attach and release: what iopmem offers, through sysfs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "tool.h"

static const char pci[] = "/sys/bus/pci";
static const char parameters[] = "/sys/module/iopmem/parameters";

/* 0 or an errno */
static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = errno;
	close(fd);
	return ret;
}

static int write_attribute(const char *address, const char *file,
			   const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/devices/%s/%s", pci, address, file);
	return write_text(path, text);
}

/* The driver's name, "" if there is none */
static void driver_of(const char *address, char name[NAME_SIZE])
{
	char path[PATH_MAX], link[PATH_MAX];
	ssize_t len;

	name[0] = '\0';
	snprintf(path, sizeof(path), "%s/devices/%s/driver", pci, address);
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 0)
		return;
	link[len] = '\0';
	snprintf(name, NAME_SIZE, "%s", sysfs_name(link));
}

static int needs_module(void)
{
	if (sysfs_has_module("", "iopmem"))
		return EXIT_OK;
	return fail("the module iopmem is not loaded: modprobe iopmem");
}

static int needs_function(const char *address)
{
	char path[PATH_MAX];

	if (!sysfs_is_pci_address(address))
		return fail("%s is no PCI address such as 0000:03:00.0",
			    address);
	if (sysfs_pci_path("", address, path))
		return fail("there is no PCI function %s", address);
	return EXIT_OK;
}

static int print_result(const char *address, const char *done)
{
	struct provider provider;

	if (!provider_named("", address, &provider) || !provider.node[0])
		return fail("%s: not %s; the kernel log says why", address,
			    done);
	printf("/dev/%s: %s, %llu bytes, %s\n", provider.node, address,
	       provider.size, done);
	return EXIT_OK;
}

static int probe(const char *address)
{
	char path[PATH_MAX];
	int ret;

	snprintf(path, sizeof(path), "%s/drivers_probe", pci);
	ret = write_text(path, address);
	return ret ? fail("%s: %s", address, strerror(ret)) : EXIT_OK;
}

/* A parameter of the module that a bind goes by */
struct parameter {
	const char *name;	/* of the option, too */
	const char *value;	/* NULL: as it is */
	char path[PATH_MAX];
	char before[16];
};

static int set_parameter(struct parameter *p)
{
	FILE *f;
	int ret;

	if (!p->value)
		return EXIT_OK;

	snprintf(p->path, sizeof(p->path), "%s/%s", parameters, p->name);
	f = fopen(p->path, "re");
	if (!f)
		return fail("--%s: %s: %s", p->name, p->path, strerror(errno));
	ret = fgets(p->before, sizeof(p->before), f) ? 0 : EIO;
	fclose(f);
	if (!ret)
		ret = write_text(p->path, p->value);
	return ret ? fail("--%s %s: %s", p->name, p->value, strerror(ret)) :
		     EXIT_OK;
}

static int restore_parameter(const struct parameter *p)
{
	int ret;

	if (!p->value)
		return EXIT_OK;
	ret = write_text(p->path, p->before);
	return ret ? fail("%s is %s now, and was %s%s", p->path, p->value,
			  p->before, strerror(ret)) : EXIT_OK;
}

static int probe_with(const char *address, struct parameter *bar,
		      struct parameter *cache)
{
	int ret;

	ret = set_parameter(bar);
	if (ret)
		return ret;
	ret = set_parameter(cache);
	if (!ret) {
		ret = probe(address);
		if (restore_parameter(cache))
			ret = EXIT_FAIL;
	}
	if (restore_parameter(bar))
		ret = EXIT_FAIL;
	return ret;
}

/*
 * Parameters are for all functions that are bound from now on: put them back, and
 * let nobody else who binds by this command come between.
 */
static int probe_alone(const char *address, struct parameter *bar,
		       struct parameter *cache)
{
	int fd = open(parameters, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret;

	if (fd < 0 || flock(fd, LOCK_EX))
		ret = fail("%s: %s", parameters, strerror(errno));
	else
		ret = probe_with(address, bar, cache);
	if (fd >= 0)
		close(fd);
	return ret;
}

int cmd_bind(int argc, char **argv)
{
	static const struct option options[] = {
		{ "bar", required_argument, NULL, 'b' },
		{ "cache", required_argument, NULL, 'c' },
		{ 0 }
	};
	struct parameter bar = { .name = "bar" }, cache = { .name = "cache" };
	char driver[NAME_SIZE];
	const char *address;
	int c, ret;

	while ((c = getopt_long(argc, argv, "b:c:", options, NULL)) != -1) {
		switch (c) {
		case 'b':
			bar.value = optarg;
			break;
		case 'c':
			cache.value = optarg;
			break;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind != argc - 1)
		return EXIT_USAGE;
	if (bar.value && (strlen(bar.value) != 1 || *bar.value < '0' ||
			  *bar.value > '5')) {
		fail("--bar: 0 to 5, not %s", bar.value);
		return EXIT_USAGE;
	}
	if (cache.value && strcmp(cache.value, "uc") &&
	    strcmp(cache.value, "wc")) {
		fail("--cache: uc or wc, not %s", cache.value);
		return EXIT_USAGE;
	}

	address = argv[optind];
	if (needs_function(address) || needs_module())
		return EXIT_FAIL;
	driver_of(address, driver);
	if (!strcmp(driver, "iopmem"))
		return bar.value || cache.value ?
		       fail("%s is bound already: release it first", address) :
		       print_result(address, "bound");
	if (driver[0])
		return fail("%s has the driver %s: unbind that first, or see attach",
			    address, driver);
	ret = write_attribute(address, "driver_override", "iopmem");
	if (ret)
		return fail("%s: %s", address, strerror(ret));
	ret = probe_alone(address, &bar, &cache);
	if (!ret)
		ret = print_result(address, "bound");
	/* so that other drivers may have it */
	if (ret)
		write_attribute(address, "driver_override", "\n");
	return ret;
}

static const char *attach_reason(int error)
{
	switch (error) {
	case ENODEV:
		return "it has no driver that offers peer-to-peer memory";
	case EEXIST:
		return "it is bound or attached already";
	case EPERM:
		return "its driver keeps the memory to itself";
	case ENOMEM:
		return "all of the memory is in use";
	default:
		return strerror(error);
	}
}

int cmd_attach(int argc, char **argv)
{
	int ret;

	if (argc != 2 || argv[1][0] == '-')
		return EXIT_USAGE;
	if (needs_function(argv[1]) || needs_module())
		return EXIT_FAIL;
	ret = write_text("/sys/class/iopmem/attach", argv[1]);
	if (ret)
		return fail("%s: %s", argv[1],
			    ret == EACCES ? strerror(ret) : attach_reason(ret));
	return print_result(argv[1], "attached");
}

static int unbind(const char *address)
{
	char path[PATH_MAX];
	int ret;

	snprintf(path, sizeof(path), "%s/drivers/iopmem/unbind", pci);
	ret = write_text(path, address);
	if (!ret)
		write_attribute(address, "driver_override", "\n");
	return ret;
}

int cmd_release(int argc, char **argv)
{
	struct provider provider;
	int ret;

	if (argc != 2 || argv[1][0] == '-')
		return EXIT_USAGE;
	if (!provider_named("", argv[1], &provider) || !provider.node[0])
		return fail("%s is neither bound nor attached", argv[1]);
	ret = provider.attached ?
	      write_text("/sys/class/iopmem/detach", provider.address) :
	      unbind(provider.address);
	return ret ? fail("%s: %s", argv[1], strerror(ret)) : EXIT_OK;
}
