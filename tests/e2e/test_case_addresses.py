"""Names with several addresses, several URLs, and what a URL or an empty password means (cases D1 to
D4, E7 and E8)."""

import concurrent.futures
import re
import time

import pytest

from fleet.hostile import Deaf
from fleet.names import start_naming_node
from fleet.ports import free_port
from fleet.scripted import ScriptedBroker
from fleet.wait import PATIENCE, holds_for, wait_until

CLIENTS = "/api/v1/clients"
TEST = CLIENTS + ":test"
NAME = "broker.test"
NO_ROUTE = "2001:db8::1"
# Below a second on a machine that has nothing else to do; far below connect_timeout_ms, which is
# what an address that swallows would cost.
BOUND_S = 4


def deaf(fleet, *addresses):
    """At these addresses, SYNs to the broker's port are dropped."""
    for address in addresses:
        fleet.closing(Deaf(address, fleet.broker.port))
    return list(addresses)


def document(fleet, client, **more):
    return fleet.document(client, url=f"mqtt://{NAME}:{fleet.broker.port}", **more)


def online_within(fleet, node, ids, bound_s):
    """Measured from the call."""
    began = time.monotonic()
    wait_until(lambda: all(node.api.state(one) == "online" for one in ids), bound_s,
               f"{len(ids)} online", poll_s=0.02)
    return time.monotonic() - began


def lose(fleet, ids):
    """The broker restarts at once: the clients reconnect."""
    fleet.broker.kill()
    fleet.broker.start()


# ---- D1 and D4: addresses that do not answer ------------------------------------------------

@pytest.mark.parametrize("silent", [1, 3, 7])
def test_case_D1_addresses_that_swallow_connections_cost_a_quarter_of_a_second(fleet, silent):
    addresses = deaf(fleet, *(f"127.0.0.{2 + i}" for i in range(silent)))
    node = start_naming_node(fleet, {NAME: [*addresses, "127.0.0.1"]}, reconnect_min_ms=100,
                             reconnect_max_ms=200)
    node.api.create(document(fleet, "first"))
    online_within(fleet, node, ["first"], 0.25 * silent + BOUND_S)
    # From here on the good one is known, to every client of that broker and at each reconnect.
    ids = [f"c{i}" for i in range(20)]
    node.api.create([document(fleet, one) for one in ids])
    online_within(fleet, node, ids, BOUND_S)
    for _ in range(2):
        lose(fleet, ids)
        online_within(fleet, node, [*ids, "first"], BOUND_S)
    assert "127.0.0.2" not in str(node.api.status("c3")["last_error"])


def test_case_D1_clients_come_online_although_all_places_to_connect_are_taken(fleet):
    """One at a time may connect, and the first address swallows."""
    addresses = deaf(fleet, "127.0.0.2", "127.0.0.3")
    node = start_naming_node(fleet, {NAME: [*addresses, "127.0.0.1"]}, connect_in_flight=1)
    ids = [f"c{i}" for i in range(30)]
    node.api.create([document(fleet, one) for one in ids])
    online_within(fleet, node, ids, 8)


def test_case_D1_the_sockets_of_all_attempts_stay_within_connect_in_flight(fleet):
    peers = [fleet.closing(Deaf(f"127.0.0.{2 + i}", fleet.broker.port)) for i in range(3)]
    node = start_naming_node(fleet, {NAME: ["127.0.0.2", "127.0.0.3", "127.0.0.4"]},
                             connect_in_flight=8, connect_timeout_ms=3000)
    node.api.create([document(fleet, f"c{i}") for i in range(40)])
    wait_until(lambda: all(peer.tries for peer in peers), 10, "each address was tried")
    began, most = time.monotonic(), 0
    while time.monotonic() < began + 4:
        most = max(most, Deaf.connecting(peers))
        time.sleep(0.02)
    assert 4 <= most <= 8, most
    error = wait_until(lambda: node.api.status("c0")["last_error"], 10, "an error")
    assert error["code"] == "connect_timeout"
    for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
        assert f"{address}: no answer within" in error["message"], error


def test_case_D4_an_address_without_a_route_is_left_at_once(fleet):
    node = start_naming_node(fleet, {NAME: [NO_ROUTE, "127.0.0.1"]})
    node.api.create(document(fleet, "c"))
    online_within(fleet, node, ["c"], BOUND_S)
    fleet.broker.kill()
    error = wait_until(lambda: (found := node.api.status("c")["last_error"]) and
                       found["code"] == "connection_refused" and found, 10, "refused")
    assert f"{NO_ROUTE}: Network is unreachable" in error["message"], error
    assert "127.0.0.1: Connection refused" in error["message"], error


def test_case_D4_families_are_tried_in_turn(fleet):
    """A machine with many unreachable IPv6 addresses."""
    without = [f"2001:db8::{i}" for i in range(1, 9)]
    node = start_naming_node(fleet, {NAME: [*without, "127.0.0.1"]})
    node.api.create(document(fleet, "c"))
    online_within(fleet, node, ["c"], BOUND_S)


def test_an_address_that_fails_after_tcp_is_tried_last(fleet, authority):
    fleet.start_broker(tls=authority)
    port = fleet.broker.port
    liar = fleet.closing(ScriptedBroker(address="127.0.0.2", port=port))
    node = start_naming_node(fleet, {NAME: ["127.0.0.2", "127.0.0.1"]}, reconnect_min_ms=100,
                             reconnect_max_ms=200)
    node.api.create(fleet.document("c", url=f"mqtts://{NAME}:{port}", tls={
        "ca": authority.ca.read_text(), "server_name": "localhost"}))
    liar.accept().close()  # TCP, and then no TLS
    online_within(fleet, node, ["c"], BOUND_S)
    liar.nobody(0.5)


def test_names_whose_addresses_change_are_followed(fleet):
    node = start_naming_node(fleet, {NAME: ["127.0.0.2"]}, dns_ttl_ms=0, reconnect_min_ms=100,
                             reconnect_max_ms=300)
    node.api.create(document(fleet, "c"))
    wait_until(lambda: node.api.status("c")["last_error"], 5, "an error")
    node.give({NAME: ["127.0.0.1", "127.0.0.2"]})
    online_within(fleet, node, ["c"], BOUND_S)
    node.give({NAME: ["127.0.0.3", "127.0.0.2"]})
    lose(fleet, ["c"])
    wait_until(lambda: "127.0.0.3" in node.api.status("c")["last_error"]["message"], 5, "left it")


# ---- D2: trying a configuration -------------------------------------------------------------

def report(node, document):
    answer = node.api.post(TEST, document)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_case_D2_each_address_is_tried_and_told(fleet):
    addresses = deaf(fleet, "127.0.0.2")
    node = start_naming_node(fleet, {NAME: [*addresses, NO_ROUTE, "127.0.0.3", "127.0.0.1"]})
    began = time.monotonic()
    found = report(node, {"url": f"mqtt://{NAME}:{fleet.broker.port}"})
    assert time.monotonic() - began < 8 * PATIENCE
    assert found["ok"], found
    told = {one["address"]: one for one in found["addresses"]}
    assert {address for address, one in told.items() if one["ok"]} == {"127.0.0.1"}
    assert "no answer within" in told["127.0.0.2"]["detail"]
    assert "unreachable" in told[NO_ROUTE]["detail"]
    assert "refused" in told["127.0.0.3"]["detail"]
    tcp = next(step for step in found["steps"] if step["step"] == "tcp")
    assert tcp["detail"].startswith("connected to 127.0.0.1"), tcp
    assert "127.0.0.2 failed (no answer" in tcp["detail"]


def test_case_D2_one_that_fails_after_tcp_is_followed_by_the_next(fleet, authority):
    fleet.start_broker(tls=authority)
    port = fleet.broker.port
    # A broker without TLS at the same port of another address.
    plain = fleet.closing(ScriptedBroker(address="127.0.0.2", port=port))
    node = start_naming_node(fleet, {NAME: ["127.0.0.2", "127.0.0.1"]})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pending = pool.submit(report, node, {"url": f"mqtts://{NAME}:{port}", "tls": {
            "ca": authority.ca.read_text(), "server_name": "localhost"}})
        plain.accept().close()
        found = pending.result()
    assert found["ok"], found
    told = {one["address"]: one for one in found["addresses"]}
    assert told["127.0.0.1"]["ok"] and not told["127.0.0.2"]["ok"]
    assert told["127.0.0.2"]["detail"].startswith("tls: ")


def test_case_D2_where_none_works_each_is_told_too(fleet):
    addresses = deaf(fleet, "127.0.0.2")
    node = start_naming_node(fleet, {NAME: [*addresses, "127.0.0.3"]})
    answer = node.api.post(TEST, {"url": f"mqtt://{NAME}:{fleet.broker.port}"},
                           params={"timeout_ms": 1500})
    found = answer.json()
    assert not found["ok"] and found["steps"][-1]["step"] == "tcp", found
    for address, why in (("127.0.0.2", "no answer within"), ("127.0.0.3", "Connection refused")):
        assert f"{address}: {why}" in found["steps"][-1]["detail"], found
    assert len(found["addresses"]) == 2


# ---- E7 and E8 ------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["mqtt://user:top#001@127.0.0.1", "mqtts://user:top/001@127.0.0.1",
                                 "ws://us?er:top@127.0.0.1/mqtt"])
def test_case_E7_a_password_within_a_url_is_named_as_the_cause(fleet, url):
    fleet.start_node()
    for path in (CLIENTS, TEST):
        answer = fleet.api.post(path, {"id": "c", "url": url})
        assert answer.status_code == 422, answer.text
        error, = answer.json()["errors"]
        assert error["pointer"] == "/url" and "percent-encoded" in error["detail"], error
        assert "001" not in str(error) and "top" not in str(error)


@pytest.mark.every_engine
@pytest.mark.parametrize("version", [4, 5])
def test_case_E8_an_empty_password_is_sent_and_none_is_not(fleet, version):
    fleet.start_node()
    broker = fleet.closing(ScriptedBroker())
    for client, more, (username, password) in [
            ("empty", {"username": "u", "password": ""}, ("u", b"")),
            ("none", {"username": "u"}, ("u", None)),
            ("nobody", {"username": "", "password": ""}, (None, None))]:
        fleet.api.create(fleet.document(client, url=broker.url, protocol_version=version, **more))
        connect = broker.connection().connect
        assert (connect.username, connect.password) == (username, password), client
        fleet.api.delete(fleet.api.path(client))


# ---- D3: several brokers --------------------------------------------------------------------

def test_case_D3_a_standby_takes_over_and_is_left_only_when_it_fails(fleet):
    active, standby = fleet.broker, fleet.start_broker("standby")
    node = fleet.start_node(reconnect_min_ms=100, reconnect_max_ms=1000)
    ids = [f"c{i}" for i in range(20)]
    fleet.api.create([fleet.document(one, url=None, urls=[active.url, standby.url])
                      for one in ids])

    def all_at(broker):
        return all((status := node.api.status(one))["state"] == "online" and
                   status["broker"] == f"127.0.0.1:{broker.port}" for one in ids)

    wait_until(lambda: all_at(active), 10, "at the active one")
    active.kill()
    wait_until(lambda: all_at(standby), 10, "at the standby")
    standby.publish("t/c3/x", "from the standby")
    fleet.stream.wait_payloads([b"from the standby"])
    active.start()
    holds_for(lambda: all_at(standby), 1, "the standby is not left")
    standby.kill()
    wait_until(lambda: all_at(active), 10, "back at the active one")
    active.publish("t/c3/x", "from the active one")
    fleet.stream.wait_payloads([b"from the standby", b"from the active one"])


def test_case_D3_many_clients_find_whichever_broker_is_back(fleet):
    """With an incident at each: who waits for one of them goes to the other."""
    active, standby = fleet.broker, fleet.start_broker("standby")
    node = fleet.start_node(reconnect_min_ms=200)
    ids = [f"c{i}" for i in range(150)]
    fleet.api.create([fleet.document(one, url=None, urls=[active.url, standby.url])
                      for one in ids])
    wait_until(lambda: active.connected() >= set(ids), 20, "at the active one")
    active.kill()
    wait_until(lambda: standby.connected() >= set(ids), 15, "at the standby")
    standby.kill()
    wait_until(lambda: not fleet.api.clients(state="online"), 10, "nobody online")
    holds_for(lambda: True, 2)
    active.start()
    wait_until(lambda: active.connected() >= set(ids), 15, "back at the active one")
    assert node.ready()


def test_case_D3_a_client_that_is_paused_may_get_other_brokers(fleet):
    """Fewer than it had, when it was at the last of them."""
    node = fleet.start_node(reconnect_min_ms=100)
    nobody = [f"mqtt://127.0.0.1:{free_port()}" for _ in range(7)]
    config = fleet.document("c", url=None, urls=[*nobody, fleet.broker.url])
    fleet.api.create(config)
    fleet.wait_online(["c"], 10)
    path = fleet.api.path("c")
    for urls in ([fleet.broker.url], [nobody[0], fleet.broker.url]):
        assert fleet.api.put(path, {**config, "urls": urls, "desired": "paused"}).ok
        wait_until(lambda: fleet.api.status("c")["state"] == "paused", 10)
        assert fleet.api.put(path, {**config, "urls": urls, "desired": "running"}).ok
        fleet.wait_online(["c"], 10)
    assert node.api.status("c")["broker"] == f"127.0.0.1:{fleet.broker.port}"


def test_case_D3_without_any_the_rounds_are_paced(fleet):
    urls = [f"mqtt://127.0.0.1:{free_port()}" for _ in range(3)]
    node = fleet.start_node(reconnect_min_ms=1000, reconnect_max_ms=1000)
    fleet.api.create(fleet.document("c", url=None, urls=urls))
    holds_for(lambda: True, 3.5)
    tries = re.findall(r"client=c from=opening to=backoff .*broker=127.0.0.1:(\d+)", node.log())
    ports = [url.rsplit(":")[-1] for url in urls]
    assert 6 <= len(tries) <= 12, tries
    assert tries == [ports[i % 3] for i in range(len(tries))], "each once in a round"


def test_case_D3_the_identity_is_held_at_each_of_the_brokers(fleet):
    fleet.start_node()
    api, other = fleet.api, "mqtt://127.0.0.1:9"
    api.create(fleet.document("first", url=None, urls=[fleet.broker.url, other], client_id="x"))
    for url in (fleet.broker.url, other):
        answer = api.post(CLIENTS, fleet.document("second", url=url, client_id="x"))
        assert answer.status_code == 409 and "first" in answer.text, answer.text
    # Another list gives back what is not in it.
    config = fleet.document("first", url=None, urls=[fleet.broker.url], client_id="x")
    assert api.put(api.path("first"), config).status_code == 200
    api.create(fleet.document("second", url=other, client_id="x"))
    answer = api.put(api.path("first"), {**config, "urls": [fleet.broker.url, other]})
    assert answer.status_code == 409 and "second" in answer.text
    api.delete(api.path("second"))
    assert api.put(api.path("first"), {**config, "urls": [fleet.broker.url, other]}).ok


def test_case_D3_urls_and_their_secrets_are_judged_and_hidden(fleet):
    api = fleet.start_node().api
    wss = "wss://127.0.0.1:1/mqtt?token=s3cr3t"
    for document, pointer in [
            ({"urls": []}, "/urls"), ({"urls": ["mqtt://h"] * 2}, "/urls/1"),
            ({"urls": ["mqtt://h", "h"]}, "/urls/1"), ({"urls": ["mqtt://h"], "url": "mqtt://h"}, "/urls"),
            ({"urls": [f"mqtt://h{i}" for i in range(9)]}, "/urls"),
            ({"urls": ["mqtt://h"], "urls_order": "any"}, "/urls_order"),
            ({"url": "mqtt://h", "urls_order": "random"}, "/urls_order"),
            ({"urls": ["mqtt://h", "mqtt://u:p#s3cr3t@h"]}, "/urls/1")]:
        answer = api.post(CLIENTS, {"id": "c", **document})
        assert answer.status_code == 422 and "s3cr3t" not in answer.text, answer.text
        assert pointer in [one["pointer"] for one in answer.json()["errors"]], answer.text
    created = api.post(CLIENTS, {"id": "c", "urls": ["mqtt://127.0.0.1:2", wss]}).json()
    shown = ["mqtt://127.0.0.1:2", "wss://127.0.0.1:1/mqtt?***"]
    assert created["config"]["urls"] == shown
    # Shown is what can be sent back, in any order.
    answer = api.put(api.path("c"), {"id": "c", "urls": shown[::-1]})
    assert answer.status_code == 200 and answer.json()["config"]["urls"] == shown[::-1], answer.text
    kept = [fleet.redis.client.hget(f"mqtt_config:{place}", "c") for place in ("no", "use")]
    assert wss in str(kept)


def test_case_D3_a_test_tells_of_each_broker(fleet):
    api = fleet.start_node().api
    nobody = f"mqtt://127.0.0.1:{free_port()}"
    found = api.post(TEST, {"urls": [nobody, fleet.broker.url]}).json()
    assert found["ok"] and found["steps"][-1]["step"] == "subscribe", found
    first, second = found["brokers"]
    assert not first["ok"] and first["step"] == "tcp" and "refused" in first["detail"]
    assert second["ok"] and second["broker"] == f"127.0.0.1:{fleet.broker.port}"
