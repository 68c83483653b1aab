#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# A dma-buf becomes an MR: by ibv_reg_dmabuf_mr(), by peer memory, or not at
# all, each with every kind of traffic, refusal and end.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels patched tests/guest/doors.sh
tap_run vanilla ./lab run --kernel vanilla -- tests/guest/doors.sh
tap_done
