#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of p2p.t: p2p.sh [ERRNO]. O_DIRECT between the NVMe drives
# and BAR memory; with ERRNO, it has to be refused.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

bar=$(iopmem-bind bar0)
cmb=$(iopmem-bind nvme0)
disk=$(disk_of nvme1)
cmb_disk=$(disk_of nvme0)
pattern=$LAB_OUT/pattern

if [[ $# == 1 ]]; then
	tap_run "mapping" direct -e "$1" "$disk" "$bar" 1M -
	tap_run "dma-buf" direct -b -e "$1" "$disk" "$bar" 1M -
	tap_run "CMB of another drive" direct -e "$1" "$disk" "$cmb" 64K -
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
