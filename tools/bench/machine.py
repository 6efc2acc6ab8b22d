# SPDX-License-Identifier: GPL-2.0
"""What make bench needs of the machine that it runs on: disks, targets, a guest
with a disk for each contender, and counters.
"""
import collections
import glob
import json
import lzma
import os
import shutil
import socket
import subprocess
import time

import grid

here = os.path.dirname(os.path.realpath(__file__))
top = os.path.realpath(os.path.join(here, '..', '..'))
out = os.path.realpath(os.environ.get('VHOST_BLK_OUT') or os.path.join(top, 'out'))
NULLB = '/sys/kernel/config/nullb'
TARGET = '/sys/kernel/config/target'
KVM = '/sys/kernel/debug/kvm/'
COUNTERS = ('batches', 'kicks', 'signals', 'signal_holds', 'hold_misses', 'sleeps')
NULL_BLK = {'timer': 2, 'polled': 2, 'instant': 0}     # irqmode
KINDS = (*NULL_BLK, 'nvme')         # 'given' is NATIVE's
NVME_DISKS = 21     # that tools/bench/run gives the host VM: CROWD=1 wants the most
# KVM's counters. It has none of writes to MSRs, which are the guest's timer.
EXITS = {'exits': 'exits', 'halts': 'halt_exits', 'irqs': 'irq_injections',
         'interrupted': 'irq_exits', 'windows': 'irq_window_exits', 'mmio': 'mmio_exits',
         'polled': 'halt_successful_poll'}
BOOT_TIMEOUT = 240
RUN_TIMEOUT = 60


class Failed(Exception):
    pass


def write(path, text):
    with open(path, 'w') as f:
        f.write(str(text))


def read(path):
    with open(path) as f:
        return f.read()


def modprobe(*args):
    subprocess.run(['modprobe', *args], check=True)


class Disks:
    """A disk for each contender, all of one kind.

    timer    null_blk that completes from a timer, after 10 us
    polled   the same, with a polled queue beside, which completes when it is asked
    instant  null_blk that completes within the submission
    nvme     the emulated NVMe disks of the host VM, with a polled queue
    given    one disk for all, whose contents are lost (make bench NATIVE=1 DISK=...)
    """
    def __init__(self, kind, given=None):
        self.kind = kind
        self.given = given
        self.made = []
        self.nvme = []
        if kind in NULL_BLK:
            modprobe('null_blk', 'nr_devices=0')
            if not os.path.isdir(NULLB):
                subprocess.run(['mount', '-t', 'configfs', 'configfs', '/sys/kernel/config'],
                               check=True)
        elif kind == 'nvme':
            modprobe('nvme', 'poll_queues=1')
            self.nvme = self.find_nvme()

    @staticmethod
    def find_nvme():
        """The driver takes a moment to find them."""
        for _ in range(30):
            time.sleep(1)
            found = glob.glob('/dev/nvme0n*')
            if len(found) >= NVME_DISKS:
                return sorted(found, key=lambda n: int(n.rsplit('n', 1)[1]))
        raise Failed('%d NVMe disks of %d appeared' % (len(found), NVME_DISKS))

    def make(self, name):
        if self.kind == 'given':
            return self.given
        if self.kind == 'nvme':
            if len(self.made) == len(self.nvme):
                raise Failed('more than %d NVMe disks are needed' % len(self.nvme))
            self.made.append(self.nvme[len(self.made)])
            return self.made[-1]
        path = os.path.join(NULLB, 'b-' + name)
        os.mkdir(path)
        # By default it has a polled queue.
        for key, text in (('size', 1024), ('queue_mode', 2), ('irqmode', NULL_BLK[self.kind]),
                          ('completion_nsec', 10000), ('submit_queues', os.cpu_count()),
                          ('poll_queues', int(self.kind == 'polled')),
                          ('blocksize', 512), ('power', 1)):
            write(os.path.join(path, key), text)
        self.made.append(path)
        return '/dev/b-' + name

    def free(self):
        if self.kind in NULL_BLK:
            for path in self.made:
                write(os.path.join(path, 'power'), 0)
                os.rmdir(path)
        self.made = []


def sectors(path):
    """That the disk has moved since boot."""
    fields = read('/sys/block/%s/stat' % os.path.basename(os.path.realpath(path))).split()
    return int(fields[2]) + int(fields[6])


class ScsiTarget:
    """LIO's target for vhost-scsi: one disk, set up by hand."""
    def __init__(self, name, path):
        for module in ('target_core_mod', 'target_core_iblock', 'vhost_scsi'):
            modprobe(module)
        self.core = os.path.join(TARGET, 'core', 'iblock_0', name)
        self.fabric = os.path.join(TARGET, 'vhost', grid.scsi_name(name))
        os.makedirs(self.core)
        write(os.path.join(self.core, 'control'), 'udev_path=' + path)
        write(os.path.join(self.core, 'enable'), 1)
        self.tpg = os.path.join(self.fabric, 'tpgt_1')
        self.lun = os.path.join(self.tpg, 'lun', 'lun_0')
        os.makedirs(self.lun)
        write(os.path.join(self.tpg, 'nexus'), grid.scsi_name(name, '6'))
        os.symlink(self.core, os.path.join(self.lun, 'disk'))

    def free(self):
        os.unlink(os.path.join(self.lun, 'disk'))
        write(os.path.join(self.tpg, 'nexus'), 'NULL')
        for path in (self.lun, self.tpg, self.fabric, self.core, os.path.dirname(self.core)):
            os.rmdir(path)


class Daemon:
    """A qemu-storage-daemon for one disk."""
    def __init__(self, name, path, queues):
        self.process = subprocess.Popen(
            [os.path.join(out, 'qemu', 'bin', 'qemu-storage-daemon'),
             *grid.qsd_command(name, path, queues)])
        while not os.path.exists(grid.qsd_socket(name)):
            if self.process.poll() is not None:
                raise Failed('qemu-storage-daemon ended')
            time.sleep(0.1)

    def pids(self):
        return [self.process.pid]

    def free(self):
        self.process.terminate()
        self.process.wait()


def overlay():
    """Files for the guest: the agent, and modules that its image lacks."""
    root = os.path.join(grid.WORK, 'bench-overlay')
    if os.path.isdir(root):
        return root
    os.makedirs(os.path.join(root, 'bench'))
    shutil.copy(os.path.join(here, 'agent'), os.path.join(root, 'agent'))
    have = {'virtio_pci', 'virtio_blk', 'virtio_console', 'virtio', 'virtio_ring'}
    release = read(os.path.join(out, 'kernel', 'stock', 'version')).strip()
    order = []
    for module, options in (('virtio_scsi', ''), ('sd_mod', ''), ('configfs', ''),
                            ('null_blk', 'nr_devices=%d queue_mode=2 irqmode=0 gb=1 poll_queues=%d'
                             % (grid.MOST_DISKS, grid.GUEST == 'polls'))):
        listed = subprocess.run(
            ['/sbin/modprobe', '-d', os.path.join(out, 'kernel', 'stock'), '-S', release,
             '--show-depends', module], capture_output=True, text=True).stdout
        for line in listed.splitlines():
            if not line.startswith('insmod '):
                continue
            path = line.split()[1]
            name = os.path.basename(path).split('.ko')[0]
            if name.replace('-', '_') in have:
                continue
            have.add(name.replace('-', '_'))
            with (lzma.open if path.endswith('.xz') else open)(path, 'rb') as f:
                data = f.read()
            with open(os.path.join(root, 'bench', name + '.ko'), 'wb') as f:
                f.write(data)
            order.append('%s.ko %s' % (name, options if name == module else ''))
    write(os.path.join(root, 'bench', 'order'), ''.join(line + '\n' for line in order))
    return root


class Channel:
    """A socket to the guest or to QEMU's monitor, read by lines."""
    def __init__(self, path, process, timeout):
        end = time.monotonic() + timeout
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if process.poll() is not None or time.monotonic() > end:
                    raise Failed('the guest did not start')
                time.sleep(0.2)
        self.pending = b''

    def send(self, text):
        try:
            self.socket.sendall(text.encode() + b'\n')
        except OSError:
            raise Failed('the guest has gone')

    def line(self, timeout):
        end = time.monotonic() + timeout
        while b'\n' not in self.pending:
            left = end - time.monotonic()
            if left <= 0:
                raise Failed('the guest does not answer')
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                continue
            except ConnectionResetError:
                data = b''
            if not data:
                raise Failed('the guest has gone')
            self.pending += data
        line, self.pending = self.pending.split(b'\n', 1)
        return line.decode(errors='replace')


class Guest:
    """A guest with a disk for each contender, and somebody in it who runs fio.

    number: which of phase.guests it is; they have disks of their own.
    """
    def __init__(self, phase, disks, contenders, pin, number=0):
        self.phase = phase
        self.tag = '' if number == 0 else 'g%d-' % number
        self.parts = []
        self.paths = {}     # contender: the host's disks
        self.devices = {}   # contender: the guest's
        self.kept = []
        args = []
        for contender in contenders:
            if contender.group == 'bound':
                continue
            self.paths[contender.name] = []
            for i in range(phase.disks):
                args += self.add(contender, self.disk_name(contender, i), disks)
        self.start(args)
        self.meet()
        self.look(contenders)
        if pin and phase.smp == 1 and phase.guests == 1 and os.cpu_count() > 1:
            self.pin([c.name for c in contenders if not c.pinned])

    def disk_name(self, contender, i):
        return self.tag + contender.name + (str(i) if i else '')

    def add(self, contender, name, disks):
        path = disks.make(name) if contender.disk else None
        self.paths[contender.name] += [path] if path else []
        if contender.group == 'qsd':
            self.parts.append(Daemon(name, path, self.phase.queues))
        elif contender.group == 'vhost-scsi':
            self.parts.append(ScsiTarget(name, path))
        return contender.args(name, path, self.phase.queues)

    def start(self, args):
        self.sockets = {n: os.path.join(grid.WORK, 'bench-%s-%s%s' % (n, self.tag, self.phase.name))
                        for n in ('port', 'qmp')}
        memory = '768M' if self.phase.guests == 1 else '512M'
        more = ['-object', 'memory-backend-memfd,id=ram,size=%s,share=on' % memory,
                '-machine', 'memory-backend=ram',
                '-chardev', 'socket,id=bench,server=on,wait=off,path=' + self.sockets['port'],
                '-device', 'virtserialport,chardev=bench,name=vb.bench'] + args
        command = [os.path.join(top, 'tools', 'vm', 'guest'), '--smp', str(self.phase.smp),
                   '--mem', memory, '--overlay', overlay(), '--qmp', self.sockets['qmp'],
                   '--timeout', '100000']
        if grid.GUEST == 'polls':
            command.append('--append=virtio_blk.poll_queues=1')
        # One word each: what begins with a dash is else taken for an option.
        command += ['--qemu-arg=' + arg for arg in more] + ['--', '/agent']
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.port = Channel(self.sockets['port'], self.process, BOOT_TIMEOUT)
        self.monitor = Channel(self.sockets['qmp'], self.process, BOOT_TIMEOUT)
        self.monitor.line(BOOT_TIMEOUT)
        self.qmp('qmp_capabilities')

    def qmp(self, command, **arguments):
        self.monitor.send(json.dumps({'execute': command, 'arguments': arguments}))
        while True:
            answer = json.loads(self.monitor.line(RUN_TIMEOUT))
            if 'error' in answer:
                raise Failed('QEMU refuses %s: %s' % (command, answer['error']['desc']))
            if 'return' in answer:
                return answer['return']

    def meet(self):
        """Learn the names of the disks in the guest."""
        self.names = {}
        while True:
            word, _, rest = self.port.line(BOOT_TIMEOUT).strip().partition(' ')
            if word == 'ready':
                return
            if word == 'disk':
                device, _, serial = rest.partition(' ')
                self.names[serial.strip()] = '/dev/' + device

    def look(self, contenders):
        """Which disk is whose; all have to be there, and ours served by the kernel."""
        for contender in contenders:
            if contender.name not in self.paths:
                continue
            for i in range(self.phase.disks):
                name = self.disk_name(contender, i)
                serial = {'qsd': 'vhost_user_blk'}.get(contender.group, name)
                found = [d for s, d in self.names.items() if s == serial or
                         (contender.group == 'vhost-scsi' and d.startswith('/dev/sd'))]
                if not found:
                    raise Failed('the guest lacks the disk of %s; it has %s'
                                 % (name, self.names))
                self.devices.setdefault(contender.name, []).append(found[0])
                if contender.group in ('ours', 'without'):
                    by = self.qmp('qom-get', path='/machine/peripheral/' + name,
                                  property='served-by')
                    if by != 'kernel':
                        raise Failed('%s is served by %s' % (name, by))
        self.devices['guest-null'] = ['/dev/nullb%d' % i for i in range(grid.MOST_DISKS)]
        self.pid = self.qemu_pid()
        self.fdinfo = self.counter_files()

    def qemu_pid(self):
        vcpu = self.qmp('query-cpus-fast')[0]['thread-id']
        for line in read('/proc/%d/status' % vcpu).splitlines():
            if line.startswith('Tgid:'):
                return int(line.split()[1])
        raise Failed('no QEMU')

    def counter_files(self):
        """fdinfo of each /dev/vhost-blk, in the order of the disks."""
        fds = '/proc/%d/fd/' % self.pid
        ours_ = [fd for fd in sorted(map(int, os.listdir(fds)))
                 if os.readlink(fds + str(fd)) == '/dev/vhost-blk']
        return ['/proc/%d/fdinfo/%d' % (self.pid, fd) for fd in ours_]

    def pin(self, free):
        """The vCPU has CPU 0 to itself; everything else shares the others, but for the
        workers of the contenders in free."""
        vcpu = {c['thread-id'] for c in self.qmp('query-cpus-fast')}
        free = {tid for name in free for tid in self.qmp(
            'qom-get', path='/machine/peripheral/' + name, property='worker-tids')}
        others = set(range(1, os.cpu_count()))
        pids = [self.pid] + [p for part in self.parts if isinstance(part, Daemon)
                             for p in part.pids()]
        for pid in pids:
            for tid in map(int, os.listdir('/proc/%d/task' % pid)):
                if tid in free:
                    continue
                try:
                    os.sched_setaffinity(tid, {0} if tid in vcpu else others)
                except OSError:
                    pass        # it has ended, or is the kernel's to place

    def fio(self, arguments):
        """Start fio."""
        self.port.send(' '.join(arguments))

    def result(self):
        """The JSON of fio when it has ended."""
        lines = []
        while True:
            line = self.port.line(RUN_TIMEOUT)
            if line.startswith('end '):
                break
            if line.strip() != 'begin':
                lines.append(line)
        text = '\n'.join(lines)
        if line.strip() != 'end 0':
            raise Failed('fio in the guest: ' + text[-2000:])
        return json.JSONDecoder().raw_decode(text[text.index('{'):])[0]

    def say(self):
        """Where everything is, as this guest or another does not answer; then end it."""
        try:
            for name in [*self.fdinfo, *sorted(glob.glob('/sys/block/b-*/inflight')),
                         *sorted(glob.glob('/proc/%d/task/*/stack' % self.pid))]:
                print('%s\n%s' % (name, read(name)))
            print(self.qmp('human-monitor-command', **{'command-line': 'info registers'}))
        except (OSError, Failed) as e:
            print('the guest has ended: %s' % e)
        subprocess.run([os.path.join(top, 'tools', 'vm', 'where')])
        # Not more: an NMI would make its kernel speak, but has ended the host VM, too.
        self.process.terminate()
        self.process.wait()
        self.free()

    def free(self):
        for part in self.parts:
            part.free()

    def stop(self):
        self.port.send('quit')
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.free()
        if status:
            raise Failed('the guest ended with exit status %d' % status)


def counters(guests):
    """The module's counters, over all its disks."""
    found = collections.Counter()
    for name in [name for guest in guests for name in guest.fdinfo]:
        for line in read(name).splitlines():
            key, _, text = line.partition(':')
            if key in COUNTERS:
                found[key] += int(text)
    return {key: found[key] for key in COUNTERS}


def cpu_time():
    """What the whole host has used so far, in seconds, and the guests in it between their
    entries and exits, which is in the user's already."""
    used = [int(v) / os.sysconf('SC_CLK_TCK')
            for v in read('/proc/stat').split('\n', 1)[0].split()[1:10]]
    return {'cpu': sum(used[:8]) - used[3] - used[4], 'guest': used[8]}


def sample(guests, disks, opens):
    """What the whole machine, and these disks, have done since boot. To read it takes the
    poller's CPU, and makes switches: so they are counted last where a window opens, and first
    where it ends.
    """
    readings = [
        lambda: {'ctx': int(read('/proc/stat').split('\nctxt ')[1].split()[0])},
        lambda: {'time': time.monotonic(), **cpu_time(), 'sectors': sum(map(sectors, disks))},
        lambda: {key: int(read(KVM + name)) for key, name in EXITS.items()},
        lambda: counters(guests),
    ]
    found = {}
    for take in reversed(readings) if opens else readings:
        found.update(take())
    return found
