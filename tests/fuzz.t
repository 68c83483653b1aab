#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Random calls in random order, by several threads, while the memory comes and
# goes. Each program prints the command line that does the same again:
#	./lab run [--kernel debug] -- tests/guest/fuzz.sh SEED
# runs all that the suite does with one seed.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels patched tests/guest/fuzz.sh
[[ ${LAB_LONG:-} ]] || tap_run "debug" ./lab run --kernel debug --timeout 3600 -- \
	tests/guest/fuzz.sh 1
tap_done
