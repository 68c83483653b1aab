#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# iopmem.ko on a bound BAR and on a CMB: who gets which memory, and what is
# refused.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels vanilla tests/guest/memory.sh
tap_done
