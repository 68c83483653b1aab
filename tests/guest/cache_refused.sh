#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of cache.t where there is no write combining, because the
# kernel (vanilla) or the machine (nopat) has none.
# shellcheck disable=SC2154 # $pci and $class come from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

tool=$LAB_BUILD/user/tools/iopmem
case $1 in
vanilla) why="this kernel maps PCI memory uncached and not otherwise" ;;
nopat)
	why="this machine has no write-combining mappings"
	modprobe memremap_kunit
	results=/sys/kernel/debug/kunit/memremap/results
	tap_is "KUnit: what failed" "$(grep -c 'not ok' $results)" 0
	tap_ok "KUnit: it ran without write combining" \
		grep "ok .* no_write_combining$" $results
	;;
esac

modprobe iopmem
bar0=$(pci_path bar0)
log_from_here
tap_ok "--cache wc is refused" bash -c \
	"! '$tool' bind --cache wc '${bar0##*/}'"
tap_ok "the log says why" logged "$why"
tap_is "the parameter is as it was" \
	"$(cat /sys/module/iopmem/parameters/cache)" uc

echo wc >/sys/module/iopmem/parameters/cache
echo iopmem >"$bar0/driver_override"
refused "by the driver's own file" "Operation not supported" "${bar0##*/}" \
	$pci/drivers/iopmem/bind
echo uc >/sys/module/iopmem/parameters/cache

node=$(iopmem-bind bar0)
tap_is "uncached, it works" "$(cat "$class/${node##*/}/cache")" uc
tap_run "mapping" as-user mapping "$node" 1M
if [[ $1 == vanilla ]]; then
	read -r start end _ < <(sed -n 3p "$bar0/resource")
	tap_run "page tables" cache_mode uc "$node" "$start" \
		$((end - start + 1))
fi
# What it cannot have itself it may find: x86 then gives the kernel what is there
if [[ $1 == vanilla ]]; then
	unbind "$bar0"
	python3 -c '
import mmap, os, subprocess, sys
mapped = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 1 << 20)
sys.exit(subprocess.call(sys.argv[2:]))' "$bar0/resource2_wc" bash -c \
		"echo '${bar0##*/}' >$pci/drivers/iopmem/bind" 2>/tmp/said || true
	tap_ok "mapped write-combining by somebody else: refused" \
		grep "Device or resource busy" /tmp/said
	tap_ok "the log says why" logged "somebody else has mapped it wc"
fi
tap_ok "nothing holds iopmem" rmmod iopmem
tap_done
