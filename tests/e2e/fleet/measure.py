"""Measures the effect on a healthy client (the time from publication to sink) and the cost of a process."""

import os
import pathlib
import time

from .publisher import Publisher
from .wait import PATIENCE, holds_for, wait_until

NOISE_MS = 50  # of a machine with other work
IDLE_SHARE_MAX = 0.15 * PATIENCE
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Pulse(Publisher):
    """Each payload carries its number and when it was published, each entry of the stream when
    Redis got it: both by the clock of this machine."""

    def __init__(self, broker, topics, redis, rate_per_s=100):
        self._redis = redis
        self._last_entry = "-"
        self._delays = {}  # ms, by number
        super().__init__(broker, topics, rate_per_s, name="pulse")

    def make_payload(self, number):
        return b"%d:%d" % (number, time.time_ns() // 1_000_000)

    def delays(self, first, last=None, bound_s=30):
        """Sorted delays in ms of numbers first to last (default: all so far); all must arrive."""
        numbers = range(first, last or self.sent)

        def all_there():
            self._read()
            missing = [number for number in numbers if number not in self._delays]
            assert not missing, f"{len(missing)} of {len(numbers)}, such as {missing[:5]}"
            return True
        wait_until(all_there, bound_s, "published messages are in the sink", poll_s=0.2)
        return sorted(self._delays[number] for number in numbers)

    def _read(self):
        while page := self._redis.bytes_client.xrange("mqtt_msg", self._last_entry, "+", 5000):
            for entry, fields in page:
                number, sent_ms = map(int, fields[b"payload"].split(b":"))
                self._delays.setdefault(number, int(entry.split(b"-")[0]) - sent_ms)
            self._last_entry = b"(" + page[-1][0]


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def cpu_s(process):
    """User and system CPU time of a process so far."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def busiest_share(processes, duration_s):
    """Share of a core during the next seconds. A loop that spins gets 0.3 and more even on a
    machine with ten times as much to do as it can; see IDLE_SHARE_MAX."""
    spent, began = [cpu_s(process) for process in processes], time.monotonic()
    holds_for(lambda: True, duration_s)
    elapsed_s = time.monotonic() - began
    return max(cpu_s(process) - before for process, before in zip(processes, spent)) / elapsed_s


def assert_undelayed(before, during):
    """Sorted delays in ms; delays up to NOISE_MS are negligible."""
    for share, slack in ((0.5, 5), (0.99, 10)):
        usual, now = percentile(before, share), percentile(during, share)
        assert now <= slack * max(usual, NOISE_MS * PATIENCE), (
            f"{now} ms instead of {usual} ms are the {share:.0%} of the healthy clients' delays")
