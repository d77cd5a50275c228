"""The sink type mqtt: from one broker to another, with real mosquittos and with a target that a test
implements packet by packet."""

import queue
import threading

import pytest

from fleet import packets
from fleet.certificates import Authority
from fleet.mqtt_client import MQTTv5, new_client
from fleet.packets import PUBACK, PUBLISH
from fleet.scripted import ScriptedBroker
from fleet.wait import PATIENCE, holds_for, wait_until

COUNT = 1000
TOPIC = "t/c00000/n"


class Receiver:
    """Subscribed to everything at a target, in a session that survives the end of the target."""

    def __init__(self, broker, filters="#", tls=None):
        self.messages = queue.SimpleQueue()
        self.taken = []
        self.client = new_client("receiver", protocol=MQTTv5)
        self.client.on_connect = lambda *_: self.client.subscribe(filters, 1)
        self.client.on_message = lambda _client, _userdata, message: self.messages.put(message)
        self.client.reconnect_delay_set(1, 1)
        if tls:
            self.client.tls_set(str(tls.ca), str(tls.client_certificate), str(tls.client_key))
        subscribed = queue.SimpleQueue()
        self.client.on_subscribe = lambda *_: subscribed.put(True)
        self.client.connect("127.0.0.1", broker.port, clean_start=False,
                            properties=self._session())
        self.client.loop_start()
        assert subscribed.get(timeout=20)

    @staticmethod
    def _session():
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        return properties

    def take(self):
        """All so far."""
        while not self.messages.empty():
            self.taken.append(self.messages.get())
        return self.taken

    def payloads(self):
        return [message.payload for message in self.take()]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def numbers(count=COUNT, start=0):
    return [b"%d" % number for number in range(start, start + count)]


def publish(fleet, payloads, topic=TOPIC, **more):
    fleet.broker.publish_all([(topic, payload) for payload in payloads], **more)


def settings(target, **more):
    fields = {"type": "mqtt", "url": target.url, "timeout_ms": 2000, **more}
    return {f"sinks__bridge__{name}": value for name, value in fields.items()}


def start(fleet, target, clients=1, **more):
    node = fleet.start_node(**settings(target, **more))
    fleet.create(clients, make=fleet.persistent, sink="bridge")
    fleet.wait_online([f"c{number:05d}" for number in range(clients)])
    return node


def error_of(node):
    return node.api.get("/readyz?verbose").text


def dead_letters(fleet):
    """(payload, reason) of each."""
    return [(row[b"payload"], row[b"dead_letter_reason"])
            for _, row in fleet.redis.bytes_client.xrange("mqtt_dead")]


def metric(node, name):
    for line in node.api.get("/metrics").text.splitlines():
        if line.split(" ")[0] == name:
            return float(line.split(" ")[1])
    raise LookupError(name)


@pytest.fixture
def target(fleet):
    return fleet.start_broker("target", persistence=True)


@pytest.fixture
def receiver(fleet, target):
    return fleet.closing(Receiver(target))


@pytest.fixture
def scripted(fleet):
    return fleet.closing(ScriptedBroker())


# ---- what arrives --------------------------------------------------------------------------------


def test_numbered_messages_come_once_and_in_order(fleet, target, receiver):
    node = start(fleet, target)
    publish(fleet, numbers())
    wait_until(lambda: len(receiver.take()) >= COUNT, 30, "all at the target")
    holds_for(lambda: receiver.payloads() == numbers(), 0.5)
    assert {message.topic for message in receiver.taken} == {TOPIC}
    (name,) = [name for name in target.connected() if name.startswith(f"mqfleet-{node.name}-bridge-")]
    assert target.connect_options(name) == (5, 1, 60)


def test_topic_retain_flag_and_properties_go_along(fleet, target, receiver):
    start(fleet, target, topic="plant/{id}/{topic.3}")
    source = new_client("source", protocol=MQTTv5)
    source.connect("127.0.0.1", fleet.broker.port)
    source.loop_start()
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType, properties.ResponseTopic = "text/plain", "answers"
    properties.CorrelationData = b"\x00\x01"
    properties.UserProperty = [("a", "1"), ("a", "2")]
    properties.PayloadFormatIndicator = 1
    properties.MessageExpiryInterval = 1000
    source.publish(TOPIC, "21.5", 1, properties=properties).wait_for_publish(20)
    source.disconnect()
    source.loop_stop()
    wait_until(lambda: len(receiver.take()) == 1, 20, "the message at the target")
    message = receiver.taken[0]
    assert (message.topic, message.payload, message.qos) == ("plant/c00000/n", b"21.5", 1)
    got = message.properties
    assert (got.ContentType, got.ResponseTopic, got.CorrelationData) == (
        "text/plain", "answers", b"\x00\x01")
    assert got.PayloadFormatIndicator == 1 and 900 < got.MessageExpiryInterval <= 1000
    assert got.UserProperty[:2] == [("a", "1"), ("a", "2")]
    (via,) = [value for name, value in got.UserProperty if name == "mqfleet-via"]
    assert via.endswith(f"/bridge@127.0.0.1:{target.port}")


@pytest.mark.parametrize("retain", ["keep", "never"])
def test_retained_messages(fleet, target, receiver, retain):
    fleet.broker.publish("t/c00000/kept", b"1", retain=True)
    start(fleet, target, retain=retain)
    wait_until(lambda: receiver.payloads() == [b"1"], 20, "the message at the target")
    late = new_client("late", protocol=MQTTv5)
    fleet.at_end(late.disconnect)
    got = queue.SimpleQueue()
    late.on_message = lambda _client, _userdata, message: got.put(message)
    late.connect("127.0.0.1", target.port)
    late.subscribe("t/c00000/kept", 1)
    late.loop_start()
    if retain == "keep":
        assert got.get(timeout=20).retain
    else:
        holds_for(got.empty, 1)
    late.loop_stop()


def test_mqtt_3_1_1(fleet, target, receiver):
    start(fleet, target, protocol_version=4)
    publish(fleet, numbers(100))
    wait_until(lambda: len(receiver.take()) >= 100, 20, "all at the target")
    assert receiver.payloads() == numbers(100)
    assert not hasattr(receiver.taken[0].properties, "UserProperty")


def test_tls_with_a_client_certificate(fleet, tmp_path):
    authority = Authority(tmp_path / "tls")
    target = fleet.start_broker("target", tls=authority, client_certificates=True)
    receiver = fleet.closing(Receiver(target, tls=authority))
    start(fleet, target, tls_ca=authority.ca, tls_cert=authority.client_certificate,
          tls_key=authority.client_key)
    publish(fleet, numbers(100))
    wait_until(lambda: receiver.payloads() == numbers(100), 30, "all at the target")


def test_a_certificate_that_is_not_trusted_is_told(fleet, tmp_path):
    authority, other = Authority(tmp_path / "tls"), Authority(tmp_path / "other")
    target = fleet.start_broker("target", tls=authority)
    node = start(fleet, target, tls_ca=other.ca)
    publish(fleet, [b"1"])
    wait_until(lambda: "certificate" in error_of(node), 20, "the cause is told")


# ---- targets that fail ---------------------------------------------------------------------------


def test_a_target_that_is_killed_gets_everything_in_order(fleet, target, receiver):
    node = start(fleet, target)
    publish(fleet, numbers(300))
    wait_until(lambda: len(receiver.take()) >= 100, 20, "some at the target")
    target.terminate()
    publish(fleet, numbers(300, 300))
    wait_until(lambda: "bridge" in error_of(node) and "refused" in error_of(node), 20, "the cause")
    target.start()
    wait_until(lambda: set(receiver.payloads()) == set(numbers(600)), 60, "all at the target")
    assert list(dict.fromkeys(receiver.payloads())) == numbers(600)
    assert not dead_letters(fleet)


def test_a_target_that_stalls_holds_only_its_own_messages(fleet, target, receiver):
    node = start(fleet, target, timeout_ms=500)
    fleet.online(1, prefix="other")
    publish(fleet, [b"before"])
    wait_until(lambda: receiver.payloads() == [b"before"], 20, "the first one")
    target.pause()
    try:
        publish(fleet, numbers(500))
        fleet.broker.publish("t/other00000/n", b"free")
        fleet.stream.wait_payloads([b"free"])
        wait_until(lambda: "does not acknowledge" in error_of(node) or "in time" in error_of(node),
                   20, "the cause is told")
    finally:
        target.resume()
    wait_until(lambda: set(receiver.payloads()) >= set(numbers(500)), 60, "all, once it goes on")
    assert list(dict.fromkeys(receiver.payloads()[1:])) == numbers(500)


def test_a_node_that_is_killed_loses_nothing(fleet, target, receiver):
    node = start(fleet, target)
    publish(fleet, numbers(400))
    wait_until(lambda: len(receiver.take()) >= 50, 20, "some at the target")
    node.kill()
    publish(fleet, numbers(400, 400))
    node.start()
    wait_until(lambda: set(receiver.payloads()) == set(numbers(800)), 60, "all at the target")


def test_wrong_credentials_are_told_and_not_logged(fleet):
    target = fleet.start_broker("target", users={"plant": "word"})
    node = start(fleet, target, username="plant", password="hunter2")
    publish(fleet, [b"1"])
    wait_until(lambda: "not authorized" in error_of(node).lower() or
               "password" in error_of(node).lower(), 20, "the cause is told")
    assert "hunter2" not in node.log() + error_of(node)


# ---- messages that the target does not take ------------------------------------------------------


class Gate:
    """A target that takes messages up to a size, and ends the connection for a larger one."""

    def __init__(self, scripted, largest=20000):
        self.scripted, self.largest = scripted, largest
        self.payloads = []
        self.connections = 0
        self.open = True
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while self.open:
            try:
                link = self.scripted.connection(bound_s=0.3 / PATIENCE)
            except (AssertionError, OSError):
                continue
            self.connections += 1
            self._serve(link)
            link.close()

    def _serve(self, link):
        while self.open:
            try:
                packet = link.receive(0.3 / PATIENCE)
            except AssertionError:
                continue
            except OSError:
                return
            if packet is None or packet.kind != PUBLISH or len(packet.payload) > self.largest:
                return
            self.payloads.append(packet.payload)
            link.acknowledge(PUBACK, packet.id)

    def close(self):
        self.open = False
        self.thread.join()


@pytest.fixture
def gate(fleet, scripted):
    return fleet.closing(Gate(scripted))


def test_case_A1_mosquitto_says_that_one_is_too_large(fleet):
    """Then it ends the connection."""
    target = fleet.start_broker("target", options=["message_size_limit 20000"])
    receiver = fleet.closing(Receiver(target))
    start(fleet, target)
    large = bytes(30000)
    publish(fleet, numbers(COUNT // 2) + [large] + numbers(COUNT // 2, COUNT // 2))
    wait_until(lambda: set(receiver.payloads()) >= set(numbers()), 60, "all others at the target")
    assert list(dict.fromkeys(receiver.payloads())) == numbers()
    ((payload, reason),) = wait_until(lambda: dead_letters(fleet), 20, "the dead letter")
    assert payload == large and b"packet too large (0x95)" in reason


@pytest.mark.parametrize("version", [5, 4])
def test_case_A4_one_that_ends_the_connection_is_rejected_alone(fleet, gate, version):
    start(fleet, gate.scripted, protocol_version=version)
    large = bytes(30000)
    publish(fleet, numbers(COUNT // 2) + [large] + numbers(COUNT // 2, COUNT // 2))
    wait_until(lambda: set(gate.payloads) >= set(numbers()), 60, "all others at the target")
    assert list(dict.fromkeys(gate.payloads)) == numbers()
    ((payload, reason),) = wait_until(lambda: dead_letters(fleet), 20, "the dead letter")
    assert payload == large and b"whenever this is sent" in reason
    assert gate.connections <= 8


def test_several_in_a_row_that_end_the_connection(fleet, gate):
    start(fleet, gate.scripted)
    large = [bytes([number]) * 30000 for number in range(5)]
    publish(fleet, numbers(10) + large + numbers(10, 10))
    wait_until(lambda: set(gate.payloads) >= set(numbers(20)), 60, "all others at the target")
    wait_until(lambda: len(dead_letters(fleet)) == 5, 60, "all dead letters")
    assert {payload for payload, _ in dead_letters(fleet)} == set(large)
    assert list(dict.fromkeys(gate.payloads)) == numbers(20)


def test_one_that_ends_the_connection_waits_until_others_pass(fleet, gate):
    node = start(fleet, gate.scripted)
    publish(fleet, [bytes(30000)])
    wait_until(lambda: "sent alone" in error_of(node), 30, "the suspicion is told")
    assert not dead_letters(fleet)
    publish(fleet, [b"1"])
    wait_until(lambda: len(dead_letters(fleet)) == 1, 30, "the dead letter")
    assert gate.payloads == [b"1"]


def test_a_broker_that_ends_each_connection_rejects_nothing(fleet, scripted):
    node = start(fleet, scripted, timeout_ms=20000)
    publish(fleet, numbers(3))
    for _ in range(8):
        link = scripted.connection()
        link.expect(PUBLISH)
        link.close()
    assert not dead_letters(fleet) and metric(node, "mqfleet_dead_letters_written_total") == 0
    link = scripted.connection()
    got = {}
    while len(got) < 3:
        packet = link.expect(PUBLISH)
        got[packet.payload] = True
        link.acknowledge(PUBACK, packet.id)
    assert set(got) == set(numbers(3)) and not dead_letters(fleet)


def test_acl(fleet, tmp_path):
    """mosquitto answers MQTT 5 with 0x87, and takes messages of 3.1.1 without a word."""
    rules = tmp_path / "acl"
    rules.write_text("topic read #\ntopic write t/c00000/open\n")
    target = fleet.start_broker("target", options=[f"acl_file {rules}"])
    receiver = fleet.closing(Receiver(target))
    node = start(fleet, target)
    publish(fleet, [b"refused"], "t/c00000/shut")
    wait_until(lambda: "refuses topic t/c00000/shut: not authorized (0x87)" in error_of(node), 20,
               "the cause is told")
    publish(fleet, numbers(10), "t/c00000/open")
    wait_until(lambda: set(receiver.payloads()) == set(numbers(10)), 30, "others pass")
    assert receiver.payloads() == numbers(10)
    rules.write_text("topic readwrite #\n")
    target.signal(1)  # SIGHUP: read again
    wait_until(lambda: b"refused" in receiver.payloads(), 30, "the message, once it may")
    assert not dead_letters(fleet)


@pytest.mark.parametrize("code, rejected", [(0x99, True), (0x95, True), (0x90, True), (0x87, False),
                                            (0x97, False), (0x80, False), (0x83, False),
                                            (0x10, None)])
def test_reason_codes_of_acknowledgements(fleet, scripted, code, rejected):
    """The data table. None: accepted."""
    node = start(fleet, scripted, timeout_ms=20000)
    publish(fleet, [b"good", b"odd"])
    link = scripted.connection()
    for _ in range(2):
        packet = link.expect(PUBLISH)
        link.acknowledge(PUBACK, packet.id, code if packet.payload == b"odd" else 0)
    if rejected is False:
        assert link.expect(PUBLISH).payload == b"odd"
        assert f"0x{code:02x}" in error_of(node) and not dead_letters(fleet)
    else:
        letters = wait_until(lambda: dead_letters(fleet), 20, "a dead letter") if rejected else []
        assert [payload for payload, _ in letters] == ([b"odd"] if rejected else [])
        link.silent_for(1)
        assert metric(node, "mqfleet_sink_accepted_total") >= 1


def test_limits_of_connack_are_kept(fleet, scripted):
    """Receive maximum and maximum packet size."""
    node = start(fleet, scripted, timeout_ms=20000)
    large = bytes(2000)
    publish(fleet, [b"first"])
    link = scripted.connection(properties={"receive_maximum": 2, "maximum_packet_size": 1000})
    first = link.expect(PUBLISH)
    publish(fleet, [*numbers(4), large, *numbers(4, 4)])  # all in the next write
    wait_until(lambda: metric(node, 'mqfleet_messages_received_total{qos="1"}') == 10, 20, "all in the queue")
    link.acknowledge(PUBACK, first.id)
    held = [link.expect(PUBLISH), link.expect(PUBLISH)]
    link.silent_for(0.5)
    got = [packet.payload for packet in held]
    for packet in held:
        link.acknowledge(PUBACK, packet.id)
    while len(got) < 8:
        packet = link.expect(PUBLISH)
        got.append(packet.payload)
        link.acknowledge(PUBACK, packet.id)
    assert got == numbers(8)
    ((payload, reason),) = wait_until(lambda: dead_letters(fleet), 20, "the dead letter")
    assert payload == large and b"0x95" in reason


# ---- loops ---------------------------------------------------------------------------------------


def test_a_loop_ends_after_one_round(fleet):
    """The target is the source."""
    node = start(fleet, fleet.broker)
    receiver = fleet.closing(Receiver(fleet.broker))
    publish(fleet, numbers(100))
    wait_until(lambda: len(receiver.take()) >= 200, 30, "each message twice")
    wait_until(lambda: metric(node, "mqfleet_sink_loops_total") == 100, 20, "each loop is counted")
    holds_for(lambda: len(receiver.take()) == 200, 1)
    assert node.log().count("event=sink_loop") == 1 and not dead_letters(fleet)


def test_a_loop_over_two_brokers_and_two_nodes_ends(fleet, target):
    """c00000 forwards from the source to the target, back from the target to the source."""
    names = {**settings(target), "sinks__back__type": "mqtt", "sinks__back__url": fleet.broker.url}
    fleet.start_nodes(2, **names)
    fleet.api.create([fleet.persistent("c00000", sink="bridge"),
                      fleet.persistent("back", url=target.url, sink="back",
                                       subscriptions=[{"filter": "t/#", "qos": 1}])])
    fleet.wait_online(["c00000", "back"])
    receiver = fleet.closing(Receiver(fleet.broker))
    publish(fleet, numbers(50))
    wait_until(lambda: len(receiver.take()) >= 100, 30, "each message and its echo")
    holds_for(lambda: len(receiver.take()) == 100, 1)


def test_in_mqtt_3_1_1_no_message_returns_to_its_own_topic(fleet):
    start(fleet, fleet.broker, protocol_version=4, topic="{json./to|t/c00000/n}")
    receiver = fleet.closing(Receiver(fleet.broker))
    publish(fleet, [b"1", b'{"to": "other"}'])
    wait_until(lambda: len(dead_letters(fleet)) == 1, 20, "the dead letter")
    assert dead_letters(fleet)[0][1].startswith(b"loop")
    wait_until(lambda: len(receiver.take()) == 3, 20, "both messages, and one forwarded")
    holds_for(lambda: len(receiver.take()) == 3, 0.5)


def test_a_template_may_name_the_broker(fleet, target, receiver):
    start(fleet, target, topic="from/{broker}")
    publish(fleet, [b"1"])
    wait_until(lambda: [message.topic for message in receiver.take()] ==
               [f"from/127.0.0.1:{fleet.broker.port}"], 20, "the message at the target")


def test_settings_are_tested_without_a_message(fleet):
    target = fleet.start_broker("target", users={"plant": "word"})
    node = fleet.start_node()

    def steps(**more):
        answer = node.api.post("/api/v1/sinks:test", {"type": "mqtt", "url": target.url, **more})
        assert answer.status_code == 200, answer.text
        return {step["step"]: step for step in answer.json()["steps"]}

    good = steps(username="plant", password="word")["connect"]
    assert good["ok"] and "mqfleet-" in good["detail"]
    bad = steps(username="plant", password="hunter2")["connect"]
    assert not bad["ok"] and bad["advice"] and "hunter2" not in str(bad)
    assert not steps(topic="{nothing}")["open"]["ok"]


def test_a_ping_keeps_an_idle_connection(fleet, scripted):
    node = start(fleet, scripted, keepalive_s=2, timeout_ms=20000)
    publish(fleet, [b"1"])
    link = scripted.connection()
    link.acknowledge(PUBACK, link.expect(PUBLISH).id)
    link.silent_for(4)
    assert len(link.pings) >= 1 and link.connect.keepalive == 2
    link.send(packets.disconnect(0x8B))
    publish(fleet, [b"2"])
    link = scripted.connection()
    link.acknowledge(PUBACK, link.expect(PUBLISH).id)
    assert node.alive()
