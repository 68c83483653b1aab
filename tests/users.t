#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Users who end without undoing anything, and the memory that they leave to
# others.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels patched tests/guest/users.sh --bar-size 4096
tap_done
