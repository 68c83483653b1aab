#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# perftest --use_p2p: what it moves, what it refuses and what it says. Everything
# runs as an ordinary user.
# shellcheck disable=SC2154,SC2034 # shared with perftest_pair.sh
set -euo pipefail
. tests/tap.sh

. tests/guest/perftest_pair.sh

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

# Until it is stopped, with a line for each interval
runs_infinitely()
{
	local name="--run_infinitely" pid client tries went_on=
	port=$((port + 1))
	local -a tool=(as-user stdbuf -oL ib_write_bw -d rxe0 -F -p "$port"
		       --disable_pcie_relaxed --run_infinitely -D 1 --use_p2p)
	"${tool[@]}" >"$tmp/server" 2>&1 &
	pid=$!
	until listens "$port" || ! kill -0 "$pid" 2>/dev/null; do
		sleep 0.1
	done
	"${tool[@]}" 127.0.0.1 >"$tmp/client" 2>&1 &
	client=$!
	for ((tries = 0; tries < 600; tries++)); do
		! grep -q "^ 65536  *[1-9]" "$tmp/client" || break
		sleep 0.1
	done
	sleep 2
	! kill "$client" || went_on=1
	wait "$client" || true
	kill "$pid" 2>/dev/null || true
	wait "$pid" || true
	if [[ $went_on ]]; then
		says "$name" "$tmp/client" "^ 65536  *[1-9]"
	else
		not_ok "$name" "$tmp/server" "$tmp/client"
	fi
}

# finds_change SIDE CHANGE TEXT TOOL ARG...: what is compared is what is in the
# memory: of the side's buffer CHANGE (see change_bytes.c) happens at the end.
finds_change()
{
	local side=$1 change=$2 text=$3 name="$4 ${*:5}: $2 at the $1"
	shift 3
	server=(--p2p_dev=/dev/iopmem1 "${door[@]}")
	client=(--use_p2p "${door[@]}")
	if LD_PRELOAD=$LAB_BUILD/user/tests/libchange_bytes.so CHANGE=$change \
	   pair "$@" --check_data; then
		not_ok "$name" "$tmp/$side"
	else
		says "$name" "$tmp/$side" "Data check failed: $text"
	fi
}

# report NAME DOOR OPTION...: what --out_json says of the memory
report()
{
	local name=$1 door=$2
	shift 2
	server=(--use_p2p)
	client=("$@" --out_json "--out_json_file=$LAB_OUT/report.json")
	chmod 777 "$LAB_OUT"
	moves "$name: a test" ib_write_bw -n 20
	tap_is "$name: what it says" "$(python3 -c '
import json, sys
report = json.load(open(sys.argv[1]))
memory = report["test_info"]["PCI_memory"]
print(*(memory[k] for k in ("device", "PCI_address", "cache_mode", "door", "size")))
print(report["results"]["MsgSize"])' "$LAB_OUT/report.json" 2>&1)" \
		"${1#*=} $(lab-host address bar1) uncached $door 67108864
65536"
	rm -f "$LAB_OUT/report.json"
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
     "^ PCI memory  *: /dev/iopmem0, $(lab-host address bar0), \(uncached\|write-combining\), by peer memory, [0-9]* of 67108864 bytes free"
says "the server's, too" "$tmp/server" \
     "^ PCI memory  *: /dev/iopmem0, $(lab-host address bar0),"

# Ways of running a test. perftest_matrix.sh has tools, sizes and connections.
arrives server "several QPs" ib_write_bw -n 20 -q 4
arrives server "a memory region for each QP" ib_write_bw -n 20 -q 2 --mr_per_qp
arrives server "the same, received" ib_send_bw -n 20 -q 2 --mr_per_qp
arrives both "in both directions" ib_write_bw -n 20 -b
arrives both "in both directions, read" ib_read_bw -n 20 -b -q 2
arrives both "in both directions, received" ib_send_bw -n 20 -b
arrives server "an SRQ" ib_send_bw -n 20 -q 4 --use-srq
arrives server "lists of requests" ib_write_bw -n 20 -l 4
arrives server "lists of receive requests" ib_send_bw -n 20 --recv_post_list 4
arrives server "small messages" ib_write_bw -n 200 -s 100 -q 2
arrives client "small messages, read" ib_read_bw -n 200 -s 100
arrives server "lists of small messages" ib_write_bw -n 200 -s 100 -l 4
arrives server "small messages, received" ib_send_bw -n 200 -s 100
arrives both "small messages, in both directions" ib_send_bw -n 200 -s 100 -b
arrives server "lists of receive requests, small" \
	ib_send_bw -n 200 -s 100 --recv_post_list 4
arrives server "small messages, an SRQ" ib_send_bw -n 300 -s 100 -q 2 --use-srq
arrives server "small messages, UD" ib_send_bw -n 200 -s 100 -c UD
arrives both "additions in both directions" ib_atomic_bw -n 200 -b -q 2
arrives server "lists of additions" ib_atomic_bw -n 200 -l 4
arrives server "with immediate data" ib_write_bw -n 20 --write_with_imm
arrives server "all sizes" ib_write_bw -n 5 -a
arrives both "all sizes, latency" ib_write_lat -n 5 -a
arrives server "all sizes, UD" ib_send_bw -n 5 -a -c UD
arrives server "for a time" ib_write_bw -D 2
runs_infinitely

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

# The other way to register it, which Debian's rxe does not know
server=(--use_p2p_dmabuf)
client=(--use_p2p)
pair ib_write_bw -n 5 || true
says "a dma-buf that cannot be registered is explained" "$tmp/server" \
     "Cannot register a dma-buf of PCI memory '/dev/iopmem0': Operation not supported" \
     'cannot register dma-bufs: try another device, or leave out --use_p2p_dmabuf' \
     'Needed 131072 bytes, available [0-9]* of 67108864 bytes'
our_rdma_core=$LAB_BUILD/rdma-core/build/lib
export LD_LIBRARY_PATH=$our_rdma_core
arrives server "--use_p2p_dmabuf alone" ib_write_bw -n 20
says "--use_p2p_dmabuf takes the first device" "$tmp/server" \
     "^ PCI memory  *: /dev/iopmem0, .* by dma-buf,"
says "--use_p2p does not register a dma-buf" "$tmp/client" " by peer memory,"
server=(--p2p_dev=/dev/iopmem1 --use_p2p_dmabuf)
arrives server "--p2p_dev --use_p2p_dmabuf" ib_write_bw -n 20 -q 2 --mr_per_qp
says "--p2p_dev before it takes that device" "$tmp/server" \
     "^ PCI memory  *: /dev/iopmem1, .* by dma-buf,"
server=(--use_p2p_dmabuf)
client=(--use_p2p_dmabuf)
pair ib_write_bw -n 5 -s 67108864 || true
says "a dma-buf that is too large: needed and available bytes" "$tmp/client" \
     "Cannot allocate PCI memory of '/dev/iopmem0': Cannot allocate memory" \
     'Needed 134217728 bytes, available [0-9]* of 67108864 bytes'
report "a report" "peer memory" --p2p_dev=/dev/iopmem1
report "a report of a dma-buf" "dma-buf" --p2p_dev=/dev/iopmem1 --use_p2p_dmabuf
ln -s /dev/iopmem1 "$tmp/\"odd\\name\""
report "a report of an odd name" "peer memory" "--p2p_dev=$tmp/\"odd\\name\""

# Halves of a buffer are 64 KiB, or 4 KiB where messages are small: these are 128
# bytes apart.
for way in "" --use_p2p_dmabuf; do
	door=(${way:+"$way"})
	finds_change server flip:66536:1 \
		"1 of 65536 bytes differ; the first, byte 1000 of a message of QP 0," \
		ib_write_bw -n 5
done
door=()
finds_change client flip:1000:1 "1 of 65536 bytes differ; the first, byte 1000" \
	ib_read_bw -n 5
finds_change server flip:66536:1 "1 of 65536 bytes differ" ib_send_bw -n 5 -b
finds_change client flip:66536:1 "1 of 65536 bytes differ" ib_send_lat -n 5 -s 65536
finds_change server zero:4480:100 "100 of 3200 bytes differ; the first, byte 0" \
	ib_write_bw -n 200 -s 100
finds_change server flip:4585:1 "1 of 3200 bytes differ; the first, byte 105" \
	ib_write_bw -n 200 -s 100
finds_change server zero:8192:4096 "3200 of 6400 bytes differ; .* of QP 0" \
	ib_write_bw -n 200 -s 100 -q 2
finds_change server zero:8192:4096 "3200 of 6400 bytes differ" \
	ib_send_bw -n 300 -s 100 -q 2 --use-srq
finds_change server flip:6218:1 "1 of 4[0-9]* bytes differ; the first, byte 10 " \
	ib_send_bw -n 20 -s 2048 -c UD
finds_change server zero:4160:1 "1 of 5 bytes differ" ib_send_bw -n 5 -s 1 -c UD
finds_change server zero:4096:8 "QP 0, 19[0-9] was added instead of 200" \
	ib_atomic_bw -n 200
unset LD_LIBRARY_PATH
server=(--use_p2p --check_data)
client=()
if pair ib_write_bw -n 5 -s 4096; then
	not_ok "other data is found" "$tmp/server"
else
	says "other data is found" "$tmp/server" \
	     'Data check failed: .*do both sides have --check_data'
fi
pair ib_atomic_bw -n 5 -A CMP_AND_SWAP || true
says "compare and swap leaves nothing to compare" "$tmp/server" \
     '--check_data: compare and swap'

# As distributed, the tools take the mapping for memory as any other.
server=(--mmap=/dev/iopmem0)
client=(--mmap=/dev/iopmem1)
for tool in ib_{write,read,send}_bw; do
	tap_ok "the distribution's $tool --mmap" pair "/usr/bin/$tool" -n 20
done

echo 65536 >/sys/class/iopmem/iopmem0/user_limit
for option in --use_p2p --use_p2p_dmabuf; do
	server=("$option")
	pair ib_write_bw -n 5 || true
	says "beyond the user's limit, $option" "$tmp/server" \
	     "PCI memory .*'/dev/iopmem0': Disk quota exceeded" \
	     'more of the device than one user may' \
	     'Needed 131072 bytes, available'
done
echo 0 >/sys/class/iopmem/iopmem0/user_limit

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
refuses "--check_data without an end" "has no end to check at" \
	-- "${tool[@]}" --check_data --run_infinitely -D 1
refuses "--check_data where both send from where they receive" \
	"each receives where it sends from" \
	-- as-user ib_send_lat -d rxe0 -F --check_data --mr_per_qp
refuses "--check_data of the one byte that counts" "of 1 byte has none but" \
	-- as-user ib_write_lat -d rxe0 -F --check_data -s 1
refuses "--check_data beside a payload" "not with --payload_file_path" \
	-- "${tool[@]}" --check_data --payload_file_path="$tmp/bars"
refuses "Raw Ethernet" 'not with Raw Ethernet, where' \
	-- as-user raw_ethernet_bw -d rxe0 --client --use_p2p
as-user ib_write_bw --help >"$tmp/help" || true
says "--help names the options" "$tmp/help" ' --use_p2p ' ' --p2p_dev=<path> ' \
     ' --use_p2p_dmabuf ' ' --check_data '

for device in iopmem0 iopmem1 "${cmb##*/}"; do
	tap_ok "nothing of $device is held any more" \
		cmp "/sys/class/iopmem/$device/free" "/sys/class/iopmem/$device/size"
done

tap_done
