#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The lab itself: what it passes on, and what it does not let pass.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# lab ARG...: ./lab, its exit code in $status, its output in $tmp/out and
# $tmp/err
lab()
{
	status=0
	./lab "$@" >"$tmp/out" 2>"$tmp/err" || status=$?
}

# boot ARG...: the same in a guest; the vanilla kernel is the quickest
boot()
{
	lab run --kernel vanilla --timeout 120 "$@"
}

# lab_is NAME STATUS ERROR: a line of standard error matches ERROR
lab_is()
{
	tap_is "$1" "$status" "$2"
	tap_ok "$1: says why" grep -E -- "$3" "$tmp/err"
}

# usage: one clear line, exit code 2, no guest, nothing on standard output
usage()
{
	local name=$1 error=$2
	shift 2
	lab "$@"
	tap_is "$name: exit code, lines of error, of output" \
		"$status $(wc -l <"$tmp/err") $(wc -l <"$tmp/out")" "2 1 0"
	tap_ok "$name: says why" grep -F -- "$error" "$tmp/err"
}

qemu_runs()
{
	pgrep -f -- "-name lab-$1 " >"$tmp/pids"
}

no_qemu_runs()
{
	! qemu_runs "$1"
}

wait_until()
{
	local tries
	for ((tries = 0; tries < 600; tries++)); do
		"$@" && return
		sleep 0.1
	done
	return 1
}

# ---- the command line

lab
tap_is "no arguments: help" "$status $(head -n 1 "$tmp/out")" \
	"0 usage: ./lab [--no-install] COMMAND ..."
lab --help
tap_is "--help" "$status $(head -n 1 "$tmp/out")" \
	"0 usage: ./lab [--no-install] COMMAND ..."
usage "unknown command" "unknown command frobnicate" frobnicate
usage "unknown option" "unknown option --frob" run --frob -- true
usage "unknown topology" "invalid choice: 'ring'" run --topology ring -- true
usage "unknown kernel" "invalid choice: 'mainline'" run --kernel mainline -- true
usage "no command" "no command given" run --kernel vanilla
usage "a command without --" "put -- before the command" run true
usage "BAR size" "power of two" run --bar-size 3 -- true
usage "two CPUs and --icount" "one CPU" run --icount --smp 2 -- true
usage "no such image" "there is no file /nonexistent" run --image /nonexistent -- true
usage "a kernel of no image" "with --image only" run --own-kernel / -- true
usage "a shell in an image" "run only" shell --image lab
usage "two nodes of an image" "does not go with" run --nodes 2 --image lab -- true
usage "two nodes and --icount" "does not go with" run --nodes 2 --icount -- true
usage "a bad name" "cannot name a folder" run --name ../x -- true
usage "unknown part" "no part named frob" build frob
usage "unknown suite" "no suite named frob" test frob
usage "unknown test option" "unknown option --frob" test --frob
usage "kernel what?" "edit or refresh" kernel

# ---- packages: a dpkg-query that knows none, and a sudo and an apt-get that
# would tell if they were called

mkdir "$tmp/bin"
for tool in dpkg-query apt-get sudo; do
	printf '#!/bin/sh\necho %s >>%s\nexit 1\n' $tool "$tmp/calls" \
		>"$tmp/bin/$tool"
	chmod +x "$tmp/bin/$tool"
done
PATH=$tmp/bin:$PATH lab --no-install
lab_is "missing packages" 1 "missing packages:.* linux-source-6.12"
tap_is "nothing was installed" "$(sort -u "$tmp/calls")" dpkg-query
lab --no-install
tap_is "nothing is missing" "$status" 0

# ---- a build step that fails

# shellcheck disable=SC2016 # for the inner shell
BUILD=$tmp bash -c 'set -euo pipefail; . buildlib/common.sh
	fails() { echo the reason; false; echo not reached; }
	step trial "a trial" fails; echo not reached' >"$tmp/out" 2>"$tmp/err" ||
	status=$?
lab_is "a failing step" 1 "a trial failed, see .*log/trial.log"
tap_ok "the log's end is shown" grep "the reason" "$tmp/err"
tap_ok "it ends there" bash -c "! grep 'not reached' $tmp/out $tmp/log/trial.log"

# ---- a guest

tap_run guest ./lab run --kernel vanilla --timeout 300 -- tests/guest/lab.sh

# Words that are faults in the kernel's log are just output here.
boot -- bash -c 'echo "BUG: a  b"; echo WARNING: >&2; exit 7'
tap_is "exit code 7" "$status" 7
tap_is "standard output, unchanged" "$(od -c "$tmp/out")" \
	"$(echo "BUG: a  b" | od -c)"
tap_is "standard error" "$(<"$tmp/err")" WARNING:

boot --topology bridge -- bash -c 'seq 300000; kill -9 $$'
tap_is "bridge boots; a signal is 128 + 9" "$status" 137
tap_is "much output is complete" "$(sha256sum <"$tmp/out")" \
	"$(seq 300000 | sha256sum)"

boot --topology blocked --name lab-test -- bash -c 'echo kept >$LAB_OUT/x'
tap_is "blocked boots; exit code 0" "$status" 0
tap_is "LAB_OUT and the name" "$(<build/run/lab-test/out/x)" kept

boot --topology iommu --memory 1024 --smp 1 --bar-size 128 --append lab.x=y -- \
	bash -c 'ls /sys/class/iommu; nproc; cat /proc/cmdline; ! lab-host dma-start'
tap_is "iommu boots" "$status" 0
tap_ok "and has an IOMMU" grep dmar0 "$tmp/out"
tap_ok "and does not count DMA" grep "IOMMU's addresses" "$tmp/err"
tap_ok "--smp" grep -x 1 "$tmp/out"
tap_ok "--append" grep lab.x=y "$tmp/out"

boot --icount -- bash -c 'sleep 1000; echo awake'
tap_is "--icount: waiting takes no time" "$status $(<"$tmp/out")" "0 awake"

status=0
echo 'tty; exit 5' | ./lab shell --kernel vanilla --timeout 120 >"$tmp/out" ||
	status=$?
tap_is "shell: exit code" "$status" 5
tap_ok "shell: on a terminal" grep /dev/hvc0 "$tmp/out"

# ---- kernels that report a fault

boot -- bash -c 'modprobe lkdtm
	echo WARNING >/sys/kernel/debug/provoke-crash/DIRECT; echo alive'
lab_is "a WARNING fails the run" 99 "reported a fault, see .*console.log"
tap_ok "a WARNING is shown" grep "WARNING: .*lkdtm" "$tmp/err"
tap_is "though the command went on" "$(<"$tmp/out")" alive

boot -- bash -c 'modprobe lkdtm
	echo EXCEPTION >/sys/kernel/debug/provoke-crash/DIRECT; true'
lab_is "an oops fails the run" 99 "reported a fault"
tap_ok "an oops is shown" grep "Oops" "$tmp/err"

boot -- bash -c 'echo b >/proc/sysrq-trigger; sleep 100'
lab_is "a guest that just ends" 98 "ended before the command did"

start=$SECONDS
boot --timeout 40 -- bash -c 'echo before; sleep 1000'
lab_is "a hang ends at the timeout" 124 "timeout after 40 s"
tap_is "a hang: what came before" "$(<"$tmp/out")" before
tap_ok "a hang: in time" test $((SECONDS - start)) -lt 60

# One boot for both, as it takes minutes; that each alone fails a run is decided
# by the lines they write.
lab run --kernel debug --timeout 900 --name lab-debug -- bash -c \
	'modprobe kmemleak-test; modprobe lkdtm
	echo READ_AFTER_FREE >/sys/kernel/debug/provoke-crash/DIRECT; true'
lab_is "debug: what the checkers report" 99 "reported a fault"
for line in "BUG: KASAN" "kmemleak: .*new suspected memory leaks" \
	    "unreferenced object"; do
	report=$(grep -m 1 "$line" build/run/lab-debug/console.log || true)
	tap_ok "debug: $line" test "$report"
	tap_ok "debug: that line fails a run" python3 -c "import sys
sys.path.insert(0, 'buildlib')
import run
sys.exit(not run.FAULTS.search(sys.argv[1]))" "$report"
done

# ---- two guests

tap_run nodes ./lab run --kernel vanilla --nodes 2 --timeout 300 -- \
	tests/guest/nodes.sh

boot --nodes 2 -- on-node2 bash -c 'modprobe lkdtm
	echo WARNING >/sys/kernel/debug/provoke-crash/DIRECT; echo alive'
lab_is "a WARNING of node 2 fails the run" 99 "reported a fault, see .*/node2/console.log"
tap_is "though its command went on" "$(<"$tmp/out")" alive

start=$SECONDS
boot --nodes 2 --timeout 400 -- on-node2 bash -c 'echo b >/proc/sysrq-trigger; sleep 100'
lab_is "node 2 just ends" 98 "node 2 ended before the command did"
tap_ok "node 2 just ends: so does node 1" test $((SECONDS - start)) -lt 300

# ---- no QEMU stays

for signal in INT TERM HUP KILL; do
	name="lab-signal"
	# in the background a shell ignores SIGINT; env gives it back
	env --default-signal=INT ./lab run --kernel vanilla --nodes 2 \
		--name $name -- sleep 1000 >"$tmp/out" 2>"$tmp/err" &
	lab=$!
	tap_ok "$signal: the guest runs" wait_until qemu_runs $name
	tap_ok "$signal: node 2 runs" wait_until qemu_runs $name-node2
	kill "-$signal" $lab
	status=0
	wait $lab 2>/dev/null || status=$?
	tap_is "$signal: exit code" "$status" $((128 + $(kill -l $signal)))
	tap_ok "$signal: no QEMU stays" wait_until no_qemu_runs $name
	tap_ok "$signal: nor does node 2's" wait_until no_qemu_runs $name-node2
done

tap_done
