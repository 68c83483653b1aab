/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What the parts of the iopmem command share. A root is the folder that stands
 * for /, "" for the running system; see libibverbs/internal.h, whose reading of
 * sysfs and whose verdict on routes the command has in common with the library.
 */
#ifndef IOPMEM_TOOL_H
#define IOPMEM_TOOL_H

#include <json-c/json.h>

#include "internal.h"

/* Exit codes. EXIT_FAIL: check found no way. */
enum { EXIT_OK = 0, EXIT_FAIL = 1, EXIT_USAGE = 2 };

enum { NAME_SIZE = 64 };

/**
 * struct provider - a PCI function whose memory others can reach
 * @address: of the function
 * @node: "iopmemN", or "" if iopmem has not bound or attached it
 * @attached: the memory belongs to another driver
 * @size, @free: bytes; 0 without a node and a pool that says so
 * @cache: cache mode, "uc" or "wc"
 * @numa_node: -1 if there is none
 */
struct provider {
	char address[PCI_ADDRESS_SIZE];
	char node[NAME_SIZE];
	bool attached;
	unsigned long long size, free;
	char cache[8];
	int numa_node;
};

/**
 * struct user - what could reach memory: an RDMA device or a PCI function
 * @name: of the RDMA device, the NVMe controller, or the address
 * @address: of the function, "" if there is none
 * @is_rdma: @name is an RDMA device
 */
struct user {
	char name[NAME_SIZE];
	char address[PCI_ADDRESS_SIZE];
	bool is_rdma;
};

/* devices.c: what there is. Both lists are sorted; the caller frees them. */
size_t find_providers(const char *root, struct provider **list);
size_t find_users(const char *root, struct user **list);

/*
 * By the names that people have for them: a path in /dev, a name in sysfs, a PCI
 * address. False if there is none of that name.
 */
bool provider_named(const char *root, const char *name,
		    struct provider *provider);
bool user_named(const char *root, const char *name, struct user *user);

int route_between(const char *root, const struct user *user,
		  const struct provider *provider, struct iopmem_route *route);

/* names.c: of routes and reasons */
const char *route_name(enum iopmem_route_type type);
const char *reason_name(enum iopmem_route_reason reason);

/*
 * tree.c: a machine's PCI tree as text on stdout, and a folder like / made of such
 * text. They return exit codes, and say what is wrong.
 */
int tree_dump(const char *root);
int tree_replay(const char *file, char *root, size_t size);
void tree_remove(const char *root);

/* try.c: the final proof. 0, an errno, or -1 after having said what is wrong */
int try_registration(const char *device, const char *node);
int try_read(const char *address, const char *node);

/* Says it as "iopmem: ..." and returns EXIT_FAIL. */
__attribute__((format(printf, 1, 2)))
int fail(const char *fmt, ...);

/* json.c. What is NULL or "" is left out. */
void add_string(json_object *object, const char *key, const char *s);
json_object *route_object(const struct user *user,
			  const struct provider *provider,
			  const struct iopmem_route *route);

/* Prints the object, and frees it. */
void print_json(json_object *object);

/* The subcommands. argv[0] is the subcommand's name; they return exit codes. */
int cmd_list(int argc, char **argv);
int cmd_bind(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_release(int argc, char **argv);
int cmd_topo(int argc, char **argv);
int cmd_check(int argc, char **argv);

#endif /* IOPMEM_TOOL_H */
