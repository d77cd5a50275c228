"""Subscriptions that a broker rejects: the client is online with the others, and the refused one is
reported."""

import time

import pytest

from fleet.cloud import CloudBroker, like_aws_iot
from fleet.operator import metrics, states
from fleet.other_brokers import Mochi, Nats
from fleet.packets import SUBSCRIBE
from fleet.wait import wait_until

pytestmark = pytest.mark.every_engine

SOON = {"reconnect_min_ms": 100, "reconnect_max_ms": 1000}


def document(url, version=4, filters=("a/#",), kept=True, **more):
    config = {"id": "c", "url": url, "protocol_version": version, "clean_start": not kept,
              "subscriptions": [one if isinstance(one, dict) else {"filter": one, "qos": 1}
                                for one in filters], **more}
    if version == 5 and kept:
        config["session_expiry_s"] = 3600
    return config


def many(count):
    return [f"a/{number}" for number in range(count)]


def restart(fleet):
    assert fleet.api.post(fleet.api.path("c", "restart")).status_code in (200, 202)


def check_degraded(fleet, refused, node):
    """The client is shown as degraded with those filters, counted, and found by the list."""
    def told():
        status = fleet.api.status("c")
        assert status["state"] == "online" and status["degraded"] is True, status
        assert {one if isinstance(one, str) else one["filter"]
                for one in status["refused_filters"]} == set(refused), status
        return status
    wait_until(told, 20, "the client is degraded")
    wait_until(lambda: metrics(node)["mqfleet_clients_degraded"] == 1, 10, "counted")
    assert [one["id"] for one in fleet.api.clients(degraded="true")] == ["c"]
    assert fleet.api.clients(degraded="false") == []


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("count", [20, 100])
def test_case_B1_a_broker_that_closes_on_more_than_eight_filters(fleet, count, version):
    broker = fleet.closing(CloudBroker(filters_max=8))
    node = fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, version, many(count)))
    fleet.wait_online(["c"])
    assert broker.subscribed("c") == set(many(count))
    assert len(broker.of("c")) <= 5  # 64, 32, 16, 8
    assert "conflict" not in [to for _, to, _ in states(node, "c")]
    assert fleet.api.status("c")["degraded"] is False
    # The size that worked is remembered.
    restart(fleet)
    wait_until(lambda: "c" in broker.online() and broker.of("c")[-1].kinds(SUBSCRIBE), 20, "back")
    fleet.wait_online(["c"])
    assert max(len(one.filters) for one in broker.of("c")[-1].kinds(SUBSCRIBE)) <= 8
    for number in (0, 7, 8, count - 1):
        broker.publish(f"a/{number}", f"m{number}")
    fleet.stream.wait_payloads(f"m{number}".encode() for number in (0, 7, 8, count - 1))


def test_case_B1_the_client_field(fleet):
    broker = fleet.closing(like_aws_iot())
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, 5, many(50), subscribe_filters_max=8))
    fleet.wait_online(["c"])
    assert [len(one.filters) for one in broker.subscribes("c")] == [8] * 6 + [2]
    assert fleet.api.status("c")["reconnects"] == 0


def test_case_B2_a_broker_with_a_maximum_packet_size(fleet):
    broker = fleet.closing(CloudBroker(connack_properties={"maximum_packet_size": 1024}))
    fleet.start_node(**SOON)
    filters = [f"plant/hall-{number}/machine/+/temperature" for number in range(200)]
    fleet.api.create(document(broker.url, 5, filters))
    fleet.wait_online(["c"])
    assert max(len(one.raw) for one in broker.subscribes("c")) <= 1024
    assert broker.subscribed("c") == set(filters)
    assert fleet.api.status("c")["reconnects"] == 0


@pytest.mark.parametrize("version", [4, 5])
def test_case_B3_one_filter_that_makes_the_broker_close(fleet, version):
    broker = fleet.closing(CloudBroker(bad_filters=["a/13"]))
    node = fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, version, many(20)))
    fleet.wait_online(["c"], 60)
    assert broker.subscribed("c") == set(many(20)) - {"a/13"}
    check_degraded(fleet, ["a/13"], node)
    broker.publish("a/19", "still served")
    fleet.stream.wait_payloads([b"still served"])
    # Its attempts neither delay the others nor repeat constantly.
    tries = len(broker.of("c"))
    time.sleep(3)
    assert len(broker.of("c")) - tries <= 3
    fleet.wait_online(["c"])


def test_case_B4_nats_refuses_all(fleet):
    broker = fleet.start_other(Nats)
    node = fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, filters=["b/#", "d/+"], **broker.half_login))
    fleet.wait_online(["c"])
    check_degraded(fleet, ["b/#", "d/+"], node)


@pytest.mark.parametrize("version", [4, 5])
def test_case_B5_mochi_with_messages_under_way(fleet, version):
    """Its own identifiers count from 1: a SUBSCRIBE that uses one of them is refused."""
    broker = fleet.start_other(Mochi)
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, version, many(10)))
    fleet.wait_online(["c"])
    for turn in range(3):
        assert fleet.api.post(fleet.api.path("c", "pause")).status_code in (200, 202)
        fleet.api.wait_state("c", "paused")
        wanted = [b"away %d %d" % (turn, number) for number in range(5)]
        for number, payload in enumerate(wanted):
            broker.publish(f"a/{number}", payload)
        assert fleet.api.post(fleet.api.path("c", "resume")).status_code in (200, 202)
        fleet.wait_online(["c"])
        fleet.stream.wait_payloads(wanted)
        status = fleet.api.status("c")
        assert {one["granted"] for one in status["subscriptions"]} == {1}, status


@pytest.mark.parametrize("code", [0x80, 0x83, 0x91, 0x97])
def test_case_B5_what_may_pass_is_asked_again(fleet, code):
    broker = fleet.closing(CloudBroker(filter_codes={"a/1": [code]}))
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, 5, many(3)))
    fleet.wait_online(["c"])
    wait_until(lambda: broker.subscribed("c") == set(many(3)), 30, "asked again")
    wait_until(lambda: fleet.api.status("c")["degraded"] is False, 10, "no longer degraded")
    assert len(broker.of("c")) == 1


@pytest.mark.parametrize("version", [4, 5])
def test_case_B6_a_retained_message_comes_once_to_a_kept_session(fleet, version):
    broker = fleet.broker
    broker.publish("a/kept", "retained", retain=True)
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, version))
    fleet.stream.wait_payloads([b"retained"])
    for turn in range(3):
        mark = broker.mark()
        cut(fleet)
        wait_until(lambda: broker.connects(mark)["c"], 20, "it connects again")
        fleet.wait_online(["c"])
        broker.publish("a/new", f"new {turn}")
        fleet.stream.wait_payloads([b"new %d" % turn])
    assert fleet.stream.payloads().count(b"retained") == 1


def cut(fleet):
    """Paused and resumed: another connection in the same session."""
    assert fleet.api.post(fleet.api.path("c", "pause")).status_code in (200, 202)
    fleet.api.wait_state("c", "paused")
    assert fleet.api.post(fleet.api.path("c", "resume")).status_code in (200, 202)


def test_case_B6_what_the_user_sets_holds(fleet):
    broker = fleet.broker
    broker.publish("a/kept", "retained", retain=True)
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, 5, [{"filter": "a/#", "qos": 1, "retain_handling": 0}]))
    fleet.stream.wait_payloads([b"retained"])
    cut(fleet)
    wait_until(lambda: fleet.stream.payloads().count(b"retained") == 2, 20, "sent again")


def test_case_B7_a_test_takes_nothing_from_a_queue(fleet):
    broker = fleet.closing(CloudBroker())
    fleet.start_node(**SOON)
    filters = ["$queue/x", "$exclusive/y", "$share/g/z", "a/#"]
    answer = fleet.api.post("/api/v1/clients:test", document(broker.url, 4, filters))
    assert answer.status_code == 200, answer.text
    asked = {name for one in broker.subscribes() for name, _ in one.filters}
    assert asked == {"a/#"}
    assert not broker.faults
