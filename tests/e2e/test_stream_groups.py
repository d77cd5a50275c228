"""Consumer groups of the stream: entries trimmed before they are read are counted; with sink.redis_trim
consumed there are none."""

import threading

import pytest

from fleet.wait import wait_until

STREAM, GROUP = "mqtt_msg", "readers"


class Reader:
    """One consumer of a group, that reads `count` entries, acknowledges them and sleeps."""

    def __init__(self, fleet, group=GROUP, count=100, pause_s=0.02):
        self.redis = fleet.redis.bytes_client
        self.group, self.count, self.pause_s = group, count, pause_s
        self.payloads = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()
        return self

    def _run(self):
        while not self._ends.wait(self.pause_s):
            for _, entries in self.redis.xreadgroup(self.group, "r", {STREAM: ">"}, self.count) or []:
                self.payloads += [fields[b"payload"] for _, fields in entries]
                self.redis.xack(STREAM, self.group, *[entry for entry, _ in entries])

    def close(self):
        self._ends.set()
        self._thread.join(10)


def create_group(fleet, name=GROUP):
    fleet.redis.client.xgroup_create(STREAM, name, id="0", mkstream=True)


def metric(node, name, group=None):
    """None: not shown."""
    wanted = f'{name}{{sink="redis_stream"' + (f',group="{group}"}}' if group else "}")
    lines = node.api.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(wanted + " ")), None)


def publish_numbers(fleet, count, topic="t/c00000/x", start=0):
    payloads = [b"%d" % number for number in range(start, start + count)]
    for at in range(0, count, 500):
        fleet.broker.publish_all([(topic, payload) for payload in payloads[at:at + 500]])
    return payloads


def check_all_once_or_more(reader, payloads, bound_s=60):
    def all_read():
        missing = set(payloads) - set(reader.payloads)
        assert not missing, f"{len(missing)} missing, such as {sorted(missing)[:5]}"
        return True
    wait_until(all_read, bound_s, "the group has read everything", poll_s=0.1)


def reason(node):
    return node.api.get("/readyz?verbose").text


def test_case_trimmed_consumed_loses_nothing_of_8000_for_a_slow_group(fleet):
    node = fleet.start_node(sink__redis_trim="consumed", sink__maxlen=500, sink__batch=100,
                            sink__queue_messages=200)
    fleet.online(1, make=fleet.persistent)
    create_group(fleet)
    payloads = publish_numbers(fleet, 8000)
    wait_until(lambda: "paused" in reason(node), 30, "the sink pauses")
    assert f"group {GROUP} has not read them" in reason(node)
    assert fleet.redis.client.xlen(STREAM) <= 500 + 100
    wait_until(lambda: metric(node, "mqfleet_sink_paused") == 1, 10, "it shows that it pauses")
    reader = fleet.closing(Reader(fleet).start())
    lengths = [0]

    def half_is_read():
        lengths.append(fleet.redis.client.xlen(STREAM))
        return len(reader.payloads) >= 4000
    wait_until(half_is_read, 60, "half is read", poll_s=0.01)
    assert max(lengths) <= 500 + 100
    check_all_once_or_more(reader, payloads)
    assert sorted(reader.payloads, key=int) == payloads  # each once: no connection broke
    wait_until(node.ready, 20, "it goes on")
    assert fleet.api.status("c00000")["messages_dropped"] == 0
    wait_until(lambda: metric(node, "mqfleet_sink_stream_trimmed_unread_total", GROUP) == 0, 20,
               "nothing was trimmed unread")


def test_case_trimmed_maxlen_counts_what_a_group_has_not_read(fleet):
    node = fleet.start_node(sink__maxlen=1000)
    fleet.online(1, make=fleet.persistent)
    create_group(fleet)
    fleet.redis.client.xgroup_create(STREAM, "dead", id="0")
    payloads = publish_numbers(fleet, 8000)
    wait_until(lambda: fleet.redis.client.xinfo_stream(STREAM)["last-entry"][1]["payload"]
               == "7999", 30, "all are written")
    reader = fleet.closing(Reader(fleet, count=500).start())
    wait_until(lambda: payloads[-1] in reader.payloads, 30, "the group has read the rest")
    lost = 8000 - len(set(reader.payloads))
    assert lost >= 6000
    for group in (GROUP, "dead"):
        wait_until(lambda group=group: metric(
            node, "mqfleet_sink_stream_trimmed_unread_total", group) == lost, 20,
            f"the loss of {group} is shown")
    wait_until(lambda: metric(node, "mqfleet_sink_stream_lag_entries", GROUP) == 0, 20, "no lag")
    assert metric(node, "mqfleet_sink_stream_lag_entries", "dead") == 8000 - lost
    assert metric(node, "mqfleet_sink_stream_oldest_unread_seconds", "dead") > 0
    assert metric(node, "mqfleet_sink_stream_bytes") > 0
    assert "trimmed before group" in reason(node)
    assert f"dead: {8000 - lost} not delivered" in reason(node)


def test_without_a_group_consumed_fills_the_stream_and_pauses(fleet):
    node = fleet.start_node(sink__redis_trim="consumed", sink__maxlen=50, sink__batch=10)
    fleet.online(1, make=fleet.persistent)
    payloads = publish_numbers(fleet, 200)
    wait_until(lambda: "no consumer group reads it" in reason(node), 20, "the reason is told")
    assert fleet.redis.client.xlen(STREAM) == 50
    create_group(fleet)
    check_all_once_or_more(fleet.closing(Reader(fleet).start()), payloads)


def test_a_dead_group_holds_the_stream_until_it_is_ignored(fleet):
    node = fleet.start_node(sink__redis_trim="consumed", sink__maxlen=100, sink__batch=50)
    fleet.online(1, make=fleet.persistent)
    for group in (GROUP, "dead"):
        create_group(fleet, group)
    payloads = publish_numbers(fleet, 500)
    reader = fleet.closing(Reader(fleet).start())
    wait_until(lambda: "group dead has not read them" in reason(node), 20, "the group is named")
    assert node.terminate() == 0
    node.settings["sink.redis_ignore_groups"] = "dead"
    node.start()
    check_all_once_or_more(reader, payloads)
    wait_until(lambda: metric(node, "mqfleet_sink_stream_pending_entries", GROUP) == 0, 20,
               "the other group is measured")
    assert metric(node, "mqfleet_sink_stream_pending_entries", "dead") is None


@pytest.mark.parametrize("nodes", [1, 2])
def test_nothing_is_lost_when_nodes_die_while_they_trim(fleet, nodes):
    """Each node has half of the clients; the stream is always full, so every write trims."""
    settings = {"sink.redis_trim": "consumed", "sink.maxlen": 300, "sink.batch": 50,
                "sink.queue_messages": 100}
    started = [fleet.start_node(**{key.replace(".", "__"): value
                                   for key, value in settings.items()}) for _ in range(nodes)]
    ids = fleet.online(4, make=fleet.persistent)
    create_group(fleet)
    reader = fleet.closing(Reader(fleet, count=40).start())
    payloads = []
    for round_number in range(4):
        for number, client in enumerate(ids):
            payloads += publish_numbers(fleet, 200, f"t/{client}/x",
                                        (round_number * len(ids) + number) * 200)
        victim = started[round_number % nodes]
        victim.kill()
        assert fleet.redis.client.xlen(STREAM) <= 300 + 50 * nodes
        victim.start()
    check_all_once_or_more(reader, payloads, 120)
    survivor = started[0]
    wait_until(lambda: metric(survivor, "mqfleet_sink_stream_trimmed_unread_total", GROUP) == 0, 20,
               "nothing was trimmed unread")
