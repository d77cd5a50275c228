"""Invariant S1 of docs/protocol.md, read from Redis in one step."""

import json

# One script, so that nothing changes during the read.
READ_ALL = """
local lists, sizes = {}, {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. 'node_bind:*')) do
    table.insert(lists, {key, redis.call('LRANGE', key, 0, -1)})
end
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. 'mqtt_size:*')) do
    table.insert(sizes, {key, redis.call('GET', key)})
end
return {
    redis.call('HKEYS', ARGV[1] .. 'mqtt_config:no'),
    redis.call('HKEYS', ARGV[1] .. 'mqtt_config:use'),
    redis.call('HGETALL', ARGV[1] .. 'mqtt_fleet:owner'),
    redis.call('HGETALL', ARGV[1] .. 'register:mqtt'),
    lists, sizes}
"""


class Shared:
    """The shared state at one moment."""

    def __init__(self, client, prefix=""):
        no, use, owner, register, lists, sizes = client.eval(READ_ALL, 0, prefix)
        self.waiting = set(no)
        self.owned = set(use)
        self.owner = {key: json.loads(value)["node"] for key, value in _pairs(owner)}
        self.register = {key: json.loads(value) for key, value in _pairs(register)}
        self.bound = {key[len(prefix + "node_bind:"):]: ids for key, ids in lists}
        self.sizes = {key[len(prefix + "mqtt_size:"):]: int(size) for key, size in sizes}
        self._client, self._prefix = client, prefix

    def facts(self, node):
        """The facts of a node's last heartbeat."""
        return json.loads(self._client.get(f"{self._prefix}mqtt_fleet:facts:{node}") or "null")

    def unplaced(self):
        """{why: waiting clients} as the leader counted them; None: it did not within 5 s."""
        return json.loads(self._client.get(f"{self._prefix}mqtt_fleet:unplaced") or "null")

    def counts(self):
        """{node: ids it owns} of all registered nodes."""
        return {name: len(self.bound.get(name, [])) for name in self.register}


def _pairs(flat):
    return zip(flat[::2], flat[1::2])


def check_s1(client, ids=None, prefix="", beside=frozenset()):
    """Every id is in exactly one of `no` and `use`; if in `use`, in exactly one list, that of its
    owner; each counter equals its list's length. ids: all there must be, None: not judged; beside:
    ids that were put there by hand, and are not judged."""
    shared = Shared(client, prefix)
    both = (shared.waiting & shared.owned) - beside
    assert not both, f"S1: in both hashes: {sorted(both)[:5]}"
    places = {}
    for node, bound in shared.bound.items():
        for one in bound:
            places.setdefault(one, []).append(node)
    for one in shared.owned - beside:
        assert len(places.get(one, [])) == 1, f"S1: {one} is in the lists {places.get(one)}"
        assert shared.owner.get(one) == places[one][0], (
            f"S1: {one} is bound to {places[one][0]}, its owner is {shared.owner.get(one)}")
    stray = set(places) - shared.owned - beside
    assert not stray, f"S1: in a list and not owned: {sorted(stray)[:5]}"
    for node in set(shared.bound) | set(shared.sizes):
        size, length = shared.sizes.get(node, 0), len(shared.bound.get(node, []))
        assert size == length, f"S1: mqtt_size:{node} is {size}, its list has {length}"
    if ids is not None:
        missing = set(ids) - shared.waiting - shared.owned
        assert not missing, f"S1: lost: {sorted(missing)[:5]}"
        more = (shared.waiting | shared.owned) - set(ids)
        assert not more, f"S1: appeared: {sorted(more)[:5]}"
    return shared
