#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# MRs on BAR memory of a device that has DMA: addresses, data, and the end of both,
# in each topology.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

topology()
{
	tap_run "$1" ./lab run --topology "$1" --timeout "${LAB_LONG:+1}3600" \
		-- tests/guest/dma.sh "$2"
}

topology switch bus
topology bridge host
topology iommu iova
topology blocked none
tap_done
