#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Others who have ZONE_DEVICE memory are not harmed: a file system with DAX and a DAX
# device on persistent memory, without the series and with it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

for kernel in vanilla patched; do
	tap_run "$kernel" ./lab run --kernel $kernel --append 'memmap=256M!1G' \
		-- tests/guest/pmem.sh
done
tap_done
