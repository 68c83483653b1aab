#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# How CPUs map BAR memory: uncached or write-combining, the same everywhere, on
# kernels and machines that can and on those that cannot.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels patched tests/guest/cache.sh
tap_run "no PAT" ./lab run --append nopat -- tests/guest/cache_refused.sh nopat
tap_run "vanilla" ./lab run --kernel vanilla -- \
	tests/guest/cache_refused.sh vanilla
tap_done
