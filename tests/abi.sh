#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# abi.sh LIBRARY PROGRAM: does libiopmem.so have the interface that is recorded in
# libibverbs/libiopmem.abi? PROGRAM, libiopmem_abi, prints what the header makes
# of it.
set -euo pipefail
library=$(realpath "$1")
program=$(realpath "$2")
cd "$(dirname "$0")/.."

# All that a program built with today's library relies on
abi()
{
	readelf --wide --dynamic "$library" |
		sed -n 's/.*Library \(soname\): \[\(.*\)\]/\1 \2/p'
	readelf --wide --dyn-syms "$library" |
		awk '$7 != "UND" && $8 ~ /@/ { print "symbol " $8 " " $4 }' |
		LC_ALL=C sort
	"$program"
}

diff <(grep -v '^#' libibverbs/libiopmem.abi) <(abi) || {
	echo "A change that programs built before do not survive needs a new" \
		"soname, an addition a new version node; then update" \
		"libibverbs/libiopmem.abi."
	exit 1
}
