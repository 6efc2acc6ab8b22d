# SPDX-License-Identifier: GPL-2.0
"""The measurement itself, on the machine that plays the host: rounds in which
all contenders do all cells, in random order. Leaves one line of JSON for each run
of fio in out/bench/runs.jsonl, with fio's own JSON.
"""
import json
import os
import random
import subprocess
import sys
import time

import grid
import machine

WARMUP = 0.3        # seconds of the warm-up's runs
SHORTEST, LONGEST = 0.4, 2.0    # seconds of a measured run


class Budget:
    """How long a run may take, so that all of them fit."""
    def __init__(self, seconds, runs):
        self.end = time.monotonic() + seconds
        self.left = runs
        self.overhead = 1.0     # what a run takes besides; learnt

    def runtime(self):
        each = (self.end - time.monotonic()) / max(self.left, 1) - self.overhead
        return round(min(max(each, SHORTEST), LONGEST), 2)

    def ran(self, runtime, took):
        self.left -= 1
        self.overhead += 0.1 * (took - runtime - self.overhead)


class Window:
    """Counters over the middle of a run: from when the disk is busy until shortly
    before the end, so that fio's own start is not in them.
    """
    def __init__(self, guest, disks, seconds):
        self.guest = guest
        self.disks = disks
        self.seconds = seconds
        self.found = None

    def moved(self):
        return sum(machine.sectors(d) for d in self.disks)

    def __call__(self):
        before = self.moved()
        end = time.monotonic() + 30
        while self.moved() == before:
            if time.monotonic() > end:
                return
            time.sleep(0.02)
        time.sleep(grid.RAMP)
        first, first_moved = machine.sample(self.guest), self.moved()
        time.sleep(0.8 * self.seconds)
        second, second_moved = machine.sample(self.guest), self.moved()
        self.found = {k: second[k] - first[k] for k in first}
        self.found['sectors'] = second_moved - first_moved


def latency(job):
    """Mean and percentiles of completion latency in microseconds, all directions."""
    found = {}
    for way in ('read', 'write'):
        clat = job[way]['clat_ns']
        for key, name in (('50.000000', 'p50'), ('99.000000', 'p99'), ('99.900000', 'p999')):
            if 'percentile' in clat:
                found[name] = max(found.get(name, 0), clat['percentile'][key] / 1000)
    return found


def figures(fio):
    jobs = fio['jobs']
    found = {'iops': sum(j[w]['iops'] for j in jobs for w in ('read', 'write'))}
    for job in jobs:
        for key, us in latency(job).items():
            found[key] = max(found.get(key, 0), us)
        if job['error']:
            raise machine.Failed('fio: error %d' % job['error'])
    return found


def host_fio(arguments):
    done = subprocess.run(['fio', '--output-format=json', *arguments], capture_output=True,
                          text=True)
    if done.returncode:
        raise machine.Failed('fio on the host: ' + done.stderr[-2000:])
    return json.loads(done.stdout[done.stdout.index('{'):])


class Bench:
    def __init__(self, quick, kind, given, budget, pin, rounds):
        self.phases, self.cells = grid.plan(quick)
        self.contenders = {c.name: c for c in grid.contenders()}
        self.rounds = rounds
        self.pin = pin
        self.disks = machine.Disks(kind, given)
        per_phase = {p.name: len(p.contenders) for p in self.phases}
        runs = rounds * sum(per_phase[c.phase] for c in self.cells)
        self.budget = Budget(budget, runs)
        self.log = open(os.path.join(machine.out, 'bench', 'runs.jsonl'), 'w')

    def one(self, guest, name, cell, round_, seconds):
        """One run of fio."""
        window = None
        begun = time.monotonic()
        if name == 'host':
            disk = self.host_disk
            fio = host_fio(grid.fio_arguments(cell, [disk], seconds))
        else:
            devices = guest.devices[name]
            if name != 'guest-null':
                window = Window(guest, guest.paths[name][:cell.disks], seconds)
            fio = guest.fio(grid.fio_arguments(
                cell, devices[:cell.disks], seconds, grid.GUEST == 'polls'), window)
        took = time.monotonic() - begun
        record = {'round': round_, 'contender': name, 'cell': cell.name, **figures(fio),
                  'seconds': seconds, 'took': round(took, 2),
                  'window': window.found if window else None, 'fio': fio}
        self.log.write(json.dumps(record) + '\n')
        self.log.flush()
        return took

    def phase(self, phase):
        begun = time.monotonic()
        contenders = [self.contenders[n] for n in phase.contenders]
        guest = machine.Guest(phase, self.disks, contenders, self.pin)
        self.host_disk = self.disks.make('host')
        cells = [c for c in self.cells if c.phase == phase.name]
        print('guest "%s": %d CPU, %d contenders, up after %d s' % (
            phase.name, phase.smp, len(contenders), time.monotonic() - begun), flush=True)
        for name in phase.contenders:
            self.one(guest, name, cells[-1], 0, WARMUP)
        for round_ in range(1, self.rounds + 1):
            self.round(guest, phase, cells, round_)
        guest.stop()
        self.disks.free()

    def round(self, guest, phase, cells, round_):
        order = [(name, cell) for name in phase.contenders for cell in cells]
        random.shuffle(order)
        begun = time.monotonic()
        for name, cell in order:
            seconds = self.budget.runtime()
            self.budget.ran(seconds, self.one(guest, name, cell, round_, seconds))
        print('round %d: %d runs in %d s, the last of %.2f s' % (
            round_, len(order), time.monotonic() - begun, seconds), flush=True)

    def run(self):
        for phase in self.phases:
            if [c for c in self.cells if c.phase == phase.name]:
                self.phase(phase)
        self.log.close()


def main():
    options = json.loads(sys.argv[1])
    for path in ('/dev/vhost-blk', '/sys/kernel/debug/tracing'):
        if not os.path.exists(path):
            sys.exit('bench: no %s here' % path)
    try:
        Bench(**options).run()
    except machine.Failed as e:
        sys.exit('bench: %s' % e)


main()
