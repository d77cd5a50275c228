"""Neighbours of the cases E: the errors shown when a broker is addressed in the wrong way."""

import pytest

from fleet.other_brokers import Ejabberd, Nats


def last_step(fleet, url, version=4, **more):
    answer = fleet.api.post("/api/v1/clients:test", {
        "url": url, "protocol_version": version, "subscriptions": [{"filter": "a/#"}], **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["steps"][-1]


def check(step, *words):
    told = f"{step['detail']} / {step['advice']}"
    assert not step["ok"] and all(word in told for word in words), told
    assert "reserved flags" not in told


def test_rabbitmq_at_its_wrong_ends(fleet, rabbitmq):
    fleet.start_node()
    ports = {"mqtt": rabbitmq.port, "ws": rabbitmq.ws_port, "amqp": rabbitmq.server.amqp_port}
    for url, version, words in [
            *([] if rabbitmq.server.speaks_5() else [(rabbitmq.url, 5, ["protocol_version"])]),
            (f"ws://127.0.0.1:{ports['ws']}/mqtt", 4, ["404", "path"]),
            (f"ws://127.0.0.1:{ports['mqtt']}/ws", 4, ["WebSocket", "port and path"]),
            (f"mqtt://127.0.0.1:{ports['ws']}", 4, ["port and scheme"]),
            (f"mqtts://127.0.0.1:{ports['mqtt']}", 4, ["TLS"]),
            (f"mqtt://127.0.0.1:{ports['amqp']}", 4, ["not answer MQTT", "AMQP"])]:
        check(last_step(fleet, url, version, **rabbitmq.login), *words)
    wrong = {**rabbitmq.login, "password": "x"}
    for login in (wrong, {}, {**wrong, "username": "nosuch:plant"}):
        check(last_step(fleet, rabbitmq.url, **login), "password")


def test_nats_at_its_wrong_ends(fleet):
    nats = fleet.start_other(Nats)
    fleet.start_node()
    check(last_step(fleet, nats.url, 5, **nats.login), "protocol_version")
    check(last_step(fleet, nats.ws_url.replace("/mqtt", "/"), **nats.login), "no MQTT at this path")
    check(last_step(fleet, f"mqtt://127.0.0.1:{nats.own_port}", **nats.login), "not answer MQTT")
    check(last_step(fleet, nats.url, **{**nats.login, "password": "x"}), "password")


@pytest.mark.parametrize("version", [4, 5])
def test_ejabberd_without_a_login(fleet, version):
    ejabberd = fleet.start_other(Ejabberd)
    fleet.start_node()
    step = last_step(fleet, ejabberd.url, version)
    if step["ok"]:
        pytest.skip("this ejabberd lets in without a login")
    check(step, "not authorized", "username")
