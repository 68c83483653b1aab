#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of reverse.t. Every way in which an rxe device can go, while
# ordinary users have traffic on it with BAR memory, then rounds in which it goes
# at random moments, together with the memory and with its users. Round N of a
# seed is round 1 of the seed + N - 1.
# shellcheck disable=SC2154 # $class comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# Seconds that each of them may take.
limit=5
# KASAN and lockdep under TCG: the figure that counts is the other kernel's.
[[ $LAB_KERNEL != debug ]] || limit=30

rounds=20
[[ ! ${LAB_LONG:-} ]] || rounds=1000
[[ $LAB_KERNEL != debug ]] || rounds=$((rounds / 10))
seed=${LAB_SEED:-1}

our_rdma_core=$LAB_BUILD/rdma-core/build/lib

# wait_until CMD...: within $limit seconds
wait_until()
{
	local tries
	for ((tries = 0; tries < limit * 20; tries++)); do
		"$@" && return
		sleep 0.05
	done
	return 1
}

link_exists() { rdma link show "$1/1" >/dev/null 2>&1; }
no_link() { ! link_exists "$1"; }
all_free()
{
	[[ $(bytes_free "$(node_of "$bar0")") == \
	   "$(<"$class/$(basename "$(node_of "$bar0")")/size")" ]]
}

# ---- what goes, and how it comes back

del_rxe0() { rdma link del rxe0; }
add_rxe0() { rdma link add rxe0 type rxe netdev lo; }
del_rxe0_unbind()
{
	local unbinding
	unbind "$bar0" &
	unbinding=$!
	rdma link del rxe0
	wait $unbinding
}
add_rxe0_bind() { add_rxe0 && iopmem-bind bar0; }

# The net device of its own goes.
del_veth() { ip link del veth0 && wait_until no_link rxe1; }
add_veth()
{
	ip link add veth0 type veth peer name veth1
	ip address add 10.9.9.1/24 dev veth0
	ip link set veth1 up
	ip link set veth0 up
	add_rxe1
}
add_rxe1() { rdma link add rxe1 type rxe netdev veth0; }

# A namespace that has an rxe device on its own loopback interface. It is ended
# by the kernel, later.
end_namespace() { ip netns del reverse && wait_until no_link rxe2; }
make_namespace()
{
	ip netns add reverse
	ip -n reverse link set lo up
	add_rxe2
}
add_rxe2() { ip netns exec reverse rdma link add rxe2 type rxe netdev lo; }

remove_rxe() { rmmod rdma_rxe; }
load_rxe() { modprobe rdma_rxe && add_rxe0; }

# The device, not its net device, goes to a namespace, and comes back when that
# ends.
move_rxe0() { ip netns add reverse && rdma dev set rxe0 netns reverse; }
moved_back()
{
	ip netns del reverse && wait_until link_exists rxe0 &&
		wait_until test -c /dev/infiniband/uverbs0
}

# gone NAME RXE OTHER GONE BACK [OPTION...]: GONE and BACK are functions.
gone()
{
	local name=$1 rxe=$2 other=$3
	serve gone "$4"
	serve back "$5"
	tap_run "$name" nice -n 20 as-user timeout 200 reverse "${@:6}" \
		"$rxe" "$other" "$(node_of "$bar0")" $limit \
		"$(asks gone)" "$(asks back)"
	serve_nobody
	tap_ok "$name: all memory is free afterwards" wait_until all_free
}

# ---- at random moments

# start_user RXE OPTION...: as process $user; its traffic is going on when this
# returns.
start_user()
{
	local tries
	rm -f /tmp/ready
	nice -n 20 as-user reverse "${@:2}" "$1" "" "$(node_of "$bar0")" $limit \
		'touch /tmp/ready; exec sleep 60' '' >/tmp/user.log 2>&1 &
	user=$!
	for ((tries = 0; tries < 600; tries++)); do
		[[ -e /tmp/ready ]] && return
		sleep 0.1
	done
	cat /tmp/user.log
	return 1
}

# timed NAME DELAY CMD...: CMD after a while; how long it took in /tmp/NAME.took
timed()
{
	local name=$1 start
	sleep "$2"
	shift 2
	start=${EPOCHREALTIME/./}
	"$@" || touch "/tmp/$name.failed"
	echo $((${EPOCHREALTIME/./} - start)) >"/tmp/$name.took"
}

kill_user() { kill -9 "$user" 2>/dev/null || true; }

# in_time NAME...: they have succeeded within the limit.
in_time()
{
	local name
	for name; do
		[[ ! -e /tmp/$name.failed ]] || { echo "$name failed"; return 1; }
		(($(<"/tmp/$name.took") < limit * 1000000)) ||
			{ echo "$name: $(<"/tmp/$name.took") us"; return 1; }
	done
}

# One round: RXE goes in one way of four; its user may be killed and BAR
# memory be taken at the same time.
round()
{
	local what rxe=rxe0 delay name names=(rxe) jobs=()
	rm -f /tmp/*.failed /tmp/*.took
	case $((RANDOM % 4)) in
	0) what=del_rxe0 ;;
	1) what=remove_rxe ;;
	2) what=del_veth rxe=rxe1 ;;
	3) what=end_namespace rxe=rxe2 ;;
	esac
	start_user $rxe || return
	((RANDOM % 2)) || names+=(kill)
	((RANDOM % 2)) || names+=(unbind)
	round="$what ${names[*]:1}"
	for name in "${names[@]}"; do
		# here: a subshell has random numbers of its own
		delay=0.0$((RANDOM % 100))
		case $name in
		rxe) timed rxe $delay $what & ;;
		kill) timed kill $delay kill_user & ;;
		unbind) timed unbind $delay unbind "$bar0" & ;;
		esac
		jobs+=($!)
	done
	wait "${jobs[@]}"
	kill_user
	wait "$user" 2>/dev/null || true
	case $what in
	del_rxe0) add_rxe0 ;;
	remove_rxe) load_rxe && add_rxe1 && add_rxe2 ;;
	del_veth) add_veth ;;
	end_namespace) make_namespace ;;
	esac
	[[ ${names[*]} != *unbind* ]] || iopmem-bind bar0 >/dev/null
	in_time "${names[@]}" && wait_until all_free
}

random_rounds()
{
	local i
	make_namespace
	for ((i = 0; i < rounds; i++)); do
		RANDOM=$((seed + i))
		if round >/tmp/round.log 2>&1; then
			tap_result 0 "round $((seed + i)): $round"
		else
			tap_result 1 "round $((seed + i)): $round"
			sed 's/^/# /' /tmp/round.log
		fi
	done
	end_namespace
}

# What is measured is not how long the traffic keeps a shell from a CPU.
renice -n -20 $$ >/dev/null

bar0=$(pci_path bar0)
iopmem-bind bar0 >/dev/null
chgrp 100 "$bar0/p2pmem/allocate"
chmod 660 "$bar0/p2pmem/allocate"
modprobe iopmem_peer
rxe-up

# While there is no namespace: how they share devices cannot be changed later.
rdma system set netns exclusive
gone "moved to a namespace" rxe0 "" move_rxe0 moved_back
rdma system set netns shared

add_veth
gone "link deleted" rxe0 rxe1 del_rxe0 add_rxe0 \
	-f "$bar0/p2pmem/allocate"
LD_LIBRARY_PATH=$our_rdma_core gone "link deleted, dma-bufs" rxe0 rxe1 \
	del_rxe0 add_rxe0 -n
gone "link deleted, memory unbound" rxe0 rxe1 del_rxe0_unbind add_rxe0_bind -g
gone "link deleted, datagrams" rxe0 "" del_rxe0 add_rxe0 -u
gone "net device deleted" rxe1 rxe0 del_veth add_veth
make_namespace
log_from_here
gone "namespace ended" rxe2 rxe1 end_namespace make_namespace
tap_is "its net device waited for nobody" "$(logged 'waiting for lo')" ""
end_namespace
gone "rdma_rxe removed" rxe0 "" remove_rxe load_rxe
tap_is "no module waits for users" "$(lsmod | awk '$1 == "rdma_rxe" { print $3 }')" 0
add_rxe1
random_rounds

tap_ok "rdma_rxe goes" rmmod rdma_rxe
tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
