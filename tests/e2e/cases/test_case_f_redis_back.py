"""Redis goes back: it restarts with an older snapshot while nodes run and callers change clients. Running
clients are restored, whichever node owns them, and never by an older version; only waiting clients are
lost."""

import shutil

import pytest

from fleet.redis_server import RedisServer
from fleet.wait import holds_for, wait_until
from fleet.wire import Wire

PUT_WAITS = "?wait_ms=30000"
# Restoring lasts for 6 s, in which Redis goes back again; comparing checksums finds nothing.
SLOW = {"heartbeat_ms": 2000, "heartbeat_ttl_ms": 3000, "reconcile_ms": 600000}


class History:
    """A Redis that can be reset to an earlier state."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.redis = fleet.redis
        self.kept = fleet.folder / "kept.rdb"

    def keep(self):
        self.redis.client.save()
        shutil.copy(self.redis.folder / "dump.rdb", self.kept)

    def go_back(self):
        self.redis.kill()
        shutil.copy(self.kept, self.redis.folder / "dump.rdb")
        self.redis.start()


@pytest.fixture
def history(fleet):
    return History(fleet)


def subscribed(fleet, client, filter_):
    """The broker has the subscription, and a message on it reaches the sink."""
    def arrives():
        fleet.broker.publish(filter_, f"to-{client}")
        return f"to-{client}".encode() in fleet.stream.payloads()
    wait_until(arrives, 30, f"{client} gets {filter_}", poll_s=0.3)


def with_filter(fleet, client, filter_):
    return fleet.document(client, subscriptions=[{"filter": filter_, "qos": 1}])


def filters(fleet, client):
    return [row["filter"] for row in fleet.api.client(client)["config"]["subscriptions"]]


def put(fleet, client, filter_, query=""):
    return fleet.api.put(fleet.api.path(client) + query, with_filter(fleet, client, filter_))


def anew(fleet, mark):
    """{client: number of connections since}, without the clients that publish for the test."""
    return {client: times for client, times in fleet.broker.connects(mark).items()
            if not client.startswith("auto-")}


def told(fleet, event):
    return [line for node in fleet.nodes for line in node.log().splitlines() if f"event={event}" in line]


def test_case_F1_an_update_that_redis_forgot_is_put_back(fleet, history):
    fleet.start_nodes(2)
    fleet.online(6)
    history.keep()
    mark = fleet.broker.mark()
    answer = put(fleet, "c00000", "new/topic", PUT_WAITS)
    assert answer.status_code == 200 and answer.json()["status"]["state"] == "online", answer.text
    version = answer.json()["version"]
    history.go_back()
    wait_until(lambda: told(fleet, "redis_went_back"), 20, "it is noticed and told")
    wait_until(lambda: filters(fleet, "c00000") == ["new/topic"], 20, "the newer text is back")
    assert fleet.api.client("c00000")["version"] == version
    assert fleet.wait_s1([f"c{i:05d}" for i in range(6)])
    subscribed(fleet, "c00000", "new/topic")
    assert not anew(fleet, mark), "nobody had to connect anew"


def test_case_F1_what_is_put_after_the_loss_runs_and_not_what_was_lost(fleet, history):
    fleet.start_nodes(2)
    fleet.online(6)
    history.keep()
    mark = fleet.broker.mark()
    assert put(fleet, "c00000", "lost/topic", PUT_WAITS).status_code == 200
    history.go_back()

    def put_again():
        answer = put(fleet, "c00000", "right/topic", PUT_WAITS)
        return answer if answer.status_code == 200 else None
    answer = wait_until(put_again, 40, "Redis answers again")
    status = answer.json()["status"]
    assert (status["state"], status["version"]) == ("online", answer.json()["version"]), answer.text
    assert filters(fleet, "c00000") == ["right/topic"]
    subscribed(fleet, "c00000", "right/topic")
    holds_for(lambda: filters(fleet, "c00000") == ["right/topic"], 5, "nothing takes it back")


def test_case_F2_a_snapshot_from_before_a_node_was_restarted(fleet, history):
    first, second = fleet.start_nodes(2)
    old = fleet.online(10)
    history.keep()
    assert second.terminate() == 0
    second.start()
    wait_until(lambda: second.api.nodes()[second.name]["state"] == "live", 20, "it is back")
    new = fleet.create(20, prefix="new")
    fleet.wait_online(old + new)
    mark = fleet.broker.mark()
    history.go_back()
    wait_until(lambda: told(fleet, "redis_went_back"), 20, "it is noticed and told")
    fleet.wait_online(old + new, 40)
    fleet.wait_s1(old + new)
    assert not told(fleet, "node_fenced")
    wait_until(lambda: len(fleet.broker.connected()) == 30, 20, "all are connected")
    # Those of the snapshot may have had another owner in it, and move once at most.
    assert max(anew(fleet, mark).values(), default=0) <= 1


def test_case_F2_created_deleted_and_created_again_in_the_lost_time(fleet, history):
    fleet.start_nodes(2)
    fleet.online(4)
    history.keep()
    api = fleet.api
    assert api.delete(api.path("c00001")).status_code == 204
    api.create(with_filter(fleet, "c00001", "second/life"), wait_ms=30000)
    assert api.delete(api.path("c00002")).status_code == 204
    wait_until(lambda: "c00002" not in fleet.broker.connected(), 20, "it is gone")
    api.create(fleet.document("fresh"), wait_ms=30000)
    history.go_back()
    wait_until(lambda: told(fleet, "redis_went_back"), 20, "it is noticed and told")
    wait_until(lambda: filters(fleet, "c00001") == ["second/life"], 30, "the later life wins")
    fleet.wait_online(["c00000", "c00001", "c00002", "c00003", "fresh"], 40)
    fleet.wait_s1(["c00000", "c00001", "c00002", "c00003", "fresh"])
    wait_until(lambda: any("c00002" in line for line in told(fleet, "delete_undone")), 10, "it is told")


def test_nothing_is_placed_while_nodes_put_back_what_they_run(fleet, history):
    """A client created in the lost time is not opened twice: the node that runs it restores it before another
    node gets it."""
    first, second = fleet.start_nodes(2)
    fleet.online(10)
    history.keep()
    fleet.api.post(f"/api/v1/nodes/{second.name}/drain")
    wait_until(lambda: fleet.shared().counts()[second.name] == 0, 30, "all moved to the first")
    fleet.wait_online([f"c{i:05d}" for i in range(10)])
    mark = fleet.broker.mark()
    history.go_back()  # there, half belong to the second
    wait_until(lambda: told(fleet, "redis_went_back"), 20, "it is noticed and told")
    wait_until(lambda: fleet.shared().counts() == {first.name: 10, second.name: 0}, 20, "put back")
    fleet.wait_s1([f"c{i:05d}" for i in range(10)])
    holds_for(lambda: not anew(fleet, mark), 5, "no second owner has opened a connection")


def is_restoring(fleet):
    return fleet.redis.client.pttl("mqtt_fleet:restoring") > 0


def test_redis_goes_back_again_to_the_same_while_nodes_restore(fleet, history):
    fleet.start_nodes(2, **SLOW)
    old = fleet.online(10)
    history.keep()
    new = fleet.create(10, prefix="new")
    fleet.wait_online(old + new)
    assert put(fleet, old[0], "new/topic", PUT_WAITS).status_code == 200
    mark = fleet.broker.mark()
    for _ in range(2):
        history.go_back()
        wait_until(lambda: is_restoring(fleet), 20, "it is noticed", poll_s=0.02)
    wait_until(lambda: fleet.shared().owned == set(old + new), 20, "all are put back")
    wait_until(lambda: filters(fleet, old[0]) == ["new/topic"], 20, "and the newer text")
    wait_until(lambda: not is_restoring(fleet), 30, "no longer held back")
    fleet.wait_online(old + new)
    fleet.wait_s1(old + new)
    holds_for(lambda: not anew(fleet, mark), 3, "each ran on, and nobody opened a second one")


def test_redis_goes_back_to_a_moment_while_nodes_restored(fleet, history):
    """Everything restored, changed and deleted since the first loss is lost again."""
    first, second = fleet.start_nodes(2, **SLOW)
    old = fleet.online(10)
    history.keep()
    new = fleet.create(10, prefix="new")
    fleet.wait_online(old + new)
    mark = fleet.broker.mark()
    history.go_back()
    wait_until(lambda: is_restoring(fleet), 20, "it is noticed", poll_s=0.02)
    history.keep()
    wait_until(lambda: fleet.shared().owned == set(old + new), 20, "all are put back")
    theirs = [client for client in fleet.shared().bound[second.name] if client in old]
    assert put(fleet, theirs[0], "since/topic", PUT_WAITS).status_code == 200
    assert first.api.delete(first.api.path(theirs[1])).status_code == 204
    wait_until(lambda: theirs[1] not in fleet.broker.connected(), 20, "deleted")
    history.go_back()
    assert is_restoring(fleet), "of the first loss"
    wait_until(lambda: filters(fleet, theirs[0]) == ["since/topic"], 20, "the newer text is put back")
    wait_until(lambda: fleet.shared().owned == set(old + new), 20, "and all the others")
    wait_until(lambda: not is_restoring(fleet), 30, "no longer held back")
    fleet.wait_online(old + new)
    fleet.wait_s1(old + new)
    again = anew(fleet, mark)
    assert again.pop(theirs[1]) == 1, "a lost delete is undone"
    assert not again, "each of the others ran on, and nobody opened a second one"


def test_a_node_that_stops_before_it_hears_of_the_loss_puts_back_first(fleet, history):
    first, second = fleet.start_nodes(2, **SLOW)
    old = fleet.online(10)
    history.keep()
    new = fleet.create(10, prefix="new")
    fleet.wait_online(old + new)
    client = fleet.shared().bound[first.name][0]
    assert put(fleet, client, "new/topic", PUT_WAITS).status_code == 200
    history.go_back()
    assert first.terminate() == 0
    fleet.wait_online(old + new, 40)
    fleet.wait_s1(old + new)
    assert filters(fleet, client) == ["new/topic"]


def test_a_node_that_was_fenced_before_it_hears_of_the_loss_puts_back_what_only_it_knows(fleet, history):
    first, second = fleet.start_nodes(2, mass_death_wait_ms=1500)
    old = fleet.online(10)
    history.keep()
    new = fleet.create(10, prefix="new")
    fleet.wait_online(old + new)
    changed, buried = [client for client in fleet.shared().bound[first.name] if client in old][:2]
    assert put(fleet, changed, "new/topic", PUT_WAITS).status_code == 200
    first.pause()
    history.go_back()
    wait_until(lambda: told(fleet, "node_fenced"), 40, "it is declared dead")
    assert second.api.delete(second.api.path(buried)).status_code == 204
    first.resume()
    left = [client for client in old + new if client != buried]
    wait_until(lambda: fleet.shared().owned == set(left), 40, "all others are there")
    wait_until(lambda: filters(fleet, changed) == ["new/topic"], 20, "and the newer text")
    fleet.wait_online(left, 40)
    fleet.wait_s1(left)
    subscribed(fleet, changed, "new/topic")


def test_redis_moves_while_connections_to_the_old_server_stay_open(fleet, history):
    """A virtual address moves: half of the connections still lead to the old server, which is still running."""
    wires = [fleet.closing(Wire(fleet.redis.port)) for _ in range(2)]
    nodes = [fleet.start_node(redis_config__url=wire.url) for wire in wires]
    old = fleet.online(10)
    history.keep()
    new = fleet.create(10, prefix="new")
    fleet.wait_online(old + new)
    old_redis, folder = fleet.redis, fleet.folder / "moved"
    folder.mkdir()
    shutil.copy(history.kept, folder / "dump.rdb")
    fleet._redis = RedisServer(folder)
    fleet.others.append(fleet._redis.start())
    for wire in wires:
        wire.target_port = fleet.redis.port
    for one in old_redis.client.client_list()[::2]:
        old_redis.client.client_kill_filter(_id=one["id"])
    wait_until(lambda: fleet.shared().owned == set(old + new), 40, "all are put back")
    later = fleet.create(5, prefix="later", api=nodes[0].api)
    fleet.wait_online(old + new + later, 40)
    fleet.wait_s1(old + new + later)
    count = len(told(fleet, "redis_went_back"))
    holds_for(lambda: len(told(fleet, "redis_went_back")) == count, 3, "no loss is noticed again and again")


def test_a_node_whose_agent_hangs_stops_beating(fleet):
    first, second = fleet.start_nodes(2, stall_ms=2000, reclaim_grace_ms=1500)
    fleet.online(10)
    # Only the agent thread is stopped, by a tracer; workers and heartbeat continue.
    with first.frozen_thread("agent"):
        wait_until(lambda: fleet.shared().counts().get(first.name, 0) == 0, 60, "its clients are taken")
    assert told(fleet, "agent_stalled")
