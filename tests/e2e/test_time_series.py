"""The last hour of the fleet: what all nodes sampled, added."""

from fleet.wait import wait_until


def test_the_samples_of_all_nodes_are_added(fleet):
    nodes = fleet.start_nodes(2, peer_timeout_ms=500)
    ids = fleet.online(6, subscriptions=[{"filter": "t/#", "qos": 1}])
    held = {node.name: node.api.get(f"/api/v1/clients?node={node.name}").json()["clients"] for node in nodes}
    assert all(held.values()), held

    def series():
        answer = nodes[1].api.get("/api/v1/time-series")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sampled():
        out = nodes[0].api.post(fleet.api.path(ids[0], "publish"), {"topic": "t/1", "payload": "12345", "qos": 1})
        assert out.status_code == 200, out.text
        seen = series()
        both = [i for i, n in enumerate(seen["nodes"]) if n == 2]
        assert any(seen["clients"]["online"][i] == 6 for i in both), seen
        rates = {name: max(values[i] or 0 for i in both) for name, values in seen["per_s"].items()}
        assert rates["messages_out"] > 0 and rates["bytes_out"] > 0, seen
        # Each publication is received by six clients on both nodes.
        assert rates["messages_in"] > rates["messages_out"] and rates["bytes_in"] > rates["bytes_out"], seen
        return seen

    seen = wait_until(sampled, 90, "samples of both nodes", poll_s=0.5)
    assert seen["incomplete"] == [] and seen["from"] and seen["interval_s"] == 10
    assert {len(values) for group in (seen["clients"], seen["per_s"]) for values in group.values()} == {len(seen["nodes"])}
    nodes[0].pause()
    fleet.at_end(nodes[0].resume)
    assert [one["node"] for one in series()["incomplete"]] == [nodes[0].name]
