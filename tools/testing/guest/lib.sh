# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # work: see run
# Shared by the parts of tools/testing/guest/run, which sets top, out, here and
# work: results as TAP, and disks.

n=0

# result STATUS NAME [DETAIL]: one line of TAP.
result() {
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then
		printf 'ok %d - %s\n' "$n" "$2"
	else
		printf 'not ok %d - %s\n' "$n" "$2"
		[ -z "${3:-}" ] || printf '%s\n' "$3" | sed 's/^/# /'
	fi
}

# comment: what comes in, as TAP's comments.
comment() { sed -u 's/^/# /'; }

# tap AT-LEAST NAME: give a test program's own results (without numbers) our
# numbers; fewer of them than AT-LEAST mean that it has not run to its end.
tap() {
	local line before=$n
	while IFS= read -r line; do
		case $line in
		"ok - "*) result 0 "${line#ok - }" ;;
		"not ok - "*) result 1 "${line#not ok - }" ;;
		"#"*) printf '%s\n' "$line" ;;
		*) printf '%s\n' "$line" | comment ;;
		esac
	done
	[ $((n - before)) -ge "$1" ] || result 1 "$2" "only $((n - before)) of $1 results"
}

# memory_disk NAME MB [ATTRIBUTE=VALUE]...: a null_blk that keeps its data.
memory_disk() {
	local dir=/sys/kernel/config/nullb/$1 size=$2 pair
	shift 2
	mkdir "$dir" || return
	for pair in memory_backed=1 "size=$size" queue_mode=2 irqmode=0 blocksize=512 "$@" power=1; do
		echo "${pair#*=}" >"$dir/${pair%%=*}" || return
	done
}

# no_disk NAME: undo memory_disk.
no_disk() {
	rmdir "/sys/kernel/config/nullb/$1"
}

# crypt_disk NAME DEVICE: dm-crypt over it.
crypt_disk() {
	local key
	key=$(head -c 64 /dev/urandom | od -An -vtx1 | tr -d ' \n')
	DM_DISABLE_UDEV=1 dmsetup create "$1" --table \
		"0 $(blockdev --getsz "$2") crypt aes-xts-plain64 $key 0 $2 0"
}

# field NUMBER JQ-EXPRESSION: of a disk's report.
field() { jq -r ".disks[$1] | $2" "$work/report"; }

# clean NUMBER: the kernel has served a disk, all of it, without an error; else
# says what not.
clean() {
	[ "$(field "$1" .served_by)" = kernel ] ||
		echo "served by $(field "$1" .served_by): $(field "$1" .served_reason)"
	[ "$(field "$1" '.module | .errors + .unsupported + .malformed + .ring_errors + .inflight')" = 0 ] ||
		echo "errors: $(field "$1" '.module | tostring')"
	[ "$(field "$1" '.qemu.rd_operations + .qemu.wr_operations')" = 0 ] ||
		echo "QEMU served requests itself"
}
