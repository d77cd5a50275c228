"""Nodes get level by themselves and on request; a drain outlasts a restart and says what it waits for."""

from fleet.publisher import Publisher
from fleet.wait import wait_until
from test_cli import Cli


def counts(node):
    return {one["name"]: one["clients"] for one in node.api.nodes().values()}


def test_a_new_node_gets_its_share_and_no_message_is_lost(fleet):
    quick = {"rebalance_settle_ms": 200, "rebalance_rate": 100}
    first, second = fleet.start_nodes(2, **quick)
    ids = fleet.online(60, make=fleet.persistent)
    stay = fleet.online(6, "stay")  # their sessions would be lost
    topics = [f"t/{client}/x" for client in ids]
    publisher = fleet.closing(Publisher(fleet.broker, topics, rate_per_s=200))
    wait_until(lambda: publisher.sent >= 100, 20)
    homes = {one["id"]: one["placement"] for one in first.api.clients()}

    third = fleet.start_node(**quick)
    wait_until(lambda: set(counts(first).values()) == {22}, 40, "level")
    assert {one["id"]: one["placement"] for one in first.api.clients()
            if one["id"] in stay} == {client: homes[client] for client in stay}
    fleet.wait_online(ids + stay, 30)

    # Without clean sessions nothing is left to move by itself: an operator asks.
    cli = Cli(first)
    drained = cli.run("drain", third.name, "--wait", "--timeout", "60")
    assert drained.returncode == 0, drained.stderr
    assert third.terminate() == 0
    assert cli.good("undrain", third.name).endswith("it accepts clients when it starts\n")
    assert first.api.post(f"/api/v1/nodes/{third.name}/undrain").status_code == 404
    third.start()
    asked = cli.run("rebalance", "--rate", "1000", "--timeout", "60")
    assert asked.returncode == 0 and "level" in asked.stdout, asked.stderr
    assert set(counts(first).values()) == {22}

    going_on = publisher.sent + 100
    wait_until(lambda: publisher.sent >= going_on, 20)
    fleet.stream.wait_payloads(publisher.stop())
    fleet.wait_s1(ids + stay)
    assert not fleet.broker.takeovers()


def test_a_drain_outlasts_a_restart_and_says_what_it_waits_for(fleet):
    first, second = fleet.start_nodes(2, node_info__size=4)
    ids = fleet.online(6)
    cli = Cli(first)
    stuck = cli.run("drain", second.name, "--wait", "--timeout", "4")
    assert stuck.returncode == 1 and "every node that can run it is full" in stuck.stderr, stuck.stderr
    assert "2 clients remain after --timeout" in stuck.stderr
    fleet.wait_online(ids)
    assert second.terminate() == 0
    second.start()
    assert second.api.nodes()[second.name]["state"] == "draining"
    answer = first.api.post("/api/v1/nodes:rebalance?rate=x")
    assert answer.status_code == 400 and "rate" in answer.json()["detail"]
    cli.good("undrain", second.name)
    fleet.wait_online(ids, 30)
    assert first.api.nodes()[second.name]["state"] == "live"
