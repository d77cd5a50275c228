"""The wall clock of a node's machine jumps; measured durations are not affected."""

import pytest

from fleet import packets
from fleet.node import Node
from fleet.operator import metrics, total
from fleet.packets import SUBSCRIBE
from fleet.preload import preloaded
from fleet.scripted import ScriptedBroker
from fleet.wait import holds_for, wait_until

HOUR = 3600


class Jumping(Node):
    """Its wall clock can be set while it runs."""

    @property
    def _clock(self):
        return self.folder / f"{self.name}.clock"

    def spawn(self, argv, env=None):
        self.shift(0)
        super().spawn(argv, preloaded(env, "clock_shift", E2E_CLOCK_FILE=str(self._clock)))

    def shift(self, seconds):
        # Written in place and with a fixed length, so that the node never reads half of it.
        self._clock.touch()
        with open(self._clock, "r+") as clock:
            clock.write(f"{seconds:+016d}\n")


def start(fleet, **settings):
    node = Jumping("n1", fleet.folder, {"redis_config.url": fleet.redis.url, **settings})
    fleet.nodes.append(node)
    return node.start()


def document(url):
    return {"id": "c", "url": url, "subscriptions": [{"filter": "t/#", "qos": 1}]}


def test_case_F19_a_missing_suback_is_noticed_although_the_clock_goes_back(fleet):
    node = start(fleet, connect_timeout_ms=1000)
    broker = fleet.closing(ScriptedBroker())
    node.api.create(document(broker.url))
    link = broker.connection()
    link.expect(SUBSCRIBE)
    link.send(packets.publish(link.version, "t/x", b"what the session has kept"))
    wait_until(lambda: node.api.status("c")["messages_in"] == 1, 20, "it has come")
    node.shift(-HOUR)
    link.until_closed(20)
    broker.connection(bound_s=20)


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_case_F19_the_time_to_the_sink_does_not_jump(fleet, jump):
    node = start(fleet)
    node.api.create(document(fleet.broker.url))
    fleet.wait_online(["c"])
    fleet.redis.pause()
    fleet.broker.publish("t/x", b"waits for the sink")
    wait_until(lambda: metrics(node)["mqfleet_sink_queue_messages{sink=\"redis_stream\"}"] == 1, 20)
    node.shift(jump)
    fleet.redis.resume()
    fleet.stream.wait_payloads([b"waits for the sink"], 20)
    wait_until(lambda: total(node, "mqfleet_sink_latency_seconds_count") == 1, 20)
    assert 0 < total(node, "mqfleet_sink_latency_seconds_sum") < HOUR / 2


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_case_F19_clients_and_membership_do_not_notice(fleet, jump):
    node = start(fleet)
    node.api.create(document(fleet.broker.url))
    fleet.wait_online(["c"])
    node.shift(jump)
    before = node.api.status("c")["reconnects"]
    holds_for(lambda: node.ready() and node.api.state("c") == "online", 4, "online and ready")
    assert node.api.status("c")["reconnects"] == before
    assert metrics(node)["mqfleet_fenced_total"] == 0
