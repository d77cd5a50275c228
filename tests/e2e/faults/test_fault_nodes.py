"""Nodes that die, hang, restart, or are cut off from Redis."""

import pytest

from fleet import faults
from fleet.checker import Expect
from fleet.wait import wait_until

CLIENTS = 200


def test_kill_9_of_a_node_with_clients(stage):
    """With more clients than one call of a script processes."""
    stage.start(nodes=3, clients=750)
    stage.survive(faults.kill_node)


def test_the_leader_killed(stage):
    stage.start(nodes=3, clients=CLIENTS)
    stage.survive(faults.kill_leader)


def test_the_same_node_restarted_before_its_beat_expired(stage):
    stage.start(nodes=2, clients=CLIENTS)
    stage.survive(faults.restart_at_once)
    assert any("name_in_use" in node.log() for node in stage.nodes)  # it waited for the old beat


def test_the_same_node_restarted_after_its_beat_expired(stage):
    stage.start(nodes=2, clients=CLIENTS)
    stage.survive(faults.restart_after_expiry)


def test_sigstop_for_10_s_then_sigcont(stage):
    stage.start(nodes=3, clients=CLIENTS)
    stage.survive(faults.sleep_node)


def test_a_fenced_node_drops_everything_although_nobody_took_over(stage):
    """The other node has no room: the connections of the suspended node are still open when it continues."""
    stage.start(nodes=2, clients=CLIENTS, changes_per_s=0, node_info__size=CLIENTS // 2)
    sleeper = stage.nodes[1]
    moving, before = stage.clients_of(sleeper), stage.incarnation(sleeper)
    stage.checker.begin()
    sleeper.sleep()
    wait_until(lambda: stage.shared().waiting == moving, 20, "its clients wait")
    assert not stage.checker.connects()
    sleeper.wake()
    faults.wait_joined_anew(stage, sleeper, before)
    wait_until(lambda: stage.checker.connects().keys() == moving, 20, "all connect under the new "
               "incarnation")
    stage.checker.verify(Expect(moving=moving))


@pytest.mark.parametrize("how, sink", [
    ("silent", "file"), ("stalled", "redis_stream"), ("cut", "redis_stream")])
def test_a_node_cut_from_redis_while_mqtt_works(stage, how, sink):
    """With the file sink it keeps receiving; with the stream it can acknowledge nothing."""
    stage.start(nodes=2, clients=CLIENTS, wires=True, sink=sink)
    stage.survive(faults.CUTS[how])


def test_two_processes_under_one_node_name(stage):
    stage.start(nodes=2, clients=CLIENTS)
    stage.checker.begin()
    before = stage.incarnations()
    twin = stage.add_node("twin", node_info__name=stage.nodes[0].name)
    assert twin.start_and_end() == 3
    assert "name" in twin.log() and stage.nodes[0].name in twin.log()
    assert stage.incarnations() == before
    stage.checker.verify(Expect())
