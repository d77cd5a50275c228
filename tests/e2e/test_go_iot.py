"""Go IoT's routes, with its JSON shapes and its status fields in the body."""

import pytest

from fleet.wait import wait_until


def flat(fleet, client, **more):
    return {"broker": "127.0.0.1", "port": fleet.broker.port, "username": "user",
            "password": "word", "sub_topic": f"t/{client}", "client_id": client, **more}


def body(answer, status=200):
    document = answer.json()
    assert document["status"] == status, document
    assert isinstance(document["message"], str)
    return document


@pytest.mark.parametrize("route", ["/public_create_mqtt", "/create_mqtt"])
def test_a_client_is_created_shown_used_and_removed(fleet, route):
    nodes = fleet.start_nodes(2)
    api = fleet.api
    body(api.post(route, flat(fleet, "plc")))
    api.wait_state("plc", "online")
    assert body(api.post(route, flat(fleet, "plc", sub_topic="other")), 400)

    shown = body(nodes[1].api.get("/mqtt_config?id=plc"))["data"]
    assert {**shown, "password": "word"} == flat(fleet, "plc")
    assert shown["password"] != "word"

    using = {row["name"]: row for row in body(api.get("/node_using_status"))["data"]}
    assert set(using) == {"n1", "n2"}
    owner = next(row for row in using.values() if row["size"] == 1)
    assert owner["client_ids"] == ["plc"] and owner["max_size"] == 10000
    assert owner["client_infos"][0]["client_id"] == "plc"

    listed = {row["name"]: row for row in body(api.get("/node_list"))["data"]}
    assert listed["n1"]["port"] == nodes[0].port and listed["n1"]["host"] == "127.0.0.1"
    assert {"name", "host", "port", "type", "size"} <= set(listed["n2"])

    for node in nodes:
        body(node.api.post("/push_data", {"client_id": "plc", "topic": "t/plc", "qos": 1,
                                          "retained": False, "payload": node.name}))
    fleet.stream.wait_payloads([b"n1", b"n2"])

    body(nodes[1].api.get("/remove_mqtt_client?id=plc"))
    wait_until(lambda: not fleet.broker.connected(), 10, "disconnected")
    assert api.get(api.path("plc")).status_code == 404


def test_what_waits_is_shown_as_such(fleet):
    fleet.start_node(node_info__size=0)
    body(fleet.api.post("/public_create_mqtt", flat(fleet, "plc")))
    assert body(fleet.api.get("/no_mqtt_config?id=plc"))["data"]["client_id"] == "plc"
    assert body(fleet.api.get("/mqtt_config?id=plc")).get("data") is None


def test_beat_says_ok_in_plain_text(fleet):
    fleet.start_node()
    answer = fleet.api.get("/beat")
    assert (answer.status_code, answer.text) == (200, "ok")


def test_kf14_unknown_ids_and_bad_bodies_are_answers(fleet):
    fleet.start_node()
    api = fleet.api
    for route in ("/mqtt_config", "/no_mqtt_config"):
        assert body(api.get(route + "?id=nobody")).get("data") is None
        assert api.get(route).status_code == 400
    assert api.get("/remove_mqtt_client").status_code == 400
    assert api.get("/remove_mqtt_client?id=nobody").status_code < 500
    unknown = {"client_id": "nobody", "topic": "a", "qos": 0, "retained": False, "payload": "x"}
    assert api.post("/push_data", unknown).status_code < 500
    assert api.post("/push_data", {"client_id": 7}).status_code < 500
    assert api.post("/public_create_mqtt", {"broker": 1}).json()["status"] == 400
    assert api.get("/livez").status_code == 200
