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
		"$here/where" 2>&1 | comment
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
