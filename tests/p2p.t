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

topology switch
topology bridge
topology blocked EREMOTEIO
tap_done
