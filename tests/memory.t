#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# iopmem.ko on a bound BAR and on a CMB: who gets which memory, and what is
# refused.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

kernels=(vanilla)
# with every checker the kernel has, which takes its time under TCG
[[ ! ${LAB_LONG:-} ]] || kernels+=(debug)
for kernel in "${kernels[@]}"; do
	tap_run "$kernel" ./lab run --kernel "$kernel" --timeout 1800 -- tests/guest/memory.sh
done
tap_done
