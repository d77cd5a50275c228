"""Unusable brokers and addresses, tried by hundreds of clients beside healthy ones: the attempts stay
within the configured limits, healthy clients are not delayed, and no CPU is kept busy.

MQFLEET_STORM_CLIENTS=1000 makes each half as large as that; with -s each storm prints its row of
the table in docs/protocol.md."""

import collections
import os
import time

import pytest

from fleet.hostile import Deaf, Kicking, Refused, Refusing, Silent
from fleet.measure import IDLE_SHARE_MAX, Pulse, assert_undelayed, busiest_share, percentile
from fleet.wait import holds_for, wait_until

CLIENTS = int(os.environ.get("MQFLEET_STORM_CLIENTS", "100"))
NODES = 2
RATE = 40  # connects to one broker per node and second
IN_FLIGHT = 16  # to one broker, of all nodes together
TIMEOUT_S, RECONNECT_MIN_S, RECONNECT_MAX_S = 1, 2, 6
SETTINGS = {"connect_rate": RATE, "connect_in_flight": IN_FLIGHT,
            "connect_timeout_ms": TIMEOUT_S * 1000,
            "reconnect_min_ms": RECONNECT_MIN_S * 1000,
            "reconnect_max_ms": RECONNECT_MAX_S * 1000}
BEFORE_S, CALM_S = 3, 4
LOGGED = {Refused: {"log__level": "debug"}}


def most_within(tries, window_s):
    """The most of them within any window."""
    window, most = collections.deque(), 0
    for at, _ in tries:
        window.append(at)
        while window[0] < at - window_s:
            window.popleft()
        most = max(most, len(window))
    return most


def least_gap_s(tries):
    """The shortest time between two attempts of one client."""
    last, least = {}, float("inf")
    for at, client in tries:
        least = min(least, at - last.get(client, float("-inf")))
        last[client] = at
    return least


def watch_calm(fleet, peer):
    """(attempts per second, share of a core of the busiest node) during a part of the storm."""
    tries, began = len(peer.tries), time.monotonic()
    share = busiest_share(fleet.nodes, CALM_S)
    return (len(peer.tries) - tries) / (time.monotonic() - began), share


def report(name, tries, rate, connecting_max, share, before, during):
    print(f"\n| {name} | {CLIENTS} | {len(tries)} | {rate:.0f} | {most_within(tries, 1)} | "
          f"{connecting_max} | {share:.2f} | "
          + " | ".join(f"{percentile(delays, 0.5)} / {percentile(delays, 0.99)}"
                       for delays in (before, during)) + " |")


@pytest.mark.every_engine
@pytest.mark.parametrize("kind", [Silent, Refusing, Kicking, Deaf, Refused])
def test_a_storm_stays_within_its_bounds(fleet, kind):
    fleet.start_nodes(NODES, **SETTINGS, **LOGGED.get(kind, {}))
    healthy = fleet.create(CLIENTS, prefix="healthy")
    fleet.wait_online(healthy, 10 + CLIENTS / RATE)
    pulse = fleet.closing(Pulse(fleet.broker, [f"t/{one}/x" for one in healthy], fleet.redis))
    holds_for(lambda: True, BEFORE_S)
    before, mark = pulse.delays(0), fleet.broker.mark()
    outbreak = pulse.sent

    peer = fleet.closing(Refused(fleet.nodes) if kind is Refused else kind())
    began = time.monotonic()
    fleet.create(CLIENTS, prefix="storm", make=lambda client: fleet.document(
        client, url=peer.url))
    goal = CLIENTS * 1.3
    wait_until(lambda: len(peer.tries) >= goal, 20 + 3 * TIMEOUT_S * goal / IN_FLIGHT,
               "many were tried twice")
    rate, share = watch_calm(fleet, peer)
    tries, lasted_s = list(peer.tries), time.monotonic() - began
    during = pulse.delays(outbreak)
    report(kind.__name__, tries, rate, peer.connecting_max, share, before, during)

    # The limit: this many per second, and a twentieth of that at once.
    assert len(tries) <= NODES * RATE * (lasted_s + 0.05) + NODES
    assert most_within(tries, 1) <= NODES * RATE * 1.5 + NODES
    assert peer.connecting_max <= IN_FLIGHT * 1.5
    # The backoff: no client tries again before the shortest delay.
    assert rate <= CLIENTS / RECONNECT_MIN_S
    if kind is not Deaf:
        assert least_gap_s(tries) >= RECONNECT_MIN_S * 0.9
    assert_undelayed(before, during)
    assert not fleet.broker.connects(mark), "a healthy client had to connect anew"
    assert share < IDLE_SHARE_MAX, f"a node kept {share:.2f} of a core busy"
