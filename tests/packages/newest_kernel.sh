#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# In a clean root of a release with the newest kernel and its headers: dkms builds
# the module of the packages in /lab for it. They stay installed and configured;
# the results, the kernel and its initrd end in /lab.
set -euo pipefail
cd /lab
# shellcheck source=tests/tap.sh
. source/tests/tap.sh
export DEBIAN_FRONTEND=noninteractive

kernel=$(ls /lib/modules)

install()
{
	apt-get install --yes --no-install-recommends ./*.deb && return
	grep -h -A 5 -E 'error|warning' /var/lib/dkms/iopmem/*/build/make.log
	return 1
}

{
	tap_ok "it is Linux 7 or later" test "${kernel%%.*}" -ge 7
	tap_ok "the packages can be installed" install
	tap_is "dkms has built for $kernel" \
		"$(dkms status iopmem | cut -d : -f 1,2)" \
		"iopmem/1.0.0, $kernel, $(uname -m): installed"
	tap_is "iopmem alone: there are no peer memory clients" \
		"$(find "/lib/modules/$kernel/updates" -name '*.ko*' \
		   -printf '%f\n' | sed 's/\.ko.*//')" iopmem
	tap_done
} >results
printf '%s\n' '1af4:1110 bind' '1b36:0010 attach' >/etc/rdma/iopmem.conf
useradd --groups rdma member
cp -L /vmlinuz /initrd.img .
