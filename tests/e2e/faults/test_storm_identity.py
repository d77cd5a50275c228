"""Several clients with the same identifier: the fight must end, and disturb no other client."""

import contextlib
import time

import pytest

from fleet import faults
from fleet.broker_log import BrokerLog
from fleet.measure import IDLE_SHARE_MAX, Pulse, assert_undelayed, busiest_share
from fleet.wait import holds_for, wait_until

LOSSES = 3  # tries that fail before it is a conflict, each time
MIN_S, STABLE_S = 2.5, 3
SETTINGS = {"conflict_min_ms": int(MIN_S * 1000), "stable_ms": STABLE_S * 1000,
            "conflict_losses": LOSSES, "reconnect_min_ms": 200, "reconnect_max_ms": 500}
STORM_S = 10


def rounds_within(duration_s):
    """The maximum number of attempts: one after each cool-down, which is twice the previous one."""
    rounds, rest_s = 0, MIN_S
    while duration_s > 0:
        rounds, duration_s, rest_s = rounds + 1, duration_s - rest_s, rest_s * 2
    return rounds


@pytest.mark.every_engine
def test_two_foreign_holders_of_one_identifier(stage):
    """They take it from each other, and from any other client, ten times a second."""
    stage.start(nodes=2, clients=100, messages_per_s=0, **SETTINGS)
    [client] = stage.add_clients(1, "contested")
    stage.fleet.api.wait_state(client, "online")
    stage.checker.begin()
    pulse = stage.fleet.closing(Pulse(
        stage.broker, [f"t/{one}/x" for one in stage.ids if one != client], stage.redis))
    holds_for(lambda: True, 4)
    before = pulse.delays(0)
    outbreak = pulse.sent
    with contextlib.ExitStack() as storm:
        for _ in range(2):
            storm.enter_context(faults.foreign_client(stage, client))
        stage.fleet.api.wait_state(client, "conflict", 40)
        tries = len(stage.checker.connects()[client])
        share = busiest_share(stage.nodes, STORM_S)
        during = pulse.delays(outbreak)
        tries = len(stage.checker.connects()[client]) - tries
    assert tries <= LOSSES * rounds_within(STORM_S), f"{tries} tries in {STORM_S} s"
    disturbed = stage.checker.connects().keys() & stage.id_set - {client}
    assert not disturbed, f"{disturbed} connected anew"
    assert_undelayed(before, during)
    assert share < IDLE_SHARE_MAX, f"a node kept {share:.2f} of a core busy"


@pytest.mark.every_engine
def test_two_fleets_with_one_identifier(fleet):
    """Both fight and both wait; the waits must grow."""
    for prefix in ("one:", "two:"):
        fleet.start_node(key_prefix=prefix, conflict_min_ms=1000, stable_ms=800,
                         reconnect_min_ms=100, reconnect_max_ms=200)
    log, times = BrokerLog(fleet.broker.log_path), []
    for node in fleet.nodes:
        node.api.create(fleet.document("contested"))

    def truces():
        """The seconds between successive fights."""
        times.extend([time.monotonic()] * (len(log.poll().connects) - len(times)))
        return [later - earlier for earlier, later in zip(times, times[1:]) if later - earlier > 1]
    wait_until(lambda: len(truces()) >= 3, 40, "three truces are over")
    seen = truces()[:3]
    # 1, 2 and 4 s, plus the time to assign and connect.
    assert seen[2] > 1.8 * seen[0], seen
