# SPDX-License-Identifier: GPL-2.0
"""A virtio-blk driver that needs no guest: it drives a QEMU without a CPU through
QEMU's test protocol (-accel qtest), one access at a time."""
import glob
import json
import os
import re
import socket
import struct
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
OUT = os.environ.get('VHOST_BLK_OUT', os.path.join(HERE, '../../../out'))
QEMU = os.environ.get('QEMU', os.path.join(OUT, 'qemu/bin/qemu-system-x86_64'))

SLOT = 4                        # the first disk's place on the PCI bus
ECAM = 0xb0000000               # PCI configuration, in memory
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET = 1, 2, 4, 8, 0x40
VERSION_1 = 1 << 32
READ, WRITE, FLUSH, GET_ID = 0, 1, 4, 8
RING = 0x100000                 # guest memory: each ring has 64 KiB here, each disk 16 rings
BUFFER = 0x800000               # a request's header, status and data
QUEUE_SIZE = 64


class Failed(Exception):
    """What is tested does not hold."""


def check(true, what):
    if not true:
        raise Failed(what)


def until(what, true, seconds=20):
    """Wait for something to be true; return what it was."""
    end = time.monotonic() + seconds
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed('%s: not within %d s' % (what, seconds))
        time.sleep(0.05)


def instances():
    """Each open /dev/vhost-blk: the process, and what the module has counted."""
    for path in glob.glob('/proc/[0-9]*/fd/*'):
        try:
            if os.readlink(path) == '/dev/vhost-blk':
                with open(path.replace('/fd/', '/fdinfo/'), encoding='ascii') as info:
                    yield int(path.split('/')[2]), {
                        k.rstrip(':'): int(v) for k, v in
                        (line.split()[:2] for line in info) if v.isdigit()}
        except OSError:
            pass


class Channel:
    """A socket that QEMU connects to; a line each way."""
    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(60)
        self.file = None

    def accept(self):
        sock, _ = self.listener.accept()
        sock.settimeout(60)
        self.file = sock.makefile('rw')

    def ask(self, line):
        self.file.write(line + '\n')
        self.file.flush()

    def answer(self):
        line = self.file.readline()
        if not line:
            raise Failed('QEMU has gone')
        return line.strip()


class Machine:
    """A QEMU with disks: pairs of a -device and a block node; a command that starts it."""
    def __init__(self, *disks, args=(), starter=()):
        self.dir = tempfile.TemporaryDirectory(prefix='qtest.')
        self.test = Channel(self.dir.name + '/test')
        self.qmp = Channel(self.dir.name + '/qmp')
        self.errors = open(self.dir.name + '/errors', 'w+', encoding='utf-8')
        self.names = ['vd' + chr(ord('a') + i) for i in range(len(disks))]
        args = list(args)
        for i, (device, node) in enumerate(disks):
            name = self.names[i]
            args += ['-blockdev', json.dumps(dict({'node-name': 'node-' + name}, **node)),
                     '-device', '%s,drive=node-%s,id=%s,addr=%x' % (device, name, name, SLOT + i)]
        self.process = subprocess.Popen(
            [*starter, QEMU, '-L', os.path.join(OUT, 'qemu/share/qemu'), '-L', '/usr/share/qemu',
             '-L', '/usr/share/seabios', '-M', 'q35', '-m', '64M', '-nodefaults',
             '-display', 'none', '-accel', 'qtest', '-qtest-log', '/dev/null',
             '-qtest', 'unix:%s/test' % self.dir.name,
             '-qmp', 'unix:%s/qmp' % self.dir.name, *args],
            stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors)
        try:
            for channel in (self.test, self.qmp):
                channel.accept()
            self.qmp.answer()
            self.call('qmp_capabilities')
        except (Failed, OSError) as error:
            self.process.kill()
            self.process.wait()
            raise Failed('QEMU: ' + (self.said() or str(error))) from error
        # The q35 chip set has its own registers in the first function.
        self.put(0xcf8, 4, 1 << 31 | 0x60, True)
        self.put(0xcfc, 4, ECAM | 1, True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.qmp.ask('{"execute": "quit"}')
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.dir.cleanup()

    def said(self):
        self.errors.seek(0)
        return self.errors.read().strip()

    def call(self, command, **arguments):
        arguments = {k.replace('_', '-'): v for k, v in arguments.items()}
        self.qmp.ask(json.dumps({'execute': command, 'arguments': arguments}))
        while True:
            answer = json.loads(self.qmp.answer())
            if 'error' in answer:
                raise Failed('%s: %s' % (command, answer['error']['desc']))
            if 'return' in answer:
                return answer['return']

    def property(self, name, device='vda'):
        return self.call('qom-get', path='/machine/peripheral/' + device, property=name)

    def set(self, name, value, device='vda'):
        self.call('qom-set', path='/machine/peripheral/' + device, property=name, value=value)

    def ask(self, *words):
        self.test.ask(' '.join(hex(w) if isinstance(w, int) else w for w in words))
        while True:
            status, *rest = self.test.answer().split()
            if status != 'IRQ':
                check(status == 'OK', '%s: %s' % (words, rest))
                return rest[0] if rest else None

    def get(self, address, size, port=False):
        kind = {1: 'b', 2: 'w', 4: 'l', 8: 'q'}[size]
        return int(self.ask(('in' if port else 'read') + kind, address), 16)

    def put(self, address, size, value, port=False):
        kind = {1: 'b', 2: 'w', 4: 'l', 8: 'q'}[size]
        self.ask(('out' if port else 'write') + kind, address, value)

    def read(self, address, size):
        return bytes.fromhex(self.ask('read', address, size)[2:])

    def write(self, address, data):
        self.ask('write', address, len(data), '0x' + data.hex())


class Pci:
    """The PCI function of a disk, with its BARs in place."""
    def __init__(self, machine, number):
        self.machine = machine
        self.base = ECAM + (SLOT + number << 15)
        self.bars = {}          # addresses
        self.masks = {}         # size and kind of each
        self.parts = {}         # of virtio's modern interface: address, length
        self.multiplier = 0
        self.assign(0xe0000000 + number * 0x100000, 0xc000 + number * 0x100)
        self.put(4, 2, 7)
        for offset in self.capabilities(9):
            kind, bar = self.get(offset + 3, 1), self.get(offset + 4, 1)
            if bar in self.bars and kind not in self.parts:
                self.parts[kind] = (self.bars[bar] + self.get(offset + 8, 4),
                                    self.get(offset + 12, 4))
            if kind == 2:
                self.multiplier = self.get(offset + 16, 4)

    def get(self, offset, size):
        return self.machine.get(self.base + offset, size)

    def put(self, offset, size, value):
        self.machine.put(self.base + offset, size, value)

    def assign(self, memory, port):
        number = 0
        while number < 6:
            offset = 0x10 + 4 * number
            self.put(offset, 4, 0xffffffff)
            mask = self.get(offset, 4)
            self.masks[number] = mask
            if mask & 1:
                self.bars[number] = port
            elif mask:
                size = -(mask & ~15) & 0xffffffff
                memory = (memory + size - 1) // size * size
                self.bars[number] = memory
                memory += size
            if mask:
                self.put(offset, 4, self.bars[number])
            if mask & 7 == 4:
                self.put(offset + 4, 4, 0)
                number += 1
            number += 1

    def capabilities(self, wanted):
        offset = self.get(0x34, 1)
        while offset:
            if self.get(offset, 1) == wanted:
                yield offset
            offset = self.get(offset + 1, 1)


class Disk:
    """The modern virtio-blk driver."""
    def __init__(self, machine, number=0):
        self.machine = machine
        self.pci = Pci(machine, number)
        self.rings = RING + number * 0x100000
        self.used = {}

    def common(self, offset, size, value=None):
        address = self.pci.parts[1][0] + offset
        if value is None:
            return self.machine.get(address, size)
        return self.machine.put(address, size, value)

    def features(self):
        bits = 0
        for half in 0, 1:
            self.common(0, 4, half)
            bits |= self.common(4, 4) << 32 * half
        return bits

    def config(self):
        address, length = self.pci.parts[4]
        return self.machine.read(address, length)

    def capacity(self):
        return struct.unpack('<Q', self.config()[:8])[0]

    def status(self):
        return self.common(20, 1)

    def start(self, queues=1, features=None):
        """Reset the device and take it into use."""
        self.common(20, 1, 0)
        until('the reset', lambda: self.status() == 0)
        self.common(20, 1, ACKNOWLEDGE | DRIVER)
        # Neither EVENT_IDX, INDIRECT_DESC nor packed rings.
        accepted = self.features() & (VERSION_1 | 0xffff if features is None else features)
        for half in 0, 1:
            self.common(8, 4, half)
            self.common(12, 4, accepted >> 32 * half & 0xffffffff)
        self.common(20, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        check(self.status() & FEATURES_OK, 'the device refuses the features')
        for queue in range(queues):
            self.ring(queue)
        self.common(20, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)

    def ring(self, queue):
        base = self.rings + queue * 0x10000
        self.machine.write(base, bytes(0x4000))
        self.common(22, 2, queue)
        self.common(24, 2, QUEUE_SIZE)
        for offset, where in (32, base), (40, base + 0x1000), (48, base + 0x2000):
            self.common(offset, 4, where)
            self.common(offset + 4, 4, 0)
        self.common(28, 2, 1)
        self.used[queue] = 0

    def post(self, queue, head, index=None):
        """Make HEAD available, and say so."""
        base = self.rings + queue * 0x10000 + 0x1000
        now = self.used[queue]
        self.machine.put(base + 4 + now % QUEUE_SIZE * 2, 2, head)
        self.machine.put(base + 2, 2, (now + 1 if index is None else index) & 0xffff)
        self.common(22, 2, queue)
        offset = self.common(30, 2)
        self.machine.put(self.pci.parts[2][0] + offset * self.pci.multiplier, 2, queue)

    def request(self, kind, sector=0, data=b'', length=0, queue=0):
        """One request: its status and, if it reads, its data."""
        machine, base = self.machine, self.rings + queue * 0x10000
        size = len(data) or length
        machine.write(BUFFER, struct.pack('<IIQ', kind, 0, sector) + b'\xff')
        chain = [(BUFFER, 16, 0)]
        if size:
            machine.write(BUFFER + 0x1000, data or bytes(size))
            chain.append((BUFFER + 0x1000, size, 0 if data else 2))
        chain.append((BUFFER + 16, 1, 2))
        for i, (address, count, flags) in enumerate(chain):
            last = i == len(chain) - 1
            machine.write(base + 16 * i, struct.pack('<QIHH', address, count,
                                                     flags | (not last), 0 if last else i + 1))
        self.post(queue, 0)
        self.used[queue] = (self.used[queue] + 1) & 0xffff
        until('the request', lambda: machine.get(base + 0x2002, 2) == self.used[queue])
        return machine.get(BUFFER + 16, 1), machine.read(BUFFER + 0x1000, size) if length else b''


def run(tests):
    """Run (name, function) pairs and print TAP without numbers."""
    for name, test in tests:
        try:
            note = test()
            print('ok - ' + name, flush=True)
            for line in note or ():
                print('# ' + line)
        except (Failed, OSError, subprocess.CalledProcessError) as error:
            print('not ok - ' + name)
            print(re.sub('^', '# ', str(error), flags=re.M), flush=True)
