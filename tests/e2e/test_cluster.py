"""Nodes under stress: many concurrent events at the worst moments."""

import concurrent.futures
import random

import pytest

from fleet.wait import wait_until


def in_parallel(calls, workers=8):
    """Their answers' status codes."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return [answer.status_code for answer in pool.map(lambda call: call(), calls)]


def settled(fleet, ids, api, bound_s=60):
    """All clients are online on the node that Redis names, and nowhere else."""
    fleet.wait_online(ids, bound_s, api=api)
    shared = fleet.wait_s1(ids)
    assert not shared.waiting
    wait_until(lambda: fleet.broker.connected() == set(ids), 20, "no other connections")
    return shared


@pytest.mark.heavy
@pytest.mark.parametrize("asked", ["leaving", "staying"])
def test_a_node_that_stops_in_the_middle_of_a_large_create_loses_nothing(fleet, asked):
    leaving, staying = fleet.start_nodes(2)
    documents = [fleet.document(f"c{number:05d}") for number in range(2000)]
    parts = [documents[start:start + 100] for start in range(0, len(documents), 100)]
    api = (leaving if asked == "leaving" else staying).api
    acknowledged = []

    def create():
        for part in parts:
            try:
                answer = api.post("/api/v1/clients", part)
            except OSError:
                return
            if answer.status_code in (200, 201):
                acknowledged.extend(one["id"] for one in part)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        creating = pool.submit(create)
        wait_until(lambda: len(acknowledged) >= 500, 30)
        assert leaving.terminate() == 0
        creating.result()
    shared = fleet.shared()
    present = shared.waiting | shared.owned
    assert set(acknowledged) <= present
    assert leaving.name not in fleet.shared().register
    settled(fleet, sorted(present), staying.api, 120)


def test_draining_and_back_many_times_ends_with_all_online(fleet):
    nodes = fleet.start_nodes(3)
    ids = fleet.online(150)
    for turn in range(12):
        node = nodes[turn % 3]
        for verb in ("drain", "undrain") if turn < 11 else ("drain",):
            answer = nodes[0].api.post(f"/api/v1/nodes/{node.name}/{verb}")
            assert answer.status_code == 202, answer.text
    drained = nodes[2].name
    wait_until(lambda: not fleet.shared().bound.get(drained), 30, "the drained one is empty")
    settled(fleet, ids, nodes[0].api)
    assert not fleet.broker.takeovers()


def test_releases_changes_and_deletes_of_all_clients_at_once_settle(fleet):
    nodes = fleet.start_nodes(3)
    ids = fleet.online(200)
    gone = set(ids[::10])
    calls = []
    for number, client in enumerate(ids):
        api = nodes[number % 3].api
        changed = fleet.document(client, subscriptions=[{"filter": f"new/{client}", "qos": 1}])
        calls += [lambda api=api, client=client: api.post(api.path(client, "release")),
                  lambda api=api, client=client, changed=changed:
                      api.put(api.path(client), changed),
                  lambda api=api, client=client: api.post(api.path(client, "release"))]
        if client in gone:
            calls.append(lambda api=api, client=client: api.delete(api.path(client)))
    random.Random(7).shuffle(calls)
    codes = in_parallel(calls)
    assert not [code for code in codes if code >= 500 and code != 503], codes

    left = sorted(set(ids) - gone)
    settled(fleet, left, nodes[1].api)
    for client in random.Random(7).sample(left, 10):
        assert nodes[0].api.client(client)["config"]["subscriptions"][0]["filter"].startswith("new")
    assert not fleet.broker.takeovers()


def test_clients_deleted_while_they_are_assigned_do_not_stay_connected(fleet):
    nodes = fleet.start_nodes(2)
    for turn in range(5):
        ids = fleet.create(100, prefix=f"t{turn}-")
        codes = in_parallel([lambda client=client: nodes[1].api.delete(nodes[1].api.path(client))
                             for client in ids])
        assert set(codes) == {204}
    wait_until(lambda: not fleet.broker.connected(), 8, "nobody is connected")
    fleet.wait_s1([])


def test_a_loss_of_data_during_releases_restores_what_runs(fleet):
    nodes = fleet.start_nodes(2)
    ids = fleet.online(100)
    fleet.redis.client.flushall()
    in_parallel([lambda client=client: nodes[0].api.post(nodes[0].api.path(client, "release"))
                 for client in ids])
    settled(fleet, ids, nodes[0].api)


def test_a_node_stops_in_time_while_redis_does_not_answer(fleet):
    node = fleet.start_node(stop_timeout_ms=6000)
    fleet.online(200)
    fleet.redis.pause()
    try:
        assert node.terminate(bound_s=20) == 1
    finally:
        fleet.redis.resume()


def test_a_frozen_node_comes_back_to_nothing_and_is_given_new_clients(fleet):
    frozen, other = fleet.start_nodes(2)
    ids = fleet.online(60)
    frozen.pause()
    wait_until(lambda: len(fleet.shared().bound.get(other.name, [])) == 60, 30, "taken over")
    fleet.wait_online(ids, 30, api=other.api)
    mark = fleet.broker.mark()
    frozen.resume()
    wait_until(lambda: frozen.name in fleet.shared().register, 10, "joined anew")
    settled(fleet, ids, other.api)
    assert not fleet.broker.connects(mark), "a takeover too many"
    more = fleet.create(30, prefix="m", api=other.api)
    fleet.wait_online(more, api=other.api)
    assert set(fleet.shared().bound[frozen.name]) == set(more)


def test_an_operators_drain_outlives_being_fenced(fleet):
    frozen, other = fleet.start_nodes(2)
    assert other.api.post(f"/api/v1/nodes/{frozen.name}/drain").status_code == 202
    beat = f"beat:mqtt:{frozen.name}"
    wait_until(lambda: fleet.redis.client.pttl(beat) < 600, 5, "its next beat is due", 0.01)
    wait_until(lambda: fleet.redis.client.pttl(beat) > 600, 5, "it was told", 0.01)
    frozen.pause()
    wait_until(lambda: frozen.name not in fleet.shared().register, 20, "fenced and reaped")
    frozen.resume()
    wait_until(lambda: frozen.name in fleet.shared().register, 10, "joined anew")
    assert fleet.shared().register[frozen.name]["state"] == "draining"


def test_rubbish_in_the_waiting_hash_holds_nobody_up(fleet):
    node = fleet.start_node(node_info__size=5)
    rubbish = {f"r{number}": "{" for number in range(600)}
    fleet.redis.bytes_client.hset("mqtt_config:no", mapping=rubbish)
    fleet.redis.bytes_client.hset("mqtt_config:no", b"\xff\xfe", b'{"url":"mqtt://127.0.0.1:1"}')
    ids = fleet.create(5)
    fleet.wait_online(ids, 20, api=node.api)


def test_a_client_never_runs_where_the_sink_it_names_is_missing(fleet):
    has = fleet.start_node("a-has", sink__path=fleet.folder / "received.ndjson")
    fleet.start_node("b-lacks")
    ids = fleet.create(6, make=fleet.document, api=has.api, sink="file")
    fleet.wait_online(ids)
    assert fleet.shared().counts() == {"a-has": 6, "b-lacks": 0}
    has.terminate()
    wait_until(lambda: fleet.shared().unplaced() == {"no_node_has_sink": 6}, 20, "the reason is told")
    assert fleet.api.status(ids[0])["state"] == "waiting"
