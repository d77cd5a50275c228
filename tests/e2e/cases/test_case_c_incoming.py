"""Incoming messages that cannot be accepted: they are skipped and reported, and everything after them
arrives."""

import time

import pytest

from fleet.cloud import CloudBroker
from fleet.operator import metrics, wait_error
from fleet.other_brokers import Mochi
from fleet.packets import CONNECT, DISCONNECT
from fleet.wait import wait_until

pytestmark = pytest.mark.every_engine

SOON = {"reconnect_min_ms": 100, "reconnect_max_ms": 1000}
LARGE = 17 << 20


def document(url, version=4, client="c", **more):
    config = {"id": client, "url": url, "protocol_version": version, "clean_start": False,
              "subscriptions": [{"filter": f"{client}/#", "qos": 1}], **more}
    return {**config, "session_expiry_s": 3600} if version == 5 else config


def pause(fleet, client="c"):
    assert fleet.api.post(fleet.api.path(client, "pause")).status_code in (200, 202)
    fleet.api.wait_state(client, "paused")


def resume(fleet, client="c"):
    assert fleet.api.post(fleet.api.path(client, "resume")).status_code in (200, 202)


@pytest.mark.parametrize("version", [4, 5])
def test_case_C1_one_message_of_17_mib_between_small_ones(fleet, version):
    fleet.start_node(**SOON)
    fleet.api.create(document(fleet.broker.url, version))
    fleet.wait_online(["c"])
    pause(fleet)
    before, behind = ([b"%s %d" % (where, number) for number in range(50)]
                      for where in (b"before", b"behind"))
    fleet.broker.publish_all([("c/x", payload) for payload in before])
    fleet.broker.publish("c/large", b"x" * LARGE)
    fleet.broker.publish_all([("c/x", payload) for payload in behind])
    resume(fleet)
    fleet.stream.wait_payloads([*before, *behind], 60)
    assert fleet.stream.payloads() == [*before, *behind]
    error = wait_error(fleet.api, "c", fleet.api.status("c")["last_error"]["code"], "c/large")
    assert str(LARGE >> 20) in error["message"] or "178" in error["message"], error
    skipped = {key: value for key, value in metrics(fleet.nodes[0]).items()
               if "skipped" in key and value}
    assert sum(skipped.values()) == 1, skipped
    # It is gone from the session too.
    pause(fleet)
    resume(fleet)
    fleet.wait_online(["c"])
    time.sleep(1)
    assert len(fleet.stream.payloads()) == 100
    status = fleet.api.status("c")
    assert status["state"] == "online", status


TOPICS = {"not UTF-8": b"c/\xff\xfe", "NUL": b"c/\0x", "plus": b"c/+/x", "hash": b"c/#",
          "empty": b"", "surrogate": b"c/\xed\xa0\x80"}


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("topic", TOPICS)
def test_case_C2_a_malformed_topic_between_good_ones(fleet, topic, version):
    broker = fleet.closing(CloudBroker())
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, version))
    fleet.wait_online(["c"])
    pause(fleet)
    wanted = [b"m%d" % number for number in range(20)]
    for number, payload in enumerate(wanted):
        broker.publish("c/x", payload)
        if number == 9:
            broker.inject("c", TOPICS[topic], b"bad", 1)
    resume(fleet)
    fleet.stream.wait_payloads(wanted, 30)
    fleet.wait_online(["c"])
    assert fleet.stream.payloads() == wanted
    # The first connection closes as the specification requires; the next one continues after the
    # message.
    assert len(broker.of("c")) == 3
    assert broker.pending("c") == 0
    told = fleet.api.status("c")["last_error"]
    assert "topic" in told["message"], told
    if version == 5:
        goodbye = broker.of("c")[1].kinds(DISCONNECT)[0]
        assert goodbye.code in (0x81, 0x82, 0x90), goodbye


def test_case_C3_mochi_with_many_clients(fleet):
    """Twenty clients with messages in transit, disconnected again and again in the middle of a message."""
    broker = fleet.start_other(Mochi)
    fleet.start_node(**SOON)
    ids = fleet.create(20, make=lambda client: document(broker.url, 5, client))
    fleet.wait_online(ids)
    wanted = []
    for turn in range(2):
        for client in ids:
            pause(fleet, client)
        for client in ids:
            for number in range(10):
                wanted.append(f"{client} {turn} {number}".encode())
                broker.publish(f"{client}/x", wanted[-1])
        for client in ids:
            resume(fleet, client)
        fleet.wait_online(ids)
    fleet.stream.wait_payloads(wanted)
    assert {fleet.api.status(client)["last_error"] and client for client in ids} == {None}


def test_case_C3_no_topic_alias_is_offered_unless_asked_for(fleet):
    broker = fleet.closing(CloudBroker(aliases_max=10))
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, 5))
    fleet.wait_online(["c"])
    connect, = broker.packets("c", CONNECT)
    assert connect.properties.get("topic_alias_maximum", 0) == 0


def test_case_C3_an_unknown_alias_is_followed_by_a_connection_that_offers_none(fleet):
    broker = fleet.closing(CloudBroker(aliases_max=10, resends_by_alias=True))
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, 5, topic_alias_maximum=10))
    fleet.wait_online(["c"])
    # Nothing is acknowledged while the sink accepts nothing, so all messages arrive again.
    redis, key = fleet.redis.client, fleet.stream.key
    redis.set(key, "not a stream")
    wanted = [b"m%d" % number for number in range(5)]
    for payload in wanted:
        broker.publish("c/x", payload)
    wait_until(lambda: broker.pending("c") == 5, 10, "under way")
    time.sleep(0.3)
    broker.drop()
    redis.delete(key)
    fleet.stream.wait_payloads(wanted)
    fleet.wait_online(["c"])
    assert broker.of("c")[0].connect.properties["topic_alias_maximum"] == 10
    assert broker.of("c")[-1].connect.properties.get("topic_alias_maximum", 0) == 0
    wait_until(lambda: broker.pending("c") == 0, 10, "all acknowledged")
