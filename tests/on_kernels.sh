# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# shellcheck shell=bash
#
# Suites whose guest half runs on a quick kernel always, and on the one with
# every checker when there is time.

# on_kernels KERNEL SCRIPT [OPTION...]: SCRIPT's results in a guest with KERNEL
# and these options of ./lab run; with ./lab test --long in one with the debug
# kernel too.
on_kernels()
{
	local kernel kernels=("$1") script=$2

	shift 2
	[[ ! ${LAB_LONG:-} ]] || kernels+=(debug)
	for kernel in "${kernels[@]}"; do
		tap_run "$kernel" ./lab run --kernel "$kernel" \
			--timeout "${LAB_LONG:+2}3600" "$@" -- "$script"
	done
}
