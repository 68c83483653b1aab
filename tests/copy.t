#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# iopmem-copy from one host to another: drive, BAR, RDMA, BAR, drive.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

tool=$PWD/build/user/tools/copy/iopmem-copy

# usage NAME ARG...: refused, with a hint
usage()
{
	local name=$1 status=0 said
	shift
	said=$("$tool" "$@" 2>&1 >/dev/null) || status=$?
	tap_is "$name: exit code" "$status" 2
	tap_ok "$name: where help is" \
		grep "Try 'iopmem-copy --help'" <<<"$said"
}

tap_ok "--help" bash -c "'$tool' --help | grep '^Usage:'"
tap_ok "--version" bash -c "'$tool' --version | grep '^iopmem-copy 1'"
usage "no arguments"
usage "a source alone" source
usage "two targets" --listen one two
usage "an unknown option" --frob source host
usage "a port that cannot be" --port 65536 source host
usage "a port with a unit" --port 1K source host
usage "blocks of nothing" --block 0 source host
usage "blocks that O_DIRECT does not take" --block 5000 source host
usage "blocks that are too large" --block 4096M source host
usage "blocks of a negative size" --block -4096 source host
usage "too many blocks in flight" --depth 65 source host
usage "an address for the sender" --address 127.0.0.1 source host
usage "host memory as a dma-buf" --through host --dmabuf source host

for topology in switch bridge blocked; do
	tap_run "$topology" ./lab run --nodes 2 --topology $topology \
		-- tests/guest/copy.sh
done
tap_done
