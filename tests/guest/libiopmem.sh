#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# shellcheck disable=SC2154 # $class comes from device.sh
#
# libiopmem.sh EXAMPLES ASAN: the guest's half of libiopmem.t. EXAMPLES has the
# programs of the manual pages, ASAN the test programs with AddressSanitizer.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

examples=$1
asan=$2

# user NAME CMD...: as an ordinary user, and not for ever.
user()
{
	local name=$1
	shift
	tap_run "$name" as-user timeout 300 "$@"
}

# example NAME PATTERN ARGUMENT...: the program of a manual page, once built
# as C and once as C++, prints what it should.
example()
{
	local name=$1 pattern=$2 language said status
	shift 2
	for language in c c++; do
		status=0
		said=$(as-user "$examples/$name.$language" "$@" 2>&1) ||
			status=$?
		[[ $status == 0 && $said =~ $pattern ]] || status=1
		tap_result "$status" "$name(3), $language: \"${said//$'\n'/ }\""
	done
}

# all_calls NAME DEV DOOR WRAPPER...: every call and many MRs, by one door.
all_calls()
{
	local name=$1 dev=$2 door=$3
	shift 3
	user "$name" "$@" libiopmem_calls "$dev" rxe0 "$door"
	user "$name" "$@" libiopmem_mrs "$dev" rxe0 10000 200
	user "$name, fork" "$@" libiopmem_fork "$dev" rxe0
	RDMAV_FORK_SAFE=1 user "$name, RDMAV_FORK_SAFE" "$@" \
		libiopmem_fork "$dev" rxe0
}

# gone NAME WRAPPER...: when the device of an MR is unbound
gone()
{
	local name=$1 dev
	shift
	dev=$(iopmem-bind bar1)
	tap_run "$name, gone" timeout 300 "$@" libiopmem_gone "$dev" rxe0 \
		"$(lab-host address bar1)"
}

bar=$(iopmem-bind bar0)
cmb=$(iopmem-bind nvme0)
rxe-up
chgrp 100 /dev/udmabuf
chmod 660 /dev/udmabuf

# this rdma-core's rxe has no door for dma-bufs, and nobody claims mappings
user "no door" libiopmem_calls "$bar" rxe0 0
modprobe iopmem_peer

example iopmem_alloc "1048576 bytes, in a BAR" "$bar"
example iopmem_query_info "^iopmem0 at $(lab-host address bar0): 67108864 of 67108864 bytes free" "$bar"
example iopmem_query_route "^rxe0 reaches $(lab-host address bar0) by CPU: the RDMA device is virtual" "$bar" rxe0
example iopmem_reg_mr "^10000 bytes from 0x100000000064 on, rkey 0x[0-9a-f]+$" "$bar" rxe0

all_calls "mapping" "$bar" 2
user "mapping, CMB" libiopmem_calls "$cmb" rxe0 2
all_calls "mapping, ASan and UBSan" "$bar" 2 env PATH="$asan:$PATH"
gone "mapping"
gone "mapping, ASan and UBSan" env PATH="$asan:$PATH"
# slow: fewer MRs
user "mapping, valgrind" valgrind --quiet --error-exitcode=9 \
	--leak-check=full --show-leak-kinds=definite \
	--errors-for-leak-kinds=definite libiopmem_calls "$bar" rxe0 2
user "mapping, valgrind" valgrind --quiet --error-exitcode=9 \
	libiopmem_mrs "$bar" rxe0 100 5

# a provider that has the other door
patched=$LAB_BUILD/rdma-core/build/lib
if [[ -e $patched/libibverbs.so ]]; then
	all_calls "dma-buf" "$bar" 1 env LD_LIBRARY_PATH="$patched"
	all_calls "dma-buf, ASan and UBSan" "$bar" 1 \
		env LD_LIBRARY_PATH="$patched" PATH="$asan:$PATH"
	gone "dma-buf" env LD_LIBRARY_PATH="$patched"
else
	tap_skip "rdma-core with our patch is not built" "dma-buf"
fi

# without privilege, ACS cannot be read
tap_ok "an ordinary user gets a verdict with a reservation" \
	bash -c "as-user libiopmem_route '' '$(lab-host address nvme1)' \
		 '$(lab-host address nvme0)' | grep '^bus-addr acs-unknown 4 '"

tap_is "all is free" "$(bytes_free "$bar")" "$(<"$class/${bar##*/}/size")"
tap_ok "nothing holds iopmem_peer" rmmod iopmem_peer
tap_ok "nor iopmem" rmmod iopmem
tap_done
