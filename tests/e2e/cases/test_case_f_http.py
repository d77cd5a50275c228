"""HTTP framing by RFC 9112, and concurrent writes of many callers."""

import concurrent.futures
import re
import socket

import pytest

HOST = b"Host: localhost\r\n"
BODY = b'{"ids":[]}'
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def say(node, data, timeout_s=5):
    """Everything that the node sends until it closes the connection or stays silent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", node.port), timeout=timeout_s) as sock:
        sock.sendall(data)
        try:
            while piece := sock.recv(65536):
                answer += piece
        except TimeoutError:
            return answer, False
        except ConnectionResetError:
            pass
    return answer, True


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


def get(*lines, path=b"/livez", version=b"HTTP/1.1"):
    return b"GET " + path + b" " + version + b"\r\n" + b"".join(lines) + b"\r\n"


def post(*lines, body=BODY, host=HOST):
    return (b"POST /api/v1/clients HTTP/1.1\r\nContent-Type: application/json\r\n" + host
            + b"".join(lines) + b"\r\n" + body)


CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: 10\r\n"

BAD = {
    "two lengths": post(LENGTH, b"Content-Length: 10\r\n"),
    "two lengths that differ": post(LENGTH, b"Content-Length: 0\r\n"),
    "a list of lengths": post(b"Content-Length: 10, 10\r\n"),
    "a signed length": post(b"Content-Length: +10\r\n"),
    "a negative length": post(b"Content-Length: -1\r\n"),
    "a hexadecimal length": post(b"Content-Length: 0xa\r\n"),
    "an empty length": post(b"Content-Length: \r\n"),
    "a blank before the colon of the length": post(b"Content-Length : 10\r\n"),
    "a blank before the colon of the coding": post(b"Transfer-Encoding : chunked\r\n"),
    "a tab before the colon of the coding": post(b"Transfer-Encoding\t: chunked\r\n"),
    "length and coding": post(LENGTH, CHUNKED),
    "coding and length": post(CHUNKED, LENGTH),
    "two codings": post(CHUNKED, CHUNKED),
    "a coding that is not known": post(b"Transfer-Encoding: gzip\r\n"),
    "chunked is not the only coding": post(b"Transfer-Encoding: gzip, chunked\r\n"),
    "chunked is not the last coding": post(b"Transfer-Encoding: chunked, identity\r\n"),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"\r\n'),
    "chunked behind a control character": post(b"Transfer-Encoding: \x0bchunked\r\n"),
    "chunked in 1.0": post(CHUNKED, body=b"a\r\n" + BODY + b"\r\n0\r\n\r\n").replace(
        b"HTTP/1.1", b"HTTP/1.0"),
    "a chunk whose length is none": post(CHUNKED, body=b"zz\r\n" + BODY),
    "a chunk whose length is signed": post(CHUNKED, body=b"-1\r\n" + BODY),
    "a chunk whose length has a prefix": post(CHUNKED, body=b"0xa\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk whose length is empty": post(CHUNKED, body=b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": post(CHUNKED, body=b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "no host": get(),
    "two hosts": get(HOST, HOST),
    "two hosts that differ": get(HOST, b"Host: other\r\n"),
    "a host with a path": get(b"Host: localhost/x\r\n"),
    "a host with a user": get(b"Host: a@localhost\r\n"),
    "a host with a blank": get(b"Host: local host\r\n"),
    "a folded field": get(HOST, b"X-A: b\r\n c\r\n"),
    "a folded length": post(b"Content-Length: 1\r\n 0\r\n"),
    "a folded coding": post(b"Transfer-Encoding:\r\n chunked\r\n"),
    "a first line that is folded": get(b" X-A: b\r\n", HOST),
    "a bare CR in a value": get(HOST, b"X-A: b\rTransfer-Encoding: chunked\r\n"),
    "a bare CR in a name": get(HOST, b"X-A\rB: c\r\n"),
    "a bare LF behind a field": get(HOST, b"X-A: b\nX-B: c\r\n"),
    "a bare LF behind the request line": b"GET /livez HTTP/1.1\n" + HOST + b"\r\n",
    "a NUL in a value": get(HOST, b"X-A: b\x00c\r\n"),
    "a NUL in a name": get(HOST, b"X-A\x00B: c\r\n"),
    "a control character in a value": get(HOST, b"X-A: b\x01c\r\n"),
    "DEL in a value": get(HOST, b"X-A: b\x7fc\r\n"),
    "no colon": get(HOST, b"X-A\r\n"),
    "no name": get(HOST, b": b\r\n"),
    "no name before others": get(HOST, b": b\r\n", b"X-A: b\r\n"),
    "no CR at the end": get(HOST)[:-2] + b"\n",
    "a blank in a name": get(HOST, b"X A: b\r\n"),
    "a name that is no token": get(HOST, b"X(A): b\r\n"),
    "a name that is not ASCII": get(HOST, b"X-\xc3\xa4: b\r\n"),
    "a blank in the target": get(HOST, path=b"/li vez"),
    "a control character in the target": get(HOST, path=b"/li\x01vez"),
}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    from fleet.fleet import Fleet
    fleet = Fleet(tmp_path_factory.mktemp("http"))
    try:
        yield fleet.start_node()
    finally:
        faults = fleet.close()
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", BAD)
def test_case_F10_what_can_be_read_in_two_ways_is_400_and_closes(node, name):
    """Data that follows on the connection is never taken for another request."""
    answer, closed = say(node, BAD[name] + SMUGGLED)
    assert set(statuses(answer)) == {400} and closed, answer


@pytest.mark.parametrize("name", ["two lengths that differ", "coding and length", "two hosts"])
def test_case_F10_also_behind_a_good_request_of_the_same_connection(node, name):
    answer, closed = say(node, get(HOST) + BAD[name] + SMUGGLED)
    assert statuses(answer) == [200, 400] and closed, answer


GOOD = {
    "a length": post(b"Content-Length: 2\r\n", body=b"[]"),
    "a length of any case": post(b"content-LENGTH: 2\r\n", body=b"[]"),
    "chunks": post(CHUNKED, body=b"1\r\n[\r\n1\r\n]\r\n0\r\n\r\n"),
    "chunks of any case": post(b"transfer-encoding: CHUNKED\r\n", body=b"2\r\n[]\r\n0\r\n\r\n"),
    "chunks with a trailer": post(CHUNKED, body=b"2\r\n[]\r\n0\r\nX-Sum: 1\r\n\r\n"),
    "an empty field": get(HOST, b"X-A:\r\n"),
    "blanks and a tab around a value": get(HOST, b"X-A: \t b \t\r\n"),
    "bytes that are not ASCII in a value": get(HOST, b"X-A: \xc3\xa4\r\n"),
    "a host with a port": get(b"Host: localhost:8080\r\n"),
    "an IPv6 host": get(b"Host: [::1]:8080\r\n"),
    "no host in 1.0": get(version=b"HTTP/1.0"),
    "a query": get(HOST, path=b"/livez?verbose"),
}


BARE_LF = {
    "behind a length": b"2\n[]\r\n0\r\n\r\n",
    "behind an extension": b"2;a\n[]\r\n0\r\n\r\n",
    "in an extension": b"2;\n5\r\n[]\r\n0\r\n\r\n",
    "behind the data": b"2\r\n[]\n0\r\n\r\n",
    "behind the last length": b"2\r\n[]\r\n0\n\r\n",
    "behind a trailer": b"2\r\n[]\r\n0\r\nX-Sum: 1\n\r\n",
    "at the end": b"2\r\n[]\r\n0\r\n\n",
}


@pytest.mark.parametrize("name", BARE_LF)
def test_case_F10_nothing_behind_a_chunk_line_without_cr_is_a_request(node, name):
    """Whether libmicrohttpd accepts it (0.9.75) or refuses it (1.0.1)."""
    answer, closed = say(node, post(CHUNKED, body=BARE_LF[name]) + SMUGGLED)
    assert statuses(answer) in ([200], [400]) and closed, answer


@pytest.mark.parametrize("name", GOOD)
def test_case_F10_what_is_well_framed_is_served_and_the_next_one_too(node, name):
    again = b"" if b"HTTP/1.0" in GOOD[name] else GOOD[name]
    last = get(HOST, b"Connection: close\r\n")
    answer, closed = say(node, GOOD[name] + again + last)
    alone = "chunks" in name or not again  # the connection is closed behind a chunked body
    assert closed and statuses(answer) == ([200] if alone else [200, 200, 200]), answer


def test_case_F17_who_sets_no_condition_is_never_told_of_one(fleet):
    """Nine callers that replace one client without If-Match, and two that pause and resume it."""
    first, second = fleet.start_node(), fleet.start_node()
    first.api.create({"id": "c", "url": "mqtt://127.0.0.1:1", "desired": "paused"})
    answers = []

    def write(writer):
        api = (first, second)[writer % 2].api
        for turn in range(40):
            if writer < 9:
                document = {"id": "c", "url": "mqtt://127.0.0.1:1", "desired": "paused",
                            "keepalive_s": 30 + writer, "labels": {"turn": str(turn)}}
                answers.append(api.put(api.path("c"), document).status_code)
            else:
                answers.append(api.post(api.path("c", "pause")).status_code)

    with concurrent.futures.ThreadPoolExecutor(11) as pool:
        list(pool.map(write, range(11)))
    assert set(answers) == {200} and len(answers) == 440


def test_case_F17_a_condition_holds_while_others_write(fleet):
    """If nine writers have read the same version, exactly one of them can replace it."""
    node = fleet.start_node()
    node.api.create({"id": "c", "url": "mqtt://127.0.0.1:1", "desired": "paused"})
    for turn in range(10):
        tag = node.api.get(node.api.path("c")).headers["ETag"]

        def write(writer, tag=tag, turn=turn):
            document = {"id": "c", "url": "mqtt://127.0.0.1:1", "desired": "paused",
                        "labels": {"writer": f"{turn}-{writer}"}}
            return node.api.put(node.api.path("c"), document,
                                headers={"If-Match": tag}).status_code

        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            assert sorted(pool.map(write, range(9))) == [200] + [412] * 8
