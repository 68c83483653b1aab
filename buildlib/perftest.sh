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

die()
{
	echo "perftest: $*" >&2
	exit 1
}

is_tarball()
{
	echo "$sha256  $1" | sha256sum --check --status
}

# Puts the tarball into the current folder, with an apt of our own: the user's
# lists and sources stay as they are.
download()
{
	local apt=$PWD/apt mirror keyring signed_by=
	local help="set PERFTEST_TARBALL to perftest's source tarball (perftest_${version%-*}.orig.tar.gz)"
	local -a options=(
		-o Dir::Etc::sourcelist="$apt/sources.list"
		-o Dir::Etc::sourceparts=/dev/null
		-o Dir::State::Lists="$apt/lists"
		-o Dir::Cache="$apt/cache"
		-o APT::Sandbox::User="$(id -un)"
		-o Acquire::Retries=3
	)

	mirror=$(apt-get indextargets --format "\$(SITE)" 'Created-By: Packages' \
		 'Origin: Debian' 'Label: Debian' 'Component: main')
	mirror=${mirror%%$'\n'*}
	[ -n "$mirror" ] ||
		die "apt knows no Debian mirror: run apt-get update, or $help"

	for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
		[ ! -e "$keyring" ] || signed_by="[signed-by=$keyring]"
	done

	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	echo "deb-src $signed_by $mirror $release main" >"$apt/sources.list"
	if ! apt-get "${options[@]}" update ||
	   ! apt-get "${options[@]}" source --download-only --tar-only \
		"perftest=$version"
	then
		die "cannot download perftest $version from $mirror: $help"
	fi
}

find_tarball()
{
	if [ -n "${PERFTEST_TARBALL:-}" ]; then
		tarball=$(realpath -e "$PERFTEST_TARBALL") ||
			die "PERFTEST_TARBALL names no file"
		is_tarball "$tarball" ||
			die "$tarball is not the source of perftest $version: its SHA256 is not $sha256"
		return
	fi

	tarball=$work/download/perftest_${version%-*}.orig.tar.gz
	if [ -e "$tarball" ] && is_tarball "$tarball"; then
		return
	fi
	mkdir -p "$work/download"
	rm -f "$tarball"
	(cd "$work/download" && download)
	is_tarball "$tarball" ||
		die "$tarball is not what was expected: its SHA256 is not $sha256"
}

inputs=("$repo"/perftest/p2p_memory.[ch] "$repo"/perftest/*.patch
	"$repo/kernel-headers/rdma/iopmem.h" "$0")
state=$(cat "${inputs[@]}" | sha256sum)
if [ -e "$stamp" ] && [ "$(<"$stamp")" = "$state" ]; then
	echo "perftest: nothing to do"
	exit 0
fi

find_tarball
cd "$work"
rm -rf src bin
mkdir src bin
cd src
tar -xf "$tarball" --strip-components=1 --no-same-owner
for patch in "$repo"/perftest/*.patch; do
	patch -p1 --fuzz=0 <"$patch"
done
install -m 644 -t src "$repo"/perftest/p2p_memory.[ch]
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
