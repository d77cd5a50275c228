"""Memory runs out while valid requests arrive: the node reports this, and does not blame the caller."""

import contextlib
import json
import re
import resource
from datetime import datetime

import pytest

from fleet.node import Node, sanitized
from fleet.operator import total
from fleet.preload import preloaded
from fleet.wait import wait_until

pytestmark = pytest.mark.skipif(sanitized(), reason="a sanitizer takes all addresses there are")
MIB = 1 << 20
TYPE = "urn:mqfleet:problem:out-of-memory"


def address_space(node):
    return int((open(f"/proc/{node.pid}/statm").read().split())[0]) * resource.getpagesize()


@contextlib.contextmanager
def short_of_memory(node, left_bytes):
    """It may use this much more memory than it uses now."""
    before = resource.prlimit(node.pid, resource.RLIMIT_AS)
    resource.prlimit(node.pid, resource.RLIMIT_AS, (address_space(node) + left_bytes, before[1]))
    try:
        yield
    finally:
        resource.prlimit(node.pid, resource.RLIMIT_AS, before)


# A connection that could not be opened is attempted again shortly after.
NO_REDIS = "urn:mqfleet:problem:redis-unavailable"


def check_answer(answer, good, others=()):
    """True: the node was out of memory and reported it."""
    if answer.status_code in good:
        return False
    assert answer.status_code == 503, answer.text[:500]
    problem = answer.json()
    assert problem["type"] in (TYPE, *others) and problem["status"] == 503, problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    return True


def batch(fleet, prefix):
    """About 6 MB with texts of every length."""
    return [fleet.document(f"{prefix}{number:04d}", username="u" * (number * 7 % 900 + 1),
                           subscriptions=[f"{prefix}/{number}/{'x' * (level * 40)}"
                                          for level in range(12)])
            for number in range(1500)]


def outcomes(node, send, good, others=()):
    """How many of the requests, each with slightly more memory, were refused and how many were served."""
    refused = served = 0
    for left_kib in (0, 64, 256, *range(1024, 65536, 3072)):
        with short_of_memory(node, left_kib << 10):
            if check_answer(send(left_kib), good, others):
                refused += 1
            else:
                served += 1
        assert node.running
    return refused, served


def test_case_F15_valid_posts_are_not_blamed_when_memory_runs_out(fleet):
    node = fleet.start_node()
    body = json.dumps(batch(fleet, "c"))

    def create(_):
        return node.api.post("/api/v1/clients", data=body,
                             headers={"Content-Type": "application/json"}, timeout=60)

    refused, served = outcomes(node, create, (200, 201, 207))
    assert refused > 2, (refused, served)
    answer = create(None)
    assert answer.status_code in (200, 201) and not answer.json()["failed"], answer.text[:500]
    # The stored messages are complete.
    assert {client["id"] for client in node.api.clients()} == {
        client["id"] for client in json.loads(body)}
    # The log says how often, at most every 10 s.
    wait_until(lambda: "event=out_of_memory" in node.log(), 20)
    assert total(node, "mqfleet_out_of_memory_total") >= refused
    times = [datetime.fromisoformat(time) for time in re.findall(
        r"time=(\S+)Z level=error event=out_of_memory failed=[1-9]", node.log())]
    assert times and all((later - earlier).total_seconds() > 9.9
                         for earlier, later in zip(times, times[1:])), times
    assert node.ready()


@pytest.mark.parametrize("size", [100_000, 3 * MIB, 12 * MIB])
def test_case_F15_large_publications_are_refused_with_503(fleet, size):
    node = fleet.start_node()
    fleet.api.create(fleet.document("c"))
    fleet.wait_online(["c"])
    document = {"topic": "t/c/x", "payload": "p" * size, "qos": 0}
    _, served = outcomes(node,
                         lambda _: node.api.post(node.api.path("c", "publish"), document,
                                                 timeout=60), (200, 409))
    assert served > 0
    fleet.api.wait_state("c", "online")
    assert node.api.post(node.api.path("c", "publish"), document).status_code == 200


def test_case_F15_reads_and_small_changes_are_whole_or_refused(fleet):
    node = fleet.start_node()
    node.api.create(batch(fleet, "r"))
    whole = {client["id"] for client in node.api.clients()}

    def read(_):
        answer = node.api.get("/api/v1/clients?limit=1000", timeout=60)
        assert answer.status_code != 200 or len(answer.json()["clients"]) == 1000
        return answer

    outcomes(node, read, (200,), (NO_REDIS,))
    for left in (0, 4096, 65536):
        with short_of_memory(node, left):
            for _ in range(20):
                check_answer(node.api.post(node.api.path("r0001", "pause")), (200, 202), (NO_REDIS,))
                check_answer(node.api.put(node.api.path("r0001"), fleet.document("r0001")),
                             (200,), (NO_REDIS,))
    # The connection to Redis may have been lost.
    wait_until(lambda: {client["id"] for client in node.api.clients()} == whole and node.ready(),
               20, "as before")


class Lacking(Node):
    """Allocations of that many bytes fail."""

    size = 7777

    def spawn(self, argv, env=None):
        super().spawn(argv, preloaded(env, "no_memory", E2E_NO_BYTES=str(self.size)))


def test_a_condition_that_there_is_no_memory_for_is_not_left_out(fleet):
    node = Lacking("n1", fleet.folder, {"redis_config.url": fleet.redis.url})
    fleet.nodes.append(node)
    node.start()
    node.api.create(fleet.document("c"))
    before = node.api.client("c")
    answer = node.api.put(node.api.path("c"), {**fleet.document("c"), "subscriptions": ["other/#"]},
                          headers={"If-Match": "1" * (Lacking.size - 1)})
    assert check_answer(answer, (400,))
    assert node.api.client("c")["version"] == before["version"]


def peak_bytes(node):
    status = open(f"/proc/{node.pid}/status").read()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def test_a_list_that_drops_most_rows_holds_one_page_at_a_time(fleet):
    """Ten pages of rows of 8 KB, none of which is requested."""
    node = fleet.start_node(node_info__size=0)
    for page in range(10):
        node.api.create([fleet.document(f"c{page}-{number}", username="u" * 8000)
                         for number in range(500)])
    with open(f"/proc/{node.pid}/clear_refs", "w") as clear:
        clear.write("5")  # VmHWM begins again
    before = peak_bytes(node)
    answer = node.api.get("/api/v1/clients?label.no=such").json()
    assert answer["clients"] == []
    assert peak_bytes(node) - before < 15 * MIB
