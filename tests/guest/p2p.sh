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

# fio_on DISK MEMORY: writes 4 MiB, reads them and looks at them; its buffers are
# memory of the device. It opens the node with O_CREAT.
fio_on()
{
	fio --name=p2p --filename="$1" --mem=mmapshared:"$2" --direct=1 \
		--ioengine=libaio --rw=randwrite --bs=64k --iodepth=4 \
		--size=4M --verify=crc32c --verify_fatal=1
}

# fio_works NAME DISK MEMORY
fio_works()
{
	lab-host dma-start
	tap_ok "$1: fio" fio_on "$2" "$3"
	tap_is "$1: what the drive moved to and from BARs, and DRAM" \
		"$(lab-host dma-count)" "$((8 << 20)) 0"
}

tap_is "libiopmem's verdict" "$(libiopmem_route '' \
	"$(lab-host address nvme1)" "$(lab-host address nvme0)")" "$1"
if [[ $# == 2 ]]; then
	tap_run "mapping" direct -e "$2" "$disk" "$bar" 1M -
	tap_run "dma-buf" direct -b -e "$2" "$disk" "$bar" 1M -
	tap_run "CMB of another drive" direct -e "$2" "$disk" "$cmb" 64K -
	fio_on "$disk" "$bar" >/tmp/fio 2>&1 || status=$?
	tap_is "fio fails" "${status:-0}" 1
	tap_ok "and says why" grep "Remote I/O error" /tmp/fio
else
	tap_run "mapping" direct "$disk" "$bar" 4M "$pattern" \
		lab-host find bar0 pattern
	tap_run "dma-buf" direct -b "$disk" "$bar" 4M "$pattern" \
		lab-host find bar0 pattern
	tap_run "CMB of another drive" direct "$disk" "$cmb" 256K "$pattern"
	tap_run "mapping, drive with CMB" direct "$cmb_disk" "$bar" 4M \
		"$pattern" lab-host find bar0 pattern
	fio_works "mapping" "$disk" "$bar"
	fio_works "CMB of another drive" "$disk" "$cmb"
fi
tap_run "the drive's own CMB" direct "$cmb_disk" "$cmb" 64K "$pattern"
fio_works "the drive's own CMB" "$cmb_disk" "$cmb"
tap_done
