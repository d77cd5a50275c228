"""Nodes that die, hang, stop and return: nothing is lost or duplicated."""

import pytest

from fleet.publisher import Publisher
from fleet.wait import holds_for, wait_until


@pytest.mark.heavy
def test_kf11_killing_one_of_three_nodes_moves_its_900_clients_share_and_no_other(fleet):
    victim, *others = fleet.start_nodes(3)
    ids = fleet.create(900)
    fleet.wait_online(ids, 120)
    moved = set(fleet.shared().bound[victim.name])
    assert len(moved) == 300
    mark = fleet.broker.mark()

    victim.kill()
    wait_until(lambda: set(fleet.broker.connects(mark)) >= moved, 60, "the moved connected again")
    fleet.wait_online(ids, 60, api=others[0].api)

    shared = fleet.wait_s1(ids)
    assert shared.counts() == {node.name: 450 for node in others}
    assert fleet.broker.connects(mark) == {client: 1 for client in moved}
    assert not fleet.broker.takeovers()
    assert fleet.broker.connected() == set(ids)


@pytest.mark.parametrize("how", ["killed", "stopped", "drained"])
def test_no_message_is_lost_while_clients_change_nodes(fleet, how):
    leaving, staying = fleet.start_nodes(2)
    ids = fleet.online(40, make=fleet.persistent)
    topics = [f"t/{client}/x" for client in ids]
    publisher = fleet.closing(Publisher(fleet.broker, topics, rate_per_s=200))
    wait_until(lambda: publisher.sent >= 200, 20)

    if how == "killed":
        leaving.kill()
    elif how == "stopped":
        assert leaving.terminate() == 0
        assert leaving.name not in fleet.shared().register
    else:
        staying.api.post(f"/api/v1/nodes/{leaving.name}/drain")
    wait_until(lambda: len(fleet.shared().bound.get(staying.name, [])) == 40, 30, "all moved")
    fleet.wait_online(ids, 30, api=staying.api)

    going_on = publisher.sent + 200
    wait_until(lambda: publisher.sent >= going_on, 20)
    fleet.stream.wait_payloads(publisher.stop())
    fleet.wait_s1(ids)
    assert not fleet.broker.takeovers()


def test_a_graceful_stop_hands_over_at_once(fleet):
    leaving, staying = fleet.start_nodes(2)
    ids = fleet.online(30)
    mark = fleet.broker.mark()
    assert leaving.terminate() == 0
    fleet.wait_online(ids, 5, api=staying.api)
    assert max(fleet.broker.connects(mark).values()) == 1
    fleet.wait_s1(ids)


def test_kf10_one_missed_beat_is_not_death(fleet):
    watching, sleeper = fleet.start_nodes(
        2, heartbeat_ms=200, heartbeat_ttl_ms=400, reclaim_grace_ms=6000)
    ids = fleet.online(10)
    mark = fleet.broker.mark()
    before = fleet.shared().bound

    sleeper.pause()
    missing = wait_until(lambda: not fleet.redis.client.exists(f"beat:mqtt:{sleeper.name}"), 5)
    assert missing
    holds_for(lambda: fleet.shared().bound == before, 1.5, "nobody is moved")
    sleeper.resume()

    wait_until(lambda: fleet.redis.client.exists(f"beat:mqtt:{sleeper.name}"), 5, "it beats again")
    holds_for(lambda: fleet.shared().bound == before, 1.5, "nobody is moved")
    assert not fleet.broker.connects(mark)
    fleet.wait_online(ids, api=watching.api)


def test_kf06_a_node_that_slept_and_was_declared_dead_takes_nothing_back_by_force(fleet):
    sleeper, other = fleet.start_nodes(2)
    ids = fleet.online(40)
    moved = set(fleet.shared().bound[sleeper.name])
    incarnation = fleet.shared().register[sleeper.name]["incarnation"]
    mark = fleet.broker.mark()

    sleeper.pause()
    wait_until(lambda: fleet.broker.connects(mark) == {client: 1 for client in moved}, 30,
               "the sleeper's clients run elsewhere")
    sleeper.resume()
    wait_until(lambda: fleet.shared().register.get(sleeper.name, {}).get("incarnation")
               not in (None, incarnation), 20, "the sleeper joined anew")

    holds_for(lambda: fleet.broker.connects(mark) == {client: 1 for client in moved}, 3,
              "no fight over the clients")
    shared = fleet.wait_s1(ids)
    assert set(shared.bound[other.name]) == set(ids)
    fleet.wait_online(ids, api=other.api)
    # It is a full member again.
    fleet.online(10, prefix="later")
    assert len(fleet.shared().bound[sleeper.name]) == 10


def test_a_killed_node_started_at_once_under_its_name_hosts_again(fleet):
    node, _ = fleet.start_nodes(2)
    ids = fleet.online(20)
    node.kill()
    node.start()
    fleet.wait_online(ids, 30)
    fleet.wait_s1(ids)
    assert fleet.broker.connected() == set(ids)


def test_kf05_a_released_client_runs_on_its_new_node_only(fleet):
    nodes = {node.name: node for node in fleet.start_nodes(2)}
    ids = fleet.online(10)
    client = ids[4]
    first = fleet.api.client(client)["placement"]["node"]
    mark = fleet.broker.mark()
    assert fleet.api.post(fleet.api.path(client, "release")).status_code in (200, 202)

    def moved():
        document = fleet.api.client(client)
        return document["status"]["state"] == "online" and document["placement"]["node"] != first
    wait_until(moved, 15, "online on the other node")
    holds_for(lambda: fleet.broker.connects(mark) == {client: 1}, 2, "no second connection")
    assert not fleet.broker.takeovers()
    assert fleet.broker.subscriptions(mark) == {client: {f"t/{client}/#"}}
    # The end of the old node does not affect it.
    nodes[first].kill()
    holds_for(lambda: fleet.broker.connects(mark)[client] == 1, 2, "it stays")
    fleet.wait_online(ids)


def test_kf15_a_second_process_under_the_same_name_exits_and_says_why(fleet):
    first = fleet.start_node("twin")
    ids = fleet.online(5)
    second = fleet.new_node("twin-2", node_info__name="twin")
    assert second.start_and_end() != 0
    assert "twin" in second.log()
    mark = fleet.broker.mark()
    holds_for(lambda: first.ready() and not fleet.broker.connects(mark), 1.5, "the first goes on")
    fleet.wait_online(ids)
    fleet.check_s1(ids)


def test_redis_away_for_a_while_disconnects_nobody(fleet):
    fleet.start_redis(append_only=True)
    fleet.start_nodes(2, mass_death_wait_ms=3000)
    ids = fleet.online(20)
    mark = fleet.broker.mark()
    fleet.redis.terminate()
    holds_for(lambda: fleet.broker.connected() == set(ids), 4, "all stay connected")
    fleet.redis.start()
    wait_until(lambda: all(node.ready() for node in fleet.nodes), 20, "both beat again")
    holds_for(lambda: not fleet.broker.connects(mark), 3, "nobody reconnects")
    fleet.wait_s1(ids)
    fleet.wait_online(ids)


def test_running_clients_are_restored_when_redis_lost_everything(fleet):
    fleet.start_nodes(2)
    ids = fleet.online(20)
    mark = fleet.broker.mark()
    fleet.redis.client.flushall()
    wait_until(lambda: fleet.shared().owned == set(ids), 20, "all restored")
    fleet.wait_s1(ids)
    fleet.wait_online(ids)
    assert not fleet.broker.connects(mark)
