#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# A dma-buf becomes an MR: by ibv_reg_dmabuf_mr(), by peer memory, or not at
# all, each with every kind of traffic, refusal and end.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

for kernel in patched debug vanilla; do
	tap_run "$kernel" ./lab run --kernel "$kernel" --timeout 3600 -- \
		tests/guest/doors.sh
done
tap_done
