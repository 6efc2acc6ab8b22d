# SPDX-License-Identifier: GPL-2.0
"""The monitor of a QEMU that listens for it."""
import json
import os
import socket

from qtest import Failed, check, until


def guest_says(output, text, pid, seconds=300):
    """Wait until a guest, which process PID runs, has written a text to its OUTPUT."""
    def says():
        with open(output, encoding='utf-8', errors='replace') as said:
            if text in said.read():
                return True
        check(os.path.exists('/proc/%d' % pid), 'the guest has ended before it said: ' + text)
        return False
    until('the guest says: ' + text, says, seconds)


class Monitor:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(path)
        self.file = self.sock.makefile('rw')
        self.events = []
        self.message('the greeting')
        self.call('qmp_capabilities')

    def message(self, what):
        """The next one; events are kept."""
        try:
            line = self.file.readline()
        except TimeoutError as error:
            raise Failed('QEMU does not answer: ' + what) from error
        if not line:
            raise Failed('QEMU has gone: ' + what)
        message = json.loads(line)
        if 'event' in message:
            self.events.append(message)
        return message

    def call(self, command, **arguments):
        arguments = {k.replace('_', '-'): v for k, v in arguments.items()}
        self.file.write(json.dumps({'execute': command, 'arguments': arguments}) + '\n')
        self.file.flush()
        while True:
            answer = self.message(command)
            if 'error' in answer:
                raise Failed('%s: %s' % (command, answer['error']['desc']))
            if 'return' in answer:
                return answer['return']

    def wait(self, event, **data):
        """Wait for an event with this data, and forget it and all before it."""
        while True:
            while self.events:
                seen = self.events.pop(0)
                if seen['event'] == event and data.items() <= seen.get('data', {}).items():
                    return
            self.message(event)


DISK = '/machine/peripheral/vda'


def writes(monitor):
    """What QEMU itself has written for the guest, to its first disk."""
    return sum(d['stats']['wr_operations'] for d in monitor.call('query-blockstats')
               if DISK in d.get('qdev', ''))


def prop(monitor, name):
    return monitor.call('qom-get', path=DISK, property=name)


def served(monitor, who):
    """Wait until somebody serves that disk."""
    until('served by ' + who, lambda: prop(monitor, 'served-by') == who, 120)
    print('served by %s %s' % (who, prop(monitor, 'served-reason')), flush=True)
