#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of p2p.t: p2p.sh VERDICT [ERRNO]. O_DIRECT between the NVMe
# drives and BAR memory; with ERRNO, it has to be refused. VERDICT is what
# libiopmem has to say of it.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

bar=$(iopmem-bind bar0)
cmb=$(iopmem-bind nvme0)
disk=$(disk_of nvme1)
cmb_disk=$(disk_of nvme0)
pattern=$LAB_OUT/pattern

tap_is "libiopmem's verdict" "$(libiopmem_route '' \
	"$(lab-host address nvme1)" "$(lab-host address nvme0)")" "$1"
if [[ $# == 2 ]]; then
	tap_run "mapping" direct -e "$2" "$disk" "$bar" 1M -
	tap_run "dma-buf" direct -b -e "$2" "$disk" "$bar" 1M -
	tap_run "CMB of another drive" direct -e "$2" "$disk" "$cmb" 64K -
else
	tap_run "mapping" direct "$disk" "$bar" 4M "$pattern" \
		lab-host find bar0 pattern
	tap_run "dma-buf" direct -b "$disk" "$bar" 4M "$pattern" \
		lab-host find bar0 pattern
	tap_run "CMB of another drive" direct "$disk" "$cmb" 256K "$pattern"
	tap_run "mapping, drive with CMB" direct "$cmb_disk" "$bar" 4M \
		"$pattern" lab-host find bar0 pattern
fi
tap_run "the drive's own CMB" direct "$cmb_disk" "$cmb" 64K "$pattern"
tap_done
