"""A back-end sends good and bad publications to many clients, some with bad filters, while the broker is
killed: all clients come back, acknowledged messages are there, and no client is in conflict."""

import random
import threading
import time

import pytest

from fleet.cloud import like_aws_iot
from fleet.operator import states
from fleet.other_brokers import Nats
from fleet.wait import wait_until


class BackEnd:
    """Publishes through random clients, by threads; acknowledged: payloads with 200."""

    def __init__(self, fleet, ids, choose):
        self._fleet, self._ids, self._choose = fleet, ids, choose
        self.acknowledged, self.codes = set(), set()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(8)]
        for thread in self._threads:
            thread.start()

    def _run(self, seed):
        rng, number = random.Random(seed), 0
        while not self._stopping.wait(0.03):
            number += 1
            client, payload = rng.choice(self._ids), f"{seed}-{number}"
            topic, more = self._choose(rng, client)
            answer = self._fleet.api.publish(client, topic, payload, **more)
            self.codes.add(answer.status_code)
            if answer.status_code == 200:
                self.acknowledged.add((topic, payload.encode()))

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join()


def check(fleet, node, ids, back_end, good="g/"):
    back_end.stop()
    fleet.wait_online(ids, 60)
    wanted = {payload for topic, payload in back_end.acknowledged if topic.startswith(good)}
    assert len(wanted) > 20, back_end.codes
    fleet.stream.wait_payloads(wanted)
    conflicts = {client for client in ids
                 if "conflict" in [to for _, to, _ in states(node, client)]}
    assert not conflicts
    for client in ids:
        wait_until(lambda: fleet.api.publish(client, f"g/{client}", "last", 1).status_code == 200,
                   20, f"{client} is of use")


def documents(broker, filters):
    return lambda client: {
        "id": client, "url": broker.url, "clean_start": False, **getattr(broker, "login", {}),
        "subscriptions": [{"filter": one, "qos": 1} for one in [f"g/{client}", *filters]]}


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
def test_nats_with_a_careless_back_end(fleet, killed):
    broker = fleet.start_other(Nats)
    node = fleet.start_node(reconnect_min_ms=100, reconnect_max_ms=1000)
    ids = fleet.create(30, make=documents(broker, ["plant 1/x"]))
    fleet.wait_online(ids)

    def choose(rng, client):
        bad = [("plant 1/x", {"qos": 1}), ("g/x", {"qos": 2}), ("b c/x", {"qos": 0})]
        return rng.choice(bad) if rng.random() < 0.1 else (f"g/{client}", {"qos": 1})
    back_end = BackEnd(fleet, ids, choose)
    for _ in range(2):
        time.sleep(4)
        if killed:
            broker.restart()
    check(fleet, node, ids, back_end)
    assert all(fleet.api.status(client)["degraded"] for client in ids)


def test_rabbitmq_with_a_careless_back_end(fleet, rabbitmq):
    rabbitmq.login = rabbitmq.login_of("reader")
    node = fleet.start_node(reconnect_min_ms=100, reconnect_max_ms=1000)
    ids = fleet.create(20, make=lambda client: {
        **documents(rabbitmq, [])(client), "subscriptions": [{"filter": f"w/{client}", "qos": 1}]})
    fleet.wait_online(ids)

    def choose(rng, client):
        return ("a/no", {"qos": 1}) if rng.random() < 0.1 else (f"w/{client}", {"qos": 1})
    back_end = BackEnd(fleet, ids, choose)
    time.sleep(8)
    back_end.stop()
    fleet.wait_online(ids, 60)
    wanted = {payload for topic, payload in back_end.acknowledged if topic.startswith("w/")}
    assert len(wanted) > 20, back_end.codes
    fleet.stream.wait_payloads(wanted)
    assert "conflict" not in {to for client in ids for _, to, _ in states(node, client)}


def test_aws_with_a_careless_back_end(fleet):
    broker = fleet.closing(like_aws_iot(refused_topics=["no/#"], bad_filters=["no/1"], life_s=9))
    node = fleet.start_node(reconnect_min_ms=100, reconnect_max_ms=1000)
    ids = fleet.create(20, make=documents(broker, [f"x/{n}" for n in range(12)] + ["no/1"]))
    fleet.wait_online(ids, 60)

    def choose(rng, client):
        bad = [("no/x", {"qos": 1}), ("g/x", {"qos": 2}), ("1/2/3/4/5/6/7/8/9", {"qos": 1}),
               ("no/x", {"qos": 0})]
        return rng.choice(bad) if rng.random() < 0.1 else (f"g/{client}", {"qos": 1})
    back_end = BackEnd(fleet, ids, choose)
    time.sleep(10)
    check(fleet, node, ids, back_end)
    assert not broker.faults
