// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Reading sysfs, or a recorded tree in its place.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* PCIe configuration space: PCI Express Base Specification, chapter 7 */
enum {
	CONFIG_SIZE = 4096,
	EXTENDED_CONFIG = 256,		/* where extended capabilities begin */
	CAPABILITY_ACS = 0x0d,
	ACS_CONTROL = 6,
	ACS_REQUEST_REDIRECT = 1 << 2,
	ACS_COMPLETION_REDIRECT = 1 << 3,
	ACS_EGRESS_CONTROL = 1 << 5,
};

enum { CLASS_PCI_BRIDGE = 0x0604 };

__attribute__((format(printf, 2, 3)))
static int make_path(char path[PATH_MAX], const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(path, PATH_MAX, fmt, args);
	va_end(args);
	return len < PATH_MAX ? 0 : ENAMETOOLONG;
}

static int missing_is_enodev(int error)
{
	return error == ENOENT ? ENODEV : error;
}

const char *sysfs_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static size_t hex_digits(const char *s)
{
	size_t n = 0;

	while (isxdigit((unsigned char)s[n]))
		n++;
	return n;
}

/* "0000:03:00.0"; domains have four digits or more. */
bool sysfs_is_pci_address(const char *name)
{
	size_t domain = hex_digits(name);

	if (domain < 4 || strlen(name) != domain + strlen(":03:00.0") ||
	    domain + sizeof(":03:00.0") > PCI_ADDRESS_SIZE)
		return false;
	name += domain;
	return name[0] == ':' && hex_digits(name + 1) == 2 &&
	       name[3] == ':' && hex_digits(name + 4) == 2 &&
	       name[6] == '.' && hex_digits(name + 7) == 1;
}

int sysfs_pci_path(const char *root, const char *address, char *path)
{
	char link[PATH_MAX];
	int ret = make_path(link, "%s/sys/bus/pci/devices/%s", root, address);

	if (ret)
		return ret;
	return realpath(link, path) ? 0 : missing_is_enodev(errno);
}

int sysfs_rdma_address(const char *root, const char *device, bool *is_virtual,
		       char address[PCI_ADDRESS_SIZE])
{
	char link[PATH_MAX], path[PATH_MAX];
	int ret = make_path(link, "%s/sys/class/infiniband/%s", root, device);

	if (ret)
		return ret;
	if (access(link, F_OK))
		return missing_is_enodev(errno);

	address[0] = '\0';
	ret = make_path(link, "%s/sys/class/infiniband/%s/device", root,
			device);
	if (ret)
		return ret;
	*is_virtual = !realpath(link, path);
	if (*is_virtual)
		return errno == ENOENT ? 0 : errno;

	/* It may be a device of its own on top of the PCI function. */
	while (!sysfs_is_pci_address(sysfs_name(path))) {
		char *slash = strrchr(path, '/');

		if (!slash || slash == path)
			return 0;
		*slash = '\0';
	}
	strcpy(address, sysfs_name(path));
	return 0;
}

bool sysfs_go_upstream(char *path)
{
	*strrchr(path, '/') = '\0';
	return sysfs_is_pci_address(sysfs_name(path));
}

/* The number in a file such as "class"; 0 if there is none. */
static unsigned long read_number(const char *path, const char *file)
{
	char name[PATH_MAX], text[32] = "";
	FILE *f;

	if (make_path(name, "%s/%s", path, file))
		return 0;
	f = fopen(name, "re");
	if (!f)
		return 0;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	return strtoul(text, NULL, 0);
}

unsigned int sysfs_pci_id(const char *path)
{
	return read_number(path, "vendor") << 16 | read_number(path, "device");
}

bool sysfs_has_module(const char *root, const char *name)
{
	char path[PATH_MAX];

	return !make_path(path, "%s/sys/module/%s", root, name) &&
	       !access(path, F_OK);
}

bool sysfs_is_bridge(const char *path)
{
	return read_number(path, "class") >> 8 == CLASS_PCI_BRIDGE;
}

bool sysfs_has_iommu(const char *path)
{
	char link[PATH_MAX];

	return !make_path(link, "%s/iommu_group", path) && !access(link, F_OK);
}

static unsigned int config_word(const unsigned char *config, size_t at)
{
	return config[at] | config[at + 1] << 8;
}

/* Where the control word of ACS is; 0 if the function has none. */
static size_t find_acs_control(const unsigned char *config)
{
	size_t at = EXTENDED_CONFIG;

	/* Each is at least 8 bytes; a broken chain must not go on for ever. */
	for (int n = 0; n < (CONFIG_SIZE - EXTENDED_CONFIG) / 8; n++) {
		if (config_word(config, at) == CAPABILITY_ACS &&
		    at + ACS_CONTROL + 2 <= CONFIG_SIZE)
			return at + ACS_CONTROL;
		at = config_word(config, at + 2) >> 4 & ~3;
		if (at < EXTENDED_CONFIG)
			break;
	}
	return 0;
}

static ssize_t read_config(const char *path, off_t *size,
			   unsigned char config[CONFIG_SIZE])
{
	char name[PATH_MAX];
	struct stat st;
	ssize_t n = -1;
	int fd;

	if (make_path(name, "%s/config", path))
		return -1;
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (!fstat(fd, &st)) {
		*size = st.st_size;
		n = read(fd, config, CONFIG_SIZE);
	}
	close(fd);
	return n;
}

enum acs sysfs_acs(const char *path)
{
	const unsigned int redirect = ACS_REQUEST_REDIRECT |
				      ACS_COMPLETION_REDIRECT |
				      ACS_EGRESS_CONTROL;
	unsigned char config[CONFIG_SIZE];
	off_t size = 0;
	ssize_t n = read_config(path, &size, config);
	size_t control;

	/* Conventional PCI: no room for it. */
	if (size == EXTENDED_CONFIG)
		return ACS_OFF;
	/* Without CAP_SYS_ADMIN only the first 64 bytes can be had. */
	if (n < CONFIG_SIZE)
		return ACS_UNKNOWN;
	control = find_acs_control(config);
	return control && config_word(config, control) & redirect ?
	       ACS_REDIRECTS : ACS_OFF;
}

bool sysfs_host_bridge_function(const char *host_bridge,
				char address[PCI_ADDRESS_SIZE])
{
	char path[PATH_MAX], first[PCI_ADDRESS_SIZE] = "";
	struct dirent *entry;
	DIR *dir = opendir(host_bridge);

	if (!dir)
		return false;
	while ((entry = readdir(dir)))
		if (sysfs_is_pci_address(entry->d_name) &&
		    (!first[0] || strcmp(entry->d_name, first) < 0))
			strcpy(first, entry->d_name);
	closedir(dir);

	if (!first[0] || make_path(path, "%s/%s", host_bridge, first))
		return false;
	/* A bridge on the bus of a host bridge is a root port. */
	if (strcmp(first + strlen(first) - strlen("00.0"), "00.0") &&
	    !sysfs_is_bridge(path))
		return false;
	strcpy(address, first);
	return true;
}

bool sysfs_cpu_is_zen(const char *root)
{
	char name[PATH_MAX], line[256];
	bool amd = false;
	int family = 0;
	FILE *f;

	if (make_path(name, "%s/proc/cpuinfo", root))
		return false;
	f = fopen(name, "re");
	if (!f)
		return false;
	/* The first processor stands for all. */
	while (fgets(line, sizeof(line), f) && line[0] != '\n') {
		amd |= !strcmp(line, "vendor_id\t: AuthenticAMD\n");
		sscanf(line, "cpu family : %d", &family);
	}
	fclose(f);
	return amd && family >= 0x17;
}
