#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# An MR of several GiB on a mapping, for a device with DMA: a table of more than
# one segment.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

bar0=$(iopmem-bind bar0)
modprobe iopmem_peer
modprobe edu_hca
tap_run "6 GiB" hca_large edu_hca0 "$bar0" 6G
tap_is "all of it is free" "$(bytes_free "$bar0")" $((8 << 30))
tap_done
