#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# MRs on BAR memory of a device that has DMA: addresses, data, and the end of both,
# in each topology; with --long on the kernel with all checkers too.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

topology()
{
	local kernel kernels=(patched)

	[[ ! ${LAB_LONG:-} ]] || kernels+=(debug)
	for kernel in "${kernels[@]}"; do
		tap_run "$kernel, $1" ./lab run --kernel "$kernel" \
			--topology "$1" --timeout "${LAB_LONG:+1}3600" \
			-- tests/guest/dma.sh "$2"
	done
}

topology switch bus
topology bridge host
topology iommu iova
topology blocked none
tap_done
