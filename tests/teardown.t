#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The end of a device in full use: 1,000 MRs, traffic on 8 queue pairs, CPUs
# and disks, in every way in which a PCI function can go.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels patched tests/guest/teardown.sh
tap_done
