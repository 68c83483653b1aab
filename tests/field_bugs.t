#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The bugs that earlier stacks with peer memory had in the field, each by its
# name, with clients that are made to meet them.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh
. tests/on_kernels.sh

on_kernels patched tests/guest/field_bugs.sh
# those that lockdep and KASAN see
[[ ${LAB_LONG:-} ]] || tap_run "debug" ./lab run --kernel debug --timeout 3600 -- \
	tests/guest/field_bugs.sh lock_inversion d_state teardown
tap_done
