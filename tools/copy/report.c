// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * How far it is, and how it ended.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

#include <json-c/json.h>

#include "copy.h"

static const double mib = 1 << 20;

void report_progress(struct copy *copy)
{
	double seconds = now() - copy->started, rate, left;
	uint64_t done = bytes_done(copy);

	if (!copy->options->progress || now() - copy->shown < 1)
		return;
	copy->shown = now();
	rate = done / seconds;
	left = rate > 0 ? (copy->size - done) / rate : 0;
	fprintf(stderr, "\r%.1f of %.1f MiB, %.0f%%, %.1f MiB/s, %.0f:%02.0f left ",
		done / mib, copy->size / mib,
		copy->size ? 100.0 * done / copy->size : 100, rate / mib,
		(left - (int)left % 60) / 60, (double)((int)left % 60));
}

static const char *registered(const struct copy *copy)
{
	if (!copy->options->through)
		return "host memory";
	return copy->options->dmabuf ? "dma-buf" : "mapping";
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void print_json(struct copy *copy, double seconds)
{
	const struct iopmem_info *info = &copy->memory.info;
	json_object *object = json_object_new_object();
	char text[32];

	json_object_object_add(object, "bytes",
			       json_object_new_int64(copy->size));
	json_object_object_add(object, "written",
			       json_object_new_int64(copy->reason[0] ?
						     settled(copy) :
						     copy->size));
	json_object_object_add(object, "seconds",
			       json_object_new_double(seconds));
	json_object_object_add(object, "cpu_seconds",
			       json_object_new_double(cpu_seconds()));
	json_object_object_add(object, "memory",
			       json_object_new_string(registered(copy)));
	if (copy->options->through) {
		snprintf(text, sizeof(text), "%04x:%02x:%02x.%x",
			 info->pci_domain, info->pci_bus, info->pci_devfn >> 3,
			 info->pci_devfn & 7);
		json_object_object_add(object, "device",
			json_object_new_string(copy->options->through));
		json_object_object_add(object, "pci_address",
				       json_object_new_string(text));
	}
	if (copy->checksum && !copy->reason[0]) {
		snprintf(text, sizeof(text), "%08x", copy->crc);
		json_object_object_add(object, "crc32",
				       json_object_new_string(text));
	}
	if (copy->reason[0])
		json_object_object_add(object, "error",
				       json_object_new_string(copy->reason));
	printf("%s\n", json_object_to_json_string_ext(object,
		JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

void report_end(struct copy *copy)
{
	double seconds = copy->started ? now() - copy->started : 0;

	if (copy->options->progress && copy->shown)
		fprintf(stderr, "\n");
	if (copy->reason[0]) {
		fprintf(stderr, "iopmem-copy: %s\n", copy->reason);
		if (copy->started)
			fprintf(stderr, "iopmem-copy: the first %" PRIu64 " of %" PRIu64 " bytes have been written to the target\n",
				settled(copy), copy->size);
	} else if (!copy->options->json) {
		printf("%" PRIu64 " bytes in %.2f s, %.1f MiB/s, through %s (%s)",
		       copy->size, seconds, copy->size / seconds / mib,
		       copy->options->through ? copy->options->through : "host",
		       registered(copy));
		if (copy->checksum)
			printf(", CRC-32 %08x", copy->crc);
		printf("\n");
	}
	if (copy->options->json)
		print_json(copy, seconds);
}
