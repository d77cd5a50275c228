"""MQTT 3.1.1 and 5.0 as bytes: packets that a scripted broker sends, including invalid ones, and a strict
decoder for packets that it receives. Anything that the specification forbids a client raises an
AssertionError."""

import dataclasses
import struct

(CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE,
 UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH) = range(1, 16)

NAMES = ("0 CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE "
         "UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH").split()

# ---- properties, MQTT 5.0 section 2.2.2.2 --------------------------------------------------------

BYTE, TWO, FOUR, VARIABLE, TEXT, BINARY, PAIR = "byte two four variable text binary pair".split()

PROPERTIES = {
    0x01: ("payload_format", BYTE), 0x02: ("message_expiry", FOUR), 0x03: ("content_type", TEXT),
    0x08: ("response_topic", TEXT), 0x09: ("correlation_data", BINARY),
    0x0B: ("subscription_identifier", VARIABLE), 0x11: ("session_expiry", FOUR),
    0x12: ("assigned_client_id", TEXT), 0x13: ("server_keepalive", TWO),
    0x15: ("auth_method", TEXT), 0x16: ("auth_data", BINARY), 0x17: ("request_problem", BYTE),
    0x18: ("will_delay", FOUR), 0x19: ("request_response", BYTE),
    0x1A: ("response_information", TEXT), 0x1C: ("server_reference", TEXT),
    0x1F: ("reason_string", TEXT), 0x21: ("receive_maximum", TWO),
    0x22: ("topic_alias_maximum", TWO), 0x23: ("topic_alias", TWO), 0x24: ("maximum_qos", BYTE),
    0x25: ("retain_available", BYTE), 0x26: ("user_property", PAIR),
    0x27: ("maximum_packet_size", FOUR), 0x28: ("wildcard_available", BYTE),
    0x29: ("subscription_identifiers_available", BYTE), 0x2A: ("shared_available", BYTE),
}
IDS = {name: number for number, (name, _) in PROPERTIES.items()}

# Which properties a client may use in which packet.
ALLOWED = {
    CONNECT: {"session_expiry", "receive_maximum", "maximum_packet_size", "topic_alias_maximum",
              "request_response", "request_problem", "user_property", "auth_method", "auth_data"},
    "will": {"will_delay", "payload_format", "message_expiry", "content_type", "response_topic",
             "correlation_data", "user_property"},
    PUBLISH: {"payload_format", "message_expiry", "topic_alias", "response_topic",
              "correlation_data", "user_property", "content_type"},
    PUBACK: {"reason_string", "user_property"}, PUBREC: {"reason_string", "user_property"},
    PUBREL: {"reason_string", "user_property"}, PUBCOMP: {"reason_string", "user_property"},
    SUBSCRIBE: {"subscription_identifier", "user_property"}, UNSUBSCRIBE: {"user_property"},
    DISCONNECT: {"session_expiry", "reason_string", "user_property"},
}


def number_of(value):
    """A variable byte integer."""
    result = bytearray()
    while True:
        value, digit = divmod(value, 128)
        result.append(digit | (128 if value else 0))
        if not value:
            return bytes(result)


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(value)) + value


def prop(key, value):
    """One property by name or number; bytes stand for themselves."""
    number = IDS.get(key, key)
    if isinstance(value, (bytes, bytearray)) and PROPERTIES.get(number, ("", ""))[1] != BINARY:
        return bytes([number]) + value
    kind = PROPERTIES[number][1]
    return bytes([number]) + {
        BYTE: lambda: struct.pack("!B", value), TWO: lambda: struct.pack("!H", value),
        FOUR: lambda: struct.pack("!I", value), VARIABLE: lambda: number_of(value),
        TEXT: lambda: text(value), BINARY: lambda: text(value),
        PAIR: lambda: text(value[0]) + text(value[1]),
    }[kind]()


def props(pairs=()):
    """Property length and properties; pairs: (key, value) each, or a dict."""
    pairs = pairs.items() if isinstance(pairs, dict) else pairs
    body = b"".join(prop(key, value) for key, value in pairs)
    return number_of(len(body)) + body


# ---- what a broker sends -------------------------------------------------------------------------


def packet(kind, body=b"", flags=0):
    return bytes([kind << 4 | flags]) + number_of(len(body)) + body


def connack(version, present=False, code=0, properties=()):
    body = bytes([int(present), code])
    return packet(CONNACK, body + (props(properties) if version == 5 else b""))


def publish(version, topic, payload=b"", qos=0, packet_id=None, dup=False, retain=False,
            properties=()):
    body = text(topic) + (struct.pack("!H", packet_id) if qos else b"")
    body += props(properties) if version == 5 else b""
    payload = payload.encode() if isinstance(payload, str) else payload
    return packet(PUBLISH, body + payload, dup << 3 | qos << 1 | retain)


def acknowledge(kind, packet_id, code=None, properties=None):
    """PUBACK, PUBREC, PUBREL, PUBCOMP."""
    body = struct.pack("!H", packet_id)
    if code is not None:
        body += bytes([code])
    if properties is not None:
        body += props(properties)
    return packet(kind, body, 2 if kind == PUBREL else 0)


def suback(version, packet_id, codes, properties=(), kind=SUBACK):
    head = struct.pack("!H", packet_id) + (props(properties) if version == 5 else b"")
    return packet(kind, head + (b"" if kind == UNSUBACK and version == 4 else bytes(codes)))


def unsuback(version, packet_id, codes):
    return suback(version, packet_id, codes, kind=UNSUBACK)


def disconnect(code=None, properties=None):
    body = b"" if code is None else bytes([code])
    return packet(DISCONNECT, body + (props(properties) if properties is not None else b""))


PONG = packet(PINGRESP)

# ---- what a client sends, read strictly ----------------------------------------------------------


@dataclasses.dataclass
class Packet:
    kind: int
    flags: int
    raw: bytes
    fields: dict

    def __getattr__(self, name):
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(f"{name} of {self}") from None

    def __repr__(self):
        return f"{NAMES[self.kind]} {self.fields}"


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    @property
    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        assert self.left >= n, f"the packet ends {n - self.left} bytes too early: {self.data!r}"
        self.at += n
        return self.data[self.at - n:self.at]

    def byte(self):
        return self.take(1)[0]

    def two(self):
        return struct.unpack("!H", self.take(2))[0]

    def four(self):
        return struct.unpack("!I", self.take(4))[0]

    def binary(self):
        return self.take(self.two())

    def text(self):
        value = self.binary().decode("utf-8")  # strict: no surrogates, no overlong forms
        assert "\0" not in value, "U+0000 in a text"
        return value

    def variable(self):
        start = self.at
        value = shift = 0
        while True:
            digit = self.byte()
            value |= (digit & 127) << shift
            shift += 7
            if not digit & 128:
                break
            assert shift < 28, "a variable byte integer of more than four bytes"
        assert self.data[start:self.at] == number_of(value), "not the shortest form of a number"
        return value

    def properties(self, where):
        inside = Reader(self.take(self.variable()))
        found = {}
        while inside.left:
            number = inside.variable()
            assert number in PROPERTIES, f"unknown property {number:#x}"
            name, kind = PROPERTIES[number]
            assert name in ALLOWED[where], f"{name} in {where}"
            value = {BYTE: inside.byte, TWO: inside.two, FOUR: inside.four, TEXT: inside.text,
                     VARIABLE: inside.variable, BINARY: inside.binary,
                     PAIR: lambda: (inside.text(), inside.text())}[kind]()
            if kind == PAIR:
                found.setdefault(name, []).append(value)
            else:
                assert name not in found, f"{name} twice"
                found[name] = value
        for name in ("receive_maximum", "maximum_packet_size", "topic_alias"):
            assert found.get(name) != 0, f"{name} is 0"
        for name in ("payload_format", "request_response", "request_problem"):
            assert found.get(name, 0) in (0, 1), f"{name} {found[name]}"
        assert "auth_data" not in found or "auth_method" in found
        return found


def split(data):
    """(complete packet, rest), or None while the packet is incomplete."""
    length = shift = 0
    for at in range(1, len(data)):
        length |= (data[at] & 127) << shift
        shift += 7
        if not data[at] & 128:
            end = at + 1 + length
            return (bytes(data[:end]), data[end:]) if len(data) >= end else None
        assert at < 4, f"a remaining length of more than four bytes: {bytes(data[:8])!r}"
    return None


def read(raw, version):
    """The packet in `raw`, of a client that speaks `version` (None: whatever its CONNECT says)."""
    kind, flags = raw[0] >> 4, raw[0] & 15
    reader = Reader(raw[1:])
    assert reader.variable() == reader.left
    if kind != PUBLISH:
        assert flags == (2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0), f"flags {flags}"
    assert kind in READERS, f"a client sends {NAMES[kind]}"
    fields = READERS[kind](reader, flags, version)
    assert reader.left == 0, f"{reader.left} bytes too many in {NAMES[kind]}: {raw!r}"
    return Packet(kind, flags, raw, fields)


def read_connect(reader, _flags, _version):
    assert reader.text() == "MQTT"
    version = reader.byte()
    assert version in (4, 5), version
    bits = reader.byte()
    assert not bits & 1, "the reserved flag of CONNECT"
    fields = {"version": version, "clean": bool(bits & 2), "keepalive": reader.two(), "will": None,
              "username": None, "password": None,
              "properties": reader.properties(CONNECT) if version == 5 else {}}
    fields["client_id"] = reader.text()
    assert fields["client_id"] or version == 5 or fields["clean"]
    if bits & 4:
        qos = bits >> 3 & 3
        assert qos < 3
        fields["will"] = {"qos": qos, "retain": bool(bits & 32),
                          "properties": reader.properties("will") if version == 5 else {},
                          "topic": reader.text(), "payload": reader.binary()}
    else:
        assert not bits & 0x38, "will QoS or retain without a will"
    if bits & 128:
        fields["username"] = reader.text()
    if bits & 64:
        assert version == 5 or bits & 128, "a password without a user name"
        fields["password"] = reader.binary()
    return fields


def read_publish(reader, flags, version):
    qos = flags >> 1 & 3
    assert qos < 3 and (qos or not flags & 8)
    fields = {"qos": qos, "dup": bool(flags & 8), "retain": bool(flags & 1), "topic": reader.text()}
    assert not set(fields["topic"]) & set("+#"), "a wildcard in a topic"
    fields["id"] = reader.two() if qos else None
    assert fields["id"] != 0
    fields["properties"] = reader.properties(PUBLISH) if version == 5 else {}
    assert fields["topic"] or "topic_alias" in fields["properties"]
    fields["payload"] = reader.take(reader.left)
    return fields


def read_acknowledgement(kind):
    def read_it(reader, _flags, version):
        fields = {"id": reader.two(), "code": 0, "properties": {}}
        if version == 5 and reader.left:
            fields["code"] = reader.byte()
            if reader.left:
                fields["properties"] = reader.properties(kind)
        return fields
    return read_it


def check_filter(value):
    assert value
    if value.startswith("$share/"):
        assert len(value.split("/", 2)) == 3 and not set(value.split("/")[1]) & set("+#")
    levels = value.split("/")
    assert all("#" not in level or (level == "#" and at == len(levels) - 1)
               for at, level in enumerate(levels)), value
    assert all("+" not in level or level == "+" for level in levels), value
    return value


def read_subscribe(reader, _flags, version):
    fields = {"id": reader.two(), "filters": [],
              "properties": reader.properties(SUBSCRIBE) if version == 5 else {}}
    assert fields["id"] != 0
    while reader.left:
        name, options = check_filter(reader.text()), reader.byte()
        assert options & 3 < 3 and not options & (0xC0 if version == 5 else 0xFC), options
        assert options >> 4 & 3 < 3
        assert not (name.startswith("$share/") and options & 4), "no_local on a shared subscription"
        fields["filters"].append((name, options))
    assert fields["filters"]
    return fields


def read_unsubscribe(reader, _flags, version):
    fields = {"id": reader.two(), "filters": [],
              "properties": reader.properties(UNSUBSCRIBE) if version == 5 else {}}
    assert fields["id"] != 0
    while reader.left:
        fields["filters"].append(check_filter(reader.text()))
    assert fields["filters"]
    return fields


def read_disconnect(reader, _flags, version):
    fields = {"code": 0, "properties": {}}
    if reader.left:
        assert version == 5, "DISCONNECT of MQTT 3.1.1 has no body"
        fields["code"] = reader.byte()
        if reader.left:
            fields["properties"] = reader.properties(DISCONNECT)
    return fields


READERS = {
    CONNECT: read_connect, PUBLISH: read_publish, SUBSCRIBE: read_subscribe,
    UNSUBSCRIBE: read_unsubscribe, DISCONNECT: read_disconnect,
    PINGREQ: lambda *_: {},
    **{kind: read_acknowledgement(kind) for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP)},
}
