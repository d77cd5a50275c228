"""100,000 numbered messages of ten clients into each type of sink, while the target and the node are killed,
and one message among them that the target refuses. The outcome of each type is printed, and appended to
$MQFLEET_TEST_OUTCOME: how many are missing, doubled, out of order. None may be missing."""

import collections
import json
import os
import sys
import threading

import pytest

from fleet.kafka import Kafka
from fleet.nats_stream import NatsStream
from fleet.node import ROOT
from fleet.other_brokers import NATS
from fleet.ports import free_port
from fleet.postgres import PASSWORD, Postgres, PostgresServer
from fleet.process import Process
from fleet.redis_server import RedisServer
from fleet.stream import Stream
from fleet.wait import wait_until
from sinks.test_mqtt_sink import Receiver
from sinks.test_rabbitmq_sink import Amqp

COUNT = int(os.environ.get("MQFLEET_TEST_SINK_MESSAGES", "100000"))
CLIENTS = 10
CHUNK = 2000
BOUND_S = max(60, COUNT // 100)


def payload(number):
    return b'{"n": %d}' % number


class Target:
    """What a type of sink needs: a target that can be killed, and what it has, in order, as
    (client, payload). poison: a payload that it refuses for its content; None: it refuses none."""

    poison = None

    def __init__(self, fleet, request):
        self.fleet = fleet
        self.prepare(request)


class OfRedisStream(Target):
    def prepare(self, _request):
        folder = self.fleet.folder / "target"
        folder.mkdir()
        self.server = RedisServer(folder, append_only=True).start()
        self.fleet.others.append(self.server)
        self.fields = {"type": "redis_stream", "url": self.server.url, "key": "messages", "maxlen": 0}

    def rows(self):
        rows = Stream(self.server.bytes_client, "messages").rows()
        return [(row[b"id"].decode(), row[b"payload"]) for row in rows]


class OfFile(Target):
    """The node's own disk: only the node is killed."""

    def prepare(self, _request):
        self.server = None
        self.path = self.fleet.folder / "messages.ndjson"
        self.fields = {"type": "file", "path": str(self.path)}
        self.settings = {"sink__files_allow": self.fleet.folder}

    def rows(self):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        rows = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [(row["id"], row["payload"].encode()) for row in rows]


class OfHttp(Target):
    def prepare(self, _request):
        self.port, self.path = free_port(), self.fleet.folder / "bodies"
        self.server = Process("web", self.fleet.folder)
        self.server.start = lambda: self.server.spawn(
            [sys.executable, "-m", "fleet.web", self.port, self.path],
            {**os.environ, "PYTHONPATH": str(ROOT / "tests/e2e")})
        self.fleet.others.append(self.server)
        self.server.start()
        self.fields = {"type": "http", "url": f"http://127.0.0.1:{self.port}/", "format": "ndjson", "timeout_ms": 5000}

    def rows(self):
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith(b"}")]
        return [(row["id"], row["payload"].encode()) for row in rows]


class OfPostgres(Target):
    poison = b"not JSON"

    def prepare(self, request):
        self.database = Postgres(request.getfixturevalue("long_postgres"))
        self.server = self.database.server
        self.database.create(f"CREATE TABLE messages ({Postgres.SEQ}, message_id text PRIMARY KEY, id text, body json)")
        self.fields = {"type": "postgres", "url": self.database.url, "password": PASSWORD, "table": "messages",
                       "on_conflict": "nothing", "timeout_ms": 5000}
        self.maps = {"columns": {"message_id": "{message_id}", "id": "{id}", "body": "{payload}"}}

    def rows(self):
        return [(row["id"], json.dumps(row["body"]).encode()) for row in self.database.rows()]


class OfRabbitmq(Target):
    def prepare(self, request):
        self.server = request.getfixturevalue("rabbitmq")
        consumer = Amqp(self.server)
        consumer.queue()
        consumer.close()
        self.taken = []
        self.fields = {"type": "rabbitmq", "url": f"amqp://127.0.0.1:{self.server.server.amqp_port}/{self.server.host}",
                       "username": "plant", "password": "word", "timeout_ms": 5000}

    def rows(self):
        """Taken at the end, so that nothing is consumed when the server is killed."""
        consumer = Amqp(self.server)
        self.taken += [(properties.headers["mqtt_id"], body) for _, properties, body in consumer.take()]
        consumer.close()
        return self.taken


class OfNats(Target):
    def prepare(self, _request):
        if not NATS:
            pytest.skip("nats-server is not installed")
        self.server = self.fleet.closing(NatsStream(self.fleet.folder / "nats")).start()
        self.fields = {"type": "nats", "url": f"nats://127.0.0.1:{self.server.port}", "timeout_ms": 5000}

    def rows(self):
        return [(subject.split(".")[2], body) for subject, body in self.server.messages()]


class OfMqtt(Target):
    def prepare(self, _request):
        self.server = self.fleet.start_broker("target", persistence=True, options=["max_inflight_messages 0"])
        self.receiver = self.fleet.closing(Receiver(self.server))
        self.fields = {"type": "mqtt", "url": self.server.url, "timeout_ms": 5000}
        # Mosquitto has no durable queue: it is stopped, which saves it, and not killed.
        self.stop = self.server.terminate

    def rows(self):
        return [(message.topic.split("/")[1], message.payload) for message in self.receiver.take()]


class OfKafka(Target):
    def prepare(self, _request):
        if Kafka.missing():
            pytest.skip(f"{Kafka.missing()} is not installed")
        self.server = self.fleet.start_other(Kafka)
        self.fields = {"type": "kafka", "brokers": self.server.brokers, "topic": "messages"}

    def rows(self):
        return [(row["key"], row["payload"].encode()) for row in self.server.records("messages")]


TARGETS = [OfRedisStream, OfFile, OfHttp, OfPostgres, OfRabbitmq, OfNats, OfMqtt, OfKafka]


@pytest.fixture(scope="module")
def long_postgres():
    if PostgresServer.missing():
        pytest.skip(f"{PostgresServer.missing()} is not installed")
    server = PostgresServer()
    if not server.running:
        server.start()
    yield server
    server.close()


def start_node(fleet, target):
    sink = {**target.fields, **getattr(target, "maps", {})}
    path = fleet.folder / "long.yml"
    path.write_text(json.dumps({"sinks": {"long": {name: value if isinstance(value, dict) else str(value)
                                                   for name, value in sink.items()}}}))
    return fleet.start_node("m1", config=path, **getattr(target, "settings", {}))


class Feed:
    """Publishes the numbers, in turn over the clients; one client after another keeps its order."""

    def __init__(self, fleet, clients, poison):
        self.sent = 0
        self.fleet, self.clients, self.poison = fleet, clients, poison
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        for at in range(0, COUNT, CHUNK):
            messages = [(f"t/{self.clients[number % CLIENTS]}/x", payload(number))
                        for number in range(at, min(COUNT, at + CHUNK))]
            if self.poison and at <= COUNT // 2 < at + CHUNK:
                messages.insert(len(messages) // 2, (f"t/{self.clients[0]}/x", self.poison))
            self.fleet.broker.publish_all(messages)
            self.sent += len(messages)


def judge(rows):
    """(missing, doubled, out of order); a number counts as out of order if a later one of its client
    came first, not counting repetitions."""
    seen, disordered, highest = collections.Counter(), 0, collections.defaultdict(lambda: -1)
    for client, body in rows:
        number = json.loads(body)["n"]
        seen[number] += 1
        if seen[number] == 1:
            disordered += number < highest[client]
            highest[client] = max(highest[client], number)
    return COUNT - len(seen), sum(seen.values()) - len(seen), disordered


def tell(name, text):
    line = f"{name}: {text}"
    print(line)
    if os.environ.get("MQFLEET_TEST_OUTCOME"):
        with open(os.environ["MQFLEET_TEST_OUTCOME"], "a") as file:
            file.write(line + "\n")


@pytest.mark.parametrize("make", TARGETS, ids=lambda make: make.__name__[2:].lower())
def test_nothing_is_missing_whatever_is_killed(fleet, request, make):
    target = make(fleet, request)
    node = start_node(fleet, target)
    clients = fleet.create(CLIENTS, sink="long", make=fleet.persistent)
    fleet.wait_online(clients)
    feed = Feed(fleet, clients, target.poison)
    kills = 0
    for part in (0.2, 0.6):
        wait_until(lambda share=part: feed.sent >= COUNT * share, BOUND_S, f"{part:.0%} are published")
        if target.server:
            getattr(target, "stop", target.server.kill)()
            target.server.start()
            kills += 1
    wait_until(lambda: feed.sent >= COUNT * 0.8, BOUND_S, "80% are published")
    before_node = judge(target.rows()) if make is not OfRabbitmq else None
    node.kill()
    node.start()
    feed.thread.join()

    def complete():
        missing = judge(target.rows())[0]
        assert missing == 0, f"{missing} are missing: {node.api.get('/readyz?verbose').text}"
        return True
    wait_until(complete, BOUND_S, "all messages", poll_s=2)
    missing, doubled, disordered = judge(target.rows())
    letters = fleet.redis.bytes_client.xrange("mqtt_dead")
    tell(make.__name__[2:].lower(), f"{COUNT} published, {missing} missing, {doubled} doubled, {disordered} out of order,"
         f" {len(letters)} dead letters; {kills} times the target was killed, once the node"
         + (f" (before that: {before_node[1]} doubled, {before_node[2]} out of order)" if before_node else ""))
    assert len(letters) == (1 if target.poison else 0)
    assert disordered == 0
