"""Several Redis streams in one sink: templates and shards, on one Redis, a cluster, sentinels and over TLS."""

import subprocess

from fleet.node import BINARY, environment
from fleet.redis_group import Cluster, RedisProgram, Sentinels
from fleet.redis_server import redis_client
from fleet.stream import Stream
from fleet.wait import PATIENCE, wait_until

SHARDS = 6


def publish(fleet, ids, count):
    """`count` numbered messages to each client, in turn."""
    messages = [(f"t/{client}/x", b"%s:%d" % (client.encode(), number))
                for number in range(count) for client in ids]
    for at in range(0, len(messages), 500):
        fleet.broker.publish_all(messages[at:at + 500])
    return [payload for _, payload in messages]


def shards_of(clients, key):
    """clients: of the servers, for each shard."""
    return [Stream(client, f"{key}:{shard}") for shard, client in enumerate(clients)]


def check_shards(streams, payloads, bound_s=40):
    """All are there, each client is in one shard, and its messages are in order."""
    def all_there():
        missing = set(payloads) - {one for stream in streams for one in stream.payloads()}
        assert not missing, f"{len(missing)} missing, such as {sorted(missing)[:5]}"
        return True
    wait_until(all_there, bound_s, "all messages are in the shards", poll_s=0.2)
    shard_of = {}
    for stream in streams:
        assert stream.rows(), f"{stream.key} has some clients"
        last = {}
        for payload in stream.payloads():
            client, number = payload.split(b":")
            assert shard_of.setdefault(client, stream.key) == stream.key
            assert int(number) > last.get(client, -1), f"{client} in {stream.key}"
            last[client] = int(number)


def test_shards_keep_the_order_of_each_client(fleet):
    node = fleet.start_node(sink__redis_shards=SHARDS)
    ids = fleet.online(40, make=fleet.persistent)
    payloads = publish(fleet, ids, 50)
    streams = shards_of([fleet.redis.bytes_client] * SHARDS, "mqtt_msg")
    check_shards(streams, payloads)
    assert sum(len(stream.payloads()) for stream in streams) == len(payloads)
    wait_until(lambda: f'mqfleet_sink_stream_streams{{sink="redis_stream"}} {SHARDS}' in
               node.api.get("/metrics").text, 20, "all shards are measured")


def test_a_template_leads_to_a_stream_for_each_site_and_others_are_dead_letters(fleet):
    fleet.start_node(sink__key="site-{json./site}")
    fleet.online(1, make=fleet.persistent)
    sites = ["north", "south", None]
    payloads = {site: [b'{"site": "%s", "n": %d}' % (site.encode(), n) if site else b"%d" % n
                       for n in range(20)] for site in sites}
    fleet.broker.publish_all([("t/c00000/x", payloads[site][n]) for n in range(20) for site in sites])
    redis = fleet.redis.bytes_client
    for site in sites:
        stream = Stream(redis, f"site-{site}" if site else "mqtt_dead")
        stream.wait_payloads(payloads[site])
        assert stream.payloads() == payloads[site]
    reasons = {row[b"dead_letter_reason"] for row in Stream(redis, "mqtt_dead").rows()}
    assert reasons == {b"key: the message has no json./site"}


def test_a_wrong_template_is_a_fault_at_the_start(tmp_path):
    path = tmp_path / "n.yml"
    path.write_text("sinks:\n  a:\n    type: redis_stream\n    key: x-{lable.site}\n")
    result = subprocess.run([BINARY, "--config", path], env=environment(), capture_output=True,
                            text=True, timeout=30 * PATIENCE)
    assert result.returncode != 0 and "lable.site" in result.stderr + result.stdout


def sink_of(url):
    return {"sinks__own__type": "redis_stream", "sinks__own__key": "k", "sinks__own__url": url}


def test_shards_are_spread_over_the_nodes_of_a_cluster(fleet):
    cluster = Cluster(fleet)
    fleet.start_node(**sink_of(cluster.url), sinks__own__shards=SHARDS)
    ids = fleet.online(40, make=fleet.persistent, sink="own")
    payloads = publish(fleet, ids, 50)
    owners = [cluster.owner(f"k:{shard}") for shard in range(SHARDS)]
    assert len({owner.port for owner in owners}) == 3
    check_shards(shards_of([redis_client(owner.port) for owner in owners], "k"), payloads)


def test_shards_behind_sentinels_follow_a_failover(fleet):
    group = Sentinels(fleet)
    node = fleet.start_node(**sink_of(group.url), sinks__own__shards=SHARDS)
    ids = fleet.online(40, make=fleet.persistent, sink="own")
    group.fail_over()
    found = f"event=redis_found host=127.0.0.1 port={group.replica.port}"
    wait_until(lambda: found in node.log(), 40, "the sink knows the new master")
    payloads = publish(fleet, ids, 10)
    check_shards(shards_of([redis_client(group.replica.port)] * SHARDS, "k"), payloads)


def test_a_cluster_over_tls_with_an_address_of_its_own(fleet, authority):
    cluster = Cluster(fleet, authority)
    fleet.start_node(**sink_of(cluster.url), sinks__own__shards=SHARDS,
                     redis_config__tls_ca_file=authority.ca)
    ids = fleet.online(40, make=fleet.persistent, sink="own")
    payloads = publish(fleet, ids, 10)
    owners = [cluster.owner(f"k:{shard}") for shard in range(SHARDS)]
    check_shards(shards_of([redis_client(owner.port) for owner in owners], "k"), payloads)


def test_a_redis_over_tls_with_an_address_of_its_own(fleet, authority):
    server = RedisProgram(fleet.folder, "tls", tls=authority)
    fleet.others.append(server.start())
    fleet.start_node(**sink_of(f"rediss://127.0.0.1:{server.peer_port}/0"),
                     redis_config__tls_ca_file=authority.ca)
    ids = fleet.online(5, make=fleet.persistent, sink="own")
    Stream(redis_client(server.port), "k").wait_payloads(publish(fleet, ids, 10))
