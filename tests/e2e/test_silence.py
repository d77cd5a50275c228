"""Clients that are connected and receive nothing (expect_message_within_s, on_silence)."""

import pytest

from fleet.packets import DISCONNECT, SUBSCRIBE
from fleet.scripted import ScriptedBroker
from fleet.wait import holds_for, wait_until
from test_events import listen

every_engine = pytest.mark.every_engine


def silent_count(fleet):
    lines = fleet.api.get("/metrics").text.splitlines()
    return next(int(line.split()[1]) for line in lines
                if line.startswith("mqfleet_clients_silent "))


class Watched:
    """A client of a scripted broker, and the events about it."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.node = fleet.start_node()
        self.broker = fleet.closing(ScriptedBroker())
        self.document = fleet.document("c", url=self.broker.url, protocol_version=5,
                                       subscriptions=[{"filter": "t/#", "qos": 0}])
        fleet.api.create(self.document)
        self.link = self.broker.online()
        fleet.api.wait_state("c", "online")
        self.reader = listen(fleet, self.node, client="c", kind="notice")

    def change(self, **fields):
        answer = self.fleet.api.put("/api/v1/clients/c", {**self.document, **fields})
        assert answer.status_code == 200, answer.text

    def wait_silent(self, silent):
        return wait_until(lambda: (lambda status: status["silent"] == silent and status)(
            self.fleet.api.status("c")), 60, f"silent: {silent}")

    def codes(self):
        return [notice["code"] for notice in self.reader.of("notice")]


@every_engine
def test_a_client_that_receives_nothing_is_silent_until_the_next_message(fleet):
    watched = Watched(fleet)
    assert fleet.api.status("c")["last_message_at"] is None

    # The field takes effect without a new connection, and ends with the next message.
    watched.change(expect_message_within_s=1)
    status = watched.wait_silent(True)
    assert status["state"] == "online" and status["last_message_at"] is None
    assert status["last_error"]["code"] == "silent"
    wait_until(lambda: silent_count(fleet) == 1, 60, "it is counted")
    wait_until(lambda: [(one["value"], one["count"]) for one in fleet.api.get(
        "/api/v1/summary?by=error&silent=true").json()["groups"]] == [("silent", 1)], 60, "also in sums")
    watched.reader.wait(lambda r: watched.codes() == ["silent"], "an event")
    watched.link.publish("t/1", b"x")
    watched.reader.wait(lambda r: watched.codes()[:2] == ["silent", "silence_ended"], "ended")
    watched.change(expect_message_within_s=3600)
    assert watched.wait_silent(False)["last_message_at"]
    wait_until(lambda: silent_count(fleet) == 0, 60, "it is not counted any more")

    # All subscriptions are requested again, without the retained messages of those that exist.
    watched.change(expect_message_within_s=1, on_silence="resubscribe")
    again = watched.link.expect(SUBSCRIBE)
    assert again.filters == [("t/#", 0x10)]
    watched.link.grant(again)
    assert watched.wait_silent(True)["subscriptions"][0]["granted"] == 0
    watched.link.publish("t/2", b"x")
    wait_until(lambda: watched.codes().count("silence_ended") >= 2, 60, "ended again")

    # It stays silent while it reconnects, and is lost no more than necessary.
    watched.change(expect_message_within_s=1, on_silence="reconnect")
    assert DISCONNECT in [packet.kind for packet in watched.link.until_closed()]
    link = watched.broker.online()
    status = fleet.api.wait_state("c", "online")
    assert watched.wait_silent(True)
    link.publish("t/3", b"x")
    wait_until(lambda: watched.codes().count("silence_ended") >= 3, 60, "ended once more")


@every_engine
def test_a_silence_is_not_told_while_nothing_is_expected_or_the_client_is_not_online(fleet):
    watched = Watched(fleet)
    holds_for(lambda: not fleet.api.status("c")["silent"], 1.5, "nothing is expected")
    watched.change(expect_message_within_s=1)
    watched.wait_silent(True)
    fleet.api.post("/api/v1/clients/c/pause")
    fleet.api.wait_state("c", "paused")
    assert not fleet.api.status("c")["silent"] and silent_count(fleet) == 0
    watched.reader.wait(lambda r: watched.codes() == ["silent", "silence_ended"], "both told")


@pytest.mark.parametrize("field, value, named", [
    ("expect_message_within_s", -1, "0"), ("expect_message_within_s", 2592001, "2592000"),
    ("on_silence", "restart", "resubscribe")])
def test_fields_of_silence_that_cannot_be_used(shared_api, field, value, named):
    answer = shared_api.post("/api/v1/clients", {
        "id": "silence", "url": "mqtt://127.0.0.1:1", field: value})
    assert answer.status_code == 422 and named in answer.text
