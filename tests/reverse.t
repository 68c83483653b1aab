#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# RDMA devices that go while MRs on BAR memory live: links deleted, rdma_rxe
# removed, network namespaces ended. LAB_SEED chooses
# the random rounds.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels patched tests/guest/reverse.sh
tap_done
