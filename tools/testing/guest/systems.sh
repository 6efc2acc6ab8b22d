# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # here, work, guest, out: see run
# Guests as they live: started, stopped, used like an installed system.

# lived TEST...: tools/testing/guest/lifecycle with a guest of its own.
lived() {
	local pid
	: >"$work/output"
	"$guest" --smp 2 --mem 768M --overlay "$work/overlay" --qmp "$work/life" \
		--qemu-arg=-device --qemu-arg=pcie-root-port,id=rp,chassis=1 \
		--disk /dev/slow0 --device vhost-blk-pci,bus=rp,num-queues=2 -- \
		/busy vda </dev/null >"$work/output" 2>&1 &
	pid=$!
	tap $# "the guest's life goes as it should: $*" \
		< <("$here/lifecycle" "$work/life" "$work/output" "$pid" /dev/slow0 "$@" 2>&1)
	if kill -0 "$pid" 2>/dev/null; then
		"$top/tools/vm/where" 2>&1 | comment
		kill "$pid"
	fi
	wait "$pid"
	comment <"$work/output"
	rm -f "$work/life"
}

# lifecycle: on a disk that takes its time, so that requests are on their way.
lifecycle() {
	memory_disk slow0 64 irqmode=2 completion_nsec=1000000 ||
		{ result 1 "a slow disk can be set up"; return; }
	lived stop unplug reset quit
	lived kill
	rmmod vhost_blk && insmod "$out/module/$(uname -r)/vhost_blk.ko"
	result $? "the module can be unloaded and loaded afterwards"
	no_disk slow0
}

# used NUMBER KERNEL: what was counted for a disk of use_disk.
used() {
	local problems
	problems=$(clean "$1")
	[ "$(field "$1" '.module.discards > 0 and .module.write_zeroes > 0 and
		.module.read_bytes == .guest.read_sectors * 512 and
		.module.write_bytes + .module.write_zeroes_bytes == .guest.write_sectors * 512 and
		.module.discard_bytes == .guest.discard_sectors * 512')" = true ] ||
		problems+=" counted: $(field "$1" '[.module, .guest] | tostring')"
	result $((${#problems} > 0)) "$2 guest, disk $1: all by the kernel, discards and zeroes included" "$problems"
}

# raw_node DRIVER PATH: one that gives back what is discarded.
raw_node() {
	printf '{"driver":"%s","filename":"%s","aio":"native","cache":{"direct":true},"discard":"unmap"}' "$@"
}

# give_back FILE: the guest has written 28 MiB to the image for each of two file
# systems, and removed and trimmed 24 of each.
give_back() {
	local now written
	now=$(($(stat -c %b "$1") / 2048))
	written=$(field 2 '.module.write_bytes / 1048576 | floor')
	[ "$now" -lt 16 ] && [ "$written" -ge 56 ]
	result $? "the image has what the guest has trimmed no more: $now MiB, $written were written"
}

# use_disk KERNEL: file systems, trim, zeroes.
use_disk() {
	local i queue="physical_block_size=4096,min_io_size=8192,opt_io_size=65536"
	if ! { memory_disk trim0 320 discard=1 && memory_disk trim1 320 discard=1 blocksize=4096 &&
	       direct_io "$work/images" && truncate -s 320M "$work/images/disk"; }; then
		result 1 "disks that discard can be set up"
		return
	fi
	queue+=",discard_granularity=32768,max-discard-sectors=16384,max-write-zeroes-sectors=8192"
	"$guest" --kernel "$1" --smp 1 --mem 768M --tools --overlay "$work/overlay" --report "$work/report" \
		--disk /dev/trim0 --blockdev "$(raw_node host_device /dev/trim0)" \
		--device "vhost-blk-pci,$queue" \
		--disk /dev/trim1 --blockdev "$(raw_node host_device /dev/trim1)" --device vhost-blk-pci \
		--disk "$work/images/disk" --blockdev "$(raw_node file "$work/images/disk")" \
		--device vhost-blk-pci,queue-size=64,write-cache=off -- sh -c '
		/use-disk vda logical_block_size=512 physical_block_size=4096 minimum_io_size=8192 \
			optimal_io_size=65536 discard_granularity=32768 discard_max_bytes=8388608 \
			write_zeroes_max_bytes=4194304 max_segments=254 "write_cache=write back"
		/use-disk vdb logical_block_size=4096 physical_block_size=4096 \
			max_segments=254 "write_cache=write back"
		/use-disk vdc logical_block_size=512 physical_block_size=512 \
			max_segments=62 "write_cache=write through"
		echo "# $(uname -r), $(cut -d . -f 1 /proc/uptime) s"' \
		</dev/null >"$work/output" 2>&1
	result $? "the $1 guest runs to its end"
	tap 21 "the $1 guest has used all disks" <"$work/output"
	for i in 0 1 2; do
		used "$i" "$1"
	done
	give_back "$work/images/disk"
	umount "$work/images"
	no_disk trim0
	no_disk trim1
}

# booted KERNEL DEVICE MODERN: boot from the disk that /dev/boot0 is; the guest
# sees a device that is modern (1) or legacy (0).
booted() {
	local problems loaded disk="/dev/boot0?offset=1048576"
	"$guest" --boot --timeout 400 --mem 512M --report "$work/report" \
		--disk /dev/boot0 --device "$2" -- sh -c '
		grep -q "^/dev/vda1 / ext4 " /proc/mounts && dd if=/dev/urandom of=/written bs=64k count=40 2>/dev/null &&
			echo "sum $(md5sum </written)" && uname -r &&
			echo "modern $(cut -c 33 "/sys/block/vda/device/features")"' \
		</dev/null >"$work/output" 2>&1 || echo "status $?" >>"$work/output"
	problems=$(clean 0)
	loaded=$(cat "$out/vm/boot-$1.img.loaded")
	# The firmware reads before the guest counts: the boot loader, kernel, initramfs.
	[ "$(field 0 ".module.write_bytes + .module.write_zeroes_bytes == .guest.write_sectors * 512 and
		.module.read_bytes > .guest.read_sectors * 512 + $loaded")" = true ] ||
		problems+=" counted: $(field 0 '[.module, .guest] | tostring')"
	grep -q "^modern $3\$" "$work/output" || problems+=" the device is of another kind"
	e2fsck -fn "$disk" >"$work/fsck" 2>&1 || problems+=" $(cat "$work/fsck")"
	rm -f "$work/written"
	debugfs -R "dump /written $work/written" "$disk" 2>/dev/null
	grep -qF "sum $(md5sum <"$work/written")" "$work/output" ||
		problems+=" what the guest has written is not on the disk"
	comment <"$work/output"
	result $((${#problems} > 0)) "a $1 guest boots from $2 (SeaBIOS, GRUB), works, and leaves a clean disk" "$problems"
	printf '# the module has read %s bytes, %s of them for SeaBIOS and GRUB; up after %s s\n' \
		"$(field 0 .module.read_bytes)" "$(field 0 '.module.read_bytes - .guest.read_sectors * 512')" \
		"$(jq .boot_seconds "$work/report")"
}

# boot KERNEL: with the three kinds of device.
boot() {
	if ! { memory_disk boot0 120 &&
	       dd if="$out/vm/boot-$1.img" of=/dev/boot0 bs=4M oflag=direct status=none; }; then
		result 1 "the disk to boot from can be set up"
		return
	fi
	booted "$1" vhost-blk-pci,disable-modern=on 0
	booted "$1" vhost-blk-pci-transitional 1
	booted "$1" vhost-blk-pci-non-transitional 1
	no_disk boot0
}
