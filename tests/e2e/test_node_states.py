"""Nodes that should get no clients, or cannot: draining, with a failing sink, not reachable."""

from fleet.wait import PATIENCE, wait_until


def readiness(node):
    answer = node.api.get("/readyz")
    return answer.status_code, answer.json()["reason"]


def test_a_draining_node_is_not_ready_and_says_why(fleet):
    node = fleet.start_node("leaving")
    assert readiness(node) == (200, None)
    assert node.api.post("/api/v1/nodes/leaving/drain").status_code == 202
    wait_until(lambda: readiness(node) == (503, "draining"), 10, "not ready")
    assert node.api.get("/readyz").json()["checks"]["redis"] == "ok"
    node.api.post("/api/v1/nodes/leaving/undrain")
    wait_until(lambda: readiness(node) == (200, None), 10, "ready again")


def break_sink(fleet, node):
    """Its sink never works; a client shows this while it is the only node."""
    [client] = fleet.online(1, prefix=f"on-{node.name}")
    fleet.broker.publish(f"t/{client}/x", b"stuck")
    wait_until(lambda: readiness(node)[0] == 503, 10, "its sink fails")


def test_a_node_whose_sink_fails_for_long_gets_clients_only_when_nobody_else_can(fleet):
    sick = fleet.start_node("sick", sink__type="file", sink__path="/dev/full")
    break_sink(fleet, sick)
    well = fleet.start_node("well", node_info__size=40, sink__type="null")
    fleet.online(9, prefix="both")
    for client in fleet.shared().bound["sick"]:
        if client.startswith("both"):  # so that it has fewer, and would be next
            assert well.api.delete(well.api.path(client)).status_code == 204

    wait_until(lambda: any(sink["failing_ms"] > 10000 for sink in fleet.shared().facts("sick")["sinks"]),
               60, "the node tells of its sink")
    before = fleet.shared().counts()
    fleet.online(20, prefix="kept-away", api=well.api)
    assert fleet.shared().counts() == {"sick": before["sick"], "well": before["well"] + 20}
    room = 40 - fleet.shared().counts()["well"]
    fleet.online(room + 5, prefix="overflow", api=well.api)
    assert fleet.shared().counts() == {"sick": before["sick"] + 5, "well": 40}
    sick.kill()  # its stop would wait for the sink


def test_a_node_that_cannot_be_reached_by_http_gets_clients_like_any_other(fleet):
    """Placement is an assignment in Redis."""
    leader = fleet.start_node("leader")
    wait_until(lambda: leader.api.nodes()["leader"]["leader"], 10, "it leads")
    fleet.start_node("lost", node_info__host="127.9.9.9")
    fleet.create(20)
    wait_until(lambda: fleet.shared().counts() == {"leader": 10, "lost": 10}, 30, "level")
    wait_until(lambda: len(fleet.broker.connected()) == 20, 30, "all are connected")


def test_a_put_waits_for_the_version_it_wrote(fleet):
    fleet.start_nodes(2)
    for client in fleet.online(4):
        changed = fleet.document(client, keepalive_s=77)
        answer = fleet.api.put(fleet.api.path(client) + f"?wait_ms={int(20000 * PATIENCE)}", changed)
        status = answer.json()["status"]
        assert answer.status_code == 200
        assert answer.headers["ETag"] == f'"{answer.json()["version"]}"'
        assert (status["state"], status["version"]) == ("online", answer.json()["version"]), status
        assert fleet.broker.connect_options(client)[2] == 77


def test_properties_of_mqtt_5_are_refused_for_a_client_of_3_1_1_at_any_node(fleet):
    nodes = fleet.start_nodes(2)
    [client] = fleet.online(1, protocol_version=4)
    for node in nodes:
        answer = node.api.publish(client, "t", "x", properties={"content_type": "text/plain"})
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == "/properties/content_type"
        assert node.api.publish(client, "t", "x").status_code == 200
