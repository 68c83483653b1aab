# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# shellcheck shell=bash
#
# For the guest's halves of the suites: finding devices, binding and unbinding
# them, and looking at the kernel's log.

pci=/sys/bus/pci
class=/sys/class/iopmem

# pci_path ID: the sysfs folder of a QEMU device.
pci_path()
{
	echo "$pci/devices/$(lab-host address "$1")"
}

# node_of PATH: the /dev name of a function's node.
node_of()
{
	local dir
	for dir in "$1"/iopmem/iopmem*; do
		[[ -e $dir ]] && echo "/dev/${dir##*/}" && return
	done
	echo "$1 has no node" >&2
	return 1
}

# bytes_free NODE
bytes_free()
{
	cat "$class/${1##*/}/free"
}

# may_allocate PATH: the function's p2pmem/allocate, opened to users
may_allocate()
{
	chgrp 100 "$1/p2pmem/allocate"
	chmod 660 "$1/p2pmem/allocate"
	echo "$1/p2pmem/allocate"
}

# disk_of ID: the /dev name of an NVMe's namespace, waiting for it.
disk_of()
{
	local path tries disk
	modprobe nvme
	path=$(pci_path "$1")
	for ((tries = 0; tries < 100; tries++)); do
		for disk in "$path"/nvme/nvme*/nvme*n*; do
			[[ -b /dev/${disk##*/} ]] && echo "/dev/${disk##*/}" &&
				return
		done
		sleep 0.1
	done
	echo "$1 has no block device" >&2
	return 1
}

# in_shell CMD: the command line of a shell that has these functions
in_shell()
{
	echo "bash -ec '. tests/guest/device.sh; $*'"
}

# run_as USER CMD...: without privileges
run_as()
{
	setpriv --reuid "$1" --regid "$1" --init-groups --inh-caps=-all \
		--bounding-set=-all "${@:2}"
}

unbind()
{
	echo "${1##*/}" >"$1/driver/unbind"
}

attach()
{
	echo "${1##*/}" >$class/attach
}

detach()
{
	echo "${1##*/}" >$class/detach
}

# timed CMD...: and how many ms it took
timed()
{
	local start=${EPOCHREALTIME/./}
	"$@" || return
	echo $(((${EPOCHREALTIME/./} - start) / 1000))
}

# is_busy MODULE: rmmod refuses it at once, and says so. By its text: its exit
# status is 1 for all.
is_busy()
{
	local start=${EPOCHREALTIME/./} seconds=5 said
	[[ $LAB_KERNEL != debug ]] || seconds=30
	if ! said=$(rmmod "$1" 2>&1) && [[ $said == *"in use"* ]] &&
	   ((${EPOCHREALTIME/./} - start < seconds * 1000000)); then
		return
	fi
	echo "rmmod $1: $said, after $((${EPOCHREALTIME/./} - start)) us"
	return 1
}

# From here on slots are emptied and filled. lockdep takes two locks of pciehp's
# own for a deadlock then (reset_lock and pci_rescan_remove_lock, in
# pciehp_unconfigure_device() and pciehp_configure_device(), 6.12), and cannot be
# told of one lock only: no lock order is proven any more. Do this last.
slots_change()
{
	local proof=/proc/sys/kernel/prove_locking
	[[ ! -e $proof ]] || echo 0 >$proof
}

# plug_in ID: and wait until the guest has seen it.
plug_in()
{
	local tries path
	lab-host device_add "$1"
	path=$(pci_path "$1")
	for ((tries = 0; tries < 150; tries++)); do
		[[ -e $path ]] && return
		sleep 0.1
	done
	echo "$1 did not appear as $path" >&2
	return 1
}

# port_error KIND PATH [failed]: the port above PATH has an error, and the kernel
# recovers from it, or does not. KIND is fatal, a data link protocol error, whereupon the link is reset,
# or nonfatal, a poisoned TLP (bits of the Uncorrectable Error Status register,
# PCIe 5.0, 7.8.4.2). 6.12 asks the drivers below for a slot reset in both cases.
port_error()
{
	local port bus device function status tries outcome=${3:-successful}
	port=$(realpath "$2/..")
	IFS=:. read -r _ bus device function <<<"${port##*/}"
	case $1 in
	fatal) status='\x10\0\0\0' ;;
	nonfatal) status='\0\x10\0\0' ;;
	esac
	modprobe aer_inject
	log_from_here
	# struct aer_error_inj; the device takes it in one write only
	printf "\\x$bus\\x$device\\x0$function\\0$status%b" \
		"$(printf '\\0%.0s' {1..20})" | dd of=/dev/aer_inject \
		iflag=fullblock bs=28 status=none
	for ((tries = 0; tries < 100; tries++)); do
		! logged "${port##*/}: AER: device recovery $outcome" >/dev/null ||
			return 0
		sleep 0.05
	done
	echo "recovery of ${port##*/}: not $outcome"
	return 1
}

# From here on, logged sees what the kernel logs.
log_from_here()
{
	log_mark="tests: mark $RANDOM$RANDOM"
	echo "$log_mark" >/dev/kmsg
}

# logged REGEX
logged()
{
	dmesg | sed "1,/$log_mark/d" | grep -E -e "$1"
}

# The same, within a minute
soon_logged()
{
	local tries
	for ((tries = 0; tries < 120; tries++)); do
		! logged "$1" || return 0
		sleep 0.5
	done
	return 1
}

# refused NAME ERROR VALUE FILE: the kernel answers a write of VALUE with the
# text of ERROR, a regular expression.
refused()
{
	local name=$1 error=$2 value=$3 file=$4 said
	if said=$({ echo "$value" >"$file"; } 2>&1); then
		tap_result 1 "$name"
		echo "# it was accepted"
	elif [[ $said =~ $error ]]; then
		tap_result 0 "$name: ${BASH_REMATCH[0]}"
	else
		tap_result 1 "$name"
		echo "# $said"
	fi
}

# proven CMD...: CMD puts bytes into memory of bar0 and leaves copies of them
# in /tmp/proof. The host reads the file behind the BAR: they are there, and
# only there. (user is the caller's.)
proven()
{
	local way
	rm -rf /tmp/proof
	install -d -m 1777 /tmp/proof
	user "proof" "$@"
	for way in write read send; do
		cp /tmp/proof/$way "$LAB_OUT/$way"
		tap_ok "the host finds the bytes of the $way in bar0" \
			lab-host find bar0 $way
		tap_ok "and not in bar1" \
			bash -c "! lab-host find bar1 $way"
	done
}

# start_traffic ARG...: of verbs_revoke, up to DEV2, in the background as process
# $traffic; it is going on when this returns.
start_traffic()
{
	local tries
	rm -f /tmp/ready
	as-user verbs_revoke "$@" 5 'touch /tmp/ready; exec sleep 300' '' \
		>/tmp/traffic.log 2>&1 &
	traffic=$!
	for ((tries = 0; tries < 600; tries++)); do
		[[ -e /tmp/ready ]] && return
		sleep 0.1
	done
	cat /tmp/traffic.log
	return 1
}

stop_traffic()
{
	kill -9 "$traffic" 2>/dev/null || true
	wait "$traffic" 2>/dev/null || true
}

servers=()

# serve NAME FUNCTION: as root, for an ordinary user who runs $(asks NAME).
serve()
{
	rm -f "/tmp/$1".{request,answer}
	mkfifo -m 666 "/tmp/$1".{request,answer}
	answer "$@" &
	servers+=($!)
}

answer()
{
	local status=0 output
	read -r <"/tmp/$1.request"
	output=$("$2" 2>&1) || status=$?
	echo "$status $output" >"/tmp/$1.answer"
}

# The user's shell command for what serve does.
asks()
{
	echo "echo >/tmp/$1.request; read status output </tmp/$1.answer;" \
	     "echo \$output; exit \$status"
}

# The end of those that were not asked.
serve_nobody()
{
	kill "${servers[@]}" 2>/dev/null || true
	servers=()
}
