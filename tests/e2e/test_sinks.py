"""Sinks by name: those of a node's settings, and those of the fleet."""

import json
import subprocess

import redis

from fleet.node import BINARY, environment
from fleet.wait import PATIENCE, wait_until
from test_access import Desk
from test_cli import Cli


def run(*words):
    return subprocess.run([BINARY, *map(str, words)], env=environment(), capture_output=True,
                          text=True, timeout=30 * PATIENCE)


def write(path, text):
    path.write_text(text)
    return path


GOOD = """\
sinks:
  archive:
    type: file
    path: %s
    queue_messages: 500
  remote:
    type: redis_stream
    key: 0123
    url: redis://user:hushhush@127.0.0.1:1/0
    ignore_groups: [one, two]
"""

BAD = """\
sinks:
  Bad Name:
    type: file
    path: /tmp/x
  default:
    type: file
    path: /tmp/x
  typo:
    type: redis_stream
    kee: x
    queue_messages: many
  unknown:
    type: kafkaa
  none:
    key: x
"""


def test_every_fault_of_the_sinks_is_one_line_with_its_place(tmp_path):
    path = write(tmp_path / "n.yml", BAD)
    faults = [(2, "sinks.Bad Name "), (5, "sinks.default "), (10, "sinks.typo.kee "),
              (11, "sinks.typo.queue_messages "), (8, "sinks.typo.key is missing"),
              (13, "sinks.unknown.type kafkaa is unknown"), (14, "sinks.none.type is missing")]
    for mode in ([], ["--check-config"]):
        result = run(*mode, "--config", path)
        assert result.returncode == 2
        lines = result.stderr.splitlines()
        assert len(lines) == len(faults), result.stderr
        for number, text in faults:
            assert any(f"{path}:{number}: {text}" in line for line in lines), (text, lines)


NOT_OPENED = """\
sink: {type: file, path: /nowhere/messages}
sinks:
  archive:
    type: file
    path: /nowhere/else/archive
  alarms:
    type: redis_stream
    key: "{topic.x}"
  web:
    type: http
    url: http://127.0.0.1:9/
    tls_ca: /nowhere/ca.pem
"""


def test_what_a_type_finds_wrong_stops_the_start_too(tmp_path):
    path = write(tmp_path / "n.yml", NOT_OPENED)
    for mode in ([], ["--check-config"]):
        result = run(*mode, "--config", path)
        assert result.returncode == 2
        lines = result.stderr.splitlines()
        assert len(lines) == 4, result.stderr
        for text in (":5: sinks.archive.path /nowhere/else/archive: its folder does not exist",
                     ":8: sinks.alarms.key", ":12: sinks.web.tls_ca", "mqfleetd: sink.path /nowhere"):
            assert any(text in line for line in lines), (text, lines)


def test_printed_sinks_hide_secrets_and_load_again(tmp_path):
    path = write(tmp_path / "n.yml", GOOD % (tmp_path / "archive"))
    assert run("--check-config", "--config", path).returncode == 0
    printed = run("--print-config", "--config", path)
    assert printed.returncode == 0 and "hushhush" not in printed.stdout + printed.stderr
    assert "***@127.0.0.1:1/0" in printed.stdout
    again = run("--print-config", "--config", write(tmp_path / "again.yml", printed.stdout))
    assert again.stdout == printed.stdout


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_clients_name_a_sink_of_the_nodes_settings(fleet, tmp_path):
    archive = tmp_path / "archive.ndjson"
    node = fleet.start_node(sinks__archive__type="file", sinks__archive__path=archive)
    other = fleet.start_node()
    plain = fleet.online(1, "plain")[0]
    named = fleet.online(1, "named", sink="archive")[0]
    assert node.api.client(named)["placement"]["node"] == node.name
    refused = other.api.post("/api/v1/clients", fleet.document("x", sink="archive"))
    assert refused.status_code == 422 and "/sink" in refused.text
    fleet.broker.publish_all([(f"t/{named}/x", b"to the file"), (f"t/{plain}/x", b"to Redis")])
    wait_until(lambda: [row["payload"] for row in rows(archive)] == ["to the file"], 20,
               "the archive has its message")
    wait_until(lambda: [row[b"payload"] for row in fleet.stream.rows()] == [b"to Redis"], 20,
               "the stream has its message")
    metrics = node.api.get("/metrics").text
    assert 'mqfleet_sink_failing{sink="archive"} 0' in metrics
    assert 'mqfleet_sink_failing{sink="redis_stream"} 0' in metrics  # the default, by its type
    assert "[+]sink.archive ok" in node.api.get("/readyz?verbose").text


def test_a_client_whose_sink_is_on_no_node_waits_until_one_has_it(fleet, tmp_path):
    node = fleet.start_node(sinks__archive__type="file", sinks__archive__path=tmp_path / "a")
    fleet.online(1, "named", sink="archive")
    node.terminate()
    fleet.start_node()
    wait_until(lambda: fleet.shared().unplaced() == {"no_node_has_sink": 1}, 30, "the reason")
    node.start()
    fleet.wait_online(["named00000"], api=node.api)


def test_a_client_whose_routes_need_a_sink_goes_where_it_is_or_waits(fleet, tmp_path):
    first = fleet.start_node(sinks__archive__type="file", sinks__archive__path=tmp_path / "a")
    second = fleet.start_node()
    routes = [{"match": {"topic": "t/named00000/#"}, "to": ["archive"]},
              {"match": {"labels": {"site": "oslo"}}, "to": ["default"], "also": ["archive"]}]
    assert first.api.put("/api/v1/routes", {"routes": routes}).status_code == 200
    wait_until(lambda: all("resources_applied" in node.log() for node in (first, second)), 20,
               "both know them")
    fleet.online(4, "plain", api=second.api)
    fleet.online(1, "named", make=fleet.persistent, api=second.api)
    owner = second.api.client("named00000")["placement"]["node"]
    assert owner == first.name  # the one with more clients than the other, if need be
    first.terminate()
    fleet.wait_online([f"plain{n:05}" for n in range(4)], api=second.api)
    wait_until(lambda: fleet.shared().unplaced() == {"no_node_has_sink": 1}, 30, "the reason")
    assert second.api.status("named00000")["waiting"]["reason"] == "no_node_has_sink"
    first.start()
    fleet.wait_online(["named00000"], api=first.api)


def test_the_default_sink_answers_to_its_own_name_and_to_its_type(fleet):
    node = fleet.start_node()
    for name in ("default", "redis_stream", "null"):
        assert node.api.create(fleet.document(name, sink=name))
    fleet.wait_online(["default", "redis_stream", "null"])
    fleet.broker.publish_all([(f"t/{name}/x", name.encode())
                              for name in ("default", "redis_stream", "null")])
    wait_until(lambda: {row[b"payload"] for row in fleet.stream.rows()} ==
               {b"default", b"redis_stream"}, 20, "both names lead to the stream")


# ---- sinks of the fleet --------------------------------------------------------------------------


def put_sink(node, name, version=None, **config):
    headers = {"If-Match": f'"{version}"'} if version else {}
    return node.api.put(f"/api/v1/sinks/{name}", config, headers=headers)


def sink(node, name):
    answer = node.api.get(f"/api/v1/sinks/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait_applied(nodes, name, version):
    def applied():
        answer = sink(nodes[0], name)
        seen = {one["node"]: one["version"] for one in answer["nodes"]
                if one["state"] in ("working", "failing") and not one["not_applied"]}
        assert seen == {node.name: version for node in nodes}, answer
        return True
    wait_until(applied, 20, f"sink {name} is applied", poll_s=0.05)


def numbers(rows_of_client):
    return [int(payload) for payload in rows_of_client]


def test_a_sink_is_created_changed_and_deleted_on_all_nodes(fleet, tmp_path):
    first, second = fleet.start_nodes(2, sink__files_allow=tmp_path)
    created = put_sink(first, "archive", type="file", path=str(tmp_path / "a" / "x"))
    assert created.status_code == 201 and created.json()["origin"] == "fleet", created.text
    version = created.json()["version"]
    assert created.headers["ETag"] == f'"{version}"'
    wait_until(lambda: {one["state"] for one in sink(second, "archive")["nodes"]} == {"unavailable"}
               and len(sink(second, "archive")["nodes"]) == 2, 20, "no node has the folder")
    assert "folder" in sink(second, "archive")["nodes"][0]["last_error"]
    assert put_sink(second, "archive", version - 1, type="file", path="/x").status_code in (412, 422)
    same = put_sink(second, "archive", version, type="file", path=str(tmp_path / "a" / "x"))
    assert same.status_code == 200 and same.json()["version"] == version
    changed = put_sink(second, "archive", version, type="null")
    assert changed.status_code == 409 and "type" in changed.json()["detail"]
    changed = put_sink(second, "archive", version, type="file", path=str(tmp_path / "b"),
                       queue_messages=77)
    assert changed.status_code == 200 and changed.json()["version"] > version
    stale = put_sink(first, "archive", version, type="file", path=str(tmp_path / "c"))
    assert stale.status_code == 412
    wait_until(lambda: all(one["version"] == changed.json()["version"]
                           for one in sink(first, "archive")["nodes"]), 20, "both have it")
    assert first.api.get("/api/v1/sinks").json()["incomplete"] == []
    names = {one["name"]: one["origin"] for one in first.api.get("/api/v1/sinks").json()["sinks"]}
    assert names["archive"] == "fleet" and names["default"] == "node"
    assert first.api.delete("/api/v1/sinks/archive").status_code == 204
    assert first.api.delete("/api/v1/sinks/archive").status_code == 404
    wait_until(lambda: second.api.get("/api/v1/sinks/archive").status_code == 404, 20, "it is gone")


def test_a_sink_that_is_used_is_not_deleted(fleet):
    node = fleet.start_node()
    assert put_sink(node, "alarms", type="redis_stream", key="alarms").status_code == 201
    assert put_sink(node, "dead", type="redis_stream", key="dead").status_code == 201
    wait_until(lambda: put_sink(node, "alarms", type="redis_stream", key="alarms",
                                dead_letter="dead").status_code == 200, 20, "dead is known")
    refused = node.api.delete("/api/v1/sinks/dead")
    assert refused.status_code == 409 and refused.json()["sinks"] == ["alarms"]
    client = fleet.online(1, "named", sink="alarms")[0]
    refused = node.api.delete("/api/v1/sinks/alarms")
    assert refused.status_code == 409 and refused.json()["clients"] == [client]
    assert refused.json()["type"].endswith("in-use")
    node.api.delete(f"/api/v1/clients/{client}")
    assert node.api.delete("/api/v1/sinks/alarms").status_code == 204


def test_all_faults_of_a_document_have_pointers(fleet, tmp_path):
    node = fleet.start_node(broker_deny="10.0.0.0/8", sink__files_allow=tmp_path)
    answer = put_sink(node, "x", type="redis_stream", url="redis://10.1.2.3:1/0", maxlen=-1,
                      kee="y", dead_letter="nosuch")
    assert answer.status_code == 422
    assert {fault["pointer"] for fault in answer.json()["errors"]} == \
        {"/url", "/maxlen", "/kee", "/key", "/dead_letter"}
    for path in ("/etc/passwd", str(tmp_path / ".." / "x"), "relative"):
        answer = put_sink(node, "x", type="file", path=path)
        assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == "/path", path
    for name in ("default", "redis_stream", "dead_letter"):
        assert put_sink(node, name, type="null").status_code == 409
    assert put_sink(node, "UPPER", type="null").status_code == 400
    assert put_sink(node, "x", type="pigeon").json()["errors"][0]["pointer"] == "/type"


def test_secrets_of_a_sink_are_encrypted_and_never_shown(fleet, tmp_path):
    key = write(tmp_path / "key", run("--new-key").stdout)
    key.chmod(0o600)
    node = fleet.start_node(secrets__key_file=key)
    other = fleet.start_node(secrets__key_file=key)
    url = fleet.redis.url.replace("redis://", "redis://default:hushhush@")
    created = put_sink(node, "remote", type="redis_stream", key="k", url=url)
    assert created.status_code == 201
    shown = created.json()["config"]["url"]
    assert "hushhush" not in created.text and "***" in shown
    assert "hushhush" not in str(fleet.redis.client.hgetall("mqtt_fleet:sinks"))
    version = created.json()["version"]
    wait_until(lambda: other.name in [one["node"] for one in sink(node, "remote")["nodes"]], 20,
               "the other node has it")
    assert "hushhush" not in node.api.get("/api/v1/sinks").text
    kept = put_sink(other, "remote", version, type="redis_stream", key="k2", url=shown)
    assert kept.status_code == 200, kept.text  # the mask stands for what is stored
    moved = put_sink(other, "remote", type="redis_stream", key="k2",
                     url=shown.replace("127.0.0.1", "127.0.0.2"))
    assert moved.status_code == 422 and moved.json()["errors"][0]["pointer"] == "/url"
    web = {"type": "http", "username": "u", "password": "***"}
    assert put_sink(node, "web", **{**web, "password": "hushhush"},
                    url="http://127.0.0.1:9/a").status_code == 201
    assert put_sink(node, "web", **web, url="http://127.0.0.1:9/a", queue_messages=9).status_code == 200
    moved = put_sink(node, "web", **web, url="http://127.0.0.2:9/a")
    assert moved.status_code == 422 and moved.json()["errors"][0]["pointer"] == "/password"
    assert "hushhush" not in node.log() + other.log()


def test_a_secret_of_a_sink_in_a_file_of_the_node_may_change(fleet, tmp_path):
    node = fleet.start_node(secrets__files_allow=tmp_path)
    url = tmp_path / "url"
    refused = put_sink(node, "remote", type="redis_stream", key="k", url={"file": "/etc/passwd"})
    assert refused.status_code == 422 and refused.json()["errors"][0]["pointer"] == "/url"
    refused = put_sink(node, "remote", type="redis_stream", key="k", url={"env": "PATH"})
    assert refused.status_code == 422 and "env_prefix" in refused.text
    created = put_sink(node, "remote", type="redis_stream", key="k", url={"file": str(url)})
    assert created.json()["config"]["url"] == {"file": str(url)}, created.text
    report = wait_until(lambda: sink(node, "remote")["nodes"], 20, "the node tries it")[0]
    assert report["state"] == "unavailable" and str(url) in report["last_error"], report
    tested = node.api.post("/api/v1/sinks:test?name=remote").json()
    assert not tested["ok"] and str(url) in tested["steps"][-1]["detail"], tested
    # At once: an empty file would be another fault.
    write(tmp_path / "next", fleet.redis.url.replace("/0", "/1") + "\n").rename(url)
    wait_applied([node], "remote", created.json()["version"])
    client = fleet.online(1, "named", make=fleet.persistent, sink="remote")[0]
    databases = [redis.Redis.from_url(fleet.redis.url.replace("/0", f"/{n}")) for n in (1, 2)]
    fleet.broker.publish_all([(f"t/{client}/x", b"1")])
    wait_until(lambda: databases[0].xlen("k") == 1, 20, "it is where the file says")
    url.unlink()
    wait_until(lambda: sink(node, "remote")["nodes"][0]["not_applied"], 20, "it is not readable")
    write(tmp_path / "next", fleet.redis.url.replace("/0", "/2")).rename(url)
    wait_until(lambda: not sink(node, "remote")["nodes"][0]["not_applied"], 20, "it is again")
    fleet.broker.publish_all([(f"t/{client}/x", b"2")])
    wait_until(lambda: databases[1].xlen("k") == 1, 20, "it is where the file says now")
    assert databases[0].xlen("k") == 1 and node.log().count("sink_not_applied") == 2


def test_numbered_messages_while_the_key_of_a_sink_changes(fleet):
    first, second = fleet.start_nodes(2)
    version = put_sink(first, "moving", type="redis_stream", key="one").json()["version"]
    wait_applied([first, second], "moving", version)
    clients = fleet.online(4, "m", make=fleet.persistent, sink="moving")
    total, keys = 400, ["one", "two", "three", "four"]
    for step, key in enumerate(keys):
        if step > 0:
            assert put_sink(second, "moving", type="redis_stream", key=key).status_code == 200
        begin = step * total // len(keys)
        for number in range(begin, begin + total // len(keys)):
            fleet.broker.publish_all([(f"t/{client}/x", b"%d" % number) for client in clients])

    def received(client):
        return [int(fields[b"payload"]) for key in keys
                for _, fields in fleet.redis.bytes_client.xrange(key)
                if fields[b"id"] == client.encode()]

    wait_until(lambda: all(len(received(client)) >= total for client in clients), 60,
               "all have arrived")
    for client in clients:
        assert received(client) == list(range(total)), client


def test_a_broken_target_holds_only_its_clients_and_a_change_frees_them(fleet):
    node = fleet.start_node()
    version = put_sink(node, "broken", type="redis_stream", key="b",
                       url="redis://127.0.0.1:1/0").json()["version"]
    wait_applied([node], "broken", version)
    plain = fleet.online(1, "plain")[0]
    named = fleet.online(1, "named", make=fleet.persistent, sink="broken")[0]
    fleet.broker.publish_all([(f"t/{named}/x", b"%d" % n) for n in range(50)])
    fleet.broker.publish_all([(f"t/{plain}/x", b"plain")])
    wait_until(lambda: [row[b"payload"] for row in fleet.stream.rows()] == [b"plain"], 20,
               "the neighbour is served")
    wait_until(lambda: sink(node, "broken")["nodes"][0]["state"] == "failing", 20, "it fails")
    assert node.api.get("/readyz").status_code == 200  # others are served
    assert "[!]sink.broken" in node.api.get("/readyz?verbose").text
    served = sink(node, "default")["nodes"][0]["latency"]
    assert served["messages"] == 1 and 0 < served["p50_ms"] <= served["p99_ms"], served
    [hold] = node.api.status(named)["held_by"]
    assert (hold["sink"], hold["reason"]) == ("broken", "failing") and hold["since"]
    assert node.api.status(plain)["held_by"] == []
    shown = Cli(node).good("get", named)
    assert f"sink broken is failing: {hold['last_error']}" in shown, shown
    report = sink(node, "broken")["nodes"][0]
    assert report["last_error"] == hold["last_error"]
    assert report["latency"] == {"messages": 0, "p50_ms": None, "p99_ms": None}
    assert report["queued_messages"] >= 10 and report["last_error"] and report["retried"] > 0
    assert put_sink(node, "broken", type="redis_stream", key="b").status_code == 200
    wait_until(lambda: [int(fields[b"payload"]) for _, fields in
                        fleet.redis.bytes_client.xrange("b")] == list(range(50)), 30,
               "they arrive in order at the new target")
    wait_until(lambda: node.api.status(named)["held_by"] == [], 20, "nothing holds it")


def test_a_client_online_before_its_sink_gets_its_messages_there(fleet):
    """By hand in Redis, since the API does not accept such a client."""
    node = fleet.start_node()
    put_sink(node, "alarms", type="redis_stream", key="one")
    client = fleet.online(1, "named", make=fleet.persistent, sink="alarms")[0]
    saved = fleet.redis.client.hgetall("mqtt_fleet:sinks")
    fleet.redis.client.delete("mqtt_fleet:sinks")
    fleet.redis.client.set("mqtt_fleet:resources", 5)
    wait_until(lambda: node.api.get("/api/v1/sinks/alarms").status_code == 404, 20, "it is gone")
    fleet.broker.publish_all([(f"t/{client}/x", b"%d" % number) for number in range(10)])
    [hold] = wait_until(lambda: node.api.status(client)["held_by"], 20, "it says why it waits")
    assert (hold["sink"], hold["reason"], hold["last_error"]) == ("alarms", "missing", None)
    fleet.redis.client.hset("mqtt_fleet:sinks", mapping=saved)
    fleet.redis.client.set("mqtt_fleet:resources", 7)
    wait_until(lambda: [int(fields["payload"]) for _, fields in fleet.redis.client.xrange("one")] ==
               list(range(10)), 30, "they waited, and arrive in order")
    assert fleet.stream.rows() == []


def test_messages_wait_for_a_sink_that_the_node_cannot_use_yet(fleet, tmp_path):
    node = fleet.start_node(sink__files_allow=tmp_path)
    path = tmp_path / "later" / "x"
    put_sink(node, "archive", type="file", path=str(path))
    wait_until(lambda: sink(node, "archive")["nodes"][0]["state"] == "unavailable", 20, "no folder")
    client = fleet.online(1, "named", make=fleet.persistent)[0]
    changed = fleet.persistent(client, sink="archive")
    assert node.api.put(f"/api/v1/clients/{client}?wait_ms=5000", changed).status_code == 200
    fleet.broker.publish_all([(f"t/{client}/x", b"%d" % number) for number in range(10)])
    path.parent.mkdir()
    wait_until(lambda: [int(row["payload"]) for row in rows(path)] == list(range(10)), 30,
               "they waited, and arrive in order")
    assert fleet.stream.rows() == []


def test_sinks_outlive_nodes_and_a_node_that_joins_has_them_before_its_clients(fleet):
    node = fleet.start_node()
    version = put_sink(node, "alarms", type="redis_stream", key="alarms").json()["version"]
    client = fleet.online(1, "named", make=fleet.persistent, sink="alarms")[0]
    for number in range(3):
        node.kill()
        node.start()
        fleet.wait_online([client], api=node.api)
        fleet.broker.publish_all([(f"t/{client}/x", b"%d" % number)])
        wait_until(lambda: fleet.redis.client.xlen("alarms") > number, 20, "it is in its stream")
    assert sink(node, "alarms")["version"] == version
    assert fleet.stream.rows() == []  # none went to the default


def test_what_redis_says_is_applied_also_if_it_goes_back(fleet):
    node = fleet.start_node()
    first = put_sink(node, "alarms", type="redis_stream", key="one").json()["version"]
    kept = fleet.redis.client.hget("mqtt_fleet:sinks", "alarms")
    put_sink(node, "alarms", type="redis_stream", key="two")
    fleet.redis.client.hset("mqtt_fleet:sinks", "alarms", kept)
    fleet.redis.client.set("mqtt_fleet:resources", first)
    wait_applied([node], "alarms", first)
    fleet.redis.client.delete("mqtt_fleet:sinks")
    fleet.redis.client.set("mqtt_fleet:resources", 5)
    wait_until(lambda: node.api.get("/api/v1/sinks/alarms").status_code == 404, 20, "it is gone")


def test_a_redis_that_comes_back_empty_gets_the_sinks_back(fleet):
    nodes = fleet.start_nodes(2)
    version = put_sink(nodes[0], "alarms", type="redis_stream", key="one").json()["version"]
    wait_applied(nodes, "alarms", version)
    client = fleet.online(1, "named", make=fleet.persistent, sink="alarms")[0]
    fleet.redis.client.flushall()
    wait_until(lambda: fleet.redis.client.hexists("mqtt_fleet:sinks", "alarms"), 30, "it is back")
    wait_applied(nodes, "alarms", version)
    fleet.wait_online([client])
    fleet.broker.publish_all([(f"t/{client}/x", b"after")])
    wait_until(lambda: fleet.redis.client.xlen("one") == 1, 20, "and works")


def test_a_sink_of_the_nodes_settings_overrides_that_of_the_fleet(fleet, tmp_path):
    plain = fleet.start_node()
    own = fleet.start_node(sinks__alarms__type="file", sinks__alarms__path=tmp_path / "a")
    assert put_sink(own, "alarms", type="null").status_code == 409
    assert put_sink(plain, "alarms", type="null").status_code == 201
    wait_until(lambda: {one["node"]: (one["type"], one["overrides_fleet"])
                        for one in sink(plain, "alarms")["nodes"]} ==
               {plain.name: ("null", False), own.name: ("file", True)}, 20, "both are shown")


def test_a_test_of_a_sink_reports_steps_and_writes_nothing(fleet, tmp_path):
    node = fleet.start_node(sink__files_allow=tmp_path)

    def steps(**document):
        answer = node.api.post("/api/v1/sinks:test", document)
        assert answer.status_code == 200, answer.text
        report = answer.json()
        return report["ok"], [(step["step"], step["ok"]) for step in report["steps"]]

    good = {"type": "redis_stream", "key": "k"}
    assert steps(**good) == (True, [("settings", True), ("connect", True), ("permission", True)])
    assert steps(**good, url="redis://127.0.0.1:1/0") == \
        (False, [("settings", True), ("connect", False)])
    fleet.redis.client.set("k", "text")
    assert steps(**good)[1][-1] == ("permission", False)
    fleet.redis.client.delete("k")
    invalid = node.api.post("/api/v1/sinks:test", {"type": "redis_stream"})
    assert invalid.status_code == 422 and invalid.json()["errors"][0]["pointer"] == "/key"
    assert steps(type="file", path=str(tmp_path / "x"))[0]
    assert not steps(type="file", path=str(tmp_path / "none" / "x"))[0]
    assert steps(type="null") == (True, [("settings", True), ("open", True)])
    assert put_sink(node, "alarms", **good).status_code == 201
    answer = node.api.post("/api/v1/sinks:test?name=alarms")
    assert answer.status_code == 200 and answer.json()["ok"]
    assert node.api.post("/api/v1/sinks:test?name=none").status_code == 404
    assert fleet.redis.client.exists("k") == 0 and not (tmp_path / "x").exists()


def test_only_an_admin_changes_sinks(fleet, tmp_path):
    desk = Desk(fleet, tmp_path)
    node = desk.start_node()
    document = {"type": "redis_stream", "key": "k"}
    for role, code in (("viewer", 403), ("operator", 403), ("admin", 201)):
        api = desk.api(node, role)
        assert api.put("/api/v1/sinks/alarms", document).status_code == code
        assert api.get("/api/v1/sinks").status_code == 200
        tested = api.post("/api/v1/sinks:test", document)
        assert tested.status_code == (200 if role == "admin" else 403)
    for role, code in (("viewer", 403), ("operator", 403), ("admin", 204)):
        assert desk.api(node, role).delete("/api/v1/sinks/alarms").status_code == code


def test_the_command_line_knows_sinks(fleet, tmp_path):
    node = fleet.start_node("m1")
    cli = Cli(node)
    file = write(tmp_path / "alarms.json", json.dumps({"type": "redis_stream", "key": "alarms"}))
    assert "permission" in cli.good("sinks", "test", "--file", file)
    assert "alarms created" in cli.good("sinks", "apply", "alarms", "--file", file)
    assert "alarms applied" in cli.good("sinks", "apply", "alarms", "--file", file)
    wait_until(lambda: "working" in "".join(line for line in cli.good("sinks").splitlines()
                                            if line.startswith("alarms")), 20, "it is listed")
    assert json.loads(cli.good("sinks", "get", "alarms"))["config"]["key"] == "alarms"
    assert {"default", "alarms"} <= set(cli.good("sinks", "-o", "id").split())
    assert "permission" in cli.good("sinks", "test", "alarms")
    assert "/key" in cli.fails(6, "sinks", "apply", "x", "--file",
                               write(tmp_path / "bad.json", '{"type": "redis_stream"}'))
    assert "alarms" in cli.good("__complete", "sinks", "get", "al")
    assert "--yes" in cli.fails(2, "sinks", "delete", "alarms")
    assert "alarms deleted" in cli.good("sinks", "delete", "alarms", "--yes")
    wait_until(lambda: cli.run("sinks", "get", "alarms").returncode == 3, 20, "it is gone")
    assert "usage" in cli.fails(2, "sinks", "get")
