// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * iopmem topo: who reaches which memory, and how.
 */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

enum { CELL = 16 };

static const char legend[] =
	"BUS/n   by bus address, switched below a common bridge, over n hops\n"
	"HB/n    through a host bridge that the kernel knows to forward it\n"
	"CPU     the device is virtual, and the CPU copies\n"
	"no      not at all; iopmem check says why\n"
	"-       the function's own memory\n"
	"BUS/n?  the same, if ACS does not redirect it, which root can see\n"
	"?       the device has gone meanwhile\n";

static void cell_text(const struct user *user, const struct provider *provider,
		      const struct iopmem_route *route, int error,
		      char text[CELL])
{
	static const char *const short_names[] = {
		[IOPMEM_ROUTE_NONE] = "no",
		[IOPMEM_ROUTE_BUS_ADDR] = "BUS",
		[IOPMEM_ROUTE_HOST_BRIDGE] = "HB",
		[IOPMEM_ROUTE_CPU] = "CPU",
	};

	if (!strcmp(user->address, provider->address))
		snprintf(text, CELL, "-");
	else if (error)
		snprintf(text, CELL, "?");
	else if (route->type == IOPMEM_ROUTE_BUS_ADDR ||
		 route->type == IOPMEM_ROUTE_HOST_BRIDGE)
		snprintf(text, CELL, "%s/%d%s", short_names[route->type],
			 route->distance,
			 route->reason == IOPMEM_REASON_ACS_UNKNOWN ? "?" : "");
	else
		snprintf(text, CELL, "%s", short_names[route->type]);
}

static const char *provider_name(const struct provider *provider)
{
	return provider->node[0] ? provider->node : provider->address;
}

static void print_matrix(const char *root, const struct user *users,
			 size_t nusers, const struct provider *providers,
			 size_t nproviders)
{
	printf("%-14s %-14s", "", "");
	for (size_t p = 0; p < nproviders; p++)
		printf(" %-13s", provider_name(&providers[p]));
	printf("\n");
	for (size_t u = 0; u < nusers; u++) {
		printf("%-14s %-14s", users[u].name,
		       strcmp(users[u].name, users[u].address) ?
		       users[u].address : "");
		for (size_t p = 0; p < nproviders; p++) {
			struct iopmem_route route;
			char text[CELL];
			int error = route_between(root, &users[u],
						  &providers[p], &route);

			cell_text(&users[u], &providers[p], &route, error,
				  text);
			printf(" %-13s", text);
		}
		printf("\n");
	}
	printf("\n%s", legend);
}

static void print_routes(const char *root, const struct user *users,
			 size_t nusers, const struct provider *providers,
			 size_t nproviders)
{
	json_object *array = json_object_new_array();

	for (size_t u = 0; u < nusers; u++)
		for (size_t p = 0; p < nproviders; p++) {
			struct iopmem_route route;

			if (!strcmp(users[u].address, providers[p].address) ||
			    route_between(root, &users[u], &providers[p],
					  &route))
				continue;
			json_object_array_add(array,
					      route_object(&users[u],
							   &providers[p],
							   &route));
		}
	print_json(array);
}

static int show(const char *root, bool json)
{
	struct provider *providers;
	struct user *users;
	size_t nproviders = find_providers(root, &providers);
	size_t nusers = find_users(root, &users);
	int ret = EXIT_OK;

	if (!nproviders && !json)
		ret = fail("no PCI function has memory for others: bind or attach one");
	else
		(json ? print_routes : print_matrix)(root, users, nusers,
						     providers, nproviders);
	free(users);
	free(providers);
	return ret;
}

int cmd_topo(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "dump", no_argument, NULL, 'd' },
		{ "replay", required_argument, NULL, 'r' },
		{ 0 }
	};
	const char *replay = NULL;
	char root[PATH_MAX] = "";
	bool json = false, dump = false;
	int c, ret;

	while ((c = getopt_long(argc, argv, "jdr:", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'd':
			dump = true;
			break;
		case 'r':
			replay = optarg;
			break;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind < argc || (dump && (json || replay)))
		return EXIT_USAGE;

	if (dump)
		return tree_dump("");
	if (replay && tree_replay(replay, root, sizeof(root)))
		return EXIT_FAIL;
	ret = show(root, json);
	if (replay)
		tree_remove(root);
	return ret;
}
