"""Brokers that restart, freeze, or see two clients with one identifier."""

import collections
import json

from fleet import faults
from fleet.checker import Expect
from fleet.wait import holds_for, wait_until
from fleet.wire import SILENT, Wire

RATE = 150  # connects to one broker per node and second


def test_a_broker_restarted_under_a_thousand_clients(stage):
    stage.start(nodes=2, clients=1000, connect_rate=RATE, reconnect_max_ms=5000)
    stage.survive(faults.restart_broker)
    per_second = collections.Counter(one.at_s for one in stage.broker_log.connects
                                     if one.client in stage.id_set)
    # A second of the log may hold the end of one second of the pace and the beginning of another.
    assert max(per_second.values()) <= 2 * RATE * 1.5, per_second.most_common(3)


def test_a_broker_that_accepts_and_never_answers(stage):
    """Frozen for longer than the keepalive: half-open connections are detected, new ones time out, attempts
    become rarer, and everything recovers when the broker continues."""
    stage.start(nodes=2, clients=100, fields={"keepalive_s": 3}, connect_timeout_ms=1000,
                messages_per_s=20)
    before = stage.incarnations()
    stage.changes.pause()
    stage.checker.begin()
    stage.broker.pause()
    ids = set(stage.ids)

    def none_online():
        states = {one["id"]: one["status"]["state"] for one in stage.nodes[0].api.clients()}
        assert "online" not in {states[client] for client in ids}
        return True
    wait_until(none_online, 3 * 1.5 + 4, "half-open connections are noticed")
    errors = {one["status"]["last_error"]["code"] for one in stage.nodes[0].api.clients()
              if one["id"] in ids and one["status"]["last_error"]}
    holds_for(lambda: True, 3)
    stage.broker.resume()
    stage.checker.verify(Expect(moving=None, connects_max=5, bound_s=60, duplicates=True))
    faults.assert_unfenced(stage, before)
    assert errors & {"connect_timeout", "keepalive_timeout"}, errors


def test_a_broker_that_never_answers_delays_nobody_elsewhere(stage):
    """Half of the clients have a broker that swallows everything; the attempts stay within the limits and
    become rarer, and the other half is not affected."""
    mute = stage.fleet.closing(Wire(1))
    stage.start(nodes=2, clients=100, connect_timeout_ms=1000, connect_in_flight=8,
                reconnect_min_ms=500, reconnect_max_ms=4000)
    mute.target_port = stage.broker.port
    mute.set(SILENT)
    stuck = stage.fleet.create(50, prefix="mute", make=lambda client: stage.fleet.document(
        client, url=f"mqtt://127.0.0.1:{mute.port}"))
    stage.rubbish |= set(stuck)
    stage.checker.begin()
    wait_until(lambda: mute.accepted >= 50, 30, "every one was tried")
    attempts = mute.accepted
    holds_for(lambda: True, 5)
    # Two nodes, eight in flight each, one second each.
    assert mute.accepted - attempts <= 2 * 8 * (5 + 1), mute.accepted - attempts
    stage.checker.verify(Expect())
    states = {one["status"]["state"] for one in stage.nodes[0].api.clients()
              if one["id"] in stuck}
    assert states <= {"connecting", "backoff"}, states
    mute.heal()
    stage.fleet.wait_online(stuck, 40)


def rests(stage, client, since):
    """Seconds for which no node tried the identifier, again and again."""
    times = [one.at_s for one in stage.broker_log.poll().connects[since:]
             if one.client == client and stage.node_at(one.address)]
    return [later - earlier for earlier, later in zip(times, times[1:]) if later - earlier >= 2]


def test_a_foreign_client_with_the_same_identifier(stage):
    """It takes the identifier back at once whenever it loses it. The fleet's attempts become rarer, no other
    client is disturbed, and everything recovers once it leaves."""
    stage.start(nodes=2, clients=100, conflict_min_ms=2500, stable_ms=3000, reconnect_min_ms=200,
                reconnect_max_ms=500)
    [client] = stage.add_clients(1, "contested")  # without messages: they may go to the other
    stage.fleet.api.wait_state(client, "online")
    stage.checker.begin()
    mark = stage.broker_log.mark()
    with faults.foreign_client(stage, client):
        stage.fleet.api.wait_state(client, "conflict", 40)
        wait_until(lambda: len(rests(stage, client, mark)) >= 3, 60, "three rests are over")
        # Each is twice the previous one, on whichever node; the log counts whole seconds.
        seen = rests(stage, client, mark)[:3]
        least = [2.5 * 2 ** n - 1 for n in range(3)]
        assert all(rest >= bound for rest, bound in zip(seen, least)), f"{seen}, not {least}"
    tries = len(stage.checker.connects()[client])
    assert tries <= 4 * 4, f"{tries} tries of the fleet"
    # The current cool-down may be the fifth: 20 s.
    stage.checker.verify(Expect(moving={client}, connects_max=tries + 1, bound_s=60,
                                returning=True))
    assert stage.fleet.api.state(client) == "online"


def test_a_takeover_by_a_foreign_client_that_leaves_again_costs_one_reconnect(stage):
    stage.start(nodes=2, clients=50, reconnect_min_ms=200)
    [client] = stage.add_clients(1, "contested")
    stage.fleet.api.wait_state(client, "online")
    stage.checker.begin()
    with faults.foreign_client(stage, client) as foreign:
        wait_until(lambda: stage.broker_log.poll().online.get(client) == "127.0.0.1", 10)
        foreign.disconnect()
    stage.checker.verify(Expect(moving={client}, connects_max=2))
    assert json.loads(stage.redis.client.hget("mqtt_fleet:owner", client))["node"]
