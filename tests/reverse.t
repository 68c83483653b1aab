#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# RDMA devices that go while MRs on BAR memory live: links deleted, rdma_rxe
# removed, network namespaces ended. REVERSE_SEED and REVERSE_ROUNDS choose the
# random rounds.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

# on KERNEL ROUNDS SECONDS
on()
{
	tap_run "$1" ./lab run --kernel "$1" --timeout "$3" -- \
		tests/guest/reverse.sh "${REVERSE_ROUNDS:-$2}" \
		"${REVERSE_SEED:-1}"
}

if [[ ${LAB_LONG:-} ]]; then
	on patched 1000 20000
	on debug 100 20000
else
	on patched 20 1800
fi
tap_done
