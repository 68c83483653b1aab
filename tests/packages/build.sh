#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# In a clean root: builds the packages from /lab/source, and once more as version
# 1.0.1, of what their source says it needs. They end in /lab/debs and /lab/next,
# the results in /lab/results.
set -euo pipefail
cd /lab
# shellcheck source=tests/tap.sh
. source/tests/tap.sh
export DEBIAN_FRONTEND=noninteractive PERFTEST_TARBALL=/lab/perftest.tar.gz
DEB_BUILD_OPTIONS="noautodbgsym parallel=$(nproc)"
export DEB_BUILD_OPTIONS

# build FOLDER: the packages of source, moved there
build()
{
	(cd source && dpkg-buildpackage --build=binary --unsigned-changes)
	mkdir "$1"
	mv ./*.deb ./*.changes ./*.buildinfo "$1"
}

# What it has to say is explained in debian/*lintian-overrides or mended.
check()
{
	lintian --allow-root --no-user-dirs --fail-on error,warning \
		debs/*.changes
}

{
	tap_ok "the build dependencies can be installed" apt-get build-dep \
		--yes --no-install-recommends ./source
	tap_ok "the packages are built" build debs
	tap_ok "lintian" check
	sed -i '1s/(1\.0\.0)/(1.0.1)/' source/debian/changelog
	tap_ok "and again as the next version" build next
	tap_done
} >results
