"""The session state of CloudBroker for a client: subscriptions, waiting messages, messages in transit. This
module neither locks nor writes to sockets."""

import collections
import dataclasses
import itertools

from . import packets
from .packets import PUBREL


@dataclasses.dataclass
class Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    properties: tuple = ()
    publisher: str = None
    alias: int = 0  # of the topic on the connection that it was sent on first


@dataclasses.dataclass
class Subscription:
    filter: str
    options: int
    identifier: int = None

    @property
    def group(self):
        return self.filter.split("/", 2)[1] if self.filter.startswith("$share/") else None

    @property
    def topic_filter(self):
        return self.filter.split("/", 2)[2] if self.group else self.filter

    @property
    def qos(self):
        return self.options & 3

    @property
    def no_local(self):
        return bool(self.options & 4)

    @property
    def retain_as_published(self):
        return bool(self.options & 8)

    @property
    def retain_handling(self):
        return self.options >> 4 & 3


def matches(topic_filter, topic):
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)


class Session:
    """connection: the live one, or None. inflight: {packet identifier: Message, or PUBREL once the
    client has the message}, oldest first. received: identifiers of its own QoS 2 publications that
    it has not released."""

    def __init__(self, client_id):
        self.client_id = client_id
        self.connection = None
        self.kept = False
        self.subscriptions = {}
        self.waiting = collections.deque()
        self.inflight = {}
        self.received = set()
        self._ids = itertools.count()

    def free_id(self):
        """The lowest one after the last one issued, like most brokers."""
        while True:
            packet_id = next(self._ids) % 65535 + 1
            if packet_id not in self.inflight:
                return packet_id

    def subscription_for(self, topic, publisher):
        """The matching subscription with the highest QoS, without shared ones."""
        found = [one for one in self.subscriptions.values()
                 if not one.group and matches(one.topic_filter, topic)
                 and not (one.no_local and publisher == self.client_id)]
        return max(found, key=lambda one: one.qos, default=None)

    def put(self, message, subscription):
        """Queues a copy according to the subscription; QoS 0 only while connected."""
        qos = min(message.qos, subscription.qos)
        if not qos and not self.connection:
            return
        more = ()
        if subscription.identifier:
            more = (("subscription_identifier", subscription.identifier),)
        retain = message.retain and subscription.retain_as_published
        self.waiting.append(dataclasses.replace(
            message, qos=qos, retain=retain, properties=message.properties + more))

    # ---- output ---------------------------------------------------------------

    def next_packets(self, connection):
        """Takes waiting messages up to the client's receive maximum; returns bytes."""
        while self.waiting:
            message = self.waiting[0]
            if message.qos and len(self.inflight) >= connection.receive_maximum:
                return
            self.waiting.popleft()
            packet_id = None
            if message.qos:
                packet_id = self.free_id()
                self.inflight[packet_id] = message
            yield self._publish(connection, message, packet_id)

    def resend_packets(self, connection, by_alias_alone):
        """The first bytes for a connection that resumes the session."""
        for packet_id, message in list(self.inflight.items()):
            if message == PUBREL:
                yield packets.acknowledge(PUBREL, packet_id)
            else:
                alone = by_alias_alone and message.alias
                yield self._publish(connection, message, packet_id, True, alone)

    def _publish(self, connection, message, packet_id, dup=False, alias_alone=False):
        topic, properties = message.topic, list(message.properties)
        if alias_alone:
            topic = ""
            properties.append(("topic_alias", message.alias))
        elif not dup and (found := connection.alias_of(topic)):
            number, is_new = found
            message.alias = number
            properties.append(("topic_alias", number))
            topic = topic if is_new else ""
        return packets.publish(connection.version, topic, message.payload, message.qos, packet_id,
                               dup, message.retain, properties)

    def acknowledged(self, packet_id):
        return self.inflight.pop(packet_id, None)
