"""The broker receives exactly the values of the configuration."""

import pytest

from fleet.ports import free_port
from fleet.wait import holds_for, wait_until

pytestmark = pytest.mark.every_engine


@pytest.mark.parametrize("version", [4, 5])
def test_protocol_version_keepalive_and_clean_start_reach_the_broker(fleet, version):
    fleet.start_node()
    fleet.online(1, prefix="clean", protocol_version=version, keepalive_s=17)
    fleet.online(1, prefix="kept", protocol_version=version, keepalive_s=23, clean_start=False)
    wire = {4: 2, 5: 5}[version]
    assert fleet.broker.connect_options("clean00000") == (wire, 1, 17)
    assert fleet.broker.connect_options("kept00000") == (wire, 0, 23)
    fleet.broker.publish("t/kept00000/x", "hello")
    fleet.stream.wait_payloads([b"hello"])


def test_user_and_password_are_used_and_a_wrong_one_is_reported(fleet):
    fleet.start_broker(users={"line-4": "open sesame"})
    fleet.start_node()
    fleet.api.create([
        fleet.document("right", username="line-4", password="open sesame"),
        fleet.document("wrong", username="line-4", password="guess"),
        fleet.document("wrong5", username="line-4", password="guess", protocol_version=5)])
    fleet.api.wait_state("right", "online")
    for client in ("wrong", "wrong5"):
        error = fleet.api.wait_state(client, "backoff")["last_error"]
        assert error["code"] in ("bad_credentials", "not_authorized"), error
        assert "guess" not in error["message"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_port_where_nobody_listens_is_told_as_such(fleet, host):
    fleet.start_node()
    fleet.api.create([fleet.document("c", url=f"mqtt://{host}:{free_port()}")])
    error = fleet.api.wait_state("c", "backoff")["last_error"]
    assert error["code"] == "connection_refused", error
    assert "Connection refused" in error["message"], error


def tls_document(fleet, client, authority, **tls):
    return fleet.document(client, url=f"mqtts://localhost:{fleet.broker.port}",
                          tls={"ca": authority.ca.read_text(), **tls})


def test_tls_verifies_the_broker(fleet, authority):
    fleet.start_broker(tls=authority)
    fleet.start_node(secrets__files_allow=authority.folder)
    fleet.api.create([
        tls_document(fleet, "trusting", authority),
        tls_document(fleet, "by-path", authority, ca=str(authority.ca)),
        tls_document(fleet, "strange", authority, ca=authority.client_certificate.read_text()),
        tls_document(fleet, "misnamed", authority, server_name="elsewhere.example"),
        fleet.document("no-ca", url=f"mqtts://localhost:{fleet.broker.port}"),
        fleet.document("careless", url=f"mqtts://localhost:{fleet.broker.port}",
                       tls={"insecure": True}),
    ])
    for client in ("trusting", "by-path", "careless"):
        fleet.api.wait_state(client, "online")
    for client in ("strange", "misnamed", "no-ca"):
        error = fleet.api.wait_state(client, "backoff")["last_error"]
        assert error["code"] == "tls_failed", (client, error)


def test_mutual_tls_shows_the_clients_certificate(fleet, authority):
    fleet.start_broker(tls=authority, client_certificates=True)
    fleet.start_node(secrets__files_allow=authority.folder)
    key = authority.client_key.read_text()
    fleet.api.create([
        tls_document(fleet, "known", authority, key=key,
                     cert=authority.client_certificate.read_text()),
        tls_document(fleet, "by-path", authority, key=str(authority.client_key),
                     cert=str(authority.client_certificate)),
        tls_document(fleet, "unknown", authority)])
    fleet.api.wait_state("known", "online")
    fleet.api.wait_state("by-path", "online")
    wait_until(lambda: fleet.api.status("unknown")["last_error"], 20, "refused")
    assert fleet.api.state("unknown") != "online"
    answer = fleet.api.get(fleet.api.path("known")).text
    assert key.splitlines()[1] not in answer


@pytest.mark.parametrize("version", [4, 5])
def test_the_will_is_published_when_the_node_dies_and_not_when_it_stops(fleet, version):
    fleet.start_node("watching", node_info__size=1)
    fleet.online(1, "watcher", make=lambda client: fleet.document(
        client, protocol_version=5, subscriptions=[{"filter": "wills/#", "qos": 1}]))
    node = fleet.start_node("pumps")
    of_5 = {"content_type": "text/plain", "response_topic": "answers/4", "delay_s": 0,
            "correlation_data": "AAH/", "payload_format_indicator": 1,
            "user_properties": [{"name": "site", "value": "north"}]}
    fleet.online(1, "pump", protocol_version=version,
                 will={"topic": "wills/pump", "payload": "gone", "qos": 1, "retain": False,
                       **(of_5 if version == 5 else {})})

    assert node.terminate() == 0
    wait_until(lambda: "pump00000" not in fleet.broker.connected(), 10, "disconnected")
    fleet.broker.publish("wills/marker", "marker")
    fleet.stream.wait_payloads([b"marker"])
    assert fleet.stream.payloads() == [b"marker"]

    node.start()
    fleet.wait_online(["pump00000"])
    node.kill()
    fleet.stream.wait_payloads([b"gone"])
    will = fleet.stream.of("watcher00000")[-1]
    assert will[b"payload"] == b"gone"
    if version == 5:
        assert (will[b"content_type"], will[b"response_topic"]) == (b"text/plain", b"answers/4")
        assert will[b"correlation_data"] == b"\x00\x01\xff"
        assert b"north" in will[b"user_properties"]


def test_a_persistent_session_keeps_messages_until_it_expires(fleet):
    node = fleet.start_node()
    fleet.online(1, "v5", make=fleet.persistent)
    fleet.online(1, "v4", clean_start=False, protocol_version=4)
    fleet.online(1, "brief", protocol_version=5, clean_start=False, session_expiry_s=1)
    assert node.terminate() == 0
    for client in ("v5", "v4", "brief"):
        fleet.broker.publish(f"t/{client}00000/x", f"for {client}")
    wait_until(lambda: "Expiring client brief00000" in fleet.broker.log(), 20, "expired")
    node.start()
    fleet.wait_online(["v500000", "v400000", "brief00000"])
    fleet.broker.publish("t/brief00000/x", "marker")
    fleet.stream.wait_payloads([b"for v5", b"for v4", b"marker"])
    assert b"for brief" not in fleet.stream.payloads()


@pytest.mark.parametrize("version", [4, 5])
def test_kf18_topics_changed_on_a_persistent_session_are_told_to_the_broker(fleet, version):
    fleet.start_nodes(2)
    document = fleet.document("changing", protocol_version=version, clean_start=False,
                              subscriptions=[{"filter": "old/#", "qos": 1},
                                             {"filter": "both/#", "qos": 1}])
    fleet.api.create(document)
    fleet.api.wait_state("changing", "online")
    mark = fleet.broker.mark()
    document["subscriptions"][0]["filter"] = "new/#"
    assert fleet.api.put(fleet.api.path("changing"), document).status_code == 200
    wait_until(lambda: "new/#" in fleet.broker.subscriptions(mark)["changing"], 15, "subscribed")
    wait_until(lambda: {row["filter"] for row in fleet.api.status("changing")["subscriptions"]}
               == {"new/#", "both/#"}, 15, "shown")
    # In place: the connection stays open.
    assert not fleet.broker.connects(mark)
    for topic in ("old/1", "new/1", "both/1"):
        fleet.broker.publish(topic, topic)
    fleet.stream.wait_payloads([b"new/1", b"both/1"])
    assert b"old/1" not in fleet.stream.payloads()

    # Even if the change is made while it is not connected.
    fleet.api.post(fleet.api.path("changing", "pause"))
    fleet.api.wait_state("changing", "paused")
    document["subscriptions"] = [{"filter": "newest/#", "qos": 1}]
    document["desired"] = "running"
    assert fleet.api.put(fleet.api.path("changing"), document).status_code == 200
    fleet.api.wait_state("changing", "online")
    for topic in ("new/2", "both/2", "newest/2"):
        fleet.broker.publish(topic, topic)
    fleet.stream.wait_payloads([b"newest/2"])
    assert not {b"new/2", b"both/2"} & set(fleet.stream.payloads())


def test_kf18_deleting_and_pausing_close_the_connection(fleet):
    fleet.start_nodes(2)
    deleted, paused = fleet.online(2)
    assert fleet.api.delete(fleet.api.path(deleted)).status_code == 204
    assert fleet.api.post(fleet.api.path(paused, "pause")).status_code in (200, 202)
    wait_until(lambda: not fleet.broker.connected() & {deleted, paused}, 15, "both disconnected")
    mark = fleet.broker.mark()
    holds_for(lambda: not fleet.broker.connects(mark), 2, "neither comes back")
    assert fleet.api.get(fleet.api.path(deleted)).status_code == 404
    assert fleet.api.client(paused)["desired"] == "paused"


def test_shared_subscriptions_deliver_each_message_once(fleet):
    fleet.start_nodes(2)
    fleet.online(4, protocol_version=5, make=lambda client, **more: fleet.document(
        client, **{**more, "subscriptions": [{"filter": "$share/crew/jobs/#", "qos": 1}]}))
    payloads = [b"job %d" % number for number in range(80)]
    fleet.broker.publish_all([("jobs/x", payload) for payload in payloads])
    fleet.stream.wait_payloads(payloads)
    assert sorted(fleet.stream.payloads()) == sorted(payloads)
    assert len({row[b"id"] for row in fleet.stream.rows()}) == 4


def test_subscription_options_are_sent(fleet):
    fleet.start_node()
    fleet.broker.publish("t/kept", "retained before", retain=True)
    fleet.api.create(fleet.document("careful", protocol_version=5, subscriptions=[
        {"filter": "t/#", "qos": 1, "no_local": True, "retain_handling": 2}]))
    fleet.api.wait_state("careful", "online")
    assert fleet.api.publish("careful", "t/own", "from itself").status_code == 200
    fleet.broker.publish("t/other", "from another")
    fleet.stream.wait_payloads([b"from another"])
    assert fleet.stream.payloads() == [b"from another"]
