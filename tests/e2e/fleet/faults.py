"""The faults to survive. Each is a generator: it causes a fault, and yields the permitted consequences
whenever the fleet must have settled; the checker then verifies. Tests run them one by one; tools/chaos
selects them at random.

    def fault(stage, rng):
        ... break something, and heal it ...
        yield Expect(...)
"""

import contextlib
import json
import threading
import time

from .checker import Expect
from .mqtt_client import new_client
from .wait import holds_for, wait_until
from .wire import BROKEN, CUT, Unlucky

FAULTS = {}  # name: Fault, those that can be drawn


class Row:
    def __init__(self, function, name, needs, weight):
        self.function, self.name, self.needs, self.weight = function, name, needs, weight

    def __call__(self, stage, rng):
        return self.function(stage, rng)


def fault(name, needs=(), weight=1):
    """needs: of 'wires', 'file sink', 'three nodes'."""
    def enter(function):
        FAULTS[name] = Row(function, name, frozenset(needs), weight)
        return function
    return enter


# ---- helpers --------------------------------------------------------------------------------

def wait_moved(stage, moving, away_from, bound_s=30):
    """All of `moving` are connected from a node other than `away_from`."""
    def moved():
        online = stage.broker_log.poll().online
        left = {client for client in moving
                if stage.node_at(online.get(client)) in (None, away_from.name)}
        assert not left, f"{len(left)} of {len(moving)}, such as {sorted(left)[:5]}"
        return True
    wait_until(moved, bound_s, f"the clients of {away_from.name} run elsewhere")


def wait_joined_anew(stage, node, before, bound_s=30):
    wait_until(lambda: stage.incarnation(node) not in (None, before), bound_s,
               f"{node.name} joined anew")
    wait_until(node.ready, 20, f"{node.name} is ready")


def opens_nothing(stage, node, duration_s):
    """Asserts that the node connects no client for that long."""
    mark = stage.broker_log.mark()
    holds_for(lambda: not any(one.address == node.address
                              for one in stage.broker_log.poll().connects[mark:]),
              duration_s, f"{node.name} opens no connection")


def assert_unfenced(stage, before):
    after = stage.incarnations()
    assert after == before, f"a node was declared dead: {before} became {after}"


def wait_beats(stage, bound_s=30):
    """Every running node answers and has a heartbeat."""
    def all_beat():
        names = [node.name for node in stage.nodes if node.running]
        return all(stage.redis.client.exists(f"beat:mqtt:{name}") for name in names)
    wait_until(lambda: all(node.ready() for node in stage.nodes if node.running), bound_s,
               "all nodes are ready")
    wait_until(all_beat, bound_s, "all nodes beat")


def running(stage):
    return [node for node in stage.nodes if node.running]


def victim(stage, rng):
    """A running node that has clients."""
    return rng.choice([node for node in running(stage) if stage.clients_of(node)])


# ---- nodes ----------------------------------------------------------------------------------

@fault("kill -9 of a node", weight=3)
def kill_node(stage, rng):
    node = victim(stage, rng)
    moving = stage.clients_of(node)
    node.kill()
    yield Expect(moving=moving, silent_nodes={node.name})
    wait_until(lambda: node.name not in stage.shared().register, 20, f"{node.name} is reaped")
    node.start()
    yield Expect()


@fault("kill -9 of the leader", weight=2)
def kill_leader(stage, _rng):
    node = stage.leader()
    moving = stage.clients_of(node)
    node.kill()
    yield Expect(moving=moving, silent_nodes={node.name})
    node.start()
    yield Expect()


@fault("kill -9 of two nodes", needs=["three nodes"])
def kill_two_nodes(stage, rng):
    """More than a third at once: the brake applies for mass_death_wait_ms, then everything recovers."""
    first, second = rng.sample(running(stage), 2)
    moving = stage.clients_of(first) | stage.clients_of(second)
    first.kill()
    second.kill()
    yield Expect(moving=moving, bound_s=45, silent_nodes={first.name, second.name})
    first.start()
    second.start()
    yield Expect()


@fault("restart before the beat expired", weight=2)
def restart_at_once(stage, rng):
    node = victim(stage, rng)
    moving, before = stage.clients_of(node), stage.incarnation(node)
    # A heartbeat that has just been sent, so that it lasts longer than the start of the new
    # process.
    wait_until(lambda: stage.redis.client.pttl(f"beat:mqtt:{node.name}") > 1000, 5, "a fresh beat")
    node.kill()
    node.start()
    wait_joined_anew(stage, node, before)
    yield Expect(moving=moving)


@fault("restart after the beat expired", weight=2)
def restart_after_expiry(stage, rng):
    node = victim(stage, rng)
    moving, before = stage.clients_of(node), stage.incarnation(node)
    node.kill()
    wait_until(lambda: not stage.redis.client.exists(f"beat:mqtt:{node.name}"), 5, "no beat")
    node.start()
    wait_joined_anew(stage, node, before)
    yield Expect(moving=moving)


@fault("SIGSTOP 10 s, then SIGCONT", weight=2)
def sleep_node(stage, rng):
    node = victim(stage, rng)
    moving, before = stage.clients_of(node), stage.incarnation(node)
    node.sleep()
    until = time.monotonic() + 10
    wait_moved(stage, moving, node)
    opens_nothing(stage, node, max(0.0, until - time.monotonic()))
    node.wake()
    wait_joined_anew(stage, node, before)
    # No ping-pong: it opens nothing, and no client connects a second time.
    yield Expect(moving=moving, silent_nodes={node.name})


@fault("SIGSTOP for less than the grace")
def nap_node(stage, rng):
    """A node with a missing heartbeat is a suspect, not dead."""
    node, before = victim(stage, rng), stage.incarnations()
    node.sleep()
    holds_for(lambda: True, 0.3 + rng.random())
    node.wake()
    wait_beats(stage)
    assert_unfenced(stage, before)
    yield Expect()


@fault("graceful stop and start")
def stop_node(stage, rng):
    node = victim(stage, rng)
    moving = stage.clients_of(node)
    assert node.terminate() == 0
    assert node.name not in stage.shared().register
    yield Expect(moving=moving, bound_s=15)
    node.start()
    yield Expect()


@fault("drained, then undrained", weight=3)
def drain_node(stage, _rng):
    """Selects the fullest node, so that a long run does not end with all clients on few nodes."""
    node = max(running(stage), key=lambda node: len(stage.clients_of(node)))
    moving = stage.clients_of(node)
    asked = next(one for one in running(stage) if one is not node)
    for verb in ("drain", "undrain"):
        answer = asked.api.post(f"/api/v1/nodes/{node.name}/{verb}")
        assert answer.status_code in (200, 202), f"{verb}: {answer.status_code} {answer.text}"
        if verb == "drain":
            # Not merely released: clients that wait when it is undrained may return to it.
            wait_moved(stage, moving, node, 40)
    yield Expect(moving=moving, silent_nodes={node.name})


def cut_from_redis(how):
    def cut(stage, rng):
        node = victim(stage, rng)
        moving, before = stage.clients_of(node), stage.incarnation(node)
        node.wire.set(how)
        wait_moved(stage, moving, node)
        opens_nothing(stage, node, 2)
        assert node.alive() and not node.ready()
        node.wire.heal()
        wait_joined_anew(stage, node, before)
        yield Expect(moving=moving, silent_nodes={node.name})
    return cut


CUTS = {how: cut_from_redis(how) for how in BROKEN}
for _how, _function in CUTS.items():
    fault(f"node cut from Redis, {_how}", needs=["wires"], weight=2)(_function)


@fault("connections to Redis reset")
def reset_redis_connections(stage, rng):
    """Closed by Redis, one after another: at worst a call fails, never a client."""
    before = stage.incarnations()
    until = time.monotonic() + 2
    while time.monotonic() < until:
        stage.redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        holds_for(lambda: True, 0.02 + 0.3 * rng.random())
    wait_beats(stage)
    assert_unfenced(stage, before)
    yield Expect(duplicates=True)


# ---- Redis ----------------------------------------------------------------------------------

def redis_is_away(stage, rng, away, back, duration_s):
    """Clients stay connected, and nothing is reaped in the first moments."""
    before = stage.incarnations()
    mark = stage.broker_log.mark()
    away()
    holds_for(lambda: not moved_since(stage, mark), duration_s, "all stay connected")
    back()
    wait_beats(stage)
    assert_unfenced(stage, before)
    yield Expect(duplicates=True)


def moved_since(stage, mark):
    return any(one.client in stage.id_set for one in stage.broker_log.poll().connects[mark:])


@fault("Redis restarted with its append-only file")
def restart_redis(stage, rng):
    yield from redis_is_away(stage, rng, stage.redis.terminate, stage.redis.start, 0)


@fault("Redis killed and started with its append-only file")
def kill_redis(stage, rng):
    yield from redis_is_away(stage, rng, stage.redis.kill, stage.redis.start, 0)


@fault("Redis stopped for 10 s")
def stop_redis(stage, rng):
    yield from redis_is_away(stage, rng, stage.redis.terminate, stage.redis.start, 10)


@fault("Redis frozen for 10 s")
def freeze_redis(stage, rng):
    yield from redis_is_away(stage, rng, stage.redis.pause, stage.redis.resume, 10)


def redis_loses_everything(stage, lose):
    """Running clients are restored where they run. No client is waiting at that moment, because waiting clients
    are lost with the data."""
    stage.changes.pause()
    stage.checker.wait_online(30)
    before, places = stage.incarnations(), stage.shared().bound
    stage.checker.watch.data_lost = True
    lose()
    wait_until(lambda: stage.incarnations() == before, 20, "all nodes registered again")
    yield Expect(duplicates=True)
    stage.checker.watch.data_lost = False
    after = stage.shared().bound
    changed = {name for name in places if set(places[name]) & stage.id_set
               != set(after.get(name, [])) & stage.id_set}
    assert not changed, f"clients were restored to another node than they ran on: {changed}"


@fault("FLUSHALL", needs=["file sink"])
def flush_redis(stage, _rng):
    yield from redis_loses_everything(stage, stage.redis.client.flushall)


@fault("Redis restarted empty", needs=["file sink"])
def empty_redis(stage, _rng):
    def lose():
        stage.redis.kill()
        stage.redis.lose_files()
        stage.redis.start()
    yield from redis_loses_everything(stage, lose)


@fault("Redis stalls (DEBUG SLEEP 3)")
def stall_redis(stage, _rng):
    before = stage.incarnations()
    stage.redis.client.execute_command("DEBUG", "SLEEP", "3")
    wait_beats(stage)
    holds_for(lambda: True, 2)  # a judgement on stale evidence would come now
    assert_unfenced(stage, before)
    yield Expect(duplicates=True)


def jump_clock(seconds):
    def jump(stage, _rng):
        before = stage.incarnations()
        stage.redis.shift_clock(seconds)
        wait_beats(stage)
        holds_for(lambda: True, 3)  # longer than a suspicion takes to become a judgement
        assert_unfenced(stage, before)
        yield Expect()
    return jump


@fault("Redis's clock jumps")
def jump_redis_clock(stage, rng):
    yield from jump_clock(rng.choice([-3600, -60, -5, 5, 60, 3600]))(stage, rng)


# ---- brokers --------------------------------------------------------------------------------

def broker_away(stage, away, back, connects_max, bound_s):
    before = stage.incarnations()
    away()
    back()
    yield Expect(moving=None, connects_max=connects_max, bound_s=bound_s, duplicates=True)
    assert_unfenced(stage, before)


@fault("broker restarted")
def restart_broker(stage, _rng):
    yield from broker_away(stage, stage.broker.terminate, stage.broker.start, 2, 60)


@fault("broker killed")
def kill_broker(stage, _rng):
    """Its sessions are written when it stops, so a message may be lost with it: the numbered ones
    pause."""
    with stage.publisher.paused():
        stage.broker.signal(10)  # SIGUSR1: writes its sessions now
        holds_for(lambda: True, 0.5)
        yield from broker_away(stage, stage.broker.kill, stage.broker.start, 2, 60)


@fault("broker frozen for 5 s")
def freeze_broker(stage, _rng):
    """It accepts TCP and never answers."""
    def away():
        stage.broker.pause()
        holds_for(lambda: True, 5)
    yield from broker_away(stage, away, stage.broker.resume, 5, 60)


@contextlib.contextmanager
def foreign_client(stage, client):
    """A foreign client uses the identifier, and takes it back at once after each loss."""
    foreign = new_client(client)
    foreign.reconnect_delay_set(min_delay=0.1, max_delay=0.1)
    foreign.connect("127.0.0.1", stage.broker.port)
    foreign.loop_start()
    try:
        yield foreign
    finally:
        foreign.disconnect()
        foreign.loop_stop()


# ---- leaders and transitions ----------------------------------------------------------------

class CrownFlipper:
    """Writes another leader into Redis again and again, so that two lead at the same moments."""

    def __init__(self, stage, interval_s=0.1):
        self._stage, self._interval_s = stage, interval_s
        self.flips = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()

    def wait_next(self):
        flips = self.flips
        wait_until(lambda: self.flips > flips, 10, "the leader is another", poll_s=0.005)

    def _run(self):
        while not self._stopping.wait(self._interval_s):
            entries = sorted(self._stage.incarnations().items())
            if entries:
                name, incarnation = entries[self.flips % len(entries)]
                self._stage.redis.client.set("mqtt_fleet:leader", json.dumps(
                    {"node": name, "incarnation": incarnation}), px=1500)
                self.flips += 1


@fault("two leaders while a node dies", needs=["three nodes"])
def two_leaders(stage, rng):
    node = victim(stage, rng)
    moving = stage.clients_of(node)
    with CrownFlipper(stage) as flipper:
        node.kill()
        wait_moved(stage, moving, node, 45)
    assert flipper.flips > 10
    yield Expect(moving=moving, silent_nodes={node.name})
    node.start()
    yield Expect()


@fault("replies of scripts lost", needs=["wires"], weight=2)
def lose_replies(stage, rng):
    """About one reply of each script in three is lost, for some seconds, while a node dies and returns."""
    node = victim(stage, rng)
    moving = stage.clients_of(node)
    for one in running(stage):
        one.wire.lose = Unlucky(rng, 0.5, str.islower)
    try:
        node.kill()
        wait_moved(stage, moving, node, 45)
        node.start()
        wait_until(node.ready, 20)
    finally:
        for one in stage.nodes:
            one.wire.lose = None
    yield Expect(moving=moving, duplicates=True)


# ---- several at once ------------------------------------------------------------------------

class Storm:
    """Faults at random moments, each repaired some time later, in parallel to others."""

    def __init__(self, stage, rng):
        self.stage, self.rng = stage, rng
        self._undo = []  # (when, function)

    def run(self, duration_s, actions):
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            self.rng.choice(actions)(self)
            next_s = time.monotonic() + self.rng.uniform(0.1, 1.2)
            while time.monotonic() < next_s:
                self.undo_due()
                time.sleep(0.01)
        self.undo_all()

    def later(self, least_s, most_s, function):
        self._undo.append((time.monotonic() + self.rng.uniform(least_s, most_s), function))

    def undo_due(self):
        for when, function in [one for one in self._undo if one[0] <= time.monotonic()]:
            self._undo.remove((when, function))
            function()

    def undo_all(self):
        while self._undo:
            self.undo_due()
            time.sleep(0.01)

    def node(self):
        """A node that runs and is not suspended, or None."""
        nodes = [node for node in running(self.stage) if not node.asleep]
        return self.rng.choice(nodes) if nodes else None

    # what it does

    def kill(self):
        if node := self.node():
            node.kill()
            self.later(0, 5, lambda: node.start(wait=False))

    def sleep(self):
        if node := self.node():
            node.sleep()
            self.later(0.1, 7, node.wake)

    def cut(self):
        if node := self.node():
            node.wire.set(self.rng.choice(BROKEN))
            self.later(0.1, 7, node.wire.heal)

    def reset(self):
        if node := self.node():
            node.wire.set(CUT)
            self.later(0.03, 0.1, node.wire.heal)

    def freeze_redis(self):
        self.stage.redis.pause()
        self.later(0.1, 4, self.stage.redis.resume)

    def freeze_broker(self):
        self.stage.broker.pause()
        self.later(0.1, 2, self.stage.broker.resume)


def storm(name, weight, *actions):
    def run(stage, rng):
        Storm(stage, rng).run(8, actions)
        for node in stage.nodes:
            wait_until(node.ready, 40, f"{node.name} is ready")
        yield Expect(moving=None, connects_max=12, bound_s=60, duplicates=True, returning=True)
    fault(name, needs=["wires"], weight=weight)(run)
    return run


storm_of_nodes = storm("storm of nodes", 3, Storm.kill, Storm.sleep)
storm_of_wires = storm("storm of wires", 2, Storm.cut, Storm.reset)
storm_of_everything = storm("storm of everything", 4, Storm.kill, Storm.sleep, Storm.cut,
                            Storm.reset, Storm.freeze_redis, Storm.freeze_broker)
