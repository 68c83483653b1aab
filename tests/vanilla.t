#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# What RDMA makes of BAR memory on a kernel without our series: the gap that
# it closes. A kernel that no longer fails like this has news for the README.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

tap_run "vanilla" ./lab run --kernel vanilla -- tests/guest/vanilla.sh
tap_done
