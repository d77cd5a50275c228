"""Brokers that restart, become silent, refuse a subscription, or see two clients with one identifier."""

import json

import pytest

from fleet.mqtt_client import new_client
from fleet.proxy import Proxy
from fleet.publisher import Publisher
from fleet.sse import EventReader
from fleet.wait import holds_for, wait_until

pytestmark = pytest.mark.every_engine

DYNAMIC_SECURITY = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so"


@pytest.mark.heavy
def test_kf19_a_broker_restart_brings_back_every_subscription(fleet):
    fleet.start_nodes(2, reconnect_max_ms=3000)
    ids = fleet.create(300, make=lambda client: fleet.document(
        client, subscriptions=[{"filter": f"t/{client}/{part}", "qos": 1} for part in "ab"]))
    fleet.wait_online(ids, 60)
    mark = fleet.broker.mark()
    fleet.broker.restart()
    every = {client: {f"t/{client}/a", f"t/{client}/b"} for client in ids}
    wait_until(lambda: fleet.broker.subscriptions(mark) == every, 60, "all subscriptions back")
    fleet.wait_online(ids, 30)
    # Rate-limited, and no client retries constantly.
    assert max(fleet.broker.connects(mark).values()) == 1
    fleet.broker.publish_all([(f"t/{client}/{part}", f"{client}{part}")
                              for client in ids for part in "ab"])
    fleet.stream.wait_payloads(f"{client}{part}".encode() for client in ids for part in "ab")
    fleet.check_s1(ids)
    assert {node["state"] for node in fleet.api.nodes().values()} == {"live"}


def test_no_acknowledged_message_is_lost_over_broker_restarts(fleet):
    fleet.start_broker(persistence=True)
    fleet.start_nodes(2, reconnect_min_ms=100, reconnect_max_ms=1000)
    ids = fleet.online(20, make=fleet.persistent)
    publisher = fleet.closing(
        Publisher(fleet.broker, [f"t/{client}/x" for client in ids], rate_per_s=200))
    for count in (200, 500):
        wait_until(lambda: publisher.sent >= count, 20)
        mark = fleet.broker.mark()
        fleet.broker.restart()
        wait_until(lambda: set(fleet.broker.connects(mark)) >= set(ids), 30, "all back")
    fleet.wait_online(ids, 30)
    fleet.stream.wait_payloads(publisher.stop())


def test_kf17_a_half_open_connection_is_not_shown_as_online(fleet):
    proxy = fleet.closing(Proxy(fleet.broker.port))
    fleet.start_node()
    keepalive_s = 2
    fleet.api.create(fleet.document("tractor", url=proxy.url, keepalive_s=keepalive_s))
    fleet.api.wait_state("tractor", "online")
    holds_for(lambda: fleet.api.state("tractor") == "online", 3 * keepalive_s, "keepalive works")
    proxy.silent = True
    wait_until(lambda: fleet.api.state("tractor") != "online", 2 * keepalive_s + 1.5,
               "leaves online within twice the keepalive")
    proxy.silent = False
    fleet.api.wait_state("tractor", "online", 20)
    assert fleet.api.status("tractor")["reconnects"] >= 1


def test_a_broker_that_accepts_and_never_answers_runs_into_the_connect_timeout(fleet):
    proxy = fleet.closing(Proxy(fleet.broker.port))
    proxy.silent = True
    fleet.start_node(connect_timeout_ms=1000)
    fleet.api.create(fleet.document("mute", url=proxy.url))
    error = fleet.api.wait_state("mute", "backoff", 15)["last_error"]
    assert error["code"] == "connect_timeout", error


@pytest.mark.parametrize("version", [4, 5])
def test_kf19_a_refused_subscription_is_shown(fleet, version):
    """Judged by mosquitto's dynamic security, since its ACL files refuse no subscription."""
    policy = fleet.folder / "policy.json"
    policy.write_text(json.dumps({
        "defaultACLAccess": {"publishClientSend": True, "publishClientReceive": True,
                             "subscribe": True, "unsubscribe": True},
        "anonymousGroup": "everybody",
        "groups": [{"groupname": "everybody", "roles": [{"rolename": "role"}]}],
        "roles": [{"rolename": "role", "acls": [
            {"acltype": "subscribePattern", "topic": "secret/#", "allow": False}]}],
    }))
    fleet.start_broker(options=[f"plugin {DYNAMIC_SECURITY}",
                                f"plugin_opt_config_file {policy}"])
    fleet.start_node()
    fleet.api.create(fleet.document("curious", protocol_version=version, subscriptions=[
        {"filter": "open/#", "qos": 1}, {"filter": "secret/#", "qos": 1}]))

    def answered():
        rows = {row["filter"]: row["granted"] for row in
                fleet.api.status("curious")["subscriptions"]}
        return rows if None not in rows.values() and len(rows) == 2 else None
    granted = wait_until(answered, 15, "both subscriptions are answered")
    assert granted == {"open/#": 1, "secret/#": 0x80 if version == 4 else 0x87}
    fleet.broker.publish("open/x", "allowed")
    fleet.stream.wait_payloads([b"allowed"])
    assert fleet.api.status("curious")["last_error"]["code"]


def test_two_holders_of_one_identifier_do_not_fight_at_full_speed(fleet):
    fleet.start_nodes(2, conflict_min_ms=5000)
    fleet.online(1)
    foreign = new_client("c00000")
    foreign.reconnect_delay_set(min_delay=0.1, max_delay=0.1)
    foreign.connect("127.0.0.1", fleet.broker.port)
    foreign.loop_start()
    fleet.at_end(lambda: (foreign.disconnect(), foreign.loop_stop()))
    fleet.api.wait_state("c00000", "conflict", 40)
    mark = fleet.broker.mark()
    holds_for(lambda: sum(fleet.broker.connects(mark).values()) <= 1, 3, "mostly quiet")
    fleet.check_s1(["c00000"])
    foreign.disconnect()
    fleet.api.wait_state("c00000", "online", 40)


def test_a_session_that_the_broker_lost_is_shown(fleet):
    fleet.start_node(reconnect_min_ms=50)
    [client] = fleet.online(1, make=fleet.persistent)
    status = fleet.api.status(client)
    assert status["session_present"] is False and status["last_error"] is None  # its first one
    fleet.api.post(fleet.api.path(client, "restart"))
    wait_until(lambda: fleet.api.status(client)["session_present"], 20, "the session is there")
    assert fleet.api.status(client)["last_error"] is None
    events = fleet.closing(EventReader(fleet.api.base + "/api/v1/events?kind=notice"))
    events.wait_comment("listening to the whole fleet")
    fleet.broker.restart()  # without persistence

    def lost():
        status = fleet.api.status(client)
        return status if status["state"] == "online" and status["reconnects"] == 2 else None
    status = wait_until(lost, 20, "online again")
    assert status["session_present"] is False and status["last_error"]["code"] == "session_lost"
    assert "\nmqfleet_sessions_lost_total 1\n" in fleet.api.get("/metrics").text
    events.wait(lambda r: r.of("notice"), "told as a notice")
    [notice] = events.of("notice")
    assert (notice["id"], notice["code"]) == (client, "session_lost") and notice["message"]
