#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of tool.t: the iopmem command on a machine with this topology.
# shellcheck disable=SC2154 # $class comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

tool=$LAB_BUILD/user/tools/iopmem
tmp=$(mktemp -d)
chmod 755 "$tmp"

# does NAME STATUS PATTERN CMD...: the command's exit code, and what it says
does()
{
	local name=$1 wanted=$2 pattern=$3 status=0
	shift 3
	"$@" >"$tmp/out" 2>&1 || status=$?
	tap_is "$name: exit code" "$status" "$wanted"
	# shellcheck disable=SC2016 # for the other shell
	tap_ok "$name: what it says" bash -c \
		'grep -e "$1" "$2" || { cat "$2"; exit 1; }' - "$pattern" \
		"$tmp/out"
}

# json EXPRESSION: of what the command printed, as v
json()
{
	python3 -c "import json; v = json.load(open('$tmp/out')); print($1)"
}

# trial_agrees NAME MEMORY: the kernel does what the verdict says.
trial_agrees()
{
	local verdict=0 trial=0
	"$tool" check nvme1 "$2" >/dev/null || verdict=$?
	"$tool" check --json --try nvme1 "$2" >"$tmp/out" 2>&1 || trial=$?
	tap_is "$1: a trial agrees" "$trial $(json 'v["trial"]')" \
		"$verdict $([[ $verdict == 0 ]] && echo OK || echo EREMOTEIO)"
}

bar0=$(lab-host address bar0)
bar1=$(lab-host address bar1)
nvme0=$(lab-host address nvme0)
nvme1=$(lab-host address nvme1)
edu=$(lab-host address edu)
disk_of nvme1 >/dev/null
disk_of nvme0 >/dev/null

does "the module is missing" 1 "modprobe iopmem" "$tool" bind "$bar0"
modprobe iopmem
does "bind" 0 "^/dev/iopmem0: $bar0, 67108864 bytes, bound" "$tool" bind "$bar0"
does "bind a second time" 0 "^/dev/iopmem0: " "$tool" bind "$bar0"
does "bind the same BAR by its number" 0 "^/dev/iopmem1: " \
	"$tool" bind --bar 2 "$bar1"
tap_is "the parameter for others is as it was" \
	"$(cat /sys/module/iopmem/parameters/bar)" -1
does "a BAR that is not there" 1 "not bound; the kernel log says why" \
	"$tool" bind --bar 5 "$edu"
tap_is "the parameter is as it was, then, too" \
	"$(cat /sys/module/iopmem/parameters/bar)" -1
does "both options, one of which cannot be" 1 "not bound; the kernel log says why" \
	"$tool" bind --cache wc --bar 5 "$edu"
tap_is "both parameters are as they were" \
	"$(cat /sys/module/iopmem/parameters/{bar,cache} | paste -s)" "-1	uc"
does "another cache mode of what is bound" 1 "bound already: release it first" \
	"$tool" bind --cache wc "$bar1"
does "another BAR of what is bound" 1 "bound already: release it first" \
	"$tool" bind --bar 0 "$bar1"
tap_is "it is free for others" \
	"$(cat "$pci/devices/$edu/driver_override")" "(null)"
does "bind what has a driver" 1 "has the driver nvme" "$tool" bind "$nvme0"
does "attach" 0 "^/dev/iopmem2: $nvme0, .* attached" "$tool" attach "$nvme0"
does "attach a second time" 1 "bound or attached already" \
	"$tool" attach "$nvme0"
does "attach a drive without such memory" 1 "no driver that offers peer-to-peer memory" \
	"$tool" attach "$nvme1"
does "a stranger binds" 1 "Permission denied" as-stranger "$tool" bind "$edu"

does "list" 0 "^iopmem0 *$bar0  67108864 of 67108864 bytes free, uncached.*, bound" \
	"$tool" list
tap_ok "the attached one, too" grep "^iopmem2 *$nvme0 .*, attached" "$tmp/out"
does "list as JSON" 0 pci_address "$tool" list --json
tap_is "what it has" "$(json '*(d["state"] for d in v)')" "bound bound attached"
does "list what is held" 0 "^    region .*comm=hold" \
	hold /dev/iopmem0 1M "$tmp/pattern" "$tool" list
does "the same as JSON" 0 region \
	hold /dev/iopmem0 1M "$tmp/pattern" "$tool" list --json
tap_is "who holds it" "$(json 'v[0]["holders"][0]["comm"]')" hold

rxe-up
case $LAB_TOPOLOGY in
switch) does "a drive and a BAR" 0 "nvme1 -> iopmem0: OK, by bus address" \
		"$tool" check nvme1 iopmem0 ;;
bridge) does "a drive and a BAR" 0 "nvme1 -> iopmem0: OK, through a host bridge" \
		"$tool" check nvme1 iopmem0 ;;
blocked) does "a drive and a BAR" 1 "nvme1 -> iopmem0: FAIL, no common bridge" \
		"$tool" check nvme1 iopmem0
	tap_ok "which bridge" grep "bridge: 0000:" "$tmp/out"
	tap_ok "what to do" grep "remedy: put both below one PCIe switch" "$tmp/out" ;;
iommu) does "the IOMMU" 0 iommu "$tool" check --json nvme1 iopmem0
	tap_is "it is told of" "$(json 'v["iommu"]')" True ;;
esac
trial_agrees "a BAR" iopmem0
trial_agrees "a controller memory buffer" iopmem2
does "Soft-RoCE" 0 "rxe0 -> iopmem0: OK, the CPU copies" \
	"$tool" check rxe0 iopmem0
does "its driver knows no dma-bufs, and there is no peer memory" 1 \
	"rxe0 -> iopmem0: FAIL, the driver knows no dma-bufs" \
	"$tool" check --try rxe0 iopmem0
tap_ok "what to do about that" grep "remedy: modprobe iopmem_peer" "$tmp/out"
modprobe iopmem_peer
does "with peer memory" 0 "rxe0 -> iopmem0: OK, .*, tried" \
	"$tool" check --try rxe0 iopmem0
ln -s iopmem0 /dev/odd
does "by a link, as in by-path/" 0 "rxe0 -> iopmem0: OK" \
	"$tool" check rxe0 /dev/odd
rm /dev/odd
does "a function that is not bound" 0 "neither bound nor attached" \
	"$tool" check rxe0 "$edu"
does "a trial of that" 1 "neither bound nor attached" \
	"$tool" check --try rxe0 "$edu"

"$tool" topo >"$tmp/live"
"$tool" topo --dump >"$tmp/tree"
does "topo of the dumped tree" 0 "^nvme1" "$tool" topo --replay "$tmp/tree"
tap_is "it is the same" "$(cat "$tmp/out")" "$(cat "$tmp/live")"
if [[ $LAB_TOPOLOGY == switch ]]; then
	does "a user does not see what ACS does" 0 "BUS/4?" as-user "$tool" topo
fi

does "release what is attached" 0 "^" bash -c "'$tool' release iopmem2 && echo"
does "release what is bound, by its address" 0 "^" \
	bash -c "'$tool' release $bar0 && echo"
tap_is "one is left" "$(cat $class/iopmem*/size | wc -l)" 1
does "release it again" 1 "neither bound nor attached" "$tool" release "$bar0"
tap_ok "nothing holds the module" bash -c \
	"'$tool' release iopmem1 && rmmod iopmem_peer && rmmod iopmem"
rm -r "$tmp"
tap_done
