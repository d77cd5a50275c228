"""Messages that a sink rejects: they become dead letters and are acknowledged, and the others arrive.
The target is a Redis that takes no values above 1 MiB."""

import pytest

from fleet.redis_server import RedisServer
from fleet.stream import Stream
from fleet.wait import wait_until

DEAD = "mqtt_dead"
LARGE = bytes(range(256)) * 8192  # 2 MiB
REASON = b"ERR Protocol error: invalid bulk length (payload of 2097152 bytes)"


@pytest.fixture
def target(fleet, tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    server = RedisServer(folder).start()
    fleet.others.append(server)
    server.client.config_set("proto-max-bulk-len", 1048576)
    return server


def start(fleet, target, **settings):
    return fleet.start_node(**{"sink.url": target.url, **settings})


def metric(node, name):
    lines = node.api.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((name + " ", name + "{")))


def dead_letters(fleet):
    return [fields for _, fields in fleet.redis.bytes_client.xrange(DEAD)]


def publish_numbers(fleet, client, count, poisoned):
    payloads = [LARGE if number in poisoned else b"%d" % number for number in range(count)]
    fleet.broker.publish_all([(f"t/{client}/{number % 7}", payload)
                              for number, payload in enumerate(payloads)])
    return [payload for payload in payloads if payload is not LARGE]


def test_one_poisoned_message_among_a_thousand(fleet, target):
    node = start(fleet, target)
    [client] = fleet.online(1, make=fleet.persistent)
    others = publish_numbers(fleet, client, 1000, {500})
    stream = Stream(target.bytes_client)
    stream.wait_payloads(others)
    assert stream.payloads() == others, "in order, each once"
    wait_until(lambda: len(dead_letters(fleet)) == 1, 20, "the dead letter")
    [letter] = dead_letters(fleet)
    assert letter[b"payload"] == LARGE and letter[b"id"].decode() == client
    assert letter[b"topic"] == f"t/{client}/{500 % 7}".encode()
    assert letter[b"dead_letter_sink"] == b"default"
    assert letter[b"dead_letter_reason"] == REASON
    assert int(letter[b"dead_letter_at_ms"]) >= int(letter[b"received_at_ms"])
    wait_until(lambda: metric(node, "mqfleet_dead_letters_written_total") == 1, 5)
    assert metric(node, 'mqfleet_sink_rejected_total{sink="redis_stream",reason="content"}') == 1
    assert node.api.get("/readyz").status_code == 200
    log = node.log()
    assert log.count("event=dead_letter ") == 1 and "sink_failing" not in log


def test_a_dead_letter_that_is_not_stored_is_not_acknowledged(fleet, target):
    """The node is killed meanwhile; the broker has the message still. Other clients go on."""
    fleet.redis.client.set(DEAD, "in the way")
    node = start(fleet, target)
    [client, neighbour] = fleet.online(2, make=fleet.persistent)
    others = publish_numbers(fleet, client, 40, {20})
    stream = Stream(target.bytes_client)
    stream.wait_payloads(others)
    wait_until(lambda: "sink.dead_letter" in node.api.get("/readyz").json()["checks"]
               and "WRONGTYPE" in node.api.get("/readyz").json()["checks"]["sink.dead_letter"], 20)
    publish_numbers(fleet, neighbour, 1000, {})
    wait_until(lambda: len(stream.of(neighbour)) == 1000, 20, "the messages of another client")
    node.kill()
    fleet.redis.client.delete(DEAD)
    start(fleet, target)
    wait_until(lambda: len(dead_letters(fleet)) == 1, 40, "the dead letter")
    assert dead_letters(fleet)[0][b"payload"] == LARGE


def test_the_redis_of_the_dead_letters_is_away(fleet, target):
    node = start(fleet, target)
    [client] = fleet.online(1, make=fleet.persistent)
    fleet.broker.publish(f"t/{client}/x", b"first")
    Stream(target.bytes_client).wait_payloads([b"first"])
    fleet.redis.pause()
    publish_numbers(fleet, client, 20, {10})
    wait_until(lambda: len(Stream(target.bytes_client).payloads()) == 20, 20, "the others")
    assert metric(node, "mqfleet_dead_letters_written_total") == 0
    fleet.redis.resume()
    wait_until(lambda: len(dead_letters(fleet)) >= 1, 40, "the dead letter")
    assert {letter[b"payload"] for letter in dead_letters(fleet)} == {LARGE}


def test_an_error_of_the_stream_rejects_nothing(fleet, target):
    target.client.set("mqtt_msg", "in the way")
    node = start(fleet, target)
    [client] = fleet.online(1, make=fleet.persistent)
    fleet.broker.publish(f"t/{client}/x", b"kept")
    wait_until(lambda: "WRONGTYPE" in node.api.get("/readyz").json()["checks"]["sink.redis_stream"], 20)
    target.client.delete("mqtt_msg")
    Stream(target.bytes_client).wait_payloads([b"kept"])
    assert not dead_letters(fleet)


def test_a_message_that_is_not_accepted_in_time_becomes_a_dead_letter(fleet, target):
    target.client.set("mqtt_msg", "in the way")
    node = start(fleet, target, **{"sink.retry_ms": 500})
    [client] = fleet.online(1, make=fleet.persistent)
    fleet.broker.publish(f"t/{client}/x", b"late")
    wait_until(lambda: len(dead_letters(fleet)) == 1, 20, "the dead letter")
    reason = dead_letters(fleet)[0][b"dead_letter_reason"]
    assert reason.startswith(b"not accepted within 500 ms: WRONGTYPE"), reason
    wait_until(lambda: metric(node, 'mqfleet_sink_rejected_total{sink="redis_stream",reason="expired"}')
               == 1, 5)


def test_without_a_dead_letter_sink_a_rejected_message_is_tried_again(fleet, target):
    node = start(fleet, target, **{"sink.dead_letter": ""})
    [client] = fleet.online(1, make=fleet.persistent)
    others = publish_numbers(fleet, client, 20, {10})
    Stream(target.bytes_client).wait_payloads(others)
    wait_until(lambda: metric(node, "mqfleet_sink_retried_total") > 2, 20)
    target.client.config_set("proto-max-bulk-len", 536870912)
    Stream(target.bytes_client).wait_payloads([LARGE])
    assert not dead_letters(fleet)


def test_a_dead_letter_sink_that_the_node_does_not_have_is_a_wrong_setting(fleet):
    node = fleet.new_node(**{"sink.dead_letter": "nowhere"})
    assert node.start_and_end() != 0
    assert "sink default: dead_letter: the node has no sink nowhere" in node.log()
