"""A real Kafka broker, one node in KRaft mode on loopback, and what its topics hold. tools/install-deps --test
brings it from Maven Central; it needs Java. Read by kcat."""

import json
import os
import pathlib
import shutil
import subprocess

from .ports import free_port
from .process import Process
from .wait import wait_until

JARS = pathlib.Path(__file__).resolve().parents[3] / "build/kafka"
PARTITIONS = 4
JAVA = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*"]


class Kafka(Process):
    """Topics come into being when they are first used. options: more properties, name=value. authority: of a
    second listener, for clients with a certificate, a user and a password."""

    user, password = "mqfleet", "hushhush"

    def __init__(self, folder, options=(), authority=None):
        super().__init__("kafka", folder)
        self.port, self.secure_port, self._controller_port = (free_port() for _ in range(3))
        self._config = self.folder / "kafka.properties"
        self._config.write_text("\n".join([
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{self._controller_port}",
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names=CONTROLLER",
            f"log.dirs={self.folder}/kafka-data",
            f"num.partitions={PARTITIONS}",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "log.cleaner.dedupe.buffer.size=1048577",
            "num.network.threads=1",
            "num.io.threads=2",
            *(self._secure_options(authority) if authority else ()),
            *options, ""]))

    def _secure_options(self, authority):
        """The later line of a property counts."""
        store = self.folder / "kafka-store.pem"
        store.write_text(authority.server_key.read_text() + authority.server_certificate.read_text())
        plain, secure = (f"PLAINTEXT://127.0.0.1:{self.port}", f"SECURE://127.0.0.1:{self.secure_port}")
        return [
            f"listeners={plain},{secure},CONTROLLER://127.0.0.1:{self._controller_port}",
            f"advertised.listeners={plain},{secure}",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL",
            "inter.broker.listener.name=PLAINTEXT",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={store}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={authority.ca}",
            "listener.name.secure.ssl.client.auth=required",
            "sasl.enabled.mechanisms=PLAIN",
            "listener.name.secure.plain.sasl.jaas.config="
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'user_{self.user}="{self.password}";']

    @staticmethod
    def missing():
        """What has to be installed; None: nothing."""
        for program in ("java", "kcat"):
            if not shutil.which(program):
                return program
        return None if list(JARS.glob("kafka_*.jar")) else "Kafka (tools/install-deps --test)"

    @property
    def brokers(self):
        return f"127.0.0.1:{self.port}"

    @property
    def secure_brokers(self):
        return f"127.0.0.1:{self.secure_port}"

    def start(self):
        if not (self.folder / "kafka-data").exists():
            subprocess.run([*JAVA, "kafka.tools.StorageTool", "format", "-t", "A" * 21 + "Q", "-c",
                            self._config], check=True, capture_output=True)
        self.spawn([*JAVA, "kafka.Kafka", self._config], {**os.environ, "LOG_DIR": str(self.folder)})
        self.wait_ready(self._answers, 120)
        return self

    def _answers(self):
        return self._kcat("-L", "-m", "2").returncode == 0

    def _kcat(self, *words):
        return subprocess.run(["kcat", "-b", self.brokers, "-X", "log_level=0", *words],
                              capture_output=True, timeout=120)

    def topics(self):
        listed = json.loads(self._kcat("-L", "-J").stdout)
        return {topic["topic"] for topic in listed["topics"]}

    def records(self, topic):
        """All records, those of a partition in order: {"partition", "offset", "key", "payload", "headers"}.
        Headers are a dictionary."""
        read = self._kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J")
        rows = [json.loads(line) for line in read.stdout.splitlines()]
        for row in rows:
            flat = row.get("headers", [])
            row["headers"] = dict(zip(flat[::2], flat[1::2]))
        return rows

    def wait_payloads(self, topic, wanted, bound_s=60):
        """The records, once the topic has all of the wanted payloads."""
        wanted = set(wanted)

        def all_there():
            rows = self.records(topic)
            missing = wanted - {row["payload"] for row in rows}
            assert not missing, f"{len(missing)} missing, such as {sorted(missing)[:5]}"
            return rows

        return wait_until(all_there, bound_s, f"{len(wanted)} messages in Kafka", poll_s=0.5)
