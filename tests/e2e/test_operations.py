"""Changing clients: one by a patch, many by an operation that survives its node."""

import json

from fleet.wait import wait_until
from test_api import pointers, problem
from test_cli import Cli
from test_secrets import WORD, everything_in, guarded, key_file, new_key
from test_secrets import document as with_password

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
        ("create", []), ("patch", ["keepalive_s", "labels"]), ("pause", ["desired"]), ("resume", ["desired"]),
        ("patch", ["desired"]), ("patch", ["desired"]), ("delete", [])]
    assert changes[0]["from_version"] == 0 and changes[0]["to_version"] == first.json()["version"]
    assert changes[1]["from_version"] == first.json()["version"] and changes[-1]["to_version"] is None
    assert all(one["by"] == "anonymous" and one["at"] for one in changes)
    problem(api.get(api.path("nobody", "changes")), 404)

    # Of all clients, the one that changed last before the others.
    api.create({**fleet.document("later"), "desired": "paused"})
    api.patch(api.path("later"), {"keepalive_s": 21})
    seen, cursor = [], ""
    while cursor is not None:
        page = api.get("/api/v1/changes", params={"limit": 1, "cursor": cursor}).json()
        seen, cursor = seen + page["changes"], page["next_cursor"]
    assert [(one["client"], one["action"]) for one in seen] == [("later", "patch"), ("later", "create")] + [
        ("pump", one["action"]) for one in reversed(changes)]
    for query, count in (("by=&id_prefix=pu", 7), ("by=nobody", 0), ("action=delete", 1), ("action=create", 2), ("by=anonymous&action=patch", 4)):
        assert len(api.get(f"/api/v1/changes?{query}").json()["changes"]) == count, query
    problem(api.get("/api/v1/changes?cursor=x"), 400)
    problem(api.get("/api/v1/changes?limit=0"), 400)


# ---- many clients ----------------------------------------------------------------------------------


def begin(api, action, query, document=None):
    answer = api.post(f"/api/v1/clients:{action}?{query}", document)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == "/api/v1/operations/" + answer.json()["id"]
    return answer.json()["id"]


def ended(api, operation, bound_s=60):
    def state():
        found = api.get(f"/api/v1/operations/{operation}").json()
        return found if found["state"] != "running" else None
    return wait_until(state, bound_s, "the operation has ended")


def changes(api, client):
    return api.get(api.path(client, "changes")).json()["changes"]


def test_an_operation_changes_what_its_selector_selects(fleet):
    nodes = fleet.start_nodes(2)
    api = fleet.api
    fleet.online(30, labels={"site": "north"})
    south = [fleet.document(f"s{i}", labels={"site": "south"}) for i in range(3)]
    api.create(south)
    for document in south:
        api.wait_state(document["id"], "online")

    problem(api.post("/api/v1/clients:pause"), 422)
    problem(api.post("/api/v1/clients:pause?label.site=north&lable.site=x"), 422)
    problem(api.post("/api/v1/clients:pause?label.site=north&rate=0"), 422)
    problem(api.post("/api/v1/clients:patch?label.site=north", {}), 422)
    problem(api.post("/api/v1/clients:patch?label.site=north", {"id": "x"}), 422)
    assert pointers(api.post("/api/v1/clients:patch?label.site=north", {"keepalive": 1})) == {"/keepalive"}
    counted = api.post("/api/v1/clients:delete?label.site=north&dry_run=true")
    assert counted.status_code == 200 and counted.json()["total"] == 30
    assert api.get("/api/v1/operations").json() == {"operations": []}

    paused = ended(api, begin(api, "pause", "label.site=north"))
    assert (paused["total"], paused["done"], paused["failed"], paused["skipped"]) == (30, 30, 0, 0)
    assert paused["by"] == "anonymous" and paused["selector"] == "label.site=north"
    wait_until(lambda: len(api.clients(state="paused")) == 30, 20)
    again = ended(api, begin(api, "pause", "label.site=north,south"))
    assert (again["done"], again["skipped"], again["reasons"]) == (3, 30, {"unchanged": 30})

    wait_until(lambda: len(api.clients(state="paused")) == 33, 20)
    patched = ended(api, begin(api, "patch", "state=paused&id_prefix=s", {"keepalive_s": 33, "desired": None}))
    assert patched["done"] == 3 and sorted(patched["fields"]) == ["desired", "keepalive_s"]
    for document in south:
        api.wait_state(document["id"], "online")
        assert api.client(document["id"])["config"]["keepalive_s"] == 33
    last = changes(api, "s0")[-1]
    assert last["operation"] == patched["id"] and last["action"] == "patch"

    mark = fleet.broker.mark()
    restarted = ended(api, begin(api, "restart", "label.site=south,north&rate=1000"))
    assert (restarted["done"], restarted["skipped"], restarted["reasons"]) == (3, 30, {"paused": 30})
    wait_until(lambda: all(fleet.broker.connects(mark).get(d["id"]) == 1 for d in south), 20)
    owners = {d["id"]: api.client(d["id"])["placement"]["node"] for d in south}
    released = ended(api, begin(api, "release", "label.site=south&rate=1000"))
    assert released["done"] == 3, released
    wait_until(lambda: all(api.client(c)["placement"]
                           and api.client(c)["placement"]["node"] != node
                           for c, node in owners.items()), 30, "moved")

    cli = Cli(nodes[1])
    assert cli.good("pause", "--selector", "label.site=south", "--dry-run") == "3 clients match\n"
    assert "--yes is required" in cli.fails(2, "pause", "-s", "label.site=south")
    assert "name ids" in cli.fails(2, "pause", "s1", "-s", "label.site=south")
    assert "stands alone" in cli.fails(2, "pause", "--state", "online", "-s", "label.site=south")
    assert "need filters" in cli.fails(2, "pause", "s1", "--dry-run")
    cli.fails(6, "pause", "-s", "lable.site=south", "-y")
    done = cli.run("pause", "--label", "site=south", "--id-prefix", "s", "-y")
    assert done.returncode == 0 and "pause: 3 done, 0 skipped, 0 failed" in done.stderr, done.stderr
    file = fleet.folder / "patch.json"
    file.write_text('{"desired": null}')
    document = json.loads(cli.good("patch", "-s", "label.site=south", "-f", file, "-y", "-o", "json"))
    assert (document["state"], document["done"]) == ("done", 3)
    cli.good("patch", "s0", "-f", file)
    assert document["id"] in cli.good("operations") and "patch" in cli.good("changes", "s0")
    cli.fails(6, "operations", "cancel", document["id"])
    assert "3 done" in cli.good("operations", "show", document["id"])
    cli.fails(3, "operations", "show", "nothing")

    slow = begin(api, "delete", "label.site=north&rate=1")
    assert api.post(f"/api/v1/operations/{slow}:cancel").json()["state"] == "cancelled"
    assert api.post(f"/api/v1/operations/{slow}:cancel").status_code == 200
    problem(api.post(f"/api/v1/operations/{released['id']}:cancel"), 409)
    problem(api.post("/api/v1/operations/nothing:cancel"), 404)
    problem(api.get("/api/v1/operations/nothing"), 404)
    left = len(api.clients())
    assert 33 - left == api.get(f"/api/v1/operations/{slow}").json()["done"]
    gone = ended(api, begin(api, "delete", "label.site=north"))
    assert gone["done"] == left - 3
    wait_until(lambda: len(api.clients()) == 3, 20)
    assert len(api.get("/api/v1/operations").json()["operations"]) == 9
    audit = [line for node in nodes for line in node.log().splitlines()
             if "event=operation_done" in line and "action=pause" in line]
    assert len(audit) == 3 and "caller=anonymous" in audit[0] and "total=30" in audit[0]


def test_an_operation_survives_the_node_that_executes_it(fleet):
    nodes = fleet.start_nodes(3)
    fleet.online(300)
    leader = wait_until(lambda: next((n for n in nodes if "event=leading" in n.log()), None), 20)
    other = next(node for node in nodes if node is not leader)
    operation = begin(other.api, "patch", "id_prefix=c&rate=100", {"keepalive_s": 77})
    path = f"/api/v1/operations/{operation}"
    before = wait_until(lambda: (lambda found: found if found["done"] >= 40 else None)(
        other.api.get(path).json()), 20, "it has begun")
    assert before["executor"] == leader.name
    leader.kill()
    after = ended(other.api, operation, 60)
    assert (after["done"], after["failed"], after["skipped"]) == (300, 0, 0), after
    assert after["executor"] != leader.name
    for i in range(300):
        assert [one["action"] for one in changes(other.api, f"c{i:05}")] == ["create", before["action"]]
    wait_until(lambda: len(other.api.clients(state="online")) == 300, 60)


def test_a_secret_in_a_patch_of_many_clients_is_never_plain_in_redis(fleet):
    guarded(fleet)
    node = fleet.start_node("n1", secrets__key_file=key_file(fleet, new_key()))
    clients = ("c0", "c1", "c2")
    for client in clients:
        node.api.create(with_password(fleet, client, password="wrong", labels={"site": "a"}))
    operation = begin(node.api, "patch", "label.site=a&rate=2", {"password": WORD})
    assert WORD.encode() not in everything_in(fleet.redis.bytes_client)
    done = ended(node.api, operation)
    assert done["done"] == 3 and done["fields"] == ["password"] and WORD not in json.dumps(done)
    assert WORD.encode() not in everything_in(fleet.redis.bytes_client)
    for client in clients:
        node.api.wait_state(client, "online")
    shown = node.api.get("/api/v1/export?secrets=encrypted&id_prefix=c0").json()["documents"][0]
    refused = node.api.post("/api/v1/clients:patch?id_prefix=c0", {"password": shown["password"]})
    assert refused.status_code == 422, refused.text  # no node could decrypt it for the operation
    assert refused.json()["errors"][0]["pointer"] == "/password" and shown["password"] not in refused.text
    removed = ended(node.api, begin(node.api, "patch", "label.site=a", {"password": None, "username": None}))
    assert removed["done"] == 3 and "password" not in node.api.client("c0")["config"]
