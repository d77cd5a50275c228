"""Profiles: fields that clients share. One call changes all of them."""

import pytest

from fleet.certificates import Authority
from fleet.wait import holds_for, wait_until

PROFILES = "/api/v1/client-profiles"


def put(node, name, version=None, **config):
    headers = {"If-Match": f'"{version}"'} if version else {}
    return node.api.put(f"{PROFILES}/{name}", config, headers=headers)


def stored(node, name, **config):
    answer = put(node, name, **config)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def own(client, profile, **more):
    return {"id": client, "profile": profile, **more}


def versions(api, prefix):
    return {one["status"].get("profile_version") for one in api.clients()
            if one["id"].startswith(prefix)}


def wait_version(api, prefix, version, bound_s=30):
    wait_until(lambda: versions(api, prefix) == {version}, bound_s, f"all run version {version}")


def test_a_profile_is_created_shown_and_deleted(fleet):
    first, second = fleet.start_nodes(2)
    created = put(first, "site", url=fleet.broker.url, username="u", password="hushhush")
    assert created.status_code == 201 and created.json()["clients"] == 0, created.text
    version = created.json()["version"]
    assert created.headers["ETag"] == f'"{version}"'
    shown = second.api.get(f"{PROFILES}/site")
    assert shown.json() == {"name": "site", "version": version, "config": {
        "url": fleet.broker.url, "username": "u", "password": "***"}}
    assert shown.headers["ETag"] == f'"{version}"'
    assert [one["name"] for one in first.api.get(PROFILES).json()["profiles"]] == ["site"]
    same = put(second, "site", version, **shown.json()["config"])
    assert same.status_code == 200 and same.json()["version"] == version, same.text
    changed = put(second, "site", version, **shown.json()["config"], keepalive_s=7)
    assert changed.status_code == 200 and changed.json()["version"] > version
    assert put(first, "site", version, keepalive_s=8).status_code == 412
    moved = put(first, "site", url="mqtt://other.example.com", username="u", password="***")
    assert moved.status_code == 422 and "/password" in moved.text, "a secret goes to one broker only"
    assert put(first, "none", 5, keepalive_s=8).status_code == 404
    assert put(first, "..", keepalive_s=8).status_code in (400, 404)
    faults = put(first, "bad", id="x", client_id="y", desired="paused", profile="z", keepalive=1,
                 subscriptions=[{"qos": 1}])
    assert faults.status_code == 422
    assert {one["pointer"] for one in faults.json()["errors"]} == {
        "/id", "/client_id", "/desired", "/profile", "/keepalive", "/subscriptions/0/filter"}
    assert first.api.delete(f"{PROFILES}/site").status_code == 204
    assert second.api.get(f"{PROFILES}/site").status_code == 404
    assert second.api.delete(f"{PROFILES}/site").status_code == 404


def test_own_fields_replace_those_of_the_profile(fleet):
    first, second = fleet.start_nodes(2)
    version = stored(first, "site", url=fleet.broker.url, keepalive_s=41, labels={"site": "a", "of": "p"},
                     subscriptions=["p/one", "p/two"], will={"topic": "p/gone", "payload": "x"})["version"]
    second.api.create([own("plain", "site"),
                       own("mixed", "site", keepalive_s=42, labels={"of": "c"}, will={"topic": "c/gone"},
                           subscriptions=["c/one"])])
    fleet.wait_online(["plain", "mixed"])
    assert fleet.broker.connect_options("plain")[2] == 41
    assert fleet.broker.connect_options("mixed")[2] == 42
    assert fleet.broker.subscriptions() == {"plain": {"p/one", "p/two"}, "mixed": {"c/one"}}
    shown = second.api.client("mixed")
    assert shown["config"] == own("mixed", "site", keepalive_s=42, labels={"of": "c"},
                                  will={"topic": "c/gone"}, subscriptions=["c/one"])
    assert shown["status"]["profile"] == "site" and shown["status"]["profile_version"] == version
    whole = first.api.get(first.api.path("mixed") + "?effective=true").json()["config"]
    assert whole == own("mixed", "site", url=fleet.broker.url, keepalive_s=42, subscriptions=["c/one"],
                        labels={"site": "a", "of": "c"}, will={"topic": "c/gone", "payload": "x"})
    assert [one["id"] for one in first.api.clients(**{"label.site": "a", "label.of": "c"})] == ["mixed"]
    unknown = first.api.post("/api/v1/clients", own("x", "none", url=fleet.broker.url))
    assert unknown.status_code == 422 and unknown.json()["errors"] == [
        {"pointer": "/profile", "detail": "there is no client profile none"}]
    partial = first.api.post("/api/v1/clients", own("x", "site", will={"topik": "a"}))
    assert partial.status_code == 422 and partial.json()["errors"][0]["pointer"] == "/will/topik"
    taken = first.api.post("/api/v1/clients", own("x", "site", client_id="plain"))
    assert taken.status_code == 409, "the broker of the profile is part of the identity"
    used = first.api.delete(f"{PROFILES}/site")
    assert used.status_code == 409 and used.json()["count"] == 2
    assert sorted(used.json()["clients"]) == ["mixed", "plain"]


def test_a_waiting_client_is_selected_by_fields_of_its_profile(fleet):
    node = fleet.start_node("m1", node_info__size=1)
    stored(node, "site", url=fleet.broker.url, labels={"site": "n", "line": "1"})
    for name, labels in (("a", {}), ("b", {"line": "2"}), ("c", {"line": "3"})):
        assert node.api.post("/api/v1/clients", own(name, "site", labels=labels)).status_code == 201
    node.api.create(fleet.document("d", labels={"site": "n"}))

    def groups(**query):
        answer = node.api.get("/api/v1/summary", params=query).json()
        return {one["value"]: one["count"] for one in answer["groups"]}

    wait_until(lambda: groups(by="state") == {"online": 1, "waiting": 3}, 60, "one has room")
    assert groups(by="label.site") == {"n": 4} and groups(by="error", state="waiting").keys() == {None}
    assert groups(by="profile") == {"site": 3, None: 1}
    assert groups(by="broker") == {f"127.0.0.1:{fleet.broker.port}": 4}
    waiting = {one["id"] for one in node.api.clients(state="waiting")}
    assert {one["id"] for one in node.api.clients(state="waiting", **{"label.site": "n"})} == waiting
    for name, line in (("a", "1"), ("b", "2"), ("c", "3")):
        assert [one["id"] for one in node.api.clients(**{"label.line": line})] == [name]


def test_a_change_reaches_all_clients_and_reconnects_only_where_it_must(fleet):
    first, second = fleet.start_nodes(2, profile_change_rate=1000)
    stored(first, "site", url=fleet.broker.url, keepalive_s=41, subscriptions=["p/one"])
    first.api.create([own(f"c{number:02}", "site") for number in range(40)])
    first.api.create(own("odd", "site", keepalive_s=99))
    first.api.create(own("idle", "site", desired="paused"))
    ids = [f"c{number:02}" for number in range(40)] + ["odd"]
    fleet.wait_online(ids)
    mark = fleet.broker.mark()
    changed = put(second, "site", url=fleet.broker.url, keepalive_s=41, subscriptions=["p/two"])
    assert changed.json()["clients"] == 42
    wait_version(first.api, "c", changed.json()["version"])
    wait_until(lambda: set(fleet.broker.subscriptions(mark)) == set(ids), 20, "subscribed")
    assert not fleet.broker.connects(mark), "topics change on the open connection"
    changed = put(second, "site", url=fleet.broker.url, keepalive_s=43, subscriptions=["p/two"])
    wait_version(first.api, "c", changed.json()["version"])
    wait_until(lambda: set(fleet.broker.connects(mark)) == set(ids) - {"odd"}, 20, "reconnected")
    fleet.wait_online(ids)
    assert fleet.broker.connect_options("c07")[2] == 43
    assert first.api.post(first.api.path("idle", "resume")).status_code == 200
    fleet.wait_online(["idle"])
    assert fleet.broker.connect_options("idle")[2] == 43, "a client that starts gets the newest"
    assert fleet.broker.connects(mark)["odd"] == 0
    assert first.api.status("c07")["version"] == first.api.client("c07")["version"]


def test_a_change_that_does_not_suit_all_clients_changes_none(fleet):
    node = fleet.start_node()
    other = fleet.start_broker("other")
    version = stored(node, "site", url=fleet.broker.url)["version"]
    ids = [f"c{number:02}" for number in range(12)]
    node.api.create([own(client, "site") for client in ids])
    node.api.create(own("own", "site", url=other.url, client_id="c03"))
    node.api.create(own("will", "site", will={"payload": "x", "topic": "a"}))
    fleet.wait_online([*ids, "own", "will"])
    refused = put(node, "site", keepalive_s=3)
    assert refused.status_code == 422 and refused.json()["invalid"] == 13, refused.text
    assert len(refused.json()["clients"]) == 10
    assert "/broker: is missing" in refused.json()["clients"][0]["detail"]
    refused = put(node, "site", url=other.url)
    assert refused.status_code == 422 and refused.json()["invalid"] == 1, refused.text
    assert "c03" in refused.text and "own" in refused.text
    assert node.api.get(f"{PROFILES}/site").json()["version"] == version
    assert node.api.delete(node.api.path("own")).status_code == 204
    changed = put(node, "site", url=other.url)
    assert changed.status_code == 200, changed.text
    fleet.wait_online(ids)
    wait_until(lambda: other.connected() >= set(ids), 20, "all are at the other broker")
    taken = node.api.post("/api/v1/clients", {"id": "x", "url": other.url, "client_id": "c05"})
    assert taken.status_code == 409
    assert node.api.post("/api/v1/clients", {"id": "y", "url": fleet.broker.url, "client_id": "c05"}
                         ).status_code == 201, "the old identity is free"


def test_secrets_of_a_profile_are_encrypted_and_open_where_they_are_used(fleet, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
    keys.chmod(0o600)
    broker = fleet.start_broker("guarded", users={"u": "hushhush"})
    node = fleet.start_node(secrets__key_file=keys)
    plain = fleet.start_node()
    stored(node, "site", url=broker.url, username="u", password="hushhush")
    node.api.create([own(f"c{number}", "site") for number in range(6)])
    fleet.wait_online([f"c{number}" for number in range(6)])
    assert {one["placement"]["node"] for one in plain.api.clients()} == {node.name}
    texts = fleet.redis.client.hgetall("mqtt_fleet:profiles")
    assert "hushhush" not in str(texts) and "enc:v1:k1" in texts["site"]
    assert "hushhush" not in plain.api.get(plain.api.path("c1") + "?effective=true").text
    assert not any("hushhush" in log for _, log in fleet.logs())


def test_profiles_survive_a_redis_that_loses_everything(fleet):
    node = fleet.start_node()
    version = stored(node, "site", url=fleet.broker.url)["version"]
    node.api.create([own(f"c{number}", "site") for number in range(6)])
    fleet.wait_online([f"c{number}" for number in range(6)])
    fleet.redis.client.flushall()
    wait_until(lambda: node.api.get(f"{PROFILES}/site").status_code == 200, 30, "the profile is back")
    assert node.api.get(f"{PROFILES}/site").json()["version"] == version
    fleet.wait_online([f"c{number}" for number in range(6)])
    assert fleet.redis.client.hget("mqtt_config:use", "c1").startswith("profile\n{")


@pytest.fixture
def two_authorities(tmp_path):
    return Authority(tmp_path / "one"), Authority(tmp_path / "two")


def test_the_authority_of_a_thousand_clients_is_changed_by_one_call(fleet, two_authorities):
    """The broker gets a certificate of another authority. Until the profile has the new one, no client
    can connect to it."""
    before, after = two_authorities
    broker = fleet.start_broker("tls", tls=before)
    first, second = fleet.start_nodes(2, profile_change_rate=2000, reconnect_max_ms=2000)
    stored(first, "site", url=broker.url, tls={"ca": before.ca.read_text()})
    ids = fleet.create(1000, make=lambda client: own(client, "site", subscriptions=[f"t/{client}"]),
                       api=second.api)
    fleet.wait_online(ids, 120)
    broker.terminate()
    broker.config_path.write_text(broker.config_path.read_text().replace(
        str(before.folder), str(after.folder)))
    broker.start()
    wait_until(lambda: first.api.status(ids[0])["last_error"], 30, "the new certificate is refused")
    mark = broker.mark()
    holds_for(lambda: not broker.connects(mark), 1, "nobody connects")
    changed = put(second, "site", url=broker.url, tls={"ca": after.ca.read_text()})
    assert changed.status_code == 200 and changed.json()["clients"] == 1000, changed.text
    fleet.wait_online(ids, 120)
    wait_version(first.api, "c", changed.json()["version"], 60)
    assert len(broker.connects(mark)) == 1000


def test_the_sinks_that_a_profile_names_exist_and_cannot_be_deleted(fleet):
    node = fleet.start_node()
    routes = [{"to": ["default", "archive"]}]
    for fields, pointer in (({"sink": "archive"}, "/sink"), ({"routes": routes}, "/routes/0/to/1")):
        refused = put(node, "site", url=fleet.broker.url, **fields)
        assert refused.status_code == 422, refused.text
        assert [fault["pointer"] for fault in refused.json()["errors"]] == [pointer]
        assert "there is no sink" in refused.text
    assert node.api.put("/api/v1/sinks/archive", {"type": "null"}).status_code == 201
    for fields in ({"sink": "archive"}, {"routes": routes}):
        stored(node, "site", url=fleet.broker.url, **fields)
        used = node.api.delete("/api/v1/sinks/archive")
        assert used.status_code == 409 and used.json()["profiles"] == ["site"], used.text
    stored(node, "site", url=fleet.broker.url)
    assert node.api.delete("/api/v1/sinks/archive").status_code == 204
