# SPDX-License-Identifier: GPL-2.0
"""The charts of make bench: SVG, made with matplotlib."""
import glob
import os
import re

COLOUR = {'qemu': '#9aa5b1', 'qsd': '#7b8794', 'vhost-scsi': '#c9a227', 'ours': '#1f6feb',
          'without': '#8db9f5', 'bound': '#d9d9d9'}


def save(figure, results, name, native):
    figure.tight_layout()
    if not native:
        figure.text(0.99, 0.01, 'emulated machine: no claim about hardware', fontsize=7,
                    ha='right', color='#666666')
    figure.savefig(os.path.join(results, name + '.svg'))


def bars(plt, runs, cells, value, text, results, name, native):
    """A group of bars for each cell, a bar for each contender."""
    rows = [c for c in runs.contenders if any(value(c, cell) for cell in cells)]
    if not rows or not cells:
        return
    figure, axes = plt.subplots(1, len(cells), figsize=(3 + 2.4 * len(cells), 1 + 0.32 * len(rows)),
                                sharey=True, squeeze=False)
    for axis, cell in zip(axes[0], cells):
        values = [value(c, cell) or 0 for c in rows]
        axis.barh(range(len(rows)), values, color=[COLOUR.get(c.group, '#555555') for c in rows])
        for i, v in enumerate(values):
            if v:
                axis.text(v, i, (' %.3g' if v < 1000 else ' %.0f') % v, va='center', fontsize=7)
        axis.set_xlim(0, max(values) * 1.25 or 1)
        axis.set_title(cell, fontsize=9)
        axis.set_yticks(range(len(rows)))
        axis.set_yticklabels([c.text for c in rows], fontsize=8)
        axis.tick_params(axis='x', labelsize=7)
        for side in ('top', 'right'):
            axis.spines[side].set_visible(False)
    axes[0][0].invert_yaxis()       # all share it
    figure.suptitle(text, fontsize=11)
    save(figure, results, name, native)
    plt.close(figure)


def draw(runs, found, results, native):
    for old in glob.glob(os.path.join(results, '*.svg')):
        os.unlink(old)
    # Not needed to work out the numbers, so it may be missing then.
    try:
        import matplotlib
    except ImportError:
        print('no charts: python3-matplotlib is missing')
        return
    matplotlib.use('svg')
    from matplotlib import pyplot as plt
    plt.rcParams['svg.hashsalt'] = 'vhost-blk'

    def relative(contender, cell):
        # ONLY may leave out ours.
        if not {(contender.name, cell), ('ours-poll', cell)} <= set(runs.iops):
            return 0
        return runs.rate(contender.name, cell) / runs.rate('ours-poll', cell)

    def cpu(contender, cell):
        per = runs.per_io(contender.name, cell)
        return per['cpu'] * 1e6 if per else 0

    def p99(contender, cell):
        found = [lat['p99'] for lat in runs.latency[contender.name, cell] if 'p99' in lat]
        return sum(found) / len(found) if found else 0
    groups = {}
    for cell in runs.single() + [c for c in runs.cells if c.endswith(('disks', 'guests'))]:
        title = re.sub(r', (depth \d+|\d+ disks)', '', cell)
        if cell.endswith('disks'):
            title += ', several disks'
        groups.setdefault(title, []).append(cell)
    for title, cells in groups.items():
        name = re.sub('[^a-z0-9]+', '-', title)
        bars(plt, runs, cells, relative, title + ': rate, vhost-blk polling = 1', results,
             'rate-' + name, native)
        bars(plt, runs, cells, cpu, title + ': CPU time of the host per I/O, microseconds',
             results, 'cpu-' + name, native)
    bars(plt, runs, [c for c in runs.cells if c.endswith('%')], p99,
         '99th percentile of latency, at a share of the full rate of each, microseconds',
         results, 'latency-p99', native)
