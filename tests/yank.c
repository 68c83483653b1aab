// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * yank FUNCTION: surprise removal of the PCI function that this folder of
 * sysfs stands for, which is alone in a slot of QEMU's.
 *
 * Behind the back of the slot's driver the slot is told to cut the power; QEMU
 * removes the function then, at once, as if it had been pulled. Power comes
 * back before interrupts do, so that all that the driver finds is an empty
 * slot. Returns when the kernel, too, has removed the function, and a second
 * later has turned the slot off: that would unplug whatever had been plugged
 * in by then.
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int config;

static unsigned int get(off_t offset, size_t len)
{
	uint16_t value = 0;

	if (pread(config, &value, len, offset) != (ssize_t)len) {
		perror("read of the port's configuration");
		exit(EXIT_FAILURE);
	}
	return value;
}

static void set(off_t offset, uint16_t value)
{
	if (pwrite(config, &value, sizeof(value), offset) != sizeof(value)) {
		perror("write to the port's configuration");
		exit(EXIT_FAILURE);
	}
}

int main(int argc, char **argv)
{
	char function[PATH_MAX], name[PATH_MAX + 16];
	uint16_t control;
	off_t slot;

	if (argc != 2 || !realpath(argv[1], function)) {
		fprintf(stderr, "usage: yank FUNCTION\n");
		return EXIT_FAILURE;
	}
	snprintf(name, sizeof(name), "%s/../config", function);
	config = open(name, O_RDWR | O_CLOEXEC);
	if (config < 0) {
		perror(name);
		return EXIT_FAILURE;
	}
	slot = get(PCI_CAPABILITY_LIST, 1);
	while (slot && get(slot, 1) != PCI_CAP_ID_EXP)
		slot = get(slot + 1, 1);
	if (!slot) {
		fprintf(stderr, "%s: no PCI Express port\n", name);
		return EXIT_FAILURE;
	}
	slot += PCI_EXP_SLTCTL;

	control = get(slot, 2);
	set(slot, (control & ~PCI_EXP_SLTCTL_HPIE) | PCI_EXP_SLTCTL_PWR_OFF |
	    PCI_EXP_SLTCTL_PWR_IND_OFF);
	/* As it was, but that a change of presence interrupts. */
	set(slot, control | PCI_EXP_SLTCTL_PDCE);
	while (!access(function, F_OK))
		usleep(1000);
	/* Power first, the indicator last: remove_board() of pciehp_ctrl.c */
	while ((get(slot, 2) & (PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PIC)) !=
	       (PCI_EXP_SLTCTL_PWR_OFF | PCI_EXP_SLTCTL_PWR_IND_OFF))
		usleep(1000);
	return EXIT_SUCCESS;
}
