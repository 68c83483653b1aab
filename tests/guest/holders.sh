#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of holders.t: holders.sh [PART...], all by default.
# shellcheck disable=SC2154 # $pci and $class come from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

many=10000
rounds=20
[[ ! ${LAB_LONG:-} ]] || rounds=1000
if [[ $LAB_KERNEL == debug ]]; then
	many=1000
	rounds=$((rounds / 2))
fi
debugfs=/sys/kernel/debug
file=$debugfs/iopmem/holders
tracing=/sys/kernel/tracing

# A rdma-core whose rxe knows dma-bufs.
export LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib

# ask PART ARG...: of the program holders, as an ordinary user
ask()
{
	local part=$1
	shift
	tap_run "$part" as-user timeout 300 holders "$part" "$file" "$bar" \
		"${bar0##*/}" "$@"
}

limit()
{
	local attribute=$class/${bar##*/}/user_limit reset=
	[[ ! -e $bar0/reset ]] || reset="echo 1 >$bar0/reset"
	log_from_here
	tap_is "user_limit is for root to write" \
		"$(stat -c '%U %a' "$attribute")" "root 644"
	tap_run "limit" timeout 300 user_limit "$bar" "$attribute" "$reset"
	tap_ok "the log says who wanted how much" logged \
		"user 2001 is limited to 4099 KiB and has 4096 KiB: 4 KiB more refused to user_limit\["
	unbind "$bar0"
	bar=$(iopmem-bind bar0)
	tap_is "the device comes back without a limit" \
		"$(<"$class/${bar##*/}/user_limit")" 0
}

stop_holder()
{
	kill $holder
	wait $holder || true
}

kinds()
{
	chgrp 100 "$bar0/p2pmem/allocate"
	chmod 660 "$bar0/p2pmem/allocate"
	ask kinds "$bar0/p2pmem/allocate"
}

many()
{
	ask many $many
}

# The host finds a process's bytes where the file says its region is.
place()
{
	local tries said
	rm -f /tmp/pattern
	as-user hold "$bar" 64K /tmp/pattern sleep 300 &
	holder=$!
	for ((tries = 0; tries < 300; tries++)); do
		[[ $(stat -c %s /tmp/pattern 2>/dev/null) == 65536 ]] && break
		sleep 0.1
	done
	cp /tmp/pattern "$LAB_OUT/pattern"
	said=$(sed -n "s/^region ${bar0##*/} .*offset=\(0x[0-9a-f]*\) .*comm=hold$/\1/p" $file)
	tap_is "bytes are where the file says" "$((said))" \
		"$(lab-host find bar0 pattern)"
	stop_holder
}

load()
{
	local link=/tmp/loaded round
	ln -sfn "$bar" $link
	as-user holders load $file $link "${bar0##*/}" >/tmp/load.log &
	holder=$!
	for ((round = 0; round < rounds; round++)); do
		sleep "0.$((round % 10))"
		unbind "$bar0"
		bar=$(iopmem-bind bar0)
		ln -sfn "$bar" $link
		cat $file >/tmp/while-unbinding
	done
	sleep 1
	kill $holder
	wait $holder || true
	tap_run "load" cat /tmp/load.log
	tap_is "load: nothing is held after $rounds rounds" \
		"$(grep -c -v ^provider $file)" 0
}

waiting()
{
	modprobe importer
	log_from_here
	tap_run "waiting" timeout 120 holders waiting $file "$bar" \
		"${bar0##*/}" "$(in_shell unbind "$bar0")"
	tap_ok "nothing holds the importer" rmmod importer
	bar=$(iopmem-bind bar0)
}

# events: what has been traced, without who and when, as one line
events()
{
	sed -n 's/.*: iopmem_\([a-z_]*\): [0-9a-f:.]* \(.*\)/\1 \2;/p' \
		$tracing/trace | tr '\n' ' '
}

tracepoints()
{
	local place length=0x3000 traced
	mount -t tracefs tracefs $tracing
	echo 1 >$tracing/events/iopmem/enable
	as-user reg_mr "$bar" 12K ok ok >/tmp/reg_mr.log
	traced=$(events)
	place=$(sed 's/^region_alloc \(bar=2 offset=[^ ]*\) .*/\1/' <<<"$traced")
	tap_is "a region's life, with an MR" "$(one_life "$traced")" \
		"region_alloc $place length=$length uid=65534; hold kind=mr $place length=$length owner=PID; unhold kind=mr $place length=$length owner=PID; region_free $place length=$length uid=65534 busy_pages=0;"

	rm -f /tmp/pattern
	echo >$tracing/trace
	as-user hold "$bar" 12K /tmp/pattern sleep 300 &
	holder=$!
	while [[ ! -s /tmp/pattern || $(events) != *region_alloc* ]]; do
		sleep 0.1
	done
	unbind "$bar0"
	tap_is "a region that is revoked" "$(events)" \
		"region_alloc $place length=$length uid=65534; revoke_begin holders=0 regions=1; region_free $place length=$length uid=65534 busy_pages=0; revoke_end holders=0 regions=1; "
	stop_holder
	bar=$(iopmem-bind bar0)

	echo >$tracing/trace
	as-user holders trace $file "$bar" "${bar0##*/}" \
		"echo >/tmp/unbind-now; while [ -e /tmp/unbind-now ]; do sleep 0.1; done" \
		>/tmp/trace.log &
	while [[ ! -e /tmp/unbind-now ]]; do sleep 0.1; done
	unbind "$bar0"
	rm /tmp/unbind-now
	wait
	tap_ok "an MR and a dma-buf that are revoked" grep -E \
		"revoke_begin holders=2 regions=2; unhold kind=mr [^;]* revoked; unhold kind=dma-buf [^;]* revoked; region_free .* revoke_end holders=2 regions=2; detach" \
		<<<"$(events)"
	place=$(sed 's/.*hold kind=dma-buf \(bar=2 offset=[^ ]*\) .*/\1/' <<<"$(events)")
	tap_ok "an MR on that dma-buf, until it is deregistered" grep -E \
		"attach $place length=0x1000 owner=[0-9]+ device=rxe0; .*revoke_end .*; detach $place length=0x1000 owner=[0-9]+ device=rxe0; $" \
		<<<"$(events)"
	echo 0 >$tracing/events/iopmem/enable
	umount $tracing
	bar=$(iopmem-bind bar0)
}

# The first of several, and whose it was does not matter.
one_life()
{
	sed -E 's/(region_free [^;]*;).*/\1/; s/owner=[0-9]+/owner=PID/g' <<<"$1"
}

bar=$(iopmem-bind bar0)
bar0=$(pci_path bar0)
rxe-up
modprobe iopmem_peer
tap_is "the file is root's" "$(stat -c '%U %a' $file)" "root 400"
mount -o remount,mode=755 $debugfs
chmod 444 $file

(($#)) || set -- limit kinds place many load waiting tracepoints
for part; do
	$part
done

tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_ok "and the file is gone" test ! -e $debugfs/iopmem
tap_done
