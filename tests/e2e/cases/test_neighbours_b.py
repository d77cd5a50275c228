"""Neighbours of the cases B: other brokers, other limits, other filters."""

import time

import pytest

from fleet.cloud import CloudBroker, like_aws_iot
from fleet.operator import metrics, states
from fleet.other_brokers import Aedes, Ejabberd, Mochi
from fleet.wait import wait_until

from test_case_b_subscriptions import SOON, check_degraded, document, many, restart


@pytest.mark.parametrize("over", ["url", "ws_url"])
def test_rabbitmq_closes_on_filters_that_may_not_be_read(fleet, rabbitmq, over):
    """Three of twelve filters, all in one SUBSCRIBE; the others are granted."""
    node = fleet.start_node(**SOON)
    bad = ["a/#", "b/x", "c/+"]
    good = [f"w/{number}" for number in range(9)]
    filters = [*good[:2], bad[0], *good[2:5], bad[1], bad[2], *good[5:]]
    fleet.api.create(document(getattr(rabbitmq, over), 4, filters, **rabbitmq.login_of("blind")))
    fleet.wait_online(["c"], 60)
    check_degraded(fleet, bad, node)
    for number in range(9):
        rabbitmq.publish(f"w/{number}", f"m{number}")
    fleet.stream.wait_payloads(b"m%d" % number for number in range(9))
    assert "conflict" not in [to for _, to, _ in states(node, "c")]
    message = fleet.api.status("c")["last_error"]["message"]
    assert any(one in message for one in bad), message


@pytest.mark.parametrize("version", [4, 5])
def test_ejabberd_refuses_a_whole_subscribe_for_one_filter(fleet, version):
    """It answers 0x8F for each of them, in MQTT 3.1.1 too, where there is no such code."""
    broker = fleet.start_other(Ejabberd, options=["max_topic_depth: 4"])
    node = fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, version, [*many(5), "a/1/2/3/4/5/6"], **broker.login))
    fleet.wait_online(["c"], 30)
    check_degraded(fleet, ["a/1/2/3/4/5/6"], node)
    broker.publish("a/3", "served")
    fleet.stream.wait_payloads([b"served"])


def test_aedes_closes_on_one_filter(fleet):
    broker = fleet.start_other(Aedes, refused_subscribe="no/")
    node = fleet.start_node(**SOON)
    # It checks the same permission again when a session is resumed.
    fleet.api.create(document(broker.url, 4, ["a/1", "no/x", "a/2"], kept=False))
    fleet.wait_online(["c"], 60)
    check_degraded(fleet, ["no/x"], node)
    broker.publish("a/2", "served")
    fleet.stream.wait_payloads([b"served"])


@pytest.mark.parametrize("version", [4, 5])
def test_mochi_refuses_some_of_five_hundred(fleet, version):
    bad = [f"a/{number}" for number in range(20, 500, 70)]
    broker = fleet.start_other(Mochi, refused=bad)
    node = fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, version, many(500)))
    fleet.wait_online(["c"])
    check_degraded(fleet, bad, node)
    for number in (0, 21, 499):
        broker.publish(f"a/{number}", f"m{number}")
    fleet.stream.wait_payloads([b"m0", b"m21", b"m499"])
    assert fleet.api.status("c")["reconnects"] == 0


@pytest.mark.parametrize("limit", [1, 3])
def test_limits_smaller_than_eight(fleet, limit):
    broker = fleet.closing(CloudBroker(filters_max=limit))
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, 4, many(30)))
    fleet.wait_online(["c"], 60)
    assert broker.subscribed("c") == set(many(30))
    assert fleet.api.status("c")["degraded"] is False


def test_a_limit_of_bytes_that_was_not_announced(fleet):
    broker = fleet.closing(CloudBroker(packet_bytes_max=600))
    fleet.start_node(**SOON)
    filters = [f"plant/hall-{number}/machine/+/temperature" for number in range(100)]
    fleet.api.create(document(broker.url, 4, filters))
    fleet.wait_online(["c"], 60)
    assert broker.subscribed("c") == set(filters)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("farewell", [None, True], ids=["silent", "told"])
def test_a_limit_and_bad_filters_together(fleet, farewell, version):
    bad = {"a/5", "a/6", "a/40"}
    broker = fleet.closing(CloudBroker(filters_max=8, bad_filters=bad, farewell=farewell))
    node = fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, version, many(60)))
    fleet.wait_online(["c"], 90)
    assert broker.subscribed("c") == set(many(60)) - bad
    check_degraded(fleet, bad, node)
    assert "conflict" not in [to for _, to, _ in states(node, "c")]


def test_more_subscriptions_than_a_connection_may_have(fleet):
    broker = fleet.closing(like_aws_iot())
    node = fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, 4, many(55), subscribe_filters_max=8))
    fleet.wait_online(["c"], 90)
    wait_until(lambda: len(broker.subscribed("c")) == 50, 60, "as many as may be")
    fleet.wait_online(["c"])
    status = fleet.api.status("c")
    assert status["degraded"] is True and len(status["refused_filters"]) == 5, status
    assert "conflict" not in [to for _, to, _ in states(node, "c")]
    broker.publish("a/3", "served")
    fleet.stream.wait_payloads([b"served"])
    tries = len(broker.of("c"))
    time.sleep(4)
    assert len(broker.of("c")) - tries <= 4


def test_a_bad_filter_that_becomes_good(fleet):
    """When the operator corrects the permission, the filter is granted without any request."""
    broker = fleet.closing(CloudBroker(bad_filters=["a/2"]))
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, 5, many(4)))
    fleet.wait_online(["c"], 60)
    wait_until(lambda: fleet.api.status("c")["degraded"], 20, "degraded")
    broker.bad_filters = ()
    wait_until(lambda: broker.subscribed("c") == set(many(4)), 90, "asked again")
    wait_until(lambda: fleet.api.status("c")["degraded"] is False, 10, "all well")
    restart(fleet)
    fleet.wait_online(["c"])


def test_a_bad_filter_and_a_publication_that_is_refused(fleet):
    """Neither is charged for the other."""
    broker = fleet.closing(CloudBroker(bad_filters=["a/2"], refused_topics=["a/no"]))
    node = fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, 5, many(4)))
    fleet.wait_online(["c"], 60)
    answer = fleet.api.publish("c", "a/no", "x")
    assert answer.status_code in (409, 502, 504), answer.text
    wait_until(lambda: fleet.api.publish("c", "a/yes", "x").status_code == 200, 30, "of use")
    check_degraded(fleet, ["a/2"], node)
    assert broker.subscribed("c") == {"a/0", "a/1", "a/3"}


@pytest.mark.parametrize("farewell", [None, 0x87], ids=["silent", "told"])
def test_forty_clients_with_the_same_bad_filter(fleet, farewell):
    """All clients lose their connections at the same moments; this is not an outage of the broker."""
    broker = fleet.closing(CloudBroker(filters_max=8, bad_filters=["a/3"], farewell=farewell))
    node = fleet.start_node(**SOON)
    ids = fleet.create(40, make=lambda client: {**document(broker.url, 5, many(20)), "id": client})
    fleet.wait_online(ids, 60)
    assert all(broker.subscribed(client) == set(many(20)) - {"a/3"} for client in ids)
    wait_until(lambda: metrics(node)["mqfleet_clients_degraded"] == 40, 20, "all are degraded")
    for client in ids:
        assert "conflict" not in [to for _, to, _ in states(node, client)]
    broker.publish("a/4", "served")
    wait_until(lambda: len(fleet.stream.rows()) >= 40, 20, "all are served")
