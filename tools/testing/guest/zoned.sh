# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # here, work, guest: see run
# A guest on a zoned disk.

# zone_attributes: what the guest should have printed of its queue.
zone_attributes() {
	local attr
	for attr in zoned nr_zones chunk_sectors max_open_zones max_active_zones \
		    zone_append_max_bytes zone_write_granularity; do
		echo "queue $attr $(cat "/sys/block/nullz/queue/$attr")"
	done
}

# zoned_guest ZONE: run it, with two hand-overs meanwhile.
zoned_guest() {
	local rc=0 pid
	: >"$work/output"
	truncate -s 1M "$work/flag"
	rm -f "$work/qmp"
	"$guest" --smp 2 --mem 768M --overlay "$work/overlay" --report "$work/report" \
		--qmp "$work/qmp" --disk /dev/nullz --device vhost-blk-pci \
		--disk "$work/flag" --device virtio-blk-pci -- \
		/zones vda vdb </dev/null >"$work/output" 2>&1 &
	pid=$!
	"$here/zone-hand-over" "$work/qmp" "$work/output" "$pid" $(($1 << 22)) \
		>"$work/said" 2>&1 || rc=1
	[ "$rc" -eq 0 ] || sleep 5
	if [ "$rc" -eq 0 ]; then wait "$pid" || rc=$?; else kill "$pid" 2>/dev/null; wait "$pid"; fi
	comment <"$work/output"
	comment <"$work/said"
	return "$rc"
}

# 16 zones of 4 MiB, 4 of them conventional. In one, 3 * 8 sectors are the guest's,
# through the kernel, and then 2 * 16 QEMU's.
zoned() {
	local zone=10 host
	memory_disk nullz 64 zoned=1 zone_size=4 zone_nr_conv=4 ||
		{ result 1 "a zoned disk"; return; }
	zoned_guest "$zone"
	result $? "blkzone and fio on a zoned disk: kernel, QEMU, kernel, QEMU, kernel; no verification error" \
		"$(cat "$work/said")"
	[ "$(field 0 .served_by)" = kernel ] && [ "$(field 0 .module.ring_errors)" = 0 ] &&
		[ "$(field 0 '.module.zone_commands > 10 and .module.writes > 400')" = true ]
	result $? "the kernel served it: $(field 0 '.module | "\(.writes) writes, \(.zone_commands) zone commands"')" \
		"$(field 0 tostring)"
	[ "$(grep ^queue "$work/output")" = "$(zone_attributes)" ]
	result $? "the guest sees the zones' limits as the host does" "$(zone_attributes)"
	sed '1,/^report begins/d;/^report ends/,$d' "$work/output" >"$work/zones"
	blkzone report /dev/nullz | diff - "$work/zones" >"$work/diff"
	result $? "the guest and the host report the same zones" "$(cat "$work/diff")"
	host=$(blkzone report -o $((zone << 13)) -c 1 /dev/nullz)
	[[ $host == *"wptr 0x000038 "* ]]
	result $? "QEMU appends where the kernel left the write pointer" "$host"
	no_disk nullz
}
