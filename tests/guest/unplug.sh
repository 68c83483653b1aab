#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The guest's half of unplug.t: every way in which memory can be taken from
# those who use it.
# shellcheck disable=SC2154 # $pci and $class come from device.sh
set -euo pipefail
. tests/tap.sh
. tests/guest/device.sh

# Seconds that unbind and the like may take, and rounds of them under load.
limit=10
rounds=20
[[ ! ${LAB_LONG:-} ]] || rounds=1000
if [[ $LAB_KERNEL == debug ]]; then
	limit=30
	rounds=$((rounds * 2 / 5))
fi

# What the pool of the CMB has, without the queues of the drive
in_pool()
{
	cat "$1/p2pmem/available"
}

# under_load NAME SIZE NVME PATH AWAY BACK: while churn uses PATH's memory, in
# pieces of SIZE, take it away and bring it back many times.
under_load()
{
	local what=$1 size=$2 nvme=$3 path=$4 away=$5 back=$6 available
	local link=/tmp/churned round slowest=0 start took status=0
	available=$(in_pool "$path")
	ln -sfn "$(node_of "$path")" $link
	churn $link "$size" "$nvme" >/tmp/churn.log &
	for ((round = 0; round < rounds; round++)); do
		# some way into their work, or not at all
		sleep "0.0$((round % 10))"
		start=${EPOCHREALTIME/./}
		$away "$path" || status=1
		took=$((${EPOCHREALTIME/./} - start))
		((took <= slowest)) || slowest=$took
		$back "$path" || status=1
		ln -sfn "$(node_of "$path")" $link
	done
	sleep 0.2
	kill $!
	wait $! || true
	tap_run "$what under load" cat /tmp/churn.log
	tap_result $status "$what under load: $rounds rounds"
	tap_ok "$what under load: within $limit s" \
		test $((slowest / 1000000)) -lt $limit
	echo "# the slowest took $((slowest / 1000)) ms"
	tap_is "$what under load: all memory is free afterwards" \
		"$(bytes_free "$(node_of "$path")")" \
		"$(<"$class/$(basename "$(node_of "$path")")/size")"
	tap_is "$what under load: all of it is in its pool" \
		"$(in_pool "$path")" "$available"
}

bind_driver()
{
	echo "${1##*/}" >$pci/drivers/iopmem/bind
}

# A CMB goes with its node alone, or with the driver that it belongs to.
cmb_away()
{
	if ((round % 2)); then
		detach "$1"
	else
		unbind "$1"
	fi
}

cmb_back()
{
	if ((round % 2 == 0)); then
		echo "${1##*/}" >$pci/drivers/nvme/bind
		until [[ -e $1/p2pmem/size ]]; do sleep 0.05; done
	fi
	attach "$1"
}

reset_function()
{
	local node
	node=$(node_of "$bar0")
	if [[ ! -e $bar0/reset ]]; then
		tap_skip "the device offers none" "reset"
		return
	fi
	echo "# reset by $(<"$bar0/reset_method")"
	tap_run "reset" revoke -r "$node" 1M $limit "echo 1 >$bar0/reset" \
		"echo $node"
}

error_and_recovery()
{
	local kind
	for kind in fatal nonfatal; do
		tap_run "$kind PCIe error" \
			revoke -r "$(node_of "$bar0")" 1M $limit \
			"$(in_shell port_error $kind "$bar0")" \
			"echo $(node_of "$bar0")"
	done
}

# secondary_bus PORT [NUMBER]: the bus below it, or another one from now on (PCIe 5.0,
# 7.5.1.3.4): then what is there does not answer
secondary_bus()
{
	if (($# == 1)); then
		od -An -tu1 -j25 -N1 "$1/config"
	else
		printf '%b' "\\x$(printf %x "$2")" |
			dd of="$1/config" bs=1 seek=25 conv=notrunc status=none
	fi
}

is_refused()
{
	grep "No such device" <<<"$(hold "$1" 4K /tmp/held true 2>&1)"
}

failed_recovery()
{
	local port bus
	port=$(realpath "$bar0/..")
	bus=$(secondary_bus "$port")
	secondary_bus "$port" 254
	log_from_here
	tap_ok "failed recovery: the kernel gives up" \
		port_error nonfatal "$bar0" failed
	secondary_bus "$port" "$bus"
	tap_ok "failed recovery: the log says why" logged \
		"iopmem ${bar0##*/}: the function does not answer: its memory stays revoked"
	tap_ok "failed recovery: the memory is refused" \
		is_refused "$(node_of "$bar0")"
	if [[ -e $bar0/reset ]]; then
		echo 1 >"$bar0/reset"
		tap_ok "failed recovery: a reset is not the end of it" \
			is_refused "$(node_of "$bar0")"
	else
		tap_skip "the device offers none" "failed recovery: reset"
	fi
	unbind "$bar0"
	bind_driver "$bar0"
	tap_ok "failed recovery: bound again, it is there" \
		hold "$(node_of "$bar0")" 4K /tmp/held true
}

# The function goes to sleep, and does not wake up.
failed_resume()
{
	local port bus
	port=$(realpath "$bar0/..")
	bus=$(secondary_bus "$port")
	log_from_here
	secondary_bus "$port" 254
	tap_ok "failed resume: the system goes on" env suspend
	secondary_bus "$port" "$bus"
	tap_ok "failed resume: the log says why" logged \
		"iopmem ${bar0##*/}: the function does not answer: its memory stays revoked"
	tap_ok "failed resume: the memory is refused" \
		is_refused "$(node_of "$bar0")"
	unbind "$bar0"
	bind_driver "$bar0"
	tap_ok "failed resume: bound again, it is there" \
		hold "$(node_of "$bar0")" 4K /tmp/held true
}

# Somebody attaches and detaches all the time while the module comes and goes.
attach_against_rmmod()
{
	local i tries=0 gone=0
	touch /tmp/attaching
	while [[ -e /tmp/attaching ]]; do
		echo "${nvme0##*/}" >"$class/attach" || :
		echo "${nvme0##*/}" >"$class/detach" || :
	done 2>/dev/null &
	for ((i = 0; i < rounds && tries < 100 * rounds; tries++)); do
		rmmod iopmem 2>/dev/null || continue
		gone=$((gone + 1))
		modprobe iopmem
		i=$((i + 1))
		sleep "0.0$((i % 10))"
	done
	rm /tmp/attaching
	wait $! || true
	echo "# rmmod: $tries times, busy $((tries - gone)) of them"
	tap_is "attach against rmmod: rounds" $gone $rounds
	tap_ok "attach against rmmod: it can be attached afterwards" \
		iopmem-bind nvme0
}

module_removal()
{
	local node
	node=$(node_of "$bar0")
	tap_ok "rmmod with a mapping: busy" hold "$node" 1M /tmp/held \
		bash -c '. tests/guest/device.sh; is_busy iopmem'
	tap_ok "rmmod with an open file: busy" \
		bash -c ". tests/guest/device.sh; exec 3<$node; is_busy iopmem"
	tap_ok "rmmod" rmmod iopmem
	tap_ok "no node and no class is left" \
		bash -c "! ls /dev/iopmem* $class 2>/dev/null"
	tap_ok "the driver that was attached to goes on" \
		dd if="$(disk_of nvme0)" of=/dev/null bs=64K count=4 \
		iflag=direct status=none
	tap_ok "modprobe and bind" iopmem-bind bar0
	tap_ok "attach" iopmem-bind nvme0
}

bar0=$(pci_path bar0)
nvme0=$(pci_path nvme0)
disk=$(disk_of nvme1)

tap_run "unbind" revoke "$(iopmem-bind bar0)" 1M $limit \
	"$(in_shell unbind "$bar0")" "iopmem-bind bar0"
tap_run "detach" revoke "$(iopmem-bind nvme0)" 64K $limit \
	"$(in_shell detach "$nvme0")" "iopmem-bind nvme0"
tap_ok "the drive works as before" dd if="$(disk_of nvme0)" \
	of=/dev/null bs=64K count=4 iflag=direct status=none
tap_run "unbind of the nvme driver" \
	revoke "$(node_of "$nvme0")" 64K $limit \
	"$(in_shell unbind "$nvme0")" \
	"echo ${nvme0##*/} >$pci/drivers/nvme/bind && iopmem-bind nvme0"
tap_run "removal of the function" revoke "$(node_of "$bar0")" 1M $limit \
	"echo 1 >$bar0/remove" "echo 1 >$pci/rescan && iopmem-bind bar0"
reset_function
error_and_recovery
failed_recovery
# bar0 has just been found again, so it is what suspend needs.
tap_run "suspend" revoke -r "$(node_of "$bar0")" 1M $limit suspend \
	"echo $(node_of "$bar0")"
failed_resume
module_removal
attach_against_rmmod
iopmem-bind bar0 >/dev/null
under_load "unbind" 8M "$disk" "$bar0" unbind bind_driver
under_load "CMB" 64K "$disk" "$nvme0" cmb_away cmb_back

slots_change
# pciehp waits 5 s after the button before it does anything.
limit=$((limit + 10))
tap_run "unplugging" revoke "$(iopmem-bind bar1)" 1M $limit \
	"lab-host device_del bar1" \
	"$(in_shell plug_in bar1) && iopmem-bind bar1"
bar1=$(pci_path bar1)
tap_run "surprise removal" revoke "$(node_of "$bar1")" 1M $limit \
	"yank $bar1" "$(in_shell plug_in bar1) && iopmem-bind bar1"
tap_run "unplugging a drive with a CMB" \
	revoke "$(node_of "$nvme0")" 64K $limit "lab-host device_del nvme0" ""
tap_done
