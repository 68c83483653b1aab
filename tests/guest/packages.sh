#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of packages.t: a system that has our packages installed, and
# devices named in /etc/rdma/iopmem.conf, has just booted.
# shellcheck disable=SC2154 # $class comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# write_bw USER: BAR to BAR through Soft-RoCE, both sides as that user
write_bw()
{
	local options=(-d rxe0 -F --disable_pcie_relaxed -s 65536 -n 100
		       --p2p_dev="$bar0" --use_p2p)
	local server
	run_as "$1" ib_write_bw-iopmem "${options[@]}" &
	server=$!
	until ss -Hltn 'sport = 18515' | grep -q . ||
	      ! kill -0 $server 2>/dev/null; do
		sleep 0.1
	done
	run_as "$1" ib_write_bw-iopmem "${options[@]}" 127.0.0.1
	wait $server
}

refused()
{
	local output
	! output=$(write_bw stranger 2>&1) &&
		grep -i "permission denied" <<<"$output"
}

# node_is_right NAME ID
node_is_right()
{
	local path node
	path=$(pci_path "$2")
	node=$(node_of "$path")
	tap_is "$1: owner and mode" "$(stat -c '%U:%G %a' "$node")" \
		"root:rdma 660"
	tap_is "$1: its name by path" \
		"$(readlink -f "/dev/iopmem/by-path/pci-${path##*/}")" "$node"
	tap_is "$1: systemd knows it" \
		"$(systemctl is-active "dev-${node##*/}.device")" active
}

tap_is "the modules are those that dkms built" "$(modinfo -n iopmem)" \
	"/lib/modules/$(uname -r)/updates/dkms/iopmem.ko"
node_is_right "bound at boot" bar0
node_is_right "a second one" bar1
node_is_right "attached at boot" nvme0
tap_is "nothing else is there" "$(cat $class/*/size | wc -l)" 3

tap_ok "peer memory is loaded by name" modprobe iopmem_peer
tap_ok "Soft-RoCE on lo" bash -c "modprobe rdma_rxe && ip link set lo up &&
	rdma link add rxe0 type rxe netdev lo && udevadm settle"
bar0=$(node_of "$(pci_path bar0)")
tap_ok "a user in group rdma runs ib_write_bw --use_p2p" write_bw member
tap_ok "one who is not is refused, and told so" refused
tap_done
