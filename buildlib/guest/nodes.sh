# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# shellcheck shell=bash
#
# For guest/init: ./lab run --nodes 2. Each guest has two cards, in this order:
# eth0 is the network to test with, and to take down; ctl0 is on-node2's.

# Node 1 comes back from here when node 2 takes commands.
connect_nodes()
{
	local limit=$((SECONDS + 120))
	[[ $LAB_NODES == 2 ]] || return 0
	ip link set eth1 name ctl0
	ip address add "192.0.2.$LAB_NODE/24" dev eth0
	ip address add "198.51.100.$LAB_NODE/24" dev ctl0
	ip link set eth0 up
	ip link set ctl0 up
	[[ $LAB_NODE == 1 ]] || return 0
	until on-node2 true 2>/dev/null; do
		if ((SECONDS >= limit)); then
			echo "lab: node 2 takes no commands after 120 s"
			power_off
		fi
		sleep 0.2
	done
}

# The server is its commands' parent. There is no answer, as it is gone then.
end_node2()
{
	[[ $LAB_NODES.$LAB_NODE == 2.1 ]] || return 0
	# shellcheck disable=SC2016 # for the shell on node 2
	on-node2 sh -c 'kill $PPID' 2>/dev/null
}
