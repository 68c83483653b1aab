#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of dma.t: dma.sh KIND. MRs of a device that has DMA, on memory
# that it reaches by addresses of this KIND (see hca_dma.c), or by none.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

kind=$1
# what the topology has to do with it is where DMA goes, not how it ends
rounds=5
[[ $kind != bus ]] || rounds=20
if [[ ${LAB_LONG:-} ]]; then
	rounds=1000
	[[ $LAB_KERNEL != debug ]] || rounds=100
fi
# Seconds that an unbind may take. KASAN and lockdep under TCG: the figure that
# counts is the other kernel's.
limit=5
[[ $LAB_KERNEL != debug ]] || limit=30

bar0=$(iopmem-bind bar0)
bar1=$(iopmem-bind bar1)
cmb=$(iopmem-bind nvme0)
resource=$(pci_path edu)/resource0
modprobe iopmem_peer
modprobe edu_hca

# What the registration on that memory says, and the log
unreachable()
{
	log_from_here
	tap_run "$1" hca_refused edu_hca0 "$2" EREMOTEIO
	tap_ok "$1: the log says why a mapping is refused" logged \
		"edu_hca .* do not share an upstream bridge or whitelisted host bridge"
	tap_ok "$1: and a dma-buf" logged \
		"edu_hca .*: no PCIe route to this memory"
}

case $kind in
none)
	unreachable "BAR" "$bar0"
	unreachable "CMB" "$cmb"
	;;
iova)
	tap_run "BAR" hca_dma edu_hca0 iova "$bar0" "$bar1" "$resource"
	tap_run "CMB" hca_dma edu_hca0 iova "$cmb" "$bar1" "$resource"
	;;
*)
	tap_run "BAR" hca_dma edu_hca0 "$kind" "$bar0" "$bar1"
	tap_run "CMB" hca_dma edu_hca0 "$kind" "$cmb" "$bar1"
	;;
esac
if [[ $kind != none ]]; then
	unbind "$(pci_path bar0)"
	tap_run "revocation" hca_revoke edu_hca0 "$kind" bar0 $rounds \
		$limit "$resource"
fi

tap_ok "nothing holds edu_hca" rmmod edu_hca
tap_ok "nor iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
