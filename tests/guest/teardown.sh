#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of teardown.t: each way in which a device goes, then rounds of
# ways that chance chooses. A round's number is its seed; LAB_SEED is the first.
# shellcheck disable=SC2154 # $pci comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# Seconds that it may take, MRs that are made while the dead ones remain, more than
# rxe has keys (524,288) where it says all, and rounds.
limit=5
keys=20000
all_keys=530000
rounds=20
if [[ ${LAB_LONG:-} ]]; then
	keys=$all_keys
	rounds=1000
fi
# KASAN and lockdep under TCG: the figures that count are the other kernel's.
if [[ $LAB_KERNEL == debug ]]; then
	limit=30
	keys=5000
	all_keys=$keys
	rounds=$((rounds / 5))
fi
seed=${LAB_SEED:-1}

export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib

# How a teardown is reported: all its results, or, in rounds, one. A round does not
# look at the whole of the memory: that takes half of its time.
report=tap_run

# torn_down NAME SECONDS ID GONE BACK DISK...: GONE and BACK are functions.
torn_down()
{
	local name=$1 seconds=$2 path disk options=()
	path=$(pci_path "$3")
	serve gone "$4"
	serve first "digest_$3"
	serve second "digest_$3"
	serve back "$5"
	shift 5
	for disk; do
		options+=(-o "$(disk_of "$disk")")
		chgrp 100 "${options[-1]}"
		chmod 640 "${options[-1]}"
	done
	rm -f /tmp/digested
	[[ $report != tap_run ]] ||
		options+=(-d "if [ -e /tmp/digested ]; then $(asks second); else touch /tmp/digested; $(asks first); fi")
	$report "$name" as-user timeout 600 teardown -k $keys \
		-f "$(may_allocate "$path")" -D dmabuf -g "$(asks gone)" \
		-b "$(asks back)" "${options[@]}" \
		"$(node_of "$path")" "$bar1" "$seconds"
	serve_nobody
}

digest_bar0() { lab-host digest bar0; }
digest_nvme0() { lab-host digest nvme0; }

unbind_bar0()
{
	is_busy iopmem_peer && is_busy iopmem && timed unbind "$bar0"
}

bind_bar0() { iopmem-bind bar0; }
unplug_bar0() { timed lab-host device_del bar0; }
yank_bar0() { timed yank "$bar0"; }
replug_bar0() { plug_in bar0 && iopmem-bind bar0; }
unbind_nvme0() { timed unbind "$nvme0"; }
bind_nvme0()
{
	echo "${nvme0##*/}" >$pci/drivers/nvme/bind
	iopmem-bind nvme0
}

# The one function here that can be reset by itself is a drive. With iopmem as
# its driver, its CMB is as good a BAR as any.
take_over_nvme0()
{
	local node
	unbind "$nvme0"
	echo iopmem >"$nvme0/driver_override"
	echo "${nvme0##*/}" >$pci/drivers_probe
	node=$(node_of "$nvme0")
	chgrp 100 "$node"
	chmod 660 "$node"
	echo flr >"$nvme0/reset_method"
}

hand_over_nvme0()
{
	unbind "$nvme0"
	echo >"$nvme0/driver_override"
	bind_nvme0 >/dev/null
}

reset_nvme0() { timed reset_function; }
reset_function() { echo 1 >"$nvme0/reset"; }
same_nvme0() { node_of "$nvme0"; }

# The ways: those in which the slot stays as it is, and the others.
staying=(unbound unbound_from_nvme reset_by_function)
leaving=(unplugged yanked)

unbound()
{
	torn_down "$1unbind" $limit bar0 unbind_bar0 bind_bar0 nvme1
}

unbound_from_nvme()
{
	torn_down "$1unbind of the nvme driver" $limit nvme0 unbind_nvme0 \
		bind_nvme0 nvme1 nvme0
}

reset_by_function()
{
	if ! grep -qw flr "$nvme0/reset_method"; then
		tap_skip "no device here has one" "$1function-level reset"
		return
	fi
	take_over_nvme0
	torn_down "$1function-level reset" $limit nvme0 reset_nvme0 same_nvme0 \
		nvme1
	hand_over_nvme0
}

# pciehp waits 5 s after the button before it does anything.
unplugged()
{
	torn_down "$1unplugging" $((limit + 6)) bar0 unplug_bar0 replug_bar0 \
		nvme1
}

# And a second after, until the slot is off.
yanked()
{
	torn_down "$1surprise removal" $((limit + 1)) bar0 yank_bar0 \
		replug_bar0 nvme1
}

# slow_disk NAME PATH SIZE RATE: it is unbound while a disk reads into its memory
# that does RATE requests a second.
slow_disk()
{
	local disk
	disk=$(disk_of nvme1)
	lab-host throttle nvme1 "$4"
	log_from_here
	tap_run "$1 under a slow disk" timeout 300 direct_gone "$disk" \
		"$(node_of "$2")" "$3" $limit "$(in_shell unbind "$2")"
	tap_ok "$1 under a slow disk: the log says what it waits for" logged \
		"pages are still in use"
	lab-host throttle nvme1 $rate
}

slow_disks()
{
	slow_disk "unbind" "$bar0" 8M 1
	bind_bar0 >/dev/null
	slow_disk "unbind of the nvme driver" "$nvme0" 64K 1
	bind_nvme0 >/dev/null
}

each_once()
{
	local way
	for way; do
		$way ""
	done
}

# random_rounds COUNT WAY...
random_rounds()
{
	local count=$1 ways=("${@:2}") report=tap_ok keys=100
	while ((count--)); do
		RANDOM=$seed
		LAB_SEED=$seed "${ways[RANDOM % ${#ways[@]}]}" "round $seed: "
		seed=$((seed + 1))
	done
}

nothing_left()
{
	local node
	for node in /dev/iopmem*; do
		tap_is "all of $node is free" "$(bytes_free "$node")" \
			"$(<"$class/${node##*/}/size")"
	done
	tap_is "all of the CMB that nvme leaves is in its pool" \
		"$(<"$nvme0/p2pmem/available")" "$available"
	tap_is "no MR is left" "$(rdma resource show mr | wc -l)" 0
}

bar0=$(pci_path bar0)
nvme0=$(pci_path nvme0)
iopmem-bind bar0 >/dev/null
bar1=$(iopmem-bind bar1)
iopmem-bind nvme0 >/dev/null
available=$(<"$nvme0/p2pmem/available")
disk_of nvme1 >/dev/null
rxe-up
modprobe iopmem_peer
# so that some of its requests are in flight whenever it happens
rate=200
lab-host throttle nvme1 $rate

keys=$all_keys unbound ""
each_once "${staying[@]:1}"
slow_disks
random_rounds $((rounds / 2)) "${staying[@]}"
slots_change
each_once "${leaving[@]}"
random_rounds $((rounds - rounds / 2)) "${staying[@]}" "${leaving[@]}"

nothing_left
tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
