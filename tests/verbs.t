#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# ibv_reg_mr() on BAR memory, and every kind of RDMA work with it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

tap_run "debug" ./lab run --kernel debug --timeout 1800 -- tests/guest/verbs.sh
tap_done
