# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# shellcheck shell=bash
#
# Both sides of a test of perftest, for the guest's halves of perftest.t.

port=20000
tmp=$(mktemp -d)
chmod 755 "$tmp"
trap 'rm -rf "$tmp"' EXIT
# as whom the tools run
as=(as-user)

# not_ok NAME FILE...: with what the tools have printed.
not_ok()
{
	tap_result 1 "$1"
	shift
	sed 's/^/# /' "$@"
}

listens()
{
	grep -Eq "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$1") [0-9A-F]+:0000 0A " \
		/proc/net/tcp /proc/net/tcp6
}

# Runs both sides of a test, with the options in the arrays server and client
# beside those given here. True if both succeed.
server=()
client=()
pair()
{
	local tool=$1 pid client_status=0 server_status=0
	shift
	port=$((port + 1))
	local -a common=(-d rxe0 -F --disable_pcie_relaxed -p "$port" "$@")

	"${as[@]}" timeout 120 "$tool" "${common[@]}" "${server[@]}" \
		>"$tmp/server" 2>&1 &
	pid=$!
	until listens "$port"; do
		if ! kill -0 "$pid" 2>/dev/null; then
			: >"$tmp/client"
			return 1
		fi
		sleep 0.1
	done
	"${as[@]}" timeout 120 "$tool" "${common[@]}" "${client[@]}" 127.0.0.1 \
		>"$tmp/client" 2>&1 || client_status=$?
	wait "$pid" || server_status=$?
	[[ $client_status == 0 && $server_status == 0 ]]
}

# Each side has PCI memory exactly if it was asked to.
memory_as_asked()
{
	local side
	for side in server client; do
		local -n given=$side
		if [[ ${given[*]} =~ --(use_p2p|p2p_dev) ]]; then
			grep -q '^ PCI memory  *: /' "$tmp/$side" || return
		else
			! grep -q 'PCI memory' "$tmp/$side" || return
		fi
	done
}

# moves NAME TOOL ARG...: the test succeeds, in such memory.
moves()
{
	local name=$1
	shift
	if pair "$@" && memory_as_asked; then
		tap_result 0 "$name"
	else
		not_ok "$name" "$tmp/server" "$tmp/client"
	fi
}

# arrives SIDE NAME TOOL ARG...: the same, and what has arrived at that side
# (server, client or both) is what was sent.
arrives()
{
	local name=$2 wanted=$1 checked=
	local ok='^ Data check  *: ok, ([1-9][0-9]* bytes|all additions)'
	shift 2
	if pair "$@" --check_data && memory_as_asked; then
		! grep -Eq "$ok" "$tmp/server" || checked+=server
		! grep -Eq "$ok" "$tmp/client" || checked+=client
	fi
	if [[ $checked == "${wanted/both/serverclient}" ]]; then
		tap_result 0 "$name"
	else
		not_ok "$name" "$tmp/server" "$tmp/client"
	fi
}

# says NAME FILE TEXT...: all of these texts are in the file.
says()
{
	local name=$1 file=$2 text
	shift 2
	for text; do
		if ! grep -q -e "$text" -- "$file"; then
			not_ok "$name" "$file"
			echo "# it does not say: $text"
			return
		fi
	done
	tap_result 0 "$name"
}

# refuses NAME TEXT... -- COMMAND...: it exits with 1 and says so.
refuses()
{
	local name=$1 status=0
	local -a texts=()
	shift
	while [[ $1 != -- ]]; do
		texts+=("$1")
		shift
	done
	shift
	timeout 60 "$@" >"$tmp/refused" 2>&1 || status=$?
	if [[ $status != 1 ]]; then
		not_ok "$name" "$tmp/refused"
		echo "# exit status $status"
	else
		says "$name" "$tmp/refused" "${texts[@]}"
	fi
}
