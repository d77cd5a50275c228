"""The actions of a hostile broker, one row each: when it sends which bytes, and what must follow. Section
numbers refer to the MQTT 5.0 specification."""

import dataclasses
import typing

from fleet.packets import (AUTH, CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP,
                           PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE,
                           acknowledge, connack, disconnect, packet, publish, suback, text)

MALFORMED, PROTOCOL, TOPIC_NAME = 0x81, 0x82, 0x90
RECEIVE_MAXIMUM, TOPIC_ALIAS, TOO_LARGE = 0x93, 0x94, 0x95
BAD = {MALFORMED, PROTOCOL}  # where the specification names neither or both

# What the client shows for a reason code.
SHOWN = {
    0x00: "server_disconnect", 0x80: "unspecified_error", 0x81: "malformed_packet",
    0x82: "protocol_error", 0x83: "implementation_error", 0x84: "unsupported_protocol_version",
    0x85: "identifier_rejected", 0x86: "bad_credentials", 0x87: "not_authorized",
    0x88: "server_unavailable", 0x89: "server_busy", 0x8A: "banned", 0x8B: "server_shutting_down",
    0x8C: "bad_authentication_method", 0x8D: "keep_alive_timeout", 0x8E: "taken_over",
    0x8F: "topic_filter_invalid", 0x90: "topic_name_invalid", 0x93: "receive_maximum_exceeded",
    0x94: "topic_alias_invalid", 0x95: "packet_too_large", 0x96: "message_rate_too_high",
    0x97: "quota_exceeded", 0x98: "administrative_action", 0x99: "payload_format_invalid",
    0x9A: "retain_not_supported", 0x9B: "qos_not_supported", 0x9C: "use_another_server",
    0x9D: "server_moved", 0x9E: "shared_subscriptions_not_supported",
    0x9F: "connection_rate_exceeded", 0xA0: "maximum_connect_time",
    0xA1: "subscription_identifiers_not_supported", 0xA2: "wildcard_subscriptions_not_supported",
}

# Moments: the broker has read the packet named last and answered all those before it.
ACCEPTED, CONNECTING, CONNECTED, SUBSCRIBING, ONLINE, PUBLISHED_1, PUBLISHED_2, RELEASED = (
    "accepted", "connecting", "connected", "subscribing", "online", "published at QoS 1",
    "published at QoS 2", "released")

CLOSES, STAYS, EITHER = "closes", "stays", "either"


@dataclasses.dataclass
class Case:
    """send: bytes, or a function of (version, id of the client's last packet). reasons: codes of
    SHOWN, one of which the client shows and, under MQTT 5, says; or names of what it shows without
    saying anything. `slowly`: one byte at a time. `then`: "close" or "reset" the connection."""
    name: str
    after: str
    send: typing.Any
    reasons: typing.Any = frozenset(BAD)
    versions: tuple = (4, 5)
    ends: str = CLOSES
    then: str = ""
    slowly: bool = False
    config: dict = dataclasses.field(default_factory=dict)

    def bytes_for(self, version, packet_id):
        return self.send(version, packet_id) if callable(self.send) else self.send


CASES = []
current = ""


def section(name):
    """The first word of the names of the following rows."""
    global current
    current = name


def case(name, after, send, reasons=BAD, **more):
    CASES.append(Case(f"{current}: {name}", after, send, reasons, **more))


def case_of_5(name, after, send, reasons=BAD, **more):
    case(name, after, send, reasons, versions=(5,), **more)


def case_of_4(name, after, send, reasons=BAD, **more):
    case(name, after, send, reasons, versions=(4,), **more)


def online(name, send, reasons=BAD, **more):
    case(name, ONLINE, send, reasons, **more)


def hexed(digits):
    return bytes.fromhex(digits)


# ---- the fixed header, 2.1 -----------------------------------------------------------------------

section("framing")

online("a remaining length of five bytes", hexed("30 ff ff ff ff 7f"))
online("a remaining length that never ends", hexed("30 ff ff ff ff ff ff ff ff ff ff"))
online("a remaining length not in its shortest form", hexed("d0 80 00"), ends=EITHER)
online("packet type 0", hexed("00 00"))
online("packet type 15", hexed("f0 00"))
for kind, body in ((PUBACK, "00 01"), (PUBREC, "00 01"), (PUBCOMP, "00 01"), (SUBACK, "00 01 00"),
                   (UNSUBACK, "00 01"), (PINGRESP, "")):
    online(f"wrong flags of packet type {kind}", packet(kind, hexed(body), 1))
online("wrong flags of PUBREL", packet(PUBREL, hexed("00 01"), 0))
case("wrong flags of CONNACK", CONNECTING, lambda v, _: bytes([0x21]) + connack(v)[1:])
case_of_5("wrong flags of DISCONNECT", ONLINE, hexed("e1 00"))
case_of_5("wrong flags of AUTH", ONLINE, hexed("f1 00"))
online("PINGRESP with a body", hexed("d0 01 00"))
online("noise", bytes(range(7, 256, 3)))

# ---- packets of a client, and none that a broker may send here -----------------------------------

section("unasked")

online("CONNECT from the broker", packet(CONNECT, text("MQTT") + hexed("04 02 00 3c 00 00")))
online("SUBSCRIBE from the broker", packet(SUBSCRIBE, hexed("00 01") + text("a") + b"\0", 2))
online("UNSUBSCRIBE from the broker", packet(UNSUBSCRIBE, hexed("00 01") + text("a"), 2))
online("PINGREQ from the broker", packet(PINGREQ))
case_of_5("AUTH unasked", ONLINE, packet(AUTH))
case_of_5("AUTH with a method nobody asked for", ONLINE,
          packet(AUTH, hexed("18 05 15 00 02") + b"ab"))
case_of_5("AUTH before CONNACK", CONNECTING, packet(AUTH, hexed("18 05 15 00 02") + b"ab"))
case_of_4("DISCONNECT of MQTT 3.1.1 from the broker", ONLINE, packet(DISCONNECT))
online("CONNACK twice", lambda v, _: connack(v), {PROTOCOL})
online("SUBACK unasked", lambda v, _: suback(v, 777, [0]), ends=EITHER)
online("UNSUBACK unasked", lambda v, _: suback(v, 777, [0], kind=UNSUBACK), ends=EITHER)

# ---- instead of CONNACK, 3.2 ---------------------------------------------------------------------

section("connack")

case("PUBLISH before CONNACK", CONNECTING, lambda v, _: publish(v, "t/x", "early"), {PROTOCOL})
case("SUBACK before CONNACK", CONNECTING, lambda v, _: suback(v, 1, [0]), {PROTOCOL})
case("PINGRESP before CONNACK", CONNECTING, packet(PINGRESP), {PROTOCOL})
case_of_5("DISCONNECT before CONNACK", CONNECTING, disconnect(0x8B), {PROTOCOL, 0x8B})
case("no CONNACK at all", CONNECTING, b"", {"connect_timeout"})
case("half a CONNACK", CONNECTING, lambda v, _: connack(v)[:-1], {"connect_timeout"})
case("CONNACK without a body", CONNECTING, packet(CONNACK))
case("CONNACK of one byte", CONNECTING, packet(CONNACK, b"\0"))
case_of_4("CONNACK of three bytes", CONNECTING, packet(CONNACK, b"\0\0\0"))
case_of_5("CONNACK without properties", CONNECTING, packet(CONNACK, b"\0\0"), ends=EITHER)
case("CONNACK with a reserved flag", CONNECTING, lambda v, _: connack(v).replace(
    b"\x03\0", b"\x03\x02").replace(b"\x02\0\0", b"\x02\x02\0"))
case("a session that nobody asked for", CONNECTING, lambda v, _: connack(v, True), {PROTOCOL})
case("a refusal with a session", CONNECTING,
     lambda v, _: connack(v, True, 5 if v == 4 else 0x87), {PROTOCOL, MALFORMED, "not_authorized"},
     config={"clean_start": False})
case_of_4("CONNACK with a reserved return code", CONNECTING, connack(4, code=6),
          {PROTOCOL, MALFORMED, "unknown_reason"})
case_of_5("CONNACK with an unknown reason code", CONNECTING, connack(5, code=0x42),
          {PROTOCOL, MALFORMED, "unknown_reason"})
section("refusal")
for code, name in ((1, "unsupported_protocol_version"), (2, "identifier_rejected"),
                   (3, "server_unavailable"), (4, "bad_credentials"), (5, "not_authorized")):
    case_of_4(f"refused with return code {code}", CONNECTING, connack(4, code=code), {name})
for code in (0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
             0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F):
    case_of_5(f"refused with reason code {code:#x}", CONNECTING, connack(5, code=code),
              {SHOWN[code]})
section("connack")
for name, properties in (
        ("an unknown property", [(0x7E, b"\0")]),
        ("a property of PUBLISH", [("topic_alias", 1)]),
        ("a repeated property", [("server_keepalive", 10)] * 2),
        ("receive maximum 0", [("receive_maximum", 0)]),
        ("maximum packet size 0", [("maximum_packet_size", 0)]),
        ("maximum QoS 2", [("maximum_qos", 2)]),
        ("retain available 2", [("retain_available", 2)]),
        ("wildcards available 2", [("wildcard_available", 2)]),
        ("an authentication nobody asked for", [("auth_method", "plain")]),
        ("authentication data without a method", [("auth_data", b"x")]),
        ("invalid UTF-8", [("reason_string", b"\0\2\xff\xfe")]),
        ("a property that is cut off", [("assigned_client_id", b"\0\x09short")])):
    case_of_5(f"CONNACK with {name}", CONNECTING, connack(5, properties=properties))
case_of_5("CONNACK with properties longer than the packet", CONNECTING,
          packet(CONNACK, hexed("00 00 20 13 00 05")))

# ---- SUBACK, 3.9 ---------------------------------------------------------------------------------

section("suback")


def subscribing(name, send, reasons=BAD, **more):
    case(name, SUBSCRIBING, send, reasons, **more)


subscribing("SUBACK with too many codes", lambda v, i: suback(v, i, [1, 1]))
subscribing("SUBACK without codes", lambda v, i: suback(v, i, []))
subscribing("SUBACK of an unknown id", lambda v, i: suback(v, i ^ 0x5555, [1]),
            {PROTOCOL, "subscribe_timeout"})
subscribing("SUBACK of id 0", lambda v, _: suback(v, 0, [1]))
subscribing("SUBACK with a reserved code", lambda v, i: suback(v, i, [3]))
subscribing("SUBACK of one byte", packet(SUBACK, b"\0"))
subscribing("UNSUBACK instead of SUBACK", lambda v, i: suback(v, i, [0], kind=UNSUBACK), {PROTOCOL})
subscribing("PUBACK instead of SUBACK", lambda v, i: acknowledge(PUBACK, i),
            {PROTOCOL, "subscribe_timeout"})
subscribing("no SUBACK at all", b"", {"subscribe_timeout"})
subscribing("SUBACK twice", lambda v, i: suback(v, i, [2]) * 2, ends=EITHER)
case("SUBACK with too few codes", SUBSCRIBING, lambda v, i: suback(v, i, [1]), config={
    "subscriptions": [{"filter": "t/#", "qos": 1}, {"filter": "u/#", "qos": 1}]})
case_of_5("SUBACK with an unknown property", SUBSCRIBING,
          lambda v, i: suback(v, i, [1], [(0x7E, b"\0")]))
case_of_5("SUBACK with properties longer than the packet", SUBSCRIBING,
          lambda _, i: packet(SUBACK, i.to_bytes(2, "big") + hexed("09 00")))

# ---- PUBLISH, 3.3 --------------------------------------------------------------------------------

section("publish")

online("PUBLISH without a body", packet(PUBLISH))
online("PUBLISH of one byte", packet(PUBLISH, b"\0"))
online("PUBLISH at QoS 3", packet(PUBLISH, text("t/x") + b"\0\1\0hello", 6))
online("DUP at QoS 0", lambda v, _: publish(v, "t/x", "x", dup=True), ends=EITHER)
for qos in (1, 2):
    online(f"PUBLISH at QoS {qos} with id 0", lambda v, _, qos=qos: publish(v, "t/x", "x", qos, 0))
    online(f"PUBLISH at QoS {qos} that ends before its id",
           packet(PUBLISH, text("t/x") + b"\0", qos << 1))
online("a topic longer than its packet", packet(PUBLISH, hexed("00 ff") + b"t/x"))
for name, topic in (("of one plus", "+"), ("with a plus", "t/+/x"), ("with a hash", "t/#")):
    online(f"a topic {name}", lambda v, _, topic=topic: publish(v, topic, "x"), {*BAD, TOPIC_NAME})
for name, topic in (("0xff", b"t/\xff"), ("a lone continuation", b"t/\x80"),
                    ("a sequence cut off", b"t/\xe2\x82"), ("an overlong slash", b"t\xc0\xaf"),
                    ("a surrogate", b"t/\xed\xa0\x80"),
                    ("more than U+10FFFF", b"t/\xf4\x90\x80\x80"),
                    ("U+0000", b"t/\0x")):
    online(f"a topic with {name}", lambda v, _, topic=topic: publish(v, topic, "x"),
           {*BAD, TOPIC_NAME})
online("an empty topic", lambda v, _: publish(v, "", "x"), {*BAD, TOPIC_NAME})
for name, properties in (
        ("an unknown property", [(0x7E, b"\0")]),
        ("a property of CONNACK", [("server_keepalive", 1)]),
        ("a repeated content type", [("content_type", "a"), ("content_type", "b")]),
        ("a repeated payload format", [("payload_format", 1)] * 2),
        ("payload format 2", [("payload_format", 2)]),
        ("a content type of invalid UTF-8", [("content_type", b"\0\1\xff")]),
        ("a user property of invalid UTF-8", [("user_property", b"\0\1\xff\0\1a")]),
        ("half a user property", [("user_property", b"\0\1a")]),
        ("a wildcard in its response topic", [("response_topic", "a/#")]),
        ("subscription identifier 0", [("subscription_identifier", 0)]),
        ("an overlong subscription identifier", [(0x0B, hexed("ff ff ff ff 01"))]),
        ("a message expiry that is cut off", [(0x02, hexed("00 00"))])):
    case_of_5(f"PUBLISH with {name}", ONLINE, publish(5, "t/x", "x", properties=properties),
              {*BAD, TOPIC_NAME})
case_of_5("PUBLISH with properties longer than the packet", ONLINE,
          packet(PUBLISH, text("t/x") + hexed("7f 01 00")))
case_of_5("PUBLISH with a property length of five bytes", ONLINE,
          packet(PUBLISH, text("t/x") + hexed("ff ff ff ff 01")))
case_of_5("PUBLISH without a property length", ONLINE, packet(PUBLISH, text("t/x")))
case_of_5("topic alias 0", ONLINE, publish(5, "t/x", "x", properties=[("topic_alias", 0)]),
          {TOPIC_ALIAS, PROTOCOL})
case_of_5("a topic alias over the maximum", ONLINE,
          publish(5, "t/x", "x", properties=[("topic_alias", 65535)]), {TOPIC_ALIAS, PROTOCOL})
case_of_5("an unknown topic alias", ONLINE, publish(5, "", "x", properties=[("topic_alias", 1)]),
          {TOPIC_ALIAS, PROTOCOL})
case_of_5("more messages than the receive maximum", ONLINE,
          b"".join(publish(5, "t/x", f"{n}", 2, n) for n in range(1, 5)), {RECEIVE_MAXIMUM},
          config={"receive_maximum": 3})
case_of_5("a packet over the maximum size", ONLINE, publish(5, "t/x", "x" * 300), {TOO_LARGE},
          config={"max_packet_size": 256})
case_of_5("the header of a packet over the maximum size", ONLINE, hexed("30 ff ff 7f 00"),
          {TOO_LARGE}, config={"max_packet_size": 256})
online("a huge packet that never comes", hexed("30 ff ff ff 7f 00 03") + b"t/x" + bytes(5000),
       {TOO_LARGE, "keepalive_timeout"}, config={"keepalive_s": 1})

# ---- acknowledgements, 3.4 to 3.7, 4.3 -----------------------------------------------------------

section("acknowledgement")

for kind, name in ((PUBACK, "PUBACK"), (PUBREC, "PUBREC"), (PUBREL, "PUBREL"),
                   (PUBCOMP, "PUBCOMP")):
    online(f"{name} of id 0", acknowledge(kind, 0))
    online(f"{name} of one byte", packet(kind, b"\0", 2 if kind == PUBREL else 0))
    case_of_4(f"{name} with a reason code", ONLINE, acknowledge(kind, 1, 0))
    case_of_5(f"{name} with an unknown property", ONLINE,
              packet(kind, hexed("00 01 00 02 7e 00"), 2 if kind == PUBREL else 0))
    case_of_5(f"{name} with properties longer than the packet", ONLINE,
              packet(kind, hexed("00 01 00 09 1f"), 2 if kind == PUBREL else 0))
online("PUBACK of an unknown id", acknowledge(PUBACK, 777), ends=EITHER)
online("PUBREC of an unknown id", acknowledge(PUBREC, 777), ends=EITHER)
online("PUBCOMP of an unknown id", acknowledge(PUBCOMP, 777), ends=EITHER)
online("PUBREL of an unknown id", acknowledge(PUBREL, 777), ends=STAYS)
case("PUBREC after PUBACK", PUBLISHED_1,
     lambda v, i: acknowledge(PUBACK, i) + acknowledge(PUBREC, i), ends=EITHER)
case("PUBREC for QoS 1", PUBLISHED_1, lambda v, i: acknowledge(PUBREC, i), {PROTOCOL})
case("PUBCOMP for QoS 1", PUBLISHED_1, lambda v, i: acknowledge(PUBCOMP, i), {PROTOCOL})
case("SUBACK for QoS 1", PUBLISHED_1, lambda v, i: suback(v, i, [0]), {PROTOCOL})
case("PUBACK for QoS 2", PUBLISHED_2, lambda v, i: acknowledge(PUBACK, i), ends=STAYS)
case("PUBCOMP before PUBREL", PUBLISHED_2, lambda v, i: acknowledge(PUBCOMP, i), {PROTOCOL})
case("PUBACK for PUBREL", RELEASED, lambda v, i: acknowledge(PUBACK, i), {PROTOCOL})
case("PUBREC again for PUBREL", RELEASED, lambda v, i: acknowledge(PUBREC, i), ends=EITHER)
case_of_5("PUBACK with an unknown reason code", PUBLISHED_1,
          lambda _, i: acknowledge(PUBACK, i, 0x42), ends=EITHER)

# ---- DISCONNECT, 3.14 ----------------------------------------------------------------------------

section("disconnect")

case_of_5("DISCONNECT without a reason", ONLINE, disconnect(), {SHOWN[0]})
for code in (0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94,
             0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2):
    case_of_5(f"DISCONNECT with reason {code:#x}", ONLINE, disconnect(code), {SHOWN[code]})
case_of_5("DISCONNECT with a reason of no meaning", ONLINE, disconnect(0x42),
          {*BAD, "unknown_reason"})
case_of_5("DISCONNECT with a will, which only a client may", ONLINE, disconnect(0x04),
          {*BAD, "unknown_reason"})
case_of_5("DISCONNECT with a session expiry", ONLINE,
          disconnect(0x8B, [("session_expiry", 5)]), {*BAD, "server_shutting_down"})
case_of_5("DISCONNECT with an unknown property", ONLINE, disconnect(0x8B, [(0x7E, b"\0")]))
case_of_5("DISCONNECT before SUBACK", SUBSCRIBING, disconnect(0x89), {"server_busy"})

# ---- floods and PINGRESP -------------------------------------------------------------------------

section("flood")

online("PINGRESP unasked", packet(PINGRESP), ends=STAYS)
online("a flood of PINGRESP", packet(PINGRESP) * 200000, ends=STAYS)
online("a flood of PUBACK", acknowledge(PUBACK, 9) * 50000, ends=EITHER)
online("a flood of empty messages", lambda v, _: publish(v, "t/x") * 2000, ends=STAYS)

# ---- the end of the connection at each point -----------------------------------------------------

section("end")

LOST = {"connection_lost"}
UNHEARD = {"connection_lost", "connection_refused", "protocol_error"}
for then in ("close", "reset"):
    case(f"{then} before CONNECT is read", ACCEPTED, b"", UNHEARD, then=then)
    case(f"{then} instead of CONNACK", CONNECTING, b"", UNHEARD, then=then)
    case(f"{then} within CONNACK", CONNECTING, lambda v, _: connack(v)[:2], UNHEARD, then=then)
    case(f"{then} after CONNACK", CONNECTED, b"", LOST, then=then)
    case(f"{then} instead of SUBACK", SUBSCRIBING, b"", LOST, then=then)
    case(f"{then} within SUBACK", SUBSCRIBING, lambda v, i: suback(v, i, [1])[:3], LOST, then=then)
    case(f"{then} once online", ONLINE, b"", LOST, then=then)
    case(f"{then} within a header", ONLINE, hexed("30 ff"), LOST, then=then)
    case(f"{then} within PUBLISH", ONLINE, lambda v, _: publish(v, "t/x", "never whole", 1, 9)[:-3],
         LOST, then=then)
    case(f"{then} instead of PUBACK", PUBLISHED_1, b"", LOST, then=then)
    case(f"{then} instead of PUBREC", PUBLISHED_2, b"", LOST, then=then)
    case(f"{then} instead of PUBCOMP", RELEASED, b"", LOST, then=then)

# ---- slow, but right -----------------------------------------------------------------------------

section("slow")

case("CONNACK byte by byte", CONNECTING, lambda v, _: connack(v), slowly=True, ends=STAYS)
subscribing("SUBACK byte by byte", lambda v, i: suback(v, i, [2]), slowly=True, ends=STAYS)
for qos in (0, 1, 2):
    online(f"PUBLISH at QoS {qos} byte by byte",
           lambda v, _, qos=qos: publish(v, "t/slow", "drop by drop", qos, 11), slowly=True,
           ends=STAYS)
