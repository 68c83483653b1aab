#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# buildlib/perftest_install.sh BUILD_DIR PREFIX: what perftest.sh has built there,
# under names that leave those of the distribution's perftest free:
# ib_write_bw-iopmem and so on. For packages.
set -euo pipefail

from=$1
bin=$2/bin
man=$2/share/man/man1

install -d "$bin" "$man"
install -m 644 "$from/src/man/perftest.1" "$man/perftest-iopmem.1"
# raw Ethernet has no use for memory that a NIC reaches by MRs
for tool in "$from"/bin/ib_*; do
	name=${tool##*/}-iopmem
	install "$tool" "$bin/$name"
	echo ".so man1/perftest-iopmem.1" >"$man/$name.1"
done
