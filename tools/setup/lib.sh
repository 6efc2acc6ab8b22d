# SPDX-License-Identifier: GPL-2.0
# Shared by the scripts under tools/: where things are, how they speak.
# Sourced, never run; works from any directory.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=$(realpath -m "${VHOST_BLK_OUT:-$top/out}")
export VHOST_BLK_OUT=$out
mkdir -p "$out"

say()  { printf '%s\n' "$*" >&2; }
step() { printf '== %s\n' "$*" >&2; }
die()  { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# usage: what the script's first comment says.
usage() { sed -n "/^# ${0##*/}[: ]/,/^set/{/^set/q;s/^# \{0,1\}//;p}" "$0"; }

# no_arguments ARGUMENT...: there may be none, but for -h.
no_arguments() {
	[ $# -gt 0 ] || return 0
	case $1 in
	-h | --help) usage; exit ;;
	esac
	say "${0##*/}: unknown argument: $1"
	usage >&2
	exit 2
}

# as_root CMD...: run CMD as root, through sudo when we are not.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root (or sudo) for: $*"
	fi
}

# alone NAME: wait until no other script has this lock, and keep it to the end.
alone() {
	exec 9>"$out/.lock-$1"
	flock 9
}

# quiet LOG CMD...: run CMD with its output in LOG; show the tail when it fails.
quiet() {
	local log=$1
	shift
	mkdir -p "$(dirname "$log")"
	if ! "$@" >"$log" 2>&1 </dev/null; then
		say "failed: $*"
		tail -n 40 "$log" >&2
		say "(full log: $log)"
		return 1
	fi
}
