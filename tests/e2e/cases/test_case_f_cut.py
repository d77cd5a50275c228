"""Case F4: HTTP between all nodes is cut permanently while Redis works; then Redis is cut for one node;
then both.
Callers reach every node. The address that a node announces refuses connections or swallows all data."""

import socket
import time

import pytest

from fleet.hostile import Deaf
from fleet.wait import PATIENCE, holds_for, wait_until
from fleet.wire import BROKEN, THROUGH, Wire

NODES = 3
PEER_MS = 1000  # peer_timeout_ms
SLACK_S = 3     # of an answer: the machine is busy
UNAVAILABLE = "urn:mqfleet:problem:node-unavailable"
TIMEOUT = "urn:mqfleet:problem:timeout"


class Mute:
    """Accepts connections, and neither reads nor answers."""

    def __init__(self, address, port):
        self._listener = socket.create_server((address, port), backlog=512)

    def close(self):
        self._listener.close()


def refuses(_fleet, _address, _port):
    """Nobody listens there."""


def is_mute(fleet, address, port):
    fleet.closing(Mute(address, port))


def is_deaf(fleet, address, port):
    fleet.closing(Deaf(address, port))


class CutFleet:
    """Nodes that reach each other by Redis alone (how None: by HTTP as well); wires: to Redis, which
    can break."""

    def __init__(self, fleet, how, wires=False):
        self.fleet, self.how, self.nodes, self.wires = fleet, how, [], []
        url = fleet.redis.url
        for number in range(1, NODES + 1):
            if wires:
                self.wires.append(fleet.closing(Wire(fleet.redis.port)))
                url = self.wires[-1].url
            host = f"127.9.9.{number}" if how else "127.0.0.1"
            node = fleet.new_node(f"n{number}", node_info__host=host, redis_config__url=url,
                                  peer_timeout_ms=PEER_MS, publish_timeout_ms=2000)
            if how:
                how(fleet, host, node.port)
            self.nodes.append(node.start())
        fleet.broker

    def create(self, prefix, count=4):
        """Creates that many clients through each node."""
        ids = []
        for node in self.nodes:
            ids += self.fleet.create(count, prefix=f"{prefix}-{node.name}-", api=node.api)
        return ids

    def level(self, total, names):
        counts = self.fleet.shared().counts()
        assert set(names) <= set(counts) and sum(counts.values()) == total, counts
        few, many = (chosen(counts[name] for name in names) for chosen in (min, max))
        assert many - few <= 1, counts
        return True

    def wait_placed(self, ids, names=None):
        names = names or [node.name for node in self.nodes]
        wait_until(lambda: self.level(len(ids), names), 20, "placed level")
        wait_until(lambda: set(ids) <= self.fleet.broker.connected(), 30, "all are connected")
        self.fleet.wait_s1(ids)

    def one_of(self, name):
        return self.fleet.shared().bound[name][0]

    def owner(self, client):
        return self.fleet.shared().owner.get(client)


@pytest.fixture(params=[refuses, is_mute, is_deaf], ids=lambda how: how.__name__)
def cut(fleet, request):
    return CutFleet(fleet, request.param)


def timed(bound_s, function, *arguments, **options):
    """Its answer, which arrived in time."""
    begun = time.monotonic()
    answer = function(*arguments, **options)
    took_s = time.monotonic() - begun
    assert took_s < bound_s * PATIENCE, f"{took_s:.1f} s"
    return answer


def is_unreachable(status, owner):
    """The status says which node cannot be reached."""
    assert status["last_error"]["code"] == "owner_unreachable", status
    assert f"node {owner}," in status["last_error"]["message"], status
    return True


def test_case_F4_clients_are_placed_and_started_by_redis_alone(cut):
    ids = cut.create("c")
    cut.wait_placed(ids)
    assert cut.fleet.broker.connects() == {client: 1 for client in ids}


def test_case_F4_a_killed_node_is_taken_over(cut):
    ids = cut.create("c")
    cut.wait_placed(ids)
    cut.nodes[0].kill()
    cut.wait_placed(ids, ["n2", "n3"])
    more = cut.fleet.create(4, prefix="later", api=cut.nodes[1].api)
    cut.wait_placed(ids + more, ["n2", "n3"])


def test_case_F4_what_is_written_through_another_node_takes_effect(cut):
    ids = cut.create("c")
    cut.wait_placed(ids)
    broker, api = cut.fleet.broker, cut.nodes[0].api
    paused, deleted, changed, moved = (cut.one_of("n2"), cut.one_of("n3"),
                                       cut.fleet.shared().bound["n2"][1],
                                       cut.fleet.shared().bound["n3"][1])
    assert timed(PEER_MS / 1000 + SLACK_S, api.post, api.path(paused, "pause")).status_code == 200
    wait_until(lambda: paused not in broker.connected(), 5, "paused")
    assert timed(PEER_MS / 1000 + SLACK_S, api.post, api.path(paused, "resume")).status_code == 200
    wait_until(lambda: paused in broker.connected(), 5, "resumed")
    assert timed(SLACK_S, api.delete, api.path(deleted)).status_code == 204
    wait_until(lambda: deleted not in broker.connected(), 5, "deleted")
    answer = timed(PEER_MS / 1000 + SLACK_S, api.put, api.path(changed),
                   cut.fleet.document(changed, keepalive_s=77))
    assert answer.status_code == 200, answer.text
    wait_until(lambda: broker.connect_options(changed)[2] == 77, 5, "changed")
    # Given back by its owner, the only node that can do so.
    owner = cut.nodes[2].api
    before = broker.connects()[moved]
    assert timed(SLACK_S, owner.post, owner.path(moved, "release")).status_code in (200, 202, 204)
    wait_until(lambda: broker.connects()[moved] > before, 10, "started again")
    assert api.post("/api/v1/nodes/n3/drain").status_code == 202
    ids.remove(deleted)
    wait_until(lambda: cut.fleet.shared().counts()["n3"] == 0, 20, "drained")
    wait_until(lambda: set(ids) <= broker.connected(), 20, "all are connected")


def test_case_F4_answers_say_which_node_cannot_be_reached(cut):
    ids = cut.create("c")
    cut.wait_placed(ids)
    api, there = cut.nodes[0].api, cut.one_of("n2")
    bound_s = PEER_MS / 1000 + SLACK_S

    document = timed(bound_s, api.client, there)
    assert document["placement"]["node"] == "n2" and is_unreachable(document["status"], "n2")
    listed = timed(bound_s, api.clients)
    assert {one["id"] for one in listed} == set(ids)
    for one in listed:
        owner = one["placement"]["node"]
        assert one["status"]["state"] == "online" if owner == "n1" else \
            is_unreachable(one["status"], owner)

    for answer in (timed(bound_s + 3, api.publish, there, "t", "x"),
                   timed(bound_s, api.post, api.path(there, "restart")),
                   timed(bound_s, api.post, api.path(there, "release")),
                   timed(bound_s, api.get, api.path(there, "events")),
                   timed(bound_s, api.get, api.path(there, "publications"))):
        told = answer.status_code, answer.json()["type"]
        # If a connection was established, the request may have been executed.
        mute = cut.how is is_mute
        assert told == ((504, TIMEOUT) if mute else (503, UNAVAILABLE)), answer.text
        says = "the outcome is unknown" if mute else "nothing was done"
        assert all(part in answer.json()["detail"] for part in ("node n2,", says)), answer.text
    assert set(timed(SLACK_S, api.nodes)) == {"n1", "n2", "n3"}
    assert timed(SLACK_S, api.get, "/metrics").status_code == 200
    assert all(node.ready() for node in cut.nodes)


def test_case_F4_a_post_that_waits_is_answered_by_what_redis_passes_on(cut):
    """wait_ms: the owner publishes the change as an event; only the status in the answer requires a call to the
    owner."""
    api = cut.nodes[0].api
    begun = time.monotonic()
    answer = api.create([cut.fleet.document(f"w{number}") for number in range(9)], wait_ms=20000)
    assert time.monotonic() - begun < 10 * PATIENCE, "it waits for the news, not to the end"
    assert answer["created"] == 9
    wait_until(lambda: len(cut.fleet.broker.connected()) == 9, 5, "all are connected")


def test_case_F4_what_came_online_before_anybody_listened_is_waited_for_too(fleet):
    """The owner publishes its latest changes again when another node begins to listen."""
    cut = CutFleet(fleet, refuses)
    ids = cut.fleet.create(9, prefix="w", api=cut.nodes[0].api)
    documents = [fleet.document(client) for client in ids]
    wait_until(lambda: len(fleet.broker.connected()) == 9, 20, "all are connected", poll_s=0.02)
    begun = time.monotonic()
    answer = cut.nodes[0].api.create(documents, wait_ms=20000)
    assert answer["unchanged"] == 9 and time.monotonic() - begun < 10 * PATIENCE


# ---- Redis, and both --------------------------------------------------------------------------------

@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("http", [None, refuses], ids=["http_works", "http_is_cut"])
def test_case_F4_a_node_without_redis_is_replaced_and_says_so(fleet, http, how):
    cut = CutFleet(fleet, http, wires=True)
    ids = cut.create("c")
    cut.wait_placed(ids)
    lonely, other = cut.nodes[2], cut.nodes[0]
    moving = set(fleet.shared().bound["n3"])
    before = fleet.shared().register["n3"]["incarnation"]
    cut.wires[2].set(how)
    wait_until(lambda: "n3" not in fleet.shared().counts(), 40, "it is declared dead")
    cut.wait_placed(ids, ["n1", "n2"])
    # Its API still answers and gives the reason.
    for answer in (timed(15, lonely.api.get, "/api/v1/clients"),
                   timed(15, lonely.api.post, "/api/v1/clients", fleet.document("no")),
                   timed(15, lonely.api.get, lonely.api.path(ids[0]))):
        assert answer.status_code == 503 and "Redis" in answer.json()["detail"], answer.text
    assert lonely.alive() and not lonely.ready()
    # The other nodes run its clients.
    for client in moving:
        owner = next(node for node in cut.nodes if node.name == cut.owner(client))
        wait_until(lambda: owner.api.state(client) == "online", 20, "online elsewhere")
    mark = fleet.broker.mark()
    holds_for(lambda: not fleet.broker.connects(mark), 2, "nobody fights over it")
    cut.wires[2].set(THROUGH)
    wait_until(lambda: fleet.shared().register.get("n3", {}).get("incarnation") not in (None, before), 30,
               "it joined anew")
    more = fleet.create(12, prefix="later", api=other.api)
    wait_until(lambda: fleet.shared().counts()["n3"] > 0, 20, "it gets clients again")
    wait_until(lambda: set(ids + more) <= fleet.broker.connected(), 30, "all are connected")
    fleet.wait_s1(ids + more)
