#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# rdma-core 56.1 with the patches of providers/rxe/: MRs on dma-bufs through
# pyverbs, and the tests that rdma-core has for MRs and traffic.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels patched tests/guest/rdma_core.sh
tap_run "vanilla" ./lab run --kernel vanilla -- tests/guest/rdma_core.sh
tap_done
