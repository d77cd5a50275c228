"""The processes of one test: a Redis, a broker and nodes, which always end with it."""

import pytest

from .broker import Broker
from .invariants import Shared, check_s1
from .node import BINARY, Node
from .redis_server import RedisServer
from .stream import Stream
from .wait import wait_until


class Fleet:
    """The Redis and the default broker start on first use. engine: of the nodes; None: their default."""

    def __init__(self, folder, engine=None):
        self.folder = folder
        self.engine = engine
        self.nodes = []
        self.others = []
        self._redis = None
        self._broker = None
        self._stream = None
        self._closers = []

    # ---- parts -----------------------------------------------------------------------------

    def start_redis(self, **options):
        assert self._redis is None
        self._redis = RedisServer(self.folder, **options).start()
        self.others.append(self._redis)
        return self._redis

    @property
    def redis(self):
        return self._redis or self.start_redis()

    def start_broker(self, name="broker", **options):
        broker = Broker(self.folder, name, **options).start()
        self.others.append(broker)
        if name == "broker":
            self._broker = broker
        return broker

    def start_other(self, make, **options):
        """A broker of other_brokers.py; without it the test is skipped."""
        if make.missing():
            pytest.skip(f"{make.missing()} is not installed")
        self.others.append(make(self.folder, **options).start())
        return self.others[-1]

    @property
    def broker(self):
        return self._broker or self.start_broker()

    @property
    def stream(self):
        if self._stream is None:
            self._stream = Stream(self.redis.bytes_client)
        return self._stream

    def new_node(self, name=None, config=None, binary=BINARY, **settings):
        """Not started. A setting's name with __ for each dot: sink__type="file"."""
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        dotted.setdefault("redis_config.url", self.redis.url)
        if self.engine:
            dotted.setdefault("engine", self.engine)
        node = Node(name or f"n{len(self.nodes) + 1}", self.folder, dotted, config, binary)
        self.nodes.append(node)
        return node

    def start_node(self, name=None, **settings):
        return self.new_node(name, **settings).start()

    def start_nodes(self, count, **settings):
        nodes = [self.new_node(**settings).start(wait=False) for _ in range(count)]
        for node in nodes:
            node.wait_ready(node.ready, 30)
        return nodes

    def closing(self, thing):
        """Its close() is called at the end of the test."""
        self._closers.append(thing.close)
        return thing

    def at_end(self, function):
        self._closers.append(function)

    # ---- clients ---------------------------------------------------------------------------

    @property
    def api(self):
        return next(node for node in self.nodes if node.running).api

    def document(self, client, **more):
        """A configuration for the default broker with the topic t/<id>/# at QoS 1."""
        return {"id": client, "url": self.broker.url,
                "subscriptions": [{"filter": f"t/{client}/#", "qos": 1}], **more}

    def persistent(self, client, **more):
        """The same with a session that outlives its connections."""
        return self.document(client, clean_start=False, session_expiry_s=3600,
                             protocol_version=5, **more)

    def create(self, count, prefix="c", make=None, api=None, **more):
        """Posts `count` clients in one request; their ids."""
        ids = [f"{prefix}{number:05d}" for number in range(count)]
        make = make or self.document
        (api or self.api).create([make(client, **more) for client in ids])
        return ids

    def wait_online(self, ids, bound_s=30, api=None):
        ids = set(ids)

        def all_online():
            states = {one["id"]: one["status"]["state"] for one in (api or self.api).clients()}
            late = {client: states.get(client) for client in ids
                    if states.get(client) != "online"}
            assert not late, f"{len(late)} of {len(ids)}, such as {dict(list(late.items())[:5])}"
            return True

        wait_until(all_online, bound_s, f"{len(ids)} clients online", poll_s=0.1)

    def online(self, count, prefix="c", **options):
        ids = self.create(count, prefix, **options)
        self.wait_online(ids)
        return ids

    def shared(self):
        return Shared(self.redis.client)

    def check_s1(self, ids=None):
        return check_s1(self.redis.client, ids)

    def wait_s1(self, ids=None, bound_s=20):
        return wait_until(lambda: self.check_s1(ids), bound_s, "S1")

    # ---- the end ---------------------------------------------------------------------------

    def close(self):
        """Ends everything in order; returns the problems."""
        faults = []
        for other in self.others:
            other.resume()
        running = [node for node in self.nodes if node.running]
        for node in running:
            node.resume()
            node.signal(15)
        for node in running:
            faults += self._end(node)
        for node in self.nodes:
            faults += node.faults()
        for function in self._closers:
            function()
        for other in self.others:
            other.kill()
        return faults

    @staticmethod
    def _end(node):
        try:
            code = node.wait_exit(45)
            return [] if code == 0 else [f"{node.name} ended with {code} on SIGTERM"]
        except AssertionError as error:
            return [str(error)]
        finally:
            node.kill()

    def logs(self):
        return [(node.name, node.log()) for node in [*self.nodes, *self.others]]
