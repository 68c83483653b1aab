// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * iopmem check: whether a device reaches memory, why not, and what to do.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

/* What is found out. reason may be NULL; error is that of the trial. */
struct verdict {
	bool ok, tried;
	struct iopmem_route route;
	int error;
	const char *how, *reason;
	char remedy[256];
};

static const char *how(const struct iopmem_route *route)
{
	switch (route->type) {
	case IOPMEM_ROUTE_BUS_ADDR:
		return "by bus address, switched below a common bridge";
	case IOPMEM_ROUTE_HOST_BRIDGE:
		return "through a host bridge that forwards it";
	case IOPMEM_ROUTE_CPU:
		return "the CPU copies, as the device is virtual";
	case IOPMEM_ROUTE_NONE:
		break;
	}
	return "there is no route";
}

static void find_remedy(struct verdict *v)
{
	const char *text = "";

	switch (v->route.reason) {
	case IOPMEM_REASON_HOST_BRIDGE:
		text = "put both below one PCIe switch; if this host bridge does forward, the list in the kernel's drivers/pci/p2pdma.c wants it";
		break;
	case IOPMEM_REASON_HOST_BRIDGES:
		text = "put both below one host bridge, best below one PCIe switch";
		break;
	case IOPMEM_REASON_ACS:
		snprintf(v->remedy, sizeof(v->remedy),
			 "boot with pci=disable_acs_redir=%s, and likewise for other ports on the way (\";\" between them), if these functions need not be isolated from each other",
			 v->route.bridge);
		return;
	case IOPMEM_REASON_ACS_UNKNOWN:
		text = "run this, or topo --dump, as root, to see what ACS does";
		break;
	case IOPMEM_REASON_NOT_PCI:
		text = "use an RDMA device that is a PCI function";
		break;
	case IOPMEM_REASON_NONE:
	case IOPMEM_REASON_VIRTUAL:
		break;
	}
	strcpy(v->remedy, text);
}

static void explain_trial(struct verdict *verdict, bool is_rdma)
{
	bool had_route = verdict->ok;

	verdict->ok = !verdict->error;
	/* The kernel is right; the rules are of one that is older, or newer. */
	if (verdict->ok && !had_route) {
		verdict->how = "which the rules of Linux 6.12 would not have";
		verdict->reason = NULL;
		verdict->remedy[0] = '\0';
	}
	/* What there is to say of a route that is not there stays. */
	if (verdict->ok || (verdict->error == EREMOTEIO && !had_route))
		return;

	verdict->remedy[0] = '\0';
	if (verdict->error == EREMOTEIO) {
		verdict->reason = "the kernel finds no route";
	} else if (!is_rdma) {
		verdict->reason = "a read into the memory fails";
	} else if (verdict->error == EOPNOTSUPP) {
		verdict->reason = "the driver knows no dma-bufs, or its provider in rdma-core does not, and no peer memory client helps it";
		strcpy(verdict->remedy, "modprobe iopmem_peer, on a kernel with peer memory clients; or take a device whose driver knows dma-bufs");
	} else {
		verdict->reason = "a registration fails";
	}
}

/* 0, or -1 after having said why nothing can be tried. */
static int try(const struct user *user, const struct provider *provider,
	       struct verdict *verdict)
{
	if (!provider->node[0]) {
		fail("--try: %s is neither bound nor attached",
		     provider->address);
		return -1;
	}
	verdict->error = user->is_rdma ?
			 try_registration(user->name, provider->node) :
			 try_read(user->address, provider->node);
	if (verdict->error < 0)
		return -1;
	verdict->tried = true;
	explain_trial(verdict, user->is_rdma);
	return 0;
}

static const char *name_of(const struct provider *provider)
{
	return provider->node[0] ? provider->node : provider->address;
}

static void print_text(const struct user *user,
		       const struct provider *provider,
		       const struct verdict *v)
{
	printf("%s -> %s: %s, %s", user->name, name_of(provider),
	       v->ok ? "OK" : "FAIL",
	       v->ok || !v->reason ? v->how : v->reason);
	if (v->route.distance > 0)
		printf(", distance %d", v->route.distance);
	if (v->route.flags & IOPMEM_ROUTE_FLAG_IOMMU)
		printf(", in an IOMMU group");
	if (v->tried)
		printf(", tried%s%s", v->error ? ": " : "",
		       v->error ? strerror(v->error) : "");
	printf("\n");
	if (v->ok && v->reason)
		printf("  but %s\n", v->reason);
	if (v->route.bridge[0])
		printf("  bridge: %s\n", v->route.bridge);
	if (v->remedy[0])
		printf("  remedy: %s\n", v->remedy);
	if (!provider->node[0])
		printf("  %s is neither bound nor attached: iopmem bind, or attach, it\n",
		       provider->address);
}

static void print_object(const struct user *user,
			 const struct provider *provider,
			 const struct verdict *v)
{
	json_object *object = route_object(user, provider, &v->route);

	add_string(object, "result", v->ok ? "OK" : "FAIL");
	if (v->tried)
		add_string(object, "trial",
			   v->error ? strerrorname_np(v->error) : "OK");
	add_string(object, "explanation", v->reason ?: v->how);
	add_string(object, "remedy", v->remedy);
	print_json(object);
}

static int check(const char *root, const char *device, const char *memory,
		 bool json, bool trial)
{
	struct verdict verdict = { 0 };
	struct provider provider;
	struct user user;
	int error;

	if (!user_named(root, device, &user))
		return fail("there is no RDMA device, NVMe or PCI function %s",
			    device);
	if (!provider_named(root, memory, &provider))
		return fail("there is no /dev/iopmemN or PCI function %s",
			    memory);
	error = route_between(root, &user, &provider, &verdict.route);
	if (error)
		return fail("%s, %s: %s", device, memory, strerror(error));

	verdict.ok = verdict.route.type != IOPMEM_ROUTE_NONE;
	verdict.how = how(&verdict.route);
	if (verdict.route.reason && verdict.route.reason !=
	    IOPMEM_REASON_VIRTUAL)
		verdict.reason = iopmem_route_reason_str(verdict.route.reason);
	find_remedy(&verdict);
	if (trial && try(&user, &provider, &verdict))
		return EXIT_FAIL;

	(json ? print_object : print_text)(&user, &provider, &verdict);
	return verdict.ok ? EXIT_OK : EXIT_FAIL;
}

int cmd_check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "replay", required_argument, NULL, 'r' },
		{ "try", no_argument, NULL, 't' },
		{ 0 }
	};
	const char *replay = NULL;
	bool json = false, trial = false;
	char root[PATH_MAX] = "";
	int c, ret;

	while ((c = getopt_long(argc, argv, "jr:t", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'r':
			replay = optarg;
			break;
		case 't':
			trial = true;
			break;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind != argc - 2 || (replay && trial))
		return EXIT_USAGE;

	if (replay && tree_replay(replay, root, sizeof(root)))
		return EXIT_FAIL;
	ret = check(root, argv[optind], argv[optind + 1], json, trial);
	if (replay)
		tree_remove(root);
	return ret;
}
