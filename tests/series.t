#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# ./lab kernel edit and refresh, on a kernel source of two files: commits and
# patches become each other, no work is lost, files that do not change are not
# touched.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export GIT_AUTHOR_NAME=tester GIT_AUTHOR_EMAIL=t@localhost
export GIT_COMMITTER_NAME=tester GIT_COMMITTER_EMAIL=t@localhost
tree=$tmp/build/kernel/linux-patched
series=$tmp/kernel-patches/linux-6.12

# source_is VERSION: what the Debian package holds from now on
source_is()
{
	export TEST_VERSION=$1
	mkdir -p "$tmp/source/linux"
	printf '%s\n' "$1" a b c d e f g h >"$tmp/source/linux/one.c"
	echo constant >"$tmp/source/linux/two.c"
	echo '*.o' >"$tmp/source/linux/.gitignore"
	tar -cJf "$tmp/source.tar.xz" -C "$tmp/source" linux
}

cat >"$tmp/kernel" <<'END'
set -euo pipefail
. "$TEST_REPO/buildlib/common.sh"
. "$TEST_REPO/buildlib/kernel.sh"
source_tarball=$ROOT/source.tar.xz
source_version() { echo "$TEST_VERSION"; }
"$@"
END

# kernel FUNCTION: of buildlib/kernel.sh
kernel()
{
	status=0
	ROOT=$tmp BUILD=$tmp/build TEST_REPO=$PWD bash "$tmp/kernel" "$1" \
		>"$tmp/out" 2>&1 || status=$?
}

commit()
{
	git -C "$tree" add -A
	git -C "$tree" commit -q -m "$1"
}

source_is 1
kernel kernel_edit
tap_is "edit without a series" "$status" 0
tap_is "the source is there" "$(<"$tree/two.c")" constant
tap_ok "ignored files that are shipped too" test -f "$tree/.gitignore"

sed -i s/h/H/ "$tree/one.c"
kernel kernel_refresh
tap_is "refresh refuses what is not committed" "$status" 1
commit "one: Shout"
echo new >"$tree/three.c"
commit "three: Begin"
kernel kernel_refresh
tap_is "refresh" "$status" 0
tap_is "the patches" "$(<"$series/series")" \
	"0001-one-Shout.patch"$'\n'"0002-three-Begin.patch"
cp -r "$series" "$tmp/first"
kernel kernel_refresh
tap_ok "refresh again changes nothing" diff -r "$series" "$tmp/first"

# A clone that has the patches only.
rm -rf "$tmp/build"
kernel build_series
tap_is "a clone: the series applies" "$status" 0
tap_is "a clone: in order" "$(git -C "$tree" log --format=%s)" \
	"three: Begin"$'\n'"one: Shout"$'\n'"linux-source-6.12 as Debian ships it"
tap_is "a clone: authors are kept" \
	"$(git -C "$tree" log -1 --format=%an)" tester
kernel kernel_refresh
tap_ok "a clone: refresh changes nothing" diff -r "$series" "$tmp/first"

# The series changes below us (a git pull): only that file may be touched.
touch -d 2020-01-01 "$tree"/*.c
git -C "$tree" update-index -q --refresh
sed -i s/+new/+newer/ "$series"/0002*
kernel build_series
tap_is "a changed series" "$(<"$tree/three.c")" newer
tap_is "other files stay as old as they were" \
	"$(stat -c %y "$tree/one.c" | cut -c 1-4)" 2020

# Work that is not in the series.
echo mine >>"$tree/one.c"
sed -i s/+newer/+newest/ "$series"/0002*
kernel build_series
tap_is "uncommitted work: refuses" "$status" 1
tap_ok "uncommitted work: says what to do" \
	grep "lab kernel refresh" "$tmp/out"
tap_is "uncommitted work: is kept" "$(tail -n 1 "$tree/one.c")" mine
commit "one: Mine"
kernel build_series
tap_is "committed work: refuses" "$status" 1
tap_is "committed work: is kept" "$(tail -n 1 "$tree/one.c")" mine
kernel kernel_refresh
tap_is "refresh takes it" "$(wc -l <"$series/series")" 3

# A patch that does not apply.
sed -i 's/^ g$/ G/' "$series/0001"*
kernel build_series
tap_is "a bad patch: fails" "$status" 1
tap_ok "a bad patch: names the log" grep "see .*log/series.log" "$tmp/out"
tap_is "a bad patch: the tree is as it was" "$(tail -n 1 "$tree/one.c")" mine
sed -i 's/^ G$/ g/' "$series/0001"*
kernel build_series
tap_is "mended" "$status" 0

# A later Debian package.
touch -d 2020-01-01 "$tree"/*.c
git -C "$tree" update-index -q --refresh
source_is 2
kernel build_series
tap_is "a later source" "$status $(head -n 1 "$tree/one.c")" "0 2"
tap_is "a later source: with the series" "$(tail -n 1 "$tree/one.c")" mine
tap_is "a later source: other files stay as old as they were" \
	"$(stat -c %y "$tree/two.c" | cut -c 1-4)" 2020
tap_done
