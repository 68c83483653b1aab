#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# libiopmem: what it exports, that programs in C and C++ can be built with it
# in every way, its verdicts on recorded PCI trees, its manual pages' examples,
# and every call of it in a guest. Some of the test programs are built once more
# here, with the compiler's sanitizers: build/asan and build/tsan.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/tap.sh

user=$PWD/build/user
library=$user/libibverbs
# not below /tmp, which is another in the guest
work=$PWD/build/libiopmem
includes=(-I"$user/include" -Ikernel-headers)
warnings=(-Wall -Wextra -Werror)
pages=(iopmem_alloc iopmem_query_info iopmem_query_route iopmem_reg_mr)

# The symbols of libiopmem by what is meant to declare them
in_header()
{
	# comments begin with an asterisk, after a blank or a tab
	grep -v '^[[:space:]/]*\*' libibverbs/iopmem.h |
		grep -oE '\<iopmem_[a-z_]+\(' | tr -d '(' | LC_ALL=C sort
}

in_map()
{
	grep -oE '\<iopmem_[a-z_]+;' libibverbs/libiopmem.map | tr -d ';' |
		LC_ALL=C sort
}

in_library()
{
	readelf --wide --dyn-syms "$library/libiopmem.so" |
		awk '$7 != "UND" && $8 ~ /@/ && $5 == "GLOBAL" &&
		     $4 == "FUNC" { sub(/@.*/, "", $8); print $8 }' |
		LC_ALL=C sort
}

exports()
{
	tap_is "the map has the header's calls" "$(in_map)" "$(in_header)"
	tap_is "the library exports the map's" "$(in_library)" "$(in_map)"
	tap_is "each has the version of the map" \
		"$(readelf --wide --dyn-syms "$library/libiopmem.so" |
		   grep -cE ' iopmem_[a-z_]+@@IOPMEM_1\.0')" "$(in_map | wc -l)"
	tap_ok "the interface is the one in libiopmem.abi" tests/abi.sh \
		"$library/libiopmem.so" "$user/tests/libiopmem_abi"
	tap_ok "no public symbol of libibverbs is missing, no private one used" \
		bash -c "! readelf --wide --dyn-syms '$library/libiopmem.so' |
			 grep -E 'UND.*IBVERBS_PRIVATE'"
}

# A program that uses every call, so that the linker has to find it
every_call()
{
	local name
	echo '#include <infiniband/iopmem.h>'
	echo '#include <stdio.h>'
	echo 'int main(void)'
	echo '{'
	printf '\tvoid (*volatile calls[])(void) = {\n'
	while read -r name; do
		printf '\t\t(void (*)(void))%s,\n' "$name"
	done
	printf '\t};\n'
	printf '\tint n = 0;\n\n'
	printf '\tfor (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)\n'
	printf '\t\tn += calls[i] != NULL;\n'
	printf '\tprintf("%%d calls: %%s\\n", n,\n'
	printf '\t       iopmem_route_reason_str(IOPMEM_REASON_ACS));\n'
	printf '\treturn 0;\n}\n'
}

# runs NAME CMD...: the program of every_call
runs()
{
	local name=$1
	shift
	tap_is "$name" "$("$@" 2>&1)" \
		"$(in_map | wc -l) calls: ACS redirects requests of peers to the host bridge"
}

# builds LANGUAGE COMPILER...
builds()
{
	local language=$1 program=$work/every-$1
	shift
	tap_ok "$language: links with the shared library" \
		"$@" "${warnings[@]}" "${includes[@]}" "$work/every.$language" \
		-o "$program" -L"$library" -liopmem -libverbs
	runs "$language: and runs" env LD_LIBRARY_PATH="$library" "$program"
	tap_ok "$language: links with the static library" \
		"$@" "${warnings[@]}" "${includes[@]}" "$work/every.$language" \
		-o "$program" "$library/libiopmem.a" -libverbs
	runs "$language: and runs" "$program"
	tap_ok "$language: does not need the shared one then" \
		bash -c "! readelf --dynamic '$program' | grep libiopmem"
	# the linker warns of libibverbs, which loads its providers
	tap_ok "$language: links with static libraries only" \
		"$@" "${includes[@]}" "$work/every.$language" -static \
		-o "$program" -L"$library" -liopmem \
		-Wl,--start-group -libverbs -lnl-route-3 -lnl-3 \
		-Wl,--end-group
	runs "$language: and runs" "$program"
	tap_ok "$language: and has no dynamic section" \
		bash -c "readelf --dynamic '$program' | grep 'no dynamic'"
}

# The header by itself, in the strictest of each language
header()
{
	local standard
	for standard in c99 c11 c17 gnu11; do
		tap_ok "the header is good $standard" \
			gcc -std=$standard "${warnings[@]}" -fsyntax-only \
			"${includes[@]}" -x c "$work/header.h"
	done
	for standard in c++11 c++17 c++20; do
		tap_ok "the header is good $standard" \
			g++ -std=$standard "${warnings[@]}" -fsyntax-only \
			"${includes[@]}" -x c++ "$work/header.h"
	done
}

# pkg DEST ARGUMENT...: pkg-config for what was installed below DEST
pkg()
{
	PKG_CONFIG_SYSROOT_DIR=$1 \
		PKG_CONFIG_PATH=$(dirname "$(find "$1" -name libiopmem.pc)") \
		pkg-config "${@:2}"
}

installed()
{
	local dest=$work/dest flags=() libdir
	tap_ok "it can be installed" \
		env DESTDIR="$dest" cmake --install "$library"
	libdir=$(dirname "$(find "$dest" -name libiopmem.a)")
	tap_is "the files are all there" \
		"$(cd "$dest/usr/local" && find . -type f -o -type l |
		   sed "s|/${libdir#"$dest/usr/local/"}/|/LIB/|" |
		   LC_ALL=C sort)" \
		"./LIB/libiopmem.a
./LIB/libiopmem.so
./LIB/libiopmem.so.1
./LIB/libiopmem.so.$(pkg "$dest" --modversion libiopmem)
./LIB/pkgconfig/libiopmem.pc
./include/infiniband/iopmem.h
./include/rdma/iopmem.h
./share/man/man3/iopmem_alloc.3
./share/man/man3/iopmem_dereg_mr.3
./share/man/man3/iopmem_query_info.3
./share/man/man3/iopmem_query_route.3
./share/man/man3/iopmem_reg_mr.3
./share/man/man3/iopmem_route_reason_str.3
./share/man/man7/iopmem.7"
	read -ra flags < <(pkg "$dest" --cflags --libs libiopmem)
	tap_ok "a program builds with what pkg-config says" \
		gcc "${warnings[@]}" "$work/every.c" \
		-o "$work/every-installed" "${flags[@]}"
	runs "and runs" env LD_LIBRARY_PATH="$libdir" "$work/every-installed"
	read -ra flags < <(pkg "$dest" --static --cflags --libs libiopmem)
	tap_ok "a static one too" \
		gcc "$work/every.c" -static -o "$work/every-installed" \
		"${flags[@]}"
	runs "and runs" "$work/every-installed"
}

# The example of a manual page is its block of C.
example_of()
{
	awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' \
		"libibverbs/man/$1.3.md"
}

examples()
{
	local page
	for page in "${pages[@]}"; do
		example_of "$page" >"$work/examples/$page.source"
		tap_ok "$page(3): the example builds as C" \
			gcc "${warnings[@]}" "${includes[@]}" \
			-x c "$work/examples/$page.source" -x none \
			-o "$work/examples/$page.c" \
			-L"$library" -Wl,-rpath,"$library" -liopmem -libverbs
		tap_ok "$page(3): and as C++" \
			g++ "${warnings[@]}" "${includes[@]}" \
			-x c++ "$work/examples/$page.source" -x none \
			-o "$work/examples/$page.c++" \
			-L"$library" -Wl,-rpath,"$library" -liopmem -libverbs
		tap_ok "$page(3): its text has no errors" \
			bash -c "man --warnings=w -l '$library/man/$page.3' \
				 2>&1 >/dev/null | (! grep .)"
	done
}

# sanitized NAME FLAGS TARGET...: test programs in build/NAME
sanitized()
{
	cmake -S . -B "build/$1" -DCMAKE_BUILD_TYPE=Debug \
		-DCMAKE_C_FLAGS="$2 -fno-sanitize-recover=all"
	nice cmake --build "build/$1" --parallel 2 --target "${@:3}"
}

# The test's own libibverbs; nothing of the kernel's
doors()
{
	tap_run "doors" "$user/tests/libiopmem_doors"
	tap_run "doors, valgrind" valgrind --quiet --error-exitcode=9 \
		--leak-check=full "$user/tests/libiopmem_doors"
	tap_ok "the sanitizers' builds" sanitized asan \
		"-fsanitize=address,undefined" libiopmem_{calls,doors,fork,gone,mrs,route}
	tap_run "doors, ASan and UBSan" build/asan/tests/libiopmem_doors
	tap_ok "the thread sanitizer's build" sanitized tsan \
		"-fsanitize=thread" libiopmem_doors
	# it does not know today's random addresses
	tap_run "doors, TSan" setarch --addr-no-randomize \
		build/tsan/tests/libiopmem_doors
}

# On the machine's own tree, what p2p.t does compares them with the kernel's.
trees()
{
	tap_run "routes" tests/route.sh "$user/tests/libiopmem_route"
	tap_run "routes, ASan and UBSan" tests/route.sh \
		build/asan/tests/libiopmem_route
}

rm -rf "$work"
mkdir -p "$work/examples"
in_map | every_call >"$work/every.c"
cp "$work/every.c" "$work/every.cc"
echo '#include <infiniband/iopmem.h>' >"$work/header.h"

exports
header
builds c gcc
builds cc g++
installed
examples
doors
trees
tap_run "patched" ./lab run --kernel patched --timeout 1800 -- \
	tests/guest/libiopmem.sh "$work/examples" "$PWD/build/asan/tests"
tap_run "vanilla" ./lab run --kernel vanilla --timeout 600 -- \
	tests/guest/libiopmem_vanilla.sh
tap_done
