#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# BAR memory that goes away while it is in use: unbind, detach, removal, reset,
# suspend, rmmod and unplugging.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

kernels=(vanilla)
# with every checker the kernel has, which takes its time under TCG
[[ ! ${LAB_LONG:-} ]] || kernels+=(debug)
for kernel in "${kernels[@]}"; do
	tap_run "$kernel" ./lab run --kernel "$kernel" --timeout 1800 -- tests/guest/unplug.sh
done
tap_done
