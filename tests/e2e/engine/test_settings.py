"""Settings seen from a broker."""

import re
import time

import pytest

from fleet.packets import PUBACK, PUBREC, SUBSCRIBE, publish
from fleet.scripted import ScriptedBroker
from fleet.wait import wait_until

pytestmark = pytest.mark.every_engine

WINDOW = 10  # unacknowledged messages that a broker allows a client
CONNECTED_FROM = re.compile(r"New client connected from (\S+?):\d+ as c\d+ ")


def test_connections_come_from_the_source_addresses_in_turn(fleet):
    fleet.start_node(source_addresses="127.0.0.2, 127.0.0.3")
    fleet.online(20)
    found = CONNECTED_FROM.findall(fleet.broker.log())
    assert len(found) == 20 and set(found) == {"127.0.0.2", "127.0.0.3"}
    assert min(map(found.count, set(found))) >= 5


def test_a_source_address_that_the_machine_has_not_is_shown_on_the_client(fleet):
    fleet.start_node(source_addresses="192.0.2.7")
    fleet.create(1)
    error = wait_until(lambda: fleet.api.status("c00000")["last_error"], 20, "a connect that fails")
    assert error["code"] == "source_address_unusable" and "source_addresses" in error["message"]


def test_a_broker_that_sends_messages_but_never_a_suback_is_given_up(fleet):
    """The client waits for messages before the SUBACK, but not forever."""
    fleet.start_node(connect_timeout_ms=1000, release_after_ms=3000, reconnect_min_ms=20)
    broker = fleet.closing(ScriptedBroker())
    fleet.api.create({"id": "c00000", "url": broker.url, "subscriptions": ["t"]})
    link = broker.connection()
    link.expect(SUBSCRIBE)
    begun, closed = time.monotonic(), False
    while not closed and time.monotonic() < begun + 30:
        try:
            link.publish("t", "before the SUBACK")
            link.silent_for(0.2)
        except (AssertionError, OSError):  # DISCONNECT, or closed
            closed = True
    assert closed
    error = wait_until(lambda: fleet.api.status("c00000")["last_error"], 20, "an error")
    assert error["code"] == "subscribe_timeout"


def test_a_broker_that_never_releases_messages_does_not_fill_the_memory(fleet):
    buffer_bytes = 1048576
    fleet.start_node(buffer_bytes=buffer_bytes)
    broker = fleet.closing(ScriptedBroker())
    fleet.api.create({"id": "c00000", "url": broker.url,
                      "subscriptions": [{"filter": "t", "qos": 2}]})
    link = broker.online()
    received = 0
    try:
        while received < 65535:
            link.send(publish(link.version, "t", b"x", 2, received + 1))
            link.expect(PUBREC)
            received += 1
    except (AssertionError, OSError):  # DISCONNECT, or closed
        pass
    assert 64 < received <= buffer_bytes // 2 // 32  # a list entry alone has 16 bytes
    error = wait_until(lambda: fleet.api.status("c00000")["last_error"], 20, "an error")
    assert error["code"] == "buffers_full" and "PUBREL" in error["message"]


def seconds_for_windows(fleet, count, **settings):
    """With a broker that sends the next messages only when all earlier ones are acknowledged."""
    node = fleet.start_node(**settings)
    broker = fleet.closing(ScriptedBroker())
    client = f"c-{node.name}"
    node.api.create({"id": client, "url": broker.url, "subscriptions": [{"filter": "t", "qos": 1}]})
    link = broker.online()
    window = b"".join(publish(link.version, "t", b"x", 1, number + 1) for number in range(WINDOW))
    begun = time.monotonic()
    for _ in range(count):
        link.send(window)
        for _ in range(WINDOW):
            link.expect(PUBACK)
    spent = time.monotonic() - begun
    node.api.delete(f"/api/v1/clients/{client}")
    node.terminate()
    return spent


def test_messages_do_not_wait_for_others_that_come_only_once_they_are_acknowledged(fleet):
    """coalesce_ms does not limit how fast a broker with a small window sends."""
    without = seconds_for_windows(fleet, 5000, coalesce_ms=0)
    assert seconds_for_windows(fleet, 5000, coalesce_ms=5) < 4 * without + 2
