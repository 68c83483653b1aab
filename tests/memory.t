#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# iopmem.ko on a bound BAR and on a CMB: who gets which memory, and what is
# refused.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

for kernel in vanilla debug; do
	tap_run "$kernel" ./lab run --kernel "$kernel" -- tests/guest/memory.sh
done
tap_done
