"""The wire between a node and Redis: a TCP proxy that can be cut, go silent, stall, and lose the
reply of a chosen script after Redis has run it."""

import collections
import functools
import hashlib
import re
import selectors
import socket
import struct
import threading
import time

from .node import ROOT
from .ports import free_port

THROUGH, SILENT, STALLED, CUT = "through", "silent", "stalled", "cut"
# silent: sent data disappears; stalled: data arrives once the wire is healed; cut: connections are
# reset, including new ones.
BROKEN = (SILENT, STALLED, CUT)

EVALSHA = re.compile(rb"^\*\d+\r\n\$7\r\nEVALSHA\r\n\$40\r\n([0-9a-f]{40})\r\n", re.I)
EVAL = re.compile(rb"^\*\d+\r\n\$4\r\nEVAL\r\n\$(\d+)\r\n", re.I)
COMMAND = re.compile(rb"^\*\d+\r\n\$\d+\r\n(\w+)\r\n")


# What src/store/store.c may put before a script.
FIRST_WRITES = (b"", b"redis.call('DEL', PREFIX .. 'mqtt_fleet:none')\n",
                b"redis.call('SET', PREFIX .. 'mqtt_fleet:none', '', 'XX')\n")


@functools.cache
def script_names():
    """{SHA1: name} of all scripts as nodes load them: what src/store/store.c puts together."""
    folder = ROOT / "src/store/lua"
    text = {path.stem: path.read_bytes() for path in folder.rglob("*.lua")}
    kinds = re.findall(r'X\(SCRIPT_\w+, "(\w+)", (SCRIPT_\w+)\)',
                       (ROOT / "src/store/internal.h").read_text())
    preambles = dict(re.findall(r'\[(SCRIPT_\w+)\] = "(.+)\\n"',
                                (ROOT / "src/store/store.c").read_text()))
    parts = re.search(r"store_common_sources\[\] = \{(.+?),\s+NULL\}",
                      (ROOT / "src/store/store.c").read_text(), re.DOTALL)
    common = re.findall(r'"(\w+)"', parts[1])
    before = b"".join(text[name] for name in common)
    names = {}
    for name, kind in kinds:
        preamble = preambles.get(kind)
        between = preamble.encode() + b"\n" + text["history"] if preamble else b""
        names[hashlib.sha1(before + between + text[name]).hexdigest()] = name
    assert set(names.values()) == set(text) - {*common, "history"}
    return names


def command_name(data):
    """The script or command that a request begins with, or None in the middle of one."""
    if match := EVALSHA.match(data):
        return script_names().get(match[1].decode().lower(), "unknown")
    if match := EVAL.match(data):
        text = data[match.end():match.end() + int(match[1])]
        return script_names().get(hashlib.sha1(text).hexdigest(), "eval")
    match = COMMAND.match(data)
    return match[1].decode().upper() if match else None


class Unlucky:
    """For Wire.lose: the first reply of each command meant is lost, later ones by chance, never two
    of one in a row, so that calling again helps; not strictly in turn, for then two callers who take
    turns would not share the losses."""

    def __init__(self, rng, chance, meant):
        self._rng, self._chance, self._meant = rng, chance, meant
        self._lost = set()  # whose last reply was
        self._known = set()

    def __call__(self, name, _count):
        chance = self._chance if name in self._known else 1
        self._known.add(name)
        if name in self._lost or not self._meant(name) or self._rng.random() >= chance:
            self._lost.discard(name)
            return False
        self._lost.add(name)
        return True


class _End:
    """One of the two sockets of a connection through the wire."""

    def __init__(self, sock, is_node):
        self.sock = sock
        self.is_node = is_node
        self.other = None
        self.out = bytearray()
        self.dirty = False  # bytes were thrown away: of no use any more
        self.losing = None  # the command whose reply is to be lost


class Wire:
    def __init__(self, target_port, port=None):
        self.target_port = target_port
        self.port = port or free_port()
        self.accepted = 0
        self.lost = collections.Counter()  # replies lost, by command
        self.seen = collections.Counter()  # commands, by name
        self.lose = None  # function of (command, how often seen): lose this reply?
        self._mode = THROUGH
        self._stopping = False
        self._ends = set()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def mode(self):
        return self._mode

    def set(self, mode):
        self._mode = mode

    def heal(self):
        self._mode = THROUGH

    def close(self):
        self._stopping = True
        self._thread.join()
        for end in list(self._ends):
            end.sock.close()
        self._listener.close()
        self._selector.close()

    # ---- the thread ------------------------------------------------------------------------

    def _run(self):
        while not self._stopping:
            if self._mode == STALLED:
                time.sleep(0.01)
                continue
            if self._mode == CUT:
                self._end_all(lambda end: True)
            elif self._mode == THROUGH:
                self._end_all(lambda end: end.dirty)
            for key, events in self._selector.select(0.02):
                if key.data is None:
                    self._accept()
                elif key.data in self._ends:
                    self._serve(key.data, events)

    def _end_all(self, wanted):
        for end in [end for end in self._ends if end.is_node and wanted(end)]:
            self._reset(end)

    def _accept(self):
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._join(sock)

    def _join(self, sock):
        self.accepted += 1
        node = _End(sock, True)
        try:
            node.other = _End(socket.create_connection(("127.0.0.1", self.target_port), 2), False)
        except OSError:
            self._close_hard(sock)
            return
        node.other.other = node
        for end in (node, node.other):
            end.sock.setblocking(False)
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends.add(end)
            self._selector.register(end.sock, selectors.EVENT_READ, end)

    def _serve(self, end, events):
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(end)
            if events & selectors.EVENT_READ:
                self._read(end)
        except BlockingIOError:
            pass
        except OSError:
            self._reset(end)

    def _read(self, end):
        data = end.sock.recv(262144)
        if not data:
            self._reset(end)
        elif self._mode == SILENT:
            end.dirty = end.other.dirty = True
        elif end.is_node:
            self._request(end, data)
        elif end.losing:
            self.lost[end.losing] += 1
            self._reset(end)
        else:
            self._send(end.other, data)

    def _request(self, end, data):
        name = command_name(data)
        if name:
            self.seen[name] += 1
            lose = self.lose
            end.other.losing = name if lose and lose(name, self.seen[name]) else None
        self._send(end.other, data)

    def _send(self, end, data):
        end.out += data
        self._flush(end)

    def _flush(self, end):
        while end.out:
            try:
                sent = end.sock.send(end.out)
            except BlockingIOError:
                break
            del end.out[:sent]
        self._selector.modify(end.sock, selectors.EVENT_READ |
                              (selectors.EVENT_WRITE if end.out else 0), end)

    def _reset(self, end):
        for one in (end, end.other):
            if one in self._ends:
                self._ends.discard(one)
                self._selector.unregister(one.sock)
                self._close_hard(one.sock)

    @staticmethod
    def _close_hard(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
