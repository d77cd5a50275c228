"""A broker that no client reaches: its clients wait together, a few probe, and all are online soon after
its return. MQFLEET_INCIDENT_CLIENTS=2000 MQFLEET_INCIDENT_AWAY_S=75 makes it case D5 as it was seen."""

import os
import re
import time

import pytest

from fleet.certificates import Authority
from fleet.hostile import Hostile, Silent
from fleet.wait import holds_for, wait_until
from fleet.wire import CUT, SILENT, Wire

CLIENTS = int(os.environ.get("MQFLEET_INCIDENT_CLIENTS", "300"))
AWAY_S = float(os.environ.get("MQFLEET_INCIDENT_AWAY_S", "12"))
BACK_S = 5  # from the broker's return until all are online


class Moody(Hostile):
    """Does as its mood says: "well", "unavailable" and "banned" (CONNACK), "mute": closes at CONNECT,
    "picky": so with all but one, or "brief": lets in, and closes."""

    mood = "well"

    def on_connect(self, guest):
        if self.mood == "mute" or (self.mood == "picky" and self.tries[-1][1] != "known"):
            self.end(guest)
            return
        well = self.mood in ("well", "brief", "picky")
        guest.let_in = well
        refusals = {"unavailable": (3, 0x88), "banned": (5, 0x87)}
        code = 0 if well else refusals[self.mood][guest.version == 5]
        guest.sock.send(bytes([0x20, 3, 0, code, 0] if guest.version == 5 else [0x20, 2, 0, code]))
        if self.mood not in ("well", "picky"):
            self.end(guest, 0.1 if well else 0)

    def on_subscribe(self, guest, packet_id):
        middle = b"\0" if guest.version == 5 else b""
        guest.sock.send(bytes([0x90, 3 + len(middle)]) + packet_id + middle + b"\1")


class Gate(Wire):
    """A proxy at a given port that closes what comes from one address."""

    def __init__(self, port, shut_to):
        self._shut_to = shut_to
        super().__init__(None, port)

    def _accept(self):
        try:
            sock, (address, _) = self._listener.accept()
        except OSError:
            return
        if address == self._shut_to or not self.target_port:
            self._close_hard(sock)
            return
        self._join(sock)


def clients_at(fleet, url, count=CLIENTS, **more):
    ids = fleet.create(count, make=lambda client: fleet.document(client, url=url, **more))
    fleet.wait_online(ids)
    return ids


def states(fleet, ids):
    ids = set(ids)
    return {one["status"]["state"] for one in fleet.api.clients() if one["id"] in ids}


def metric(node, name):
    return int(re.search(rf"^{name} (\d+)$", node.api.get("/metrics").text, re.M)[1])


def incident_lines(node, since=0):
    return re.findall(r"level=(\w+) event=(broker_incident\w*)", node.log()[since:])


def wait_incident(node, number=1):
    wait_until(lambda: metric(node, "mqfleet_broker_incidents") == number, 20, "an incident")


@pytest.mark.every_engine
def test_case_D5_all_are_online_soon_after_the_broker_is_back(fleet):
    node = fleet.start_node()
    ids = clients_at(fleet, fleet.broker.url)
    mark = len(node.log())
    fleet.broker.kill()
    wait_incident(node)
    holds_for(lambda: True, AWAY_S)
    waiting = [fleet.api.status(client) for client in ids[:20]]
    assert {one["state"] for one in waiting} <= {"backoff", "connecting"}, waiting
    assert {one["last_error"]["code"] for one in waiting} == {"connection_refused"}, waiting
    # A few have just probed, and report the result.
    since = re.compile(r"no client of this node has reached the broker since \d{4}-")
    assert sum(bool(since.search(one["last_error"]["message"])) for one in waiting) >= 15, waiting
    during = node.log()[mark:]
    # One line for each that was lost, and a few for the first that failed.
    assert during.count("level=info") <= len(ids) + 20, during[-3000:]
    fleet.broker.start()
    fleet.wait_online(ids, BACK_S)
    assert [event for level, event in incident_lines(node, mark) if level == "warn"
            and event != "broker_incident"] == ["broker_incident_began", "broker_incident_ended"]
    assert metric(node, "mqfleet_broker_incidents") == 0
    assert metric(node, "mqfleet_broker_incidents_total") == 1


@pytest.mark.every_engine
def test_case_D5_while_it_is_away_a_few_probe_each_second(fleet):
    """All threads of the node together, in rotation."""
    fleet.start_node(connect_timeout_ms=1000, reconnect_min_ms=500)
    peer = fleet.closing(Silent())
    fleet.create(200, make=lambda client: fleet.document(client, url=peer.url))
    wait_incident(fleet.nodes[0])
    holds_for(lambda: True, 3)  # those in flight when it began have failed
    tries = len(peer.tries)
    holds_for(lambda: True, 8)
    probes = [client for _, client in peer.tries[tries:]]
    assert 8 <= len(probes) <= 8 * 5 + 5, len(probes)
    assert len(set(probes)) >= 0.9 * len(probes), "not in rotation"


@pytest.mark.every_engine
def test_case_D5_a_broker_that_accepts_and_is_silent(fleet):
    node = fleet.start_node(connect_timeout_ms=2000)
    wire = fleet.closing(Wire(fleet.broker.port))
    ids = clients_at(fleet, f"mqtt://127.0.0.1:{wire.port}", 100)
    wire.set(CUT)
    wait_until(lambda: "online" not in states(fleet, ids), 10)
    wire.set(SILENT)
    wait_incident(node)
    holds_for(lambda: True, 5)
    wire.heal()
    fleet.wait_online(ids, BACK_S + 2)


@pytest.mark.every_engine
@pytest.mark.parametrize("version", [4, 5])
def test_case_D5_behind_a_proxy_that_accepts_and_closes(fleet, version):
    node = fleet.start_node()
    wire = fleet.closing(Wire(fleet.broker.port))
    ids = clients_at(fleet, f"mqtt://127.0.0.1:{wire.port}", 100, protocol_version=version)
    fleet.broker.kill()
    wait_incident(node)
    holds_for(lambda: True, 8)
    assert states(fleet, ids) <= {"backoff", "connecting"}
    fleet.broker.start()
    fleet.wait_online(ids, BACK_S)


def test_a_broker_that_is_back_with_a_certificate_nobody_trusts_is_told_as_such(fleet):
    """The broker is available: the incident ends, and each client reports its own error."""
    node = fleet.start_node(reconnect_min_ms=100, reconnect_max_ms=1000)
    trusted, other = (Authority(fleet.folder / name) for name in ("trusted", "other"))
    broker = fleet.start_broker("tls", tls=trusted)
    ids = clients_at(fleet, broker.url, 12, tls={"ca": trusted.ca.read_text()})
    broker.kill()
    wait_incident(node)
    holds_for(lambda: True, 2)
    for mine, theirs in ((trusted.server_certificate, other.server_certificate),
                         (trusted.server_key, other.server_key)):
        mine.write_bytes(theirs.read_bytes())
    broker.start()
    wait_incident(node, 0)
    wait_until(lambda: {fleet.api.status(one)["last_error"]["code"] for one in ids}
               == {"tls_failed"}, 10, "the certificate is told")


def test_a_new_client_is_not_behind_all_that_a_broker_closes_on(fleet):
    """Brokers may close connections of unknown clients without CONNACK, which looks like an outage."""
    node = fleet.start_node()
    peer = fleet.closing(Moody())
    peer.mood = "picky"
    fleet.create(150, make=lambda client: fleet.document(client, url=peer.url))
    wait_incident(node)
    holds_for(lambda: True, 3)
    fleet.api.create(fleet.document("known", url=peer.url))
    fleet.wait_online(["known"], 5)


def test_an_incident_ends_for_the_one_client_that_is_not_paused(fleet):
    node = fleet.start_node(reconnect_min_ms=100, reconnect_max_ms=500)
    peer = fleet.closing(Moody())
    peer.mood = "unavailable"
    first, *others = fleet.create(3, make=lambda client: fleet.document(client, url=peer.url))
    wait_incident(node)
    for one in others:
        assert fleet.api.post(f"{fleet.api.path(one)}/pause").ok
    peer.mood = "banned"
    wait_incident(node, 0)
    wait_until(lambda: fleet.api.status(first)["last_error"]["code"] == "not_authorized", 10)


@pytest.mark.every_engine
@pytest.mark.parametrize("mood", ["unavailable", "mute"])
@pytest.mark.parametrize("version", [4, 5])
def test_case_D5_a_broker_that_is_not_available_while_it_starts(fleet, version, mood):
    """Or only closes."""
    node = fleet.start_node()
    peer = fleet.closing(Moody())
    peer.mood = mood
    ids = fleet.create(100, make=lambda client: fleet.document(
        client, url=peer.url, protocol_version=version))
    wait_incident(node)
    holds_for(lambda: True, 8)
    assert metric(node, "mqfleet_broker_incidents") == 1
    peer.mood = "well"
    fleet.wait_online(ids, BACK_S)


@pytest.mark.every_engine
def test_case_D5_a_broker_that_is_back_for_a_moment_only(fleet):
    """Only probes find this out; the other clients do not connect."""
    node = fleet.start_node()
    peer = fleet.closing(Moody())
    peer.mood = "unavailable"
    ids = fleet.create(200, make=lambda client: fleet.document(client, url=peer.url))
    wait_incident(node)
    holds_for(lambda: True, 3)
    tries = len(peer.tries)
    peer.mood = "brief"
    holds_for(lambda: True, 0.5)
    peer.mood = "unavailable"
    holds_for(lambda: True, 3)
    assert len(peer.tries) - tries <= 4 * 5 + 5, len(peer.tries) - tries
    assert metric(node, "mqfleet_broker_incidents") == 1
    peer.mood = "well"
    fleet.wait_online(ids, BACK_S)


def test_case_D5_clients_are_not_released_while_their_broker_is_away(fleet):
    """The result would be the same on the other node."""
    fleet.start_nodes(2, release_after_ms=3000)
    ids = clients_at(fleet, fleet.broker.url, 60)
    owners = {one["id"]: one["placement"]["node"] for one in fleet.api.clients()}
    fleet.broker.kill()
    holds_for(lambda: True, 9)
    fleet.broker.start()
    fleet.wait_online(ids, BACK_S)
    moved = [one["id"] for one in fleet.api.clients() if one["placement"]["node"] != owners[one["id"]]]
    assert not moved


def test_case_D5_a_node_that_alone_cannot_reach_the_broker_gives_its_clients_back(fleet):
    cut_off = fleet.start_node(release_after_ms=2500, source_addresses="127.0.0.9")
    ids = clients_at(fleet, fleet.broker.url, 10)
    port = fleet.broker.port
    fleet.broker.kill()
    wait_incident(cut_off)
    # From now on, only connections from other addresses are accepted.
    gate = fleet.closing(Gate(port, shut_to="127.0.0.9"))
    broker = fleet.start_broker("behind")
    gate.target_port = broker.port
    fleet.start_node()
    fleet.wait_online(ids, 90)


@pytest.mark.every_engine
def test_refused_credentials_and_conflicts_are_no_incident(fleet):
    """A broker that refuses is available."""
    node = fleet.start_node(reconnect_min_ms=200, reconnect_max_ms=400)
    broker = fleet.start_broker("guarded", users={"u": "p"})
    fleet.create(10, make=lambda client: fleet.document(client, url=broker.url, username="u",
                                                        password="wrong"))
    began = time.monotonic()
    wait_until(lambda: metric(node, 'mqfleet_connect_attempts_total{result="refused"}'.replace(
        "{", r"\{").replace("}", r"\}")) >= 30, 20)
    assert time.monotonic() - began < 20
    assert metric(node, "mqfleet_broker_incidents_total") == 0
