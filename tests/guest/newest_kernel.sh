#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of packages.t for a distribution's newest kernel: what iopmem
# offers without the series. The devices have been bound and attached at boot.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# memory NAME ID: of a device, as a user in group rdma
memory()
{
	local node
	node=$(node_of "$(pci_path "$2")")
	tap_run "$1, in group rdma" run_as member \
		"$LAB_BUILD/user/tests/mapping" "$node" 1M
	tap_run "$1" "$LAB_BUILD/user/tests/mapping" "$node" 1M
	tap_is "$1: all of it is free" "$(bytes_free "$node")" \
		"$(cat "/sys/class/iopmem/${node##*/}/size")"
}

echo "# Linux $(uname -r)"
memory "bound at boot" bar0
memory "attached at boot" nvme0
unbind "$(pci_path bar0)"
tap_ok "unbound: its node is gone" bash -c "! ls $(pci_path bar0)/iopmem"
tap_done
