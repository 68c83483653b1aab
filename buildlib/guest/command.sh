# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# shellcheck shell=bash
#
# The command of ./lab run inside the guest: where its output goes, and how its
# exit code gets out. LAB_JOB's variables are set.
# shellcheck disable=SC2154 # lab_* come from there

mount_out()
{
	mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none \
		out "$LAB_OUT"
}

# run_command [CLEAN]: leaves its exit code in status. CLEAN PID...: a command
# that ends what it has left behind, but for these processes.
run_command()
{
	local out err
	# A port can be opened only once, a pipe as often as the command likes
	# (/dev/stdout, for one).
	mkfifo /run/lab/out /run/lab/err
	cat /run/lab/out >/dev/virtio-ports/lab.out &
	out=$!
	cat /run/lab/err >/dev/virtio-ports/lab.err &
	err=$!
	"${lab_command[@]}" >/run/lab/out 2>/run/lab/err
	status=$?
	[[ ! ${1:-} ]] || "$1" $out $err
	wait $out $err
	# The host knows by this that it has seen all of the output.
	printf %s "$lab_token" >/dev/virtio-ports/lab.out
	printf %s "$lab_token" >/dev/virtio-ports/lab.err
	lab-host drained
}

power_off()
{
	echo "$status" >"$LAB_OUT/.status"
	# From here on the root is going away under us: nothing may be executed
	# any more.
	mkfifo /run/lab/never
	exec 5<>/run/lab/never
	echo o >/proc/sysrq-trigger
	read -r -u 5
}
