#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# route.sh PROGRAM: recorded PCI trees, tests/route/*.tree, made into folders and
# files as sysfs has them, and the verdicts of libiopmem on them, which PROGRAM
# (libiopmem_route) prints. A tree has these lines:
#
#	cpu VENDOR FAMILY
#	function PATH VENDOR:DEVICE CLASS [CONFIG] [iommu]
#	rdma NAME PCI-ADDRESS | rdma NAME on-top-of PCI-ADDRESS |
#	rdma NAME virtual | rdma NAME platform
#	route DEVICE PROVIDER VERDICT...
#
# PATH is the function's below /sys/devices. CONFIG is what its configuration
# space shows: acs=CONTROL (hexadecimal, the ACS control word), no-acs (the
# default), user (what can be read without privilege), conventional (PCI, not
# PCIe), gone (all ones) or broken (ACS so near the end that it does not fit). VERDICT is what libiopmem_route prints.

set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/.."
. tests/tap.sh

# config FILE KIND
config()
{
	local control
	case $2 in
	user) truncate -s 64 "$1" ;;
	conventional) truncate -s 256 "$1" ;;
	gone) head -c 4096 /dev/zero | tr '\0' '\377' >"$1" ;;
	no-acs) truncate -s 4096 "$1" ;;
	broken)
		truncate -s 4096 "$1"
		poke "$1" 256 '\x01\x00\xc2\xff'
		poke "$1" 4092 '\x0d\x00\x01\x00'
		;;
	acs=*)
		control=$(printf '%04x' "0x${2#acs=}")
		truncate -s 4096 "$1"
		# error reporting at 0x100, then ACS at 0x148
		poke "$1" 256 '\x01\x00\x82\x14'
		poke "$1" 328 '\x0d\x00\x01\x00\x1f\x00'
		poke "$1" 334 "\\x${control:2:2}\\x${control:0:2}"
		;;
	*) return 1 ;;
	esac
}

# poke FILE OFFSET BYTES
poke()
{
	# shellcheck disable=SC2059 # the bytes are escapes
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# function_of ROOT PATH VENDOR:DEVICE CLASS OPTION...
function_of()
{
	local dir=$1/sys/devices/$2 kind=no-acs option
	mkdir -p "$dir" "$1/sys/bus/pci/devices"
	ln -s "../../../devices/$2" "$1/sys/bus/pci/devices/${2##*/}"
	echo "0x${3%:*}" >"$dir/vendor"
	echo "0x${3#*:}" >"$dir/device"
	echo "0x${4}00" >"$dir/class"
	for option in "${@:5}"; do
		case $option in
		iommu)
			mkdir -p "$1/sys/kernel/iommu_groups/1"
			ln -s "$1/sys/kernel/iommu_groups/1" "$dir/iommu_group"
			;;
		*) kind=$option ;;
		esac
	done
	config "$dir/config" "$kind"
}

# rdma_of ROOT NAME KIND [ADDRESS]
rdma_of()
{
	local parent
	case $3 in
	virtual)
		mkdir -p "$1/sys/class/infiniband/$2"
		return
		;;
	platform)
		parent=$1/sys/devices/platform/HISI0001:00
		mkdir -p "$parent"
		;;
	on-top-of)
		parent=$(readlink -f "$1/sys/bus/pci/devices/$4")/core.rdma.0
		mkdir -p "$parent"
		;;
	*) parent=$(readlink -f "$1/sys/bus/pci/devices/$3") ;;
	esac
	mkdir -p "$parent/infiniband/$2" "$1/sys/class/infiniband"
	ln -s "$parent" "$parent/infiniband/$2/device"
	ln -s "$parent/infiniband/$2" "$1/sys/class/infiniband/$2"
}

# check_tree FILE: one result for each of its routes
check_tree()
{
	local name root what rest words=()
	name=$(basename "$1" .tree)
	root=$(mktemp -d)
	while read -r what rest; do
		read -ra words <<<"$rest"
		case $what in
		'' | \#*) ;;
		cpu)
			mkdir -p "$root/proc"
			printf 'processor\t: 0\nvendor_id\t: %s\ncpu family\t: %s\n\n' \
				"${words[@]}" >"$root/proc/cpuinfo"
			;;
		function) function_of "$root" "${words[@]}" ;;
		rdma) rdma_of "$root" "${words[@]}" ;;
		route)
			tap_is "$name: ${words[0]} to ${words[1]}: ${words[*]:2}" \
				"$("$program" "$root" "${words[@]:0:2}" 2>&1)" \
				"${words[*]:2}"
			;;
		*) tap_result 1 "$name: no line begins with \"$what\"" ;;
		esac
	done <"$1"
	rm -r "$root"
}

for tree in tests/route/*.tree; do
	check_tree "$tree"
done
tap_done
