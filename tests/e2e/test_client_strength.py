"""Client fields for brokers with special requirements: the handshake of a WebSocket, the
strength of TLS, the password of a key, and how long a broker may take."""

import contextlib
import socket
import ssl
import subprocess
import threading

import pytest

from fleet.node import BINARY
from fleet.ports import free_port
from fleet.wait import wait_until

CLIENTS = "/api/v1/clients"


def faults(answer):
    assert answer.status_code == 422, answer.text
    return {one["pointer"]: one["detail"] for one in answer.json()["errors"]}


class Door:
    """Records the head of each HTTP request and rejects it."""

    def __init__(self):
        self.heads = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self):
        self._listener.close()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock:
                    self.heads.append(sock.recv(65536).decode())
                    sock.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")


def test_headers_and_the_subprotocol_of_a_websocket_are_sent_and_the_values_hidden(fleet):
    door = fleet.closing(Door())
    node = fleet.start_node(reconnect_min_ms=100)
    websocket = {"headers": {"Authorization": "Bearer s3cr3t", "X-Device": "7"},
                 "subprotocol": "mqttv3.1"}
    document = {"id": "c", "url": f"ws://127.0.0.1:{door.port}/mqtt", "websocket": websocket}
    created = fleet.api.post(CLIENTS, document)
    assert created.status_code == 201 and "s3cr3t" not in created.text, created.text
    shown = created.json()["config"]["websocket"]
    assert shown["headers"] == {"Authorization": "***", "X-Device": "***"}
    wait_until(lambda: door.heads, 10, "a request")
    head = door.heads[0].split("\r\n")
    assert {"Authorization: Bearer s3cr3t", "X-Device: 7",
            "Sec-WebSocket-Protocol: mqttv3.1"} <= set(head), head
    # A shown document can be sent back with one value changed.
    shown["headers"]["X-Device"] = "8"
    answer = fleet.api.put(fleet.api.path("c"), {**document, "websocket": shown})
    assert answer.status_code == 200, answer.text
    wait_until(lambda: "X-Device: 8" in door.heads[-1], 10, "the new one")
    assert "Authorization: Bearer s3cr3t" in door.heads[-1]
    # But not to another host that is now named as the broker.
    elsewhere = fleet.api.put(fleet.api.path("c"), {
        **document, "url": f"ws://localhost:{door.port}/mqtt", "websocket": shown})
    assert "/websocket/headers/Authorization" in faults(elsewhere), elsewhere.text
    assert "s3cr3t" not in node.log()


@pytest.mark.parametrize("websocket, pointer", [
    ({"headers": {"Host": "x"}}, "/websocket/headers/Host"),
    ({"headers": {"sec-websocket-key": "x"}}, "/websocket/headers/sec-websocket-key"),
    ({"headers": {"X Y": "x"}}, "/websocket/headers/X Y"),
    ({"headers": {"X": "a\r\nY: b"}}, "/websocket/headers/X"),
    ({"headers": {"X": "***"}}, "/websocket/headers/X"),
    ({"headers": {f"X{i}": "" for i in range(33)}}, "/websocket/headers"),
    ({"subprotocol": "a b"}, "/websocket/subprotocol"),
])
def test_what_cannot_stand_in_a_handshake_is_refused(fleet, websocket, pointer):
    api = fleet.start_node().api
    document = {"id": "c", "url": "ws://127.0.0.1:1", "websocket": websocket}
    assert pointer in faults(api.post(CLIENTS, document))
    assert "/websocket" in faults(api.post(CLIENTS, {**document, "url": "mqtt://127.0.0.1:1",
                                                     "websocket": {"subprotocol": "x"}}))


def test_a_key_with_a_password_is_opened_and_a_wrong_password_is_told(fleet, authority):
    locked = authority.folder / "locked.key"
    subprocess.run(["openssl", "pkey", "-in", authority.client_key, "-aes256", "-passout",
                    "pass:s3cr3t", "-out", locked], check=True, capture_output=True)
    fleet.start_broker(tls=authority, client_certificates=True)
    node = fleet.start_node(reconnect_min_ms=100, secrets__files_allow=authority.folder)

    def document(client, **tls):
        return fleet.document(client, tls={
            "ca": authority.ca.read_text(), "cert": authority.client_certificate.read_text(),
            **tls})

    fleet.api.create([document("inline", key=locked.read_text(), key_password="s3cr3t"),
                      document("path", key=str(locked), key_password="s3cr3t"),
                      document("wrong", key=str(locked), key_password="guess"),
                      document("without", key=str(locked))])
    fleet.wait_online(["inline", "path"])
    for client, word in (("wrong", "key_password"), ("without", "passphrase")):
        error = wait_until(lambda: fleet.api.status(client)["last_error"], 10, "an error")
        assert error["code"] == "tls_failed" and word in error["message"], error
    found = faults(fleet.api.post(CLIENTS, document("x", key=locked.read_text(),
                                                    key_password="guess")))
    assert "does not decrypt" in found["/tls/key_password"]
    assert "key_password" in faults(fleet.api.post(CLIENTS, document(
        "x", key=locked.read_text())))["/tls/key"]
    assert "s3cr3t" not in node.log() + fleet.api.get(fleet.api.path("inline")).text


class OldServer:
    """TLS of one version and one security level, which reads and never answers."""

    def __init__(self, authority, version, level):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(f"ALL:@SECLEVEL={level}")
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(authority.server_certificate, authority.server_key)
        self.versions = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, args=(context,), daemon=True).start()

    def close(self):
        self._listener.close()

    def _run(self, context):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
                self.versions.append(tls.version())
                tls.recv(100)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_version_of_tls_is_spoken_only_if_permitted(fleet, authority):
    server = fleet.closing(OldServer(authority, ssl.TLSVersion.TLSv1_1, 0))
    fleet.start_node(reconnect_min_ms=100, reconnect_max_ms=200)
    tls = {"ca": authority.ca.read_text()}
    document = {"id": "c", "url": f"mqtts://127.0.0.1:{server.port}", "tls": tls}
    fleet.api.create(document)
    error = wait_until(lambda: fleet.api.status("c")["last_error"], 10, "an error")
    assert error["code"] == "tls_failed" and not server.versions, error
    permitted = {**document, "tls": {**tls, "min_version": "1.1"}}
    assert "security_level 0" in faults(fleet.api.put(fleet.api.path("c"),
                                                      permitted))["/tls/min_version"]
    permitted["tls"]["security_level"] = 0
    assert fleet.api.put(fleet.api.path("c"), permitted).status_code == 200
    wait_until(lambda: "TLSv1.1" in server.versions, 10, "TLS 1.1")


def test_a_newer_version_than_the_brokers_is_insisted_on(fleet, authority):
    server = fleet.closing(OldServer(authority, ssl.TLSVersion.TLSv1_2, 1))
    fleet.start_node(reconnect_min_ms=100, reconnect_max_ms=200)
    fleet.api.create({"id": "c", "url": f"mqtts://127.0.0.1:{server.port}", "tls": {
        "ca": authority.ca.read_text(), "min_version": "1.3"}})
    error = wait_until(lambda: fleet.api.status("c")["last_error"], 10, "an error")
    assert error["code"] == "tls_failed" and not server.versions, error


def test_a_client_may_wait_longer_or_shorter_than_the_node(fleet):
    silent = socket.create_server(("127.0.0.1", free_port()))
    fleet.at_end(silent.close)
    fleet.start_node(connect_timeout_ms=30000)
    url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
    fleet.api.create([fleet.document("short", url=url, connect_timeout_ms=1000),
                      fleet.document("long", url=url)])
    error = wait_until(lambda: fleet.api.status("short")["last_error"], 8, "an error")
    assert error["code"] == "connect_timeout"
    assert fleet.api.status("long")["last_error"] is None


def test_what_a_handshake_and_a_key_have_to_hide_is_encrypted_in_redis(fleet, authority):
    """And the node that runs the client has it plain: queries of urls, headers, a key's password."""
    door = fleet.closing(Door())
    keys = fleet.folder / "keys"
    keys.write_text(subprocess.run([BINARY, "--new-key"], capture_output=True, text=True,
                                   check=True).stdout)
    keys.chmod(0o600)
    locked = authority.folder / "locked.key"
    subprocess.run(["openssl", "pkey", "-in", authority.client_key, "-aes256", "-passout",
                    "pass:s3cr3t-key", "-out", locked], check=True, capture_output=True)
    fleet.start_node(secrets__key_file=keys, reconnect_min_ms=100,
                     secrets__files_allow=authority.folder)
    nobody = f"mqtts://127.0.0.1:{free_port()}"
    document = {"id": "c", "urls": [f"ws://127.0.0.1:{door.port}/a?token=s3cr3t-query", nobody],
                "websocket": {"headers": {"Authorization": "s3cr3t-header"}},
                "tls": {"cert": str(authority.client_certificate), "key": str(locked),
                        "key_password": "s3cr3t-key"}}
    created = fleet.api.post(CLIENTS, document)
    assert created.status_code == 201 and "s3cr3t" not in created.text, created.text
    wait_until(lambda: door.heads, 10, "a request")
    assert "s3cr3t-query" in door.heads[0] and "Authorization: s3cr3t-header" in door.heads[0]
    redis = fleet.redis.client
    text = redis.hget("mqtt_config:use", "c") or redis.hget("mqtt_config:no", "c")
    assert "s3cr3t" not in text and text.count("enc:v1:") == 3, text
    shown = created.json()["config"]
    shown["urls"].reverse()
    answer = fleet.api.put(fleet.api.path("c"), shown)
    assert answer.status_code == 200, answer.text
    seen = len(door.heads)
    wait_until(lambda: len(door.heads) > seen and "s3cr3t-query" in door.heads[-1], 10, "again")
    assert "Authorization: s3cr3t-header" in door.heads[-1]
