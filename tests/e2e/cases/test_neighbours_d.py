"""Neighbours of the cases A8, A9 and D5: brokers that become unavailable, return, or end connections."""

import time

import pytest

from fleet.cloud import CloudBroker, like_azure_iot
from fleet.operator import states, wait_error
from fleet.other_brokers import Mochi, Nats
from fleet.wait import PATIENCE


def document(broker, client, **more):
    return {"id": client, "url": broker.url, "clean_start": False, **getattr(broker, "login", {}),
            "subscriptions": [{"filter": f"a/{client}", "qos": 1}], **more}


def conflicts(node, ids):
    return {client for client in ids if "conflict" in [to for _, to, _ in states(node, client)]}


@pytest.mark.parametrize("make", [Nats, Mochi])
def test_a_broker_that_was_away_for_some_time(fleet, make):
    """Default limits; clients of another broker are not affected."""
    broker = fleet.start_other(make)
    node = fleet.start_node()
    ids = fleet.create(300, make=lambda client: document(broker, client))
    fleet.wait_online(ids)
    broker.kill()
    time.sleep(10)
    fleet.api.create(fleet.document("other"))
    fleet.wait_online(["other"], 5)
    broker.start()
    back = time.monotonic()
    fleet.wait_online(ids, 20)
    # Five seconds, and as much again for a machine that is shared.
    assert time.monotonic() - back < 10 * PATIENCE
    assert not conflicts(node, ids)
    for client in ids[:20]:
        broker.publish(f"a/{client}", client)
    fleet.stream.wait_payloads(client.encode() for client in ids[:20])


@pytest.mark.parametrize("count", [1, 5])
def test_a_broker_that_restarts_again_and_again(fleet, count):
    broker = fleet.start_other(Nats)
    node = fleet.start_node(reconnect_min_ms=200, reconnect_max_ms=2000)
    ids = fleet.create(count, make=lambda client: document(broker, client))
    for pause_s in (0, 0.3, 0.3, 0):
        fleet.wait_online(ids)
        time.sleep(1)
        broker.kill()
        time.sleep(pause_s)
        broker.start()
    fleet.wait_online(ids)
    assert not conflicts(node, ids)


@pytest.mark.parametrize("farewell", [None, 0x8B, 0x98, 0xA0], ids=["silent", "0x8B", "0x98", "0xA0"])
def test_tokens_that_end(fleet, farewell):
    """Every 1.5 s, at another moment for each client; one publication a second goes through."""
    broker = fleet.closing(CloudBroker(life_s=1.5, life_farewell=farewell))
    node = fleet.start_node(reconnect_min_ms=100, reconnect_max_ms=1000)
    ids = fleet.create(6, make=lambda client: document(broker, client, protocol_version=5,
                                                       session_expiry_s=600))
    wanted, answers = [], set()
    for turn in range(10):
        time.sleep(1)
        for client in ids:
            wanted.append(f"{client} {turn}".encode())
            broker.publish(f"a/{client}", wanted[-1])
            answers.add(fleet.api.publish(client, "out", "x", 1).status_code)
    fleet.stream.wait_payloads(wanted)
    assert not conflicts(node, ids)
    assert 200 in answers and answers <= {200, 409, 502, 504}, answers
    assert all(len(broker.of(client)) <= 12 for client in ids)
    if farewell is None:
        wait_error(fleet.api, ids[0], fleet.api.status(ids[0])["last_error"]["code"], "after about")


def test_azure_speaks_no_mqtt_5(fleet):
    broker = fleet.closing(like_azure_iot())
    fleet.start_node()
    fleet.api.create(document(broker, "c", protocol_version=5))
    error = wait_error(fleet.api, "c", "connection_refused")
    assert "protocol_version" in error["message"] + error["advice"], error
