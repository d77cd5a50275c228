"""Publications that a broker rejects by ending the connection (cases A1 to A7 and their neighbours): the
client is online, refused publications are reported, and nothing else is lost or duplicated."""

import concurrent.futures
import time

import pytest

from fleet.cloud import CloudBroker
from fleet.other_brokers import Nats
from fleet.packets import PUBACK, PUBLISH, PUBREC, SUBSCRIBE
from fleet.scripted import ScriptedBroker
from fleet.tls_front import TlsFront
from fleet.wait import holds_for, wait_until

SETTINGS = {"reconnect_min_ms": 100, "reconnect_max_ms": 1000, "publish_timeout_ms": 20000}
LARGE = "x" * 200000
both_versions = pytest.mark.parametrize("version", [4, 5])


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(128) as pool:
        yield pool


def kept(fleet, client, broker, version=5, **more):
    """A client with one subscription and a session that lasts, online."""
    expiry = {"session_expiry_s": 3600} if version == 5 else {}
    document = {"id": client, "url": broker.url, "protocol_version": version, "clean_start": False,
                "subscriptions": [{"filter": f"t/{client}/#", "qos": 1}], **expiry, **more}
    fleet.api.create(document)
    fleet.api.wait_state(client, "online")
    return client


def metric(fleet, name, **labels):
    wanted = name + ("{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
                     if labels else "")
    for line in fleet.api.get("/metrics").text.splitlines():
        if line.split(" ")[0] == wanted:
            return float(line.split(" ")[1])
    return 0


def given_up(fleet):
    return sum(float(line.split(" ")[1]) for line in fleet.api.get("/metrics").text.splitlines()
               if line.startswith("mqfleet_publications_given_up_total{"))


def is_refused(answer, reason=None):
    body = answer.json()
    assert (answer.status_code, body["code"]) == (502, "publication_refused"), answer.text
    assert reason in (None, body["reason"]), body
    return True


def publish_once_online(fleet, client, topic, payload):
    """409: not online just now."""
    return wait_until(lambda: (one := fleet.api.publish(client, topic, payload)).status_code != 409
                      and one, 20, "online")


def wait_named(fleet, client, *words):
    """The last error is the cause, with each of the words, and the client is online."""
    def named():
        status = fleet.api.status(client)
        error = status["last_error"]
        assert status["state"] == "online" and error["code"] == "publication_refused", status
        assert all(word in error["message"] for word in words), error
        return error
    return wait_until(named, 20, f"{client} is online, and what was refused is named")


def stays_online(fleet, client, duration_s=2):
    connects = fleet.api.status(client)["reconnects"]
    holds_for(lambda: fleet.api.status(client)["reconnects"] == connects and
              fleet.api.state(client) == "online", duration_s, f"{client} stays online", 0.2)


# ---- A1 to A4: each kind -------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_case_A1_a_publication_above_the_limit_of_mosquitto(fleet, authority, tls):
    broker = fleet.start_broker(options=["message_size_limit 131072"],
                                tls=authority if tls else None)
    fleet.start_node(**SETTINGS)
    more = {"tls": {"ca": authority.ca.read_text()}} if tls else {}
    client = kept(fleet, "large", broker, **more)
    answer = fleet.api.publish(client, "a/b", LARGE)
    assert is_refused(answer, "packet_too_large")
    wait_until(lambda: fleet.api.status(client)["reconnects"], 20, "mosquitto ended the connection")
    wait_named(fleet, client, "a/b", "200000 bytes", "QoS 1")
    assert fleet.api.status(client)["reconnects"] <= 2
    stays_online(fleet, client)
    assert fleet.api.publish(client, "a/b", "small").status_code == 200
    assert metric(fleet, "mqfleet_publications_given_up_total", reason="packet_too_large") == 1


def test_case_A2_a_publication_without_permission_at_rabbitmq(fleet, rabbitmq, pool):
    fleet.start_node(**SETTINGS)
    client = kept(fleet, "reader", rabbitmq, 4, **rabbitmq.login_of("reader"))
    answer = pool.submit(fleet.api.publish, client, "secret/x", "no")
    assert is_refused(answer.result(30), "connection_lost")
    wait_named(fleet, client, "secret/x", "2 bytes", "QoS 1")
    assert fleet.api.status(client)["reconnects"] <= 2
    assert fleet.api.publish(client, "w/x", "yes").status_code == 200
    stays_online(fleet, client)


def test_case_A3_qos_2_at_nats(fleet):
    nats = fleet.start_other(Nats)
    fleet.start_node(**SETTINGS)
    client = kept(fleet, "two", nats, 4, **nats.login)
    assert is_refused(fleet.api.publish(client, "a/b", "x", qos=2), "connection_lost")
    wait_named(fleet, client, "a/b", "QoS 2")
    assert fleet.api.status(client)["reconnects"] <= 2
    assert fleet.api.publish(client, "a/b", "x", qos=1).status_code == 200
    stays_online(fleet, client)


@both_versions
@pytest.mark.parametrize("farewell", [None, True])
@pytest.mark.parametrize("limit,publication", [
    ({"qos2_closes": True}, {"topic": "a/b", "qos": 2}),
    ({"retain_closes": True}, {"topic": "a/b", "retain": True}),
    ({"slashes_max": 7}, {"topic": "1/2/3/4/5/6/7/8/9"}),
    ({"packet_bytes_max": 131072}, {"topic": "a/b", "payload": LARGE}),
    ({"packet_bytes_max": 131072, "by_reset": True}, {"topic": "a/b", "payload": LARGE}),
    ({"refused_topics": ("secret/#",)}, {"topic": "secret/x"}),
], ids=["qos2", "retain", "slashes", "large", "large_reset", "forbidden"])
def test_case_A4_the_habits_of_a_cloud_broker(fleet, pool, version, farewell, limit, publication):
    if version == 4 and farewell:
        pytest.skip("MQTT 3.1.1 has no reasons")
    cloud = fleet.closing(CloudBroker(farewell=farewell, **limit))
    fleet.start_node(**SETTINGS)
    client = kept(fleet, "cloudy", cloud, version)
    publication = {"payload": "x", **publication}
    # Between two good publications, which arrive exactly once and in order.
    answers = [pool.submit(fleet.api.publish, client, "before", "1")]
    wait_until(lambda: cloud.accepted, 10, "the first is there")
    answers.append(pool.submit(fleet.api.publish, client, **publication))
    wait_until(lambda: len(cloud.connections) > 1, 10, "the connection ended")
    fleet.api.wait_state(client, "online")
    answers.append(pool.submit(publish_once_online, fleet, client, "after", "2"))
    assert answers[0].result(30).status_code == answers[2].result(30).status_code == 200
    assert is_refused(answers[1].result(30))
    wait_named(fleet, client, publication["topic"][:9])
    assert [message.topic for message in cloud.accepted] == ["before", "after"]
    assert fleet.api.status(client)["reconnects"] <= 2
    stays_online(fleet, client, 1)
    assert not cloud.faults


def test_a_broker_that_ends_tls_by_an_alert_is_like_one_that_closes(fleet, authority):
    cloud = fleet.closing(CloudBroker(packet_bytes_max=10000))
    front = fleet.closing(TlsFront(cloud.port, authority))
    fleet.start_node(**SETTINGS)
    client = kept(fleet, "c", front, 4, tls={"ca": authority.ca.read_text()})
    assert is_refused(fleet.api.publish(client, "a/large", LARGE), "connection_lost")
    wait_named(fleet, client, "a/large", "200000 bytes")
    assert front.alerts == fleet.api.status(client)["reconnects"] == 2
    stays_online(fleet, client, 1)
    assert fleet.api.publish(client, "a/small", "x").status_code == 200


# ---- what is pending -----------------------------------------------------------------------------


def pending(api, client):
    answer = api.get(api.path(client, "publications"))
    assert answer.status_code == 200, answer.text
    return answer.json()["publications"]


def test_what_is_pending_is_shown_and_dropped_through_any_node(fleet, pool):
    broker = fleet.closing(ScriptedBroker())
    nodes = fleet.start_nodes(2, **SETTINGS)
    kept_document = {"id": "c", "url": broker.url, "protocol_version": 5, "clean_start": False,
                     "subscriptions": ["t/#"]}
    fleet.api.create(kept_document)
    link = broker.online()
    fleet.api.wait_state("c", "online")
    answers = [pool.submit(fleet.api.publish, "c", f"a/{qos}", "x", qos=qos) for qos in (1, 2)]
    for _ in answers:
        link.expect(PUBLISH)
    for node in nodes:
        wait_until(lambda: sorted((one["topic"], one["qos"], one["state"], one["tries"],
                                   one["bytes"], one["waited_for"])
                                  for one in pending(node.api, "c")) ==
                   [("a/1", 1, "sent", 1, 1, True), ("a/2", 2, "sent", 1, 1, True)], 10, "shown")
    link.reset()
    held = broker.accept()  # not answered: the client is offline
    for node in nodes:
        assert len(pending(node.api, "c")) == 2
    dropped = nodes[1].api.delete(nodes[1].api.path("c", "publications"))
    assert len(dropped.json()["dropped"]) == 2 and pending(fleet.api, "c") == []
    assert [answer.result(10).status_code for answer in answers] == [504, 504]
    assert metric(fleet, "mqfleet_publications_given_up_total", reason="dropped") == 2 or \
        "reason=\"dropped\"} 2" in nodes[1].api.get("/metrics").text
    held.close()
    broker.online(present=True).silent_for(1)


def test_what_a_broker_never_acknowledges_is_sent_again_for_a_time_and_then_given_up(fleet):
    broker = fleet.closing(ScriptedBroker())
    fleet.start_node(**{**SETTINGS, "publish_timeout_ms": 500, "publish_resend_ms": 1500})
    fleet.api.create({"id": "c", "url": broker.url, "clean_start": False, "subscriptions": ["t/#"]})
    link = broker.online()
    fleet.api.wait_state("c", "online")
    assert fleet.api.publish("c", "a/b", "x").status_code == 504
    link.expect(PUBLISH)
    link.close()
    link = broker.online(present=True)
    assert link.expect(PUBLISH).dup
    wait_until(lambda: pending(fleet.api, "c") == [], 10, "given up")
    assert metric(fleet, "mqfleet_publications_given_up_total", reason="expired") == 1
    assert fleet.api.status("c")["last_error"]["code"] == "publication_expired"
    link.close()
    broker.online(present=True).silent_for(1)


def test_a_broker_that_acknowledges_nothing_does_not_hold_up_what_comes_later(fleet, pool):
    """Publications that it never acknowledges use up its receive maximum."""
    broker = fleet.closing(ScriptedBroker())
    fleet.start_node(**{**SETTINGS, "publish_timeout_ms": 1500, "publish_resend_ms": 1000})
    fleet.api.create({"id": "c", "url": broker.url, "protocol_version": 5, "clean_start": False,
                      "session_expiry_s": 3600, "subscriptions": ["t/#"]})
    link = broker.online(properties={"receive_maximum": 1})
    fleet.api.wait_state("c", "online")
    first = pool.submit(fleet.api.publish, "c", "a/1", "x")
    assert link.expect(PUBLISH).topic == "a/1"
    second = fleet.api.publish("c", "a/2", "x")
    assert second.status_code == 504 and second.json()["reason"] == "not_sent", second.text
    assert "was not sent: the broker acknowledges nothing" in second.json()["detail"]
    assert first.result(10).status_code == 504 and "unknown" in first.result().json()["detail"]
    assert link.goodbye() == 0x83
    link.close()
    wait_until(lambda: fleet.api.status("c")["last_error"]["code"] == "nothing_acknowledged", 10,
               "the cause is told")
    link = broker.online(present=True, properties={"receive_maximum": 1})
    fleet.api.wait_state("c", "online")
    third = pool.submit(fleet.api.publish, "c", "a/3", "x")
    sent = link.expect(PUBLISH)
    assert sent.topic == "a/3"
    link.acknowledge(PUBACK, sent.id)
    assert third.result(10).status_code == 200
    for reason in ("expired", "not_sent"):
        assert metric(fleet, "mqfleet_publications_given_up_total", reason=reason) == 1


def test_what_finds_no_room_is_not_told_as_sent(fleet, pool):
    """Data that a broker does not read uses up buffer_bytes."""
    broker = fleet.closing(ScriptedBroker(receive_buffer=4096))
    fleet.start_node(**{**SETTINGS, "publish_timeout_ms": 3000}, buffer_bytes=1048576)
    fleet.api.create({"id": "c", "url": broker.url, "subscriptions": ["t/#"]})
    broker.online()
    fleet.api.wait_state("c", "online")
    pool.submit(fleet.api.publish, "c", "a/1", "x" * 600000)
    wait_until(lambda: len(pending(fleet.api, "c")) == 1, 10, "pending")
    answer = fleet.api.publish("c", "a/2", "x" * 600000)
    assert answer.status_code == 503 and "Retry-After" in answer.headers, answer.text
    assert "nothing was sent" in answer.json()["detail"]
    assert len(pending(fleet.api, "c")) == 1


# ---- A7: a caller that does not give up ----------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_case_A7_a_caller_is_slowed_down_and_told_why(fleet, qos):
    cloud = fleet.closing(CloudBroker(refused_topics=("secret/#",)))
    fleet.start_node(**SETTINGS)
    fleet.api.create({"id": "c", "url": cloud.url, "subscriptions": ["t/#"]})
    fleet.api.wait_state("c", "online")

    def refused():
        answer = fleet.api.publish("c", "secret/x", "no", qos=qos)
        assert answer.status_code in (200, 409, 429, 504), answer.text
        return [answer] if answer.status_code == 429 else None
    answer, = wait_until(refused, 30, "slowed down", 0.5)
    assert int(answer.headers["Retry-After"]) in range(1, 11)
    assert "to this topic" in answer.json()["detail"] and "3 times" in answer.json()["detail"]
    fleet.api.wait_state("c", "online")
    for topic in ("other/x", "secrets", "secret2/x"):
        assert fleet.api.publish("c", topic, "yes", qos=1).status_code == 200
    wait_named(fleet, "c", "secret/x", f"QoS {qos}")
    assert fleet.api.publish("c", "secret/x", "no").status_code == 429
    assert metric(fleet, "mqfleet_publications_throttled_total") >= 2
    fleet.api.delete(fleet.api.path("c", "publications"))
    assert fleet.api.publish("c", "secret/x", "no").status_code != 429
