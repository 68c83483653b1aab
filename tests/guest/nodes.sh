#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# tests/lab.t's part on node 1 of two: node 2, and the network to it.
# shellcheck disable=SC2016 # for shells on node 2
set -euo pipefail
. tests/tap.sh

# ends PID: a process of node 2
ends()
{
	on-node2 timeout 20 bash -c 'while [[ -e /proc/$0 ]]; do sleep 0.1; done' "$1"
}

# exits STATUS CMD...: on node 2
exits()
{
	local want=$1 status=0
	shift
	on-node2 "$@" >/dev/null || status=$?
	tap_is "exit code of $*" "$status" "$want"
}

tap_is "this is node 1" "$LAB_NODES $LAB_NODE" "2 1"
tap_is "and that is node 2" "$(on-node2 bash -c 'echo $LAB_NODES $LAB_NODE')" \
	"2 2"
tap_is "its user, folder, and programs" \
	"$(on-node2 bash -c 'id -u; pwd; command -v lab-host')" \
	"$(id -u; pwd; command -v lab-host)"

exits 0 true
exits 7 bash -c 'exit 7'
exits 137 bash -c 'kill -9 $$'
exits 127 no-such-program
exits 126 /tmp

words=("" " a  b " $'line\nline\n' "\"'\\\$x" '*' --)
tap_is "words arrive as they are" \
	"$(on-node2 printf '<%s>' "${words[@]}" "")" \
	"$(printf '<%s>' "${words[@]}" "")"
tap_is "so does output" "$(on-node2 printf 'a\0\nexit 3\nb' | od -c)" \
	"$(printf 'a\0\nexit 3\nb' | od -c)"
tap_is "and much of it" "$(on-node2 seq 300000 | sha256sum)" \
	"$(seq 300000 | sha256sum)"
tap_is "and standard error" "$(on-node2 bash -c 'echo error >&2' 2>/dev/null)" \
	error
tap_is "standard input is empty" "$(echo x | on-node2 wc -c)" 0

# a command that goes on, killed from here
mkfifo /tmp/output
on-node2 bash -c 'sleep 1000 & echo $! $$; wait' >/tmp/output &
client=$!
exec 5</tmp/output
status=0
read -r -t 20 child shell <&5 || status=$?
tap_result $status "output comes while the command goes on"
tap_ok "it goes on" on-node2 test -e "/proc/$shell" -a -e "/proc/$child"
kill -9 $client
tap_ok "it ends with its on-node2" ends "$shell"
tap_ok "with all its processes" ends "$child"
tap_ok "a command ends though what it leaves behind does not" timeout 20 \
	on-node2 bash -c 'sleep 1000 & echo $! >/tmp/left'
tap_ok "which then is ended" ends "$(on-node2 cat /tmp/left)"
tap_ok "or has gone away, with the output open" timeout 20 on-node2 bash -c '
	setsid bash -c "touch /tmp/away; sleep 1000" &
	until [[ -e /tmp/away ]]; do sleep 0.1; done'

# the network
tap_is "MTUs" "$(cat /sys/class/net/eth0/mtu)
$(on-node2 cat /sys/class/net/eth0/mtu)" "9000
9000"
on-node2 timeout 60 /usr/bin/python3 -uc 'if True:
	import socket
	server = socket.create_server(("192.0.2.2", 2000))
	print("listens")
	connection, address = server.accept()
	print(address[0])
	connection.sendall(bytes(8 << 20))
	print(len(connection.recv(8 << 20, socket.MSG_WAITALL)))
	' >/tmp/output &
server=$!
exec 5</tmp/output
read -r <&5
exec 6<>/dev/tcp/192.0.2.2/2000
tap_is "8 MiB from node 2" "$(head -c 8M <&6 | wc -c)" $((8 << 20))
head -c 8M /dev/zero >&6
tap_is "and to it, from node 1's address" "$(cat <&5)" "192.0.2.1
$((8 << 20))"
wait $server

reaches_node2()
{
	local said
	said=$(timeout 5 bash -c ': </dev/tcp/192.0.2.2/2000' 2>&1 || true)
	[[ $said == *"Connection refused"* ]]
}
tap_ok "node 2 says that no one listens" reaches_node2
on-node2 ip link set eth0 down
tap_ok "node 2 without its eth0 is not reached" bash -c \
	"$(declare -f reaches_node2); ! reaches_node2"
tap_is "but by on-node2" "$(on-node2 cat /sys/class/net/eth0/operstate)" down

# devices
on-node2 /usr/bin/python3 -c 'if True:
	import mmap, os, subprocess
	address = subprocess.check_output(["lab-host", "address", "bar0"],
					  text=True).strip()
	device = f"/sys/bus/pci/devices/{address}/"
	with open(device + "enable", "w") as file:
	    file.write("1")
	needle = os.urandom(4096)
	with open(os.environ["LAB_OUT"] + "/needle", "wb") as file:
	    file.write(needle)
	bar = mmap.mmap(os.open(device + "resource2", os.O_RDWR), 0)
	bar[0x12344:0x12344 + len(needle)] = needle
	'
tap_is "bytes in node 2's BAR are found in its file" \
	"$(on-node2 lab-host find bar0 needle)" $((0x12344))
on-node2 bash -c 'cat $LAB_OUT/needle' >"$LAB_OUT/needle"
tap_is "and not in node 1's" "$(lab-host find bar0 needle 2>&1)" \
	"lab-host find bar0 needle: not found"

tap_done
