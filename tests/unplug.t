#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# BAR memory that goes away while it is in use: unbind, detach, removal, reset,
# suspend, rmmod and unplugging.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

for kernel in vanilla debug; do
	tap_run "$kernel" ./lab run --kernel "$kernel" -- tests/guest/unplug.sh
done
tap_done
