"""kill -9 of a node at any moment loses no QoS 1 or 2 message of a persistent session: numbered messages
flow while nodes are killed repeatedly, and no number is missing in the sink."""

import os
import random
import threading

import pytest

from fleet.node import Node
from fleet.preload import preloaded
from fleet.publisher import Publisher
from fleet.sink_view import FileView, StreamView
from fleet.wait import holds_for, wait_until

pytestmark = pytest.mark.every_engine

CLIENTS = 20
KILLS = int(os.environ.get("MQFLEET_TEST_KILLS", "4"))
RATE_PER_S = 400  # of each QoS
STALL_S = 0.2  # of the sink around a kill, so that messages wait for it


class SlowDiskNode(Node):
    def spawn(self, argv, env=None):
        super().spawn(argv, preloaded(env, "slow_disk", E2E_SYNC_MS=str(int(STALL_S * 1000))))


def start(fleet, sink, names):
    settings = {"redis_config.url": fleet.redis.url, "reconnect_min_ms": 50,
                "reconnect_max_ms": 500, "heartbeat_ms": 300, "heartbeat_ttl_ms": 700,
                "reclaim_grace_ms": 300, "sink.type": sink}
    if fleet.engine:
        settings["engine"] = fleet.engine
    for name in names:
        if sink == "file":
            settings["sink.path"] = fleet.folder / f"{name}.ndjson"
        make = SlowDiskNode if sink == "file" else Node
        fleet.nodes.append(make(name, fleet.folder, settings).start())
    return fleet.nodes


def stall(fleet, sink):
    """Begins to stall; a slow disk needs no action."""
    if sink == "redis_stream":
        threading.Thread(target=fleet.redis.client.execute_command,
                         args=("DEBUG", "SLEEP", str(STALL_S))).start()


def view_of(fleet, sink, names):
    if sink == "file":
        return FileView([fleet.folder / f"{name}.ndjson" for name in names])
    return StreamView(fleet.redis.bytes_client)


@pytest.mark.parametrize("sink", ["redis_stream", "file"])
@pytest.mark.parametrize("names", [["alone"], ["left", "right"]], ids=["restart", "handover"])
def test_no_message_is_lost_although_nodes_are_killed(fleet, sink, names):
    chance = random.Random(f"{sink}{names}")
    nodes = start(fleet, sink, names)
    ids = fleet.online(CLIENTS, make=lambda client: fleet.persistent(
        client, subscriptions=[{"filter": f"t/{client}/#", "qos": 2}]))
    view = view_of(fleet, sink, names)
    publishers = [fleet.closing(Publisher(
        fleet.broker, [f"t/{client}/{qos}" for client in ids], RATE_PER_S, f"qos{qos}", qos))
        for qos in (1, 2)]
    for _ in range(KILLS):
        seen = len(view.poll().counts)
        wait_until(lambda: len(view.poll().counts) > seen + 200, 40, "messages flow")
        holds_for(lambda: True, chance.uniform(0, 0.3))
        stall(fleet, sink)
        holds_for(lambda: True, chance.uniform(STALL_S / 4, STALL_S))
        victim = chance.choice(nodes)
        victim.kill()
        victim.start()
    wanted = set().union(*(publisher.stop() for publisher in publishers))
    fleet.wait_online(ids, 40)

    def all_there():
        missing = wanted - set(view.poll().counts)
        assert not missing, f"{len(missing)} of {len(wanted)}, such as {sorted(missing)[:5]}"
        return True
    wait_until(all_there, 40, "every message is in the sink")
    # Only messages that a killed node had not acknowledged may arrive twice.
    assert sum(view.counts.values()) < 2 * len(wanted)
