#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# tests/lab.t's part inside the guest: what the lab promises to commands.
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

tap_is "the working directory is the repository" "$PWD/lab" "$(ls "$PWD/lab")"
tap_is "LAB_BUILD is build/" "$LAB_BUILD" "$PWD/build"
tap_is "root" "$(id -u)" 0
tap_ok "writable /tmp, /run, /dev/shm, /var/tmp, LAB_OUT" \
	touch /tmp/x /run/x /dev/shm/x /var/tmp/x "$LAB_OUT/x"
tap_ok "all else is read-only" bash -c '! touch lab'
tap_is "standard input is empty" "$(cat | wc -c)" 0
tap_ok "the output can be opened again" bash -c 'echo "# again" >/dev/stdout'

tap_ok "modprobe" modprobe loop
tap_ok "the kernel can load modules itself" \
	bash -c 'ip link add lab0 type dummy && [[ -d /sys/module/dummy ]]'

# lab-host
for device in bar0 bar1 nvme0 nvme1 edu; do
	address=$(lab-host address $device)
	tap_ok "$device is at $address" test -e "/sys/bus/pci/devices/$address"
done
bar0=/sys/bus/pci/devices/$(lab-host address bar0)
bar1=/sys/bus/pci/devices/$(lab-host address bar1)
tap_is "bar0 is shared memory" "$(<"$bar0/vendor") $(<"$bar0/device")" \
	"0x1af4 0x1110"
tap_ok "an unknown device is an error" bash -c '! lab-host address bar7'
tap_ok "an unknown request is an error" bash -c '! lab-host reboot'

echo 1 >"$bar0/enable"
digest=$(lab-host digest bar0)
tap_is "a digest is always the same" "$(lab-host digest bar0)" "$digest"
/usr/bin/python3 - "$bar0/resource2" "$LAB_OUT/needle" <<'END'
import mmap, os, sys
needle = bytes(range(1, 256)) * 16
with open(sys.argv[2], "wb") as file:
    file.write(needle)
bar = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)
bar[0x12344:0x12344 + len(needle)] = needle
END
tap_is "bytes in the BAR are found in its file" \
	"$(lab-host find bar0 needle)" $((0x12344))
tap_is "and by the file's full name" \
	"$(lab-host find bar0 "$LAB_OUT/needle")" $((0x12344))
tap_ok "its digest has changed" \
	bash -c "[[ \$(lab-host digest bar0) != $digest ]]"
tap_ok "and not in the other" bash -c '! lab-host find bar1 needle'
tap_is "16 bytes of it are 0x7f" "$(lab-host count bar0 0x7f)" 16
tap_is "all others are 0" "$(lab-host count bar0 0)" $((0x4000000 - 16 * 255))
tap_ok "a file elsewhere is refused" bash -c '! lab-host find bar0 ../job'
truncate -s 4096 "$LAB_OUT/zeros"
tap_ok "so are zeros" bash -c '! lab-host find bar0 zeros'

# read_into MAPPING DISK: 1 MiB, which the disk itself puts there
read_into()
{
	/usr/bin/python3 - "$@" <<'END'
import mmap, os, sys
memory = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 1 << 20)
disk = os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECT)
assert os.preadv(disk, [memory], 0) == 1 << 20
END
}

disk0=$(disk_of nvme0)
disk1=$(disk_of nvme1)
bar=$(iopmem-bind bar0)
cmb=$(iopmem-bind nvme0)
# who looks for partitions has the disk open
dd if="$disk0" of=/dev/null iflag=direct count=1 status=none
dd if="$disk1" of=/dev/null iflag=direct count=1 status=none
lab-host dma-start
tap_is "the disks are quiet" "$(lab-host dma-count)" "0 0"
lab-host dma-start
dd if="$disk1" of=/dev/null iflag=direct bs=64k count=16 status=none
tap_is "1 MiB of DMA to DRAM" "$(lab-host dma-count)" "0 1048576"
dd if="$disk1" of=/dev/null iflag=direct bs=64k count=1 status=none
lab-host dma-start
tap_ok "a read into a BAR" read_into "$bar" "$disk1"
tap_is "1 MiB of DMA to a BAR" "$(lab-host dma-count)" "1048576 0"
lab-host dma-start
tap_ok "a read into the disk's own CMB" read_into "$cmb" "$disk0"
tap_is "counts once" "$(lab-host dma-count)" "1048576 0"
unbind "$bar0"

tap_ok "bar1 is unplugged" lab-host device_del bar1
tap_ok "and gone" test ! -e "$bar1"
tap_ok "bar1 is plugged in again" lab-host device_add bar1
for ((tries = 0; tries < 300; tries++)); do
	[[ ! -e $bar1/resource2 ]] || break
	sleep 0.1
done
tap_ok "and there" test -e "$bar1/resource2"

# users
for user in as-user as-stranger; do
	tap_is "$user: nobody" "$($user id -u):$($user id -g)" 65534:65534
	tap_is "$user: no capabilities" \
		"$($user grep -h Cap /proc/self/status | grep -c '\s0*$')" 5
	tap_is "$user: 64 KiB of locked memory" \
		"$($user bash -c 'ulimit -H -l')" 64
	tap_ok "$user: a program of the build runs" \
		$user bash -c '[[ -x $(command -v lab-host) ]]'
done
tap_is "as-user: group users" "$(as-user id -G)" "65534 100"
tap_is "as-stranger: no such group" "$(as-stranger id -G)" 65534

# what is left running must not keep the guest
sleep 1000 &
tap_done
