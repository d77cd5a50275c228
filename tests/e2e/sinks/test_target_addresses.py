"""The addresses to which the name of a target resolves: which are allowed, and whose certificate counts."""

import contextlib
import socket
import threading

import pytest

from fleet.certificates import Authority
from fleet.names import start_naming_node
from fleet.nats_stream import NatsStream
from fleet.other_brokers import NATS
from fleet.wait import wait_until

NAME = "localhost.example"  # the certificate of an Authority is not for it
DENIED, ALLOWED = "127.0.0.2", "127.0.0.1"


class Trap:
    """Listens on the denied address and counts the bytes that it receives."""

    def __init__(self, port):
        self.received = 0
        self._listener = socket.create_server((DENIED, port))
        threading.Thread(target=self._run, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(2)
                    with contextlib.suppress(OSError):
                        self.received += len(connection.recv(100))


def nats(fleet, **options):
    if not NATS:
        pytest.skip("nats-server is not installed")
    return fleet.closing(NatsStream(fleet.folder / "nats", **options)).start()


def redis_target(fleet, request):
    port = int(fleet.redis.url.rpartition(":")[2].partition("/")[0])
    return port, {"type": "redis_stream", "key": "messages", "url": f"redis://{NAME}:{port}"}


def nats_target(fleet, request):
    port = nats(fleet).port
    return port, {"type": "nats", "url": f"nats://{NAME}:{port}"}


def rabbitmq_target(fleet, request):
    rabbit = request.getfixturevalue("rabbitmq")
    port = rabbit.server.amqp_port
    return port, {"type": "rabbitmq", "url": f"amqp://{NAME}:{port}/{rabbit.host}", "unroutable": "drop",
                  "username": "plant", "password": "word"}


def put(node, document):
    created = node.api.put("/api/v1/sinks/fleet", document)
    assert created.status_code == 201, created.text


def error_of(node):
    return node.api.get("/api/v1/sinks/fleet").text


@pytest.mark.parametrize("target", [redis_target, nats_target, rabbitmq_target])
def test_nothing_is_sent_to_a_denied_address(fleet, request, target):
    port, document = target(fleet, request)
    trap = fleet.closing(Trap(port))
    node = start_naming_node(fleet, {NAME: [DENIED]}, broker_deny=f"{DENIED}/32")
    put(node, document)
    [client] = fleet.online(1, make=fleet.persistent, sink="fleet")
    fleet.broker.publish(f"t/{client}/x", b"1")
    wait_until(lambda: "broker_deny" in error_of(node), 20, "the reason")
    assert trap.received == 0
    node.give({NAME: [ALLOWED]})
    wait_until(lambda: node.api.get("/api/v1/sinks/fleet").json()["nodes"][0]["accepted"] >= 1, 30,
               "the message is accepted at the allowed address")
    assert trap.received == 0


def test_the_certificate_of_a_nats_server_is_checked_for_the_name(fleet):
    authority = Authority(fleet.folder / "authority")
    server = nats(fleet, authority=authority)
    node = start_naming_node(fleet, {NAME: [ALLOWED]})
    document = {"type": "nats", "url": f"tls://{NAME}:{server.port}", "tls_ca": authority.ca.read_text()}
    put(node, document)
    [client] = fleet.online(1, make=fleet.persistent, sink="fleet")
    fleet.broker.publish(f"t/{client}/x", b"1")
    wait_until(lambda: "hostname mismatch" in error_of(node).lower(), 20, "the reason")
    assert server.count() == 0
    version = node.api.get("/api/v1/sinks/fleet").headers["ETag"]
    for host in ("localhost", ALLOWED):
        before = server.count()
        changed = node.api.put("/api/v1/sinks/fleet", {**document, "url": f"tls://{host}:{server.port}"},
                               headers={"If-Match": version})
        assert changed.status_code == 200, changed.text
        version = changed.headers["ETag"]
        fleet.broker.publish(f"t/{client}/x", b"2")
        wait_until(lambda count=before: server.count() > count, 30, f"a message at {host}")
