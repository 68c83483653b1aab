#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of cache.t where write combining can be had.
# shellcheck disable=SC2154 # $pci and $class come from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

tool=$LAB_BUILD/user/tools/iopmem
parameter=/sys/module/iopmem/parameters/cache
pat=/sys/kernel/debug/x86/pat_memtype_list

# bind ID [ARG...]: prints the node
bind()
{
	local line
	line=$("$tool" bind "${@:2}" "$(lab-host address "$1")") || return
	line=${line%%:*}
	chgrp 100 "$line"
	chmod 660 "$line"
	echo "$line"
}

# memory_of PATH: where the prefetchable BAR of 2 MiB or more is, and its size
memory_of()
{
	local start end flags
	while read -r start end flags; do
		((flags & 0x2000 && end - start >= (2 << 20) - 1)) &&
			echo "$start $((end - start + 1))"
	done <"$1/resource"
}

# pat_says MODE PATH: about that memory
pat_says()
{
	local start size
	read -r start size < <(memory_of "$2")
	grep -i "^PAT: \[mem $(printf '0x%016x-0x%016x' "$start" \
		$((start + size)))\] $1\$" $pat
}

# page_tables MODE NODE PATH [ALLOCATE]
page_tables()
{
	# shellcheck disable=SC2046 # two words
	tap_run "page tables, $1" cache_mode "$1" "$2" $(memory_of "$3") "${@:4}"
}

# kunit MODULE SUITE: its results are ours
kunit()
{
	log_from_here
	modprobe "$1"
	tap_is "KUnit $2: what failed" "$(grep -c 'not ok' \
		"/sys/kernel/debug/kunit/$2/results")" 0
	tap_ok "KUnit $2: it ran" grep "^ok 1 $2\|^ok 1 - $2" \
		"/sys/kernel/debug/kunit/$2/results"
}

kunit memremap_kunit memremap
tap_ok "KUnit: of write combining, too" grep "ok [0-9]* write_combining$" \
	/sys/kernel/debug/kunit/memremap/results
kunit p2pdma_kunit pci-p2pdma

# As installed
modprobe iopmem
bar0=$(pci_path bar0)
bar1=$(pci_path bar1)
uncached=$(bind bar1)
tap_is "as installed: sysfs" "$(cat "$class/${uncached##*/}/cache")" uc
tap_ok "as installed: PAT" pat_says uncached-minus "$bar1"
page_tables uc "$uncached" "$bar1" "$(may_allocate "$bar1")"

# One of two
combining=$(bind bar0 --cache wc)
tap_is "--cache wc: sysfs" "$(cat "$class/${combining##*/}/cache")" wc
tap_is "the other stays as it is" "$(cat "$class/${uncached##*/}/cache")" uc
tap_is "the parameter, too" "$(cat $parameter)" uc
tap_ok "--cache wc: PAT" pat_says write-combining "$bar0"
page_tables wc "$combining" "$bar0" "$(may_allocate "$bar0")"
tap_ok "iopmem list" bash -c "'$tool' list | grep 'iopmem.*${bar0##*/}.*write-combining'"
tap_run "it is as good as other memory: mapping" as-user mapping "$combining" 1M
tap_run "ioctl" as-user ioctl "$combining"
tap_run "dmabuf" as-user dmabuf "$combining" 1M

# Where the memory is another driver's, it is as that has it
cmb=$(iopmem-bind nvme0)
nvme0=$(pci_path nvme0)
tap_is "attached: sysfs" "$(cat "$class/${cmb##*/}/cache")" uc
page_tables uc "$cmb" "$nvme0" "$(may_allocate "$nvme0")"

# RDMA, with bytes that the host looks for
user() { tap_run "$1" as-user timeout 300 "${@:2}"; }
rxe-up
modprobe iopmem_peer
proven verbs_proof "$combining" /tmp/proof
user "mapping: all operations" verbs_transfer "$combining" "$uncached" 64K
export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib
proven verbs_proof -d dmabuf "$combining" /tmp/proof
user "dma-buf: all operations" verbs_transfer -d dmabuf "$uncached" \
	"$combining" 64K

# By words of 8 bytes, and the ends by what is left: 5 (1 + 4) and 3 (2 + 1) bytes
tap_is "accesses of rxe" "$(bench_accesses "$cmb" 0 64K)" \
"RDMA write 0 0 8192 65536
RDMA read 8192 65536 0 0"
tap_is "accesses of rxe, unaligned" "$(bench_accesses "$cmb" 3 1024)" \
"RDMA write 0 0 131 1024
RDMA read 131 1024 0 0"

# Unbound while MRs are alive
start_traffic "$combining" "$uncached"
took=$(timed unbind "$bar0")
tap_ok "unbind with traffic: $took ms" test "$took" -lt 5000
stop_traffic
tap_ok "PAT forgets it" bash -c "! grep -i write-combining $pat"

# map_file FILE READY: begins a mapping, makes READY, and waits to be killed
map_file()
{
	exec python3 -c '
import mmap, os, sys, time
mapped = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 1 << 20)
os.close(os.open(sys.argv[2], os.O_CREAT))
time.sleep(300)' "$@"
}

# mapped_by_others FILE: until others_unmap
mapped_by_others()
{
	local tries
	map_file "$1" /tmp/mapped &
	holder=$!
	for ((tries = 0; tries < 100; tries++)); do
		[[ ! -e /tmp/mapped ]] || break
		sleep 0.1
	done
	log_from_here
}

others_unmap()
{
	kill $holder
	wait $holder || true
	rm /tmp/mapped
}

# Somebody has the BAR's file mapped: one type at a time
conflict()
{
	local file=$1 mode=$2 why=$3 other=$4
	mapped_by_others "$bar0/$file"
	tap_ok "$file mapped, --cache $mode: refused" bash -c \
		"! '$tool' bind --cache $mode ${bar0##*/} && [[ -e /tmp/mapped ]]"
	tap_ok "and the log says why" logged "$why"
	combining=$(bind bar0 --cache "$other")
	tap_is "the same type is granted" \
		"$(cat "$class/${combining##*/}/cache")" "$other"
	page_tables "$other" "$combining" "$bar0"
	unbind "$bar0"

	echo "$mode" >$parameter
	echo iopmem >"$bar0/driver_override"
	refused "$file mapped, by the driver's own file" \
		"Device or resource busy" "${bar0##*/}" $pci/drivers/iopmem/bind
	echo uc >$parameter
	others_unmap
}
conflict resource2 wc "is mapped with another cache mode by somebody else" uc
conflict resource2_wc uc "cache=uc: somebody else has mapped it wc" wc
combining=$(bind bar0 --cache wc)

# A driver that does not ask has what there is, and who attaches, too
detach "$nvme0"
unbind "$nvme0"
mapped_by_others "$nvme0/resource2_wc"
echo "${nvme0##*/}" >$pci/drivers/nvme/bind
cmb=$(iopmem-bind nvme0)
tap_ok "found write-combining: the log says so" logged \
	"is mapped with another cache mode by somebody else"
tap_is "found write-combining: sysfs" "$(cat "$class/${cmb##*/}/cache")" wc
page_tables wc "$cmb" "$nvme0"
others_unmap
detach "$nvme0"

tap_is "all of it is free" "$(bytes_free "$combining")" $((64 << 20))

# For all that are bound, by the parameter
unbind "$bar0"
unbind "$bar1"
echo wc >$parameter
tap_is "the parameter" "$(cat $parameter)" wc
for id in bar0 bar1; do
	tap_is "$id is bound accordingly" \
		"$(cat "$class/$(basename "$(iopmem-bind $id)")/cache")" wc
done
log_from_here
for mode in wb wt; do
	refused "cache=$mode" "Invalid argument" $mode $parameter
done
tap_is "the log says why" "$(logged "can't be cached, as peers change it" | wc -l)" 2
refused "what is no mode" "Invalid argument" fast $parameter
refused "no mode" "Invalid argument" "" $parameter
tap_is "they change nothing" "$(cat $parameter)" wc

tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_ok "loaded with cache=wc" modprobe iopmem cache=wc
tap_is "that counts" "$(cat $parameter)" wc
rmmod iopmem
log_from_here
tap_ok "cache=wb is refused then, too" bash -c "! modprobe iopmem cache=wb"
tap_ok "the log says why" logged "can't be cached"
tap_done
