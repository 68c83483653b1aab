# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The Debian packages that the lab needs.

lab_packages=(
	# to build the kernel
	linux-source-6.12 gcc libc6-dev make bc flex bison libelf-dev libssl-dev kmod
	cpio rsync git ccache patch xz-utils perl procps python3
	# the modules, libraries, perftest and rdma-core
	cmake pkg-config autoconf automake libtool libibverbs-dev
	librdmacm-dev libibumad-dev libpci-dev libnuma-dev libudev-dev
	libjson-c-dev zlib1g-dev
	libnl-3-dev libnl-route-3-dev python3-dev cython3
	sparse shellcheck
	# the manual pages, and what the library's tests check it with
	pandoc man-db g++ valgrind
	# our packages, and clean systems to install them in
	dpkg-dev debhelper mmdebstrap genext2fs clang rpm rpmlint
	# objects for other architectures
	gcc-aarch64-linux-gnu gcc-s390x-linux-gnu
	# the guest, whose root is the host's
	qemu-system-x86 iproute2 rdma-core ibverbs-providers ibverbs-utils
	python3-pyverbs perftest fio nvme-cli ndctl strace udev hostname
)

# What kernel-patches/ applies to. Debian's security archive has it.
kernel_since=6.12.117

install_packages()
{
	local missing=() package release="" id="" codename="" status version

	[[ -r /etc/os-release ]] && {
		id=$(. /etc/os-release; echo "${ID:-}")
		release=$(. /etc/os-release; echo "${VERSION_ID:-}")
		codename=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
	}
	[[ $id == debian && ($release == 12 || $release == 13) ]] ||
		die "the lab runs on Debian 12 and 13; this is ${id:-unknown} ${release:-}"

	for package in "${lab_packages[@]}"; do
		read -r status version < <(dpkg-query -W \
			-f '${db:Status-Status} ${Version}\n' "$package" \
			2>/dev/null) || status=
		[[ $status == installed ]] || missing+=("$package")
		if [[ $package == linux-source-6.12 && $status == installed ]] &&
		   dpkg --compare-versions "$version" lt "$kernel_since"; then
			say "$package $version is too old: kernel-patches/ is for $kernel_since and later"
			missing+=("$package")
		fi
	done
	((${#missing[@]})) || return 0

	if [[ ${LAB_NO_INSTALL:-} ]]; then
		say "missing packages: ${missing[*]}"
		exit 1
	fi
	say "will install with apt-get: ${missing[*]}"
	local sudo=()
	if ((EUID)); then
		[[ $(command -v sudo) ]] ||
			die "not root and no sudo: install them by hand"
		sudo -v		# asks for the password here, not in the log
		sudo=(sudo -n)
	fi
	step apt-update "package lists" "${sudo[@]}" apt-get update
	# no pty: the output goes to a log
	step apt-install "packages" "${sudo[@]}" \
		env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends \
		-o Dpkg::Use-Pty=0 "${missing[@]}"
	version=$(dpkg-query -W -f '${Version}' linux-source-6.12)
	dpkg --compare-versions "$version" ge "$kernel_since" ||
		die "apt has no linux-source-6.12 newer than $version: add Debian's security archive ($codename-security) to its sources"
}
