#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# libiopmem on a kernel without our series: every call, and no door for MRs.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

bar=$(iopmem-bind bar0)
rxe-up
tap_run "rxe" as-user libiopmem_calls "$bar" rxe0 0
modprobe siw
rdma link add siw0 type siw netdev lo
tap_run "siw" as-user libiopmem_calls "$bar" siw0 0
tap_done
