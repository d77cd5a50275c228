"""The errors of a client that cannot connect: the first sentence is the cause, the advice names the setting
to change. The cases E of the field, and their neighbours; by :test and by last_error."""

import gzip
import json
import socket

import pytest

from fleet.certificates import Authority
from fleet.mqtt_client import MQTTv311, new_client
from fleet.strangers import OpensslServer, Stranger, closes, http, says
from fleet.wait import wait_until

TEST = "/api/v1/clients:test"
SAN = "subjectAltName=DNS:localhost,IP:127.0.0.1"
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A root, an intermediate below it, and a server below that."""
    authority = Authority(tmp_path_factory.mktemp("pki"))
    authority.root = authority.chain("root", CA)
    authority.middle = authority.chain("middle", CA, issuer=authority.root)
    authority.leaf = authority.chain("leaf", SAN, issuer=authority.middle)
    return authority


def verdict(api, document, **query):
    answer = api.post(TEST, document, params={"timeout_ms": 8000, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def told(api, document, detail, advice, step=None, **query):
    """Asserts that the last step of :test failed with these words."""
    report = verdict(api, document, **query)
    last = report["steps"][-1]
    assert not report["ok"], report
    assert step in (None, last["step"]), last
    for word in [detail] if isinstance(detail, str) else detail:
        assert word in last["detail"], last
    for word in [advice] if isinstance(advice, str) else advice:
        assert word in last["advice"], last
    return last


def tls(port, host="localhost", scheme="mqtts", **fields):
    return {"url": f"{scheme}://{host}:{port}", "tls": fields}


def stranger(fleet, talk, scheme="mqtt", path=""):
    return f"{scheme}://127.0.0.1:{fleet.closing(Stranger(talk)).port}{path}"


def s_server(fleet, certificate, *words, **more):
    return fleet.closing(OpensslServer(fleet.folder, certificate, *words, **more))


# ---- E1: which certificates tls.ca may contain -------------------------------------------------------------------

def test_case_E1_an_intermediate_or_the_leaf_is_trusted(fleet, pki):
    api = fleet.start_node(secrets__files_allow=pki.folder).api
    fleet.start_broker("leaf", tls=pki.leaf)
    url = tls(fleet.others[-1].port)["url"]
    for trusted in (pki.middle, pki.leaf):
        for ca in (trusted.text, str(trusted.certificate)):
            report = verdict(api, {"url": url, "tls": {"ca": ca}})
            assert report["ok"], report
    # Of the root nobody is sent who leads to it: the one link that is missing.
    told(api, {"url": url, "tls": {"ca": pki.root.text}},
         ["unknown CA", '"middle" is not trusted', "does not send its certificate"],
         ["configure the broker to send the intermediate", "put that into tls.ca"], "tls")
    whole = verdict(api, {"url": url, "tls": {"ca": pki.root.text + pki.middle.text}})
    assert whole["ok"], whole


def test_case_E1_the_issuer_that_is_missing_is_named_whatever_it_is_called(fleet, pki):
    api = fleet.start_node().api
    for number, (subject, name) in enumerate((
            ('/CN=Plant "CA"\x07 2', 'Plant ?CA?? 2'), ("/O=Plant", "Plant"),
            ("/CN=" + "n" * 64, "n" * 60 + "..."), ("/O=a/OU=b/CN=c", "c"))):
        middle = pki.chain(f"middle-{number}", CA, issuer=pki.root, subject=subject)
        leaf = pki.chain(f"leaf-{number}", SAN, issuer=middle)
        told(api, tls(s_server(fleet, leaf).port, ca=pki.root.text),
             f'unknown CA: "{name}" is not trusted', "intermediate", "tls")
        # The certificate that the broker sends is not the missing one.
        whole = pki.folder / f"whole-{number}.pem"
        whole.write_text(leaf.text + middle.text)
        sender = s_server(fleet, leaf, "-cert_chain", str(whole))
        told(api, tls(sender.port, ca=pki.chain(f"stranger-{number}", CA).text),
             'unknown CA: "root" is not trusted', "tls.ca", "tls")


def test_case_E1_a_self_signed_leaf_is_trusted_and_only_that(fleet, pki):
    api = fleet.start_node().api
    own = pki.chain("own", SAN)
    fleet.start_broker("own", tls=own)
    url = tls(fleet.others[-1].port)["url"]
    assert verdict(api, {"url": url, "tls": {"ca": own.text}})["ok"]
    told(api, {"url": url, "tls": {"ca": pki.leaf.text}}, "self-signed", "own certificate", "tls")
    told(api, {"url": url}, "self-signed", "tls.ca", "tls")


def test_case_E1_trust_in_the_leaf_asks_for_name_and_time_all_the_same(fleet, pki):
    api = fleet.start_node().api
    fleet.start_broker("leaf", tls=pki.leaf)
    told(api, tls(fleet.others[-1].port, "127.0.0.1", ca=pki.leaf.text, server_name="other.example"),
         ["not for the name", "localhost"], "tls.server_name", "tls")
    expired = pki.chain("expired", SAN, issuer=pki.middle, expired=True)
    server = s_server(fleet, expired)
    for ca in (expired.text, pki.middle.text):
        told(api, tls(server.port, ca=ca), "expired", "renew", "tls")


@pytest.mark.every_engine
def test_case_E1_a_client_that_trusts_the_leaf_stays_online_over_resumed_sessions(fleet, pki):
    api = fleet.start_node().api
    fleet.start_broker("leaf", tls=pki.leaf)
    broker = fleet.others[-1]
    api.create({"id": "e1", "client_id": "e1", **tls(broker.port, ca=pki.leaf.text)})
    for _ in range(3):
        wait_until(lambda: api.state("e1") == "online", 15, "online")
        broker.kill()
        wait_until(lambda: api.state("e1") != "online", 15, "lost")
        broker.start()
    wait_until(lambda: api.state("e1") == "online", 30, "online")


# ---- E2: too weak -------------------------------------------------------------------------------

@pytest.mark.parametrize("key, digest, word", [
    (("rsa:1024",), "sha256", "RSA key of 1024 bits"),
    (("rsa:2048",), "sha1", "SHA1"),
])
def test_case_E2_a_weak_certificate_is_named_and_so_is_the_setting(fleet, pki, key, digest, word):
    api = fleet.start_node().api
    weak = pki.chain(f"weak-{key[0][4:]}", SAN, issuer=pki.root, key=key, digest=digest)
    server = s_server(fleet, weak, "-cipher", "DEFAULT:@SECLEVEL=0")
    told(api, tls(server.port, ca=pki.root.text), ["too weak", word], "tls.security_level", "tls")


def test_case_E2_a_weak_certificate_of_ones_own_is_named(fleet, pki):
    api = fleet.start_node().api
    weak = pki.chain("own-weak", key=("rsa:1024",))
    told(api, tls(fleet.broker.port, cert=weak.text, key=weak.key_text), "tls.cert is too weak",
         "tls.security_level", "tls")


def test_case_E2_a_weak_authority_is_told_from_a_weak_broker(fleet, pki):
    api = fleet.start_node().api
    weak = pki.chain("weak-ca", CA, key=("rsa:1024",))
    below = pki.chain("below-weak", SAN, issuer=weak)
    last = told(api, tls(s_server(fleet, below).port, ca=weak.text), "the key of a CA above it is too weak",
                "tls.security_level", "tls")
    assert "256 bits" not in last["detail"]
    # A certificate that is itself trusted is trusted however it is signed.
    old = pki.chain("old-ca", CA, digest="sha1")
    fleet.start_broker("old", tls=pki.chain("below-old", SAN, issuer=old))
    assert verdict(api, tls(fleet.others[-1].port, ca=old.text))["ok"]


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_case_E2_a_broker_of_an_old_tls_alone_is_named(fleet, pki, version):
    api = fleet.start_node().api
    server = s_server(fleet, pki.leaf, version, "-cipher", "DEFAULT:@SECLEVEL=0")
    told(api, tls(server.port, ca=pki.leaf.text), "TLS version", "tls.min_version", "tls")


# ---- E3: names ----------------------------------------------------------------------------------

def test_case_E3_a_certificate_without_alternative_names_says_what_it_has_and_lacks(fleet, pki):
    api = fleet.start_node().api
    bare = pki.chain("bare", issuer=pki.root, subject="/O=Plant/CN=broker.plant")
    server = s_server(fleet, bare)
    for host in ("127.0.0.1", "localhost"):
        told(api, tls(server.port, host, ca=pki.root.text),
             ["no subject alternative name", 'common name "broker.plant"', f'"{host}"'],
             ["subjectAltName", "tls.server_name"], "tls")
    nameless = s_server(fleet, pki.chain("nameless", issuer=pki.root, subject="/O=Plant"))
    last = told(api, tls(nameless.port, ca=pki.root.text), "no subject alternative name",
                "subjectAltName", "tls")
    assert "common name" not in last["detail"]


def test_case_E3_a_certificate_for_others_says_for_whom_shortly(fleet, pki):
    api = fleet.start_node().api
    names = ",".join(f"DNS:n{i}.example" for i in range(30))
    many = pki.chain("many", f"subjectAltName=IP:10.1.2.3,IP:::1,{names}", issuer=pki.root)
    server = s_server(fleet, many)
    last = told(api, tls(server.port, ca=pki.root.text),
                ['"localhost"', "10.1.2.3, ::1, n0.example, n1.example", "28 more"],
                "tls.server_name", "tls")
    assert len(last["detail"]) < 256
    odd = pki.chain("odd", f"subjectAltName=DNS:{'x' * 200}.example", issuer=pki.root,
                    subject='/CN=a<script>"b')
    last = told(api, tls(s_server(fleet, odd).port, ca=pki.root.text), "xxx...", "tls", "tls")
    assert len(last["detail"]) < 256


# ---- E4, E5: who closes on CONNECT ---------------------------------------------------------------

def test_case_E4_a_broker_that_closes_on_MQTT_5_leads_to_the_other_version(fleet):
    api = fleet.start_node().api
    url = stranger(fleet, closes)
    told(api, {"url": url, "protocol_version": 5}, "before CONNACK", "protocol_version to 4",
         "connect")
    last = told(api, {"url": url, "protocol_version": 4}, "before CONNACK", "scheme", "connect")
    assert "protocol_version" not in last["advice"]


def test_case_E5_tls_that_closes_on_port_443_leads_to_alpn(fleet, pki):
    api = fleet.start_node().api
    host = "127.0.0.43"
    leaf = pki.chain("leaf-443", f"subjectAltName=IP:{host}", issuer=pki.root)
    try:
        socket.create_server((host, 443)).close()
    except PermissionError:
        pytest.skip("port 443 takes privileges")
    fleet.closing(Stranger(closes, (host, 443), leaf))
    for version in (4, 5):
        told(api, tls(443, host, ca=pki.root.text) | {"protocol_version": version},
             "before CONNACK", ["tls.alpn", "x-amzn-mqtt-ca"], "connect")
    fleet.closing(other := Stranger(closes, certificate=leaf))
    told(api, tls(other.port, ca=pki.root.text, server_name=host) | {"protocol_version": 5},
         "before CONNACK", "protocol_version to 4", "connect")


# ---- E6: no MQTT there ----------------------------------------------------------------------------

@pytest.mark.parametrize("status, fields, detail, advice", [
    ("200 OK", ["Content-Type: text/html"], "HTTP status 200", "path"),
    ("302 Found", ["Location: /login"], "HTTP status 302", "redirects"),
    ("404 Not Found", [], "HTTP status 404", "path"),
    ("401 Unauthorized", [], "HTTP status 401", "websocket.headers"),
    ("403 Forbidden", [], "HTTP status 403", "path"),
    ("503 Service Unavailable", [], "HTTP status 503", "log"),
])
def test_case_E6_another_answer_than_a_websocket_is_explained(fleet, status, fields, detail, advice):
    api = fleet.start_node().api
    told(api, {"url": stranger(fleet, http(status, *fields), "ws", "/x")}, detail, advice,
         "websocket")


@pytest.mark.parametrize("answer", ["echo", "text", "json", "nothing", "close"])
def test_case_E6_a_websocket_without_MQTT_says_so(fleet, answer):
    api = fleet.start_node().api
    url = stranger(fleet, WebSocketTalk(answer), "ws", "/chat")
    told(api, {"url": url}, "MQTT at this path", "path of the url", "connect", timeout_ms=2000)


class WebSocketTalk:
    """Opens the WebSocket and then does what is said, once it has a frame."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, sock):
        import base64
        import hashlib
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        key = [line.split(b": ")[1] for line in head.split(b"\r\n")
               if line.lower().startswith(b"sec-websocket-key")][0]
        accept = base64.b64encode(hashlib.sha1(
            key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        frame = sock.recv(4096)
        mask, payload = frame[2:6], frame[6:6 + (frame[1] & 0x7F)]
        plain = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        answers = {"echo": b"\x82" + bytes([len(plain)]) + plain, "text": b"\x81\x05hello",
                   "json": b"\x82\x0b" + b'{"a": true}', "nothing": b"", "close": b""}
        sock.sendall(answers[self.answer])
        if self.answer != "close":
            sock.recv(4096)


@pytest.mark.parametrize("answer, detail, advice", [
    (http("400 Bad Request"), 'a web server answers on this port, not MQTT: "HTTP/1.1 400',
     "port for MQTT"),
    (says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", first=True), '"SSH-2.0-OpenSSH', "no MQTT"),
    (says(b"220 mail.example ESMTP\r\n", first=True), '"220 mail.example', "no MQTT"),
    (says(b"\x4a\x00\x00\x00\x0a8.0.36\x00" + bytes(64), first=True), "does not answer MQTT", "no MQTT"),
    (says(b"-ERR unknown command\r\n"), '"-ERR unknown command"', "no MQTT"),
    (says(b"\x15\x03\x01\x00\x02\x02\x46"), "answers TLS", "mqtts://"),
])
def test_case_E6_what_answers_instead_of_MQTT_is_shown(fleet, answer, detail, advice):
    api = fleet.start_node().api
    told(api, {"url": stranger(fleet, answer)}, detail, advice, "connect")


# ---- PEM is judged when it is posted --------------------------------------------------------------

@pytest.fixture(scope="module")
def material(pki):
    pki.locked = pki.chain("locked", encrypted="open sesame")
    pki.other = pki.chain("other")
    cut = pki.leaf.text[:len(pki.leaf.text) // 2]
    return [
        ("/tls/ca", {"ca": cut}, "cannot be read"),
        ("/tls/ca", {"ca": pki.leaf.text + cut}, "certificate 2"),
        ("/tls/ca", {"ca": pki.leaf.key_text}, "must contain a certificate"),
        ("/tls/cert", {"cert": cut, "key": pki.leaf.key_text}, "cannot be read"),
        ("/tls/key", {"cert": pki.leaf.text, "key": pki.other.key_text}, "key of tls.cert"),
        ("/tls/key", {"cert": pki.locked.text, "key": pki.locked.key_text}, "passphrase"),
        ("/tls/key", {"cert": pki.leaf.text, "key": pki.leaf.text}, "private key"),
    ]


def test_pem_that_cannot_be_used_is_refused_on_every_way_in(fleet, pki, material):
    api = fleet.start_node(secrets__files_allow="/no/such").api
    url = "mqtts://localhost:8883"
    files = {"ca": "/no/such/ca", "cert": "/no/such/cert", "key": "/no/such/key"}
    good = {"ca": pki.leaf.text, "cert": pki.leaf.text, "key": pki.leaf.key_text}
    for i, fields in enumerate((files, good)):
        assert api.post("/api/v1/clients", {"id": f"good{i}", "url": url, "desired": "paused",
                                            "tls": fields}).status_code == 201
    for pointer, fields, word in material:
        document = {"id": "bad", "url": url, "tls": fields}
        for answer in (api.post("/api/v1/clients", document),
                       api.put("/api/v1/clients/good0", document | {"id": "good0"}),
                       api.post(TEST, document)):
            assert answer.status_code == 422, answer.text
            [fault] = answer.json()["errors"]
            assert fault["pointer"] == pointer and word in fault["detail"]
            assert "BEGIN" not in fault["detail"] or "-----BEGIN" in fault["detail"]
        theirs = api.post("/create_mqtt", {"client_id": "bad", "url": url, "tls": fields}).json()
        assert theirs["status"] == 400 and theirs["errors"][0]["pointer"] == pointer, theirs
    assert {one["id"] for one in api.clients()} == {"good0", "good1"}


# ---- E9, E10 ----------------------------------------------------------------------------------------

BOM = b"\xef\xbb\xbf"


def post_bytes(api, path, body, **headers):
    return api.call("POST", path, data=body, headers=headers)


def test_case_E9_a_byte_order_mark_is_no_part_of_the_json(fleet):
    api = fleet.start_node().api
    body = BOM + json.dumps({"id": "bom", **fleet.document("bom")}).encode()
    assert post_bytes(api, "/api/v1/clients", body).status_code == 201
    assert post_bytes(api, TEST, BOM + b'{"url": "mqtt://127.0.0.1:1"}').status_code == 200
    theirs = json.dumps({"client_id": "old", "broker": "127.0.0.1", "port": fleet.broker.port})
    assert post_bytes(api, "/create_mqtt", BOM + theirs.encode()).json()["status"] == 200
    api.wait_state("bom", "online")
    answer = post_bytes(api, "/api/v1/clients/bom/publish",
                        BOM + b'{"topic": "t", "payload": "x", "qos": 1}')
    assert answer.status_code == 200, answer.text
    for bad in (BOM, BOM + BOM + b"{}", BOM + b'{"id": }', b"\xef\xbb{}"):
        assert post_bytes(api, "/api/v1/clients", bad).status_code == 400


@pytest.mark.parametrize("coding, status", [("gzip", 415), ("br", 415), ("gzip, identity", 415),
                                            ("identity", 201), ("Identity", 201)])
def test_case_E9_an_encoded_body_is_refused_as_such(fleet, coding, status):
    api = fleet.start_node().api
    plain = json.dumps({"id": "coded", **fleet.document("coded")}).encode()
    body = gzip.compress(plain) if status == 415 else plain
    answer = post_bytes(api, "/api/v1/clients", body, **{"Content-Encoding": coding})
    assert answer.status_code == status, answer.text
    if status == 415:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Accept-Encoding"] == "identity"
        assert coding in answer.json()["detail"] and "identity" in answer.json()["detail"]


def test_case_E10_a_publication_without_payload_clears_nothing(fleet):
    fleet.start_node()
    fleet.online(1)
    api, path = fleet.api, "/api/v1/clients/c00000/publish"
    kept = {"topic": "t/kept", "qos": 1, "retain": True}
    assert api.post(path, kept | {"payload": "on"}).status_code == 200

    def retained():
        """The retained message, or what says that there is none."""
        client = new_client(protocol=MQTTv311)
        seen = []
        client.on_message = lambda _client, _data, message: seen.append(message)
        client.on_connect = lambda *_: client.subscribe([("t/kept", 1), ("t/mark", 1)])
        client.connect("127.0.0.1", fleet.broker.port)
        client.loop_start()
        try:
            wait_until(lambda: any(m.topic == "t/mark" for m in seen), 10, "the mark came")
        finally:
            client.disconnect()
            client.loop_stop()
        return next((m.payload for m in seen if m.topic == "t/kept"), None)
    fleet.broker.publish("t/mark", "m", retain=True)
    wait_until(lambda: retained() == b"on", 10, "retained")
    for more in ({}, {"retain": False}, {"payload": None}):
        answer = api.post(path, kept | more)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == "/payload"
    push = {"client_id": "c00000", "topic": "t/kept", "qos": 1}
    assert api.post("/push_data", push | {"retained": True}).json()["status"] == 422
    assert retained() == b"on"
    # Go IoT's callers may leave it out of what is not kept.
    assert api.post("/push_data", push).json()["status"] == 200
    assert api.post(path, {"topic": "t/x", "payload": "", "qos": 1}).status_code == 200
    assert api.post(path, {"topic": "t/x", "payload_base64": "", "qos": 1}).status_code == 200
    assert retained() == b"on"
    assert api.post("/push_data", push | {"retained": True, "payload": ""}).json()["status"] == 200
    wait_until(lambda: retained() is None, 10, "cleared")


# ---- neighbours ------------------------------------------------------------------------------------

def test_tls_towards_what_is_none_says_so(fleet, pki):
    api = fleet.start_node().api
    for talk in (http("400 Bad Request"), says(b"SSH-2.0-OpenSSH_9.2p1\r\n", first=True)):
        told(api, {"url": stranger(fleet, talk, "mqtts")}, "does not use TLS", "mqtt://", "tls")
    told(api, {"url": stranger(fleet, closes, "mqtts")}, "closed the connection at once", "mqtt://",
         "tls")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_client_certificate_that_is_wanted_is_named(fleet, pki, version):
    api = fleet.start_node().api
    server = s_server(fleet, pki.leaf, version, "-Verify", "2", "-CAfile", pki.root.certificate,
                      "-verify_return_error")
    told(api, tls(server.port, ca=pki.leaf.text), "client certificate", "tls.cert and tls.key")
    wrong = pki.chain("wrong-client")
    told(api, tls(server.port, ca=pki.leaf.text, cert=wrong.text, key=wrong.key_text), "tls.cert",
         "tls.cert")


# ---- the same words in the status of a client -------------------------------------------------------

@pytest.mark.every_engine
def test_last_error_has_the_advice_of_the_test(fleet, pki):
    fleet.start_node()
    api = fleet.api
    server = s_server(fleet, pki.chain("status", issuer=pki.root, subject="/CN=broker.plant"))
    document = tls(server.port, ca=pki.root.text)
    report = verdict(api, document)["steps"][-1]
    api.create({"id": "a", **document})

    def error():
        return api.client("a")["status"]["last_error"]
    wait_until(error, 15, "an error")
    assert error()["code"] == "tls_failed"
    assert (error()["message"], error()["advice"]) == (report["detail"], report["advice"])
