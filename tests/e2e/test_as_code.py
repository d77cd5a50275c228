"""The fleet as documents: apply, export, import and edit."""

import json
import os
import stat
import subprocess

import pytest

from fleet.node import ROOT
from fleet.wait import wait_until
from test_cli import Cli
from test_sinks import run, write


def client(name, **more):
    return {"id": name, "broker": "127.0.0.1", "port": 1, "client_id": name, "username": "u", "desired": "paused",
            **more}


def text(kind, document):
    return f"kind: {kind}\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in document.items())


def documents(*pairs):
    return "---\n".join(text(kind, document) for kind, document in pairs)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("key") / "key", run("--new-key").stdout)
    path.chmod(0o600)
    return path


@pytest.fixture
def cli(fleet, key, tmp_path):
    return Cli(fleet.start_node("m1", secrets__key_file=key, sink__files_allow=tmp_path))


def totals(output):
    return {word: int(number) for number, word in
            (part.split()[:2] for part in output.strip().splitlines()[-1].split(", "))}


def test_a_folder_is_applied_compared_and_pruned(fleet, cli, tmp_path):
    api = fleet.nodes[0].api
    folder = tmp_path / "fleet"
    (folder / "site").mkdir(parents=True)
    (folder / "site/notes.txt").write_text("not a document")
    sink = {"name": "events", "type": "file", "path": str(tmp_path / "events.ndjson"),
            "dead_letter": "rest"}
    rest = {"name": "rest", "type": "null"}
    (folder / "a-sinks.yaml").write_text(documents(("sink", sink), ("sink", rest)))
    (folder / "routes.yml").write_text("kind: routes\nroutes:\n- match: {topic: 'a/#'}\n  to: [events]\n")
    (folder / "site/clients.yaml").write_text(documents(
        *[("client", client(f"c{i}", labels={"site": "n" if i else "s"}, password="secret"))
          for i in range(3)], ("client", client("s1", sink="rest"))))
    (folder / "more.json").write_text(json.dumps([{"kind": "client", **client("j1")}]))

    plan = cli.run("apply", "-f", folder, "--diff")
    assert plan.returncode == 1, plan.stdout + plan.stderr
    assert "would create sink rest" in plan.stdout and "would create client c0" in plan.stdout
    assert "would create client s1" in plan.stdout  # it names what the plan creates
    assert api.get("/api/v1/clients").json()["clients"] == []
    assert totals(cli.good("apply", "-f", folder)) == {
        "created": 8, "changed": 0, "unchanged": 0, "deleted": 0, "failed": 0}
    assert api.get("/api/v1/clients/s1").json()["config"]["sink"] == "rest"
    again = cli.run("apply", "-f", folder, "--diff")
    assert again.returncode == 0, again.stdout
    versions = {one["id"]: one["version"] for one in api.get("/api/v1/clients").json()["clients"]}
    assert totals(cli.good("apply", "-f", folder))["unchanged"] == 8
    assert versions == {one["id"]: one["version"] for one in api.get("/api/v1/clients").json()["clients"]}

    (folder / "site/clients.yaml").write_text(documents(
        ("client", client("c1", labels={"site": "n"}, password="other", keepalive_s=7)),
        ("client", client("c2", labels={"site": "n"}, password="secret"))))
    plan = cli.run("apply", "-f", folder, "--diff", "--prune")
    assert plan.returncode == 1
    assert "/keepalive_s" in plan.stdout and "/password" in plan.stdout
    assert "secret" not in plan.stdout and "other" not in plan.stdout
    assert "would delete client c0" in plan.stdout and "would delete client s1" in plan.stdout
    one = json.loads(cli.run("apply", "-f", folder, "--dry-run", "-o", "json").stdout.splitlines()[0])
    assert one["name"] == "c1" and one["outcome"] == "changed" and one["dry_run"] is True
    only = cli.run("apply", "-f", folder, "--prune", "--diff", "-l", "site=s")
    assert "would delete client c0" not in only.stdout and totals(only.stdout)["changed"] == 0
    assert "no document matches" in only.stderr
    assert "--yes is required" in cli.fails(2, "apply", "-f", folder, "--prune")
    done = cli.good("apply", "-f", folder, "--prune", "--yes")
    assert totals(done)["deleted"] == 2, done
    assert {one["id"] for one in api.get("/api/v1/clients").json()["clients"]} == {"c1", "c2", "j1"}
    assert api.get("/api/v1/sinks/events").json()["version"]
    assert "routes: 0" in cli.fails(6, "sinks", "delete", "events", "--yes")  # who names it


def test_a_selector_decides_which_clients_are_applied_pruned_and_exported(fleet, cli, tmp_path):
    api = fleet.nodes[0].api
    path = tmp_path / "clients.yaml"
    path.write_text(documents(
        ("client-profile", {"name": "north", "labels": {"site": "n", "line": "1"}}),
        ("sink", {"name": "rest", "type": "null"}),
        ("client", client("a1", profile="north")), ("client", client("a2", profile="north", labels={"site": "s"})),
        ("client", client("b1", labels={"site": "n"})), ("client", client("b2", labels={"site": "a,b"}))))
    cli.good("apply", "-f", path)
    for number in range(3):
        assert api.post("/api/v1/clients", client(f"old{number}", labels={"site": "nso"[number]})).status_code == 201
    wait_until(lambda: len(api.clients(state="paused")) == 7, 60, "a node runs each of them")

    def names(*selector):
        plan = cli.run("apply", "-f", path, "--prune", "--diff", "-o", "json", *selector)
        assert plan.returncode in (0, 1), plan.stdout + plan.stderr
        *changes, sums = map(json.loads, plan.stdout.splitlines())
        return sums["unchanged"], [one["name"] for one in changes if one["outcome"] == "deleted"]

    assert names("-s", "label.site=n") == (2, ["old0"])  # a1 has it from its profile
    assert names("-l", "site=n") == (2, ["old0"])
    assert names("-s", "label.site=n&label%5Bline%5D=1,2") == (1, [])
    assert names("-s", "label.site=s,a\\,b&id_prefix=a,b") == (2, [])
    assert names("-s", "profile=north") == (2, [])
    assert names("--selector", "id_prefix=b,old1") == (2, ["old1"])
    assert "label.NAME, id_prefix and profile" in cli.fails(6, "apply", "-f", path, "-s", "state=online")
    assert "unknown key; the keys are" in cli.fails(6, "apply", "-f", path, "-s", "colour=red")
    for wrong in ("", "&"):
        assert "is empty" in cli.fails(6, "import", path, "-s", wrong)
        assert "is empty" in cli.fails(6, "export", "-s", wrong)
    assert "stands alone" in cli.fails(2, "apply", "-f", path, "-s", "profile=north", "-l", "site=n")
    assert totals(cli.good("import", path, "-s", "id_prefix=old0,b", "--prune", "--yes"))["deleted"] == 1
    assert api.get("/api/v1/clients/old0").status_code == 404

    def exported(*selector):
        return sorted(line.split()[1].strip('"') for line in cli.good("export", *selector).splitlines()
                      if line.startswith("id: "))

    assert exported("-s", "label.site=n,s&id_prefix=a") == ["a1", "a2"]
    assert exported("-s", "state=paused,waiting&label.site=n") == ["a1", "b1"]
    assert exported("-s", "broker=127.0.0.1:1&profile=north&degraded=false") == ["a1", "a2"]
    assert exported("-s", "error=dns_failed") == []
    assert "kind: sink" not in cli.good("export", "-s", "state=paused")
    told = cli.fails(6, "export", "-f", tmp_path / "not", "-s", "state=odd")
    assert "must be waiting, connecting" in told and not (tmp_path / "not").exists()


def test_faults_are_told_with_file_and_line_and_nothing_is_applied(fleet, cli, tmp_path):
    path = tmp_path / "bad.yaml"
    for content, told in (
            ("kind: client\nid: a\nid: b\n", "line 3, column 1: duplicate key"),
            ("kind: client\nbroker: &x b\n", "anchors and tags"),
            ("kind: [client\n", "invalid YAML"),
            ("kind: gadget\nid: a\n", "line 1: the member kind must be"),
            ("id: a\n", "the member kind must be"),
            ("kind: client\nbroker: b\n", "needs the member id"),
            ("- 5\n", "must be an object"),
            ("kind: sink\nname: a\n---\nkind: sink\nname: a\n", "line 4: sink/a is also in"),
            ("# nothing\n", "has no documents")):
        path.write_text(content)
        told_by = cli.fails(6, "apply", "-f", path)
        assert told in told_by and str(path) in told_by, told_by
    deep = "a: " + "[" * 100 + "]" * 100 + "\n"
    path.write_text("kind: client\n" + deep)
    assert "nested too deeply" in cli.fails(6, "apply", "-f", path)
    path.write_text(documents(
        ("client", client("good")), ("client", client("bad", colour="red", subscriptions=[{"filter": "a/#/b"}])),
        ("sink", {"name": "bad", "type": "http", "url": "http://h/", "colour": 5, "size": 1}),
        ("client", client("worse", port=0, labels={"a b": "c"}))))
    failed = cli.run("apply", "-f", path, "-o", "json")
    told = failed.stderr.splitlines()
    for number, name, pointer in ((2, "client bad", "/colour"), (2, "client bad", "/subscriptions/0/filter"),
                                  (3, "sink bad", "/colour"), (3, "sink bad", "/size"),
                                  (4, "client worse", "/port"), (4, "client worse", "/labels/a b")):
        assert any(f"{path}, line " in one and f", document {number}, {name}: {pointer}: " in one for one in told), told
    assert failed.returncode == 1 and len(told) == 6, told
    bad = next(one for one in map(json.loads, failed.stdout.splitlines()) if one.get("name") == "bad")
    assert bad["outcome"] == "failed" and {"/colour", "/size"} <= {one["pointer"] for one in bad["errors"]}, bad
    path.write_text(json.dumps([{"kind": "client", **client(f"many{i}", **{f"x{k}": 1 for k in range(40)})}
                                for i in range(200)]))
    told = cli.fails(6, "apply", "-f", path).splitlines()
    assert len(told) == 1001 and told[-1].endswith("further faults are not shown")
    assert f", document 1, client many0: /x0: " in told[0]
    assert "No such file" in cli.fails(6, "apply", "-f", tmp_path / "none")
    assert "requires --file" in cli.fails(2, "apply")
    loops = tmp_path / "loops"
    loops.mkdir()
    for name in "ab":
        (loops / name).symlink_to(loops)
    told_by = cli.fails(6, "apply", "-f", loops)
    assert told_by.count("is a link to a folder that contains it") == len(told_by.splitlines()) == 2, told_by
    path = tmp_path / "bad.json"
    path.write_bytes(b'{"kind": "client", "id": "a", "broker": "b"}\n\0{}')
    assert "line 2" in cli.fails(6, "apply", "-f", path)


def test_large_documents_go_in_several_requests(fleet, key, tmp_path):
    cli = Cli(fleet.start_node("m1", secrets__key_file=key, http__body_max_bytes=2 * 1024 * 1024))
    path = tmp_path / "large.json"
    path.write_text(json.dumps([{"kind": "client", **client(f"large{i}", password="p" * 60000)} for i in range(50)]))
    assert totals(cli.good("apply", "-f", path))["created"] == 50
    assert totals(cli.good("apply", "-f", path))["unchanged"] == 50


def test_changes_that_are_too_large_for_an_answer_are_counted(fleet, cli, tmp_path):
    def documents(letter, **more):
        return [client(f"large{i}", will={"topic": "t", "payload": letter * 60000}, **more) for i in range(80)]

    api = fleet.nodes[0].api
    assert api.post("/api/v1/clients", documents("a")).status_code == 201
    answer = api.post("/api/v1/clients:apply?dry_run=true", documents("b", keepalive_s=9))
    changes = [one["changes"] for one in answer.json()["results"]]
    assert answer.status_code == 200 and len(changes) == answer.json()["changed"] == 80
    assert 7 << 20 < len(answer.content) < 9 << 20
    whole = sum("more" not in one[-1] for one in changes)
    assert 60 < whole < 75
    small = {"field": "/keepalive_s", "after": 9}
    assert all(one == [small, {"more": 1}] for one in changes[whole:]), changes[whole:]
    path = tmp_path / "large.json"
    many = [client("many", subscriptions=[f"{letter}/{i}" for i in range(300)]) for letter in "ab"]
    assert api.post("/api/v1/clients", many[0]).status_code == 201
    path.write_text(json.dumps({"kind": "client", **many[1]}))
    shown = cli.run("apply", "-f", path, "--diff").stdout
    assert shown.count("  /subscriptions/") == 200 and "  100 more\n" in shown, shown


def test_an_export_is_imported_into_another_fleet(fleet, cli, key, tmp_path):
    node = fleet.nodes[0]
    strange = "a\n  b: 'c' \"d\" # e\t\u00fc \U0001f600"
    first = client("00123", password="hush-1", labels={"site": "yes", "number": "1e3", "text": strange},
                   subscriptions=[{"filter": "#", "qos": 1}])
    assert node.api.post("/api/v1/clients", [first] + [client(f"x{i}", password=f"hush-{i}")
                                                          for i in range(30)]).status_code == 201
    web = {"type": "http", "url": "http://127.0.0.1:9/a", "username": "u", "password": "hush-web"}
    assert node.api.put("/api/v1/sinks/web", web).status_code == 201
    shared = {"url": "mqtt://127.0.0.1:1", "username": "shared", "password": "hush-shared", "keepalive_s": 44}
    made = node.api.put("/api/v1/client-profiles/north", shared)
    assert made.status_code == 201, made.text
    document = {"id": "p1", "client_id": "p1", "profile": "north", "desired": "paused"}
    assert node.api.post("/api/v1/clients", document).status_code == 201
    assert node.api.put("/api/v1/routes", {"routes": [{"match": {"topic": "t"}, "to": ["web"]}]}).status_code == 200
    path = tmp_path / "all.yaml"
    (tmp_path / "all.yaml.part").write_text("of an export that was killed")
    (tmp_path / "all.yaml.part").chmod(0o644)
    assert "35 documents" in cli.run("export", "-f", path, "--secrets", "encrypted").stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    whole = path.read_text()
    assert "hush" not in whole and "enc:v1:" in whole
    masked = cli.good("export")
    assert "***" in masked and "enc:v1:" not in masked and "hush" not in masked
    unchanged = cli.run("import", "--diff", stdin=masked)
    assert unchanged.returncode == 0, unchanged.stdout  # masks keep what is stored
    assert cli.good("export", "-l", "site=yes").count("kind: client") == 1
    pipe, link, linked = (tmp_path / name for name in ("pipe", "link", "linked"))
    os.mkfifo(pipe)
    linked.touch()
    link.symlink_to(linked)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        cli.good("export", "-f", pipe)
        assert reader.communicate(timeout=60)[0] == masked
    cli.good("export", "-f", link)
    assert stat.S_ISFIFO(pipe.stat().st_mode) and link.is_symlink() and linked.read_text() == masked

    before = json.loads(fleet.redis.client.hget("mqtt_config:no", "00123") or
                        fleet.redis.client.hget("mqtt_config:use", "00123"))
    other = fleet.start_node("m2", key_prefix="other:", secrets__key_file=key)
    there = Cli(other)
    assert totals(there.good("import", path))["created"] == 35
    after = json.loads(fleet.redis.client.hget("other:mqtt_config:no", "00123") or
                       fleet.redis.client.hget("other:mqtt_config:use", "00123"))
    assert after == before
    assert there.run("import", path, "--diff").returncode == 0
    assert other.api.get("/api/v1/client-profiles/north").json()["config"] == {**shared, "password": "***"}
    changed = whole.replace("keepalive_s: 44", "keepalive_s: 45")
    assert "client-profile north" in there.run("import", "--diff", stdin=changed).stdout
    bare = Cli(fleet.start_node("m3", key_prefix="bare:"))
    assert "secrets.key_file" in bare.fails(6, "export", "--secrets", "encrypted")
    document = {"kind": "client", "id": "r1", "url": "mqtt://127.0.0.1:1", "client_id": "r1"}
    bare.good("import", "--paused", stdin=json.dumps(document))
    assert json.loads(bare.good("get", "r1", "-o", "json"))["desired"] == "paused"
    told = bare.run("import", path)
    assert told.returncode == 6 and "is encrypted with key" in told.stderr
    assert "bare:" not in whole


def test_one_resource_is_changed_in_an_editor(fleet, cli, tmp_path):
    api = fleet.nodes[0].api
    assert api.post("/api/v1/clients", client("e1", password="hush", keepalive_s=30)).status_code == 201
    cli.environment["EDITOR"] = "sed -i s/30/31/"
    assert "e1 changed" in cli.good("edit", "client", "e1")
    assert api.get("/api/v1/clients/e1").json()["config"]["keepalive_s"] == 31
    assert "not changed" in cli.good("edit", "client", "e1")
    cli.environment["EDITOR"] = "kill -INT $PPID; sed -i s/31/32/"  # as the terminal does at Ctrl-C
    assert "e1 changed" in cli.good("edit", "client", "e1")
    cli.environment["EDITOR"] = "sed -i s/32/-1/"
    told = cli.fails(6, "edit", "client", "e1")
    kept = told.strip().splitlines()[-1].split()[-1]
    assert "/keepalive_s" in told and "keepalive_s: -1" in open(kept).read()
    os.unlink(kept)
    cli.environment["EDITOR"] = "false"
    assert "the editor (false) failed" in cli.fails(1, "edit", "client", "e1")
    cli.environment["EDITOR"] = f"sh -c 'printf \"kind: routes\\nroutes: [{{to: [default]}}]\\n\" > $1' x"
    assert "routes changed" in cli.good("edit", "routes")
    assert api.get("/api/v1/routes").json()["routes"] == [{"to": ["default"]}]
    assert "client-profile NAME" in cli.fails(2, "edit", "gadget", "x")
    cli.fails(3, "edit", "client", "nosuch")
