"""Real brokers other than mosquitto, one process for a test: Aedes (Node.js, MQTT 3.1.1), ejabberd
(Erlang, its MQTT module), NATS (Go, 3.1.1) and mochi-mqtt (Go). RabbitMQ is in rabbitmq.py.
tools/install-deps --test brings them."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sysconfig

from .mqtt_client import new_client
from .ports import free_port
from .process import Process
from .wait import wait_until

BUILD = pathlib.Path(__file__).resolve().parents[3] / "build"
NODE_MODULES = BUILD / "npm/node_modules"
MOCHI = BUILD / "mochi/mochi"
NATS = shutil.which("nats-server", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
# Debian keeps ejabberd apart from Erlang's own libraries.
ERLANG_LIBRARIES = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"

AEDES_SOURCE = """
const { Aedes } = require('aedes');
const [, , port, publish, subscribe] = process.argv;
const refused = (prefix, topic) => prefix && topic.startsWith(prefix);
Aedes.createBroker({
  authorizePublish: (client, packet, done) =>
    done(refused(publish, packet.topic) ? new Error('refused') : null),
  authorizeSubscribe: (client, one, done) =>
    refused(subscribe, one.topic) ? client.close() : done(null, one),
}).then((broker) =>
  require('net').createServer(broker.handle).listen(+port, '127.0.0.1'));
"""


class OtherBroker(Process):
    """versions: of MQTT that it speaks; login: what a configuration needs to be let in; granted_max:
    QoS of its subscriptions; published_max: highest QoS that it takes as the specification says;
    durable: sessions survive kill(); ws_url, tls_url: where it offers them. name: of its log and its
    files, when a test has two of a kind."""

    versions = ()
    login = {}
    granted_max = published_max = 2
    durable = False
    ws_url = tls_url = None

    def __init__(self, folder, name=None):
        super().__init__(name or type(self).__name__.lower(), folder)
        self.port = free_port()

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    @classmethod
    def missing(cls):
        """What must be installed; None: nothing."""
        raise NotImplementedError

    def start(self):
        self.launch()
        self.wait_ready(self._listens, 60)
        return self

    def restart(self):
        self.kill()
        return self.start()

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def client(self, name="prober"):
        """A connected client of another implementation."""
        client = new_client(name)
        if self.login:
            client.username_pw_set(self.login["username"], self.login["password"])
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        wait_until(client.is_connected, 10, "connected")
        return client

    def publish(self, topic, payload, qos=1, retain=False):
        client = self.client("publisher")
        try:
            # For QoS 0, only the answer to a later packet shows that the broker has read it.
            for info in (client.publish(topic, payload, qos, retain),
                         client.publish("nobody/listens", b"", 1)):
                info.wait_for_publish(20)
                assert info.is_published(), f"{self.name} did not acknowledge a publication"
        finally:
            client.disconnect()
            client.loop_stop()


class Aedes(OtherBroker):
    """The broker closes a client that publishes or subscribes to a topic with this prefix, without a reason."""

    versions = (4,)

    def __init__(self, folder, name=None, refused_publish="", refused_subscribe=""):
        super().__init__(folder, name)
        self._refused = [refused_publish, refused_subscribe]

    @classmethod
    def missing(cls):
        return None if (NODE_MODULES / "aedes").exists() and shutil.which("node") else "npm aedes"

    def launch(self):
        script = self.folder / "aedes.js"
        script.write_text(AEDES_SOURCE)
        self.spawn(["node", script, self.port, *self._refused],
                   {**os.environ, "NODE_PATH": str(NODE_MODULES)})


class Ejabberd(OtherBroker):
    versions = (4, 5)
    # Anonymous in its sense: any name and password.
    login = {"username": "plant@localhost", "password": "any"}

    def __init__(self, folder, name=None, options=()):
        """options: more lines for its module mod_mqtt."""
        super().__init__(folder, name)
        self._options = "".join(f"\n    {line}" for line in options) or " {}"

    @classmethod
    def missing(cls):
        return None if shutil.which("ejabberdctl") else "ejabberd"

    def launch(self):
        """By erl itself, without the distribution that ejabberdctl starts and that would leave an
        epmd behind."""
        config = self.folder / "ejabberd.yml"
        config.write_text(f"""
hosts: [localhost]
loglevel: info
listen:
  - {{port: {self.port}, ip: "127.0.0.1", module: mod_mqtt, backlog: 1000}}
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
modules:
  mod_mqtt:{self._options}
""")
        self.spawn(
            ["erl", "-noinput", "-mnesia", "dir", f'"{self.folder}/mnesia"', "-s", "ejabberd"],
            {**os.environ, "HOME": str(self.folder), "ERL_LIBS": ERLANG_LIBRARIES,
             "EJABBERD_CONFIG_PATH": str(config), "ERL_CRASH_DUMP_BYTES": "0",
             "EJABBERD_LOG_PATH": str(self.folder / "ejabberd-own.log")})


class Nats(OtherBroker):
    """QoS 2 ends the connection; a topic with a dot or a space is refused; what a user may not
    subscribe to is answered with 0x80, what it may not publish is acknowledged and dropped. User
    "half" has permissions for a/# alone. options: more lines for its section mqtt."""

    versions = (4,)
    login = {"username": "plant", "password": "word"}
    half_login = {"username": "half", "password": "word"}
    granted_max = published_max = 1
    durable = True

    def __init__(self, folder, name=None, options=()):
        super().__init__(folder, name)
        self.ws_port, self.own_port = free_port(), free_port()
        self._options = "\n  ".join(options)

    @classmethod
    def missing(cls):
        return None if NATS else "nats-server"

    @property
    def ws_url(self):
        return f"ws://127.0.0.1:{self.ws_port}/mqtt"

    @classmethod
    def is_new(cls):
        """Since 2.10 it supports QoS 2, unless configured otherwise, and dots in topics."""
        version = subprocess.run([NATS, "--version"], check=True, capture_output=True, text=True)
        known = re.search(r"v(\d+)\.(\d+)", version.stdout)
        return (int(known[1]), int(known[2])) >= (2, 10)

    def _without_qos_2(self):
        return ("reject_qos2_publish: true\n  downgrade_qos2_subscribe: true" if self.is_new()
                else "")

    def launch(self):
        config = self.folder / f"{self.name}.conf"
        config.write_text(f"""
server_name: {self.name}
listen: "127.0.0.1:{self.own_port}"
jetstream {{ store_dir: "{self.folder}/{self.name}-store" }}
mqtt {{
  listen: "127.0.0.1:{self.port}"
  ack_wait: 2s
  {self._without_qos_2()}
  {self._options}
}}
websocket {{
  listen: "127.0.0.1:{self.ws_port}"
  no_tls: true
}}
authorization {{ users: [
  {{ user: plant, password: word }}
  {{ user: half, password: word, permissions: {{
      publish: [a, "a.>", "$MQTT.>"], subscribe: [a, "a.>", "$MQTT.sub.>"] }} }}
] }}
""")
        self.spawn([NATS, "-c", config])


class Mochi(OtherBroker):
    """A small program around mochi-mqtt (tests/e2e/brokers/mochi). A message in transit is kept with its topic
    alias, and sent again with only the alias. SUBSCRIBE is answered with 0x91 if its identifier is in use
    by such a message. refused: filters that nobody may use."""

    versions = (4, 5)

    def __init__(self, folder, name=None, refused=(), receive_maximum=1024):
        super().__init__(folder, name)
        self.ws_port = free_port()
        self._options = ["-ws", f"127.0.0.1:{self.ws_port}",
                         "-receive-maximum", str(receive_maximum)]
        for one in refused:
            self._options += ["-refuse", one]

    @classmethod
    def missing(cls):
        return None if MOCHI.exists() else "mochi-mqtt (tools/install-deps --test builds it)"

    @property
    def ws_url(self):
        return f"ws://127.0.0.1:{self.ws_port}/"

    def launch(self):
        self.spawn([MOCHI, *self._options, f"127.0.0.1:{self.port}"])


OTHER_BROKERS = (Aedes, Ejabberd, Nats, Mochi)
