#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# BAR memory that goes away under RDMA traffic, and users who do.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

for kernel in debug patched; do
	tap_run "$kernel" ./lab run --kernel "$kernel" -- tests/guest/revoke.sh
done
tap_done
