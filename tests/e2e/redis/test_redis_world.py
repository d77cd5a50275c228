"""A fleet on the Redis that operators have: sentinels, a cluster, a user of its own."""

import pathlib
import re

import pytest

from fleet.invariants import Shared, check_s1
from fleet.node import ROOT
from fleet.operator import total, wait_total
from fleet.publisher import Publisher
from fleet.redis_group import Cluster, RedisProgram, Sentinels
from fleet.redis_server import redis_client
from fleet.stream import Stream
from fleet.wait import wait_until


def start_nodes(fleet, count, url, **settings):
    settings["redis_config.url"] = url
    return fleet.start_nodes(count, **settings)


def wait_s1(program, ids, prefix=""):
    return wait_until(lambda: check_s1(program.client, ids, prefix), 30, "S1")


def bytes_client(program):
    return redis_client(program.port)


# ---- sentinels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ordered", "killed"])
def test_a_fleet_follows_the_sentinels_to_another_master_and_no_client_notices(fleet, how):
    group = Sentinels(fleet)
    nodes = start_nodes(fleet, 2, group.url)
    ids = fleet.online(40, make=fleet.persistent)
    publisher = fleet.closing(
        Publisher(fleet.broker, [f"t/{client}/x" for client in ids], rate_per_s=100))
    wait_until(lambda: publisher.sent >= 100, 20)
    mark = fleet.broker.mark()

    if how == "ordered":
        group.fail_over()
    else:
        group.master.kill()
        group.wait_master(group.replica)
    found = f"event=redis_found host=127.0.0.1 port={group.replica.port}"
    for node in nodes:
        wait_until(lambda: found in node.log(), 5, f"{node.name} found the new master")
    from_here, going_on = publisher.sent, publisher.sent + 200

    wait_until(lambda: publisher.sent >= going_on, 20)
    wait_s1(group.replica, ids)
    assert set(Shared(group.replica.client).register) == {node.name for node in nodes}
    assert not fleet.broker.connects(mark), "clients stayed connected"
    # What the old master had not copied is lost; what came after a node knew the new one is not.
    wanted = {one for one in publisher.stop() if int(one.split(b":")[1]) >= from_here}
    Stream(bytes_client(group.replica)).wait_payloads(wanted)


def test_no_message_is_lost_in_a_failover_when_the_master_wants_a_replica(fleet):
    group = Sentinels(fleet)
    for server in (group.master, group.replica):
        server.client.config_set("min-replicas-to-write", 1)
    start_nodes(fleet, 2, group.url, min_replicas=1, sink__redis_min_replicas=1)
    ids = fleet.online(20, make=fleet.persistent)
    publisher = fleet.closing(
        Publisher(fleet.broker, [f"t/{client}/x" for client in ids], rate_per_s=100))
    wait_until(lambda: publisher.sent >= 200, 20)
    group.fail_over()
    wait_until(lambda: group.replica.client.info("replication")["connected_slaves"] == 1, 60,
               "the old master follows the new one")
    going_on = publisher.sent + 200
    wait_until(lambda: publisher.sent >= going_on, 20)
    Stream(bytes_client(group.replica)).wait_payloads(publisher.stop(), 60)
    wait_s1(group.replica, ids)


def test_a_message_that_no_replica_has_is_not_acknowledged_and_not_written_twice(fleet):
    group = Sentinels(fleet)
    settings = {"sink__redis_min_replicas": 1, "min_replicas_timeout_ms": 300}
    node, = start_nodes(fleet, 1, group.url, **settings)
    client, = fleet.online(1, make=fleet.persistent)
    group.replica.pause()
    payloads = [b"%d" % number for number in range(20)]
    fleet.broker.publish_all([(f"t/{client}/x", payload) for payload in payloads])
    stream = Stream(bytes_client(group.master))
    stream.wait_payloads(payloads)
    wait_until(lambda: "of 1 replicas have it" in node.log(), 20, "the sink says what it waits for")
    assert total(node, "mqfleet_sink_accepted_total") == 0
    group.replica.resume()
    wait_total(node, "mqfleet_sink_accepted_total", len(payloads), 40)
    assert sorted(stream.payloads()) == sorted(payloads), "written once"


def test_clients_created_before_and_after_a_failover_are_all_online(fleet):
    group = Sentinels(fleet)
    start_nodes(fleet, 2, group.url, min_replicas=1)
    before = fleet.online(20, prefix="before")
    group.master.kill()
    group.wait_master(group.replica)
    group.master.start()  # the sentinels make it a replica, which min_replicas needs
    document = fleet.document("after")
    wait_until(lambda: fleet.api.post("/api/v1/clients", document).status_code in (200, 201), 40,
               "a client can be created again")
    fleet.wait_online([*before, "after"])
    wait_s1(group.replica, [*before, "after"])


def test_without_its_replica_a_create_is_503_and_the_same_again_is_safe(fleet):
    group = Sentinels(fleet)
    start_nodes(fleet, 1, group.url, min_replicas=1, min_replicas_timeout_ms=300)
    group.replica.pause()
    document = fleet.document("a")
    answer = fleet.api.post("/api/v1/clients", document)
    assert answer.status_code == 503 and "unknown" in answer.json()["detail"]
    assert fleet.api.post("/api/v1/clients", document).status_code == 503
    group.replica.resume()
    wait_until(lambda: fleet.api.post("/api/v1/clients", document).status_code == 200, 20)
    fleet.wait_online(["a"])


# ---- cluster -----------------------------------------------------------------------------------


def test_a_fleet_runs_on_a_cluster(fleet):
    cluster = Cluster(fleet)
    owner = cluster.owner("{fleet}:x")
    leaving, staying = start_nodes(fleet, 2, cluster.url, key_prefix="{fleet}:")
    ids = fleet.online(60, make=fleet.persistent)
    publisher = fleet.closing(
        Publisher(fleet.broker, [f"t/{client}/x" for client in ids], rate_per_s=100))
    wait_s1(owner, ids, "{fleet}:")
    leaving.kill()
    wait_until(lambda: len(Shared(owner.client, "{fleet}:").bound.get(staying.name, [])) == 60, 30)
    fleet.wait_online(ids, api=staying.api)
    Stream(bytes_client(owner), "{fleet}:mqtt_msg").wait_payloads(publisher.stop())
    wait_s1(owner, ids, "{fleet}:")
    others = [node for node in cluster.nodes if node is not owner]
    assert all(node.client.dbsize() == 0 for node in others)


def test_on_a_cluster_a_prefix_without_hash_tag_is_named_in_the_log(fleet):
    cluster = Cluster(fleet)
    node = fleet.new_node(**{"redis_config.url": cluster.url}).start(wait=False)
    wait_until(lambda: "event=key_prefix_unfit" in node.log(), 20, "the log says why")
    wait_until(node.alive, 20)
    assert not node.ready()


# ---- user and password -------------------------------------------------------------------------


def documented_rules():
    text = (ROOT / "docs/redis.md").read_text()
    block = re.search(r"^ACL SETUSER mqfleet (.*?)^```", text, re.DOTALL | re.MULTILINE).group(1)
    return block.replace("\\\n", " ").split()


def test_the_documented_user_is_enough_for_a_fleet(fleet, tmp_path):
    server = RedisProgram(tmp_path, "acl", ["--requirepass", "admin"])
    server.client = redis_client(server.port, password="admin", decode_responses=True)
    fleet.others.append(server.start())
    server.client.execute_command("ACL", "SETUSER", "mqfleet", *documented_rules())
    url = f"redis://mqfleet:secret@127.0.0.1:{server.port}/0"
    leaving, staying = start_nodes(fleet, 2, url, key_prefix="fleet:", min_replicas=0)
    ids = fleet.online(30)
    assert staying.api.publish(ids[0], f"t/{ids[1]}/x", "hello").status_code == 200
    wait_until(lambda: server.client.xlen("fleet:mqtt_msg") == 1, 20, "it is in the stream")
    server.client.xgroup_create("fleet:mqtt_msg", "readers", id="0")
    wait_until(lambda: 'mqfleet_sink_stream_lag_entries{sink="redis_stream",group="readers"} 1' in
               staying.api.get("/metrics").text, 20, "its consumer group is measured")
    assert leaving.terminate() == 0
    fleet.wait_online(ids, api=staying.api)
    assert fleet.api.delete(fleet.api.path(ids[0])).status_code in (200, 204)
    wait_s1(server, ids[1:], "fleet:")
    refused = [one for one in server.client.acl_log() if one["username"] == "mqfleet"]
    assert not refused, refused
    for node in fleet.nodes:
        assert "secret" not in node.log()


def test_a_wrong_password_is_named_in_the_log_and_not_shown(fleet):
    fleet.redis.client.execute_command("ACL", "SETUSER", "mqfleet", "on", ">right", "~*", "+@all",
                                       "&*")
    url = f"redis://mqfleet:wrongsecret@127.0.0.1:{fleet.redis.port}/0"
    node = fleet.new_node(**{"redis_config.url": url}).start(wait=False)
    wait_until(node.alive, 20)
    wait_until(lambda: fleet.redis.client.acl_log(), 20, "it has tried")
    assert not node.ready()
    assert "wrongsecret" not in node.log()


# ---- bad urls ----------------------------------------------------------------------------------


@pytest.mark.parametrize("url,says", [
    ("redis+sentinel://127.0.0.1:1", "redis_config.url"),
    ("redis+sentinel://u:hunter2@127.0.0.1:1/fleet/x", "redis_config.url"),
    ("redis://127.0.0.1:1,", "redis_config.url"),
    ("redis://127.0.0.1:1,127.0.0.1:99999", "redis_config.url"),
    ("rediss://u:hunter2@127.0.0.1:99999", "redis_config.url"),
])
def test_a_url_that_cannot_be_used_is_one_line_and_exit_2(fleet, url, says):
    node = fleet.new_node(**{"redis_config.url": url})
    node.start(wait=False)
    node.expected_exit = True
    code = node.wait_exit()
    log = pathlib.Path(node.log_path).read_text()
    assert code == 2 and says in log and log.count("\n") == 1 and "hunter2" not in log
