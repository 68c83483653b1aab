/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * edu's DMA engine behind its driver's back: whether it is at work, and what becomes
 * of DMA to an address that should be nobody's any more. Needs root.
 */
#ifndef TESTS_EDU_DMA_H
#define TESTS_EDU_DMA_H

#include <stdbool.h>
#include <stdint.h>

/* The registers, of a resource0 in sysfs; ends the program if refused. */
volatile uint64_t *edu_registers(const char *resource);

/* Whether it is writing to memory now. */
bool edu_writes(volatile uint64_t *registers);

/* Whether an IOMMU refuses a read from @address. The driver has nothing to do. */
bool edu_faults(volatile uint64_t *registers, uint64_t address);

/* The same, in a while: translations may be flushed with some delay. */
bool edu_faults_soon(volatile uint64_t *registers, uint64_t address);

#endif /* TESTS_EDU_DMA_H */
