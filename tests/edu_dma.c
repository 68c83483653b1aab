// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "edu_dma.h"
#include "kernel/edu_registers.h"
#include "tap.h"
#include "util.h"

enum { PAGE = 4096 };

volatile uint64_t *edu_registers(const char *resource)
{
	volatile uint64_t *registers = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					    MAP_SHARED,
					    open_device(resource, O_RDWR), 0);

	if (registers == MAP_FAILED)
		give_up("%s", resource);
	return registers;
}

bool edu_writes(volatile uint64_t *registers)
{
	const uint64_t writing = EDU_DMA_START | EDU_DMA_FROM_BUFFER;

	return (registers[EDU_DMA_COMMAND / 8] & writing) == writing;
}

static void read_from(volatile uint64_t *registers, uint64_t address)
{
	registers[EDU_DMA_SOURCE / 8] = address;
	registers[EDU_DMA_DESTINATION / 8] = EDU_BUFFER;
	registers[EDU_DMA_COUNT / 8] = 8;
	registers[EDU_DMA_COMMAND / 8] = EDU_DMA_START;
	while (registers[EDU_DMA_COMMAND / 8] & EDU_DMA_START)
		usleep(1000);
}

bool edu_faults(volatile uint64_t *registers, uint64_t address)
{
	if (system("echo 'edu_dma: mark' >/dev/kmsg"))
		give_up("/dev/kmsg");
	read_from(registers, address);
	/* the handler may be late */
	usleep(200000);
	return !system("dmesg | tac | sed '/edu_dma: mark/q' | grep -q 'DMAR: .*fault'");
}

bool edu_faults_soon(volatile uint64_t *registers, uint64_t address)
{
	for (int i = 0; i < 100; i++)
		if (edu_faults(registers, address))
			return true;
	return false;
}
