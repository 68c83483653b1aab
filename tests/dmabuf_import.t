#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# dma-bufs of BAR memory, with a device that does DMA to them: what importers
# are granted with and without the series, which addresses they get on each
# route, whose bytes arrive, and what they see when the memory is taken away.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

# guest KERNEL TOPOLOGY PART...
guest()
{
	local kernel=$1 topology=$2 options=()
	shift 2
	[[ $1 != large ]] || options=(--bar-size 4096)
	tap_run "$kernel, $topology" ./lab run --kernel "$kernel" \
		--topology "$topology" --timeout "${LAB_LONG:+1}1800" "${options[@]}" \
		-- tests/guest/dmabuf_import.sh "$@"
}

guest patched switch access revocation churn
guest vanilla switch access revocation
for topology in bridge blocked iommu; do
	guest patched $topology access
done
guest vanilla switch large
guest debug switch revocation
[[ ! ${LAB_LONG:-} ]] || guest debug switch access
tap_done
