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
MOST_LOST = 8                   # guests, until the measurement is given up
SETTLE, IDLE = 5, 10            # seconds until a guest is idle, and how long it is watched


class Lost(Exception):
    """A guest has ended or does not answer."""


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
    def __init__(self, guests, disks, seconds):
        self.guests = guests
        self.disks = disks
        self.seconds = seconds
        self.found = None

    def moved(self):
        return sum(machine.sectors(d) for d in self.disks)

    def __call__(self):
        before = self.moved()
        end = time.monotonic() + 30
        while self.disks and self.moved() == before:
            if time.monotonic() > end:
                return
            time.sleep(0.02)
        time.sleep(grid.RAMP if self.disks else 2 * grid.RAMP)
        first = machine.sample(self.guests, self.disks, True)
        time.sleep(0.8 * self.seconds)
        second = machine.sample(self.guests, self.disks, False)
        self.found = {k: second[k] - first[k] for k in first}


def latency(job):
    """Mean and percentiles of completion latency in microseconds, all directions."""
    found = {}
    for way in ('read', 'write'):
        clat = job[way]['clat_ns']
        for key, name in (('50.000000', 'p50'), ('99.000000', 'p99'), ('99.900000', 'p999')):
            if 'percentile' in clat:
                found[name] = max(found.get(name, 0), clat['percentile'][key] / 1000)
    return found


def figures(fios):
    """Of all guests together: rates added, the worst latency."""
    jobs = [job for fio in fios for job in fio['jobs']]
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
    def __init__(self, quick, kind, given, budget, pin, rounds, results):
        self.phases, self.cells = grid.plan(quick)
        self.contenders = {c.name: c for c in grid.contenders()}
        self.rounds = rounds
        self.pin = pin
        self.disks = machine.Disks(kind, given)
        per_phase = {p.name: len(p.contenders) for p in self.phases}
        runs = rounds * sum(per_phase[c.phase] for c in self.cells)
        self.budget = Budget(budget, runs)
        self.losses = 0
        self.rates = {}         # of the contender in the cell, in the last round
        self.log = open(os.path.join(results, 'runs.jsonl'), 'w')

    def in_guests(self, guests, name, cell, seconds, rate):
        """fio in all of them at once. Returns their JSON, and what was counted."""
        # A disk inside the guest does not show outside of it.
        disks = [d for guest in guests for d in guest.paths.get(name, [])[:cell.disks]]
        window = Window(guests, disks, seconds)
        try:
            for guest in guests:
                guest.fio(grid.fio_arguments(cell, guest.devices[name][:cell.disks], seconds, rate,
                                             grid.GUEST == 'polls'))
            window()
            return [guest.result() for guest in guests], window.found
        except (machine.Failed, OSError) as e:
            print('%s, %s: %s' % (name, cell.name, e), flush=True)
            self.write({'round': 0, 'lost': name, 'cell': cell.name, 'why': str(e)})
            for guest in guests:
                guest.say()
            raise Lost(str(e))

    def one(self, guests, name, cell, round_, seconds):
        """One run of fio, in each guest."""
        rate = cell.share and cell.share * self.rates[name, cell.full]
        counted = None
        begun = time.monotonic()
        if name == 'host':
            fios = [host_fio(grid.fio_arguments(cell, [self.host_disk], seconds, rate))]
        else:
            fios, counted = self.in_guests(guests, name, cell, seconds, rate)
        took = time.monotonic() - begun
        self.write({'round': round_, 'contender': name, 'cell': cell.name, **figures(fios),
                    'seconds': seconds, 'took': round(took, 2), 'window': counted, 'fio': fios})
        return took

    def write(self, record):
        if 'iops' in record:
            self.rates[record['contender'], record['cell']] = record['iops']
        self.log.write(json.dumps(record) + '\n')
        self.log.flush()

    def boot(self, phase):
        """The guests of a phase."""
        begun = time.monotonic()
        contenders = [self.contenders[n] for n in phase.contenders]
        guests = [machine.Guest(phase, self.disks, contenders, self.pin, i)
                  for i in range(phase.guests)]
        self.host_disk = self.disks.make('host')
        print('guest "%s": %d CPU, %d contenders, up after %d s' % (
            phase.name, phase.smp, len(contenders), time.monotonic() - begun), flush=True)
        return guests

    def again(self, phase):
        """New guests for those that were lost."""
        self.losses += 1
        if self.losses > MOST_LOST:
            raise machine.Failed('too many guests were lost')
        self.disks.free()
        return self.boot(phase)

    def phase(self, phase):
        cells = [c for c in self.cells if c.phase == phase.name]
        guests = self.boot(phase)
        if not cells:
            self.idle(guests, phase)
        else:
            runs = [(0, name, cells[0]) for name in phase.contenders]
            for round_ in range(1, self.rounds + 1):
                runs += self.round(phase, cells, round_)
            self.runs(guests, phase, runs)

    def idle(self, guests, phase):
        """What a guest costs that does nothing, each second."""
        time.sleep(SETTLE)
        first = machine.sample(guests, [], True)
        time.sleep(IDLE)
        second = machine.sample(guests, [], False)
        seconds = second['time'] - first['time']
        self.write({'round': 0, 'idle': phase.contenders[0],
                    **{k: (second[k] - first[k]) / seconds for k in first if k != 'time'}})
        self.stop(guests)

    def round(self, phase, cells, round_):
        """All of a round, in their order: a cell at a time, so that those who are compared
        meet the same machine, whose speed changes within seconds.
        """
        cells = random.sample(cells, len(cells))
        cells.sort(key=lambda cell: cell.share is not None)     # when the full rate is known
        return [(round_, name, cell) for cell in cells
                for name in random.sample(phase.contenders, len(phase.contenders))]

    def runs(self, guests, phase, runs):
        begun = time.monotonic()
        while runs:
            round_, name, cell = runs[0]
            seconds = self.budget.runtime() if round_ else WARMUP
            try:
                took = self.one(guests, name, cell, round_, seconds)
            except Lost:
                guests = self.again(phase)
                continue
            runs.pop(0)
            if round_:
                self.budget.ran(seconds, took)
            if not runs or runs[0][0] != round_:
                print('round %d: done after %d s, the last run of %.2f s' % (
                    round_, time.monotonic() - begun, seconds), flush=True)
        self.stop(guests)

    def stop(self, guests):
        for guest in guests:
            guest.stop()
        self.disks.free()

    def run(self):
        for phase in self.phases:
            self.phase(phase)
        self.log.close()


def main():
    options = json.loads(sys.argv[1])
    for path in ('/dev/vhost-blk', '/sys/kernel/debug/tracing'):
        if not os.path.exists(path):
            sys.exit('bench: no %s here (modprobe vhost_blk; a kernel with tracing)' % path)
    try:
        Bench(**options).run()
    except machine.Failed as e:
        sys.exit('bench: %s' % e)


main()
