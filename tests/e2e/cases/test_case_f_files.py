"""Files that clients name, clocks that go back, fleets that share a Redis, what Go IoT left."""

import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import time

import pytest
import requests

from fleet import faults
from fleet.checker import Expect
from fleet.node import BINARY, environment
from fleet.stage import Stage
from fleet.wait import wait_until

TEST = "/api/v1/clients:test"
CLI = BINARY.with_name("mqfleet")
SOON = {"reconnect_min_ms": 100, "reconnect_max_ms": 1000}


@pytest.fixture
def stage(fleet):
    return Stage(fleet)


# ---- F11: files -----------------------------------------------------------------------------------

PLACES = ["/etc/shadow", "/etc/passwd", "/etc", "/no/such/file", "/dev/zero", "/dev/nosuch",
          "/proc/self/environ", "/proc/self/fd/1", "/root/.ssh/id_rsa", "/etc/ssl/private/key"]


def ways_in(api, tls, number=0):
    """The answers of every endpoint that accepts a configuration."""
    document = {"id": f"spy{number}", "url": "mqtts://127.0.0.1:1", "desired": "paused", "tls": tls}
    return [api.post(TEST, document), api.post("/api/v1/clients", document),
            api.put("/api/v1/clients/honest", {**document, "id": "honest"})]


def told(answer, *hidden):
    """The text of an answer, without the values that the caller sent."""
    text = answer.text
    for word in hidden:
        text = text.replace(json.dumps(word)[1:-1], "")
    return answer.status_code, text


def test_case_F11_nothing_is_told_of_paths_that_clients_may_not_name(fleet):
    allowed = fleet.folder / "allowed"
    allowed.mkdir()
    (fleet.folder / "beside").write_text("x")
    api = fleet.start_node(secrets__files_allow=allowed).api
    version = api.create({"id": "honest", "url": "mqtt://127.0.0.1:1", "desired": "paused"})["version"]
    places = [*PLACES, str(fleet.folder / "beside"), str(fleet.folder / "nosuch"),
              f"{allowed}/../beside", f"{allowed}/../nosuch", f"{allowed}-too", str(allowed),
              f"{allowed}/.."]
    for field in ("ca", "cert", "key"):
        answers = set()
        for place in places:
            tls = {field: place} if field != "key" else {"cert": f"{allowed}/c", "key": place}
            if field == "cert":
                tls["key"] = f"{allowed}/k"
            for answer in ways_in(api, tls):
                assert answer.status_code == 422, (place, answer.text)
                [fault] = answer.json()["errors"]
                assert fault["pointer"] == f"/tls/{field}"
                assert "secrets.files_allow" in fault["detail"]
                assert str(allowed) not in fault["detail"].replace(place, "")
                answers.add(fault["detail"].replace(place, ""))
        assert len(answers) == 1, answers
    assert api.client("honest")["version"] == version


def test_case_F11_what_lies_below_an_allowed_folder_leads_nowhere_else(fleet, authority):
    """The check is repeated when the node that owns the client opens the file, also through links of the
    operator."""
    allowed = fleet.folder / "allowed"
    allowed.mkdir()
    shutil.copy(authority.ca, allowed / "ca.pem")
    for name, target in (("away", fleet.folder), ("one", authority.ca), ("gone", "/no/such"),
                         ("zero", "/dev/zero"), ("proc", "/proc/self"), ("loop", "loop"),
                         ("link", "ca.pem")):
        (allowed / name).symlink_to(target)
    (fleet.folder / "secret").write_text("x")
    os.mkfifo(allowed / "pipe")
    fleet.start_broker("tls", tls=authority)
    url = fleet.others[-1].url.replace("127.0.0.1", "localhost")
    api = fleet.start_node(secrets__files_allow=allowed, **SOON).api

    def tried(path):
        answer = api.post(TEST, {"url": url, "tls": {"ca": str(path)}})
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert tried(allowed / "ca.pem")["ok"] and tried(allowed / "link")["ok"]
    details = set()
    for name in ("nosuch", "away/secret", "away/nosuch", "away", "one", "gone", "zero", "loop",
                 "proc/environ", "proc/nosuch", "proc/fd/1", "ca.pem/below"):
        [failed] = [step for step in tried(allowed / name)["steps"] if not step["ok"]]
        details.add(failed["detail"].replace(str(allowed / name), ""))
    assert len(details) == 1, details
    [failed] = [step for step in tried(allowed / "pipe")["steps"] if not step["ok"]]
    assert "not a regular file" in failed["detail"]
    # A file that is no longer allowed after the client was created is not opened again.
    api.create({"id": "c", "url": url, "tls": {"ca": str(allowed / "ca.pem")}})
    api.wait_state("c", "online")
    (allowed / "ca.pem").unlink()
    (allowed / "ca.pem").symlink_to(authority.ca)
    assert api.post(api.path("c", "restart")).status_code == 202
    error = wait_until(lambda: api.status("c")["last_error"], 20)
    assert error["code"] == "tls_file_unreadable" and "does not exist" in error["message"], error
    # A configuration written by hand is checked like any other.
    fleet.redis.client.hset("mqtt_config:no", "hand", json.dumps(
        {"client_id": "hand", "url": url, "tls": {"ca": "/etc/passwd"}}))
    error = wait_until(lambda: (api.status("hand") or {}).get("last_error"), 20)
    assert error["code"] == "tls_file_unreadable" and "not below" in error["message"], error


def test_case_F11_without_the_setting_only_the_authorities_of_the_system(fleet):
    api = fleet.start_node().api
    version = api.create({"id": "honest", "url": "mqtt://127.0.0.1:1", "desired": "paused"})["version"]
    for answer in ways_in(api, {"ca": "/srv/ca.pem"}):
        assert answer.status_code == 422 and "secrets.files_allow is empty" in answer.text
    bundle = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
    answer = api.post("/api/v1/clients", {"id": "system", "url": "mqtts://127.0.0.1:1",
                                          "desired": "paused", "tls": {"ca": str(bundle)}})
    assert answer.status_code == 201, answer.text


def test_case_F11_an_answer_takes_as_long_whether_there_is_a_file_or_not(fleet):
    api = fleet.start_node(secrets__files_allow=fleet.folder).api
    times = {"/etc/shadow": [], "/no/such/file": []}
    for _ in range(100):
        for place, took in times.items():
            begun = time.perf_counter()
            answer = api.post(TEST, {"url": "mqtts://127.0.0.1:1", "tls": {"ca": place}})
            took.append(time.perf_counter() - begun)
            assert answer.status_code == 422
    first, second = (statistics.median(took) for took in times.values())
    assert max(first, second) < 3 * min(first, second)


# ---- F13: Redis' clock -----------------------------------------------------------------------------

REST = {"conflict_losses": 2, "conflict_min_ms": 8000, "conflict_max_ms": 30000, "stable_ms": 1500,
        "reconnect_min_ms": 100, "reconnect_max_ms": 200}


@pytest.mark.parametrize("jump_s", [-3600, 3600, -86400])
def test_case_F13_a_resting_client_rests_no_longer_when_redis_clock_jumps(stage, jump_s):
    stage.start(nodes=2, clients=2, messages_per_s=0, **REST)
    api = stage.fleet.api
    [client] = stage.add_clients(1, "contested")
    api.wait_state(client, "online")
    with contextlib.ExitStack() as storm:
        storm.enter_context(faults.foreign_client(stage, client))
        api.wait_state(client, "conflict", 40)
        status = api.status(client)
        assert status["state"] != "conflict" or status["next_retry_at"], status
    stage.redis.shift_clock(jump_s)
    # Never longer than the longest cool-down: 30 s plus a quarter.
    api.wait_state(client, "online", 45)
    assert api.post(api.path(client, "restart")).status_code == 202


def test_case_F13_what_is_put_off_while_the_clock_is_ahead_is_not_for_long(stage):
    stage.start(nodes=2, clients=2, messages_per_s=0, **REST)
    api = stage.fleet.api
    [client] = stage.add_clients(1, "contested")
    api.wait_state(client, "online")
    stage.redis.shift_clock(3600)
    with contextlib.ExitStack() as storm:
        storm.enter_context(faults.foreign_client(stage, client))
        api.wait_state(client, "conflict", 60)
        assert api.status(client)["next_retry_at"] or api.status(client)["state"] != "conflict"
    stage.redis.shift_clock(0)
    api.wait_state(client, "online", 45)


def test_case_F13_a_node_that_dies_as_redis_clock_goes_back_is_found_out_and_comes_back(stage):
    """Its last heartbeat and its leadership would last for an hour."""
    stage.start(nodes=3, clients=20)
    leader = stage.leader()
    stage.checker.begin()
    moving = stage.clients_of(leader)
    leader.kill()
    stage.redis.shift_clock(-3600)
    faults.wait_moved(stage, moving, leader, 30)
    leader.start()
    stage.checker.verify(Expect(moving=moving, silent_nodes={leader.name}))


# ---- F18: what Go IoT left ---------------------------------------------------------------------------

def lines(node, *words):
    return [line for line in node.log().splitlines() if all(word in line for word in words)]


def test_case_F18_a_list_of_a_node_that_is_gone_is_cleaned_and_told_once(fleet):
    node = fleet.start_node()
    ids = fleet.online(3)
    redis = fleet.redis.client
    redis.rpush("node_bind:iot-1", *ids, "long-gone", *(f"x{number}" for number in range(500)))
    redis.set("mqtt_size:iot-1", 504)
    wait_until(lambda: not redis.exists("node_bind:iot-1", "mqtt_size:iot-1"), 30, "cleaned")
    assert set(redis.lrange(f"node_bind:{node.name}", 0, -1)) == set(ids)
    wait_until(lambda: lines(node, "stray_list_cleaned", "node=iot-1", "ids=504"), 10)
    # A Go IoT node that runs keeps its list.
    redis.set("beat:mqtt:iot-2", "1")
    redis.rpush("node_bind:iot-2", "theirs")
    redis.rpush("node_bind:iot-3", ids[0])
    wait_until(lambda: not redis.exists("node_bind:iot-3"), 30, "the next one is cleaned")
    assert redis.lrange("node_bind:iot-2", 0, -1) == ["theirs"]
    assert len(lines(node, "stray_list_cleaned")) == 2


def test_case_F18_a_text_that_cannot_be_read_is_told_once(fleet):
    node = fleet.start_node()
    redis = fleet.redis.client

    def noted(since):
        return (json.loads(redis.hget("mqtt_fleet:attempt", "bad") or "{}").get("at", 0) > since
                and json.loads(redis.hget("mqtt_fleet:attempt", "bad"))["at"])

    for number in range(2):
        redis.hset("mqtt_config:no", "bad", f"no configuration {number}")
        first = wait_until(lambda: noted(0), 20)
        # It is checked again, and nothing is logged.
        wait_until(lambda at=first: noted(at), 30, "it is judged again")
        wait_until(lambda want=number + 1: len(lines(node, "bad_config")) == want, 20)
        redis.zrem("mqtt_fleet:retry", "bad")
    assert fleet.api.status("bad")["last_error"]["code"] == "bad_config"


# ---- F14: two fleets on one Redis ------------------------------------------------------------------

def readyz(node):
    return requests.get(f"http://127.0.0.1:{node.port}/readyz?verbose", timeout=20).text


def test_case_F14_a_node_of_another_fleet_does_not_join(fleet):
    first = fleet.start_node("a", fleet__name="plant-1")
    [client] = fleet.online(1)
    other = fleet.new_node("b", fleet__name="plant-2")
    assert other.start_and_end() == 4
    [line] = lines(other, "other_fleet")
    assert "fleet plant-1, but this node to fleet plant-2" in line
    assert [row["name"] for row in first.api.get("/api/v1/nodes").json()["nodes"]] == ["a"]
    # Nodes with the same name or without a name may join; with another prefix a node is another
    # fleet.
    fleet.start_node("c", fleet__name="plant-1")
    fleet.start_node("d")
    apart = fleet.start_node("e", fleet__name="plant-2", key_prefix="p2:")
    assert apart.api.get("/api/v1/nodes").json()["fleet"] == "plant-2"
    answer = first.api.get("/api/v1/nodes").json()
    assert answer["fleet"] == "plant-1"
    assert [row["name"] for row in answer["nodes"]] == ["a", "c", "d"]
    assert first.api.state(client) == "online"


def test_case_F14_a_running_node_whose_redis_becomes_another_fleets_says_so(fleet):
    node = fleet.start_node("a", fleet__name="plant-1")
    [client] = fleet.online(1)
    mark = fleet.broker.mark()
    fleet.redis.client.flushall()
    fleet.redis.client.set("mqtt_fleet:name", "plant-2")
    wait_until(lambda: "Redis belongs to fleet plant-2" in readyz(node), 30, "it says so")
    assert node.running and not fleet.redis.client.exists("register:mqtt")
    fleet.redis.client.delete("mqtt_fleet:name")
    wait_until(lambda: "readyz check passed" in readyz(node), 30, "it joins its own fleet")
    wait_until(lambda: node.api.get(node.api.path(client)).status_code == 200, 30, "put back")
    node.api.wait_state(client, "online")
    assert not fleet.broker.connects(mark), "it went on all the time"


def test_case_F14_settings_that_a_fleet_must_share_are_warned_of(fleet):
    fleet.start_node("a")
    assert not lines(fleet.start_node("b"), "fleet_settings_differ")
    odd = fleet.start_node("c", heartbeat_ms=500, release_after_ms=60000, http__workers=3)
    told = lines(odd, "fleet_settings_differ")
    assert len(told) == 2 and not any("http.workers" in line for line in told)
    assert "setting=heartbeat_ms here=500 there=1000" in told[0] and "nodes=2" in told[0]
    rows = fleet.api.get("/api/v1/nodes").json()["nodes"]
    assert [row["differing_settings"] for row in rows] == [
        {"heartbeat_ms": 1000, "release_after_ms": 300000},
        {"heartbeat_ms": 1000, "release_after_ms": 300000},
        {"heartbeat_ms": 500, "release_after_ms": 60000}]
    status = subprocess.run([CLI, "--url", f"http://127.0.0.1:{fleet.nodes[0].port}", "status"],
                            env=environment(), capture_output=True, text=True, timeout=60).stdout
    assert "heartbeat_ms is 1000 on a, 1000 on b, 500 on c" in status, status
    assert odd.terminate() == 0
    rows = fleet.api.get("/api/v1/nodes").json()["nodes"]
    assert [row["differing_settings"] for row in rows] == [{}, {}]


def at_name(fleet, client):
    """The name resolves to a denied address; every node accepts the document."""
    return fleet.document(client, url=fleet.broker.url.replace("127.0.0.1", "localhost"))


def test_case_F14_a_node_that_may_not_reach_a_broker_gives_the_client_to_another_at_once(fleet):
    deny = {"broker_deny": "127.0.0.0/8,::1", "reconnect_max_ms": 8000}
    nodes = [fleet.start_node("a", **deny), fleet.start_node("b", **deny), fleet.start_node("c")]
    api = nodes[0].api
    api.create([at_name(fleet, f"x{number}") for number in range(30)])
    wait_until(lambda: all(api.state(f"x{number}") == "online" for number in range(30)), 30,
               "all are online", poll_s=0.2)
    assert {api.client(f"x{number}")["placement"]["node"] for number in range(30)} == {"c"}


def test_case_F14_a_broker_that_no_node_may_reach_is_said_and_waited_for(fleet):
    # A node that believes that it is alone keeps the client until its next attempt.
    deny = {"broker_deny": "127.0.0.0/8,::1", "reconnect_max_ms": 8000}
    nodes = [fleet.start_node(name, **deny) for name in ("a", "b")]
    api = nodes[0].api
    api.create(at_name(fleet, "x"))

    def rests():
        status = api.status("x")
        return status["state"] == "waiting" and status["next_retry_at"] and status

    status = wait_until(rests, 30, "it waits")
    assert status["last_error"]["code"] == "broker_denied", status
    assert "broker_deny" in status["last_error"]["message"], status
    moves = sum(len(lines(node, "client=x", "broker_denied")) for node in nodes)
    assert 2 <= moves <= 6, "each was asked, and then it rested"
    # A node that may connect to the broker gets the client as soon as it is assigned again.
    fleet.start_node("c")
    assert api.put(api.path("x"), at_name(fleet, "x") | {"labels": {"a": "b"}}).status_code == 200
    api.wait_state("x", "online", 30)
