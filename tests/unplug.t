#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# BAR memory that goes away while it is in use: unbind, detach, removal, reset,
# suspend, rmmod and unplugging.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels vanilla tests/guest/unplug.sh
tap_done
