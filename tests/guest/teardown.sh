#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of teardown.t.
# shellcheck disable=SC2154 # $pci comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# Seconds that it may take, and MRs that are made while the dead ones remain:
# in the long run more than there are keys.
limit=5
keys=20000
[[ ! ${LAB_LONG:-} ]] || keys=1100000
# KASAN and lockdep under TCG: the figures that count are the other kernel's.
[[ $LAB_KERNEL != debug ]] || { limit=30; keys=5000; }

export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib

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
	tap_run "$name" as-user timeout 600 teardown -k $keys \
		-f "$(may_allocate "$path")" -D dmabuf -g "$(asks gone)" \
		-d "if [ -e /tmp/digested ]; then $(asks second); else touch /tmp/digested; $(asks first); fi" \
		-b "$(asks back)" "${options[@]}" \
		"$(node_of "$path")" "$bar1" "$seconds"
	serve_nobody
}

digest_bar0() { lab-host digest bar0; }
digest_nvme0() { lab-host digest nvme0; }

# fails_at_once CMD...: and does not wait before.
fails_at_once()
{
	local start=${EPOCHREALTIME/./}
	if "$@" 2>/dev/null || ((${EPOCHREALTIME/./} - start >= 1000000 * limit)); then
		echo "$*: not refused at once"
		exit 1
	fi
}

unbind_bar0()
{
	fails_at_once rmmod iopmem_peer
	fails_at_once rmmod iopmem
	timed unbind "$bar0"
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
}

function_level_reset()
{
	if ! grep -qw flr "$nvme0/reset_method"; then
		tap_skip "no device here has one" "function-level reset"
		return
	fi
	take_over_nvme0
	echo flr >"$nvme0/reset_method"
	torn_down "function-level reset" $limit nvme0 reset_nvme0 same_nvme0 \
		nvme1
	unbind "$nvme0"
}

reset_nvme0() { timed reset_function; }
reset_function() { echo 1 >"$nvme0/reset"; }
same_nvme0() { node_of "$nvme0"; }

nothing_left()
{
	local node
	for node in /dev/iopmem*; do
		tap_is "all of $node is free" "$(bytes_free "$node")" \
			"$(<"$class/${node##*/}/size")"
	done
	tap_is "no MR is left" "$(rdma resource show mr | wc -l)" 0
}

bar0=$(pci_path bar0)
nvme0=$(pci_path nvme0)
iopmem-bind bar0 >/dev/null
bar1=$(iopmem-bind bar1)
iopmem-bind nvme0 >/dev/null
disk_of nvme1 >/dev/null
rxe-up
modprobe iopmem_peer
# so that some of its requests are in flight whenever it happens
lab-host throttle nvme1 200

torn_down "unbind" $limit bar0 unbind_bar0 bind_bar0 nvme1
torn_down "unbind of the nvme driver" $limit nvme0 unbind_nvme0 bind_nvme0 \
	nvme1 nvme0
function_level_reset

slots_change
# pciehp waits 5 s after the button before it does anything, and the host polls.
torn_down "unplugging" $((limit + 10)) bar0 unplug_bar0 replug_bar0 nvme1
# And a second after, until the slot is off.
torn_down "surprise removal" $((limit + 1)) bar0 yank_bar0 replug_bar0 nvme1

nothing_left
tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
