"""Follows a broker's log: which identifier connected from which address, in order."""

import collections
import re
import typing

CONNECTED = re.compile(r"^(\d+): New client connected from ([\d.]+):\d+ as (\S+) \(")
ENDED = re.compile(
    r"Client (\S+?)(?: disconnected| closed its connection| has exceeded timeout|"
    r" already connected)|on client (\S+?), disconnecting"
)
STARTED = re.compile(r"mosquitto version \S+ starting")


class Connect(typing.NamedTuple):
    at_s: int
    client: str
    address: str


class BrokerLog:
    def __init__(self, path):
        self.path = path
        self.connects = []  # Connect, in the order the broker accepted them
        self.ends = collections.Counter()
        self.online = {}  # identifier: address
        self._offset = 0

    def poll(self):
        """Reads new lines; returns itself, for chaining."""
        with open(self.path, "rb") as log:
            log.seek(self._offset)
            data = log.read()
        whole = data[:data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self._line(line)
        return self

    def _line(self, line):
        if match := CONNECTED.search(line):
            connect = Connect(int(match[1]), match[3], match[2])
            self.connects.append(connect)
            self.online[connect.client] = connect.address
        elif match := ENDED.search(line):
            self.online.pop(match[1] or match[2], None)
            self.ends[match[1] or match[2]] += 1
        elif STARTED.search(line):
            self.online.clear()

    def mark(self):
        self.poll()
        return len(self.connects)
