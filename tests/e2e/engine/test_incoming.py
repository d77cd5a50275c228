"""Messages that a client cannot accept: none keeps it offline, none is lost silently, and the messages
before and after it arrive once."""

import pytest

from fleet import packets
from fleet.certificates import Authority
from fleet.other_brokers import Mochi
from fleet.packets import CONNECT, DISCONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL
from fleet.ports import free_port
from fleet.node import sanitized
from fleet.sse import EventReader
from fleet.wait import wait_until

pytestmark = pytest.mark.every_engine

MIB = 1 << 20


def skipped(api, reason):
    name = f'mqfleet_messages_skipped_total{{reason="{reason}"}} '
    return sum(int(line.split()[-1]) for line in api.get("/metrics").text.splitlines()
               if line.startswith(name))


# ---- too large -----------------------------------------------------------------------------------


def listener(fleet, kind):
    """A mosquitto to which everyone can publish, and the URL and fields with which the client connects."""
    port = free_port()
    lines = {"tcp": [], "ws": [f"listener {port} 127.0.0.1", "protocol websockets"]}
    if kind == "tls":
        authority = Authority(fleet.folder / "ca")
        lines["tls"] = [f"listener {port} 127.0.0.1", f"cafile {authority.ca}",
                        f"certfile {authority.server_certificate}",
                        f"keyfile {authority.server_key}"]
    broker = fleet.start_broker(options=lines[kind])
    return broker, {"tcp": {"url": broker.url}, "ws": {"url": f"ws://127.0.0.1:{port}/mqtt"},
                    "tls": {"url": f"mqtts://127.0.0.1:{port}", "tls": {
                        "ca": authority.ca.read_text()} if kind == "tls" else {}}}[kind]


@pytest.mark.parametrize("kind,version,qos", [("tcp", 5, 1), ("tcp", 4, 1), ("tcp", 5, 2),
                                              ("tcp", 4, 2), ("tls", 5, 1), ("ws", 5, 1)])
def test_case_C1_a_message_above_the_bound_is_skipped_and_those_behind_it_come(
        fleet, kind, version, qos):
    broker, where = listener(fleet, kind)
    size = MIB if kind == "ws" else 17 * MIB  # mosquitto sends no more over WebSocket
    node = fleet.start_node(**{"max_packet_bytes": 100000} if kind == "ws" else {})
    [client] = fleet.create(1, make=lambda name: {
        "id": name, "clean_start": False, "protocol_version": version, **where,
        "subscriptions": [{"filter": "t/c1/#", "qos": qos}]})
    fleet.wait_online([client])
    events = fleet.closing(EventReader(node.api.base + "/api/v1/events?kind=notice"))
    events.wait_comment("listening to the whole fleet")
    node.api.post(node.api.path(client, "pause"))
    node.api.wait_state(client, "paused")
    small = [(f"t/c1/{n}", b"%d" % n) for n in range(100)]
    rss_before = node.rss_bytes()
    for topic, payload in [*small[:50], ("t/c1/large", bytes(size)), *small[50:]]:
        broker.publish(topic, payload, qos)
    node.api.post(node.api.path(client, "resume"))
    node.api.wait_state(client, "online")

    def all_there():
        got = [row[b"payload"] for row in fleet.stream.of(client)]
        assert got == [payload for _, payload in small], f"{len(got)} messages"
        return True
    wait_until(all_there, 60, "the others")
    assert skipped(node.api, "oversize") == 1
    error = node.api.status(client)["last_error"]
    assert error["code"] == "message_skipped"
    assert "t/c1/large" in error["message"] and str(size)[:4] in error["message"], error
    events.wait(lambda r: r.of("notice"), "told as a notice")
    [notice] = events.of("notice")
    assert (notice["id"], notice["code"], notice["message"]) == (
        client, "message_skipped", error["message"])
    assert "message_skipped" in node.log()
    # A sanitizer keeps what was freed.
    assert sanitized() or node.rss_bytes() - rss_before < 4 * MIB
    reconnects = node.api.status(client)["reconnects"]
    node.api.post(node.api.path(client, "restart"))  # nothing comes again
    wait_until(lambda: node.api.status(client)["reconnects"] > reconnects, 20, "connected anew")
    node.api.wait_state(client, "online")
    broker.publish("t/c1/end", b"end", qos)
    wait_until(lambda: [row[b"payload"] for row in fleet.stream.of(client)][100:] == [b"end"], 20,
               "the end alone")
    assert skipped(node.api, "oversize") == 1


def test_a_client_may_end_the_connection_for_what_is_too_large(desk):
    broker = desk.broker()
    client = desk.persistent(broker, 5, oversize="close")
    link = broker.online()
    assert "maximum_packet_size" not in link.connect.properties
    link.publish("t/large", bytes(17 * MIB), 1, 7)
    assert link.goodbye(20) == 0x95
    assert desk.wait_error(client)["code"] == "packet_too_large"


@pytest.mark.parametrize("version", (4, 5))
def test_case_C1_a_large_message_of_qos_2_ends_its_exchange(desk, version):
    broker = desk.broker()
    client = desk.persistent(broker, version)
    link = broker.online()
    link.publish("t/large", bytes(17 * MIB), 2, 7)
    answer = link.expect(PUBREC, 30)
    assert (answer.id, answer.code) == (7, 0x97 if version == 5 else 0)
    if version == 4:
        link.acknowledge(PUBREL, 7)
        assert link.expect(PUBCOMP).id == 7
    link.deliver("t/small", b"small", 7)
    desk.wait_payloads(client, [b"small"])


# ---- malformed -----------------------------------------------------------------------------------

BAD_TOPICS = {"not UTF-8": b"t/\xff", "U+0000": b"t/\0x", "a plus": b"t/+", "a hash": b"t/#",
              "nothing": b""}


@pytest.mark.parametrize("version", (4, 5))
@pytest.mark.parametrize("name", BAD_TOPICS)
def test_case_C2_a_malformed_topic_ends_one_connection_and_is_skipped_on_the_next(
        desk, version, name):
    broker, topic = desk.broker(), BAD_TOPICS[name]
    client = desk.persistent(broker, version)
    before = skipped(desk.api, "malformed_topic")
    link = broker.online()
    link.deliver("t/1", b"one", 1)
    link.deliver("t/2", b"two", 2)
    desk.wait_payloads(client, [b"one", b"two"])
    link.publish(topic, b"bad", 1, 3)
    link.publish("t/4", b"four", 1, 4)
    got = link.until_closed()
    assert not [packet for packet in got if packet.kind == PUBACK]
    said = [packet.code for packet in got if packet.kind == DISCONNECT]
    assert said in ([], [0x81], [0x82], [0x90]) and bool(said) == (version == 5)
    link = broker.connection(present=True)
    link.publish(topic, b"bad", 1, 3, dup=True)
    link.publish("t/4", b"four", 1, 4, dup=True)
    answers = []
    while len(answers) < 2:
        packet = link.receive()
        if packet.kind == PUBACK:
            answers.append((packet.id, packet.code))
        elif packet.kind == packets.SUBSCRIBE:
            link.grant(packet)
    assert answers == [(3, 0x90 if version == 5 else 0), (4, 0)]
    desk.wait_payloads(client, [b"one", b"two", b"four"])
    desk.api.wait_state(client, "online")
    error = desk.wait_error(client)
    assert error["code"] == "message_skipped" and "topic" in error["message"]
    assert skipped(desk.api, "malformed_topic") == before + 1


def test_case_C2_what_ended_a_connection_at_one_of_several_urls_is_skipped_at_the_next(desk):
    brokers = [desk.broker(), desk.broker()]
    document = desk.document(brokers[0], 5, urls=[broker.url for broker in brokers],
                             clean_start=False, session_expiry_s=3600)
    del document["url"]
    client = desk.add(document)
    link = brokers[0].connection()
    link.publish(b"t/\xff", b"bad", 1, 1)  # before SUBACK: the client goes to the next
    assert link.goodbye() == 0x81
    link = brokers[1].connection(present=True)
    link.publish(b"t/\xff", b"bad", 1, 1, dup=True)
    link.answer_subscriptions()
    answer = link.expect(PUBACK)
    assert (answer.id, answer.code) == (1, 0x90)
    desk.api.wait_state(client, "online")


# ---- topic aliases -------------------------------------------------------------------------------


def test_topic_aliases_are_offered_only_if_asked_for(desk):
    broker = desk.broker()
    desk.client(broker, 5)
    assert "topic_alias_maximum" not in broker.online().connect.properties
    desk.client(broker, 5, topic_alias_maximum=7)
    assert broker.online().connect.properties["topic_alias_maximum"] == 7


def test_case_C3_an_unknown_alias_is_followed_by_connections_that_offer_none(desk):
    alias = [("topic_alias", 2)]
    broker = desk.broker()
    client = desk.persistent(broker, 5, topic_alias_maximum=10)
    link = broker.online()
    link.publish("t/1", b"one", 1, 1, properties=alias)
    assert link.expect(PUBACK).id == 1
    link.close()
    link = broker.connection(present=True)
    link.publish("", b"two", 1, 2, properties=alias)  # as mochi-mqtt sends it again
    assert link.goodbye() in (0x82, 0x94)
    link = broker.accept()
    assert "topic_alias_maximum" not in link.expect(CONNECT).properties
    error = desk.wait_error(client)
    assert "alias" in error["message"] and "offer no aliases" in error["message"], error
    link.send(packets.connack(5, True))
    link.publish("", b"two", 1, 2, properties=alias)
    assert link.goodbye() == 0x94
    link = broker.connection(present=True)
    link.publish("", b"two", 1, 2, properties=alias)
    link.answer_subscriptions()
    answer = link.expect(PUBACK)
    assert (answer.id, answer.code) == (2, 0x90)
    link.deliver("t/3", b"three", 3)
    desk.wait_payloads(client, [b"one", b"three"])
    assert skipped(desk.api, "unknown_alias") == 1
    desk.api.wait_state(client, "online")


def test_case_C3_with_mochi_mqtt(fleet):
    if Mochi.missing():
        pytest.skip(Mochi.missing())
    broker = fleet.start_other(Mochi)
    node = fleet.start_node(reconnect_min_ms=50, reconnect_max_ms=500)
    ids = fleet.create(10, make=lambda name: {
        "id": name, "url": broker.url, "clean_start": False, "protocol_version": 5,
        "subscriptions": [{"filter": f"t/{name}/#", "qos": 1}]})
    fleet.wait_online(ids, 40)
    for round in range(5):
        for client in ids:
            for part in range(20):
                broker.publish(f"t/{client}/{part % 3}", f"{round}-{part}")
        for client in ids[::2]:
            node.api.post(node.api.path(client, "restart"))
    fleet.wait_online(ids, 40)
    wanted = {f"{round}-{part}".encode() for round in range(5) for part in range(20)}
    for client in ids:
        wait_until(lambda: {row[b"payload"] for row in fleet.stream.of(client)} >= wanted, 40,
                   f"all messages of {client}")


# ---- before the end ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", (4, 5))
def test_case_C4_what_was_accepted_before_the_end_does_not_come_again(desk, version):
    broker = desk.broker()
    client = desk.persistent(broker, version)
    link = broker.online()
    payloads = [b"%d" % n for n in range(1, 101)]
    for number, payload in enumerate(payloads, 1):
        link.publish("t/x", payload, 1, number)
    desk.wait_payloads(client, payloads)
    assert [link.expect(PUBACK).id for _ in payloads] == list(range(1, 101))
    link.send(bytes.fromhex("d1 00"))  # malformed
    link.until_closed()
    link = broker.connection(present=True)
    if version == 5:
        link.answer_subscriptions()
    link.deliver("t/x", b"end", 101)
    desk.wait_payloads(client, [*payloads, b"end"])
