"""A token with a scope uses a part of the fleet: two tenants must not see each other, on any route."""

import concurrent.futures
import json

import pytest

from fleet.fleet import Fleet
from fleet.sse import EventReader
from fleet.wait import wait_until
from test_access import SECRET, make_token, private, problem
from test_openapi import OPERATIONS, bodies_of, fill, query_of

FOREIGN = "globex-pump-1"
ABSENT = "nobody-pump-1"  # as long as the foreign one
CALLERS = {"root": ("admin", ""), "acme": ("operator", "acme"), "acme-chief": ("admin", "acme"),
           "globex": ("operator", "globex")}


class Town:
    """Two nodes. Each of the tenants acme and globex has clients; root sees all."""

    def __init__(self, folder):
        self.fleet = Fleet(folder)
        self.tokens, lines = {}, []
        for name, (role, tenant) in CALLERS.items():
            self.tokens[name], line = make_token(name, role)
            lines.append(line + (f" scope=label.tenant={tenant}" if tenant else ""))
        settings = {"http__tokens_file": private(folder / "tokens", "\n".join(lines) + "\n"),
                    "fleet__secret_file": private(folder / "secret", SECRET + "\n")}
        self.nodes = self.fleet.start_nodes(2, **settings)
        for node in self.nodes:
            node.api.use(token=self.tokens["root"])
        self.root = self.nodes[0].api
        for tenant in ("acme", "globex"):
            self.fleet.create(4, prefix=f"{tenant}-p", labels={"tenant": tenant}, api=self.root)
        self.root.create(self.fleet.document(FOREIGN, labels={"tenant": "globex"}))
        self.root.create({**self.fleet.document("globex-away"), "url": "mqtt://globex.invalid:1883",
                          "labels": {"tenant": "globex"}, "desired": "paused"})
        self.root.create(self.fleet.document("no-tenant"))
        self.ids = {tenant: [f"{tenant}-p{number:05d}" for number in range(4)]
                    for tenant in ("acme", "globex")}
        self.fleet.wait_online(self.ids["acme"] + self.ids["globex"] + [FOREIGN], api=self.root)

    def api(self, caller, node=0):
        return type(self.root)(self.nodes[node].port).use(token=self.tokens[caller])

    def document(self, client, **more):
        return self.fleet.document(client, **more)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    town = Town(tmp_path_factory.mktemp("town"))
    try:
        yield town
    finally:
        faults = town.fleet.close()
    assert not faults, "\n".join(faults)


def text_of(answer, *also_sent):
    """What the answer says, without what differs in every answer and what the caller has sent."""
    text = answer.text
    for sent in (answer.headers["X-Request-Id"], *also_sent):
        text = text.replace(sent, "SENT")
    return text


# ---- lists ---------------------------------------------------------------------------------------

def test_lists_have_the_clients_of_the_scope_only(town):
    for node in range(2):
        for tenant in ("acme", "globex"):
            seen = {one["id"] for one in town.api(tenant, node).clients()}
            assert seen >= set(town.ids[tenant])
            assert all(one.startswith(tenant) for one in seen), seen
        api = town.api("acme", node)
        assert api.clients(**{"label.tenant": "globex"}) == []
        assert {one["id"] for one in api.clients(**{"label.tenant": "acme"}, limit=3)} >= set(town.ids["acme"])
        assert {"no-tenant", FOREIGN} <= {one["id"] for one in town.api("root", node).clients()}


def test_clients_that_wait_are_in_the_lists_and_sums_of_their_scope_only(town):
    town.fleet.redis.client.set("mqtt_fleet:restoring", 60000, px=60000)  # nothing is assigned
    try:
        for tenant in ("acme", "globex"):
            town.root.create(town.document(f"{tenant}-waits", labels={"tenant": tenant}))
        acme = town.api("acme")
        assert [one["id"] for one in acme.clients(state="waiting")] == ["acme-waits"]
        assert acme.get("/api/v1/clients?state=waiting").json()["starting"] is None
        sums = acme.get("/api/v1/summary?by=state&state=waiting").json()
        assert sums["count"] == 1 and sums["starting"] is None, sums
        assert acme.get("/api/v1/summary?by=label.tenant").json()["groups"][0]["value"] == "acme"
        assert len(acme.get("/api/v1/summary?by=label.tenant").json()["groups"]) == 1
    finally:
        town.fleet.redis.client.delete("mqtt_fleet:restoring")
    for tenant in ("acme", "globex"):
        assert town.root.delete(town.root.path(f"{tenant}-waits")).status_code == 204


def test_brokers_are_those_of_the_own_clients(town):
    for node in range(2):
        api = town.api("acme", node)
        answer = api.get("/api/v1/brokers")
        assert answer.status_code == 200 and answer.json()["incomplete"] == [], answer.text
        [broker] = answer.json()["brokers"]
        assert broker["clients"]["all"] == len(api.clients()) < len(town.root.clients())
        assert broker["connects_per_s"] is broker["ping_ms"] is broker["certificate_expires_at"] is None
        assert {one["broker"] for one in town.api("globex", node).get("/api/v1/brokers").json()["brokers"]} == {
            broker["broker"], "globex.invalid:1883"}


# ---- creation and change -------------------------------------------------------------------------

def test_a_client_that_is_created_gets_the_label_of_the_scope(town):
    api = town.api("acme")
    made = api.create(town.document("acme-new", labels={"site": "x"}))
    assert made["config"]["labels"] == {"site": "x", "tenant": "acme"}
    assert api.create(town.document("acme-new", labels={"site": "x"}))["version"] == made["version"]
    wrong = problem(api.post("/api/v1/clients", town.document("acme-2", labels={"tenant": "globex"})),
                    422, "invalid")
    assert wrong.json()["errors"][0]["pointer"] == "/labels/tenant"
    many = api.post("/api/v1/clients", [town.document("acme-3"),
                                        town.document("acme-4", labels={"tenant": "globex"})])
    assert many.status_code == 207 and len(many.json()["failed"]) == 1
    assert api.client("acme-3")["config"]["labels"] == {"tenant": "acme"}


def test_a_client_cannot_be_moved_out_of_the_scope_by_its_token_but_by_another(town):
    api = town.api("acme")
    api.create(town.document("acme-mover"))
    problem(api.put(api.path("acme-mover"), town.document("acme-mover", labels={"tenant": "globex"})),
            422, "invalid")
    kept = api.put(api.path("acme-mover"), town.document("acme-mover", keepalive_s=77))
    assert kept.status_code == 200 and kept.json()["config"]["labels"] == {"tenant": "acme"}
    moved = town.root.put(api.path("acme-mover"), town.document("acme-mover", labels={"tenant": "globex"}))
    assert moved.status_code == 200
    problem(api.get(api.path("acme-mover")), 404, "not-found")
    assert town.api("globex").client("acme-mover")["id"] == "acme-mover"
    assert town.api("globex").delete(api.path("acme-mover")).status_code == 204


def test_a_409_names_no_foreign_client(town):
    api = town.api("acme")
    foreign = town.document("acme-thief", client_id="globex-p00000")
    foreign["url"] = town.fleet.broker.url
    taken = problem(api.post("/api/v1/clients", foreign), 409, "identity-taken")
    assert "belongs to" not in taken.text and "globex-p00000" not in text_of(taken, '"globex-p00000"').replace(
        "client_id globex-p00000", "")
    tested = problem(api.post("/api/v1/clients:test", foreign), 409, "identity-taken")
    assert "belongs to" not in tested.text
    held = problem(api.post("/api/v1/clients", town.document(FOREIGN)), 409, "exists")
    assert FOREIGN not in held.text and "configuration" not in held.json()["detail"]
    applied = api.post("/api/v1/clients:apply", [foreign, town.document(FOREIGN), town.document("acme-own")])
    assert [one["status"] for one in applied.json()["failed"]] == [409, 409], applied.text
    assert "belongs to" not in applied.text and "configuration" not in applied.text
    assert applied.json()["created"] == 1
    named = api.post("/api/v1/clients", town.document("acme-2nd", client_id="acme-own"))
    assert "acme-own" in problem(named, 409, "identity-taken").json()["detail"]
    put = api.put(api.path("acme-own"), town.document("acme-own", client_id="globex-p00000"))
    assert "belongs to" not in problem(put, 409, "identity-taken").text


def test_secrets_of_the_nodes_are_not_for_a_scope(town):
    document = town.document("acme-env", username="u", password={"env": "CLIENT_X"})
    refused = problem(town.api("acme").post("/api/v1/clients", document), 422, "invalid")
    assert "files and variables" in refused.text


def test_scripts_are_not_for_a_scope(town):
    routes = [{"to": ["default"], "lua": "return function(m) return m end"}]
    refused = problem(town.api("acme").post("/api/v1/clients", town.document("acme-lua", routes=routes)),
                      422, "invalid")
    assert refused.json()["errors"][0]["pointer"] == "/routes"


# ---- every route ---------------------------------------------------------------------------------

def is_stream(operation):
    return any("text/event-stream" in response.get("content", {})
               for response in operation["responses"].values())


def send(api, town, path, method, operation, client):
    query = {"seconds": 1, **query_of(operation)}
    query = query if "seconds" in [p.get("name") for p in operation.get("parameters", [])] else query_of(operation)
    for body in bodies_of(operation, town.fleet.broker):
        if isinstance(body, dict) and "id" in body:
            body = {**body, "id": client}
        yield api.call(method.upper(), fill(path, client, "n1"), json=body, params=query, stream=True)


@pytest.mark.parametrize("node", [0, 1])
def test_no_route_tells_anything_about_another_tenant(town, node):
    api = town.api("acme-chief", node)
    seen = set()
    for path, method, operation in OPERATIONS:
        if "x-internal" in operation:
            continue
        if "/clients/{id}" in path:
            for foreign, absent in zip(send(api, town, path, method, operation, FOREIGN),
                                       send(api, town, path, method, operation, ABSENT)):
                assert foreign.status_code == absent.status_code == 404, (method, path, foreign.text)
                assert text_of(foreign, FOREIGN) == text_of(absent, ABSENT), (method, path)
            seen.add("client")
            continue
        for answer in send(api, town, path, method, operation, "acme-loop"):
            kind = answer.headers.get("Content-Type", "")
            if answer.status_code == 403 and answer.json()["type"].endswith("scope"):
                seen.add("refused")
            elif not kind.startswith("text/event-stream") and path != "/openapi.json":
                assert "globex" not in answer.text, (method, path, answer.text)
                seen.add("answered")
            answer.close()
    assert seen == {"client", "refused", "answered"}
    states = {one["id"]: one["status"]["state"] for one in town.api("globex").clients()}
    assert states[FOREIGN] == "online" and states["globex-away"] == "paused"  # nothing was done to them


def test_bulk_calls_have_the_clients_of_the_scope_only(town):
    api = town.api("acme", 1)
    every = len(api.clients())
    for query, selected in (({"state": "online,paused,waiting,connecting,backoff,conflict"}, every),
                            ({"label.tenant": "globex"}, 0), ({"id_prefix": "globex"}, 0)):
        counted = api.post("/api/v1/clients:pause", params={**query, "dry_run": "true"})
        assert counted.status_code == 200 and counted.json()["total"] == selected, counted.text


def test_what_is_about_the_whole_fleet_is_refused(town):
    api = town.api("acme-chief")
    for path in ("/api/v1/nodes", "/api/v1/nodes/n1", "/api/v1/sinks", "/api/v1/routes", "/metrics",
                 "/api/v1/time-series", "/api/v1/changes", "/debug/pprof/heap", "/node_list", "/mqtt_config", "/no_mqtt_config"):
        assert "label tenant" in problem(api.get(path), 403, "scope").json()["detail"], path
    problem(api.post("/push_data", {}), 403, "scope")
    problem(api.post("/api/v1/clients:reencrypt"), 403, "scope")
    assert api.get("/readyz").status_code == 200


def test_a_foreign_client_takes_as_long_as_none(town):
    api = town.api("acme")
    for client in (FOREIGN, ABSENT):
        answers = [api.get(api.path(client)) for _ in range(5)]
        assert all(answer.status_code == 404 for answer in answers)
        assert min(answer.elapsed.total_seconds() for answer in answers) >= 0.020


def test_a_scope_header_of_a_caller_is_ignored(town):
    api = town.api("acme")
    for headers in ({"X-Mqfleet-Scope": "label.tenant=globex"},
                    {"X-Mqfleet-Scope": "label.tenant=globex", "X-Mqfleet-Forwarded": "1"}):
        problem(api.get(api.path(FOREIGN), headers=headers), 404, "not-found")
        assert api.get(api.path(town.ids["acme"][0]), headers=headers).status_code == 200


def test_a_call_that_a_node_forwards_carries_the_scope(town):
    """What a node sends: believed with the secret of the fleet only."""
    api = type(town.root)(town.nodes[0].port)
    headers = {"Authorization": f"Mqfleet {SECRET}", "X-Mqfleet-Forwarded": "1"}
    assert api.get(api.path(FOREIGN), headers=headers).status_code == 200
    headers["X-Mqfleet-Scope"] = "label.tenant=acme"
    problem(api.get(api.path(FOREIGN), headers=headers), 404, "not-found")
    assert api.get(api.path("acme-p00001"), headers=headers).status_code == 200
    headers["X-Mqfleet-Scope"] = "nonsense"
    problem(api.get(api.path("acme-p00001"), headers=headers), 403, "forbidden")


# ---- what belongs to a client --------------------------------------------------------------------

def test_the_own_clients_are_used_as_without_a_scope(town):
    for node in range(2):
        api = town.api("acme", node)
        client = town.ids["acme"][0]
        assert api.publish(client, "t/answer", "x").status_code == 200
        assert api.get(api.path(client, "publications")).json() == {"publications": []}
        assert api.get(api.path(client, "events")).json()["events"]
        for verb, status in (("pause", 200), ("resume", 200), ("restart", 202)):
            assert api.post(api.path(client, verb)).status_code == status, verb
            api.wait_state(client, "paused" if verb == "pause" else "online")


def test_the_trail_of_an_id_begins_for_a_tenant_with_its_own_client(town):
    client = "id-of-two"
    path = town.root.path(client, "changes")
    for tenant in ("globex", "acme"):
        api = town.api(tenant)
        api.create({**town.document(client), "desired": "paused"})
        assert api.patch(api.path(client), {"keepalive_s": 47}).status_code == 200
        assert [(one["by"], one["action"]) for one in api.get(path).json()["changes"]] == [(tenant, "create"), (tenant, "patch")]
        assert api.delete(api.path(client)).status_code == 204
    assert [one["by"] for one in town.root.get(path).json()["changes"]] == ["globex"] * 3 + ["acme"] * 3


def test_live_messages_end_for_the_tenant_when_its_client_changes_hands(town):
    client = "acme-tail"
    town.api("acme").create(town.document(client))
    town.api("acme").wait_state(client, "online")
    readers = [town.fleet.closing(EventReader(town.nodes[node].api.base + town.root.path(client, "messages"),
                                              like=town.api("acme", node))) for node in range(2)]
    for reader in readers:
        reader.wait_comment("runs on")

    def both_have(payload):
        town.fleet.broker.publish(f"t/{client}/x", payload)
        for reader in readers:
            assert payload in [one["payload"] for one in reader.of("message")]
        return True

    wait_until(lambda: both_have("mine"), 20, "both streams have the message")
    changed = town.root.put(town.root.path(client) + "?wait_ms=10000",
                            town.document(client, labels={"tenant": "globex"}))
    assert changed.status_code == 200
    after = town.fleet.closing(EventReader(town.nodes[0].api.base + town.root.path(client, "messages"),
                                           like=town.api("globex")))
    after.wait_comment("runs on")

    def globex_has():
        town.fleet.broker.publish(f"t/{client}/x", "theirs")
        assert "theirs" in [one["payload"] for one in after.of("message")]
        return True

    wait_until(globex_has, 20, "the new owner's stream has the message")
    for reader in readers:
        assert "theirs" not in [one["payload"] for one in reader.of("message")]


def test_events_are_those_of_the_own_clients(town):
    readers = {}
    for caller, node in (("acme", 0), ("globex", 1), ("root", 0)):
        readers[caller] = town.fleet.closing(EventReader(town.nodes[node].api.base + "/api/v1/events",
                                                         like=town.api(caller, node)))
        readers[caller].wait_comment("listening to the whole fleet")
    for tenant in ("acme", "globex"):
        for client in town.ids[tenant]:
            assert town.root.post(town.root.path(client, "restart")).status_code == 202
        town.api(tenant).create(town.document(f"{tenant}-brief"))
        town.api(tenant).wait_state(f"{tenant}-brief", "online")
        assert town.api(tenant).delete(town.root.path(f"{tenant}-brief")).status_code == 204
    town.root.post("/api/v1/nodes/n2/drain")
    readers["root"].wait(lambda reader: reader.of("node"), "the drained node")
    town.root.post("/api/v1/nodes/n2/undrain")

    def ended(tenant):
        return lambda reader: {(f"{tenant}-brief", "deleted")} | {(one, "online") for one in town.ids[tenant]} <= {
            (data["id"], data["state"]) for data in reader.of("client")}

    for tenant in ("acme", "globex"):
        readers[tenant].wait(ended(tenant), f"the events of {tenant}")
        readers["root"].wait(ended(tenant), f"all events, with {tenant}")
        text = json.dumps(readers[tenant].events)
        assert readers[tenant].of("node") == [] and "no-tenant" not in text
        assert all(data["labels"]["tenant"] == tenant for data in readers[tenant].of("client"))
        # What is kept is filtered in the same way.
        again = town.fleet.closing(EventReader(town.nodes[1].api.base + "/api/v1/events",
                                               like=town.api(tenant, 1), last_id="0"))
        again.wait(ended(tenant), f"the kept events of {tenant}")
        assert {name for name, _ in again.events} <= {"client", "notice", "dropped"}
        assert all(data["labels"]["tenant"] == tenant for data in again.of("client") + again.of("notice"))
        assert all(data == {"count": None} for data in again.of("dropped"))


def test_dead_letters_are_those_of_the_own_clients(town):
    redis = town.fleet.redis.client
    for number, labels in enumerate(['{"tenant":"acme"}', '{"tenant":"globex"}', '{"x":"acme"}', None,
                                     'no JSON', '{"tenant":"globex"}', '{"tenant":"acme","x":"y"}']):
        fields = {"id": f"c{number}", "client_id": "c", "topic": "t", "payload": f"p{number}", "qos": "1",
                  "retain": "0", "node": "n1", "received_at_ms": "1764507600123", "broker": "b:1883",
                  "dead_letter_sink": "archive", "dead_letter_reason": "full", "dead_letter_at_ms": "1764507600123"}
        redis.xadd("mqtt_dead", {**fields, **({"labels": labels} if labels else {})})
    api = town.api("acme", 1)
    page = api.get("/api/v1/dead-letters").json()
    assert "dead_letters" in page, page
    assert [one["client"] for one in page["dead_letters"]] == ["c0", "c6"] and page["total"] == 2
    assert api.get("/api/v1/dead-letters", params={"client": "c1"}).json()["total"] == 0
    foreign = town.api("globex").get("/api/v1/dead-letters").json()["dead_letters"][0]["entry"]
    assert api.get("/api/v1/dead-letters", params={"entry": foreign}).json()["dead_letters"] == []
    for verb in ("drop", "replay"):
        done = api.post(f"/api/v1/dead-letters:{verb}", params={"entry": foreign}).json()
        assert done["matched"] == 0 and done["total"] == 0, done
    dropped = api.post("/api/v1/dead-letters:drop", params={"all": "true"}).json()
    assert (dropped["matched"], dropped["dropped"], dropped["total"]) == (2, 2, 0)
    assert town.root.get("/api/v1/dead-letters").json()["total"] == 5
    assert town.root.post("/api/v1/dead-letters:drop", params={"all": "true"}).json()["dropped"] == 5


# ---- operations ------------------------------------------------------------------------------------

def test_an_operation_changes_the_clients_of_the_scope_only(town):
    acme, globex = town.api("acme"), town.api("globex", 1)
    versions = {client: town.root.client(client)["version"] for client in town.ids["globex"] + ["no-tenant"]}
    counted = acme.post("/api/v1/clients:delete?state=online,paused,backoff&dry_run=true").json()
    mine = len(acme.clients())
    assert counted["total"] <= mine and counted["starting"] is None
    begun = acme.post("/api/v1/clients:patch?id_prefix=acme,globex,no", {"keepalive_s": 47})
    assert begun.status_code == 202, begun.text
    path = f"/api/v1/operations/{begun.json()['id']}"
    done = wait_until(lambda: (lambda one: one["state"] == "done" and one)(acme.get(path).json()), 20)
    assert done["done"] == done["total"] <= mine and done["by"] == "acme"
    assert town.root.client(town.ids["acme"][0])["config"]["keepalive_s"] == 47
    assert versions == {client: town.root.client(client)["version"] for client in versions}
    # It cannot take a client out of its scope, and another tenant does not see the operation.
    assert acme.post("/api/v1/clients:patch?id_prefix=acme", {"labels": {"tenant": "globex"}}).status_code == 422
    assert globex.get(path).status_code == 404
    assert globex.post(path + ":cancel").status_code == 404
    assert globex.get("/api/v1/operations").json()["operations"] == []
    assert [one["id"] for one in town.root.get("/api/v1/operations").json()["operations"]] == [done["id"]]
    assert globex.get(town.root.path(town.ids["acme"][0], "changes")).status_code == 404


# ---- quotas --------------------------------------------------------------------------------------

def used(town):
    return {one["scope"]: one["used"] for one in town.root.get("/api/v1/quotas").json()["quotas"]}


def test_a_quota_of_clients_holds_in_the_whole_fleet(town):
    root = town.root
    there = len(root.clients(**{"label.tenant": "acme"}))
    quotas = {"quotas": [{"scope": "label.tenant=acme", "clients": there + 3},
                         {"scope": "label.tenant=globex", "clients": 1000}]}
    answer = root.put("/api/v1/quotas", quotas)
    assert answer.status_code == 200 and answer.json()["quotas"][0]["used"] == there, answer.text
    assert root.put("/api/v1/quotas", quotas, headers={"If-Match": '"1"'}).status_code == 412
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda n: town.api("acme", n % 2).post(
            "/api/v1/clients", town.document(f"acme-q{n}")).status_code, range(12)))
    assert sorted(codes) == [201] * 3 + [403] * 9
    refused = problem(root.post("/api/v1/clients", town.document("acme-q99", labels={"tenant": "acme"})),
                      403, "quota")
    assert "quota clients of label.tenant=acme" in refused.json()["detail"] and str(there + 3) in refused.text
    batch = town.api("acme").post("/api/v1/clients", [town.document("acme-q98")])
    assert batch.status_code == 207 and batch.json()["failed"][0]["status"] == 403
    town.api("globex").create(town.document("globex-q"))
    mine = town.api("acme", 1).get("/api/v1/quotas").json()["quotas"]
    assert mine == [{"scope": "label.tenant=acme", "clients": there + 3, "used": there + 3, "rates": {}}]
    made = [f"acme-q{n}" for n, code in enumerate(codes) if code == 201]
    assert town.api("acme").delete(root.path(made[0])).status_code == 204
    moved = root.put(root.path(made[1]), town.document(made[1], labels={"tenant": "globex"}))
    assert moved.status_code == 200 and used(town)["label.tenant=acme"] == there + 1
    assert town.api("acme").post("/api/v1/clients", town.document("acme-q50")).status_code == 201


def test_what_an_earlier_version_does_is_counted_later(town):
    quotas = {"quotas": [{"scope": "label.tenant=acme", "clients": 1000}]}
    assert town.root.put("/api/v1/quotas", quotas).status_code == 200
    redis, before = town.fleet.redis.client, used(town)["label.tenant=acme"]
    redis.hset("mqtt_fleet:counted", "acme-gone", "label.tenant=acme")
    redis.hdel("mqtt_fleet:counted", town.ids["acme"][0])
    redis.hset("mqtt_fleet:quota_clients", "label.tenant=acme", before)  # one more, one less

    def counted():
        assert redis.hget("mqtt_fleet:counted", town.ids["acme"][0]) == "label.tenant=acme"
        assert redis.hget("mqtt_fleet:counted", "acme-gone") is None
        assert used(town)["label.tenant=acme"] == before
        return True

    wait_until(counted, 30, "the leader has counted")


def test_a_quota_that_is_wrong_is_refused(town):
    good = {"scope": "label.tenant=acme", "clients": 5}
    for wrong, pointer in (([{"scope": "tenant", "clients": 1}], "/quotas/0/scope"),
                           ([{"scope": "label.tenant=acme", "clients": -1}], "/quotas/0/clients"),
                           ([{**good, "more": 1}], "/quotas/0"), ([good, good], "/quotas/1/scope"),
                           ([good, {"scope": "label.site=x", "clients": 1}], "/quotas/1/scope"),
                           ({}, "/quotas")):
        answer = problem(town.root.put("/api/v1/quotas", {"quotas": wrong}), 422, "invalid")
        assert answer.json()["errors"][0]["pointer"] == pointer
    problem(town.api("acme-chief").put("/api/v1/quotas", {"quotas": []}), 403, "scope")
    assert town.root.put("/api/v1/quotas", {"quotas": []}).json()["quotas"] == []
