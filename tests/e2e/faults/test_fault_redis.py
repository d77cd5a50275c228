"""A Redis that restarts, is unavailable, loses its data, stalls, or has a jumping clock."""

import time

import pytest

from fleet import faults
from fleet.checker import Expect
from fleet.wait import wait_until

CLIENTS = 200


@pytest.mark.parametrize("fault", [faults.restart_redis, faults.kill_redis])
def test_redis_restarted_with_its_append_only_file(stage, fault):
    stage.start(nodes=2, clients=CLIENTS)
    stage.survive(fault)


@pytest.mark.parametrize("fault", [faults.stop_redis, faults.freeze_redis])
def test_redis_stopped_for_10_s(stage, fault):
    stage.start(nodes=2, clients=CLIENTS)
    stage.survive(fault)


def test_a_node_that_dies_while_redis_is_away_is_reaped_after_the_brake(stage):
    stage.start(nodes=3, clients=CLIENTS, mass_death_wait_ms=4000)
    stage.checker.begin()
    dead = stage.nodes[2]
    moving = stage.clients_of(dead)
    stage.redis.terminate()
    dead.kill()
    wait_until(lambda: "heartbeat_failed" in stage.nodes[0].log(), 10, "Redis is missed")
    stage.redis.start()
    back = time.monotonic()
    faults.wait_moved(stage, moving, dead)
    assert time.monotonic() - back > 3, "it was reaped in the first moments"
    stage.checker.verify(Expect(moving=moving, duplicates=True, silent_nodes={dead.name}))


@pytest.mark.parametrize("fault", [faults.flush_redis, faults.empty_redis])
def test_redis_empty_again(stage, fault):
    """And what was restored survives the next fault."""
    stage.start(nodes=3, clients=CLIENTS, sink="file")
    stage.survive(fault)
    stage.survive(faults.kill_node)


def test_redis_stalls_for_3_s(stage):
    stage.start(nodes=3, clients=CLIENTS)
    stage.survive(faults.stall_redis)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_redis_clock_jumps_and_back(stage, seconds):
    """No node is declared dead, except one that dies between the jumps."""
    stage.start(nodes=3, clients=CLIENTS)
    stage.survive(faults.jump_clock(seconds))
    if seconds < 0:
        stage.survive(faults.kill_node)
    stage.survive(faults.jump_clock(0))


def test_a_node_that_dies_as_redis_clock_jumps_back_is_found_out(stage):
    """The jump prolongs its last heartbeat."""
    stage.start(nodes=3, clients=CLIENTS)
    stage.checker.begin()
    dead = stage.nodes[0]
    moving = stage.clients_of(dead)
    dead.kill()
    stage.redis.shift_clock(-5)
    faults.wait_moved(stage, moving, dead, 30)
    stage.checker.verify(Expect(moving=moving, silent_nodes={dead.name}))


def test_connections_to_redis_are_reset_again_and_again(stage):
    stage.start(nodes=2, clients=CLIENTS)
    stage.survive(faults.reset_redis_connections)
