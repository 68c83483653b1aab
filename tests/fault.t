#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Allocation failure at every allocation of what users do most, with --long of
# every operation. The kernel that can do it has all checkers too.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

tap_run "debug" ./lab run --kernel debug --bar-size 16 \
	--timeout "${LAB_LONG:+5}1000" -- tests/guest/fault.sh
tap_done
