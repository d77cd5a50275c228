"""The log never blocks the node, whatever its reader does, and the last lines are written."""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import threading

import pytest

from fleet.node import sanitized
from fleet.operator import metrics, total
from fleet.wait import PATIENCE, wait_until

DROPPED = "mqfleet_log_lines_dropped_total"
SMALL = {"log__buffer_bytes": 65536}
FULL = b"." * 65536


class Pipe:
    """The node's stderr: a pipe that is full, until somebody reads it."""

    def __init__(self, node):
        self.reads, self.writes = os.pipe()
        os.set_blocking(self.writes, False)
        self.filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self.filled += os.write(self.writes, FULL)
        os.set_blocking(self.writes, True)
        node.stderr = self.writes
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self):
        while data := os.read(self.reads, 65536):
            self._data += data

    def read(self):
        """Reads from now on until the node ends."""
        os.close(self.writes)
        self.writes = None
        self._thread.start()

    def text(self):
        return bytes(self._data[self.filled:]).decode()

    def lines(self):
        """All lines, each complete, once the node has ended."""
        self._thread.join(20 * PATIENCE)
        assert not self._thread.is_alive()
        *lines, rest = self.text().split("\n")
        assert rest == "" and all(re.match(r"time=\S+ level=\w+ event=\w+", line)
                                  for line in lines), self.text()[-2000:]
        return lines

    def close(self):
        if self.writes is not None:
            os.close(self.writes)
        if not self._thread.is_alive():
            os.close(self.reads)


def start(fleet, **settings):
    node = fleet.new_node(**settings)
    pipe = fleet.closing(Pipe(node))
    node.start()
    return node, pipe


def chatter(node, client="c"):
    """Some lines of the log."""
    for verb in ("pause", "resume"):
        assert node.api.post(node.api.path(client, verb)).status_code in (200, 202)


def chatter_until_dropped(node):
    wait_until(lambda: chatter(node) or total(node, DROPPED) > 0, 60, "lines dropped", 0)


def heartbeats(node):
    return metrics(node)['mqfleet_heartbeats_total{result="ok"}']


def test_case_F8_a_log_that_nobody_reads_holds_up_nothing(fleet):
    node, pipe = start(fleet, **SMALL)
    fleet.api.create([fleet.document(client) for client in ("c", "d")])
    fleet.wait_online(["c", "d"])
    chatter_until_dropped(node)
    # It sends heartbeats, accepts messages, answers requests, and publishes.
    before = heartbeats(node)
    wait_until(lambda: heartbeats(node) >= before + 3, 20, "heartbeats go on")
    fleet.broker.publish_all([("t/d/x", b"%d" % number) for number in range(20)])
    fleet.stream.wait_payloads([b"%d" % number for number in range(20)], 20)
    assert node.ready() and node.alive()
    fleet.api.wait_state("c", "online")
    # The descriptor may be shared with others: it is left as it was.
    assert os.get_blocking(pipe.writes)
    # The reader is back: every line is written or counted as lost.
    dropped = {key: value for key, value in metrics(node).items() if key.startswith(DROPPED)}
    pipe.read()
    wait_until(lambda: "event=log_dropped" in pipe.text(), 20, "the losses are told")
    assert node.terminate() == 0
    lines = pipe.lines()
    told = {level: sum(int(count) for line in lines for count in re.findall(
        rf"level={level} event=log_dropped lines=(\d+) first_at=\S+ last_at=\S+", line))
        for level in ("error", "audit")}
    audit = dropped.pop(f'{DROPPED}{{level="audit"}}')
    assert told == {"error": sum(dropped.values()), "audit": audit}, dropped
    assert "event=stopped" in lines[-1]


def test_case_F8_the_audit_trail_outlives_a_burst_of_other_lines(fleet):
    """Space is reserved for its lines."""
    node, pipe = start(fleet, **SMALL, log__level="debug")
    fleet.api.create(fleet.document("c"))
    chatter_until_dropped(node)
    assert metrics(node)[f'{DROPPED}{{level="audit"}}'] == 0
    marks = [f"mark-{number}" for number in range(5)]
    for mark in marks:
        node.api.create(fleet.document(mark))
    pipe.read()
    assert node.terminate() == 0
    audit = [line for line in pipe.lines() if "level=audit" in line]
    assert all(any(mark in line for line in audit) for mark in marks), audit[-20:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_case_F8_a_node_whose_log_nobody_reads_can_be_stopped(fleet, number):
    node, _ = start(fleet, **SMALL)
    fleet.api.create(fleet.document("c"))
    fleet.wait_online(["c"])
    chatter_until_dropped(node)
    node.expected_exit = True
    node.signal(number)
    assert node.wait_exit(20) == 0
    assert fleet.shared().waiting == {"c"}, "given back"


@pytest.mark.skipif(sanitized(), reason="a sanitizer reports the threads that are left to stderr")
def test_case_F8_a_second_signal_ends_it_at_once(fleet):
    node, _ = start(fleet, **SMALL, stop_timeout_ms=60000)
    fleet.api.create(fleet.document("c"))
    fleet.wait_online(["c"])
    fleet.redis.pause()  # nothing can be given back: a stop takes its time
    node.expected_exit = True
    node.signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        node.popen.wait(1)
    node.signal(signal.SIGTERM)
    assert node.wait_exit(10) == 128 + signal.SIGTERM
    fleet.redis.resume()


def test_case_F8_a_reader_that_is_stopped_for_a_while_misses_nothing(fleet):
    """The default buffer has room for the lines of that time."""
    node = fleet.new_node()
    with open(node.log_path, "wb") as file:
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    node.stderr = reader.stdin
    reader.send_signal(signal.SIGSTOP)
    try:
        node.start()
        reader.stdin.close()
        fleet.api.create(fleet.document("c"))
        fleet.wait_online(["c"])
        for _ in range(500):
            chatter(node)
        assert total(node, DROPPED) == 0
    finally:
        reader.send_signal(signal.SIGCONT)
    assert node.terminate() == 0
    assert reader.wait(20 * PATIENCE) == 0
    log = node.log()
    assert len(re.findall(r"level=audit event=audit .*path=\S*/pause", log)) == 500, log[-3000:]
    assert "log_dropped" not in log and "event=stopped" in log.splitlines()[-1]


@pytest.mark.skipif(sanitized(), reason="a sanitizer has its own handlers")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGQUIT])
def test_case_F8_the_last_lines_before_a_crash_come_out(fleet, number):
    node, pipe = start(fleet)
    fleet.api.create(fleet.document("c"))
    fleet.wait_online(["c"])
    node.api.create(fleet.document("last"))  # its lines wait: the pipe is full
    node.expected_exit = True
    node.signal(number)
    pipe.read()
    assert node.wait_exit(20) == -number
    assert any("level=audit" in line and "last" in line for line in pipe.lines()), pipe.text()


@pytest.mark.skipif(sanitized(), reason="a sanitizer has its own handlers")
def test_case_F8_a_crash_does_not_wait_for_a_reader_that_stands_still(fleet):
    node, _ = start(fleet)
    node.expected_exit = True
    node.signal(signal.SIGSEGV)
    assert node.wait_exit(20) == -signal.SIGSEGV


def test_case_F8_a_full_disk_under_the_log_holds_up_nothing(fleet):
    node = fleet.new_node(**SMALL)
    with open("/dev/full", "wb") as full:
        node.stderr = full
        node.start()
    fleet.api.create(fleet.document("c"))
    fleet.wait_online(["c"])
    chatter_until_dropped(node)
    assert node.terminate() == 0


def test_case_F8_without_stderr_no_socket_takes_its_place(fleet):
    node = fleet.new_node(log__level="debug")
    node.spawn(["sh", "-c", 'exec "$@" 2>&-', "sh", *node.argv()])
    node.wait_ready(node.ready, 30)
    fleet.api.create(fleet.document("c"))
    fleet.wait_online(["c"])
    chatter(node)
    assert os.readlink(f"/proc/{node.pid}/fd/2") == "/dev/null"
    assert node.terminate() == 0
