"""The HTTP API: shapes, status codes, faults with pointers, and that no request ends a node."""

import concurrent.futures
import json
import os
import pathlib
import socket

import pytest
import requests

from fleet.wait import wait_until

CLIENTS = "/api/v1/clients"


def problem(answer, status):
    """The problem document, whose form is checked."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    document = answer.json()
    assert document["status"] == status
    assert document["title"] and document["detail"]
    return document


def pointers(answer):
    return {error["pointer"] for error in problem(answer, 422)["errors"]}


# ---- create --------------------------------------------------------------------------------------


def test_create_answers_201_then_200_then_409(fleet):
    fleet.start_node()
    document = fleet.document("pump")
    first = fleet.api.post(CLIENTS, document)
    assert first.status_code == 201
    assert first.headers["Location"].endswith("/api/v1/clients/pump")
    version = first.json()["version"]
    assert first.json()["id"] == "pump" and version > 0
    assert fleet.api.post(CLIENTS, document).status_code == 200
    # The order of the fields does not matter.
    assert fleet.api.post(CLIENTS, dict(reversed(document.items()))).status_code == 200
    problem(fleet.api.post(CLIENTS, {**document, "keepalive_s": 5}), 409)
    # Another id may not have the same identifier at the same broker.
    taken = problem(fleet.api.post(CLIENTS, fleet.document("other", client_id="pump")), 409)
    assert "pump" in taken["detail"]
    assert fleet.api.client("pump")["version"] == version


def test_a_client_document_has_the_documented_shape(fleet):
    node = fleet.start_node()
    fleet.online(1, labels={"site": "north"})
    fleet.broker.publish("t/c00000/x", "12345")
    wait_until(lambda: fleet.api.status("c00000")["messages_in"] == 1, 10)
    document = fleet.api.client("c00000")
    assert set(document) >= {"id", "version", "config", "desired", "placement", "status"}
    assert document["desired"] == "running"
    assert document["config"]["labels"] == {"site": "north"}
    assert document["placement"]["node"] == node.name
    assert document["placement"]["epoch"] > 0 and document["placement"]["since"].endswith("Z")
    status = document["status"]
    assert set(status) >= {
        "state", "reason", "since", "last_error", "next_retry_at", "connected_at", "reconnects",
        "messages_in", "messages_out", "bytes_in", "bytes_out", "messages_dropped",
        "subscriptions"}
    assert status["state"] == "online" and status["last_error"] is None
    assert (status["messages_in"], status["bytes_in"]) == (1, 5)
    assert status["subscriptions"] == [{"filter": "t/c00000/#", "qos": 1, "granted": 1}]


def test_ten_thousand_clients_in_one_request(fleet):
    nodes = fleet.start_nodes(2)
    ids = fleet.create(10000, desired="paused")
    assert fleet.check_s1(ids)
    again = fleet.api.post(CLIENTS, [fleet.document(client, desired="paused") for client in ids])
    assert again.status_code == 200 and again.json()["unchanged"] == 10000
    wait_until(lambda: len(fleet.shared().owned) == 10000, 30, "all owned", poll_s=0.2)
    counts = fleet.wait_s1(ids).counts()
    # A node that starts them more than 2 s late, on a busy machine, gets fewer.
    assert sum(counts.values()) == 10000 and min(counts.values()) > 3500, counts
    assert len(nodes[1].api.clients(state="paused")) == 10000
    problem(fleet.api.post(CLIENTS, [{}] * 10001), 413)


def test_a_batch_reports_each_failure_and_keeps_the_rest(fleet):
    fleet.start_node()
    fleet.api.create(fleet.document("old"))
    answer = fleet.api.post(CLIENTS, [
        fleet.document("new"), fleet.document("old"), fleet.document("old", keepalive_s=9),
        {"id": "bad", "url": "mqtt://"}, 17, fleet.document("newer")])
    assert answer.status_code == 207, answer.text
    result = answer.json()
    assert (result["created"], result["unchanged"]) == (2, 1)
    assert [(row["index"], row["status"]) for row in result["failed"]] == [
        (2, 409), (3, 422), (4, 422)]
    assert all(row["detail"] for row in result["failed"])
    assert result["failed"][0]["id"] == "old"
    fleet.wait_online(["new", "old", "newer"])
    assert len(fleet.api.clients()) == 3


@pytest.mark.every_engine
def test_wait_ms_answers_once_online_or_failed(fleet):
    fleet.start_node()
    answer = fleet.api.post(CLIENTS + "?wait_ms=15000", fleet.document("good"))
    assert answer.status_code == 201 and answer.json()["status"]["state"] == "online"
    answer = fleet.api.post(CLIENTS + "?wait_ms=15000",
                            fleet.document("bad", url="mqtt://127.0.0.1:1"))
    assert answer.status_code == 201 and answer.json()["status"]["last_error"]["code"]


# ---- what cannot be understood ---------------------------------------------------------------------

BROKEN_BODIES = [
    (b"", "empty"), (b"{", "cut off"), (b'{"id": }', "no value"), (b"[1,]", "trailing comma"),
    (b'{"id": "a"} x', "more behind"), (b"\xff\xfe", "no UTF-8"), (b"nul", "no word"),
    (b'{"a": 1, "a": 2}', "a field twice"), (b"[" * 100000, "deep"), (b'{"a": 1e999}', "huge"),
]


@pytest.fixture
def quiet_fleet(fleet):
    """One node, for requests that must not change anything."""
    fleet.start_node()
    yield fleet
    assert fleet.api.get("/livez").status_code == 200
    assert fleet.redis.client.hlen("mqtt_config:no") == 0
    assert fleet.redis.client.hlen("mqtt_config:use") == 0


def test_kf14_broken_json_is_400_with_line_and_column(quiet_fleet):
    api = quiet_fleet.api
    for body, name in BROKEN_BODIES:
        for method, path in (("POST", CLIENTS), ("PUT", CLIENTS + "/x"),
                             ("POST", CLIENTS + "/x/publish"), ("POST", "/public_create_mqtt"),
                             ("POST", "/create_mqtt"), ("POST", "/push_data"),
                             ("POST", "/fleet/claim")):
            answer = api.call(method, path, data=body)
            assert 400 <= answer.status_code < 500, (name, path, answer.status_code)
    detail = problem(api.call("POST", CLIENTS, data=b'{\n  "id": "a",\n  oops\n}'), 400)["detail"]
    assert "line 3" in detail and "column" in detail, detail


def test_a_body_over_the_limit_is_413(quiet_fleet):
    node = quiet_fleet.start_node("tight", http__body_max_bytes=2048)
    assert problem(node.api.call("POST", CLIENTS, data=b"[" + b" " * 5000 + b"]"), 413)
    # The body is only announced, never sent.
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as one:
        one.sendall(b"POST /api/v1/clients HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert b" 413 " in one.recv(4096)
    chunks = (b" " * 1000 for _ in range(10))
    assert node.api.call("POST", CLIENTS, data=chunks).status_code == 413
    assert node.api.get("/livez").status_code == 200


INVALID = [
    ({"id": ""}, {"/id"}),
    ({"id": "a/b"}, {"/id"}),
    ({"id": "a\u0000b"}, {"/id"}),
    ({"id": "x" * 300}, {"/id"}),
    ({"id": 7}, {"/id"}),
    ({"url": "http://h:1"}, {"/url"}),
    ({"url": "mqtt://h:99999"}, {"/url"}),
    ({"url": 5}, {"/url"}),
    ({"surprise": 1}, {"/surprise"}),
    ({"a/b~c": 1}, {"/a~1b~0c"}),
    ({"client_id": "x" * 70000}, {"/client_id"}),
    ({"keepalive_s": 65536}, {"/keepalive_s"}),
    ({"keepalive_s": "60"}, {"/keepalive_s"}),
    ({"keepalive_s": -1}, {"/keepalive_s"}),
    ({"protocol_version": 3}, {"/protocol_version"}),
    ({"clean_start": 1}, {"/clean_start"}),
    ({"session_expiry_s": 2**32}, {"/session_expiry_s"}),
    ({"receive_maximum": 0.5}, {"/receive_maximum"}),
    ({"subscriptions": {}}, {"/subscriptions"}),
    ({"subscriptions": [{"filter": "a/#/b", "qos": 1}]}, {"/subscriptions/0/filter"}),
    ({"subscriptions": [{"filter": "a", "qos": 3}]}, {"/subscriptions/0/qos"}),
    ({"subscriptions": [{"filter": "ok"}, {"filter": "a+"}, {"filter": ""}]},
     {"/subscriptions/1/filter", "/subscriptions/2/filter"}),
    ({"subscriptions": [{"filter": "$share//x", "qos": 0}]}, {"/subscriptions/0/filter"}),
    ({"subscriptions": [{"qos": 0}]}, {"/subscriptions/0/filter"}),
    ({"subscriptions": [{"filter": "a", "colour": 1}]}, {"/subscriptions/0/colour"}),
    ({"will": {"topic": "a/#", "payload": ""}}, {"/will/topic"}),
    ({"will": {"payload": "x"}}, {"/will/topic"}),
    ({"tls": {"ca": "neither path nor PEM"}}, {"/tls/ca"}),
    ({"tls": []}, {"/tls"}),
    ({"labels": {"a": 1}}, {"/labels/a"}),
    ({"desired": "sleeping"}, {"/desired"}),
    ({"sink": "pigeon"}, {"/sink"}),
    ({"username": "\ud800"}, {"/username"}),
    ({"keepalive_s": -1, "qos": 1, "clean_start": "no"}, {"/keepalive_s", "/qos", "/clean_start"}),
]


@pytest.mark.parametrize("change,expected", INVALID, ids=[
    "+".join(sorted(row[1])) + f"-{number}" for number, row in enumerate(INVALID)])
def test_an_invalid_document_is_422_with_a_pointer_per_fault(shared_api, change, expected):
    document = {"id": "x", "url": "mqtt://127.0.0.1:1", **change}
    if "tls" in change:
        document["url"] = "mqtts://127.0.0.1:1"
    assert pointers(shared_api.post(CLIENTS, document)) >= expected
    if "id" not in change:
        assert shared_api.get(CLIENTS + "/x").status_code == 404


def test_bad_utf8_is_422_with_a_pointer(shared_api):
    body = b'{"id": "x", "url": "mqtt://127.0.0.1:1", "username": "\xff\xfe"}'
    assert pointers(shared_api.call("POST", CLIENTS, data=body)) == {"/username"}


# ---- unknown things --------------------------------------------------------------------------------


def test_kf14_an_unknown_id_is_an_answer_on_every_route(shared_api):
    for name in ("nobody", "a%20b", "%F0%9F%98%80", "...", "x" * 2000, "%00", "%", "%ff"):
        path = f"{CLIENTS}/{name}"
        for method, tail in (("GET", ""), ("DELETE", ""), ("GET", "/events"),
                             ("POST", "/pause"), ("POST", "/resume"), ("POST", "/restart"),
                             ("POST", "/release"), ("GET", "/no-such-thing")):
            answer = shared_api.call(method, path + tail)
            assert answer.status_code in (400, 404, 405), (method, path + tail, answer.status_code)
        answer = shared_api.post(path + "/publish", {"topic": "a", "payload": ""})
        assert answer.status_code in (400, 404), answer.text
        answer = shared_api.get(f"/api/v1/nodes/{name}")
        assert answer.status_code in (400, 404), answer.text
        for verb in ("drain", "undrain"):
            answer = shared_api.post(f"/api/v1/nodes/{name}/{verb}")
            assert answer.status_code in (400, 404), answer.text
        for route in ("/mqtt_config", "/no_mqtt_config", "/remove_mqtt_client"):
            answer = shared_api.get(f"{route}?id={name}")
            assert answer.status_code in (200, 400, 404), (route, answer.text)
    problem(shared_api.get(CLIENTS + "/nobody"), 404)
    problem(shared_api.put(CLIENTS + "/nobody", {"url": "mqtt://h"}), 404)
    problem(shared_api.get("/no/such/path"), 404)
    assert problem(shared_api.call("PATCH", CLIENTS), 405)
    assert "POST" in shared_api.call("PATCH", CLIENTS).headers["Allow"]
    assert shared_api.get("/livez").status_code == 200


@pytest.mark.parametrize("method,path", [
    ("POST", "/api/v1/dead-letters:drop?sink=a&sink=b"),
    ("PUT", "/api/v1/client-profiles/p?dry_run=true&dry_run=false"),
    ("POST", "/api/v1/clients:apply?dry_run=true&dry_run=true"),
    ("GET", "/api/v1/changes?limit=1&limit=2"),
    ("POST", "/api/v1/clients/x/pause?wait_ms=1&wait_ms=2"),
])
def test_case_H_a_parameter_given_twice_is_refused(shared_api, method, path):
    answer = shared_api.call(method, path, data=b"[]")
    assert "is given twice" in problem(answer, 400)["detail"], answer.text


# ---- change ----------------------------------------------------------------------------------------


def test_put_replaces_under_the_expected_version_only(fleet):
    fleet.start_nodes(2)
    document = fleet.document("pump")
    fleet.api.create(document)
    fleet.api.wait_state("pump", "online")
    etag = fleet.api.get(fleet.api.path("pump")).headers["ETag"]
    changed = {**document, "keepalive_s": 31}
    answer = fleet.api.put(fleet.api.path("pump"), changed, headers={"If-Match": etag})
    assert answer.status_code == 200 and answer.json()["version"] > int(etag.strip('"'))
    assert answer.headers["ETag"] != etag
    problem(fleet.api.put(fleet.api.path("pump"), document, headers={"If-Match": etag}), 412)
    problem(fleet.api.delete(fleet.api.path("pump"), headers={"If-Match": etag}), 412)
    wait_until(lambda: fleet.broker.connect_options("pump")[2] == 31, 15, "runs as version 2")
    problem(fleet.api.put(fleet.api.path("pump"), {**changed, "id": "other"}), 422)
    assert fleet.api.delete(fleet.api.path("pump"),
                            headers={"If-Match": answer.headers["ETag"]}).status_code == 204
    problem(fleet.api.get(fleet.api.path("pump")), 404)


def test_kf22_a_change_is_kept_and_applied_or_neither(fleet):
    nodes = fleet.start_nodes(2)
    document = fleet.document("pump")
    fleet.api.create(document)
    fleet.api.wait_state("pump", "online")
    bad = {**document, "subscriptions": [{"filter": "new/#", "qos": 7}]}
    problem(fleet.api.put(fleet.api.path("pump"), bad), 422)
    assert fleet.api.client("pump")["config"] == document
    fleet.broker.publish("t/pump/x", "still")
    fleet.stream.wait_payloads([b"still"])

    good = {**document, "subscriptions": [{"filter": "new/#", "qos": 1}]}
    assert fleet.api.put(fleet.api.path("pump"), good).status_code == 200
    wait_until(lambda: "new/#" in fleet.broker.subscriptions()["pump"], 15, "applied")
    owner = fleet.api.client("pump")["placement"]["node"]
    dying, staying = nodes if owner == nodes[0].name else nodes[::-1]
    mark = fleet.broker.mark()
    dying.kill()
    wait_until(lambda: fleet.broker.subscriptions(mark)["pump"] == {"new/#"}, 20, "kept")
    staying.api.wait_state("pump", "online")
    assert staying.api.client("pump")["config"] == good


@pytest.mark.every_engine
def test_pause_resume_and_restart_from_any_node(fleet):
    nodes = fleet.start_nodes(2)
    fleet.online(2)
    for node in nodes:
        client = "c00000"
        for verb, state in (("pause", "paused"), ("resume", "online")):
            assert node.api.post(node.api.path(client, verb)).status_code in (200, 202)
            node.api.wait_state(client, state)
        mark = fleet.broker.mark()
        assert node.api.post(node.api.path(client, "restart")).status_code in (200, 202)
        wait_until(lambda: fleet.broker.connects(mark)[client] == 1, 10, "connected anew")
        node.api.wait_state(client, "online")
    # A pause outlives the node.
    fleet.api.post(fleet.api.path("c00001", "pause"))
    owner = fleet.api.client("c00001")["placement"]
    if owner:
        next(node for node in nodes if node.name == owner["node"]).kill()
    wait_until(lambda: fleet.api.client("c00001")["desired"] == "paused", 20)
    fleet.api.wait_state("c00001", "paused", 20)


def test_events_tell_the_last_changes(fleet):
    nodes = fleet.start_nodes(2)
    fleet.online(1)
    fleet.api.post(fleet.api.path("c00000", "pause"))
    fleet.api.wait_state("c00000", "paused")
    for node in nodes:
        answer = node.api.get(node.api.path("c00000", "events"))
        assert answer.status_code == 200
        events = answer.json()["events"]
        assert 2 <= len(events) <= 32
        assert events[-1]["to"] == "paused" and all(event["reason"] for event in events)
        assert any(event["to"] == "online" for event in events)
        assert all(event["at"].endswith("Z") for event in events)


# ---- publish ---------------------------------------------------------------------------------------


@pytest.mark.every_engine
def test_publish_from_every_node_answers_after_the_acknowledgement(fleet):
    nodes = fleet.start_nodes(3)
    fleet.online(2)
    payload = bytes(range(256))
    import base64
    for number, node in enumerate(nodes):
        for qos in (0, 1, 2):
            answer = node.api.publish("c00000", "t/c00001/x", f"{number}-{qos}", qos=qos)
            assert answer.status_code == 200, answer.text
    answer = fleet.api.post(fleet.api.path("c00001", "publish"), {
        "topic": "t/c00000/bin", "payload_base64": base64.b64encode(payload).decode(), "qos": 1,
        "retain": True})
    assert answer.status_code == 200, answer.text
    fleet.stream.wait_payloads(
        [b"%d-%d" % (number, qos) for number in range(3) for qos in range(3)] + [payload])
    assert fleet.api.status("c00000")["messages_out"] == 9


@pytest.mark.every_engine
def test_publish_faults(fleet):
    fleet.start_nodes(2)
    fleet.online(1)
    path = fleet.api.path("c00000", "publish")
    for body, pointer in (({"payload": "x"}, "/topic"), ({"topic": "a/#", "payload": ""}, "/topic"),
                          ({"topic": "a", "payload": "", "qos": 3}, "/qos"),
                          ({"topic": "a", "payload_base64": "%%%"}, "/payload_base64"),
                          ({"topic": "a", "payload": "", "surprise": 1}, "/surprise")):
        assert pointer in pointers(fleet.api.post(path, body))
    fleet.api.post(fleet.api.path("c00000", "pause"))
    fleet.api.wait_state("c00000", "paused")
    problem(fleet.api.publish("c00000", "a", "b"), 409)


# ---- lists and nodes -------------------------------------------------------------------------------


def test_lists_filter_and_page(fleet):
    fleet.start_nodes(2)
    fleet.create(30, "north", labels={"site": "north", "line": "1"})
    fleet.create(20, "south", labels={"site": "south"}, desired="paused")
    fleet.wait_online([f"north{number:05d}" for number in range(30)])
    api = fleet.api
    assert len(api.clients(state="online")) == 30
    wait_until(lambda: len(api.clients(state="paused")) == 20, 10)
    assert len(api.clients(**{"label.site": "south"})) == 20
    assert len(api.clients(**{"label.site": "north", "label.line": "1"})) == 30
    assert len(api.clients(**{"label.site": "south", "label.line": "1"})) == 0
    assert sum(len(api.clients(node=name)) for name in ("n1", "n2")) == 50
    first = api.get(CLIENTS, params={"limit": 7}).json()
    assert len(first["clients"]) == 7 and first["next_cursor"]
    everything = api.clients(limit=7)
    assert len(everything) == 50 and len({one["id"] for one in everything}) == 50
    assert {one["id"] for one in fleet.nodes[1].api.clients(limit=7)} == {
        one["id"] for one in everything}
    for bad in ({"limit": "0"}, {"limit": "many"}, {"cursor": "!!"}, {"state": "happy"},
                {"surprise": "1"}):
        assert 400 <= api.get(CLIENTS, params=bad).status_code < 500, bad


def test_a_list_misses_nobody_who_is_being_placed(fleet):
    fleet.start_nodes(2)
    ids = set(fleet.create(400))
    states = {}
    while set(states.values()) != {"online"}:
        states = {one["id"]: one["status"]["state"] for one in fleet.api.clients()}
        assert set(states) == ids


def test_nodes_are_shown_with_their_facts(fleet):
    fleet.start_node("a", node_info__size=50)
    fleet.start_node("b", node_info__type="edge")
    fleet.online(6)
    nodes = fleet.api.nodes()
    assert set(nodes) == {"a", "b"}
    assert set(nodes["a"]) >= {"name", "host", "port", "type", "size", "clients", "state", "leader",
                               "incarnation", "beat_age_ms", "version", "started_at",
                               "differing_settings"}
    assert (nodes["a"]["size"], nodes["b"]["type"], nodes["a"]["clients"]) == (50, "edge", 3)
    wait_until(lambda: sum(node["leader"] for node in fleet.api.nodes().values()) == 1, 10)
    assert fleet.api.get("/api/v1/nodes/b").json()["name"] == "b"


def test_drain_empties_a_node_and_undrain_lets_it_work_again(fleet):
    fleet.start_nodes(2)
    ids = fleet.online(20)
    assert fleet.api.post("/api/v1/nodes/n2/drain").status_code in (200, 202)
    wait_until(lambda: fleet.shared().counts() == {"n1": 20, "n2": 0}, 20, "n2 is empty")
    fleet.wait_online(ids)
    assert fleet.api.nodes()["n2"]["state"] == "draining"
    fleet.online(5, prefix="more")
    assert fleet.shared().counts() == {"n1": 25, "n2": 0}
    assert fleet.api.post("/api/v1/nodes/n2/undrain").status_code in (200, 202)
    fleet.online(5, prefix="evenmore")
    assert fleet.shared().counts() == {"n1": 25, "n2": 5}
    assert not fleet.broker.takeovers()


# ---- secrets ---------------------------------------------------------------------------------------


def test_kf29_secrets_are_in_no_answer_and_no_log(fleet):
    nodes = fleet.start_nodes(2, log__level="debug")
    secrets = ["correct-horse-battery", "user-with-secret-in-url-pw"]
    fleet.api.create(fleet.document("pump", username="u", password=secrets[0]))
    wrong = fleet.api.post(CLIENTS, fleet.document("bad", password=secrets[0], keepalive_s=-1))
    answers = [wrong.text]
    odd = fleet.document("odd")
    odd["url"] = odd["url"].replace("://", f"://u:{secrets[1]}@")
    answers.append(fleet.api.post(CLIENTS, odd).text)
    fleet.redis.client.hset("mqtt_config:no", "hand", json.dumps(
        {"broker": "127.0.0.1", "port": fleet.broker.port, "client_id": "hand",
         "username": "u", "password": secrets[0], "sub_topic": "x"}))
    fleet.redis.client.hset("mqtt_config:no", "rubbish", '{"password": "%s", ' % secrets[0])
    fleet.wait_online(["pump", "hand"])
    for node in nodes:
        for path in (CLIENTS, CLIENTS + "/pump", CLIENTS + "/hand", CLIENTS + "/rubbish",
                     CLIENTS + "/pump/events", "/node_using_status", "/node_list",
                     "/mqtt_config?id=pump", "/mqtt_config?id=hand", "/no_mqtt_config?id=rubbish"):
            answers.append(node.api.get(path).text)
    document = fleet.api.client("pump")
    assert document["config"]["password"] == "***"
    # A document can be written back as it was read: the stored secret stays.
    changed = {**document["config"], "keepalive_s": 44}
    answer = fleet.api.put(fleet.api.path("pump"), changed)
    assert answer.status_code == 200, answer.text
    answers.append(answer.text)
    stored = fleet.redis.client.hget("mqtt_config:use", "pump")
    assert secrets[0] in stored and "44" in stored
    for node in nodes:
        assert node.terminate() == 0
    for secret in secrets:
        assert not [text for text in answers if secret in text]
        assert all(secret not in node.log() for node in nodes)


def test_a_page_of_another_site_may_not_use_the_api(fleet):
    node = fleet.start_node()
    url = f"http://127.0.0.1:{node.port}/api/v1/clients"
    document = fleet.document("x")
    foreign = requests.post(url, json=document, headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert fleet.api.get("/api/v1/clients/x").status_code == 404
    own = requests.post(url, json=document, headers={"Origin": f"http://127.0.0.1:{node.port}"})
    assert own.status_code == 201


@pytest.mark.parametrize("field,value", [
    ("client_id", "a\u0001b"), ("sub_topic", "a/\u007f"), ("client_id", "a\ufffe")])
def test_characters_on_which_brokers_close_are_refused(shared_api, field, value):
    answer = shared_api.post(CLIENTS, {"id": "x", "broker": "127.0.0.1", field: value})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/{field}"


def test_kf27_a_tls_file_that_never_ends_stalls_nobody(fleet):
    fleet.start_node(secrets__files_allow=f"{fleet.folder},/dev")
    pipe = fleet.folder / "pipe"
    os.mkfifo(pipe)
    healthy = fleet.online(5)
    for name in (pipe, "/dev/zero", fleet.folder / "missing"):
        fleet.api.create([{"id": pathlib.Path(name).name, "url": f"mqtts://127.0.0.1:"
                           f"{fleet.broker.port}", "tls": {"ca": str(name)}}])
        wait_until(lambda: (fleet.api.status(pathlib.Path(name).name)["last_error"] or {})
                   .get("code") == "tls_file_unreadable", 20, f"{name} is named")
    assert fleet.api.publish(healthy[0], topic="t", payload="x", qos=1).status_code == 200


@pytest.mark.every_engine
def test_kf27_publications_that_hang_leave_room_for_others(fleet):
    """Publications to a broker that never acknowledges wait; those to other brokers continue."""
    fleet.start_node(publish_timeout_ms=15000)
    silent = fleet.start_broker("silent")
    fleet.online(1)
    fleet.api.create([{"id": "hangs", "url": silent.url}])
    fleet.wait_online(["hangs"])
    silent.pause()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        hung = [pool.submit(fleet.api.publish, "hangs", topic="t", payload="x", qos=1)
                for _ in range(20)]
        for _ in range(20):
            assert fleet.api.publish("c00000", topic="t", payload="x", qos=1).status_code == 200
        assert not any(one.done() for one in hung)
        silent.resume()
    codes = [one.result().status_code for one in hung]
    assert set(codes) <= {200, 502, 504}


def test_connections_that_never_finish_a_request_shut_nobody_out(fleet):
    most = 50
    node = fleet.start_node(http__connections_max=most)
    fleet.online(1)
    slow = []
    for number in range(3 * most):
        connection = socket.create_connection(("127.0.0.1", node.port))
        fleet.closing(connection)
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Slow: " if number % 2 else b"")
        slow.append(connection)
    for _ in range(5):
        assert requests.get(f"http://127.0.0.1:{node.port}/livez", timeout=10).status_code == 200
        answer = requests.post(f"http://127.0.0.1:{node.port}/api/v1/clients/c00000/publish",
                               json={"topic": "t", "payload": "x", "qos": 1}, timeout=10)
        assert answer.status_code == 200
    slow[0].settimeout(10)
    assert slow[0].recv(1) == b"", "the one that waited longest was closed"
