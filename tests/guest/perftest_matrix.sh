#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Each tool of perftest, with each connection it has, from 1 byte to 8 MiB, with
# PCI memory on one side or on both, registered in both ways; what arrives is
# compared with what was sent. Without LAB_LONG the ways take turns.
# shellcheck disable=SC2034 # for perftest_pair.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/perftest_pair.sh

# 8 MiB of system memory are more than a user may lock
as=()

# on_sides RECEIVER NAME TOOL ARG...
turn=0
on_sides()
{
	local receiver=$1 name=$2
	local ways=(--use_p2p --use_p2p_dmabuf)
	shift 2
	turn=$((turn + 1))
	for way in 0 1; do
		local pci=${ways[way]}
		if [[ ${LAB_LONG:-} || $way == $((turn % 2)) ]]; then
			server=("$pci" --p2p_dev=/dev/iopmem1)
			client=("${ways[1 - way]}")
			arrives "$receiver" "$name, to $pci from the other" "$@"
		fi
		if [[ ${LAB_LONG:-} || $way == $((turn / 2 % 2)) ]]; then
			server=("$pci" --p2p_dev=/dev/iopmem1) client=()
			[[ ! ${LAB_LONG:-} && $((turn / 4 % 2)) == 1 ]] ||
				arrives "$receiver" "$name, to $pci" "$@"
			server=() client=("$pci")
			[[ ! ${LAB_LONG:-} && $((turn / 4 % 2)) == 0 ]] ||
				arrives "$receiver" "$name, from $pci" "$@"
		fi
	done
}

# sizes_of TOOL CONNECTION: UD messages end at the MTU. The only byte of a write
# would be the one that the latency test counts in.
sizes_of()
{
	if [[ $1 == ib_write_lat ]]; then
		echo 2 4096 8388608
	elif [[ $2 == UD ]]; then
		echo 1 2048
	else
		echo 1 4096 8388608
	fi
}

# tool RECEIVER TOOL CONNECTION...
tool()
{
	local receiver=$1 tool=$2 connection size
	shift 2
	for connection; do
		for size in $(sizes_of "$tool" "$connection"); do
			on_sides "$receiver" "$tool, $connection, $size" \
				"$tool" -c "$connection" -s "$size" -n 5
		done
	done
}

[[ $(iopmem-bind bar0) == /dev/iopmem0 ]]
[[ $(iopmem-bind bar1) == /dev/iopmem1 ]]
rxe-up
modprobe iopmem_peer
# rxe's provider in it knows dma-bufs
export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib

tool server ib_write_bw RC UC
tool both ib_write_lat RC UC
tool client ib_read_bw RC
tool client ib_read_lat RC
tool server ib_send_bw RC UC UD
tool both ib_send_lat RC UC UD
for tool in ib_atomic_bw ib_atomic_lat; do
	on_sides server "$tool" $tool -n 200 -A FETCH_AND_ADD
done

for device in iopmem0 iopmem1; do
	tap_ok "nothing of $device is held any more" \
		cmp "/sys/class/iopmem/$device/free" "/sys/class/iopmem/$device/size"
done
tap_done
