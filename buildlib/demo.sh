#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# ./lab demo: ib_write_bw and ib_read_bw from one PCI BAR to another, host
# memory beside it, and the proof that the bytes went there. The guest's part
# is guest/demo.
set -euo pipefail

(($# == 0)) || { echo "lab: demo takes no arguments" >&2; exit 2; }
cd "$(dirname "$0")/.."
run=build/run/demo

# where PAYLOAD BAR: the offset of the payload's first byte in the BAR's file,
# or nothing
where()
{
	/usr/bin/python3 - "$run/out/$1" "$run/$2.img" <<-'END'
		import mmap, sys
		payload = open(sys.argv[1], "rb").read()
		assert len(payload) == 65536 and len(set(payload)) == 256
		file = open(sys.argv[2], "rb")
		bar = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
		at = bar.find(payload)
		print(at if at >= 0 else "")
	END
}

./lab build patched modules-patched user perftest
start=$SECONDS
./lab run --no-build --name demo -- buildlib/guest/demo

# The guest has ended; these are files of the host.
source=$(where write bar0)
target=$(where write bar1)
read_target=$(<$run/out/read.offset)
strays=$(where control bar0)
strays+=$(where control bar1)

cat <<EOT

MiB/s: medians of 3 runs of perftest, as it counts them. The guest is emulated
and Soft-RoCE copies with the CPU: they say that it works, not how fast a PCIe
device is. ratio: to host memory.

Proof. Behind each BAR is a file of the host. The payloads, 65536 random bytes
each, were in neither file before they were sent.
  ib_write_bw from bar0 to bar1, the guest has ended since:
    source  $run/bar0.img  ${source:+byte for byte at offset }${source:-NOT FOUND}
    target  $run/bar1.img  ${target:+byte for byte at offset }${target:-NOT FOUND}
  ib_read_bw from bar1 to bar0, seen by the host before the place was used again:
    target  $run/bar0.img  ${read_target:+byte for byte at offset }${read_target:-NOT FOUND}
  ib_write_bw from host memory to host memory, as a control:
    ${strays:+FOUND in a BAR}${strays:-in neither file}
EOT
[[ $source && $target && $read_target && ! $strays ]] || {
	echo "lab: demo: NOT proved" >&2
	exit 1
}
cat <<EOT
To compare again: cmp -n 65536 -i 0:$target $run/out/write $run/bar1.img
Took $((SECONDS - start)) s after the builds.
EOT
cmp -n 65536 -i "0:$target" $run/out/write $run/bar1.img
