# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# shellcheck shell=bash
#
# TAP for shell: results of commands, and the results of programs that print
# TAP themselves, as one stream with one plan at the end. Used on the host and
# in the guest.
#
#	. tests/tap.sh
#	tap_ok "it lists" ls /
#	tap_run mapping as-user mapping /dev/iopmem0 1M
#	tap_done

tap_results=0
tap_failures=0

# tap_result STATUS NAME: one result, good if STATUS is 0.
tap_result()
{
	tap_results=$((tap_results + 1))
	if [[ $1 == 0 ]]; then
		echo "ok - $2"
	else
		tap_failures=$((tap_failures + 1))
		echo "not ok - $2"
	fi
}

# tap_ok NAME CMD...: CMD succeeds. What it prints is shown if it does not.
tap_ok()
{
	local name=$1 status=0 output
	shift
	output=$("$@" 2>&1) || status=$?
	tap_result "$status" "$name"
	if [[ $status != 0 ]]; then
		# shellcheck disable=SC2001 # every line of it
		sed 's/^/# /' <<<"$output"
	fi
}

# tap_is NAME GOT WANT
tap_is()
{
	[[ $2 == "$3" ]] && tap_result 0 "$1" && return
	tap_result 1 "$1"
	echo "# \"$2\", not \"$3\""
}

# tap_skip REASON NAME
tap_skip()
{
	tap_results=$((tap_results + 1))
	echo "ok - $2 # SKIP $1"
}

# tap_run PREFIX CMD...: takes over the results that CMD prints. Its silent
# end, by a crash for one, is a failure too: of the exit status, or of a plan
# that is not there or not kept. What took long is said, so that it can be seen
# where a suite's time goes.
tap_run()
{
	local prefix=$1 line plan='' count=0 bad=0 status=0 start=$SECONDS
	shift
	while IFS= read -r line; do
		if [[ $line =~ ^(ok|not\ ok)([ 0-9]*)(-\ )?(.*)$ ]]; then
			count=$((count + 1))
			tap_results=$((tap_results + 1))
			if [[ ${BASH_REMATCH[1]} == not* ]]; then
				bad=$((bad + 1))
				tap_failures=$((tap_failures + 1))
			fi
			echo "${BASH_REMATCH[1]} - $prefix: ${BASH_REMATCH[4]}"
		elif [[ $line =~ ^1\.\.([0-9]+)(.*)$ ]]; then
			plan=${BASH_REMATCH[1]}
			[[ $plan != 0 ]] ||
				tap_skip "${BASH_REMATCH[2]#*SKIP }" "$prefix"
		else
			echo "$line"
		fi
	done < <("$@")
	wait $! || status=$?

	[[ $plan == "$count" && ( $status == 0 || $bad != 0 ) ]] ||
		tap_result 1 "$prefix: ran $count of ${plan:-?} tests, exit status $status"
	((SECONDS - start < 10)) || echo "# $prefix: $((SECONDS - start)) s"
}

# tap_done: the plan. Its status is that of all results.
tap_done()
{
	echo "1..$tap_results"
	[[ $tap_failures == 0 ]]
}
