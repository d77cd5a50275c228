"""What a client has done follows it from node to node: its counters and its last changes."""

import json

from fleet.wait import wait_until


def stored(fleet, client):
    text = fleet.redis.client.hget("mqtt_fleet:history", client)
    return json.loads(text) if text else None


def nodes_of(fleet, client):
    """Of its last changes, without repetitions."""
    nodes = []
    for change in fleet.api.get(fleet.api.path(client, "events")).json()["events"]:
        nodes += [change["node"]] if nodes[-1:] != [change["node"]] else []
    return nodes


def receive(fleet, client, count):
    """Publishes to it until it has received `count` in all, on whichever nodes."""
    before = fleet.api.status(client)["messages_in"]
    for number in range(before, count):
        fleet.broker.publish(f"t/{client}/x", f"{number}")
    wait_until(lambda: fleet.api.status(client)["messages_in"] == count, 60, f"{count} messages")


def moved(fleet, client, away_from):
    def look():
        view = fleet.api.client(client)
        owner = (view["placement"] or {}).get("node")
        assert owner not in (None, away_from) and view["status"]["state"] == "online"
        return owner

    return wait_until(look, 60, f"{client} is online elsewhere")


def test_counters_and_changes_follow_a_client_when_it_moves_and_when_nodes_stop_or_die(fleet):
    nodes = {node.name: node for node in fleet.start_nodes(3, history__save_rate=1000)}
    client = fleet.online(3)[0]
    for _ in range(2):
        fleet.api.post(fleet.api.path(client, "restart"))
        fleet.api.wait_state(client, "online")
    receive(fleet, client, 3)
    reconnects = fleet.api.status(client)["reconnects"]
    assert reconnects >= 1

    first = fleet.api.client(client)["placement"]["node"]
    fleet.api.post(fleet.api.path(client, "release"))
    second = moved(fleet, client, first)
    status = fleet.api.status(client)
    assert (status["messages_in"], status["bytes_in"]) == (3, 3)
    assert status["reconnects"] == reconnects + 1
    assert nodes_of(fleet, client) == [first, second]
    receive(fleet, client, 5)

    nodes[second].terminate()
    third = moved(fleet, client, second)
    assert fleet.api.status(client)["messages_in"] == 5
    assert nodes_of(fleet, client) == [first, second, third]

    receive(fleet, client, 8)
    wait_until(lambda: stored(fleet, client)["counts"][1] == 8 and
               stored(fleet, client)["changes"][-1][2:] == ["online", "subscribed", third], 60, "saved")
    nodes[second].start()
    nodes[third].kill()
    fourth = moved(fleet, client, third)
    assert fleet.api.status(client)["messages_in"] == 8
    assert nodes_of(fleet, client)[-3:] == [second, third, fourth]
    receive(fleet, client, 9)

    # Redis loses them, and gets them back without a change of the client.
    fleet.redis.client.flushall()
    wait_until(lambda: stored(fleet, client)["counts"][1] == 9, 60, "stored again")

    # One that is deleted leaves nothing.
    assert fleet.api.delete(fleet.api.path(client)).status_code == 204
    wait_until(lambda: stored(fleet, client) is None, 60, "its history is deleted")

    # Nor does one that is created again before its node has noticed anything.
    other = "c00001"
    receive(fleet, other, 2)
    for _ in range(3):
        assert fleet.api.delete(fleet.api.path(other)).status_code == 204
        fleet.api.create(fleet.document(other))
    wait_until(lambda: fleet.api.state(other) == "online" and fleet.api.status(other)["messages_in"] == 0, 60,
               "it begins at 0")
    assert len(nodes_of(fleet, other)) == 1
