"""Servers that may answer instead of a broker: other protocols, unsuitable TLS, and servers that just close
the connection."""

import contextlib
import socket
import ssl
import threading

from .ports import free_port
from .process import Process


class Stranger:
    """Listens and runs `talk(sock)` for each connection, then closes it. certificate: over TLS, to
    whose end it shakes hands first."""

    def __init__(self, talk, address=("127.0.0.1", 0), certificate=None):
        self._talk = talk
        self._tls = certificate and ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate:
            self._tls.load_cert_chain(certificate.certificate, certificate.key)
        self._listener = socket.create_server(address)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with contextlib.suppress(OSError), sock:
            sock.settimeout(10)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._talk(sock)
            if self._tls:
                sock.close()

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def says(answer, first=False):
    """Answers any input with these bytes; first: sends them without any input."""
    def talk(sock):
        if not first:
            sock.recv(65536)
        sock.sendall(answer)
        sock.recv(65536)
    return talk


def closes(sock):
    sock.recv(65536)


def http(status, *fields, body=b"<html>hello</html>"):
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *fields,
                                              f"Content-Length: {len(body)}"))
    return says(head.encode() + b"\r\n" + body)


class OpensslServer(Process):
    """openssl s_server with further words: a peer of TLS that speaks no MQTT."""

    def __init__(self, folder, certificate, *words, host="127.0.0.1", port=None):
        super().__init__("s_server", folder)
        self.address = (host, port or free_port())
        self.port = self.address[1]
        self.spawn(["openssl", "s_server", "-accept", f"{host}:{self.port}", "-quiet", "-cert",
                    certificate.certificate, "-key", certificate.key, *words])
        self.wait_ready(self._listens, 10)

    def _listens(self):
        with contextlib.suppress(OSError):
            socket.create_connection(self.address).close()
            return True
        return False

    def close(self):
        self.kill()
