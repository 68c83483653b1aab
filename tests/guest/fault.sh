#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of fault.t: what iopmem does, with each of its allocations
# failing once; with LAB_LONG all of it. As root, who alone may make them fail.
#
#	fault.sh [OPERATION...]
#
# The lab looks for leaks of the kernel's when this has ended.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

bar0=$(pci_path bar0)
nvme0=$(pci_path nvme0)
iopmem-bind bar0 >/dev/null
disk_of nvme0 >/dev/null
rxe-up
modprobe -a iopmem_peer importer
# Not from the lab's root: 9p opens nothing more after some of its allocations
# have failed.
modules=/tmp/modules
mkdir -p $modules
modprobe -S "$(uname -r)" --show-depends iopmem_peer |
	awk '/\/iopmem(_peer)?[.]ko/ { print $2 }' | xargs cp -t $modules

if [[ ! -d /sys/kernel/debug/failslab ]]; then
	tap_skip "this kernel injects no faults" "faults"
	tap_done
	exit
fi

# faults NAME ARG...
faults()
{
	local name=$1
	shift
	tap_run "$name" timeout 7200 fault_injection "$@"
}

# A few operations are enough to see where time goes, and what fails.
if (($#)); then
	faults "some" -m "$modules" "$bar0" "$nvme0" "$@"
	tap_done
	exit
fi

quick=()
dma=(reg_mr-dma reg_mr-dma-dmabuf dereg_mr-dma unbind-dma)
door=(reg dereg)
if [[ ! ${LAB_LONG:-} ]]; then
	quick=(alloc mmap touch reg_mr dereg_mr import-attach import-map unbind
		unbind-fences)
	dma=(reg_mr-dma)
fi
faults "mappings" -m "$modules" "$bar0" "$nvme0" "${quick[@]}"
# whoever loads the modules, this one ends with all of them
faults "dma-buf by peer memory" -d peer "$bar0" "$nvme0" ${quick:+"${door[@]}"}
export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib
faults "ibv_reg_dmabuf_mr" -d verbs "$bar0" "$nvme0" ${quick:+"${door[@]}"}
faults "iopmem_reg_mr" -d dmabuf "$bar0" "$nvme0" "${door[@]}"
unset LD_LIBRARY_PATH

tap_ok "nothing holds the importer" rmmod importer
# which had that device
modprobe edu_hca
faults "DMA" "$bar0" "$nvme0" "${dma[@]}"

tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor edu_hca" rmmod edu_hca
tap_ok "nor iopmem" rmmod iopmem
tap_done
