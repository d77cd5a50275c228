"""Observes from outside how a fleet takes clients over: Redis's keys and the broker's log polled by a
thread of its own, the nodes' logs read afterwards."""

import datetime
import os
import re
import threading
import time

POLL_S = 0.01
SUBSCRIBED = re.compile(rb"^\d+: (\S+) [012] \S+$", re.MULTILINE)
LINE = re.compile(r"time=(\S+) level=\w+ event=(\w+) (.*)")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Poll:
    """Calls look() every 10 ms until it answers true, or for bound_s; `done` tells which. The results are in
    `seen`: name -> wall clock of the first observation."""

    def __init__(self, look, bound_s):
        self.seen = {}
        self.done = False
        self.error = None
        self._look = look
        self._bound_s = bound_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self):
        self._thread.start()
        return self

    def _mark(self, name):
        self.seen.setdefault(name, time.time())

    def _run(self):
        deadline = time.monotonic() + self._bound_s
        try:
            while not self.done and time.monotonic() < deadline and not self._ended.wait(POLL_S):
                self.done = bool(self._look(self._mark))
        except Exception as error:  # told to whoever waits
            self.error = error

    def finish(self, progress):
        """Waits for the end, telling progress() twice a second. True: seen to the end."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.5)
                progress()
        finally:
            self._ended.set()
        if self.error:
            raise self.error
        return self.done


class Arrivals:
    """Which of some identifiers have subscribed, by the broker's log from now on. The broker writes
    the line before it sends SUBACK in the same turn."""

    def __init__(self, path, identifiers):
        self.left = set(identifiers)
        self._path = path
        self._offset = os.path.getsize(path)

    def read(self):
        """How many are still to come."""
        with open(self._path, "rb") as log:
            log.seek(self._offset)
            data = log.read()
        whole = data[:data.rfind(b"\n") + 1]
        self._offset += len(whole)
        if self.left:
            self.left.difference_update(name.decode() for name in SUBSCRIBED.findall(whole))
        return len(self.left)


def logged(node, event, since, text=""):
    """When a node first logged an event after `since`, with `text` in the line's rest; or None."""
    for line in node.log().splitlines():
        match = LINE.match(line)
        if match and match[2] == event and text in match[3]:
            at = datetime.datetime.fromisoformat(match[1].replace("Z", "+00:00")).timestamp()
            if at >= since:
                return at
    return None


def process_cpu_s(process):
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def machine_cpu_s():
    with open("/proc/stat") as stat:
        fields = [int(word) for word in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS_PER_S


def dropped_connections():
    """How many connections the kernel has dropped so far because the listen backlog was full, of all
    servers on this machine. The peer tries again after a second."""
    with open("/proc/net/netstat") as counters:
        names, values = [line.split() for line in counters if line.startswith("TcpExt:")]
    return int(values[names.index("ListenOverflows")])


class CpuUse:
    """CPU seconds that these and all other processes use from now on."""

    def __init__(self, processes):
        self._processes = processes
        self._before = self._now()

    def _now(self):
        used = {one.name: process_cpu_s(one) for one in self._processes if one.running}
        return {**used, "bench": time.process_time(), "machine": machine_cpu_s()}

    def end(self):
        """By name; without those that have ended since."""
        now = self._now()
        used = {name: now[name] - self._before[name] for name in now}
        machine = used.pop("machine")
        used["others"] = max(machine - sum(used.values()), 0)
        return {name: round(value, 2) for name, value in used.items()}
