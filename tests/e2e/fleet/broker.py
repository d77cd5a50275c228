"""A real mosquitto and its log: who connected, was taken over, subscribed."""

import collections
import os
import re
import shutil
import socket

from .mqtt_client import MQTTv5, new_client
from .ports import free_port
from .process import Process

MOSQUITTO = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")

CONNECTED = re.compile(r"New client connected from \S+ as (\S+) \(p(\d+), c(\d), k(\d+)")
TAKEN_OVER = re.compile(r"Client (\S+) already connected, closing old connection")
ENDED = re.compile(
    r"Client (\S+?)(?: disconnected| closed its connection| has exceeded timeout|"
    r" already connected)|on client (\S+?), disconnecting"
)
SUBSCRIBED = re.compile(r"^\d+: (\S+) ([012]) (\S+)$")


class Broker(Process):
    """options: further lines of mosquitto.conf; tls: certificates.Authority, for a TLS listener;
    client_certificates: require them; users: {name: password}; persistence: sessions survive a
    restart."""

    def __init__(self, folder, name="broker", options=(), tls=None, client_certificates=False,
                 users=None, persistence=False):
        super().__init__(name, folder)
        self.port = free_port()
        self.tls = tls
        self.config_path = self.folder / f"{name}.conf"
        self.config_path.write_text("\n".join(
            self._config(options, client_certificates, users, persistence)) + "\n")

    def _config(self, options, client_certificates, users, persistence):
        yield "per_listener_settings false"
        if os.geteuid() == 0:
            yield "user root"
        yield "log_dest stderr"
        for kind in ("error", "warning", "notice", "information", "subscribe", "unsubscribe"):
            yield f"log_type {kind}"
        yield "connection_messages true"
        yield "max_queued_messages 0"
        yield "set_tcp_nodelay true"
        yield f"allow_anonymous {'false' if users else 'true'}"
        if users:
            yield f"password_file {self._password_file(users)}"
        if persistence:
            yield "persistence true"
            yield f"persistence_location {self.folder}/"
            yield f"persistence_file {self.name}.db"
        yield f"listener {self.port} 127.0.0.1"
        if self.tls:
            yield f"cafile {self.tls.ca}"
            yield f"certfile {self.tls.server_certificate}"
            yield f"keyfile {self.tls.server_key}"
            yield f"require_certificate {'true' if client_certificates else 'false'}"
        yield from options

    def _password_file(self, users):
        path = self.folder / f"{self.name}.passwords"
        path.write_text("".join(f"{name}:{word}\n" for name, word in users.items()))
        path.chmod(0o600)
        hashing = Process("mosquitto_passwd", self.folder)
        hashing.spawn(["mosquitto_passwd", "-U", path])
        assert hashing.wait_exit() == 0, hashing.log()
        return path

    @property
    def url(self):
        return f"{'mqtts' if self.tls else 'mqtt'}://127.0.0.1:{self.port}"

    def start(self):
        self.spawn([MOSQUITTO, "-c", self.config_path])
        self.wait_ready(self._listens, 20)
        return self

    def restart(self):
        self.terminate()
        return self.start()

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def publish(self, topic, payload, qos=1, retain=False, properties=None):
        """Publishes one message and waits for its acknowledgement."""
        self.publish_all([(topic, payload)], qos, retain, properties)

    def publish_all(self, messages, qos=1, retain=False, properties=None):
        """Publishes (topic, payload) pairs in order, and waits for all acknowledgements."""
        client = new_client(protocol=MQTTv5)
        client.max_inflight_messages_set(1000)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        try:
            sent = [client.publish(topic, payload, qos, retain, properties)
                    for topic, payload in messages]
            for info in sent:
                info.wait_for_publish(30)
                assert info.is_published(), "the broker did not acknowledge a publication"
        finally:
            client.disconnect()
            client.loop_stop()

    # ---- content of the log; since: an earlier mark() ------------------------------------

    def mark(self):
        return len(self.log())

    def _lines(self, since):
        return self.log()[since:].splitlines()

    def connects(self, since=0):
        """Counter of connections per client identifier."""
        found = (CONNECTED.search(line) for line in self._lines(since))
        return collections.Counter(match[1] for match in found if match)

    def connect_options(self, client_id):
        """(protocol, clean start, keepalive) of the last connection; protocol 2: MQTT 3.1.1."""
        found = [match for match in map(CONNECTED.search, self._lines(0))
                 if match and match[1] == client_id]
        return tuple(int(value) for value in found[-1].groups()[1:])

    def takeovers(self, since=0):
        """Identifiers that connected while they were already connected, with their counts."""
        found = (TAKEN_OVER.search(line) for line in self._lines(since))
        return collections.Counter(match[1] for match in found if match)

    def connected(self):
        """Identifiers connected now. Connections that ended with the broker count as ended."""
        online = set()
        for line in self._lines(0):
            if "mosquitto version" in line and "starting" in line:
                online.clear()
            if match := ENDED.search(line):
                online.discard(match[1] or match[2])
            elif match := CONNECTED.search(line):
                online.add(match[1])
        return online

    def subscriptions(self, since=0):
        """{client identifier: set of filters subscribed}."""
        result = collections.defaultdict(set)
        for line in self._lines(since):
            if match := SUBSCRIBED.match(line):
                result[match[1]].add(match[3])
        return result
