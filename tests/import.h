/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What several test programs need of /dev/importer (tests/kernel/importer). An
 * importer is its file descriptor; calls that return int give 0, or -1 and
 * errno. Calls without an argument are made with ioctl().
 */
#ifndef TESTS_IMPORT_H
#define TESTS_IMPORT_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/importer/importer.h"

/* An importer without an attachment; ends the program if it gets none. */
int open_importer(void);

/* One that is attached; ends the program if it is refused. */
int importer_of(int buf_fd, enum importer_kind kind, int drop_after);

int import_attach(int importer, int buf_fd, enum importer_kind kind,
		  int drop_after);
int import_map(int importer, enum importer_direction direction);

/* These end the program on failure. */
struct importer_state import_state(int importer);
struct importer_segment import_segment(int importer, unsigned int index);

/* @is_iomem may be NULL. */
int import_vmap(int importer, uint32_t *is_iomem);
int import_read(int importer, uint64_t offset, void *data, size_t len);
int import_write(int importer, uint64_t offset, const void *data, size_t len);

/* Between the mapping and the beginning of edu's buffer */
int import_dma(int importer, uint64_t offset, size_t len,
	       enum importer_direction direction);

/* From mapping to mapping, by DMA to and from edu's buffer */
int import_copy(int from, uint64_t from_offset, int to, uint64_t to_offset,
		size_t len);

/* A dma-buf in host memory; ends the program on failure. */
int alloc_host_buffer(size_t size);

/* DMA_BUF_IOCTL_SYNC with these DMA_BUF_SYNC_* flags */
int sync_buffer(int buf_fd, uint64_t flags);

#endif /* TESTS_IMPORT_H */
