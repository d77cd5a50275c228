#!/usr/bin/python3
"""Reads what a sink writes, from its target, and takes the delay of each message: from the load's stamp in the
payload (t=NANOSECONDS;) until the bytes were read here.

usage: sink_follow.py KIND ADDRESS      commands on standard input: mark, report; answers: lines of JSON
"""
import ctypes
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time

import json

STAMP = re.compile(rb"t=(\d{19});")
RECEIVE = 1 << 20
delays_us = []


def count(chunk, tail=b""):
    """Counts the stamps of a chunk; the end, which may be a part of one."""
    now = time.monotonic_ns()
    data = tail + chunk
    end = 0
    for match in STAMP.finditer(data):
        delays_us.append((now - int(match[1])) // 1000)
        end = match.end()
    return data[max(end, len(data) - 21):]


def connect(address):
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def follow_socket(connection, answer=None):
    tail = b""
    while chunk := connection.recv(RECEIVE):
        if answer and answer[0] in chunk:
            connection.sendall(answer[1])
        tail = count(chunk, tail)


def follow_redis(address):
    """One XREAD after the other; the last id is in its answer."""
    connection, last, data = connect(address), b"$", b""
    ids = re.compile(rb"\r\n(\d{13}-\d+)\r\n")
    while True:
        connection.sendall(b"*8\r\n$5\r\nXREAD\r\n$5\r\nBLOCK\r\n$3\r\n100\r\n$5\r\nCOUNT\r\n$4\r\n5000\r\n"
                           b"$7\r\nSTREAMS\r\n$8\r\nmqtt_msg\r\n$%d\r\n%s\r\n" % (len(last), last))
        data = b""
        while not whole_reply(data):
            data += connection.recv(RECEIVE)
        count(data)
        last = (ids.findall(data) or [last])[-1]
        last = newest(connection) if last == b"$" else last


def newest(connection):
    """A first XREAD of $ may have missed what came between two of them."""
    connection.sendall(b"*2\r\n$4\r\nXLEN\r\n$8\r\nmqtt_msg\r\n")
    return b"0-0" if int(connection.recv(100)[1:]) else b"$"


def whole_reply(data):
    """Whether it is a whole reply of RESP, without looking at each part: the number of entries fits, and it ends with
    the last field of one, the time of mqfleetd or the payload of another program."""
    if data.startswith((b"*-1\r\n", b"$-1\r\n", b"-")):
        return data.endswith(b"\r\n")
    head = re.match(rb"\*1\r\n\*2\r\n\$8\r\nmqtt_msg\r\n\*(\d+)\r\n", data)
    return bool(head) and data.count(b"$7\r\npayload\r\n") >= int(head[1]) and \
        re.search(rb"(received_at_ms\r\n\$13\r\n\d{13}|payload\r\n\$\d+\r\nt=[^\r]*)\r\n$", data[-300:]) is not None


def follow_nats(address):
    connection = connect(address)
    connection.sendall(b'CONNECT {"verbose":false}\r\nSUB mqtt.> 1\r\n')
    follow_socket(connection, (b"PING\r\n", b"PONG\r\n"))


def follow_mqtt(address):
    """RabbitMQ's exchange amq.topic, by its MQTT plugin."""
    def text(value):
        return len(value).to_bytes(2, "big") + value
    connection = connect(address)
    body = text(b"MQTT") + bytes([4, 0xC2]) + (0).to_bytes(2, "big") + text(b"follow") + text(b"v1:plant") + text(b"word")
    connection.sendall(bytes([0x10, len(body)]) + body)
    connection.recv(100)
    body = b"\0\1" + text(b"bench/#") + b"\0"
    connection.sendall(bytes([0x82, len(body)]) + body)
    follow_socket(connection)


def follow_kafka(address):
    kcat = subprocess.Popen(["kcat", "-b", address, "-C", "-t", "bench", "-o", "end", "-u", "-q", "-f", "%s\n",
                             "-X", "fetch.wait.max.ms=5", "-X", "fetch.error.backoff.ms=5"], stdout=subprocess.PIPE)
    tail = b""
    while chunk := os.read(kcat.stdout.fileno(), RECEIVE):
        tail = count(chunk, tail)


def follow_postgres(address):
    """A trigger notifies the stamps of the first 300 rows of each COPY; libpq by ctypes."""
    class Notification(ctypes.Structure):
        _fields_ = [("name", ctypes.c_char_p), ("pid", ctypes.c_int), ("extra", ctypes.c_char_p)]
    pq = ctypes.CDLL("libpq.so.5")
    pq.PQconnectdb.restype = ctypes.c_void_p
    pq.PQnotifies.restype = ctypes.POINTER(Notification)
    connection = ctypes.c_void_p(pq.PQconnectdb(address.encode()))
    pq.PQexec(connection, b"LISTEN bench")
    while True:
        select.select([pq.PQsocket(connection)], [], [])
        pq.PQconsumeInput(connection)
        while notification := pq.PQnotifies(connection):
            count(notification.contents.extra)


def serve_http(address):
    listener = socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))
    while True:
        threading.Thread(target=serve_connection, args=(listener.accept()[0],), daemon=True).start()


def serve_connection(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            if not (chunk := connection.recv(RECEIVE)):
                return
            data += chunk
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
        if b"100-continue" in head:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(data) < length:
            data += connection.recv(RECEIVE)
        count(data[:length])
        data = data[length:]
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


KINDS = {"redis": follow_redis, "nats": follow_nats, "mqtt": follow_mqtt, "kafka": follow_kafka,
         "postgres": follow_postgres, "http": serve_http}


def percentile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else None


def main():
    kind, address = sys.argv[1:]
    threading.Thread(target=KINDS[kind], args=(address,), daemon=True).start()
    time.sleep(1)
    print('{"ready":true}', flush=True)
    for line in sys.stdin:
        taken = list(delays_us)
        if line.strip() == "mark":
            delays_us.clear()
        print(json.dumps({"received": len(taken), "p50_us": percentile(taken, 0.5),
                          "p99_us": percentile(taken, 0.99)}), flush=True)


if __name__ == "__main__":
    main()
