#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Allocation failure at every allocation of every operation. The kernel that
# can do it has all checkers too.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

if [[ ! ${LAB_LONG:-} ]]; then
	tap_skip "it takes most of an hour: ./lab test --long fault" \
		"allocation failures"
	tap_done
	exit
fi
tap_run "debug" ./lab run --kernel debug --bar-size 16 --timeout 3600 -- \
	tests/guest/fault.sh
tap_done
