"""Two nodes that announce the same host and port, for example because node_info.host is still 127.0.0.1."""

import pytest
import requests

from fleet.api import Api
from fleet.wait import wait_until


@pytest.fixture
def twins(fleet):
    """n1 at 127.0.0.1, n2 at 127.0.0.2 on the same port; both announce 127.0.0.1."""
    first = fleet.start_node("n1", http__listen="127.0.0.1", node_info__host="127.0.0.1")
    second = fleet.new_node("n2", http__listen="127.0.0.2", node_info__host="127.0.0.1",
                            node_info__port=first.port)
    second.start(wait=False)
    api = Api(first.port)
    api.base = f"http://127.0.0.2:{first.port}"

    def ready():
        try:
            return api.get("/readyz").status_code == 200
        except requests.ConnectionError:
            return False
    wait_until(ready, 20, "the second is ready")
    return first, second, api


def test_case_F3_clients_are_placed_and_the_address_is_told(fleet, twins):
    first, second, api = twins
    fleet.create(30)
    wait_until(lambda: fleet.shared().counts() == {"n1": 15, "n2": 15}, 30, "placed level")
    wait_until(lambda: len(fleet.broker.connected()) == 30, 30, "all are connected")
    nodes = {node["name"]: node for node in api.get("/api/v1/nodes").json()["nodes"]}
    assert nodes["n1"]["shares_address_with"] == "n2" and nodes["n2"]["shares_address_with"] == "n1"
    [line] = [line for line in second.log().splitlines() if "event=address_shared" in line]
    assert "with=n1" in line and "node_info.host" in line, line


def test_case_F3_what_comes_to_the_wrong_node_is_refused_and_nothing_is_done(fleet, twins):
    first, second, api = twins
    ids = fleet.create(10)
    wait_until(lambda: len(fleet.broker.connected()) == 10, 30, "all are connected")
    owner = fleet.shared().owner
    mine = next(one for one in ids if owner[one] == "n1")
    theirs = next(one for one in ids if owner[one] == "n2")
    assert fleet.api.publish(mine, "t", "x", 1).status_code == 200
    # n1 calls n2, but reaches itself.
    answer = fleet.api.publish(theirs, "t", "x", 1)
    assert answer.status_code == 503 and answer.json()["type"].endswith(":node-unavailable")
    assert "another node answers" in answer.json()["detail"], answer.text
    # n2 itself can.
    assert api.publish(theirs, "t", "x", 1).status_code == 200
    status = fleet.api.status(theirs)
    assert status["last_error"]["code"] == "owner_unreachable", status


def test_a_request_that_is_meant_for_another_incarnation_is_misdirected(fleet):
    node = fleet.start_node()
    own = node.api.nodes()[node.name]["incarnation"]
    meant = {"X-Mqfleet-Meant-For": own}
    other = {"X-Mqfleet-Meant-For": "0" * 32}
    assert node.api.get("/api/v1/nodes", headers=meant).status_code == 200
    answer = node.api.get("/api/v1/nodes", headers=other)
    assert answer.status_code == 421 and answer.json()["type"].endswith(":misdirected"), answer.text
