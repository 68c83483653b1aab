#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of pmem.t: memory at 1 GiB is a namespace for libnvdimm.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

disk=$(disk_of nvme1)
namespace=namespace0.0
modprobe -a nd_pmem dax_pmem device_dax
# iopmem beside it, as it is where the series is
bar=$(iopmem-bind bar0)

# becomes MODE
becomes()
{
	ndctl create-namespace --force --reconfig=$namespace --mode="$1" --map=mem
}

file_system()
{
	mkfs.ext4 -q -F -b 4096 /dev/pmem0 && mkdir -p /tmp/pmem &&
		mount -o dax=always /dev/pmem0 /tmp/pmem
}

tap_ok "fsdax: the namespace" becomes fsdax
tap_ok "fsdax: a file system on it" file_system
tap_ok "fsdax: it is mounted with DAX" grep "^/dev/pmem0 .*dax=always" /proc/mounts
tap_run "fsdax" dax /tmp/pmem/file 4M "$disk"
cp /usr/bin/bash /tmp/pmem/bash
tap_ok "fsdax: a program runs from it" /tmp/pmem/bash -c true
tap_ok "fsdax: beside BAR memory" mapping "$bar" 1M
tap_ok "fsdax: unmounted" umount /tmp/pmem
tap_ok "fsdax: the file system is sound" fsck.ext4 -f -n /dev/pmem0
tap_ok "fsdax: mounted again" mount -o dax=always /dev/pmem0 /tmp/pmem
tap_ok "fsdax: files are the same" cmp /usr/bin/bash /tmp/pmem/bash
umount /tmp/pmem

tap_ok "devdax: the namespace" becomes devdax
device=$(echo /dev/dax*)
tap_ok "devdax: the device" test -c "$device"
tap_run "devdax" dax "$device" 4M "$disk"
tap_ok "gone" ndctl destroy-namespace --force $namespace
tap_ok "nothing holds its pages" rmmod device_dax dax_pmem nd_pmem
tap_done
