"""A TCP proxy that can go silent: the connection stays open and its bytes disappear."""

import selectors
import socket
import threading

from .ports import free_port


class Proxy:
    def __init__(self, target_port):
        self.target_port = target_port
        self.port = free_port()
        self.silent = False
        self.accepted = 0
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._peers = {}
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def close(self):
        self._stopping = True
        self._thread.join()
        for one in [self._listener, *self._peers]:
            one.close()

    def _run(self):
        while not self._stopping:
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._forward(key.fileobj)

    def _accept(self):
        client, _ = self._listener.accept()
        self.accepted += 1
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port))
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, source):
        target = self._peers.get(source)
        if target is None:
            return
        try:
            data = source.recv(65536)
            if data and not self.silent:
                target.sendall(data)
        except OSError:
            data = b""
        if not data:
            for one in (source, target):
                self._selector.unregister(one)
                self._peers.pop(one, None)
                one.close()
