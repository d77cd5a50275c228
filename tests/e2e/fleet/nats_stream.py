"""A real NATS server with one JetStream stream, "messages", for the subjects mqtt.>, on loopback."""

import base64
import json
import re
import socket
import ssl

from .other_brokers import NATS
from .ports import free_port
from .process import Process


class NatsStream(Process):
    """authority: of its certificate, if it shall want TLS."""

    def __init__(self, folder, authority=None):
        super().__init__("nats-stream", folder)
        self.port = free_port()
        self._authority = authority
        self._made = False

    def start(self):
        argv = [NATS, "-a", "127.0.0.1", "-p", self.port, "-js", "-sd", self.folder / "store"]
        if self._authority:
            argv += ["--tls", "--tlscert", self._authority.server_certificate,
                     "--tlskey", self._authority.server_key]
        before = self.log().count("Server is ready")
        self.spawn(argv)
        self.wait_ready(lambda: self.log().count("Server is ready") > before, 60)
        if not self._made:  # it survives a restart of the server
            answer = self._ask("STREAM.CREATE.messages", {"name": "messages", "subjects": ["mqtt.>"]})
            assert "error" not in answer, answer
            self._made = True
        return self

    def close(self):
        self.kill()

    def count(self):
        return self._ask("STREAM.INFO.messages", {})["state"]["messages"]

    def messages(self):
        """All, the oldest first: (subject, payload)."""
        count, found = self.count(), []
        for first in range(1, count + 1, 500):
            numbers = range(first, min(count, first + 499) + 1)
            found += self._read(numbers)
        return found

    def _read(self, numbers):
        """Answers come in the order of the requests."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            lines = b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n'
            for number in numbers:
                body = b'{"seq":%d}' % number
                lines += b"PUB $JS.API.STREAM.MSG.GET.messages answer %d\r\n%s\r\n" % (len(body), body)
            connection.sendall(lines)
            reader, answers = connection.makefile("rb"), []
            while len(answers) < len(numbers):
                line = reader.readline()
                assert line, "the server has closed the connection"
                if line.startswith(b"MSG answer"):
                    message = json.loads(reader.read(int(line.split()[-1])))["message"]
                    answers.append((message["subject"], base64.b64decode(message.get("data", ""))))
                elif line == b"PING\r\n":
                    connection.sendall(b"PONG\r\n")
        return answers

    def _ask(self, what, request):
        """https://docs.nats.io/reference/reference-protocols/nats-protocol"""
        body = json.dumps(request)
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as plain:
            head = b""
            while not head.endswith(b"\r\n"):
                head += plain.recv(1)
            with self._secured(plain) as connection:
                connection.sendall(f'CONNECT {{"verbose":false}}\r\nSUB answer 1\r\n'
                                   f"PUB $JS.API.{what} answer {len(body)}\r\n{body}\r\n".encode())
                text = b""
                while not (found := re.search(rb"MSG answer 1 (\d+)\r\n", text)) or \
                        len(text) < found.end() + int(found[1]):
                    more = connection.recv(4096)
                    assert more, text
                    text += more
        return json.loads(text[found.end():found.end() + int(found[1])])

    def _secured(self, plain):
        if not self._authority:
            return plain
        context = ssl.create_default_context(cafile=self._authority.ca)
        return context.wrap_socket(plain, server_hostname="localhost")
