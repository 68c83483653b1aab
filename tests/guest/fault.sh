#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of fault.t: all that iopmem does, with each of its
# allocations failing once. As root, who alone may make them fail.
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
modules=$(dirname "$(modprobe -S "$(uname -r)" --show-depends iopmem |
	awk '/iopmem.ko/ { print $2 }')")

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
	tap_run "$name" timeout 1800 fault_injection "$@"
}

# A few operations are enough to see where time goes, and what fails.
if (($#)); then
	faults "some" -m "$modules" "$bar0" "$nvme0" "$@"
	tap_done
	exit
fi

faults "mappings" -m "$modules" "$bar0" "$nvme0"
# whoever loads the modules, this one ends with all of them
faults "dma-buf by peer memory" -d peer "$bar0" "$nvme0"
export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib
faults "ibv_reg_dmabuf_mr" -d verbs "$bar0" "$nvme0"
faults "iopmem_reg_mr" -d dmabuf "$bar0" "$nvme0" reg dereg
unset LD_LIBRARY_PATH

tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor the importer" rmmod importer
tap_ok "nor iopmem" rmmod iopmem
tap_done
