#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# What udev does with our rules: the node's group, mode and names, and functions
# that are bound or attached when they appear.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

# not below /tmp, which is another in the guest
work=$PWD/build/kernel_boot

installed()
{
	rm -rf "$work"
	cmake -S . -B "$work/build" -DCMAKE_INSTALL_PREFIX=/usr &&
		cmake --build "$work/build" --target man-iopmem.conf.5 &&
		DESTDIR=$work/root cmake --install "$work/build/kernel-boot"
}

tap_ok "kernel-boot/ is installed" installed
tap_is "its files" "$(cd "$work/root" && find . -type f | LC_ALL=C sort)" \
"./etc/rdma/modules/iopmem.conf
./usr/lib/udev/iopmem-device
./usr/lib/udev/rules.d/05-iopmem-devices.rules
./usr/lib/udev/rules.d/90-iopmem.rules
./usr/share/man/man5/iopmem.conf.5"
tap_ok "the manual page is one" env MANWIDTH=80 man --warnings -l \
	"$work/root/usr/share/man/man5/iopmem.conf.5"
tap_run "patched" ./lab run -- tests/guest/kernel_boot.sh
tap_done
