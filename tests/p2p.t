#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# O_DIRECT between an NVMe and BAR memory: by bus address, through the host
# bridge, and where there is no route.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

topology()
{
	local name=$1
	shift
	tap_run "$name" ./lab run --kernel vanilla --topology "$name" -- \
		tests/guest/p2p.sh "$@"
}

topology switch "bus-addr nothing 4 0000:06:00.0 - -"
topology bridge "host-bridge nothing 4 0000:04:00.0 - -"
topology blocked "none host-bridge 4 0000:04:00.0 0000:00:00.0 -" EREMOTEIO
tap_done
