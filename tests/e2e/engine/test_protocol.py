"""Packets that the client sends to a strict broker (fleet/packets.py), and its reactions to everything that
a correct broker may send. The test plays the broker."""

import itertools

import pytest

from fleet.packets import (CONNECT, DISCONNECT, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL,
                           SUBSCRIBE, UNSUBSCRIBE)
from fleet import packets
from fleet.wait import wait_until

pytestmark = pytest.mark.every_engine

both_versions = pytest.mark.parametrize("version", [4, 5])


def online(desk, version, properties=(), **config):
    """(broker, client, link) of a client that is online."""
    broker = desk.broker()
    client = desk.client(broker, version, **config)
    link = broker.online(properties=properties)
    desk.api.wait_state(client, "online")
    return broker, client, link


def kept(desk, version, **config):
    """The same with a session that outlives the connection."""
    broker = desk.broker()
    client = desk.persistent(broker, version, **config)
    link = broker.online()
    desk.api.wait_state(client, "online")
    return broker, client, link


# ---- CONNECT, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT -------------------------------------------------


@both_versions
def test_every_field_of_connect_is_as_configured(desk, version):
    of_5 = {"session_expiry_s": 77, "receive_maximum": 33, "max_packet_size": 70000,
            "user_properties": {"site": "north"}, "request_response_information": True,
            "request_problem_information": False}
    will_of_5 = {"delay_s": 9, "payload_format_indicator": 1, "message_expiry_interval": 77,
                 "content_type": "text/plain", "response_topic": "answers/4",
                 "correlation_data": "AAH/", "user_properties": [
                     {"name": "a", "value": "1"}, {"name": "a", "value": "ü"}]}
    broker = desk.broker()
    document = desk.document(
        broker, version, client_id="line-4/ü", username="nutzer", password="geheim",
        keepalive_s=321, clean_start=False, **(of_5 if version == 5 else {}),
        will={"topic": "wills/4", "payload_base64": "AP8=", "qos": 2, "retain": True,
              **(will_of_5 if version == 5 else {})})
    desk.add(document)
    connect = broker.connection().connect
    assert (connect.version, connect.client_id, connect.keepalive, connect.clean) == (
        version, "line-4/ü", 321, False)
    assert (connect.username, connect.password) == ("nutzer", b"geheim")
    will = connect.will
    assert (will["topic"], will["payload"], will["qos"], will["retain"]) == (
        "wills/4", b"\0\xff", 2, True)
    if version == 5:
        assert will["properties"] == {
            "will_delay": 9, "payload_format": 1, "message_expiry": 77,
            "content_type": "text/plain", "response_topic": "answers/4",
            "correlation_data": b"\0\1\xff", "user_property": [("a", "1"), ("a", "ü")]}
        told = connect.properties
        assert (told["session_expiry"], told["receive_maximum"], told["maximum_packet_size"]) == (
            77, 33, 70000)
        assert told["user_property"] == [("site", "north")]
        assert (told["request_response"], told["request_problem"]) == (1, 0)


@both_versions
def test_the_least_connect_claims_nothing(desk, version):
    broker = desk.broker()
    desk.client(broker, version)
    connect = broker.connection().connect
    assert connect.clean and connect.keepalive == 60
    assert (connect.will, connect.username, connect.password) == (None, None, None)
    assert connect.properties.get("session_expiry", 0) == 0
    assert "user_property" not in connect.properties


@both_versions
def test_a_clean_start_is_told_on_every_connection_and_a_kept_session_on_none(desk, version):
    for clean, make in ((True, desk.client), (False, desk.persistent)):
        broker = desk.broker()
        make(broker, version)
        for _ in range(2):
            link = broker.online()
            assert link.connect.clean is clean
            if version == 5:
                assert link.connect.properties.get("session_expiry", 0) == (0 if clean else 3600)
            link.close()


@both_versions
def test_subscription_options_are_the_configured_bits(desk, version):
    rows = [{"filter": "a/+", "qos": 0}, {"filter": "b/#", "qos": 1}, {"filter": "c", "qos": 2}]
    wanted = {"a/+": 0, "b/#": 1, "c": 2}
    if version == 5:
        rows += [{"filter": "d", "qos": 2, "no_local": True, "retain_handling": 2},
                 {"filter": "e", "qos": 1, "retain_as_published": True, "retain_handling": 1},
                 {"filter": "$share/crew/f/#", "qos": 1}]
        wanted |= {"d": 0x26, "e": 0x19, "$share/crew/f/#": 1}
    broker = desk.broker()
    client = desk.client(broker, version, subscriptions=rows)
    link = broker.connection()
    requests = link.answer_subscriptions(len(rows))
    assert dict(itertools.chain(*(request.filters for request in requests))) == wanted
    desk.api.wait_state(client, "online")
    granted = {row["filter"]: row["granted"] for row in desk.api.status(client)["subscriptions"]}
    assert granted == {name: options & 3 for name, options in wanted.items()}


@both_versions
def test_many_subscriptions_go_out_in_packets_one_after_the_other(desk, version):
    filters = [f"many/{number}" for number in range(250)]
    broker = desk.broker()
    client = desk.client(broker, version,
                         subscriptions=[{"filter": name, "qos": 1} for name in filters])
    requests = broker.connection().answer_subscriptions(len(filters))
    assert [name for request in requests for name, _ in request.filters] == filters
    desk.api.wait_state(client, "online")


@both_versions
def test_a_filter_taken_out_is_unsubscribed(desk, version):
    broker = desk.broker()
    document = desk.document(broker, version, subscriptions=[
        {"filter": "old/#", "qos": 1}, {"filter": "both/#", "qos": 1}])
    client = desk.add(document)
    link = broker.connection()
    link.answer_subscriptions(2)
    desk.api.wait_state(client, "online")
    document["subscriptions"][0]["filter"] = "new/#"
    assert desk.api.put(desk.api.path(client), document).status_code == 200
    said = {}
    for _ in range(2):
        request = link.receive()
        assert request.kind in (SUBSCRIBE, UNSUBSCRIBE)
        said[request.kind] = request.filters
        link.grant(request)
    assert said == {SUBSCRIBE: [("new/#", 1)], UNSUBSCRIBE: ["old/#"]}
    link.deliver("new/x", "still the same connection", 5)


@both_versions
def test_a_pause_says_goodbye(desk, version):
    _, client, link = online(desk, version)
    desk.api.post(desk.api.path(client, "pause"))
    assert link.goodbye() == 0


# ---- keeping alive -------------------------------------------------------------------------------


@both_versions
def test_a_quiet_client_pings_within_its_keepalive(desk, version):
    keepalive_s = 2
    _, client, link = online(desk, version, keepalive_s=keepalive_s)
    link.pongs = False
    for _ in range(3):
        # The time that a broker waits, 3.1.2.10.
        link.expect(PINGREQ, 1.5 * keepalive_s)
        link.send(packets.PONG)
    assert desk.api.status(client)["reconnects"] == 0


@both_versions
def test_a_ping_that_is_not_answered_ends_the_connection(desk, version):
    broker, client, link = online(desk, version, keepalive_s=1)
    link.pongs = False
    assert {packet.kind for packet in link.until_closed()} <= {PINGREQ, DISCONNECT}
    assert desk.wait_error(client)["code"] in ("keepalive_timeout", "connection_lost")
    broker.online()


@both_versions
def test_a_client_without_keepalive_sends_no_ping(desk, version):
    _, _, link = online(desk, version, keepalive_s=0)
    link.pongs = False
    link.silent_for(3)


def test_the_keepalive_that_the_server_asks_for_is_obeyed(desk):
    _, _, link = online(desk, 5, keepalive_s=600, properties=[("server_keepalive", 2)])
    link.pongs = False
    link.expect(PINGREQ, 3)
    link.send(packets.PONG)
    link.expect(PINGREQ, 3)


# ---- receiving -----------------------------------------------------------------------------------


@both_versions
def test_acknowledgements_come_in_the_order_of_the_messages(desk, version):
    """4.6: PUBACKs in the order of the QoS 1 messages, PUBRECs in that of QoS 2, PUBCOMPs in that
    of PUBREL; and the sink has them in order."""
    _, client, link = online(desk, version)
    ids = [(number * 7919 % 65535 + 1, 1 + number % 2) for number in range(100)]
    link.send(b"".join(packets.publish(version, "t/x", f"{packet_id}", qos, packet_id)
                       for packet_id, qos in ids))
    got = {PUBACK: [], PUBREC: []}
    for _ in ids:
        answer = link.receive()
        got[answer.kind].append(answer.id)
    assert got == {PUBACK: [i for i, qos in ids if qos == 1],
                   PUBREC: [i for i, qos in ids if qos == 2]}
    for packet_id in got[PUBREC]:
        link.acknowledge(PUBREL, packet_id)
    assert [link.expect(PUBCOMP).id for _ in got[PUBREC]] == got[PUBREC]
    desk.wait_payloads(client, [b"%d" % packet_id for packet_id, _ in ids])


@both_versions
def test_messages_may_come_before_the_suback_and_every_size_is_taken(desk, version):
    broker = desk.broker()
    client = desk.persistent(broker, version)
    link = broker.connection(present=True)
    request = link.expect(SUBSCRIBE)
    sizes = (0, 1, 126, 127, 128, 16383, 16384, 70000, 300000)
    for packet_id, size in enumerate(sizes, 1):
        link.publish("t/x", b"%" * size, 1, packet_id)
    assert [link.expect(PUBACK).id for _ in sizes] == list(range(1, len(sizes) + 1))
    link.grant(request)
    desk.api.wait_state(client, "online")
    assert [len(payload) for payload in desk.payloads(client)] == list(sizes)


@both_versions
@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_is_acknowledged_only_when_the_sink_has_it(desk, version, qos):
    _, client, link = online(desk, version)
    with desk.broken_stream():
        link.publish("t/x", "kept back", qos, 3)
        link.silent_for(1.5)
    answer = link.expect(PUBACK if qos == 1 else PUBREC)
    assert answer.id == 3 and answer.code == 0
    assert b"kept back" in desk.payloads(client)


@both_versions
def test_pings_go_on_while_the_sink_is_stalled(desk, version):
    _, _, link = online(desk, version, keepalive_s=1)
    link.pongs = False
    with desk.broken_stream():
        link.publish("t/x", "kept back", 1, 3)
        for _ in range(2):
            link.expect(PINGREQ, 1.5)
            link.send(packets.PONG)


@both_versions
def test_qos_2_is_received_once_although_publish_and_pubrel_are_repeated(desk, version):
    """4.3.3, 4.4: PUBLISH again with DUP after the connection broke before and after PUBREC, PUBREL
    again on the next connection; the id is free again after PUBCOMP."""
    broker, client, link = kept(desk, version)
    link.publish("t/x", "first", 2, 9)
    assert link.expect(PUBREC).id == 9
    link.reset()
    link = broker.online(present=True)
    link.publish("t/x", "first", 2, 9, dup=True)
    assert link.expect(PUBREC).id == 9
    link.acknowledge(PUBREL, 9)
    link.reset()
    link = broker.online(present=True)
    link.acknowledge(PUBREL, 9)
    assert link.expect(PUBCOMP).id == 9
    link.acknowledge(PUBREL, 9)
    assert link.expect(PUBCOMP).id == 9
    link.publish("t/x", "second", 2, 9)
    assert link.expect(PUBREC).id == 9
    link.acknowledge(PUBREL, 9)
    assert link.expect(PUBCOMP).id == 9
    desk.wait_payloads(client, [b"first", b"second"])


@both_versions
def test_qos_2_cut_off_before_pubrec_is_received_once(desk, version):
    """Whether the first copy was read, and how far its message got, depends on timing."""
    broker, client, link = kept(desk, version)
    for number in range(10):
        link.publish("t/x", f"{number}", 2, 100)
        link.reset()
        link = broker.online(present=True)
        link.publish("t/x", f"{number}", 2, 100, dup=True)
        assert link.expect(PUBREC).id == 100
        link.acknowledge(PUBREL, 100)
        assert link.expect(PUBCOMP).id == 100
    desk.wait_payloads(client, [b"%d" % number for number in range(10)])


@both_versions
def test_qos_2_is_known_by_its_identifier_alone(desk, version):
    """4.3.3: any PUBLISH of that identifier until PUBREL, with DUP or without."""
    broker, client, link = kept(desk, version)
    for dup in (False, False, True):
        link.publish("t/x", "once", 2, 9, dup=dup)
        assert link.expect(PUBREC).id == 9
    link.reset()
    link = broker.online(present=True)
    link.publish("t/x", "once", 2, 9)
    assert link.expect(PUBREC).id == 9
    link.acknowledge(PUBREL, 9)
    assert link.expect(PUBCOMP).id == 9
    link.deliver("t/x", "after", 10)
    desk.wait_payloads(client, [b"once", b"after"])


@both_versions
def test_without_its_session_an_id_of_qos_2_is_a_new_message(desk, version):
    broker, client, link = kept(desk, version)
    link.publish("t/x", "of the lost session", 2, 9)
    link.expect(PUBREC)
    link.reset()
    link = broker.online(present=False)
    link.publish("t/x", "of the new one", 2, 9)
    assert link.expect(PUBREC).id == 9
    desk.wait_payloads(client, [b"of the lost session", b"of the new one"])


@both_versions
def test_pubrel_of_an_unknown_id_is_completed(desk, version):
    _, _, link = online(desk, version)
    link.acknowledge(PUBREL, 777)
    answer = link.expect(PUBCOMP)
    assert answer.id == 777 and answer.code in ((0,) if version == 4 else (0, 0x92))


def test_topic_aliases_of_the_server_are_kept_for_the_connection(desk):
    broker, client, link = online(desk, 5, topic_alias_maximum=40)
    most = link.connect.properties["topic_alias_maximum"]
    assert most == 40
    alias = {name: [("topic_alias", number)] for name, number in (("one", 1), ("most", most))}
    link.publish("t/one", "1", properties=alias["one"])
    link.publish("t/most", "2", properties=alias["most"])
    link.publish("", "3", 1, 5, properties=alias["one"])
    assert link.expect(PUBACK).id == 5
    link.publish("", "4", properties=alias["most"])
    link.publish("t/other", "5", properties=alias["one"])
    link.publish("", "6", properties=alias["one"])
    desk.wait_payloads(client, [b"1", b"2", b"3", b"4", b"5", b"6"])
    topics = [row[b"topic"] for row in desk.fleet.stream.of(client)]
    assert topics == [b"t/one", b"t/most", b"t/one", b"t/most", b"t/other", b"t/other"]
    link.close()
    link = broker.online()
    link.publish("", "no more", properties=alias["one"])
    assert link.goodbye() in (0x82, 0x94)


# ---- publishing ----------------------------------------------------------------------------------


@both_versions
def test_publications_are_answered_when_acknowledged(desk, version):
    _, client, link = online(desk, version)
    answers = {qos: desk.publish(client, f"out/{qos}", "x", qos=qos, retain=True)
               for qos in (0, 1, 2)}
    seen = {}
    for _ in answers:
        packet = link.expect(PUBLISH)
        assert packet.retain and not packet.dup and packet.topic == f"out/{packet.qos}"
        seen[packet.qos] = packet.id
    assert seen[1] != seen[2]
    assert answers[0].result(10).status_code == 200
    link.acknowledge(PUBREC, seen[2])
    assert link.expect(PUBREL).id == seen[2]
    assert not answers[1].done() and not answers[2].done()
    link.acknowledge(PUBCOMP, seen[2])
    link.acknowledge(PUBACK, seen[1])
    assert all(answer.result(10).status_code == 200 for answer in answers.values())


def test_a_refused_publication_is_answered_with_the_brokers_reason(desk):
    _, client, link = online(desk, 5)
    for qos, kind in ((1, PUBACK), (2, PUBREC)):
        answer = desk.publish(client, "out", "x", qos=qos)
        link.acknowledge(kind, link.expect(PUBLISH).id, 0x97)
        problem = answer.result(10)
        assert problem.status_code >= 500 and problem.json()["reason_code"] == 0x97
        assert problem.json()["detail"] == "the broker refused the publication: quota exceeded (0x97)"
        assert "raise the broker's limit" in problem.json()["advice"]
    # The exchange is over: only the next publication arrives.
    answer = desk.publish(client, "out", "after", qos=1)
    link.acknowledge(PUBACK, link.expect(PUBLISH).id)
    assert answer.result(10).status_code == 200


@both_versions
def test_what_was_not_acknowledged_is_sent_again_in_a_kept_session(desk, version):
    """4.4: PUBLISH with DUP and its id, or PUBREL, in the order of the first time."""
    broker, client, link = kept(desk, version)
    answers = [desk.publish(client, "out", "released", qos=2)]
    released = link.expect(PUBLISH)
    link.acknowledge(PUBREC, released.id)
    assert link.expect(PUBREL).id == released.id
    sent = []
    for qos in (1, 2):
        answers.append(desk.publish(client, "out", f"at {qos}", qos=qos))
        sent.append(link.expect(PUBLISH))
    link.reset()
    link = broker.online(present=True)
    assert link.expect(PUBREL).id == released.id
    link.silent_for(0.3)  # each alone: it may be why the connection ended
    link.acknowledge(PUBCOMP, released.id)
    for before, kind in zip(sent, (PUBACK, PUBREC)):
        after = link.expect(PUBLISH)
        assert after.dup and (after.id, after.qos, after.payload) == (
            before.id, before.qos, before.payload)
        link.acknowledge(kind, after.id)
    assert link.expect(PUBREL).id == sent[1].id
    link.acknowledge(PUBCOMP, sent[1].id)
    assert [answer.result(10).status_code for answer in answers] == [200] * 3


@both_versions
@pytest.mark.parametrize("persistent", [True, False])
def test_without_its_session_nothing_is_sent_again_and_the_caller_is_told(desk, version,
                                                                         persistent):
    broker, client, link = (kept if persistent else online)(desk, version)
    answers = [desk.publish(client, "out", f"{qos}", qos=qos) for qos in (1, 2)]
    for _ in answers:
        link.expect(PUBLISH)
    link.reset()
    link = broker.online(present=False)
    assert all(answer.result(20).status_code >= 500 for answer in answers)
    link.silent_for(1)
    answer = desk.publish(client, "out", "anew", qos=1)
    link.acknowledge(PUBACK, link.expect(PUBLISH).id)
    assert answer.result(10).status_code == 200


def test_the_servers_receive_maximum_is_honoured(desk):
    _, client, link = online(desk, 5, properties=[("receive_maximum", 2)])
    answers = [desk.publish(client, "out", f"{number}", qos=1 + number % 2) for number in range(8)]
    open_ids = [link.expect(PUBLISH) for _ in range(2)]
    done = 0
    while done < len(answers):
        link.silent_for(0.2)
        first = open_ids.pop(0)
        if first.qos == 2:
            link.acknowledge(PUBREC, first.id)
            assert link.expect(PUBREL).id == first.id
            link.silent_for(0.2)  # only PUBCOMP makes room
            link.acknowledge(PUBCOMP, first.id)
        else:
            link.acknowledge(PUBACK, first.id)
        done += 1
        if done + len(open_ids) < len(answers):
            open_ids.append(link.expect(PUBLISH))
            assert open_ids[-1].id not in {one.id for one in open_ids[:-1]}
    assert [answer.result(10).status_code for answer in answers] == [200] * len(answers)


@pytest.mark.parametrize("limit,publication", [
    (("maximum_packet_size", 100), {"payload": "x" * 200, "qos": 1}),
    (("maximum_qos", 1), {"payload": "x", "qos": 2}),
    (("maximum_qos", 0), {"payload": "x", "qos": 1}),
    (("retain_available", 0), {"payload": "x", "qos": 0, "retain": True}),
], ids=["size", "qos 2", "qos 1", "retain"])
def test_what_the_server_does_not_take_is_not_sent(desk, limit, publication):
    _, client, link = online(desk, 5, properties=[limit])
    answer = desk.publish(client, "out", **publication)
    assert answer.result(15).status_code >= 400
    answer = desk.publish(client, "out", "small", qos=0)
    assert link.expect(PUBLISH).payload == b"small"
    assert answer.result(10).status_code == 200


@pytest.mark.parametrize("limit, publication", [
    (("maximum_packet_size", 200), {"payload": "x" * 500, "qos": 1}),
    (("maximum_qos", 1), {"payload": "x", "qos": 2}),
    (("retain_available", 0), {"payload": "x", "qos": 1, "retain": True}),
])
def test_what_the_next_connection_does_not_take_is_not_sent_again(desk, limit, publication):
    """3.2.2.3: an earlier connection had other limits."""
    broker, client, link = kept(desk, 5)
    answer = desk.publish(client, "out", **publication)
    link.expect(PUBLISH)
    link.reset()
    link = broker.connection(present=True, properties=[limit])
    link.answer_subscriptions()
    assert answer.result(15).status_code >= 400
    desk.api.wait_state(client, "online")
    answer = desk.publish(client, "out", "small", qos=1)
    packet = link.expect(PUBLISH)
    assert packet.payload == b"small"
    link.acknowledge(PUBACK, packet.id)
    assert answer.result(10).status_code == 200
    assert desk.api.state(client) == "online"


# ---- CONNACK -------------------------------------------------------------------------------------


def test_the_server_that_a_refusal_names_is_shown(desk):
    for code in (0x9C, 0x9D):
        broker = desk.broker()
        client = desk.client(broker, 5)
        link = broker.accept()
        link.expect(CONNECT)
        link.send(packets.connack(5, code=code, properties=[
            ("server_reference", "other.example:8883"), ("reason_string", "moved on Monday")]))
        message = desk.wait_error(client)["message"]
        assert "other.example:8883" in message, message


def test_the_server_and_the_reason_that_a_disconnect_names_are_shown(desk):
    _, client, link = online(desk, 5)
    link.send(packets.disconnect(0x9D, [("server_reference", "other.example"),
                                        ("reason_string", "too late")]))
    message = desk.wait_error(client)["message"]
    assert "other.example" in message and "too late" in message, message


@both_versions
def test_an_identifier_may_be_left_to_the_server(desk, version):
    broker = desk.broker()
    client = desk.client(broker, version, client_id="")
    assigned = [("assigned_client_id", "made-up-17")] if version == 5 else ()
    link = broker.online(properties=assigned)
    assert link.connect.client_id == ""
    desk.api.wait_state(client, "online")
    link.deliver("t/x", "received", 1)
    [row] = desk.fleet.stream.of(client)
    if version == 5:
        assert row[b"client_id"] == b"made-up-17"


def test_every_property_of_connack_is_understood(desk):
    _, client, link = online(desk, 5, properties=[
        ("session_expiry", 30), ("receive_maximum", 10), ("maximum_qos", 1),
        ("retain_available", 0), ("maximum_packet_size", 100000), ("assigned_client_id", "given"),
        ("topic_alias_maximum", 5), ("reason_string", "welcome"), ("user_property", ("a", "b")),
        ("user_property", ("a", "b")), ("wildcard_available", 1),
        ("subscription_identifiers_available", 0), ("shared_available", 0),
        ("server_keepalive", 50), ("response_information", "answers/"),
        ("server_reference", "elsewhere")], client_id="")
    link.deliver("t/x", "received", 1)
    assert desk.payloads(client) == [b"received"]


def test_acknowledgements_may_carry_properties(desk):
    _, client, link = online(desk, 5)
    said = [("reason_string", "fine"), ("user_property", ("a", "b")), ("user_property", ("a", "c"))]
    one, two = (desk.publish(client, "out", "x", qos=qos) for qos in (1, 2))
    for packet in (link.expect(PUBLISH), link.expect(PUBLISH)):
        if packet.qos == 1:
            link.acknowledge(PUBACK, packet.id, 0x10, said)  # no matching subscribers
        else:
            link.acknowledge(PUBREC, packet.id, 0x10, said)
            last = packet.id
    assert link.expect(PUBREL).id == last
    link.acknowledge(PUBCOMP, last, 0, said)
    assert (one.result(10).status_code, two.result(10).status_code) == (200, 200)
    link.publish("t/x", "in", 2, 8)
    link.expect(PUBREC)
    link.acknowledge(PUBREL, 8, 0, said)
    assert link.expect(PUBCOMP).id == 8


# ---- many packets at once ------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("cut", [1, 2, 3, 5, 7, 100, 1447, 65536])
def test_packets_cut_anywhere_are_put_together(desk, version, cut):
    """Segments end within headers, ids, topics and properties."""
    _, client, link = online(desk, version)
    wanted, stream = [], b""
    for number in range(60 if cut > 3 else 12):
        payload = b"%03d" % number + b"." * (number * 37 % 400)
        qos = number % 2
        wanted.append(payload)
        stream += packets.publish(version, f"t/{number}", payload, qos, 1000 + number)
    for at in range(0, len(stream), cut):
        link.send(stream[at:at + cut])
    for number in range(1, len(wanted), 2):
        assert link.expect(PUBACK).id == 1000 + number
    desk.wait_payloads(client, wanted)


@both_versions
def test_a_broker_that_reads_nothing_for_a_while_loses_no_acknowledgement(desk, version):
    """More answers than the sockets hold."""
    broker = desk.broker(receive_buffer=4096)
    client = desk.client(broker, version, sink="null")
    link = broker.online()
    desk.api.wait_state(client, "online")
    ids = range(1, 60001)
    sending = desk.submit(link.send, b"".join(
        packets.publish(version, "t/x", b"", 1, packet_id) for packet_id in ids))
    wait_until(lambda: sending.done() or desk.api.status(client)["messages_in"] > 20000, 20,
               "the sockets are full")
    assert [link.expect(PUBACK, 30).id for _ in ids] == list(ids)
    sending.result(20)
    wait_until(lambda: desk.api.status(client)["messages_in"] == len(ids), 20, "all counted")
