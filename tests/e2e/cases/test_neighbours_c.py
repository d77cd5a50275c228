"""Neighbours of the cases C: other brokers, other sizes, other ways."""

import ssl
import time

import pytest

from fleet.cloud import CloudBroker
from fleet.mqtt_client import MQTTv5, new_client
from fleet.operator import wait_error
from fleet.other_brokers import Mochi
from fleet.wait import wait_until

from test_case_c_incoming import LARGE, SOON, document, pause, resume


def wait_exactly(fleet, wanted, bound_s=60):
    fleet.stream.wait_payloads(wanted, bound_s)
    assert sorted(fleet.stream.payloads()) == sorted(wanted)


def told(fleet, *words):
    """The last error tells the operator, whatever its code."""
    def heard():
        error = fleet.api.status("c")["last_error"]
        assert error and all(word in error["message"] for word in words), error
        return error
    return wait_until(heard, 20, f"told of {words}")


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("over", ["mqtt", "mqtts"])
def test_several_large_ones_of_every_qos(fleet, authority, qos, over):
    fleet.start_broker(tls=authority if over == "mqtts" else None)
    plain = fleet.start_broker("plain") if over == "mqtt" else None
    assert plain is None or plain.running
    fleet.start_node(**SOON)
    more = {"tls": {"ca": authority.ca.read_text()}} if over == "mqtts" else {}
    fleet.api.create(document(fleet.broker.url, 5, subscriptions=[{"filter": "c/#", "qos": 2}],
                              **more))
    fleet.wait_online(["c"])
    publish = publisher(fleet, authority if over == "mqtts" else None)
    wanted = []
    for turn in range(3):
        wanted.append(b"before %d" % turn)
        publish("c/x", wanted[-1], qos)
        publish(f"c/large{turn}", b"x" * (LARGE + turn), qos)
    wanted.append(b"the last")
    publish("c/x", wanted[-1], qos)
    wait_exactly(fleet, wanted)
    told(fleet, "c/large2")
    status = fleet.api.status("c")
    assert (status["state"], status["reconnects"]) == ("online", 0), status


def publisher(fleet, authority):
    if authority is None:
        return fleet.broker.publish
    def publish(topic, payload, qos):
        client = new_client("publisher", protocol=MQTTv5)
        client.tls_set_context(ssl.create_default_context(cafile=authority.ca))
        client.connect("127.0.0.1", fleet.broker.port)
        client.loop_start()
        client.publish(topic, payload, qos)
        client.publish("nobody/listens", b"", 1).wait_for_publish(30)
        client.disconnect()
        client.loop_stop()
    return publish


def test_rabbitmq_over_websocket_with_a_large_one_between(fleet, rabbitmq):
    fleet.start_node(**SOON, max_packet_bytes=1 << 20)
    fleet.api.create(document(rabbitmq.ws_url, 4, **rabbitmq.login))
    fleet.wait_online(["c"])
    pause(fleet)
    wanted = [b"m%d" % number for number in range(20)]
    for payload in wanted[:10]:
        rabbitmq.publish("c/x", payload)
    rabbitmq.publish("c/large", b"x" * (2 << 20))
    for payload in wanted[10:]:
        rabbitmq.publish("c/x", payload)
    resume(fleet)
    wait_exactly(fleet, wanted)
    told(fleet, "c/large")
    fleet.wait_online(["c"])


@pytest.mark.parametrize("version", [4, 5])
def test_mochi_with_a_large_one_under_way(fleet, version):
    broker = fleet.start_other(Mochi)
    fleet.start_node(**SOON, max_packet_bytes=1 << 20)
    fleet.api.create(document(broker.url, version))
    fleet.wait_online(["c"])
    pause(fleet)
    wanted = [b"m%d" % number for number in range(20)]
    for number, payload in enumerate(wanted):
        broker.publish("c/x", payload)
        if number == 9:
            broker.publish("c/large", b"x" * (2 << 20))
    resume(fleet)
    wait_exactly(fleet, wanted)
    told(fleet, "c/large")


def test_a_client_with_a_maximum_of_its_own(fleet):
    """It is announced, and mosquitto drops what is larger."""
    fleet.start_node(**SOON)
    fleet.api.create(document(fleet.broker.url, 5, max_packet_size=5000))
    fleet.wait_online(["c"])
    fleet.broker.publish("c/x", b"before")
    fleet.broker.publish("c/x", b"x" * 6000)
    fleet.broker.publish("c/x", b"behind")
    wait_exactly(fleet, [b"before", b"behind"])
    assert fleet.api.status("c")["reconnects"] == 0


def test_oversize_close_is_as_before(fleet):
    fleet.start_node(**SOON, max_packet_bytes=100_000)
    fleet.api.create(document(fleet.broker.url, 4, oversize="close"))
    fleet.wait_online(["c"])
    fleet.broker.publish("c/x", b"before")
    fleet.broker.publish("c/large", b"x" * 200_000)
    wait_until(lambda: fleet.api.status("c")["reconnects"] >= 1, 20, "it closes")
    wait_error(fleet.api, "c", fleet.api.status("c")["last_error"]["code"], "packet")


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_malformed_topics_in_a_row(fleet, qos, version):
    broker = fleet.closing(CloudBroker())
    fleet.start_node(**SOON)
    fleet.api.create(document(broker.url, version))
    fleet.wait_online(["c"])
    bad = [b"c/\xff", b"c/+", b"c/\0", b"", b"c/#/x"]
    wanted = [b"m%d" % number for number in range(10)]
    for number, payload in enumerate(wanted):
        broker.publish("c/x", payload)
        if number < 5:
            broker.inject("c", bad[number], b"bad", qos)
            time.sleep(0.1)
    fleet.stream.wait_payloads(wanted, 60)
    fleet.wait_online(["c"])
    assert sorted(fleet.stream.payloads()) == sorted(wanted)
    wait_until(lambda: broker.pending("c") == 0, 20, "all is acknowledged")
    assert len(broker.of("c")) <= 7


def test_a_large_one_while_the_sink_takes_nothing(fleet):
    """Acknowledged in order: earlier messages wait for the sink, and it waits for them."""
    broker = fleet.closing(CloudBroker())
    fleet.start_node(**SOON, max_packet_bytes=100_000)
    fleet.api.create(document(broker.url, 5))
    fleet.wait_online(["c"])
    redis, key = fleet.redis.client, fleet.stream.key
    redis.set(key, "not a stream")
    broker.publish("c/x", b"before")
    broker.publish("c/large", b"x" * 200_000)
    broker.publish("c/x", b"behind")
    time.sleep(1)
    assert broker.pending("c") == 3
    redis.delete(key)
    wait_exactly(fleet, [b"before", b"behind"])
    wait_until(lambda: broker.pending("c") == 0, 20, "all is acknowledged")
