"""A fleet on a Redis that speaks TLS: alone, behind sentinels, as a cluster; and what is refused."""

import time

import pytest

from fleet.certificates import Authority, Certificate
from fleet.invariants import check_s1
from fleet.proxy import Proxy
from fleet.redis_group import Cluster, RedisProgram, Sentinels
from fleet.redis_server import redis_client
from fleet.stream import Stream
from fleet.wait import wait_until


def start_nodes(fleet, count, url, authority, **settings):
    return fleet.start_nodes(count, **{"redis_config.url": url,
                                       "redis_config.tls_ca_file": authority.ca, **settings})


def start_server(fleet, authority, **options):
    server = RedisProgram(fleet.folder, "tls", tls=authority, **options)
    fleet.others.append(server.start())
    return server, f"rediss://127.0.0.1:{server.peer_port}/0"


def wait_s1(program, ids, prefix=""):
    return wait_until(lambda: check_s1(program.client, ids, prefix), 30, "S1")


def test_a_fleet_runs_over_tls(fleet, authority):
    server, url = start_server(fleet, authority)
    start_nodes(fleet, 2, url, authority)
    ids = fleet.online(20)
    fleet.broker.publish(f"t/{ids[0]}/x", b"over TLS")
    Stream(redis_client(server.port)).wait_payloads([b"over TLS"])
    wait_s1(server, ids)
    server.kill()
    server.start()
    wait_s1(server, ids)  # put back into what came back empty


def test_a_fleet_follows_sentinels_over_tls(fleet, authority):
    group = Sentinels(fleet, authority)
    start_nodes(fleet, 2, group.url, authority)
    ids = fleet.online(20, make=fleet.persistent)
    group.master.kill()
    group.wait_master(group.replica)
    wait_s1(group.replica, ids)
    fleet.broker.publish(f"t/{ids[0]}/x", b"after the failover")
    Stream(redis_client(group.replica.port)).wait_payloads([b"after the failover"])


def test_a_fleet_runs_on_a_cluster_over_tls(fleet, authority):
    cluster = Cluster(fleet, authority)
    start_nodes(fleet, 1, cluster.url, authority, key_prefix="{fleet}:")
    ids = fleet.online(20)
    wait_s1(cluster.owner("{fleet}:x"), ids, "{fleet}:")


@pytest.mark.parametrize("over", ["one", "sentinels"])
def test_messages_go_to_a_redis_of_their_own_over_tls(fleet, authority, over):
    if over == "sentinels":
        group = Sentinels(fleet, authority)
        server, url = group.master, group.url
    else:
        server, url = start_server(fleet, authority)
    fleet.start_node(**{"sink.url": url, "redis_config.tls_ca_file": authority.ca})
    ids = fleet.online(3)
    fleet.broker.publish(f"t/{ids[0]}/x", b"elsewhere")
    Stream(redis_client(server.port)).wait_payloads([b"elsewhere"])
    assert not fleet.redis.client.exists("mqtt_msg")


def test_a_node_presents_its_certificate(fleet, authority):
    _, url = start_server(fleet, authority, clients="yes")
    start_nodes(fleet, 1, url, authority,
                **{"redis_config.tls_cert_file": authority.client_certificate,
                   "redis_config.tls_key_file": authority.client_key})
    fleet.online(3)


def without_certificate(fleet, authority):
    return start_server(fleet, authority, clients="yes")[1], authority.ca


def of_another_authority(fleet, authority):
    return (start_server(fleet, authority)[1],
            Authority(fleet.folder / "other").ca)


def expired(fleet, authority):
    ca = Certificate(authority.ca, authority.ca_key)
    old = authority.chain("old", "subjectAltName=IP:127.0.0.1", issuer=ca, expired=True)
    authority = Authority(fleet.folder / "own")
    authority.server_certificate, authority.server_key = old.certificate, old.key
    return start_server(fleet, authority)[1], ca.certificate


def of_another_host(fleet, authority):
    _, url = start_server(fleet, authority, options=["--bind", "127.0.0.1", "127.0.0.2"])
    return url.replace("127.0.0.1", "127.0.0.2"), authority.ca


def without_tls(fleet, authority):
    return fleet.redis.url.replace("redis:", "rediss:"), authority.ca


def silent(fleet, authority):
    proxy = fleet.closing(Proxy(fleet.redis.port))
    proxy.silent = True
    return f"rediss://127.0.0.1:{proxy.port}", authority.ca


@pytest.mark.parametrize("make,says", [
    (without_certificate, "the server requests a certificate: redis_config.tls_cert_file"),
    (of_another_authority, "TLS: "),
    (expired, "certificate has expired"),
    (of_another_host, "IP address mismatch"),
    (without_tls, "TLS: "),
    (silent, "TLS: the handshake timed out"),
])
def test_what_is_refused_is_told_in_readyz_and_the_log(fleet, authority, make, says):
    url, ca = make(fleet, authority)
    node = fleet.new_node(**{"redis_config.url": url, "redis_config.timeout_ms": 500,
                             "redis_config.tls_ca_file": ca}).start(wait=False)
    wait_until(node.alive, 20)
    wait_until(lambda: says in node.api.get("/readyz?verbose").text, 20, f"readyz says {says}")
    wait_until(lambda: says in node.log(), 20)
    begin = time.monotonic()
    assert node.api.get("/api/v1/clients/x").status_code == 503
    assert time.monotonic() - begin < 10, "no call takes longer than the timeout"


@pytest.mark.parametrize("settings,says", [
    ({"redis_config.tls_ca_file": "/nonexistent"}, "redis_config.tls_ca_file: /nonexistent: No such"),
    ({"redis_config.tls_cert_file": "/x"}, "redis_config.tls_key_file: both or none"),
])
def test_a_file_that_cannot_be_used_is_one_line_and_exit_2(fleet, settings, says):
    node = fleet.new_node(**{"redis_config.url": "rediss://127.0.0.1:1", **settings})
    assert node.start_and_end() == 2
    assert says in node.log() and node.log().count("\n") == 1
