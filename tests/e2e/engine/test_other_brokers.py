"""The same client at other real brokers than mosquitto."""

import pytest

from fleet.other_brokers import OTHER_BROKERS
from fleet.wait import wait_until

pytestmark = pytest.mark.every_engine

at_every_broker = pytest.mark.parametrize("other", [
    pytest.param((make, version), id=f"{make.__name__.lower()}-{version}")
    for make in OTHER_BROKERS for version in make.versions], indirect=True)


@pytest.fixture
def other(fleet, request):
    """(the broker, a function that makes configurations for it)"""
    make, version = request.param
    if make.missing():
        pytest.skip(f"{make.missing()} is not installed")
    broker = make(fleet.folder).start()
    fleet.others.append(broker)
    fleet.start_node(reconnect_min_ms=50, reconnect_max_ms=500)

    def document(client, **more):
        return fleet.document(client, **{"url": broker.url, "protocol_version": version,
                                         "keepalive_s": 30, **broker.login, **more})
    return broker, document


@at_every_broker
def test_messages_of_every_qos_go_both_ways(fleet, other):
    broker, document = other
    fleet.api.create([
        document("in", subscriptions=[{"filter": "t/#", "qos": 2}, {"filter": "u/+/x", "qos": 1}]),
        document("out", subscriptions=[])])
    fleet.wait_online(["in", "out"])
    granted = {row["filter"]: row["granted"] for row in fleet.api.status("in")["subscriptions"]}
    assert granted == {"t/#": 2, "u/+/x": 1}
    for qos in (0, 1, 2):
        broker.publish("t/x", f"from outside {qos}", qos)
        assert fleet.api.publish("out", "t/y", f"from us {qos}", qos=qos).status_code == 200
    broker.publish("u/1/x", bytes(range(256)) * 300)
    wanted = [b"from %s %d" % (who, qos) for who in (b"outside", b"us") for qos in (0, 1, 2)]
    fleet.stream.wait_payloads([*wanted, bytes(range(256)) * 300])
    rows = {row[b"payload"]: row for row in fleet.stream.rows()}
    assert len(rows) == len(fleet.stream.rows()) == 7
    assert [rows[b"from us %d" % qos][b"qos"] for qos in (0, 1, 2)] == [b"0", b"1", b"2"]


@at_every_broker
def test_retained_messages_and_wills(fleet, other):
    broker, document = other
    broker.publish("t/kept", "retained before", retain=True)
    fleet.api.create(document("watcher", subscriptions=[{"filter": "t/#", "qos": 1}]))
    fleet.wait_online(["watcher"])
    fleet.stream.wait_payloads([b"retained before"])
    assert fleet.stream.rows()[0][b"retain"] == b"1"
    assert fleet.api.publish("watcher", "r/ours", "kept", retain=True).status_code == 200

    # On a node of its own, which is the emptier one.
    dying = fleet.start_node("dying")
    fleet.api.create(document("mortal", subscriptions=[{"filter": "r/#", "qos": 1}],
                              will={"topic": "t/will", "payload": "gone", "qos": 1}))
    fleet.wait_online(["mortal"])
    assert fleet.api.client("mortal")["placement"]["node"] == dying.name
    fleet.stream.wait_payloads([b"kept"])
    dying.kill()
    fleet.stream.wait_payloads([b"gone"])


@at_every_broker
def test_a_persistent_session_keeps_messages_while_its_client_is_away(fleet, other):
    broker, document = other
    config = document("kept", clean_start=False, subscriptions=[{"filter": "t/#", "qos": 2}])
    if config["protocol_version"] == 5:
        config["session_expiry_s"] = 200
    fleet.api.create(config)
    fleet.wait_online(["kept"])
    for turn in range(2):
        assert fleet.api.post(fleet.api.path("kept", "pause")).status_code in (200, 202)
        fleet.api.wait_state("kept", "paused")
        wanted = [b"while away %d %d" % (turn, number) for number in range(20)]
        for number, payload in enumerate(wanted):
            broker.publish("t/x", payload, 1 + number % 2)
        assert fleet.api.post(fleet.api.path("kept", "resume")).status_code in (200, 202)
        fleet.stream.wait_payloads(wanted)


@at_every_broker
def test_clients_come_back_after_a_broker_restart(fleet, other):
    broker, document = other
    ids = [f"c{number}" for number in range(20)]
    fleet.api.create([document(client, subscriptions=[{"filter": f"t/{client}", "qos": 1}])
                      for client in ids])
    fleet.wait_online(ids)
    broker.restart()
    wait_until(lambda: all(fleet.api.status(client)["reconnects"] >= 1 for client in ids), 30,
               "all were lost and came back")
    fleet.wait_online(ids)
    for client in ids[:5]:
        broker.publish(f"t/{client}", f"for {client}")
    fleet.stream.wait_payloads(f"for {client}".encode() for client in ids[:5])
