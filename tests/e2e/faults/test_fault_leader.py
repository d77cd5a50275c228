"""Two leaders, leaders that die during their work, and lost replies."""

import collections

from fleet import faults
from fleet.checker import Expect
from fleet.wait import wait_until
from fleet.wire import Unlucky, script_names


def test_two_leaders_for_a_moment(stage):
    stage.start(nodes=3, clients=200)
    stage.survive(faults.two_leaders)


def test_two_leaders_while_many_are_placed(stage):
    stage.start(nodes=3, clients=50)
    stage.checker.begin()
    with faults.CrownFlipper(stage, 0.03) as flipper:
        part = 0
        while flipper.flips < 20 and part < 60:
            stage.add_clients(5, f"more{part:03d}-")
            part += 1
            flipper.wait_next()
        wait_until(lambda: not stage.shared().waiting & stage.id_set, 30, "all are placed")
    assert flipper.flips >= 10
    stage.checker.verify(Expect(moving=None))
    sizes = stage.shared().counts().values()
    assert max(sizes) - min(sizes) <= 40, sizes


def test_the_leader_dies_inside_a_batch_of_assignments(stage):
    stage.start(nodes=3, clients=30)
    leader = stage.leader()
    moving = stage.clients_of(leader)
    stage.checker.begin()
    mark = stage.broker_log.mark()
    new = stage.add_clients(600, "batch",
                            api=next(node for node in stage.nodes if node is not leader).api)
    wait_until(lambda: len(stage.broker_log.poll().connects) > mark, 10, poll_s=0.002)
    leader.kill()
    stage.checker.verify(Expect(moving=moving | frozenset(new), connects_max=2))
    leader.start()
    stage.checker.verify(Expect())


def test_the_leader_dies_while_it_reaps(stage):
    stage.start(nodes=4, clients=400, mass_death_wait_ms=3000)
    leader = stage.leader()
    dead = next(node for node in stage.nodes if node is not leader)
    moving = stage.clients_of(leader) | stage.clients_of(dead)
    stage.checker.begin()
    dead.kill()
    wait_until(lambda: stage.shared().register.get(dead.name, {}).get("state") != "live", 20,
               "it is fenced", poll_s=0.002)
    leader.kill()
    stage.checker.verify(Expect(moving=moving, connects_max=2, bound_s=40,
                                silent_nodes={dead.name}))


REPEATABLE = {"create", "assign", "release", "update", "delete", "join", "heartbeat", "fence", "reap",
              "leave", "drain", "restore", "set_cooldown", "mark_stable", "orphans", "strays", "publish_settings", "lead",
              "ownership_status", "list_assignments", "changes", "digest", "mark_leaving", "find_missing", "nodes", "page",
              "counts", "get", "identity_owner", "count_quotas", "append_events", "save_histories"}
# Of the resources of the fleet, of dead letters, operations and levelling: tests/unit/store repeats them.
OF_RESOURCES = {"list_resources", "put_resource", "delete_resource", "routes", "put_routes", "list_quotas",
                "put_quotas", "restore_resources", "dead_letters", "audit_trail", "audit_page", "get_many", "rebalance",
                "create_operation", "cancel_operation", "list_operations", "waiting_facts", "operation_batch",
                "operation_delete", "operation_ids", "operation_step", "report_quota_use", "read_events",
                "forward_events"}


def post_until_done(node, path):
    """While replies are lost, a node may answer 503."""
    wait_until(lambda: node.api.post(path, timeout=20).ok, 60, path)


def test_the_reply_of_every_script_is_lost(stage):
    """Of each script nearly every second reply, while clients are created, changed, paused, released,
    deleted, a node is drained, stopped, killed, and Redis loses its data."""
    assert set(script_names().values()) == REPEATABLE | OF_RESOURCES
    stage.start(nodes=3, clients=60, wires=True, sink="file", messages_per_s=30)
    stage.checker.begin()
    for node in stage.nodes:
        node.wire.lose = Unlucky(stage.random, 0.8, REPEATABLE.__contains__)
    node, other, third = stage.nodes
    # assign, changes, create, update and delete result from the changes, which continue all the
    # time.
    stage.add_clients(60, "later-")
    bad = "no configuration"
    stage.redis.client.hset("mqtt_config:no", "bad", bad)  # defer
    stage.rubbish.add("bad")
    stage.redis.client.hset("mqtt_config:use", "stray", '{"broker":"127.0.0.1","port":%d,'
                            '"sub_topic":"t"}' % stage.broker.port)  # orphans
    stage.rubbish.add("stray")
    wait_until(lambda: stage.shared().owner.get("stray"), 30, "the stray is adopted")
    for client in stage.ids[:10]:  # release
        other.api.post(other.api.path(client, "release"), timeout=20)
    tried = {"id": "tried", "url": stage.broker.url}
    wait_until(lambda: other.wire.lost["identity_owner"]
               or other.api.post("/api/v1/clients:test", tried, timeout=40) and False, 60, "tried")
    post_until_done(other, f"/api/v1/nodes/{third.name}/drain")
    wait_until(lambda: not stage.shared().bound.get(third.name), 120, "drained")
    post_until_done(other, f"/api/v1/nodes/{third.name}/undrain")
    assert third.terminate() == 0  # leave
    third.start()
    stage.checker.verify(Expect(moving=None, connects_max=6, bound_s=60, returning=True,
                                duplicates=True))
    node.kill()  # fence, reap
    stage.checker.verify(Expect(moving=None, connects_max=2, bound_s=60))
    node.start()
    stage.checker.verify(Expect())
    stage.survive(faults.flush_redis)  # restore
    lost = sum((node.wire.lost for node in stage.nodes), start=collections.Counter())
    # The leader looks for orphans only periodically.
    assert set(lost) | {"orphans", "strays", "count_quotas"} == REPEATABLE, f"never lost: {REPEATABLE - set(lost)}"
