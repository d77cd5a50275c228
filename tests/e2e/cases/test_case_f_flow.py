"""A sink or broker that hangs does not delay publications through other clients."""

import threading
import time

import pytest

from fleet.certificates import Authority
from fleet.cloud import CloudBroker
from fleet.operator import metrics, total
from fleet.ports import free_port
from fleet.scripted import ScriptedBroker
from fleet.wait import holds_for, wait_until

pytestmark = pytest.mark.every_engine

SMALL = {"sink__queue_messages": 10, "redis_config__timeout_ms": 1000}


def break_stream(fleet):
    fleet.redis.client.delete(fleet.stream.key)
    fleet.redis.client.set(fleet.stream.key, "not a stream")


def mend_stream(fleet):
    fleet.redis.client.delete(fleet.stream.key)


def fill_sink(fleet, broker, client, count=40):
    """Waits until messages of the client wait, because its sink accepts nothing."""
    break_stream(fleet)
    payloads = [b"%s %d" % (client.encode(), number) for number in range(count)]
    broker.publish_all([(f"t/{client}/x", payload) for payload in payloads])
    wait_until(lambda: metrics(fleet.nodes[0])["mqfleet_held_back_clients"] > 0
               or not fleet.nodes[0].ready(), 20, "the sink is full")
    return payloads


def publish_all(fleet, jobs, api=None):
    """[(client, topic, qos)] at once: {job: (status, seconds, document)}."""
    answers = {}

    def one(job):
        began = time.monotonic()
        answer = (api or fleet.api).publish(job[0], job[1], "x", job[2])
        answers[job] = (answer.status_code, time.monotonic() - began, answer.json())
    threads = [threading.Thread(target=one, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


# ---- F7: a sink that stands still -----------------------------------------------------------------

@pytest.fixture(name="authority", scope="module")
def make_authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("over", ["tcp", "tls", "websocket"])
@pytest.mark.parametrize("version", [4, 5])
def test_case_F7_publications_are_answered_while_the_sink_takes_nothing(fleet, over, version,
                                                                        authority):
    port = free_port()
    lines = {"tls": [f"cafile {authority.ca}", f"certfile {authority.server_certificate}",
                     f"keyfile {authority.server_key}"], "websocket": ["protocol websockets"]}
    broker = fleet.start_broker("flow", options=[f"listener {port} 127.0.0.1",
                                                 *lines.get(over, [])])
    fleet.start_node(**SMALL)
    scheme = {"tcp": "mqtt", "tls": "mqtts", "websocket": "ws"}[over]
    more = {"url": f"{scheme}://localhost:{port}", "protocol_version": version,
            "clean_start": False}
    if over == "tls":
        more["tls"] = {"ca": authority.ca.read_text()}
    if version == 5:
        more["session_expiry_s"] = 3600
    fleet.wait_online(fleet.create(3, make=lambda client: {
        "id": client, "subscriptions": [{"filter": f"t/{client}/#", "qos": 1}], **more}))
    payloads = fill_sink(fleet, broker, "c00000")
    jobs = [(client, f"t/{client}/mine", qos) for client in ("c00000", "c00001")
            for qos in (1, 2)] + [("c00002", "elsewhere", qos) for qos in (0, 1, 2)]
    for job, (status, _, document) in publish_all(fleet, jobs).items():
        assert status == 200, (job, document)
    assert fleet.api.state("c00000") == "online"
    mend_stream(fleet)
    fleet.stream.wait_payloads(payloads, 30)
    got = [payload for payload in fleet.stream.payloads() if payload.startswith(b"c00000")]
    assert got == payloads, "in order, each once"


def test_case_F7_literally_a_client_that_receives_nothing(fleet):
    """It receives no messages; other clients of the same worker fill the sink."""
    fleet.start_node(**SMALL)
    ids = fleet.online(40, make=fleet.persistent)
    full = ids[:20]
    break_stream(fleet)
    fleet.broker.publish_all([(f"t/{client}/x", b"%d" % number)
                              for number in range(30) for client in full])
    wait_until(lambda: metrics(fleet.nodes[0])["mqfleet_held_back_clients"] >= 10, 20, "full")
    answers = publish_all(fleet, [(client, "elsewhere", qos) for client in ids[20:]
                                  for qos in (1, 2)])
    assert {status for status, _, _ in answers.values()} == {200}, answers
    mend_stream(fleet)
    wait_until(lambda: metrics(fleet.nodes[0])["mqfleet_held_back_bytes"] == 0, 30, "all is taken")


def test_case_F7_beyond_the_bound_the_answer_names_the_sink_and_nothing_breaks(fleet):
    broker = fleet.closing(ScriptedBroker())
    node = fleet.start_node(**SMALL, publish_timeout_ms=1500)
    fleet.api.create({"id": "c", "url": broker.url, "clean_start": False, "keepalive_s": 2,
                      "subscriptions": [{"filter": "t", "qos": 1}]})
    link = broker.online()
    fleet.wait_online(["c"])
    break_stream(fleet)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(fleet.api.publish("c", "x", "1")))
    sending = threading.Thread(target=lambda: [link.publish(
        "t", b"%04d" % number + bytes(1000), 1, number) for number in range(1, 3000)])
    sending.start()
    wait_until(lambda: metrics(node)["mqfleet_held_back_bytes"] > 250_000, 20, "the bound")
    thread.start()
    thread.join()
    answer, = answers
    assert answer.status_code == 504, answer.text
    assert answer.json()["type"].endswith(":sink-full"), answer.text
    assert answer.json()["code"] == "sink_full" and "sink" in answer.json()["detail"]
    values = metrics(node)
    assert values["mqfleet_held_back_bytes"] <= 400_000
    assert values["mqfleet_buffers_bytes"] >= values["mqfleet_held_back_bytes"]
    # Three times the keepalive: data that the node does not read does not count as silence of the
    # broker.
    holds_for(lambda: fleet.api.state("c") == "online", 6, "no keepalive ends it")
    mend_stream(fleet)
    sending.join()
    wait_until(lambda: len(fleet.stream.payloads()) == 2999, 30, "all of them")
    assert fleet.stream.payloads()[0][:4] == b"0001"
    assert fleet.api.status("c")["reconnects"] == 0


@pytest.mark.parametrize("verb", ["pause", "delete", "release", "kick"])
def test_case_F7_a_client_may_end_while_its_messages_wait(fleet, verb):
    fleet.start_node(**SMALL)
    fleet.online(2, make=fleet.persistent)
    payloads = fill_sink(fleet, fleet.broker, "c00000")
    if verb == "delete":
        assert fleet.api.delete(fleet.api.path("c00000")).status_code in (200, 204)
        wait_until(lambda: fleet.api.get(fleet.api.path("c00000")).status_code == 404, 20, "gone")
    elif verb == "kick":
        fleet.broker.restart()
    else:
        assert fleet.api.post(fleet.api.path("c00000", verb)).status_code in (200, 202)
    wait_until(lambda: metrics(fleet.nodes[0])["mqfleet_held_back_bytes"] == 0
               or fleet.api.state("c00000") == "online", 20, "it ended")
    mend_stream(fleet)
    if verb == "pause":
        fleet.api.wait_state("c00000", "paused")
        assert fleet.api.post(fleet.api.path("c00000", "resume")).status_code in (200, 202)
    if verb in ("pause", "release"):
        fleet.stream.wait_payloads(payloads, 30)


# ---- F5: a broker that acknowledges nothing --------------------------------------------------------

def silent_and_healthy(fleet, count, **settings):
    """A broker that never acknowledges publications, with that many clients, and one that does."""
    silent = fleet.closing(CloudBroker(acks_held=True))
    fleet.start_node(**settings)
    ids = fleet.create(count, "silent", make=lambda client: {"id": client, "url": silent.url})
    good = fleet.create(10, "good")
    fleet.wait_online([*ids, *good])
    return silent, ids, good


def slowest(fleet, clients, rounds=3):
    """Delays of publications through these clients, each answered with 200."""
    answers = [answer for _ in range(rounds)
               for answer in publish_all(fleet, [(one, "x", 1) for one in clients]).values()]
    assert {status for status, _, _ in answers} == {200}, answers
    return max(seconds for _, seconds, _ in answers)


@pytest.mark.parametrize("clients, each", [(3, 17), (300, 1)])
def test_case_F5_a_silent_broker_delays_nobody_else(fleet, clients, each):
    _, ids, good = silent_and_healthy(fleet, clients, publish_timeout_ms=8000)
    stuck = {}
    jobs = [(client, f"x/{number}", 1) for client in ids for number in range(each)]
    thread = threading.Thread(target=lambda: stuck.update(publish_all(fleet, jobs)))
    thread.start()
    wait_until(lambda: metrics(fleet.nodes[0])["mqfleet_publications_waiting"] == len(jobs), 20,
               "all of them wait")
    assert slowest(fleet, good) < 4
    assert metrics(fleet.nodes[0])["mqfleet_publications_waiting"] == len(jobs), "and wait still"
    thread.join()
    assert {status for status, _, _ in stuck.values()} == {504}
    wait_until(lambda: metrics(fleet.nodes[0])["mqfleet_publications_waiting"] == 0, 20, "answered")


def test_case_F5_beyond_its_share_a_silent_broker_is_named(fleet):
    silent, ids, good = silent_and_healthy(fleet, 1, publish_timeout_ms=8000,
                                           http__connections_max=40)
    stuck = {}
    jobs = [(ids[0], f"x/{number}", 1) for number in range(30)]
    thread = threading.Thread(target=lambda: stuck.update(publish_all(fleet, jobs)))
    thread.start()
    wait_until(lambda: total(fleet.nodes[0], "mqfleet_publications_busy_total") > 0, 20, "busy")
    answer = fleet.api.publish(ids[0], "x", "one more", 1)
    assert answer.status_code == 503, answer.text
    document = answer.json()
    assert document["type"].endswith(":broker-busy") and document["code"] == "broker_busy"
    assert document["broker"] == f"127.0.0.1:{silent.port}" in document["detail"]
    assert document["waiting"] == 20 and int(answer.headers["Retry-After"]) >= 1
    assert fleet.api.publish(good[0], "x", "y", 1).status_code == 200
    thread.join()
    assert sorted(status for status, _, _ in stuck.values()) == [503] * 10 + [504] * 20
    silent.acks_held = False
    wait_until(lambda: fleet.api.publish(ids[0], "x", "y", 1).status_code == 200, 20, "free again")


def test_case_F5_bytes_for_a_silent_broker_are_bounded(fleet):
    silent, ids, good = silent_and_healthy(fleet, 1, publish_timeout_ms=500, buffer_bytes=1 << 22)
    codes = [fleet.api.publish(ids[0], "x", "x" * 200_000, 1).status_code for _ in range(10)]
    assert codes.index(503) in range(4, 8) and set(codes) == {504, 503}, codes
    assert fleet.api.publish(good[0], "x", "x" * 200_000, 1).status_code == 200
    assert metrics(fleet.nodes[0])["mqfleet_publications_bytes"] > 1_000_000
    assert fleet.api.delete(fleet.api.path(ids[0], "publications")).status_code == 200
    wait_until(lambda: metrics(fleet.nodes[0])["mqfleet_publications_bytes"] == 0, 20, "dropped")


def test_case_F5_a_silent_broker_delays_nobody_else_through_another_node(fleet):
    """All publications go through one node, and half of the clients run on the other."""
    silent = fleet.closing(CloudBroker(acks_held=True))
    nodes = fleet.start_nodes(2, publish_timeout_ms=8000)
    ids = fleet.create(120, "silent", make=lambda client: {"id": client, "url": silent.url})
    good = fleet.create(20, "good")
    fleet.wait_online([*ids, *good])
    stuck = {}
    thread = threading.Thread(target=lambda: stuck.update(
        publish_all(fleet, [(client, "x", 1) for client in ids])))
    thread.start()
    wait_until(lambda: len(silent.publications()) == 120, 20, "all of them reach their broker")
    assert slowest(fleet, good) < 4
    assert thread.is_alive() and not stuck
    thread.join()
    assert {status for status, _, _ in stuck.values()} == {504}


def test_who_is_not_heard_because_of_a_sink_is_told_so(fleet):
    """For both engines: paho reads nothing at all while a callback waits for its sink."""
    fleet.start_node(**SMALL, publish_timeout_ms=2500)
    fleet.online(2, make=fleet.persistent)
    break_stream(fleet)
    fleet.broker.publish_all([("t/c00000/x", b"%d" % number) for number in range(40)])
    wait_until(lambda: not fleet.nodes[0].ready(), 20, "the sink fails")
    time.sleep(1)
    answer = fleet.api.publish("c00001", "elsewhere", "x", 1)
    assert answer.status_code == 200 or answer.json().get("code") == "sink_full", answer.text
    mend_stream(fleet)
    wait_until(lambda: fleet.api.publish("c00001", "elsewhere", "x", 1).status_code == 200, 30,
               "heard again")
