"""Real brokers other than mosquitto: Aedes (Node.js, MQTT 3.1.1) and ejabberd (Erlang, its MQTT
module). tools/install-deps --test brings them."""

import os
import pathlib
import shutil
import socket
import sysconfig

import paho.mqtt.client as paho

from .ports import free_port
from .process import Process
from .wait import wait_until

NODE_MODULES = pathlib.Path(__file__).resolve().parents[3] / "build/npm/node_modules"
# Debian keeps ejabberd apart from Erlang's own libraries.
ERLANG_LIBRARIES = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"

AEDES_SOURCE = """
const { Aedes } = require('aedes');
Aedes.createBroker().then((broker) =>
  require('net').createServer(broker.handle).listen(+process.argv[2], '127.0.0.1'));
"""


class OtherBroker(Process):
    """versions: of MQTT that it speaks; login: what a configuration needs to be let in."""

    versions = ()
    login = {}

    def __init__(self, folder):
        super().__init__(type(self).__name__.lower(), folder)
        self.port = free_port()

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    @classmethod
    def missing(cls):
        """What has to be installed; None: nothing."""
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
        """A client of another make, connected."""
        client = paho.Client(name, protocol=paho.MQTTv311)
        if self.login:
            client.username_pw_set(self.login["username"], self.login["password"])
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        wait_until(client.is_connected, 10, "connected")
        return client

    def publish(self, topic, payload, qos=1, retain=False):
        client = self.client("publisher")
        try:
            # Of QoS 0 only the answer to another tells that the broker has read it.
            for info in (client.publish(topic, payload, qos, retain),
                         client.publish("nobody/listens", b"", 1)):
                info.wait_for_publish(20)
                assert info.is_published(), f"{self.name} did not acknowledge a publication"
        finally:
            client.disconnect()
            client.loop_stop()


class Aedes(OtherBroker):
    versions = (4,)

    @classmethod
    def missing(cls):
        return None if (NODE_MODULES / "aedes").exists() and shutil.which("node") else "npm aedes"

    def launch(self):
        script = self.folder / "aedes.js"
        script.write_text(AEDES_SOURCE)
        self.spawn(["node", script, self.port],
                   {**os.environ, "NODE_PATH": str(NODE_MODULES)})


class Ejabberd(OtherBroker):
    versions = (4, 5)
    # Anonymous by its own meaning of the word: any name and password.
    login = {"username": "plant@localhost", "password": "any"}

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
  mod_mqtt: {{}}
""")
        self.spawn(
            ["erl", "-noinput", "-mnesia", "dir", f'"{self.folder}/mnesia"', "-s", "ejabberd"],
            {**os.environ, "HOME": str(self.folder), "ERL_LIBS": ERLANG_LIBRARIES,
             "EJABBERD_CONFIG_PATH": str(config), "ERL_CRASH_DUMP_BYTES": "0",
             "EJABBERD_LOG_PATH": str(self.folder / "ejabberd-own.log")})


OTHER_BROKERS = (Aedes, Ejabberd)
