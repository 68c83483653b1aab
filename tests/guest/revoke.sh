#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of revoke.t: every way in which BAR memory can be taken from
# RDMA, and RDMA from its users, while ordinary users' traffic goes on.
# shellcheck disable=SC2154 # $pci and $class come from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# Seconds that an unbind and the like may take.
limit=5
# KASAN and lockdep under TCG: the figure that counts is the other kernel's.
[[ $LAB_KERNEL != debug ]] || limit=30

# revoked NAME SECONDS PATH GONE BACK: GONE and BACK are functions.
revoked()
{
	local name=$1 seconds=$2 path=$3
	serve gone "$4"
	serve back "$5"
	tap_run "$name" as-user timeout 200 verbs_revoke \
		-f "$(may_allocate "$path")" "$(node_of "$path")" "$bar1" \
		"$seconds" "$(asks gone)" "$(asks back)"
	serve_nobody
}

unbind_bar0() { unbind "$bar0"; }
bind_bar0() { iopmem-bind bar0; }
unplug_bar0() { lab-host device_del bar0; }
replug_bar0() { plug_in bar0 && iopmem-bind bar0; }
reset_bar0() { echo 1 >"$bar0/reset"; }
fatal_error_bar0() { port_error fatal "$bar0"; }
suspend_devices() { env suspend; }	# not the shell's
same_bar0() { node_of "$bar0"; }
unbind_nvme0() { unbind "$nvme0"; }
bind_nvme0()
{
	echo "${nvme0##*/}" >$pci/drivers/nvme/bind
	iopmem-bind nvme0
}
detach_nvme0() { detach "$nvme0"; }
attach_nvme0() { iopmem-bind nvme0; }

traffic_on_bar0()
{
	start_traffic -f "$(may_allocate "$bar0")" "$(node_of "$bar0")" "$bar1"
}

nothing_left()
{
	tap_is "$1: all of bar0 is free" "$(bytes_free "$(node_of "$bar0")")" \
		"$(<"$class/$(basename "$(node_of "$bar0")")/size")"
}

killed()
{
	local start
	traffic_on_bar0
	start=$SECONDS
	stop_traffic
	tap_ok "kill -9: the process ends" test $((SECONDS - start)) -le $limit
	nothing_left "kill -9"
	tap_is "kill -9: no MR is left" "$(rdma resource show mr | wc -l)" 0
}

# rxe does not wait for the users of a link that is to be deleted; reverse.t has
# what they see of it.
link_deleted()
{
	local start
	traffic_on_bar0
	start=$SECONDS
	tap_ok "rdma link del" rdma link del rxe0
	tap_ok "it ends soon" test $((SECONDS - start)) -le $limit
	tap_is "no link is left" "$(rdma link show | wc -l)" 0
	tap_ok "its user is" kill -0 "$traffic"
	stop_traffic
	nothing_left "rdma link del"
	rdma link add rxe0 type rxe netdev lo
}

modules_in_use()
{
	traffic_on_bar0
	tap_ok "rmmod iopmem_peer with MRs: busy" is_busy iopmem_peer
	tap_ok "rmmod iopmem with MRs: busy" is_busy iopmem
	tap_ok "the traffic goes on" kill -0 "$traffic"
	stop_traffic
	tap_is "the traffic saw nothing of it" \
		"$(grep -c '^not ok' /tmp/traffic.log)" 0
	nothing_left "rmmod"
}

# A frozen file system is one in whose mappings a write waits.
blocked()
{
	local disk folder=/tmp/frozen
	disk=$(disk_of nvme1)
	mkfs.ext4 -q -F "$disk"
	mkdir -p $folder
	mount "$disk" $folder
	dd if=/dev/zero of=$folder/file bs=4096 count=1 status=none
	fsfreeze -f $folder
	tap_run "faults that wait" timeout 400 verbs_blocked \
		"$(node_of "$bar0")" $folder/file $limit \
		"$(in_shell unbind "$bar0")"
	fsfreeze -u $folder
	umount $folder
	bind_bar0 >/dev/null
}

bar0=$(pci_path bar0)
nvme0=$(pci_path nvme0)
iopmem-bind bar0 >/dev/null
iopmem-bind nvme0 >/dev/null
bar1=$(iopmem-bind bar1)
rxe-up
modprobe iopmem_peer

revoked "unbind" $limit "$bar0" unbind_bar0 bind_bar0
revoked "detach" $limit "$nvme0" detach_nvme0 attach_nvme0
revoked "unbind of the nvme driver" $limit "$nvme0" unbind_nvme0 bind_nvme0
killed
link_deleted
modules_in_use
blocked

slots_change
# pciehp waits 5 s after the button before it does anything.
revoked "unplugging" $((limit + 6)) "$bar0" unplug_bar0 replug_bar0
if [[ -e $bar0/reset ]]; then
	revoked "reset" $limit "$bar0" reset_bar0 same_bar0
else
	tap_skip "the device offers none" "reset"
fi
# The kernel resets the link, and the script looks for what it says of that.
revoked "fatal PCIe error" $((limit + 10)) "$bar0" fatal_error_bar0 same_bar0
# bar0 has just been found again, so it is what suspend needs.
revoked "suspend" $limit "$bar0" suspend_devices same_bar0

tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
