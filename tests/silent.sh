# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# shellcheck shell=bash
#
# For suites that compile.

# silent CMD...: it succeeds and has nothing to warn of.
silent()
{
	local output status=0
	output=$("$@" 2>&1) || status=$?
	if [[ $status == 0 ]] && ! grep -E 'warning:|error:' <<<"$output"; then
		return
	fi
	tail -n 20 <<<"$output"
	return 1
}
