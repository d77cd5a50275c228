"""A broker with switchable limits. It supports MQTT 3.1.1 and 5.0 correctly, keeps sessions, and refuses
the same things as cloud services, mostly by closing the connection without a reason. It records every
packet.

    broker = fleet.closing(CloudBroker(qos2_closes=True, filters_max=8))
    ...
    broker.qos2_closes = False                      # switches may change at any time
    assert [p.topic for p in broker.publications("c1")] == ["a", "a"]
"""

import collections
import heapq
import itertools
import selectors
import socket
import threading
import time

from . import packets
from .cloud_session import Message, Session, Subscription, matches
from .packets import (CONNECT, DISCONNECT, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL,
                      SUBSCRIBE, UNSUBSCRIBE)
from .ports import free_port


class Limits:
    """The switches. `..._closes`, `..._max`: a violation ends the connection."""

    # ---- the connection
    versions = (4, 5)       # others are closed before CONNACK, without a word
    connack_code = 0
    connack_held = False    # CONNECT is never answered
    connack_properties = {}  # such as {"receive_maximum": 1, "maximum_packet_size": 1024}
    keepalive_range = None  # (30, 1200): MQTT 5 is told the nearest by server_keepalive
    life_s = None           # each connection ends after so long, as when a token expires
    life_farewell = None

    # ---- how it ends a connection that violated a rule
    farewell = None         # without a word; in MQTT 5 True: DISCONNECT with the code that fits,
                            # a number: with that one
    by_reset = False        # RST instead of FIN
    breaks_after_s = 0      # later, and all else goes on until then

    # ---- publications of a client
    qos2_closes = False
    retain_closes = False
    slashes_max = None      # in a topic
    packet_bytes_max = None  # of any packet; seen from its header, before the rest came
    refused_topics = ()     # filters
    publish_codes = {}      # {topic filter: code of PUBACK or PUBREC}
    acks_held = False       # never answered
    puback_for_qos2 = False  # as RabbitMQ does

    # ---- subscriptions of a client
    filters_max = None      # in one SUBSCRIBE
    subscriptions_max = None  # on one connection
    bad_filters = ()        # whole filters
    suback_held = False
    filter_codes = {}       # {filter: code for ever, or a list: one for each time, then granted}
    refusal_closes = False  # after a SUBACK that refuses a filter, as RabbitMQ 4 does
    refusal_spreads = False  # to the filters behind it in a SUBSCRIBE, as at RabbitMQ 4
    one_code = False        # a SUBACK has the code of the last filter alone
    ids_shared = False      # 0x91 for a SUBSCRIBE with an identifier of a message under way (mochi)
    maximum_qos_granted = 2
    unsubscribe_codes = {}  # {filter: code}: it stays
    unsubscribe_closes = False

    # ---- messages to a client
    aliases_max = 0         # used for as many topics as the client takes
    resends_by_alias = False  # a resumed session's messages come by their old alias alone (mochi)
    inflight_max = 65535    # beside the client's receive maximum


class Connection:
    """One connection and its record. received: Packets with `at`, by the monotonic clock;
    ended: why, None while it lasts ("client": the client closed)."""

    def __init__(self, sock):
        self.sock = sock
        self.opened_at = self.heard_at = time.monotonic()
        self.closed_at = None
        self.connect = None
        self.present = None     # what CONNACK said of the session
        self.session = None
        self.received = []
        self.ended = None
        self.data = bytearray()
        self.out = bytearray()
        self.keepalive_s = 0
        self.receive_maximum = 65535
        self._aliases = {}
        self._aliases_max = 0

    @property
    def version(self):
        return self.connect.version

    @property
    def client_id(self):
        return self.connect.client_id if self.connect else None

    def kinds(self, *kinds):
        """Its packets of these kinds, in order."""
        return [packet for packet in list(self.received) if packet.kind in kinds]

    def let_in(self, limits):
        properties = self.connect.properties
        self.receive_maximum = min(properties.get("receive_maximum", 65535), limits.inflight_max)
        self._aliases_max = min(properties.get("topic_alias_maximum", 0), limits.aliases_max)

    def alias_of(self, topic):
        """(number, whether the client does not know it yet); None: none is free."""
        if topic in self._aliases:
            return self._aliases[topic], False
        if len(self._aliases) >= self._aliases_max:
            return None
        self._aliases[topic] = len(self._aliases) + 1
        return self._aliases[topic], True


class CloudBroker(Limits):
    """accepted: the Messages taken from clients, each once. faults: what clients did that the
    specification forbids; a test may assert that there are none."""

    def __init__(self, **switches):
        for name, value in switches.items():
            self.switch(name, value)
        self.connections = []
        self.accepted = []
        self.faults = []
        self.retained = {}
        self.port = free_port()
        self._sessions = {}
        self._live = {}
        self._timers = []
        self._order = itertools.count()
        self._turn = collections.Counter()
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._stopping = False
        self._listener = None
        self.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def switch(self, name, value):
        assert hasattr(Limits, name), f"no switch {name}"
        setattr(self, name, value)

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    # ---- what a test does --------------------------------------------------------------------

    def publish(self, topic, payload, qos=1, retain=False, properties=()):
        """Delivers to all subscribers; kept for sessions whose client is offline."""
        payload = payload.encode() if isinstance(payload, str) else payload
        with self._lock:
            self._route(Message(topic, payload, qos, retain, tuple(properties)))
        self._wake()

    def inject(self, client_id, topic, payload, qos=1):
        """Puts a message directly into a session, whatever it subscribed; the topic may be malformed (bytes)."""
        with self._lock:
            self._sessions[client_id].waiting.append(Message(topic, payload, qos))
        self._wake()

    def drop(self, client_id=None):
        """Ends the live connections of one client or of all, without a reason."""
        with self._lock:
            for connection in list(self._live.values()):
                if client_id in (None, connection.client_id):
                    self._end(connection, "dropped by the test")

    def forget_sessions(self):
        """Like a broker that has lost its disk; connections last until drop()."""
        with self._lock:
            self._sessions.clear()
            for connection in self._live.values():
                if connection.session:
                    connection.session.kept = False

    def listen(self):
        with self._lock:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._wake()

    def go_away(self):
        """Stops listening and ends all connections; sessions are kept. Back by listen()."""
        with self._lock:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            self.drop()
        self._wake()

    def close(self):
        self._stopping = True
        self._wake()
        self._thread.join()
        with self._lock:
            self.drop()
            for sock in (self._listener, self._wake_in, self._wake_out):
                if sock:
                    sock.close()
            self._selector.close()

    # ---- what a test sees --------------------------------------------------------------------

    def of(self, client_id=None):
        """The connections of a client, oldest first; None: of all, those without CONNECT too."""
        return [one for one in list(self.connections) if client_id in (None, one.client_id)]

    def packets(self, client_id=None, *kinds):
        return [packet for one in self.of(client_id) for packet in one.kinds(*kinds)]

    def publications(self, client_id=None):
        """Every PUBLISH that was received, including those that ended a connection."""
        return self.packets(client_id, PUBLISH)

    def subscribes(self, client_id=None):
        return self.packets(client_id, SUBSCRIBE)

    def online(self):
        """Identifiers of the accepted connections."""
        with self._lock:
            return {one.client_id for one in self._live.values() if one.session}

    def subscribed(self, client_id):
        """Filters of its session."""
        with self._lock:
            session = self._sessions.get(client_id)
            return set(session.subscriptions) if session else set()

    def pending(self, client_id):
        """Messages that wait for it or are in transit to it."""
        with self._lock:
            session = self._sessions.get(client_id)
            return len(session.waiting) + len(session.inflight) if session else 0

    # ---- the thread --------------------------------------------------------------------------

    def _wake(self):
        try:
            self._wake_out.send(b"x")
        except OSError:
            pass

    def _run(self):
        while not self._stopping:
            events = self._selector.select(0.05)
            with self._lock:
                for key, mask in events:
                    if key.fileobj is self._wake_in:
                        self._wake_in.recv(4096)
                    elif key.fileobj is self._listener:
                        self._accept()
                    elif connection := self._live.get(key.fileobj):
                        self._serve(connection, mask)
                self._tick()

    def _accept(self):
        for _ in range(64):
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock)
            self.connections.append(connection)
            self._live[sock] = connection
            self._selector.register(sock, selectors.EVENT_READ)

    def _tick(self):
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, connection, reason, code = heapq.heappop(self._timers)
            self._end(connection, reason, code)
        for connection in list(self._live.values()):
            if connection.keepalive_s and now - connection.heard_at > 1.5 * connection.keepalive_s:
                self._end(connection, "keepalive")
            elif connection.session:
                self._deliver(connection)

    def _serve(self, connection, mask):
        if mask & selectors.EVENT_WRITE:
            self._flush(connection)
        if not mask & selectors.EVENT_READ or connection.ended:
            return
        try:
            data = connection.sock.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(connection, "client")
            return
        connection.data += data
        connection.heard_at = time.monotonic()
        try:
            self._read(connection)
        except AssertionError as error:
            self.faults.append(f"{connection.client_id}: {error}")
            self._end(connection, f"malformed: {error}", 0x81)

    def _read(self, connection):
        while not connection.ended and connection.data:
            if self._too_large(connection):
                return
            found = packets.split(connection.data)
            if found is None:
                return
            raw, connection.data = found
            packet = packets.read(raw, connection.connect and connection.version)
            packet.at = time.monotonic()
            assert (packet.kind == CONNECT) == (connection.connect is None), f"{packet} here"
            connection.received.append(packet)
            getattr(self, f"_on_{packets.NAMES[packet.kind].lower()}")(connection, packet)

    def _too_large(self, connection):
        if not self.packet_bytes_max or connection.connect is None:
            return False
        length = shift = 0
        for at in range(1, min(5, len(connection.data))):
            length |= (connection.data[at] & 127) << shift
            shift += 7
            if not connection.data[at] & 128:
                if at + 1 + length <= self.packet_bytes_max:
                    return False
                self._note_large(connection, at + 1)
                self._break(connection, f"a packet of {at + 1 + length} bytes", 0x95)
                return True
        return False

    @staticmethod
    def _note_large(connection, at):
        """It is recorded with its header and the received part of its topic."""
        head = bytes(connection.data)
        kind, flags = head[0] >> 4, head[0] & 15
        size = int.from_bytes(head[at:at + 2], "big")
        topic = head[at + 2:at + 2 + size].decode(errors="replace")
        connection.received.append(packets.Packet(kind, flags, head, {
            "qos": flags >> 1 & 3, "dup": bool(flags & 8), "retain": bool(flags & 1),
            "topic": topic if kind == PUBLISH else None, "at": time.monotonic()}))

    # ---- writing and ending ------------------------------------------------------------------

    def _send(self, connection, data):
        if not connection.ended:
            connection.out += data
            self._flush(connection)

    def _flush(self, connection):
        try:
            while connection.out:
                del connection.out[:connection.sock.send(connection.out)]
        except BlockingIOError:
            pass
        except OSError:
            connection.out.clear()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.out else 0)
        self._selector.modify(connection.sock, events)

    def _break(self, connection, reason, code=None):
        """Ends it because of a violated rule, in the way of `farewell`; code: the matching reason code."""
        code = code if self.farewell is True else self.farewell
        if self.breaks_after_s:
            self._later(self.breaks_after_s, connection, reason, code)
        else:
            self._end(connection, reason, code)

    def _end(self, connection, reason, code=None):
        if connection.ended:
            return
        if code is not None and connection.connect and connection.version == 5:
            self._send(connection, packets.disconnect(code))
        connection.ended = reason
        connection.closed_at = time.monotonic()
        self._live.pop(connection.sock)
        self._selector.unregister(connection.sock)
        if self.by_reset:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + bytes(4))
        else:
            self._read_rest(connection.sock)
        connection.sock.close()
        if connection.session:
            self._left(connection)

    @staticmethod
    def _read_rest(sock):
        """Unread data at close() turns the FIN into an RST, which may overtake DISCONNECT."""
        try:
            sock.shutdown(socket.SHUT_WR)
            for _ in range(64):
                if not sock.recv(262144):
                    return
        except OSError:
            pass

    def _left(self, connection):
        session, will = connection.session, connection.connect.will
        session.connection = None
        if not session.kept and self._sessions.get(session.client_id) is session:
            del self._sessions[session.client_id]
        if will and not any(one.code == 0 for one in connection.kinds(DISCONNECT)):
            self._route(Message(will["topic"], will["payload"], will["qos"], will["retain"],
                                publisher=session.client_id))

    def _later(self, delay_s, connection, reason, code=None):
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), connection,
                                      reason, code))

    # ---- packets -----------------------------------------------------------------------------

    def _on_connect(self, connection, packet):
        connection.connect = packet
        if packet.version not in self.versions:
            return self._end(connection, f"protocol version {packet.version}")
        if self.connack_held:
            return None
        if self.connack_code:
            self._send(connection, packets.connack(packet.version, code=self.connack_code))
            return self._end(connection, f"CONNACK {self.connack_code}")
        present = self._attach(connection, packet)
        connection.let_in(self)
        properties = {**self.connack_properties, **self._limit_keepalive(connection)}
        if not packet.client_id:
            properties["assigned_client_id"] = connection.session.client_id
        self._send(connection, packets.connack(packet.version, present, properties=properties))
        if self.life_s:
            self._later(self.life_s, connection, "its time is over", self.life_farewell)
        for data in connection.session.resend_packets(connection, self.resends_by_alias):
            self._send(connection, data)
        return self._deliver(connection)

    def _attach(self, connection, packet):
        """Attaches it to its existing session or to a new one; returns whether one existed."""
        name = packet.client_id or f"assigned-{next(self._order)}"
        old = self._sessions.get(name)
        if old and old.connection:
            self._end(old.connection, "taken over", 0x8E)
            old = self._sessions.get(name)
        session = Session(name) if packet.clean or not old else old
        self._sessions[name] = session
        session.connection = connection
        session.kept = (packet.properties.get("session_expiry", 0) > 0 if packet.version == 5
                        else not packet.clean)
        connection.session = session
        connection.present = session is old
        return connection.present

    def _limit_keepalive(self, connection):
        asked = connection.connect.keepalive
        connection.keepalive_s = asked
        if not self.keepalive_range:
            return {}
        least, most = self.keepalive_range
        connection.keepalive_s = min(max(asked or most, least), most)
        if connection.keepalive_s == asked:
            return {}
        return {"server_keepalive": connection.keepalive_s}

    def _on_publish(self, connection, packet):
        reason, code = self._against_publication(packet)
        if reason:
            return self._break(connection, reason, code)
        if packet.qos == 2 and packet.id in connection.session.received:
            return self._send(connection, packets.acknowledge(PUBREC, packet.id))
        if self.acks_held and packet.qos:
            return None
        refusal = self._code_of(packet.topic) if packet.qos else 0
        if refusal < 0x80:
            self.accepted.append(Message(packet.topic, packet.payload, packet.qos, packet.retain,
                                         publisher=connection.session.client_id))
            self._route(self.accepted[-1])
        if packet.qos:
            kind = PUBREC if packet.qos == 2 and not self.puback_for_qos2 else PUBACK
            if kind == PUBREC and refusal < 0x80:
                connection.session.received.add(packet.id)
            self._send(connection, packets.acknowledge(kind, packet.id, refusal or None))
        return None

    def _against_publication(self, packet):
        if self.qos2_closes and packet.qos == 2:
            return "QoS 2", 0x9B
        if self.retain_closes and packet.retain:
            return "retain", 0x9A
        if self.slashes_max is not None and packet.topic.count("/") > self.slashes_max:
            return "a topic of too many levels", 0x90
        if any(matches(one, packet.topic) for one in self.refused_topics):
            return "a refused topic", 0x87
        return None, None

    def _code_of(self, topic):
        return next((code for one, code in self.publish_codes.items() if matches(one, topic)), 0)

    def _on_pubrel(self, connection, packet):
        connection.session.received.discard(packet.id)
        self._send(connection, packets.acknowledge(PUBCOMP, packet.id))

    def _on_puback(self, connection, packet):
        connection.session.acknowledged(packet.id)
        self._deliver(connection)

    _on_pubcomp = _on_puback

    def _on_pubrec(self, connection, packet):
        session = connection.session
        if packet.code >= 0x80:
            session.acknowledged(packet.id)
            return self._deliver(connection)
        if packet.id in session.inflight:
            session.inflight[packet.id] = PUBREL
        return self._send(connection, packets.acknowledge(PUBREL, packet.id))

    def _on_subscribe(self, connection, packet):
        session = connection.session
        names = {name for name, _ in packet.filters}
        if self.filters_max and len(packet.filters) > self.filters_max:
            return self._break(connection, f"SUBSCRIBE of {len(packet.filters)} filters", 0x97)
        if names & set(self.bad_filters):
            return self._break(connection, "a bad filter", 0x87)
        if self.subscriptions_max and len({*session.subscriptions, *names}) > \
                self.subscriptions_max:
            return self._break(connection, "too many subscriptions", 0x97)
        if self.suback_held:
            return None
        if self.ids_shared and packet.id in session.inflight:
            codes = [0x91] * len(packet.filters)
        else:
            codes = self._subscribe_all(session, packet)
        if self.one_code:
            codes = codes[-1:]
        self._send(connection, packets.suback(connection.version, packet.id, codes))
        if self.refusal_closes and max(codes) >= 0x80:
            return self._break(connection, "a filter that is refused")
        return self._deliver(connection)

    def _subscribe_all(self, session, packet):
        codes = []
        for one in packet.filters:
            spreads = self.refusal_spreads and max(codes, default=0) >= 0x80
            codes.append(codes[-1] if spreads else self._subscribe(session, packet, *one))
        return codes

    def _subscribe(self, session, packet, name, options):
        """One filter; its code."""
        code = self.filter_codes.get(name, 0)
        if isinstance(code, list):
            code = code.pop(0) if code else 0
        if code > 2:  # below 0x80: one that MQTT does not have
            return code if code < 0x80 or session.connection.version == 5 else 0x80
        is_new = name not in session.subscriptions
        qos = min(options & 3, self.maximum_qos_granted)
        subscription = Subscription(name, options & ~3 | qos,
                                    packet.properties.get("subscription_identifier"))
        session.subscriptions[name] = subscription
        handling = subscription.retain_handling
        if not subscription.group and (handling == 0 or handling == 1 and is_new):
            self._send_retained(session, subscription)
        return qos

    def _send_retained(self, session, subscription):
        for message in self.retained.values():
            if matches(subscription.topic_filter, message.topic):
                session.put(message, Subscription(subscription.filter, subscription.options | 8,
                                                  subscription.identifier))

    def _on_unsubscribe(self, connection, packet):
        if self.unsubscribe_closes:
            return self._break(connection, "UNSUBSCRIBE", 0x87)
        subscriptions = connection.session.subscriptions
        codes = [self.unsubscribe_codes.get(name) or
                 (0 if subscriptions.pop(name, None) else 0x11) for name in packet.filters]
        return self._send(connection, packets.unsuback(connection.version, packet.id, codes))

    def _on_pingreq(self, connection, _packet):
        self._send(connection, packets.PONG)

    def _on_disconnect(self, connection, packet):
        if "session_expiry" in packet.properties:
            connection.session.kept = packet.properties["session_expiry"] > 0
        self._end(connection, "client")

    # ---- messages ----------------------------------------------------------------------------

    def _route(self, message):
        if message.retain:
            self.retained.pop(message.topic, None)
            if message.payload:
                self.retained[message.topic] = message
        groups = collections.defaultdict(list)
        for session in self._sessions.values():
            if found := session.subscription_for(message.topic, message.publisher):
                session.put(message, found)
            for one in session.subscriptions.values():
                if one.group and matches(one.topic_filter, message.topic):
                    groups[one.filter].append((session, one))
        for name, members in groups.items():
            self._turn[name] += 1
            session, one = members[self._turn[name] % len(members)]
            session.put(message, one)

    def _deliver(self, connection):
        if connection.ended or len(connection.out) > 1 << 20:
            return
        for data in connection.session.next_packets(connection):
            self._send(connection, data)
            if len(connection.out) > 1 << 20:
                return


def like_aws_iot(**more):
    """The documented limits of AWS IoT Core."""
    return CloudBroker(**{"qos2_closes": True, "slashes_max": 7, "packet_bytes_max": 128 * 1024,
                          "filters_max": 8, "subscriptions_max": 50, "keepalive_range": (30, 1200),
                          **more})


def like_azure_iot(**more):
    """The limits of Azure IoT Hub: only MQTT 3.1.1, no QoS 2, tokens that expire."""
    return CloudBroker(**{"versions": (4,), "qos2_closes": True, "packet_bytes_max": 256 * 1024,
                          **more})
