"""Verifies all fault tests. It looks from outside only: at Redis, the broker's log, the
sink, and what the API had answered; and verifies the invariants of docs/protocol.md:

S1  keys in Redis                       each id in one place, counters right
S2  the broker's log, by source address no identifier goes back to a node it left; one holder
S3  numbered QoS 1 messages             no gap; twice only for clients that had to reconnect
S4  the ledger of answers               each 2xx is in Redis; what was deleted stays deleted
L   Redis, broker and API together      every id online, at the node that owns it, within a bound
"""

import collections
import dataclasses
import json
import threading
import time

import redis as redis_errors
import requests

from .invariants import Shared, check_s1
from .ledger import ABSENT
from .redis_server import redis_client
from .wait import holds_for, wait_until

QUIET_S = 1.2  # settled: for so long no client connects
NOBODY = frozenset()


@dataclasses.dataclass
class Expect:
    """What may happen to unchanged clients between two verifications."""

    moving: frozenset | None = NOBODY  # ids that may connect anew, all others must not; None: any
    connects_max: int = 1  # times each of them may
    bound_s: float = 30  # all online again within
    silent_nodes: frozenset = NOBODY  # nodes that must not open a connection
    duplicates: bool = False  # the sink itself was at fault: messages may be there twice
    returning: bool = False  # a client may go back to a node that was restarted meanwhile


class Window:
    """Everything since the last verification."""

    def __init__(self, checker):
        self.mark = checker.log.mark()
        self.origin = dict(checker.log.online)
        self.began = time.monotonic()


class Watch:
    """Checks S1 repeatedly while faults happen: it holds at every moment. Missing ids are reported, unless the
    test makes Redis lose data."""

    def __init__(self, stage, interval_s=0.25):
        self._stage, self._interval_s = stage, interval_s
        self.looks = 0
        self.faults = []
        self.data_lost = False
        self._redis = redis_client(stage.redis.port, socket_timeout=1, decode_responses=True,
                                   encoding_errors="replace")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        self._stopping.set()
        self._thread.join()

    def _run(self):
        while not self._stopping.wait(self._interval_s):
            ids = () if self.data_lost else self._stage.created
            try:
                shared = check_s1(self._redis, beside=self._stage.rubbish)
                missing = set(ids) - shared.waiting - shared.owned
                assert not missing or self.data_lost, f"S1: lost: {sorted(missing)[:5]}"
            except redis_errors.RedisError:
                continue
            except AssertionError as error:
                self.faults.append(f"{time.strftime('%H:%M:%S')} {error}")
            self.looks += 1


class Checker:
    def __init__(self, stage):
        self.stage = stage
        self.log = stage.broker_log
        self.epochs = {}
        self.window = Window(self)
        self.settled_in_s = 0.0
        self.watch = stage.fleet.closing(Watch(stage))

    def begin(self):
        self.window = Window(self)

    # ---- the whole -------------------------------------------------------------------------

    def verify(self, expect=Expect()):
        """Waits until the fleet has settled, verifies everything since begin(), and begins again. Returns the
        seconds until it settled."""
        stage = self.stage
        stage.changes.pause()
        started = time.monotonic()
        self.wait_online(expect.bound_s)
        self.settled_in_s = time.monotonic() - started
        self._wait_sink(20)
        self._wait_quiet()
        # A late change may not have reached its client yet.
        self.wait_online(10)
        self.check_s1()
        self.check_s2(expect)
        self.check_s3(expect)
        self.check_s4()
        self.begin()
        stage.changes.go()
        return self.settled_in_s

    # ---- L ---------------------------------------------------------------------------------

    def wait_online(self, bound_s):
        wait_until(self._redis_answers, bound_s, "Redis answers", poll_s=0.1)
        wait_until(self._all_placed, bound_s, "L: every id is at work where Redis says",
                   poll_s=0.1)
        wait_until(self._all_shown, bound_s, "L: every id is shown online", poll_s=0.2)

    def _redis_answers(self):
        try:
            return self.stage.redis.client.ping()
        except redis_errors.RedisError as error:
            raise AssertionError(str(error)) from error

    def expected(self):
        """(ids that must exist, ids that may)"""
        ledger = self.stage.ledger.all()
        return (set(self.stage.ids) | self.stage.ledger.must_exist(),
                set(self.stage.ids) | {client for client, revisions in ledger.items()
                                       if revisions != {ABSENT}})

    def _all_placed(self):
        must, may = self.expected()
        shared = Shared(self.stage.redis.client)
        lost = must - shared.waiting - shared.owned
        assert not lost, f"lost: {sorted(lost)[:5]}"
        waiting = shared.waiting & may
        assert not waiting, f"{len(waiting)} wait, such as {sorted(waiting)[:5]}"
        online = self.log.poll().online
        owned = shared.owned & may
        left = self.stage.ledger.must_not_exist() & online.keys()
        assert not left, f"deleted and still connected: {sorted(left)[:5]}"
        wrong = {client: (self.stage.node_at(online.get(client)), shared.owner.get(client))
                 for client in owned
                 if self.stage.node_at(online.get(client)) != shared.owner.get(client)}
        assert not wrong, (f"{len(wrong)} of {len(owned)} not connected from their owner "
                           f"(id: connected from, owner): {dict(list(wrong.items())[:5])}")
        return True

    def _all_shown(self):
        must, may = self.expected()
        nodes = self.stage.answering_nodes()
        assert nodes, "no node answers"
        try:
            documents = {one["id"]: one for one in nodes[0].api.clients()}
        except requests.RequestException as error:
            raise AssertionError(str(error)) from error
        missing = must - set(documents)
        assert not missing, f"not listed: {sorted(missing)[:5]}"
        late = {client: documents[client]["status"] for client in may & set(documents)
                if documents[client]["status"]["state"] != "online"}
        assert not late, f"{len(late)} not online, such as {list(late.items())[:2]}"
        for client in may & set(documents):
            self._assert_subscribed(documents[client])
        return True

    @staticmethod
    def _assert_subscribed(document):
        wanted = {row["filter"] for row in document["config"]["subscriptions"]}
        granted = {row["filter"] for row in document["status"]["subscriptions"]
                   if row["granted"] in (0, 1, 2)}
        assert granted == wanted, f"{document['id']} has {granted} instead of {wanted}"

    def _wait_quiet(self):
        def quiet():
            mark = self._main_connects()
            try:
                holds_for(lambda: self._main_connects() == mark, QUIET_S)
                return True
            except AssertionError:
                return False
        wait_until(quiet, 20, "no client connects any more")

    def _main_connects(self):
        watched = self.stage.id_set
        return sum(one.client in watched
                   for one in self.log.poll().connects[self.window.mark:])

    # ---- S1 to S4 --------------------------------------------------------------------------

    def check_s1(self):
        must, may = self.expected()
        watched, self.watch.faults = self.watch.faults, []
        assert not watched, f"{len(watched)} times meanwhile, such as {watched[:3]}"
        shared = check_s1(self.stage.redis.client, beside=self.stage.rubbish)
        there = shared.waiting | shared.owned
        self._assert_none("S1: lost", must - there)
        self._assert_none("S1: appeared", there - may - self.stage.rubbish)
        register = set(shared.register)
        running = {node.name for node in self.stage.nodes if node.running}
        assert running <= register, f"S1: runs and is not registered: {running - register}"
        owners = {client: json.loads(text) for client, text in
                  self.stage.redis.client.hgetall("mqtt_fleet:owner").items()}
        for client, owner in owners.items():
            assert int(owner["epoch"]) >= self.epochs.get(client, 0), (
                f"S2: the epoch of {client} went back from {self.epochs[client]} to {owner}")
            self.epochs[client] = int(owner["epoch"])
        return shared

    def _assert_none(self, what, ids):
        assert not ids, f"{what}: {len(ids)}, such as " + "\n".join(
            self.stage.ledger.story(client) for client in sorted(ids)[:5])

    def connects(self):
        """{id: [node of each connection since begin()]} of the clients under watch."""
        found = collections.defaultdict(list)
        for one in self.log.poll().connects[self.window.mark:]:
            if node := self.stage.node_at(one.address):
                found[one.client].append(node)
        return found

    def check_s2(self, expect=Expect()):
        connects = self.connects()
        for client, nodes in connects.items():
            self._check_one_way(client, nodes, expect)
        watched = {client: nodes for client, nodes in connects.items()
                   if client in self.stage.id_set}
        forced = {node for nodes in watched.values() for node in nodes} & expect.silent_nodes
        assert not forced, f"S2: {forced} opened connections without a lease"
        if expect.moving is not None:
            disturbed = watched.keys() - expect.moving
            assert not disturbed, (f"S2: {len(disturbed)} connected anew without need, such as "
                                   f"{[(one, watched[one]) for one in sorted(disturbed)[:5]]}")
        often = {client: nodes for client, nodes in watched.items()
                 if len(nodes) > expect.connects_max}
        assert not often, (f"S2: {len(often)} connected more than {expect.connects_max} times, "
                           f"such as {list(often.items())[:5]}")

    def _check_one_way(self, client, nodes, expect):
        """The nodes in order; a client never returns to a node that it left."""
        before = self.stage.node_at(self.window.origin.get(client))
        path = [before] if before else []
        for node in nodes:
            if not path or path[-1] != node:
                path.append(node)
        came_back = len(set(path)) != len(path)
        # A restarted process is a different holder, although it has the same address. A client that
        # was deleted and created again may be placed anywhere.
        if came_back and not expect.returning and client in self.stage.id_set:
            raise AssertionError(f"S2: {client} alternated between nodes: {path}")

    def _wait_sink(self, bound_s):
        publisher, sink = self.stage.publisher, self.stage.sink
        if publisher is None:
            return
        goal = publisher.sent
        wait_until(lambda: len(publisher.acknowledged) >= goal, bound_s,
                   "the broker acknowledges what was published")
        wanted = publisher.snapshot()

        def all_there():
            sink.poll()
            missing = wanted - sink.counts.keys()
            assert not missing, (f"S3: {len(missing)} of {len(wanted)} missing, such as "
                                 f"{sorted(missing)[:5]}")
            return True
        wait_until(all_there, bound_s, "S3: all accepted messages in the sink", poll_s=0.1)

    def check_s3(self, expect=Expect()):
        sink = self.stage.sink
        if self.stage.publisher is None:
            return
        twice = sink.poll().take_duplicates()
        if expect.duplicates or self.stage.publisher.take_breaks():
            return
        connected = self.connects().keys()
        unexplained = {payload: client for payload, client in twice if client not in connected}
        assert not unexplained, (f"S3: {len(unexplained)} messages twice although their clients "
                                 f"stayed connected: {list(unexplained.items())[:5]}")

    def check_s4(self):
        faults = self.stage.changes.faults
        assert not faults, f"S4: {len(faults)} impossible answers: {faults[:5]}"
        client = self.stage.redis.bytes_client  # rubbish need not be text
        texts = {key.decode(errors="replace"): value
                 for name in ("mqtt_config:no", "mqtt_config:use")
                 for key, value in client.hgetall(name).items()}
        online = self.log.poll().online
        for one, revisions in self.stage.ledger.all().items():
            actual = ABSENT
            if one in texts:
                actual = int(json.loads(texts[one])["labels"]["revision"])
            assert actual in revisions, (
                f"S4: {one} is at {actual}, may be {revisions}; {self.stage.ledger.story(one)}")
            if actual is ABSENT:
                assert one not in online, (
                    f"S4: deleted and still connected: {self.stage.ledger.story(one)}")
