#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# perftest --use_p2p: data between BARs and system memory, and what it says
# when it cannot be, on a kernel without the series for one.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

for kernel in patched vanilla; do
	tap_run "$kernel" ./lab run --kernel "$kernel" -- tests/guest/perftest.sh
done
tap_run "matrix" ./lab run --timeout 1800 -- tests/guest/perftest_matrix.sh
tap_done
