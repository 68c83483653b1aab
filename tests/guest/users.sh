#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of users.t. Wants large BARs for its first part.
# shellcheck disable=SC2154 # $class comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# Rounds of those who are killed and the like, of memory that is used again, of
# Ctrl-C; seconds that nobody may be kept waiting, and a process may take to end.
kills=20
uses=20
interrupts=6
patience=1
limit=5
if [[ ${LAB_LONG:-} ]]; then
	kills=1000
	uses=1000
	interrupts=100
fi
if [[ $LAB_KERNEL == debug ]]; then
	kills=$((kills / 2))
	uses=$((uses / 2))
	interrupts=$((interrupts / 2))
	patience=10
	limit=30
fi

seed=${LAB_SEED:-$RANDOM}
export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib

# interrupted: both sides of ib_write_bw, one of them or both by Ctrl-C
interrupted()
{
	local round sides=() side start status=0 port=20000
	RANDOM=$seed
	for ((round = 0; round < interrupts; round++)); do
		port=$((port + 1))
		perftest $port
		sides=("$!")
		until listens $port; do sleep 0.05; done
		perftest $port 127.0.0.1
		sides+=("$!")
		soon has_memory || status=1
		sleep "$((RANDOM % 2)).$((RANDOM % 10))"
		start=$SECONDS
		case $((round % 3)) in
		0) kill -INT "${sides[0]}" ;;
		1) kill -INT "${sides[1]}" ;;
		2) kill -INT "${sides[@]}" ;;
		esac
		sleep 0.2
		# the other one may wait for its peer
		kill -INT "${sides[@]}" 2>/dev/null || true
		for side in "${sides[@]}"; do
			wait "$side" || true
		done
		((SECONDS - start <= limit)) || status=1
		soon_nothing_left || { status=1; break; }
	done
	tap_result $status "Ctrl-C of ib_write_bw --use_p2p: nothing is left, $interrupts times"
}

# perftest PORT [SERVER]: in the background, as if at a terminal. The shell lets
# such processes ignore SIGINT.
perftest()
{
	local port=$1
	shift
	env --default-signal=INT as-user ib_write_bw -d rxe0 -F --use_p2p \
		--disable_pcie_relaxed -p "$port" -s 65536 -D 60 "$@" \
		>>/tmp/perftest.log 2>&1 &
}

listens()
{
	grep -Eq "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$1") [0-9A-F]+:0000 0A " \
		/proc/net/tcp /proc/net/tcp6
}

# soon CMD...: it succeeds within the limit.
soon()
{
	local tries
	for ((tries = 0; tries < 10 * limit; tries++)); do
		"$@" && return
		sleep 0.1
	done
	return 1
}

has_memory() { (($(bytes_free "$bar") < size)); }

nothing_is_left()
{
	[[ $(bytes_free "$bar") == "$size" &&
	   $(rdma resource show mr | wc -l) == 0 ]]
}

soon_nothing_left()
{
	soon nothing_is_left && return
	echo "# $(bytes_free "$bar") bytes free, MRs: $(rdma resource show mr)"
	return 1
}

bar=$(iopmem-bind bar0)
bar0=$(pci_path bar0)
disk=$(disk_of nvme1)
rxe-up
modprobe -a iopmem_peer importer
chgrp 100 "$disk" /dev/importer
chmod 660 "$disk" /dev/importer
touch /tmp/perftest.log
echo "# seed $seed: LAB_SEED=$seed does the same again"

size=$(<"$class/${bar##*/}/size")
tap_run "stall" stall "$bar" $((size / 16)) $((size / 16 * 15)) $patience
tap_run "ends" as-user ends -s $seed dmabuf "$bar" "$(may_allocate "$bar0")" \
	$kills
interrupted
# so that its requests are in flight for a while
lab-host throttle nvme1 40
tap_run "reuse" as-user reuse -s $seed dmabuf "$bar" "$disk" $((4 * uses))
lab-host throttle nvme1 0

tap_ok "in the end nothing is left" soon_nothing_left
tap_ok "nothing holds the importer" rmmod importer
tap_ok "nor iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
