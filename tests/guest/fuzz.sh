#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of fuzz.t: random calls by ordinary users and by root, on
# bar0 and on nvme0's CMB, while these come and go, or while they stay.
#
#	fuzz.sh		seed 1 and a random one
#	fuzz.sh SEED	that one
# shellcheck disable=SC2154 # $class comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

steps=2000
threads=4
[[ $LAB_KERNEL != debug ]] || steps=250
[[ ! ${LAB_LONG:-} ]] || steps=$((steps * 30))
limit=$((60 + steps / 10))
seeds=("$@")
((${#seeds[@]})) || seeds=(1 $((RANDOM << 15 | RANDOM)))

nothing_left()
{
	local path node
	for path in "$bar0" "$nvme0"; do
		node=$(node_of "$path")
		tap_is "$1: all of ${path##*/} is free" "$(bytes_free "$node")" \
			"$(<"$class/${node##*/}/size")"
		tap_is "$1: it is in the pool of ${path##*/}" \
			"$(<"$path/p2pmem/available")" "${available[$path]}"
	done
	tap_is "$1: no MR is left" "$(rdma resource show mr | wc -l)" 0
}

# fuzzed NAME SEED WHO ARG...: WHO runs it
fuzzed()
{
	local name="$1, seed $2"
	tap_run "$name" $3 timeout $limit fuzz -s "$2" -t $threads "${@:4}" \
		"$disk" "$bar0" "$nvme0"
}

# calls SEED FILE: what one thread does, and nobody else
calls()
{
	fuzz -s "$1" -t 1 -c -v -n 300 "$disk" "$bar0" "$nvme0" 2>"$2" \
		>/tmp/results
}

replayed()
{
	calls "$1" /tmp/calls
	calls "$1" /tmp/calls.again
	calls 0 /tmp/calls.other
	tap_ok "seed $1 does the same again" cmp /tmp/calls /tmp/calls.again
	tap_ok "another one does not" test "$(</tmp/calls.other)" != "$(</tmp/calls)"
}

undisturbed()
{
	fuzzed "undisturbed$3" "$1" "$2" -c -n $((steps / 2))
	nothing_left "undisturbed$3, seed $1"
}

disturbed()
{
	local disturber status=0
	disturb "$1" "$bar0" "$nvme0" &
	disturber=$!
	fuzzed "disturbed$3" "$1" "$2" -n $steps
	kill $disturber
	wait $disturber || status=$?
	tap_result $status "disturbed$3, seed $1: the memory comes back"
	nothing_left "disturbed$3, seed $1"
}

debians_rdma_core() { unset LD_LIBRARY_PATH; }
our_rdma_core() { export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib; }

bar0=$(pci_path bar0)
nvme0=$(pci_path nvme0)
iopmem-bind bar0 >/tmp/node
iopmem-bind nvme0 >/tmp/node
declare -A available
for path in "$bar0" "$nvme0"; do
	available[$path]=$(<"$path/p2pmem/available")
done
disk=$(disk_of nvme1)
chgrp 100 "$disk"
chmod 660 "$disk"
rxe-up
modprobe -a iopmem_peer importer
chgrp 100 /dev/importer
chmod 660 /dev/importer

replayed "${seeds[0]}"
for seed in "${seeds[@]}"; do
	debians_rdma_core
	undisturbed "$seed" as-user ""
	our_rdma_core
	disturbed "$seed" as-user ""
	undisturbed "$seed" "" ", root"
	debians_rdma_core
	disturbed "$seed" "" ", root"
done

tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor the importer" rmmod importer
tap_ok "nor iopmem" rmmod iopmem
tap_done
