#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# ibv_reg_mr() on BAR memory, and every kind of RDMA work with it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

for kernel in patched debug; do
	tap_run "$kernel" ./lab run --kernel "$kernel" --timeout 3600 -- \
		tests/guest/verbs.sh
done
for topology in switch bridge; do
	tap_run "large, $topology" ./lab run --topology $topology \
		--bar-size 8192 -- tests/guest/large_mr.sh
done
tap_done
