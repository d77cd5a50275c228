"""A backup of Redis is restored as docs/redis.md says."""

import shutil
import subprocess


def filters(node, client):
    return [row["filter"] for row in node.api.client(client)["config"]["subscriptions"]]


def test_a_restored_backup_is_the_fleet_as_it_was(fleet):
    node = fleet.start_node("m1")
    names = fleet.online(3)
    backup = fleet.folder / "backup.rdb"
    subprocess.run(["redis-cli", "-u", fleet.redis.url, "--rdb", backup], check=True,
                   capture_output=True, timeout=60)

    was = filters(fleet, names[0])
    changed = fleet.document(names[0], subscriptions=[{"filter": "later/#", "qos": 1}])
    assert fleet.api.put(fleet.api.path(names[0]) + "?wait_ms=30000", changed).status_code == 200
    assert fleet.api.delete(fleet.api.path(names[1])).status_code == 204
    assert fleet.api.post("/api/v1/clients", fleet.document("later")).status_code == 201

    node.terminate()
    fleet.redis.kill()
    shutil.copy(backup, fleet.redis.folder / "dump.rdb")
    fleet.redis.start()
    again = fleet.start_node("m1")
    fleet.wait_online(names, api=again.api)
    assert {one["id"] for one in again.api.clients()} == set(names)
    assert filters(again, names[0]) == was
    fleet.wait_s1(names)
