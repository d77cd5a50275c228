"""Starting a node: its configuration, its faults, its embedded Redis, its end."""

import contextlib
import json
import socket
import subprocess

import pytest

from fleet.node import BINARY, environment
from fleet.ports import free_port
from fleet.wait import PATIENCE, holds_for, wait_until


def run(*words, env=None):
    return subprocess.run([BINARY, *map(str, words)], env=environment(**(env or {})),
                          capture_output=True, text=True, timeout=30 * PATIENCE)


BAD_SETTINGS = [
    ("node_info.port=0", "node_info.port"),
    ("node_info.port=65536", "node_info.port"),
    ("node_info.port=eighty", "node_info.port"),
    ("node_info.size=-1", "node_info.size"),
    ("node_info.size=99999999999999999999", "node_info.size"),
    ("engine=teleport", "engine"),
    ("sink.type=pigeon", "sink.type"),
    ("sink.type=file", "sink.path"),
    ("log.level=loud", "log.level"),
    ("log.format=xml", "log.format"),
    ("heartbeat_ms=99", "heartbeat_ms"),
    ("heartbeat_ms=1.5", "heartbeat_ms"),
    ("heartbeat_ttl_ms=500", "heartbeat_ttl_ms"),
    ("reconnect_min_ms=70000", "reconnect_m"),
    ("redis_config.url=http://somewhere", "redis_config.url"),
    ("redis_config.url=redis://host:notaport/0", "redis_config.url"),
    ("redis_config.port=70000", "redis_config.port"),
    ("http.insecure=perhaps", "http.insecure"),
    ("http.listen=0.0.0.0", "http.listen"),
    ("ops.listen=0.0.0.0", "ops.listen"),
    ("http.tls_cert_file=/nowhere/cert.pem", "http.tls_key_file"),
    ("http.tokens_file=/nowhere/tokens", "http.tokens_file"),
    ("fleet.secret_file=/nowhere/secret", "fleet.secret_file"),
    ("http.cors_origins=console.example.org", "http.cors_origins"),
    ("broker_deny=10.0.0.0/99", "broker_deny"),
    ("source_addresses=10.0.0.0/8", "source_addresses"),
    ("connect_in_flight=0", "connect_in_flight"),
    ("no_such_setting=", "no_such_setting"),
    ("heartbeat_ms", "heartbeat_ms"),
]


@pytest.mark.parametrize("setting,named", BAD_SETTINGS, ids=[row[0] for row in BAD_SETTINGS])
def test_a_bad_setting_is_one_line_that_names_it_and_exit_code_2(setting, named):
    for mode in ([], ["--check-config"]):
        result = run(*mode, "--set", setting)
        assert result.returncode == 2, result.stderr
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1 and named in lines[0], result.stderr
        key, _, value = setting.partition("=")
        if key not in ("redis_config.url", "http.tls_cert_file"):  # a password; about another
            assert value in lines[0]


def test_bounds_are_told():
    assert "100" in run("--set", "heartbeat_ms=99").stderr
    assert "65535" in run("--set", "node_info.port=70000").stderr


@pytest.mark.parametrize("text", ["node_info: [", "node_info:\n  port: x\n", "surprise: 1\n",
                                  "node_info: 7\n", "- a\n"])
def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path, text):
    path = tmp_path / "node.yml"
    path.write_text(text)
    result = run("--check-config", "--config", path)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert run("--check-config", "--config", tmp_path / "missing.yml").returncode == 2


def test_each_fault_of_a_file_has_its_line(tmp_path):
    path = tmp_path / "node.yml"
    path.write_text("redis_confg: {url: x}\nsink: {type: odd}\n")
    assert run("--config", path).stderr.splitlines() == [
        f"mqfleetd: {path}:1: unknown setting redis_confg.url; did you mean redis_config.url?",
        f"mqfleetd: {path}:2: sink.type odd: must be one of redis_stream, file, null"]


def test_go_iots_file_is_accepted_and_order_is_flag_environment_file(tmp_path):
    path = tmp_path / "app-node1.yml"
    path.write_text("node_info:\n  host: 127.0.0.1\n  port: 9999\n  name: node-one\n"
                    "  type: mqtt\n  size: 7\n"
                    "redis_config:\n  host: 127.0.0.1\n  port: 6400\n  db: 3\n"
                    "  password: hushhush\n")
    assert run("--check-config", "--config", path).returncode == 0
    printed = run("--print-config", "--config", path, "--set", "node_info.size=9",
                  env={"MQFLEET_NODE_INFO_SIZE": "8", "MQFLEET_SINK_TYPE": "null"})
    assert printed.returncode == 0
    assert "hushhush" not in printed.stdout + printed.stderr
    again = tmp_path / "again.yml"
    again.write_text(printed.stdout)
    result = run("--print-config", "--config", again)
    assert result.returncode == 0 and result.stdout == printed.stdout
    lines = {line.strip() for line in printed.stdout.splitlines()}
    assert {"name: node-one", "size: 9", "port: 6400", "db: 3"} <= lines
    assert lines & {"type: null", 'type: "null"', "type: 'null'"}


def test_version_and_help():
    assert run("--version").returncode == 0
    assert run("--version").stdout.split()[-1][0].isdigit()
    assert "--config" in run("--help").stdout
    assert run("--no-such-flag").returncode == 2


@pytest.mark.parametrize("listen,url", [
    ("127.0.0.2", "http://127.0.0.2:"), ("0.0.0.0", "http://127.0.0.1:"), ("::", "http://[::1]:")])
def test_a_check_of_a_node_that_does_not_run_fails_and_says_what_it_asked(listen, url):
    port = free_port()
    result = run("--check-live", "--set", f"http.listen={listen}", "--set", "http.insecure=true",
                 env={"MQFLEET_NODE_INFO_PORT": str(port)})
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(f"mqfleetd: {url}{port}/livez?verbose: "), result.stderr


def test_one_binary_works_alone_and_its_clients_survive_kill_9(fleet):
    node = fleet.new_node("alone", redis_config__url="embedded").start()
    ids = fleet.online(5)
    node.kill()
    wait_until(lambda: not fleet.broker.connected(), 10)
    node.start()
    fleet.wait_online(ids)
    assert (fleet.folder / "alone-state/redis.sock").is_socket()
    assert (fleet.folder / "alone-state").stat().st_mode & 0o777 == 0o700
    assert node.terminate() == 0
    assert not (fleet.folder / "alone-state/redis.sock").is_socket()


def test_a_second_node_on_the_same_state_folder_says_so(fleet):
    fleet.new_node("first", redis_config__url="embedded").start()
    second = fleet.new_node("second", redis_config__url="embedded",
                            state_dir=fleet.folder / "first-state")
    assert second.start_and_end() != 0
    assert "first-state" in second.log()


def test_a_taken_port_is_named(fleet):
    first = fleet.start_node()
    second = fleet.new_node("second", node_info__port=first.port)
    assert second.start_and_end() != 0
    assert str(first.port) in second.log()
    assert "second" not in fleet.shared().register


def test_a_node_waits_for_its_redis(fleet):
    redis = fleet.redis
    redis.terminate()
    node = fleet.new_node().start(wait=False)
    wait_until(node.alive, 20, "alive without Redis")
    holds_for(lambda: node.running and not node.ready(), 1, "alive and not ready")
    redis.start()
    wait_until(node.ready, 20, "ready")


def test_readiness_follows_redis_and_health_does_not(fleet):
    node = fleet.start_node()
    fleet.redis.pause()
    wait_until(lambda: not node.ready(), 20, "not ready without Redis")
    assert node.alive()
    fleet.redis.resume()
    wait_until(node.ready, 20, "ready again")


def test_beyond_loopback_needs_an_explicit_word(fleet):
    node = fleet.new_node("open", http__listen="0.0.0.0", http__insecure="true",
                          broker_allow="127.0.0.1").start()
    assert node.ready()
    assert node.run_to_end("--check-live") == ["mqfleetd: the node is live\n", ""]
    denied = fleet.new_node("open-2", http__listen="0.0.0.0", http__insecure="true").start()
    node.kill()
    answer = denied.api.post("/api/v1/clients", fleet.document("inward"))
    assert answer.status_code == 422 and "broker_allow" in answer.text
    assert not fleet.broker.connects()


def test_broker_deny_holds_for_names_too(fleet):
    fleet.start_node(broker_deny="127.0.0.0/8,::1")
    fleet.api.create(fleet.document("inward", url=f"mqtt://localhost:{fleet.broker.port}"))
    error = wait_until(lambda: fleet.api.status("inward")["last_error"], 20, "denied")
    assert "broker_deny" in error["message"], error
    assert not fleet.broker.connects()


def test_logs_are_json_on_request(fleet):
    node = fleet.start_node(log__format="json", log__level="debug")
    fleet.online(1)
    assert node.terminate() == 0
    lines = [json.loads(line) for line in node.log().splitlines()]
    assert len(lines) > 3
    assert any(line.get("client") == "c00000" for line in lines)


def test_a_second_signal_ends_at_once(fleet):
    node = fleet.start_node()
    fleet.online(3)
    fleet.redis.pause()
    node.expected_exit = True
    node.signal(15)
    wait_until(lambda: not node.ready(), 10, "it is stopping")
    wait_until(lambda: node.signal(15) or not node.running, 5, "a second signal ends it")


def test_garbage_on_the_port_harms_nothing(fleet):
    node = fleet.start_node()
    idle = socket.create_connection(("127.0.0.1", node.port))
    for garbage in (b"", b"\x00" * 5000, b"GET /" + b"a" * 100000, b"POST / HTTP/1.1\r\n\r\n",
                    b"GET /livez HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", node.port)) as one:
            with contextlib.suppress(OSError):
                one.sendall(garbage)
    assert node.alive() and node.ready()
    idle.close()
