// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What the commands print as JSON, and have in common.
 */
#include <stdio.h>

#include "tool.h"

void add_string(json_object *object, const char *key, const char *s)
{
	if (s && s[0])
		json_object_object_add(object, key, json_object_new_string(s));
}

json_object *route_object(const struct user *user,
				 const struct provider *provider,
				 const struct iopmem_route *route)
{
	json_object *object = json_object_new_object();

	add_string(object, "device", user->name);
	add_string(object, "device_pci_address", user->address);
	add_string(object, "memory", provider->node);
	add_string(object, "memory_pci_address", provider->address);
	add_string(object, "route", route_name(route->type));
	add_string(object, "reason", reason_name(route->reason));
	add_string(object, "bridge", route->bridge);
	if (route->distance >= 0)
		json_object_object_add(object, "distance",
				       json_object_new_int(route->distance));
	json_object_object_add(object, "iommu",
			       json_object_new_boolean(route->flags &
						       IOPMEM_ROUTE_FLAG_IOMMU));
	return object;
}

void print_json(json_object *object)
{
	printf("%s\n", json_object_to_json_string_ext(object,
		JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
		JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}
