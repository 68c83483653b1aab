#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# ./lab bench [accesses|copy|messages|perftest|reg|revoke] [--boots N]: what messages,
# registrations and the revocation of MRs cost, and what perftest says, in guests
# whose clock counts instructions; how many accesses copying to a BAR takes; and
# iopmem-copy from one guest to another, by the clock: for that one the host should
# have nothing else to do. Tables on stdout; JSON
# with every value and plots in build/bench/.
# shellcheck disable=SC2154 # kernel_make comes from kernel.sh
set -euo pipefail

cd "$(dirname "$0")/.."
ROOT=$PWD
BUILD=$ROOT/build
# shellcheck source=buildlib/common.sh
. buildlib/common.sh
# shellcheck source=buildlib/kernel.sh
. buildlib/kernel.sh

# With "fast string" instructions and without: the kernel then copies and
# clears memory in other ways.
cpus=(max "max,-erms,-fsrm")
boots=5
whats=()
while (($#)); do
	case $1 in
	accesses | copy | messages | perftest | reg | revoke) whats+=("$1") ;;
	--boots)
		boots=${2:-}
		[[ $boots =~ ^[1-9][0-9]*$ ]] ||
			usage_error "bench: --boots takes a number"
		shift
		;;
	*) usage_error "bench: accesses, copy, messages, perftest, reg, revoke or --boots N, not $1" ;;
	esac
	shift
done
((${#whats[@]})) || whats=(accesses copy messages perftest reg revoke)

make_bench_modules()
{
	mkdir -p "$BUILD/bench_modules"
	rsync -rt --checksum buildlib/bench_modules/ "$BUILD/bench_modules/"
	"${kernel_make[@]}" -C "$(kernel_source patched)" \
		O="$(kernel_out patched)" M="$BUILD/bench_modules" W=1 modules
}

# boot WHAT KERNEL CPU N OPTION...
boot()
{
	local what=$1 kernel=$2 cpu=$3 n=$4 out=build/bench/raw-$1/$2.$3.$4
	shift 4
	say "bench: $what, $kernel kernel, -cpu $cpu, boot $n of $boots"
	nice ./lab run --no-build --name bench --kernel "$kernel" \
		--cpu "$cpu" "$@" -- "buildlib/guest/bench-$what" >"$out"
	# up to 2 GiB each
	rm -f build/run/bench/*.img
}

./lab build patched modules-patched user
[[ ${whats[*]} != *messages* ]] || ./lab build vanilla
step bench_modules "modules that measure" make_bench_modules
[[ ${whats[*]} == messages || ${whats[*]} == accesses ]] || ./lab build perftest rdma-core

for what in "${whats[@]}"; do
	rm -rf "build/bench/raw-$what"
	mkdir -p "build/bench/raw-$what"
	for ((n = 1; n <= boots; n++)); do
		if [[ $what == accesses ]]; then
			# a count, and the same each time
			boot accesses patched max "$n"
			break
		elif [[ $what == copy ]]; then
			boot copy patched Skylake-Server "$n" --nodes 2
			continue
		fi
		for cpu in "${cpus[@]}"; do
			if [[ $what == messages ]]; then
				boot "$what" vanilla "$cpu" "$n" --icount
				boot "$what" patched "$cpu" "$n" --icount
			elif [[ $what == reg ]]; then
				boot "$what" patched "$cpu" "$n" --icount \
					--bar-size 65536 --memory 6144
			else
				boot "$what" patched "$cpu" "$n" --icount
			fi
		done
	done
	buildlib/bench_report.py "$what"
done
