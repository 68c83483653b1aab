#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of users.t. Wants large BARs for its first part.
# shellcheck disable=SC2154 # $class comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# Rounds of those who are killed and the like, and of memory that is used again;
# seconds that nobody may be kept waiting, and a process may take to end.
kills=20
uses=20
patience=1
limit=5
if [[ ${LAB_LONG:-} ]]; then
	kills=1000
	uses=1000
fi
if [[ $LAB_KERNEL == debug ]]; then
	kills=$((kills / 2))
	uses=$((uses / 2))
	patience=10
	limit=30
fi

export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib

nothing_is_left()
{
	[[ $(bytes_free "$bar") == "$size" &&
	   $(rdma resource show mr | wc -l) == 0 ]]
}

soon_nothing_left()
{
	local tries
	for ((tries = 0; tries < 10 * limit; tries++)); do
		nothing_is_left && return
		sleep 0.1
	done
	echo "# $(bytes_free "$bar") bytes free, MRs: $(rdma resource show mr)"
	return 1
}

bar=$(iopmem-bind bar0)
bar0=$(pci_path bar0)
disk=$(disk_of nvme1)
rxe-up
modprobe -a iopmem_peer importer
chgrp 100 "$disk" /dev/importer
chmod 660 "$disk" /dev/importer

size=$(<"$class/${bar##*/}/size")
tap_run "stall" stall "$bar" $((size / 16)) $((size / 16 * 15)) $patience
tap_run "alloc_beside" alloc_beside "$bar" $((size / 16 * 15)) $uses
tap_run "ends" as-user ends dmabuf "$bar" "$(may_allocate "$bar0")" \
	$kills
# DISK_RATE of reuse.c
lab-host throttle nvme1 10
tap_run "reuse" as-user reuse dmabuf "$bar" "$disk" $((4 * uses))
lab-host throttle nvme1 0

tap_ok "in the end nothing is left" soon_nothing_left
tap_ok "nothing holds the importer" rmmod importer
tap_ok "nor iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
