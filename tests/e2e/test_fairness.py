"""The queue of a stalled sink is shared fairly: a client that sends much gets only its share, and a client
that sends little loses nothing."""

import pytest

from fleet.mqtt_client import new_client
from fleet.publisher import Publisher
from fleet.redis_server import RedisServer
from fleet.stream import Stream
from fleet.wait import wait_until

pytestmark = pytest.mark.every_engine

BURST = 40000
QUIET_PER_S = 20
QUIET = 80  # in 4 s
QUEUE = 10000


def start(fleet, greedy_qos, quiet_qos):
    """Returns the Redis of the sink."""
    fleet.start_broker(options=["max_inflight_messages 0"])
    own = RedisServer(fleet.folder / "messages").start()
    fleet.others.append(own)
    fleet.start_node(sink__url=own.url, sink__queue_messages=QUEUE)
    for client, qos in (("greedy", greedy_qos), ("quiet", quiet_qos)):
        fleet.online(1, client, make=lambda name, qos=qos, **more: fleet.persistent(
            name, **more, subscriptions=[{"filter": f"t/{name}/#", "qos": qos}]))
    return own


def push(broker, qos):
    client = new_client()
    client.max_inflight_messages_set(5000)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    sent = [client.publish("t/greedy00000/x", b"burst %d" % n, qos) for n in range(BURST)]
    for info in sent:
        info.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize("greedy_qos, quiet_qos", [(0, 0), (1, 0), (1, 1)])
def test_a_burst_of_one_client_costs_another_nothing(fleet, greedy_qos, quiet_qos):
    if fleet.engine == "paho" and greedy_qos > 0:
        pytest.skip("a message that is held holds all clients of this engine")
    own = start(fleet, greedy_qos, quiet_qos)
    own.pause()
    push(fleet.broker, greedy_qos)
    wait_until(lambda: fleet.api.status("greedy00000")["messages_in"] >= QUEUE / 2, 20,
               "the queue is as full as one client may make it")
    quiet = Publisher(fleet.broker, ["t/quiet00000/x"], QUIET_PER_S, "quiet", quiet_qos)
    fleet.closing(quiet)
    wait_until(lambda: quiet.sent >= QUIET, 30, "the quiet client's messages are sent")
    quiet.stop()
    own.resume()
    Stream(own.bytes_client).wait_payloads([quiet.make_payload(n) for n in range(QUIET)])
    assert fleet.api.status("quiet00000")["messages_dropped"] == 0
    dropped = fleet.api.status("greedy00000")["dropped"]
    assert dropped["sink_full"] == 0
    if greedy_qos == 1:
        assert dropped["over_share"] == 0
        Stream(own.bytes_client).wait_payloads([b"burst %d" % n for n in range(BURST)], 60)
    else:
        wait_until(lambda: fleet.api.status("greedy00000")["messages_in"] == BURST, 20,
                   "the rest arrives")
        assert fleet.api.status("greedy00000")["dropped"]["over_share"] > BURST / 2
