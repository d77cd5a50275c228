"""A fleet under load, with everything the checker wants to see: nodes with addresses of their own,
wires to Redis that can break, numbered messages, and changes through the API, all the time."""

import contextlib
import os
import random

from .broker_log import BrokerLog
from .checker import Checker
from .ledger import Changes, Ledger
from .node import Node
from .preload import preloaded
from .publisher import Publisher
from .redis_server import RedisServer
from .sink_view import FileView, StreamView
from .wait import wait_until
from .wire import Wire


class StageNode(Node):
    """Its connections come from `address`; `wire`: between it and Redis, or None."""

    address = None
    wire = None
    asleep = False

    def sleep(self):
        self.asleep = True
        self.pause()

    def wake(self):
        self.resume()
        self.asleep = False

    def spawn(self, argv, env=None):
        super().spawn(argv, preloaded(env, "source_address", E2E_SOURCE_ADDRESS=self.address))


class StageRedis(RedisServer):
    """Its clock can be shifted and its data deleted while it runs."""

    def __init__(self, folder):
        super().__init__(folder, append_only=True)
        self._clock = self.folder / "redis.clock"
        self.shift_clock(0)

    def spawn(self, argv, env=None):
        # Only 127.0.0.1 is loopback to its protected mode; the nodes come from other addresses.
        super().spawn([*argv, "--protected-mode", "no"],
                      preloaded(dict(os.environ), "clock_shift", E2E_CLOCK_FILE=str(self._clock)))

    def shift_clock(self, seconds):
        # Written in place and with a fixed length, so that the reader never sees half of it.
        self._clock.touch()
        with open(self._clock, "r+") as clock:
            clock.write(f"{seconds:+016d}\n")

    def lose_files(self):
        """Not while it runs."""
        for path in self.folder.glob("appendonlydir/*"):
            path.unlink()


class StagePublisher(Publisher):
    """Can pause, and knows whether its own connection broke, after which it sends again."""

    def __init__(self, *arguments, **options):
        self._breaks = 0
        self._paused = False
        super().__init__(*arguments, **options)

    def _run(self):
        self._client.on_disconnect = self._on_disconnect
        while not self._stopping.wait(self.interval_s):
            if not self._paused:
                self._publish_next()

    def _on_disconnect(self, *_):
        self._breaks += 1

    def take_breaks(self):
        """How often since the last call."""
        breaks, self._breaks = self._breaks, 0
        return breaks

    def snapshot(self):
        with self._lock:
            return set(self.acknowledged)

    @contextlib.contextmanager
    def paused(self):
        """Inside this block nothing is in transit."""
        self._paused = True
        wait_until(lambda: len(self.acknowledged) == self.sent, 20, "all published acknowledged")
        try:
            yield
        finally:
            self._paused = False


class Stage:
    def __init__(self, fleet, seed=0):
        self.fleet = fleet
        self.random = random.Random(seed)
        self.ids = []
        self.created = frozenset()  # those of them that the API has acknowledged
        self.id_set = set()
        self.rubbish = set()  # ids that a test put there and expects nothing of
        self.ledger = Ledger()
        self.publisher = self.sink = self.changes = self.checker = None
        self._addresses = {}
        self._sink_type = None
        self._settings = {}

    # ---- building --------------------------------------------------------------------------

    def start(self, nodes=3, clients=300, sink="redis_stream", wires=False, messages_per_s=100,
              changes_per_s=8, bound_s=60, fields=None, seed=0, **settings):
        """fields: more for each client's configuration; settings: of all nodes, __ for a dot."""
        fleet = self.fleet
        fleet._redis = self.redis = StageRedis(fleet.folder).start()
        fleet.others.append(self.redis)
        self.broker = fleet.start_broker(persistence=True)
        self.broker_log = BrokerLog(self.broker.log_path)
        self.fields = fields or {}
        self._sink_type, self._wired, self._settings = sink, wires, settings
        for _ in range(nodes):
            self.add_node()
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            node.wait_ready(node.ready, 30)
        self.ids = fleet.create(clients, make=self.document)
        self.id_set = set(self.ids)
        self.created = frozenset(self.ids)
        fleet.wait_online(self.ids, bound_s)
        self.sink = (StreamView(self.redis.bytes_client) if sink == "redis_stream"
                     else FileView([self._sink_path(node.name) for node in self.nodes]))
        if messages_per_s:
            self.publisher = fleet.closing(StagePublisher(
                self.broker, [f"t/{client}/x" for client in self.ids], messages_per_s))
        self.changes = fleet.closing(Changes(self, self.ledger, rate_per_s=max(changes_per_s, 1),
                                             seed=seed))
        self.checker = Checker(self)
        if changes_per_s:
            self.changes.go()
        else:
            self.changes.go = lambda: None
        return self

    def add_node(self, name=None, **more):
        """Not started."""
        name = name or f"n{len(self.fleet.nodes) + 1}"
        settings = {key.replace("__", "."): value
                    for key, value in {**self._settings, **more}.items()}
        settings["sink.type"] = self._sink_type
        if self._sink_type == "file":
            settings["sink.path"] = self._sink_path(name)
        wire = self.fleet.closing(Wire(self.redis.port)) if self._wired else None
        settings.setdefault("redis_config.url", wire.url if wire else self.redis.url)
        if self.fleet.engine:
            settings.setdefault("engine", self.fleet.engine)
        node = StageNode(name, self.fleet.folder, settings)
        node.address = f"127.0.1.{len(self.fleet.nodes) + 1}"
        node.wire = wire
        self._addresses[node.address] = name
        self.fleet.nodes.append(node)
        return node

    def _sink_path(self, name):
        return self.fleet.folder / f"{name}.ndjson"

    def add_clients(self, count, prefix, api=None):
        """Adds clients to watch, without messages; does not wait for them."""
        new = [f"{prefix}{number:05d}" for number in range(count)]
        # Watched from the moment when they may exist.
        self.ids += new
        self.id_set |= set(new)
        (api or self.answering_nodes()[0].api).create([self.document(one) for one in new])
        self.created |= set(new)
        return new

    # ---- configurations --------------------------------------------------------------------

    def document(self, client):
        return self.fleet.persistent(client, **self.fields)

    def revised(self, client, revision):
        return {**self.document(client), "labels": {"revision": str(revision)},
                "subscriptions": [{"filter": f"t/{client}/{revision}", "qos": 1}]}

    # ---- looking ---------------------------------------------------------------------------

    @property
    def nodes(self):
        return self.fleet.nodes

    def node_at(self, address):
        return self._addresses.get(address)

    def answering_nodes(self):
        """Nodes to ask: running, not stopped, and with a wire that carries."""
        return [node for node in self.nodes
                if node.running and not node.asleep
                and (node.wire is None or node.wire.mode == "through")]

    def shared(self):
        return self.fleet.shared()

    def clients_of(self, node):
        """The watched clients that the node owns now."""
        return frozenset(self.shared().bound.get(node.name, [])) & self.id_set

    def incarnation(self, node):
        return self.shared().register.get(node.name, {}).get("incarnation")

    def incarnations(self):
        return {name: entry["incarnation"] for name, entry in self.shared().register.items()}

    def leader(self):
        def leads():
            for node in self.answering_nodes():
                for name, entry in node.api.nodes().items():
                    if entry["leader"]:
                        return next((one for one in self.nodes if one.name == name), None)
        return wait_until(leads, 10, "a node leads")

    # ---- faults ----------------------------------------------------------------------------

    def survive(self, fault, rng=None):
        """Runs a fault of faults.py and verifies the invariants wherever it says so."""
        self.checker.begin()
        for expect in fault(self, rng or self.random):
            self.checker.verify(expect)
