# SPDX-License-Identifier: GPL-2.0
"""From the runs of make bench to ratios: tables, summary.json, charts.

Rates are only compared within a round, where all contenders met the same machine.
A ratio is the geometric mean over rounds (and cells); its interval comes from
drawing the rounds anew, with replacement (bootstrap, 95%).
"""
import collections
import functools
import json
import math
import os
import random
import re

import chart
import grid

DRAWS = 1000
LOST = 0.95
LOW, HIGH = (1, 4), (32, 128)
OURS, OURS_IRQ = 'ours-poll', 'ours-irq'
NO_DISK = ('guest-null', 'null-co')
# What must be reached: name, text, 'at least' or 'at most', bar.
BARS = (
    ('gm_vs_qemu_best_low', 'rate to the best QEMU, depth 1 and 4', '>=', 1.2),
    ('gm_vs_qemu_best_high', 'rate to the best QEMU, depth 32 and 128', '>=', 2.5),
    ('cells_lost', 'cells that are lost to it', '<=', 0),
    ('gm_vs_qemu_default', "rate to QEMU's defaults, all cells", '>=', 4.0),
    ('cpu_irq_vs_qemu_best', 'CPU per I/O to that QEMU, interrupt mode', '<=', 1.0),
    ('cpu_poll_vs_qemu_best', 'the same, polling, depth 32', '<=', 1.0),
    ('gm_vs_vhost_scsi', 'rate to vhost-scsi, all cells', '>=', 2.0),
    ('gm_vs_qsd', 'rate to the storage daemon, all cells', '>=', 2.0),
    ('least_by_disks', 'rate of 2 or 4 disks, polling, to that of one', '>=', LOST),
    ('guest_bound_share', 'share of the bound, depth 32 and 128', '>=', 0.6),
    ('irq_per_io_d32', 'interrupts per I/O, polling, depth 32 up', '<=', 0.06),
    ('kicks_per_io', 'kicks per I/O, polling, depth 32 up', '<=', 0.01),
    ('ctx_per_io', 'context switches per I/O, polling, depth 32 up', '<=', 0.02),
)
# What is told besides.
FURTHER = (
    # The maximum of several noisy means is too high; whoever is best in other rounds is not.
    ('gm_vs_qemu_chosen_low', 'rate to the best QEMU of other rounds, 1 and 4'),
    ('gm_vs_qemu_chosen_high', 'rate to the best QEMU of other rounds, 32, 128'),
    ('bound_vs_qemu_best_high', 'the bound to the best QEMU, depth 32 and 128'),
    ('host_vs_qemu_best_high', 'fio on the host to the best QEMU, depth 32 and 128'),
    ('bound_vs_qemu_default', "the bound to QEMU's defaults, all cells"),
    ('gm_vs_null_co', "rate to QEMU's null-co, all cells"),
    ('latency_d1_held', 'latency at depth 1 to that without holding signals'),
    ('gm_guests_vs_qemu_best', 'four guests together to the best QEMU, poll-us=0'),
    ('gm_guests_poll_vs_qemu_best', 'the same, polling'),
    # What of a bar's is not the back end's.
    ('signals_per_io', 'of the interrupts: signals of vhost-blk'),
    ('bound_irq_per_io', 'interrupts per I/O, disk inside the guest, 32 up'),
    ('bound_ctx_per_io', 'context switches per I/O, the same'),
    ('clock_irqs_per_second', 'interrupts each second, the same'),
    # A guest that never leaves its CPU cannot be served any faster.
    ('guest_share', "of its CPU's time that a guest runs, polling, 32 up"),
    ('guest_us_per_io', 'us that it runs for each I/O, the same'),
    ('qemu_guest_us_per_io', 'the same, best QEMU'),
    ('bound_guest_us_per_io', 'the same, disk inside the guest'),
)


def gm(values):
    values = [v for v in values if v > 0]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float('nan')


class Runs:
    """The runs: rates and counters by contender, cell and round."""
    def __init__(self, path):
        self.iops = collections.defaultdict(dict)       # (contender, cell): {round: iops}
        self.latency = collections.defaultdict(list)
        self.median = collections.defaultdict(dict)     # of it, in us, as iops
        self.window = collections.defaultdict(list)
        self.cells = []
        self.lost = []                                  # guests, and whose disk they used
        self.idle = {}                                  # contender: what it costs each second
        with open(path) as f:
            for line in f:
                run = json.loads(line)
                if 'idle' in run:
                    self.idle[run['idle']] = run
                if 'lost' in run:
                    self.lost.append('%(lost)s, %(cell)s: %(why)s' % run)
                if not run['round']:
                    continue
                key = run['contender'], run['cell']
                if run['cell'] not in self.cells:
                    self.cells.append(run['cell'])
                self.iops[key][run['round']] = run['iops']
                self.latency[key].append({k: run[k] for k in ('p50', 'p99', 'p999') if k in run})
                if 'p50' in run:
                    self.median[key][run['round']] = run['p50']
                window = run['window']
                if window and run['contender'] in NO_DISK:
                    # It does not show on the host.
                    window['sectors'] = run['iops'] * window['time'] * size(run['cell']) / 512
                if window and window['sectors']:
                    self.window[key].append(window)
        self.contenders = [c for c in grid.contenders() if any(k[0] == c.name for k in self.iops)]
        named = {c.name for c in self.contenders}
        for name in sorted({k[0] for k in self.iops} - named):
            self.contenders.append(grid.Contender(name, 'ours', name))
        order = [c.name for c in grid.plan(False)[1] + grid.crowd()[1]]
        self.cells.sort(key=lambda c: order.index(c) if c in order else len(order))

    def rate(self, contender, cell, without=None):
        """Over all rounds but one."""
        rounds = self.iops[contender, cell]
        return gm([rounds[r] for r in rounds if r != without])

    def group(self, name):
        return [c.name for c in self.contenders if c.group == name]

    def best_qemu(self, cell, without=None):
        found = [n for n in self.group('qemu') if (n, cell) in self.iops]
        return max(found, key=lambda n: self.rate(n, cell, without)) if found else None

    def single(self):
        """The cells that are about the rate of one disk of one guest."""
        return [c for c in self.cells if not c.endswith(('disks', 'guests', '%'))]

    def of_depth(self, depths):
        return [c for c in self.single() if depth(c) in depths]

    def per_io(self, contender, cell):
        """What was counted, per request of the cell's size; None if it was not."""
        windows = self.window.get((contender, cell))
        if not windows:
            return None
        ios = sum(w['sectors'] for w in windows) * 512 / size(cell)
        return {k: sum(w[k] for w in windows) / ios
                for k in ('cpu', 'guest', 'ctx', 'exits', 'halts', 'irqs', 'kicks', 'signals')}


def depth(cell):
    return int(re.search(r'depth (\d+)', cell).group(1))


def size(cell):
    return int(re.search(r' (\d+)k,', cell).group(1)) << 10


def ratio(runs, pairs, what='iops'):
    """Geometric mean of a/b over pairs (a, b, cell), and its interval. b may be a function of the
    round.
    """
    measured = getattr(runs, what)
    logs = []
    for a, b, cell in pairs:
        of_a = measured.get((a, cell), {})
        of_b = {r: measured.get((b(r) if callable(b) else b, cell), {}).get(r) for r in of_a}
        logs.append([math.log(of_a[r] / of_b[r]) for r in of_a if of_b[r]])
    logs = [x for x in logs if x]
    if not logs:
        return None

    def mean(draw):
        return sum(sum(d) / len(d) for d in map(draw, logs)) / len(logs)
    chance = random.Random(1)
    drawn = sorted(mean(lambda x: chance.choices(x, k=len(x))) for _ in range(DRAWS))
    return [math.exp(v) for v in (mean(lambda x: x), drawn[int(0.025 * DRAWS)],
                                  drawn[int(0.975 * DRAWS)])]


def cpu_ratio(runs, a, cells):
    found = []
    for cell in cells:
        ours_, theirs = runs.per_io(a, cell), runs.per_io(runs.best_qemu(cell), cell)
        if ours_ and theirs and theirs['cpu'] > 0:
            found.append(ours_['cpu'] / theirs['cpu'])
    return gm(found) if found else None


def average(runs, contender, cells, what):
    found = [p[what] for p in (runs.per_io(contender, c) for c in cells) if p]
    return sum(found) / len(found) if found else None


def each_second(runs, contender, cells, what):
    windows = [w for c in cells for w in runs.window.get((contender, c), ())]
    return sum(w[what] for w in windows) / sum(w['time'] for w in windows) if windows else None


def summarize(runs):
    """The names of summary.json; None: not measured in this run."""
    cells = runs.single()
    high = runs.of_depth(HIGH)
    found = {}

    def put(name, pairs, what='iops'):
        got = ratio(runs, pairs, what)
        found[name] = got[0] if got else None
        found[name + '_interval'] = got[1:] if got else None

    def against_best(some):
        return [(OURS, runs.best_qemu(c), c) for c in some]
    put('gm_vs_qemu_best_low', against_best(runs.of_depth(LOW)))
    put('gm_vs_qemu_best_high', against_best(high))
    def against_chosen(some):
        return [(OURS, functools.partial(runs.best_qemu, c), c) for c in some]
    put('gm_vs_qemu_chosen_low', against_chosen(runs.of_depth(LOW)))
    put('gm_vs_qemu_chosen_high', against_chosen(high))
    put('gm_vs_qemu_default', [(OURS, 'main', c) for c in cells])
    put('gm_vs_vhost_scsi', [(OURS, 'vhost-scsi', c) for c in cells])
    put('gm_vs_qsd', [(OURS, 'qsd', c) for c in cells])
    put('guest_bound_share', [(OURS, 'guest-null', c) for c in high])
    # What those ratios would be if serving the disk cost nothing.
    put('bound_vs_qemu_best_high', [('guest-null', runs.best_qemu(c), c) for c in high])
    put('host_vs_qemu_best_high', [('host', runs.best_qemu(c), c) for c in high])
    put('bound_vs_qemu_default', [('guest-null', 'main', c) for c in cells])
    put('gm_vs_null_co', [(OURS, 'null-co', c) for c in cells])
    put('irq_mode_vs_qemu_best', [(OURS_IRQ, runs.best_qemu(c), c) for c in cells])
    for d in sorted({depth(c) for c in cells}):
        put('gm_vs_qemu_best_d%d' % d, against_best(runs.of_depth((d,))))
    # With more guests than CPUs there is none to poll on.
    guests = [c for c in runs.cells if c.endswith('guests')]
    put('gm_guests_vs_qemu_best', [(OURS_IRQ, runs.best_qemu(c), c) for c in guests])
    put('gm_guests_poll_vs_qemu_best', against_best(guests))
    each = [(c, ratio(runs, [(OURS if c in cells else OURS_IRQ, runs.best_qemu(c), c)]))
            for c in cells + guests]
    found['lost'] = [c for c, r in each if r and r[2] < LOST]
    found['cells_lost'] = len(found['lost']) if any(r for _, r in each) else None
    found['cpu_irq_vs_qemu_best'] = cpu_ratio(runs, OURS_IRQ, cells)
    found['cpu_poll_vs_qemu_best'] = cpu_ratio(runs, OURS, runs.of_depth((32,)))
    # With as many CPUs in the guest as in the host there is none to poll on.
    polled = [c for c in high if not c.endswith('jobs')]
    found['irq_per_io_d32'] = average(runs, OURS, polled, 'irqs')
    found['kicks_per_io'] = average(runs, OURS, polled, 'kicks')
    found['ctx_per_io'] = average(runs, OURS, polled, 'ctx')
    found['signals_per_io'] = average(runs, OURS, polled, 'signals')
    found['bound_irq_per_io'] = average(runs, 'guest-null', polled, 'irqs')
    found['bound_ctx_per_io'] = average(runs, 'guest-null', polled, 'ctx')
    found['clock_irqs_per_second'] = each_second(runs, 'guest-null', polled, 'irqs')
    # Where the guest has one CPU.
    one = [c for c in polled if size(c) == 4096]
    found['guest_share'] = each_second(runs, OURS, one, 'guest')
    for name, who in (('', OURS), ('qemu_', 'best'), ('bound_', 'guest-null')):
        per = [runs.per_io(runs.best_qemu(c) if who == 'best' else who, c) for c in one]
        found[name + 'guest_us_per_io'] = gm([p['guest'] * 1e6 for p in per if p]) if any(per) else None
    put('latency_d1_held', [(OURS, 'no-holding', c) for c in runs.of_depth((1,))], 'median')
    found['without'] = {}
    for name in runs.group('without'):
        got = ratio(runs, [(name, OURS, c) for c in cells])
        if got:
            found['without'][name] = {'rate': got[0], 'interval': got[1:]}
    several = [c for c in runs.cells if c.endswith('disks')]
    for key, name in (('rate_by_disks', OURS), ('bound_by_disks', 'guest-null')):
        one = [c for c in several if c.endswith(' 1 disks') and (name, c) in runs.iops]
        found[key] = {c.rsplit(', ', 1)[1]: runs.rate(name, c) / runs.rate(name, one[0])
                      for c in several if one and c not in one and (name, c) in runs.iops}
    found['least_by_disks'] = min(found['rate_by_disks'].values(), default=None)
    return found


def cells_table(runs):
    for cell in runs.cells:
        print('\n%s' % cell)
        print('  %-38s %9s %8s %7s %7s %7s %6s %6s %6s %6s %6s %6s' % (
            '', 'IOPS', 'to ours', 'p50', 'p99', 'p99.9', 'CPU', 'ctx', 'exits', 'halts', 'irqs',
            'kicks'))
        for c in runs.contenders:
            if (c.name, cell) not in runs.iops:
                continue
            row = '  %-38s %9.0f' % (c.text[:38], runs.rate(c.name, cell))
            to = None if cell.endswith('%') else ratio(runs, [(c.name, OURS, cell)])
            row += ' %8s' % ('%.2f' % to[0] if to else '')
            for key in ('p50', 'p99', 'p999'):
                found = [lat[key] for lat in runs.latency[c.name, cell] if key in lat]
                row += ' %7.0f' % gm(found) if found else ' %7s' % ''
            per = runs.per_io(c.name, cell)
            if per:
                row += ' %6.0f' % (per['cpu'] * 1e6)
                row += ''.join(' %6.2f' % per[k] for k in ('ctx', 'exits', 'halts', 'irqs'))
                row += ' %6.2f' % per['kicks'] if c.group == 'ours' else ''
            print(row)
    print('\n(latencies and CPU in us; CPU: the whole host, for each I/O)')


def idle_table(runs):
    if not runs.idle:
        return
    print('\nA guest that does nothing, each second')
    print('  %-38s %8s %8s %8s %8s' % ('', 'CPU, ms', 'ctx', 'exits', 'irqs'))
    for c in [grid.Contender('guest-null', 'bound', 'without a disk')] + runs.contenders:
        if c.name in runs.idle:
            each = runs.idle[c.name]
            print('  %-38s %8.1f %8.1f %8.1f %8.1f' % (
                c.text[:38], each['cpu'] * 1000, each['ctx'], each['exits'], each['irqs']))


def bars_table(found):
    print('\n%-50s %8s %17s  %s' % ('bar', 'found', '95% interval', 'must be'))
    for name, text, way, bar in BARS:
        value = found.get(name)
        if value is None:
            print('%-50s %8s' % (text, 'not measured'))
            continue
        interval = found.get(name + '_interval')
        ok = value >= bar if way == '>=' else value <= bar
        print('%-50s %8.3f %17s  %s %g%s' % (
            text, value, '%.3f .. %.3f' % tuple(interval) if interval else '', way, bar,
            '' if ok else '   MISSED'))
    for name, text in FURTHER:
        if found[name]:
            interval = found.get(name + '_interval')
            print('%-50s %8.3f %17s' % (
                text, found[name], '%.3f .. %.3f' % tuple(interval) if interval else ''))
    for text, value in found['rate_by_disks'].items():
        print('%-50s %8.3f' % ('rate of all together, polling: ' + text, value))
    for text, value in found['bound_by_disks'].items():
        print('%-50s %8.3f' % ('the same, bound: ' + text, value))
    for name, got in found['without'].items():
        text = [c.text for c in grid.contenders() if c.name == name][0]
        print('%-50s %8.3f %17s' % ('rate ' + text, got['rate'], '%.3f .. %.3f' % tuple(got['interval'])))
    for cell in found['lost']:
        print('  lost: ' + cell)


def main(results):
    with open(os.path.join(results, 'options.json')) as f:
        options = json.load(f)
    runs = Runs(os.path.join(results, 'runs.jsonl'))
    found = summarize(runs)
    native = options['kind'] == 'given'
    found.update(guests_lost=runs.lost, disks=options['kind'], rounds=options['rounds'], native=native,
                 load_at_start=options['load'][0])
    cells_table(runs)
    for text in runs.lost:
        print('a guest was lost, and another one started: ' + text)
    idle_table(runs)
    bars_table(found)
    if not native:
        print('\nAn emulated machine: exits, interrupts and sleeps cost ten to a hundred times what '
              'they do on\nhardware. The ratios show whether something has become worse; they say nothing '
              'about hardware.')
    with open(os.path.join(results, 'summary.json'), 'w') as f:
        json.dump(found, f, indent=1)
        f.write('\n')
    with open(os.path.join(results, 'results.json'), 'w') as f:
        json.dump([{'contender': c.name, 'cell': cell, 'iops': runs.rate(c.name, cell),
                    'to_ours': ratio(runs, [(c.name, OURS, cell)]),
                    'per_io': runs.per_io(c.name, cell)}
                   for cell in runs.cells for c in runs.contenders
                   if (c.name, cell) in runs.iops], f, indent=1)
        f.write('\n')
    chart.draw(runs, found, results, native)
