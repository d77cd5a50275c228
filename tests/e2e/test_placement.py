"""Placement of clients: balanced, within the size of a node, immediate, each client once."""

import statistics
import time

import pytest

from fleet.proxy import Proxy
from fleet.redis_server import redis_client
from fleet.wait import PATIENCE, wait_until


def level(counts):
    return max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.heavy
def test_a_thousand_clients_over_three_nodes_end_level(fleet):
    fleet.start_nodes(3)
    ids = fleet.create(1000)
    fleet.wait_online(ids, 120)
    shared = fleet.check_s1(ids)
    assert level(shared.counts()), shared.counts()
    assert fleet.broker.connects() == {client: 1 for client in ids}


def test_kf01_least_loaded_means_fewest_clients_not_smallest_size(fleet):
    for name, size in (("large", 9000), ("middle", 500), ("small", 40)):
        fleet.start_node(name, node_info__size=size)
    fleet.online(60, prefix="first")
    assert fleet.shared().counts() == {"large": 20, "middle": 20, "small": 20}
    fleet.online(90, prefix="second")
    assert fleet.shared().counts() == {"large": 55, "middle": 55, "small": 40}


def test_an_empty_node_is_filled_first(fleet):
    fleet.start_node("old")
    fleet.online(30, prefix="first")
    fleet.start_node("new")
    fleet.online(20, prefix="second")
    assert fleet.shared().counts() == {"old": 30, "new": 20}


def test_kf04_a_node_at_its_size_takes_no_more_and_the_rest_wait(fleet):
    fleet.start_node("small", node_info__size=10)
    ids = fleet.create(25)
    fleet.broker  # is up
    wait_until(lambda: len(fleet.api.clients(state="online")) == 10, 20, "10 online")
    shared = fleet.check_s1(ids)
    assert shared.counts() == {"small": 10} and len(shared.waiting) == 15
    assert {one["status"]["state"] for one in fleet.api.clients()} == {"online", "waiting"}

    for client in sorted(shared.owned)[:4]:
        assert fleet.api.delete(fleet.api.path(client)).status_code == 204
        ids.remove(client)
    wait_until(lambda: len(fleet.api.clients(state="online")) == 10, 20, "room is used again")
    assert fleet.wait_s1(ids).counts() == {"small": 10}

    fleet.start_node("other", node_info__size=100)
    fleet.wait_online(ids)
    assert fleet.wait_s1(ids).counts() == {"small": 10, "other": 11}


def test_kf07_many_waiting_clients_and_several_nodes_create_each_client_once(fleet):
    nodes = fleet.start_nodes(3)
    fleet.broker
    half = fleet.create(150, prefix="a", api=nodes[0].api)
    half += fleet.create(150, prefix="b", api=nodes[2].api)
    fleet.wait_online(half, 60)
    assert fleet.broker.connects() == {client: 1 for client in half}
    assert level(fleet.check_s1(half).counts())


def test_kf08_unreachable_and_silent_brokers_delay_nobody(fleet):
    silent = fleet.closing(Proxy(fleet.broker.port))
    silent.silent = True
    fleet.start_nodes(2, connect_timeout_ms=8000)
    bad = fleet.create(20, "a-silent", make=lambda client: fleet.document(client, url=silent.url))
    bad += fleet.create(20, "a-refused",
                        make=lambda client: fleet.document(client, url="mqtt://127.0.0.1:1"))
    good = fleet.create(60, prefix="z")
    fleet.wait_online(good, 7)
    refused = fleet.api.wait_state("a-refused00000", "backoff")
    error = refused["last_error"]
    assert error["code"] == "connection_refused"
    # The clients that wait for an unavailable broker try one after another.
    assert refused["next_retry_at"] or "since" in error["message"], error
    fleet.check_s1(bad + good)


def test_kf03_what_no_node_has_room_for_is_kept(fleet):
    full = fleet.start_node("full", node_info__size=0)
    ids = fleet.create(5)
    assert fleet.check_s1(ids).waiting == set(ids)
    full.kill()
    fleet.start_node("roomy")
    fleet.wait_online(ids)


def test_kf16_a_client_is_kept_and_retried_while_its_broker_is_away(fleet):
    fleet.start_node(reconnect_max_ms=2000)
    fleet.broker.terminate()
    answer = fleet.api.create([fleet.document("patient")])
    assert answer["created"] == 1
    status = fleet.api.wait_state("patient", "backoff")
    assert status["last_error"]["message"]
    fleet.broker.start()
    fleet.api.wait_state("patient", "online", 10)


def test_kf02_an_acknowledged_client_survives_the_death_of_the_node_that_took_it(fleet):
    taker, other = fleet.start_nodes(2)
    fleet.broker
    acknowledged = []
    for number in range(40):
        client = f"c{number}"
        taker.api.create(fleet.document(client))
        acknowledged.append(client)
    taker.kill()
    fleet.wait_online(acknowledged, 30, api=other.api)
    fleet.wait_s1(acknowledged)


def test_a_posted_client_is_connected_at_once_and_not_at_the_next_tick(fleet):
    """The scheduler's tick is 250 ms."""
    posting, _ = fleet.start_nodes(2)
    broker = fleet.broker
    delays_ms = []
    for number in range(20):
        client = f"c{number}"
        begun = time.monotonic()
        posting.api.create(fleet.document(client))
        wait_until(lambda: broker.connects()[client], 10, "connected", poll_s=0.005)
        delays_ms.append((time.monotonic() - begun) * 1000)
    assert statistics.median(delays_ms) < 100 * PATIENCE, delays_ms


def test_kf13_listing_takes_few_redis_round_trips_and_no_keys_command(fleet):
    nodes = fleet.start_nodes(2)
    ids = fleet.online(300)
    redis = fleet.redis.client
    redis.config_resetstat()
    before = redis.info("stats")["total_reads_processed"]
    for node in nodes:
        assert len(node.api.clients()) == len(ids)
        assert node.api.client(ids[7])["placement"]
        node.api.get("/node_using_status")
    used = redis.info("stats")["total_reads_processed"] - before
    assert used < 100, f"{used} round trips"
    commands = redis.info("commandstats")
    assert not {"cmdstat_keys", "cmdstat_smembers"} & set(commands)


def test_kf12_database_prefix_and_notification_setting_are_respected(fleet):
    redis = fleet.redis
    redis.client.config_set("notify-keyspace-events", "Kg")
    url = redis.url.replace("/0", "/5")
    nodes = fleet.start_nodes(2, redis_config__url=url, key_prefix="plant:")
    ids = fleet.online(6)
    assert redis.client.config_get("notify-keyspace-events")["notify-keyspace-events"] in (
        "Kg", "gK")
    assert redis.client.dbsize() == 0
    keys = redis_client(redis.port, db=5, decode_responses=True).keys("*")
    assert keys and all(key.startswith("plant:") for key in keys)
    nodes[1].kill()
    fleet.wait_online(ids, api=nodes[0].api)
