#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# buildlib/perftest.sh [BUILD_DIR]
#
# Builds perftest with our PCI memory support; the tools end in BUILD_DIR/bin
# (BUILD_DIR: build/perftest of this repository).
#
# The source is Debian's tarball, from a Debian mirror that apt is configured
# for or from the file that PERFTEST_TARBALL names. Does nothing if nothing has
# changed since the last build.
set -euo pipefail

version=25.01.0+0.80-1
release=trixie
sha256=54e86b131f0b06862b8b9cd692739737295463cfef467bdda5f5aa3dae8c5b05
tools=(ib_{write,read,send,atomic}_{bw,lat}
       raw_ethernet_{bw,lat,burst_lat,fs_rate})

repo=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-$repo/build/perftest}
mkdir -p "$work"
work=$(cd "$work" && pwd)
stamp=$work/bin/.stamp

# shellcheck source=buildlib/debian_source.sh
. "$repo/buildlib/debian_source.sh"

inputs=("$repo"/perftest/*.[ch] "$repo"/perftest/*.patch
	"$repo/kernel-headers/rdma/iopmem.h" "$0")
state=$(cat "${inputs[@]}" | sha256sum)
if [ -e "$stamp" ] && [ "$(<"$stamp")" = "$state" ]; then
	echo "perftest: nothing to do"
	exit 0
fi

find_tarball perftest "$version" "$release" "$sha256" "$work/download"
cd "$work"
rm -rf src bin
mkdir src bin
cd src
# shellcheck disable=SC2154 # find_tarball sets it
tar -xf "$tarball" --strip-components=1 --no-same-owner
for patch in "$repo"/perftest/*.patch; do
	patch -p1 --fuzz=0 <"$patch"
done
install -m 644 -t src "$repo"/perftest/*.[ch]
# Relative, so that ccache finds the objects again from another clone.
install -D -m 644 -t include/rdma "$repo/kernel-headers/rdma/iopmem.h"

cc=${CC:-gcc}
if command -v ccache >/dev/null; then
	export CCACHE_DIR=${CCACHE_DIR:-$repo/build/ccache} CCACHE_NOHASHDIR=1
	cc="ccache $cc"
fi
./autogen.sh
./configure CC="$cc" CPPFLAGS=-Iinclude
grep -q '^#define HAVE_RDMA_IOPMEM_H 1' config.h ||
	die "configure cannot use rdma/iopmem.h: see $work/src/config.log"
make -j"$(nproc)"
install -t ../bin "${tools[@]}"
echo "$state" >"$stamp"
