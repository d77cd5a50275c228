"""Brokers that refuse subscriptions in different ways, and the consequences (cases B1 to B7)."""

import time

import pytest

from fleet.cloud import CloudBroker, like_aws_iot
from fleet.packets import SUBSCRIBE, UNSUBSCRIBE
from fleet.ports import free_port
from fleet.sse import EventReader
from fleet.wait import holds_for, wait_until

pytestmark = pytest.mark.every_engine

both_versions = pytest.mark.parametrize("version", [4, 5])

QUICK = {"reconnect_min_ms": 20, "reconnect_max_ms": 400, "connect_timeout_ms": 3000}


def filters(n):
    return [f"s/{number}" for number in range(n)]


def start(fleet, broker, names, version=5, kept=False, settings=(), **more):
    """A client of that broker, on a node of its own."""
    fleet.start_node(**{**QUICK, **dict(settings)})
    session = {"clean_start": False, **({"session_expiry_s": 3600} if version == 5 else {})}
    fleet.api.create(fleet.document(
        "c", url=broker.url, protocol_version=version, **(session if kept else {}),
        subscriptions=[name if isinstance(name, dict) else {"filter": name, "qos": 1}
                       for name in names], **more))


def refused(fleet, client="c"):
    status = fleet.api.status(client)
    return {row["filter"]: row for row in status["refused_filters"]}


def sizes(broker):
    return [[len(packet.filters) for packet in one.kinds(SUBSCRIBE)] for one in broker.of("c")]


def granted(fleet):
    return {row["filter"]: row["granted"] for row in fleet.api.status("c")["subscriptions"]}


def degraded_count(fleet):
    lines = fleet.api.get("/metrics").text.splitlines()
    return next(int(line.split()[1]) for line in lines
                if line.startswith("mqfleet_clients_degraded "))


# ---- B1: limits of filters -----------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("count", [20, 64, 65, 1000])
def test_case_B1_a_broker_that_takes_few_filters_at_once_gets_few(fleet, version, kept, count):
    broker = fleet.closing(CloudBroker(filters_max=8))
    start(fleet, broker, filters(count), version, kept)
    fleet.api.wait_state("c", "online")
    assert broker.subscribed("c") == set(filters(count))
    seen = sizes(broker)
    assert len(seen) <= 5, seen  # 64, 32, 16, 8
    assert all(second <= max(1, first // 2) for first, second in
               zip([one[0] for one in seen], [one[0] for one in seen[1:]])), seen
    status = fleet.api.status("c")
    assert not status["degraded"] and status["refused_filters"] == []
    # The working number is remembered.
    broker.drop("c")
    wait_until(lambda: len(broker.of("c")) > len(seen), 10, "connected anew")
    fleet.api.wait_state("c", "online")
    assert len(broker.of("c")) == len(seen) + 1
    assert max(sizes(broker)[-1], default=0) <= 8


@both_versions
@pytest.mark.parametrize("kept", [False, True])
def test_case_B1_a_broker_that_takes_few_filters_on_a_connection_keeps_those(fleet, version, kept):
    broker = fleet.closing(like_aws_iot())
    start(fleet, broker, filters(60), version, kept)
    fleet.api.wait_state("c", "online")
    status = wait_until(lambda: fleet.api.status("c")["degraded"] and fleet.api.status("c"), 5,
                        "degraded")
    assert len(broker.subscribed("c")) == 50
    assert len(status["refused_filters"]) == 10
    assert len(broker.of("c")) <= 24
    assert "this many filters" in status["refused_filters"][0]["message"]


# ---- B2: bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 200])
def test_case_B2_no_packet_is_larger_than_the_broker_takes(fleet, count):
    broker = fleet.closing(CloudBroker(connack_properties={"maximum_packet_size": 1024},
                                       packet_bytes_max=1024))
    names = [f"plant/line-{number:03}/station/temperature" for number in range(count)]
    too_long = "x" * 1100
    start(fleet, broker, [too_long, *names])
    fleet.api.wait_state("c", "online")
    assert broker.subscribed("c") == set(names)
    assert len(broker.of("c")) == 1 and broker.faults == []
    assert set(refused(fleet)) == {too_long}
    assert "largest packet" in refused(fleet)[too_long]["message"]
    # To be unsubscribed they have to fit as well.
    document = fleet.document("c", url=broker.url, protocol_version=5, subscriptions=["last"])
    assert fleet.api.put(fleet.api.path("c"), document).status_code == 200
    wait_until(lambda: broker.subscribed("c") == {"last"}, 10, "unsubscribed")
    assert len(broker.of("c")) == 1
    assert len(broker.packets("c", UNSUBSCRIBE)) > (count > 1)


# ---- B3: filters that end the connection ---------------------------------------------------------


@pytest.mark.parametrize("version, kept", [(4, True), (5, False)])
@pytest.mark.parametrize("bad", [[0], [19], [7], [3, 4], [0, 19]])
def test_case_B3_a_filter_that_ends_the_connection_is_named(fleet, version, kept, bad):
    names = filters(20)
    bad = {names[number] for number in bad}
    broker = fleet.closing(CloudBroker(bad_filters=bad))
    start(fleet, broker, names, version, kept, settings={"reconnect_max_ms": 60000})
    fleet.api.wait_state("c", "online", bound_s=20)
    assert broker.subscribed("c") == set(names) - bad
    assert set(refused(fleet)) == bad
    assert all("ends the connection" in row["message"] and row["code"] is None
               for row in refused(fleet).values())
    status = fleet.api.status("c")
    assert status["degraded"] and status["last_error"]["code"] == "subscription_refused"
    assert any(name in status["last_error"]["message"] for name in bad)
    assert {name for name, code in granted(fleet).items() if code is None} == bad
    assert len(broker.of("c")) <= 9 * len(bad)
    # No filter is refused without cause: each ended two connections. (Paho sends each alone in
    # 3.1.1.)
    for name in bad if (fleet.engine, version) != ("paho", 4) else ():
        alone = [one for one in broker.packets("c", SUBSCRIBE)
                 if [row[0] for row in one.filters] == [name]]
        assert len(alone) == 2, name
    # It may be good one day.
    connections = len(broker.of("c"))
    broker.bad_filters = ()
    assert fleet.api.post(fleet.api.path("c", "restart")).status_code in (200, 202)
    wait_until(lambda: broker.subscribed("c") == set(names), 20, "subscribed")
    wait_until(lambda: not fleet.api.status("c")["degraded"], 20, "healthy")
    assert len(broker.of("c")) == connections + 1


def test_case_B3_a_named_filter_is_tried_last_and_ever_more_seldom(fleet):
    names = filters(20)
    broker = fleet.closing(CloudBroker(bad_filters={names[7]}))
    start(fleet, broker, names, settings={"reconnect_max_ms": 1000})
    fleet.api.wait_state("c", "online")
    before = len(broker.of("c"))
    wait_until(lambda: len(broker.of("c")) >= before + 2, 20, "tried again twice")
    tries = [packet.at for packet in broker.packets("c", SUBSCRIBE)
             if [row[0] for row in packet.filters] == [names[7]]][2:]
    assert tries[1] - tries[0] >= 1.5, tries  # 2 s, after 1 s
    last = [packet.filters for packet in broker.of("c")[before - 1].kinds(SUBSCRIBE)][-1]
    assert [row[0] for row in last] == [names[7]]
    fleet.api.wait_state("c", "online")
    assert set(refused(fleet)) == {names[7]}


def test_case_B3_one_bad_filter_of_a_thousand_takes_few_connections(fleet):
    names = filters(1000)
    broker = fleet.closing(CloudBroker(bad_filters={names[500]}))
    start(fleet, broker, names, settings={"reconnect_max_ms": 60000})
    fleet.api.wait_state("c", "online", bound_s=20)
    assert broker.subscribed("c") == set(names) - {names[500]}
    assert len(broker.of("c")) <= 10


def test_case_B3_a_filter_that_is_granted_and_ends_the_connection_later_stays_refused(fleet):
    names = filters(20)
    broker = fleet.closing(CloudBroker(bad_filters={names[7]}))
    start(fleet, broker, names, settings={"reconnect_max_ms": 60000})
    fleet.api.wait_state("c", "online")
    broker.bad_filters = ()
    fleet.api.post(fleet.api.path("c", "restart"))
    wait_until(lambda: names[7] in broker.subscribed("c"), 10, "granted")
    broker.drop("c")
    connections = len(broker.of("c"))
    wait_until(lambda: len(broker.of("c")) > connections, 10, "connected anew")
    fleet.api.wait_state("c", "online")
    assert set(refused(fleet)) == {names[7]}
    assert broker.subscribed("c") == set(names) - {names[7]}


def test_case_B3_the_list_may_change_meanwhile(fleet):
    names = filters(20)
    broker = fleet.closing(CloudBroker(bad_filters={names[7]}, filters_max=8))
    start(fleet, broker, names, settings={"reconnect_min_ms": 300, "reconnect_max_ms": 60000})
    wait_until(lambda: len(broker.of("c")) >= 3, 10, "halving")
    more = [*names[5:], *(f"more/{number}" for number in range(70))]
    document = fleet.document("c", url=broker.url, protocol_version=5, subscriptions=more)
    assert fleet.api.put(fleet.api.path("c"), document).status_code == 200
    fleet.api.wait_state("c", "online", bound_s=30)
    wait_until(lambda: broker.subscribed("c") == set(more) - {names[7]}, 20, "all the others")
    assert set(refused(fleet)) == {names[7]}


def test_case_B3_a_suback_that_never_comes_is_like_a_loss(fleet):
    broker = fleet.closing(CloudBroker(suback_held=True))
    start(fleet, broker, filters(4), settings={"connect_timeout_ms": 1000})
    wait_until(lambda: len(broker.of("c")) >= 3, 20, "tried again")
    broker.suback_held = False
    fleet.api.wait_state("c", "online", bound_s=20)
    assert sizes(broker)[0] == [4] and max(sizes(broker)[1]) <= 2
    assert broker.subscribed("c") == set(filters(4))


@both_versions
@pytest.mark.parametrize("answer, bad", [({"one_code": True}, set()),
                                         ({"filter_codes": {"s/2": 3}}, {"s/2"}),
                                         ({"filter_codes": {"s/2": 0x95}}, {"s/2"})])
def test_case_B3_a_suback_that_does_not_fit_takes_no_client_offline(fleet, version, answer, bad):
    """Some brokers answer a SUBSCRIBE of several filters with one code, or with codes of their own."""
    broker = fleet.closing(CloudBroker(**answer))
    start(fleet, broker, filters(4), version)
    fleet.api.wait_state("c", "online", bound_s=30)
    wait_until(lambda: set(refused(fleet)) == bad, 10, "told")
    assert {name for name, code in granted(fleet).items() if code == 1} == set(filters(4)) - bad


@both_versions
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("spreads", [False, True])
def test_case_B3_a_broker_that_refuses_and_closes_is_no_rival(fleet, version, kept, spreads):
    bad = {"s/2": 0x87, "s/7": 0x87}
    broker = fleet.closing(CloudBroker(filter_codes=bad, refusal_closes=True,
                                       refusal_spreads=spreads))
    start(fleet, broker, filters(9), version, kept)
    wait_until(lambda: set(refused(fleet)) == set(bad), 20, "found")
    fleet.api.wait_state("c", "online", bound_s=20)
    assert broker.subscribed("c") == set(filters(9)) - set(bad)
    message = fleet.api.status("c")["last_error"]["message"]
    assert any(name in message for name in bad) and "refused" in message, message
    connections = len(broker.of("c"))
    wait_until(lambda: len(broker.of("c")) > connections, 60, "the refused are tried now and then")
    fleet.api.wait_state("c", "online", bound_s=20)
    assert "to=conflict" not in "".join(log for _, log in fleet.logs())


@both_versions
def test_case_B3_a_broker_that_refuses_and_closes_a_moment_later(fleet, version):
    """By then, all filters have been requested."""
    bad = {name: 0x87 for name in ("s/2", "s/3", "s/7")}
    broker = fleet.closing(CloudBroker(filter_codes=bad, refusal_closes=True, breaks_after_s=0.2))
    start(fleet, broker, filters(9), version)
    wait_until(lambda: fleet.api.status("c")["state"] == "online"
               and set(refused(fleet)) == set(bad), 30, "found")
    wait_until(lambda: holds_for(lambda: fleet.api.status("c")["state"] == "online", 1) is None, 20,
               "stays")
    assert len(broker.of("c")) <= 12


def test_case_B3_a_broker_that_refuses_and_closes_for_a_client_that_waits_long(fleet):
    """The broker judges long after the SUBACK."""
    broker = fleet.closing(CloudBroker(filter_codes={"s/2": 0x87}, refusal_closes=True))
    start(fleet, broker, filters(3), reconnect_min_ms=2500, reconnect_max_ms=60000)
    wait_until(lambda: len(broker.of("c")) == 2, 20, "tried again")
    fleet.api.wait_state("c", "online", bound_s=20)
    holds_for(lambda: len(broker.of("c")) == 2, 4, "the second connection")
    assert set(refused(fleet)) == {"s/2"}


def test_case_B3_an_outage_charges_no_filter(fleet):
    broker = fleet.closing(CloudBroker(suback_held=True))
    start(fleet, broker, filters(4), settings={"connect_timeout_ms": 60000})
    for _ in range(3):
        wait_until(lambda: broker.subscribes("c") and broker.of("c")[-1].kinds(SUBSCRIBE), 10,
                   "requested")
        connections = len(broker.of("c"))
        broker.go_away()
        wait_until(lambda: fleet.api.status("c")["last_error"]["code"] == "connection_refused", 10,
                   "nobody there")
        broker.listen()
        wait_until(lambda: len(broker.of("c")) > connections
                   and broker.of("c")[-1].kinds(SUBSCRIBE), 10, "connected anew")
    assert {size for one in sizes(broker) for size in one} == {4}


@both_versions
@pytest.mark.parametrize("limits", [{"bad_filters": {"s/7"}}, {"filters_max": 8}])
def test_case_B3_what_one_of_several_urls_taught_holds_for_the_others(fleet, version, limits):
    """Each loss leads to the next of them, which closes in the same way."""
    brokers = [fleet.closing(CloudBroker(**limits)) for _ in range(2)]
    fleet.start_node(**{**QUICK, "reconnect_max_ms": 60000})
    fleet.api.create(fleet.document(
        "c", url=None, urls=[broker.url for broker in brokers], protocol_version=version,
        subscriptions=[{"filter": name, "qos": 1} for name in filters(20)]))
    fleet.api.wait_state("c", "online", bound_s=20)
    assert set(refused(fleet)) == set(limits.get("bad_filters", ()))
    assert sum(len(broker.of("c")) for broker in brokers) <= 9


class SlowCloudBroker(CloudBroker):
    """Delays each SUBACK."""

    def _on_subscribe(self, connection, packet):
        time.sleep(0.01)
        return super()._on_subscribe(connection, packet)


def test_more_filters_in_a_packet_may_be_set_while_the_client_subscribes(fleet):
    broker = fleet.closing(SlowCloudBroker())
    names = filters(900)
    start(fleet, broker, names, subscribe_filters_max=1)
    wait_until(lambda: len(broker.subscribed("c")) > 10, 20, "in the midst of it")
    document = fleet.document("c", url=broker.url, protocol_version=5, subscribe_filters_max=256,
                              subscriptions=[{"filter": name, "qos": 1} for name in names])
    assert fleet.api.put(fleet.api.path("c"), document).status_code == 200
    fleet.api.wait_state("c", "online", bound_s=20)
    assert broker.subscribed("c") == set(names)
    assert len(broker.of("c")) == 1 and max(sizes(broker)[0]) == 256


# ---- B4: SUBACKs that refuse all -----------------------------------------------------------------


def test_case_B4_a_client_whose_filters_are_refused_is_degraded_everywhere(fleet):
    broker = fleet.closing(CloudBroker(filter_codes={name: 0x87 for name in filters(2)}))
    start(fleet, broker, filters(2))
    fleet.api.create(fleet.document("well", url=broker.url))
    fleet.api.wait_state("c", "online")
    fleet.api.wait_state("well", "online")
    status = fleet.api.status("c")
    assert status["degraded"] and set(refused(fleet)) == set(filters(2))
    assert {row["code"] for row in refused(fleet).values()} == {0x87}
    assert {row["message"] for row in refused(fleet).values()} == {"not authorized"}
    assert degraded_count(fleet) == 1
    for flag, ids in (("true", ["c"]), ("false", ["well"])):
        rows = fleet.api.get(f"/api/v1/clients?degraded={flag}").json()["clients"]
        assert [row["id"] for row in rows] == ids
    assert fleet.api.get("/api/v1/clients?degraded=perhaps").status_code == 422
    broker.filter_codes = {}
    fleet.api.post(fleet.api.path("c", "restart"))
    wait_until(lambda: not fleet.api.status("c")["degraded"], 10, "healthy")
    assert degraded_count(fleet) == 0


def test_case_B4_what_is_refused_of_a_changed_list_is_told_anew(fleet):
    broker = fleet.closing(CloudBroker(filter_codes={"s/0": 0x87, "s/1": 0x87}))
    start(fleet, broker, filters(2))
    fleet.api.wait_state("c", "online")

    def told(words):
        error = fleet.api.status("c")["last_error"]
        return error is not None and error["message"].startswith(words)
    wait_until(lambda: told("2 of 2 subscriptions refused"), 5, "told")
    for names, words in ((["s/0", "s/2", "s/3"], "1 of 3 subscriptions refused; s/0"),
                         (["s/1", "s/2", "s/3"], "1 of 3 subscriptions refused; s/1")):
        document = fleet.document("c", url=broker.url, protocol_version=5, subscriptions=names)
        assert fleet.api.put(fleet.api.path("c"), document).status_code == 200
        wait_until(lambda: told(words), 5, words)
    assert fleet.api.status("c")["degraded"] and degraded_count(fleet) == 1


def test_a_refused_filter_in_any_script_can_be_read_in_the_event(fleet):
    name = "a" + "\u6e29" * 100  # 200 bytes end within a character
    broker = fleet.closing(CloudBroker(filter_codes={name: 0x87}))
    start(fleet, broker, filters(2))
    fleet.api.wait_state("c", "online")
    events = fleet.closing(EventReader(fleet.api.base + "/api/v1/events?kind=notice"))
    events.wait_comment("listening to the whole fleet")
    document = fleet.document("c", url=broker.url, protocol_version=5, subscriptions=[name])
    assert fleet.api.put(fleet.api.path("c"), document).status_code == 200
    events.wait(lambda reader: reader.of("notice"), "told as a notice")
    [notice] = events.of("notice")
    assert notice["code"] == "subscription_refused"
    assert notice["message"] == ("1 of 1 subscriptions refused; a" + "\u6e29" * 66 +
                                 ": not authorized")
    assert fleet.api.status("c")["last_error"]["message"] == notice["message"]


def test_what_another_broker_refused_is_forgotten(fleet):
    broker = fleet.closing(CloudBroker(filter_codes={name: 0x87 for name in filters(2)}))
    start(fleet, broker, filters(2))
    fleet.api.wait_state("c", "online")
    wait_until(lambda: degraded_count(fleet) == 1, 5, "degraded")
    document = fleet.document("c", url=f"mqtt://127.0.0.1:{free_port()}", protocol_version=5,
                              subscriptions=filters(2))
    assert fleet.api.put(fleet.api.path("c"), document).status_code == 200
    fleet.api.wait_state("c", "backoff")
    status = fleet.api.status("c")
    assert not status["degraded"] and status["refused_filters"] == []
    assert set(granted(fleet).values()) == {None} and degraded_count(fleet) == 0


@pytest.mark.parametrize("switches, words", [
    ({"unsubscribe_codes": {"s/0": 0x87}}, "refuses to unsubscribe"),
    ({"unsubscribe_closes": True}, "ends the connection")])
def test_a_filter_that_stays_in_the_session_is_told_of(fleet, engine, switches, words):
    if engine == "paho" and "unsubscribe_codes" in switches:
        pytest.skip("it does not tell the codes of an UNSUBACK")
    broker = fleet.closing(CloudBroker(**switches))
    start(fleet, broker, filters(2), kept=True)
    fleet.api.wait_state("c", "online")
    events = fleet.closing(EventReader(fleet.api.base + "/api/v1/events?kind=notice"))
    events.wait_comment("listening to the whole fleet")
    document = fleet.document("c", url=broker.url, protocol_version=5, clean_start=False,
                              session_expiry_s=3600, subscriptions=["s/1"])
    assert fleet.api.put(fleet.api.path("c"), document).status_code == 200
    events.wait(lambda reader: reader.of("notice"), "told as a notice", 30)
    [notice] = events.of("notice")
    assert notice["code"] == "unsubscribe_failed"
    assert notice["message"].startswith(
        "1 of 1 filters that are no longer wanted stay in the session; s/0: ")
    assert words in notice["message"]
    fleet.api.wait_state("c", "online")
    assert fleet.api.status("c")["last_error"]["advice"]


# ---- B7: a test of a configuration ---------------------------------------------------------------


def probe(fleet, broker, names, version=5):
    """The last step of `:test`."""
    answer = fleet.api.post("/api/v1/clients:test", {
        "url": broker.url, "client_id": "tried", "protocol_version": version,
        "subscriptions": names})
    assert answer.status_code == 200, answer.text
    return answer.json()["steps"][-1]


@both_versions
def test_case_B7_a_test_takes_nothing_from_others(fleet, version):
    broker = fleet.closing(CloudBroker())
    fleet.start_node()
    step = probe(fleet, broker, ["$queue/x", "$exclusive/y", "$share/g/z", "a"], version)
    assert step["ok"] and "3 not tried" in step["detail"]
    assert {name for packet in broker.subscribes() for name, _ in packet.filters} == {"a"}


def test_case_B7_a_test_of_several_brokers_tells_of_each_what_was_not_tried(fleet):
    closed = fleet.closing(CloudBroker(connack_code=0x88))
    broker = fleet.closing(CloudBroker())
    fleet.start_node()
    answer = fleet.api.post("/api/v1/clients:test", {
        "urls": [closed.url, broker.url], "client_id": "tried",
        "subscriptions": ["$share/g/z", "a", "$queue/x", "b"]}).json()
    assert [one["ok"] for one in answer["brokers"]] == [False, True]
    assert "2 not tried" in answer["steps"][-1]["detail"], answer
    assert {name for packet in broker.subscribes() for name, _ in packet.filters} == {"a", "b"}


@both_versions
def test_case_B7_a_test_names_the_filter_that_ends_the_connection(fleet, version):
    names = filters(70)
    broker = fleet.closing(CloudBroker(bad_filters={names[66]}))
    fleet.start_node()
    step = probe(fleet, broker, names, version)
    assert (step["step"], step["ok"]) == ("subscribe", False)
    assert "1 of 70 filters refused" in step["detail"] and f"{names[66]} (" in step["detail"], step
    assert step["advice"]


@both_versions
def test_case_B7_a_test_names_the_filter_that_is_refused_before_the_broker_closes(fleet, version):
    names = filters(200)
    broker = fleet.closing(CloudBroker(filter_codes={names[5]: 0x87}, refusal_closes=True,
                                       refusal_spreads=True))
    fleet.start_node()
    step = probe(fleet, broker, names, version)
    assert "1 of 200 filters refused" in step["detail"] and f"{names[5]} (" in step["detail"], step


@both_versions
def test_case_B7_a_test_stays_within_the_limits_of_the_broker(fleet, version):
    broker = fleet.closing(CloudBroker(filters_max=8, connack_properties={
        "maximum_packet_size": 200} if version == 5 else {}))
    fleet.start_node()
    step = probe(fleet, broker, filters(20), version)
    assert step["ok"] and "at most" in step["detail"], step
    assert broker.faults == []
    assert max(len(packet.raw) for packet in broker.subscribes()) <= 200


# ---- many clients --------------------------------------------------------------------------------


def test_case_B1_a_whole_fleet_at_a_broker_that_takes_few_filters(fleet):
    """All lose their connections at the same moments: no restart of the broker."""
    broker = fleet.closing(CloudBroker(filters_max=8, bad_filters={"s/3"}))
    fleet.start_node(**{**QUICK, "reconnect_max_ms": 60000})
    ids = [f"c{number}" for number in range(100)]
    fleet.api.create([fleet.document(name, url=broker.url, subscriptions=filters(20))
                      for name in ids])
    fleet.wait_online(ids, 60)
    assert all(broker.subscribed(name) == set(filters(20)) - {"s/3"} for name in ids)
    assert max(len(broker.of(name)) for name in ids) <= 12
    assert degraded_count(fleet) == len(ids)
