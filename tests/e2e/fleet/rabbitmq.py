"""A real RabbitMQ with its MQTT plugins, on loopback, with its own folders and ports. It takes ten seconds
to boot, so one process serves many tests, each with its own virtual host."""

import json
import os
import pathlib
import shutil
import subprocess

from .other_brokers import OtherBroker
from .ports import free_port
from .process import Process

SCRIPT = next(iter(sorted(pathlib.Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"))),
              None)
# The lines of its logger are dropped when there are many; this one is printed.
BOOTED = " completed with "
HOSTS = 40


class RabbitMqServer(Process):
    """Users "plant" (may do all), "reader" (publishes to w/# alone) and "blind" (reads w/# alone),
    with the password "word", in the virtual hosts v1 to v40."""

    def __init__(self, folder):
        super().__init__("rabbitmq", folder)
        self.port, self.ws_port, self.amqp_port, self._dist_port = (
            free_port() for _ in range(4))
        self._epmd = Process("epmd", self.folder)
        self._epmd_port = free_port()
        self._next_host = 0
        self._write("rabbitmq.conf", f"""
listeners.tcp.1 = 127.0.0.1:{self.amqp_port}
mqtt.listeners.tcp.1 = 127.0.0.1:{self.port}
mqtt.allow_anonymous = false
web_mqtt.tcp.ip = 127.0.0.1
web_mqtt.tcp.port = {self.ws_port}
loopback_users = none
log.console = true
log.file = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
load_definitions = {self.folder}/definitions.json
""")
        self._write("definitions.json", json.dumps(self._definitions()))
        self._write("enabled_plugins", "[rabbitmq_mqtt,rabbitmq_web_mqtt].\n")

    @staticmethod
    def missing():
        return None if SCRIPT and shutil.which("epmd") else "rabbitmq-server"

    def _write(self, name, text):
        (self.folder / name).write_text(text)

    @staticmethod
    def _definitions():
        hosts = [f"v{number}" for number in range(1, HOSTS + 1)]
        users = ("plant", "reader", "blind")
        topics = {"reader": (r"^w\.", ".*"), "blind": (".*", r"^w(\.|$)")}
        return {
            "users": [{"name": user, "password": "word", "tags": ""} for user in users],
            "vhosts": [{"name": host} for host in hosts],
            "permissions": [{"user": user, "vhost": host, "configure": ".*", "write": ".*",
                             "read": ".*"} for user in users for host in hosts],
            "topic_permissions": [{"user": user, "vhost": host, "exchange": "amq.topic",
                                   "write": write, "read": read}
                                  for user, (write, read) in topics.items() for host in hosts]}

    def _environment(self):
        return {**os.environ, "HOME": str(self.folder),
                "RABBITMQ_NODENAME": f"e2e{self.port}@localhost",
                "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
                "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
                "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
                "RABBITMQ_LOG_BASE": str(self.folder / "log"),
                "RABBITMQ_PID_FILE": str(self.folder / "pid"),
                "RABBITMQ_DIST_PORT": str(self._dist_port),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                    "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +S 2:2",
                "ERL_EPMD_PORT": str(self._epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
                "ERL_CRASH_DUMP_BYTES": "0",
                # The script is then replaced by the Erlang machine, whose pid is ours.
                "RUNNING_UNDER_SYSTEMD": "true"}

    def start(self):
        """With its own epmd; otherwise it would leave one behind."""
        if not self._epmd.running:
            self._epmd.spawn(["epmd", "-port", self._epmd_port, "-address", "127.0.0.1"])
        booted = self.log().count(BOOTED)
        self.spawn(["sh", SCRIPT], self._environment())
        self.wait_ready(lambda: self.log().count(BOOTED) > booted, 120)
        return self

    def close(self):
        self.kill()
        self._epmd.kill()

    @staticmethod
    def speaks_5():
        """Since 3.13."""
        version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"],
                                 check=True, capture_output=True, text=True).stdout
        return tuple(int(part) for part in version.split(".")[:2]) >= (3, 13)

    def next_host(self):
        assert self._next_host < HOSTS, "no virtual host is left: raise HOSTS"
        self._next_host += 1
        return f"v{self._next_host}"


class RabbitMq(OtherBroker):
    """One test's view of the server. QoS 2 subscriptions are granted 1; a QoS 2 PUBLISH is answered
    by PUBACK; what a user may not publish ends the connection."""

    versions = (4,)
    granted_max = published_max = 1
    durable = True

    def __init__(self, server):
        self.server = server
        self.name, self.folder = server.name, server.folder
        self.port, self.ws_port = server.port, server.ws_port
        self.host = server.next_host()
        self.login = self.login_of("plant")

    @classmethod
    def missing(cls):
        return RabbitMqServer.missing()

    @property
    def ws_url(self):
        return f"ws://127.0.0.1:{self.ws_port}/ws"

    def login_of(self, user):
        """Fields of a configuration: "plant", "reader" or "blind"."""
        return {"username": f"{self.host}:{user}", "password": "word"}

    # Its process is the server's.
    def start(self):
        if not self.server.running:
            self.server.start()
        return self

    def kill(self):
        self.server.kill()

    def log(self):
        return self.server.log()
