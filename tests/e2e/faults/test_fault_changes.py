"""Updates and deletes during faults, and invalid data written by hand."""

import threading

from fleet import faults
from fleet.checker import Expect
from fleet.ledger import ABSENT
from fleet.wait import holds_for, wait_until


def make(stage, count, prefix, api):
    """Creates clients of revision 0; their ids."""
    ids = [f"{prefix}{number:03d}" for number in range(count)]
    api.create([stage.revised(client, 0) for client in ids])
    for client in ids:
        stage.ledger.acknowledged(client, 0)
    return ids


def change(stage, ids, api):
    """Updates half of them and deletes the others."""
    for number, client in enumerate(ids):
        if number % 2:
            answer = api.delete(api.path(client))
            assert answer.status_code == 204, f"{client}: {answer.status_code} {answer.text}"
            stage.ledger.acknowledged(client, ABSENT)
        else:
            answer = api.put(api.path(client), stage.revised(client, number + 1))
            assert answer.status_code == 200, f"{client}: {answer.status_code} {answer.text}"
            stage.ledger.acknowledged(client, number + 1)
    return ids[1::2]


def stays_away(stage, ids):
    """None of the deleted is there or connected, now and for some time."""
    def away():
        shared = stage.shared()
        return not (shared.waiting | shared.owned | set(stage.broker_log.poll().online)) & set(ids)
    wait_until(away, 10, "the deleted are gone")
    holds_for(away, 2, "the deleted stay away", poll_s=0.2)


def receives_at_new_topics(stage, ids):
    """For updated clients, messages to the topics of their last version arrive."""
    messages = [(f"t/{client}/{number + 1}", f"new:{client}")
                for number, client in enumerate(ids) if number % 2 == 0]
    stage.broker.publish_all(messages)
    wanted = {payload.encode() for _, payload in messages}
    wait_until(lambda: wanted <= stage.sink.poll().counts.keys(), 20, "received at new topics")


def test_update_and_delete_while_waiting(stage):
    """A fleet without room: everything waits until a node with room comes."""
    stage.start(nodes=1, clients=20, changes_per_s=0, node_info__size=20)
    ids = make(stage, 60, "w", stage.nodes[0].api)
    assert set(ids) <= stage.shared().waiting
    gone = change(stage, ids, stage.nodes[0].api)
    stage.checker.begin()
    stage.add_node(node_info__size=1000).start()
    stage.checker.verify(Expect())
    stays_away(stage, gone)


def test_update_and_delete_while_clients_are_assigned(stage):
    """While the fleet assigns and connects them, from two nodes at once."""
    stage.start(nodes=3, clients=50)
    stage.checker.begin()
    gone = []
    for round_number in range(3):
        batches = [make(stage, 60, f"c{round_number}{part}-", stage.nodes[part].api)
                   for part in range(2)]
        workers = [threading.Thread(target=lambda part=part: gone.extend(
            change(stage, batches[part], stage.nodes[part].api))) for part in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    stage.checker.verify(Expect())
    assert len(gone) == 180
    stays_away(stage, gone)


def test_update_and_delete_during_reap(stage):
    stage.start(nodes=3, clients=50)
    ids = make(stage, 240, "r", stage.nodes[0].api)
    stage.checker.verify(Expect())
    dead = stage.nodes[2]
    moving = stage.clients_of(dead)
    before = stage.incarnation(dead)
    dead.kill()
    wait_until(lambda: stage.shared().register.get(dead.name, {}).get("state") == "dead"
               or stage.incarnation(dead) != before, 20, "it is fenced", poll_s=0.002)
    gone = change(stage, ids, stage.nodes[0].api)
    stage.checker.verify(Expect(moving=moving, silent_nodes={dead.name}))
    stays_away(stage, gone)
    receives_at_new_topics(stage, ids)


def test_update_and_delete_before_the_reap_of_a_sleeper(stage):
    """When the suspended node continues, it still runs old versions and deleted clients."""
    stage.start(nodes=3, clients=50)
    ids = make(stage, 90, "s", stage.nodes[0].api)
    stage.checker.verify(Expect())
    sleeper = stage.nodes[2]
    moving, before = stage.clients_of(sleeper), stage.incarnation(sleeper)
    sleeper.sleep()
    gone = change(stage, ids, stage.nodes[0].api)
    faults.wait_moved(stage, moving, sleeper)
    sleeper.wake()
    faults.wait_joined_anew(stage, sleeper, before)
    stage.checker.verify(Expect(moving=moving, silent_nodes={sleeper.name}))
    stays_away(stage, gone)


def test_rubbish_written_by_hand(stage):
    """Reported for its id; no other client is affected."""
    stage.start(nodes=2, clients=100)
    stage.checker.begin()
    rubbish = {
        "empty": "", "text": "hello", "binary": b"\x00\xff\xfe{", "number": "17", "null": "null",
        "list": "[]", "open": '{"broker":', "bare": "{}", "no-port": '{"broker":"127.0.0.1"}',
        "typed": '{"broker":[],"port":"x"}', "deep": "[" * 5000,
        "topic": '{"broker":"127.0.0.1","port":1883,"sub_topic":"a/#/b"}',
        "long": '{"broker":"%s","port":1883,"sub_topic":"t"}' % ("x" * 100000),
        "id\nwith\x01control": "{}", "x" * 3000: "{}",
    }
    stage.rubbish |= set(rubbish)
    for client, text in rubbish.items():
        stage.redis.client.hset("mqtt_config:no", client, text)
    good = stage.fleet.create(20, prefix="behind", make=stage.document)
    stage.rubbish |= set(good)
    stage.fleet.wait_online(good, 10)
    reported = {"text", "number", "open", "bare", "typed", "topic"}
    wait_until(lambda: reported <= set(stage.redis.client.hkeys("mqtt_fleet:attempt")), 20,
               "reported on their ids")
    for client in reported:
        assert stage.fleet.api.client(client)["status"]["last_error"]["code"], client
    stage.survive(faults.kill_node)
    assert rubbish.keys() - {"no-port"} <= stage.shared().waiting


def test_rubbish_written_into_other_keys(stage):
    """No process crashes, and other clients are not affected."""
    stage.start(nodes=2, clients=100)
    stage.checker.begin()
    client = stage.redis.client
    victim, torn = stage.ids[0], stage.ids[1]
    client.hset("mqtt_fleet:attempt", victim, "{{{")
    client.hset("mqtt_fleet:meta", torn, "not json")
    client.zadd("mqtt_fleet:retry", {"nobody": 5})
    client.hset("register:mqtt", "ghost", "{}")
    client.set("mqtt_fleet:leader", "somebody")
    client.set("mqtt_fleet:epoch", "abc")
    client.publish("mqtt_fleet:wake", b"\xff\x00" * 5000)
    new = stage.fleet.create(20, prefix="after", make=stage.document)
    stage.rubbish |= set(new)
    stage.fleet.wait_online(new, 15)
    stage.survive(faults.kill_node)
