"""mqfleet, the command line tool, against real nodes."""

import http.server
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import threading
import time

import pytest

from fleet.cloud import CloudBroker
from fleet.node import BINARY, ROOT, environment
from fleet.packets import PUBLISH
from fleet.ports import free_port
from fleet.scripted import ScriptedBroker
from fleet.wait import wait_until

TOOL = BINARY.parent / "mqfleet"
SOURCES = ROOT / "tools/cli"


class Cli:
    def __init__(self, node=None, **more):
        url = {"MQFLEET_URL": node.api.base} if node else {}
        self.environment = environment(**url, **more)

    def run(self, *words, stdin=None):
        return subprocess.run([TOOL, *map(str, words)], env=self.environment, input=stdin,
                              capture_output=True, text=True, timeout=90)

    def good(self, *words, stdin=None):
        result = self.run(*words, stdin=stdin)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def fails(self, code, *words, stdin=None):
        result = self.run(*words, stdin=stdin)
        assert result.returncode == code, f"{result.returncode}\n{result.stdout}{result.stderr}"
        assert result.stderr.startswith("mqfleet: ") or "line " in result.stderr, result.stderr
        return result.stderr

    def json(self, *words):
        return json.loads(self.good(*words, "-o", "json"))

    def start(self, *words):
        return subprocess.Popen([TOOL, *map(str, words)], env=self.environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def on_terminal(self, *words, seconds=10, stdin=None, until=None, columns=80):
        """What it writes to a terminal; ended by Ctrl-C once `until` was seen, or by itself."""
        pid, terminal = pty.fork()
        if pid == 0:
            termios.tcsetwinsize(0, (24, columns))
            os.execve(TOOL, [str(TOOL), *map(str, words)], {**self.environment, "TERM": "xterm"})
        written, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    written += os.read(terminal, 65536)
                except OSError:
                    break
            if until and until(written):
                os.write(terminal, b"\x03")
                until = None
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        return written.decode(errors="replace"), os.waitstatus_to_exitcode(status)


@pytest.fixture
def cli(fleet):
    return Cli(fleet.start_node("m1"))


def lines(documents):
    return "".join(json.dumps(one) + "\n" for one in documents)


# ---- what needs no node ---------------------------------------------------------------------------

def test_wrong_use_is_told_with_what_would_be_right():
    cli = Cli()
    assert "perhaps status" in cli.fails(2, "statsu")
    assert "perhaps --state" in cli.fails(2, "clients", "--stat", "x")
    assert "does not apply to nodes" in cli.fails(2, "nodes", "--qos", "1")
    assert "usage: mqfleet get ID" in cli.fails(2, "get")
    assert "NAME=VALUE" in cli.fails(2, "clients", "--label", "north")
    assert "table, json or id" in cli.fails(2, "nodes", "-o", "xml")
    assert "--limit" in cli.fails(2, "clients", "--limit", "many")
    assert "--state: is given twice" in cli.fails(2, "pause", "--state", "online", "--state", "paused")
    assert "--selector: is given twice" in cli.fails(2, "export", "-s", "id_prefix=a", "--selector=id_prefix=b")
    assert "0, 1 or 2" in cli.fails(2, "publish", "a", "t", "-m", "x", "--qos", "3")
    assert "--file" in cli.fails(2, "create")
    assert "name ids" in cli.fails(2, "pause")
    assert cli.good("version").startswith("mqfleet ")
    assert "exit codes" in cli.good("help") and "--qos" in cli.good("help", "publish")
    assert cli.good("publish", "--help") == cli.good("help", "publish")


def test_the_man_page_and_the_help_know_all_commands_and_options():
    page = (SOURCES / "mqfleet.1").read_text()
    help_text = Cli().good("help")
    commands = re.findall(r'^    \{"([a-z]+)",', (SOURCES / "commands.c").read_text(), re.MULTILINE)
    options = re.findall(r'X\(OPT_\w+, "([a-z-]+)"', (SOURCES / "cli.h").read_text())
    assert len(commands) >= 19 and len(options) >= 20
    for command in commands:
        assert re.search(rf"Cm (?:\w+ , )*{command}\b", page), command
        assert re.search(rf"^  {command}\b", help_text, re.MULTILINE), command
    for option in options:
        assert f"Fl -{option}" in page, option
    for code in re.findall(r"X\(CLI_\w+, (\d+),", (SOURCES / "cli.h").read_text()):
        assert f".It {code}\n" in page, code


def test_settings_are_checked_by_the_node_itself(tmp_path):
    cli = Cli()
    assert "valid" in cli.good("config", "check", ROOT / "conf/mqfleet.yml")
    bad = tmp_path / "bad.yml"
    bad.write_text("heartbeat_ms: 5\n")
    result = cli.run("config", "check", bad)
    assert result.returncode == 2 and "heartbeat_ms" in result.stderr


def test_a_node_that_is_not_there(tmp_path):
    cli = Cli(MQFLEET_URL=f"http://127.0.0.1:{free_port()}")
    assert "connect" in cli.fails(5, "status") and "--url" in cli.fails(5, "status")
    assert "connect" in cli.fails(5, "tail", "x")


# ---- clients --------------------------------------------------------------------------------------

def test_from_creating_to_deleting(fleet, cli, tmp_path):
    documents = [fleet.document(f"c{number}", labels={"site": "north" if number % 2 else "south"})
                 for number in range(6)]
    path = tmp_path / "clients.ndjson"
    path.write_text(lines(documents))
    assert cli.good("create", "--file", path, "--wait") == "6 created, 0 unchanged, 0 failed\n"
    assert "0 created, 6 unchanged" in cli.good("create", "--file", "-", stdin=path.read_text())
    assert "6 unchanged" in cli.good("create", "-f", "-", stdin=json.dumps(documents))
    assert "1 unchanged" in cli.good("create", "-f", "-", stdin=json.dumps(documents[0], indent=2))
    fleet.wait_online([one["id"] for one in documents])

    table = cli.good("clients").splitlines()
    assert table[0].split()[:2] == ["ID", "STATE"] and len(table) == 7
    assert sorted(cli.good("clients", "--label", "site=north", "-o", "id").split()) \
        == ["c1", "c3", "c5"]
    shown = [json.loads(line) for line in cli.good("clients", "-o", "json", "-n", 4).splitlines()]
    assert len(shown) == 4 and shown[0]["status"]["state"] == "online"
    assert cli.json("get", "c1")["config"]["labels"] == {"site": "north"}
    assert "granted" in cli.good("get", "c1")
    assert "c9" in cli.fails(3, "get", "c9")

    assert cli.good("pause", "c1", "c2") == ""
    fleet.api.wait_state("c1", "paused")
    fleet.api.wait_state("c2", "paused")
    assert cli.good("clients", "--state", "paused", "-o", "id").split() in (["c1", "c2"], ["c2", "c1"])
    cli.good("resume", "-", stdin="c1\nc2\n")
    fleet.wait_online(["c1", "c2"])
    assert "--yes" in cli.fails(2, "restart", "--state", "online")
    assert "6 done, 0 skipped, 0 failed" in cli.run("restart", "--state", "online", "--yes").stderr
    fleet.wait_online([one["id"] for one in documents])
    assert "restart" in cli.good("events", "c3")

    result = cli.run("delete", "c0", "nobody", "c1")
    assert result.returncode == 1 and "nobody" in result.stderr and "2 done, 1 failed" in result.stderr
    assert sorted(cli.good("clients", "-o", "id").split()) == ["c2", "c3", "c4", "c5"]
    [heading, first, *_] = cli.good("changes").splitlines()
    assert heading.split()[:4] == ["AT", "CLIENT", "BY", "ACTION"] and first.split()[1:4:2] == ["c1", "delete"]
    one = [json.loads(line)["action"] for line in cli.good("changes", "--id-prefix", "c2", "-o", "json").splitlines()]
    assert one == ["resume", "pause", "create"]
    assert len(cli.good("changes", "-n", "2").splitlines()) == 3
    assert "stand without an id" in cli.fails(2, "changes", "c2", "-n", "2")


def test_what_is_shown_can_be_created_again(fleet, cli):
    """Also with its secrets masked, while the client exists."""
    documents = [fleet.document("c1", username="u", password="secret-1"), fleet.document("c2")]
    fleet.api.create(documents)
    shown = cli.good("clients", "-o", "json")
    assert "***" in shown and "secret-1" not in shown
    assert "0 created, 2 unchanged, 0 failed" in cli.good("create", "-f", "-", stdin=shown)
    masked = {**documents[0], "password": "***"}
    assert fleet.api.post("/api/v1/clients", masked).status_code == 200
    changed = fleet.api.post("/api/v1/clients", {**masked, "keepalive_s": 7})
    assert changed.status_code == 409 and "PUT" in changed.json()["detail"]
    cli.good("delete", "c1", "c2")
    again = cli.run("create", "-f", "-", stdin=shown)
    assert "1 created" in again.stdout and "stored secret" in again.stderr


def test_each_bad_line_is_told_and_the_good_ones_are_created(fleet, cli):
    # With a byte order mark, as some editors write it (case E9).
    text = "\ufeff" + lines([fleet.document("a")]) + '{"id": oops}\n\n' \
        + lines([{"id": "b", "url": "ftp://b", "keepalive_s": -1}]) + "7\n" + lines([fleet.document("c")])
    result = cli.run("create", "--file", "-", stdin=text)
    assert result.returncode == 1
    assert result.stdout == "2 created, 0 unchanged, 3 failed\n"
    told = result.stderr.splitlines()
    assert [line.split(":")[0].split(",")[0] for line in told if line.startswith("line")] \
        and {"line 2", "line 4", "line 5"} == {line.split(":")[0].split(",")[0] for line in told}
    assert "line 4, document 3, b: /url: " in result.stderr and "line 4, document 3, b: /keepalive_s: " in result.stderr
    result = cli.run("create", "--file", "-", "-o", "json", stdin=text)
    failed = [one for line in result.stdout.splitlines() for one in json.loads(line)["failed"]]
    assert sorted(one["line"] for one in failed) == [2, 4, 5] and all(
        one["detail"] for one in failed)
    assert cli.run("create", "--file", "-", stdin='{"id": 7}').returncode == 6


def test_nothing_is_made_of_a_torn_array(fleet, cli):
    documents = [fleet.document(f"part{number}") for number in range(3)]
    for text in ("[\n" + ",\n".join(map(json.dumps, documents)), json.dumps(documents, indent=1)[:-9]):
        result = cli.run("create", "--file", "-", stdin=text)
        assert result.returncode == 6 and result.stdout == "0 created, 0 unchanged, 1 failed\n"
        assert "the rest of the file was not read" in result.stderr
    assert cli.good("clients", "-o", "id") == ""


def test_waiting_tells_who_is_not_online(fleet, cli):
    wrong = {"id": "wrong", "url": f"mqtt://127.0.0.1:{free_port()}", "subscriptions": ["a"]}
    result = cli.run("create", "--wait", "--file", "-",
                     stdin=lines([wrong, fleet.document("right")]))
    assert result.returncode == 1 and result.stdout.startswith("2 created")
    assert "check host and port" in result.stderr  # the advice
    assert "wrong: backoff, " in result.stderr and "1 of 2 are not online" in result.stderr
    assert "right" not in result.stderr
    cli.good("drain", "m1")
    late = cli.run("create", "--wait", "--timeout", "2", "--file", "-",
                   stdin=lines([fleet.document("late")]))
    assert late.returncode == 1 and "late: waiting" in late.stderr, late.stderr


def test_waiting_is_for_those_that_were_created(fleet, cli):
    lines = "".join(json.dumps(one) + "\n" for one in (
        fleet.document("good"), {**fleet.document("bad"), "nosuch": 1}))
    result = cli.run("create", "-f", "-", "--wait", stdin=lines)
    assert result.returncode == 1 and "line 2, document 2, bad: /nosuch: " in result.stderr, result.stderr
    assert "not online" not in result.stderr and "bad: not known" not in result.stderr


def test_waiting_ends_when_the_node_does_not_answer(fleet):
    node = fleet.start_node("m1")
    node.api.post("/api/v1/nodes/m1/drain")  # so that they stay waiting
    cli = Cli(node)
    waiting = subprocess.Popen(
        [TOOL, "create", "--wait", "--timeout", "4", "--file", "-"], env=cli.environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waiting.stdin.write(lines([fleet.document(f"c{number}") for number in range(50)]))
    waiting.stdin.close()
    assert waiting.stdout.readline().startswith("50 created")
    node.signal(signal.SIGSTOP)
    try:
        assert waiting.wait(60) == 5  # one limit, not fifty
    finally:
        node.signal(signal.SIGCONT)


def test_an_outcome_that_is_not_known_is_not_called_failed(fleet, cli):
    paused = [{**fleet.document(f"m{number}"), "desired": "paused"} for number in range(2000)]
    fleet.redis.pause()
    result = cli.run("create", "--file", "-", "--timeout", "0.5", stdin=lines(paused))
    fleet.redis.resume()
    assert result.returncode == 5, result.stderr
    assert result.stdout == ("0 created, 0 unchanged, 0 failed, 1000 with an unknown outcome\n")
    assert "the rest of the file was not sent" in result.stderr


def test_what_cannot_be_written_is_an_error(fleet, cli):
    fleet.online(1)
    with open("/dev/full", "w") as full:
        for words in (["clients", "-o", "json"], ["nodes"], ["help"], ["status"],
                      ["events", "c00000"]):
            result = subprocess.run([TOOL, *words], env=cli.environment, stdout=full,
                                    stderr=subprocess.PIPE, text=True, timeout=60)
            assert result.returncode == 1 and "standard output: " in result.stderr, words
        for words in (["--new-token", "a", "admin"], ["--new-key"], ["--print-config"],
                      ["--check-config"], ["--print-reference"], ["--help"]):
            result = subprocess.run([BINARY, *words], env=environment(), stdout=full,
                                    stderr=subprocess.PIPE, text=True, timeout=60)
            assert result.returncode == 1 and "standard output: " in result.stderr, words


def test_bytes_that_are_no_text_are_refused(fleet, cli):
    fleet.online(1, protocol_version=5)
    for words in (["publish", "c00000", "t", "-m", "x", "-p", b"colour=\xff"],
                  ["publish", "c00000", "t", "-m", "x", "-p", b"content_type=\xff"],
                  ["publish", "c00000", "t", "-m", "x", "-p", "message_expiry_interval=" + "9" * 30],
                  ["delete", b"\xff"]):
        result = subprocess.run([TOOL, *words], env=cli.environment, capture_output=True,
                                timeout=60)
        assert result.returncode == 2 and result.stderr.startswith(b"mqfleet: "), words


def test_what_answers_and_is_no_node(fleet, cli):
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>log in</html>")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        other = Cli(MQFLEET_URL=f"http://127.0.0.1:{server.server_port}")
        for words in (["status"], ["nodes"], ["clients", "-o", "id"], ["get", "x"]):
            assert "is not mqfleetd" in other.fails(1, *words)
        server.shutdown()


def test_what_would_steer_a_terminal_is_not_shown(fleet, cli):
    cli.good("create", "--file", "-", stdin=json.dumps(fleet.document(
        "steering", labels={"note": "a\u009b31mred \u202e back \u2066"})))
    shown = cli.good("get", "steering")
    assert "a?31mred ? back ?" in shown and not set("\u009b\u202e\u2066") & set(shown)


def test_options_that_would_mean_nothing_are_refused(fleet, cli):
    fleet.online(1)
    for value in ("1e3", "0x10", "1.9"):
        assert "--limit" in cli.fails(2, "clients", "-n", value)
    for words in (["--limit", "1"], ["--state", "online"], ["--kind", "node"], ["--after", "0"]):
        assert "requires --follow" in cli.fails(2, "events", "c00000", *words)
    assert "--yes" in cli.fails(2, "drain", "m1", "--yes")


def test_a_payload_that_was_cut_is_told(fleet, cli, tmp_path):
    fleet.online(1)
    with open(tmp_path / "out", "w") as out:
        raw = subprocess.Popen([TOOL, "tail", "c00000", "--raw", "-n", "1"], env=cli.environment,
                               stdout=out, stderr=subprocess.PIPE, text=True)

    def has_come():
        fleet.api.publish("c00000", "t/c00000/big", "z" * 70000)
        return raw.poll() is not None

    wait_until(has_come, 30)
    assert raw.returncode == 1 and "70000 bytes was truncated" in raw.stderr.read()
    assert 0 < (tmp_path / "out").stat().st_size < 70000


def test_thousands_with_a_bar_on_a_terminal(fleet, cli, tmp_path):
    path = tmp_path / "many.ndjson"
    paused = [{**fleet.document(f"m{number}"), "desired": "paused"} for number in range(5000)]
    path.write_text(lines(paused))
    written, code = cli.on_terminal("create", "--file", path, seconds=60)
    assert code == 0 and "5000 created" in written
    assert re.search(r"create, bytes \[#+\.+\]", written), written[-500:]
    assert len(cli.good("clients", "-o", "id").split()) == 5000
    piped = cli.run("create", "--file", path)
    assert piped.stderr == "" and "5000 unchanged" in piped.stdout


def test_publishing(fleet, cli, tmp_path):
    fleet.online(1, protocol_version=5)
    client = "c00000"
    tail = cli.start("tail", client, "-o", "json", "--limit", "4")
    time.sleep(1)
    cli.good("publish", client, f"t/{client}/a", "--message", "grüße", "--qos", "1",
             "--property", "content_type=text/plain", "--property", "colour=blue")
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)))
    cli.good("publish", client, f"t/{client}/b", "--file", binary)
    cli.good("publish", client, f"t/{client}/c", "--retain", stdin="from a pipe")
    cli.good("publish", client, f"t/{client}/d", "-m", "")
    out, _ = tail.communicate(timeout=30)
    got = {message["topic"][-1]: message for message in map(json.loads, out.splitlines())}
    assert tail.returncode == 0 and set(got) == set("abcd")
    assert got["a"]["payload"] == "grüße" and got["a"]["qos"] == 1
    assert got["a"]["properties"]["content_type"] == "text/plain"
    assert "blue" in json.dumps(got["a"]["properties"])
    assert got["b"]["size"] == 256 and got["c"]["payload"] == "from a pipe"
    # Case E10: an empty message is either intended or a mistake.
    for retain in ([], ["--retain"]):
        said = cli.fails(2, "publish", client, f"t/{client}/e", *retain, stdin="")
        assert "--message ''" in said and ("clears" in said) == bool(retain)
    cli.good("publish", client, f"t/{client}/c", "--retain", "-m", "")
    assert "nobody" in cli.fails(3, "publish", "nobody", "t", "-m", "x")
    assert "whole number" in cli.fails(2, "publish", client, "t", "-m", "x", "-p",
                                       "message_expiry_interval=soon")


def test_dead_letters_are_listed_replayed_and_dropped(fleet, cli):
    def add(number, sink):
        fleet.redis.client.xadd("mqtt_dead", {
            "id": f"c{number % 3}", "client_id": "c", "topic": f"t/{number}", "payload": f"p{number}",
            "qos": "1", "retain": "0", "node": "n", "received_at_ms": "1700000000000",
            "dead_letter_sink": sink, "dead_letter_reason": "too large",
            "dead_letter_at_ms": "1700000000123"})

    assert cli.json("dead-letters") == {"dead_letters": [], "total": 0}
    for number in range(250):
        add(number, "default" if number < 240 else "elsewhere")
    table = cli.good("dead-letters")
    assert re.search(r"default +c2 +t/2 +2 +too large", table) and len(table.splitlines()) == 101
    assert len(cli.json("dead-letters", "list", "-n", "240", "--since", "1h")["dead_letters"]) == 240
    [one] = cli.good("dead-letters", "--topic", "t/7", "-o", "id").split()
    assert cli.json("dead-letters", "--entry", one)["dead_letters"][0]["payload"] == "p7"
    assert cli.good("dead-letters", "replay", "--client", "c1", "--dry-run") == "83 match, of 250\n"
    assert "select some" in cli.fails(2, "dead-letters", "drop", "--yes")
    assert "--yes" in cli.fails(2, "dead-letters", "drop", "--all")
    assert "list, replay or drop" in cli.fails(2, "dead-letters", "eat")
    assert "topic" in cli.fails(6, "dead-letters", "--topic", "a#")
    assert cli.good("dead-letters", "drop", "--topic", "t/0", "--yes") == "1 dropped, 0 failed, 249 left\n"
    assert "no such sink" in cli.fails(1, "dead-letters", "replay", "--all", "--yes")
    assert fleet.redis.client.xlen("mqtt_dead") == 10
    fleet.stream.wait_payloads([b"p%d" % number for number in range(1, 240)])
    assert len(fleet.stream.payloads()) == 239, "each once"
    assert cli.json("dead-letters", "drop", "--sink", "elsewhere", "--yes")["dropped"] == 10


def test_routes_are_applied_listed_and_explained(fleet, cli, tmp_path):
    fleet.online(1, labels={"site": "oslo"})
    path = tmp_path / "routes.json"

    def apply(document):
        path.write_text(json.dumps(document))
        return "apply", path

    none = cli.json("routes")
    assert none["routes"] == []
    cli.good("routes", *apply(none))
    script = "return function(m) m.payload = m.payload:upper() return m end"
    routes = [{"name": "a", "match": {"topic": "t/#"}, "to": ["default"], "also": ["null"], "stop": True},
              {"match": {"labels": {"site": "oslo"}}, "to": ["default"], "lua": script}]
    assert cli.good("routes", *apply(routes)).startswith("2 routes applied, version ")
    assert re.search(r"0 +a +default +null +stop +- +.*t/#", cli.good("routes"))
    document = json.loads(cli.good("routes", "get"))
    assert document["routes"] == routes == cli.json("routes", "get")["routes"]
    cli.good("routes", *apply(document))  # the same again
    cli.good("routes", *apply([*routes, {"to": ["null"]}]))
    assert "changed" in cli.fails(6, "routes", *apply(document))
    said = cli.fails(6, "routes", *apply([{"to": ["nowhere"]}, {"to": ["elsewhere"]}]))
    assert "/routes/0/to/0: " in said and "/routes/1/to/0: " in said
    assert "/routes/0/to/0" in cli.fails(6, "routes", *apply([{"to": ["nowhere"]}]))
    cli.good("routes", *apply(routes))
    assert "array of routes" in cli.fails(6, "routes", *apply({"to": []}))
    path.write_text("[{]")
    assert "line 1" in cli.fails(6, "routes", "apply", path)
    cli.fails(2, "routes", "apply", tmp_path / "nothing")

    wait_until(lambda: "route 0 a matches" in cli.good("routes", "explain", "t/x"), 20)
    said = cli.good("routes", "explain", "x", "--client", "c00000", "--payload", "loud")
    assert "route 1 matches" in said and "to default" in said and "payload: LOUD" in said
    path.write_text(json.dumps([{"to": ["null"], "lua": "return function(m) error('no') end"}]))
    failed = cli.run("routes", "explain", "x", "--routes", path)
    assert failed.returncode == 1 and "script of route 0 fails: lua:1: no" in failed.stdout
    assert cli.json("routes", "explain", "x", "--qos", "1")["default"]
    cli.fails(6, "routes", "explain", "a/#")
    cli.fails(3, "routes", "explain", "a", "--client", "nobody")
    assert "requires explain" in cli.fails(2, "routes", "--payload", "x")
    assert "usage" in cli.fails(2, "routes", "eat")


def test_what_is_still_to_be_published_is_shown_and_dropped(fleet, cli):
    broker = fleet.closing(ScriptedBroker())
    fleet.api.create({"id": "c", "url": broker.url, "protocol_version": 5, "subscriptions": ["t/#"]})
    link = broker.online()
    fleet.api.wait_state("c", "online")
    publishing = cli.start("publish", "c", "a/1", "--message", "x", "--qos", "1")
    link.expect(PUBLISH)  # and not acknowledged
    assert re.search(r"a/1 +1 +1 .* sent", cli.good("publications", "c"))
    assert cli.json("publications", "c", "--drop")["dropped"][0]["topic"] == "a/1"
    assert cli.json("publications", "c") == {"publications": []}
    assert publishing.wait(20) == 1
    cli.fails(3, "publications", "nobody")


def test_tail_shows_people_no_control_characters(fleet, cli):
    fleet.online(1)
    tail = cli.start("tail", "c00000", "--limit", "3")
    time.sleep(1)
    for payload in ("plain", "red\x1b[31m", "two\nlines"):
        fleet.api.publish("c00000", "t/c00000/x", payload)
    out, _ = tail.communicate(timeout=30)
    assert "\x1b" not in out and len(out.splitlines()) == 3 and "two lines" in out
    raw = cli.start("tail", "c00000", "--raw", "-n", "1")
    time.sleep(1)
    fleet.api.publish("c00000", "t/c00000/x", "as it is")
    assert raw.communicate(timeout=30)[0] == "as it is\n"


def test_trying_a_configuration(fleet, cli, tmp_path):
    path = tmp_path / "client.json"
    path.write_text(json.dumps(fleet.document("try")))
    steps = cli.good("test", "--file", path)
    assert [line.split()[:2] for line in steps.splitlines()] \
        == [["ok", "dns"], ["ok", "tcp"], ["ok", "connect"], ["ok", "subscribe"]]
    path.write_text(json.dumps({"id": "try", "url": f"mqtt://127.0.0.1:{free_port()}"}))
    result = cli.run("test", "--file", path)
    assert result.returncode == 1 and "failed tcp" in result.stdout
    assert len(result.stdout.splitlines()) == 3  # the last is the advice
    path.write_text('{"id": "try",\n "url": oops}')
    assert "line 2" in cli.fails(6, "test", "--file", path)


# ---- the fleet ------------------------------------------------------------------------------------

def test_status_tells_of_a_sink_that_fails(fleet):
    node = fleet.start_node(sink__type="file", sink__path=fleet.folder)  # which is no file
    cli = Cli(node)
    [client] = fleet.online(1)
    assert cli.json("status")["problems"] == []
    fleet.broker.publish(f"t/{client}/x", "stays with the broker")

    def told():
        shown = cli.run("status", "-o", "json")
        problems = json.loads(shown.stdout)["problems"]
        assert shown.returncode == (1 if problems else 0)
        return problems

    problems = wait_until(told, 20, "a problem is told")
    assert len(problems) == 1 and problems[0].startswith(f"{node.name}: sink.file: ")
    shown = cli.run("status")
    assert shown.returncode == 1 and problems[0] in shown.stdout


def test_status_and_lists_tell_of_a_node_that_was_killed(fleet):
    first, second = fleet.start_nodes(2)
    cli = Cli(first)
    fleet.online(6)
    assert cli.json("status")["problems"] == [] and cli.json("status")["states"] == {"online": 6}
    second.kill()
    shown = cli.run("status", "-o", "json")
    status = json.loads(shown.stdout)
    assert shown.returncode == 1 and any("does not answer" in one for one in status["problems"]), status

    def elsewhere():
        late = cli.run("status", "-o", "json")
        later = json.loads(late.stdout)
        return later["states"] == {"online": 6} and late.returncode == 1 and any(
            f"node {second.name} was killed, or cut off from Redis" in one for one in later["problems"])

    wait_until(elsewhere, 30, "all are online elsewhere, and the node is not forgotten")
    second.start()
    wait_until(lambda: "it is back" in cli.good("status"), 30, "it is back")
    fleet.api.create({"id": "flat", "broker": "127.0.0.9", "sub_topic": "t", "desired": "paused"})
    assert cli.good("clients", "--id-prefix", "flat").split()[-1] == "127.0.0.9"  # no port was given


def test_summaries_and_selectors(fleet, cli):
    fleet.create(4, make=lambda client: fleet.document(
        client, labels={"tenant": "acme" if client < "c00003" else "other"}))
    fleet.create(2, prefix="p", desired="paused")
    fleet.wait_online([f"c{number:05d}" for number in range(4)])
    assert cli.json("summary")["count"] == 6
    assert [line.split() for line in cli.good("summary").splitlines()] == [
        ["VALUE", "CLIENTS"], ["online", "4"], ["paused", "2"]]
    tenants = cli.json("summary", "--by", "label.tenant", "--state", "online")["groups"]
    assert tenants == [{"value": "acme", "count": 3}, {"value": "other", "count": 1}]
    assert "and 3 clients with 2 other values" in cli.good("summary", "--by", "label.tenant", "--limit", "1")
    assert cli.good("clients", "--count").strip() == "6"
    assert cli.good("clients", "--count", "--state", "paused,waiting").strip() == "2"
    assert cli.good("clients", "--id-prefix", "p", "-o", "id").split() == ["p00000", "p00001"]
    assert cli.good("clients", "--sort=-id", "-o", "id").split()[0] == "p00001"
    broker = f"127.0.0.1:{fleet.broker.port}"
    assert len(cli.good("clients", "--broker", broker, "-o", "id").split()) == 6
    assert cli.good("clients", "--error", "dns_failed", "--silent", "-o", "id") == ""
    assert "must be waiting, connecting" in cli.fails(6, "clients", "--state", "odd")
    assert "no node nosuch" in cli.fails(3, "summary", "--node", "nosuch")
    cli.good("pause", "--label", "tenant=acme", "--id-prefix", "c00002,c00001", "--yes")
    wait_until(lambda: cli.good("clients", "--count", "--state", "paused").strip() == "4", 20, "two more are paused")


def test_a_node_that_is_not_there_is_told_from_one_without_clients(fleet, cli):
    assert "nosuch" in cli.fails(3, "clients", "--node", "nosuch")
    assert cli.good("clients", "--node", fleet.nodes[0].name).startswith("ID")


def test_the_broker_of_a_client_with_several_is_shown(fleet, cli):
    urls = [f"mqtt://127.0.0.1:{free_port()}", fleet.broker.url]
    fleet.api.create({"id": "several", "urls": urls})
    fleet.api.wait_state("several", "online")
    assert f"127.0.0.1:{fleet.broker.port}" in cli.good("clients")


def test_https_at_a_plain_port_is_explained(fleet, cli):
    said = cli.fails(5, "status", "--url", fleet.api.base.replace("http:", "https:"))
    assert "TLS handshake failed" in said and "does it use plain http?" in said


def test_a_drain_that_stands_still_says_so(fleet):
    node = fleet.start_node()
    fleet.api.create(fleet.document("stays"))
    fleet.wait_online(["stays"])
    process = Cli(node).start("drain", node.name, "--wait")
    try:
        for line in process.stderr:
            if "waits" in line:
                break
        assert "no node is live" in line
    finally:
        process.terminate()
        process.communicate()


def test_draining_a_node_and_what_the_events_say(fleet):
    first, second = fleet.start_nodes(2)
    cli = Cli(first)
    ids = fleet.online(6)
    events = cli.start("events", "--follow", "--kind", "client", "-o", "json")
    told = []
    reader = threading.Thread(target=lambda: told.extend(map(json.loads, events.stdout)))
    reader.start()
    time.sleep(3)  # until changes of all nodes are told
    drained = cli.run("drain", second.name, "--wait")
    assert drained.returncode == 0 and "0 clients remain" in drained.stderr
    nodes = {node["name"]: node for node in cli.json("nodes")["nodes"]}
    assert nodes[second.name]["state"] == "draining" and nodes[second.name]["clients"] == 0
    assert second.name in cli.good("nodes") and "is draining" in cli.good("status")
    status = cli.json("status")
    assert status["states"] == {"online": 6} and status["placed"] == 6
    cli.good("undrain", second.name)
    wait_until(lambda: {one["id"] for one in told if one["state"] == "online"}, 20, "events")
    events.send_signal(2)
    assert events.wait(20) == 130
    reader.join()
    assert {one["id"] for one in told} <= set(ids)
    kept = ["events", "-n", "1", "-o", "json", "--after"]
    one = json.loads(cli.good(*kept, "0"))
    two = json.loads(cli.good(*kept, one["event_id"]))
    assert json.loads(cli.good(*kept, one["event_id"])) == two and one["event_id"] not in (two["event_id"], "0")
    assert "Last-Event-ID" in cli.fails(6, *kept, "yesterday")
    assert "nowhere" in cli.fails(3, "drain", "nowhere")


def test_a_stream_goes_on_after_the_node_was_away(fleet):
    node = fleet.start_node("m1")
    cli = Cli(node)
    fleet.online(1)
    tail = cli.start("tail", "c00000", "-o", "json", "--limit", "2")
    time.sleep(1)
    node.api.publish("c00000", "t/c00000/1", "before")
    node.terminate()
    node.start()
    fleet.wait_online(["c00000"])

    def published():
        node.api.publish("c00000", "t/c00000/2", "after")
        return tail.poll() is not None

    wait_until(published, 40, "the second message", poll_s=0.5)
    out, told = tail.communicate()
    assert [json.loads(line)["payload"] for line in out.splitlines()] == ["before", "after"]
    assert "reconnecting" in told


def test_on_a_terminal_there_are_colours_and_it_watches(fleet, cli):
    fleet.online(2)
    written, code = cli.on_terminal("clients")
    assert code == 0 and "\x1b[32monline" in written
    assert "\x1b" not in cli.good("clients")
    assert "\x1b" not in Cli(fleet.nodes[0], NO_COLOR="1").on_terminal("clients")[0]
    assert "10000" in cli.on_terminal("nodes", columns=27)[0]
    narrow = cli.on_terminal("nodes", columns=25)[0]
    assert "CLIENTS" in narrow and "100" not in narrow, narrow  # no number is cut
    written, code = cli.on_terminal("status", "--watch", "--interval", "0.2", seconds=30,
                                    until=lambda text: text.count(b"\x1b[2J") >= 3)
    assert code == 130 and written.count("m1") >= 3


# ---- permissions --------------------------------------------------------------------------------------

def test_tokens_come_from_a_file_or_the_environment(fleet, tmp_path):
    made = subprocess.run([BINARY, "--new-token", "v", "viewer"], env=environment(), check=True,
                          capture_output=True, text=True).stdout.splitlines()
    token, line = (row.split(None, 1)[1] for row in made)
    tokens, secret = tmp_path / "tokens", tmp_path / "secret"
    tokens.write_text(line + "\n")
    secret.write_text("secret-between-nodes\n")
    for path in (tokens, secret):
        path.chmod(0o600)
    node = fleet.start_node(http__tokens_file=tokens, fleet__secret_file=secret)
    denied = Cli(node).fails(4, "nodes")
    assert "Bearer" in denied and "--token-file" in denied
    assert "n1" in Cli(node, MQFLEET_TOKEN=token).good("nodes")
    file = tmp_path / "token"
    file.write_text(token + "\n")
    assert "n1" in Cli(node).good("nodes", "--token-file", file)
    assert "operator" in Cli(node, MQFLEET_TOKEN_FILE=str(file)).fails(4, "delete", "x")
    assert str(tmp_path / "none") in Cli(node).fails(2, "nodes", "--token-file", tmp_path / "none")


# ---- completion -----------------------------------------------------------------------------------

def complete(cli, line):
    script = f"""
source <("{TOOL}" completion bash)
COMP_WORDS=({line} "${{1-}}"); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_mqfleet; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = {**cli.environment, "PATH": f"{BINARY.parent}:{os.environ['PATH']}"}
    *words, begun = line.split(" ")
    script = script.replace(f"({line} ", f"({' '.join(words)} ")
    return subprocess.run(["bash", "-c", script, "bash", begun], env=path, capture_output=True,
                          text=True, timeout=30, check=True).stdout.split()


def test_bash_completes_commands_options_and_what_the_node_knows(fleet, cli):
    fleet.online(2, "pump")
    assert complete(cli, "mqfleet un") == ["undrain"]
    assert complete(cli, "mqfleet clients --sta") == ["--state"]
    assert complete(cli, "mqfleet clients --state back") == ["backoff"]
    assert complete(cli, "mqfleet get pump0000") == ["pump00000", "pump00001"] or \
        set(complete(cli, "mqfleet get pump0000")) == {"pump00000", "pump00001"}
    assert complete(cli, "mqfleet drain ") == ["m1"]
    assert complete(Cli(MQFLEET_URL=f"http://127.0.0.1:{free_port()}"), "mqfleet get x") == []


def test_a_client_can_be_restarted_as_soon_as_it_is_resumed(fleet, cli):
    fleet.online(1)
    for _ in range(5):
        cli.good("pause", "c00000")
        fleet.api.wait_state("c00000", "paused")
        cli.good("resume", "c00000")
        cli.good("restart", "c00000")
        fleet.api.wait_state("c00000", "online")


def test_the_version_is_an_option_too(cli):
    assert cli.good("--version") == cli.good("version")


def test_a_publication_that_the_broker_refuses_is_explained(fleet, cli):
    broker = fleet.closing(CloudBroker(publish_codes={"a/no": 0x87, "a/odd": 0xB3}))
    fleet.api.create(fleet.document("c", url=broker.url, protocol_version=5))
    fleet.wait_online(["c"])
    for topic, detail, advice in (
            ("a/no", "not authorized (0x87)", "permit this user to publish to the topic"),
            ("a/odd", "an unknown reason code (0xB3)", "log")):
        told = cli.run("publish", "c", topic, "-m", "x", "--qos", "1")
        assert told.returncode != 0
        assert f"the broker refused the publication: {detail}" in told.stderr and advice in told.stderr


def test_why_clients_are_on_no_node_is_shown(fleet):
    node = fleet.start_node("m1", node_info__size=1, sink__type="null")
    cli = Cli(node)
    fleet.online(1, prefix="placed")
    fleet.create(3, prefix="w")
    room = "no_room: every node that can run it is full"

    def counted():
        status = cli.json("status")
        assert status["unplaced"] == {"no_room": 3} and room == f"no_room: {status['waits']['no_room']}"
        return True
    wait_until(counted, 20, "the leader has counted them")
    assert f"why clients have no node\n       3  {room}\n" in cli.good("status")
    rows = cli.good("clients", "--state", "waiting").splitlines()
    assert rows[0].split()[-1] == "WHY" and len(rows) == 4
    assert all(row.endswith(room) for row in rows[1:]), rows
    assert not cli.good("clients", "--state", "online").splitlines()[1].endswith(room)
    shown = cli.good("get", "w00000")
    assert re.search(rf"^waiting +{room}$", shown, re.MULTILINE), shown
    assert "\nwaiting " not in cli.good("get", "placed00000")
    late = cli.run("create", "--wait", "--timeout", "2", "--file", "-", stdin=lines([fleet.document("late")]))
    assert f"late: waiting, {room}" in late.stderr, late.stderr
    # There is room for all clients: nothing is reported.
    fleet.start_node("m2")
    wait_until(lambda: cli.json("status")["unplaced"] == {}, 20, "all are placed")
    assert "have no node" not in cli.good("status")


def test_status_says_how_many_causes_it_leaves_out(fleet, cli):
    codes = [0x80, 0x83, 0x88, 0x89, 0x97, 0x9B, 0x9F]
    fleet.api.create([fleet.document(f"c{i}", protocol_version=5, subscriptions=[],
                                     url=fleet.closing(CloudBroker(connack_code=code)).url)
                      for i, code in enumerate(codes)])
    wait_until(lambda: len(cli.json("status")["causes"]) == 7, 20, "seven causes")
    assert "and 2 other causes (-o json shows all)" in cli.good("status")
    for gone in ("c0", "c1"):
        fleet.api.delete(fleet.api.path(gone))
    wait_until(lambda: len(cli.json("status")["causes"]) == 5, 20, "five causes")
    assert "other cause" not in cli.good("status")


def test_who_is_degraded_is_shown_with_the_reason(fleet, cli):
    broker = fleet.closing(CloudBroker(filter_codes={"s/1": 0x87}))
    fleet.api.create([fleet.document("c", url=broker.url, protocol_version=5,
                                     subscriptions=["s/0", "s/1"]), fleet.document("well")])
    fleet.wait_online(["c", "well"])
    assert cli.good("clients", "--degraded", "-o", "id").split() == ["c"]
    assert "s/1: not authorized" in cli.good("clients", "--degraded")
    assert "refused" in cli.good("get", "c")
    status = cli.good("status")
    assert "1  degraded" in status and "s/1: not authorized" in status
    assert cli.json("status")["degraded"] == 1
