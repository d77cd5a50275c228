"""How connections that end without a reason are explained: a broker that restarts, a broker that limits the
age of connections, or a rival with the same identifier."""

import contextlib
import re
import time

import pytest

from fleet.hostile import Hostile
from fleet.mqtt_client import new_client
from fleet.ports import free_port
from fleet.wait import holds_for, wait_until

QUICK = {"reconnect_min_ms": 200, "reconnect_max_ms": 500, "stable_ms": 5000}
KINDS = {"clean": {}, "kept 3.1.1": {"clean_start": False, "protocol_version": 4},
         "kept 5": {"clean_start": False, "protocol_version": 5, "session_expiry_s": 3600}}
every_kind = pytest.mark.parametrize("kind", KINDS)
BACK_S = 150  # a client that fails right after it was online waits up to reconnect_max_ms, 60 s


class Aging(Hostile):
    """Ends each connection after the same time, without a reason."""

    AGE_S = 1.5

    def on_connect(self, guest):
        guest.let_in = True
        guest.sock.send(bytes([0x20, 3, 0, 0, 0] if guest.version == 5 else [0x20, 2, 0, 0]))
        self.end(guest, self.AGE_S)

    def on_subscribe(self, guest, packet_id):
        middle = b"\0" if guest.version == 5 else b""
        guest.sock.send(bytes([0x90, 3 + len(middle)]) + packet_id + middle + b"\1")


@contextlib.contextmanager
def rival(broker, client, clean=True):
    """Takes the identifier back 0.3 s after each loss."""
    other = new_client(client, clean_session=clean)
    other.reconnect_delay_set(min_delay=0.3, max_delay=0.3)
    other.connect("127.0.0.1", broker.port)
    other.loop_start()
    try:
        yield
    finally:
        other.disconnect()
        other.loop_stop()


def conflicts(node):
    return node.log().count("to=conflict")


def restart_hard(broker, away_s=1):
    broker.kill()
    time.sleep(away_s)
    broker.start()


@pytest.mark.every_engine
@every_kind
def test_case_A9_a_broker_of_one_client_that_is_killed_again_and_again(fleet, kind):
    node = fleet.start_node()
    [client] = fleet.create(1, **KINDS[kind])
    for _ in range(5):
        before = fleet.api.wait_state(client, "online", BACK_S)["connected_at"]
        holds_for(lambda: True, 1)
        restart_hard(fleet.broker)
        wait_until(lambda: fleet.api.status(client)["connected_at"] != before, 60, "lost, or back already")
    fleet.api.wait_state(client, "online", BACK_S)
    assert conflicts(node) == 0


@pytest.mark.every_engine
def test_case_A9_two_clients_whose_broker_is_killed_again_and_again(fleet):
    """Possibly on different threads of the node."""
    node = fleet.start_node(**QUICK)
    ids = fleet.create(2)
    for _ in range(8):
        fleet.wait_online(ids)
        restart_hard(fleet.broker, 0)
    fleet.wait_online(ids)
    assert conflicts(node) == 0


@every_kind
def test_case_A9_three_hundred_clients_over_many_restarts(fleet, kind):
    node = fleet.start_node()
    ids = fleet.create(300, **KINDS[kind])
    for _ in range(10):
        fleet.wait_online(ids)
        restart_hard(fleet.broker)
    fleet.wait_online(ids, 10)
    assert conflicts(node) == 0


def test_case_A9_a_thousand_clients_over_tls_over_many_restarts(fleet, authority):
    node = fleet.start_node()
    broker = fleet.start_broker("secure", tls=authority)
    ids = fleet.create(1000, make=lambda client: fleet.document(
        client, url=broker.url, tls={"ca": authority.ca.read_text()}))
    for _ in range(6):
        fleet.wait_online(ids, 60)
        restart_hard(broker)
    fleet.wait_online(ids, 20)
    assert conflicts(node) == 0


@pytest.mark.every_engine
@every_kind
@pytest.mark.parametrize("clean", [True, False], ids=["clean rival", "kept rival"])
def test_a_rival_of_a_client_that_is_alone_at_its_broker_is_found(fleet, kind, clean):
    node = fleet.start_node(**QUICK)
    [client] = fleet.create(1, **KINDS[kind])
    fleet.api.wait_state(client, "online")
    with rival(fleet.broker, client, clean):
        fleet.api.wait_state(client, "conflict", 30)
    # mosquitto says so in MQTT 5, since 2.0.12.
    assert re.search("another (client seems to use the same|connection uses this client) identifier",
                     fleet.api.status(client)["last_error"]["message"])
    assert node.running


def test_a_rival_is_found_although_another_of_the_urls_is_dead(fleet):
    fleet.start_node(**QUICK)
    dead = f"mqtt://127.0.0.1:{free_port()}"
    [client] = fleet.create(1, url=None, urls=[dead, fleet.broker.url])
    fleet.api.wait_state(client, "online")
    with rival(fleet.broker, client):
        fleet.api.wait_state(client, "conflict", 30)


@pytest.mark.every_engine
def test_a_rival_is_found_among_many_healthy_clients(fleet):
    fleet.start_node(**QUICK)
    ids = fleet.create(100)
    fleet.wait_online(ids)
    with rival(fleet.broker, ids[0]):
        fleet.api.wait_state(ids[0], "conflict", 30)
    assert fleet.broker.connects().keys() == set(ids)
    assert all(n == 1 for client, n in fleet.broker.connects().items() if client != ids[0])


@pytest.mark.every_engine
def test_case_A8_a_broker_that_ends_connections_at_a_steady_age(fleet):
    node = fleet.start_node(reconnect_min_ms=200, reconnect_max_ms=1000)
    peer = fleet.closing(Aging())
    ids = fleet.create(3, make=lambda client: fleet.document(client, url=peer.url))
    wait_until(lambda: len(peer.tries) >= 3 * 7, 60)
    assert conflicts(node) == 0

    def told(client):
        error = fleet.api.status(client)["last_error"]
        assert error["code"] == "connection_lost", error
        assert re.search(r"ends connections after about 1\.\d s", error["message"]), error
        return True
    for client in ids:  # one that the busy machine has ended later tells so the next time
        wait_until(lambda client=client: told(client), 30, f"the cause of {client}")
