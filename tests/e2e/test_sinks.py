"""Sinks by name: those of a node's settings, and those of the fleet."""

import json
import subprocess

from fleet.node import BINARY, environment
from fleet.wait import PATIENCE, wait_until


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


def test_the_default_sink_answers_to_its_own_name_and_to_its_type(fleet):
    node = fleet.start_node()
    for name in ("default", "redis_stream", "null"):
        assert node.api.create(fleet.document(name, sink=name))
    fleet.wait_online(["default", "redis_stream", "null"])
    fleet.broker.publish_all([(f"t/{name}/x", name.encode())
                              for name in ("default", "redis_stream", "null")])
    wait_until(lambda: {row[b"payload"] for row in fleet.stream.rows()} ==
               {b"default", b"redis_stream"}, 20, "both names lead to the stream")
