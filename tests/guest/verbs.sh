#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of verbs.t. bar0 and bar1 are bound, nvme0's CMB is
# attached. The CMB is trapped by QEMU and far slower: its sizes are small. On the
# debug kernel all sizes are, and there is less of the CMB, unless there is time
# (LAB_LONG).
# shellcheck disable=SC2154 # $pci and $class come from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

size=1M
[[ $LAB_KERNEL != debug || ${LAB_LONG:-} ]] || size=64K

# user NAME CMD...: as an ordinary user, and not for ever.
user()
{
	local name=$1
	shift
	tap_run "$name" as-user timeout 120 "$@"
}

# foreign ID SIZE DEV: the PCI core's own file for the memory of ID.
foreign()
{
	local file
	file=$(pci_path "$1")/p2pmem/allocate
	chgrp 100 "$file"
	chmod 660 "$file"
	user "p2pmem/allocate of $1" verbs_foreign "$file" "$2" "$3"
}

# An RDMA device that cannot take memory away from its MRs.
not_invalidatable()
{
	modprobe siw
	rdma link add siw0 type siw netdev lo
	log_from_here
	user "siw" verbs_refused siw0 "$1" 64K EOPNOTSUPP
	tap_ok "siw: the log says why" logged "siw0: memory of peer .* refused"
	rdma link del siw0
}

# Two RDMA devices whose packets go through the test: from one's far end to the
# other's, though both addresses are of this machine.
late_acknowledgments()
{
	local i mask=/sys/devices/virtual/workqueue/cpumask all
	all=$(<$mask)
	for i in 1 2; do
		ip link add near$i mtu 9000 type veth peer name far$i mtu 9000
		sysctl -q net.ipv4.conf.near$i.accept_local=1 \
			net.ipv6.conf.{near,far}$i.disable_ipv6=1
		ip address add 198.51.100.$i/24 dev near$i
		ip link set near$i up
		ip link set far$i arp off up
		rdma link add rxe$i type rxe netdev near$i
	done
	for i in 1 2; do
		ip neighbour add 198.51.100.$((3 - i)) dev near$i nud permanent \
			lladdr "$(</sys/class/net/near$((3 - i))/address)"
	done
	# rxe does not let anybody else run while it sends
	echo 2 >$mask
	tap_run "late acknowledgments" timeout 300 taskset 1 \
		verbs_retransmit rxe1 far1 rxe2 far2
	echo "$all" >$mask
	for i in 1 2; do
		rdma link del rxe$i
		ip link del near$i
	done
}

large_host_memory()
{
	echo 16 >/proc/sys/vm/nr_hugepages
	tap_run "large" timeout 120 bash -c \
		'ulimit -l unlimited; exec verbs_large 1088M'
	echo 0 >/proc/sys/vm/nr_hugepages
}

bar=$(iopmem-bind bar0)
bar1=$(iopmem-bind bar1)
cmb=$(iopmem-bind nvme0)
rxe-up

log_from_here
user "without a peer memory client" verbs_refused rxe0 "$bar" 16K EFAULT
tap_ok "the log says why" logged "rxe0: PCI memory refused"
modprobe iopmem_peer

proven verbs_proof "$bar" /tmp/proof
user "BAR" verbs_transfer "$bar" "$bar1" $size
user "CMB" verbs_transfer "$cmb" "$bar" 64K
[[ $size == 64K ]] || tap_run "BAR, much host memory" timeout 120 bash -c \
	"ulimit -l unlimited; exec verbs_transfer $bar $bar1 $size"
user "BAR: access" verbs_access "$bar"
user "BAR: range" verbs_range "$bar" "$bar1"
user "BAR: lifetime" verbs_lifetime "$bar" 32M
if [[ $size != 64K ]]; then
	user "CMB: access" verbs_access "$cmb"
	user "CMB: range" verbs_range "$cmb" "$bar"
	user "CMB: lifetime" verbs_lifetime "$cmb" 32M
fi
echo 2097152 >"$class/${bar##*/}/user_limit"
user "user_limit" verbs_limit "$bar" 2M
echo 0 >"$class/${bar##*/}/user_limit"
user "memory windows" verbs_windows "$bar" 10
user "queues" verbs_queue "$bar"
user "fork" verbs_fork "$bar"
RDMAV_FORK_SAFE=1 user "fork, RDMAV_FORK_SAFE" verbs_fork "$bar"
foreign bar0 64K "$bar1"
foreign nvme0 32K "$bar"
not_invalidatable "$bar"
late_acknowledgments
large_host_memory

for node in "$bar" "$bar1" "$cmb"; do
	tap_is "$node: all is free" "$(bytes_free "$node")" \
		"$(<"$class/${node##*/}/size")"
done
tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
