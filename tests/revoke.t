#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# BAR memory that goes away under RDMA traffic, and users who do.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

kernels=(patched)
# with every checker the kernel has, which takes its time under TCG
[[ ! ${LAB_LONG:-} ]] || kernels+=(debug)
for kernel in "${kernels[@]}"; do
	tap_run "$kernel" ./lab run --kernel "$kernel" --timeout 1800 -- tests/guest/revoke.sh
done
tap_done
