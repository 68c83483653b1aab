/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What the parts of libiopmem share. Not exported by the shared library; a
 * program that links the static one can call it on a recorded tree.
 *
 * Functions return 0 or a positive errno value unless they say otherwise. A
 * root is the folder that stands for /, "" for the running system.
 */
#ifndef LIBIOPMEM_INTERNAL_H
#define LIBIOPMEM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <infiniband/iopmem.h>

enum { PCI_ADDRESS_SIZE = sizeof(((struct iopmem_route *)NULL)->device) };

/* file.c: what a descriptor is. */

/* The open mode of a dma-buf, O_RDONLY or O_RDWR; EINVAL if it is none. */
int dmabuf_mode(int fd, int *mode);

/* PCI address of the function whose memory it is */
int provider_address(int fd, char address[PCI_ADDRESS_SIZE]);

/* mr_table.c: the MRs of this process. */

/**
 * struct mr_entry - what there is to undo for an MR
 * @mr: the MR, known to the kernel
 * @map: the library's mapping below it, or NULL
 * @map_len: bytes
 * @next: in its bucket of the table
 */
struct mr_entry {
	struct ibv_mr *mr;
	void *map;
	size_t map_len;
	struct mr_entry *next;
};

void mr_entry_free(struct mr_entry *entry);
void mr_table_add(struct mr_entry *entry);

/* Takes the entry out, for one caller only; NULL if there is none. */
struct mr_entry *mr_table_take(const struct ibv_mr *mr);

/* route.c: the verdict. */

/* @device: the RDMA device's name; route->provider is filled in. */
int find_rdma_route(const char *root, const char *device,
		    struct iopmem_route *route);

/* The same between two PCI functions; route->provider and device are. */
int find_pci_route(const char *root, struct iopmem_route *route);

/*
 * sysfs.c: reading a tree. A PCI function is its path below /sys/devices,
 * where the folder of a function is in that of the bridge above it, and the
 * topmost in the host bridge's: .../pci0000:00/0000:00:01.0/0000:01:00.0
 */

enum acs { ACS_OFF, ACS_REDIRECTS, ACS_UNKNOWN };

/* The last component of a path */
const char *sysfs_name(const char *path);

bool sysfs_is_pci_address(const char *name);

/* ENODEV if there is no such function */
int sysfs_pci_path(const char *root, const char *address, char *path);

/*
 * The PCI function of an RDMA device; "" if it is virtual or not on PCI.
 * ENODEV if there is no such RDMA device.
 */
int sysfs_rdma_address(const char *root, const char *device, bool *is_virtual,
		       char address[PCI_ADDRESS_SIZE]);

/* From a function to the bridge above; false: this is the host bridge now. */
bool sysfs_go_upstream(char *path);

/* Does this port redirect requests between peers to the host bridge? */
enum acs sysfs_acs(const char *path);

bool sysfs_is_bridge(const char *path);
bool sysfs_has_module(const char *root, const char *name);
bool sysfs_has_iommu(const char *path);

/* Vendor in the upper 16 bits, device in the lower; 0 if unreadable */
unsigned int sysfs_pci_id(const char *path);

/*
 * Names the function that stands for a host bridge: the first on its bus, if
 * that is device 0 function 0 or a root port. False if there is none.
 */
bool sysfs_host_bridge_function(const char *host_bridge,
				char address[PCI_ADDRESS_SIZE]);

/* An AMD processor of family 0x17 (Zen) or later */
bool sysfs_cpu_is_zen(const char *root);

#endif /* LIBIOPMEM_INTERNAL_H */
