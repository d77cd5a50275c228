"""The entries of the Redis stream of received messages."""

from .wait import wait_until


class Stream:
    def __init__(self, bytes_client, key="mqtt_msg"):
        self.redis = bytes_client
        self.key = key
        self._rows = []
        self._last = "-"

    def rows(self):
        """All entries so far, oldest first: {b"field": b"value"}; the stream may be trimmed
        meanwhile, what was read is kept."""
        while True:
            page = self.redis.xrange(self.key, self._last, "+", count=5000)
            self._rows += [fields for _, fields in page]
            if not page:
                return self._rows
            self._last = b"(" + page[-1][0]

    def payloads(self):
        return [row[b"payload"] for row in self.rows()]

    def of(self, client):
        return [row for row in self.rows() if row[b"id"].decode() == client]

    def wait_payloads(self, wanted, bound_s=30):
        wanted = set(wanted)

        def all_there():
            missing = wanted - set(self.payloads())
            assert not missing, f"{len(missing)} missing, such as {sorted(missing)[:5]}"
            return True

        wait_until(all_there, bound_s, f"{len(wanted)} messages in the stream", poll_s=0.1)
