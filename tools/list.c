// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * iopmem list: functions with memory, and who holds it.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const char holders_file[] = "/sys/kernel/debug/iopmem/holders";

/*
 * The kernel's lines are "KIND ADDRESS word=value ..."; those of the provider
 * itself say what the list says already.
 */
static bool is_holder_of(const char *line, const char *address)
{
	const char *at = strchr(line, ' ');
	size_t len = strlen(address);

	return at && strncmp(line, "provider ", 9) &&
	       !strncmp(at + 1, address, len) && at[1 + len] == ' ';
}

/* Names of processes are their owners' choice: only what terminals and JSON take. */
static void make_printable(char *line)
{
	for (; *line && *line != '\n'; line++)
		if (*line < ' ' || *line > '~')
			*line = '?';
}

static json_object *holder_object(char *line)
{
	json_object *object = json_object_new_object();
	char *word = strtok(line, " \n");

	json_object_object_add(object, "kind", json_object_new_string(word));
	strtok(NULL, " \n");
	while ((word = strtok(NULL, " \n"))) {
		char *value = strchr(word, '=');

		if (!value)
			continue;
		*value++ = '\0';
		json_object_object_add(object, word,
				       json_object_new_string(value));
	}
	return object;
}

/* Calls print for each holder, or adds them to the array. */
static void holders_of(const char *address, json_object *array)
{
	FILE *f = fopen(holders_file, "re");
	char line[1024];

	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		if (!is_holder_of(line, address))
			continue;
		make_printable(line);
		if (array)
			json_object_array_add(array, holder_object(line));
		else
			printf("    %.*s%s", (int)strcspn(line, " "), line,
			       strchr(line, ' ') + 1 + strlen(address));
	}
	fclose(f);
}

static void print_text(const struct provider *p)
{
	printf("%-10s %s  %llu of %llu bytes free",
	       p->node[0] ? p->node : "-", p->address, p->free, p->size);
	if (p->cache[0])
		printf(", %s", !strcmp(p->cache, "wc") ? "write-combining" :
							 "uncached");
	if (p->numa_node >= 0)
		printf(", NUMA node %d", p->numa_node);
	printf("%s\n", p->node[0] ? p->attached ? ", attached" : ", bound" :
				    ", not attached");
	holders_of(p->address, NULL);
}

static json_object *provider_object(const struct provider *p)
{
	json_object *object = json_object_new_object();
	json_object *holders = json_object_new_array();

	if (p->node[0])
		json_object_object_add(object, "name",
				       json_object_new_string(p->node));
	json_object_object_add(object, "pci_address",
			       json_object_new_string(p->address));
	json_object_object_add(object, "state",
			       json_object_new_string(!p->node[0] ? "free" :
						      p->attached ? "attached" :
								    "bound"));
	json_object_object_add(object, "size",
			       json_object_new_int64(p->size));
	json_object_object_add(object, "free",
			       json_object_new_int64(p->free));
	if (p->cache[0])
		json_object_object_add(object, "cache_mode",
				       json_object_new_string(p->cache));
	if (p->numa_node >= 0)
		json_object_object_add(object, "numa_node",
				       json_object_new_int(p->numa_node));
	holders_of(p->address, holders);
	json_object_object_add(object, "holders", holders);
	return object;
}

int cmd_list(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ 0 }
	};
	json_object *array = NULL;
	struct provider *list;
	bool json = false;
	size_t count;
	int c;

	while ((c = getopt_long(argc, argv, "j", options, NULL)) != -1) {
		if (c != 'j')
			return EXIT_USAGE;
		json = true;
	}
	if (optind < argc)
		return EXIT_USAGE;
	if (json)
		array = json_object_new_array();

	count = find_providers("", &list);
	for (size_t i = 0; i < count; i++)
		if (array)
			json_object_array_add(array,
					      provider_object(&list[i]));
		else
			print_text(&list[i]);
	if (array)
		print_json(array);
	free(list);
	return EXIT_OK;
}
