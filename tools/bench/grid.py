# SPDX-License-Identifier: GPL-2.0
"""What make bench compares: the contenders, and the cells of the grid."""
import collections
import json
import os
import shlex
import sys
import zlib

WORK = '/run/tmp' if os.path.isdir('/run/tmp') else '/tmp'
RAMP = 0.2          # seconds that fio does not count
MS5 = 5000000       # poll-max-ns of a tuned iothread
GUEST = os.environ.get('GUEST', '')
GUESTS = ('', 'no-event-idx', 'polls')
KIND = os.environ.get('DISKS', 'timer')
ABLATION = os.environ.get('ABLATION', '') not in ('', '0')
CROWD = os.environ.get('CROWD', '') not in ('', '0')
CROWD_GUESTS = 4
MOST_DISKS = 4

# A phase is a number of guests of one kind: the CPUs of each, the queues and disks of each
# contender in each. If no cell is of that phase, the guests are idle. A cell with a
# share is done at that share of the rate that the contender reaches in the cell 'full'.
Cell = collections.namedtuple('Cell', 'name phase rw bs depth jobs disks share full')
Phase = collections.namedtuple('Phase', 'name smp queues disks contenders guests',
                               defaults=(1,))


class Contender:
    """Somebody who serves a disk.

    group: 'qemu', 'ours', 'qsd', 'vhost-scsi'; 'bound' for what is no back end, 'beside' for what
    is no contender; 'without' for ours without one of its techniques.
    args(name, path, queues): QEMU's arguments for one disk, of that serial number.
    pinned: its threads stay off the guest's CPU.
    disk: it has one of the host's.
    """
    def __init__(self, name, group, text, args=None, pinned=True, disk=True):
        self.pinned = pinned
        self.disk = disk
        self.name = name
        self.group = group
        self.text = text
        self.args = args


def node(name, path, aio):
    return ['-blockdev', json.dumps({
        'driver': 'host_device', 'node-name': name, 'filename': path, 'aio': aio,
        'locking': 'off', 'cache': {'direct': True}})]


def device(driver, name, queues, **more):
    if GUEST == 'no-event-idx':
        more['event_idx'] = False
    # Long values have their own lines in JSON alone, so JSON it is.
    return ['-device', json.dumps({'driver': driver, 'id': name, 'serial': name,
                                   'drive': 'n-' + name, 'num-queues': queues,
                                   'share-rw': True, **more})]


def qemu_main(aio):
    return lambda name, path, queues: (
        node('n-' + name, path, aio) + device('virtio-blk-pci', name, queues))


def qemu_iothread(aio, poll=None):
    def args(name, path, queues):
        thread = 'iothread,id=t-' + name + (',poll-max-ns=%d' % poll if poll else '')
        return (['-object', thread] + node('n-' + name, path, aio) +
                device('virtio-blk-pci', name, queues, iothread='t-' + name))
    return args


def qemu_shared(aio, poll):
    """All disks of the contender in one iothread, which comes with the first."""
    def args(name, path, queues):
        thread = 't-' + name.rstrip('0123456789')
        made = ['-object', 'iothread,id=%s,poll-max-ns=%d' % (thread, poll)]
        return ((made if thread == 't-' + name else []) + node('n-' + name, path, aio) +
                device('virtio-blk-pci', name, queues, iothread=thread))
    return args


def qemu_mapped(aio, poll):
    def args(name, path, queues):
        threads = ['t%d-%s' % (i, name) for i in range(2)]
        found = []
        for thread in threads:
            found += ['-object', 'iothread,id=%s,poll-max-ns=%d' % (thread, poll)]
        return (found + node('n-' + name, path, aio) +
                device('virtio-blk-pci', name, max(queues, 2),
                       **{'iothread-vq-mapping': [{'iothread': t} for t in threads]}))
    return args


def qemu_null(name, _, queues):
    """QEMU answers by itself, in a polling iothread."""
    return ['-object', 'iothread,id=t-%s,poll-max-ns=%d' % (name, MS5),
            '-blockdev', 'null-co,node-name=n-%s,size=%d,read-zeroes=off' % (name, 1 << 30),
            *device('virtio-blk-pci', name, queues, iothread='t-' + name)]


def qsd(name, _, queues):
    return ['-chardev', 'socket,id=c-%s,path=%s' % (name, qsd_socket(name)),
            '-device', 'vhost-user-blk-pci,id=%s,chardev=c-%s,num-queues=%d'
            % (name, name, queues)]


def qsd_socket(name):
    return os.path.join(WORK, 'bench-%s.sock' % name)


def qsd_command(name, path, queues):
    """qemu-storage-daemon, as its documentation has it, with a polling iothread."""
    return ['--object', 'iothread,id=thread,poll-max-ns=%d' % MS5,
            '--blockdev', json.dumps({'driver': 'host_device', 'node-name': 'disk',
                                      'filename': path, 'aio': 'native', 'locking': 'off',
                                      'cache': {'direct': True}}),
            '--export', 'vhost-user-blk,id=export,node-name=disk,writable=on,iothread=thread,'
            'num-queues=%d,addr.type=unix,addr.path=%s' % (queues, qsd_socket(name))]


def scsi_name(name, kind='5'):
    """The target's name; kind '6': that of its initiator."""
    return 'naa.6001405%s%08x' % (kind, zlib.crc32(name.encode()))


def vhost_scsi(name, _, queues):
    return ['-device', 'vhost-scsi-pci,id=%s,wwpn=%s,num_queues=%d%s' % (
        name, scsi_name(name), queues, ',worker_per_virtqueue=on' if queues > 1 else '')]


def ours(**properties):
    return lambda name, path, queues: (
        node('n-' + name, path, 'native') +
        device('vhost-blk-pci', name, queues, fallback=False, **properties))


def value(name, text):
    """A property's value as JSON knows it."""
    if name == 'poll-cpu':
        return text
    return int(text) if text.isdigit() else {'on': True, 'off': False}.get(text, text)


def polling(**properties):
    """vhost-blk that polls, holds and naps as long as an emulated guest takes."""
    return ours(**{'poll-us': 5000, 'signal-us': 50000, **properties})


def ablated():
    """Ours without one of its techniques; kept out of all that is said of ours."""
    return [
        Contender('no-polling', 'without', 'without polling', polling(**{'poll-us': 0})),
        Contender('no-batching', 'without', 'without batches: of requests, of completions',
                  polling(**{'batch': 1, 'signal-us': 0})),
        Contender('no-holding', 'without', 'without holding signals', polling(**{'signal-us': 0})),
        Contender('no-affinity', 'without', 'without affinity of its thread', polling(),
                  pinned=False),
        Contender('no-polled', 'without', "without the disk's polled queues",
                  polling(**{'poll-completions': False})),
    ]


def contenders():
    """All of them; OURS='NAME:PROPERTY=VALUE,... NAME:...' adds variants of ours."""
    found = [
        Contender('main', 'qemu', 'virtio-blk, main loop, native', qemu_main('native')),
        Contender('iot-uring', 'qemu', 'virtio-blk, iothread, io_uring',
                  qemu_iothread('io_uring')),
        Contender('iot-native', 'qemu', 'virtio-blk, iothread, native',
                  qemu_iothread('native')),
        Contender('iot-uring-5ms', 'qemu', 'virtio-blk, iothread 5 ms, io_uring',
                  qemu_iothread('io_uring', MS5)),
        Contender('iot-native-5ms', 'qemu', 'virtio-blk, iothread 5 ms, native',
                  qemu_iothread('native', MS5)),
        Contender('vq-map-5ms', 'qemu', 'virtio-blk, 2 iothreads mapped, 5 ms',
                  qemu_mapped('native', MS5)),
        Contender('iot-shared', 'qemu', 'virtio-blk, 1 iothread for all, 5 ms',
                  qemu_shared('native', MS5)),
        Contender('qsd', 'qsd', 'vhost-user-blk, storage daemon, 5 ms', qsd),
        Contender('vhost-scsi', 'vhost-scsi', 'vhost-scsi, LIO iblock', vhost_scsi),
        Contender('ours-irq', 'ours', 'vhost-blk, poll-us=0, signal 10 ms',
                  polling(**{'poll-us': 0, 'signal-us': 10000})),
        Contender('ours-poll', 'ours', 'vhost-blk, poll 5 ms, signal 50 ms', polling()),
        Contender('guest-null', 'bound', 'bound: null_blk inside the guest', disk=False),
        Contender('host', 'bound', 'bound: fio on the host'),
    ]
    if KIND == 'instant':
        found.append(Contender('null-co', 'beside', "QEMU's null-co, iothread 5 ms", qemu_null,
                               disk=False))
    if ABLATION:
        found = [c for c in found if c.name in ('ours-poll', 'guest-null', 'host')] + ablated()
    if GUEST == 'polls':
        # A SCSI disk cannot be polled. And libvhost-user gives up (vu_panic()) when it signals a
        # queue for which the guest wants no interrupt.
        found = [c for c in found if c.name not in ('vhost-scsi', 'qsd')]
    for text in shlex.split(os.environ.get('OURS', '')):
        name, colon, properties = text.partition(':')
        pairs = [p.partition('=') for p in properties.split(',') if p]
        if not (name and colon and all(k and equals and v for k, equals, v in pairs)):
            sys.exit('bench: OURS: %r is not NAME:PROPERTY=VALUE,...' % text)
        found.append(Contender(name, 'ours', 'vhost-blk, ' + properties,
                               ours(**{k: value(k, v) for k, _, v in pairs})))
    only = os.environ.get('ONLY')
    if not only:
        return found
    only = only.split(',')
    unknown = set(only) - {c.name for c in found}
    if unknown:
        sys.exit('bench: ONLY names nobody here: %s (there are %s)' % (
            ', '.join(sorted(unknown)), ', '.join(c.name for c in found)))
    return [c for c in found if c.name in only]


def cell(phase, rw, bs, depth, jobs=1, disks=1, share=None):
    name = '%s %s, depth %d' % (rw, bs, depth)
    if jobs > 1:
        name += ', %d jobs' % jobs
    if phase == 'disks':
        name += ', %d disks' % disks
    if phase == 'crowd':
        name += ', %d guests' % CROWD_GUESTS
    full = name
    if share:
        name += ', at %d%%' % (share * 100)
    return Cell(name, phase, rw, bs, depth, jobs, disks, share, full)


def crowd():
    """More guests than CPUs; and, one at a time, guests that do nothing."""
    left_out = ('iot-uring', 'iot-uring-5ms', 'vq-map-5ms', 'iot-shared')
    everybody = [c for c in contenders() if c.name not in left_out]
    names = [c.name for c in everybody if c.group in ('qemu', 'ours')]
    idle = [Phase('idle', 1, 1, 1, [c.name]) for c in everybody
            if c.name == 'guest-null' or c.name in names]
    return [Phase('crowd', 1, 1, 1, names, CROWD_GUESTS), *idle], [
        cell('crowd', 'randread', '4k', d) for d in (1, 32)]


def plan(quick):
    """(phases, cells)."""
    everybody = [c.name for c in contenders() if c.name != 'iot-shared']
    if CROWD:
        return crowd()
    # One queue to poll, and one that virtio_blk insists on, which has no more than CPUs.
    each = 2 if GUEST == 'polls' else 1
    one = Phase('one', each, each, 1, everybody)
    cells = [cell('one', 'randread', '4k', d) for d in (1, 4, 32, 128)]
    if quick or ABLATION or GUEST:
        return [one], cells
    for rw in ('randwrite', 'rw70', 'rw50'):
        cells += [cell('one', rw, '4k', d) for d in (1, 4, 32, 128)]
    cells += [cell('one', 'read', '128k', d) for d in (1, 4, 32)]
    cells += [cell('one', 'randread', '4k', 32, share=s) for s in (0.5, 0.8)]
    cells += [cell('two', 'randread', '4k', d, jobs=2) for d in (1, 32)]
    cells += [cell('disks', 'randread', '4k', 32, disks=n) for n in (1, 2, 4)]
    few = [c.name for c in contenders()
           if c.name in ('iot-native-5ms', 'iot-shared', 'ours-irq', 'ours-poll', 'guest-null')]
    return [one, Phase('two', 2, 2, 1, everybody), Phase('disks', 1, 1, MOST_DISKS, few)], cells


def fio_arguments(cell_, devices, seconds, rate=None, polls=False):
    """Of fio, for the cell on these devices, one job for each (times cell.jobs). rate: requests
    each second of each job, at random times."""
    mixed = cell_.rw.startswith('rw') and cell_.rw[2:].isdigit()
    args = ['--direct=1', '--ioengine=io_uring', '--thread', '--group_reporting',
            '--norandommap', '--randrepeat=0', '--eta=never', '--time_based',
            '--ramp_time=%dms' % (RAMP * 1000), '--runtime=%dms' % (seconds * 1000),
            '--rw=' + ('randrw' if mixed else cell_.rw), '--bs=' + cell_.bs,
            '--iodepth=%d' % cell_.depth, '--numjobs=%d' % cell_.jobs]
    if polls:
        args.append('--hipri')
    if rate:
        args += ['--rate_iops=%d' % rate, '--rate_process=poisson']
    if mixed:
        args.append('--rwmixread=' + cell_.rw[2:])
    for i, name in enumerate(devices):
        args += ['--name=j%d' % i, '--filename=' + name]
    return args
