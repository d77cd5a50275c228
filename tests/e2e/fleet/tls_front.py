"""A TLS front for a plain broker; it ends connections with an alert, like some load balancers."""

import contextlib
import select
import socket
import ssl
import threading

# Unencrypted records, longer than the missing part of a real one can be.
RUBBISH = (b"\x17\x03\x03\x00\x20" + bytes(32)) * 600


class TlsFront:
    """What the broker behind it closes ends with an alert, not with the end of the stream."""

    def __init__(self, target_port, authority):
        self._target = ("127.0.0.1", target_port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority.server_certificate, authority.server_key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtts://localhost:{self._listener.getsockname()[1]}"
        self.alerts = 0
        threading.Thread(target=self._run, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError), client, \
                socket.create_connection(self._target) as broker:
            Connection(self, client, broker, self._context).run()


class Connection:
    def __init__(self, front, client, broker, context):
        self._front, self._client, self._broker = front, client, broker
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._shaken = False

    def run(self):
        while True:
            ready, _, _ = select.select([self._client, self._broker], [], [], 30)
            if not ready:
                return
            if self._client in ready:
                data = self._client.recv(65536)
                if not data:
                    return
                self._in.write(data)
                try:
                    self._take()
                except (BrokenPipeError, ConnectionResetError):  # the broker's
                    self._alert()
                    return
            if self._broker in ready:
                data = self._receive()
                if not data:
                    self._alert()
                    return
                self._tls.write(data)
            self._client.sendall(self._out.read())

    def _receive(self):
        try:
            return self._broker.recv(65536)
        except ConnectionResetError:
            return b""

    def _take(self):
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            while data := self._tls.read(65536):
                self._broker.sendall(data)
        except ssl.SSLWantReadError:
            pass

    def _alert(self):
        """OpenSSL tells its peer that it got a record it cannot read."""
        self._in.write(RUBBISH)
        try:
            while self._tls.read(65536):
                pass
        except ssl.SSLWantReadError:
            raise AssertionError("rubbish was taken") from None
        except ssl.SSLError:
            self._front.alerts += 1
        self._client.sendall(self._out.read())
        self._client.shutdown(socket.SHUT_WR)
        while self._client.recv(65536):
            pass
