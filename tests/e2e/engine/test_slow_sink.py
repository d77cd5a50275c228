"""A sink that accepts nothing stops only the sockets that feed it; memory stays bounded."""

import pytest

from fleet.mqtt_client import MQTTv5, new_client
from fleet.node import sanitized
from fleet.wait import holds_for, wait_until

pytestmark = pytest.mark.every_engine

QUEUE_BYTES = 2 << 20
MESSAGE_BYTES = 2000
PUSHED = 25000  # 50 MB
RSS_MORE_MAX = 40e6


class Pusher:
    """Publishes to the topics in turn, as fast as the broker accepts."""

    def __init__(self, broker, topics, qos):
        self._client = new_client(protocol=MQTTv5)
        self._client.max_inflight_messages_set(2000)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self._topics, self._qos = topics, qos

    def push(self, count):
        sent = [self._client.publish(self._topics[n % len(self._topics)],
                                     b"%09d" % n + bytes(MESSAGE_BYTES - 9), self._qos)
                for n in range(count)]
        for info in sent:
            info.wait_for_publish(60)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def grown(node, rss_before):
    return 0 if sanitized() else node.rss_bytes() - rss_before


def break_stream(fleet):
    fleet.redis.client.delete("mqtt_msg")
    fleet.redis.client.set("mqtt_msg", "not a stream")


@pytest.mark.parametrize("qos", [0, 1])
def test_a_stalled_sink_stops_only_the_sockets_that_feed_it(fleet, qos):
    node = fleet.start_node(sink__queue_bytes=QUEUE_BYTES, sink__queue_messages=1000,
                            redis_config__timeout_ms=1000)
    slow = fleet.online(10, "slow", keepalive_s=2, make=lambda client, **more: fleet.persistent(
        client, **more, subscriptions=[{"filter": f"t/{client}/#", "qos": qos}]))
    quick = fleet.online(10, "quick", keepalive_s=2, sink="null")
    before = fleet.broker.mark()
    break_stream(fleet)
    pusher = fleet.closing(Pusher(fleet.broker, [f"t/{client}/x" for client in slow], qos))
    rss_before = node.rss_bytes()
    pusher.push(PUSHED)
    wait_until(lambda: not node.ready(), 20, "the node says that its sink fails")

    beside = fleet.closing(Pusher(fleet.broker, [f"t/{client}/x" for client in quick], 1))
    counted = fleet.api.status(quick[0])["messages_in"]
    beside.push(500)
    wait_until(lambda: fleet.api.status(quick[0])["messages_in"] == counted + 50, 10,
               "the clients of the other sink receive")
    # Longer than a broker waits for a PINGREQ.
    holds_for(lambda: grown(node, rss_before) < RSS_MORE_MAX, 4, "memory is bounded", 0.2)
    assert not fleet.broker.connects(before).keys() & {*slow, *quick}, "connections were lost"
    assert {fleet.api.state(client) for client in slow} == {"online"}

    fleet.redis.client.delete("mqtt_msg")
    if qos == 1:
        wanted = {b"%09d" % n for n in range(PUSHED)}
        wait_until(lambda: {row[:9] for row in fleet.stream.payloads()} >= wanted, 60,
                   "all of them")
        numbers = {client: [int(row[b"payload"][:9]) for row in fleet.stream.of(client)]
                   for client in slow}
        assert all(row == sorted(set(row)) for row in numbers.values()), "order, each once"
    else:
        wait_until(node.ready, 20, "the sink works again")
        fleet.broker.publish(f"t/{slow[0]}/x", "after")
        fleet.stream.wait_payloads([b"after"])
        statuses = [fleet.api.status(client) for client in slow]
        assert sum(one["messages_in"] for one in statuses) > sum(
            one["messages_dropped"] for one in statuses) > 0
    assert not fleet.broker.connects(before).keys() & {*slow, *quick}, "connections were lost"
    assert grown(node, rss_before) < RSS_MORE_MAX
