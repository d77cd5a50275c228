"""A broker that a test implements packet by packet, on plain sockets and without a thread: unread data
waits in the kernel."""

import collections
import socket
import struct
import time

from . import packets
from .packets import CONNECT, DISCONNECT, PINGREQ, PUBACK, SUBSCRIBE
from .wait import PATIENCE

BOUND_S = 10


class Closed(AssertionError):
    """The client closed while the test waited for a packet; `said`: the reason of its DISCONNECT."""

    def __init__(self, kind, said=None):
        super().__init__(f"closed (it said {said}) instead of {packets.NAMES[kind]}")
        self.said = said


class ScriptedBroker:
    """Connections wait until accept() takes them. receive_buffer: bytes the system may hold of
    each."""

    def __init__(self, receive_buffer=None, address="127.0.0.1", port=0):
        self._listener = socket.create_server((address, port), backlog=64)
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port = self._listener.getsockname()[1]
        self._links = []

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def accept(self, bound_s=BOUND_S):
        """The next connection; nothing is read from it yet."""
        self._listener.settimeout(bound_s * PATIENCE)
        try:
            sock, _ = self._listener.accept()
        except TimeoutError:
            raise AssertionError(f"no connection within {bound_s * PATIENCE:g} s") from None
        link = Link(sock)
        self._links.append(link)
        return link

    def nobody(self, duration_s):
        """Asserts that no client connects for that long."""
        self._listener.settimeout(duration_s)
        try:
            sock, address = self._listener.accept()
        except TimeoutError:
            return
        sock.close()
        raise AssertionError(f"a connection from {address}")

    def connection(self, present=False, properties=(), bound_s=BOUND_S):
        """The next connection, with its CONNECT answered."""
        link = self.accept(bound_s)
        link.expect(CONNECT)
        link.send(packets.connack(link.version, present, properties=properties))
        return link

    def online(self, present=False, properties=()):
        """The next connection, with its CONNECT and its subscriptions answered. In MQTT 3.1.1, filters that were
        granted earlier in the session are not requested again."""
        link = self.connection(present, properties)
        if not (present and link.version == 4):
            link.answer_subscriptions()
        return link

    def close(self):
        self._listener.close()
        for link in self._links:
            link.close()


class Link:
    """One connection. `connect`: its CONNECT packet, once it was read. PINGREQs are answered and
    remembered, not returned, while `pongs` is set."""

    def __init__(self, sock):
        self._sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()
        self._waiting = collections.deque()
        self.connect = None
        self.pongs = True
        self.pings = []  # when each came, by the monotonic clock

    @property
    def version(self):
        return self.connect.version

    # ---- receiving -------------------------------------------------------------------------

    def receive(self, bound_s=BOUND_S):
        """The next packet; None: the client closed. AssertionError: neither came in time."""
        deadline = time.monotonic() + bound_s * PATIENCE
        while True:
            packet = self._next(deadline)
            if packet is None or packet.kind != PINGREQ or not self.pongs:
                return packet
            self.send(packets.PONG)

    def _next(self, deadline):
        while (found := packets.split(self._data)) is None:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"no packet in time; so far {bytes(self._data)!r}"
            self._sock.settimeout(left_s)
            try:
                data = self._sock.recv(262144)
            except TimeoutError:
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self._data, f"closed within a packet: {bytes(self._data)!r}"
                return None
            self._data += data
        raw, self._data = found
        packet = packets.read(raw, self.connect.version if self.connect else None)
        assert (packet.kind == CONNECT) == (self.connect is None), f"{packet} here"
        if packet.kind == CONNECT:
            self.connect = packet
        elif packet.kind == PINGREQ:
            self.pings.append(time.monotonic())
        return packet

    def expect(self, kind, bound_s=BOUND_S):
        packet = self.receive(bound_s)
        if packet is None:
            raise Closed(kind)
        if packet.kind == DISCONNECT and kind != DISCONNECT:
            raise Closed(kind, packet.code)
        assert packet.kind == kind, f"{packet} instead of {packets.NAMES[kind]}"
        return packet

    def silent_for(self, duration_s):
        """Asserts that for that long no packet except PINGREQ arrives and the connection stays open."""
        deadline = time.monotonic() + duration_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                packet = self.receive(left_s / PATIENCE)
            except AssertionError as error:
                if "no packet in time" in str(error):
                    return
                raise
            raise AssertionError(f"{packet} although nothing was to come")

    def until_closed(self, bound_s=BOUND_S):
        """The packets that arrived before the client closed."""
        got = []
        while (packet := self.receive(bound_s)) is not None:
            got.append(packet)
        return got

    def goodbye(self, bound_s=BOUND_S):
        """The reason code of the DISCONNECT before the client closed; None: there was none."""
        said = [packet for packet in self.until_closed(bound_s) if packet.kind == DISCONNECT]
        assert len(said) <= 1, said
        return said[0].code if said else None

    # ---- sending ---------------------------------------------------------------------------

    def send(self, data):
        """A client that has closed in the meantime is no fault: its earlier packets can still be read."""
        self._sock.settimeout(BOUND_S * PATIENCE)
        try:
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def send_slowly(self, data):
        """One byte at a time, each in a separate segment."""
        for at in range(len(data)):
            self.send(data[at:at + 1])
            time.sleep(0.001)

    def answer_subscriptions(self, filters=1):
        """Reads until that many filters were requested; returns the SUBSCRIBEs."""
        got = []
        while sum(len(request.filters) for request in got) < filters:
            got.append(self.expect(SUBSCRIBE))
            self.grant(got[-1])
        return got

    def grant(self, request):
        """Grants every filter as requested."""
        if request.kind == SUBSCRIBE:
            codes = [options & 3 for _, options in request.filters]
            self.send(packets.suback(self.version, request.id, codes))
        else:
            self.send(packets.unsuback(self.version, request.id, [0] * len(request.filters)))

    def publish(self, topic, payload=b"", qos=0, packet_id=None, **more):
        self.send(packets.publish(self.version, topic, payload, qos, packet_id, **more))

    def deliver(self, topic, payload, packet_id):
        """A QoS 1 message that the client has to acknowledge."""
        self.publish(topic, payload, 1, packet_id)
        assert self.expect(PUBACK).id == packet_id

    def acknowledge(self, kind, packet_id, code=None, properties=None):
        self.send(packets.acknowledge(kind, packet_id, code, properties))

    def close(self):
        self._sock.close()

    def half_close(self):
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

