"""A broker that violates the specification: the client closes with the right reason and reconnects; the
node and its other clients are not affected. The rows are in hostile.py."""

import pytest

from fleet import packets
from fleet.packets import CONNECT, DISCONNECT, PUBACK, PUBLISH, PUBREC, PUBREL, SUBSCRIBE
from fleet.scripted import Closed
from fleet.wait import wait_until
from hostile import (ACCEPTED, CASES, CLOSES, CONNECTED, CONNECTING, EITHER, ONLINE, PUBLISHED_1,
                     PUBLISHED_2, SHOWN, STAYS, SUBSCRIBING)

pytestmark = pytest.mark.every_engine

EVERY = [pytest.param(case, version, id=f"{case.name}-{version}")
         for case in CASES for version in case.versions]


class Scene:
    """The client of one case, advanced to the moment that the case tests."""

    def __init__(self, desk, case, version):
        self.desk, self.case, self.version = desk, case, version
        self.broker = desk.broker()
        self.client = desk.client(self.broker, version, **case.config)
        self.publication = None
        self.packet_id = 0
        self.said = None  # the reason of a DISCONNECT
        self.link = self.broker.accept()
        self._reach(case.after)

    def _reach(self, moment):
        link = self.link
        if moment == ACCEPTED:
            return
        link.expect(CONNECT)
        if moment == CONNECTING:
            return
        link.send(packets.connack(self.version))
        if moment == CONNECTED:
            return
        request = link.expect(SUBSCRIBE)
        self.packet_id = request.id
        if moment == SUBSCRIBING:
            return
        link.grant(request)
        self.desk.api.wait_state(self.client, "online")
        if moment == ONLINE:
            return
        qos = 1 if moment == PUBLISHED_1 else 2
        self.publication = self.desk.publish(self.client, "out", "x", qos=qos)
        self.packet_id = link.expect(PUBLISH).id
        if moment in (PUBLISHED_1, PUBLISHED_2):
            return
        link.acknowledge(PUBREC, self.packet_id)
        assert link.expect(PUBREL).id == self.packet_id

    def act(self):
        data = self.case.bytes_for(self.version, self.packet_id)
        (self.link.send_slowly if self.case.slowly else self.link.send)(data)
        if self.case.then:
            getattr(self.link, self.case.then)()

    # ---- judging ---------------------------------------------------------------------------

    def goes_on(self, link):
        """Whether the connection still works: a message is acknowledged and reaches the sink."""
        if self.case.after == CONNECTING:
            try:
                link.answer_subscriptions()
            except Closed as closed:
                self.said = closed.said
                return False
        link.publish("t/after", "after", 1, 4242)
        while (packet := link.receive()) is not None:
            if packet.kind == PUBACK and packet.id == 4242:
                wait_until(lambda: b"after" in self.desk.payloads(self.client), 10, "in the sink")
                return True
            self.said = packet.code if packet.kind == DISCONNECT else None
        return False

    def judge_end(self, said):
        """The reason is shown and, with MQTT 5, sent to a broker that accepted the client."""
        error = self.desk.wait_error(self.client)
        if self.publication and self.case.then and error["code"] == "publication_refused":
            return  # the verdict on that loss, which comes with the next try
        numbers = {reason for reason in self.case.reasons if isinstance(reason, int)}
        assert error["code"] in {SHOWN.get(reason, reason) for reason in self.case.reasons}, error
        assert error["message"]
        if self.version == 4 or error["code"] in self.case.reasons:
            assert said in (None, 0), "nothing to complain of"
        elif said is None:
            assert self.case.after in (ACCEPTED, CONNECTING), f"nothing was said about {error}"
        else:
            assert said in numbers and SHOWN[said] == error["code"], (said, error)

    def comes_back(self):
        link = self.broker.connection()
        link.answer_subscriptions(len(self.case.config.get("subscriptions", ["t/#"])))
        self.desk.api.wait_state(self.client, "online")
        link.deliver("t/again", "again", 7)
        wait_until(lambda: b"again" in self.desk.payloads(self.client), 10, "in the sink")


@pytest.mark.parametrize("case,version", EVERY)
def test_a_hostile_broker(desk, case, version):
    scene = Scene(desk, case, version)
    rss_before = desk.node.rss_bytes()
    scene.act()
    if case.ends == STAYS:
        assert scene.goes_on(scene.link), "the client closed"
    elif case.then:
        scene.judge_end(None)
        scene.comes_back()
    elif case.ends == CLOSES:
        scene.judge_end(scene.link.goodbye())
        scene.comes_back()
    elif not scene.goes_on(scene.link):
        assert case.ends == EITHER
        scene.judge_end(scene.said)
        scene.comes_back()
    if scene.publication:
        desk.remove(scene.client)
        assert scene.publication.result(20).status_code
    assert desk.node.rss_bytes() - rss_before < 50e6
    desk.check_others()
