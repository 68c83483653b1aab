#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of dmabuf_import.t: dmabuf_import.sh PART...
#	access		what importers get, and where their DMA goes
#	revocation	what they see when the memory is taken away
#	churn		the same while many come and go
#	large		more than 2 GiB; wants large BARs
# shellcheck disable=SC2154 # $pci comes from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# Seconds that an unbind and the like may take; one importer is late by 1.5.
limit=10
rounds=20
[[ ! ${LAB_LONG:-} ]] || rounds=1000
if [[ $LAB_KERNEL == debug ]]; then
	limit=30
	rounds=$((rounds * 2 / 5))
fi

# Without the series an exporter cannot tell who lets go of a pin.
options=(-p)
[[ $LAB_KERNEL != vanilla ]] || options=()

access()
{
	local -A routes=([switch]=bus [bridge]=host [blocked]=none [iommu]=iova)
	local route=${routes[$LAB_TOPOLOGY]}
	tap_run "BAR" dmabuf_import "${options[@]}" "$route" \
		"$(node_of "$bar0")" "$(node_of "$bar1")" "$LAB_OUT/pattern" \
		lab-host find bar0 pattern
	# no file of the host's is behind this one
	tap_run "CMB" dmabuf_import "${options[@]}" "$route" \
		"$(node_of "$nvme0")" "$(node_of "$bar0")" "$LAB_OUT/pattern" \
		true
}

# revoked NAME PATH GONE BACK
revoked()
{
	tap_run "$1" dmabuf_import_revoke "${options[@]}" "$(node_of "$2")" \
		$limit "$3" "$4"
}

revocation()
{
	local parameter=/sys/module/iopmem/parameters/pin_unrevocable
	revoked "unbind" "$bar0" "$(in_shell unbind "$bar0")" \
		"iopmem-bind bar0"
	if [[ -e $bar0/reset ]]; then
		revoked "reset" "$bar0" "echo 1 >$bar0/reset" \
			"$(in_shell node_of "$bar0")"
	else
		tap_skip "the device offers none" "reset"
	fi
	revoked "detach" "$nvme0" "$(in_shell detach "$nvme0")" \
		"iopmem-bind nvme0"
	revoked "unbind of the nvme driver" "$nvme0" \
		"$(in_shell unbind "$nvme0")" \
		"echo ${nvme0##*/} >$pci/drivers/nvme/bind; iopmem-bind nvme0"

	tap_is "pins that cannot be revoked are refused by default" \
		"$(<$parameter)" N
	echo 1 >$parameter
	tap_run "pin_unrevocable" dmabuf_import_revoke -u "${options[@]}" \
		"$(node_of "$bar0")" $limit "$(in_shell unbind "$bar0")" \
		"iopmem-bind bar0"
	echo 0 >$parameter

	if [[ $LAB_KERNEL == debug ]]; then
		tap_skip "lockdep reports an order of pciehp's own locks" \
			"unplugging"
		return
	fi
	# pciehp waits 5 s after the button before it does anything.
	limit=$((limit + 10)) revoked "unplugging" "$bar1" \
		"lab-host device_del bar1" \
		"$(in_shell plug_in bar1) && iopmem-bind bar1"
}

# While importers of bar0's memory come and go, so does it.
churn()
{
	local link=/tmp/churned round
	ln -sfn "$(node_of "$bar0")" $link
	dmabuf_import_churn $link >/tmp/churn.log &
	for ((round = 0; round < rounds; round++)); do
		sleep "0.$((round % 10))"
		unbind "$bar0"
		ln -sfn "$(iopmem-bind bar0)" $link
	done
	sleep 0.2
	kill $!
	wait $! || true
	tap_run "under load" cat /tmp/churn.log
	tap_is "under load: all is free after $rounds rounds" \
		"$(bytes_free "$(node_of "$bar0")")" 67108864
}

large()
{
	tap_run "large" dmabuf_import_large "$(node_of "$bar0")" 3G
}

bar0=$(pci_path bar0)
bar1=$(pci_path bar1)
nvme0=$(pci_path nvme0)
for id in bar0 bar1 nvme0; do
	iopmem-bind $id >/tmp/node
done
modprobe importer
for part; do
	$part
done
tap_ok "nothing holds the importer" rmmod importer
tap_ok "nor iopmem" rmmod iopmem
tap_done
