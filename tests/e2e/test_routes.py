"""Routes of the fleet: which sinks a message goes to, what holds it, and what explains it."""

import pytest

from fleet.wait import holds_for, wait_until

ROUTES = "/api/v1/routes"


def put_routes(api, routes, expect=200, **headers):
    answer = api.put(ROUTES, {"routes": routes}, headers=headers or None)
    assert answer.status_code == expect, answer.text
    return answer


def add_stream(api, name):
    answer = api.put(f"/api/v1/sinks/{name}", {"type": "redis_stream", "key": name})
    assert answer.status_code in (200, 201), answer.text


def payloads(fleet, key):
    return [fields[b"payload"] for _, fields in fleet.redis.bytes_client.xrange(key)]


def wait_applied(fleet, topic, key, client="c00000"):
    """Until a message to the topic reaches the stream: routes take effect within a heartbeat."""
    def reached():
        fleet.broker.publish(f"t/{client}/{topic}", b"probe")
        return b"probe" in payloads(fleet, key)
    wait_until(reached, 30, f"{topic} goes to {key}")


@pytest.fixture
def routed(fleet):
    """A node with three streams and a client."""
    node = fleet.start_node()
    for name in ("alarms", "archive", "audit"):
        add_stream(node.api, name)
    fleet.online(1, labels={"site": "oslo"})
    return node


def test_messages_go_where_the_routes_say(fleet, routed):
    put_routes(routed.api, [
        {"name": "alarms", "match": {"topic": "t/+/alarm/#", "labels": {"site": "oslo"}},
         "to": ["alarms", "archive"], "also": ["audit"], "stop": True},
        {"match": {"topic": "t/+/alarm/#"}, "to": ["default"]},
        {"match": {"when": {"pointer": "/level", "gt": 3}}, "to": ["archive"]}])
    wait_applied(fleet, "alarm/x", "alarms")
    fleet.broker.publish("t/c00000/alarm/1", b"fire")
    fleet.broker.publish("t/c00000/state", b'{"level":5}')
    fleet.broker.publish("t/c00000/state", b'{"level":1}')
    wait_until(lambda: b'{"level":1}' in payloads(fleet, "mqtt_msg"), 20, "the default gets the rest")
    wait_until(lambda: b"fire" in payloads(fleet, "audit"), 20, "the copy")
    assert b"fire" in payloads(fleet, "alarms") and b"fire" in payloads(fleet, "archive")
    assert b'{"level":5}' in payloads(fleet, "archive")
    assert not {b"fire", b'{"level":5}'} & set(payloads(fleet, "mqtt_msg"))


def test_numbered_messages_reach_both_sinks_in_order_while_routes_change(fleet, routed):
    both = [{"to": ["alarms", "archive"]}]
    put_routes(routed.api, both)
    wait_applied(fleet, "n", "alarms")
    numbers = [str(number).encode() for number in range(1500)]
    for begin in range(0, 1500, 300):
        fleet.broker.publish_all([("t/c00000/n", number) for number in numbers[begin:begin + 300]])
        put_routes(routed.api, both + [{"match": {"topic": f"other/{begin}"}, "to": ["audit"]}])
    for key in ("alarms", "archive"):
        wait_until(lambda key=key: payloads(fleet, key)[-1:] == [b"1499"], 30, f"the last in {key}")
        assert [body for body in payloads(fleet, key) if body != b"probe"] == numbers


def test_a_sink_that_fails_holds_only_messages_for_it_and_none_is_doubled(fleet, routed):
    put_routes(routed.api, [{"match": {"topic": "t/+/both"}, "to": ["alarms", "archive"]},
                            {"match": {"topic": "t/+/one"}, "to": ["archive"]}])
    wait_applied(fleet, "both", "alarms")
    fleet.redis.client.rename("alarms", "kept")
    fleet.redis.client.set("alarms", "not a stream")
    numbers = [str(number).encode() for number in range(8)]  # the broker sends 20 unacknowledged
    fleet.broker.publish_all([("t/c00000/both", number) for number in numbers])
    fleet.broker.publish("t/c00000/one", b"free")
    wait_until(lambda: b"free" in payloads(fleet, "archive"), 20, "what the other sink takes")
    fleet.redis.client.delete("alarms")

    def taken(key):  # the last probe may still be on its way
        return [body for body in payloads(fleet, key) if body not in (b"probe", b"free")]
    wait_until(lambda: taken("alarms") == numbers, 30, "the rest, in order")
    assert taken("archive") == numbers


def test_a_script_changes_filters_and_fails_visibly(fleet, routed):
    script = ("return function(m) if m.payload == 'drop' then return nil end "
              "if m.payload == 'fail' then error('no such thing') end "
              "m.payload = m.payload:upper() .. m.labels.site return {m, m} end")
    put_routes(routed.api, [{"name": "shout", "to": ["alarms"], "lua": script}])
    wait_until(lambda: (fleet.broker.publish("t/c00000/n", b"x"),
                        b"Xoslo" in payloads(fleet, "alarms"))[1], 30, "applied")
    fleet.redis.client.delete("alarms")
    for body in (b"drop", b"fail", b"last"):
        fleet.broker.publish("t/c00000/n", body)
    wait_until(lambda: payloads(fleet, "alarms").count(b"LASToslo") == 2, 20, "two of the last")
    wait_until(lambda: fleet.redis.client.xlen("mqtt_dead") == 1, 20, "the dead letter")
    _, fields = fleet.redis.bytes_client.xrange("mqtt_dead")[0]
    assert fields[b"payload"] == b"fail"
    assert any(b"route 0 shout: lua:1: no such thing" in value for value in fields.values())
    letters = "/api/v1/dead-letters"
    assert routed.api.get(letters + "?sink=(routes)").json()["total"] == 1
    replayed = routed.api.post(letters + ":replay?all=true").json()
    assert replayed["failed"] == 1 and "script of a route" in replayed["failures"][0]["detail"]
    assert routed.api.post(letters + ":drop?sink=(routes)").json()["dropped"] == 1


def test_a_client_may_have_routes_of_its_own(fleet, routed):
    api = routed.api
    path = "/api/v1/clients/c00000"
    put_routes(api, [{"name": "all", "match": {"topic": "t/+/f/#"}, "to": ["archive"]}])
    wait_applied(fleet, "f/x", "archive")
    connected = api.get(path).json()["status"]["connected_at"]

    def change(routes, expect=200):
        config = api.get(path).json()["config"]
        answer = api.put(path, {**config, "routes": routes})
        assert answer.status_code == expect, answer.text
        return answer.json()
    faults = change([{"to": ["nobody"]}, {"match": {"qos": 7}, "to": ["audit"]}], 422)["errors"]
    assert [fault["pointer"] for fault in faults] == ["/routes/1/match/qos"]
    faults = change([{"to": ["nobody"]}], 422)["errors"]
    assert [fault["pointer"] for fault in faults] == ["/routes/0/to/0"]
    change([{"name": "own", "match": {"topic": "t/+/f/stop"}, "to": ["alarms"], "stop": True},
            {"match": {"topic": "t/+/#"}, "to": ["audit"]}])
    wait_applied(fleet, "f/stop", "alarms")
    for topic, body in (("f/stop", b"1"), ("f/go", b"2"), ("x", b"3")):
        fleet.broker.publish(f"t/c00000/{topic}", body)
    wait_until(lambda: b"3" in payloads(fleet, "audit"), 20, "the last")
    wait_until(lambda: b"2" in payloads(fleet, "archive"), 20, "those of the fleet follow")
    assert b"1" in payloads(fleet, "alarms")
    assert b"2" in payloads(fleet, "audit")
    assert b"1" not in payloads(fleet, "audit") + payloads(fleet, "archive")
    assert b"3" not in payloads(fleet, "archive") + payloads(fleet, "mqtt_msg")
    assert api.get(path).json()["status"]["connected_at"] == connected

    seen = api.post(ROUTES + ":explain", {"client": "c00000", "topic": "t/c00000/f/x"}).json()
    assert [(row["of"], row["route"]) for row in seen["matched"]] == [("client", 1), ("fleet", 0)]
    assert sorted(seen["to"]) == ["archive", "audit"] and not seen["default"]
    answer = api.delete("/api/v1/sinks/audit")
    assert answer.status_code == 409 and answer.json()["clients"] == ["c00000"]
    change([])
    assert api.delete("/api/v1/sinks/audit").status_code == 204


def test_a_sink_that_routes_name_is_not_deleted(fleet, routed):
    put_routes(routed.api, [{"to": ["default"], "also": ["audit"]}])
    answer = routed.api.delete("/api/v1/sinks/audit")
    assert answer.status_code == 409 and answer.json()["routes"] == [0]
    put_routes(routed.api, [])
    assert routed.api.delete("/api/v1/sinks/audit").status_code == 204


def test_versions_and_faults(fleet, routed):
    none = routed.api.get(ROUTES).headers["ETag"]
    first = put_routes(routed.api, [{"to": ["alarms"]}], **{"If-Match": none})
    put_routes(routed.api, [], 412, **{"If-Match": none})
    etag = first.headers["ETag"]
    assert routed.api.get(ROUTES).headers["ETag"] == etag
    put_routes(routed.api, [{"to": ["archive"]}], **{"If-Match": etag})
    put_routes(routed.api, [], 412, **{"If-Match": etag})
    put_routes(routed.api, [], 400, **{"If-Match": "nonsense"})
    answer = put_routes(routed.api, [{"to": ["nowhere"]}, {"match": {"topic": "a/#/b", "qos": 3}, "to": ["alarms"]}], 422)
    pointers = {fault["pointer"] for fault in answer.json()["errors"]}
    assert {"/routes/1/match/topic", "/routes/1/match/qos"} <= pointers
    answer = put_routes(routed.api, [{"to": ["nowhere"]}], 422)
    assert answer.json()["errors"][0]["pointer"] == "/routes/0/to/0"
    assert routed.api.put(ROUTES, {"routes": 7}).status_code == 422
    assert routed.api.put(ROUTES, {}).status_code == 422
    assert routed.api.get(ROUTES).json()["routes"] == [{"to": ["archive"]}]


def test_explain_shows_the_way_and_the_form(fleet, routed):
    routes = [{"name": "a", "match": {"labels": {"site": "oslo"}}, "to": ["alarms"], "also": ["audit"]},
              {"match": {"topic": "no"}, "to": ["archive"]},
              {"name": "b", "match": {"topic": "t/#"}, "to": ["archive"],
               "lua": "return function(m) m.payload = 'made' return m end"}]
    put_routes(routed.api, routes)

    def explain(**question):
        answer = routed.api.post(ROUTES + ":explain", question)
        assert answer.status_code == question.pop("expect", 200), answer.text
        return answer.json()
    wait_until(lambda: explain(client="c00000", topic="x")["to"] == ["alarms"], 20, "applied")
    seen = explain(client="c00000", topic="t/c00000/x", payload="p", qos=1)
    assert [row["route"] for row in seen["matched"]] == [0, 2]
    assert (seen["to"], seen["also"], seen["default"]) == (["alarms"], ["audit"], False)
    assert seen["message"]["payload"] == "p"
    assert seen["scripted"][0]["to"] == ["archive"]
    assert seen["scripted"][0]["messages"][0]["payload"] == "made"
    assert explain(topic="x")["to"] == ["default"] and explain(topic="x")["default"]
    assert explain(topic="x", routes=[{"to": ["audit"]}])["to"] == ["audit"]
    level = [{"match": {"when": {"pointer": "/level", "eq": 5}}, "to": ["audit"]}]
    for spaces, default in ((100, False), (1 << 20, True)):  # more than 1 MiB is not read as JSON
        assert explain(topic="x", routes=level, payload='{"level":5}' + " " * spaces)["default"] == default
    assert routed.api.post(ROUTES + ":explain", {"topic": "a/#"}).status_code == 422
    assert routed.api.post(ROUTES + ":explain", {"topic": "a", "client": "nobody"}).status_code == 404


def test_every_node_applies_them_and_a_restart_keeps_them(fleet, routed):
    other = fleet.start_node()
    put_routes(routed.api, [{"to": ["alarms"]}])
    wait_until(lambda: "routes" in other.api.get(ROUTES).json(), 10, "answered")

    def applied(node):
        return node.api.post(ROUTES + ":explain", {"topic": "x"}).json()["to"] == ["alarms"]
    wait_until(lambda: applied(routed) and applied(other), 30, "both apply them")
    other.terminate()
    other.start()
    wait_until(lambda: applied(other), 30, "after a restart")
    fleet.redis.client.delete("mqtt_fleet:routes")
    holds_for(lambda: applied(routed), 2)


def test_a_node_that_cannot_use_the_routes_keeps_the_old_ones_or_starts_no_client(fleet, routed):
    put_routes(routed.api, [{"to": ["alarms"]}])
    wait_applied(fleet, "n", "alarms")
    redis = fleet.redis.client
    good = redis.get("mqtt_fleet:routes")
    version = int(good.split()[0])
    redis.set("mqtt_fleet:routes", f'{version + 1} {version}\n[{{"to":["alarms"],"of_later":1}}]')
    redis.set("mqtt_fleet:resources", int(redis.get("mqtt_fleet:resources")) + 1)
    wait_until(lambda: "event=routes_not_applied" in routed.log(), 20, "told")
    fleet.broker.publish("t/c00000/n", b"kept")
    wait_until(lambda: b"kept" in payloads(fleet, "alarms"), 20, "by the old routes")
    routed.terminate()
    routed.start()
    holds_for(lambda: routed.api.client("c00000")["status"]["state"] != "online", 4)
    redis.set("mqtt_fleet:routes", good)
    redis.set("mqtt_fleet:resources", int(redis.get("mqtt_fleet:resources")) + 1)
    fleet.wait_online(["c00000"])
    fleet.broker.publish("t/c00000/n", b"again")
    wait_until(lambda: b"again" in payloads(fleet, "alarms"), 20, "by the routes")
