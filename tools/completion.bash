# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# shellcheck shell=bash
#
# bash's completion for iopmem(8)

# Those of the patterns' files that there are, by their names
_iopmem_names()
{
	local path
	for path; do
		[[ ! -e $path ]] || echo "${path##*/}"
	done
}

_iopmem()
{
	# addresses have colons, which bash takes for the ends of words
	local line=${COMP_LINE:0:COMP_POINT}
	local given words=()
	read -ra given <<<"$line"
	[[ $line != *" " ]] || given+=("")
	local count=$((${#given[@]} - 1)) word=${given[-1]} last=${given[-2]}
	COMPREPLY=()
	case $count,${given[1]},$word,$last in
	1,*) words=(list bind attach release topo check --help --version) ;;
	*,-r | *,--replay)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	*,-b | *,--bar) words=(0 1 2 3 4 5) ;;
	*,bind,*,-c | *,--cache) words=(uc wc) ;;
	*,list,-*) words=(--json) ;;
	*,bind,-*) words=(--bar --cache) ;;
	*,topo,-*) words=(--json --dump --replay) ;;
	*,check,-*) words=(--json --try --replay) ;;
	*,bind,* | *,attach,*)
		mapfile -t words < <(_iopmem_names /sys/bus/pci/devices/*)
		;;
	*,release,*)
		mapfile -t words < <(_iopmem_names /sys/class/iopmem/iopmem*)
		;;
	*,check,*)
		mapfile -t words < <(_iopmem_names /sys/class/infiniband/* \
			/sys/class/nvme/* /sys/class/iopmem/iopmem*)
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "${words[*]}" -- "$word")
	# of which bash has the last part only
	[[ $word != *:* ]] || COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
}

complete -F _iopmem iopmem
