"""A fleet during an upgrade: nodes of the previous version and of this one share a Redis. docs/protocol.md
lists the limits of a mixed fleet."""

import base64
import json
import os
import pathlib
import subprocess

import pytest

from cases.test_case_f_redis_back import History
from fleet.node import ROOT
from fleet.publisher import Publisher
from fleet.wait import holds_for, wait_until

NO_HISTORY = 3  # exit code of tools/build-version
BEAT_S = 1  # by default: what another version changes in a node's set is seen with its next beat

either = pytest.mark.parametrize("first", ["old", "new"])


@pytest.fixture(scope="session")
def before():
    """The settings of a node of the previous version. Its program is built once; workers wait for
    each other."""
    built = subprocess.run([ROOT / "tools/build-version"], text=True, capture_output=True,
                           check=False)
    if built.returncode == NO_HISTORY:
        pytest.skip(built.stderr.strip())
    assert built.returncode == 0, built.stderr
    return {"binary": pathlib.Path(built.stdout.strip())}


def leader(fleet):
    text = fleet.redis.client.get("mqtt_fleet:leader")
    return text and json.loads(text)["node"]


def both(fleet, before, first, **settings):
    """Nodes "old" and "new", the first of which leads."""
    kinds = {"old": before, "new": {}}
    nodes = {first: fleet.start_node(first, **kinds.pop(first), **settings)}
    wait_until(lambda: leader(fleet) == first, 20, f"{first} leads")
    [(second, kind)] = kinds.items()
    nodes[second] = fleet.start_node(second, **kind, **settings)
    return nodes


def other_of(first):
    return "new" if first == "old" else "old"


def hosted(broker_ids):
    """Without the clients that publish for a test."""
    return {one for one in broker_ids if "publisher" not in one and not one.startswith("auto-")}


def settled(fleet, ids, api=None):
    """Each is online, by the API and at the broker, and has one owner."""
    fleet.wait_online(ids, 40, api=api)
    shared = fleet.wait_s1(ids)
    assert not shared.waiting
    wait_until(lambda: hosted(fleet.broker.connected()) == set(ids), 10, "each is connected")
    return shared


@either
def test_who_leads_gives_clients_to_nodes_of_both_versions(fleet, before, first):
    nodes = both(fleet, before, first)
    ids = fleet.create(40, "a", api=nodes["old"].api) + fleet.create(40, "b", api=nodes["new"].api)
    for node in nodes.values():
        assert settled(fleet, ids, node.api).counts() == {"old": 40, "new": 40}
    assert leader(fleet) == first
    holds_for(lambda: set(fleet.broker.connects().values()) == {1}, 2 * BEAT_S, "no second connection")


def test_a_node_is_told_of_its_changes_on_the_channel_that_it_listens_to(fleet, before):
    api = both(fleet, before, "new")["new"].api
    bound = settled(fleet, fleet.create(8, api=api)).bound
    heard = fleet.redis.client.pubsub(ignore_subscribe_messages=True)
    heard.subscribe("mqtt_fleet:wake")
    named = []

    def old_is_named():
        message = heard.get_message(timeout=0.1)
        named.append(message and message["data"])
        return "old" in named
    for client in bound["new"] + bound["old"]:
        assert api.delete(api.path(client)).status_code == 204
    wait_until(old_is_named, 10, "the old one is named")
    assert "new" not in named, "it has a channel of its own"


def use_whole_api(fleet, api, client):
    """All actions on a client, including deleting and creating it again."""
    def runs(keepalive_s):
        wait_until(lambda: fleet.broker.connect_options(client)[2] == keepalive_s, 20, "the new text runs")
        fleet.wait_online([client], api=api)
        assert api.client(client)["config"]["keepalive_s"] == keepalive_s

    fleet.broker.publish(f"t/{client}/x", f"to {client}")
    fleet.stream.wait_payloads([f"to {client}".encode()])
    assert api.publish(client, "out", "x").status_code == 200
    assert api.put(api.path(client), fleet.document(client, keepalive_s=77)).status_code == 200
    runs(77)
    mark = fleet.broker.mark()
    assert api.post(api.path(client, "restart")).status_code == 202
    wait_until(lambda: client in fleet.broker.connects(mark), 20, "restarted")
    fleet.wait_online([client], api=api)
    assert api.post(api.path(client, "pause")).status_code == 200
    wait_until(lambda: client not in fleet.broker.connected(), 20, "paused")
    assert api.post(api.path(client, "resume")).status_code == 200
    fleet.wait_online([client], api=api)
    owner = fleet.shared().owner[client]
    assert api.post(api.path(client, "release")).status_code == 202
    wait_until(lambda: fleet.shared().owner.get(client) not in (owner, None), 30, "moved")
    fleet.wait_online([client], api=api)
    assert api.delete(api.path(client)).status_code == 204
    api.create(fleet.document(client, keepalive_s=78), wait_ms=20000)
    runs(78)
    holds_for(lambda: api.client(client)["config"]["keepalive_s"] == 78, 2 * BEAT_S, "the deleted text is gone")
    runs(78)


@pytest.mark.parametrize("asked", ["old", "new"])
@either
def test_a_node_of_either_version_answers_for_clients_of_both(fleet, before, first, asked):
    api = both(fleet, before, first)[asked].api
    ids = fleet.create(8, api=api)
    bound = settled(fleet, ids, api).bound
    for client in (bound["old"][0], bound["new"][0]):
        use_whole_api(fleet, api, client)
        assert fleet.broker.takeovers()[client] <= 1, "created anew before the old one was stopped"
        assert api.delete(api.path(client)).status_code == 204
        ids.remove(client)
    settled(fleet, ids, api)


@either
def test_a_node_that_slept_leaves_its_clients_to_the_other_version(fleet, before, first):
    nodes = both(fleet, before, first)
    stays, sleeper = nodes[first], nodes[other_of(first)]
    ids = fleet.create(40, api=stays.api)
    shared = settled(fleet, ids, stays.api)
    moved = {client: 1 for client in shared.bound[sleeper.name]}
    incarnation = shared.register[sleeper.name]["incarnation"]
    mark = fleet.broker.mark()
    sleeper.pause()
    wait_until(lambda: fleet.broker.connects(mark) == moved, 30, "its clients run elsewhere")
    wait_until(lambda: sleeper.name not in fleet.shared().register, 10, "reaped")
    sleeper.resume()
    wait_until(lambda: fleet.shared().register.get(sleeper.name, {}).get("incarnation")
               not in (None, incarnation), 20, "joined anew")
    holds_for(lambda: fleet.broker.connects(mark) == moved, 2 * BEAT_S, "no fight over the clients")
    settled(fleet, ids, stays.api)
    later = fleet.create(10, "later", api=stays.api)
    assert set(settled(fleet, ids + later, stays.api).bound[sleeper.name]) == set(later)


@pytest.mark.parametrize("leads", [True, False])
@either
def test_a_node_that_is_killed_is_reaped_by_the_other_version(fleet, before, first, leads):
    nodes = both(fleet, before, first)
    victim = nodes.pop(first if leads else other_of(first))
    [stays] = nodes.values()
    ids = fleet.create(40, api=stays.api)
    moved = set(settled(fleet, ids, stays.api).bound[victim.name])
    mark = fleet.broker.mark()
    victim.kill()
    wait_until(lambda: victim.name not in fleet.shared().register, 30, "reaped")
    settled(fleet, ids, stays.api)
    assert fleet.broker.connects(mark) == {client: 1 for client in moved}
    victim.start()
    more = fleet.create(40, "more", api=victim.api)
    assert settled(fleet, ids + more, victim.api).counts() == {"old": 40, "new": 40}


@pytest.mark.parametrize("direction", ["upgrade", "rollback"])
def test_three_nodes_change_their_version_one_by_one(fleet, before, direction):
    kinds = [before, {}] if direction == "upgrade" else [{}, before]
    names = ["n1", "n2", "n3"]
    nodes = {name: fleet.start_node(name, **kinds[0]) for name in names}
    ids = fleet.create(60, make=fleet.persistent)
    settled(fleet, ids)
    publisher = fleet.closing(Publisher(fleet.broker, [f"t/{client}/x" for client in ids], 200))
    for name in names:
        mark, moved = fleet.broker.mark(), set(fleet.shared().bound[name])
        assert nodes[name].terminate() == 0
        settled(fleet, ids)
        assert hosted(fleet.broker.connects(mark)) == moved
        assert max(fleet.broker.connects(mark).values()) == 1
        api = fleet.start_node(name, **kinds[1]).api
        ids += fleet.create(20, f"after-{name}-", make=fleet.persistent, api=api)
        shared = settled(fleet, ids, api)
        assert len(shared.bound[name]) >= 20 and set(shared.counts()) == set(names)
    fleet.stream.wait_payloads(publisher.stop())
    assert not fleet.broker.takeovers()


@either
def test_both_versions_read_what_the_other_encrypted_and_know_its_calls(fleet, before, first):
    files = {"keys": "k1:" + base64.b64encode(os.urandom(32)).decode(), "fleet": "f" * 40}
    for name, text in files.items():
        (fleet.folder / name).write_text(text + "\n")
        (fleet.folder / name).chmod(0o600)
    fleet.start_broker(users={"u": "word"})
    nodes = both(fleet, before, first, secrets__key_file=fleet.folder / "keys",
                 fleet__secret_file=fleet.folder / "fleet")
    login = {"username": "u", "password": "word"}
    ids = [client for node in nodes.values()
           for client in fleet.create(10, f"{node.name}-", api=node.api, **login)]
    for node in nodes.values():
        assert settled(fleet, ids, node.api).counts() == {"old": 10, "new": 10}
        for client in (ids[0], ids[-1]):
            again = node.api.post("/api/v1/clients", fleet.document(client, **login))
            assert again.status_code == 200, again.text
    series = nodes["new"].api.get("/api/v1/time-series")
    assert series.status_code == 200, series.text
    assert [(one["node"], one["reason"]) for one in series.json()["incomplete"]] == [
        ("old", "the version of the node is too old")]


@either
def test_a_client_whose_identity_is_taken_is_told_so_by_whichever_node_got_it(fleet, before, first):
    nodes = both(fleet, before, first)
    ids = fleet.create(8)
    settled(fleet, ids)
    twins = {f"twin-{one}": json.dumps(fleet.document(f"twin-{one}", client_id=one)) for one in ids}
    fleet.redis.client.hset("mqtt_config:no", mapping=twins)

    def told(twin):
        error = nodes["new"].api.status(twin)["last_error"]
        return error and error["code"] == "identity_taken"
    for twin in twins:
        wait_until(lambda: told(twin), 20, f"{twin} tells why it waits")
    assert fleet.shared().owned == set(ids)


@either
def test_redis_that_goes_back_loses_no_client_that_runs(fleet, before, first):
    nodes = both(fleet, before, first)
    ids = fleet.create(20)
    settled(fleet, ids)
    history = History(fleet)
    history.keep()
    ids += fleet.create(20, "new")
    changed = settled(fleet, ids).bound["new"][0]  # that of an old node would be lost
    api = nodes["old"].api
    assert api.put(api.path(changed), fleet.document(changed, keepalive_s=77)).status_code == 200
    wait_until(lambda: fleet.broker.connect_options(changed)[2] == 77, 20, "the new text runs")
    mark = fleet.broker.mark()
    history.go_back()

    def put_back():
        assert fleet.check_s1(ids).owned == set(ids)
        return api.client(changed)["config"]["keepalive_s"] == 77
    wait_until(put_back, 40, "all is back")
    for node in nodes.values():
        settled(fleet, ids, node.api)
    assert not fleet.broker.connects(mark), "nobody had to connect anew"


def test_a_node_that_does_not_know_profiles_never_runs_half_a_client(fleet, before):
    """Whoever leads: the old node cannot read the text, and the new one gives it to nodes that know profiles."""
    nodes = both(fleet, before, "old")
    api = nodes["new"].api
    assert api.put("/api/v1/client-profiles/site", {"username": "u", "keepalive_s": 41}).status_code == 201
    ids = [f"p{number}" for number in range(6)]
    api.create([{"id": client, "profile": "site", "url": fleet.broker.url} for client in ids])
    nodes["old"].terminate()
    fleet.wait_online(ids, 60, api=api)
    nodes["old"].start()
    assert {fleet.broker.connect_options(client)[2] for client in ids} == {41}
    more = [f"q{number}" for number in range(6)]
    api.create([{"id": client, "profile": "site", "url": fleet.broker.url} for client in more])
    fleet.wait_online(more, 60, api=api)
    assert {fleet.broker.connect_options(client)[2] for client in more} == {41}
    assert not fleet.shared().bound.get("old")
    nodes["new"].terminate()
    holds_for(lambda: not hosted(fleet.broker.connected()), 3, "the old one runs none of them")
