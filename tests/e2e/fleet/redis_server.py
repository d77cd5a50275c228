"""A real redis-server, or the program in $MQFLEET_TEST_REDIS, with its own port and folder."""

import os

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .ports import free_port
from .process import Process

REDIS_SERVER = os.environ.get("MQFLEET_TEST_REDIS", "redis-server")  # or valkey-server
REDIS_CLI = REDIS_SERVER.replace("-server", "-cli")


def redis_client(port, **options):
    """A client that fails at once while the server is unavailable; by default, redis-py 6 retries for
    seconds."""
    return redis.Redis("127.0.0.1", port, retry=Retry(NoBackoff(), 0),
                       **{"socket_timeout": 10, **options})


class RedisServer(Process):
    def __init__(self, folder, append_only=False):
        super().__init__("redis", folder)
        self.port = free_port()
        self.append_only = append_only
        self.client = redis_client(self.port, decode_responses=True)
        self.bytes_client = redis_client(self.port)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        self.spawn(
            [REDIS_SERVER, "--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder]
            + ["--save", "", "--appendonly", "yes" if self.append_only else "no"]
            + ["--appendfsync", "always", "--enable-debug-command", "yes"]
        )
        self.wait_ready(self._answers, 20)
        return self

    def _answers(self):
        try:
            return self.client.ping()
        except redis.exceptions.RedisError:
            return False
