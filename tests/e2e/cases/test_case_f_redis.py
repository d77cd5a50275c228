"""Cases F6, F9 and F12: a Redis that is full, refuses writes, or evicts keys; a separate Redis for
messages."""

import shutil
import subprocess
import threading

import pytest
import redis

from fleet.mqtt_client import new_client
from fleet.node import BINARY, environment
from fleet.redis_group import RedisProgram
from fleet.redis_server import redis_client
from fleet.stream import Stream
from fleet.wait import wait_until

MB = 1048576
FULL = "urn:mqfleet:problem:redis-out-of-memory"


def create(fleet, client):
    return fleet.api.post("/api/v1/clients", fleet.document(client))


def delete(fleet, client):
    return fleet.api.delete(fleet.api.path(client)).status_code


def verbose(node):
    return node.api.get("/readyz?verbose").text


def metric(node, name):
    lines = node.api.get("/metrics").text.splitlines()
    return next((float(line.split()[1]) for line in lines if line.split(" ")[0] == name), None)


def publish(broker, topics, count, size):
    """Publishes with QoS 1, as fast as the broker accepts them."""
    client = new_client("flood")
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for number in range(count):
        info = client.publish(topics[number % len(topics)], b"x" * size, qos=1)
        if number % 2000 == 0:
            info.wait_for_publish(60)
    info.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def fill(client):
    """Fills the rest of maxmemory, as another user of the same Redis."""
    for number in range(10000):
        try:
            client.execute_command("SETRANGE", f"filler:{number}", 65536, "x")
        except redis.exceptions.ResponseError:  # and nothing that ends later gives room again
            return client.config_set("maxmemory", client.info("memory")["used_memory"] - MB)
    raise AssertionError("it does not fill")


def test_case_F6_messages_fill_the_redis_of_the_fleet_and_control_goes_on(fleet):
    server = fleet.redis.client
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", 64 * MB)
    nodes = fleet.start_nodes(2)
    ids = fleet.online(20, make=fleet.persistent)
    publish(fleet.broker, [f"t/{client}/x" for client in ids], 130_000, 700)

    for node in nodes:
        wait_until(lambda: "sink.redis_stream failed: paused: Redis uses" in verbose(node), 30)
        wait_until(lambda: "event=sink_failing sink=redis_stream error=\"paused:" in node.log(), 10)
    used = server.info("memory")["used_memory"]
    assert 40 * MB < used < 60 * MB, f"{used / MB:.1f} MB"
    assert create(fleet, "new").status_code == 201, "there is room for the fleet"
    assert delete(fleet, ids.pop()) in (200, 204)
    assert metric(nodes[0], 'mqfleet_sink_paused{sink="redis_stream"}') == 1
    assert metric(nodes[0], 'mqfleet_sink_store_entries{sink="redis_stream"}') == \
        server.xlen("mqtt_msg")

    fill(server)  # now even that room is gone
    answer = create(fleet, "never")
    assert (answer.status_code, answer.json()["type"]) == (503, FULL)
    changed = {**fleet.persistent(ids[0]), "keepalive_s": 77}
    answer = fleet.api.put(fleet.api.path(ids[0]), changed)
    assert (answer.status_code, answer.json()["type"]) == (503, FULL)
    assert delete(fleet, ids.pop()) in (200, 204)
    beats = {node: metric(node, 'mqfleet_heartbeats_total{result="ok"}') for node in nodes}
    for node in nodes:
        wait_until(lambda: metric(node, 'mqfleet_heartbeats_total{result="ok"}') > beats[node] + 3,
                   20, "it beats")
        wait_until(lambda: "[!]redis.memory warning: out of memory" in verbose(node), 20)
        assert "event=redis_nearly_full" in node.log()
    assert any("event=redis_out_of_memory" in node.log() for node in nodes)

    nodes[0].kill()
    fleet.wait_online([*ids, "new"], api=nodes[1].api)  # taken over without any memory
    for node in nodes:
        for sign in ("heartbeat_failed", "to=fenced", "redis_script_failed"):
            assert sign not in node.log(), sign

    server.xtrim("mqtt_msg", 0, approximate=False)  # what its reader does
    wait_until(lambda: create(fleet, "after").status_code == 201, 20)
    wait_until(lambda: "sink.redis_stream ok" in verbose(nodes[1]), 20, "the sink goes on")
    wait_until(lambda: server.xlen("mqtt_msg") > 0, 20, "what the clients held comes")


def test_case_F6_a_redis_for_messages_alone_may_fill_up(fleet):
    own = RedisProgram(fleet.folder, "messages", ["--requirepass", "hunter2"])
    own.client = redis_client(own.port, password="hunter2", decode_responses=True)
    fleet.others.append(own.start())
    url = f"redis://:hunter2@127.0.0.1:{own.port}/0"
    node = fleet.start_node(**{"sink.url": url})
    ids = fleet.online(3, make=fleet.persistent)
    fleet.broker.publish(f"t/{ids[0]}/x", b"to the other")
    Stream(redis_client(own.port, password="hunter2")).wait_payloads([b"to the other"])
    assert not fleet.redis.client.exists("mqtt_msg")

    own.client.config_set("maxmemory", 1)
    fleet.broker.publish(f"t/{ids[0]}/x", b"later")
    wait_until(lambda: "sink.redis_stream failed: out of memory: OOM" in verbose(node), 20)
    assert create(fleet, "new").status_code == 201, "of another Redis"
    own.client.config_set("maxmemory", 0)
    Stream(redis_client(own.port, password="hunter2")).wait_payloads([b"to the other", b"later"])
    assert "hunter2" not in node.log()


def test_the_password_of_the_sinks_redis_is_not_printed(tmp_path):
    shown = subprocess.run(
        [BINARY, "--print-config", "--set", "sink.url=rediss://u:hunter2@h:1/2", "--set",
         f"state_dir={tmp_path}"], env=environment(), capture_output=True, text=True, check=True)
    assert 'url: "rediss://***:***@h:1/2"' in shown.stdout and "hunter2" not in shown.stdout


@pytest.mark.parametrize("url,says", [
    ("embedded", "sink.url: must be redis://"),
    ("redis://h:99999", "sink.url"),
])
def test_a_url_that_the_sink_cannot_use_is_one_line_and_exit_2(fleet, url, says):
    node = fleet.new_node(**{"sink.url": url})
    assert node.start_and_end() == 2
    assert says in node.log() and node.log().count("\n") == 1


def no_place_to_save(server):
    shutil.rmtree(server.folder)
    server.client.config_set("save", "3600 1")
    server.client.bgsave()
    wait_until(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err", 20)


def no_replicas(server):
    if int(server.client.info("server")["redis_version"].split(".")[0]) < 7:
        pytest.skip("this Redis does not ask for replicas in scripts")
    server.client.config_set("min-replicas-to-write", 1)


def a_replica(server):
    server.client.execute_command("REPLICAOF", "127.0.0.1", 1)


def busy(server):
    server.client.config_set("lua-time-limit", 100)
    spinner = redis_client(server.port, socket_timeout=60)

    def spin():
        try:
            spinner.eval("while true do end", 0)
        except redis.exceptions.RedisError:
            pass  # killed at the end
    threading.Thread(target=spin, daemon=True).start()


def not_permitted(server):
    server.client.execute_command("ACL", "SETUSER", "default", "-evalsha")


@pytest.mark.parametrize("spoil,says,mend", [
    (no_place_to_save, "cannot save its data, accepts no writes: MISCONF",
     ("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")),
    (no_replicas, "has too few replicas, accepts no writes: NOREPLICAS",
     ("CONFIG", "SET", "min-replicas-to-write", "0")),
    (a_replica, "a replica, accepts no writes: READONLY", ("REPLICAOF", "NO", "ONE")),
    (busy, "busy with a script: BUSY", ("SCRIPT", "KILL")),
    (not_permitted, "not permitted to this user: NOPERM",
     ("ACL", "SETUSER", "default", "+evalsha")),
], ids=["MISCONF", "NOREPLICAS", "READONLY", "BUSY", "NOPERM"])
def test_case_F6_a_redis_that_refuses_counts_as_away_and_its_cause_is_told(fleet, spoil, says, mend):
    server = RedisProgram(fleet.folder, "refusing")
    fleet.others.append(server.start())
    node = fleet.start_node(**{"redis_config.url": f"redis://127.0.0.1:{server.port}"})
    ids = fleet.online(3)
    mark = fleet.broker.mark()
    spoil(server)
    wait_until(lambda: f"127.0.0.1:{server.port}: {says}" in verbose(node), 20, says)
    assert "event=heartbeat_failed" in node.log() and says in node.log()
    answer = create(fleet, "new")
    assert answer.status_code == 503 and answer.json()["type"].endswith(":redis-unavailable")
    server.client.execute_command(*mend)
    wait_until(node.ready, 20)
    wait_until(lambda: "event=redis_back" in node.log(), 20)
    assert create(fleet, "new").status_code in (200, 201)
    fleet.wait_online([*ids, "new"])
    assert len(fleet.broker.connects(mark)) == 1, "the others stayed connected"


@pytest.mark.parametrize("policy,what", [("allkeys-lru", "clients"), ("volatile-ttl", "heartbeats")])
def test_case_F9_a_redis_that_evicts_is_warned_of(fleet, policy, what):
    fleet.redis.client.config_set("maxmemory-policy", policy)
    node = fleet.start_node()
    says = f"maxmemory-policy {policy} deletes {what} when memory is full; set it to noeviction"
    wait_until(lambda: f'event=redis_evicts detail="{says}"' in node.log(), 10)
    assert f"[!]redis.eviction warning: {says}" in verbose(node)
    answer = node.api.get("/readyz")
    assert answer.status_code == 200 and answer.json()["warnings"] == {"redis.eviction": says}
    told = subprocess.run([BINARY.parent / "mqfleet", "--url", node.api.base, "status"],
                          env=environment(), capture_output=True, text=True, check=False)
    assert says in told.stdout, told
    fleet.redis.client.config_set("maxmemory-policy", "noeviction")
    wait_until(lambda: "[+]redis.eviction ok: noeviction" in verbose(node), 20)
    assert node.api.get("/readyz").json()["warnings"] == {}


def test_what_the_redis_is_shows_at_the_join(fleet):
    node = fleet.start_node()
    wait_until(lambda: "event=redis_server" in node.log(), 10)
    line = next(line for line in node.log().splitlines() if "event=redis_server" in line)
    version = fleet.redis.client.info("server")["redis_version"]
    for sign in (f"version={version}", "role=master", "eviction=noeviction", "append_only=no"):
        assert sign in line or "valkey" in line, line
    assert "[+]redis.server ok: " in verbose(node) and "[+]redis.persistence ok: " in verbose(node)
    assert metric(node, "mqfleet_redis_memory_bytes") > 100_000
    assert metric(node, "mqfleet_redis_memory_limit_bytes") == 0


def test_without_the_permission_for_info_all_works_and_it_is_said(fleet):
    fleet.redis.client.execute_command("ACL", "SETUSER", "less", "on", ">secret", "~*", "&*", "+@all",
                                       "-info", "-xlen")
    node = fleet.start_node(
        **{"redis_config.url": f"redis://less:secret@127.0.0.1:{fleet.redis.port}/0"})
    ids = fleet.online(3)
    fleet.broker.publish(f"t/{ids[0]}/x", b"all the same")
    fleet.stream.wait_payloads([b"all the same"])
    wait_until(lambda: "event=sink_room_unknown" in node.log(), 10)
    assert "[+]redis.server ok: not known: Redis did not answer INFO" in verbose(node)
    assert metric(node, "mqfleet_redis_memory_bytes") is None
    tried = [one["object"] for one in fleet.redis.client.acl_log()]
    assert tried.count("xlen") <= 2, tried  # by the measuring of memory and of groups, once each
