#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The packages. For RPM systems: built. On each release of Debian: built in one
# clean root, installed, upgraded and purged in another, which then boots with its
# own systemd and udev. In unstable, whose kernel is the newest: the modules are
# built for that kernel as Debian ships it, which then boots. Without --long only
# on the release that the host has.
#
#	tests/packages.t [RELEASE]
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. buildlib/debian_source.sh

work=$PWD/build/packages
mirror=$(debian_mirror)
tarball=${PERFTEST_TARBALL:-$(echo build/perftest/download/perftest_*.orig.tar.gz)}

# What builds packages, but for what debian/control names
builder=build-essential,lintian

# What a small system that uses them has, and all that they depend on
system=systemd-sysv,udev,kmod,iproute2,procps,rdma-core,ibverbs-providers
system+=,libibverbs-dev,librdmacm1,libibumad3,libpci3,dkms,gcc,make,pkg-config
system+=,libelf-dev,libjson-c5

newest=systemd-sysv,udev,kmod,iproute2,rdma-core,libibverbs1,dkms
newest+=,linux-image-amd64,linux-headers-amd64,initramfs-tools

# Nothing that a script leaves running keeps the root's mounts busy.
alone="unshare --pid --fork --kill-child"

# in_root RELEASE SCRIPT PACKAGES TARGET RESULT...: the results of SCRIPT in a
# clean root that has PACKAGES, and, in /lab, what is in the release's folder in/.
# The files RESULT come out of there; the root ends in TARGET.
in_root()
{
	local release=$1 script=$2 packages=$3 target=$4 status=0
	local folder=$work/$1 log=$work/$1/${2##*/}.log
	shift 4
	rm -f "$folder/results"
	# a snapshot of unstable soon says that it is too old
	mmdebstrap --variant=minbase --include="$packages" \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--customize-hook="mkdir \"\$1/lab\"" \
		--customize-hook="sync-in $folder/in /lab" \
		--customize-hook="$alone chroot \"\$1\" bash /lab/source/$script || :" \
		--customize-hook="copy-out ${*/#//lab/} $folder" \
		--customize-hook="rm -r \"\$1/lab\"" \
		"$release" "$target" "$mirror" >"$log" 2>&1 || status=$?
	grep -q '^1\.\.' "$folder/results" 2>/dev/null ||
		tail -n 20 "$log" | sed 's/^/# /'
	cat "$folder/results"
	return $status
}

# build_and_install RELEASE
build_and_install()
{
	local folder=$work/$1 in=$work/$1/in
	rm -rf "$folder"
	mkdir -p "$in/source"
	git ls-files -z | tar -c --null -T - | tar -x -C "$in/source"
	cp "$tarball" "$in/perftest.tar.gz"
	tap_run "$1, build" in_root "$1" tests/packages/build.sh "$builder" \
		/dev/null results debs next
	[[ -d $folder/next ]] || return 0
	mv "$folder/debs" "$folder/next" "$in"
	cp -r build/kernel/packages "$in/kernel"
	tap_run "$1" in_root "$1" tests/packages/install.sh "$system" \
		"$folder/system.ext2" results
	[[ -f $folder/system.ext2 ]] || return 0
	tap_run "$1, booted" ./lab run --image "$folder/system.ext2" -- \
		tests/guest/packages.sh
}

# newest_kernel RELEASE: with the packages that were built last
newest_kernel()
{
	local folder=$work/$1 debs
	debs=$(find "$work" -path '*/in/debs' -printf '%T@ %p\n' | sort -n |
		sed -n '$s/^[^ ]* //p')
	if [[ ! $debs ]]; then
		tap_result 1 "$1: run it for another release first"
		return
	fi
	rm -rf "$folder"
	mkdir -p "$folder/in/source"
	git ls-files -z | tar -c --null -T - | tar -x -C "$folder/in/source"
	cp "$debs"/{iopmem-dkms,iopmem-tools,libiopmem1}_*.deb "$folder/in"
	tap_run "$1" in_root "$1" tests/packages/newest_kernel.sh "$newest" \
		"$folder/system.ext2" results vmlinuz initrd.img
	[[ -f $folder/system.ext2 ]] || return 0
	tap_run "$1, booted" ./lab run --image "$folder/system.ext2" \
		--own-kernel "$folder" -- tests/guest/newest_kernel.sh
}

# as far as that goes without the packages that it builds with
rpms()
{
	local top=$work/rpm
	rm -rf "$top"
	mkdir -p "$top/SOURCES"
	git ls-files -z | tar -czf "$top/SOURCES/iopmem-1.0.0.tar.gz" \
		--transform 's|^|iopmem-1.0.0/|' --null -T -
	cp "$tarball" "$top/SOURCES"
	tap_ok "rpmbuild -ba" nice rpmbuild --define "_topdir $top" --nodeps \
		-ba redhat/iopmem.spec
	mapfile -t packages < <(find "$top" -name '*.rpm')
	tap_is "packages for RPM systems" "$(printf '%s\n' "${packages[@]##*/}" |
		sed 's/-1\.0\.0-.*//' | LC_ALL=C sort | tr '\n' ' ')" \
		"iopmem iopmem-dkms iopmem-kernel-patches iopmem-tools libiopmem libiopmem-devel libiopmem-static perftest-iopmem "
	tap_ok "rpmlint" rpmlint --strict -r redhat/iopmem.rpmlintrc \
		redhat/iopmem.spec "${packages[@]}"
}

rpms
(($#)) || set -- bookworm trixie sid
host=$(. /etc/os-release; echo "$VERSION_CODENAME")
for release; do
	if [[ $# == 1 || $release == "$host" || ${LAB_LONG:-} ]]; then
		if [[ $release == sid ]]; then
			newest_kernel "$release"
		else
			build_and_install "$release"
		fi
	else
		tap_skip "with --long: it takes five minutes" "$release"
	fi
done
tap_done
