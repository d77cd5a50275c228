"""A real PostgreSQL on loopback in a folder of its own. It refuses to run as root, so it then runs as the user
postgres. It takes seconds to set up, so one server has many databases, one for each test."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from .ports import free_port
from .process import Process

PROGRAMS = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
PASSWORD = "pass-word-of-mqfleet"
ROLE = "mqfleet"


def as_owner(*words):
    """The command as somebody who may run a server."""
    if os.geteuid() != 0:
        return list(words)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=KILL", *words]


class PostgresServer(Process):
    """The role mqfleet logs in with a password, postgres without one. authority: for TLS. primary: it is a standby
    of that server, which runs."""

    def __init__(self, authority=None, primary=None):
        super().__init__("postgres", tempfile.mkdtemp(prefix="mqfleet-postgres-"))
        self.port = free_port()
        self.data = self.folder / "data"
        self.databases = 0
        self._own(self.folder)
        if primary:
            self._copy(primary)
        else:
            self._initialize(authority)

    @staticmethod
    def missing():
        return None if PROGRAMS and shutil.which("psql") else "postgresql"

    @staticmethod
    def _own(path, mode=0o700):
        path.chmod(mode)
        if os.geteuid() == 0:
            shutil.chown(path, "postgres", "postgres")

    def _initialize(self, authority):
        subprocess.run(as_owner(PROGRAMS / "initdb", "-D", self.data, "-U", "postgres", "--no-sync", "--locale=C.UTF-8",
                                "--encoding=UTF8"), check=True, capture_output=True, cwd=self.folder)
        options = [f"port = {self.port}", "listen_addresses = '127.0.0.1'",
                   f"unix_socket_directories = '{self.folder}'", "fsync = off", "autovacuum = off",
                   "shared_buffers = 16MB", "max_connections = 30", "log_min_messages = warning"]
        if authority:
            for source, name in ((authority.server_certificate, "server.pem"), (authority.server_key, "server.key")):
                shutil.copy(source, self.folder / name)
                self._own(self.folder / name, 0o600)
            options += ["ssl = on", f"ssl_cert_file = '{self.folder}/server.pem'",
                        f"ssl_key_file = '{self.folder}/server.key'"]
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as config:
            config.write("\n".join(options) + "\n")
        (self.data / "pg_hba.conf").write_text(
            "local all all trust\nlocal replication all trust\n"
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")

    def _copy(self, primary):
        subprocess.run(as_owner(PROGRAMS / "pg_basebackup", "-D", self.data, "-h", primary.folder, "-p",
                                str(primary.port), "-U", "postgres", "-R", "--checkpoint=fast", "--no-sync"),
                       check=True, capture_output=True, cwd=self.folder)
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as config:
            config.write(f"port = {self.port}\nunix_socket_directories = '{self.folder}'\n")

    def start(self):
        first = not self.popen and not (self.data / "standby.signal").exists()
        self.spawn(as_owner(PROGRAMS / "postgres", "-D", self.data))
        self.wait_ready(self._answers, 60)
        if first:
            self.query("postgres", f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        return self

    def _answers(self):
        return self._psql("postgres", "SELECT 1").returncode == 0

    def _psql(self, database, sql):
        return subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port),
                               "-U", "postgres", "-d", database, "-c", sql],
                              capture_output=True, text=True, timeout=120)

    def query(self, database, sql):
        """As postgres. The rows as text, columns separated by |."""
        result = self._psql(database, sql)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    @contextlib.contextmanager
    def session(self, database):
        """A client that takes SQL on its input, and answers on its output."""
        psql = subprocess.Popen(["psql", "-XAtq", "-h", self.folder, "-p", str(self.port), "-U", "postgres",
                                 "-d", database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        with psql:
            yield psql

    def pids(self):
        """The server and its processes."""
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def _signal_all(self, number):
        for pid in self.pids() if self.running else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def pause(self):
        self._signal_all(signal.SIGSTOP)

    def resume(self):
        self._signal_all(signal.SIGCONT)

    def kill(self):
        """As in a power failure: its processes as well, which would otherwise hold its memory for a while."""
        self._signal_all(signal.SIGKILL)
        super().kill()

    def promote(self):
        self.query("postgres", "SELECT pg_promote()")

    def close(self):
        self.resume()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres:
    """The database of one test. Everything but the sinks runs as postgres. A column seq has the order of the rows."""

    SEQ = "seq bigint GENERATED ALWAYS AS IDENTITY"
    TABLE = (f"CREATE TABLE messages ({SEQ}, message_id text PRIMARY KEY, id text, client_id text, topic text, payload bytea, "
             "qos smallint, retain boolean, received_at timestamptz)")

    def __init__(self, server):
        server.databases += 1
        self.server = server
        self.database = f"test{server.databases}"
        server.query("postgres", f"CREATE DATABASE {self.database}")

    @property
    def url(self):
        return f"postgresql://{ROLE}@127.0.0.1:{self.server.port}/{self.database}"

    def query(self, sql):
        return self.server.query(self.database, sql)

    def create(self, table=TABLE):
        name = table.split()[2]
        self.query(f"{table}; GRANT INSERT ON {name} TO {ROLE}")
        return self

    def rows(self, table="messages", order="seq"):
        """Dictionaries by the names of the columns; bytea is hexadecimal."""
        return [json.loads(line) for line in self.query(f"SELECT to_json(t) FROM {table} t ORDER BY {order}")]

    def count(self, table="messages"):
        return int(self.query(f"SELECT count(*) FROM {table}")[0])

    @contextlib.contextmanager
    def locked(self, table="messages"):
        """Nobody else gets at the table."""
        with self.server.session(self.database) as psql:
            psql.stdin.write(f"BEGIN; LOCK TABLE {table}; SELECT 'locked';\n")
            assert psql.stdout.readline() == "locked\n"
            yield

    def end_connections(self):
        """Of the sinks; how many."""
        return len(self.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}' "
                              f"AND datname = '{self.database}'"))
