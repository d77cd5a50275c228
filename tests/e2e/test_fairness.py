"""The queue of a stalled sink is shared fairly: a client that sends much gets only its share, and a client
that sends little loses nothing."""

import pytest

from fleet.mqtt_client import new_client
from fleet.operator import metrics
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


# ---- limits -------------------------------------------------------------------------------------

def limited(fleet, qos, **limits):
    """A client with these limits, online; its document."""
    keepalive_s = 60 if fleet.engine == "paho" else 2  # behind messages it does not hear PINGRESP
    [client] = fleet.online(1, "limited", keepalive_s=keepalive_s, limits=limits,
                            make=lambda name, **more: fleet.persistent(
                                name, **more,
                                subscriptions=[{"filter": f"t/{name}/#", "qos": qos}]))
    return client


def test_qos_1_beyond_the_limits_is_slowed_and_nothing_is_lost(fleet):
    fleet.start_broker(options=["max_inflight_messages 0"])
    node = fleet.start_node()
    client = limited(fleet, 1, messages_per_s=20)
    before = fleet.broker.mark()
    payloads = [b"%03d" % number for number in range(120)]
    fleet.broker.publish_all([(f"t/{client}/x", payload) for payload in payloads])
    wait_until(lambda: fleet.api.status(client)["limited"], 20, "its status says so")
    if fleet.engine != "paho":  # which waits half a second for each message
        # 20 at once, 20 a second: five seconds, longer than two keepalives.
        fleet.online(1, "other")
        fleet.broker.publish("t/other00000/x", "at once")
        fleet.stream.wait_payloads([b"at once"], 10)
        assert len(fleet.stream.of(client)) < len(payloads), "another client does not wait"
    fleet.stream.wait_payloads(payloads, 40)
    assert [row[b"payload"] for row in fleet.stream.of(client)] == payloads
    wait_until(lambda: not fleet.api.status(client)["limited"], 20, "no longer")
    assert client not in fleet.broker.connects(before)
    assert metrics(node)["mqfleet_limit_pauses_total"] > 0
    assert fleet.api.status(client)["messages_dropped"] == 0


def test_qos_0_beyond_the_limits_is_dropped_and_counted(fleet):
    node = fleet.start_node()
    client = limited(fleet, 0, messages_per_s=10, burst=50)
    fleet.broker.publish_all([(f"t/{client}/x", f"{n}") for n in range(400)], qos=0)
    wait_until(lambda: fleet.api.status(client)["messages_in"] == 400, 20, "all were received")
    status = fleet.api.status(client)
    assert status["limited"]
    dropped = status["dropped"]["over_limit"]
    assert dropped == status["messages_dropped"] >= 200
    wait_until(lambda: len(fleet.stream.of(client)) == 400 - dropped, 20, "the others are stored")
    assert 400 - dropped >= 50
    assert metrics(node)['mqfleet_messages_dropped_total{reason="over_limit"}'] == dropped


def test_limits_change_without_a_reconnect(fleet):
    fleet.start_node()
    client = limited(fleet, 0, bytes_per_s=1)
    before = fleet.broker.mark()
    fleet.broker.publish_all([(f"t/{client}/x", "x" * 1000)] * 10, qos=0)
    wait_until(lambda: fleet.api.status(client)["dropped"]["over_limit"] == 9, 20, "all but one")
    config = dict(fleet.api.client(client)["config"])
    del config["limits"]
    assert fleet.api.put(fleet.api.path(client), config).status_code == 200
    wait_until(lambda: not fleet.api.status(client)["limited"], 20, "it is not limited any more")
    fleet.broker.publish_all([(f"t/{client}/x", f"after {n}") for n in range(100)], qos=0)
    fleet.stream.wait_payloads([b"after %d" % n for n in range(100)])
    assert client not in fleet.broker.connects(before)
    answer = fleet.api.put(fleet.api.path(client),
                           {**config, "limits": {"messages_per_s": 5, "burst": 4}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["detail"] == "must be at least messages_per_s, 5"
