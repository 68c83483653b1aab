#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of copy.t, in node 1, which sends. The drives are nvme1 of both;
# what is in their files is the host's to say.
# shellcheck disable=SC2154 # $class comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

copy=$LAB_BUILD/user/tools/copy/iopmem-copy
ours=LD_LIBRARY_PATH=$LAB_BUILD/rdma-core/build/lib
receiver_address=192.0.2.2
tmp=$(mktemp -d)

# Of the drives: 256 MiB
size=$((256 << 20))

# start_receiver ARG...: in the background as process $receiver; it listens when
# this returns. What it says goes to $tmp/receiver.
start_receiver()
{
	local tries
	on-node2 env "$ours" "$copy" --listen --json "$@" \
		>"$tmp/receiver" 2>&1 &
	receiver=$!
	for ((tries = 0; tries < 100; tries++)); do
		! on-node2 rdma resource show cm_id | grep -q LISTEN || return 0
		kill -0 $receiver 2>/dev/null || return
		sleep 0.1
	done
}

# send ARG...: what it says goes to $tmp/sender, its exit code is returned
send()
{
	env "$ours" timeout 300 "$copy" --json "$@" $receiver_address \
		>"$tmp/sender" 2>&1
}

# ended NAME SENDER'S RECEIVER'S: exit codes; waits for the receiver. What both say is
# shown if one of them is another.
ended()
{
	local code=0
	wait $receiver || code=$?
	tap_is "$1: exit codes" "$status $code" "$2 $3"
	[[ "$status $code" == "$2 $3" ]] ||
		sed 's/^/# /' "$tmp/sender" "$tmp/receiver"
}

# said SIDE KEY: from the JSON of the sender or the receiver
said()
{
	python3 - "$tmp/$1" "$2" <<-'END'
		import json, sys
		lines = open(sys.argv[1]).read().splitlines()
		print(json.loads([l for l in lines if l[:1] == "{"][-1])
		      .get(sys.argv[2], "-"))
	END
}

# says NAME SIDE PATTERN
says()
{
	# shellcheck disable=SC2016 # for the other shell
	tap_ok "$1" bash -c 'grep -e "$1" "$2" || { cat "$2"; exit 1; }' - \
		"$3" "$tmp/$2"
}

fresh_target() { on-node2 blkdiscard -z "$there"; }

# moved NAME BYTES: what the drives of both nodes have moved: in BARs, in DRAM
moved()
{
	tap_is "$1: the drive of node 1 read into BARs and DRAM" \
		"$(lab-host dma-count)" "$2"
	tap_is "$1: the drive of node 2 wrote from BARs and DRAM" \
		"$(on-node2 lab-host dma-count)" "$2"
}

# copied NAME ID MEMORY OPTION...: all of that drive, through that memory of both
copied()
{
	local name=$1 id=$2 memory=$3 status=0 option receiver_options=()
	local source=$here bytes=$size moves
	[[ $id == nvme1 ]] || source=$small bytes=$small_size
	moves="$bytes 0"
	[[ $memory != host ]] || moves="0 $bytes"
	shift 3
	for option; do
		[[ $option != --dmabuf ]] || receiver_options=(--dmabuf)
	done
	fresh_target
	start_receiver --through "$memory" "${receiver_options[@]}" "$there"
	lab-host dma-start
	on-node2 lab-host dma-start
	send --through "$memory" "$@" "$source" || status=$?
	ended "$name" 0 0
	moved "$name" "$moves"
	tap_is "$name: the host finds the same in both drives" \
		"$(on-node2 lab-host crc32 nvme1 "$bytes")" \
		"$(lab-host crc32 "$id")"
	echo "# $name: $(said sender seconds) s, CPU: $(said sender cpu_seconds) s"
}

node1()
{
	bar=$(iopmem-bind bar0)
	cmb=$(iopmem-bind nvme0)
	here=$(disk_of nvme1)
	rxe-up eth0
	modprobe -a iopmem_peer rdma_ucm
}

node1
on-node2 bash -ec ". tests/guest/device.sh; $(declare -f node1); node1"
there=$(on-node2 bash -ec ". tests/guest/device.sh; disk_of nvme1")
tap_is "both nodes call it the same" "$(on-node2 bash -c 'ls /dev/iopmem*')" \
	"$bar
$cmb"

if [[ $LAB_TOPOLOGY == blocked ]]; then
	start_receiver "$there"
	status=0
	send "$here" || status=$?
	ended "no route" 1 1
	says "no route: what the sender says" sender \
		"reading $here at [0-9]*: Remote I/O error: does the drive reach the memory? see iopmem topo"
	says "and the receiver" receiver \
		"the other side: reading $here at [0-9]*: Remote I/O error"
	start_receiver "$there"
	status=0
	send --through host "$here" || status=$?
	ended "no route for the receiver's drive" 1 1
	says "what the receiver says" receiver \
		"writing $there at [0-9]*: Remote I/O error: does the drive"
	says "and the sender" sender "the other side: writing $there at"
	tap_done
	exit
fi

dd if=/dev/urandom of="$here" bs=1M count=$((size >> 20)) oflag=direct \
	status=none
small=$(disk_of nvme0)
small_size=$((64 << 20))
dd if=/dev/urandom of="$small" bs=1M count=64 oflag=direct status=none
small_crc=$(lab-host crc32 nvme0)

# All in the larger drive when there is time: each takes half a minute
others=nvme0
[[ ! ${LAB_LONG:-} ]] || others=nvme1
copied "BAR" nvme1 "$bar"
copied "BAR, dma-buf" $others "$bar" --dmabuf
copied "CMB" $others "$cmb"
copied "CMB, dma-buf" $others "$cmb" --dmabuf
copied "host memory" $others host
[[ $LAB_TOPOLOGY == switch ]] || { tap_done; exit; }

fresh_target
start_receiver "$there"
status=0
send --checksum --progress --block 256K --depth 8 "$small" || status=$?
ended "with a checksum" 0 0
says "progress" sender " of 64\.0 MiB, [0-9]*%, .* MiB/s, [0-9]*:[0-9][0-9] left"
tap_is "both tell the one that the host finds in the drives" \
	"$(said sender crc32) $(said receiver crc32) $(on-node2 lab-host crc32 nvme1 $small_size)" \
	"$small_crc $small_crc $small_crc"
start_receiver "$there"
status=0
LD_PRELOAD=$LAB_BUILD/user/tests/libpost_order.so send "$small" || status=$?
ended "each block is read back before it is told of" 0 0
start_receiver "$there"
status=0
LD_PRELOAD=$LAB_BUILD/user/tests/libchange_input.so CHANGE=10000 \
	send --checksum --depth 1 "$here" || status=$?
ended "a bit changes on the way" 1 1
says "what the receiver says" receiver "block 0 has arrived changed: checksum "
says "and the sender" sender "the other side: block 0 has arrived changed"
fresh_target
start_receiver --through host "$there"
chgrp 100 "$small"
chmod 640 "$small"
send_as_user() { as-user "$copy" --json "$@" $receiver_address; }
status=0
send_as_user --through "$bar" "$small" >"$tmp/sender" 2>&1 || status=$?
ended "an ordinary user, to host memory" 0 0
tap_is "and the data" "$(on-node2 lab-host crc32 nvme1 $small_size)" \
	"$small_crc"

# ---- ends in the middle

nothing_left()
{
	tap_is "$1: no MR and no memory is in use" \
		"$(rdma resource show mr | wc -l)$(on-node2 rdma resource show mr | wc -l) $(bytes_free "$bar") $(on-node2 cat "$class/${bar##*/}/free")" \
		"00 $(<"$class/${bar##*/}/size") $(<"$class/${bar##*/}/size")"
}

# interrupted_by NAME CODES SENDER RECEIVER CMD...: what the two say when CMD is run
# while a copy goes on
interrupted_by()
{
	local name=$1 codes
	read -ra codes <<<"$2"
	local sender_says=$3 receiver_says=$4 status=0 sender
	local written
	shift 4
	fresh_target
	on-node2 lab-host throttle nvme1 10
	start_receiver --timeout 10 "$there"
	send --progress --timeout 10 "$here" &
	sender=$!
	# some of it is in the drive
	until grep -q "[1-9][0-9]*\.[0-9] of " "$tmp/sender" ||
		! kill -0 $sender; do
		sleep 0.1
	done
	# what it finds no more makes other exit codes
	"$@" || true
	wait $sender || status=$?
	ended "$name" "${codes[@]}"
	[[ ! $sender_says ]] ||
		says "$name: what the sender says" sender "$sender_says"
	[[ ! $receiver_says ]] ||
		says "$name: what the receiver says" receiver "$receiver_says"
	on-node2 lab-host throttle nvme1 0
	nothing_left "$name"
	[[ $sender_says ]] || return 0
	written=$(said sender written)
	tap_ok "$name: $written bytes are said to have been written" \
		test "$written" -gt 0 -a "$written" -lt $size
	tap_is "$name: so many are, indeed" \
		"$(on-node2 lab-host crc32 nvme1 "$written")" \
		"$(lab-host crc32 nvme1 "$written")"
}

kill_receiver() { on-node2 pkill "-$1" -x iopmem-copy; }
stop_receiver()
{
	kill_receiver STOP
	# $sender is interrupted_by()'s
	while kill -0 "$sender" 2>/dev/null; do sleep 0.1; done
	kill_receiver KILL
}
take_memory() { unbind "$(pci_path bar0)"; iopmem-bind bar0 >/dev/null; }
second_sender()
{
	"$copy" "$here" $receiver_address >"$tmp/second" 2>&1 &&
		echo "it was served" >>"$tmp/second"
	pkill -INT -x iopmem-copy
}

interrupted_by "the receiver is killed" "1 137" \
	"the other side has gone" "" kill_receiver KILL
interrupted_by "the sender is killed" "137 1" \
	"" "the other side has gone" pkill -KILL -x iopmem-copy
interrupted_by "the receiver stops" "1 137" \
	"the other side has said nothing for 10 s" "" stop_receiver
interrupted_by "the receiver is interrupted" "1 1" \
	"the other side: interrupted" "iopmem-copy: interrupted" \
	kill_receiver INT
interrupted_by "the receiver's host stops for 15 s" "1 1" \
	"the other side \(does not answer any more\|has said nothing for\)" \
	"the other side" on-node2 lab-host freeze 15
interrupted_by "the sender's memory is taken" "1 1" "taken away" \
	"the other side" take_memory
interrupted_by "the receiver's memory is taken" "1 1" \
	"\(the other side\|taken away\)" "\(the other side\|taken away\)" \
	on-node2 bash -ec ". tests/guest/device.sh; $(declare -f take_memory); take_memory"
interrupted_by "a second sender, and the end of the first" "1 1" \
	"interrupted" "the other side: interrupted" second_sender
tap_ok "what the second is told" \
	grep "refuses: another sender is being served" "$tmp/second"

# ---- what cannot work

# cannot NAME PATTERN ARG...: of the sender, with nobody listening
cannot()
{
	local name=$1 pattern=$2 status=0
	shift 2
	send "$@" || status=$?
	tap_is "$name: exit code" "$status" 1
	says "$name: why" sender "iopmem-copy: .*$pattern"
}

# refused_by_receiver NAME PATTERN SOURCE TARGET [OPTION...]
refused_by_receiver()
{
	local name=$1 pattern=$2 source=$3 target=$4 status=0
	shift 4
	start_receiver "$target"
	send "$@" "$source" || status=$?
	ended "$name" 1 1
	says "$name: what the receiver says" receiver "$pattern"
	says "$name: and the sender" sender \
		"$receiver_address refuses: .*$pattern"
}

cannot "nobody listens" "nobody listens on port 18610" "$here"
cannot "no such source" "/nonexistent: No such file" /nonexistent
cannot "a folder" "/tmp: neither a file nor a block device" /tmp
cannot "no device of iopmem" "/dev/null: not a device of iopmem" \
	--through /dev/null "$here"
cannot "no such memory" "/dev/iopmem9: No such file" \
	--through /dev/iopmem9 "$here"
receiver_address=192.0.2.9 cannot "no such host" \
	"192.0.2.9 is not reached by an RDMA device" --timeout 3 "$here"
receiver_address=nowhere.invalid cannot "no such name" \
	"nowhere.invalid port 18610: " "$here"
cannot "not as much memory" "a smaller --block or --depth needs less" \
	--block 8M --depth 16 "$here"
status=0
send_as_user --through host "$small" >"$tmp/sender" 2>&1 || status=$?
tap_is "a user may lock 64 KiB of host memory: exit code" "$status" 1
says "and is told" sender "see ulimit -l"
refused_by_receiver "a target that is too small" \
	"is too small: $size bytes needed, 67108864 available" "$here" \
	"$(on-node2 bash -ec '. tests/guest/device.sh; disk_of nvme0')"
# not_believed NAME SIZE BLOCK DEPTH
not_believed()
{
	local status=0
	start_receiver "$there"
	copy_hello $receiver_address "${@:2}" >"$tmp/sender" 2>&1 || status=$?
	ended "$1" 0 1
	says "$1: why" sender "the sender sends nonsense"
}

not_believed "too many slots" 4096 4096 0xffffffff
not_believed "one slot too many" 4096 4096 65
not_believed "no slots" 4096 4096 0
not_believed "no blocks" 4096 0 4
not_believed "odd blocks" 4096 4097 4
not_believed "blocks that are too large" 4096 0x100000000 4
not_believed "a size that is no file's" 0xffffffffffffffff 4096 4
status=0
start_receiver "$there"
timeout 60 ib_write_bw -d rxe0 -R -F -p 18610 $receiver_address \
	>/dev/null 2>&1 || status=$?
status=$((status != 0))
ended "something else connects" 1 1
says "what the receiver says" receiver "the sender is no iopmem-copy"

# ---- files

fs=/tmp/fs
make_fs() { mkfs.ext4 -qF "$1" && mkdir -p "$2" && mount "$1" "$2"; }
make_fs "$here" $fs
on-node2 bash -ec "$(declare -f make_fs); make_fs $there $fs"

# file_copied NAME SIZE
file_copied()
{
	local status=0
	head -c "$2" /dev/urandom >$fs/source
	start_receiver $fs/target
	send --checksum $fs/source || status=$?
	ended "$1" 0 0
	tap_is "$1: the target" \
		"$(on-node2 sha256sum $fs/target | cut -d ' ' -f 1)" \
		"$(sha256sum $fs/source | cut -d ' ' -f 1)"
	tap_is "$1: its checksum" "$(said sender crc32)" \
		"$(python3 -c 'import sys, zlib; print(
			f"{zlib.crc32(sys.stdin.buffer.read()):08x}")' <$fs/source)"
}

file_copied "a file of odd length" 5000123
file_copied "a shorter one in its place" 70001
file_copied "one byte" 1
file_copied "nothing" 0
file_copied "whole blocks" $((4 << 20))
truncate -s 100M $fs/source
on-node2 fallocate -l 180M $fs/large
status=0
on-node2 "$copy" --listen "$there" >"$tmp/receiver" 2>&1 || status=$?
tap_is "a target that is mounted: exit code" "$status" 1
says "a target that is mounted" receiver \
	"$there: Device or resource busy"
refused_by_receiver "a full file system" \
	"104857600 bytes needed: No space left on device" $fs/source $fs/target
tap_is "the target is as it was" "$(on-node2 stat -c %s $fs/target)" \
	$((4 << 20))
head -c 1000 /dev/urandom >$fs/source
refused_by_receiver "a length that the drive cannot have" \
	"1000 bytes are not whole blocks of /dev/" $fs/source \
	"$(on-node2 bash -ec '. tests/guest/device.sh; disk_of nvme0')"
umount $fs
on-node2 umount $fs

# ---- the end

nothing_left "in the end"
tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_ok "nor in node 2" on-node2 rmmod iopmem_peer iopmem
tap_done
