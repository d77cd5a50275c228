"""Rates that the clients with one label share in the whole fleet: connects, messages, publications."""

import time

import pytest

from fleet.fleet import Fleet
from fleet.operator import metrics
from fleet.wait import wait_until
from test_access import SECRET, make_token, private, problem
from test_cli import Cli

ACME = "label.tenant=acme"
PATIENCE_S = 90


class Tenants:
    """Two nodes; root may do everything, acme has a scope. Clients have the label tenant."""

    def __init__(self, folder):
        self.fleet = Fleet(folder)
        self.tokens, lines = {}, []
        for name, role, scope in (("root", "admin", ""), ("acme", "operator", f" scope={ACME}")):
            self.tokens[name], line = make_token(name, role)
            lines.append(line + scope)
        self.fleet.start_broker(options=["max_inflight_messages 0"])
        self.nodes = self.fleet.start_nodes(2, http__tokens_file=private(folder / "tokens", "\n".join(lines) + "\n"),
                                            fleet__secret_file=private(folder / "secret", SECRET + "\n"))
        for node in self.nodes:
            node.api.use(token=self.tokens["root"])
        self.root = self.nodes[0].api

    def api(self, caller, node=0):
        return type(self.root)(self.nodes[node].port).use(token=self.tokens[caller])

    def create(self, count, prefix, tenant="acme", qos=1, **more):
        def make(client, **fields):
            return self.fleet.persistent(client, labels={"tenant": tenant}, **fields,
                                         subscriptions=[{"filter": f"t/{client}/#", "qos": qos}])
        return self.fleet.create(count, prefix=prefix, make=make, api=self.root, **more)

    def online(self, count, prefix, **more):
        ids = self.create(count, prefix, **more)
        self.fleet.wait_online(ids, PATIENCE_S, api=self.root)
        return ids

    def set(self, nodes=0, **limits):
        """nodes: how many have clients of acme and will know the quota."""
        quotas = {"quotas": [{"scope": ACME, **limits}] if limits else []}
        answer = self.root.put("/api/v1/quotas", quotas)
        assert answer.status_code == 200, answer.text
        for name in limits:
            wait_until(lambda name=name: self.rate(name)["nodes"] == nodes, PATIENCE_S, f"{nodes} nodes know {name}")

    def rate(self, name):
        return self.root.get("/api/v1/quotas").json()["quotas"][0]["rates"][name]

    def nodes_of(self, ids):
        return {client: self.root.client(client)["placement"]["node"] for client in ids}

    def delete(self, ids):
        for client in ids:
            assert self.root.delete(self.root.path(client)).status_code == 204


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    tenants = Tenants(tmp_path_factory.mktemp("tenants"))
    try:
        yield tenants
    finally:
        faults = tenants.fleet.close()
    assert not faults, "\n".join(faults)


@pytest.fixture(autouse=True)
def no_quotas(tenants):
    tenants.set()


def test_messages_of_qos_1_are_slowed_to_the_rate_of_the_fleet_and_nothing_is_lost(tenants):
    ids = tenants.online(4, "slow")
    nodes = tenants.nodes_of(ids)
    assert sorted(nodes.values()) == ["n1", "n1", "n2", "n2"]
    tenants.set(2, messages_per_s=200)
    tenants.fleet.online(1, "free", make=lambda client: tenants.fleet.document(client))
    begun = time.monotonic()
    payloads = [b"%03d" % number for number in range(150)]
    tenants.fleet.broker.publish_all([(f"t/{client}/x", payload) for payload in payloads for client in ids])
    wait_until(lambda: tenants.root.status(ids[0])["over_quota"] == {"quota": "messages_per_s", "scope": ACME},
               PATIENCE_S, "its status names the quota")
    tenants.fleet.broker.publish("t/free00000/x", "at once")
    tenants.fleet.stream.wait_payloads([b"at once"], PATIENCE_S)
    slow = [row for row in tenants.fleet.stream.rows() if row[b"id"].startswith(b"slow")]
    assert len(slow) < 600, "a client without the label does not wait"
    wait_until(lambda: sum(len(tenants.fleet.stream.of(client)) for client in ids) == 600, PATIENCE_S, "all arrive")
    # 600 at 200 a second, of which 200 may come at once: half a second if each node had the whole rate.
    assert time.monotonic() - begun > 1.5
    for client in ids:
        assert [row[b"payload"] for row in tenants.fleet.stream.of(client)] == payloads
        assert tenants.root.status(client)["messages_dropped"] == 0
    rate = wait_until(lambda: (lambda one: one["allowed"] == 600 and one)(tenants.rate("messages_per_s")), PATIENCE_S)
    assert rate["delayed"] > 0 and rate["refused"] == 0
    assert sum(metrics(node)['mqfleet_quota_exceeded_total{quota="messages_per_s"}'] for node in tenants.nodes) > 0

    # Now only one node has messages: it gets more than its half.
    here = next(client for client in ids if nodes[client] == "n1")
    tenants.fleet.broker.publish_all([(f"t/{here}/y", "%04d" % number) for number in range(1200)])
    wait_until(lambda: tenants.rate("messages_per_s")["use"] > 140, PATIENCE_S, "more than half of the rate")
    tenants.set()
    wait_until(lambda: len(tenants.fleet.stream.of(here)) == 1350, PATIENCE_S, "without the quota, the rest arrives")
    wait_until(lambda: tenants.root.status(here)["over_quota"] is None, PATIENCE_S)
    tenants.delete(ids)


def test_messages_of_qos_0_are_dropped_and_counted(tenants):
    ids = tenants.online(2, "drop", qos=0)
    tenants.set(2, messages_per_s=10)
    sent = 0

    def dropped_by(client):
        return tenants.root.status(client)["dropped"]["over_quota"]

    def send(count):
        nonlocal sent
        tenants.fleet.broker.publish_all([(f"t/{client}/x", f"{n}") for n in range(count) for client in ids], qos=0)
        sent += count
        wait_until(lambda: all(tenants.root.status(client)["messages_in"] == sent for client in ids), PATIENCE_S)
        return all(dropped_by(client) > 0 for client in ids)

    # The reports of an earlier test are shown for 10 s: nodes know this quota when they drop.
    wait_until(lambda: send(50), PATIENCE_S, "both nodes drop")
    before = sum(dropped_by(client) for client in ids)
    send(150)
    dropped = sum(dropped_by(client) for client in ids)
    assert dropped == sum(tenants.root.status(client)["messages_dropped"] for client in ids) > before
    wait_until(lambda: sum(len(tenants.fleet.stream.of(client)) for client in ids) == 2 * sent - dropped, PATIENCE_S)
    rate = wait_until(lambda: (lambda one: one["refused"] == dropped and one)(tenants.rate("messages_per_s")), PATIENCE_S,
                      "the quota counts them")
    assert 0 < rate["allowed"] <= 2 * sent - dropped
    mine = tenants.api("acme", 1).get("/api/v1/quotas").json()["quotas"]
    assert [one["rates"]["messages_per_s"]["refused"] for one in mine] == [dropped]
    tenants.delete(ids)


def test_connects_wait_for_the_rate_and_delay_nobody_else(tenants):
    before = tenants.online(2, "early")
    tenants.set(2, connects_per_s=1)
    ids = tenants.create(24, "knock")
    held = wait_until(lambda: [client for client in ids if tenants.root.status(client).get("over_quota")], PATIENCE_S)
    status = tenants.root.status(held[-1])
    if status["over_quota"]: # otherwise it has just connected
        assert status["over_quota"] == {"quota": "connects_per_s", "scope": ACME}
        assert status["state"] == "connecting" and status["last_error"] is None
    tenants.online(4, "other", tenant="globex")
    for client in ids[12:]:
        assert tenants.root.patch(tenants.root.path(client), {"labels": {"tenant": "globex"}}).status_code == 200
    tenants.fleet.wait_online(ids[12:], PATIENCE_S, api=tenants.root)
    late = [one for one in tenants.root.clients(id_prefix="knock") if one["status"]["state"] != "online"]
    assert len(late) > 2, "with another label, they wait no longer for the quota"
    wait_until(lambda: tenants.rate("connects_per_s")["allowed"] >= 6, PATIENCE_S, "they connect one after another")
    tenants.set()
    tenants.fleet.wait_online(ids, PATIENCE_S, api=tenants.root)
    tenants.delete(ids + before)


def test_publications_beyond_the_rate_are_refused_by_the_name_of_the_quota(tenants):
    [client] = tenants.online(1, "talk")
    tenants.set(1, publications_per_s=1)
    for node in range(2): # its own node and the other one
        api = tenants.api("acme", node)
        [refused] = wait_until(lambda: [one for one in (api.publish(client, "t/a", "x"),) if one.status_code == 429],
                               PATIENCE_S, "one of many is refused", poll_s=0.01)
        assert problem(refused, 429, "rate-quota").json()["quota"] == "publications_per_s"
        assert refused.json()["scope"] == ACME and f"publications_per_s of {ACME}" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        wait_until(lambda: api.publish(client, "t/a", "x").status_code == 200, PATIENCE_S, "and one passes later")
    wait_until(lambda: tenants.rate("publications_per_s")["refused"] > 0, PATIENCE_S)
    tenants.delete([client])


def test_a_quota_that_is_wrong_is_refused_with_what_would_be_right(tenants):
    for quota, pointer in (({"scope": ACME}, "/quotas/0"), ({"scope": ACME, "messages_per_s": 0}, "/quotas/0/messages_per_s"),
                           ({"scope": ACME, "connects_per_s": 1.5}, "/quotas/0/connects_per_s"),
                           ({"scope": ACME, "clients": 1, "bytes_per_s": 5}, "/quotas/0")):
        refused = problem(tenants.root.put("/api/v1/quotas", {"quotas": [quota]}), 422, "invalid")
        assert refused.json()["errors"][0]["pointer"] == pointer
    several = [{"scope": ACME, "clients": -1}, {"scope": ACME, "clients": 1}, {"scope": ACME, "clients": 2}, {"scope": "x"}]
    refused = problem(tenants.root.put("/api/v1/quotas", {"quotas": several}), 422, "invalid")
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/quotas/0/clients", "/quotas/2/scope", "/quotas/3/scope"]


def test_the_command_line_lists_sets_and_deletes_quotas(tenants):
    cli = Cli(tenants.nodes[1], MQFLEET_TOKEN=tenants.tokens["root"])
    cli.good("quotas", "set", "label.tenant=globex", "clients=5")
    assert "0/7" in cli.good("quotas", "set", ACME, "clients=7", "messages=100")
    cli.good("quotas", "set", ACME, "clients=", "connects=3")
    rows = cli.json("quotas")["quotas"]
    assert [(one["scope"], one.get("clients"), one.get("connects_per_s"), one.get("messages_per_s")) for one in rows] == [
        ("label.tenant=globex", 5, None, None), (ACME, None, 3, 100)]
    assert cli.good("quotas", "-o", "id").split() == ["label.tenant=globex", ACME]
    assert "messages=N" in cli.fails(2, "quotas", "set", ACME, "bytes=3")
    cli.fails(6, "quotas", "set", ACME, "connects=", "messages=") # nothing is left
    cli.fails(1, "quotas", "delete", "label.tenant=nobody", "--yes")
    assert ACME not in cli.good("quotas", "delete", ACME, "--yes")
    scoped = Cli(tenants.nodes[1], MQFLEET_TOKEN=tenants.tokens["acme"])
    assert scoped.json("quotas")["quotas"] == []
    scoped.fails(4, "quotas", "set", ACME, "clients=9")
