"""Several Redis programs that form one store: a master with replicas and sentinels, or a cluster."""

import subprocess

import redis

from .ports import free_port
from .process import Process
from .redis_server import REDIS_CLI, REDIS_SERVER, redis_client
from .wait import wait_until


class RedisProgram(Process):
    """options: further arguments of the server, behind the port. tls: an Authority: it speaks TLS
    at a port of its own, also to others; clients: whether it asks for their certificates."""

    def __init__(self, folder, name, options=(), config=None, tls=None, clients="no"):
        super().__init__(name, folder / name)
        self.port = self.peer_port = free_port()
        self.options = list(options)
        if tls:
            self.peer_port = free_port()
            self.options += [
                "--tls-port", self.peer_port, "--tls-auth-clients", clients, "--tls-replication",
                "yes", "--tls-cert-file", tls.server_certificate, "--tls-key-file", tls.server_key,
                "--tls-ca-cert-file", tls.ca]
        self.config = config
        self.client = redis_client(self.port, decode_responses=True)

    def start(self):
        words = [self.config] if self.config else ["--save", "", "--appendonly", "no"]
        self.spawn([REDIS_SERVER, *words, "--port", self.port, "--bind", "127.0.0.1",
                    "--dir", self.folder, *self.options])
        self.wait_ready(self._answers, 20)
        return self

    def _answers(self):
        try:
            return self.client.ping()
        except redis.exceptions.RedisError:
            return False


class Sentinels:
    """A master, a replica, and three sentinels that know the master as "fleet". tls: as above."""

    def __init__(self, fleet, tls=None):
        self.fleet = fleet
        self.tls = tls
        self.master = self._start("master")
        self.replica = self._start("replica", "--replicaof", "127.0.0.1", self.master.peer_port)
        wait_until(lambda: self.master.client.info("replication")
                   .get("slave0", {}).get("state") == "online",
                   20, "the replica follows")
        self.sentinels = [self._sentinel(number) for number in range(3)]
        for sentinel in self.sentinels:
            wait_until(lambda: self._complete(sentinel), 30, f"{sentinel.name} knows all others")

    def _start(self, name, *options):
        program = RedisProgram(self.fleet.folder, name,
                               ("--repl-diskless-sync-delay", 0, *options), tls=self.tls)
        self.fleet.others.append(program)
        return program.start()

    def _sentinel(self, number):
        config = self.fleet.folder / f"sentinel{number}.conf"
        config.write_text(f"sentinel monitor fleet 127.0.0.1 {self.master.peer_port} 2\n"
                          "sentinel down-after-milliseconds fleet 800\n"
                          "sentinel failover-timeout fleet 5000\n")
        program = RedisProgram(self.fleet.folder, f"sentinel{number}", ["--sentinel"], config,
                               tls=self.tls)
        self.fleet.others.append(program)
        return program.start()

    @staticmethod
    def _complete(sentinel):
        seen = sentinel.client.sentinel_master("fleet")
        return int(seen["num-slaves"]) == 1 and int(seen["num-other-sentinels"]) == 2

    @property
    def url(self):
        hosts = ",".join(f"127.0.0.1:{sentinel.peer_port}" for sentinel in self.sentinels)
        return f"redis{'s' if self.tls else ''}+sentinel://{hosts}/fleet/0"

    def fail_over(self):
        """By command: the replica becomes the master."""
        self.sentinels[0].client.sentinel_failover("fleet")
        self.wait_master(self.replica)

    @staticmethod
    def wait_master(program):
        def is_master():
            try:
                return program.client.info("replication")["role"] == "master"
            except redis.exceptions.ConnectionError:  # sentinels end connections at a promotion
                return False
        wait_until(is_master, 40, f"{program.name} is the master")


class Cluster:
    """Three nodes, no replicas. tls: as above."""

    def __init__(self, fleet, tls=None):
        self.nodes = []
        self.tls = tls
        for number in range(3):
            options = ["--cluster-enabled", "yes", "--cluster-port", free_port(),
                       "--tls-cluster", "yes" if tls else "no"]
            node = RedisProgram(fleet.folder, f"cluster{number}", options, tls=tls)
            fleet.others.append(node)
            self.nodes.append(node.start())
        hosts = [f"127.0.0.1:{node.peer_port}" for node in self.nodes]
        trust = ["--tls", "--cacert", tls.ca] if tls else []
        subprocess.run([REDIS_CLI, *trust, "--cluster", "create", *hosts, "--cluster-yes"],
                       check=True, stdout=subprocess.DEVNULL)
        for node in self.nodes:
            wait_until(lambda: node.client.cluster("info")["cluster_state"] == "ok", 20,
                       "the cluster is complete")

    @property
    def url(self):
        return f"redis{'s' if self.tls else ''}://127.0.0.1:{self.nodes[0].peer_port}"

    def owner(self, key):
        """The node that has the slot of `key`."""
        slot = self.nodes[0].client.execute_command("CLUSTER KEYSLOT", key)
        return self.nodes[0 if slot < 5461 else 1 if slot < 10923 else 2]
