"""Changing clients: one by a patch, many by an operation that survives its node."""

import json

from fleet.wait import wait_until
from test_api import pointers, problem

PATCH = {"Content-Type": "application/merge-patch+json"}


def stored(fleet, client):
    redis = fleet.redis.client
    return json.loads(redis.hget("mqtt_config:use", client) or redis.hget("mqtt_config:no", client))


# ---- one client ----------------------------------------------------------------------------------


def test_a_patch_changes_its_fields_and_a_pause_can_be_waited_for(fleet):
    fleet.start_nodes(2)
    api = fleet.api
    path = api.path("pump")
    document = fleet.document("pump", username="u", password="secret-word", labels={"a": "1", "b": "2"})
    api.create(document)
    api.wait_state("pump", "online")
    first = api.get(path)

    patch = {"keepalive_s": 31, "labels": {"a": None, "c": "3"}, "password": "***"}
    answer = api.patch(path, patch, headers=PATCH)
    assert answer.status_code == 200, answer.text
    assert answer.json()["config"]["labels"] == {"b": "2", "c": "3"}
    assert answer.json()["config"]["url"] == document["url"]
    assert stored(fleet, "pump")["password"] == "secret-word"
    assert answer.json()["version"] > first.json()["version"]
    wait_until(lambda: fleet.broker.connect_options("pump")[2] == 31, 15, "runs as patched")

    again = api.patch(path, patch, headers={"If-Match": answer.headers["ETag"]})
    assert again.status_code == 200 and again.headers["ETag"] == answer.headers["ETag"]
    problem(api.patch(path, {"keepalive_s": 5}, headers={"If-Match": first.headers["ETag"]}), 412)
    # A secret does not follow a client to another broker.
    assert pointers(api.patch(path, {"url": "mqtt://elsewhere.example:1883"})) == {"/password"}
    assert pointers(api.patch(path, {"keepalive": 5})) == {"/keepalive"}
    assert pointers(api.patch(path, {"id": "other"})) == {"/id"}
    problem(api.patch(path, [1]), 422)
    problem(api.patch(api.path("nobody"), {}), 404)
    assert api.client("pump")["version"] == answer.json()["version"]

    for verb, state in (("pause", "paused"), ("pause", "paused"), ("resume", "online")):
        done = api.post(api.path("pump", verb) + "?wait_ms=20000")
        assert done.status_code == 200 and done.json()["status"]["state"] == state, done.text
    problem(api.post(api.path("pump", "pause"), headers={"If-Match": answer.headers["ETag"]}), 412)
    # The desired state is a field, too; without it the client runs.
    assert api.patch(path, {"desired": "paused"}).json()["desired"] == "paused"
    assert api.patch(path, {"desired": None}).json()["desired"] == "running"

    api.delete(path)
    changes = api.get(api.path("pump", "changes")).json()["changes"]
    assert [(one["action"], sorted(one["fields"])) for one in changes] == [
        ("patch", ["keepalive_s", "labels"]), ("pause", ["desired"]), ("resume", ["desired"]),
        ("patch", ["desired"]), ("patch", ["desired"]), ("delete", [])]
    assert changes[0]["from_version"] == first.json()["version"] and changes[-1]["to_version"] is None
    assert all(one["by"] == "anonymous" and one["at"] for one in changes)
    problem(api.get(api.path("nobody", "changes")), 404)
