#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# What the kernel's own tools say of our kernel code: checkpatch, sparse, and
# the compiler with W=1. Needs the built kernels, no guest.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/silent.sh

kernels=$PWD/build/kernel
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# checkpatch NAME ARG...: nothing to say. It runs where a patch is no file of
# the repository, which it would take for a source. What is not for us:
#	FILE_PATH_CHANGES	asks whether MAINTAINERS needs an update for a
#				file in a folder that it names as a whole
#	LINUX_VERSION_CODE	our modules build for several versions
#	CONSTANT_COMPARISON	takes the macro in that for a constant
#	UNKNOWN_COMMIT_ID	the repository here does not have mainline's history
checkpatch()
{
	local name=$1
	shift
	tap_ok "checkpatch: $name" env -C "$kernels/linux-vanilla" \
		scripts/checkpatch.pl --strict --terse --show-types --ignore \
		FILE_PATH_CHANGES,LINUX_VERSION_CODE,CONSTANT_COMPARISON,UNKNOWN_COMMIT_ID \
		"$@"
}

# module KERNEL FOLDER: its first build, with sparse
module()
{
	local kernel=$1 folder=$2
	local copy=$tmp/$kernel/${folder##*/}
	mkdir -p "$copy"
	cp "$folder"/* "$copy"
	tap_ok "$kernel: $folder builds without a warning" silent nice \
		make -j "$(nproc)" -C "$kernels/linux-$kernel" O=out M="$copy" W=1 C=1 \
		IOPMEM_HEADERS="$PWD/kernel-headers" \
		IOPMEM_DIR="$tmp/$kernel/iopmem" \
		KBUILD_EXTRA_SYMBOLS="$tmp/$kernel/symvers" modules
	cp "$copy/Module.symvers" "$tmp/$kernel/symvers"
}

while read -r patch; do
	checkpatch "$patch" "$PWD/kernel-patches/linux-6.12/$patch"
done < <(grep -v -e '^#' -e '^$' kernel-patches/linux-6.12/series)
for file in kernel-modules/*/*.[ch] tests/kernel/*.h tests/kernel/*/*.[ch] \
	buildlib/bench_modules/*.[ch]; do
	options=()
	# Tracepoints are laid out as structures, not as the calls they are.
	[[ $file != */trace.h ]] ||
		options=(--ignore "OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT")
	checkpatch "$file" "${options[@]}" -f "$PWD/$file"
done

# functions FILE: those that copy to and from I/O memory as rxe does
functions()
{
	sed -n '/^static void rxe_copy_\(to\|from\)_io(/,/^}/p' "$1"
}
tap_is "what the bench times is what rxe does" \
	"$(functions buildlib/bench_modules/rxe_copy.h)" \
	"$(functions "$kernels/linux-patched/drivers/infiniband/sw/rxe/rxe_mr.c")"

for kernel in vanilla patched; do
	mkdir "$tmp/$kernel"
	touch "$tmp/$kernel/symvers"
	module $kernel kernel-modules/iopmem
	# next, since each leaves its symbols to the one behind it
	[[ $kernel == vanilla ]] ||
		module $kernel kernel-modules/iopmem_peer
	module $kernel tests/kernel/importer
	[[ $kernel == vanilla ]] && continue
	module $kernel tests/kernel/edu_hca
	module $kernel tests/kernel/peer_client
done
tap_done
