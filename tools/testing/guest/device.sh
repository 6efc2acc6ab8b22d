# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # here, work, guest: see run
# The device itself, without a guest: what one would see of it, what it does when
# the disk changes its size or a driver violates a ring.

configuration() {
	memory_disk nullb4k 64 blocksize=4096 || { result 1 "a disk with sectors of 4096 bytes"; return; }
	tap 29 "all configurations were compared" \
		< <("$here/config-space" /dev/nullb0 /dev/nullb4k 2>&1)
	no_disk nullb4k
}

settings() {
	tap $((3 + ($(nproc) > 1))) "all settings were tried" < <("$here/settings" /dev/nullb0 /dev/nullb1 2>&1)
	[ "$(cat /sys/module/vhost_blk/refcnt)" = 0 ]
	result $? "the module is not in use after that"
}

# direct_io DIRECTORY: a filesystem that can do it, with room for image files.
direct_io() {
	mkdir -p "$1"
	truncate -s 1G "$work/filesystem"
	mkfs.ext4 -q -F "$work/filesystem" && mount -o loop "$work/filesystem" "$1"
}

changes() {
	direct_io "$work/images" || { result 1 "a filesystem for image files"; return; }
	tap 13 "all changes of the disk were tried" \
		< <("$here/disk-changes" /dev/nullb0 "$work/images" 2>&1)
	[ "$(cat /sys/module/vhost_blk/refcnt)" = 0 ]
	result $? "the module is not in use afterwards"
	umount "$work/images"
}

# hostile: a guest's driver breaks its duties one by one (hostile/). Whatever it
# does, it only ever asks to read.
hostile() {
	local disk before problems="" ours
	for disk in /dev/nullb0 /dev/nullb1; do
		dd if=/dev/urandom of="$disk" bs=1M count=4 oflag=direct status=none
	done
	before=$(cat /dev/nullb0 /dev/nullb1 | sha256sum)
	mkdir -p "$work/hostile"
	cp "$out/vm/hostile" "$work/hostile/"
	tap 80 "all violations were tried" < <(
		"$guest" --overlay "$work/hostile" --report "$work/report" \
			--disk /dev/nullb0 --device vhost-blk-pci,num-queues=4 \
			--disk /dev/nullb1 --device vhost-blk-pci -- \
			/hostile vda vdb </dev/null 2>&1 | tee "$work/output"
		[ "${PIPESTATUS[0]}" -eq 0 ] || printf 'not '
		echo "ok - QEMU and the guest survive their driver")
	for disk in 0 1; do
		[ "$(field "$disk" .served_by)" = kernel ] ||
			problems+="disk $disk is served by $(field "$disk" .served_by)"$'\n'
	done
	[ "$(field 0 '.module.ring_errors >= 20 and .module.inflight == 0')" = true ] &&
		[ "$(field 1 '.module.ring_errors + .module.errors')" = 0 ] ||
		problems+="$(field 0 '.module | tostring') $(field 1 '.module | tostring')"
	result $((${#problems} > 0)) "the kernel serves both disks at the end: $(
		field 0 .module.ring_errors) times it had stopped a ring" "$problems"
	[ "$before" = "$(cat /dev/nullb0 /dev/nullb1 | sha256sum)" ]
	result $? "nothing was written to either disk"
	[ "$(cat /sys/module/vhost_blk/refcnt)" = 0 ]
	result $? "the module is not in use after a hostile guest"
	ours=$(grep -c '^VIOLATION(' "$top/tools/testing/selftests/vhost_blk/violation.c")
	printf '# violations: %s by a driver in the guest, %s of the ring alone by the selftests\n' \
		"$(sed -n 's/^# violations: //p' "$work/output")" "$ours"
}
