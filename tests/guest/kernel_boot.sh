#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of kernel_boot.t: udevd with the distribution's rules and
# ours, which are copied into folders that cover the host's.
# shellcheck disable=SC2154 # $pci and $class come from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

installed=$LAB_BUILD/kernel_boot/root
conf=/etc/rdma/iopmem.conf

# cover FOLDER: by a copy that can be changed, with ours in it
cover()
{
	local copy=/run/cover$1
	mkdir -p "$copy"
	cp -a "$1/." "$copy"
	[[ ! -d $installed$1 ]] || cp -a "$installed$1/." "$copy"
	mount --bind "$copy" "$1"
}

# trigger ACTION PATH...: and wait until udevd has done what it does then.
trigger()
{
	local action=$1
	shift
	udevadm trigger --action="$action" "$@"
	udevadm settle --timeout=60
}

# property NODE NAME: of udev's database
property()
{
	udevadm info --query=property --property="$2" --value "/dev/$1"
}

# node_is_right NAME PATH LINK
node_is_right()
{
	local what=$1 node
	node=$(node_of "$2")
	tap_is "$what: owner and mode" "$(stat -c '%U:%G %a' "$node")" \
		"root:rdma 660"
	tap_is "$what: its name by path" \
		"$(readlink -f "/dev/iopmem/by-path/pci-${2##*/}")" "$node"
	tap_ok "$what: systemd is told" grep -qw systemd \
		<<<"$(property "${node##*/}" TAGS)"
	tap_is "$what: and what it loads" \
		"$(property "${node##*/}" SYSTEMD_WANTS)" \
		"rdma-load-modules@iopmem.service"
}

# by_member GROUP CMD...: as a user who is in that group
by_member()
{
	setpriv --reuid 65534 --regid 65534 --groups "$(getent group "$1" |
		cut -d : -f 3)" --inh-caps=-all --bounding-set=-all "${@:2}"
}

# modules_in FOLDER: where udevd's programs look, which have a PATH of their own
modules_in()
{
	echo "ENV{MODPROBE_OPTIONS}=\"-d $1 -C /run/lab/modprobe.d\"" \
		>/usr/lib/udev/rules.d/00-lab.rules
}

nothing_there()
{
	[[ ! -e $class && ! -e /dev/iopmem0 ]] && ! lsmod | grep iopmem
}

cover /usr/lib/udev
cover /etc/rdma
modules_in "$LAB_MODULES"
/usr/lib/systemd/systemd-udevd --daemon --resolve-names=late
bar0=$(pci_path bar0)
bar1=$(pci_path bar1)
nvme0=$(pci_path nvme0)

trigger add "$bar0" "$bar1" "$nvme0"
tap_ok "as installed, nothing is bound or loaded" nothing_there
tap_is "as installed, no module is loaded for memory" \
	"$(grep -v '^#' /etc/rdma/modules/iopmem.conf)" ""

# What cannot be done
edu=$(pci_path edu)
printf '%s bind\n' "${bar0##*/}" "${edu##*/}" >$conf
log_from_here
modules_in /nowhere
udevadm control --reload
trigger add "$bar0"
tap_ok "the module is missing: the log says so" \
	logged "iopmem-device: ${bar0##*/}: there is no module iopmem"
modules_in "$LAB_MODULES"
udevadm control --reload
trigger add "$edu"
tap_ok "a function without a BAR for it: the log says so" \
	logged "iopmem-device: ${edu##*/}: not bound: see above"
tap_is "below the kernel's reason" "$(logged "" | grep -B 2 "not bound" |
	grep -c "iopmem ${edu##*/}: no prefetchable memory BAR")" 1
tap_is "another driver may have the function" "$(cat "$edu/driver_override")" \
	"(null)"

# By address, with all that a file may have in it
log_from_here
cat >$conf <<END
# a comment
${bar0##*/} bind	# the first

${bar1##*/} bnid
0000:ff:1f.7 bind
END
printf '%s' "${nvme0##*/} bind" >>$conf
trigger add "$bar0" "$bar1"
tap_is "the function of the file is bound" \
	"$(readlink "$bar0/driver" | sed 's/.*[/]//')" iopmem
node_is_right "bound" "$bar0"
tap_ok "a bad line is reported" \
	logged 'iopmem-device: .*iopmem.conf:4: "bnid " is neither bind .* nor attach'
tap_ok "and binds nothing" test ! -e "$bar1/driver"

# How it is mapped
unbind "$bar0"
echo "${bar0##*/} bind cache=wc	# quick" >$conf
trigger add "$bar0"
tap_is "cache=wc" "$(cat "$bar0"/iopmem/iopmem*/cache)" wc
tap_is "for this function only" "$(cat /sys/module/iopmem/parameters/cache)" uc
log_from_here
echo "${bar1##*/} bind cache=wb" >$conf
trigger add "$bar1"
tap_ok "another mode is reported" \
	logged 'iopmem-device: .*iopmem.conf:1: "bind cache=wb" is neither bind .* nor attach'
unbind "$bar0"
echo "${bar0##*/} bind" >$conf
trigger add "$bar0"
tap_is "as the module has it" "$(cat "$bar0"/iopmem/iopmem*/cache)" uc
printf '%s' "${nvme0##*/} bind" >>$conf

# The last line: of a drive that has its driver
disk_of nvme0 >/dev/null
trigger add "$nvme0"
tap_is "a function that has a driver keeps it" \
	"$(readlink "$nvme0/driver" | sed 's/.*[/]//')" nvme
tap_ok "the log says so" logged "iopmem-device: ${nvme0##*/}: not bound: nvme is its driver"

# Attached by its kind, when its driver has it
cat >$conf <<END
1B36:0010 attach
1af4:1110 bind
END
unbind "$nvme0"
echo "${nvme0##*/}" >$pci/drivers/nvme/bind
udevadm settle --timeout=60
node_is_right "attached" "$nvme0"
log_from_here
trigger add "$nvme0"
tap_is "a second time, nothing is said" "$(logged iopmem-device)" ""
trigger add "$(pci_path nvme1)"
tap_ok "a drive without such memory: the log says why" \
	logged "iopmem-device: .*attach: .*"

# Hot-plug
trigger add "$bar1"
node_is_right "bound by its kind" "$bar1"
node=$(node_of "$bar1")
lab-host device_del bar1
udevadm settle --timeout=60
tap_ok "unplugged: node and name are gone" bash -c \
	"[[ ! -e $node && ! -L /dev/iopmem/by-path/pci-${bar1##*/} ]]"
plug_in bar1
bar1=$(pci_path bar1)
udevadm settle --timeout=60
node_is_right "plugged in again" "$bar1"

node=$(node_of "$bar0")
tap_ok "a user in group rdma uses it" by_member rdma mapping "$node" 1M
tap_ok "another is refused" bash -c \
	"$(declare -f by_member); ! by_member users bash -c 'exec 3<>$node'"
tap_done
