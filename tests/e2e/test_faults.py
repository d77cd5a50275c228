"""Redis and the network between it and the nodes at fault; changes in the middle of a takeover."""

from fleet.proxy import Proxy
from fleet.wait import holds_for, wait_until


def incarnation(fleet, name):
    return fleet.shared().register.get(name, {}).get("incarnation")


def test_a_node_cut_off_from_redis_loses_its_clients_once_and_joins_anew(fleet):
    wire = fleet.closing(Proxy(fleet.redis.port))
    staying = fleet.start_node("staying")
    cut = fleet.start_node("cut", redis_config__url=f"redis://127.0.0.1:{wire.port}/0",
                           redis_config__timeout_ms=500)
    ids = fleet.online(20)
    moved = set(fleet.shared().bound["cut"])
    before = incarnation(fleet, "cut")
    mark = fleet.broker.mark()

    wire.silent = True
    once = {client: 1 for client in moved}
    wait_until(lambda: fleet.broker.connects(mark) == once, 30, "its clients run elsewhere")
    holds_for(lambda: fleet.broker.connects(mark) == once, 3, "it opens nothing")
    assert cut.alive() and not cut.ready()
    fleet.wait_online(ids, api=staying.api)

    wire.silent = False
    wait_until(lambda: incarnation(fleet, "cut") not in (None, before), 30, "it joined anew")
    wait_until(cut.ready, 20)
    holds_for(lambda: fleet.broker.connects(mark) == once, 2, "nobody moves back by force")
    fleet.wait_s1(ids)


def test_a_redis_that_stalls_costs_nobody_a_client(fleet):
    fleet.start_nodes(3)
    ids = fleet.online(30)
    before, mark = fleet.shared().bound, fleet.broker.mark()
    fleet.redis.client.execute_command("DEBUG", "SLEEP", "3")
    holds_for(lambda: fleet.shared().bound == before, 4, "nobody is moved")
    assert not fleet.broker.connects(mark)
    fleet.check_s1(ids)
    wait_until(lambda: all(node.ready() for node in fleet.nodes), 10, "all are ready")


def test_a_killed_redis_comes_back_with_every_acknowledged_client(fleet):
    redis = fleet.start_redis(append_only=True)
    fleet.start_nodes(2)
    ids = fleet.online(20, prefix="early")
    mark = fleet.broker.mark()
    ids += fleet.create(20, prefix="late")
    redis.kill()
    redis.start()
    fleet.wait_online(ids, 40)
    fleet.wait_s1(ids)
    assert not set(fleet.broker.connects(mark)) & set(ids[:20])


def test_the_leader_dying_amid_its_work_leaves_nobody_behind(fleet):
    nodes = {node.name: node for node in fleet.start_nodes(3)}
    leader = wait_until(lambda: next(
        (name for name, node in fleet.api.nodes().items() if node["leader"]), None), 10, "a leader")
    staying = next(node for name, node in nodes.items() if name != leader)
    ids = fleet.create(300, api=staying.api)
    nodes[leader].kill()
    fleet.wait_online(ids, 60, api=staying.api)
    wait_until(lambda: fleet.shared().register.keys() == nodes.keys() - {leader}, 20, "reaped")
    fleet.check_s1(ids)
    assert not fleet.broker.takeovers()


def test_updates_and_deletes_while_a_node_is_being_reaped_hold(fleet):
    staying, dying = fleet.start_nodes(2)
    ids = fleet.online(40)
    dying.kill()
    kept, gone = ids[::2], ids[1::2]
    for client in kept:
        changed = fleet.document(client, subscriptions=[{"filter": f"new/{client}", "qos": 1}])
        assert staying.api.put(staying.api.path(client), changed).status_code == 200
    for client in gone:
        assert staying.api.delete(staying.api.path(client)).status_code == 204
    fleet.wait_online(kept, 30)
    wait_until(lambda: fleet.broker.connected() == set(kept), 20, "the deleted are gone")
    fleet.broker.publish_all([(f"new/{client}", client) for client in kept])
    fleet.stream.wait_payloads(client.encode() for client in kept)
    fleet.wait_s1(kept)
    holds_for(lambda: fleet.broker.connected() == set(kept), 2, "no deleted client comes back")
