"""The parts of one measurement of tools/bench/compare: a broker, the load, one peer, and their values in
/proc. Every process is started here and ended by its pid."""

import ctypes
import json
import os
import pathlib
import select
import signal
import subprocess
import time

from fleet.broker import Broker
from fleet.node import Node
from fleet.redis_server import RedisServer
from watch import Arrivals

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
PREFIX = "bench/"
POST_AT_ONCE = 5000
PAGE = 500
HERE = pathlib.Path(__file__).resolve().parent

# The broker neither drops nor delays messages; its log shows the subscriptions.
BROKER_OPTIONS = ["max_connections -1", "max_inflight_messages 0", "sys_interval 0",
                  "memory_limit 4294967296"]


class Failed(Exception):
    """A measurement could not be taken."""


# What the harness of the tests says when something did not work, too.
FAILURES = (Failed, AssertionError, OSError)  # requests' errors are OSErrors


# ---- /proc --------------------------------------------------------------------------------------

def threads_cpu_s(pid):
    """{thread's name: CPU seconds}, in nanoseconds' resolution (utime + stime count in 10 ms)."""
    used = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            spent = int((task / "schedstat").read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has just ended
        used[name] = used.get(name, 0) + spent
    return used


def cpu_s(pid):
    return sum(threads_cpu_s(pid).values())


def memory_kb(pid):
    """Resident and proportional size."""
    rows = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    values = {row.split(":")[0]: int(row.split()[1]) for row in rows}
    return {"rss_kb": values["Rss"], "pss_kb": values["Pss"]}


def machine_busy_s():
    """CPU seconds that all processes of this machine have used."""
    with open("/proc/stat") as stat:
        fields = [int(word) for word in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


class Window:
    """CPU seconds that each process uses from now until end()."""

    def __init__(self, site):
        self.site = site
        self.began, self.own, self.busy = time.monotonic(), time.process_time(), machine_busy_s()
        self.threads = threads_cpu_s(site.peer.pid)
        self.before = {name: cpu_s(pid) for name, pid in site.others().items()}

    def end(self):
        threads = threads_cpu_s(self.site.peer.pid)
        used = {name: cpu_s(pid) - self.before[name] for name, pid in self.site.others().items()}
        spent = time.monotonic() - self.began
        by_thread = {name: value - self.threads.get(name, 0) for name, value in threads.items()}
        peer = sum(by_thread.values())
        rest = machine_busy_s() - self.busy - peer - sum(used.values()) - (
            time.process_time() - self.own)
        return {
            "seconds": round(spent, 3), "cpu_s": round(peer, 6),
            "threads_cpu_s": {name: round(value, 6) for name, value in by_thread.items()
                              if value > 0.001},
            **{f"{name}_cpu_s": round(value, 4) for name, value in used.items()},
            "others_share": round(max(rest, 0) / spent, 3),  # of one core: was the machine quiet?
        }


# ---- processes that receive commands ---------------------------------------------------------------

class Spoken:
    """A process that answers a line with a line of JSON (tools/bench/peers/peer.h)."""

    def __init__(self, name, site, argv):
        self.name, self._text = name, b""
        self.log_path = site.folder / f"{name}.log"
        env = {**os.environ, "BENCH_NODE_MODULES": str(site.programs.absolute() / "node_modules")}
        with open(self.log_path, "wb") as log:
            self.popen = subprocess.Popen(
                [str(word) for word in argv], cwd=site.folder, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, env=env, bufsize=0,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        self.answer(20)

    @property
    def pid(self):
        return self.popen.pid

    @property
    def running(self):
        return self.popen.poll() is None

    def say(self, line):
        try:
            self.popen.stdin.write(line.encode() + b"\n")
        except BrokenPipeError as error:
            raise Failed(f"{self.name} has ended: {self.log()}") from error

    def answer(self, bound_s):
        deadline = time.monotonic() + bound_s
        while b"\n" not in self._text:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.popen.stdout], [], [], left)[0]:
                raise Failed(f"{self.name}: no answer within {bound_s:g} s")
            more = os.read(self.popen.stdout.fileno(), 1 << 20)
            if not more:
                raise Failed(f"{self.name} has ended: {self.log()}")
            self._text += more
        line, _, self._text = self._text.partition(b"\n")
        return json.loads(line)

    def ask(self, line, bound_s=30):
        self.say(line)
        return self.answer(bound_s)

    def log(self):
        return self.log_path.read_text(errors="replace")[-2000:]

    def kill(self):
        self.popen.kill()
        self.popen.wait()
        self.popen.stdin.close()
        self.popen.stdout.close()


# ---- peers --------------------------------------------------------------------------------------

class Program(Spoken):
    """A peer of tools/bench/peers."""

    def __init__(self, site, argv):
        words = ["--port", site.broker.port, "--clients", site.clients, "--prefix", PREFIX,
                 "--qos", 1, "--keepalive", 60]
        super().__init__("peer", site, argv + words
                         + (["--ca", site.authority.ca] if site.authority else []))

    def start(self):
        self.say("start")

    def started(self, bound_s):
        assert "online" in self.answer(bound_s)

    def mark(self):
        self.ask("mark")

    def report(self):
        return self.ask("report")

    def others(self):
        return {}


class Hosting:
    """mqfleetd with its own Redis. What it received is in its clients' statuses, or in the
    sink: `file` is followed by a program that takes the delay of each line, `redis_stream` counts
    by itself."""

    def __init__(self, site, engine, sink):
        self.site, self.sink, self.follower = site, sink, None
        self.redis = RedisServer(site.folder).start()
        settings = {"engine": engine, "sink.type": sink, "node_info.size": site.clients,
                    "redis_config.url": self.redis.url}
        if site.authority:
            settings["secrets.files_allow"] = site.authority.ca.parent
        if sink == "file":
            path = site.memory_folder / "messages.ndjson"
            settings["sink.path"] = path
            self.follower = Spoken("follow", site,
                                   [site.programs / "follow", "--path", path])
        try:
            self.node = Node("node", site.folder, settings).start()
        except AssertionError as error:
            self.redis.kill()
            raise Failed(str(error)) from error
        self.base = 0
        time.sleep(1.5)  # leads, and beats

    @property
    def pid(self):
        return self.node.pid

    @property
    def running(self):
        return self.node.running

    def others(self):
        followers = {"follow": self.follower.pid} if self.follower else {}
        return {"redis": self.redis.pid, **followers}

    def document(self, client):
        tls = {"tls": {"ca": str(self.site.authority.ca)}} if self.site.authority else {}
        return {"id": client, "url": self.site.broker.url, **tls,
                "subscriptions": [{"filter": PREFIX + client[1:], "qos": 1}]}

    def start(self):
        documents = [self.document(client) for client in self.site.ids]
        for at in range(0, len(documents), POST_AT_ONCE):
            self.node.api.create(documents[at:at + POST_AT_ONCE])

    def started(self, bound_s):
        pass

    def count(self):
        if self.sink == "redis_stream":
            try:
                return self.redis.client.xinfo_stream("mqtt_msg")["entries-added"]
            except Exception:  # no stream yet
                return 0
        total, query = 0, {"limit": PAGE}
        while True:
            page = self.node.api.get("/api/v1/clients", params=query).json()
            total += sum(one["status"].get("messages_in", 0) for one in page["clients"])
            if page["next_cursor"] is None:
                return total
            query["cursor"] = page["next_cursor"]

    def mark(self):
        if self.follower:
            self.follower.ask("mark")
        else:
            self.base = self.count()

    def report(self):
        if self.follower:
            return self.follower.ask("report")
        return {"received": self.count() - self.base}

    def log(self):
        return self.node.log()[-2000:]

    def kill(self):
        for process in (self.node, self.redis, self.follower):
            if process:
                process.kill()


# ---- one measurement ------------------------------------------------------

class Site:
    """Broker, load and one peer, whose clients are not started yet."""

    def __init__(self, folder, programs, clients, make_peer, authority=None):
        self.folder, self.programs, self.clients = folder, programs, clients
        self.authority = authority
        self.ids = [f"c{number:05d}" for number in range(clients)]
        self.memory_folder = pathlib.Path("/dev/shm") / folder.name
        self.broker = self.load = self.peer = None
        try:
            self.memory_folder.mkdir()
            self.broker = Broker(folder, options=BROKER_OPTIONS, tls=authority).start()
            if not authority:
                self.load = Spoken("load", self, [
                    programs / "load", "--port", self.broker.port, "--clients", clients,
                    "--prefix", PREFIX])
            self.peer = make_peer(self)
        except BaseException:
            self.close()
            raise

    def close(self):
        for process in (self.peer, self.load, self.broker):
            if process:
                process.kill()
        for path in self.memory_folder.glob("*"):
            path.unlink()
        if self.memory_folder.exists():
            self.memory_folder.rmdir()

    def others(self):
        load = {"load": self.load.pid} if self.load else {}
        return {"broker": self.broker.pid, **load, **self.peer.others()}

    def bring_online(self, bound_s, tell):
        """Seconds until the broker has all subscriptions."""
        arrivals = Arrivals(self.broker.log_path, self.ids)
        began = time.monotonic()
        self.peer.start()
        while arrivals.read() > 0:
            if not self.peer.running or time.monotonic() - began > bound_s:
                raise Failed(f"{len(arrivals.left)} of {self.clients} not online within "
                             f"{bound_s:g} s\n{self.peer.log()}")
            tell(f"{self.clients - len(arrivals.left)} online")
            time.sleep(0.005)
        online_s = time.monotonic() - began
        self.peer.started(bound_s)
        return online_s

    def run_load(self, rate, seconds, qos, size):
        return self.load.ask(f"run {rate} {int(seconds * 1000)} {qos} {size}", seconds + 20)
