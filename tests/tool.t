#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The iopmem command: on recorded PCI trees, and in guests with each topology.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

tool=$PWD/build/user/tools/iopmem
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export TMPDIR=$tmp

# exits NAME STATUS ARG...: what it says goes to $tmp/out and $tmp/err
exits()
{
	local name=$1 wanted=$2 status=0
	shift 2
	"$tool" "$@" >"$tmp/out" 2>"$tmp/err" || status=$?
	tap_is "$name: exit code" "$status" "$wanted"
}

# says NAME FILE TEXT
says()
{
	tap_ok "$1" grep -e "$3" "$tmp/$2"
}

# usage NAME ARG...
usage()
{
	local name=$1
	shift
	exits "$name" 2 "$@"
	says "$name: where help is" err "Try 'iopmem --help'"
}

# verdict: of check --json on stdin, as tests/route/*.tree have it
verdict()
{
	python3 -c '
import json, sys
v = json.load(sys.stdin)
print(v["route"], v["reason"], v.get("distance", -1),
      v.get("device_pci_address", "-"), v.get("bridge", "-"),
      "iommu" if v["iommu"] else "-")'
}

# replayed FILE: each of its routes has the library's verdict
replayed()
{
	local name what words status
	name=$(basename "$1" .tree)
	# shellcheck disable=SC2094 # it is read twice
	while read -r what words; do
		[[ $what == route ]] || continue
		read -ra words <<<"$words"
		status=0
		"$tool" check --json --replay "$1" "${words[@]:0:2}" \
			>"$tmp/out" 2>"$tmp/err" || status=$?
		case ${words[2]} in
		ENODEV)
			tap_is "$name: ${words[0]} or ${words[1]} is missing" \
				"$status $(grep -c "there is no" "$tmp/err")" \
				"1 1"
			;;
		*)
			tap_is "$name: ${words[*]:0:2}" \
				"$status $(verdict <"$tmp/out")" \
				"$([[ ${words[2]} != none ]]; echo $?) ${words[*]:2}"
			;;
		esac
	done <"$1"
}

exits "no command: help" 0
says "no command: help" out "^Usage:"
exits "--help" 0 --help
exits "--version" 0 --version
says "--version" out "^iopmem 1\."
usage "an unknown command" frobnicate
usage "an unknown option" list --frob
usage "list with an argument" list iopmem0
usage "bind without a function" bind
usage "a BAR that cannot be" bind --bar 6 0000:00:00.0
usage "a cache mode that cannot be" bind --cache wb 0000:00:00.0
usage "check with one name" check iopmem0
usage "check on a recorded tree, tried" check --try --replay x a b
usage "topo, dumped and replayed" topo --dump --replay x
exits "no such tree" 1 topo --replay /nonexistent
says "no such tree: why" err "/nonexistent: No such file"
# bad_tree NAME LINE: it is the second, and nothing appears outside of the folder.
bad_tree()
{
	printf 'function pci0000:00/0000:00:00.0 1:1 1\n%b\n' "$2" >"$tmp/bad"
	exits "$1" 1 topo --replay "$tmp/bad"
	says "$1: where" err "line 2 is "
	tap_is "$1: what is left of it" "$(find "$tmp" -newer "$tmp/bad" \
		! -path "$tmp" ! -name out ! -name err)" ""
}

bad_tree "a function outside" "function ../../../0000:00:00.0 1:1 1"
bad_tree "an RDMA device outside" "rdma x ../../../../..$tmp"
bad_tree "an RDMA device of no name" "rdma .. virtual"
bad_tree "a function twice" "function pci0000:00/0000:00:00.0 1:1 1"
bad_tree "a function of no class" "function pci0000:00/0000:00:01.0 1:1 x"
bad_tree "a long line" "cpu $(printf '%02000d' 0) 1"
exits "a folder for a tree" 1 topo --json --replay "$tmp"
says "a folder for a tree: why" err "Is a directory"
exits "something else for a tree" 1 topo --json --replay /etc/passwd
says "something else for a tree: why" err "there are no functions in it"
exits "help for a command" 0 bind --help
exits "bind something else" 1 bind frob
says "bind something else: why" err "frob is no PCI address"
exits "bind what is not there" 1 bind ffff:ff:1f.7
says "bind what is not there: why" err "there is no PCI function"
exits "release what is not there" 1 release iopmem99
says "release what is not there: why" err "neither bound nor attached"

# Configuration spaces that no machine shows as text are the library's affair.
for tree in tests/route/*.tree; do
	grep -qE ' (gone|broken)( |$)' "$tree" || replayed "$tree"
done

tree=tests/topo/two_sockets.tree
exits "the matrix of two sockets" 0 topo --replay $tree
tap_is "what it says" "$(sed -n '1,/^$/p' "$tmp/out" | sed 's/ *$//')" \
"                              iopmem0       0000:05:00.0  iopmem1
mlx5_0         0000:04:00.0   BUS/4         HB/4          no
rxe0                          CPU           CPU           CPU
nvme0          0000:03:00.0   -             HB/4          no
nvme1          0000:05:00.0   HB/4          -             no
0000:81:00.0                  no            no            no"
says "and what that means" out "^HB/n .*host bridge"
exits "the same as JSON" 0 topo --json --replay $tree
tap_is "it has each pair but a function with itself" \
	"$(python3 -c 'import json, sys; print(len(json.load(sys.stdin)))' \
	   <"$tmp/out")" 13
exits "a pair that has no route" 1 check --replay $tree mlx5_0 iopmem1
tap_is "why, and what to do" "$(cat "$tmp/out")" \
"mlx5_0 -> iopmem1: FAIL, no common bridge, and the host bridge is not known to forward between peers, distance 6
  bridge: 0000:80:00.0
  remedy: put both below one PCIe switch; if this host bridge does forward, the list in the kernel's drivers/pci/p2pdma.c wants it"
exits "a pair by other names" 0 check --replay $tree /dev/nvme1 /dev/iopmem0
says "though ACS is in the way" out "but ACS redirects requests"
says "the remedy names the bridge" out "pci=disable_acs_redir=0000:02:02.0,"
tree=tests/topo/acs_on.tree
exits "the matrix of a switch with ACS on" 0 topo --replay $tree
tap_is "what it says" "$(sed -n '1,/^$/p' "$tmp/out" | sed 's/ *$//')" \
"                              0000:03:00.0  iopmem0
mlx5_0         0000:04:00.0   no            no
nvme0          0000:03:00.0   -             no"
exits "why" 1 check --replay $tree mlx5_0 iopmem0
tap_is "and what to do" "$(cat "$tmp/out")" \
"mlx5_0 -> iopmem0: FAIL, ACS redirects requests of peers to the host bridge, distance 4
  bridge: 0000:02:02.0
  remedy: boot with pci=disable_acs_redir=0000:02:02.0, and likewise for other ports on the way (\";\" between them), if these functions need not be isolated from each other"
tree=tests/topo/multipath_switch.tree
exits "the matrix of a switch with two upstream ports" 0 topo --replay $tree
tap_is "what it says" "$(sed -n '1,/^$/p' "$tmp/out" | sed 's/ *$//')" \
"                              iopmem0       iopmem1
mlx5_0         0000:04:00.0   BUS/4         HB/8
mlx5_1         0000:08:00.0   HB/8          BUS/4
nvme0          0000:03:00.0   -             HB/8
nvme1          0000:07:00.0   HB/8          -"
tree=tests/topo/two_sockets.tree
exits "a device of no name" 1 check --replay $tree "" iopmem0
# a full disk
status=0
"$tool" topo --replay $tree >/dev/full 2>"$tmp/err" || status=$?
tap_is "a full disk: exit code" "$status" 1
says "a full disk: why" err "No space left"

# clean STATUS ARG...: valgrind has nothing to say
clean()
{
	local wanted=$1 status=0
	shift
	valgrind -q --leak-check=full --show-leak-kinds=all --error-exitcode=9 \
		--log-file="$tmp/grind" "$tool" "$@" >/dev/null 2>&1 || status=$?
	tap_is "valgrind on $*" "$status $(cat "$tmp/grind")" "$wanted "
}

clean 0 topo --replay $tree
clean 0 topo --json --replay $tree
clean 1 check --json --replay $tree mlx5_0 iopmem1
clean 1 check --replay $tree mlx5_0 frob
clean 1 topo --replay "$tmp/bad"

# completes LINE WORD...: with these words
completes()
{
	tap_is "completion of \"$1\"" "$(bash -c '. tools/completion.bash
		COMP_LINE=$1 COMP_POINT=${#1} _iopmem; echo "${COMPREPLY[*]}"' - "$1")" \
		"${*:2}"
}

completes "iopmem a" attach
completes "iopmem topo --d" --dump
completes "iopmem bind --bar " 0 1 2 3 4 5
completes "iopmem bind --cache " uc wc
completes "iopmem bind --" --bar --cache
completes "iopmem topo --replay tests/topo/tw" tests/topo/two_sockets.tree
tap_is "nothing is left in \$TMPDIR" "$(find "$tmp" -name 'iopmem-*')" ""

for topology in switch bridge blocked iommu; do
	tap_run "$topology" ./lab run --topology $topology -- tests/guest/tool.sh
done
tap_done
