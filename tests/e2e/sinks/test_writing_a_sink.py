"""The example of docs/writing-a-sink.md, as a module of a real node, and modules that a node refuses."""

import json
import re
import shutil
import socket
import subprocess
import threading

import pytest

from fleet.node import BINARY, ROOT, environment
from fleet.wait import wait_until

PAGE = ROOT / "docs/writing-a-sink.md"
FLAGS = ["-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror",
         "-shared", "-fPIC", f"-I{ROOT}/include"]


def version():
    printed = subprocess.run([BINARY, "--version"], check=True, capture_output=True, text=True, env=environment())
    return re.search(r"\d+\.\d+\.\d+", printed.stdout)[0]


def compile_example(path, of_version=None, source=None):
    code = source or re.search(r"^```c\n(.*?)^```$", PAGE.read_text(), re.S | re.M)[1]
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".c").write_text(code)
    subprocess.run(["cc", *FLAGS, f'-DMQFLEET_VERSION="{of_version or version()}"', "-o", path,
                    path.with_suffix(".c")], check=True, capture_output=True, text=True)


@pytest.fixture
def program(tmp_path):
    """The program in a folder of its own, without modules."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return shutil.copy(BINARY, folder / "mqfleetd")


class Server:
    """Answers each line; `no` to those whose payload begins with "bad"."""

    def __init__(self, path):
        self.payloads = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            connection, _ = self._socket.accept()
            with connection, connection.makefile() as lines:
                for line in lines:
                    payload = json.loads(line)["payload"]
                    bad = payload.startswith("bad")
                    connection.sendall(b"no good\n" if bad else b"ok\n")
                    self.payloads += [] if bad else [payload]


def start_node(fleet, program, path, **settings):
    return fleet.new_node(binary=program, sinks__collector__type="lines", sinks__collector__path=path,
                          **settings).start()


def test_the_example_works_as_it_stands_on_the_page(fleet, program, tmp_path):
    compile_example(program.parent / "sinks/lines.so")
    path = tmp_path / "collector.sock"
    node = start_node(fleet, program, path)
    [client] = fleet.online(1, sink="collector")
    payloads = [f"{number}" for number in range(100)]
    fleet.broker.publish_all([(f"t/{client}/x", payload.encode()) for payload in payloads[:50]])
    wait_until(lambda: "cannot connect to" in node.api.get("/readyz?verbose").text, 20, "the cause")
    server = Server(path)
    wait_until(lambda: server.payloads == payloads[:50], 20, "what waited")
    fleet.broker.publish_all([(f"t/{client}/x", payload.encode()) for payload in ["bad", *payloads[50:]]])
    wait_until(lambda: server.payloads == payloads, 20, "all others")
    dead = fleet.redis.bytes_client.xrange("mqtt_dead")
    assert [(entry[b"payload"], entry[b"dead_letter_reason"]) for _, entry in dead] == [(b"bad", b"good ")]


def test_a_module_is_found_below_the_prefix(fleet, tmp_path):
    (tmp_path / "prefix/bin").mkdir(parents=True)
    program = shutil.copy(BINARY, tmp_path / "prefix/bin/mqfleetd")
    (tmp_path / "prefix/lib/mqfleet").mkdir(parents=True)
    compile_example(tmp_path / "prefix/lib/mqfleet/sinks/lines.so")
    Server(tmp_path / "s")
    start_node(fleet, program, tmp_path / "s")


def check_config(program, *settings):
    result = subprocess.run([program, "--check-config", *(word for one in settings for word in ("--set", one))],
                            capture_output=True, text=True, env=environment(), timeout=60)
    return result.returncode, result.stderr


def fault_of(program, kind="lines"):
    code, text = check_config(program, f"sinks.x.type={kind}", "sinks.x.path=/tmp/x", "sinks.x.url=amqp://h",
                              "sinks.x.brokers=h:1", "sinks.x.topic=t", "sinks.x.subject=s")
    assert code == 2
    lines = [line for line in text.splitlines() if "sinks.x.type" in line]
    assert len(lines) == 1, text
    return lines[0]


def test_a_module_of_another_version_is_refused(program):
    compile_example(program.parent / "sinks/lines.so", of_version="0.0.9")
    assert f"is of mqfleet 0.0.9, and this is {version()}" in fault_of(program)


def test_a_file_that_is_no_module_is_refused(program):
    module = program.parent / "sinks/lines.so"
    compile_example(module, source="int sink_type_other;\n")
    assert "lines.so is not a module of mqfleet" in fault_of(program)
    compile_example(module, source="extern int missing(void);\nint lines(void);\nint lines(void) "
                                   "{ return missing(); }\n")
    assert "undefined symbol: missing" in fault_of(program)
    module.write_text("text")
    assert "cannot be loaded" in fault_of(program)


@pytest.mark.parametrize("kind", [path.parent.name for path in ROOT.glob("src/sink/types/*/module.cmake")])
def test_a_missing_module_names_the_package(program, kind):
    packages = re.search(r"set\(module_packages (.*)\)",
                         (ROOT / f"src/sink/types/{kind}/module.cmake").read_text())[1]
    fault = fault_of(program, kind)
    assert f"sinks/{kind}.so" in fault and "is not installed" in fault and packages in fault


def test_a_type_that_nobody_knows_is_listed_with_those_that_exist(program):
    for kind in ("nothing", "../x", "a.b", ""):
        fault = fault_of(program, kind)
        assert "redis_stream" in fault and "kafka" in fault, fault
