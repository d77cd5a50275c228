"""Event streams of the API: changes in the fleet, and the messages of a client as they arrive."""

import base64
import concurrent.futures
import json
import socket
import time

import pytest

from fleet.api import Api
from fleet.proxy import Proxy
from fleet.sse import EventReader
from test_access import Desk
from fleet.wait import wait_until

EVENTS = "/api/v1/events"


def listen(fleet, node, **params):
    """Receives events of the whole fleet once this returns."""
    reader = fleet.closing(EventReader(node.api.base + EVENTS, node.api, **params))
    return reader.wait_comment("listening to the whole fleet")


def tail(fleet, node, client):
    reader = fleet.closing(EventReader(node.api.base + node.api.path(client, "messages"), node.api))
    return reader.wait_comment("the client runs on")


def states(reader, client):
    return [event["state"] for event in reader.of("client") if event["id"] == client]


# ---- changes in the fleet ------------------------------------------------------------------------


def test_changes_of_clients_of_all_nodes_are_heard_on_each(fleet):
    nodes = fleet.start_nodes(2)
    readers = [listen(fleet, node) for node in nodes]
    failed = listen(fleet, nodes[0], kind="client", state="backoff")
    one = listen(fleet, nodes[1], client="c00003")
    ids = fleet.online(10)
    for reader in readers:
        reader.wait(lambda r: {e["id"] for e in r.of("client") if e["state"] == "online"} ==
                    set(ids), "all ten told")
        assert {event["node"] for event in reader.of("client")} == {"n1", "n2"}
        for client in ids:
            assert states(reader, client) == ["connecting", "online"]
    assert failed.events == []
    fleet.api.post("/api/v1/clients/c00003/pause")
    fleet.api.wait_state("c00003", "paused")
    fleet.api.delete("/api/v1/clients/c00003")
    one.wait(lambda r: states(r, "c00003")[-1:] == ["deleted"], "deleted")
    assert states(one, "c00003") == ["connecting", "online", "paused", "deleted"]
    fleet.api.delete("/api/v1/clients/c00004")
    readers[0].wait(lambda r: states(r, "c00004")[-1:] == ["deleted"], "deleted")
    assert [e["from"] for e in readers[0].of("client") if e["id"] == "c00004"][-1] == "online"
    assert {event["id"] for event in one.of("client")} == {"c00003"}
    event = one.of("client")[1]
    assert set(event) == {"at", "kind", "id", "node", "from", "state", "reason",
                          "version"}
    assert event["at"].endswith("Z") and event["kind"] == "client"
    fleet.broker.kill()
    failed.wait(lambda r: len({event["id"] for event in r.of("client")}) == 8, "eight fail")


def test_nodes_and_leaders_are_told(fleet):
    nodes = fleet.start_nodes(3, reclaim_grace_ms=500)
    roster = wait_until(lambda: (lambda all: all if any(
        node["leader"] for node in all.values()) else None)(fleet.api.nodes()), 20, "a leader")
    leader = next(node for node in nodes if roster[node.name]["leader"])
    others = [node for node in nodes if node is not leader]
    reader = listen(fleet, others[0], kind="node,leader")
    others[0].api.post(f"/api/v1/nodes/{others[1].name}/drain")
    reader.wait(lambda r: ("node", others[1].name, "draining") in
                [(e["kind"], e["name"], e["state"]) for e in r.of("node")], "draining")
    leader.kill()
    reader.wait(lambda r: {"dead", "gone"} & {
        e["state"] for e in r.of("node") if e["name"] == leader.name}, "fenced", 30)
    reader.wait(lambda r: any(e["name"] not in (None, leader.name) for e in r.of("leader")),
                "another leads", 30)
    fleet.start_node("n9")
    reader.wait(lambda r: ("n9", "live", "joined") in
                [(e["name"], e["state"], e["reason"]) for e in r.of("node")], "joined")


def test_a_stream_outlives_redis_and_says_what_it_missed(fleet):
    node, _ = fleet.start_nodes(2)
    fleet.online(2)
    reader = listen(fleet, node)
    fleet.redis.pause()
    fleet.at_end(fleet.redis.resume)
    reader.wait_comment("Redis does not answer", 30)
    fleet.redis.resume()
    reader.wait(lambda r: {"count": None} in r.of("dropped"), "dropped is told", 30)
    fleet.api.post("/api/v1/clients/c00000/restart")
    fleet.api.post("/api/v1/clients/c00001/restart")
    reader.wait(lambda r: {e["id"] for e in r.of("client") if e["state"] == "online"} >=
                {"c00000", "c00001"}, "heard again", 30)


def place(number):
    return tuple(int(part) for part in number.split("-"))


def test_a_reader_that_comes_back_gets_what_it_missed_from_any_node(fleet):
    first, second = fleet.start_nodes(2)
    fleet.online(6)
    reader = listen(fleet, first)
    fleet.api.post("/api/v1/clients/c00000/restart")
    reader.wait(lambda r: states(r, "c00000")[-1:] == ["online"] and ("c00000", "online") in
                [(e["id"], e["from"]) for e in r.of("client")], "a restart")
    last = reader.kept()[-1][0]
    reader.close()
    for client in ("c00001", "c00002"):
        fleet.api.post(f"/api/v1/clients/{client}/restart")
    third = fleet.start_node("n9")
    back = fleet.closing(EventReader(second.api.base + EVENTS, second.api, last_id=last))
    back.wait(lambda r: [states(r, client) for client in ("c00001", "c00002")] ==
              [["connecting", "online"]] * 2 and ("n9", "live", "joined") in
              [(e["name"], e["state"], e["reason"]) for e in r.of("node")], "what it missed")
    assert states(back, "c00000") == [] and back.of("gap") == back.of("dropped") == []
    # It goes on with what happens now, and nothing comes twice.
    back.wait_comment("listening to the whole fleet")
    for client in ("c00003", "c00004"):
        fleet.api.post(f"/api/v1/clients/{client}/restart")
    back.wait(lambda r: [states(r, client) for client in ("c00003", "c00004")] ==
              [["connecting", "online"]] * 2, "new events")
    places = [place(number) for number, _ in back.kept()]
    assert places == sorted(set(places)) and len(places) >= 9
    # All that is kept, as far as the filter goes; an id that is not kept any more is told.
    every = fleet.closing(EventReader(third.api.base + EVENTS, third.api, last_id="0",
                                      client="c00005"))
    every.wait(lambda r: states(r, "c00005")[-1:] == ["online"], "what is kept of one client")
    assert not every.of("gap") and {e["id"] for e in every.of("client")} == {"c00005"}
    old = fleet.closing(EventReader(third.api.base + EVENTS, third.api, last_id="1-1", kind="leader"))
    old.wait(lambda r: r.of("leader"), "the leader")
    assert old.of("gap") == [{"after": "1-1", "first": old.of("gap")[0]["first"]}]
    refused = first.api.get(EVENTS, headers={"Last-Event-ID": "yesterday"})
    assert refused.status_code == 400 and "Last-Event-ID" in refused.json()["detail"]


def test_an_incident_is_one_event_and_many_changes_are_counted(fleet):
    node, other = fleet.start_nodes(2, events__client_rate=5)
    fleet.online(30)
    reader = listen(fleet, node)
    fleet.broker.kill()
    reader.wait(lambda r: [e["state"] for e in r.of("incident")] == ["began"], "it began", 60)
    kept = "mqtt_fleet:incidents"
    wait_until(lambda: [len(json.loads(one)["nodes"]) for one in fleet.redis.client.hvals(kept)] == [2], 60,
               "both nodes have it")
    fleet.broker.start()
    reader.wait(lambda r: [e["state"] for e in r.of("incident")] == ["began", "ended"], "it ended", 60)
    reader.wait(lambda r: {e["id"] for e in r.of("client") if e["state"] == "online" and
                           e["at"] > r.of("incident")[0]["at"]} == {f"c{number:05}" for number in range(30)},
                "a reader that is there sees each client", 60)
    began, ended = reader.of("incident")
    assert began["broker"] == ended["broker"] and began["nodes"] == [began["node"]]
    assert sorted(ended["nodes"]) == sorted([node.name, other.name]) and ended["clients"] == 30
    assert ended["failures"] >= 6 and ended["lasted_ms"] > 0 and not fleet.redis.client.exists(kept)
    assert (began["code"], ended["reason"]) == ("connection_refused", "broker_back")
    # What its clients did is not kept; of many other changes, their number.
    back = fleet.closing(EventReader(other.api.base + EVENTS, other.api, last_id="0"))
    back.wait(lambda r: len(r.of("incident")) >= 2 and place(r.kept()[-1][0]) >= place(reader.kept()[-1][0]),
              "the kept incident", 60)
    assert back.of("incident") == [began, ended]
    assert not {e["reason"] for e in back.of("client")} & {"broker_away", "probe", "broker_back"}

    def counted():
        fleet.api.post("/api/v1/clients:restart?id_prefix=c")
        again = fleet.closing(EventReader(node.api.base + EVENTS, node.api, last_id="0"))
        again.wait(lambda r: r.of("dropped"), "changes that were left out", 5)
        return again.of("dropped")[-1]

    dropped = wait_until(counted, 60, "more changes than are kept")
    assert dropped["reason"] == "rate" and dropped["count"] > 0 and dropped["node"] in ended["nodes"]


def test_events_go_to_a_sink_from_whichever_node_leads(fleet):
    nodes = fleet.start_nodes(2, events__sink="news", reclaim_grace_ms=500)
    fleet.online(2)

    def all_passed_on():
        kept = [fields[b"event"] if b"event" in fields else fields["event"].encode()
                for _, fields in fleet.redis.client.xrange("mqtt_fleet:event_log")]
        passed = [fields.get(b"payload") or fields["payload"].encode()
                  for _, fields in fleet.redis.client.xrange("news")]
        assert set(kept) <= set(passed)
        return [json.loads(one) for one in passed]

    # They wait for the sink.
    assert nodes[0].api.put("/api/v1/sinks/news", {"type": "redis_stream", "key": "news"}).status_code == 201
    events = wait_until(all_passed_on, 60, "the events of the fleet")
    assert {event["kind"] for event in events} == {"client", "node", "leader"}
    assert len([event for event in events if event["kind"] == "node" and event["state"] == "live"]) == 2
    topics = {str(fields.get("topic") or fields[b"topic"].decode())
              for _, fields in fleet.redis.client.xrange("news")}
    assert topics == {f"$mqfleet/events/{kind}" for kind in ("client", "node", "leader")}
    leader = wait_until(lambda: [node for node in nodes if fleet.api.nodes()[node.name]["leader"]], 20)[0]
    other = next(node for node in nodes if node is not leader)
    redis = fleet.redis.client
    wait_until(lambda: redis.get("mqtt_fleet:events_sent") == redis.xrevrange("mqtt_fleet:event_log", count=1)[0][0],
               20, "the next leader knows where to go on")
    leader.kill()
    wait_until(lambda: ("leader", other.name) in [(event["kind"], event["name"])
                                                 for event in all_passed_on() if event["kind"] != "client"],
               60, "events of the next leader")
    assert len(all_passed_on()) == len({json.dumps(event) for event in all_passed_on()}), "none twice"


@pytest.mark.parametrize("query, named", [
    ("kind=cow", "kind"), ("kind=", "kind"), ("state=odd", "state"), ("wait_ms=5", "wait_ms")])
def test_filters_that_mean_nothing_are_refused(shared_api, query, named):
    answer = shared_api.get(f"{EVENTS}?{query}")
    assert answer.status_code == 400 and named in answer.json()["detail"]


def test_who_begins_to_listen_is_heard_of_at_once(fleet):
    """By a channel, not by the look for its key a second later: a wait through an idle fleet is told
    by the first change."""
    node, other = fleet.start_nodes(2)
    fleet.online(1)
    calls, events = (fleet.redis.client.pubsub(ignore_subscribe_messages=True) for _ in range(2))
    calls.subscribe("mqtt_fleet:listen")
    events.subscribe("mqtt_fleet:events")
    assert calls.get_message(timeout=1) is None and events.get_message(timeout=1) is None

    def told_without_a_key():
        fleet.redis.client.publish("mqtt_fleet:listen", "somebody")
        node.api.post(node.api.path("c00000", "restart"))
        return events.get_message(timeout=1)

    wait_until(told_without_a_key, 20, "the restart is told")
    wait_until(lambda: calls.get_message(timeout=1) is None, 20, "all calls of the test are read")
    fleet.broker.pause()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        created = pool.submit(other.api.create, fleet.document("c1"), wait_ms=20000)
        call = wait_until(lambda: calls.get_message(timeout=1), 20, "it is told that somebody waits")
        assert call["data"] == other.name
        fleet.broker.resume()
        assert created.result()["status"]["state"] == "online"


def test_others_who_begin_to_listen_all_the_time_keep_no_node_from_its_own(fleet):
    """A node with a listener sets the key once a second, however many calls it hears."""
    node = fleet.start_node()
    listen(fleet, node)
    end = time.monotonic() + 8  # the key lives 5 s
    while time.monotonic() < end:
        fleet.redis.client.publish("mqtt_fleet:listen", "other")
        time.sleep(0.2)
        assert fleet.redis.client.exists("mqtt_fleet:listening")


# ---- the messages of a client --------------------------------------------------------------------


def test_messages_are_seen_through_any_node_and_follow_the_client(fleet):
    nodes = fleet.start_nodes(2)
    fleet.online(1)
    readers = [tail(fleet, node, "c00000") for node in nodes]
    large = b"x" * 70000
    for topic, payload in (("text", "grün".encode()), ("bytes", b"\xff\x00"), ("large", large)):
        fleet.broker.publish(f"t/c00000/{topic}", payload)
    for reader in readers:
        reader.wait(lambda r: len(r.of("message")) == 3, "three messages")
        text, binary, cut = reader.of("message")
        assert text["topic"] == "t/c00000/text" and text["payload"] == "grün"
        assert (text["qos"], text["retain"], text["properties"]) == (1, False, {})
        assert base64.b64decode(binary["payload_base64"]) == b"\xff\x00"
        assert cut["truncated"] is True and cut["size"] == 70000 and len(cut["payload"]) == 65536
    # The client moves: both readers see the next messages.
    owner = fleet.api.client("c00000")["placement"]["node"]
    fleet.api.post(f"/api/v1/nodes/{owner}/drain")
    wait_until(lambda: (fleet.api.client("c00000")["placement"] or {}).get("node", owner) != owner,
               20, "moved")
    fleet.api.wait_state("c00000", "online")
    sent = [0]

    def seen_by_both():
        sent[0] += 1
        fleet.broker.publish("t/c00000/later", f"later {sent[0]}")
        for reader in readers:
            assert any(message["topic"] == "t/c00000/later" for message in reader.of("message"))
        return True

    wait_until(seen_by_both, 20, "messages after the move", poll_s=0.2)
    fleet.api.delete("/api/v1/clients/c00000")
    for reader in readers:
        reader.wait(lambda r: r.ended, "the end of the stream")
    # All of it is in the sink, once.
    fleet.stream.wait_payloads([large, f"later {sent[0]}".encode()])
    assert len(fleet.stream.rows()) == 3 + sent[0]
    assert fleet.api.get("/api/v1/clients/c00000/messages").status_code == 404


def test_a_tail_that_is_not_read_holds_up_nothing_and_is_told(fleet):
    node = fleet.start_node()
    fleet.online(1)
    raw = fleet.closing(socket.create_connection(("127.0.0.1", node.port)))
    raw.sendall(b"GET /api/v1/clients/c00000/messages HTTP/1.0\r\nHost: x\r\n\r\n")
    text = b""
    while b"listening for messages" not in text:
        text += raw.recv(1000)
    payloads = [b"%06d" % number + b"x" * 30000 for number in range(400)]
    fleet.broker.publish_all([("t/c00000/x", payload) for payload in payloads])
    fleet.stream.wait_payloads(payloads, 60)
    assert fleet.api.status("c00000")["messages_dropped"] == 0
    raw.settimeout(10)
    while b"event: dropped" not in text:
        part = raw.recv(1 << 20)
        assert part, "ended before it was told"
        text = text[-20:] + part


def test_streams_are_bounded_and_do_not_hold_up_the_end(fleet):
    node = fleet.start_node(http__streams_max=2)
    fleet.online(1)
    readers = [listen(fleet, node), tail(fleet, node, "c00000")]
    refused = node.api.get(EVENTS)
    assert refused.status_code == 503 and "http.streams_max" in refused.json()["detail"]
    head = node.api.call("HEAD", EVENTS)
    assert head.status_code == 503
    # A place is free again as soon as a reader has gone.
    readers.pop().close()
    wait_until(lambda: node.api.call("HEAD", EVENTS).status_code == 200, 10, "a free place")
    begun_s = time.monotonic()
    node.terminate()
    readers[0].wait(lambda r: r.ended, "a clean end of the stream")
    assert time.monotonic() - begun_s < 5, "answers that go on are not waited for"


def test_streams_in_a_fleet_with_tokens_and_https(fleet, tmp_path, authority):
    desk = Desk(fleet, tmp_path)
    nodes = [fleet.new_node(**desk.settings(
        http__tls_cert_file=authority.server_certificate, http__tls_key_file=authority.server_key,
        fleet__ca_file=authority.ca)) for _ in range(2)]
    for node in nodes:
        node.api.use(token=desk.tokens["operator"], ca=authority.ca)
        node.start()
    readers = [listen(fleet, node) for node in nodes]
    fleet.create(1, api=nodes[0].api)
    tails = [tail(fleet, node, "c00000") for node in nodes]
    wait_until(lambda: nodes[0].api.state("c00000") == "online", 20)

    def heard_by_all():  # a tail begins once its node has reached the owner: not at a known time
        fleet.broker.publish("t/c00000/x", "hello")
        return all(reader.of("message") for reader in tails)

    wait_until(heard_by_all, 30, "the message")
    for reader in tails:
        assert {message["payload"] for message in reader.of("message")} == {"hello"}
    for reader in readers:
        reader.wait(lambda r: states(r, "c00000")[-1:] == ["online"], "online is told")
    path = "/api/v1/clients/c00000/messages"
    viewer = Api(nodes[0].port).use(token=desk.tokens["viewer"], ca=authority.ca)
    assert viewer.get(path).status_code == 403
    assert Api(nodes[0].port).use(ca=authority.ca).get(EVENTS).status_code == 401


def test_a_node_that_refuses_a_feed_is_told_and_left_in_peace(fleet):
    listening = fleet.start_node("listening", node_info__size=0)
    owner = fleet.start_node("owner", http__streams_max=0, log__level="debug")
    client = fleet.online(1)[0]
    reader = fleet.closing(EventReader(
        listening.api.base + listening.api.path(client, "messages"), listening.api))
    reader.wait_comment("refuses to show its messages")
    mark = owner.log().count("/messages")
    time.sleep(3)
    assert owner.log().count("/messages") - mark <= 1
    assert not reader.ended


def test_news_that_could_not_be_published_are_told_as_dropped(fleet):
    patient = {"heartbeat_ttl_ms": 30000, "reclaim_grace_ms": 10000,
               "redis_config__timeout_ms": 1000}
    listening = fleet.start_node("listening", node_info__size=0, **patient)
    way = fleet.closing(Proxy(int(fleet.redis.url.split(":")[2].split("/")[0])))
    cut_off = fleet.start_node("cut-off", **patient,
                               redis_config__url=f"redis://127.0.0.1:{way.port}/0")
    fleet.online(3)
    reader = listen(fleet, listening, kind="client")
    way.silent = True
    fleet.broker.kill()
    wait_until(lambda: cut_off.log().count("to=backoff") >= 3, 20)
    time.sleep(1.5)  # a PUBLISH gives up after 1 s
    way.silent = False
    reader.wait(lambda r: r.of("dropped"), "dropped", 30)
    assert reader.of("dropped")[0]["count"] >= 1
