#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# buildlib/rdma_core.sh [BUILD_DIR]
#
# Builds rdma-core with the patches of providers/rxe/, as far as its tests on
# Soft-RoCE and siw need it, to be used in place: the libraries end in
# BUILD_DIR/build/lib, pyverbs in BUILD_DIR/build/python, and its tests are in
# BUILD_DIR/src/tests (BUILD_DIR: build/rdma-core of this repository).
#
# The source is Debian's tarball, from a Debian mirror that apt is configured
# for or from the file that RDMA_CORE_TARBALL names. Does nothing if nothing has
# changed since the last build.
set -euo pipefail

version=56.1-1
release=trixie
sha256=63ce7f2baa7242c2dbc76375dac957c420187dd27f8c5e148efc07971ee522a8
# The one whose pyverbs it is, even if another comes first on the PATH.
python=/usr/bin/python3

repo=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-$repo/build/rdma-core}
mkdir -p "$work"
work=$(cd "$work" && pwd)
stamp=$work/build/.stamp
# shellcheck source=buildlib/debian_source.sh
. "$repo/buildlib/debian_source.sh"

# The libraries know the folder that they were built in.
patches=("$repo"/providers/rxe/*.patch)
state=$({ echo "$work"; cat "${patches[@]}" "$0"; } | sha256sum)
if [ -e "$stamp" ] && [ "$(<"$stamp")" = "$state" ]; then
	echo "rdma-core: nothing to do"
	exit 0
fi

find_tarball rdma-core "$version" "$release" "$sha256" "$work/download"
cd "$work"
rm -rf src build
mkdir src build
# shellcheck disable=SC2154 # find_tarball sets it
tar -xf "$tarball" -C src --strip-components=1 --no-same-owner
for patch in "${patches[@]}"; do
	patch -d src -p1 --fuzz=0 <"$patch"
done

options=(-DIN_PLACE=1 -DNO_MAN_PAGES=1 -DENABLE_VALGRIND=0
	-DCMAKE_BUILD_TYPE=RelWithDebInfo -DPYTHON_EXECUTABLE="$python")
if command -v ccache >/dev/null; then
	# The folder's own name must not keep ccache from finding the objects
	# again from another clone.
	export CCACHE_DIR=${CCACHE_DIR:-$repo/build/ccache} CCACHE_NOHASHDIR=1
	export CCACHE_BASEDIR=$work
	options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
fi
cmake -S src -B build "${options[@]}"
make -C build -j"$(nproc)" ibverbs rdmacm rxe-rdmav34 siw-rdmav34
# mlx5's and efa's as well: every test imports them.
make -C build/pyverbs -j"$(nproc)"

# libibverbs complains about each provider that it is told of and cannot load.
for driver in build/etc/libibverbs.d/*.driver; do
	name=$(basename "$driver" .driver)
	[ -e "build/lib/lib$name-rdmav34.so" ] || rm "$driver"
done
# The guest, whose root is read-only, cannot keep what it compiles.
"$python" -m compileall -q src/tests
echo "$state" >"$stamp"
