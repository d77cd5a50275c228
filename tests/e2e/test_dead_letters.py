"""Messages that a sink rejects: they become dead letters and are acknowledged, and the others arrive.
The target is a Redis that takes no values above 1 MiB."""

import base64
import http.server
import threading
import time

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet.redis_server import RedisServer
from fleet.stream import Stream
from fleet.wait import wait_until

DEAD = "mqtt_dead"
LARGE = bytes(range(256)) * 4688  # 1.2 MB
REASON = b"ERR Protocol error: invalid bulk length (payload of 1200128 bytes)"


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


# ---- the API -------------------------------------------------------------------------------------


def poison(fleet, target, count=3, **settings):
    """The node, and its client with `count` dead letters and one message that arrived."""
    node = start(fleet, target, **settings)
    [client] = fleet.online(1, make=fleet.persistent)
    fleet.broker.publish_all([(f"t/{client}/{number}", LARGE + b"%d" % number)
                              for number in range(count)] + [(f"t/{client}/x", b"small")])
    wait_until(lambda: len(dead_letters(fleet)) == count, 30, "the dead letters")
    return node, client


def ask(node, verb="", method="POST", **query):
    answer = node.api.call(method, f"/api/v1/dead-letters{verb}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(node, **query):
    return ask(node, method="GET", **query)


def test_dead_letters_are_listed_by_selector_and_in_pages(fleet, target):
    node, client = poison(fleet, target)
    page = listed(node, limit=2)
    first = page["dead_letters"][0]
    assert (first["sink"], first["client"], first["topic"]) == ("default", client, f"t/{client}/0")
    assert first["reason"].startswith("ERR Protocol error") and first["size"] == len(LARGE) + 1
    assert base64.b64decode(first["payload_base64"]) == LARGE + b"0"
    assert page["total"] == 3 and len(page["dead_letters"]) == 2
    rest = listed(node, limit=2, cursor=page["next_cursor"])
    assert [one["topic"] for one in rest["dead_letters"]] == [f"t/{client}/2"]
    assert rest["next_cursor"] is None
    for query, count in (({"topic": f"t/{client}/1"}, 1), ({"topic": "t/+/2"}, 1), ({"topic": "t/#"}, 3),
                         ({"topic": "t/+"}, 0), ({"client": client}, 3), ({"client": "nobody"}, 0),
                         ({"sink": "default"}, 3), ({"sink": "file"}, 0), ({"entry": first["entry"]}, 1),
                         ({"since": "2020-01-01T00:00:00Z"}, 3), ({"until": "2020-01-01T00:00:00Z"}, 0),
                         ({"since": int(time.time() * 1000) + 60000}, 0)):
        assert len(listed(node, **query)["dead_letters"]) == count, query


def test_a_replay_sends_the_original_and_deletes_the_entry_once_it_is_stored(fleet, target):
    node = start(fleet, target)
    [client] = fleet.online(1, make=fleet.persistent)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "image/jpeg"
    properties.CorrelationData = b"\x00\xff"
    properties.UserProperty = [("a", "1"), ("a", "\u00e9")]
    fleet.broker.publish_all([(f"t/{client}/first", b""), (f"t/{client}/x", LARGE)], properties=properties)
    wait_until(lambda: len(dead_letters(fleet)) == 1, 20, "the dead letter")
    [dead] = dead_letters(fleet)
    target.client.config_set("proto-max-bulk-len", 536870912)
    done = ask(node, ":replay", sink="default", dry_run="true")
    assert (done["matched"], done["replayed"], done["total"]) == (1, 0, 1)
    done = ask(node, ":replay", sink="default")
    assert (done["matched"], done["replayed"], done["failed"], done["total"]) == (1, 1, 0, 0)
    assert done["next_cursor"] is None and not done["stalled"]
    assert not dead_letters(fleet)
    [_, row] = Stream(target.bytes_client).rows()
    assert row == {name: value for name, value in dead.items()
                   if not name.startswith(b"dead_letter_") and name not in (b"broker", b"labels")}
    assert metric(node, "mqfleet_dead_letters_replayed_total") == 1


def test_a_message_that_is_rejected_again_is_a_new_dead_letter(fleet, target):
    node, _ = poison(fleet, target)
    before = {one["entry"] for one in listed(node)["dead_letters"]}
    done = ask(node, ":replay", all="true")
    assert (done["replayed"], done["total"] , done["next_cursor"]) == (3, 0, None)
    after = listed(node)["dead_letters"]
    assert len(after) == 3 and not before & {one["entry"] for one in after}


def test_a_replay_into_a_sink_that_fails_keeps_the_entries_and_ends_later(fleet, target):
    node, _ = poison(fleet, target)
    target.client.config_set("proto-max-bulk-len", 536870912)
    target.client.rename("mqtt_msg", "kept")
    target.client.set("mqtt_msg", "in the way")
    done = ask(node, ":replay", all="true")
    assert done["stalled"] and done["replayed"] == 0
    assert len(dead_letters(fleet)) == 3
    assert node.api.post("/api/v1/dead-letters:replay?all=true").status_code == 409
    target.client.rename("kept", "mqtt_msg")
    stream = Stream(target.bytes_client)
    wait_until(lambda: len(stream.rows()) == 4, 30, "the messages of the first replay")
    wait_until(lambda: node.api.post("/api/v1/dead-letters:replay?all=true").status_code == 200, 20)
    assert not dead_letters(fleet)
    assert len(stream.rows()) == 4, "once each"


def test_what_this_node_cannot_replay_stays(fleet, target):
    node, _ = poison(fleet, target, count=1)
    fleet.redis.client.xadd(DEAD, {"id": "c", "topic": "t", "payload": "x", "qos": "1", "client_id": "c",
                                   "dead_letter_sink": "elsewhere"})
    fleet.redis.client.xadd(DEAD, {"odd": "entry"})
    target.client.config_set("proto-max-bulk-len", 536870912)
    done = ask(node, ":replay", all="true")
    assert (done["replayed"], done["failed"]) == (1, 2)
    assert [one["detail"] for one in done["failures"]] == ["this node has no such sink",
                                                            "the entry is not a dead letter"]
    assert len(dead_letters(fleet)) == 2


def test_dead_letters_are_dropped_by_selector(fleet, target):
    node, client = poison(fleet, target)
    assert ask(node, ":drop", topic=f"t/{client}/1", dry_run="true") == {
        "matched": 1, "dropped": 0, "total": 3, "next_cursor": None}
    assert ask(node, ":drop", topic=f"t/{client}/1")["dropped"] == 1
    assert [one["topic"] for one in listed(node)["dead_letters"]] == [f"t/{client}/0", f"t/{client}/2"]
    for verb in (":drop", ":replay"):
        refused = node.api.post(f"/api/v1/dead-letters{verb}")
        assert refused.status_code == 422 and "all=true" in refused.json()["detail"]
        assert node.api.post(f"/api/v1/dead-letters{verb}?topic=a%23").status_code == 400
    assert ask(node, ":drop", all="true")["total"] == 0
    assert metric(node, "mqfleet_dead_letters_dropped_total") == 3


class Hook(http.server.ThreadingHTTPServer):
    """Rejects bodies with the word `odd`, unless it is lenient."""

    def __init__(self):
        hook = self
        self.lenient, self.bodies = False, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                good = hook.lenient or b"odd" not in body
                hook.bodies += [body] if good else []
                self.send_response(204 if good else 422)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


def test_a_replay_goes_to_the_sink_that_rejected_the_message(fleet):
    hook = fleet.closing(Hook())
    node = fleet.start_node(**{"sinks.hook.type": "http", "sinks.hook.format": "json",
                               "sinks.hook.url": f"http://127.0.0.1:{hook.server_port}/"})
    [client] = fleet.online(1, make=fleet.persistent, sink="hook")
    fleet.broker.publish_all([(f"t/{client}/x", b"odd" if number == 30 else b"%d" % number)
                              for number in range(60)])
    wait_until(lambda: len(hook.bodies) == 59 and len(dead_letters(fleet)) == 1, 30, "all messages")
    [letter] = listed(node, sink="hook")["dead_letters"]
    assert "422" in letter["reason"] and letter["payload"] == "odd"
    hook.lenient = True
    assert ask(node, ":replay", sink="hook")["replayed"] == 1
    assert b"odd" in hook.bodies[-1] and len(hook.bodies) == 60
    assert not dead_letters(fleet)


def test_the_settings_replace_the_sink_of_dead_letters(fleet, target):
    start(fleet, target, **{"sinks.dead_letter.type": "redis_stream", "sinks.dead_letter.key": DEAD,
                            "sinks.dead_letter.trim": "bytes", "sinks.dead_letter.bytes_max": 5000000,
                            "sinks.dead_letter.dead_letter": ""})
    [client] = fleet.online(1, make=fleet.persistent)
    for number in range(6):
        fleet.broker.publish_all([(f"t/{client}/{number}", LARGE), (f"t/{client}/x", b"%d" % number)])
    Stream(target.bytes_client).wait_payloads([b"5"])
    wait_until(lambda: dead_letters(fleet)
               and dead_letters(fleet)[-1][b"topic"] == f"t/{client}/5".encode(), 20, "the last one")
    wait_until(lambda: len(dead_letters(fleet)) <= 4, 20, "about 5 MB")
