#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# perftest --use_p2p: what it moves, what it refuses and what it says. Everything
# runs as an ordinary user.
set -euo pipefail
. tests/tap.sh

port=20000
tmp=$(mktemp -d)
chmod 755 "$tmp"
trap 'rm -rf "$tmp"' EXIT

# not_ok NAME FILE...: with what the tools have printed.
not_ok()
{
	tap_result 1 "$1"
	shift
	sed 's/^/# /' "$@"
}

listens()
{
	grep -Eq "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$1") [0-9A-F]+:0000 0A " \
		/proc/net/tcp /proc/net/tcp6
}

# Runs both sides of a test, with the options in the arrays server and client
# beside those given here. True if both succeed.
server=()
client=()
pair()
{
	local tool=$1 pid client_status=0 server_status=0
	shift
	port=$((port + 1))
	local -a common=(-d rxe0 -F --disable_pcie_relaxed -p "$port" "$@")

	as-user timeout 120 "$tool" "${common[@]}" "${server[@]}" \
		>"$tmp/server" 2>&1 &
	pid=$!
	until listens "$port"; do
		if ! kill -0 "$pid" 2>/dev/null; then
			: >"$tmp/client"
			return 1
		fi
		sleep 0.1
	done
	as-user timeout 120 "$tool" "${common[@]}" "${client[@]}" 127.0.0.1 \
		>"$tmp/client" 2>&1 || client_status=$?
	wait "$pid" || server_status=$?
	[[ $client_status == 0 && $server_status == 0 ]]
}

# moves NAME TOOL ARG...: the test succeeds, and each side has PCI memory
# exactly if it was asked to.
moves()
{
	local name=$1 side good=true
	shift
	pair "$@" || good=false
	for side in server client; do
		local -n given=$side
		if [[ "${given[*]} $*" =~ --(use_p2p|p2p_dev) ]]; then
			grep -q '^ PCI memory  *: /dev/iopmem' "$tmp/$side" || good=false
		else
			! grep -q 'PCI memory' "$tmp/$side" || good=false
		fi
	done
	if $good; then
		tap_result 0 "$name"
	else
		not_ok "$name" "$tmp/server" "$tmp/client"
	fi
}

# says NAME FILE TEXT...: all of these texts are in the file.
says()
{
	local name=$1 file=$2 text
	shift 2
	for text; do
		if ! grep -q -e "$text" "$file"; then
			not_ok "$name" "$file"
			echo "# it does not say: $text"
			return
		fi
	done
	tap_result 0 "$name"
}

# refuses NAME TEXT... -- COMMAND...: it exits with 1 and says so.
refuses()
{
	local name=$1 status=0
	local -a texts=()
	shift
	while [[ $1 != -- ]]; do
		texts+=("$1")
		shift
	done
	shift
	timeout 60 "$@" >"$tmp/refused" 2>&1 || status=$?
	if [[ $status != 1 ]]; then
		not_ok "$name" "$tmp/refused"
		echo "# exit status $status"
	else
		says "$name" "$tmp/refused" "${texts[@]}"
	fi
}

# conflicts TEXT OPTION...: the option is refused beside ours, in any order.
conflicts()
{
	local text=$1
	local -a tool=(as-user ib_write_bw -d rxe0 -F)
	shift
	refuses "--use_p2p $*" "$text" -- "${tool[@]}" --use_p2p "$@"
	refuses "$* --use_p2p" "$text" -- "${tool[@]}" "$@" --use_p2p
	refuses "$* --p2p_dev" "$text" -- "${tool[@]}" "$@" \
		--p2p_dev=/dev/iopmem0
}

# Makes $LAB_OUT/$1, that the host looks for in a BAR, and $tmp/$1, the same as
# perftest's --payload_file_path wants it.
make_payload()
{
	head -c 4096 /dev/urandom >"$LAB_OUT/$1"
	od -An -v -tx4 -w4 "$LAB_OUT/$1" | sed 's/^ */0x/' | paste -sd, >"$tmp/$1"
}

# absent ID FILE: the file's bytes are nowhere in the BAR.
absent()
{
	! lab-host find "$@"
}

# Every failed registration says what it needs, whatever the reason.
registration_fails()
{
	local name=$1 size=$2 reason=$3
	server=(--use_p2p)
	client=(--use_p2p)
	pair ib_write_bw -n 5 -s "$size" || true
	says "$name" "$tmp/client" \
	     "Cannot register PCI memory '/dev/iopmem0': $reason" \
	     'needs* .*peer memory support.* modprobe iopmem_peer' \
	     "Needed $((2 * size)) bytes, available [0-9]* of 67108864 bytes" \
	     "Couldn't allocate MR"
}

[[ $(iopmem-bind bar0) == /dev/iopmem0 ]]
[[ $(iopmem-bind bar1) == /dev/iopmem1 ]]
rxe-up

# Without the peer memory client it is as on a kernel that has no peer memory.
registration_fails "a registration that fails is explained" 4096 \
	'\(Bad address\|Remote I/O error\)'
registration_fails "a registration that fails for RLIMIT_MEMLOCK, too" 65536 \
	'Cannot allocate memory'

if [[ $LAB_KERNEL == vanilla ]]; then
	tap_done
	exit
fi
modprobe iopmem_peer

server=(--use_p2p)
client=(--use_p2p)
for tool in ib_{write,read,send}_bw; do
	moves "$tool, BAR to BAR" "$tool" -n 20 -s 65536
done
for tool in ib_{write,read,send}_lat; do
	moves "$tool, BAR to BAR" "$tool" -n 20 -s 4096
done
for tool in ib_atomic_{bw,lat}; do
	moves "$tool, BAR to BAR" "$tool" -n 20
done
says "the client's output names the memory" "$tmp/client" \
     "^ PCI memory  *: /dev/iopmem0, $(lab-host address bar0), \(uncached\|write-combining\), [0-9]* of 67108864 bytes free"
says "the server's, too" "$tmp/server" \
     "^ PCI memory  *: /dev/iopmem0, $(lab-host address bar0),"

moves "several QPs" ib_write_bw -n 20 -q 4
moves "a memory region for each QP" ib_write_bw -n 20 -q 2 --mr_per_qp
moves "in both directions" ib_write_bw -n 20 -b
moves "UC" ib_write_bw -n 20 -c UC
moves "UD" ib_send_bw -n 20 -c UD -s 2048

server=(--p2p_dev=/dev/iopmem1) client=(--use_p2p)
moves "--p2p_dev alone, and two devices" ib_write_bw -n 20
says "--p2p_dev takes that device" "$tmp/server" \
     "^ PCI memory  *: /dev/iopmem1, $(lab-host address bar1),"
server=(--p2p_dev /dev/iopmem1 --use_p2p) client=(--use_p2p --p2p_dev /dev/iopmem1)
moves "--p2p_dev before and after --use_p2p" ib_read_bw -n 20
says "before it" "$tmp/server" "^ PCI memory  *: /dev/iopmem1,"
says "after it" "$tmp/client" "^ PCI memory  *: /dev/iopmem1,"

# One side's buffer in PCI memory and the other's in system memory, of which
# RLIMIT_MEMLOCK allows 64 KiB; 4096 bytes need 8 KiB. The host says in which
# BAR the data ends.
for tool in ib_{write,send}_bw; do
	make_payload "$tool"
	server=(--p2p_dev=/dev/iopmem1)
	client=(--payload_file_path="$tmp/$tool")
	moves "$tool from system memory to bar1" "$tool" -n 20 -s 4096
	tap_ok "its payload is in bar1" lab-host find bar1 "$tool"
	tap_ok "and not in bar0" absent bar0 "$tool"
done
make_payload ib_read_bw
server=(--payload_file_path="$tmp/ib_read_bw")
client=(--use_p2p)
moves "ib_read_bw from system memory to bar0" ib_read_bw -n 20 -s 4096
tap_ok "its payload is in bar0" lab-host find bar0 ib_read_bw
server=() client=(--use_p2p)
for tool in ib_{write,send}_bw ib_{write,send}_lat; do
	moves "$tool from bar0 to system memory" "$tool" -n 20 -s 4096
done
server=(--use_p2p) client=()
for tool in ib_read_{bw,lat}; do
	moves "$tool from bar0 to system memory" "$tool" -n 20 -s 4096
done

# From bar0 to bar1, without the CPU: the client's payload is in bar0 first.
make_payload bars
server=(--p2p_dev=/dev/iopmem1)
client=(--use_p2p --payload_file_path="$tmp/bars")
moves "ib_write_bw from bar0 to bar1" ib_write_bw -n 20 -s 4096
tap_ok "the payload is in bar0" lab-host find bar0 bars
tap_ok "and in bar1" lab-host find bar1 bars

# A CMB: every access is trapped by QEMU, as by a bus that has no memory of its
# own behind it.
cmb=$(iopmem-bind nvme0)
server=(--p2p_dev="$cmb")
client=(--use_p2p)
moves "ib_write_bw from bar0 to a CMB" ib_write_bw -n 20 -s 4096
make_payload cmb
server=(--use_p2p)
client=(--p2p_dev="$cmb" --payload_file_path="$tmp/cmb")
moves "ib_send_bw from a CMB to bar0" ib_send_bw -n 20 -s 4096
tap_ok "its payload is in bar0" lab-host find bar0 cmb

# A device with which perftest sends small messages inline.
server=() client=()
export LD_PRELOAD=$LAB_BUILD/user/tests/libinline_device.so
for tool in ib_{write,send}_lat; do
	moves "$tool with an inline device" "$tool" -n 20
	says "$tool is inline from system memory" "$tmp/client" \
	     'Max inline data : [1-9]'
	client=(--use_p2p)
	moves "$tool --use_p2p with an inline device" "$tool" -n 20
	says "$tool is never inline from PCI memory" "$tmp/client" \
	     'Max inline data : 0'
	client=()
done
unset LD_PRELOAD
server=(--use_p2p) client=(--use_p2p)
moves "-I 0 is no inline" ib_write_bw -n 20 -I 0

server=(--use_p2p)
client=(--use_p2p)
pair ib_write_bw -n 5 -s 67108864 || true
says "too large: needed and available bytes" "$tmp/client" \
     "Cannot map PCI memory '/dev/iopmem0': Cannot allocate memory" \
     'Use a smaller message size' \
     'Needed 134217728 bytes, available 67108864 of 67108864 bytes'

tool=(as-user ib_write_bw -d rxe0 -F)
refuses "a missing device" \
	"Cannot open PCI memory '/dev/iopmem7': No such file" 'bind the iopmem driver' \
	-- "${tool[@]}" --p2p_dev=/dev/iopmem7
refuses "no permission" \
	"Cannot open PCI memory '/dev/iopmem0': Permission denied" 'group' \
	-- as-stranger ib_write_bw -d rxe0 -F --use_p2p
refuses "a character device of another driver" \
	"Cannot use as PCI memory '/dev/null': not a device of the iopmem driver" \
	-- "${tool[@]}" --p2p_dev=/dev/null
: >"$tmp/file"
chmod 666 "$tmp/file"
refuses "a regular file" \
	"Cannot use as PCI memory '$tmp/file': not a character device" \
	-- "${tool[@]}" --p2p_dev="$tmp/file"
refuses "--use_p2p DEVICE" "did you mean --p2p_dev=/dev/iopmem0?" \
	-- "${tool[@]}" --use_p2p /dev/iopmem0
refuses "--use_p2p DEVICE SERVER" "did you mean --p2p_dev=/dev/iopmem0?" \
	-- "${tool[@]}" --use_p2p /dev/iopmem0 127.0.0.1
conflicts "inline" -I 8
conflicts "one kind of memory only" --mmap=/dev/zero
conflicts "one kind of memory only" --use_hugepages
conflicts "cannot be paged" --odp
refuses "Raw Ethernet" 'not with Raw Ethernet, where' \
	-- as-user raw_ethernet_bw -d rxe0 --client --use_p2p
as-user ib_write_bw --help >"$tmp/help" || true
says "--help names the options" "$tmp/help" ' --use_p2p ' ' --p2p_dev=<path> '

for device in iopmem0 iopmem1 "${cmb##*/}"; do
	tap_ok "nothing of $device is held any more" \
		cmp "/sys/class/iopmem/$device/free" "/sys/class/iopmem/$device/size"
done

tap_done
