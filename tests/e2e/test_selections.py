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
    """A client whose broker refuses it is in connecting for a moment, again and again."""
    found = groups(fleet, "state", **query)
    trying = found.pop("connecting", 0) + found.pop("backoff", 0)
    return found | ({"backoff": trying} if trying else {})


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
    assert refused["example"] in ("c00003", "c00004", "c00005")
    assert refused["count"] == 3 and refused["text"] and "port" in refused["advice"]


def test_a_sum_takes_a_selector(crowd):
    assert states(crowd, state="backoff,connecting,paused") == {"backoff": 3, "paused": 2}
    assert states(crowd, **{"label.tenant": "acme"}) == {"online": 7, "backoff": 2, "paused": 1, "waiting": 1}
    assert states(crowd, **{"label[tenant]": "a\\,b"}) == {"online": 9, "backoff": 1, "paused": 1, "waiting": 2}
    assert states(crowd, error="connection_refused") == {"backoff": 3}
    assert states(crowd, node="n1,n2").keys() <= {"online", "backoff", "paused"}
    assert states(crowd, id_prefix="w") == {"waiting": 3}
    assert states(crowd, broker=crowd.dead_broker, degraded="true") == {}


def test_groups_beyond_the_limit_are_summed(crowd):
    shown = summary(crowd, by="broker", limit=1)
    assert [one["count"] for one in shown["groups"]] == [21]
    assert shown["others"] == {"groups": 1, "count": 3} and shown["count"] == 24


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


def page(fleet, **query):
    answer = fleet.api.get("/api/v1/clients", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids_of(fleet, **query):
    """Of all pages, in order."""
    return [one["id"] for one in fleet.api.clients(**query)]


def test_a_list_takes_the_same_selector(crowd):
    acme = ids_of(crowd, **{"label.tenant": "acme"})
    assert acme == sorted(acme) and len(acme) == 11 and "w00001" in acme
    assert ids_of(crowd, **{"label[tenant]": "acme", "state": "backoff,connecting"}) == ["c00003", "c00005"]
    assert ids_of(crowd, state="paused,waiting") == ["c00006", "c00007", "w00000", "w00001", "w00002"]
    assert ids_of(crowd, broker=crowd.dead_broker) == ["c00003", "c00004", "c00005"]
    assert ids_of(crowd, error="connection_refused", id_prefix="c00004") == ["c00004"]
    assert ids_of(crowd, degraded="true") == [] and ids_of(crowd, silent="true") == []
    for node in crowd.nodes:
        assert {one["placement"]["node"] for one in crowd.api.clients(node=node.name)} == {node.name}
    one = page(crowd, id_prefix="c00003")["clients"][0]
    assert one == crowd.api.client("c00003") | {"status": one["status"]}


def test_a_list_counts_and_sorts(crowd):
    everything = sorted(ids_of(crowd))
    assert len(everything) == 24
    steady = [one for one in everything if one not in ("c00003", "c00004", "c00005")]
    for sort in ("id", "state", "since", "changed"):
        for limit in (3, 7, 500):
            up = ids_of(crowd, sort=sort, limit=limit, state="online,paused,waiting")
            assert sorted(up) == steady
            assert ids_of(crowd, sort="-" + sort, limit=limit, state="online,paused,waiting") == up[::-1]
    shown = page(crowd, sort="-state", limit=4, count="true")
    assert shown["count"] == 24 and shown["incomplete"] == [] and shown["starting"] == 0
    assert [one["status"]["state"] for one in shown["clients"]] == ["waiting"] * 3 + ["paused"]
    assert page(crowd, limit=1, count="true")["count"] == 24
    assert page(crowd, limit=1, count="true", state="waiting,backoff,connecting")["count"] == 6
    assert "count" not in page(crowd, state="waiting")
    times = [one["version"] for one in crowd.api.clients(sort="-changed", limit=5)]
    assert times == sorted(times, reverse=True)


def test_pages_are_stable_while_clients_come_and_go(crowd):
    shown, query = [], {"sort": "id", "limit": 4}
    for number in range(100):
        answer = page(crowd, **query)
        shown += [one["id"] for one in answer["clients"]]
        crowd.api.create(crowd.document(f"b{number}"))  # before the cursor
        if number > 0:
            assert crowd.api.delete(crowd.api.path(f"b{number - 1}")).status_code == 204
        if not answer["next_cursor"]:
            break
        query["cursor"] = answer["next_cursor"]
    assert crowd.api.delete(crowd.api.path(f"b{number}")).status_code == 204
    assert [one for one in shown if one[0] != "b"] == sorted(ids_of(crowd))


@pytest.mark.parametrize("query,status,says", [
    ("state=a", 422, "must be waiting, connecting"),
    ("state=a&state=b", 422, "is not a state"),
    ("state=online&state=paused", 422, "given twice"),
    ("limit=1&limit=2", 422, "given twice"),
    ("colour=red", 422, "unknown parameter"),
    ("sort=size", 422, "sort: must be"),
    ("count=yes", 422, "count: must be"),
    ("node=nosuch", 404, "no node nosuch"),
    ("cursor=k0-0-", 400, "next_cursor of this list"),
    ("sort=since&cursor=k0-0-61", 400, "with the same sort"),
    ("cursor=x", 400, "next_cursor of this list"),
    ("limit=1001", 400, "from 1 to 1000"),
])
def test_a_faulty_list_says_what_is_right(crowd, query, status, says):
    answer = crowd.api.get(f"/api/v1/clients?{query}")
    assert answer.status_code == status and says in answer.json()["detail"], answer.text


def exported(fleet, **query):
    answer = fleet.api.get("/api/v1/export", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_export_takes_the_same_selector(crowd):
    def ids(**query):
        return sorted(one["id"] for one in exported(crowd, **query)["documents"])

    assert ids(state="backoff,connecting", **{"label[tenant]": "acme"}) == ["c00003", "c00005"]
    assert ids(state="waiting,paused") == ids_of(crowd, state="waiting,paused")
    assert ids(node=crowd.nodes[1].name) == ids_of(crowd, node=crowd.nodes[1].name)
    assert ids(state="online", cursor="k0-0-" + "c00009".encode().hex()) == [f"c{n:05d}" for n in range(10, 21)]
    assert crowd.api.get("/api/v1/export?state=online&cursor=w-0-0").status_code == 400
    assert crowd.api.get("/api/v1/export?state=odd").status_code == 422


def test_nodes_that_do_not_answer_are_named(crowd):
    hung = crowd.nodes[2]
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        whole = summary(crowd, by="state")
        assert [(one["node"], one["clients"]) for one in whole["incomplete"]] == [(hung.name, 7)], whole
        listed = page(crowd, state="online,waiting,paused,backoff,connecting", count="true")
        assert listed["count"] == 24 - 7 == len(listed["clients"])
        assert [one["node"] for one in listed["incomplete"]] == [hung.name]
        assert "in time" in whole["incomplete"][0]["reason"] and whole["count"] == 24 - 7
        part = exported(crowd, state="online,waiting,paused,backoff,connecting")
        assert [one["node"] for one in part["incomplete"]] == [hung.name] and len(part["documents"]) == 24 - 7
    finally:
        os.kill(hung.pid, signal.SIGCONT)
    wait_until(lambda: summary(crowd, by="state")["count"] == 24, 30, "all are counted again")
