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
