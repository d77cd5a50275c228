"""Configurations that other programs write straight into Redis."""

import json

import pytest

from fleet.wait import holds_for, wait_until

pytestmark = pytest.mark.every_engine

RUBBISH = {
    "not-json": "{broker",
    "empty": "",
    "binary": b"\xff\xfe\x00\x01",
    "a-list": "[1,2]",
    "a-number": "17",
    "no-broker": '{"client_id": "no-broker"}',
    "bad-port": '{"broker": "127.0.0.1", "port": 99999, "client_id": "bad-port"}',
    "deep": "[" * 5000,
}


def flat(fleet, client, **more):
    return json.dumps({"broker": "127.0.0.1", "port": fleet.broker.port, "username": "",
                       "password": "", "sub_topic": f"t/{client}", "client_id": client, **more})


def test_flat_configurations_in_the_waiting_hash_are_hosted(fleet):
    nodes = fleet.start_nodes(2)
    ids = [f"plc-{number}" for number in range(30)]
    for client in ids:
        fleet.redis.client.hset("mqtt_config:no", client, flat(fleet, client))
    fleet.wait_online(ids)
    fleet.check_s1(ids)
    assert fleet.broker.subscriptions() == {client: {f"t/{client}"} for client in ids}
    fleet.broker.publish("t/plc-3", "seen")
    fleet.stream.wait_payloads([b"seen"])
    # The text is not rewritten: Go IoT reads it back.
    assert fleet.redis.client.hget("mqtt_config:use", "plc-3") == flat(fleet, "plc-3")
    assert all(node.ready() for node in nodes)


def test_rubbish_is_reported_on_its_id_and_harms_nothing_else(fleet):
    fleet.start_nodes(2)
    for client, text in RUBBISH.items():
        fleet.redis.bytes_client.hset("mqtt_config:no", client, text)
    fleet.redis.client.hset("mqtt_config:no", "good", flat(fleet, "good"))
    ids = fleet.create(20)
    fleet.wait_online([*ids, "good"], 15)
    for client in RUBBISH:
        def reported():
            status = fleet.api.status(client)
            return status["last_error"] and status["state"] != "online" and status
        error = wait_until(reported, 10, f"{client} is reported")["last_error"]
        assert error["code"] and error["message"], error
    assert len(fleet.api.clients()) == len(ids) + 1 + len(RUBBISH)
    fleet.check_s1([*ids, "good", *RUBBISH])
    assert fleet.redis.client.hget("mqtt_config:no", "not-json") == RUBBISH["not-json"]
    # It can be corrected and removed.
    fleet.redis.client.hset("mqtt_config:no", "no-broker", flat(fleet, "no-broker"))
    assert fleet.api.delete(fleet.api.path("not-json")).status_code == 204
    fleet.wait_online(["no-broker"], 90)


def test_kf09_an_id_in_both_hashes_ends_in_one(fleet):
    fleet.start_nodes(2)
    fleet.redis.client.hset("mqtt_config:no", "both", flat(fleet, "both"))
    fleet.wait_online(["both"])
    fleet.redis.client.hset("mqtt_config:no", "both", flat(fleet, "both", sub_topic="t/new"))
    fleet.wait_s1(["both"])
    wait_until(lambda: "t/new" in fleet.broker.subscriptions()["both"], 20, "the newer text runs")
    fleet.wait_online(["both"])
    mark = fleet.broker.mark()
    holds_for(lambda: not fleet.broker.connects(mark), 2, "no further connection")


def test_an_id_left_in_use_without_an_owner_is_hosted(fleet):
    fleet.redis.client.hset("mqtt_config:use", "orphan", flat(fleet, "orphan"))
    fleet.redis.client.rpush("node_bind:gone-node", "orphan")
    fleet.redis.client.set("mqtt_size:gone-node", 1)
    fleet.start_nodes(2)
    fleet.wait_online(["orphan"], 30)
    assert len(fleet.shared().owned) == 1
