// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What there is in sysfs: functions with memory, and what could reach it.
 */
#include <dirent.h>
#include <err.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

/* PCI class codes (PCI Code and ID Assignment): upper 16 of 24 bits */
enum {
	CLASS_NVME = 0x0108,
	CLASS_DISPLAY = 0x03,		/* base class */
	CLASS_ACCELERATOR = 0x12,	/* base class */
};

__attribute__((format(printf, 2, 3)))
static bool path_of(char path[PATH_MAX], const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(path, PATH_MAX, fmt, args);
	va_end(args);
	return len < PATH_MAX;
}

/* The first line of a file in a folder; "" if there is none. */
static void read_text(const char *folder, const char *file, char *text,
		      size_t size)
{
	char path[PATH_MAX];
	FILE *f;

	text[0] = '\0';
	if (!path_of(path, "%s/%s", folder, file))
		return;
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(text, size, f))
		text[0] = '\0';
	fclose(f);
	text[strcspn(text, "\n")] = '\0';
}

static unsigned long long read_value(const char *folder, const char *file)
{
	char text[32];

	read_text(folder, file, text, sizeof(text));
	return strtoull(text, NULL, 0);
}

/* The names in a folder, sorted; none if it is not there. */
static int names_in(const char *folder, struct dirent ***names)
{
	int n = scandir(folder, names, NULL, alphasort);

	return n < 0 ? 0 : n;
}

static void free_names(struct dirent **names, int n)
{
	for (int i = 0; i < n; i++)
		free(names[i]);
	if (n)
		free(names);
}

/* The first name in a folder that begins with a prefix */
static bool first_name(const char *folder, const char *prefix,
		       char name[NAME_SIZE])
{
	struct dirent **names;
	int n = names_in(folder, &names);
	bool found = false;

	for (int i = 0; i < n && !found; i++) {
		found = !strncmp(names[i]->d_name, prefix, strlen(prefix)) &&
			strlen(names[i]->d_name) < NAME_SIZE;
		if (found)
			strcpy(name, names[i]->d_name);
	}
	free_names(names, n);
	return found;
}

static void *grown(void *list, size_t n, size_t size)
{
	list = reallocarray(list, n + 1, size);
	if (!list)
		err(EXIT_FAIL, NULL);
	return list;
}

/* Has the function memory for others? Of one that has not, the address is known. */
static bool describe_provider(const char *root, const char *address,
			      struct provider *provider)
{
	char function[PATH_MAX], folder[PATH_MAX], text[32];

	memset(provider, 0, sizeof(*provider));
	if (strlen(address) >= PCI_ADDRESS_SIZE ||
	    sysfs_pci_path(root, address, function))
		return false;
	strcpy(provider->address, address);
	read_text(function, "numa_node", text, sizeof(text));
	provider->numa_node = text[0] ? atoi(text) : -1;

	if (path_of(folder, "%s/iopmem", function) &&
	    first_name(folder, "iopmem", provider->node) &&
	    path_of(folder, "%s/iopmem/%s", function, provider->node)) {
		provider->size = read_value(folder, "size");
		provider->free = read_value(folder, "free");
		read_text(folder, "cache", provider->cache,
			  sizeof(provider->cache));
		read_text(folder, "mode", text, sizeof(text));
		provider->attached = !strcmp(text, "attached");
		return true;
	}
	if (!path_of(folder, "%s/p2pmem", function) || access(folder, F_OK))
		return false;
	provider->size = read_value(folder, "size");
	provider->free = read_value(folder, "available");
	return true;
}

size_t find_providers(const char *root, struct provider **list)
{
	struct dirent **names;
	char folder[PATH_MAX];
	size_t count = 0;
	int n;

	*list = NULL;
	if (!path_of(folder, "%s/sys/bus/pci/devices", root))
		return 0;
	n = names_in(folder, &names);
	for (int i = 0; i < n; i++) {
		struct provider provider;

		if (!describe_provider(root, names[i]->d_name, &provider))
			continue;
		*list = grown(*list, count, sizeof(**list));
		(*list)[count++] = provider;
	}
	free_names(names, n);
	return count;
}

/* An RDMA device of that name? */
static bool describe_rdma(const char *root, const char *name,
			  struct user *user)
{
	bool is_virtual;

	if (!name[0] || name[0] == '.' || strlen(name) >= NAME_SIZE ||
	    strchr(name, '/'))
		return false;
	memset(user, 0, sizeof(*user));
	if (sysfs_rdma_address(root, name, &is_virtual, user->address))
		return false;
	strcpy(user->name, name);
	user->is_rdma = true;
	return true;
}

/* A function by its address; NVMe controllers have a better name. */
static bool describe_function(const char *root, const char *address,
			      struct user *user)
{
	char function[PATH_MAX], folder[PATH_MAX];

	if (strlen(address) >= PCI_ADDRESS_SIZE ||
	    !sysfs_is_pci_address(address) ||
	    sysfs_pci_path(root, address, function))
		return false;
	memset(user, 0, sizeof(*user));
	strcpy(user->address, address);
	if (!path_of(folder, "%s/nvme", function) ||
	    !first_name(folder, "nvme", user->name))
		strcpy(user->name, address);
	return true;
}

/* Does it make sense to ask whether this function reaches memory? */
static bool is_peer(const char *root, const char *address)
{
	char function[PATH_MAX];
	unsigned int class;

	if (!sysfs_is_pci_address(address) ||
	    sysfs_pci_path(root, address, function))
		return false;
	class = read_value(function, "class") >> 8;
	return class == CLASS_NVME || class >> 8 == CLASS_DISPLAY ||
	       class >> 8 == CLASS_ACCELERATOR;
}

size_t find_users(const char *root, struct user **list)
{
	struct dirent **names;
	char folder[PATH_MAX];
	size_t count = 0;
	struct user user;
	int n;

	*list = NULL;
	if (!path_of(folder, "%s/sys/class/infiniband", root))
		return 0;
	n = names_in(folder, &names);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] == '.' ||
		    !describe_rdma(root, names[i]->d_name, &user))
			continue;
		*list = grown(*list, count, sizeof(**list));
		(*list)[count++] = user;
	}
	free_names(names, n);

	if (!path_of(folder, "%s/sys/bus/pci/devices", root))
		return count;
	n = names_in(folder, &names);
	for (int i = 0; i < n; i++) {
		if (!is_peer(root, names[i]->d_name) ||
		    !describe_function(root, names[i]->d_name, &user))
			continue;
		*list = grown(*list, count, sizeof(**list));
		(*list)[count++] = user;
	}
	free_names(names, n);
	return count;
}

/* The PCI function below which something in a class of sysfs is */
static bool address_in_class(const char *root, const char *class,
			     const char *name, char address[PCI_ADDRESS_SIZE])
{
	char link[PATH_MAX], path[PATH_MAX], *slash;

	if (!name[0] || name[0] == '.' || strchr(name, '/') ||
	    !path_of(link, "%s/sys/class/%s/%s", root, class, name) ||
	    !realpath(link, path))
		return false;
	while (!sysfs_is_pci_address(sysfs_name(path))) {
		slash = strrchr(path, '/');
		if (!slash || slash == path)
			return false;
		*slash = '\0';
	}
	strcpy(address, sysfs_name(path));
	return true;
}

/*
 * The name in sysfs of what a path in /dev is: of links, as those in by-path/,
 * what they point to, if that is there.
 */
static const char *without_dev(const char *name, char path[PATH_MAX])
{
	if (strncmp(name, "/dev/", 5))
		return name;
	return sysfs_name(realpath(name, path) ? path : name);
}

/*
 * The function of a drive by the name of its disk. A disk with several paths is
 * below none of them; then the controller of that number is meant.
 */
static bool address_of_disk(const char *root, const char *name,
			    char address[PCI_ADDRESS_SIZE])
{
	char controller[NAME_SIZE];
	unsigned int number;

	if (address_in_class(root, "block", name, address))
		return true;
	if (sscanf(name, "nvme%u", &number) != 1)
		return false;
	snprintf(controller, sizeof(controller), "nvme%u", number);
	return address_in_class(root, "nvme", controller, address);
}

bool provider_named(const char *root, const char *name,
		    struct provider *provider)
{
	char address[PCI_ADDRESS_SIZE], path[PATH_MAX];

	/* that it has memory may be yet to come */
	if (sysfs_is_pci_address(name))
		return describe_provider(root, name, provider) ||
		       provider->address[0];
	return address_in_class(root, "iopmem", without_dev(name, path),
				address) &&
	       describe_provider(root, address, provider);
}

bool user_named(const char *root, const char *name, struct user *user)
{
	char address[PCI_ADDRESS_SIZE], path[PATH_MAX];

	if (sysfs_is_pci_address(name))
		return describe_function(root, name, user);
	return describe_rdma(root, name, user) ||
	       (address_of_disk(root, without_dev(name, path), address) &&
		describe_function(root, address, user));
}

int route_between(const char *root, const struct user *user,
		  const struct provider *provider, struct iopmem_route *route)
{
	memset(route, 0, sizeof(*route));
	strcpy(route->provider, provider->address);
	if (user->is_rdma)
		return find_rdma_route(root, user->name, route);
	strcpy(route->device, user->address);
	return find_pci_route(root, route);
}
