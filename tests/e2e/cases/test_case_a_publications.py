"""Publications that a broker rejects: the client is online again at once, the publication is given up and
reported, and nothing else is lost."""

import threading
import time

import pytest

from fleet.cloud import CloudBroker
from fleet.operator import metrics, publications, states, total, wait_error
from fleet.other_brokers import Nats
from fleet.packets import PUBLISH, PUBREC, PUBREL
from fleet.scripted import ScriptedBroker
from fleet.wait import wait_until

pytestmark = pytest.mark.every_engine

GIVEN_UP = "mqfleet_publications_given_up_total"
SOON = {"reconnect_min_ms": 100, "reconnect_max_ms": 1000}


def client_at(fleet, url, version=4, clean=False, **more):
    """One client with the subscription a/#, online."""
    config = {"id": "c", "url": url, "protocol_version": version, "clean_start": clean,
              "subscriptions": [{"filter": "a/#", "qos": 1}], **more}
    if version == 5 and not clean:
        config["session_expiry_s"] = 3600
    fleet.api.create(config)
    fleet.wait_online(["c"])


def check_given_up(fleet, topic, payload, qos=1, losses=2, good="a/good", **more):
    """The caller gets an error, the operator sees the publication, and it is gone."""
    node = fleet.nodes[0]
    before = fleet.api.status("c")["reconnects"]
    answer = fleet.api.publish("c", topic, payload, qos, **more)
    assert (answer.status_code, answer.json().get("code")) == (502, "publication_refused"), answer.text
    fleet.wait_online(["c"])
    assert fleet.api.status("c")["reconnects"] - before <= losses
    wait_error(fleet.api, "c", "publication_refused", topic, str(len(payload)), f"QoS {qos}")
    assert total(node, GIVEN_UP) == 1 and publications(fleet.api, "c") == []
    assert "conflict" not in [to for _, to, _ in states(node, "c")]
    # It does not come back, not even on a new connection, and the client works. The caller may be
    # answered a moment before the client is shown to be offline.
    wait_until(lambda: fleet.api.publish("c", good, "good", 1).status_code == 200, 20, "of use")
    assert fleet.api.post(fleet.api.path("c", "restart")).status_code in (200, 202)
    wait_until(lambda: fleet.api.publish("c", good, "good too", 1).status_code == 200, 20, "of use")
    if good.startswith("a/"):
        fleet.stream.wait_payloads([b"good", b"good too"])
    assert total(node, GIVEN_UP) == 1


def test_case_A1_mosquitto_with_a_limit_of_size(fleet):
    broker = fleet.start_broker(options=["message_size_limit 131072"])
    fleet.start_node(**SOON)
    client_at(fleet, broker.url, 5)
    check_given_up(fleet, "a/large", "x" * 200_000, losses=1)


@pytest.mark.parametrize("over", ["url", "ws_url"])
def test_case_A2_rabbitmq_without_permission_to_write(fleet, rabbitmq, over):
    fleet.start_node(**SOON)
    client_at(fleet, getattr(rabbitmq, over), **rabbitmq.login_of("reader"))
    check_given_up(fleet, "a/forbidden", "x", good="w/allowed")


def test_case_A3_nats_without_qos_2(fleet):
    """Thirty clients at once, as after a restart of the broker."""
    broker = fleet.start_other(Nats)
    node = fleet.start_node(**SOON)
    ids = fleet.create(30, make=lambda client: {
        "id": client, "url": broker.url, "clean_start": False, **broker.login,
        "subscriptions": [{"filter": f"a/{client}", "qos": 1}]})
    fleet.wait_online(ids)
    answers = {}

    def publish(client):
        answers[client] = fleet.api.publish(client, "a/two", "x", 2).json().get("code")
    threads = [threading.Thread(target=publish, args=(client,)) for client in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fleet.wait_online(ids)
    assert set(answers.values()) == {"publication_refused"}
    assert total(node, GIVEN_UP) == len(ids)
    for client in ids:
        assert fleet.api.status(client)["reconnects"] <= 3
        wait_error(fleet.api, client, "publication_refused", "a/two", "QoS 2")
        assert fleet.api.publish(client, f"a/{client}", client, 1).status_code == 200
    fleet.stream.wait_payloads(client.encode() for client in ids)


LIMITS = {
    "qos 2": ({"qos2_closes": True}, {"topic": "a/x", "qos": 2}),
    "retain": ({"retain_closes": True}, {"topic": "a/x", "retain": True}),
    "slashes": ({"slashes_max": 7}, {"topic": "a/1/2/3/4/5/6/7/8"}),
    "size": ({"packet_bytes_max": 128 * 1024}, {"topic": "a/x", "payload": "x" * 150_000}),
    "topic": ({"refused_topics": ["a/no/#"]}, {"topic": "a/no/x"}),
}


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("clean", [False, True], ids=["kept", "clean"])
@pytest.mark.parametrize("limit", LIMITS)
def test_case_A4_a_broker_that_closes(fleet, limit, clean, version):
    switches, publication = LIMITS[limit]
    broker = fleet.closing(CloudBroker(**switches))
    fleet.start_node(**SOON)
    client_at(fleet, broker.url, version, clean)
    publication = {"payload": "x", "qos": 1, **publication}
    topic = publication.pop("topic")
    if clean:
        # One loss proves nothing, and a session that ends with its connection sends nothing again.
        answer = fleet.api.publish("c", topic, **publication)
        assert answer.status_code in (502, 504), answer.text
        wait_until(lambda: len(broker.of("c")) == 2 and fleet.api.publish(
            "c", "a/good", "good").status_code == 200, 10, "the client is of use again")
        assert len(broker.of("c")) == 2
    else:
        check_given_up(fleet, topic, **publication)
        assert sum(one.topic == topic for one in broker.publications("c")) == 2
    assert not broker.faults


@pytest.mark.parametrize("code, more", [
    (0x87, {}), (0x95, {}), (0x99, {"payload_format_indicator": 1}), (0x9A, {"retain": True}),
    (0x9B, {"qos": 2})], ids=["0x87", "0x95", "0x99", "0x9A", "0x9B"])
def test_case_A4_a_broker_that_says_why(fleet, code, more):
    broker = fleet.closing(CloudBroker(refused_topics=["a/no"], farewell=code))
    fleet.start_node(**SOON)
    client_at(fleet, broker.url, 5)
    check_given_up(fleet, "a/no", "x", losses=1, **more)
    assert sum(one.topic == "a/no" for one in broker.publications("c")) == 1
    reason = next(key for key, value in metrics(fleet.nodes[0]).items()
                  if key.startswith(GIVEN_UP) and value)
    assert "connection_lost" not in reason


def test_case_A5_rabbitmq_acknowledges_qos_2_as_qos_1(fleet, rabbitmq):
    fleet.start_node(**SOON)
    client_at(fleet, rabbitmq.url, **rabbitmq.login)
    for number in range(3):
        assert fleet.api.publish("c", "a/two", f"m{number}", 2).status_code == 200
    fleet.stream.wait_payloads([b"m0", b"m1", b"m2"])
    time.sleep(1)
    assert fleet.stream.payloads() == [b"m0", b"m1", b"m2"]
    status = fleet.api.status("c")
    assert (status["state"], status["reconnects"]) == ("online", 0)


def test_case_A6_nothing_is_sent_again_in_a_new_session(fleet):
    broker = fleet.closing(ScriptedBroker())
    fleet.start_node(**SOON, publish_timeout_ms=30_000)
    fleet.api.create({"id": "c", "url": broker.url, "protocol_version": 5, "clean_start": False,
                      "session_expiry_s": 3600, "subscriptions": [{"filter": "a/#", "qos": 1}]})
    link = broker.online()
    fleet.api.wait_state("c", "online")
    answers = {}

    def publish(topic):
        answers[topic] = fleet.api.publish("c", topic, "x", 2)
    threads = [threading.Thread(target=publish, args=(topic,)) for topic in ("a/1", "a/2")]
    for thread in threads:
        thread.start()
    sent = {link.expect(PUBLISH).topic for _ in threads}
    assert sent == {"a/1", "a/2"}
    link.close()

    link = broker.online(present=True, properties={"receive_maximum": 1})
    link.acknowledge(PUBREC, link.expect(PUBLISH).id)
    link.expect(PUBREL)
    link.close()

    link = broker.online()
    link.silent_for(1.5)
    for thread in threads:
        thread.join()
    for answer in answers.values():
        assert answer.status_code == 504 and "unknown" in answer.text, answer.text
    assert publications(fleet.api, "c") == []


def test_case_A7_publications_to_a_refused_topic_are_no_conflict(fleet, rabbitmq):
    """Every half second, in a session that ends with its connection."""
    node = fleet.start_node(**SOON)
    client_at(fleet, rabbitmq.url, clean=True, **rabbitmq.login_of("reader"))
    until, codes = time.monotonic() + 8, []
    while time.monotonic() < until:
        codes.append(fleet.api.publish("c", "a/forbidden", "x", 1).status_code)
        time.sleep(0.5)
    assert 200 not in codes
    fleet.wait_online(["c"])
    assert "conflict" not in [to for _, to, _ in states(node, "c")]
    wait_error(fleet.api, "c", "publication_refused", "a/forbidden")
    assert fleet.api.publish("c", "w/allowed", "x", 1).status_code == 200


@pytest.mark.parametrize("version", [4, 5])
def test_what_waits_behind_a_refused_publication_arrives_once(fleet, version):
    """Forty good publications and a bad one in between: only the bad one is given up."""
    broker = fleet.closing(CloudBroker(refused_topics=["a/no"]))
    node = fleet.start_node(**SOON)
    client_at(fleet, broker.url, version)
    answers = {}

    def publish(number):
        topic = "a/no" if number == 20 else "a/yes"
        def sent():  # 409: not online just now; 503: too many wait already. Nothing is sent then
            answer = fleet.api.publish("c", topic, f"m{number}", 1 + number % 2)
            answers[number] = answer.status_code
            return answer.status_code not in (409, 503)
        wait_until(sent, 20, "published")
    threads = [threading.Thread(target=publish, args=(number,)) for number in range(41)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.pop(20) == 502, answers
    # Publications that arrived while it was offline are refused and not sent.
    answers = {number: code for number, code in answers.items() if code != 409}
    assert set(answers.values()) == {200} and len(answers) >= 10, answers
    assert total(node, GIVEN_UP) == 1
    taken = sorted(one.payload.decode() for one in broker.accepted)
    assert set(taken) == {f"m{number}" for number in answers}
    # QoS 1 messages may arrive twice, QoS 2 messages may not.
    assert all(taken.count(f"m{number}") == 1 for number in answers if number % 2)
    assert not broker.faults
