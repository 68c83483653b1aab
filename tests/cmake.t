#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The user-space parts as README says to build them from source, with each
# compiler and without a warning, and what is said when something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

work=$PWD/build/cmake

# from_source COMPILER
from_source()
{
	local tree=$work/$1
	tap_ok "$1: configured" cmake -B "$tree" -DCMAKE_C_COMPILER="$1" \
		-DENABLE_WERROR=ON
	tap_ok "$1: built without a warning" nice cmake --build "$tree" \
		--parallel 2
	tap_ok "$1: ctest" ctest --test-dir "$tree" --output-on-failure
	tap_ok "$1: installed" env DESTDIR="$tree/root" \
		cmake --install "$tree"
	tap_is "$1: the folders are GNU's" "$(cd "$tree/root" &&
		find . -type d -links 2 | LC_ALL=C sort)" \
"./usr/local/bin
./usr/local/etc/rdma/modules
./usr/local/include/infiniband
./usr/local/include/rdma
./usr/local/lib/pkgconfig
./usr/local/lib/udev/rules.d
./usr/local/share/bash-completion/completions
./usr/local/share/man/man1
./usr/local/share/man/man3
./usr/local/share/man/man5
./usr/local/share/man/man7
./usr/local/share/man/man8"
}

# without WHAT VARIABLE MESSAGE
without()
{
	local status=0 output
	output=$(cmake -B "$work/without-$1" "-D$2=OFF" 2>&1) || status=$?
	tap_is "without $1: configuring fails" "$status" 1
	tap_ok "and says what is missing" grep -F "$3" <<<"$output"
}

rm -rf "$work"
from_source gcc
from_source clang
without libibverbs IBVERBS "package libibverbs-dev"
without json-c JSON_C "package libjson-c-dev"
without librdmacm RDMACM "package librdmacm-dev"
without zlib ZLIB "package zlib1g-dev"
without pandoc PANDOC "pandoc is missing"
tap_done
