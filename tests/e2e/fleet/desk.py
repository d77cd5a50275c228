"""A node whose brokers the tests implement, and a client of a real broker that must not be affected."""

import concurrent.futures
import contextlib
import itertools

from .scripted import ScriptedBroker
from .wait import wait_until

HEALTHY = "healthy"


class Desk:
    """One node for many tests; each has its own clients and brokers. Retries come soon."""

    SETTINGS = {"reconnect_min_ms": 20, "reconnect_max_ms": 200, "connect_timeout_ms": 3000,
                "conflict_min_ms": 200, "conflict_max_ms": 400, "publish_timeout_ms": 8000,
                # These tests lose connections repeatedly; no other node takes the clients over.
                "conflict_losses": 1000}

    def __init__(self, fleet, **settings):
        self.fleet = fleet
        self.node = fleet.start_node(**{**self.SETTINGS, **settings})
        self.api = self.node.api
        self.api.create(fleet.document(HEALTHY))
        self.api.wait_state(HEALTHY, "online")
        self._numbers = itertools.count()
        self._clients, self._brokers = [], []
        self._pool = concurrent.futures.ThreadPoolExecutor(64)
        fleet.at_end(self._pool.shutdown)

    def broker(self, **options):
        self._brokers.append(ScriptedBroker(**options))
        return self._brokers[-1]

    def document(self, broker, version, **config):
        """A configuration with a unique name and the topic t/# with QoS 2."""
        return {"id": f"x{next(self._numbers)}", "url": broker.url, "protocol_version": version,
                "subscriptions": [{"filter": "t/#", "qos": 2}], **config}

    def client(self, broker, version, **config):
        """Creates one; its id."""
        return self.add(self.document(broker, version, **config))

    def add(self, document):
        self.api.create(document)
        self._clients.append(document["id"])
        return document["id"]

    def remove(self, client):
        self._clients.remove(client)
        self.api.delete(self.api.path(client))

    def persistent(self, broker, version, **config):
        """The same with a session that outlives its connections."""
        expiry = {"session_expiry_s": 3600} if version == 5 else {}
        return self.client(broker, version, clean_start=False, **expiry, **config)

    def publish(self, client, topic, payload="", **more):
        """The answer in future."""
        return self.submit(self.api.publish, client, topic, payload, **more)

    def submit(self, function, *arguments, **options):
        """Runs in parallel to the test; returns the future."""
        return self._pool.submit(function, *arguments, **options)

    def payloads(self, client):
        """Its messages in the sink, oldest first."""
        return [row[b"payload"] for row in self.fleet.stream.of(client)]

    def wait_payloads(self, client, wanted, bound_s=20):
        """Asserts that the sink has exactly these, in this order."""
        def all_there():
            got = self.payloads(client)
            assert got == list(wanted), f"{got} instead of {wanted}"
            return True
        wait_until(all_there, bound_s, f"messages of {client}")

    def wait_error(self, client):
        """The last error, once there is one."""
        return wait_until(lambda: self.api.status(client)["last_error"], 20, "an error is shown")

    @contextlib.contextmanager
    def broken_stream(self):
        """Inside this block the sink accepts nothing, while Redis works otherwise."""
        redis, key = self.fleet.redis.client, self.fleet.stream.key
        redis.xadd(key, {"id": "nobody", "payload": "so that there is one"})
        redis.rename(key, "kept")
        redis.set(key, "not a stream")
        try:
            yield
        finally:
            redis.rename("kept", key)

    def check_others(self):
        """Asserts that the node is alive and the client of the real broker receives messages."""
        assert self.node.running and self.node.alive()
        payload = b"still here %d" % next(self._numbers)
        self.fleet.broker.publish(f"t/{HEALTHY}/x", payload)
        wait_until(lambda: payload in self.payloads(HEALTHY), 10, "the healthy client receives")
        status = self.api.status(HEALTHY)
        assert status["state"] == "online" and status["reconnects"] == 0, status

    def clear(self):
        """The end of one test."""
        while self._clients:
            self.remove(self._clients[-1])
        for broker in self._brokers:
            broker.close()
        self._brokers = []
