"""Sums and lists over a selector: right over all nodes and the waiting clients, and honest about nodes that do
not answer."""

import os
import signal

import pytest

from fleet.ports import free_port
from fleet.wait import wait_until

pytestmark = pytest.mark.xdist_group("selections")  # one fleet for all

NODES = 3


@pytest.fixture(name="crowd", scope="module")
def make_crowd(tmp_path_factory):
    """24 clients of two tenants on three nodes: 16 online, 3 whose broker refuses the connection, 2 paused and 3
    that wait for a node."""
    from fleet.fleet import Fleet
    fleet = Fleet(tmp_path_factory.mktemp("selections"))
    try:
        fleet.start_nodes(NODES, node_info__size=7, peer_timeout_ms=500)
        fleet.dead_broker = f"127.0.0.1:{free_port()}"

        def make(client, **more):
            number = int(client[1:])
            document = fleet.document(client, labels={"tenant": "acme" if number % 2 else "a,b"}, **more)
            if number in (3, 4, 5):
                document["url"] = f"mqtt://{fleet.dead_broker}"
            return document | ({"desired": "paused"} if number in (6, 7) else {})

        fleet.create(21, make=make)
        wait_until(lambda: states(fleet) == {"online": 16, "backoff": 3, "paused": 2}, 60, "21 are placed")
        fleet.create(3, prefix="w", make=make)
        wait_until(lambda: states(fleet).get("waiting") == 3, 20, "3 wait")
        yield fleet
    finally:
        fleet.close()


def summary(fleet, **query):
    answer = fleet.api.get("/api/v1/summary", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def groups(fleet, by, **query):
    return {one["value"]: one["count"] for one in summary(fleet, by=by, **query)["groups"]}


def states(fleet, **query):
    return groups(fleet, "state", **query)


def test_sums_are_exact_by_every_key(crowd):
    assert groups(crowd, "label.tenant") == {"acme": 11, "a,b": 13}
    assert groups(crowd, "label.absent") == {None: 24}
    assert groups(crowd, "profile") == {None: 24}
    assert groups(crowd, "degraded") == {"false": 24}
    by_node = groups(crowd, "node")
    assert by_node.pop(None) == 3 and list(by_node.values()) == [7, 7, 7]
    by_broker = groups(crowd, "broker")
    assert by_broker == {crowd.dead_broker: 3, f"127.0.0.1:{crowd.broker.port}": 21}
    whole = summary(crowd, by="error")
    assert whole["count"] == 24 and whole["starting"] == 0 and whole["incomplete"] == []
    refused = next(one for one in whole["groups"] if one["value"] == "connection_refused")
    assert refused["count"] == 3 and refused["text"] and "port" in refused["advice"]


def test_a_sum_takes_a_selector(crowd):
    assert states(crowd, state="backoff,paused") == {"backoff": 3, "paused": 2}
    assert states(crowd, **{"label.tenant": "acme"}) == {"online": 7, "backoff": 2, "paused": 1, "waiting": 1}
    assert states(crowd, **{"label[tenant]": "a\\,b"}) == {"online": 9, "backoff": 1, "paused": 1, "waiting": 2}
    assert states(crowd, error="connection_refused") == {"backoff": 3}
    assert states(crowd, node="m1,m2").keys() <= {"online", "backoff", "paused"}
    assert states(crowd, id_prefix="w") == {"waiting": 3}
    assert states(crowd, broker=crowd.dead_broker, degraded="true") == {}


def test_groups_beyond_the_limit_are_summed(crowd):
    shown = summary(crowd, by="state", limit=2)
    assert [one["count"] for one in shown["groups"]] == [16, 3]
    assert shown["others"] == {"groups": 2, "count": 5} and shown["count"] == 24


@pytest.mark.parametrize("query,says", [
    ("by=state&state=a", "must be waiting, connecting"),
    ("by=state&state=online&state=paused", "given twice"),
    ("by=state&by=error", "given twice"),
    ("by=state&colour=red", "unknown parameter"),
    ("by=state&broker=b", "host:port"),
    ("by=state&node=", "empty value"),
    ("by=id_prefix", "by: must be"),
    ("by=label.", "by: must be"),
    ("state=online", "by: must be"),
    ("by=state&limit=0", "limit: must be"),
])
def test_a_faulty_query_says_what_is_right(crowd, query, says):
    answer = crowd.api.get(f"/api/v1/summary?{query}")
    assert answer.status_code == 422 and says in answer.json()["detail"], answer.text


def test_nodes_that_do_not_answer_are_named(crowd):
    hung = crowd.nodes[2]
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        whole = summary(crowd, by="state")
        assert [(one["node"], one["clients"]) for one in whole["incomplete"]] == [(hung.name, 7)], whole
        assert "in time" in whole["incomplete"][0]["reason"] and whole["count"] == 24 - 7
    finally:
        os.kill(hung.pid, signal.SIGCONT)
    wait_until(lambda: summary(crowd, by="state")["count"] == 24, 30, "all are counted again")
