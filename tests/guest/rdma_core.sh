#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of rdma_core.t: rdma-core with our patches, as built in
# place, and beside it the distribution's.
set -euo pipefail
. tests/tap.sh

built=$LAB_BUILD/rdma-core/build/python
folder=$LAB_BUILD/rdma-core/src/tests

# Of the other modules all is for what rxe does not have: paging, parent
# domains, import, flow steering, RSS, tag matching, GPUs, mlx5, efa.
suite=(test_addr test_atomic test_cq test_cq_events test_cqex test_device
	test_fork test_mr test_pd test_qp test_qpex test_rdmacm
	test_relaxed_ordering test_srq)

py=(timeout 600 tests/pyverbs/run.py "$folder" --dev rxe0)
user=(as-user "${py[@]}" --no-skips)

# Did the kernel answer EOPNOTSUPP to what pyverbs wants of it?
asked()
{
	local answer=no
	strace -f -e trace=ioctl -o /tmp/strace "${py[@]}" --no-skips \
		test_iopmem.DmaBufUnsupportedTest >/dev/null || answer=failed
	! grep -q 'RDMA_VERBS_IOCTL.*EOPNOTSUPP' /tmp/strace || answer=yes
	echo "$answer"
}

[[ $(iopmem-bind bar0) == /dev/iopmem0 ]]
[[ $(iopmem-bind bar1) == /dev/iopmem1 ]]

# The RDMA CM refuses loopback addresses.
modprobe dummy
ip link add rdma0 type dummy
ip address add 192.0.2.1/24 dev rdma0
rxe-up rdma0

# A kernel that cannot do it says so itself, if the provider passes it on.
if [[ $LAB_KERNEL == vanilla ]]; then
	tap_run "distribution's" "${user[@]}" test_iopmem.DmaBufUnsupportedTest
	tap_is "distribution's: the kernel is not asked" "$(asked)" no
	export PYTHONPATH=$built
	tap_run "with our patches" "${user[@]}" \
		test_iopmem.DmaBufUnsupportedTest
	tap_is "with our patches: the kernel is asked" "$(asked)" yes
	tap_done
	exit
fi

modprobe iopmem_peer
modprobe rdma_ucm
tap_run "distribution's" "${user[@]}" test_iopmem.MappingTest \
	test_iopmem.DmaBufUnsupportedTest

export PYTHONPATH=$built
tap_run "with our patches" "${py[@]}" --no-skips test_dmabuf
tap_run "with our patches" "${user[@]}" test_iopmem.MappingTest \
	test_iopmem.DmaBufTest
# On the debug kernel it would run into its own time limits.
[[ $LAB_KERNEL == debug ]] || tap_run "with our patches" "${py[@]}" "${suite[@]}"
for device in iopmem0 iopmem1; do
	tap_ok "nothing of $device is held any more" \
		cmp "/sys/class/iopmem/$device/free" \
		"/sys/class/iopmem/$device/size"
done
tap_done
