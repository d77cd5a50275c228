"""A node under a service manager: its notifications, its reactions to signals, and its health checks."""

import contextlib
import re
import shutil
import socket
import subprocess
import threading

import pytest

from fleet.node import BINARY, ROOT, Node
from fleet.preload import preloaded
from fleet.wait import PATIENCE, holds_for, wait_until

HUP = 1


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._told = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while message := self._socket.recv(4096):
            self._told.append(message.decode())

    def told(self):
        return list(self._told)

    def count(self, line):
        return sum(line in message.splitlines() for message in self.told())

    def status(self):
        return "\n".join(line for message in self.told() for line in message.splitlines()
                         if line.startswith("STATUS="))

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.path)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def manager(fleet, monkeypatch):
    assert fleet.redis and fleet.broker  # started before: they would tell, too
    manager = fleet.closing(Manager(fleet.folder / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    return manager


class Hanging(Node):
    """A node whose threads of one name hang while hang_file is there."""

    thread = "worker"

    def hang_file(self):
        return self.folder / f"{self.name}.hang"

    @contextlib.contextmanager
    def hanging(self):
        self.hang_file().touch()
        try:
            yield
        finally:
            self.hang_file().unlink()

    def spawn(self, argv, env=None):
        super().spawn(argv, preloaded(env, "hang", E2E_HANG_THREAD=self.thread,
                                      E2E_HANG_FILE=str(self.hang_file())))


class Narrow(Node):
    """A node that may open few files."""

    files = 1000

    def argv(self):
        return ["prlimit", f"--nofile={self.files}:{self.files}", *super().argv()]


def add(fleet, kind, name, **settings):
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    node = kind(name, fleet.folder, {"redis_config.url": fleet.redis.url, **dotted})
    fleet.nodes.append(node)
    return node


def verbose(node, path="/readyz"):
    answer = node.api.get(path + "?verbose", timeout=10)
    return answer.status_code, answer.text.splitlines()


def test_the_manager_is_told_ready_alive_reloading_and_stopping(fleet, manager):
    node = fleet.start_node()
    wait_until(lambda: manager.count("READY=1") == 1, 10)
    wait_until(lambda: manager.count("WATCHDOG=1") >= 3, 10)
    fleet.online(2)
    wait_until(lambda: "member: 2 clients, 2 online" in manager.status(), 15)
    node.signal(HUP)
    wait_until(lambda: manager.count("READY=1") == 2, 10)
    reloading = next(message for message in manager.told() if "RELOADING=1" in message)
    assert re.search(r"^MONOTONIC_USEC=\d+$", reloading, re.M)
    assert node.terminate() == 0
    assert manager.count("STOPPING=1") == 1
    environ = subprocess.run([BINARY, "--version"], capture_output=True, text=True, timeout=20)
    assert environ.returncode == 0  # actions tell nothing
    assert manager.count("READY=1") == 2


@pytest.mark.parametrize("thread", ["worker", "heartbeat", "agent"])
def test_the_watchdog_is_left_alone_when_a_thread_hangs(fleet, manager, thread):
    node = add(fleet, Hanging, "hanging", stall_ms=1000, heartbeat_ms=300, heartbeat_ttl_ms=600,
               redis_config__timeout_ms=300, peer_timeout_ms=300)
    node.thread = thread
    node.start()
    wait_until(lambda: manager.count("WATCHDOG=1") >= 2, 10)
    with node.hanging():
        wait_until(lambda: verbose(node, "/livez")[0] == 503, 20, "not alive")
        lines = verbose(node, "/livez")[1]
        assert lines[0].startswith(f"[-]threads failed: thread {thread} has made no progress for")
        out, told = node.run_to_end("--check-live")
        assert not out and f"HTTP 503\n[-]threads failed: thread {thread} " in told
        wait_until(lambda: f"thread_hangs thread={thread}" in node.log(), 10)
        told = manager.count("WATCHDOG=1")
        holds_for(lambda: manager.count("WATCHDOG=1") == told, 2, "no ping of a hung node")
    wait_until(lambda: manager.count("WATCHDOG=1") > told + 3, 20, "pings again")
    wait_until(lambda: verbose(node, "/livez") == (200, ["[+]threads ok", "livez check passed"]),
               10)


def test_redis_away_is_no_reason_for_the_watchdog(fleet, manager):
    node = fleet.start_node(stall_ms=1000, redis_config__timeout_ms=500)
    fleet.redis.pause()
    wait_until(lambda: any(line.startswith("[-]redis failed: last answered")
                           for line in verbose(node)[1]), 20, "Redis is away")
    told = manager.count("WATCHDOG=1")
    wait_until(lambda: manager.count("WATCHDOG=1") >= told + 12, 20, "pings go on")
    assert node.alive() and "thread_hangs" not in node.log()
    fleet.redis.resume()


def test_readiness_is_a_line_for_each_check(fleet):
    node = fleet.start_node(sink__type="file", sink__path=fleet.folder / "out")
    code, lines = verbose(node)
    assert code == 200 and lines[-1] == "readyz check passed"
    assert all(line.startswith("[+]") for line in lines[:-1]), lines
    assert {"[+]redis ok", "[+]lease ok", "[+]sink.file ok", "[+]threads ok"} <= set(lines)
    assert node.api.post(f"/api/v1/nodes/{node.name}/drain").status_code < 300
    wait_until(lambda: verbose(node)[0] == 503, 10)
    assert "[-]placement failed: draining" in verbose(node)[1]
    assert verbose(node)[1][-1] == "readyz check failed"
    assert node.alive()


def test_sighup_takes_over_what_it_can_and_names_the_rest(fleet):
    config = fleet.folder / "node.yml"
    config.write_text("log:\n  level: info\nreconnect_min_ms: 500\n")
    node = fleet.new_node(config=config).start()
    config.write_text("log:\n  level: debug\nreconnect_min_ms: 700\nstop_timeout_ms: 20000\n")
    node.signal(HUP)
    wait_until(lambda: "event=reloaded" in node.log(), 10)
    line = next(line for line in node.log().splitlines() if "reload_needs_restart" in line)
    assert "reconnect_min_ms" in line and "stop_timeout_ms" in line and "log.level" not in line
    fleet.online(1)
    assert "level=debug" in node.log()
    config.write_text("surprise: 1\n")
    node.signal(HUP)
    wait_until(lambda: "event=reload_failed" in node.log(), 10)
    assert "surprise" in node.log() and node.ready()
    many = ("max_packet_bytes buffer_bytes http.workers http.waiters http.streams_max sink.maxlen "
            "sink.queue_messages sink.queue_bytes sink.batch coalesce_ms mass_death_wait_ms "
            "connect_timeout_ms connect_in_flight connect_rate stable_ms conflict_losses "
            "publish_timeout_ms resolver_threads dns_ttl_ms").split()  # and their values:
    values = [99999, 9999999, 3, 4, 5, 6, 7, 99999, 8, 9, 10, 9999, 11, 12, 999, 13, 999, 14, 15]
    config.write_text("".join(f"{name}: {value}\n" for name, value in zip(many, values)))
    mark = len(node.log())
    node.signal(HUP)
    wait_until(lambda: "event=reloaded" in node.log()[mark:], 10)
    said = [line for line in node.log()[mark:].splitlines() if "reload_needs_restart" in line]
    assert said and all(name in said[0] for name in many), node.log()[mark:]


def test_a_slow_stop_says_every_second_what_is_left(fleet):
    node = fleet.start_node(stop_timeout_ms=8000)
    fleet.online(3)
    fleet.redis.pause()  # so that nothing can be given back
    assert node.terminate() == 1
    lines = [line for line in node.log().splitlines() if "event=stop_progress" in line]
    assert len(lines) >= 3, node.log()[-2000:]
    assert all("releases=3" in line for line in lines)
    assert "clients=0" in lines[-1]
    last = next(line for line in node.log().splitlines() if "event=stop_incomplete" in line)
    assert "clients=0" in last and "releases=3" in last
    fleet.redis.resume()


def test_few_open_files_lower_the_size_or_stop_the_start(fleet):
    narrow = add(fleet, Narrow, "narrow").start()
    line = next(line for line in narrow.log().splitlines() if "few_open_files" in line)
    assert "limit=1000" in line and "size_wanted=10000" in line and "LimitNOFILE" in line
    size = int(re.search(r" size=(\d+)", line)[1])
    assert 0 < size < 1000
    assert narrow.api.nodes()["narrow"]["size"] == size
    narrow.signal(HUP)
    wait_until(lambda: "event=reloaded" in narrow.log(), 10)
    assert "reload_needs_restart" not in narrow.log()
    tiny = add(fleet, Narrow, "tiny")
    tiny.files = 200
    assert tiny.start_and_end() == 2
    assert "limit of 200" in tiny.log() and "LimitNOFILE" in tiny.log()


def test_a_state_folder_that_others_can_write_to_is_refused(fleet):
    folder = fleet.folder / "open-state"
    folder.mkdir()
    folder.chmod(0o777)
    node = fleet.new_node("open", redis_config__url="embedded", state_dir=folder)
    assert node.start_and_end() == 1
    assert "chmod go-w" in node.log() and str(folder) in node.log()
    folder.chmod(0o700)
    node.start()
    fleet.online(1)
    for path in folder.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o077 == 0, path
    folder.rename(fleet.folder / "moved")
    (fleet.folder / "file").touch()
    other = fleet.new_node("other", redis_config__url="embedded", state_dir=fleet.folder / "file")
    assert other.start_and_end() == 1
    node.kill()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_the_unit_is_valid_and_well_closed(tmp_path):
    unit = tmp_path / "mqfleetd.service"
    unit.write_text((ROOT / "conf/mqfleetd.service").read_text()
                    .replace("/usr/bin/mqfleetd", str(BINARY)))
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True,
                            timeout=60 * PATIENCE)
    assert result.returncode == 0 and "mqfleetd" not in result.stderr, result.stderr
    security = subprocess.run(["systemd-analyze", "security", "--offline=true", unit],
                              capture_output=True, text=True, timeout=60 * PATIENCE)
    exposure = float(re.search(r"exposure level for \S+: ([\d.]+)", security.stdout)[1])
    assert exposure <= 2, security.stdout
