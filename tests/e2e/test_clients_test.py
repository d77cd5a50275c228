"""POST /api/v1/clients:test: which step of a configuration fails, and what to change."""

import concurrent.futures
import json
import socket
import time

from fleet import packets
from fleet.packets import DISCONNECT, SUBSCRIBE
from fleet.ports import free_port
from fleet.scripted import ScriptedBroker
from fleet.strangers import Stranger
from fleet.wait import wait_until

TEST = "/api/v1/clients:test"


def test(api, document, **query):
    answer = api.post(TEST, document, params=query)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    report = answer.json()
    for step in report["steps"]:
        assert set(step) == {"step", "ok", "ms", "detail", "advice"} and step["ms"] >= 0
        assert (step["advice"] is None) == step["ok"] and step["detail"]
    assert report["ok"] == all(step["ok"] for step in report["steps"])
    # Only the last step can have failed.
    assert all(step["ok"] for step in report["steps"][:-1])
    return report


test.__test__ = False


def names(report):
    return [step["step"] for step in report["steps"]]


def failed(report, step, *words):
    """The last step, which failed there with these words in its detail or advice."""
    last = report["steps"][-1]
    assert not report["ok"] and last["step"] == step, report
    for word in words:
        assert word in last["detail"] + " / " + last["advice"], last
    return last


def bare(fleet, **more):
    return {"url": fleet.broker.url, **more}


def test_a_good_configuration_passes_every_step_and_leaves_nothing(fleet):
    fleet.start_node()
    fleet.online(2)
    fleet.broker.publish("t/x/kept", "retained", retain=True)
    mark = fleet.broker.mark()
    for version in (4, 5):
        report = test(fleet.api, bare(
            fleet, protocol_version=version, client_id="device-9", clean_start=False,
            will={"topic": "t/c00000/will", "payload": "dead"},
            subscriptions=[{"filter": "t/x/#", "qos": 1}, {"filter": "$share/g/t/c00001/#"}]))
        assert report["ok"], report
        assert names(report) == ["dns", "tcp", "connect", "subscribe"]
        assert "1 not tried" in report["steps"][-1]["detail"]
    assert fleet.broker.connect_options("device-9")[1] == 1, "a clean session"
    assert "device-9" not in fleet.broker.connected()
    assert not fleet.broker.takeovers(mark)
    assert fleet.stream.rows() == [], "no will, and nothing received goes to the sink"
    assert {one["id"] for one in fleet.api.clients()} == {"c00000", "c00001"}
    # Without any identifier one is made up.
    assert "mqfleet-test-" in test(fleet.api, bare(fleet))["steps"][-2]["detail"]


def test_the_identity_of_a_client_of_the_fleet_is_not_taken(fleet):
    fleet.start_node()
    fleet.online(1)
    mark = fleet.broker.mark()
    answer = fleet.api.post(TEST, fleet.document("c00000"))
    assert answer.status_code == 409 and "use another client_id" in answer.json()["detail"]
    assert test(fleet.api, fleet.document("c00000", client_id="c00000-try"))["ok"]
    assert fleet.api.state("c00000") == "online" and not fleet.broker.takeovers(mark)


def test_each_step_that_fails_says_what_to_change(fleet, authority):
    fleet.start_broker(users={"line-4": "open sesame"})
    fleet.start_broker("tls", tls=authority)
    tls_url = f"mqtts://localhost:{fleet.others[-1].port}"
    api = fleet.start_node(broker_deny="10.0.0.0/8,*.denied.example",
                           secrets__files_allow=authority.ca.parent).api
    user = {"username": "line-4", "password": "open sesame"}
    unknown = failed(test(api, {"url": "mqtt://no-such-host.invalid"}), "dns")
    # Without a name server nobody can tell.
    assert "spelling" in unknown["advice"] or "name servers" in unknown["advice"], unknown
    failed(test(api, {"url": f"mqtt://127.0.0.1:{free_port()}"}), "tcp", "check host and port")
    failed(test(api, bare(fleet)), "connect", "username and password")
    failed(test(api, bare(fleet, username="line-4", password="guess", protocol_version=5)),
           "connect", "username and password")
    failed(test(api, bare(fleet, url=fleet.broker.url.replace("mqtt:", "mqtts:"), **user)),
           "tls", "mqtt://")
    failed(test(api, bare(fleet, url=fleet.broker.url.replace("mqtt:", "ws:"), **user)),
           "websocket", "WebSocket")
    report = test(api, bare(fleet, protocol_version=5, sub_topic="open/#", **user))
    assert report["ok"], report
    failed(test(api, {"url": tls_url}), "tls", "tls.ca")
    failed(test(api, {"url": tls_url, "tls": {"ca": str(authority.ca),
                                              "server_name": "elsewhere.example"}}),
           "tls", "tls.server_name")
    failed(test(api, {"url": tls_url, "tls": {"ca": str(authority.ca.parent / "missing")}}), "tls",
           "readable")
    failed(test(api, {"url": tls_url.replace("mqtts", "mqtt")}, timeout_ms=2000), "connect",
           "scheme")
    report = test(api, {"url": tls_url, "tls": {"ca": str(authority.ca)}})
    assert report["ok"] and names(report) == ["dns", "tcp", "tls", "connect", "subscribe"]
    refused = api.post(TEST, {"url": "mqtt://10.1.2.3"})
    assert refused.status_code == 422 and "broker_deny" in refused.text
    text = api.post(TEST, bare(fleet, username="line-4", password="s3cr3t-guess")).text
    assert "s3cr3t-guess" not in text


def test_a_broker_that_refuses_filters_is_told_by_its_codes(fleet):
    broker = fleet.closing(ScriptedBroker())
    api = fleet.start_node().api
    document = {"url": broker.url, "protocol_version": 5, "client_id": "x", "will": {
        "topic": "w"}, "session_expiry_s": 60, "clean_start": False, "subscriptions": [
            {"filter": "a", "qos": 2}, {"filter": "b/secret"}]}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(test, api, document)
        link = broker.connection()
        assert link.connect.clean and link.connect.will is None
        request = link.expect(SUBSCRIBE)
        assert [name for name, _ in request.filters] == ["a", "b/secret"]
        link.publish("a", b"not acknowledged", qos=1, packet_id=7)
        link.send(packets.suback(5, request.id, [2, 0x87]))
        link.expect(DISCONNECT)
        link.close()
        failed(asked.result(60), "subscribe", "1 of 2", "b/secret (not authorized)", "permit")


def test_a_silent_broker_is_given_up_in_time_and_tests_are_bounded(fleet):
    node = fleet.start_node()
    silent = fleet.closing(socket.create_server(("127.0.0.1", 0)))
    document = {"url": f"mqtt://127.0.0.1:{silent.getsockname()[1]}"}
    for bad in ("50", "30001", "soon"):
        assert node.api.post(TEST, document, params={"timeout_ms": bad}).status_code == 400
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(node.api.post, TEST, document, params={"timeout_ms": 3000})
                   for _ in range(8)]
        answers = [answer.result(60) for answer in answers]
    assert sorted({answer.status_code for answer in answers}) == [200, 503]
    good = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(good) <= 4
    for report in good:
        failed(report, "connect", "CONNACK", "does not answer MQTT")
    # A stop does not wait for a test to end.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(node.api.post, TEST, document, params={"timeout_ms": 30000})
        silent.settimeout(20)
        for _ in range(len(good) + 1):
            silent.accept()  # the connection of this test as well
        begun_s = time.monotonic()
        node.terminate()
        assert time.monotonic() - begun_s < 15
        assert waiting.result(60).status_code in (200, 503)


def test_a_test_waits_no_longer_than_the_client_would(fleet):
    """What the client gives up after connect_timeout_ms, the test does not pass."""
    api = fleet.start_node(connect_timeout_ms=20000).api
    links = []  # of connections that are kept open

    def broker(answers_connect):
        def talk(sock):
            links.append(sock)
            sock.recv(4096)
            if answers_connect:
                sock.sendall(b"\x20\x02\x00\x00")
            while sock.recv(4096):
                pass
        return f"mqtt://127.0.0.1:{fleet.closing(Stranger(talk)).port}"

    document = {"connect_timeout_ms": 1000, "subscriptions": [{"filter": "a", "qos": 0}]}
    for answers_connect, step, word in ((False, "connect", "no CONNACK"),
                                        (True, "subscribe", "did not acknowledge")):
        report = test(api, {**document, "url": broker(answers_connect)}, timeout_ms=9000)
        last = failed(report, step, word)
        assert 900 <= last["ms"] < 5000, report
    assert len(links) == 2


def test_a_test_ends_when_nobody_waits_for_it(fleet):
    """There is room for a few at a time only."""
    api = fleet.start_node().api
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        body = json.dumps({"broker": f"127.0.0.1:{silent.getsockname()[1]}"}).encode()
        for _ in range(40):
            with socket.create_connection(("127.0.0.1", fleet.nodes[0].port)) as caller:
                caller.sendall(b"POST /api/v1/clients:test?timeout_ms=60000 HTTP/1.1\r\nHost: x\r\n"
                               b"Content-Type: application/json\r\nContent-Length: "
                               + str(len(body)).encode() + b"\r\n\r\n" + body)
                time.sleep(0.02)
        wait_until(lambda: api.post("/api/v1/clients:test", fleet.document("a")).status_code == 200,
                   20, "room for a test")
