"""Received messages reach the sink completely, and are acknowledged only then."""

import base64
import json
import resource

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet.wait import holds_for, wait_until

pytestmark = pytest.mark.every_engine

EVERY_BYTE = bytes(range(256))


def break_stream(fleet):
    """XADD fails from now on, while all other keys work."""
    fleet.redis.client.rename("mqtt_msg", "kept") if fleet.redis.client.exists("mqtt_msg") else None
    fleet.redis.client.set("mqtt_msg", "not a stream")


def mend_stream(fleet):
    fleet.redis.client.delete("mqtt_msg")


def test_kf23_topic_and_binary_payload_are_kept_byte_for_byte(fleet):
    node = fleet.start_node()
    fleet.online(1, make=lambda client: fleet.document(
        client, client_id="device-7", subscriptions=[{"filter": "plant/#", "qos": 2}]))
    messages = [("plant/a b/ümlaut/温度", EVERY_BYTE), ("plant/empty", b""),
                ("plant/large", EVERY_BYTE * 1024), ("plant/text", '{"größe": 1}'.encode())]
    fleet.broker.publish_all(messages)
    fleet.broker.publish("plant/zero", b"q0", qos=0)
    fleet.broker.publish("plant/two", b"q2", qos=2)
    wait_until(lambda: len(fleet.stream.rows()) == 6, 20, "all six in the stream")
    rows = {row[b"topic"].decode(): row for row in fleet.stream.rows()}
    assert {topic: rows[topic][b"payload"] for topic, _ in messages} == dict(messages)
    assert [rows["plant/" + name][b"qos"] for name in ("zero", "large", "two")] == [
        b"0", b"1", b"2"]
    row = rows["plant/large"]
    assert (row[b"id"], row[b"client_id"], row[b"node"], row[b"retain"]) == (
        b"c00000", b"device-7", node.name.encode(), b"0")
    assert len(row[b"received_at_ms"]) == 13


def test_retained_messages_are_marked(fleet):
    fleet.start_node()
    fleet.broker.publish("t/c00000/state", b"kept", retain=True)
    fleet.online(1)
    fleet.stream.wait_payloads([b"kept"])
    assert fleet.stream.rows()[0][b"retain"] == b"1"


def test_mqtt5_properties_reach_the_stream(fleet):
    fleet.start_node()
    fleet.online(1, protocol_version=5)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/cbor"
    properties.ResponseTopic = "answers/1"
    properties.CorrelationData = b"\x00\xff"
    properties.UserProperty = [("line", "4"), ("line", "5")]
    fleet.broker.publish("t/c00000/x", b"with properties", properties=properties)
    fleet.stream.wait_payloads([b"with properties"])
    row = fleet.stream.rows()[0]
    assert row[b"content_type"] == b"application/cbor"
    assert row[b"response_topic"] == b"answers/1"
    assert row[b"correlation_data"] == b"\x00\xff"
    flat = b" ".join(key + b"=" + value for key, value in row.items())
    assert b"line" in flat and b"4" in flat and b"5" in flat


def test_subscription_identifiers_come_back_with_the_messages(fleet):
    fleet.start_node()
    fleet.online(1, protocol_version=5, subscriptions=[
        {"filter": "plain", "qos": 1}, {"filter": "seven", "qos": 1, "identifier": 7},
        {"filter": "seven/+", "qos": 1, "identifier": 7},
        {"filter": "large", "qos": 1, "identifier": 268435455}])
    fleet.broker.publish_all([("plain", b"0"), ("seven", b"7"), ("seven/x", b"7x"),
                              ("large", b"large")])
    fleet.stream.wait_payloads([b"0", b"7", b"7x", b"large"])
    found = {row[b"payload"]: row.get(b"subscription_identifier") for row in fleet.stream.rows()}
    assert found == {b"0": None, b"7": b"7", b"7x": b"7", b"large": b"268435455"}


@pytest.mark.parametrize("dying", [False, True])
def test_kf24_nothing_is_acknowledged_before_the_sink_has_it(fleet, dying):
    """If messages had been acknowledged before the sink had them, those held by the dying node would be
    lost."""
    node = fleet.start_node(redis_config__timeout_ms=1000)
    ids = fleet.online(3, make=fleet.persistent)
    break_stream(fleet)
    payloads = {f"m{number}" for number in range(60)}
    fleet.broker.publish_all([(f"t/{ids[int(text[1:]) % 3]}/x", text) for text in payloads])
    wait_until(lambda: not node.ready(), 20, "the node says that its sink fails")
    assert node.alive()
    if dying:
        node.kill()
    mend_stream(fleet)
    if dying:
        node.start()
    fleet.stream.wait_payloads([text.encode() for text in payloads], 40)


def test_kf25_a_full_queue_drops_qos_0_and_holds_qos_1(fleet):
    room = 40
    node = fleet.start_node(sink__queue_messages=room)
    fleet.online(1, make=fleet.persistent)
    topic = "t/c00000/x"
    break_stream(fleet)
    fleet.broker.publish_all([(topic, f"zero {number}") for number in range(300)], qos=0)
    # Before any of QoS 1, which would keep the rest unread.
    wait_until(lambda: fleet.api.status("c00000")["messages_in"] == 300, 20, "all of QoS 0 came")
    fleet.broker.publish_all([(topic, f"one {number}") for number in range(150)], qos=1)
    wait_until(lambda: not node.ready(), 20, "the node says that its sink fails")
    mend_stream(fleet)
    fleet.stream.wait_payloads([b"one %d" % number for number in range(150)], 40)
    kept = sum(payload.startswith(b"zero") for payload in fleet.stream.payloads())
    assert 0 < kept <= room, kept
    status = fleet.api.status("c00000")
    assert status["messages_in"] >= 450
    assert status["messages_dropped"] == 300 - kept
    assert fleet.broker.connects()["c00000"] == 1


def test_order_within_a_topic_is_kept(fleet):
    fleet.start_node()
    fleet.online(1)
    payloads = [b"%d" % number for number in range(2000)]
    fleet.broker.publish_all([("t/c00000/x", payload) for payload in payloads])
    fleet.stream.wait_payloads(payloads)
    assert fleet.stream.payloads() == payloads


def test_the_file_sink_writes_a_json_line_per_message(fleet):
    path = fleet.folder / "received.ndjson"
    fleet.start_node(sink__type="file", sink__path=path)
    fleet.online(1)
    fleet.broker.publish_all([("t/c00000/text", "grün"), ("t/c00000/bytes", EVERY_BYTE)])

    def lines():
        return path.read_text().splitlines() if path.exists() else []
    wait_until(lambda: len(lines()) == 2, 20, "two lines")
    text, binary = map(json.loads, lines())
    assert (text["topic"], text["payload"], text["qos"]) == ("t/c00000/text", "grün", 1)
    assert base64.b64decode(binary["payload_base64"]) == EVERY_BYTE
    assert not fleet.redis.client.exists("mqtt_msg")


def test_a_file_that_may_not_grow_is_a_failing_sink_and_not_the_end_of_the_node(fleet):
    path = fleet.folder / "received.ndjson"
    node = fleet.start_node(sink__type="file", sink__path=path)
    fleet.online(1, make=fleet.persistent)
    _, most = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (2000, most))
    fleet.broker.publish_all([("t/c00000/x", "%03d" % number + "x" * 300) for number in range(12)])
    wait_until(lambda: "event=sink_failing" in node.log(), 20, "the sink fails")
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (most, most))

    def all_are_stored():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        return {json.loads(line)["payload"][:3] for line in lines} == {
            "%03d" % number for number in range(12)}
    wait_until(all_are_stored, 40, "every message is in the file")
    assert node.terminate() == 0


def test_the_null_sink_acknowledges_and_keeps_nothing(fleet):
    node = fleet.start_node(sink__type="null")
    fleet.online(1, make=fleet.persistent)
    fleet.broker.publish_all([("t/c00000/x", str(number)) for number in range(50)])
    wait_until(lambda: fleet.api.status("c00000")["messages_in"] == 50, 20, "50 received")
    assert node.terminate() == 0
    assert not fleet.redis.client.exists("mqtt_msg")
    # Acknowledged: the broker does not send them again.
    node.start()
    fleet.broker.publish("t/c00000/x", "last")
    received = wait_until(lambda: (count := fleet.api.status("c00000")["messages_in"]) > 50 and count, 60,
                          "the last one")
    assert received == 51  # counters survive a restart


def test_the_stream_is_trimmed_to_about_its_length(fleet):
    fleet.start_node(sink__maxlen=200)
    fleet.online(1)
    fleet.broker.publish_all([("t/c00000/x", str(number)) for number in range(1500)])
    wait_until(lambda: fleet.redis.client.xinfo_stream("mqtt_msg")["last-entry"][1]["payload"]
               == "1499", 20, "the last message")
    assert fleet.redis.client.xlen("mqtt_msg") < 500


def test_a_session_with_a_backlog_waits_for_its_sink_instead_of_connecting_anew(fleet):
    """The backlog arrives before the SUBACK, and the sink accepts none of it for longer than the timeout of a
    subscription."""
    node = fleet.start_node(sink__queue_messages=10, connect_timeout_ms=1000)
    fleet.online(1, make=fleet.persistent)
    assert node.terminate() == 0
    payloads = [b"saved %d" % number for number in range(200)]
    fleet.broker.publish_all([("t/c00000/x", payload) for payload in payloads])
    break_stream(fleet)
    before = fleet.broker.mark()
    node.start(wait=False)
    wait_until(lambda: not node.ready() and fleet.broker.connects(before).get("c00000"), 30,
               "connected, and the sink fails")
    holds_for(lambda: fleet.broker.connects(before)["c00000"] == 1, 4, "one connection")
    mend_stream(fleet)
    fleet.stream.wait_payloads(payloads, 40)
    assert fleet.broker.connects(before)["c00000"] == 1
