"""An HTTP server that does what a test says, and keeps what it accepted. Run as a program, it accepts
everything and appends each body to a file: usage: python3 -m fleet.web PORT FILE"""

import http.server
import ssl
import sys
import threading


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that breaks a connection is no fault of the test."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, text = self.server.answer(self, body)
        text = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST

    def log_message(self, *words):
        pass


class Web:
    """answer(request, body) -> (status, text). authority: certificates.Authority, for TLS that requires
    a client's certificate."""

    def __init__(self, answer, authority=None, port=0):
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.answer = self._answer
        self.answer = answer
        self.requests = 0
        self.lock = threading.Lock()
        self.scheme = "http"
        if authority:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.server_certificate, authority.server_key)
            context.load_verify_locations(authority.ca)
            context.verify_mode = ssl.CERT_REQUIRED
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
            self.scheme = "https"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}/"

    def _answer(self, request, body):
        with self.lock:
            self.requests += 1
        return self.answer(request, body)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def main():
    lock = threading.Lock()
    with open(sys.argv[2], "ab", buffering=0) as file:
        def answer(_, body):
            with lock:
                file.write(body)
            return 200, b""
        server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
        server.answer = answer
        server.serve_forever()


if __name__ == "__main__":
    main()
