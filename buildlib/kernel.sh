# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The kernels: Debian's source as a git repository in build/kernel/linux-vanilla
# (branch vanilla), and linux-patched, a worktree of it with the series applied
# (branch iopmem). The output folders lie directly below the source trees, so
# that both compile under the same relative names and share ccache's objects.

package=linux-source-6.12
source_tarball=/usr/src/$package.tar.xz
series_dir=$ROOT/kernel-patches/linux-6.12
kernel_dir=$BUILD/kernel
vanilla=$kernel_dir/linux-vanilla
patched=$kernel_dir/linux-patched

export CCACHE_DIR=${CCACHE_DIR:-$BUILD/ccache} CCACHE_NOHASHDIR=1
kernel_make=(nice make -j "$(($(nproc) + 1))" CC="ccache gcc"
	KBUILD_BUILD_TIMESTAMP=2026-01-01 KBUILD_BUILD_USER=lab
	KBUILD_BUILD_HOST=lab)

# git without the user's settings, and with fixed names and dates, for the
# commits that are ours. What a user commits in linux-patched stays theirs.
lab_git()
{
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null \
	GIT_AUTHOR_NAME=lab GIT_AUTHOR_EMAIL=lab@localhost \
	GIT_COMMITTER_NAME=lab GIT_COMMITTER_EMAIL=lab@localhost \
	GIT_AUTHOR_DATE='2026-01-01 00:00 +0000' \
	GIT_COMMITTER_DATE='2026-01-01 00:00 +0000' git "$@"
}

# ---- source

# A later version of the package becomes a commit on top, so that only files
# that differ are touched and built again.
extract_source()
{
	local new=$kernel_dir/extract tree parent=()
	rm -rf "$new" "$new.index"
	mkdir -p "$new"
	tar -xf "$source_tarball" -C "$new" --strip-components 1
	if [[ ! -d $vanilla/.git ]]; then
		lab_git init -q -b vanilla "$vanilla"
		lab_git -C "$vanilla" config core.fsync none
		lab_git -C "$vanilla" config gc.auto 0
		printf '%s\n' '/out*/' '/linux-*_*' >>"$vanilla/.git/info/exclude"
	fi
	export GIT_DIR=$vanilla/.git GIT_INDEX_FILE=$new.index
	GIT_WORK_TREE=$new lab_git -C "$new" add -Af .
	tree=$(lab_git write-tree)
	unset GIT_INDEX_FILE
	if lab_git rev-parse -q --verify vanilla >/dev/null; then
		parent=(-p vanilla)
		[[ $(lab_git rev-parse 'vanilla^{tree}') != "$tree" ]] ||
			parent=(same)
	fi
	if [[ ${parent[*]} != same ]]; then
		tree=$(lab_git commit-tree "$tree" "${parent[@]}" \
			-m "$package as Debian ships it")
		unset GIT_DIR
		lab_git -C "$vanilla" reset -q --hard "$tree"
	fi
	rm -rf "$new" "$new.index"
}

source_version()
{
	dpkg-query -W -f '${Version}' "$package"
}

build_source()
{
	local version
	version=$(source_version)
	up_to_date source "$version" && return
	step source "kernel source ($version)" extract_source
	set_stamp source "$version"
}

# ---- series

series_patches()
{
	[[ ! -f $series_dir/series ]] || grep -v -e '^#' -e '^$' "$series_dir/series" || true
}

series_input()
{
	local patch
	{
		lab_git -C "$vanilla" rev-parse 'vanilla^{tree}'
		for patch in $(series_patches); do
			cat "$series_dir/$patch"
		done
	} | sha256sum | cut -c 1-32
}

# Commits on iopmem, or changes in its worktree, that are not in the series.
unsaved_work()
{
	local saved
	saved=$(lab_git -C "$patched" rev-parse -q --verify refs/lab/series ||
		lab_git -C "$patched" rev-parse vanilla)
	[[ $(lab_git -C "$patched" rev-parse 'HEAD^{tree}') != \
	   $(lab_git -C "$patched" rev-parse "$saved^{tree}") ]] ||
		[[ $(lab_git -C "$patched" status --porcelain) ]]
}

# The patches are applied in a scratch worktree that holds no files but those
# they touch; then the real one moves there, touching only what differs.
apply_series()
{
	local scratch=$kernel_dir/apply patch
	lab_git -C "$vanilla" worktree remove --force "$scratch" 2>/dev/null ||
		rm -rf "$scratch"
	lab_git -C "$vanilla" worktree prune
	lab_git -C "$vanilla" worktree add -q --detach --no-checkout \
		"$scratch" vanilla
	lab_git -C "$scratch" sparse-checkout set --no-cone /none
	lab_git -C "$scratch" read-tree -mu HEAD
	for patch in $(series_patches); do
		lab_git -C "$scratch" am --committer-date-is-author-date \
			"$series_dir/$patch"
	done
	if [[ ! -d $patched ]]; then
		lab_git -C "$vanilla" worktree add -q -B iopmem "$patched" \
			vanilla
	fi
	lab_git -C "$patched" reset -q --hard \
		"$(lab_git -C "$scratch" rev-parse HEAD)"
	lab_git -C "$patched" update-ref refs/lab/series HEAD
	lab_git -C "$vanilla" worktree remove --force "$scratch"
}

build_series()
{
	local input
	build_source
	input=$(series_input)
	[[ -d $patched ]] && up_to_date series "$input" && return
	if [[ -d $patched ]] && unsaved_work; then
		die "kernel-patches/ or the kernel source changed, but build/kernel/linux-patched holds work that is not in kernel-patches/: keep it with ./lab kernel refresh, or drop it with git -C build/kernel/linux-patched reset --hard refs/lab/series"
	fi
	step series "kernel patches" apply_series
	set_stamp series "$input"
}

kernel_edit()
{
	build_series
	say "commit on branch iopmem in build/kernel/linux-patched (on top of vanilla), then: ./lab kernel refresh"
}

kernel_refresh()
{
	local base new=$kernel_dir/refresh
	[[ -d $patched ]] || die "nothing to refresh: ./lab kernel edit comes first"
	[[ -z $(lab_git -C "$patched" status --porcelain) ]] ||
		die "build/kernel/linux-patched has changes that are not committed"
	base=$(lab_git -C "$patched" merge-base vanilla HEAD)
	rm -rf "$new"
	mkdir -p "$new" "$series_dir"
	lab_git -C "$patched" -c core.abbrev=12 format-patch -q -N \
		--zero-commit --no-signature --no-renames -o "$new" "$base"
	(cd "$new" && ls) >"$new.series"
	rm -f "$series_dir"/[0-9]*.patch
	find "$new" -name '*.patch' -exec cp {} "$series_dir" \;
	mv "$new.series" "$series_dir/series"
	rm -rf "$new"
	lab_git -C "$patched" update-ref refs/lab/series HEAD
	# After an update of the base the series still has to move there.
	[[ $base != "$(lab_git -C "$patched" rev-parse vanilla)" ]] ||
		set_stamp series "$(series_input)"
	say "wrote $(wc -l <"$series_dir/series") patches to ${series_dir#"$ROOT"/}"
}

# ---- kernels

kernel_source()
{
	[[ $1 == vanilla ]] && echo "$vanilla" || echo "$patched"
}

kernel_out()
{
	case $1 in
	debug) echo "$patched/out-debug" ;;
	*) echo "$(kernel_source "$1")/out" ;;
	esac
}

kernel_fragments()
{
	echo "$ROOT/buildlib/kernel/base.config"
	[[ $1 == vanilla ]] || echo "$ROOT/buildlib/kernel/patched.config"
	[[ $1 != debug ]] || echo "$ROOT/buildlib/kernel/debug.config"
}

# What a kernel is made of: the worktree as it is, the configuration, the
# compiler.
kernel_input()
{
	local source
	source=$(kernel_source "$1")
	{
		lab_git -C "$source" rev-parse 'HEAD^{tree}'
		lab_git -C "$source" diff HEAD
		lab_git -C "$source" ls-files -o --exclude-standard -z |
			(cd "$source" && xargs -0r sha256sum)
		kernel_fragments "$1" | xargs cat
		gcc --version
	} | sha256sum | cut -c 1-32
}

# Kconfig drops an option whose dependencies are not met without a word.
check_config()
{
	local config=$1
	shift
	awk -v config="$config" '
		/^CONFIG_/ { split($0, a, "="); want[a[1]] = $0 }
		/^# CONFIG_.* is not set/ { want[$2] = "" }
		END {
			while ((getline < config) > 0)
				if (/^CONFIG_/) { split($0, a, "="); have[a[1]] = $0 }
			for (o in want)
				if (have[o] != want[o]) {
					print "dropped: " (want[o] ? want[o] : o "=n")
					bad = 1
				}
			exit bad
		}' "$@"
}

make_kernel()
{
	local kernel=$1 source out fragments
	source=$(kernel_source "$kernel")
	out=$(kernel_out "$kernel")
	mapfile -t fragments < <(kernel_fragments "$kernel")
	"${kernel_make[@]}" -C "$source" O="$out" tinyconfig
	(cd "$source" && scripts/kconfig/merge_config.sh -m -O "$out" \
		"$out/.config" "${fragments[@]}")
	"${kernel_make[@]}" -C "$source" O="$out" olddefconfig
	check_config "$out/.config" "${fragments[@]}"
	"${kernel_make[@]}" -C "$source" O="$out" bzImage modules
	rm -rf "$kernel_dir/$kernel/root"
	"${kernel_make[@]}" -C "$source" O="$out" modules_install \
		INSTALL_MOD_PATH="$kernel_dir/$kernel/root"
	cp "$out/arch/x86/boot/bzImage" "$kernel_dir/$kernel/bzImage"
}

build_kernel()
{
	local input
	if [[ $1 == vanilla ]]; then
		build_source
	else
		build_series
	fi
	input=$(kernel_input "$1")
	up_to_date "$1" "$input" && return
	mkdir -p "$kernel_dir/$1"
	step "$1" "$1 kernel" make_kernel "$1"
	set_stamp "$1" "$input"
}

# Debian packages of the patched kernel and its headers, as README tells users to
# build them.
make_kernel_packages()
{
	local to=$kernel_dir/packages
	"${kernel_make[@]}" -C "$patched" O="$patched/out" KDEB_COMPRESS=none \
		KDEB_PKGVERSION="$(source_version)" bindeb-pkg
	rm -rf "$to"
	mkdir "$to"
	mv "$patched"/linux-{image,headers}-*.deb "$to"
	rm -f "$patched"/linux-{libc-dev,upstream}_*
}

build_kernel_packages()
{
	local input
	build_kernel patched
	input=$(<"$BUILD/stamp/patched")
	up_to_date kernel-packages "$input" && return
	step kernel-packages "packages of the patched kernel" \
		make_kernel_packages
	set_stamp kernel-packages "$input"
}

# ---- our modules

# Built on a copy, so that the sources stay clean and kernels do not mix.
make_modules()
{
	local kernel=$1 folder source out peer
	source=$(kernel_source "$kernel")
	out=$(kernel_out "$kernel")
	shift
	for folder; do
		local copy=$BUILD/modules/$kernel/${folder##*/}
		mkdir -p "$copy"
		rsync -rt --checksum "$ROOT/$folder/" "$copy/"
		peer=()
		[[ $folder != */iopmem_peer ]] || peer=(
			IOPMEM_DIR="$BUILD/modules/$kernel/iopmem"
			KBUILD_EXTRA_SYMBOLS="$BUILD/modules/$kernel/iopmem/Module.symvers")
		"${kernel_make[@]}" -C "$source" O="$out" M="$copy" W=1 \
			IOPMEM_HEADERS="$ROOT/kernel-headers" "${peer[@]}" \
			modules
		"${kernel_make[@]}" -C "$source" O="$out" M="$copy" \
			INSTALL_MOD_PATH="$kernel_dir/$kernel/root" \
			modules_install
	done
}

# ours and the tests'
build_modules()
{
	local kernel=$1 input folders=(kernel-modules/iopmem tests/kernel/importer)
	[[ $kernel == vanilla ]] || folders+=(kernel-modules/iopmem_peer
		tests/kernel/edu_hca tests/kernel/peer_client)
	build_kernel "$kernel"
	input=$(digest "$ROOT/kernel-modules" "$ROOT/kernel-headers" \
		"$ROOT/tests/kernel" "$BUILD/stamp/$kernel")
	up_to_date "modules-$kernel" "$input" && return
	step "modules-$kernel" "modules for the $kernel kernel" \
		make_modules "$kernel" "${folders[@]}"
	grep -h warning: "$BUILD/log/modules-$kernel.log" >&2 || true
	set_stamp "modules-$kernel" "$input"
}
