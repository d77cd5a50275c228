"""The same client at real brokers other than mosquitto."""

import pytest

from fleet.other_brokers import OTHER_BROKERS
from fleet.rabbitmq import RabbitMq
from fleet.wait import wait_until

pytestmark = pytest.mark.every_engine


def at_brokers(condition=lambda make: True):
    return pytest.mark.parametrize("other", [
        pytest.param((make, version), id=f"{make.__name__.lower()}-{version}",
                     marks=pytest.mark.xdist_group("rabbitmq") if make is RabbitMq else ())
        for make in (*OTHER_BROKERS, RabbitMq) if condition(make) for version in make.versions
    ], indirect=True)


at_every_broker = at_brokers()


@pytest.fixture
def other(fleet, request):
    """(the broker, a function that makes configurations for it)"""
    make, version = request.param
    broker = (request.getfixturevalue("rabbitmq") if make is RabbitMq
              else fleet.start_other(make))
    fleet.start_node(reconnect_min_ms=50, reconnect_max_ms=500)

    def document(client, **more):
        return fleet.document(client, **{"url": broker.url, "protocol_version": version,
                                         "keepalive_s": 30, **broker.login, **more})
    return broker, document


def kept(document, client, **more):
    """A configuration whose session outlives its connections."""
    config = document(client, clean_start=False, **more)
    return {**config, "session_expiry_s": 200} if config["protocol_version"] == 5 else config


def pause(fleet, client):
    assert fleet.api.post(fleet.api.path(client, "pause")).status_code in (200, 202)
    fleet.api.wait_state(client, "paused")


def resume(fleet, client):
    assert fleet.api.post(fleet.api.path(client, "resume")).status_code in (200, 202)
    fleet.api.wait_state(client, "online")


@at_every_broker
def test_messages_of_every_qos_go_both_ways(fleet, other):
    broker, document = other
    fleet.api.create([
        document("in", subscriptions=[{"filter": "t/#", "qos": 2}, {"filter": "u/+/x", "qos": 1}]),
        document("out", subscriptions=[])])
    fleet.wait_online(["in", "out"])
    granted = {row["filter"]: row["granted"] for row in fleet.api.status("in")["subscriptions"]}
    assert granted == {"t/#": broker.granted_max, "u/+/x": 1}
    levels = range(broker.published_max + 1)
    for qos in levels:
        broker.publish("t/x", f"from outside {qos}", qos)
        assert fleet.api.publish("out", "t/y", f"from us {qos}", qos=qos).status_code == 200
    broker.publish("u/1/x", bytes(range(256)) * 300)
    wanted = [b"from %s %d" % (who, qos) for who in (b"outside", b"us") for qos in levels]
    fleet.stream.wait_payloads([*wanted, bytes(range(256)) * 300])
    rows = {row[b"payload"]: row for row in fleet.stream.rows()}
    assert len(rows) == len(fleet.stream.rows()) == len(wanted) + 1
    assert [int(rows[b"from us %d" % qos][b"qos"]) for qos in levels] == list(levels)


@at_every_broker
def test_retained_messages_and_wills(fleet, other):
    broker, document = other
    broker.publish("t/kept", "retained before", retain=True)
    # RabbitMQ sends no retained message for a filter with a wildcard.
    fleet.api.create(document("watcher", subscriptions=[
        {"filter": name, "qos": 1} for name in ("t/kept", "t/will")]))
    fleet.wait_online(["watcher"])
    fleet.stream.wait_payloads([b"retained before"])
    assert fleet.stream.rows()[0][b"retain"] == b"1"
    assert fleet.api.publish("watcher", "r/ours", "kept", retain=True).status_code == 200

    # On another node, which has fewer clients.
    dying = fleet.start_node("dying")
    fleet.api.create(document("mortal", subscriptions=[{"filter": "r/ours", "qos": 1}],
                              will={"topic": "t/will", "payload": "gone", "qos": 1}))
    fleet.wait_online(["mortal"])
    assert fleet.api.client("mortal")["placement"]["node"] == dying.name
    fleet.stream.wait_payloads([b"kept"])
    dying.kill()
    fleet.stream.wait_payloads([b"gone"])


@at_every_broker
def test_a_persistent_session_keeps_messages_while_its_client_is_away(fleet, other, engine):
    broker, document = other
    fleet.api.create(kept(document, "kept", subscriptions=[{"filter": "t/#", "qos": 2}]))
    fleet.wait_online(["kept"])
    for turn in range(2):
        pause(fleet, "kept")
        wanted = [b"while away %d %d" % (turn, number) for number in range(20)]
        for number, payload in enumerate(wanted):
            broker.publish("t/x", payload, 1 + number % broker.published_max)
        resume(fleet, "kept")
        fleet.stream.wait_payloads(wanted)
        error = fleet.api.status("kept")["last_error"]
        # The identifiers of Paho's SUBSCRIBE begin with 1, as those of mochi-mqtt's messages do.
        assert error is None or (engine == "paho" and "identifier in use" in error["message"])


@at_every_broker
def test_clients_come_back_after_a_broker_restart(fleet, other):
    """Killed; a broker that keeps its sessions on disk delivers what it had acknowledged."""
    broker, document = other
    ids = [f"c{number}" for number in range(20)]
    fleet.api.create([document(client, subscriptions=[{"filter": f"t/{client}", "qos": 1}])
                      for client in ids])
    fleet.api.create(kept(document, "kept", subscriptions=[{"filter": "k/#", "qos": 1}]))
    fleet.wait_online([*ids, "kept"])
    pause(fleet, "kept")
    wanted = [b"before the end %d" % number for number in range(10)] if broker.durable else []
    for payload in wanted:
        broker.publish("k/x", payload)
    broker.restart()
    wait_until(lambda: all(fleet.api.status(client)["reconnects"] >= 1 for client in ids), 30,
               "all were lost and came back")
    resume(fleet, "kept")
    fleet.wait_online([*ids, "kept"])
    for client in ids[:5]:
        broker.publish(f"t/{client}", f"for {client}")
    broker.publish("k/x", "after it")
    wanted += [b"after it", *(f"for {client}".encode() for client in ids[:5])]
    fleet.stream.wait_payloads(wanted)
    assert sorted(fleet.stream.payloads()) == sorted(wanted)


@at_brokers(lambda make: make.ws_url)
def test_the_same_over_websocket(fleet, other):
    broker, document = other
    fleet.api.create(kept(document, "in", url=broker.ws_url,
                          subscriptions=[{"filter": "t/#", "qos": 1}]))
    fleet.wait_online(["in"])
    large = bytes(range(256)) * 400
    broker.publish("t/large", large)
    assert fleet.api.publish("in", "t/ours", "from us" * 5000).status_code == 200
    pause(fleet, "in")
    broker.publish("t/away", "while away")
    resume(fleet, "in")
    wanted = [large, b"from us" * 5000, b"while away"]
    fleet.stream.wait_payloads(wanted)
    assert sorted(fleet.stream.payloads()) == sorted(wanted)
