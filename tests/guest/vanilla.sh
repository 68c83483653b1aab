#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of vanilla.t.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

bar=$(iopmem-bind bar0)
rxe-up
tap_run "mapping of an iopmem device" as-user reg_mr -d "$bar" 32K \
	EREMOTEIO EREMOTEIO
tap_run "mapping of p2pmem/allocate" reg_mr \
	"$(pci_path bar0)/p2pmem/allocate" 32K EFAULT EREMOTEIO
tap_done
