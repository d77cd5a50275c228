"""docs/openapi.json matches the node: the test sends each request and checks each response."""

import copy
import json
import os
import pathlib
import re
import subprocess

import jsonschema
import pytest

from fleet.sse import EventReader
from test_access import Desk
from fleet.wait import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "openapi.json").read_text()
DOCUMENT = json.loads(TEXT)
SCHEMAS = DOCUMENT["components"]["schemas"]
RESOLVER = jsonschema.RefResolver("", DOCUMENT)
METHODS = {"get", "put", "post", "patch", "delete"}
OPERATIONS = [(path, method, operation) for path, item in DOCUMENT["paths"].items()
              for method, operation in item.items()]


def validate(value, schema):
    jsonschema.Draft202012Validator(schema, resolver=RESOLVER).validate(value)


def is_valid(value, schema):
    return jsonschema.Draft202012Validator(schema, resolver=RESOLVER).is_valid(value)


def named(name):
    return {"$ref": f"#/components/schemas/{name}"}


def response_of(operation, status):
    assert str(status) in operation["responses"], (operation["operationId"], status)
    response = operation["responses"][str(status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    return response


def check_answer(operation, answer, method="get"):
    """The answer is one that is documented, in status, media type and shape."""
    content = response_of(operation, answer.status_code).get("content", {})
    kind = answer.headers.get("Content-Type", "").split(";")[0]
    if not content:
        assert answer.content == b"", answer.text
        return
    assert kind in content, (operation["operationId"], answer.status_code, kind, list(content))
    if kind.endswith("json"):
        validate(answer.json(), content[kind]["schema"])


def test_the_node_serves_it_and_it_is_good(shared_api):
    answer = shared_api.get("/openapi.json")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/json"
    assert answer.text == TEXT
    assert DOCUMENT["openapi"].startswith("3.1.")
    linter = ROOT / "build" / "npm" / "node_modules" / ".bin" / "redocly"
    if not linter.exists():
        pytest.skip("tools/install-deps --test could not bring @redocly/cli from the npm registry")
    run = subprocess.run([linter, "lint", "--config", ROOT / ".redocly.yaml",
                          ROOT / "docs" / "openapi.json"], capture_output=True, text=True,
                         timeout=120, env={**os.environ, "REDOCLY_TELEMETRY": "off",
                                           "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"})
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_generated_client_may_omit_what_is_optional():
    """Generators make a member with a default required."""
    def defaults(schema, place):
        here = [place] if "default" in schema and ("type" in schema or "$ref" in schema) else []
        inner = schema.items() if isinstance(schema, dict) else ()
        return here + [one for name, part in inner if isinstance(part, dict)
                       for one in defaults(part, f"{place}/{name}")]

    assert [one for name, schema in SCHEMAS.items() for one in defaults(schema, name)] == []
    assert named("ClientConfig") in SCHEMAS["Client"]["properties"]["config"]["anyOf"]


def test_generated_types_have_names_and_members():
    """What generators make of other schemas: types without members, without names, or of any value."""
    def faults(schema, place):
        if isinstance(schema, list):
            return [one for index, part in enumerate(schema) for one in faults(part, f"{place}/{index}")]
        if not isinstance(schema, dict):
            return []
        found = []
        if schema.get("type") in ("object", ["object", "null"]):
            if "properties" in schema and place.count("/") and not internal(place):
                found.append(f"{place}: has no name")
            if not {"properties", "additionalProperties"} & set(schema):
                found.append(f"{place}: has no members")
        if "enum" in schema and schema.get("type") != "string":
            found.append(f"{place}: the type of the enum is not string")
        if schema.get("type") == "array" and "items" not in schema:
            found.append(f"{place}: the array has no items")
        return found + [one for name, part in schema.items() if name not in ("example", "examples")
                        for one in faults(part, f"{place}/{name}")]

    def internal(place):
        return place.startswith("paths//fleet/")

    assert faults(DOCUMENT["paths"], "paths") == []
    assert [one for name, schema in SCHEMAS.items() for one in faults(schema, name)] == []


def test_every_example_fits_its_schema():
    seen = 0
    for _, _, operation in OPERATIONS:
        bodies = [response_of(operation, status) for status in operation["responses"]]
        for body in bodies + [operation.get("requestBody", {})]:
            for kind, content in body.get("content", {}).items():
                for example in content.get("examples", {}).values():
                    validate(example["value"], content["schema"])
                    seen += 1
                    if kind == "text/event-stream":
                        data = re.search("^data: (.*)$", example["value"], re.MULTILINE)[1]
                        validate(json.loads(data), content["schema"]["contentSchema"])
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert seen > 20


# ---- what works ----------------------------------------------------------------------------------


def fill(path, id="pump-7", name="n1"):
    return path.replace("{id}", id).replace("{name}", name).replace("{file}", "console.js")


def placed(value, broker):
    """The example with the broker of the test."""
    text = json.dumps(value).replace("mqtt://127.0.0.1:1883", broker.url)
    return json.loads(text.replace('"port": 1883', f'"port": {broker.port}'))


def query_of(operation):
    required = {}
    for parameter in operation.get("parameters", []):
        if parameter.get("required") and parameter["in"] == "query":
            required[parameter["name"]] = parameter.get("example", "pump-1")
        elif parameter.get("in") == "query" and "example" in parameter:
            required[parameter["name"]] = json.dumps(parameter["example"])
    return required


def bodies_of(operation, broker):
    kinds = operation.get("requestBody", {}).get("content", {})
    content = kinds.get("application/json", kinds.get("application/merge-patch+json", {}))
    examples = [one["value"] for one in content.get("examples", {}).values()]
    return [placed(example, broker) for example in examples] or [None]


LAST = ("deleteClient", "deleteSink", "deleteProfile", "drainNode", "undrainNode", "releaseClient", "profile", "trace")


def test_every_documented_request_is_answered_as_documented(fleet):
    node = fleet.start_node("n1")
    operations = sorted(OPERATIONS, key=lambda entry: entry[2]["operationId"] in LAST)
    done, begun = set(), "none"
    for path, method, operation in operations:
        if "text/event-stream" in operation["responses"]["200" if "200" in operation["responses"]
                                                         else list(operation["responses"])[0]].get(
                                                             "content", {}):
            continue  # below
        query = {"seconds": 1} if operation["operationId"] == "cpuProfile" else query_of(operation)
        if "202" in operation["responses"] and "OperationCount" in json.dumps(operation):
            query["id_prefix"] = "nobody"
        for body in bodies_of(operation, fleet.broker):
            where = fill(path, begun) if "/operations/" in path else fill(path)
            if operation["operationId"] == "publish":  # the configuration has just been changed
                node.api.wait_state("pump-7", "online")
                wait_until(lambda: node.api.publish("pump-7", "t", "x").status_code < 400, 30, "it publishes")
            answer = node.api.call(method.upper(), where, json=body, params=query)
            check_answer(operation, answer)
            begun = answer.json()["id"] if "/operations/" in answer.headers.get("Location", "") else begun
            if answer.status_code < 400:
                done.add(operation["operationId"])
            if operation["operationId"] in ("createClients", "resumeClient", "restartClient",
                                            "replaceClient", "patchClient"):
                node.api.wait_state("pump-7", "online")
    unknown = {operation["operationId"] for _, _, operation in OPERATIONS} - done
    # These need features that this node does not have.
    assert unknown <= {"cancelOperation", "tailMessages", "fleetEvents", "reencryptClients", "releaseClient",
                       "mutexProfile"}, unknown


def test_streams_say_what_is_documented(fleet):
    node = fleet.start_node("n1")
    events = fleet.closing(EventReader(node.api.base + "/api/v1/events"))
    events.wait_comment("listening to the whole fleet")
    fleet.online(1)
    tail = fleet.closing(EventReader(node.api.base + node.api.path("c00000", "messages")))
    tail.wait_comment("runs on this node")
    fleet.broker.publish("t/c00000/text", "hello")
    fleet.broker.publish("t/c00000/bytes", b"\xff" * 70000)
    node.api.post("/api/v1/nodes/n1/drain")
    events.wait(lambda r: r.of("node") and r.of("client"), "clients and a node")
    tail.wait(lambda r: len(r.of("message")) == 2, "two messages")
    for name, data in events.events:
        validate(data, named("FleetEvent"))
        assert data["kind"] == name
    for _, data in tail.events:
        validate(data, named("MessageEvent"))


# ---- what is refused -----------------------------------------------------------------------------


def refused(api, operation, method, path, status, **options):
    answer = api.call(method.upper(), path, **options)
    assert answer.status_code == status, (operation["operationId"], answer.status_code, answer.text)
    check_answer(operation, answer)
    if "application/problem+json" in answer.headers["Content-Type"]:
        assert answer.json()["status"] == status
    return answer


def takes_body(operation):
    return "requestBody" in operation


def test_documented_refusals(fleet):
    node = fleet.start_node("n1", http__body_max_bytes=4096)
    api = node.api
    fleet.create(1, prefix="pump")
    good = fleet.document("pump00000")
    for path, method, operation in OPERATIONS:
        if not path.startswith("/api/v1"):
            continue
        body = {"topic": "x", "payload": ""} if path.endswith("/publish") else good
        options = {"json": body} if takes_body(operation) else {}
        selects = {"$ref": "#/components/parameters/selectState"} in operation.get("parameters", [])
        refused(api, operation, method, fill(path, "pump00000") + "?nonsense=1", 422 if selects else 400, **options)
        if "{" in path:
            if operation["operationId"] not in ("replaceSink", "replaceProfile"):  # which create it
                refused(api, operation, method, fill(path, "nobody", "nobody"), 404, **options)
            refused(api, operation, method, fill(path, "%FF", "%FF"), 400, **options)
        if takes_body(operation):
            here = fill(path, "pump00000")
            refused(api, operation, method, here, 400, data="{")
            refused(api, operation, method, here, 413, data=" " * 5000)
            refused(api, operation, method, here, 422, json={"nonsense": 1})
    by_id = {operation["operationId"]: (method, path, operation)
             for path, method, operation in OPERATIONS}

    def one(name, status, id="pump00000", suffix="", **options):
        method, path, operation = by_id[name]
        return refused(api, operation, method, fill(path, id) + suffix, status, **options)

    one("createClients", 409, json={**good, "keepalive_s": 9})
    one("createClients", 400, suffix="?wait_ms=x", json=good)
    one("createClients", 422, json={"id": "x"})
    one("replaceClient", 412, json=good, headers={"If-Match": '"77"'})
    one("deleteClient", 412, headers={"If-Match": '"77"'})
    one("testClient", 409, json=good)
    one("reencryptClients", 409)
    one("listClients", 400, suffix="?limit=0")
    one("listClients", 422, suffix="?state=odd")
    one("listClients", 404, suffix="?node=nosuch")
    one("fleetEvents", 400, suffix="?kind=odd")
    one("pauseClient", 200)
    api.wait_state("pump00000", "paused")
    one("restartClient", 409)
    one("publish", 409, json={"topic": "x", "payload": ""})
    broken = api.post("/api/v1/clients", [good, {"id": "odd"}])
    assert broken.status_code == 207
    check_answer(by_id["createClients"][2], broken)
    # Redis is unavailable: 503 wherever it is needed.
    fleet.redis.kill()
    for name in ("listClients", "getClient", "listNodes", "getNode", "createClients",
                 "deleteClient", "pauseClient", "drainNode"):
        options = {"json": good} if takes_body(by_id[name][2]) else {}
        one(name, 503, **options)
    fleet.redis.start()
    node.wait_ready(node.ready, 30)


RANKS = {"viewer": 0, "operator": 1, "admin": 2}


def test_each_operation_needs_the_role_it_documents(fleet, tmp_path):
    desk = Desk(fleet, tmp_path)
    node = desk.start_node()
    apis = {role: desk.api(node, role) for role in RANKS}
    for path, method, operation in OPERATIONS:
        role, where = operation["x-role"], fill(path, "nobody", "nobody")
        stream = "text/event-stream" in response_of(operation, min(operation["responses"])).get(
            "content", {})
        if role == "public":
            assert desk.api(node).call(method.upper(), where).status_code != 401
            continue
        refused(desk.api(node), operation, method, where, 401)
        for caller, api in apis.items():
            if role == "node" or RANKS[caller] < RANKS[role]:
                refused(api, operation, method, where, 403)
            elif not stream and "pprof" not in path:
                answer = api.call(method.upper(), where)
                assert answer.status_code not in (401, 403), (path, caller, answer.text)
                check_answer(operation, answer)


# ---- the fields of a configuration ---------------------------------------------------------------

MQTT5 = {"protocol_version": 5}

# field: (a good value, a bad one, what else the document needs)
FIELDS = {
    "id": ("x", "a/b", {}), "client_id": ("device", 5, {}), "url": ("ws://127.0.0.1:1", "host", {}),
    "profile": ("site", "a/b", {}), "routes": ([{"to": ["default"]}], [{"to": 5}], {}),
    "urls": (["mqtt://127.0.0.1:1", "ws://127.0.0.1:2"], ["host"], {}),
    "urls_order": ("random", "asleep", {"urls": ["mqtts://127.0.0.1:1"]}),
    "broker": ("127.0.0.1", "", {}), "port": (1884, 0, {}), "username": ("u", "\x01", {}),
    "password": ("p", 5, {"username": "u"}), "protocol_version": (4, 3, {}),
    "keepalive_s": (0, 65536, {}), "clean_start": (True, "yes", {}),
    "session_expiry_s": (60, -1, MQTT5), "receive_maximum": (1, 0, MQTT5),
    "max_packet_size": (1000, 0, MQTT5), "topic_alias_maximum": (10, 1025, MQTT5),
    "oversize": ("close", "shrink", {}), "user_properties": ({"a": "b"}, {"a": 5}, MQTT5),
    "request_response_information": (True, 1, MQTT5),
    "request_problem_information": (False, "no", MQTT5),
    "will": ({"topic": "t"}, {"topic": 5}, {}), "tls": ({"insecure": True}, {"ca": "x"}, {}),
    "sub_topic": ("a/#", 5, {}), "subscriptions": (["a", {"filter": "b"}], [{"qos": 1}], {}),
    "sink": ("null", "Moon", {}), "labels": ({"a": "b"}, {"a": 5}, {}),
    "limits": ({"messages_per_s": 5}, {"messages_per_s": 0}, {}),
    "desired": ("paused", "asleep", {}), "subscribe_filters_max": (256, 257, {}),
    "expect_message_within_s": (2592000, 2592001, {}), "on_silence": ("reconnect", "restart", {}),
    "reconnect_min_ms": (10, 9, {}),
    "reconnect_max_ms": (60000, 9, {}), "connect_timeout_ms": (5000, 9, {}),
    "websocket": ({"subprotocol": "mqtt"}, {"subprotocol": 5}, {"url": "ws://127.0.0.1:1"}),
}
PARTS = {
    ("subscriptions", "Subscription"): {
        "filter": ("a/+", "", {}), "qos": (2, 3, {}), "no_local": (True, 1, MQTT5),
        "retain_as_published": (True, 1, MQTT5), "retain_handling": (2, 3, MQTT5),
        "identifier": (1, 0, MQTT5)},
    ("will", "Will"): {
        "topic": ("a", "a/#", {}), "payload": ("x", 5, {}), "payload_base64": ("eA==", "?", {}),
        "qos": (2, 3, {}), "retain": (True, 1, {}), "delay_s": (5, -1, MQTT5),
        "payload_format_indicator": (1, 2, MQTT5), "message_expiry_interval": (60, 0, MQTT5),
        "content_type": ("text/plain", 5, MQTT5), "response_topic": ("a/b", "a/#", MQTT5),
        "correlation_data": ("AP8=", "?", MQTT5),
        "user_properties": ({"a": "b"}, {"a": 5}, MQTT5)},
    ("tls", "Tls"): {
        "ca": ("/srv/ca", "ca", {}), "cert": ("/srv/a", "a", {"tls": {"key": "/srv/b"}}),
        "key": ("/srv/b", 5, {"tls": {"cert": "/srv/a"}}), "alpn": (["mqtt"], 5, {}),
        "server_name": ("a.example", "a b", {}), "insecure": (False, "no", {}),
        "key_password": ("p", 5, {"tls": {"cert": "/srv/a", "key": "/srv/b"}}),
        "min_version": ("1.3", "1.4", {}), "security_level": (2, 6, {})},
    ("limits", "Limits"): {
        "messages_per_s": (1000000, 0, {}), "bytes_per_s": (1, 0, {}),
        "burst": (2, 1, {"limits": {"messages_per_s": 1}})},
    ("websocket", "WebSocket"): {
        "headers": ({"Authorization": "Bearer x"}, {"Host": 5}, {"url": "ws://127.0.0.1:1"}),
        "subprotocol": ("mqttv3.1", "a b", {"url": "ws://127.0.0.1:1"})},
}


def documents():
    for field, (good, bad, more) in FIELDS.items():
        base = {"id": "x", "url": "mqtts://127.0.0.1:1", "desired": "paused", **more}
        if field in ("broker", "port"):
            base = {**base, "broker": "127.0.0.1"}
        if field in ("broker", "port", "urls", "urls_order"):
            del base["url"]
        yield "/" + field, {**base, field: good}, {**base, field: bad}
    for (field, _), members in PARTS.items():
        for member, (good, bad, more) in members.items():
            base = {"id": "x", "url": "mqtts://127.0.0.1:1", "desired": "paused",
                    **copy.deepcopy(more)}
            pair = []
            for value in (good, bad):
                part = {"topic": "t"} if field == "will" else {}
                part = {"filter": "f"} if field == "subscriptions" else part
                part.update(base.get(field, {}))
                part[member] = value
                pair.append({**base, field: [part] if field == "subscriptions" else part})
            prefix = f"/{field}/0" if field == "subscriptions" else f"/{field}"
            yield f"{prefix}/{member}", *pair


def test_schema_and_parser_agree_on_every_field(fleet):
    assert set(FIELDS) == set(SCHEMAS["ClientConfig"]["properties"])
    for (_, schema), members in PARTS.items():
        assert set(members) == set(SCHEMAS[schema]["properties"])
    api = fleet.start_node(secrets__files_allow="/srv").api
    assert api.put("/api/v1/client-profiles/site", {"keepalive_s": 5}).status_code == 201
    wrong = []
    for pointer, good, bad in documents():
        answer = api.post("/api/v1/clients", good)
        if answer.status_code != 201 or not is_valid(good, named("ClientConfig")):
            wrong.append((pointer, good, answer.text))
        api.delete("/api/v1/clients/x")
        answer = api.post("/api/v1/clients", bad)
        pointers = {error["pointer"] for error in answer.json().get("errors", [])}
        if answer.status_code != 422 or not any(one.startswith(pointer) or
                                                pointer.startswith(one) for one in pointers):
            wrong.append((pointer, bad, answer.text))
        if is_valid(bad, named("ClientConfig")):
            wrong.append((pointer, bad, "valid by the schema"))
    assert not wrong, "\n".join(map(str, wrong))
