"""The messages in the sink, counted by payload: in the Redis stream or the nodes' files."""

import collections
import json

from .stream import Stream


class SinkView:
    def __init__(self):
        self.counts = collections.Counter()
        self._twice = []

    def _saw(self, payload, client):
        self.counts[payload] += 1
        if self.counts[payload] > 1:
            self._twice.append((payload, client))

    def take_duplicates(self):
        """(payload, client) of those seen again since the last call."""
        twice, self._twice = self._twice, []
        return twice


class StreamView(SinkView):
    def __init__(self, bytes_client):
        super().__init__()
        self._stream = Stream(bytes_client)
        self._read = 0

    def poll(self):
        rows = self._stream.rows()
        for row in rows[self._read:]:
            self._saw(row[b"payload"], row[b"id"].decode())
        self._read = len(rows)
        return self


class FileView(SinkView):
    """One file per node; an incomplete line of a killed node does not count."""

    def __init__(self, paths):
        super().__init__()
        self._offsets = {path: 0 for path in paths}

    def poll(self):
        for path, offset in self._offsets.items():
            if not path.exists():
                continue
            with open(path, "rb") as lines:
                lines.seek(offset)
                data = lines.read()
            whole = data[:data.rfind(b"\n") + 1]
            self._offsets[path] += len(whole)
            for line in whole.splitlines():
                self._line(line)
        return self

    def _line(self, line):
        try:
            row = json.loads(line)
        except ValueError:
            return  # the end of a killed node's writing, with the next node's line behind it
        self._saw(row["payload"].encode(), row["id"])
