#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of doors.t: dma-bufs become MRs by each door that the kernel
# has, each forced in turn by the rdma-core that is used and by iopmem_peer
# being there or not. bar0 and bar1 are bound, nvme0's CMB is attached.
#
# On the debug kernel only the first door is taken, and not for long, unless
# there is time (LAB_LONG).
# shellcheck disable=SC2154 # $pci and $class come from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# Seconds that an unbind and the like may take.
limit=5
many=10000
# KASAN and lockdep under TCG: the figures that count are the other kernel's.
[[ $LAB_KERNEL != debug ]] || { limit=30; many=1000; }

# The rdma-core of programs: Debian's, whose rxe knows no dma-bufs, or ours.
debians_rdma_core() { unset LD_LIBRARY_PATH; }
our_rdma_core() { export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib; }

# user NAME CMD...: as an ordinary user, and not for ever.
user()
{
	local name=$1
	shift
	tap_run "$name" as-user timeout 300 "$@"
}

open_to_users()
{
	chgrp 100 "$@"
	chmod 660 "$@"
}

# traffic DOOR: everything that an MR is there for.
traffic()
{
	proven verbs_proof -d "$1" "$bar" /tmp/proof
	user "BAR" doors_transfer "$1" "$bar" "$bar1" 4M
	user "CMB" doors_transfer "$1" "$cmb" "$bar" 64K
	tap_run "BAR, much host memory" timeout 300 bash -c \
		"ulimit -l unlimited; exec doors_transfer $1 $bar $bar1 4M"
	user "BAR: all operations" verbs_transfer -d "$1" "$bar" "$bar1" 1M
	user "CMB: all operations" verbs_transfer -d "$1" "$cmb" "$bar" 64K
	user "BAR: access" doors_access "$1" "$bar"
	user "CMB: access" doors_access "$1" "$cmb"
}

lifetime()
{
	user "lifetime" doors_lifetime "$1" "$bar" $many
	user "fork" verbs_fork -d "$1" "$bar"
	RDMAV_FORK_SAFE=1 user "fork, RDMAV_FORK_SAFE" verbs_fork -d "$1" "$bar"
}

# revoked DOOR NAME SECONDS PATH GONE BACK: GONE and BACK are functions.
revoked()
{
	serve gone "$5"
	serve back "$6"
	user "$2" verbs_revoke -d "$1" "$(node_of "$4")" "$bar1" "$3" \
		"$(asks gone)" "$(asks back)"
	serve_nobody
}

# in_use DOOR: modules, and the end of the process, while its traffic goes on.
in_use()
{
	local start
	start_traffic -d "$1" "$bar" "$bar1"
	if [[ $1 == peer ]]; then
		tap_ok "rmmod iopmem_peer under traffic: busy" \
			is_busy iopmem_peer
	elif grep -qw iopmem_peer /proc/modules; then
		tap_ok "iopmem_peer goes under traffic" rmmod iopmem_peer
	fi
	tap_ok "rmmod iopmem under traffic: busy" is_busy iopmem
	tap_ok "the traffic goes on" kill -0 "$traffic"
	start=$SECONDS
	stop_traffic
	tap_ok "kill -9: the process ends" test $((SECONDS - start)) -le $limit
	tap_is "the traffic saw nothing of it" \
		"$(grep -c '^not ok' /tmp/traffic.log)" 0
	nothing_left "kill -9"
}

unbind_bar0() { unbind "$bar0"; }
bind_bar0() { iopmem-bind bar0; }
unplug_bar0() { lab-host device_del bar0; }
replug_bar0() { plug_in bar0 && iopmem-bind bar0; }
reset_bar0() { echo 1 >"$bar0/reset"; }
same_bar0() { node_of "$bar0"; }
detach_nvme0() { detach "$nvme0"; }
attach_nvme0() { iopmem-bind nvme0; }

revocation()
{
	revoked "$1" "unbind" $limit "$bar0" unbind_bar0 bind_bar0
	if [[ -e $bar0/reset ]]; then
		revoked "$1" "reset" $limit "$bar0" reset_bar0 same_bar0
	else
		tap_skip "the device offers none" "reset"
	fi
	# revoke.t has more of peer memory
	[[ $1 != peer ]] || return 0
	revoked "$1" "detach" $limit "$nvme0" detach_nvme0 attach_nvme0
	# pciehp waits 5 s after the button before it does anything.
	revoked "$1" "unplugging" $((limit + 10)) "$bar0" unplug_bar0 \
		replug_bar0
}

# All bytes are there, and nobody has an MR.
nothing_left()
{
	local node
	for node in "$bar" "$bar1" "$cmb"; do
		tap_is "$1: all of $node is free" "$(bytes_free "$node")" \
			"$(<"$class/${node##*/}/size")"
	done
	tap_is "$1: no MR is left" "$(rdma resource show mr | wc -l)" 0
}

all_of()
{
	traffic "$1"
	user "refused" doors_refused "$1" "$bar"
	lifetime "$1"
	in_use "$1"
	revocation "$1"
}

# The same in a fraction of the time.
essence()
{
	user "BAR" doors_transfer "$1" "$bar" "$bar1" 64K
	user "access" doors_access "$1" "$bar"
	user "refused" doors_refused "$1" "$bar"
	user "lifetime" doors_lifetime "$1" "$bar" $many
	revoked "$1" "unbind" $limit "$bar0" unbind_bar0 bind_bar0
}

# others MAX DOOR...: dma-bufs of others, in system memory.
others()
{
	local door max=$1
	shift
	for door; do
		user "udmabuf and heap, $door" doors_transfer $door \
			/dev/udmabuf /dev/dma_heap/system "$max"
		user "heap and BAR, $door" doors_transfer $door \
			/dev/dma_heap/system "$bar" "$max"
		user "udmabuf, access, $door" doors_access $door /dev/udmabuf
		user "heap, access, $door" doors_access $door \
			/dev/dma_heap/system
	done
}

# prefixed NAME FUNCTION ARG...: the name before each result.
prefixed()
{
	local name=$1
	shift
	tap_run "$name" part "$@"
	# it may have come back under another name
	bar=$(node_of "$bar0")
	cmb=$(node_of "$nvme0")
}

part()
{
	# shellcheck disable=SC2034 # they are tap.sh's
	tap_results=0
	# shellcheck disable=SC2034
	tap_failures=0
	"$@"
	tap_done
}

# first_door FUNCTION: called with the first door, which is the only one.
first_door()
{
	our_rdma_core
	tap_ok "iopmem_peer is not there" \
		bash -c '! grep -w iopmem_peer /proc/modules'
	prefixed "dma-buf" "$1" dmabuf
	nothing_left "dma-buf"
}

all_doors()
{
	local file

	first_door all_of
	user "ibv_reg_dmabuf_mr" doors_transfer verbs "$bar" "$bar1" 64K
	user "ibv_reg_dmabuf_mr: access" doors_access verbs "$bar"
	user "ibv_reg_dmabuf_mr: refused" doors_refused verbs "$bar"
	user "ibv_reg_dmabuf_mr: lifetime" doors_lifetime verbs "$bar" 1000
	prefixed "others" others 1M verbs dmabuf
	nothing_left "others"

	modprobe iopmem_peer
	user "both doors: the first one" doors_transfer dmabuf "$bar" "$bar1" 64K
	prefixed "both doors" in_use dmabuf
	modprobe iopmem_peer

	debians_rdma_core
	prefixed "peer memory" all_of peer
	for file in /dev/udmabuf /dev/dma_heap/system; do
		user "peer memory: none of $file" doors_refused none "$bar" $file
	done
	nothing_left "peer memory"
	tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
}

bar=$(iopmem-bind bar0)
bar1=$(iopmem-bind bar1)
cmb=$(iopmem-bind nvme0)
bar0=$(pci_path bar0)
nvme0=$(pci_path nvme0)
rxe-up
open_to_users /dev/udmabuf /dev/dma_heap/system
tap_ok "our rdma-core is built" \
	test -e "$LAB_BUILD/rdma-core/build/lib/libibverbs.so.1"

debians_rdma_core
user "no iopmem_peer, Debian's rdma-core" doors_refused none "$bar"
nothing_left "no door"
case $LAB_KERNEL${LAB_LONG:+-long} in
vanilla*)
	our_rdma_core
	user "our rdma-core" doors_refused none "$bar"
	nothing_left "no door"
	;;
debug)
	first_door essence
	user "others" doors_transfer verbs /dev/udmabuf /dev/dma_heap/system \
		64K
	nothing_left "others"
	;;
*)
	all_doors
	;;
esac
tap_ok "nothing holds iopmem" rmmod iopmem
tap_done
