#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# field_bugs.sh [PART...]: the guest's half of field_bugs.t. Each field bug has
# a program that says what it was and how it would be seen. They run with two
# devices: edu_hca, which has DMA, on the clients' RAM, and rxe, which copies by
# CPU, on PCI memory that the clients have of bar0. Nobody here is root but who
# loads modules.
# shellcheck disable=SC2154 # $class comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

hca=edu_hca0
tmp=$(mktemp -d)
chmod 755 "$tmp"

# user NAME CMD...: as an ordinary user, and not for ever.
user()
{
	local name=$1
	shift
	tap_run "$name" as-user timeout ${LAB_LONG:+1}0600 "$@"
}

# here NAME CMD...: tap_ok in this shell, for what concerns its variables and
# processes
here()
{
	local name=$1 status=0
	shift
	"$@" || status=$?
	tap_result $status "$name"
}

# both PROGRAM: on each device
both()
{
	user "edu_hca" "$1" $hca
	user "rxe" "$1" rxe0
}

load_clients()
{
	modprobe peer_client memory_of="$(lab-host address bar0)"
}

refusals()
{
	local parameter=/sys/module/edu_hca/parameters/invalidatable
	log_from_here
	both client_refusals
	tap_ok "refusals: the log says that a client cannot be invalidated" \
		logged "rxe0: memory of peer client peer_client0 refused: its provider cannot ask for it back"
	tap_ok "refusals: the log says that a client has no pages" \
		logged "rxe0: memory of peer client peer_client0 refused: it has no pages, and the device copies by CPU"
	echo 0 >$parameter
	log_from_here
	user "edu_hca, not invalidatable" client_refusals $hca EOPNOTSUPP
	tap_ok "refusals: the log says that a device cannot give memory back" \
		logged "$hca: memory of peer client peer_client0 refused: the driver cannot give it back on demand"
	echo 1 >$parameter
}

lock_inversion() { both field_lock_inversion; }
d_state() { both field_d_state; }
teardown() { both field_teardown; }
dma_leak() { both field_dma_leak; }
outlives() { both field_outlives; }

fork()
{
	user "edu_hca" field_fork $hca
	user "rxe" verbs_fork "$bar0"
}

# ---- Ctrl-C

port=21000

# ends_soon PID...: within 10 s
ends_soon()
{
	local pid tries
	for pid; do
		for ((tries = 0; tries < 100; tries++)); do
			[[ -e /proc/$pid ]] || break
			sleep 0.1
		done
		[[ ! -e /proc/$pid ]] || return 1
	done
}

listens()
{
	grep -Eq ": [0-9A-F]+:$(printf %04X "$port") [0-9A-F]+:0000 0A " \
		/proc/net/tcp /proc/net/tcp6
}

# perftest ARG...: both sides of ib_write_bw, in the background as processes
# $server and $client, from when the server listens
start_perftest()
{
	local common tries
	port=$((port + 1))
	common=(-d rxe0 -F --disable_pcie_relaxed -p "$port" -s 65536 "$@")
	# what bash starts in the background ignores Ctrl-C
	env --default-signal=INT as-user ib_write_bw "${common[@]}" \
		--p2p_dev="$bar1" >"$tmp/server" 2>&1 &
	server=$!
	for ((tries = 0; tries < 1200; tries++)); do
		! listens || break
		sleep 0.05
	done
	env --default-signal=INT as-user ib_write_bw "${common[@]}" \
		--use_p2p 127.0.0.1 >"$tmp/client" 2>&1 &
	client=$!
}

nothing_left()
{
	local node
	for node in "$bar0" "$bar1"; do
		[[ $(bytes_free "$node") == $(<"$class/${node##*/}/size") ]] ||
			return 1
	done
	! rdma resource show mr | grep -q .
}

# They have their memory and MRs on it.
in_use()
{
	[[ $(bytes_free "$bar0") != $(<"$class/${bar0##*/}/size") ]] &&
		rdma resource show mr | grep -q .
}

soon_in_use()
{
	local tries
	for ((tries = 0; tries < 600; tries++)); do
		! in_use || return 0
		[[ -e /proc/$client ]] || return 0
		sleep 0.1
	done
}

ctrl_c()
{
	local i signal rounds=20 ended=0 left=0 finished=0 waited=0 used=0 seed
	[[ ! ${LAB_LONG:-} ]] || rounds=1000
	# a minute each
	[[ $LAB_KERNEL != debug ]] || rounds=${LAB_LONG:+1}6
	user "rxe" field_ctrl_c "$bar0"

	seed=${LAB_SEED:-$RANDOM}
	echo "# seed $seed: LAB_SEED=$seed does the same again"
	RANDOM=$seed
	for ((i = 0; i < rounds; i++)); do
		signal=INT
		((i % 2)) || signal=KILL
		start_perftest -D 100
		# bash is not to tell how they ended
		disown $client $server 2>/dev/null || true
		# in half of the rounds, not before there is something to undo
		((i / 2 % 2)) || soon_in_use
		sleep "$((RANDOM % 2)).$((RANDOM % 10))"
		if [[ ! -e /proc/$server || ! -e /proc/$client ]]; then
			finished=$((finished + 1))
			sed "s/^/# round $i: /" "$tmp/client" "$tmp/server"
		fi
		if ! ((i / 2 % 2)); then
			waited=$((waited + 1))
			! in_use || used=$((used + 1))
		fi
		kill -$signal $client 2>/dev/null || true
		sleep "0.$((RANDOM % 3))"
		kill -$signal $server 2>/dev/null || true
		if ends_soon $client $server; then
			ended=$((ended + 1))
		else
			kill -KILL $client $server 2>/dev/null || true
		fi
		nothing_left || left=$((left + 1))
	done
	tap_is "Ctrl-C under traffic: both sides of ib_write_bw --use_p2p end, $rounds times" \
		$ended $rounds
	tap_is "Ctrl-C under traffic: none had ended by itself" $finished 0
	tap_is "Ctrl-C under traffic: they had MRs in all rounds that wait for that" \
		$used $waited
	tap_is "Ctrl-C under traffic: they leave no memory and no MR" $left 0
	start_perftest -n 5
	here "Ctrl-C under traffic: then it runs as ever" \
		ends_soon $client $server
	here "Ctrl-C under traffic: and succeeds" wait $client $server
}

# ---- rmmod

# hold PIN|WAIT MS: a process with an MR, until let_go
hold()
{
	local tries
	rm -f "$tmp/hold"
	mkfifo -m 666 "$tmp/hold"
	as-user field_rmmod $hca hold "$@" <"$tmp/hold" >"$tmp/held" &
	holder=$!
	exec {hold_fd}>"$tmp/hold"
	for ((tries = 0; tries < 100; tries++)); do
		! grep -q ready "$tmp/held" || return 0
		sleep 0.1
	done
	return 1
}

let_go()
{
	exec {hold_fd}>&-
}

module_is_there()
{
	[[ -e /sys/module/$1 ]]
}

use_after_free_at_rmmod()
{
	local pid start tries
	both field_rmmod

	here "rmmod: a process has an MR, the client holds its module" \
		hold PIN 0
	refused_rmmod
	let_go
	here "rmmod: it can deregister" wait $holder
	tap_ok "rmmod: then the module goes" rmmod peer_client
	load_clients

	here "rmmod: a process has an MR, the client does not hold its module" \
		hold WAIT 0
	log_from_here
	# without what keeps the holder waiting
	rmmod peer_client {hold_fd}>&- &
	pid=$!
	tap_ok "rmmod: the log says for what it waits" soon_logged \
		"client peer_client0 cannot leave before the MRs on its memory do"
	tap_ok "rmmod: it waits for the MR" test -e /proc/$pid
	let_go
	here "rmmod: the MR goes" wait $holder
	here "rmmod: then the module does" wait $pid
	load_clients

	# The client has given up its module, and is not out of it yet.
	here "rmmod: a process has an MR, the client takes its time in release" \
		hold PIN 5000
	let_go
	for ((tries = 0; tries < 600; tries++)); do
		[[ $(</sys/module/peer_client/refcnt) != 0 ]] || break
		sleep 0.1
	done
	start=$(date +%s%N)
	rmmod peer_client &
	pid=$!
	here "rmmod: its release comes back" wait $holder
	here "rmmod: the module goes" wait $pid
	tap_ok "rmmod: not before release has returned" \
		test $((($(date +%s%N) - start) / 1000000)) -ge 1000
	load_clients
}

# By its text: rmmod's exit status is 1 for all.
refused_rmmod()
{
	local said
	said=$(rmmod peer_client 2>&1) || true
	tap_ok "rmmod: busy" grep -q "in use" <<<"$said"
	tap_ok "rmmod: the module is there" module_is_there peer_client
}

bar0=$(iopmem-bind bar0)
bar1=$(iopmem-bind bar1)
rxe-up
modprobe edu_hca
load_clients
modprobe iopmem_peer

parts=("$@")
[[ $# != 0 ]] || parts=(refusals lock_inversion d_state teardown dma_leak ctrl_c
	outlives fork use_after_free_at_rmmod)
for part in "${parts[@]}"; do
	start=$SECONDS
	$part
	echo "# $part: $((SECONDS - start)) s"
done

tap_ok "nothing holds the clients" rmmod peer_client
tap_ok "nor edu_hca" rmmod edu_hca
tap_ok "nor iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
