#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# In a clean root, which has what our packages depend on: installs the packages
# of /lab/debs, upgrades to those of /lab/next, purges them, and leaves them
# installed and configured. The results end in /lab/results.
set -euo pipefail
cd /lab
# shellcheck source=tests/tap.sh
. source/tests/tap.sh
export DEBIAN_FRONTEND=noninteractive

ours=(libiopmem1 libiopmem-dev iopmem-tools iopmem-dkms iopmem-kernel-patches
      perftest-iopmem)

# All files but the ones that package managers, depmod and caches keep for
# themselves
files()
{
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp \
		-o -path /lab -o -path /var/cache -o -path /var/lib/apt \
		-o -path /var/lib/dpkg -o -path /var/log \
		-o -path '/usr/lib/modules/*/modules.*' \) -prune \
		-o -print | LC_ALL=C sort
}

# files_of PACKAGE: but documentation
files_of()
{
	dpkg -L "$1" | while read -r path; do
		[[ -d $path || $path == /usr/share/doc/* ]] || echo "$path"
	done | sed "s/$(uname -m)-linux-gnu/TRIPLET/" | LC_ALL=C sort
}

version_of()
{
	dpkg-query -W -f '${db:Status-Status} ${Version}' "$1"
}

modules()
{
	find "/lib/modules/$kernel/updates" -name '*.ko' -printf '%f\n' |
		LC_ALL=C sort
}

# Whoever develops with it
program()
{
	cat >/tmp/program.c <<-END
	#include <infiniband/iopmem.h>
	#include <stdio.h>

	int main(void)
	{
		return puts(iopmem_route_reason_str(IOPMEM_REASON_ACS)) < 0;
	}
	END
	# shellcheck disable=SC2046 # words
	gcc -Wall -Werror /tmp/program.c -o /tmp/program \
		$(pkg-config --cflags --libs libiopmem) && /tmp/program
}

# states VERSION: of all of ours
states()
{
	local package
	for package in "${ours[@]}"; do
		tap_is "$package" "$(version_of "$package")" "installed $1"
	done
	tap_is "dkms has that version only, built for the kernel" \
		"$(dkms status iopmem | cut -d : -f 1,2)" \
		"iopmem/$1, $kernel, $(uname -m): installed"
	tap_is "its modules are installed" "$(modules)" \
		$'iopmem.ko\niopmem_peer.ko'
}

installed()
{
	tap_ok "they can be installed" apt-get install --yes \
		--no-install-recommends ./debs/*.deb
	states 1.0.0
	tap_is "the library's files" "$(files_of libiopmem1)" \
"/usr/lib/TRIPLET/libiopmem.so.1
/usr/lib/TRIPLET/libiopmem.so.1.0.0"
	tap_is "what developers need" \
		"$(files_of libiopmem-dev | grep -v /man/)" \
"/usr/include/infiniband/iopmem.h
/usr/include/rdma/iopmem.h
/usr/lib/TRIPLET/libiopmem.a
/usr/lib/TRIPLET/libiopmem.so
/usr/lib/TRIPLET/pkgconfig/libiopmem.pc"
	tap_is "the command and the rules of udev" "$(files_of iopmem-tools)" \
"/etc/rdma/modules/iopmem.conf
/usr/bin/iopmem
/usr/bin/iopmem-copy
/usr/lib/udev/iopmem-device
/usr/lib/udev/rules.d/05-iopmem-devices.rules
/usr/lib/udev/rules.d/90-iopmem.rules
/usr/share/bash-completion/completions/iopmem
/usr/share/man/man1/iopmem-copy.1.gz
/usr/share/man/man5/iopmem.conf.5.gz
/usr/share/man/man8/iopmem.8.gz"
	tap_is "every tool of perftest, beside those of the distribution" \
		"$(files_of perftest-iopmem | sed -n 's|^/usr/bin/||p' |
		   tr '\n' ' ')" \
		"$(printf '%s-iopmem ' ib_{atomic,read,send,write}_{bw,lat})"
	tap_is "a tool runs" \
		"$(ib_write_bw-iopmem --version | grep -o Version)" Version
	tap_ok "a program can be built" program
	tap_ok "no device is named, so none is bound or attached" \
		test ! -e /etc/rdma/iopmem.conf
}

upgraded()
{
	echo rdma_rxe >>/etc/rdma/modules/iopmem.conf
	tap_ok "upgraded" apt-get install --yes --no-install-recommends \
		-o Dpkg::Options::=--force-confold ./next/*.deb
	states 1.0.1
	tap_is "what the administrator wrote is kept" \
		"$(tail -n 1 /etc/rdma/modules/iopmem.conf)" rdma_rxe
	tap_ok "nothing of the old version is left" \
		test ! -e /usr/src/iopmem-1.0.0 -a ! -e /var/lib/dkms/iopmem/1.0.0
}

purged()
{
	tap_ok "purged" apt-get purge --yes "${ours[@]}"
	tap_ok "all is as before" diff before <(files)
}

# A kernel without peer memory clients that has the RDMA stack of a vendor: the
# headers' own header and symbols, moved to where vendors have theirs
vendor_stack()
{
	local other=$kernel-vendor
	local headers=/usr/src/headers-$other ofa
	ofa=/usr/src/ofa_kernel/$(uname -m)/$other
	cp -r "$(readlink -f "/lib/modules/$kernel/build")" "$headers"
	mkdir -p "$ofa/include/rdma" "/lib/modules/$other"
	ln -s "$headers" "/lib/modules/$other/build"
	mv "$headers/include/rdma/peer_mem.h" "$ofa/include/rdma"
	grep 'ib_.*peer_mem' "$headers/Module.symvers" >"$ofa/Module.symvers"
	sed -i '/ib_.*peer_mem/d' "$headers/Module.symvers"
	tap_ok "dkms builds with a vendor's RDMA stack" \
		dkms build "iopmem/$1" -k "$other"
	tap_is "both modules" "$(find "/var/lib/dkms/iopmem/$1/$other" \
		-name '*.ko*' -printf '%f\n' | sed 's/\.ko.*//' |
		LC_ALL=C sort)" $'iopmem\niopmem_peer'
	dkms remove "iopmem/$1" -k "$other"
	rm -r "${ofa%/*/*}" "$headers" "/lib/modules/$other"
}

# For the boot that follows: devices by their kind, and users
configured()
{
	apt-get install --yes --no-install-recommends ./next/*.deb
	printf '%s\n' '1af4:1110 bind' '1b36:0010 attach' >/etc/rdma/iopmem.conf
	useradd --groups rdma member
	useradd stranger
}

dpkg -i kernel/*.deb
kernel=$(ls /lib/modules)
files >before
{
	installed
	upgraded
	vendor_stack 1.0.1
	purged
	tap_ok "installed for good" configured
	tap_done
} >results
