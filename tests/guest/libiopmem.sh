#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
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
