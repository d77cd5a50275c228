"""Waiting requests use no thread: any number of them wait, delay nobody, and end."""

import concurrent.futures
import json
import os
import pathlib
import socket
import time

import pytest

from fleet.node import sanitized
from fleet.operator import metrics
from fleet.wait import wait_until

MANY = 300


def threads(node):
    """Names of the node's threads."""
    return sorted(task.joinpath("comm").read_text().strip()
                  for task in pathlib.Path(f"/proc/{node.pid}/task").iterdir())


def ask(node, method, path, document=b"{}", timeout_s=60):
    """Sends a request and leaves the connection open."""
    sock = socket.create_connection(("127.0.0.1", node.port), timeout=timeout_s)
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                 f"Content-Length: {len(document)}\r\n\r\n".encode() + document)
    return sock


def status_of(sock):
    answer = b""
    while piece := sock.recv(65536):
        answer += piece
    return int(answer.split(b" ", 2)[1])


def is_silent(sock):
    sock.setblocking(False)
    try:
        return sock.recv(1, socket.MSG_PEEK) is None
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(60)


def publication(client):
    return f"/api/v1/clients/{client}/publish", b'{"topic":"t","payload":"x","qos":1}'


def silent_clients(fleet, count):
    """Clients that are online at a broker that then stays silent."""
    broker = fleet.start_broker("silent")
    ids = [f"silent-{number}" for number in range(count)]
    fleet.api.create([{"id": one, "url": broker.url, "keepalive_s": 600} for one in ids])
    fleet.wait_online(ids)
    broker.pause()
    return broker, ids


def test_case_F16_as_many_as_ask_wait_for_their_clients(fleet):
    """300 posts with wait_ms=30000: each is answered when its client is online, not earlier."""
    node = fleet.start_node(connect_timeout_ms=60000)
    broker = fleet.start_broker("silent")
    broker.pause()
    before, began = threads(node), node.rss_bytes()
    waiting = [ask(node, "POST", "/api/v1/clients?wait_ms=30000",
                   f'{{"id":"c{number}","url":"{broker.url}"}}'.encode()) for number in range(MANY)]
    wait_until(lambda: len(fleet.api.clients()) == MANY, 20, "all are stored")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert all(is_silent(sock) for sock in waiting)
        assert fleet.api.get("/api/v1/nodes").status_code == 200
    assert threads(node) == before
    assert metrics(node)["mqfleet_http_waiting_requests"] == MANY
    assert sanitized() or node.rss_bytes() - began < MANY * 160 * 1024
    broker.resume()
    assert [status_of(sock) for sock in waiting] == [201] * MANY
    assert {one["status"]["state"] for one in fleet.api.clients()} == {"online"}


def test_case_F5_publications_to_a_silent_broker_hold_up_nobody(fleet):
    """300 publications through three clients whose broker is silent: no 503, no additional thread, and no delay
    for healthy clients."""
    node = fleet.start_node(publish_timeout_ms=20000)
    fleet.online(1)
    broker, ids = silent_clients(fleet, 3)
    before = threads(node)
    hung = [ask(node, "POST", *publication(ids[number % 3])) for number in range(MANY)]
    for _ in range(50):
        began = time.monotonic()
        assert fleet.api.publish("c00000", topic="t", payload="x", qos=1).status_code == 200
        assert time.monotonic() - began < 5
    assert all(is_silent(sock) for sock in hung)
    assert threads(node) == before
    broker.resume()
    assert [status_of(sock) for sock in hung] == [200] * MANY


def test_case_F5_large_publications_to_a_silent_broker_leave_others_theirs(fleet):
    """What waits is counted once, with the broker's publications: bodies of 64 MB at once are no
    bound of those that wait."""
    node = fleet.start_node(publish_timeout_ms=20000)
    fleet.online(1)
    _, (client,) = silent_clients(fleet, 1)
    path, _ = publication(client)
    large = json.dumps({"topic": "t", "qos": 1, "payload": "x" * (1 << 20)}).encode()
    hung = []
    for number in range(1, 71):
        hung.append(ask(node, "POST", path, large))
        wait_until(lambda: metrics(node)["mqfleet_http_waiting_requests"] == number, 20, "it waits")
    answer = fleet.api.publish("c00000", topic="t", payload="x" * (1 << 20), qos=1)
    assert answer.status_code == 200
    assert all(is_silent(sock) for sock in hung)


def test_case_F5_of_17_for_each_of_three_clients_none_is_refused(fleet):
    node = fleet.start_node(publish_timeout_ms=3000)
    _, ids = silent_clients(fleet, 3)
    hung = [ask(node, "POST", *publication(ids[number % 3])) for number in range(51)]
    assert {status_of(sock) for sock in hung} == {504}


def test_a_node_has_few_threads(fleet):
    node = fleet.start_node()
    names = threads(node)
    # Two of sinks: that of the sink `null` starts with its first message.
    assert len(names) <= 18 + os.cpu_count() + sanitized(), names


def test_more_than_may_wait_are_refused_and_who_goes_makes_room(fleet):
    node = fleet.start_node(http__waiters=2, publish_timeout_ms=30000)
    _, (client,) = silent_clients(fleet, 1)
    first, second = (ask(node, "POST", *publication(client)) for _ in range(2))

    def waiting(count):
        wait_until(lambda: metrics(node)["mqfleet_http_waiting_requests"] == count, 20,
                   f"{count} wait")

    waiting(2)
    refused = fleet.api.publish(client, topic="t", payload="x", qos=1)
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["type"] == "urn:mqfleet:problem:overload"
    assert fleet.api.client(client)["id"] == client  # what does not wait is answered
    first.close()
    waiting(1)
    third = ask(node, "POST", *publication(client))
    waiting(2)
    assert is_silent(second) and is_silent(third)
    second.close()
    third.close()
    waiting(0)


def test_what_callers_leave_under_way_at_another_node_stays_counted(fleet):
    """Callers whose publications wait for a silent broker behind another node hang up: their places are free
    only when the calls have ended."""
    fleet.start_node("m1", publish_timeout_ms=30000)
    broker, (client,) = silent_clients(fleet, 1)
    other = fleet.start_node("m2", node_info__size=0, http__connections_max=40,
                             publish_timeout_ms=30000)
    hung = [ask(other, "POST", *publication(client)) for _ in range(20)]  # 2/3 of 3/4 of 40
    wait_until(lambda: metrics(other)["mqfleet_http_waiting_requests"] == 20, 20, "all wait")
    for sock in hung:
        sock.close()
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert metrics(other)["mqfleet_http_waiting_requests"] == 20
    refused = other.api.publish(client, topic="t", payload="x", qos=1)
    assert refused.status_code == 503 and refused.json()["code"] == "broker_busy"
    broker.resume()
    wait_until(lambda: metrics(other)["mqfleet_http_waiting_requests"] == 0, 20, "none waits")
    assert other.api.publish(client, topic="t", payload="x", qos=1).status_code == 200


@pytest.mark.parametrize("moment", ["publish", "wait_ms", "test"])
def test_a_node_that_stops_answers_those_who_wait(fleet, moment):
    node = fleet.start_node(publish_timeout_ms=60000, connect_timeout_ms=60000)
    broker, (client,) = silent_clients(fleet, 1)
    document = f'{{"id":"new","url":"{broker.url}"}}'.encode()
    path, body = {
        "publish": publication(client),
        "wait_ms": ("/api/v1/clients?wait_ms=60000", document),
        "test": ("/api/v1/clients:test?timeout_ms=30000", document),
    }[moment]
    waiting = [ask(node, "POST", path, body.replace(b'"new"', f'"new{number}"'.encode()))
               for number in range(3)]
    end = time.monotonic() + 1
    while time.monotonic() < end:
        assert all(is_silent(sock) for sock in waiting)
    node.terminate()
    assert {status_of(sock) for sock in waiting} <= {200, 201, 503, 504}


def test_a_wait_through_another_node_ends_when_the_client_is_online(fleet):
    """A client is created and changed through a node that accepts no clients itself: the owner notifies it of
    both."""
    fleet.start_node("m1")
    other = fleet.start_node("m2", node_info__size=0)
    for number in range(5):
        began = time.monotonic()
        document = fleet.document(f"c{number}")
        created = other.api.create(document, wait_ms=20000)
        assert created["status"]["state"] == "online"
        assert created["placement"]["node"] == "m1"
        changed = other.api.put(other.api.path(f"c{number}") + "?wait_ms=20000",
                                {**document, "subscriptions": ["other/#"]})
        assert changed.json()["status"]["state"] == "online"
        assert changed.json()["status"]["version"] == changed.json()["version"]
        assert time.monotonic() - began < 10


def test_an_owner_whose_heartbeat_is_late_is_asked_all_the_same(fleet):
    """On a busy machine a heartbeat expires before the next one; the node keeps running its clients."""
    late = {"heartbeat_ms": 30000, "heartbeat_ttl_ms": 36000, "reclaim_grace_ms": 60000}
    fleet.start_node("m1", **late)
    other = fleet.start_node("m2", node_info__size=0, **late)
    [client] = fleet.online(1)
    fleet.redis.client.delete("beat:mqtt:m1")
    assert other.api.client(client)["status"]["state"] == "online"
    created = other.api.create(fleet.document(client), wait_ms=20000)
    assert created["status"]["state"] == "online"
    assert not fleet.redis.client.exists("beat:mqtt:m1")


def test_many_wait_through_another_node(fleet):
    fleet.start_node("m1")
    other = fleet.start_node("m2", node_info__size=0)
    documents = [fleet.document(f"c{number}") for number in range(100)]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(
            lambda document: other.api.create(document, wait_ms=30000)["status"], documents))
    assert [one for one in statuses if one["state"] != "online"] == []
    more = json.dumps([fleet.document(f"d{number}") for number in range(50)]).encode()
    fleet.broker.pause()
    batch = ask(other, "POST", "/api/v1/clients?wait_ms=30000", more)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        assert is_silent(batch)
    fleet.broker.resume()
    assert status_of(batch) == 201


def test_a_wait_for_a_client_that_is_deleted_or_fails_ends(fleet):
    fleet.start_node("m1", connect_timeout_ms=60000)
    other = fleet.start_node("m2", node_info__size=0)
    broker = fleet.start_broker("silent")
    broker.pause()
    waiting = [ask(other, "POST", "/api/v1/clients?wait_ms=60000",
                   f'{{"id":"gone","url":"{broker.url}"}}'.encode())]
    wait_until(lambda: fleet.api.get(fleet.api.path("gone")).status_code == 200, 10, "stored")
    fleet.api.delete(fleet.api.path("gone"))
    assert status_of(waiting[0]) == 201
    began = time.monotonic()
    failed = other.api.create({"id": "failed", "url": "mqtt://127.0.0.1:1"}, wait_ms=60000)
    assert failed["status"]["state"] in ("backoff", "waiting")
    assert time.monotonic() - began < 30


def test_a_redis_that_stands_still_holds_up_no_publication(fleet):
    """All handler threads wait for Redis; requests that do not need Redis are still answered."""
    node = fleet.start_node(redis_config__timeout_ms=20000, heartbeat_ttl_ms=60000)
    fleet.online(1)
    fleet.redis.pause()
    try:
        stuck = [ask(node, "GET", "/api/v1/clients") for _ in range(20)]
        for _ in range(20):
            began = time.monotonic()
            assert fleet.api.publish("c00000", topic="t", payload="x", qos=1).status_code == 200
            assert time.monotonic() - began < 2
        assert all(is_silent(sock) for sock in stuck)
    finally:
        fleet.redis.resume()
    assert {status_of(sock) for sock in stuck} <= {200, 503}
