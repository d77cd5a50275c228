"""Neighbours of the cases A: other brokers, other limits, other publications."""

import collections
import threading
import time

import pytest

from fleet.cloud import CloudBroker, like_aws_iot
from fleet.operator import states, total, wait_error
from fleet.other_brokers import Aedes, Nats
from fleet.wait import wait_until

from test_case_a_publications import GIVEN_UP, SOON, check_given_up, client_at


def publish_all(fleet, publications):
    """All at once: {payload: status}; (topic, payload, qos) each."""
    answers = {}

    def publish(topic, payload, qos):
        answers[payload] = fleet.api.publish("c", topic, payload, qos).status_code
    threads = [threading.Thread(target=publish, args=one) for one in publications]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize("more", [{"qos": 1}, {"qos": 2, "retain": True}], ids=["1", "2-retained"])
@pytest.mark.parametrize("topic", ["plant.1/temperature", "hall one/temperature"])
def test_nats_with_a_topic_that_it_cannot_map(fleet, topic, more):
    broker = fleet.start_other(Nats)
    if "." in topic and Nats.is_new():
        pytest.skip("this NATS maps dots")
    fleet.start_node(**SOON)
    client_at(fleet, broker.url, **broker.login)
    check_given_up(fleet, topic, "x", **more)


@pytest.mark.parametrize("over", ["url", "ws_url"])
@pytest.mark.parametrize("clean", [False, True])
def test_nats_with_qos_0_to_a_topic_that_it_cannot_map(fleet, over, clean):
    """None of these is acknowledged: each ends the connection, and is reported as the cause."""
    broker = fleet.start_other(Nats)
    node = fleet.start_node(**SOON)
    client_at(fleet, getattr(broker, over), clean=clean, **broker.login)
    until = time.monotonic() + 6
    while time.monotonic() < until:
        fleet.api.publish("c", "plant 1/x", "zero", 0)
        time.sleep(0.4)
    assert "conflict" not in [to for _, to, _ in states(node, "c")]
    error = fleet.api.status("c")["last_error"]
    assert "plant 1/x" in error["message"], error
    fleet.wait_online(["c"])
    assert fleet.api.publish("c", "a/good", "good").status_code == 200
    fleet.stream.wait_payloads([b"good"])


def test_rabbitmq_with_bad_ones_among_good_ones_over_websocket(fleet, rabbitmq):
    """Exactly the publications that are not permitted are refused."""
    fleet.start_node(**SOON)
    client_at(fleet, rabbitmq.ws_url, subscriptions=[{"filter": "w/#", "qos": 1}],
              **rabbitmq.login_of("reader"))
    answers = publish_all(fleet, [("w/x" if number % 10 else "a/x", f"m{number}", 1)
                                  for number in range(40)])
    fleet.wait_online(["c"])
    bad = {f"m{number}" for number in range(0, 40, 10)}
    assert all(answers[one] in (502, 409) for one in bad), answers
    good = {one for one, code in answers.items() if code == 200}
    assert not good & bad and {answers[one] for one in set(answers) - bad} <= {200, 409}, answers
    fleet.stream.wait_payloads(one.encode() for one in good)
    wait_error(fleet.api, "c", "publication_refused", "a/x")


@pytest.mark.parametrize("qos", [1, 2])
def test_aedes_that_closes(fleet, qos):
    broker = fleet.start_other(Aedes, refused_publish="no/")
    fleet.start_node(**SOON)
    client_at(fleet, broker.url)
    check_given_up(fleet, "no/x", "x", qos)


@pytest.mark.parametrize("version", [4, 5])
def test_mosquitto_with_limits_of_all_kinds(fleet, version):
    """An ACL, one message at a time, small packets: the client keeps working."""
    acl = fleet.folder / "acl"
    acl.write_text("topic readwrite a/#\n")
    acl.chmod(0o644)
    broker = fleet.start_broker(options=[
        f"acl_file {acl}", "max_inflight_messages 1", "message_size_limit 5000",
        "max_packet_size 20000"])
    node = fleet.start_node(**SOON)
    client_at(fleet, broker.url, version)
    outcomes = [fleet.api.publish("c", topic, payload, qos).status_code
                for topic, payload, qos in (("b/x", "x", 1), ("b/x", "x", 2), ("a/x", "x" * 6000, 1),
                                            ("a/x", "x" * 6000, 2), ("a/x", "x" * 30000, 1))]
    assert 504 not in outcomes, outcomes
    if version == 5:
        assert 200 not in outcomes, outcomes
    fleet.wait_online(["c"])
    assert "conflict" not in [to for _, to, _ in states(node, "c")]
    for number in range(20):
        assert fleet.api.publish("c", "a/y", f"m{number}", 1 + number % 2).status_code == 200
    fleet.stream.wait_payloads(b"m%d" % number for number in range(20))


@pytest.mark.parametrize("by_reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("delay_s", [0.05, 0.5])
def test_a_broker_that_ends_the_connection_late(fleet, delay_s, by_reset):
    """Others are sent and acknowledged between the bad one and the end."""
    broker = fleet.closing(CloudBroker(refused_topics=["a/no"], breaks_after_s=delay_s,
                                       by_reset=by_reset))
    node = fleet.start_node(**SOON)
    client_at(fleet, broker.url, 5)
    answers = publish_all(fleet, [("a/no" if number in (7, 11) else "a/x", f"m{number}", 1)
                                  for number in range(20)])
    assert answers.pop("m7") in (502, 409) and answers.pop("m11") in (502, 409), answers
    assert set(answers.values()) <= {200, 409} and 200 in answers.values(), answers
    fleet.wait_online(["c"])
    counts = collections.Counter(one.payload.decode() for one in broker.accepted)
    assert set(counts) == {payload for payload, code in answers.items() if code == 200}
    assert total(node, GIVEN_UP) <= 2 and not broker.faults


def test_publications_of_an_aws_shadow(fleet):
    """Like a back-end: every half second a publication of a different kind that the service refuses, with good
    ones in between."""
    broker = fleet.closing(like_aws_iot(refused_topics=["$aws/things/other/#"]))
    node = fleet.start_node(**SOON)
    client_at(fleet, broker.url, 5)
    bad = [("a/x", "x", 2), ("a/1/2/3/4/5/6/7/8", "x", 1), ("$aws/things/other/shadow", "x", 1),
           ("a/x", "x" * 140_000, 1)]
    good = []
    for turn in range(2):
        for topic, payload, qos in bad:
            answer = fleet.api.publish("c", topic, payload, qos)
            assert answer.status_code in (409, 429, 502, 503), answer.text
            fleet.wait_online(["c"])
            good.append(f"good {turn} {len(good)}")
            assert fleet.api.publish("c", "a/good", good[-1]).status_code == 200
    fleet.stream.wait_payloads(one.encode() for one in good)
    # A publication whose acknowledgement was lost with the connection is sent again.
    assert set(fleet.stream.payloads()) == {one.encode() for one in good}
    assert sorted(one.payload.decode() for one in broker.accepted) == sorted(good)
    assert "conflict" not in [to for _, to, _ in states(node, "c")]
    assert len(broker.of("c")) <= 1 + 2 * 2 * len(bad) and not broker.faults


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x90, 0x97, 0x99, 0x9A])
def test_a_code_that_fits_nothing_that_was_sent(fleet, code):
    """Even if the DISCONNECT has the wrong reason code, the publication is not sent forever."""
    broker = fleet.closing(CloudBroker(refused_topics=["a/no"], farewell=code))
    fleet.start_node(**SOON)
    client_at(fleet, broker.url, 5)
    check_given_up(fleet, "a/no", "x")


def test_a_publication_that_waits_while_its_client_changes(fleet):
    """Paused, replaced, resumed: refused publications stay refused, and the client is online."""
    broker = fleet.closing(CloudBroker(refused_topics=["a/no"]))
    node = fleet.start_node(**SOON)
    client_at(fleet, broker.url, 5)
    answers = {}

    def publish():
        answers["bad"] = fleet.api.publish("c", "a/no", "x", 1)
    thread = threading.Thread(target=publish)
    thread.start()
    wait_until(lambda: broker.publications("c"), 10, "sent")
    document = fleet.api.client("c")["config"]
    for verb in ("pause", "resume", "restart"):
        assert fleet.api.post(fleet.api.path("c", verb)).status_code in (200, 202)
    document["subscriptions"] = [{"filter": "a/#", "qos": 1}, {"filter": "n/#", "qos": 1}]
    assert fleet.api.put(fleet.api.path("c"), document).status_code == 200
    thread.join()
    assert answers["bad"].status_code in (502, 504), answers["bad"].text
    fleet.wait_online(["c"])
    assert fleet.api.publish("c", "a/good", "good").status_code == 200
    wait_until(lambda: fleet.api.state("c") == "online", 5, "online")
    assert len(broker.publications("c")) <= 6
    assert "conflict" not in [to for _, to, _ in states(node, "c")]
