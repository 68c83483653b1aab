# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# What all parts of ./lab use. ROOT and BUILD are set by ./lab.

say()
{
	printf 'lab: %s\n' "$*" >&2
}

die()
{
	say "$*"
	exit 1
}

usage_error()
{
	say "$* (see ./lab --help)"
	exit 2
}

# The process group of what runs in the background, so that a signal to us
# ends all of it.
group=

end_group()
{
	[[ -z $group ]] || kill -- "-$group" 2>/dev/null || true
	exit $((128 + $1))
}

trap 'end_group 2' INT
trap 'end_group 15' TERM
trap 'end_group 1' HUP

# interruptible CMD...: bash runs a trap only after a command in the
# foreground has ended.
interruptible()
{
	local status=0
	set -m
	"$@" </dev/null &
	group=$!
	set +m
	wait "$group" || status=$?
	group=
	return "$status"
}

elapsed()
{
	printf '%d:%02d' $(($1 / 60)) $(($1 % 60))
}

# step LOG WHAT CMD...: run CMD with its output in build/log/LOG.log and one
# line on the terminal; if it fails, show the log's end and give up.
step()
{
	local log=$BUILD/log/$1.log what=$2 start=$SECONDS shown=$SECONDS
	local done_fd line took width rc=""
	[[ ! -t 2 ]] || width=$(stty size <&2 | cut -d ' ' -f 2)
	shift 2
	mkdir -p "$BUILD/log"
	# The pipe tells that the step has ended, and how; -m gives it a
	# process group of its own.
	: >"$log"
	mkfifo "$log.pipe.$$"
	exec {done_fd}<>"$log.pipe.$$"
	rm "$log.pipe.$$"
	set -m
	{
		set +em
		(set -e; "$@") >"$log" 2>&1 </dev/null
		echo $? >&"$done_fd"
	} &
	group=$!
	set +m
	until read -r -t 1 -u "$done_fd" rc; do
		# killed from outside, it cannot tell
		kill -0 "$group" 2>/dev/null ||
			{ read -r -t 1 -u "$done_fd" rc || rc=137; break; }
		took=$((SECONDS - start))
		if [[ -t 2 ]]; then
			line=$(tail -n 1 "$log" | tr -s '[:space:]' ' ')
			line="$what $(elapsed $took) $line"
			printf '\r\e[K%.*s' $((width - 1)) "$line" >&2
		elif ((SECONDS - shown >= 30)); then
			shown=$SECONDS
			say "$what: $(elapsed $took) so far"
		fi
	done
	exec {done_fd}<&-
	wait "$group" || true
	group=
	[[ ! -t 2 ]] || printf '\r\e[K' >&2
	took=$((SECONDS - start))
	if ((rc)); then
		tail -n 20 "$log" | sed 's/^/  | /' >&2
		die "$what failed, see ${log#"$PWD"/}"
	fi
	((took < 3)) || say "$what: done in $(elapsed $took)"
}

# digest FILE...: one word for the contents of files and folders.
digest()
{
	find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum |
		sha256sum | cut -c 1-32
}

# up_to_date STAMP WORD: was the step of that stamp done for this input?
up_to_date()
{
	[[ -f $BUILD/stamp/$1 && $(<"$BUILD/stamp/$1") == "$2" ]]
}

set_stamp()
{
	mkdir -p "$BUILD/stamp"
	echo "$2" >"$BUILD/stamp/$1"
}
