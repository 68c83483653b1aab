# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# Source tarballs of Debian packages, from a Debian mirror that apt is
# configured for or from a file that the user names. Used by the scripts that
# build such a source with patches of ours.
#
#	. buildlib/debian_source.sh
#	find_tarball perftest 25.01.0+0.80-1 trixie SHA256 FOLDER
#	tar -xf "$tarball"

die()
{
	echo "$(basename "$0" .sh): $*" >&2
	exit 1
}

# Prints the first Debian mirror that apt is configured for, or nothing.
debian_mirror()
{
	apt-get indextargets --format "\$(SITE)" 'Created-By: Packages' \
		'Origin: Debian' 'Label: Debian' 'Component: main' | sed -n 1p
}

# Puts the tarball into the current folder, with an apt of our own: the user's
# lists and sources stay as they are.
download()
{
	local package=$1 version=$2 release=$3 help=$4
	local apt=$PWD/apt mirror keyring signed_by=
	local -a options=(
		-o Dir::Etc::sourcelist="$apt/sources.list"
		-o Dir::Etc::sourceparts=/dev/null
		-o Dir::State::Lists="$apt/lists"
		-o Dir::Cache="$apt/cache"
		-o APT::Sandbox::User="$(id -un)"
		-o Acquire::Retries=3
	)

	mirror=$(debian_mirror)
	[ -n "$mirror" ] ||
		die "apt knows no Debian mirror: run apt-get update, or $help"

	for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
		[ ! -e "$keyring" ] || signed_by="[signed-by=$keyring]"
	done

	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	echo "deb-src $signed_by $mirror $release main" >"$apt/sources.list"
	if ! apt-get "${options[@]}" update ||
	   ! apt-get "${options[@]}" source --download-only --tar-only \
		"$package=$version"
	then
		die "cannot download $package $version from $mirror: $help"
	fi
}

has_sha256()
{
	echo "$2  $1" | sha256sum --check --status
}

# find_tarball PACKAGE VERSION RELEASE SHA256 FOLDER: leaves the file's name in
# tarball. It is downloaded to FOLDER, unless it is there or the variable
# PACKAGE_TARBALL (in capitals, with _ for -) names it.
find_tarball()
{
	local package=$1 version=$2 release=$3 sha256=$4 folder=$5
	local variable=${package^^}_TARBALL file
	variable=${variable//-/_}
	file=${package}_${version%-*}.orig.tar.gz

	if [ -n "${!variable:-}" ]; then
		tarball=$(realpath -e "${!variable}") ||
			die "$variable names no file"
		has_sha256 "$tarball" "$sha256" ||
			die "$tarball is not the source of $package $version: its SHA256 is not $sha256"
		return
	fi

	tarball=$folder/$file
	if [ -e "$tarball" ] && has_sha256 "$tarball" "$sha256"; then
		return
	fi
	mkdir -p "$folder"
	rm -f "$tarball"
	(cd "$folder" && download "$package" "$version" "$release" \
		"set $variable to $package's source tarball ($file)")
	has_sha256 "$tarball" "$sha256" ||
		die "$tarball is not what was expected: its SHA256 is not $sha256"
}
