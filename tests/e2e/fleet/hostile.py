"""Unusable brokers that count connection attempts: one accepts and stays silent, one refuses credentials,
one accepts and disconnects; an address that drops SYNs; a closed port."""

import collections
import datetime
import pathlib
import re
import selectors
import socket
import threading
import time

from .ports import free_port

CONNECT, SUBSCRIBE = 0x10, 0x80


def read_length(data, at):
    """MQTT's variable byte integer: (value, where the next field begins); None: not all there."""
    value = 0
    for i in range(4):
        if at + i >= len(data):
            return None
        value |= (data[at + i] & 0x7F) << 7 * i
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise ValueError("no length")


def take_packet(buffer):
    """(first byte, what is behind the length), off the buffer; None: not all there."""
    head = read_length(buffer, 1)
    if head is None or len(buffer) < head[1] + head[0]:
        return None
    length, at = head
    packet = buffer[0], bytes(buffer[at:at + length])
    del buffer[:at + length]
    return packet


def read_connect(body):
    """(protocol version, client identifier)"""
    version = body[6]
    length, at = read_length(body, 10) if version == 5 else (0, 10)
    at += length
    size = int.from_bytes(body[at:at + 2], "big")
    return version, body[at + 2:at + 2 + size].decode()


class _Guest:
    def __init__(self, sock):
        self.sock = sock
        self.data = bytearray()
        self.version = None
        self.let_in = False


class Hostile:
    """Accepts TCP connections; subclasses handle them on a separate thread."""

    def __init__(self):
        self.tries = []  # (monotonic time, client identifier) of each CONNECT
        self.connecting_max = 0  # connections at once that had not been let in
        self._guests = {}
        self._ends = collections.deque()  # (time, guest), in order
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", free_port()), backlog=512)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def close(self):
        self._stopping = True
        self._thread.join()
        for sock in [*self._guests, self._listener]:
            sock.close()
        self._selector.close()

    # ---- what a subclass does --------------------------------------------------------------

    def on_connect(self, guest):
        pass

    def on_subscribe(self, guest, packet_id):
        pass

    def end(self, guest, after_s=0.0):
        """Always after the same time."""
        self._ends.append((time.monotonic() + after_s, guest))

    # ---- the thread ------------------------------------------------------------------------

    def _run(self):
        while not self._stopping:
            for key, _ in self._selector.select(0.01):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._guests:
                    self._read(self._guests[key.fileobj])
            while self._ends and self._ends[0][0] <= time.monotonic():
                self._drop(self._ends.popleft()[1])

    def _accept(self):
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        self._guests[sock] = _Guest(sock)
        self._selector.register(sock, selectors.EVENT_READ)
        connecting = sum(not guest.let_in for guest in self._guests.values())
        self.connecting_max = max(self.connecting_max, connecting)

    def _read(self, guest):
        try:
            data = guest.sock.recv(65536)
            guest.data += data
            while data and (packet := take_packet(guest.data)):
                self._packet(guest, *packet)
        except OSError:
            data = b""
        if not data:
            self._drop(guest)

    def _packet(self, guest, first, body):
        if first & 0xF0 == CONNECT:
            guest.version, client = read_connect(body)
            self.tries.append((time.monotonic(), client))
            self.on_connect(guest)
        elif first & 0xF0 == SUBSCRIBE:
            self.on_subscribe(guest, body[:2])

    def _drop(self, guest):
        if self._guests.pop(guest.sock, None):
            self._selector.unregister(guest.sock)
            guest.sock.close()


class Silent(Hostile):
    """Accepts and stays silent."""


class Refusing(Hostile):
    """CONNACK: not authorized."""

    def on_connect(self, guest):
        guest.sock.send(bytes([0x20, 3, 0, 0x87, 0] if guest.version == 5 else [0x20, 2, 0, 5]))
        self.end(guest)


class Kicking(Hostile):
    """Accepts, acknowledges one subscription, and closes shortly after without a reason."""

    MOMENT_S = 0.2

    def on_connect(self, guest):
        guest.let_in = True
        guest.sock.send(bytes([0x20, 3, 0, 0, 0] if guest.version == 5 else [0x20, 2, 0, 0]))
        self.end(guest, self.MOMENT_S)

    def on_subscribe(self, guest, packet_id):
        middle = b"\0" if guest.version == 5 else b""
        guest.sock.send(bytes([0x90, 3 + len(middle)]) + packet_id + middle + b"\1")


# ---- addresses without a listener ---------------------------------------------------------

class Deaf:
    """An address whose SYNs disappear: a listener that accepts nothing and whose backlog is full.
    Attempts are observed from outside, in the kernel's table: (monotonic time, local port)."""

    def __init__(self, address="127.0.0.1", port=None):
        self.tries = []
        self.connecting_max = 0
        self._listener = socket.socket()
        self._listener.bind((address, port or free_port()))
        self._listener.listen(0)
        self.port = self._listener.getsockname()[1]
        self._plugs = [self._plug() for _ in range(4)]
        self._own = {plug.getsockname()[1] for plug in self._plugs}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def _plug(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self._listener.getsockname())
        return sock

    def close(self):
        self._stopping.set()
        self._thread.join()
        for sock in [*self._plugs, self._listener]:
            sock.close()

    def _run(self):
        before = set()
        while not self._stopping.wait(0.1):
            now = self._ports_trying() - self._own
            self.tries += [(time.monotonic(), port) for port in now - before]
            self.connecting_max = max(self.connecting_max, len(now))
            before = now

    def _ports_trying(self):
        """Local ports of connections in SYN_SENT to here."""
        address = socket.inet_aton(self._listener.getsockname()[0])[::-1].hex().upper()
        return ports_trying(f"{address}:{self.port:04X}")

    @staticmethod
    def connecting(peers):
        """How many sockets try to connect to any of these, of one port, at this moment. The kernel's table is not a
        snapshot: only sockets in two successive readings count."""
        own = set().union(*(peer._own for peer in peers))
        remote = f":{peers[0].port:04X}"
        return len(ports_trying(remote) & ports_trying(remote) - own)


def ports_trying(remote):
    """Local ports of connections in SYN_SENT to what ends so."""
    rows = (line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {int(row[1].split(":")[1], 16) for row in rows
            if row[3] == "02" and row[2].endswith(remote)}


class Refused:
    """A port without a listener. Attempts can be counted only in the nodes' logs, at level debug: (time, client
    identifier) of each."""

    FAILED = re.compile(r"^time=(\S+)Z .*client=(\S+) from=opening to=backoff "
                        r"reason=connection_refused", re.M)

    def __init__(self, nodes):
        self._nodes = nodes
        self.port = free_port()
        self.connecting_max = 0

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def tries(self):
        return sorted((datetime.datetime.fromisoformat(when).timestamp(), client)
                      for node in self._nodes
                      for when, client in self.FAILED.findall(node.log()))

    def close(self):
        pass
