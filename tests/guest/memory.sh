#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of memory.t. bar0 is bound, nvme0's CMB is attached. The
# CMB is trapped by QEMU and a hundred times slower: its sizes are small.
# shellcheck disable=SC2154 # $pci and $class come from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# sysfs_files NODE MODE ID
sysfs_files()
{
	local dir=$class/${1##*/} name=${1##*/}
	tap_is "$name: mode" "$(<"$dir/mode")" "$2"
	tap_ok "$name: cache mode" grep -qxE 'uc|wc' "$dir/cache"
	tap_is "$name: device link" "$(readlink -f "$dir/device")" \
		"$(readlink -f "$(pci_path "$3")")"
	tap_ok "$name: size is its BAR's" test "$(<"$dir/size")" = 67108864
}

# Where a byte really is: not in the guest's memory, but in the file behind
# the BAR.
in_backing_file()
{
	local before
	before=$(bytes_free "$1")
	tap_ok "the host finds the bytes of a mapping in bar0" \
		hold "$1" 256K "$LAB_OUT/pattern" lab-host find bar0 pattern
	tap_ok "and not in bar1" \
		hold "$1" 256K "$LAB_OUT/pattern" \
		bash -c '! lab-host find bar1 pattern'
	tap_is "sysfs shows it free again" "$(bytes_free "$1")" "$before"
}

permissions()
{
	local said
	tap_ok "a user of the group opens $1" as-user test -w "$1"
	said=$(as-stranger bash -c "exec 3<>$1" 2>&1) &&
		said="it could be opened"
	tap_ok "another user gets EACCES" grep -q "Permission denied" <<<"$said"
}

# Someone holds most of the memory: who else asks is told by whom, in the log.
names_the_holder()
{
	local holder i
	log_from_here
	# cat ends with our end of the pipe
	exec 3> >(as-user hold "$1" 48M /tmp/held cat)
	holder=$!
	until [[ $(bytes_free "$1") -lt 20000000 ]]; do sleep 0.1; done
	tap_ok "another 32 MiB are refused" grep -q "Cannot allocate memory" \
		< <(as-user hold "$1" 32M /tmp/more true)
	# at most ten times in five seconds, and the tests before this one may
	# have used them up
	for ((i = 0; i < 12; i++)); do
		! logged "hold\[$holder\]" >/dev/null || break
		sleep 0.5
		as-user hold "$1" 32M /tmp/more true >/dev/null || true
	done
	tap_ok "the log names the holder" logged "49152 KiB .*hold\[$holder\]"
	exec 3>&-
	wait "$holder"
}

bind_errors()
{
	local driver=$pci/drivers/iopmem
	local parameter=/sys/module/iopmem/parameters/bar
	local bar1 nvme1 io io_bar
	bar1=$(pci_path bar1)
	nvme1=$(pci_path nvme1)

	echo iopmem >"$bar1/driver_override"
	log_from_here
	echo 0 >$parameter
	refused "a BAR of 256 bytes" "Invalid argument" "${bar1##*/}" $driver/bind
	tap_ok "the log says why" logged "${bar1##*/}.*BAR 0.*too small"
	echo 5 >$parameter
	refused "a BAR that the device does not have" "Invalid argument" \
		"${bar1##*/}" $driver/bind
	tap_ok "the log says why" logged "${bar1##*/}.*BAR 5"
	echo 77 >$parameter
	refused "BAR 77" "Invalid argument" "${bar1##*/}" $driver/bind
	tap_ok "the log says why" logged "${bar1##*/}.*BAR 77"

	# Some function with an I/O BAR and without a driver.
	for io in "$pci"/devices/*; do
		[[ -e $io/driver ]] && continue
		# start, end, flags: IORESOURCE_IO is 0x100
		io_bar=$(awk 'NR <= 6 && $3 ~ /1..$/ { print NR - 1; exit }' \
			 "$io/resource")
		[[ $io_bar ]] && break
	done
	if [[ $io_bar ]]; then
		echo iopmem >"$io/driver_override"
		echo "$io_bar" >$parameter
		refused "a BAR of I/O ports" "Invalid argument" "${io##*/}" \
			$driver/bind
		tap_ok "the log says why" logged "${io##*/}.*not memory"
		echo -1 >$parameter
		refused "a device without prefetchable memory" \
			"Invalid argument" "${io##*/}" $driver/bind
		tap_ok "the log says why" logged "${io##*/}.*no prefetchable"
		echo >"$io/driver_override"
	else
		tap_skip "no such device here" "a BAR of I/O ports"
	fi
	echo -1 >$parameter
	tap_ok "no node came of all that" test ! -e "$bar1/iopmem"

	echo iopmem >"$nvme1/driver_override"
	refused "a device that has a driver" "Device or resource busy" \
		"${nvme1##*/}" $driver/bind
	tap_is "it keeps its driver" \
		"$(basename "$(readlink "$nvme1/driver")")" nvme
	echo >"$nvme1/driver_override"

	tap_ok "the right BAR is bound at last" iopmem-bind bar1
	unbind "$bar1"
	tap_ok "and unbound" test ! -e "$bar1/iopmem"
}

attach_errors()
{
	local bar0 bar1 nvme0 nvme1
	bar0=$(pci_path bar0)
	bar1=$(pci_path bar1)
	nvme0=$(pci_path nvme0)
	nvme1=$(pci_path nvme1)

	log_from_here
	refused "attach: no driver" "No such device" "${bar1##*/}" $class/attach
	tap_ok "the log says why" logged "${bar1##*/}.*peer-to-peer"
	refused "attach: a driver without memory for peers" "No such device" \
		"${nvme1##*/}" $class/attach
	tap_ok "the log says why" logged "${nvme1##*/}.*peer-to-peer"
	refused "attach: twice" "File exists" "${nvme0##*/}" $class/attach
	refused "attach: bound" "File exists" "${bar0##*/}" $class/attach
	refused "attach: nothing there" "No such device" 0000:ff:1f.7 \
		$class/attach
	for value in garbage '' 0000:00 0000:00:00.0- 0000:100:00.0 0000:00:20.0 \
		     0000:00:00.8; do
		refused "attach: \"$value\"" "Invalid argument" "$value" \
			$class/attach
		refused "detach: \"$value\"" "Invalid argument" "$value" \
			$class/detach
	done
	refused "detach: bound" "No such device" "${bar0##*/}" $class/detach
	refused "detach: not attached" "No such device" "${nvme1##*/}" \
		$class/detach
	detach "$nvme0"
	tap_ok "detach removes the node" test ! -e "$nvme0/iopmem"
	refused "detach: twice" "No such device" "${nvme0##*/}" $class/detach
	tap_ok "attach after detach" iopmem-bind nvme0
}

echo core >/proc/sys/kernel/core_pattern
bar=$(iopmem-bind bar0)
cmb=$(iopmem-bind nvme0)

sysfs_files "$bar" bound bar0
sysfs_files "$cmb" attached nvme0
permissions "$bar"
in_backing_file "$bar"
for node in "$bar 1M 16M" "$cmb 64K 256K"; do
	read -r dev small large <<<"$node"
	mode=$(<"$class/${dev##*/}/mode")
	tap_run "$mode: mapping" as-user mapping "$dev" "$small"
	tap_run "$mode: dmabuf" as-user dmabuf "$dev" "$small"
	tap_run "$mode: ioctl, user" as-user ioctl "$dev"
	tap_run "$mode: ioctl, root" ioctl "$dev"
	tap_run "$mode: core dump" as-user coredump "$dev" "$small"
	tap_run "$mode: regions" regions "$dev" "$large"
done
names_the_holder "$bar"
bind_errors
attach_errors
tap_done
