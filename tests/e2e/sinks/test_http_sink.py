"""The sink type http: what servers receive, refuse, and what happens when they fail."""

import collections
import json
import os
import re
import sys
import threading
import time

import pytest

from fleet.certificates import Authority
from fleet.names import start_naming_node
from fleet.node import ROOT
from fleet.ports import free_port
from fleet.process import Process
from fleet.stream import Stream
from fleet.wait import holds_for, wait_until
from fleet.web import Web

COUNT = 1000


def settings(url, **fields):
    return {f"sinks__web__{name}": value
            for name, value in {"type": "http", "url": url, **fields}.items()}


def online(fleet, url, clients=1, **fields):
    """A node with the sink, and clients that keep their sessions."""
    node = fleet.start_node(**settings(url, **fields))
    ids = fleet.online(clients, make=fleet.persistent, sink="web")
    return node, ids


def publish(fleet, ids, payloads):
    fleet.broker.publish_all([(f"t/{ids[number % len(ids)]}/x", payload)
                              for number, payload in enumerate(payloads)])


def numbers(count=COUNT):
    return [str(number).encode() for number in range(count)]


def sink_line(node):
    return node.api.get("/readyz?verbose").text


class Collector:
    """Counts the payloads of the bodies that it accepts; refuses bodies with `poison`."""

    def __init__(self, array=False):
        self.array = array
        self.counts = collections.Counter()
        self.order = collections.defaultdict(list)
        self.lock = threading.Lock()

    def __call__(self, request, body):
        if b"poison" in body:
            return 400, "line 3: poison\nis not a number"
        rows = [json.loads(line) for line in body.splitlines()] if self.array else [json.loads(body)]
        with self.lock:
            for row in rows:
                self.counts[row["payload"]] += 1
                self.order[row["id"]].append(int(row["payload"]))
        return 200, ""

    def wait(self, wanted, bound_s=60):
        wanted = {payload.decode() for payload in wanted}
        wait_until(lambda: wanted <= self.counts.keys(), bound_s, "all messages")
        assert self.counts.keys() == wanted


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_one_poisoned_message_among_1000_becomes_a_dead_letter(fleet, form):
    collector = Collector(form == "ndjson")
    web = fleet.closing(Web(collector))
    node, ids = online(fleet, web.url, 7, format=form)
    payloads = numbers()
    publish(fleet, ids, payloads[:100])
    collector.wait(payloads[:100])
    payloads[500] = b"poison"
    publish(fleet, ids, payloads[100:])
    collector.wait([payload for payload in payloads if payload != b"poison"])
    dead = Stream(fleet.redis.bytes_client, "mqtt_dead")
    wait_until(lambda: dead.payloads() == [b"poison"], 20, "the dead letter")
    assert b"line 3: poison is not a number" in dead.rows()[0][b"dead_letter_reason"]
    assert set(collector.counts.values()) == {1}
    assert all(order == sorted(order) for order in collector.order.values())
    wait_until(lambda: "[+]sink.web ok" in sink_line(node), 20, "the sink works")


def test_a_slow_server_is_no_failure_and_delays_no_other_sink(fleet):
    collector = Collector()

    def slowly(request, body):
        time.sleep(0.05)
        return collector(request, body)

    web = fleet.closing(Web(slowly))
    node, ids = online(fleet, web.url, 3)
    [other] = fleet.online(1, "other")
    publish(fleet, ids, numbers(200))
    fleet.broker.publish(f"t/{other}/x", b"quick")
    fleet.stream.wait_payloads([b"quick"], 10)
    while len(collector.counts) < 200:
        assert "[+]sink.web ok" in sink_line(node)
        time.sleep(0.1)
    collector.wait(numbers(200))
    assert 'mqfleet_sink_retried_total{sink="web"} 0' in node.api.get("/metrics").text


def test_a_server_that_stalls_holds_neither_the_stop_nor_a_message(fleet):
    collector = Collector()
    gate = threading.Event()

    def stall(request, body):
        gate.wait()
        return collector(request, body)

    web = fleet.closing(Web(stall))
    fleet.at_end(gate.set)
    node, ids = online(fleet, web.url, timeout_ms=60000)
    publish(fleet, ids, numbers(50))
    wait_until(lambda: web.requests > 0, 20, "a request")
    began = time.monotonic()
    assert node.terminate() == 0
    assert time.monotonic() - began < 30, "the stop waited for the server"
    web.answer = collector
    node.start()
    collector.wait(numbers(50))


def test_a_server_that_is_killed_costs_no_message(fleet):
    port, path = free_port(), fleet.folder / "bodies"
    server = Process("web", fleet.folder)
    argv = [sys.executable, "-m", "fleet.web", port, path]
    modules = {**os.environ, "PYTHONPATH": str(ROOT / "tests/e2e")}
    fleet.others.append(server)
    server.spawn(argv, modules)
    node, ids = online(fleet, f"http://127.0.0.1:{port}/", 5, format="ndjson", timeout_ms=2000)
    wanted = {payload.decode() for payload in numbers(3000)}
    feeding = threading.Thread(target=publish, args=(fleet, ids, numbers(3000)))
    feeding.start()

    def payloads():
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [json.loads(line)["payload"] for line in lines if line.endswith(b"}")]

    for stop in (300, 1000):
        wait_until(lambda: len(set(payloads())) > stop, 30, "some messages")
        server.kill()
        server.spawn(argv, modules)
    feeding.join()
    wait_until(lambda: wanted <= set(payloads()), 60, "all messages")
    assert len(payloads()) < 3000 + 2 * 5 * 500, "whole batches came again"


# ---- TLS and credentials ---------------------------------------------------------------------------


def test_tls_with_certificates_of_both_sides(fleet, tmp_path):
    authority = Authority(tmp_path / "ca")
    collector = Collector()
    web = fleet.closing(Web(collector, authority))
    _, ids = online(fleet, web.url, tls_ca=authority.ca, tls_cert=authority.client_certificate,
                    tls_key=authority.client_key)
    publish(fleet, ids, numbers(20))
    collector.wait(numbers(20))


def test_pem_texts_instead_of_paths(fleet, tmp_path):
    authority = Authority(tmp_path / "ca")
    collector = Collector()
    web = fleet.closing(Web(collector, authority))
    _, ids = online(fleet, web.url, tls_ca=authority.ca.read_text(),
                    tls_cert=authority.client_certificate.read_text(),
                    tls_key=authority.client_key.read_text())
    publish(fleet, ids, numbers(20))
    collector.wait(numbers(20))


def test_a_server_of_another_authority_gets_nothing(fleet, tmp_path):
    mine, other = Authority(tmp_path / "mine"), Authority(tmp_path / "other")
    collector = Collector()
    web = fleet.closing(Web(collector, other))
    node, ids = online(fleet, web.url, tls_ca=mine.ca)
    publish(fleet, ids, numbers(1))
    wait_until(lambda: "certificate" in sink_line(node), 20, "the reason")
    assert not collector.counts


def test_wrong_credentials_hold_the_messages_and_say_so(fleet):
    collector = Collector()

    def guarded(request, body):
        if request.headers["Authorization"] != "Bearer right":
            return 401, "who are you?"
        return collector(request, body)

    web = fleet.closing(Web(guarded))
    node, ids = online(fleet, web.url, bearer_token="wrong")
    publish(fleet, ids, numbers(50))
    wait_until(lambda: "status 401: check bearer_token" in sink_line(node), 20, "advice")
    holds_for(lambda: not collector.counts, 1, "nothing is accepted")
    assert node.terminate() == 0
    node.settings["sinks.web.bearer_token"] = "right"
    node.start()
    collector.wait(numbers(50))
    assert "Bearer" not in node.log() and "wrong" not in node.log()


def test_the_receiver_of_the_documentation_verifies_the_signature(fleet):
    page = (ROOT / "docs/sinks.md").read_text()
    [program] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    port = free_port()
    script = fleet.folder / "receiver.py"
    script.write_text(program.replace("9000", str(port)))
    receiver = Process("receiver", fleet.folder)
    fleet.others.append(receiver)
    receiver.spawn([sys.executable, script])
    node, ids = online(fleet, f"http://127.0.0.1:{port}/", hmac_secret="s3cret")
    publish(fleet, ids, [b'{"gr\xc3\xbc\xc3\x9f": 1}'])
    wait_until(lambda: "gr\xfc\xdf" in receiver.log(), 20, "the message")
    assert node.terminate() == 0
    node.settings["sinks.web.hmac_secret"] = "another"
    node.start()
    publish(fleet, ids, [b"forged"])
    wait_until(lambda: "status 401" in sink_line(node), 20, "the refusal")
    assert "forged" not in receiver.log()


# ---- sinks of the fleet ----------------------------------------------------------------------------


def test_a_sink_of_the_fleet_is_changed_while_messages_come(fleet):
    collectors = [Collector(), Collector()]
    webs = [fleet.closing(Web(collector)) for collector in collectors]
    node = fleet.start_node()
    created = node.api.put("/api/v1/sinks/web", {"type": "http", "url": webs[0].url})
    assert created.status_code == 201, created.text
    [client] = fleet.online(1, sink="web")
    publish(fleet, [client], numbers(20))
    collectors[0].wait(numbers(20))
    body = '{{"id": {id:json}, "payload": {payload:json}, "more": {json./x:json|null}}}'
    changed = node.api.put("/api/v1/sinks/web", {"type": "http", "url": webs[1].url, "body": body},
                           headers={"If-Match": created.headers["ETag"]})
    assert changed.status_code == 200, changed.text
    wait_until(lambda: node.api.get("/api/v1/sinks/web").json()["nodes"][0]["version"] ==
               changed.json()["version"], 20, "the change is applied")
    publish(fleet, [client], numbers(50))
    collectors[1].wait(numbers(50))


def test_a_name_that_resolves_to_a_denied_address_is_not_connected_to(fleet):
    collector = Collector()
    web = fleet.closing(Web(collector))
    url = f"http://target.example:{web.server.server_port}/"
    node = start_naming_node(fleet, {"target.example": ["10.1.2.3"]}, broker_deny="10.0.0.0/8",
                             **settings(url.replace("target", "mine")))
    created = node.api.put("/api/v1/sinks/fleet", {"type": "http", "url": url})
    assert created.status_code == 201, created.text
    [client] = fleet.online(1, make=fleet.persistent, sink="fleet")
    publish(fleet, [client], numbers(1))
    wait_until(lambda: "broker_deny" in sink_line(node), 20, "the reason")
    node.give({"target.example": ["10.1.2.3", "127.0.0.1"]})
    collector.wait(numbers(1))


def test_a_test_of_a_sink_asks_the_server_and_writes_nothing(fleet):
    web = fleet.closing(Web(lambda request, body: (500, "not asked for")))
    node = fleet.start_node()

    def steps(**fields):
        answer = node.api.post("/api/v1/sinks:test", {"type": "http", **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()["ok"], {one["step"]: one["ok"] for one in answer.json()["steps"]}

    assert steps(url=web.url) == (True, {"settings": True, "connect": True, "authenticate": True})
    assert steps(url=f"http://127.0.0.1:{free_port()}/")[1]["connect"] is False
    assert steps(url=web.url, body='"{payload}"') == (False, {"settings": True, "open": False})
    assert web.requests == 0


# ---- databases -------------------------------------------------------------------------------------


class Elasticsearch:
    """The bulk API as its documentation describes it: an item for each action, in their order."""

    def __init__(self):
        self.documents = {}
        self.busy = set()  # identifiers that were refused once with 429
        self.lock = threading.Lock()

    def item(self, action, document):
        key = (action["_index"], action["_id"])
        payload = document["payload"]
        if key in self.documents:
            return 409, {"type": "version_conflict_engine_exception", "reason": "document exists"}
        if payload == "poison":
            return 400, {"type": "document_parsing_exception",
                         "reason": "[1:9] failed to parse field [payload] of type [long]"}
        if payload.endswith("7") and key not in self.busy:
            self.busy.add(key)
            return 429, {"type": "es_rejected_execution_exception", "reason": "queue capacity"}
        self.documents[key] = document
        return 201, None

    def __call__(self, request, body):
        if request.headers["Content-Type"] != "application/x-ndjson" or not body.endswith(b"\n"):
            return 400, '{"error":{"type":"illegal_argument_exception"},"status":400}'
        lines = body.decode().split("\n")[:-1]
        items = []
        with self.lock:
            for action, document in zip(lines[::2], lines[1::2], strict=True):
                action = json.loads(action)["create"]
                status, error = self.item(action, json.loads(document))
                items.append({"create": {"_index": action["_index"], "_id": action["_id"],
                                         "status": status, **({"error": error} if error else {})}})
        failed = any(item["create"]["status"] > 299 for item in items)
        return 200, json.dumps({"took": 1, "errors": failed, "items": items})


def test_elasticsearch_items_are_accepted_retried_and_rejected_one_by_one(fleet):
    elastic = Elasticsearch()
    web = fleet.closing(Web(elastic))
    _, ids = online(fleet, web.url + "_bulk", 5, format="elasticsearch",
                    elasticsearch_index="mqtt")
    payloads = numbers()
    payloads[300] = b"poison"
    publish(fleet, ids, payloads)
    wanted = {payload.decode() for payload in payloads} - {"poison"}
    wait_until(lambda: {one["payload"] for one in list(elastic.documents.values())} == wanted, 60,
               "all documents but one")
    dead = Stream(fleet.redis.bytes_client, "mqtt_dead")
    wait_until(lambda: dead.payloads() == [b"poison"], 20, "the dead letter")
    assert b"document_parsing_exception" in dead.rows()[0][b"dead_letter_reason"]
    assert len(elastic.documents) == COUNT - 1
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["@timestamp"])
               for one in elastic.documents.values())


def test_elasticsearch_stores_once_what_it_answered_in_vain(fleet):
    elastic = Elasticsearch()
    lost = []

    def answers_once_in_vain(request, body):
        answer = elastic(request, body)
        if not lost:
            lost.append(body)
            request.connection.close()
            raise ConnectionResetError
        return answer

    web = fleet.closing(Web(answers_once_in_vain))
    _, ids = online(fleet, web.url + "_bulk", format="elasticsearch", elasticsearch_index="mqtt")
    publish(fleet, ids, [b"100", b"101"])
    wait_until(lambda: len(elastic.documents) == 2 and web.requests > 1, 20, "both documents")


def fields_of(text):
    """An independent reading of a line's fields and of what follows them."""
    found, at = {}, 0
    while True:
        name = re.compile(r"((?:\\.|[^\\=,\s])+)=").match(text, at)
        at = name.end()
        value = re.compile(r'"((?:\\.|[^\\"])*)"|[^ ,]+', re.DOTALL).match(text, at)
        at = value.end()
        plain = re.sub(r"\\(.)", r"\1", name[1])
        found[plain] = (float(value[0]) if value[1] is None
                        else re.sub(r"\\([\\\"])", r"\1", value[1]))
        if text[at] == " ":
            return found, text[at + 1:]
        at += 1


POINT = re.compile(r"mqtt,id=((?:\\.|[^\\ ,])+),topic=((?:\\.|[^\\ ,])+) ")


class Influx:
    """Reads line protocol, line ends in texts included."""

    def __init__(self):
        self.points = {}
        self.lock = threading.Lock()

    def __call__(self, request, body):
        text = body.decode()
        with self.lock:
            while text:
                head = POINT.match(text)
                fields, rest = fields_of(text[head.end():])
                stamp, _, text = rest.partition("\n")
                tags = tuple(re.sub(r"\\([ ,=])", r"\1", tag) for tag in head.groups())
                self.points[(*tags, int(stamp))] = fields
        return 204, ""


def test_influx_gets_each_message_as_a_point_of_its_own(fleet):
    influx = Influx()
    web = fleet.closing(Web(influx))
    _, [client] = online(fleet, web.url + "api/v2/write?org=o&bucket=b", format="influx")
    strange = [b"text with, = \\ and \"quotes\"\nand a second line", b"", b"\xff\x00",
               b'{"temp": 20.5, "two words": 1, "say": "a \\"b\\"\\n"}']
    messages = [(f"t/{client}/a b,c=d", payload) for payload in strange]
    messages += [(f"t/{client}/x", payload) for payload in numbers(300)]
    fleet.broker.publish_all(messages)
    wait_until(lambda: len(influx.points) == 304, 30, "all points")
    odd = [fields for (_, topic, _), fields in influx.points.items()
           if topic == f"t/{client}/a b,c=d"]
    assert odd == [{"payload": strange[0].decode()}, {"payload": ""}, {"payload_base64": "/wA="},
                   {"temp": 20.5, "two words": 1.0, "say": 'a "b"\n'}]
    values = [fields["value"] for (_, topic, _), fields in influx.points.items()
              if topic == f"t/{client}/x"]
    assert values == [float(number) for number in range(300)]


class ClickHouse:
    """An insert of JSONEachRow: all rows or none."""

    def __init__(self):
        self.rows = []
        self.lock = threading.Lock()

    def __call__(self, request, body):
        if "INSERT%20INTO%20iot.mqtt%20FORMAT%20JSONEachRow" not in request.path:
            return 404, "Code: 60. DB::Exception: Table does not exist. (UNKNOWN_TABLE)"
        rows = [json.loads(line) for line in body.decode().splitlines()]
        for number, row in enumerate(rows):
            if not row["payload"].isdigit():
                return 400, ("Code: 27. DB::Exception: Cannot parse input: expected '\"' before: "
                             f"'{row['payload']}': (at row {number + 1})")
        with self.lock:
            self.rows += rows
        return 200, ""


def test_clickhouse_gets_all_rows_but_the_one_it_cannot_parse(fleet):
    house = ClickHouse()
    web = fleet.closing(Web(house))
    _, ids = online(fleet, web.url, 3, format="clickhouse", clickhouse_table="iot.mqtt")
    payloads = numbers(500)
    payloads[250] = b"poison"
    publish(fleet, ids, payloads)
    wait_until(lambda: len(house.rows) == 499, 60, "all rows but one")
    dead = Stream(fleet.redis.bytes_client, "mqtt_dead")
    wait_until(lambda: dead.payloads() == [b"poison"], 20, "the dead letter")
    assert len({row["message_id"] for row in house.rows}) == 499
