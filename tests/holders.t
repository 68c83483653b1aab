#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# How much of a device's memory a user gets, who holds it as debugfs tells it,
# and what tracepoints tell of its life.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels patched tests/guest/holders.sh
tap_done
