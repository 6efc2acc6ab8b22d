# SPDX-License-Identifier: GPL-2.0
#
# make help says what there is. The work is done by the scripts under tools/.

# For which kernel: see tools/build/module.
export KVER KSRC KOBJ W C

# The kernels of the host VM, and vhost_blk.ko for each.
out := $(abspath $(or $(VHOST_BLK_OUT),out))
override VHOST_BLK_OUT := $(out)
export VHOST_BLK_OUT
stock = KSRC= KOBJ= KVER=$$(cat $(out)/kernel/stock/version)
debug = KSRC=$(out)/kernel/debug KOBJ= KVER=

all: module

module:
	+@tools/build/module

module-stock:
	@tools/setup/kernel stock
	+@$(stock) tools/build/module

module-debug:
	@tools/setup/kernel debug
	+@$(debug) tools/build/module

demo:
	@tools/demo

check:
	@tools/check

lint:
	@tools/check-lint

selftest: module-stock
	@tools/testing/run-selftests

selftest-debug: module-debug
	@tools/testing/run-selftests --kernel debug

# Both fuzzers, SECONDS each, and what of the module they have run. The stock kernel
# does more in the same time; KERNEL=debug sees more of what goes wrong.
fuzz: KERNEL ?= stock
fuzz: SECONDS ?= 60
fuzz:
	@env -u SECONDS VHOST_BLK_TEST_SECONDS=$(SECONDS) tools/testing/run-selftests \
		--kernel $(KERNEL) --coverage fuzz_ioctl fuzz_ring

guest-test: module-stock qemu
	@tools/vm/guest-test
	@CPUS=2 PARTS="bad_input settings" tools/vm/guest-test

# What does not fit into make check: in guests, 50000 requests on each disk, and a
# 7.3 kernel; ten minutes of load; everything on the debug kernel; ten minutes of each
# fuzzer; the benchmark with other disks and guests. Two hours under emulation, and half an
# hour more for two kernels, the first time.
soak:
	@tools/check soak-guest soak-load selftest-debug soak-fuzz soak-bench

soak-guest: module-stock qemu
	@COUNT=50000 PARTS="configuration changes hostile lifecycle use_disk boot hand_over \
		hand_over_iommu behind_iommu zoned fio_runs use_disk@7.3 boot@7.3 fio_runs@7.3" tools/vm/guest-test
	@CPUS=2 PARTS="bad_input settings" tools/vm/guest-test

soak-load: module-stock
	@VHOST_BLK_TEST_SECONDS=600 tools/testing/run-selftests load

soak-fuzz:
	@$(MAKE) --no-print-directory fuzz SECONDS=600

soak-bench: module-stock qemu
	@tools/bench/cross

# UPDATE=1 writes tools/bench/baseline.json anew.
bench-cost: module-stock
	@tools/bench/cost

bench: module-stock qemu
	@tools/bench/run

qemu:
	@tools/setup/qemu

patch:
	@tools/build/patch

install:
	+@KVER=$${KVER:-$$(uname -r)} tools/build/module install

clean:
	rm -rf $(out)/module $(out)/lint $(out)/patch $(out)/vhost-blk-*.patch
	@mkdir -p $(out)/vm
	find $(out)/vm -maxdepth 1 \( -name 'job.*' -o -name 'disks.*' \) -mmin +1440 -exec rm -rf {} +

help:
	@echo 'make               vhost_blk.ko for the running kernel (or the 6.12 of Debian, if that has no'
	@echo '                   headers), in out/module/RELEASE/'
	@echo '     KVER=RELEASE  for another kernel whose headers are installed'
	@echo '     KSRC=TREE     for a built kernel tree; with KOBJ=DIR if it was built with O=DIR'
	@echo '     W=1 C=2       more warnings, sparse'
	@echo 'make demo          the whole path from nothing: host VM, guest, verified I/O'
	@echo 'make check         everything that must pass, half an hour: lint, selftest, guest-test, bench-cost'
	@echo '  make lint        style, warnings, structure layout, the in-tree patch'
	@echo '  make selftest    kselftests in a host VM with the stock 6.12 kernel'
	@echo '  make guest-test  a nested guest on -device vhost-blk-pci'
	@echo '  make bench-cost  instructions per request, against a baseline; UPDATE=1 sets that anew'
	@echo 'make bench         end to end against QEMU, vhost-scsi, vhost-user-blk: 90 minutes'
	@echo '     QUICK=1       10 minutes; tools/bench/run -h lists more'
	@echo '     NATIVE=1 DISK=/dev/...  on this machine; what is on that disk is lost'
	@echo 'make selftest-debug   the selftests in a 7.3 kernel with every checker on: an hour'
	@echo 'make fuzz SECONDS=N   each fuzzer for N seconds (default 60), and the coverage of the'
	@echo '                   module; KERNEL=debug does it in the kernel with the checkers'
	@echo 'make soak          two hours: the guest tests with 50000 requests on each disk, also with 7.3 in the guest;'
	@echo '                   selftest-debug; ten minutes of load, and of each fuzzer; make bench with'
	@echo '                   other disks and guests'
	@echo 'make qemu          QEMU with the vhost-blk devices, in out/qemu/'
	@echo 'make patch         out/vhost-blk-7.3.patch for the kernel tree'
	@echo 'make install       the module into /lib/modules (KVER=, KSRC= as above)'
	@echo 'make clean         remove what was built of the module, and what was left a day ago by runs that were'
	@echo '                   killed; kernels, QEMU and downloads stay in out/'

.PHONY: all module module-stock module-debug demo check lint selftest selftest-debug fuzz guest-test \
	soak soak-guest soak-load soak-fuzz soak-bench bench bench-cost qemu patch install clean help
