"""The type kafka with the real broker: nothing missing, each client in order, whatever is killed."""

import os
import time

import pytest

from fleet.certificates import Authority
from fleet.kafka import Kafka
from fleet.publisher import Publisher
from fleet.wait import wait_until

MESSAGES = int(os.environ.get("MQFLEET_TEST_SINK_MESSAGES", "2000"))
RATE_PER_S = 1000
TOPIC = "devices"


@pytest.fixture
def kafka(fleet):
    return fleet.start_other(Kafka)


def start_node(fleet, kafka, **fields):
    settings = {"type": "kafka", "brokers": kafka.brokers, "topic": TOPIC, **fields}
    return fleet.start_node(**{f"sinks__kafka__{name}": value for name, value in settings.items()})


def published(fleet, topics, count=MESSAGES, during=lambda publisher: None):
    """Numbered messages, each topic in turn; the payloads that mosquitto has acknowledged."""
    publisher = fleet.closing(Publisher(fleet.broker, topics, RATE_PER_S))
    wait_until(lambda: publisher.sent >= count / 4, 60, "a quarter is sent")
    during(publisher)
    wait_until(lambda: publisher.sent >= count, 60 + count / RATE_PER_S * 3, f"{count} are sent")
    return {payload.decode() for payload in publisher.stop()}


def numbers_of(rows, client):
    return [int(row["payload"].split(":")[1]) for row in rows if row["key"] == client]


def check_order(rows, clients, again=False):
    """The first appearances of the numbers of a client increase. again: some may come twice."""
    for client in clients:
        first = list(dict.fromkeys(numbers_of(rows, client)))
        assert first == sorted(first), f"{client} is out of order"
        assert len({row["partition"] for row in rows if row["key"] == client}) == 1
        if not again:
            assert len(first) == len(numbers_of(rows, client)), f"{client} has doubles"


def test_every_message_is_there_once_and_in_order(fleet, kafka):
    start_node(fleet, kafka, compression="lz4")
    clients = fleet.online(5, sink="kafka")
    sent = published(fleet, [f"t/{client}/x" for client in clients])
    rows = kafka.wait_payloads(TOPIC, sent)
    check_order(rows, clients)
    assert len(rows) == len(sent)
    headers = rows[0]["headers"]
    assert headers["id"] == rows[0]["key"] and headers["topic"] == f"t/{headers['id']}/x"
    assert headers["qos"] == "1" and headers["node"] == "n1"
    assert len({row["headers"]["message_id"] for row in rows}) == len(rows)


def test_a_killed_broker_loses_nothing_and_doubles_nothing(fleet, kafka):
    start_node(fleet, kafka)
    clients = fleet.online(3, sink="kafka")

    def restart(_):
        kafka.kill()
        time.sleep(3)
        kafka.start()

    sent = published(fleet, [f"t/{client}/x" for client in clients], during=restart)
    rows = kafka.wait_payloads(TOPIC, sent)
    check_order(rows, clients)
    assert len(rows) == len(sent)


def test_a_stalled_broker_loses_nothing_and_doubles_nothing(fleet, kafka):
    """For longer than several writes wait."""
    start_node(fleet, kafka)
    clients = fleet.online(3, sink="kafka")

    def stall(_):
        kafka.pause()
        time.sleep(6)
        kafka.resume()

    sent = published(fleet, [f"t/{client}/x" for client in clients], during=stall)
    rows = kafka.wait_payloads(TOPIC, sent)
    check_order(rows, clients)
    assert len(rows) == len(sent)


def test_a_killed_node_loses_nothing(fleet, kafka):
    node = start_node(fleet, kafka)
    clients = fleet.create(3, sink="kafka", make=fleet.persistent)
    fleet.wait_online(clients)

    def restart(_):
        node.kill()
        node.start()

    sent = published(fleet, [f"t/{client}/x" for client in clients], during=restart)
    rows = kafka.wait_payloads(TOPIC, sent, 120)
    assert {client for client in clients if numbers_of(rows, client)} == set(clients)


def test_a_stop_leaves_nothing_behind(fleet, kafka):
    node = start_node(fleet, kafka)
    clients = fleet.create(3, sink="kafka", make=fleet.persistent)
    fleet.wait_online(clients)

    def restart(_):
        assert node.terminate() == 0
        node.start()

    sent = published(fleet, [f"t/{client}/x" for client in clients], during=restart)
    rows = kafka.wait_payloads(TOPIC, sent, 120)
    check_order(rows, clients)


def test_records_that_only_the_broker_finds_too_large_do_not_stop_the_others(fleet):
    """Its limit is below that of librdkafka, and a batch of good ones is above it, too."""
    kafka = fleet.start_other(Kafka, options=["message.max.bytes=4096"])
    start_node(fleet, kafka)
    [client] = fleet.online(1, sink="kafka")
    good = [f"{number:04}" + "x" * 500 for number in range(100)]
    payloads = [*good[:50], "y" * 6000, *good[50:]]
    fleet.broker.publish_all([(f"t/{client}/x", payload.encode()) for payload in payloads])
    rows = kafka.wait_payloads(TOPIC, good)
    assert sorted(row["payload"] for row in rows) == good
    wait_until(lambda: fleet.redis.bytes_client.xlen("mqtt_dead") == 1, 20, "the dead letter")
    [(_, dead)] = fleet.redis.bytes_client.xrange("mqtt_dead")
    assert dead[b"payload"] == b"y" * 6000 and b"too large" in dead[b"dead_letter_reason"]


def test_a_broker_that_is_not_there_is_told_by_name(fleet, kafka):
    kafka.kill()
    node = start_node(fleet, kafka)
    [client] = fleet.online(1, sink="kafka")
    fleet.broker.publish(f"t/{client}/x", b"1")
    wait_until(lambda: f"127.0.0.1:{kafka.port}" in node.api.get("/readyz?verbose").text, 30, "the reason")
    kafka.start()
    kafka.wait_payloads(TOPIC, ["1"])
    wait_until(lambda: "[+]sink.kafka ok" in node.api.get("/readyz?verbose").text, 30, "it works")


def test_tls_with_a_certificate_a_user_and_a_password(fleet):
    authority = Authority(fleet.folder / "authority")
    kafka = fleet.start_other(Kafka, authority=authority)
    secure = {"brokers": kafka.secure_brokers, "tls": "true", "tls_ca": authority.ca,
              "tls_cert": authority.client_certificate, "tls_key": authority.client_key.read_text(),
              "sasl_mechanism": "PLAIN", "username": kafka.user}
    node = start_node(fleet, kafka, **secure, password="wrong-hush")
    [client] = fleet.online(1, sink="kafka", make=fleet.persistent)
    fleet.broker.publish(f"t/{client}/x", b"1")
    wait_until(lambda: "uthentication failed" in node.api.get("/readyz?verbose").text, 30, "the reason")
    node.terminate()
    fleet.start_node(**{f"sinks__kafka__{name}": value for name, value in
                        {**secure, "type": "kafka", "topic": TOPIC, "password": kafka.password}.items()})
    kafka.wait_payloads(TOPIC, ["1"])
    assert "wrong-hush" not in node.log() and "PRIVATE" not in node.log()


def test_a_sink_of_the_fleet_is_tested_and_used(fleet, kafka):
    node = fleet.start_node()
    document = {"type": "kafka", "brokers": kafka.brokers, "topic": TOPIC}

    def failed_step(**more):
        report = node.api.post("/api/v1/sinks:test", {**document, **more}).json()
        steps = report["steps"]
        return None if report["ok"] else (steps[-1]["step"], steps[-1]["detail"], steps[-1]["advice"])

    assert failed_step()[0] == "topic" and "create the topic" in failed_step()[2]
    assert TOPIC not in kafka.topics()  # a test does not create it
    assert failed_step(brokers="127.0.0.1:1")[0] == "connect"
    assert node.api.put("/api/v1/sinks/telemetry", document).status_code == 201
    wait_until(lambda: node.api.post("/api/v1/clients", fleet.document("c", sink="telemetry")).status_code == 201,
               20, "the node has the sink")
    fleet.wait_online(["c"])
    fleet.broker.publish("t/c/x", b"1")
    kafka.wait_payloads(TOPIC, ["1"])
    assert failed_step() is None
