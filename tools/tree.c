// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * A machine's PCI tree as text: what routes depend on, and no more.
 *
 *	cpu VENDOR FAMILY
 *	function PATH VENDOR:DEVICE CLASS [CONFIG] [iommu] [nvme=NAME]
 *		[p2pmem=BYTES | iopmem=NAME]
 *	rdma NAME ADDRESS | rdma NAME virtual | rdma NAME platform
 *
 * PATH is the function's below /sys/devices. CONFIG is what its configuration
 * space shows: acs=CONTROL, no-acs (the default), user (nobody but root may
 * look) or conventional (PCI). Lines that begin otherwise are for others.
 */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

/* ---- out */

static unsigned long number_in(const char *folder, const char *file)
{
	char path[PATH_MAX + 64], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, file);
	f = fopen(path, "re");
	if (f) {
		if (!fgets(text, sizeof(text), f))
			text[0] = '\0';
		fclose(f);
	}
	return strtoul(text, NULL, 0);
}

static void dump_cpu(const char *root)
{
	char path[PATH_MAX], line[256], vendor[64] = "unknown";
	int family = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/cpuinfo", root);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) && line[0] != '\n') {
		sscanf(line, "vendor_id : %63s", vendor);
		sscanf(line, "cpu family : %d", &family);
	}
	if (f)
		fclose(f);
	printf("cpu %s %d\n", vendor, family);
}

static const char *config_of(const char *path)
{
	char file[PATH_MAX + 64];
	struct stat st;

	switch (sysfs_acs(path)) {
	case ACS_REDIRECTS:
		return "acs=001d";
	case ACS_UNKNOWN:
		return "user";
	case ACS_OFF:
		break;
	}
	snprintf(file, sizeof(file), "%s/config", path);
	return !stat(file, &st) && st.st_size == 256 ? "conventional" :
						       "no-acs";
}

static void dump_function(const char *root, const char *address)
{
	char path[PATH_MAX];
	struct provider provider;
	const char *below;
	struct user user;
	unsigned int id;

	if (sysfs_pci_path(root, address, path))
		return;
	below = strstr(path, "/sys/devices/");
	if (!below)
		return;
	id = sysfs_pci_id(path);
	printf("function %s %04x:%04x %04lx %s",
	       below + strlen("/sys/devices/"), id >> 16, id & 0xffff,
	       number_in(path, "class") >> 8, config_of(path));
	if (sysfs_has_iommu(path))
		printf(" iommu");
	if (user_named(root, address, &user) &&
	    strcmp(user.name, user.address))
		printf(" nvme=%s", user.name);
	if (provider_named(root, address, &provider)) {
		if (provider.node[0])
			printf(" iopmem=%s", provider.node);
		else if (provider.size)
			printf(" p2pmem=%llu", provider.size);
	}
	printf("\n");
}

static int for_names(const char *root, const char *folder,
		     void (*call)(const char *root, const char *name))
{
	char path[PATH_MAX];
	struct dirent **names;
	int n;

	snprintf(path, sizeof(path), "%s%s", root, folder);
	n = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.')
			call(root, names[i]->d_name);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return n;
}

static void dump_rdma(const char *root, const char *name)
{
	char address[PCI_ADDRESS_SIZE];
	bool is_virtual;

	if (sysfs_rdma_address(root, name, &is_virtual, address))
		return;
	printf("rdma %s %s\n", name, address[0] ? address :
				     is_virtual ? "virtual" : "platform");
}

int tree_dump(const char *root)
{
	dump_cpu(root);
	if (for_names(root, "/sys/bus/pci/devices", dump_function) <= 0)
		return fail("there are no PCI functions");
	for_names(root, "/sys/class/infiniband", dump_rdma);
	return EXIT_OK;
}

/* ---- in; functions return false if it could not be done */

__attribute__((format(printf, 1, 2)))
static bool make_folder(const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	if (len >= (int)sizeof(path))
		return false;
	for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(path, 0700) && errno != EEXIST)
			return false;
		*slash = '/';
	}
	return !mkdir(path, 0700) || errno == EEXIST;
}

/* A file of that size, which begins with the text. */
__attribute__((format(printf, 4, 5)))
static bool make_file(const char *folder, const char *name, off_t size,
		      const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list args;
	bool good;
	FILE *f;

	if (snprintf(path, sizeof(path), "%s/%s", folder, name) >=
	    (int)sizeof(path))
		return false;
	f = fopen(path, "we");
	if (!f)
		return false;
	va_start(args, fmt);
	good = vfprintf(f, fmt, args) >= 0;
	va_end(args);
	if (size)
		good = good && !fflush(f) && !ftruncate(fileno(f), size);
	return !fclose(f) && good;
}

static bool make_config(const char *folder, const char *kind)
{
	/* error reporting at 0x100, then ACS at 0x148, as PCIe has them */
	static const unsigned char first[] = { 0x01, 0x00, 0x82, 0x14 };
	unsigned char acs[8] = { 0x0d, 0x00, 0x01, 0x00, 0x1f, 0x00 };
	char path[PATH_MAX];
	unsigned int control;
	bool good;
	FILE *f;

	if (!strcmp(kind, "user"))
		return make_file(folder, "config", 64, "%s", "");
	if (!strcmp(kind, "conventional"))
		return make_file(folder, "config", 256, "%s", "");
	if (!make_file(folder, "config", 4096, "%s", ""))
		return false;
	if (sscanf(kind, "acs=%x", &control) != 1)
		return !strcmp(kind, "no-acs");
	acs[6] = control;
	acs[7] = control >> 8;
	if (snprintf(path, sizeof(path), "%s/config", folder) >=
	    (int)sizeof(path))
		return false;
	f = fopen(path, "r+e");
	if (!f)
		return false;
	good = !fseek(f, 0x100, SEEK_SET) &&
	       fwrite(first, sizeof(first), 1, f) == 1 &&
	       !fseek(f, 0x148, SEEK_SET) &&
	       fwrite(acs, sizeof(acs), 1, f) == 1;
	return !fclose(f) && good;
}

static bool make_link(const char *target, const char *root, const char *folder,
		      const char *name)
{
	char path[PATH_MAX];

	return make_folder("%s%s", root, folder) &&
	       snprintf(path, sizeof(path), "%s%s/%s", root, folder, name) <
	       (int)sizeof(path) && !symlink(target, path);
}

/* A folder in the function's with a name that a class of sysfs knows, too. */
static bool add_named(const char *root, const char *folder, const char *kind,
		      const char *name)
{
	char path[PATH_MAX], class[NAME_SIZE];

	if (snprintf(path, sizeof(path), "%s/%s/%s", folder, kind, name) >=
	    (int)sizeof(path))
		return false;
	snprintf(class, sizeof(class), "/sys/class/%s", kind);
	return make_folder("%s", path) && make_link(path, root, class, name);
}

static bool add_option(const char *root, const char *folder,
		       const char *option)
{
	char path[PATH_MAX];

	if (!strcmp(option, "iommu"))
		return make_folder("%s/iommu_group", folder);
	if (!strncmp(option, "nvme=", 5))
		return add_named(root, folder, "nvme", option + 5);
	if (!strncmp(option, "iopmem=", 7))
		return add_named(root, folder, "iopmem", option + 7);
	if (!strncmp(option, "p2pmem=", 7))
		return snprintf(path, sizeof(path), "%s/p2pmem", folder) <
		       (int)sizeof(path) && make_folder("%s", path) &&
		       make_file(path, "size", 0, "%s\n", option + 7);
	return make_config(folder, option);
}

static bool is_sane(const char *path)
{
	return path[0] != '/' && !strstr(path, "..");
}

static bool add_function(const char *root, char **words, int n)
{
	char folder[PATH_MAX];
	unsigned int vendor, device, class;
	bool good;

	if (n < 3 || !is_sane(words[0]) ||
	    !sysfs_is_pci_address(sysfs_name(words[0])) ||
	    sscanf(words[1], "%x:%x", &vendor, &device) != 2 ||
	    sscanf(words[2], "%x", &class) != 1 ||
	    snprintf(folder, sizeof(folder), "%s/sys/devices/%s", root,
		     words[0]) >= (int)sizeof(folder))
		return false;
	good = make_folder("%s", folder) &&
	       make_link(folder, root, "/sys/bus/pci/devices",
			 sysfs_name(words[0])) &&
	       make_file(folder, "vendor", 0, "%#x\n", vendor) &&
	       make_file(folder, "device", 0, "%#x\n", device) &&
	       make_file(folder, "class", 0, "%#x\n", class << 8) &&
	       make_config(folder, "no-acs");
	for (int i = 3; good && i < n; i++)
		good = is_sane(words[i]) && add_option(root, folder, words[i]);
	return good;
}

static bool add_rdma(const char *root, char **words, int n)
{
	char parent[PATH_MAX], folder[PATH_MAX + NAME_SIZE + 16];

	if (n < 2 || words[0][0] == '.' || strchr(words[0], '/') ||
	    strlen(words[0]) >= NAME_SIZE)
		return false;
	if (!strcmp(words[1], "virtual"))
		return make_folder("%s/sys/class/infiniband/%s", root,
				   words[0]);
	if (!strcmp(words[1], "platform")) {
		snprintf(parent, sizeof(parent), "%s/sys/devices/platform/rdma",
			 root);
		if (!make_folder("%s", parent))
			return false;
	} else if (!sysfs_is_pci_address(words[n - 1]) ||
		   sysfs_pci_path(root, words[n - 1], parent)) {
		return false;
	}
	snprintf(folder, sizeof(folder), "%s/infiniband/%s", parent, words[0]);
	return make_folder("%s", folder) &&
	       make_link(folder, root, "/sys/class/infiniband", words[0]) &&
	       make_link(parent, "", folder, "device");
}

static bool add_cpu(const char *root, char **words, int n)
{
	char folder[PATH_MAX];

	snprintf(folder, sizeof(folder), "%s/proc", root);
	return n == 2 && make_folder("%s", folder) &&
	       make_file(folder, "cpuinfo", 0,
			 "vendor_id\t: %s\ncpu family\t: %s\n\n", words[0],
			 words[1]);
}

static bool add_line(const char *root, char *line)
{
	char *words[16], *word;
	int n = 0;

	for (word = strtok(line, " \t\n"); word && n < 16;
	     word = strtok(NULL, " \t\n"))
		words[n++] = word;
	if (!n)
		return true;
	if (!strcmp(words[0], "cpu"))
		return add_cpu(root, words + 1, n - 1);
	if (!strcmp(words[0], "function"))
		return add_function(root, words + 1, n - 1);
	if (!strcmp(words[0], "rdma"))
		return add_rdma(root, words + 1, n - 1);
	return true;
}

/* Says what is wrong with the file, and returns EXIT_FAIL. */
static int read_tree(const char *file, FILE *f, const char *root)
{
	bool functions = false;
	char line[1024];
	int number = 0;

	while (fgets(line, sizeof(line), f)) {
		number++;
		if (!strchr(line, '\n') && !feof(f))
			return fail("%s: line %d is too long", file, number);
		functions |= !strncmp(line, "function ", 9);
		errno = 0;
		if (!add_line(root, line))
			return fail("%s: line %d is not understood%s%s", file,
				    number, errno ? ": " : "",
				    errno ? strerror(errno) : "");
	}
	if (ferror(f))
		return fail("%s: %s", file, strerror(errno));
	if (!functions)
		return fail("%s: there are no functions in it", file);
	return EXIT_OK;
}

int tree_replay(const char *file, char *root, size_t size)
{
	const char *tmp = getenv("TMPDIR");
	FILE *f = fopen(file, "re");
	int ret;

	if (!f)
		return fail("%s: %s", file, strerror(errno));
	/* what is in it has links with absolute paths */
	if (!tmp || tmp[0] != '/')
		tmp = "/tmp";
	if (snprintf(root, size, "%s/iopmem-XXXXXX", tmp) >= (int)size) {
		ret = fail("%s: %s", tmp, strerror(ENAMETOOLONG));
	} else if (!mkdtemp(root)) {
		ret = fail("%s: %s", tmp, strerror(errno));
	} else {
		ret = read_tree(file, f, root);
		if (ret)
			tree_remove(root);
	}
	fclose(f);
	return ret;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void tree_remove(const char *root)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
