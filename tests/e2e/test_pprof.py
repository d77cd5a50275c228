"""/debug/pprof with the real `go tool pprof`: function names, permissions, concurrent requests."""

import gzip
import os
import re
import socket
import subprocess
import threading
import time

import pytest
import requests

from fleet.node import ROOT, sanitized
from fleet.wait import wait_until

pytestmark = pytest.mark.skipif(sanitized(), reason="profiles are not taken with a sanitizer")


def pprof(node, path, *words, cwd):
    result = subprocess.run(["go", "tool", "pprof", *words, f"{node.api.base}/debug/pprof/{path}"],
                            capture_output=True, text=True, timeout=90, cwd=cwd,
                            env={**os.environ, "PPROF_TMPDIR": str(cwd)})
    assert result.returncode == 0, result.stderr
    return result.stdout


def thread_names():
    rows = (ROOT / "src/wiring/threads.c").read_text().split("} threads[] = {")[1].split("\n};")[0]
    return {name for name, count in re.findall(r'\{"([a-z-]+)", \w+, (\w+),', rows)
            if count != "threads_count_none"}  # those are started later


@pytest.fixture
def busy(fleet):
    """A node with online clients that keeps publishing."""
    node = fleet.start_node("m1", profile__heap_sample_bytes=4096)
    ids = fleet.online(300)
    over = threading.Event()

    def publish():
        while not over.is_set():
            node.api.publish(ids[0], f"t/{ids[0]}/x", "x" * 1000)
    publisher = threading.Thread(target=publish)
    publisher.start()
    yield node
    over.set()
    publisher.join()


def test_the_heap_by_the_commands_as_written(busy, tmp_path):
    drawn = pprof(busy, "heap", "-alloc_space", "-cum", "-svg", "-output", "heap.svg", cwd=tmp_path)
    svg = (tmp_path / "heap.svg").read_text()
    assert "<svg" in svg and "api_clients_create" in svg, drawn
    for kind in ("-alloc_objects", "-inuse_space", "-inuse_objects"):
        top = pprof(busy, "heap", kind, "-top", "-cum", "-nodecount=2000", cwd=tmp_path)
        assert re.search(r"%\s+(threads_run|workers_run|main)\b", top), top
    raw = pprof(busy, "allocs", "-raw", cwd=tmp_path)
    assert "client_config_parse" in raw and "Mappings" in raw
    text = busy.api.get("/debug/pprof/heap", params={"debug": 1}).text
    assert "malloc" in text


def test_where_the_time_goes(busy, tmp_path):
    def ours_are_seen():
        """A busy machine gives the node little time, and so few samples."""
        top = pprof(busy, "profile?seconds=2", "-top", "-cum", "-nodecount=1000", cwd=tmp_path)
        assert "Type: cpu" in top and "threads_run" in top, top
        assert re.search(r"\b(workers?_run|transaction_\w+|api_publish\w*)\b", top), top
        return True
    wait_until(ours_are_seen, 60, "a profile of what the node does")


def test_all_threads_with_their_stacks(busy, tmp_path):
    text = busy.api.get("/debug/pprof/threads", params={"debug": 2}).text
    missing = {name for name in thread_names() if name not in text}
    assert not missing, text[:3000]
    assert "MHD" in text and "main" in text
    assert "Type: threads" in pprof(busy, "goroutine", "-top", cwd=tmp_path)


def test_one_at_a_time_and_a_stop_ends_it(fleet):
    node = fleet.start_node()
    answers = []

    def take_long():
        while not answers or answers[-1].status_code == 409:  # the short one below was first
            answers.append(node.api.get("/debug/pprof/profile", params={"seconds": 300}))

    first = threading.Thread(target=take_long)
    first.start()
    wait_until(lambda: node.api.get("/debug/pprof/profile",
                                    params={"seconds": 1}).status_code == 409, 20, "busy")
    began = time.monotonic()
    assert node.terminate() == 0
    first.join()
    assert time.monotonic() - began < 60 and answers[-1].status_code == 200


def test_a_caller_who_leaves_ends_it_and_threads_do_not_wait_for_it(fleet):
    node = fleet.start_node()
    with pytest.raises(requests.exceptions.ReadTimeout):
        node.api.get("/debug/pprof/profile", params={"seconds": 300}, timeout=1)
    short = {"seconds": 1}
    wait_until(lambda: node.api.get("/debug/pprof/profile", params=short).status_code == 200, 20,
               "the next")
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as caller:

        def is_busy():
            """The short profile may begin before the long one, which is then refused."""
            caller.sendall(b"GET /debug/pprof/profile?seconds=300 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.2)
            return node.api.get("/debug/pprof/profile", params=short).status_code == 409

        wait_until(is_busy, 60, "busy")
        assert "main" in node.api.get("/debug/pprof/threads", params={"debug": 2}).text


def test_what_is_asked_wrongly(fleet):
    node = fleet.start_node(profile__heap_sample_bytes=0)
    assert node.api.get("/debug/pprof/heap").status_code == 501
    for query in ({"seconds": 0}, {"seconds": 301}, {"seconds": "x"}):
        assert node.api.get("/debug/pprof/profile", params=query).status_code == 400
    assert node.api.get("/debug/pprof/threads", params={"debug": 9}).status_code == 400
    delta = node.api.get("/debug/pprof/heap", params={"seconds": 5})  # would be totals all the same
    assert delta.status_code == 400 and "debug" in delta.json()["detail"]
    assert node.api.get("/debug/pprof/nonsense").status_code == 404
    assert "threads" in node.api.get("/debug/pprof/mutex").json()["detail"]
    assert "profile" in node.api.get("/debug/pprof/").text
    without_slash = node.api.get("/debug/pprof")
    assert without_slash.status_code == 301 and without_slash.headers["Location"] == "pprof/"
    words = node.api.get("/debug/pprof/cmdline").text
    assert "redis_config.url=" in words and "redis://" not in words


def test_many_profiles_leave_nothing_behind(busy):
    def resident():
        return int(open(f"/proc/{busy.pid}/statm").read().split()[1]) * 4096

    for _ in range(10):
        gzip.decompress(busy.api.get("/debug/pprof/heap").content)
    before = resident()
    for _ in range(60):
        assert busy.api.get("/debug/pprof/heap").content[:2] == b"\x1f\x8b"
        assert busy.api.get("/debug/pprof/threads").status_code == 200
    assert resident() - before < 16 << 20
