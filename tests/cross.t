#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The series and our modules compile for architectures with other cache modes:
# arm64, which has write combining and ZONE_DEVICE, and s390, which has a mapping of
# that name and no ZONE_DEVICE, so that there can be no memory of this kind.
# shellcheck disable=SC2154 # patched comes from kernel.sh
set -euo pipefail
cd "$(dirname "$0")/.."
ROOT=$PWD
# shellcheck disable=SC2034 # kernel.sh's
BUILD=$PWD/build
. buildlib/common.sh
. buildlib/kernel.sh
. tests/tap.sh
. tests/silent.sh

# What the series touches, but for what is built with it
objects=(mm/memremap.o mm/memremap_kunit.o drivers/pci/p2pdma.o
	drivers/pci/p2pdma_kunit.o drivers/dma-buf/dma-buf.o)
folders=(drivers/infiniband/core/ drivers/infiniband/sw/rxe/)

# cross ARG...: make
cross()
{
	"${kernel_make[@]}" -C "$patched" O="$out" ARCH="$arch" \
		CROSS_COMPILE="$triplet-" CC="ccache $triplet-gcc" W=1 "$@"
}

# The lab's configuration, as far as the architecture has it
configured()
{
	cross tinyconfig && (cd "$patched" && ARCH=$arch \
		scripts/kconfig/merge_config.sh -m -O "$out" "$out/.config" \
		"$ROOT"/buildlib/kernel/{base,patched}.config) &&
		cross olddefconfig && cross modules_prepare
}

# module NAME: its objects; what it imports is not at hand to link with
module()
{
	local copy=$out/$1
	mkdir -p "$copy"
	cp "kernel-modules/$1"/* "$copy"
	tap_ok "$arch: $1" silent cross M="$copy" KBUILD_MODPOST_WARN=1 \
		IOPMEM_HEADERS="$ROOT/kernel-headers" \
		IOPMEM_DIR="$out/iopmem" modules
}

has()
{
	grep -qE "^CONFIG_$1=[ym]$" "$out/.config"
}

for arch in arm64 s390; do
	triplet=aarch64-linux-gnu
	[[ $arch == arm64 ]] || triplet=s390x-linux-gnu
	out=$patched/out-$arch
	mkdir -p "$out"
	tap_ok "$arch: configured" configured
	tap_ok "$arch: Soft-RoCE" has RDMA_RXE
	for folder in "${folders[@]}"; do
		tap_ok "$arch: $folder" silent cross "$folder"
	done
	if [[ $arch == s390 ]]; then
		tap_ok "$arch: no ZONE_DEVICE" bash -c \
			"! grep '^CONFIG_ZONE_DEVICE=' '$out/.config'"
		tap_ok "$arch: PCI" silent cross drivers/pci/pci.o
		continue
	fi
	tap_ok "$arch: P2PDMA" has PCI_P2PDMA
	for object in "${objects[@]}"; do
		tap_ok "$arch: $object" silent cross "$object"
	done
	module iopmem
	module iopmem_peer
done
tap_done
